//! What the model writes into the log, as bytes: messages, and the state table of topology and users.
//!
//! Numbers are big-endian, text and bytes carry a length. A first byte tells the version, so that later forms can be
//! told apart. Nothing here may change its meaning once released.

use std::sync::Arc;

use crate::{
    log::{Loaded, Position},
    message::{Message, MessageView, Origin, Parts, Traits},
    outlet::Attempts,
    policy::PolicyKind,
    queue::Segment,
    session::Millis,
    topology::{Binding, Destination, ExchangeDeclaration, ExchangeKind, QueueId},
    value::{Name, Table, Value},
};

const MESSAGE_VERSION: u8 = 3;

/// Which of a message's optional fields there are.
mod flag {
    pub(super) const DURABLE: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const DUE: u8 = 4;
    pub(super) const ANNOTATIONS: u8 = 8;
}

/// A record that cannot be read: written by a newer version, or damaged in a way that its checksum does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the broker's log cannot be read: {0}")]
pub struct Unreadable(pub &'static str);

/// Reads the pieces of a record.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader over a record.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// So many bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Unreadable("it is too short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable("it is too short"))
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self) -> Result<bool, Unreadable> {
        Ok(self.u8()? != 0)
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// Text.
    pub fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable("text is not UTF-8"))
    }

    fn name(&mut self) -> Result<Name, Unreadable> {
        self.text().map(Name::from)
    }

    /// A table.
    pub fn table(&mut self) -> Result<Table, Unreadable> {
        let count = self.u32()?;
        let mut table = Table::default();
        for _ in 0..count {
            table.0.push((self.name()?, self.value()?));
        }
        Ok(table)
    }

    fn value(&mut self) -> Result<Value, Unreadable> {
        Ok(match self.u8()? {
            0 => Value::Void,
            1 => Value::Bool(self.flag()?),
            2 => Value::I8(self.u8()? as i8),
            3 => Value::U8(self.u8()?),
            4 => Value::I16(self.u16()? as i16),
            5 => Value::U16(self.u16()?),
            6 => Value::I32(self.u32()? as i32),
            7 => Value::U32(self.u32()?),
            8 => Value::I64(self.u64()? as i64),
            9 => Value::F32(f32::from_bits(self.u32()?)),
            10 => Value::F64(f64::from_bits(self.u64()?)),
            11 => Value::Decimal(self.u8()?, self.u32()? as i32),
            12 => Value::Text(self.bytes()?.to_vec()),
            13 => Value::Bytes(self.bytes()?.to_vec()),
            14 => Value::Timestamp(self.u64()?),
            15 => Value::Array((0..self.u32()?).map(|_| self.value()).collect::<Result<_, _>>()?),
            16 => Value::Table(self.table()?),
            _ => return Err(Unreadable("a value has an unknown type")),
        })
    }
}

/// Appends text with its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a table.
pub fn put_table(out: &mut Vec<u8>, table: &Table) {
    out.extend_from_slice(&(table.0.len() as u32).to_be_bytes());
    for (name, value) in &table.0 {
        put_text(out, name);
        put_value(out, value);
    }
}

/// Appends an entry of a table.
pub fn put_entry(out: &mut Vec<u8>, name: &str, value: &Value) {
    put_text(out, name);
    put_value(out, value);
}

/// Appends an entry of a table that is text.
pub fn put_text_entry(out: &mut Vec<u8>, name: &str, value: &str) {
    put_text(out, name);
    out.push(12);
    put_text(out, value);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Void => put(0, &[]),
        Value::Bool(v) => put(1, &[(*v).into()]),
        Value::I8(v) => put(2, &v.to_be_bytes()),
        Value::U8(v) => put(3, &[*v]),
        Value::I16(v) => put(4, &v.to_be_bytes()),
        Value::U16(v) => put(5, &v.to_be_bytes()),
        Value::I32(v) => put(6, &v.to_be_bytes()),
        Value::U32(v) => put(7, &v.to_be_bytes()),
        Value::I64(v) => put(8, &v.to_be_bytes()),
        Value::F32(v) => put(9, &v.to_bits().to_be_bytes()),
        Value::F64(v) => put(10, &v.to_bits().to_be_bytes()),
        Value::Decimal(scale, v) => {
            put(11, &[*scale]);
            out.extend_from_slice(&v.to_be_bytes());
        }
        Value::Text(v) => {
            put(12, &[]);
            put_bytes(out, v);
        }
        Value::Bytes(v) => {
            put(13, &[]);
            put_bytes(out, v);
        }
        Value::Timestamp(v) => put(14, &v.to_be_bytes()),
        Value::Array(values) => {
            put(15, &(values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| put_value(out, value));
        }
        Value::Table(table) => {
            put(16, &[]);
            put_table(out, table);
        }
    }
}

