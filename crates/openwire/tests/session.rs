//! Conversations of clients with a broker, command by command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use broker::{Alarms, MemoryLog, Session, session::Intake};
use openwire::{
    Command, Settings,
    connection::{
        ConnectionInfo, ConsumerControl, ConsumerInfo, DestinationInfo, RemoveInfo, TransactionInfo, transaction_type,
    },
    ids::{Destination, DestinationKind, LocalTransactionId, ObjectId, TransactionId},
    message::{Message, MessagePull, ack_type},
    primitive,
    throwable::Throwable,
};

use self::common::{World, answers, dispatches, queue, topic};

#[test]
fn a_message_is_answered_once_it_is_safe() {
    let world = World::with(MemoryLog::manual());
    let mut client = world.connected("a");
    client.take();
    let destination = queue("q");
    let first = client.publish(&destination, "one");
    let second = client.publish(&destination, "two");
    assert_eq!(answers(&client.take()), Vec::<String>::new());
    world.log.commit();
    assert_eq!(answers(&client.take()), [format!("done {first}"), format!("done {second}")]);
}

#[test]
fn a_consumer_is_answered_before_its_first_message() {
    let world = World::new();
    let mut client = world.connected("a");
    client.publish(&queue("q"), "one");
    client.take();
    client.consume(1, queue("q"), 10);
    let commands = client.take();
    assert!(matches!(&commands[..], [Command::Response(_), Command::MessageDispatch(_)]), "{commands:?}");
}

#[test]
fn what_a_consumer_leaves_comes_again_and_what_it_saw_is_marked() {
    let world = World::new();
    let mut client = world.connected("a");
    for text in ["one", "two", "three"] {
        client.publish(&queue("q"), text);
    }
    client.take();
    client.consume(1, queue("q"), 10);
    let seen = dispatches(client.take());
    let number = seen[0].message.as_ref().unwrap().message_id.as_ref().unwrap().broker_sequence_id;
    let object_id = Some(ObjectId::Consumer(client.consumer_id(1)));
    client.send(&RemoveInfo { object_id, last_delivered_sequence_id: number, ..RemoveInfo::default() });
    client.consume(2, queue("q"), 10);
    assert_eq!(client.texts(), ["one!", "two", "three"]);
    client.session.disconnected(client.now);
    let mut other = world.connected("b");
    other.consume(1, queue("q"), 10);
    assert_eq!(other.texts(), ["one!!", "two!", "three!"]);
}

#[test]
fn a_dead_letter_tells_where_it_was() {
    let world = World::new();
    let mut client = world.connected("a");
    let message = client.message(&queue("q"), "one");
    client.send(&Message { expiration: 1_000_500, ..message });
    client.consume(1, queue("q"), 10);
    let got = dispatches(client.take());
    let mut ack = client.acknowledge(ack_type::REDELIVERED, &got[0], &got[0]);
    ack.ack_type = ack_type::POISON;
    ack.poison_cause = Some(Box::new(Throwable::new("java.lang.Throwable", "exceeds the policy")));
    client.send(&ack);
    client.wait(1_000);
    client.consume(2, queue("ActiveMQ.DLQ"), 10);
    let letters = dispatches(client.take());
    let letter = letters[0].message.as_ref().unwrap();
    assert_eq!(letter.destination, Some(queue("ActiveMQ.DLQ")));
    assert_eq!(letter.original_destination, Some(queue("q")));
    assert_eq!(letter.expiration, 0);
    let properties = letter.marshalled_properties.as_deref().unwrap();
    let properties: Vec<_> = primitive::entries(properties).unwrap().map(Result::unwrap).collect();
    let expected = [
        ("dlqDeliveryFailureCause".into(), primitive::Value::Text("java.lang.Throwable: exceeds the policy".into())),
        ("originalExpiration".into(), primitive::Value::Long(1_000_500)),
    ];
    assert_eq!(properties, expected);
}

