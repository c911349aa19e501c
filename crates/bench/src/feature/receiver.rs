//! A consumer that looks at each message's time, number and place in a stream.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::PREFETCH;
use super::flow::{Shared, Task};
use crate::connection::{CHANNEL, Connection, news};
use crate::error::Error;
use crate::inbox::Fill;
use crate::uri::Uri;
use crate::wire::{BODY, Encoder, Frame, HEADER, Method};

const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// What a consumer does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The server takes it as acknowledged.
    Auto,
    /// Acknowledges half of the prefetch at a time.
    Ack,
    /// Rejects each, without requeueing it.
    Reject,
}

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// In nanoseconds of the flow's clock.
    pub(crate) at: u64,
    pub(crate) time: u64,
    pub(crate) index: u64,
    /// Only looked for by readers of streams.
    pub(crate) stream_offset: Option<u64>,
}

/// How many messages arrived, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) messages: u64,
    pub(crate) first_at: u64,
    pub(crate) last_at: u64,
}

impl Arrived {
    pub(crate) fn seconds(&self) -> f64 {
        self.last_at.saturating_sub(self.first_at) as f64 / 1e9
    }
}

pub(crate) struct Receiver {
    connection: Connection,
    reading: Reading,
}

/// What the frames have said so far.
struct Reading {
    answer: Answer,
    is_stream: bool,
    last_tag: u64,
    acked_tag: u64,
    /// Body bytes of the current message still to come.
    body_left: u64,
    /// From the first body frame of the current message.
    stamp: Option<(u64, u64)>,
    stream_offset: Option<u64>,
    arrived: Arrived,
}

impl Receiver {
    /// Subscribes to `queues` on a connection of its own.
    pub(crate) fn subscribe(uri: &Uri, queues: &[String], answer: Answer) -> Result<Self, Error> {
        Self::open(uri, queues, answer, false)
    }

    /// Subscribes to a stream from its beginning.
    pub(crate) fn replay(uri: &Uri, stream: &str) -> Result<Self, Error> {
        Self::open(uri, &[stream.to_owned()], Answer::Ack, true)
    }

    fn open(uri: &Uri, queues: &[String], answer: Answer, is_stream: bool) -> Result<Self, Error> {
        let mut connection = Connection::open(uri)?;
        if answer != Answer::Auto {
            connection.call(Method::BASIC_QOS, Method::BASIC_QOS_OK, |out| {
                out.long(0).short(PREFETCH).octet(0);
            })?;
        }
        let is_auto = u8::from(answer == Answer::Auto);
        connection.call_each(Method::BASIC_CONSUME, Method::BASIC_CONSUME_OK, queues, |queue, out| {
            out.short(0).short_text(queue).short_text(queue).octet(is_auto << 1).table(|table| {
                if is_stream {
                    table.text_field("x-stream-offset", "first");
                }
            });
        })?;
        Ok(Self { connection, reading: Reading::new(answer, is_stream) })
    }

    /// What `run` does, as a task of a flow.
    pub(crate) fn task<'a>(self, arrived: &'a mut Arrived, see: impl FnMut(&Arrival) + Send + 'a) -> Task<'a> {
        Box::new(move |shared| {
            *arrived = self.run(shared, see)?;
            Ok(())
        })
    }

    /// Consumes until the flow is stopped, and shows every message to `see`.
    pub(crate) fn run(mut self, shared: &Shared<'_>, mut see: impl FnMut(&Arrival)) -> Result<Arrived, Error> {
        let control = shared.control;
        let mut answers = Encoder::default();
        while !control.is_stopped() {
            if self.connection.inbox.fill(&mut self.connection.stream)? == Fill::Nothing {
                self.reading.acknowledge(1, &mut answers);
            }
            let now = control.now();
            while let Some(frame) = self.connection.inbox.next_frame()? {
                if let Some(arrival) = self.reading.take(frame, now, &mut answers)? {
                    see(&arrival);
                }
            }
            if !self.connection.send_until(&answers.bytes, || control.is_stopped())? {
                return Ok(self.reading.arrived);
            }
            answers.bytes.clear();
            shared.counters.received_bytes.store(self.connection.inbox.received_bytes, Relaxed);
            // What is rejected arrives once more, and counts then.
            if self.reading.answer != Answer::Reject {
                shared.counters.consumed.store(self.reading.arrived.messages, Relaxed);
            }
        }
        match self.connection.close(GOODBYE_WAIT) {
            Ok(()) | Err(Error::Timeout(_) | Error::HungUp) => Ok(self.reading.arrived),
            Err(error) => Err(error),
        }
    }
}

impl Reading {
    fn new(answer: Answer, is_stream: bool) -> Self {
        Self {
            answer,
            is_stream,
            last_tag: 0,
            acked_tag: 0,
            body_left: 0,
            stamp: None,
            stream_offset: None,
            arrived: Arrived::default(),
        }
    }

