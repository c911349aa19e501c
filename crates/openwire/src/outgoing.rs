//! A connection's output: answers and dispatches in one order, and what consumers have not acknowledged yet.
//!
//! Publishers on other connections encode their messages straight into this buffer, under its lock.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use broker::{
    Attachment, Codecs, Connection, ConsumerId as AttachedId, ConsumerKey, Credit, Delivery, Event, Name, Outlet,
    Output, Position, Pressure, QueueInfo, limits, outlet::Chunks,
};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    codec::Encoder,
    connection::ConsumerControl,
    ids::{ConsumerId, Destination},
    message::MessageDispatch,
    stored,
    structure::Structure,
    subscriptions::Numbers,
};

/// A connection's output.
#[derive(Debug, Default)]
pub struct Outgoing {
    state: Mutex<OutgoingState>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub struct OutgoingState {
    /// Bytes on their way to the client.
    pub output: Output,
    /// Writes frames.
    pub encoder: Encoder,
    /// What other protocols' properties mean.
    pub codecs: Codecs,
    /// The connection as operators see it, once its client is in.
    pub connection: Option<Arc<Connection>>,
    /// Consumers whose queue is gone, for the session to forget.
    pub cancelled: Vec<ConsumerKey>,
    /// Consumers that get nothing until the output has drained.
    pub pressed: Vec<ConsumerKey>,
    /// Messages that a consumer does not want, for the session to settle.
    pub unwanted: Vec<Settled>,
    /// Whether another connection has taken this one's place.
    pub is_evicted: bool,
    /// The broker's number of the next dispatch. Clients name messages by it.
    pub next_number: i64,
    consumers: Vec<Option<Box<ConsumerOut>>>,
}

/// A consumer's dispatches.
#[derive(Debug)]
pub struct ConsumerOut {
    id: ConsumerId<'static>,
    /// The connection whose messages it does not want.
    no_local: Option<Box<str>>,
    /// Whether a dispatch is settled by being sent.
    settles_itself: bool,
    sources: Vec<Source>,
    /// By the number of the dispatch.
    dispatched: VecDeque<Dispatched>,
    /// Dispatches that it may have and not have told of.
    pub credit: Arc<Credit>,
    /// What went through it.
    pub numbers: Arc<Numbers>,
    /// Whether it asks for each message.
    pub pulls: bool,
    /// Whether a pull is open, and a message may come for it.
    pub is_pulling: bool,
}

/// A queue that a consumer gets messages from.
#[derive(Debug)]
struct Source {
    queue: Arc<QueueInfo>,
    /// As the client knows it, if that does not depend on the message.
    destination: Option<Destination<'static>>,
    attached: Option<AttachedId>,
    /// Whether the queue is gone.
    is_gone: bool,
}

/// A message that a client has and has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The broker's number of the dispatch.
    pub number: i64,
    slot: u64,
    record: Position,
    source: u32,
    /// Whether it counts against the consumer's credit.
    pub counted: bool,
    /// Whether a transaction has acknowledged it.
    pub is_pending: bool,
    revoked: bool,
}

/// A message that is done with, with what the broker needs to know of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer that it went to.
    pub consumer: Option<AttachedId>,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether the broker has taken it back already.
    pub revoked: bool,
    /// The broker's number of its dispatch.
    pub number: i64,
}

/// The outlet's key of one of a consumer's queues.
pub fn key_of(consumer: u32, source: u32) -> ConsumerKey {
    ConsumerKey(u64::from(consumer) << 32 | u64::from(source))
}

/// The consumer and the queue of a key.
pub fn split_key(key: ConsumerKey) -> (u32, u32) {
    ((key.0 >> 32) as u32, key.0 as u32)
}

impl Outgoing {
    /// Locks the output. Never held while calling the broker.
    pub fn lock(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock()
    }
}

impl OutgoingState {
    /// Appends a command. What has no form on this connection is left out; only what a client named itself could be so.
    pub fn send<'a>(&mut self, command: &impl Structure<'a>) {
        let _ = self.encoder.encode(command, self.output.buffer());
    }

    /// Makes a place for a consumer. Returns its number.
    pub fn open(&mut self, consumer: ConsumerOut) -> u32 {
        let place = self.consumers.iter().position(Option::is_none).unwrap_or(self.consumers.len());
        if place == self.consumers.len() {
            self.consumers.push(None);
        }
        self.consumers[place] = Some(Box::new(consumer));
        place as u32
    }

    /// A consumer.
    pub fn consumer(&mut self, number: u32) -> Option<&mut ConsumerOut> {
        self.consumers.get_mut(number as usize)?.as_deref_mut()
    }

    /// A consumer ends. Returns what it had not acknowledged, in order, but for what a transaction has.
    pub fn close(&mut self, number: u32) -> Vec<Settled> {
        let closed = self.consumers.get_mut(number as usize).and_then(Option::take);
        self.cancelled.retain(|key| split_key(*key).0 != number);
        self.pressed.retain(|key| split_key(*key).0 != number);
        let Some(mut closed) = closed else { return Vec::new() };
        let dispatched = std::mem::take(&mut closed.dispatched);
        dispatched.iter().filter(|one| !one.is_pending).filter_map(|one| closed.settled(one)).collect()
    }

    /// Tells a client that a consumer's queue is gone.
    pub fn tell_cancelled(&mut self, number: u32) {
        let Some(id) = self.consumer(number).map(|consumer| consumer.id.clone()) else { return };
        self.send(&ConsumerControl { consumer_id: Some(id), close: true, ..ConsumerControl::default() });
    }

    /// Tells a consumer that there is nothing, or nothing more.
    pub fn send_nothing(&mut self, number: u32) {
        let Some(id) = self.consumer(number).map(|consumer| consumer.id.clone()) else { return };
        self.send(&MessageDispatch { consumer_id: Some(id), ..MessageDispatch::default() });
    }

    /// Messages that the client has and has not acknowledged.
    pub fn unsettled(&self) -> usize {
        self.consumers.iter().flatten().map(|consumer| consumer.dispatched.len()).sum()
    }
}

