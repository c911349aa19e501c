//! Which segments are still needed.
//!
//! A segment is needed while it holds a live body or a current value of the state table, and also while an older segment
//! still stands whose entries this one takes back: without the release, the body would rise again at the next start.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::format::{self, Entries, RawEntry, SegmentId};

/// The account of all segments.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By the sequence number of the first entry.
    segments: BTreeMap<u64, Account>,
    /// The current values of the state table, with the sequence number of their `Put`.
    state: HashMap<Vec<u8>, (u64, Vec<u8>)>,
}

#[derive(Debug)]
struct Account {
    id: SegmentId,
    /// One past the sequence number of its last entry.
    end: u64,
    /// Live bodies by holder.
    live: HashMap<u64, u32>,
    /// Current values of the state table.
    values: BTreeSet<Vec<u8>>,
    /// First sequence numbers of older segments that this one takes something back from.
    takes_back_from: BTreeSet<u64>,
}

impl Ledger {
    /// A segment begins.
    pub(crate) fn begin(&mut self, id: SegmentId, first_sequence: u64) {
        let account = Account {
            id,
            end: first_sequence,
            live: HashMap::new(),
            values: BTreeSet::new(),
            takes_back_from: BTreeSet::new(),
        };
        self.segments.insert(first_sequence, account);
    }

    /// A segment turned out to be empty.
    pub(crate) fn forget(&mut self, first_sequence: u64) {
        self.segments.remove(&first_sequence);
    }

    /// A block was added to the last segment.
    pub(crate) fn record(&mut self, mut sequence: u64, payload: &[u8]) {
        for entry in Entries::new(payload).flatten() {
            if let Some(account) = self.last() {
                account.end = sequence + 1;
            }
            match entry {
                RawEntry::Hold(ids, _) => {
                    if let Some(account) = self.last() {
                        format::holders(ids).for_each(|holder| *account.live.entry(holder).or_default() += 1);
                    }
                }
                RawEntry::Release(hold, holder) => self.release(hold, holder),
                RawEntry::Drop(holder) => self.drop_holder(holder),
                RawEntry::Put(key, value) => {
                    self.forget_value(key);
                    self.state.insert(key.to_vec(), (sequence, value.to_vec()));
                    if let Some(account) = self.last() {
                        account.values.insert(key.to_vec());
                    }
                }
                RawEntry::Remove(key) => self.forget_value(key),
            }
            sequence += 1;
        }
    }

    fn last(&mut self) -> Option<&mut Account> {
        self.segments.last_entry().map(std::collections::btree_map::OccupiedEntry::into_mut)
    }

    /// The segment that an entry is in. When it has been removed, none is: not the one before it.
    fn segment_of(&mut self, sequence: u64) -> Option<(u64, &mut Account)> {
        let (&first, account) = self.segments.range_mut(..=sequence).next_back()?;
        (sequence < account.end).then_some((first, account))
    }

    fn release(&mut self, hold: u64, holder: u64) {
        let Some((first, account)) = self.segment_of(hold) else { return };
        let Some(count) = account.live.get_mut(&holder) else { return };
        *count -= 1;
        if *count == 0 {
            account.live.remove(&holder);
        }
        self.take_back(first);
    }

    fn drop_holder(&mut self, holder: u64) {
        let touched: Vec<u64> = self
            .segments
            .iter_mut()
            .filter_map(|(&first, account)| account.live.remove(&holder).map(|_| first))
            .collect();
        touched.into_iter().for_each(|first| self.take_back(first));
    }

    fn forget_value(&mut self, key: &[u8]) {
        let Some((sequence, _)) = self.state.remove(key) else { return };
        let Some((first, account)) = self.segment_of(sequence) else { return };
        account.values.remove(key);
        self.take_back(first);
    }

    fn take_back(&mut self, first: u64) {
        let Some(mut last) = self.segments.last_entry() else { return };
        if *last.key() != first {
            last.get_mut().takes_back_from.insert(first);
        }
    }

