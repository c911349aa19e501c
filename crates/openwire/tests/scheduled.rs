//! What clients see and remove of what is scheduled.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use broker::MemoryLog;
use openwire::{ids::Destination, message::Message, primitive};

use self::common::{World, answers, dispatches, queue, topic};

/// Sends a message to the scheduler's own queue, with these properties.
fn ask_scheduler(client: &mut common::Client, properties: &[(&str, primitive::Value<'static>)]) -> String {
    let question = client.message(&queue("ActiveMQ.Scheduler.Management"), "");
    let map: Vec<_> = properties.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    let mut bytes = Vec::new();
    primitive::put_map(&mut bytes, &map).unwrap();
    let number = question.base.command_id;
    let (reply_to, marshalled_properties) = (Some(queue("replies")), Some(bytes.into()));
    client.send(&Message { reply_to, marshalled_properties, ..question });
    format!("done {number}")
}

#[test]
fn what_is_scheduled_is_seen_and_removed_by_messages() {
    let (text, long) = (|text: &'static str| primitive::Value::Text(text.into()), primitive::Value::Long);
    let world = World::new();
    let mut client = world.connected("a");
    let schedule = |client: &mut common::Client, to: &Destination<'static>, name: &str, delay: i64| {
        let message = client.message(to, name);
        let mut bytes = Vec::new();
        primitive::put_map(&mut bytes, &[("AMQ_SCHEDULED_DELAY".into(), long(delay))]).unwrap();
        client.send(&Message { marshalled_properties: Some(bytes.into()), ..message.clone() });
        message.message_id.unwrap().to_string()
    };
    let first = schedule(&mut client, &queue("desk.q"), "first", 1_000);
    schedule(&mut client, &topic("t"), "second", 2_000);
    // More than are found at once.
    (0..600).for_each(|_| drop(schedule(&mut client, &queue("q"), "further", 3_000)));
    client.consume(1, queue("replies"), 1_000);
    client.consume(2, queue("desk.q"), 10);
    client.take();
    let browse = ("AMQ_SCHEDULER_ACTION", text("BROWSE"));
    let done = ask_scheduler(&mut client, std::slice::from_ref(&browse));
    let answered = client.take();
    assert!(answers(&answered).contains(&done), "{:?}", answers(&answered));
    let found = dispatches(answered);
    assert_eq!(found.len(), 602);
    let message = found[0].message.as_ref().unwrap();
    let properties = primitive::entries(message.marshalled_properties.as_deref().unwrap()).unwrap();
    let properties: Vec<_> = properties.map(|entry| entry.unwrap().0.to_string()).collect();
    assert_eq!(
        (properties, &message.original_destination),
        (vec!["AMQ_SCHEDULED_DELAY".into(), "scheduledJobId".into()], &Some(queue("desk.q")))
    );
    let within = [browse, ("ACTION_START_TIME", long(1_000_500)), ("ACTION_END_TIME", long(1_002_500))];
    ask_scheduler(&mut client, &within);
    assert_eq!(client.texts(), ["first", "second"]);
    // Who may not read sees nothing, and who may not write removes nothing.
    let mut clerk = world.client();
    clerk.connect("clerk", "clerk");
    ask_scheduler(&mut clerk, &[("AMQ_SCHEDULER_ACTION", text("BROWSE"))]);
    let mut reader = world.client();
    reader.connect("reader", "reader");
    ask_scheduler(&mut reader, &[("AMQ_SCHEDULER_ACTION", text("REMOVEALL"))]);
    assert_eq!((clerk.texts(), client.texts()), (Vec::<String>::new(), Vec::<String>::new()));
    let id = ("scheduledJobId", primitive::Value::Text(first.into()));
    ask_scheduler(&mut client, &[("AMQ_SCHEDULER_ACTION", text("REMOVE")), id]);
    ask_scheduler(&mut client, &within);
    assert_eq!(client.texts(), ["second"]);
    let done = ask_scheduler(&mut client, &[("AMQ_SCHEDULER_ACTION", text("REMOVEALL"))]);
    assert_eq!(answers(&client.take()), [done]);
    ask_scheduler(&mut client, &within[..1]);
    assert_eq!(client.texts(), Vec::<String>::new());
}

#[test]
fn a_removal_is_answered_once_it_is_safe() {
    let world = World::with(MemoryLog::manual());
    let mut client = world.connected("a");
    let message = client.message(&queue("q"), "late");
    let mut bytes = Vec::new();
    primitive::put_map(&mut bytes, &[("AMQ_SCHEDULED_DELAY".into(), primitive::Value::Long(5))]).unwrap();
    client.send(&Message { marshalled_properties: Some(bytes.into()), ..message });
    world.log.commit();
    client.take();
    let action = primitive::Value::Text("REMOVEALL".into());
    let done = ask_scheduler(&mut client, &[("AMQ_SCHEDULER_ACTION", action)]);
    assert_eq!(answers(&client.take()), Vec::<String>::new());
    world.log.commit();
    assert_eq!(answers(&client.take()), [done]);
}
