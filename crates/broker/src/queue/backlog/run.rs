//! The part of a backlog that is in the log alone.

use std::{collections::BTreeSet, sync::Arc};

use super::{Backlog, Returns, Slot, Timetable, Wanted, records::Records};
use crate::{limits, log::Position, message::Message, queue::Near, session::Millis};

/// Messages that are in the log alone: everything that the queue holds there between two records, but for a few that are
/// still in memory. None of them has ever been handed out in this run of the broker.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// The first record that may belong to it.
    pub(super) first: u64,
    /// The last record that may belong to it.
    pub(super) last: u64,
    pub(super) count: u64,
    /// Records in between that do not belong to it.
    except: BTreeSet<u64>,
    /// Records in between that belonged to it, and were taken out by themselves.
    taken: Records,
    /// The slot that its first message will have. Without messages, it has no meaning.
    pub(super) slot: u64,
    /// The slot behind those that its messages had. In between there is one for each, and there are those of messages that
    /// are in memory: what consumers hold, and what came back.
    pub(super) end_slot: u64,
    /// Bytes of the bodies, as far as they are known.
    pub(super) bytes: u64,
    /// When its messages are due, by record, as far as that is known.
    pub(super) timetable: Timetable,
    /// The records of an earlier run of the broker that nobody has looked at: from the first of these on and before the
    /// second. Of all others the bytes are counted, and what is due stands in the timetable.
    unseen: (u64, u64),
}

impl Run {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a record that has been in it still is.
    pub(super) fn has(&self, record: u64) -> bool {
        self.count > 0
            && (self.first..=self.last).contains(&record)
            && !self.except.contains(&record)
            && !self.taken.contains(record)
    }

    /// Whether a message that was read belongs to it: one whose time was over may not have left the log yet.
    pub(super) fn contains(&self, record: u64, due: Option<Millis>) -> bool {
        let is_past = |due| self.timetable.is_past(due, record);
        self.has(record) && (self.is_unseen(record) || !due.is_some_and(is_past))
    }

    /// Takes out a message of so many bytes by itself. Returns whether it was there.
    pub(super) fn take(&mut self, record: u64, bytes: u64) -> bool {
        if !self.has(record) {
            return false;
        }
        if !self.is_unseen(record) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        self.count -= 1;
        self.taken.insert(record);
        if self.is_empty() {
            *self = Self { slot: self.slot, end_slot: self.end_slot, ..Self::default() };
        }
        true
    }

    /// Takes out a record of which the timetable told. Returns whether it was there.
    pub(super) fn lose(&mut self, record: u64) -> bool {
        if !self.has(record) {
            return false;
        }
        // The lengths of single bodies are not known here.
        self.bytes -= self.bytes / self.count;
        self.count -= 1;
        if self.is_empty() {
            *self = Self::default();
        }
        true
    }

    fn is_unseen(&self, record: u64) -> bool {
        (self.unseen.0..self.unseen.1).contains(&record)
    }
}

/// What purging leaves to be recorded: single records, and all between two records but for some.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many messages there were.
    pub count: usize,
    /// Records that are let go of.
    pub records: Vec<u64>,
    /// Everything from the first and before the second of these is let go of.
    pub range: Option<(u64, u64)>,
    /// What is not, in order.
    pub except: Vec<u64>,
}

impl Backlog {
    /// Puts back what was in the queue when the broker stopped, behind everything else.
    pub fn restore(&mut self, first: Position, last: Position, count: u64) {
        let slot = self.tail;
        self.tail += count;
        self.ready += count as usize;
        let unseen = (first.0, last.0 + 1);
        self.run = Run { first: first.0, last: last.0, count, slot, end_slot: self.tail, unseen, ..Run::default() };
    }

    /// No time to live applies to a message that was in the queue when the broker stopped.
    pub fn restore_untimed(&mut self, record: Position) {
        if self.run.has(record.0) {
            self.untimed.insert(record.0);
        }
    }

    /// The records about which nothing is known but that the log has them: they are to be looked at, if anything
    /// depends on their times or sizes.
    pub fn unseen(&self) -> Option<Wanted> {
        let (first, end) = self.run.unseen;
        let wanted = Wanted { first: Position(first), end: Position(end), only: Vec::new() };
        (!self.run.is_empty() && first < end).then_some(wanted)
    }

