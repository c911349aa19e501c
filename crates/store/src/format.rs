//! The form of the log on disk, version 2. All numbers are little-endian, all CRCs CRC-32.
//!
//! A data directory holds:
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked by the broker that has the directory open |
//! | `epoch` | how often the log has been opened: 8 bytes, then their CRC |
//! | `log/E-N.segment` | segment N, written in epoch E |
//! | `log/E-F-N-G.segment` | what was left of segments F to N when epoch E rewrote them, generation G |
//! | `log/*.index` | where the entries of the segment of that name lie, written once it is sealed |
//! | `log/state` | the state table up to some sequence number |
//! | `log/spare` | a file made ready to be a segment |
//! | `log/reserve` | the same, for when the disk is full |
//!
//! Every holder of every body has a *sequence number* of its own: a hold with three holders takes three, any other entry
//! takes one. Sequence numbers are never used twice.
//!
//! # Segment
//!
//! A header of 256 bytes, then blocks without gaps up to the first place that is not a valid block. The file may be
//! longer than that: it is made ready in advance, or had another use before.
//!
//! | offset | bytes | header |
//! |---|---|---|
//! | 0 | 8 | magic `RDSTSEG2` |
//! | 8 | 8 | epoch |
//! | 16 | 8 | number of the first segment that it stands for |
//! | 24 | 8 | its number |
//! | 32 | 8 | generation: 0 as first written, else how often rewritten |
//! | 40 | 8 | sequence number of its first entry |
//! | 48 | 8 | rewritten: one past the last sequence number that it stands for; else: one past its predecessor's last |
//! | 56 | 8 | rewritten: what had been let go of before this sequence number has been left out, else 0 |
//! | 64 | 8 | salt: random, part of every block's CRC |
//! | 72 | 1 | cipher: 0 none, 1 AES-256-GCM |
//! | 73 | 68 | the wrapped data key: master key's id (8), nonce (12), key (32), tag (16) |
//! | 252 | 4 | CRC of all that |
//!
//! # Block
//!
//! What one write carried. Header: magic `RDB2`, length of the payload (4), sequence number of the first entry (8), all
//! entries before this sequence number were safe when the block was written (8), number of entries (4), CRC (4) of the
//! segment's identity and salt and of the header up to here, CRC (4) of that CRC and the payload. The salt makes sure that
//! no message can contain what looks like a block. A place that is not a valid block is damage if a later block says
//! that what stood there was safe, else a torn tail. When the log is closed, an empty block says that of the last one.
//!
//! # Entry
//!
//! A kind (1), then:
//!
//! | kind | entry | fields |
//! |---|---|---|
//! | 1 | hold | number of holders (4), length of the body (4), check (4), holders (8 each), body |
//! | 2 | release | holder (8), number (4), sequence numbers of its holds (8 each) |
//! | 3 | drop: the holder lets go of all between two sequence numbers | number (4), check (4), holder (8), the first (8), one past the last (8), sequence numbers of holds that it keeps (8 each) |
//! | 4 | put | length of the key (4), length of key and value (4), check (4), key, value |
//! | 5 | remove | length of the key (4), the same again (4), check (4), key |
//! | 6 | skip: the next entry has this sequence number; only in rewritten segments | sequence number (8) |
//! | 7 | inventory: the segments that must be there, this one included | number (4), check (4), pairs of first and last number (16 each) |
//!
//! The check is the CRC of all that follows it in the entry (if it is no hold, of the entry's first five bytes and all
//! that follows), xor a mix of the sequence number: so entries can be read by themselves. Releases have none, because
//! they stand in the index. A holder with bit 63 set holds only until the log is opened again. Holder 0 is nobody: in a
//! rewritten hold it stands for one that has let go.
//!
//! With a cipher, the body of a hold, the key and value of a put and the key of a remove are encrypted, with the entry's
//! sequence number and kind in the nonce, and a tag of 16 bytes follows; lengths include it. Numbers stay readable, so
//! that recovery and rewriting need not decrypt bodies.
//!
//! # Index
//!
//! A header of 128 bytes: magic `RDSTIDX2`, epoch, first number, number, generation (8 each), sequence number of the
//! first entry (8), one past the last (8), valid bytes of the segment (8), the sequence number before which what was let
//! go of is left out (8), numbers of groups, holds, bytes of releases, and notes (8 each), CRC of groups, releases and
//! notes (4), at 124 the CRC of the header. Then:
//!
//! | part | fields |
//! |---|---|
//! | groups, by holder | holder (8), number of its holds (4), CRC of them (4) |
//! | holds, in the order of the groups, by sequence number | sequence number less the first (4), offset in the segment (4), length of the entry (4, bit 31: only until the log is opened again) |
//! | releases | sequence number of the entry less the first, sequence number let go of; each as the difference to the one before, as a varint (the second zigzag) |
//! | notes: drops, puts, removes, inventories | sequence number less the first (4), offset (4), length (4) |
//!
//! # State
//!
//! Magic `RDSTSTA2`, the horizon (8): puts and removes with lower sequence numbers are contained; cipher and wrapped data
//! key as in a segment (69), length of the table (8), CRC of it and of all before (4). The table: length of the key (4),
//! length of the value (4), key, value; as a whole encrypted like an entry of kind 8 with the horizon as its sequence
//! number, if there is a cipher.

