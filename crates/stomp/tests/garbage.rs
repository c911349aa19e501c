//! Input that no client library sends: each connection ends as it should, nobody else notices, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::sync::Arc;

use broker::{Session, session::Intake};
use proptest::{prelude::*, test_runner::RngSeed};
use stomp::{
    Settings,
    wire::{Decoder, Limits},
};

use self::common::{MESSAGE_BYTES, World, frames, log::ScriptLog};

fn world() -> World {
    World::new(Arc::new(ScriptLog::default()), Settings::default(), MESSAGE_BYTES)
}

const CONNECT: &str = "CONNECT accept-version:1.2 login:guest passcode:guest";

/// What a client gets back for bytes, and whether its connection is over then.
fn answers(world: &mut World, name: &str, bytes: &[u8]) -> (Vec<String>, bool) {
    world.send(name, bytes);
    let (got, is_over) = world.take(name);
    (frames::decode(&got, &mut world.client(name).session), is_over)
}

fn connect(world: &mut World, name: &str, line: &str) {
    let (lines, is_over) = answers(world, name, &frames::encode(line, ""));
    assert!(lines.len() == 1 && lines[0].starts_with("CONNECTED") && !is_over, "{lines:?}");
}

/// Somebody else does what clients do.
fn assert_serves(world: &mut World, after: &str) {
    connect(world, "good", CONNECT);
    let conversation = ["SUBSCRIBE id:1 destination:/topic/usual receipt:s", "SEND destination:/topic/usual \"x\""];
    let bytes: Vec<u8> = conversation.iter().flat_map(|line| frames::encode(line, "")).collect();
    let (lines, is_over) = answers(world, "good", &bytes);
    let message = "MESSAGE subscription:1 destination:/topic/usual message-id:T_1@@S@@1-1 redelivered:false \"x\"";
    assert_eq!((lines, is_over), (vec!["RECEIPT receipt-id:s".into(), message.into()], false), "after {after}");
    world.lose("good");
}

