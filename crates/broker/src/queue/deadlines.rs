//! What happens to a queue by the clock alone.
//!
//! A queue knows a time before which nothing is due. That is a lower bound: what was to happen may have become
//! needless, and then the queue is looked after for nothing, once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{Aftermath, NEVER, Queue, Reason, consumer::Attached, consumer::ConsumerId};
use crate::{
    limits,
    message::{Message, MessageView},
    outlet::{ConsumerKey, Outlet},
    queue::Consumer,
    session::Millis,
};

/// Deliveries that have to be settled in time.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    by_time: BTreeSet<(Millis, u64)>,
    by_slot: HashMap<u64, (Millis, Holder)>,
}

#[derive(Debug)]
struct Holder {
    id: ConsumerId,
    key: ConsumerKey,
    outlet: Arc<dyn Outlet>,
}

impl Overdue {
    pub(super) fn add(&mut self, at: Millis, slot: u64, attached: &Attached) {
        let Consumer { key, outlet, .. } = &attached.consumer;
        let holder = Holder { id: attached.id, key: *key, outlet: Arc::clone(outlet) };
        self.by_time.insert((at, slot));
        self.by_slot.insert(slot, (at, holder));
    }

    pub(super) fn settled(&mut self, slot: u64) {
        if self.by_slot.is_empty() {
            return;
        }
        if let Some((at, _)) = self.by_slot.remove(&slot) {
            self.by_time.remove(&(at, slot));
        }
    }

    fn first(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn take(&mut self, now: Millis) -> Option<(u64, Holder)> {
        if self.first()? > now {
            return None;
        }
        let (_, slot) = self.by_time.pop_first()?;
        self.by_slot.remove(&slot).map(|(_, holder)| (slot, holder))
    }
}

impl Queue {
    /// Nothing happens later than this.
    pub(super) fn wait_for(&mut self, at: Option<Millis>) {
        self.next_due = self.next_due.min(at.unwrap_or(NEVER));
    }

    /// Notes when a message is due that has begun to wait.
    pub(super) fn note_times(&mut self, message: &MessageView<'_>, after: &Aftermath) {
        self.keeps_expired |= after.kept.may_keep_expired(message.origin, message.due);
        self.wait_for(message.due);
        self.wait_for(self.rules.message_ttl_ms.map(|ttl| message.arrived.plus(ttl)));
    }

    /// Notes when a message that waits is due.
    pub(super) fn note_times_of(&mut self, message: Option<&Message>) {
        let Some(traits) = message.map(Message::traits) else { return };
        self.wait_for(traits.due);
        self.wait_for(self.rules.message_ttl_ms.map(|ttl| traits.arrived.plus(ttl)));
    }

    /// Somebody uses the queue.
    pub fn note_used(&mut self, now: Millis) {
        self.used = now;
        self.wait_for(self.rules.expires_ms.map(|expires| now.plus(expires)));
    }

    /// When the queue goes, if nobody uses it before.
    fn unused_at(&self) -> Option<Millis> {
        self.rules.expires_ms.filter(|_| self.consumers.count() == 0).map(|expires| self.used.plus(expires))
    }

    /// Whether nobody has used the queue for as long as it may live without.
    pub fn is_unused(&self, now: Millis) -> bool {
        self.unused_at().is_some_and(|at| at <= now)
    }

    /// Goes on with readers that waited for the log to commit.
    pub fn committed(&mut self, after: &mut Aftermath) {
        self.read_on(after);
    }

    /// Does what is due.
    pub(super) fn catch_up(&mut self, after: &mut Aftermath) {
        if self.next_due > after.now {
            return;
        }
        let all = self.expire_messages(after);
        self.take_back_overdue(after);
        while let Some(&(at, slot)) = self.resting.first()
            && at <= after.now
        {
            self.resting.pop_first();
            self.rested(slot);
        }
        self.retry(after);
        self.retain(after);
        if self.unused_at().is_some_and(|at| at <= after.now) {
            after.unused.push(Arc::clone(&self.info));
        }
        self.load_departing(after);
        if self.rules.sheds() {
            self.read_ahead(after);
        }
        self.next_due = if all { self.earliest() } else { after.now };
    }

    /// Takes back what consumers have held for too long. Such a consumer gets nothing more until it settles that, late as it
    /// is: somebody else is to have the message.
    fn take_back_overdue(&mut self, after: &mut Aftermath) {
        let mut late = false;
        while let Some((slot, holder)) = self.overdue.take(after.now) {
            holder.outlet.revoked(holder.key, slot);
            if let Some(attached) = self.consumers.get(holder.id) {
                attached.late.push(slot);
                late = true;
            }
            self.give_back(slot, false, after);
            self.lose_groups(holder.id);
        }
        if late && self.is_single() {
            self.consumers.elect(self.preempts());
        }
    }

    /// Lets go of messages whose time is over. Returns whether these were all.
    fn expire_messages(&mut self, after: &mut Aftermath) -> bool {
        let (now, ttl) = (after.now, self.rules.message_ttl_ms);
        let reason = match self.info.queue_type {
            crate::topology::QueueType::Delay => Reason::Delayed,
            _ => Reason::Expired,
        };
        // Bodies have to be read for those that are in the log alone: no more are begun with than can soon be read.
        let mut left = limits::EXPIRED_AT_ONCE.min(limits::DEPARTING.saturating_sub(self.departing.loading_count()));
        for level in 0..self.levels.len() {
            while left > 0 {
                let (priority, backlog) = &mut self.levels[level];
                let priority = *priority;
                // Messages that wait for the same time leave in their order, so only the first has to be looked at.
                let is_over = |message: &Arc<Message>| ttl.is_some_and(|ttl| message.traits().arrived.plus(ttl) <= now);
                let expired = match backlog.expire(now) {
                    Some(expired) => expired,
                    None if ttl.is_some() => match backlog.next_timed() {
                        Some((slot, message)) if is_over(message) => backlog.remove_ready(slot),
                        _ => break,
                    },
                    None => break,
                };
                self.depart(expired, priority, reason.into(), after);
                left -= 1;
            }
            self.levels[level].1.sweep_timetable();
        }
        left > 0
    }

    /// When something is due next, exactly.
    fn earliest(&mut self) -> Millis {
        let ttl = self.rules.message_ttl_ms;
        let mut earliest = NEVER;
        for (_, backlog) in &mut self.levels {
            let own = backlog.due();
            let common = ttl.and_then(|ttl| Some(backlog.next_timed()?.1.traits().arrived.plus(ttl)));
            earliest = [own, common].into_iter().flatten().fold(earliest, Ord::min);
        }
        let resting = self.resting.first().map(|(at, _)| *at);
        let (overdue, retry) = (self.overdue.first(), self.departing.retry_at());
        [resting, overdue, retry, self.unused_at(), self.retain_at()].into_iter().flatten().fold(earliest, Ord::min)
    }
}
