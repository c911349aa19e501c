//! Latencies in a log-linear histogram: 128 steps per power of two, so a value is off by less than 0.8 %.

use serde::Serialize;

const STEP_BITS: u32 = 7;
const STEPS: u64 = 1 << STEP_BITS;
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) << STEP_BITS;

/// Counts of nanosecond values.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The smallest recorded step that `share` (0 to 1) of the values do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle(index).min(self.max);
            }
        }
        self.max
    }

    pub(crate) fn summary(&self) -> Option<Latency> {
        let microseconds = |share| self.quantile(share) as f64 / 1e3;
        (self.count > 0).then(|| Latency {
            samples: self.count,
            p50_us: microseconds(0.5),
            p90_us: microseconds(0.9),
            p99_us: microseconds(0.99),
            p99_9_us: microseconds(0.999),
            max_us: self.max as f64 / 1e3,
        })
    }
}

/// The figures of one histogram, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub samples: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    (((u64::from(shift) + 1) << STEP_BITS) + (value >> shift) - STEPS) as usize
}

/// The value in the middle of a bucket.
fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = (index >> STEP_BITS) - 1;
    let low = ((index & (STEPS - 1)) + STEPS) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_within_a_hundredth_of_its_bucket() {
        let mut value = 1u64;
        while value < u64::MAX / 2 {
            for v in [value - 1, value, value + value / 3] {
                let shown = middle(bucket(v));
                assert!(shown.abs_diff(v) as f64 <= v as f64 * 0.008, "{v} became {shown}");
            }
            value *= 2;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_are_contiguous() {
        let mut last = 0;
        for value in 0..100_000 {
            let now = bucket(value);
            assert!(now == last || now == last + 1, "{value}");
            last = now;
        }
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let mut low = Histogram::default();
        let mut high = Histogram::default();
        (1..=500).for_each(|v| low.record(v * 1000));
        (501..=1000).for_each(|v| high.record(v * 1000));
        low.merge(&high);
        let latency = low.summary().unwrap();
        assert!((latency.p50_us - 500.0).abs() < 5.0);
        assert!((latency.p99_us - 990.0).abs() < 9.0);
        assert_eq!((latency.max_us, latency.samples), (1000.0, 1000));
    }

    #[test]
    fn nothing_recorded_is_no_summary() {
        assert!(Histogram::default().summary().is_none());
    }
}
