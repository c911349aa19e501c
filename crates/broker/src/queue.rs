//! A queue: a backlog of messages and the consumers that compete for them.
//!
//! Everything here runs under the lock of the queue's [`Shard`] and never waits.

mod backlog;
mod consumer;
mod shard;

use std::{collections::VecDeque, sync::Arc, task::Waker};

use self::consumer::Attached;
pub use self::{
    backlog::{Backlog, Purged, Queued, Wanted},
    consumer::{Consumer, ConsumerId, Credit},
    shard::Shard,
};
use crate::{
    limits,
    log::{Load, Position},
    message::{Draft, Message},
    outlet::{Delivery, Pressure},
    refusal::Refusal,
    topology::{QueueId, QueueInfo},
    value::Value,
};

/// What a consumer does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done with it.
    Accept,
    /// Does not want it: it is discarded.
    Reject,
    /// Gives it back, for anybody.
    Requeue,
}

/// What work on a queue leaves to be done outside the lock.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// Records that a queue no longer holds.
    pub releases: Vec<(Position, QueueId)>,
    /// Messages without a record that came to a deep queue: the log is to have them, so that they can leave memory.
    pub late: Vec<(Arc<QueueInfo>, u64, Arc<Message>)>,
    /// What is to be read from the log.
    pub loads: Vec<Load>,
    /// Whether memory is short, so that every queue is to be taken for a deep one.
    pub tight: bool,
    /// Connections that have something to write.
    pub wakes: Vec<Waker>,
    /// Whether some queue's consumers cannot keep up with its publishers.
    pub lagging: bool,
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    info: Arc<QueueInfo>,
    backlog: Backlog,
    consumers: Vec<Option<Attached>>,
    consumer_count: usize,
    /// Consumers whose connections do not keep up.
    pressed_count: usize,
    generation: u32,
    /// Consumers that may be able to take a message, in the order in which they are asked.
    ring: VecDeque<u32>,
    /// Whether the log has ever held something for the queue that was not to be durable.
    logged: bool,
    /// Why the queue's messages cannot be read from the log.
    unreadable: Option<String>,
}

impl Queue {
    fn new(info: Arc<QueueInfo>) -> Self {
        Self {
            info,
            backlog: Backlog::default(),
            consumers: Vec::new(),
            consumer_count: 0,
            pressed_count: 0,
            generation: 0,
            ring: VecDeque::new(),
            logged: false,
            unreadable: None,
        }
    }

