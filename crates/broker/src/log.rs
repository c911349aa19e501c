//! What the model asks of the disk: an append-only log of entries, and to be told when they are safe.

use std::{collections::BTreeMap, sync::Arc, task::Waker};

use parking_lot::Mutex;

use crate::{queue::Wanted, topology::QueueInfo};

/// A place in the log. Positions grow; position 0 is before everything and always committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// One entry of the log.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A message body and the queues that hold it. Each of them gets a position of its own, in this order.
    Hold {
        /// Ids of the queues; with [`UNTIL_RESTART`], only until the log is opened again.
        holders: &'a [u64],
        /// The body, in two pieces: what the model writes of it, and the payload.
        parts: [&'a [u8]; 2],
    },
    /// A queue no longer holds some bodies.
    Release {
        /// The queue's id.
        holder: u64,
        /// The positions of its holds.
        positions: &'a [u64],
    },
    /// A queue no longer holds anything between two positions.
    Drop {
        /// The queue's id.
        holder: u64,
        /// The first.
        from: u64,
        /// One past the last; the largest number if the queue is gone.
        before: u64,
        /// The positions of holds that it keeps, in order.
        except: &'a [u64],
    },
    /// Sets an entry of the state table: topology, users, permissions.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Removes an entry of the state table.
    Remove {
        /// The key.
        key: &'a [u8],
    },
}

impl Entry<'_> {
    /// Positions that the entry takes.
    pub fn positions(&self) -> u64 {
        match self {
            Self::Hold { holders, .. } => holders.len() as u64,
            _ => 1,
        }
    }
}

/// The flag of a holder that holds only until the log is opened again.
pub const UNTIL_RESTART: u64 = 1 << 63;

/// When an append counts as committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once it survives a power failure.
    #[default]
    Fsync,
    /// Once it survives the end of the process.
    Os,
}

/// What a queue held when the log was opened: everything of it between two positions.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The queue's id.
    pub holder: u64,
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
    /// How many there are.
    pub count: u64,
}

/// Bodies that a queue wants to have read; the answer is [`crate::Broker::loaded`].
#[derive(Clone, Debug)]
pub struct Load {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// Which bodies.
    pub wanted: Wanted,
    /// The queue's mark of this reading.
    pub generation: u64,
}

/// Bodies read from the log.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Positions and bodies, in order.
    pub bodies: Vec<(u64, Vec<u8>)>,
    /// The position where reading goes on.
    pub next: Position,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// How often the log has been opened, this time included. Ids made from it are never used twice.
    pub epoch: u64,
    /// One past the last position in use.
    pub end: Position,
    /// The state table.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the queues hold.
    pub held: Vec<Held>,
}

/// The log. The server implements it over the store; [`MemoryLog`] implements it for tests.
pub trait Log: Send + Sync {
    /// Appends entries as one unit: after a crash either all of them are there or none. Returns the first position of
    /// the first; the others follow. The call never waits for the disk.
    fn append(&self, entries: &[Entry<'_>], durability: Durability) -> Position;

    /// The last position that is safe: it and all before it survive any crash.
    fn committed(&self) -> Position;

    /// Wakes `waker` once when something more is committed.
    fn wake_when_committed(&self, waker: &Waker);

    /// Whether so much waits for the disk that publishers should wait.
    fn congested(&self) -> bool;

    /// Has bodies read. The call never waits for the disk, and the answer comes on another thread.
    fn load(&self, load: Load);
}

/// A log in memory that commits at once, or only when told to, and reads only when told to.
#[derive(Debug, Default)]
pub struct MemoryLog {
    state: Mutex<MemoryState>,
}

#[derive(Debug, Default)]
struct MemoryState {
    last: u64,
    committed: u64,
    manual: bool,
    wakers: Vec<Waker>,
    bodies: BTreeMap<(u64, u64), Vec<u8>>,
    loads: Vec<Load>,
}

impl MemoryLog {
    /// A log that commits only in [`MemoryLog::commit`].
    pub fn manual() -> Self {
        Self { state: Mutex::new(MemoryState { manual: true, ..MemoryState::default() }) }
    }

    /// What was asked for, with the answers. Nothing is ever forgotten here, released or not.
    pub fn answers(&self, count: usize) -> Vec<(Load, Loaded)> {
        let mut state = self.state.lock();
        let loads = std::mem::take(&mut state.loads);
        let answer = |load: Load| {
            let Wanted { first, end, only } = &load.wanted;
            let holder = load.queue.id.0;
            let all = state.bodies.range((holder, first.0)..(holder, end.0));
            let asked = all.filter(|((_, position), _)| only.is_empty() || only.contains(position));
            let bodies: Vec<_> = asked.take(count).map(|((_, position), body)| (*position, body.clone())).collect();
            let last = bodies.last().filter(|_| bodies.len() == count).map(|(position, _)| Position(position + 1));
            let next = last.unwrap_or(*end);
            (load, Loaded { bodies, next })
        };
        loads.into_iter().map(answer).collect()
    }

    /// The positions of what a queue was given to hold.
    pub fn members(&self, holder: u64) -> Vec<u64> {
        self.state.lock().bodies.range((holder, 0)..(holder + 1, 0)).map(|((_, position), _)| *position).collect()
    }

    /// Commits all that was appended.
    pub fn commit(&self) {
        let mut state = self.state.lock();
        state.committed = state.last;
        state.wakers.drain(..).for_each(Waker::wake);
    }
}

impl Log for MemoryLog {
    fn append(&self, entries: &[Entry<'_>], _: Durability) -> Position {
        let mut state = self.state.lock();
        let first = state.last + 1;
        for entry in entries {
            if let Entry::Hold { holders, parts } = entry {
                let body = parts.concat();
                for (at, holder) in holders.iter().enumerate() {
                    let position = state.last + 1 + at as u64;
                    state.bodies.insert((holder & !UNTIL_RESTART, position), body.clone());
                }
            }
            state.last += entry.positions();
        }
        if !state.manual {
            state.committed = state.last;
        }
        Position(first)
    }

    fn committed(&self) -> Position {
        Position(self.state.lock().committed)
    }

    fn wake_when_committed(&self, waker: &Waker) {
        self.state.lock().wakers.push(waker.clone());
    }

    fn congested(&self) -> bool {
        false
    }

    fn load(&self, load: Load) {
        self.state.lock().loads.push(load);
    }
}