#[test]
fn acknowledgements_take_one_or_all_up_to_one() {
    let world = World::new();
    let mut client = world.connected("a");
    for text in ["one", "two", "three", "four"] {
        client.publish(&queue("q"), text);
    }
    client.take();
    client.consume(1, queue("q"), 10);
    let got = dispatches(client.take());
    client.acknowledge(ack_type::INDIVIDUAL, &got[3], &got[3]);
    client.acknowledge(ack_type::STANDARD, &got[0], &got[1]);
    // Those of another connection, or said twice, mean nothing.
    client.acknowledge(ack_type::STANDARD, &got[0], &got[1]);
    let counts = world.broker.counts(&world.broker.queue(&world.broker.operator("/").unwrap(), "q").unwrap());
    assert_eq!((counts.ready, counts.held), (0, 1));
}

#[test]
fn a_window_opens_with_what_has_arrived() {
    let world = World::new();
    let mut client = world.connected("a");
    for text in ["one", "two", "three", "four"] {
        client.publish(&queue("q"), text);
    }
    client.take();
    client.consume(1, queue("q"), 2);
    let got = dispatches(client.take());
    assert_eq!(got.len(), 2);
    client.acknowledge(ack_type::DELIVERED, &got[0], &got[0]);
    assert_eq!(client.texts(), ["three"]);
    // It has opened for this one already.
    client.acknowledge(ack_type::STANDARD, &got[0], &got[0]);
    assert_eq!(client.texts(), Vec::<String>::new());
    client.acknowledge(ack_type::STANDARD, &got[1], &got[1]);
    assert_eq!(client.texts(), ["four"]);
    let control =
        ConsumerControl { consumer_id: Some(client.consumer_id(1)), prefetch: 10, ..ConsumerControl::default() };
    client.publish(&queue("q"), "five");
    client.send(&control);
    assert_eq!(client.texts(), ["five"]);
}

fn transaction(client: &common::Client, step: i8) -> TransactionInfo<'static> {
    let id = LocalTransactionId { value: 1, connection_id: Some(client.connection_id()) };
    TransactionInfo {
        connection_id: Some(client.connection_id()),
        transaction_id: Some(TransactionId::Local(id)),
        transaction_type: step,
        ..TransactionInfo::default()
    }
}

#[test]
fn a_transaction_is_there_as_a_whole() {
    let world = World::with(MemoryLog::manual());
    let mut client = world.connected("a");
    let mut other = world.connected("b");
    client.publish(&queue("from"), "in");
    world.log.commit();
    client.take();
    client.consume(1, queue("from"), 10);
    other.consume(1, queue("to"), 10);
    world.log.commit();
    let got = dispatches(client.take());
    other.take();
    client.send(&transaction(&client, transaction_type::BEGIN));
    let mut message = client.message(&queue("to"), "out");
    message.transaction_id = transaction(&client, 0).transaction_id;
    client.send(&message);
    let mut ack = client.acknowledge(ack_type::REDELIVERED, &got[0], &got[0]);
    (ack.ack_type, ack.transaction_id) = (ack_type::STANDARD, transaction(&client, 0).transaction_id);
    client.send(&ack);
    client.take();
    assert_eq!(other.texts(), Vec::<String>::new());
    let mut commit = transaction(&client, transaction_type::COMMIT_ONE_PHASE);
    (commit.base.command_id, commit.base.response_required) = (99, true);
    client.send(&commit);
    assert_eq!(answers(&client.take()), Vec::<String>::new());
    world.log.commit();
    assert_eq!(answers(&client.take()), ["done 99"]);
    assert_eq!(other.texts(), ["out"]);
    client.session.disconnected(client.now);
    let counts = world.broker.counts(&world.broker.queue(&world.broker.operator("/").unwrap(), "from").unwrap());
    assert_eq!((counts.ready, counts.held), (0, 0));
}

#[test]
fn a_rolled_back_acknowledgement_leaves_the_message_with_its_consumer() {
    let world = World::new();
    let mut client = world.connected("a");
    client.publish(&queue("q"), "one");
    client.take();
    client.consume(1, queue("q"), 10);
    let got = dispatches(client.take());
    let mut ack = client.acknowledge(ack_type::REDELIVERED, &got[0], &got[0]);
    (ack.ack_type, ack.transaction_id) = (ack_type::STANDARD, transaction(&client, 0).transaction_id);
    client.send(&ack);
    client.send(&transaction(&client, transaction_type::ROLLBACK));
    // The client has it, and gives it to the application again by itself.
    assert_eq!(client.texts(), Vec::<String>::new());
    let counts = || world.broker.counts(&world.broker.queue(&world.broker.operator("/").unwrap(), "q").unwrap());
    assert_eq!((counts().ready, counts().held), (0, 1));
    client.acknowledge(ack_type::STANDARD, &got[0], &got[0]);
    assert_eq!((counts().ready, counts().held), (0, 0));
}

