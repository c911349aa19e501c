//! Exchanges of type `x-delayed-message`: they keep messages back for as long as their publishers ask, and route them
//! then as an exchange of another type would.
//!
//! What is kept back is in a queue without a name, one for each such exchange. It is a queue like any other, in which
//! every message has a time of its own; so it survives restarts, and what lies far ahead is on disk alone.

use std::sync::{Arc, atomic::Ordering};

use super::{Broker, departures::blind_keys};
use crate::{
    log::{Durability, Entry},
    message::{Message, MessageView},
    publish::Route,
    queue::{Aftermath, Departure},
    record::{self, State},
    session::Millis,
    topology::{ExchangeDeclaration, QueueId, QueueInfo, QueueType},
    value::{Name, Table, Value},
};

/// The header that asks for a delay, in milliseconds.
const DELAY: &str = "x-delay";

/// The longest delay, in milliseconds. What asks for more is routed at once, as by RabbitMQ's plugin.
const DELAY_MS_MAX: i64 = u32::MAX as i64;

/// The delay that a message asks for, in milliseconds, if it is one.
pub(super) fn delay_of(headers: &Table) -> Option<u64> {
    let delay = match headers.get(DELAY)? {
        Value::F32(delay) => *delay as i64,
        Value::F64(delay) => *delay as i64,
        value => value.as_integer().or_else(|| value.as_text()?.parse().ok())?,
    };
    u64::try_from(delay).ok().filter(|delay| *delay > 0 && delay <= &(DELAY_MS_MAX as u64))
}

impl Broker {
    /// The queue of what an exchange keeps back, made if it is not there.
    pub(super) fn add_delay_queue(&self, vhost: &Name, exchange: &Name, declaration: &ExchangeDeclaration) {
        let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
        let info = self.delay_queue_info(vhost, exchange, id, declaration.durable);
        if declaration.durable {
            self.put_state(&State::Delay { vhost: vhost.clone(), exchange: exchange.clone(), id });
        }
        self.insert_delay_queue(&info, exchange);
    }

    pub(super) fn insert_delay_queue(&self, info: &Arc<QueueInfo>, exchange: &Name) {
        self.shards[self.shard_index(info.id)].lock().insert(info, self.now());
        self.delays.write().insert((info.vhost.clone(), exchange.clone()), Arc::clone(info));
    }

    pub(super) fn delay_queue_info(&self, vhost: &Name, exchange: &Name, id: QueueId, durable: bool) -> Arc<QueueInfo> {
        let mut info = QueueInfo::new(id, vhost.clone(), exchange.clone(), QueueType::Delay);
        info.durable = durable;
        Arc::new(info)
    }

    pub(super) fn delay_queue(&self, vhost: &Name, exchange: &str) -> Option<Arc<QueueInfo>> {
        self.delays.read().get(&(vhost.clone(), exchange.into())).cloned()
    }

    /// Forgets what an exchange that is gone has kept back.
    pub(super) fn remove_delay_queue(&self, vhost: &Name, exchange: &Name) {
        let Some(info) = self.delays.write().remove(&(vhost.clone(), exchange.clone())) else { return };
        let mut after = self.aftermath();
        self.shards[self.shard_index(info.id)].lock().remove(&info, &mut after);
        if info.durable {
            let delay = State::Delay { vhost: vhost.clone(), exchange: exchange.clone(), id: info.id }.key();
            let timed = info.is_timed.load(Ordering::Relaxed).then(|| State::Timed(info.id).key());
            let mut entries = vec![Entry::Remove { key: &delay }];
            entries.extend(timed.iter().map(|key| Entry::Remove { key }));
            entries.push(Entry::Drop { holder: info.holder(0), from: 0, before: u64::MAX, except: &[] });
            self.log.append(&entries, Durability::Os);
        }
        self.finish(after);
    }

    /// The way of a message whose delay is over, and the message that it is now: with its own time to live before it,
    /// and a header that tells that it was delayed.
    pub(super) fn after_delay(&self, departure: &Departure, after: &Aftermath) -> (Route, Arc<Message>) {
        let view = departure.message.view();
        let headers = self.headers_of(&view);
        let expiration = self.codec(view.origin).and_then(|codec| codec.expiration(view.properties));
        let ttl = expiration.and_then(|text| text.parse::<u64>().ok());
        let mut annotations = view.annotation_table();
        annotations.push(DELAY, Value::I64(-(delay_of(&headers).unwrap_or(0) as i64)));
        let mut encoded = Vec::new();
        annotations.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        record::put_table(&mut encoded, &annotations);
        let due: Option<Millis> = ttl.map(|ttl| after.now.plus(ttl));
        let released = MessageView { arrived: after.now, due, annotations: &encoded, ..view };
        let mut keys = self.routing_keys(&view, &headers, &annotations);
        keys.extend(blind_keys(&annotations));
        let queues = self.queues_of(&departure.queue.vhost, view.exchange, &keys, &view, &annotations);
        (Route::new(view.exchange.clone(), 0, false, queues), Arc::new(Message::copy_of(&released)))
    }
}
