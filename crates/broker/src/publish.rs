//! The one way in for messages, whatever protocol they come by.
//!
//! A session resolves a [`Route`] once per exchange and routing key and keeps it as long as its version is current. It
//! gathers what it reads from its socket into a [`Batch`] of publishes and settlements, which is applied in order: first
//! one append to the log for the whole batch, then the queues, each shard locked once for as long as the batch stays
//! with it, and last the connections that got something are woken, outside all locks.

mod apply;

use std::sync::Arc;

use crate::{
    limits,
    log::{Durability, Position},
    message::{Draft, Message, MessageView, Origin},
    queue::{ConsumerId, Settlement},
    record::State,
    session::Millis,
    topology::{History, QueueInfo, QueueType},
    traffic::ExchangeTraffic,
    value::Name,
};

/// Where messages with a certain exchange and routing key go.
#[derive(Debug)]
pub struct Route {
    /// The exchange.
    pub exchange: Name,
    /// The vhost's version for which this holds.
    pub version: u64,
    /// Whether it may be used again for the same exchange and routing key.
    pub reusable: bool,
    /// The queues, each once.
    pub queues: Vec<Arc<QueueInfo>>,
    /// Whether one of them may refuse messages.
    pub limited: bool,
    /// Whether one of them is a stream.
    pub streams: bool,
    /// What is to be told of messages on it, if anybody follows them.
    pub(crate) traced: Option<Followed>,
    /// Milliseconds that a message waits before it gets there.
    pub delay_ms: Option<u64>,
    /// Where messages are to be remembered for bindings to come.
    pub histories: Vec<Arc<History>>,
    /// Where what goes through the exchange is counted, if clients publish to it.
    pub(crate) traffic: Option<Arc<ExchangeTraffic>>,
    /// Whether one of them keeps messages on disk, and wants them to survive a power failure.
    sync: bool,
    /// By which the log knows the queues that keep durable messages without priorities; nothing if it is not as simple.
    plain: Option<Vec<u64>>,
}

/// What is told of messages that somebody follows.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    /// The vhost.
    pub vhost: Name,
    /// Who publishes them.
    pub user: Name,
    /// Whether all of them are copied to the vhost's exchange for traces.
    pub copied: bool,
}

/// A message as a session hands it over: borrowed from the read buffer, or assembled already.
#[derive(Debug)]
pub enum Body<'a> {
    /// In the read buffer.
    Borrowed {
        /// The routing key.
        routing_key: &'a str,
        /// Which protocol wrote the properties.
        origin: Origin,
        /// Whether it is to survive a restart.
        durable: bool,
        /// Its priority, if it has one.
        priority: Option<u8>,
        /// Milliseconds that it may wait, if the publisher limits that.
        ttl_ms: Option<u64>,
        /// The property bytes.
        properties: &'a [u8],
        /// The body.
        payload: &'a [u8],
    },
    /// A message of its own.
    Owned(Arc<Message>),
}

#[derive(Debug)]
enum Operation<'a> {
    Publish(Publish<'a>),
    Settle(Settle),
    /// Key and value for the state table; without a value it is removed.
    Note(Vec<u8>, Option<Vec<u8>>),
}

#[derive(Debug)]
struct Publish<'a> {
    route: Arc<Route>,
    body: Body<'a>,
    token: u64,
    /// The queue that it leaves for the others, and its record there.
    from: Option<(u64, [u64; 1])>,
    /// Whether the queues that may refuse it have been asked.
    is_admitted: bool,
    /// Whether nobody publishes it: it comes from a queue.
    is_moved: bool,
    /// Whether one of them did.
    is_refused: bool,
    first: Position,
    last: Position,
}

#[derive(Debug)]
struct Settle {
    queue: Arc<QueueInfo>,
    how: Settlement,
    consumer: Option<ConsumerId>,
    slots: Vec<u64>,
    /// By which the log knows who holds the records.
    holder: u64,
    records: Vec<u64>,
    dead_letters: bool,
    /// Why nobody can digest them.
    cause: Option<Arc<str>>,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// What the session calls it.
    pub token: u64,
    /// It is safe once this is committed.
    pub position: Position,
    /// Whether a queue had no room for it.
    pub is_refused: bool,
}

/// What one connection wants done, in order.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    operations: Vec<Operation<'a>>,
    /// Whether somebody is told when all of it is safe, settlements too.
    transaction: bool,
    /// Whether some route has to be asked before anything is logged.
    limited: bool,
    /// Whether some route leads to a stream.
    streams: bool,
    /// Whether whoever sent it does nothing else until it is safe.
    alone: bool,
}

