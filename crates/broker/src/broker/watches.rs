//! Who wants to know of queues that are made: a consumer of all queues of a pattern, those to come included.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::Waker,
};

use parking_lot::Mutex;

use super::{Broker, Caller};
use crate::{pattern::matches, topology::QueueInfo, value::Name};

/// Gathers queues that are made, as long as somebody has it.
pub struct Watch {
    vhost: Name,
    pattern: Box<str>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    queues: Vec<Arc<QueueInfo>>,
    waker: Option<Waker>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

impl Watch {
    /// The queues that were made since it was last asked. `waker` is woken when there are more.
    pub fn take(&self, waker: &Waker) -> Vec<Arc<QueueInfo>> {
        let mut made = self.made.lock();
        made.waker = Some(waker.clone());
        std::mem::take(&mut made.queues)
    }
}

impl Broker {
    /// Whether a queue is one of those that a pattern stands for. None stands for what is of one session, subscription or client.
    fn is_of_pattern(&self, queue: &QueueInfo, pattern: &str) -> bool {
        queue.owner.is_none() && matches(pattern, &queue.name) && !self.codecs.is_private(&queue.name)
    }

    /// The names of the queues of the caller's vhost that a pattern stands for, in their order.
    pub fn queues_of_pattern(&self, caller: &Caller, pattern: &str) -> Vec<Name> {
        let state = caller.vhost.read();
        let of_pattern = state.queues().filter(|queue| self.is_of_pattern(queue, pattern));
        let mut names: Vec<Name> = of_pattern.map(|queue| queue.name.clone()).collect();
        names.sort();
        names
    }

    /// Gathers the queues of a vhost that are made from now on and that a pattern stands for.
    pub fn watch_queues(&self, vhost: &Name, pattern: &str) -> Arc<Watch> {
        let (vhost, pattern, made) = (vhost.clone(), pattern.into(), Mutex::default());
        let watch = Arc::new(Watch { vhost, pattern, made });
        let mut watches = self.watches.write();
        watches.retain(|watch: &Weak<Watch>| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        watch
    }

    /// A queue has been made. No lock is held.
    pub(super) fn note_made(&self, queue: &Arc<QueueInfo>) {
        let watches = self.watches.read();
        let wakers = watches.iter().filter_map(Weak::upgrade).filter_map(|watch| {
            let is_wanted = watch.vhost == queue.vhost && self.is_of_pattern(queue, &watch.pattern);
            is_wanted.then(|| {
                let mut made = watch.made.lock();
                made.queues.push(Arc::clone(queue));
                made.waker.take()
            })?
        });
        let wakers: Vec<Waker> = wakers.collect();
        drop(watches);
        wakers.into_iter().for_each(Waker::wake);
    }
}
