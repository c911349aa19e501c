//! What there is that advisories tell of, connections, consumers and producers of all clients, and who listens to advisories.
//!
//! Who begins to listen is told of what is there already (`AdvisoryBroker.addConsumer` of ActiveMQ).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU32, Ordering},
};

use broker::Name;
use parking_lot::{Mutex, RwLock};

use crate::{command::Command, mapping::matches};

/// What topics of advisories begin with.
pub const ADVISORY: &str = "ActiveMQ.Advisory.";

/// Advisories that are made only while somebody listens, by the word behind [`ADVISORY`] in their topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client has come or gone.
    Connection,
    /// A consumer has.
    Consumer,
    /// A producer has.
    Producer,
    /// A queue was made or removed.
    Queue,
    /// A topic has its first consumer or producer, or has none any more.
    Topic,
    /// A message's time was over.
    Expired,
    /// A message has become a dead letter.
    DeadLetter,
    /// A message was dropped.
    Discarded,
    /// A message has come.
    Delivered,
    /// A message has been acknowledged.
    Consumed,
    /// A message has come, and nobody is there for it.
    NoConsumer,
    /// Messages wait for a consumer that may have no more.
    SlowConsumer,
    /// A producer has to wait.
    FastProducer,
    /// There is no room for messages.
    Full,
}

impl Kind {
    /// All of them, in their order.
    pub const ALL: [Self; 14] = [
        Self::Connection,
        Self::Consumer,
        Self::Producer,
        Self::Queue,
        Self::Topic,
        Self::Expired,
        Self::DeadLetter,
        Self::Discarded,
        Self::Delivered,
        Self::Consumed,
        Self::NoConsumer,
        Self::SlowConsumer,
        Self::FastProducer,
        Self::Full,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Consumer => "Consumer",
            Self::Producer => "Producer",
            Self::Queue => "Queue",
            Self::Topic => "Topic",
            Self::Expired => "Expired",
            Self::DeadLetter => "MessageDLQd",
            Self::Discarded => "MessageDiscarded",
            Self::Delivered => "MessageDelivered",
            Self::Consumed => "MessageConsumed",
            Self::NoConsumer => "NoConsumer",
            Self::SlowConsumer => "SlowConsumer",
            Self::FastProducer => "FastProducer",
            Self::Full => "FULL",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether a pattern of topics may stand for one of these advisories.
    fn is_of(self, pattern: &str) -> bool {
        let mut words = pattern.split('.');
        for expected in ADVISORY.trim_end_matches('.').split('.').chain([self.word()]) {
            match words.next() {
                Some(">") => return true,
                Some(word) if word == "*" || word == expected => {}
                _ => return false,
            }
        }
        true
    }
}

/// A vhost, the topic of the advisories about something in it, and its id.
type Key = (Name, Box<str>, Box<str>);

/// What there is, and how much of it there is about each topic: thousands may consume one queue.
#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<Key, Command<'static>>,
    counts: HashMap<(Name, Box<str>), usize>,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Mutex<Entries>,
    /// Patterns to which somebody listens, and how many do.
    listeners: RwLock<BTreeMap<(Name, Box<str>), usize>>,
    /// The kinds of which some pattern is.
    kinds: AtomicU32,
}

impl Directory {
    /// Somebody begins to listen to topics of a pattern, if any are of advisories. Returns whether they are.
    pub fn listen(&self, vhost: &Name, pattern: &str) -> bool {
        let is_of_some = Kind::ALL.into_iter().any(|kind| kind.is_of(pattern));
        if is_of_some {
            let mut listeners = self.listeners.write();
            *listeners.entry((vhost.clone(), pattern.into())).or_default() += 1;
            self.note_kinds(&listeners);
        }
        is_of_some
    }

