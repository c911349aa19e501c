//! STOMP 1.2, as far as a load needs it.

use super::dialect::{AckMode, Delivery, Destination, Message, Signal, Step, Subscription};
use super::stencil::{DIGITS, Form, Number, Place, Stencil};
use crate::error::Error;
use crate::uri::Uri;

/// Longer than all headers of a frame that a load expects.
const HEADERS_MAX: usize = 16 << 10;
/// Brokers that can do so delete a queue after this time without consumers, in milliseconds: STOMP cannot delete it.
const EXPIRES_MS: u32 = 60_000;
/// The only subscription of each connection.
const ID: &str = "0";

fn path(destination: Destination<'_>) -> String {
    format!("/{}/{}", if destination.is_topic { "topic" } else { "queue" }, destination.name)
}

pub(crate) fn hello(uri: &Uri) -> Vec<u8> {
    let login =
        if uri.user.is_empty() { String::new() } else { format!("login:{}\npasscode:{}\n", uri.user, uri.password) };
    format!("CONNECT\naccept-version:1.2\nhost:{}\nheart-beat:0,0\n{login}\n\0", uri.vhost).into_bytes()
}

/// Has the queue declared as its consumers declare it, so that a publisher may send to it. A topic needs nothing.
pub(crate) fn declare(number: u64, destination: Destination<'_>) -> Vec<u8> {
    let path = path(destination);
    format!(
        "SUBSCRIBE\nid:declare\ndestination:{path}\nack:client\nprefetch-count:1\nactivemq.prefetchSize:1\n\
         x-expires:{EXPIRES_MS}\n\n\0UNSUBSCRIBE\nid:declare\nreceipt:{number}\n\n\0"
    )
    .into_bytes()
}

pub(crate) fn subscribe(number: u64, subscription: &Subscription<'_>) -> Vec<u8> {
    let ack = match subscription.mode {
        AckMode::Auto => "auto",
        AckMode::Each => "client-individual",
        AckMode::Range => "client",
    };
    let path = path(subscription.destination);
    let mut frame = format!("SUBSCRIBE\nid:{ID}\ndestination:{path}\nack:{ack}\nreceipt:{number}\n");
    if !subscription.destination.is_topic {
        frame += &format!("x-expires:{EXPIRES_MS}\n");
    }
    if subscription.prefetch > 0 {
        let prefetch = subscription.prefetch;
        frame += &format!("prefetch-count:{prefetch}\nactivemq.prefetchSize:{prefetch}\n");
    }
    if let Some(selector) = subscription.selector {
        frame += &format!("selector:{selector}\n");
    }
    frame += "\n\0";
    frame.into_bytes()
}

pub(crate) fn stencil(message: &Message<'_>) -> Stencil {
    let mut bytes = format!("SEND\ndestination:{}\n", path(message.destination)).into_bytes();
    let mut places = Vec::new();
    let mut numbered = |bytes: &mut Vec<u8>, header: &str, number| {
        bytes.extend_from_slice(header.as_bytes());
        places.push(Place { at: bytes.len(), number, form: Form::Digits });
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.push(b'\n');
    };
    if message.is_answered {
        numbered(&mut bytes, "receipt:", Number::Message);
    }
    if message.is_transacted {
        numbered(&mut bytes, "transaction:", Number::Transaction);
    }
    if message.is_persistent {
        bytes.extend_from_slice(b"persistent:true\n");
    }
    if let Some(part) = message.part {
        bytes.extend_from_slice(format!("part:{part}\n").as_bytes());
    }
    bytes.extend_from_slice(format!("content-length:{}\n\n", message.body.len()).as_bytes());
    let body_at = bytes.len();
    bytes.extend_from_slice(message.body);
    bytes.push(0);
    Stencil::new(bytes, places, body_at, message.body.len())
}

pub(crate) fn transaction(out: &mut Vec<u8>, step: Step, transaction: u64, number: u64) {
    let frame = match step {
        Step::Begin => format!("BEGIN\ntransaction:{transaction:0DIGITS$}\n\n\0"),
        Step::Commit => format!("COMMIT\ntransaction:{transaction:0DIGITS$}\nreceipt:{number}\n\n\0"),
    };
    out.extend_from_slice(frame.as_bytes());
}

#[inline]
pub(crate) fn acknowledge(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(b"ACK\nid:");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\n\n\0");
}

pub(crate) fn goodbye(number: u64) -> Vec<u8> {
    format!("DISCONNECT\nreceipt:{number}\n\n\0").into_bytes()
}

