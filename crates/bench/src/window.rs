//! Publisher confirms: which messages are outstanding, since when, and how many more may be sent.

use std::collections::VecDeque;

use crate::error::Error;
use crate::histogram::Histogram;

/// In place of a send time: already settled, but an earlier message is not.
const SETTLED: u64 = u64::MAX;

/// The outstanding messages of one channel. The bound is exact: never more than `limit` are unconfirmed.
pub(crate) struct Window {
    limit: usize,
    outstanding: usize,
    /// Delivery tag of the first entry of `sent_at`.
    first_tag: u64,
    sent_at: VecDeque<u64>,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
    pub(crate) latency: Histogram,
}

/// One basic.ack or basic.nack.
#[derive(Clone, Copy)]
pub(crate) struct Settlement {
    pub(crate) tag: u64,
    pub(crate) is_multiple: bool,
    pub(crate) is_nack: bool,
}

impl Window {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            outstanding: 0,
            first_tag: 1,
            sent_at: VecDeque::new(),
            acked: 0,
            nacked: 0,
            latency: Histogram::default(),
        }
    }

    /// How many messages may be sent now.
    pub(crate) fn room(&self) -> usize {
        self.limit - self.outstanding
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outstanding == 0
    }

    pub(crate) fn sent(&mut self, messages: usize, now: u64) {
        debug_assert!(messages <= self.room(), "the window is overrun");
        self.outstanding += messages;
        self.sent_at.extend(std::iter::repeat_n(now, messages));
    }

    /// Takes a confirm; latencies are recorded only when `now` is given.
    pub(crate) fn settle(&mut self, settlement: Settlement, now: Option<u64>) -> Result<(), Error> {
        let Settlement { tag, is_multiple, is_nack } = settlement;
        // Tag 0 with `multiple` means everything outstanding.
        let tag = if tag == 0 && is_multiple { self.next_tag() - 1 } else { tag };
        if tag >= self.next_tag() {
            return Err(Error::Protocol("a confirm for a message that was not sent"));
        }
        if is_multiple {
            while self.first_tag <= tag && self.settle_first(is_nack, now) {}
            return Ok(());
        }
        let Some(entry) = tag.checked_sub(self.first_tag).and_then(|i| self.sent_at.get_mut(i as usize)) else {
            return Err(Error::Protocol("a second confirm for one message"));
        };
        let sent_at = std::mem::replace(entry, SETTLED);
        if sent_at == SETTLED {
            return Err(Error::Protocol("a second confirm for one message"));
        }
        self.count(sent_at, is_nack, now);
        while self.sent_at.front() == Some(&SETTLED) {
            self.sent_at.pop_front();
            self.first_tag += 1;
        }
        Ok(())
    }

    fn next_tag(&self) -> u64 {
        self.first_tag + self.sent_at.len() as u64
    }

    fn settle_first(&mut self, is_nack: bool, now: Option<u64>) -> bool {
        let Some(sent_at) = self.sent_at.pop_front() else {
            return false;
        };
        self.first_tag += 1;
        if sent_at != SETTLED {
            self.count(sent_at, is_nack, now);
        }
        true
    }

    fn count(&mut self, sent_at: u64, is_nack: bool, now: Option<u64>) {
        self.outstanding -= 1;
        if is_nack {
            self.nacked += 1;
        } else {
            self.acked += 1;
            if let Some(now) = now {
                self.latency.record(now.saturating_sub(sent_at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(tag: u64) -> Settlement {
        Settlement { tag, is_multiple: false, is_nack: false }
    }

    fn up_to(tag: u64) -> Settlement {
        Settlement { tag, is_multiple: true, is_nack: false }
    }

    #[test]
    fn room_follows_confirms_in_any_order() {
        let mut window = Window::new(4);
        window.sent(4, 10);
        assert_eq!(window.room(), 0);
        window.settle(one(3), Some(20)).unwrap();
        window.settle(one(1), Some(20)).unwrap();
        assert_eq!(window.room(), 2);
        window.sent(2, 30);
        window.settle(up_to(5), Some(40)).unwrap();
        assert_eq!((window.room(), window.acked), (3, 5));
        window.settle(Settlement { tag: 0, is_multiple: true, is_nack: true }, None).unwrap();
        assert!(window.is_empty());
        assert_eq!((window.acked, window.nacked), (5, 1));
        assert_eq!(window.latency.summary().unwrap().samples, 5);
    }

    #[test]
    fn confirms_of_unsent_or_settled_messages_are_errors() {
        let mut window = Window::new(10);
        window.sent(3, 1);
        assert!(window.settle(one(4), None).is_err());
        assert!(window.settle(up_to(4), None).is_err());
        window.settle(one(2), None).unwrap();
        assert!(window.settle(one(2), None).is_err());
        window.settle(up_to(2), None).unwrap();
        assert!(window.settle(one(1), None).is_err());
        assert!(window.settle(one(0), None).is_err());
    }
}
