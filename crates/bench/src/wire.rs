//! AMQP 0-9-1 frames, as far as a load generator needs them: method encoders, and a splitter that never copies.
//!
//! Written from the specification and shared with nobody, so that the tool cannot agree with the broker on a mistake.

use crate::error::Error;

pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;

/// Bytes that a frame has besides its payload: type, channel, size, and the end mark.
pub(crate) const FRAME_OVERHEAD: usize = 8;
const FRAME_PREFIX: usize = 7;
const FRAME_END: u8 = 0xCE;

/// Bits of a content header, each of which says that a property follows.
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;

/// Class id and method id in one number, as they stand at the start of a method payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Method(u32);

impl Method {
    const fn new(class: u16, method: u16) -> Self {
        Self((class as u32) << 16 | method as u32)
    }

    pub(crate) const CONNECTION_START: Self = Self::new(10, 10);
    pub(crate) const CONNECTION_START_OK: Self = Self::new(10, 11);
    pub(crate) const CONNECTION_TUNE: Self = Self::new(10, 30);
    pub(crate) const CONNECTION_TUNE_OK: Self = Self::new(10, 31);
    pub(crate) const CONNECTION_OPEN: Self = Self::new(10, 40);
    pub(crate) const CONNECTION_OPEN_OK: Self = Self::new(10, 41);
    pub(crate) const CONNECTION_CLOSE: Self = Self::new(10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: Self = Self::new(10, 51);
    pub(crate) const CONNECTION_BLOCKED: Self = Self::new(10, 60);
    pub(crate) const CONNECTION_UNBLOCKED: Self = Self::new(10, 61);
    pub(crate) const CHANNEL_OPEN: Self = Self::new(20, 10);
    pub(crate) const CHANNEL_OPEN_OK: Self = Self::new(20, 11);
    pub(crate) const CHANNEL_CLOSE: Self = Self::new(20, 40);
    pub(crate) const EXCHANGE_DECLARE: Self = Self::new(40, 10);
    pub(crate) const EXCHANGE_DECLARE_OK: Self = Self::new(40, 11);
    pub(crate) const EXCHANGE_DELETE: Self = Self::new(40, 20);
    pub(crate) const EXCHANGE_DELETE_OK: Self = Self::new(40, 21);
    pub(crate) const QUEUE_DECLARE: Self = Self::new(50, 10);
    pub(crate) const QUEUE_DECLARE_OK: Self = Self::new(50, 11);
    pub(crate) const QUEUE_BIND: Self = Self::new(50, 20);
    pub(crate) const QUEUE_BIND_OK: Self = Self::new(50, 21);
    pub(crate) const QUEUE_DELETE: Self = Self::new(50, 40);
    pub(crate) const QUEUE_DELETE_OK: Self = Self::new(50, 41);
    pub(crate) const BASIC_QOS: Self = Self::new(60, 10);
    pub(crate) const BASIC_QOS_OK: Self = Self::new(60, 11);
    pub(crate) const BASIC_CONSUME: Self = Self::new(60, 20);
    pub(crate) const BASIC_CONSUME_OK: Self = Self::new(60, 21);
    pub(crate) const BASIC_CANCEL: Self = Self::new(60, 30);
    pub(crate) const BASIC_PUBLISH: Self = Self::new(60, 40);
    pub(crate) const BASIC_DELIVER: Self = Self::new(60, 60);
    pub(crate) const BASIC_ACK: Self = Self::new(60, 80);
    pub(crate) const BASIC_REJECT: Self = Self::new(60, 90);
    pub(crate) const BASIC_NACK: Self = Self::new(60, 120);
    pub(crate) const CONFIRM_SELECT: Self = Self::new(85, 10);
    pub(crate) const CONFIRM_SELECT_OK: Self = Self::new(85, 11);
}

/// One frame, still in the buffer that it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first frame off `bytes` and says how long it was; `None` while it is incomplete.
    #[inline]
    pub(crate) fn split(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Error> {
        let Some(prefix) = bytes.first_chunk::<FRAME_PREFIX>() else {
            return Ok(None);
        };
        let &[kind, _, _, a, b, c, d] = prefix;
        let end = FRAME_PREFIX + u32::from_be_bytes([a, b, c, d]) as usize;
        match bytes.get(end) {
            None => Ok(None),
            Some(&FRAME_END) => Ok(Some((Self { kind, payload: &bytes[FRAME_PREFIX..end] }, end + 1))),
            Some(_) => Err(Error::Protocol("a frame without its end mark")),
        }
    }

    /// Which method the payload is, for a method frame.
    #[inline]
    pub(crate) fn method(&self) -> Option<Method> {
        if self.kind != METHOD {
            return None;
        }
        self.payload.first_chunk().map(|id| Method(u32::from_be_bytes(*id)))
    }

    /// The arguments behind the method id.
    pub(crate) fn arguments(&self) -> Fields<'a> {
        Fields(self.payload.get(4..).unwrap_or_default())
    }

