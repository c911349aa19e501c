//! The publishers of one thread: in turn, as fast as the server takes it, within what may be under way, or by the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::gate::{Gate, Stall};
use super::inflight::Inflight;
use super::link::{self, Link};
use super::pace::{Due, Pace};
use super::poller::{Poller, Ready};
use super::stencil::Stencil;
use super::wire::{DISCONNECT, Encoder, PUBACK, PUBCOMP, PUBREC, Version};
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;

/// A write of this size costs the kernel far more than the call around it.
const WRITE_BYTES: usize = 64 * 1024;
/// At full speed every so many-th message carries its time: taking all of them would measure the tool.
const SAMPLE_EVERY: u64 = 61;
/// While there is room for more, what the server says is looked at once per so many rounds.
const ROUNDS_PER_LOOK: u32 = 8;
/// How long a thread sleeps before it looks whether the load is over.
const PATIENCE: Duration = Duration::from_millis(20);
/// What acknowledgements may take, once the load is over.
const FINISH_NS: u64 = 10_000_000_000;
/// The key of the gate's bell, beside those of the links.
const BELL: u64 = u64::MAX;

/// One connection.
pub(crate) struct Publisher {
    link: Link,
    stencils: Vec<Stencil>,
    next: usize,
    /// With QoS 1 and 2.
    inflight: Option<Inflight>,
}

impl Publisher {
    pub(crate) fn new(link: Link, stencils: Vec<Stencil>, inflight: Option<Inflight>) -> Self {
        Self { link, stencils, next: 0, inflight }
    }

    /// Messages that it may publish now.
    fn room(&self) -> usize {
        if self.link.is_stuck() { 0 } else { self.inflight.as_ref().map_or(usize::MAX, Inflight::room) }
    }

    fn is_idle(&self) -> bool {
        !self.link.is_stuck() && self.inflight.as_ref().is_none_or(Inflight::is_empty)
    }
}

/// How a thread shall publish.
pub(crate) struct Manner {
    pub(crate) version: Version,
    /// Messages per second of the whole thread; 0 is as fast as it goes.
    pub(crate) rate: u64,
    /// Messages that the thread publishes in all; `None` is without end.
    pub(crate) limit: Option<u64>,
    /// Every message carries its time, not only a sample.
    pub(crate) stamps_all: bool,
}

/// The publishers of one thread.
pub(crate) struct Publishers {
    publishers: Vec<Publisher>,
    manner: Manner,
    pace: Option<Pace>,
    gate: Arc<Gate>,
    /// Which thread this is, to the gate.
    thread: usize,
    counters: Arc<Counters>,
    poller: Poller,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
    out: Vec<u8>,
    answers: Encoder,
    /// Whose turn it is.
    turn: usize,
    published: u64,
    due: u64,
    rounds: u32,
    stall: Stall,
    latency: Histogram,
}

/// What kept a round from publishing.
enum Round {
    Published,
    /// The sockets or the acknowledgements.
    Links,
    /// Deliveries are under way.
    Gate,
    /// The clock, until then.
    Clock(u64),
}

impl Publishers {
    pub(crate) fn new(
        publishers: Vec<Publisher>,
        manner: Manner,
        gate: Arc<Gate>,
        thread: usize,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let poller = Poller::new()?;
        for (key, publisher) in publishers.iter().enumerate() {
            poller.add(&publisher.link, key as u64, false)?;
        }
        if let Some(bell) = gate.bell(thread) {
            poller.add(bell, BELL, false)?;
        }
        Ok(Self {
            publishers,
            answers: Encoder::new(manner.version),
            manner,
            pace: None,
            gate,
            thread,
            counters,
            poller,
            ready: Vec::new(),
            scratch: link::scratch(0),
            out: Vec::with_capacity(2 * WRITE_BYTES),
            turn: 0,
            published: 0,
            due: 0,
            rounds: 0,
            stall: Stall::default(),
            latency: Histogram::default(),
        })
    }