impl ConsumerOut {
    /// A consumer without queues.
    pub fn new(id: ConsumerId<'static>, no_local: Option<Box<str>>, settles_itself: bool, pulls: bool) -> Self {
        Self {
            id,
            no_local,
            settles_itself,
            sources: Vec::new(),
            dispatched: VecDeque::new(),
            credit: Arc::default(),
            numbers: Arc::default(),
            pulls,
            is_pulling: false,
        }
    }

    /// The consumer's id.
    pub fn id(&self) -> &ConsumerId<'static> {
        &self.id
    }

    /// Whether a dispatch is settled by being sent.
    pub fn settles_itself(&self) -> bool {
        self.settles_itself
    }

    /// Dispatches that count against the credit.
    pub fn counted(&self) -> u32 {
        self.dispatched.iter().filter(|one| one.counted).count() as u32
    }

    /// Adds a queue, which the consumer is not on yet. Returns its number.
    pub fn add_source(&mut self, queue: Arc<QueueInfo>, destination: Option<Destination<'static>>) -> u32 {
        let source = Source { queue, destination, attached: None, is_gone: false };
        let is_free =
            |at: &usize| self.sources[*at].is_gone && self.dispatched.iter().all(|one| one.source != *at as u32);
        match (0..self.sources.len()).find(is_free) {
            Some(place) => {
                self.sources[place] = source;
                place as u32
            }
            None => {
                self.sources.push(source);
                self.sources.len() as u32 - 1
            }
        }
    }

    /// Whether it is on a queue.
    pub fn is_on(&self, queue: &QueueInfo) -> bool {
        self.sources.iter().any(|source| !source.is_gone && source.queue.id == queue.id)
    }

    /// A queue is gone, and others are left.
    pub fn leave(&mut self, source: u32) {
        if let Some(source) = self.sources.get_mut(source as usize) {
            (source.attached, source.is_gone) = (None, true);
        }
    }

    /// The consumer is on the queue.
    pub fn attached(&mut self, source: u32, id: AttachedId) {
        if let Some(source) = self.sources.get_mut(source as usize) {
            source.attached = Some(id);
        }
    }

    /// The consumer on one of its queues, as the broker knows it.
    pub fn attachment(&self, source: u32) -> Option<Attachment> {
        let source = self.sources.get(source as usize)?;
        Some(Attachment { queue: Arc::clone(&source.queue), consumer: source.attached? })
    }

    /// The consumer on all of its queues.
    pub fn attachments(&self) -> Vec<Attachment> {
        (0..self.sources.len() as u32).filter_map(|source| self.attachment(source)).collect()
    }

    fn settled(&self, one: &Dispatched) -> Option<Settled> {
        let source = self.sources.get(one.source as usize)?;
        let Dispatched { slot, record, revoked, number, .. } = *one;
        Some(Settled { queue: Arc::clone(&source.queue), consumer: source.attached, slot, record, revoked, number })
    }

    /// The places of dispatches from one with a number, or the first, to one with another. Nothing if there is none of
    /// that number: it is of an earlier connection.
    fn range(&self, first: Option<i64>, last: i64) -> Option<std::ops::Range<usize>> {
        let end = self.dispatched.binary_search_by_key(&last, |one| one.number).ok()? + 1;
        let start = match first {
            Some(first) => self.dispatched.partition_point(|one| one.number < first),
            None => 0,
        };
        (start < end).then_some(start..end)
    }

    /// The client has these, and may be sent as many others. Returns how many that are.
    pub fn arrived(&mut self, first: Option<i64>, last: i64) -> u32 {
        let Some(range) = self.range(first, last) else { return 0 };
        let uncounted = self.dispatched.range_mut(range).map(|one| std::mem::take(&mut one.counted));
        uncounted.filter(|counted| *counted).count() as u32
    }

    /// Takes acknowledged dispatches out.
    pub fn take(&mut self, first: Option<i64>, last: i64) -> (Vec<Settled>, u32) {
        let Some(range) = self.range(first, last) else { return (Vec::new(), 0) };
        let taken: Vec<_> = self.dispatched.drain(range).collect();
        let counted = taken.iter().filter(|one| one.counted).count() as u32;
        self.numbers.count_done(taken.len());
        (taken.iter().filter(|one| !one.is_pending).filter_map(|one| self.settled(one)).collect(), counted)
    }

    /// Marks dispatches that a transaction acknowledges. They stay until it ends.
    pub fn pend(&mut self, first: Option<i64>, last: i64) -> (Vec<Settled>, u32) {
        let Some(range) = self.range(first, last) else { return (Vec::new(), 0) };
        let mut pending = Vec::new();
        let mut counted = 0;
        for one in self.dispatched.range_mut(range).filter(|one| !one.is_pending) {
            one.is_pending = true;
            counted += u32::from(std::mem::take(&mut one.counted));
            pending.push(*one);
        }
        (pending.iter().filter_map(|one| self.settled(one)).collect(), counted)
    }

    /// A transaction is over: those that it acknowledged go, or are as before.
    pub fn end_pending(&mut self, numbers: &[i64], is_committed: bool) {
        for number in numbers {
            let Ok(place) = self.dispatched.binary_search_by_key(number, |one| one.number) else { continue };
            if is_committed {
                self.dispatched.remove(place);
                self.numbers.count_done(1);
            } else {
                self.dispatched[place].is_pending = false;
            }
        }
    }
}

