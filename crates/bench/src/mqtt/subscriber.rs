//! The subscribers of one thread: large reads, messages taken where they lie, acknowledgements in one write per read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::link::{self, Link};
use super::poller::{Poller, Ready};
use super::tally::{Expected, Tally};
use super::wire::{DISCONNECT, Encoder, PUBCOMP, PUBLISH, PUBREL, SUBACK, Version};
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;

/// How long a thread sleeps before it looks whether the load is over.
const PATIENCE: Duration = Duration::from_millis(20);
/// A server that declares a queue for each of thousands of subscriptions takes its time.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Subscriber {
    pub(crate) link: Link,
    expected: Expected,
}

impl Subscriber {
    pub(crate) fn new(link: Link, expected: Expected) -> Self {
        Self { link, expected }
    }
}

/// The subscribers of one thread.
pub(crate) struct Subscribers {
    subscribers: Vec<Subscriber>,
    version: Version,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    poller: Poller,
    scratch: Vec<u8>,
    answers: Encoder,
    tally: Tally,
}

impl Subscribers {
    pub(crate) fn new(
        subscribers: Vec<Subscriber>,
        version: Version,
        body_size: usize,
        gate: Arc<Gate>,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let poller = Poller::new()?;
        for (key, subscriber) in subscribers.iter().enumerate() {
            poller.add(&subscriber.link, key as u64, false)?;
        }
        let scratch = link::scratch(body_size);
        let (answers, tally) = (Encoder::new(version), Tally::default());
        Ok(Self { subscribers, version, gate, counters, poller, scratch, answers, tally })
    }

    /// Takes deliveries until the load is stopped; returns the times from publish to delivery.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        let mut ready = Vec::new();
        while !control.is_stopped() {
            self.poller.wait(PATIENCE, &mut ready)?;
            for one in &ready {
                self.serve(*one, control)?;
            }
        }
        for subscriber in &mut self.subscribers {
            // Who does not listen any more need not hear it.
            let _ = super::dialer::leave(&mut subscriber.link, self.version);
        }
        Ok(self.tally.latency)
    }

    fn serve(&mut self, ready: Ready, control: &Control) -> Result<(), Error> {
        let Subscriber { link, expected } = &mut self.subscribers[ready.key as usize];
        if ready.can_write {
            link.flush()?;
        }
        if ready.can_read {
            let before = link.received_bytes;
            let (tally, answers, version) = (&mut self.tally, &mut self.answers, self.version);
            let is_measuring = control.is_measuring();
            let mut now = None;
            link.read(&mut self.scratch, |packet| match packet.kind {
                PUBLISH => {
                    // Behind the read, and once for all that it brought.
                    let now = if is_measuring { Some(*now.get_or_insert_with(|| control.now())) } else { None };
                    tally.take(&packet.arrival(version)?, expected, now, answers);
                    Ok(())
                }
                PUBREL => packet.settled().map(|(id, _)| answers.answer(PUBCOMP, id)),
                DISCONNECT => Err(packet.farewell()),
                _ => Err(Error::Protocol("a packet that no subscriber expects")),
            })?;
            if !answers.bytes.is_empty() {
                link.write(&answers.bytes)?;
                answers.bytes.clear();
            }
            self.counters.received_bytes.fetch_add(link.received_bytes - before, Relaxed);
            self.counters.redelivered.store(tally.doubled, Relaxed);
            self.counters.consumed.store(tally.consumed, Relaxed);
            self.gate.has_moved();
        }
        link.await_room(&self.poller, ready.key)
    }
}

/// Has every link subscribe to what `filters` says, and waits for all the answers.
pub(crate) fn subscribe_all(
    links: &mut [Link],
    filters: impl Fn(usize) -> Vec<String>,
    qos: u8,
    version: Version,
) -> Result<(), Error> {
    let (poller, mut ready) = (Poller::new()?, Vec::new());
    for (key, link) in links.iter_mut().enumerate() {
        let mut out = Encoder::new(version);
        out.subscribe(1, filters(key).iter().map(String::as_str), qos);
        link.write(&out.bytes)?;
        poller.add(&*link, key as u64, false)?;
        link.await_room(&poller, key as u64)?;
    }
    let (mut scratch, deadline, mut left) = (link::scratch(0), Instant::now() + SUBSCRIBE_WAIT, links.len());
    while left > 0 {
        if Instant::now() >= deadline {
            return Err(Error::Timeout("a subscription"));
        }
        poller.wait(PATIENCE, &mut ready)?;
        for one in &ready {
            let link = &mut links[one.key as usize];
            if one.can_write {
                link.flush()?;
                link.await_room(&poller, one.key)?;
            }
            link.read(&mut scratch, |packet| match packet.kind {
                SUBACK => {
                    left = left.saturating_sub(1);
                    grants(packet.granted(version)?, qos)
                }
                DISCONNECT => Err(packet.farewell()),
                _ => Ok(()),
            })?;
        }
    }
    Ok(())
}

/// A server that grants less than was asked for does not have it.
fn grants(codes: &[u8], qos: u8) -> Result<(), Error> {
    match codes.iter().find(|&&code| code != qos) {
        Some(&code) if code < 0x80 => Err(Error::Lacks("a subscription is granted a lower QoS")),
        Some(&code) => Err(Error::Refused { code: code.into(), text: "a subscription".to_owned() }),
        None => Ok(()),
    }
}
