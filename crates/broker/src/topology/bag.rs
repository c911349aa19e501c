//! Destinations of which an exchange chooses one: `x-modulus-hash`, `x-random`, `x-local-random`.

use super::Destination;

/// Destinations in a fixed order, each as often as it is bound: who is bound twice is chosen twice as often.
#[derive(Debug, Default)]
pub(super) struct Bag(Vec<Destination>);

impl Bag {
    pub(super) fn insert(&mut self, destination: &Destination) {
        let at = self.0.partition_point(|other| other < destination);
        self.0.insert(at, destination.clone());
    }

    pub(super) fn remove(&mut self, destination: &Destination) {
        if let Ok(at) = self.0.binary_search(destination) {
            self.0.remove(at);
        }
    }

    /// The destination that a number stands for: the same as long as the bindings are.
    pub(super) fn pick(&self, number: u64) -> Option<&Destination> {
        let len = self.0.len() as u64;
        if len == 0 { None } else { self.0.get((number % len) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::QueueId;

    #[test]
    fn the_order_of_bindings_does_not_matter() {
        let queue = |n| Destination::Queue(QueueId(n));
        let mut bag = Bag::default();
        assert_eq!(bag.pick(7), None);
        [3, 1, 3, 2].into_iter().for_each(|n| bag.insert(&queue(n)));
        let picks: Vec<_> = (0..5).filter_map(|number| bag.pick(number)).cloned().collect();
        assert_eq!(picks, [1, 2, 3, 3, 1].map(queue));
        [3, 9].into_iter().for_each(|n| bag.remove(&queue(n)));
        assert_eq!(bag.0, [1, 2, 3].map(queue));
    }
}
