//! What moves between a queue's memory and the log.

use std::sync::Arc;

use super::{Aftermath, Backlog, Queue, Wanted, priority_of};
use crate::{
    limits,
    log::{Load, Position, Purpose},
    message::Message,
    topology::QueueType,
};

/// How much at a queue's front stays in memory.
#[derive(Clone, Copy, Debug)]
pub struct Near {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for Near {
    fn default() -> Self {
        Self { messages: limits::NEAR_MESSAGES, bytes: limits::NEAR_BYTES }
    }
}

impl Near {
    /// Nothing stays: memory is short.
    pub const NOTHING: Self = Self { messages: 0, bytes: 0 };
}

impl Queue {
    /// Whether the bodies of held messages are in memory. If not, they are asked for, and come, unless they cannot be read.
    pub fn has_bodies(&mut self, slots: &[u64], after: &mut Aftermath) -> bool {
        let mut absent: Vec<(u8, u64)> = Vec::new();
        for &slot in slots {
            let held = self.backlog_of(slot).and_then(|backlog| backlog.held_at(slot));
            absent
                .extend(held.filter(|(_, message)| message.is_none()).map(|(record, _)| (priority_of(slot), record.0)));
        }
        let Some(&(priority, _)) = absent.iter().min() else { return true };
        if self.unreadable.is_some() {
            return true;
        }
        if !self.reads_held {
            absent.sort_unstable();
            // One page at a time. What it does not have is asked for again.
            let page = absent.iter().take_while(|(other, _)| *other == priority).take(limits::NEAR_MESSAGES);
            let only: Vec<u64> = page.map(|(_, record)| *record).collect();
            let wanted = Wanted { first: Position(only[0]), end: Position(only[only.len() - 1] + 1), only };
            self.reads_held = true;
            after.loads.push(self.load(priority, wanted, 0, Purpose::Hold));
        }
        false
    }

    fn held_loaded(&mut self, load: &Load, messages: &[(Position, Arc<Message>)]) {
        self.reads_held = false;
        let backlog = self.level(load.priority);
        backlog.fill_held(messages);
        if messages.is_empty() && backlog.lacks_held(&load.wanted.only) {
            self.cannot_read("the log does not have all of its messages".into());
        }
    }

    /// Puts back what was in the queue when the broker stopped.
    pub fn restore(&mut self, priority: u8, first: Position, last: Position, count: u64) {
        if self.stream.is_some() {
            return;
        }
        if self.retained.is_some() {
            return self.restore_retained(first, last);
        }
        self.level(priority).restore(first, last, count);
    }

    /// Begins to work after a restart.
    pub fn restored(&mut self, after: &mut Aftermath) {
        self.count_segment(after);
        self.survey_retained(after);
        self.survey(after);
        if self.rules.sheds() {
            self.read_ahead(after);
        }
    }

    /// Asks the log for what consumers get next.
    pub(super) fn read_ahead(&mut self, after: &mut Aftermath) {
        for level in 0..self.levels.len() {
            let (priority, backlog) = &mut self.levels[level];
            let priority = *priority;
            if backlog.ready() == 0 {
                continue;
            }
            let (wanted, generation) = (backlog.want(), backlog.generation());
            if let Some(wanted) = wanted {
                after.loads.push(self.load(priority, wanted, generation, Purpose::Deliver));
            }
            return;
        }
    }

    pub(super) fn load(&self, priority: u8, wanted: Wanted, generation: u64, purpose: Purpose) -> Load {
        Load { queue: Arc::clone(&self.info), priority, wanted, generation, purpose }
    }

    /// Has what an earlier run of the broker left looked at, if anything depends on its times or sizes.
    pub(super) fn survey(&mut self, after: &mut Aftermath) {
        let timed = self.info.is_timed.load(std::sync::atomic::Ordering::Relaxed);
        let needed = timed || self.info.queue_type == QueueType::Delay || self.rules.max_length_bytes.is_some();
        if !needed {
            return;
        }
        for (priority, backlog) in &self.levels {
            if let Some(wanted) = backlog.unseen() {
                after.loads.push(self.load(*priority, wanted, backlog.generation(), Purpose::Survey));
            }
        }
    }

