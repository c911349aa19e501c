//! What moves between memory and the log: messages that lie deep in their queues.

use std::sync::{Arc, atomic::Ordering};

use super::Broker;
use crate::{
    log::{Durability, Entry, Load, Loaded, Position, UNTIL_RESTART},
    message::Message,
    queue::{Aftermath, Near, Queue},
    record,
    topology::QueueInfo,
};

impl Broker {
    /// What operations on queues start with.
    pub(crate) fn aftermath(&self) -> Aftermath {
        Aftermath {
            now: self.now(),
            committed: self.log.committed(),
            observed: self.settings.observer.is_some(),
            interest: self.interest(),
            kept: self.settings.letters.kept,
            tight: self.tight.load(Ordering::Relaxed),
            ..Aftermath::default()
        }
    }

    /// Says whether memory is short. While it is, nothing stays in memory that is not about to be delivered.
    pub fn set_tight(&self, tight: bool) {
        self.tight.store(tight, Ordering::Relaxed);
    }

    /// The queues of which something is in memory, as the log knows them.
    pub fn holders_in_memory(&self) -> Vec<u64> {
        self.shards.iter().flat_map(|shard| shard.lock().holders_in_memory()).collect()
    }

    /// Lets messages of a queue leave memory that lie deep in it and in the log before `end`. `members` tells which
    /// records of the queue the log has between two positions, or nothing if it cannot. Returns how many left.
    pub fn page_out(
        &self,
        holder: u64,
        end: Position,
        members: &mut dyn FnMut(Position, Position) -> Option<Vec<u64>>,
    ) -> usize {
        let near = if self.tight.load(Ordering::Relaxed) { Near::NOTHING } else { Near::default() };
        let (id, priority) = QueueInfo::of_holder(holder);
        let shard = &self.shards[self.shard_index(id)];
        let from = shard.lock().with_id(id.0, |queue| queue.page_out_from(priority, end, near)).flatten();
        // The log is asked without a lock. If the queue has moved on meanwhile, less leaves, or nothing.
        let Some(from) = from else { return 0 };
        let Some(members) = members(from, end) else { return 0 };
        let page_out = |queue: &mut Queue| queue.page_out(priority, from, end, &members, near);
        shard.lock().with_id(id.0, page_out).unwrap_or(0)
    }

    /// Takes what the log was asked for. A body that is no message, and a problem with the log, stop the queue: its
    /// messages stay where they are, for somebody to look at.
    pub fn loaded(&self, load: &Load, outcome: Result<Loaded, String>) {
        let outcome = outcome.and_then(|loaded| {
            let messages = record::messages(&loaded).map_err(|error| error.to_string())?;
            Ok((messages, loaded.next))
        });
        let mut after = self.aftermath();
        let mut shard = self.shards[self.shard_index(load.queue.id)].lock();
        shard.with(&load.queue, |queue| match outcome {
            Ok((messages, next)) => queue.loaded(load, messages, next, self.restart, &mut after),
            Err(problem) => queue.cannot_read(problem),
        });
        drop(shard);
        let fetching = std::mem::take(&mut *self.fetching.lock());
        after.wakes.extend(fetching);
        self.finish(after);
    }

    /// Gives the log messages that came without a record to queues in which they will not stay in memory.
    pub(crate) fn log_late(&self, late: Vec<(Arc<QueueInfo>, u64, Arc<Message>)>) {
        if late.is_empty() {
            return;
        }
        let mut heads = Vec::new();
        let mut ends = Vec::with_capacity(late.len());
        for (_, _, message) in &late {
            record::put_message_head(&mut heads, &message.view());
            ends.push(heads.len());
        }
        let holder = |info: &QueueInfo, slot: u64| info.holder_of(slot) | UNTIL_RESTART;
        let holders: Vec<[u64; 1]> = late.iter().map(|(info, slot, _)| [holder(info, *slot)]).collect();
        let views: Vec<_> = late.iter().map(|(_, _, message)| message.view()).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let entries: Vec<_> = starts
            .zip(&ends)
            .zip(views.iter().zip(&holders))
            .map(|((start, &end), (view, holders))| Entry::Hold { holders, parts: [&heads[start..end], view.payload] })
            .collect();
        let first = self.log.append(&entries, Durability::Os);
        let mut releases = Vec::new();
        for (at, (info, slot, _)) in late.iter().enumerate() {
            let record = Position(first.0 + at as u64);
            let mut shard = self.shards[self.shard_index(info.id)].lock();
            if shard.with(info, |queue| queue.logged(*slot, record)) != Some(true) {
                releases.push((record, info.holder_of(*slot)));
            }
        }
        self.log_releases(&releases);
    }

    /// Records that queues no longer hold something. Nobody waits for that to be safe: what is lost of it in a power
    /// failure comes again.
    pub(crate) fn log_releases(&self, releases: &[(Position, u64)]) {
        if releases.is_empty() {
            return;
        }
        let positions: Vec<u64> = releases.iter().map(|(position, _)| position.0).collect();
        let mut entries = Vec::new();
        let mut start = 0;
        for group in releases.chunk_by(|(_, a), (_, b)| a == b) {
            let end = start + group.len();
            entries.push(Entry::Release { holder: group[0].1, positions: &positions[start..end] });
            start = end;
        }
        self.log.append(&entries, Durability::Os);
    }
}
