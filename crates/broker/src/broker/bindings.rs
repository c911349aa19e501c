//! Binding queues and exchanges to exchanges.

use std::sync::Arc;

use super::{Broker, Caller, events::named};
use crate::{
    identity::Access,
    log::Position,
    message::Message,
    publish::{Batch, Body, Route},
    record::State,
    refusal::{Refusal, Resource},
    topology::{Binding, Destination, ExchangeDeclaration, ExchangeKind, Vhost},
    value::Table,
};

/// Where a binding is to lead, by name.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// To a queue.
    Queue(&'a str),
    /// To another exchange.
    Exchange(&'a str),
}

/// A binding as a client asks for it, or asks for its removal.
#[derive(Clone, Debug)]
pub struct BindingRequest<'a> {
    /// The exchange that it leads from.
    pub source: &'a str,
    /// Where it leads.
    pub destination: End<'a>,
    /// The binding key.
    pub key: &'a str,
    /// Its arguments.
    pub arguments: Table,
}

impl Broker {
    /// Binds a queue so that it gets only what a JMS selector wants: by an exchange between, which has the queue's name and goes with
    /// it. Returns when it is safe.
    ///
    /// # Errors
    /// If the source does not exist, the selector is none, or the caller may not.
    pub fn bind_selected(
        &self,
        caller: &Caller,
        queue: &str,
        (source, key): (&str, &str),
        selector: &str,
        durable: bool,
    ) -> Result<Position, Refusal> {
        let (kind, arguments) = (ExchangeKind::JmsTopic, Table::default());
        let between = ExchangeDeclaration { kind, durable, auto_delete: true, internal: false, arguments };
        self.declare_exchange(caller, queue, between)?;
        let mut arguments = Table::default();
        arguments.push("x-jms-selector", selector.into());
        let position =
            self.bind(caller, BindingRequest { source: queue, destination: End::Queue(queue), key, arguments })?;
        let (destination, arguments) = (End::Exchange(queue), Table::default());
        Ok(position.max(self.bind(caller, BindingRequest { source, destination, key, arguments })?))
    }

    /// Adds a binding, if it is not there, and gives its destination what its source remembers. Returns when it is safe.
    ///
    /// # Errors
    /// If an end does not exist or the caller may not.
    pub fn bind(&self, caller: &Caller, request: BindingRequest<'_>) -> Result<Position, Refusal> {
        let (source, key, end) = (request.source, request.key, request.destination);
        let binding = self.find_ends(caller, request)?;
        self.check_topic_binding(caller, source, key)?;
        let mut state = caller.vhost.write();
        // Between the check and this lock the queue may have gone.
        if let Destination::Queue(id) = &binding.destination
            && state.queue_by_id(*id).is_none()
        {
            return Err(Refusal::NotFound(end.resource(caller)));
        }
        let added = state.bind(binding.clone())?;
        let destination = binding.destination.clone();
        let mut position = Position(0);
        let made = added.is_new.then(|| binding.clone());
        if added.durable {
            position = self.put_state(&State::Binding { vhost: caller.vhost.name().clone(), binding });
        }
        drop(state);
        if let Some(binding) = made {
            self.count_listeners(std::slice::from_ref(&binding));
            self.tell("binding.created", || {
                named(&[("source", source), ("routing_key", key), ("vhost", caller.vhost.name())])
            });
        }
        self.replay(&caller.vhost, &destination, &added.history);
        Ok(position)
    }

    /// Delivers what an exchange remembers to where a new binding of it leads.
    fn replay(&self, vhost: &Vhost, destination: &Destination, history: &[Arc<Message>]) {
        let mut batch = Batch::default();
        for message in history {
            let view = message.view();
            let state = vhost.read();
            let queues = match destination {
                Destination::Queue(id) => state.queue_by_id(*id).cloned().into_iter().collect(),
                Destination::Exchange(name) => state.route(name, &[view.routing_key], &self.stored(&view), 0).queues,
            };
            drop(state);
            let route = Route::new(view.exchange.clone(), vhost.version(), false, queues);
            if !route.queues.is_empty() {
                batch.publish(Arc::new(route), Body::Owned(Arc::clone(message)), 0);
            }
        }
        if !batch.is_empty() {
            self.apply(&mut batch);
        }
    }

    /// Removes a binding, if it and both its ends are there. Returns when that is safe.
    ///
    /// # Errors
    /// If the queue is locked or the caller may not.
    pub fn unbind(&self, caller: &Caller, request: BindingRequest<'_>) -> Result<Position, Refusal> {
        let binding = match self.find_ends(caller, request) {
            Ok(binding) => binding,
            Err(Refusal::NotFound(_)) => return Ok(Position(0)),
            Err(refusal) => return Err(refusal),
        };
        let removed = caller.vhost.write().unbind(&binding);
        let position = self.forget(&caller.vhost, removed);
        self.count_listeners(std::slice::from_ref(&binding));
        let Binding { source, key, .. } = &binding;
        self.tell("binding.deleted", || {
            named(&[("source", source), ("routing_key", key), ("vhost", caller.vhost.name())])
        });
        Ok(position)
    }

    /// The binding between things that exist and that the caller may bind.
    fn find_ends(&self, caller: &Caller, request: BindingRequest<'_>) -> Result<Binding, Refusal> {
        let BindingRequest { source, destination, key, arguments } = request;
        if let End::Exchange(name) = destination {
            self.refuse_default(name)?;
        }
        self.check(caller, Access::Write, destination.resource(caller))?;
        self.refuse_default(source)?;
        self.check(caller, Access::Read, caller.vhost.exchange_resource(source))?;
        let destination = match destination {
            End::Queue(name) => Destination::Queue(self.queue(caller, name)?.id),
            End::Exchange(name) => {
                self.check_exchange(caller, source)?;
                self.check_exchange(caller, name)?;
                Destination::Exchange(name.into())
            }
        };
        self.check_exchange(caller, source)?;
        Ok(Binding { source: source.into(), destination, key: key.into(), arguments })
    }

    fn check_topic_binding(&self, caller: &Caller, exchange: &str, key: &str) -> Result<(), Refusal> {
        if caller.authorization.is_some() {
            return self.check_topic_unlocked(caller, Access::Read, exchange, key);
        }
        let state = caller.vhost.read();
        let kind = state.exchange(exchange).map(|exchange| exchange.declaration.kind);
        if kind != Some(ExchangeKind::Topic) {
            return Ok(());
        }
        self.check_topic(caller, Access::Read, exchange, key)
    }
}

impl End<'_> {
    fn resource(self, caller: &Caller) -> Resource {
        match self {
            Self::Queue(name) => caller.vhost.queue_resource(name),
            Self::Exchange(name) => caller.vhost.exchange_resource(name),
        }
    }
}
