//! Failed logins, counted by address and by user: who has too many of them is refused for a while, whatever he brings.
//!
//! Each has a bucket of tokens. A failure takes one, and they come back evenly over the window. Only failures count, so that
//! any number of clients with the right passwords may come from one address.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
};

use broker::Millis;
use parking_lot::Mutex;

use super::access::plain;

/// Buckets in each table at most.
const BUCKETS_MAX: usize = 10_000;

/// How many failures are allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Failures of one address within the window; 0 for any number.
    pub per_address: u32,
    /// Failures of one user name within the window; 0 for any number.
    pub per_user: u32,
    /// Milliseconds in which they are forgotten.
    pub window_ms: u64,
}

/// Counts failed logins.
#[derive(Debug)]
pub struct Failures {
    window_ms: u64,
    addresses: Table,
    users: Table,
}

#[derive(Debug)]
struct Table {
    allowed: u32,
    /// By a hash of the address or user, so that long names take no room.
    buckets: Mutex<HashMap<u64, Bucket>>,
    hasher: RandomState,
}

/// What of an allowance was left at a time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Millis,
}

impl Failures {
    /// Nobody has failed yet.
    pub fn new(allowance: Allowance) -> Self {
        let table = |allowed| Table { allowed, buckets: Mutex::default(), hasher: RandomState::new() };
        let Allowance { per_address, per_user, window_ms } = allowance;
        Self { window_ms: window_ms.max(1), addresses: table(per_address), users: table(per_user) }
    }

    /// Whether an address, or whoever it wants to log in as, has failed too often.
    pub fn are_too_many(&self, user: &str, address: IpAddr, now: Millis) -> bool {
        self.addresses.is_empty(|| network_of(address), self.window_ms, now)
            || self.users.is_empty(|| plain(user), self.window_ms, now)
    }

    /// Counts a failure. The empty user name is that of all who bring a token, and is not counted.
    pub fn add(&self, user: &str, address: IpAddr, now: Millis) {
        self.addresses.take(&network_of(address), self.window_ms, now);
        if !user.is_empty() {
            self.users.take(&plain(user), self.window_ms, now);
        }
    }
}

/// Who has one address of IPv6 has all of its network.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

impl Table {
    fn is_empty<K: Hash>(&self, key: impl FnOnce() -> K, window_ms: u64, now: Millis) -> bool {
        let buckets = self.buckets.lock();
        // Mostly nobody has failed.
        if buckets.is_empty() {
            return false;
        }
        let bucket = buckets.get(&self.hasher.hash_one(key()));
        bucket.is_some_and(|bucket| self.left(bucket, window_ms, now) < 1.0)
    }

    fn take(&self, key: &impl Hash, window_ms: u64, now: Millis) {
        if self.allowed == 0 {
            return;
        }
        let mut buckets = self.buckets.lock();
        if buckets.len() >= BUCKETS_MAX {
            // Those with the most failures stay; if even they are too many, counting begins anew.
            let enough = f64::from(self.allowed);
            buckets.retain(|_, bucket| self.left(bucket, window_ms, now) < enough - 1.0);
            if buckets.len() >= BUCKETS_MAX {
                buckets.retain(|_, bucket| self.left(bucket, window_ms, now) < 1.0);
            }
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
        }
        let full = Bucket { tokens: self.allowed.into(), at: now };
        let bucket = buckets.entry(self.hasher.hash_one(key)).or_insert(full);
        let tokens = (self.left(bucket, window_ms, now) - 1.0).max(0.0);
        *bucket = Bucket { tokens, at: now };
    }

    fn left(&self, bucket: &Bucket, window_ms: u64, now: Millis) -> f64 {
        let allowed = f64::from(self.allowed);
        let elapsed = now.0.saturating_sub(bucket.at.0) as f64;
        (bucket.tokens + allowed * elapsed / window_ms as f64).min(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures {
        Failures::new(Allowance { per_address: 4, per_user: 2, window_ms: 1000 })
    }

    #[test]
    fn a_user_with_too_many_failures_waits_for_some_to_be_forgotten() {
        let failures = failures();
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        failures.add("u", one, Millis(0));
        assert!(!failures.are_too_many("u", one, Millis(0)));
        failures.add("u", one, Millis(0));
        assert!(failures.are_too_many("u", other, Millis(0)) && !failures.are_too_many("v", one, Millis(0)));
        assert!(failures.are_too_many("u", one, Millis(499)) && !failures.are_too_many("u", one, Millis(500)));
    }

    #[test]
    fn an_address_with_too_many_failures_waits_whoever_it_wants_to_be() {
        let failures = failures();
        let (one, near) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        for user in ["a", "b", "c", ""] {
            failures.add(user, one, Millis(0));
        }
        assert!(failures.are_too_many("d", one, Millis(0)) && failures.are_too_many("d", near, Millis(0)));
        assert!(!failures.are_too_many("d", "2001:db8:0:1::1".parse().unwrap(), Millis(0)));
        assert!(!failures.are_too_many("d", one, Millis(251)));
    }

    #[test]
    fn there_is_a_bound_and_an_end_to_counting() {
        let failures = failures();
        let bad = "10.0.0.1".parse().unwrap();
        (0..9).for_each(|_| failures.add("", bad, Millis(0)));
        for n in 0..3 * BUCKETS_MAX as u32 {
            failures.add("", IpAddr::V4((0x0b00_0000 + n).into()), Millis(0));
        }
        assert!(failures.addresses.buckets.lock().len() <= BUCKETS_MAX);
        assert!(failures.are_too_many("", bad, Millis(0)), "others do not wash it clean");
        let none = Failures::new(Allowance { per_address: 0, per_user: 0, window_ms: 1000 });
        none.add("u", bad, Millis(0));
        assert!(!none.are_too_many("u", bad, Millis(0)));
    }
}
