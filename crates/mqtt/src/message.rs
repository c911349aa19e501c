//! A message's properties, as they are stored, and what they are to other protocols.
//!
//! The property bytes of a message that came by MQTT are: a byte of flags, eight bytes that tell who published it, the filter
//! of the subscription that it is for if it is for one alone, and the properties of MQTT 5 that go on to subscribers, as
//! they stand in packets.

use std::borrow::Cow;

use broker::{Codec, DURABLE_ONLY, Facts, MessageView, Name, QueueInfo, Table, Value};

use crate::{
    ORIGIN,
    packet::Qos,
    properties::{Allowed, Properties, Value as Property, id, put},
    topic,
    wire::{Reader, put_text},
};

const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const FOR_ONE: u8 = 0b1000;

/// Bytes of properties without filter and MQTT 5 properties.
pub const HEAD_BYTES: usize = 9;

/// The properties of a stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// With which quality of service it was published.
    pub qos: Qos,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// The number of the session that published it.
    pub publisher: u64,
    /// The filter of the only subscription that it is for.
    pub only_for: Option<&'a str>,
    /// MQTT 5 properties.
    pub properties: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Reads stored properties.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let flags = reader.byte().ok()?;
        let publisher = reader.take(8).ok()?.try_into().map(u64::from_be_bytes).ok()?;
        let only_for = if flags & FOR_ONE == 0 { None } else { Some(reader.text().ok()?) };
        let qos = Qos::of_bits(flags & QOS).ok()?;
        Some(Self { qos, retain: flags & RETAIN != 0, publisher, only_for, properties: reader.rest() })
    }

    /// The first bytes.
    pub fn head(qos: Qos, retain: bool, publisher: u64) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[0] = qos as u8 | if retain { RETAIN } else { 0 };
        head[1..].copy_from_slice(&publisher.to_be_bytes());
        head
    }

    /// All bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Self::head(self.qos, self.retain, self.publisher).to_vec();
        if let Some(filter) = self.only_for {
            bytes[0] |= FOR_ONE;
            put_text(&mut bytes, filter);
        }
        bytes.extend_from_slice(self.properties);
        bytes
    }
}

/// The topic of a message, if it can have one.
pub fn topic_of<'a>(message: &MessageView<'a>) -> Option<Cow<'a, str>> {
    // A dead letter has the routing key by which it was sent on.
    let topic = if message.origin == ORIGIN && message.annotations.is_empty() {
        message.routing_key.into()
    } else {
        topic::of_routing_key(message.routing_key)
    };
    topic::is_name(&topic).then_some(topic)
}

/// The MQTT 5 properties that another protocol's properties become.
pub fn of_table(table: &Table) -> Vec<u8> {
    let mut properties = Vec::new();
    let text = |name| table.get(name).and_then(Value::as_text);
    if let Some(kind) = text("content_type") {
        put(&mut properties, id::CONTENT_TYPE, Property::Text(kind));
    }
    if let Some(correlation) = text("correlation_id") {
        put(&mut properties, id::CORRELATION_DATA, Property::Binary(correlation.as_bytes()));
    }
    if let Some(Value::Table(headers)) = table.get("headers") {
        let reply_to = headers.get(REPLY_TO).and_then(Value::as_text).map(topic::of_routing_key);
        if let Some(reply_to) = reply_to.filter(|topic| topic::is_name(topic)) {
            put(&mut properties, id::RESPONSE_TOPIC, Property::Text(&reply_to));
        }
        let clean = |text: &str| !text.contains('\0') && text.len() <= u16::MAX.into();
        for (name, value) in &headers.0 {
            let value = match value {
                Value::Bool(value) => value.to_string(),
                Value::F32(value) => value.to_string(),
                Value::F64(value) => value.to_string(),
                value => match (value.as_text(), value.as_integer()) {
                    (Some(text), _) => text.to_owned(),
                    (None, Some(number)) => number.to_string(),
                    (None, None) => continue,
                },
            };
            if clean(name) && clean(&value) && !name.starts_with("x-") {
                put(&mut properties, id::USER_PROPERTY, Property::Pair(name, &value));
            }
        }
    }
    properties
}

/// The header by which RabbitMQ tells other protocols of the response topic, as a routing key.
const REPLY_TO: &str = "x-reply-to-topic";

/// What other protocols are told of MQTT's properties, by the names of AMQP 0-9-1.
#[derive(Debug)]
pub struct PropertyCodec;

fn headers(stored: &Stored<'_>) -> Table {
    let mut headers = Table::default();
    for (name, value) in Properties::checked(stored.properties).user() {
        headers.push(name, value.into());
    }
    headers
}

