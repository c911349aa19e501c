//! One load from the first declare to the last delete: threads, phases, the measured window.

use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::control::{Control, Counters, Phase, Totals};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::janitor::Janitor;
use crate::meter::Meter;
use crate::options::Options;
use crate::process::Cost;
use crate::progress::Progress;
use crate::publisher::Publisher;
use crate::report::{Report, ServerCost, Sums};
use crate::topology::Topology;
use crate::uri::Uri;

const TICK: Duration = Duration::from_millis(10);
/// A drain or a counted load without any progress for so long is over.
const STALL: Duration = Duration::from_secs(10);
/// The same where losses are to be expected.
const STALL_LOSSY: Duration = Duration::from_secs(2);

const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// A broker that has the queues of a load.
pub(crate) struct Place {
    pub(crate) uri: Uri,
    pub(crate) topology: Topology,
    /// What the broker calls itself.
    pub(crate) server: String,
}

/// Runs the load that `options` describe; whatever happens, its queues are deleted afterwards.
pub(crate) fn run(options: &Options, janitor: &mut Janitor) -> Result<Report, Error> {
    check(options)?;
    let options = options.resolved();
    if options.is_mqtt() {
        return crate::mqtt::load::run(&options, janitor);
    }
    if options.is_jms() {
        return crate::jms::load::run(&options, janitor);
    }
    with_queues(&options, janitor, |place| run_declared(&options, place))
}

/// Declares the queues of resolved `options`, does `work` with them, and deletes them.
pub(crate) fn with_queues<T>(
    options: &Options,
    janitor: &mut Janitor,
    work: impl FnOnce(&Place) -> Result<T, Error>,
) -> Result<T, Error> {
    let declare = |connection: &mut Connection, topology: &Topology| topology.declare(connection, options);
    with_topology(options, Topology::of(options), janitor, declare, work)
}

/// Has `topology` declared, does `work` with it, and deletes it.
pub(crate) fn with_topology<T>(
    options: &Options,
    topology: Topology,
    janitor: &mut Janitor,
    declare: impl FnOnce(&mut Connection, &Topology) -> Result<(), Error>,
    work: impl FnOnce(&Place) -> Result<T, Error>,
) -> Result<T, Error> {
    let uri = Uri::parse(&options.uri)?;
    let mut connection = Connection::open(&uri)?;
    janitor.entrust(&options.uri, &topology);
    let declared = declare(&mut connection, &topology);
    let place = Place { uri, topology, server: connection.server.clone() };
    let done = declared.and_then(|()| work(&place));
    // Deleting goes over a new connection: an error, or a long load, may have closed this one.
    drop(connection.close(GOODBYE_WAIT));
    let deleted = place.topology.delete(&place.uri);
    if deleted.is_ok() {
        janitor.dismiss();
    }
    let done = done?;
    deleted.map(|()| done)
}

