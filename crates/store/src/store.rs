//! The store as its users see it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    thread,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    error::{OpenError, WriteError},
    format::Entry,
    recovery::{Contents, Reading},
    segment,
    writer::{self, Writer},
};

/// The name of the thread that writes. If it panics, nothing is committed any more.
pub const WRITER_THREAD: &str = "log";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Bytes that may wait for the disk before [`Store::congested`] says so.
    pub waiting_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 32 * 1024 * 1024, waiting_bytes_max: 16 * 1024 * 1024 }
    }
}

/// An open log.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
    waiting_bytes_max: usize,
    /// Held for as long as the store is open.
    _lock: File,
}

/// What the users of the store and its writer share.
pub(crate) struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    committed: AtomicU64,
    congested: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    on_failure: Box<dyn Fn(WriteError) + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("committed", &self.committed).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Waiting {
    block: Vec<u8>,
    count: u32,
    next_sequence: u64,
    closed: bool,
}

/// The entries that one block holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) first_sequence: u64,
    pub(crate) count: u32,
}

impl Store {
    /// Opens the log in `data`, which is created if it is not there. `on_failure` is called, on the log's own thread,
    /// when the disk fails: nothing is committed after that, and the process should end.
    ///
    /// # Errors
    /// If another process has it open, if it is damaged, or if the disk refuses.
    pub fn open(
        data: &Path,
        options: &Options,
        on_failure: impl Fn(WriteError) + Send + Sync + 'static,
    ) -> Result<(Self, Contents), OpenError> {
        let directory = data.join("log");
        fs::create_dir_all(&directory).map_err(OpenError::io("cannot create", &directory))?;
        let lock = lock(data)?;
        let mut reading = Reading::default();
        reading.read_all(&directory)?;
        let epoch = next_epoch(data)?;
        let next_sequence = reading.next_sequence.max(1);
        let next_number = reading.last_number + 1;
        let empty = std::mem::take(&mut reading.empty);
        let (ledger, contents) = reading.split();
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting { block: Vec::new(), count: 0, next_sequence, closed: false }),
            arrived: Condvar::new(),
            committed: AtomicU64::new(next_sequence - 1),
            congested: AtomicBool::new(false),
            wakers: Mutex::default(),
            on_failure: Box::new(on_failure),
        });
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            directory: directory.clone(),
            epoch,
            next_number,
            segment_bytes: options.segment_bytes,
            ledger,
            segment: None,
            spare: None,
            rescue_due: false,
        };
        // A run always begins a segment of its own: an older epoch's file is never appended to.
        let roll = writer.roll(next_sequence);
        roll.map_err(|error| OpenError::Io { what: "cannot write", path: error.file, source: error.source })?;
        for id in empty {
            // One that stays does no harm: it is found to be empty again.
            let _ = segment::retire(&directory, id, options.segment_bytes);
        }
        let writer = thread::Builder::new().name(WRITER_THREAD.into()).spawn(move || writer.run());
        let writer = writer.map_err(OpenError::io("cannot start the thread that writes", &directory))?;
        let waiting_bytes_max = options.waiting_bytes_max;
        let store = Self { shared, writer: Some(writer), waiting_bytes_max, _lock: lock };
        Ok((store, Contents { epoch, ..contents }))
    }

    /// Appends entries as one unit: they get consecutive sequence numbers and become safe together. Returns the first
    /// one's sequence number. Does not wait for the disk.
    pub fn append(&self, entries: &[Entry<'_>]) -> u64 {
        let mut waiting = self.shared.waiting.lock();
        let first = waiting.push(entries);
        if waiting.block.len() > self.waiting_bytes_max {
            self.shared.congested.store(true, Ordering::Release);
        }
        if cfg!(feature = "sabotage") {
            self.shared.committed.store(waiting.next_sequence - 1, Ordering::Release);
        }
        drop(waiting);
        self.shared.arrived.notify_one();
        first
    }

    /// The last sequence number that is safe: after any crash, it and all before it are there.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Acquire)
    }

    /// Wakes `waker` once, with the next commit.
    pub fn wake_when_committed(&self, waker: &Waker) {
        self.shared.wakers.lock().push(waker.clone());
    }

    /// Whether too much waits for the disk.
    pub fn congested(&self) -> bool {
        self.shared.congested.load(Ordering::Acquire)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.arrived.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Waiting {
    fn push(&mut self, entries: &[Entry<'_>]) -> u64 {
        let first = self.next_sequence;
        writer::encode(&mut self.block, entries);
        self.count += entries.len() as u32;
        self.next_sequence += entries.len() as u64;
        first
    }
}

impl Shared {
    /// Waits for entries and takes all of them. The empty `block` becomes the one that gathers next. Returns nothing
    /// once the store is closed and all is written.
    pub(crate) fn next_batch(&self, block: &mut Vec<u8>) -> Option<Batch> {
        let mut waiting = self.waiting.lock();
        while waiting.count == 0 {
            if waiting.closed {
                return None;
            }
            self.arrived.wait(&mut waiting);
        }
        block.clear();
        if block.capacity() > 4 * 1024 * 1024 {
            *block = Vec::new();
        }
        std::mem::swap(block, &mut waiting.block);
        let count = std::mem::take(&mut waiting.count);
        self.congested.store(false, Ordering::Release);
        Some(Batch { first_sequence: waiting.next_sequence - u64::from(count), count })
    }

    /// All up to `sequence` is safe.
    pub(crate) fn commit(&self, sequence: u64) {
        self.committed.store(sequence, Ordering::Release);
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Appends entries if nothing else waits. Returns whether it did.
    pub(crate) fn append_if_idle(&self, entries: &[Entry<'_>]) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.count == 0 && !entries.is_empty() {
            waiting.push(entries);
            return true;
        }
        entries.is_empty()
    }

    pub(crate) fn fail(&self, error: WriteError) {
        (self.on_failure)(error);
    }
}

fn lock(data: &Path) -> Result<File, OpenError> {
    let path = data.join("lock");
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(OpenError::io("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(data.into())),
        Err(fs::TryLockError::Error(source)) => Err(OpenError::Io { what: "cannot lock", path, source }),
    }
}

/// Counts up the epoch, in place: the file never changes its size.
fn next_epoch(data: &Path) -> Result<u64, OpenError> {
    let path: PathBuf = data.join("epoch");
    let attempt = || -> io::Result<u64> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let epoch = 1 + match bytes.split_at_checked(8) {
            None => 0,
            Some((epoch, crc)) if crc32fast::hash(epoch).to_le_bytes() == *crc => {
                u64::from_le_bytes(epoch.try_into().unwrap_or_default())
            }
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the epoch file is damaged")),
        };
        let mut bytes = epoch.to_le_bytes().to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        segment::sync_directory(data)?;
        Ok(epoch)
    };
    attempt().map_err(OpenError::io("cannot count up the epoch in", &path))
}
