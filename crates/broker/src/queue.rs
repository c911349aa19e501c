//! A queue: a backlog of messages and the consumers that compete for them.
//!
//! Everything here runs under the lock of the queue's [`Shard`] and never waits.

mod backlog;
mod browsing;
mod consumer;
mod consumers;
mod deadlines;
mod departure;
mod groups;
mod paging;
mod report;
mod retained;
mod returns;
mod selecting;
mod shard;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

pub use self::{
    backlog::{Backlog, Purged, Queued, Returns, Wanted, priority_of},
    consumer::{Browses, Consumer, ConsumerId, Credit},
    departure::{Departure, Reason},
    groups::{GROUP_ID, GROUP_SEQUENCE, Group, Grouping},
    paging::Near,
    report::{ConsumerReport, QueueNumbers, QueueReport},
    retained::RetainedPage,
    shard::{Alarm, Shard},
    stream::{Filter, Segment, SegmentChange, Start},
};
use self::{
    consumer::Role,
    consumers::Consumers,
    deadlines::Overdue,
    departure::{Departing, Why},
    groups::{Groups, Upcoming},
    retained::Retained,
    stream::Stream,
};
use crate::{
    broker::{Happened, Happening, Interest, Kept, Subject, has_trace_context, may_be_traced},
    limits,
    log::{Load, Position},
    message::{Draft, Message},
    outlet::{Attempts, Delivery, Pressure},
    refusal::Refusal,
    rules::{Overflow, Rules},
    session::Millis,
    topology::{QueueInfo, QueueType},
    traffic::{Counts, Event},
    value::Name,
};

/// What a consumer does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done with it.
    Accept,
    /// Does not want it: it is discarded, or dead-lettered.
    Reject,
    /// Cannot digest it, nor will anybody else. Without a rule of its own, the queue's letters go where
    /// [`crate::Settings::letters`] says.
    Poison,
    /// Its time was over when it got there.
    Expire,
    /// Gives it back unseen, as if it had never been handed out.
    Release,
    /// Gives it back, for anybody.
    Requeue,
    /// The same, and from now on no time to live applies to it: somebody has begun with it and will see it through. The
    /// log does not know of this; see [`crate::Broker::restore_untimed`].
    RequeueUntimed,
    /// Gives it back after a failed attempt, or is gone.
    Fail,
    /// Settles what was taken back from it already.
    Late,
}

/// What work on a queue leaves to be done outside the lock.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// The time of the work.
    pub now: Millis,
    /// The last record that is safe.
    pub committed: Position,
    /// Records that a queue no longer holds, by holder.
    pub releases: Vec<(Position, u64)>,
    /// Messages that go elsewhere.
    pub departures: Vec<Departure>,
    /// Messages without a record that came to a deep queue: the log is to have them, so that they can leave memory.
    pub late: Vec<(Arc<QueueInfo>, u64, Arc<Message>)>,
    /// What is to be read from the log.
    pub loads: Vec<Load>,
    /// Segments of streams that have begun, or are gone.
    pub segments: Vec<SegmentChange>,
    /// Streams with readers that wait for the log to commit.
    pub uncommitted: Vec<Arc<QueueInfo>>,
    /// How often messages came back, and which of those are gone: their records.
    pub attempts: Vec<(Arc<QueueInfo>, Position, Option<Attempts>)>,
    /// Messages that left for each [`Reason`].
    pub departed: [u64; Reason::ALL.len()],
    /// Whether somebody observes messages with the context of a trace.
    pub observed: bool,
    /// What is published or delivered and traced.
    pub traces: Vec<Traced>,
    /// What somebody wants to know of.
    pub interest: Interest,
    /// What of that has happened.
    pub happened: Vec<Happened>,
    /// Queues that nobody has used for as long as they may live without.
    pub unused: Vec<Arc<QueueInfo>>,
    /// Which messages are kept that leave a queue without a rule for them.
    pub kept: Kept,
    /// Whether memory is short, so that every queue is to be taken for a deep one.
    pub tight: bool,
    /// Connections that have something to write.
    pub wakes: Vec<Waker>,
    /// Whether some queue's consumers cannot keep up with its publishers.
    pub lagging: bool,
}

