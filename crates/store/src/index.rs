//! Where the entries of a sealed segment lie, so that neither starting nor reading has to search for them.

use crate::{
    format::{Fields, RELEASE_HEAD, RawEntry, SKIP, SegmentId, UNTIL_RESTART, get_u32, get_u64, numbers},
    releases::Releases,
};

const HEADER: usize = 128;
const MAGIC: &[u8; 8] = b"RDSTIDX2";

/// Bit of a length: the hold ends when the log is opened again.
const UNTIL_RESTART_BIT: u32 = 1 << 31;

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Its sequence number less the segment's first.
    pub(crate) relative: u32,
    /// Its offset in the segment.
    pub(crate) offset: u32,
    /// Its bytes, and the bit of those that end with the epoch.
    len: u32,
}

impl Place {
    pub(crate) fn new(relative: u64, offset: u64, len: usize, until_restart: bool) -> Self {
        let bit = if until_restart { UNTIL_RESTART_BIT } else { 0 };
        Self { relative: relative as u32, offset: offset as u32, len: len as u32 | bit }
    }

    pub(crate) fn len(self) -> usize {
        (self.len & !UNTIL_RESTART_BIT) as usize
    }

    pub(crate) fn is_until_restart(self) -> bool {
        self.len & UNTIL_RESTART_BIT != 0
    }

    fn put(self, out: &mut Vec<u8>) {
        [self.relative, self.offset, self.len].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }

    fn get(bytes: &[u8]) -> Self {
        Self { relative: get_u32(bytes, 0), offset: get_u32(bytes, 4), len: get_u32(bytes, 8) }
    }
}

/// The holds of one holder in an [`Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) holder: u64,
    start: u32,
    count: u32,
}

/// The places of a segment's entries as they are gathered while it grows.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    holds: Vec<(u64, Place)>,
    releases: Releases,
    notes: Vec<Place>,
}

impl Gathered {
    /// Takes note of an entry of the segment that begins with `first`; `base` is the offset of the bytes that the entry
    /// was read from.
    pub(crate) fn add(&mut self, first: u64, base: u64, entry: &RawEntry<'_>) {
        let relative = entry.sequence - first;
        let place = |relative, until| Place::new(relative, base + entry.offset as u64, entry.len, until);
        match entry.fields {
            Fields::Hold(holders, ..) => {
                for (at, holder) in numbers(holders).enumerate().filter(|(_, holder)| *holder != 0) {
                    let until_restart = holder & UNTIL_RESTART != 0;
                    self.holds.push((holder & !UNTIL_RESTART, place(relative + at as u64, until_restart)));
                }
            }
            Fields::Release(_, list) => {
                numbers(list).for_each(|sequence| self.releases.push(relative as u32, sequence));
            }
            _ => self.notes.push(place(relative, false)),
        }
    }

    /// What an index was made of, as far as it is in it.
    pub(crate) fn from_index(index: &Index) -> Self {
        let holds = index.groups().flat_map(|(holder, places)| places.iter().map(move |&place| (holder, place)));
        Self { holds: holds.collect(), releases: index.releases.clone(), notes: index.notes.clone() }
    }

    /// The index, without the holds that `is_gone` tells of.
    pub(crate) fn index(mut self, facts: Facts, mut is_gone: impl FnMut(u64, Place) -> bool) -> Index {
        self.holds.retain(|(holder, place)| !is_gone(*holder, *place));
        self.holds.sort_unstable();
        let mut groups: Vec<Group> = Vec::new();
        for (at, (holder, _)) in self.holds.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if group.holder == *holder => group.count += 1,
                _ => groups.push(Group { holder: *holder, start: at as u32, count: 1 }),
            }
        }
        let holds = self.holds.into_iter().map(|(_, place)| place).collect();
        Index { facts, groups, holds, releases: self.releases, notes: self.notes }
    }
}

/// What an index says of its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: SegmentId,
    /// Sequence number of the first entry.
    pub(crate) first: u64,
    /// One past the last.
    pub(crate) end: u64,
    /// Where the valid blocks end.
    pub(crate) valid_bytes: u64,
    /// Holds that had been let go of before this sequence number are left out.
    pub(crate) pruned_at: u64,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) facts: Facts,
    groups: Vec<Group>,
    holds: Vec<Place>,
    /// Sequence number of the release less the first, what was let go of.
    pub(crate) releases: Releases,
    pub(crate) notes: Vec<Place>,
}

