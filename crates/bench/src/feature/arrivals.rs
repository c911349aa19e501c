//! What the times and numbers in arriving messages tell.

use super::receiver::Arrival;
use crate::histogram::Histogram;

/// Brokers count time in whole milliseconds: one that truncates both its ends may be early by as much.
const EARLY_NS: u64 = 1_000_000;

/// Which of a known number of messages have arrived.
pub(crate) struct Seen {
    bits: Vec<u64>,
    messages: u64,
    pub(crate) count: u64,
    pub(crate) duplicates: u64,
}

impl Seen {
    pub(crate) fn new(messages: u64) -> Self {
        Self { bits: vec![0; messages.div_ceil(64) as usize], messages, count: 0, duplicates: 0 }
    }

    /// A number that was never sent counts as a duplicate: it is one too many.
    pub(crate) fn mark(&mut self, index: u64) {
        let bit = 1 << (index % 64);
        match self.bits.get_mut((index / 64) as usize) {
            Some(bits) if *bits & bit == 0 => {
                *bits |= bit;
                self.count += 1;
            }
            _ => self.duplicates += 1,
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.count < self.messages
    }

    /// What is wrong with `what`, if anything.
    pub(crate) fn faults(&self, what: &str) -> Vec<String> {
        let missing = self.messages - self.count.min(self.messages);
        [(missing, "missing"), (self.duplicates, "too many")]
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, how)| format!("{number} of {} {what} are {how}", self.messages))
            .collect()
    }
}

/// How long after they were due messages arrive.
pub(crate) struct Lateness {
    /// Due so long after the time in the message.
    after_ns: u64,
    pub(crate) late: Histogram,
    pub(crate) early: u64,
    pub(crate) seen: Seen,
}

impl Lateness {
    pub(crate) fn new(after_ns: u64, messages: u64) -> Self {
        Self { after_ns, late: Histogram::default(), early: 0, seen: Seen::new(messages) }
    }

    pub(crate) fn see(&mut self, arrival: &Arrival) {
        let due = arrival.time + self.after_ns;
        self.late.record(arrival.at.saturating_sub(due));
        self.early += u64::from(arrival.at + EARLY_NS < due);
        self.seen.mark(arrival.index);
    }

    pub(crate) fn faults(&self, what: &str) -> Vec<String> {
        let mut faults = self.seen.faults(what);
        if self.early > 0 {
            faults.push(format!("{} of {} {what} are early", self.early, self.seen.messages));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(at: u64, time: u64, index: u64) -> Arrival {
        Arrival { at, time, index, stream_offset: None }
    }

    #[test]
    fn missing_and_doubled_messages_are_faults() {
        let mut seen = Seen::new(130);
        (0..130).for_each(|index| seen.mark(index));
        assert!(seen.faults("messages").is_empty());
        seen.mark(129);
        seen.mark(1 << 40);
        assert_eq!(seen.faults("messages"), ["2 of 130 messages are too many"]);
        assert_eq!(Seen::new(3).faults("letters"), ["3 of 3 letters are missing"]);
    }

    #[test]
    fn lateness_is_counted_from_when_a_message_was_due() {
        let mut lateness = Lateness::new(2_000_000_000, 3);
        lateness.see(&arrival(2_000_500_000, 100_000, 0));
        lateness.see(&arrival(1_999_500_000, 0, 1));
        assert_eq!((lateness.early, lateness.late.summary().unwrap().max_us), (0, 400.0));
        lateness.see(&arrival(1_998_000_000, 0, 2));
        assert_eq!(lateness.faults("letters"), ["1 of 3 letters are early"]);
    }
}
