//! The operations that sessions call: topology, consuming, fetching, and opening a vhost.
//!
//! Locks are taken in one order: vhost, shard, outlet or log. No call waits for anything else, but for an authorization that a
//! login brought along, which is asked before any lock is taken.

pub mod accounts;
mod bindings;
pub mod connections;
mod consuming;
mod delays;
mod departures;
mod events;
mod exchanges;
mod letters;
mod paging;
mod policies;
mod queues;
mod recall;
mod reports;
mod retained;
mod routing;
mod scheduled;
mod selectors;
mod streams;
mod time;
mod tracing;
mod vhosts;
mod watches;
mod witness;

pub use self::bindings::{BindingRequest, End};
pub use self::letters::{Kept, Letters};
pub use self::recall::{RecalledTo, Remembered, Retain};
pub use self::routing::Mirror;
pub use self::scheduled::{Appointments, Scheduled, Survey};
pub use self::tracing::{Observed, Observer};
pub(crate) use self::tracing::{has_trace_context, may_be_traced};
pub use self::watches::Watch;
pub use self::witness::{Happened, Happening, Interest, Notice, Subject, Witness};
use self::{accounts::Accounts, connections::Connections};

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::{Mutex, RwLock};

use crate::{
    arguments,
    authorization::{Authorization, Principal},
    identity::{Access, Identity, User},
    limits,
    log::{Durability, Entry, Log, Position, Recovered},
    message::{Codecs, Origin},
    outlet::Attempts,
    policy::Policy,
    queue::{self, ConsumerId, Queue, Queued, Segment, Shard},
    record::{State, Unreadable},
    refusal::{Refusal, Resource},
    session::{Millis, SessionId},
    topology::{Exchange, QueueId, QueueInfo, QueueType, Vhost},
    value::{Name, Table, Value},
};

/// Something that a protocol keeps: key and value.
pub type Note = (Vec<u8>, Vec<u8>);

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest message body, in bytes.
    pub message_bytes_max: u64,
    /// Bytes of messages that one connection may have begun and not finished.
    pub unfinished_bytes_max: u64,
    /// Random bits from which names of server-named queues are made.
    pub seed: u128,
    /// The name of the node, which traces tell.
    pub node: String,
    /// Whether the history that a client gives a message (`x-death`) goes on when it dies, as in RabbitMQ 3.
    pub carries_deaths: bool,
    /// What becomes of messages that nobody can digest, or that expired, in queues without a rule for them.
    pub letters: Letters,
    /// Who is told of messages with the context of a trace.
    pub observer: Option<Arc<dyn Observer>>,
    /// Which topics remember what was published.
    pub remembered: Vec<Remembered>,
    /// Topics that get what is published to queues.
    pub mirror: Option<Mirror>,
}

impl Default for Settings {
    fn default() -> Self {
        let message_bytes_max = limits::MESSAGE_BYTES;
        let unfinished_bytes_max = message_bytes_max * limits::UNFINISHED_MESSAGES;
        let (seed, node, carries_deaths, observer) = (0, "roadstead".into(), false, None);
        let letters = Letters::default();
        let (remembered, mirror) = (Vec::new(), None);
        Self {
            message_bytes_max,
            unfinished_bytes_max,
            seed,
            node,
            carries_deaths,
            letters,
            observer,
            remembered,
            mirror,
        }
    }
}

