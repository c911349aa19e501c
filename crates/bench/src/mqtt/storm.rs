//! Connections that come and go: connect, CONNACK, DISCONNECT, by the clock and as fast as it goes.

use std::time::{Duration, Instant};

use super::dialer::{Dialer, Ended};
use super::{limits, load};
use crate::control::Totals;
use crate::error::Error;
use crate::feature::findings::{Findings, Part};
use crate::histogram::Histogram;
use crate::janitor::Janitor;
use crate::meter::Meter;
use crate::options::Options;
use crate::uri::Uri;

const CONNECTS_PER_S: u64 = 5000;
/// Connections that may be under way at once; a server that is slower than the clock has them wait.
const UNDER_WAY_MAX: usize = 10_000;
/// The same where there is no clock.
const UNDER_WAY: usize = 100;

pub(crate) fn measure(options: &Options, _: &mut Janitor) -> Result<Findings, Error> {
    limits::allow(UNDER_WAY_MAX)?;
    let mut findings = load::findings(options);
    let rate = options.mqtt.connect_rate.unwrap_or(CONNECTS_PER_S).max(1);
    let clock = Clock { rate: Some(rate), under_way_max: UNDER_WAY_MAX };
    let free = Clock { rate: None, under_way_max: UNDER_WAY };
    for (name, clock) in [("connects by the clock", clock), ("connects as fast as it goes", free)] {
        let (part, failure) = storm(options, name, &clock)?;
        findings.parts.push(part);
        findings.notes.extend(failure.map(|error| format!("{name}: the first failure: {error}")));
    }
    findings.notes.push(format!(
        "by the clock: {rate} connects a second for {} s; CONNACK is counted from when the connection was due. As fast \
         as it goes: {UNDER_WAY} under way.",
        options.duration
    ));
    Ok(findings)
}

/// When connections are due.
struct Clock {
    /// Per second; `None`: whenever there is room.
    rate: Option<u64>,
    under_way_max: usize,
}

impl Clock {
    /// When the next is due after so many, if there is one.
    fn due(&self, begun: u64, start: Instant, duration: Duration) -> Option<Instant> {
        let due =
            self.rate.map_or_else(Instant::now, |rate| start + Duration::from_secs_f64(begun as f64 / rate as f64));
        (due < start + duration).then_some(due)
    }
}

fn storm(options: &Options, name: &'static str, clock: &Clock) -> Result<(Part, Option<Error>), Error> {
    let uri = Uri::parse(&options.uri)?;
    let mut dialer = Dialer::new(&load::greeting(options, &uri))?;
    let duration = Duration::from_secs_f64(options.duration);
    let (mut begun, mut left, mut failed, mut failure) = (0, 0, 0, None);
    let (mut done, mut latency) = (Vec::new(), Histogram::default());
    let meter = Meter::start(options.server_pid)?;
    let start = Instant::now();
    let mut last = start;
    loop {
        let mut next = clock.due(begun, start, duration);
        while let Some(due) = next.filter(|due| *due <= Instant::now() && dialer.under_way() < clock.under_way_max) {
            begun += 1;
            if let Err(error) = dialer.begin(due, true) {
                failed += 1;
                failure = failure.or(Some(error));
            }
            next = clock.due(begun, start, duration);
        }
        if next.is_none() && dialer.under_way() == 0 {
            break;
        }
        let patience = next.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        // Where there is no room, it is the connections that are waited for.
        let is_full = dialer.under_way() >= clock.under_way_max;
        dialer.wait(if is_full { Duration::MAX } else { patience }, &mut done)?;
        for dialled in done.drain(..) {
            last = last.max(dialled.at);
            match dialled.ended {
                Ended::Failed(error) => {
                    failed += 1;
                    failure = failure.or(Some(error));
                }
                Ended::Open(..) | Ended::Left => {
                    left += 1;
                    latency.record(dialled.at.saturating_duration_since(dialled.due).as_nanos() as u64);
                }
            }
        }
    }
    let spent = meter.map(Meter::stop).transpose()?;
    let totals = Totals { consumed: left, ..Totals::default() };
    let cost = spent.map(|spent| spent.cost(0, 0, &Totals::default(), &totals));
    let part = Part::new(name, left, (last - start).as_secs_f64()).of("connects").timed("CONNACK", &latency);
    Ok((Part { failed: Some(failed), ..part.at_cost(cost) }, failure))
}
