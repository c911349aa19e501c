//! What a suite found at each broker, part by part, and how that is shown side by side.

use serde::Serialize;

use crate::compare::significant;
use crate::error::Error;
use crate::histogram::{Histogram, Latency};
use crate::load::Place;
use crate::options::Options;
use crate::report::{ServerCost, duration, grouped};

/// One broker, or one queue type of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    pub label: String,
    /// What the broker calls itself.
    pub server: String,
    /// Why the broker could not be measured, or not in all parts: it does not have what the suite is about.
    pub unavailable: Option<String>,
    pub parts: Vec<Part>,
    /// What it did wrong: messages that came too early, in the wrong order, twice or never.
    pub faults: Vec<String>,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Part {
    pub name: &'static str,
    /// What is counted: messages, if it is nothing else.
    pub unit: &'static str,
    pub count: u64,
    pub seconds: f64,
    pub per_s: f64,
    pub body_bytes_per_s: Option<f64>,
    pub timing: Option<Timing>,
    /// Per million of what is counted, which are deliveries where there are any.
    pub server_cost: Option<ServerCost>,
    /// When the first came, in microseconds, of the time in which all came.
    pub first_us: Option<f64>,
    pub failed: Option<u64>,
    /// What the server's memory has grown by for each.
    pub memory_each_bytes: Option<f64>,
    /// Of one core.
    pub server_cpu_percent: Option<f64>,
    /// The blocks of all files in the data directory afterwards.
    pub disk_bytes: Option<u64>,
    /// The first broker divided by this one; the first has none.
    pub ratio: Option<Ratio>,
}

/// Times, and between which moments they are.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    pub of: &'static str,
    pub latency: Latency,
}

/// The first broker's figures divided by another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Ratio {
    pub per_s: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
    pub server_cpu: Option<f64>,
    pub server_peak: Option<f64>,
    pub server_resident: Option<f64>,
    pub disk: Option<f64>,
    pub first: Option<f64>,
    pub all: Option<f64>,
    pub memory_each: Option<f64>,
}

impl Part {
    pub(crate) fn new(name: &'static str, count: u64, seconds: f64) -> Self {
        Self { name, unit: "messages", count, seconds, per_s: count as f64 / seconds.max(1e-9), ..Self::default() }
    }

    /// Something that has no rate.
    pub(crate) fn state(name: &'static str, count: u64) -> Self {
        Self { name, unit: "messages", count, ..Self::default() }
    }

    pub(crate) fn of(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    pub(crate) fn timed(self, of: &'static str, latency: &Histogram) -> Self {
        Self { timing: latency.summary().map(|latency| Timing { of, latency }), ..self }
    }

    pub(crate) fn at_cost(self, server_cost: Option<ServerCost>) -> Self {
        Self { server_cost, ..self }
    }

    /// With the rate in bytes, for bodies of `size`.
    pub(crate) fn with_bytes(self, size: usize) -> Self {
        Self { body_bytes_per_s: Some(self.per_s * size as f64), ..self }
    }

    fn over(&self, other: &Self) -> Ratio {
        let ratio = |figure: &dyn Fn(&Self) -> Option<f64>| {
            figure(self).zip(figure(other)).and_then(|(ours, theirs)| (theirs > 0.0).then(|| ours / theirs))
        };
        Ratio {
            per_s: ratio(&|part| Some(part.per_s)),
            p50: ratio(&|part| part.time(|latency| latency.p50_us)),
            p99: ratio(&|part| part.time(|latency| latency.p99_us)),
            max: ratio(&|part| part.time(|latency| latency.max_us)),
            server_cpu: ratio(&|part| part.cost(|cost| cost.cpu_s_per_million)),
            server_peak: ratio(&|part| part.cost(|cost| Some(cost.peak_bytes as f64))),
            server_resident: ratio(&|part| part.cost(|cost| Some(cost.resident_after_bytes as f64))),
            disk: ratio(&|part| part.disk_bytes.map(|bytes| bytes as f64)),
            first: ratio(&|part| part.first_us),
            all: ratio(&|part| part.all_us()),
            memory_each: ratio(&|part| part.memory_each_bytes),
        }
    }

    fn time(&self, figure: fn(&Latency) -> f64) -> Option<f64> {
        self.timing.as_ref().map(|timing| figure(&timing.latency))
    }

    /// How long all took, where the first was measured by itself.
    fn all_us(&self) -> Option<f64> {
        self.first_us.map(|_| self.seconds * 1e6)
    }

    fn cost(&self, figure: fn(&ServerCost) -> Option<f64>) -> Option<f64> {
        self.server_cost.as_ref().and_then(figure)
    }
}

impl Findings {
    pub(crate) fn at(options: &Options, place: &Place) -> Self {
        Self { label: options.name(&place.server), server: place.server.clone(), ..Self::default() }
    }

