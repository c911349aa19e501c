//! MQTT over TCP. What single packets may do is tested beside the codec (`crates/mqtt/tests/garbage.rs`); here is what takes a
//! server with sockets, buffers and a clock.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use roadstead_tests::load::Random;
use roadstead_tests::raw::PATIENCE;
use roadstead_tests::server::Server;

use super::{HANDSHAKE_MS, MIB, assert_bounded, start};

pub(super) const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const SEED: u64 = 0xbad_1d1;

/// A packet of MQTT 5, whatever it holds.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = head(first, body.len());
    out.extend_from_slice(body);
    out
}

/// The first bytes of a packet that claims to have so many more.
fn head(first: u8, mut len: usize) -> Vec<u8> {
    let mut out = vec![first];
    while len > 0x7f {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

pub(super) fn connect(client_id: &str) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[5, 0xc2, 0, 0, 0]].concat();
    packet(0x10, &[head, text(client_id), text("guest"), text("guest")].concat())
}

fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1, 0], &text(filter)[..], &[qos]].concat())
}

fn publish(first: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let packet_id: &[u8] = if first & 6 == 0 { &[] } else { &[0, 7] };
    packet(first, &[&text(topic)[..], packet_id, &[0], payload].concat())
}

pub(super) fn open(server: &Server, listener: &str) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port_of(listener))).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.set_nodelay(true).expect("it is a socket");
    stream
}

/// The next packet: its first byte and what follows its length.
fn read_packet(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut byte = || {
        let mut one = [0];
        stream.read_exact(&mut one).expect("the broker answers");
        one[0]
    };
    let first = byte();
    let (mut len, mut shift) = (0, 0);
    loop {
        let next = byte();
        len |= usize::from(next & 0x7f) << shift;
        shift += 7;
        if next & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).expect("the broker sends whole packets");
    (first, body)
}

fn connected(server: &Server, client_id: &str) -> TcpStream {
    let mut stream = open(server, "mqtt");
    stream.write_all(&connect(client_id)).expect("the broker reads");
    let (first, body) = read_packet(&mut stream);
    assert_eq!((first, body[1]), (0x20, 0), "CONNACK");
    stream
}

/// What comes before the server hangs up, which it must do.
pub(super) fn last_words(stream: &mut TcpStream, what: &str) -> Vec<u8> {
    let mut words = Vec::new();
    match stream.read_to_end(&mut words) {
        Ok(_) => words,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => words,
        Err(error) => panic!("{what}: the server does not hang up: {error}"),
    }
}

/// A normal client does normal things, and soon.
#[track_caller]
pub(super) fn assert_serves(server: &Server, after: &str) {
    let start = Instant::now();
    let mut stream = connected(server, "normal");
    stream.write_all(&subscribe("as/usual", 0)).expect("the broker reads");
    assert_eq!(read_packet(&mut stream).0, 0x90, "after {after}");
    stream.write_all(&publish(0x32, "as/usual", b"x")).expect("the broker reads");
    let mut kinds = [read_packet(&mut stream).0, read_packet(&mut stream).0];
    kinds.sort_unstable();
    assert_eq!(kinds, [0x30, 0x40], "after {after}");
    stream.write_all(&[0xe0, 0]).expect("the broker reads");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "after {after} a normal client needs {took:?}");
    assert_bounded(server, after);
}

#[test]
fn lengths_that_are_too_large_end_at_once() {
    let server = start(&[]);
    for first in [0x10, 0x30] {
        let mut stream = open(&server, "mqtt");
        stream.write_all(&[head(first, 0x0fff_ffff), text("MQTT"), vec![5, 2, 0]].concat()).expect("the broker reads");
        let answer: &[u8] = if first == 0x10 { &[0x20, 3, 0, 0x95, 0] } else { &[] };
        assert_eq!(last_words(&mut stream, "256 MiB at first"), answer, "CONNACK: packet too large");
    }
    let mut stream = connected(&server, "large");
    stream.write_all(&head(0x30, 0x0fff_ffff)).expect("the broker reads");
    assert_eq!(last_words(&mut stream, "256 MiB"), [0xe0, 2, 0x95, 0], "DISCONNECT: packet too large");
    assert_serves(&server, "packets that are too large");
}

/// What may be large is not there before it comes.
#[test]
fn announced_packets_take_no_memory() {
    let server = start(&[]);
    let announcing = (0..200).map(|number| {
        let mut stream = connected(&server, &format!("announcing {number}"));
        stream.write_all(&head(0x30, 16 * MIB)).expect("the broker reads");
        stream.write_all(&text("a")).expect("the broker reads");
        stream
    });
    let announcing: Vec<TcpStream> = announcing.collect();
    assert_serves(&server, "announced packets");
    drop(announcing);
}

#[test]
fn silence_before_connect_is_ended() {
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", &HANDSHAKE_MS.to_string())]);
    let whole = connect("slow");
    for len in [0, 1, 2, 10, whole.len() - 1] {
        let mut stream = open(&server, "mqtt");
        stream.write_all(&whole[..len]).expect("the broker reads");
        let begin = Instant::now();
        assert!(last_words(&mut stream, "silence").is_empty(), "after {len} bytes of CONNECT");
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(4 * HANDSHAKE_MS), "silence after {len} bytes is ended in {took:?}");
        assert!(took > Duration::from_millis(HANDSHAKE_MS / 2), "silence after {len} bytes is ended in {took:?}");
    }
    assert_serves(&server, "silence");
}

