//! What a server pays between two moments.

use crate::control::Totals;
use crate::error::Error;
use crate::process::Cost;
use crate::report::ServerCost;
use crate::syncs::SyncCounter;

/// Begun at the first moment.
pub(crate) struct Meter {
    pid: String,
    before: Cost,
    syncs: Option<SyncCounter>,
}

/// Read at the second.
pub(crate) struct Spent {
    before: Cost,
    after: Cost,
    syncs: Option<u64>,
}

impl Meter {
    /// Nothing is metered without a process id.
    pub(crate) fn start(pid: Option<u32>) -> Result<Option<Self>, Error> {
        let Some(pid) = pid else {
            return Ok(None);
        };
        let pid = pid.to_string();
        let syncs = SyncCounter::start(&pid);
        Ok(Some(Self { before: Cost::of(&pid)?, pid, syncs }))
    }

    pub(crate) fn stop(self) -> Result<Spent, Error> {
        let syncs = self.syncs.map(SyncCounter::stop);
        let after = Cost::of(&self.pid)?;
        Ok(Spent { before: self.before, after, syncs: syncs.and_then(|syncs| syncs.calls()) })
    }
}

impl Spent {
    /// What that is per message of `size` bytes, for a load that went from `start` to `end`. `seen_bytes` is the most
    /// memory that was seen in between.
    pub(crate) fn cost(&self, seen_bytes: u64, size: usize, start: &Totals, end: &Totals) -> ServerCost {
        let Self { before, after, syncs } = self;
        let (published, consumed) = (end.published - start.published, end.consumed - start.consumed);
        // Per delivery, or per publish if nobody consumes; what is stored, the other way round.
        let messages = if consumed > 0 { consumed } else { published };
        let stored = if published > 0 { published } else { consumed };
        let per = |value: f64, number: f64| (number > 0.0).then(|| value / number);
        let grew = if after.peak_bytes > before.peak_bytes { after.peak_bytes } else { 0 };
        let written = after.written_bytes.zip(before.written_bytes).map(|(after, before)| after.saturating_sub(before));
        // The rest went to sockets: a server that sends by other calls than write and writev would gain by this.
        let file_bytes = written.map(|bytes| bytes.saturating_sub(end.received_bytes - start.received_bytes));
        let cpu_s = after.cpu_s - before.cpu_s;
        ServerCost {
            cpu_s,
            cpu_s_per_million: per(cpu_s * 1e6, messages as f64),
            cpu_s_per_million_published: per(cpu_s * 1e6, published as f64).filter(|_| consumed > 0),
            peak_bytes: seen_bytes.max(grew).max(after.resident_bytes),
            resident_before_bytes: before.resident_bytes,
            resident_after_bytes: after.resident_bytes,
            syncs: *syncs,
            syncs_per_thousand: syncs.and_then(|syncs| per(syncs as f64 * 1e3, stored as f64)),
            file_bytes,
            write_amplification: file_bytes.and_then(|bytes| per(bytes as f64, stored as f64 * size as f64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_per_message_and_without_what_went_to_sockets() {
        let before = Cost { written_bytes: Some(1000), ..Cost::default() };
        let after = Cost { cpu_s: 2.0, resident_bytes: 50, peak_bytes: 80, written_bytes: Some(4000) };
        let spent = Spent { before, after, syncs: Some(5) };
        let end = Totals { published: 100, received_bytes: 500, ..Totals::default() };
        let cost = spent.cost(60, 10, &Totals::default(), &end);
        assert_eq!((cost.cpu_s_per_million, cost.peak_bytes), (Some(20_000.0), 80));
        assert_eq!((cost.syncs_per_thousand, cost.file_bytes), (Some(50.0), Some(2500)));
        assert_eq!(cost.write_amplification, Some(2.5));
    }

    #[test]
    fn without_messages_or_counters_there_are_no_ratios() {
        let spent = Spent { before: Cost::default(), after: Cost::default(), syncs: None };
        let cost = spent.cost(60, 10, &Totals::default(), &Totals::default());
        assert_eq!((cost.cpu_s_per_million, cost.write_amplification, cost.syncs_per_thousand), (None, None, None));
        assert_eq!(cost.peak_bytes, 60);
    }
}
