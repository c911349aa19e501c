//! The thread that tidies up behind the writer: it makes files ready, writes the indexes of sealed segments and the
//! snapshot of the state table, removes what nobody needs and has sparse segments rewritten.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use roaring::RoaringBitmap;

use crate::{
    disk::{Disk, replace},
    format::{Entry, SegmentId},
    index::{Facts, Gathered, Index},
    ledger::{Account, Ledger},
    rewrite,
    segment::{self, Segment},
    snapshot,
    store::{Durability, Sealed, Shared},
    writer::Step,
};

/// How long the keeper rests when nothing calls it.
const REST: Duration = Duration::from_millis(500);

/// Puts and removes are gathered up to this many bytes before they are brought into a snapshot.
const NOTES_BYTES: u64 = 1024 * 1024;

/// Tidies up.
pub struct Keeper {
    pub(crate) shared: Arc<Shared>,
    /// Segments that go once an inventory without them is safe.
    removals: Vec<Removal>,
    /// Bytes of puts and removes that make the next snapshot due.
    snapshot_due: u64,
    pace: Pace,
    trouble: Option<String>,
}

struct Removal {
    /// The inventory's sequence number.
    after: u64,
    accounts: Vec<Account>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, removals: Vec::new(), snapshot_due: NOTES_BYTES, pace: Pace::default(), trouble: None }
    }

    /// Runs until the store is closed.
    pub(crate) fn run(mut self) {
        self.pace.rests = true;
        while !self.shared.is_closed() {
            match self.step() {
                Step::Done => {}
                _ => self.shared.wait_for_keeper(REST),
            }
        }
    }

    /// Does one thing.
    pub fn step(&mut self) -> Step {
        match self.attempt() {
            Ok(done) => {
                if done {
                    self.trouble = None;
                }
                if done { Step::Done } else { Step::Idle }
            }
            Err(trouble) => {
                // The same trouble is told once, not twice a second.
                let text = trouble.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    (self.shared.hooks.on_trouble)(text.clone());
                    self.trouble = Some(text);
                }
                Step::Stalled
            }
        }
    }

    fn attempt(&mut self) -> io::Result<bool> {
        if self.retire() || self.tend()? || self.snapshot()? {
            return Ok(true);
        }
        // Until it is committed that a segment goes, what takes back from it must stay.
        Ok(self.removals.is_empty() && rewrite::step(self)?)
    }

    /// What cannot wait: a file for the next segment, indexes, and removing what is not needed.
    pub(crate) fn tend(&mut self) -> io::Result<bool> {
        let removed = self.remove()?;
        // Not earlier: a segment that is no longer needed may become the spare.
        if self.shared.spare_due.load(Ordering::Relaxed) {
            let large = self.shared.large.load(Ordering::Relaxed);
            segment::prepare_spare(&*self.shared.disk, self.shared.options.segment_bytes, large)?;
        }
        let has_reserve = segment::prepare_reserve(&*self.shared.disk, self.shared.options.segment_bytes)?;
        if has_reserve && self.shared.full.swap(false, Ordering::Relaxed) {
            self.shared.update_congestion();
        }
        Ok(self.index()? || removed)
    }

    /// Writes the index of the oldest segment that has none.
    fn index(&mut self) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let Some((segment, index, left_out)) = self.make_index() else { return Ok(false) };
        let written = shared.make_safe(index.facts.pruned_at).and_then(|()| write_index(&shared, &index));
        if let Err(error) = written {
            // The segment is read as a whole at the next start; now it has to be tried again.
            let mut ledger = shared.ledger.lock();
            if let Some(account) = ledger.accounts.get_mut(&segment.first) {
                account.gathered = Some(Gathered::from_index(&index));
            }
            return Err(error);
        }
        let sealed = Sealed { end: index.facts.end, holders: holders(&index) };
        let size = shared.disk.open(&segment.id.file_name()).and_then(|file| file.size()).unwrap_or_default();
        {
            let mut ledger = shared.ledger.lock();
            ledger.pruned(segment.first, index.facts.pruned_at, &left_out);
            let horizon = ledger.horizon;
            if let Some(account) = ledger.accounts.get_mut(&segment.first) {
                account.indexed = true;
                account.file_bytes = size + index.file_bytes();
                account.recount(&index, horizon, None);
            }
        }
        shared.update_congestion();
        (shared.hooks.on_sealed)(sealed);
        Ok(true)
    }

    fn make_index(&mut self) -> Option<(Arc<Segment>, Index, RoaringBitmap)> {
        let mut ledger = self.shared.ledger.lock();
        let pruned_at = ledger.end;
        let current = *ledger.accounts.keys().next_back()?;
        let account = ledger.accounts.range_mut(..current).map(|(_, account)| account).find(|a| needs_index(a))?;
        // What consumers are just about to empty needs no index: only what is still there the next time gets one.
        if !account.rested && account.live < account.holds / 4 {
            account.rested = true;
            return None;
        }
        let gathered = account.gathered.take()?;
        let facts = Facts {
            id: account.segment.id,
            first: account.segment.first,
            end: account.end,
            valid_bytes: account.valid_bytes,
            pruned_at,
        };
        let mut left_out = RoaringBitmap::new();
        let index = gathered.index(facts, |holder, place| {
            let gone = account.is_gone(holder, place);
            if gone {
                left_out.insert(place.relative);
            }
            gone
        });
        Some((Arc::clone(&account.segment), index, left_out))
    }

    /// Takes superfluous segments out of the account; their files go once that is committed.
    fn retire(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let Some(_files) = shared.files.try_lock() else { return false };
        let (accounts, numbers) = {
            let mut ledger = self.shared.ledger.lock();
            let accounts = ledger.retire();
            (accounts, ledger.numbers())
        };
        if accounts.is_empty() {
            return false;
        }
        self.shared.update_congestion();
        let after = self.shared.append(&[Entry::Inventory(&numbers)], Durability::Fsync);
        self.removals.push(Removal { after, accounts });
        true
    }

    fn remove(&mut self) -> io::Result<bool> {
        let safe = self.shared.safe.load(Ordering::Acquire);
        let Some(at) = self.removals.iter().position(|removal| removal.after < safe) else { return Ok(false) };
        let Some(_files) = self.shared.files.try_lock() else { return Ok(false) };
        for account in self.removals.swap_remove(at).accounts {
            // While somebody still reads the file it must not get other content.
            let alone = Arc::strong_count(&account.segment) == 1;
            let recycle = alone.then_some(self.shared.options.segment_bytes);
            // A file that stays is found to be superfluous at the next start.
            let _ = segment::remove(&*self.shared.disk, account.segment.id, recycle);
        }
        segment::sync_removals(&*self.shared.disk)?;
        Ok(true)
    }

    /// Writes the state table, if enough of it has changed or changes are all that keeps a segment.
    fn snapshot(&mut self) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let Some(_files) = shared.files.try_lock() else { return Ok(false) };
        let (horizon, table, bytes) = {
            let ledger = self.shared.ledger.lock();
            let due = ledger.note_bytes >= self.snapshot_due
                || (self.snapshot_due <= NOTES_BYTES && ledger.note_bytes > 0 && notes_pin(&ledger));
            if !due {
                return Ok(false);
            }
            (ledger.end, ledger.state.clone(), ledger.note_bytes)
        };
        // The table has everything that was committed, and nothing else, because the ledger records after the commit.
        self.shared.make_safe(horizon)?;
        let size: usize = table.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        snapshot::write(&*self.shared.disk, &self.shared.options.keys, horizon, &table)?;
        self.snapshot_due = NOTES_BYTES.max(size as u64);
        let mut ledger = self.shared.ledger.lock();
        ledger.horizon = horizon;
        ledger.note_bytes = ledger.note_bytes.saturating_sub(bytes);
        Ok(true)
    }

    /// Whether it takes its time: it runs on its own thread.
    pub(crate) fn rests(&self) -> bool {
        self.pace.rests
    }

    /// Waits so that rewriting stays within its rate, unless disk use is beyond its bound.
    pub(crate) fn rest_after(&mut self, bytes: u64) {
        self.shared.rewritten_bytes.fetch_add(bytes, Ordering::Relaxed);
        let rate = self.shared.options.rewrite_bytes_per_second;
        if self.pace.rests && rate > 0 && !rewrite::is_over_bound(&self.shared.ledger.lock(), &self.shared.options) {
            self.pace.rest(bytes, rate, &self.shared);
        }
    }
}

