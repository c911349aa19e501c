//! What happens in the broker, told to whoever binds a queue to `amq.rabbitmq.event`, as by RabbitMQ's plugin of that
//! name: the routing key says what, the headers say of whom.
//!
//! Events are gathered wherever they happen, and published by the timer, which holds no lock. While nobody has bound
//! anything, there are none.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    limits,
    message::{Message, MessageView, OWN},
    publish::{Batch, Body, Route},
    record,
    topology::{Binding, EVENTS, QueueInfo},
    value::{Name, Table, Value},
};

/// The vhost with the exchange for events.
const VHOST: &str = "/";

impl Broker {
    /// Tells that something has happened. `details` are made only if somebody listens.
    pub fn tell(&self, event: &'static str, details: impl FnOnce() -> Table) {
        if !self.has_listeners.load(Ordering::Relaxed) {
            return;
        }
        let mut events = self.events.lock();
        if events.len() < limits::EVENTS_WAITING {
            events.push((event, details()));
        }
        drop(events);
        self.alarm.set(self.now());
        self.alarm.ring();
    }

    /// Finds out whether anybody listens, after bindings have changed.
    pub(super) fn count_listeners(&self, bindings: &[Binding]) {
        if bindings.is_empty() || bindings.iter().any(|binding| &*binding.source == EVENTS) {
            let listeners = self.vhost(VHOST).is_some_and(|vhost| vhost.read().exchange_in_use(EVENTS));
            self.has_listeners.store(listeners, Ordering::Relaxed);
        }
    }

    /// Publishes what has gathered.
    pub(super) fn publish_events(&self) {
        let events = std::mem::take(&mut *self.events.lock());
        let Some(vhost) = self.vhost(VHOST).filter(|_| !events.is_empty()) else { return };
        let mut batch = Batch::default();
        for (event, mut details) in events {
            details.push("timestamp_in_ms", Value::I64(self.now().0 as i64));
            let queues = vhost.read().route(EVENTS, &[event], &details, 0).queues;
            batch.publish(
                Arc::new(Route::new(EVENTS.into(), 0, false, queues)),
                self.own(EVENTS, event, &details, &[]),
                0,
            );
        }
        self.apply(&mut batch);
    }

    /// A message of the broker itself.
    pub(super) fn own<'a>(&self, exchange: &str, key: &str, headers: &Table, payload: &[u8]) -> Body<'a> {
        let mut annotations = Vec::new();
        record::put_table(&mut annotations, headers);
        Body::Owned(Arc::new(Message::copy_of(&MessageView {
            exchange: &exchange.into(),
            routing_key: key,
            origin: OWN,
            durable: false,
            priority: None,
            arrived: self.now(),
            due: None,
            properties: &[],
            annotations: &annotations,
            payload,
            block: None,
        })))
    }
}

/// Text entries of a table.
pub(super) fn named(entries: &[(&str, &str)]) -> Table {
    Table(entries.iter().map(|(name, value)| (Name::from(*name), Value::from(*value))).collect())
}

/// A queue in an event.
pub(super) fn of_queue(info: &QueueInfo) -> Table {
    let mut table = named(&[("name", &info.name), ("vhost", &info.vhost), ("type", info.queue_type.name())]);
    table.push("durable", Value::Bool(info.durable));
    table.push("auto_delete", Value::Bool(info.auto_delete));
    table.push("exclusive", Value::Bool(info.owner.is_some()));
    table.push("arguments", Value::Table(info.arguments.clone()));
    table
}
