//! The consumers of one queue: who is asked next, and who may be asked at all.

use std::{collections::VecDeque, sync::Arc};

use super::consumer::{Attached, Consumer, ConsumerId, Role};
use crate::outlet::{ConsumerKey, Outlet};

/// The consumers of a queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    places: Vec<Option<Attached>>,
    /// Those that take every message.
    taking: usize,
    /// Those that take what passes their filters.
    selecting: usize,
    /// Those that only look.
    browsing: usize,
    /// Those that want to be the only one that gets messages.
    single: usize,
    /// Consumers whose connections do not keep up.
    pressed: usize,
    generation: u32,
    /// Consumers that may be able to take a message, in the order in which they are asked: by priority, and in turn
    /// among equals.
    ring: VecDeque<u32>,
    /// Those that only look, and may be able to see more.
    looking: Vec<u32>,
    /// Consumers that could take more than was there for them, and do not stand in the ring.
    idle: Vec<ConsumerId>,
    /// Whether there are different priorities, or have been.
    ranked: bool,
    /// The only one who gets messages, if the queue has but one at a time.
    active: Option<u32>,
    /// Whether it gets no more, because somebody else is to take over once it holds nothing.
    is_leaving: bool,
}

impl Consumers {
    pub(super) fn count(&self) -> usize {
        self.taking + self.selecting
    }

    /// How many there are, whatever they do.
    pub(super) fn attached(&self) -> usize {
        self.count() + self.browsing
    }

    pub(super) fn any_selecting(&self) -> bool {
        self.selecting > 0
    }

    /// Whether somebody who only looks may be able to see more.
    pub(super) fn any_looking(&self) -> bool {
        !self.looking.is_empty()
    }

    /// Those that only look, and may be able to see more. They are asked again when something changes for them.
    pub(super) fn take_looking(&mut self) -> Vec<u32> {
        let looking = std::mem::take(&mut self.looking);
        for index in &looking {
            if let Some(attached) = self.at(*index) {
                attached.in_ring = false;
            }
        }
        looking
    }

    /// Those that may have no more deliveries, or whose connections do not keep up, and of which nobody has been told since they
    /// could take one.
    pub(super) fn newly_slow(&mut self) -> Vec<(Arc<dyn Outlet>, ConsumerKey)> {
        let taking =
            self.places.iter_mut().flatten().filter(|one| one.role != Role::Browses && (one.held > 0 || one.pressed));
        let slow = |one: &mut Attached| {
            let is_new = !one.could_reserve() && !std::mem::replace(&mut one.is_slow, true);
            is_new.then(|| (Arc::clone(&one.consumer.outlet), one.consumer.key))
        };
        taking.filter_map(slow).collect()
    }

    /// Whether anybody takes every message.
    pub(super) fn any_taking(&self) -> bool {
        self.taking > 0
    }

    pub(super) fn any_pressed(&self) -> bool {
        self.pressed > 0
    }

    /// Whether somebody wants to be the only one that gets messages.
    pub(super) fn any_single_active(&self) -> bool {
        self.single > 0
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
    pub(super) fn add(&mut self, consumer: Consumer, role: Role) -> ConsumerId {
        let index = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if index == self.places.len() {
            self.places.push(None);
        }
        self.generation += 1;
        self.ranked |= consumer.priority != 0;
        self.single += usize::from(consumer.single_active);
        *self.counter(role) += 1;
        self.pressed += usize::from(role != Role::Browses);
        let id = ConsumerId { index: index as u32, generation: self.generation };
        self.places[index] = Some(Attached {
            id,
            consumer,
            role,
            held: 0,
            is_idle: false,
            has_browsed: false,
            in_ring: false,
            pressed: true,
            is_slow: true,
            late: Vec::new(),
        });
        id
    }

    /// Removes a consumer. Returns whether it was there.
    pub(super) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(attached) = self.get(id) else { return false };
        let (role, pressed, single) = (attached.role, attached.pressed, attached.consumer.single_active);
        self.places[id.index as usize] = None;
        *self.counter(role) -= 1;
        self.single -= usize::from(single);
        self.pressed -= usize::from(pressed && role != Role::Browses);
        self.ring.retain(|&index| index != id.index);
        self.looking.retain(|&index| index != id.index);
        if self.active == Some(id.index) {
            self.active = None;
        }
        true
    }