impl Codec for PropertyCodec {
    fn private_queues(&self) -> &'static [&'static str] {
        &["mqtt-subscription-", "mqtt-shared-subscription-"]
    }

    fn headers(&self, properties: &[u8]) -> Table {
        Stored::read(properties).map(|stored| headers(&stored)).unwrap_or_default()
    }

    fn property(&self, properties: &[u8], name: &str) -> Option<Value> {
        self.table(properties).get(name).cloned()
    }

    fn table(&self, bytes: &[u8]) -> Table {
        let mut table = Table::default();
        let Some(stored) = Stored::read(bytes) else { return table };
        let properties = Properties::checked(stored.properties);
        if let Some(kind) = properties.text(id::CONTENT_TYPE) {
            table.push("content_type", kind.into());
        }
        let mut headers = headers(&stored);
        if let Some(correlation) = properties.binary(id::CORRELATION_DATA) {
            match std::str::from_utf8(correlation) {
                Ok(text) if text.len() <= 255 => table.push("correlation_id", text.into()),
                _ => headers.push("x-correlation-id", Value::Text(correlation.to_vec())),
            }
        }
        if let Some(topic) = properties.text(id::RESPONSE_TOPIC) {
            headers.push(REPLY_TO, (&*topic::routing_key(topic)).into());
        }
        table.push("delivery_mode", Value::U8(if stored.qos == Qos::AtMostOnce { 1 } else { 2 }));
        if !headers.is_empty() {
            table.push("headers", Value::Table(headers));
        }
        table
    }

    fn expiration(&self, _properties: &[u8]) -> Option<String> {
        None
    }

    fn is_text(&self, properties: &[u8]) -> bool {
        let stored = Stored::read(properties);
        stored.is_some_and(|stored| Properties::checked(stored.properties).number(id::PAYLOAD_FORMAT) == Some(1))
    }

    fn routing_key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        topic::routing_key(key)
    }
}

/// What exchanges may want to know of a message that is being published.
#[derive(Debug)]
pub struct Published<'a>(pub &'a [u8]);

impl Facts for Published<'_> {
    fn headers(&self) -> Table {
        PropertyCodec.headers(self.0)
    }

    fn property(&self, name: &str) -> Option<Value> {
        PropertyCodec.property(self.0, name)
    }
}

/// The properties of a publish that go on to subscribers, behind `head`.
pub fn stored_properties(head: &[u8; HEAD_BYTES], properties: &Properties<'_>) -> Vec<u8> {
    let mut bytes = head.to_vec();
    properties.put_those(Allowed::FORWARDED, &mut bytes);
    bytes
}

/// The name of the queue of a session's acknowledged subscriptions: RabbitMQ's.
pub fn queue_name(client_id: &str) -> Name {
    format!("mqtt-subscription-{client_id}qos1").into()
}

/// The name by which a session gets messages without a queue: RabbitMQ's.
pub fn direct_name(client_id: &str) -> Name {
    format!("mqtt-subscription-{client_id}qos0").into()
}

/// The name of the queue of a shared subscription.
pub fn shared_name(group: &str, filter: &str) -> Name {
    format!("mqtt-shared-subscription-{group}/{filter}").into()
}

/// The argument by which the queue of a shared subscription is known.
const SHARED: &str = "x-mqtt-shared";

/// The arguments of the queue of a shared subscription.
pub fn shared_arguments() -> Table {
    Table(vec![(SHARED.into(), Value::Bool(true))])
}

/// Whether a queue comes and goes with sessions: it is one's own, or that of a shared subscription.
pub fn is_of_sessions(queue: &QueueInfo) -> bool {
    is_shared(queue) || queue.arguments.get(DURABLE_ONLY).is_some()
}

/// Whether a queue is that of a shared subscription.
pub fn is_shared(queue: &QueueInfo) -> bool {
    queue.arguments.get(SHARED).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_properties_come_back() {
        let mut properties = Vec::new();
        put(&mut properties, id::CONTENT_TYPE, Property::Text("text/plain"));
        put(&mut properties, id::USER_PROPERTY, Property::Pair("a", "1"));
        for only_for in [None, Some("a/#")] {
            let stored =
                Stored { qos: Qos::ExactlyOnce, retain: true, publisher: 7, only_for, properties: &properties };
            assert_eq!(Stored::read(&stored.bytes()), Some(stored));
        }
        assert_eq!(Stored::read(&[0; 5]), None);
    }

    #[test]
    fn properties_cross_over() {
        let mut properties = Vec::new();
        put(&mut properties, id::CONTENT_TYPE, Property::Text("text/plain"));
        put(&mut properties, id::RESPONSE_TOPIC, Property::Text("r/1"));
        put(&mut properties, id::CORRELATION_DATA, Property::Binary(b"c"));
        put(&mut properties, id::USER_PROPERTY, Property::Pair("a", "1"));
        let stored =
            Stored { qos: Qos::AtLeastOnce, retain: false, publisher: 7, only_for: None, properties: &properties };
        let table = PropertyCodec.table(&stored.bytes());
        let Some(Value::Table(headers)) = table.get("headers") else { panic!("there are headers") };
        assert_eq!(headers.get(REPLY_TO), Some(&Value::from("r.1")));
        assert_eq!(of_table(&table), {
            let mut expected = Vec::new();
            put(&mut expected, id::CONTENT_TYPE, Property::Text("text/plain"));
            put(&mut expected, id::CORRELATION_DATA, Property::Binary(b"c"));
            put(&mut expected, id::RESPONSE_TOPIC, Property::Text("r/1"));
            put(&mut expected, id::USER_PROPERTY, Property::Pair("a", "1"));
            expected
        });
    }
}
