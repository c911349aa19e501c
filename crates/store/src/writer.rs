//! The thread that writes: it takes all that has gathered, writes it as one block, waits for the disk, tells everybody.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

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

    /// Runs until the store is closed or the disk fails.
    pub(crate) fn run(mut self) {
        loop {
            match self.step(true) {
                Ok(Step::Stalled) => thread::sleep(FULL_RETRY),
                Ok(Step::Ended) => return,
                Ok(_) => {}
                Err(error) => {
                    self.shared.fail(error);
                    return;
                }
            }
        }
    }

    /// Does one thing: with `wait` it waits for something to do.
    ///
    /// # Errors
    /// If the disk fails. Nothing may be called after that.
    pub fn step(&mut self, wait: bool) -> Result<Step, WriteError> {
        let task = match self.waiting.take() {
            Some(block) => Task::Write(block),
            None => self.shared.next_task(wait, self.safe < self.written),
        };
        match task {
            Task::Write(block) => self.write(block),
            Task::Roll => {
                // Without room there will be no new segment now; whoever wants it asks again.
                let rolled = self.tail.offset == SEGMENT_HEADER as u64 || self.roll(0)?;
                Ok(if rolled { Step::Done } else { Step::Stalled })
            }
            Task::Sync => self.sync().map(|()| Step::Done),
            Task::Idle => Ok(Step::Idle),
            Task::Close => self.sync().map(|()| Step::Ended),
        }
    }

    fn write(&mut self, mut block: Block) -> Result<Step, WriteError> {
        if !self.tail.has_room(block.bytes.len()) && !self.roll(block.bytes.len())? {
            self.waiting = Some(block);
            return Ok(Step::Stalled);
        }
        let segment = Arc::clone(&self.tail.segment);
        segment.encrypt(&mut block.bytes[BLOCK_HEADER..], block.first_sequence);
        segment.id.seal_block(segment.salt, &mut block.bytes, block.first_sequence, self.safe, block.count);
        let base = self.tail.offset + BLOCK_HEADER as u64;
        self.tail.write(&block.bytes).map_err(|source| self.error(source))?;
        self.written = block.end;
        self.shared.written_bytes.fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
        if block.sync {
            self.sync()?;
        }
        self.shared.commit(block.end);
        self.shared.ledger.lock().record(base, &block.bytes[BLOCK_HEADER..], block.first_sequence);
        self.shared.recycle(block.bytes);
        self.shared.update_congestion();
        Ok(Step::Done)
    }

    fn sync(&mut self) -> Result<(), WriteError> {
        if self.safe < self.written {
            self.tail.sync().map_err(|source| self.error(source))?;
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.safe = self.written;
        }
        Ok(())
    }

    /// Begins the next segment, with room for a block of `bytes`. Returns whether the disk had room.
    fn roll(&mut self, bytes: usize) -> Result<bool, WriteError> {
        // What the next segment's existence says is safe must be.
        self.sync()?;
        let bytes = self.shared.options.segment_bytes.max((bytes + SEGMENT_HEADER) as u64);
        match begin_segment(&self.shared, self.next_number, self.written, bytes) {
            Ok(tail) => self.tail = tail,
            Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                if !self.shared.full.swap(true, Ordering::Relaxed) {
                    (self.shared.hooks.on_trouble)(format!("{error}; the log waits for room"));
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        self.shared.full.store(false, Ordering::Relaxed);
        self.next_number += 1;
        self.shared.wake_keeper();
        Ok(true)
    }

    fn error(&self, source: io::Error) -> WriteError {
        WriteError { file: self.shared.disk.path(&self.tail.segment.id.file_name()), source }
    }
}

fn begin_segment(shared: &Shared, number: u64, first: u64, bytes: u64) -> Result<Tail, WriteError> {
    let id = SegmentId { first: number, number, generation: 0, epoch: shared.epoch };
    let previous_end = shared.ledger.lock().end;
    let tail = Tail::begin(&*shared.disk, &shared.options.keys, id, first, previous_end, bytes);
    let tail = tail.map_err(|source| WriteError { file: shared.disk.path(&id.file_name()), source })?;
    shared.ledger.lock().begin(Arc::clone(&tail.segment), tail.file_bytes());
    Ok(tail)
}