/// Splits off the frame, or the line that is a heart-beat, at the front of `bytes`.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Signal<'_>, usize)>, Error> {
    if let [b'\n', ..] = bytes {
        return Ok(Some((Signal::Other, 1)));
    }
    let head = &bytes[..bytes.len().min(HEADERS_MAX)];
    let Some(end) = head.windows(2).position(|two| two == b"\n\n") else {
        let is_too_long = head.len() == HEADERS_MAX;
        return if is_too_long { Err(Error::Protocol("headers that no load expects")) } else { Ok(None) };
    };
    let headers = &bytes[..end];
    let body = &bytes[end + 2..];
    let length = match header(headers, b"content-length") {
        Some(length) => number(length)? as usize,
        None => match body.iter().position(|&byte| byte == 0) {
            Some(length) => length,
            None => return Ok(None),
        },
    };
    match body.get(..=length) {
        None => Ok(None),
        Some([body @ .., 0]) => signal(headers, body).map(|signal| Some((signal, end + 2 + length + 1))),
        Some(_) => Err(Error::Protocol("a frame that does not end where it should")),
    }
}

fn signal<'a>(headers: &'a [u8], body: &'a [u8]) -> Result<Signal<'a>, Error> {
    let text = |name: &[u8]| header(headers, name).map(|text| String::from_utf8_lossy(text).into_owned());
    match headers.split(|&byte| byte == b'\n').next() {
        Some(b"MESSAGE") => Ok(Signal::Delivery(Delivery {
            body,
            is_redelivered: header(headers, b"redelivered") == Some(b"true"),
            id: header(headers, b"ack").unwrap_or_default(),
        })),
        Some(b"RECEIPT") => header(headers, b"receipt-id")
            .ok_or(Error::Protocol("a receipt of nothing"))
            .and_then(number)
            .map(Signal::Answer),
        Some(b"CONNECTED") => {
            Ok(Signal::Welcome(text(b"server").unwrap_or_else(|| "STOMP server".to_owned()).replace('/', " ")))
        }
        Some(b"ERROR") => {
            let message = text(b"message").unwrap_or_default();
            Err(Error::Refusal(format!("{message}: {}", String::from_utf8_lossy(body).trim())))
        }
        _ => Ok(Signal::Other),
    }
}

/// The first header of this name.
#[inline]
fn header<'a>(headers: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut lines = headers.split(|&byte| byte == b'\n').skip(1);
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))
}

fn number(digits: &[u8]) -> Result<u64, Error> {
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Error::Protocol("a number that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(frame: &[u8]) -> Signal<'_> {
        let (signal, length) = split(frame).unwrap().unwrap();
        assert_eq!(length, frame.len());
        assert!((0..frame.len()).all(|end| split(&frame[..end]).unwrap().is_none()));
        signal
    }

    #[test]
    fn deliveries_and_receipts_are_read() {
        let delivery = Delivery { body: b"a\0b", is_redelivered: true, id: b"T_1@@s" };
        let with_length = b"MESSAGE\nack:T_1@@s\nredelivered:true\ncontent-length:3\n\na\0b\0";
        assert_eq!(told(with_length), Signal::Delivery(delivery));
        let delivery = Delivery { body: b"ab", is_redelivered: false, id: b"" };
        assert_eq!(told(b"MESSAGE\nsubscription:0\n\nab\0"), Signal::Delivery(delivery));
        assert_eq!(told(b"RECEIPT\nreceipt-id:0000000012\n\n\0"), Signal::Answer(12));
        assert_eq!(told(b"CONNECTED\nserver:RabbitMQ/4.0\n\n\0"), Signal::Welcome("RabbitMQ 4.0".into()));
        assert_eq!(split(b"\nRECEIPT").unwrap().unwrap(), (Signal::Other, 1));
        let refusal = split(b"ERROR\nmessage:access refused\n\nwhy\0").unwrap_err().to_string();
        assert_eq!(refusal, "the server refuses it: access refused: why");
    }

    #[test]
    fn copies_differ_in_their_numbers() {
        let message = Message {
            destination: Destination { name: "q", is_topic: false },
            client: "",
            is_persistent: true,
            is_answered: true,
            is_transacted: true,
            part: Some(3),
            body: b"12345678",
        };
        let (mut stencil, mut out) = (stencil(&message), Vec::new());
        stencil.copy(&mut out, 12, 345, 0);
        let expected = "SEND\ndestination:/queue/q\nreceipt:0000000012\ntransaction:0000000345\npersistent:true\npart:3\n\
                        content-length:8\n\n\0\0\0\0\0\0\0\0\0";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