/// Time from the first byte of a packet that comes byte by byte to its acknowledgement.
fn time_of_bytes(server: &Server, len: usize) -> Duration {
    let mut stream = connected(server, "pieces");
    let packet = publish(0x32, "nobody", &vec![7; len]);
    let begin = Instant::now();
    for byte in packet {
        stream.write_all(&[byte]).expect("the broker reads");
    }
    assert_eq!(read_packet(&mut stream).0, 0x40);
    begin.elapsed()
}

/// Four times the pieces take four times the time, and not sixteen times.
#[test]
fn a_packet_in_a_hundred_thousand_pieces_costs_linear_time() {
    let server = start(&[]);
    // Turn by turn, so that whatever else the machine does disturbs both.
    let times = (0..3).map(|_| (time_of_bytes(&server, 25_000), time_of_bytes(&server, 100_000)));
    let quickest = times.reduce(|quickest, next| (quickest.0.min(next.0), quickest.1.min(next.1)));
    let (few, many) = quickest.expect("there are three");
    println!("{few:?} for 25,000 pieces, {many:?} for 100,000");
    assert!(many < few * 10, "{few:?} for 25,000 pieces, {many:?} for 100,000");
    assert_serves(&server, "a packet in pieces");
}

#[test]
fn a_filter_of_slashes_harms_nobody() {
    let server = start(&[]);
    let mut stream = connected(&server, "slashes");
    for number in 0..20 {
        stream.write_all(&subscribe(&number.to_string(), 0)).expect("the broker reads");
        assert_eq!(read_packet(&mut stream).0, 0x90);
    }
    stream.write_all(&subscribe(&"/".repeat(65_535), 1)).expect("the broker reads");
    assert_eq!(read_packet(&mut stream).1.last(), Some(&0x8f), "the filter is not valid");
    stream.write_all(&publish(0x30, &"/".repeat(65_535), b"x")).expect("the broker reads");
    drop(stream);
    assert_serves(&server, "filters of slashes");
}

/// Asks for the same again and again and reads nothing, until the server drops the client.
pub(super) fn flood(server: &Server, what: &str, mut stream: TcpStream, bytes: &[u8]) {
    let bytes = bytes.repeat(64 * 1024 / bytes.len());
    stream.set_write_timeout(Some(Duration::from_millis(100))).expect("it is not zero");
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "{what}: a client that reads nothing is not dropped");
        assert_bounded(server, what);
        match stream.write(&bytes) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

#[test]
fn a_client_that_asks_and_never_listens_is_dropped() {
    let answered = publish(0x32, "nobody", b"");
    let again = subscribe("many/#", 0);
    let asks = [("pings", &PINGREQ[..]), ("publishes", &answered), ("subscriptions to what is retained", &again)];
    for (what, bytes) in asks {
        let server = start(&[("ROADSTEAD_LIMITS_WRITE_TIMEOUT_MS", "1000")]);
        let mut publisher = connected(&server, "publisher");
        for number in 0..2000 {
            publisher.write_all(&publish(0x31, &format!("many/{number}"), &[7; 1000])).expect("the broker reads");
        }
        publisher.write_all(&PINGREQ).expect("the broker reads");
        assert_eq!(read_packet(&mut publisher).0, PINGRESP[0]);
        flood(&server, what, connected(&server, "flood"), bytes);
        assert_serves(&server, what);
    }
}

#[test]
fn a_takeover_loop_leaves_one_connection() {
    let server = start(&[]);
    let mut streams: Vec<TcpStream> = (0..300).map(|_| connected(&server, "same")).collect();
    let mut last = streams.pop().expect("there are many");
    for mut stream in streams {
        assert_eq!(last_words(&mut stream, "a takeover"), [0xe0, 2, 0x8e, 0], "DISCONNECT: session taken over");
    }
    last.write_all(&PINGREQ).expect("the broker reads");
    assert_eq!(read_packet(&mut last).0, PINGRESP[0]);
    assert_serves(&server, "takeovers");
}

/// Noise from the first byte, after CONNECT, and in place of a few bytes of what would make sense.
#[test]
fn garbage_harms_nobody() {
    const ROUNDS: usize = 100;
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", "1000")]);
    let mut random = Random::new(SEED);
    let sensible = [
        subscribe("a/+", 2),
        publish(0x34, "a/b", b"hello"),
        subscribe("$share/g/a/#", 1),
        publish(0x33, "a/c", b"retained"),
        PINGREQ.to_vec(),
    ];
    for _ in 0..ROUNDS {
        let noise: Vec<u8> = (0..random.below(4096)).map(|_| random.number() as u8).collect();
        let mut changed = sensible.concat();
        for _ in 0..=random.below(4) {
            let place = random.below(changed.len());
            changed[place] = random.number() as u8;
        }
        for input in [noise.clone(), [connect("noise"), noise].concat(), [connect("noise"), changed].concat()] {
            let mut stream = open(&server, "mqtt");
            // A connection that has been ended takes no more, which is as it should be.
            let _ = stream.write_all(&input);
            stream.set_read_timeout(Some(Duration::from_millis(2))).expect("it is not zero");
            while stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {}
        }
    }
    assert_serves(&server, "garbage");
}

/// What a client sends and does not finish is bounded by the largest packet, and is gone with the client.
#[test]
fn an_unfinished_packet_is_bounded() {
    let server = start(&[]);
    let mut stream = connected(&server, "unfinished");
    stream.write_all(&head(0x30, 16 * MIB)).expect("the broker reads");
    stream.write_all(&text("a")).expect("the broker reads");
    let chunk = vec![0; MIB];
    (0..15).for_each(|_| stream.write_all(&chunk).expect("the broker reads"));
    assert_serves(&server, "an unfinished packet");
    drop(stream);
    assert_serves(&server, "the end of an unfinished packet");
}
