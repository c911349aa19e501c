//! Who is connected.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::{Broker, Caller};
use crate::{
    connection::{Connection, Terms},
    outlet::Outlet,
    session::{Peer, SessionId},
    traffic::Counts,
    value::Name,
};

/// How often things began and ended.
#[derive(Debug, Default)]
pub struct Churn([AtomicU64; Change::ALL.len()]);

/// Something that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Change {
    ConnectionCreated,
    ConnectionClosed,
    ChannelCreated,
    ChannelClosed,
    QueueDeclared,
    QueueCreated,
    QueueDeleted,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ConnectionCreated,
        Self::ConnectionClosed,
        Self::ChannelCreated,
        Self::ChannelClosed,
        Self::QueueDeclared,
        Self::QueueCreated,
        Self::QueueDeleted,
    ];
}

impl Churn {
    /// Counts one more.
    pub(crate) fn count(&self, change: Change) {
        self.0[change as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has happened.
    pub fn get(&self, change: Change) -> u64 {
        self.0[change as usize].load(Ordering::Relaxed)
    }
}

/// What went through connections, by protocol and vhost: messages, and bytes in and out.
pub type Sums = BTreeMap<(&'static str, Name), (Counts, u64, u64)>;

fn add(sums: &mut Sums, connection: &Connection) {
    let (counts, bytes_in, bytes_out) = sums.entry((connection.terms.protocol, connection.vhost.clone())).or_default();
    counts.add_all(&connection.counts());
    *bytes_in += connection.bytes_in.get();
    *bytes_out += connection.bytes_out.get();
}

/// Who is connected, and what those have left behind who no longer are.
#[derive(Debug, Default)]
pub(super) struct Connections {
    present: RwLock<BTreeMap<SessionId, Arc<Connection>>>,
    /// What went through connections that are gone.
    past: RwLock<Sums>,
}

impl Broker {
    /// Makes known a connection whose client has entered a vhost.
    pub fn introduce(&self, caller: &Caller, peer: Peer, terms: Terms, outlet: &Arc<dyn Outlet>) -> Arc<Connection> {
        let who = (caller.session, &caller.user, caller.vhost.name());
        let connection = Arc::new(Connection::new(who, peer, terms, self.now(), outlet));
        self.connections.present.write().insert(caller.session, Arc::clone(&connection));
        self.churn.count(Change::ConnectionCreated);
        connection
    }

    /// A connection is gone. What went through it is remembered with that of others.
    pub(super) fn dismiss(&self, session: SessionId) {
        let mut present = self.connections.present.write();
        let Some(connection) = present.remove(&session) else { return };
        // Under the lock, so that no sum misses it or has it twice.
        let mut past = self.connections.past.write();
        add(&mut past, &connection);
        self.churn.count(Change::ConnectionClosed);
    }

    /// All connections, the oldest first.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.present.read().values().cloned().collect()
    }

    /// The connection of a session.
    pub fn connection(&self, session: SessionId) -> Option<Arc<Connection>> {
        self.connections.present.read().get(&session).cloned()
    }

    /// What went through all connections that were ever there.
    pub fn traffic(&self) -> Sums {
        let present = self.connections.present.read();
        let mut sums = self.connections.past.read().clone();
        present.values().for_each(|connection| add(&mut sums, connection));
        sums
    }
}
