//! The last message of each topic, for subscribers to come.
//!
//! A message replaces the one that its topic had, and one without a body leaves the topic without any. In the log the
//! messages are held by a queue of their own, so a publish that is retained is one append like any other; the topics are
//! an index in memory, which is made anew after a restart.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{Aftermath, Queue, Wanted};
use crate::{
    limits,
    log::{Load, Position, Purpose},
    message::{Draft, Message},
    session::Millis,
};

/// Topics that one look goes through at most, so that nobody has to wait long for the lock.
const TOPICS_AT_ONCE: usize = 1024;

/// Messages by topic.
#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<Box<str>, (Position, Arc<Message>)>,
    bytes: usize,
    /// What an earlier run of the broker left and has not been looked at.
    unseen: Option<(Position, Position)>,
}

/// What a look at retained messages found: about as much as a connection's output takes at a time.
#[derive(Debug, Default)]
pub struct RetainedPage {
    /// Messages, in the order of their topics.
    pub messages: Vec<Arc<Message>>,
    /// The topic after which to go on; nothing if that was all.
    pub next: Option<Box<str>>,
}

/// Bytes of memory that a topic takes besides its message, within a few.
const TOPIC_BYTES: usize = 64;

impl Retained {
    pub(super) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a message in its topic's place. Returns the records that are held for nothing now.
    fn put(&mut self, record: Position, message: Arc<Message>) -> Vec<Position> {
        let view = message.view();
        let topic = view.routing_key;
        let mut gone = Vec::new();
        if view.payload.is_empty() {
            gone.push(record);
            gone.extend(self.remove(topic));
            return gone;
        }
        let topic: Box<str> = topic.into();
        self.bytes += message.memory_bytes() + topic.len() + TOPIC_BYTES;
        let topic_len = topic.len();
        if let Some((record, old)) = self.topics.insert(topic, (record, message)) {
            self.bytes -= old.memory_bytes() + topic_len + TOPIC_BYTES;
            gone.push(record);
        }
        gone
    }

    fn remove(&mut self, topic: &str) -> Option<Position> {
        let (record, message) = self.topics.remove(topic)?;
        self.bytes -= message.memory_bytes() + topic.len() + TOPIC_BYTES;
        Some(record)
    }

    /// The messages of topics that begin with a prefix (or are just that) and that `wants` accepts, behind a topic. Those whose
    /// time is over are in the second list, by topic.
    fn page(
        &self,
        (prefix, is_exact): (&str, bool),
        behind: Option<&str>,
        wants: &dyn Fn(&str) -> bool,
        now: Millis,
    ) -> (RetainedPage, Vec<Box<str>>) {
        let (mut page, mut over) = (RetainedPage::default(), Vec::new());
        let from = behind.map_or(Bound::Included(prefix), Bound::Excluded);
        let topics = self.topics.range::<str, _>((from, Bound::Unbounded));
        let belongs = |topic: &str| if is_exact { topic == prefix } else { topic.starts_with(prefix) };
        let mut bytes = 0;
        for (count, (topic, (_, message))) in topics.take_while(|(topic, _)| belongs(topic)).enumerate() {
            if count == TOPICS_AT_ONCE || bytes > limits::OUTPUT_BYTES_LOW {
                return (page, over);
            }
            page.next = Some(topic.clone());
            if message.traits().due.is_some_and(|due| due <= now) {
                over.push(topic.clone());
            } else if wants(topic) {
                bytes += message.memory_bytes();
                page.messages.push(Arc::clone(message));
            }
        }
        page.next = None;
        (page, over)
    }
}

impl Queue {
    /// Takes in the last message of a topic.
    pub(super) fn retain_last(&mut self, draft: &mut Draft<'_>, record: Position, after: &mut Aftermath) {
        let message = draft.share();
        self.replace_last(record, message, after);
    }

    fn replace_last(&mut self, record: Position, message: Arc<Message>, after: &mut Aftermath) {
        let Some(retained) = &mut self.retained else { return };
        for record in retained.put(record, message) {
            self.release(record, 0, after);
        }
    }

    /// The log has messages of an earlier run.
    pub(super) fn restore_retained(&mut self, first: Position, last: Position) {
        if let Some(retained) = &mut self.retained {
            retained.unseen = Some((first, Position(last.0 + 1)));
        }
    }

    /// Has what an earlier run left looked at.
    pub(super) fn survey_retained(&mut self, after: &mut Aftermath) {
        let Some((first, end)) = self.retained.as_ref().and_then(|retained| retained.unseen) else { return };
        let wanted = Wanted { first, end, only: Vec::new() };
        let (queue, priority, generation) = (Arc::clone(&self.info), 0, 0);
        after.loads.push(Load { queue, priority, wanted, generation, purpose: Purpose::Survey });
    }

    /// Takes in what was read of an earlier run. Nothing of this run is older, and it stays.
    pub(super) fn retained_loaded(
        &mut self,
        load: &Load,
        messages: Vec<(Position, Arc<Message>)>,
        next: Position,
        after: &mut Aftermath,
    ) {
        let Some(retained) = &mut self.retained else { return };
        let next = if messages.is_empty() { load.wanted.end } else { next };
        retained.unseen = (next < load.wanted.end).then_some((next, load.wanted.end));
        for (record, message) in messages {
            let Some(retained) = &self.retained else { return };
            let known = retained.topics.get(message.view().routing_key).map(|(record, _)| *record);
            if known.is_some_and(|known| known > record) {
                self.release(record, 0, after);
            } else {
                self.replace_last(record, message, after);
            }
        }
        self.survey_retained(after);
    }

    /// Looks for retained messages; nothing if what an earlier run left is still being read.
    pub fn retained_page(
        &mut self,
        prefix: (&str, bool),
        behind: Option<&str>,
        wants: &dyn Fn(&str) -> bool,
        after: &mut Aftermath,
    ) -> Option<RetainedPage> {
        let retained = self.retained.as_ref()?;
        if retained.unseen.is_some() {
            return None;
        }
        let (page, over) = retained.page(prefix, behind, wants, after.now);
        for topic in over {
            let record = self.retained.as_mut().and_then(|retained| retained.remove(&topic));
            record.into_iter().for_each(|record| self.release(record, 0, after));
        }
        Some(page)
    }
}
