//! Frames that are wrong, one at a time.

use std::time::{Duration, Instant};

use roadstead_tests::load::Random;
use roadstead_tests::raw::{BODY, Connection, Fields, Frame, HEADER, METHOD, PATIENCE, Writer};

use super::{HANDSHAKE_MS, MIB, address, assert_bounded, assert_serves, handshake, last_word, method, publish, start};

const SEED: u64 = 0xbad_1d0;

/// A frame as it claims to be, whatever it holds.
fn frame(kind: u8, channel: u16, length: u32, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = Writer::default();
    out.u8(kind).u16(channel).u32(length).raw(payload).u8(end);
    out.into_bytes()
}

fn well_framed(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    frame(kind, channel, payload.len() as u32, payload, 0xce)
}

/// The payload of a method, from its ids and whatever follows them.
fn raw_method(class: u16, id: u16, fields: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.u16(class).u16(id).raw(fields);
    well_framed(METHOD, 1, &out.into_bytes())
}

fn declare_with(arguments: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.u16(0).short_text(b"deep").u8(0).raw(arguments);
    raw_method(50, 10, &out.into_bytes())
}

fn publish_with(headers: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.u16(60).u16(0).u64(0).u16(1 << 13).raw(headers);
    [method(1, "basic.publish", "routing_key=normal"), well_framed(HEADER, 1, &out.into_bytes())].concat()
}

/// `depth` tables or arrays in one another, in a table.
fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let mut inner: Vec<u8> = Vec::new();
    for level in 0..depth {
        let mut out = Writer::default();
        if kind == b'F' || level + 1 == depth {
            out.short_text(b"");
        }
        out.u8(kind).long_text(&inner);
        inner = out.into_bytes();
    }
    let mut out = Writer::default();
    out.long_text(&inner);
    out.into_bytes()
}

/// What is sent on an open channel 1, and the code with which the connection is closed.
fn faults() -> Vec<(&'static str, Vec<u8>, u64)> {
    let publish_method = method(1, "basic.publish", "routing_key=normal");
    let header = |size| Frame::header(1, size, &Fields::default()).to_bytes();
    let body = |length| Frame::body(1, &vec![7; length]).to_bytes();
    let closed = method(1, "channel.close", "reply_code=200");
    vec![
        ("a body frame beyond frame_max", frame(BODY, 1, 131_073, &[], 0), 501),
        ("a frame of 4 GiB", frame(METHOD, 1, u32::MAX, &[], 0), 501),
        ("a wrong end marker", frame(METHOD, 1, 4, &[0, 20, 0, 10], 0xcd), 501),
        ("an unknown frame type", well_framed(4, 1, b"abc"), 501),
        ("a method without ids", well_framed(METHOD, 1, &[0]), 501),
        ("an unknown method", raw_method(60, 99, &[]), 503),
        ("an unknown class", raw_method(99, 10, &[]), 503),
        ("a channel's method on channel 0", method(0, "basic.qos", ""), 504),
        ("a method on a channel that is closed", [closed, method(1, "basic.qos", "")].concat(), 504),
        ("a second open", method(1, "channel.open", ""), 504),
        ("a header without a method", header(5), 505),
        ("a body without a method", body(5), 505),
        ("a body without a header", [publish_method.clone(), body(5)].concat(), 505),
        ("a method instead of a header", [publish_method.clone(), method(1, "basic.qos", "")].concat(), 505),
        ("a second header", [publish_method.clone(), header(5), header(5)].concat(), 505),
        ("a method amid a body", [publish_method.clone(), header(5), body(2), publish_method.clone()].concat(), 505),
        ("a body longer than declared", [publish_method.clone(), header(5), body(6)].concat(), 501),
        ("a second body beyond what is declared", [publish_method, header(5), body(3), body(3)].concat(), 501),
        ("a name beyond the frame", raw_method(50, 10, &[0, 0, 255, b'q']), 501),
        ("a table beyond the frame", declare_with(&[0, 0, 1, 0, 1]), 501),
        ("a table of 4 GiB", declare_with(&[255, 255, 255, 255]), 501),
        ("a text beyond its table", declare_with(&[0, 0, 0, 7, 1, b'k', b'S', 0, 0, 1, 0]), 501),
        ("a value of no type", declare_with(&[0, 0, 0, 3, 1, b'k', b'?']), 501),
        ("headers beyond the frame", publish_with(&[0, 0, 1, 0]), 501),
        ("tables 10,000 deep in arguments", declare_with(&nested(b'F', 10_000)), 501),
        ("arrays 10,000 deep in arguments", declare_with(&nested(b'A', 10_000)), 501),
        ("tables 10,000 deep in headers", publish_with(&nested(b'F', 10_000)), 501),
        ("arrays 10,000 deep in headers", publish_with(&nested(b'A', 10_000)), 501),
    ]
}

