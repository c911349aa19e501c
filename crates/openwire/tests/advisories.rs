//! What who listens is told of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use broker::{Alarms, Session};
use openwire::{Command, connection::RemoveInfo, ids::ObjectId, message::Message, primitive};

use self::common::{World, dispatches, queue, topic};

/// What advisories tell, in short: the topic, the command and the count.
fn advisories(commands: Vec<Command<'static>>) -> Vec<String> {
    let told = |dispatch: openwire::message::MessageDispatch<'static>| {
        let message = dispatch.message?;
        let properties = primitive::entries(message.marshalled_properties.as_deref()?).ok()?;
        let count = properties.map_while(Result::ok).find(|(name, _)| name.ends_with("Count"));
        let count = count.map_or_else(String::new, |(_, count)| format!(" {count:?}"));
        let about = match *message.data_structure? {
            Command::ConnectionInfo(_) => "connection",
            Command::ConsumerInfo(_) => "consumer",
            Command::ProducerInfo(_) => "producer",
            Command::DestinationInfo(info) if info.operation_type == 0 => "destination",
            Command::DestinationInfo(_) => "no destination",
            Command::RemoveInfo(_) => "gone",
            _ => "?",
        };
        let topic = message.destination?.physical_name?;
        let to = if message.target_consumer_id.is_some() { " before" } else { "" };
        Some(format!("{} {about}{count}{to}", topic.trim_start_matches("ActiveMQ.Advisory.")))
    };
    dispatches(commands).into_iter().filter_map(told).collect()
}

#[test]
fn who_listens_is_told_of_connections_consumers_producers_and_queues() {
    let world = World::new();
    let mut client = world.connected("a");
    client.consume(1, queue("q"), 10);
    let mut listener = world.connected("b");
    listener.consume(1, topic("ActiveMQ.Advisory.Consumer.Queue.q,ActiveMQ.Advisory.Queue"), 1000);
    assert_eq!(advisories(listener.take()), ["Consumer.Queue.q consumer Int(1) before", "Queue destination before"]);
    listener.consume(2, topic("ActiveMQ.Advisory.>"), 1000);
    let before = advisories(listener.take());
    let expected =
        ["Queue destination", "Connection connection", "Connection connection", "Consumer.Queue.q consumer Int(1)"];
    assert_eq!(before, expected.map(|told| format!("{told} before")));
    // What the listener consumes itself is none of it.
    client.produce(queue("p"));
    client.consume(2, queue("q"), 10);
    let mut other = world.connected("c");
    other.session.disconnected(other.now);
    let twice = |told: Vec<String>, what: &str| told.iter().filter(|one| *one == what).count();
    let told = advisories(listener.take());
    assert_eq!(twice(told.clone(), "Queue destination"), 2, "{told:?}");
    assert_eq!(twice(told.clone(), "Consumer.Queue.q consumer Int(2)"), 2, "{told:?}");
    assert_eq!(twice(told.clone(), "Producer.Queue.p producer Int(1)"), 1, "{told:?}");
    assert_eq!(
        told.iter().filter(|one| one.starts_with("Connection")).collect::<Vec<_>>(),
        ["Connection connection", "Connection gone"]
    );
    client.session.disconnected(client.now);
    let told = advisories(listener.take());
    assert_eq!(told.last().unwrap(), "Connection gone");
    for gone in ["Consumer.Queue.q gone Int(0)", "Producer.Queue.p gone Int(0)"] {
        assert!(told.iter().any(|one| one == gone), "{gone} in {told:?}");
    }
    assert!(world.shared.directory.has_listeners());
    listener.session.disconnected(listener.now);
    assert!(!world.shared.directory.has_listeners());
}

/// The topics of advisories that have come, with the properties that tell something.
fn told(client: &mut common::Client) -> Vec<String> {
    let told = |dispatch: openwire::message::MessageDispatch<'static>| {
        let message = dispatch.message.unwrap();
        let topic = message.destination.unwrap().physical_name.unwrap();
        let mut told = topic.trim_start_matches("ActiveMQ.Advisory.").to_owned();
        if let Some(Command::Message(about)) = message.data_structure.as_deref() {
            assert!(about.content.is_none());
            told.push_str(&format!(" of {}", about.destination.as_ref().unwrap().physical_name.as_ref().unwrap()));
        }
        let properties = message.marshalled_properties.as_deref().unwrap_or_default();
        for (name, value) in primitive::entries(properties).unwrap().map(Result::unwrap) {
            match value {
                primitive::Value::Text(text) if !name.starts_with("origin") => told.push_str(&format!(" {text}")),
                _ => {}
            }
        }
        told
    };
    dispatches(client.take()).into_iter().map(told).collect()
}

