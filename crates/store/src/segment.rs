//! Segment files: made ready ahead of use, so that a commit never waits for the file system to find room.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::format::{SEGMENT_HEADER, SegmentId};

/// A segment being written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) path: PathBuf,
    file: File,
    /// Where the next block goes.
    offset: u64,
    size: u64,
}

impl Segment {
    /// Begins a segment in the spare file, or in a new one of `bytes` zeros if there is none. The file gets its name
    /// only once its header is safe, so that a named segment without a valid header is damage.
    pub(crate) fn begin(directory: &Path, id: SegmentId, first_sequence: u64, bytes: u64) -> io::Result<Self> {
        prepare_spare(directory, bytes)?;
        let (spare, path) = (directory.join("spare"), directory.join(id.file_name()));
        let file = OpenOptions::new().read(true).write(true).open(&spare)?;
        file.write_all_at(&id.header(first_sequence), 0)?;
        file.sync_data()?;
        fs::rename(&spare, &path)?;
        sync_directory(directory)?;
        let size = file.metadata()?.len();
        Ok(Self { id, path, file, offset: SEGMENT_HEADER as u64, size })
    }

    /// Whether a block of `len` bytes has room. A block always has room in an empty segment, which grows if it must.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.offset == SEGMENT_HEADER as u64 || self.offset + len as u64 <= self.size
    }

    /// Writes a block and waits until it is safe.
    pub(crate) fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all_at(block, self.offset)?;
        self.file.sync_data()?;
        self.offset += block.len() as u64;
        Ok(())
    }
}

/// Makes sure that a spare file is there for the next segment.
pub(crate) fn prepare_spare(directory: &Path, bytes: u64) -> io::Result<()> {
    let spare = directory.join("spare");
    if spare.exists() {
        return Ok(());
    }
    let unfinished = directory.join("spare.new");
    write_zeros(&unfinished, bytes)?;
    fs::rename(&unfinished, &spare)
}

/// Removes a segment that is no longer needed: its file becomes the spare if there is none.
pub(crate) fn retire(directory: &Path, id: SegmentId, bytes: u64) -> io::Result<()> {
    let path = directory.join(id.file_name());
    let spare = directory.join("spare");
    if !spare.exists() && fs::metadata(&path)?.len() == bytes {
        fs::rename(&path, &spare)?;
    } else {
        fs::remove_file(&path)?;
    }
    sync_directory(directory)
}

/// The segments of a directory in the order in which they were written.
pub(crate) fn list(directory: &Path) -> io::Result<Vec<SegmentId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(directory)? {
        ids.extend(entry?.file_name().to_str().and_then(SegmentId::parse));
    }
    ids.sort_by_key(|id| id.number);
    Ok(ids)
}

pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Zeros that are really written: a file that is merely allocated syncs at less than half the speed.
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let zeros = vec![0; 256 * 1024];
    let mut offset = 0;
    while offset < bytes {
        let len = zeros.len().min((bytes - offset) as usize);
        file.write_all_at(&zeros[..len], offset)?;
        offset += len as u64;
    }
    file.sync_all()
}