    /// Somebody who has begun to listen ends.
    pub fn end_listening(&self, vhost: &Name, pattern: &str) {
        let mut listeners = self.listeners.write();
        let key = (vhost.clone(), pattern.into());
        if let Some(count) = listeners.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                listeners.remove(&key);
            }
        }
        self.note_kinds(&listeners);
    }

    fn note_kinds(&self, listeners: &BTreeMap<(Name, Box<str>), usize>) {
        let is_wanted = |kind: &Kind| listeners.keys().any(|(_, pattern)| kind.is_of(pattern));
        let kinds = Kind::ALL.into_iter().filter(is_wanted).fold(0, |kinds, kind| kinds | kind.bit());
        self.kinds.store(kinds, Ordering::Relaxed);
    }

    /// Whether anybody listens to any.
    pub fn has_listeners(&self) -> bool {
        self.kinds.load(Ordering::Relaxed) != 0
    }

    /// Whether anybody may listen to advisories of a kind. While nobody does, there are none.
    pub fn may_want(&self, kind: Kind) -> bool {
        self.kinds.load(Ordering::Relaxed) & kind.bit() != 0
    }

    /// Whether anybody listens to advisories of a kind with a topic.
    pub fn wants(&self, vhost: &Name, kind: Kind, topic: &str) -> bool {
        self.may_want(kind) && self.listeners.read().keys().any(|(of, pattern)| of == vhost && matches(pattern, topic))
    }

    /// Something is there now. Returns how many there are now about the same queue or topic.
    pub fn add(&self, vhost: &Name, topic: &str, id: &str, about: Command<'static>) -> usize {
        let mut entries = self.entries.lock();
        if entries.of.insert((vhost.clone(), topic.into(), id.into()), about).is_none() {
            *entries.counts.entry((vhost.clone(), topic.into())).or_default() += 1;
        }
        entries.all_about(vhost, topic)
    }

    /// Something is gone. Returns how many are left about the same queue or topic, if it was there.
    pub fn remove(&self, vhost: &Name, topic: &str, id: &str) -> Option<usize> {
        let mut entries = self.entries.lock();
        entries.of.remove(&(vhost.clone(), topic.into(), id.into()))?;
        let of_topic = (vhost.clone(), topic.into());
        if let Some(count) = entries.counts.get_mut(&of_topic) {
            *count -= 1;
            if *count == 0 {
                entries.counts.remove(&of_topic);
            }
        }
        Some(entries.all_about(vhost, topic))
    }

    /// How many there are of which advisories of a topic tell.
    pub fn count(&self, vhost: &Name, topic: &str) -> usize {
        self.entries.lock().count(vhost, topic)
    }

    /// All that advisories of topics of a pattern tell of: the topic and what it tells.
    pub fn matching(&self, vhost: &Name, pattern: &str) -> Vec<(Box<str>, Command<'static>)> {
        let entries = self.entries.lock();
        let wanted = entries.of.iter().filter(|((of, topic, _), _)| of == vhost && matches(pattern, topic));
        wanted.map(|((_, topic, _), about)| (topic.clone(), about.clone())).collect()
    }

    /// What is known of something by its id.
    pub fn find(&self, vhost: &Name, id: &str) -> Option<Command<'static>> {
        let entries = self.entries.lock();
        let mut of_id = entries.of.iter().filter(|((of, _, known), _)| of == vhost && **known == *id);
        of_id.next().map(|(_, about)| about.clone())
    }

    /// The topics that have consumers or producers, by their names.
    pub fn topics(&self, vhost: &Name) -> BTreeSet<Box<str>> {
        let entries = self.entries.lock();
        let of_vhost = entries.counts.keys().filter(|(of, _)| of == vhost);
        of_vhost.filter_map(|(_, topic)| topic_of(topic).map(Box::from)).collect()
    }
}

/// The topic that the topic of an advisory about a consumer or producer tells of.
pub fn topic_of(advisory: &str) -> Option<&str> {
    let rest = advisory.strip_prefix(ADVISORY)?;
    [Kind::Consumer, Kind::Producer]
        .into_iter()
        .find_map(|kind| rest.strip_prefix(kind.word())?.strip_prefix(".Topic."))
}