impl<'a> Batch<'a> {
    /// An empty batch whose settlements somebody will be told of, once they are safe.
    pub fn transaction() -> Self {
        Self { transaction: true, ..Self::default() }
    }

    /// Says that whoever has sent what is in it has sent nothing else. If that is a transaction, or one message that is to be
    /// answered, then to be safe soon is all that matters. The caller holds no lock.
    pub fn is_all(&mut self) {
        let is_answered =
            |operation: &Operation<'_>| matches!(operation, Operation::Publish(publish) if publish.token != 0);
        // A note may go with a message.
        self.alone = self.transaction || self.operations.len() <= 2 && self.operations.iter().any(is_answered);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Operations in it.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Adds a publish. `token` comes back from [`Batch::published`].
    pub fn publish(&mut self, route: Arc<Route>, body: Body<'a>, token: u64) {
        self.limited |= route.limited || route.delay_ms.is_some();
        self.streams |= route.streams;
        self.operations.push(Operation::Publish(Publish::new(route, body, token)));
    }

    /// Adds something for a protocol to keep, or to keep no longer. Whoever waits for the batch waits for it too.
    pub fn note(&mut self, origin: Origin, key: &[u8], value: Option<&[u8]>) {
        let value = value.map(|value| {
            let (key, value) = (key.to_vec(), value.to_vec());
            State::Note { origin, key, value }.value()
        });
        self.operations.push(Operation::Note(State::note_key(origin, key), value));
    }

    /// Adds a settlement. Those of one consumer that follow each other become one operation.
    pub fn settle(
        &mut self,
        queue: &Arc<QueueInfo>,
        consumer: Option<ConsumerId>,
        how: Settlement,
        slot: u64,
        record: Position,
    ) {
        let recorded = (record != Position(0)).then_some(record.0);
        let holder = queue.holder_of(slot);
        if let Some(Operation::Settle(last)) = self.operations.last_mut()
            && (last.holder, last.how, last.consumer) == (holder, how, consumer)
            && last.cause.is_none()
        {
            last.slots.push(slot);
            last.records.extend(recorded);
            return;
        }
        let dead_letters = match how {
            Settlement::Reject => queue.rules().dead_letter.is_some(),
            how => matches!(how, Settlement::Poison | Settlement::Expire),
        };
        let (slots, records) = (vec![slot], recorded.into_iter().collect());
        let queue = Arc::clone(queue);
        let cause = None;
        let settle = Settle { queue, how, consumer, slots, holder, records, dead_letters, cause };
        self.operations.push(Operation::Settle(settle));
    }

    /// Adds that a consumer cannot digest a message, for a reason that its dead letter tells as `x-last-death-cause`.
    pub fn poison(
        &mut self,
        queue: &Arc<QueueInfo>,
        consumer: Option<ConsumerId>,
        (slot, record): (u64, Position),
        cause: &Arc<str>,
    ) {
        let records = Some(record.0).filter(|record| *record != 0).into_iter().collect();
        let (holder, queue) = (queue.holder_of(slot), Arc::clone(queue));
        let (how, slots, dead_letters, cause) = (Settlement::Poison, vec![slot], true, Some(Arc::clone(cause)));
        let settle = Settle { queue, how, consumer, slots, holder, records, dead_letters, cause };
        self.operations.push(Operation::Settle(settle));
    }

    /// What is rejected and becomes dead letters: queues, and places in them.
    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = (&Arc<QueueInfo>, &[u64])> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Settle(settle) if settle.dead_letters => Some((&settle.queue, &*settle.slots)),
            _ => None,
        })
    }

    /// After [`crate::Broker::apply`]: what became of each publish, in order.
    pub fn published(&self) -> impl Iterator<Item = Published> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Publish(publish) if !publish.is_moved => {
                let Publish { token, last: position, is_refused, .. } = *publish;
                Some(Published { token, position, is_refused })
            }
            _ => None,
        })
    }
}

impl<'a> Publish<'a> {
    fn new(route: Arc<Route>, body: Body<'a>, token: u64) -> Self {
        let (first, last) = (Position(0), Position(0));
        Self { route, body, token, from: None, is_admitted: false, is_moved: false, is_refused: false, first, last }
    }

    fn view(&self, now: Millis) -> MessageView<'_> {
        self.route.view(&self.body, now)
    }

    fn draft(&self, now: Millis) -> Draft<'_> {
        match &self.body {
            Body::Borrowed { .. } => Draft::borrowed(self.view(now)),
            Body::Owned(message) => Draft::owned(message),
        }
    }
}

