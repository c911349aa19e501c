//! What happens by the clock, and streams, with more messages than memory holds and over restarts.

use std::time::{Duration, Instant};

use roadstead_tests::flow::{Publisher, connect, depth, read_body};
use roadstead_tests::raw::{Connection, Fields, PATIENCE};
use roadstead_tests::server::Server;
use roadstead_tests::wait_until;

const MIB: u64 = 1 << 20;
/// Segments so small that a test of a few seconds fills many of them, and little memory.
const SMALL: &str = "[store]\nsegment_bytes = 262144\n[limits]\nmemory_bytes = 8388608\n";
/// Memory for messages, indexes, buffers of the log and of connections, and what the allocator keeps.
const BOUND: u64 = 44 * MIB;
/// Bytes of each body: all of a test together, with what goes with them, are far more than the bound.
const SIZE: usize = 1000;

fn start() -> Server {
    Server::builder().config(SMALL).start()
}

#[test]
fn from_deep_in_a_queue_each_message_leaves_at_its_time() {
    const COUNT: u64 = 60_000;
    const SHORT: u64 = COUNT / 600;
    let mut server = start();
    let before = server.resident_bytes();
    connect(&server).call(1, "queue.declare", "queue=deep durable");
    let began = Instant::now();
    let fields = |ms: u64| {
        let to_the_queue = Fields::default().with("routing_key", "deep").with("delivery_mode", "2");
        to_the_queue.with("expiration", ms.to_string())
    };
    let mut publisher = Publisher::new(&server, 0);
    publisher.send_each(COUNT, SIZE, |sequence| fields(if sequence % 600 == 0 { 5_000 } else { 3_600_000 }));
    publisher.wait();
    let sent = began.elapsed();
    assert!(server.resident_bytes() < before + BOUND, "{} bytes of memory", server.resident_bytes());
    server.kill();
    server.restart();
    let mut connection = connect(&server);
    if began.elapsed() < Duration::from_secs(5) {
        assert_eq!(depth(&mut connection, "deep"), COUNT);
    }
    wait_until(30, "what is due is gone", || depth(&mut connection, "deep") == COUNT - SHORT);
    assert!(began.elapsed() >= Duration::from_secs(5), "messages went before their time, after {:?}", began.elapsed());
    let limit = Duration::from_secs(7) + sent;
    assert!(began.elapsed() < limit, "what was due went after {:?} only", began.elapsed());
    // What is left comes in order, and nothing else.
    connection.call(1, "basic.consume", "queue=deep no_ack");
    for expected in (1..=COUNT).filter(|sequence| sequence % 600 != 0) {
        assert_eq!(read_body(connection.next(PATIENCE).body()), (0, expected));
    }
}

#[test]
fn delayed_messages_come_at_their_time_after_a_crash_too() {
    const COUNT: u64 = 60_000;
    let mut server = start();
    let before = server.resident_bytes();
    let mut connection = connect(&server);
    connection.call(1, "queue.declare", "queue=q durable");
    connection.call(
        1,
        "exchange.declare",
        "exchange=later type=x-delayed-message durable arguments={x-delayed-type=S:direct}",
    );
    connection.call(1, "queue.bind", "queue=q exchange=later routing_key=k");
    let began = Instant::now();
    let to_the_queue = |ms| {
        let fields = Fields::default().with("exchange", "later").with("routing_key", "k").with("delivery_mode", "2");
        fields.with("headers", format!("{{x-delay=I:{ms}}}"))
    };
    let mut publisher = Publisher::new(&server, 0);
    publisher.send_each(COUNT, SIZE, |sequence| to_the_queue(4_000 + sequence % 1_000));
    publisher.wait();
    let sent = began.elapsed();
    server.kill();
    server.restart();
    let mut connection = connect(&server);
    if began.elapsed() < Duration::from_secs(4) {
        assert_eq!(depth(&mut connection, "q"), 0);
    }
    wait_until(30, "all delays are over", || depth(&mut connection, "q") == COUNT);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(4_990), "the last one came after {took:?}");
    assert!(took < Duration::from_secs(7) + sent, "the last one came after {took:?} only");
    assert!(server.resident_bytes() < before + BOUND, "{} bytes of memory", server.resident_bytes());
}

/// The offset and the number of the next message.
fn next(connection: &mut Connection) -> (u64, u64) {
    let event = connection.next(PATIENCE);
    let text = event.to_string();
    let offset = text.split_once("x-stream-offset=l:").map(|(_, rest)| rest);
    let digits = offset.map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    let offset = digits.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no offset in {text}"));
    (offset, read_body(event.body()).1)
}