pub(crate) fn check(options: &Options) -> Result<(), Error> {
    options.check()?;
    let is_span = |seconds: f64| seconds.is_finite() && (0.0..1e6).contains(&seconds);
    if !is_span(options.duration) || !is_span(options.warm_up) || !is_span(options.timeout_s()) {
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

fn run_declared(options: &Options, place: &Place) -> Result<Report, Error> {
    Load::connect(options, place)?.run(options, &place.uri, &place.server)
}

/// What a thread does until its load is over; a consumer that a publisher waits for has to wake it.
pub(crate) type Worker = Box<dyn FnOnce(&Control, Option<Thread>) -> Result<Histogram, Error> + Send>;

/// The connections and threads of one load.
pub(crate) struct Load {
    control: Arc<Control>,
    counters: Vec<Arc<Counters>>,
    /// Consumers and publishers that have not begun.
    waiting: (Vec<Worker>, Vec<Worker>),
    consumers: Vec<JoinHandle<Result<Histogram, Error>>>,
    publishers: Vec<JoinHandle<Result<Histogram, Error>>>,
    is_one_in_flight: bool,
}

/// What the threads hand over in the end.
pub(crate) struct Ended {
    pub(crate) deliver_latency: Histogram,
    confirm_latency: Histogram,
    pub(crate) totals: Totals,
}

/// What the coordinating thread saw.
struct Window {
    start: Totals,
    end: Totals,
    last: Totals,
    server_cost: Option<ServerCost>,
    tool_cpu_s: Option<f64>,
    lost: Option<u64>,
}

impl Load {
    /// Of threads that are ready to begin, with what they count.
    pub(crate) fn of(counters: Vec<Arc<Counters>>, consumers: Vec<Worker>, publishers: Vec<Worker>) -> Self {
        Self {
            control: Arc::new(Control::new()),
            counters,
            waiting: (consumers, publishers),
            consumers: Vec::new(),
            publishers: Vec::new(),
            is_one_in_flight: false,
        }
    }

    /// With one message in flight: each publisher waits for a consumer of its own, which is told of it.
    pub(crate) fn one_in_flight(self) -> Self {
        Self { is_one_in_flight: true, ..self }
    }

    /// Consumers subscribe here, before the first publisher can start.
    pub(crate) fn connect(options: &Options, place: &Place) -> Result<Self, Error> {
        let Place { uri, topology, .. } = place;
        let mut load = Self::of(Vec::new(), Vec::new(), Vec::new());
        load.is_one_in_flight = options.one_in_flight;
        for index in 0..options.consumers {
            let queues = topology.share(index, options.consumers);
            let counters = load.new_counters();
            let mut consumer = Consumer::subscribe(Connection::open(uri)?, options, &queues, counters)?;
            load.waiting.0.push(Box::new(move |control, publisher| {
                if let Some(publisher) = publisher {
                    consumer.notifies(publisher);
                }
                consumer.run(control)
            }));
        }
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
            load.waiting.1.push(Box::new(move |control, _| publisher.run(control)));
        }
        Ok(load)
    }

    /// Runs it from its first message to its last.
    pub(crate) fn run(mut self, options: &Options, uri: &Uri, server: &str) -> Result<Report, Error> {
        let outcome = self.conduct(options);
        let ended = self.join();
        // A thread's own error says more than that a thread has ended.
        let ended = ended?;
        let window = outcome?;
        Ok(report(options, uri, server, window, &ended))
    }

    /// Starts all threads, publishers last.
    pub(crate) fn begin(&mut self, phase: Phase) {
        self.control.enter(phase);
        let (consumers, publishers) = std::mem::take(&mut self.waiting);
        let waiting: Vec<_> = publishers
            .into_iter()
            .map(|publisher| {
                let control = Arc::clone(&self.control);
                // A publisher begins only when its consumer knows whom to wake.
                let handle = thread::spawn(move || {
                    thread::park();
                    publisher(&control, None)
                });
                let thread = handle.thread().clone();
                self.publishers.push(handle);
                thread
            })
            .collect();
        for (index, consumer) in consumers.into_iter().enumerate() {
            let publisher = self.is_one_in_flight.then(|| waiting[index].clone());
            let control = Arc::clone(&self.control);
            self.consumers.push(thread::spawn(move || consumer(&control, publisher)));
        }
        waiting.iter().for_each(Thread::unpark);
    }

    fn new_counters(&mut self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.counters.push(Arc::clone(&counters));
        counters
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals::of(self.control.now(), self.counters.iter().map(|counters| &**counters))
    }

    /// Leads the load through its phases.
    fn conduct(&mut self, options: &Options) -> Result<Window, Error> {
        let mut progress = Progress::new(options.server_pid);
        let (is_counted, mut is_over) = (options.messages.is_some(), true);
        if !is_counted {
            self.begin(Phase::WarmUp);
            self.wait(options.warm_up, "warm-up", &mut progress, |_| false)?;
        }
        let meter = Meter::start(options.server_pid)?;
        let tool_before = Cost::of("self").ok();
        let start = self.totals();
        if is_counted {
            self.begin(Phase::Measuring);
            is_over = self.until_consumed(options, "", &mut progress)?;
        } else {
            self.control.enter(Phase::Measuring);
            let enough = options.bytes_max.map(|bytes| start.published + bytes / options.size.max(1) as u64);
            let has_enough = |now: &Totals| enough.is_some_and(|enough| now.published >= enough);
            self.wait(options.duration, "", &mut progress, has_enough)?;
        }
        let end = self.totals();
        let tool_after = Cost::of("self").ok();
        let spent = meter.map(Meter::stop).transpose()?;
        self.control.enter(Phase::Settling);
        if options.drain && !is_counted {
            is_over = self.until_consumed(options, "drain", &mut progress)?;
        }
        let last = self.totals();
        let expected = expected(options, &last);
        let counts_losses = (options.drain || is_counted) && options.consumers > 0;
        // What had no time to arrive is not lost, where losses are to be expected.
        let counts_losses = counts_losses && (is_over || !options.is_lossy());
        Ok(Window {
            start,
            end,
            last,
            server_cost: spent.map(|spent| spent.cost(progress.resident_max, options.size, &start, &end)),
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
        is_over: impl Fn(&Totals) -> bool,
    ) -> Result<(), Error> {
        let until = self.control.now() + (seconds * 1e9) as u64;
        let mut now = self.totals();
        while now.at < until && !self.is_broken() && !is_over(&now) {
            thread::sleep(TICK.min(Duration::from_nanos(until - now.at)));
            now = self.totals();
            progress.tick(&now, phase);
        }
        if self.is_broken() { Err(Error::Thread) } else { Ok(()) }
    }

    /// Waits until all publishers are done and everything they sent is consumed, or nothing moves any more; `false` if
    /// the time for it was over before.
    fn until_consumed(&mut self, options: &Options, phase: &str, progress: &mut Progress) -> Result<bool, Error> {
        let mut patience = Patience::new(options, &self.totals());
        loop {
            let now = self.totals();
            let is_over = self.is_sent() && now.consumed >= expected(options, &now);
            if is_over || patience.is_over(&now) {
                return Ok(is_over || now.at < patience.until);
            }
            self.check_consumers()?;
            thread::sleep(Duration::from_millis(1));
            progress.tick(&now, phase);
        }
    }

    /// Whether no publisher has anything left to do.
    pub(crate) fn is_sent(&self) -> bool {
        self.publishers.iter().all(JoinHandle::is_finished)
    }

    /// A consumer never ends by itself.
    pub(crate) fn check_consumers(&self) -> Result<(), Error> {
        if self.consumers.iter().any(JoinHandle::is_finished) { Err(Error::Thread) } else { Ok(()) }
    }

    fn is_broken(&self) -> bool {
        self.check_consumers().is_err() || self.publishers.iter().any(JoinHandle::is_finished)
    }

    /// Ends all threads, publishers first; the first thread's error is the load's.
    pub(crate) fn join(mut self) -> Result<Ended, Error> {
        let (mut failure, mut confirm_latency, mut deliver_latency) =
            (None, Histogram::default(), Histogram::default());
        if !self.control.is_settling() {
            self.control.enter(Phase::Settling);
        }
        for handle in self.publishers.drain(..) {
            match handle.join().unwrap_or(Err(Error::Thread)) {
                Ok(latency) => confirm_latency.merge(&latency),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.control.enter(Phase::Stopped);
        for handle in self.consumers.drain(..) {
            match handle.join().unwrap_or(Err(Error::Thread)) {
                Ok(latency) => deliver_latency.merge(&latency),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or_else(|| Ok(Ended { deliver_latency, confirm_latency, totals: self.totals() }), Err)
    }
}

/// Deliveries that what was published should lead to.
fn expected(options: &Options, totals: &Totals) -> u64 {
    match options.consumers {
        0 => 0,
        _ if options.is_mqtt() => totals.due,
        _ => totals.published * options.copies(),
    }
}

/// How long a load without a fixed length may go on.
pub(crate) struct Patience {
    until: u64,
    stall: Duration,
    moved: Totals,
}

impl Patience {
    pub(crate) fn new(options: &Options, now: &Totals) -> Self {
        let stall = if options.is_lossy() { STALL_LOSSY } else { STALL };
        Self { until: now.at + (options.timeout_s() * 1e9) as u64, stall, moved: *now }
    }

    /// Nothing was to move until `now`.
    pub(crate) fn rest(&mut self, now: &Totals) {
        self.moved = *now;
    }

    /// Whether the time is up, or nothing has moved for long.
    pub(crate) fn is_over(&mut self, now: &Totals) -> bool {
        let counts = |totals: &Totals| (totals.published, totals.consumed, totals.confirmed);
        if counts(now) != counts(&self.moved) {
            self.moved = *now;
        }
        now.at >= self.until || now.seconds_since(&self.moved) > self.stall.as_secs_f64()
    }
}

fn report(options: &Options, uri: &Uri, server: &str, window: Window, ended: &Ended) -> Report {
    let Window { start, end, last, .. } = &window;
    let seconds = end.seconds_since(start).max(1e-9);
    let rate = |after: u64, before: u64| (after - before) as f64 / seconds;
    let consumed = end.consumed - start.consumed;
    let messages = if options.consumers > 0 { consumed } else { end.published - start.published };
    let per_million = |cpu_s: f64| (messages > 0).then(|| cpu_s * 1e6 / messages as f64);
    Report {
        label: options.name(server),
        uri: uri.to_string(),
        server: server.to_owned(),
        load: options.describe(),
        window_s: seconds,
        published_per_s: rate(end.published, start.published),
        confirmed_per_s: (options.confirms > 0).then(|| rate(end.confirmed, start.confirmed)),
        consumed_per_s: (options.consumers > 0).then(|| rate(end.consumed, start.consumed)),
        deliver_latency: ended.deliver_latency.summary(),
        confirm_latency: ended.confirm_latency.summary(),
        totals: Sums {
            published: last.published,
            confirmed: last.confirmed,
            nacked: last.nacked,
            consumed: last.consumed,
            redelivered: last.redelivered,
            lost: window.lost,
            expected: expected(options, last),
        },
        faults: Vec::new(),
        server_cost: window.server_cost,
        tool_cpu_s_per_million: window.tool_cpu_s.and_then(per_million),
    }
}
