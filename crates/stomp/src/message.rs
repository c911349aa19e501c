//! A message's headers, as they are stored, and what they are to other protocols.
//!
//! The property bytes of a message that came by STOMP are a byte that tells whether its body was said to be text, and the
//! headers of its SEND that are about the message: for each the length of its name (two bytes), the name, the length of
//! its value (four bytes) and the value.

use broker::{Codec, Facts, MessageView, Table, Value};

use crate::{
    destination::{self, is_destination},
    wire::{Frame, Version, put_header},
};

/// Headers of a SEND that are about the frame and not about the message.
const OF_FRAME: [&str; 4] = ["destination", "receipt", "transaction", "content-length"];

/// Headers of a MESSAGE that the broker alone sets.
const OF_BROKER: [&str; 7] =
    ["subscription", "destination", "message-id", "redelivered", "ack", "content-length", "receipt"];

/// Headers that are properties of AMQP 0-9-1: their names here and there, and their types.
const PROPERTIES: [(&str, &str, Form); 12] = [
    ("content-type", "content_type", Form::Text),
    ("content-encoding", "content_encoding", Form::Text),
    ("persistent", "delivery_mode", Form::Persistent),
    ("priority", "priority", Form::Priority),
    ("correlation-id", "correlation_id", Form::Text),
    ("reply-to", "reply_to", Form::Text),
    ("expiration", "expiration", Form::Text),
    ("amqp-message-id", "message_id", Form::Text),
    ("timestamp", "timestamp", Form::Timestamp),
    ("type", "type", Form::Text),
    ("user-id", "user_id", Form::Text),
    ("app-id", "app_id", Form::Text),
];

/// The header by which MQTT's response topic is told to other protocols, and theirs to MQTT: a routing key.
const REPLY_TO_TOPIC: &str = "x-reply-to-topic";

/// Bytes of a short string in AMQP 0-9-1: what is longer cannot be a property there, or a header's name.
const SHORT_BYTES: usize = 255;

#[derive(Clone, Copy)]
enum Form {
    Text,
    Persistent,
    Priority,
    Timestamp,
}

