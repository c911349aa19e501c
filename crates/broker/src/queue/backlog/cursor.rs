//! What one reader of a backlog has seen: a consumer that wants only some of the messages, or one that only looks.
//!
//! A cursor goes once over what is in memory, slot by slot, and over the run, page by page, without taking anything out
//! that is not wanted. Of a page only what is wanted stays with the cursor. What comes back behind it is offered again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{Backlog, Queued, Returns, Slot, Wanted};
use crate::{limits, log::Position, message::Message};

/// How far a reader has come.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    place: Place,
    /// It goes no further than this slot, if it is there only to look at what was there when it came.
    end: Option<u64>,
    /// Slots of messages that came back, to be looked at although the cursor does not come by.
    again: BTreeSet<u64>,
    /// Those of them that are wanted, and whose bodies are not in the queue's memory.
    recalled: BTreeMap<u64, Arc<Message>>,
    /// What is wanted of the page of the run that was read last.
    page: VecDeque<Found>,
    /// Where that page ends.
    page_end: Place,
    asked: Option<Asked>,
    /// What was found last.
    at: Option<At>,
}

/// A place in a backlog: what is before has been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The slot; within the run, the one that the message there will have at most.
    slot: u64,
    /// The record, within the run; 0 elsewhere.
    record: u64,
}

/// A message of the run that is wanted.
#[derive(Debug)]
struct Found {
    place: Place,
    message: Arc<Message>,
    returns: Returns,
}

/// What is being read from the log.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The run from this record on.
    Page(u64),
    /// Messages that came back: records and slots, in order.
    Again(Vec<(u64, u64)>),
}

/// Where a message was found.
#[derive(Clone, Copy, Debug)]
enum At {
    Slot(u64),
    Page,
}

/// What looking for the next message comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// There is one.
    Found,
    /// Whether there is one can only be known from the log.
    Unread,
    /// There may be one: enough has been looked at for now.
    Tired,
    /// There is none.
    Nothing,
}

impl Cursor {
    fn leave_run(&mut self, slot: u64) {
        self.place = Place { slot, record: 0 };
        self.forget_page();
    }

    fn move_in_run(&mut self, place: Place) {
        self.place = place;
        self.forget_page();
    }

    fn forget_page(&mut self) {
        self.page.clear();
        self.page_end = self.place;
        self.at = None;
        if matches!(self.asked, Some(Asked::Page(_))) {
            self.asked = None;
        }
    }

    /// Memory that the bodies take which only it has.
    pub(super) fn memory_bytes(&self) -> usize {
        let bodies = self.page.iter().map(|found| &found.message).chain(self.recalled.values());
        bodies.map(|message| message.memory_bytes()).sum()
    }

    fn is_in_run(&self) -> bool {
        self.place.record != 0
    }

    /// A message came back. What only looks has looked at that place.
    fn offer(&mut self, number: u64, in_run: bool) {
        let behind = number < self.place.slot;
        if (behind && self.end.is_none()) || (!behind && in_run) {
            self.again.insert(number);
        }
    }

    /// The run has its messages in the order of their records: what was there at the beginning may stand behind what came
    /// later. All that may have been mixed is looked at.
    fn move_end(&mut self, (run_slot, last): (u64, u64), lowest: u64, before: Option<(u64, u64)>) {
        let Some(end) = self.end.as_mut().filter(|end| (run_slot + 1..=last).contains(end)) else { return };
        if before.is_none_or(|(run_last, run_end)| *end > run_end || lowest <= run_last) {
            *end = last + 1;
        }
    }

    /// It is done with what it found last. Returns that, if it is of the run.
    fn pass(&mut self) -> Option<Found> {
        match self.at.take()? {
            At::Page => {
                let found = self.page.pop_front()?;
                self.place = Place { slot: found.place.slot + 1, record: found.place.record + 1 };
                Some(found)
            }
            At::Slot(number) => {
                self.recalled.remove(&number);
                self.again.remove(&number);
                self.place.slot = self.place.slot.max(number + 1);
                None
            }
        }
    }
}

