//! The control packets that clients send (chapter 3), read where they stand.

use crate::{
    mapping::Reason,
    properties::{Allowed, Properties, id},
    topic,
    wire::{Frame, Malformed, Reader},
};

/// Packet types (section 2.1.2).
#[allow(missing_docs, reason = "the names are the specification's")]
pub mod kind {
    pub const CONNECT: u8 = 1;
    pub const CONNACK: u8 = 2;
    pub const PUBLISH: u8 = 3;
    pub const PUBACK: u8 = 4;
    pub const PUBREC: u8 = 5;
    pub const PUBREL: u8 = 6;
    pub const PUBCOMP: u8 = 7;
    pub const SUBSCRIBE: u8 = 8;
    pub const SUBACK: u8 = 9;
    pub const UNSUBSCRIBE: u8 = 10;
    pub const UNSUBACK: u8 = 11;
    pub const PINGREQ: u8 = 12;
    pub const PINGRESP: u8 = 13;
    pub const DISCONNECT: u8 = 14;
    pub const AUTH: u8 = 15;
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 3.1, protocol level 3.
    V31 = 3,
    /// 3.1.1, protocol level 4.
    V311 = 4,
    /// 5.0.
    V5 = 5,
}

impl Version {
    /// As operators know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V31 => "MQTT 3-1-0",
            Self::V311 => "MQTT 3-1-1",
            Self::V5 => "MQTT 5-0",
        }
    }
}

/// Quality of service (section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// By its two bits.
    ///
    /// # Errors
    /// If both are set (MQTT-3.3.1-4).
    pub fn of_bits(bits: u8) -> Result<Self, Malformed> {
        match bits & 3 {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(Malformed::packet("a quality of service is 3")),
        }
    }
}

/// CONNECT (section 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version.
    pub version: Version,
    /// Whether an earlier session is to be forgotten.
    pub clean_start: bool,
    /// Seconds; 0 for none.
    pub keep_alive_s: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// The client identifier; may be empty.
    pub client_id: &'a str,
    /// What is to be published if the connection ends out of order.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// The will in CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Its quality of service.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Properties.
    pub properties: Properties<'a>,
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
}

/// PUBLISH (section 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// The topic name; empty if an alias stands for it.
    pub topic: &'a str,
    /// The packet identifier; 0 without acknowledgement.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// The payload.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The packet identifier.
    pub packet_id: u16,
    /// The reason code.
    pub reason: u8,
}

/// One filter of SUBSCRIBE and its options (section 3.8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The topic filter; it may be none.
    pub filter: &'a str,
    /// The options.
    pub options: Options,
}

/// Subscription options (section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The highest quality of service.
    pub qos: Qos,
    /// Whether what the client publishes itself is left out.
    pub no_local: bool,
    /// Whether the retain flag is left as the publisher set it.
    pub retain_as_published: bool,
    /// When retained messages are sent: 0 always, 1 to new subscriptions, 2 never.
    pub retain_handling: u8,
}

impl Options {
    /// From the options byte.
    ///
    /// # Errors
    /// If it has a value that it must not have.
    pub fn of_byte(byte: u8, version: Version) -> Result<Self, Malformed> {
        let qos = Qos::of_bits(byte)?;
        let reserved = if version == Version::V5 { 0xc0 } else { 0xfc };
        if byte & reserved != 0 {
            return Err(Malformed::packet("reserved bits of subscription options are set"));
        }
        let retain_handling = byte >> 4 & 3;
        if retain_handling == 3 {
            return Err(Malformed::protocol("the retain handling is 3"));
        }
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    /// The options byte.
    pub fn byte(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | self.retain_handling << 4
    }
}

/// SUBSCRIBE (section 3.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub packet_id: u16,
    /// The subscription identifier.
    pub subscription_id: Option<u32>,
    /// The filters, one at least.
    pub filters: Vec<Filter<'a>>,
}

/// UNSUBSCRIBE (section 3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub packet_id: u16,
    /// The filters, one at least.
    pub filters: Vec<&'a str>,
}

/// DISCONNECT (section 3.14) and AUTH (section 3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The reason code.
    pub reason: u8,
    /// Properties.
    pub properties: Properties<'a>,
}

