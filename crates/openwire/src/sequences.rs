//! How far producers have come, so that a message is not there twice whose answer was lost with its connection.
//!
//! Clients that come back by themselves (`failover:`) send again what was not answered, by the same producers and numbers. With
//! each persistent message of theirs that the log keeps, it keeps the message's number too; it forgets them once the producer is
//! closed. ActiveMQ's stores do the same (`PersistenceAdapter.getLastProducerSequenceId`).

use std::collections::{HashMap, VecDeque};

use broker::{Broker, publish::Batch};
use parking_lot::Mutex;

use crate::{ORIGIN, ids::ProducerId};

/// How the keys of notes begin.
const PRODUCER: u8 = b'p';

/// Producers without a connection of which it is known how far they have come.
const ABSENT: usize = 100_000;

/// How far the producers have come that have no connection now.
#[derive(Debug, Default)]
pub struct Sequences(Mutex<Absent>);

#[derive(Debug, Default)]
struct Absent {
    last: HashMap<Box<[u8]>, i64>,
    /// In the order in which they went; some have come back since.
    order: VecDeque<Box<[u8]>>,
}

/// How far a producer has come whose client comes back by itself.
#[derive(Debug)]
pub struct Sequence {
    key: Box<[u8]>,
    /// The number of the last message that the log keeps, or may keep.
    last: Option<i64>,
    /// Whether it has come back, so that messages may come again.
    came_back: bool,
}

impl Sequences {
    /// Takes in a note of an earlier run of the broker. Returns whether it is one of these.
    pub(crate) fn restore(&self, key: &[u8], value: &[u8]) -> bool {
        let (Some(&PRODUCER), Some(last)) = (key.first(), value.first_chunk()) else { return false };
        let mut absent = self.0.lock();
        absent.last.insert(key.into(), i64::from_be_bytes(*last));
        absent.order.push_back(key.into());
        true
    }

    /// A producer comes, or comes back.
    pub fn come(&self, id: &ProducerId<'_>) -> Sequence {
        let mut key = vec![PRODUCER];
        key.extend_from_slice(id.to_string().as_bytes());
        let key = key.into_boxed_slice();
        let last = self.0.lock().last.remove(&key);
        Sequence { key, last, came_back: last.is_some() }
    }

    /// A producer's connection is gone.
    pub fn go(&self, broker: &Broker, sequence: Sequence) {
        let Some(last) = sequence.last else { return };
        let mut absent = self.0.lock();
        absent.last.insert(sequence.key.clone(), last);
        absent.order.push_back(sequence.key);
        let mut forgotten = Batch::default();
        while absent.order.len() > ABSENT {
            let oldest = absent.order.pop_front().unwrap_or_default();
            if absent.last.remove(&oldest).is_some() {
                forgotten.note(ORIGIN, &oldest, None);
            }
        }
        drop(absent);
        if !forgotten.is_empty() {
            broker.apply(&mut forgotten);
        }
    }
}

impl Sequence {
    /// Whether a message is there already.
    pub fn has(&self, number: i64) -> bool {
        self.came_back && self.last.is_some_and(|last| number <= last)
    }

    /// A message comes with the batch.
    pub fn put(&mut self, batch: &mut Batch<'_>, number: i64) {
        self.last = Some(self.last.map_or(number, |last| last.max(number)));
        batch.note(ORIGIN, &self.key, Some(&number.to_be_bytes()));
    }

    /// Adds something to the batch that is safe only once all is that came before.
    pub fn put_again(&self, batch: &mut Batch<'_>) {
        if let Some(last) = self.last {
            batch.note(ORIGIN, &self.key, Some(&last.to_be_bytes()));
        }
    }

    /// The producer is closed, and will not come back.
    pub fn forget(&self, batch: &mut Batch<'_>) {
        if self.last.is_some() {
            batch.note(ORIGIN, &self.key, None);
        }
    }
}
