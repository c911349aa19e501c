//! `$SYS` topics: what the broker says of itself, by the names that mosquitto's users know.
//!
//! They are no messages of the exchange, where other protocols' wildcards would match them: sessions that have such a filter
//! are told of them directly, when they subscribe and whenever something has changed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    task::Waker,
};

use broker::{MessageView, Millis, Name};

use crate::{
    EXCHANGE, ORIGIN,
    message::Stored,
    outgoing::Outgoing,
    packet::Qos,
    topic,
    traffic::{Kind, Totals},
};

/// The loads, each of a counter, as an average per minute.
const LOADS: [(&str, Kind); 9] = [
    ("messages/received", Kind::PacketsReceived),
    ("messages/sent", Kind::PacketsSent),
    ("publish/received", Kind::PublishesReceived),
    ("publish/sent", Kind::PublishesSent),
    ("publish/dropped", Kind::PublishesDropped),
    ("bytes/received", Kind::BytesReceived),
    ("bytes/sent", Kind::BytesSent),
    ("connections", Kind::Connections),
    ("sockets", Kind::Connections),
];

/// Over how many minutes averages are taken.
const SPANS: [u64; 3] = [1, 5, 15];

/// What the sessions know of themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Sessions with a connection.
    pub connected: usize,
    /// Sessions without.
    pub disconnected: usize,
    /// The most connections that there ever were at once.
    pub connected_max: usize,
    /// Sessions whose time was over.
    pub expired: u64,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Members of shared subscriptions.
    pub shared_subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
}

/// The topics, and who wants them.
#[derive(Debug)]
pub struct Sys {
    /// Milliseconds between two looks; 0 if there are no such topics.
    interval_ms: u64,
    started: Millis,
    /// When the next look is due.
    next: Millis,
    /// When the last one was, and the totals and averages of it.
    last: Millis,
    totals: [u64; LOADS.len()],
    averages: [[f64; SPANS.len()]; LOADS.len()],
    /// As they were told last.
    values: BTreeMap<String, String>,
    watching: HashMap<u64, Weak<Outgoing>>,
}

impl Sys {
    /// The topics of a broker that starts now, looked after in such intervals; there are none with an interval of 0.
    pub fn new(now: Millis, interval_ms: u64) -> Self {
        Self {
            interval_ms,
            started: now,
            next: now,
            last: now,
            totals: [0; LOADS.len()],
            averages: [[0.0; SPANS.len()]; LOADS.len()],
            values: BTreeMap::new(),
            watching: HashMap::new(),
        }
    }

    /// A session wants to be told.
    pub fn watch(&mut self, number: u64, outgoing: &Arc<Outgoing>) {
        if self.interval_ms > 0 {
            self.watching.insert(number, Arc::downgrade(outgoing));
        }
    }

    /// A session's connection is gone.
    pub fn forget(&mut self, number: u64) {
        self.watching.remove(&number);
    }

    /// When a look is due.
    pub fn due(&self) -> Option<Millis> {
        (self.interval_ms > 0).then_some(self.next)
    }

    /// Has the averages keep up.
    pub fn keep_up(&mut self, now: Millis, totals: &Totals) {
        let elapsed_ms = now.0.saturating_sub(self.last.0);
        if elapsed_ms > 0 {
            self.average(elapsed_ms, totals);
        }
        (self.last, self.next) = (now, now.plus(self.interval_ms.max(1)));
    }

    /// The topics that have changed since this was asked last.
    pub fn changes(&mut self, now: Millis, totals: &Totals, census: &Census) -> BTreeMap<String, String> {
        let values = self.values(now, totals, census);
        let mut changed = values.clone();
        changed.retain(|topic, value| self.values.get(topic) != Some(value));
        self.values = values;
        changed
    }

    /// Exponential averages per minute, as a system's load is told.
    fn average(&mut self, elapsed_ms: u64, totals: &Totals) {
        let minutes = elapsed_ms as f64 / 60_000.0;
        for (index, (_, kind)) in LOADS.iter().enumerate() {
            let total = totals.get(*kind);
            let rate = (total - std::mem::replace(&mut self.totals[index], total)) as f64 / minutes;
            for (average, span) in self.averages[index].iter_mut().zip(SPANS) {
                *average += (rate - *average) * (1.0 - (-minutes / span as f64).exp());
            }
        }
    }

