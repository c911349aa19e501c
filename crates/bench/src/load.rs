//! One load from the first declare to the last delete: threads, phases, the measured window, progress.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::control::{Control, Counters, Phase, Totals};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::janitor::Janitor;
use crate::options::Options;
use crate::process::Cost;
use crate::publisher::Publisher;
use crate::report::{Report, ServerCost, Sums, grouped};
use crate::topology::Topology;
use crate::uri::Uri;

const TICK: Duration = Duration::from_millis(10);
/// A drain or a counted load without any progress for so long is over.
const STALL: Duration = Duration::from_secs(10);

const GOODBYE_WAIT: Duration = Duration::from_secs(2);
/// The peak between two looks is missed, unless it was the highest ever, which the kernel remembers.
const MEMORY_EVERY_NS: u64 = 100_000_000;

/// Runs the load that `options` describe; whatever happens, its queues are deleted afterwards.
pub(crate) fn run(options: &Options, janitor: &mut Janitor) -> Result<Report, Error> {
    check(options)?;
    let options = options.resolved();
    let uri = Uri::parse(&options.uri)?;
    let topology = Topology::of(&options);
    let mut connection = Connection::open(&uri)?;
    janitor.entrust(&options.uri, &topology);
    let report = topology
        .declare(&mut connection, options.durable_queue)
        .and_then(|()| run_declared(&options, &uri, &topology, &connection.server));
    // Deleting goes over a new connection: an error may have closed this one.
    drop(connection.close(GOODBYE_WAIT));
    let deleted = topology.delete(&uri);
    if deleted.is_ok() {
        janitor.dismiss();
    }
    let report = report?;
    deleted.map(|()| report)
}

fn check(options: &Options) -> Result<(), Error> {
    let is_span = |seconds: f64| seconds.is_finite() && (0.0..1e6).contains(&seconds);
    if !is_span(options.duration) || !is_span(options.warm_up) || !is_span(options.timeout) {
        return Err(Error::Options("a time must be a number of seconds from 0 to 1,000,000"));
    }
    if options.publishers == 0 && options.messages.is_some() {
        return Err(Error::Options("--messages needs a publisher"));
    }
    // Better now than after the warm-up.
    if let Some(pid) = options.server_pid {
        Cost::of(&pid.to_string())?;
    }
    Ok(())
}

fn run_declared(options: &Options, uri: &Uri, topology: &Topology, server: &str) -> Result<Report, Error> {
    let mut load = Load::start(options, uri, topology)?;
    let outcome = load.conduct(options);
    let latencies = load.join();
    // A thread's own error says more than that a thread has ended.
    let (deliver, confirm) = latencies?;
    let window = outcome?;
    Ok(report(options, uri, server, &window, &deliver, &confirm))
}

/// The running threads.
struct Load {
    control: Arc<Control>,
    counters: Vec<Arc<Counters>>,
    consumers: Vec<JoinHandle<Result<Histogram, Error>>>,
    publishers: Vec<JoinHandle<Result<Histogram, Error>>>,
    deliver_latency: Histogram,
    confirm_latency: Histogram,
}

/// What the coordinating thread saw.
struct Window {
    start: Totals,
    end: Totals,
    last: Totals,
    server: Option<(Cost, Cost, u64)>,
    tool_cpu_s: Option<f64>,
    lost: Option<u64>,
}

impl Load {
    /// Consumers subscribe before the first publisher starts.
    fn start(options: &Options, uri: &Uri, topology: &Topology) -> Result<Self, Error> {
        let mut load = Self {
            control: Arc::new(Control::new()),
            counters: Vec::new(),
            consumers: Vec::new(),
            publishers: Vec::new(),
            deliver_latency: Histogram::default(),
            confirm_latency: Histogram::default(),
        };
        let mut consumers = Vec::new();
        for index in 0..options.consumers {
            let queues = topology.share(index, options.consumers);
            let counters = load.new_counters();
            consumers.push(Consumer::subscribe(Connection::open(uri)?, options, &queues, counters)?);
        }
        let mut publishers = Vec::new();
        for index in 0..options.publishers {
            let target = topology.target(index, options.publishers);
            let counters = load.new_counters();
            let mut publisher = Publisher::new(Connection::open(uri)?, options, target, counters)?;
            publisher.limit(options.messages.map(|n| {
                let (all, index) = (options.publishers as u64, index as u64);
                n / all + u64::from(index < n % all)
            }));
            if options.one_in_flight {
                publisher.waits_for(Arc::clone(&load.counters[index]));
            }
            publishers.push(publisher);
        }
        load.spawn(options, consumers, publishers);
        Ok(load)
    }

