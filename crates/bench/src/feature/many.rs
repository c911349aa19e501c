//! Large numbers: queues with a consumer each, and bindings of one topic exchange.

use std::time::Instant;

use super::findings::{Findings, Part};
use super::flow::{Flow, Task};
use super::mold::Cast;
use super::receiver::{Answer, Arrived, Receiver};
use super::sender::{Sender, Sent};
use super::{MESSAGES, declare};
use crate::connection::Connection;
use crate::control::Totals;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::janitor::Janitor;
use crate::load::{self, Place};
use crate::meter::Meter;
use crate::options::Options;
use crate::topology::Topology;
use crate::wire::Message;

const QUEUES: usize = 10_000;
/// Connections that the consumers of all queues share.
const CONNECTIONS: usize = 4;

const BINDINGS: u64 = 100_000;
const BOUND_QUEUES: usize = 100;
/// Queues that get each message: one for its key, and one for a pattern that ends in `*`.
const COPIES: u64 = 2;

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let nothing = |_: &mut Connection, _: &Topology| Ok(());
    let mut findings =
        load::with_topology(options, Topology::named(options, QUEUES, false), janitor, nothing, |place| {
            let mut findings = Findings::at(options, place);
            queues(options, place, &mut findings)?;
            Ok(findings)
        })?;
    let declare = |connection: &mut Connection, topology: &Topology| {
        declare::exchange(connection, topology.exchange.as_deref().unwrap_or_default(), "topic", |_| ())?;
        declare::queues(connection, options, &topology.queues)
    };
    load::with_topology(options, Topology::named(options, BOUND_QUEUES, true), janitor, declare, |place| {
        bindings(options, place, &mut findings)?;
        Ok(findings)
    })
}

fn queues(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let names = &place.topology.queues;
    let mut connection = Connection::open(&place.uri)?;
    let (declared, ()) = set_up(options, ("declare 10,000 queues", "queues"), names.len() as u64, || {
        declare::queues(&mut connection, options, names)
    })?;
    drop(connection);
    let (subscribed, receivers) = set_up(options, ("subscribe to each", "consumers"), names.len() as u64, || {
        names.chunks(names.len().div_ceil(CONNECTIONS)).map(|names| subscribe(place, names)).collect()
    })?;
    findings.parts.extend([declared, subscribed]);
    let first = names.first().map(String::as_str).unwrap_or_default();
    let sender = Sender::open(&place.uri, Message { routing_key: first, ..Message::default() })?;
    let shape = |index: u64, _, cast: &mut Cast<'_>| {
        cast.routing_key(names[index as usize % names.len()].as_bytes());
    };
    flow(options, ("publish, round robin", "deliver, round robin"), sender, shape, receivers, 1, findings)
}

fn bindings(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let names = &place.topology.queues;
    let exchange = place.topology.exchange.as_deref().unwrap_or_default();
    let pairs: Vec<(&str, String)> =
        (0..BINDINGS).map(|number| (names[number as usize % names.len()].as_str(), binding_key(number))).collect();
    let mut connection = Connection::open(&place.uri)?;
    let (bound, ()) = set_up(options, ("bind 100,000 topics", "bindings"), BINDINGS, || {
        declare::bindings(&mut connection, exchange, &pairs)
    })?;
    drop(connection);
    findings.parts.push(bound);
    let per_connection = names.len().div_ceil(CONNECTIONS);
    let receivers = names.chunks(per_connection).map(|names| subscribe(place, names)).collect::<Result<_, Error>>()?;
    let like = routing_key(0);
    let sender = Sender::open(&place.uri, Message { exchange, routing_key: &like, ..Message::default() })?;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let shape = move |_, _, cast: &mut Cast<'_>| write_key(random.next(), |key| cast.routing_key(key));
    flow(options, ("publish, topics", "deliver, topics"), sender, shape, receivers, COPIES, findings)
}

fn subscribe(place: &Place, queues: &[String]) -> Result<Receiver, Error> {
    Receiver::subscribe(&place.uri, queues, Answer::Auto)
}

