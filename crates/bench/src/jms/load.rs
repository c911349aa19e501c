//! A load of producers and consumers: their connections, subscriptions and threads.

use std::sync::Arc;

use super::consumer::{Consumer, manner};
use super::dialect::{Destination, Message, Subscription};
use super::link::Link;
use super::options::{DestinationKind, is_answered};
use super::publisher::Publisher;
use crate::control::Counters;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{Load, Worker};
use crate::options::Options;
use crate::report::Report;
use crate::topology::Topology;
use crate::uri::Uri;

/// Runs the load that resolved `options` describe; whatever happens, its queues are deleted afterwards, where the
/// protocol can do that, or emptied.
pub(crate) fn run(options: &Options, janitor: &mut Janitor) -> Result<Report, Error> {
    with_queues(options, janitor, |topology, uri| {
        let (load, server) = connect(options, topology, uri)?;
        load.run(options, uri, &server)
    })
}

/// Does `work` with queues that nobody else has, and deletes them.
pub(crate) fn with_queues<T>(
    options: &Options,
    janitor: &mut Janitor,
    work: impl FnOnce(&Topology, &Uri) -> Result<T, Error>,
) -> Result<T, Error> {
    let uri = Uri::parse(&options.uri)?;
    let topology = Topology::named(options, options.queues, false);
    if options.jms.is_topic() {
        return work(&topology, &uri);
    }
    janitor.entrust(&options.uri, &topology);
    let done = work(&topology, &uri);
    let deleted = topology.delete(&uri);
    if deleted.is_ok() {
        janitor.dismiss();
    }
    let done = done?;
    deleted.map(|()| done)
}

/// Consumers subscribe here, before the first producer can start. Also what the server calls itself.
fn connect(options: &Options, topology: &Topology, uri: &Uri) -> Result<(Load, String), Error> {
    let counters: Vec<_> = (0..options.consumers + options.publishers).map(|_| Arc::new(Counters::default())).collect();
    let (consuming, publishing) = counters.split_at(options.consumers);
    let mut server = String::new();
    let (mut consumers, mut publishers): (Vec<Worker>, Vec<Worker>) = (Vec::new(), Vec::new());
    for (index, counters) in consuming.iter().enumerate() {
        let link = Link::open(uri)?;
        server.clone_from(&link.server);
        let mut consumer = consumer(options, destination(options, topology, index), link, counters)?;
        consumers.push(Box::new(move |control, publisher| {
            if let Some(publisher) = publisher {
                consumer.notifies(publisher);
            }
            consumer.run(control)
        }));
    }
    for (index, counters) in publishing.iter().enumerate() {
        let link = Link::open(uri)?;
        server.clone_from(&link.server);
        let mut publisher = publisher(options, destination(options, topology, index), link, counters)?;
        publisher.limit(options.messages.map(|n| {
            let (all, index) = (options.publishers as u64, index as u64);
            n / all + u64::from(index < n % all)
        }));
        if options.one_in_flight {
            publisher.waits_for(Arc::clone(&consuming[index]));
        }
        publishers.push(Box::new(move |control, _| publisher.run(control)));
    }
    let load = Load::of(counters, consumers, publishers);
    Ok((if options.one_in_flight { load.one_in_flight() } else { load }, server))
}

fn destination<'a>(options: &Options, topology: &'a Topology, worker: usize) -> Destination<'a> {
    let name = &topology.queues[worker % topology.queues.len()];
    Destination { name, is_topic: options.jms.destination == Some(DestinationKind::Topic) }
}

fn consumer(
    options: &Options,
    destination: Destination<'_>,
    link: Link,
    counters: &Arc<Counters>,
) -> Result<Consumer, Error> {
    let (mode, every) = manner(options, link.dialect);
    let client = link.client.clone();
    let subscription = Subscription { destination, client: &client, prefetch: options.prefetch, mode, selector: None };
    Consumer::subscribe(link, &subscription, every, Arc::clone(counters))
}

fn publisher(
    options: &Options,
    destination: Destination<'_>,
    link: Link,
    counters: &Arc<Counters>,
) -> Result<Publisher, Error> {
    let (client, body) = (link.client.clone(), vec![0; options.size]);
    let message = Message {
        destination,
        client: &client,
        is_persistent: options.persistent,
        is_answered: is_answered(options) && options.jms.transacted.is_none(),
        is_transacted: options.jms.transacted.is_some(),
        part: None,
        body: &body,
    };
    Publisher::new(link, options, &message, Arc::clone(counters))
}
