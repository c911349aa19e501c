//! What a client writes down.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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

/// What a queue was declared to do with its messages, besides keeping them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terms {
    /// The queue that its dead letters go to.
    pub letters: Option<&'static str>,
    /// How long a message may wait.
    pub ttl_ms: Option<u64>,
    /// The first goes when there are too many.
    pub sheds: bool,
    /// Higher priorities come first.
    pub ranks: bool,
    pub stream: Option<Retention>,
}

/// How much of itself a stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    All,
    Some,
}

/// What a publisher asks for with one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    pub ttl_ms: Option<u64>,
    pub delay_ms: Option<u64>,
    pub priority: u64,
}

/// What a dead letter tells of its death, and of how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    pub queue: String,
    pub reason: String,
    pub count: i128,
    pub deaths: usize,
}

#[derive(Clone, Debug)]
pub enum What {
    /// A queue with terms of its own; one without needs no declaration here.
    Declare {
        queue: &'static str,
        terms: Terms,
    },
    /// Written before the publish is sent, so that there is no delivery that precedes it.
    Publish {
        message: MessageId,
        queues: &'static [&'static str],
        sent: Sent,
        wishes: Wishes,
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
        death: Option<Death>,
    },
    /// A reader begins, at the first message or at a number.
    ReadFrom {
        stream: &'static str,
        offset: Option<u64>,
    },
    Read {
        stream: &'static str,
        message: MessageId,
        offset: u64,
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
    /// Given back, never to come again.
    Reject {
        queue: &'static str,
        message: MessageId,
        within: Option<TransactionId>,
    },
    CommitAsked(TransactionId),
    CommitAnswered(TransactionId),
    RolledBack(TransactionId),
    Killed,
}

/// `at` orders the events of all clients: what one client does because of what another did has the higher number.
#[derive(Clone, Debug)]
pub struct Event<W = What> {
    pub at: u64,
    /// Milliseconds since 1970.
    pub ms: u64,
    /// The broker's run, between two kills.
    pub run: u32,
    pub client: Arc<str>,
    pub what: W,
}

impl<W: fmt::Debug> fmt::Display for Event<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, ms, run, client, what } = self;
        write!(f, "#{at} run {run} at {}.{:03} s {client}: {what:?}", ms / 1000 % 10_000, ms % 1000)
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
pub struct Recorder<W = What> {
    clock: Clock,
    client: Arc<str>,
    run: u32,
    events: Vec<Event<W>>,
}

impl<W> Recorder<W> {
    pub fn new(clock: &Clock, client: &str, run: u32) -> Self {
        Self { clock: clock.clone(), client: client.into(), run, events: Vec::new() }
    }

    pub fn note(&mut self, what: W) {
        let (at, client) = (self.clock.tick(), Arc::clone(&self.client));
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.events.push(Event { at, ms, run: self.run, client, what });
    }

    pub fn transaction(&self) -> TransactionId {
        self.clock.transaction()
    }

    pub fn into_events(self) -> Vec<Event<W>> {
        self.events
    }
}