impl Backlog {
    /// Adds a reader that only looks at what is there now.
    pub fn browse(&mut self, reader: u64) {
        let cursor = Cursor { end: Some(self.tail), ..self.new_cursor() };
        self.cursors.insert(reader, cursor);
    }

    /// Forgets a reader.
    pub fn forget_reader(&mut self, reader: u64) {
        self.cursors.remove(&reader);
    }

    /// Every reader that takes messages begins again: what it has passed over may be for it after all.
    pub fn restart_readers(&mut self) {
        self.cursors.retain(|_, cursor| cursor.end.is_some());
    }

    fn new_cursor(&self) -> Cursor {
        let slot = self.returned.first().map_or(self.cursor, |first| self.cursor.min(*first));
        let again = self.returned.range(self.run_slots()).copied().collect();
        Cursor { place: Place { slot, record: 0 }, again, ..Cursor::default() }
    }

    /// The slots that the run's messages will have.
    pub(super) fn run_slots(&self) -> std::ops::Range<u64> {
        if self.run.is_empty() { 0..0 } else { self.run.slot..self.run.end_slot }
    }

    /// Looks for the next message that a reader wants. One that does not only look begins with this.
    pub fn seek(&mut self, reader: u64, wants: &dyn Fn(&Message) -> bool) -> Seek {
        let mut cursor = match self.cursors.get_mut(&reader) {
            Some(cursor) => std::mem::take(cursor),
            None => self.new_cursor(),
        };
        let mut left = limits::SCANNED_AT_ONCE;
        let seek = loop {
            if let Some(seek) = self.step(&mut cursor, wants, &mut left) {
                break seek;
            }
        };
        self.cursors.insert(reader, cursor);
        seek
    }

    fn step(&self, cursor: &mut Cursor, wants: &dyn Fn(&Message) -> bool, left: &mut usize) -> Option<Seek> {
        cursor.at = None;
        self.follow_page(cursor);
        if let Some(seek) = self.seek_again(cursor, wants, left) {
            return Some(seek);
        }
        if cursor.end.is_some_and(|end| cursor.place.slot >= end) {
            return Some(Seek::Nothing);
        }
        if !cursor.is_in_run() {
            return self.seek_in_memory(cursor, wants, left);
        }
        if !cursor.page.is_empty() {
            cursor.at = Some(At::Page);
            return Some(Seek::Found);
        }
        if cursor.place.record <= self.run.last {
            return Some(Seek::Unread);
        }
        cursor.leave_run(self.run.end_slot);
        None
    }

    /// Goes to the first message of the page that is still in the run, or to the page's end.
    fn follow_page(&self, cursor: &mut Cursor) {
        if cursor.is_in_run() && self.run.is_empty() {
            cursor.leave_run(cursor.place.slot);
        }
        if !cursor.is_in_run() {
            return;
        }
        while cursor.page.front().is_some_and(|found| !self.run.has(found.place.record)) {
            cursor.page.pop_front();
        }
        cursor.place = cursor.page.front().map_or(cursor.page_end, |found| found.place);
    }

    /// Looks at what came back behind the cursor.
    fn seek_again(&self, cursor: &mut Cursor, wants: &dyn Fn(&Message) -> bool, left: &mut usize) -> Option<Seek> {
        while let Some(number) = cursor.again.first().copied().filter(|number| *number < cursor.place.slot) {
            if *left == 0 {
                return Some(Seek::Tired);
            }
            *left -= 1;
            let message = self.slot(number).filter(|slot| !slot.held).map(|slot| &slot.message);
            let is_wanted = match message {
                Some(_) if cursor.recalled.contains_key(&number) => true,
                Some(None) => return Some(Seek::Unread),
                Some(Some(message)) => wants(message),
                None => false,
            };
            if is_wanted {
                cursor.at = Some(At::Slot(number));
                return Some(Seek::Found);
            }
            cursor.recalled.remove(&number);
            cursor.again.remove(&number);
        }
        None
    }