#[test]
fn a_transaction_of_which_something_failed_is_not_committed() {
    let world = World::new();
    let mut client = world.client();
    client.connect("a", "reader");
    client.take();
    let mut message = client.message(&queue("forbidden"), "out");
    message.base.response_required = false;
    message.transaction_id = transaction(&client, 0).transaction_id;
    client.send(&message);
    let mut commit = transaction(&client, transaction_type::COMMIT_ONE_PHASE);
    (commit.base.command_id, commit.base.response_required) = (99, true);
    client.send(&commit);
    let told = answers(&client.take());
    assert!(told[0].starts_with("error: java.lang.SecurityException: "), "{told:?}");
    assert!(told[1].starts_with("refused 99: javax.jms.TransactionRolledBackException: "), "{told:?}");
}

#[test]
fn a_pull_ends_in_time() {
    let world = World::new();
    let mut client = world.connected("a");
    client.consume(1, queue("q"), 0);
    client.publish(&queue("q"), "one");
    assert_eq!(client.texts(), Vec::<String>::new());
    let pull = |timeout| MessagePull { consumer_id: Some(client_id()), timeout, ..MessagePull::default() };
    fn client_id() -> openwire::ids::ConsumerId<'static> {
        openwire::ids::ConsumerId { connection_id: Some("a".into()), session_id: 1, value: 1 }
    }
    client.send(&pull(100));
    assert_eq!(client.texts(), ["one"]);
    client.send(&pull(100));
    client.wait(99);
    assert_eq!(client.texts(), Vec::<String>::new());
    client.wait(1);
    assert_eq!(client.texts(), ["(nothing)"]);
    client.send(&pull(-1));
    assert_eq!(client.texts(), ["(nothing)"]);
    // What comes after the end is not for a pull that is over.
    client.publish(&queue("q"), "two");
    assert_eq!(client.texts(), Vec::<String>::new());
    client.send(&pull(0));
    assert_eq!(client.texts(), ["two"]);
}

#[test]
fn the_last_connection_of_a_client_wins() {
    let world = World::new();
    let mut first = world.connected("a");
    first.publish(&queue("q"), "one");
    first.consume(1, queue("q"), 10);
    first.take();
    let mut second = world.connected("a");
    // The first has to be told and to end, before the second is in.
    assert_eq!(answers(&second.take()), Vec::<String>::new());
    first.work();
    assert!(first.session.finished().is_some());
    assert_eq!(answers(&second.take()), ["done 1"]);
    second.consume(1, queue("q"), 10);
    assert_eq!(second.texts(), ["one!"]);
    // Another client may not have the name.
    let mut third = world.client();
    third.name = "a".into();
    third.negotiate();
    let mut info = third.connection_info("guest");
    info.connection_id = Some(openwire::ids::ConnectionId { value: Some("other".into()) });
    third.send(&info);
    let told = answers(&third.take());
    assert!(
        told[0]
            .contains("javax.jms.InvalidClientIDException: Broker: roadstead - Client: client of a already connected"),
        "{told:?}"
    );
}

