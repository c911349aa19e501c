//! The account of the segments: what in them is still needed.
//!
//! A segment is needed while it holds a live body, a note that the snapshot of the state table does not contain, or a
//! release or drop of something that an older segment still has: without it, the body would rise again at the next start.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
    ops::Range,
    sync::Arc,
};

use roaring::RoaringBitmap;

use crate::{
    format::{Entries, Fields, RawEntry, UNTIL_RESTART, numbers, pairs},
    index::{Gathered, Index, Place},
    segment::Segment,
    snapshot::Table,
};

/// The account of all segments, by the sequence number of their first entry.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) accounts: BTreeMap<u64, Account>,
    pub(crate) state: Table,
    /// Puts and removes before this sequence number are in the snapshot.
    pub(crate) horizon: u64,
    /// Bytes of puts and removes that are not.
    pub(crate) note_bytes: u64,
    /// One past the last sequence number recorded.
    pub(crate) end: u64,
    /// The newest inventory: where it is, and what it lists.
    pub(crate) inventory: Option<(u64, Vec<(u64, u64)>)>,
}

/// A table by holder.
pub(crate) type ByHolder<T> = HashMap<u64, T, BuildHasherDefault<HolderHasher>>;

/// Hashes holders, which count up and which nobody outside chooses, in next to no time.
#[derive(Debug, Default)]
pub(crate) struct HolderHasher(u64);

impl Hasher for HolderHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(number) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// What a holder keeps of what it let go of.
#[derive(Debug)]
pub(crate) struct Dropped {
    /// The drop's sequence number.
    pub(crate) at: u64,
    /// It lets go of what is between these two.
    pub(crate) range: Range<u64>,
    /// The holds in between that it keeps, in order.
    pub(crate) except: Vec<u64>,
}

impl Dropped {
    /// Whether it lets go of a hold.
    pub(crate) fn concerns(&self, sequence: u64) -> bool {
        self.range.contains(&sequence) && self.except.binary_search(&sequence).is_err()
    }
}

/// The account of one segment.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) segment: Arc<Segment>,
    /// One past the sequence number of its last entry.
    pub(crate) end: u64,
    /// Bytes of its file and its index.
    pub(crate) file_bytes: u64,
    /// Where its valid blocks end.
    pub(crate) valid_bytes: u64,
    /// What was let go of before this sequence number is not in the index any more.
    pub(crate) pruned_at: u64,
    /// Live holds by holder, zero for those that have let go since the index was made.
    pub(crate) holders: ByHolder<u32>,
    /// Live holds.
    pub(crate) live: u64,
    /// Holds that were ever in it.
    pub(crate) holds: u64,
    /// Whether the keeper has seen it without an index before.
    pub(crate) rested: bool,
    /// Holds that were let go of, by sequence number less the first.
    pub(crate) released: RoaringBitmap,
    /// Holders that let go of much at once.
    pub(crate) dropped: ByHolder<Vec<Arc<Dropped>>>,
    /// The sequence number of its last put or remove.
    pub(crate) last_note: u64,
    /// First sequence numbers of older segments that it takes something back from.
    pub(crate) takes_back_from: BTreeSet<u64>,
    /// The places of its entries, until its index is written.
    pub(crate) gathered: Option<Gathered>,
    /// Whether its index is written.
    pub(crate) indexed: bool,
    /// Holds let go of since its live bytes were counted last.
    pub(crate) changes: u64,
    /// How many there were when the keeper looked last.
    pub(crate) noticed: u64,
    /// Bytes that rewriting would leave, as counted last.
    pub(crate) live_bytes: u64,
    /// Whether something in it could not be read.
    pub(crate) damaged: bool,
}

impl Account {
    pub(crate) fn new(segment: Arc<Segment>, file_bytes: u64) -> Self {
        Self {
            end: segment.first,
            segment,
            file_bytes,
            valid_bytes: 0,
            pruned_at: 0,
            holders: ByHolder::default(),
            live: 0,
            holds: 0,
            rested: false,
            released: RoaringBitmap::new(),
            dropped: ByHolder::default(),
            last_note: 0,
            takes_back_from: BTreeSet::new(),
            gathered: Some(Gathered::default()),
            indexed: false,
            changes: 0,
            noticed: 0,
            live_bytes: 0,
            damaged: false,
        }
    }

