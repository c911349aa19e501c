//! The model's log, kept by the store.

use std::task::Waker;

use broker::{Entry, Held, Log, Position, Recovered};
use store::Store;

/// A [`Log`] on disk.
#[derive(Debug)]
pub struct DiskLog(pub Store);

impl Log for DiskLog {
    fn append(&self, entries: &[Entry<'_>]) -> Position {
        if let [entry] = entries {
            return Position(self.0.append(&[stored(entry)]));
        }
        let entries: Vec<_> = entries.iter().map(stored).collect();
        Position(self.0.append(&entries))
    }

    fn committed(&self) -> Position {
        Position(self.0.committed())
    }

    fn wake_when_committed(&self, waker: &Waker) {
        self.0.wake_when_committed(waker);
    }

    fn congested(&self) -> bool {
        self.0.congested()
    }
}

fn stored<'a>(entry: &Entry<'a>) -> store::Entry<'a> {
    match *entry {
        Entry::Hold { holders, parts } => store::Entry::Hold { holders, parts },
        Entry::Release { position, holder } => store::Entry::Release { sequence: position.0, holder },
        Entry::Drop { holder } => store::Entry::Drop { holder },
        Entry::Put { key, value } => store::Entry::Put { key, value },
        Entry::Remove { key } => store::Entry::Remove { key },
    }
}

/// What the store held, for the model.
pub fn recovered(contents: store::Contents) -> Recovered {
    let held = contents.held.into_iter();
    let held = held.map(|held| Held { position: Position(held.sequence), holders: held.holders, body: held.body });
    Recovered { epoch: contents.epoch, state: contents.state, held: held.collect() }
}
