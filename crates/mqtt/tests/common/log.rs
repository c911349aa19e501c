//! A log in memory from which a broker can be started again.

use std::{
    collections::{BTreeMap, VecDeque},
    task::Waker,
};

use broker::{
    Broker, Durability, Entry, Held, Load, Loaded, Log, Position, Recovered, log::UNTIL_RESTART, queue::Wanted,
};
use parking_lot::Mutex;

/// A log that remembers everything, and commits at once or only when it is told to.
#[derive(Default)]
pub struct ScriptLog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_hand: bool,
    epoch: u64,
    last: u64,
    committed: u64,
    /// What is there.
    disk: Disk,
    /// What was there at the last commit.
    safe: Disk,
    /// The last position of each append since then, and what was there after it.
    unsafe_yet: VecDeque<(u64, Disk)>,
    loads: Vec<Load>,
}

#[derive(Clone, Default)]
struct Disk {
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bodies by holder and position, with whether they end with a restart.
    held: BTreeMap<(u64, u64), (Vec<u8>, bool)>,
}

impl ScriptLog {
    /// From now on it commits only when it is told to.
    pub fn commit_by_hand(&self) {
        let mut state = self.state.lock();
        (state.by_hand, state.safe) = (true, state.disk.clone());
    }

    /// Commits all that was appended.
    pub fn commit(&self) {
        while self.commit_one() {}
    }

    /// Commits what was appended first. Returns whether there was anything.
    pub fn commit_one(&self) -> bool {
        let mut state = self.state.lock();
        let Some((last, disk)) = state.unsafe_yet.pop_front() else { return false };
        (state.committed, state.safe) = (last, disk);
        true
    }

    /// Leaves out positions.
    pub fn skip(&self, positions: u64) {
        let mut state = self.state.lock();
        state.last += positions;
        state.committed = state.last;
    }

    /// What is not safe is lost, and from now on everything is safe at once.
    pub fn crash(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.by_hand) {
            state.disk = std::mem::take(&mut state.safe);
            state.unsafe_yet.clear();
        }
        state.loads.clear();
        state.committed = state.last;
    }

    /// What a broker finds that starts now.
    pub fn recovered(&self) -> Recovered {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.epoch += 1;
        state.disk.held.retain(|_, (_, until_restart)| !*until_restart);
        let mut held: BTreeMap<u64, Held> = BTreeMap::new();
        for &(holder, position) in state.disk.held.keys() {
            let (first, last) = (Position(position), Position(position));
            let held = held.entry(holder).or_insert(Held { holder, first, last, count: 0 });
            held.last = last;
            held.count += 1;
        }
        let table = state.disk.table.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let held = held.into_values().collect();
        Recovered { epoch: state.epoch, end: Position(state.last + 1), state: table, held }
    }

    /// Gives the broker the bodies that it asked for. Returns whether there were any.
    pub fn answer(&self, broker: &Broker) -> bool {
        let loads = std::mem::take(&mut self.state.lock().loads);
        for load in &loads {
            let (holder, Wanted { first, end, only }) = (load.holder(), &load.wanted);
            let bodies: Vec<_> = {
                let state = self.state.lock();
                let asked = state.disk.held.range((holder, first.0)..(holder, end.0));
                let asked = asked.filter(|((_, position), _)| only.is_empty() || only.contains(position));
                asked.map(|((_, position), (body, _))| (*position, body.clone())).collect()
            };
            broker.loaded(load, Ok(Loaded::new(bodies, *end)));
        }
        !loads.is_empty()
    }
}

impl Log for ScriptLog {
    fn append(&self, entries: &[Entry<'_>], _: Durability) -> Position {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let first = state.last + 1;
        for entry in entries {
            let position = state.last + 1;
            state.last += entry.positions();
            state.disk.take(entry, position);
        }
        if state.by_hand {
            state.unsafe_yet.push_back((state.last, state.disk.clone()));
        } else {
            state.committed = state.last;
        }
        Position(first)
    }

    fn committed(&self) -> Position {
        Position(self.state.lock().committed)
    }

    fn wake_when_committed(&self, _: &Waker) {}

    fn congested(&self) -> bool {
        false
    }

    fn load(&self, load: Load) {
        self.state.lock().loads.push(load);
    }
}

impl Disk {
    fn take(&mut self, entry: &Entry<'_>, position: u64) {
        match *entry {
            Entry::Hold { holders, parts } => {
                for (place, holder) in (position..).zip(holders) {
                    let body = (parts.concat(), holder & UNTIL_RESTART != 0);
                    self.held.insert((holder & !UNTIL_RESTART, place), body);
                }
            }
            Entry::Release { holder, positions } => {
                for &position in positions {
                    assert!(self.held.remove(&(holder, position)).is_some(), "what is released was held");
                }
            }
            Entry::Drop { holder, from, before, except } => {
                self.held.retain(|&(whose, position), _| {
                    whose != holder || !(from..before).contains(&position) || except.contains(&position)
                });
            }
            Entry::Put { key, value } => {
                self.table.insert(key.into(), value.into());
            }
            Entry::Remove { key } => {
                self.table.remove(key);
            }
        }
    }
}