/// Something of which whoever traces the vhost gets a copy, or an observer is told.
#[derive(Debug)]
pub enum Traced {
    /// A publish.
    Published {
        /// The vhost.
        vhost: Name,
        /// Who publishes.
        user: Name,
        /// The message.
        message: Arc<Message>,
        /// The queues that get it.
        queues: Vec<Name>,
    },
    /// A delivery.
    Delivered {
        /// The queue that it comes from.
        queue: Arc<QueueInfo>,
        /// The message.
        message: Arc<Message>,
        /// Whether it may have been delivered before.
        redelivered: bool,
    },
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    info: Arc<QueueInfo>,
    rules: Arc<Rules>,
    /// The messages by priority, the highest first.
    levels: Vec<(u8, Backlog)>,
    /// The messages, if they stay when they have been read.
    stream: Option<Box<Stream>>,
    /// The last message of each topic, if that is what the queue is for.
    retained: Option<Box<Retained>>,
    consumers: Consumers,
    /// Who has which groups of messages, while somebody consumes who knows groups.
    groups: Option<Box<Groups>>,
    /// Attempts to deliver messages that came back, by record: only durable queues count them.
    attempts: BTreeMap<u64, Attempts>,
    /// Messages that came back and wait for their next attempt.
    resting: BTreeSet<(Millis, u64)>,
    /// Deliveries that have to be settled in time.
    overdue: Overdue,
    departing: Departing,
    /// Whether messages may have come that are kept when their time is over.
    keeps_expired: bool,
    /// When somebody last used it.
    used: Millis,
    /// Nothing is due before.
    next_due: Millis,
    /// When the shard looks after it.
    scheduled: Millis,
    /// Messages that were promised a place, and their bytes.
    admitted: (u64, u64),
    /// Whether the log has ever held something for the queue that was not to be durable.
    logged: bool,
    /// Why the queue's messages cannot be read from the log.
    unreadable: Option<String>,
    /// Bodies of held messages are being read.
    reads_held: bool,
    /// Whether bodies of held messages stay in memory.
    keeps_held: bool,
    /// What went through.
    traffic: Counts,
}

/// A time that never comes.
const NEVER: Millis = Millis(u64::MAX);

impl Queue {
    fn new(info: Arc<QueueInfo>, now: Millis) -> Self {
        let stream = (info.queue_type == QueueType::Stream).then(Box::default);
        let retained = (info.queue_type == QueueType::Retained).then(Box::default);
        let mut queue = Self {
            rules: info.rules(),
            info,
            levels: Vec::new(),
            stream,
            retained,
            consumers: Consumers::default(),
            groups: None,
            attempts: BTreeMap::new(),
            resting: BTreeSet::new(),
            overdue: Overdue::default(),
            departing: Departing::default(),
            keeps_expired: false,
            used: now,
            next_due: NEVER,
            scheduled: NEVER,
            admitted: (0, 0),
            logged: false,
            unreadable: None,
            reads_held: false,
            keeps_held: false,
            traffic: Counts::default(),
        };
        queue.note_used(now);
        queue
    }

    /// Messages that wait for a consumer.
    pub fn ready(&self) -> usize {
        let messages: usize = self.levels.iter().map(|(_, backlog)| backlog.ready()).sum();
        let others = self.stream.as_ref().map_or(0, |stream| stream.len());
        messages + others + self.retained.as_ref().map_or(0, |retained| retained.len())
    }

    /// Messages that consumers hold, or that wait for their next attempt.
    pub fn held(&self) -> usize {
        self.levels.iter().map(|(_, backlog)| backlog.held()).sum()
    }

    /// Bytes of the bodies that wait.
    pub fn ready_bytes(&self) -> u64 {
        self.levels.iter().map(|(_, backlog)| backlog.ready_bytes()).sum()
    }

