//! A share of the broker's queues, guarded by one lock.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use super::{Aftermath, Consumer, ConsumerId, Fetch, Purged, Queue, Settlement};
use crate::{refusal::Refusal, topology::QueueInfo};

/// A share of the queues. A queue stands at the index that its [`QueueInfo`] carries.
#[derive(Debug, Default)]
pub struct Shard {
    queues: Vec<Option<Box<Queue>>>,
    free: Vec<u32>,
    /// Where a queue stands, by its identity: for what comes from the log.
    places: HashMap<u64, u32>,
}

impl Shard {
    /// Adds a queue.
    pub fn insert(&mut self, info: &Arc<QueueInfo>) {
        let queue = Some(Box::new(Queue::new(Arc::clone(info))));
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
    }

    /// The queue that the log knows by `holder`.
    pub fn holder(&mut self, holder: u64) -> Option<&mut Queue> {
        let slot = *self.places.get(&holder)?;
        self.queues.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The queues of which something is in memory, as the log knows them.
    pub fn holders_in_memory(&self) -> Vec<u64> {
        let queues = self.queues.iter().flatten().filter(|queue| queue.backlog.memory_bytes() > 0);
        queues.map(|queue| queue.info.id.0).collect()
    }

    /// The queue, unless it has been deleted.
    pub fn queue(&mut self, info: &QueueInfo) -> Option<&mut Queue> {
        let slot = info.slot.load(Ordering::Acquire);
        self.queues.get_mut(slot as usize)?.as_deref_mut().filter(|queue| queue.info.id == info.id)
    }

    /// Removes a queue and tells its consumers.
    pub fn remove(&mut self, info: &QueueInfo, after: &mut Aftermath) -> Option<Box<Queue>> {
        self.queue(info)?;
        let slot = info.slot.load(Ordering::Acquire);
        let mut queue = self.queues[slot as usize].take()?;
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
    pub fn attach(&mut self, info: &QueueInfo, consumer: Consumer) -> Result<ConsumerId, Refusal> {
        self.queue(info).ok_or_else(|| Refusal::NotFound(info.resource()))?.attach(consumer)
    }

    /// Removes a consumer. Returns whether the queue is to go with it.
    pub fn detach(&mut self, info: &QueueInfo, id: ConsumerId) -> bool {
        self.queue(info).is_some_and(|queue| queue.detach(id) && info.auto_delete && queue.consumer_count == 0)
    }

    /// Hands out to a consumer what waits for it.
    pub fn resume(&mut self, info: &QueueInfo, id: ConsumerId, after: &mut Aftermath) {
        if let Some(queue) = self.queue(info) {
            queue.resume(id, after);
        }
    }

    /// Settles deliveries.
    pub fn settle(
        &mut self,
        info: &QueueInfo,
        slots: &[u64],
        how: Settlement,
        consumer: Option<ConsumerId>,
        after: &mut Aftermath,
    ) {
        if let Some(queue) = self.queue(info) {
            queue.settle(slots, how, consumer, after);
        }
    }

    /// Takes one message out.
    pub fn fetch(&mut self, info: &QueueInfo, settled: bool, after: &mut Aftermath) -> Fetch {
        self.queue(info).map_or(Fetch::Empty, |queue| queue.fetch(settled, after))
    }

    /// Removes all messages that wait.
    pub fn purge(&mut self, info: &QueueInfo) -> Purged {
        self.queue(info).map(Queue::purge).unwrap_or_default()
    }

    /// Memory that the messages of all queues take.
    pub fn memory_bytes(&self) -> usize {
        self.queues.iter().flatten().map(|queue| queue.backlog.memory_bytes()).sum()
    }
}
