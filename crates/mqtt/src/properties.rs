//! Properties of MQTT 5 packets (section 2.2.2).

use crate::{
    topic,
    wire::{Malformed, Reader, put_binary, put_text, put_varint, varint_len},
};

/// Identifiers (section 2.2.2.2).
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0b;
    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;
}

/// The value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A byte, or an integer of any length.
    Number(u32),
    /// A string.
    Text(&'a str),
    /// Binary data.
    Binary(&'a [u8]),
    /// A pair of strings.
    Pair(&'a str, &'a str),
}

/// The properties that some packet may have, as a set of identifiers.
#[derive(Clone, Copy, Debug)]
pub struct Allowed(u64);

impl Allowed {
    const fn of(ids: &[u8]) -> Self {
        let (mut set, mut index) = (0, 0);
        while index < ids.len() {
            set |= 1 << ids[index];
            index += 1;
        }
        Self(set)
    }

    /// CONNECT (section 3.1.2.11).
    pub const CONNECT: Self = Self::of(&[
        id::SESSION_EXPIRY,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REQUEST_PROBLEM_INFORMATION,
        id::REQUEST_RESPONSE_INFORMATION,
        id::RECEIVE_MAXIMUM,
        id::TOPIC_ALIAS_MAXIMUM,
        id::USER_PROPERTY,
        id::MAXIMUM_PACKET_SIZE,
    ]);
    /// The will in CONNECT (section 3.1.3.2).
    pub const WILL: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::WILL_DELAY,
        id::USER_PROPERTY,
    ]);
    /// PUBLISH from a client (section 3.3.2.3); the subscription identifier is the server's alone (MQTT-3.3.4-6).
    pub const PUBLISH: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION_DATA,
        id::TOPIC_ALIAS,
        id::USER_PROPERTY,
    ]);
    /// PUBACK, PUBREC, PUBREL and PUBCOMP (section 3.4.2.2).
    pub const ACK: Self = Self::of(&[id::REASON_STRING, id::USER_PROPERTY]);
    /// SUBSCRIBE (section 3.8.2.1).
    pub const SUBSCRIBE: Self = Self::of(&[id::SUBSCRIPTION_ID, id::USER_PROPERTY]);
    /// UNSUBSCRIBE (section 3.10.2.1).
    pub const UNSUBSCRIBE: Self = Self::of(&[id::USER_PROPERTY]);
    /// DISCONNECT from a client (section 3.14.2.2).
    pub const DISCONNECT: Self = Self::of(&[id::SESSION_EXPIRY, id::REASON_STRING, id::USER_PROPERTY]);
    /// AUTH (section 3.15.2.2).
    pub const AUTH: Self =
        Self::of(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON_STRING, id::USER_PROPERTY]);
    /// What goes with a message from publisher to subscriber unchanged (section 3.3.2.3).
    pub const FORWARDED: Self =
        Self::of(&[id::PAYLOAD_FORMAT, id::CONTENT_TYPE, id::RESPONSE_TOPIC, id::CORRELATION_DATA, id::USER_PROPERTY]);

    const fn has(self, id: u8) -> bool {
        id < 64 && self.0 >> id & 1 == 1
    }
}

/// The properties of a packet: checked, and read where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The properties as they stand in the packet, without their length.
    pub raw: &'a [u8],
    /// Which there are.
    present: u64,
}

impl<'a> Properties<'a> {
    /// Reads the properties of a packet.
    ///
    /// # Errors
    /// If one is unknown, not of this packet, there twice (but for user properties), malformed, or has a value that it
    /// must not have.
    pub fn read(reader: &mut Reader<'a>, allowed: Allowed) -> Result<Self, Malformed> {
        let len = reader.varint()? as usize;
        let raw = reader.take(len)?;
        let (mut rest, mut present) = (Reader::new(raw), 0_u64);
        while !rest.is_empty() {
            let (id, value) = property(&mut rest)?;
            if !allowed.has(id) {
                return Err(Malformed::protocol("a property does not belong to this packet"));
            }
            if present >> id & 1 == 1 && id != id::USER_PROPERTY {
                return Err(Malformed::protocol("a property is there twice"));
            }
            present |= 1 << id;
            check(id, value)?;
        }
        Ok(Self { raw, present })
    }

