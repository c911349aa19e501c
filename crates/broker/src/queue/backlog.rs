//! The messages of one queue, in order, each ready or held by a consumer.
//!
//! Messages stand in slots that are numbered as they arrive, so a message that comes back takes its original place.
//! Slots live in chunks; a chunk without messages is freed wherever it lies, so one old message pins one chunk.
//!
//! What lies deep in a queue is not in memory but in the log alone: a [`Run`] stands for it between two slot numbers,
//! however long it is. It comes back page by page as consumers get nearer. Who wants only some of the messages has a
//! [`Cursor`], and takes them from wherever they are.

mod cursor;
mod records;
mod run;
mod timetable;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::{cursor::Cursor, run::Run, timetable::Timetable};
pub use self::{cursor::Seek, run::Purged, timetable::Expired};
use crate::{limits, log::Position, message::Message, session::Millis};

const CHUNK_SLOTS: u64 = 64;

/// Slots of one priority. The priority stands in a slot number's highest byte.
const PRIORITY_SHIFT: u32 = 56;

/// The priority of the backlog that a slot is in.
pub fn priority_of(slot: u64) -> u8 {
    (slot >> PRIORITY_SHIFT) as u8
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message.
    pub message: Arc<Message>,
    /// Its record in the log; position 0 if it has none.
    pub record: Position,
    /// How often it came back.
    pub returns: Returns,
}

/// How often a message came back from consumers, as far as the queue's memory goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returns(u8);

impl Returns {
    /// It has not been handed out, as far as anybody knows.
    pub const NEVER: Self = Self(0);
    /// It may have been handed out.
    pub const ONCE: Self = Self(1);

    /// Whether it may have been delivered before.
    pub fn any(self) -> bool {
        self.0 > 0
    }

    /// How often that failed. No more than so many are counted.
    pub fn failed(self) -> u8 {
        self.0.saturating_sub(1)
    }

    fn again(self) -> Self {
        Self(self.0.max(1))
    }

    fn failed_again(self) -> Self {
        Self(self.again().0.saturating_add(1))
    }
}

#[derive(Debug)]
struct Slot {
    /// Nothing if it is in the log alone, to be read again if it comes back.
    message: Option<Arc<Message>>,
    record: Position,
    /// When its own time is over, which is known also of what is in the log alone.
    due: Option<Millis>,
    /// Bytes of its body.
    bytes: u32,
    returns: Returns,
    held: bool,
    /// Whether the log can give it again.
    readable: bool,
    /// Whether no time to live applies to it.
    untimed: bool,
}

#[derive(Debug)]
struct Chunk {
    slots: [Option<Slot>; CHUNK_SLOTS as usize],
    live: usize,
}

impl Chunk {
    fn new() -> Box<Self> {
        Box::new(Self { slots: [const { None }; CHUNK_SLOTS as usize], live: 0 })
    }
}

/// What a queue wants to have read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first record.
    pub first: Position,
    /// One past the last record.
    pub end: Position,
    /// Only these records, in order; all if there are none.
    pub only: Vec<u64>,
}

/// The messages of a queue.
#[derive(Debug, Default)]
pub struct Backlog {
    chunks: BTreeMap<u64, Box<Chunk>>,
    /// The next free slot.
    tail: u64,
    /// No ready slot is before the cursor but for those that came back.
    cursor: u64,
    /// Ready slots of messages that came back. Those among the run's slots are before what is still to be read.
    returned: BTreeSet<u64>,
    /// How far those have come that do not take every message, by reader.
    cursors: BTreeMap<u64, Cursor>,
    ready: usize,
    /// Bytes of the bodies that wait in memory.
    ready_bytes: u64,
    held: usize,
    memory_bytes: usize,
    /// When messages that wait in memory are due, by slot.
    timetable: Timetable,
    spare: Option<Box<Chunk>>,
    run: Run,
    /// Records in the run to which no time to live applies.
    untimed: BTreeSet<u64>,
    /// Whether something is being read from the log.
    loading: bool,
    /// Counts what makes a reading under way worthless.
    generation: u64,
    is_missing_some: bool,
    /// Whether bodies of held messages stay in memory, though the log has them.
    pub keeps_held: bool,
}

impl Backlog {
    /// A backlog of messages of one priority.
    pub fn new(priority: u8) -> Self {
        let first = u64::from(priority) << PRIORITY_SHIFT;
        Self { tail: first, cursor: first, ..Self::default() }
    }

    /// Bytes of the bodies that wait, as far as they are known: what an earlier run of the broker left is not counted
    /// before it has been looked at.
    pub fn ready_bytes(&self) -> u64 {
        self.ready_bytes + self.run.bytes
    }

