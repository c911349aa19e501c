//! A load of publishers and subscribers: their connections, their subscriptions, their threads.

use std::sync::Arc;

use super::dialer::{self, Greeting};
use super::gate::Gate;
use super::inflight::Inflight;
use super::link::Link;
use super::publisher::{Manner, Publisher, Publishers};
use super::stencil::Stencil;
use super::subscriber::{self, Subscriber, Subscribers};
use super::tally::Expected;
use super::topics::Topics;
use super::wire::{Message, Welcome};
use super::{limits, retained};
use crate::control::Counters;
use crate::error::Error;
use crate::feature::findings::Findings;
use crate::janitor::Janitor;
use crate::load::{Load, Worker};
use crate::options::Options;
use crate::report::{Report, Sums};
use crate::uri::Uri;

/// Every subscriber remembers a number for every publisher's topic; beyond so many in all, doubles are not looked for.
const EXPECTED_MAX: usize = 64 << 20;

/// From so many copies of each message on, taking the time costs next to nothing.
const MANY_COPIES: u64 = 10;

/// Runs the load that resolved `options` describe.
pub(crate) fn run(options: &Options, janitor: &mut Janitor) -> Result<Report, Error> {
    let uri = Uri::parse(&options.uri)?;
    let group = options.mqtt.shared_group.as_deref();
    let topics = Topics::new(options.mqtt.topics(), options.publishers, options.consumers, group);
    let load = connect(options, &topics)?;
    if options.mqtt.retain {
        janitor.entrust_retained(&options.uri, topics.prefix(), options.mqtt.topics() as u64);
    }
    let limit = load.limit;
    let report = load.load.run(options, &uri, &server_name(options));
    if options.mqtt.retain {
        retained::clear(&greeting(options, &uri), topics.prefix(), options.mqtt.topics() as u64)?;
        janitor.dismiss();
    }
    let mut report = report?;
    report.load.extend(limit.map(|limit| format!(" (the server takes {limit})")));
    report.faults = faults(options, &report.totals);
    Ok(report)
}

/// A load that is ready to begin.
pub(crate) struct Connected {
    pub(crate) load: Load,
    /// How many messages the server lets a publisher have unacknowledged, if that is fewer than was asked for.
    limit: Option<usize>,
}

/// Opens all connections and has the subscribers subscribe.
pub(crate) fn connect(options: &Options, topics: &Topics) -> Result<Connected, Error> {
    limits::allow(options.publishers + options.consumers)?;
    let greeting = greeting(options, &Uri::parse(&options.uri)?);
    let opened = dialer::open_all(&greeting, options.consumers)?;
    opened.iter().take(1).try_for_each(|(_, welcome)| check(options, welcome))?;
    let mut subscribers: Vec<Link> = opened.into_iter().map(|(link, _)| link).collect();
    let (qos, version) = (options.mqtt.qos(), options.mqtt.version());
    subscriber::subscribe_all(&mut subscribers, |number| topics.filters(number), qos, version)?;
    let publishers = dialer::open_all(&greeting, options.publishers)?;
    publishers.iter().take(1).try_for_each(|(_, welcome)| check(options, welcome))?;
    let limit = publishers.first().and_then(|(_, welcome)| limit(options, welcome));
    Ok(Connected { load: assemble(options, topics, subscribers, publishers)?, limit })
}

/// The findings of a suite at this broker, so far empty.
pub(crate) fn findings(options: &Options) -> Findings {
    let server = server_name(options);
    Findings { label: options.name(&server), server, ..Findings::default() }
}

/// MQTT has no place in which a server says its name.
fn server_name(options: &Options) -> String {
    format!("MQTT {} server", options.mqtt.protocol_version.unwrap_or_default())
}

/// Without keep-alive: a load generator that is too busy to ping must not be disconnected.
pub(crate) fn greeting(options: &Options, uri: &Uri) -> Greeting {
    Greeting { uri: uri.clone(), version: options.mqtt.version(), keep_alive: 0 }
}

