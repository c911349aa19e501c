//! A connection's output: replies and deliveries in one order, and what the client has not settled yet.
//!
//! Publishers on other connections encode their messages straight into this buffer, under its lock.

use std::{collections::BTreeMap, sync::Arc, task::Waker};

use broker::{
    Attachment, Codecs, Connection, ConsumerId, ConsumerKey, Delivery, Event, Name, Outlet, Output, Position, Pressure,
    QueueInfo, Table, Value, limits, message::OWN, outlet::Chunks,
};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    ORIGIN, destination,
    message::HeaderWriter,
    wire::{FRAME_END, Version, put_body_head, put_header},
};

/// How a subscription acknowledges (section "SUBSCRIBE ack Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// What is sent is settled.
    Auto,
    /// An acknowledgement settles all that was sent to the subscription before.
    Client,
    /// It settles one message.
    ClientIndividual,
}

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
    /// What the client speaks.
    pub version: Version,
    /// Whether a body without a length is text to the client and any other is not, as ActiveMQ's clients have it.
    pub tells_text: bool,
    /// The session's name, which is a part of each message id.
    pub session: String,
    /// Subscriptions whose queue is gone, for the session to tell the client.
    pub cancelled: Vec<ConsumerKey>,
    /// Subscriptions that get nothing until the output has drained.
    pub pressed: Vec<ConsumerKey>,
    /// What other protocols' properties mean.
    pub codecs: Codecs,
    /// The connection as operators see it, once its client is in.
    pub seen: Option<Arc<Connection>>,
    last_source: u64,
    last_delivery: u64,
    sources: BTreeMap<u64, Source>,
}

/// A subscription as its deliveries see it.
#[derive(Debug)]
struct Source {
    /// What stands before the numbers in its message ids: RabbitMQ's name for it, and the session's.
    id_prefix: String,
    /// What the client calls it, if it does, as a line of headers.
    subscription: Vec<u8>,
    /// What operators see.
    name: Name,
    mode: AckMode,
    queue: Arc<QueueInfo>,
    consumer: Option<ConsumerId>,
    unsettled: BTreeMap<u64, Unsettled>,
    /// Whether more can come. A closed source stays while something of it is unsettled.
    is_open: bool,
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    slot: u64,
    record: Position,
    /// Whether it was taken back because it was not settled in time.
    revoked: bool,
}

/// A settled delivery, with what the broker needs to know of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer that it went to.
    pub consumer: Option<ConsumerId>,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether the broker has taken it back already.
    pub revoked: bool,
    /// Whose it was, and its number there, to be put back by an abort.
    source: u64,
    delivery: u64,
}

/// What a new subscription is.
#[derive(Debug)]
pub struct Opened<'a> {
    /// What the client calls it, or the destination if it does not.
    pub id: &'a str,
    /// Whether the client has named it: then its messages say so.
    pub has_id: bool,
    /// How it acknowledges.
    pub mode: AckMode,
    /// Its queue.
    pub queue: &'a Arc<QueueInfo>,
}

impl Outgoing {
    /// Locks the output. Never held while calling the broker.
    pub fn lock(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock()
    }
}

impl OutgoingState {
    /// A subscription begins, which is not on its queue yet. Returns its number.
    pub fn open(&mut self, opened: &Opened<'_>) -> u64 {
        self.last_source += 1;
        // RabbitMQ's tags: one kind for subscriptions with an id, another for those without.
        let tag = if opened.has_id { "T_" } else { "Q_" };
        let mut subscription = Vec::new();
        if opened.has_id {
            put_header(&mut subscription, "subscription", opened.id, self.version);
        }
        let source = Source {
            id_prefix: format!("{tag}{}@@{}@@{}-", opened.id, self.session, self.last_source),
            subscription,
            name: format!("{tag}{}", opened.id).into(),
            mode: opened.mode,
            queue: Arc::clone(opened.queue),
            consumer: None,
            unsettled: BTreeMap::new(),
            is_open: true,
        };
        self.sources.insert(self.last_source, source);
        self.last_source
    }