    /// Publishes until the load is over or the limit is reached; returns the times until acknowledgement.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        self.pace = (self.manner.rate > 0).then(|| Pace::new(self.manner.rate, control.now()));
        while !control.is_settling() && self.left() > 0 {
            self.rounds += 1;
            let round = self.round(control.now())?;
            let timeout = match round {
                Round::Published if self.rounds.is_multiple_of(ROUNDS_PER_LOOK) => Duration::ZERO,
                Round::Published => continue,
                Round::Links => PATIENCE,
                Round::Clock(at) => Duration::from_nanos(at.saturating_sub(control.now())).min(PATIENCE),
                Round::Gate => {
                    self.stall.look(&self.gate, control.now());
                    let copies = self.publishers.iter().flat_map(|one| &one.stencils).map(|one| one.copies).max();
                    if self.gate.sleep(self.thread, copies.unwrap_or(0)) { PATIENCE } else { Duration::ZERO }
                }
            };
            self.wait(timeout, control)?;
        }
        self.finish(control)?;
        Ok(self.latency)
    }

    fn left(&self) -> u64 {
        self.manner.limit.map_or(u64::MAX, |limit| limit - self.published)
    }

    /// Lets each publisher that can publish its share.
    fn round(&mut self, now: u64) -> Result<Round, Error> {
        let (mut budget, stamp) = match self.pace.as_ref().map(|pace| pace.due(now)) {
            None => (self.left(), now),
            Some(Due::Now(messages, stamp)) => (messages.min(self.left()), stamp),
            Some(Due::At(at)) => return Ok(Round::Clock(at)),
        };
        let room = self.gate.room();
        let mut deliveries = room;
        let links = self.publishers.len();
        let share = budget.div_ceil(links as u64);
        let (before, mut is_gate) = (self.published, false);
        for _ in 0..links {
            let turn = self.turn;
            self.turn = (turn + 1) % links;
            let publisher = &self.publishers[turn];
            let stencil = &publisher.stencils[publisher.next];
            let fits = (WRITE_BYTES / stencil.length()).max(1).min(publisher.room());
            let mut wanted = share.min(fits as u64).min(budget);
            if stencil.copies > 0 && wanted > 0 {
                // What may be under way is divided among all, so that the first does not take it alone.
                let admitted = (deliveries / stencil.copies).min((room / stencil.copies).div_ceil(links as u64));
                is_gate |= admitted == 0;
                wanted = wanted.min(admitted);
            }
            if wanted == 0 {
                if is_gate || budget == 0 {
                    break;
                }
                continue;
            }
            let caused = self.publish(turn, wanted, stamp)?;
            budget -= wanted;
            deliveries = deliveries.saturating_sub(caused);
        }
        Ok(match self.published > before {
            true => Round::Published,
            false if is_gate => Round::Gate,
            false => Round::Links,
        })
    }

    /// Sends so many messages of one publisher in one write; returns how many deliveries that causes.
    fn publish(&mut self, turn: usize, messages: u64, now: u64) -> Result<u64, Error> {
        let publisher = &mut self.publishers[turn];
        self.out.clear();
        let mut caused = 0;
        for number in self.published..self.published + messages {
            let id = publisher.inflight.as_mut().map_or(0, |inflight| inflight.take(now));
            let is_stamped = self.manner.stamps_all || number.is_multiple_of(SAMPLE_EVERY);
            let stencil = &mut publisher.stencils[publisher.next];
            stencil.copy(&mut self.out, id, if is_stamped { now } else { 0 });
            caused += stencil.copies;
            publisher.next = (publisher.next + 1) % publisher.stencils.len();
        }
        self.published += messages;
        self.due += caused;
        // Before the write, because the deliveries may be here before the write returns.
        self.counters.due.store(self.due, Relaxed);
        publisher.link.write(&self.out)?;
        self.counters.published.store(self.published, Relaxed);
        if let Some(pace) = &mut self.pace {
            pace.published(messages);
        }
        publisher.link.await_room(&self.poller, turn as u64)?;
        Ok(caused)
    }

    /// Waits for acknowledgements, for sockets that take more, or for the bell.
    fn wait(&mut self, timeout: Duration, control: &Control) -> Result<(), Error> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(timeout, &mut ready)?;
        for one in &ready {
            if one.key == BELL {
                continue;
            }
            let turn = one.key as usize;
            if one.can_write {
                let link = &mut self.publishers[turn].link;
                link.flush()?;
                link.await_room(&self.poller, one.key)?;
            }
            if one.can_read {
                self.listen(turn, control)?;
            }
        }
        self.ready = ready;
        self.gate.wake(self.thread);
        Ok(())
    }

    fn listen(&mut self, turn: usize, control: &Control) -> Result<(), Error> {
        let Publisher { link, inflight, .. } = &mut self.publishers[turn];
        let (now, answers) = (control.now(), &mut self.answers);
        let mut latency = control.is_measuring().then_some(&mut self.latency);
        let before = link.received_bytes;
        let settled = |inflight: &Option<Inflight>| inflight.as_ref().map_or((0, 0), |one| (one.acked, one.nacked));
        let (acked, nacked) = settled(inflight);
        link.read(&mut self.scratch, |packet| match (packet.kind, inflight.as_mut()) {
            (PUBACK | PUBREC | PUBCOMP, Some(inflight)) => {
                inflight.settle(packet.kind, packet.settled()?, answers, now, latency.as_deref_mut())
            }
            (DISCONNECT, _) => Err(packet.farewell()),
            _ => Err(Error::Protocol("a packet that no publisher expects")),
        })?;
        self.counters.received_bytes.fetch_add(link.received_bytes - before, Relaxed);
        let (acked_now, nacked_now) = settled(inflight);
        self.counters.confirmed.fetch_add(acked_now - acked, Relaxed);
        self.counters.nacked.fetch_add(nacked_now - nacked, Relaxed);
        if !self.answers.bytes.is_empty() {
            let link = &mut self.publishers[turn].link;
            link.write(&self.answers.bytes)?;
            self.answers.bytes.clear();
            link.await_room(&self.poller, turn as u64)?;
        }
        Ok(())
    }

    /// Waits until all that was published has been taken and acknowledged, and says goodbye.
    fn finish(&mut self, control: &Control) -> Result<(), Error> {
        let until = control.now() + FINISH_NS;
        while control.now() < until && !self.publishers.iter().all(Publisher::is_idle) {
            self.wait(PATIENCE, control)?;
        }
        for publisher in &mut self.publishers {
            // Who does not listen any more need not hear it.
            let _ = super::dialer::leave(&mut publisher.link, self.manner.version);
        }
        Ok(())
    }
}
