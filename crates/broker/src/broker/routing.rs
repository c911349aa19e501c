//! Where messages go, and whether a caller may send them there.

use std::sync::{Arc, atomic::Ordering};

use super::{Broker, Caller, delays::delay_of};
use crate::{
    identity::Access,
    message::{MessageView, Stored},
    publish::{Followed, Route},
    refusal::Refusal,
    topology::{ExchangeKind, Facts, QueueInfo, Routed, VhostState, mix},
    value::{Name, Table},
};

/// Topics that get a copy of what is published to queues by their names.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The vhost.
    pub vhost: Name,
    /// The topics' exchange.
    pub exchange: Name,
    /// A queue's topic is this and its name.
    pub prefix: Name,
}

impl Broker {
    /// Finds where messages go, and whether the caller may send them there. `keys` holds the routing key, and further
    /// ones that the message names itself; what else an exchange may want to know, it asks of `facts`.
    ///
    /// # Errors
    /// If the exchange does not exist, is internal, or the caller may not write to it.
    pub fn route(&self, caller: &Caller, exchange: &str, keys: &[&str], facts: &dyn Facts) -> Result<Route, Refusal> {
        let vhost = &caller.vhost;
        // Read before the state: a change in between makes this route look older than it is, never newer.
        let version = vhost.version();
        self.check(caller, Access::Write, vhost.exchange_resource(exchange))?;
        let key = keys.first().copied().unwrap_or_default();
        self.check_topic_unlocked(caller, Access::Write, exchange, key)?;
        let state = vhost.read();
        let mut traffic = &state.default_traffic;
        if !exchange.is_empty() {
            let resource = || vhost.exchange_resource(exchange);
            let found = state.exchange(exchange).ok_or_else(|| Refusal::NotFound(resource()))?;
            traffic = &found.traffic;
            if found.declaration.internal {
                return Err(Refusal::InternalExchange(resource()));
            }
            if found.declaration.kind == ExchangeKind::Topic && caller.authorization.is_none() {
                self.check_topic(caller, Access::Write, exchange, key)?;
            }
        }
        let traffic = Some(Arc::clone(traffic));
        if let Some(mut route) = self.delayed_route(caller, exchange, version, facts) {
            route.traffic = traffic;
            return Ok(route);
        }
        let routed = self.follow(vhost.name(), &state, (exchange, keys), facts);
        let reusable = routed.reusable && keys.len() == 1 && !caller.may_change();
        let mut route = Route::new(exchange.into(), version, reusable, routed.queues);
        (route.histories, route.traffic) = (routed.histories, traffic);
        if state.is_traced || self.settings.observer.is_some() {
            let (vhost, user) = (vhost.name().clone(), caller.user.clone());
            route.traced = Some(Followed { vhost, user, copied: state.is_traced });
        }
        Ok(route)
    }

    /// Where keys lead from an exchange: to queues, to who listens to their mirrors, and to what remembers topics.
    fn follow(&self, vhost: &Name, state: &VhostState, (exchange, keys): (&str, &[&str]), facts: &dyn Facts) -> Routed {
        let mut routed = state.route(exchange, keys, facts, self.chance());
        if let Some(mirror) = self.settings.mirror.as_ref().filter(|mirror| mirror.vhost == *vhost) {
            mirror.extend(&mut routed, state, (exchange, keys), facts);
        }
        if !self.memories.is_empty() {
            let key = keys.first().copied().unwrap_or_default();
            routed.histories.extend(self.memories(vhost, exchange, key));
        }
        routed
    }

    /// The way of a message that was kept back and is no longer: the one that it would take if it were published now.
    pub(super) fn released_route(
        &self,
        vhost: &Name,
        keys: &[String],
        message: &MessageView<'_>,
        annotations: Table,
    ) -> Route {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let stored = Stored { annotations, ..self.stored(message) };
        let Some(of) = self.vhost(vhost) else { return Route::nowhere() };
        let routed = self.follow(vhost, &of.read(), (message.exchange, &keys), &stored);
        let mut route = Route::new(message.exchange.clone(), 0, false, routed.queues);
        route.histories = routed.histories;
        route
    }

