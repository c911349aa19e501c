//! Segment files: made ready ahead of use, so that a commit never waits for the file system to find room.

use std::{io, sync::Arc};

use crate::{
    cipher::{Cipher, Keys},
    disk::{DIRECT_ALIGNMENT, Disk, DiskFile},
    format::{SEGMENT_HEADER, SegmentHeader, SegmentId, secrets},
};

/// The directory of the segments.
pub(crate) const DIRECTORY: &str = "log";

const SPARE: &str = "log/spare";

const RESERVE: &str = "log/reserve";

/// What becomes the spare once its former name is surely gone.
const RECYCLED: &str = "log/recycled.new";

/// Blocks of this size on the average sync as fast in a file that was never written.
const LARGE_BYTES: u64 = 512 * 1024;

/// Most memory that is kept for direct writes.
const STAGING_BYTES: usize = 16 * 1024 * 1024;

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
    /// What stands before the offset in its page: a direct write covers whole pages.
    page: Vec<u8>,
    /// Where direct writes are put together.
    staging: Vec<u8>,
    /// Blocks written.
    blocks: u64,
    /// Whether the file system can write past its cache, as far as is known.
    is_direct: bool,
    /// Whether there was no room for it but the reserve.
    pub(crate) from_reserve: bool,
}

impl Tail {
    /// Begins a segment of `bytes` at least, in the spare file if there is one. The file gets its name only once
    /// its header is safe, so that a named segment without a valid header is damage.
    pub(crate) fn begin(
        disk: &dyn Disk,
        keys: &Keys,
        id: SegmentId,
        (first, previous_end): (u64, u64),
        bytes: u64,
        large: bool,
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
        // Direct writes go up to the end of a page, which must not need more room than there is.
        let bytes = bytes.next_multiple_of(DIRECT_ALIGNMENT as u64);
        let (file, from_reserve) = take_file(disk, unfinished, bytes, large)?;
        let page = id.header(&header).to_vec();
        file.write_all_at(&page, 0)?;
        file.sync()?;
        disk.rename(unfinished, &id.file_name())?;
        disk.sync_directory(DIRECTORY)?;
        let (size, offset) = (file.size()?, SEGMENT_HEADER as u64);
        let segment = Arc::new(segment);
        Ok(Self { segment, file, offset, size, page, staging: Vec::new(), blocks: 0, is_direct: true, from_reserve })
    }

    /// Whether a block of `len` bytes has room.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.offset + len as u64 <= self.size
    }

    /// Makes room for a block of `len` bytes.
    pub(crate) fn grow(&mut self, len: usize) -> io::Result<()> {
        let size = (self.offset + len as u64).next_multiple_of(DIRECT_ALIGNMENT as u64);
        write_zeros(&*self.file, self.size, size)?;
        self.size = size;
        Ok(())
    }

    /// Writes a block behind the last one.
    pub(crate) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.blocks += 1;
        self.is_direct = self.is_direct && self.write_direct(block)?;
        if !self.is_direct {
            self.file.write_all_at(block, self.offset)?;
        }
        self.offset += block.len() as u64;
        let in_page = self.offset as usize % DIRECT_ALIGNMENT;
        if in_page <= block.len() {
            self.page.clear();
            self.page.extend_from_slice(&block[block.len() - in_page..]);
        } else {
            self.page.extend_from_slice(block);
        }
        Ok(())
    }

    /// Writes a block with what stands before it in its page and zeros to the end of its last. Returns whether the file
    /// system can do that.
    fn write_direct(&mut self, block: &[u8]) -> io::Result<bool> {
        let start = self.offset - self.page.len() as u64;
        let len = (self.page.len() + block.len()).next_multiple_of(DIRECT_ALIGNMENT);
        if self.staging.len() < len + DIRECT_ALIGNMENT {
            self.staging = vec![0; (len + DIRECT_ALIGNMENT).next_power_of_two()];
        }
        let aligned = self.staging.as_ptr().align_offset(DIRECT_ALIGNMENT);
        let Some(staged) = self.staging.get_mut(aligned..aligned + len) else { return Ok(false) };
        let (before, rest) = staged.split_at_mut(self.page.len());
        let (middle, behind) = rest.split_at_mut(block.len());
        before.copy_from_slice(&self.page);
        middle.copy_from_slice(block);
        behind.fill(0);
        let written = self.file.write_direct_at(staged, start)?;
        if written {
            self.size = self.size.max(start + len as u64);
        }
        if self.staging.len() > STAGING_BYTES {
            self.staging = Vec::new();
        }
        Ok(written)
    }

    /// Whether it was written in blocks so large that it made no difference what the file was made of.
    pub(crate) fn is_large(&self) -> bool {
        self.offset / self.blocks.max(1) >= LARGE_BYTES
    }

    /// Whether half of it is used.
    pub(crate) fn is_half_full(&self) -> bool {
        self.offset * 2 > self.size
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.size.max(self.offset)
    }
}

