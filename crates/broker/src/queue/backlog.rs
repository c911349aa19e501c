//! The messages of one queue, in order, each ready or held by a consumer.
//!
//! Messages stand in slots that are numbered as they arrive, so a message that comes back takes its original place.
//! Slots live in chunks; a chunk without messages is freed wherever it lies, so one old message pins one chunk.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{log::Position, message::Message};

const CHUNK_SLOTS: u64 = 64;

/// A message in a queue.
#[derive(Debug)]
pub struct Queued {
    /// The message.
    pub message: Arc<Message>,
    /// Its record in the log; position 0 if it has none.
    pub record: Position,
    /// Whether it has been handed out before.
    pub redelivered: bool,
}

#[derive(Debug)]
struct Slot {
    queued: Queued,
    held: bool,
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

/// The messages of a queue.
#[derive(Debug, Default)]
pub struct Backlog {
    chunks: VecDeque<Option<Box<Chunk>>>,
    /// Number of the first chunk in `chunks`.
    first_chunk: u64,
    /// The next free slot.
    tail: u64,
    /// Every ready slot at or after the cursor has never been held.
    cursor: u64,
    /// Ready slots before the cursor: messages that came back.
    returned: BTreeSet<u64>,
    ready: usize,
    held: usize,
    memory_bytes: usize,
    spare: Option<Box<Chunk>>,
}

impl Backlog {
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
        self.memory_bytes
    }

    /// Appends a message that waits.
    pub fn push_ready(&mut self, queued: Queued) {
        self.ready += 1;
        self.push(queued, false);
    }

    /// Appends a message that goes straight to a consumer, and returns its slot. Nothing may be ready before it.
    pub fn push_held(&mut self, queued: Queued) -> u64 {
        debug_assert_eq!(self.ready, 0, "a message never overtakes one that waits");
        self.held += 1;
        let slot = self.push(queued, true);
        self.cursor = self.tail;
        slot
    }

    fn push(&mut self, queued: Queued, held: bool) -> u64 {
        self.memory_bytes += queued.message.memory_bytes();
        let number = self.tail;
        self.tail += 1;
        if self.chunks.is_empty() {
            self.first_chunk = number / CHUNK_SLOTS;
        }
        let at = (number / CHUNK_SLOTS - self.first_chunk) as usize;
        if at == self.chunks.len() {
            self.chunks.push_back(None);
        }
        let spare = &mut self.spare;
        let chunk = self.chunks[at].get_or_insert_with(|| spare.take().unwrap_or_else(Chunk::new));
        chunk.slots[(number % CHUNK_SLOTS) as usize] = Some(Slot { queued, held });
        chunk.live += 1;
        number
    }