    /// Finds where messages for a queue go. The caller may send them there who may write to the default exchange, or to the
    /// queue.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn route_to_queue(&self, caller: &Caller, name: &str, facts: &dyn Facts) -> Result<Route, Refusal> {
        let refused = match self.route(caller, "", &[name], facts) {
            Err(refused @ Refusal::AccessRefused { .. }) => refused,
            routed => return routed,
        };
        self.check(caller, Access::Write, caller.vhost.queue_resource(name)).map_err(|_| refused)?;
        let permitted = Caller { is_operator: true, authorization: None, ..caller.clone() };
        let mut route = self.route(&permitted, "", &[name], facts)?;
        route.reusable &= !caller.may_change();
        Ok(route)
    }

    /// Whether a caller may consume what goes through an exchange with a key, or send it there. Of the default exchange that is a
    /// queue's name.
    pub fn may_use(&self, caller: &Caller, access: Access, (exchange, key): (&str, &str)) -> bool {
        let by_exchange = self.check(caller, access, caller.vhost.exchange_resource(exchange)).is_ok();
        if exchange.is_empty() {
            // Who may send to all queues may send to each.
            let is_sent = access == Access::Write && by_exchange;
            return is_sent || self.check(caller, access, caller.vhost.queue_resource(key)).is_ok();
        }
        by_exchange && self.check_topic(caller, access, exchange, key).is_ok()
    }

    /// Checks a topic permission with an authorization of the login's own. That may ask somebody else, so no lock is held.
    pub(super) fn check_topic_unlocked(
        &self,
        caller: &Caller,
        access: Access,
        exchange: &str,
        key: &str,
    ) -> Result<(), Refusal> {
        if caller.authorization.is_none() {
            return Ok(());
        }
        let kind = caller.vhost.read().exchange(exchange).map(|exchange| exchange.declaration.kind);
        if kind == Some(ExchangeKind::Topic) { self.check_topic(caller, access, exchange, key) } else { Ok(()) }
    }

    /// Where the keys of a message lead that the broker has taken in already.
    pub(super) fn queues_of(
        &self,
        vhost: &Name,
        exchange: &Name,
        keys: &[String],
        message: &MessageView<'_>,
        annotations: &Table,
    ) -> Vec<Arc<QueueInfo>> {
        let Some(vhost) = self.vhost(vhost) else { return Vec::new() };
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let stored = Stored { annotations: annotations.clone(), ..self.stored(message) };
        vhost.read().route(exchange, &keys, &stored, self.chance()).queues
    }

    /// A message that the broker has taken in, for exchanges that look into it.
    pub(super) fn stored<'a>(&self, message: &MessageView<'a>) -> Stored<'a> {
        let (codec, properties) = (self.codec(message.origin), message.properties);
        Stored { codec, properties, annotations: message.annotation_table() }
    }

    /// Bits for exchanges that choose by chance.
    pub(super) fn chance(&self) -> u64 {
        mix((self.settings.seed as u64).wrapping_add(self.routes.fetch_add(1, Ordering::Relaxed)))
    }

    /// The way into a delay exchange's own queue, for a message that asks for a delay.
    fn delayed_route(&self, caller: &Caller, exchange: &str, version: u64, facts: &dyn Facts) -> Option<Route> {
        let queue = self.delay_queue(caller.vhost.name(), exchange)?;
        let delay = delay_of(&facts.headers())?;
        Some(Route::new(exchange.into(), version, false, vec![queue]).delayed(delay))
    }
}

impl Mirror {
    /// Has what goes to a queue by its name go to who listens to its topic, too.
    fn extend(&self, routed: &mut Routed, state: &VhostState, (exchange, keys): (&str, &[&str]), facts: &dyn Facts) {
        if !exchange.is_empty() || routed.queues.is_empty() {
            return;
        }
        let topics: Vec<String> = keys.iter().map(|key| format!("{}{key}", self.prefix)).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let Routed { queues, reusable, histories } = state.route(&self.exchange, &topics, facts, 0);
        routed.queues.extend(queues);
        routed.histories.extend(histories);
        routed.reusable &= reusable;
    }
}
