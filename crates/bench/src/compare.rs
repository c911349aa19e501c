//! One load against one broker or two in turn, and the medians of the rounds side by side.

use serde::Serialize;

use crate::error::Error;
use crate::janitor::Janitor;
use crate::load;
use crate::options::Options;
use crate::report::{Report, duration, grouped};

/// A load measured in rounds, against one broker or alternately against two.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub name: String,
    pub load: String,
    pub ours: Vec<Report>,
    /// Empty without a second broker.
    pub rival: Vec<Report>,
    pub ours_median: Figures,
    pub rival_median: Option<Figures>,
    /// First broker divided by second, figure by figure.
    pub ratio: Option<Figures>,
}

/// The figures that are compared; each is the median of its own rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub messages_per_s: Option<f64>,
    pub server_cpu_us_per_message: Option<f64>,
    pub deliver_p50_us: Option<f64>,
    pub deliver_p99_us: Option<f64>,
    pub confirm_p50_us: Option<f64>,
    pub confirm_p99_us: Option<f64>,
    pub server_peak_mib: Option<f64>,
}

impl Comparison {
    /// Runs all rounds: A, B, A, B, ...
    pub(crate) fn run(name: &str, options: &Options, janitor: &mut Janitor) -> Result<Self, Error> {
        let rival_options = options.rival();
        let (mut ours, mut rival) = (Vec::new(), Vec::new());
        for round in 1..=options.rounds() {
            let mut measure = |options: &Options, into: &mut Vec<Report>| {
                let resolved = options.resolved();
                eprintln!("round {round} of {}: {} at {}", options.rounds(), resolved.describe(), options.place());
                let report = load::run(options, janitor)?;
                eprintln!("{report}");
                into.push(report);
                Ok(())
            };
            measure(options, &mut ours)?;
            if let Some(options) = &rival_options {
                measure(options, &mut rival)?;
            }
        }
        let ours_median = Figures::median(&ours);
        let rival_median = (!rival.is_empty()).then(|| Figures::median(&rival));
        let ratio = rival_median.as_ref().map(|rival| ours_median.over(rival));
        let load = options.resolved().describe();
        Ok(Self { name: name.to_owned(), load, ours, rival, ours_median, rival_median, ratio })
    }

    /// The slower broker's messages per second.
    pub(crate) fn slower_rate(&self) -> f64 {
        let rates = [Some(&self.ours_median), self.rival_median.as_ref()];
        rates.into_iter().flatten().filter_map(|figures| figures.messages_per_s).fold(f64::INFINITY, f64::min)
    }

    fn labels(&self) -> String {
        [self.ours.first(), self.rival.first()].into_iter().flatten().map(|r| &*r.label).collect::<Vec<_>>().join(" : ")
    }

    /// The load, with its name if that says more.
    fn title(&self) -> String {
        if self.load.contains(&self.name) { self.load.clone() } else { format!("{}: {}", self.name, self.load) }
    }

    /// One row of a Markdown table; each cell is `first : second (ratio)`.
    fn row(&self) -> String {
        let cell = |figure: fn(&Figures) -> Option<f64>, show: fn(f64) -> String| {
            let shown = |figures: &Figures| figure(figures).map_or_else(|| "–".to_owned(), show);
            match (&self.rival_median, &self.ratio) {
                (Some(rival), Some(ratio)) => {
                    let times = figure(ratio).map_or_else(String::new, |ratio| format!(" ({}×)", significant(ratio)));
                    format!("{} : {}{times}", shown(&self.ours_median), shown(rival))
                }
                _ => shown(&self.ours_median),
            }
        };
        let cells = [
            self.title(),
            cell(|f| f.messages_per_s, grouped),
            cell(|f| f.server_cpu_us_per_message, |us| format!("{} µs", significant(us))),
            cell(|f| f.deliver_p50_us, duration),
            cell(|f| f.deliver_p99_us, duration),
            cell(|f| f.confirm_p50_us, duration),
            cell(|f| f.confirm_p99_us, duration),
            cell(|f| f.server_peak_mib, |mib| format!("{mib:.0} MiB")),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

/// A Markdown table of loads.
pub(crate) fn markdown(comparisons: &[Comparison]) -> String {
    let labels = comparisons.first().map(Comparison::labels).unwrap_or_default();
    let figures = [
        "messages/s",
        "server CPU per message",
        "deliver p50",
        "deliver p99",
        "confirm p50",
        "confirm p99",
        "peak memory",
    ];
    let mut lines = vec![
        format!("| load ({labels}) | {} |", figures.join(" | ")),
        format!("|---|{}", "---|".repeat(figures.len())),
    ];
    lines.extend(comparisons.iter().map(Comparison::row));
    lines.join("\n")
}

impl Figures {
    fn each(mut figure: impl FnMut(fn(&Self) -> Option<f64>) -> Option<f64>) -> Self {
        Self {
            messages_per_s: figure(|f| f.messages_per_s),
            server_cpu_us_per_message: figure(|f| f.server_cpu_us_per_message),
            deliver_p50_us: figure(|f| f.deliver_p50_us),
            deliver_p99_us: figure(|f| f.deliver_p99_us),
            confirm_p50_us: figure(|f| f.confirm_p50_us),
            confirm_p99_us: figure(|f| f.confirm_p99_us),
            server_peak_mib: figure(|f| f.server_peak_mib),
        }
    }

    fn of(report: &Report) -> Self {
        let cost = report.server_cost.as_ref();
        Self {
            messages_per_s: Some(report.rate()),
            // Seconds per million messages are microseconds per message.
            server_cpu_us_per_message: cost.and_then(|cost| cost.cpu_s_per_million),
            deliver_p50_us: report.deliver_latency.as_ref().map(|latency| latency.p50_us),
            deliver_p99_us: report.deliver_latency.as_ref().map(|latency| latency.p99_us),
            confirm_p50_us: report.confirm_latency.as_ref().map(|latency| latency.p50_us),
            confirm_p99_us: report.confirm_latency.as_ref().map(|latency| latency.p99_us),
            server_peak_mib: cost.map(|cost| cost.peak_bytes as f64 / f64::from(1 << 20)),
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

/// Three significant digits: 0.0713, 5.21, 48.3, 1234.
fn significant(value: f64) -> String {
    match value {
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
    fn a_row_shows_both_and_the_ratio() {
        let figures = |rate, p50| {
            let mut figures = Figures::each(|_| None);
            (figures.messages_per_s, figures.deliver_p50_us) = (Some(rate), Some(p50));
            figures
        };
        let (ours_median, rival) = (figures(1_000_000.0, 50.0), figures(50_000.0, 200.0));
        let comparison = Comparison {
            name: "a".into(),
            load: "b".into(),
            ours: Vec::new(),
            rival: Vec::new(),
            ratio: Some(ours_median.over(&rival)),
            ours_median,
            rival_median: Some(rival),
        };
        assert_eq!(comparison.slower_rate(), 50_000.0);
        assert_eq!(
            comparison.row(),
            "| a: b | 1,000,000 : 50,000 (20.0×) | – : – | 50 µs : 200 µs (0.250×) | – : – | – : – | – : – | – : – |"
        );
    }
}
