//! Taking messages, and every way to settle them.

use std::time::{Duration, Instant};

use super::{Cast, Client, PATIENCE, is_gone, worker};
use crate::checker::{Death, Event, MessageId, Recorder, TransactionId, What, read_body};
use crate::raw::method::{Field, Named};
use crate::raw::{self, Address, Happening, Table, Value};

const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// How long a queue must have been silent to be asked whether it is empty.
const SILENCE: Duration = Duration::from_millis(50);
const BEGINNING_BYTES: usize = 60;

#[derive(Clone, Copy)]
pub(super) struct Habit {
    pub queue: &'static str,
    pub ack: Ack,
    /// Puts back one in so many that come for the first time; 0 for none.
    pub requeue_one_in: usize,
    /// Rejects one in so many of the others, for good; 0 for none. Not with [`Ack::Many`].
    pub reject_one_in: usize,
}

/// Takes one after the other, and puts none back.
pub(super) const fn taking(queue: &'static str, ack: Ack) -> Habit {
    Habit { queue, ack, requeue_one_in: 0, reject_one_in: 0 }
}

#[derive(Clone, Copy)]
pub(super) enum Ack {
    Each,
    /// So many with one acknowledgement.
    Many(usize),
    /// So many with one commit.
    Commit(usize),
}

impl Ack {
    fn together(self) -> usize {
        match self {
            Self::Each => 1,
            Self::Many(count) | Self::Commit(count) => count,
        }
    }
}

/// A delivery that waits to be settled.
pub(super) struct Taken {
    queue: &'static str,
    tag: u64,
    message: MessageId,
    redelivered: bool,
}

/// Consumes until the connection is gone.
pub(super) fn consume(client: &mut Client, habit: Habit) {
    let commits = matches!(habit.ack, Ack::Commit(_));
    if commits && !client.ask("tx.select", "") || !begin(client, habit.queue, 50) {
        return;
    }
    let mut taken = Vec::new();
    loop {
        // Whoever waits for more while enough is there may wait for ever: the broker sends no more than it may.
        let is_gone = match taken.len() < habit.ack.together() {
            true => take(client, PATIENCE, &mut taken).is_none(),
            false => !settle(client, habit, &mut taken),
        };
        if is_gone {
            return;
        }
    }
}

/// Settles all; whether the connection is still there.
fn settle(client: &mut Client, habit: Habit, taken: &mut Vec<Taken>) -> bool {
    match habit.ack {
        Ack::Each => taken.drain(..).for_each(|one| settle_one(client, habit, &one)),
        Ack::Many(_) => {
            let last = taken.last().map_or(0, |one| one.tag);
            for one in taken.drain(..) {
                client.recorder.note(What::Ack { queue: one.queue, message: one.message, within: None });
            }
            client.settle("basic.ack", last, "multiple");
        }
        Ack::Commit(_) => return commit(client, habit.reject_one_in, taken),
    }
    true
}

fn settle_one(client: &mut Client, habit: Habit, one: &Taken) {
    let Taken { queue, tag, message, redelivered } = *one;
    if !redelivered && client.random.one_in(habit.requeue_one_in) {
        client.recorder.note(What::Requeue { queue, message });
        client.settle("basic.nack", tag, "requeue");
    } else if client.random.one_in(habit.reject_one_in) {
        client.recorder.note(What::Reject { queue, message, within: None });
        client.settle("basic.reject", tag, "");
    } else {
        client.recorder.note(What::Ack { queue, message, within: None });
        client.settle("basic.ack", tag, "");
    }
}

/// Acknowledges all within one transaction, or rejects some; whether the connection is still there.
fn commit(client: &mut Client, reject_one_in: usize, taken: &mut Vec<Taken>) -> bool {
    let transaction = client.recorder.transaction();
    for one in std::mem::take(taken) {
        if client.random.one_in(reject_one_in) {
            let Taken { queue, tag, message, .. } = one;
            client.recorder.note(What::Reject { queue, message, within: Some(transaction) });
            client.settle("basic.reject", tag, "");
        } else {
            ack_within(client, &one, transaction);
        }
    }
    worker::end(client, transaction, true, taken)
}

pub(super) fn ack_within(client: &mut Client, one: &Taken, transaction: TransactionId) {
    client.recorder.note(What::Ack { queue: one.queue, message: one.message, within: Some(transaction) });
    client.settle("basic.ack", one.tag, "");
}