use std::ops::Range;

use crate::cipher::{TAG_LEN, WRAPPED_LEN};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 256;

/// Where the wrapped data key stands in a segment's header.
pub(crate) const WRAPPED_KEY_OFFSET: u64 = 73;

/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = 36;

/// What a block begins with.
pub const BLOCK_MAGIC: &[u8; 4] = b"RDB2";

/// The flag of a holder that holds only until the log is opened again.
pub const UNTIL_RESTART: u64 = 1 << 63;

const SEGMENT_MAGIC: &[u8; 8] = b"RDSTSEG2";

/// Bytes of a hold before its holders.
const HOLD_HEAD: usize = 13;

/// Bytes of a release before its list.
pub(crate) const RELEASE_HEAD: usize = 13;

/// Bytes of a skip.
pub(crate) const SKIP: usize = 9;

/// Bytes of an entry before its check that the check covers, if it is no hold.
const CHECK_HEAD: usize = 5;

/// One entry to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A body and its holders, each with a sequence number of its own.
    Hold {
        /// Who holds it; with [`UNTIL_RESTART`], only until the log is opened again.
        holders: &'a [u64],
        /// The body, in two pieces.
        parts: [&'a [u8]; 2],
    },
    /// A holder lets go of bodies.
    Release {
        /// The holder.
        holder: u64,
        /// The sequence numbers of its holds.
        sequences: &'a [u64],
    },
    /// A holder lets go of everything before this entry and between two sequence numbers.
    Drop {
        /// The holder.
        holder: u64,
        /// The first sequence number.
        from: u64,
        /// One past the last.
        before: u64,
        /// Sequence numbers of the holds that it keeps.
        except: &'a [u64],
    },
    /// Sets a key of the state table.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Removes a key of the state table.
    Remove {
        /// The key.
        key: &'a [u8],
    },
    /// The segments that must be there, as pairs of first and last number.
    Inventory(&'a [(u64, u64)]),
}

impl Entry<'_> {
    /// Sequence numbers that the entry takes.
    pub fn sequences(&self) -> u64 {
        match self {
            Self::Hold { holders, .. } => holders.len() as u64,
            _ => 1,
        }
    }
}

/// An entry as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEntry<'a> {
    /// Its sequence number; a hold's first.
    pub sequence: u64,
    /// Where it begins in the bytes that were read.
    pub offset: usize,
    /// Its bytes.
    pub len: usize,
    /// What it is.
    pub fields: Fields<'a>,
}