    /// Messages that wait for a consumer.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// Messages that consumers hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Memory that the messages take.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes + self.cursors.values().map(Cursor::memory_bytes).sum::<usize>()
    }

    /// Whether what comes to the end now will not be wanted soon, so that it may have to leave memory.
    pub fn is_deep(&self) -> bool {
        !self.run.is_empty() || self.ready > limits::DEEP_MESSAGES || self.memory_bytes > limits::DEEP_BYTES
    }

    /// Appends a message that waits, and returns its slot.
    pub fn push_ready(&mut self, queued: Queued) -> u64 {
        self.ready += 1;
        self.ready_bytes += queued.message.payload_len() as u64;
        if let Some(due) = queued.message.traits().due {
            self.timetable.add(due, self.tail);
        }
        self.push(queued, false)
    }

    /// Appends a message that goes straight to a consumer, and returns its slot. Nothing may be ready before it.
    pub fn push_held(&mut self, queued: Queued) -> u64 {
        debug_assert_eq!(self.ready, 0, "a message never overtakes one that waits");
        self.held += 1;
        let slot = self.push(queued, true);
        self.cursor = self.tail;
        slot
    }

    /// A message that had no record has got one. Returns whether it still waits: who holds it knows it without.
    pub fn set_record(&mut self, number: u64, record: Position) -> bool {
        let Some(slot) = self.slot_mut(number).filter(|slot| !slot.held && slot.record == Position(0)) else {
            return false;
        };
        slot.record = record;
        true
    }

    fn push(&mut self, queued: Queued, held: bool) -> u64 {
        let number = self.tail;
        self.tail += 1;
        let Queued { message, record, returns } = queued;
        let (due, bytes) = (message.traits().due, message.payload_len() as u32);
        let (message, readable, untimed) = (Some(message), false, false);
        self.insert(number, Slot { message, record, due, bytes, returns, held, readable, untimed });
        number
    }

    fn insert(&mut self, number: u64, slot: Slot) {
        self.memory_bytes += slot.message.as_ref().map_or(0, |message| message.memory_bytes());
        let spare = &mut self.spare;
        let chunk = self.chunks.entry(number / CHUNK_SLOTS);
        let chunk = chunk.or_insert_with(|| spare.take().unwrap_or_else(Chunk::new));
        chunk.slots[(number % CHUNK_SLOTS) as usize] = Some(slot);
        chunk.live += 1;
    }

    /// The first ready message's slot, if there is one and it is in memory. Skips what was settled meanwhile.
    fn next_ready(&mut self) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        let end = self.memory_end();
        let returned = self.returned.first().copied().unwrap_or(u64::MAX);
        if returned > self.cursor && !self.is_ready(self.cursor) {
            let slots = self.slots_from(self.cursor).take_while(|(number, _)| *number < end);
            let next = slots.filter(|(_, slot)| !slot.held).map(|(number, _)| number).next();
            self.cursor = next.unwrap_or(end.min(self.tail));
        }
        let number = self.cursor.min(returned);
        self.slot(number).filter(|slot| number < end && slot.message.is_some()).map(|_| number)
    }

    /// The slot at which the messages in memory end that stand before the run.
    fn memory_end(&self) -> u64 {
        if self.run.is_empty() { u64::MAX } else { self.run.slot }
    }

    /// The first ready message, if it is in memory.
    pub fn next_message(&mut self) -> Option<&Arc<Message>> {
        let number = self.next_ready()?;
        self.slot(number)?.message.as_ref()
    }

    /// Whether the first ready message is in memory.
    pub fn has_next(&mut self) -> bool {
        self.next_ready().is_some()
    }

    /// Hands out the first ready message, which keeps its slot until it is settled.
    pub fn hold_next(&mut self) -> Option<(u64, Queued)> {
        let number = self.next_ready()?;
        self.hold_at(number, None)
    }

    /// Hands out a ready message, whose body may have been read apart.
    fn hold_at(&mut self, number: u64, read: Option<Arc<Message>>) -> Option<(u64, Queued)> {
        let keeps_held = self.keeps_held;
        let slot = self.slot_mut(number).filter(|slot| !slot.held)?;
        let message = slot.message.clone().or(read)?;
        slot.held = true;
        let queued = Queued { message, record: slot.record, returns: slot.returns };
        if slot.readable && !keeps_held {
            // Who holds it has it; should it come back, the log has it too.
            let forgotten = slot.message.take();
            self.memory_bytes -= forgotten.map_or(0, |message| message.memory_bytes());
        }
        self.leave_ready(number);
        self.held += 1;
        Some((number, queued))
    }

    /// Removes the first ready message.
    pub fn take_next(&mut self) -> Option<(u64, Queued)> {
        let number = self.next_ready()?;
        self.take_at(number, None)
    }

    fn take_at(&mut self, number: u64, read: Option<Arc<Message>>) -> Option<(u64, Queued)> {
        self.slot(number).filter(|slot| !slot.held)?;
        self.leave_ready(number);
        let Slot { message, record, returns, .. } = self.remove(number)?;
        Some((number, Queued { message: message.or(read)?, record, returns }))
    }

    /// Whether a message still waits in its slot.
    pub fn is_ready(&self, number: u64) -> bool {
        self.slot(number).is_some_and(|slot| !slot.held)
    }

    fn leave_ready(&mut self, number: u64) {
        self.ready -= 1;
        self.ready_bytes -= self.slot(number).map_or(0, |slot| u64::from(slot.bytes));
        self.returned.remove(&number);
        if number == self.cursor {
            self.cursor = number + 1;
        }
    }

    /// The first ready message to which a time to live applies, and its slot, if it is in memory.
    pub fn next_timed(&self) -> Option<(u64, &Arc<Message>)> {
        let is_timed = |(_, slot): &(u64, &Slot)| !slot.held && !slot.untimed;
        let mut returned = self.returned.iter().filter_map(|number| Some((*number, self.slot(*number)?)));
        let mut others = self.slots_from(self.cursor).take_while(|(number, _)| *number < self.memory_end());
        let firsts = returned.find(is_timed).into_iter().chain(others.find(is_timed));
        let (number, slot) = firsts.min_by_key(|(number, _)| *number)?;
        Some((number, slot.message.as_ref()?))
    }

    /// The records of all that consumers hold.
    pub fn held_records(&self) -> impl Iterator<Item = u64> {
        self.slots_from(0).filter(|(_, slot)| slot.held).map(|(_, slot)| slot.record.0)
    }

    /// Whether a record may be among those that a restart has left.
    pub fn may_hold(&self, record: Position) -> bool {
        self.run.has(record.0)
    }

    /// A held message's record, and the message if it is in memory.
    pub fn held_at(&self, number: u64) -> Option<(Position, Option<Arc<Message>>)> {
        let slot = self.slot(number).filter(|slot| slot.held)?;
        Some((slot.record, slot.message.clone()))
    }

    /// Removes a held message. Returns whether it was held.
    pub fn settle(&mut self, number: u64) -> bool {
        let held = self.slot(number).is_some_and(|slot| slot.held);
        if held {
            self.held -= 1;
            self.remove(number);
        }
        held
    }

    /// From now on no time to live applies to a held message.
    pub fn untime(&mut self, number: u64) {
        if let Some(slot) = self.slot_mut(number).filter(|slot| slot.held) {
            (slot.due, slot.untimed) = (None, true);
        }
    }

    /// Puts a held message back into its place, perhaps after a failed attempt. Returns whether it was held.
    pub fn requeue(&mut self, number: u64, failed: bool) -> bool {
        self.return_to_place(number, if failed { Returns::failed_again } else { Returns::again })
    }

    /// Puts a held message back as if it had not been handed out. Returns whether it was held.
    pub fn release(&mut self, number: u64) -> bool {
        self.return_to_place(number, |returns| returns)
    }

    fn return_to_place(&mut self, number: u64, count: fn(Returns) -> Returns) -> bool {
        let Some(slot) = self.slot_mut(number).filter(|slot| slot.held) else { return false };
        slot.held = false;
        slot.returns = count(slot.returns);
        let (bytes, due) = (slot.bytes, slot.due);
        self.held -= 1;
        self.ready += 1;
        self.ready_bytes += u64::from(bytes);
        self.returned.insert(number);
        self.offer_again(number);
        if let Some(due) = due {
            self.timetable.add(due, number);
        }
        true
    }

    fn slot(&self, number: u64) -> Option<&Slot> {
        self.chunks.get(&(number / CHUNK_SLOTS))?.slots[(number % CHUNK_SLOTS) as usize].as_ref()
    }

    fn slot_mut(&mut self, number: u64) -> Option<&mut Slot> {
        self.chunks.get_mut(&(number / CHUNK_SLOTS))?.slots[(number % CHUNK_SLOTS) as usize].as_mut()
    }

    /// All slots with something in them from a number on, in order.
    fn slots_from(&self, first: u64) -> impl Iterator<Item = (u64, &Slot)> {
        let chunks = self.chunks.range(first / CHUNK_SLOTS..);
        let slots = chunks.flat_map(|(number, chunk)| {
            let slots = chunk.slots.iter().enumerate();
            slots.filter_map(move |(at, slot)| Some((number * CHUNK_SLOTS + at as u64, slot.as_ref()?)))
        });
        slots.skip_while(move |(number, _)| *number < first)
    }

    fn remove(&mut self, number: u64) -> Option<Slot> {
        let key = number / CHUNK_SLOTS;
        let chunk = self.chunks.get_mut(&key)?;
        let removed = chunk.slots[(number % CHUNK_SLOTS) as usize].take()?;
        chunk.live -= 1;
        self.memory_bytes -= removed.message.as_ref().map_or(0, |message| message.memory_bytes());
        // The chunk that the tail still grows into is kept: it is filled again at once.
        if chunk.live == 0 && key != self.tail / CHUNK_SLOTS {
            self.spare = self.chunks.remove(&key);
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests;