/// Appends all of a message but its payload, which follows it in the record.
pub fn put_message_head(out: &mut Vec<u8>, message: &MessageView<'_>) {
    let flags = [
        (message.durable, flag::DURABLE),
        (message.priority.is_some(), flag::PRIORITY),
        (message.due.is_some(), flag::DUE),
        (!message.annotations.is_empty(), flag::ANNOTATIONS),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
    out.extend_from_slice(&[MESSAGE_VERSION, message.origin.0, flags]);
    out.extend_from_slice(&message.arrived.0.to_be_bytes());
    out.extend(message.priority);
    if let Some(due) = message.due {
        out.extend_from_slice(&due.0.to_be_bytes());
    }
    put_text(out, message.exchange);
    out.extend_from_slice(&(message.routing_key.len() as u16).to_be_bytes());
    out.extend_from_slice(&(message.properties.len() as u32).to_be_bytes());
    if !message.annotations.is_empty() {
        out.extend_from_slice(&(message.annotations.len() as u32).to_be_bytes());
    }
    out.extend_from_slice(message.routing_key.as_bytes());
    out.extend_from_slice(message.properties);
    out.extend_from_slice(message.annotations);
}

/// Reads a page of messages, which share its bytes.
///
/// # Errors
/// If one of them is not a message of a known version.
pub fn messages(loaded: &Loaded) -> Result<Vec<(Position, Arc<Message>)>, Unreadable> {
    let mut messages = Vec::with_capacity(loaded.bodies.len());
    // Neighbours have mostly come by the same exchange.
    let mut exchange = Name::from("");
    for (position, range) in &loaded.bodies {
        let body = loaded.bytes.get(range.clone()).ok_or(Unreadable("a page is too short"))?;
        let mut reader = Reader::new(body);
        let (traits, parts) = read_message_head(&mut reader, &mut exchange)?;
        let block = loaded.bytes.slice_ref(reader.0);
        if block.len() < parts.head_len() {
            return Err(Unreadable("a message is too short"));
        }
        std::str::from_utf8(&block[..parts.routing_key_len as usize])
            .map_err(|_| Unreadable("a routing key is not UTF-8"))?;
        messages.push((Position(*position), Arc::new(Message::from_block(exchange.clone(), block, parts, traits))));
    }
    Ok(messages)
}

fn read_message_head(reader: &mut Reader<'_>, exchange: &mut Name) -> Result<(Traits, Parts), Unreadable> {
    if reader.u8()? != MESSAGE_VERSION {
        return Err(Unreadable("a message has an unknown version"));
    }
    let (origin, flags) = (Origin(reader.u8()?), reader.u8()?);
    let arrived = Millis(reader.u64()?);
    let priority = if flags & flag::PRIORITY != 0 { Some(reader.u8()?) } else { None };
    let due = if flags & flag::DUE != 0 { Some(Millis(reader.u64()?)) } else { None };
    let name = reader.text()?;
    if *name != **exchange {
        *exchange = name.into();
    }
    let (routing_key_len, properties_len) = (reader.u16()?, reader.u32()?);
    let annotations_len = if flags & flag::ANNOTATIONS != 0 { reader.u32()? } else { 0 };
    let traits = Traits { origin, durable: flags & flag::DURABLE != 0, priority, arrived, due };
    Ok((traits, Parts { routing_key_len, properties_len, annotations_len }))
}

/// An entry of the state table.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// A vhost.
    Vhost {
        /// Its name.
        name: Name,
        /// What is said of it: description, tags, default queue type.
        metadata: Table,
    },
    /// A user, as [`crate::identity`] writes it.
    User(Name, Vec<u8>),
    /// A durable exchange.
    Exchange {
        /// Its vhost.
        vhost: Name,
        /// Its name.
        name: Name,
        /// Its properties.
        declaration: ExchangeDeclaration,
    },
    /// A durable queue.
    Queue {
        /// Its vhost.
        vhost: Name,
        /// Its name.
        name: Name,
        /// Its identity.
        id: QueueId,
        /// Whether it goes with its last consumer.
        auto_delete: bool,
        /// Its arguments.
        arguments: Table,
    },
    /// What a durable delay exchange keeps back.
    Delay {
        /// Its vhost.
        vhost: Name,
        /// The exchange.
        exchange: Name,
        /// The identity of the queue for it.
        id: QueueId,
    },
    /// A queue may hold messages with a time of their own.
    Timed(QueueId),
    /// A segment of a stream.
    Segment {
        /// The stream.
        id: QueueId,
        /// The offset of its first message.
        offset: u64,
        /// What is known of it; of the last one no bytes, and not when its last message came.
        segment: Segment,
    },
    /// How often a message came back.
    Attempts {
        /// Its queue.
        id: QueueId,
        /// Its record there.
        record: u64,
        /// How often.
        attempts: Attempts,
    },
    /// A policy, as [`crate::policy`] writes it.
    Policy {
        /// Its vhost.
        vhost: Name,
        /// Whose it is.
        kind: PolicyKind,
        /// Its name.
        name: Name,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// A runtime parameter.
    Parameter {
        /// Its vhost; empty for all of them.
        vhost: Name,
        /// What it is for.
        component: Name,
        /// Its name.
        name: Name,
        /// Its value.
        value: Value,
    },
    /// Something that a protocol keeps.
    Note {
        /// Whose it is.
        origin: Origin,
        /// By what the protocol knows it.
        key: Vec<u8>,
        /// What it is.
        value: Vec<u8>,
    },
    /// The last message of each topic, for subscribers to come.
    Retained {
        /// The vhost.
        vhost: Name,
        /// The identity of the queue for them.
        id: QueueId,
    },
    /// A binding between durable ends.
    Binding {
        /// Its vhost.
        vhost: Name,
        /// The binding.
        binding: Binding,
    },
}

impl State {
    /// The key that a later `Put` or `Remove` of the same thing has too.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        match self {
            Self::Vhost { name, .. } => {
                key.push(b'v');
                put_text(&mut key, name);
            }
            Self::Delay { vhost, exchange, .. } => {
                key.push(b'd');
                put_text(&mut key, vhost);
                put_text(&mut key, exchange);
            }
            Self::Note { origin, key: name, .. } => return Self::note_key(*origin, name),
            Self::Retained { vhost, .. } => {
                key.push(b'r');
                put_text(&mut key, vhost);
            }
            Self::Timed(id) => {
                key.push(b't');
                key.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Segment { id, offset, .. } => return Self::segment_key(*id, *offset),
            Self::Attempts { id, record, .. } => return Self::attempts_key(*id, *record),
            Self::Policy { vhost, kind, name, .. } => {
                key.push(if *kind == PolicyKind::User { b'p' } else { b'o' });
                put_text(&mut key, vhost);
                put_text(&mut key, name);
            }
            Self::Parameter { vhost, component, name, .. } => {
                key.push(b'a');
                [vhost, component, name].into_iter().for_each(|text| put_text(&mut key, text));
            }
            Self::User(name, _) => {
                key.push(b'u');
                put_text(&mut key, name);
            }
            Self::Exchange { vhost, name, .. } => return Self::exchange_key(vhost, name),
            Self::Queue { vhost, name, .. } => {
                key.push(b'y');
                put_text(&mut key, vhost);
                put_text(&mut key, name);
            }
            Self::Binding { vhost, binding } => {
                key.push(b'z');
                put_text(&mut key, vhost);
                put_text(&mut key, &binding.source);
                put_destination(&mut key, &binding.destination);
                put_text(&mut key, &binding.key);
                put_table(&mut key, &binding.arguments);
            }
        }
        key
    }

    /// The key of something that a protocol keeps.
    pub fn note_key(origin: Origin, name: &[u8]) -> Vec<u8> {
        let mut key = vec![b'k', origin.0];
        key.extend_from_slice(name);
        key
    }

    /// The key of how often a message came back.
    pub fn attempts_key(id: QueueId, record: u64) -> Vec<u8> {
        let mut key = vec![b'n'];
        key.extend_from_slice(&id.0.to_be_bytes());
        key.extend_from_slice(&record.to_be_bytes());
        key
    }

    /// The key of a stream's segment.
    pub fn segment_key(id: QueueId, offset: u64) -> Vec<u8> {
        let mut key = vec![b's'];
        key.extend_from_slice(&id.0.to_be_bytes());
        key.extend_from_slice(&offset.to_be_bytes());
        key
    }

    /// The key of an exchange.
    pub fn exchange_key(vhost: &str, name: &str) -> Vec<u8> {
        let mut key = vec![b'x'];
        put_text(&mut key, vhost);
        put_text(&mut key, name);
        key
    }

    /// What does not stand in the key.
    pub fn value(&self) -> Vec<u8> {
        let mut value = vec![1];
        match self {
            Self::Timed(_) | Self::Binding { .. } => {}
            Self::Vhost { metadata, .. } => put_table(&mut value, metadata),
            Self::User(_, bytes) | Self::Policy { bytes, .. } => value.extend_from_slice(bytes),
            Self::Delay { id, .. } | Self::Retained { id, .. } => value.extend_from_slice(&id.0.to_be_bytes()),
            Self::Note { value: note, .. } => value.extend_from_slice(note),
            Self::Attempts { attempts, .. } => {
                value.extend_from_slice(&attempts.acquired.to_be_bytes());
                value.extend_from_slice(&attempts.failed.to_be_bytes());
            }
            Self::Segment { segment, .. } => {
                for number in [segment.first.0, segment.from.0, segment.bytes, segment.until.0] {
                    value.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Parameter { value: parameter, .. } => put_value(&mut value, parameter),
            Self::Exchange { declaration, .. } => {
                put_text(&mut value, declaration.kind.name());
                value.push(declaration.auto_delete.into());
                value.push(declaration.internal.into());
                put_table(&mut value, &declaration.arguments);
            }
            Self::Queue { id, auto_delete, arguments, .. } => {
                value.extend_from_slice(&id.0.to_be_bytes());
                value.push((*auto_delete).into());
                put_table(&mut value, arguments);
            }
        }
        value
    }

    /// Reads an entry of the state table.
    ///
    /// # Errors
    /// If key or value are not of a known form.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Self, Unreadable> {
        let (mut key, mut value) = (Reader::new(key), Reader::new(value));
        let kind = key.u8()?;
        if value.u8()? != 1 {
            return Err(Unreadable("an entry of the state table has an unknown version"));
        }
        Ok(match kind {
            b'v' => Self::Vhost { name: key.name()?, metadata: value.table()? },
            b'd' => Self::Delay { vhost: key.name()?, exchange: key.name()?, id: QueueId(value.u64()?) },
            b'k' => Self::Note { origin: Origin(key.u8()?), key: key.0.to_vec(), value: value.0.to_vec() },
            b'r' => Self::Retained { vhost: key.name()?, id: QueueId(value.u64()?) },
            b'n' => Self::Attempts {
                id: QueueId(key.u64()?),
                record: key.u64()?,
                attempts: Attempts { acquired: value.u32()?, failed: value.u32()? },
            },
            b's' => Self::Segment {
                id: QueueId(key.u64()?),
                offset: key.u64()?,
                segment: Segment {
                    first: Position(value.u64()?),
                    from: Millis(value.u64()?),
                    bytes: value.u64()?,
                    until: Millis(value.u64()?),
                },
            },
            b't' => Self::Timed(QueueId(key.u64()?)),
            b'p' | b'o' => Self::Policy {
                vhost: key.name()?,
                kind: if kind == b'p' { PolicyKind::User } else { PolicyKind::Operator },
                name: key.name()?,
                bytes: value.0.to_vec(),
            },
            b'a' => {
                Self::Parameter { vhost: key.name()?, component: key.name()?, name: key.name()?, value: value.value()? }
            }
            b'u' => Self::User(key.name()?, value.0.to_vec()),
            b'x' => Self::Exchange {
                vhost: key.name()?,
                name: key.name()?,
                declaration: ExchangeDeclaration {
                    kind: ExchangeKind::parse(value.text()?)
                        .map_err(|_| Unreadable("an exchange has an unknown type"))?,
                    durable: true,
                    auto_delete: value.flag()?,
                    internal: value.flag()?,
                    arguments: value.table()?,
                },
            },
            b'y' => Self::Queue {
                vhost: key.name()?,
                name: key.name()?,
                id: QueueId(value.u64()?),
                auto_delete: value.flag()?,
                arguments: value.table()?,
            },
            b'z' => Self::Binding {
                vhost: key.name()?,
                binding: Binding {
                    source: key.name()?,
                    destination: read_destination(&mut key)?,
                    key: key.name()?,
                    arguments: key.table()?,
                },
            },
            _ => return Err(Unreadable("an entry of the state table has an unknown kind")),
        })
    }
}

fn put_destination(out: &mut Vec<u8>, destination: &Destination) {
    match destination {
        Destination::Queue(id) => {
            out.push(0);
            out.extend_from_slice(&id.0.to_be_bytes());
        }
        Destination::Exchange(name) => {
            out.push(1);
            put_text(out, name);
        }
    }
}

fn read_destination(reader: &mut Reader<'_>) -> Result<Destination, Unreadable> {
    Ok(match reader.u8()? {
        0 => Destination::Queue(QueueId(reader.u64()?)),
        1 => Destination::Exchange(reader.name()?),
        _ => return Err(Unreadable("a binding has an unknown destination")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_reads_back_as_written() {
        let mut arguments = Table::default();
        arguments.push("x-a", Value::Array(vec![Value::I32(-1), Value::Bool(true), Value::Void]));
        arguments.push("x-b", Value::Table(Table(vec![("t".into(), Value::Timestamp(7))])));
        let declaration = ExchangeDeclaration {
            kind: ExchangeKind::Topic,
            durable: true,
            auto_delete: true,
            internal: false,
            arguments: arguments.clone(),
        };
        let binding =
            |destination| Binding { source: "s".into(), destination, key: "k".into(), arguments: arguments.clone() };
        let vhost = Name::from("/");
        for state in [
            State::Vhost { name: vhost.clone(), metadata: arguments.clone() },
            State::Delay { vhost: vhost.clone(), exchange: "x".into(), id: QueueId(7) },
            State::Retained { vhost: vhost.clone(), id: QueueId(8) },
            State::Note { origin: Origin(9), key: b"k".to_vec(), value: b"v".to_vec() },
            State::Timed(QueueId(7)),
            State::Attempts { id: QueueId(7), record: 8, attempts: Attempts { acquired: 2, failed: 1 } },
            State::Segment { id: QueueId(7), offset: 9, segment: Segment { bytes: 3, ..Segment::default() } },
            State::Policy { vhost: vhost.clone(), kind: PolicyKind::Operator, name: "p".into(), bytes: vec![3] },
            State::Parameter {
                vhost: "".into(),
                component: "c".into(),
                name: "n".into(),
                value: Value::Table(arguments.clone()),
            },
            State::User("u".into(), vec![1, 2]),
            State::Exchange { vhost: vhost.clone(), name: "x".into(), declaration },
            State::Queue {
                vhost: vhost.clone(),
                name: "q".into(),
                id: QueueId(9),
                auto_delete: false,
                arguments: arguments.clone(),
            },
            State::Binding { vhost: vhost.clone(), binding: binding(Destination::Queue(QueueId(9))) },
            State::Binding { vhost, binding: binding(Destination::Exchange("y".into())) },
        ] {
            assert_eq!(State::read(&state.key(), &state.value()), Ok(state));
        }
    }

    #[test]
    fn damaged_records_are_errors_and_not_panics() {
        let mut body = Vec::new();
        let exchange = Name::from("x");
        let view = MessageView {
            exchange: &exchange,
            routing_key: "key",
            origin: Origin(1),
            durable: true,
            priority: Some(3),
            arrived: Millis(1),
            due: Some(Millis(2)),
            properties: b"props",
            annotations: b"notes",
            payload: b"",
            block: None,
        };
        put_message_head(&mut body, &view);
        let read = |bytes: &[u8]| messages(&Loaded::new([(5, bytes.to_vec())], Position(6)));
        let read_back = read(&body).unwrap();
        let view = read_back[0].1.view();
        assert_eq!((read_back[0].0, view.properties, view.annotations), (Position(5), &b"props"[..], &b"notes"[..]));
        assert_eq!((view.priority, view.arrived, view.due), (Some(3), Millis(1), Some(Millis(2))));
        for len in 0..body.len() {
            assert!(read(&body[..len]).is_err(), "cut at {len}");
        }
    }
}
