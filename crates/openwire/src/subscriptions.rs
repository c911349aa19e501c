//! Consumers of all clients, with numbers for who asks for them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::Name;
use parking_lot::Mutex;

use crate::connection::ConsumerInfo;

/// A vhost, and a consumer's id.
type Key = (Name, Box<str>);

/// All consumers.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<BTreeMap<Key, Arc<Subscription>>>);

/// A consumer.
#[derive(Debug)]
pub struct Subscription {
    /// What its client has asked for.
    pub info: ConsumerInfo<'static>,
    /// What its client calls itself.
    pub client_id: Option<Box<str>>,
    /// What went through it.
    pub numbers: Arc<Numbers>,
}

/// What went through a consumer. Its connection's output counts, under its lock.
#[derive(Debug, Default)]
pub struct Numbers {
    dispatched: AtomicU64,
    done: AtomicU64,
}

impl Numbers {
    /// A message has been dispatched.
    pub fn count_dispatched(&self) {
        let count = self.dispatched.load(Ordering::Relaxed) + 1;
        self.dispatched.store(count, Ordering::Relaxed);
    }

    /// The client is done with so many.
    pub fn count_done(&self, messages: usize) {
        let count = self.done.load(Ordering::Relaxed) + messages as u64;
        self.done.store(count, Ordering::Relaxed);
    }

    /// Messages that were dispatched, and those of them that the client is done with.
    pub fn get(&self) -> (u64, u64) {
        (self.dispatched.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed))
    }
}

impl Subscriptions {
    /// A consumer has come.
    pub fn add(&self, vhost: &Name, id: &str, subscription: Subscription) {
        self.0.lock().insert((vhost.clone(), id.into()), Arc::new(subscription));
    }

    /// It is gone.
    pub fn remove(&self, vhost: &Name, id: &str) {
        self.0.lock().remove(&(vhost.clone(), id.into()));
    }

    /// Those of a vhost, in the order of their ids.
    pub fn of(&self, vhost: &Name) -> Vec<Arc<Subscription>> {
        let subscriptions = self.0.lock();
        subscriptions.iter().filter(|((of, _), _)| of == vhost).map(|(_, one)| Arc::clone(one)).collect()
    }
}