    /// Memory that the messages take.
    pub fn memory_bytes(&self) -> usize {
        let bytes: usize = self.levels.iter().map(|(_, backlog)| backlog.memory_bytes()).sum();
        let others = self.stream.as_ref().map_or(0, |stream| stream.memory_bytes());
        bytes + others + self.retained.as_ref().map_or(0, |retained| retained.memory_bytes())
    }

    /// How many consumers there are.
    pub fn consumer_count(&self) -> usize {
        self.consumers.count()
    }

    fn level(&mut self, priority: u8) -> &mut Backlog {
        let place = match self.levels.binary_search_by(|(level, _)| priority.cmp(level)) {
            Ok(place) => place,
            Err(place) => {
                let mut backlog = Backlog::new(priority);
                backlog.keeps_held = self.keeps_held;
                self.levels.insert(place, (priority, backlog));
                place
            }
        };
        &mut self.levels[place].1
    }

    /// The backlog that a slot is in.
    fn backlog_of(&mut self, slot: u64) -> Option<&mut Backlog> {
        let place = self.levels.binary_search_by(|(level, _)| priority_of(slot).cmp(level)).ok()?;
        Some(&mut self.levels[place].1)
    }

    /// The backlog whose turn it is: the highest priority of which something waits.
    fn next_level(&mut self) -> Option<&mut Backlog> {
        self.levels.iter_mut().map(|(_, backlog)| backlog).find(|backlog| backlog.ready() > 0)
    }

    /// Whether the queue has room for a message with a body of so many bytes. If so, the room is kept for it.
    pub fn admit(&mut self, bytes: u64) -> bool {
        // Dead letters that nobody takes count too: they must not be without bound.
        let messages = (self.ready() + self.departing.len()) as u64 + self.admitted.0;
        let waiting = self.ready_bytes() + self.admitted.1;
        let too_many = self.rules.max_length.is_some_and(|max| messages >= max);
        let too_large = self.rules.max_length_bytes.is_some_and(|max| waiting + bytes > max);
        if self.rules.refuses() && (too_many || too_large) {
            return false;
        }
        self.admitted = (self.admitted.0 + 1, self.admitted.1 + bytes);
        true
    }

    /// A message that had a place promised has come, or has not.
    pub fn admitted(&mut self, bytes: u64) {
        self.admitted = (self.admitted.0.saturating_sub(1), self.admitted.1.saturating_sub(bytes));
    }

    /// Takes a message in: straight to a consumer if one is ready, else to the end of the backlog.
    pub fn publish(&mut self, draft: &mut Draft<'_>, record: Position, after: &mut Aftermath) {
        self.traffic.add(Event::Publish, 1);
        after.note(Happening::Queued, &self.info, || Subject::Message(draft.share()));
        if !draft.view().durable && self.consumers.count() == 0 {
            after.note(Happening::Unattended, &self.info, || Subject::Message(draft.share()));
        }
        self.catch_up(after);
        if self.stream.is_some() {
            return self.write(draft, record, after);
        }
        if self.retained.is_some() {
            return self.retain_last(draft, record, after);
        }
        let priority = self.rules.priority(draft.view().priority);
        if self.meets_groups(draft.view()) || self.consumers.any_selecting() {
            return self.offer(draft, record, after);
        }
        if self.ready() == 0
            && let Some((index, counted)) = self.consumers.reserve(self.is_single())
        {
            let queued = |draft: &mut Draft<'_>| Queued { message: draft.share(), record, returns: Returns::NEVER };
            let slot = if self.settles_itself(index) {
                self.release(record, priority, after);
                0
            } else {
                let queued = queued(draft);
                self.level(priority).push_held(queued)
            };
            let (returns, attempts) = (Returns::NEVER, Attempts::default());
            let (offset, is_first_of_group) = (None, false);
            let handout = Handout { slot, record, returns, counted, attempts, offset, is_first_of_group };
            self.deliver(index, handout, draft, after);
            return;
        }
        let late = self.is_late_record(record, priority, after);
        let slot = self.level(priority).push_ready(Queued { message: draft.share(), record, returns: Returns::NEVER });
        if late {
            after.late.push((Arc::clone(&self.info), slot, draft.share()));
        }
        self.note_times(draft.view(), after);
        self.note_slow(after);
        self.grown(after);
    }

