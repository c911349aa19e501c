//! The store as its users see it, and what its threads share.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use crate::{
    backup::{self, Backup},
    cipher::Keys,
    disk::{Disk, OsDisk},
    error::{BackupError, OpenError, ReadError, WriteError},
    format::{BLOCK_HEADER, Entry, content_check, put_entry},
    keeper::Keeper,
    ledger::Ledger,
    reader::{self, IndexCache, Page, Wanted},
    recovery::{self, Contents},
    segment,
    writer::{self, Step, Writer},
};

/// The name of the thread that writes. If it panics, nothing is committed any more.
pub const WRITER_THREAD: &str = "log";

/// The name of the thread that tidies up behind it.
pub const KEEPER_THREAD: &str = "log-keeper";

/// A block grows no longer once it has this many bytes: what follows goes into the next one.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// Sealed segments that may wait for their index before publishers have to wait.
const UNINDEXED_MAX: usize = 2;

/// How long nothing has to come before what was written without a sync is synced, and buffers are given back.
const REST: Duration = Duration::from_secs(1);

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Bytes that may wait for the disk before [`Store::congested`] says so.
    pub waiting_bytes_max: usize,
    /// Bytes per second that rewriting sparse segments may write while disk use is within its bound; 0 for no limit.
    pub rewrite_bytes_per_second: u64,
    /// Encryption at rest.
    pub keys: Keys,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            waiting_bytes_max: 8 * 1024 * 1024,
            rewrite_bytes_per_second: 64 * 1024 * 1024,
            keys: Keys::default(),
        }
    }
}

/// How long a sync may take on the average for whoever waits for it to do it: about what it costs to have another thread do
/// it and be told.
const QUICK: Duration = Duration::from_micros(300);

/// Bytes of a block that whoever waits for it may write.
const QUICK_BYTES: usize = 128 * 1024;

/// What the store tells of its own accord, on its own threads.
pub struct Hooks {
    /// The disk failed: nothing is committed any more, and the process should end.
    pub on_failure: Box<dyn Fn(WriteError) + Send + Sync>,
    /// The entries of a segment can be read from now on.
    pub on_sealed: Box<dyn Fn(Sealed) + Send + Sync>,
    /// Something did not work and is tried again.
    pub on_trouble: Box<dyn Fn(String) + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { on_failure: Box::new(|_| {}), on_sealed: Box::new(|_| {}), on_trouble: Box::new(|_| {}) }
    }
}

/// A segment whose entries can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// One past its last sequence number.
    pub end: u64,
    /// Who holds something in it, with the sequence numbers of the holds in order.
    pub holders: Vec<(u64, Vec<u64>)>,
}

/// When an append counts as committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the disk has it: it survives a power failure.
    #[default]
    Fsync,
    /// Once the operating system has it: it survives the end of the process.
    Os,
}

/// What the store uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments.
    pub segments: usize,
    /// Bytes of their files and indexes.
    pub disk_bytes: u64,
    /// Bytes of what is live in them, as counted last.
    pub live_bytes: u64,
    /// Live holds.
    pub holds: u64,
    /// Whether the disk is full, and the log waits for room.
    pub full: bool,
    /// Calls that made data safe.
    pub syncs: u64,
    /// Bytes of blocks written.
    pub written_bytes: u64,
    /// Bytes of segments rewritten.
    pub rewritten_bytes: u64,
}

