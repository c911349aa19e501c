//! One load against one broker or several in turn, and the medians of the rounds side by side.

use serde::Serialize;

use crate::error::Error;
use crate::janitor::Janitor;
use crate::load;
use crate::options::Options;
use crate::report::{Report, duration, grouped};

/// A load measured in rounds, against one broker or alternately against several.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub name: String,
    pub load: String,
    /// Body size in bytes.
    pub size: usize,
    pub publishers: usize,
    /// Messages that each publisher may have unconfirmed; 0 = no confirms.
    pub outstanding: usize,
    /// The broker under test is the first.
    pub columns: Vec<Column>,
}

/// What one broker, or one queue type of it, did with the load.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    pub label: String,
    pub rounds: Vec<Report>,
    /// Why there are none: the broker does not have what the load is about.
    pub unavailable: Option<String>,
    pub median: Figures,
    /// The first column divided by this one, figure by figure; the first has none.
    pub ratio: Option<Figures>,
}

/// The figures that are compared; each is the median of its own rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub messages_per_s: Option<f64>,
    /// Of the deliveries that were due.
    pub lost_percent: Option<f64>,
    pub server_cpu_us_per_message: Option<f64>,
    pub deliver_p50_us: Option<f64>,
    pub deliver_p99_us: Option<f64>,
    pub confirm_p50_us: Option<f64>,
    pub confirm_p99_us: Option<f64>,
    pub server_peak_mib: Option<f64>,
    pub syncs_per_thousand: Option<f64>,
    pub write_amplification: Option<f64>,
}

