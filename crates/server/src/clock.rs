//! The one clock that the broker's time is read from.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker::Millis;

/// Longer than any broker runs.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Counts milliseconds since 1970, and never goes back: what the system's clock is set to meanwhile matters only at the
/// next start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: Millis,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), started_at: Millis(since_1970.as_millis() as u64) }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.started_at.plus(self.started.elapsed().as_millis() as u64)
    }

    /// When it will be `at`.
    pub fn instant(&self, at: Millis) -> tokio::time::Instant {
        // A time that is too far ahead for the system never comes.
        let ahead = Duration::from_millis(at.0.saturating_sub(self.started_at.0));
        self.started.checked_add(ahead.min(FAR)).unwrap_or(self.started).into()
    }
}