impl Index {
    /// All groups with their holds.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (u64, &[Place])> {
        self.groups.iter().map(|group| (group.holder, self.places(group)))
    }

    fn places(&self, group: &Group) -> &[Place] {
        self.holds.get(group.start as usize..(group.start + group.count) as usize).unwrap_or_default()
    }

    /// A holder's holds from a sequence number on.
    pub(crate) fn holds_from(&self, holder: u64, sequence: u64) -> &[Place] {
        let Ok(at) = self.groups.binary_search_by_key(&holder, |group| group.holder) else { return &[] };
        let places = self.places(&self.groups[at]);
        let relative = sequence.saturating_sub(self.facts.first);
        &places[places.partition_point(|place| u64::from(place.relative) < relative)..]
    }

    /// Bytes that rewriting would leave of the holds of which `is_gone` does not tell, at most: each body counts once,
    /// whoever holds it.
    pub(crate) fn hold_bytes(&self, is_gone: impl Fn(u64, Place) -> bool) -> u64 {
        let live = self.groups().flat_map(|(holder, places)| places.iter().map(move |&place| (holder, place)));
        let live = live.filter(|&(holder, place)| !is_gone(holder, place));
        let mut places: Vec<_> = live.map(|(_, place)| (place.offset, place.len())).collect();
        let indexed = places.len() * 12 + self.groups.len() * 16;
        if self.groups.len() > 1 {
            places.sort_unstable();
            places.dedup_by_key(|(offset, _)| *offset);
        }
        indexed as u64 + places.iter().map(|(_, len)| (len + SKIP) as u64).sum::<u64>()
    }

    /// The same of notes, if all of them stay.
    pub(crate) fn note_bytes(&self) -> u64 {
        self.notes.iter().map(|place| (place.len() + SKIP + 12) as u64).sum()
    }

    /// The same of the releases that are needed.
    pub(crate) fn release_bytes(&self, is_needed: impl Fn(u32, u64) -> bool) -> u64 {
        let (mut bytes, mut last) = (0, None);
        for (relative, _) in self.releases.iter().filter(|(relative, hold)| is_needed(*relative, *hold)) {
            let is_new = last.replace(relative) != Some(relative);
            bytes += 20 + if is_new { RELEASE_HEAD + SKIP } else { 0 };
        }
        bytes as u64
    }

    /// Bytes of its file.
    pub(crate) fn file_bytes(&self) -> u64 {
        let places = self.holds.len() + self.notes.len();
        (HEADER + self.groups.len() * 16 + places * 12 + self.releases.as_bytes().len()) as u64
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.groups.len() * size_of::<Group>() + (self.holds.len() + self.notes.len()) * size_of::<Place>()
    }

    /// The index as a file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Facts { id, first, end, valid_bytes, pruned_at } = self.facts;
        let mut out = vec![0; HEADER];
        let (mut groups, mut holds, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for group in &self.groups {
            let start = holds.len();
            self.places(group).iter().for_each(|place| place.put(&mut holds));
            groups.extend_from_slice(&group.holder.to_le_bytes());
            groups.extend_from_slice(&group.count.to_le_bytes());
            groups.extend_from_slice(&crc32fast::hash(&holds[start..]).to_le_bytes());
        }
        rest.extend_from_slice(self.releases.as_bytes());
        self.notes.iter().for_each(|place| place.put(&mut rest));
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&groups);
        hasher.update(&rest);
        out[..8].copy_from_slice(MAGIC);
        out[8..40].copy_from_slice(&id.context());
        let counts = [self.groups.len(), self.holds.len(), self.releases.as_bytes().len(), self.notes.len()];
        let counts = counts.map(|n| n as u64);
        for (at, number) in [first, end, valid_bytes, pruned_at].into_iter().chain(counts).enumerate() {
            out[40 + at * 8..48 + at * 8].copy_from_slice(&number.to_le_bytes());
        }
        out[104..108].copy_from_slice(&hasher.finalize().to_le_bytes());
        let crc = crc32fast::hash(&out[..124]);
        out[124..128].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&groups);
        out.extend_from_slice(&holds);
        out.extend_from_slice(&rest);
        out
    }

    /// Reads an index; nothing if it is not that segment's, or damaged.
    pub(crate) fn decode(id: SegmentId, bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER)?;
        if header[..8] != *MAGIC
            || header[8..40] != id.context()
            || crc32fast::hash(&header[..124]) != get_u32(header, 124)
        {
            return None;
        }
        let count = |at: usize| get_u64(header, 72 + at * 8) as usize;
        let lens = [count(0) * 16, count(1) * 12, count(2), count(3) * 12];
        let mut rest = bytes.get(HEADER..)?;
        let mut take = |len: usize| -> Option<&[u8]> {
            let (head, tail) = rest.split_at_checked(len)?;
            rest = tail;
            Some(head)
        };
        let (group_bytes, hold_bytes, release_bytes, note_bytes) =
            (take(lens[0])?, take(lens[1])?, take(lens[2])?, take(lens[3])?);
        let mut hasher = crc32fast::Hasher::new();
        [group_bytes, release_bytes, note_bytes].iter().for_each(|part| hasher.update(part));
        if hasher.finalize() != get_u32(header, 104) {
            return None;
        }
        let mut start = 0;
        let mut groups = Vec::with_capacity(count(0));
        for group in group_bytes.chunks_exact(16) {
            let count = get_u32(group, 8);
            let holds = hold_bytes.get(start as usize * 12..(start + count) as usize * 12)?;
            if crc32fast::hash(holds) != get_u32(group, 12) {
                return None;
            }
            groups.push(Group { holder: get_u64(group, 0), start, count });
            start += count;
        }
        let facts = Facts {
            id,
            first: get_u64(header, 40),
            end: get_u64(header, 48),
            valid_bytes: get_u64(header, 56),
            pruned_at: get_u64(header, 64),
        };
        Some(Self {
            facts,
            groups,
            holds: hold_bytes.chunks_exact(12).map(Place::get).collect(),
            releases: Releases::from_bytes(release_bytes)?,
            notes: note_bytes.chunks_exact(12).map(Place::get).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Entries, Entry, content_check, put_entry};

    const ID: SegmentId = SegmentId { first: 4, number: 4, generation: 0, epoch: 2 };

    fn index() -> Index {
        let mut payload = Vec::new();
        let mut sequence = 100;
        for entry in [
            Entry::Hold { holders: &[7, 3 | UNTIL_RESTART], parts: [b"one", b""] },
            Entry::Hold { holders: &[3], parts: [b"two", b""] },
            Entry::Release { holder: 7, sequences: &[100, 55] },
            Entry::Put { key: b"k", value: b"v" },
            Entry::Hold { holders: &[7], parts: [b"three", b""] },
        ] {
            put_entry(&mut payload, &entry, sequence, content_check(&entry), 0);
            sequence += entry.sequences();
        }
        let mut gathered = Gathered::default();
        for entry in Entries::new(&payload, 100, false) {
            gathered.add(100, 1000, &entry.unwrap());
        }
        let facts = Facts { id: ID, first: 100, end: sequence, valid_bytes: 5000, pruned_at: 103 };
        gathered.index(facts, |holder, place| holder == 7 && place.relative == 0)
    }

    #[test]
    fn an_index_reads_back_and_every_flipped_bit_is_noticed() {
        let index = index();
        let bytes = index.encode();
        assert_eq!(Index::decode(ID, &bytes), Some(index));
        assert_eq!(Index::decode(SegmentId { epoch: 3, ..ID }, &bytes), None);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Index::decode(ID, &damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn holds_are_found_by_holder_and_sequence_number() {
        let index = index();
        let found = |holder, from| -> Vec<_> {
            index.holds_from(holder, from).iter().map(|place| (place.relative, place.is_until_restart())).collect()
        };
        assert_eq!(found(3, 0), [(1, true), (2, false)]);
        assert_eq!(found(3, 102), [(2, false)]);
        assert_eq!(found(7, 0), [(5, false)], "the first hold was gone when the index was made");
        assert_eq!(found(8, 0), []);
        assert!(index.releases.iter().eq([(3, 100), (3, 55)]));
        assert_eq!(index.notes.len(), 1);
    }
}
