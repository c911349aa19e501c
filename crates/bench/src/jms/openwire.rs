//! OpenWire 12 in its loose encoding and without the cache, as far as a load needs it.

use super::dialect::{AckMode, Delivery, Destination, Message, Signal, Step, Subscription};
use super::stencil::{Form, Number, Place, Stencil};
use crate::error::Error;
use crate::uri::Uri;

const WIRE_FORMAT_INFO: u8 = 1;
const CONNECTION_INFO: u8 = 3;
const SESSION_INFO: u8 = 4;
const CONSUMER_INFO: u8 = 5;
const PRODUCER_INFO: u8 = 6;
const TRANSACTION_INFO: u8 = 7;
const DESTINATION_INFO: u8 = 8;
const SHUTDOWN_INFO: u8 = 11;
const REMOVE_INFO: u8 = 12;
const CONNECTION_ERROR: u8 = 16;
const MESSAGE_DISPATCH: u8 = 21;
const MESSAGE_ACK: u8 = 22;
const BYTES_MESSAGE: u8 = 24;
const RESPONSE: u8 = 30;
const EXCEPTION_RESPONSE: u8 = 31;
const QUEUE: u8 = 100;
const TOPIC: u8 = 101;
const MESSAGE_ID: u8 = 110;
const LOCAL_TRANSACTION_ID: u8 = 111;
const CONNECTION_ID: u8 = 120;
const SESSION_ID: u8 = 121;
const CONSUMER_ID: u8 = 122;
const PRODUCER_ID: u8 = 123;

const VERSION: u32 = 12;
/// Each connection has one session with one consumer or producer.
const FIRST: u64 = 1;
/// The command numbers of what opens a connection. Messages count from 1.
const LOGIN: u32 = i32::MAX as u32;
const SESSION: u32 = LOGIN - 1;
/// Larger than any frame that a load expects.
const FRAME_MAX: usize = 1 << 20;
/// What a consumer may hold if nobody says, as with Java's client: of a queue, and of a topic.
const PREFETCH: [u32; 2] = [1000, 32_766];
/// The type of a text among properties.
const STRING: u8 = 9;
const STANDARD_ACK: u8 = 2;
const REMOVE_DESTINATION: u8 = 1;

/// Frames that are being written.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
}

