//! Reading the log back when it is opened.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use crate::{
    error::{Damage, OpenError},
    format::{self, BLOCK_MAGIC, Entries, RawEntry, SEGMENT_HEADER, SegmentId},
    ledger::Ledger,
    segment,
};

/// A body that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The sequence number of its hold.
    pub sequence: u64,
    /// Who holds it.
    pub holders: Vec<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How often the log has been opened, this time included.
    pub epoch: u64,
    /// The state table, by key.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bodies that somebody holds, by sequence number.
    pub held: Vec<Held>,
    /// The file and offset at which a torn tail was cut off, if there was one.
    pub torn: Option<Damage>,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Segments read.
    pub segments: usize,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Bodies that somebody holds.
    pub bodies: usize,
    /// Keys of the state table.
    pub keys: usize,
    /// The torn tail, if there is one: what was being written when the broker stopped. Nothing there was confirmed.
    pub torn: Option<Damage>,
    /// Damage. With damage, the counts cover what lies before it.
    pub damage: Option<Damage>,
}

/// Reads a log without changing it.
///
/// # Errors
/// If a file cannot be read.
pub fn check(data: &Path) -> Result<Report, OpenError> {
    let directory = data.join("log");
    let mut reading = Reading::default();
    let outcome = reading.read_all(&directory);
    let mut report = Report {
        segments: reading.segments,
        bytes: reading.bytes,
        entries: reading.next_sequence.saturating_sub(1),
        torn: reading.torn.clone(),
        ..Report::default()
    };
    match outcome {
        Err(OpenError::Damaged(damage)) => report.damage = Some(damage),
        Err(other) => return Err(other),
        Ok(()) => {}
    }
    report.keys = reading.ledger.state().len();
    report.bodies = reading.finish().held.len();
    Ok(report)
}

/// The state of reading a log from its beginning.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) ledger: Ledger,
    /// The sequence number that comes next; 0 before anything was read.
    pub(crate) next_sequence: u64,
    pub(crate) last_number: u64,
    /// Where the valid blocks of the segment read last end.
    end: Option<Damage>,
    /// Segments in which nothing was ever written.
    pub(crate) empty: Vec<SegmentId>,
    segments: usize,
    bytes: u64,
    held: BTreeMap<u64, (Vec<u64>, Vec<u8>)>,
    /// Holders that let go of everything, with when.
    dropped: HashMap<u64, u64>,
    torn: Option<Damage>,
}

impl Reading {
    /// Reads every segment.
    pub(crate) fn read_all(&mut self, directory: &Path) -> Result<(), OpenError> {
        let ids = segment::list(directory).map_err(OpenError::io("cannot list", directory))?;
        ids.into_iter().try_for_each(|id| self.read_segment(directory, id))
    }

    fn read_segment(&mut self, directory: &Path, id: SegmentId) -> Result<(), OpenError> {
        let path = directory.join(id.file_name());
        let bytes = fs::read(&path).map_err(OpenError::io("cannot read", &path))?;
        let damage = |offset: usize, problem: &str| Damage {
            file: path.clone(),
            offset: offset as u64,
            problem: problem.into(),
        };
        self.segments += 1;
        self.bytes += bytes.len() as u64;
        let Some(first_sequence) = id.read_header(&bytes) else {
            return Err(OpenError::Damaged(damage(0, "the segment's header is not valid")));
        };
        if first_sequence < self.next_sequence {
            return Err(OpenError::Damaged(damage(0, "the segment begins before its predecessor ends")));
        }
        // Where the numbers leave a gap, segments were removed in between, and no longer needed.
        if let Some(end) = self.end.take()
            && id.number == self.last_number + 1
            && first_sequence != self.next_sequence
        {
            let problem = "a block is not valid, although the next segment continues behind it".into();
            return Err(OpenError::Damaged(Damage { problem, ..end }));
        }
        self.last_number = id.number;
        self.next_sequence = first_sequence;
        self.ledger.begin(id, first_sequence);
        let mut offset = SEGMENT_HEADER;
        while let Some(block) = id.read_block(&bytes[offset..]) {
            if block.first_sequence != self.next_sequence {
                return Err(OpenError::Damaged(damage(offset, "a block is missing before this one")));
            }
            self.ledger.record(block.first_sequence, block.payload);
            self.apply(block.payload).map_err(|()| OpenError::Damaged(damage(offset, "an entry is not readable")))?;
            if self.next_sequence != block.first_sequence + u64::from(block.count) {
                return Err(OpenError::Damaged(damage(offset, "a block does not hold what its header says")));
            }
            offset += block.len();
        }
        if offset == SEGMENT_HEADER {
            self.ledger.forget(first_sequence);
            self.empty.push(id);
        }
        self.end_of_segment(id, &bytes, offset, damage)
    }

    /// Decides what it means that no valid block follows.
    fn end_of_segment(
        &mut self,
        id: SegmentId,
        bytes: &[u8],
        offset: usize,
        damage: impl Fn(usize, &str) -> Damage,
    ) -> Result<(), OpenError> {
        let rest = &bytes[offset..];
        for start in memmem(rest, BLOCK_MAGIC) {
            if id.read_block(&rest[start..]).is_some_and(|block| block.first_sequence > self.next_sequence) {
                let problem = format!("a block is not valid, although a later one at offset {} is", offset + start);
                return Err(OpenError::Damaged(damage(offset, &problem)));
            }
        }
        self.end = Some(damage(offset, ""));
        self.torn = None;
        if rest.starts_with(BLOCK_MAGIC) {
            self.torn = Some(damage(offset, "the tail is torn: what was being written when the broker stopped"));
        }
        Ok(())
    }

    fn apply(&mut self, payload: &[u8]) -> Result<(), ()> {
        for entry in Entries::new(payload) {
            match entry? {
                RawEntry::Hold(ids, body) => {
                    self.held.insert(self.next_sequence, (format::holders(ids).collect(), body.to_vec()));
                }
                RawEntry::Release(sequence, holder) => {
                    if let Some((holders, _)) = self.held.get_mut(&sequence) {
                        holders.retain(|&other| other != holder);
                        if holders.is_empty() {
                            self.held.remove(&sequence);
                        }
                    }
                }
                RawEntry::Drop(holder) => {
                    self.dropped.insert(holder, self.next_sequence);
                }
                // The ledger keeps the state table.
                RawEntry::Put(..) | RawEntry::Remove(_) => {}
            }
            self.next_sequence += 1;
        }
        Ok(())
    }

    /// What is left.
    pub(crate) fn finish(self) -> Contents {
        let Self { held, dropped, torn, ledger, .. } = self;
        let mut bodies = Vec::with_capacity(held.len());
        for (sequence, (mut holders, body)) in held {
            holders.retain(|holder| dropped.get(holder).is_none_or(|&when| when < sequence));
            if !holders.is_empty() {
                bodies.push(Held { sequence, holders, body });
            }
        }
        Contents { epoch: 0, state: ledger.state(), held: bodies, torn }
    }

    /// Hands over the ledger and what is left.
    pub(crate) fn split(mut self) -> (Ledger, Contents) {
        let state = self.ledger.state();
        let ledger = std::mem::take(&mut self.ledger);
        (ledger, Contents { state, ..self.finish() })
    }
}

/// Where `needle` stands in `haystack`.
fn memmem<'a>(haystack: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle[0];
    let candidates = haystack.iter().enumerate().filter(move |&(_, &byte)| byte == first).map(|(at, _)| at);
    candidates.filter(move |&at| haystack[at..].starts_with(needle))
}
