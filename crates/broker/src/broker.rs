//! The operations that sessions call: topology, consuming, fetching, and opening a vhost.
//!
//! Locks are taken in one order: vhost, shard, outlet or log. No call waits for anything else.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::{Mutex, RwLock};

use crate::{
    arguments,
    identity::{Access, Identity, User},
    limits,
    log::{Entry, Log, Position, Recovered},
    outlet::{ConsumerKey, Outlet},
    publish::Route,
    queue::{Aftermath, Consumer, ConsumerId, Queued, Shard},
    record::{self, State, Unreadable},
    refusal::{Refusal, Resource},
    session::SessionId,
    topology::{
        Binding, Destination, ExchangeDeclaration, ExchangeKind, QueueId, QueueInfo, QueueKind, Removed, Vhost,
        VhostState,
    },
    value::{Name, Table, Value},
};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Largest message body, in bytes.
    pub message_bytes_max: u64,
    /// Random bits from which names of server-named queues are made.
    pub seed: u128,
}

impl Default for Settings {
    fn default() -> Self {
        Self { message_bytes_max: limits::MESSAGE_BYTES, seed: 0 }
    }
}

/// The model with everything in it. Shared by all sessions.
pub struct Broker {
    /// Users and permissions.
    pub identity: Identity,
    /// What the operator set.
    pub settings: Settings,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) shards: Vec<Mutex<Shard>>,
    vhosts: RwLock<BTreeMap<Name, Arc<Vhost>>>,
    /// Exclusive queues by owner, to be deleted with it.
    owned: Mutex<HashMap<SessionId, Vec<Arc<QueueInfo>>>>,
    next_queue: AtomicU64,
    next_session: AtomicU64,
    next_name: AtomicU64,
    alarm: AtomicBool,
    /// Sessions that wait for the alarm to end.
    alarmed: Mutex<Vec<Waker>>,
}

/// A session that has entered a vhost.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: Name,
    /// The vhost.
    pub vhost: Arc<Vhost>,
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

/// A message taken from a queue without consuming.
#[derive(Debug)]
pub struct Fetched {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// Its place there, to settle it by; without meaning if it is settled already.
    pub slot: u64,
    /// The message.
    pub queued: Queued,
    /// Messages that wait behind it.
    pub left: usize,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker with what the log held.
    ///
    /// # Errors
    /// If something in the log cannot be read.
    pub fn new(settings: Settings, log: Arc<dyn Log>, recovered: Recovered) -> Result<Self, Unreadable> {
        let broker = Self {
            identity: Identity::default(),
            settings,
            log,
            shards: (0..limits::SHARDS).map(|_| Mutex::default()).collect(),
            vhosts: RwLock::default(),
            owned: Mutex::default(),
            // Ids of earlier runs are never met again: each run has a range of its own.
            next_queue: AtomicU64::new((recovered.epoch << 40) + 1),
            next_session: AtomicU64::new(1),
            next_name: AtomicU64::new(1),
            alarm: AtomicBool::new(false),
            alarmed: Mutex::default(),
        };
        broker.restore(recovered)?;
        Ok(broker)
    }

    fn restore(&self, recovered: Recovered) -> Result<(), Unreadable> {
        let mut states: Vec<_> =
            recovered.state.iter().map(|(key, value)| State::read(key, value)).collect::<Result<_, _>>()?;
        // Bindings need both their ends, and everything needs its vhost.
        states.sort_by_key(|state| match state {
            State::Vhost(_) => 0,
            State::User(..) => 1,
            State::Exchange { .. } | State::Queue { .. } => 2,
            State::Binding { .. } => 3,
        });
        let mut queues = HashMap::new();
        for state in states {
            self.restore_state(state, &mut queues)?;
        }
        for held in recovered.held {
            let message = record::message(&held.body)?;
            for holder in held.holders {
                let Some(info) = queues.get(&holder) else { continue };
                let message = Arc::clone(&message);
                let queued = Queued { message, record: held.position, redelivered: true };
                if let Some(queue) = self.shards[self.shard_index(QueueId(holder))].lock().queue(info) {
                    queue.restore(queued);
                }
            }
        }
        Ok(())
    }

