//! Numbers over time, and what follows from them: rates, averages, curves.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value as Json, json};

/// Curves with more points than this are refused their finer ones.
const POINTS_MAX: u64 = 1_000;

/// What a client wants to know of the past, in seconds.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Past {
    msg_rates_age: Option<String>,
    msg_rates_incr: Option<String>,
    lengths_age: Option<String>,
    lengths_incr: Option<String>,
    data_rates_age: Option<String>,
    data_rates_incr: Option<String>,
    node_stats_age: Option<String>,
    node_stats_incr: Option<String>,
}

/// A stretch of the past: how far back it goes and how far its points are apart, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    age_ms: u64,
    step_ms: u64,
}

fn span(age: Option<&String>, step: Option<&String>) -> Option<Span> {
    let ms = |text: &String| text.parse::<u64>().ok().map(|seconds| seconds.saturating_mul(1000));
    let (age_ms, step_ms) = (ms(age?)?, ms(step?)?);
    let step_ms = step_ms.max(1000).max(age_ms / POINTS_MAX);
    Some(Span { age_ms, step_ms })
}

impl Past {
    /// Of rates of messages.
    pub fn messages(&self) -> Option<Span> {
        span(self.msg_rates_age.as_ref(), self.msg_rates_incr.as_ref())
    }

    /// Of lengths of queues.
    pub fn lengths(&self) -> Option<Span> {
        span(self.lengths_age.as_ref(), self.lengths_incr.as_ref())
    }

    /// Of bytes of connections.
    pub fn data(&self) -> Option<Span> {
        span(self.data_rates_age.as_ref(), self.data_rates_incr.as_ref())
    }

    /// Of nodes.
    pub fn nodes(&self) -> Option<Span> {
        span(self.node_stats_age.as_ref(), self.node_stats_incr.as_ref())
    }
}

/// What was seen, once or several times in a row.
#[derive(Clone, Debug)]
struct Sample<const N: usize> {
    first_ms: u64,
    last_ms: u64,
    values: [u64; N],
}

/// What some numbers were. As long as nothing changes there is one sample, so that what is idle costs little.
#[derive(Clone, Debug)]
pub struct Series<const N: usize> {
    samples: VecDeque<Sample<N>>,
}

impl<const N: usize> Default for Series<N> {
    fn default() -> Self {
        Self { samples: VecDeque::new() }
    }
}

impl<const N: usize> Series<N> {
    /// Adds what the numbers are, and forgets what is older than `keep_ms`.
    pub fn push(&mut self, at_ms: u64, values: [u64; N], keep_ms: u64) {
        match self.samples.back_mut() {
            Some(last) if last.values == values => last.last_ms = at_ms,
            last => {
                if last.is_none() {
                    self.samples.reserve_exact(1);
                }
                self.samples.push_back(Sample { first_ms: at_ms, last_ms: at_ms, values });
            }
        }
        // The one before the first that is needed tells what was until then.
        while self.samples.get(1).is_some_and(|second| second.first_ms + keep_ms < at_ms) {
            self.samples.pop_front();
        }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// When the numbers were seen at last, in milliseconds.
    pub fn last_ms(&self) -> Option<u64> {
        self.samples.back().map(|last| last.last_ms)
    }

    /// What a number was at last; 0 if nothing is known.
    pub fn last(&self, column: usize) -> u64 {
        self.samples.back().map_or(0, |last| last.values[column])
    }

    /// By how much a number grows each second, as of the last two times that it was seen.
    pub fn rate(&self, column: usize) -> f64 {
        let mut last = self.samples.iter().rev();
        let (Some(b), Some(a)) = (last.next(), last.next()) else { return 0.0 };
        let is_flat = b.first_ms < b.last_ms;
        if is_flat { 0.0 } else { growth(a.values[column], b.values[column], b.first_ms - a.last_ms) }
    }

    /// The number at a time: that of the last sample by then.
    fn at(&self, column: usize, at_ms: u64) -> Option<u64> {
        let after = self.samples.partition_point(|sample| sample.first_ms <= at_ms);
        self.samples.get(after.checked_sub(1)?).map(|sample| sample.values[column])
    }

    /// A number's `…_details` in RabbitMQ's form: its rate, and its curve if a span is asked for. `of` makes the number out
    /// of its columns.
    pub fn details(&self, columns: &[usize], span: Option<Span>) -> Json {
        let rate: f64 = columns.iter().map(|column| self.rate(*column)).sum();
        let mut details = json!({ "rate": rounded(rate) });
        let (Some(span), Some(last)) = (span, self.last_ms()) else { return details };
        // Points lie on whole steps, so that those of different things fall together.
        let end = last - last % span.step_ms;
        let points = span.age_ms / span.step_ms;
        let mut samples: Vec<(u64, u64)> = Vec::new();
        for step in 0..=points {
            let Some(at_ms) = end.checked_sub(step * span.step_ms) else { break };
            let values: Option<Vec<u64>> = columns.iter().map(|column| self.at(*column, at_ms)).collect();
            // Before the first sample there was nothing of it.
            samples.push((at_ms, values.map_or(0, |values| values.iter().sum())));
        }
        let (Some(&(b_at, b)), Some(&(a_at, a))) = (samples.first(), samples.last()) else { return details };
        let sum: f64 = samples.iter().map(|(_, value)| *value as f64).sum();
        details["avg_rate"] = json!(rounded(growth(a, b, b_at - a_at)));
        details["avg"] = json!(rounded(sum / samples.len() as f64));
        let samples = samples.iter().map(|(at_ms, value)| json!({ "timestamp": at_ms, "sample": value }));
        details["samples"] = samples.collect();
        details
    }
}

fn growth(a: u64, b: u64, ms: u64) -> f64 {
    if ms == 0 { 0.0 } else { (b as f64 - a as f64) * 1000.0 / ms as f64 }
}

/// Nobody looks at more digits, and they are most of an answer.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The same numbers with less detail the longer ago it was.
#[derive(Clone, Debug)]
pub struct Levels<const N: usize> {
    /// Milliseconds between samples, for how long they are kept, and the samples.
    levels: [(u64, u64, Series<N>); 4],
}

impl<const N: usize> Levels<N> {
    /// Nothing yet; samples will come at such intervals.
    pub fn new(every_ms: u64) -> Self {
        let level = |every_ms: u64, keep_s: u64| (every_ms, keep_s * 1000, Series::default());
        let hours = |hours: u64| hours * 3600;
        Self {
            levels: [
                level(every_ms, 600),
                level(60_000, hours(1)),
                level(600_000, hours(8)),
                level(1_800_000, hours(24)),
            ],
        }
    }

