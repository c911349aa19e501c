//! Segment files: made ready ahead of use, so that a commit never waits for the file system to find room.

use std::{io, sync::Arc};

use crate::{
    cipher::{Cipher, Keys},
    disk::{Disk, DiskFile},
    format::{SEGMENT_HEADER, SegmentHeader, SegmentId, secrets},
};

/// The directory of the segments.
pub(crate) const DIRECTORY: &str = "log";

const SPARE: &str = "log/spare";

/// What reading a segment takes.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// Sequence number of its first entry.
    pub(crate) first: u64,
    pub(crate) salt: u64,
    pub(crate) cipher: Option<Cipher>,
    /// Whether sequence numbers are missing: it was rewritten.
    pub(crate) gaps: bool,
}

impl Segment {
    /// A segment as its header describes it.
    pub(crate) fn new(id: SegmentId, header: &SegmentHeader, cipher: Option<Cipher>) -> Self {
        Self { id, first: header.first_sequence, salt: header.salt, cipher, gaps: id.generation > 0 }
    }

    /// Makes a header for a new segment, with a data key of its own if there is a key to wrap it with.
    pub(crate) fn prepare(
        disk: &dyn Disk,
        keys: &Keys,
        id: SegmentId,
        mut header: SegmentHeader,
    ) -> io::Result<(Self, SegmentHeader)> {
        let mut salt = [0; 8];
        disk.random(&mut salt)?;
        header.salt = u64::from_le_bytes(salt);
        let mut cipher = None;
        if keys.encrypts() {
            let (made, wrapped) = Cipher::wrapped(keys, &mut |bytes| disk.random(bytes), &id.context())?;
            header.wrapped_key = Some(wrapped);
            cipher = Some(made);
        }
        Ok((Self::new(id, &header, cipher), header))
    }

    /// Encrypts the secrets of a payload that has room for their tags, and makes the checks those of what is then there.
    pub(crate) fn encrypt(&self, payload: &mut [u8], first_sequence: u64) {
        let Some(cipher) = &self.cipher else { return };
        for secret in secrets(payload, first_sequence, self.gaps) {
            let (data, tag) =
                payload[secret.start..secret.end].split_at_mut(secret.end - secret.start - crate::cipher::TAG_LEN);
            tag.copy_from_slice(&cipher.seal(secret.sequence, secret.kind, data));
            let mut hasher = crc32fast::Hasher::new();
            [secret.head, secret.covered..secret.end].into_iter().for_each(|range| hasher.update(&payload[range]));
            let check = crate::format::check_at(hasher.finalize(), secret.sequence);
            payload[secret.check..secret.check + 4].copy_from_slice(&check.to_le_bytes());
        }
    }

    /// The plain form of an entry's secret. Nothing if it does not belong to its key, number and kind.
    pub(crate) fn decrypt(&self, sequence: u64, kind: u8, data: &[u8]) -> Option<Vec<u8>> {
        let Some(cipher) = &self.cipher else { return Some(data.to_vec()) };
        let mut data = data.to_vec();
        let len = cipher.open(sequence, kind, &mut data)?.len();
        data.truncate(len);
        Some(data)
    }
}

/// The segment being written.
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next block goes.
    pub(crate) offset: u64,
    size: u64,
}

impl Tail {
    /// Begins a segment of `bytes` at least, in the spare file if there is one. The file gets its name only once
    /// its header is safe, so that a named segment without a valid header is damage.
    pub(crate) fn begin(
        disk: &dyn Disk,
        keys: &Keys,
        id: SegmentId,
        first: u64,
        previous_end: u64,
        bytes: u64,
    ) -> io::Result<Self> {
        let header = SegmentHeader {
            first_sequence: first,
            end_sequence: previous_end,
            pruned_at: 0,
            salt: 0,
            wrapped_key: None,
        };
        let (segment, header) = Segment::prepare(disk, keys, id, header)?;
        let unfinished = "log/segment.new";
        let file = if disk.open(SPARE).is_ok() {
            disk.rename(SPARE, unfinished)?;
            disk.open(unfinished)?
        } else {
            disk.create(unfinished)?
        };
        let made_ready = file.size()?;
        if made_ready < bytes {
            write_zeros(&*file, made_ready, bytes)?;
        }
        file.write_all_at(&id.header(&header), 0)?;
        file.sync()?;
        disk.rename(unfinished, &id.file_name())?;
        disk.sync_directory(DIRECTORY)?;
        let size = file.size()?;
        Ok(Self { segment: Arc::new(segment), file, offset: SEGMENT_HEADER as u64, size })
    }

    /// Whether a block of `len` bytes has room. A block always has room in an empty segment, which grows if it must.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.offset == SEGMENT_HEADER as u64 || self.offset + len as u64 <= self.size
    }

    /// Writes a block behind the last one.
    pub(crate) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all_at(block, self.offset)?;
        self.offset += block.len() as u64;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.size.max(self.offset)
    }
}

/// Makes sure that a spare file is there for the next segment.
pub(crate) fn prepare_spare(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    if disk.open(SPARE).is_ok() {
        return Ok(());
    }
    let unfinished = "log/spare.new";
    write_zeros(&*disk.create(unfinished)?, 0, bytes)?;
    disk.rename(unfinished, SPARE)
}

/// Removes a segment that is no longer needed, with its index. Its file becomes the spare if there is none and nobody
/// else refers to it: a backup may, by a hard link.
pub(crate) fn remove(disk: &dyn Disk, id: SegmentId, recycle_bytes: Option<u64>) -> io::Result<()> {
    let name = id.file_name();
    // A segment that was needed for a short time only never got an index.
    let _ = disk.remove(&id.index_name());
    let fits = || disk.open(&name).and_then(|file| file.size()).is_ok_and(|size| Some(size) == recycle_bytes);
    if recycle_bytes.is_some() && disk.open(SPARE).is_err() && fits() && disk.is_sole_link(&name) {
        disk.rename(&name, SPARE)
    } else {
        disk.remove(&name)
    }
}

/// The segments of a log in the order of their numbers, and those that rewriting has made superfluous.
pub(crate) fn list(disk: &dyn Disk) -> io::Result<(Vec<SegmentId>, Vec<SegmentId>)> {
    let mut ids: Vec<_> = disk.list(DIRECTORY)?.iter().filter_map(|name| SegmentId::parse(name)).collect();
    ids.sort_by_key(|id| (id.first, std::cmp::Reverse((id.generation, id.number))));
    let mut current: Vec<SegmentId> = Vec::new();
    let mut replaced = Vec::new();
    for id in ids {
        // Of two that overlap one is contained in the other, and the one that begins first or is newer comes first here.
        if current.last().is_some_and(|last| last.replaces(id)) {
            replaced.push(id);
        } else {
            current.push(id);
        }
    }
    Ok((current, replaced))
}

/// Zeros that are really written: a file that is merely allocated syncs at less than half the speed.
fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 256 * 1024];
    let mut offset = from;
    while offset < to {
        let len = zeros.len().min((to - offset) as usize);
        file.write_all_at(&zeros[..len], offset)?;
        offset += len as u64;
    }
    file.sync()
}
