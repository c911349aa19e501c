//! Numbered messages in bulk: who publishes them, who takes them, and whether all came and in their order.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::raw::{Address, Connection, Event, Fields, Happening};
use crate::server::Server;

/// How long anybody waits for a message or a confirm that must come.
pub const LONG: Duration = Duration::from_secs(30);
/// Publishes of one publisher that may wait for their confirms.
const WINDOW: usize = 4096;
const WRITE_BYTES: usize = 64 * 1024;
const NUMBERS_LEN: usize = 16;

pub fn address(server: &Server) -> Address {
    Address::parse(&server.uri())
}

pub fn connect(server: &Server) -> Connection {
    Connection::ready(&address(server))
}

/// How many messages of a queue wait.
pub fn depth(connection: &mut Connection, queue: &str) -> u64 {
    let event = connection.call(1, "queue.declare", &format!("queue={queue} passive"));
    event.method().expect("it is a method").number("message_count")
}

/// Says whose message it is, and all of its bytes can be told from that.
pub fn write_body(publisher: u64, sequence: u64, size: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(size + 8);
    body.extend(publisher.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    let mut state = sequence ^ publisher << 48;
    while body.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.extend(state.to_be_bytes());
    }
    body.truncate(size);
    body
}

/// Whose message it is; panics if it is not as it was written.
pub fn read_body(body: &[u8]) -> (u64, u64) {
    let (numbers, _) = body.split_at_checked(NUMBERS_LEN).expect("the body has two numbers");
    let number = |at: usize| u64::from_be_bytes(numbers[at..at + 8].try_into().expect("eight bytes"));
    let (publisher, sequence) = (number(0), number(8));
    assert!(body == write_body(publisher, sequence, body.len()), "message {publisher}/{sequence} has another body");
    (publisher, sequence)
}

/// What a publisher publishes.
#[derive(Clone, Copy)]
pub struct Load {
    pub queue: &'static str,
    pub persistent: bool,
    pub size: usize,
}

/// Publishes messages with the sequence numbers 1, 2, …, with confirms.
pub struct Publisher {
    pub connection: Connection,
    pub number: u64,
    /// Sequence numbers that are not confirmed.
    pub outstanding: BTreeSet<u64>,
    /// Whether the broker has said that it waits.
    pub blocked: Option<String>,
    last: u64,
    /// The sequence number before the one with delivery tag 1.
    base: u64,
}

impl Publisher {
    pub fn new(server: &Server, number: u64) -> Self {
        Self::after(server, number, 0)
    }

    /// Goes on after a sequence number, as after a restart of the broker.
    pub fn after(server: &Server, number: u64, last: u64) -> Self {
        let mut connection = connect(server);
        connection.call(1, "confirm.select", "");
        Self { connection, number, outstanding: BTreeSet::new(), blocked: None, last, base: last }
    }

    /// The sequence number that was published last.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Up to here everything is confirmed.
    pub fn confirmed(&self) -> u64 {
        self.outstanding.first().map_or(self.last, |first| first - 1)
    }

    /// Publishes `count` messages and waits until all are confirmed.
    pub fn publish(&mut self, load: Load, count: u64) {
        self.send(load, count);
        self.wait();
    }

    /// Publishes `count` messages, as quickly as confirms come.
    pub fn send(&mut self, load: Load, count: u64) {
        let fields = Fields::default().with("routing_key", load.queue);
        let fields = if load.persistent { fields.with("delivery_mode", "2") } else { fields };
        self.send_each(count, load.size, |_| &fields);
    }

    /// Publishes `count` messages of a size, each with what `fields` says for its sequence number.
    pub fn send_each<F: Borrow<Fields>>(&mut self, count: u64, size: usize, fields: impl Fn(u64) -> F) {
        let mut bytes = Vec::new();
        for left in (0..count).rev() {
            self.last += 1;
            self.outstanding.insert(self.last);
            let body = write_body(self.number, self.last, size);
            bytes.extend(self.connection.message(1, fields(self.last).borrow(), &body));
            if bytes.len() >= WRITE_BYTES || left == 0 {
                self.connection.send_bytes(&std::mem::take(&mut bytes));
                while self.outstanding.len() > WINDOW {
                    assert!(self.poll(LONG), "{} publishes are not confirmed", self.outstanding.len());
                }
            }
        }
    }

