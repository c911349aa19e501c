//! A share of the queues, guarded by one lock.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;

use super::{Aftermath, Consumer, ConsumerId, Fetch, NEVER, Purged, Queue, Settling};
use crate::{refusal::Refusal, session::Millis, topology::QueueInfo};

/// When something is due in any shard, and whom to tell if that becomes sooner.
#[derive(Debug)]
pub struct Alarm {
    due: AtomicU64,
    waits_until: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { due: AtomicU64::new(NEVER.0), waits_until: AtomicU64::new(0), waker: Mutex::default() }
    }
}

impl Alarm {
    /// Something is due at a time.
    pub fn set(&self, at: Millis) {
        self.due.fetch_min(at.0, Ordering::AcqRel);
    }

    /// Forgets when something was due: who calls this finds out anew.
    pub fn reset(&self) {
        self.due.store(NEVER.0, Ordering::Release);
    }

    /// When something is due next. If that becomes sooner, `waker` is woken.
    pub fn wait(&self, waker: &Waker) -> Millis {
        *self.waker.lock() = Some(waker.clone());
        let due = self.due.load(Ordering::Acquire);
        self.waits_until.store(due, Ordering::Release);
        // What was set in between woke nobody.
        let due = self.due.load(Ordering::Acquire).min(due);
        Millis(due)
    }

    /// Wakes who waits for something later than what is due by now. Called outside all locks.
    pub fn ring(&self) {
        if self.due.load(Ordering::Acquire) < self.waits_until.load(Ordering::Acquire)
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }
}

/// A share of the queues. A queue stands at the index that its [`QueueInfo`] carries.
#[derive(Debug, Default)]
pub struct Shard {
    queues: Vec<Option<Box<Queue>>>,
    free: Vec<u32>,
    /// Where a queue stands, by its identity: for what comes from the log.
    places: HashMap<u64, u32>,
    /// Queues to look after, by time and place.
    timers: BTreeSet<(Millis, u32)>,
    alarm: Arc<Alarm>,
}

impl Shard {
    /// An empty share that tells `alarm` when something is due.
    pub fn new(alarm: Arc<Alarm>) -> Self {
        Self { alarm, ..Self::default() }
    }

    /// Adds a queue.
    pub fn insert(&mut self, info: &Arc<QueueInfo>, now: Millis) {
        let queue = Some(Box::new(Queue::new(Arc::clone(info), now)));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.queues[slot as usize] = queue;
                slot
            }
            None => {
                self.queues.push(queue);
                self.queues.len() as u32 - 1
            }
        };
        info.slot.store(slot, Ordering::Release);
        self.places.insert(info.id.0, slot);
        self.schedule(slot);
    }

    /// Works on the queue in a slot, and sees to it that it is looked after in time.
    fn at<R>(&mut self, slot: u32, work: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let result = work(self.queues.get_mut(slot as usize)?.as_deref_mut()?);
        self.schedule(slot);
        Some(result)
    }

    fn schedule(&mut self, slot: u32) {
        let Some(Some(queue)) = self.queues.get_mut(slot as usize) else { return };
        if queue.next_due < queue.scheduled {
            self.timers.remove(&(queue.scheduled, slot));
            queue.scheduled = queue.next_due;
            self.timers.insert((queue.scheduled, slot));
            self.alarm.set(queue.scheduled);
        }
    }

    /// Works on the queue that the log knows by this identity.
    pub fn with_id<R>(&mut self, id: u64, work: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let slot = *self.places.get(&id)?;
        self.at(slot, work)
    }

    /// Works on a queue, unless it has been deleted.
    pub fn with<R>(&mut self, info: &QueueInfo, work: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        let slot = info.slot.load(Ordering::Acquire);
        self.queues.get(slot as usize)?.as_deref().filter(|queue| queue.info.id == info.id)?;
        self.at(slot, work)
    }

    /// The holders of which something is in memory, as the log knows them.
    pub fn holders_in_memory(&self) -> Vec<u64> {
        self.queues.iter().flatten().flat_map(|queue| queue.holders_in_memory()).collect()
    }

    /// Does what is due in any queue, and says when something is due next.
    pub fn catch_up(&mut self, after: &mut Aftermath) {
        while let Some(&(at, slot)) = self.timers.first()
            && at <= after.now
        {
            self.timers.pop_first();
            let Some(Some(queue)) = self.queues.get_mut(slot as usize) else { continue };
            queue.catch_up(after);
            queue.consumers.stir();
            queue.pump(after);
            // What is left over has its turn after the other queues.
            queue.scheduled = queue.next_due.max(after.now.plus(1));
            if queue.next_due < NEVER {
                self.timers.insert((queue.scheduled, slot));
            }
        }
        if let Some((at, _)) = self.timers.first() {
            self.alarm.set(*at);
        }
    }

    /// Removes a queue and tells its consumers.
    pub fn remove(&mut self, info: &QueueInfo, after: &mut Aftermath) -> Option<Box<Queue>> {
        self.with(info, |_| ())?;
        let slot = info.slot.load(Ordering::Acquire);
        let mut queue = self.queues[slot as usize].take()?;
        self.timers.remove(&(queue.scheduled, slot));
        self.free.push(slot);
        self.places.remove(&info.id.0);
        queue.cancel_consumers(after);
        Some(queue)
    }

    /// Adds a consumer. It gets what waits with the next [`Shard::resume`], so that its session can first say that it
    /// is there.
    ///
    /// # Errors
    /// If the queue is gone, or somebody has it or wants it for himself.
    pub fn attach(&mut self, info: &QueueInfo, consumer: Consumer, now: Millis) -> Result<ConsumerId, Refusal> {
        self.with(info, |queue| queue.attach(consumer, now)).ok_or_else(|| Refusal::NotFound(info.resource()))?
    }

    /// Removes a consumer. Returns whether the queue is to go with it.
    pub fn detach(&mut self, info: &QueueInfo, id: ConsumerId, after: &mut Aftermath) -> bool {
        let detached = self.with(info, |queue| queue.detach(id, after) && queue.consumer_count() == 0);
        info.auto_delete && detached == Some(true)
    }

    /// Hands out to a consumer what waits for it.
    pub fn resume(&mut self, info: &QueueInfo, id: ConsumerId, after: &mut Aftermath) {
        self.with(info, |queue| queue.resume(id, after));
    }

    /// Settles deliveries.
    pub fn settle(&mut self, info: &QueueInfo, settling: &Settling<'_>, after: &mut Aftermath) {
        self.with(info, |queue| queue.settle(settling, after));
    }

    /// Takes one message out.
    pub fn fetch(&mut self, info: &QueueInfo, settled: bool, after: &mut Aftermath) -> Fetch {
        self.with(info, |queue| queue.fetch(settled, after)).unwrap_or(Fetch::Empty)
    }

    /// Removes all messages that wait, by priority.
    pub fn purge(&mut self, info: &QueueInfo, after: &mut Aftermath) -> Vec<(u8, Purged)> {
        self.with(info, |queue| queue.purge(after)).unwrap_or_default()
    }

    /// All queues.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().flatten().map(|queue| &**queue)
    }

    /// Memory that the messages of all queues take.
    pub fn memory_bytes(&self) -> usize {
        self.queues.iter().flatten().map(|queue| queue.memory_bytes()).sum()
    }
}