fn check(options: &Options, welcome: &Welcome) -> Result<(), Error> {
    let mqtt = &options.mqtt;
    match welcome {
        Welcome { maximum_qos, .. } if *maximum_qos < mqtt.qos() => Err(Error::Lacks("this QoS")),
        Welcome { has_retained: false, .. } if mqtt.retain => Err(Error::Lacks("retained messages")),
        Welcome { has_shared: false, .. } if mqtt.shared_group.is_some() => Err(Error::Lacks("shared subscriptions")),
        _ => Ok(()),
    }
}

/// How many messages a publisher may have unacknowledged, if the server wants fewer than was asked for.
fn limit(options: &Options, welcome: &Welcome) -> Option<usize> {
    Some(usize::from(welcome.receive_maximum)).filter(|limit| *limit < options.confirms)
}

/// Gives each connection to a thread.
fn assemble(
    options: &Options,
    topics: &Topics,
    subscribers: Vec<Link>,
    publishers: Vec<(Link, Welcome)>,
) -> Result<Load, Error> {
    let threads = |connections: usize| options.mqtt.threads.unwrap_or(1).clamp(1, connections.max(1)).min(connections);
    let counters = |threads: usize| -> Vec<_> { (0..threads).map(|_| Arc::new(Counters::default())).collect() };
    let publishing = counters(threads(publishers.len()));
    let subscribing = counters(threads(subscribers.len()));
    let streams = Streams::new(options, topics);
    // Too small a window would let no message through.
    let window = options.mqtt.undelivered.filter(|_| !subscribing.is_empty());
    let window = window.map(|window| window.max(streams.copies_max * publishing.len() as u64));
    let gate = Arc::new(Gate::new(window, &publishing, &subscribing)?);
    let mut consumers: Vec<Worker> = Vec::new();
    for (links, counters) in deal(subscribers, subscribing.len()).into_iter().zip(&subscribing) {
        let known = streams.known(options);
        let each = links.into_iter().map(|link| Subscriber::new(link, Expected::new(known))).collect();
        let (gate, counters) = (Arc::clone(&gate), Arc::clone(counters));
        let thread = Subscribers::new(each, options.mqtt.version(), options.size, gate, counters)?;
        consumers.push(Box::new(move |control, _| thread.run(control)));
    }
    let mut workers: Vec<Worker> = Vec::new();
    let numbered = publishers.into_iter().enumerate().collect();
    for (thread, links) in deal(numbered, publishing.len()).into_iter().enumerate() {
        let mut manner = manner(options, links.len(), (thread, publishing.len()));
        manner.stamps_all |= streams.copies_max >= MANY_COPIES;
        let each = links.into_iter().map(|(number, (link, welcome))| {
            Publisher::new(link, streams.stencils(options, topics, number), inflight(options, &welcome))
        });
        let counters = Arc::clone(&publishing[thread]);
        let thread = Publishers::new(each.collect(), manner, Arc::clone(&gate), thread, counters)?;
        workers.push(Box::new(move |control, _| thread.run(control)));
    }
    Ok(Load::of([publishing, subscribing].concat(), consumers, workers))
}

fn inflight(options: &Options, welcome: &Welcome) -> Option<Inflight> {
    let outstanding = u16::try_from(options.confirms).unwrap_or(u16::MAX);
    (options.mqtt.qos() > 0).then(|| Inflight::new(options.mqtt.qos(), outstanding.min(welcome.receive_maximum)))
}

fn manner(options: &Options, links: usize, (thread, threads): (usize, usize)) -> Manner {
    let (thread, threads) = (thread as u64, threads as u64);
    Manner {
        version: options.mqtt.version(),
        rate: options.rate * links as u64,
        limit: options.messages.map(|messages| messages / threads + u64::from(thread < messages % threads)),
        // Those are so few that there is time for it.
        stamps_all: options.rate > 0 || options.one_in_flight || options.mqtt.qos() > 0,
    }
}

/// Numbers each publisher's topics, over all publishers.
struct Streams {
    /// The first number of each publisher.
    first: Vec<usize>,
    count: usize,
    copies_max: u64,
}