/// What an entry is, with lists as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields<'a> {
    /// Holders, check, body.
    Hold(&'a [u8], u32, &'a [u8]),
    /// Holder, sequence numbers.
    Release(u64, &'a [u8]),
    /// Holder, the first sequence number and one past the last, check, sequence numbers kept.
    Drop(u64, (u64, u64), u32, &'a [u8]),
    /// Length of the key, check, key and value.
    Put(usize, u32, &'a [u8]),
    /// Length of the key, check, key.
    Remove(usize, u32, &'a [u8]),
    /// Check, pairs of numbers.
    Inventory(u32, &'a [u8]),
}

/// The numbers of a list of them.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone {
    bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()))
}

/// The pairs of an inventory.
pub fn pairs(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    bytes.chunks_exact(16).map(|chunk| (get_u64(chunk, 0), get_u64(chunk, 8)))
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

/// The check of an entry without its sequence number: the costly part, which needs no lock.
pub fn content_check(entry: &Entry<'_>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    match entry {
        Entry::Hold { holders, parts } => {
            holders.iter().for_each(|holder| hasher.update(&holder.to_le_bytes()));
            parts.iter().for_each(|part| hasher.update(part));
        }
        Entry::Put { key, value } => {
            hasher.update(&check_head(4, key.len()));
            hasher.update(key);
            hasher.update(value);
        }
        Entry::Remove { key } => {
            hasher.update(&check_head(5, key.len()));
            hasher.update(key);
        }
        Entry::Drop { holder, from, before, except } => {
            hasher.update(&check_head(3, except.len()));
            [holder, from, before].into_iter().chain(*except).for_each(|number| hasher.update(&number.to_le_bytes()));
        }
        Entry::Inventory(pairs) => {
            hasher.update(&check_head(7, pairs.len()));
            pairs.iter().flat_map(|(first, last)| [first, last]).for_each(|n| hasher.update(&n.to_le_bytes()));
        }
        Entry::Release { .. } => return 0,
    }
    hasher.finalize()
}

/// What an entry that is no hold begins with.
fn check_head(kind: u8, len: usize) -> [u8; CHECK_HEAD] {
    let len = (len as u32).to_le_bytes();
    [kind, len[0], len[1], len[2], len[3]]
}

/// Ties a content's check to the place that the content belongs to.
pub fn check_at(content: u32, sequence: u64) -> u32 {
    content ^ (sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

/// Appends an entry. `check` is its [`content_check`]; `room` bytes are left behind what a cipher would encrypt.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry<'_>, sequence: u64, check: u32, room: usize) {
    let put_list = |out: &mut Vec<u8>, list: &[u64]| {
        list.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    };
    let put_check = |out: &mut Vec<u8>| out.extend_from_slice(&check_at(check, sequence).to_le_bytes());
    let put_state = |out: &mut Vec<u8>, kind: u8, key: &[u8], value: &[u8]| {
        out.extend_from_slice(&check_head(kind, key.len()));
        out.extend_from_slice(&((key.len() + value.len() + room) as u32).to_le_bytes());
        put_check(out);
        out.extend_from_slice(key);
        out.extend_from_slice(value);
        out.resize(out.len() + room, 0);
    };
    match entry {
        Entry::Hold { holders, parts: [head, tail] } => {
            out.push(1);
            out.extend_from_slice(&(holders.len() as u32).to_le_bytes());
            out.extend_from_slice(&((head.len() + tail.len() + room) as u32).to_le_bytes());
            put_check(out);
            holders.iter().for_each(|holder| out.extend_from_slice(&holder.to_le_bytes()));
            out.extend_from_slice(head);
            out.extend_from_slice(tail);
            out.resize(out.len() + room, 0);
        }
        Entry::Release { holder, sequences } => {
            out.push(2);
            out.extend_from_slice(&holder.to_le_bytes());
            out.extend_from_slice(&(sequences.len() as u32).to_le_bytes());
            put_list(out, sequences);
        }
        Entry::Drop { holder, from, before, except } => {
            out.extend_from_slice(&check_head(3, except.len()));
            put_check(out);
            put_list(out, &[*holder, *from, *before]);
            put_list(out, except);
        }
        Entry::Put { key, value } => put_state(out, 4, key, value),
        Entry::Remove { key } => put_state(out, 5, key, &[]),
        Entry::Inventory(pairs) => {
            out.extend_from_slice(&check_head(7, pairs.len()));
            put_check(out);
            pairs.iter().for_each(|(first, last)| put_list(out, &[*first, *last]));
        }
    }
}

/// Says which sequence number the next entry has.
pub fn put_skip(out: &mut Vec<u8>, sequence: u64) {
    out.push(6);
    out.extend_from_slice(&sequence.to_le_bytes());
}

/// Reads entries. Ends with `Err` at one that is not whole.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    all: &'a [u8],
    at: usize,
    /// The sequence number of the next entry.
    pub sequence: u64,
    gaps: bool,
}

impl<'a> Entries<'a> {
    /// The entries of a block's payload, whose first has `sequence`. Only a rewritten segment may have `gaps`.
    pub fn new(payload: &'a [u8], sequence: u64, gaps: bool) -> Self {
        Self { all: payload, at: 0, sequence, gaps }
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.all.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(get_u32(self.take(4)?, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(get_u64(self.take(8)?, 0))
    }

    fn list(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count.checked_mul(8)?)
    }

    fn state(&mut self) -> Option<(usize, u32, &'a [u8])> {
        let (key_len, len, check) = (self.u32()? as usize, self.u32()? as usize, self.u32()?);
        (key_len <= len).then_some((key_len, check, self.take(len)?))
    }

    fn entry(&mut self) -> Option<Option<Fields<'a>>> {
        Some(Some(match self.take(1)?[0] {
            1 => {
                let head = self.take(HOLD_HEAD - 1)?;
                let (count, len, check) = (get_u32(head, 0) as usize, get_u32(head, 4) as usize, get_u32(head, 8));
                Fields::Hold(self.take(count * 8)?, check, self.take(len)?)
            }
            2 => Fields::Release(self.u64()?, self.list()?),
            3 => {
                let (count, check) = (self.u32()? as usize, self.u32()?);
                let (holder, range) = (self.u64()?, (self.u64()?, self.u64()?));
                Fields::Drop(holder, range, check, self.take(count.checked_mul(8)?)?)
            }
            4 => self.state().map(|(key_len, check, data)| Fields::Put(key_len, check, data))?,
            5 => self.state().map(|(key_len, check, data)| Fields::Remove(key_len, check, data))?,
            6 if self.gaps => {
                let sequence = self.u64()?;
                if sequence < self.sequence {
                    return None;
                }
                self.sequence = sequence;
                return Some(None);
            }
            7 => {
                let (count, check) = (self.u32()? as usize, self.u32()?);
                Fields::Inventory(check, self.take(count.checked_mul(16)?)?)
            }
            _ => return None,
        }))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.all.len() {
            let offset = self.at;
            match self.entry() {
                None => {
                    self.at = self.all.len();
                    return Some(Err(()));
                }
                Some(None) => {}
                Some(Some(fields)) => {
                    let entry = RawEntry { sequence: self.sequence, offset, len: self.at - offset, fields };
                    self.sequence += entry.fields.sequences();
                    return Some(Ok(entry));
                }
            }
        }
        None
    }
}

impl Fields<'_> {
    /// Sequence numbers that the entry takes.
    pub fn sequences(&self) -> u64 {
        match self {
            Self::Hold(holders, ..) => holders.len() as u64 / 8,
            _ => 1,
        }
    }
}

