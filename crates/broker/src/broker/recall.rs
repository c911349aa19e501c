//! Topics that remember what was published, for consumers that ask for what was before they came.

use std::sync::Arc;

use super::Broker;
use crate::{
    publish::{Batch, Body, Route},
    queue::Filter,
    topology::{Destination, History, Keep, QueueInfo, TopicIndex},
    value::Name,
};

/// Which messages of a topic exchange are remembered.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The vhost.
    pub vhost: Name,
    /// The exchange.
    pub exchange: Name,
    /// A binding key that matches the topics.
    pub key: Name,
    /// How much of each topic is kept.
    pub keep: Keep,
}

/// What is remembered of some topics.
#[derive(Debug)]
pub(super) struct Memory {
    of: Remembered,
    topics: TopicIndex,
    history: Arc<History>,
}

/// How far a queue has been given what is remembered.
#[derive(Debug, Default)]
pub struct RecalledTo(Vec<u64>);

impl Memory {
    pub(super) fn new(of: Remembered) -> Self {
        let mut topics = TopicIndex::default();
        topics.insert(&of.key, Destination::Exchange(of.exchange.clone()));
        let history = Arc::new(History::by_key(of.keep));
        Self { of, topics, history }
    }

    fn is_of(&self, vhost: &str, exchange: &str) -> bool {
        *self.of.vhost == *vhost && *self.of.exchange == *exchange
    }
}

fn is_match(topics: &TopicIndex, key: &str) -> bool {
    let mut matches = false;
    topics.matches(key, |_| matches = true);
    matches
}

impl Broker {
    /// Where messages of a topic are remembered.
    pub(super) fn memories(&self, vhost: &str, exchange: &str, key: &str) -> Vec<Arc<History>> {
        let of = self.memories.iter().filter(|memory| memory.is_of(vhost, exchange) && is_match(&memory.topics, key));
        of.map(|memory| Arc::clone(&memory.history)).collect()
    }

    /// Gives a queue what is remembered of topics that a binding key matches, if the filter lets it through. What came to
    /// it in an earlier call of these does not come again.
    pub fn recall(
        &self,
        queue: &Arc<QueueInfo>,
        (exchange, key): (&str, &str),
        filter: Option<&Filter>,
        to: &mut RecalledTo,
    ) {
        let mut wanted = TopicIndex::default();
        wanted.insert(key, Destination::Queue(queue.id));
        let mut batch = Batch::default();
        to.0.resize(self.memories.len(), 0);
        for (memory, number) in self.memories.iter().zip(&mut to.0) {
            if !memory.is_of(&queue.vhost, exchange) {
                continue;
            }
            let (messages, next) = memory.history.messages_from(*number, self.now());
            *number = next;
            let is_wanted = |message: &Arc<crate::Message>| {
                let view = message.view();
                is_match(&wanted, view.routing_key) && filter.is_none_or(|filter| filter.passes(&view))
            };
            for message in messages.into_iter().filter(is_wanted) {
                let route = Route::to(exchange.into(), Arc::clone(queue));
                batch.publish(Arc::new(route), Body::Owned(message), 0);
            }
        }
        if !batch.is_empty() {
            self.apply(&mut batch);
        }
    }
}
