//! What the threads of one load share: the clock, the phase, and one set of counters each.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Publishers that are stuck in a write get this long to finish it when the load is over.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    WarmUp,
    Measuring,
    /// Publishers stop; consumers go on.
    Settling,
    Stopped,
}

/// Read by every thread once per batch, written by the coordinating thread alone.
pub(crate) struct Control {
    origin: Instant,
    phase: AtomicU8,
    /// When publishers that cannot finish their write give up, in nanoseconds of our clock.
    give_up_at: AtomicU64,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), phase: AtomicU8::new(Phase::WarmUp as u8), give_up_at: AtomicU64::new(u64::MAX) }
    }

    /// Nanoseconds since the load began; never 0, because a message with time 0 carries no time.
    pub(crate) fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64 + 1
    }

    pub(crate) fn enter(&self, phase: Phase) {
        if phase == Phase::Settling {
            self.give_up_at.store(self.now() + GRACE.as_nanos() as u64, Relaxed);
        }
        self.phase.store(phase as u8, Relaxed);
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.phase.load(Relaxed) == Phase::Measuring as u8
    }

    /// Whether publishers shall stop.
    pub(crate) fn is_settling(&self) -> bool {
        self.phase.load(Relaxed) >= Phase::Settling as u8
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Relaxed) >= Phase::Stopped as u8
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.now() >= self.give_up_at.load(Relaxed)
    }
}

/// Counted by one thread, read by the coordinating thread; on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) published: AtomicU64,
    /// Deliveries that what was published will cause, where that is known.
    pub(crate) due: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    pub(crate) nacked: AtomicU64,
    pub(crate) consumed: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    /// What the server has sent, framing included.
    pub(crate) received_bytes: AtomicU64,
    pub(crate) is_blocked: AtomicBool,
}

/// The sum of all counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) at: u64,
    pub(crate) published: u64,
    pub(crate) due: u64,
    pub(crate) confirmed: u64,
    pub(crate) nacked: u64,
    pub(crate) consumed: u64,
    pub(crate) redelivered: u64,
    pub(crate) received_bytes: u64,
    pub(crate) blocked: usize,
}

impl Totals {
    pub(crate) fn of<'a>(at: u64, counters: impl Iterator<Item = &'a Counters>) -> Self {
        let mut totals = Self { at, ..Self::default() };
        for one in counters {
            totals.published += one.published.load(Relaxed);
            totals.due += one.due.load(Relaxed);
            totals.confirmed += one.confirmed.load(Relaxed);
            totals.nacked += one.nacked.load(Relaxed);
            totals.consumed += one.consumed.load(Relaxed);
            totals.redelivered += one.redelivered.load(Relaxed);
            totals.received_bytes += one.received_bytes.load(Relaxed);
            totals.blocked += usize::from(one.is_blocked.load(Relaxed));
        }
        totals
    }

    pub(crate) fn seconds_since(&self, before: &Self) -> f64 {
        self.at.saturating_sub(before.at) as f64 / 1e9
    }
}