impl RawEntry<'_> {
    /// Whether the entry is what was written at its sequence number. Releases have no check.
    pub fn is_intact(&self) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        let check = match self.fields {
            Fields::Hold(holders, check, data) => {
                hasher.update(holders);
                hasher.update(data);
                check
            }
            Fields::Put(key_len, check, data) => {
                hasher.update(&check_head(4, key_len));
                hasher.update(data);
                check
            }
            Fields::Remove(key_len, check, data) => {
                hasher.update(&check_head(5, key_len));
                hasher.update(data);
                check
            }
            Fields::Drop(holder, (from, before), check, list) => {
                hasher.update(&check_head(3, list.len() / 8));
                [holder, from, before].iter().for_each(|number| hasher.update(&number.to_le_bytes()));
                hasher.update(list);
                check
            }
            Fields::Inventory(check, list) => {
                hasher.update(&check_head(7, list.len() / 16));
                hasher.update(list);
                check
            }
            Fields::Release(..) => return true,
        };
        check_at(hasher.finalize(), self.sequence) == check
    }
}

/// The hold at the start of `bytes` of which `holder` has the part with `sequence`.
pub fn hold_of(bytes: &[u8], holder: u64, sequence: u64) -> Option<RawEntry<'_>> {
    let entry = Entries::new(bytes, 0, false).next()?.ok()?;
    let Fields::Hold(holders, ..) = entry.fields else { return None };
    let at = numbers(holders).position(|other| other & !UNTIL_RESTART == holder)? as u64;
    Some(RawEntry { sequence: sequence.checked_sub(at)?, ..entry })
}

