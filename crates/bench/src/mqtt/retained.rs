//! A million retained messages, then subscribers to all of them, while others publish and subscribe.

use std::thread;
use std::time::{Duration, Instant};

use super::courier;
use super::dialer::{self, Greeting};
use super::link;
use super::load;
use super::options::MqttOptions;
use super::poller::Poller;
use super::stencil::Mark;
use super::topics::{self, Topics};
use super::wire::{DISCONNECT, Encoder, PUBACK, PUBLISH, SUBACK};
use crate::control::{Phase, Totals};
use crate::disk;
use crate::error::Error;
use crate::feature::arrivals::Seen;
use crate::feature::findings::{Findings, Part};
use crate::histogram::Histogram;
use crate::janitor::Janitor;
use crate::meter::Meter;
use crate::options::Options;
use crate::uri::Uri;

const MESSAGES: u64 = 1_000_000;
/// What another publisher sends to another subscriber, per second.
const PAIR_RATE: u64 = 1000;
/// How long these two are measured by themselves, at most.
const PAIR_ALONE_S: f64 = 3.0;
/// A subscriber that gets nothing for so long gets no more.
const STALL_S: f64 = 10.0;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Each message at once, or each acknowledged: the part, and that of the two others meanwhile.
const READS: [(u8, &str, &str); 2] =
    [(0, "read all, QoS 0", "others during QoS 0"), (1, "read all, QoS 1", "others during QoS 1")];

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let mut findings = load::findings(options);
    let messages = options.messages.unwrap_or(MESSAGES);
    let greeting = load::greeting(options, &Uri::parse(&options.uri)?);
    let prefix = format!("{}-retained", topics::prefix());
    janitor.entrust_retained(&options.uri, &prefix, messages);
    let measured = run(options, &greeting, &prefix, messages, &mut findings);
    let begun = Instant::now();
    clear(&greeting, &prefix, messages)?;
    janitor.dismiss();
    measured?;
    findings.parts.push(Part::new("clear", messages, begun.elapsed().as_secs_f64()));
    Ok(findings)
}

fn run(
    options: &Options,
    greeting: &Greeting,
    prefix: &str,
    messages: u64,
    findings: &mut Findings,
) -> Result<(), Error> {
    findings.parts.push(fill(options, greeting, prefix, messages)?);
    let (_, alone) = beside_pair(options, || {
        thread::sleep(Duration::from_secs_f64(PAIR_ALONE_S.min(options.duration)));
        Ok(())
    })?;
    findings.parts.push(pair_part("others alone", &alone));
    let stall = Duration::from_secs_f64(STALL_S.min(options.timeout_s()));
    for (qos, name, others) in READS {
        let mut seen = Seen::new(messages);
        let meter = Meter::start(options.server_pid)?;
        let (times, pair) = beside_pair(options, || read(greeting, prefix, qos, stall, &mut seen))?;
        let spent = meter.map(Meter::stop).transpose()?;
        let Some((first, last)) = times else {
            // What it does have is worth telling.
            findings.unavailable = Some(Error::Lacks("retained messages for a wildcard").to_string());
            return Ok(());
        };
        let arrived = Totals { consumed: seen.count, ..Totals::default() };
        let cost = spent.map(|spent| spent.cost(0, options.size, &Totals::default(), &arrived));
        let part = Part::new(name, seen.count, last.as_secs_f64()).at_cost(cost);
        findings.parts.push(Part { first_us: Some(first.as_secs_f64() * 1e6), ..part });
        findings.parts.push(pair_part(others, &pair));
        let faults = seen.faults("retained messages").into_iter().map(|fault| format!("{name}: {fault}"));
        // Messages of QoS 0 may be lost; what is lost is still told.
        if qos == 0 { findings.notes.extend(faults) } else { findings.faults.extend(faults) }
    }
    Ok(())
}

fn pair_part(name: &'static str, latency: &Histogram) -> Part {
    Part::state(name, 1).timed("publish to delivery", latency)
}