    /// Whether a message that comes without a record is to get one.
    fn is_late_record(&mut self, record: Position, priority: u8, after: &Aftermath) -> bool {
        record == Position(0) && (after.tight || self.level(priority).is_deep())
    }

    /// One more message waits.
    fn grown(&mut self, after: &mut Aftermath) {
        self.catch_up(after);
        self.shed_overflow(after);
        if self.ready() > limits::LAGGING_MESSAGES && self.consumers.any_pressed() {
            after.lagging = true;
        }
    }

    /// Lets go of what is too much.
    fn shed_overflow(&mut self, after: &mut Aftermath) {
        let (max, max_bytes) = (self.rules.max_length, self.rules.max_length_bytes);
        if (max.is_none() && max_bytes.is_none()) || self.rules.overflow != Overflow::DropHead {
            return;
        }
        let (max, max_bytes) = (max.unwrap_or(u64::MAX), max_bytes.unwrap_or(u64::MAX));
        while self.ready() as u64 > max || (self.ready_bytes() > max_bytes && self.ready() > 0) {
            let Some(backlog) = self.next_level() else { return };
            // What is not in memory leaves once it has been read.
            let Some((slot, queued)) = backlog.take_next() else { break };
            self.depart(backlog::Expired::Message(queued), priority_of(slot), Reason::MaxLength.into(), after);
        }
        self.read_ahead(after);
    }

    /// Whether bodies of held messages stay in memory: somebody wants to be told of them.
    fn keep_held(&mut self, is_kept: bool) {
        if self.keeps_held != is_kept {
            self.keeps_held = is_kept;
            self.levels.iter_mut().for_each(|(_, backlog)| backlog.keeps_held = is_kept);
        }
    }

    /// Hands out what can be handed out.
    fn pump(&mut self, after: &mut Aftermath) {
        self.keep_held(after.interest.has(Happening::Consumed));
        if self.stream.is_some() {
            return self.read_on(after);
        }
        if self.consumers.any_looking() {
            self.browse_on(after);
        }
        if self.consumers.any_selecting() || self.has_groups() {
            return self.pump_selecting(after);
        }
        loop {
            self.catch_up(after);
            // What is due and still here is too much to be let go of at once; it is never delivered.
            if self.next_due <= after.now {
                break;
            }
            match self.upcoming() {
                Upcoming::Nothing => break,
                Upcoming::Message => {}
                Upcoming::OfGroup => return self.pump_selecting(after),
            }
            let Some((index, counted)) = self.consumers.reserve(self.is_single()) else { break };
            let settles_itself = self.settles_itself(index);
            let Some(backlog) = self.next_level() else { break };
            let (slot, queued) = if settles_itself {
                let Some((slot, queued)) = backlog.take_next() else { break };
                self.release(queued.record, priority_of(slot), after);
                (slot, queued)
            } else {
                let Some(held) = backlog.hold_next() else { break };
                held
            };
            self.hand_out(index, counted, (slot, &queued), after);
        }
        if self.consumers.count() > 0 || self.rules.sheds() {
            self.read_ahead(after);
        }
    }

    /// Delivers what has left the ready ones.
    fn hand_out(&mut self, index: u32, counted: bool, (slot, queued): (u64, &Queued), after: &mut Aftermath) {
        let Queued { record, returns, .. } = *queued;
        let attempts = self.attempts_of(record, returns.any());
        if self.settles_itself(index) {
            self.forget_attempts(record, after);
        }
        let (offset, is_first_of_group) = (None, self.claim_group(index, &queued.message.view()));
        let handout = Handout { slot, record, returns, counted, attempts, offset, is_first_of_group };
        self.deliver(index, handout, &Draft::owned(&queued.message), after);
    }

