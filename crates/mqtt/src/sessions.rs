//! What outlives a connection: sessions, their subscriptions and packet identifiers, and wills that are yet to come.
//!
//! A session has one connection or none. Who comes with its client identifier takes it over: the one before says goodbye and
//! leaves the session here, where the new one finds it. What must outlive the broker is noted in the log, a note for each
//! session, subscription and packet identifier, so that each costs what it says and not what the session is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    task::Waker,
};

use broker::{
    Batch, Broker, DeleteRule, Millis, Name, Position,
    broker::Caller,
    publish::Body,
    record::{Reader, put_text},
};
use parking_lot::Mutex;

use crate::{
    EXCHANGE, ORIGIN,
    message::{self, HEAD_BYTES, Published, Stored},
    outgoing::{Outgoing, Place},
    packet::{Options, Qos, Version},
    subscriptions::{Subscription, Subscriptions},
    topic,
};

/// A session expiry that never comes (section 3.1.2.11.2).
pub const NEVER: u32 = u32::MAX;

/// Whose a session is: vhost and client identifier.
pub type Key = (Name, Name);

/// What a session leaves for its next connection.
#[derive(Debug, Default)]
pub struct Carried {
    /// Subscriptions that are not shared.
    pub subscriptions: Subscriptions,
    /// Shared subscriptions, by their whole filters.
    pub shared: BTreeMap<Box<str>, Subscription>,
    /// Publishes of the client that it has not released.
    pub received: BTreeSet<u16>,
    /// Publishes to the client that it has, and only their identifiers are in use.
    pub released: BTreeSet<u16>,
    /// Identifiers under which messages of the session's queue were sent.
    pub promised: BTreeMap<Place, (u16, Qos)>,
}

/// What is published if a connection ends out of order.
#[derive(Clone, Debug)]
pub struct Will {
    /// Whose it is.
    pub caller: Caller,
    /// The topic.
    pub topic: Box<str>,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds that it may live.
    pub expiry_s: Option<u32>,
    /// Seconds after which it is published, unless the client is back (section 3.1.3.2.2).
    pub delay_s: u32,
    /// As it is stored.
    pub properties: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A session that a connection has got.
#[derive(Debug)]
pub struct Claimed {
    /// Its number, which is never used for another.
    pub number: u64,
    /// What an earlier connection left, if there was one.
    pub carried: Option<Carried>,
}

/// How a connection leaves its session.
#[derive(Debug)]
pub struct Leaving {
    /// Seconds that the session stays; 0 if it ends, [`NEVER`] for ever.
    pub expiry_s: u32,
    /// What is left for the next connection.
    pub carried: Carried,
    /// What is to be published.
    pub will: Option<Will>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    user: Name,
    version: Version,
    expiry_s: u32,
    /// Whether it was ever to outlive a connection, so that it has notes and a durable queue.
    is_durable: bool,
    connection: Option<Arc<Outgoing>>,
    /// What the session left, while it has no connection.
    carried: Carried,
    /// When it ends, if nobody comes.
    ends: Option<Millis>,
    will: Option<(Millis, Will)>,
    /// Who waits for the connection to go.
    waiting: Vec<Waker>,
}

#[derive(Debug, Default)]
struct Registry {
    entries: HashMap<Key, Entry>,
    /// Sessions for which something is to be done at a time.
    due: BTreeSet<(Millis, Key)>,
    /// Members of shared subscriptions, by vhost and queue.
    groups: HashMap<(Name, Name), BTreeSet<u64>>,
}

/// All sessions of all vhosts.
#[derive(Debug)]
pub struct Sessions {
    broker: Arc<Broker>,
    registry: Mutex<Registry>,
    /// Woken when something becomes due sooner.
    timer: Mutex<Option<Waker>>,
}

/// Keys of notes.
mod note {
    use super::{Key, Place, put_text};

    pub const SESSION: u8 = b'c';
    pub const SUBSCRIPTION: u8 = b's';
    pub const RECEIVED: u8 = b'r';
    pub const SENT: u8 = b'o';

