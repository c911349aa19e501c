//! An exchange and the index of its bindings.

use std::sync::Arc;

use super::{
    Destination, DestinationSet, History, QueueInfo,
    bag::Bag,
    facts::Query,
    hash::{self, HashIndex},
    headers::HeadersIndex,
    jms::JmsIndex,
    topic::{KeyIndex, TopicIndex},
    vhost::{Binding, BindingId},
};
use crate::{
    message::Message,
    refusal::Refusal,
    traffic::ExchangeTraffic,
    value::{Name, Table, Value},
};

/// How an exchange chooses among its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// The binding key equals the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// The binding key is a pattern over the words of the routing key.
    Topic,
    /// The binding's arguments are compared with the message's headers.
    Headers,
    /// One binding by a hash of the routing key, a header or a property; the binding keys are weights.
    ConsistentHash,
    /// One binding by a hash of the routing key, modulo their number.
    ModulusHash,
    /// One binding by chance.
    Random,
    /// One binding by chance, without binding keys.
    LocalRandom,
    /// Every binding; a new one gets the last messages.
    RecentHistory,
    /// Every binding whose JMS selector is true.
    JmsTopic,
    /// Holds messages back for the time that their header `x-delay` says, then routes by the kind that the argument
    /// `x-delayed-type` names.
    Delayed,
}

/// The kinds with the names by which clients and the log know them. These never change.
const NAMES: [(&str, ExchangeKind); 11] = [
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
    ("x-consistent-hash", ExchangeKind::ConsistentHash),
    ("x-modulus-hash", ExchangeKind::ModulusHash),
    ("x-random", ExchangeKind::Random),
    ("x-local-random", ExchangeKind::LocalRandom),
    ("x-recent-history", ExchangeKind::RecentHistory),
    ("x-jms-topic", ExchangeKind::JmsTopic),
    ("x-delayed-message", ExchangeKind::Delayed),
];

impl ExchangeKind {
    /// The kind by its name.
    ///
    /// # Errors
    /// [`Refusal::UnknownExchangeType`] for a name that none has.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        if let Some((_, kind)) = NAMES.into_iter().find(|(known, _)| *known == name) {
            return Ok(kind);
        }
        let what = if name.is_empty() { "invalid" } else { "unknown" };
        Err(Refusal::UnknownExchangeType(format!("{what} exchange type '{name}'")))
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        NAMES.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// What a client asks of a new exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeDeclaration {
    /// How it chooses among its bindings.
    pub kind: ExchangeKind,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it goes away with the last binding that leads from it.
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it.
    pub internal: bool,
    /// Further arguments: `alternate-exchange`, and those of the kind.
    pub arguments: Table,
}

impl ExchangeDeclaration {
    /// The kind by which it routes, which a delayed exchange has for an argument.
    ///
    /// # Errors
    /// If that argument is missing or names no such kind.
    pub fn routing_kind(&self) -> Result<ExchangeKind, Refusal> {
        if self.kind != ExchangeKind::Delayed {
            return Ok(self.kind);
        }
        let Some(name) = self.arguments.get("x-delayed-type").and_then(Value::as_text) else {
            let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
            return Err(Refusal::InvalidExchange(text.into()));
        };
        match ExchangeKind::parse(name)? {
            ExchangeKind::Delayed => {
                let text = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
                Err(Refusal::InvalidExchange(text.into()))
            }
            kind => Ok(kind),
        }
    }
}

/// An exchange.
#[derive(Debug)]
pub struct Exchange {
    /// Its properties.
    pub declaration: ExchangeDeclaration,
    /// What goes through.
    pub traffic: Arc<ExchangeTraffic>,
    /// Bindings that lead from it.
    pub(super) bindings: usize,
    index: Index,
}

#[derive(Debug)]
enum Index {
    Direct(KeyIndex),
    Fanout(DestinationSet),
    Topic(TopicIndex),
    Headers(HeadersIndex),
    ConsistentHash(HashIndex),
    ModulusHash(Bag),
    Random(Bag),
    LocalRandom(Bag),
    RecentHistory(DestinationSet, Arc<History>),
    JmsTopic(JmsIndex),
}

impl Index {
    fn new(kind: ExchangeKind, arguments: &Table) -> Result<Self, Refusal> {
        Ok(match kind {
            ExchangeKind::Direct => Self::Direct(KeyIndex::default()),
            // What delays has the index of the kind by which it routes; it is never asked for one of its own.
            ExchangeKind::Fanout | ExchangeKind::Delayed => Self::Fanout(DestinationSet::default()),
            ExchangeKind::Topic => Self::Topic(TopicIndex::default()),
            ExchangeKind::Headers => Self::Headers(HeadersIndex::default()),
            ExchangeKind::ConsistentHash => Self::ConsistentHash(HashIndex::new(arguments)?),
            ExchangeKind::ModulusHash => Self::ModulusHash(Bag::default()),
            ExchangeKind::Random => Self::Random(Bag::default()),
            ExchangeKind::LocalRandom => Self::LocalRandom(Bag::default()),
            ExchangeKind::RecentHistory => {
                Self::RecentHistory(DestinationSet::default(), Arc::new(History::new(arguments)?))
            }
            ExchangeKind::JmsTopic => Self::JmsTopic(JmsIndex::default()),
        })
    }
}

