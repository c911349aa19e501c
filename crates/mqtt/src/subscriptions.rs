//! The subscriptions of a session: which of them a message is for.

use std::collections::HashMap;

use crate::{
    packet::{Options, Qos},
    topic,
};

/// What a client asked for with a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The options.
    pub options: Options,
    /// The identifier that comes with messages; 0 for none.
    pub id: u32,
}

/// What the subscriptions that match a topic come to together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The highest quality of service.
    pub qos: Qos,
    /// Whether one of them wants the retain flag as it was published.
    pub retain_as_published: bool,
    /// Their identifiers.
    pub ids: Vec<u32>,
}

impl Interest {
    /// Of one subscription.
    pub fn of(one: &Subscription) -> Self {
        let mut interest = Self::default();
        interest.add(one);
        interest
    }

    fn add(&mut self, one: &Subscription) {
        self.qos = self.qos.max(one.options.qos);
        self.retain_as_published |= one.options.retain_as_published;
        if one.id != 0 {
            self.ids.push(one.id);
        }
    }
}

/// Up to so many filters are compared one by one, which is quicker than going down a tree.
const FEW: usize = 8;

/// Subscriptions by filter.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    /// In the order of their filters.
    by_filter: Vec<(Box<str>, Subscription)>,
    /// The same by levels, if they are many.
    tree: Option<Box<Node>>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Self>,
    here: Option<Subscription>,
}

impl Subscriptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// All of them, by filter.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.by_filter.iter().map(|(filter, one)| (&**filter, one))
    }

    /// The one with a filter.
    pub fn get(&self, filter: &str) -> Option<&Subscription> {
        let at = self.place(filter).ok()?;
        Some(&self.by_filter[at].1)
    }

    fn place(&self, filter: &str) -> Result<usize, usize> {
        self.by_filter.binary_search_by(|(other, _)| (**other).cmp(filter))
    }

    /// Adds one. Returns the one that had the filter before.
    pub fn insert(&mut self, filter: &str, one: Subscription) -> Option<Subscription> {
        let before = match self.place(filter) {
            Ok(at) => Some(std::mem::replace(&mut self.by_filter[at].1, one)),
            Err(at) => {
                if self.by_filter.is_empty() {
                    // Most sessions have one subscription.
                    self.by_filter.reserve_exact(1);
                }
                self.by_filter.insert(at, (filter.into(), one));
                None
            }
        };
        if let Some(tree) = &mut self.tree {
            tree.insert(filter, one);
        } else if self.by_filter.len() > FEW {
            let mut tree = Box::<Node>::default();
            self.by_filter.iter().for_each(|(filter, one)| tree.insert(filter, *one));
            self.tree = Some(tree);
        }
        before
    }

    /// Removes one. Returns it if it was there.
    pub fn remove(&mut self, filter: &str) -> Option<Subscription> {
        let at = self.place(filter).ok()?;
        let (_, removed) = self.by_filter.remove(at);
        if self.by_filter.len() <= FEW {
            self.tree = None;
        } else if let Some(tree) = &mut self.tree {
            tree.remove(&mut filter.split('/'));
        }
        Some(removed)
    }

    /// What those that match a topic come to; nothing if none does. With `is_own`, the client has published the message
    /// itself.
    pub fn interest(&self, name: &str, is_own: bool) -> Option<Interest> {
        let mut interest = None;
        let mut found = |one: &Subscription| {
            if !(is_own && one.options.no_local) {
                interest.get_or_insert_with(Interest::default).add(one);
            }
        };
        match &self.tree {
            None => {
                let matching = self.by_filter.iter().filter(|(filter, _)| topic::matches(filter, name));
                matching.for_each(|(_, one)| found(one));
            }
            Some(tree) => tree.matches(name, &mut found),
        }
        interest
    }
}

impl Node {
    fn insert(&mut self, filter: &str, one: Subscription) {
        let mut at = self;
        for level in filter.split('/') {
            at = at.children.entry(level.into()).or_default();
        }
        at.here = Some(one);
    }

    /// Removes what is at the end of a path. Returns whether nothing is left here.
    fn remove(&mut self, levels: &mut dyn Iterator<Item = &str>) -> bool {
        match levels.next() {
            None => self.here = None,
            Some(level) => {
                if self.children.get_mut(level).is_some_and(|child| child.remove(levels)) {
                    self.children.remove(level);
                }
            }
        }
        self.here.is_none() && self.children.is_empty()
    }

    fn matches(&self, name: &str, found: &mut dyn FnMut(&Subscription)) {
        let is_reserved = name.starts_with('$');
        let mut active = vec![self];
        let mut next = Vec::new();
        for (index, level) in name.split('/').enumerate() {
            let wild = index > 0 || !is_reserved;
            for node in active.drain(..) {
                if wild && let Some(one) = node.children.get("#").and_then(|child| child.here.as_ref()) {
                    found(one);
                }
                next.extend(node.children.get(level).filter(|_| level != "+" && level != "#"));
                next.extend(node.children.get("+").filter(|_| wild));
            }
            std::mem::swap(&mut active, &mut next);
        }
        for node in active {
            let below = node.children.get("#").and_then(|child| child.here.as_ref());
            node.here.iter().chain(below).for_each(&mut *found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscription(id: u32) -> Subscription {
        Subscription { options: Options::default(), id }
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_each_filter_matches(
            filters in prop::collection::vec(r"\$?[ab+]?(/[ab+]?){0,3}(/#)?|#", 1..40),
            names in prop::collection::vec(r"\$?[abc]?(/[abc]?){0,3}", 1..20),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut all = Subscriptions::default();
            let valid: Vec<&String> = filters.iter().filter(|filter| topic::is_filter(filter)).collect();
            for (index, filter) in valid.iter().enumerate() {
                all.insert(filter, subscription(index as u32 + 1));
            }
            if !valid.is_empty() {
                removed.iter().for_each(|index| { all.remove(valid[index.index(valid.len())]); });
            }
            for name in names.iter().filter(|name| topic::is_name(name)) {
                let mut expected: Vec<u32> =
                    all.iter().filter(|(filter, _)| topic::matches(filter, name)).map(|(_, one)| one.id).collect();
                let mut found = all.interest(name, false).map(|interest| interest.ids).unwrap_or_default();
                expected.sort_unstable();
                found.sort_unstable();
                prop_assert_eq!(found, expected, "{}", name);
            }
        }
    }
}
