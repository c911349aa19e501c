//! Messages as the broker keeps them, and what they are to other protocols.
//!
//! The payload is what a client of any protocol expects: the text of a text message in UTF-8, the bytes of a bytes message, and
//! the content of others as it is. The property bytes are one byte that says which, and whether the message is of a group;
//! and the message without its content, as a loose frame of version 12.

use std::borrow::Cow;

use broker::{
    Codec, Facts, GROUP_ID, GROUP_SEQUENCE, Group, MessageView, Millis, Schedule, Table, Value,
    message::OWN,
    schedule::{self, InvalidSchedule},
};

use crate::{
    ORIGIN, body,
    codec::{Decoder, Encoder},
    command::Command,
    ids::{Destination, DestinationKind, MessageId, ProducerId},
    lent::{Bytes, Lent, Text},
    message::{Message, MessageKind},
    offer::WireFormat,
    primitive::{self, Value as Primitive},
};

/// How stored frames look. It is written on disk, and so never changes.
const FORMAT: WireFormat = WireFormat {
    version: 12,
    tight: false,
    cache_size: 0,
    size_prefix: true,
    stack_traces: false,
    frame_max: i32::MAX as usize,
};

/// There is no content.
const NOTHING: u8 = 0;
/// The payload is the content.
const CONTENT: u8 = 1;
/// The payload is the text that the content holds.
const TEXT: u8 = 2;
/// Is set as well if the message is of a group.
const GROUPED: u8 = 0x80;

/// Writes the property bytes of messages.
#[derive(Debug)]
pub struct Storer(Encoder);

impl Default for Storer {
    fn default() -> Self {
        let mut encoder = Encoder::default();
        encoder.switch(FORMAT);
        Self(encoder)
    }
}

impl Storer {
    /// Takes the content out of a message. Returns the property bytes and the payload.
    pub fn store<'a>(&mut self, message: &mut Message<'a>) -> (Vec<u8>, Bytes<'a>) {
        let (form, payload) = match message.content.take() {
            None => (NOTHING, Lent::Borrowed(&[][..])),
            Some(content) => match text_of(message, &content) {
                Some(text) => (TEXT, text),
                None => (CONTENT, content),
            },
        };
        let grouped = if message.group_id.is_some() { GROUPED } else { 0 };
        let mut properties = vec![form | grouped];
        // What could be read can be written, but for a form that only other versions have.
        if self.0.encode(message, &mut properties).is_err() {
            properties.truncate(1);
        }
        (properties, payload)
    }
}

/// The text of a message's content, if it has one.
fn text_of<'a>(message: &Message<'_>, content: &Bytes<'a>) -> Option<Bytes<'a>> {
    if message.kind != MessageKind::Text || message.compressed {
        return None;
    }
    match content {
        Lent::Borrowed(content) => match body::text(content).ok()?? {
            Lent::Borrowed(text) => Some(Lent::Borrowed(text.as_bytes())),
            Lent::Shared(text) => Some(text.as_bytes().to_vec().into()),
        },
        Lent::Shared(content) => Some(body::text(content).ok()??.as_bytes().to_vec().into()),
    }
}

/// Reads property bytes. Returns what the payload is, and the message without its content.
fn read(properties: &[u8]) -> Option<(u8, Box<Message<'_>>)> {
    let (form, frame) = properties.split_first()?;
    let mut decoder = Decoder::new(usize::MAX);
    decoder.switch(FORMAT);
    match decoder.decode(frame) {
        Ok(Some((_, Command::Message(message)))) => Some((*form & !GROUPED, message)),
        _ => None,
    }
}

/// The content of a message that is stored in a form, with a payload.
fn content(form: u8, payload: &[u8]) -> Option<Bytes<'_>> {
    match form {
        NOTHING => None,
        TEXT => std::str::from_utf8(payload).ok().and_then(|text| body::text_content(text).ok()),
        _ => Some(payload.into()),
    }
}