    /// Properties that have been checked before.
    pub fn checked(raw: &'a [u8]) -> Self {
        let mut properties = Self { raw, present: 0 };
        properties.present = properties.iter().fold(0, |present, (id, _)| present | 1 << id);
        properties
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Value<'a>)> + use<'a> {
        let mut rest = Reader::new(self.raw);
        std::iter::from_fn(move || if rest.is_empty() { None } else { property(&mut rest).ok() })
    }

    fn get(&self, wanted: u8) -> Option<Value<'a>> {
        if self.present >> wanted & 1 == 0 {
            return None;
        }
        self.iter().find(|(id, _)| *id == wanted).map(|(_, value)| value)
    }

    /// A number, if it is there.
    pub fn number(&self, id: u8) -> Option<u32> {
        match self.get(id) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// A string, if it is there.
    pub fn text(&self, id: u8) -> Option<&'a str> {
        match self.get(id) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Binary data, if it is there.
    pub fn binary(&self, id: u8) -> Option<&'a [u8]> {
        match self.get(id) {
            Some(Value::Binary(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The user properties, in their order.
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, text) => Some((name, text)),
            _ => None,
        })
    }

    /// Whether all there are belong to the set.
    pub fn are_all(&self, allowed: Allowed) -> bool {
        self.present & !allowed.0 == 0
    }

    /// Appends those that belong to the set.
    pub fn put_those(&self, allowed: Allowed, out: &mut Vec<u8>) {
        if self.are_all(allowed) {
            return out.extend_from_slice(self.raw);
        }
        self.iter().filter(|(id, _)| allowed.has(*id)).for_each(|(id, value)| put(out, id, value));
    }
}

/// One property: its identifier and its value.
fn property<'a>(reader: &mut Reader<'a>) -> Result<(u8, Value<'a>), Malformed> {
    let id = u8::try_from(reader.varint()?).map_err(|_| UNKNOWN)?;
    let value = match id {
        id::PAYLOAD_FORMAT
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_ID_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => Value::Number(reader.byte()?.into()),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            Value::Number(reader.u16()?.into())
        }
        id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => {
            Value::Number(reader.u32()?)
        }
        id::SUBSCRIPTION_ID => Value::Number(reader.varint()?),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::ASSIGNED_CLIENT_ID
        | id::AUTHENTICATION_METHOD
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => Value::Text(reader.text()?),
        id::CORRELATION_DATA | id::AUTHENTICATION_DATA => Value::Binary(reader.binary()?),
        id::USER_PROPERTY => Value::Pair(reader.text()?, reader.text()?),
        _ => return Err(UNKNOWN),
    };
    Ok((id, value))
}

const UNKNOWN: Malformed = Malformed::packet("a property is not known");

/// Refuses values that a property must not have.
fn check(id: u8, value: Value<'_>) -> Result<(), Malformed> {
    match (id, value) {
        (
            id::PAYLOAD_FORMAT | id::REQUEST_PROBLEM_INFORMATION | id::REQUEST_RESPONSE_INFORMATION,
            Value::Number(2..),
        ) => Err(Malformed::protocol("a property is neither 0 nor 1")),
        (id::RECEIVE_MAXIMUM, Value::Number(0)) => Err(Malformed::protocol("the receive maximum is 0")),
        (id::MAXIMUM_PACKET_SIZE, Value::Number(0)) => Err(Malformed::protocol("the maximum packet size is 0")),
        (id::SUBSCRIPTION_ID, Value::Number(0)) => Err(Malformed::protocol("the subscription identifier is 0")),
        (id::RESPONSE_TOPIC, Value::Text(topic)) if !topic::is_name(topic) => {
            Err(Malformed::protocol("the response topic is no topic name"))
        }
        _ => Ok(()),
    }
}

