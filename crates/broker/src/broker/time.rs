//! The broker's time, and what happens by it alone.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use super::{Broker, DeleteRule};
use crate::{
    log::Position,
    message::{Codec, Codecs, Origin},
    queue::Grouping,
    session::Millis,
    topology::QueueInfo,
};

impl Broker {
    /// Tells the broker the time, which never goes back.
    pub fn set_time(&self, now: Millis) {
        if self.time.load(Ordering::Relaxed) < now.0 {
            self.time.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// The time that the broker was last told.
    pub fn now(&self) -> Millis {
        Millis(self.time.load(Ordering::Relaxed))
    }

    /// Tells a queue of messages to which no time to live applies, though it was given them back before a restart of which it
    /// knows nothing. Only before anything is read from the log, since what has come from there may be let go of.
    pub fn restore_untimed(&self, queue: &QueueInfo, records: &[Position]) {
        let mut shard = self.shards[self.shard_index(queue.id)].lock();
        shard.with(queue, |queue| queue.restore_untimed(records));
    }

    /// Takes a message of an earlier run of the broker for somebody who held it then and holds it still. Returns its place in its
    /// queue, where it can be settled without a consumer; nothing if the queue does not have it any more. Only before anything is
    /// read from the log.
    pub fn restore_held(&self, queue: &QueueInfo, record: Position) -> Option<u64> {
        let mut shard = self.shards[self.shard_index(queue.id)].lock();
        shard.with(queue, |queue| queue.restore_held(record)).flatten()
    }

    /// Does what is due in any queue. Returns when to come back; `waker` is woken if that becomes sooner.
    pub fn catch_up(&self, waker: &Waker) -> Millis {
        self.alarm.reset();
        for shard in &self.shards {
            let mut after = self.aftermath();
            shard.lock().catch_up(&mut after);
            self.finish(after);
        }
        self.read_committed(waker);
        self.publish_events();
        self.alarm.wait(waker)
    }

    /// Goes on with readers of streams that waited for the log to commit, and has `waker` woken for those that still do.
    fn read_committed(&self, waker: &Waker) {
        let waiting = std::mem::take(&mut *self.uncommitted.lock());
        if waiting.is_empty() {
            return;
        }
        // Before looking: what is committed in between must not be missed.
        self.log.wake_when_committed(waker);
        let mut after = self.aftermath();
        for queue in waiting {
            self.shards[self.shard_index(queue.id)].lock().with(&queue, |queue| queue.committed(&mut after));
        }
        self.uncommitted.lock().append(&mut after.uncommitted);
        self.finish(after);
    }

    /// Registers who knows the properties of messages of an origin.
    pub fn add_codec(&self, origin: Origin, codec: Arc<dyn Codec>) {
        self.codecs.add(origin, codec);
    }

    /// Who knows the properties of messages, by origin.
    pub fn codecs(&self) -> Codecs {
        self.codecs.clone()
    }

    /// How consumers that know groups of messages tell them; see [`crate::Consumer::groups`].
    pub fn grouping(&self) -> Grouping {
        self.codecs.grouping()
    }

    pub(crate) fn codec(&self, origin: Origin) -> Option<Arc<dyn Codec>> {
        self.codecs.of(origin)
    }

    /// Removes a queue that nobody has used for too long, unless somebody does again.
    pub(crate) fn remove_unused(&self, info: &Arc<QueueInfo>) {
        let Some(vhost) = self.vhost(&info.vhost) else { return };
        let mut state = vhost.write();
        let now = self.now();
        let unused = self.shards[self.shard_index(info.id)].lock().with(info, |queue| queue.is_unused(now));
        if unused == Some(true) {
            let _ = self.remove_queue(&vhost, &mut state, info, DeleteRule { if_unused: true, if_empty: false });
        }
    }
}