/// A column of the Markdown table: its head, its figure, and how that is written.
type Shown = (&'static str, fn(&Figures) -> Option<f64>, fn(f64) -> String);

const SHOWN: [Shown; 10] = [
    ("messages/s", |f| f.messages_per_s, grouped),
    ("lost", |f| f.lost_percent, |percent| format!("{} %", significant(percent))),
    ("server CPU per message", |f| f.server_cpu_us_per_message, |us| format!("{} µs", significant(us))),
    ("deliver p50", |f| f.deliver_p50_us, duration),
    ("deliver p99", |f| f.deliver_p99_us, duration),
    ("confirm p50", |f| f.confirm_p50_us, duration),
    ("confirm p99", |f| f.confirm_p99_us, duration),
    ("peak memory", |f| f.server_peak_mib, |mib| format!("{mib:.0} MiB")),
    ("syncs per thousand", |f| f.syncs_per_thousand, significant),
    ("bytes written per body byte", |f| f.write_amplification, significant),
];

impl Comparison {
    /// Runs all rounds: A, B, C, A, B, C, ...
    pub(crate) fn run(name: &str, options: &Options, janitor: &mut Janitor) -> Result<Self, Error> {
        let columns = options.columns();
        let mut rounds = vec![Vec::new(); columns.len()];
        let mut lacks: Vec<Option<String>> = vec![None; columns.len()];
        // A single report is what the tool prints in the end.
        let is_series = columns.len() * options.rounds() > 1 || options.suite.is_some();
        for round in 1..=options.rounds() {
            for ((options, reports), lack) in columns.iter().zip(&mut rounds).zip(&mut lacks) {
                if lack.is_some() {
                    continue;
                }
                if is_series {
                    let load = options.resolved().describe();
                    eprintln!("round {round} of {}: {load} at {}", options.rounds(), options.place());
                }
                match load::run(options, janitor) {
                    // What the broker under test does not have is an error all the same, if it is alone.
                    Err(error) if is_series && error.is_lack() => {
                        eprintln!("not available, {error}");
                        *lack = Some(error.to_string());
                    }
                    report => reports.push(report?),
                }
                if let Some(report) = reports.last().filter(|_| is_series && lack.is_none()) {
                    eprintln!("{report}");
                }
            }
        }
        let mut comparison = Self::of(name, options, rounds);
        for ((column, options), lack) in comparison.columns.iter_mut().zip(&columns).zip(lacks) {
            column.label = if lack.is_some() { options.place() } else { std::mem::take(&mut column.label) };
            column.unavailable = lack;
        }
        Ok(comparison)
    }

    fn of(name: &str, options: &Options, rounds: Vec<Vec<Report>>) -> Self {
        let options = options.resolved();
        let mut columns: Vec<Column> = rounds.into_iter().map(Column::of).collect();
        if let Some((first, others)) = columns.split_first_mut() {
            others.iter_mut().for_each(|other| other.ratio = Some(first.median.over(&other.median)));
        }
        Self {
            name: name.to_owned(),
            load: options.describe(),
            size: options.size,
            publishers: options.publishers,
            outstanding: options.confirms,
            columns,
        }
    }

    /// The slowest broker's messages per second.
    pub(crate) fn slowest_rate(&self) -> f64 {
        self.columns.iter().filter_map(|column| column.median.messages_per_s).fold(f64::INFINITY, f64::min)
    }

    /// The only report there is, if the load was measured once.
    pub(crate) fn single(&self) -> Option<&Report> {
        match self.columns.as_slice() {
            [Column { rounds, .. }] if rounds.len() == 1 => rounds.first(),
            _ => None,
        }
    }

    /// The first thing that a broker did wrong.
    pub(crate) fn fault(&self) -> Option<String> {
        let mut faults = self.columns.iter().flat_map(|column| {
            column.rounds.iter().flat_map(|report| &report.faults).map(|fault| format!("{}: {fault}", column.label))
        });
        faults.next()
    }

    /// The load, with its name if that says more.
    fn title(&self) -> String {
        if self.load.contains(&self.name) { self.load.clone() } else { format!("{}: {}", self.name, self.load) }
    }

    /// `first : second (ratio) : third (ratio)`.
    fn cell(&self, (_, figure, show): &Shown) -> String {
        let cells = self.columns.iter().map(|column| {
            if column.unavailable.is_some() {
                return "not available".to_owned();
            }
            let shown = figure(&column.median).map_or_else(|| "–".to_owned(), show);
            let ratio = column.ratio.as_ref().and_then(figure);
            ratio.map_or_else(|| shown.clone(), |ratio| format!("{shown} ({}×)", significant(ratio)))
        });
        cells.collect::<Vec<_>>().join(" : ")
    }
}

/// A Markdown table of loads. It has the figures that any of them has.
pub(crate) fn markdown(comparisons: &[Comparison]) -> String {
    let columns = || comparisons.iter().flat_map(|comparison| &comparison.columns);
    let shown: Vec<_> =
        SHOWN.iter().filter(|(_, figure, _)| columns().any(|column| figure(&column.median).is_some())).collect();
    let row = |head: String, cells: Vec<String>| format!("| {head} | {} |", cells.join(" | "));
    let first = comparisons.first().map(|comparison| comparison.columns.as_slice()).unwrap_or_default();
    let labels: Vec<_> = first.iter().map(|column| &*column.label).collect();
    let heads = shown.iter().map(|(head, ..)| (*head).to_owned()).collect();
    let mut lines = vec![row(format!("load ({})", labels.join(" : ")), heads)];
    lines.push(format!("|---|{}", "---|".repeat(shown.len())));
    for comparison in comparisons {
        lines.push(row(comparison.title(), shown.iter().map(|shown| comparison.cell(shown)).collect()));
    }
    lines.join("\n")
}

impl Column {
    fn of(rounds: Vec<Report>) -> Self {
        let label = rounds.first().map(|report| report.label.clone()).unwrap_or_default();
        Self { label, median: Figures::median(&rounds), ratio: None, unavailable: None, rounds }
    }
}

impl Figures {
    fn each(mut figure: impl FnMut(fn(&Self) -> Option<f64>) -> Option<f64>) -> Self {
        Self {
            messages_per_s: figure(|f| f.messages_per_s),
            lost_percent: figure(|f| f.lost_percent),
            server_cpu_us_per_message: figure(|f| f.server_cpu_us_per_message),
            deliver_p50_us: figure(|f| f.deliver_p50_us),
            deliver_p99_us: figure(|f| f.deliver_p99_us),
            confirm_p50_us: figure(|f| f.confirm_p50_us),
            confirm_p99_us: figure(|f| f.confirm_p99_us),
            server_peak_mib: figure(|f| f.server_peak_mib),
            syncs_per_thousand: figure(|f| f.syncs_per_thousand),
            write_amplification: figure(|f| f.write_amplification),
        }
    }

    fn of(report: &Report) -> Self {
        let cost = report.server_cost.as_ref();
        Self {
            messages_per_s: Some(report.rate()),
            lost_percent: report.totals.lost_percent(),
            // Seconds per million messages are microseconds per message.
            server_cpu_us_per_message: cost.and_then(|cost| cost.cpu_s_per_million),
            deliver_p50_us: report.deliver_latency.as_ref().map(|latency| latency.p50_us),
            deliver_p99_us: report.deliver_latency.as_ref().map(|latency| latency.p99_us),
            confirm_p50_us: report.confirm_latency.as_ref().map(|latency| latency.p50_us),
            confirm_p99_us: report.confirm_latency.as_ref().map(|latency| latency.p99_us),
            server_peak_mib: cost.map(|cost| cost.peak_bytes as f64 / f64::from(1 << 20)),
            syncs_per_thousand: cost.and_then(|cost| cost.syncs_per_thousand),
            write_amplification: cost.and_then(|cost| cost.write_amplification),
        }
    }

    fn median(reports: &[Report]) -> Self {
        let all: Vec<Self> = reports.iter().map(Self::of).collect();
        Self::each(|figure| median(all.iter().filter_map(figure).collect()))
    }

    fn over(&self, other: &Self) -> Self {
        Self::each(|figure| {
            let (ours, theirs) = (figure(self)?, figure(other)?);
            (theirs > 0.0).then(|| ours / theirs)
        })
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// Three significant digits: 0, 0.0713, 5.21, 48.3, 1234.
pub(crate) fn significant(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        v if v < 0.1 => format!("{v:.4}"),
        v if v < 1.0 => format!("{v:.3}"),
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn a_table_shows_all_columns_with_ratios_and_only_figures_that_exist() {
        let column = |label: &str, rate, p50| Column {
            label: label.into(),
            rounds: Vec::new(),
            unavailable: None,
            median: Figures { messages_per_s: Some(rate), confirm_p50_us: Some(p50), ..Figures::default() },
            ratio: None,
        };
        let mut columns = vec![column("A", 1e6, 50.0), column("B x", 5e4, 200.0), column("B y", 2e4, 500.0)];
        for index in 1..3 {
            columns[index].ratio = Some(columns[0].median.over(&columns[index].median));
        }
        let (name, load) = ("a".into(), "b".into());
        let comparison = Comparison { name, load, size: 1, publishers: 1, outstanding: 1, columns };
        assert_eq!(comparison.slowest_rate(), 2e4);
        let expected = "\
            | load (A : B x : B y) | messages/s | confirm p50 |\n\
            |---|---|---|\n\
            | a: b | 1,000,000 : 50,000 (20.0×) : 20,000 (50.0×) | 50 µs : 200 µs (0.250×) : 500 µs (0.100×) |";
        assert_eq!(markdown(&[comparison]), expected);
    }
}