impl Route {
    /// A route to `queues`, which may name a queue more than once.
    pub(crate) fn new(exchange: Name, version: u64, reusable: bool, mut queues: Vec<Arc<QueueInfo>>) -> Self {
        if queues.len() > 1 {
            queues.sort_by_key(|queue| (queue.id.0 % limits::SHARDS as u64, queue.id));
            queues.dedup_by_key(|queue| queue.id);
        }
        let sync = queues.iter().any(|queue| queue.durable && queue.durability == Durability::Fsync);
        let mut limited = false;
        let mut plain = Some(Vec::new());
        for queue in &queues {
            let rules = queue.rules();
            limited |= rules.refuses();
            if rules.max_priority > 0 || queue.queue_type.is_always_durable() {
                plain = None;
            } else if queue.durable
                && let Some(plain) = &mut plain
            {
                plain.push(queue.id.0);
            }
        }
        let streams = queues.iter().any(|queue| queue.queue_type == QueueType::Stream);
        let (delay_ms, histories) = (None, Vec::new());
        let (traced, traffic) = (None, None);
        Self {
            exchange,
            version,
            reusable,
            queues,
            limited,
            streams,
            traced,
            delay_ms,
            histories,
            traffic,
            sync,
            plain,
        }
    }

    /// Whether anybody gets a message on it.
    pub fn is_wanted(&self) -> bool {
        !self.queues.is_empty() || !self.histories.is_empty()
    }

    /// Whether anything comes of a message on it.
    pub fn leads_somewhere(&self) -> bool {
        self.is_wanted() || self.traced.is_some()
    }

    /// Counts a message that leads nowhere, and is therefore in no batch.
    pub fn count_lost(&self) {
        if let Some(traffic) = &self.traffic {
            traffic.add(1, 0);
        }
    }

    /// A route to no queue.
    pub(crate) fn nowhere() -> Self {
        Self::new("".into(), 0, false, Vec::new())
    }

    /// The same route, where messages arrive only after so many milliseconds.
    pub(crate) fn delayed(self, delay_ms: u64) -> Self {
        Self { delay_ms: Some(delay_ms), ..self }
    }

    /// A route to one queue, whatever the bindings say.
    pub fn to(exchange: Name, queue: Arc<QueueInfo>) -> Self {
        Self::new(exchange, 0, false, vec![queue])
    }

    /// The same route, and one queue more.
    #[must_use]
    pub fn with(&self, queue: &Arc<QueueInfo>) -> Self {
        let queues = self.queues.iter().chain([queue]).cloned().collect();
        let (delay_ms, histories, traced) = (self.delay_ms, self.histories.clone(), self.traced.clone());
        let traffic = self.traffic.clone();
        Self { delay_ms, histories, traced, traffic, ..Self::new(self.exchange.clone(), self.version, false, queues) }
    }

    /// The same route, but for some queues.
    #[must_use]
    pub fn without(&self, refusing: &[Arc<QueueInfo>]) -> Self {
        let is_left = |queue: &&Arc<QueueInfo>| refusing.iter().all(|other| other.id != queue.id);
        let queues = self.queues.iter().filter(is_left).cloned().collect();
        let (delay_ms, histories, traffic) = (self.delay_ms, self.histories.clone(), self.traffic.clone());
        let (traced, reusable) = (self.traced.clone(), self.reusable);
        Self {
            delay_ms,
            histories,
            traffic,
            traced,
            ..Self::new(self.exchange.clone(), self.version, reusable, queues)
        }
    }

    /// A message on this route through references.
    pub fn view<'v>(&'v self, body: &'v Body<'_>, now: Millis) -> MessageView<'v> {
        match body {
            Body::Borrowed { routing_key, origin, durable, priority, ttl_ms, properties, payload } => MessageView {
                exchange: &self.exchange,
                routing_key,
                origin: *origin,
                durable: *durable,
                priority: *priority,
                arrived: now,
                due: self.delay_ms.or(*ttl_ms).map(|wait| now.plus(wait)),
                properties,
                annotations: &[],
                payload,
                block: None,
            },
            Body::Owned(message) => message.view(),
        }
    }

    /// Adds by which the log knows the queues that keep a message on disk, in the order of the route.
    fn put_holders(&self, message: &MessageView<'_>, holders: &mut Vec<u64>) {
        if let Some(plain) = &self.plain {
            if message.durable {
                holders.extend_from_slice(plain);
            }
            return;
        }
        for queue in self.queues.iter().filter(|queue| queue.keeps(message.durable)) {
            holders.push(queue.holder(queue.rules().priority(message.priority)));
        }
    }
}