    pub(crate) fn unavailable(label: String, why: &Error) -> Self {
        Self { label, unavailable: Some(why.to_string()), ..Self::default() }
    }

    /// Of each part the round with the median rate; whatever went wrong in any round.
    pub(crate) fn median(mut rounds: Vec<Self>) -> Option<Self> {
        let mut median = rounds.pop()?;
        for (index, part) in median.parts.iter_mut().enumerate() {
            let others = rounds.iter().filter_map(|round| round.parts.get(index));
            let mut all: Vec<Part> = others.cloned().chain([part.clone()]).collect();
            all.sort_by(|one, other| one.per_s.total_cmp(&other.per_s));
            *part = all.swap_remove(all.len() / 2);
        }
        for round in rounds {
            median.faults.extend(round.faults);
            median.notes.extend(round.notes);
        }
        Some(median)
    }
}

/// The first thing that any broker did wrong. The first broker is the one under test: it must have what is measured.
pub(crate) fn judge(all: &[Findings]) -> Result<(), Error> {
    let missing = all.first().and_then(|first| first.unavailable.as_ref().map(|why| (first, why)));
    let wrong = all.iter().find_map(|one| one.faults.first().map(|fault| (one, fault)));
    match missing.or(wrong) {
        Some((broker, fault)) => Err(Error::Wrong(format!("{}: {fault}", broker.label))),
        None => Ok(()),
    }
}

/// Sets every broker in proportion to the first.
pub(crate) fn compare(all: &mut [Findings]) {
    let Some((first, others)) = all.split_first_mut() else {
        return;
    };
    for other in others {
        for part in &mut other.parts {
            let ours = first.parts.iter().find(|ours| ours.name == part.name);
            part.ratio = ours.map(|ours| ours.over(part));
        }
    }
}

/// A row of the table: its head, the figure, its ratio, and how it is written.
struct Row {
    head: fn(&Part) -> String,
    figure: fn(&Part) -> Option<f64>,
    ratio: fn(&Ratio) -> Option<f64>,
    show: fn(f64) -> String,
}

const ROWS: [Row; 15] = [
    Row {
        head: |part| format!("{}/s", part.unit),
        figure: |part| Some(part.per_s).filter(|rate| *rate > 0.0),
        ratio: |ratio| ratio.per_s,
        show: grouped,
    },
    Row {
        head: |_| "failed".to_owned(),
        figure: |part| part.failed.map(|failed| failed as f64),
        ratio: |_| None,
        show: grouped,
    },
    Row {
        head: |_| "first after".to_owned(),
        figure: |part| part.first_us,
        ratio: |ratio| ratio.first,
        show: duration,
    },
    Row { head: |_| "all after".to_owned(), figure: Part::all_us, ratio: |ratio| ratio.all, show: duration },
    Row {
        head: |_| "MB/s".to_owned(),
        figure: |part| part.body_bytes_per_s.map(|bytes| bytes / 1e6),
        ratio: |_| None,
        show: significant,
    },
    Row {
        head: |part| format!("{} p50", timing_of(part)),
        figure: |part| part.time(|latency| latency.p50_us),
        ratio: |ratio| ratio.p50,
        show: duration,
    },
    Row {
        head: |part| format!("{} p99", timing_of(part)),
        figure: |part| part.time(|latency| latency.p99_us),
        ratio: |ratio| ratio.p99,
        show: duration,
    },
    Row {
        head: |part| format!("{} max", timing_of(part)),
        figure: |part| part.time(|latency| latency.max_us),
        ratio: |ratio| ratio.max,
        show: duration,
    },
    Row {
        head: |part| format!("server CPU per million {}", part.unit),
        figure: |part| part.cost(|cost| cost.cpu_s_per_million),
        ratio: |ratio| ratio.server_cpu,
        show: |seconds| format!("{} s", significant(seconds)),
    },
    Row {
        head: |_| "server CPU".to_owned(),
        figure: |part| part.server_cpu_percent,
        ratio: |_| None,
        show: |percent| format!("{} %", significant(percent)),
    },
    Row {
        head: |part| format!("memory per {}", part.unit.strip_suffix('s').unwrap_or(part.unit)),
        figure: |part| part.memory_each_bytes,
        ratio: |ratio| ratio.memory_each,
        show: |bytes| format!("{} B", grouped(bytes)),
    },
    Row {
        head: |_| "memory before".to_owned(),
        figure: |part| part.cost(|cost| Some(cost.resident_before_bytes as f64)),
        ratio: |_| None,
        show: mebibytes,
    },
    Row {
        head: |_| "peak memory".to_owned(),
        figure: |part| part.cost(|cost| Some(cost.peak_bytes as f64)),
        ratio: |ratio| ratio.server_peak,
        show: mebibytes,
    },
    Row {
        head: |_| "memory afterwards".to_owned(),
        figure: |part| part.cost(|cost| Some(cost.resident_after_bytes as f64)),
        ratio: |ratio| ratio.server_resident,
        show: mebibytes,
    },
    Row {
        head: |_| "disk".to_owned(),
        figure: |part| part.disk_bytes.map(|bytes| bytes as f64),
        ratio: |ratio| ratio.disk,
        show: mebibytes,
    },
];

fn timing_of(part: &Part) -> &str {
    part.timing.as_ref().map_or("", |timing| timing.of)
}

/// A Markdown table with a column for each broker, and below it what went wrong.
pub(crate) fn markdown(all: &[Findings]) -> String {
    let line = |head: &str, cells: Vec<String>| format!("| {head} | {} |", cells.join(" | "));
    let mut lines = vec![line("", all.iter().map(|one| one.label.clone()).collect())];
    lines.push(format!("|---|{}", "---|".repeat(all.len())));
    let longest = all.iter().map(|one| one.parts.as_slice()).max_by_key(|parts| parts.len()).unwrap_or_default();
    for part in longest {
        let same: Vec<Option<&Part>> =
            all.iter().map(|one| one.parts.iter().find(|other| other.name == part.name)).collect();
        for row in &ROWS {
            // The head is of a part that has the figure: another may have been without one.
            let Some(shown) = same.iter().flatten().find(|part| (row.figure)(part).is_some()) else {
                continue;
            };
            let cells = all.iter().zip(&same).map(|(one, part)| cell(one, *part, row));
            lines.push(line(&format!("{}: {}", part.name, (row.head)(shown)), cells.collect()));
        }
    }
    for one in all {
        let unavailable = one.unavailable.iter().map(|why| format!("not available, {why}"));
        let told = unavailable.chain(one.faults.iter().map(|fault| format!("WRONG: {fault}"))).chain(one.notes.clone());
        lines.extend(told.map(|text| format!("\n{}: {text}", one.label)));
    }
    lines.join("\n")
}

fn cell(findings: &Findings, part: Option<&Part>, row: &Row) -> String {
    let Some(shown) = part.and_then(row.figure).map(row.show) else {
        let is_unavailable = part.is_none() && findings.unavailable.is_some();
        return if is_unavailable { "not available" } else { "–" }.to_owned();
    };
    let ratio = part.and_then(|part| part.ratio.as_ref()).and_then(row.ratio);
    ratio.map_or_else(|| shown.clone(), |ratio| format!("{shown} ({}×)", significant(ratio)))
}

fn mebibytes(bytes: f64) -> String {
    format!("{} MiB", grouped(bytes / f64::from(1 << 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(label: &str, rate: f64) -> Findings {
        let mut late = Histogram::default();
        late.record(100_000);
        let part = Part::new("publish", rate as u64, 1.0).timed("lateness", &late);
        Findings { label: label.into(), parts: vec![part], ..Findings::default() }
    }

    #[test]
    fn a_table_has_ratios_and_says_what_is_missing_and_wrong() {
        let refused = Error::Refused { code: 503, text: "no such type".into() };
        let mut all = vec![findings("A", 5e4), findings("B", 2e4), Findings::unavailable("C".into(), &refused)];
        all[1].faults.push("late".into());
        all.push(Findings { unavailable: Some("half".into()), ..findings("D", 5e4) });
        compare(&mut all);
        let text = markdown(&all);
        assert!(
            text.contains("| publish: messages/s | 50,000 | 20,000 (2.50×) | not available | 50,000 (1.00×) |"),
            "{text}"
        );
        assert!(
            text.contains("| publish: lateness p99 | 100 µs | 100 µs (1.00×) | not available | 100 µs (1.00×) |"),
            "{text}"
        );
        assert!(!text.contains("disk") && !text.contains("CPU"), "{text}");
        assert!(
            text.contains("\nB: WRONG: late\n\nC: not available, the server refuses it: 503 no such type"),
            "{text}"
        );
        assert_eq!(judge(&all).unwrap_err().to_string(), "the server did wrong: B: late");
        all[1].faults.clear();
        assert!(judge(&all).is_ok());
    }

    #[test]
    fn the_broker_under_test_must_have_it() {
        let mut all = vec![Findings::unavailable("A".into(), &Error::HungUp), findings("B", 1.0)];
        compare(&mut all);
        assert!(judge(&all).is_err());
        assert_eq!(all[1].parts[0].ratio, None);
    }

    #[test]
    fn the_round_with_the_median_rate_counts() {
        let mut rounds = vec![findings("A", 3.0), findings("A", 1.0), findings("A", 2.0)];
        rounds[0].faults.push("early".into());
        let median = Findings::median(rounds).unwrap();
        assert_eq!((median.parts[0].per_s, median.faults), (2.0, vec!["early".to_owned()]));
        assert!(Findings::median(Vec::new()).is_none());
    }
}
