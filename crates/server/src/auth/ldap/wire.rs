//! LDAP's messages (RFC 4511), as far as logins need them: bind, search by one equality, StartTLS.
//!
//! What comes from users is a value of its own in a message, never part of a filter's text, so nothing has to be escaped in it.

use std::fmt;

/// Longest message that is taken, in bytes.
pub const MESSAGE_BYTES: usize = 1024 * 1024;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const BOOLEAN: u8 = 0x01;
const SEQUENCE: u8 = 0x30;

/// The extended request that asks for TLS (RFC 4511, section 4.14).
const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// Who asks.
    Bind {
        /// His entry; empty for nobody.
        dn: &'a str,
        /// His password.
        password: &'a [u8],
    },
    /// For entries.
    Search {
        /// Where.
        base: &'a str,
        /// Whether below it, too.
        is_deep: bool,
        /// An attribute and its value; any entry will do without.
        equality: Option<(&'a str, &'a [u8])>,
        /// Most entries.
        size_limit: u32,
    },
    /// To encrypt the connection.
    StartTls,
    /// To end it.
    Unbind,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// How something ended.
    Done {
        /// The result code; 0 for success.
        code: u32,
        /// In words.
        message: String,
    },
    /// An entry that was found: its name.
    Entry(String),
    /// Something else, such as a referral.
    Other,
}

/// Bytes that are no LDAP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the server sent is no LDAP message")
    }
}

impl std::error::Error for Malformed {}

fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    match content.len() {
        len @ 0..=127 => out.push(len as u8),
        len => {
            let bytes = (len as u64).to_be_bytes();
            let skipped = bytes.iter().take_while(|byte| **byte == 0).count();
            out.push(0x80 | (bytes.len() - skipped) as u8);
            out.extend_from_slice(&bytes[skipped..]);
        }
    }
    out.extend_from_slice(content);
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: u32) {
    let bytes = u64::from(number).to_be_bytes();
    // One zero stays before a byte whose first bit would be a sign.
    let skipped = bytes[..7].iter().zip(&bytes[1..]).take_while(|(byte, next)| **byte == 0 && **next < 0x80).count();
    put(out, tag, &bytes[skipped..]);
}

impl Request<'_> {
    /// The message with an id.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut content = Vec::new();
        put_number(&mut content, INTEGER, id);
        let mut fields = Vec::new();
        match self {
            Self::Bind { dn, password } => {
                put_number(&mut fields, INTEGER, 3);
                put(&mut fields, OCTETS, dn.as_bytes());
                put(&mut fields, 0x80, password);
                put(&mut content, 0x60, &fields);
            }
            Self::Search { base, is_deep, equality, size_limit } => {
                put(&mut fields, OCTETS, base.as_bytes());
                put_number(&mut fields, ENUMERATED, if *is_deep { 2 } else { 0 });
                // Aliases are not followed.
                put_number(&mut fields, ENUMERATED, 0);
                put_number(&mut fields, INTEGER, *size_limit);
                put_number(&mut fields, INTEGER, 0);
                put(&mut fields, BOOLEAN, &[0]);
                match equality {
                    Some((attribute, value)) => {
                        let mut assertion = Vec::new();
                        put(&mut assertion, OCTETS, attribute.as_bytes());
                        put(&mut assertion, OCTETS, value);
                        put(&mut fields, 0xa3, &assertion);
                    }
                    None => put(&mut fields, 0x87, b"objectClass"),
                }
                // No attributes (section 4.5.1.8).
                let mut attributes = Vec::new();
                put(&mut attributes, OCTETS, b"1.1");
                put(&mut fields, SEQUENCE, &attributes);
                put(&mut content, 0x63, &fields);
            }
            Self::StartTls => {
                put(&mut fields, 0x80, START_TLS);
                put(&mut content, 0x77, &fields);
            }
            Self::Unbind => put(&mut content, 0x42, &[]),
        }
        let mut message = Vec::new();
        put(&mut message, SEQUENCE, &content);
        message
    }
}

/// A tag, its content, and what is behind it.
type Element<'a> = (u8, &'a [u8], &'a [u8]);

/// The first element in bytes; nothing if some of it are missing.
fn element(bytes: &[u8]) -> Result<Option<Element<'_>>, Malformed> {
    let [tag, first, rest @ ..] = bytes else { return Ok(None) };
    let (len, rest) = match first {
        0..=127 => (usize::from(*first), rest),
        0x81..=0x84 => {
            let Some((digits, rest)) = rest.split_at_checked(usize::from(first & 0x7f)) else { return Ok(None) };
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return Err(Malformed),
    };
    if len > MESSAGE_BYTES {
        return Err(Malformed);
    }
    Ok(rest.split_at_checked(len).map(|(content, rest)| (*tag, content, rest)))
}

