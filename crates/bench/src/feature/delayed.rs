//! Messages that an exchange of type x-delayed-message holds back, until they are due one after another.

use super::arrivals::Lateness;
use super::declare;
use super::findings::{Findings, Part};
use super::flow::{Flow, Shared};
use super::mold::Cast;
use super::receiver::{Answer, Arrived, Receiver};
use super::sender::{Sender, Sent};
use crate::connection::Connection;
use crate::control::Totals;
use crate::disk;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{self, Place};
use crate::meter::Meter;
use crate::options::Options;
use crate::report::ServerCost;
use crate::topology::Topology;
use crate::wire::Message;

const MESSAGES: u64 = 1_000_000;
/// The rate of publishing is estimated with at most so many messages, which no queue gets.
const TRIAL_MAX: u64 = 20_000;
const TRIAL_DELAY_MS: i32 = 1000;
const MILLISECOND_NS: u64 = 1_000_000;

const ROUTING_KEY: &str = "due";
/// Without a binding, and as long as the other, because the mold fixes the length.
const TRIAL_KEY: &str = "try";

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let window = options.delay_window;
    if !(window > 0.0 && window < 1e6) || options.delay_start.is_some_and(|start| !(0.0..1e6).contains(&start)) {
        return Err(Error::Options("the delays must be between 0 and 1,000,000 seconds"));
    }
    let declare = |connection: &mut Connection, topology: &Topology| declare_all(connection, options, topology);
    load::with_topology(options, Topology::named(options, 1, true), janitor, declare, |place| {
        let mut findings = Findings::at(options, place);
        run(options, place, &mut findings)?;
        Ok(findings)
    })
}

fn declare_all(connection: &mut Connection, options: &Options, topology: &Topology) -> Result<(), Error> {
    let exchange = topology.exchange.as_deref().unwrap_or_default();
    declare::exchange(connection, exchange, "x-delayed-message", |table| {
        table.text_field("x-delayed-type", "direct");
    })?;
    for queue in &topology.queues {
        declare::queue(connection, options, queue, |_| ())?;
        declare::bindings(connection, exchange, &[(queue, ROUTING_KEY.to_owned())])?;
    }
    Ok(())
}

fn sender(place: &Place) -> Result<Sender, Error> {
    let exchange = place.topology.exchange.as_deref().unwrap_or_default();
    let routing_key = ROUTING_KEY;
    Sender::open(
        &place.uri,
        Message { exchange, routing_key, persistent: true, delay_ms: Some(0), ..Message::default() },
    )
}

/// When messages are due, relative to the first one's publishing.
struct Schedule {
    messages: u64,
    start_ns: u64,
    window_ns: u64,
    /// The time of the first message's publishing.
    origin: Option<u64>,
    /// Messages that were published when they should have been delivered: publishing took longer than was foreseen.
    overdue: u64,
}

impl Schedule {
    fn shape(&mut self, index: u64, now: u64, cast: &mut Cast<'_>) {
        let delay_ms = self.delay_ms(index, now);
        cast.delay_ms(i32::try_from(delay_ms).unwrap_or(i32::MAX));
        // The delay is in whole milliseconds, so this is when the message is due in truth.
        cast.stamp(now + delay_ms * MILLISECOND_NS, index);
    }

    fn delay_ms(&mut self, index: u64, now: u64) -> u64 {
        let origin = *self.origin.get_or_insert(now);
        let into_window = u128::from(index) * u128::from(self.window_ns) / u128::from(self.messages.max(1));
        let due = origin + self.start_ns + into_window as u64;
        self.overdue += u64::from(due < now);
        due.saturating_sub(now).div_ceil(MILLISECOND_NS)
    }

    /// What a reader must know if the last message was published at `last_at`: some deliveries ran beside the inserts.
    fn note(&self, last_at: u64) -> Option<String> {
        let begins_at = self.origin.unwrap_or(0) + self.start_ns;
        (last_at > begins_at).then(|| {
            let seconds = (last_at - begins_at) as f64 / 1e9;
            let overdue = self.overdue;
            format!(
                "deliveries began {seconds:.1} s before all were inserted, and {overdue} messages were overdue by then"
            )
        })
    }

    /// When the last message is due.
    fn end(&self) -> u64 {
        self.origin.unwrap_or(0) + self.start_ns + self.window_ns
    }
}

/// What the server paid until everything was published.
#[derive(Default)]
struct Insert {
    sent: Sent,
    cost: Option<ServerCost>,
    disk_bytes: Option<u64>,
    /// What it pays from there on.
    meter: Option<Meter>,
}

