//! What the log on disk is for: queues deeper than memory, restarts, copies, keys, damage and a full disk.

mod backup;
mod damage;
mod deep;
mod durability;
mod encryption;
mod full;
mod space;

use std::thread;
use std::time::{Duration, Instant};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_millis(20);

/// Segments so small that a test of a few seconds fills many of them.
const SMALL: &str = "[store]\nsegment_bytes = 262144\n";
const SEGMENT: u64 = 256 * KIB;

#[track_caller]
fn wait_until(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        thread::sleep(SOON);
    }
}