/// What a cipher encrypts of an entry, as ranges of the payload.
pub struct Secret {
    /// The entry's sequence number.
    pub sequence: u64,
    /// The entry's kind.
    pub kind: u8,
    /// Where its check stands.
    pub check: usize,
    /// What the check covers of the entry's beginning.
    pub head: Range<usize>,
    /// Where the rest of what it covers begins.
    pub covered: usize,
    /// Where the secret begins.
    pub start: usize,
    /// Where its tag ends.
    pub end: usize,
}

/// The secrets of a payload whose entries have room for their tags.
pub fn secrets(payload: &[u8], first_sequence: u64, gaps: bool) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for RawEntry { sequence, offset, len, fields } in Entries::new(payload, first_sequence, gaps).flatten() {
        let end = offset + len;
        let (kind, check, covered, data) = match fields {
            Fields::Hold(holders, _, data) => (1, offset + HOLD_HEAD - 4, end - data.len() - holders.len(), data),
            Fields::Put(_, _, data) => (4, offset + 9, end - data.len(), data),
            Fields::Remove(_, _, data) => (5, offset + 9, end - data.len(), data),
            _ => continue,
        };
        if data.len() >= TAG_LEN {
            let head = offset..if kind == 1 { offset } else { offset + CHECK_HEAD };
            secrets.push(Secret { sequence, kind, check, head, covered, start: end - data.len(), end });
        }
    }
    secrets
}

/// Which segment a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The number of the first segment that it stands for.
    pub first: u64,
    /// Its number; numbers grow over all epochs.
    pub number: u64,
    /// How often it was rewritten.
    pub generation: u64,
    /// The epoch that wrote it.
    pub epoch: u64,
}

/// What a segment's header says beside its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Sequence number of its first entry.
    pub first_sequence: u64,
    /// Rewritten: one past the last sequence number that it stands for; else one past its predecessor's last.
    pub end_sequence: u64,
    /// Rewritten: what had been let go of before this sequence number was left out.
    pub pruned_at: u64,
    /// Part of every block's CRC.
    pub salt: u64,
    /// The data key, if it is encrypted.
    pub wrapped_key: Option<[u8; WRAPPED_LEN]>,
}

impl SegmentId {
    /// The file's name without its extension.
    fn stem(self) -> String {
        let Self { first, number, generation, epoch } = self;
        match generation {
            0 => format!("{epoch:010}-{number:010}"),
            _ => format!("{epoch:010}-{first:010}-{number:010}-{generation}"),
        }
    }

    /// The segment's file.
    pub fn file_name(self) -> String {
        format!("log/{}.segment", self.stem())
    }

    /// The segment's index.
    pub fn index_name(self) -> String {
        format!("log/{}.index", self.stem())
    }

    /// The segment that a file name, without its directory, stands for.
    pub fn parse(file_name: &str) -> Option<Self> {
        let numbers: Option<Vec<u64>> =
            file_name.strip_suffix(".segment")?.split('-').map(|part| part.parse().ok()).collect();
        match numbers?[..] {
            [epoch, number] => Some(Self { first: number, number, generation: 0, epoch }),
            [epoch, first, number, generation] if generation > 0 => Some(Self { first, number, generation, epoch }),
            _ => None,
        }
    }

    /// Whether `other` is an older form of what this segment holds.
    pub fn replaces(self, other: Self) -> bool {
        self.first <= other.first && other.number <= self.number && other.generation < self.generation
    }

    /// The identity as bytes, to which a segment's key is bound.
    pub fn context(self) -> [u8; 32] {
        let mut context = [0; 32];
        for (at, number) in [self.epoch, self.first, self.number, self.generation].into_iter().enumerate() {
            context[at * 8..at * 8 + 8].copy_from_slice(&number.to_le_bytes());
        }
        context
    }