    /// Segments that nothing needs any more. They are forgotten here; the caller removes their files, oldest first.
    pub(crate) fn retire(&mut self) -> Vec<SegmentId> {
        let Some(&current) = self.segments.keys().next_back() else { return Vec::new() };
        let mut retired = Vec::new();
        let firsts: Vec<u64> = self.segments.keys().copied().filter(|&first| first != current).collect();
        for first in firsts {
            let account = &self.segments[&first];
            let waits = account.takes_back_from.iter().any(|older| self.segments.contains_key(older));
            if account.live.is_empty() && account.values.is_empty() && !waits {
                retired.extend(self.segments.remove(&first).map(|account| account.id));
            }
        }
        retired
    }

    /// Values that are all that keeps a sealed segment: to be appended again.
    pub(crate) fn stranded(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(&current) = self.segments.keys().next_back() else { return Vec::new() };
        let sealed = self.segments.range(..current).filter(|(_, account)| account.live.is_empty());
        let keys = sealed.flat_map(|(_, account)| &account.values);
        keys.filter_map(|key| self.state.get(key).map(|(_, value)| (key.clone(), value.clone()))).collect()
    }

    /// The state table.
    pub(crate) fn state(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut state: Vec<_> = self.state.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        state.sort();
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Entry, put_entry};

    fn id(number: u64) -> SegmentId {
        SegmentId { epoch: 1, number }
    }

    fn payload(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        entries.iter().for_each(|entry| put_entry(&mut out, entry));
        out
    }

    const HOLD: Entry<'_> = Entry::Hold { holders: &[1, 2], parts: [b"", b""] };

    #[test]
    fn a_segment_goes_with_its_last_holder() {
        let mut ledger = Ledger::default();
        ledger.begin(id(1), 1);
        ledger.record(1, &payload(&[HOLD]));
        ledger.begin(id(2), 2);
        ledger.record(2, &payload(&[Entry::Release { sequence: 1, holder: 1 }]));
        assert!(ledger.retire().is_empty());
        ledger.record(3, &payload(&[Entry::Release { sequence: 1, holder: 2 }]));
        assert_eq!(ledger.retire(), [id(1)]);
    }

    #[test]
    fn a_release_stays_as_long_as_what_it_takes_back() {
        let mut ledger = Ledger::default();
        ledger.begin(id(1), 1);
        ledger.record(1, &payload(&[HOLD]));
        ledger.begin(id(2), 2);
        ledger.record(2, &payload(&[Entry::Release { sequence: 1, holder: 1 }]));
        ledger.begin(id(3), 3);
        assert!(ledger.retire().is_empty(), "segment 1 is live, so segment 2 must stay");
        ledger.record(3, &payload(&[Entry::Drop { holder: 2 }]));
        assert_eq!(ledger.retire(), [id(1), id(2)]);
    }

    #[test]
    fn a_release_of_what_is_gone_touches_nothing_else() {
        let mut ledger = Ledger::default();
        ledger.begin(id(1), 1);
        ledger.record(1, &payload(&[HOLD]));
        // The segment with sequence number 2 has been removed; its release is read again after a restart.
        ledger.begin(id(3), 3);
        ledger.record(3, &payload(&[Entry::Release { sequence: 2, holder: 1 }]));
        ledger.record(4, &payload(&[Entry::Release { sequence: 1, holder: 2 }]));
        assert!(ledger.retire().is_empty(), "holder 1 still holds what is in segment 1");
    }

    #[test]
    fn values_are_stranded_once_the_bodies_are_gone() {
        let mut ledger = Ledger::default();
        ledger.begin(id(1), 1);
        ledger.record(1, &payload(&[Entry::Put { key: b"k", value: b"v" }]));
        assert!(ledger.stranded().is_empty(), "the current segment is not sealed");
        ledger.begin(id(2), 2);
        assert_eq!(ledger.stranded(), [(b"k".to_vec(), b"v".to_vec())]);
        ledger.record(2, &payload(&[Entry::Put { key: b"k", value: b"v" }]));
        assert!(ledger.stranded().is_empty());
        assert_eq!(ledger.retire(), [id(1)]);
        assert_eq!(ledger.state(), [(b"k".to_vec(), b"v".to_vec())]);
    }
}