impl Out {
    fn frame(&mut self, kind: u8, fields: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.int(0).byte(kind);
        fields(self);
        let size = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn command(&mut self, kind: u8, number: u32, is_answered: bool, fields: impl FnOnce(&mut Self)) {
        self.frame(kind, |out| {
            out.int(number).boolean(is_answered);
            fields(out);
        });
    }

    fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    fn boolean(&mut self, value: bool) -> &mut Self {
        self.byte(u8::from(value))
    }

    fn int(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// A text, an object or an array that is not there.
    fn nothing(&mut self) -> &mut Self {
        self.byte(0)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.byte(1).name(text)
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.nothing(),
        }
    }

    /// A text that is always there.
    fn name(&mut self, text: &str) -> &mut Self {
        self.raw(&(text.len() as u16).to_be_bytes()).raw(text.as_bytes())
    }

    fn content(&mut self, bytes: &[u8]) -> &mut Self {
        self.byte(1).int(bytes.len() as u32).raw(bytes)
    }

    fn object(&mut self, kind: u8) -> &mut Self {
        self.byte(1).byte(kind)
    }

    fn destination(&mut self, destination: Destination<'_>) -> &mut Self {
        self.object(if destination.is_topic { TOPIC } else { QUEUE }).text(destination.name)
    }

    fn connection(&mut self, client: &str) -> &mut Self {
        self.object(CONNECTION_ID).text(client)
    }

    /// A consumer or producer: both have the connection's name and two numbers, which here are equal.
    fn member(&mut self, kind: u8, client: &str) -> &mut Self {
        self.object(kind).text(client).long(FIRST).long(FIRST)
    }

    fn transaction(&mut self, client: &str, transaction: u64) -> &mut Self {
        self.object(LOCAL_TRANSACTION_ID).long(transaction).connection(client)
    }
}

/// The options of the wire, and the login.
pub(crate) fn hello(uri: &Uri, client: &str) -> Vec<u8> {
    let mut options = Out::default();
    let switches = [("TcpNoDelayEnabled", 1), ("TightEncodingEnabled", 0), ("CacheEnabled", 0)];
    options.int(switches.len() as u32 + 1);
    for (name, value) in switches {
        options.name(name).raw(&[1, value]);
    }
    // No keep-alive: a load generator that is too busy to answer must not be disconnected.
    options.name("MaxInactivityDuration").byte(6).long(0);
    let mut out = Out::default();
    out.frame(WIRE_FORMAT_INFO, |out| {
        out.raw(b"ActiveMQ").int(VERSION).content(&options.bytes);
    });
    out.command(CONNECTION_INFO, LOGIN, true, |out| {
        out.connection(client).text(client);
        let is_known = !uri.user.is_empty();
        out.optional(is_known.then_some(&uri.password)).optional(is_known.then_some(&uri.user));
        // No path, nor anything that brokers say; a client address would end it.
        out.nothing().boolean(false).boolean(false).boolean(true).boolean(false).boolean(false).nothing();
    });
    out.command(SESSION_INFO, SESSION, false, |out| {
        out.object(SESSION_ID).text(client).long(FIRST);
    });
    out.bytes
}

pub(crate) fn producer(number: u64, message: &Message<'_>) -> Vec<u8> {
    let mut out = Out::default();
    out.command(PRODUCER_INFO, number as u32, true, |out| {
        out.member(PRODUCER_ID, message.client).destination(message.destination);
        out.nothing().boolean(false).int(0);
    });
    out.bytes
}

pub(crate) fn subscribe(number: u64, subscription: &Subscription<'_>) -> Vec<u8> {
    let Subscription { destination, client, .. } = *subscription;
    let prefetch = match subscription.prefetch {
        0 => PREFETCH[usize::from(destination.is_topic)],
        prefetch => prefetch.into(),
    };
    let mut out = Out::default();
    out.command(CONSUMER_INFO, number as u32, true, |out| {
        out.member(CONSUMER_ID, client).boolean(false).destination(destination).int(prefetch).int(0);
        // Whether it may be sent messages while others are.
        out.boolean(true);
        out.optional(subscription.selector);
        // No client id, no durable name; not noLocal, not exclusive, not retroactive.
        out.nothing().nothing().raw(&[0; 3]);
        // Its priority, no path, no predicate; not of a network, no optimized acknowledgements, ranges, no path.
        out.byte(0).nothing().nothing().raw(&[0; 3]).nothing();
    });
    out.bytes
}

pub(crate) fn stencil(message: &Message<'_>) -> Stencil {
    let mut out = Out::default();
    let mut places = vec![Place { at: 5, number: Number::Message, form: Form::Int }];
    let mut body_at = 0;
    out.command(BYTES_MESSAGE, 0, message.is_answered, |out| {
        out.member(PRODUCER_ID, message.client).destination(message.destination);
        if message.is_transacted {
            places.push(Place { at: out.bytes.len() + 2, number: Number::Transaction, form: Form::Long });
            out.transaction(message.client, 0);
        } else {
            out.nothing();
        }
        // Not sent on by anyone; its id; no transaction before.
        out.nothing().object(MESSAGE_ID).nothing().member(PRODUCER_ID, message.client);
        places.push(Place { at: out.bytes.len(), number: Number::Message, form: Form::Long });
        out.long(0).long(0).nothing();
        // No group, no correlation id; persistence, no expiration, the usual priority, no reply, no time, no type.
        out.nothing().int(0).nothing().boolean(message.is_persistent).long(0).byte(4).nothing().long(0).nothing();
        body_at = out.bytes.len() + 5;
        out.content(message.body);
        match message.part {
            Some(part) => out.content(&properties(part)),
            None => out.nothing(),
        };
        // No data structure, no target; not compressed, never delivered, no path, no arrival, no user.
        out.nothing().nothing().boolean(false).int(0).nothing().long(0).nothing();
        // Not over a network, not to be dropped, no cluster, no times, not the first of a group.
        out.boolean(false).boolean(false).nothing().long(0).long(0).boolean(false);
    });
    Stencil::new(out.bytes, places, body_at, message.body.len())
}

/// A map of one property. It is text, as with STOMP.
fn properties(part: u8) -> Vec<u8> {
    let mut map = Out::default();
    map.int(1).name("part").byte(STRING).name(&part.to_string());
    map.bytes
}

pub(crate) fn transaction(bytes: &mut Vec<u8>, step: Step, client: &str, transaction: u64, number: u64) {
    let mut out = Out { bytes: std::mem::take(bytes) };
    out.command(TRANSACTION_INFO, number as u32, step == Step::Commit, |out| {
        out.connection(client).transaction(client, transaction).byte(if step == Step::Commit { 2 } else { 0 });
    });
    *bytes = out.bytes;
}

#[inline]
pub(crate) fn acknowledge(bytes: &mut Vec<u8>, subscription: &Subscription<'_>, [first, last]: [&[u8]; 2], count: u64) {
    debug_assert!(subscription.mode == AckMode::Range || count == 1, "a single acknowledgement is of one");
    let mut out = Out { bytes: std::mem::take(bytes) };
    out.command(MESSAGE_ACK, 0, false, |out| {
        out.destination(subscription.destination).nothing().member(CONSUMER_ID, subscription.client);
        out.byte(STANDARD_ACK).raw(first).raw(last).int(count as u32).nothing();
    });
    *bytes = out.bytes;
}

pub(crate) fn goodbye(number: u64, client: &str) -> Vec<u8> {
    let mut out = Out::default();
    out.command(REMOVE_INFO, number as u32, true, |out| {
        out.connection(client).long(0);
    });
    out.bytes
}

pub(crate) fn shutdown() -> Vec<u8> {
    let mut out = Out::default();
    out.command(SHUTDOWN_INFO, 0, false, |_| ());
    out.bytes
}

/// Deletes a queue or topic; it is answered with `number`.
pub(crate) fn delete(number: u64, client: &str, destination: Destination<'_>) -> Vec<u8> {
    let mut out = Out::default();
    out.command(DESTINATION_INFO, number as u32, true, |out| {
        out.connection(client).destination(destination).byte(REMOVE_DESTINATION).long(0).nothing();
    });
    out.bytes
}

/// Splits off the frame at the front of `bytes`.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Signal<'_>, usize)>, Error> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes(*size) as usize;
    if size > FRAME_MAX {
        return Err(Error::Protocol("a frame that no load expects"));
    }
    let Some(frame) = rest.get(..size) else {
        return Ok(None);
    };
    signal(frame).map(|signal| Some((signal, 4 + size)))
}

