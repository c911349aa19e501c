//! Where messages go, and whether a caller may send them there.

use std::sync::atomic::Ordering;

use super::{Broker, Caller};
use crate::{
    identity::Access,
    publish::Route,
    refusal::Refusal,
    topology::{ExchangeKind, Facts, mix},
};

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
        let random = mix((self.settings.seed as u64).wrapping_add(self.routes.fetch_add(1, Ordering::Relaxed)));
        let routed = state.route(exchange, keys, facts, random);
        let mut route = Route::new(exchange.into(), version, routed.reusable && keys.len() == 1, routed.queues);
        route.histories = routed.histories;
        Ok(route)
    }
}
