//! How things were: every few seconds all numbers are looked at, so that rates and curves can be told.

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use broker::{
    Broker, Channel, Counts, Event, Name, QueueId, SessionId, broker::connections::Change, queue::QueueNumbers,
    traffic::EVENTS,
};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Facts, Host,
    history::{Levels, Series},
};

/// Milliseconds for which single things are remembered.
const KEPT_MS: u64 = 600_000;

/// Samples of single things that are kept, however many of those there are: some 25 MB.
const SAMPLES_MAX: usize = 200_000;

/// Columns of a queue and of a vhost before the events.
pub const READY: usize = 0;
/// Messages that consumers hold.
pub const HELD: usize = 1;
/// Where the events begin.
pub const FIRST_EVENT: usize = 2;
/// Columns of a connection before the events: bytes in and out.
pub const BYTES_IN: usize = 0;
/// Bytes to the client.
pub const BYTES_OUT: usize = 1;
/// In the overview and in a vhost, behind the events.
pub const ALL_BYTES_IN: usize = FIRST_EVENT + EVENTS;
/// Bytes to clients.
pub const ALL_BYTES_OUT: usize = ALL_BYTES_IN + 1;
/// In the overview: where what begins and ends is counted.
pub const FIRST_CHANGE: usize = ALL_BYTES_OUT + 1;

const QUEUE: usize = FIRST_EVENT + EVENTS;
const CONNECTION: usize = FIRST_EVENT + EVENTS;
const CHANNEL: usize = EVENTS;
const VHOST: usize = FIRST_CHANGE;
const OVERVIEW: usize = FIRST_CHANGE + Change::ALL.len();

/// What is sampled of a node, by name.
pub const NODE: [&str; 7] =
    ["mem_used", "fd_used", "disk_free", "io_sync_count", "io_write_bytes", "io_write_count", "context_switches"];

/// The column of an event.
pub fn event(event: Event) -> usize {
    FIRST_EVENT + event as usize
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Seen {
    /// All together.
    pub overview: Levels<OVERVIEW>,
    /// The node.
    pub node: Levels<{ NODE.len() }>,
    /// By vhost.
    pub vhosts: HashMap<Name, Series<VHOST>>,
    /// By queue.
    pub queues: HashMap<QueueId, Series<QUEUE>>,
    /// By connection.
    pub connections: HashMap<SessionId, Series<CONNECTION>>,
    /// By channel.
    pub channels: HashMap<(SessionId, u16), Series<CHANNEL>>,
    /// By vhost and exchange.
    pub exchanges: HashMap<(Name, Name), Series<2>>,
    /// Queues, and all their numbers, as of the last look.
    pub totals: Totals,
    kept_ms: u64,
}

/// What all queues come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Queues that clients know.
    pub queues: u64,
    /// Messages that wait.
    pub ready: u64,
    /// Messages that consumers hold.
    pub held: u64,
    /// Consumers.
    pub consumers: u64,
    /// Bytes of the bodies that wait.
    pub ready_bytes: u64,
}

/// Looks at everything now and then.
#[derive(Debug)]
pub struct Sampler {
    every_ms: u64,
    seen: RwLock<Seen>,
}

/// Puts numbers behind each other.
fn columns<const N: usize>(parts: &[&[u64]]) -> [u64; N] {
    let mut all = [0; N];
    for (place, number) in all.iter_mut().zip(parts.iter().copied().flatten()) {
        *place = *number;
    }
    all
}

fn events(counts: &Counts) -> [u64; EVENTS] {
    Event::ALL.map(|event| counts.get(event))
}

/// What of a table is new, and what of it is over. Returns how many samples there are.
fn update<K: Eq + Hash, const N: usize>(
    table: &mut HashMap<K, Series<N>>,
    numbers: impl IntoIterator<Item = (K, [u64; N])>,
    now_ms: u64,
    kept_ms: u64,
) -> usize {
    let (mut present, mut samples) = (0, 0);
    for (key, values) in numbers {
        let series = table.entry(key).or_default();
        series.push(now_ms, values, kept_ms);
        samples += series.len();
        present += 1;
    }
    if table.len() > present {
        table.retain(|_, series| series.last_ms() == Some(now_ms));
        table.shrink_to(2 * present);
    }
    samples
}

