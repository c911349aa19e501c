//! Applying a batch: who has room, the log, the queues, and what is done once no lock is held.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use parking_lot::MutexGuard;

use super::{Batch, Body, Followed, Operation, Publish, Route, Settle};
use crate::{
    broker::{Broker, has_trace_context},
    log::{Durability, Entry, Position},
    message::{Message, MessageView},
    outlet::{Attempts, ConsumerKey, Delivery},
    queue::{Aftermath, Departure, Reason, SegmentChange, Settlement, Settling, Shard, Traced},
    record::{self, State},
    rules::Overflow,
    topology::{QueueId, QueueInfo, QueueKind},
    traffic::ExchangeTraffic,
};

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

impl<'b> Held<'b> {
    fn none(broker: &'b Broker) -> Self {
        Self { broker, current: None }
    }

    fn shard(&mut self, queue: QueueId) -> &mut Shard {
        let index = self.broker.shard_index(queue);
        if self.current.as_ref().is_none_or(|(held, _)| *held != index) {
            self.current = None;
        }
        let broker = self.broker;
        &mut self.current.get_or_insert_with(|| (index, broker.shards[index].lock())).1
    }
}

/// Messages through one exchange that follow each other: their counter is shared, and costs something to reach.
#[derive(Default)]
struct Tally<'b> {
    traffic: Option<&'b ExchangeTraffic>,
    came: u64,
    went: u64,
}

impl<'b> Tally<'b> {
    fn add(&mut self, route: &'b Route) {
        let traffic = route.traffic.as_deref();
        if !self.traffic.is_some_and(|last| traffic.is_some_and(|next| std::ptr::eq(last, next))) {
            self.settle();
            self.traffic = traffic;
        }
        self.came += 1;
        self.went += route.queues.len() as u64;
    }

