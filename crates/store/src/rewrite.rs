//! Rewriting sparse segments, so that what little is live in them does not pin the rest.
//!
//! Neighbouring segments that are mostly dead become one that holds what is left, with its sequence numbers unchanged:
//! whoever refers to it notices nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use roaring::RoaringBitmap;

use crate::{
    disk::DiskFile,
    error::ReadError,
    format::{
        BLOCK_HEADER, Entries, Entry, Fields, RawEntry, SEGMENT_HEADER, SegmentHeader, SegmentId, UNTIL_RESTART,
        content_check, hold_of, numbers, put_entry, put_skip,
    },
    index::{Facts, Gathered, Index},
    keeper::{Keeper, write_index},
    ledger::{Account, ByHolder, Dropped, Ledger, Needs},
    reader,
    segment::{self, DIRECTORY, Segment},
    store::{Options, Shared},
};

/// A segment of which less than this share is live, in percent, is sparse.
const SPARSE_PERCENT: u64 = 55;

/// What is smaller is not worth rewriting by itself.
const GAIN_BYTES: u64 = 64 * 1024;

/// So many small neighbours are merged.
const MERGE: usize = 8;

/// A rewritten block has about this many bytes.
const BLOCK_BYTES: usize = 512 * 1024;

/// How long a rewritten segment waits for a backup at a time.
const BACKUP_WAIT: Duration = Duration::from_millis(100);

const UNFINISHED: &str = "log/rewrite.new";

/// A segment to be rewritten, as it is when that begins.
struct Source {
    segment: Arc<Segment>,
    end: u64,
    needs: Needs,
    released: RoaringBitmap,
    dropped: ByHolder<Vec<Arc<Dropped>>>,
}

/// Something of a segment that stays.
enum Item {
    /// Holders with the sequence numbers that are live, offset, length.
    Hold {
        live: Vec<(u64, u64)>,
        offset: u32,
        len: usize,
    },
    Release(Vec<u64>),
    Note {
        offset: u32,
        len: usize,
    },
}

/// Rewrites the neighbours that are worth it most. Returns whether there were any.
pub(crate) fn step(keeper: &mut Keeper) -> io::Result<bool> {
    if count(keeper)? {
        return Ok(true);
    }
    // What was let go of, and up to where that is all, must be of the same moment.
    let (sources, at, horizon) = {
        let ledger = keeper.shared.ledger.lock();
        let window = choose(&ledger, &keeper.shared.options);
        let sources = window
            .iter()
            .filter_map(|first| ledger.accounts.get(first))
            .map(|account| Source::of(account, &ledger))
            .collect::<Vec<_>>();
        (sources, ledger.end, ledger.horizon)
    };
    if sources.is_empty() {
        return Ok(false);
    }
    let shared = Arc::clone(&keeper.shared);
    if let Err(error) = Rewrite::new(keeper, sources, at, horizon).and_then(Rewrite::run) {
        let _ = shared.disk.remove(UNFINISHED);
        return Err(error);
    }
    Ok(true)
}

/// Whether disk use is beyond twice what is live and four segments, of which two are the spare and the reserve.
pub(crate) fn is_over_bound(ledger: &Ledger, options: &Options) -> bool {
    let (mut disk, mut live) = (0, 0);
    for account in ledger.accounts.values() {
        disk += account.file_bytes;
        live += estimate(account);
    }
    disk > 2 * live + 2 * options.segment_bytes
}

/// Live bytes, from the last count and what was let go of since.
fn estimate(account: &Account) -> u64 {
    if account.changes == 0 {
        return account.live_bytes;
    }
    (u128::from(account.live_bytes) * u128::from(account.live) / u128::from(account.live + account.changes)) as u64
}

