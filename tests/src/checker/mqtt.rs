//! The promises of MQTT: at least once, exactly once, sessions and retained messages, all over kills.
//!
//! The history must end with a drain after which every session has got all that was on its way.

mod book;
mod rules;
#[cfg(test)]
mod tests;

use super::history::{self, MessageId};
use super::{Verdict, history::Recorder};

pub type Event = history::Event<What>;
pub type Notes = Recorder<What>;

/// What a client writes down. Subscribers are known by the names of their clients.
#[derive(Clone, Debug)]
pub enum What {
    /// Written before it is first sent.
    Publish {
        message: MessageId,
        topic: &'static str,
        qos: u8,
        retain: bool,
        /// Whether it has no body, and takes away what is retained.
        clears: bool,
    },
    /// Sent again over a new connection, because it had no answer.
    Resent {
        message: MessageId,
    },
    /// The broker has taken charge of it.
    Answered {
        message: MessageId,
    },
    /// The publisher has waited as long as anybody would for the answers to all that it has published.
    AnswersAwaited {
        publisher: u16,
    },
    /// CONNACK for a session that is to stay.
    Connected {
        session_present: bool,
    },
    /// A broker that was alive has closed the connection.
    Dropped,
    /// Something that makes no sense to a client that follows the specification.
    Unexpected {
        packet: String,
    },
    /// Written before it is asked for, because messages may come before the answer.
    Subscribe {
        filter: &'static str,
        qos: u8,
    },
    /// From here on the broker keeps the subscription with the session.
    Subscribed {
        filter: &'static str,
    },
    /// Handed on by a subscriber; written before it is acknowledged.
    Arrived {
        topic: String,
        message: MessageId,
        qos: u8,
        packet_id: u16,
    },
    /// Not handed on, because it came with quality of service 2 under an identifier that was not released.
    Withheld {
        message: Option<MessageId>,
        packet_id: u16,
    },
    /// A message whose body is not as it was written.
    Unreadable {
        topic: String,
        beginning: String,
    },
    /// All that is retained under some topics, seen while nobody published.
    Retained {
        topics: &'static [&'static str],
        found: Vec<(String, MessageId)>,
    },
    Killed,
}

/// How much of what matters a history holds, or must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub kills: usize,
    pub publishes: usize,
    pub answered: usize,
    /// Publishes that had no answer when the broker was killed, by how often.
    pub unanswered_at_kill: usize,
    pub resent: usize,
    /// Sessions that were there again after their connection had ended.
    pub comebacks: usize,
    pub arrivals: usize,
    /// Arrivals of what had arrived there before.
    pub repeats: usize,
    /// Messages that came again and were not handed on, because they were to come once.
    pub withheld: usize,
    /// Copies of messages that were to come exactly once, and came.
    pub exactly_once: usize,
    /// Copies that were promised in one run and first arrived in a later one.
    pub survivors: usize,
    /// Topics whose retained message was looked at.
    pub retained: usize,
}

/// Checks a whole history; the order of `events` does not matter.
pub fn check(mut events: Vec<Event>, at_least: &Counts) -> Verdict<Counts> {
    events.sort_by_key(|event| event.at);
    let mut violations = Vec::new();
    let book = book::Book::of(&events, &mut violations);
    rules::all(&book, &mut violations);
    let counts = book.counts();
    violations.extend(rules::lacking(&counts, at_least));
    Verdict { counts, violations }
}