    /// The header of the segment's file.
    pub fn header(self, header: &SegmentHeader) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..40].copy_from_slice(&self.context());
        bytes[40..48].copy_from_slice(&header.first_sequence.to_le_bytes());
        bytes[48..56].copy_from_slice(&header.end_sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&header.pruned_at.to_le_bytes());
        bytes[64..72].copy_from_slice(&header.salt.to_le_bytes());
        if let Some(wrapped) = &header.wrapped_key {
            bytes[72] = 1;
            bytes[73..73 + WRAPPED_LEN].copy_from_slice(wrapped);
        }
        let crc = crc32fast::hash(&bytes[..252]);
        bytes[252..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in `bytes`, if it is this segment's.
    pub fn read_header(self, bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER)?;
        let mut wrapped = [0; WRAPPED_LEN];
        wrapped.copy_from_slice(&bytes[73..73 + WRAPPED_LEN]);
        let header = SegmentHeader {
            first_sequence: get_u64(bytes, 40),
            end_sequence: get_u64(bytes, 48),
            pruned_at: get_u64(bytes, 56),
            salt: get_u64(bytes, 64),
            wrapped_key: (bytes[72] != 0).then_some(wrapped),
        };
        (bytes[72] <= 1 && *bytes == self.header(&header)).then_some(header)
    }

    fn header_crc(self, salt: u64, header: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.context());
        hasher.update(&salt.to_le_bytes());
        hasher.update(&header[..BLOCK_HEADER - 8]);
        hasher.finalize()
    }

    /// Fills in the header of a block whose payload follows it in `block`.
    pub fn seal_block(self, salt: u64, block: &mut [u8], first_sequence: u64, safe: u64, count: u32) {
        let (header, payload) = block.split_at_mut(BLOCK_HEADER);
        header[..4].copy_from_slice(BLOCK_MAGIC);
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&first_sequence.to_le_bytes());
        header[16..24].copy_from_slice(&safe.to_le_bytes());
        header[24..28].copy_from_slice(&count.to_le_bytes());
        let crc = self.header_crc(salt, header);
        header[28..32].copy_from_slice(&crc.to_le_bytes());
        header[32..].copy_from_slice(&payload_crc(crc, payload).to_le_bytes());
    }

    /// The block at the start of `bytes`, if there is a valid one. What is none costs next to nothing to refuse.
    pub fn read_block(self, salt: u64, bytes: &[u8]) -> Option<Block<'_>> {
        let header = bytes.get(..BLOCK_HEADER)?;
        let crc = get_u32(header, 28);
        if header[..4] != *BLOCK_MAGIC || self.header_crc(salt, header) != crc {
            return None;
        }
        let payload = bytes.get(BLOCK_HEADER..BLOCK_HEADER.checked_add(get_u32(header, 4) as usize)?)?;
        (payload_crc(crc, payload) == get_u32(header, 32)).then_some(Block {
            first_sequence: get_u64(header, 8),
            safe: get_u64(header, 16),
            count: get_u32(header, 24),
            payload,
        })
    }
}

fn payload_crc(header_crc: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(header_crc);
    hasher.update(payload);
    hasher.finalize()
}

/// A block as read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Sequence number of its first entry.
    pub first_sequence: u64,
    /// All entries before this one were safe when it was written.
    pub safe: u64,
    /// Number of its entries.
    pub count: u32,
    /// Its entries.
    pub payload: &'a [u8],
}

