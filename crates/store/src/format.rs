//! The form of the log on disk. All numbers are little-endian.
//!
//! A data directory holds:
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked by the broker that has the directory open |
//! | `epoch` | how often the log has been opened: 8 bytes, then their CRC-32 |
//! | `log/EEEEEEEEEE-NNNNNNNNNN.segment` | a segment: the epoch that wrote it, its number |
//! | `log/spare` | a segment file made ready for use |
//!
//! A segment begins with a header of 64 bytes: magic `RDSTSEG1`, epoch (8), number (8), sequence number of its first
//! entry (8), zeros (28, room for encryption), CRC-32 of all that (4). Then come blocks, without gaps, up to the first
//! place that is not a valid block.
//!
//! A block is what one `fdatasync` made safe: magic `RDB1`, length of its payload (4), sequence number of its first
//! entry (8), number of entries (4), CRC-32 (4), payload. The CRC covers the segment's epoch and number too, so what an
//! earlier use left in a recycled file never looks valid. A block follows its predecessor only after that one was
//! safe: a bad block with a good one behind it is damage, a bad block with nothing behind it is a torn tail.
//!
//! An entry has a kind (1) and its fields:
//!
//! | kind | entry | fields |
//! |---|---|---|
//! | 1 | hold | number of holders (2), holders (8 each), length (4), body |
//! | 2 | release | sequence number of the hold (8), holder (8) |
//! | 3 | drop | holder (8) |
//! | 4 | put | length (4), key, length (4), value |
//! | 5 | remove | length (4), key |

/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 64;

/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = 24;

const SEGMENT_MAGIC: &[u8; 8] = b"RDSTSEG1";

/// What a block begins with.
pub const BLOCK_MAGIC: &[u8; 4] = b"RDB1";

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A body and its holders.
    Hold {
        /// Who holds it.
        holders: &'a [u64],
        /// The body, in two pieces.
        parts: [&'a [u8]; 2],
    },
    /// A holder lets go of a body.
    Release {
        /// The sequence number of its hold.
        sequence: u64,
        /// The holder.
        holder: u64,
    },
    /// A holder lets go of everything, for ever.
    Drop {
        /// The holder.
        holder: u64,
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
}

/// An entry as read: the holders are still bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawEntry<'a> {
    /// A body and its holders, 8 bytes each.
    Hold(&'a [u8], &'a [u8]),
    /// Sequence number, holder.
    Release(u64, u64),
    /// Holder.
    Drop(u64),
    /// Key, value.
    Put(&'a [u8], &'a [u8]),
    /// Key.
    Remove(&'a [u8]),
}

/// The holders of a hold as read.
pub fn holders(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()))
}

/// Appends an entry.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let put_bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match entry {
        Entry::Hold { holders, parts: [head, tail] } => {
            out.push(1);
            out.extend_from_slice(&(holders.len() as u16).to_le_bytes());
            holders.iter().for_each(|holder| out.extend_from_slice(&holder.to_le_bytes()));
            out.extend_from_slice(&((head.len() + tail.len()) as u32).to_le_bytes());
            out.extend_from_slice(head);
            out.extend_from_slice(tail);
        }
        Entry::Release { sequence, holder } => {
            out.push(2);
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&holder.to_le_bytes());
        }
        Entry::Drop { holder } => {
            out.push(3);
            out.extend_from_slice(&holder.to_le_bytes());
        }
        Entry::Put { key, value } => {
            out.push(4);
            put_bytes(out, key);
            put_bytes(out, value);
        }
        Entry::Remove { key } => {
            out.push(5);
            put_bytes(out, key);
        }
    }
}

/// Reads the entries of a block's payload. Ends with `Err` at one that is not whole.
#[derive(Clone, Debug)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    /// The entries of a payload.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        self.take(len as usize)
    }

    fn entry(&mut self) -> Option<RawEntry<'a>> {
        Some(match self.take(1)?[0] {
            1 => {
                let count = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                RawEntry::Hold(self.take(count as usize * 8)?, self.bytes()?)
            }
            2 => RawEntry::Release(self.u64()?, self.u64()?),
            3 => RawEntry::Drop(self.u64()?),
            4 => RawEntry::Put(self.bytes()?, self.bytes()?),
            5 => RawEntry::Remove(self.bytes()?),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<RawEntry<'a>, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_none() {
            self.0 = &[];
        }
        Some(entry.ok_or(()))
    }
}

/// Which segment a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId {
    /// The epoch that wrote it.
    pub epoch: u64,
    /// Its number; numbers grow over all epochs.
    pub number: u64,
}

