//! Subscriptions to patterns of queues, as ActiveMQ has them, which get those that are made later, too.

use std::{sync::Arc, task::Waker};

use broker::{QueueInfo, Refusal, Watch, broker::Caller, pattern::is_pattern};

use super::{StompConnection, subscribe::Wanted};
use crate::{destination::Destination, mapping::Problem, wire::Frame};

/// What it takes to put a subscription on one more queue.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) wanted: Wanted,
    pub(super) watches: Vec<Arc<Watch>>,
}

impl StompConnection {
    /// The pattern that a destination is to a client that speaks as ActiveMQ's do. To RabbitMQ's it is a name.
    pub(super) fn pattern_of<'a>(&self, frame: &Frame<'_>, destination: &'a Destination) -> Option<&'a str> {
        let Destination::Queue(name) = destination else { return None };
        let is_dialect =
            self.client_id.is_some() || frame.headers.iter().any(|(header, _)| header.starts_with("activemq."));
        Some(name.as_str()).filter(|name| is_dialect && is_pattern(name))
    }

    /// The queues of a pattern that are there.
    pub(super) fn queues_of(&self, caller: &Caller, pattern: &str) -> Result<Vec<Arc<QueueInfo>>, Problem> {
        let mut queues = Vec::new();
        for name in self.broker.queues_of_pattern(caller, pattern) {
            match self.broker.queue(caller, &name) {
                Ok(queue) => queues.push(queue),
                // It has gone meanwhile.
                Err(Refusal::NotFound(_)) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Ok(queues)
    }

    /// Puts subscriptions to patterns on queues that have been made, but for those that may not be read.
    pub(super) fn poll_patterns(&mut self, waker: &Waker) {
        let Some(caller) = self.caller.clone() else { return };
        let mut joined = Vec::new();
        for subscription in self.subscriptions.values() {
            let Some(pattern) = &subscription.pattern else { continue };
            // Nothing comes before the receipt.
            if self.responses.iter().any(|response| response.then == Some(subscription.number)) {
                continue;
            }
            for queue in pattern.watches.iter().flat_map(|watch| watch.take(waker)) {
                if let Ok(Some(source)) = self.attach(&caller, subscription.number, &pattern.wanted, &queue, true) {
                    joined.push(source);
                }
            }
        }
        joined.into_iter().for_each(|source| self.resume_source(source));
    }
}