impl Block<'_> {
    /// Bytes that the block takes in its segment.
    pub fn size(&self) -> usize {
        BLOCK_HEADER + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId { first: 12, number: 12, generation: 0, epoch: 3 };
    const SALT: u64 = 0x5A17;

    fn block(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_HEADER];
        let mut sequence = 77;
        for entry in entries {
            put_entry(&mut block, entry, sequence, content_check(entry), 0);
            sequence += entry.sequences();
        }
        ID.seal_block(SALT, &mut block, 77, 70, entries.len() as u32);
        block
    }

    #[test]
    fn entries_read_back() {
        let bytes = block(&[
            Entry::Hold { holders: &[1, 2], parts: [b"he", b"llo"] },
            Entry::Release { holder: 6, sequences: &[5, 4] },
            Entry::Drop { holder: 7, from: 8, before: 70, except: &[9] },
            Entry::Put { key: b"k", value: b"v" },
            Entry::Remove { key: b"k" },
            Entry::Inventory(&[(1, 3), (7, 7)]),
        ]);
        let block = ID.read_block(SALT, &bytes).unwrap();
        assert_eq!((block.first_sequence, block.safe, block.count, block.size()), (77, 70, 6, bytes.len()));
        let entries: Vec<_> = Entries::new(block.payload, 77, false).map(Result::unwrap).collect();
        assert!(entries.iter().all(RawEntry::is_intact));
        assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [77, 79, 80, 81, 82, 83]);
        let Fields::Hold(ids, _, body) = entries[0].fields else { panic!("{entries:?}") };
        assert_eq!((numbers(ids).collect::<Vec<_>>(), body), (vec![1, 2], &b"hello"[..]));
        assert!(matches!(entries[1].fields, Fields::Release(6, list) if numbers(list).eq([5, 4])));
        assert!(matches!(entries[2].fields, Fields::Drop(7, (8, 70), _, list) if numbers(list).eq([9])));
        assert!(matches!(entries[3].fields, Fields::Put(1, _, b"kv")));
        assert!(matches!(entries[4].fields, Fields::Remove(1, _, b"k")));
        assert!(matches!(entries[5].fields, Fields::Inventory(_, list) if pairs(list).eq([(1, 3), (7, 7)])));
    }

    #[test]
    fn an_entry_read_from_another_place_is_not_intact() {
        let bytes = block(&[Entry::Hold { holders: &[1], parts: [b"body", b""] }]);
        let payload = &bytes[BLOCK_HEADER..];
        let read = |sequence| Entries::new(payload, sequence, false).next().unwrap().unwrap();
        assert!(read(77).is_intact());
        assert!(!read(78).is_intact(), "a stale entry of the same form must not pass");
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed() {
        for entry in [
            Entry::Hold { holders: &[1, 2], parts: [b"body", b""] },
            Entry::Drop { holder: 7, from: 8, before: 70, except: &[9] },
            Entry::Put { key: b"key", value: b"value" },
            Entry::Remove { key: b"key" },
            Entry::Inventory(&[(1, 3), (7, 7)]),
        ] {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, &entry, 77, content_check(&entry), 0);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let read = Entries::new(&damaged, 77, false).next().and_then(Result::ok);
                // Kind 2 has no check, and is not looked for where another kind should be.
                let is_other = |read: &RawEntry<'_>| matches!(read.fields, Fields::Release(..));
                assert!(read.is_none_or(|read| is_other(&read) || !read.is_intact()), "{entry:?}: bit {bit}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_segment_is_noticed() {
        let bytes = block(&[Entry::Put { key: b"key", value: b"value" }]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ID.read_block(SALT, &damaged).is_none(), "bit {bit}");
        }
        assert!(SegmentId { epoch: 4, ..ID }.read_block(SALT, &bytes).is_none());
        assert!(SegmentId { number: 13, ..ID }.read_block(SALT, &bytes).is_none());
        assert!(ID.read_block(SALT + 1, &bytes).is_none());
    }

    #[test]
    fn names_and_headers_read_back() {
        let rewritten = SegmentId { first: 4, number: 12, generation: 2, epoch: 9 };
        for id in [ID, rewritten] {
            assert_eq!(SegmentId::parse(id.file_name().strip_prefix("log/").unwrap()), Some(id));
            for wrapped_key in [None, Some([7; WRAPPED_LEN])] {
                let header = SegmentHeader { first_sequence: 1, end_sequence: 2, pruned_at: 3, salt: 4, wrapped_key };
                assert_eq!(id.read_header(&id.header(&header)), Some(header));
                assert_eq!(SegmentId { epoch: 1, ..id }.read_header(&id.header(&header)), None);
            }
        }
        assert!(rewritten.replaces(ID) && !ID.replaces(rewritten));
        assert!(!rewritten.replaces(SegmentId { first: 3, number: 3, generation: 0, epoch: 1 }));
    }
}