/// The stored headers of a message.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// The headers in `bytes`, which [`Stored::bytes_of`] has made.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What is to be stored of a SEND. `reply_to` takes the place of its own, if it is given.
    pub fn bytes_of(frame: &Frame<'_>, reply_to: Option<&str>) -> Vec<u8> {
        let is_text = frame.header("content-length").is_none();
        let mut out = vec![u8::from(is_text)];
        for (at, (name, value)) in frame.headers.iter().enumerate() {
            let is_repeated = frame.headers[..at].iter().any(|(before, _)| before == name);
            if is_repeated || OF_FRAME.contains(&&**name) {
                continue;
            }
            let value = reply_to.filter(|_| name == "reply-to").unwrap_or(value);
            let Ok(name_len) = u16::try_from(name.len()) else { continue };
            out.extend_from_slice(&name_len.to_be_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out
    }

    /// Whether the body was said to be text, by leaving out its length, as ActiveMQ has it.
    pub fn is_text(&self) -> bool {
        self.bytes.first() == Some(&1)
    }

    /// Names and values.
    pub fn headers(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut rest = self.bytes.get(1..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (name_len, after) = rest.split_first_chunk()?;
            let (name, after) = after.split_at_checked(u16::from_be_bytes(*name_len).into())?;
            let (value_len, after) = after.split_first_chunk()?;
            let (value, after) = after.split_at_checked(u32::from_be_bytes(*value_len) as usize)?;
            rest = after;
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    fn get(self, name: &str) -> Option<&'a str> {
        self.headers().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// A property's value; nothing if the header is not what the property has to be.
fn property(form: Form, text: &str) -> Option<Value> {
    Some(match form {
        Form::Text => Some(text).filter(|text| text.len() <= SHORT_BYTES)?.into(),
        Form::Persistent => Value::U8(if is_true(text) { 2 } else { return None }),
        Form::Priority => Value::U8(text.trim().parse().ok()?),
        Form::Timestamp => Value::Timestamp(text.trim().parse().ok()?),
    })
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "True")
}

/// What other protocols are told of STOMP's headers, by the names of AMQP 0-9-1.
#[derive(Debug)]
pub struct PropertyCodec;

impl Codec for PropertyCodec {
    fn private_queues(&self) -> &'static [&'static str] {
        &["stomp-subscription-", "jms-subscription-"]
    }

    fn headers(&self, properties: &[u8]) -> Table {
        let stored = Stored::new(properties);
        let mut headers = Table::default();
        for (name, value) in stored.headers() {
            let known = PROPERTIES.iter().find(|(own, ..)| *own == name);
            let is_property = known.is_some_and(|(.., form)| property(*form, value).is_some() || value == "false");
            // ActiveMQ's name for what other protocols have as the time to live.
            let is_property = is_property || name == "expires" && value.trim().parse::<u64>().is_ok();
            if !is_property && name.len() <= SHORT_BYTES {
                headers.push(name, value.into());
            }
        }
        let topic = stored.get("reply-to").and_then(|reply_to| reply_to.strip_prefix("/topic/"));
        if let Some(topic) = topic.filter(|_| headers.get(REPLY_TO_TOPIC).is_none()) {
            headers.push(REPLY_TO_TOPIC, topic.into());
        }
        headers
    }

    fn property(&self, properties: &[u8], name: &str) -> Option<Value> {
        let (own, _, form) = PROPERTIES.iter().find(|(_, other, _)| *other == name)?;
        property(*form, Stored::new(properties).get(own)?)
    }

    fn table(&self, properties: &[u8]) -> Table {
        let mut table = Table::default();
        for (_, name, _) in PROPERTIES {
            if let Some(value) = self.property(properties, name) {
                table.push(name, value);
            }
        }
        let headers = self.headers(properties);
        if !headers.is_empty() {
            table.push("headers", Value::Table(headers));
        }
        table
    }

    fn expiration(&self, properties: &[u8]) -> Option<String> {
        Stored::new(properties).get("expiration").map(str::to_owned)
    }

    fn is_text(&self, properties: &[u8]) -> bool {
        Stored::new(properties).is_text()
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

/// Writes the headers of a MESSAGE that are about the message itself.
pub struct HeaderWriter<'o> {
    out: &'o mut Vec<u8>,
    version: Version,
}

impl<'o> HeaderWriter<'o> {
    /// A writer to `out`, for a client of a version.
    pub fn new(out: &'o mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// What the broker adds; all of it, if the message is the broker's own. It comes first, so that it counts where the
    /// publisher chose the same name.
    pub fn annotations(&mut self, annotations: &Table, all: bool) {
        let told = annotations.0.iter().filter(|(name, _)| all || name.starts_with("x-"));
        told.for_each(|(name, value)| self.put(name, value));
    }

    /// The headers of a message that came by STOMP.
    pub fn own(&mut self, message: &MessageView<'_>, is_dead: bool) {
        for (name, value) in Stored::new(message.properties).headers() {
            match name {
                _ if OF_BROKER.contains(&name) => {}
                "expiration" if is_dead => {}
                "persistent" if !is_true(value) => {}
                "reply-to" => self.reply_to(value),
                _ => put_header(self.out, name, value, self.version),
            }
        }
    }

    /// The headers of a message that came by another protocol, by the names of AMQP 0-9-1.
    pub fn others(&mut self, table: &Table, is_dead: bool) {
        for (name, other, _) in PROPERTIES {
            let Some(value) = table.get(other) else { continue };
            match (name, value) {
                ("persistent", value) if value.as_integer() == Some(2) => self.put(name, &"true".into()),
                ("persistent", _) => {}
                ("expiration", _) if is_dead => {}
                ("reply-to", value) => value.as_text().into_iter().for_each(|text| self.reply_to(text)),
                (_, Value::Timestamp(seconds)) => put_header(self.out, name, &seconds.to_string(), self.version),
                (_, value) => self.put(name, value),
            }
        }
        let Some(Value::Table(headers)) = table.get("headers") else { return };
        let topic = headers.get(REPLY_TO_TOPIC).and_then(Value::as_text);
        if let Some(topic) = topic.filter(|_| table.get("reply_to").is_none()) {
            self.reply_to(&destination::of_routing(crate::EXCHANGE, topic));
        }
        headers.0.iter().for_each(|(name, value)| self.put(name, value));
    }

    /// A reply goes to a destination, or to the queue that another protocol names.
    fn reply_to(&mut self, text: &str) {
        if is_destination(text) {
            return put_header(self.out, "reply-to", text, self.version);
        }
        put_header(self.out, "reply-to", &format!("/reply-queue/{text}"), self.version);
    }

    /// A header with a value that has a text; others are left out, as RabbitMQ does.
    fn put(&mut self, name: &str, value: &Value) {
        if OF_BROKER.contains(&name) {
            return;
        }
        let text = match value {
            Value::Bool(value) => value.to_string(),
            Value::F32(value) => value.to_string(),
            Value::F64(value) => value.to_string(),
            value => match (value.as_text(), value.as_integer()) {
                (Some(text), _) => return put_header(self.out, name, text, self.version),
                (None, Some(number)) => number.to_string(),
                (None, None) => return,
            },
        };
        put_header(self.out, name, &text, self.version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(headers: &[(&'static str, &'static str)]) -> Frame<'static> {
        let headers = headers.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        Frame { command: "SEND", headers, body: b"" }
    }

    #[test]
    fn headers_cross_over() {
        let sent = frame(&[
            ("destination", "/queue/q"),
            ("receipt", "1"),
            ("persistent", "true"),
            ("priority", "4"),
            ("priority", "5"),
            ("timestamp", "9"),
            ("reply-to", "/topic/r.1"),
            ("colour", "red"),
        ]);
        let bytes = Stored::bytes_of(&sent, None);
        assert!(Stored::new(&bytes).is_text());
        let table = PropertyCodec.table(&bytes);
        assert_eq!(table.get("delivery_mode"), Some(&Value::U8(2)));
        assert_eq!(table.get("priority"), Some(&Value::U8(4)));
        assert_eq!(table.get("timestamp"), Some(&Value::Timestamp(9)));
        let headers = Table(vec![("colour".into(), "red".into()), (REPLY_TO_TOPIC.into(), "r.1".into())]);
        assert_eq!(table.get("headers"), Some(&Value::Table(headers)));
        let mut out = Vec::new();
        HeaderWriter::new(&mut out, Version::V12).others(&table, false);
        let told = String::from_utf8(out).unwrap();
        assert_eq!(
            told,
            "persistent:true\npriority:4\nreply-to:/topic/r.1\ntimestamp:9\ncolour:red\nx-reply-to-topic:r.1\n"
        );
        let replaced = Stored::bytes_of(&sent, Some("q"));
        assert_eq!(Stored::new(&replaced).get("reply-to"), Some("q"));
    }

    #[test]
    fn damaged_bytes_have_fewer_headers() {
        let bytes = Stored::bytes_of(&frame(&[("a", "b"), ("c", "d")]), None);
        for len in 0..bytes.len() {
            assert!(Stored::new(&bytes[..len]).headers().count() < 2);
        }
    }
}
