//! A stream: messages that stay when they have been read, each with a number, and readers that go through them at their
//! own pace.
//!
//! A message's number, its offset, is its place among all that ever were in the stream; the log has them in the same
//! order, because messages for streams are appended and handed over under one lock. So an offset is found by counting
//! from a place that is known: the first message of a segment. Segments are also the unit by which old messages go.
//!
//! Readers get only what the log has committed. Otherwise a number that somebody has written down could belong to
//! another message after a crash.

mod reader;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

pub use self::reader::{Filter, Start};
use self::reader::{Next, Reader};
use super::{Aftermath, Attempts, Handout, Queue, Returns, Wanted};
use crate::{
    limits,
    log::{Load, Position, Purpose},
    message::{Draft, Message},
    rules::Rules,
    session::Millis,
    topology::QueueInfo,
};

/// A run of messages that goes as a whole when it is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The record of its first message.
    pub first: Position,
    /// When its first message came.
    pub from: Millis,
    /// Bytes of its bodies; of the last segment they are counted.
    pub bytes: u64,
    /// When its last message came.
    pub until: Millis,
}

/// What is to be written into the state table of a stream's segments.
#[derive(Debug)]
pub enum SegmentChange {
    /// A segment begins at an offset; the one before it is as given.
    Begun {
        /// The stream.
        queue: Arc<QueueInfo>,
        /// The offset.
        offset: u64,
        /// The new segment.
        segment: Segment,
        /// The one before it, by offset.
        before: Option<(u64, Segment)>,
    },
    /// All before a record is gone, and these segments with it, by offset.
    Gone {
        /// The stream.
        queue: Arc<QueueInfo>,
        /// The record.
        before: Position,
        /// Offsets of their first messages.
        offsets: Vec<u64>,
    },
}

/// The messages of a stream, and who reads them.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// By the offset of their first messages.
    segments: BTreeMap<u64, Segment>,
    /// The offset of the next message to come.
    end: u64,
    /// One past the record of the last message.
    end_record: Position,
    /// The last messages: those that cannot be read from the log yet, and some before.
    tail: VecDeque<(Position, Arc<Message>)>,
    tail_bytes: usize,
    readers: HashMap<u32, Reader>,
    /// Whether the messages of the last segment have been counted.
    is_counted: bool,
}

impl Stream {
    /// The offset of the first message.
    fn first(&self) -> u64 {
        self.segments.first_key_value().map_or(self.end, |(offset, _)| *offset)
    }

