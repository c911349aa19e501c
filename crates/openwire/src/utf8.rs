//! Java's modified UTF-8: U+0000 is two bytes, a character outside of the basic plane is a pair of surrogates of three
//! bytes each (`java.io.DataInput`, "Modified UTF-8").

use crate::{
    error::Malformed,
    lent::{Lent, Text},
};

const BROKEN: Malformed = Malformed::new("a string is not modified UTF-8");

/// Reads text, without a copy unless it has one of the special forms. Plain UTF-8 is taken as well: some clients send it.
/// A surrogate without its other half, which a Java string may have and ours may not, becomes U+FFFD.
///
/// # Errors
/// If it is neither.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Result<Text<'_>, Malformed> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Lent::Borrowed(text)),
        Err(_) => special(bytes),
    }
}

/// Reads text of which the sender says that it is ASCII. Java takes each byte for a character, so that others are Latin-1.
pub(crate) fn decode_ascii(bytes: &[u8]) -> Text<'_> {
    if bytes.is_ascii()
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Lent::Borrowed(text);
    }
    bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()
}

#[cold]
fn special(bytes: &[u8]) -> Result<Text<'static>, Malformed> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((unit, after)) = unit(rest)? {
        rest = after;
        let low = match unit {
            0xd800..0xdc00 => self::unit(rest)?.filter(|(low, _)| (0xdc00..0xe000).contains(low)),
            _ => None,
        };
        if let Some((low, after)) = low {
            rest = after;
            text.extend(char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00)));
        } else {
            text.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
    }
    Ok(text.into())
}

/// The first unit of UTF-16, or character of plain UTF-8, and what follows it.
fn unit(bytes: &[u8]) -> Result<Option<(u32, &[u8])>, Malformed> {
    let part = |byte: u8| if byte & 0xc0 == 0x80 { Ok(u32::from(byte & 0x3f)) } else { Err(BROKEN) };
    Ok(Some(match *bytes {
        [] => return Ok(None),
        [a @ 0..0x80, ref rest @ ..] => (a.into(), rest),
        [a @ 0xc0..0xe0, b, ref rest @ ..] => (u32::from(a & 0x1f) << 6 | part(b)?, rest),
        [a @ 0xe0..0xf0, b, c, ref rest @ ..] => (u32::from(a & 0x0f) << 12 | part(b)? << 6 | part(c)?, rest),
        [a @ 0xf0..0xf5, b, c, d, ref rest @ ..] => {
            let value = u32::from(a & 7) << 18 | part(b)? << 12 | part(c)? << 6 | part(d)?;
            if !(0x1_0000..0x11_0000).contains(&value) {
                return Err(BROKEN);
            }
            (value, rest)
        }
        _ => return Err(BROKEN),
    }))
}

/// What there is to know about text before it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Every character is one of U+0001 to U+007F.
    Ascii,
    /// UTF-8 that is modified UTF-8 as well.
    Plain,
    /// It has U+0000 or characters that become surrogates.
    Special,
}

/// Which form text has.
#[inline]
pub(crate) fn form(text: &str) -> Form {
    const LOW: u64 = u64::MAX / 0xff;
    const HIGH: u64 = LOW << 7;
    // Eight bytes at a time: a bit of HIGH is set where a byte is 0 or above 0x7f. The last eight overlap others.
    let odd = |word: u64| (word | word.wrapping_sub(LOW)) & HIGH;
    let bytes = text.as_bytes();
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => bytes.iter().fold(LOW, |word, byte| word << 8 | u64::from(*byte)),
    };
    let all = bytes.as_chunks::<8>().0.iter().fold(odd(last), |all, word| all | odd(u64::from_le_bytes(*word)));
    if all == 0 { Form::Ascii } else { form_beyond_ascii(text) }
}

fn form_beyond_ascii(text: &str) -> Form {
    let is_special = text.bytes().any(|byte| byte == 0 || byte >= 0xf0);
    if is_special { Form::Special } else { Form::Plain }
}

/// Bytes that text takes in modified UTF-8.
#[inline]
pub(crate) fn len(text: &str, form: Form) -> usize {
    match form {
        Form::Ascii | Form::Plain => text.len(),
        Form::Special => text.bytes().map(|byte| 1 + usize::from(byte == 0) + 2 * usize::from(byte >= 0xf0)).sum(),
    }
}

/// Appends text.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, text: &str, form: Form) {
    if form == Form::Special { put_special(out, text) } else { out.extend_from_slice(text.as_bytes()) }
}

fn put_special(out: &mut Vec<u8>, text: &str) {
    for each in text.chars() {
        match each {
            '\0' => out.extend_from_slice(&[0xc0, 0x80]),
            '\u{1_0000}'.. => {
                for unit in each.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(&[
                        0xe0 | (*unit >> 12) as u8,
                        0x80 | (*unit >> 6 & 0x3f) as u8,
                        0x80 | (*unit & 0x3f) as u8,
                    ]);
                }
            }
            _ => out.extend_from_slice(each.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> Vec<u8> {
        let form = form(text);
        let mut out = Vec::new();
        put(&mut out, text, form);
        assert_eq!(out.len(), len(text, form));
        out
    }

    #[test]
    fn special_characters_have_javas_forms() {
        assert_eq!(encoded("a\0"), b"a\xc0\x80");
        assert_eq!(encoded("\u{1f6a2}"), b"\xed\xa0\xbd\xed\xba\xa2");
        assert_eq!(encoded("\u{e9}\u{20ac}"), "\u{e9}\u{20ac}".as_bytes());
        assert!(matches!(decode("\u{e9}".as_bytes()), Ok(Lent::Borrowed("\u{e9}"))));
    }

    #[test]
    fn half_a_pair_is_replaced() {
        for bytes in [&b"\xed\xa0\xbdx"[..], b"\xed\xba\xa2x"] {
            assert_eq!(decode(bytes).unwrap(), *"\u{fffd}x");
        }
        assert_eq!(decode(b"\xed\xa0\xbd\xed\xa0\xbd\xed\xba\xa2").unwrap(), *"\u{fffd}\u{1f6a2}");
        assert_eq!(decode(b"\xed\xa0\xbd").unwrap(), *"\u{fffd}");
    }

    #[test]
    fn plain_utf8_is_taken_and_the_rest_refused() {
        assert_eq!(decode("\u{1f6a2}".as_bytes()).unwrap(), *"\u{1f6a2}");
        assert_eq!(decode(b"\xf0\x9f\x9a\xa2\xc0\x80").unwrap(), *"\u{1f6a2}\0");
        for bytes in
            [&b"\x80"[..], b"\xc3", b"\xe2\x82", b"\xc3\x28", b"\xff", b"\xf8\x80\x80\x80", b"\xf4\x90\x80\x80"]
        {
            assert_eq!(decode(bytes), Err(BROKEN), "{bytes:x?}");
        }
        assert_eq!(decode_ascii(b"\xe9"), *"\u{e9}");
    }

    proptest! {
        #[test]
        fn text_comes_back(text: String) {
            let bytes = encoded(&text);
            prop_assert_eq!(&*decode(&bytes).unwrap(), &text);
        }

        #[test]
        fn any_bytes_are_text_or_refused(bytes: Vec<u8>) {
            if let Ok(text) = decode(&bytes) {
                let bytes = encoded(&text);
                prop_assert_eq!(decode(&bytes).unwrap(), text);
            }
        }
    }
}
