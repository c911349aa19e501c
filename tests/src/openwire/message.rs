//! A message, as a producer sends it and a consumer gets it.

use super::primitive::{self, Primitive};
use super::transaction::Transaction;
use crate::raw::{Malformed, Reader, Writer};

/// A queue or topic: its type code, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub kind: u8,
    pub name: String,
}

impl Destination {
    pub fn queue(name: &str) -> Self {
        Self { kind: 100, name: name.to_owned() }
    }

    pub fn topic(name: &str) -> Self {
        Self { kind: 101, name: name.to_owned() }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u8(1).u8(self.kind);
        write_text(Some(&self.name), out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        if input.u8()? == 0 {
            return Ok(None);
        }
        Ok(Some(Self { kind: input.u8()?, name: read_text(input)?.unwrap_or_default() }))
    }
}

/// What an application sets and sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// 23 to 29: without a body, bytes, a map, an object, a stream, a text, a blob.
    pub kind: u8,
    pub destination: Option<Destination>,
    pub group_id: Option<String>,
    pub group_sequence: i32,
    pub correlation_id: Option<String>,
    pub persistent: bool,
    /// In milliseconds since 1970; 0 for never.
    pub expiration: i64,
    pub priority: u8,
    pub reply_to: Option<Destination>,
    pub timestamp: i64,
    pub message_type: Option<String>,
    pub content: Option<Vec<u8>>,
    pub properties: Vec<(String, Primitive)>,
    pub user_id: Option<String>,
    /// Its id, as it stands on the wire.
    pub id: Vec<u8>,
    /// Its id if it is a text, as another protocol has it.
    pub id_text: Option<String>,
}

pub(super) fn write_text(text: Option<&str>, out: &mut Writer) {
    match text {
        Some(text) => out.u8(1).u16(text.len() as u16).raw(text.as_bytes()),
        None => out.u8(0),
    };
}

pub(super) fn read_text(input: &mut Reader<'_>) -> Result<Option<String>, Malformed> {
    if input.u8()? == 0 { Ok(None) } else { primitive::text(input).map(Some) }
}

pub(super) fn write_bytes(bytes: Option<&[u8]>, out: &mut Writer) {
    match bytes {
        Some(bytes) => out.u8(1).long_text(bytes),
        None => out.u8(0),
    };
}

pub(super) fn read_bytes(input: &mut Reader<'_>) -> Result<Option<Vec<u8>>, Malformed> {
    if input.u8()? == 0 { Ok(None) } else { input.long_text().map(|bytes| Some(bytes.to_vec())) }
}

/// A consumer or producer: type code, the connection's name and two numbers, here always 1.
pub(super) fn write_member(code: u8, client: &str, out: &mut Writer) {
    out.u8(1).u8(code);
    write_text(Some(client), out);
    out.u64(1).u64(1);
}

/// Skips an id, if there is one.
pub(super) fn skip_id(input: &mut Reader<'_>) -> Result<(), Malformed> {
    if input.u8()? == 0 {
        return Ok(());
    }
    match input.u8()? {
        110 => {
            read_text(input)?;
            skip_id(input)?;
            input.take(16)?;
        }
        111 => {
            input.take(8)?;
            skip_id(input)?;
        }
        112 => {
            input.take(4)?;
            read_bytes(input)?;
            read_bytes(input)?;
        }
        120 => drop(read_text(input)?),
        122 | 123 => {
            read_text(input)?;
            input.take(16)?;
        }
        _ => return Err(Malformed),
    }
    Ok(())
}

impl Message {
    /// The body of its frame, with a number of its producer.
    pub(super) fn write(&self, transaction: Option<&Transaction>, client: &str, number: u64, out: &mut Writer) {
        write_member(123, client, out);
        self.destination.as_ref().expect("a message goes somewhere").write(out);
        Transaction::write(transaction, client, out);
        // No destination before.
        out.u8(0).u8(1).u8(110).u8(0);
        write_member(123, client, out);
        out.u64(number).u64(0).u8(0);
        write_text(self.group_id.as_deref(), out);
        out.u32(self.group_sequence as u32);
        write_text(self.correlation_id.as_deref(), out);
        out.u8(u8::from(self.persistent)).u64(self.expiration as u64).u8(self.priority);
        match &self.reply_to {
            Some(destination) => destination.write(out),
            None => drop(out.u8(0)),
        }
        out.u64(self.timestamp as u64);
        write_text(self.message_type.as_deref(), out);
        write_bytes(self.content.as_deref(), out);
        let mut properties = Writer::default();
        primitive::write_map(&self.properties, &mut properties);
        let properties = (!self.properties.is_empty()).then(|| properties.into_bytes());
        write_bytes(properties.as_deref(), out);
        // No data structure, target, compression, deliveries, path, arrival.
        out.u8(0).u8(0).u8(0).u32(0).u8(0).u64(0);
        write_text(self.user_id.as_deref(), out);
        // Of no network, not to be dropped, no cluster, no times, not the first of its group.
        out.u8(0).u8(0).u8(0).u64(0).u64(0).u8(0);
    }

    /// Of what follows its type code, up to the user id.
    pub(super) fn read(kind: u8, input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut message = Self { kind, ..Self::default() };
        // Its number, and whether it wants an answer.
        input.take(5)?;
        skip_id(input)?;
        message.destination = Destination::read(input)?;
        skip_id(input)?;
        Destination::read(input)?;
        let before = input.rest();
        skip_id(input)?;
        message.id = before[..before.len() - input.rest().len()].to_vec();
        message.id_text = message.id.get(2..).and_then(|id| read_text(&mut Reader::new(id)).ok()?);
        skip_id(input)?;
        message.group_id = read_text(input)?;
        message.group_sequence = input.u32()? as i32;
        message.correlation_id = read_text(input)?;
        message.persistent = input.u8()? != 0;
        message.expiration = input.u64()? as i64;
        message.priority = input.u8()?;
        message.reply_to = Destination::read(input)?;
        message.timestamp = input.u64()? as i64;
        message.message_type = read_text(input)?;
        message.content = read_bytes(input)?;
        if let Some(properties) = read_bytes(input)? {
            message.properties = primitive::read_map(&mut Reader::new(&properties))?;
        }
        // No data structure, target, compression; deliveries, path, arrival.
        input.take(3 + 4 + 1 + 8)?;
        message.user_id = read_text(input)?;
        Ok(message)
    }

    /// The values of a map's body, or of a stream's, without names.
    pub fn values(&self) -> Vec<(String, Primitive)> {
        let content = self.content.as_deref().unwrap_or_default();
        let mut input = Reader::new(content);
        if self.kind == 25 {
            return primitive::read_map(&mut input).expect("a map");
        }
        let mut values = Vec::new();
        while !input.is_empty() {
            values.push((String::new(), Primitive::read(&mut input).expect("a value")));
        }
        values
    }

    /// The content of a map message.
    pub fn map(values: &[(String, Primitive)]) -> Vec<u8> {
        let mut out = Writer::default();
        primitive::write_map(values, &mut out);
        out.into_bytes()
    }

    /// The content of a stream message.
    pub fn stream(values: &[Primitive]) -> Vec<u8> {
        let mut out = Writer::default();
        values.iter().for_each(|value| value.write(&mut out));
        out.into_bytes()
    }

    /// The content of a text message.
    pub fn text(text: &str) -> Vec<u8> {
        let mut out = Writer::default();
        out.long_text(text.as_bytes());
        out.into_bytes()
    }
}