#[test]
fn temporary_destinations_are_told_of() {
    let world = World::new();
    let mut client = world.connected("a");
    let mut other = world.connected("b");
    let temporary = Destination { kind: DestinationKind::TempQueue, physical_name: Some("a:1".into()) };
    let info = |operation_type| DestinationInfo {
        connection_id: Some(openwire::ids::ConnectionId { value: Some("a".into()) }),
        destination: Some(Destination { kind: DestinationKind::TempQueue, physical_name: Some("a:1".into()) }),
        operation_type,
        ..DestinationInfo::default()
    };
    client.send(&info(0));
    let advisories = "ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic";
    other.consume(1, topic(advisories), 1000);
    let told = |commands| -> Vec<_> {
        let structure =
            |dispatch: openwire::message::MessageDispatch<'static>| match *dispatch.message?.data_structure? {
                Command::DestinationInfo(info) => Some((info.destination?.to_string(), info.operation_type)),
                _ => None,
            };
        dispatches(commands).into_iter().filter_map(structure).collect()
    };
    assert_eq!(told(other.take()), [("temp-queue://a:1".to_owned(), 0)]);
    other.publish(&temporary, "a reply");
    client.consume(1, temporary.clone(), 10);
    assert_eq!(client.texts(), ["a reply"]);
    other.consume(2, temporary, 10);
    let refused = answers(&other.take());
    assert!(
        refused.last().unwrap().contains("Cannot use a Temporary destination from another Connection"),
        "{refused:?}"
    );
    client.send(&info(1));
    assert_eq!(answers(&client.take()), [""; 0], "though it is consumed");
    assert_eq!(told(other.take()), [("temp-queue://a:1".to_owned(), 1)]);
    client.send(&info(0));
    assert_eq!(told(other.take()), [("temp-queue://a:1".to_owned(), 0)]);
    client.session.disconnected(client.now);
    assert_eq!(told(other.take()), [("temp-queue://a:1".to_owned(), 1)]);
}

#[test]
fn who_is_silent_is_given_up() {
    let world = World::new();
    let mut client = world.connected("a");
    client.take();
    client.wait(10_000);
    assert!(client.take().iter().any(|command| matches!(command, Command::KeepAliveInfo(_))));
    client.wait(20_000);
    let told = answers(&client.take());
    assert_eq!(told, ["error: java.io.IOException: Channel was inactive for too (>30000) long"]);
    assert!(client.session.finished().is_some());
}

#[test]
fn nobody_is_in_without_a_login() {
    let world = World::new();
    let mut client = world.client();
    client.connect("a", "nobody");
    let told = answers(&client.take());
    assert_eq!(told, ["refused 1: java.lang.SecurityException: User name [nobody] or password is invalid."]);
    let mut client = world.client();
    client.name = "b".into();
    client.negotiate();
    client.publish(&queue("q"), "one");
    assert_eq!(answers(&client.take()), ["error: java.lang.SecurityException: the client has not logged in"]);
    assert!(client.session.finished().is_some());
}

#[test]
fn under_an_alarm_messages_wait_and_acknowledgements_do_not() {
    let world = World::new();
    let mut client = world.connected("a");
    client.publish(&queue("q"), "one");
    client.take();
    client.consume(1, queue("q"), 10);
    let got = dispatches(client.take());
    world.broker.set_alarms(Alarms { memory: true, disk: false });
    let held = client.publish(&queue("q"), "two");
    client.acknowledge(ack_type::STANDARD, &got[0], &got[0]);
    assert_eq!(answers(&client.take()), Vec::<String>::new());
    let counts = || world.broker.counts(&world.broker.queue(&world.broker.operator("/").unwrap(), "q").unwrap());
    assert_eq!((counts().ready, counts().held), (0, 0));
    // What comes after the message waits for it, and in the end nothing is read.
    let large = "x".repeat(600_000);
    let more = [client.publish(&queue("q"), &large), client.publish(&queue("q"), &large)];
    assert_eq!(client.session.intake(), Intake::Paused);
    world.broker.set_alarms(Alarms::default());
    let told = answers(&client.take());
    assert_eq!(told, [held, more[0], more[1]].map(|number| format!("done {number}")));
    assert_eq!(client.session.intake(), Intake::Open);
}

#[test]
fn the_messages_of_a_group_go_to_one_consumer() {
    let world = World::new();
    let mut one = world.connected("a");
    let mut other = world.connected("b");
    one.consume(1, queue("q"), 10);
    other.consume(1, queue("q"), 10);
    one.take();
    other.take();
    for (text, group, sequence) in [("x1", "x", 1), ("x2", "x", 2), ("y1", "y", 1), ("x3", "x", -1), ("x4", "x", 1)] {
        let message = one.message(&queue("q"), text);
        one.send(&Message { group_id: Some(group.into()), group_sequence: sequence, ..message });
    }
    let told = |commands| -> Vec<_> {
        let told = |dispatch: openwire::message::MessageDispatch<'static>| {
            let message = dispatch.message.unwrap();
            let text = openwire::body::text(message.content.as_deref().unwrap()).unwrap().unwrap().to_string();
            (text, message.group_id.unwrap().to_string(), message.jmsx_group_first_for_consumer)
        };
        dispatches(commands).into_iter().map(told).collect()
    };
    let of = |text: &str, group: &str, is_first| (text.to_owned(), group.to_owned(), is_first);
    // The group was ended, and began again with whose turn it was.
    assert_eq!(told(one.take()), [of("x1", "x", true), of("x2", "x", false), of("x3", "x", false)]);
    assert_eq!(told(other.take()), [of("y1", "y", true), of("x4", "x", true)]);
}

