//! When messages are due: the time to live that a publisher gave each.
//!
//! An entry is left behind when its message goes before its time. Such entries are told from others when their time
//! comes, and swept out before they are too many.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{Backlog, Queued};
use crate::{log::Position, session::Millis};

/// Entries that may be left behind before it is worth to sweep.
const STALE_ENTRIES: usize = 4096;

/// Times, each with the number of what is due then, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timetable(BinaryHeap<Reverse<(u64, u64)>>);

impl Timetable {
    pub(super) fn add(&mut self, due: Millis, number: u64) {
        self.0.push(Reverse((due.0, number)));
    }

    pub(super) fn first(&self) -> Option<Millis> {
        self.0.peek().map(|Reverse((due, _))| Millis(*due))
    }

    /// Whether an entry must have been taken: all that come after it are left.
    pub(super) fn is_past(&self, due: Millis, number: u64) -> bool {
        self.0.peek().is_none_or(|Reverse(first)| (due.0, number) < *first)
    }

    /// The next that is due at `now`.
    fn take(&mut self, now: Millis) -> Option<(Millis, u64)> {
        if self.first()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((due, number))| (Millis(due), number))
    }

    pub(super) fn clear(&mut self) {
        self.0 = BinaryHeap::new();
    }

    fn is_crowded(&self, live: usize) -> bool {
        self.0.len() > 2 * live + STALE_ENTRIES
    }

    fn retain(&mut self, keep: impl Fn(Millis, u64) -> bool) {
        self.0.retain(|Reverse((due, number))| keep(Millis(*due), *number));
    }
}

/// A message whose own time is over.
#[derive(Debug)]
pub enum Expired {
    /// It was in memory.
    Message(Queued),
    /// It is in the log alone.
    Record(Position),
}

impl Backlog {
    /// When the first message with a time of its own is due. It may be gone by now.
    pub fn due(&self) -> Option<Millis> {
        [self.timetable.first(), self.run.timetable.first()].into_iter().flatten().min()
    }

    /// Removes a message that waits and whose own time is over, wherever it stands.
    pub fn expire(&mut self, now: Millis) -> Option<Expired> {
        while let Some((due, number)) = self.timetable.take(now) {
            if self.is_due(due, number) {
                return Some(self.remove_ready(number));
            }
        }
        while let Some((_, record)) = self.run.timetable.take(now) {
            if self.run.lose(record) {
                self.ready -= 1;
                return Some(Expired::Record(Position(record)));
            }
        }
        None
    }

    fn is_due(&self, due: Millis, number: u64) -> bool {
        self.slot(number).is_some_and(|slot| !slot.held && slot.due == Some(due))
    }

    /// Removes a message that waits.
    pub fn remove_ready(&mut self, number: u64) -> Expired {
        self.ready -= 1;
        self.returned.remove(&number);
        let record = self.slot(number).map_or(Position(0), |slot| slot.record);
        self.ready_bytes -= self.slot(number).map_or(0, |slot| u64::from(slot.bytes));
        match self.remove(number) {
            Some(super::Slot { message: Some(message), record, returns, .. }) => {
                Expired::Message(Queued { message, record, returns })
            }
            _ => Expired::Record(record),
        }
    }

    /// Sweeps out what was left behind, if that is most of the timetable.
    pub fn sweep_timetable(&mut self) {
        if self.timetable.is_crowded(self.ready - self.run.count as usize) {
            let mut timetable = std::mem::take(&mut self.timetable);
            timetable.retain(|due, number| self.is_due(due, number));
            self.timetable = timetable;
        }
        if self.run.timetable.is_crowded(self.run.count as usize) {
            let mut timetable = std::mem::take(&mut self.run.timetable);
            timetable.retain(|_, record| self.run.has(record));
            self.run.timetable = timetable;
        }
    }
}