/// What a client sends that has connected with STOMP 1.2, and the beginning of what it is told at its end.
fn faults() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let line = |text: &str| frames::encode(text, "");
    let malformed = "message:\"Malformed frame\"";
    let invalid = "message:\"Invalid header\"";
    let destination = "message:\"Invalid destination\"";
    vec![
        ("an endless command", vec![b'A'; 1000], malformed),
        ("an endless header", [b"SEND\n".to_vec(), vec![b'a'; 1 << 20]].concat(), malformed),
        ("an endless value", [b"SEND\na:".to_vec(), vec![b'a'; 1 << 20]].concat(), malformed),
        ("a million headers", [b"SEND\n".to_vec(), b"a:b\n".repeat(1_000_000)].concat(), malformed),
        ("a negative length", b"SEND\ncontent-length:-1\n\n\0".to_vec(), malformed),
        ("a length with a sign", b"SEND\ncontent-length:+1\n\nx\0".to_vec(), malformed),
        ("a length that is no number", b"SEND\ncontent-length:x\n\n\0".to_vec(), malformed),
        ("no length", b"SEND\ncontent-length:\n\n\0".to_vec(), malformed),
        ("a length that has no place in memory", b"SEND\ncontent-length:18446744073709551616\n".to_vec(), malformed),
        ("a length beyond the limit", b"SEND\ncontent-length:1001\n".to_vec(), malformed),
        ("a length that is too short", b"SEND\ndestination:/queue/a\ncontent-length:1\n\nabc\0".to_vec(), malformed),
        ("a body that does not end", [b"SEND\n\n".to_vec(), vec![b'a'; 2000]].concat(), malformed),
        ("a second CONNECT", line(CONNECT), "message:\"Illegal command\""),
        ("a frame of the broker", line("MESSAGE"), "message:\"Bad command\""),
        ("a command in small letters", line("send"), "message:\"Bad command\""),
        ("an escape that there is not", b"SEND\na:\\t\n\n\0".to_vec(), malformed),
        ("an escape that is cut", b"SEND\na:\\\n\n\0".to_vec(), malformed),
        ("no UTF-8 in a header", b"SEND\na:\xff\n\n\0".to_vec(), malformed),
        ("no UTF-8 in the command", b"SE\xffND\n\n\0".to_vec(), malformed),
        ("a header without colon", b"SEND\ndestination\n\n\0".to_vec(), malformed),
        ("a header without name", b"SEND\n:x\n\n\0".to_vec(), malformed),
        ("NUL in a header", b"SEND\ndestination:/queue/a\0b\n\n\0".to_vec(), malformed),
        ("no empty line", b"BEGIN\ntransaction:t\n\0".to_vec(), malformed),
        ("CR within a line", b"SEND\rdestination:/queue/a\n\n\0".to_vec(), "message:\"Bad command\""),
        ("ACK of nothing", line("ACK"), "message:\"Missing header\""),
        ("ACK of an unknown id", line("ACK id:T_1@@S@@1-1"), "message:\"Subscription not found\""),
        ("ACK of no id", line("ACK id:1"), invalid),
        ("ACK of a large id", line("ACK id:T_1@@S@@99999999999999999999999-1"), invalid),
        ("NACK of no id", line("NACK id:@@-"), invalid),
        ("COMMIT of an unknown transaction", line("COMMIT transaction:t"), "message:\"Bad transaction\""),
        ("ACK in an unknown transaction", line("ACK transaction:t id:1"), "message:\"Bad transaction\""),
        ("a message with an id", line("SEND destination:/queue/a message-id:1 \"x\""), invalid),
        ("somebody else's queue for replies", line("SEND destination:/temp-queue/a \"x\""), destination),
        ("no destination", line("SEND \"x\""), "message:\"Missing destination\""),
        ("an empty destination", line("SEND destination: \"x\""), destination),
        ("a queue without name", line("SEND destination:/queue/ \"x\""), destination),
        ("an exchange without name", line("SEND destination:/exchange//k \"x\""), destination),
        ("a destination that is no UTF-8", line("SEND destination:/queue/%FF \"x\""), destination),
        (
            "a destination that does not end",
            [b"SEND\ndestination:/queue/".to_vec(), vec![b'a'; 300], b"\n\n\0".to_vec()].concat(),
            destination,
        ),
        (
            "an unknown kind of destination",
            line("SEND destination:/nope/a,/queue/b \"x\""),
            "message:\"Unknown destination\"",
        ),
        ("a name of the broker's", line("SUBSCRIBE id:1 destination:/queue/amq.x"), "message:access_refused"),
        ("an id of the broker's", line("SUBSCRIBE id:/temp-queue/a destination:/queue/a"), "message:\"Invalid id\""),
        ("a selector", line("SUBSCRIBE id:1 destination:/queue/a selector:((((((a"), "message:\"Invalid selector\""),
        ("no mode of acknowledgement", line("SUBSCRIBE id:1 destination:/queue/a ack:maybe"), invalid),
        ("a bad expiration", line("SEND destination:/queue/a expiration:-1 \"x\""), "message:precondition_failed"),
        (
            "an endless expiration",
            line("SEND destination:/queue/a expiration:999999999999999999 \"x\""),
            "message:precondition_failed",
        ),
        ("a limit that is no number", line("SUBSCRIBE id:1 destination:/queue/a x-max-length:x"), invalid),
        ("an offset that is no number", line("SUBSCRIBE id:1 destination:/queue/a x-stream-offset:offset=x"), invalid),
    ]
}

#[test]
fn faults_end_the_connection_with_their_reason() {
    let mut world = world();
    let mut wrong = Vec::new();
    for (what, bytes, reason) in faults() {
        connect(&mut world, "bad", CONNECT);
        let (lines, is_over) = answers(&mut world, "bad", &bytes);
        let is_told = lines.len() == 1 && lines[0].starts_with(&format!("ERROR {reason}"));
        if !is_told || !is_over || world.left("bad") > 0 {
            wrong.push(format!("{what}: {lines:?}, {is_over}"));
        }
        world.lose("bad");
        assert_serves(&mut world, what);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_comes_before_connect_is_bounded_more_closely() {
    let mut world = world();
    let line = |text: &str| frames::encode(text, "");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a frame before CONNECT", line("SEND destination:/queue/a \"x\"")),
        ("an unknown frame", line("NOPE")),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n\0".to_vec()),
        ("TLS", [b"\x16\x03\x01\x02\0\x01".to_vec(), vec![7; 100]].concat()),
        ("AMQP", b"AMQP\0\0\x09\x01\nx\n\n\0".to_vec()),
        ("a long header", [b"CONNECT\na:".to_vec(), vec![b'a'; 20_000]].concat()),
        ("many headers", [b"CONNECT\n".to_vec(), b"a:b\n".repeat(200)].concat()),
        (
            "many long headers",
            [b"CONNECT\n".to_vec(), [vec![b'a'; 15_000], b":\n".to_vec()].concat().repeat(3)].concat(),
        ),
        ("a body", [b"CONNECT\n\n".to_vec(), vec![b'a'; 2000]].concat()),
        ("a length", b"CONNECT\ncontent-length:1025\n".to_vec()),
        ("no known version", line("CONNECT accept-version:3.0,x")),
        ("half of a heart-beat", line("CONNECT login:guest passcode:guest heart-beat:1")),
        ("a heart-beat that is no number", line("CONNECT login:guest passcode:guest heart-beat:a,b")),
        ("a heart-beat without end", line("CONNECT login:guest passcode:guest heart-beat:99999999999,1")),
        ("a negative heart-beat", line("CONNECT login:guest passcode:guest heart-beat:-1,1")),
        ("an escape in a passcode", b"CONNECT\nlogin:guest\npasscode:gues\\c\n\n\0".to_vec()),
        ("nobody", line("CONNECT accept-version:1.2")),
    ];
    for (what, bytes) in cases {
        let (lines, is_over) = answers(&mut world, "bad", &bytes);
        assert!(lines.len() == 1 && lines[0].starts_with("ERROR message:") && is_over, "{what}: {lines:?}");
        world.lose("bad");
        assert_serves(&mut world, what);
    }
}

