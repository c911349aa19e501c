//! Data representation (MQTT 5, section 1.5) and the fixed header (section 2.1).

use crate::mapping::Reason;

/// Largest remaining length that four bytes can tell (section 1.5.5).
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// A packet that cannot be right: what the client is told if its version has a way to tell, and what the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The reason code.
    pub reason: Reason,
    /// What is wrong.
    pub problem: &'static str,
}

impl Malformed {
    /// A packet that does not follow the specification's form.
    pub const fn packet(problem: &'static str) -> Self {
        Self { reason: Reason::MalformedPacket, problem }
    }

    /// A packet that is well formed and may not be.
    pub const fn protocol(problem: &'static str) -> Self {
        Self { reason: Reason::ProtocolError, problem }
    }
}

/// Reads the fields of a packet.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: Malformed = Malformed::packet("the packet ends within a field");

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// So many bytes.
    ///
    /// # Errors
    /// If there are fewer; so for all that follow.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// If there is none.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(first)
    }

    /// A two byte integer (section 1.5.2).
    ///
    /// # Errors
    /// If it is cut short.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let (&bytes, rest) = self.rest.split_first_chunk::<2>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    /// A four byte integer (section 1.5.3).
    ///
    /// # Errors
    /// If it is cut short.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let (&bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    /// A variable byte integer (section 1.5.5).
    ///
    /// # Errors
    /// If it is cut short, longer than four bytes or longer than it need be (MQTT-1.5.5-1).
    pub fn varint(&mut self) -> Result<u32, Malformed> {
        match varint(self.rest)? {
            Some((value, len)) => {
                self.rest = &self.rest[len..];
                Ok(value)
            }
            None => Err(SHORT),
        }
    }

    /// Binary data (section 1.5.6).
    ///
    /// # Errors
    /// If it is cut short.
    pub fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// A UTF-8 encoded string (section 1.5.4).
    ///
    /// # Errors
    /// If it is cut short, is no UTF-8 (MQTT-1.5.4-1), or contains U+0000 (MQTT-1.5.4-2).
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| Malformed::packet("a string is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Malformed::packet("a string contains U+0000"));
        }
        Ok(text)
    }
}

/// The variable byte integer at the start of `bytes`, and how long it is; nothing if it is not all there yet.
///
/// # Errors
/// If it is longer than four bytes, or than it need be.
pub fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if *byte == 0 && index > 0 {
                return Err(Malformed::packet("a length takes more bytes than it needs"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err(Malformed::packet("a length takes more than four bytes")) } else { Ok(None) }
}

/// Appends a variable byte integer of at most [`REMAINING_LENGTH_MAX`].
pub fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a variable byte integer takes.
pub fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends binary data. What does not fit its length of two bytes is cut off.
pub fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(u16::MAX.into())];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a string. What does not fit its length of two bytes is cut off, between characters.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(u16::MAX.into());
    put_binary(out, &text.as_bytes()[..end]);
}

/// A packet in a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The packet type, in the upper four bits of the first byte.
    pub kind: u8,
    /// The flags, in the lower four.
    pub flags: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// Bytes of all of it.
    pub len: usize,
}

/// The packet at the start of `input`; nothing if it is not all there yet. `max` is the largest packet in bytes.
///
/// # Errors
/// If its length is no length, or the packet is too large, which is known before it has come.
pub fn frame(input: &[u8], max: usize) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let Some((remaining, length_len)) = varint(rest)? else { return Ok(None) };
    let head = 1 + length_len;
    let len = head + remaining as usize;
    if len > max {
        return Err(Malformed { reason: Reason::PacketTooLarge, problem: "the packet is larger than is allowed" });
    }
    let Some(body) = input.get(head..len) else { return Ok(None) };
    Ok(Some(Frame { kind: first >> 4, flags: first & 0x0f, body, len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_come_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, REMAINING_LENGTH_MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value));
            assert_eq!(varint(&bytes), Ok(Some((value as u32, bytes.len()))));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), Ok(None));
        }
        assert!(varint(&[0x80, 0x80, 0x80, 0x80, 1]).is_err());
        assert!(varint(&[0x80, 0]).is_err());
    }

    #[test]
    fn a_packet_that_is_too_large_is_known_by_its_length() {
        assert_eq!(frame(&[0x30, 0xff, 0xff, 0xff], 100), Ok(None));
        let error = frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 100).map_err(|malformed| malformed.reason);
        assert_eq!(error, Err(Reason::PacketTooLarge));
    }

    #[test]
    fn strings_are_text() {
        assert_eq!(Reader::new(b"\x00\x03a/b").text(), Ok("a/b"));
        assert!(Reader::new(b"\x00\x01\x00").text().is_err());
        assert!(Reader::new(b"\x00\x03\xed\xa0\x80").text().is_err());
        assert!(Reader::new(b"\x00\x02a").text().is_err());
    }
}
