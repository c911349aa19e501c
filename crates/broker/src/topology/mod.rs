//! Vhosts, exchanges, queues by name, and the bindings between them.
//!
//! A [`Vhost`] is read by every publisher and written by declarations. Its version grows with each change, so that a
//! route which a session remembers costs one atomic load to validate; see [`crate::publish`].

mod bag;
pub mod exchange;
mod facts;
mod hash;
mod headers;
mod history;
mod jms;
mod topic;
pub mod vhost;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32},
    },
};

use parking_lot::RwLock;

pub use self::{
    exchange::{Exchange, ExchangeDeclaration, ExchangeKind},
    facts::Facts,
    history::{History, Keep},
    vhost::{Added, Binding, Removed, Routed, Vhost, VhostState},
};
pub(crate) use self::{hash::mix, topic::TopicIndex};
use crate::{
    log::Durability,
    outlet::{ConsumerKey, Outlet},
    refusal::Resource,
    rules::Rules,
    session::SessionId,
    value::{Name, Table, Value},
};

/// A queue's identity. It is never used twice, so a queue declared anew never sees what its namesake left in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// Where the priority stands in the number by which the log knows a queue's messages. Ids leave these bits free.
const PRIORITY_SHIFT: u32 = 32;

/// The exchange of what is traced.
pub const TRACES: &str = "amq.rabbitmq.trace";

/// The exchange of events, in the vhost `/`.
pub const EVENTS: &str = "amq.rabbitmq.event";

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// To a queue.
    Queue(QueueId),
    /// To another exchange.
    Exchange(Name),
}

/// What every part of the broker knows about a queue: its fixed properties and where its messages are.
#[derive(Debug)]
pub struct QueueInfo {
    /// Its identity.
    pub id: QueueId,
    /// The vhost that it is in.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes away with its last consumer.
    pub auto_delete: bool,
    /// The session that has it for itself.
    pub owner: Option<SessionId>,
    /// The arguments of its declaration.
    pub arguments: Table,
    /// When a message in it counts as safe.
    pub durability: Durability,
    /// Whose rules it follows.
    pub queue_type: QueueType,
    /// What stands behind the name.
    pub kind: QueueKind,
    /// Where messages go that need not survive anything, past the queue, if it takes only the others.
    pub(crate) past: Option<RwLock<Past>>,
    /// What applies to it now.
    pub(crate) rules: RwLock<Arc<Rules>>,
    /// Whether its deliveries are traced.
    pub(crate) is_traced: AtomicBool,
    /// Whether the log knows that the queue may hold messages with a time of their own.
    pub(crate) is_timed: AtomicBool,
    /// Index in its shard; see [`crate::queue::Shard`].
    pub(crate) slot: AtomicU32,
}

/// The types of queues. On one node a quorum queue is a durable queue with the semantics of RabbitMQ's quorum queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueType {
    /// Any durability, owner and life time.
    #[default]
    Classic,
    /// Always durable; counts attempts.
    Quorum,
    /// Keeps what was consumed.
    Stream,
    /// What a delay exchange keeps back. It has no name that a client could use.
    Delay,
    /// The last message of each topic of a vhost. It has no name that a client could use.
    Retained,
}

impl QueueType {
    /// By its name in `x-queue-type`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "classic" => Self::Classic,
            "quorum" => Self::Quorum,
            "stream" => Self::Stream,
            _ => return None,
        })
    }

    /// Its name in `x-queue-type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
            Self::Delay => "delay",
            Self::Retained => "retained",
        }
    }

    /// Whether clients have nothing to do with it.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Delay | Self::Retained)
    }

    /// Whether its messages are kept on disk whatever their publishers asked for.
    pub fn is_always_durable(self) -> bool {
        matches!(self, Self::Quorum | Self::Stream | Self::Retained)
    }
}

/// Where messages go past a queue, if somebody is there.
pub(crate) type Past = Option<(Arc<dyn Outlet>, ConsumerKey)>;

