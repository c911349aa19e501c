//! MQTT 3.1.1 and 5 on the wire: the packets that a load needs, written into a buffer and read where they lie.

use crate::error::Error;

pub(crate) const CONNECT: u8 = 1;
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const DISCONNECT: u8 = 14;

/// Reason codes from here on are failures.
const REFUSED: u8 = 0x80;
/// What a remaining length of four bytes can say.
const LENGTH_MAX: usize = 268_435_455;

const USER_NAME: u8 = 1 << 7;
const PASSWORD: u8 = 1 << 6;
const CLEAN_START: u8 = 1 << 1;

/// Which of the two protocols is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V311,
    V5,
}

/// Who we say that we are.
pub(crate) struct Login<'a> {
    pub(crate) client_id: &'a str,
    /// Empty: anonymous.
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    /// In seconds; 0 is without end.
    pub(crate) keep_alive: u16,
}

/// A message to be published.
#[derive(Clone, Copy, Default)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: u8,
    pub(crate) is_retained: bool,
    /// Only with QoS 1 and 2.
    pub(crate) id: u16,
    pub(crate) body: &'a [u8],
}

/// Writes packets of one version, one behind the other.
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
    version: Version,
}

impl Encoder {
    pub(crate) fn new(version: Version) -> Self {
        Self { bytes: Vec::new(), version }
    }

    /// A session that begins anew and ends with the connection.
    pub(crate) fn connect(&mut self, login: &Login<'_>) {
        let mut body = Vec::new();
        text(&mut body, "MQTT");
        let credentials = if login.user.is_empty() { 0 } else { USER_NAME | PASSWORD };
        body.extend([if self.version == Version::V5 { 5 } else { 4 }, credentials | CLEAN_START]);
        body.extend(login.keep_alive.to_be_bytes());
        self.no_properties(&mut body);
        text(&mut body, login.client_id);
        if credentials != 0 {
            text(&mut body, login.user);
            text(&mut body, login.password);
        }
        self.packet(CONNECT << 4, &body);
    }

    pub(crate) fn subscribe<'a>(&mut self, id: u16, filters: impl IntoIterator<Item = &'a str>, qos: u8) {
        let mut body = id.to_be_bytes().to_vec();
        self.no_properties(&mut body);
        for filter in filters {
            text(&mut body, filter);
            body.push(qos);
        }
        self.packet(SUBSCRIBE << 4 | 2, &body);
    }

    pub(crate) fn publish(&mut self, message: &Message<'_>) {
        let mut body = Vec::with_capacity(message.topic.len() + message.body.len() + 8);
        text(&mut body, message.topic);
        if message.qos > 0 {
            body.extend(message.id.to_be_bytes());
        }
        self.no_properties(&mut body);
        body.extend(message.body);
        self.packet(PUBLISH << 4 | message.qos << 1 | u8::from(message.is_retained), &body);
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP: they are equal in both versions when all is well.
    #[inline]
    pub(crate) fn answer(&mut self, kind: u8, id: u16) {
        let flags = if kind == PUBREL { 2 } else { 0 };
        let [high, low] = id.to_be_bytes();
        self.bytes.extend([kind << 4 | flags, 2, high, low]);
    }

    pub(crate) fn disconnect(&mut self) {
        self.bytes.extend([DISCONNECT << 4, 0]);
    }

    fn no_properties(&self, body: &mut Vec<u8>) {
        if self.version == Version::V5 {
            body.push(0);
        }
    }

    fn packet(&mut self, first: u8, body: &[u8]) {
        debug_assert!(body.len() <= LENGTH_MAX, "a packet has to be shorter than 256 MiB");
        self.bytes.push(first);
        let mut length = body.len();
        loop {
            let more = if length >= 128 { 128 } else { 0 };
            self.bytes.push((length % 128) as u8 | more);
            length /= 128;
            if more == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(body);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A packet where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) kind: u8,
    flags: u8,
    body: &'a [u8],
}

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) qos: u8,
    /// 0 with QoS 0.
    pub(crate) id: u16,
    pub(crate) body: &'a [u8],
}