/// Reads `count` messages from an offset on, and checks that the message at each offset is the right one.
fn read(server: &Server, offset: u64, count: u64) {
    let mut connection = connect(server);
    connection.call(1, "basic.qos", "prefetch_count=1000");
    let arguments = format!("queue=s consumer_tag=t arguments={{x-stream-offset=l:{offset}}}");
    connection.call(1, "basic.consume", &arguments);
    for expected in offset..offset + count {
        assert_eq!(next(&mut connection), (expected, expected + 1));
        if (expected - offset) % 500 == 499 {
            let tag = (expected - offset + 1).to_string();
            connection.send(1, "basic.ack", &Fields::default().with("delivery_tag", tag).with("multiple", "1"));
        }
    }
}

#[test]
fn streams_are_read_by_many_and_offsets_stay() {
    const COUNT: u64 = 60_000;
    let mut server = start();
    let before = server.resident_bytes();
    let declare = "queue=s durable arguments={x-queue-type=S:stream,x-stream-max-segment-size-bytes=I:500000}";
    connect(&server).call(1, "queue.declare", declare);
    let mut publisher = Publisher::new(&server, 0);
    let fields = Fields::default().with("routing_key", "s");
    std::thread::scope(|scope| {
        let server = &server;
        // One reads while it is written.
        scope.spawn(move || read(server, 0, COUNT));
        publisher.send_each(COUNT, SIZE, |_| &fields);
        publisher.wait();
        for offset in [0, 12_345, 59_000] {
            scope.spawn(move || read(server, offset, COUNT - offset));
        }
    });
    assert!(server.resident_bytes() < before + BOUND, "{} bytes of memory", server.resident_bytes());
    server.kill();
    server.restart();
    assert_eq!(depth(&mut connect(&server), "s"), COUNT);
    read(&server, 0, COUNT);
    read(&server, 43_210, 1_000);
    let mut publisher = Publisher::after(&server, 0, COUNT);
    publisher.send_each(10, SIZE, |_| &fields);
    publisher.wait();
    read(&server, COUNT - 5, 15);
}

#[test]
fn a_client_may_carry_the_history_of_a_message_on() {
    let history = "headers={x-death=A:[F:{count=l:7,reason=S:rejected,queue=S:q,exchange=S:old}]}";
    for (config, count) in [("", 1), ("[amqp]\ncarry_client_deaths = true\n", 8)] {
        let server = Server::builder().config(config).start();
        let mut connection = connect(&server);
        connection.call(1, "queue.declare", "queue=dead");
        let dead_letters = "x-dead-letter-exchange=S:,x-dead-letter-routing-key=S:dead";
        connection.call(1, "queue.declare", &format!("queue=q arguments={{{dead_letters}}}"));
        connection.publish(1, &Fields::parse(&format!("routing_key=q {history}")), b"m");
        let got = connection.call(1, "basic.get", "queue=q");
        assert_eq!(got.body(), b"m");
        connection.send(1, "basic.reject", &Fields::parse("delivery_tag=1"));
        let letter = connection.call(1, "basic.get", "queue=dead no_ack");
        assert!(letter.to_string().contains(&format!("count=l:{count},")), "{letter}");
    }
}

#[test]
fn one_slow_queue_does_not_stop_the_others() {
    const COUNT: u64 = 20_000;
    let server = Server::start();
    let mut slow = connect(&server);
    slow.call(1, "queue.declare", "queue=slow");
    slow.call(1, "queue.declare", "queue=quick");
    // Its consumer takes nothing off its socket.
    slow.call(1, "basic.consume", "queue=slow no_ack");
    let mut quick = connect(&server);
    quick.call(1, "basic.consume", "queue=quick no_ack");
    let began = Instant::now();
    let queues = ["slow", "quick"].map(|queue| Fields::default().with("routing_key", queue));
    std::thread::scope(|scope| {
        let (server, queues) = (&server, &queues);
        // One connection publishes to both.
        scope.spawn(move || {
            let mut publisher = Publisher::new(server, 0);
            publisher.send_each(2 * COUNT, SIZE, |n| &queues[n as usize % 2]);
            publisher.wait();
        });
        for expected in (1..=2 * COUNT).filter(|n| n % 2 == 1) {
            assert_eq!(read_body(quick.next(PATIENCE).body()), (0, expected));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(20), "the quick queue took {:?}", began.elapsed());
    let waiting = depth(&mut connect(&server), "slow");
    assert!(waiting > COUNT / 2, "only {waiting} wait in the slow queue: its consumer was not slow");
}