/// The model with everything in it. Shared by all sessions.
pub struct Broker {
    /// Users and permissions.
    pub identity: Identity,
    /// What the operator set.
    pub settings: Settings,
    /// What topics remember.
    memories: Vec<recall::Memory>,
    /// Who wants to know of queues that are made.
    watches: RwLock<Vec<Weak<Watch>>>,
    /// Who is told of what happens to messages.
    witness: OnceLock<Arc<dyn Witness>>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) shards: Vec<Mutex<Shard>>,
    vhosts: RwLock<BTreeMap<Name, Arc<Vhost>>>,
    /// Held while a user is changed.
    changing_users: Mutex<()>,
    /// Who is there.
    accounts: Mutex<Accounts>,
    connections: Connections,
    /// How often connections, channels and queues began and ended.
    pub churn: connections::Churn,
    /// Messages that left their queues for each reason.
    departed: [AtomicU64; queue::Reason::ALL.len()],
    /// Exclusive queues by owner, to be deleted with it.
    owned: Mutex<HashMap<SessionId, Vec<Arc<QueueInfo>>>>,
    next_queue: AtomicU64,
    next_session: AtomicU64,
    next_name: AtomicU64,
    /// Routes found so far, which what is left to chance is made from.
    routes: AtomicU64,
    alarms: AtomicU8,
    /// Sessions that wait for the alarm to end.
    alarmed: Mutex<Vec<Waker>>,
    /// Sessions that wait because too much waits for the disk.
    congested: Mutex<Vec<Waker>>,
    /// How often consumers were resumed.
    resumed: AtomicU64,
    /// Sessions that wait for lagging consumers.
    lagging: Mutex<Vec<Waker>>,
    /// Sessions that wait for messages to be read from the log.
    fetching: Mutex<Vec<Waker>>,
    /// Whether memory is short.
    tight: AtomicBool,
    /// What has a lower position comes from an earlier run.
    restart: Position,
    /// The time that the broker was last told, in milliseconds.
    time: AtomicU64,
    /// Held while messages for streams are appended to the log and handed to them, so that both have the same order.
    pub(crate) stream_order: Mutex<()>,
    /// Streams with readers that wait for the log to commit.
    pub(crate) uncommitted: Mutex<Vec<Arc<QueueInfo>>>,
    /// Events that wait to be published.
    events: Mutex<Vec<(&'static str, Table)>>,
    /// Whether anybody listens to them.
    has_listeners: AtomicBool,
    /// When something is due in a queue.
    pub(crate) alarm: Arc<queue::Alarm>,
    /// What the protocols say of the properties that they wrote.
    pub(crate) codecs: Codecs,
    /// Settings of what is built around the broker, by vhost (none for all of them), component and name.
    parameters: RwLock<BTreeMap<(Name, Name, Name), Value>>,
    /// What delay exchanges keep back, by vhost and exchange.
    delays: RwLock<HashMap<(Name, Name), Arc<QueueInfo>>>,
    /// The last message of each topic, by vhost.
    retained: RwLock<HashMap<Name, Arc<QueueInfo>>>,
    /// What protocols kept when the broker stopped, by origin, until they take it.
    notes: Mutex<HashMap<u8, Vec<Note>>>,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Queued messages take more memory than they may.
    pub memory: bool,
    /// The file system has less room than it should.
    pub disk: bool,
}

impl Alarms {
    /// Whether publishers have to wait.
    pub fn any(self) -> bool {
        self.memory || self.disk
    }

    /// What clients are told, in RabbitMQ's words.
    pub fn reason(self) -> &'static str {
        match (self.memory, self.disk) {
            (true, true) => "low on memory & disk",
            (false, true) => "low on disk",
            (_, false) => "low on memory",
        }
    }
}

/// A session that has entered a vhost.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Name,
    /// What its login may do; without it the broker's own users decide.
    pub authorization: Option<Arc<dyn Authorization>>,
    /// The vhost.
    pub vhost: Arc<Vhost>,
    /// By what the client calls itself, where topic permissions may name it.
    pub client_id: Option<Name>,
    /// Whether it is the operator, who may everything.
    is_operator: bool,
}

impl Caller {
    /// The same, with what the client calls itself.
    #[must_use]
    pub fn named(self, client_id: &Name) -> Self {
        Self { client_id: Some(client_id.clone()), ..self }
    }

    /// Whether what the caller may do can change without anybody being told.
    pub fn may_change(&self) -> bool {
        self.authorization.as_ref().is_some_and(|authorization| !authorization.is_fixed())
    }
}

/// What a client asks of a new queue.
#[derive(Clone, Debug, Default)]
pub struct QueueDeclaration {
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it belongs to the session alone.
    pub exclusive: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Further arguments.
    pub arguments: Table,
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Messages that wait.
    pub ready: usize,
    /// Messages that consumers hold.
    pub held: usize,
    /// Consumers.
    pub consumers: usize,
}

