//! The queue argument `x-durability`: what a confirm waits for.

use std::time::Instant;

use roadstead_tests::flow::{connect, depth};
use roadstead_tests::raw::{Connection, Fields, PATIENCE};
use roadstead_tests::server::Server;

const ROUNDS: u64 = 100;
/// Beside confirms the log is synced once a second, and when a segment ends.
const SYNCS_PER_SECOND: u64 = 3;

fn start() -> (Server, Connection) {
    let server = Server::start();
    let mut connection = connect(&server);
    connection.call(1, "queue.declare", "queue=safe durable");
    connection.call(1, "queue.declare", "queue=quick durable arguments={x-durability=S:os}");
    for queue in ["safe", "quick"] {
        connection.call(1, "queue.bind", &format!("queue={queue} exchange=amq.fanout"));
    }
    connection.call(1, "confirm.select", "");
    (server, connection)
}

/// Publishes one after the other and waits for each confirm; how many syncs there were, and how many there may be without.
fn syncs_of(server: &Server, connection: &mut Connection, publish: &str) -> (u64, u64) {
    let (before, start) = (server.status("syncs"), Instant::now());
    for _ in 0..ROUNDS {
        connection.publish(1, &Fields::parse(&format!("{publish} delivery_mode=2")), b"one");
        let event = connection.next(PATIENCE);
        assert_eq!(event.method_name(), Some("basic.ack"), "{event}");
    }
    let syncs = server.status("syncs") - before;
    (syncs, SYNCS_PER_SECOND * (start.elapsed().as_secs() + 1))
}

#[test]
fn confirms_of_an_os_queue_wait_for_no_sync() {
    let (mut server, mut connection) = start();
    let (syncs, usual) = syncs_of(&server, &mut connection, "routing_key=quick");
    assert!(syncs <= usual, "{syncs} syncs for {ROUNDS} confirms of an os queue");
    let (syncs, _) = syncs_of(&server, &mut connection, "routing_key=safe");
    assert!(syncs >= ROUNDS, "{syncs} syncs for {ROUNDS} confirms of an fsync queue");
    let (syncs, _) = syncs_of(&server, &mut connection, "exchange=amq.fanout");
    assert!(syncs >= ROUNDS, "{syncs} syncs for {ROUNDS} confirms of both queues");
    // What the operating system has survives the end of the process.
    let (syncs, usual) = syncs_of(&server, &mut connection, "routing_key=quick");
    assert!(syncs <= usual, "{syncs} syncs for {ROUNDS} confirms of an os queue");
    server.kill();
    server.restart();
    let mut connection = connect(&server);
    assert_eq!((depth(&mut connection, "quick"), depth(&mut connection, "safe")), (3 * ROUNDS, 2 * ROUNDS));
    // The argument has survived, too.
    connection.call(1, "confirm.select", "");
    let (syncs, usual) = syncs_of(&server, &mut connection, "routing_key=quick");
    assert!(syncs <= usual, "{syncs} syncs for {ROUNDS} confirms of an os queue after a restart");
}

#[test]
fn the_argument_is_checked_and_compared() {
    let (server, mut connection) = start();
    connection.call(1, "queue.declare", "queue=quick durable arguments={x-durability=S:os}");
    for (declaration, says) in [
        ("queue=new durable arguments={x-durability=S:never}", "x-durability"),
        ("queue=new durable arguments={x-durability=I:1}", "x-durability"),
        ("queue=quick durable", "x-durability"),
        ("queue=quick durable arguments={x-durability=S:fsync}", "x-durability"),
        ("queue=safe durable arguments={x-durability=S:os}", "x-durability"),
    ] {
        let mut connection = connect(&server);
        connection.send(1, "queue.declare", &Fields::parse(declaration));
        let event = connection.next(PATIENCE);
        assert_eq!(event.close_code(), Some(406), "{declaration}: {event}");
        let text = event.method().expect("it is a method").text("reply_text");
        assert!(text.starts_with("PRECONDITION_FAILED - ") && text.contains(says), "{declaration}: {text}");
    }
}