/// A file for a segment of `bytes`: the spare, or a new one, or, if the disk is full, the reserve. Returns whether it is
/// that.
fn take_file(disk: &dyn Disk, name: &str, bytes: u64, large: bool) -> io::Result<(Arc<dyn DiskFile>, bool)> {
    let file = if disk.open(SPARE).is_ok() {
        disk.rename(SPARE, name)?;
        disk.open(name)?
    } else {
        disk.create(name)?
    };
    let made_ready = file.size()?;
    if made_ready >= bytes {
        return Ok((file, false));
    }
    match make_ready(&*file, made_ready, bytes, large) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            // What little room there is others need more.
            disk.remove(name)?;
            let reserve = disk.open(RESERVE).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
            if reserve.size()? < bytes {
                return Err(error);
            }
            disk.rename(RESERVE, name)?;
            Ok((reserve, true))
        }
        made => made.map(|()| (file, false)),
    }
}

/// Makes sure that a reserve is there: with it the log goes on when the disk is full, so that what frees room can be
/// written. Returns whether it is there.
pub(crate) fn prepare_reserve(disk: &dyn Disk, bytes: u64) -> io::Result<bool> {
    prepare(disk, RESERVE, bytes, false)
}

/// Makes sure that a spare file is there for the next segment, if there is room for one.
pub(crate) fn prepare_spare(disk: &dyn Disk, bytes: u64, large: bool) -> io::Result<()> {
    prepare(disk, SPARE, bytes, large).map(drop)
}

fn prepare(disk: &dyn Disk, name: &str, bytes: u64, large: bool) -> io::Result<bool> {
    if disk.open(name).is_ok() {
        return Ok(true);
    }
    let unfinished = "log/spare.new";
    let file = disk.create(unfinished)?;
    match make_ready(&*file, 0, bytes, large) {
        Ok(()) => disk.rename(unfinished, name).map(|()| true),
        Err(error) => {
            // What little room there is others need more.
            disk.remove(unfinished)?;
            if error.kind() == io::ErrorKind::StorageFull { Ok(false) } else { Err(error) }
        }
    }
}

/// Removes a segment that is no longer needed, with its index. Its file is recycled if there is no spare and nobody else
/// refers to it: a backup may, by a hard link.
pub(crate) fn remove(disk: &dyn Disk, id: SegmentId, recycle_bytes: Option<u64>) -> io::Result<()> {
    let name = id.file_name();
    // A segment that was needed for a short time only never got an index.
    let _ = disk.remove(&id.index_name());
    let fits = || disk.open(&name).and_then(|file| file.size()).is_ok_and(|size| Some(size) == recycle_bytes);
    if recycle_bytes.is_some()
        && [SPARE, RECYCLED].iter().all(|name| disk.open(name).is_err())
        && fits()
        && disk.is_sole_link(&name)
    {
        disk.rename(&name, RECYCLED)
    } else {
        disk.remove(&name)
    }
}

/// Makes removals safe. Only then a recycled file may get other content: a power failure before that might bring its
/// former name back, under which it would be damage.
pub(crate) fn sync_removals(disk: &dyn Disk) -> io::Result<()> {
    disk.sync_directory(DIRECTORY)?;
    if disk.open(RECYCLED).is_ok() && disk.open(SPARE).is_err() {
        disk.rename(RECYCLED, SPARE)?;
    }
    Ok(())
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

/// Gives a file its room: zeros that are really written, because a file that merely has its room syncs at half the speed,
/// unless the blocks are `large`.
fn make_ready(file: &dyn DiskFile, from: u64, to: u64, large: bool) -> io::Result<()> {
    if large && file.allocate(to)? || write_direct_zeros(file, from, to)? {
        return file.sync();
    }
    write_zeros(file, from, to)
}

/// Writes zeros past the system's cache. Returns whether the file system can do that.
fn write_direct_zeros(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<bool> {
    let piece = 1024 * 1024;
    if !(from | to).is_multiple_of(DIRECT_ALIGNMENT as u64) {
        return Ok(false);
    }
    let zeros = vec![0; piece + DIRECT_ALIGNMENT];
    let aligned = zeros.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let mut offset = from;
    while offset < to {
        let len = piece.min((to - offset) as usize);
        let Some(zeros) = zeros.get(aligned..aligned + len) else { return Ok(false) };
        if !file.write_direct_at(zeros, offset)? {
            return Ok(false);
        }
        offset += len as u64;
    }
    Ok(true)
}

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