#[test]
fn what_looks_bad_and_is_not() {
    let mut world = world();
    // A heart-beat of a millisecond becomes one of a second; the first of several headers counts.
    let (lines, _) = answers(&mut world, "a", &frames::encode(&format!("{CONNECT} heart-beat:1,1 login:x"), ""));
    assert_eq!(lines, ["CONNECTED heart-beat:1000,1000 version:1.2"]);
    // Line ends with CR in STOMP 1.0 and 1.1.
    for version in ["1.0", "1.1"] {
        let text = format!("CONNECT\r\naccept-version:{version}\r\nlogin:guest\r\npasscode:guest\r\n\r\n\0\r\n");
        let (lines, _) = answers(&mut world, version, text.as_bytes());
        assert_eq!(lines, [format!("CONNECTED heart-beat:0,0 version:{version}")]);
        let (lines, _) = answers(&mut world, version, b"BEGIN\r\ntransaction:t\r\nreceipt:1\r\n\r\n\0");
        assert_eq!(lines, ["RECEIPT receipt-id:1"]);
    }
    // A flood of line ends and NULs is nothing.
    let (lines, is_over) = answers(&mut world, "a", &b"\n\0\r\n".repeat(1 << 18));
    assert_eq!((lines.len(), is_over, world.left("a")), (0, false, 0));
    assert_serves(&mut world, "a flood");
}

/// What one client puts into a header cannot become a line of its own for another.
#[test]
fn headers_cannot_be_injected() {
    let mut world = world();
    connect(&mut world, "p", CONNECT);
    for (name, version) in [("a", "1.0"), ("b", "1.1"), ("c", "1.2")] {
        connect(&mut world, name, &format!("CONNECT accept-version:{version} login:guest passcode:guest"));
        world.send(name, &frames::encode("SUBSCRIBE id:1 destination:/topic/t", ""));
    }
    let bad = b"SEND\ndestination:/topic/t\na\\nb\\cc:x\\ny\\cz\\r\nnul:a\x01b\n\nbody\0";
    world.send("p", bad);
    for (name, told) in [("a", ""), ("b", ""), ("c", " a\\nb\\cc:x\\ny\\cz\\r")] {
        let (lines, _) = answers(&mut world, name, b"");
        let head = "MESSAGE subscription:1 destination:/topic/t message-id:T_1@@S@@1-1 redelivered:false";
        assert_eq!(lines, [format!("{head}{told} nul:a\u{1}b \"body\"")], "{name}");
    }
}

