//! An exchange and the index of its bindings.

use super::{
    Destination, DestinationSet,
    headers::HeadersIndex,
    topic::{KeyIndex, TopicIndex},
};
use crate::{
    refusal::Refusal,
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
}

impl ExchangeKind {
    /// The kind by its name.
    ///
    /// # Errors
    /// [`Refusal::UnknownExchangeType`] for a name that is none of the four.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            "" => return Err(Refusal::UnknownExchangeType("invalid exchange type ''".into())),
            _ => return Err(Refusal::UnknownExchangeType(format!("unknown exchange type '{name}'"))),
        })
    }

    /// The kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
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
    /// Further arguments; `alternate-exchange` is understood.
    pub arguments: Table,
}

/// An exchange.
#[derive(Debug)]
pub struct Exchange {
    /// Its properties.
    pub declaration: ExchangeDeclaration,
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
}

impl Exchange {
    pub(super) fn new(declaration: ExchangeDeclaration) -> Self {
        let index = match declaration.kind {
            ExchangeKind::Direct => Index::Direct(KeyIndex::default()),
            ExchangeKind::Fanout => Index::Fanout(DestinationSet::default()),
            ExchangeKind::Topic => Index::Topic(TopicIndex::default()),
            ExchangeKind::Headers => Index::Headers(HeadersIndex::default()),
        };
        Self { declaration, bindings: 0, index }
    }

    /// The exchange that gets what this one cannot route.
    pub fn alternate(&self) -> Option<Name> {
        self.declaration.arguments.get("alternate-exchange").and_then(Value::as_text).map(Name::from)
    }

    pub(super) fn check_binding(&self, arguments: &Table) -> Result<(), Refusal> {
        match self.declaration.kind {
            ExchangeKind::Headers => HeadersIndex::check(arguments),
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic => Ok(()),
        }
    }

    pub(super) fn insert(&mut self, key: &str, arguments: &Table, destination: Destination) {
        self.bindings += 1;
        match &mut self.index {
            Index::Direct(keys) => keys.entry(key.into()).or_default().insert(destination),
            Index::Fanout(all) => all.insert(destination),
            Index::Topic(trie) => trie.insert(key, destination),
            Index::Headers(headers) => headers.insert(arguments, destination),
        }
    }

    pub(super) fn remove(&mut self, key: &str, arguments: &Table, destination: &Destination) {
        self.bindings -= 1;
        match &mut self.index {
            Index::Direct(keys) => {
                if let Some(set) = keys.get_mut(key) {
                    set.remove(destination);
                    if set.is_empty() {
                        keys.remove(key);
                    }
                }
            }
            Index::Fanout(all) => all.remove(destination),
            Index::Topic(trie) => trie.remove(key, destination),
            Index::Headers(headers) => headers.remove(arguments, destination),
        }
    }

    /// Whether routing needs the message's headers.
    pub(super) fn reads_headers(&self) -> bool {
        matches!(self.index, Index::Headers(_))
    }

    pub(super) fn matches(&self, routing_key: &str, headers: &Table, mut found: impl FnMut(&Destination)) {
        match &self.index {
            Index::Direct(keys) => keys.get(routing_key).into_iter().flat_map(DestinationSet::iter).for_each(found),
            Index::Fanout(all) => all.iter().for_each(found),
            Index::Topic(trie) => trie.matches(routing_key, &mut found),
            Index::Headers(index) => index.matches(headers, &mut found),
        }
    }
}
