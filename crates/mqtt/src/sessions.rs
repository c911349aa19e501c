//! What outlives a connection: sessions, their subscriptions and packet identifiers, and wills that are yet to come.
//!
//! A session has one connection or none. Who comes with its client identifier takes it over: the one before says goodbye and
//! leaves the session here, where the new one finds it. What must outlive the broker is in its [`notes`].

mod survey;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    task::Waker,
};

use broker::{Batch, Broker, DeleteRule, Millis, Name, Position, broker::Caller};
use parking_lot::Mutex;

pub use self::survey::Survey;
use crate::{
    ORIGIN, message,
    notes::{self, Detail, Kept, Note},
    outgoing::Outgoing,
    packet::{Qos, Version},
    packet_ids::{Freed, Promised},
    subscriptions::{Subscription, Subscriptions},
    sys::{self, Census, Sys},
    topic,
    traffic::Totals,
    will::Will,
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
    pub promised: Promised,
    /// Identifiers that may still be of messages that a crash brings back.
    pub freed: Freed,
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
    carried: Option<Box<Carried>>,
    /// When it ends, if nobody comes.
    ends: Option<Millis>,
    /// What is published, and when, if nobody comes.
    will: Option<Box<(Millis, Will)>>,
    /// Whether a will is noted down.
    has_noted_will: bool,
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
    connected: usize,
    connected_max: usize,
    expired: u64,
}

/// All sessions of all vhosts.
#[derive(Debug)]
pub struct Sessions {
    broker: Arc<Broker>,
    registry: Mutex<Registry>,
    /// What came and went by all connections.
    pub traffic: Totals,
    sys: Mutex<Sys>,
    /// Woken when something becomes due sooner.
    timer: Mutex<Option<Waker>>,
}

impl Entry {
    fn of(kept: Kept) -> Self {
        let Kept { number, user, version, expiry_s, ends } = kept;
        let (connection, carried, will, waiting) = (None, None, None, Vec::new());
        let (is_durable, has_noted_will) = (true, false);
        Self { number, user, version, expiry_s, is_durable, connection, carried, ends, will, has_noted_will, waiting }
    }

    fn note(&self, batch: &mut Batch<'_>, key: &Key) {
        let Self { number, version, expiry_s, ends, .. } = *self;
        notes::session(batch, key, Some(&Kept { number, user: self.user.clone(), version, expiry_s, ends }));
    }

    /// Notes down a will, or that there is none any more.
    fn note_will(&mut self, batch: &mut Batch<'_>, will: Option<(Option<Millis>, &Will)>) {
        if std::mem::replace(&mut self.has_noted_will, will.is_some()) || will.is_some() {
            notes::will(batch, self.number, will);
        }
    }

    /// Puts back what was noted down.
    fn restore(&mut self, detail: Detail, now: Millis) {
        let carried = self.carried.get_or_insert_default();
        match detail {
            Detail::Subscription(filter, one) if topic::shared(&filter).is_some() => {
                carried.shared.insert(filter, one);
            }
            Detail::Subscription(filter, one) => {
                carried.subscriptions.insert(&filter, one);
            }
            Detail::Received(packet_id) => {
                carried.received.insert(packet_id);
            }
            Detail::Sent(packet_id, place, qos) => {
                carried.promised.insert(place, packet_id, qos);
            }
            Detail::Released(packet_id) => {
                carried.released.insert(packet_id);
            }
            Detail::Will(at, will) => {
                // A connection that was there when the broker stopped ends now.
                let at = at.unwrap_or_else(|| will_at(now, &will, self.expiry_s));
                (self.will, self.has_noted_will) = (Some(Box::new((at, *will))), true);
            }
        }
    }

    /// Whether the session's queue should be there.
    fn has_queue(&self) -> bool {
        let mut subscriptions = self.carried.iter().flat_map(|carried| carried.subscriptions.iter());
        subscriptions.any(|(_, one)| one.options.qos > Qos::AtMostOnce)
    }