    /// The offset of the first message in memory.
    fn tail_first(&self) -> u64 {
        self.end - self.tail.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.first()) as usize
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.tail_bytes + self.readers.values().map(Reader::memory_bytes).sum::<usize>()
    }

    /// The offsets of the first message and of the next to come, and the number of segments.
    pub(super) fn extent(&self) -> (u64, u64, usize) {
        (self.first(), self.end, self.segments.len())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.bytes).sum()
    }

    /// Puts back what was in the stream when the broker stopped: its segments, as far as they were written down, and how
    /// many messages the log has from a first to a last record.
    fn restore(&mut self, marks: &[(u64, Segment)], held: Option<(Position, Position, u64)>) {
        self.segments = marks.iter().copied().collect();
        let Some((first, last, count)) = held else {
            self.end = self.segments.last_key_value().map_or(0, |(offset, _)| *offset);
            return;
        };
        if marks.iter().any(|(_, segment)| segment.first > last) {
            // What was salvaged has other records. Numbers begin where they began.
            let start = self.segments.first_key_value().map_or(0, |(offset, _)| *offset);
            self.segments = [(start, Segment { first, ..Segment::default() })].into();
        }
        // Segments whose messages are gone, though that they are gone was not written down.
        self.segments.retain(|_, segment| segment.first >= first);
        let start = match self.segments.first_key_value() {
            Some((offset, segment)) if segment.first == first => *offset,
            _ => {
                self.segments.insert(0, Segment { first, ..Segment::default() });
                0
            }
        };
        self.end = start + count;
        self.end_record = Position(last.0 + 1);
    }

    /// Adds a message.
    fn push(&mut self, record: Position, message: Arc<Message>, rules: &Rules) -> Option<Begun> {
        let (arrived, bytes) = (message.traits().arrived, message.payload_len() as u64);
        let limit = rules.segment_bytes.unwrap_or(u64::MAX).min(limits::STREAM_SEGMENT_BYTES);
        let before = self.segments.last_entry().map(|entry| (*entry.key(), *entry.get()));
        let mut begun = None;
        if before.is_none_or(|(_, last)| last.bytes >= limit) {
            let segment = Segment { first: record, from: arrived, ..Segment::default() };
            self.segments.insert(self.end, segment);
            begun = Some(Begun { offset: self.end, segment, before });
        }
        if let Some(mut last) = self.segments.last_entry() {
            let last = last.get_mut();
            (last.bytes, last.until) = (last.bytes + bytes, arrived);
        }
        self.tail_bytes += message.memory_bytes();
        self.tail.push_back((record, message));
        self.end += 1;
        self.end_record = Position(record.0 + 1);
        begun
    }

    /// Lets go of segments that are too old, or too much. One always stays. Returns the record before which all is gone,
    /// and the offsets of the segments.
    fn retain(&mut self, now: Millis, rules: &Rules) -> Option<(Position, Vec<u64>)> {
        let mut gone = Vec::new();
        while self.segments.len() > 1 {
            let Some((offset, first)) = self.segments.first_key_value() else { break };
            let too_old = rules.max_age_ms.is_some_and(|age| first.until.plus(age) <= now);
            let too_much = rules.max_length_bytes.is_some_and(|max| self.bytes() > max);
            if !too_old && !too_much {
                break;
            }
            gone.push(*offset);
            self.segments.pop_first();
        }
        let (first, segment) = self.segments.first_key_value().map(|(offset, segment)| (*offset, *segment))?;
        if gone.is_empty() {
            return None;
        }
        while self.tail_first() < first {
            self.forget_first();
        }
        self.readers.values_mut().for_each(|reader| reader.skip_to(first, segment.first));
        Some((segment.first, gone))
    }

    /// When the first segment is too old.
    fn retain_at(&self, rules: &Rules) -> Option<Millis> {
        let (_, first) = self.segments.first_key_value().filter(|_| self.segments.len() > 1)?;
        rules.max_age_ms.map(|age| first.until.plus(age))
    }

    fn forget_first(&mut self) {
        if let Some((_, message)) = self.tail.pop_front() {
            self.tail_bytes -= message.memory_bytes();
        }
    }

    /// Forgets messages that can be read from the log, but for some of the last ones.
    fn forget(&mut self, sealed: Position) {
        while self.tail.len() > limits::NEAR_MESSAGES || self.tail_bytes > limits::NEAR_BYTES {
            if self.tail.front().is_none_or(|(record, _)| *record >= sealed) {
                return;
            }
            self.forget_first();
        }
    }

    /// The place where a reader begins that starts at an offset, and the record there or before.
    fn place(&self, offset: u64) -> (u64, Position) {
        let offset = offset.clamp(self.first(), self.end);
        match self.segments.range(..=offset).next_back() {
            Some((first, segment)) => (*first, segment.first),
            None => (self.end, self.end_record),
        }
    }

    /// A reader that starts as it was asked to.
    fn reader(&self, start: Start, filter: Option<Filter>, now: Millis) -> Reader {
        let (skip_to, since) = match start {
            Start::First => (self.first(), None),
            Start::Last => (self.end.saturating_sub(1).max(self.first()), None),
            Start::Next => (self.end, None),
            Start::Offset(offset) => (offset.max(self.first()), None),
            Start::Since(time) if time > now => (self.end, None),
            Start::Since(time) => {
                let segment = self.segments.iter().rev().find(|(_, segment)| segment.from <= time);
                (segment.map_or(self.first(), |(offset, _)| *offset), Some(time))
            }
        };
        // A number that is to come is waited for.
        if skip_to >= self.end {
            return Reader::new((self.end, self.end_record), skip_to, since, filter);
        }
        if skip_to >= self.tail_first() {
            let record = self.tail[(skip_to - self.tail_first()) as usize].0;
            return Reader::new((skip_to, record), skip_to, since, filter);
        }
        Reader::new(self.place(skip_to), skip_to, since, filter)
    }

    /// What a reader gets next.
    fn next(&mut self, index: u32, committed: Position) -> Option<Next> {
        let tail_first = self.tail_first();
        let reader = self.readers.get_mut(&index)?;
        loop {
            let next = match reader.buffered() {
                Some(next) => next,
                None if reader.offset() < tail_first => return Some(Next::Load),
                None => {
                    let (record, message) = self.tail.get((reader.offset() - tail_first) as usize)?;
                    if *record > committed {
                        return Some(Next::Uncommitted);
                    }
                    (*record, Arc::clone(message))
                }
            };
            let offset = reader.offset();
            if reader.wants(&next.1) {
                return Some(Next::Message(offset, next.0, next.1));
            }
            reader.advance(next.0);
        }
    }
}