    /// All topics.
    pub fn values(&self, now: Millis, totals: &Totals, census: &Census) -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        if self.interval_ms == 0 {
            return values;
        }
        let mut put = |name: &str, value: String| values.insert(format!("$SYS/broker/{name}"), value);
        put("version", format!("roadstead version {}", env!("CARGO_PKG_VERSION")));
        put("uptime", format!("{} seconds", now.0.saturating_sub(self.started.0) / 1000));
        let Census { connected, disconnected, connected_max, expired, subscriptions, shared_subscriptions, retained } =
            *census;
        let counts = [
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", disconnected),
            ("clients/inactive", disconnected),
            ("clients/total", connected + disconnected),
            ("clients/maximum", connected_max),
            ("clients/expired", expired as usize),
            ("subscriptions/count", subscriptions),
            ("shared_subscriptions/count", shared_subscriptions),
            ("retained messages/count", retained),
        ];
        for (name, count) in counts {
            put(name, count.to_string());
        }
        let totalled = [
            ("messages/received", Kind::PacketsReceived),
            ("messages/sent", Kind::PacketsSent),
            ("publish/messages/received", Kind::PublishesReceived),
            ("publish/messages/sent", Kind::PublishesSent),
            ("publish/messages/dropped", Kind::PublishesDropped),
            ("publish/bytes/received", Kind::PayloadReceived),
            ("publish/bytes/sent", Kind::PayloadSent),
            ("bytes/received", Kind::BytesReceived),
            ("bytes/sent", Kind::BytesSent),
        ];
        for (name, kind) in totalled {
            put(name, totals.get(kind).to_string());
        }
        for ((name, _), averages) in LOADS.iter().zip(&self.averages) {
            for (average, span) in averages.iter().zip(SPANS) {
                put(&format!("load/{name}/{span}min"), format!("{average:.2}"));
            }
        }
        values
    }

    /// Who wants to be told.
    pub fn watching(&mut self) -> Vec<Arc<Outgoing>> {
        self.watching.retain(|_, outgoing| outgoing.strong_count() > 0);
        self.watching.values().filter_map(Weak::upgrade).collect()
    }
}

/// Sends topics to a session as far as it wants them. Without a filter they are news, with one what a new subscription gets.
pub fn send(outgoing: &Outgoing, values: &BTreeMap<String, String>, now: Millis, retained_for: Option<&str>) {
    let exchange = Name::from(EXCHANGE);
    let properties = Stored::head(Qos::AtMostOnce, true, 0);
    let mut wakes = Vec::new();
    let mut state = outgoing.lock();
    for (topic, value) in values {
        let interest = state.subscriptions.interest(topic, false);
        let Some(interest) = interest.filter(|_| retained_for.is_none_or(|filter| topic::matches(filter, topic)))
        else {
            continue;
        };
        let view = MessageView {
            exchange: &exchange,
            routing_key: topic,
            origin: ORIGIN,
            durable: false,
            priority: None,
            arrived: now,
            due: None,
            properties: &properties,
            annotations: &[],
            payload: value.as_bytes(),
            block: None,
        };
        let retain = retained_for.is_some() || interest.retain_as_published;
        state.send_at_most_once(topic, &view, retain, &interest.ids);
    }
    state.output.wake(&mut wakes);
    drop(state);
    wakes.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Counts;

    #[test]
    fn averages_follow_the_rate() {
        let totals = Totals::default();
        let mut sys = Sys::new(Millis(0), 10_000);
        let mut counts = Counts::default();
        let mut found = Vec::new();
        for look in 1..=90 {
            counts.add(Kind::PublishesReceived, 100);
            totals.add(&mut counts);
            sys.keep_up(Millis(look * 10_000), &totals);
            let changed = sys.changes(Millis(look * 10_000), &totals, &Census::default());
            assert_eq!(changed["$SYS/broker/publish/messages/received"], (look * 100).to_string());
            found.push(changed.get("$SYS/broker/load/publish/received/1min").cloned());
        }
        // A hundred every ten seconds are six hundred a minute.
        let now = sys.values(Millis(900_000), &totals, &Census::default());
        assert_eq!(now["$SYS/broker/load/publish/received/1min"], "600.00");
        assert_eq!(now["$SYS/broker/uptime"], "900 seconds");
        // A sixth of the span, so that it is 1 - exp(-1/6) of the way there; later it changes no more, and is not told.
        assert_eq!(found[0].as_deref(), Some("92.11"));
        assert_eq!(found[89], None);
    }
}