/// An open log.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    /// Who writes, unless whoever opened the store has it.
    writer: Option<Arc<Mutex<Writer>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// What the users of the store and its threads share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) hooks: Hooks,
    pub(crate) epoch: u64,
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    committed: AtomicU64,
    congested: AtomicBool,
    pub(crate) full: AtomicBool,
    /// Whether the next segment will soon be needed.
    pub(crate) spare_due: AtomicBool,
    /// Whether the log was written in large blocks lately.
    pub(crate) large: AtomicBool,
    /// All before this sequence number survives a power failure.
    pub(crate) safe: AtomicU64,
    failed: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    pub(crate) ledger: Mutex<Ledger>,
    keeper_due: Mutex<bool>,
    keeper_wake: Condvar,
    pub(crate) indexes: Mutex<IndexCache>,
    /// Held while a backup is made, and while segments are given up, removed or replaced.
    pub(crate) files: Mutex<()>,
    pub(crate) syncs: AtomicU64,
    /// What writing and syncing a block takes on the average, in nanoseconds.
    sync_ns: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) rewritten_bytes: AtomicU64,
    /// Held for as long as the store is open.
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("committed", &self.committed).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Waiting {
    blocks: VecDeque<Block>,
    bytes: usize,
    next_sequence: u64,
    roll: bool,
    closed: bool,
    spare: Vec<u8>,
}

/// Entries that become one block.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Room for the header, then the entries.
    pub(crate) bytes: Vec<u8>,
    pub(crate) first_sequence: u64,
    /// One past the last sequence number.
    pub(crate) end: u64,
    pub(crate) count: u32,
    pub(crate) sync: bool,
}

/// What the writer is to do next.
pub(crate) enum Task {
    Write(Block),
    /// Begin a new segment.
    Roll,
    Idle,
    Close,
}