    /// Total body size that a content header announces.
    #[inline]
    pub(crate) fn body_size(&self) -> Result<u64, Error> {
        let size = self.payload.get(4..12).and_then(|bytes| bytes.try_into().ok());
        size.map(u64::from_be_bytes).ok_or(Error::Protocol("a content header without a size"))
    }

    /// Where a message lies in its stream, which a content header says in its table.
    #[inline]
    pub(crate) fn stream_offset(&self) -> Option<u64> {
        let mut properties = Fields(self.payload.get(12..)?);
        let flags = properties.short().ok()?;
        // The content type and the content encoding come before the table.
        for text in [1 << 15, 1 << 14] {
            if flags & text != 0 {
                properties.short_slice().ok()?;
            }
        }
        if flags & HEADERS == 0 {
            return None;
        }
        let (_, value) = properties.table_value(b"x-stream-offset")?;
        value.first_chunk().map(|value| u64::from_be_bytes(*value))
    }
}

/// Reads method arguments from left to right.
#[derive(Clone)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Error::Protocol("a method that ends early"))?;
        self.0 = tail;
        Ok(*head)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(Error::Protocol("a method that ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn octet(&mut self) -> Result<u8, Error> {
        Ok(u8::from_be_bytes(self.take()?))
    }

    pub(crate) fn short(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    pub(crate) fn long(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    pub(crate) fn long_long(&mut self) -> Result<u64, Error> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn short_slice(&mut self) -> Result<&'a [u8], Error> {
        let length = self.octet()?;
        self.slice(length.into())
    }

    pub(crate) fn short_text(&mut self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.short_slice()?).into_owned())
    }

    /// The text under `key` in a table.
    pub(crate) fn table_text(&mut self, key: &str) -> Option<String> {
        let (kind, value) = self.table_value(key.as_bytes())?;
        (kind == b'S').then(|| String::from_utf8_lossy(value).into_owned())
    }

    /// Type and bytes under `key` in a table; tables are only searched, and a value of an exotic type ends the search.
    fn table_value(&mut self, key: &[u8]) -> Option<(u8, &'a [u8])> {
        let length = self.long().ok()?;
        let mut table = Fields(self.slice(length as usize).ok()?);
        loop {
            let name = table.short_slice().ok()?;
            let kind = table.octet().ok()?;
            let length = match kind {
                b't' | b'b' | b'B' => 1,
                b's' | b'u' => 2,
                b'I' | b'i' | b'f' => 4,
                b'l' | b'L' | b'd' | b'T' => 8,
                b'S' | b'F' | b'A' | b'x' => table.long().ok()? as usize,
                _ => return None,
            };
            let value = table.slice(length).ok()?;
            if name == key {
                return Some((kind, value));
            }
        }
    }
}

