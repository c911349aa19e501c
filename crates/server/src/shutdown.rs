//! The broker's end, as everybody gets to know of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Whether the broker shuts down, and who is to be told.
#[derive(Debug)]
pub struct Shutdown {
    begun: watch::Sender<bool>,
    /// The same, for those who ask often.
    has_begun: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Wakers of connections. A future of each, instead, would be a large part of what an idle one takes.
#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// Where a waker is kept.
#[derive(Clone, Copy, Debug)]
pub struct Place(u32);

impl Shutdown {
    /// There is no end in sight.
    pub fn new() -> Self {
        Self { begun: watch::Sender::new(false), has_begun: AtomicBool::new(false), waiting: Mutex::default() }
    }

    /// Tells everybody.
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begun.send_replace(true);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Waits for it.
    pub async fn begins(&self) {
        let mut begun = self.begun.subscribe();
        drop(begun.wait_for(|begun| *begun).await);
    }

    /// Whether it has begun. Who asks after having given a waker misses nothing.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Has a task woken once it begins.
    pub fn wake_then(&self, waker: &Waker) -> Place {
        let mut waiting = self.waiting.lock();
        let Waiting { wakers, free } = &mut *waiting;
        let place = free.pop().unwrap_or_else(|| {
            wakers.push(None);
            wakers.len() as u32 - 1
        });
        wakers[place as usize] = Some(waker.clone());
        Place(place)
    }

    /// A task has ended.
    pub fn forget(&self, place: Place) {
        let mut waiting = self.waiting.lock();
        // Nobody is left once all have been told.
        let forgotten = waiting.wakers.get_mut(place.0 as usize).and_then(Option::take);
        if forgotten.is_some() {
            waiting.free.push(place.0);
        }
        drop(waiting);
        drop(forgotten);
    }
}