#[test]
fn an_exclusive_consumer_keeps_others_waiting() {
    let world = World::new();
    let mut one = world.connected("a");
    let mut other = world.connected("b");
    let mut third = world.connected("c");
    one.consume(1, queue("q"), 10);
    for client in [&mut other, &mut third] {
        let info = client.consumer_info(1, queue("q"), 10);
        client.send(&ConsumerInfo { exclusive: true, ..info });
        client.take();
    }
    one.publish(&queue("q"), "one");
    one.publish(&queue("q"), "two");
    assert_eq!(other.texts(), ["one", "two"]);
    other.session.disconnected(other.now);
    assert_eq!(third.texts(), ["one!", "two!"]);
    third.session.disconnected(third.now);
    assert_eq!(one.texts(), ["one!!", "two!!"]);
}

#[test]
fn persistent_messages_that_expire_are_dead_letters() {
    let world = World::new();
    let mut client = world.connected("a");
    let send = |client: &mut common::Client, text, persistent, expiration| {
        let message = client.message(&queue("q"), text);
        client.send(&Message { persistent, expiration, ..message });
    };
    send(&mut client, "waits", true, 1_000_500);
    send(&mut client, "is transient", false, 1_000_500);
    client.wait(1_000);
    world.broker.set_time(client.now);
    world.broker.catch_up(std::task::Waker::noop());
    // The client's clock may be ahead of the broker's.
    send(&mut client, "is old when it comes", true, 1_005_000);
    client.consume(1, queue("q"), 10);
    let got = dispatches(client.take());
    client.acknowledge(ack_type::EXPIRED, &got[0], &got[0]);
    client.consume(2, queue("ActiveMQ.DLQ"), 10);
    let letters = dispatches(client.take());
    let told = |dispatch: &openwire::message::MessageDispatch<'static>| {
        let message = dispatch.message.as_ref().unwrap();
        let properties = primitive::entries(message.marshalled_properties.as_deref().unwrap()).unwrap();
        let (_, cause) = properties.map(Result::unwrap).next().unwrap();
        (openwire::body::text(message.content.as_deref().unwrap()).unwrap().unwrap().to_string(), format!("{cause:?}"))
    };
    let expired = |at| {
        let cause = format!("java.lang.Throwable: Message Expired. Expiration:{at}");
        format!("{:?}", primitive::Value::Text(cause.as_str().into()))
    };
    let expected = [("waits".to_owned(), expired(1_000_500)), ("is old when it comes".to_owned(), expired(1_005_000))];
    assert_eq!(letters.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn a_retroactive_consumer_gets_what_its_topics_remember() {
    let world = World::new();
    let mut client = world.connected("a");
    for (name, text) in [("prices.a", "one"), ("prices.b", "two"), ("prices.a", "three"), ("other", "four")] {
        client.publish(&topic(name), text);
    }
    client.take();
    client.consume(1, topic("prices.*"), 10);
    assert_eq!(client.texts(), Vec::<String>::new());
    let mut retroactive = |value, selector: Option<&'static str>, name: Option<&'static str>| {
        let info = client.consumer_info(value, topic("prices.>"), 10);
        let (selector, subscription_name) = (selector.map(Into::into), name.map(Into::into));
        client.send(&ConsumerInfo { retroactive: true, selector, subscription_name, ..info });
        client.texts()
    };
    assert_eq!(retroactive(2, None, None), ["two", "three"]);
    assert_eq!(retroactive(3, Some("JMSPriority = 9"), None), Vec::<String>::new());
    assert_eq!(retroactive(4, Some("JMSPriority = 0"), Some("durable")), ["two", "three"]);
    let gone = Some(ObjectId::Consumer(client.consumer_id(4)));
    client.send(&RemoveInfo { object_id: gone, last_delivered_sequence_id: -1, ..RemoveInfo::default() });
    client.publish(&topic("prices.c"), "five");
    // A durable subscription that is there is given nothing but what waits for it.
    let info = client.consumer_info(5, topic("prices.>"), 10);
    let (selector, subscription_name) = (Some("JMSPriority = 0".into()), Some("durable".into()));
    client.take();
    client.send(&ConsumerInfo { retroactive: true, selector, subscription_name, ..info });
    assert_eq!(client.texts(), ["two", "three", "five"]);
}

#[test]
fn a_retroactive_consumer_gets_the_last_message_that_asked_to_be_retained() {
    let world = World::new();
    let mut client = world.connected("a");
    let properties = |name: &str| {
        let mut bytes = Vec::new();
        primitive::put_map(&mut bytes, &[(name.to_owned().into(), primitive::Value::Bool(true))]).unwrap();
        Some(bytes.into())
    };
    for (text, name) in [("one", "ActiveMQ.Retain"), ("two", "ActiveMQ.Retain"), ("three", "other")] {
        let message = client.message(&topic("states.a"), text);
        client.send(&Message { marshalled_properties: properties(name), ..message });
    }
    client.take();
    let info = client.consumer_info(1, topic("states.>"), 10);
    client.send(&ConsumerInfo { retroactive: true, ..info });
    let got = dispatches(client.take());
    let message = got[0].message.as_ref().unwrap();
    assert_eq!((got.len(), &message.marshalled_properties), (1, &properties("ActiveMQ.Retained")));
    assert_eq!(common::dispatched(&Command::MessageDispatch(got[0].clone())).unwrap().0, "two");
}

#[test]
fn numbers_are_told_to_who_asks_by_a_message() {
    let world = World::new();
    let mut client = world.connected("a");
    client.publish(&queue("q"), "one");
    client.publish(&queue("p.a"), "two");
    client.publish(&queue("p.b"), "three");
    client.consume(1, queue("replies"), 10);
    client.take();
    let mut ask = |name: &str| {
        let question = client.message(&queue(name), "");
        let correlation_id = Some("7".into());
        client.send(&Message { reply_to: Some(queue("replies")), correlation_id, ..question });
        let numbers = |dispatch: openwire::message::MessageDispatch<'static>| {
            let message = dispatch.message.unwrap();
            assert_eq!(message.correlation_id.as_deref(), Some("7"));
            let entries: Vec<_> =
                primitive::entries(message.content.as_deref().unwrap()).unwrap().map(Result::unwrap).collect();
            let find =
                |name: &str| entries.iter().find(|(key, _)| **key == *name).map(|(_, value)| format!("{value:?}"));
            (find("destinationName").or_else(|| find("brokerName")).unwrap(), find("size").unwrap())
        };
        let mut told: Vec<_> = dispatches(client.take()).into_iter().map(numbers).collect();
        told.sort();
        told
    };
    let of = |name: &str, size: i64| {
        (format!("{:?}", primitive::Value::Text(name.into())), format!("{:?}", primitive::Value::Long(size)))
    };
    assert_eq!(ask("ActiveMQ.Statistics.Destination.q"), [of("queue://q", 1)]);
    assert_eq!(ask("ActiveMQ.Statistics.Destination.p.*"), [of("queue://p.a", 1), of("queue://p.b", 1)]);
    // The replies are still with the client.
    assert_eq!(ask("ActiveMQ.Statistics.Broker"), [of("roadstead", 6)]);
}

