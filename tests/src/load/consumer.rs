//! Taking messages, and every way to settle them.

use std::time::{Duration, Instant};

use super::{Client, PATIENCE, QUEUES, Random, is_gone, worker};
use crate::checker::{Event, MessageId, Recorder, TransactionId, What, read_body};
use crate::raw::{self, Address, Connection, Happening};

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
    if matches!(habit.ack, Ack::Commit(_)) {
        client.connection.call(1, "tx.select", "");
    }
    begin(client, habit.queue, 50);
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
        Ack::Commit(_) => return commit(client, taken),
    }
    true
}

fn settle_one(client: &mut Client, habit: Habit, one: &Taken) {
    let Taken { queue, tag, message, redelivered } = *one;
    if !redelivered && client.random.one_in(habit.requeue_one_in) {
        client.recorder.note(What::Requeue { queue, message });
        client.settle("basic.nack", tag, "requeue");
    } else {
        client.recorder.note(What::Ack { queue, message, within: None });
        client.settle("basic.ack", tag, "");
    }
}

/// Acknowledges all within one transaction; whether the connection is still there.
fn commit(client: &mut Client, taken: &mut Vec<Taken>) -> bool {
    let transaction = client.recorder.transaction();
    for one in std::mem::take(taken) {
        ack_within(client, &one, transaction);
    }
    worker::end(client, transaction, true, taken)
}

pub(super) fn ack_within(client: &mut Client, one: &Taken, transaction: TransactionId) {
    client.recorder.note(What::Ack { queue: one.queue, message: one.message, within: Some(transaction) });
    client.settle("basic.ack", one.tag, "");
}

pub(super) fn begin(client: &mut Client, queue: &'static str, prefetch: u16) {
    client.connection.call(1, "basic.qos", &format!("prefetch_count={prefetch}"));
    // The tag tells of which queue a delivery is.
    client.connection.call(1, "basic.consume", &format!("queue={queue} consumer_tag={queue}"));
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
    let Happening::Content { method, body, .. } = &event.happening else { return None };
    let tag = method.text("consumer_tag");
    let queue = *QUEUES.iter().find(|queue| **queue == tag).unwrap_or_else(|| panic!("{event} to nobody"));
    let Some(message) = read_body(body) else {
        let beginning = body.iter().take(BEGINNING_BYTES).copied().collect::<Vec<u8>>().escape_ascii().to_string();
        client.recorder.note(What::Unreadable { queue, beginning });
        return None;
    };
    let redelivered = method.number("redelivered") == 1;
    client.recorder.note(What::Deliver { queue, message, redelivered });
    Some(Taken { queue, tag: method.number("delivery_tag"), message, redelivered })
}

/// Takes and acknowledges, in transactions, all that is in a queue.
pub(super) fn drain(address: &Address, queue: &'static str, recorder: Recorder) -> Vec<Event> {
    const TOGETHER: usize = 200;
    let mut client = Client {
        connection: Connection::ready(address),
        recorder,
        random: Random::new(0),
        publisher: 0,
        sequence: 0,
        over: Default::default(),
    };
    client.connection.call(1, "tx.select", "");
    begin(&mut client, queue, 400);
    let mut taken = Vec::new();
    let end = Instant::now() + DRAIN_LIMIT;
    loop {
        assert!(Instant::now() < end, "queue {queue} is not empty after {DRAIN_LIMIT:?}");
        let count = take(&mut client, SILENCE, &mut taken);
        let count = count.unwrap_or_else(|| panic!("the broker has gone while queue {queue} was drained"));
        if taken.len() >= TOGETHER || count == 0 && !taken.is_empty() {
            assert!(commit(&mut client, &mut taken), "the broker has gone while queue {queue} was drained");
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