impl Insert {
    fn run(
        &mut self,
        options: &Options,
        sender: Sender,
        schedule: &mut Schedule,
        shared: &Shared<'_>,
    ) -> Result<(), Error> {
        let meter = Meter::start(options.server_pid)?;
        let shape = |index, now, cast: &mut Cast<'_>| schedule.shape(index, now, cast);
        self.sent = sender.run(shared, schedule_messages(options), shape)?;
        shared.is_quiet_until(schedule.end());
        let end = shared.totals();
        let cost = meter.map(Meter::stop).transpose()?;
        self.cost = cost.map(|spent| spent.cost(0, options.size, &Totals::default(), &end));
        self.disk_bytes = options.server_data.as_deref().map(disk::allocated_bytes).transpose()?;
        self.meter = Meter::start(options.server_pid)?;
        Ok(())
    }
}

fn schedule_messages(options: &Options) -> u64 {
    options.messages.unwrap_or(MESSAGES)
}

fn run(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let messages = schedule_messages(options);
    let start_s = match options.delay_start {
        Some(seconds) => seconds,
        None => 1.0 + 2.0 * messages as f64 / trial_rate(options, place, messages)?,
    };
    eprintln!("the first message is due {start_s:.1} s after the first is published");
    let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
    let (start_ns, window_ns) = (nanoseconds(start_s), nanoseconds(options.delay_window));
    let mut schedule = Schedule { messages, start_ns, window_ns, origin: None, overdue: 0 };
    let receiver = Receiver::subscribe(&place.uri, &place.topology.queues, Answer::Ack)?;
    let (sender, mut insert, mut arrived) = (sender(place)?, Insert::default(), Arrived::default());
    let mut lateness = Lateness::new(0, messages);
    let flow = Flow {
        options,
        name: "delayed",
        arrivals: messages,
        senders: vec![Box::new(|shared| insert.run(options, sender, &mut schedule, shared))],
        receivers: vec![receiver.task(&mut arrived, |arrival| lateness.see(arrival))],
    };
    let whole = flow.run()?;
    let delivered = Totals { consumed: arrived.messages, ..Totals::default() };
    let spent = insert.meter.take().map(Meter::stop).transpose()?;
    let peak_bytes = whole.map_or(0, |cost| cost.peak_bytes);
    let cost = spent.map(|spent| spent.cost(peak_bytes, options.size, &Totals::default(), &delivered));
    let Insert { sent, cost: insert_cost, disk_bytes, .. } = insert;
    let publish = Part::new("insert", sent.confirmed, sent.seconds()).timed("confirm", &sent.latency);
    let deliver = Part::new("deliver", arrived.messages, arrived.seconds()).timed("lateness", &lateness.late);
    findings.parts.extend([Part { disk_bytes, ..publish.at_cost(insert_cost) }, deliver.at_cost(cost)]);
    findings.faults.extend(sent.fault(messages));
    findings.faults.extend(lateness.faults("delayed messages"));
    findings.notes.extend(schedule.note(sent.last_at));
    Ok(())
}

/// Messages per second that can be published.
fn trial_rate(options: &Options, place: &Place, messages: u64) -> Result<f64, Error> {
    let messages = (messages / 50).clamp(1, TRIAL_MAX);
    let (sender, mut sent) = (sender(place)?, Sent::default());
    let task = sender.task(messages, &mut sent, |_, _, cast| {
        cast.delay_ms(TRIAL_DELAY_MS);
        cast.routing_key(TRIAL_KEY.as_bytes());
    });
    Flow { options, name: "trial", arrivals: 0, senders: vec![task], receivers: Vec::new() }.run()?;
    Ok(sent.confirmed.max(1) as f64 / sent.seconds().max(1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_evenly_whenever_they_are_published() {
        let (start_ns, window_ns) = (5_000_000_000, 10_000_000_000);
        let mut schedule = Schedule { messages: 10, start_ns, window_ns, origin: None, overdue: 0 };
        assert_eq!(schedule.delay_ms(0, 1_000), 5_000);
        assert_eq!(schedule.delay_ms(1, 1_000), 6_000);
        assert_eq!(schedule.delay_ms(9, 1_000_001_000), 13_000);
        // Whole milliseconds, and never early.
        assert_eq!(schedule.delay_ms(9, 1_000_001_001), 13_000);
        assert_eq!((schedule.overdue, schedule.end()), (0, 15_000_001_000));
        assert_eq!((schedule.delay_ms(0, 5_100_000_000), schedule.overdue), (0, 1));
        assert_eq!(schedule.note(5_000_001_000), None);
        assert!(
            schedule.note(5_100_001_000).is_some_and(|note| note.contains("0.1 s") && note.contains("and 1 message"))
        );
    }
}