    fn seek_in_memory(&self, cursor: &mut Cursor, wants: &dyn Fn(&Message) -> bool, left: &mut usize) -> Option<Seek> {
        let run = self.run_slots();
        if run.contains(&cursor.place.slot) {
            cursor.move_in_run(Place { slot: run.start, record: self.run.first });
            return None;
        }
        let before_run = !run.is_empty() && cursor.place.slot < run.start;
        let end = if before_run { run.start } else { self.tail };
        for (number, slot) in self.slots_from(cursor.place.slot).take_while(|(number, _)| *number < end) {
            cursor.place.slot = number;
            if cursor.end.is_some_and(|end| number >= end) {
                return None;
            }
            if *left == 0 {
                return Some(Seek::Tired);
            }
            match &slot.message {
                _ if slot.held => {}
                Some(message) if wants(message) => {
                    cursor.at = Some(At::Slot(number));
                    return Some(Seek::Found);
                }
                Some(_) => *left -= 1,
                // It came back, and its body has to be read.
                None => {
                    cursor.again.insert(number);
                    cursor.place.slot = number + 1;
                    return None;
                }
            }
        }
        cursor.place.slot = cursor.place.slot.max(end);
        if before_run { None } else { Some(Seek::Nothing) }
    }

    /// What a reader found, to be looked at.
    pub fn copy_found(&mut self, reader: u64) -> Option<Queued> {
        let cursor = self.cursors.get(&reader)?;
        match cursor.at? {
            At::Page => cursor.page.front().map(|found| {
                let (message, record) = (Arc::clone(&found.message), Position(found.place.record));
                Queued { message, record, returns: found.returns }
            }),
            At::Slot(number) => {
                let slot = self.slot(number)?;
                let message = slot.message.as_ref().or_else(|| cursor.recalled.get(&number))?;
                Some(Queued { message: Arc::clone(message), record: slot.record, returns: slot.returns })
            }
        }
    }

    /// A reader goes on behind what it found.
    pub fn pass_found(&mut self, reader: u64) {
        if let Some(cursor) = self.cursors.get_mut(&reader) {
            cursor.pass();
        }
    }

    /// Hands out what a reader found, wherever it is; or removes it, if it is not to be `held`.
    pub fn take_found(&mut self, reader: u64, held: bool) -> Option<(u64, Queued)> {
        let cursor = self.cursors.get_mut(&reader)?;
        match cursor.at? {
            At::Page => {
                let found = cursor.pass()?;
                self.take_out(found, held)
            }
            At::Slot(number) => {
                let recalled = cursor.recalled.remove(&number);
                cursor.pass();
                if held { self.hold_at(number, recalled) } else { self.take_at(number, recalled) }
            }
        }
    }

    /// Takes a message out of the middle of the run. The slot that it gets is the place to which it may come back.
    fn take_out(&mut self, found: Found, held: bool) -> Option<(u64, Queued)> {
        let Found { place, message, returns } = found;
        let (record, bytes) = (Position(place.record), message.payload_len() as u32);
        if !self.run.take(place.record, bytes.into()) {
            return None;
        }
        self.ready -= 1;
        let untimed = self.untimed.remove(&place.record);
        let number = self.free_slot(place.slot);
        if self.run.is_empty() {
            // A reading under way is for messages that are gone.
            self.generation += 1;
            self.loading = false;
        }
        if held {
            self.held += 1;
            let due = message.traits().due.filter(|_| !untimed);
            let (kept, readable) = (self.keeps_held.then(|| Arc::clone(&message)), true);
            self.insert(number, Slot { message: kept, record, due, bytes, returns, held, readable, untimed });
        }
        Some((number, Queued { message, record, returns }))
    }

    /// After a restart: somebody still holds a message, to which no time to live applies any more. Should it come back, then to
    /// the front. Returns its slot, if it is there. Nothing may have been read from the log yet.
    pub fn restore_held(&mut self, record: Position) -> Option<u64> {
        if !self.run.take(record.0, 0) {
            return None;
        }
        self.ready -= 1;
        self.held += 1;
        let number = self.free_slot(self.run.slot);
        self.untimed.remove(&record.0);
        let (message, due, bytes) = (None, None, 0);
        let (returns, held, readable, untimed) = (Returns::NEVER, true, true, true);
        self.insert(number, Slot { message, record, due, bytes, returns, held, readable, untimed });
        Some(number)
    }

