//! Prebuilt messages, back to back in one buffer, so that publishing is one large write.

use std::ops::Range;

use crate::wire::{Encoder, Message};

/// A write of this size costs the kernel far more than the call around it, and still fits the second-level cache.
const BYTES_TARGET: usize = 128 * 1024;
/// A body of at least this size can carry the time at which it was sent.
pub(crate) const STAMP_BYTES: usize = 8;
/// At full speed every so many-th message carries its time: stamping all of them would measure the tool.
const SAMPLE_EVERY: usize = 61;

/// What every message of a publisher has in common.
pub(crate) struct Template {
    pub(crate) channel: u16,
    pub(crate) exchange: String,
    pub(crate) persistent: bool,
    pub(crate) size: usize,
    pub(crate) frame_max: usize,
    /// Whether each message carries its time, or only a sample.
    pub(crate) stamp_all: bool,
}

/// A ring of messages of equal length, taken from in order.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    message_length: usize,
    messages: usize,
    stamp_offset: Option<usize>,
    stamp_every: usize,
    cursor: usize,
    until_stamp: usize,
    stamped: Vec<usize>,
}

impl Batch {
    /// Prebuilds messages that go round `routing_keys`, which must be of equal length.
    pub(crate) fn new(template: &Template, routing_keys: &[String]) -> Self {
        let body = vec![0; template.size];
        let mut encoder = Encoder::default();
        let encode = |encoder: &mut Encoder, routing_key: &str| {
            encoder.message(&Message {
                channel: template.channel,
                exchange: &template.exchange,
                routing_key,
                persistent: template.persistent,
                frame_max: template.frame_max,
                body: &body,
                ..Message::default()
            });
        };
        routing_keys.iter().for_each(|key| encode(&mut encoder, key));
        let message_length = encoder.bytes.len() / routing_keys.len();
        let rounds = (BYTES_TARGET / encoder.bytes.len()).max(1);
        for _ in 1..rounds {
            routing_keys.iter().for_each(|key| encode(&mut encoder, key));
        }
        Self {
            messages: rounds * routing_keys.len(),
            message_length,
            stamp_offset: (template.size >= STAMP_BYTES).then(|| body_offset(&encoder.bytes[..message_length])),
            bytes: encoder.bytes,
            stamp_every: if template.stamp_all { 1 } else { SAMPLE_EVERY },
            cursor: 0,
            until_stamp: 0,
            stamped: Vec::new(),
        }
    }

    /// Takes up to `wanted` messages that lie together: their bytes, and how many they are.
    pub(crate) fn take(&mut self, wanted: usize, now: u64) -> (&[u8], usize) {
        let range = self.cursor..self.messages.min(self.cursor.saturating_add(wanted));
        self.stamp(range.clone(), now);
        self.cursor = if range.end == self.messages { 0 } else { range.end };
        let bytes = range.start * self.message_length..range.end * self.message_length;
        (&self.bytes[bytes], range.len())
    }

    /// Writes `now` into the messages of `range` whose turn it is, and wipes the times of the last write.
    fn stamp(&mut self, range: Range<usize>, now: u64) {
        let Some(offset) = self.stamp_offset else {
            return;
        };
        let mut write = |index: usize, time: u64| {
            let at = index * self.message_length + offset;
            self.bytes[at..at + STAMP_BYTES].copy_from_slice(&time.to_be_bytes());
        };
        if self.stamp_every == 1 {
            range.for_each(|index| write(index, now));
            return;
        }
        self.stamped.drain(..).for_each(|index| write(index, 0));
        let mut next = range.start + self.until_stamp;
        while next < range.end {
            write(next, now);
            self.stamped.push(next);
            next += self.stamp_every;
        }
        self.until_stamp = next - range.end;
    }
}

/// Where the body begins in an encoded message: behind the third frame's prefix.
pub(crate) fn body_offset(message: &[u8]) -> usize {
    let frame_length = |at: usize| {
        let size = message[at + 3..at + 7].iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
        size + 8
    };
    let header = frame_length(0);
    header + frame_length(header) + 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BODY, Frame};

    fn template(size: usize, stamp_all: bool) -> Template {
        Template { channel: 1, exchange: String::new(), persistent: false, size, frame_max: 4096, stamp_all }
    }

    fn times(mut bytes: &[u8]) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some((frame, length)) = Frame::split(bytes).unwrap() {
            if frame.kind == BODY {
                times.push(u64::from_be_bytes(frame.payload[..8].try_into().unwrap()));
            }
            bytes = &bytes[length..];
        }
        times
    }

    #[test]
    fn a_sample_carries_its_time_and_old_times_are_wiped() {
        let mut batch = Batch::new(&template(16, false), &["q".to_owned()]);
        let (mut messages, mut stamped) = (0, 0);
        for time in 1..1000 {
            let (bytes, count) = batch.take(100, time);
            let times = times(bytes);
            assert_eq!(times.len(), count);
            assert!(times.iter().all(|&t| t == 0 || t == time));
            messages += count;
            stamped += times.iter().filter(|&&t| t == time).count();
        }
        assert_eq!(stamped, messages.div_ceil(SAMPLE_EVERY));
    }

    #[test]
    fn every_message_carries_its_time_when_asked() {
        let mut batch = Batch::new(&template(8, true), &["a".to_owned(), "b".to_owned()]);
        for time in 1..100 {
            let (bytes, count) = batch.take(3, time);
            assert_eq!(times(bytes), vec![time; count]);
        }
    }

    #[test]
    fn a_message_larger_than_the_target_is_a_batch_of_one() {
        let mut batch = Batch::new(&template(1 << 20, true), &["q".to_owned()]);
        assert_eq!(batch.take(10, 1).1, 1);
        assert_eq!(batch.take(10, 2).1, 1);
    }
}
