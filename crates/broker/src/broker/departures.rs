//! Dead letters, and messages whose delay is over: where they go from the queue that they leave.
//!
//! A message moves with one append, which gives it to its new queues and takes it out of the old: after a crash it is in
//! the one or in the others.

use std::sync::Arc;

use super::Broker;
use crate::{
    message::{BLIND_KEYS, Message, MessageView},
    publish::{Batch, Route},
    queue::{Aftermath, Departure, Queue, Reason},
    record,
    rules::DeadLetterTarget,
    topology::{QueueId, QueueInfo},
    value::{Name, Table, Value},
};

/// The header with a dead letter's history.
pub(crate) const DEATHS: &str = "x-death";

/// The header with what the last consumer said of a message that it could not digest.
const LAST_CAUSE: &str = "x-last-death-cause";

/// Annotation: the routing keys besides the first, where a dead letter no longer has those that its sender gave it.
const FURTHER_KEYS: &str = "further-keys";

impl Broker {
    /// Sends on what has left its queue.
    pub(crate) fn send_on(&self, departures: Vec<Departure>, after: &mut Aftermath) {
        let mut batch = Batch::default();
        self.join(&mut batch, departures, after);
        self.apply_to(&mut batch, after);
    }

    /// Has what a transaction rejects move with the transaction's own append. What is in the log alone has to be read
    /// first, and moves later.
    pub(crate) fn join_rejected(&self, batch: &mut Batch<'_>, after: &mut Aftermath) {
        for (queue, slots) in batch.dead_letters() {
            let mut shard = self.shards[self.shard_index(queue.id)].lock();
            let reject = |queue: &mut Queue| slots.iter().for_each(|slot| queue.reject(*slot, after));
            shard.with(queue, reject);
        }
        let departures = std::mem::take(&mut after.departures);
        self.join(batch, departures, after);
    }

    /// Has messages leave their queues with a batch.
    fn join(&self, batch: &mut Batch<'_>, departures: Vec<Departure>, after: &mut Aftermath) {
        let mut last = None;
        for departure in departures {
            let from = (departure.queue.holder(departure.priority), departure.record);
            let rules = departure.queue.rules();
            let (route, message) = match (departure.reason, &rules.dead_letter) {
                (Reason::Delayed, _) => {
                    let (route, message) = self.released(batch, &departure, after);
                    (Arc::new(route), message)
                }
                (_, Some(target)) => self.letter(&departure, target, &mut last, after),
                // Nothing else leaves a queue that has no rule for it.
                (Reason::Poison | Reason::Expired, None) if departure.goes_on => {
                    let target = self.letter_target(&departure.queue, &rules);
                    self.letter(&departure, &target, &mut last, after)
                }
                (_, None) => (Arc::new(Route::nowhere()), Arc::clone(&departure.message)),
            };
            let at_least_once = rules.dead_letter.as_ref().is_some_and(|target| target.at_least_once);
            let must_arrive = at_least_once && departure.reason != Reason::Delayed;
            let arrives = !route.queues.is_empty();
            if self.move_to(batch, route, message, (from, must_arrive), after) {
                self.note_departure(&departure, arrives, after);
            } else {
                let queue = Arc::clone(&departure.queue);
                let mut shard = self.shards[self.shard_index(queue.id)].lock();
                shard.with(&queue, |queue| queue.keep_back(departure, after.now));
            }
        }
    }

    /// The way of a dead letter, and the message that it has become.
    fn letter(
        &self,
        departure: &Departure,
        target: &DeadLetterTarget,
        last: &mut Option<Way>,
        after: &Aftermath,
    ) -> (Arc<Route>, Arc<Message>) {
        self.first_dead_letter(departure, target, last, after).unwrap_or_else(|| {
            let (route, message) = self.dead_letter(departure, target, after);
            (Arc::new(route), message)
        })
    }