/// Counts the live bytes of a segment in which much has changed and nothing changes any more, or, if disk use is beyond
/// its bound, of any that has changed much.
fn count(keeper: &mut Keeper) -> io::Result<bool> {
    let chosen = {
        let mut ledger = keeper.shared.ledger.lock();
        let urgent = is_over_bound(&ledger, &keeper.shared.options) || !keeper.rests();
        let mut chosen = None;
        for account in ledger.accounts.values_mut().filter(|account| account.indexed && account.changes > 0) {
            let quiet = std::mem::replace(&mut account.noticed, account.changes) == account.changes;
            let much = account.changes * 16 > account.live;
            let stays = account.live > 0 || !account.takes_back_from.is_empty();
            if chosen.is_none() && stays && (quiet || (urgent && much)) {
                chosen = Some(account.segment.first);
            }
        }
        let account = chosen.and_then(|first| ledger.accounts.get(&first));
        account.map(|account| (Arc::clone(&account.segment), ledger.needs(account)))
    };
    let Some((segment, needs)) = chosen else { return Ok(false) };
    let index = reader::index(&keeper.shared, segment.id).map_err(into_io)?;
    let mut ledger = keeper.shared.ledger.lock();
    let horizon = ledger.horizon;
    if let Some(account) = ledger.accounts.get_mut(&segment.first).filter(|a| a.segment.id == segment.id) {
        account.recount(&index, horizon, Some(&needs));
    }
    Ok(true)
}

fn into_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io { source, .. } => source,
        ReadError::Damaged(damage) => io::Error::new(io::ErrorKind::InvalidData, damage.to_string()),
    }
}

/// The first sequence numbers of the neighbours to be rewritten next.
fn choose(ledger: &Ledger, options: &Options) -> Vec<u64> {
    let is_sparse = |account: &Account| {
        let live = account.live_bytes + SEGMENT_HEADER as u64;
        live * 100 < account.file_bytes * SPARSE_PERCENT
            && account.file_bytes - live > GAIN_BYTES.min(options.segment_bytes / 4)
    };
    let is_small = |account: &Account| account.file_bytes < options.segment_bytes / 4;
    let gain = |window: &[&Account]| window.iter().map(|a| a.file_bytes.saturating_sub(a.live_bytes)).sum::<u64>();
    let sparse = windows(ledger, options, is_sparse).into_iter().max_by_key(|window| gain(window));
    let window = sparse.or_else(|| windows(ledger, options, is_small).into_iter().find(|window| window.len() >= MERGE));
    window.unwrap_or_default().iter().map(|account| account.segment.first).collect()
}

/// Runs of neighbours that are all such and fit into one segment together.
fn windows<'a>(ledger: &'a Ledger, options: &Options, is_such: impl Fn(&Account) -> bool) -> Vec<Vec<&'a Account>> {
    let mut windows: Vec<Vec<&Account>> = Vec::new();
    let mut open = false;
    for account in ledger.accounts.values() {
        if !account.indexed || account.damaged || !is_such(account) {
            open = false;
            continue;
        }
        let fits = |window: &Vec<&Account>| {
            let live: u64 = window.iter().map(|account| account.live_bytes).sum();
            live + account.live_bytes <= options.segment_bytes
                && window.first().is_some_and(|first| account.end - first.segment.first < u64::from(u32::MAX))
        };
        match windows.last_mut() {
            Some(window) if open && fits(window) => window.push(account),
            _ => windows.push(vec![account]),
        }
        open = true;
    }
    windows
}

impl Source {
    fn of(account: &Account, ledger: &Ledger) -> Self {
        Self {
            needs: ledger.needs(account),
            segment: Arc::clone(&account.segment),
            end: account.end,
            released: account.released.clone(),
            dropped: account.dropped.clone(),
        }
    }

    fn is_gone(&self, holder: u64, relative: u32) -> bool {
        let sequence = self.segment.first + u64::from(relative);
        self.released.contains(relative)
            || self.dropped.get(&holder).is_some_and(|drops| drops.iter().any(|dropped| dropped.concerns(sequence)))
    }
}

struct Rewrite<'k> {
    keeper: &'k mut Keeper,
    shared: Arc<Shared>,
    sources: Vec<Source>,
    target: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// One past the last sequence number that it stands for.
    end: u64,
    /// What had been recorded when it began.
    at: u64,
    horizon: u64,
    block: Vec<u8>,
    block_first: u64,
    count: u32,
    /// The sequence number that the next entry of the block has by itself.
    next: u64,
    gathered: Gathered,
    last_note: u64,
    takes_back_from: BTreeSet<u64>,
}

