//! The model's log, kept by the store, and the thread that moves messages between memory and disk.

use std::{
    sync::{
        Arc, Weak,
        mpsc::{Receiver, Sender, channel},
    },
    task::Waker,
    thread::{self, JoinHandle},
};

use broker::{Broker, Durability, Entry, Held, Load, Loaded, Log, Position, Recovered, limits};
use parking_lot::Mutex;
use store::Store;

/// A [`Log`] on disk.
#[derive(Debug)]
pub struct DiskLog {
    store: Arc<Store>,
    tasks: Sender<Task>,
}

impl Log for DiskLog {
    fn append(&self, entries: &[Entry<'_>], durability: Durability) -> Position {
        let durability = match durability {
            Durability::Fsync => store::Durability::Fsync,
            Durability::Os => store::Durability::Os,
        };
        if let [entry] = entries {
            return Position(self.store.append(&[stored(entry)], durability));
        }
        let entries: Vec<_> = entries.iter().map(stored).collect();
        Position(self.store.append(&entries, durability))
    }

    fn append_alone(&self, entries: &[Entry<'_>]) -> Position {
        let entries: Vec<_> = entries.iter().map(stored).collect();
        Position(self.store.append_alone(&entries))
    }

    fn commit_alone(&self) {
        self.store.commit_alone(is_another_idle());
    }

    fn committed(&self) -> Position {
        Position(self.store.committed())
    }

    fn wake_when_committed(&self, waker: &Waker) {
        self.store.wake_when_committed(waker);
    }

    fn congested(&self) -> bool {
        self.store.congested()
    }

    fn load(&self, load: Load) {
        // Without the pager the broker is about to end.
        let _ = self.tasks.send(Task::Load(load));
    }
}

/// Whether there is another thread for whatever comes for connections: one that waits for it.
fn is_another_idle() -> bool {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return false };
    let metrics = runtime.metrics();
    // An odd count is that of a thread that is parked.
    (0..metrics.num_workers()).any(|worker| metrics.worker_park_unpark_count(worker) % 2 == 1)
}

fn stored<'a>(entry: &Entry<'a>) -> store::Entry<'a> {
    match *entry {
        Entry::Hold { holders, parts } => store::Entry::Hold { holders, parts },
        Entry::Release { holder, positions } => store::Entry::Release { holder, sequences: positions },
        Entry::Drop { holder, from, before, except } => store::Entry::Drop { holder, from, before, except },
        Entry::Put { key, value } => store::Entry::Put { key, value },
        Entry::Remove { key } => store::Entry::Remove { key },
    }
}

/// What the store held, for the model.
pub fn recovered(contents: store::Contents) -> Recovered {
    let held = contents.held.into_iter().map(|held| Held {
        holder: held.holder,
        first: Position(held.first),
        last: Position(held.last),
        count: held.count,
    });
    Recovered { epoch: contents.epoch, end: Position(contents.end), state: contents.state, held: held.collect() }
}

/// What the pager is asked to do.
enum Task {
    /// Read what a queue wants.
    Load(Load),
    /// Let messages leave memory that are in a segment that can be read now.
    PageOut {
        holders: Vec<u64>,
        end: u64,
    },
    /// Let everything leave memory that can.
    Sweep,
    Stop,
}

/// Tells the pager of what happens.
#[derive(Clone)]
pub struct PagerTasks(Sender<Task>);

impl PagerTasks {
    /// A segment can be read from now on.
    pub fn sealed(&self, sealed: store::Sealed) {
        let holders = sealed.holders.into_iter().map(|(holder, _)| holder).collect();
        let _ = self.0.send(Task::PageOut { holders, end: sealed.end });
    }

    /// Memory is short.
    pub fn sweep(&self) {
        let _ = self.0.send(Task::Sweep);
    }
}

/// Moves messages between memory and disk, on a thread of its own: reading never keeps a connection waiting, and a queue
/// that is read never keeps its publishers waiting.
pub struct Pager {
    tasks: Sender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A pager that has not begun: its tasks gather until there is a broker.
pub struct PagerQueue {
    tasks: Sender<Task>,
    waiting: Receiver<Task>,
}

impl PagerQueue {
    /// A queue of tasks.
    pub fn new() -> Self {
        let (tasks, waiting) = channel();
        Self { tasks, waiting }
    }

    /// Where tasks go.
    pub fn tasks(&self) -> PagerTasks {
        PagerTasks(self.tasks.clone())
    }

    /// The log of a broker whose messages this pager moves.
    pub fn log(&self, store: &Arc<Store>) -> DiskLog {
        DiskLog { store: Arc::clone(store), tasks: self.tasks.clone() }
    }

    /// Begins.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn start(self, store: &Arc<Store>, broker: &Arc<Broker>) -> std::io::Result<Pager> {
        let worker = Worker { store: Arc::clone(store), broker: Arc::downgrade(broker), sealed_end: 0 };
        let thread = thread::Builder::new().name("pager".into()).spawn(move || worker.run(&self.waiting))?;
        Ok(Pager { tasks: self.tasks, thread: Mutex::new(Some(thread)) })
    }
}

impl Pager {
    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    store: Arc<Store>,
    broker: Weak<Broker>,
    /// What has a lower position can be read.
    sealed_end: u64,
}

impl Worker {
    fn run(mut self, waiting: &Receiver<Task>) {
        while let Ok(task) = waiting.recv() {
            let Some(broker) = self.broker.upgrade() else { return };
            match task {
                Task::Load(load) => self.load(&broker, &load),
                Task::PageOut { holders, end } => {
                    self.sealed_end = self.sealed_end.max(end);
                    self.page_out(&broker, holders);
                }
                Task::Sweep => self.page_out(&broker, broker.holders_in_memory()),
                Task::Stop => return,
            }
        }
    }

    fn load(&self, broker: &Broker, load: &Load) {
        let (holder, wanted) = (load.holder(), &load.wanted);
        let (first, end) = (wanted.first.0, wanted.end.0);
        let page = self.store.read(holder, first, end, &wanted.only, limits::NEAR_MESSAGES, limits::NEAR_BYTES);
        let outcome = match page {
            Ok(page) => Ok(Loaded::new(page.bodies, Position(page.next))),
            Err(error) => {
                tracing::error!(
                    vhost = &*load.queue.vhost,
                    queue = &*load.queue.name,
                    "{error}. Consumers of this queue get nothing more; inspect the log with 'roadstead doctor'"
                );
                Err(error.to_string())
            }
        };
        broker.loaded(load, outcome);
    }

    fn page_out(&self, broker: &Broker, holders: Vec<u64>) {
        for holder in holders {
            let mut members = |from: Position, end: Position| match self.store.members(holder, from.0, end.0) {
                Ok(members) => Some(members),
                Err(error) => {
                    tracing::error!("{error}. Messages there stay in memory; inspect the log with 'roadstead doctor'");
                    None
                }
            };
            broker.page_out(holder, Position(self.sealed_end), &mut members);
        }
    }
}