    pub fn session((vhost, client_id): &Key) -> Vec<u8> {
        let mut key = vec![SESSION];
        put_text(&mut key, vhost);
        put_text(&mut key, client_id);
        key
    }

    pub fn subscription(number: u64, filter: &str) -> Vec<u8> {
        let mut key = of(SUBSCRIPTION, number);
        put_text(&mut key, filter);
        key
    }

    pub fn packet(kind: u8, number: u64, packet_id: u16) -> Vec<u8> {
        let mut key = of(kind, number);
        key.extend_from_slice(&packet_id.to_be_bytes());
        key
    }

    fn of(kind: u8, number: u64) -> Vec<u8> {
        let mut key = vec![kind];
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// Where a message lies that was sent; nothing if the client has it.
    pub fn sent(place: Option<Place>) -> Vec<u8> {
        match place {
            Some(Place::Record(record)) => record.to_be_bytes().to_vec(),
            // What is in memory alone does not outlive the broker.
            Some(Place::Slot(_)) => 0_u64.to_be_bytes().to_vec(),
            None => Vec::new(),
        }
    }
}

/// Notes down that a publish of the client with quality of service 2 has come, or is released.
pub fn note_received(batch: &mut Batch<'_>, number: u64, packet_id: u16, is_there: bool) {
    let key = note::packet(note::RECEIVED, number, packet_id);
    batch.note(ORIGIN, &key, is_there.then_some(&[]));
}

/// Notes down that a message with quality of service 2 is sent, or that the client has it (no place).
pub fn note_sent(batch: &mut Batch<'_>, number: u64, packet_id: u16, place: Option<Place>) {
    batch.note(ORIGIN, &note::packet(note::SENT, number, packet_id), Some(&note::sent(place)));
}

/// Notes down that a packet identifier is no longer in use.
pub fn note_complete(batch: &mut Batch<'_>, number: u64, packet_id: u16) {
    batch.note(ORIGIN, &note::packet(note::SENT, number, packet_id), None);
}

/// Notes down a subscription, or that it is gone.
pub fn note_subscription(batch: &mut Batch<'_>, number: u64, filter: &str, one: Option<&Subscription>) {
    let value = one.map(|one| {
        let mut value = vec![one.options.byte()];
        value.extend_from_slice(&one.id.to_be_bytes());
        value
    });
    batch.note(ORIGIN, &note::subscription(number, filter), value.as_deref());
}

impl Entry {
    fn note(&self, batch: &mut Batch<'_>, key: &Key) {
        let mut value = self.number.to_be_bytes().to_vec();
        value.extend_from_slice(&self.expiry_s.to_be_bytes());
        value.push(self.version as u8);
        value.extend_from_slice(&self.ends.map_or(0, |ends| ends.0).to_be_bytes());
        put_text(&mut value, &self.user);
        batch.note(ORIGIN, &note::session(key), Some(&value));
    }

    fn read(mut value: Reader<'_>) -> Option<Self> {
        let number = value.u64().ok()?;
        let expiry_s = value.u32().ok()?;
        let version = match value.u8().ok()? {
            3 => Version::V31,
            4 => Version::V311,
            _ => Version::V5,
        };
        let ends = value.u64().ok()?;
        let ends = (ends != 0).then_some(Millis(ends));
        let user = value.text().ok()?.into();
        let (connection, carried, will, waiting) = (None, Carried::default(), None, Vec::new());
        Some(Self { number, user, version, expiry_s, is_durable: true, connection, carried, ends, will, waiting })
    }

