//! What a subscriber's deliveries say: how many, how late, and whether one came twice.

use super::stencil::Mark;
use super::wire::{Arrival, Encoder, PUBACK, PUBREC};
use crate::histogram::Histogram;

/// Counted over all connections of a thread.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) consumed: u64,
    /// Came a second time, or behind a later message of the same publisher and topic.
    pub(crate) doubled: u64,
    pub(crate) latency: Histogram,
}

/// The numbers that one connection expects, by publisher and topic. A server keeps the order of each, so that a number
/// below the next is one too many; members of a group see only some of them, and expect nothing.
pub(crate) struct Expected {
    next: Vec<u64>,
}

impl Expected {
    pub(crate) fn new(streams: usize) -> Self {
        Self { next: vec![0; streams] }
    }

    #[inline]
    fn is_doubled(&mut self, stream: usize, number: u64) -> bool {
        let Some(next) = self.next.get_mut(stream) else {
            return false;
        };
        let is_doubled = number < *next;
        *next = (number + 1).max(*next);
        is_doubled
    }
}

impl Tally {
    /// Takes a delivery at `now`, if its time is of interest, and writes the acknowledgement that it needs.
    #[inline]
    pub(crate) fn take(
        &mut self,
        arrival: &Arrival<'_>,
        expected: &mut Expected,
        now: Option<u64>,
        answers: &mut Encoder,
    ) {
        self.consumed += 1;
        match arrival.qos {
            0 => {}
            1 => answers.answer(PUBACK, arrival.id),
            _ => answers.answer(PUBREC, arrival.id),
        }
        let mark = Mark::of(arrival.body);
        if let Some((stream, number)) = mark.place {
            self.doubled += u64::from(expected.is_doubled(stream, number));
        }
        if let Some(now) = now
            && mark.time != 0
        {
            self.latency.record(now.saturating_sub(mark.time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stencil::Stencil;
    use super::super::wire::{Message, Packet, Version};
    use super::*;

    /// The deliveries with these streams and numbers, of which only `known` streams are expected.
    fn tally(known: usize, qos: u8, marks: &[(usize, u64)]) -> (Tally, Vec<u8>) {
        let (mut tally, mut expected, mut answers) =
            (Tally::default(), Expected::new(known), Encoder::new(Version::V311));
        for &(stream, number) in marks {
            let message = Message { topic: "t", qos, body: &[0; 16], ..Message::default() };
            let (mut stencil, mut bytes) = (Stencil::new(Version::V311, &message, stream, 1), Vec::new());
            for _ in 0..=number {
                bytes.clear();
                stencil.copy(&mut bytes, 7, 400);
            }
            let (packet, _) = Packet::split(&bytes).unwrap().unwrap();
            tally.take(&packet.arrival(Version::V311).unwrap(), &mut expected, Some(1400), &mut answers);
        }
        (tally, answers.bytes)
    }

    #[test]
    fn doubles_are_found_among_gaps_and_streams() {
        let (tally, answers) = tally(2, 0, &[(0, 0), (1, 0), (0, 1), (0, 3), (0, 3), (1, 0), (1, 1), (0, 2)]);
        assert_eq!((tally.consumed, tally.doubled, answers.len()), (8, 3, 0));
        assert_eq!(tally.latency.summary().map(|latency| latency.max_us), Some(1.0));
    }

    #[test]
    fn members_of_a_group_expect_nothing_and_acknowledge() {
        assert_eq!(tally(0, 1, &[(0, 3), (0, 2)]).0.doubled, 0);
        assert_eq!(tally(0, 1, &[(0, 0)]).1, [0x40, 2, 0, 7]);
        assert_eq!(tally(0, 2, &[(0, 0)]).1, [0x50, 2, 0, 7]);
    }
}
