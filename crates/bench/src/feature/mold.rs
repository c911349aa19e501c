//! A message that was encoded once, and of which each copy differs in a few bytes.

use std::ops::Range;

use crate::batch::body_offset;
use crate::wire::{Encoder, Message};

/// The message, and where its copies differ.
pub(crate) struct Mold {
    bytes: Vec<u8>,
    routing_key: Range<usize>,
    delay_at: Option<usize>,
    priority_at: Option<usize>,
    body_at: usize,
}

impl Mold {
    /// The body must be one frame that has room for the time and the number.
    pub(crate) fn new(message: &Message<'_>) -> Self {
        let mut encoder = Encoder::default();
        encoder.message(message);
        let key_at = 7 + 4 + 2 + 1 + message.exchange.len() + 1;
        let body_at = body_offset(&encoder.bytes);
        // The header ends with the priority and its end mark, and the body's frame begins with seven bytes.
        let header_end = body_at - 7;
        let properties_at = key_at + message.routing_key.len() + 2 + 7 + 14;
        // The length of the table, the name with its own length, and the letter of the type.
        let delay_at = properties_at + 4 + 1 + "x-delay".len() + 1;
        Self {
            bytes: encoder.bytes,
            routing_key: key_at..key_at + message.routing_key.len(),
            delay_at: message.delay_ms.map(|_| delay_at),
            priority_at: message.priority.map(|_| header_end - 2),
            body_at,
        }
    }

    /// Appends a copy to `out`.
    pub(crate) fn cast<'a>(&'a self, out: &'a mut Vec<u8>) -> Cast<'a> {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        Cast { mold: self, bytes: &mut out[start..] }
    }
}

/// A copy, which is still to get what is its own.
pub(crate) struct Cast<'a> {
    mold: &'a Mold,
    bytes: &'a mut [u8],
}

impl Cast<'_> {
    pub(crate) fn stamp(&mut self, time: u64, index: u64) {
        self.put(self.mold.body_at, &time.to_be_bytes());
        self.put(self.mold.body_at + 8, &index.to_be_bytes());
    }

    /// Without effect on a mold without a priority.
    pub(crate) fn priority(&mut self, priority: u8) {
        self.mold.priority_at.into_iter().for_each(|at| self.put(at, &[priority]));
    }

    /// Without effect on a mold without a delay.
    pub(crate) fn delay_ms(&mut self, delay_ms: i32) {
        self.mold.delay_at.into_iter().for_each(|at| self.put(at, &delay_ms.to_be_bytes()));
    }

    /// The key must be as long as the mold's.
    pub(crate) fn routing_key(&mut self, key: &[u8]) {
        debug_assert_eq!(key.len(), self.mold.routing_key.len(), "the frame's length is fixed");
        self.put(self.mold.routing_key.start, key);
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(key: &'a str, priority: Option<u8>, delay_ms: Option<i32>, body: &'a [u8]) -> Message<'a> {
        Message { exchange: "x", routing_key: key, persistent: true, priority, delay_ms, body, ..Message::default() }
    }

    #[test]
    fn a_copy_is_what_the_encoder_would_have_written() {
        for (priority, delay_ms) in [(None, None), (Some(9), None), (None, Some(70_000)), (Some(9), Some(70_000))] {
            let mold = Mold::new(&message("key", priority.map(|_| 0), delay_ms.map(|_| 0), &[0; 20]));
            let mut out = b"before".to_vec();
            let mut cast = mold.cast(&mut out);
            cast.stamp(7, 258);
            cast.priority(9);
            cast.delay_ms(70_000);
            cast.routing_key(b"yek");
            let mut body = [0; 20];
            (body[7], body[14], body[15]) = (7, 1, 2);
            let mut expected = Encoder::default();
            expected.message(&message("yek", priority, delay_ms, &body));
            assert_eq!(&out[6..], expected.bytes, "{priority:?} {delay_ms:?}");
        }
    }
}