impl Outlet for Outgoing {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (number, source) = split_key(delivery.consumer);
        let Some(Some(consumer)) = state.consumers.get_mut(number as usize) else { return Pressure::Low };
        let Some(from) = consumer.sources.get(source as usize) else { return Pressure::Low };
        state.next_number += 1;
        let sequence = state.next_number;
        let mut message = stored::restored(delivery.message, &state.codecs, sequence);
        let (slot, record, counted) = (delivery.slot, delivery.record, delivery.counted);
        let one = Dispatched { number: sequence, slot, record, source, counted, is_pending: false, revoked: false };
        let sender = message.producer_id.as_ref().and_then(|producer| producer.connection_id.as_deref());
        if consumer.no_local.as_deref().is_some_and(|own| sender == Some(own)) {
            if !consumer.settles_itself {
                state.unwanted.extend(consumer.settled(&one));
                consumer.credit.give(counted.into());
                state.output.wake(wakes);
            }
            return Pressure::Low;
        }
        consumer.numbers.count_dispatched();
        if consumer.settles_itself {
            consumer.numbers.count_done(1);
        }
        message.jmsx_group_first_for_consumer = delivery.is_first_of_group;
        if let Some(id) = &mut message.message_id {
            id.broker_sequence_id = sequence;
        }
        if !consumer.settles_itself {
            consumer.dispatched.push_back(one);
        }
        consumer.is_pulling = false;
        let failed = delivery.failures.max(delivery.redelivered.into());
        let dispatch = MessageDispatch {
            consumer_id: Some(consumer.id.clone()),
            destination: from.destination.clone().or_else(|| message.destination.clone()),
            redelivery_counter: i32::try_from(failed).unwrap_or(i32::MAX),
            message: Some(message),
            ..MessageDispatch::default()
        };
        let _ = state.encoder.encode(&dispatch, state.output.buffer());
        if let Some(connection) = &state.connection {
            let event = if consumer.settles_itself { Event::DeliverNoAck } else { Event::Deliver };
            connection.traffic.add(event, 1);
            connection.traffic.add(Event::Redeliver, delivery.redelivered.into());
        }
        state.output.wake(wakes);
        if state.output.len() > limits::OUTPUT_BYTES_HIGH && delivery.queue.is_some() {
            state.pressed.push(delivery.consumer);
            return Pressure::High;
        }
        Pressure::Low
    }

    fn browsed(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.send_nothing(split_key(consumer).0);
        state.output.wake(wakes);
    }

    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.cancelled.push(consumer);
        state.output.wake(wakes);
    }

    fn revoked(&self, consumer: ConsumerKey, slot: u64) {
        let (number, source) = split_key(consumer);
        let mut state = self.state.lock();
        let Some(consumer) = state.consumer(number) else { return };
        if let Some(one) = consumer.dispatched.iter_mut().find(|one| one.source == source && one.slot == slot) {
            one.revoked = true;
        }
    }

    fn drain(&self, chunks: &mut Chunks, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if let Some(connection) = &state.connection {
            connection.bytes_out.add(state.output.len() as u64);
        }
        state.output.drain(chunks, waker)
    }

    fn waker(&self) -> Option<Waker> {
        self.state.lock().output.take_waker()
    }

    fn unsettled(&self, _channel: u16) -> usize {
        self.state.lock().unsettled()
    }

    fn consumer_name(&self, consumer: ConsumerKey) -> Option<(u16, Name)> {
        let (number, _) = split_key(consumer);
        self.state.lock().consumer(number).map(|consumer| (0, consumer.id.to_string().into()))
    }

    fn pending_bytes(&self) -> usize {
        self.state.lock().output.len()
    }
}
