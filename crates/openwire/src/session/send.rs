//! Producers and their messages.

use std::sync::Arc;

use broker::{
    Event, Message as Kept, MessageView, Position, Refusal, Route,
    broker::Caller,
    limits,
    publish::{Batch, Body},
    schedule,
};

use super::{OpenWireSession, Outcome};
use crate::{
    ORIGIN, TOPICS,
    connection::ProducerInfo,
    ids::{Destination, DestinationKind, ProducerId},
    mapping::{Address, Exception, addresses},
    message::Message,
    sequences::Sequence,
    stored::{self, Published},
    structure::Owned,
    transaction::Ready,
};

/// Bytes that a client counts for a message besides its properties and content (ActiveMQ's `minimumMessageSize`).
const MESSAGE_BYTES: u64 = 1024;

/// Closed producers whose numbers are forgotten together: many a client opens one for each message.
const CLOSED: usize = 256;

/// A producer.
#[derive(Debug)]
pub(super) struct Producer {
    /// Bytes that it sends before it waits; 0 if it does not.
    window: i32,
    /// How far it has come, if its client comes back by itself.
    sequence: Option<Sequence>,
}

impl OpenWireSession {
    /// A new producer. One that is there already is left as it is.
    pub(super) fn add_producer(&mut self, info: &ProducerInfo<'_>) -> Result<Position, Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(Position(0)) };
        let id = info.producer_id.clone().ok_or_else(|| Exception::jms("a producer without an id"))?.into_owned();
        if self.producers.contains_key(&id) {
            return Ok(Position(0));
        }
        let mut position = Position(0);
        let mut to = Vec::new();
        if let Some(destination) = &info.destination {
            to = addresses(destination)?;
            for address in &to {
                if let Address::Queue(name) = address
                    && !address.is_pattern()
                {
                    position = position.max(self.queue_to_write(&caller, name, destination.kind)?);
                }
            }
        }
        self.announce_producer(info, &id, &to);
        let sequence = self.client.is_fault_tolerant.then(|| self.shared.sequences.come(&id));
        self.producers.insert(id, Producer { window: info.window_size, sequence });
        Ok(position)
    }

