//! Input that no client library sends: each connection ends as it should, nobody else notices, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use broker::Session;
use openwire::{
    Command,
    connection::{
        ConnectionInfo, ConsumerInfo, DestinationInfo, ProducerInfo, RemoveInfo, RemoveSubscriptionInfo, SessionInfo,
        TransactionInfo,
    },
    ids::Destination,
    message::{Message, MessageAck, MessagePull},
};
use proptest::{prelude::*, test_runner::RngSeed};

use self::common::{Client, World, answers, queue, topic};

/// Somebody else does what clients do.
fn assert_serves(world: &World, after: &str) {
    let mut good = world.connected("good");
    good.consume(1, queue("as.usual"), 10);
    let number = good.publish(&queue("as.usual"), "x");
    let commands = good.take();
    assert!(answers(&commands).contains(&format!("done {number}")), "after {after}");
    assert!(commands.iter().any(|command| matches!(command, Command::MessageDispatch(_))), "after {after}");
    good.session.disconnected(good.now);
}

#[test]
fn before_a_login_frames_are_short_and_few() {
    for (what, bytes) in [
        ("a length beyond the limit", &[0x7f, 0xff, 0xff, 0xff, 1][..]),
        ("a negative length", &[0xff, 0xff, 0xff, 0xff]),
        ("a frame of 65 KiB", &[0, 1, 0, 1]),
        ("an unknown type", &[0, 0, 0, 2, 200, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
        ("another magic", b"\0\0\0\x0e\x01ActiveMX\0\0\0\x0c\0"),
        ("a version of 0", b"\0\0\0\x0e\x01ActiveMQ\0\0\0\0\0"),
    ] {
        let world = World::new();
        let mut client = world.client();
        client.bytes(bytes);
        let told = answers(&client.take());
        assert!(told.len() == 1 && told[0].starts_with("error: java.io.IOException"), "{what}: {told:?}");
        assert!(client.session.finished().is_some(), "{what}");
        assert_serves(&world, what);
    }
}

#[test]
fn half_a_frame_keeps_nothing_but_itself_waiting() {
    let world = World::new();
    let mut client = world.client();
    client.bytes(&[0, 0, 1, 0, 1]);
    client.wait(world.settings.handshake_ms);
    assert!(client.session.finished().is_some());
    assert_serves(&world, "half a frame");
}

#[test]
fn the_format_is_negotiated_once() {
    let world = World::new();
    let mut client = world.connected("a");
    client.take();
    client.send(&openwire::Offer::default().info());
    assert_eq!(answers(&client.take()), ["error: java.io.IOException: the wire format is negotiated already"]);
    assert!(client.session.finished().is_some());
}

/// Sends a command that is answered, to a client that is in. Returns the answer.
fn answered(world: &World, command: impl Into<Command<'static>>) -> String {
    let mut client = world.connected("bad");
    client.take();
    let mut command = command.into();
    set_base(&mut command);
    client.send(&command);
    let told = answers(&client.take());
    assert_eq!(told.len(), 1, "{command:?}: {told:?}");
    assert!(client.session.finished().is_none(), "{command:?}");
    client.session.disconnected(client.now);
    assert_serves(world, &told[0]);
    told[0].clone()
}

fn set_base(command: &mut Command<'static>) {
    let base = match command {
        Command::Message(message) => &mut message.base,
        Command::MessageAck(ack) => &mut ack.base,
        Command::MessagePull(pull) => &mut pull.base,
        Command::ConnectionInfo(info) => &mut info.base,
        Command::SessionInfo(info) => &mut info.base,
        Command::ConsumerInfo(info) => &mut info.base,
        Command::ProducerInfo(info) => &mut info.base,
        Command::DestinationInfo(info) => &mut info.base,
        Command::RemoveInfo(info) => &mut info.base,
        Command::RemoveSubscriptionInfo(info) => &mut info.base,
        Command::TransactionInfo(info) => &mut info.base,
        other => panic!("{other:?} has no number"),
    };
    (base.command_id, base.response_required) = (7, true);
}

#[test]
fn commands_without_what_they_need_are_refused_alone() {
    let world = World::new();
    let refused = |command: Command<'static>, class: &str| {
        let told = answered(&world, command.clone());
        assert!(told.starts_with(&format!("refused 7: {class}")), "{command:?}: {told}");
    };
    let none = Destination::default();
    refused(Message::default().boxed(), "javax.jms.InvalidDestinationException");
    refused(
        Message { destination: Some(none.clone()), ..Message::default() }.boxed(),
        "javax.jms.InvalidDestinationException",
    );
    refused(
        Message { destination: Some(topic("a.>")), ..Message::default() }.boxed(),
        "javax.jms.InvalidDestinationException",
    );
    refused(
        Message { destination: Some(queue(&"x".repeat(300))), ..Message::default() }.boxed(),
        "javax.jms.InvalidDestinationException",
    );
    refused(ConsumerInfo::default().boxed(), "javax.jms.JMSException: a consumer without an id");
    refused(ProducerInfo::default().into(), "javax.jms.JMSException: a producer without an id");
    refused(DestinationInfo::default().into(), "javax.jms.JMSException");
    refused(
        DestinationInfo { destination: Some(queue("q")), operation_type: 9, ..DestinationInfo::default() }.into(),
        "javax.jms.JMSException",
    );
    refused(TransactionInfo::default().into(), "javax.jms.JMSException: a transaction without an id");
    refused(RemoveSubscriptionInfo::default().into(), "javax.jms.InvalidDestinationException");
    for harmless in [
        RemoveInfo::default().into(),
        SessionInfo::default().into(),
        ConnectionInfo::default().boxed(),
        MessageAck::default().boxed(),
        MessagePull::default().boxed(),
    ] {
        assert_eq!(answered(&world, harmless), "done 7");
    }
}

/// Large commands are boxed.
trait Boxed {
    fn boxed(self) -> Command<'static>;
}

impl<T> Boxed for T
where
    Command<'static>: From<Box<T>>,
{
    fn boxed(self) -> Command<'static> {
        Box::new(self).into()
    }
}

