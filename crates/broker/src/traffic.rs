//! How much goes through: counters of connections, channels, queues and exchanges.
//!
//! Each counter is written by one thread at a time, under a lock that is held anyway, so that counting costs a store and no
//! more. Anybody may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Something that happens to messages and is counted, as RabbitMQ tells events apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client published a message.
    Publish,
    /// It was told that the message is safe.
    Confirm,
    /// It got a message back that led nowhere.
    Return,
    /// A message led nowhere, and nobody wanted to know.
    Drop,
    /// A message went to a consumer that has to acknowledge it.
    Deliver,
    /// A message went to a consumer that need not.
    DeliverNoAck,
    /// A message was fetched, to be acknowledged.
    Get,
    /// A message was fetched and is done.
    GetNoAck,
    /// There was nothing to fetch.
    GetEmpty,
    /// One of these had been delivered before.
    Redeliver,
    /// A message was acknowledged.
    Acknowledge,
}

/// How many events there are.
pub const EVENTS: usize = Event::Acknowledge as usize + 1;

impl Event {
    /// All of them.
    pub const ALL: [Self; EVENTS] = [
        Self::Publish,
        Self::Confirm,
        Self::Return,
        Self::Drop,
        Self::Deliver,
        Self::DeliverNoAck,
        Self::Get,
        Self::GetNoAck,
        Self::GetEmpty,
        Self::Redeliver,
        Self::Acknowledge,
    ];
}

/// How often each event has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; EVENTS]);

impl Counts {
    /// How often one has.
    pub fn get(&self, event: Event) -> u64 {
        self.0[event as usize]
    }

    /// Counts some more.
    pub fn add(&mut self, event: Event, number: u64) {
        self.0[event as usize] += number;
    }

    /// Adds up.
    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    /// Deliveries of every kind.
    pub fn delivered(&self) -> u64 {
        [Event::Deliver, Event::DeliverNoAck, Event::Get, Event::GetNoAck]
            .into_iter()
            .map(|event| self.get(event))
            .sum()
    }
}

/// A number that one thread at a time adds to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts some more. Who calls this holds what keeps others from doing so.
    pub fn add(&self, number: u64) {
        self.0.store(self.get() + number, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of something that several look at.
#[derive(Debug, Default)]
pub struct Traffic([Counter; EVENTS]);

impl Traffic {
    /// Counts some more; see [`Counter::add`].
    pub fn add(&self, event: Event, number: u64) {
        self.0[event as usize].add(number);
    }

    /// All counts.
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|index| self.0[index].get()))
    }

    /// Takes over what another has counted.
    pub fn take_over(&self, other: &Counts) {
        self.0.iter().zip(other.0).for_each(|(counter, number)| counter.add(number));
    }
}

/// What goes through an exchange: any thread may count here.
#[derive(Debug, Default)]
pub struct ExchangeTraffic {
    published_in: AtomicU64,
    published_out: AtomicU64,
}

impl ExchangeTraffic {
    /// Counts messages that came, and the queues that they went to.
    pub fn add(&self, came: u64, went: u64) {
        self.published_in.fetch_add(came, Ordering::Relaxed);
        self.published_out.fetch_add(went, Ordering::Relaxed);
    }

    /// Messages that came, and the queues that they went to.
    pub fn counts(&self) -> (u64, u64) {
        (self.published_in.load(Ordering::Relaxed), self.published_out.load(Ordering::Relaxed))
    }
}
