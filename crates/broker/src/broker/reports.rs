//! What operators look at: queues with their numbers.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    queue::{QueueNumbers, QueueReport, Reason},
    topology::{QueueInfo, QueueKind},
};

impl Broker {
    /// The numbers of every queue, those of one shard after the other: only one is locked at a time, and not for long.
    pub fn survey_queues(&self, mut look: impl FnMut(&Arc<QueueInfo>, QueueNumbers)) {
        for shard in &self.shards {
            let numbers: Vec<_> =
                shard.lock().queues().map(|queue| (Arc::clone(queue.info()), queue.numbers())).collect();
            numbers.iter().for_each(|(info, numbers)| look(info, *numbers));
        }
    }

    /// Messages that left their queues otherwise than by being consumed, by the reason's name.
    pub fn departed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let numbers = Reason::ALL.iter().zip(&self.departed);
        numbers.map(|(reason, number)| (reason.name(), number.load(Ordering::Relaxed)))
    }

    pub(crate) fn count_departed(&self, departed: &[u64; Reason::ALL.len()]) {
        for (sum, number) in self.departed.iter().zip(departed).filter(|(_, number)| **number > 0) {
            sum.fetch_add(*number, Ordering::Relaxed);
        }
    }

    /// The numbers of a queue, if it is still there.
    pub fn queue_numbers(&self, info: &QueueInfo) -> Option<QueueNumbers> {
        if let QueueKind::Direct(..) = info.kind {
            return None;
        }
        self.shards[self.shard_index(info.id)].lock().with(info, |queue| queue.numbers())
    }

    /// All that there is to know of a queue, if it is still there.
    pub fn report_queue(&self, info: &QueueInfo) -> Option<QueueReport> {
        if let QueueKind::Direct(..) = info.kind {
            return None;
        }
        self.shards[self.shard_index(info.id)].lock().with(info, |queue| queue.report())
    }
}
