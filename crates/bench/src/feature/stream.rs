//! A stream is written, then replayed from its beginning by one reader and by three at once.

use super::declare;
use super::findings::{Findings, Part};
use super::flow::{Flow, Task};
use super::receiver::{Arrival, Arrived, Receiver};
use super::sender::{Sender, Sent};
use crate::connection::Connection;
use crate::disk;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::load::{self, Place};
use crate::options::Options;
use crate::topology::Topology;
use crate::wire::Message;

const MESSAGES: u64 = 1_000_000;
/// The readings, each with its name and its number of readers.
const REPLAYS: [(&str, usize); 2] = [("replay by 1", 1), ("replay by 3", 3)];

pub(crate) fn measure(options: &Options, janitor: &mut Janitor) -> Result<Findings, Error> {
    let label = options.queue_type.clone();
    let options = &Options { queue_type: Some("stream".to_owned()), ..options.clone() };
    let declare =
        |connection: &mut Connection, topology: &Topology| declare::queues(connection, options, &topology.queues);
    let topology = Topology::named(options, 1, false);
    load::with_topology(options, topology, janitor, declare, |place| {
        let mut findings = Findings::at(&Options { queue_type: label, ..options.clone() }, place);
        write(options, place, &mut findings)?;
        for (name, readers) in REPLAYS {
            replay(options, place, (name, readers), &mut findings)?;
        }
        Ok(findings)
    })
}

fn stream(place: &Place) -> &str {
    place.topology.queues.first().map(String::as_str).unwrap_or_default()
}

fn write(options: &Options, place: &Place, findings: &mut Findings) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let like = Message { routing_key: stream(place), persistent: true, ..Message::default() };
    let (sender, mut sent) = (Sender::open(&place.uri, like)?, Sent::default());
    let senders = vec![sender.task(messages, &mut sent, |_, _, _| ())];
    let cost = Flow { options, name: "write", arrivals: 0, senders, receivers: Vec::new() }.run()?;
    let disk_bytes = options.server_data.as_deref().map(disk::allocated_bytes).transpose()?;
    let part = Part::new("write", sent.confirmed, sent.seconds()).with_bytes(options.size).at_cost(cost);
    findings.parts.push(Part { disk_bytes, ..part.timed("confirm", &sent.latency) });
    findings.faults.extend(sent.fault(messages));
    Ok(())
}

fn replay(
    options: &Options,
    place: &Place,
    (name, readers): (&'static str, usize),
    findings: &mut Findings,
) -> Result<(), Error> {
    let messages = options.messages.unwrap_or(MESSAGES);
    let mut states: Vec<(Arrived, Offsets)> = vec![Default::default(); readers];
    let receivers = states.iter_mut().map(|(arrived, offsets)| {
        let receiver = Receiver::replay(&place.uri, stream(place))?;
        Ok(receiver.task(arrived, |arrival| offsets.see(arrival)))
    });
    let receivers: Vec<Task<'_>> = receivers.collect::<Result<_, Error>>()?;
    let arrivals = messages * readers as u64;
    let cost = Flow { options, name, arrivals, senders: Vec::new(), receivers }.run()?;
    let arrived: u64 = states.iter().map(|(arrived, _)| arrived.messages).sum();
    let first_at = states.iter().map(|(arrived, _)| arrived.first_at).min().unwrap_or(0);
    let last_at = states.iter().map(|(arrived, _)| arrived.last_at).max().unwrap_or(0);
    let seconds = last_at.saturating_sub(first_at) as f64 / 1e9;
    findings.parts.push(Part::new(name, arrived, seconds).with_bytes(options.size).at_cost(cost));
    let faults = states.iter().filter_map(|(_, offsets)| offsets.fault(messages));
    findings.faults.extend(faults.map(|fault| format!("{name}: {fault}")));
    Ok(())
}

/// What one reader saw. All readers see the same if each message has its own number as its offset.
#[derive(Clone, Copy, Default)]
struct Offsets {
    next: u64,
    wrong: u64,
}

impl Offsets {
    fn see(&mut self, arrival: &Arrival) {
        self.wrong += u64::from(arrival.stream_offset != Some(self.next) || arrival.index != self.next);
        self.next += 1;
    }

    fn fault(&self, messages: u64) -> Option<String> {
        let Self { next, wrong } = self;
        (*wrong > 0 || *next != messages)
            .then(|| format!("a reader got {next} of {messages} messages, {wrong} with a wrong offset"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_run_without_a_gap_and_are_those_of_the_messages() {
        let fault = |seen: &[(u64, Option<u64>)]| {
            let mut offsets = Offsets::default();
            seen.iter().for_each(|&(index, stream_offset)| {
                offsets.see(&Arrival { at: 0, time: 0, index, stream_offset });
            });
            offsets.fault(2)
        };
        assert_eq!(fault(&[(0, Some(0)), (1, Some(1))]), None);
        for wrong in [vec![(0, Some(0)), (1, Some(2))], vec![(1, Some(0)), (0, Some(1))], vec![(0, None), (1, None)]] {
            assert!(fault(&wrong).is_some(), "{wrong:?}");
        }
        assert_eq!(fault(&[(0, Some(0))]).unwrap(), "a reader got 1 of 2 messages, 0 with a wrong offset");
    }
}