/// Begins to consume; whether the connection is still there.
pub(super) fn begin(client: &mut Client, queue: &'static str, prefetch: u16) -> bool {
    // The tag tells of which queue a delivery is.
    client.ask("basic.qos", &format!("prefetch_count={prefetch}"))
        && client.ask("basic.consume", &format!("queue={queue} consumer_tag={queue}"))
}

/// Waits for one event; how many deliveries it brought, or nothing if the connection is gone.
pub(super) fn take(client: &mut Client, patience: Duration, taken: &mut Vec<Taken>) -> Option<usize> {
    let event = client.connection.next(patience);
    if is_gone(&event.happening) {
        return None;
    }
    let before = taken.len();
    taken.extend(read(client, &event));
    Some(taken.len() - before)
}

/// Writes down a delivery. One that can't be read is never settled, and so can't hide.
pub(super) fn read(client: &mut Client, event: &raw::Event) -> Option<Taken> {
    let Happening::Content { method, properties, body } = &event.happening else { return None };
    let queue = client.cast.queue(&method.text("consumer_tag")).unwrap_or_else(|| panic!("{event} to nobody"));
    let message = read_message(client, queue, body)?;
    let redelivered = method.number("redelivered") == 1;
    client.recorder.note(What::Deliver { queue, message, redelivered, death: death(properties) });
    Some(Taken { queue, tag: method.number("delivery_tag"), message, redelivered })
}

/// Whose a body is. That it is not whole is written down.
pub(super) fn read_message(client: &mut Client, queue: &'static str, body: &[u8]) -> Option<MessageId> {
    let message = read_body(body);
    if message.is_none() {
        let beginning = body.iter().take(BEGINNING_BYTES).copied().collect::<Vec<u8>>().escape_ascii().to_string();
        client.recorder.note(What::Unreadable { queue, beginning });
    }
    message
}

pub(super) fn header<'p>(properties: &'p Named, name: &str) -> Option<&'p Value> {
    let headers = properties.iter().find(|(property, _)| *property == "headers");
    let Some((_, Field::Table(headers))) = headers else { return None };
    entry(headers, name)
}

fn entry<'t>(table: &'t Table, name: &str) -> Option<&'t Value> {
    table.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// What the first entry of the header `x-death` tells.
fn death(properties: &Named) -> Option<Death> {
    let Value::Array(deaths) = header(properties, "x-death")? else { return None };
    let Value::Table(death) = deaths.first()? else { return None };
    let text = |name: &str| match entry(death, name) {
        Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    let count = match entry(death, "count") {
        Some(Value::Integer(_, count)) => *count,
        _ => 0,
    };
    Some(Death { queue: text("queue"), reason: text("reason"), count, deaths: deaths.len() })
}

/// Takes and acknowledges, in transactions, all that is in a queue.
pub(super) fn drain(cast: &'static Cast, address: &Address, queue: &'static str, recorder: Recorder) -> Vec<Event> {
    const TOGETHER: usize = 200;
    let mut client = Client::only_taking(cast, address, recorder);
    let begun = client.ask("tx.select", "") && begin(&mut client, queue, 400);
    assert!(begun, "the broker has gone before queue {queue} was drained");
    let mut taken = Vec::new();
    let end = Instant::now() + DRAIN_LIMIT;
    loop {
        assert!(Instant::now() < end, "queue {queue} is not empty after {DRAIN_LIMIT:?}");
        let count = take(&mut client, SILENCE, &mut taken);
        let count = count.unwrap_or_else(|| panic!("the broker has gone while queue {queue} was drained"));
        if taken.len() >= TOGETHER || count == 0 && !taken.is_empty() {
            assert!(commit(&mut client, 0, &mut taken), "the broker has gone while queue {queue} was drained");
        } else if count == 0 && is_empty(&mut client, queue, &mut taken) {
            return client.recorder.into_events();
        }
    }
}

/// Asks the broker, while deliveries may still come.
fn is_empty(client: &mut Client, queue: &'static str, taken: &mut Vec<Taken>) -> bool {
    client.connection.send(1, "queue.declare", &raw::Fields::parse(&format!("queue={queue} passive")));
    loop {
        let event = client.connection.next(raw::PATIENCE);
        assert!(!event.is_silence() && !is_gone(&event.happening), "{event} instead of the length of queue {queue}");
        if let Some(method) = event.method().filter(|method| method.name == "queue.declare-ok") {
            return method.number("message_count") == 0 && taken.is_empty();
        }
        taken.extend(read(client, &event));
    }
}