    fn due(&self) -> Option<Millis> {
        let will = self.will.as_ref().map(|(at, _)| *at);
        [self.ends, will].into_iter().flatten().min()
    }
}

/// When something is over that starts now.
fn after(now: Millis, seconds: u32) -> Option<Millis> {
    (seconds != NEVER).then(|| now.plus(u64::from(seconds) * 1000))
}

impl Sessions {
    /// The sessions that an earlier run of the broker left. Those that had a connection then have lost it now.
    pub fn new(broker: &Arc<Broker>) -> Self {
        let mut registry = Registry::default();
        let mut by_number: HashMap<u64, Key> = HashMap::new();
        let (sessions, others): (Vec<_>, Vec<_>) =
            broker.take_notes(ORIGIN).into_iter().partition(|(key, _)| key.first() == Some(&note::SESSION));
        let now = broker.now();
        for (key, value) in &sessions {
            let mut key = Reader::new(&key[1..]);
            let (Ok(vhost), Ok(client_id)) = (key.text(), key.text()) else { continue };
            let Some(mut entry) = Entry::read(Reader::new(value)) else { continue };
            let key: Key = (vhost.into(), client_id.into());
            entry.ends = entry.ends.or_else(|| after(now, entry.expiry_s));
            by_number.insert(entry.number, key.clone());
            registry.due.extend(entry.ends.map(|ends| (ends, key.clone())));
            registry.entries.insert(key, entry);
        }
        let mut orphans = Batch::default();
        for (key, value) in others {
            let mut reader = Reader::new(&key[1..]);
            let of = reader.u64().ok().and_then(|number| by_number.get(&number));
            let entry = of.and_then(|key| registry.entries.get_mut(key));
            if entry.and_then(|entry| entry.carried.restore(key[0], &mut reader, &value)).is_none() {
                orphans.note(ORIGIN, &key, None);
            }
        }
        for ((vhost, _), entry) in &registry.entries {
            for filter in entry.carried.shared.keys() {
                if let Some((group, filter)) = topic::shared(filter) {
                    let group = (vhost.clone(), message::shared_name(group, filter));
                    registry.groups.entry(group).or_default().insert(entry.number);
                }
            }
        }
        broker.apply(&mut orphans);
        Self { broker: Arc::clone(broker), registry: Mutex::new(registry), timer: Mutex::default() }
    }

    /// Gives a connection the session with its client identifier, or a new one. If another connection has it, that one is
    /// told to go, `waker` is woken once it has gone, and there is nothing yet.
    pub fn claim(
        &self,
        key: &Key,
        caller: &Caller,
        version: Version,
        clean_start: bool,
        outgoing: &Arc<Outgoing>,
        waker: &Waker,
    ) -> Option<Claimed> {
        let mut registry = self.registry.lock();
        let Registry { entries, due, .. } = &mut *registry;
        let found = entries.get_mut(key);
        if let Some(entry) = &found
            && let Some(connection) = entry.connection.clone()
        {
            if let Some(entry) = found {
                entry.waiting.push(waker.clone());
            }
            drop(registry);
            connection.take_over().into_iter().for_each(Waker::wake);
            return None;
        }
        let mut over = None;
        if let Some(entry) = found {
            if let Some(at) = entry.due() {
                due.remove(&(at, key.clone()));
            }
            // The will of a session that goes on is not published (MQTT-3.1.3-9); that of one that ends is.
            let is_over = entry.ends.is_some_and(|ends| ends <= self.broker.now());
            let goes_on = !clean_start && entry.user == caller.user && !is_over;
            let will = entry.will.take().filter(|_| !goes_on);
            entry.ends = None;
            if goes_on {
                (entry.connection, entry.version) = (Some(Arc::clone(outgoing)), version);
                return Some(Claimed { number: entry.number, carried: Some(std::mem::take(&mut entry.carried)) });
            }
            over = entries.remove(key).map(|entry| (entry, will));
        }
        let number = self.broker.unique_number();
        let entry = Entry {
            number,
            user: caller.user.clone(),
            version,
            expiry_s: 0,
            is_durable: false,
            connection: Some(Arc::clone(outgoing)),
            carried: Carried::default(),
            ends: None,
            will: None,
            waiting: Vec::new(),
        };
        entries.insert(key.clone(), entry);
        drop(registry);
        if let Some((entry, will)) = over {
            self.end(key, entry);
            will.into_iter().for_each(|(_, will)| self.publish_will(&will));
        }
        Some(Claimed { number, carried: None })
    }

