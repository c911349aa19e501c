//! A log in memory that writes down what it is told.

use std::{collections::BTreeMap, task::Waker};

use parking_lot::Mutex;
use roadstead_broker::{
    Broker, Durability, Entry, Held, Load, Loaded, Log, Position, Recovered, log::UNTIL_RESTART, queue::Wanted,
};

use crate::Journal;

/// A log that commits at once, remembers everything, and can say what a restart would find.
#[derive(Default)]
pub struct ScriptLog {
    pub journal: Journal,
    pub state: Mutex<LogState>,
}

#[derive(Default)]
pub struct LogState {
    pub last: u64,
    epoch: u64,
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bodies by holder and position, with whether they end with a restart.
    pub held: BTreeMap<(u64, u64), (Vec<u8>, bool)>,
    loads: Vec<Load>,
    /// Whether nothing is read.
    pub stalled: bool,
    /// How many bodies are read at a time; two if it is not said.
    pub page: Option<usize>,
    /// How many bodies were read.
    pub read: usize,
}

impl ScriptLog {
    pub fn recovered(&self) -> Recovered {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.held.retain(|_, (_, until_restart)| !*until_restart);
        let mut held: BTreeMap<u64, Held> = BTreeMap::new();
        for &(holder, position) in state.held.keys() {
            let (first, last) = (Position(position), Position(position));
            let held = held.entry(holder).or_insert(Held { holder, first, last, count: 0 });
            held.last = last;
            held.count += 1;
        }
        let held = held.into_values().collect();
        let table = state.table.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Recovered { epoch: state.epoch, end: Position(state.last + 1), state: table, held }
    }

    pub fn members(&self, holder: u64, from: Position, end: Position) -> Vec<u64> {
        let state = self.state.lock();
        state.held.range((holder, from.0)..(holder, end.0.max(from.0))).map(|((_, position), _)| *position).collect()
    }

    /// Gives the broker what it asked for, a page at a time.
    pub fn answer(&self, broker: &Broker) -> bool {
        let mut state = self.state.lock();
        let loads = if state.stalled { Vec::new() } else { std::mem::take(&mut state.loads) };
        drop(state);
        for load in &loads {
            let (holder, Wanted { first, end, only }) = (load.holder(), &load.wanted);
            let mut state = self.state.lock();
            let page = state.page.unwrap_or(2);
            let asked = state.held.range((holder, first.0)..(holder, end.0));
            let asked = asked.filter(|((_, position), _)| only.is_empty() || only.contains(position));
            let bodies: Vec<_> = asked.take(page).map(|((_, position), (body, _))| (*position, body.clone())).collect();
            state.read += bodies.len();
            drop(state);
            self.journal.lock().push(format!("log reads {} for {}", bodies.len(), short(holder)));
            let last = bodies.last().filter(|_| bodies.len() == page);
            let next = last.map_or(*end, |(last, _)| Position(last + 1));
            broker.loaded(load, Ok(Loaded::new(bodies, next)));
        }
        !loads.is_empty()
    }
}

/// Queue ids count from the start of their run; a priority is put in front.
fn short(holder: u64) -> String {
    let (id, priority) = (holder & 0xffff_ffff, holder >> 32 & 0xff);
    if priority == 0 { id.to_string() } else { format!("{priority}:{id}") }
}

impl Log for ScriptLog {
    fn append(&self, entries: &[Entry<'_>], durability: Durability) -> Position {
        let mut state = self.state.lock();
        let first = state.last + 1;
        let mut words = Vec::new();
        for entry in entries {
            state.last += 1;
            let sequence = state.last;
            words.push(match *entry {
                Entry::Hold { holders, parts: [head, payload] } => {
                    let body = [head, payload].concat();
                    for (at, holder) in holders.iter().enumerate() {
                        let key = (holder & !UNTIL_RESTART, sequence + at as u64);
                        state.held.insert(key, (body.clone(), holder & UNTIL_RESTART != 0));
                    }
                    state.last += holders.len() as u64 - 1;
                    let until_restart = if holders[0] & UNTIL_RESTART != 0 { " until restart" } else { "" };
                    let holders: Vec<_> = holders.iter().map(|&id| short(id)).collect();
                    let holders = holders.join(", ");
                    format!("hold [{holders}] {:?}{until_restart}", String::from_utf8_lossy(payload))
                }
                Entry::Release { positions, holder } => {
                    for &position in positions {
                        assert!(state.held.remove(&(holder, position)).is_some(), "what is released was held");
                    }
                    format!("release {} by {}", positions.len(), short(holder))
                }
                Entry::Drop { holder, from, before, except } => {
                    let dropped: Vec<_> =
                        state.held.range((holder, from)..(holder, before)).map(|(key, _)| *key).collect();
                    let dropped = dropped.into_iter().filter(|(_, position)| !except.contains(position));
                    let count = dropped.map(|key| state.held.remove(&key)).count();
                    format!("drop {count} by {} but {}", short(holder), except.len())
                }
                Entry::Put { key, value } => {
                    state.table.insert(key.to_vec(), value.to_vec());
                    format!("put {}", char::from(key[0]))
                }
                Entry::Remove { key } => {
                    assert!(state.table.remove(key).is_some(), "what is removed was there");
                    format!("remove {}", char::from(key[0]))
                }
            });
        }
        let unsynced = if durability == Durability::Os { " unsynced" } else { "" };
        self.journal.lock().push(format!("log{unsynced} {}", words.join("; ")));
        Position(first)
    }

    fn committed(&self) -> Position {
        Position(self.state.lock().last)
    }

    fn wake_when_committed(&self, _: &Waker) {}

    fn congested(&self) -> bool {
        false
    }

    fn load(&self, load: Load) {
        self.state.lock().loads.push(load);
    }
}
