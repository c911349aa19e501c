//! The index of a topic exchange: a trie over the words of the binding keys.
//!
//! Matching walks the trie with a set of nodes, one word at a time, so its cost is bounded by words × nodes reached,
//! however many `#` a key holds.

use std::collections::HashMap;

use super::{Destination, DestinationSet};

/// A trie of binding keys. Words are split at `.`; `*` stands for one word and `#` for any number, none included.
#[derive(Debug)]
pub struct TopicIndex {
    nodes: Vec<Node>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    word: Box<str>,
    words: HashMap<Box<str>, usize>,
    star: Option<usize>,
    hash: Option<usize>,
    is_hash: bool,
    destinations: DestinationSet,
}

impl Default for TopicIndex {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl TopicIndex {
    /// Adds a destination under a binding key.
    pub fn insert(&mut self, key: &str, destination: Destination) {
        let mut at = 0;
        for word in words(key) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        self.nodes[at].destinations.insert(destination);
    }

    /// Removes one occurrence of a destination under a binding key, and the branch that it leaves empty.
    pub fn remove(&mut self, key: &str, destination: &Destination) {
        let mut at = 0;
        for word in words(key) {
            let Some(child) = self.child(at, word) else { return };
            at = child;
        }
        self.nodes[at].destinations.remove(destination);
        self.prune(at);
    }

    /// Calls `found` for every destination whose binding key matches; one destination may be named several times.
    pub fn matches<'a>(&'a self, routing_key: &str, mut found: impl FnMut(&'a Destination)) {
        let mut active = Vec::with_capacity(8);
        self.activate(&mut active, 0);
        let mut next = Vec::with_capacity(8);
        for word in words(routing_key) {
            for &at in &active {
                let node = &self.nodes[at];
                if node.is_hash {
                    self.activate(&mut next, at);
                }
                for child in [node.words.get(word).copied(), node.star].into_iter().flatten() {
                    self.activate(&mut next, child);
                }
            }
            std::mem::swap(&mut active, &mut next);
            next.clear();
            if active.len() > 8 {
                active.sort_unstable();
                active.dedup();
            }
        }
        active.sort_unstable();
        active.dedup();
        for at in active {
            self.nodes[at].destinations.iter().for_each(&mut found);
        }
    }

    /// Adds a node and the `#` nodes that are reached from it without a word.
    fn activate(&self, set: &mut Vec<usize>, at: usize) {
        let mut next = Some(at);
        while let Some(at) = next {
            if set.last() != Some(&at) {
                set.push(at);
            }
            next = self.nodes[at].hash;
        }
    }

    fn child(&self, at: usize, word: &str) -> Option<usize> {
        let node = &self.nodes[at];
        match word {
            "*" => node.star,
            "#" => node.hash,
            _ => node.words.get(word).copied(),
        }
    }

    fn grow(&mut self, parent: usize, word: &str) -> usize {
        let node = Node { parent, word: word.into(), is_hash: word == "#", ..Node::default() };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let parent = &mut self.nodes[parent];
        match word {
            "*" => parent.star = Some(at),
            "#" => parent.hash = Some(at),
            _ => {
                parent.words.insert(word.into(), at);
            }
        }
        at
    }

    fn prune(&mut self, mut at: usize) {
        while at != 0 {
            let node = &self.nodes[at];
            if !node.destinations.is_empty() || !node.words.is_empty() || node.star.is_some() || node.hash.is_some() {
                return;
            }
            let Node { parent, word, .. } = std::mem::take(&mut self.nodes[at]);
            self.free.push(at);
            let above = &mut self.nodes[parent];
            match &*word {
                "*" => above.star = None,
                "#" => above.hash = None,
                _ => {
                    above.words.remove(&word);
                }
            }
            at = parent;
        }
    }
}

/// The words of a key. The empty key has none; between two dots there is an empty word.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

/// Destinations under their binding keys, for exchanges that compare keys as a whole.
pub type KeyIndex = HashMap<Box<str>, DestinationSet>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::QueueId;