impl Streams {
    fn new(options: &Options, topics: &Topics) -> Self {
        let (mut first, mut count, mut copies_max) = (Vec::new(), 0, 0);
        for publisher in 0..options.publishers {
            first.push(count);
            for (_, copies) in topics.of_publisher(publisher) {
                count += 1;
                copies_max = copies.max(copies_max);
            }
        }
        Self { first, count, copies_max }
    }

    /// How many of them a subscriber looks for doubles in. Members of a group see only a part of each.
    fn known(&self, options: &Options) -> usize {
        let is_known = options.mqtt.shared_group.is_none() && self.count * options.consumers <= EXPECTED_MAX;
        if is_known { self.count } else { 0 }
    }

    fn stencils(&self, options: &Options, topics: &Topics, publisher: usize) -> Vec<Stencil> {
        let (version, body) = (options.mqtt.version(), vec![0; options.size]);
        let (qos, is_retained) = (options.mqtt.qos(), options.mqtt.retain);
        let numbered = (self.first[publisher]..).zip(topics.of_publisher(publisher));
        let stencil = |(stream, (topic, copies))| {
            let message = Message { topic, qos, is_retained, id: 0, body: &body };
            Stencil::new(version, &message, stream, copies)
        };
        numbered.map(stencil).collect()
    }
}

/// Deals things out to so many hands.
fn deal<T>(things: Vec<T>, hands: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (index, thing) in things.into_iter().enumerate() {
        dealt[index % hands].push(thing);
    }
    dealt
}

/// What a server must not do with QoS 1 and 2. Doubles are allowed with QoS 1.
fn faults(options: &Options, totals: &Sums) -> Vec<String> {
    let qos = options.mqtt.qos();
    if qos == 0 {
        return Vec::new();
    }
    let doubled = if qos == 2 { totals.redelivered } else { 0 };
    let surplus = totals.consumed.saturating_sub(totals.expected).max(doubled);
    let unanswered = totals.published.saturating_sub(totals.confirmed + totals.nacked);
    let faults = [
        (totals.lost.unwrap_or(0), "deliveries are missing"),
        (if qos == 2 && options.consumers > 0 { surplus } else { 0 }, "deliveries are too many"),
        (unanswered, "messages were not acknowledged"),
        (totals.nacked, "messages were refused"),
    ];
    let found = faults.into_iter().filter(|(number, _)| *number > 0);
    found.map(|(number, what)| format!("QoS {qos}: {number} {what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    fn found(qos: u8, totals: Sums) -> Vec<String> {
        faults(&parse(&format!("--uri mqtt://h --qos {qos}")), &totals)
    }

    #[test]
    fn losses_and_doubles_are_faults_where_the_qos_forbids_them() {
        let fine = Sums { published: 10, confirmed: 10, consumed: 10, expected: 10, lost: Some(0), ..Sums::default() };
        assert!((0..=2).all(|qos| found(qos, fine.clone()).is_empty()));
        let lost = Sums { consumed: 9, lost: Some(1), ..fine };
        assert_eq!([0, 1, 2].map(|qos| found(qos, lost.clone()).len()), [0, 1, 1]);
        let doubled = Sums { consumed: 11, redelivered: 1, ..fine };
        assert_eq!([0, 1, 2].map(|qos| found(qos, doubled.clone()).len()), [0, 0, 1]);
        let refused = Sums { confirmed: 8, nacked: 1, ..fine };
        assert_eq!(found(1, refused), ["QoS 1: 1 messages were not acknowledged", "QoS 1: 1 messages were refused"]);
    }

    #[test]
    fn streams_are_numbered_over_all_publishers() {
        let options = parse("--uri mqtt://h --publishers 2 --consumers 3 --topics 4");
        let topics = Topics::new(4, 2, 3, None);
        let streams = Streams::new(&options, &topics);
        assert_eq!((streams.first.as_slice(), streams.count, streams.copies_max), (&[0, 2][..], 4, 1));
        assert_eq!(streams.stencils(&options, &topics, 1).len(), 2);
    }

    #[test]
    fn things_are_dealt_in_turn() {
        assert_eq!(deal(vec![1, 2, 3], 2), [vec![1, 3], vec![2]]);
        assert!(deal(Vec::<u8>::new(), 0).is_empty());
    }
}
