//! Messages that leave a queue without having been consumed: dead letters, and what a delay exchange kept back.

use std::{collections::BTreeMap, sync::Arc};

use super::{Aftermath, Queue, Queued, backlog::Expired};
use crate::{
    broker::Happening,
    limits,
    log::{Load, Position, Purpose},
    message::Message,
    queue::Wanted,
    session::Millis,
    topology::{QueueInfo, QueueType},
};

/// Why a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A consumer did not want it.
    Rejected,
    /// No consumer could digest it.
    Poison,
    /// Its time was over.
    Expired,
    /// There were too many before or behind it.
    MaxLength,
    /// It came back too often.
    DeliveryLimit,
    /// It has waited as long as its publisher asked for.
    Delayed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Rejected, Self::Poison, Self::Expired, Self::MaxLength, Self::DeliveryLimit, Self::Delayed];

    /// The word for it in the headers of dead letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Poison => "poison",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
            Self::Delayed => "delayed",
        }
    }
}

/// A message on its way out of a queue, to where its queue's rules send it. The log still has it in the queue: it moves
/// there with one append.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// The message.
    pub message: Arc<Message>,
    /// Its record in the queue.
    pub record: Position,
    /// The priority that it had there.
    pub priority: u8,
    /// Why it leaves.
    pub reason: Reason,
    /// What its consumer says of that, if it says something.
    pub cause: Option<Arc<str>>,
    /// Whether it goes anywhere; else somebody only wants to know that it is gone.
    pub goes_on: bool,
}

/// Why a message leaves, and what its consumer says of that.
#[derive(Clone, Debug)]
pub(super) struct Why {
    pub(super) reason: Reason,
    pub(super) cause: Option<Arc<str>>,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { reason, cause: None }
    }
}

/// Records of messages that have left the queue, and whose bodies have to be read before they can go anywhere.
#[derive(Debug, Default)]
pub(super) struct Departing {
    waiting: BTreeMap<u64, (u8, Why)>,
    loading: bool,
    /// Messages that no queue has taken, though one must, and when to try again.
    kept_back: Vec<Departure>,
    retry_at: Option<Millis>,
}

impl Departing {
    /// How many have to be read.
    pub(super) fn loading_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.kept_back.len()
    }

    /// All of them, in order.
    pub(super) fn records(&self) -> Vec<u64> {
        let kept_back = self.kept_back.iter().map(|departure| departure.record.0);
        let mut records: Vec<u64> = self.waiting.keys().copied().chain(kept_back).collect();
        records.sort_unstable();
        records
    }

    pub(super) fn retry_at(&self) -> Option<Millis> {
        self.retry_at
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Queue {
    /// No queue has taken a message that must arrive: it stays here, out of the way of others.
    pub fn keep_back(&mut self, departure: Departure, now: Millis) {
        self.departing.kept_back.push(departure);
        let at = *self.departing.retry_at.get_or_insert(now.plus(limits::RETRY_MS));
        self.wait_for(Some(at));
    }

    /// Tries again to send on what was kept back.
    pub(super) fn retry(&mut self, after: &mut Aftermath) {
        if self.departing.retry_at.is_some_and(|at| at <= after.now) {
            self.departing.retry_at = None;
            after.departures.append(&mut self.departing.kept_back);
        }
    }

    /// Whether somebody wants to know of messages that leave.
    fn is_told_of(&self, reason: Reason, after: &Aftermath) -> bool {
        let what = if reason == Reason::Expired { Happening::Expired } else { Happening::Dropped };
        after.interest.has(what) && !self.info.queue_type.is_internal()
    }

    /// Whether messages that leave may have to go somewhere.
    fn may_send_on(&self, reason: Reason) -> bool {
        let is_kept = match reason {
            Reason::Poison => true,
            Reason::Expired => self.keeps_expired && self.info.durable,
            _ => false,
        };
        is_kept || self.rules.dead_letter.is_some() || self.info.queue_type == QueueType::Delay
    }

    /// Whether a message that leaves has to go somewhere.
    fn sends_on(&self, reason: Reason, message: &Message, after: &Aftermath) -> bool {
        let is_kept = match reason {
            Reason::Poison => message.traits().durable || after.kept.transient,
            Reason::Expired => self.info.durable && after.kept.keeps_expired(message.traits()),
            _ => false,
        };
        is_kept || self.rules.dead_letter.is_some() || self.info.queue_type == QueueType::Delay
    }

    /// A message has left the backlog of a priority.
    pub(super) fn depart(&mut self, expired: Expired, priority: u8, why: Why, after: &mut Aftermath) {
        after.departed[why.reason as usize] += 1;
        let (Expired::Message(Queued { record, .. }) | Expired::Record(record)) = &expired;
        self.forget_attempts(*record, after);
        match expired {
            Expired::Message(queued) => self.send_on(queued.message, queued.record, (priority, why), after),
            Expired::Record(record) if self.may_send_on(why.reason) || self.is_told_of(why.reason, after) => {
                self.departing.waiting.insert(record.0, (priority, why));
            }
            Expired::Record(record) => self.release(record, priority, after),
        }
    }

    fn send_on(&mut self, message: Arc<Message>, record: Position, (priority, why): (u8, Why), after: &mut Aftermath) {
        let Why { reason, cause } = why;
        let goes_on = self.sends_on(reason, &message, after);
        if goes_on || self.is_told_of(reason, after) {
            let queue = Arc::clone(&self.info);
            after.departures.push(Departure { queue, message, record, priority, reason, cause, goes_on });
        } else {
            self.release(record, priority, after);
        }
    }

    /// Asks the log for what departs, a page at a time.
    pub(super) fn load_departing(&mut self, after: &mut Aftermath) {
        if self.departing.loading {
            return;
        }
        let Some((&first, (priority, _))) = self.departing.waiting.first_key_value() else { return };
        let waiting = self.departing.waiting.iter().filter(|(_, (of, _))| of == priority);
        let only: Vec<u64> = waiting.map(|(record, _)| *record).take(limits::NEAR_MESSAGES).collect();
        let end = only.last().map_or(first, |last| last + 1);
        self.departing.loading = true;
        after.loads.push(Load {
            queue: Arc::clone(&self.info),
            priority: *priority,
            wanted: Wanted { first: Position(first), end: Position(end), only },
            generation: 0,
            purpose: Purpose::Depart,
        });
    }

    /// Takes bodies of what departs. What the log does not give is lost, and the log has said so.
    pub(super) fn departing_loaded(
        &mut self,
        load: &Load,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        after: &mut Aftermath,
    ) {
        self.departing.loading = false;
        for (record, message) in messages {
            if let Some(why) = self.departing.waiting.remove(&record.0) {
                self.send_on(message, record, why, after);
            }
        }
        for record in load.wanted.only.iter().filter(|record| **record < next.0) {
            self.departing.waiting.remove(record);
        }
        self.load_departing(after);
    }
}
