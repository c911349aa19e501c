//! Connections and channels as an operator sees them: who is at the other end, and how much goes through.
//!
//! A session makes a [`Connection`] known once its client is in, and keeps its numbers up to date; see
//! [`crate::Broker::introduce`].

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;

use crate::{
    outlet::Outlet,
    session::{Millis, Peer, SessionId},
    traffic::{Counter, Counts, Traffic},
    value::{Name, Table},
};

/// What a client and its session agreed on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The protocol, with its version, as RabbitMQ writes it.
    pub protocol: &'static str,
    /// How the client showed who it is.
    pub mechanism: &'static str,
    /// What the client calls itself.
    pub client_id: Option<Name>,
    /// What it says of itself.
    pub client_properties: Table,
    /// Most channels; 0 if there are none or any number.
    pub channel_max: u16,
    /// Longest frame, in bytes; 0 for any.
    pub frame_max: u32,
    /// Seconds between signs of life; 0 for none.
    pub heartbeat_s: u16,
}

/// A connection whose client is in.
#[derive(Debug)]
pub struct Connection {
    /// The session that drives it.
    pub session: SessionId,
    /// Its user.
    pub user: Name,
    /// The vhost that it is in.
    pub vhost: Name,
    /// Who is at the other end.
    pub peer: Peer,
    /// What was agreed on.
    pub terms: Terms,
    /// When it began.
    pub began: Millis,
    /// Messages, but those of channels that are open.
    pub traffic: Traffic,
    /// Bytes from the client.
    pub bytes_in: Counter,
    /// Bytes to the client.
    pub bytes_out: Counter,
    /// Whether its publishes wait.
    pub is_blocked: AtomicBool,
    channels: Mutex<BTreeMap<u16, Arc<Channel>>>,
    /// Why it is to end.
    closing: OnceLock<Box<str>>,
    outlet: Weak<dyn Outlet>,
}

/// A channel of a connection.
#[derive(Debug, Default)]
pub struct Channel {
    /// Its number in its connection.
    pub number: u16,
    /// Messages.
    pub traffic: Traffic,
    /// Publishes that are to be confirmed.
    pub to_confirm: Counter,
    /// Publishes in a transaction that is not committed.
    pub uncommitted: AtomicU32,
    /// Settlements in such a transaction.
    pub uncommitted_acks: AtomicU32,
    /// Unsettled deliveries allowed to each consumer to come.
    pub prefetch: AtomicU32,
    /// Unsettled deliveries allowed to all consumers together.
    pub global_prefetch: AtomicU32,
    /// Consumers.
    pub consumers: AtomicU32,
    /// Whether publishes are confirmed.
    pub confirms: AtomicBool,
    /// Whether it has transactions.
    pub is_transactional: AtomicBool,
}

impl Connection {
    /// A connection that begins.
    pub fn new(
        (session, user, vhost): (SessionId, &Name, &Name),
        peer: Peer,
        terms: Terms,
        began: Millis,
        outlet: &Arc<dyn Outlet>,
    ) -> Self {
        Self {
            session,
            user: user.clone(),
            vhost: vhost.clone(),
            peer,
            terms,
            began,
            traffic: Traffic::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            is_blocked: AtomicBool::new(false),
            channels: Mutex::default(),
            closing: OnceLock::new(),
            outlet: Arc::downgrade(outlet),
        }
    }

    /// The name by which operators know it: where it comes from and where it leads.
    pub fn name(&self) -> String {
        let Peer { address, port, local, .. } = &self.peer;
        format!("{} -> {local}", SocketAddr::new(*address, *port))
    }

    /// Its channels, by number.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.lock().values().cloned().collect()
    }

    /// How many channels are open.
    pub fn channel_count(&self) -> usize {
        self.channels.lock().len()
    }

    /// A channel begins.
    pub fn open_channel(&self, number: u16) -> Arc<Channel> {
        let channel = Arc::new(Channel { number, ..Channel::default() });
        self.channels.lock().insert(number, Arc::clone(&channel));
        channel
    }

    /// A channel ends. What went through it counts as the connection's own from now on.
    pub fn close_channel(&self, number: u16) {
        if let Some(channel) = self.channels.lock().remove(&number) {
            self.traffic.take_over(&channel.traffic.counts());
        }
    }

    /// All that went through, by whatever channel.
    pub fn counts(&self) -> Counts {
        let channels = self.channels.lock();
        let mut counts = self.traffic.counts();
        channels.values().for_each(|channel| counts.add_all(&channel.traffic.counts()));
        counts
    }

    /// Deliveries of a channel that the client has not settled.
    pub fn unsettled(&self, channel: u16) -> usize {
        self.outlet.upgrade().map_or(0, |outlet| outlet.unsettled(channel))
    }

    /// Has the session end the connection, and tell the client why.
    pub fn close(&self, reason: &str) {
        let _ = self.closing.set(reason.into());
        let waker = self.outlet.upgrade().and_then(|outlet| outlet.waker());
        waker.into_iter().for_each(Waker::wake);
    }

    /// Why the connection is to end, if it is.
    pub fn closing(&self) -> Option<&str> {
        self.closing.get().map(|reason| &**reason)
    }

    /// Whether its publishes wait.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }
}