#[test]
fn a_consumer_of_a_pattern_gets_queues_that_are_made_later() {
    let world = World::new();
    let mut client = world.connected("a");
    let mut other = world.connected("b");
    other.publish(&queue("orders.a"), "one");
    client.consume(1, queue("orders.>"), 10);
    assert_eq!(client.texts(), ["one"]);
    other.publish(&queue("orders.b.c"), "two");
    other.publish(&queue("other"), "three");
    assert_eq!(client.texts(), ["two"]);
    other.publish(&queue("orders.b.c"), "four");
    let got = dispatches(client.take());
    assert_eq!(got[0].destination, Some(queue("orders.b.c")));
    client.acknowledge(ack_type::STANDARD, &got[0], &got[0]);
    // One goes, and comes again.
    world
        .broker
        .delete_queue(&world.broker.operator("/").unwrap(), "orders.b.c", broker::DeleteRule::default())
        .unwrap();
    assert_eq!(client.take().len(), 0);
    other.publish(&queue("orders.a"), "five");
    other.publish(&queue("orders.b.c"), "six");
    assert_eq!(client.texts(), ["five", "six"]);
    // Those of one connection alone, and of subscriptions, are no part of it.
    other.consume(7, topic("t"), 10);
    client.consume(2, queue(">"), 10);
    assert!(answers(&client.take()).iter().all(|answer| answer.starts_with("done")));
}

