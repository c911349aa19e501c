//! What a client writes down.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a message for ever: a publisher never uses a sequence number twice, also not after a restart of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    pub publisher: u16,
    pub sequence: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.sequence)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

/// How the broker will answer a publish.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    /// By a confirm with this tag.
    Confirmed(u64),
    /// With the answer to the commit.
    Within(TransactionId),
}

#[derive(Clone, Debug)]
pub enum What {
    /// Written before the publish is sent, so that there is no delivery that precedes it.
    Publish {
        message: MessageId,
        queues: &'static [&'static str],
        sent: Sent,
    },
    Confirm {
        publisher: u16,
        tag: u64,
        multiple: bool,
        positive: bool,
    },
    /// The publisher has waited as long as anybody would for the answers to all that it has published in this run.
    ConfirmsAwaited {
        publisher: u16,
    },
    Deliver {
        queue: &'static str,
        message: MessageId,
        redelivered: bool,
    },
    /// A delivery whose body is not as it was written.
    Unreadable {
        queue: &'static str,
        beginning: String,
    },
    /// Written before it is sent, so that it is known to whoever judges a later delivery.
    Ack {
        queue: &'static str,
        message: MessageId,
        within: Option<TransactionId>,
    },
    Requeue {
        queue: &'static str,
        message: MessageId,
    },
    CommitAsked(TransactionId),
    CommitAnswered(TransactionId),
    RolledBack(TransactionId),
    Killed,
}

/// `at` orders the events of all clients: what one client does because of what another did has the higher number.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: u64,
    /// The broker's run, between two kills.
    pub run: u32,
    pub client: Arc<str>,
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} run {} {}: {:?}", self.at, self.run, self.client, self.what)
    }
}

/// Shared by all clients of a history.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub fn transaction(&self) -> TransactionId {
        TransactionId(self.tick())
    }
}

/// One client's part of the history.
pub struct Recorder {
    clock: Clock,
    client: Arc<str>,
    run: u32,
    events: Vec<Event>,
}

impl Recorder {
    pub fn new(clock: &Clock, client: &str, run: u32) -> Self {
        Self { clock: clock.clone(), client: client.into(), run, events: Vec::new() }
    }

    pub fn note(&mut self, what: What) {
        let (at, client) = (self.clock.tick(), Arc::clone(&self.client));
        self.events.push(Event { at, run: self.run, client, what });
    }

    pub fn transaction(&self) -> TransactionId {
        self.clock.transaction()
    }

    pub fn into_events(self) -> Vec<Event> {
        self.events
    }
}
