//! Messages of the broker's own: advisories, and answers to what clients ask by a message.

use std::sync::Arc;

use broker::{
    Broker, Message as Kept, MessageView, Millis, Refusal, Route,
    broker::Caller,
    publish::{Batch, Body},
};

use crate::{
    ORIGIN, Settings, Shared, TOPICS,
    command::Command,
    ids::{Destination, DestinationKind, MessageId, ProducerId},
    lent::{Bytes, Text},
    mapping::Address,
    message::Message,
    primitive::{self, Value},
    stored::{Published, Storer},
};

/// An entry of a map.
pub(crate) type Entry = (Text<'static>, Value<'static>);

/// An entry with a number.
pub(crate) fn number(name: &'static str, number: u64) -> Entry {
    (name.into(), Value::Long(i64::try_from(number).unwrap_or(i64::MAX)))
}

/// An entry with a small number.
pub(crate) fn count(name: &'static str, count: usize) -> Entry {
    (name.into(), Value::Int(i32::try_from(count).unwrap_or(i32::MAX)))
}

/// An entry with a text.
pub(crate) fn text(name: &'static str, value: &str) -> Entry {
    (name.into(), Value::Text(value.to_owned().into()))
}

/// Entries as a map: the properties of a message, or the content of one that is a map. Nothing if they are too large.
pub(crate) fn map(entries: &[Entry]) -> Option<Bytes<'static>> {
    let mut bytes = Vec::new();
    primitive::put_map(&mut bytes, entries).is_ok().then(|| bytes.into())
}

/// What the broker calls itself.
pub(crate) fn broker_id(settings: &Settings) -> String {
    format!("ID:{}", settings.broker_name)
}

/// Makes a message one of the broker's own, which comes from nobody else.
pub(crate) fn own(settings: &Settings, shared: &Shared, to: Destination<'static>, message: &mut Message<'_>) {
    let producer_id = ProducerId { connection_id: Some(broker_id(settings).into()), value: 0, session_id: 0 };
    message.destination = Some(to);
    message.message_id = Some(MessageId {
        producer_id: Some(producer_id.clone()),
        producer_sequence_id: shared.next_notice(),
        ..MessageId::default()
    });
    message.producer_id = Some(producer_id);
    message.persistent = false;
}

/// An advisory: what it tells, in a command and in properties, where the broker is, and when.
pub(crate) fn advisory(
    settings: &Settings,
    shared: &Shared,
    topic: &str,
    (about, mut told): (Option<Command<'static>>, Vec<Entry>),
    (url, now): (&str, Millis),
) -> Message<'static> {
    told.extend([
        text("originBrokerId", &broker_id(settings)),
        text("originBrokerName", &settings.broker_name),
        text("originBrokerURL", url),
    ]);
    let mut message = Message {
        message_type: Some("Advisory".into()),
        data_structure: about.map(Box::new),
        marshalled_properties: map(&told),
        timestamp: now.0 as i64,
        arrival: now.0 as i64,
        ..Message::default()
    };
    let topic = Destination { kind: DestinationKind::Topic, physical_name: Some(topic.to_owned().into()) };
    own(settings, shared, topic, &mut message);
    message
}

/// Finds the way of a message of the broker's own, and makes it what the broker keeps.
pub(crate) fn ready(
    broker: &Broker,
    caller: &Caller,
    address: &Address,
    message: &mut Message<'_>,
) -> Result<(Arc<Route>, Arc<Kept>), Refusal> {
    let (properties, payload) = Storer::default().store(message);
    let facts = Published(&properties);
    let route = match address {
        Address::Topic(name) => broker.route(caller, TOPICS, &[name], &facts)?,
        Address::Queue(name) => broker.route_to_queue(caller, name, &facts)?,
    };
    let kept = Kept::copy_of(&MessageView {
        exchange: &route.exchange,
        routing_key: address.name(),
        origin: ORIGIN,
        durable: false,
        priority: None,
        arrived: broker.now(),
        due: None,
        properties: &properties,
        annotations: &[],
        payload: &payload,
        block: None,
    });
    Ok((Arc::new(route), Arc::new(kept)))
}

/// Sends a message of the broker's own, if anybody gets it.
pub(crate) fn send(
    broker: &Broker,
    caller: &Caller,
    address: &Address,
    message: &mut Message<'_>,
) -> Result<(), Refusal> {
    let (route, kept) = match ready(broker, caller, address, message) {
        Ok(ready) => ready,
        // Nobody is there any more to be told.
        Err(Refusal::NotFound(_)) => return Ok(()),
        Err(refusal) => return Err(refusal),
    };
    if route.leads_somewhere() {
        let mut batch = Batch::default();
        batch.publish(route, Body::Owned(kept), 0);
        broker.apply(&mut batch);
    }
    Ok(())
}
