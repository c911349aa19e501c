//! What the whole-system tests share: `server` runs a real broker, `raw`, `mqtt`, `stomp` and `openwire` speak to it
//! without a client library, `load` keeps it busy while it is killed, and `checker` judges what `load` has seen; `flow`
//! moves numbered messages in bulk.
//! The tests are in `it/`, one binary; the suites of real clients that it starts are in `clients/`.

pub mod checker;
pub mod conversation;
pub mod flow;
pub mod load;
pub mod mqtt;
pub mod openwire;
pub mod raw;
pub mod server;
pub mod stomp;
pub mod tmpfs;

use std::thread;
use std::time::{Duration, Instant};

/// Waits until something holds that no event tells of, for as many seconds at most.
#[track_caller]
pub fn wait_until(seconds: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