impl Entries {
    fn count(&self, vhost: &Name, topic: &str) -> usize {
        self.counts.get(&(vhost.clone(), topic.into())).copied().unwrap_or(0)
    }

    /// How many consumers and producers there are of the queue or topic that the topic of an advisory tells of.
    fn all_about(&self, vhost: &Name, topic: &str) -> usize {
        let other = |from: Kind, to: Kind| {
            let rest = topic.strip_prefix(ADVISORY)?.strip_prefix(from.word())?;
            Some(self.count(vhost, &format!("{ADVISORY}{}{rest}", to.word())))
        };
        let other = other(Kind::Consumer, Kind::Producer).or_else(|| other(Kind::Producer, Kind::Consumer));
        self.count(vhost, topic) + other.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_found_by_vhost_and_topic() {
        let (directory, vhost, other) = (Directory::default(), Name::from("/"), Name::from("other"));
        directory.add(&vhost, "A.b", "1", Command::Null);
        directory.add(&vhost, "A.b", "2", Command::Null);
        directory.add(&vhost, "A.b.c", "1", Command::Null);
        directory.add(&other, "A.b", "1", Command::Null);
        assert_eq!(["A", "A.b", "A.b.c"].map(|topic| directory.count(&vhost, topic)), [0, 2, 1]);
        assert_eq!(directory.matching(&vhost, "A.>").len(), 3);
        assert_eq!([1, 2].map(|_| directory.remove(&vhost, "A.b", "1")), [Some(1), None]);
        assert_eq!(["A.b", "A.*"].map(|pattern| directory.matching(&vhost, pattern).len()), [1, 1]);
    }

    #[test]
    fn consumers_and_producers_of_a_topic_are_counted_together() {
        let (directory, vhost) = (Directory::default(), Name::from("/"));
        let topic = |kind: &str| format!("{ADVISORY}{kind}.Topic.t.u");
        assert_eq!(directory.add(&vhost, &topic("Consumer"), "1", Command::Null), 1);
        assert_eq!(directory.add(&vhost, &topic("Producer"), "2", Command::Null), 2);
        assert_eq!(directory.topics(&vhost), ["t.u".into()].into());
        assert_eq!(directory.remove(&vhost, &topic("Consumer"), "1"), Some(1));
        assert_eq!(directory.remove(&vhost, &topic("Producer"), "2"), Some(0));
    }

    #[test]
    fn only_what_somebody_listens_to_is_wanted() {
        let (directory, vhost, other) = (Directory::default(), Name::from("/"), Name::from("other"));
        // Every client listens to these.
        assert!(!directory.listen(&vhost, "ActiveMQ.Advisory.TempQueue") && !directory.listen(&vhost, "orders.>"));
        assert!(!Kind::ALL.into_iter().any(|kind| directory.may_want(kind)));
        assert!(directory.listen(&vhost, "ActiveMQ.Advisory.Expired.Queue.>"));
        assert!(directory.listen(&vhost, "ActiveMQ.Advisory.Expired.Queue.>"));
        let wants = |vhost, topic| directory.wants(vhost, Kind::Expired, topic);
        assert!(wants(&vhost, "ActiveMQ.Advisory.Expired.Queue.q"));
        assert!(!wants(&vhost, "ActiveMQ.Advisory.Expired.Topic.t"));
        assert!(!wants(&other, "ActiveMQ.Advisory.Expired.Queue.q"));
        assert!(!directory.may_want(Kind::Consumer));
        directory.end_listening(&vhost, "ActiveMQ.Advisory.Expired.Queue.>");
        assert!(directory.may_want(Kind::Expired));
        directory.end_listening(&vhost, "ActiveMQ.Advisory.Expired.Queue.>");
        assert!(!directory.may_want(Kind::Expired));
        for all in [">", "ActiveMQ.>", "*.Advisory.>"] {
            assert!(
                directory.listen(&vhost, all) && Kind::ALL.into_iter().all(|kind| directory.may_want(kind)),
                "{all}"
            );
            directory.end_listening(&vhost, all);
        }
    }
}