/// When something may be deleted.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteRule {
    /// Only without consumers, or without bindings.
    pub if_unused: bool,
    /// Only without messages.
    pub if_empty: bool,
}

/// A consumer on a queue. It gets its first message with [`Broker::resume`].
#[derive(Clone, Debug)]
pub struct Attachment {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer's identity there.
    pub consumer: ConsumerId,
}

/// What taking one message came to.
#[derive(Debug)]
pub enum Fetch {
    /// There was none.
    Empty,
    /// There was one.
    Message(Fetched),
    /// There is one, but it has to be read from the log first: try again after [`Broker::wake_when_loaded`].
    Loading,
}

/// A message taken from a queue without consuming.
#[derive(Debug)]
pub struct Fetched {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// Its place there, to settle it by; without meaning if it is settled already.
    pub slot: u64,
    /// The message.
    pub queued: Queued,
    /// Attempts to deliver it before, as far as the queue tells.
    pub attempts: Attempts,
    /// Messages that wait behind it.
    pub left: usize,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker with what the log held, at a time.
    ///
    /// # Errors
    /// If something in the log cannot be read.
    pub fn new(settings: Settings, log: Arc<dyn Log>, recovered: Recovered, now: Millis) -> Result<Self, Unreadable> {
        let alarm = Arc::new(queue::Alarm::default());
        let codecs = Codecs::default();
        let shard = || Mutex::new(Shard::new(Arc::clone(&alarm)));
        let broker = Self {
            identity: Identity::default(),
            watches: RwLock::default(),
            witness: OnceLock::new(),
            memories: settings.remembered.iter().map(|of| recall::Memory::new(of.clone(), &codecs)).collect(),
            settings,
            log,
            shards: (0..limits::SHARDS).map(|_| shard()).collect(),
            vhosts: RwLock::default(),
            changing_users: Mutex::default(),
            accounts: Mutex::default(),
            connections: Connections::default(),
            churn: connections::Churn::default(),
            departed: Default::default(),
            owned: Mutex::default(),
            // Ids of earlier runs are never met again: each run has a range of its own.
            next_queue: AtomicU64::new((recovered.epoch << 40) + 1),
            next_session: AtomicU64::new(1),
            next_name: AtomicU64::new(1),
            routes: AtomicU64::new(0),
            alarms: AtomicU8::new(0),
            alarmed: Mutex::default(),
            congested: Mutex::default(),
            resumed: AtomicU64::new(0),
            lagging: Mutex::default(),
            fetching: Mutex::default(),
            tight: AtomicBool::new(false),
            restart: recovered.end,
            time: AtomicU64::new(now.0),
            stream_order: Mutex::default(),
            uncommitted: Mutex::default(),
            events: Mutex::default(),
            has_listeners: AtomicBool::new(false),
            alarm,
            codecs,
            parameters: RwLock::default(),
            delays: RwLock::default(),
            retained: RwLock::default(),
            notes: Mutex::default(),
        };
        broker.restore(recovered)?;
        broker.count_listeners(&[]);
        Ok(broker)
    }

