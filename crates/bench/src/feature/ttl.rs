//! Messages that expire, and messages that are rejected: both go to a dead letter exchange and are consumed behind it.

use super::arrivals::Lateness;
use super::findings::{Findings, Part};
use super::flow::Flow;
use super::receiver::{Answer, Arrived, Receiver};
use super::sender::{Sender, Sent};
use super::{MESSAGES, declare};
use crate::connection::Connection;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{self, Place};
use crate::options::Options;
use crate::topology::Topology;
use crate::wire::Message;

const TTL_MS: i32 = 2000;
const TTL_NS: u64 = TTL_MS as u64 * 1_000_000;

/// The queues: messages expire in the first, are rejected from the second, and end in the third.
const QUEUES: usize = 3;

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let topology = Topology::named(options, QUEUES, true);
    let declare = |connection: &mut Connection, topology: &Topology| declare_all(connection, options, topology);
    load::with_topology(options, topology, janitor, declare, |place| {
        let mut findings = Findings::at(options, place);
        expire(options, place, &mut findings)?;
        reject(options, place, &mut findings)?;
        Ok(findings)
    })
}

fn declare_all(connection: &mut Connection, options: &Options, topology: &Topology) -> Result<(), Error> {
    let [expiring, rejecting, dead] = names(topology)?;
    let exchange = topology.exchange.as_deref().unwrap_or_default();
    declare::exchange(connection, exchange, "fanout", |_| ())?;
    declare::queue(connection, options, expiring, |table| {
        table.text_field("x-dead-letter-exchange", exchange).number_field("x-message-ttl", TTL_MS);
    })?;
    declare::queue(connection, options, rejecting, |table| {
        table.text_field("x-dead-letter-exchange", exchange);
    })?;
    declare::queue(connection, options, dead, |_| ())?;
    declare::bindings(connection, exchange, &[(dead, String::new())])
}

fn names(topology: &Topology) -> Result<[&str; QUEUES], Error> {
    match topology.queues.as_slice() {
        [one, two, three] => Ok([one, two, three]),
        _ => Err(Error::Options("this suite has three queues")),
    }
}

fn expire(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let [expiring, _, dead] = names(&place.topology)?;
    let messages = options.messages.unwrap_or(MESSAGES);
    let sender = Sender::open(&place.uri, Message { routing_key: expiring, persistent: true, ..Message::default() })?;
    let receiver = Receiver::subscribe(&place.uri, &[dead.to_owned()], Answer::Ack)?;
    let (mut sent, mut arrived) = (Sent::default(), Arrived::default());
    let mut lateness = Lateness::new(TTL_NS, messages);
    let flow = Flow {
        options,
        name: "expire",
        arrivals: messages,
        senders: vec![Box::new(|shared| {
            sent = sender.run(shared, messages, |_, _, _| ())?;
            shared.is_quiet_until(sent.last_at + TTL_NS);
            Ok(())
        })],
        receivers: vec![receiver.task(&mut arrived, |arrival| lateness.see(arrival))],
    };
    let cost = flow.run()?;
    let publish = Part::new("publish, to expire", sent.confirmed, sent.seconds()).timed("confirm", &sent.latency);
    let dead = Part::new("dead letters", arrived.messages, arrived.seconds()).timed("lateness", &lateness.late);
    findings.parts.extend([publish, dead.at_cost(cost)]);
    findings.faults.extend(sent.fault(messages));
    findings.faults.extend(lateness.faults("dead letters"));
    Ok(())
}

fn reject(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let [_, rejecting, dead] = names(&place.topology)?;
    let messages = options.messages.unwrap_or(MESSAGES);
    let sender = Sender::open(&place.uri, Message { routing_key: rejecting, persistent: true, ..Message::default() })?;
    let rejecter = Receiver::subscribe(&place.uri, &[rejecting.to_owned()], Answer::Reject)?;
    let receiver = Receiver::subscribe(&place.uri, &[dead.to_owned()], Answer::Ack)?;
    let (mut sent, mut rejected, mut arrived) = (Sent::default(), Arrived::default(), Arrived::default());
    let mut lateness = Lateness::new(0, messages);
    let flow = Flow {
        options,
        name: "reject",
        arrivals: messages,
        senders: vec![sender.task(messages, &mut sent, |_, _, _| ())],
        receivers: vec![
            rejecter.task(&mut rejected, |_| ()),
            receiver.task(&mut arrived, |arrival| lateness.see(arrival)),
        ],
    };
    let cost = flow.run()?;
    let part = Part::new("reject, end to end", arrived.messages, sent.seconds_until(&arrived));
    findings.parts.push(part.timed("publish to dead letter", &lateness.late).at_cost(cost));
    findings.faults.extend(sent.fault(messages));
    findings.faults.extend(lateness.faults("rejected messages"));
    Ok(())
}