fn expect(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8]), Malformed> {
    match element(bytes)? {
        Some((found, content, rest)) if found == tag => Ok((content, rest)),
        _ => Err(Malformed),
    }
}

fn number(bytes: &[u8]) -> Result<u32, Malformed> {
    let is_small = !bytes.is_empty() && bytes.len() <= 5 && bytes[0] < 0x80;
    let value = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    u32::try_from(value).ok().filter(|_| is_small).ok_or(Malformed)
}

/// The first message in bytes: its id, what it says, and how long it is. Nothing if it has not come as a whole.
///
/// # Errors
/// If it is no message, or too long.
pub fn read(bytes: &[u8]) -> Result<Option<(u32, Answer, usize)>, Malformed> {
    let Some((tag, message, rest)) = element(bytes)? else { return Ok(None) };
    if tag != SEQUENCE {
        return Err(Malformed);
    }
    let (id, operation) = expect(message, INTEGER)?;
    let (tag, fields, _) = element(operation)?.ok_or(Malformed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let answer = match tag {
        // The answers to bind, search and extended requests.
        0x61 | 0x65 | 0x78 => {
            let (code, rest) = expect(fields, ENUMERATED)?;
            let (_, rest) = expect(rest, OCTETS)?;
            let (message, _) = expect(rest, OCTETS)?;
            Answer::Done { code: number(code)?, message: text(message) }
        }
        0x64 => Answer::Entry(text(expect(fields, OCTETS)?.0)),
        _ => Answer::Other,
    };
    Ok(Some((number(id)?, answer, bytes.len() - rest.len())))
}

/// A value within a distinguished name, with what would be part of the name's form escaped (RFC 4514, section 2.4).
pub fn escape_dn(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (at, character) in value.chars().enumerate() {
        match character {
            '\0' => escaped.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => escaped.extend(['\\', character]),
            '#' if at == 0 => escaped.push_str("\\#"),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            // Line ends and the like are nobody's name.
            control if control.is_control() => {
                let mut bytes = [0; 4];
                control.encode_utf8(&mut bytes).bytes().for_each(|byte| escaped.push_str(&format!("\\{byte:02x}")));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_specification_has_them() {
        let bind = Request::Bind { dn: "cn=a", password: b"pw" }.encode(1);
        assert_eq!(bind, b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw");
        let search = Request::Search { base: "b", is_deep: true, equality: Some(("m", b"v*)")), size_limit: 2 };
        let expected =
            b"\x30\x29\x02\x02\x00\x80\x63\x23\x04\x01b\x0a\x01\x02\x0a\x01\x00\x02\x01\x02\x02\x01\x00\x01\x01\x00\
            \xa3\x08\x04\x01m\x04\x03v*)\x30\x05\x04\x031.1";
        assert_eq!(search.encode(128), expected);
        let long = "x".repeat(300);
        let bind = Request::Bind { dn: &long, password: b"" }.encode(1);
        assert_eq!(&bind[..4], b"\x30\x82\x01\x3c");
        assert_eq!(Request::Unbind.encode(3), b"\x30\x05\x02\x01\x03\x42\x00");
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let done = b"\x30\x0f\x02\x01\x07\x61\x0a\x0a\x01\x31\x04\x00\x04\x03bad\x30";
        let expected = Answer::Done { code: 49, message: "bad".into() };
        assert_eq!(read(done), Ok(Some((7, expected, 17))));
        (0..17).for_each(|len| assert_eq!(read(&done[..len]), Ok(None), "{len}"));
        let entry = b"\x30\x0c\x02\x01\x02\x64\x07\x04\x03c=d\x30\x00";
        assert_eq!(read(entry), Ok(Some((2, Answer::Entry("c=d".into()), 14))));
        assert_eq!(read(b"\x30\x06\x02\x01\x02\x73\x01x"), Ok(Some((2, Answer::Other, 8))));
        for bad in [&b"\x31\x00"[..], b"\x30\x00", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x02\x01\x02"] {
            assert_eq!(read(bad), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn names_are_escaped() {
        for (value, escaped) in [
            ("plain name", "plain name"),
            ("a,ou=b", "a\\,ou\\=b"),
            (" a ", "\\ a\\ "),
            ("#a#", "\\#a#"),
            ("a\"+;<>\\\0b", "a\\\"\\+\\;\\<\\>\\\\\\00b"),
            ("a\nb", "a\\0ab"),
            ("é", "é"),
        ] {
            assert_eq!(escape_dn(value), escaped);
        }
    }
}