    /// Counts anew what is live.
    pub(crate) fn recount(&mut self, index: &Index, horizon: u64, needs: Option<&Needs>) {
        let count = |(holder, places): (u64, &[Place])| {
            let live = places.iter().filter(|&&place| !self.is_gone(holder, place)).count() as u32;
            (holder, live)
        };
        self.holders = index.groups().map(count).collect();
        self.live = self.holders.values().map(|&live| u64::from(live)).sum();
        let takes_back = !self.takes_back_from.is_empty();
        // As long as it is not known which of its releases are needed, all of them count.
        self.changes = u64::from(takes_back && needs.is_none() && !index.releases.is_empty());
        let first = self.segment.first;
        let is_needed = |relative: u32, hold| {
            takes_back && needs.is_none_or(|needs| needs.get(first + u64::from(relative), hold).is_some())
        };
        let notes = if takes_back || self.last_note >= horizon.max(1) { index.note_bytes() } else { 0 };
        let holds = index.hold_bytes(|holder, place| self.is_gone(holder, place));
        self.live_bytes = holds + notes + index.release_bytes(is_needed);
    }

    /// Nothing needs to be taken back from an older segment any more.
    fn no_more_from(&mut self, older: u64) {
        if self.takes_back_from.remove(&older) {
            self.changes += 1;
        }
    }

    /// Whether a hold has been let go of.
    pub(crate) fn is_gone(&self, holder: u64, place: Place) -> bool {
        self.released.contains(place.relative)
            || self.is_dropped(holder, self.segment.first + u64::from(place.relative))
    }

    fn is_dropped(&self, holder: u64, sequence: u64) -> bool {
        self.dropped.get(&holder).is_some_and(|drops| drops.iter().any(|dropped| dropped.concerns(sequence)))
    }
}

/// What a segment takes back from older ones, as it was at some moment.
pub(crate) struct Needs(BTreeMap<u64, Need>);

struct Need {
    end: u64,
    pruned_at: u64,
    released: RoaringBitmap,
}

impl Needs {
    /// The older segment in which the release of a hold by the entry `at` has an effect.
    pub(crate) fn get(&self, at: u64, hold: u64) -> Option<u64> {
        let (&first, need) = self.0.range(..=hold).next_back()?;
        let is_effective = hold < need.end && at >= need.pruned_at && need.released.contains((hold - first) as u32);
        is_effective.then_some(first)
    }
}

impl Ledger {
    /// What a segment takes back from older ones.
    pub(crate) fn needs(&self, account: &Account) -> Needs {
        let older = account.takes_back_from.iter().filter_map(|first| Some((*first, self.accounts.get(first)?)));
        let need = |old: &Account| Need { end: old.end, pruned_at: old.pruned_at, released: old.released.clone() };
        Needs(older.map(|(first, account)| (first, need(account))).collect())
    }

    /// A segment begins.
    pub(crate) fn begin(&mut self, segment: Arc<Segment>, file_bytes: u64) {
        self.accounts.insert(segment.first, Account::new(segment, file_bytes));
    }

    /// A block was added to the last segment, with its entries at `base`.
    pub(crate) fn record(&mut self, base: u64, payload: &[u8], first_sequence: u64) {
        for entry in Entries::new(payload, first_sequence, false).flatten() {
            self.record_entry(base, &entry);
        }
    }

