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