    /// What was sent with quality of service 2, and so does not expire (MQTT-4.3.3-7).
    fn begun(&self) -> Vec<Position> {
        let promised = self.carried.iter().flat_map(|carried| carried.promised.iter());
        promised.filter(|(_, _, qos)| *qos == Qos::ExactlyOnce).map(|(place, ..)| place.record()).collect()
    }

    fn due(&self) -> Option<Millis> {
        let will = self.will.as_ref().map(|will| will.0);
        [self.ends, will].into_iter().flatten().min()
    }
}

/// When a will is published whose connection ends now: after its delay, or with the session.
fn will_at(now: Millis, will: &Will, expiry_s: u32) -> Millis {
    now.plus(u64::from(will.delay_s.min(expiry_s)) * 1000)
}

/// When something is over that starts now.
fn after(now: Millis, seconds: u32) -> Option<Millis> {
    (seconds != NEVER).then(|| now.plus(u64::from(seconds) * 1000))
}

impl Sessions {
    /// The sessions that an earlier run of the broker left. Those that had a connection then have lost it now. They have to be
    /// here before the broker reads anything from the log.
    /// There are `$SYS` topics if their interval is not 0.
    pub fn new(broker: &Arc<Broker>, sys_interval_ms: u64) -> Self {
        let mut registry = Registry::default();
        let mut by_number: HashMap<u64, Key> = HashMap::new();
        let now = broker.now();
        let (mut details, mut orphans) = (Vec::new(), Batch::default());
        for (key, value) in broker.take_notes(ORIGIN) {
            match notes::read(&key, &value) {
                Some(Note::Session(of, kept)) => {
                    by_number.insert(kept.number, of.clone());
                    registry.entries.insert(of, Entry::of(kept));
                }
                Some(Note::Of(number, detail)) => details.push((key, number, detail)),
                None => orphans.note(ORIGIN, &key, None),
            }
        }
        for (key, number, detail) in details {
            let entry = by_number.get(&number).and_then(|of| registry.entries.get_mut(of));
            match entry {
                Some(entry) => entry.restore(detail, now),
                None => orphans.note(ORIGIN, &key, None),
            }
        }
        broker.apply(&mut orphans);
        let Registry { entries, due, groups, .. } = &mut registry;
        for (key, entry) in entries {
            let (vhost, client_id) = key;
            entry.ends = entry.ends.or_else(|| after(now, entry.expiry_s));
            let queue =
                || broker.operator(vhost).and_then(|operator| broker.queue(&operator, &message::queue_name(client_id)));
            match queue() {
                Ok(queue) => broker.restore_untimed(&queue, &entry.begun()),
                // Of a session that was about to end only this was gone.
                Err(_) if entry.has_queue() => entry.ends = Some(now),
                Err(_) => {}
            }
            due.extend(entry.due().map(|at| (at, key.clone())));
            for filter in entry.carried.iter().flat_map(|carried| carried.shared.keys()) {
                if let Some((group, filter)) = topic::shared(filter) {
                    let group = (vhost.clone(), message::shared_name(group, filter));
                    groups.entry(group).or_default().insert(entry.number);
                }
            }
        }
        delete_abandoned(broker, groups);
        Self {
            broker: Arc::clone(broker),
            registry: Mutex::new(registry),
            traffic: Totals::default(),
            sys: Mutex::new(Sys::new(now, sys_interval_ms)),
            timer: Mutex::default(),
        }
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
        let Registry { entries, due, connected, connected_max, .. } = &mut *registry;
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
        *connected += 1;
        *connected_max = *connected.max(connected_max);
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
                return Some(Claimed {
                    number: entry.number,
                    carried: Some(*entry.carried.take().unwrap_or_default()),
                });
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
            carried: None,
            ends: None,
            will: None,
            has_noted_will: false,
            waiting: Vec::new(),
        };
        entries.insert(key.clone(), entry);
        drop(registry);
        if let Some((entry, will)) = over {
            self.end(key, entry, will.map(|will| will.1));
        }
        Some(Claimed { number, carried: None })
    }

    /// Notes down how long a session stays once its connection is gone, and the will. Returns when that is safe.
    pub fn keep(&self, key: &Key, expiry_s: u32, will: Option<&Will>) -> Position {
        let mut batch = Batch::default();
        let mut registry = self.registry.lock();
        let Some(entry) = registry.entries.get_mut(key) else { return Position(0) };
        entry.expiry_s = expiry_s;
        entry.is_durable |= expiry_s > 0;
        if entry.is_durable {
            entry.note(&mut batch, key);
        }
        entry.note_will(&mut batch, will.filter(|_| entry.is_durable).map(|will| (None, will)));
        drop(registry);
        if batch.is_empty() { Position(0) } else { self.broker.apply(&mut batch).position }
    }

    /// A connection is gone, or goes because another one takes the session over.
    pub fn leave(&self, key: &Key, number: u64, leaving: Leaving, now: Millis) {
        let mut registry = self.registry.lock();
        let Registry { entries, due, connected, .. } = &mut *registry;
        let Some(entry) = entries.get_mut(key).filter(|entry| entry.number == number) else { return };
        entry.connection = None;
        *connected -= 1;
        self.sys.lock().forget(number);
        let waiting = std::mem::take(&mut entry.waiting);
        let Leaving { mut expiry_s, carried, will } = leaving;
        if self.broker.vhost(&key.0).is_none() {
            expiry_s = 0;
        }
        let mut batch = Batch::default();
        entry.carried = Some(Box::new(carried));
        if expiry_s == 0 {
            let over = entries.remove(key);
            drop(registry);
            if let Some(entry) = over {
                self.end(key, entry, will);
            }
        } else {
            entry.expiry_s = expiry_s;
            entry.ends = after(now, expiry_s);
            let is_delayed = will.as_ref().is_some_and(|will| will.delay_s > 0);
            let (later, at_once) = if is_delayed { (will, None) } else { (None, will) };
            let later = later.map(|will| Box::new((will_at(now, &will, expiry_s), will)));
            entry.note_will(&mut batch, later.as_deref().map(|(at, will)| (Some(*at), will)));
            entry.will = later;
            entry.note(&mut batch, key);
            due.extend(entry.due().map(|at| (at, key.clone())));
            drop(registry);
            // What is no longer noted down is published with the same entry of the log.
            at_once.iter().for_each(|will| will.publish(&self.broker, key, &mut batch));
            self.broker.apply(&mut batch);
        }
        waiting.into_iter().for_each(Waker::wake);
        let timer = self.timer.lock().take();
        timer.into_iter().for_each(Waker::wake);
    }

    /// Forgets a session: its queue, its part in shared subscriptions, and what was noted of it. Its will is published.
    fn end(&self, key: &Key, mut entry: Entry, will: Option<Will>) {
        let (vhost, client_id) = key;
        let mut batch = Batch::default();
        will.iter().for_each(|will| will.publish(&self.broker, key, &mut batch));
        entry.note_will(&mut batch, None);
        let Entry { number, carried, is_durable, .. } = entry;
        let carried = carried.unwrap_or_default();
        for filter in carried.shared.keys() {
            self.leave_group(vhost, filter, number);
        }
        if !is_durable {
            if !batch.is_empty() {
                self.broker.apply(&mut batch);
            }
            return;
        }
        if let Ok(operator) = self.broker.operator(vhost) {
            let _ = self.broker.delete_queue(&operator, &message::queue_name(client_id), DeleteRule::default());
        }
        notes::session(&mut batch, key, None);
        let filters = carried.subscriptions.iter().map(|(filter, _)| filter);
        for filter in filters.chain(carried.shared.keys().map(|filter| &**filter)) {
            notes::subscription(&mut batch, number, filter, None);
        }
        carried.received.iter().for_each(|packet_id| notes::received(&mut batch, number, *packet_id, false));
        let sent = carried.promised.iter().map(|(_, packet_id, _)| packet_id);
        let sent = sent.chain(carried.released.iter().copied());
        sent.for_each(|packet_id| notes::complete(&mut batch, number, packet_id));
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
        let mut batch = Batch::default();
        while let Some((at, key)) = registry.due.first().cloned()
            && at <= now
        {
            registry.due.pop_first();
            let Registry { entries, due, expired, .. } = &mut *registry;
            let Some(entry) = entries.get_mut(&key).filter(|entry| entry.connection.is_none()) else { continue };
            let is_over = entry.ends.is_some_and(|ends| ends <= now);
            let will = entry.will.take_if(|will| will.0 <= now || is_over).map(|will| will.1);
            if is_over {
                *expired += 1;
                over.extend(entries.remove(&key).map(|entry| (key, entry, will)));
            } else {
                if let Some(will) = will {
                    entry.note_will(&mut batch, None);
                    wills.push((key.clone(), will));
                }
                due.extend(entry.due().map(|at| (at, key)));
            }
        }
        let next = registry.due.first().map(|(at, _)| *at);
        drop(registry);
        over.into_iter().for_each(|(key, entry, will)| self.end(&key, entry, will));
        wills.iter().for_each(|(key, will)| will.publish(&self.broker, key, &mut batch));
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
        [next, self.look_after_sys(now)].into_iter().flatten().min()
    }

    /// A connection wants to be told of `$SYS` topics.
    pub fn watch_sys(&self, number: u64, outgoing: &Arc<Outgoing>) {
        self.sys.lock().watch(number, outgoing);
    }

    /// The `$SYS` topics as they are.
    pub fn sys_values(&self) -> BTreeMap<String, String> {
        let census = self.census();
        self.sys.lock().values(self.broker.now(), &self.traffic, &census)
    }

    /// Tells of `$SYS` topics when it is time to. Returns when it is again.
    fn look_after_sys(&self, now: Millis) -> Option<Millis> {
        let mut sys = self.sys.lock();
        let due = sys.due()?;
        if due > now {
            return Some(due);
        }
        sys.keep_up(now, &self.traffic);
        let (next, watching) = (sys.due(), sys.watching());
        drop(sys);
        if !watching.is_empty() {
            let census = self.census();
            let changed = self.sys.lock().changes(now, &self.traffic, &census);
            watching.iter().for_each(|outgoing| sys::send(outgoing, &changed, now, None));
        }
        next
    }

    /// What the sessions come to.
    pub fn census(&self) -> Census {
        let registry = self.registry.lock();
        let mut census = Census {
            connected: registry.connected,
            disconnected: registry.entries.len() - registry.connected,
            connected_max: registry.connected_max,
            expired: registry.expired,
            shared_subscriptions: registry.groups.values().map(BTreeSet::len).sum(),
            ..Census::default()
        };
        let without = registry.entries.values().filter_map(|entry| entry.carried.as_ref());
        let without = without.map(|carried| carried.subscriptions.len()).sum::<usize>();
        let connections: Vec<_> = registry.entries.values().filter_map(|entry| entry.connection.clone()).collect();
        drop(registry);
        let with = connections.iter().map(|connection| connection.lock().subscriptions.len()).sum::<usize>();
        census.subscriptions = without + with + census.shared_subscriptions;
        census.retained = self.broker.vhosts().iter().map(|vhost| self.broker.retained_count(vhost.name())).sum();
        census
    }
}

/// Deletes the queues of shared subscriptions that no session has any more: their members went with the broker.
fn delete_abandoned(broker: &Broker, groups: &HashMap<(Name, Name), BTreeSet<u64>>) {
    for vhost in broker.vhosts() {
        let queues: Vec<_> = vhost.read().queues().filter(|queue| message::is_shared(queue)).cloned().collect();
        let Ok(operator) = broker.operator(vhost.name()) else { continue };
        for queue in queues {
            if !groups.contains_key(&(vhost.name().clone(), queue.name.clone())) {
                let _ = broker.delete_queue(&operator, &queue.name, DeleteRule::default());
            }
        }
    }
}