    /// Notes down how long a session stays once its connection is gone. Returns when that is safe.
    pub fn keep(&self, key: &Key, expiry_s: u32) -> Position {
        let mut batch = Batch::default();
        let mut registry = self.registry.lock();
        let Some(entry) = registry.entries.get_mut(key) else { return Position(0) };
        entry.expiry_s = expiry_s;
        entry.is_durable |= expiry_s > 0;
        if entry.is_durable {
            entry.note(&mut batch, key);
        }
        drop(registry);
        if batch.is_empty() { Position(0) } else { self.broker.apply(&mut batch).position }
    }

    /// A connection is gone, or goes because another one takes the session over.
    pub fn leave(&self, key: &Key, number: u64, leaving: Leaving, now: Millis) {
        let mut registry = self.registry.lock();
        let Registry { entries, due, .. } = &mut *registry;
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.number == number) else { return };
        entry.connection = None;
        let waiting = std::mem::take(&mut entry.waiting);
        let Leaving { expiry_s, carried, will } = leaving;
        let mut batch = Batch::default();
        let (mut over, mut publish) = (None, None);
        if expiry_s == 0 {
            entry.carried = carried;
            over = entries.remove(key);
            publish = will;
        } else {
            (entry.expiry_s, entry.carried) = (expiry_s, carried);
            entry.ends = after(now, expiry_s);
            match will {
                Some(will) if will.delay_s > 0 => {
                    entry.will = after(now, will.delay_s.min(expiry_s)).map(|at| (at, will));
                }
                will => publish = will,
            }
            entry.note(&mut batch, key);
            due.extend(entry.due().map(|at| (at, key.clone())));
        }
        drop(registry);
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
        publish.iter().for_each(|will| self.publish_will(will));
        over.into_iter().for_each(|entry| self.end(key, entry));
        waiting.into_iter().for_each(Waker::wake);
        let timer = self.timer.lock().take();
        timer.into_iter().for_each(Waker::wake);
    }

    /// Forgets a session: its queue, its part in shared subscriptions, and what was noted of it.
    fn end(&self, key: &Key, entry: Entry) {
        let (vhost, client_id) = key;
        let Entry { number, carried, is_durable, .. } = entry;
        for filter in carried.shared.keys() {
            self.leave_group(vhost, filter, number);
        }
        if !is_durable {
            return;
        }
        if let Ok(operator) = self.broker.operator(vhost) {
            let _ = self.broker.delete_queue(&operator, &message::queue_name(client_id), DeleteRule::default());
        }
        let mut batch = Batch::default();
        batch.note(ORIGIN, &note::session(key), None);
        let filters = carried.subscriptions.iter().map(|(filter, _)| filter);
        for filter in filters.chain(carried.shared.keys().map(|filter| &**filter)) {
            note_subscription(&mut batch, number, filter, None);
        }
        carried.received.iter().for_each(|packet_id| note_received(&mut batch, number, *packet_id, false));
        let sent =
            carried.promised.values().filter(|(_, qos)| *qos == Qos::ExactlyOnce).map(|(packet_id, _)| packet_id);
        sent.chain(&carried.released).for_each(|packet_id| note_complete(&mut batch, number, *packet_id));
        self.broker.apply(&mut batch);
    }

    /// Counts a session in as a member of a shared subscription.
    pub fn join_group(&self, vhost: &Name, queue: &Name, number: u64) {
        self.registry.lock().groups.entry((vhost.clone(), queue.clone())).or_default().insert(number);
    }

    /// Counts a member of a shared subscription out. With the last one its queue goes.
    pub fn leave_group(&self, vhost: &Name, filter: &str, number: u64) {
        let Some((group, filter)) = topic::shared(filter) else { return };
        let queue = message::shared_name(group, filter);
        let group = (vhost.clone(), queue.clone());
        let mut registry = self.registry.lock();
        let Some(members) = registry.groups.get_mut(&group) else { return };
        members.remove(&number);
        if !members.is_empty() {
            return;
        }
        registry.groups.remove(&group);
        drop(registry);
        if let Ok(operator) = self.broker.operator(vhost) {
            let _ = self.broker.delete_queue(&operator, &queue, DeleteRule::default());
        }
    }