/// Builds frames one after another in a buffer.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    /// Appends a method frame; `arguments` writes what follows the method id.
    pub(crate) fn method(
        &mut self,
        channel: u16,
        method: Method,
        arguments: impl FnOnce(&mut Arguments<'_>),
    ) -> &mut Self {
        self.frame(METHOD, channel, |out| {
            out.long(method.0);
            arguments(out);
        })
    }

    /// Appends what carries one message: publish method, header, and as many body frames as `frame_max` asks for.
    pub(crate) fn message(&mut self, message: &Message<'_>) -> &mut Self {
        self.method(message.channel, Method::BASIC_PUBLISH, |out| {
            out.short(0).short_text(message.exchange).short_text(message.routing_key).octet(0);
        });
        self.frame(HEADER, message.channel, |out| {
            out.short(60).short(0).long_long(message.body.len() as u64);
            message.properties(out);
        });
        for part in message.body.chunks(message.frame_max - FRAME_OVERHEAD) {
            self.frame(BODY, message.channel, |out| out.0.extend_from_slice(part));
        }
        self
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: impl FnOnce(&mut Arguments<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&channel.to_be_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        payload(&mut Arguments(&mut self.bytes));
        let length = (self.bytes.len() - start - FRAME_PREFIX) as u32;
        self.bytes[start + 3..start + FRAME_PREFIX].copy_from_slice(&length.to_be_bytes());
        self.bytes.push(FRAME_END);
        self
    }
}

/// A message to be published.
pub(crate) struct Message<'a> {
    pub(crate) channel: u16,
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) persistent: bool,
    pub(crate) priority: Option<u8>,
    /// The header x-delay.
    pub(crate) delay_ms: Option<i32>,
    pub(crate) frame_max: usize,
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// In the order of the specification: flags, table, delivery mode, priority.
    fn properties(&self, out: &mut Arguments<'_>) {
        let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
        out.short(
            flag(self.delay_ms.is_some(), HEADERS)
                | flag(self.persistent, DELIVERY_MODE)
                | flag(self.priority.is_some(), PRIORITY),
        );
        if let Some(delay_ms) = self.delay_ms {
            out.table(|table| {
                table.number_field("x-delay", delay_ms);
            });
        }
        if self.persistent {
            out.octet(2);
        }
        if let Some(priority) = self.priority {
            out.octet(priority);
        }
    }
}

/// A message without properties and without a body to the default exchange.
impl Default for Message<'_> {
    fn default() -> Self {
        Self {
            channel: 1,
            exchange: "",
            routing_key: "",
            persistent: false,
            priority: None,
            delay_ms: None,
            frame_max: 4096,
            body: &[],
        }
    }
}

/// Writes method arguments.
pub(crate) struct Arguments<'a>(&'a mut Vec<u8>);