    fn record_entry(&mut self, base: u64, entry: &RawEntry<'_>) {
        let sequence = entry.sequence;
        self.end = sequence + entry.fields.sequences();
        let end = self.end;
        let Some(account) = self.last() else { return };
        account.end = end;
        account.valid_bytes = base + (entry.offset + entry.len) as u64;
        let first = account.segment.first;
        if let Some(gathered) = &mut account.gathered {
            gathered.add(first, base, entry);
        }
        match entry.fields {
            Fields::Hold(holders, ..) => {
                for holder in numbers(holders) {
                    *account.holders.entry(holder & !UNTIL_RESTART).or_default() += 1;
                    account.live += 1;
                    account.holds += 1;
                }
            }
            Fields::Release(holder, list) => numbers(list).for_each(|hold| self.release(sequence, holder, hold)),
            Fields::Drop(holder, (from, before), _, list) => {
                self.drop_holder(sequence, holder, from..before, numbers(list).collect());
            }
            Fields::Put(key_len, _, data) => {
                let segment = Arc::clone(&account.segment);
                let Some(data) = segment.decrypt(sequence, 4, data) else { return };
                let (key, value) = data.split_at(key_len.min(data.len()));
                self.note(sequence, entry.len, key, Some(value));
            }
            Fields::Remove(_, _, data) => {
                let segment = Arc::clone(&account.segment);
                let Some(key) = segment.decrypt(sequence, 5, data) else { return };
                self.note(sequence, entry.len, &key, None);
            }
            Fields::Inventory(_, list) => self.inventory = Some((sequence, pairs(list).collect())),
        }
    }

    /// A change of the state table, in the last segment.
    fn note(&mut self, sequence: u64, len: usize, key: &[u8], value: Option<&[u8]>) {
        self.apply_note(sequence, len, key, value);
        if let Some(account) = self.last() {
            account.last_note = sequence;
        }
    }

    /// Applies a change of the state table, unless the snapshot contains it.
    pub(crate) fn apply_note(&mut self, sequence: u64, len: usize, key: &[u8], value: Option<&[u8]>) {
        if sequence < self.horizon {
            return;
        }
        self.note_bytes += len as u64;
        match value {
            Some(value) => drop(self.state.insert(key.to_vec(), value.to_vec())),
            None => drop(self.state.remove(key)),
        }
    }

    fn last(&mut self) -> Option<&mut Account> {
        self.accounts.last_entry().map(std::collections::btree_map::OccupiedEntry::into_mut)
    }

    /// The account of the segment that an entry is in, unless it has been removed.
    fn account_of(&mut self, sequence: u64) -> Option<&mut Account> {
        let (_, account) = self.accounts.range_mut(..=sequence).next_back()?;
        (sequence < account.end).then_some(account)
    }

    /// Marks a hold as let go of by the entry `at`. Returns its segment's first sequence number if that matters there.
    pub(crate) fn mark_released(&mut self, at: u64, hold: u64) -> Option<&mut Account> {
        let account = self.account_of(hold).filter(|account| at >= account.pruned_at)?;
        account.released.insert((hold - account.segment.first) as u32).then_some(account)
    }

    fn release(&mut self, at: u64, holder: u64, hold: u64) {
        let Some(account) = self.mark_released(at, hold) else { return };
        if !account.is_dropped(holder, hold)
            && let Some(live) = account.holders.get_mut(&holder)
        {
            *live = live.saturating_sub(1);
            account.live = account.live.saturating_sub(1);
            account.changes += 1;
        }
        let first = account.segment.first;
        self.take_back(first);
    }

    /// Lets a holder go, by the entry `at`, of everything in a range but `except`. Returns the segments that this
    /// concerns.
    pub(crate) fn mark_dropped(&mut self, at: u64, holder: u64, range: Range<u64>, mut except: Vec<u64>) -> Vec<u64> {
        except.sort_unstable();
        let range = range.start.min(at)..range.end.min(at);
        let end = range.end;
        let dropped = Arc::new(Dropped { at, range, except });
        let mut concerned = Vec::new();
        for (&first, account) in self.accounts.range_mut(..end) {
            if account.end <= dropped.range.start {
                continue;
            }
            if at >= account.pruned_at && account.holders.contains_key(&holder) {
                account.dropped.entry(holder).or_default().push(Arc::clone(&dropped));
                concerned.push(first);
            }
        }
        concerned
    }