    /// Takes note of times and sizes of messages that stay in the log. `next` is where to go on.
    pub fn seen(&mut self, messages: &[(Position, Arc<Message>)], next: Position) {
        for (record, message) in messages {
            if !self.run.is_unseen(record.0) || !self.run.has(record.0) {
                continue;
            }
            self.run.bytes += message.payload_len() as u64;
            if let Some(due) = message.traits().due.filter(|_| !self.untimed.contains(&record.0)) {
                self.run.timetable.add(due, record.0);
            }
        }
        self.run.unseen.0 = self.run.unseen.0.max(next.0);
    }

    /// The first slot that may leave memory: behind what consumers get next, and behind what the log does not have.
    fn leave_from(&self, near: Near) -> u64 {
        if !self.run.is_empty() {
            return self.run.end_slot;
        }
        let (mut messages, mut bytes) = (0, 0);
        let mut start = self.cursor;
        for (number, slot) in self.slots_from(self.cursor).filter(|(_, slot)| !slot.held) {
            if messages >= near.messages || bytes >= near.bytes {
                break;
            }
            messages += 1;
            bytes += slot.message.as_ref().map_or(0, |message| message.memory_bytes());
            start = number + 1;
        }
        // A run has no gaps: what the log does not have, and all that is before it, stays in memory.
        let unlogged = self.slots_from(start).filter(|(_, slot)| !slot.held && slot.record == Position(0));
        unlogged.last().map_or(start, |(number, _)| number + 1)
    }

    /// The first record about which [`Backlog::page_out`] would have to know, if anything before `end` can leave memory.
    pub fn page_out_from(&self, end: Position, near: Near) -> Option<Position> {
        let start = self.leave_from(near);
        let mut leaving = self.slots_from(start).filter(|(number, slot)| !self.stays(*number, slot)).peekable();
        let (_, slot) = leaving.peek()?;
        if slot.record == Position(0) || slot.record >= end {
            return None;
        }
        if !self.run.is_empty() {
            return Some(Position(self.run.last + 1));
        }
        let records = leaving.take_while(|(_, slot)| slot.record != Position(0));
        records.map(|(_, slot)| slot.record).filter(|record| *record < end).min()
    }

    /// Whether a message keeps its slot among those of a run: it is held, or it came back and is to say so.
    fn stays(&self, number: u64, slot: &Slot) -> bool {
        slot.held || self.returned.contains(&number)
    }

    /// Lets messages leave memory that lie deep in the queue and in the log between `from` and `end`. `members` are all
    /// records of the queue there. Returns how many left.
    pub fn page_out(&mut self, from: Position, end: Position, members: &[u64], near: Near) -> usize {
        self.forget_held(end);
        let start = self.leave_from(near);
        let empty = self.run.is_empty();
        if !empty && self.run.last + 1 < from.0 {
            return 0;
        }
        let mut leaving = Vec::new();
        for (number, slot) in self.slots_from(start) {
            let record = slot.record.0;
            let known = record >= from.0 && record < end.0 && (empty || record > self.run.last);
            let excepted = !empty && record >= self.run.first && self.run.except.contains(&record);
            if self.stays(number, slot) {
                continue;
            }
            if !(known || excepted) {
                break;
            }
            leaving.push((number, record));
        }
        let (Some(&(first_slot, _)), Some(&(last_slot, _))) = (leaving.first(), leaving.last()) else { return 0 };
        let mut records: Vec<u64> = leaving.iter().map(|(_, record)| *record).collect();
        let (mut bytes, mut due, mut untimed) = (0, Vec::new(), Vec::new());
        for (number, record) in &leaving {
            let Some(slot) = self.slot(*number) else { continue };
            bytes += u64::from(slot.bytes);
            due.extend(slot.due.map(|due| (due, *record)));
            untimed.extend(slot.untimed.then_some(*record));
        }
        self.untimed.extend(untimed);
        records.sort_unstable();
        let lowest = records.first().copied().unwrap_or_default();
        let last = records.last().copied().unwrap_or_default();
        let before = (!empty).then_some((self.run.last, self.run.end_slot));
        if empty {
            let base = lowest.saturating_sub(1);
            self.run = Run { first: lowest, last: base, slot: first_slot, ..Run::default() };
        }
        let new_last = last.max(self.run.last);
        let between = members.iter().filter(|&&member| member > self.run.last && member <= new_last);
        self.run.except.extend(between);
        self.run.except.retain(|record| records.binary_search(record).is_err());
        self.run.last = new_last;
        self.run.count += records.len() as u64;
        self.run.bytes += bytes;
        self.ready_bytes -= bytes;
        due.into_iter().for_each(|(due, record)| self.run.timetable.add(due, record));
        self.run.end_slot = last_slot + 1;
        leaving.iter().for_each(|(number, _)| drop(self.remove(*number)));
        self.cursors_page_out(&leaving, &records, before);
        records.len()
    }

