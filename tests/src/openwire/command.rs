//! Any command of version 12 in its loose form, as a line of text in which only what means something is shown.

use std::fmt::Write as _;

use super::primitive;
use crate::raw::{Malformed, Reader, quoted};

/// Type codes, names and fields. A field's letter says how it is written: a boolean, byte, int, long, text, sequence of bytes,
/// map of properties, object, array of objects or exception. What differs from one broker or run to the next has no name.
const TYPES: [(u8, &str, &str); 37] = [
    (3, "ConnectionInfo", "connection:o client:t :t :t :a :b :b :b :b :b :t"),
    (4, "SessionInfo", "session:o"),
    (
        5,
        "ConsumerInfo",
        "consumer:o browser:b destination:o prefetch:i :i :b selector:t client:t subscription:t noLocal:b exclusive:b \
         retroactive:b priority:y :a :o :b :b :b :a",
    ),
    (6, "ProducerInfo", "producer:o destination:o :a :b window:i"),
    (7, "TransactionInfo", "connection:o transaction:o type:y"),
    (8, "DestinationInfo", "connection:o destination:o operation:y :l :a"),
    (9, "RemoveSubscriptionInfo", "connection:o subscription:t client:t"),
    (11, "ShutdownInfo", ""),
    (12, "RemoveInfo", "object:o :l"),
    (16, "ConnectionError", "exception:e :o"),
    (17, "ConsumerControl", "destination:o close:b consumer:o prefetch:i :b :b :b"),
    (19, "ProducerAck", "producer:o size:i"),
    (20, "MessagePull", "consumer:o destination:o timeout:l :t :o"),
    (21, "MessageDispatch", "consumer:o destination:o message:o redeliveries:i"),
    (22, "MessageAck", "destination:o transaction:o consumer:o type:y first:o last:o count:i :e"),
    (23, "Message", MESSAGE),
    (24, "BytesMessage", MESSAGE),
    (25, "MapMessage", MESSAGE),
    (26, "ObjectMessage", MESSAGE),
    (27, "StreamMessage", MESSAGE),
    (28, "TextMessage", MESSAGE),
    (30, "Response", "to:i"),
    (31, "ExceptionResponse", "to:i exception:e"),
    (32, "DataResponse", "to:i data:o"),
    (34, "IntegerResponse", "to:i result:i"),
    (100, "queue", "name:t"),
    (101, "topic", "name:t"),
    (102, "temp-queue", "name:t"),
    (103, "temp-topic", "name:t"),
    (110, "MessageId", "text:t producer:o number:l :l"),
    (111, "LocalTransactionId", "number:l connection:o"),
    (120, "ConnectionId", "name:t"),
    (121, "SessionId", "connection:t number:l"),
    (122, "ConsumerId", "connection:t session:l number:l"),
    (123, "ProducerId", "connection:t number:l session:l"),
    (124, "BrokerId", ":t"),
    (2, "BrokerInfo", ":o :t :a :t :b :b :b :b :b :l :t :t"),
];

/// In which transaction it was, where a dead letter was, when messages came and went, and through which brokers is the
/// broker's to say, or not.
const MESSAGE: &str = "producer:o destination:o :o :o id:o :o group:t sequence:i correlation:t persistent:b :l \
                       priority:y reply:o timestamp:l type:t content:x properties:p data:o :o compressed:b :i :a :l :t :b :b \
                       :a :l :l :b";

const ADVISORY: &str = "destination=(topic name=ActiveMQ.Advisory.";

/// A frame that has been read.
#[derive(Debug, Default)]
pub struct Shown {
    pub line: String,
    /// For each message id, its bytes but for the broker's number, and where that stands.
    pub ids: Vec<(Vec<u8>, usize)>,
}

impl Shown {
    /// Of a frame without its length.
    pub fn of(frame: &[u8]) -> Result<Self, Malformed> {
        let mut shown = Self::default();
        let mut input = Reader::new(frame);
        let code = input.u8()?;
        shown.structure(code, frame, &mut input)?;
        if shown.line.contains(ADVISORY) {
            shown.forget_the_sender();
        }
        Ok(shown)
    }

