//! Numbers with their rates, as RabbitMQ writes them.

use broker::{Counts, Event};
use serde_json::{Map, Value as Json, json};

use crate::history::{Levels, Series, Span};

/// The events with their names.
const NAMES: [(Event, &str); 11] = [
    (Event::Publish, "publish"),
    (Event::Confirm, "confirm"),
    (Event::Return, "return_unroutable"),
    (Event::Drop, "drop_unroutable"),
    (Event::Deliver, "deliver"),
    (Event::DeliverNoAck, "deliver_no_ack"),
    (Event::Get, "get"),
    (Event::GetNoAck, "get_no_ack"),
    (Event::GetEmpty, "get_empty"),
    (Event::Redeliver, "redeliver"),
    (Event::Acknowledge, "ack"),
];

/// Those that only connections have.
const OF_CLIENTS: [Event; 3] = [Event::Confirm, Event::Return, Event::Drop];

/// All that are deliveries.
const DELIVERIES: [Event; 4] = [Event::Deliver, Event::DeliverNoAck, Event::Get, Event::GetNoAck];

/// Something that knows how numbers were.
pub trait Known {
    /// A number's `…_details`.
    fn of(&self, columns: &[usize], span: Option<Span>) -> Json;
}

impl<const N: usize> Known for Series<N> {
    fn of(&self, columns: &[usize], span: Option<Span>) -> Json {
        self.details(columns, span)
    }
}

impl<const N: usize> Known for Levels<N> {
    fn of(&self, columns: &[usize], span: Option<Span>) -> Json {
        self.details(columns, span)
    }
}

/// Nothing is known of how it was.
impl<K: Known> Known for Option<&K> {
    fn of(&self, columns: &[usize], span: Option<Span>) -> Json {
        self.map_or_else(|| json!({ "rate": 0.0 }), |known| known.of(columns, span))
    }
}

/// Adds a number and its details.
pub fn put(into: &mut Map<String, Json>, name: &str, number: u64, details: Json) {
    into.insert(name.into(), number.into());
    into.insert(format!("{name}_details"), details);
}

/// `message_stats`; nothing if nothing has happened. `first` is the column of the first event.
pub fn messages(counts: &Counts, known: &impl Known, first: usize, of_queue: bool, span: Option<Span>) -> Option<Json> {
    if *counts == Counts::default() {
        return None;
    }
    let mut stats = Map::new();
    let column = |event: Event| first + event as usize;
    for (event, name) in NAMES {
        if !(of_queue && OF_CLIENTS.contains(&event)) {
            put(&mut stats, name, counts.get(event), known.of(&[column(event)], span));
        }
    }
    put(&mut stats, "deliver_get", counts.delivered(), known.of(&DELIVERIES.map(column), span));
    Some(stats.into())
}

/// `messages`, `messages_ready` and `messages_unacknowledged`, with their details.
pub fn lengths(into: &mut Map<String, Json>, (ready, held): (u64, u64), known: &impl Known, span: Option<Span>) {
    use crate::sampler::{HELD, READY};
    put(into, "messages", ready + held, known.of(&[READY, HELD], span));
    put(into, "messages_ready", ready, known.of(&[READY], span));
    put(into, "messages_unacknowledged", held, known.of(&[HELD], span));
}
