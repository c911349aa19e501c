//! What a client of OpenWire may rely on when the broker is killed, beside what the crash tests find by chance.

use std::net::SocketAddr;
use std::time::Duration;

use roadstead_tests::openwire::{Connection, Destination, Message, Step, Transaction};
use roadstead_tests::server::Server;

fn place(server: &Server) -> SocketAddr {
    server.places_of("openwire").next().expect("the broker listens for OpenWire")
}

fn message(to: &Destination, body: &str) -> Message {
    let content = Some(body.as_bytes().to_vec());
    Message { kind: 24, destination: Some(to.clone()), persistent: true, priority: 4, content, ..Message::default() }
}

/// All that is in a queue, in order.
fn bodies(server: &Server, queue: &Destination) -> Vec<String> {
    let mut connection = Connection::open(place(server), "reader");
    connection.consume(queue, 10).expect("a consumer");
    let mut bodies = Vec::new();
    while let Some(message) = connection.next(Duration::from_millis(500)).expect("the broker is there") {
        connection.acknowledge(None, &message).expect("an acknowledgement is taken");
        bodies.push(String::from_utf8(message.content.unwrap_or_default()).expect("a text"));
    }
    bodies
}

/// The answer to the second message is lost with the broker, as far as the client knows: it sends that again, with the same number.
fn sent_again(kill: bool) {
    let mut server = Server::start();
    let queue = Destination::queue("again");
    let mut first = Connection::fault_tolerant(place(&server), "sender", false);
    first.send(&message(&queue, "one"));
    first.send(&message(&queue, "two"));
    if kill {
        server.kill();
        server.restart();
    }
    drop(first);
    let mut second = Connection::fault_tolerant(place(&server), "sender", true);
    second.skip_number();
    second.send(&message(&queue, "two"));
    second.send(&message(&queue, "three"));
    assert_eq!(bodies(&server, &queue), ["one", "two", "three"]);
}

#[test]
fn what_is_sent_again_over_another_connection_is_there_once() {
    sent_again(false);
}

#[test]
fn what_is_sent_again_after_a_kill_is_there_once() {
    sent_again(true);
}

#[test]
fn a_client_that_does_not_come_back_by_itself_may_number_its_messages_as_it_likes() {
    let server = Server::start();
    let queue = Destination::queue("anew");
    for body in ["one", "two"] {
        Connection::open(place(&server), "sender").send(&message(&queue, body));
    }
    assert_eq!(bodies(&server, &queue), ["one", "two"]);
}

/// Its transaction manager is gone for good, and an operator decides.
#[test]
fn a_prepared_branch_can_be_ended_by_hand() {
    let mut server = Server::start();
    let queue = Destination::queue("by.hand");
    for name in ["kept", "dropped"] {
        let mut connection = Connection::open(place(&server), name);
        let branch = Transaction::Xa(name.as_bytes().to_vec());
        connection.step(&branch, Step::Begin).expect("it begins");
        connection.send_in(&branch, &message(&queue, name)).expect("a message is taken");
        connection.step(&branch, Step::Prepare).expect("it is prepared");
    }
    server.kill();
    server.restart();
    let listed = server.ctl(&["list", "transactions", "--json"]);
    let name = |global: &str| {
        let hex: String = global.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("XID:[4711,globalId={hex},branchId=6272616e6368]")
    };
    for global in ["kept", "dropped"] {
        assert!(listed.out.contains(&name(global)), "{listed:?}");
    }
    assert!(bodies(&server, &queue).is_empty());
    for (decision, global) in [("commit-transaction", "kept"), ("roll-back-transaction", "dropped")] {
        let said = server.ctl(&[decision, &name(global)]);
        assert!(said.status.success(), "{said:?}");
    }
    assert_eq!(bodies(&server, &queue), ["kept"]);
    let again = server.ctl(&["commit-transaction", &name("kept")]);
    assert!(!again.status.success(), "there is none any more, but {again:?}");
}
