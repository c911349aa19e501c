//! Declaring, deleting and binding exchanges.

use std::sync::Arc;

use super::{Broker, Caller, DeleteRule};
use crate::{
    arguments,
    identity::Access,
    log::{Entry, Position},
    record::State,
    refusal::{Refusal, Resource},
    topology::{Binding, Destination, ExchangeDeclaration, ExchangeKind, QueueInfo, Removed, Vhost},
    value::{Table, Value},
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
    pub(super) fn forget(&self, vhost: &Vhost, removed: Removed) -> Position {
        let vhost = vhost.name();
        let mut keys = Vec::new();
        for binding in removed.bindings {
            keys.push(State::Binding { vhost: vhost.clone(), binding }.key());
        }
        keys.extend(removed.exchanges.into_iter().map(|name| State::exchange_key(vhost, &name)));
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
        if !state.bind(binding.clone())? {
            return Ok(Position(0));
        }
        Ok(self.put_state(&State::Binding { vhost: caller.vhost.name().clone(), binding }))
    }

    fn unbind(&self, caller: &Caller, binding: &Binding) -> Result<Position, Refusal> {
        let mut state = caller.vhost.write();
        let removed = state.unbind(binding);
        Ok(self.forget(&caller.vhost, removed))
    }
}
