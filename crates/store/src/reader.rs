//! Reading what a holder holds, a page at a time.

use std::{io, sync::Arc};

use crate::{
    disk::{DiskFile, read_all},
    error::{Damage, ReadError},
    format::{Fields, SegmentId, hold_of},
    index::{Index, Place},
    segment::Segment,
    store::Shared,
};

/// Entries that lie closer together than this are read in one go.
const GAP: u32 = 32 * 1024;

/// Most bytes read in one go.
const READ_BYTES: usize = 1024 * 1024;

/// Memory for indexes that were read.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Sequence numbers and bodies, in order.
    pub bodies: Vec<(u64, Vec<u8>)>,
    /// Where the next page begins; the end of the range if there is none.
    pub next: u64,
}

/// Indexes that were read lately.
#[derive(Debug, Default)]
pub(crate) struct IndexCache {
    indexes: Vec<Arc<Index>>,
}

impl IndexCache {
    fn get(&mut self, id: SegmentId) -> Option<Arc<Index>> {
        let at = self.indexes.iter().position(|index| index.facts.id == id)?;
        let index = self.indexes.remove(at);
        self.indexes.push(Arc::clone(&index));
        Some(index)
    }

    fn put(&mut self, index: Arc<Index>) {
        self.indexes.push(index);
        let mut bytes: usize = self.indexes.iter().map(|index| index.memory_bytes()).sum();
        while bytes > CACHE_BYTES && self.indexes.len() > 1 {
            bytes -= self.indexes.remove(0).memory_bytes();
        }
    }

    pub(crate) fn forget(&mut self, id: SegmentId) {
        self.indexes.retain(|index| index.facts.id != id);
    }
}

/// The index of a segment, from memory or from its file.
pub(crate) fn index(shared: &Shared, id: SegmentId) -> Result<Arc<Index>, ReadError> {
    if let Some(index) = shared.indexes.lock().get(id) {
        return Ok(index);
    }
    let name = id.index_name();
    let file = shared.disk.open(&name).and_then(|file| read_all(&*file));
    let bytes = file.map_err(|source| ReadError::Io { file: shared.disk.path(&name), source })?;
    let index = Index::decode(id, &bytes).map(Arc::new);
    let index = index.ok_or_else(|| damaged(shared, &name, 0, "the index is not valid"))?;
    shared.indexes.lock().put(Arc::clone(&index));
    Ok(index)
}

fn damaged(shared: &Shared, name: &str, offset: u64, problem: &str) -> ReadError {
    ReadError::Damaged(Damage { file: shared.disk.path(name), offset, problem: problem.into() })
}

/// Which of a holder's holds are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) holder: u64,
    /// The first sequence number.
    pub(crate) from: u64,
    /// One past the last.
    pub(crate) to: u64,
    /// If not empty, only these, in order.
    pub(crate) only: &'a [u64],
}

impl Wanted<'_> {
    /// The first sequence number from `from` on that is wanted; `to` if there is none.
    fn next_from(&self, from: u64) -> u64 {
        if self.only.is_empty() {
            return from;
        }
        let next = self.only.get(self.only.partition_point(|&sequence| sequence < from));
        next.map_or(self.to, |&sequence| sequence.min(self.to))
    }

    fn contains(&self, sequence: u64) -> bool {
        self.only.is_empty() || self.only.binary_search(&sequence).is_ok()
    }
}

pub(crate) fn read(shared: &Shared, wanted: Wanted<'_>, count: usize, bytes: usize) -> Result<Page, ReadError> {
    let mut page = Page { bodies: Vec::new(), next: wanted.next_from(wanted.from) };
    let mut left = bytes;
    while page.next < wanted.to && page.bodies.len() < count && left > 0 {
        let Some(segment) = segment_with(shared, wanted.holder, page.next, wanted.to) else {
            page.next = wanted.to;
            break;
        };
        let rest = Wanted { from: page.next, ..wanted };
        let Some(found) = unless_replaced(shared, &segment, || {
            read_segment(shared, &segment, rest, count - page.bodies.len(), &mut left)
        })?
        else {
            continue;
        };
        page.bodies.extend(found.bodies);
        page.next = wanted.next_from(found.next);
    }
    Ok(page)
}

/// The sequence numbers of all that a holder holds in sealed segments, in a range.
pub(crate) fn members(shared: &Shared, wanted: Wanted<'_>) -> Result<Vec<u64>, ReadError> {
    let mut members = Vec::new();
    let mut from = wanted.from;
    while from < wanted.to {
        let Some(segment) = segment_with(shared, wanted.holder, from, wanted.to) else { break };
        let rest = Wanted { from, ..wanted };
        let found = unless_replaced(shared, &segment, || {
            let index = index(shared, segment.id)?;
            Ok((live_places(shared, &segment, &index, rest, usize::MAX)?, index.facts.end))
        })?;
        let Some((places, end)) = found else { continue };
        members.extend(places.iter().map(|place| segment.first + u64::from(place.relative)));
        from = end;
    }
    Ok(members)
}