fn fill(options: &Options, greeting: &Greeting, prefix: &str, messages: u64) -> Result<Part, Error> {
    let (meter, begun) = (Meter::start(options.server_pid)?, Instant::now());
    let size = options.size.max(Mark::BYTES);
    let latency = courier::publish_retained(
        greeting,
        messages,
        |number| topics::name(prefix, number, messages),
        |number, body| {
            body.resize(size, 0);
            Mark { time: 0, place: Some((0, number)) }.write(body);
        },
    )?;
    let part = Part::new("publish retained", messages, begun.elapsed().as_secs_f64()).timed("confirm", &latency);
    let spent = meter.map(Meter::stop).transpose()?;
    let stored = Totals { published: messages, ..Totals::default() };
    let cost = spent.map(|spent| spent.cost(0, size, &Totals::default(), &stored));
    let grew = cost.as_ref().map(|cost| cost.resident_after_bytes.saturating_sub(cost.resident_before_bytes));
    let disk_bytes = options.server_data.as_deref().map(disk::allocated_bytes).transpose()?;
    let memory_each_bytes = grew.map(|bytes| bytes as f64 / messages.max(1) as f64);
    Ok(Part { disk_bytes, memory_each_bytes, ..part.at_cost(cost) })
}

/// Does `work` while a publisher sends to a subscriber; returns how long their messages took.
fn beside_pair<T>(options: &Options, work: impl FnOnce() -> Result<T, Error>) -> Result<(T, Histogram), Error> {
    let mqtt = MqttOptions { qos: None, undelivered: None, threads: None, ..options.mqtt.clone() };
    let pair = Options { rate: PAIR_RATE, messages: None, mqtt, ..options.clone() };
    let mut load = load::connect(&pair, &Topics::new(1, 1, 1, None))?.load;
    load.begin(Phase::Measuring);
    let done = work();
    let ended = load.join()?;
    done.map(|done| (done, ended.deliver_latency))
}

/// Subscribes to all, and takes them until none is missing or nothing comes any more: when the first and when the last
/// came, counted from the subscription.
fn read(
    greeting: &Greeting,
    prefix: &str,
    qos: u8,
    stall: Duration,
    seen: &mut Seen,
) -> Result<Option<(Duration, Duration)>, Error> {
    let (mut link, _) = dialer::open_one(greeting)?;
    let version = greeting.version;
    let (poller, mut ready, mut scratch) = (Poller::new()?, Vec::new(), link::scratch(0));
    let mut answers = Encoder::new(version);
    answers.subscribe(1, [format!("{prefix}/#").as_str()], qos);
    poller.add(&link, 0, false)?;
    let (start, mut times, mut moved) = (Instant::now(), None, Instant::now());
    while seen.is_missing() && moved.elapsed() < stall {
        link.write(&answers.bytes)?;
        answers.bytes.clear();
        link.await_room(&poller, 0)?;
        poller.wait(LOOK_EVERY, &mut ready)?;
        for one in &ready {
            if one.can_write {
                link.flush()?;
            }
            let before = seen.count;
            link.read(&mut scratch, |packet| match packet.kind {
                PUBLISH => {
                    let arrival = packet.arrival(version)?;
                    if arrival.qos > 0 {
                        answers.answer(PUBACK, arrival.id);
                    }
                    seen.mark(Mark::of(arrival.body).place.map_or(u64::MAX, |(_, number)| number));
                    Ok(())
                }
                SUBACK if packet.granted(version)? != [qos] => Err(Error::Lacks("this subscription")),
                DISCONNECT => Err(packet.farewell()),
                _ => Ok(()),
            })?;
            if seen.count > before {
                moved = Instant::now();
                let (first, _) = *times.get_or_insert((start.elapsed(), Duration::ZERO));
                times = Some((first, start.elapsed()));
            }
        }
    }
    dialer::leave(&mut link, version)?;
    Ok(times)
}

/// Takes retained messages away: an empty one in place of each.
pub(crate) fn clear(greeting: &Greeting, prefix: &str, messages: u64) -> Result<(), Error> {
    courier::publish_retained(greeting, messages, |number| topics::name(prefix, number, messages), |_, _| ()).map(drop)
}

/// What the janitor does.
pub(crate) fn clear_at(uri: &Uri, prefix: &str, messages: u64) -> Result<(), Error> {
    let greeting = Greeting { uri: uri.clone(), version: super::wire::Version::V311, keep_alive: 0 };
    clear(&greeting, prefix, messages)
}