    /// The same as [`Self::dead_letter`] for the most common letters, but quick: from a message that has not died before and
    /// has nothing that could matter for its way but its key. All of these from one queue, with one key, go the same way.
    fn first_dead_letter(
        &self,
        departure: &Departure,
        target: &DeadLetterTarget,
        last: &mut Option<Way>,
        after: &Aftermath,
    ) -> Option<(Arc<Route>, Arc<Message>)> {
        let Departure { queue, message, reason, .. } = departure;
        let view = message.view();
        let codec = self.codec(view.origin)?;
        let own = codec.routing_key(view.routing_key);
        let key = target.routing_key.as_ref().map_or(&*own, Name::as_str);
        if departure.cause.is_some() || !view.annotations.is_empty() || codec.has_headers(view.properties) {
            return None;
        }
        let rejected = matches!(reason, Reason::Rejected | Reason::Poison);
        let known = last.as_ref().filter(|way| way.from == queue.id && way.rejected == rejected && *way.key == *key);
        let route = match known {
            Some(way) => Arc::clone(&way.route),
            None => {
                let vhost = self.vhost(&queue.vhost)?;
                let routed = vhost.read().route(&target.exchange, &[key], &Table::default(), self.chance());
                if !routed.reusable || !routed.histories.is_empty() {
                    return None;
                }
                // Back to where it comes from is a cycle, unless somebody has rejected it.
                let queues = routed.queues.into_iter().filter(|to| rejected || to.name != queue.name).collect();
                let route = Arc::new(Route::new(target.exchange.clone(), 0, false, queues));
                *last = Some(Way { from: queue.id, rejected, key: key.into(), route: Arc::clone(&route) });
                route
            }
        };
        let expiration = codec.expiration(view.properties);
        let has_key = target.routing_key.is_some();
        let death = MessageView { routing_key: &own, ..view };
        let annotations = first_death(queue, *reason, &death, expiration.as_deref(), has_key, after);
        let exchange = &target.exchange;
        let (arrived, due, annotations) = (after.now, None, &annotations);
        let letter = MessageView { exchange, routing_key: key, arrived, due, annotations, ..view };
        Some((route, Arc::new(Message::copy_of(&letter))))
    }

    /// The way of any dead letter, and the message that it has become.
    fn dead_letter(
        &self,
        departure: &Departure,
        target: &DeadLetterTarget,
        after: &Aftermath,
    ) -> (Route, Arc<Message>) {
        let Departure { queue, message, reason, .. } = departure;
        let view = message.view();
        let headers = self.headers_of(&view);
        let mut annotations = view.annotation_table();
        let keys = self.routing_keys(&view, &headers, &annotations);
        self.note_death(&mut annotations, departure, &keys, &headers, after);
        let keys = match &target.routing_key {
            Some(key) => {
                annotations.remove(FURTHER_KEYS);
                annotations.push(FURTHER_KEYS, Value::Array(Vec::new()));
                annotations.remove(BLIND_KEYS);
                vec![key.to_string()]
            }
            None => keys.into_iter().chain(blind_keys(&annotations)).collect(),
        };
        let mut queues = self.queues_of(&queue.vhost, &target.exchange, &keys, &view, &annotations);
        if !matches!(reason, Reason::Rejected | Reason::Poison) {
            queues.retain(|to| !is_cycle(&to.name, &annotations));
        }
        let mut encoded = Vec::new();
        annotations.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        record::put_table(&mut encoded, &annotations);
        let letter = MessageView {
            exchange: &target.exchange,
            routing_key: keys.first().map_or("", String::as_str),
            arrived: after.now,
            due: None,
            annotations: &encoded,
            ..view
        };
        let route = Route::new(target.exchange.clone(), 0, false, queues);
        (route, Arc::new(Message::copy_of(&letter)))
    }

    /// All routing keys of a message: the one that it was published with, and those that its sender added.
    pub(super) fn routing_keys(&self, message: &MessageView<'_>, headers: &Table, annotations: &Table) -> Vec<String> {
        let further = annotations.get(FURTHER_KEYS).or_else(|| headers.get("CC"));
        let mut keys = vec![self.codecs.routing_key(message).into_owned()];
        if let Some(Value::Array(further)) = further {
            keys.extend(further.iter().filter_map(Value::as_text).map(str::to_owned));
        }
        keys
    }

    /// The headers of a message, as the protocol that it came by has them.
    pub(crate) fn headers_of(&self, message: &MessageView<'_>) -> Table {
        self.codec(message.origin).map_or_else(Table::default, |codec| codec.headers(message.properties))
    }