#[test]
fn who_may_write_to_a_queue_may_send_to_it() {
    let world = World::new();
    let mut guest = world.connected("a");
    guest.publish(&queue("other"), "one");
    let mut clerk = world.client();
    clerk.connect("b", "clerk");
    clerk.take();
    let sent = clerk.publish(&queue("desk.1"), "two");
    let refused = [clerk.publish(&queue("other"), "three"), clerk.publish(&topic("desk.1"), "four")];
    let told = answers(&clerk.take());
    assert_eq!(told[0], format!("done {sent}"));
    for (told, number) in told[1..].iter().zip(refused) {
        assert!(told.starts_with(&format!("refused {number}: java.lang.SecurityException: ")), "{told}");
    }
    guest.consume(1, queue("desk.1"), 10);
    assert_eq!(guest.texts(), ["two"]);
}

#[test]
fn a_reply_whose_queue_is_gone_at_the_commit_is_gone_too() {
    let world = World::new();
    let mut requester = world.connected("a");
    let mut service = world.connected("b");
    let replies = Destination { kind: DestinationKind::TempQueue, physical_name: Some("a:1".into()) };
    requester.send(&DestinationInfo {
        connection_id: Some(requester.connection_id()),
        destination: Some(replies.clone()),
        ..DestinationInfo::default()
    });
    service.send(&transaction(&service, transaction_type::BEGIN));
    let mut reply = service.message(&replies, "too late");
    reply.transaction_id = transaction(&service, 0).transaction_id;
    service.send(&reply);
    requester.session.disconnected(requester.now);
    let mut commit = transaction(&service, transaction_type::COMMIT_ONE_PHASE);
    commit.base = openwire::Base { command_id: 99, response_required: true };
    service.send(&commit);
    assert_eq!(answers(&service.take()).last().map(String::as_str), Some("done 99"));
    let operator = world.broker.operator("/").unwrap();
    assert!(world.broker.queue(&operator, "a:1").is_err(), "the queue is there again");
}

#[test]
fn new_clients_are_sent_to_one_broker_after_the_other_and_stay_there() {
    let mut world = World::new();
    let connected_brokers = vec!["tcp://a:1".to_owned(), "tcp://b:2".to_owned()];
    world.settings = Settings { connected_brokers, rebalance: true, ..Settings::default() }.into();
    let told = |name: &str, failover_reconnect: bool| {
        let mut client = world.client();
        client.name = name.into();
        client.negotiate();
        let info = client.connection_info("guest");
        client.send(&ConnectionInfo { manageable: true, failover_reconnect, ..info });
        let control = client.take().into_iter().find_map(|command| match command {
            Command::ConnectionControl(control) => Some(control),
            _ => None,
        });
        let control = control.unwrap();
        (control.connected_brokers.unwrap().to_string(), control.rebalance_connection)
    };
    assert_eq!(told("one", false), ("tcp://a:1,tcp://b:2".into(), true));
    assert_eq!(told("two", false), ("tcp://b:2,tcp://a:1".into(), true));
    assert_eq!(told("two again", true), ("tcp://a:1,tcp://b:2".into(), false));
}