    /// Ends sessions and publishes wills that are due. Returns when something is due next; `waker` is woken if that changes.
    pub fn catch_up(&self, waker: &Waker) -> Option<Millis> {
        *self.timer.lock() = Some(waker.clone());
        let now = self.broker.now();
        let mut registry = self.registry.lock();
        let (mut over, mut wills) = (Vec::new(), Vec::new());
        while let Some((at, key)) = registry.due.first().cloned()
            && at <= now
        {
            registry.due.pop_first();
            let Registry { entries, due, .. } = &mut *registry;
            let Some(entry) = entries.get_mut(&key).filter(|entry| entry.connection.is_none()) else { continue };
            let is_over = entry.ends.is_some_and(|ends| ends <= now);
            wills.extend(entry.will.take_if(|(at, _)| *at <= now || is_over).map(|(_, will)| will));
            if is_over {
                over.extend(entries.remove(&key).map(|entry| (key, entry)));
            } else {
                due.extend(entry.due().map(|at| (at, key)));
            }
        }
        let next = registry.due.first().map(|(at, _)| *at);
        drop(registry);
        over.into_iter().for_each(|(key, entry)| self.end(&key, entry));
        wills.iter().for_each(|will| self.publish_will(will));
        next
    }

    /// Publishes a will, if its client may.
    fn publish_will(&self, will: &Will) {
        let Will { caller, topic, qos, retain, expiry_s, properties, payload, .. } = will;
        if topic::is_of_broker(topic) {
            return;
        }
        let keys = topic::keys(topic);
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let Ok(mut route) = self.broker.route(caller, EXCHANGE, &keys, &Published(properties)) else { return };
        if *retain {
            route = route.with(&self.broker.retained_queue(caller.vhost.name()));
        }
        let body = Body::Borrowed {
            routing_key: topic,
            origin: ORIGIN,
            durable: *qos > Qos::AtMostOnce,
            priority: None,
            ttl_ms: expiry_s.map(|seconds| u64::from(seconds) * 1000),
            properties,
            payload,
        };
        let mut batch = Batch::default();
        batch.publish(Arc::new(route), body, 0);
        self.broker.apply(&mut batch);
    }

    /// Sessions with a connection, and sessions without.
    pub fn counts(&self) -> (usize, usize) {
        let registry = self.registry.lock();
        let connected = registry.entries.values().filter(|entry| entry.connection.is_some()).count();
        (connected, registry.entries.len() - connected)
    }
}

impl Will {
    /// The properties of a will as they are stored.
    pub fn stored(qos: Qos, retain: bool, number: u64, forwarded: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + forwarded.len());
        bytes.extend_from_slice(&Stored::head(qos, retain, number));
        bytes.extend_from_slice(forwarded);
        bytes
    }
}

impl Carried {
    /// Puts back what was noted.
    fn restore(&mut self, kind: u8, key: &mut Reader<'_>, value: &[u8]) -> Option<()> {
        match kind {
            note::SUBSCRIPTION => {
                let filter = key.text().ok()?;
                let (options, id) = value.split_first()?;
                let options = Options::of_byte(*options, Version::V5).ok()?;
                let one = Subscription { options, id: u32::from_be_bytes(id.try_into().ok()?) };
                if topic::shared(filter).is_some() {
                    self.shared.insert(filter.into(), one);
                } else {
                    self.subscriptions.insert(filter, one);
                }
            }
            note::RECEIVED => {
                self.received.insert(packet_id(key)?);
            }
            note::SENT if value.is_empty() => {
                self.released.insert(packet_id(key)?);
            }
            note::SENT => {
                let record = u64::from_be_bytes(value.try_into().ok()?);
                if record == 0 {
                    return None;
                }
                self.promised.insert(Place::Record(record), (packet_id(key)?, Qos::ExactlyOnce));
            }
            _ => return None,
        }
        Some(())
    }
}

fn packet_id(key: &mut Reader<'_>) -> Option<u16> {
    Some(u16::from_be_bytes([key.u8().ok()?, key.u8().ok()?]))
}