    fn restore(&self, recovered: Recovered) -> Result<(), Unreadable> {
        let mut states: Vec<_> =
            recovered.state.iter().map(|(key, value)| State::read(key, value)).collect::<Result<_, _>>()?;
        // Bindings need both their ends, and everything needs its vhost.
        states.sort_by_key(|state| match state {
            State::Vhost { .. } => 0,
            State::User(..) => 1,
            State::Policy { .. } | State::Parameter { .. } | State::Exchange { .. } => 2,
            State::Queue { .. } | State::Delay { .. } | State::Retained { .. } => 3,
            State::Binding { .. } | State::Timed(_) | State::Segment { .. } | State::Attempts { .. } => 4,
            State::Note { .. } => 5,
        });
        let mut queues = BTreeMap::new();
        let mut segments: HashMap<QueueId, Vec<(u64, Segment)>> = HashMap::new();
        let mut attempted = Vec::new();
        for state in states {
            match state {
                State::Attempts { id, record, attempts } => attempted.push((id, record, attempts)),
                State::Segment { id, offset, segment } => segments.entry(id).or_default().push((offset, segment)),
                state => self.restore_state(state, &mut queues)?,
            }
        }
        for info in queues.values().filter(|info| info.queue_type == QueueType::Stream) {
            let held = recovered.held.iter().find(|held| held.holder == info.id.0);
            let held = held.map(|held| (held.first, held.last, held.count));
            let segments = segments.remove(&info.id).unwrap_or_default();
            let mut shard = self.shards[self.shard_index(info.id)].lock();
            shard.with(info, |queue| queue.restore_stream(&segments, held));
        }
        for held in recovered.held {
            let (id, priority) = QueueInfo::of_holder(held.holder);
            let mut shard = self.shards[self.shard_index(id)].lock();
            let restore = |queue: &mut Queue| queue.restore(priority, held.first, held.last, held.count);
            match shard.with_id(id.0, restore) {
                Some(()) => {}
                // The queue went with the last run.
                None => {
                    let drop = Entry::Drop { holder: held.holder, from: 0, before: u64::MAX, except: &[] };
                    self.log.append(&[drop], Durability::Os);
                }
            }
        }
        for (id, record, attempts) in attempted {
            let restore = |queue: &mut Queue| queue.restore_attempts(Position(record), attempts);
            if self.shards[self.shard_index(id)].lock().with_id(id.0, restore) != Some(true) {
                self.log.append(&[Entry::Remove { key: &State::attempts_key(id, record) }], Durability::Os);
            }
        }
        let mut after = self.aftermath();
        for id in queues.keys() {
            let mut shard = self.shards[self.shard_index(QueueId(*id))].lock();
            shard.with_id(*id, |queue| queue.restored(&mut after));
        }
        self.finish(after);
        Ok(())
    }

    fn restore_state(&self, state: State, queues: &mut BTreeMap<u64, Arc<QueueInfo>>) -> Result<(), Unreadable> {
        let vhost = |name: &Name| self.vhost(name).ok_or(Unreadable("an entry belongs to no vhost"));
        match state {
            State::Vhost { name, metadata } => {
                let vhost = Vhost::new(name.clone());
                vhost.write().metadata = metadata;
                self.vhosts.write().insert(name, Arc::new(vhost));
            }
            State::User(name, bytes) => self.identity.put(name, User::decode(&bytes)?),
            State::Exchange { vhost: v, name, declaration } => {
                let exchange = Exchange::new(declaration).map_err(|_| Unreadable("an exchange cannot be made"))?;
                vhost(&v)?.write().insert_exchange(name, exchange);
            }
            State::Queue { vhost: v, name, id, auto_delete, arguments } => {
                let vhost = vhost(&v)?;
                let mut info = QueueInfo::new(id, v, name, arguments::queue_type(&arguments));
                (info.durable, info.auto_delete) = (true, auto_delete);
                info.past = QueueInfo::past_of(&arguments);
                (info.durability, info.arguments) = (QueueInfo::durability_of(&arguments), arguments);
                let mut state = vhost.write();
                *info.rules.get_mut() = Arc::new(state.rules_of(&info));
                let info = Arc::new(info);
                self.shards[self.shard_index(id)].lock().insert(&info, self.now());
                queues.insert(id.0, Arc::clone(&info));
                state.insert_queue(info);
            }
            State::Delay { vhost, exchange, id } => {
                let info = self.delay_queue_info(&vhost, &exchange, id, true);
                self.insert_delay_queue(&info, &exchange);
                queues.insert(id.0, info);
            }
            // What belongs to what is in a queue comes once that is there.
            State::Segment { .. } | State::Attempts { .. } => {}
            State::Retained { vhost, id } => {
                let info = self.retained_queue_info(&vhost, id);
                self.insert_retained_queue(&info);
                queues.insert(id.0, info);
            }
            State::Note { origin, key, value } => self.notes.lock().entry(origin.0).or_default().push((key, value)),
            State::Timed(id) => {
                if let Some(info) = queues.get(&id.0) {
                    info.is_timed.store(true, Ordering::Relaxed);
                }
            }
            State::Policy { vhost: v, kind, name, bytes } => {
                vhost(&v)?.write().policies.insert(kind, name, Policy::decode(&bytes)?);
            }
            State::Parameter { vhost, component, name, value } => {
                self.parameters.write().insert((vhost, component, name), value);
            }
            State::Binding { vhost: v, binding } => {
                // An end that is gone means that the binding went with it.
                let _ = vhost(&v)?.write().bind(binding);
            }
        }
        Ok(())
    }

