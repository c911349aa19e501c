//! What one client can't do to the others: too many connections, too many messages, silence, reading nothing.

use std::thread;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Address, Connection, Event, Fields, Happening, PATIENCE};
use roadstead_tests::server::Server;
use roadstead_tests::wait_until;

const MIB: usize = 1 << 20;
/// The frame.
const HEARTBEAT: &[u8] = b"\x08\x00\x00\x00\x00\x00\x00\xce";

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

/// A consumer without a prefetch limit that reads everything and acknowledges nothing. Messages that need not survive a
/// restart and that a consumer holds are what takes memory without a way out.
struct Hoarder {
    connection: Connection,
    channel: u16,
    holds: u64,
}

impl Hoarder {
    fn new(mut connection: Connection, channel: u16) -> Self {
        connection.call(channel, "basic.consume", "queue=bulk");
        Self { connection, channel, holds: 0 }
    }

    /// Takes a message and keeps it; or what else the broker says.
    fn hoard(&mut self, patience: Duration) -> Event {
        let event = self.connection.next(patience);
        self.holds += u64::from(event.method_name() == Some("basic.deliver"));
        event
    }

    fn acknowledge_all(&mut self) {
        let fields = Fields::parse("multiple").with("delivery_tag", self.holds.to_string());
        self.connection.send(self.channel, "basic.ack", &fields);
    }
}

/// Publishes messages of `size` bytes and has them hoarded until the publisher is told that it is blocked; how many were
/// published. With a short `group`, little is on its way when the block comes.
fn publish_until_blocked(publisher: &mut Connection, hoarder: &mut Hoarder, size: usize, group: u64) -> u64 {
    let body = vec![7; size];
    let mut published = 0;
    while published * size as u64 <= 512 * MIB as u64 {
        for _ in 0..group {
            publisher.publish(1, &Fields::parse("routing_key=bulk"), &body);
        }
        published += group;
        while hoarder.holds < published {
            let heard = hoarder.hoard(Duration::from_millis(2));
            assert!(heard.is_silence() || heard.method_name() == Some("basic.deliver"), "{heard} to a consumer");
            if heard.is_silence() && is_blocked(publisher, "low on memory") {
                return published;
            }
        }
    }
    panic!("512 MiB were taken, and the publisher isn't blocked");
}

fn is_blocked(publisher: &mut Connection, reason: &str) -> bool {
    let event = publisher.next(Duration::from_millis(1));
    if event.is_silence() {
        return false;
    }
    let method = event.method().unwrap_or_else(|| panic!("{event} to a publisher"));
    assert_eq!((method.name, method.text("reason").as_str()), ("connection.blocked", reason), "{event}");
    true
}

#[test]
fn a_full_broker_blocks_publishers_until_it_is_drained() {
    const LIMIT: u64 = 32 * MIB as u64;
    const SIZE: usize = 4096;
    const MORE: u64 = 32 * MIB as u64 / SIZE as u64;
    let server = with_limits(&format!("memory_bytes = {LIMIT}"));
    let mut publisher = Connection::ready(&address(&server));
    publisher.call(1, "queue.declare", "queue=bulk");
    let mut hoarder = Hoarder::new(Connection::ready(&address(&server)), 1);

    let published = publish_until_blocked(&mut publisher, &mut hoarder, SIZE, 64);
    // A message takes a little more than its body.
    assert!(published * (SIZE as u64 + 512) > LIMIT, "blocked at {published} messages of {SIZE} bytes below {LIMIT}");
    let before = server.resident_bytes();
    let pushing = thread::spawn(move || {
        let body = vec![7; SIZE];
        for _ in 0..MORE {
            publisher.publish(1, &Fields::parse("routing_key=bulk"), &body);
        }
        publisher
    });
    // The socket and what the broker holds back for a blocked publisher take far less than is published.
    thread::sleep(Duration::from_secs(2));
    assert!(!pushing.is_finished(), "{MORE} messages were taken from a blocked publisher");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "the server grew by {grown} bytes while its publisher was blocked");
    // Only publishers wait.
    Connection::ready(&address(&server)).call(1, "queue.declare", "exclusive");

    hoarder.acknowledge_all();
    let start = Instant::now();
    while hoarder.holds < published + MORE {
        let event = hoarder.hoard(PATIENCE);
        assert_eq!(event.body().len(), SIZE, "{event} after {} messages", hoarder.holds);
        if hoarder.holds.is_multiple_of(64) {
            hoarder.acknowledge_all();
        }
    }
    let mut publisher = pushing.join().expect("the publisher has not panicked");
    let event = publisher.next(PATIENCE);
    assert_eq!(event.method_name(), Some("connection.unblocked"), "{event} after {:?}", start.elapsed());
    publisher.publish(1, &Fields::parse("routing_key=bulk"), b"after");
    assert_eq!(hoarder.hoard(PATIENCE).body(), b"after");
}

