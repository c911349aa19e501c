//! The thread that writes: it takes all that has gathered, writes it as one block, waits for the disk, tells everybody.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    error::WriteError,
    format::{BLOCK_HEADER, SEGMENT_HEADER, SegmentId},
    segment::Tail,
    store::{Block, Shared, Task},
};

/// Bytes of the first segment of a run, which nothing was made ready for: small, so that starting is quick.
const FIRST_SEGMENT_BYTES: u64 = 1024 * 1024;

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(50);

/// How long a broker that lies waits with what it has told to be safe.
const SABOTAGE: Duration = Duration::from_millis(2);

/// What a step of the writer or the keeper came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It did something.
    Done,
    /// There was nothing to do.
    Idle,
    /// It cannot go on for now: the disk is full.
    Stalled,
    /// It is over.
    Ended,
}

/// Writes the log.
pub struct Writer {
    shared: Arc<Shared>,
    next_number: u64,
    tail: Tail,
    /// All before this sequence number is safe.
    safe: u64,
    /// One past the last sequence number written.
    written: u64,
    /// What could not be written yet because the disk is full.
    waiting: Option<Block>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("safe", &self.safe).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn begin(shared: Arc<Shared>, number: u64, first: u64) -> Result<Self, WriteError> {
        let bytes = FIRST_SEGMENT_BYTES.min(shared.options.segment_bytes);
        let tail = begin_segment(&shared, number, first, bytes)?;
        Ok(Self { shared, next_number: number + 1, tail, safe: first, written: first, waiting: None })
    }

    /// Does one thing, if there is something to do.
    ///
    /// # Errors
    /// If the disk fails. Nothing may be called after that.
    pub fn step(&mut self) -> Result<Step, WriteError> {
        let task = match self.waiting.take() {
            Some(block) => Task::Write(block),
            None => self.shared.next_task(),
        };
        match task {
            Task::Write(block) => self.write(block),
            Task::Roll => {
                // Without room there will be no new segment now; whoever wants it asks again.
                let rolled = self.tail.offset == SEGMENT_HEADER as u64 || self.roll(0)?;
                Ok(if rolled { Step::Done } else { Step::Stalled })
            }
            Task::Idle => Ok(Step::Idle),
            Task::Close => self.end().map(|()| Step::Ended),
        }
    }

    /// Whether a block of so many bytes takes no more than being written.
    pub(crate) fn is_ready_for(&self, bytes: usize) -> bool {
        self.waiting.is_none() && self.tail.has_room(bytes)
    }

    /// Whether something was written that may be lost with the power.
    fn is_unsynced(&self) -> bool {
        self.safe < self.written
    }

    fn write(&mut self, mut block: Block) -> Result<Step, WriteError> {
        if !self.make_room(block.bytes.len())? {
            self.waiting = Some(block);
            return Ok(Step::Stalled);
        }
        let segment = Arc::clone(&self.tail.segment);
        segment.encrypt(&mut block.bytes[BLOCK_HEADER..], block.first_sequence);
        segment.id.seal_block(segment.salt, &mut block.bytes, block.first_sequence, self.safe, block.count);
        let (base, begun) = (self.tail.offset + BLOCK_HEADER as u64, Instant::now());
        self.tail.write(&block.bytes).map_err(|source| self.error(source))?;
        self.written = block.end;
        self.shared.written_bytes.fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
        if block.sync {
            self.sync()?;
            self.shared.note_sync(begun.elapsed());
        }
        self.check_others()?;
        self.shared.commit(block.end);
        self.shared.ledger.lock().record(base, &block.bytes[BLOCK_HEADER..], block.first_sequence);
        self.shared.recycle(block.bytes);
        self.shared.update_congestion();
        if self.tail.is_half_full() && !self.shared.spare_due.swap(true, Ordering::Relaxed) {
            self.shared.wake_keeper();
        }
        Ok(Step::Done)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        if self.is_unsynced() {
            let name = self.tail.segment.id.file_name();
            // The keeper has to know at once: the system might not tell it.
            self.tail.sync().map_err(|source| self.error(self.shared.fail_at(&name, source)))?;
            self.check_others()?;
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.safe = self.written;
            self.shared.safe.fetch_max(self.safe, Ordering::AcqRel);
        }
        Ok(())
    }

    /// What the keeper could not make safe may be lost, and no sync would tell of it again.
    fn check_others(&self) -> Result<(), WriteError> {
        if self.shared.has_failed() {
            return Err(self.error(io::Error::other("the keeper could not make the log safe")));
        }
        Ok(())
    }