    /// The first ready message's slot, if there is one. Skips what was settled or purged meanwhile.
    fn next_ready(&mut self) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        if let Some(&slot) = self.returned.first() {
            return Some(slot);
        }
        while self.slot(self.cursor).is_none_or(|slot| slot.held) {
            self.cursor += 1;
        }
        Some(self.cursor)
    }

    /// Hands out the first ready message, which stays in its slot until it is settled.
    pub fn hold_next(&mut self) -> Option<(u64, &Queued)> {
        let number = self.next_ready()?;
        self.leave_ready(number);
        self.held += 1;
        let slot = self.slot_mut(number)?;
        slot.held = true;
        Some((number, &slot.queued))
    }

    /// Removes the first ready message.
    pub fn take_next(&mut self) -> Option<Queued> {
        let number = self.next_ready()?;
        self.leave_ready(number);
        self.remove(number).map(|slot| slot.queued)
    }

    fn leave_ready(&mut self, number: u64) {
        self.ready -= 1;
        if !self.returned.remove(&number) {
            self.cursor = number + 1;
        }
    }

    /// Removes a held message. Returns whether it was held.
    pub fn settle(&mut self, number: u64) -> Option<Queued> {
        if !self.slot(number).is_some_and(|slot| slot.held) {
            return None;
        }
        self.held -= 1;
        self.remove(number).map(|slot| slot.queued)
    }

    /// Puts a held message back into its place. Returns whether it was held.
    pub fn requeue(&mut self, number: u64) -> bool {
        let Some(slot) = self.slot_mut(number).filter(|slot| slot.held) else { return false };
        slot.held = false;
        slot.queued.redelivered = true;
        self.held -= 1;
        self.ready += 1;
        self.returned.insert(number);
        true
    }

    fn position(&self, number: u64) -> Option<(usize, usize)> {
        let chunk = (number / CHUNK_SLOTS).checked_sub(self.first_chunk)?;
        Some((chunk as usize, (number % CHUNK_SLOTS) as usize))
    }

    fn slot(&self, number: u64) -> Option<&Slot> {
        let (chunk, slot) = self.position(number)?;
        self.chunks.get(chunk)?.as_ref()?.slots[slot].as_ref()
    }

    fn slot_mut(&mut self, number: u64) -> Option<&mut Slot> {
        let (chunk, slot) = self.position(number)?;
        self.chunks.get_mut(chunk)?.as_mut()?.slots[slot].as_mut()
    }

    fn remove(&mut self, number: u64) -> Option<Slot> {
        let (at, slot) = self.position(number)?;
        let chunk = self.chunks.get_mut(at)?.as_mut()?;
        let removed = chunk.slots[slot].take()?;
        chunk.live -= 1;
        self.memory_bytes -= removed.queued.message.memory_bytes();
        // The chunk that the tail still grows into is kept: it is filled again at once.
        if chunk.live == 0 && number / CHUNK_SLOTS != self.tail / CHUNK_SLOTS {
            self.spare = self.chunks[at].take();
            while let Some(None) = self.chunks.front() {
                self.chunks.pop_front();
                self.first_chunk += 1;
            }
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::{MessageView, Origin},
        value::Name,
    };

    fn queued(n: u64) -> Queued {
        let view = MessageView {
            exchange: &Name::from(""),
            routing_key: "",
            origin: Origin(0),
            durable: false,
            properties: &[],
            payload: &n.to_be_bytes(),
            block: None,
        };
        Queued { message: Arc::new(Message::copy_of(&view)), record: Position(0), redelivered: false }
    }

    fn number(queued: &Queued) -> u64 {
        u64::from_be_bytes(queued.message.view().payload.try_into().unwrap())
    }

    #[test]
    fn a_requeued_message_takes_its_original_place() {
        let mut backlog = Backlog::default();
        (0..200).for_each(|n| backlog.push_ready(queued(n)));
        let held: Vec<_> = (0..150).map(|_| backlog.hold_next().unwrap().0).collect();
        for slot in [held[140], held[3], held[70]] {
            assert!(backlog.requeue(slot));
        }
        let order: Vec<_> = std::iter::from_fn(|| backlog.take_next()).map(|q| (number(&q), q.redelivered)).collect();
        assert_eq!(order[..4], [(3, true), (70, true), (140, true), (150, false)]);
        assert_eq!((order.len(), backlog.ready(), backlog.held()), (53, 0, 147));
    }

    #[test]
    fn one_old_message_pins_one_chunk() {
        let mut backlog = Backlog::default();
        backlog.push_ready(queued(0));
        let (old, _) = backlog.hold_next().unwrap();
        for n in 1..100_000 {
            let slot = backlog.push_held(queued(n));
            assert!(backlog.settle(slot).is_some());
        }
        assert!(backlog.chunks.iter().flatten().count() <= 2);
        assert!(backlog.settle(old).is_some());
        assert!(backlog.chunks.len() <= 1);
        assert_eq!(backlog.memory_bytes(), 0);
    }

    proptest::proptest! {
        #[test]
        fn behaves_like_a_sorted_list(steps in proptest::collection::vec((0u8..5, 0usize..20), 1..400)) {
            let mut backlog = Backlog::default();
            let (mut ready, mut held) = (BTreeSet::new(), Vec::new());
            let mut next = 0;
            for (step, pick) in steps {
                match step {
                    0 | 1 => {
                        backlog.push_ready(queued(next));
                        ready.insert(next);
                        next += 1;
                    }
                    2 => {
                        let expected = ready.pop_first();
                        let got = backlog.hold_next().map(|(slot, queued)| (slot, number(queued)));
                        proptest::prop_assert_eq!(got.map(|(_, n)| n), expected);
                        held.extend(got);
                    }
                    3 if pick < held.len() => {
                        let (slot, n) = held.remove(pick);
                        proptest::prop_assert!(backlog.requeue(slot));
                        ready.insert(n);
                    }
                    4 if pick < held.len() => {
                        let (slot, n) = held.remove(pick);
                        proptest::prop_assert_eq!(backlog.settle(slot).as_ref().map(number), Some(n));
                        proptest::prop_assert!(backlog.settle(slot).is_none());
                    }
                    _ => {}
                }
                proptest::prop_assert_eq!((backlog.ready(), backlog.held()), (ready.len(), held.len()));
            }
        }
    }
}
