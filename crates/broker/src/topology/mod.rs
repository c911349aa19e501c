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
    sync::{Arc, atomic::AtomicU32},
};

pub(crate) use self::hash::mix;
pub use self::{
    exchange::{Exchange, ExchangeDeclaration, ExchangeKind},
    facts::Facts,
    history::History,
    vhost::{Added, Binding, Removed, Routed, Vhost, VhostState},
};
use crate::{
    log::Durability,
    outlet::{ConsumerKey, Outlet},
    refusal::Resource,
    session::SessionId,
    value::{Name, Table, Value},
};

/// A queue's identity. It is never used twice, so a queue declared anew never sees what its namesake left in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

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
    /// What stands behind the name.
    pub kind: QueueKind,
    /// Index in its shard; see [`crate::queue::Shard`].
    pub(crate) slot: AtomicU32,
}

/// What stands behind a queue's name.
#[derive(Debug)]
pub enum QueueKind {
    /// Competing consumers, settlement in any order.
    Queue,
    /// No storage: messages go straight to one session. For request and reply.
    Direct(Arc<dyn Outlet>, ConsumerKey),
}

impl QueueInfo {
    /// The choice of durability in a queue's arguments.
    pub(crate) fn durability_of(arguments: &Table) -> Durability {
        match arguments.get("x-durability").and_then(Value::as_text) {
            Some("os") => Durability::Os,
            _ => Durability::Fsync,
        }
    }

    /// The queue as error texts name it.
    pub fn resource(&self) -> Resource {
        Resource { kind: "queue", name: self.name.clone(), vhost: self.vhost.clone() }
    }
}

/// Destinations with the number of bindings that lead to each.
#[derive(Debug, Default)]
pub struct DestinationSet(BTreeMap<Destination, u32>);

impl DestinationSet {
    fn insert(&mut self, destination: Destination) {
        *self.0.entry(destination).or_default() += 1;
    }

    fn remove(&mut self, destination: &Destination) {
        if let Some(count) = self.0.get_mut(destination) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(destination);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.0.keys()
    }
}
