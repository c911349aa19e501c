//! A consumer of a queue, and how much it may hold unsettled.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{Filter, Grouping, Start};
use crate::{
    outlet::{ConsumerKey, Outlet},
    session::SessionId,
};

/// A consumer's identity within its queue. It is not used again while anything could still refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ConsumerId {
    /// The number by which backlogs and the log know it as a reader.
    pub(super) fn reader(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Whose number it is.
    pub(super) fn of_reader(reader: u64) -> Self {
        Self { index: reader as u32, generation: (reader >> 32) as u32 }
    }
}

/// A limit on unsettled deliveries that several consumers share.
#[derive(Debug, Default)]
pub struct Credit {
    limit: AtomicU32,
    held: AtomicU32,
}

impl Credit {
    /// Sets the limit, 0 for none, and how many deliveries count against it already.
    pub fn set(&self, limit: u32, held: u32) {
        self.held.store(held, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Release);
    }

    /// Takes one unit if the limit allows. Returns whether it was counted, or nothing if the limit is reached.
    pub fn take(&self) -> Option<bool> {
        let limit = self.limit.load(Ordering::Acquire);
        if limit == 0 {
            return Some(false);
        }
        let below = |held| (held < limit).then_some(held + 1);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).ok().map(|_| true)
    }

    /// Whether the limit allows one more.
    fn has_room(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        limit == 0 || self.held.load(Ordering::Acquire) < limit
    }

    /// Gives back units that were counted.
    pub fn give(&self, units: u32) {
        let down = |held: u32| Some(held.saturating_sub(units));
        let _ = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, down);
    }
}

/// A consumer to be attached to a queue.
#[derive(Debug)]
pub struct Consumer {
    /// Where its deliveries go.
    pub outlet: Arc<dyn Outlet>,
    /// Its number there.
    pub key: ConsumerKey,
    /// The session that it belongs to.
    pub session: SessionId,
    /// Whether a delivery is settled by being sent.
    pub settles_itself: bool,
    /// Whether nobody else may consume.
    pub exclusive: bool,
    /// Whether only one of those that ask for this gets messages, and nobody else does, while the others wait to take over:
    /// the one of the highest priority, then the first to come.
    pub single_active: bool,
    /// How it tells groups of messages, if it knows them.
    pub groups: Option<Grouping>,
    /// Consumers with a higher one are asked first.
    pub priority: i64,
    /// Milliseconds that it may take to settle a delivery; nothing for the queue's own rule.
    pub timeout_ms: Option<u64>,
    /// Where it starts in a stream.
    pub start: Start,
    /// Which messages it wants; all without one. What it does not want stays in the queue, in its place.
    pub filter: Option<Filter>,
    /// Whether it only browses what waits in the queue when it comes, and is told the end by [`Outlet::browsed`]. It is no
    /// consumer otherwise: nobody is kept from having the queue for himself, or from being the last to leave it.
    pub browses: Option<Browses>,
    /// Unsettled deliveries that it may have; 0 for any number. Does not apply if it settles itself.
    pub prefetch: u32,
    /// A limit that it shares with the other consumers of its channel.
    pub shared: Arc<Credit>,
}

/// What a browser gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browses {
    /// Copies. Nothing changes for the messages, and what it settles only lets it have more.
    Copies,
    /// The messages, which are settled by no consumer, as if they had been fetched. What goes back does not come again.
    Holds,
}

/// What a consumer does with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes every message.
    Takes,
    /// It takes what passes its filter.
    Selects,
    /// It looks at what passes its filter.
    Browses,
}

/// A consumer of a queue.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) id: ConsumerId,
    pub(super) consumer: Consumer,
    pub(super) role: Role,
    pub(super) held: u32,
    /// Whether it could take more than was there for it.
    pub(super) is_idle: bool,
    /// Whether it has looked at everything.
    pub(super) has_browsed: bool,
    /// Whether it stands in the queue's ring of consumers to ask.
    pub(super) in_ring: bool,
    /// Whether its connection does not keep up.
    pub(super) pressed: bool,
    /// Whether nobody is to be told that messages wait for it: it is new, or that was told and it has got none since.
    pub(super) is_slow: bool,
    /// Slots that were taken back from it because it was late, and that it has not settled yet. Until then it gets no more.
    pub(super) late: Vec<u64>,
}

impl Attached {
    /// Whether it owes an answer about something that was taken back from it.
    pub(super) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// It settles a slot. Returns whether that was taken back from it before.
    pub(super) fn forgive(&mut self, slot: u64) -> bool {
        let place = self.late.iter().position(|&late| late == slot);
        place.map(|place| self.late.swap_remove(place)).is_some()
    }

    /// Whether it can take a delivery, as far as its own limit goes.
    fn is_able(&self) -> bool {
        let has_credit = self.consumer.prefetch == 0 || self.held < self.consumer.prefetch;
        !self.pressed && !self.is_late() && (self.consumer.settles_itself || has_credit)
    }

    /// Whether a delivery could be reserved now.
    pub(super) fn could_reserve(&self) -> bool {
        self.is_able() && (self.consumer.settles_itself || self.consumer.shared.has_room())
    }

    /// Reserves one delivery. Returns whether it counts against the shared limit; nothing if it cannot be made.
    pub(super) fn reserve(&mut self) -> Option<bool> {
        if !self.is_able() {
            return None;
        }
        if self.consumer.settles_itself {
            return Some(false);
        }
        let counted = self.consumer.shared.take()?;
        self.held += 1;
        self.is_slow = false;
        Some(counted)
    }
}
