//! Sessions that are sent damaged conversations: they answer in whole frames or end, and never panic.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{sync::Arc, task::Waker};

use broker::{
    Broker, Login, MemoryLog, Millis, Peer, Permissions, Recovered, Reply, Request, Session, Settings, Table, User,
    identity::Pattern, outlet::Chunks,
};
use proptest::prelude::*;
use roadstead_amqp091::{
    AmqpSession, PROTOCOL_HEADER,
    method::{Bits, Method},
    wire::{self, frame_type, put_frame},
};

fn broker() -> Arc<Broker> {
    let broker =
        Broker::new(Settings::default(), Arc::new(MemoryLog::default()), Recovered::default(), Millis(0)).unwrap();
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").unwrap();
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"guest".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    Arc::new(broker)
}

/// A conversation that touches most of the protocol, from the first byte on. With settlements it makes sense only if it
/// is sent bit by bit: nobody settles what has not come yet.
fn conversation(settlements: bool) -> Vec<u8> {
    let mut out = PROTOCOL_HEADER.to_vec();
    let arguments = Table::default;
    let (mechanism, response, locale) = ("PLAIN", &b"\0guest\0guest"[..], "en_US");
    Method::ConnectionStartOk { properties: arguments(), mechanism, response, locale }.put(&mut out, 0);
    Method::ConnectionTuneOk { channel_max: 100, frame_max: 4096, heartbeat: 0 }.put(&mut out, 0);
    Method::ConnectionOpen { vhost: "/", reserved_1: "", reserved_2: Bits(0) }.put(&mut out, 0);
    Method::ChannelOpen { reserved_1: "" }.put(&mut out, 1);
    let (ticket, queue, exchange, routing_key) = (0, "q", "amq.topic", "a.*.b");
    Method::QueueDeclare { ticket, queue, bits: Bits(4), arguments: arguments() }.put(&mut out, 1);
    Method::QueueBind { ticket, queue, exchange, routing_key, bits: Bits(0), arguments: arguments() }.put(&mut out, 1);
    Method::ConfirmSelect { bits: Bits(0) }.put(&mut out, 1);
    let bits = Bits(0);
    Method::BasicConsume { ticket, queue, consumer_tag: "c", bits, arguments: arguments() }.put(&mut out, 1);
    for body in [&b"hello"[..], b"", b"world"] {
        Method::BasicPublish { ticket, exchange, routing_key: "a.x.b", bits: Bits(1) }.put(&mut out, 1);
        put_frame(&mut out, frame_type::HEADER, 1, |out| {
            out.extend_from_slice(&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, body.len() as u8, 0x10, 0, 2]);
        });
        if !body.is_empty() {
            put_frame(&mut out, frame_type::BODY, 1, |out| out.extend_from_slice(body));
        }
    }
    if settlements {
        Method::BasicAck { delivery_tag: 1, bits: Bits(0) }.put(&mut out, 1);
        Method::BasicNack { delivery_tag: 0, bits: Bits(3) }.put(&mut out, 1);
    }
    Method::BasicCancel { consumer_tag: "c", bits: Bits(0) }.put(&mut out, 1);
    Method::BasicGet { ticket, queue, bits: Bits(0) }.put(&mut out, 1);
    Method::QueueDelete { ticket, queue, bits: Bits(0) }.put(&mut out, 1);
    Method::ConnectionClose { code: 200, text: "", class: 0, method: 0 }.put(&mut out, 0);
    out
}

/// Sends input in pieces and returns how many frames came back, confirms apart: neighbours share one if they come together.
fn converse(input: &[u8], piece: usize) -> usize {
    let peer = Peer::default();
    let mut session = AmqpSession::new(broker(), Arc::default(), peer, Millis(0));
    let (mut left, mut frames) = (Vec::new(), 0);
    for bytes in input.chunks(piece) {
        left.extend_from_slice(bytes);
        session.poll(Millis(0), Waker::noop());
        let used = session.receive(&left, Millis(0));
        left.drain(..used);
        if let Some(Request::Authenticate(credentials)) = session.request() {
            session.reply(Reply::Login(Login::Accepted(credentials.user().clone().into())), Millis(0));
            let used = session.receive(&left, Millis(0));
            left.drain(..used);
        }
        frames += whole_frames(&session);
    }
    session.disconnected(Millis(0));
    frames
}

fn whole_frames(session: &AmqpSession) -> usize {
    let mut chunks = Chunks::default();
    session.outlet().drain(&mut chunks, Waker::noop());
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let (mut rest, mut count) = (&bytes[..], 0);
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            rest = &rest[8..];
            continue;
        }
        let frame = wire::frame(rest, 131_072).unwrap().expect("sessions write whole frames");
        rest = &rest[frame.len()..];
        count += usize::from(!frame.payload.starts_with(&[0, 60, 0, 80]));
    }
    count
}

#[test]
fn the_pieces_in_which_input_comes_make_no_difference() {
    let input = conversation(false);
    let whole = converse(&input, input.len());
    assert_eq!(whole, 20, "every method is answered");
    for piece in 1..64 {
        assert_eq!(converse(&input, piece), whole, "in pieces of {piece}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_conversations_are_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        piece in 1usize..400,
    ) {
        let mut input = conversation(true);
        for (at, byte) in damage {
            let at = at.index(input.len());
            input[at] = byte;
        }
        let end = if cut.index(4) == 0 { cut.index(input.len()) } else { input.len() };
        converse(&input[..end], piece);
    }
}