    /// The first record about which [`Queue::page_out`] would have to know.
    pub fn page_out_from(&mut self, priority: u8, end: Position, near: Near) -> Option<Position> {
        if self.stream.is_some() {
            self.forget_sealed(end);
            return None;
        }
        if self.retained.is_some() {
            return None;
        }
        let near = self.near(near);
        self.level(priority).page_out_from(end, near)
    }

    /// Lets messages leave memory that the log can give again; see [`Backlog::page_out`].
    pub fn page_out(&mut self, priority: u8, from: Position, end: Position, members: &[u64], near: Near) -> usize {
        let near = self.near(near);
        self.level(priority).page_out(from, end, members, near)
    }

    /// The front of a queue that messages may have to leave from by themselves stays in memory.
    fn near(&self, near: Near) -> Near {
        if self.rules.sheds() { Near::default() } else { near }
    }

    /// Takes what was read from the log.
    pub fn loaded(
        &mut self,
        load: &Load,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        restart: Position,
        after: &mut Aftermath,
    ) {
        match load.purpose {
            Purpose::Depart => return self.departing_loaded(load, messages, next, after),
            Purpose::Hold => return self.held_loaded(load, &messages),
            Purpose::Scan => return self.scan_loaded(load, &messages, (next, restart), after),
            Purpose::Read => return self.page_read(load, messages, next, after),
            Purpose::Survey if self.retained.is_some() => return self.retained_loaded(load, messages, next, after),
            Purpose::Survey if self.stream.is_some() => return self.segment_counted(load, &messages, next, after),
            Purpose::Survey => self.surveyed(load, &messages, next, after),
            Purpose::Deliver => {
                let backlog = self.level(load.priority);
                if !backlog.page_in(load.generation, messages, next, &load.wanted, restart) {
                    return;
                }
                if backlog.is_missing_some() {
                    self.cannot_read("the log does not have all of its messages".into());
                }
            }
        }
        // What came may be due, or too much.
        self.next_due = self.next_due.min(after.now);
        self.catch_up(after);
        self.shed_overflow(after);
        self.consumers.stir();
        self.pump(after);
    }

    fn surveyed(&mut self, load: &Load, messages: &[(Position, Arc<Message>)], next: Position, after: &mut Aftermath) {
        let backlog = self.level(load.priority);
        if backlog.generation() != load.generation {
            return;
        }
        // A page without messages is the last, whatever else was expected.
        let next = if messages.is_empty() { load.wanted.end } else { next };
        backlog.seen(messages, next);
        let may_keep = |message: &Message| after.kept.may_keep_expired(message.traits().origin, message.traits().due);
        self.keeps_expired = self.keeps_expired || messages.iter().any(|(_, message)| may_keep(message));
        let backlog = self.level(load.priority);
        if let Some(wanted) = backlog.unseen() {
            let generation = backlog.generation();
            after.loads.push(self.load(load.priority, wanted, generation, Purpose::Survey));
        }
    }

    /// The log cannot give what was asked for. Nothing more is asked of it: the queue rests until somebody has looked.
    pub fn cannot_read(&mut self, problem: String) {
        self.reads_held = false;
        self.unreadable = Some(problem);
    }

    /// The log has got a message that it did not have. Returns whether that still matters.
    pub fn logged(&mut self, slot: u64, record: Position) -> bool {
        self.logged = true;
        self.backlog_of(slot).is_some_and(|backlog| backlog.set_record(slot, record))
    }

    /// Whether the log has something of the queue, or may have.
    pub fn is_logged(&self) -> bool {
        self.logged || self.info.durable
    }

    /// The priorities of which there are, or were, messages.
    pub fn priorities(&self) -> impl Iterator<Item = u8> {
        self.levels.iter().map(|(priority, _)| *priority).chain(self.stream.iter().map(|_| 0))
    }

    /// By which the log knows a message of the queue.
    pub fn holder_of(&self, slot: u64) -> u64 {
        self.info.holder(priority_of(slot))
    }

    /// The holders of which something is in memory.
    pub fn holders_in_memory(&self) -> impl Iterator<Item = u64> {
        let in_memory = |(_, backlog): &&(u8, Backlog)| backlog.memory_bytes() > 0;
        let levels = self.levels.iter().filter(in_memory).map(|(priority, _)| *priority);
        levels.chain(self.stream.iter().map(|_| 0)).map(|priority| self.info.holder(priority))
    }
}