/// A message for a client. `number` tells it from all others, if it has no id of its own.
pub fn restored<'a>(view: &MessageView<'a>, codecs: &broker::Codecs, number: i64) -> Box<Message<'a>> {
    if view.origin == ORIGIN
        && let Some((form, mut message)) = read(view.properties)
    {
        message.content = content(form, view.payload);
        if !view.annotations.is_empty() {
            came_on_schedule(&mut message, view);
            was_retained(&mut message, view);
        }
        moved(&mut message, view);
        return message;
    }
    let codec = codecs.of(view.origin).filter(|_| view.origin != OWN);
    let table = codec.as_ref().map(|codec| codec.table(view.properties)).unwrap_or_default();
    let is_text = codec.is_some_and(|codec| codec.is_text(view.properties));
    let routing_key = codecs.routing_key(view).into_owned();
    Box::new(translated(view, &table, is_text, routing_key, number))
}

/// A dead letter is in the queue that it was moved to, remembers where it was, and is not thrown away for its age there.
fn moved<'a>(message: &mut Message<'a>, view: &MessageView<'a>) {
    let is_there = |destination: &Destination<'_>| {
        !destination.kind.is_topic() && destination.physical_name.as_deref() == Some(view.routing_key)
    };
    if !view.exchange.is_empty() || message.destination.as_ref().is_none_or(is_there) {
        return;
    }
    let place = Destination { kind: DestinationKind::Queue, physical_name: Some(view.routing_key.into()) };
    message.original_destination = message.destination.replace(place);
    tell_death(message, &view.annotation_table());
    message.expiration = view.due.map_or(0, |due| due.0 as i64);
}

/// A message whose time has come tells by which job it came, and has a name of its own each time (`SchedulerBroker.scheduledJob`).
fn came_on_schedule(message: &mut Message<'_>, view: &MessageView<'_>) {
    let annotations = view.annotation_table();
    let Some(job) = annotations.get(schedule::JOB_ID).and_then(Value::as_text) else { return };
    if message.expiration > 0 {
        message.expiration = view.due.map_or(0, |due| due.0 as i64);
        message.timestamp = view.arrived.0 as i64;
    }
    let count = annotations.get(schedule::COUNT).and_then(Value::as_integer);
    let producer = message.message_id.as_mut().and_then(|id| id.producer_id.as_mut());
    if let (Some(count), Some(producer)) = (count, producer) {
        // Clients take a second message of the same name for the first.
        let connection = producer.connection_id.as_deref().unwrap_or_default();
        producer.connection_id = Some(format!("{connection}:{count}").into());
    }
    let told = vec![(Text::from(schedule::JOB_ID), Primitive::Text(job.to_owned().into()))];
    change_properties(message, told, |name| name.starts_with(schedule::SCHEDULED));
}

/// The property of messages that their topic is to remember, if it is one that remembers such.
pub const RETAIN: &str = "ActiveMQ.Retain";

/// The property of those that it has remembered.
pub const RETAINED: &str = "ActiveMQ.Retained";

/// A message that its topic has remembered says so, and asks for it no more (`RetainedMessageSubscriptionRecoveryPolicy`).
fn was_retained(message: &mut Message<'_>, view: &MessageView<'_>) {
    if view.annotation_table().get(RETAINED).is_some() {
        change_properties(message, vec![(RETAINED.into(), Primitive::Bool(true))], |name| name == RETAIN);
    }
}

/// Adds properties to a message, and takes some away.
pub(crate) fn change_properties(
    message: &mut Message<'_>,
    told: Vec<(Text<'_>, Primitive<'_>)>,
    is_gone: fn(&str) -> bool,
) {
    let own = message.marshalled_properties.take();
    let mut map: Vec<_> =
        own.as_deref().and_then(|own| primitive::entries(own).ok()).into_iter().flatten().flatten().collect();
    map.retain(|(name, _)| !is_gone(name) && told.iter().all(|(other, _)| **other != **name));
    map.extend(told);
    let mut bytes = Vec::new();
    message.marshalled_properties = primitive::put_map(&mut bytes, &map).is_ok().then(|| bytes.into());
}