    fn spawn(&mut self, options: &Options, consumers: Vec<Consumer>, publishers: Vec<Publisher>) {
        if options.messages.is_some() {
            self.control.enter(Phase::Measuring);
        }
        let waiting: Vec<_> = publishers
            .into_iter()
            .map(|publisher| {
                let control = Arc::clone(&self.control);
                // A publisher begins only when its consumer knows whom to wake.
                let handle = thread::spawn(move || {
                    thread::park();
                    publisher.run(&control)
                });
                let thread = handle.thread().clone();
                self.publishers.push(handle);
                thread
            })
            .collect();
        for (index, mut consumer) in consumers.into_iter().enumerate() {
            if options.one_in_flight {
                consumer.notifies(waiting[index].clone());
            }
            let control = Arc::clone(&self.control);
            self.consumers.push(thread::spawn(move || consumer.run(&control)));
        }
        waiting.iter().for_each(thread::Thread::unpark);
    }

    fn new_counters(&mut self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.counters.push(Arc::clone(&counters));
        counters
    }

    fn totals(&self) -> Totals {
        Totals::of(self.control.now(), self.counters.iter().map(|counters| &**counters))
    }

    /// Leads the load through its phases.
    fn conduct(&mut self, options: &Options) -> Result<Window, Error> {
        let pid = options.server_pid.map(|pid| pid.to_string());
        let cost = || pid.as_deref().map(Cost::of).transpose();
        let mut progress = Progress::new(pid.clone());
        let is_counted = options.messages.is_some();
        if !is_counted {
            self.wait(options.warm_up, "warm-up", &mut progress, |load| load.is_broken())?;
        }
        let (server_before, tool_before) = (cost()?, Cost::of("self").ok());
        let start = if is_counted { Totals::default() } else { self.totals() };
        self.control.enter(Phase::Measuring);
        if is_counted {
            self.until_consumed(options, "", &mut progress)?;
        } else {
            self.wait(options.duration, "", &mut progress, |load| load.is_broken())?;
        }
        let end = self.totals();
        let (server_after, tool_after) = (cost()?, Cost::of("self").ok());
        self.control.enter(Phase::Settling);
        if options.drain {
            self.until_consumed(options, "drain", &mut progress)?;
        }
        let last = self.totals();
        let expected = last.published * options.copies();
        let counts_losses = (options.drain || is_counted) && options.consumers > 0;
        Ok(Window {
            start,
            end,
            last,
            server: server_before.zip(server_after).map(|(before, after)| {
                let grew = if after.peak_bytes > before.peak_bytes { after.peak_bytes } else { 0 };
                (before, after, progress.resident_max.max(grew).max(after.resident_bytes))
            }),
            tool_cpu_s: tool_before.zip(tool_after).map(|(before, after)| after.cpu_s - before.cpu_s),
            lost: counts_losses.then(|| expected.saturating_sub(last.consumed.saturating_sub(last.redelivered))),
        })
    }

    /// Ticks for so many seconds, or until `is_over`; a thread that ended before its time has failed.
    fn wait(
        &self,
        seconds: f64,
        phase: &str,
        progress: &mut Progress,
        is_over: impl Fn(&Self) -> bool,
    ) -> Result<(), Error> {
        let until = self.control.now() + (seconds * 1e9) as u64;
        while self.control.now() < until && !is_over(self) {
            let left = Duration::from_nanos(until.saturating_sub(self.control.now()));
            thread::sleep(TICK.min(left));
            progress.tick(&self.totals(), phase);
        }
        if self.is_broken() { Err(Error::Thread) } else { Ok(()) }
    }

