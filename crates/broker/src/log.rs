//! What the model asks of the disk: an append-only log of entries, and to be told when they are safe.

use std::{ops::Range, sync::Arc, task::Waker};

use bytes::Bytes;
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
    /// The priority of the messages.
    pub priority: u8,
    /// Which bodies.
    pub wanted: Wanted,
    /// The queue's mark of this reading.
    pub generation: u64,
    /// What it is for.
    pub purpose: Purpose,
}

impl Load {
    /// By which the log knows who holds the bodies.
    pub fn holder(&self) -> u64 {
        self.queue.holder(self.priority)
    }
}

/// What bodies are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be delivered.
    Deliver,
    /// To be sent elsewhere.
    Depart,
    /// To be sent elsewhere by who holds them.
    Hold,
    /// For one reader of a stream.
    Read,
    /// For one consumer that looks for what it wants.
    Scan,
    /// Only to know when they are due, and how large they are.
    Survey,
}

/// Bodies read from the log.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Positions, and where in `bytes` the bodies are, in order.
    pub bodies: Vec<(u64, Range<usize>)>,
    /// The bodies. Messages share it: a page of messages is one allocation.
    pub bytes: Bytes,
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

impl Loaded {
    /// What was read, body by body.
    pub fn new(bodies: impl IntoIterator<Item = (u64, Vec<u8>)>, next: Position) -> Self {
        let mut bytes = Vec::new();
        let mut put = |(position, body): (u64, Vec<u8>)| {
            let start = bytes.len();
            bytes.extend_from_slice(&body);
            (position, start..bytes.len())
        };
        let bodies = bodies.into_iter().map(&mut put).collect();
        Self { bodies, bytes: bytes.into(), next }
    }
}

/// The log. The server implements it over the store; [`MemoryLog`] implements it for tests.
pub trait Log: Send + Sync {
    /// Appends entries as one unit: after a crash either all of them are there or none. Returns the first position of
    /// the first; the others follow. The call never waits for the disk.
    fn append(&self, entries: &[Entry<'_>], durability: Durability) -> Position;

    /// The same with [`Durability::Fsync`], for somebody who does nothing else until it is committed. Only with
    /// [`Log::commit_alone`], which has to follow, the disk is told.
    fn append_alone(&self, entries: &[Entry<'_>]) -> Position {
        self.append(entries, Durability::Fsync)
    }

    /// Has what [`Log::append_alone`] has appended committed. This may wait for the disk, if that is quicker than to be woken
    /// and nobody else needs the thread. No lock may be held.
    fn commit_alone(&self) {}

    /// The last position that is safe: it and all before it survive any crash.
    fn committed(&self) -> Position;

    /// Wakes `waker` once when something more is committed, or publishers need not wait any longer.
    fn wake_when_committed(&self, waker: &Waker);

    /// Whether so much waits for the disk that publishers should wait.
    fn congested(&self) -> bool;

    /// Has bodies read. The call never waits for the disk, and the answer comes on another thread.
    fn load(&self, load: Load);
}

/// A log that keeps nothing and commits at once, or only when told to. Nothing can be read from it.
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
}

impl MemoryLog {
    /// A log that commits only in [`MemoryLog::commit`].
    pub fn manual() -> Self {
        Self { state: Mutex::new(MemoryState { manual: true, ..MemoryState::default() }) }
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
        state.last += entries.iter().map(Entry::positions).sum::<u64>();
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

    fn load(&self, _: Load) {}
}