fn signal(frame: &[u8]) -> Result<Signal<'_>, Error> {
    let Some((&kind, rest)) = frame.split_first() else {
        return Ok(Signal::Other);
    };
    let mut fields = Fields { rest };
    match kind {
        MESSAGE_DISPATCH => dispatch(frame, fields),
        RESPONSE => {
            fields.skip(5)?;
            match fields.int()? {
                LOGIN => Ok(Signal::Welcome("OpenWire broker".to_owned())),
                number => Ok(Signal::Answer(number.into())),
            }
        }
        EXCEPTION_RESPONSE | CONNECTION_ERROR => {
            fields.skip(if kind == EXCEPTION_RESPONSE { 9 } else { 5 })?;
            fields.skip(1)?;
            let (class, text) = (fields.text()?, fields.text()?);
            Err(Error::Refusal(format!("{}: {}", class.unwrap_or_default(), text.unwrap_or_default())))
        }
        _ => Ok(Signal::Other),
    }
}

#[inline]
fn dispatch<'a>(frame: &'a [u8], mut fields: Fields<'a>) -> Result<Signal<'a>, Error> {
    fields.skip(5)?;
    fields.object()?;
    fields.object()?;
    if fields.byte()? == 0 {
        return Ok(Signal::Other);
    }
    // Type, number and whether an answer is wanted; producer, destination, transaction, original destination.
    fields.skip(6)?;
    for _ in 0..4 {
        fields.object()?;
    }
    let id = fields.object()?;
    fields.object()?;
    fields.text()?;
    fields.skip(4)?;
    fields.text()?;
    // Persistence, expiration, priority.
    fields.skip(10)?;
    fields.object()?;
    fields.skip(8)?;
    fields.text()?;
    let body = if fields.byte()? == 0 {
        &[]
    } else {
        let length = fields.int()? as usize;
        fields.take(length)?
    };
    // How often it was delivered before ends the frame.
    let is_redelivered = !frame.ends_with(&[0; 4]);
    Ok(Signal::Delivery(Delivery { body, is_redelivered, id }))
}

