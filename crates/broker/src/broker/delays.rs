//! Messages that are kept back for as long as their publishers ask: by exchanges of type `x-delayed-message`, which route them then
//! as an exchange of another type would, and by a [`Schedule`] on their way through any exchange.
//!
//! What is kept back is in a queue without a name, one for each such exchange, and one for all that is scheduled in a vhost. It is a
//! queue like any other, in which every message has a time of its own; so it survives restarts, and what lies far ahead is on disk
//! alone.

use std::sync::{Arc, atomic::Ordering};

use super::{Broker, departures::blind_keys};
use crate::{
    log::{Durability, Entry, Position},
    message::{Message, MessageView},
    publish::{Batch, Route},
    queue::{Aftermath, Departure},
    record::State,
    schedule::{Again, COUNT, LEFT, Schedule},
    session::Millis,
    topology::{ExchangeDeclaration, QueueId, QueueInfo, QueueType},
    value::{Name, Table, Value},
};

/// The header that asks for a delay, in milliseconds.
const DELAY: &str = "x-delay";

/// What stands for the exchange by which a vhost's scheduled messages are kept back. The default exchange has no delays.
pub(super) const SCHEDULES: &str = "";

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

    /// The queue of what is scheduled in a vhost, made if it is not there.
    fn schedule_queue(&self, vhost: &Name) -> Arc<QueueInfo> {
        let exchange = Name::from(SCHEDULES);
        if let Some(queue) = self.delay_queue(vhost, &exchange) {
            return queue;
        }
        let mut delays = self.delays.write();
        let entry = delays.entry((vhost.clone(), exchange.clone())).or_insert_with(|| {
            let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
            let info = self.delay_queue_info(vhost, &exchange, id, true);
            self.put_state(&State::Delay { vhost: vhost.clone(), exchange, id });
            self.shards[self.shard_index(id)].lock().insert(&info, self.now());
            info
        });
        Arc::clone(entry)
    }

    /// The same route for a message that is scheduled, which takes it later.
    pub fn later(&self, vhost: &Name, route: &Route, schedule: &Schedule) -> Route {
        let queue = self.schedule_queue(vhost);
        let (exchange, version) = (route.exchange.clone(), route.version);
        let mut later = Route::new(exchange, version, false, vec![queue]).delayed(schedule.wait_ms(self.now()));
        later.traffic.clone_from(&route.traffic);
        later
    }

    /// The way of a scheduled message whose time has come, and the message that it is now. Adds to the batch the times that it
    /// comes again.
    fn on_schedule(
        &self,
        batch: &mut Batch<'_>,
        departure: &Departure,
        after: &mut Aftermath,
    ) -> (Route, Arc<Message>) {
        let view = departure.message.view();
        let (headers, mut annotations) = (self.headers_of(&view), view.annotation_table());
        let number = |name: &str| annotations.get(name).and_then(Value::as_integer);
        let (left, count) = (number(LEFT), number(COUNT).unwrap_or(0));
        annotations.0.retain(|(name, _)| &**name != LEFT && &**name != COUNT);
        if let Ok(Some(schedule)) = Schedule::of_headers(&headers) {
            let times = schedule.again(left, view.due.unwrap_or(after.now), after.now);
            for (at, Again { wait_ms, left }) in (1..).zip(times) {
                let mut annotations = annotations.clone();
                annotations.push(COUNT, Value::I64(count + at));
                annotations.0.extend(left.map(|left| (LEFT.into(), Value::I64(left))));
                let route = Route::new(view.exchange.clone(), 0, false, vec![Arc::clone(&departure.queue)]);
                let again = Arc::new(Message::annotated_copy(&MessageView { due: None, ..view }, annotations));
                self.move_to(batch, Arc::new(route.delayed(wait_ms)), again, ((0, Position(0)), false), after);
            }
        }
        if count > 0 {
            annotations.push(COUNT, Value::I64(count));
        }
        let (arrived, due) = (after.now, self.due_after(&view, after));
        let released = Arc::new(Message::annotated_copy(&MessageView { arrived, due, ..view }, annotations.clone()));
        let keys = self.routing_keys(&view, &headers, &annotations);
        (self.released_route(&departure.queue.vhost, &keys, &view, annotations), released)
    }

    /// When a message is of no more use that has waited for its time until now.
    fn due_after(&self, view: &MessageView<'_>, after: &Aftermath) -> Option<Millis> {
        let expiration = self.codec(view.origin).and_then(|codec| codec.expiration(view.properties));
        expiration.and_then(|text| text.parse::<u64>().ok()).map(|ttl| after.now.plus(ttl))
    }

    /// The way of a message that was kept back and is no longer, and the message that it is now.
    pub(super) fn released(
        &self,
        batch: &mut Batch<'_>,
        departure: &Departure,
        after: &mut Aftermath,
    ) -> (Route, Arc<Message>) {
        if *departure.queue.name == *SCHEDULES {
            return self.on_schedule(batch, departure, after);
        }
        self.after_delay(departure, after)
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
    fn after_delay(&self, departure: &Departure, after: &Aftermath) -> (Route, Arc<Message>) {
        let view = departure.message.view();
        let headers = self.headers_of(&view);
        let mut annotations = view.annotation_table();
        annotations.push(DELAY, Value::I64(-(delay_of(&headers).unwrap_or(0) as i64)));
        let (arrived, due) = (after.now, self.due_after(&view, after));
        let released = Arc::new(Message::annotated_copy(&MessageView { arrived, due, ..view }, annotations.clone()));
        let mut keys = self.routing_keys(&view, &headers, &annotations);
        keys.extend(blind_keys(&annotations));
        (self.released_route(&departure.queue.vhost, &keys, &view, annotations), released)
    }
}
