//! What one client can't do to the others: too many connections, too many messages, silence, reading nothing.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Address, Connection, Event, Fields, Happening, PATIENCE};
use roadstead_tests::server::Server;

const MIB: usize = 1 << 20;
/// The frame.
const HEARTBEAT: &[u8] = b"\x08\x00\x00\x00\x00\x00\x00\xce";
const SOON: Duration = Duration::from_millis(20);

fn address(server: &Server) -> Address {
    Address::parse(&server.uri())
}

fn with_limits(limits: &str) -> Server {
    Server::builder().config(format!("[limits]\n{limits}\n")).start()
}

/// The answer to a passive declaration.
fn queue(connection: &mut Connection, name: &str) -> (u64, u64) {
    let event = connection.call(1, "queue.declare", &format!("queue={name} passive"));
    let answer = event.method().expect("it is a method");
    (answer.number("message_count"), answer.number("consumer_count"))
}

#[track_caller]
fn wait_until(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        thread::sleep(SOON);
    }
}

fn opens(server: &Server) -> Option<Connection> {
    Connection::open(&address(server), &Fields::default()).ok()
}

#[test]
fn connections_are_limited() {
    let server = with_limits("connections = 3");
    let mut open: Vec<_> = (0..3).map(|_| Connection::ready(&address(&server))).collect();
    let refused = Connection::open(&address(&server), &Fields::default());
    assert!(refused.is_err_and(|event| event.is_closed()), "a fourth connection of three");
    // Those that are open are not harmed, and one that goes leaves its place.
    open[0].call(1, "queue.declare", "exclusive");
    open.remove(0).call(0, "connection.close", "reply_code=200");
    wait_until(5, "a place is free again", || opens(&server).is_some());
}

#[test]
fn connections_before_login_are_limited() {
    let server = with_limits("connections_before_login = 2\nhandshake_ms = 2000");
    // Who has logged in doesn't count.
    let _open: Vec<_> = (0..5).map(|_| Connection::ready(&address(&server))).collect();
    let mut silent: Vec<_> = (0..2).map(|_| Connection::tcp(&address(&server)).expect("the broker listens")).collect();
    wait_until(1, "a third is refused", || opens(&server).is_none());
    // Silence doesn't hold the place for ever.
    for connection in &mut silent {
        let event = connection.next(Duration::from_secs(5));
        assert!(event.is_closed(), "{event} after silence before login");
    }
    wait_until(5, "a place is free again", || opens(&server).is_some());
}

