//! Messages that come back: how often, and whether they wait, or have come back too often.

use std::{collections::BTreeSet, sync::Arc};

use super::{Aftermath, Attempts, Queue, Reason, backlog::Expired, departure::Why, priority_of};
use crate::{log::Position, message::Message, rules::CountedAttempts};

impl Queue {
    /// A held message comes back that nobody has looked at: it is as if it had stayed.
    pub(super) fn give_back_unseen(&mut self, slot: u64) {
        let held = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot));
        let Some((_, message)) = held else { return };
        if let Some(backlog) = self.backlog_of(slot) {
            backlog.release(slot);
        }
        self.note_back(slot, message.as_deref());
    }

    /// A held message comes back.
    pub(super) fn give_back(&mut self, slot: u64, failed: bool, after: &mut Aftermath) {
        let Some((record, message)) = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot)) else { return };
        if let Some(counted) = self.rules.counted_attempts {
            let attempts = self.attempts.entry(record.0).or_default();
            match counted {
                CountedAttempts::All => attempts.failed += 1,
                CountedAttempts::Failed => {
                    attempts.acquired += 1;
                    attempts.failed += u32::from(failed);
                }
            }
            let attempts = *attempts;
            let Attempts { failed: count, .. } = attempts;
            if self.rules.delivery_limit.is_some_and(|limit| count > limit) {
                return self.depart_held(slot, Reason::DeliveryLimit.into(), after);
            }
            after.attempts.push((Arc::clone(&self.info), record, Some(attempts)));
            if let Some(wait) = self.rules.delayed_retry.and_then(|retry| retry.wait_ms(count, failed)) {
                let at = after.now.plus(wait);
                self.resting.insert((at, slot));
                return self.wait_for(Some(at));
            }
        }
        self.put_back(slot, failed, message.as_deref());
    }

    /// A held message comes back for which time no longer counts.
    pub(super) fn give_back_untimed(&mut self, slot: u64, after: &mut Aftermath) {
        if let Some(backlog) = self.backlog_of(slot) {
            backlog.untime(slot);
        }
        self.give_back(slot, false, after);
    }

    /// A message that came back has waited long enough.
    pub(super) fn rested(&mut self, slot: u64) {
        let message = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot)).and_then(|(_, message)| message);
        self.put_back(slot, false, message.as_deref());
    }

    fn put_back(&mut self, slot: u64, failed: bool, message: Option<&Message>) {
        if let Some(backlog) = self.backlog_of(slot) {
            backlog.requeue(slot, failed);
        }
        self.note_back(slot, message);
    }

    /// A message waits again, and may be due. When its own time is over is known without its body.
    fn note_back(&mut self, slot: u64, message: Option<&Message>) {
        let due = self.backlog_of(slot).and_then(|backlog| backlog.due());
        self.consumers.stir();
        self.wait_for(due);
        self.note_times_of(message);
    }

    /// A message that a consumer held is rejected, and becomes a dead letter.
    pub fn reject(&mut self, slot: u64, after: &mut Aftermath) {
        self.depart_held(slot, Reason::Rejected.into(), after);
    }

    /// A message that a consumer held leaves the queue.
    pub(super) fn depart_held(&mut self, slot: u64, why: Why, after: &mut Aftermath) {
        let Some(backlog) = self.backlog_of(slot) else { return };
        let Some((record, message)) = backlog.held_at(slot) else { return };
        backlog.settle(slot);
        let left = match message {
            Some(message) => Expired::Message(super::Queued { message, record, returns: super::Returns::ONCE }),
            None => Expired::Record(record),
        };
        self.depart(left, priority_of(slot), why, after);
    }

    /// Attempts to deliver a message.
    pub(super) fn attempts_of(&self, record: Position, redelivered: bool) -> Attempts {
        if self.attempts.is_empty() || !redelivered {
            return Attempts::default();
        }
        self.attempts.get(&record.0).copied().unwrap_or_default()
    }

    /// A message is gone.
    pub(super) fn forget_attempts(&mut self, record: Position, after: &mut Aftermath) {
        if !self.attempts.is_empty() && self.attempts.remove(&record.0).is_some() {
            after.attempts.push((Arc::clone(&self.info), record, None));
        }
    }

    /// A message that a consumer held is done with.
    pub(super) fn forget_attempts_at(&mut self, slot: u64, after: &mut Aftermath) {
        if !self.attempts.is_empty()
            && let Some((record, _)) = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot))
        {
            self.forget_attempts(record, after);
        }
    }

    /// All messages that waited are gone.
    pub(super) fn forget_attempts_but_held(&mut self, after: &mut Aftermath) {
        if self.attempts.is_empty() {
            return;
        }
        let held: BTreeSet<u64> = self.levels.iter().flat_map(|(_, backlog)| backlog.held_records()).collect();
        let gone: Vec<u64> = self.attempts.keys().filter(|record| !held.contains(record)).copied().collect();
        gone.into_iter().for_each(|record| self.forget_attempts(Position(record), after));
    }

    /// Records of messages with attempts.
    pub fn attempted(&self) -> impl Iterator<Item = u64> {
        self.attempts.keys().copied()
    }

    /// After a restart: no time to live applies to these messages. Nothing may have been read from the log yet.
    pub fn restore_untimed(&mut self, records: &[Position]) {
        for (_, backlog) in &mut self.levels {
            records.iter().for_each(|record| backlog.restore_untimed(*record));
        }
    }

    /// After a restart: somebody still holds a message. Returns its slot, if it is there. Nothing may have been read from the log
    /// yet.
    pub fn restore_held(&mut self, record: Position) -> Option<u64> {
        self.levels.iter_mut().find_map(|(_, backlog)| backlog.restore_held(record))
    }

    /// Puts back how often a message came back before the broker stopped. Returns whether it can still be there.
    pub fn restore_attempts(&mut self, record: Position, attempts: Attempts) -> bool {
        let may_be_there = self.levels.iter().any(|(_, backlog)| backlog.may_hold(record));
        if may_be_there {
            self.attempts.insert(record.0, attempts);
        }
        may_be_there
    }
}
