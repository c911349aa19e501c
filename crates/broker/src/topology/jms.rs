//! The index of an `x-jms-topic` exchange: each binding may have a selector.
//!
//! The binding key is not compared with anything, as in RabbitMQ's plugin: clients bind such an exchange to a topic
//! exchange, which has compared it already.

use std::collections::BTreeMap;

use super::{
    Destination,
    facts::Query,
    vhost::{Binding, BindingId},
};
use crate::{
    refusal::Refusal,
    selector::{Selector, Subject},
    value::{Table, Value},
};

/// The argument in which RabbitMQ's JMS client sends a selector compiled to an Erlang term.
const ERLANG_ARGUMENT: &str = "rjms_erlang_selector";

/// The argument for a selector as JMS writes it; RabbitMQ has no such.
const ARGUMENT: &str = "x-jms-selector";

/// The bindings of an `x-jms-topic` exchange. One without a selector takes every message.
#[derive(Debug, Default)]
pub(super) struct JmsIndex(BTreeMap<BindingId, Option<Selector>>);

impl JmsIndex {
    /// Adds a binding.
    ///
    /// # Errors
    /// If its selector cannot be parsed.
    pub(super) fn insert(&mut self, id: &BindingId, binding: &Binding) -> Result<(), Refusal> {
        self.0.insert(id.clone(), selector(&binding.arguments)?);
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &BindingId) {
        self.0.remove(id);
    }

    /// Calls `found` for the destination of every binding whose selector is true.
    pub(super) fn matches<'a>(&'a self, query: &Query<'_>, mut found: impl FnMut(&'a Destination)) {
        let subject = Subject::new(query.headers(), query.facts);
        for ((destination, _, _), selector) in &self.0 {
            if selector.as_ref().is_none_or(|selector| selector.matches(&subject)) {
                found(destination);
            }
        }
    }
}

fn selector(arguments: &Table) -> Result<Option<Selector>, Refusal> {
    let text = |argument| arguments.get(argument).and_then(Value::as_text);
    let parsed = match (text(ERLANG_ARGUMENT), text(ARGUMENT)) {
        (Some(term), _) => Selector::parse_erlang(term),
        (None, Some(text)) if !text.trim().is_empty() => Selector::parse(text),
        (None, _) => return Ok(None),
    };
    parsed.map(Some).map_err(|error| Refusal::InvalidBinding(format!("invalid JMS selector: {error}")))
}