/// The argument of queues that take only messages that are to survive a restart; others go past them, or nowhere.
pub const DURABLE_ONLY: &str = "x-durable-only";

/// What stands behind a queue's name.
#[derive(Debug)]
pub enum QueueKind {
    /// Competing consumers, settlement in any order.
    Queue,
    /// No storage: messages go straight to one session. For request and reply.
    Direct(Arc<dyn Outlet>, ConsumerKey),
}

impl QueueInfo {
    /// A queue of a type, with nothing but a name.
    pub(crate) fn new(id: QueueId, vhost: Name, name: Name, queue_type: QueueType) -> Self {
        Self {
            id,
            vhost,
            name,
            durable: false,
            auto_delete: false,
            owner: None,
            arguments: Table::default(),
            durability: Durability::Fsync,
            queue_type,
            kind: QueueKind::Queue,
            past: None,
            rules: RwLock::new(Rules::shared(Rules::new(queue_type, &Table::default(), None, None))),
            is_traced: AtomicBool::new(false),
            is_timed: AtomicBool::new(false),
            slot: AtomicU32::new(0),
        }
    }

    /// By which the log knows a message in a slot.
    pub fn holder_of(&self, slot: u64) -> u64 {
        self.holder(crate::queue::priority_of(slot))
    }

    /// Whether the queue takes only messages that are to survive a restart.
    pub(crate) fn past_of(arguments: &Table) -> Option<RwLock<Past>> {
        (arguments.get(DURABLE_ONLY) == Some(&Value::Bool(true))).then(RwLock::default)
    }

    /// The choice of durability in a queue's arguments.
    pub(crate) fn durability_of(arguments: &Table) -> Durability {
        match arguments.get("x-durability").and_then(Value::as_text) {
            Some("os") => Durability::Os,
            _ => Durability::Fsync,
        }
    }

    /// Whether it is a queue that clients know, and not one that stands for something else.
    pub fn is_ordinary(&self) -> bool {
        let is_hidden = matches!(self.queue_type, QueueType::Delay | QueueType::Retained);
        matches!(self.kind, QueueKind::Queue) && !is_hidden
    }

    /// What applies to the queue now.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// By which the log knows the queue's messages of one priority.
    pub fn holder(&self, priority: u8) -> u64 {
        self.id.0 | u64::from(priority) << PRIORITY_SHIFT
    }

    /// The queue and the priority of a holder.
    pub fn of_holder(holder: u64) -> (QueueId, u8) {
        (QueueId(holder & !(0xff << PRIORITY_SHIFT)), (holder >> PRIORITY_SHIFT) as u8)
    }

    /// Whether the queue keeps a message on disk.
    pub(crate) fn keeps(&self, durable: bool) -> bool {
        self.durable && (durable || self.queue_type.is_always_durable())
    }

    /// The queue as error texts name it.
    pub fn resource(&self) -> Resource {
        Resource { kind: "queue", name: self.name.clone(), vhost: self.vhost.clone() }
    }
}

/// Destinations with the number of bindings that lead to each. Most sets have one; that one needs no tree.
#[derive(Debug, Default)]
pub struct DestinationSet {
    first: Option<(Destination, u32)>,
    others: BTreeMap<Destination, u32>,
}

impl DestinationSet {
    fn insert(&mut self, destination: Destination) {
        match &mut self.first {
            Some((first, count)) if *first == destination => *count += 1,
            None if self.others.is_empty() => self.first = Some((destination, 1)),
            _ => *self.others.entry(destination).or_default() += 1,
        }
    }

    fn remove(&mut self, destination: &Destination) {
        if let Some((first, count)) = &mut self.first
            && first == destination
        {
            *count -= 1;
            if *count == 0 {
                self.first = None;
            }
        } else if let Some(count) = self.others.get_mut(destination) {
            *count -= 1;
            if *count == 0 {
                self.others.remove(destination);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.first.iter().map(|(first, _)| first).chain(self.others.keys())
    }
}
