//! Sessions as an operator sees them, and what becomes of them when he removes their vhost.

use broker::{Millis, Name};

use super::{Key, Sessions};

/// A session as it is.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Its vhost.
    pub vhost: Name,
    /// Its client identifier.
    pub client_id: Name,
    /// Whose it is.
    pub user: Name,
    /// The version that its client spoke last.
    pub version: &'static str,
    /// Whether it has a connection.
    pub is_connected: bool,
    /// Seconds that it stays without a connection.
    pub expiry_s: u32,
    /// When it ends, if nobody comes.
    pub ends: Option<Millis>,
    /// Filters of its subscriptions, with their quality of service.
    pub subscriptions: Vec<(String, u8)>,
    /// Messages that were sent and are not complete.
    pub in_flight: usize,
}

impl Sessions {
    /// All sessions, by vhost and client identifier.
    pub fn survey(&self) -> Vec<Survey> {
        let registry = self.registry.lock();
        let mut found = Vec::with_capacity(registry.entries.len());
        let mut connected = Vec::new();
        for ((vhost, client_id), entry) in &registry.entries {
            let carried = entry.carried.as_ref();
            let own = carried.iter().flat_map(|carried| carried.subscriptions.iter());
            let shared = carried.iter().flat_map(|carried| carried.shared.iter());
            let own = own.map(|(filter, one)| (filter.to_string(), one.options.qos as u8));
            let shared = shared.map(|(filter, one)| (filter.to_string(), one.options.qos as u8));
            if let Some(connection) = &entry.connection {
                connected.push((found.len(), connection.clone()));
            }
            found.push(Survey {
                vhost: vhost.clone(),
                client_id: client_id.clone(),
                user: entry.user.clone(),
                version: entry.version.name(),
                is_connected: entry.connection.is_some(),
                expiry_s: entry.expiry_s,
                ends: entry.ends,
                subscriptions: own.chain(shared).collect(),
                in_flight: carried.map_or(0, |carried| carried.promised.len() + carried.released.len()),
            });
        }
        drop(registry);
        // Connections call the sessions while they are locked themselves, so that they are asked afterwards.
        for (index, connection) in connected {
            let state = connection.lock();
            let filters = state.subscriptions.iter();
            found[index].subscriptions =
                filters.map(|(filter, one)| (filter.to_string(), one.options.qos as u8)).collect();
            found[index].in_flight = state.in_flight.len();
        }
        found.sort_by(|a, b| (&a.vhost, &a.client_id).cmp(&(&b.vhost, &b.client_id)));
        found
    }

    /// A vhost is gone: its sessions end. Those with a connection end with it.
    pub fn forget_vhost(&self, vhost: &Name) {
        let mut registry = self.registry.lock();
        let is_left = |(key, entry): &(&Key, &super::Entry)| key.0 == *vhost && entry.connection.is_none();
        let keys: Vec<Key> = registry.entries.iter().filter(is_left).map(|(key, _)| key.clone()).collect();
        let mut over = Vec::new();
        for key in keys {
            let Some(entry) = registry.entries.remove(&key) else { continue };
            if let Some(at) = entry.due() {
                registry.due.remove(&(at, key.clone()));
            }
            over.push((key, entry));
        }
        drop(registry);
        over.into_iter().for_each(|(key, entry)| self.end(&key, entry, None));
    }
}