    /// A slot of the run that no message has: this one, or the next, or the one before. There are as many as messages.
    fn free_slot(&self, near: u64) -> u64 {
        let (start, end) = (self.run.slot, self.run.end_slot);
        let is_free = |number: &u64| self.slot(*number).is_none();
        let near = near.clamp(start, end);
        (near..end).find(is_free).or_else(|| (start..near).rev().find(is_free)).unwrap_or(near)
    }

    /// What a reader needs to have read from the log to find more; nothing while that is being read.
    pub fn want_for(&mut self, reader: u64) -> Option<Wanted> {
        let mut cursor = self.cursors.get_mut(&reader).map(std::mem::take)?;
        self.follow_page(&mut cursor);
        let wanted = self.wanted_by(&mut cursor);
        self.cursors.insert(reader, cursor);
        wanted
    }

    fn wanted_by(&self, cursor: &mut Cursor) -> Option<Wanted> {
        if cursor.asked.is_some() || self.is_missing_some {
            return None;
        }
        let behind = cursor.again.range(..cursor.place.slot).take(limits::NEAR_MESSAGES);
        let absent = behind.filter_map(|number| {
            let slot = self.slot(*number).filter(|slot| !slot.held && slot.message.is_none())?;
            (!cursor.recalled.contains_key(number)).then_some((slot.record.0, *number))
        });
        let mut absent: Vec<(u64, u64)> = absent.collect();
        absent.sort_unstable();
        if let (Some(&(first, _)), Some(&(last, _))) = (absent.first(), absent.last()) {
            let only = absent.iter().map(|(record, _)| *record).collect();
            cursor.asked = Some(Asked::Again(absent));
            return Some(Wanted { first: Position(first), end: Position(last + 1), only });
        }
        if !cursor.is_in_run() || self.run.is_empty() || !cursor.page.is_empty() {
            return None;
        }
        let first = cursor.place.record;
        cursor.asked = Some(Asked::Page(first));
        Some(Wanted { first: Position(first), end: Position(self.run.last + 1), only: Vec::new() })
    }

    /// Takes what was read for [`Backlog::want_for`], as [`Backlog::page_in`] does. Returns whether it was still wanted.
    pub fn scanned(
        &mut self,
        reader: u64,
        messages: &[(Position, Arc<Message>)],
        (wanted, next): (&Wanted, Position),
        restart: Position,
        wants: &dyn Fn(&Message) -> bool,
    ) -> bool {
        let Some(mut cursor) = self.cursors.get_mut(&reader).map(std::mem::take) else { return false };
        // A page without messages is the last, whatever else was expected.
        let next = if messages.is_empty() { wanted.end } else { next };
        let was_wanted = match &cursor.asked {
            Some(Asked::Page(first)) if *first == wanted.first.0 && wanted.only.is_empty() => {
                cursor.asked = None;
                self.take_page(&mut cursor, messages, next, restart, wants);
                true
            }
            Some(Asked::Again(asked)) if asked.iter().map(|(record, _)| record).eq(&wanted.only) => {
                for (record, number) in asked.iter().filter(|(record, _)| *record < next.0) {
                    let at = messages.binary_search_by_key(record, |(record, _)| record.0);
                    match at.map(|at| &messages[at].1) {
                        Ok(message) if wants(message) => drop(cursor.recalled.insert(*number, Arc::clone(message))),
                        _ => drop(cursor.again.remove(number)),
                    }
                }
                cursor.asked = None;
                true
            }
            _ => false,
        };
        self.cursors.insert(reader, cursor);
        was_wanted
    }