impl<'k> Rewrite<'k> {
    fn new(keeper: &'k mut Keeper, sources: Vec<Source>, at: u64, horizon: u64) -> io::Result<Self> {
        let shared = Arc::clone(&keeper.shared);
        let ids = || sources.iter().map(|source| source.segment.id);
        let id = SegmentId {
            first: ids().map(|id| id.first).min().unwrap_or_default(),
            number: ids().map(|id| id.number).max().unwrap_or_default(),
            generation: ids().map(|id| id.generation).max().unwrap_or_default() + 1,
            epoch: shared.epoch,
        };
        let first = sources.first().map_or(0, |source| source.segment.first);
        let header = SegmentHeader {
            first_sequence: first,
            end_sequence: sources.last().map_or(0, |source| source.end),
            pruned_at: at,
            salt: 0,
            wrapped_key: None,
        };
        let (target, header) = Segment::prepare(&*shared.disk, &shared.options.keys, id, header)?;
        let file = shared.disk.create(UNFINISHED)?;
        file.write_all_at(&id.header(&header), 0)?;
        Ok(Self {
            keeper,
            shared,
            sources,
            target: Arc::new(target),
            file,
            offset: SEGMENT_HEADER as u64,
            end: header.end_sequence,
            at,
            horizon,
            block: Vec::new(),
            block_first: first,
            count: 0,
            next: first,
            gathered: Gathered::default(),
            last_note: 0,
            takes_back_from: BTreeSet::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        for source in std::mem::take(&mut self.sources) {
            let copied = self.copy(&source);
            self.sources.push(source);
            if let Err(error) = copied {
                self.give_up(&error);
                return Err(error);
            }
        }
        self.sources.sort_by_key(|source| source.segment.first);
        self.flush()?;
        self.file.sync()?;
        self.finish()
    }

    /// A source that cannot be read is left alone from now on: `doctor` tells more about it.
    fn give_up(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData
            && let Some(source) = self.sources.last()
            && let Some(account) = self.shared.ledger.lock().accounts.get_mut(&source.segment.first)
        {
            account.damaged = true;
        }
    }

    fn copy(&mut self, source: &Source) -> io::Result<()> {
        let index = reader::index(&self.shared, source.segment.id).map_err(into_io)?;
        let file = self.shared.disk.open(&source.segment.id.file_name())?;
        let mut window = Window { file, start: 0, bytes: Vec::new() };
        for (sequence, item) in self.items(source, &index) {
            match item {
                Item::Hold { live, offset, len } => {
                    let bytes = window.get(offset, len)?;
                    let (sequence, entry) = held(&source.segment, bytes, &live, offset)?;
                    self.put_hold(&source.segment, sequence, &entry, &live)?;
                }
                Item::Release(holds) => self.put(sequence, &Entry::Release { holder: 0, sequences: &holds })?,
                Item::Note { offset, len } => {
                    let bytes = window.get(offset, len)?.to_vec();
                    self.put_note(source, sequence, &bytes, offset)?;
                }
            }
        }
        Ok(())
    }

    /// What of a source stays, by sequence number.
    fn items(&mut self, source: &Source, index: &Index) -> Vec<(u64, Item)> {
        let first = source.segment.first;
        let mut holds: BTreeMap<u32, (Vec<(u64, u64)>, usize)> = BTreeMap::new();
        for (holder, places) in index.groups() {
            for place in places.iter().filter(|place| !source.is_gone(holder, place.relative)) {
                let (live, _) = holds.entry(place.offset).or_insert_with(|| (Vec::new(), place.len()));
                live.push((holder, first + u64::from(place.relative)));
            }
        }
        let mut items: Vec<(u64, Item)> = Vec::new();
        for (offset, (mut live, len)) in holds {
            live.sort_by_key(|(_, sequence)| *sequence);
            items.push((live[0].1, Item::Hold { live, offset, len }));
        }
        let mut releases: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (relative, hold) in index.releases.iter() {
            let at = first + u64::from(relative);
            // What is rewritten together needs nothing from each other.
            let older = source.needs.get(at, hold).filter(|older| !(self.target.first..self.end).contains(older));
            if let Some(older) = older {
                self.takes_back_from.insert(older);
                releases.entry(at).or_default().push(hold);
            }
        }
        items.extend(releases.into_iter().map(|(at, holds)| (at, Item::Release(holds))));
        for place in &index.notes {
            items.push((first + u64::from(place.relative), Item::Note { offset: place.offset, len: place.len() }));
        }
        items.sort_by_key(|(sequence, _)| *sequence);
        items
    }

    /// Keeps a hold for those that have not let go.
    fn put_hold(&mut self, from: &Segment, sequence: u64, entry: &RawEntry<'_>, live: &[(u64, u64)]) -> io::Result<()> {
        let Fields::Hold(holders, _, data) = entry.fields else { return Ok(()) };
        let data = from.decrypt(sequence, 1, data).ok_or_else(|| invalid("a body cannot be decrypted"))?;
        let holders: Vec<u64> = numbers(holders)
            .enumerate()
            .map(|(at, holder)| {
                let stays = live.iter().any(|&(live, s)| live == holder & !UNTIL_RESTART && s == sequence + at as u64);
                if stays { holder } else { 0 }
            })
            .collect();
        self.put(sequence, &Entry::Hold { holders: &holders, parts: [&data, b""] })
    }

    /// Keeps a drop that still has an effect, and what the snapshot of the state table does not have.
    fn put_note(&mut self, source: &Source, sequence: u64, bytes: &[u8], offset: u32) -> io::Result<()> {
        let entry = Entries::new(bytes, sequence, false).next().and_then(Result::ok).filter(RawEntry::is_intact);
        let Some(entry) = entry else {
            return Err(invalid(&format!(
                "{} at offset {offset}: an entry is not valid",
                source.segment.id.file_name()
            )));
        };
        match entry.fields {
            Fields::Drop(holder, (from, before), _, list) => {
                let concerned: Vec<u64> = {
                    let ledger = self.shared.ledger.lock();
                    let older = ledger.accounts.range(..self.target.first);
                    let is_it = |a: &Account| {
                        a.dropped.get(&holder).is_some_and(|drops| drops.iter().any(|drop| drop.at == sequence))
                    };
                    older.filter(|(_, account)| is_it(account)).map(|(&first, _)| first).collect()
                };
                if concerned.is_empty() {
                    return Ok(());
                }
                self.takes_back_from.extend(concerned);
                self.put(sequence, &Entry::Drop { holder, from, before, except: &numbers(list).collect::<Vec<_>>() })
            }
            Fields::Put(key_len, _, data) if sequence >= self.horizon => {
                self.last_note = sequence;
                let data =
                    source.segment.decrypt(sequence, 4, data).ok_or_else(|| invalid("a value cannot be decrypted"))?;
                let (key, value) = data.split_at(key_len.min(data.len()));
                self.put(sequence, &Entry::Put { key, value })
            }
            Fields::Remove(_, _, data) if sequence >= self.horizon => {
                self.last_note = sequence;
                let key =
                    source.segment.decrypt(sequence, 5, data).ok_or_else(|| invalid("a key cannot be decrypted"))?;
                self.put(sequence, &Entry::Remove { key: &key })
            }
            Fields::Inventory(_, list) => {
                let newest = self.shared.ledger.lock().inventory.as_ref().is_some_and(|(at, _)| *at == sequence);
                let list: Vec<_> = crate::format::pairs(list).collect();
                if newest { self.put(sequence, &Entry::Inventory(&list)) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, sequence: u64, entry: &Entry<'_>) -> io::Result<()> {
        if self.block.is_empty() {
            self.block.resize(BLOCK_HEADER, 0);
            self.block_first = sequence;
        } else if sequence != self.next {
            put_skip(&mut self.block, sequence);
        }
        let room = if self.target.cipher.is_some() { crate::cipher::TAG_LEN } else { 0 };
        put_entry(&mut self.block, entry, sequence, content_check(entry), room);
        self.next = sequence + entry.sequences();
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let (first, target) = (self.block_first, Arc::clone(&self.target));
        target.encrypt(&mut self.block[BLOCK_HEADER..], first);
        target.id.seal_block(target.salt, &mut self.block, first, first, std::mem::take(&mut self.count));
        self.file.write_all_at(&self.block, self.offset)?;
        let base = self.offset + BLOCK_HEADER as u64;
        for entry in Entries::new(&self.block[BLOCK_HEADER..], first, true).flatten() {
            self.gathered.add(target.first, base, &entry);
        }
        let written = self.block.len() as u64;
        self.offset += written;
        self.block.clear();
        // Synced in pieces, so that the log's own syncs never wait for all of it.
        self.file.sync()?;
        self.keeper.rest_after(written);
        self.keeper.tend().map(drop)
    }

    /// Puts the new segment in the place of its sources.
    fn finish(mut self) -> io::Result<()> {
        let facts = Facts {
            id: self.target.id,
            first: self.target.first,
            end: self.end,
            valid_bytes: self.offset,
            pruned_at: self.at,
        };
        let index = std::mem::take(&mut self.gathered).index(facts, |_, _| false);
        let shared = Arc::clone(&self.shared);
        // While a backup is made, segments that were filled meanwhile still need their indexes.
        let _files = loop {
            match shared.files.try_lock_for(BACKUP_WAIT) {
                Some(files) => break files,
                None => self.keeper.tend()?,
            };
        };
        shared.make_safe(self.at)?;
        write_index(&shared, &index)?;
        let name = self.target.id.file_name();
        shared.disk.rename(UNFINISHED, &name)?;
        // If it is not known which of the two will be found at the next start, nothing right can be written any more.
        shared.disk.sync_directory(DIRECTORY).map_err(|source| shared.fail_at(&name, source))?;
        {
            let mut ledger = shared.ledger.lock();
            let account = self.account(&mut ledger, &index);
            ledger.replace(account, self.at);
        }
        for source in self.sources {
            shared.indexes.lock().forget(source.segment.id);
            // Only the keeper and this rewriting know of it now, unless somebody is reading it.
            let alone = Arc::strong_count(&source.segment) == 1;
            let _ = segment::remove(&*shared.disk, source.segment.id, alone.then_some(shared.options.segment_bytes));
        }
        segment::sync_removals(&*shared.disk)
    }

    /// The account of the new segment: that of its sources, less what is not in it.
    fn account(&mut self, ledger: &mut Ledger, index: &Index) -> Account {
        let mut account = Account::new(Arc::clone(&self.target), self.offset + index.file_bytes());
        account.end = index.facts.end;
        account.valid_bytes = index.facts.valid_bytes;
        account.pruned_at = self.at;
        account.gathered = None;
        account.indexed = true;
        account.last_note = self.last_note;
        account.takes_back_from = std::mem::take(&mut self.takes_back_from);
        for source in &self.sources {
            let Some(old) = ledger.accounts.remove(&source.segment.first) else { continue };
            for (holder, drops) in old.dropped {
                let later = drops.into_iter().filter(|dropped| dropped.at >= self.at);
                account.dropped.entry(holder).or_default().extend(later);
            }
            let shift = (source.segment.first - self.target.first) as u32;
            account.released.extend((&old.released - &source.released).iter().map(|relative| relative + shift));
        }
        account.dropped.retain(|_, drops| !drops.is_empty());
        account.recount(index, ledger.horizon, None);
        account.changes = 0;
        account
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// The hold in `bytes` and its first sequence number, if it is what was written.
fn held<'b>(segment: &Segment, bytes: &'b [u8], live: &[(u64, u64)], offset: u32) -> io::Result<(u64, RawEntry<'b>)> {
    let entry = live.first().and_then(|&(holder, sequence)| hold_of(bytes, holder, sequence));
    let entry = entry.filter(RawEntry::is_intact);
    let damage =
        || invalid(&format!("{} at offset {offset}: a message is not what was written", segment.id.file_name()));
    entry.map(|entry| (entry.sequence, entry)).ok_or_else(damage)
}

/// A part of a file, read ahead.
struct Window {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn get(&mut self, offset: u32, len: usize) -> io::Result<&[u8]> {
        let offset = u64::from(offset);
        if offset < self.start || offset + len as u64 > self.start + self.bytes.len() as u64 {
            self.bytes.clear();
            self.bytes.resize(len.max(256 * 1024), 0);
            let read = self.file.read_full_at(&mut self.bytes, offset)?;
            self.bytes.truncate(read.max(len));
            self.start = offset;
        }
        Ok(&self.bytes[(offset - self.start) as usize..][..len])
    }
}