/// A packet from a client that has connected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Packet<'a> {
    Publish(Publish<'a>),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe<'a>),
    Unsubscribe(Unsubscribe<'a>),
    PingReq,
    Disconnect(Note<'a>),
    Auth(Note<'a>),
}

const TRAILING: Malformed = Malformed::packet("there is something behind the last field");
const FLAGS: Malformed = Malformed::packet("reserved flags are wrong");

impl<'a> Connect<'a> {
    /// Reads a CONNECT packet.
    ///
    /// # Errors
    /// If it is malformed, or of another protocol or version.
    pub fn read(frame: &Frame<'a>) -> Result<Self, Malformed> {
        if frame.flags != 0 {
            return Err(FLAGS);
        }
        let mut reader = Reader::new(frame.body);
        let (name, level) = (reader.text()?, reader.byte()?);
        let version = match (name, level) {
            ("MQIsdp", 3) => Version::V31,
            ("MQTT", 4) => Version::V311,
            ("MQTT", 5) => Version::V5,
            _ => {
                let (reason, problem) =
                    (Reason::UnsupportedProtocolVersion, "the protocol or its version is not known");
                return Err(Malformed { reason, problem });
            }
        };
        let flags = reader.byte()?;
        let [reserved, clean_start, has_will, will_retain, has_password, has_user] =
            [0, 1, 2, 5, 6, 7].map(|bit| flags >> bit & 1 == 1);
        let will_qos = Qos::of_bits(flags >> 3)?;
        if reserved {
            return Err(Malformed::packet("the reserved flag of CONNECT is set"));
        }
        if !has_will && (will_retain || will_qos != Qos::AtMostOnce) {
            return Err(Malformed::packet("a will that is not there has options"));
        }
        if has_password && !has_user && version != Version::V5 {
            return Err(Malformed::packet("there is a password without a user name"));
        }
        let keep_alive_s = reader.u16()?;
        let properties = |reader: &mut Reader<'a>, allowed| match version {
            Version::V5 => Properties::read(reader, allowed),
            Version::V31 | Version::V311 => Ok(Properties::default()),
        };
        let own = properties(&mut reader, Allowed::CONNECT)?;
        if own.binary(id::AUTHENTICATION_DATA).is_some() && own.text(id::AUTHENTICATION_METHOD).is_none() {
            return Err(Malformed::protocol("there is authentication data without a method"));
        }
        let client_id = reader.text()?;
        let will = if has_will {
            let properties = properties(&mut reader, Allowed::WILL)?;
            let (topic, payload) = (reader.text()?, reader.binary()?);
            if !topic::is_name(topic) {
                return Err(Malformed {
                    reason: Reason::TopicNameInvalid,
                    problem: "the will's topic is no topic name",
                });
            }
            check_format(&properties, payload)?;
            Some(Will { qos: will_qos, retain: will_retain, properties, topic, payload })
        } else {
            None
        };
        let user = if has_user { Some(reader.text()?) } else { None };
        let password = if has_password { Some(reader.binary()?) } else { None };
        if !reader.is_empty() {
            return Err(TRAILING);
        }
        Ok(Self { version, clean_start, keep_alive_s, properties: own, client_id, will, user, password })
    }
}

/// A payload that is said to be text must be (section 3.3.2.3.2).
fn check_format(properties: &Properties<'_>, payload: &[u8]) -> Result<(), Malformed> {
    if properties.number(id::PAYLOAD_FORMAT) == Some(1) && std::str::from_utf8(payload).is_err() {
        return Err(Malformed {
            reason: Reason::PayloadFormatInvalid,
            problem: "the payload is not the text it should be",
        });
    }
    Ok(())
}

impl<'a> Packet<'a> {
    /// Reads a packet from a client that has connected with `version`.
    ///
    /// # Errors
    /// If it is malformed, or not one that a connected client may send.
    pub fn read(frame: &Frame<'a>, version: Version) -> Result<Self, Malformed> {
        let expected = match frame.kind {
            kind::PUBLISH => frame.flags,
            kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 2,
            _ => 0,
        };
        // MQTT 3.1 has a duplicate flag and a quality of service there (section 2.1), and clients that set them.
        let lenient = version == Version::V31 && expected == 2;
        if frame.flags != expected && !lenient {
            return Err(FLAGS);
        }
        let mut reader = Reader::new(frame.body);
        let packet = match frame.kind {
            kind::PUBLISH => return Publish::read(frame, version).map(Self::Publish),
            kind::PUBACK => Self::PubAck(Ack::read(&mut reader, version)?),
            kind::PUBREC => Self::PubRec(Ack::read(&mut reader, version)?),
            kind::PUBREL => Self::PubRel(Ack::read(&mut reader, version)?),
            kind::PUBCOMP => Self::PubComp(Ack::read(&mut reader, version)?),
            kind::SUBSCRIBE => Self::Subscribe(Subscribe::read(&mut reader, version)?),
            kind::UNSUBSCRIBE => Self::Unsubscribe(Unsubscribe::read(&mut reader, version)?),
            kind::PINGREQ => Self::PingReq,
            kind::DISCONNECT => Self::Disconnect(Note::read(&mut reader, version, Allowed::DISCONNECT)?),
            kind::AUTH if version == Version::V5 => Self::Auth(Note::read(&mut reader, version, Allowed::AUTH)?),
            kind::CONNECT => return Err(Malformed::protocol("a second CONNECT")),
            _ => return Err(Malformed::protocol("clients do not send packets of this type")),
        };
        if reader.is_empty() { Ok(packet) } else { Err(TRAILING) }
    }
}

impl<'a> Publish<'a> {
    /// Reads a PUBLISH packet.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn read(frame: &Frame<'a>, version: Version) -> Result<Self, Malformed> {
        let (dup, qos, retain) = (frame.flags & 8 != 0, Qos::of_bits(frame.flags >> 1)?, frame.flags & 1 != 0);
        if dup && qos == Qos::AtMostOnce && version != Version::V31 {
            return Err(Malformed::packet("a publish without acknowledgement is marked as sent before"));
        }
        let mut reader = Reader::new(frame.body);
        let topic = reader.text()?;
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { packet_id(&mut reader)? };
        let properties = match version {
            Version::V5 => Properties::read(&mut reader, Allowed::PUBLISH)?,
            Version::V31 | Version::V311 => Properties::default(),
        };
        let alias = properties.number(id::TOPIC_ALIAS);
        if topic.is_empty() && alias.is_none() {
            return Err(Malformed::protocol("there is neither a topic name nor an alias"));
        }
        if !topic.is_empty() && !topic::is_name(topic) {
            return Err(Malformed { reason: Reason::TopicNameInvalid, problem: "the topic name has wildcards" });
        }
        let payload = reader.rest();
        check_format(&properties, payload)?;
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload })
    }
}

