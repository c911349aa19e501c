//! What people see while a load runs: one line per second on the standard error output.

use crate::control::Totals;
use crate::process::Cost;
use crate::report::grouped;

/// The peak between two looks is missed, unless it was the highest ever, which the kernel remembers.
const MEMORY_EVERY_NS: u64 = 100_000_000;

/// Prints the lines, and looks at the server's memory in between.
pub(crate) struct Progress {
    pid: Option<String>,
    last: Totals,
    /// The most memory that was seen.
    pub(crate) resident_max: u64,
    /// When the memory is looked at again.
    sample_at: u64,
}

impl Progress {
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Self { pid: pid.map(|pid| pid.to_string()), last: Totals::default(), resident_max: 0, sample_at: 0 }
    }

    pub(crate) fn tick(&mut self, now: &Totals, phase: &str) {
        self.sample_memory(now.at);
        let seconds = now.seconds_since(&self.last);
        if seconds < 1.0 {
            return;
        }
        let rate = |now: u64, before: u64| grouped((now - before) as f64 / seconds);
        let blocked = match now.blocked {
            0 => String::new(),
            n => format!("  [{n} blocked by the server]"),
        };
        let phase = if phase.is_empty() { String::new() } else { format!("  [{phase}]") };
        eprintln!(
            "{:5.0} s  published {:>10}/s  confirmed {:>10}/s  consumed {:>10}/s{phase}{blocked}",
            now.at as f64 / 1e9,
            rate(now.published, self.last.published),
            rate(now.confirmed, self.last.confirmed),
            rate(now.consumed, self.last.consumed),
        );
        self.last = *now;
    }

    fn sample_memory(&mut self, now: u64) {
        if now < self.sample_at {
            return;
        }
        self.sample_at = now + MEMORY_EVERY_NS;
        if let Some(Ok(cost)) = self.pid.as_deref().map(Cost::of) {
            self.resident_max = self.resident_max.max(cost.resident_bytes);
        }
    }
}
