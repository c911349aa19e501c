//! Too much of what would be fine alone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Connection, Fields, Frame, PATIENCE, PROTOCOL_HEADER};
use roadstead_tests::server::Server;

use super::{MIB, address, assert_bounded, assert_serves, method, start};

/// Connections that never log in, over time.
const HALF_OPEN: usize = 100_000;
/// Of these, how many at a time.
const HALF_OPEN_TOGETHER: usize = 1_000;

/// On several addresses: a client's port rests for a minute after its use, and as long as half of them will do, the
/// system keeps the other half for listeners, so that no other test finds the port of its broker taken.
#[test]
fn half_open_connections_leave_nothing_behind() {
    const ADDRESSES: usize = 10;
    let addresses: Vec<String> = (1..=ADDRESSES).map(|last| format!("127.0.0.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let server = Server::builder().env("ROADSTEAD_LOG_LEVEL", "warn").bind(&addresses).start();
    let places: Vec<_> = server.places_of("amqp").collect();
    let begin = Instant::now();
    for batch in 0..HALF_OPEN / HALF_OPEN_TOGETHER {
        let place = places[batch % places.len()];
        let mut open = Vec::new();
        for number in 1..=HALF_OPEN_TOGETHER {
            let mut stream = TcpStream::connect(place).expect("the broker listens");
            // Some are silent, some in the middle of the protocol header, and some wait for connection.start.
            let length = if number == HALF_OPEN_TOGETHER { 8 } else { number % 9 };
            stream.write_all(&PROTOCOL_HEADER[..length]).expect("the broker listens");
            open.push(stream);
        }
        // They are taken in turn, so the broker has met all of them once it answers the last.
        let last = open.last_mut().expect("there are many");
        last.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        last.read_exact(&mut [0]).expect("the broker answers a protocol header");
        assert_bounded(&server, "half-open connections");
    }
    println!("{HALF_OPEN} half-open connections in {:?}", begin.elapsed());
    assert_serves(&server, "half-open connections");
}

/// As much as the client likes to send, of which nothing may be kept.
#[test]
fn an_endless_body_takes_no_memory() {
    const SENT: usize = 128 * MIB;
    let server = start(&[]);
    let mut connection = Connection::ready(&address(&server));
    connection.send(1, "basic.publish", &Fields::parse("routing_key=normal"));
    connection.send_frame(&Frame::header(1, u64::MAX, &Fields::default()));
    let chunk = Frame::body(1, &vec![7; 128 * 1024 - 8]).to_bytes();
    for count in 0..SENT / chunk.len() {
        connection.send_bytes(&chunk);
        if count % 256 == 0 {
            assert_bounded(&server, "an endless body");
        }
    }
    assert_serves(&server, "an endless body");
    connection.drop_socket();
}

/// Bodies of which a size is announced, but nothing comes.
#[test]
fn announced_bodies_take_no_memory() {
    let server = start(&[]);
    let mut connection = Connection::ready(&address(&server));
    let mut bytes = Vec::new();
    for channel in 2..=2047 {
        bytes.extend(method(channel, "channel.open", ""));
        bytes.extend(method(channel, "basic.publish", "routing_key=normal"));
        bytes.extend(Frame::header(channel, 16 * MIB as u64, &Fields::default()).to_bytes());
    }
    connection.send_bytes(&bytes);
    for _ in 2..=2047 {
        assert_eq!(connection.next(PATIENCE).method_name(), Some("channel.open-ok"));
    }
    assert_serves(&server, "announced bodies");
    connection.drop_socket();
}

/// Bodies that are allowed one by one, on many channels, and never end: together they have a bound.
#[test]
fn unfinished_bodies_are_bounded() {
    let server = start(&[("ROADSTEAD_LIMITS_MEMORY_BYTES", "33554432")]);
    let mut connection = Connection::ready(&address(&server));
    (2..=17).for_each(|channel| drop(connection.call(channel, "channel.open", "")));
    let chunk = vec![7; 128 * 1024 - 8];
    for channel in 2..=17 {
        connection.send(channel, "basic.publish", &Fields::parse("routing_key=normal"));
        connection.send_frame(&Frame::header(channel, 16 * MIB as u64, &Fields::default()));
        for _ in 0..120 {
            connection.send_frame(&Frame::body(channel, &chunk));
        }
    }
    let answer = connection.next(PATIENCE).to_string();
    assert!(answer.contains("connection.close reply_code=506"), "{answer}");
    assert_serves(&server, "unfinished bodies");
}

/// Sends the same bytes again and again, and reads nothing, until the server says that it has dropped the client.
fn flood(server: &Server, what: &str, connection: Connection, bytes: &[u8]) {
    let over = Arc::new(AtomicBool::new(false));
    let (flag, bytes, mut connection) = (Arc::clone(&over), bytes.repeat(64 * 1024 / bytes.len()), connection);
    let sender = thread::spawn(move || {
        while !flag.load(Ordering::Acquire) {
            connection.send_bytes(&bytes);
        }
    });
    let end = Instant::now() + Duration::from_secs(20);
    while !server.log().contains("reads nothing") {
        assert!(Instant::now() < end, "{what}: a client that reads nothing is not dropped");
        assert_bounded(server, what);
        thread::sleep(Duration::from_millis(10));
    }
    over.store(true, Ordering::Release);
    sender.join().expect("a write to a dropped connection is no panic");
    assert_serves(server, what);
}

#[test]
fn a_client_that_asks_and_never_listens_is_dropped() {
    let asks = [
        ("passive declares", method(1, "queue.declare", "queue=normal passive")),
        ("gets of nothing", method(1, "basic.get", "queue=normal no_ack")),
        ("channels", [method(2, "channel.open", ""), method(2, "channel.close", "reply_code=200")].concat()),
        // Neighbours on one channel could share one.
        ("confirms", [to_nobody(3, ""), to_nobody(4, "")].concat()),
        ("returns", to_nobody(1, "mandatory")),
    ];
    for (what, bytes) in asks {
        let server = start(&[("ROADSTEAD_LIMITS_WRITE_TIMEOUT_MS", "1000")]);
        let mut connection = Connection::ready(&address(&server));
        connection.call(1, "queue.declare", "queue=normal exclusive");
        for channel in [3, 4] {
            connection.call(channel, "channel.open", "");
            connection.call(channel, "confirm.select", "");
        }
        flood(&server, what, connection, &bytes);
    }
}

/// A message that goes nowhere, so that no queue fills the memory.
fn to_nobody(channel: u16, option: &str) -> Vec<u8> {
    let header = Frame::header(channel, 0, &Fields::default()).to_bytes();
    [method(channel, "basic.publish", &format!("routing_key=nobody {option}")), header].concat()
}

/// Forty bytes that ask for eight thousand, as often as the client likes.
#[test]
fn small_requests_for_large_answers_are_bounded() {
    let server = start(&[("ROADSTEAD_LIMITS_WRITE_TIMEOUT_MS", "1000")]);
    let mut connection = Connection::ready(&address(&server));
    connection.call(1, "queue.declare", "queue=bulk");
    connection.publish(1, &Fields::parse("routing_key=bulk"), &[7; 8000]);
    // Tag 0 with `multiple` is whatever is unsettled.
    let again = method(1, "basic.nack", "delivery_tag=0 multiple requeue");
    flood(&server, "gets of the same message", connection, &[method(1, "basic.get", "queue=bulk"), again].concat());
}

#[test]
fn channels_come_and_go_by_the_thousand() {
    const CHANNELS: u16 = 2047;
    let server = start(&[]);
    let mut connection = Connection::ready(&address(&server));
    for _ in 0..3 {
        for (name, fields, answer) in
            [("channel.open", "", "channel.open-ok"), ("channel.close", "reply_code=200", "channel.close-ok")]
        {
            let bytes: Vec<u8> = (2..=CHANNELS).flat_map(|channel| method(channel, name, fields)).collect();
            connection.send_bytes(&bytes);
            for _ in 2..=CHANNELS {
                assert_eq!(connection.next(PATIENCE).method_name(), Some(answer));
            }
        }
        assert_bounded(&server, "thousands of channels");
    }
    connection.send_bytes(&method(CHANNELS + 1, "channel.open", ""));
    let event = connection.next(PATIENCE);
    assert_eq!((event.method_name(), event.close_code()), (Some("connection.close"), Some(530)), "{event}");
    connection.drop_socket();
    assert_serves(&server, "thousands of channels");
}

#[test]
fn consumers_come_and_go_by_the_thousand() {
    const CONSUMERS: usize = 5_000;
    let server = start(&[]);
    let mut other = Connection::ready(&address(&server));
    other.call(1, "queue.declare", "queue=crowded");
    let mut connection = Connection::ready(&address(&server));
    for number in 0..CONSUMERS {
        connection.send(1, "basic.consume", &Fields::parse(&format!("queue=crowded consumer_tag=c{number} no_ack")));
        if number % 500 == 499 {
            for _ in 0..500 {
                assert_eq!(connection.next(PATIENCE).method_name(), Some("basic.consume-ok"));
            }
        }
    }
    let count = |other: &mut Connection| {
        let event = other.call(1, "queue.declare", "queue=crowded passive");
        event.method().map_or(0, |method| method.number("consumer_count"))
    };
    assert_eq!(count(&mut other), CONSUMERS as u64);
    other.publish(1, &Fields::parse("routing_key=crowded"), b"to one of them");
    assert_eq!(connection.next(PATIENCE).body(), b"to one of them");
    connection.drop_socket();
    let end = Instant::now() + Duration::from_secs(5);
    while count(&mut other) > 0 {
        assert!(Instant::now() < end, "the consumers of a connection that is gone are still there");
        thread::sleep(Duration::from_millis(10));
    }
    assert_serves(&server, "thousands of consumers");
}