impl Exchange {
    /// An exchange without bindings.
    ///
    /// # Errors
    /// If its kind does not take such arguments.
    pub fn new(declaration: ExchangeDeclaration) -> Result<Self, Refusal> {
        let index = Index::new(declaration.routing_kind()?, &declaration.arguments)?;
        Ok(Self { declaration, traffic: Arc::default(), bindings: 0, index })
    }

    /// How many bindings lead from it.
    pub fn binding_count(&self) -> usize {
        self.bindings
    }

    /// The exchange that gets what this one cannot route.
    pub fn alternate(&self) -> Option<&str> {
        self.declaration.arguments.get("alternate-exchange").and_then(Value::as_text)
    }

    /// Whether messages wait here for the time that they name themselves before they are routed.
    pub fn is_delayed(&self) -> bool {
        self.declaration.kind == ExchangeKind::Delayed
    }

    /// What is remembered here for bindings to come, if the exchange is of the kind that does so.
    pub fn history(&self) -> Option<&Arc<History>> {
        match &self.index {
            Index::RecentHistory(_, history) => Some(history),
            _ => None,
        }
    }

    /// Remembers a message for bindings to come, if the exchange is of the kind that does so.
    pub fn remember(&self, message: Arc<Message>) {
        if let Some(history) = self.history() {
            history.remember(message);
        }
    }

    /// Adds a binding that is not there yet. `queue` is the destination if it is one.
    ///
    /// # Errors
    /// If the exchange does not take such a binding.
    pub(super) fn insert(
        &mut self,
        id: &BindingId,
        binding: &Binding,
        queue: Option<&QueueInfo>,
    ) -> Result<(), Refusal> {
        let (key, destination) = (&binding.key, &binding.destination);
        match &mut self.index {
            Index::Direct(keys) => keys.entry((&**key).into()).or_default().insert(destination.clone()),
            Index::Fanout(all) | Index::RecentHistory(all, _) => all.insert(destination.clone()),
            Index::Topic(trie) => trie.insert(key, destination.clone()),
            Index::Headers(headers) => headers.insert(id, &binding.arguments)?,
            Index::ConsistentHash(index) => index.insert(key, destination)?,
            Index::ModulusHash(all) | Index::Random(all) => all.insert(destination),
            Index::LocalRandom(all) => {
                check_local(key, queue)?;
                all.insert(destination);
            }
            Index::JmsTopic(selectors) => selectors.insert(id, binding)?,
        }
        self.bindings += 1;
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &BindingId) {
        self.bindings -= 1;
        let (destination, key, _) = id;
        match &mut self.index {
            Index::Direct(keys) => {
                if let Some(set) = keys.get_mut(&**key) {
                    set.remove(destination);
                    if set.is_empty() {
                        keys.remove(&**key);
                    }
                }
            }
            Index::Fanout(all) | Index::RecentHistory(all, _) => all.remove(destination),
            Index::Topic(trie) => trie.remove(key, destination),
            Index::Headers(headers) => headers.remove(id),
            Index::ConsistentHash(index) => index.remove(key, destination),
            Index::ModulusHash(all) | Index::Random(all) | Index::LocalRandom(all) => all.remove(destination),
            Index::JmsTopic(selectors) => selectors.remove(id),
        }
    }

    /// Whether the bindings chosen depend on nothing but the routing key.
    pub(super) fn routes_by_key(&self) -> bool {
        match &self.index {
            Index::Direct(_)
            | Index::Fanout(_)
            | Index::Topic(_)
            | Index::ModulusHash(_)
            | Index::RecentHistory(..) => true,
            Index::ConsistentHash(index) => index.hashes_key(),
            Index::Headers(_) | Index::Random(_) | Index::LocalRandom(_) | Index::JmsTopic(_) => false,
        }
    }

    /// Calls `found` for the destinations of the bindings chosen. One may be named several times.
    pub(super) fn matches<'a>(&'a self, query: &Query<'_>, mut found: impl FnMut(&'a Destination)) {
        match &self.index {
            Index::Direct(keys) => {
                let sets = query.keys.iter().filter_map(|key| keys.get(*key));
                sets.flat_map(DestinationSet::iter).for_each(found);
            }
            Index::Fanout(all) | Index::RecentHistory(all, _) => all.iter().for_each(found),
            Index::Topic(trie) => query.keys.iter().for_each(|key| trie.matches(key, &mut found)),
            Index::Headers(index) => index.matches(query.headers(), found),
            Index::ConsistentHash(index) => index.pick(query).into_iter().for_each(found),
            Index::ModulusHash(all) => {
                let number = query.keys.iter().fold(0, |number, key| hash::mix(number) ^ hash::hash(key.as_bytes()));
                all.pick(number).into_iter().for_each(found);
            }
            Index::Random(all) | Index::LocalRandom(all) => all.pick(query.random).into_iter().for_each(found),
            Index::JmsTopic(selectors) => selectors.matches(query, found),
        }
    }
}

/// The rules for bindings of `x-local-random`, in RabbitMQ's words.
fn check_local(key: &Name, queue: Option<&QueueInfo>) -> Result<(), Refusal> {
    let invalid = |text| Err(Refusal::InvalidBinding(text));
    if !key.is_empty() {
        return invalid(format!("Non empty binding '{key}' key not permitted"));
    }
    let Some(queue) = queue else { return invalid("Destination not found".into()) };
    match queue.arguments.get("x-queue-type").and_then(Value::as_text) {
        None | Some("classic") => Ok(()),
        Some(kind) => invalid(format!("Queue type rabbit_{kind}_queue not valid for this exchange type")),
    }
}