    /// Takes a frame; the last one of a message completes it.
    #[inline]
    fn take(&mut self, frame: Frame<'_>, now: u64, answers: &mut Encoder) -> Result<Option<Arrival>, Error> {
        match frame.kind {
            HEADER => {
                self.body_left = frame.body_size()?;
                self.stamp = None;
                self.stream_offset = if self.is_stream { frame.stream_offset() } else { None };
            }
            BODY => {
                let left = self.body_left.checked_sub(frame.payload.len() as u64);
                self.body_left = left.ok_or(Error::Protocol("a body longer than its header says"))?;
                self.stamp = self.stamp.or_else(|| stamp(frame.payload));
            }
            _ if frame.method() == Some(Method::BASIC_DELIVER) => {
                self.last_tag = delivery_tag(frame)?;
                return Ok(None);
            }
            _ => {
                news(frame)?;
                return Ok(None);
            }
        }
        if self.body_left > 0 {
            return Ok(None);
        }
        let (time, index) = self.stamp.take().ok_or(Error::Protocol("a body that was not sent"))?;
        self.complete(now, answers);
        Ok(Some(Arrival { at: now, time, index, stream_offset: self.stream_offset }))
    }

    fn complete(&mut self, now: u64, answers: &mut Encoder) {
        if self.arrived.messages == 0 {
            self.arrived.first_at = now;
        }
        self.arrived.messages += 1;
        self.arrived.last_at = now;
        match self.answer {
            Answer::Auto => {}
            Answer::Ack => self.acknowledge(u64::from(PREFETCH) / 2, answers),
            Answer::Reject => {
                answers.method(CHANNEL, Method::BASIC_REJECT, |out| {
                    out.long_long(self.last_tag).octet(0);
                });
            }
        }
    }

    /// Acknowledges everything, if it is at least so many messages.
    fn acknowledge(&mut self, messages_min: u64, answers: &mut Encoder) {
        if self.answer == Answer::Ack && self.body_left == 0 && self.last_tag - self.acked_tag >= messages_min {
            answers.method(CHANNEL, Method::BASIC_ACK, |out| {
                out.long_long(self.last_tag).octet(1);
            });
            self.acked_tag = self.last_tag;
        }
    }
}

fn stamp(body: &[u8]) -> Option<(u64, u64)> {
    let (time, rest) = body.split_first_chunk()?;
    Some((u64::from_be_bytes(*time), u64::from_be_bytes(*rest.first_chunk()?)))
}

/// It lies behind the consumer tag.
fn delivery_tag(frame: Frame<'_>) -> Result<u64, Error> {
    let tag = frame.payload.get(4).and_then(|&length| frame.payload.get(5 + usize::from(length)..)?.first_chunk());
    tag.map(|tag| u64::from_be_bytes(*tag)).ok_or(Error::Protocol("a delivery that ends early"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    fn deliveries(messages: u64, frame_max: usize) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for index in 0..messages {
            encoder.method(1, Method::BASIC_DELIVER, |out| {
                out.short_text("tag").long_long(index + 1).octet(0).short_text("").short_text("q");
            });
            let body = [[0, 0, 0, 0, 0, 0, 0, 9], index.to_be_bytes(), [7; 8]].concat();
            let mut content = Encoder::default();
            content.message(&Message { frame_max, body: &body, ..Message::default() });
            let (_, method) = Frame::split(&content.bytes).unwrap().unwrap();
            encoder.bytes.extend_from_slice(&content.bytes[method..]);
        }
        encoder.bytes
    }

    fn read(bytes: &[u8], answer: Answer) -> (Vec<Arrival>, Vec<Option<Method>>) {
        let (mut reading, mut answers) = (Reading::new(answer, false), Encoder::default());
        let (mut rest, mut arrivals) = (bytes, Vec::new());
        while let Some((frame, length)) = Frame::split(rest).unwrap() {
            arrivals.extend(reading.take(frame, 50, &mut answers).unwrap());
            rest = &rest[length..];
        }
        reading.acknowledge(1, &mut answers);
        let (mut rest, mut methods) = (&*answers.bytes, Vec::new());
        while let Some((frame, length)) = Frame::split(rest).unwrap() {
            methods.push(frame.method());
            rest = &rest[length..];
        }
        (arrivals, methods)
    }

    #[test]
    fn every_message_arrives_once_with_its_time_and_number() {
        for frame_max in [24, 4096] {
            let (arrivals, answers) = read(&deliveries(3, frame_max), Answer::Auto);
            let expected = |index| Arrival { at: 50, time: 9, index, stream_offset: None };
            assert_eq!(arrivals, [expected(0), expected(1), expected(2)]);
            assert!(answers.is_empty());
        }
    }

    #[test]
    fn messages_are_acknowledged_in_large_numbers_and_rejected_one_by_one() {
        let bytes = deliveries(u64::from(PREFETCH) + 1, 4096);
        assert_eq!(read(&bytes, Answer::Ack).1, [Some(Method::BASIC_ACK); 3]);
        assert_eq!(read(&bytes[..bytes.len() / 2], Answer::Reject).1.len(), usize::from(PREFETCH) / 2);
    }

    #[test]
    fn a_body_without_a_stamp_is_not_ours() {
        let mut encoder = Encoder::default();
        encoder.message(&Message { body: b"short", ..Message::default() });
        let mut reading = Reading::new(Answer::Auto, false);
        let (_, method) = Frame::split(&encoder.bytes).unwrap().unwrap();
        let (header, length) = Frame::split(&encoder.bytes[method..]).unwrap().unwrap();
        let (body, _) = Frame::split(&encoder.bytes[method + length..]).unwrap().unwrap();
        assert!(reading.take(header, 1, &mut Encoder::default()).unwrap().is_none());
        assert!(reading.take(body, 1, &mut Encoder::default()).is_err());
    }
}
