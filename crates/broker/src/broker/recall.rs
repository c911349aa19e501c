//! Topics that remember what was published, for consumers that ask for what was before they came.

use std::sync::Arc;

use super::{Broker, selectors::filter_of};
use crate::{
    message::Codecs,
    publish::{Batch, Body, Route},
    queue::Filter,
    selector::Selector,
    topology::{Destination, History, Keep, QueueInfo, TopicIndex},
    value::{Name, Value},
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
    /// Which of its messages; all without one.
    pub selector: Option<Selector>,
    /// Whether only those are that ask for it.
    pub retain: Option<Retain>,
}

/// How messages ask to be remembered.
#[derive(Clone, Debug)]
pub struct Retain {
    /// The header that is true in those that do. One of them without a body has its topic forgotten.
    pub asks: Name,
    /// The header that is true in what is remembered.
    pub tells: Name,
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
    pub(super) fn new(of: Remembered, codecs: &Codecs) -> Self {
        let mut topics = TopicIndex::default();
        topics.insert(&of.key, Destination::Exchange(of.exchange.clone()));
        let filter = of.selector.clone().map(|selector| filter_of(selector, codecs.clone()));
        let retains = of.retain.clone().map(|Retain { asks, tells }| (is_true(asks, codecs.clone()), tells));
        let history = Arc::new(History::by_key(of.keep).selecting(filter, retains));
        Self { of, topics, history }
    }

    fn is_of(&self, vhost: &str, exchange: &str) -> bool {
        *self.of.vhost == *vhost && *self.of.exchange == *exchange
    }
}

/// A filter for messages with a header that is true, or says so.
fn is_true(header: Name, codecs: Codecs) -> Filter {
    Filter::new(move |message| {
        let headers = codecs.of(message.origin).map(|codec| codec.headers(message.properties));
        match headers.as_ref().and_then(|headers| headers.get(&header)) {
            Some(Value::Bool(value)) => *value,
            Some(value) => value.as_text().is_some_and(|text| text.eq_ignore_ascii_case("true")),
            None => false,
        }
    })
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
