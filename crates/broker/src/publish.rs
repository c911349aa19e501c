//! The one way in for messages, whatever protocol they come by.
//!
//! A session resolves a [`Route`] once per exchange and routing key and keeps it as long as its version is current. It
//! gathers what it reads from its socket into a [`Batch`] of publishes and settlements, which is applied in order: first
//! one append to the log for the whole batch, then the queues, each shard locked once for as long as the batch stays
//! with it, and last the connections that got something are woken, outside all locks.

use std::{sync::Arc, task::Waker};

use parking_lot::MutexGuard;

use crate::{
    broker::Broker,
    limits,
    log::{Durability, Entry, Position},
    message::{Draft, Message, MessageView, Origin},
    outlet::Delivery,
    queue::{Aftermath, ConsumerId, Settlement, Shard},
    record,
    topology::{History, QueueId, QueueInfo, QueueKind},
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
    /// Ids of the durable ones.
    pub durable: Vec<u64>,
    /// Whether one of these wants its messages to survive a power failure.
    pub sync: bool,
    /// Where messages are to be remembered for bindings to come.
    pub histories: Vec<Arc<History>>,
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
    Publish { route: Arc<Route>, body: Body<'a>, token: u64, position: Position, last: Position },
    Settle { queue: Arc<QueueInfo>, how: Settlement, consumer: Option<ConsumerId>, slots: Vec<u64>, records: Vec<u64> },
}

/// What one connection wants done, in order.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    operations: Vec<Operation<'a>>,
    /// Whether somebody is told when all of it is safe, settlements too.
    transaction: bool,
}

impl<'a> Batch<'a> {
    /// An empty batch whose settlements somebody will be told of, once they are safe.
    pub fn transaction() -> Self {
        Self { transaction: true, ..Self::default() }
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
        let (position, last) = (Position(0), Position(0));
        self.operations.push(Operation::Publish { route, body, token, position, last });
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
        if let Some(Operation::Settle { queue: q, how: h, consumer: c, slots, records }) = self.operations.last_mut()
            && (q.id, *h, *c) == (queue.id, how, consumer)
        {
            slots.push(slot);
            records.extend(recorded);
            return;
        }
        let (slots, records) = (vec![slot], recorded.into_iter().collect());
        self.operations.push(Operation::Settle { queue: Arc::clone(queue), how, consumer, slots, records });
    }

    /// After [`Broker::apply`]: the token of each publish, in order, and the position at which it is safe.
    pub fn published(&self) -> impl Iterator<Item = (u64, Position)> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Publish { token, last, .. } => Some((*token, *last)),
            Operation::Settle { .. } => None,
        })
    }
}

impl Route {
    /// Has a message that takes this route remembered by the exchanges that do so. It is copied if it is borrowed.
    pub fn remember(&self, body: &Body<'_>) {
        if self.histories.is_empty() {
            return;
        }
        let message = match body {
            Body::Owned(message) => Arc::clone(message),
            Body::Borrowed { .. } => Arc::new(Message::copy_of(&self.view(body))),
        };
        self.histories.iter().for_each(|history| history.remember(Arc::clone(&message)));
    }

    /// A message on this route through references.
    pub fn view<'v>(&'v self, body: &'v Body<'_>) -> MessageView<'v> {
        match body {
            Body::Borrowed { routing_key, origin, durable, properties, payload } => MessageView {
                exchange: &self.exchange,
                routing_key,
                origin: *origin,
                durable: *durable,
                properties,
                payload,
                block: None,
            },
            Body::Owned(message) => message.view(),
        }
    }

    fn draft<'v>(&'v self, body: &'v Body<'_>) -> Draft<'v> {
        match body {
            Body::Borrowed { .. } => Draft::borrowed(self.view(body)),
            Body::Owned(message) => Draft::owned(message),
        }
    }
}

/// What applying a batch came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Where the last entry of the batch lies; all of it is safe once this is committed.
    pub position: Position,
    /// Whether the queues' consumers cannot keep up.
    pub lagging: bool,
}

/// The shard that a batch is at work in. Moving on to another lets go of it.
struct Held<'b> {
    broker: &'b Broker,
    current: Option<(usize, MutexGuard<'b, Shard>)>,
}

impl Held<'_> {
    fn shard(&mut self, queue: QueueId) -> &mut Shard {
        let index = self.broker.shard_index(queue);
        if self.current.as_ref().is_none_or(|(held, _)| *held != index) {
            self.current = None;
        }
        let broker = self.broker;
        &mut self.current.get_or_insert_with(|| (index, broker.shards[index].lock())).1
    }
}

