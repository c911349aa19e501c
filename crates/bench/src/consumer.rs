//! One consuming thread: large reads, frames skipped where they lie, acknowledgements gathered into one write per read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::Duration;

use crate::batch::STAMP_BYTES;
use crate::connection::{CHANNEL, Connection, News, news};
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::inbox::Fill;
use crate::options::Options;
use crate::wire::{BODY, Encoder, Frame, HEADER, Method};

const GOODBYE_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Consumer {
    connection: Connection,
    counters: Arc<Counters>,
    tally: Tally,
    /// With one message in flight: the publisher that waits for the delivery.
    waiting: Option<Thread>,
}

/// What the frames have said so far.
#[derive(Default)]
struct Tally {
    consumed: u64,
    redelivered: u64,
    /// Body bytes of the current message still to come.
    body_left: u64,
    /// The next body frame is the first of its message.
    is_first_part: bool,
    /// One acknowledgement per so many deliveries; 0 for auto-ack.
    ack_every: u64,
    last_tag: u64,
    acked_tag: u64,
    latency: Histogram,
}

impl Consumer {
    /// Subscribes to `queues` on a connection of its own.
    pub(crate) fn subscribe(
        mut connection: Connection,
        options: &Options,
        queues: &[String],
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        if options.prefetch > 0 {
            connection.call(Method::BASIC_QOS, Method::BASIC_QOS_OK, |out| {
                out.long(0).short(options.prefetch).octet(0);
            })?;
        }
        for (index, queue) in queues.iter().enumerate() {
            let is_auto_ack = u8::from(!options.ack);
            connection.call(Method::BASIC_CONSUME, Method::BASIC_CONSUME_OK, |out| {
                out.short(0).short_text(queue).short_text(&index.to_string());
                out.octet(is_auto_ack << 1).table(|_| ());
            })?;
        }
        let ack_every = if options.ack { options.ack_multiple } else { 0 };
        Ok(Self { connection, counters, tally: Tally { ack_every, ..Tally::default() }, waiting: None })
    }

    pub(crate) fn notifies(&mut self, publisher: Thread) {
        self.waiting = Some(publisher);
    }

    /// Consumes until the load is stopped; returns the delivery latencies of the measured window.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        let mut acks = Encoder::default();
        while !control.is_stopped() {
            let fill = self.connection.inbox.fill(&mut self.connection.stream)?;
            if fill == Fill::Nothing {
                self.tally.ack_rest(&mut acks);
            } else {
                self.take_deliveries(control, &mut acks)?;
            }
            if !self.connection.send_until(&acks.bytes, || control.is_stopped())? {
                return Ok(self.tally.latency);
            }
            acks.bytes.clear();
        }
        // A server in the middle of a backlog may answer late; that is no fault of the load.
        match self.connection.close(GOODBYE_WAIT) {
            Ok(()) | Err(Error::Timeout(_) | Error::HungUp) => Ok(self.tally.latency),
            Err(error) => Err(error),
        }
    }

    fn take_deliveries(&mut self, control: &Control, acks: &mut Encoder) -> Result<(), Error> {
        let now = control.is_measuring().then(|| control.now());
        while let Some(frame) = self.connection.inbox.next_frame()? {
            match frame.kind {
                HEADER => self.tally.header(frame, acks)?,
                BODY => self.tally.body(frame, now, acks)?,
                _ if frame.method() == Some(Method::BASIC_DELIVER) => self.tally.deliver(frame)?,
                _ => {
                    if let News::Blocked(is_blocked) = news(frame)? {
                        self.counters.is_blocked.store(is_blocked, Relaxed);
                    }
                }
            }
        }
        self.counters.received_bytes.store(self.connection.inbox.received_bytes, Relaxed);
        self.counters.consumed.store(self.tally.consumed, Relaxed);
        self.counters.redelivered.store(self.tally.redelivered, Relaxed);
        if let Some(publisher) = &self.waiting {
            publisher.unpark();
        }
        Ok(())
    }
}

impl Tally {
    /// Reads the delivery tag and the redelivered flag, which lie behind the consumer tag.
    #[inline]
    fn deliver(&mut self, frame: Frame<'_>) -> Result<(), Error> {
        let fields = frame.payload.get(4).and_then(|&length| frame.payload.get(5 + usize::from(length)..));
        let Some((tag, [redelivered, ..])) = fields.and_then(|fields| fields.split_first_chunk()) else {
            return Err(Error::Protocol("a delivery that ends early"));
        };
        self.last_tag = u64::from_be_bytes(*tag);
        self.redelivered += u64::from(*redelivered & 1);
        Ok(())
    }