    /// The subscription is on its queue.
    pub fn attached(&mut self, source: u64, consumer: ConsumerId) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.consumer = Some(consumer);
        }
    }

    /// A subscription ends. What it has not settled stays, and can still be.
    pub fn close(&mut self, source: u64) {
        if let Some(closed) = self.sources.get_mut(&source) {
            closed.is_open = false;
        }
        self.free(source);
    }

    fn free(&mut self, source: u64) {
        if self.sources.get(&source).is_some_and(|source| !source.is_open && source.unsettled.is_empty()) {
            self.sources.remove(&source);
        }
    }

    /// A subscription as the broker knows it.
    pub fn attachment(&self, source: u64) -> Option<Attachment> {
        let source = self.sources.get(&source)?;
        Some(Attachment { queue: Arc::clone(&source.queue), consumer: source.consumer? })
    }

    /// Takes what a message id settles: one message, or all of its subscription up to it. Nothing if there is none such.
    ///
    /// # Errors
    /// If it is no message id of this broker.
    pub fn settle(&mut self, message_id: &str) -> Result<Option<Vec<Settled>>, NoMessageId> {
        let (_, numbers) = message_id.rsplit_once("@@").ok_or(NoMessageId)?;
        let (source, delivery) = numbers.split_once('-').ok_or(NoMessageId)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoMessageId);
        let (number, delivery) = (number(source)?, number(delivery)?);
        let Some(source) = self.sources.get_mut(&number) else { return Ok(None) };
        if message_id.strip_prefix(&*source.id_prefix).is_none() || !source.unsettled.contains_key(&delivery) {
            return Ok(None);
        }
        let taken = match source.mode {
            AckMode::Client => {
                let later = source.unsettled.split_off(&(delivery + 1));
                std::mem::replace(&mut source.unsettled, later)
            }
            _ => source.unsettled.remove_entry(&delivery).into_iter().collect(),
        };
        let settled = taken.into_iter().map(|(delivery, one)| source.settled(number, delivery, one)).collect();
        self.free(number);
        Ok(Some(settled))
    }

    /// Takes everything that is unsettled.
    pub fn settle_all(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        for (number, source) in &mut self.sources {
            let taken = std::mem::take(&mut source.unsettled);
            settled.extend(taken.into_iter().map(|(delivery, one)| source.settled(*number, delivery, one)));
        }
        self.sources.retain(|_, source| source.is_open);
        settled
    }

    /// Puts back deliveries that a transaction had settled. Those whose subscription is gone since are returned.
    pub fn unsettle(&mut self, settled: Vec<Settled>) -> Vec<Settled> {
        let mut left = Vec::new();
        for one in settled {
            match self.sources.get_mut(&one.source) {
                Some(source) => {
                    let unsettled = Unsettled { slot: one.slot, record: one.record, revoked: one.revoked };
                    source.unsettled.insert(one.delivery, unsettled);
                }
                None => left.push(one),
            }
        }
        left
    }

    /// Counts something for operators.
    pub fn count(&self, event: Event, number: u64) {
        if let Some(seen) = &self.seen {
            seen.traffic.add(event, number);
        }
    }

    /// Appends a MESSAGE.
    fn put_message(&mut self, delivery: &Delivery<'_>, number: u64) {
        let Some(source) = self.sources.get(&delivery.consumer.0) else { return };
        let (message, version) = (delivery.message, self.version);
        let key = self.codecs.routing_key(message);
        let annotations = annotations(delivery);
        let is_dead = annotations.get("x-death").is_some();
        let out = self.output.buffer();
        out.reserve(256 + message.properties.len());
        out.extend_from_slice(b"MESSAGE\n");
        out.extend_from_slice(&source.subscription);
        put_header(out, "destination", &destination::of_routing(message.exchange, &key), version);
        let message_id = format!("{}{number}", source.id_prefix);
        put_header(out, "message-id", &message_id, version);
        put_header(out, "redelivered", if delivery.redelivered { "true" } else { "false" }, version);
        if version >= Version::V12 && source.mode != AckMode::Auto {
            put_header(out, "ack", &message_id, version);
        }
        let mut writer = HeaderWriter::new(out, version);
        writer.annotations(&annotations, message.origin == OWN);
        if message.origin == ORIGIN {
            writer.own(message, is_dead);
        } else if message.origin != OWN {
            let codec = self.codecs.of(message.origin);
            let mut table = codec.map_or_else(Table::default, |codec| codec.table(message.properties));
            if let (None, Some(due)) = (table.get("expiration"), message.due) {
                table.push("expiration", (&*due.0.saturating_sub(message.arrived.0).to_string()).into());
            }
            writer.others(&table, is_dead);
        }
        let is_text = self.tells_text
            && self.codecs.of(message.origin).is_some_and(|codec| codec.is_text(message.properties))
            && !message.payload.contains(&0);
        put_body_head(out, if is_text { 0 } else { message.payload.len() });
        self.output.payload(message.payload, message.block);
        self.output.buffer().extend_from_slice(FRAME_END);
    }
}

