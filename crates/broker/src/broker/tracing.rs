//! Following messages. While a vhost is traced, a copy of every message that is published or delivered there goes to
//! `amq.rabbitmq.trace`, as `publish.EXCHANGE` or `deliver.QUEUE`. An observer is told of messages that carry the context of a
//! trace in a header, as W3C's Trace Context names it.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    message::{Message, MessageView},
    publish::{Batch, Route},
    queue::{Aftermath, Traced},
    topology::TRACES,
    value::{Name, Table, Value},
};

/// The header in which a message carries the context of a trace (W3C Trace Context, section 3.2).
const TRACE_CONTEXT: &str = "traceparent";

/// What an observer is told of a message.
#[derive(Debug)]
pub struct Observed<'a> {
    /// The context of the trace, as the publisher wrote it.
    pub context: &'a str,
    /// The vhost.
    pub vhost: &'a Name,
    /// The message.
    pub message: &'a MessageView<'a>,
    /// Its routing key, by which it is known outside of its protocol.
    pub routing_key: &'a str,
}

/// Who is told of messages with the context of a trace. The calls come when a batch is done, with no lock held, from any
/// thread; they must not wait.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// A user has published a message that so many queues got.
    fn published(&self, observed: &Observed<'_>, user: &Name, queues: usize);

    /// A queue has delivered one.
    fn delivered(&self, observed: &Observed<'_>, queue: &Name, redelivered: bool);
}

/// Whether a message may carry the context of a trace: a guess that costs little, and errs on one side only.
pub(crate) fn has_trace_context(message: &MessageView<'_>) -> bool {
    message.properties.windows(TRACE_CONTEXT.len()).any(|bytes| bytes == TRACE_CONTEXT.as_bytes())
}

impl Broker {
    /// Begins or ends to trace a vhost. Returns whether there is such a vhost.
    pub fn set_tracing(&self, vhost: &str, traced: bool) -> bool {
        let Some(vhost) = self.vhost(vhost) else { return false };
        let mut state = vhost.write();
        state.is_traced = traced;
        state.queues().for_each(|queue| queue.is_traced.store(traced, Ordering::Relaxed));
        true
    }

    /// Publishes copies of what was published and delivered.
    pub(crate) fn publish_traces(&self, traces: Vec<Traced>, after: &mut Aftermath) {
        let mut batch = Batch::default();
        for trace in traces {
            self.observe(&trace);
            if !self.is_copied(&trace) {
                continue;
            }
            let (vhost, key, message, more) = match trace {
                Traced::Published { vhost, user, message, queues } => {
                    let names = queues.iter().map(|queue| Value::from(queue.as_str())).collect();
                    let more = [("routed_queues", Value::Array(names)), ("user", user.as_str().into())];
                    let key = format!("publish.{}", message.view().exchange);
                    (vhost, key, message, more)
                }
                Traced::Delivered { queue, message, redelivered } => {
                    let more = [("redelivered", Value::I32(redelivered.into())), ("user", "none".into())];
                    (queue.vhost.clone(), format!("deliver.{}", queue.name), message, more)
                }
            };
            let headers = self.trace_headers(&message.view(), &vhost, more);
            let Some(found) = self.vhost(&vhost) else { continue };
            let queues = found.read().route(TRACES, &[&key], &headers, 0).queues;
            if !queues.is_empty() {
                let body = self.own(TRACES, &key, &headers, message.view().payload);
                batch.publish(Arc::new(Route::new(TRACES.into(), 0, false, queues)), body, 0);
            }
        }
        self.apply_to(&mut batch, after);
    }

    /// Tells the observer, if the message is part of a trace.
    fn observe(&self, trace: &Traced) {
        let Some(observer) = &self.settings.observer else { return };
        let message = match trace {
            Traced::Published { message, .. } | Traced::Delivered { message, .. } => message.view(),
        };
        let headers = self.codec(message.origin).map_or_else(Table::default, |codec| codec.headers(message.properties));
        let Some(context) = headers.get(TRACE_CONTEXT).and_then(Value::as_text) else { return };
        let routing_key = self.codecs.routing_key(&message);
        match trace {
            Traced::Published { vhost, user, queues, .. } => {
                let facts = Observed { context, vhost, message: &message, routing_key: &routing_key };
                observer.published(&facts, user, queues.len());
            }
            Traced::Delivered { queue, redelivered, .. } => {
                let facts = Observed { context, vhost: &queue.vhost, message: &message, routing_key: &routing_key };
                observer.delivered(&facts, &queue.name, *redelivered);
            }
        }
    }

    /// Whether a copy goes to the vhost's exchange for traces.
    fn is_copied(&self, trace: &Traced) -> bool {
        match trace {
            Traced::Published { vhost, .. } => self.vhost(vhost).is_some_and(|vhost| vhost.read().is_traced),
            Traced::Delivered { queue, .. } => queue.is_traced.load(Ordering::Relaxed),
        }
    }

    fn trace_headers(&self, message: &MessageView<'_>, vhost: &Name, more: [(&str, Value); 2]) -> Table {
        let mut headers = Table::default();
        headers.push("exchange_name", message.exchange.as_str().into());
        headers.push("routing_keys", Value::Array(vec![(&*self.codecs.routing_key(message)).into()]));
        let codec = self.codec(message.origin);
        let properties = codec.map_or_else(Table::default, |codec| codec.table(message.properties));
        headers.push("properties", Value::Table(properties));
        headers.push("node", self.settings.node.as_str().into());
        headers.push("vhost", vhost.as_str().into());
        more.into_iter().for_each(|(name, value)| headers.push(name, value));
        headers
    }
}

/// Whether a message may be traced: not a trace itself, which would go on for ever.
pub(crate) fn may_be_traced(message: &Message) -> bool {
    &**message.view().exchange != TRACES
}