#[test]
fn faults_close_the_connection_with_their_code() {
    let server = start(&[]);
    let mut wrong = Vec::new();
    for (what, bytes, code) in faults() {
        let mut connection = Connection::ready(&address(&server));
        connection.send_bytes(&bytes);
        let mut event = connection.next(PATIENCE);
        if event.method_name() == Some("channel.close-ok") {
            event = connection.next(PATIENCE);
        }
        if (event.method_name(), event.close_code()) != (Some("connection.close"), Some(code)) {
            wrong.push(format!("{what}: {event} instead of {code}"));
        }
        connection.send(0, "connection.close-ok", &Fields::default());
        assert_serves(&server, what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_conversation_may_be_cut_anywhere() {
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", "1000")]);
    // The broker may still be at the last of them when they are all cut.
    Connection::ready(&address(&server)).call(1, "queue.declare", "queue=cut");
    let work = [method(1, "channel.open", ""), publish(1, "cut", b"cut"), method(1, "basic.get", "queue=cut no_ack")];
    let whole = [handshake().concat(), work.concat()].concat();
    for length in 0..whole.len() {
        let mut connection = Connection::tcp(&address(&server)).expect("the broker listens");
        connection.send_bytes(&whole[..length]);
        connection.drop_socket();
    }
    assert_serves(&server, "conversations that were cut");
}

#[test]
fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let server = start(&[]);
    let mut connection = Connection::tcp(&address(&server)).expect("the broker listens");
    let mut whole = handshake();
    whole.push(method(1, "channel.open", ""));
    whole.push(method(1, "queue.declare", "queue=slow exclusive arguments={x-a=F:{b=A:[I:1,S:two]}}"));
    whole.push(publish(1, "normal", &[7; 300]));
    whole.push(method(1, "basic.get", "queue=normal no_ack"));
    whole.push(method(1, "basic.get", "queue=slow no_ack"));
    Connection::ready(&address(&server)).call(1, "queue.declare", "queue=normal");
    for byte in whole.concat() {
        connection.send_bytes(&[byte]);
    }
    let mut names = Vec::new();
    for _ in 0..7 {
        let event = connection.next(PATIENCE);
        names.push(event.method_name().unwrap_or_else(|| panic!("{event} after {names:?}")));
    }
    let expected = [
        "connection.start",
        "connection.tune",
        "connection.open-ok",
        "channel.open-ok",
        "queue.declare-ok",
        "basic.get-ok",
        "basic.get-empty",
    ];
    assert_eq!(names, expected);
    assert_serves(&server, "a client that sends byte by byte");
}

/// Noise of every kind: from the first byte, after the protocol header, after the handshake, and in place of a few bytes
/// of what would make sense.
#[test]
fn garbage_harms_nobody() {
    const ROUNDS: usize = 150;
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", "1000")]);
    let mut random = Random::new(SEED);
    let sensible = [
        method(1, "channel.open", ""),
        method(1, "queue.declare", "queue=normal arguments={x-a=F:{b=A:[I:1,S:two]},x-c=T:5}"),
        publish(1, "normal", &[7; 100]),
        method(1, "basic.consume", "queue=normal no_ack"),
    ];
    for round in 0..ROUNDS {
        let noise: Vec<u8> = (0..random.below(4096)).map(|_| random.number() as u8).collect();
        let mut changed = sensible.concat();
        for _ in 0..=random.below(4) {
            let place = random.below(changed.len());
            changed[place] = random.number() as u8;
        }
        let inputs = [noise.clone(), [handshake()[0].clone(), noise.clone()].concat(), noise, changed];
        for (kind, input) in inputs.iter().enumerate() {
            let mut connection = Connection::tcp(&address(&server)).expect("the broker listens");
            if kind >= 2 {
                connection.send_bytes(&handshake().concat());
            }
            connection.send_bytes(input);
            // What must come is not known, but some of it is read, so that the server gets to its answer.
            while !matches!(connection.next(Duration::from_millis(2)), event if event.is_closed() || event.is_silence())
            {
            }
        }
        if round % 50 == 49 {
            let _ = Connection::ready(&address(&server)).call(1, "queue.declare", "queue=normal");
            Connection::ready(&address(&server)).call(1, "queue.delete", "queue=normal");
            assert_serves(&server, "garbage");
        }
    }
}

/// Silence at every step of the handshake.
#[test]
fn a_handshake_that_stops_is_ended() {
    let server = start(&[("ROADSTEAD_LIMITS_HANDSHAKE_MS", &HANDSHAKE_MS.to_string())]);
    for steps in 0..handshake().len() {
        let mut connection = Connection::tcp(&address(&server)).expect("the broker listens");
        connection.send_bytes(&handshake()[..steps].concat());
        let begin = Instant::now();
        last_word(&mut connection, &format!("silence after {steps} steps"));
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(4 * HANDSHAKE_MS), "silence after {steps} steps is ended in {took:?}");
        assert!(took > Duration::from_millis(HANDSHAKE_MS / 2), "silence after {steps} steps is ended in {took:?}");
    }
    assert_serves(&server, "handshakes that stop");
}

/// The client is told once the whole body has come, because its next frames would no longer fit before that.
#[test]
fn a_body_that_is_too_large_closes_its_channel_only() {
    const SIZE: usize = 16 * MIB + 1;
    const CHUNK: usize = 128 * 1024 - 8;
    let server = start(&[]);
    let mut connection = Connection::ready(&address(&server));
    connection.send(1, "basic.publish", &Fields::parse("routing_key=normal"));
    connection.send_frame(&Frame::header(1, SIZE as u64, &Fields::default()));
    let body = vec![7; SIZE];
    let mut chunks: Vec<&[u8]> = body.chunks(CHUNK).collect();
    let last = chunks.pop().expect("there are many");
    for chunk in chunks {
        connection.send_frame(&Frame::body(1, chunk));
    }
    let early = connection.next(Duration::from_millis(500));
    assert!(early.is_silence(), "{early} before the whole body has come");
    assert_bounded(&server, "a body that is too large");
    connection.send_frame(&Frame::body(1, last));
    let event = connection.next(PATIENCE);
    assert_eq!((event.method_name(), event.close_code()), (Some("channel.close"), Some(406)), "{event}");
    connection.send(1, "channel.close-ok", &Fields::default());
    connection.call(2, "channel.open", "");
    connection.call(1, "channel.open", "");
    assert_serves(&server, "a body that is too large");
}