/// Adds to a dead letter's properties what became of it, by ActiveMQ's names (`RegionBroker.sendToDeadLetterQueue`).
fn tell_death(message: &mut Message<'_>, annotations: &Table) {
    let text = |name| annotations.get(name).and_then(Value::as_text);
    let expired = || format!("java.lang.Throwable: Message Expired. Expiration:{}", message.expiration);
    let cause = text("x-last-death-cause").map(str::to_owned);
    let cause = cause.or_else(|| (text("x-last-death-reason") == Some("expired")).then(expired));
    let mut told: Vec<(Text<'_>, Primitive<'_>)> = Vec::new();
    if let Some(cause) = cause {
        told.push(("dlqDeliveryFailureCause".into(), Primitive::Text(cause.into())));
    }
    if message.expiration > 0 {
        told.push(("originalExpiration".into(), Primitive::Long(message.expiration)));
    }
    if !told.is_empty() {
        change_properties(message, told, |_| false);
    }
}

/// A message of another protocol.
fn translated<'a>(
    view: &MessageView<'a>,
    table: &Table,
    is_text: bool,
    routing_key: String,
    number: i64,
) -> Message<'a> {
    let text = |name| table.get(name).and_then(Value::as_text).map(|text| Text::from(text.to_owned()));
    let kind_of_content = table.get("content_type").and_then(Value::as_text).unwrap_or_default();
    let is_text = (is_text || is_text_type(kind_of_content)) && std::str::from_utf8(view.payload).is_ok();
    let (kind, form) = if is_text { (MessageKind::Text, TEXT) } else { (MessageKind::Bytes, CONTENT) };
    let producer_id = ProducerId { connection_id: Some("ID:roadstead".into()), value: 0, session_id: 0 };
    let queue = || DestinationKind::Queue;
    let kind_of_destination = if view.exchange.is_empty() { queue() } else { DestinationKind::Topic };
    let destination = |kind, name: String| Destination { kind, physical_name: Some(name.into()) };
    let empty = Table::default();
    let headers = match table.get("headers") {
        Some(Value::Table(headers)) => headers,
        _ => &empty,
    };
    let reply_topic = headers.get(REPLY_TO).and_then(Value::as_text);
    let reply_to = reply_topic.map(|topic| destination(DestinationKind::Topic, topic.into()));
    let reply_queue = table.get("reply_to").and_then(Value::as_text).map(queue_of);
    let reply_to = reply_to.or_else(|| reply_queue.map(|name| destination(queue(), name.into())));
    let seconds = match table.get("timestamp") {
        Some(Value::Timestamp(seconds)) => Some(*seconds),
        _ => None,
    };
    Message {
        kind,
        destination: Some(destination(kind_of_destination, routing_key)),
        message_id: Some(MessageId {
            text_view: text("message_id"),
            producer_id: Some(producer_id.clone()),
            producer_sequence_id: number,
            broker_sequence_id: 0,
        }),
        producer_id: Some(producer_id),
        correlation_id: text("correlation_id"),
        persistent: view.durable,
        expiration: view.due.map_or(0, |due| due.0 as i64),
        priority: view.priority.map_or(4, |priority| priority.min(9) as i8),
        reply_to,
        timestamp: seconds.map_or(view.arrived.0, |seconds| seconds.saturating_mul(1000)) as i64,
        message_type: text("type"),
        user_id: text("user_id"),
        content: content(form, view.payload),
        marshalled_properties: properties_of(headers).map(Bytes::from),
        group_id: headers.get(GROUP_ID).and_then(Value::as_text).map(|group| Text::from(group.to_owned())),
        group_sequence: headers.get(GROUP_SEQUENCE).and_then(number_of).unwrap_or(0),
        ..Message::default()
    }
}

/// A number, or a text of one: some protocols have no other values.
fn number_of(value: &Value) -> Option<i32> {
    value.as_integer().and_then(|number| number.try_into().ok()).or_else(|| value.as_text()?.trim().parse().ok())
}

/// The name of a queue, which a client of STOMP has written as a path.
fn queue_of(reply_to: &str) -> &str {
    ["/queue/", "/reply-queue/"].iter().find_map(|prefix| reply_to.strip_prefix(prefix)).unwrap_or(reply_to)
}

/// Whether a content type is one of text.
fn is_text_type(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/") || ["application/json", "application/xml"].contains(&kind) || kind.ends_with("+json")
}

/// The header by which other protocols tell of a topic for replies, as a routing key.
const REPLY_TO: &str = "x-reply-to-topic";