impl Arguments<'_> {
    pub(crate) fn octet(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub(crate) fn short(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn long_long(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Short strings hold at most 255 bytes; longer text is cut, and the server then refuses the name by itself.
    pub(crate) fn short_text(&mut self, text: &str) -> &mut Self {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        self.0.push(bytes.len() as u8);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn long_text(&mut self, text: &[u8]) -> &mut Self {
        self.long(text.len() as u32);
        self.0.extend_from_slice(text);
        self
    }

    /// A table; `fields` writes names, type letters and values.
    pub(crate) fn table(&mut self, fields: impl FnOnce(&mut Arguments<'_>)) -> &mut Self {
        let mut table = Vec::new();
        fields(&mut Arguments(&mut table));
        self.long_text(&table)
    }

    /// In a table: a name with a text.
    pub(crate) fn text_field(&mut self, name: &str, text: &str) -> &mut Self {
        self.short_text(name).octet(b'S').long_text(text.as_bytes())
    }

    /// In a table: a name with a number.
    pub(crate) fn number_field(&mut self, name: &str, number: i32) -> &mut Self {
        self.short_text(name).octet(b'I').long(number.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_has_the_bytes_of_the_specification() {
        let mut encoder = Encoder::default();
        let message = Message { routing_key: "q", persistent: true, frame_max: 10, body: b"abc", ..Message::default() };
        encoder.message(&message);
        let expected = [
            &[1, 0, 1, 0, 0, 0, 10, 0, 60, 0, 40, 0, 0, 0, 1, b'q', 0, 0xCE][..],
            &[2, 0, 1, 0, 0, 0, 15, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0x10, 0, 2, 0xCE],
            &[3, 0, 1, 0, 0, 0, 2, b'a', b'b', 0xCE],
            &[3, 0, 1, 0, 0, 0, 1, b'c', 0xCE],
        ];
        assert_eq!(encoder.bytes, expected.concat());
    }

    #[test]
    fn a_frame_splits_only_when_complete() {
        let mut encoder = Encoder::default();
        encoder.method(3, Method::BASIC_ACK, |out| {
            out.long_long(77).octet(1);
        });
        let whole = encoder.bytes.len();
        encoder.bytes.extend_from_slice(b"next");
        for cut in 0..whole {
            assert_eq!(Frame::split(&encoder.bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let (frame, length) = Frame::split(&encoder.bytes).unwrap().unwrap();
        assert_eq!((length, frame.method()), (whole, Some(Method::BASIC_ACK)));
        let mut arguments = frame.arguments();
        assert_eq!((arguments.long_long().unwrap(), arguments.octet().unwrap()), (77, 1));
        assert!(arguments.octet().is_err());
    }

    #[test]
    fn a_wrong_end_mark_is_an_error() {
        let bytes = [8, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(Frame::split(&bytes), Err(Error::Protocol(_))));
    }

    #[test]
    fn header_tells_the_body_size() {
        let mut encoder = Encoder::default();
        let body = vec![7; 300];
        encoder.message(&Message { exchange: "x", body: &body, ..Message::default() });
        let (_, publish) = Frame::split(&encoder.bytes).unwrap().unwrap();
        let (header, _) = Frame::split(&encoder.bytes[publish..]).unwrap().unwrap();
        assert_eq!(header.body_size().unwrap(), 300);
        assert!(Frame { kind: HEADER, payload: &[0; 5] }.body_size().is_err());
    }

    #[test]
    fn properties_stand_in_the_order_of_the_specification() {
        let mut encoder = Encoder::default();
        encoder.message(&Message { persistent: true, priority: Some(7), delay_ms: Some(258), ..Message::default() });
        let (_, publish) = Frame::split(&encoder.bytes).unwrap().unwrap();
        let (header, _) = Frame::split(&encoder.bytes[publish..]).unwrap().unwrap();
        let expected = [&[0x38, 0, 0, 0, 0, 13, 7][..], b"x-delayI", &[0, 0, 1, 2, 2, 7]].concat();
        assert_eq!(&header.payload[12..], expected);
        assert_eq!(header.stream_offset(), None);
    }

    #[test]
    fn the_offset_of_a_stream_is_found_behind_other_properties() {
        let mut payload = vec![0; 12];
        Arguments(&mut payload).short(1 << 15 | HEADERS).short_text("text/plain").table(|table| {
            table.text_field("a", "b").short_text("x-stream-offset").octet(b'l').long_long(1 << 40);
        });
        assert_eq!(Frame { kind: HEADER, payload: &payload }.stream_offset(), Some(1 << 40));
        assert_eq!(Frame { kind: HEADER, payload: &payload[..20] }.stream_offset(), None);
        assert_eq!(Frame { kind: HEADER, payload: &[0; 14] }.stream_offset(), None);
    }

    #[test]
    fn text_is_found_in_a_table() {
        let mut bytes = Vec::new();
        Arguments(&mut bytes).table(|table| {
            table.short_text("flag").octet(b't').octet(1);
            table.short_text("inner").octet(b'F').table(|_| ());
            table.short_text("product").octet(b'S').long_text(b"Thing");
        });
        assert_eq!(Fields(&bytes).table_text("product").as_deref(), Some("Thing"));
        assert_eq!(Fields(&bytes).table_text("version"), None);
    }
}
