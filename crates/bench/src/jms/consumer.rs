//! One consuming thread: large reads, and acknowledgements gathered into one write per read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::Thread;
use std::time::Duration;

use super::dialect::{AckMode, Delivery, Destination, Dialect, SETUP, Signal, Subscription};
use super::link::Link;
use crate::batch::STAMP_BYTES;
use crate::control::{Control, Counters};
use crate::error::Error;
use crate::histogram::Histogram;
use crate::inbox::Fill;
use crate::options::Options;

const GOODBYE_WAIT: Duration = Duration::from_secs(2);
/// With OpenWire, where nothing else is said: half of what Java's clients prefetch of a queue, which is what they do
/// with `DUPS_OK_ACKNOWLEDGE`.
const LAZY_ACK: u64 = 500;

pub(crate) struct Consumer {
    link: Link,
    tally: Tally,
    counters: Arc<Counters>,
    /// With one message in flight: the publisher that waits for the delivery.
    waiting: Option<Thread>,
}

/// How a load's consumers acknowledge: in which way, and once for how many deliveries.
pub(crate) fn manner(options: &Options, dialect: Dialect) -> (AckMode, u64) {
    match (options.ack, options.ack_multiple) {
        (false, _) if dialect == Dialect::Stomp => (AckMode::Auto, 0),
        (false, _) => {
            (AckMode::Range, if options.prefetch > 0 { (u64::from(options.prefetch) / 2).max(1) } else { LAZY_ACK })
        }
        (true, 1) => (AckMode::Each, 1),
        (true, every) => (AckMode::Range, every),
    }
}

/// What has come and is not acknowledged.
pub(crate) struct Acks {
    dialect: Dialect,
    mode: AckMode,
    every: u64,
    destination: (String, bool),
    client: String,
    count: u64,
    first: Vec<u8>,
    last: Vec<u8>,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
}

impl Acks {
    pub(crate) fn new(dialect: Dialect, subscription: &Subscription<'_>, every: u64) -> Self {
        let Subscription { destination, client, mode, .. } = *subscription;
        let (destination, client) = ((destination.name.to_owned(), destination.is_topic), client.to_owned());
        let (first, last, out) = (Vec::new(), Vec::new(), Vec::new());
        Self { dialect, mode, every, destination, client, count: 0, first, last, out }
    }

    /// Takes note of a delivery, and acknowledges if it is time.
    #[inline]
    pub(crate) fn see(&mut self, delivery: &Delivery<'_>) {
        if self.mode == AckMode::Auto {
            return;
        }
        if self.count == 0 {
            self.first.clear();
            self.first.extend_from_slice(delivery.id);
        }
        self.last.clear();
        self.last.extend_from_slice(delivery.id);
        self.count += 1;
        if self.count >= self.every {
            self.flush();
        }
    }

    /// Acknowledges what does not fill a multiple.
    pub(crate) fn flush(&mut self) {
        if self.count == 0 {
            return;
        }
        let (name, is_topic) = (&self.destination.0, self.destination.1);
        let subscription = Subscription {
            destination: Destination { name, is_topic },
            client: &self.client,
            prefetch: 0,
            mode: self.mode,
            selector: None,
        };
        self.dialect.acknowledge(&mut self.out, &subscription, [&self.first, &self.last], self.count);
        self.count = 0;
    }
}

/// What the deliveries have said so far.
struct Tally {
    acks: Acks,
    consumed: u64,
    redelivered: u64,
    latency: Histogram,
}

impl Tally {
    #[inline]
    fn see(&mut self, delivery: &Delivery<'_>, now: Option<u64>) {
        self.consumed += 1;
        self.redelivered += u64::from(delivery.is_redelivered);
        if let (Some(now), Some(stamp)) = (now, delivery.body.first_chunk::<STAMP_BYTES>()) {
            let sent_at = u64::from_be_bytes(*stamp);
            if sent_at != 0 {
                self.latency.record(now.saturating_sub(sent_at));
            }
        }
        self.acks.see(delivery);
    }
}

impl Consumer {
    /// Subscribes on a connection of its own.
    pub(crate) fn subscribe(
        mut link: Link,
        subscription: &Subscription<'_>,
        ack_every: u64,
        counters: Arc<Counters>,
    ) -> Result<Self, Error> {
        let acks = Acks::new(link.dialect, subscription, ack_every);
        let mut tally = Tally { acks, consumed: 0, redelivered: 0, latency: Histogram::default() };
        let subscribe = link.dialect.subscribe(SETUP, subscription);
        link.call(&subscribe, SETUP, |delivery| tally.see(&delivery, None))?;
        Ok(Self { link, tally, counters, waiting: None })
    }

    pub(crate) fn notifies(&mut self, publisher: Thread) {
        self.waiting = Some(publisher);
    }

    /// Consumes until the load is stopped; returns the delivery latencies of the measured window.
    pub(crate) fn run(mut self, control: &Control) -> Result<Histogram, Error> {
        while !control.is_stopped() {
            if self.link.fill()? == Fill::Nothing {
                self.tally.acks.flush();
            } else {
                self.take_deliveries(control)?;
            }
            let Self { link, tally, .. } = &mut self;
            if !link.send_until(&tally.acks.out, || control.is_stopped())? {
                return Ok(self.tally.latency);
            }
            self.tally.acks.out.clear();
        }
        self.link.close(GOODBYE_WAIT).map(|()| self.tally.latency)
    }

    fn take_deliveries(&mut self, control: &Control) -> Result<(), Error> {
        let now = control.is_measuring().then(|| control.now());
        while let Some(signal) = self.link.next()? {
            if let Signal::Delivery(delivery) = signal {
                self.tally.see(&delivery, now);
            }
        }
        self.counters.received_bytes.store(self.link.inbox.received_bytes, Relaxed);
        self.counters.consumed.store(self.tally.consumed, Relaxed);
        self.counters.redelivered.store(self.tally.redelivered, Relaxed);
        if let Some(publisher) = &self.waiting {
            publisher.unpark();
        }
        Ok(())
    }
}
