//! A vhost: a name space of exchanges and queues, and the bindings between them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    Destination, EVENTS, Exchange, ExchangeDeclaration, ExchangeKind, Facts, History, QueueId, QueueInfo, QueueType,
    TRACES, facts::Query, hash,
};
use crate::{
    message::Message,
    policy::{Policies, Policy, PolicyKind},
    record,
    refusal::{Refusal, Resource},
    rules::Rules,
    traffic::ExchangeTraffic,
    value::{Name, Table, Value},
};

/// A name space of exchanges and queues.
#[derive(Debug)]
pub struct Vhost {
    name: Name,
    version: AtomicU64,
    state: RwLock<VhostState>,
}

/// What a vhost contains.
#[derive(Debug, Default)]
pub struct VhostState {
    name: Option<Name>,
    exchanges: HashMap<Name, Exchange>,
    queues: HashMap<Name, Arc<QueueInfo>>,
    queues_by_id: HashMap<QueueId, Arc<QueueInfo>>,
    /// What operators say of queues and exchanges.
    pub policies: Policies,
    /// What goes through the default exchange.
    pub default_traffic: Arc<ExchangeTraffic>,
    /// Whether what is published and delivered is traced.
    pub is_traced: bool,
    /// What is said of the vhost: description, tags, default queue type.
    pub metadata: Table,
    /// Every binding, under the exchange that it leads from.
    by_source: BTreeMap<Name, BTreeMap<BindingId, Bound>>,
    /// The same, with where they lead first and their exchange last.
    by_destination: BTreeSet<(BindingId, Name)>,
}

/// What tells the bindings of an exchange apart: destination, key, and the arguments as bytes.
pub(super) type BindingId = (Destination, Name, Vec<u8>);

/// A binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that it leads from.
    pub source: Name,
    /// Where it leads.
    pub destination: Destination,
    /// The binding key.
    pub key: Name,
    /// Its arguments.
    pub arguments: Table,
}

impl Binding {
    /// Bindings are the same if key, arguments and both ends are.
    fn id(&self) -> BindingId {
        let mut arguments = Vec::new();
        record::put_table(&mut arguments, &self.arguments);
        (self.destination.clone(), self.key.clone(), arguments)
    }
}

/// What went away with a removed exchange, queue or binding, as far as the log has to know of it.
#[derive(Debug, Default)]
pub struct Removed {
    /// Durable bindings.
    pub bindings: Vec<Binding>,
    /// Durable exchanges.
    pub exchanges: Vec<Name>,
    /// Exchanges that kept messages back.
    pub delayed: Vec<Name>,
}

/// What adding a binding came to.
#[derive(Debug, Default)]
pub struct Added {
    /// Whether it was not there already.
    pub is_new: bool,
    /// Whether it is new and survives a restart.
    pub durable: bool,
    /// If it is new: what its source remembers and its destination is to get, the oldest first.
    pub history: Vec<Arc<Message>>,
}

/// Where a message goes.
#[derive(Debug)]
pub struct Routed {
    /// Queues, which may be named more than once.
    pub queues: Vec<Arc<QueueInfo>>,
    /// Whether this depends on nothing but the routing keys, for a message without headers.
    pub reusable: bool,
    /// Where the message is to be remembered.
    pub histories: Vec<Arc<History>>,
}

#[derive(Debug)]
struct Bound {
    binding: Binding,
    durable: bool,
}

impl Removed {
    fn add(&mut self, bound: Bound) {
        if bound.durable {
            self.bindings.push(bound.binding);
        }
    }
}

impl Vhost {
    /// A vhost with the exchanges that every vhost has.
    pub fn new(name: Name) -> Self {
        let mut state = VhostState { name: Some(name.clone()), ..VhostState::default() };
        let predeclared = [
            ("amq.direct", ExchangeKind::Direct, false),
            ("amq.fanout", ExchangeKind::Fanout, false),
            ("amq.topic", ExchangeKind::Topic, false),
            ("amq.headers", ExchangeKind::Headers, false),
            ("amq.match", ExchangeKind::Headers, false),
            (TRACES, ExchangeKind::Topic, true),
        ];
        let events = (&*name == "/").then_some((EVENTS, ExchangeKind::Topic, true));
        for (exchange, kind, internal) in predeclared.into_iter().chain(events) {
            let arguments = Table::default();
            let declaration = ExchangeDeclaration { kind, durable: true, auto_delete: false, internal, arguments };
            // They have no arguments that could be wrong.
            if let Ok(made) = Exchange::new(declaration) {
                state.insert_exchange(exchange.into(), made);
            }
        }
        Self { name, version: AtomicU64::new(1), state: RwLock::new(state) }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Grows with every change that could alter a route.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The contents, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, VhostState> {
        self.state.read()
    }

    /// The contents, for changing. Routes that sessions remember are void from now on.
    pub fn write(&self) -> RwLockWriteGuard<'_, VhostState> {
        let guard = self.state.write();
        self.version.fetch_add(1, Ordering::AcqRel);
        guard
    }