impl Store {
    /// Opens the log in `data`, which is created if it is not there, and starts the log's threads.
    ///
    /// # Errors
    /// If another process has it open, if it is damaged or encrypted with another key, or if the disk refuses.
    pub fn open(data: &Path, options: Options, hooks: Hooks) -> Result<(Self, Contents), OpenError> {
        std::fs::create_dir_all(data).map_err(OpenError::io("cannot create", data))?;
        let (mut store, contents, writer, keeper) = Self::open_on(Arc::new(OsDisk::new(data)), options, hooks)?;
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name.into()).spawn(run);
            thread.map_err(OpenError::io("cannot start a thread for", data))
        };
        let (shared, writer) = (Arc::clone(&store.shared), Arc::new(Mutex::new(writer)));
        store.writer = Some(Arc::clone(&writer));
        store.threads.push(start(WRITER_THREAD, Box::new(move || writer::run(&shared, &writer)))?);
        store.threads.push(start(KEEPER_THREAD, Box::new(|| keeper.run()))?);
        Ok((store, contents))
    }

    /// Opens the log on a disk, without threads: whoever calls runs the writer and the keeper step by step.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
        hooks: Hooks,
    ) -> Result<(Self, Contents, Writer, Keeper), OpenError> {
        let opened = recovery::open(&*disk, &options, &hooks)?;
        let recovery::Opened { lock, epoch, ledger, contents, next_number, next_sequence } = opened;
        let shared = Arc::new(Shared {
            disk,
            options,
            hooks,
            epoch,
            waiting: Mutex::new(Waiting {
                blocks: VecDeque::new(),
                bytes: 0,
                next_sequence,
                roll: false,
                closed: false,
                spare: Vec::new(),
            }),
            arrived: Condvar::new(),
            committed: AtomicU64::new(next_sequence - 1),
            congested: AtomicBool::new(false),
            full: AtomicBool::new(false),
            spare_due: AtomicBool::new(false),
            large: AtomicBool::new(false),
            safe: AtomicU64::new(next_sequence),
            failed: AtomicBool::new(false),
            wakers: Mutex::default(),
            ledger: Mutex::new(ledger),
            keeper_due: Mutex::new(true),
            keeper_wake: Condvar::new(),
            indexes: Mutex::default(),
            files: Mutex::new(()),
            syncs: AtomicU64::new(0),
            sync_ns: AtomicU64::new(QUICK.as_nanos() as u64),
            written_bytes: AtomicU64::new(0),
            rewritten_bytes: AtomicU64::new(0),
            _lock: lock,
        });
        // A run always begins a segment of its own: an older epoch's file is never written to.
        let writer = Writer::begin(Arc::clone(&shared), next_number, next_sequence);
        let writer =
            writer.map_err(|error| OpenError::Io { what: "cannot write", path: error.file, source: error.source })?;
        let keeper = Keeper::new(Arc::clone(&shared));
        Ok((Self { shared, writer: None, threads: Vec::new() }, contents, writer, keeper))
    }

    /// Appends entries as one unit: they get consecutive sequence numbers and become safe together. Returns the first
    /// one's first sequence number. Does not wait for the disk.
    pub fn append(&self, entries: &[Entry<'_>], durability: Durability) -> u64 {
        self.shared.append(entries, durability)
    }

    /// The same with [`Durability::Fsync`], for somebody who does nothing else until it is committed.
    /// [`Store::commit_alone`] has to follow.
    pub fn append_alone(&self, entries: &[Entry<'_>]) -> u64 {
        self.shared.gather(entries, Durability::Fsync)
    }

    /// Has what was appended last committed: on this thread, if `may_wait`, the disk is quick and nothing else is on its way
    /// there. That saves two changes of threads, which take as long as a quick disk.
    pub fn commit_alone(&self, may_wait: bool) {
        // A broker that lies must not be quick to make it true.
        let may_wait = may_wait && !cfg!(feature = "sabotage");
        let writer = self.writer.as_ref().filter(|_| may_wait && self.shared.is_quick());
        if let Some(mut writer) = writer.and_then(|writer| writer.try_lock())
            && self.shared.only_block().is_some_and(|bytes| writer.is_ready_for(bytes))
        {
            let unless_done = Failing(&self.shared);
            let step = writer.step();
            std::mem::forget(unless_done);
            match step {
                // What has come meanwhile has told the thread itself.
                Ok(Step::Done) => return,
                Ok(_) => {}
                Err(error) => self.shared.fail(error),
            }
        }
        self.shared.arrived.notify_one();
    }

    /// The last sequence number that is committed.
    pub fn committed(&self) -> u64 {
        self.shared.committed.load(Ordering::Acquire)
    }

    /// Wakes `waker` once, with the next commit or when publishers need not wait any longer.
    pub fn wake_when_committed(&self, waker: &Waker) {
        self.shared.wakers.lock().push(waker.clone());
    }

    /// Whether too much waits for the disk.
    pub fn congested(&self) -> bool {
        self.shared.congested.load(Ordering::Acquire)
    }

    /// Reads what a holder holds, from the sequence number `from` on and before `to`, all of it in sealed segments:
    /// about `bytes` of bodies, or the first if that is longer, and at most `count`. If `only` is not empty, nothing but
    /// these sequence numbers is read, which are in order.
    ///
    /// # Errors
    /// If the disk refuses, or what it gives is not what was written.
    pub fn read(
        &self,
        holder: u64,
        from: u64,
        to: u64,
        only: &[u64],
        count: usize,
        bytes: usize,
    ) -> Result<Page, ReadError> {
        reader::read(&self.shared, Wanted { holder, from, to, only }, count, bytes)
    }

    /// The sequence numbers of all that a holder holds in sealed segments, from `from` on and before `to`, in order.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn members(&self, holder: u64, from: u64, to: u64) -> Result<Vec<u64>, ReadError> {
        reader::members(&self.shared, Wanted { holder, from, to, only: &[] })
    }

    /// Has the segment that is being written sealed, so that what is in it can be read.
    pub fn seal(&self) {
        self.shared.request_roll();
    }

    /// What the store uses.
    pub fn usage(&self) -> Usage {
        let ledger = self.shared.ledger.lock();
        let mut usage = Usage {
            segments: ledger.accounts.len(),
            full: self.shared.full.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
            rewritten_bytes: self.shared.rewritten_bytes.load(Ordering::Relaxed),
            ..Usage::default()
        };
        for account in ledger.accounts.values() {
            usage.disk_bytes += account.file_bytes;
            usage.live_bytes += account.live_bytes;
            usage.holds += account.live;
        }
        usage
    }

    /// Copies the log as it is now into `target`, a directory that is not there or empty, while the store goes on.
    /// `progress` is told how many of how many segments are copied.
    ///
    /// # Errors
    /// If the target is in use, or a file cannot be copied.
    pub fn backup(&self, target: &Path, progress: &mut dyn FnMut(usize, usize)) -> Result<Backup, BackupError> {
        backup::run(&self.shared, target, progress)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.arrived.notify_one();
        self.shared.wake_keeper();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Fails the store if the writer panics on a thread that goes on after that: what it has written so far is unknown.
struct Failing<'a>(&'a Shared);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        let source = io::Error::other("the log's writer has panicked");
        self.0.fail(WriteError { file: self.0.disk.path(segment::DIRECTORY), source });
    }
}