    /// Adds what the numbers are.
    pub fn push(&mut self, at_ms: u64, values: [u64; N]) {
        let finest_ms = self.levels[0].0;
        for (every_ms, keep_ms, series) in &mut self.levels {
            // Samples do not come to the millisecond.
            let is_time = series.last_ms().is_none_or(|last| at_ms + finest_ms / 2 >= last + *every_ms);
            if is_time {
                series.push(at_ms, values, *keep_ms);
            }
        }
    }

    /// A number's `…_details`: its rate is the newest, its curve that of the level that goes back far enough.
    pub fn details(&self, columns: &[usize], span: Option<Span>) -> Json {
        let far = |span: Span| self.levels.iter().find(|(_, keep_ms, _)| *keep_ms >= span.age_ms);
        let level = span.and_then(far).unwrap_or(&self.levels[0]);
        let mut details = level.2.details(columns, span);
        let rate: f64 = columns.iter().map(|column| self.levels[0].2.rate(*column)).sum();
        details["rate"] = json!(rounded(rate));
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(age_s: u64, step_s: u64) -> Option<Span> {
        span(Some(&age_s.to_string()), Some(&step_s.to_string()))
    }

    #[test]
    fn rates_and_curves() {
        let mut series = Series::<2>::default();
        for step in 0..10 {
            series.push(1_000_000 + step * 5_000, [step * 50, 7], 600_000);
        }
        assert_eq!(series.details(&[0], None), json!({ "rate": 10.0 }));
        let curve = series.details(&[0, 1], wanted(10, 5));
        let expected = json!([
            { "timestamp": 1_045_000, "sample": 457 },
            { "timestamp": 1_040_000, "sample": 407 },
            { "timestamp": 1_035_000, "sample": 357 },
        ]);
        assert_eq!((&curve["samples"], &curve["avg"], &curve["avg_rate"]), (&expected, &json!(407.0), &json!(10.0)));
    }

    #[test]
    fn what_stays_the_same_takes_one_sample() {
        let mut series = Series::<1>::default();
        (0..1000).for_each(|step| series.push(step * 5_000, [3], 600_000));
        assert_eq!((series.len(), series.samples.capacity(), series.rate(0)), (1, 1, 0.0));
        series.push(5_000_000, [13], 600_000);
        assert_eq!((series.len(), series.rate(0)), (2, 2.0));
        assert_eq!((series.at(0, 4_000_000), series.at(0, 4_999_999)), (Some(3), Some(3)));
        series.push(5_005_000, [13], 600_000);
        assert_eq!((series.len(), series.rate(0), series.last_ms()), (2, 0.0, Some(5_005_000)));
        series.push(5_600_000, [13], 600_000);
        assert_eq!(series.len(), 2, "what was ten minutes ago is known");
        series.push(5_605_000, [13], 600_000);
        assert_eq!(series.len(), 1);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut series = Series::<1>::default();
        (0..1000).for_each(|step| series.push(step * 5_000, [step], 50_000));
        assert!(series.len() <= 13, "{}", series.len());
    }

    #[test]
    fn the_longer_ago_the_less_detail() {
        let mut levels = Levels::<1>::new(5_000);
        (0..20_000).for_each(|step| levels.push(step * 5_000, [step]));
        let lens = levels.levels.each_ref().map(|(_, _, series)| series.len());
        assert!(lens.iter().all(|len| (48..=125).contains(len)), "{lens:?}");
        let day = levels.details(&[0], wanted(86_400, 1_800));
        assert_eq!(day["samples"].as_array().map(Vec::len), Some(49));
        assert_eq!((&day["rate"], &day["avg_rate"]), (&json!(0.2), &json!(0.2)));
    }

    #[test]
    fn a_curve_has_a_bound() {
        let mut series = Series::<1>::default();
        series.push(u64::MAX / 4, [1], 1000);
        series.push(u64::MAX / 4 + 5000, [2], 1000);
        let curve = series.details(&[0], wanted(u64::MAX / 2000, 1));
        assert!(curve["samples"].as_array().unwrap().len() <= 1001);
    }
}
