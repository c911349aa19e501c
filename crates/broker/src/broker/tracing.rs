//! The firehose: while a vhost is traced, a copy of every message that is published or delivered there goes to
//! `amq.rabbitmq.trace`, as `publish.EXCHANGE` or `deliver.QUEUE`.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    message::{Message, MessageView},
    publish::{Batch, Route},
    queue::{Aftermath, Traced},
    topology::TRACES,
    value::{Name, Table, Value},
};

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