    fn queue(n: u64) -> Destination {
        Destination::Queue(QueueId(n))
    }

    fn matching(index: &TopicIndex, key: &str) -> Vec<u64> {
        let mut found = Vec::new();
        index.matches(key, |destination| match destination {
            Destination::Queue(id) => found.push(id.0),
            Destination::Exchange(_) => unreachable!("only queues were bound"),
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn wildcards_match_as_rabbitmq_documents_them() {
        let keys = [
            "a.b.c",
            "a.*.c",
            "a.#.b",
            "a.b.b.c",
            "#",
            "#.#",
            "a.*",
            "*.b.c",
            "*.#",
            "#.c.#",
            "",
            "*.*.*.*.#",
            "#.b.#.c",
        ];
        let mut index = TopicIndex::default();
        for (n, key) in keys.iter().enumerate() {
            index.insert(key, queue(n as u64));
        }
        let named = |key| matching(&index, key).into_iter().map(|n| keys[n as usize]).collect::<Vec<_>>();
        assert_eq!(named("a.b.c"), ["a.b.c", "a.*.c", "#", "#.#", "*.b.c", "*.#", "#.c.#", "#.b.#.c"]);
        assert_eq!(named("a.b"), ["a.#.b", "#", "#.#", "a.*", "*.#"]);
        assert_eq!(named("a.b.b"), ["a.#.b", "#", "#.#", "*.#"]);
        assert_eq!(named(""), ["#", "#.#", ""]);
        assert_eq!(named("."), ["#", "#.#", "*.#"]);
        assert_eq!(named("a.b.b.c"), ["a.b.b.c", "#", "#.#", "*.#", "#.c.#", "*.*.*.*.#", "#.b.#.c"]);
    }

    #[test]
    fn removing_every_key_leaves_only_the_root() {
        let mut index = TopicIndex::default();
        for key in ["a.b", "a.#", "a.b.*"] {
            index.insert(key, queue(1));
        }
        for key in ["a.b", "a.#", "a.b.*", "never.there"] {
            index.remove(key, &queue(1));
        }
        assert_eq!(index.nodes.len() - index.free.len(), 1);
        assert!(matching(&index, "a.b").is_empty());
    }

    #[test]
    fn many_hash_words_stay_cheap() {
        let mut index = TopicIndex::default();
        index.insert(&["#"; 40].join(".a."), queue(1));
        let key = vec!["a"; 200].join(".");
        assert_eq!(matching(&index, &key), [1]);
        let key = format!("{}.b", vec!["a"; 200].join("."));
        assert_eq!(matching(&index, &key), [1]);
    }

    proptest::proptest! {
        #[test]
        fn the_trie_agrees_with_a_naive_matcher(
            keys in proptest::collection::vec("(a|b|\\*|#)(\\.(a|b|\\*|#)){0,4}", 1..20),
            routing_key in "(a|b|c)(\\.(a|b|c)){0,5}",
        ) {
            let mut index = TopicIndex::default();
            for (n, key) in keys.iter().enumerate() {
                index.insert(key, queue(n as u64));
            }
            let words: Vec<_> = routing_key.split('.').collect();
            let expected: Vec<_> = (0..keys.len() as u64)
                .filter(|&n| naive(&keys[n as usize].split('.').collect::<Vec<_>>(), &words))
                .collect();
            proptest::prop_assert_eq!(matching(&index, &routing_key), expected);
        }
    }

    fn naive(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern.split_first(), words.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((&"#", rest)), None) => naive(rest, words),
            (Some((&"#", rest)), Some((_, after))) => naive(rest, words) || naive(pattern, after),
            (Some((&"*", rest)), Some((_, after))) => naive(rest, after),
            (Some((p, rest)), Some((w, after))) => p == w && naive(rest, after),
            (Some(_), None) => false,
        }
    }
}