    /// A consumer is done with what it holds in a slot. That is told of if the message is in memory.
    fn note_consumed(&mut self, slot: u64, after: &mut Aftermath) {
        if !after.interest.has(Happening::Consumed) {
            return;
        }
        let held = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot));
        if let Some((_, Some(message))) = held {
            after.note(Happening::Consumed, &self.info, || Subject::Message(message));
        }
    }

    /// A message waits: consumers that may have no more are slow. Each is told of once, until it gets one again.
    fn note_slow(&mut self, after: &mut Aftermath) {
        if !after.interest.has(Happening::Slow) {
            return;
        }
        for (outlet, key) in self.consumers.newly_slow() {
            after.note(Happening::Slow, &self.info, || Subject::Consumer(outlet, key));
        }
    }

    fn settles_itself(&mut self, index: u32) -> bool {
        self.consumers.at(index).is_some_and(|attached| attached.consumer.settles_itself)
    }

    fn deliver(&mut self, index: u32, handout: Handout, draft: &Draft<'_>, after: &mut Aftermath) {
        let Some(attached) = self.consumers.at(index) else { return };
        let event = if attached.consumer.settles_itself { Event::DeliverNoAck } else { Event::Deliver };
        self.traffic.add(event, 1);
        if event == Event::DeliverNoAck {
            let message = || Subject::Message(Arc::new(Message::copy_of(draft.view())));
            after.note(Happening::Consumed, &self.info, message);
        }
        self.traffic.add(Event::Redeliver, handout.returns.any().into());
        let delivery = Delivery {
            consumer: attached.consumer.key,
            queue: Some(&self.info),
            slot: handout.slot,
            record: handout.record,
            redelivered: handout.returns.any(),
            failures: handout.attempts.failed.max(handout.returns.failed().into()),
            counted: handout.counted,
            attempts: handout.attempts,
            offset: handout.offset,
            is_first_of_group: handout.is_first_of_group,
            message: draft.view(),
        };
        let is_followed = after.observed && has_trace_context(draft.view());
        if is_followed || self.info.is_traced.load(Ordering::Relaxed) {
            let message = Arc::new(Message::copy_of(draft.view()));
            let (queue, redelivered) = (Arc::clone(&self.info), handout.returns.any());
            after.traces.extend(may_be_traced(&message).then_some(Traced::Delivered { queue, message, redelivered }));
        }
        let pressure = attached.consumer.outlet.deliver(&delivery, &mut after.wakes);
        if !attached.consumer.settles_itself
            && let Some(timeout) = attached.consumer.timeout_ms.or(self.rules.consumer_timeout_ms)
        {
            let at = after.now.plus(timeout);
            self.overdue.add(at, handout.slot, attached);
            self.wait_for(Some(at));
        }
        if pressure == Pressure::High {
            self.consumers.press(index);
        }
    }

    /// The log is to know that the queue no longer holds a message.
    fn release(&self, record: Position, priority: u8, after: &mut Aftermath) {
        if record != Position(0) {
            after.releases.push((record, self.info.holder(priority)));
        }
    }

    /// Adds a consumer, at rest: its session first has to say that it is there.
    fn attach(&mut self, consumer: Consumer, now: Millis) -> Result<ConsumerId, Refusal> {
        let single = self.rules.single_active || consumer.single_active;
        // Quorum queues and streams don't know exclusive consumers, and RabbitMQ says nothing about it.
        let mut consumer = consumer;
        let role = match &consumer {
            Consumer { browses: Some(_), .. } => Role::Browses,
            Consumer { filter: Some(_), .. } if self.stream.is_none() => Role::Selects,
            _ => Role::Takes,
        };
        if role == Role::Browses {
            return self.attach_browser(consumer, now);
        }
        consumer.exclusive &= self.info.queue_type == QueueType::Classic;
        if self.consumers.any_exclusive() || (consumer.exclusive && (self.consumers.count() > 0 || single)) {
            return Err(Refusal::ExclusiveUse(self.info.resource()));
        }
        self.check_consumer_limit()?;
        let (start, filter) = (consumer.start, consumer.filter.clone());
        if let Some(grouping) = &consumer.groups {
            self.join_groups(grouping.clone());
        }
        let id = self.consumers.add(consumer, role);
        self.place_reader(id.index, start, filter, now);
        if single {
            self.consumers.elect(self.preempts());
        }
        Ok(id)
    }

    fn check_consumer_limit(&self) -> Result<(), Refusal> {
        if self.consumers.attached() >= limits::CONSUMERS_PER_QUEUE {
            return Err(Refusal::Limit(format!("reached maximum of consumers for {}", self.info.resource())));
        }
        Ok(())
    }

    /// Whether one consumer at a time gets messages: the queue has it so, or a consumer wants it so.
    fn is_single(&self) -> bool {
        self.rules.single_active || self.consumers.any_single_active()
    }

    /// Whether a consumer of a higher priority takes over from the single active one.
    fn preempts(&self) -> bool {
        self.info.queue_type == QueueType::Quorum || self.consumers.any_single_active()
    }

    /// Removes a consumer. What it holds stays held until it is settled. Returns whether it was there, and took messages.
    fn detach(&mut self, id: ConsumerId, after: &mut Aftermath) -> bool {
        let Some(attached) = self.consumers.get(id) else { return false };
        let (role, held, knew_groups) = (attached.role, attached.held, attached.consumer.groups.is_some());
        let was_single = self.is_single();
        self.consumers.remove(id);
        self.remove_reader(id.index);
        self.note_used(after.now);
        if role != Role::Takes || self.groups.is_some() {
            self.levels.iter_mut().for_each(|(_, backlog)| backlog.forget_reader(id.reader()));
            self.consumers.stir();
        }
        let is_open = role != Role::Browses && self.leave_groups(id, knew_groups, held);
        let has_changed = if self.is_single() { self.consumers.elect(self.preempts()) } else { was_single };
        if is_open || has_changed {
            self.pump(after);
        }
        role != Role::Browses
    }

    /// The consumer's connection keeps up again, or the limit that it shares was raised.
    fn resume(&mut self, id: ConsumerId, after: &mut Aftermath) {
        if self.consumers.release(id) {
            self.pump(after);
        }
    }

    /// Settles deliveries of one consumer, or of none if they were fetched one by one. With `dead_letters`, the log has
    /// not been told of rejected ones.
    fn settle(&mut self, settling: &Settling<'_>, after: &mut Aftermath) {
        let consumer = settling.consumer.and_then(|id| self.consumers.get(id));
        let (is_late, browses) =
            consumer.map_or((false, false), |attached| (attached.is_late(), attached.role == Role::Browses));
        let slots = if self.stream.is_some() || browses { &[] } else { settling.slots };
        for &slot in slots {
            let how = if is_late && self.forgives(settling.consumer, slot) { Settlement::Late } else { settling.how };
            if how != Settlement::Late {
                self.overdue.settled(slot);
            }
            match how {
                Settlement::Release => self.give_back_unseen(slot),
                Settlement::Requeue => self.give_back(slot, false, after),
                Settlement::RequeueUntimed => self.give_back_untimed(slot, after),
                Settlement::Fail => self.give_back(slot, true, after),
                Settlement::Expire => self.depart_held(slot, Reason::Expired.into(), after),
                Settlement::Poison => {
                    let why = Why { reason: Reason::Poison, cause: settling.cause.cloned() };
                    self.depart_held(slot, why, after);
                }
                Settlement::Reject if settling.dead_letters => self.depart_held(slot, Reason::Rejected.into(), after),
                // It means nothing for the message, but the consumer can take another one.
                Settlement::Late => {}
                Settlement::Accept | Settlement::Reject => {
                    self.traffic.add(Event::Acknowledge, (how == Settlement::Accept).into());
                    if how == Settlement::Accept {
                        self.note_consumed(slot, after);
                    }
                    self.forget_attempts_at(slot, after);
                    if let Some(backlog) = self.backlog_of(slot) {
                        backlog.settle(slot);
                    }
                }
            }
        }
        if let Some(id) = settling.consumer
            && let Some(attached) = self.consumers.get(id)
        {
            attached.held = attached.held.saturating_sub(settling.slots.len() as u32);
            self.consumers.rejoin(id);
            if self.is_single() && (is_late || self.preempts()) {
                self.consumers.elect(self.preempts());
            }
        } else if let Some(id) = settling.consumer {
            self.settled_in_groups(id, settling.slots.len());
        }
        self.shed_overflow(after);
        self.load_departing(after);
        if self.ready() > 0 || browses {
            self.pump(after);
        }
    }

    /// A consumer settles what may have been taken back from it. Returns whether it was.
    fn forgives(&mut self, consumer: Option<ConsumerId>, slot: u64) -> bool {
        consumer.and_then(|id| self.consumers.get(id)).is_some_and(|attached| attached.forgive(slot))
    }

    /// Takes one message without consuming: the caller holds it, or has it settled at once.
    fn fetch(&mut self, settled: bool, after: &mut Aftermath) -> Fetch {
        self.note_used(after.now);
        self.catch_up(after);
        let backlog = self.next_level();
        let fetched = if settled {
            let taken = backlog.and_then(Backlog::take_next);
            taken.inspect(|(slot, queued)| self.release(queued.record, priority_of(*slot), after))
        } else {
            backlog.and_then(Backlog::hold_next)
        };
        self.read_ahead(after);
        match (fetched, &self.unreadable) {
            (Some((slot, queued)), _) => {
                self.traffic.add(if settled { Event::GetNoAck } else { Event::Get }, 1);
                self.traffic.add(Event::Redeliver, queued.returns.any().into());
                let attempts = self.attempts_of(queued.record, queued.returns.any());
                if settled {
                    self.forget_attempts(queued.record, after);
                }
                Fetch::Message { slot, queued, attempts }
            }
            (None, _) if self.ready() == 0 => {
                self.traffic.add(Event::GetEmpty, 1);
                Fetch::Empty
            }
            (None, Some(problem)) => Fetch::Unreadable(problem.clone()),
            (None, None) => Fetch::Loading,
        }
    }

    /// Other rules apply.
    pub fn follow(&mut self, rules: Arc<Rules>, after: &mut Aftermath) {
        self.rules = rules;
        // Whatever was due by the old rules is found out again.
        self.next_due = after.now;
        self.catch_up(after);
        self.shed_overflow(after);
        self.survey(after);
        self.consumers.stir();
        self.pump(after);
    }

    /// Removes all messages that wait.
    fn purge(&mut self, after: &mut Aftermath) -> Vec<(u8, Purged)> {
        let departing = self.departing.records();
        let purge = |(priority, backlog): &mut (u8, Backlog)| (*priority, backlog.purge(&departing));
        let purged = self.levels.iter_mut().map(purge).collect();
        self.forget_attempts_but_held(after);
        purged
    }

    /// Tells every consumer that the queue is gone.
    fn cancel_consumers(&mut self, after: &mut Aftermath) {
        for attached in self.consumers.iter() {
            attached.consumer.outlet.cancelled(attached.consumer.key, &mut after.wakes);
        }
        self.departing.clear();
    }
}

/// What is settled, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settling<'a> {
    /// Places in the queue.
    pub slots: &'a [u64],
    /// What is done with them.
    pub how: Settlement,
    /// Whether rejected ones are dead-lettered.
    pub dead_letters: bool,
    /// The consumer that they went to.
    pub consumer: Option<ConsumerId>,
    /// What it says of messages that it cannot digest.
    pub cause: Option<&'a Arc<str>>,
}

/// One message taken without consuming.
#[derive(Debug)]
pub enum Fetch {
    /// There is none.
    Empty,
    /// There is one.
    Message {
        /// Its slot.
        slot: u64,
        /// The message.
        queued: Queued,
        /// Attempts to deliver it before.
        attempts: Attempts,
    },
    /// There is one, but it has to be read from the log first.
    Loading,
    /// There is one, but the log cannot give it.
    Unreadable(String),
}

/// A delivery before it has a consumer.
#[derive(Clone, Copy)]
struct Handout {
    slot: u64,
    record: Position,
    returns: Returns,
    counted: bool,
    attempts: Attempts,
    offset: Option<u64>,
    is_first_of_group: bool,
}
