//! Packets to and from bytes, as far as a client needs them.

use crate::raw::{Malformed, Reader, Writer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V311 = 4,
    V5 = 5,
}

const CONNECT: u8 = 1;
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
const SUBSCRIBE: u8 = 8;
const SUBACK: u8 = 9;
const DISCONNECT: u8 = 14;

const SESSION_EXPIRY: u8 = 17;
const RECEIVE_MAXIMUM: u8 = 33;
/// A session that stays for ever.
const NEVER: u32 = u32::MAX;
const LENGTH_BYTES_MAX: usize = 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 without acknowledgement.
    pub packet_id: u16,
    /// Those of MQTT 5, as they stand on the wire, without their length.
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// What a broker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    ConnAck {
        session_present: bool,
        code: u8,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack {
        kind: u8,
        packet_id: u16,
        code: u8,
    },
    SubAck {
        packet_id: u16,
        codes: Vec<u8>,
    },
    Disconnect {
        code: u8,
    },
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Writer::default();
    bytes.u8(first);
    write_variable(&mut bytes, body.len());
    bytes.raw(body);
    bytes.into_bytes()
}

/// An integer of one to four bytes.
fn write_variable(out: &mut Writer, mut value: usize) {
    loop {
        let low = (value % 128) as u8;
        value /= 128;
        out.u8(if value > 0 { low | 128 } else { low });
        if value == 0 {
            break;
        }
    }
}

fn text(body: &mut Writer, text: &str) {
    let length = u16::try_from(text.len()).expect("a text has less than 64 KiB");
    body.u16(length).raw(text.as_bytes());
}

/// The properties of MQTT 5, of which there are none.
fn no_properties(body: &mut Writer, version: Version) {
    if version == Version::V5 {
        body.u8(0);
    }
}

pub(super) struct Connect<'a> {
    pub version: Version,
    pub client_id: &'a str,
    /// Whether there is to be no session from before, nor one afterwards.
    pub clean: bool,
    pub receive_maximum: u16,
}

/// As the user `guest`, without a keep alive.
pub(super) fn connect(connect: &Connect<'_>) -> Vec<u8> {
    const USER_AND_PASSWORD: u8 = 0b1100_0000;
    let mut body = Writer::default();
    text(&mut body, "MQTT");
    body.u8(connect.version as u8).u8(USER_AND_PASSWORD | u8::from(connect.clean) << 1).u16(0);
    if connect.version == Version::V5 {
        body.u8(8).u8(SESSION_EXPIRY).u32(if connect.clean { 0 } else { NEVER });
        body.u8(RECEIVE_MAXIMUM).u16(connect.receive_maximum);
    }
    for word in [connect.client_id, "guest", "guest"] {
        text(&mut body, word);
    }
    packet(CONNECT << 4, &body.into_bytes())
}

pub(super) fn publish(version: Version, publish: &Publish) -> Vec<u8> {
    let mut body = Writer::default();
    text(&mut body, &publish.topic);
    if publish.qos > 0 {
        body.u16(publish.packet_id);
    }
    if version == Version::V5 {
        write_variable(&mut body, publish.properties.len());
        body.raw(&publish.properties);
    }
    body.raw(&publish.payload);
    let flags = u8::from(publish.dup) << 3 | publish.qos << 1 | u8::from(publish.retain);
    packet(PUBLISH << 4 | flags, &body.into_bytes())
}

pub(super) fn ack(kind: u8, packet_id: u16) -> Vec<u8> {
    packet(kind << 4 | if kind == PUBREL { 2 } else { 0 }, &packet_id.to_be_bytes())
}

pub(super) fn subscribe(version: Version, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = Writer::default();
    body.u16(packet_id);
    no_properties(&mut body, version);
    for (filter, qos) in filters {
        text(&mut body, filter);
        body.u8(*qos);
    }
    packet(SUBSCRIBE << 4 | 2, &body.into_bytes())
}

pub(super) fn disconnect() -> Vec<u8> {
    packet(DISCONNECT << 4, &[])
}

/// The first packet in `input`, and how many bytes it has; nothing if it is not whole yet.
pub(super) fn read(input: &[u8], version: Version) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let Some((length, used)) = variable(rest)? else { return Ok(None) };
    let Some(body) = rest.get(used..used + length) else { return Ok(None) };
    Ok(Some((decode(first, body, version)?, 1 + used + length)))
}

/// An integer of up to four bytes, and how many these are.
fn variable(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        value |= usize::from(byte & 127) << (7 * index);
        if byte & 128 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(Malformed) }
}