    #[inline]
    fn header(&mut self, frame: Frame<'_>, acks: &mut Encoder) -> Result<(), Error> {
        self.body_left = frame.body_size()?;
        self.is_first_part = true;
        if self.body_left == 0 {
            self.complete(acks);
        }
        Ok(())
    }

    #[inline]
    fn body(&mut self, frame: Frame<'_>, now: Option<u64>, acks: &mut Encoder) -> Result<(), Error> {
        let left = self.body_left.checked_sub(frame.payload.len() as u64);
        self.body_left = left.ok_or(Error::Protocol("a body longer than its header says"))?;
        if std::mem::take(&mut self.is_first_part)
            && let (Some(now), Some(stamp)) = (now, frame.payload.first_chunk::<STAMP_BYTES>())
        {
            let sent_at = u64::from_be_bytes(*stamp);
            if sent_at != 0 {
                self.latency.record(now.saturating_sub(sent_at));
            }
        }
        if self.body_left == 0 {
            self.complete(acks);
        }
        Ok(())
    }

    #[inline]
    fn complete(&mut self, acks: &mut Encoder) {
        self.consumed += 1;
        if self.ack_every > 0 && self.last_tag - self.acked_tag >= self.ack_every {
            self.ack(acks);
        }
    }

    fn ack(&mut self, acks: &mut Encoder) {
        let is_multiple = u8::from(self.ack_every > 1);
        acks.method(CHANNEL, Method::BASIC_ACK, |out| {
            out.long_long(self.last_tag).octet(is_multiple);
        });
        self.acked_tag = self.last_tag;
    }

    /// While nothing arrives: acknowledges deliveries that do not fill a multiple.
    fn ack_rest(&mut self, acks: &mut Encoder) {
        if self.ack_every > 0 && self.last_tag > self.acked_tag && self.body_left == 0 {
            self.ack(acks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    /// A publish has the frames of a delivery behind its method.
    fn content(body: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.message(&Message { frame_max: 20, body, ..Message::default() });
        let (_, method) = Frame::split(&encoder.bytes).unwrap().unwrap();
        encoder.bytes.split_off(method)
    }

    fn deliver(tag: u64, redelivered: u8) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.method(1, Method::BASIC_DELIVER, |out| {
            out.short_text("ctag").long_long(tag).octet(redelivered).short_text("").short_text("q");
        });
        encoder.bytes
    }

    fn count(bytes: &[u8], ack_every: u64) -> (Tally, Encoder) {
        let (mut tally, mut acks) = (Tally { ack_every, ..Tally::default() }, Encoder::default());
        let mut rest = bytes;
        while let Some((frame, length)) = Frame::split(rest).unwrap() {
            match frame.kind {
                HEADER => tally.header(frame, &mut acks).unwrap(),
                BODY => tally.body(frame, Some(1000), &mut acks).unwrap(),
                _ => tally.deliver(frame).unwrap(),
            }
            rest = &rest[length..];
        }
        (tally, acks)
    }

    #[test]
    fn counts_messages_of_no_one_and_many_body_frames() {
        let mut stamped = vec![0; 50];
        stamped[..8].copy_from_slice(&400u64.to_be_bytes());
        let bytes = [deliver(1, 0), content(b""), deliver(2, 1), content(&[0; 8]), deliver(3, 0), content(&stamped)];
        let (tally, acks) = count(&bytes.concat(), 0);
        assert_eq!((tally.consumed, tally.redelivered, tally.body_left), (3, 1, 0));
        let latency = tally.latency.summary().unwrap();
        assert_eq!((latency.samples, latency.max_us), (1, 0.6));
        assert!(acks.bytes.is_empty());
    }

    #[test]
    fn acknowledges_singly_or_every_so_many() {
        let bytes: Vec<u8> = (1..=5).flat_map(|tag| [deliver(tag, 0), content(b"x")].concat()).collect();
        let tags = |bytes: &[u8]| -> Vec<(u64, u8)> {
            let (mut rest, mut tags) = (bytes, Vec::new());
            while let Some((frame, length)) = Frame::split(rest).unwrap() {
                let mut arguments = frame.arguments();
                tags.push((arguments.long_long().unwrap(), arguments.octet().unwrap()));
                rest = &rest[length..];
            }
            tags
        };
        assert_eq!(tags(&count(&bytes, 1).1.bytes), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
        let (mut tally, mut acks) = count(&bytes, 2);
        assert_eq!(tags(&acks.bytes), [(2, 1), (4, 1)]);
        tally.ack_rest(&mut acks);
        tally.ack_rest(&mut acks);
        assert_eq!(tags(&acks.bytes), [(2, 1), (4, 1), (5, 1)]);
    }
}
