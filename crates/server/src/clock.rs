//! The one clock that the broker's time is read from.

use std::time::{Duration, Instant};

use broker::Millis;

/// Counts from when the broker started.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// When it will be `at`.
    pub fn instant(&self, at: Millis) -> tokio::time::Instant {
        (self.started + Duration::from_millis(at.0)).into()
    }
}
