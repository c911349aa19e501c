//! A message of which every copy has its own packet id, time and number. A load has no time to encode each anew.

use super::wire::{Encoder, Message, Version};

/// Time, then stream and number: bodies that are shorter carry what fits.
const TIME_BYTES: usize = 8;
const MARK_BYTES: usize = 16;

/// A number has forty bits of its word, the stream the others.
const NUMBER_BITS: u32 = 40;
/// So many publishers times topics can be told apart.
pub(crate) const STREAMS_MAX: usize = 1 << (64 - NUMBER_BITS);

/// What a body says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// When it was published by the load's clock; 0 if that was not written down.
    pub(crate) time: u64,
    /// Which publisher and topic, and the how many-th message of that; `None` if the body is too short to say.
    pub(crate) place: Option<(usize, u64)>,
}

impl Mark {
    /// What a body needs to hold one.
    pub(crate) const BYTES: usize = MARK_BYTES;

    /// Writes as much of it into the body as fits.
    #[inline]
    pub(crate) fn write(self, body: &mut [u8]) {
        if let Some(first) = body.first_chunk_mut::<TIME_BYTES>() {
            *first = self.time.to_be_bytes();
        }
        if let (Some(first), Some((stream, number))) = (body.first_chunk_mut::<MARK_BYTES>(), self.place) {
            first[TIME_BYTES..].copy_from_slice(&((stream as u64) << NUMBER_BITS | number).to_be_bytes());
        }
    }

    #[inline]
    pub(crate) fn of(body: &[u8]) -> Self {
        let word = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u64::from_be_bytes(*word));
        let split = |word: u64| ((word >> NUMBER_BITS) as usize, word & ((1 << NUMBER_BITS) - 1));
        Self { time: word(0).unwrap_or(0), place: word(TIME_BYTES).map(split) }
    }
}

/// One topic of one publisher.
pub(crate) struct Stencil {
    bytes: Vec<u8>,
    /// Where the packet id is, with QoS 1 and 2.
    id_at: Option<usize>,
    body_at: usize,
    stream: usize,
    next: u64,
    /// How many subscribers get each message.
    pub(crate) copies: u64,
}

impl Stencil {
    pub(crate) fn new(version: Version, message: &Message<'_>, stream: usize, copies: u64) -> Self {
        let mut encoder = Encoder::new(version);
        encoder.publish(message);
        let bytes = encoder.bytes;
        let body_at = bytes.len() - message.body.len();
        let property_bytes = usize::from(version == Version::V5);
        let id_at = (message.qos > 0).then(|| body_at - property_bytes - 2);
        Self { bytes, id_at, body_at, stream, next: 0, copies }
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the next message to `out`.
    #[inline]
    pub(crate) fn copy(&mut self, out: &mut Vec<u8>, id: u16, time: u64) {
        if let Some(at) = self.id_at {
            self.bytes[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        Mark { time, place: Some((self.stream, self.next)) }.write(&mut self.bytes[self.body_at..]);
        self.next += 1;
        out.extend_from_slice(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Arrival, Packet};
    use super::*;

    #[test]
    fn every_copy_says_which_it_is() {
        for version in [Version::V311, Version::V5] {
            for qos in 0..=2 {
                for size in [0, 7, 8, 15, 16, 300] {
                    let body = vec![0; size];
                    let message = Message { topic: "a/b", qos, id: 1, body: &body, ..Message::default() };
                    let mut stencil = Stencil::new(version, &message, 70_000, 3);
                    let mut out = Vec::new();
                    (0..3).for_each(|number| stencil.copy(&mut out, 0x0102 + number, 1000 + u64::from(number)));
                    assert_eq!(out.len(), 3 * stencil.length());
                    check(version, qos, size, &out);
                }
            }
        }
    }

    fn check(version: Version, qos: u8, size: usize, mut bytes: &[u8]) {
        for number in 0..3 {
            let (packet, length) = Packet::split(bytes).unwrap().unwrap();
            bytes = &bytes[length..];
            let Arrival { id, body, topic, .. } = packet.arrival(version).unwrap();
            assert_eq!((topic, body.len()), (&b"a/b"[..], size));
            assert_eq!(id, if qos > 0 { 0x0102 + number } else { 0 });
            let mark = Mark::of(body);
            assert_eq!(mark.time, if size >= 8 { 1000 + u64::from(number) } else { 0 });
            assert_eq!(mark.place, (size >= 16).then_some((70_000, u64::from(number))));
        }
    }
}