/// Whether a segment stays, for its bodies, for what it takes back or for its notes, and has no index yet.
fn needs_index(account: &Account) -> bool {
    account.gathered.is_some() && (account.live > 0 || !account.takes_back_from.is_empty() || account.last_note > 0)
}

/// Whether a sealed segment stays for its notes alone.
fn notes_pin(ledger: &Ledger) -> bool {
    let sealed = ledger.accounts.values().rev().skip(1);
    sealed.filter(|account| account.live == 0 && account.last_note >= ledger.horizon.max(1)).count() > 0
}

fn holders(index: &Index) -> Vec<(u64, Vec<u64>)> {
    let first = index.facts.first;
    let mut holders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (holder, places) in index.groups() {
        holders.entry(holder).or_default().extend(places.iter().map(|place| first + u64::from(place.relative)));
    }
    holders.into_iter().collect()
}

/// Writes an index in one piece or not at all.
pub(crate) fn write_index(shared: &Shared, index: &Index) -> io::Result<()> {
    write_index_on(&*shared.disk, index.facts.id, &index.encode())
}

/// The same, before there is a store.
pub(crate) fn write_index_on(disk: &dyn Disk, id: SegmentId, bytes: &[u8]) -> io::Result<()> {
    replace(disk, &id.index_name(), bytes)
}

/// A rate, kept by resting.
#[derive(Debug, Default)]
struct Pace {
    rests: bool,
    ahead_until: Option<Instant>,
}

impl Pace {
    fn rest(&mut self, bytes: u64, rate: u64, shared: &Shared) {
        let now = Instant::now();
        let until = self.ahead_until.filter(|until| *until > now).unwrap_or(now)
            + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.ahead_until = Some(until);
        while let Some(left) = until.checked_duration_since(Instant::now())
            && !left.is_zero()
            && !shared.is_closed()
        {
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
