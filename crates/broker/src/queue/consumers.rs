//! The consumers of one queue: who is asked next, and who may be asked at all.

use std::collections::VecDeque;

use super::consumer::{Attached, Consumer, ConsumerId};

/// The consumers of a queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    places: Vec<Option<Attached>>,
    count: usize,
    /// Consumers whose connections do not keep up.
    pressed: usize,
    generation: u32,
    /// Consumers that may be able to take a message, in the order in which they are asked: by priority, and in turn
    /// among equals.
    ring: VecDeque<u32>,
    /// Whether there are different priorities, or have been.
    ranked: bool,
    /// The only one who gets messages, if the queue has but one at a time.
    active: Option<u32>,
    /// Whether it gets no more, because somebody else is to take over once it holds nothing.
    is_leaving: bool,
}

impl Consumers {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn any_pressed(&self) -> bool {
        self.pressed > 0
    }

    pub(super) fn any_exclusive(&self) -> bool {
        self.iter().any(|attached| attached.consumer.exclusive)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attached> {
        self.places.iter().flatten()
    }

    /// The places of all consumers.
    pub(super) fn indices(&self) -> Vec<u32> {
        self.iter().map(|attached| attached.id.index).collect()
    }

    /// Whether a consumer is the one that gets messages, if the queue has but one at a time.
    pub(super) fn is_active(&self, index: u32) -> bool {
        self.active == Some(index)
    }

    pub(super) fn at(&mut self, index: u32) -> Option<&mut Attached> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn get(&mut self, id: ConsumerId) -> Option<&mut Attached> {
        self.at(id.index).filter(|attached| attached.id == id)
    }

    /// Adds a consumer, at rest.
    pub(super) fn add(&mut self, consumer: Consumer) -> ConsumerId {
        let index = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(None);
        }
        self.generation += 1;
        self.count += 1;
        self.pressed += 1;
        self.ranked |= consumer.priority != 0;
        let id = ConsumerId { index: index as u32, generation: self.generation };
        self.places[index] = Some(Attached { id, consumer, held: 0, in_ring: false, pressed: true, late: Vec::new() });
        id
    }

    /// Removes a consumer. Returns whether it was there.
    pub(super) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(attached) = self.get(id) else { return false };
        let pressed = attached.pressed;
        self.pressed -= usize::from(pressed);
        self.places[id.index as usize] = None;
        self.count -= 1;
        self.ring.retain(|&index| index != id.index);
        if self.active == Some(id.index) {
            self.active = None;
        }
        true
    }

    /// The output of a consumer's connection is full.
    pub(super) fn press(&mut self, index: u32) {
        if let Some(attached) = self.at(index)
            && !std::mem::replace(&mut attached.pressed, true)
        {
            self.pressed += 1;
        }
    }

    /// A consumer can take messages again. Returns whether it is there.
    pub(super) fn release(&mut self, id: ConsumerId) -> bool {
        let Some(attached) = self.get(id) else { return false };
        let pressed = std::mem::take(&mut attached.pressed);
        self.pressed -= usize::from(pressed);
        self.rejoin(id);
        true
    }

    /// Has a consumer asked again.
    pub(super) fn rejoin(&mut self, id: ConsumerId) {
        let Some(attached) = self.get(id) else { return };
        if std::mem::replace(&mut attached.in_ring, true) {
            return;
        }
        let priority = attached.consumer.priority;
        let place = if self.ranked { self.end_of(priority) } else { self.ring.len() };
        self.ring.insert(place, id.index);
    }

    /// The place in the ring behind all that have at least this priority.
    fn end_of(&self, priority: i64) -> usize {
        let rank = |index: &u32| self.places[*index as usize].as_ref().map_or(i64::MAX, |one| one.consumer.priority);
        self.ring.partition_point(|index| rank(index) >= priority)
    }

    /// The next consumer in turn that can take a delivery, with the delivery reserved. Consumers that cannot take one
    /// leave the ring until something changes for them.
    pub(super) fn reserve(&mut self, single: bool) -> Option<(u32, bool)> {
        if single {
            let index = self.active.filter(|_| !self.is_leaving)?;
            return self.at(index)?.reserve().map(|counted| (index, counted));
        }
        while let Some(&index) = self.ring.front() {
            if let Some(attached) = self.at(index) {
                if let Some(counted) = attached.reserve() {
                    let priority = attached.consumer.priority;
                    self.take_turns(priority);
                    return Some((index, counted));
                }
                attached.in_ring = false;
            }
            self.ring.pop_front();
        }
        None
    }

    /// Puts the first of the ring behind its equals.
    fn take_turns(&mut self, priority: i64) {
        if self.ring.len() < 2 {
            return;
        }
        if !self.ranked {
            return self.ring.rotate_left(1);
        }
        let end = self.end_of(priority);
        if end > 1
            && let Some(first) = self.ring.pop_front()
        {
            self.ring.insert(end - 1, first);
        }
    }

    /// Chooses who gets messages from a queue that has one consumer at a time: the highest priority, then the first to
    /// come. Who has it keeps it, unless it is late, or a higher priority `preempts` it once it holds nothing more. Returns
    /// whether somebody else has it now.
    pub(super) fn elect(&mut self, preempts: bool) -> bool {
        let rank = |one: &&Attached| (!one.is_late(), one.consumer.priority, std::cmp::Reverse(one.id.generation));
        let best = self.iter().max_by_key(rank);
        let Some(best) = best.map(|one| (one.id.index, one.consumer.priority)) else { return false };
        let current = self.active.and_then(|index| self.places[index as usize].as_ref()).filter(|one| !one.is_late());
        let outranked = preempts && current.is_some_and(|one| one.consumer.priority < best.1);
        self.is_leaving = outranked && current.is_some_and(|one| one.held > 0);
        if current.is_some() && (!outranked || self.is_leaving) {
            return false;
        }
        self.active = Some(best.0);
        true
    }
}