impl Broker {
    /// Applies a batch: all of it goes into the log as one unit, then to the queues.
    pub fn apply(&self, batch: &mut Batch<'_>) -> Applied {
        let position = self.append_batch(batch);
        let mut after = self.aftermath();
        let mut held = Held { broker: self, current: None };
        for operation in &batch.operations {
            match operation {
                Operation::Publish { route, body, position, .. } => {
                    self.enqueue(route, body, *position, &mut held, &mut after);
                }
                Operation::Settle { queue, how, consumer, slots, .. } => {
                    held.shard(queue.id).settle(queue, slots, *how, *consumer, &mut after);
                }
            }
        }
        drop(held);
        let lagging = after.lagging;
        self.finish(after);
        Applied { position, lagging }
    }

    fn enqueue(&self, route: &Route, body: &Body<'_>, record: Position, held: &mut Held<'_>, after: &mut Aftermath) {
        let mut draft = route.draft(body);
        // Each durable queue has a record of its own, in the order of the route.
        let mut next = record.0;
        for queue in &route.queues {
            match &queue.kind {
                QueueKind::Queue => {
                    let mut record = Position(0);
                    if queue.durable && next != 0 {
                        record = Position(next);
                        next += 1;
                    }
                    match held.shard(queue.id).queue(queue) {
                        Some(queue) => queue.publish(&mut draft, record, after),
                        // Deleted since the route was made: what the log was told must be taken back.
                        None if record != Position(0) => after.releases.push((record, queue.id)),
                        None => {}
                    }
                }
                QueueKind::Direct(outlet, consumer) => {
                    let delivery = Delivery {
                        consumer: *consumer,
                        queue: None,
                        slot: 0,
                        record: Position(0),
                        redelivered: false,
                        counted: false,
                        message: draft.view(),
                    };
                    outlet.deliver(&delivery, &mut after.wakes);
                }
            }
        }
    }

    /// Writes to the log what of the batch must survive, and notes where each publish lies.
    fn append_batch(&self, batch: &mut Batch<'_>) -> Position {
        let mut heads = Vec::new();
        let mut ends = Vec::new();
        for operation in &batch.operations {
            if let Operation::Publish { route, body, .. } = operation
                && is_durable(route, body)
            {
                record::put_message_head(&mut heads, &route.view(body));
                ends.push(heads.len());
            }
        }
        let (mut entries, mut sync) = (Vec::new(), false);
        let (mut start, mut ends) = (0, ends.into_iter());
        for operation in &batch.operations {
            match operation {
                Operation::Publish { route, body, .. } if is_durable(route, body) => {
                    let end = ends.next().unwrap_or(start);
                    let payload = route.view(body).payload;
                    entries.push(Entry::Hold { holders: &route.durable, parts: [&heads[start..end], payload] });
                    start = end;
                    sync |= route.sync;
                }
                Operation::Settle { queue, how: Settlement::Accept | Settlement::Reject, records, .. }
                    if !records.is_empty() =>
                {
                    entries.push(Entry::Release { holder: queue.id.0, positions: records });
                    sync |= batch.transaction;
                }
                Operation::Publish { .. } | Operation::Settle { .. } => {}
            }
        }
        if entries.is_empty() {
            return Position(0);
        }
        let durability = if sync { Durability::Fsync } else { Durability::Os };
        let mut next = self.log.append(&entries, durability).0;
        let mut holds = Vec::with_capacity(entries.len());
        for entry in &entries {
            if let Entry::Hold { .. } = entry {
                holds.push((next, next + entry.positions() - 1));
            }
            next += entry.positions();
        }
        drop(entries);
        note_positions(batch, holds);
        Position(next - 1)
    }

    /// What is done once no shard is locked.
    pub(crate) fn finish(&self, after: Aftermath) {
        if !after.late.is_empty() {
            self.log_late(after.late);
        }
        self.log_releases(&after.releases);
        after.loads.into_iter().for_each(|load| self.log.load(load));
        after.wakes.into_iter().for_each(Waker::wake);
    }
}

fn is_durable(route: &Route, body: &Body<'_>) -> bool {
    !route.durable.is_empty()
        && match body {
            Body::Borrowed { durable, .. } => *durable,
            Body::Owned(message) => message.view().durable,
        }
}

/// Notes the first and the last position of each publish that is in the log.
fn note_positions(batch: &mut Batch<'_>, holds: Vec<(u64, u64)>) {
    let mut holds = holds.into_iter();
    for operation in &mut batch.operations {
        if let Operation::Publish { route, body, position, last, .. } = operation
            && is_durable(route, body)
            && let Some((first_position, last_position)) = holds.next()
        {
            *position = Position(first_position);
            *last = Position(last_position);
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
        let durable = queues.iter().filter(|queue| queue.durable);
        let sync = durable.clone().any(|queue| queue.durability == Durability::Fsync);
        let durable = durable.map(|queue| queue.id.0).collect();
        Self { exchange, version, reusable, queues, durable, sync, histories: Vec::new() }
    }
}