impl SegmentId {
    /// The file's name.
    pub fn file_name(self) -> String {
        format!("{:010}-{:010}.segment", self.epoch, self.number)
    }

    /// The segment that a file name stands for.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (epoch, number) = file_name.strip_suffix(".segment")?.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }

    /// The header of the segment's file.
    pub fn header(self, first_sequence: u64) -> [u8; SEGMENT_HEADER] {
        let mut header = [0; SEGMENT_HEADER];
        header[..8].copy_from_slice(SEGMENT_MAGIC);
        header[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        header[16..24].copy_from_slice(&self.number.to_le_bytes());
        header[24..32].copy_from_slice(&first_sequence.to_le_bytes());
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The sequence number in a header, if it is this segment's.
    pub fn read_header(self, header: &[u8]) -> Option<u64> {
        let first = u64::from_le_bytes(header.get(24..32)?.try_into().ok()?);
        (header.get(..SEGMENT_HEADER)? == self.header(first)).then_some(first)
    }

    fn block_crc(self, header: &[u8], payload: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.epoch.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&header[..20]);
        hasher.update(payload);
        hasher.finalize()
    }

    /// Fills in the header of a block whose payload follows it in `block`.
    pub fn seal_block(self, block: &mut [u8], first_sequence: u64, count: u32) {
        let (header, payload) = block.split_at_mut(BLOCK_HEADER);
        header[..4].copy_from_slice(BLOCK_MAGIC);
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&first_sequence.to_le_bytes());
        header[16..20].copy_from_slice(&count.to_le_bytes());
        let crc = self.block_crc(header, payload);
        header[20..].copy_from_slice(&crc.to_le_bytes());
    }

    /// The block at the start of `bytes`, if there is a valid one.
    pub fn read_block(self, bytes: &[u8]) -> Option<Block<'_>> {
        let header = bytes.get(..BLOCK_HEADER)?;
        if header[..4] != *BLOCK_MAGIC {
            return None;
        }
        let number = |range: std::ops::Range<usize>| u32::from_le_bytes(header[range].try_into().unwrap_or_default());
        let payload = bytes.get(BLOCK_HEADER..BLOCK_HEADER.checked_add(number(4..8) as usize)?)?;
        let first_sequence = u64::from_le_bytes(header[8..16].try_into().ok()?);
        (self.block_crc(header, payload) == number(20..24)).then_some(Block {
            first_sequence,
            count: number(16..20),
            payload,
        })
    }
}

/// A block as read.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Sequence number of its first entry.
    pub first_sequence: u64,
    /// Number of its entries.
    pub count: u32,
    /// Its entries.
    pub payload: &'a [u8],
}

impl Block<'_> {
    /// Bytes that the block takes in its segment.
    pub fn len(&self) -> usize {
        BLOCK_HEADER + self.payload.len()
    }

    /// Whether it holds no entries.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId { epoch: 3, number: 12 };

    fn block(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_HEADER];
        entries.iter().for_each(|entry| put_entry(&mut block, entry));
        ID.seal_block(&mut block, 77, entries.len() as u32);
        block
    }

    #[test]
    fn entries_read_back() {
        let bytes = block(&[
            Entry::Hold { holders: &[1, 2], parts: [b"he", b"llo"] },
            Entry::Release { sequence: 5, holder: 6 },
            Entry::Drop { holder: 7 },
            Entry::Put { key: b"k", value: b"v" },
            Entry::Remove { key: b"k" },
        ]);
        let block = ID.read_block(&bytes).unwrap();
        assert_eq!((block.first_sequence, block.count, block.len()), (77, 5, bytes.len()));
        let entries: Vec<_> = Entries::new(block.payload).map(Result::unwrap).collect();
        let RawEntry::Hold(ids, body) = entries[0] else { panic!("{entries:?}") };
        assert_eq!((holders(ids).collect::<Vec<_>>(), body), (vec![1, 2], &b"hello"[..]));
        let rest = [RawEntry::Release(5, 6), RawEntry::Drop(7), RawEntry::Put(b"k", b"v"), RawEntry::Remove(b"k")];
        assert_eq!(entries[1..], rest);
    }

    #[test]
    fn every_flipped_bit_and_every_other_segment_is_noticed() {
        let bytes = block(&[Entry::Put { key: b"key", value: b"value" }]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ID.read_block(&damaged).is_none(), "bit {bit}");
        }
        assert!(SegmentId { epoch: 4, ..ID }.read_block(&bytes).is_none());
        assert!(SegmentId { number: 13, ..ID }.read_block(&bytes).is_none());
        assert_eq!(SegmentId::parse(&ID.file_name()), Some(ID));
        assert_eq!(ID.read_header(&ID.header(9)), Some(9));
    }
}