impl Waiting {
    fn push(&mut self, entries: &[Entry<'_>], checks: &[u32], durability: Durability, room: usize) -> u64 {
        let first = self.next_sequence;
        if self.blocks.back().is_none_or(|block| block.bytes.len() >= BLOCK_BYTES) {
            let mut bytes = std::mem::take(&mut self.spare);
            bytes.clear();
            bytes.resize(BLOCK_HEADER, 0);
            self.blocks.push_back(Block { bytes, first_sequence: first, end: first, count: 0, sync: false });
        }
        let Some(block) = self.blocks.back_mut() else { return first };
        let before = block.bytes.len();
        for (entry, &check) in entries.iter().zip(checks) {
            put_entry(&mut block.bytes, entry, self.next_sequence, check, room);
            self.next_sequence += entry.sequences();
        }
        block.count += entries.len() as u32;
        block.end = self.next_sequence;
        block.sync |= durability == Durability::Fsync;
        self.bytes += block.bytes.len() - before;
        first
    }
}

impl Shared {
    pub(crate) fn append(&self, entries: &[Entry<'_>], durability: Durability) -> u64 {
        let first = self.gather(entries, durability);
        self.arrived.notify_one();
        first
    }

    /// Appends, and leaves it to the caller to have it written.
    fn gather(&self, entries: &[Entry<'_>], durability: Durability) -> u64 {
        let checks: Vec<u32> = entries.iter().map(content_check).collect();
        let room = if self.options.keys.encrypts() { crate::cipher::TAG_LEN } else { 0 };
        let mut waiting = self.waiting.lock();
        let first = waiting.push(entries, &checks, durability, room);
        if waiting.bytes > self.options.waiting_bytes_max {
            self.congested.store(true, Ordering::Release);
        }
        if cfg!(feature = "sabotage") {
            self.committed.store(waiting.next_sequence - 1, Ordering::Release);
        }
        first
    }

    /// Takes what the writer is to do.
    pub(crate) fn next_task(&self) -> Task {
        let mut waiting = self.waiting.lock();
        if let Some(block) = waiting.blocks.pop_front() {
            waiting.bytes = waiting.bytes.saturating_sub(block.bytes.len());
            return Task::Write(block);
        }
        match (std::mem::take(&mut waiting.roll), waiting.closed) {
            (true, _) => Task::Roll,
            (false, true) => Task::Close,
            (false, false) => Task::Idle,
        }
    }

    /// Waits until the writer has something to do. Returns whether there was nothing for so long that what is `unsynced`
    /// should wait no longer.
    pub(crate) fn wait_for_task(&self, unsynced: bool) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.blocks.is_empty() && !waiting.roll && !waiting.closed {
            if !unsynced && waiting.spare.capacity() == 0 {
                self.arrived.wait(&mut waiting);
            } else if self.arrived.wait_for(&mut waiting, REST).timed_out() {
                // Who has nothing to do needs no buffer.
                waiting.spare = Vec::new();
                if unsynced {
                    return true;
                }
            }
        }
        false
    }

    /// The bytes of the block that waits, if there is one and nothing else, and it is not long.
    fn only_block(&self) -> Option<usize> {
        let waiting = self.waiting.lock();
        let block = waiting.blocks.front().filter(|_| waiting.blocks.len() == 1 && !waiting.roll)?;
        Some(block.bytes.len()).filter(|bytes| *bytes <= QUICK_BYTES)
    }

    /// A block is safe, so long after it began to be written.
    pub(crate) fn note_sync(&self, took: Duration) {
        let (took, before) = (took.as_nanos() as u64, self.sync_ns.load(Ordering::Relaxed));
        self.sync_ns.store(before - before / 16 + took / 16, Ordering::Relaxed);
    }

    fn is_quick(&self) -> bool {
        self.sync_ns.load(Ordering::Relaxed) <= QUICK.as_nanos() as u64
    }

    /// Asks for a new segment, and returns the sequence number that it will begin with or after.
    pub(crate) fn request_roll(&self) -> u64 {
        let mut waiting = self.waiting.lock();
        waiting.roll = true;
        let sequence = waiting.next_sequence;
        drop(waiting);
        self.arrived.notify_one();
        sequence
    }

    /// A written block's buffer gathers what comes next, unless it has grown out of measure.
    pub(crate) fn recycle(&self, bytes: Vec<u8>) {
        if bytes.capacity() <= 2 * BLOCK_BYTES {
            self.waiting.lock().spare = bytes;
        }
    }

    /// All before `end` is committed.
    pub(crate) fn commit(&self, end: u64) {
        self.committed.store(end - 1, Ordering::Release);
        self.wake();
    }

    /// Says whether publishers have to wait, after something has changed, and wakes them if not.
    pub(crate) fn update_congestion(&self) {
        // Both threads come here: under the lock the later one has the last word.
        let ledger = self.ledger.lock();
        let unindexed = ledger.accounts.values().rev().skip(1).take_while(|account| !account.indexed).count();
        let congested = unindexed > UNINDEXED_MAX
            || self.full.load(Ordering::Relaxed)
            || self.waiting.lock().bytes > self.options.waiting_bytes_max;
        let was_congested = self.congested.swap(congested, Ordering::AcqRel);
        drop(ledger);
        if was_congested && !congested {
            self.wake();
        }
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    pub(crate) fn wake_keeper(&self) {
        *self.keeper_due.lock() = true;
        self.keeper_wake.notify_one();
    }

    /// Waits until the keeper is wanted, or `limit` has passed.
    pub(crate) fn wait_for_keeper(&self, limit: Duration) {
        let mut due = self.keeper_due.lock();
        if !*due {
            self.keeper_wake.wait_for(&mut due, limit);
        }
        *due = false;
    }

    /// Makes sure that everything before `end`, which has been written, survives a power failure: what is derived from
    /// it and made safe must never be all that is left of it.
    pub(crate) fn make_safe(&self, end: u64) -> io::Result<()> {
        if self.safe.load(Ordering::Acquire) >= end || cfg!(feature = "sabotage-index") {
            return Ok(());
        }
        // All segments but the last are safe already.
        let last = self.ledger.lock().accounts.values().next_back().map(|account| account.segment.id.file_name());
        let Some(name) = last else { return Ok(()) };
        self.disk.open(&name)?.sync().map_err(|source| self.fail_at(&name, source))?;
        if self.has_failed() {
            return Err(io::Error::other("the log could not be made safe"));
        }
        self.safe.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Whether the disk has failed, so that nothing may be committed any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn fail(&self, error: WriteError) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            (self.hooks.on_failure)(error);
        }
    }

    /// The same for a failure that is not the writer's. Returns the error.
    pub(crate) fn fail_at(&self, name: &str, source: io::Error) -> io::Error {
        let error = io::Error::new(source.kind(), source.to_string());
        self.fail(WriteError { file: self.disk.path(name), source });
        error
    }
}
