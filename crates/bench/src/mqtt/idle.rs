//! Connections that do nothing: what each costs the server in memory, and all of them together in CPU.

use std::thread;
use std::time::{Duration, Instant};

use super::dialer::{self, Greeting};
use super::link::{self, Link};
use super::poller::Poller;
use super::topics::{self, Topics};
use super::{limits, load, subscriber};
use crate::control::Totals;
use crate::error::Error;
use crate::feature::findings::{Findings, Part};
use crate::janitor::Janitor;
use crate::meter::Meter;
use crate::options::Options;
use crate::process::Cost;
use crate::report::ServerCost;
use crate::uri::Uri;

const CONNECTIONS: usize = 20_000;
/// The server watches over each connection as it would over a device's; the suite is over before anybody has to ping.
const KEEP_ALIVE_S: u16 = 3600;
/// What the server's memory gets to settle.
const REST: Duration = Duration::from_secs(1);

pub(crate) fn measure(options: &Options, _: &mut Janitor) -> Result<Findings, Error> {
    let connections = options.mqtt.connections.unwrap_or(CONNECTIONS);
    limits::allow(connections)?;
    let mut findings = load::findings(options);
    let before = options.server_pid.map(|pid| Cost::of(&pid.to_string())).transpose()?;
    let before_bytes = before.map(|cost| cost.resident_bytes);
    let uri = Uri::parse(&options.uri)?;
    let greeting = Greeting { keep_alive: KEEP_ALIVE_S, ..load::greeting(options, &uri) };

    let (meter, begun) = (Meter::start(options.server_pid)?, Instant::now());
    let (links, latency) = dialer::open_timed(&greeting, connections)?;
    let mut links: Vec<Link> = links.into_iter().map(|(link, _)| link).collect();
    let part = Part::new("connect", connections as u64, begun.elapsed().as_secs_f64()).of("connections");
    findings.parts.push(part.timed("CONNACK", &latency).at_cost(paid(meter, connections)?));
    findings.parts.push(rest(options, "idle", connections, before_bytes)?);

    let (meter, begun) = (Meter::start(options.server_pid)?, Instant::now());
    let topics = Topics::new(connections, 1, connections, None);
    subscriber::subscribe_all(&mut links, |number| topics.filters(number), 0, greeting.version)?;
    let part = Part::new("subscribe to a topic each", connections as u64, begun.elapsed().as_secs_f64());
    findings.parts.push(part.of("subscriptions").at_cost(paid(meter, connections)?));
    findings.parts.push(rest(options, "idle, subscribed", connections, before_bytes)?);

    let gone = gone(&mut links)?;
    if gone > 0 {
        findings.faults.push(format!("{gone} of {connections} idle connections were closed"));
    }
    for link in &mut links {
        // Who does not listen any more need not hear it.
        let _ = dialer::leave(link, greeting.version);
    }
    findings.notes.push(format!("keep-alive {KEEP_ALIVE_S} s; topics {}/…", topics::prefix()));
    Ok(findings)
}

/// What the server paid per connection.
fn paid(meter: Option<Meter>, connections: usize) -> Result<Option<ServerCost>, Error> {
    let spent = meter.map(Meter::stop).transpose()?;
    let done = Totals { consumed: connections as u64, ..Totals::default() };
    Ok(spent.map(|spent| spent.cost(0, 0, &Totals::default(), &done)))
}

/// Lets the server rest for as long as a load is measured, and looks at it.
fn rest(options: &Options, name: &'static str, connections: usize, before_bytes: Option<u64>) -> Result<Part, Error> {
    thread::sleep(REST);
    let cost = || options.server_pid.map(|pid| Cost::of(&pid.to_string())).transpose();
    let (first, begun) = (cost()?, Instant::now());
    thread::sleep(Duration::from_secs_f64(options.duration));
    let seconds = begun.elapsed().as_secs_f64();
    let last = cost()?;
    let grew = last.zip(before_bytes).map(|(last, before)| last.resident_bytes.saturating_sub(before));
    Ok(Part {
        memory_each_bytes: grew.map(|bytes| bytes as f64 / connections.max(1) as f64),
        server_cpu_percent: first.zip(last).map(|(first, last)| (last.cpu_s - first.cpu_s) * 100.0 / seconds),
        ..Part::state(name, connections as u64).of("connections")
    })
}

/// How many connections the server has closed.
fn gone(links: &mut [Link]) -> Result<usize, Error> {
    let (poller, mut ready, mut scratch) = (Poller::new()?, Vec::new(), link::scratch(0));
    for (key, link) in links.iter().enumerate() {
        poller.add(link, key as u64, false)?;
    }
    let mut gone = 0;
    loop {
        poller.wait(Duration::ZERO, &mut ready)?;
        if ready.is_empty() {
            return Ok(gone);
        }
        for one in &ready {
            let link = &mut links[one.key as usize];
            if link.read(&mut scratch, |_| Ok(())).is_err() {
                gone += 1;
                poller.remove(&*link)?;
            }
        }
    }
}
