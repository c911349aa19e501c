//! Who is told of what happens to messages, if somebody wants to know: ActiveMQ has advisories of that.

use std::sync::Arc;

use super::Broker;
use crate::{
    message::Message,
    outlet::{ConsumerKey, Outlet},
    publish::{Batch, Body, Route},
    queue::{Aftermath, Departure, Reason},
    topology::QueueInfo,
};

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A message has come to a queue.
    Queued,
    /// One that is not durable has come to a queue that nobody consumes.
    Unattended,
    /// A consumer is done with a message.
    Consumed,
    /// A message's time was over.
    Expired,
    /// A message has become a dead letter in another queue.
    DeadLettered,
    /// A message is gone, because there were too many or nobody could digest it.
    Dropped,
    /// A message has to wait for a consumer that may have no more.
    Slow,
}

/// What somebody wants to know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// The same, and one thing more.
    #[must_use]
    pub fn with(self, happening: Happening) -> Self {
        Self(self.0 | 1 << happening as u8)
    }

    /// Whether somebody wants to know of it.
    pub fn has(self, happening: Happening) -> bool {
        self.0 & 1 << happening as u8 != 0
    }

    /// As a number.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`].
    pub fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// Something that has happened.
#[derive(Debug)]
pub struct Happened {
    /// What.
    pub what: Happening,
    /// The queue where it did.
    pub queue: Arc<QueueInfo>,
    /// To whom or what.
    pub subject: Subject,
}

/// To whom or what something has happened.
#[derive(Debug)]
pub enum Subject {
    /// A message, as it was in the queue.
    Message(Arc<Message>),
    /// A consumer.
    Consumer(Arc<dyn Outlet>, ConsumerKey),
}

/// A message that is to be published, and its way.
pub type Notice = (Arc<Route>, Arc<Message>);

/// Is told of what happens.
pub trait Witness: Send + Sync + std::fmt::Debug {
    /// What it wants to know of. This is asked whenever something is done with queues, under no lock.
    fn interest(&self) -> Interest;

    /// Something has happened that it wants to know of. Returns what is to be published because of that. No lock is held.
    fn tell(&self, broker: &Broker, happened: &Happened) -> Vec<Notice>;
}

impl Broker {
    /// Has somebody told of what happens from now on. There is one at most; a second one is not told.
    pub fn set_witness(&self, witness: Arc<dyn Witness>) {
        let _ = self.witness.set(witness);
    }

    /// What somebody wants to know of.
    pub(super) fn interest(&self) -> Interest {
        self.witness.get().map_or(Interest::default(), |witness| witness.interest())
    }

    /// Notes what became of a message that has left its queue, and whether that got it anywhere.
    pub(super) fn note_departure(&self, departure: &Departure, has_arrived: bool, after: &mut Aftermath) {
        let mut note = |what| {
            let message = Arc::clone(&departure.message);
            after.note(what, &departure.queue, || Subject::Message(message));
        };
        match departure.reason {
            Reason::Delayed => return,
            Reason::Expired => note(Happening::Expired),
            _ if !has_arrived => note(Happening::Dropped),
            _ => {}
        }
        if has_arrived {
            note(Happening::DeadLettered);
        }
    }

    /// Tells of what has happened.
    pub(crate) fn tell_witness(&self, happened: Vec<Happened>, after: &mut Aftermath) {
        let Some(witness) = self.witness.get().filter(|_| !happened.is_empty()) else { return };
        let mut batch = Batch::default();
        for (route, message) in happened.iter().flat_map(|happened| witness.tell(self, happened)) {
            batch.publish(route, Body::Owned(message), 0);
        }
        self.apply_to(&mut batch, after);
    }
}

impl Aftermath {
    /// Notes something that somebody wants to know of.
    pub(crate) fn note(&mut self, what: Happening, queue: &Arc<QueueInfo>, subject: impl FnOnce() -> Subject) {
        if self.interest.has(what) && !queue.queue_type.is_internal() {
            self.happened.push(Happened { what, queue: Arc::clone(queue), subject: subject() });
        }
    }
}