    /// Forgets the bodies of messages that consumers hold and that the log can give again.
    fn forget_held(&mut self, end: Position) {
        if self.held == 0 {
            return;
        }
        let keeps_held = self.keeps_held;
        for slot in self.chunks.values_mut().flat_map(|chunk| chunk.slots.iter_mut().flatten()) {
            if slot.record != Position(0) && slot.record < end {
                slot.readable = true;
                if slot.held && !keeps_held {
                    self.memory_bytes -= slot.message.take().map_or(0, |message| message.memory_bytes());
                }
            }
        }
    }

    /// What is to be read from the log next, as consumers get near to it; nothing while something is being read.
    pub fn want(&mut self) -> Option<Wanted> {
        if self.loading || self.is_missing_some {
            return None;
        }
        let absent = |number: &u64| self.slot(*number).filter(|slot| slot.message.is_none()).map(|slot| slot.record.0);
        let end = self.memory_end();
        if self.returned.first().is_some_and(|number| *number < end && absent(number).is_some()) {
            let near = self.returned.iter().take(limits::NEAR_MESSAGES);
            let mut only: Vec<u64> = near.filter_map(absent).collect();
            only.sort_unstable();
            self.loading = true;
            let (first, last) = (only.first().copied()?, only.last().copied()?);
            return Some(Wanted { first: Position(first), end: Position(last + 1), only });
        }
        let returned = self.returned.range(..self.run.slot).take(limits::NEAR_MESSAGES).count() as u64;
        let near = returned + self.run.slot.saturating_sub(self.cursor);
        if self.run.is_empty() || near > limits::NEAR_MESSAGES as u64 / 2 {
            return None;
        }
        self.loading = true;
        Some(Wanted { first: Position(self.run.first), end: Position(self.run.last + 1), only: Vec::new() })
    }

    /// The mark of a reading that is asked for now.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes what was read for [`Backlog::want`]. `next` is the record where reading goes on. Messages from before
    /// `restart` may have been handed out by an earlier run of the broker. Returns whether the page was still wanted.
    pub fn page_in(
        &mut self,
        generation: u64,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        wanted: &Wanted,
        restart: Position,
    ) -> bool {
        if generation != self.generation {
            return false;
        }
        self.loading = false;
        if !wanted.only.is_empty() {
            let is_empty = messages.is_empty();
            self.fill_returned(messages);
            // What has become due meanwhile is no longer wanted.
            let is_wanted = |slot: &Slot| slot.message.is_none() && wanted.only.binary_search(&slot.record.0).is_ok();
            let mut returned = self.returned.iter().filter_map(|number| self.slot(*number));
            self.is_missing_some |= is_empty && returned.any(is_wanted);
            return true;
        }
        let (mut came, mut slack) = (Vec::new(), self.run_slack());
        for (record, message) in messages {
            if !self.run.has(record.0) {
                continue;
            }
            let untimed = self.untimed.remove(&record.0);
            let (due, bytes) = (message.traits().due.filter(|_| !untimed), message.payload_len() as u32);
            if self.run.is_unseen(record.0) {
                self.run.unseen.0 = record.0 + 1;
            } else if due.is_some_and(|due| self.run.timetable.is_past(due, record.0)) {
                // Its time was over before it came.
                continue;
            } else {
                self.run.bytes = self.run.bytes.saturating_sub(bytes.into());
            }
            let number = self.run_slot_for(record.0, self.run.slot, &mut slack);
            came.push((record.0, number));
            self.run.slot = number + 1;
            self.run.count -= 1;
            self.ready_bytes += u64::from(bytes);
            if let Some(due) = due {
                self.timetable.add(due, number);
            }
            let returns = if record < restart { Returns::ONCE } else { Returns::NEVER };
            let (message, held, readable) = (Some(message), false, true);
            self.insert(number, Slot { message, record, due, bytes, returns, held, readable, untimed });
        }
        self.run.first = next.0;
        self.cursors_page_in(&came, next.0);
        if self.run.is_empty() {
            self.run = Run { slot: self.run.slot, end_slot: self.run.end_slot, ..Run::default() };
            return true;
        }
        self.run.except = self.run.except.split_off(&next.0);
        self.run.taken.forget_before(next.0);
        self.is_missing_some |= !self.run.is_empty() && self.run.first > self.run.last;
        true
    }