    /// Makes the queue that somebody is about to send to, if it is not there.
    fn queue_to_write(&mut self, caller: &Caller, name: &str, kind: DestinationKind) -> Result<Position, Exception> {
        match self.broker.queue(caller, name) {
            Ok(_) => Ok(Position(0)),
            // Everybody may write to a queue that one connection alone may read.
            Err(Refusal::Locked(_)) => Ok(Position(0)),
            Err(Refusal::NotFound(_)) if kind.is_temporary() => {
                Err(Exception::destination(format!("Cannot publish to a deleted Destination: temp-queue://{name}")))
            }
            Err(Refusal::NotFound(_)) => self.queue_for(caller, name, kind).map(|(_, position)| position),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes a message. If it is part of a transaction and cannot be sent, the transaction fails.
    pub(super) fn send(&mut self, message: Box<Message<'_>>, batch: &mut Batch<'_>) -> Result<Outcome, Exception> {
        let transaction = message.transaction_id.clone().map(Owned::into_owned);
        let outcome = self.message(message, batch);
        if let (Some(id), Err(exception)) = (transaction, &outcome) {
            self.fail_transaction(&id, exception);
        }
        outcome
    }

    fn message(&mut self, mut message: Box<Message<'_>>, batch: &mut Batch<'_>) -> Result<Outcome, Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(Outcome::Later) };
        let base = message.base;
        let size = message.content.as_deref().map_or(0, <[u8]>::len) as u64;
        if size > self.broker.settings.message_bytes_max {
            let max = self.broker.settings.message_bytes_max;
            return Err(Exception::jms(format!("the message has {size} bytes, of which {max} are allowed")));
        }
        // As the client counts it against its window.
        let taken = MESSAGE_BYTES + size + message.marshalled_properties.as_deref().map_or(0, <[u8]>::len) as u64;
        let destination = message.destination.clone().ok_or_else(|| Exception::destination("a message to nowhere"))?;
        if self.broker.log().congested() {
            self.is_congested = true;
        }
        let window = message.producer_id.as_ref().and_then(|id| self.window_of(id));
        let producer = message.producer_id.clone().map(Owned::into_owned);
        let transaction = message.transaction_id.take().map(Owned::into_owned);
        // A client that has lost its connection in a transaction begins that anew.
        let number = message.message_id.as_ref().map(|id| id.producer_sequence_id);
        let number = number.filter(|_| self.client.is_fault_tolerant && message.persistent && transaction.is_none());
        if let Some(position) = number.and_then(|number| self.came_before(producer.as_ref()?, number, batch)) {
            return Ok(Outcome::done(position));
        }
        let managed = self.manages_schedule(&caller, &message, batch)?;
        let messages = if managed.is_some() || self.answers_statistics(&caller, &message, batch)? {
            Vec::new()
        } else {
            let addresses = self.targets(&caller, &destination)?;
            self.copies(&caller, &mut message, &destination, &addresses, batch)?
        };
        let done = managed.unwrap_or(Position(0));
        let outcome = if let Some(id) = transaction {
            self.send_in(&id, messages)?;
            Outcome::done(done)
        } else {
            let count = messages.len();
            let is_kept = messages.iter().any(|(route, _)| route.queues.iter().any(|queue| queue.durable));
            if let Some(number) = number.filter(|_| is_kept)
                && let Some(sequence) = producer.as_ref().and_then(|id| self.sequence_of(id))
            {
                sequence.put(batch, number);
            }
            let token = if base.response_required { 1 << 32 | u64::from(base.command_id as u32) } else { 0 };
            for (route, kept) in messages {
                if !route.is_wanted() {
                    self.advise_unattended(&caller, &kept);
                }
                if token != 0 || route.leads_somewhere() {
                    batch.publish(route, Body::Owned(kept), token);
                } else {
                    route.count_lost();
                }
            }
            // Who is not waited for is done at once.
            if count == 0 { Outcome::done(done) } else { Outcome::Later }
        };
        if let (Some(producer), Some(window), false) = (producer, window, base.response_required) {
            self.apply(batch);
            self.acknowledge_producer(&producer, i32::try_from(taken).unwrap_or(window));
        }
        Ok(outcome)
    }

    fn sequence_of(&mut self, id: &ProducerId<'static>) -> Option<&mut Sequence> {
        self.producers.get_mut(id)?.sequence.as_mut()
    }

    /// Whether a message is there already, because its client sends it again: since when that is safe.
    fn came_before(&mut self, id: &ProducerId<'static>, number: i64, batch: &mut Batch<'_>) -> Option<Position> {
        self.sequence_of(id).filter(|sequence| sequence.has(number))?;
        self.apply(batch);
        let mut again = Batch::default();
        self.sequence_of(id)?.put_again(&mut again);
        Some(self.broker.apply(&mut again).position)
    }

    /// Producers are closed.
    pub(super) fn close_producers(&mut self, ids: impl IntoIterator<Item = ProducerId<'static>>) {
        for id in ids {
            self.closed.extend(self.producers.remove(&id).and_then(|producer| producer.sequence));
        }
        if self.closed.len() >= CLOSED {
            self.forget_closed();
        }
    }

    /// Who has closed a producer will send nothing again by it.
    pub(super) fn forget_closed(&mut self) {
        let mut batch = Batch::default();
        self.closed.drain(..).for_each(|sequence| sequence.forget(&mut batch));
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }

    /// The connection is gone, and its producers may come back.
    pub(super) fn leave_producers(&mut self) {
        self.forget_closed();
        let sequences = self.producers.drain().filter_map(|(_, producer)| producer.sequence);
        sequences.for_each(|sequence| self.shared.sequences.go(&self.broker, sequence));
    }

    /// The window of a producer, if it has one.
    fn window_of(&self, id: &ProducerId<'_>) -> Option<i32> {
        if self.producers.values().all(|producer| producer.window <= 0) {
            return None;
        }
        let producer = self.producers.get(&id.clone().into_owned())?;
        Some(producer.window).filter(|window| *window > 0)
    }