/// Fields that are being read.
#[derive(Clone)]
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Protocol("a frame that ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Error> {
        self.take(length).map(drop)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn int(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    fn text(&mut self) -> Result<Option<&'a str>, Error> {
        if self.byte()? == 0 {
            return Ok(None);
        }
        let length = self.take(2)?;
        let text = self.take(usize::from(length[0]) << 8 | usize::from(length[1]))?;
        Ok(std::str::from_utf8(text).ok())
    }

    /// An id or a destination, which is skipped: its bytes.
    #[inline]
    fn object(&mut self) -> Result<&'a [u8], Error> {
        let before = self.rest;
        if self.byte()? != 0 {
            match self.byte()? {
                CONNECTION_ID | 100..=103 => drop(self.text()?),
                SESSION_ID => {
                    self.text()?;
                    self.skip(8)?;
                }
                CONSUMER_ID | PRODUCER_ID => {
                    self.text()?;
                    self.skip(16)?;
                }
                MESSAGE_ID => {
                    self.text()?;
                    self.object()?;
                    self.skip(16)?;
                }
                LOCAL_TRANSACTION_ID => {
                    self.skip(8)?;
                    self.object()?;
                }
                _ => return Err(Error::Protocol("an object that no load expects")),
            }
        }
        Ok(&before[..before.len() - self.rest.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE_Q: Destination<'_> = Destination { name: "q", is_topic: false };

    fn message(is_transacted: bool, part: Option<u8>) -> Message<'static> {
        Message {
            destination: QUEUE_Q,
            client: "c",
            is_persistent: true,
            is_answered: true,
            is_transacted,
            part,
            body: b"12345678rest",
        }
    }

    fn dispatched(message: &[u8], redeliveries: u32) -> Vec<u8> {
        let mut out = Out::default();
        out.command(MESSAGE_DISPATCH, 7, false, |out| {
            out.member(CONSUMER_ID, "c").destination(QUEUE_Q).byte(1).raw(&message[4..]).int(redeliveries);
        });
        out.bytes
    }

    #[test]
    fn a_message_that_is_sent_can_be_read_when_it_comes() {
        for (is_transacted, part, redeliveries) in [(false, None, 0), (true, Some(7), 1), (false, Some(0), 256)] {
            let (mut stencil, mut sent) = (stencil(&message(is_transacted, part)), Vec::new());
            stencil.copy(&mut sent, 0x0102_0304, 9, 5);
            assert_eq!(sent[5..9], [1, 2, 3, 4]);
            let frame = dispatched(&sent, redeliveries);
            let (signal, length) = split(&frame).unwrap().unwrap();
            let Signal::Delivery(delivery) = signal else { panic!("{signal:?}") };
            assert_eq!((delivery.body, length), (&b"\0\0\0\0\0\0\0\x05rest"[..], frame.len()));
            assert_eq!(delivery.is_redelivered, redeliveries > 0);
            assert_eq!(delivery.id[delivery.id.len() - 16..], [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
            assert!((0..frame.len()).all(|end| split(&frame[..end]).unwrap().is_none()));
        }
    }

    #[test]
    fn answers_have_the_number_of_what_they_answer_and_refusals_are_errors() {
        let mut out = Out::default();
        out.command(RESPONSE, 1, false, |out| {
            out.int(77);
        });
        assert_eq!(split(&out.bytes).unwrap().unwrap().0, Signal::Answer(77));
        let mut out = Out::default();
        out.command(EXCEPTION_RESPONSE, 1, false, |out| {
            out.int(77).byte(1).text("javax.jms.JMSException").text("no");
        });
        let refusal = split(&out.bytes).unwrap_err().to_string();
        assert_eq!(refusal, "the server refuses it: javax.jms.JMSException: no");
    }

    #[test]
    fn what_ends_early_is_an_error() {
        let (mut stencil, mut sent) = (stencil(&message(false, None)), Vec::new());
        stencil.copy(&mut sent, 1, 0, 0);
        let frame = dispatched(&sent, 0);
        for end in 6..100 {
            let cut = [&(end as u32).to_be_bytes()[..], &frame[4..4 + end]].concat();
            assert!(matches!(split(&cut), Err(_) | Ok(Some(_))), "{end}");
        }
    }
}