    /// Says behind the last block that it is safe, so that later damage to it is not taken for a torn tail.
    fn end(&mut self) -> Result<(), WriteError> {
        self.sync()?;
        if self.tail.offset > SEGMENT_HEADER as u64 {
            let mut block = vec![0; BLOCK_HEADER];
            let segment = &self.tail.segment;
            segment.id.seal_block(segment.salt, &mut block, self.written, self.safe, 0);
            // Nothing is lost without it.
            let _ = self.tail.write(&block).and_then(|()| self.tail.sync());
        }
        Ok(())
    }

    /// Makes room for a block of `bytes` in this segment or the next. Returns whether the disk had room.
    fn make_room(&mut self, bytes: usize) -> Result<bool, WriteError> {
        if self.tail.has_room(bytes) {
            return Ok(true);
        }
        if self.tail.offset > SEGMENT_HEADER as u64 {
            return self.roll(bytes);
        }
        let grown = self.tail.grow(bytes).map_err(|source| self.error(source));
        self.unless_full(grown).map(|grown| grown.is_some())
    }

    /// Nothing if the disk is full, which is told once.
    fn unless_full<T>(&self, result: Result<T, WriteError>) -> Result<Option<T>, WriteError> {
        match result {
            Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                if !self.shared.full.swap(true, Ordering::Relaxed) {
                    let file = error.file.display();
                    (self.shared.hooks.on_trouble)(format!("the disk is full ({file}); the log waits for room"));
                    self.shared.update_congestion();
                }
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Begins the next segment, with room for a block of `bytes`. Returns whether the disk had room.
    fn roll(&mut self, bytes: usize) -> Result<bool, WriteError> {
        // What the next segment's existence says is safe must be.
        self.sync()?;
        let bytes = self.shared.options.segment_bytes.max((bytes + SEGMENT_HEADER) as u64);
        self.shared.large.store(self.tail.is_large(), Ordering::Relaxed);
        let begun = begin_segment(&self.shared, self.next_number, self.written, bytes);
        let Some(tail) = self.unless_full(begun)? else { return Ok(false) };
        if tail.from_reserve && !self.shared.full.swap(true, Ordering::Relaxed) {
            (self.shared.hooks.on_trouble)("the disk is full; the log goes on in its reserve".into());
            self.shared.update_congestion();
        }
        self.tail = tail;
        self.next_number += 1;
        self.shared.spare_due.store(false, Ordering::Relaxed);
        self.shared.wake_keeper();
        Ok(true)
    }

    fn error(&self, source: io::Error) -> WriteError {
        WriteError { file: self.shared.disk.path(&self.tail.segment.id.file_name()), source }
    }
}

/// The thread of its own: runs until the store is closed or the disk fails.
pub(crate) fn run(shared: &Shared, writer: &Mutex<Writer>) {
    loop {
        let is_unsynced = writer.lock().is_unsynced();
        let has_rested = shared.wait_for_task(is_unsynced);
        if cfg!(feature = "sabotage") {
            // What is told to be safe is not for long enough to be found out.
            thread::sleep(SABOTAGE);
        }
        let sync = |writer: &mut Writer| writer.sync().map(|()| Step::Done);
        let mut step = if has_rested { sync(&mut writer.lock()) } else { writer.lock().step() };
        while let Ok(Step::Stalled) = step {
            // What finds no room is not committed, and closing does not wait for it.
            if shared.is_closed() {
                return;
            }
            thread::sleep(FULL_RETRY);
            step = writer.lock().step();
        }
        match step {
            Ok(Step::Ended) => return,
            Ok(_) => {}
            Err(error) => return shared.fail(error),
        }
    }
}

fn begin_segment(shared: &Shared, number: u64, first: u64, bytes: u64) -> Result<Tail, WriteError> {
    let id = SegmentId { first: number, number, generation: 0, epoch: shared.epoch };
    let previous_end = shared.ledger.lock().end;
    let large = shared.large.load(Ordering::Relaxed);
    let tail = Tail::begin(&*shared.disk, &shared.options.keys, id, (first, previous_end), bytes, large);
    let tail = tail.map_err(|source| WriteError { file: shared.disk.path(&id.file_name()), source })?;
    shared.ledger.lock().begin(Arc::clone(&tail.segment), tail.file_bytes());
    Ok(tail)
}
