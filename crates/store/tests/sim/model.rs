//! What a log must hold, as plain maps.

use std::{collections::BTreeMap, sync::Arc};

use roadstead_store::{Entry, Held, UNTIL_RESTART};

/// An entry that owns what it says.
#[derive(Clone, Debug)]
pub enum Op {
    Hold { holders: Vec<u64>, body: Arc<[u8]> },
    Release { holder: u64, sequences: Vec<u64> },
    Drop { holder: u64, from: u64, before: u64, except: Vec<u64> },
    Put { key: Vec<u8>, value: Vec<u8> },
    Remove { key: Vec<u8> },
}

impl Op {
    /// As the store takes it; the body comes in two parts.
    pub fn entry(&self) -> Entry<'_> {
        match self {
            Self::Hold { holders, body } => {
                let (head, tail) = body.split_at(body.len() / 3);
                Entry::Hold { holders, parts: [head, tail] }
            }
            Self::Release { holder, sequences } => Entry::Release { holder: *holder, sequences },
            Self::Drop { holder, from, before, except } => {
                Entry::Drop { holder: *holder, from: *from, before: *before, except }
            }
            Self::Put { key, value } => Entry::Put { key, value },
            Self::Remove { key } => Entry::Remove { key },
        }
    }
}

/// One append.
#[derive(Clone, Debug)]
pub struct Append {
    pub first: u64,
    pub end: u64,
    pub is_synced: bool,
    pub ops: Vec<Op>,
}

/// A hold of one holder.
#[derive(Clone, Debug)]
pub struct Hold {
    pub body: Arc<[u8]>,
    /// The sequence number of the first holder of this body, which tells bodies apart.
    pub entry: u64,
    /// How many holders the body had at first.
    pub holders: usize,
    pub is_until_restart: bool,
}

/// What is live.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub held: BTreeMap<u64, BTreeMap<u64, Hold>>,
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    /// Applies an append.
    pub fn apply(&mut self, append: &Append) {
        let mut sequence = append.first;
        for op in &append.ops {
            match op {
                Op::Hold { holders, body } => {
                    for (at, holder) in holders.iter().enumerate() {
                        let is_until_restart = holder & UNTIL_RESTART != 0;
                        let hold =
                            Hold { body: body.clone(), entry: sequence, holders: holders.len(), is_until_restart };
                        self.held.entry(holder & !UNTIL_RESTART).or_default().insert(sequence + at as u64, hold);
                    }
                }
                Op::Release { holder, sequences } => {
                    for hold in sequences {
                        let gone = self.held.get_mut(holder).and_then(|held| held.remove(hold));
                        assert!(gone.is_some(), "the test lets go of what is not held: {holder} {hold}");
                    }
                }
                Op::Drop { holder, from, before, except } => {
                    let range = *from..(*before).min(sequence);
                    if let Some(held) = self.held.get_mut(holder) {
                        held.retain(|hold, _| !range.contains(hold) || except.contains(hold));
                    }
                }
                Op::Put { key, value } => drop(self.state.insert(key.clone(), value.clone())),
                Op::Remove { key } => drop(self.state.remove(key)),
            }
            sequence += op.entry().sequences();
        }
        assert_eq!(sequence, append.end);
        self.held.retain(|_, held| !held.is_empty());
    }

    /// What ends when the log is opened again.
    pub fn restart(&mut self) {
        self.held.values_mut().for_each(|held| held.retain(|_, hold| !hold.is_until_restart));
        self.held.retain(|_, held| !held.is_empty());
    }

    /// What [`roadstead_store::Contents`] says of it.
    pub fn contents(&self) -> Vec<Held> {
        let held = self.held.iter().filter_map(|(&holder, held)| {
            let (&first, &last) = (held.keys().next()?, held.keys().next_back()?);
            Some(Held { holder, first, last, count: held.len() as u64 })
        });
        held.collect()
    }

    /// Bytes of the entries that are live, each body counted once, with their places in indexes.
    pub fn live_bytes(&self) -> u64 {
        let mut bodies = BTreeMap::new();
        let mut places = 0;
        for hold in self.held.values().flat_map(BTreeMap::values) {
            bodies.insert(hold.entry, 11 + 8 * hold.holders + hold.body.len() + 16);
            places += 12 + 16;
        }
        let state: usize = self.state.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        (bodies.values().sum::<usize>() + places + state) as u64
    }
}
