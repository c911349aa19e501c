//! Retained messages: one queue in each vhost that keeps the last message of every topic.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    queue::RetainedPage,
    record::State,
    topology::{QueueId, QueueInfo, QueueType},
    value::Name,
};

impl Broker {
    /// The queue of a vhost's retained messages, made if it is not there. What goes there, by
    /// [`crate::Route::with`], replaces what its topic had.
    pub fn retained_queue(&self, vhost: &Name) -> Arc<QueueInfo> {
        if let Some(info) = self.retained.read().get(vhost) {
            return Arc::clone(info);
        }
        let mut queues = self.retained.write();
        if let Some(info) = queues.get(vhost) {
            return Arc::clone(info);
        }
        let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
        let info = self.retained_queue_info(vhost, id);
        self.put_state(&State::Retained { vhost: vhost.clone(), id });
        self.shards[self.shard_index(id)].lock().insert(&info, self.now());
        queues.insert(vhost.clone(), Arc::clone(&info));
        info
    }

    pub(super) fn retained_queue_info(&self, vhost: &Name, id: QueueId) -> Arc<QueueInfo> {
        let mut info = QueueInfo::new(id, vhost.clone(), "retained".into(), QueueType::Retained);
        info.durable = true;
        Arc::new(info)
    }

    pub(super) fn insert_retained_queue(&self, info: &Arc<QueueInfo>) {
        self.shards[self.shard_index(info.id)].lock().insert(info, self.now());
        self.retained.write().insert(info.vhost.clone(), Arc::clone(info));
    }

    /// Retained messages of topics that begin with a prefix (or are just that) and that `wants` accepts, behind a topic: some
    /// at a time. Nothing if they are still being read after a restart; then try again after [`Broker::wake_when_loaded`].
    pub fn retained(
        &self,
        vhost: &Name,
        prefix: (&str, bool),
        behind: Option<&str>,
        wants: &dyn Fn(&str) -> bool,
    ) -> Option<RetainedPage> {
        let info = self.retained.read().get(vhost).cloned();
        let Some(info) = info else { return Some(RetainedPage::default()) };
        let mut after = self.aftermath();
        let look = |queue: &mut crate::queue::Queue| queue.retained_page(prefix, behind, wants, &mut after);
        let page = self.shards[self.shard_index(info.id)].lock().with(&info, look);
        self.finish(after);
        page.unwrap_or(Some(RetainedPage::default()))
    }

    /// Topics with a retained message in a vhost.
    pub fn retained_count(&self, vhost: &Name) -> usize {
        let info = self.retained.read().get(vhost).cloned();
        info.map_or(0, |info| self.counts(&info).ready)
    }
}