#[test]
fn who_asks_is_told_of_the_consumers_of_what_he_may_read() {
    let world = World::new();
    let mut client = world.connected("a");
    let info = client.consumer_info(1, queue("desk.q"), 2);
    client.send(&ConsumerInfo { selector: Some("JMSPriority < 9".into()), ..info });
    client.consume(2, topic("t"), 10);
    for text in ["one", "two", "three"] {
        client.publish(&queue("desk.q"), text);
    }
    client.publish(&topic("t"), "four");
    let got = dispatches(client.take());
    client.acknowledge(ack_type::INDIVIDUAL, &got[0], &got[0]);
    let ask = |user: &str| {
        let mut client = world.client();
        client.connect(user, user);
        client.consume(1, queue("openwire-replies"), 10);
        let question = client.message(&queue("ActiveMQ.Statistics.Subscription"), "");
        client.send(&Message { reply_to: Some(queue("openwire-replies")), ..question });
        let numbers = |dispatch: openwire::message::MessageDispatch<'static>| {
            let message = dispatch.message.unwrap();
            let entries = primitive::entries(message.content.as_deref().unwrap()).unwrap().map(Result::unwrap);
            let find = |name: &str| {
                let mut named = entries.clone().filter(|(key, _)| **key == *name);
                named.next().map(|(_, value)| format!("{value:?}").replace(['"', ')'], "")).unwrap()
            };
            let names = ["destinationName", "dispatchedCounter", "dequeueCounter", "dispatchedQueueSize", "selector"];
            let told = names.map(|name| find(name).rsplit('(').next().unwrap().to_owned());
            told.join(" ").trim_end().to_owned()
        };
        let told: Vec<_> = dispatches(client.take()).into_iter().map(numbers).collect();
        client.session.disconnected(client.now);
        told
    };
    assert_eq!(ask("reader"), ["desk.q 3 1 2 JMSPriority < 9", "t 1 1 0", "openwire-replies 0 0 0"]);
    assert_eq!(ask("clerk"), Vec::<String>::new());
}

#[test]
fn nothing_goes_to_a_consumer_that_is_just_closing_and_is_gone() {
    const MESSAGES: usize = 3_000;
    let world = World::new();
    let (mut sender, mut taker) = (world.connected("a"), world.connected("b"));
    sender.produce(queue("q"));
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            for number in 0..MESSAGES {
                sender.publish(&queue("q"), &number.to_string());
            }
        });
        while !sending.is_finished() {
            taker.consume(1, queue("q"), 1_000);
            let object_id = Some(ObjectId::Consumer(taker.consumer_id(1)));
            taker.send(&RemoveInfo { object_id, last_delivered_sequence_id: -1, ..RemoveInfo::default() });
            taker.take();
        }
    });
    taker.consume(2, queue("q"), MESSAGES as i32);
    let texts: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    let mut got = taker.texts();
    got.sort_by_key(|text| text.parse::<usize>().unwrap_or(usize::MAX));
    assert_eq!(got, texts);
}

#[test]
fn a_durable_subscription_may_be_to_several_topics() {
    let world = World::new();
    let mut sender = world.connected("a");
    let subscribe = |topics: &str| {
        let mut client = world.connected("b");
        let info = client.consumer_info(1, topic(topics), 10);
        client.send(&ConsumerInfo { subscription_name: Some("s".into()), ..info });
        client
    };
    let mut client = subscribe("one,two");
    sender.publish(&topic("one"), "1");
    assert_eq!(client.texts(), ["1"]);
    client.session.disconnected(client.now);
    for (name, text) in [("one", "2"), ("two", "3"), ("three", "4")] {
        sender.publish(&topic(name), text);
    }
    let mut again = subscribe("one,two");
    assert_eq!(again.texts(), ["1!", "2", "3"]);
    again.session.disconnected(again.now);
    // To another number of topics it is another one.
    let mut fewer = subscribe("one");
    sender.publish(&topic("two"), "5");
    sender.publish(&topic("one"), "6");
    assert_eq!(fewer.texts(), ["6"]);
}

#[test]
fn no_pattern_stands_for_the_queue_of_a_subscription() {
    let world = World::new();
    let mut subscriber = world.connected("a");
    let info = subscriber.consumer_info(1, topic("t"), 10);
    subscriber.send(&ConsumerInfo { subscription_name: Some("s".into()), ..info });
    let mut other = world.connected("b");
    other.publish(&queue("q"), "one");
    other.publish(&queue(">"), "two");
    other.publish(&topic("t"), "three");
    assert_eq!(subscriber.texts(), ["three"]);
    subscriber.session.disconnected(subscriber.now);
    other.publish(&topic("t"), "four");
    other.consume(1, queue(">"), 10);
    assert_eq!(other.texts(), ["one", "two"]);
}
