//! A queue with ten priorities: filled, then drained in their order, and both at once.

use super::arrivals::{Lateness, Seen};
use super::findings::{Findings, Part};
use super::flow::Flow;
use super::mold::Cast;
use super::receiver::{Answer, Arrival, Arrived, Receiver};
use super::sender::{Sender, Sent};
use super::{MESSAGES, declare};
use crate::connection::Connection;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{self, Place};
use crate::options::Options;
use crate::topology::Topology;
use crate::wire::Message;

/// They are 0 to 9; the queue has one more, as most people declare it.
const PRIORITIES: u8 = 10;

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let declare = |connection: &mut Connection, topology: &Topology| {
        topology.queues.iter().try_for_each(|queue| {
            declare::queue(connection, options, queue, |table| {
                table.number_field("x-max-priority", PRIORITIES.into());
            })
        })
    };
    load::with_topology(options, Topology::named(options, 1, false), janitor, declare, |place| {
        let mut findings = Findings::at(options, place);
        fill(options, place, &mut findings)?;
        drain(options, place, &mut findings)?;
        live(options, place, &mut findings)?;
        Ok(findings)
    })
}

fn priority_of(index: u64) -> u8 {
    (index % u64::from(PRIORITIES)) as u8
}

fn shape(index: u64, _now: u64, cast: &mut Cast<'_>) {
    cast.priority(priority_of(index));
}

fn sender(place: &Place) -> Result<Sender, Error> {
    let routing_key = place.topology.queues.first().map(String::as_str).unwrap_or_default();
    Sender::open(&place.uri, Message { routing_key, persistent: true, priority: Some(0), ..Message::default() })
}

fn fill(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let (sender, mut sent) = (sender(place)?, Sent::default());
    let senders = vec![sender.task(messages, &mut sent, shape)];
    let cost = Flow { options, name: "fill", arrivals: 0, senders, receivers: Vec::new() }.run()?;
    let part = Part::new("publish", sent.confirmed, sent.seconds()).timed("confirm", &sent.latency);
    findings.parts.push(part.at_cost(cost));
    findings.faults.extend(sent.fault(messages));
    Ok(())
}

fn drain(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let receiver = Receiver::subscribe(&place.uri, &place.topology.queues, Answer::Ack)?;
    let (mut arrived, mut order, mut seen) = (Arrived::default(), Order::default(), Seen::new(messages));
    let receivers = vec![receiver.task(&mut arrived, |arrival| {
        order.see(arrival);
        seen.mark(arrival.index);
    })];
    let cost = Flow { options, name: "drain", arrivals: messages, senders: Vec::new(), receivers }.run()?;
    findings.parts.push(Part::new("drain", arrived.messages, arrived.seconds()).at_cost(cost));
    findings.faults.extend(order.fault());
    findings.faults.extend(seen.faults("drained messages"));
    Ok(())
}

fn live(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let receiver = Receiver::subscribe(&place.uri, &place.topology.queues, Answer::Ack)?;
    let (sender, mut sent, mut arrived) = (sender(place)?, Sent::default(), Arrived::default());
    let mut latency = Lateness::new(0, messages);
    let flow = Flow {
        options,
        name: "live",
        arrivals: messages,
        senders: vec![sender.task(messages, &mut sent, shape)],
        receivers: vec![receiver.task(&mut arrived, |arrival| latency.see(arrival))],
    };
    let cost = flow.run()?;
    let part = Part::new("live", arrived.messages, sent.seconds_until(&arrived));
    findings.parts.push(part.timed("publish to delivery", &latency.late).at_cost(cost));
    findings.faults.extend(sent.fault(messages));
    findings.faults.extend(latency.faults("live messages"));
    Ok(())
}

/// The order in which a full queue is drained: by priority, the highest first, and in each as published.
#[derive(Default)]
struct Order {
    last: Option<(u8, u64)>,
    wrong: u64,
}

impl Order {
    fn see(&mut self, arrival: &Arrival) {
        let now = (priority_of(arrival.index), arrival.index);
        let is_in_order = |last: (u8, u64)| last.0 > now.0 || (last.0 == now.0 && last.1 < now.1);
        self.wrong += u64::from(!self.last.is_none_or(is_in_order));
        self.last = Some(now);
    }

    fn fault(&self) -> Option<String> {
        (self.wrong > 0).then(|| format!("{} messages were drained out of the order of priorities", self.wrong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(indices: &[u64]) -> Option<String> {
        let mut order = Order::default();
        indices.iter().for_each(|&index| order.see(&Arrival { at: 0, time: 0, index, stream_offset: None }));
        order.fault()
    }

    #[test]
    fn higher_priorities_come_first_and_equal_ones_as_published() {
        assert_eq!(fault(&[9, 19, 29, 8, 18, 0, 10]), None);
        assert!(fault(&[9, 8, 19]).is_some_and(|text| text.starts_with("1 messages")));
        assert!(fault(&[19, 9]).is_some());
        assert!(fault(&[9, 9]).is_some());
    }
}
