//! A session that is sent arbitrary bytes, in pieces, before and after its handshake. It must answer in whole frames, end
//! when it should, and leave nothing behind.
#![no_main]

use std::{sync::Arc, task::Waker};

use amqp091::{
    AmqpSession, PROTOCOL_HEADER,
    method::{Bits, Method},
    wire,
};
use broker::{
    Broker, Login, MemoryLog, Millis, Peer, Permissions, Recovered, Reply, Request, Session, Settings, Table, User,
    identity::Pattern, outlet::Chunks,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let broker = broker();
    let peer = Peer::default();
    let mut session = AmqpSession::new(Arc::clone(&broker), Arc::default(), peer, Millis(0));
    let mut input = if first & 1 == 0 { handshake() } else { Vec::new() };
    input.extend_from_slice(data);
    let piece = 1 + usize::from(first >> 1) * 37;
    let mut left: Vec<u8> = Vec::new();
    for (index, bytes) in input.chunks(piece).enumerate() {
        let now = Millis(index as u64);
        left.extend_from_slice(bytes);
        session.poll(now, Waker::noop());
        if let Some(Request::Authenticate(_)) = session.request() {
            session.reply(Reply::Login(Login::Accepted("guest".into())), now);
        }
        let used = session.receive(&left, now);
        left.drain(..used);
        check_output(&session);
        if session.finished().is_some() {
            break;
        }
    }
    session.disconnected(Millis(1 << 40));
    assert_eq!(broker.vhost("/").expect("it was added").read().queues().filter(|queue| queue.owner.is_some()).count(), 0);
});

fn broker() -> Arc<Broker> {
    let log = Arc::new(MemoryLog::default());
    let settings = Settings { message_bytes_max: 4096, seed: 1, ..Settings::default() };
    let broker = Broker::new(settings, log, Recovered::default(), Millis(0)).expect("nothing to recover");
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").expect("it is a regular expression");
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"guest".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    Arc::new(broker)
}

fn handshake() -> Vec<u8> {
    let mut bytes = PROTOCOL_HEADER.to_vec();
    let (mechanism, locale, response) = ("PLAIN", "en_US", &b"\0guest\0guest"[..]);
    Method::ConnectionStartOk { properties: Table::default(), mechanism, response, locale }.put(&mut bytes, 0);
    Method::ConnectionTuneOk { channel_max: 2047, frame_max: 4096, heartbeat: 0 }.put(&mut bytes, 0);
    Method::ConnectionOpen { vhost: "/", reserved_1: "", reserved_2: Bits(0) }.put(&mut bytes, 0);
    Method::ChannelOpen { reserved_1: "" }.put(&mut bytes, 1);
    bytes
}

fn check_output(session: &AmqpSession) {
    let mut chunks = Chunks::default();
    session.outlet().drain(&mut chunks, Waker::noop());
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            rest = &rest[8..];
            continue;
        }
        let frame = wire::frame(rest, 131_072 + 8).expect("a frame").expect("a whole frame");
        rest = &rest[frame.len()..];
    }
}
