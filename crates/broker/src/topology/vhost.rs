//! A vhost: a name space of exchanges and queues, and the bindings between them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Destination, Exchange, ExchangeDeclaration, ExchangeKind, QueueId, QueueInfo, QueueType};
use crate::{
    policy::{Policies, Policy, PolicyKind},
    record,
    refusal::{Refusal, Resource},
    rules::Rules,
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
    /// What is said of the vhost: description, tags, default queue type.
    pub metadata: Table,
    /// Every binding, under the exchange that it leads from.
    by_source: BTreeMap<Name, BTreeMap<BindingId, Bound>>,
    /// The same, under where they lead.
    by_destination: BTreeMap<Destination, BTreeSet<(Name, BindingId)>>,
}

type BindingId = (Destination, Name, Vec<u8>);

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
            ("amq.rabbitmq.trace", ExchangeKind::Topic, true),
        ];
        for (exchange, kind, internal) in predeclared {
            let arguments = Table::default();
            let declaration = ExchangeDeclaration { kind, durable: true, auto_delete: false, internal, arguments };
            state.insert_exchange(exchange.into(), declaration);
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
    fn alternate_of(&self, name: &str, exchange: &Exchange) -> Option<Name> {
        exchange.alternate().or_else(|| {
            let (_, policy) = self.policies.for_exchange(name)?;
            policy.definition.get("alternate-exchange").and_then(Value::as_text).map(Name::from)
        })
    }

    /// Adds an exchange.
    pub fn insert_exchange(&mut self, name: Name, declaration: ExchangeDeclaration) {
        self.exchanges.insert(name, Exchange::new(declaration));
    }

    /// Adds a queue.
    pub fn insert_queue(&mut self, queue: Arc<QueueInfo>) {
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
        if exchange.declaration.durable {
            removed.exchanges.push(name.clone());
        }
        for (id, bound) in self.by_source.remove(name).unwrap_or_default() {
            self.forget_destination(&bound.binding.destination, &(name.clone(), id));
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
        for (source, id) in self.by_destination.remove(destination).unwrap_or_default() {
            self.remove_binding_from(&source, &id, removed);
        }
    }

    fn remove_binding_from(&mut self, source: &Name, id: &BindingId, removed: &mut Removed) {
        let Some(bindings) = self.by_source.get_mut(source) else { return };
        let Some(bound) = bindings.remove(id) else { return };
        let binding = &bound.binding;
        if bindings.is_empty() {
            self.by_source.remove(source);
        }
        let mut unused = false;
        if let Some(exchange) = self.exchanges.get_mut(source) {
            exchange.remove(&binding.key, &binding.arguments, &binding.destination);
            unused = exchange.declaration.auto_delete && exchange.bindings == 0;
        }
        removed.add(bound);
        if unused {
            self.remove_exchange_into(source, removed);
        }
    }

    fn forget_destination(&mut self, destination: &Destination, entry: &(Name, BindingId)) {
        if let Some(set) = self.by_destination.get_mut(destination) {
            set.remove(entry);
            if set.is_empty() {
                self.by_destination.remove(destination);
            }
        }
    }

    /// Adds a binding, if it is not there already. Returns whether it is new and survives a restart.
    ///
    /// # Errors
    /// If an end does not exist or the exchange does not take such arguments.
    pub fn bind(&mut self, binding: Binding) -> Result<bool, Refusal> {
        let durable = self.is_durable(&binding);
        let vhost = self.name.clone().unwrap_or_else(|| Name::from(""));
        let missing = |name: &Name| Refusal::NotFound(Resource { kind: "exchange", name: name.clone(), vhost });
        if let Destination::Exchange(name) = &binding.destination
            && !self.exchanges.contains_key(name)
        {
            return Err(missing(name));
        }
        let Some(exchange) = self.exchanges.get_mut(&binding.source) else { return Err(missing(&binding.source)) };
        exchange.check_binding(&binding.arguments)?;
        let id = binding.id();
        let bindings = self.by_source.entry(binding.source.clone()).or_default();
        if bindings.contains_key(&id) {
            return Ok(false);
        }
        exchange.insert(&binding.key, &binding.arguments, binding.destination.clone());
        let place = (binding.source.clone(), id.clone());
        self.by_destination.entry(binding.destination.clone()).or_default().insert(place);
        bindings.insert(id, Bound { binding, durable });
        Ok(durable)
    }

    /// Removes a binding, if it is there, and the auto-delete exchanges that this leaves unused.
    pub fn unbind(&mut self, binding: &Binding) -> Removed {
        let mut removed = Removed::default();
        let id = binding.id();
        self.forget_destination(&binding.destination, &(binding.source.clone(), id.clone()));
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

    /// Follows bindings from `exchange` and adds the queues that they lead to. Exchanges are visited once each, which
    /// cuts loops; an exchange that routes nowhere hands over to its alternate exchange. `headers` is called only if an
    /// exchange needs them. Returns whether the result depends on nothing but the routing key.
    pub fn route(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: &dyn Fn() -> Table,
        queues: &mut Vec<Arc<QueueInfo>>,
    ) -> bool {
        if exchange.is_empty() {
            queues.extend(self.queues.get(routing_key).cloned());
            return true;
        }
        let mut by_key_alone = true;
        let mut visited: Vec<Name> = Vec::new();
        let mut waiting = vec![Name::from(exchange)];
        while let Some(name) = waiting.pop() {
            if visited.contains(&name) {
                continue;
            }
            if name.is_empty() {
                queues.extend(self.queues.get(routing_key).cloned());
                continue;
            }
            let Some(exchange) = self.exchanges.get(&name) else { continue };
            let reads_headers = exchange.reads_headers();
            by_key_alone &= !reads_headers;
            let headers = if reads_headers { headers() } else { Table::default() };
            let mut found = false;
            exchange.matches(routing_key, &headers, |destination| {
                found = true;
                match destination {
                    Destination::Queue(id) => queues.extend(self.queues_by_id.get(id).cloned()),
                    Destination::Exchange(next) => waiting.push(next.clone()),
                }
            });
            if !found {
                waiting.extend(self.alternate_of(&name, exchange));
            }
            visited.push(name);
        }
        by_key_alone
    }
}