/// A segment that has begun.
struct Begun {
    offset: u64,
    segment: Segment,
    before: Option<(u64, Segment)>,
}

impl Queue {
    /// Puts back a stream as it was when the broker stopped.
    pub fn restore_stream(&mut self, marks: &[(u64, Segment)], held: Option<(Position, Position, u64)>) {
        if let Some(stream) = &mut self.stream {
            stream.restore(marks, held);
        }
    }

    /// Takes a message into the stream.
    pub(super) fn write(&mut self, draft: &mut Draft<'_>, record: Position, after: &mut Aftermath) {
        let Some(stream) = &mut self.stream else { return };
        if let Some(Begun { offset, segment, before }) = stream.push(record, draft.share(), &self.rules) {
            let queue = Arc::clone(&self.info);
            after.segments.push(SegmentChange::Begun { queue, offset, segment, before });
            self.retain(after);
        }
        self.read_on(after);
    }

    /// Lets go of what is too old, or too much.
    pub(super) fn retain(&mut self, after: &mut Aftermath) {
        let Some(stream) = &mut self.stream else { return };
        if let Some((before, offsets)) = stream.retain(after.now, &self.rules) {
            let queue = Arc::clone(&self.info);
            after.segments.push(SegmentChange::Gone { queue, before, offsets });
        }
        let at = stream.retain_at(&self.rules);
        self.wait_for(at);
    }

    pub(super) fn retain_at(&self) -> Option<Millis> {
        self.stream.as_ref()?.retain_at(&self.rules)
    }

    /// Gives a new consumer its place in the stream.
    pub(super) fn place_reader(&mut self, index: u32, start: Start, filter: Option<Filter>, now: Millis) {
        if let Some(stream) = &mut self.stream {
            let reader = stream.reader(start, filter, now);
            stream.readers.insert(index, reader);
        }
    }

    pub(super) fn remove_reader(&mut self, index: u32) {
        if let Some(stream) = &mut self.stream {
            stream.readers.remove(&index);
        }
    }

    /// Gives every reader what it can take.
    pub(super) fn read_on(&mut self, after: &mut Aftermath) {
        for index in self.consumers.indices() {
            if !self.is_single() || self.consumers.is_active(index) {
                self.read_one(index, after);
            }
        }
    }