/// Settlements are always taken: who publishes and consumes on one connection gets out of it by himself.
#[test]
fn a_blocked_publisher_can_consume_on_its_own_connection() {
    const GROUP: u64 = 64;
    let server = with_limits(&format!("memory_bytes = {}", 4 * MIB));
    let mut connection = Connection::ready(&address(&server));
    connection.call(1, "queue.declare", "queue=bulk");
    connection.call(2, "channel.open", "");
    let mut hoarder = Hoarder::new(connection, 2);
    // Small ones in small groups: what is on its way when the block comes is far less than a connection may have held back.
    let mut published = 0;
    let mut blocked = false;
    while !blocked {
        for _ in 0..GROUP {
            hoarder.connection.publish(1, &Fields::parse("routing_key=bulk"), &[7; 256]);
        }
        published += GROUP;
        while !blocked && hoarder.holds < published {
            let event = hoarder.hoard(PATIENCE);
            blocked = event.method_name() == Some("connection.blocked");
            assert!(blocked || event.body().len() == 256, "{event} after {published} messages");
        }
    }
    let mut unblocked = false;
    while !unblocked || hoarder.holds < published {
        hoarder.acknowledge_all();
        let event = hoarder.hoard(PATIENCE);
        unblocked |= event.method_name() == Some("connection.unblocked");
        let expected = event.method_name() == Some("basic.deliver") || unblocked;
        assert!(expected, "{event} to a publisher who acknowledges, after {} of {published}", hoarder.holds);
    }
}

#[test]
fn a_blocked_publisher_is_not_taken_for_a_silent_one() {
    let server = with_limits("memory_bytes = 1048576");
    let mut declarer = Connection::ready(&address(&server));
    declarer.call(1, "queue.declare", "queue=bulk");
    let heartbeats = Fields::parse("heartbeat=1");
    let mut publisher = Connection::open(&address(&server), &heartbeats).unwrap_or_else(|e| panic!("{e}"));
    publisher.call(1, "channel.open", "");
    let mut hoarder = Hoarder::new(declarer, 1);
    let published = publish_until_blocked(&mut publisher, &mut hoarder, 65_536, 4);
    // What it sends from now on stays in the socket, also its heartbeats.
    for _ in 0..16 {
        publisher.publish(1, &Fields::parse("routing_key=bulk"), &[7; 65_536]);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        publisher.send_bytes(HEARTBEAT);
        let event = publisher.next(Duration::from_millis(500));
        assert!(is_heartbeat(&event) || event.is_silence(), "{event} to a blocked publisher");
    }
    hoarder.acknowledge_all();
    wait_until(PATIENCE.as_secs(), &format!("the publisher of {published} messages goes on"), || {
        publisher.next(PATIENCE).method_name() == Some("connection.unblocked")
    });
    let event = hoarder.hoard(PATIENCE);
    assert_eq!(event.body().len(), 65_536, "{event} after the block");
}

#[test]
fn a_disk_with_too_little_room_blocks_publishers_alone() {
    let mut server = Server::builder().config("[limits]\ndisk_free_bytes = 0\n").start();
    let mut setup = Connection::ready(&address(&server));
    setup.call(1, "queue.declare", "queue=stock durable");
    setup.call(1, "confirm.select", "");
    for number in 0..3 {
        setup.publish(1, &Fields::parse("routing_key=stock delivery_mode=2"), &[number]);
        assert_eq!(setup.next(PATIENCE).method_name(), Some("basic.ack"));
    }
    server.configure("[limits]\ndisk_free_bytes = 9000000000000000000\n");
    server.restart();

    let mut publisher = Connection::ready(&address(&server));
    let mut other = Connection::ready(&address(&server));
    wait_until(5, "the publisher is blocked", || {
        publisher.publish(1, &Fields::parse("routing_key=stock"), b"refused");
        is_blocked(&mut publisher, "low on disk")
    });
    assert_eq!(other.call(1, "basic.get", "queue=stock no_ack").body(), [0]);
    other.call(1, "queue.declare", "queue=another durable");
    other.call(1, "queue.bind", "queue=another exchange=amq.fanout");
    other.call(1, "basic.consume", "queue=stock");
    for number in 1..3 {
        let event = other.next(PATIENCE);
        assert_eq!(event.body(), [number], "{event}");
    }
    other.send(1, "basic.ack", &Fields::parse("delivery_tag=2 multiple"));
    other.call(1, "queue.delete", "queue=another");
    assert!(server.log().contains("less room than it should"), "the log doesn't tell why");
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
