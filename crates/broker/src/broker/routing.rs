//! Where messages go, and whether a caller may send them there.

use std::sync::Arc;

use super::{Broker, Caller};
use crate::{
    identity::Access,
    message::MessageView,
    publish::Route,
    refusal::Refusal,
    topology::{ExchangeKind, QueueInfo, VhostState},
    value::Table,
};

impl Broker {
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
        if let Some(route) = self.delayed_route(caller, exchange, version, headers) {
            return Ok(route);
        }
        let mut queues = Vec::new();
        let mut reusable = keys.len() == 1;
        for key in keys {
            reusable &= state.route(exchange, key, headers, &mut queues);
        }
        Ok(Route::new(exchange.into(), version, reusable, queues))
    }

    /// Adds the queues that a message leads to that is no client's any more.
    pub(super) fn route_in(
        &self,
        state: &VhostState,
        exchange: &str,
        key: &str,
        _message: &MessageView<'_>,
        headers: &Table,
        queues: &mut Vec<Arc<QueueInfo>>,
    ) {
        state.route(exchange, key, &|| headers.clone(), queues);
    }

    /// The way into a delay exchange's own queue, for a message that asks for a delay.
    fn delayed_route(
        &self,
        caller: &Caller,
        exchange: &str,
        version: u64,
        headers: &dyn Fn() -> Table,
    ) -> Option<Route> {
        let queue = self.delay_queue(caller.vhost.name(), exchange)?;
        let delay = super::delays::delay_of(&headers())?;
        Some(Route::new(exchange.into(), version, false, vec![queue]).delayed(delay))
    }
}