/// Times and meters `work`, which makes `count` of what the second name says.
fn set_up<T>(
    options: &Options,
    (name, unit): (&'static str, &'static str),
    count: u64,
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(Part, T), Error> {
    eprintln!("{name}");
    let meter = Meter::start(options.server_pid)?;
    let begun = Instant::now();
    let made = work()?;
    let seconds = begun.elapsed().as_secs_f64();
    let spent = meter.map(Meter::stop).transpose()?;
    let end = Totals { published: count, ..Totals::default() };
    let cost = spent.map(|spent| spent.cost(0, 0, &Totals::default(), &end));
    Ok((Part::new(name, count, seconds).of(unit).at_cost(cost), made))
}

/// Publishes while all `receivers` consume, of each message so many copies.
fn flow(
    options: &Options,
    (published, delivered): (&'static str, &'static str),
    sender: Sender,
    shape: impl FnMut(u64, u64, &mut Cast<'_>) + Send,
    receivers: Vec<Receiver>,
    copies: u64,
    findings: &mut Findings,
) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let arrivals = messages * copies;
    let mut sent = Sent::default();
    let mut states: Vec<(Arrived, Histogram)> = vec![Default::default(); receivers.len()];
    let tasks = receivers.into_iter().zip(&mut states).map(|(receiver, (arrived, latency))| -> Task<'_> {
        receiver.task(arrived, |arrival| latency.record(arrival.at.saturating_sub(arrival.time)))
    });
    let receivers = tasks.collect();
    let senders = vec![sender.task(messages, &mut sent, shape)];
    let cost = Flow { options, name: delivered, arrivals, senders, receivers }.run()?;
    let mut all = Arrived::default();
    let mut latency = Histogram::default();
    for (arrived, one) in &states {
        all.messages += arrived.messages;
        all.last_at = all.last_at.max(arrived.last_at);
        latency.merge(one);
    }
    let publish = Part::new(published, sent.confirmed, sent.seconds()).timed("confirm", &sent.latency);
    let deliver = Part::new(delivered, all.messages, sent.seconds_until(&all)).of("deliveries");
    findings.parts.extend([publish, deliver.timed("publish to delivery", &latency).at_cost(cost)]);
    findings.faults.extend(sent.fault(messages));
    if all.messages != arrivals {
        findings.faults.push(format!("{delivered}: {} of {arrivals} messages arrived", all.messages));
    }
    Ok(())
}

/// Every tenth pattern ends in `*`, and matches the keys of the nine others with the same two first words.
fn binding_key(number: u64) -> String {
    match number % 10 {
        0 => routing_key(number).replace(".c0", ".*"),
        _ => routing_key(number),
    }
}

/// Three words, always of the same length.
fn routing_key(number: u64) -> String {
    format!("a{:02}.b{:02}.c{}", number / 1000 % 100, number / 10 % 100, number % 10)
}

/// Gives `put` a key that two bindings match, without allocating.
fn write_key(random: u64, put: impl FnOnce(&[u8])) {
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let third = b'1' + (random / 10_000 % 9) as u8;
    let (one, two, three, four) = (digit(random / 1000), digit(random / 100), digit(random / 10), digit(random));
    put(&[b'a', one, two, b'.', b'b', three, four, b'.', b'c', third]);
}

/// An xorshift generator: all that keys need is to be spread.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bindings_are_distinct_and_every_published_key_matches_two_of_different_queues() {
        let queue_of = |number: u64| number as usize % BOUND_QUEUES;
        let keys: Vec<String> = (0..BINDINGS).map(binding_key).collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len() as u64, BINDINGS);
        assert_eq!((keys[10].as_str(), keys[99_999].as_str()), ("a00.b01.*", "a99.b99.c9"));
        let mut random = Random(1);
        for _ in 0..20 {
            let mut key = String::new();
            write_key(random.next(), |bytes| key = String::from_utf8(bytes.to_vec()).unwrap());
            let pattern = format!("{}*", &key[..key.len() - 2]);
            let matching: Vec<u64> = (0..BINDINGS)
                .filter(|&number| keys[number as usize] == key || keys[number as usize] == pattern)
                .collect();
            assert_eq!(matching.len() as u64, COPIES, "{key}");
            assert_ne!(queue_of(matching[0]), queue_of(matching[1]), "{key}");
            assert_eq!(key.len(), routing_key(0).len());
        }
    }
}