fn decode(first: u8, body: &[u8], version: Version) -> Result<Packet, Malformed> {
    let mut reader = Reader::new(body);
    Ok(match first >> 4 {
        CONNACK => Packet::ConnAck { session_present: reader.u8()? == 1, code: reader.u8()? },
        PUBLISH => {
            let qos = first >> 1 & 3;
            let length = reader.u16()?;
            let topic = std::str::from_utf8(reader.take(length.into())?).map_err(|_| Malformed)?.to_owned();
            let packet_id = if qos > 0 { reader.u16()? } else { 0 };
            let (properties, payload) = properties_and_rest(reader, version)?;
            let (properties, payload) = (properties.to_vec(), payload.to_vec());
            let (retain, dup) = (first & 1 == 1, first & 8 == 8);
            Packet::Publish(Publish { topic, qos, retain, dup, packet_id, properties, payload })
        }
        kind @ PUBACK..=PUBCOMP => {
            Packet::Ack { kind, packet_id: reader.u16()?, code: if reader.is_empty() { 0 } else { reader.u8()? } }
        }
        SUBACK => {
            let packet_id = reader.u16()?;
            Packet::SubAck { packet_id, codes: properties_and_rest(reader, version)?.1.to_vec() }
        }
        DISCONNECT => Packet::Disconnect { code: if reader.is_empty() { 0 } else { reader.u8()? } },
        _ => return Err(Malformed),
    })
}

fn properties_and_rest(mut reader: Reader<'_>, version: Version) -> Result<(&[u8], &[u8]), Malformed> {
    if version != Version::V5 {
        return Ok((&[], reader.rest()));
    }
    let (length, used) = variable(reader.rest())?.ok_or(Malformed)?;
    reader.take(used)?;
    Ok((reader.take(length)?, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: usize) -> Publish {
        let (topic, payload) = ("a/b".to_owned(), vec![7; payload]);
        Publish { topic, qos: 2, retain: true, dup: true, packet_id: 0x1234, payload, ..Publish::default() }
    }

    #[test]
    fn a_message_comes_back() {
        for version in [Version::V311, Version::V5] {
            for length in [0, 1, 100, 127, 128, 20_000, 2_100_000] {
                let sent = message(length);
                let mut bytes = publish(version, &sent);
                assert_eq!(read(&bytes[..bytes.len() - 1], version), Ok(None));
                bytes.push(0);
                assert_eq!(read(&bytes, version), Ok(Some((Packet::Publish(sent), bytes.len() - 1))));
                let sent = Publish { properties: vec![1, 1], ..message(length) };
                let bytes = publish(Version::V5, &sent);
                assert_eq!(read(&bytes, Version::V5), Ok(Some((Packet::Publish(sent), bytes.len()))));
            }
        }
    }

    /// By hand from the specification.
    #[test]
    fn packets_have_their_form() {
        assert_eq!(publish(Version::V5, &message(1)), b"\x3d\x09\x00\x03a/b\x12\x34\x00\x07");
        assert_eq!(ack(PUBREL, 1), b"\x62\x02\x00\x01");
        assert_eq!(subscribe(Version::V311, 9, &[("a/#", 1)]), b"\x82\x08\x00\x09\x00\x03a/#\x01");
        assert_eq!(disconnect(), b"\xe0\x00");
        let asked = Connect { version: Version::V5, client_id: "c", clean: false, receive_maximum: 5 };
        let begin = b"\x10\x24\x00\x04MQTT\x05\xc0\x00\x00\x08\x11\xff\xff\xff\xff\x21\x00\x05";
        assert_eq!(connect(&asked), [&begin[..], b"\x00\x01c\x00\x05guest\x00\x05guest"].concat());
    }

    #[test]
    fn answers_are_read() {
        let read = |bytes: &[u8], version| read(bytes, version).map(|found| found.map(|(packet, _)| packet));
        let present = Packet::ConnAck { session_present: true, code: 0 };
        assert_eq!(read(b"\x20\x05\x01\x00\x02\x24\x01", Version::V5), Ok(Some(present.clone())));
        assert_eq!(read(b"\x20\x02\x01\x00", Version::V311), Ok(Some(present)));
        let comp = Packet::Ack { kind: PUBCOMP, packet_id: 3, code: 0x92 };
        assert_eq!(read(b"\x70\x03\x00\x03\x92", Version::V5), Ok(Some(comp)));
        let granted = Packet::SubAck { packet_id: 3, codes: vec![1, 2] };
        assert_eq!(read(b"\x90\x05\x00\x03\x00\x01\x02", Version::V5), Ok(Some(granted)));
        assert_eq!(read(b"\x30\xff\xff\xff\xff\x01", Version::V5), Err(Malformed));
        assert_eq!(read(b"\x00\x00", Version::V5), Err(Malformed));
    }
}