#[test]
fn a_frame_in_very_many_pieces_takes_linear_time() {
    let world = World::new();
    let mut client = world.connected("a");
    client.take();
    let text = "x".repeat(200_000);
    let message = client.message(&queue("q"), &text);
    let mut bytes = Vec::new();
    client.encoder.encode(&message, &mut bytes).unwrap();
    let begun = Instant::now();
    // What is not used is offered again with more behind it, so this is only about what the session does with it.
    let mut used = 0;
    for end in (0..bytes.len()).step_by(2).chain([bytes.len()]) {
        used += client.session.receive(&bytes[used..end], client.now);
    }
    assert_eq!(used, bytes.len());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(answers(&client.take()).len(), 1);
}

/// What a usual client sends, frame by frame.
fn conversation(client: &mut Client) -> Vec<Vec<u8>> {
    let commands: Vec<Command<'static>> = vec![
        SessionInfo::default().into(),
        ProducerInfo {
            producer_id: Some(client.producer_id()),
            destination: Some(queue("q")),
            ..ProducerInfo::default()
        }
        .into(),
        ConsumerInfo {
            consumer_id: Some(client.consumer_id(1)),
            destination: Some(queue("q,topic://t.>")),
            prefetch_size: 5,
            ..ConsumerInfo::default()
        }
        .boxed(),
        client.message(&queue("q"), "one").boxed(),
        client.message(&topic("t.x"), "two").boxed(),
        TransactionInfo { transaction_type: 5, ..TransactionInfo::default() }.into(),
        DestinationInfo { destination: Some(queue("other")), ..DestinationInfo::default() }.into(),
    ];
    let frame = |command: &Command<'static>| {
        let mut bytes = Vec::new();
        client.encoder.encode(command, &mut bytes).unwrap();
        bytes
    };
    commands.iter().map(frame).collect()
}

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(300, 21))]

    /// A conversation with damage in it does not hurt others, and leaves nothing behind.
    #[test]
    fn damage_ends_one_connection_at_most(place in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<bool>()) {
        let world = World::new();
        let mut client = world.connected("bad");
        client.take();
        let mut bytes = conversation(&mut client).concat();
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] ^= flip;
        }
        client.bytes(&bytes);
        client.session.disconnected(client.now);
        assert_serves(&world, "damage");
        let vhost = world.broker.vhost("/").unwrap();
        let left = vhost.read().queues().filter(|queue| queue.name.starts_with("openwire-")).count();
        prop_assert_eq!(left, 0, "queues of subscriptions go with their connections");
    }

    /// Any bytes are refused or mean something.
    #[test]
    fn any_bytes_end_in_order(bytes in prop::collection::vec(any::<u8>(), 0..400), is_in in any::<bool>()) {
        let world = World::new();
        let mut client = if is_in { world.connected("bad") } else { world.client() };
        client.bytes(&bytes);
        client.session.disconnected(client.now);
        assert_serves(&world, "any bytes");
    }
}
