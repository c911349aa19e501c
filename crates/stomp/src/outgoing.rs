//! A connection's output: replies and deliveries in one order, and what the client has not settled yet.
//!
//! Publishers on other connections encode their messages straight into this buffer, under its lock.

mod subscriptions;

use std::{sync::Arc, task::Waker};

use broker::{
    Codecs, Connection, ConsumerKey, Delivery, Event, Name, Outlet, Output, Pressure, Table, Value, limits,
    message::OWN, outlet::Chunks,
};
use parking_lot::{Mutex, MutexGuard};

use self::subscriptions::SubscriptionOut;
pub use self::subscriptions::{NoMessageId, Opened, Settled, Subscriptions};
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
    /// What subscriptions have and have not settled.
    pub subscriptions: Subscriptions,
}

impl Outgoing {
    /// Locks the output. Never held while calling the broker.
    pub fn lock(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock()
    }
}

impl OutgoingState {
    /// Counts something for operators.
    pub fn count(&self, event: Event, number: u64) {
        if let Some(seen) = &self.seen {
            seen.traffic.add(event, number);
        }
    }

    /// Tells the end of a subscription that only looks, as ActiveMQ does.
    fn put_end(&mut self, key: ConsumerKey) -> bool {
        let Some((subscription, destination)) = self.subscriptions.browsed(key) else { return false };
        put_end(self.output.buffer(), subscription, &destination, self.version);
        true
    }

    /// Tells the end of a subscription that only looks, and that has nothing to look at.
    pub fn put_end_of_nothing(&mut self, number: u64) {
        if let Some((subscription, destination)) = self.subscriptions.without_queues(number) {
            put_end(self.output.buffer(), subscription, destination, self.version);
        }
    }

    /// Appends a MESSAGE.
    fn put_message(&mut self, delivery: &Delivery<'_>, number: u64) {
        let Some((subscription, shown)) = self.subscriptions.of(delivery.consumer) else { return };
        let (message, version) = (delivery.message, self.version);
        let key = self.codecs.routing_key(message);
        let annotations = annotations(delivery);
        let is_dead = annotations.get("x-death").is_some();
        let out = self.output.buffer();
        out.reserve(256 + message.properties.len());
        out.extend_from_slice(b"MESSAGE\n");
        out.extend_from_slice(&subscription.header);
        // One of several queues is told whatever way the message came to it.
        let (exchange, key) = shown.map_or((&**message.exchange, &*key), |queue| ("", queue));
        put_header(out, "destination", &destination::of_routing(exchange, key), version);
        let message_id = format!("{}{number}", subscription.id_prefix);
        put_header(out, "message-id", &message_id, version);
        put_header(out, "redelivered", if delivery.redelivered { "true" } else { "false" }, version);
        if version >= Version::V12 && subscription.mode != AckMode::Auto {
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

fn put_end(out: &mut Vec<u8>, subscription: &SubscriptionOut, destination: &str, version: Version) {
    out.extend_from_slice(b"MESSAGE\n");
    out.extend_from_slice(&subscription.header);
    put_header(out, "destination", destination, version);
    put_header(out, "message-id", &format!("{}end", subscription.id_prefix), version);
    put_header(out, "browser", "end", version);
    put_body_head(out, 0);
    out.extend_from_slice(FRAME_END);
}

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

impl Outlet for Outgoing {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some((number, settles_itself)) = state.subscriptions.deliver(delivery) else { return Pressure::Low };
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
        if !state.put_end(consumer) {
            return;
        }
        state.output.wake(wakes);
    }

    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.cancelled.push(consumer);
        state.output.wake(wakes);
    }

    fn revoked(&self, consumer: ConsumerKey, slot: u64) {
        self.state.lock().subscriptions.revoke(consumer, slot);
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
        self.state.lock().subscriptions.unsettled()
    }

    fn consumer_name(&self, consumer: ConsumerKey) -> Option<(u16, Name)> {
        let state = self.state.lock();
        state.subscriptions.of(consumer).map(|(subscription, _)| (0, subscription.name.clone()))
    }

    fn pending_bytes(&self) -> usize {
        self.state.lock().output.len()
    }
}
