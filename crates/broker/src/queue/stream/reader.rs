//! A consumer's way through a stream.

use std::{collections::VecDeque, fmt, sync::Arc};

use crate::{
    limits,
    log::Position,
    message::{Message, MessageView},
    session::Millis,
};

/// Where a reader of a stream starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first message that is there.
    First,
    /// With the last message that is there.
    Last,
    /// With the next message to come.
    #[default]
    Next,
    /// With an offset; with the nearest, if that is gone or to come.
    Offset(u64),
    /// With the first message that came at a time or later.
    Since(Millis),
}

/// Which messages a consumer wants.
#[derive(Clone)]
pub struct Filter(Arc<dyn Fn(&MessageView<'_>) -> bool + Send + Sync>);

impl Filter {
    /// A filter that lets through what `wants` says.
    pub fn new(wants: impl Fn(&MessageView<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(wants))
    }

    pub(crate) fn passes(&self, message: &MessageView<'_>) -> bool {
        (self.0)(message)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// What a reader gets next.
pub(super) enum Next {
    /// A message: its offset, its record, and itself.
    Message(u64, Position, Arc<Message>),
    /// It has to be read from the log.
    Load,
    /// It is not safe yet.
    Uncommitted,
}

/// A consumer's way through a stream.
#[derive(Debug)]
pub(super) struct Reader {
    /// The offset of what it gets next.
    offset: u64,
    /// Messages from there on, as far as they have been read from the log.
    page: VecDeque<(Position, Arc<Message>)>,
    page_bytes: usize,
    /// The record from which to read what comes after the page.
    record: Position,
    /// What comes before is passed over.
    skip_to: u64,
    /// What came before is passed over.
    since: Option<Millis>,
    filter: Option<Filter>,
    loading: bool,
}

impl Reader {
    /// A reader at an offset and the record there.
    pub(super) fn new(
        (offset, record): (u64, Position),
        skip_to: u64,
        since: Option<Millis>,
        filter: Option<Filter>,
    ) -> Self {
        Self { offset, page: VecDeque::new(), page_bytes: 0, record, skip_to, since, filter, loading: false }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The next message, if it has been read from the log.
    pub(super) fn buffered(&self) -> Option<(Position, Arc<Message>)> {
        self.page.front().map(|(record, message)| (*record, Arc::clone(message)))
    }

    /// Whether the reader wants a message, which is the next.
    pub(super) fn wants(&self, message: &Message) -> bool {
        self.offset >= self.skip_to
            && self.since.is_none_or(|since| message.traits().arrived >= since)
            && self.filter.as_ref().is_none_or(|filter| filter.passes(&message.view()))
    }

    /// The reader is done with the next message.
    pub(super) fn advance(&mut self, record: Position) {
        self.offset += 1;
        if let Some((_, message)) = self.page.pop_front() {
            self.page_bytes -= message.memory_bytes();
        } else {
            self.record = Position(record.0 + 1);
        }
    }

    /// What comes before an offset is gone.
    pub(super) fn skip_to(&mut self, offset: u64, record: Position) {
        while self.offset < offset && !self.page.is_empty() {
            self.advance(record);
        }
        if self.offset < offset {
            (self.offset, self.record) = (offset, record);
            self.loading = false;
        }
    }

    /// The record from which to read on, if that is to be done now. `tail` is the first offset that is in memory anyway.
    pub(super) fn ask(&mut self, tail: u64) -> Option<Position> {
        let is_near = self.page.len() < limits::NEAR_MESSAGES / 2 && self.page_bytes < limits::NEAR_BYTES / 2;
        if self.loading || !is_near || self.offset + self.page.len() as u64 >= tail {
            return None;
        }
        self.loading = true;
        Some(self.record)
    }

    /// Whether it waits for what is read from a record on. What was read for who had its place before, or before it
    /// skipped something, begins elsewhere.
    pub(super) fn waits_for(&self, first: Position) -> bool {
        self.loading && self.record == first
    }

    /// Takes what was read. `next` is where reading goes on.
    pub(super) fn page(&mut self, messages: Vec<(Position, Arc<Message>)>, next: Position) {
        self.loading = false;
        self.record = next;
        for (record, message) in messages {
            self.page_bytes += message.memory_bytes();
            self.page.push_back((record, message));
        }
    }
}