    /// The queues and topics that a destination names. A pattern of queues stands for those that are there.
    fn targets(&self, caller: &Caller, destination: &Destination<'_>) -> Result<Vec<Address>, Exception> {
        let named = addresses(destination)?;
        if !named.iter().any(Address::is_pattern) {
            return Ok(named);
        }
        let mut targets = Vec::new();
        for address in named {
            match &address {
                Address::Queue(pattern) if address.is_pattern() => {
                    let names = self.broker.queues_of_pattern(caller, pattern);
                    targets.extend(names.iter().map(|name| Address::Queue(name.to_string())));
                }
                Address::Topic(_) if address.is_pattern() => {
                    return Err(Exception::destination("messages cannot be sent to patterns of topics"));
                }
                _ => targets.push(address),
            }
        }
        Ok(targets)
    }

    /// The message as the broker keeps it, once for each of its targets, and its way there.
    fn copies<'a>(
        &mut self,
        caller: &Caller,
        message: &mut Message<'a>,
        destination: &Destination<'a>,
        addresses: &[Address],
        batch: &mut Batch<'_>,
    ) -> Result<Vec<Ready>, Exception> {
        let now = self.broker.now();
        (message.arrival, message.broker_in_time) = (now.0 as i64, now.0 as i64);
        message.base = crate::structure::Base::default();
        if addresses.len() > 1 {
            message.original_destination = Some(destination.clone());
        }
        let names: Vec<Destination<'static>> =
            addresses.iter().map(|address| address.destination(destination.kind)).collect();
        let mut content = message.content.take();
        let mut copies = Vec::with_capacity(addresses.len());
        for (at, address) in addresses.iter().enumerate() {
            let mut copy = message.clone();
            copy.content = if at + 1 == addresses.len() { content.take() } else { content.clone() };
            if addresses.len() > 1 {
                copy.destination = names.get(at).cloned();
            }
            let (due, durable, priority) = (stored::due(&copy), copy.persistent, copy.priority);
            let schedule = stored::schedule(&copy)?;
            let (properties, payload) = self.storer.store(&mut copy);
            let mut route = self.route(caller, address, destination.kind, &properties, batch)?;
            let mut annotations = Vec::new();
            if let Some(schedule) = schedule {
                route = Arc::new(self.broker.later(caller.vhost.name(), &route, &schedule));
                annotations = copy.message_id.map(|id| schedule::annotations(&id.to_string())).unwrap_or_default();
            }
            let view = MessageView {
                exchange: &route.exchange,
                routing_key: address.name(),
                origin: ORIGIN,
                durable,
                priority: Some(priority.clamp(0, 9) as u8),
                arrived: now,
                due,
                properties: &properties,
                annotations: &annotations,
                payload: &payload,
                block: None,
            };
            copies.push((Arc::clone(&route), Arc::new(Kept::copy_of(&view))));
        }
        if let Some(connection) = &self.connection {
            connection.traffic.add(Event::Publish, 1);
        }
        Ok(copies)
    }

    /// Where messages for an address go.
    fn route(
        &mut self,
        caller: &Caller,
        address: &Address,
        kind: DestinationKind,
        properties: &[u8],
        batch: &mut Batch<'_>,
    ) -> Result<Arc<Route>, Exception> {
        let (is_topic, name) = (matches!(address, Address::Topic(_)), address.name());
        let key = (is_topic, Box::from(name));
        let version = caller.vhost.version();
        if let Some(route) = self.routes.get(&key).filter(|route| route.version == version) {
            return Ok(Arc::clone(route));
        }
        // What was sent before comes before what this may make.
        self.apply(batch);
        let facts = Published(properties);
        let route = Arc::new(if is_topic {
            self.broker.route(caller, TOPICS, &[name], &facts)?
        } else {
            self.queue_to_write(caller, name, kind)?;
            self.broker.route_to_queue(caller, name, &facts)?
        });
        if route.reusable {
            if self.routes.len() >= limits::ROUTES_CACHED {
                self.routes.clear();
            }
            self.routes.insert(key, Arc::clone(&route));
        }
        Ok(route)
    }
}