    /// Writes a death into the history of a message.
    fn note_death(
        &self,
        annotations: &mut Table,
        departure: &Departure,
        keys: &[String],
        headers: &Table,
        after: &Aftermath,
    ) {
        let (queue, reason) = (&departure.queue.name, departure.reason.name());
        let view = departure.message.view();
        let mut deaths = match annotations.remove(DEATHS) {
            Some(Value::Array(deaths)) => deaths,
            // Until it dies for the first time, what a client says of deaths is the client's own.
            _ => match headers.get(DEATHS) {
                Some(Value::Array(deaths)) if self.settings.carries_deaths => deaths.clone(),
                _ => Vec::new(),
            },
        };
        let known = deaths.iter().position(|death| is_death(death, queue, reason));
        let death = match known.map(|known| deaths.remove(known)) {
            Some(Value::Table(mut death)) => {
                count_up(&mut death);
                death
            }
            _ => {
                let first = annotations.get("x-first-death-queue").is_none();
                let expiration = self.codec(view.origin).filter(|_| first);
                let expiration = expiration.and_then(|codec| codec.expiration(view.properties));
                let mut death = Table::default();
                if let Some(expiration) = expiration {
                    death.push("original-expiration", expiration.as_str().into());
                }
                death.push("count", Value::I64(1));
                death.push("reason", reason.into());
                death.push("queue", queue.as_str().into());
                death.push("time", Value::Timestamp(after.now.0 / 1000));
                death.push("exchange", view.exchange.as_str().into());
                let keys = keys.iter().map(|key| Value::from(key.as_str())).collect();
                death.push("routing-keys", Value::Array(keys));
                death
            }
        };
        // The latest comes first.
        deaths.insert(0, Value::Table(death));
        annotations.push(DEATHS, Value::Array(deaths));
        let which = [("reason", reason), ("queue", queue.as_str()), ("exchange", view.exchange.as_str())];
        for (what, value) in which {
            let (first, last) = (format!("x-first-death-{what}"), format!("x-last-death-{what}"));
            if annotations.get(&first).is_none() {
                annotations.push(&first, value.into());
            }
            annotations.remove(&last);
            annotations.push(&last, value.into());
        }
        annotations.remove(LAST_CAUSE);
        if let Some(cause) = &departure.cause {
            annotations.push(LAST_CAUSE, (&**cause).into());
        }
    }
}

/// Where letters from a queue go that have a key.
struct Way {
    from: QueueId,
    rejected: bool,
    key: Name,
    route: Arc<Route>,
}

/// The annotations of a message that has died for the first time, in a queue that may give letters a routing key of its
/// own: what [`Broker::note_death`] makes of none, in its written form.
fn first_death(
    queue: &QueueInfo,
    reason: Reason,
    message: &MessageView<'_>,
    expiration: Option<&str>,
    has_key: bool,
    after: &Aftermath,
) -> Vec<u8> {
    let (queue, reason, exchange) = (queue.name.as_str(), reason.name(), message.exchange.as_str());
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&(7 + u32::from(has_key)).to_be_bytes());
    if has_key {
        record::put_entry(&mut out, FURTHER_KEYS, &Value::Array(Vec::new()));
    }
    record::put_text(&mut out, DEATHS);
    // An array of one table.
    out.push(15);
    out.extend_from_slice(&1u32.to_be_bytes());
    out.push(16);
    out.extend_from_slice(&(6 + u32::from(expiration.is_some())).to_be_bytes());
    if let Some(expiration) = expiration {
        record::put_text_entry(&mut out, "original-expiration", expiration);
    }
    record::put_entry(&mut out, "count", &Value::I64(1));
    record::put_text_entry(&mut out, "reason", reason);
    record::put_text_entry(&mut out, "queue", queue);
    record::put_entry(&mut out, "time", &Value::Timestamp(after.now.0 / 1000));
    record::put_text_entry(&mut out, "exchange", exchange);
    record::put_entry(&mut out, "routing-keys", &Value::Array(vec![message.routing_key.into()]));
    for which in [
        ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"],
        ["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"],
    ] {
        for (name, value) in which.into_iter().zip([exchange, queue, reason]) {
            record::put_text_entry(&mut out, name, value);
        }
    }
    out
}

pub(super) fn blind_keys(annotations: &Table) -> Vec<String> {
    match annotations.get(BLIND_KEYS) {
        Some(Value::Array(keys)) => keys.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn is_death(death: &Value, queue: &str, reason: &str) -> bool {
    let Value::Table(death) = death else { return false };
    let is = |key, text| death.get(key).and_then(Value::as_text) == Some(text);
    is("queue", queue) && is("reason", reason)
}

fn count_up(death: &mut Table) {
    for (key, value) in &mut death.0 {
        if key.as_str() == "count" {
            *value = Value::I64(value.as_integer().unwrap_or(0) + 1);
        }
    }
}

/// Whether a dead letter that goes to a queue would come to where it was before, with nobody but the broker having sent
/// it round.
fn is_cycle(queue: &str, annotations: &Table) -> bool {
    let Some(Value::Array(deaths)) = annotations.get(DEATHS) else { return false };
    let text = |death: &Value, key: &str| match death {
        Value::Table(death) => death.get(key).and_then(Value::as_text).unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let Some(before) = deaths.iter().position(|death| text(death, "queue") == queue) else { return false };
    deaths[..=before].iter().all(|death| text(death, "reason") != Reason::Rejected.name())
}