/// What `read` finds in a segment; nothing if it was rewritten or removed meanwhile, so that what replaces it is to be
/// asked.
fn unless_replaced<T>(
    shared: &Shared,
    segment: &Segment,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    match read() {
        Err(ReadError::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound && !is_current(shared, segment) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn segment_with(shared: &Shared, holder: u64, from: u64, to: u64) -> Option<Arc<Segment>> {
    let ledger = shared.ledger.lock();
    let first = ledger.from(from)?.segment.first;
    let mut accounts = ledger.accounts.range(first.min(to)..to).map(|(_, account)| account);
    let found = accounts.find(|account| account.indexed && account.holders.contains_key(&holder))?;
    Some(Arc::clone(&found.segment))
}

fn is_current(shared: &Shared, segment: &Segment) -> bool {
    shared.ledger.lock().accounts.get(&segment.first).is_some_and(|account| account.segment.id == segment.id)
}

/// Reads from one segment.
fn read_segment(
    shared: &Shared,
    segment: &Segment,
    wanted: Wanted<'_>,
    count: usize,
    left: &mut usize,
) -> Result<Page, ReadError> {
    let index = index(shared, segment.id)?;
    let name = segment.id.file_name();
    let io_error = |source| ReadError::Io { file: shared.disk.path(&name), source };
    let file = shared.disk.open(&name).map_err(io_error)?;
    let places = live_places(shared, segment, &index, wanted, count)?;
    let mut bodies = Vec::with_capacity(places.len());
    let mut buffer = Vec::new();
    let mut at = 0;
    while at < places.len() && *left > 0 {
        let run = adjacent(&places[at..], *left);
        let start = run[0].offset;
        fill(&*file, &mut buffer, start, run).map_err(io_error)?;
        for place in run {
            let sequence = segment.first + u64::from(place.relative);
            let bytes = &buffer[(place.offset - start) as usize..][..place.len()];
            let body = body(segment, bytes, wanted.holder, sequence);
            let damage = || damaged(shared, &name, place.offset.into(), "a message is not what was written");
            let body = body.ok_or_else(damage)?;
            *left = left.saturating_sub(body.len().max(1));
            bodies.push((sequence, body));
        }
        at += run.len();
    }
    // All of this segment was looked at only if nothing that was asked for is left in it.
    let next = match places.get(at) {
        Some(place) => segment.first + u64::from(place.relative),
        None if places.len() == count => {
            places.last().map_or(wanted.from, |p| segment.first + u64::from(p.relative) + 1)
        }
        None => index.facts.end.min(wanted.to),
    };
    Ok(Page { bodies, next })
}

/// Where the first `count` holds of a range lie that have not been let go of.
fn live_places(
    shared: &Shared,
    segment: &Segment,
    index: &Index,
    wanted: Wanted<'_>,
    count: usize,
) -> Result<Vec<Place>, ReadError> {
    let ledger = shared.ledger.lock();
    let account = ledger.accounts.get(&segment.first).filter(|account| account.segment.id == segment.id);
    // Only its account knows what has been let go of.
    let replaced =
        || ReadError::Io { file: shared.disk.path(&segment.id.file_name()), source: io::ErrorKind::NotFound.into() };
    let account = account.ok_or_else(replaced)?;
    let sequence = |place: &Place| segment.first + u64::from(place.relative);
    let places = index.holds_from(wanted.holder, wanted.from).iter().copied();
    let places =
        places.take_while(|place| sequence(place) < wanted.to).filter(|place| wanted.contains(sequence(place)));
    Ok(places.filter(|&place| !account.is_gone(wanted.holder, place)).take(count).collect())
}

/// The places at the front that are worth one read.
fn adjacent(places: &[Place], left: usize) -> &[Place] {
    let limit = READ_BYTES.min(left);
    let mut len = 1;
    while let Some(next) = places.get(len) {
        let last = places[len - 1];
        let end = next.offset as usize + next.len();
        let gap = next.offset.saturating_sub(last.offset + last.len() as u32);
        if gap > GAP || end - places[0].offset as usize > limit {
            break;
        }
        len += 1;
    }
    &places[..len]
}

/// Reads what a run of places covers. A file that ends early leaves zeros, which no check accepts.
fn fill(file: &dyn DiskFile, buffer: &mut Vec<u8>, start: u32, run: &[Place]) -> io::Result<()> {
    let end = run.last().map_or(0, |place| place.offset as usize + place.len());
    buffer.clear();
    buffer.resize(end.saturating_sub(start as usize), 0);
    file.read_full_at(buffer, start.into()).map(drop)
}

/// The plain body of a hold, if it is what was written.
pub(crate) fn body(segment: &Segment, bytes: &[u8], holder: u64, sequence: u64) -> Option<Vec<u8>> {
    let entry = hold_of(bytes, holder, sequence).filter(|entry| entry.is_intact())?;
    let Fields::Hold(_, _, data) = entry.fields else { return None };
    segment.decrypt(entry.sequence, 1, data)
}