/// What the server says when it takes a connection in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    /// Messages of QoS 1 and 2 that it takes before it has acknowledged them.
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_qos: u8,
    pub(crate) has_retained: bool,
    pub(crate) has_shared: bool,
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` begins with and its length, or `None` until it is complete.
    #[inline]
    pub(crate) fn split(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some((length, prefix)) = number(rest)? else {
            return Ok(None);
        };
        let Some(body) = rest.get(prefix..prefix + length) else {
            return Ok(None);
        };
        Ok(Some((Self { kind: first >> 4, flags: first & 15, body }, 1 + prefix + length)))
    }

    #[inline]
    pub(crate) fn arrival(&self, version: Version) -> Result<Arrival<'a>, Error> {
        let mut fields = Fields { rest: self.body };
        let topic_length = usize::from(fields.short()?);
        let topic = fields.take(topic_length)?;
        let qos = self.flags >> 1 & 3;
        let id = if qos > 0 { fields.short()? } else { 0 };
        if version == Version::V5 {
            let length = fields.number()?;
            fields.take(length)?;
        }
        Ok(Arrival { topic, qos, id, body: fields.rest })
    }

    /// The packet id of an acknowledgement, and whether it is a refusal.
    #[inline]
    pub(crate) fn settled(&self) -> Result<(u16, bool), Error> {
        let mut fields = Fields { rest: self.body };
        Ok((fields.short()?, fields.rest.first().is_some_and(|&code| code >= REFUSED)))
    }

    /// The return code of each filter.
    pub(crate) fn granted(&self, version: Version) -> Result<&'a [u8], Error> {
        let mut fields = Fields { rest: self.body };
        fields.short()?;
        if version == Version::V5 {
            let length = fields.number()?;
            fields.take(length)?;
        }
        Ok(fields.rest)
    }

    /// What the server offers; that it refuses the login is an error.
    pub(crate) fn welcome(&self, version: Version) -> Result<Welcome, Error> {
        let mut fields = Fields { rest: self.body };
        fields.octet()?;
        let code = fields.octet()?;
        if code != 0 {
            return Err(Error::Closed { scope: "connection", code: code.into(), text: "it refused to connect".into() });
        }
        let mut welcome = Welcome { receive_maximum: u16::MAX, maximum_qos: 2, has_retained: true, has_shared: true };
        if version == Version::V5 {
            let length = fields.number()?;
            let mut properties = Fields { rest: fields.take(length)? };
            while !properties.rest.is_empty() {
                welcome.property(&mut properties)?;
            }
        }
        Ok(welcome)
    }

    /// Why the server ends the connection.
    pub(crate) fn farewell(&self) -> Error {
        let code = self.body.first().copied().unwrap_or(0).into();
        Error::Closed { scope: "connection", code, text: "it sent DISCONNECT".into() }
    }
}

impl Welcome {
    fn property(&mut self, fields: &mut Fields<'_>) -> Result<(), Error> {
        match fields.octet()? {
            0x21 => self.receive_maximum = fields.short()?.max(1),
            0x24 => self.maximum_qos = fields.octet()?,
            0x25 => self.has_retained = fields.octet()? != 0,
            0x2A => self.has_shared = fields.octet()? != 0,
            // Whether there are wildcards and subscription identifiers.
            0x28 | 0x29 => drop(fields.octet()?),
            // Keep alive of the server, maximum of topic aliases.
            0x13 | 0x22 => drop(fields.short()?),
            // Session expiry, maximum packet size.
            0x11 | 0x27 => drop(fields.take(4)?),
            // Texts: client id, response information, server reference, reason, authentication.
            0x12 | 0x1A | 0x1C | 0x1F | 0x15 | 0x16 => drop(fields.text()?),
            0x26 => drop((fields.text()?, fields.text()?)),
            _ => return Err(Error::Protocol("an unknown property")),
        }
        Ok(())
    }
}

/// Reads one field behind the other.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Protocol("a packet that ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    #[inline]
    fn short(&mut self) -> Result<u16, Error> {
        let two = self.take(2)?;
        Ok(u16::from_be_bytes([two[0], two[1]]))
    }

    fn text(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::from(self.short()?);
        self.take(length)
    }

    #[inline]
    fn number(&mut self) -> Result<usize, Error> {
        let (number, length) = number(self.rest)?.ok_or(Error::Protocol("a packet that ends early"))?;
        self.take(length)?;
        Ok(number)
    }
}

/// A number in groups of seven bits, and how many bytes it takes; `None` if it goes on behind the end.
#[inline]
fn number(bytes: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 127) << (7 * index);
        if byte < 128 {
            return Ok(Some((number, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(Error::Protocol("a length of more than four bytes")) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(version: Version, write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new(version);
        write(&mut encoder);
        encoder.bytes
    }

    fn only(bytes: &[u8]) -> Packet<'_> {
        let (packet, length) = Packet::split(bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        packet
    }

    #[test]
    fn connect_is_what_the_specification_says() {
        let login = Login { client_id: "c", user: "u", password: "pw", keep_alive: 300 };
        let bytes = encoded(Version::V311, |out| out.connect(&login));
        assert_eq!(bytes, b"\x10\x14\0\x04MQTT\x04\xC2\x01\x2C\0\x01c\0\x01u\0\x02pw");
        let anonymous = Login { user: "", keep_alive: 0, ..login };
        let bytes = encoded(Version::V5, |out| out.connect(&anonymous));
        assert_eq!(bytes, b"\x10\x0E\0\x04MQTT\x05\x02\0\0\0\0\x01c");
    }

    #[test]
    fn subscribe_and_answers_are_what_the_specification_says() {
        assert_eq!(encoded(Version::V311, |out| out.subscribe(7, ["a/#"], 1)), b"\x82\x08\0\x07\0\x03a/#\x01");
        assert_eq!(
            encoded(Version::V5, |out| out.subscribe(7, ["a", "b"], 2)),
            b"\x82\x0B\0\x07\0\0\x01a\x02\0\x01b\x02"
        );
        assert_eq!(encoded(Version::V5, |out| out.answer(PUBACK, 258)), [0x40, 2, 1, 2]);
        assert_eq!(encoded(Version::V5, |out| out.answer(PUBREL, 258)), [0x62, 2, 1, 2]);
        assert_eq!(encoded(Version::V5, Encoder::disconnect), [0xE0, 0]);
    }

    #[test]
    fn messages_come_back_as_they_went() {
        for version in [Version::V311, Version::V5] {
            for qos in 0..=2 {
                for size in [0, 1, 100, 127, 128, 20_000, 3_000_000] {
                    let body = vec![b'x'; size];
                    let id = if qos > 0 { 0x1234 } else { 0 };
                    let message = Message { topic: "a/b", qos, id, is_retained: true, body: &body };
                    let bytes = encoded(version, |out| out.publish(&message));
                    let arrival = only(&bytes).arrival(version).unwrap();
                    assert_eq!(arrival, Arrival { topic: b"a/b", qos, id, body: &body });
                }
            }
        }
        let bytes =
            encoded(Version::V5, |out| out.publish(&Message { topic: "t", qos: 1, id: 9, ..Message::default() }));
        assert_eq!(bytes, b"\x32\x06\0\x01t\0\x09\0");
    }

    #[test]
    fn a_packet_is_there_when_all_of_it_is() {
        let body = [7; 200];
        let bytes = encoded(Version::V5, |out| out.publish(&Message { topic: "t", body: &body, ..Message::default() }));
        for end in 0..bytes.len() {
            assert_eq!(Packet::split(&bytes[..end]).unwrap(), None, "{end}");
        }
        assert!(Packet::split(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
        assert!(only(&[0x30, 1, 0]).arrival(Version::V311).is_err());
        assert!(only(&[0x30, 3, 0, 5, b'a']).arrival(Version::V311).is_err());
    }

    #[test]
    fn a_welcome_says_what_the_server_offers() {
        let all = Welcome { receive_maximum: u16::MAX, maximum_qos: 2, has_retained: true, has_shared: true };
        assert_eq!(only(&[0x20, 2, 0, 0]).welcome(Version::V311).unwrap(), all);
        assert_eq!(only(&[0x20, 3, 0, 0, 0]).welcome(Version::V5).unwrap(), all);
        let properties = b"\x20\x19\0\0\x16\x21\0\x14\x22\0\x0A\x24\x01\x25\0\x2A\0\x12\0\x02id\x27\0\0\x10\0";
        let some = Welcome { receive_maximum: 20, maximum_qos: 1, has_retained: false, has_shared: false };
        assert_eq!(only(properties).welcome(Version::V5).unwrap(), some);
        let refused = only(&[0x20, 3, 0, 0x87, 0]).welcome(Version::V5).unwrap_err();
        assert_eq!(refused.to_string(), "the server closed the connection: 135 it refused to connect");
    }

    #[test]
    fn acknowledgements_and_grants_are_read_in_both_versions() {
        assert_eq!(only(&[0x40, 2, 1, 2]).settled().unwrap(), (258, false));
        assert_eq!(only(&[0x40, 3, 1, 2, 0x10]).settled().unwrap(), (258, false));
        assert_eq!(only(&[0x40, 4, 1, 2, 0x97, 0]).settled().unwrap(), (258, true));
        assert_eq!(only(&[0x90, 4, 0, 1, 2, 0x80]).granted(Version::V311).unwrap(), [2, 0x80]);
        assert_eq!(only(&[0x90, 4, 0, 1, 0, 1]).granted(Version::V5).unwrap(), [1]);
    }
}
