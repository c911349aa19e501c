//! What the model asks of the disk: an append-only log of entries, and to be told when they are safe.

use std::task::Waker;

use parking_lot::Mutex;

/// A place in the log. Positions grow; position 0 is before everything and always committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// One entry of the log.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A message body and the queues that hold it.
    Hold {
        /// Ids of the queues.
        holders: &'a [u64],
        /// The body, in two pieces: what the model writes of it, and the payload.
        parts: [&'a [u8]; 2],
    },
    /// A queue no longer holds the body at `position`.
    Release {
        /// Where the body's `Hold` lies.
        position: Position,
        /// The queue's id.
        holder: u64,
    },
    /// A queue is gone with all that it held.
    Drop {
        /// The queue's id.
        holder: u64,
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

/// A message body found in the log when it was opened.
#[derive(Clone, Debug)]
pub struct Held {
    /// Where it lies.
    pub position: Position,
    /// The queues that still hold it.
    pub holders: Vec<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// How often the log has been opened, this time included. Ids made from it are never used twice.
    pub epoch: u64,
    /// The state table.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
    /// The message bodies that some queue holds, by position.
    pub held: Vec<Held>,
}

/// The log. The server implements it over the store; [`MemoryLog`] implements it for tests.
pub trait Log: Send + Sync {
    /// Appends entries as one unit: after a crash either all of them are there or none. Returns the position of the
    /// first; the others follow it one by one. The call never waits for the disk.
    fn append(&self, entries: &[Entry<'_>]) -> Position;

    /// The last position that is safe: it and all before it survive any crash.
    fn committed(&self) -> Position;

    /// Wakes `waker` once when something more is committed.
    fn wake_when_committed(&self, waker: &Waker);

    /// Whether so much waits for the disk that publishers should wait.
    fn congested(&self) -> bool;
}

/// A log that keeps nothing and commits at once, or only when told to.
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
    fn append(&self, entries: &[Entry<'_>]) -> Position {
        let mut state = self.state.lock();
        let first = state.last + 1;
        state.last += entries.len() as u64;
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
}