fn packet_id(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    match reader.u16()? {
        0 => Err(Malformed::protocol("the packet identifier is 0")),
        id => Ok(id),
    }
}

impl Ack {
    fn read(reader: &mut Reader<'_>, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet_id(reader)?;
        if version != Version::V5 || reader.is_empty() {
            return Ok(Self { packet_id, reason: 0 });
        }
        let reason = reader.byte()?;
        if !reader.is_empty() {
            Properties::read(reader, Allowed::ACK)?;
        }
        Ok(Self { packet_id, reason })
    }
}

impl<'a> Subscribe<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet_id(reader)?;
        let properties = match version {
            Version::V5 => Properties::read(reader, Allowed::SUBSCRIBE)?,
            Version::V31 | Version::V311 => Properties::default(),
        };
        let mut filters = Vec::new();
        while !reader.is_empty() {
            let filter = reader.text()?;
            let options = Options::of_byte(reader.byte()?, version)?;
            if options.no_local && topic::shared(filter).is_some() {
                return Err(Malformed::protocol("a shared subscription is not to get the client's own messages"));
            }
            filters.push(Filter { filter, options });
        }
        if filters.is_empty() {
            return Err(Malformed::protocol("there is no topic filter"));
        }
        Ok(Self { packet_id, subscription_id: properties.number(id::SUBSCRIPTION_ID), filters })
    }
}

impl<'a> Unsubscribe<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet_id = packet_id(reader)?;
        if version == Version::V5 {
            Properties::read(reader, Allowed::UNSUBSCRIBE)?;
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.text()?);
        }
        if filters.is_empty() {
            return Err(Malformed::protocol("there is no topic filter"));
        }
        Ok(Self { packet_id, filters })
    }
}

impl<'a> Note<'a> {
    fn read(reader: &mut Reader<'a>, version: Version, allowed: Allowed) -> Result<Self, Malformed> {
        let mut note = Self { reason: 0, properties: Properties::default() };
        if version == Version::V5 && !reader.is_empty() {
            note.reason = reader.byte()?;
            if !reader.is_empty() {
                note.properties = Properties::read(reader, allowed)?;
            }
        }
        Ok(note)
    }
}