fn listening(world: &World, pattern: &str) -> common::Client {
    let mut listener = world.connected("listener");
    listener.consume(1, topic(pattern), 1000);
    listener.take();
    listener
}

#[test]
fn who_listens_is_told_of_what_becomes_of_messages() {
    let world = World::new();
    let mut client = world.connected("a");
    let mut listener = listening(&world, "ActiveMQ.Advisory.*.Queue.q,ActiveMQ.Advisory.*.Topic.t");
    let id = |message: &Message<'static>| message.message_id.as_ref().unwrap().to_string();
    let message = client.message(&queue("q"), "expires");
    client.send(&Message { expiration: 1_000_500, ..message.clone() });
    let expires = id(&message);
    assert_eq!(told(&mut listener), [format!("MessageDelivered.Queue.q of q {expires} queue://q")]);
    client.wait(1_000);
    world.broker.set_time(client.now);
    world.broker.catch_up(std::task::Waker::noop());
    let expected = ["Expired", "MessageDLQd"].map(|kind| format!("{kind}.Queue.q of q {expires} queue://q"));
    assert_eq!(told(&mut listener), expected);
    // The same of topics, whose subscriptions are queues.
    let message = client.message(&topic("t"), "lost");
    client.send(&Message { persistent: false, ..message.clone() });
    assert_eq!(told(&mut listener), ["NoConsumer.Topic.t"]);
    client.consume(1, topic("t"), 10);
    let message = client.message(&topic("t"), "found");
    client.send(&message);
    let found = id(&message);
    let expected = ["Delivered", "Consumed"].map(|kind| format!("Message{kind}.Topic.t of t {found} topic://t"));
    assert_eq!(told(&mut listener)[1..], expected);
    // What is not persistent, and nobody consumes.
    let message = client.message(&queue("q"), "alone");
    client.send(&Message { persistent: false, ..message.clone() });
    let alone = format!("MessageDelivered.Queue.q of q {} queue://q", id(&message));
    assert_eq!(told(&mut listener), [alone, "NoConsumer.Queue.q".into()]);
    // Consumers with a full window.
    client.consume(2, queue("q"), 1);
    client.publish(&queue("q"), "waits");
    let slow = told(&mut listener).into_iter().find(|told| told.starts_with("SlowConsumer"));
    assert_eq!(slow, Some(format!("SlowConsumer.Queue.q {}", client.consumer_id(2))));
    listener.session.disconnected(listener.now);
    assert!(!world.shared.directory.has_listeners());
}

#[test]
fn who_listens_is_told_that_there_is_no_room() {
    let world = World::new();
    let mut client = world.connected("a");
    let mut listener = listening(&world, "ActiveMQ.Advisory.FULL.>,ActiveMQ.Advisory.FastProducer.>");
    world.broker.set_alarms(Alarms { memory: true, disk: false });
    client.publish(&queue("q"), "waits");
    client.publish(&queue("q"), "waits too");
    let producer = client.producer_id();
    assert_eq!(told(&mut listener), ["FULL.Queue.q memory".into(), format!("FastProducer.Queue.q {producer}")]);
}

#[test]
fn a_topic_is_there_while_it_has_consumers_or_producers() {
    let world = World::new();
    let mut client = world.connected("a");
    client.produce(topic("early"));
    let mut listener = world.connected("listener");
    listener.consume(1, topic("ActiveMQ.Advisory.Topic"), 1000);
    assert_eq!(advisories(listener.take()), ["Topic destination before"]);
    client.consume(1, topic("late"), 10);
    client.consume(2, topic("late"), 10);
    client.consume(3, topic("*"), 10);
    assert_eq!(advisories(listener.take()), ["Topic destination"]);
    let gone = |client: &common::Client, value| {
        let object_id = Some(ObjectId::Consumer(client.consumer_id(value)));
        RemoveInfo { object_id, last_delivered_sequence_id: -1, ..RemoveInfo::default() }
    };
    client.send(&gone(&client, 1));
    assert_eq!(advisories(listener.take()), Vec::<String>::new());
    client.send(&gone(&client, 2));
    assert_eq!(advisories(listener.take()), ["Topic no destination"]);
}
