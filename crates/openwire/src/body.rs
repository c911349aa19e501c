//! The content of messages, by their kind.
//!
//! A map message's content is a map, which [`entries`](crate::primitive::entries) reads; a stream message's is
//! [`values`](crate::primitive::values); a bytes message's is the bytes. What is compressed has to be inflated by others
//! first: [`compressed`] tells where the zlib stream is.

use crate::{
    error::{Malformed, Unencodable},
    input::Input,
    lent::{Bytes, Text},
    message::{Message, MessageKind},
    primitive, utf8,
};

/// The text of a text message's content; nothing if the text is null.
///
/// # Errors
/// If it is longer than the content, or is no text.
pub fn text(content: &[u8]) -> Result<Option<Text<'_>>, Malformed> {
    let mut input = Input::new(content);
    match usize::try_from(input.i32()?) {
        Ok(len) => utf8::decode(input.take(len)?).map(Some),
        Err(_) => Ok(None),
    }
}

/// The content of a text message.
///
/// # Errors
/// If it is longer than 2 GiB.
pub fn text_content(text: &str) -> Result<Bytes<'static>, Unencodable> {
    let mut content = Vec::with_capacity(4 + text.len());
    primitive::put_long_text(&mut content, text)?;
    Ok(content.into())
}

/// A content that is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed<'a> {
    /// A zlib stream (RFC 1950).
    pub zlib: &'a [u8],
    /// Bytes of what is in it, if the sender says. It may be a lie.
    pub inflated_len: Option<usize>,
}

/// The compressed content of a message; nothing if it has none, or is not compressed.
///
/// # Errors
/// If a length is cut short or below 0.
pub fn compressed<'m>(message: &'m Message<'_>) -> Result<Option<Compressed<'m>>, Malformed> {
    let Some(content) = message.content.as_deref().filter(|_| message.compressed) else { return Ok(None) };
    if message.kind != MessageKind::Bytes {
        return Ok(Some(Compressed { zlib: content, inflated_len: None }));
    }
    let mut input = Input::new(content);
    let inflated_len = Some(input.len()?);
    Ok(Some(Compressed { zlib: input.rest(), inflated_len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_length_of_four_bytes() {
        assert_eq!(text(b"\0\0\0\x02hi"), Ok(Some("hi".into())));
        assert_eq!(text(b"\xff\xff\xff\xff"), Ok(None));
        assert!(text(b"\0\0\0\x03hi").is_err());
        assert!(text(b"").is_err());
        let long = "\u{1f6a2}\0".repeat(50_000);
        assert_eq!(text(&text_content(&long).unwrap()), Ok(Some(long.as_str().into())));
    }

    #[test]
    fn bytes_that_are_compressed_tell_how_many_they_were() {
        let message = |kind, content: &'static [u8], compressed| Message {
            kind,
            content: Some(content.into()),
            compressed,
            ..Message::default()
        };
        let zlib = |zlib, inflated_len| Ok(Some(Compressed { zlib, inflated_len }));
        assert_eq!(compressed(&message(MessageKind::Bytes, b"\0\0\0\x09zz", true)), zlib(b"zz", Some(9)));
        assert_eq!(compressed(&message(MessageKind::Text, b"zz", true)), zlib(b"zz", None));
        assert_eq!(compressed(&message(MessageKind::Text, b"zz", false)), Ok(None));
        assert!(compressed(&message(MessageKind::Bytes, b"\xff\xff\xff\xff", true)).is_err());
    }
}
