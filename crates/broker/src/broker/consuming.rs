//! Getting messages out: consumers, and one message at a time.

use super::{Attachment, Broker, Caller, DeleteRule, Fetch, Fetched, events};
use crate::{
    arguments,
    identity::Access,
    queue::{self, Consumer},
    refusal::Refusal,
    topology::{QueueInfo, QueueKind, QueueType},
    value::Table,
};

impl Broker {
    /// Checks that the caller may get messages from a queue.
    ///
    /// # Errors
    /// [`Refusal::AccessRefused`] if not.
    pub fn check_readable(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        self.check(caller, Access::Read, caller.vhost.queue_resource(name))
    }

    /// Checks the arguments of a consumer.
    ///
    /// # Errors
    /// [`Refusal::InvalidArgument`] for the first that is wrong.
    pub fn check_consumer_arguments(&self, queue: &QueueInfo, arguments: &Table) -> Result<(), Refusal> {
        arguments::check_consumer(|| queue.resource(), queue.queue_type, arguments)
    }

    /// Adds a consumer to a queue.
    ///
    /// # Errors
    /// If the queue does not exist or cannot be consumed from.
    pub fn consume(&self, caller: &Caller, name: &str, consumer: Consumer) -> Result<Attachment, Refusal> {
        self.check_readable(caller, name)?;
        let queue = self.queue(caller, name)?;
        if let QueueKind::Direct(..) = queue.kind {
            return Err(Refusal::NotFound(queue.resource()));
        }
        self.check_reader(&queue, &consumer)?;
        let consumer = self.shards[self.shard_index(queue.id)].lock().attach(&queue, consumer, self.now())?;
        self.tell("consumer.created", || events::named(&[("queue", name), ("vhost", &queue.vhost)]));
        Ok(Attachment { queue, consumer })
    }

    /// Removes a consumer, and its queue if that was to go with the last one.
    pub fn cancel(&self, caller: &Caller, attachment: &Attachment) {
        let queue = &attachment.queue;
        self.tell("consumer.deleted", || events::named(&[("queue", &queue.name), ("vhost", &queue.vhost)]));
        let mut after = self.aftermath();
        let unused = self.shards[self.shard_index(queue.id)].lock().detach(queue, attachment.consumer, &mut after);
        self.finish(after);
        if unused {
            let mut state = caller.vhost.write();
            let rule = DeleteRule { if_unused: true, if_empty: false };
            // A consumer that came in between keeps the queue.
            let _ = self.remove_queue(&caller.vhost, &mut state, queue, rule);
        }
    }

    /// Gives a consumer what waits for it: when it is new, when its connection keeps up again, when its limit changed.
    pub fn resume(&self, attachment: &Attachment) {
        let mut after = self.aftermath();
        let queue = &attachment.queue;
        self.shards[self.shard_index(queue.id)].lock().resume(queue, attachment.consumer, &mut after);
        self.finish(after);
        self.note_resumed();
    }

    /// Whether messages that somebody holds can become dead letters at once, within a transaction: their bodies are in
    /// memory. If not, they are being read; try again after [`Broker::wake_when_loaded`].
    pub fn has_bodies(&self, queue: &QueueInfo, slots: &[u64]) -> bool {
        if queue.rules().dead_letter.is_none() {
            return true;
        }
        let mut after = self.aftermath();
        let has =
            self.shards[self.shard_index(queue.id)].lock().with(queue, |queue| queue.has_bodies(slots, &mut after));
        self.finish(after);
        has != Some(false)
    }

    /// Takes one message, if there is one.
    ///
    /// # Errors
    /// If the queue does not exist, the caller may not, or the log cannot give the message.
    pub fn fetch(&self, caller: &Caller, name: &str, settled: bool) -> Result<Fetch, Refusal> {
        self.check(caller, Access::Read, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        self.refuse_stream(&info, "basic.get")?;
        if info.queue_type == QueueType::Quorum && info.rules().single_active {
            return Err(Refusal::LockedForConsumers(info.resource()));
        }
        let mut after = self.aftermath();
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        let fetched = shard.fetch(&info, settled, &mut after);
        let left = shard.with(&info, |queue| queue.ready()).unwrap_or(0);
        drop(shard);
        self.finish(after);
        Ok(match fetched {
            queue::Fetch::Empty => Fetch::Empty,
            queue::Fetch::Message { slot, queued, attempts } => {
                Fetch::Message(Fetched { queue: info, slot, queued, attempts, left })
            }
            queue::Fetch::Loading => Fetch::Loading,
            queue::Fetch::Unreadable(problem) => return Err(Refusal::Unreadable { queue: info.resource(), problem }),
        })
    }
}