    /// Voids the routes that sessions remember, because a permission changed.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// An exchange of this vhost as error texts name it.
    pub fn exchange_resource(&self, name: &str) -> Resource {
        Resource { kind: "exchange", name: name.into(), vhost: self.name.clone() }
    }

    /// A queue of this vhost as error texts name it.
    pub fn queue_resource(&self, name: &str) -> Resource {
        Resource { kind: "queue", name: name.into(), vhost: self.name.clone() }
    }
}

impl VhostState {
    /// The exchange named `name`.
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name)
    }

    /// The queue named `name`.
    pub fn queue(&self, name: &str) -> Option<&Arc<QueueInfo>> {
        self.queues.get(name)
    }

    /// All queues, in no order.
    pub fn queues(&self) -> impl Iterator<Item = &Arc<QueueInfo>> {
        self.queues.values()
    }

    /// All exchanges, in no order.
    pub fn exchanges(&self) -> impl Iterator<Item = (&Name, &Exchange)> {
        self.exchanges.iter()
    }

    /// All bindings, by the exchange that they lead from.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.by_source.values().flat_map(|bindings| bindings.values().map(|bound| &bound.binding))
    }

    /// The rules of a queue, as the policies are now.
    pub fn rules_of(&self, info: &QueueInfo) -> Rules {
        let policy = |kind| self.policies.for_queue(kind, &info.name, info.queue_type);
        let [user, operator] =
            [PolicyKind::User, PolicyKind::Operator].map(|kind| policy(kind).map(|(_, policy)| policy));
        let definition = |policy: Option<&'_ Policy>| policy.map(|policy| policy.definition.clone());
        let (user, operator) = (definition(user), definition(operator));
        Rules::new(info.queue_type, &info.arguments, user.as_ref(), operator.as_ref())
    }

    /// The type of queues that are declared without one.
    pub fn default_queue_type(&self) -> QueueType {
        let named = self.metadata.get("default_queue_type").and_then(Value::as_text);
        named.and_then(QueueType::parse).unwrap_or_default()
    }

    /// The exchange that gets what another cannot route.
    fn alternate_of<'a>(&'a self, name: &str, exchange: &'a Exchange) -> Option<&'a str> {
        exchange.alternate().or_else(|| {
            let (_, policy) = self.policies.for_exchange(name)?;
            policy.definition.get("alternate-exchange").and_then(Value::as_text)
        })
    }

    /// Adds an exchange.
    pub fn insert_exchange(&mut self, name: Name, exchange: Exchange) {
        self.exchanges.insert(name, exchange);
    }

    /// Adds a queue.
    pub fn insert_queue(&mut self, queue: Arc<QueueInfo>) {
        queue.is_traced.store(self.is_traced, Ordering::Relaxed);
        self.queues_by_id.insert(queue.id, Arc::clone(&queue));
        self.queues.insert(queue.name.clone(), queue);
    }

    /// Whether an exchange has bindings that lead from it.
    pub fn exchange_in_use(&self, name: &str) -> bool {
        self.exchanges.get(name).is_some_and(|exchange| exchange.bindings > 0)
    }

    /// Removes an exchange with the bindings from and to it, and the auto-delete exchanges that this leaves unused.
    pub fn remove_exchange(&mut self, name: &Name) -> Removed {
        let mut removed = Removed::default();
        self.remove_exchange_into(name, &mut removed);
        removed
    }

    fn remove_exchange_into(&mut self, name: &Name, removed: &mut Removed) {
        let Some(exchange) = self.exchanges.remove(name) else { return };
        if exchange.is_delayed() {
            removed.delayed.push(name.clone());
        }
        if exchange.declaration.durable {
            removed.exchanges.push(name.clone());
        }
        for (id, bound) in self.by_source.remove(name).unwrap_or_default() {
            self.by_destination.remove(&(id, name.clone()));
            removed.add(bound);
        }
        self.remove_bindings_to(&Destination::Exchange(name.clone()), removed);
    }

    /// Removes a queue with its bindings, and the auto-delete exchanges that this leaves unused.
    pub fn remove_queue(&mut self, queue: &QueueInfo) -> Removed {
        let mut removed = Removed::default();
        if self.queues_by_id.remove(&queue.id).is_some() {
            self.queues.remove(&queue.name);
            self.remove_bindings_to(&Destination::Queue(queue.id), &mut removed);
        }
        removed
    }

    fn remove_bindings_to(&mut self, destination: &Destination, removed: &mut Removed) {
        let first = ((destination.clone(), Name::from(""), Vec::new()), Name::from(""));
        let is_to = |(id, _): &&(BindingId, Name)| id.0 == *destination;
        let bindings: Vec<_> = self.by_destination.range(first..).take_while(is_to).cloned().collect();
        for entry in bindings {
            self.by_destination.remove(&entry);
            self.remove_binding_from(&entry.1, &entry.0, removed);
        }
    }

    fn remove_binding_from(&mut self, source: &Name, id: &BindingId, removed: &mut Removed) {
        let Some(bindings) = self.by_source.get_mut(source) else { return };
        let Some(bound) = bindings.remove(id) else { return };
        if bindings.is_empty() {
            self.by_source.remove(source);
        }
        let mut unused = false;
        if let Some(exchange) = self.exchanges.get_mut(source) {
            exchange.remove(id);
            unused = exchange.declaration.auto_delete && exchange.bindings == 0;
        }
        removed.add(bound);
        if unused {
            self.remove_exchange_into(source, removed);
        }
    }

    /// Adds a binding, if it is not there already.
    ///
    /// # Errors
    /// If an end does not exist or the exchange does not take such arguments.
    pub fn bind(&mut self, binding: Binding) -> Result<Added, Refusal> {
        let durable = self.is_durable(&binding);
        let vhost = self.name.clone().unwrap_or_else(|| Name::from(""));
        let missing = |name: &Name| Refusal::NotFound(Resource { kind: "exchange", name: name.clone(), vhost });
        let queue = match &binding.destination {
            Destination::Exchange(name) if !self.exchanges.contains_key(name) => return Err(missing(name)),
            Destination::Exchange(_) => None,
            Destination::Queue(id) => self.queues_by_id.get(id),
        };
        let Some(exchange) = self.exchanges.get_mut(&binding.source) else { return Err(missing(&binding.source)) };
        let id = binding.id();
        if self.by_source.get(&binding.source).is_some_and(|bindings| bindings.contains_key(&id)) {
            return Ok(Added::default());
        }
        exchange.insert(&id, &binding, queue.map(|queue| &**queue))?;
        let history = exchange.history().map(|history| history.messages()).unwrap_or_default();
        self.by_destination.insert((id.clone(), binding.source.clone()));
        self.by_source.entry(binding.source.clone()).or_default().insert(id, Bound { binding, durable });
        Ok(Added { is_new: true, durable, history })
    }

    /// Removes a binding, if it is there, and the auto-delete exchanges that this leaves unused.
    pub fn unbind(&mut self, binding: &Binding) -> Removed {
        let mut removed = Removed::default();
        let id = binding.id();
        self.by_destination.remove(&(id.clone(), binding.source.clone()));
        self.remove_binding_from(&binding.source, &id, &mut removed);
        removed
    }

    /// Whether a binding survives a restart: both its ends do.
    fn is_durable(&self, binding: &Binding) -> bool {
        let source = self.exchanges.get(&binding.source).is_some_and(|exchange| exchange.declaration.durable);
        source
            && match &binding.destination {
                Destination::Queue(id) => self.queues_by_id.get(id).is_some_and(|queue| queue.durable),
                Destination::Exchange(name) => {
                    self.exchanges.get(name).is_some_and(|exchange| exchange.declaration.durable)
                }
            }
    }

    /// The queue with this id.
    pub fn queue_by_id(&self, id: QueueId) -> Option<&Arc<QueueInfo>> {
        self.queues_by_id.get(&id)
    }

    /// Follows bindings from `exchange` to queues. Exchanges are visited once each, which cuts loops; an exchange that
    /// routes nowhere hands over to its alternate exchange. `keys` are the routing key and further ones that the message
    /// names itself, `facts` is asked only if an exchange needs it, and `random` decides what is left to chance.
    pub fn route(&self, exchange: &str, keys: &[&str], facts: &dyn Facts, random: u64) -> Routed {
        let mut routed = Routed { queues: Vec::new(), reusable: true, histories: Vec::new() };
        let named = keys.iter().filter_map(|key| self.queues.get(*key)).cloned();
        if exchange.is_empty() {
            routed.queues.extend(named);
            return routed;
        }
        let mut query = Query::new(keys, facts, random);
        let (mut visited, mut waiting) = (Vec::new(), vec![exchange]);
        while let Some(name) = waiting.pop() {
            if visited.contains(&name) {
                continue;
            }
            visited.push(name);
            if name.is_empty() {
                routed.queues.extend(named.clone());
                continue;
            }
            let Some(exchange) = self.exchanges.get(name) else { continue };
            routed.reusable &= exchange.routes_by_key();
            if let Some(history) = exchange.history() {
                if History::wants(query.headers()) {
                    routed.histories.push(Arc::clone(history));
                } else {
                    routed.reusable = false;
                }
            }
            let mut found = false;
            exchange.matches(&query, |destination| {
                found = true;
                match destination {
                    Destination::Queue(id) => routed.queues.extend(self.queues_by_id.get(id).cloned()),
                    Destination::Exchange(next) => waiting.push(next),
                }
            });
            if !found {
                waiting.extend(self.alternate_of(name, exchange));
            }
            // The next exchange that chooses by chance chooses independently of this one.
            query.random = hash::mix(query.random);
        }
        routed
    }
}
