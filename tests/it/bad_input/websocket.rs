//! MQTT over WebSocket (RFC 6455): what comes before the packets, and around them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use roadstead_tests::server::Server;

use super::mqtt::{PINGREQ, assert_serves, connect, flood, last_words, open, packet};
use super::{HANDSHAKE_MS, assert_bounded, start};

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const PROTOCOL: &str = "Sec-WebSocket-Protocol: mqtt\r\n\r\n";
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Sends a request and returns the head of the answer.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).expect("the broker reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the broker answers");
        answer.push(byte[0]);
    }
    String::from_utf8(answer).expect("it is text")
}

fn upgraded(server: &Server) -> TcpStream {
    let mut stream = open(server, "mqtt-ws");
    let answer = ask(&mut stream, &format!("{REQUEST}{PROTOCOL}"));
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    stream
}

/// A frame as it claims to be: its first byte, its length, and its payload, masked.
fn frame_of(first: u8, len: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match len {
        0..126 => out.push(0x80 | len as u8),
        126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&len.to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_of(first, payload.len() as u64, payload)
}

/// The payload of the next frame, which is binary.
fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("the broker answers");
    assert_eq!(head[0], 0x82, "a whole binary message");
    assert!(head[1] < 126, "a short one");
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).expect("the broker sends whole frames");
    payload
}

fn connected(server: &Server, client_id: &str) -> TcpStream {
    let mut stream = upgraded(server);
    stream.write_all(&frame(0x82, &connect(client_id))).expect("the broker reads");
    assert_eq!(read_frame(&mut stream)[..4][3], 0, "CONNACK");
    stream
}

fn close(code: u16) -> Vec<u8> {
    [&[0x88, 2], &code.to_be_bytes()[..]].concat()
}