    /// The messages.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        self.consumer_count
    }

    /// Takes a message in: straight to a consumer if one is ready, else to the end of the backlog.
    pub fn publish(&mut self, draft: &mut Draft<'_>, record: Position, after: &mut Aftermath) {
        if self.backlog.ready() == 0
            && let Some((index, counted)) = self.reserve_consumer()
        {
            let slot = if self.settles_itself(index) {
                self.release(record, after);
                0
            } else {
                self.backlog.push_held(Queued { message: draft.share(), record, redelivered: false })
            };
            let delivery = Handout { slot, record, redelivered: false, counted };
            self.deliver(index, delivery, draft, after);
            return;
        }
        let late = record == Position(0) && (after.tight || self.backlog.is_deep());
        let slot = self.backlog.push_ready(Queued { message: draft.share(), record, redelivered: false });
        if late {
            after.late.push((Arc::clone(&self.info), slot, draft.share()));
        }
        if self.backlog.ready() > limits::LAGGING_MESSAGES && self.pressed_count > 0 {
            after.lagging = true;
        }
    }

    /// Puts back what was in the queue when the broker stopped.
    pub fn restore(&mut self, first: Position, last: Position, count: u64) {
        self.backlog.restore(first, last, count);
    }

    /// Hands out what can be handed out.
    fn pump(&mut self, after: &mut Aftermath) {
        while self.backlog.has_next()
            && let Some((index, counted)) = self.reserve_consumer()
        {
            if self.settles_itself(index) {
                let Some(queued) = self.backlog.take_next() else { return };
                self.release(queued.record, after);
                let handout = Handout { slot: 0, record: queued.record, redelivered: queued.redelivered, counted };
                self.deliver(index, handout, &Draft::owned(&queued.message), after);
            } else {
                let Some((slot, queued)) = self.backlog.hold_next() else { return };
                let handout = Handout { slot, record: queued.record, redelivered: queued.redelivered, counted };
                self.deliver(index, handout, &Draft::owned(&queued.message), after);
            }
        }
        if self.consumer_count > 0 {
            self.read_ahead(after);
        }
    }

    /// Asks the log for what consumers get next.
    fn read_ahead(&mut self, after: &mut Aftermath) {
        if let Some(wanted) = self.backlog.want() {
            let generation = self.backlog.generation();
            after.loads.push(Load { queue: Arc::clone(&self.info), wanted, generation });
        }
    }

    /// The next consumer in turn that can take a delivery, with the delivery reserved. Consumers that cannot take one
    /// leave the ring until something changes for them.
    fn reserve_consumer(&mut self) -> Option<(u32, bool)> {
        while let Some(&index) = self.ring.front() {
            if let Some(Some(attached)) = self.consumers.get_mut(index as usize) {
                if let Some(counted) = attached.reserve() {
                    if self.ring.len() > 1 {
                        self.ring.rotate_left(1);
                    }
                    return Some((index, counted));
                }
                attached.in_ring = false;
            }
            self.ring.pop_front();
        }
        None
    }

    fn settles_itself(&self, index: u32) -> bool {
        matches!(self.consumers.get(index as usize), Some(Some(attached)) if attached.consumer.settles_itself)
    }

    fn deliver(&mut self, index: u32, handout: Handout, draft: &Draft<'_>, after: &mut Aftermath) {
        let Some(Some(attached)) = self.consumers.get_mut(index as usize) else { return };
        let delivery = Delivery {
            consumer: attached.consumer.key,
            queue: Some(&self.info),
            slot: handout.slot,
            record: handout.record,
            redelivered: handout.redelivered,
            counted: handout.counted,
            message: draft.view(),
        };
        if attached.consumer.outlet.deliver(&delivery, &mut after.wakes) == Pressure::High {
            attached.pressed = true;
            self.pressed_count += 1;
        }
    }

    fn release(&self, record: Position, after: &mut Aftermath) {
        if record != Position(0) {
            after.releases.push((record, self.info.id));
        }
    }

    /// Adds a consumer, at rest: its session first has to say that it is there.
    fn attach(&mut self, consumer: Consumer) -> Result<ConsumerId, Refusal> {
        let one_at_a_time = self.info.arguments.get("x-single-active-consumer") == Some(&Value::Bool(true));
        let taken = self.consumers.iter().flatten().any(|attached| attached.consumer.exclusive);
        if taken || (consumer.exclusive && (self.consumer_count > 0 || one_at_a_time)) {
            return Err(Refusal::ExclusiveUse(self.info.resource()));
        }
        if self.consumer_count >= limits::CONSUMERS_PER_QUEUE {
            return Err(Refusal::Limit(format!("reached maximum of consumers for {}", self.info.resource())));
        }
        let index = match self.consumers.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.consumers.push(None);
                self.consumers.len() - 1
            }
        };
        self.generation += 1;
        self.consumer_count += 1;
        self.pressed_count += 1;
        let id = ConsumerId { index: index as u32, generation: self.generation };
        self.consumers[index] = Some(Attached { id, consumer, held: 0, in_ring: false, pressed: true });
        Ok(id)
    }

    fn attached(&mut self, id: ConsumerId) -> Option<&mut Attached> {
        self.consumers.get_mut(id.index as usize)?.as_mut().filter(|attached| attached.id == id)
    }

    /// Removes a consumer. What it holds stays held until it is settled. Returns whether it was there.
    fn detach(&mut self, id: ConsumerId) -> bool {
        let Some(attached) = self.attached(id) else { return false };
        self.pressed_count -= usize::from(attached.pressed);
        self.consumers[id.index as usize] = None;
        self.consumer_count -= 1;
        self.ring.retain(|&index| index != id.index);
        true
    }

    /// The consumer's connection keeps up again, or the limit that it shares was raised.
    fn resume(&mut self, id: ConsumerId, after: &mut Aftermath) {
        let Some(attached) = self.attached(id) else { return };
        self.pressed_count -= usize::from(std::mem::take(&mut attached.pressed));
        self.rejoin(id);
        self.pump(after);
    }

    fn rejoin(&mut self, id: ConsumerId) {
        if let Some(attached) = self.attached(id)
            && !attached.in_ring
        {
            attached.in_ring = true;
            self.ring.push_back(id.index);
        }
    }

    /// Settles deliveries of one consumer, or of none if they were fetched one by one.
    fn settle(&mut self, slots: &[u64], how: Settlement, consumer: Option<ConsumerId>, after: &mut Aftermath) {
        for &slot in slots {
            match how {
                Settlement::Requeue => {
                    self.backlog.requeue(slot);
                }
                Settlement::Accept | Settlement::Reject => {
                    self.backlog.settle(slot);
                }
            }
        }
        if let Some(id) = consumer
            && let Some(attached) = self.attached(id)
        {
            attached.held = attached.held.saturating_sub(slots.len() as u32);
            self.rejoin(id);
        }
        if self.backlog.ready() > 0 {
            self.pump(after);
        }
    }

    /// Takes one message without consuming: the caller holds it, or has it settled at once.
    fn fetch(&mut self, settled: bool, after: &mut Aftermath) -> Fetch {
        let fetched = if settled {
            let queued = self.backlog.take_next();
            queued.inspect(|queued| self.release(queued.record, after)).map(|queued| (0, queued))
        } else {
            self.backlog.hold_next()
        };
        self.read_ahead(after);
        match (fetched, &self.unreadable) {
            (Some((slot, queued)), _) => Fetch::Message(slot, queued),
            (None, _) if self.backlog.ready() == 0 => Fetch::Empty,
            (None, Some(problem)) => Fetch::Unreadable(problem.clone()),
            (None, None) => Fetch::Loading,
        }
    }

    /// Lets messages leave memory that the log can give again; see [`Backlog::page_out`].
    pub fn page_out(&mut self, from: Position, end: Position, members: &[u64], near: Near) -> usize {
        self.backlog.page_out(from, end, members, near)
    }

    /// Takes what was read from the log.
    pub fn loaded(
        &mut self,
        load: &Load,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        restart: Position,
        after: &mut Aftermath,
    ) {
        if !self.backlog.page_in(load.generation, messages, next, &load.wanted, restart) {
            return;
        }
        if self.backlog.is_missing_some() {
            self.cannot_read("the log does not have all of its messages".into());
        }
        self.pump(after);
    }

    /// The log cannot give what was asked for. Nothing more is asked of it: the queue rests until somebody has looked.
    pub fn cannot_read(&mut self, problem: String) {
        self.unreadable = Some(problem);
    }

    /// The log has got a message that it did not have. Returns whether that still matters.
    pub fn logged(&mut self, slot: u64, record: Position) -> bool {
        self.logged = true;
        self.backlog.set_record(slot, record)
    }

    /// Whether the log has something of the queue, or may have.
    pub fn is_logged(&self) -> bool {
        self.logged || self.info.durable
    }

    /// Removes all messages that wait.
    fn purge(&mut self) -> Purged {
        self.backlog.purge()
    }

    /// Tells every consumer that the queue is gone.
    fn cancel_consumers(&mut self, after: &mut Aftermath) {
        for attached in self.consumers.iter().flatten() {
            attached.consumer.outlet.cancelled(attached.consumer.key, &mut after.wakes);
        }
    }
}

/// One message taken without consuming.
#[derive(Debug)]
pub enum Fetch {
    /// There is none.
    Empty,
    /// Its slot, and the message.
    Message(u64, Queued),
    /// There is one, but it has to be read from the log first.
    Loading,
    /// There is one, but the log cannot give it.
    Unreadable(String),
}

/// How much at a queue's front stays in memory.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for Near {
    fn default() -> Self {
        Self { messages: limits::NEAR_MESSAGES, bytes: limits::NEAR_BYTES }
    }
}

impl Near {
    /// Nothing stays: memory is short.
    pub const NOTHING: Self = Self { messages: 0, bytes: 0 };
}

/// A delivery before it has a consumer.
#[derive(Clone, Copy)]
struct Handout {
    slot: u64,
    record: Position,
    redelivered: bool,
    counted: bool,
}