    /// The output of a consumer's connection is full.
    pub(super) fn press(&mut self, index: u32) {
        if let Some(attached) = self.at(index)
            && !std::mem::replace(&mut attached.pressed, true)
            && attached.role != Role::Browses
        {
            self.pressed += 1;
        }
    }

    /// A consumer can take messages again. Returns whether it is there.
    pub(super) fn release(&mut self, id: ConsumerId) -> bool {
        let Some(attached) = self.get(id) else { return false };
        attached.is_slow = false;
        let pressed = std::mem::take(&mut attached.pressed) && attached.role != Role::Browses;
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
        if attached.role == Role::Browses {
            return self.looking.push(id.index);
        }
        let priority = attached.consumer.priority;
        let place = if self.ranked { self.end_of(priority) } else { self.ring.len() };
        self.ring.insert(place, id.index);
    }

    /// Has all asked again for whom nothing was there.
    pub(super) fn stir(&mut self) {
        for id in std::mem::take(&mut self.idle) {
            if let Some(attached) = self.get(id) {
                attached.is_idle = false;
            }
            self.rejoin(id);
        }
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

    /// The next consumer in turn for which something may be reserved. Others leave the ring until something changes for
    /// them.
    pub(super) fn next_able(&mut self, single: bool) -> Option<u32> {
        if single {
            let index = self.active.filter(|_| !self.is_leaving)?;
            return self.at(index)?.could_reserve().then_some(index);
        }
        while let Some(&index) = self.ring.front() {
            if let Some(attached) = self.at(index) {
                if attached.could_reserve() {
                    return Some(index);
                }
                attached.in_ring = false;
            }
            self.ring.pop_front();
        }
        None
    }

    /// Reserves a delivery for the next consumer in turn.
    pub(super) fn reserve_next(&mut self, index: u32, single: bool) -> Option<bool> {
        let attached = self.at(index)?;
        let (counted, priority) = (attached.reserve()?, attached.consumer.priority);
        if !single {
            self.take_turns(priority);
        }
        Some(counted)
    }

    /// Nothing is there for the next consumer in turn: it leaves the ring until something may be.
    pub(super) fn rest(&mut self, index: u32) {
        if self.ring.front() == Some(&index) {
            self.ring.pop_front();
        }
        let Some(attached) = self.at(index) else { return };
        attached.in_ring = false;
        if !std::mem::replace(&mut attached.is_idle, true) {
            let id = attached.id;
            self.idle.push(id);
        }
    }

    fn counter(&mut self, role: Role) -> &mut usize {
        match role {
            Role::Browses => &mut self.browsing,
            Role::Selects => &mut self.selecting,
            Role::Takes => &mut self.taking,
        }
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
    /// come, and before all others those that want to be the only one. Who has it keeps it, unless it is late, or a higher
    /// priority `preempts` it once it holds nothing more. Returns whether somebody else has it now.
    pub(super) fn elect(&mut self, preempts: bool) -> bool {
        let rank = |one: &Attached| (one.consumer.single_active, one.consumer.priority);
        let order = |one: &&Attached| (!one.is_late(), rank(one), std::cmp::Reverse(one.id.generation));
        let best = self.iter().filter(|one| one.role != Role::Browses).max_by_key(order);
        let Some(best) = best.map(|one| (one.id.index, rank(one))) else { return false };
        let current = self.active.and_then(|index| self.places[index as usize].as_ref()).filter(|one| !one.is_late());
        let outranked = preempts && current.is_some_and(|one| rank(one) < best.1);
        self.is_leaving = outranked && current.is_some_and(|one| one.held > 0);
        if current.is_some() && (!outranked || self.is_leaving) {
            return false;
        }
        self.active = Some(best.0);
        true
    }
}
