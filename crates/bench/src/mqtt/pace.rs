//! How many messages are due by the clock.

/// A thread that fell behind by more than this dates its messages back to when they were due.
const LATE_NS: u64 = 1_000_000;

/// A thread's share of the rate, from its first message on.
pub(crate) struct Pace {
    /// Messages per second.
    rate: u64,
    start: u64,
    published: u64,
}

/// What may be published now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// So many messages, with this date.
    Now(u64, u64),
    /// Nothing until then.
    At(u64),
}

impl Pace {
    pub(crate) fn new(rate: u64, start: u64) -> Self {
        Self { rate, start, published: 0 }
    }

    pub(crate) fn due(&self, now: u64) -> Due {
        let next = self.start + (u128::from(self.published) * 1_000_000_000 / u128::from(self.rate)) as u64;
        if next > now {
            return Due::At(next);
        }
        // After a stall each write makes up for one slice, so that the dates stay true.
        let elapsed = u128::from(now.min(next + LATE_NS) - self.start);
        let due_until_then = (elapsed * u128::from(self.rate) / 1_000_000_000) as u64 + 1;
        // At least the one that `next` says; the division may have rounded it away.
        let due = due_until_then.saturating_sub(self.published).max(1);
        Due::Now(due, if now - next > LATE_NS { next } else { now })
    }

    pub(crate) fn published(&mut self, messages: u64) {
        self.published += messages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_one_after_another() {
        let mut pace = Pace::new(1000, 500);
        assert_eq!(pace.due(500), Due::Now(1, 500));
        pace.published(1);
        assert_eq!(pace.due(600), Due::At(1_000_500));
        // On time, a little late, and behind by seconds.
        assert_eq!(pace.due(1_000_500), Due::Now(1, 1_000_500));
        assert_eq!(pace.due(1_900_000), Due::Now(1, 1_900_000));
        assert_eq!(pace.due(5_000_000_000), Due::Now(2, 1_000_500));
    }
}