#[test]
fn what_is_no_request_is_refused() {
    let server = start(&[]);
    let header = |header: &str| format!("{REQUEST}{header}\r\n{PROTOCOL}");
    let cases = [
        ("no upgrade", "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("an unknown path", header("").replacen("/ws", "/elsewhere", 1), "HTTP/1.1 404"),
        ("another sub-protocol", format!("{REQUEST}Sec-WebSocket-Protocol: soap\r\n\r\n"), "HTTP/1.1 400"),
        ("another version", header("").replacen("Version: 13", "Version: 8", 1), "HTTP/1.1 400"),
        ("no HTTP", "AMQP\0\0\u{9}\u{1}\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("a head without end", header(&format!("X: {}", "x".repeat(20_000))), "HTTP/1.1 431"),
        ("a thousand headers", header(&"X: y\r\n".repeat(1000)), "HTTP/1.1 4"),
    ];
    for (what, request, status) in cases {
        let mut stream = open(&server, "mqtt-ws");
        // What is too long is not read to its end.
        let _ = stream.write_all(request.replace("\r\n\r\n\r\n", "\r\n\r\n").as_bytes());
        let answer = last_words(&mut stream, what);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(status) || (answer.is_empty() && status.ends_with("431")), "{what}: {answer}");
    }
    assert_serves(&server, "bad requests");
}

#[test]
fn pages_from_elsewhere_are_refused_if_the_operator_says_so() {
    let server = Server::builder().config("[websocket]\norigins = [\"https://here\"]\n").start();
    for (origin, status) in [("https://elsewhere", "HTTP/1.1 403"), ("https://here", "HTTP/1.1 101")] {
        let mut stream = open(&server, "mqtt-ws");
        let answer = ask(&mut stream, &format!("{REQUEST}Origin: {origin}\r\n{PROTOCOL}"));
        assert!(answer.starts_with(status), "{origin}: {answer}");
    }
}

#[test]
fn faults_in_frames_close_with_their_code() {
    let server = start(&[]);
    let (protocol, unsupported) = (1002, 1003);
    let cases = [
        ("an unmasked frame", [&[0x82, 2], &PINGREQ[..]].concat(), protocol),
        ("reserved bits", frame(0xc2, &PINGREQ), protocol),
        ("a reserved opcode", frame(0x83, &PINGREQ), protocol),
        ("a reserved control opcode", frame(0x8b, b""), protocol),
        ("a text frame", frame(0x81, b"hello"), unsupported),
        ("a continuation of nothing", frame(0x80, &PINGREQ), protocol),
        ("a message within a message", [frame(0x02, &PINGREQ[..1]), frame(0x82, &PINGREQ)].concat(), protocol),
        ("a ping in parts", frame(0x09, b"x"), protocol),
        ("a ping of 126 bytes", frame(0x89, &[0; 126]), protocol),
        ("a ping of 4 EiB", frame_of(0x89, 1 << 62, b""), protocol),
    ];
    for (what, bytes, code) in cases {
        let mut stream = connected(&server, "frames");
        stream.write_all(&bytes).expect("the broker reads");
        assert_eq!(last_words(&mut stream, what), close(code), "{what}");
        assert_serves(&server, what);
    }
}

/// Frames are not packets: what lies in them is one stream.
#[test]
fn packets_may_be_cut_into_frames_anyhow() {
    let server = start(&[]);
    let mut stream = upgraded(&server);
    let mut first = 0x02;
    for byte in connect("cut") {
        stream.write_all(&frame(first, &[byte])).expect("the broker reads");
        stream.write_all(&frame(0x89, b"are you there?")).expect("the broker reads");
        first = 0;
    }
    stream.write_all(&frame(0x80, &PINGREQ.repeat(10))).expect("the broker reads");
    let mut got = Vec::new();
    while !got.ends_with(&[0xd0, 0].repeat(10)) {
        let mut head = [0; 2];
        stream.read_exact(&mut head).expect("the broker answers");
        let mut payload = vec![0; head[1].into()];
        stream.read_exact(&mut payload).expect("the broker sends whole frames");
        if head[0] == 0x82 {
            got.extend(payload);
        } else {
            assert_eq!((head[0], &payload[..]), (0x8a, &b"are you there?"[..]), "a pong");
        }
    }
    assert_eq!(got[0], 0x20, "CONNACK comes first");
    assert_serves(&server, "packets in many frames");
}

/// A frame may be of any length, and what is in it is bounded by what packets may be.
#[test]
fn lengths_of_frames_take_no_memory() {
    let server = start(&[]);
    let mut stream = upgraded(&server);
    stream.write_all(&frame_of(0x82, 1 << 62, &[connect("endless"), PINGREQ.to_vec()].concat())).expect("it reads");
    assert_eq!(read_frame(&mut stream)[0], 0x20);
    assert_eq!(read_frame(&mut stream), [0xd0, 0]);
    let mut stream = connected(&server, "large");
    stream.write_all(&frame(0x82, &[0x30, 0xff, 0xff, 0xff, 0x7f])).expect("the broker reads");
    let words = last_words(&mut stream, "a packet of 256 MiB");
    assert_eq!(words[..6], [0x82, 4, 0xe0, 2, 0x95, 0], "DISCONNECT: packet too large");
    // Frames without end and without anything in them, of one message.
    let mut stream = connected(&server, "empty");
    stream.write_all(&frame(0x02, b"")).expect("the broker reads");
    let empty = frame(0x00, b"").repeat(1000);
    (0..500).for_each(|_| stream.write_all(&empty).expect("the broker reads"));
    stream.write_all(&frame(0x80, &PINGREQ)).expect("the broker reads");
    assert_eq!(read_frame(&mut stream), [0xd0, 0]);
    assert_serves(&server, "frames of any length");
}

#[test]
fn silence_is_ended_at_every_step() {
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", &HANDSHAKE_MS.to_string())]);
    let cut_connect = frame(0x82, &packet(0x10, &connect("slow")[2..])[..10]);
    let steps: [(&str, Vec<u8>); 4] = [
        ("nothing", vec![]),
        ("half a request", REQUEST.as_bytes().to_vec()),
        ("the request", format!("{REQUEST}{PROTOCOL}").into_bytes()),
        ("half of CONNECT", [format!("{REQUEST}{PROTOCOL}").as_bytes(), &cut_connect].concat()),
    ];
    for (what, bytes) in steps {
        let mut stream = open(&server, "mqtt-ws");
        stream.write_all(&bytes).expect("the broker reads");
        let begin = Instant::now();
        last_words(&mut stream, what);
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(5 * HANDSHAKE_MS), "silence after {what} is ended in {took:?}");
        assert!(took > Duration::from_millis(HANDSHAKE_MS / 2), "silence after {what} is ended in {took:?}");
    }
    assert_serves(&server, "silence");
}

/// Pongs that nobody reads are not kept.
#[test]
fn a_ping_flood_takes_no_memory() {
    let server = start(&[("ROADSTEAD_LIMITS_WRITE_TIMEOUT_MS", "1000"), ("ROADSTEAD_LIMITS_HANDSHAKE_MS", "4000")]);
    // Before CONNECT the time to connect is the end of it.
    flood(&server, "pings", upgraded(&server), &frame(0x89, &[7; 125]));
    assert_bounded(&server, "pings");
    assert_serves(&server, "pings");
}