    /// The slot for a message of the run that is not before `slot`: behind what was taken out of the run before it. At most
    /// so many slots are left free in between.
    pub(super) fn run_slot_for(&self, record: u64, mut slot: u64, slack: &mut u64) -> u64 {
        while let Some((number, taken)) = self.slots_from(slot).next().filter(|(number, _)| *number < self.run.end_slot)
        {
            let (free, is_before) = (number - slot, taken.record != Position(0) && taken.record.0 < record);
            if free > 0 && (!is_before || free > *slack) {
                break;
            }
            *slack -= free;
            slot = number + 1;
        }
        slot
    }

    /// How many of the run's slots no message needs.
    fn run_slack(&self) -> u64 {
        let slots = self.run_slots();
        let taken = self.slots_from(slots.start).take_while(|(number, _)| *number < slots.end).count() as u64;
        (slots.end - slots.start).saturating_sub(self.run.count + taken)
    }

    /// Takes bodies of messages that consumers hold.
    pub fn fill_held(&mut self, messages: &[(Position, Arc<Message>)]) {
        let held = self.slots_from(0).filter(|(_, slot)| slot.held && slot.message.is_none());
        let held: Vec<(u64, Position)> = held.map(|(number, slot)| (number, slot.record)).collect();
        for (number, record) in held {
            let Ok(at) = messages.binary_search_by_key(&record, |(record, _)| *record) else { continue };
            self.memory_bytes += messages[at].1.memory_bytes();
            if let Some(slot) = self.slot_mut(number) {
                slot.message = Some(Arc::clone(&messages[at].1));
            }
        }
    }

    /// Whether the body of a held message among `records`, which ascend, is not in memory.
    pub fn lacks_held(&self, records: &[u64]) -> bool {
        let mut held = self.slots_from(0).filter(|(_, slot)| slot.held && slot.message.is_none());
        held.any(|(_, slot)| records.binary_search(&slot.record.0).is_ok())
    }

    fn fill_returned(&mut self, messages: Vec<(Position, Arc<Message>)>) {
        let near: Vec<u64> = self.returned.iter().take(2 * limits::NEAR_MESSAGES).copied().collect();
        for number in near {
            let Some(slot) = self.slot_mut(number).filter(|slot| slot.message.is_none()) else { continue };
            let Ok(at) = messages.binary_search_by_key(&slot.record, |(record, _)| *record) else { continue };
            slot.message = Some(Arc::clone(&messages[at].1));
            self.memory_bytes += messages[at].1.memory_bytes();
        }
    }

    /// Whether the log must have lost something: everything was read, and not everything has come. Nothing more is
    /// wanted of it then.
    pub fn is_missing_some(&self) -> bool {
        self.is_missing_some
    }

    /// Removes all messages that wait. `departing` are records of others that the log still has to keep, in order.
    pub fn purge(&mut self, departing: &[u64]) -> Purged {
        let mut purged = Purged { count: self.ready, ..Purged::default() };
        let ready: Vec<u64> = self.slots_from(0).filter(|(_, slot)| !slot.held).map(|(number, _)| number).collect();
        for number in ready {
            if let Some(slot) = self.remove(number)
                && slot.record != Position(0)
            {
                purged.records.push(slot.record.0);
            }
        }
        if !self.run.is_empty() {
            let (from, before) = (self.run.first, self.run.last + 1);
            let held = self.slots_from(0).map(|(_, slot)| slot.record.0);
            let mut except: Vec<u64> = held.filter(|&record| (from..before).contains(&record)).collect();
            except.extend(&self.run.except);
            except.extend(departing);
            except.sort_unstable();
            except.dedup();
            purged.records.sort_unstable();
            except.retain(|record| purged.records.binary_search(record).is_err());
            purged.except = except;
            purged.range = Some((from, before));
            self.run = Run::default();
        }
        (self.ready, self.ready_bytes) = (0, 0);
        self.timetable.clear();
        self.untimed.clear();
        self.returned.clear();
        self.cursor = self.tail;
        self.cursors_purged();
        // A reading under way is for messages that are gone.
        self.generation += 1;
        self.loading = false;
        purged
    }
}