    /// Waits until all publishers are done and everything they sent is consumed, or nothing moves any more.
    fn until_consumed(&mut self, options: &Options, phase: &str, progress: &mut Progress) -> Result<(), Error> {
        let until = self.control.now() + (options.timeout * 1e9) as u64;
        let mut moved = self.totals();
        loop {
            let now = self.totals();
            if (now.published, now.consumed, now.confirmed) != (moved.published, moved.consumed, moved.confirmed) {
                moved = now;
            }
            let is_sent = self.publishers.iter().all(JoinHandle::is_finished);
            let expected = if options.consumers > 0 { now.published * options.copies() } else { 0 };
            let is_over = is_sent && now.consumed >= expected;
            if is_over || now.at >= until || now.seconds_since(&moved) > STALL.as_secs_f64() {
                return Ok(());
            }
            if self.consumers.iter().any(JoinHandle::is_finished) {
                return Err(Error::Thread);
            }
            thread::sleep(Duration::from_millis(1));
            progress.tick(&now, phase);
        }
    }

    fn is_broken(&self) -> bool {
        self.consumers.iter().any(JoinHandle::is_finished) || self.publishers.iter().any(JoinHandle::is_finished)
    }

    /// Ends all threads, publishers first; the first thread's error is the load's.
    fn join(mut self) -> Result<(Histogram, Histogram), Error> {
        let mut failure = None;
        if !self.control.is_settling() {
            self.control.enter(Phase::Settling);
        }
        for handle in self.publishers.drain(..) {
            match handle.join().unwrap_or(Err(Error::Thread)) {
                Ok(latency) => self.confirm_latency.merge(&latency),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.control.enter(Phase::Stopped);
        for handle in self.consumers.drain(..) {
            match handle.join().unwrap_or(Err(Error::Thread)) {
                Ok(latency) => self.deliver_latency.merge(&latency),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok((self.deliver_latency, self.confirm_latency)), Err)
    }
}

/// One line per second on the standard error output, and the server's memory in between.
struct Progress {
    pid: Option<String>,
    last: Totals,
    resident_max: u64,
    /// When the memory is looked at again.
    sample_at: u64,
}

impl Progress {
    fn new(pid: Option<String>) -> Self {
        Self { pid, last: Totals::default(), resident_max: 0, sample_at: 0 }
    }

    fn tick(&mut self, now: &Totals, phase: &str) {
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

fn report(
    options: &Options,
    uri: &Uri,
    server: &str,
    window: &Window,
    deliver: &Histogram,
    confirm: &Histogram,
) -> Report {
    let Window { start, end, last, .. } = window;
    let seconds = end.seconds_since(start).max(1e-9);
    let rate = |after: u64, before: u64| (after - before) as f64 / seconds;
    let consumed = end.consumed - start.consumed;
    let messages = if options.consumers > 0 { consumed } else { end.published - start.published };
    let per_million = |cpu_s: f64, messages: u64| (messages > 0).then(|| cpu_s * 1e6 / messages as f64);
    Report {
        label: options.label.clone().unwrap_or_else(|| server.to_owned()),
        uri: uri.to_string(),
        server: server.to_owned(),
        load: options.describe(),
        window_s: seconds,
        published_per_s: rate(end.published, start.published),
        confirmed_per_s: (options.confirms > 0).then(|| rate(end.confirmed, start.confirmed)),
        consumed_per_s: (options.consumers > 0).then(|| rate(end.consumed, start.consumed)),
        deliver_latency: deliver.summary(),
        confirm_latency: confirm.summary(),
        totals: Sums {
            published: last.published,
            confirmed: last.confirmed,
            nacked: last.nacked,
            consumed: last.consumed,
            redelivered: last.redelivered,
            lost: window.lost,
        },
        server_cost: window.server.map(|(before, after, peak_bytes)| ServerCost {
            cpu_s: after.cpu_s - before.cpu_s,
            cpu_s_per_million: per_million(after.cpu_s - before.cpu_s, messages),
            peak_bytes,
            resident_before_bytes: before.resident_bytes,
            resident_after_bytes: after.resident_bytes,
        }),
        tool_cpu_s_per_million: window.tool_cpu_s.and_then(|cpu_s| per_million(cpu_s, messages)),
    }
}
