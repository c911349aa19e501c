//! A durable queue of AMQP that gets what MQTT clients publish.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{ALL, Client, PATIENCE};
use crate::checker::mqtt::What;
use crate::checker::{MessageId, read_body};
use crate::raw::{Address, Connection, Event, Fields, Happening};

const QUEUE: &str = "crash.mqtt";

pub(super) fn declare(client: &mut Client, address: &Address) {
    client.notes.note(What::Subscribe { filter: ALL, qos: 1 });
    let mut connection = Connection::ready(address);
    connection.call(1, "queue.declare", &format!("queue={QUEUE} durable"));
    connection.call(1, "queue.bind", &format!("queue={QUEUE} exchange=amq.topic routing_key=crash.#"));
    client.notes.note(What::Subscribed { filter: ALL });
}

/// Until the broker is gone.
pub(super) fn consume(client: &mut Client, address: &Address) {
    let mut connection = begin(address);
    client.is_ready();
    loop {
        let event = connection.next(PATIENCE);
        if event.is_closed() {
            return;
        }
        take(client, &mut connection, &event);
    }
}

/// Takes all that there is before some messages, and these. If they don't come in time, the checker says so.
pub(super) fn drain(client: &mut Client, address: &Address, last: &[(&str, MessageId)], end: Instant) {
    let mut wanted: BTreeSet<MessageId> = last.iter().map(|(_, message)| *message).collect();
    let mut connection = begin(address);
    while !wanted.is_empty() && Instant::now() < end {
        let event = connection.next(PATIENCE);
        assert!(!event.is_closed(), "the broker has gone in a drain");
        if let Some(message) = take(client, &mut connection, &event) {
            wanted.remove(&message);
        }
    }
}

fn begin(address: &Address) -> Connection {
    let mut connection = Connection::ready(address);
    connection.send(1, "basic.qos", &Fields::parse("prefetch_count=50"));
    connection.send(1, "basic.consume", &Fields::parse(&format!("queue={QUEUE}")));
    connection
}

fn take(client: &mut Client, connection: &mut Connection, event: &Event) -> Option<MessageId> {
    let Happening::Content { method, body, .. } = &event.happening else { return None };
    let topic = method.text("routing_key").replace('.', "/");
    let message = read_body(body);
    match message {
        Some(message) => client.notes.note(What::Arrived { topic, message, qos: 1, packet_id: 0 }),
        None => client.note_unreadable(&topic, body),
    }
    connection.send(1, "basic.ack", &Fields::default().with("delivery_tag", method.number("delivery_tag").to_string()));
    message
}
