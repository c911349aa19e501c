//! Answers of other servers, remembered for a while.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;

use crate::clock::Clock;
use broker::Millis;

/// What servers have answered, the good and the bad, for a time and up to a number.
#[derive(Debug)]
pub struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Millis)>>,
    clock: Clock,
    ttl: Duration,
    entries_max: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Remembers up to `entries_max` answers for `ttl`.
    pub fn new(clock: Clock, ttl: Duration, entries_max: usize) -> Self {
        Self { entries: Mutex::default(), clock, ttl, entries_max }
    }

    /// What was answered.
    pub fn get(&self, key: &K) -> Option<V> {
        let now = self.clock.now();
        self.entries.lock().get(key).filter(|(_, until)| *until > now).map(|(answer, _)| answer.clone())
    }

    /// Remembers an answer.
    pub fn put(&self, key: K, answer: V) {
        self.put_for(key, answer, self.ttl);
    }

    /// Remembers an answer, for another time if that is shorter.
    pub fn put_for(&self, key: K, answer: V, ttl: Duration) {
        let ttl = ttl.min(self.ttl);
        if ttl.is_zero() || self.entries_max == 0 {
            return;
        }
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        if entries.len() >= self.entries_max {
            entries.retain(|_, (_, until)| *until > now);
            // All is asked again rather than that one answer pushes out another, over and over.
            if entries.len() >= self.entries_max {
                entries.clear();
            }
        }
        entries.insert(key, (answer, now.plus(ttl.as_millis() as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_few_and_not_for_ever() {
        let cache = Cache::new(Clock::start(), Duration::from_secs(600), 3);
        (0..10).for_each(|n| cache.put(n, n % 2 == 0));
        assert_eq!((cache.get(&9), cache.get(&0)), (Some(false), None));
        assert!(cache.entries.lock().len() <= 3);
        cache.put_for(9, true, Duration::ZERO);
        assert_eq!(cache.get(&9), Some(false));
        let forgetful = Cache::new(Clock::start(), Duration::ZERO, 3);
        forgetful.put(1, true);
        assert_eq!(forgetful.get(&1), None);
        cache.entries.lock().insert(9, (true, Millis(0)));
        assert_eq!(cache.get(&9), None);
    }
}
