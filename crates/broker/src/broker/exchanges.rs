//! Declaring and deleting exchanges.

use super::{Broker, Caller, DeleteRule, events};
use crate::{
    arguments,
    identity::Access,
    log::{Durability, Entry, Position},
    record::State,
    refusal::Refusal,
    topology::{Exchange, ExchangeDeclaration, Removed, Vhost},
    value::Value,
};

impl Broker {
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

    pub(super) fn refuse_default(&self, exchange: &str) -> Result<(), Refusal> {
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
        self.check(caller, Access::Configure, resource())?;
        if let Some(alternate) = declaration.arguments.get("alternate-exchange").and_then(Value::as_text) {
            self.check(caller, Access::Read, resource())?;
            self.check(caller, Access::Write, caller.vhost.exchange_resource(alternate))?;
        }
        if let Some(existing) = caller.vhost.read().exchange(name) {
            return arguments::equivalent_exchange(resource(), &declaration, &existing.declaration)
                .map(|()| Position(0));
        }
        arguments::check_exchange(resource, &declaration.arguments)?;
        if name.starts_with("amq.") {
            return Err(Refusal::ReservedName { kind: "exchange", name: name.into() });
        }
        let exchange = Exchange::new(declaration.clone())?;
        let mut state = caller.vhost.write();
        if let Some(existing) = state.exchange(name) {
            return arguments::equivalent_exchange(resource(), &declaration, &existing.declaration)
                .map(|()| Position(0));
        }
        let (is_delayed, kind) = (exchange.is_delayed(), declaration.kind);
        state.insert_exchange(name.into(), exchange);
        if is_delayed {
            self.add_delay_queue(caller.vhost.name(), &name.into(), &declaration);
        }
        drop(state);
        let vhost = caller.vhost.name();
        self.tell("exchange.created", || events::named(&[("name", name), ("type", kind.name()), ("vhost", vhost)]));
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
        self.check(caller, Access::Configure, resource())?;
        let mut state = caller.vhost.write();
        if rule.if_unused && state.exchange_in_use(name) {
            return Err(Refusal::InUse(resource()));
        }
        let removed = state.remove_exchange(&name.into());
        drop(state);
        self.tell("exchange.deleted", || events::named(&[("name", name), ("vhost", caller.vhost.name())]));
        Ok(self.forget(&caller.vhost, removed))
    }

    /// Takes out of the log what is gone from the topology.
    pub(super) fn forget(&self, vhost: &Vhost, removed: Removed) -> Position {
        let vhost = vhost.name();
        removed.delayed.iter().for_each(|exchange| self.remove_delay_queue(vhost, exchange));
        let mut keys = Vec::new();
        for binding in removed.bindings {
            keys.push(State::Binding { vhost: vhost.clone(), binding }.key());
        }
        keys.extend(removed.exchanges.into_iter().map(|name| State::exchange_key(vhost, &name)));
        if keys.is_empty() {
            return Position(0);
        }
        let entries: Vec<_> = keys.iter().map(|key| Entry::Remove { key }).collect();
        let first = self.log.append(&entries, Durability::Fsync);
        Position(first.0 + entries.len() as u64 - 1)
    }
}