    /// Waits until everything is confirmed.
    pub fn wait(&mut self) {
        let end = Instant::now() + LONG;
        while !self.outstanding.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.poll(left), "{} publishes are not confirmed", self.outstanding.len());
        }
    }

    /// Takes one answer; whether there was one.
    pub fn poll(&mut self, patience: Duration) -> bool {
        let event = self.connection.next(patience);
        let Happening::Method(method) = &event.happening else {
            assert!(event.is_silence() || event.is_closed(), "{event} to a publisher");
            return false;
        };
        match method.name {
            "basic.ack" => {
                let sequence = self.base + method.number("delivery_tag");
                if method.number("multiple") == 1 {
                    self.outstanding = self.outstanding.split_off(&(sequence + 1));
                } else {
                    self.outstanding.remove(&sequence);
                }
            }
            "connection.blocked" => self.blocked = Some(method.text("reason")),
            "connection.unblocked" => self.blocked = None,
            _ => panic!("{event} to a publisher"),
        }
        true
    }
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub publisher: u64,
    pub sequence: u64,
    pub redelivered: bool,
    pub tag: u64,
}

impl Taken {
    /// Nothing if the event brings no message.
    pub fn of(event: &Event) -> Option<Self> {
        let Happening::Content { method, body, .. } = &event.happening else { return None };
        let (publisher, sequence) = read_body(body);
        let (redelivered, tag) = (method.number("redelivered") == 1, method.number("delivery_tag"));
        Some(Self { publisher, sequence, redelivered, tag })
    }
}

pub struct Consumer {
    pub connection: Connection,
}

impl Consumer {
    /// With a prefetch limit, or without one if it is 0.
    pub fn new(server: &Server, queue: &str, prefetch: u16) -> Self {
        let mut connection = connect(server);
        connection.call(1, "basic.qos", &format!("prefetch_count={prefetch}"));
        connection.call(1, "basic.consume", &format!("queue={queue} consumer_tag=c"));
        Self { connection }
    }

    /// One whose messages need no acknowledgement.
    pub fn without_ack(server: &Server, queue: &str) -> Self {
        let mut connection = connect(server);
        connection.call(1, "basic.consume", &format!("queue={queue} no_ack consumer_tag=c"));
        Self { connection }
    }

    /// The next message, which must come.
    #[track_caller]
    pub fn take(&mut self) -> Taken {
        let event = self.connection.next(LONG);
        Taken::of(&event).unwrap_or_else(|| panic!("{event} to a consumer"))
    }

    /// The next message, if one comes in time.
    pub fn take_within(&mut self, patience: Duration) -> Option<Taken> {
        let event = self.connection.next(patience);
        let taken = Taken::of(&event);
        assert!(taken.is_some() || event.is_silence(), "{event} to a consumer");
        taken
    }

    /// Takes `count` messages and acknowledges them in hundreds.
    #[track_caller]
    pub fn take_all(&mut self, count: u64, tally: &mut Tally) {
        for at in 1..=count {
            let taken = self.take();
            tally.next(taken);
            if at % 100 == 0 || at == count {
                self.ack(taken.tag);
            }
        }
    }

    /// Acknowledges everything up to a delivery.
    pub fn ack(&mut self, tag: u64) {
        let fields = Fields::parse("multiple").with("delivery_tag", tag.to_string());
        self.connection.send(1, "basic.ack", &fields);
    }

    /// Puts back everything up to a delivery.
    pub fn requeue(&mut self, tag: u64) {
        let fields = Fields::parse("multiple requeue").with("delivery_tag", tag.to_string());
        self.connection.send(1, "basic.nack", &fields);
    }

    /// Waits until it holds `count` messages, and cancels.
    pub fn cancel_holding(&mut self, count: u64) -> Vec<Taken> {
        let held = (0..count).map(|_| self.take()).collect();
        self.connection.call(1, "basic.cancel", "consumer_tag=c");
        held
    }
}

/// What has come so far, when one takes at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The sequence number that came last, by publisher.
    last: BTreeMap<u64, u64>,
}

impl Tally {
    /// The next message in order.
    #[track_caller]
    pub fn next(&mut self, taken: Taken) {
        let last = self.last.entry(taken.publisher).or_default();
        assert_eq!(taken.sequence, *last + 1, "{taken:?} after {last}");
        *last = taken.sequence;
    }

    /// Skips what is known to come no more.
    pub fn skip_to(&mut self, publisher: u64, sequence: u64) {
        self.last.insert(publisher, sequence);
    }

    pub fn last(&self, publisher: u64) -> u64 {
        self.last.get(&publisher).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_numbers() {
        assert_eq!(read_body(&write_body(3, 70_000, 100)), (3, 70_000));
        assert_eq!(write_body(1, 2, 19).len(), 19);
    }

    #[test]
    #[should_panic(expected = "has another body")]
    fn a_changed_body_is_noticed() {
        let mut body = write_body(3, 7, 100);
        body[99] ^= 1;
        read_body(&body);
    }
}
