//! A durable queue is filled without a consumer, then drained: rates, memory and disk by depth.

use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::compare::significant;
use crate::control::{Phase, Totals};
use crate::disk;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{self, Load, Patience, Place};
use crate::meter::Meter;
use crate::options::{Options, bytes};
use crate::process::Cost;
use crate::progress::Progress;
use crate::report::{ServerCost, grouped};
use crate::suite;

const MESSAGES: u64 = 1_000_000;
const OUTSTANDING: usize = 1000;
const PREFETCH: u16 = 1000;
/// Samples per half, besides the one at its start.
const STEPS: u64 = 10;
/// A server may clean up behind its consumers; it gets this long.
const SETTLE: Duration = Duration::from_secs(5);

/// What one broker did with a backlog.
#[derive(Clone, Debug, Serialize)]
pub struct Backlog {
    pub label: String,
    pub server: String,
    /// Body size in bytes.
    pub size: usize,
    /// Messages that the queue was to hold.
    pub messages: u64,
    /// Messages that it held: fewer, if the broker stopped taking them.
    pub depth: u64,
    /// Messages that the drain did not get: none, unless the broker stopped giving them.
    pub left: u64,
    pub fill: Half,
    pub drain: Half,
    pub peak_bytes: Option<u64>,
    /// The data directory at full depth, divided by the bodies that it holds.
    pub disk_per_body_byte: Option<f64>,
    /// The data directory five seconds after the drain.
    pub disk_after_bytes: Option<u64>,
}

/// The filling or the draining.
#[derive(Clone, Debug, Serialize)]
pub struct Half {
    pub seconds: f64,
    pub messages_per_s: f64,
    pub server_cost: Option<ServerCost>,
    /// From the start on, at every tenth.
    pub samples: Vec<Sample>,
}

/// The server at one depth of the queue.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    pub depth: u64,
    pub seconds: f64,
    /// Since the sample before.
    pub messages_per_s: Option<f64>,
    pub resident_bytes: Option<u64>,
    /// The blocks of all files in the data directory.
    pub disk_bytes: Option<u64>,
}

/// Measures every column once; what was measured before an error is in `done` all the same.
pub(crate) fn run(options: &Options, janitor: &mut Janitor, done: &mut Vec<Backlog>) -> Result<(), Error> {
    for options in options.columns() {
        let fill = fill_options(&options);
        load::check(&fill)?;
        eprintln!("\n== backlog: {} at {}", fill.describe(), options.place());
        done.push(load::with_queues(&fill, janitor, |place| measure(&fill, place))?);
    }
    Ok(())
}

fn fill_options(options: &Options) -> Options {
    let fill = Options {
        consumers: 0,
        persistent: true,
        confirms: OUTSTANDING,
        messages: Some(options.messages.unwrap_or(MESSAGES)),
        ..suite::plain(options)
    };
    fill.resolved()
}

fn drain_options(fill: &Options) -> Options {
    let drain = Options {
        publishers: 0,
        consumers: 1,
        confirms: 0,
        messages: None,
        ack: true,
        ack_multiple: PREFETCH.into(),
        prefetch: PREFETCH,
        ..fill.clone()
    };
    drain.resolved()
}

fn measure(options: &Options, place: &Place) -> Result<Backlog, Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let fill = Stage { name: "fill", options, messages, moved: |totals| totals.confirmed, depth: |moved, _| moved };
    let (fill, depth) = fill.run(place)?;
    let drain = Stage {
        name: "drain",
        options: &drain_options(options),
        messages: depth,
        moved: |totals| totals.consumed.saturating_sub(totals.redelivered),
        depth: |moved, messages| messages.saturating_sub(moved),
    };
    let (drain, consumed) = drain.run(place)?;
    if options.server_data.is_some() {
        thread::sleep(SETTLE);
    }
    let disk_full = fill.samples.last().and_then(|sample| sample.disk_bytes);
    let body_bytes = depth as f64 * options.size as f64;
    let costs = [&fill.server_cost, &drain.server_cost];
    Ok(Backlog {
        label: options.name(&place.server),
        server: place.server.clone(),
        size: options.size,
        messages,
        depth,
        left: depth.saturating_sub(consumed),
        peak_bytes: costs.into_iter().flatten().map(|cost| cost.peak_bytes).max(),
        disk_per_body_byte: disk_full.filter(|_| body_bytes > 0.0).map(|bytes| bytes as f64 / body_bytes),
        disk_after_bytes: disk_bytes(options)?,
        fill,
        drain,
    })
}

/// One half of the measurement, and how its progress is read.
struct Stage<'a> {
    name: &'static str,
    options: &'a Options,
    /// How many it is to move, into the queue or out of it.
    messages: u64,
    moved: fn(&Totals) -> u64,
    /// The queue's depth, from what was moved and what is to be moved.
    depth: fn(u64, u64) -> u64,
}