/// Appends a property.
pub fn put(out: &mut Vec<u8>, id: u8, value: Value<'_>) {
    out.push(id);
    match value {
        Value::Number(number) => match id {
            id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::MAXIMUM_PACKET_SIZE => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
                out.extend_from_slice(&(number as u16).to_be_bytes());
            }
            id::SUBSCRIPTION_ID => put_varint(out, number as usize),
            _ => out.push(number as u8),
        },
        Value::Text(text) => put_text(out, text),
        Value::Binary(bytes) => put_binary(out, bytes),
        Value::Pair(name, text) => {
            put_text(out, name);
            put_text(out, text);
        }
    }
}

/// Appends properties with their length.
pub fn put_section(out: &mut Vec<u8>, properties: &[u8]) {
    put_varint(out, properties.len());
    out.extend_from_slice(properties);
}

/// Bytes of properties with their length.
pub fn section_len(len: usize) -> usize {
    varint_len(len) + len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(properties: &[(u8, Value<'_>)]) -> Vec<u8> {
        let mut raw = Vec::new();
        properties.iter().for_each(|(id, value)| put(&mut raw, *id, *value));
        let mut bytes = Vec::new();
        put_section(&mut bytes, &raw);
        assert_eq!(bytes.len(), section_len(raw.len()));
        bytes
    }

    fn read(properties: &[(u8, Value<'_>)], allowed: Allowed) -> Result<Vec<u8>, Malformed> {
        let bytes = section(properties);
        let read = Properties::read(&mut Reader::new(&bytes), allowed)?;
        assert!(read.iter().eq(properties.iter().copied()));
        Ok(read.raw.to_vec())
    }

    #[test]
    fn properties_come_back_in_their_order() {
        let sent = [
            (id::USER_PROPERTY, Value::Pair("a", "1")),
            (id::MESSAGE_EXPIRY, Value::Number(70_000)),
            (id::TOPIC_ALIAS, Value::Number(9)),
            (id::USER_PROPERTY, Value::Pair("a", "2")),
            (id::CORRELATION_DATA, Value::Binary(&[0, 1])),
        ];
        let raw = read(&sent, Allowed::PUBLISH).expect("they are well formed");
        let properties = Properties::checked(&raw);
        assert_eq!(properties.number(id::MESSAGE_EXPIRY), Some(70_000));
        assert_eq!(properties.user().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        let mut forwarded = Vec::new();
        properties.put_those(Allowed::FORWARDED, &mut forwarded);
        let ids: Vec<u8> = Properties::checked(&forwarded).iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [id::USER_PROPERTY, id::USER_PROPERTY, id::CORRELATION_DATA]);
    }

    #[test]
    fn what_must_not_be_is_refused() {
        let number = |id, number| [(id, Value::Number(number))];
        assert!(read(&number(id::RECEIVE_MAXIMUM, 0), Allowed::CONNECT).is_err());
        assert!(read(&number(id::MAXIMUM_PACKET_SIZE, 0), Allowed::CONNECT).is_err());
        assert!(read(&number(id::SUBSCRIPTION_ID, 0), Allowed::SUBSCRIBE).is_err());
        assert!(read(&number(id::SUBSCRIPTION_ID, 5), Allowed::PUBLISH).is_err());
        assert!(read(&number(id::PAYLOAD_FORMAT, 2), Allowed::PUBLISH).is_err());
        let twice = [(id::TOPIC_ALIAS, Value::Number(1)), (id::TOPIC_ALIAS, Value::Number(2))];
        assert!(read(&twice, Allowed::PUBLISH).is_err());
        assert!(read(&[(id::RESPONSE_TOPIC, Value::Text("a/+"))], Allowed::PUBLISH).is_err());
        assert!(Properties::read(&mut Reader::new(&[2, 0x7e, 0]), Allowed::PUBLISH).is_err());
        assert!(Properties::read(&mut Reader::new(&[9, 1, 0]), Allowed::PUBLISH).is_err());
    }
}