    fn drop_holder(&mut self, at: u64, holder: u64, range: Range<u64>, except: Vec<u64>) {
        for first in self.mark_dropped(at, holder, range, except) {
            let Some(account) = self.accounts.get_mut(&first) else { continue };
            let Some(dropped) = account.dropped.get(&holder).and_then(|drops| drops.last()) else { continue };
            // What a drop in the middle of a segment leaves there is not known without its index, so that is counted
            // as live until the segment is looked at: too much is kept for a while, never too little.
            let kept = if dropped.range.start > first || dropped.range.end < account.end.min(at) {
                account.holders.get(&holder).copied().unwrap_or_default()
            } else {
                let kept = dropped.except.iter().filter(|&&hold| hold >= first && hold < account.end);
                kept.filter(|&&hold| !account.released.contains((hold - first) as u32)).count() as u32
            };
            if let Some(live) = account.holders.get_mut(&holder) {
                let gone = u64::from(live.saturating_sub(kept));
                *live = kept.min(*live);
                account.live = account.live.saturating_sub(gone);
                account.changes += gone.max(1);
            }
            self.take_back(first);
        }
    }

    fn take_back(&mut self, first: u64) {
        if let Some(last) = self.last()
            && last.segment.first != first
        {
            last.takes_back_from.insert(first);
        }
    }

    /// Whether a segment is no longer needed.
    fn is_superfluous(&self, account: &Account) -> bool {
        account.live == 0
            && account.last_note < self.horizon.max(1)
            && !account.takes_back_from.iter().any(|older| self.accounts.contains_key(older))
    }

    /// Takes the segments that nothing needs any more out of the account, oldest first.
    pub(crate) fn retire(&mut self) -> Vec<Account> {
        let Some(&current) = self.accounts.keys().next_back() else { return Vec::new() };
        let mut retired = Vec::new();
        let firsts: Vec<u64> = self.accounts.range(..current).filter(|(_, a)| a.live == 0).map(|(&f, _)| f).collect();
        for first in firsts {
            if self.accounts.get(&first).is_some_and(|account| self.is_superfluous(account)) {
                retired.extend(self.accounts.remove(&first));
            }
        }
        for account in &retired {
            self.accounts.values_mut().for_each(|other| other.no_more_from(account.segment.first));
        }
        retired
    }

    /// The numbers of all segments, as pairs of first and last.
    pub(crate) fn numbers(&self) -> Vec<(u64, u64)> {
        let mut pairs: Vec<(u64, u64)> = Vec::new();
        for account in self.accounts.values() {
            let id = account.segment.id;
            match pairs.last_mut() {
                Some(last) if last.1 + 1 == id.first => last.1 = id.number,
                _ => pairs.push((id.first, id.number)),
            }
        }
        pairs
    }

    /// The account of the first segment that may have entries from `sequence` on.
    pub(crate) fn from(&self, sequence: u64) -> Option<&Account> {
        let before = self.accounts.range(..=sequence).next_back().map(|(_, account)| account);
        before
            .filter(|account| sequence < account.end)
            .or_else(|| self.accounts.range(sequence..).next().map(|(_, a)| a))
    }

    /// An index was made that leaves out what was let go of before `at`: what is later than that stays marked, and what
    /// took back from this segment before that is no longer needed for it.
    pub(crate) fn pruned(&mut self, first: u64, at: u64, released: &RoaringBitmap) {
        if let Some(account) = self.accounts.get_mut(&first) {
            account.pruned_at = at;
            account.released -= released;
            account.dropped.retain(|_, drops| {
                drops.retain(|dropped| dropped.at >= at);
                !drops.is_empty()
            });
            let dropped = &account.dropped;
            account.holders.retain(|holder, live| *live > 0 || dropped.contains_key(holder));
        }
        for account in self.accounts.values_mut().filter(|account| account.end <= at) {
            account.no_more_from(first);
        }
    }

    /// A rewritten segment, made `at`, takes the place of those whose accounts have been taken out.
    pub(crate) fn replace(&mut self, account: Account, at: u64) {
        let (first, end) = (account.segment.first, account.end);
        for other in self.accounts.values_mut() {
            let within: Vec<u64> = other.takes_back_from.range(first..end).copied().collect();
            for old in &within {
                other.no_more_from(*old);
            }
            // What it took back before that is not in the new segment any more.
            if !within.is_empty() && other.end > at {
                other.takes_back_from.insert(first);
            }
        }
        self.accounts.insert(first, account);
    }
}
