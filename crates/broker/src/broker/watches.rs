//! Who wants to know of queues that are made: a consumer of all queues of a pattern, those to come included.

use std::{
    fmt,
    sync::{Arc, Weak},
    task::Waker,
};

use parking_lot::Mutex;

use super::Broker;
use crate::{topology::QueueInfo, value::Name};

/// Gathers queues that are made, as long as somebody has it.
pub struct Watch {
    vhost: Name,
    wants: Box<dyn Fn(&str) -> bool + Send + Sync>,
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
    /// Gathers the queues of a vhost that are made from now on and whose names are wanted, but for those of one session
    /// alone.
    pub fn watch_queues(&self, vhost: &Name, wants: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<Watch> {
        let (vhost, wants, made) = (vhost.clone(), Box::new(wants), Mutex::default());
        let watch = Arc::new(Watch { vhost, wants, made });
        let mut watches = self.watches.write();
        watches.retain(|watch: &Weak<Watch>| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&watch));
        watch
    }

    /// A queue has been made. No lock is held.
    pub(super) fn note_made(&self, queue: &Arc<QueueInfo>) {
        if queue.owner.is_some() {
            return;
        }
        let watches = self.watches.read();
        let wakers = watches.iter().filter_map(Weak::upgrade).filter_map(|watch| {
            let is_wanted = watch.vhost == queue.vhost && (watch.wants)(&queue.name);
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
