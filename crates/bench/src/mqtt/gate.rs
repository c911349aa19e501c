//! A bound on deliveries that are due and have not arrived, so that no publisher runs away from the subscribers.
//!
//! A message of QoS 0 has no acknowledgement; but the subscribers are in this process, so a publisher can look at what
//! they have counted. It sleeps while there is no room, and a subscriber's thread wakes it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

use rustix::event::{EventfdFlags, eventfd};

use crate::control::Counters;
use crate::error::Error;

/// No publisher waits.
const NOBODY: u64 = u64::MAX;
/// What was due and has not moved for so long is lost; it must not keep its room.
const LOST_AFTER_NS: u64 = 1_000_000_000;

/// What all threads of a load share.
pub(crate) struct Gate {
    /// Deliveries that may be under way; `None` is without bound.
    window: Option<u64>,
    publishers: Vec<Arc<Counters>>,
    subscribers: Vec<Arc<Counters>>,
    /// One for each of the publishers' threads.
    waiting: Vec<Waiting>,
    /// Deliveries that nobody waits for any more.
    written_off: AtomicU64,
}

/// How a publisher's thread sleeps.
struct Waiting {
    /// Deliveries at which it wants to be woken.
    until: AtomicU64,
    bell: OwnedFd,
}

impl Gate {
    pub(crate) fn new(
        window: Option<u64>,
        publishers: &[Arc<Counters>],
        subscribers: &[Arc<Counters>],
    ) -> Result<Self, Error> {
        let waiting = publishers.iter().map(|_| {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
            let bell = bell.map_err(|error| Error::Io { doing: "making an event", source: error.into() })?;
            Ok(Waiting { until: AtomicU64::new(NOBODY), bell })
        });
        Ok(Self {
            window,
            publishers: publishers.to_vec(),
            subscribers: subscribers.to_vec(),
            waiting: waiting.collect::<Result<_, Error>>()?,
            written_off: AtomicU64::new(0),
        })
    }

    /// What a publisher's thread waits for besides its sockets.
    pub(crate) fn bell(&self, thread: usize) -> Option<BorrowedFd<'_>> {
        self.window.and_then(|_| self.waiting.get(thread)).map(|waiting| waiting.bell.as_fd())
    }

    /// Deliveries that one publisher's thread may cause now.
    pub(crate) fn room(&self) -> u64 {
        let Some(window) = self.window else {
            return u64::MAX;
        };
        window.saturating_sub(self.under_way()) / self.publishers.len().max(1) as u64
    }

    /// Has the bell rung once half of the window is free, or all that `copies` of one message need; `false` if it is so
    /// already.
    pub(crate) fn sleep(&self, thread: usize, copies: u64) -> bool {
        let (Some(window), Some(waiting)) = (self.window, self.waiting.get(thread)) else {
            return false;
        };
        let room = (window / 2).max(copies * self.publishers.len() as u64).min(window);
        let until = (self.due() + room).saturating_sub(window);
        waiting.until.store(until, SeqCst);
        fence(SeqCst);
        if self.arrived() >= until {
            waiting.until.store(NOBODY, SeqCst);
            return false;
        }
        true
    }

    /// After the bell, or when the thread has slept long enough.
    pub(crate) fn wake(&self, thread: usize) {
        if let Some(waiting) = self.waiting.get(thread) {
            waiting.until.store(NOBODY, Relaxed);
            // An empty bell is as good.
            let _ = rustix::io::read(&waiting.bell, &mut [0; 8]);
        }
    }

    /// Called by subscribers behind each count: wakes who has waited for it.
    pub(crate) fn has_moved(&self) {
        if self.window.is_none() {
            return;
        }
        fence(SeqCst);
        for waiting in &self.waiting {
            let until = waiting.until.load(SeqCst);
            if until != NOBODY && self.arrived() >= until && waiting.until.swap(NOBODY, SeqCst) != NOBODY {
                // The counter of an event cannot overflow by ones.
                let _ = rustix::io::write(&waiting.bell, &1u64.to_ne_bytes());
            }
        }
    }

    fn due(&self) -> u64 {
        self.publishers.iter().map(|one| one.due.load(Relaxed)).sum()
    }

    fn consumed(&self) -> u64 {
        self.subscribers.iter().map(|one| one.consumed.load(Relaxed)).sum()
    }

    fn arrived(&self) -> u64 {
        self.consumed() + self.written_off.load(Relaxed)
    }

    fn under_way(&self) -> u64 {
        self.due().saturating_sub(self.arrived())
    }
}

/// Notices that nothing moves: what is under way then will never arrive.
#[derive(Default)]
pub(crate) struct Stall {
    arrived: u64,
    since: u64,
}

impl Stall {
    /// Called again and again while there is no room.
    pub(crate) fn look(&mut self, gate: &Gate, now: u64) {
        let arrived = gate.arrived();
        if arrived != self.arrived || self.since == 0 {
            (self.arrived, self.since) = (arrived, now);
        } else if now.saturating_sub(self.since) > LOST_AFTER_NS {
            // Another thread may have come to the same conclusion.
            gate.written_off.fetch_max(gate.due().saturating_sub(gate.consumed()), Relaxed);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(window: u64) -> (Gate, Arc<Counters>, Arc<Counters>) {
        let (publisher, subscriber) = (Arc::new(Counters::default()), Arc::new(Counters::default()));
        let gate = Gate::new(Some(window), &[Arc::clone(&publisher)], &[Arc::clone(&subscriber)]).unwrap();
        (gate, publisher, subscriber)
    }

    fn has_rung(gate: &Gate) -> bool {
        rustix::io::read(gate.bell(0).unwrap(), &mut [0; 8]).is_ok()
    }

    #[test]
    fn the_bell_rings_when_half_of_the_window_is_free() {
        let (gate, publisher, subscriber) = gate(10);
        publisher.due.store(10, Relaxed);
        assert_eq!(gate.room(), 0);
        assert!(gate.sleep(0, 1));
        subscriber.consumed.store(4, Relaxed);
        gate.has_moved();
        assert!(!has_rung(&gate));
        subscriber.consumed.store(5, Relaxed);
        gate.has_moved();
        gate.has_moved();
        assert!(has_rung(&gate) && !has_rung(&gate));
        assert!((gate.room(), gate.sleep(0, 1)) == (5, false));
    }

    #[test]
    fn a_message_with_as_many_copies_as_the_window_waits_for_all() {
        let (gate, publisher, subscriber) = gate(10);
        publisher.due.store(10, Relaxed);
        subscriber.consumed.store(9, Relaxed);
        assert!(gate.sleep(0, 10));
        subscriber.consumed.store(10, Relaxed);
        gate.has_moved();
        assert!(has_rung(&gate) && gate.room() == 10);
    }

    #[test]
    fn what_is_lost_gives_its_room_back() {
        let (gate, publisher, _) = gate(10);
        publisher.due.store(10, Relaxed);
        let mut stall = Stall::default();
        stall.look(&gate, 1);
        stall.look(&gate, LOST_AFTER_NS);
        assert_eq!(gate.room(), 0);
        stall.look(&gate, LOST_AFTER_NS + 2);
        assert_eq!(gate.room(), 10);
    }
}