    pub(crate) fn shard_index(&self, queue: QueueId) -> usize {
        (queue.0 % limits::SHARDS as u64) as usize
    }

    /// The last position that is safe.
    pub fn committed(&self) -> Position {
        self.log.committed()
    }

    /// The log itself.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.log
    }

    /// A new session's identity.
    pub fn new_session(&self) -> SessionId {
        SessionId(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    /// A number that is never given twice, not by a later run of the broker either.
    pub fn unique_number(&self) -> u64 {
        self.next_queue.fetch_add(1, Ordering::Relaxed)
    }

    /// 128 bits that nobody can guess and that do not come twice, in a form fit for names.
    pub fn unique_name(&self) -> String {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        let hash = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (self.settings.seed, number, salt).hash(&mut hasher);
            hasher.finish()
        };
        let mut bits = u128::from(hash(0)) << 64 | u128::from(hash(1));
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut name = String::with_capacity(22);
        for _ in 0..22 {
            name.push(char::from(alphabet[(bits & 63) as usize]));
            bits >>= 6;
        }
        name
    }

    /// Raises or ends the alarms that keep publishers waiting.
    pub fn set_alarms(&self, alarms: Alarms) {
        self.alarms.store(u8::from(alarms.memory) | u8::from(alarms.disk) << 1, Ordering::Release);
        let event = if alarms.any() { "alarm.set" } else { "alarm.cleared" };
        self.tell(event, || events::named(&[("reason", alarms.reason())]));
        let congested = std::mem::take(&mut *self.congested.lock());
        congested.into_iter().for_each(Waker::wake);
        if !alarms.any() {
            let waiting = std::mem::take(&mut *self.alarmed.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes `waker` once, when an alarm begins or ends: who waits for the log may have to wait otherwise then.
    pub fn wake_with_alarms(&self, waker: &Waker) {
        self.congested.lock().push(waker.clone());
    }

    /// Wakes `waker` once, when all alarms have ended.
    pub fn wake_after_alarm(&self, waker: &Waker) {
        self.alarmed.lock().push(waker.clone());
    }

    /// Whether publishers have to wait.
    pub fn alarms(&self) -> Alarms {
        let bits = self.alarms.load(Ordering::Acquire);
        Alarms { memory: bits & 1 != 0, disk: bits & 2 != 0 }
    }

    /// How often consumers were resumed: a session whose consumers lag waits for this to change.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Acquire)
    }

    /// Wakes `waker` once, when a consumer is resumed.
    pub fn wake_when_resumed(&self, waker: &Waker) {
        self.lagging.lock().push(waker.clone());
    }

    pub(crate) fn note_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::AcqRel);
        let lagging = std::mem::take(&mut *self.lagging.lock());
        lagging.into_iter().for_each(Waker::wake);
    }

    /// Wakes `waker` once, when something was read from the log.
    pub fn wake_when_loaded(&self, waker: &Waker) {
        self.fetching.lock().push(waker.clone());
    }

    /// Memory that queued messages take.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().memory_bytes()).sum()
    }

    /// The vhost named `name`.
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// All vhosts, by name.
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        self.vhosts.read().values().cloned().collect()
    }

    /// Lets a user enter a vhost.
    ///
    /// # Errors
    /// If the vhost does not exist, the user has no permissions there, or there are too many connections already.
    pub fn enter(&self, session: SessionId, principal: &Principal, vhost: &str) -> Result<Caller, Refusal> {
        let found = self.vhost(vhost).ok_or_else(|| Refusal::VhostNotFound(vhost.into()))?;
        self.check_entry(principal, vhost)?;
        let Principal { user, authorization } = principal.clone();
        let caller = Caller { session, user, authorization, vhost: found, client_id: None, is_operator: false };
        self.count_in(&caller)?;
        self.tell("connection.created", || events::named(&[("user", &caller.user), ("vhost", vhost)]));
        Ok(caller)
    }

    /// Whether somebody who has logged in may enter a vhost.
    pub fn may_enter(&self, principal: &Principal, vhost: &str) -> bool {
        match &principal.authorization {
            Some(authorization) => authorization.may_enter(vhost),
            None => self.identity.may_enter(&principal.user, vhost),
        }
    }

    fn check_entry(&self, principal: &Principal, vhost: &str) -> Result<(), Refusal> {
        let refused = || Refusal::VhostRefused { vhost: vhost.into(), user: principal.user.clone() };
        self.may_enter(principal, vhost).then_some(()).ok_or_else(refused)
    }

    /// Gives a session what its user may do after a new login of his.
    ///
    /// # Errors
    /// If he may no longer be where he is. Then nothing changes.
    pub fn renew(&self, caller: &mut Caller, principal: Principal) -> Result<(), Refusal> {
        self.check_entry(&principal, caller.vhost.name())?;
        caller.authorization = principal.authorization;
        Ok(())
    }

    /// A user who is not there, in whose name something is done: with his permissions, and counted nowhere.
    ///
    /// # Errors
    /// If the vhost does not exist.
    pub fn on_behalf_of(&self, principal: &Principal, vhost: &str) -> Result<Caller, Refusal> {
        let Principal { user, authorization } = principal.clone();
        Ok(Caller { user, authorization, is_operator: false, ..self.operator(vhost)? })
    }

    /// The operator, who may do anything in a vhost.
    ///
    /// # Errors
    /// If the vhost does not exist.
    pub fn operator(&self, vhost: &str) -> Result<Caller, Refusal> {
        let vhost = self.vhost(vhost).ok_or_else(|| Refusal::VhostNotFound(vhost.into()))?;
        let (session, user) = (SessionId(0), "".into());
        Ok(Caller { session, user, authorization: None, vhost, client_id: None, is_operator: true })
    }

    /// Checks a permission.
    pub(crate) fn check(&self, caller: &Caller, access: Access, resource: Resource) -> Result<(), Refusal> {
        if caller.is_operator {
            return Ok(());
        }
        let Some(authorization) = &caller.authorization else {
            return self.identity.check(&caller.user, access, resource);
        };
        let name = if resource.name.is_empty() { "amq.default".into() } else { resource.name };
        let resource = Resource { name, ..resource };
        if authorization.check(access, &resource) {
            return Ok(());
        }
        Err(Refusal::AccessRefused { access: access.name(), resource, user: caller.user.clone() })
    }

    /// Whether a caller has a tag.
    pub fn has_tag(&self, caller: &Caller, tag: &str) -> bool {
        match &caller.authorization {
            Some(authorization) => authorization.has_tag(tag),
            None => self.identity.has_tag(&caller.user, tag),
        }
    }

    /// What a protocol kept when the broker stopped. It is told once.
    pub fn take_notes(&self, origin: Origin) -> Vec<Note> {
        self.notes.lock().remove(&origin.0).unwrap_or_default()
    }

    /// Checks a topic permission; a caller who may write, or read, the exchange may still not have all of its keys.
    pub(crate) fn check_topic(
        &self,
        caller: &Caller,
        access: Access,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        let exchange = caller.vhost.exchange_resource(exchange);
        let client_id = caller.client_id.as_deref();
        let Some(authorization) = &caller.authorization else {
            return self.identity.check_topic(&caller.user, access, exchange, key, client_id);
        };
        if authorization.check_topic(access, &exchange, key, client_id) {
            return Ok(());
        }
        let (routing_key, user) = (key.into(), caller.user.clone());
        Err(Refusal::TopicRefused { access: access.name(), routing_key, resource: exchange, user })
    }

    fn put_state(&self, state: &State) -> Position {
        self.log.append(&[Entry::Put { key: &state.key(), value: &state.value() }], Durability::Fsync)
    }
}
