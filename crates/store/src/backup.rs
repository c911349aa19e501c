//! Copying a log while it is in use.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{error::BackupError, format::SegmentId, segment::DIRECTORY, snapshot, store::Shared};

/// How long the log may take to begin a new segment.
const ROLL_WITHIN: Duration = Duration::from_secs(30);

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// Segments.
    pub segments: usize,
    /// Of these, linked instead of copied.
    pub linked: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

pub(crate) fn run(
    shared: &Shared,
    target: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Backup, BackupError> {
    let failed = |file: &Path| {
        let file = file.to_owned();
        move |source| BackupError::Io { file, source }
    };
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::NotEmpty(target.into()));
    }
    let directory = target.join(DIRECTORY);
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    // From here on nothing is removed or replaced, so that no file knows of anything that comes after the copy's end: an
    // index may leave out, and an inventory not list, what only a later entry has let go of. Indexes still appear, so
    // only those are copied that are there already.
    let _files = shared.files.lock();
    let indexed: HashSet<SegmentId> = {
        let ledger = shared.ledger.lock();
        ledger.accounts.values().filter(|account| account.indexed).map(|account| account.segment.id).collect()
    };
    // What was appended before this call is in a segment that is not written to any more once the next has begun.
    let sequence = shared.request_roll();
    wait_for_roll(shared, sequence)?;
    let ids: Vec<SegmentId> = {
        let ledger = shared.ledger.lock();
        let sealed = ledger.accounts.values().take_while(|account| account.segment.first < sequence);
        sealed.map(|account| account.segment.id).collect()
    };
    let mut backup = Backup::default();
    for (done, id) in ids.iter().enumerate() {
        progress(done, ids.len());
        let (linked, bytes) = copy(shared, target, &id.file_name())?;
        backup.segments += 1;
        backup.linked += usize::from(linked);
        backup.bytes += bytes;
        if indexed.contains(id) {
            copy(shared, target, &id.index_name())?;
        }
    }
    match copy(shared, target, snapshot::NAME) {
        Err(BackupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        other => drop(other?),
    }
    copy_bytes(&shared.disk.path("epoch"), &target.join("epoch"))?;
    for directory in [&directory, target] {
        fs::File::open(directory).and_then(|file| file.sync_all()).map_err(failed(directory))?;
    }
    progress(ids.len(), ids.len());
    Ok(backup)
}

/// Waits until a segment has begun with `sequence` or later, or everything before is in a sealed one.
fn wait_for_roll(shared: &Shared, sequence: u64) -> Result<(), BackupError> {
    let deadline = std::time::Instant::now() + ROLL_WITHIN;
    loop {
        let begun = {
            let ledger = shared.ledger.lock();
            ledger.accounts.keys().next_back().is_some_and(|&first| first >= sequence)
        };
        if begun {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            return Err(BackupError::NoRest);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Links a file, or copies it where it cannot be linked.
fn copy(shared: &Shared, target: &Path, name: &str) -> Result<(bool, u64), BackupError> {
    let (from, to): (PathBuf, PathBuf) = (shared.disk.path(name), target.join(name));
    if fs::hard_link(&from, &to).is_ok() {
        let bytes = fs::metadata(&to).map_or(0, |metadata| metadata.len());
        return Ok((true, bytes));
    }
    copy_bytes(&from, &to).map(|bytes| (false, bytes))
}

fn copy_bytes(from: &Path, to: &Path) -> Result<u64, BackupError> {
    let copied = fs::copy(from, to).and_then(|bytes| fs::File::open(to)?.sync_all().map(|()| bytes));
    copied.map_err(|source| BackupError::Io { file: from.into(), source })
}