impl Sampler {
    /// One that looks every so many milliseconds.
    pub fn new(every_ms: u64) -> Self {
        let seen = Seen {
            overview: Levels::new(every_ms),
            node: Levels::new(every_ms),
            vhosts: HashMap::new(),
            queues: HashMap::new(),
            connections: HashMap::new(),
            channels: HashMap::new(),
            exchanges: HashMap::new(),
            totals: Totals::default(),
            kept_ms: KEPT_MS,
        };
        Self { every_ms, seen: RwLock::new(seen) }
    }

    /// Looks at everything, as long as the broker runs.
    pub async fn run(self: Arc<Self>, broker: Arc<Broker>, host: Arc<dyn Host>) {
        let mut tick = interval(Duration::from_millis(self.every_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look(&broker, &host.facts());
        }
    }

    /// What was seen.
    pub fn seen(&self) -> RwLockReadGuard<'_, Seen> {
        self.seen.read()
    }

    /// Looks at everything once.
    pub fn look(&self, broker: &Broker, facts: &Facts) {
        let now = broker.now().0;
        let (mut queues, mut totals) = (Vec::new(), Totals::default());
        let mut by_vhost: HashMap<Name, [u64; VHOST]> = HashMap::new();
        broker.survey_queues(|info, QueueNumbers { ready, held, ready_bytes, consumers, counts, .. }| {
            if !info.is_ordinary() {
                return;
            }
            totals.queues += 1;
            totals.ready += ready;
            totals.held += held;
            totals.ready_bytes += ready_bytes;
            totals.consumers += u64::from(consumers);
            // Cloning a name costs more than looking it up.
            if !by_vhost.contains_key(&*info.vhost) {
                by_vhost.insert(info.vhost.clone(), [0; VHOST]);
            }
            if let Some(vhost) = by_vhost.get_mut(&*info.vhost) {
                vhost[READY] += ready;
                vhost[HELD] += held;
            }
            queues.push((info.id, columns(&[&[ready, held], &events(&counts)])));
        });
        let present = broker.connections();
        // As they are looked at, without a list of them: there may be very many.
        let connections = present.iter().map(|connection| {
            let bytes = [connection.bytes_in.get(), connection.bytes_out.get()];
            (connection.session, columns(&[&bytes, &events(&connection.counts())]))
        });
        let channels = present.iter().flat_map(|connection| {
            let of_one =
                |channel: Arc<Channel>| ((connection.session, channel.number), events(&channel.traffic.counts()));
            connection.channels().into_iter().map(of_one)
        });
        let mut all = [0; OVERVIEW];
        for ((_, vhost), (counts, bytes_in, bytes_out)) in broker.traffic() {
            let numbers = columns::<VHOST>(&[&[0, 0], &events(&counts), &[bytes_in, bytes_out]]);
            let of_vhost = by_vhost.entry(vhost).or_insert([0; VHOST]);
            of_vhost.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            all.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        (all[READY], all[HELD]) = (totals.ready, totals.held);
        for (place, change) in all[FIRST_CHANGE..].iter_mut().zip(Change::ALL) {
            *place = broker.churn.get(change);
        }
        let node =
            [facts.memory_used, facts.files_used, facts.disk_free, facts.syncs, facts.written_bytes, facts.syncs, 0];
        let exchanges = exchanges(broker);
        let mut seen = self.seen.write();
        let kept_ms = seen.kept_ms;
        seen.overview.push(now, all);
        seen.node.push(now, node);
        seen.totals = totals;
        update(&mut seen.vhosts, by_vhost, now, KEPT_MS);
        let samples = update(&mut seen.queues, queues, now, kept_ms)
            + update(&mut seen.connections, connections, now, kept_ms)
            + update(&mut seen.channels, channels, now, kept_ms)
            + update(&mut seen.exchanges, exchanges, now, kept_ms);
        // With very many busy things each is remembered for less long.
        seen.kept_ms = match samples > SAMPLES_MAX {
            true => (kept_ms / 2).max(2 * self.every_ms),
            false if samples < SAMPLES_MAX / 4 => (kept_ms * 2).min(KEPT_MS),
            false => kept_ms,
        };
    }
}

/// What went through the exchanges that are used: most of most vhosts never are.
fn exchanges(broker: &Broker) -> Vec<((Name, Name), [u64; 2])> {
    let mut found = Vec::new();
    for vhost in broker.vhosts() {
        let state = vhost.read();
        let mut add = |name: &Name, (came, went): (u64, u64)| {
            if came > 0 {
                found.push(((vhost.name().clone(), name.clone()), [came, went]));
            }
        };
        add(&"".into(), state.default_traffic.counts());
        state.exchanges().for_each(|(name, exchange)| add(name, exchange.traffic.counts()));
    }
    found
}