impl Stage<'_> {
    /// The figures, and how many messages were moved in the end.
    fn run(&self, place: &Place) -> Result<(Half, u64), Error> {
        let mut load = Load::connect(self.options, place)?;
        let mut progress = Progress::new(self.options.server_pid);
        let start = load.totals();
        let mut samples = vec![self.sample(&start, None)?];
        let meter = Meter::start(self.options.server_pid)?;
        load.begin(Phase::Measuring);
        let watched = self.watch(&load, &start, &mut progress, &mut samples);
        let end = load.totals();
        let spent = meter.map(Meter::stop).transpose();
        // A thread's own error says more than that a thread has ended.
        let ended = load.join()?;
        watched?;
        let seconds = end.seconds_since(&start).max(1e-9);
        let cost = |spent: crate::meter::Spent| spent.cost(progress.resident_max, self.options.size, &start, &end);
        let half = Half {
            seconds,
            messages_per_s: (self.moved)(&end) as f64 / seconds,
            server_cost: spent?.map(cost),
            samples,
        };
        Ok((half, (self.moved)(&ended.totals)))
    }

    /// Waits until everything was moved, or nothing moves any more.
    fn watch(
        &self,
        load: &Load,
        start: &Totals,
        progress: &mut Progress,
        samples: &mut Vec<Sample>,
    ) -> Result<(), Error> {
        let mut patience = Patience::new(self.options, start);
        let mut last = *start;
        let mut step = 1;
        loop {
            // In this order: what a publisher that is done has published is in the totals.
            let is_sent = self.options.publishers > 0 && load.is_sent();
            let now = load.totals();
            let moved = (self.moved)(&now);
            let is_over = moved >= self.messages || is_sent || patience.is_over(&now);
            if is_over || moved >= self.messages * step / STEPS {
                samples.push(self.sample(&now, Some(&last))?);
                last = now;
                step = moved * STEPS / self.messages.max(1) + 1;
            }
            if is_over {
                return Ok(());
            }
            load.check_consumers()?;
            thread::sleep(Duration::from_millis(1));
            progress.tick(&now, self.name);
        }
    }

    fn sample(&self, now: &Totals, last: Option<&Totals>) -> Result<Sample, Error> {
        let moved = (self.moved)(now);
        let rate = |last: &Totals| moved.saturating_sub((self.moved)(last)) as f64 / now.seconds_since(last).max(1e-9);
        let server = self.options.server_pid.map(|pid| Cost::of(&pid.to_string())).transpose()?;
        let sample = Sample {
            depth: (self.depth)(moved, self.messages),
            seconds: now.at as f64 / 1e9,
            messages_per_s: last.map(rate),
            resident_bytes: server.map(|cost| cost.resident_bytes),
            disk_bytes: disk_bytes(self.options)?,
        };
        eprintln!(
            "{:>5}  depth {:>12}  {:>10}/s  memory {:>9}  disk {:>9}",
            self.name,
            grouped(sample.depth as f64),
            optional(sample.messages_per_s, grouped),
            mebibytes(sample.resident_bytes),
            mebibytes(sample.disk_bytes),
        );
        Ok(sample)
    }
}

fn disk_bytes(options: &Options) -> Result<Option<u64>, Error> {
    options.server_data.as_deref().map(disk::allocated_bytes).transpose()
}

/// A Markdown table with a column for each broker.
pub(crate) fn markdown(backlogs: &[Backlog]) -> String {
    type Row = (&'static str, fn(&Backlog) -> String);
    let rows: [Row; 12] = [
        ("messages in the queue", |b| grouped(b.depth as f64)),
        ("fill", |b| format!("{}/s", grouped(b.fill.messages_per_s))),
        ("drain", |b| format!("{}/s", grouped(b.drain.messages_per_s))),
        ("not drained", |b| grouped(b.left as f64)),
        ("peak memory", |b| mebibytes(b.peak_bytes)),
        ("disk before", |b| mebibytes(b.fill.samples.first().and_then(|sample| sample.disk_bytes))),
        ("disk at full depth", |b| mebibytes(b.fill.samples.last().and_then(|sample| sample.disk_bytes))),
        ("disk at full depth per body byte", |b| optional(b.disk_per_body_byte, significant)),
        ("disk 5 s after the drain", |b| mebibytes(b.disk_after_bytes)),
        ("server CPU per message, fill : drain", |b| {
            halves(b, |cost| cost.cpu_s_per_million, |us| format!("{} µs", significant(us)))
        }),
        ("syncs per thousand, fill : drain", |b| halves(b, |cost| cost.syncs_per_thousand, significant)),
        ("bytes written per body byte, fill : drain", |b| halves(b, |cost| cost.write_amplification, significant)),
    ];
    let line = |head: &str, cell: &dyn Fn(&Backlog) -> String| {
        format!("| {head} | {} |", backlogs.iter().map(cell).collect::<Vec<_>>().join(" | "))
    };
    let size = backlogs.first().map_or(0, |backlog| backlog.size);
    let mut lines = vec![line(&format!("backlog of {} messages", bytes(size)), &|backlog| backlog.label.clone())];
    lines.push(format!("|---|{}", "---|".repeat(backlogs.len())));
    lines.extend(rows.iter().map(|(head, cell)| line(head, cell)));
    lines.join("\n")
}

fn halves(backlog: &Backlog, figure: fn(&ServerCost) -> Option<f64>, show: fn(f64) -> String) -> String {
    let shown = |half: &Half| optional(half.server_cost.as_ref().and_then(figure), show);
    format!("{} : {}", shown(&backlog.fill), shown(&backlog.drain))
}

fn mebibytes(bytes: Option<u64>) -> String {
    optional(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), |mib| format!("{} MiB", grouped(mib)))
}

fn optional(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}