    fn restore_state(&self, state: State, queues: &mut HashMap<u64, Arc<QueueInfo>>) -> Result<(), Unreadable> {
        let vhost = |name: &Name| self.vhost(name).ok_or(Unreadable("an entry belongs to no vhost"));
        match state {
            State::Vhost(name) => {
                self.vhosts.write().insert(name.clone(), Arc::new(Vhost::new(name)));
            }
            State::User(name, bytes) => self.identity.put(name, User::decode(&bytes)?),
            State::Exchange { vhost: v, name, declaration } => {
                vhost(&v)?.write().insert_exchange(name, declaration);
            }
            State::Queue { vhost: v, name, id, auto_delete, arguments } => {
                let kind = QueueKind::Queue;
                let slot = AtomicU32::new(0);
                let (vhost, owner, durable) = (vhost(&v)?, None, true);
                let info =
                    Arc::new(QueueInfo { id, vhost: v, name, durable, auto_delete, owner, arguments, kind, slot });
                self.shards[self.shard_index(id)].lock().insert(&info);
                queues.insert(id.0, Arc::clone(&info));
                vhost.write().insert_queue(info);
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

    /// Raises or ends the alarm that keeps publishers waiting.
    pub fn set_alarm(&self, alarm: bool) {
        self.alarm.store(alarm, Ordering::Release);
        if !alarm {
            let waiting = std::mem::take(&mut *self.alarmed.lock());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes `waker` once, when the alarm ends.
    pub fn wake_after_alarm(&self, waker: &Waker) {
        self.alarmed.lock().push(waker.clone());
    }

    /// Whether publishers have to wait.
    pub fn alarm(&self) -> bool {
        self.alarm.load(Ordering::Acquire)
    }

    /// Memory that queued messages take.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().memory_bytes()).sum()
    }

    // --- vhosts and users ---

    /// The vhost named `name`.
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// Adds a vhost, if it is not there.
    pub fn add_vhost(&self, name: &Name) -> Position {
        let mut vhosts = self.vhosts.write();
        if vhosts.contains_key(name) {
            return Position(0);
        }
        vhosts.insert(name.clone(), Arc::new(Vhost::new(name.clone())));
        self.put_state(&State::Vhost(name.clone()))
    }

    /// Adds or replaces a user.
    pub fn put_user(&self, name: &Name, user: User) -> Position {
        let position = self.put_state(&State::User(name.clone(), user.encode()));
        self.identity.put(name.clone(), user);
        self.vhosts.read().values().for_each(|vhost| vhost.touch());
        position
    }

    /// Lets a user enter a vhost.
    ///
    /// # Errors
    /// If the vhost does not exist or the user has no permissions there.
    pub fn enter(&self, session: SessionId, user: &Name, vhost: &str) -> Result<Caller, Refusal> {
        let found = self.vhost(vhost).ok_or_else(|| Refusal::VhostNotFound(vhost.into()))?;
        if !self.identity.may_enter(user, vhost) {
            return Err(Refusal::VhostRefused { vhost: vhost.into(), user: user.clone() });
        }
        Ok(Caller { session, user: user.clone(), vhost: found })
    }

    fn put_state(&self, state: &State) -> Position {
        self.log.append(&[Entry::Put { key: &state.key(), value: &state.value() }])
    }

    // --- exchanges and bindings ---

    /// Checks that an exchange exists.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_exchange(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        self.refuse_default(name)?;
        match caller.vhost.read().exchange(name) {
            Some(_) => Ok(()),
            None => Err(Refusal::NotFound(caller.vhost.exchange_resource(name))),
        }
    }

    fn refuse_default(&self, exchange: &str) -> Result<(), Refusal> {
        if exchange.is_empty() { Err(Refusal::DefaultExchange) } else { Ok(()) }
    }

    /// Declares an exchange. Returns when the declaration is safe.
    ///
    /// # Errors
    /// If it exists with other properties, or may not be declared.
    pub fn declare_exchange(
        &self,
        caller: &Caller,
        name: &str,
        declaration: ExchangeDeclaration,
    ) -> Result<Position, Refusal> {
        self.refuse_default(name)?;
        let resource = || caller.vhost.exchange_resource(name);
        self.identity.check(&caller.user, Access::Configure, resource())?;
        if let Some(alternate) = declaration.arguments.get("alternate-exchange").and_then(Value::as_text) {
            self.identity.check(&caller.user, Access::Read, resource())?;
            self.identity.check(&caller.user, Access::Write, caller.vhost.exchange_resource(alternate))?;
        }
        if let Some(existing) = caller.vhost.read().exchange(name) {
            return arguments::equivalent_exchange(resource(), &declaration, &existing.declaration)
                .map(|()| Position(0));
        }
        if name.starts_with("amq.") {
            return Err(Refusal::ReservedName { kind: "exchange", name: name.into() });
        }
        let mut state = caller.vhost.write();
        if let Some(existing) = state.exchange(name) {
            return arguments::equivalent_exchange(resource(), &declaration, &existing.declaration)
                .map(|()| Position(0));
        }
        state.insert_exchange(name.into(), declaration.clone());
        if !declaration.durable {
            return Ok(Position(0));
        }
        let vhost = caller.vhost.name().clone();
        Ok(self.put_state(&State::Exchange { vhost, name: name.into(), declaration }))
    }

    /// Deletes an exchange, if it is there.
    ///
    /// # Errors
    /// If it may not be deleted.
    pub fn delete_exchange(&self, caller: &Caller, name: &str, rule: DeleteRule) -> Result<Position, Refusal> {
        self.refuse_default(name)?;
        let resource = || caller.vhost.exchange_resource(name);
        if name.starts_with("amq.") {
            return Err(Refusal::SystemExchange(resource()));
        }
        self.identity.check(&caller.user, Access::Configure, resource())?;
        let mut state = caller.vhost.write();
        if rule.if_unused && state.exchange_in_use(name) {
            return Err(Refusal::InUse(resource()));
        }
        let removed = state.remove_exchange(&name.into());
        Ok(self.forget(&caller.vhost, removed))
    }

    /// Takes out of the log what is gone from the topology.
    fn forget(&self, vhost: &Vhost, removed: Removed) -> Position {
        let vhost = vhost.name();
        let mut keys = Vec::new();
        for binding in removed.bindings {
            keys.push(State::Binding { vhost: vhost.clone(), binding }.key());
        }
        for (name, durable) in removed.exchanges {
            if durable {
                let declaration = ExchangeDeclaration {
                    kind: ExchangeKind::Direct,
                    durable,
                    auto_delete: false,
                    internal: false,
                    arguments: Table::default(),
                };
                keys.push(State::Exchange { vhost: vhost.clone(), name, declaration }.key());
            }
        }
        if keys.is_empty() {
            return Position(0);
        }
        let entries: Vec<_> = keys.iter().map(|key| Entry::Remove { key }).collect();
        let first = self.log.append(&entries);
        Position(first.0 + entries.len() as u64 - 1)
    }

    /// Binds a queue to an exchange.
    ///
    /// # Errors
    /// If an end does not exist or the caller may not.
    pub fn bind_queue(
        &self,
        caller: &Caller,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Position, Refusal> {
        let (info, binding) = self.queue_binding(caller, queue, exchange, key, arguments)?;
        self.check_topic_binding(caller, exchange, key)?;
        self.bind(caller, info.resource(), binding)
    }

    /// Removes a binding of a queue, if it and both its ends are there.
    ///
    /// # Errors
    /// If the queue is locked or the caller may not.
    pub fn unbind_queue(
        &self,
        caller: &Caller,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Position, Refusal> {
        match self.queue_binding(caller, queue, exchange, key, arguments) {
            Ok((_, binding)) => self.unbind(caller, &binding),
            Err(Refusal::NotFound(_)) => Ok(Position(0)),
            Err(refusal) => Err(refusal),
        }
    }

    fn queue_binding(
        &self,
        caller: &Caller,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: Table,
    ) -> Result<(Arc<QueueInfo>, Binding), Refusal> {
        self.identity.check(&caller.user, Access::Write, caller.vhost.queue_resource(queue))?;
        self.refuse_default(exchange)?;
        self.identity.check(&caller.user, Access::Read, caller.vhost.exchange_resource(exchange))?;
        let info = self.queue(caller, queue)?;
        let destination = Destination::Queue(info.id);
        Ok((info, Binding { source: exchange.into(), destination, key: key.into(), arguments }))
    }

    fn check_topic_binding(&self, caller: &Caller, exchange: &str, key: &str) -> Result<(), Refusal> {
        let state = caller.vhost.read();
        let kind = state.exchange(exchange).map(|exchange| exchange.declaration.kind);
        if kind != Some(ExchangeKind::Topic) {
            return Ok(());
        }
        self.identity.check_topic(&caller.user, Access::Read, caller.vhost.exchange_resource(exchange), key)
    }

    /// Binds an exchange to another.
    ///
    /// # Errors
    /// If an end does not exist or the caller may not.
    pub fn bind_exchange(
        &self,
        caller: &Caller,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Position, Refusal> {
        let binding = self.exchange_binding(caller, destination, source, key, arguments)?;
        self.check_topic_binding(caller, source, key)?;
        self.bind(caller, caller.vhost.exchange_resource(destination), binding)
    }

    /// Removes a binding between exchanges, if it and both its ends are there.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn unbind_exchange(
        &self,
        caller: &Caller,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Position, Refusal> {
        match self.exchange_binding(caller, destination, source, key, arguments) {
            Ok(binding) => self.unbind(caller, &binding),
            Err(Refusal::NotFound(_)) => Ok(Position(0)),
            Err(refusal) => Err(refusal),
        }
    }

    fn exchange_binding(
        &self,
        caller: &Caller,
        destination: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Binding, Refusal> {
        self.refuse_default(destination)?;
        self.identity.check(&caller.user, Access::Write, caller.vhost.exchange_resource(destination))?;
        self.refuse_default(source)?;
        self.identity.check(&caller.user, Access::Read, caller.vhost.exchange_resource(source))?;
        let state = caller.vhost.read();
        for name in [source, destination] {
            if state.exchange(name).is_none() {
                return Err(Refusal::NotFound(caller.vhost.exchange_resource(name)));
            }
        }
        let destination = Destination::Exchange(destination.into());
        Ok(Binding { source: source.into(), destination, key: key.into(), arguments })
    }

    fn bind(&self, caller: &Caller, destination: Resource, binding: Binding) -> Result<Position, Refusal> {
        let mut state = caller.vhost.write();
        // Between the check and this lock the queue may have gone.
        if let Destination::Queue(id) = &binding.destination
            && state.queue_by_id(*id).is_none()
        {
            return Err(Refusal::NotFound(destination));
        }
        if !state.bind(binding.clone())? || !state.binding_is_durable(&binding) {
            return Ok(Position(0));
        }
        Ok(self.put_state(&State::Binding { vhost: caller.vhost.name().clone(), binding }))
    }

    fn unbind(&self, caller: &Caller, binding: &Binding) -> Result<Position, Refusal> {
        let mut state = caller.vhost.write();
        let removed = state.unbind(binding);
        Ok(self.forget(&caller.vhost, removed))
    }

    // --- queues ---

    /// The queue, if it exists and the session may touch it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] or [`Refusal::Locked`].
    pub fn queue(&self, caller: &Caller, name: &str) -> Result<Arc<QueueInfo>, Refusal> {
        let state = caller.vhost.read();
        let info = state.queue(name).ok_or_else(|| Refusal::NotFound(caller.vhost.queue_resource(name)))?;
        self.refuse_locked(caller, info)?;
        Ok(Arc::clone(info))
    }

    fn refuse_locked(&self, caller: &Caller, info: &QueueInfo) -> Result<(), Refusal> {
        match info.owner {
            Some(owner) if owner != caller.session => Err(Refusal::Locked(info.resource())),
            _ => Ok(()),
        }
    }

    /// How full a queue is.
    pub fn counts(&self, info: &QueueInfo) -> QueueCounts {
        if let QueueKind::Direct(..) = info.kind {
            return QueueCounts { consumers: 1, ..QueueCounts::default() };
        }
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        shard.queue(info).map_or_else(QueueCounts::default, |queue| QueueCounts {
            ready: queue.backlog().ready(),
            held: queue.backlog().held(),
            consumers: queue.consumer_count(),
        })
    }

    /// Declares a queue. Returns it, and when the declaration is safe.
    ///
    /// # Errors
    /// If it exists with other properties, or may not be declared.
    pub fn declare_queue(
        &self,
        caller: &Caller,
        name: &str,
        declaration: QueueDeclaration,
    ) -> Result<(Arc<QueueInfo>, Position), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        self.identity.check(&caller.user, Access::Configure, resource())?;
        self.check_queue_arguments(caller, name, &declaration.arguments)?;
        if let Some(existing) = caller.vhost.read().queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            return Ok((Arc::clone(existing), Position(0)));
        }
        let mut state = caller.vhost.write();
        if let Some(existing) = state.queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            return Ok((Arc::clone(existing), Position(0)));
        }
        let info = Arc::new(QueueInfo {
            id: QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed)),
            vhost: caller.vhost.name().clone(),
            name: name.into(),
            durable: declaration.durable && !declaration.exclusive,
            auto_delete: declaration.auto_delete,
            owner: declaration.exclusive.then_some(caller.session),
            arguments: declaration.arguments,
            kind: QueueKind::Queue,
            slot: AtomicU32::new(0),
        });
        self.shards[self.shard_index(info.id)].lock().insert(&info);
        state.insert_queue(Arc::clone(&info));
        if info.owner.is_some() {
            self.owned.lock().entry(caller.session).or_default().push(Arc::clone(&info));
        }
        let position = if info.durable { self.put_state(&queue_state(&info)) } else { Position(0) };
        Ok((info, position))
    }

    /// Checks arguments that decide over permissions or cannot be right.
    fn check_queue_arguments(&self, caller: &Caller, name: &str, arguments: &Table) -> Result<(), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        arguments::check(resource, arguments)?;
        let dead_letter = arguments.get("x-dead-letter-exchange").and_then(Value::as_text);
        if let Some(exchange) = dead_letter {
            self.identity.check(&caller.user, Access::Read, resource())?;
            self.identity.check(&caller.user, Access::Write, caller.vhost.exchange_resource(exchange))?;
        }
        Ok(())
    }

    /// Whether a name is free for a client to give to a new queue.
    ///
    /// # Errors
    /// [`Refusal::ReservedName`] if it starts with `amq.` and no such queue exists.
    pub fn check_queue_name(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        if name.starts_with("amq.") && caller.vhost.read().queue(name).is_none() {
            return Err(Refusal::ReservedName { kind: "queue", name: name.into() });
        }
        Ok(())
    }

    /// Makes a name that leads straight to one of a session's consumers, past any queue.
    pub fn open_direct(
        &self,
        caller: &Caller,
        name: &str,
        outlet: Arc<dyn Outlet>,
        key: ConsumerKey,
    ) -> Arc<QueueInfo> {
        let info = Arc::new(QueueInfo {
            id: QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed)),
            vhost: caller.vhost.name().clone(),
            name: name.into(),
            durable: false,
            auto_delete: true,
            owner: None,
            arguments: Table::default(),
            kind: QueueKind::Direct(outlet, key),
            slot: AtomicU32::new(u32::MAX),
        });
        caller.vhost.write().insert_queue(Arc::clone(&info));
        info
    }

    /// Deletes a queue. Returns how many messages waited in it, and when the deletion is safe.
    ///
    /// # Errors
    /// If it does not exist, is locked, or the rule forbids it.
    pub fn delete_queue(&self, caller: &Caller, name: &str, rule: DeleteRule) -> Result<(usize, Position), Refusal> {
        self.identity.check(&caller.user, Access::Configure, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        let mut state = caller.vhost.write();
        self.remove_queue(&caller.vhost, &mut state, &info, rule)
    }

    /// Removes a queue, its messages and its bindings.
    fn remove_queue(
        &self,
        vhost: &Vhost,
        state: &mut VhostState,
        info: &Arc<QueueInfo>,
        rule: DeleteRule,
    ) -> Result<(usize, Position), Refusal> {
        let mut after = Aftermath::default();
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        let Some(queue) = shard.queue(info) else {
            let removed = state.remove_queue(info);
            return Ok((0, self.forget(vhost, removed)));
        };
        let ready = queue.backlog().ready();
        if rule.if_unused && queue.consumer_count() > 0 {
            return Err(Refusal::InUse(info.resource()));
        }
        if rule.if_empty && ready > 0 {
            return Err(Refusal::NotEmpty(info.resource()));
        }
        let queue = shard.remove(info, &mut after);
        drop(shard);
        drop(queue);
        let removed = state.remove_queue(info);
        let mut position = self.forget(vhost, removed);
        if info.durable {
            let key = queue_state(info).key();
            let entries = [Entry::Remove { key: &key }, Entry::Drop { holder: info.id.0 }];
            position = Position(self.log.append(&entries).0 + 1);
        }
        if let Some(owner) = info.owner
            && let Some(owned) = self.owned.lock().get_mut(&owner)
        {
            owned.retain(|other| other.id != info.id);
        }
        self.finish(after);
        Ok((ready, position))
    }

    /// Removes all messages that wait, and returns how many there were.
    ///
    /// # Errors
    /// If the queue does not exist or the caller may not.
    pub fn purge(&self, caller: &Caller, name: &str) -> Result<usize, Refusal> {
        self.identity.check(&caller.user, Access::Read, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        let mut after = Aftermath::default();
        let count = self.shards[self.shard_index(info.id)].lock().purge(&info, &mut after);
        self.finish(after);
        Ok(count)
    }

    // --- consuming ---

    /// Checks that the caller may get messages from a queue.
    ///
    /// # Errors
    /// [`Refusal::AccessRefused`] if not.
    pub fn check_readable(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        self.identity.check(&caller.user, Access::Read, caller.vhost.queue_resource(name))
    }

    /// Adds a consumer to a queue.
    ///
    /// # Errors
    /// If the queue does not exist or cannot be consumed from.
    pub fn consume(&self, caller: &Caller, name: &str, consumer: Consumer) -> Result<Attachment, Refusal> {
        self.check_readable(caller, name)?;
        let queue = self.queue(caller, name)?;
        if let QueueKind::Direct(..) = queue.kind {
            return Err(Refusal::NotFound(queue.resource()));
        }
        let consumer = self.shards[self.shard_index(queue.id)].lock().attach(&queue, consumer)?;
        Ok(Attachment { queue, consumer })
    }

    /// Removes a consumer, and its queue if that was to go with the last one.
    pub fn cancel(&self, caller: &Caller, attachment: &Attachment) {
        let queue = &attachment.queue;
        let unused = self.shards[self.shard_index(queue.id)].lock().detach(queue, attachment.consumer);
        if unused {
            let mut state = caller.vhost.write();
            let rule = DeleteRule { if_unused: true, if_empty: false };
            // A consumer that came in between keeps the queue.
            let _ = self.remove_queue(&caller.vhost, &mut state, queue, rule);
        }
    }

    /// Gives a consumer what waits for it: when it is new, when its connection keeps up again, when its limit changed.
    pub fn resume(&self, attachment: &Attachment) {
        let mut after = Aftermath::default();
        let queue = &attachment.queue;
        self.shards[self.shard_index(queue.id)].lock().resume(queue, attachment.consumer, &mut after);
        self.finish(after);
    }

    /// Takes one message, if there is one.
    ///
    /// # Errors
    /// If the queue does not exist or the caller may not.
    pub fn fetch(&self, caller: &Caller, name: &str, settled: bool) -> Result<Option<Fetched>, Refusal> {
        self.identity.check(&caller.user, Access::Read, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        let mut after = Aftermath::default();
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        let fetched = shard.fetch(&info, settled, &mut after);
        let left = shard.queue(&info).map_or(0, |queue| queue.backlog().ready());
        drop(shard);
        self.finish(after);
        Ok(fetched.map(|(slot, queued)| Fetched { queue: info, slot, queued, left }))
    }

    /// Deletes what belongs to a session alone.
    pub fn close_session(&self, caller: &Caller) {
        let owned = self.owned.lock().remove(&caller.session).unwrap_or_default();
        for queue in owned {
            let mut state = caller.vhost.write();
            let _ = self.remove_queue(&caller.vhost, &mut state, &queue, DeleteRule::default());
        }
    }

    /// Closes a name opened by [`Broker::open_direct`].
    pub fn close_direct(&self, caller: &Caller, info: &QueueInfo) {
        caller.vhost.write().remove_queue(info);
    }

    // --- routing ---

    /// Finds where messages go, and whether the caller may send them there. `keys` holds the routing key, and further
    /// ones that the message names itself.
    ///
    /// # Errors
    /// If the exchange does not exist, is internal, or the caller may not write to it.
    pub fn route(
        &self,
        caller: &Caller,
        exchange: &str,
        keys: &[&str],
        headers: &dyn Fn() -> Table,
    ) -> Result<Route, Refusal> {
        let vhost = &caller.vhost;
        // Read before the state: a change in between makes this route look older than it is, never newer.
        let version = vhost.version();
        self.identity.check(&caller.user, Access::Write, vhost.exchange_resource(exchange))?;
        let state = vhost.read();
        if !exchange.is_empty() {
            let resource = || vhost.exchange_resource(exchange);
            let found = state.exchange(exchange).ok_or_else(|| Refusal::NotFound(resource()))?;
            if found.declaration.internal {
                return Err(Refusal::InternalExchange(resource()));
            }
            if found.declaration.kind == ExchangeKind::Topic {
                let key = keys.first().copied().unwrap_or_default();
                self.identity.check_topic(&caller.user, Access::Write, resource(), key)?;
            }
        }
        let mut queues = Vec::new();
        let mut reusable = keys.len() == 1;
        for key in keys {
            reusable &= state.route(exchange, key, headers, &mut queues);
        }
        Ok(Route::new(exchange.into(), version, reusable, queues))
    }
}

fn queue_state(info: &QueueInfo) -> State {
    State::Queue {
        vhost: info.vhost.clone(),
        name: info.name.clone(),
        id: info.id,
        auto_delete: info.auto_delete,
        arguments: info.arguments.clone(),
    }
}