#[test]
fn a_login_that_never_ends_is_ended() {
    let server = with_limits("handshake_ms = 500");
    let mut slow = Connection::tcp(&address(&server)).expect("the broker listens");
    let start = Instant::now();
    for byte in b"AMQP\x00\x00\x09" {
        slow.send_bytes(&[*byte]);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(slow.next(Duration::from_secs(5)).is_closed());
    let took = start.elapsed();
    assert!(Duration::from_millis(400) < took && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_client_that_never_reads_is_dropped() {
    let server = with_limits("write_timeout_ms = 2000");
    let mut publisher = Connection::ready(&address(&server));
    publisher.call(1, "queue.declare", "queue=bulk");
    publisher.call(1, "queue.declare", "queue=other");
    let mut deaf = Connection::ready(&address(&server));
    deaf.call(1, "basic.consume", "queue=bulk no_ack");
    let body = vec![7; MIB];
    for _ in 0..32 {
        publisher.publish(1, &Fields::parse("routing_key=bulk"), &body);
    }
    assert_eq!(queue(&mut publisher, "bulk").1, 1, "the client was dropped at once");
    let mut slowest = Duration::ZERO;
    wait_until(10, "the client that reads nothing is dropped", || {
        let start = Instant::now();
        publisher.publish(1, &Fields::parse("routing_key=other"), b"ping");
        assert_eq!(publisher.call(1, "basic.get", "queue=other no_ack").body(), b"ping");
        slowest = slowest.max(start.elapsed());
        queue(&mut publisher, "bulk").1 == 0
    });
    assert!(slowest < Duration::from_secs(1), "another client waited for {slowest:?}");
    assert!(server.log().contains("reads nothing"), "the log doesn't tell why");
    assert!(queue(&mut publisher, "bulk").0 > 0, "more was sent to the client than it could have taken");
}

/// Publishes a message of `size` bytes until the broker says that it is blocked; how many it took.
fn publish_until_blocked(publisher: &mut Connection, size: usize) -> usize {
    let body = vec![7; size];
    for count in 1..=512 * MIB / size {
        publisher.publish(1, &Fields::parse("routing_key=bulk"), &body);
        if count % 64 == 0 {
            let event = publisher.next(Duration::from_millis(1));
            if event.method_name() == Some("connection.blocked") {
                return count;
            }
            assert!(event.is_silence(), "{event} while publishing");
        }
    }
    panic!("512 MiB were taken, and the publisher isn't blocked");
}

#[test]
fn a_full_broker_blocks_publishers_until_it_is_drained() {
    const LIMIT: usize = 32 * MIB;
    const SIZE: usize = 4096;
    const MORE: usize = 32 * MIB / SIZE;
    let server = with_limits(&format!("memory_bytes = {LIMIT}"));
    let mut publisher = Connection::ready(&address(&server));
    publisher.call(1, "queue.declare", "queue=bulk");
    let mut slow = Connection::ready(&address(&server));
    slow.call(1, "basic.consume", "queue=bulk no_ack");

    let published = publish_until_blocked(&mut publisher, SIZE);
    assert!(published * SIZE > LIMIT, "blocked at {published} messages of {SIZE} bytes, below the limit of {LIMIT}");
    let before = resident_bytes(server.pid());
    let pushing = thread::spawn(move || {
        let body = vec![7; SIZE];
        for _ in 0..MORE {
            publisher.publish(1, &Fields::parse("routing_key=bulk"), &body);
        }
        publisher
    });
    thread::sleep(Duration::from_secs(2));
    assert!(!pushing.is_finished(), "{MORE} messages were taken from a blocked publisher");
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 16 * MIB, "the server grew by {grown} bytes while its publisher was blocked");
    // Only publishers wait.
    Connection::ready(&address(&server)).call(1, "queue.declare", "exclusive");

    let start = Instant::now();
    for count in 0..published + MORE {
        let event = slow.next(PATIENCE);
        assert_eq!(event.body().len(), SIZE, "{event} after {count} messages");
    }
    let mut publisher = pushing.join().expect("the publisher has not panicked");
    let event = publisher.next(PATIENCE);
    assert_eq!(event.method_name(), Some("connection.unblocked"), "{event} after {:?}", start.elapsed());
    publisher.publish(1, &Fields::parse("routing_key=bulk"), b"after");
    assert_eq!(slow.next(PATIENCE).body(), b"after");
}

/// Settlements are always taken: who publishes and consumes on one connection gets out of it by himself.
#[test]
fn a_blocked_publisher_can_consume_on_its_own_connection() {
    let server = with_limits(&format!("memory_bytes = {}", 4 * MIB));
    let mut connection = Connection::ready(&address(&server));
    connection.call(1, "queue.declare", "queue=bulk");
    connection.call(2, "channel.open", "");
    // Small ones, so that what is on its way when the block comes is far less than a connection may have held back.
    let published = publish_until_blocked(&mut connection, 256);
    connection.call(2, "basic.qos", "prefetch_count=10");
    connection.call(2, "basic.consume", "queue=bulk");
    let (mut unblocked, mut taken) = (false, 0);
    while taken < published {
        let event = connection.next(PATIENCE);
        match event.method_name() {
            Some("basic.deliver") => {
                taken += 1;
                connection.send(2, "basic.ack", &Fields::parse(&format!("delivery_tag={taken}")));
            }
            Some("connection.unblocked") => unblocked = true,
            _ => panic!("{event} after {taken} messages"),
        }
    }
    let last = if unblocked { None } else { connection.next(PATIENCE).method_name() };
    assert!(unblocked || last == Some("connection.unblocked"), "all is consumed, and the publisher still waits");
}

#[test]
fn a_blocked_publisher_is_not_taken_for_a_silent_one() {
    let server = with_limits("memory_bytes = 1048576");
    let mut consumer = Connection::ready(&address(&server));
    consumer.call(1, "queue.declare", "queue=bulk");
    let heartbeats = Fields::parse("heartbeat=1");
    let mut publisher = Connection::open(&address(&server), &heartbeats).unwrap_or_else(|e| panic!("{e}"));
    publisher.call(1, "channel.open", "");
    let published = publish_until_blocked(&mut publisher, 65_536);
    // What it sends from now on stays in the socket, also its heartbeats.
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        publisher.send_bytes(HEARTBEAT);
        let event = publisher.next(Duration::from_millis(500));
        assert!(is_heartbeat(&event) || event.is_silence(), "{event} to a blocked publisher");
    }
    consumer.call(1, "queue.purge", "queue=bulk");
    wait_until(PATIENCE.as_secs(), &format!("the publisher of {published} messages goes on"), || {
        publisher.next(PATIENCE).method_name() == Some("connection.unblocked")
    });
    publisher.call(1, "queue.declare", "exclusive");
}

fn resident_bytes(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the broker runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says how much is resident");
    let kib: usize = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("it is a number");
    kib * 1024
}

#[test]
fn a_consumer_that_acknowledges_nothing_gets_no_more_than_it_asked_for() {
    let server = Server::start();
    let mut connection = Connection::ready(&address(&server));
    connection.call(1, "queue.declare", "queue=bulk");
    connection.call(1, "basic.qos", "prefetch_count=3");
    connection.call(1, "basic.consume", "queue=bulk");
    for _ in 0..10 {
        connection.publish(1, &Fields::parse("routing_key=bulk"), b"one");
    }
    for _ in 0..3 {
        assert_eq!(connection.next(PATIENCE).method_name(), Some("basic.deliver"));
    }
    let event = connection.next(Duration::from_millis(300));
    assert!(event.is_silence(), "{event} after three deliveries that were not acknowledged");
}

#[test]
fn a_silent_client_is_dropped_after_two_heartbeats() {
    let server = Server::start();
    let connect =
        || Connection::open(&address(&server), &Fields::parse("heartbeat=1")).unwrap_or_else(|e| panic!("{e}"));
    let (mut silent, mut alive) = (connect(), connect());
    let pulse = thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(5);
        let mut heard = 0;
        while Instant::now() < end {
            alive.send_bytes(HEARTBEAT);
            let event = alive.next(Duration::from_millis(500));
            assert!(matches!(event.happening, Happening::Heartbeat | Happening::Silence), "{event} to a live client");
            heard += usize::from(is_heartbeat(&event));
        }
        heard
    });
    let start = Instant::now();
    let mut heard = 0;
    let end = loop {
        let event = silent.next(PATIENCE);
        if !is_heartbeat(&event) {
            break event;
        }
        heard += 1;
    };
    let took = start.elapsed();
    assert!(end.is_closed(), "{end} to a client that is silent for {took:?}");
    assert!(Duration::from_millis(1500) < took && took < Duration::from_secs(4), "closed after {took:?}");
    assert!(heard >= 1, "no heartbeat within {took:?}");
    let heard = pulse.join().expect("a client that sends heartbeats stays");
    assert!((3..=12).contains(&heard), "{heard} heartbeats in 5 s to a client that asked for one a second");
}

fn is_heartbeat(event: &Event) -> bool {
    matches!(event.happening, Happening::Heartbeat)
}

#[test]
fn without_heartbeats_silence_is_no_fault() {
    let server = Server::builder().config("[amqp]\nheartbeat_s = 1\n").start();
    // The client's zero wins over what the server proposes.
    let mut connection =
        Connection::open(&address(&server), &Fields::parse("heartbeat=0")).unwrap_or_else(|e| panic!("{e}"));
    let event = connection.next(Duration::from_secs(4));
    assert!(event.is_silence(), "{event} to a client without heartbeats");
    connection.call(1, "channel.open", "");
}