/// What is no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessageId;

/// What the broker adds to a message: its own headers are all of it, if the broker has published it.
fn annotations(delivery: &Delivery<'_>) -> Table {
    let mut annotations = delivery.message.annotation_table();
    let failed = delivery.attempts.failed;
    if failed > 0 {
        annotations.push("x-delivery-count", Value::I64(failed.into()));
    }
    if let Some(offset) = delivery.offset {
        annotations.push("x-stream-offset", Value::I64(offset as i64));
    }
    annotations
}

impl Source {
    fn settled(&self, source: u64, delivery: u64, one: Unsettled) -> Settled {
        let Unsettled { slot, record, revoked } = one;
        let (queue, consumer) = (Arc::clone(&self.queue), self.consumer);
        Settled { queue, consumer, slot, record, revoked, source, delivery }
    }
}

impl Outlet for Outgoing {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.last_delivery += 1;
        let number = state.last_delivery;
        let Some(source) = state.sources.get_mut(&delivery.consumer.0) else { return Pressure::Low };
        let settles_itself = source.mode == AckMode::Auto;
        if !settles_itself {
            let unsettled = Unsettled { slot: delivery.slot, record: delivery.record, revoked: false };
            source.unsettled.insert(number, unsettled);
        }
        state.count(if settles_itself { Event::DeliverNoAck } else { Event::Deliver }, 1);
        state.count(Event::Redeliver, delivery.redelivered.into());
        state.put_message(delivery, number);
        state.output.wake(wakes);
        if state.output.len() > limits::OUTPUT_BYTES_HIGH && delivery.queue.is_some() {
            state.pressed.push(delivery.consumer);
            return Pressure::High;
        }
        Pressure::Low
    }

    fn browsed(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(source) = state.sources.get(&consumer.0) else { return };
        // As ActiveMQ tells the end.
        let out = state.output.buffer();
        out.extend_from_slice(b"MESSAGE\n");
        out.extend_from_slice(&source.subscription);
        let destination = destination::of_routing("", &source.queue.name);
        put_header(out, "destination", &destination, state.version);
        put_header(out, "message-id", &format!("{}end", source.id_prefix), state.version);
        put_header(out, "browser", "end", state.version);
        put_body_head(out, 0);
        out.extend_from_slice(FRAME_END);
        state.output.wake(wakes);
    }

    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.cancelled.push(consumer);
        state.output.wake(wakes);
    }

    fn revoked(&self, consumer: ConsumerKey, slot: u64) {
        let mut state = self.state.lock();
        let Some(source) = state.sources.get_mut(&consumer.0) else { return };
        if let Some(unsettled) = source.unsettled.values_mut().find(|one| one.slot == slot) {
            unsettled.revoked = true;
        }
    }

    fn drain(&self, chunks: &mut Chunks, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if let Some(seen) = &state.seen {
            seen.bytes_out.add(state.output.len() as u64);
        }
        state.output.drain(chunks, waker)
    }

    fn waker(&self) -> Option<Waker> {
        self.state.lock().output.take_waker()
    }

    fn unsettled(&self, _channel: u16) -> usize {
        self.state.lock().sources.values().map(|source| source.unsettled.len()).sum()
    }

    fn consumer_name(&self, consumer: ConsumerKey) -> Option<(u16, Name)> {
        let state = self.state.lock();
        state.sources.get(&consumer.0).map(|source| (0, source.name.clone()))
    }

    fn pending_bytes(&self) -> usize {
        self.state.lock().output.len()
    }
}