    fn settle(&mut self) {
        let (came, went) = (std::mem::take(&mut self.came), std::mem::take(&mut self.went));
        if let Some(traffic) = self.traffic {
            traffic.add(came, went);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

/// The entry of a publish, in parts that are gathered before entries can refer to them.
struct Piece {
    head: Range<usize>,
    holders: Range<usize>,
}

impl Broker {
    /// Applies a batch: all of it goes into the log as one unit, then to the queues.
    pub fn apply(&self, batch: &mut Batch<'_>) -> Applied {
        let mut after = self.aftermath();
        let position = self.apply_to(batch, &mut after);
        let lagging = after.lagging;
        self.finish(after);
        if batch.alone {
            self.log.commit_alone();
        }
        Applied { position, lagging }
    }

    /// Applies a batch, and leaves what is to be done without locks.
    pub(crate) fn apply_to(&self, batch: &mut Batch<'_>, after: &mut Aftermath) -> Position {
        if batch.transaction {
            self.join_rejected(batch, after);
        }
        if batch.limited {
            self.admit_all(batch, after);
        }
        let _order = batch.streams.then(|| self.stream_order.lock());
        let position = self.append_batch(batch, after);
        let (mut held, mut tally) = (Held::none(self), Tally::default());
        for operation in &batch.operations {
            match operation {
                Operation::Publish(publish) => {
                    tally.add(&publish.route);
                    self.enqueue(publish, &mut held, after);
                }
                Operation::Settle(settle) => {
                    let Settle { queue, how, consumer, slots, dead_letters, cause, .. } = settle;
                    let (how, dead_letters, consumer) = (*how, *dead_letters, *consumer);
                    let cause = cause.as_ref();
                    let settling = Settling { slots, how, dead_letters, consumer, cause };
                    held.shard(queue.id).settle(queue, &settling, after);
                }
                Operation::Note(..) => {}
            }
        }
        position
    }

    /// Asks the queues that may refuse messages, before the log has them.
    fn admit_all(&self, batch: &mut Batch<'_>, after: &mut Aftermath) {
        for operation in &mut batch.operations {
            if let Operation::Publish(publish) = operation
                && !publish.is_admitted
            {
                self.admit(publish, after);
            }
        }
    }

    pub(super) fn admit(&self, publish: &mut Publish<'_>, after: &mut Aftermath) {
        publish.is_admitted = true;
        if let (Body::Owned(message), Some(delay)) = (&mut publish.body, publish.route.delay_ms) {
            *message = Arc::new(message.timed(after.now, Some(after.now.plus(delay))));
        }
        if !publish.route.limited {
            return;
        }
        let bytes = publish.view(after.now).payload.len() as u64;
        let mut refusing: Vec<Arc<QueueInfo>> = Vec::new();
        for queue in &publish.route.queues {
            let mut shard = self.shards[self.shard_index(queue.id)].lock();
            if shard.with(queue, |queue| queue.admit(bytes)) == Some(false) {
                refusing.push(Arc::clone(queue));
            }
        }
        for queue in &refusing {
            if queue.rules().overflow == Overflow::RejectPublishDeadLetter {
                let message = publish.draft(after.now).share();
                let (queue, record, reason) = (Arc::clone(queue), Position(0), Reason::MaxLength);
                after.departures.push(Departure {
                    queue,
                    message,
                    record,
                    priority: 0,
                    reason,
                    cause: None,
                    goes_on: true,
                });
            }
        }
        if !refusing.is_empty() {
            publish.is_refused = true;
            publish.route = Arc::new(publish.route.without(&refusing));
        }
    }

    fn enqueue(&self, publish: &Publish<'_>, held: &mut Held<'_>, after: &mut Aftermath) {
        let mut draft = publish.draft(after.now);
        let (durable, bytes) = (draft.view().durable, draft.view().payload.len() as u64);
        // Each queue that keeps the message has a record of its own, in the order of the route.
        let mut next = publish.first.0;
        if let Some(Followed { vhost, user, copied }) = publish.route.traced.clone()
            && (copied || has_trace_context(draft.view()))
        {
            let queues = publish.route.queues.iter().map(|queue| queue.name.clone()).collect();
            after.traces.push(Traced::Published { vhost, user, message: draft.share(), queues });
        }
        publish.route.histories.iter().for_each(|history| history.remember(draft.share()));
        for queue in &publish.route.queues {
            if let QueueKind::Direct(outlet, consumer) = &queue.kind {
                outlet.deliver(&past_queues(*consumer, draft.view()), &mut after.wakes);
                continue;
            }
            if let (Some(past), false) = (&queue.past, durable) {
                if let Some((outlet, consumer)) = &*past.read() {
                    outlet.deliver(&past_queues(*consumer, draft.view()), &mut after.wakes);
                }
                continue;
            }
            let mut record = Position(0);
            if next != 0 && queue.keeps(durable) {
                record = Position(next);
                next += 1;
            }
            let taken = held.shard(queue.id).with(queue, |queue| {
                if publish.route.limited {
                    queue.admitted(bytes);
                }
                queue.publish(&mut draft, record, after);
            });
            // Deleted since the route was made: what the log was told must be taken back.
            if taken.is_none() && record != Position(0) {
                let priority = queue.rules().priority(draft.view().priority);
                after.releases.push((record, queue.holder(priority)));
            }
        }
    }

    /// Writes to the log what of the batch must survive, and notes where each publish lies.
    fn append_batch(&self, batch: &mut Batch<'_>, after: &Aftermath) -> Position {
        let (mut heads, mut holders, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        let mut timed = Vec::new();
        for operation in &batch.operations {
            let Operation::Publish(publish) = operation else { continue };
            let message = publish.view(after.now);
            let (head, first) = (heads.len(), holders.len());
            publish.route.put_holders(&message, &mut holders);
            if holders.len() > first {
                record::put_message_head(&mut heads, &message);
                if message.due.is_some() {
                    note_timed(&publish.route.queues, &mut timed);
                }
            }
            pieces.push(Piece { head: head..heads.len(), holders: first..holders.len() });
        }
        let states = timed.iter().map(|queue| State::Timed(queue.id));
        let states: Vec<_> = states.map(|state| (state.key(), state.value())).collect();
        let mut entries: Vec<_> = states.iter().map(|(key, value)| Entry::Put { key, value }).collect();
        let (mut sync, mut pieces) = (!entries.is_empty(), pieces.into_iter());
        for operation in &batch.operations {
            match operation {
                Operation::Publish(publish) => {
                    let Some(piece) = pieces.next() else { continue };
                    if !piece.holders.is_empty() {
                        let parts = [&heads[piece.head], publish.view(after.now).payload];
                        entries.push(Entry::Hold { holders: &holders[piece.holders], parts });
                        // Who moves from queue to queue is in the one or the other, whatever happens.
                        sync |= publish.route.sync && publish.from.is_none();
                    }
                    if let Some((holder, positions)) = &publish.from {
                        sync |= batch.transaction;
                        entries.push(Entry::Release { holder: *holder, positions });
                    }
                }
                Operation::Settle(settle) if settle.is_final() && !settle.records.is_empty() => {
                    entries.push(Entry::Release { holder: settle.holder, positions: &settle.records });
                    sync |= batch.transaction;
                }
                Operation::Settle(_) => {}
                Operation::Note(key, value) => {
                    sync = true;
                    entries.push(match value {
                        Some(value) => Entry::Put { key, value },
                        None => Entry::Remove { key },
                    });
                }
            }
        }
        batch.alone &= sync;
        if entries.is_empty() {
            return Position(0);
        }
        let durability = if sync { Durability::Fsync } else { Durability::Os };
        let append = || self.log.append(&entries, durability);
        let mut next = if batch.alone { self.log.append_alone(&entries) } else { append() }.0;
        // Only now: nobody else may rely on what the log does not have yet.
        timed.iter().for_each(|queue| queue.is_timed.store(true, Ordering::Relaxed));
        let mut holds = Vec::with_capacity(entries.len());
        for entry in &entries {
            if let Entry::Hold { .. } = entry {
                holds.push((next, next + entry.positions() - 1));
            }
            next += entry.positions();
        }
        drop(entries);
        note_positions(batch, holds, after);
        Position(next - 1)
    }

    /// What is done once no shard is locked.
    pub(crate) fn finish(&self, mut after: Aftermath) {
        self.count_departed(&after.departed);
        loop {
            self.log_late(std::mem::take(&mut after.late));
            self.log_releases(&std::mem::take(&mut after.releases));
            std::mem::take(&mut after.loads).into_iter().for_each(|load| self.log.load(load));
            std::mem::take(&mut after.wakes).into_iter().for_each(Waker::wake);
            self.note_segments(std::mem::take(&mut after.segments));
            self.note_attempts(&std::mem::take(&mut after.attempts));
            self.wait_for_commit(std::mem::take(&mut after.uncommitted));
            std::mem::take(&mut after.unused).iter().for_each(|queue| self.remove_unused(queue));
            let (departures, traces) = (std::mem::take(&mut after.departures), std::mem::take(&mut after.traces));
            let happened = std::mem::take(&mut after.happened);
            if departures.is_empty() && traces.is_empty() && happened.is_empty() {
                break;
            }
            self.send_on(departures, &mut after);
            self.publish_traces(traces, &mut after);
            self.tell_witness(happened, &mut after);
        }
        self.alarm.ring();
    }
}

impl Broker {
    /// Has the timer look after streams whose readers wait for the log to commit.
    fn wait_for_commit(&self, streams: Vec<Arc<QueueInfo>>) {
        if streams.is_empty() {
            return;
        }
        let mut waiting = self.uncommitted.lock();
        for stream in streams {
            if waiting.iter().all(|other| other.id != stream.id) {
                waiting.push(stream);
            }
        }
        drop(waiting);
        self.alarm.set(self.now());
    }

    /// Writes down how often messages came back.
    fn note_attempts(&self, attempted: &[(Arc<QueueInfo>, Position, Option<Attempts>)]) {
        let states = attempted.iter().filter(|(queue, record, _)| queue.durable && *record != Position(0));
        let pairs: Vec<_> = states
            .map(|(queue, record, attempts)| {
                let (id, record) = (queue.id, record.0);
                let value = attempts.map(|attempts| State::Attempts { id, record, attempts }.value());
                (State::attempts_key(id, record), value)
            })
            .collect();
        let mut entries = Vec::with_capacity(pairs.len());
        for (key, value) in &pairs {
            entries.push(match value {
                Some(value) => Entry::Put { key, value },
                None => Entry::Remove { key },
            });
        }
        if !entries.is_empty() {
            self.log.append(&entries, Durability::Os);
        }
    }

    /// Writes down which segments streams have.
    fn note_segments(&self, changes: Vec<SegmentChange>) {
        for change in changes {
            match change {
                SegmentChange::Begun { queue, offset, segment, before } => {
                    let id = queue.id;
                    let mut states = vec![State::Segment { id, offset, segment }];
                    states.extend(before.map(|(offset, segment)| State::Segment { id, offset, segment }));
                    let pairs: Vec<_> = states.iter().map(|state| (state.key(), state.value())).collect();
                    let entries: Vec<_> = pairs.iter().map(|(key, value)| Entry::Put { key, value }).collect();
                    self.log.append(&entries, Durability::Os);
                }
                SegmentChange::Gone { queue, before, offsets } => {
                    let (holder, from, before) = (queue.holder(0), 0, before.0);
                    let mut entries = vec![Entry::Drop { holder, from, before, except: &[] }];
                    let keys: Vec<_> = offsets.iter().map(|offset| State::segment_key(queue.id, *offset)).collect();
                    entries.extend(keys.iter().map(|key| Entry::Remove { key }));
                    self.log.append(&entries, Durability::Os);
                }
            }
        }
    }
}

impl Settle {
    /// Whether the queue lets go of the messages with this.
    fn is_final(&self) -> bool {
        matches!(self.how, Settlement::Accept | Settlement::Reject | Settlement::Poison | Settlement::Expire)
            && !self.dead_letters
    }
}

/// The delivery of a message that is in no queue.
fn past_queues<'a>(consumer: ConsumerKey, message: &'a MessageView<'a>) -> Delivery<'a> {
    Delivery {
        consumer,
        queue: None,
        slot: 0,
        record: Position(0),
        redelivered: false,
        failures: 0,
        counted: false,
        attempts: Attempts::default(),
        offset: None,
        is_first_of_group: false,
        message,
    }
}

/// Notes which queues get their first message with a time of its own.
fn note_timed(queues: &[Arc<QueueInfo>], timed: &mut Vec<Arc<QueueInfo>>) {
    for queue in queues {
        let is_known = || queue.is_timed.load(Ordering::Relaxed) || timed.iter().any(|known| known.id == queue.id);
        if queue.durable && !is_known() {
            timed.push(Arc::clone(queue));
        }
    }
}

/// Notes the first and the last position of each publish that is in the log.
fn note_positions(batch: &mut Batch<'_>, holds: Vec<(u64, u64)>, after: &Aftermath) {
    let mut holds = holds.into_iter();
    let mut holders = Vec::new();
    for operation in &mut batch.operations {
        let Operation::Publish(publish) = operation else { continue };
        holders.clear();
        publish.route.put_holders(&publish.route.view(&publish.body, after.now), &mut holders);
        if !holders.is_empty()
            && let Some((first, last)) = holds.next()
        {
            (publish.first, publish.last) = (Position(first), Position(last));
        }
    }
}

impl Broker {
    /// Adds a publish that takes a message out of the queue where it was: a holder, and its record there. Returns
    /// whether that is done; if it must arrive, it stays until all the queues that it goes to have room for it.
    pub(crate) fn move_to(
        &self,
        batch: &mut Batch<'_>,
        route: Arc<Route>,
        message: Arc<Message>,
        (from, must_arrive): ((u64, Position), bool),
        after: &mut Aftermath,
    ) -> bool {
        let mut publish = Publish::new(route, Body::Owned(message), 0);
        publish.is_moved = true;
        self.admit(&mut publish, after);
        batch.streams |= publish.route.streams;
        let (holder, record) = from;
        if must_arrive && publish.route.queues.is_empty() {
            return false;
        }
        publish.from = (record != Position(0)).then_some((holder, [record.0]));
        batch.operations.push(Operation::Publish(publish));
        true
    }
}