    /// Of an advisory only what it is about is told: the message is the broker's own.
    fn forget_the_sender(&mut self) {
        if let (Some(begin), Some(about)) = (self.line.find(" message=("), self.line.rfind(" data=(")) {
            self.line.replace_range(begin..about, "");
        }
    }

    fn structure(&mut self, code: u8, frame: &[u8], input: &mut Reader<'_>) -> Result<(), Malformed> {
        let (_, name, fields) = TYPES.iter().find(|(known, ..)| *known == code).ok_or(Malformed)?;
        if code < 100 {
            // Its number, and whether it wants an answer.
            input.take(5)?;
        }
        let begin = frame.len() - input.rest().len();
        self.line.push_str(name);
        for field in fields.split_whitespace() {
            let (label, form) = field.split_once(':').ok_or(Malformed)?;
            let before = self.line.len();
            let _ = write!(self.line, " {label}=");
            let is_told = self.field(form, frame, input)?;
            if label.is_empty() || !is_told {
                self.line.truncate(before);
            }
        }
        let end = frame.len() - input.rest().len();
        if code == 110 {
            self.ids.push((frame[begin..end - 8].to_vec(), end - 8));
        }
        Ok(())
    }

    /// Shows a field; whether it says anything.
    fn field(&mut self, form: &str, frame: &[u8], input: &mut Reader<'_>) -> Result<bool, Malformed> {
        let number = match form {
            "b" | "y" => i64::from(input.u8()? as i8),
            "i" => i64::from(input.u32()? as i32),
            "l" => input.u64()? as i64,
            _ if input.u8()? == 0 => return Ok(false),
            _ => return self.thing(form, frame, input).map(|()| true),
        };
        let _ = write!(self.line, "{number}");
        Ok(number != 0)
    }

    /// Something that is there.
    fn thing(&mut self, form: &str, frame: &[u8], input: &mut Reader<'_>) -> Result<(), Malformed> {
        match form {
            "t" => self.line.push_str(&quoted(primitive::text(input)?.as_bytes())),
            "x" => {
                let _ = write!(self.line, "\"{}\"", input.long_text()?.escape_ascii());
            }
            "p" => {
                let mut map = primitive::read_map(&mut Reader::new(input.long_text()?))?;
                map.retain(|(name, _)| !name.starts_with("originBroker"));
                map.sort_by(|one, other| one.0.cmp(&other.0));
                let map: Vec<_> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let _ = write!(self.line, "{{{}}}", map.join(", "));
            }
            "o" => {
                let code = input.u8()?;
                self.line.push('(');
                self.structure(code, frame, input)?;
                self.line.push(')');
            }
            "a" => {
                for _ in 0..input.u16()? {
                    self.field("o", frame, input)?;
                }
            }
            // Of an exception only its class means something to a client.
            _ => {
                self.field("t", frame, input)?;
                let shown = self.line.len();
                self.field("t", frame, input)?;
                self.line.truncate(shown);
            }
        }
        Ok(())
    }
}

/// What brokers say of themselves, and signs of life.
pub fn is_noise(frame: &[u8]) -> bool {
    matches!(frame.first(), Some(1 | 2 | 10 | 18))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_messages_are_found() {
        let id = b"\x01\x6e\x00\x01\x7b\x01\x00\x01c\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\
                   \x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x09";
        let ack = [&b"\x16\x00\x00\x00\x05\x00\x00\x00\x00\x02"[..], id, id, b"\x00\x00\x00\x02\x00"].concat();
        let shown = Shown::of(&ack).unwrap();
        let id = "(MessageId producer=(ProducerId connection=c number=2 session=3) number=7)";
        assert_eq!(shown.line, format!("MessageAck type=2 first={id} last={id} count=2"));
        assert_eq!(shown.ids.len(), 2);
        assert_eq!(ack[shown.ids[1].1..][..8], [0, 0, 0, 0, 0, 0, 0, 9]);
        assert!(Shown::of(&ack[..ack.len() - 2]).is_err());
    }
}
