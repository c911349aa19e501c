//! The figures of one load, and how they are shown.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::histogram::Latency;

/// What one load measured. Rates and costs are of the measured window only; totals are of the whole load.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub label: String,
    /// Without the password.
    pub uri: String,
    /// What the broker calls itself.
    pub server: String,
    pub load: String,
    pub window_s: f64,
    pub published_per_s: f64,
    pub confirmed_per_s: Option<f64>,
    pub consumed_per_s: Option<f64>,
    /// From just before the publisher's write to just after the consumer's read.
    pub deliver_latency: Option<Latency>,
    /// From just before the publisher's write to just after the read of the confirm.
    pub confirm_latency: Option<Latency>,
    pub totals: Sums,
    /// What the server did wrong.
    pub faults: Vec<String>,
    pub server_cost: Option<ServerCost>,
    /// CPU seconds of this tool per million messages published and consumed.
    pub tool_cpu_s_per_million: Option<f64>,
}

/// Messages of the whole load, warm-up included.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    pub published: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub consumed: u64,
    pub redelivered: u64,
    /// With `--drain` or `--messages`: published, and never consumed.
    pub lost: Option<u64>,
    /// Deliveries that what was published should lead to.
    pub expected: u64,
}

/// What the server paid.
#[derive(Clone, Debug, Serialize)]
pub struct ServerCost {
    pub cpu_s: f64,
    /// Per million messages consumed, or published if nobody consumes.
    pub cpu_s_per_million: Option<f64>,
    /// Per million messages published, if they were delivered.
    pub cpu_s_per_million_published: Option<f64>,
    /// The most that was resident during the load.
    pub peak_bytes: u64,
    pub resident_before_bytes: u64,
    pub resident_after_bytes: u64,
    /// Calls of fsync and fdatasync, where they can be counted.
    pub syncs: Option<u64>,
    /// Per thousand messages published, or consumed if nobody publishes.
    pub syncs_per_thousand: Option<f64>,
    /// Bytes given to the write calls, without what went to this tool's sockets.
    pub file_bytes: Option<u64>,
    /// Bytes written to files per body byte published, or consumed if nobody publishes.
    pub write_amplification: Option<f64>,
}

impl Report {
    /// The rate that counts: what arrived, or what was confirmed or sent if nobody consumes.
    pub fn rate(&self) -> f64 {
        self.consumed_per_s.or(self.confirmed_per_s).unwrap_or(self.published_per_s)
    }
}

/// The table at the end of a run.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &str| writeln!(f, "  {name:<14} {value}");
        line("broker", &format!("{} ({}), {}", self.label, self.server, self.uri))?;
        line("load", &self.load)?;
        line("window", &format!("{:.2} s", self.window_s))?;
        line("published", &format!("{}/s", grouped(self.published_per_s)))?;
        if let Some(rate) = self.confirmed_per_s {
            line("confirmed", &format!("{}/s", grouped(rate)))?;
        }
        if let Some(rate) = self.consumed_per_s {
            line("consumed", &format!("{}/s", grouped(rate)))?;
        }
        if let Some(latency) = &self.deliver_latency {
            line("to deliver", &quantiles(latency))?;
        }
        if let Some(latency) = &self.confirm_latency {
            line("to confirm", &quantiles(latency))?;
        }
        line("totals", &self.totals.to_string())?;
        self.faults.iter().try_for_each(|fault| line("WRONG", fault))?;
        if let Some(cost) = &self.server_cost {
            line(
                "server CPU",
                &format!("{} s per million messages ({:.2} s)", optional(cost.cpu_s_per_million), cost.cpu_s),
            )?;
            // With copies for many, both are of interest.
            if let Some(cpu_s) =
                cost.cpu_s_per_million_published.filter(|_| self.totals.expected > self.totals.published)
            {
                line("", &format!("{cpu_s:.3} s per million published"))?;
            }
            let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / f64::from(1 << 20));
            let (before, after) = (mebibytes(cost.resident_before_bytes), mebibytes(cost.resident_after_bytes));
            line("server memory", &format!("{} MiB peak, {before} before, {after} after", mebibytes(cost.peak_bytes)))?;
            if let Some(written) = cost.write_amplification {
                line("server files", &format!("{written:.2} bytes written per body byte"))?;
            }
            if let Some(syncs) = cost.syncs_per_thousand {
                line("server syncs", &format!("{syncs:.3} per thousand messages"))?;
            }
        }
        line("tool CPU", &format!("{} s per million messages", optional(self.tool_cpu_s_per_million)))
    }
}

impl Sums {
    /// Of the deliveries that were due.
    pub fn lost_percent(&self) -> Option<f64> {
        self.lost.map(|lost| if self.expected > 0 { lost as f64 * 100.0 / self.expected as f64 } else { 0.0 })
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: u64| grouped(n as f64);
        write!(f, "{} published, {} consumed", count(self.published), count(self.consumed))?;
        let rare = [(self.confirmed, "confirmed"), (self.nacked, "nacked"), (self.redelivered, "redelivered")];
        for (n, what) in rare.into_iter().filter(|(n, _)| *n > 0) {
            write!(f, ", {} {what}", count(n))?;
        }
        match self.lost {
            Some(0) => f.write_str(", 0 lost"),
            Some(lost) => write!(f, ", {} lost ({:.3} %)", count(lost), self.lost_percent().unwrap_or(0.0)),
            None => Ok(()),
        }
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

fn quantiles(latency: &Latency) -> String {
    let mut text = String::new();
    let named = [
        ("p50", latency.p50_us),
        ("p90", latency.p90_us),
        ("p99", latency.p99_us),
        ("p99.9", latency.p99_9_us),
        ("max", latency.max_us),
    ];
    for (name, value) in named {
        // Writing to a String cannot fail.
        let _ = write!(text, "{name} {}  ", duration(value));
    }
    text + &format!("({} samples)", grouped(latency.samples as f64))
}

/// A number with its thousands set apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit that reads best.
pub(crate) fn duration(microseconds: f64) -> String {
    match microseconds {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 10_000.0 => format!("{us:.0} µs"),
        us if us < 10_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 999.4, 1000.0, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7.25, 70.4, 12_000.0, 3e7].map(duration), ["7.2 µs", "70 µs", "12 ms", "30.0 s"]);
    }
}
