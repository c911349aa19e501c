//! What there is that advisories tell of: connections, consumers and producers of all clients.
//!
//! Who begins to listen is told of what is there already (`AdvisoryBroker.addConsumer` of ActiveMQ).

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use broker::Name;
use parking_lot::Mutex;

use crate::{command::Command, mapping::matches};

/// A vhost, the topic of the advisories about something in it, and its id.
type Key = (Name, Box<str>, Box<str>);

/// What there is.
#[derive(Debug, Default)]
pub struct Directory {
    entries: Mutex<BTreeMap<Key, Command<'static>>>,
    listeners: AtomicUsize,
}

impl Directory {
    /// Somebody begins to listen, or ends.
    pub fn count_listener(&self, begins: bool) {
        if begins {
            self.listeners.fetch_add(1, Ordering::Relaxed);
        } else {
            self.listeners.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether anybody listens. While nobody does, there are no advisories.
    pub fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::Relaxed) > 0
    }

    /// Something is there now.
    pub fn add(&self, vhost: &Name, topic: &str, id: &str, about: Command<'static>) {
        self.entries.lock().insert((vhost.clone(), topic.into(), id.into()), about);
    }

    /// Something is gone. Returns whether it was there.
    pub fn remove(&self, vhost: &Name, topic: &str, id: &str) -> bool {
        self.entries.lock().remove(&(vhost.clone(), topic.into(), id.into())).is_some()
    }

    /// How many there are of which advisories of a topic tell.
    pub fn count(&self, vhost: &Name, topic: &str) -> usize {
        let first = (vhost.clone(), Box::from(topic), Box::from(""));
        let entries = self.entries.lock();
        entries.range(first..).take_while(|((of, about, _), _)| of == vhost && **about == *topic).count()
    }

    /// All that advisories of topics of a pattern tell of: the topic and what it tells.
    pub fn matching(&self, vhost: &Name, pattern: &str) -> Vec<(Box<str>, Command<'static>)> {
        let entries = self.entries.lock();
        let wanted = entries.iter().filter(|((of, topic, _), _)| of == vhost && matches(pattern, topic));
        wanted.map(|((_, topic, _), about)| (topic.clone(), about.clone())).collect()
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
        assert!(directory.remove(&vhost, "A.b", "1") && !directory.remove(&vhost, "A.b", "1"));
        assert_eq!(["A.b", "A.*"].map(|pattern| directory.matching(&vhost, pattern).len()), [1, 1]);
    }
}
