//! Reading a segment as a whole, block by block: at the end of the log after a crash, and when the log is examined.

use std::{ops::Range, path::Path};

use crate::{
    error::Damage,
    format::{BLOCK_MAGIC, Entries, RawEntry, SEGMENT_HEADER, SegmentId},
    index::Gathered,
};

/// What a scan is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: SegmentId,
    pub(crate) salt: u64,
    /// Sequence number of the first entry.
    pub(crate) first: u64,
    /// The file, for messages.
    pub(crate) path: &'a Path,
    pub(crate) bytes: &'a [u8],
}

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// One past the last sequence number.
    pub(crate) end: u64,
    /// Where the valid blocks end.
    pub(crate) valid_bytes: usize,
    /// What was being written when the broker stopped.
    pub(crate) torn: Option<Damage>,
}

/// What a survey found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Where the last valid block ends.
    pub(crate) valid_bytes: usize,
    /// Ranges between valid blocks that are none.
    pub(crate) bad: Vec<Range<usize>>,
}

impl Subject<'_> {
    fn damage(&self, offset: usize, problem: impl Into<String>) -> Damage {
        Damage { file: self.path.into(), offset: offset as u64, problem: problem.into() }
    }

    /// Whether sequence numbers may be missing.
    fn has_gaps(&self) -> bool {
        self.id.generation > 0
    }

    /// Reads the blocks from the beginning, and calls `each` with the offset of its block's payload and every entry.
    ///
    /// # Errors
    /// At the first damage.
    pub(crate) fn scan(&self, mut each: impl FnMut(u64, &RawEntry<'_>)) -> Result<Scan, Damage> {
        let mut scan = Scan { end: self.first, valid_bytes: SEGMENT_HEADER, torn: None };
        while let Some(block) = self.id.read_block(self.salt, self.bytes.get(scan.valid_bytes..).unwrap_or_default()) {
            let offset = scan.valid_bytes;
            let behind = || self.bytes.get(offset + block.size()..).unwrap_or_default();
            if cfg!(feature = "sabotage-tail") && self.id.read_block(self.salt, behind()).is_none() {
                break;
            }
            if block.first_sequence != scan.end && !(self.has_gaps() && block.first_sequence > scan.end) {
                return Err(self.damage(offset, "a block is missing before this one"));
            }
            let base = offset + block.size() - block.payload.len();
            let mut entries = Entries::new(block.payload, block.first_sequence, self.has_gaps());
            let mut count = 0;
            for entry in entries.by_ref() {
                let entry = entry.map_err(|()| self.damage(offset, "an entry is not readable"))?;
                each(base as u64, &entry);
                count += 1;
            }
            if count != block.count {
                return Err(self.damage(offset, "a block does not hold what its header says"));
            }
            scan.end = entries.sequence;
            scan.valid_bytes = offset + block.size();
        }
        self.end(&mut scan)?;
        Ok(scan)
    }

    /// Decides what it means that no valid block follows.
    fn end(&self, scan: &mut Scan) -> Result<(), Damage> {
        let offset = scan.valid_bytes;
        if self.has_gaps() && offset != self.bytes.len() {
            return Err(self.damage(offset, "a block is not valid"));
        }
        if let Some((at, block_safe)) = self.blocks_behind(offset).find(|(_, safe)| *safe > scan.end) {
            let problem = format!(
                "a block is not valid, although the one at offset {at} says that all before sequence number {block_safe} was safe"
            );
            return Err(self.damage(offset, problem));
        }
        if self.bytes.get(offset..).is_some_and(|rest| rest.starts_with(BLOCK_MAGIC)) {
            scan.torn = Some(self.damage(offset, "the tail is torn: what was being written when the broker stopped"));
        }
        Ok(())
    }

    /// Valid blocks somewhere behind an offset, with what they say was safe.
    fn blocks_behind(&self, offset: usize) -> impl Iterator<Item = (usize, u64)> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let starts = memmem(rest, BLOCK_MAGIC);
        starts.filter_map(move |at| Some((offset + at, self.id.read_block(self.salt, &rest[at..])?.safe)))
    }

    /// Reads all blocks that are valid, wherever they stand, and calls `each` as [`Subject::scan`] does.
    pub(crate) fn survey(&self, mut each: impl FnMut(u64, &RawEntry<'_>)) -> Survey {
        let mut survey = Survey { valid_bytes: SEGMENT_HEADER, bad: Vec::new() };
        loop {
            let offset = survey.valid_bytes;
            let rest = self.bytes.get(offset..).unwrap_or_default();
            if let Some(block) = self.id.read_block(self.salt, rest) {
                let base = offset + block.size() - block.payload.len();
                let entries = Entries::new(block.payload, block.first_sequence, self.has_gaps());
                entries.flatten().for_each(|entry| each(base as u64, &entry));
                survey.valid_bytes = offset + block.size();
            } else if let Some((at, _)) = self.blocks_behind(offset).next() {
                survey.bad.push(offset..at);
                survey.valid_bytes = at;
            } else {
                return survey;
            }
        }
    }

    /// The same, with the entries gathered for an index.
    pub(crate) fn gather(&self) -> Result<(Scan, Gathered), Damage> {
        let mut gathered = Gathered::default();
        let scan = self.scan(|base, entry| gathered.add(self.first, base, entry))?;
        Ok((scan, gathered))
    }
}

/// Where `needle` stands in `haystack`.
fn memmem<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle[0];
    let candidates = haystack.iter().enumerate().filter(move |&(_, &byte)| byte == first).map(|(at, _)| at);
    candidates.filter(move |&at| haystack[at..].starts_with(needle))
}
