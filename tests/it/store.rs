//! What the log on disk is for: queues deeper than memory, restarts, copies, keys, damage and a full disk.

mod backup;
mod damage;
mod deep;
mod durability;
mod encryption;
mod full;
mod space;

use std::time::Duration;

use roadstead_tests::wait_until;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_millis(20);

/// Segments so small that a test of a few seconds fills many of them.
const SMALL: &str = "[store]\nsegment_bytes = 262144\n";
const SEGMENT: u64 = 256 * KIB;