    fn read_one(&mut self, index: u32, after: &mut Aftermath) {
        while let Some(stream) = &mut self.stream {
            match stream.next(index, after.committed) {
                Some(Next::Message(offset, record, message)) => {
                    let Some(counted) = self.consumers.at(index).and_then(|attached| attached.reserve()) else { break };
                    if let Some(reader) = stream.readers.get_mut(&index) {
                        reader.advance(record);
                    }
                    let handout = Handout {
                        slot: offset,
                        record: Position(0),
                        returns: Returns::NEVER,
                        counted,
                        attempts: Attempts::default(),
                        offset: Some(offset),
                        is_first_of_group: false,
                    };
                    self.deliver(index, handout, &Draft::owned(&message), after);
                }
                Some(Next::Uncommitted) => {
                    after.uncommitted.push(Arc::clone(&self.info));
                    break;
                }
                Some(Next::Load) | None => break,
            }
        }
        self.load_page(index, after);
    }

    /// Asks the log for what a reader gets after what it has.
    fn load_page(&mut self, index: u32, after: &mut Aftermath) {
        let Some(stream) = &mut self.stream else { return };
        let (tail_first, end) =
            (stream.tail_first(), stream.tail.front().map_or(stream.end_record, |(record, _)| *record));
        let Some(reader) = stream.readers.get_mut(&index) else { return };
        let Some(first) = reader.ask(tail_first) else { return };
        let generation = u64::from(index);
        let wanted = Wanted { first, end, only: Vec::new() };
        let (queue, priority, purpose) = (Arc::clone(&self.info), 0, Purpose::Read);
        after.loads.push(Load { queue, priority, wanted, generation, purpose });
    }

    /// Takes a page that was read for a reader.
    pub(super) fn page_read(
        &mut self,
        load: &Load,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        after: &mut Aftermath,
    ) {
        let index = load.generation as u32;
        let Some(stream) = &mut self.stream else { return };
        let reader = stream.readers.get_mut(&index).filter(|reader| reader.waits_for(load.wanted.first));
        let Some(reader) = reader else { return };
        if messages.is_empty() && load.wanted.first < load.wanted.end {
            return self.cannot_read("the log does not have all of its messages".into());
        }
        reader.page(messages, next);
        if !self.is_single() || self.consumers.is_active(index) {
            self.read_one(index, after);
        }
    }

    /// Has the last segment counted that an earlier run of the broker began.
    pub(super) fn count_segment(&mut self, after: &mut Aftermath) {
        let Some(stream) = &mut self.stream else { return };
        let Some((_, last)) = stream.segments.last_key_value() else { return };
        if std::mem::replace(&mut stream.is_counted, true) {
            return;
        }
        let wanted = Wanted { first: last.first, end: stream.end_record, only: Vec::new() };
        let (queue, priority, generation) = (Arc::clone(&self.info), 0, 0);
        after.loads.push(Load { queue, priority, wanted, generation, purpose: Purpose::Survey });
    }

    /// Takes note of messages of the segment that is counted.
    pub(super) fn segment_counted(
        &mut self,
        load: &Load,
        messages: &[(Position, Arc<Message>)],
        next: Position,
        after: &mut Aftermath,
    ) {
        let Some(stream) = &mut self.stream else { return };
        for (record, message) in messages {
            // The segment may have been followed by others meanwhile, or be gone.
            let segments = stream.segments.values_mut().rev();
            let Some(segment) = segments.into_iter().find(|segment| segment.first <= *record) else { continue };
            segment.bytes += message.payload_len() as u64;
            let arrived = message.traits().arrived;
            segment.until = segment.until.max(arrived);
            if segment.first == *record {
                segment.from = arrived;
            }
        }
        if !messages.is_empty() && next < load.wanted.end {
            let wanted = Wanted { first: next, ..load.wanted.clone() };
            after.loads.push(Load { wanted, ..load.clone() });
        } else {
            self.retain(after);
        }
    }

    /// Forgets messages that can be read from the log.
    pub(super) fn forget_sealed(&mut self, sealed: Position) {
        if let Some(stream) = &mut self.stream {
            stream.forget(sealed);
        }
    }

    /// The offsets of the stream's segments.
    pub fn segment_offsets(&self) -> Vec<u64> {
        self.stream.iter().flat_map(|stream| stream.segments.keys().copied()).collect()
    }
}