    fn take_page(
        &self,
        cursor: &mut Cursor,
        messages: &[(Position, Arc<Message>)],
        next: Position,
        restart: Position,
        wants: &dyn Fn(&Message) -> bool,
    ) {
        let (mut slot, mut slack) = (cursor.place.slot, u64::MAX);
        let (mut bytes, mut wanted_bytes) = (0, 0);
        for (record, message) in messages {
            bytes += message.memory_bytes();
            let due = message.traits().due.filter(|_| !self.untimed.contains(&record.0));
            if !self.run.contains(record.0, due) {
                continue;
            }
            slot = self.run_slot_for(record.0, slot, &mut slack).min(self.run.end_slot);
            let place = Place { slot, record: record.0 };
            slot += 1;
            if wants(message) {
                wanted_bytes += message.memory_bytes();
                let returns = if *record < restart { Returns::ONCE } else { Returns::NEVER };
                cursor.page.push_back(Found { place, message: Arc::clone(message), returns });
            }
        }
        if wanted_bytes < bytes / 2 {
            // The messages of a page share its memory, which few of them should not keep.
            for found in &mut cursor.page {
                found.message = Arc::new(Message::copy_of(&found.message.view()));
            }
        }
        let slot = slot.min(self.run.end_slot);
        cursor.page_end = Place { slot, record: next.0.max(cursor.place.record + 1) };
    }
}

/// What moves under the cursors.
impl Backlog {
    /// A message came back to its slot.
    pub(super) fn offer_again(&mut self, number: u64) {
        let in_run = self.run_slots().contains(&number);
        self.cursors.values_mut().for_each(|cursor| cursor.offer(number, in_run));
    }

    /// Messages of the run before `next` are in memory now: records and slots, in order.
    pub(super) fn cursors_page_in(&mut self, came: &[(u64, u64)], next: u64) {
        let run_slot = self.run.slot;
        for cursor in self.cursors.values_mut().filter(|cursor| cursor.is_in_run()) {
            if cursor.place.record < next {
                let unseen = came.partition_point(|(record, _)| *record < cursor.place.record);
                cursor.leave_run(came.get(unseen).map_or(run_slot, |(_, number)| *number));
            } else {
                cursor.place.slot = cursor.place.slot.max(run_slot);
                cursor.page_end.slot = cursor.page_end.slot.max(run_slot);
            }
        }
    }

    /// Messages are in the run from now on: slots and records, by slot, and the records in order. `before` has the last
    /// record and the end of the slots that the run had before, if there was one.
    pub(super) fn cursors_page_out(&mut self, left: &[(u64, u64)], records: &[u64], before: Option<(u64, u64)>) {
        let (Some(&(first, _)), Some(&(last, _)), Some(&lowest)) = (left.first(), left.last(), records.first()) else {
            return;
        };
        let from = before.map_or(first, |(_, end)| end);
        let stay: Vec<u64> = self.returned.range(from..=last).copied().collect();
        let run_slot = self.run.slot;
        for cursor in self.cursors.values_mut() {
            if before.is_none() && cursor.is_in_run() {
                cursor.leave_run(cursor.place.slot);
            }
            cursor.move_end((run_slot, last), lowest, before);
            cursor.again.extend(stay.iter().filter(|number| **number >= cursor.place.slot));
            if cursor.is_in_run() {
                // What came late may lie before what has been read.
                if lowest < cursor.place.record {
                    cursor.move_in_run(Place { slot: run_slot, record: lowest });
                } else if before.is_some_and(|(run_last, _)| lowest <= run_last) {
                    cursor.move_in_run(cursor.place);
                }
                continue;
            }
            // Who has not come to the run goes into it by its start.
            let enters = before.map_or(cursor.place.slot <= first, |(_, end)| cursor.place.slot < end);
            if enters || cursor.place.slot > last {
                continue;
            }
            let unseen = left.iter().filter(|(number, _)| *number >= cursor.place.slot).map(|(_, record)| *record);
            if let Some(record) = unseen.min() {
                let rank = records.partition_point(|other| *other < record);
                cursor.move_in_run(Place { slot: left[rank].0, record });
            }
        }
    }

    /// All that waited is gone.
    pub(super) fn cursors_purged(&mut self) {
        let tail = self.tail;
        for cursor in self.cursors.values_mut() {
            cursor.leave_run(tail);
            cursor.again.clear();
            cursor.recalled.clear();
            cursor.asked = None;
        }
    }
}