/// Headers as a primitive map; nothing if there are none.
fn properties_of(headers: &Table) -> Option<Vec<u8>> {
    let entries = headers.0.iter().filter(|(name, _)| ![GROUP_ID, GROUP_SEQUENCE, REPLY_TO].contains(&name.as_str()));
    let map: Vec<_> = entries.map(|(name, value)| (Text::from(name.as_str()), primitive_of(value))).collect();
    if map.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    primitive::put_map(&mut bytes, &map).ok().map(|()| bytes)
}

fn primitive_of(value: &Value) -> Primitive<'_> {
    match value {
        Value::Bool(value) => Primitive::Bool(*value),
        Value::I8(value) => Primitive::Byte(*value),
        Value::U8(value) => Primitive::Short((*value).into()),
        Value::I16(value) => Primitive::Short(*value),
        Value::U16(value) => Primitive::Int((*value).into()),
        Value::I32(value) => Primitive::Int(*value),
        Value::U32(value) => Primitive::Long((*value).into()),
        Value::I64(value) => Primitive::Long(*value),
        Value::F32(value) => Primitive::Float(*value),
        Value::F64(value) => Primitive::Double(*value),
        Value::Timestamp(seconds) => Primitive::Long(*seconds as i64),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Primitive::Text(text.into()),
            Err(_) => Primitive::Bytes(bytes.as_slice().into()),
        },
        Value::Bytes(bytes) => Primitive::Bytes(bytes.as_slice().into()),
        Value::Array(values) => Primitive::List(values.iter().map(primitive_of).collect()),
        Value::Table(table) => {
            Primitive::Map(table.0.iter().map(|(name, value)| (name.as_str().into(), primitive_of(value))).collect())
        }
        Value::Decimal(scale, unscaled) => Primitive::Double(f64::from(*unscaled) / 10f64.powi((*scale).into())),
        Value::Void => Primitive::Null,
    }
}

fn value_of(value: Primitive<'_>) -> Value {
    match value {
        Primitive::Null => Value::Void,
        Primitive::Bool(value) => Value::Bool(value),
        Primitive::Byte(value) => Value::I8(value),
        Primitive::Char(unit) => {
            char::from_u32(unit.into()).unwrap_or(char::REPLACEMENT_CHARACTER).to_string().as_str().into()
        }
        Primitive::Short(value) => Value::I16(value),
        Primitive::Int(value) => Value::I32(value),
        Primitive::Long(value) => Value::I64(value),
        Primitive::Double(value) => Value::F64(value),
        Primitive::Float(value) => Value::F32(value),
        Primitive::Text(text) => (&*text).into(),
        Primitive::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        Primitive::Map(map) => {
            let mut table = Table::default();
            map.into_iter().for_each(|(name, value)| table.push(&name, value_of(value)));
            Value::Table(table)
        }
        Primitive::List(list) => Value::Array(list.into_iter().map(value_of).collect()),
    }
}

/// The user's properties of a message, and its group, as headers.
fn headers_of(message: &Message<'_>) -> Table {
    let mut headers = Table::default();
    let properties = message.marshalled_properties.as_deref().and_then(|bytes| primitive::entries(bytes).ok());
    for (name, value) in properties.into_iter().flatten().map_while(Result::ok) {
        headers.push(&name, value_of(value));
    }
    if let Some(group) = &message.group_id {
        headers.push(GROUP_ID, (&**group).into());
        headers.push(GROUP_SEQUENCE, Value::I32(message.group_sequence));
    }
    match &message.reply_to {
        Some(reply_to) if reply_to.kind.is_topic() => {
            headers.push(REPLY_TO, reply_to.physical_name.as_deref().unwrap_or_default().into());
        }
        _ => {}
    }
    let kind = match message.kind {
        MessageKind::Map => "map",
        MessageKind::Object => "object",
        MessageKind::Stream => "stream",
        MessageKind::Blob => "blob",
        MessageKind::Message | MessageKind::Bytes | MessageKind::Text => return headers,
    };
    headers.push("amq-msg-type", kind.into());
    headers
}

/// What other protocols are told of OpenWire's messages, by the names of AMQP 0-9-1.
#[derive(Debug)]
pub struct MessageCodec;

