//! The thread that writes: it takes all that has gathered, writes it as one block, waits for the disk, tells everybody.

use std::{path::PathBuf, sync::Arc, thread};

use crate::{
    error::WriteError,
    format::{BLOCK_HEADER, Entry, SegmentId, put_entry},
    ledger::Ledger,
    segment::{self, Segment},
    store::{Batch, Shared},
};

/// Bytes of the first segment of a run, which nothing was made ready for: small, so that starting is quick.
const FIRST_SEGMENT_BYTES: u64 = 1024 * 1024;

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) directory: PathBuf,
    pub(crate) epoch: u64,
    pub(crate) next_number: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) ledger: Ledger,
    pub(crate) segment: Option<Segment>,
    pub(crate) spare: Option<thread::JoinHandle<()>>,
    /// Whether values may be left behind in sealed segments.
    pub(crate) rescue_due: bool,
}

impl Writer {
    /// Runs until the store is closed or the disk fails.
    pub(crate) fn run(mut self) {
        let mut block = Vec::new();
        while let Some(batch) = self.shared.next_batch(&mut block) {
            if let Err(error) = self.commit(&mut block, &batch) {
                self.shared.fail(error);
                return;
            }
            self.shared.commit(batch.first_sequence + u64::from(batch.count) - 1);
            self.ledger.record(batch.first_sequence, &block[BLOCK_HEADER..]);
            self.rescue_stranded();
            self.reclaim();
        }
        if let Some(spare) = self.spare.take() {
            let _ = spare.join();
        }
    }

    fn commit(&mut self, block: &mut [u8], batch: &Batch) -> Result<(), WriteError> {
        if !self.segment.as_ref().is_some_and(|segment| segment.has_room(block.len())) {
            self.roll(batch.first_sequence)?;
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        segment.id.seal_block(block, batch.first_sequence, batch.count);
        segment.write(block).map_err(|source| WriteError { file: segment.path.clone(), source })
    }

    /// Begins the next segment.
    pub(crate) fn roll(&mut self, first_sequence: u64) -> Result<(), WriteError> {
        if let Some(spare) = self.spare.take() {
            let _ = spare.join();
        }
        let id = SegmentId { epoch: self.epoch, number: self.next_number };
        let bytes = FIRST_SEGMENT_BYTES.min(self.segment_bytes);
        let segment = Segment::begin(&self.directory, id, first_sequence, bytes)
            .map_err(|source| WriteError { file: self.directory.join(id.file_name()), source })?;
        self.next_number += 1;
        self.ledger.begin(id, first_sequence);
        self.segment = Some(segment);
        self.rescue_due = true;
        self.prepare_spare();
        Ok(())
    }

    /// After a roll, appends again the values that are all that keeps a sealed segment. The account is complete only
    /// while nothing waits: what waits may change the very same keys, and then the next block tries again.
    fn rescue_stranded(&mut self) {
        if !self.rescue_due {
            return;
        }
        let stranded = self.ledger.stranded();
        let entries: Vec<_> = stranded.iter().map(|(key, value)| Entry::Put { key, value }).collect();
        self.rescue_due = !self.shared.append_if_idle(&entries);
    }

    fn prepare_spare(&mut self) {
        let (directory, bytes) = (self.directory.clone(), self.segment_bytes);
        // If there is no room for a spare, the roll that needs it will say so.
        let prepare = move || drop(segment::prepare_spare(&directory, bytes));
        self.spare = thread::Builder::new().name("log-spare".into()).spawn(prepare).ok();
    }

    fn reclaim(&mut self) {
        for id in self.ledger.retire() {
            // A file that stays is read again at the next start, and found to be no longer needed.
            let _ = segment::retire(&self.directory, id, self.segment_bytes);
        }
    }
}

/// Encodes entries behind what `block` holds.
pub(crate) fn encode(block: &mut Vec<u8>, entries: &[Entry<'_>]) {
    if block.is_empty() {
        block.resize(BLOCK_HEADER, 0);
    }
    entries.iter().for_each(|entry| put_entry(block, entry));
}