#[test]
fn what_can_be_had_only_once_or_so_often() {
    let mut world = world();
    connect(&mut world, "bad", CONNECT);
    let begin = |number: usize| format!("BEGIN\ntransaction:{number}\n\n\0").into_bytes();
    let bytes: Vec<u8> = (0..5000).flat_map(begin).collect();
    let (lines, is_over) = answers(&mut world, "bad", &bytes);
    assert!(lines[0].starts_with("ERROR message:\"Transaction limit exceeded\"") && is_over, "{lines:?}");
    world.lose("bad");
    connect(&mut world, "bad", CONNECT);
    world.send("bad", b"BEGIN\ntransaction:t\n\n\0");
    let send = [b"SEND\ndestination:/queue/a\ntransaction:t\n\n".to_vec(), vec![b'x'; 900], b"\0".to_vec()].concat();
    let (lines, is_over) = answers(&mut world, "bad", &send.repeat(100_000));
    assert!(lines[0].starts_with("ERROR message:\"Transaction too large\"") && is_over, "{lines:?}");
    world.lose("bad");
    connect(&mut world, "bad", CONNECT);
    let subscribe = frames::encode("SUBSCRIBE id:1 destination:/queue/a ack:client", "");
    world.send("bad", &subscribe);
    world.send("bad", &frames::encode("SEND destination:/queue/a \"x\"", ""));
    answers(&mut world, "bad", b"");
    // An id is of one connection alone.
    let id = format!("ACK id:T_1@@{}@@1-1", world.client("bad").session);
    connect(&mut world, "thief", CONNECT);
    let (lines, is_over) = answers(&mut world, "thief", &frames::encode(&id, ""));
    assert!(lines[0].starts_with("ERROR message:\"Subscription not found\"") && is_over, "{lines:?}");
    let (lines, is_over) = answers(&mut world, "bad", &frames::encode(&id, "").repeat(2));
    assert!(lines[0].starts_with("ERROR message:\"Subscription not found\"") && is_over, "{lines:?}");
}

#[test]
fn receipts_that_wait_for_the_disk_are_bounded() {
    let mut world = world();
    connect(&mut world, "bad", CONNECT);
    world.log.commit_by_hand();
    let send = frames::encode("SEND destination:/queue/a persistent:true receipt:1 \"x\"", "");
    world.send("bad", &send.repeat(10_000));
    assert_eq!(world.client("bad").connection.intake(), Intake::Paused);
    let left = world.left("bad");
    assert!(left > 4000 * send.len(), "{left} bytes are left");
    world.log.commit();
    world.work();
    assert!(world.left("bad") < left, "it goes on");
    world.lose("bad");
}

/// Were it quadratic, this would not end.
#[test]
fn frames_in_many_pieces_take_linear_time() {
    let frames: [Vec<u8>; 2] = [
        [b"SEND\na:b\n\n".to_vec(), vec![b'x'; 1 << 20], b"\0".to_vec()].concat(),
        [b"SEND\n".to_vec(), [b"a:".to_vec(), vec![b'x'; 60_000], b"\n".to_vec()].concat().repeat(4), b"\n\0".to_vec()]
            .concat(),
    ];
    for bytes in frames {
        let mut decoder = Decoder::new();
        decoder.limits = Limits::after_login(1 << 21, 1 << 20);
        let found = (1..=bytes.len()).filter(|&end| decoder.decode(&bytes[..end]).unwrap().is_some());
        assert_eq!(found.collect::<Vec<_>>(), [bytes.len()]);
    }
}

/// A frame of a conversation that is partly damaged.
fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let frames = [
        CONNECT,
        "SUBSCRIBE id:1 destination:/queue/a ack:client receipt:1",
        "SUBSCRIBE id:2 destination:/topic/a.* durable:true auto-delete:false",
        "SEND destination:/queue/a persistent:true receipt:2 reply-to:/temp-queue/r \"body\"",
        "SEND destination:/topic/a.b,/queue/a \"body\"",
        "BEGIN transaction:t",
        "SEND destination:/queue/a transaction:t \"body\"",
        "ACK id:T_1@@S@@1-1",
        "NACK id:T_1@@S@@1-2 requeue:false transaction:t",
        "COMMIT transaction:t receipt:3",
        "ABORT transaction:t",
        "UNSUBSCRIBE id:1",
        "DISCONNECT receipt:4",
    ];
    let chosen = proptest::collection::vec(0..frames.len(), 1..12);
    let damage = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
    (chosen, damage).prop_map(move |(chosen, damage)| {
        let mut bytes = frames_of(&frames, &chosen);
        for (place, byte) in damage {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn frames_of(frames: &[&str], chosen: &[usize]) -> Vec<u8> {
    chosen.iter().flat_map(|&at| frames::encode(frames[at], "")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn damaged_conversations_harm_nobody(bytes in conversation(), piece in 1_usize..50) {
        let mut world = world();
        connect(&mut world, "bad", CONNECT);
        for part in bytes.chunks(piece) {
            world.send("bad", part);
        }
        let (got, _) = world.take("bad");
        frames::decode(&got, &mut String::new());
        world.wait(100_000);
        world.lose("bad");
        assert_serves(&mut world, "it");
    }
}