impl Codec for MessageCodec {
    fn private_queues(&self) -> &'static [&'static str] {
        &["openwire-subscription-", "jms-subscription-"]
    }

    fn headers(&self, properties: &[u8]) -> Table {
        read(properties).map(|(_, message)| headers_of(&message)).unwrap_or_default()
    }

    fn property(&self, properties: &[u8], name: &str) -> Option<Value> {
        self.table(properties).get(name).cloned()
    }

    fn table(&self, properties: &[u8]) -> Table {
        let mut table = Table::default();
        let Some((_, message)) = read(properties) else { return table };
        if message.kind == MessageKind::Text {
            table.push("content_type", "text/plain".into());
        }
        if message.compressed {
            table.push("content_encoding", "deflate".into());
        }
        let headers = headers_of(&message);
        if !headers.is_empty() {
            table.push("headers", Value::Table(headers));
        }
        table.push("delivery_mode", Value::U8(if message.persistent { 2 } else { 1 }));
        table.push("priority", Value::U8(message.priority.clamp(0, 9) as u8));
        // A short string has 255 bytes at most.
        let mut text = |name: &str, text: Option<&str>| {
            if let Some(text) = text.filter(|text| text.len() <= 255) {
                table.push(name, text.into());
            }
        };
        text("correlation_id", message.correlation_id.as_deref());
        let reply_to = message.reply_to.as_ref().filter(|reply_to| !reply_to.kind.is_topic());
        text("reply_to", reply_to.and_then(|reply_to| reply_to.physical_name.as_deref()));
        text("message_id", message.message_id.as_ref().map(ToString::to_string).as_deref());
        text("type", message.message_type.as_deref());
        if message.timestamp > 0 {
            table.push("timestamp", Value::Timestamp(message.timestamp as u64 / 1000));
        }
        table
    }

    fn expiration(&self, properties: &[u8]) -> Option<String> {
        let (_, message) = read(properties)?;
        (message.expiration > 0).then(|| message.expiration.saturating_sub(message.timestamp).max(0).to_string())
    }

    fn group(&self, properties: &[u8]) -> Option<Group> {
        properties.first().filter(|form| **form & GROUPED != 0)?;
        let (_, message) = read(properties)?;
        let name = message.group_id.as_deref().filter(|name| !name.is_empty())?;
        Some(Group::new(name, message.group_sequence.into()))
    }

    fn is_text(&self, properties: &[u8]) -> bool {
        properties.first().is_some_and(|form| form & !GROUPED == TEXT)
    }

    fn routing_key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        key.into()
    }
}

/// What exchanges and selectors may want to know of a message that is being published.
#[derive(Debug)]
pub struct Published<'a>(pub &'a [u8]);

impl Facts for Published<'_> {
    fn headers(&self) -> Table {
        MessageCodec.headers(self.0)
    }

    fn property(&self, name: &str) -> Option<Value> {
        MessageCodec.property(self.0, name)
    }
}

/// Whether a message is for a temporary destination, which goes with its connection.
pub fn is_to_temporary(properties: &[u8]) -> bool {
    let destination = read(properties).and_then(|(_, message)| message.destination);
    destination.is_some_and(|destination| destination.kind.is_temporary())
}

/// When a message is to come, if it is not to come at once.
pub fn schedule(message: &Message<'_>) -> Result<Option<Schedule>, InvalidSchedule> {
    let properties = message.marshalled_properties.as_deref().unwrap_or_default();
    if !primitive::has_name(properties, schedule::SCHEDULED.as_bytes()) {
        return Ok(None);
    }
    Schedule::of_headers(&headers_of(message))
}

/// When a message is of no more use.
pub fn due(message: &Message<'_>) -> Option<Millis> {
    u64::try_from(message.expiration).ok().filter(|at| *at > 0).map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_from_bytes() {
        let is_text = |kind, content: Bytes<'static>| {
            let mut message =
                Message { kind, content: Some(content), group_id: Some("g".into()), ..Message::default() };
            MessageCodec.is_text(&Storer::default().store(&mut message).0)
        };
        assert!(is_text(MessageKind::Text, body::text_content("hello").unwrap()));
        assert!(!is_text(MessageKind::Bytes, (&b"hello"[..]).into()));
        assert!(!MessageCodec.is_text(&[]));
    }
}
