//! What connections have in common: which client has which name, and the temporary destinations.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    sync::{Arc, Weak},
    task::Waker,
};

use broker::{Broker, Name, SessionId, broker::Caller};
use parking_lot::Mutex;

use crate::{
    ORIGIN, branches::Branches, directory::Directory, ids::DestinationKind, outgoing::Outgoing, sequences::Sequences,
    session::Client, subscriptions::Subscriptions,
};

/// What connections have in common.
#[derive(Debug, Default)]
pub struct Shared {
    /// Branches of XA transactions.
    pub branches: Branches,
    /// How far producers have come that may come back.
    pub sequences: Sequences,
    state: Mutex<State>,
    notices: AtomicI64,
    /// Clients that were told which broker to go to.
    spread: AtomicUsize,
    /// What advisories tell of.
    pub directory: Directory,
    /// All consumers.
    pub subscriptions: Subscriptions,
}

/// Something in a vhost, by its name.
type Key = (Name, Box<str>);

#[derive(Debug, Default)]
struct State {
    clients: HashMap<Key, Present>,
    temporaries: BTreeMap<Key, Temporary>,
    /// Sessions that wait for others to leave.
    waiting: Vec<Waker>,
}

/// A client that has a name.
#[derive(Debug)]
struct Present {
    session: SessionId,
    connection_id: Box<str>,
    place: String,
    outgoing: Weak<Outgoing>,
}

/// A temporary destination.
#[derive(Clone, Debug)]
pub struct Temporary {
    /// Queue or topic.
    pub kind: DestinationKind,
    /// The connection that has it.
    pub connection_id: Box<str>,
}

/// What comes of asking for a client's name.
#[derive(Debug)]
pub enum Claim {
    /// It is the client's.
    Granted,
    /// The same client has it by an earlier connection, which was told to end.
    Waits,
    /// Another client has it, from there.
    Refused(String),
}

impl Shared {
    /// What an earlier run of the broker left. It has to be here before the broker reads anything from the log.
    pub fn restored(broker: &Broker) -> Self {
        let sequences = Sequences::default();
        let notes =
            broker.take_notes(ORIGIN).into_iter().filter(|(key, value)| !sequences.restore(key, value)).collect();
        Self { branches: Branches::restored(broker, notes), sequences, ..Self::default() }
    }

    /// The number of the next message of the broker's own.
    pub fn next_notice(&self) -> i64 {
        self.notices.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of the broker that the next client is to go to.
    pub fn next_broker(&self) -> usize {
        self.spread.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives a client its name. `place` is where it is, for others to be told; `waker` is woken when it is to ask again.
    pub fn claim(
        &self,
        caller: &Caller,
        client: &Client,
        place: &str,
        outgoing: &Arc<Outgoing>,
        waker: &Waker,
    ) -> Claim {
        let (Some(client_id), Some(connection_id)) = (&client.client_id, &client.connection_id) else {
            return Claim::Granted;
        };
        let mut state = self.state.lock();
        let key = (caller.vhost.name().clone(), client_id.clone());
        let earlier = match state.clients.get(&key) {
            Some(present) if present.session == caller.session => return Claim::Granted,
            Some(present) if present.connection_id == *connection_id => present.outgoing.upgrade(),
            Some(present) => return Claim::Refused(present.place.clone()),
            None => None,
        };
        if let Some(earlier) = earlier {
            state.waiting.push(waker.clone());
            drop(state);
            let mut earlier = earlier.lock();
            earlier.is_evicted = true;
            let its = earlier.output.take_waker();
            drop(earlier);
            its.into_iter().for_each(Waker::wake);
            return Claim::Waits;
        }
        let (session, connection_id) = (caller.session, connection_id.clone());
        let (place, outgoing) = (place.to_owned(), Arc::downgrade(outgoing));
        state.clients.insert(key, Present { session, connection_id, place, outgoing });
        Claim::Granted
    }

    /// A client is gone, and its name is free.
    pub fn leave(&self, caller: &Caller, client: &Client, session: SessionId) {
        let Some(client_id) = &client.client_id else { return };
        let key = (caller.vhost.name().clone(), client_id.clone());
        let mut state = self.state.lock();
        if state.clients.get(&key).is_some_and(|present| present.session == session) {
            state.clients.remove(&key);
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Adds a temporary destination. Returns whether it was not there.
    pub fn add_temporary(&self, vhost: &Name, name: &str, temporary: Temporary) -> bool {
        self.state.lock().temporaries.insert((vhost.clone(), name.into()), temporary).is_none()
    }

    /// A temporary destination.
    pub fn temporary(&self, vhost: &Name, name: &str) -> Option<Temporary> {
        self.state.lock().temporaries.get(&(vhost.clone(), name.into())).cloned()
    }

    /// Removes a temporary destination. Returns whether it was there.
    pub fn remove_temporary(&self, vhost: &Name, name: &str) -> bool {
        self.state.lock().temporaries.remove(&(vhost.clone(), name.into())).is_some()
    }

    /// The temporary destinations of a vhost, by their names; those of one connection only, if it is named.
    pub fn temporaries(&self, vhost: &Name, connection_id: Option<&str>) -> Vec<(Box<str>, Temporary)> {
        let state = self.state.lock();
        let all = state.temporaries.iter().filter(|((of, _), _)| of == vhost);
        let wanted = all.filter(|(_, temporary)| connection_id.is_none_or(|id| *temporary.connection_id == *id));
        wanted.map(|((_, name), temporary)| (name.clone(), temporary.clone())).collect()
    }
}
