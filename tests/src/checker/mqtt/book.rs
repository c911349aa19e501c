//! The history by message and by subscriber.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Kind, Violation};
use super::{Counts, Event, What};
use crate::checker::MessageId;

/// How the filter of a shared subscription begins.
const SHARE: &str = "$share/";

pub struct Message<'a> {
    pub publish: &'a Event,
    pub topic: &'static str,
    pub qos: u8,
    pub retain: bool,
    pub clears: bool,
    pub answer: Option<&'a Event>,
}

pub struct Subscription<'a> {
    pub filter: &'static str,
    pub qos: u8,
    /// The answer; there is none if the broker was killed too soon.
    pub since: Option<&'a Event>,
}

/// A client, or all that share a subscription.
#[derive(Default)]
pub struct Subscriber<'a> {
    pub is_shared: bool,
    pub subscriptions: Vec<Subscription<'a>>,
    pub arrivals: BTreeMap<MessageId, Vec<&'a Event>>,
    pub withheld: BTreeMap<MessageId, Vec<&'a Event>>,
}

impl Subscriber<'_> {
    /// The subscription by which messages under a topic come; no subscriber here has two that match.
    pub fn subscription(&self, topic: &str) -> Option<&Subscription<'_>> {
        self.subscriptions.iter().find(|one| matches(one.filter, topic))
    }
}

/// What is retained under a topic when somebody looks at it, and nobody publishes.
pub struct Look<'a> {
    pub topic: &'static str,
    pub found: Option<MessageId>,
    pub event: &'a Event,
}

#[derive(Default)]
pub struct Book<'a> {
    pub messages: BTreeMap<MessageId, Message<'a>>,
    pub subscribers: BTreeMap<&'a str, Subscriber<'a>>,
    /// By client: the subscription that it shares.
    shared: BTreeMap<&'a str, &'static str>,
    pub looks: Vec<Look<'a>>,
    /// Clients that were told that they have a session.
    sessions: BTreeSet<&'a str>,
    unanswered: BTreeSet<MessageId>,
    counts: Counts,
}

impl<'a> Book<'a> {
    /// Reads a history in its order, and complains about what makes no sense in it at once.
    pub fn of(events: &'a [Event], violations: &mut Vec<Violation>) -> Self {
        let mut book = Self::default();
        for event in events {
            if let Err((kind, what)) = book.enter(event) {
                violations.push(Violation { kind, text: format!("{what}: {event}") });
            }
        }
        book
    }

    fn enter(&mut self, event: &'a Event) -> Result<(), (Kind, &'static str)> {
        match &event.what {
            What::Publish { message, topic, qos, retain, clears } => {
                self.counts.publishes += 1;
                self.unanswered.insert(*message);
                let (qos, retain, clears, answer) = (*qos, *retain, *clears, None);
                self.messages.insert(*message, Message { publish: event, topic, qos, retain, clears, answer });
            }
            What::Resent { .. } => self.counts.resent += 1,
            What::Answered { message } => return self.answer(event, *message),
            What::AnswersAwaited { publisher } => {
                let waits = self.unanswered.iter().any(|message| message.publisher == *publisher);
                return if waits { Err((Kind::Confirm, "a publish was never answered")) } else { Ok(()) };
            }
            What::Connected { session_present } => return self.connected(&event.client, *session_present),
            What::Dropped => return Err((Kind::Session, "the connection was closed for no reason")),
            What::Unexpected { .. } => return Err((Kind::Confirm, "an answer belongs to nothing")),
            What::Subscribe { filter, qos } => {
                let shared = filter.strip_prefix(SHARE).and_then(|rest| rest.split_once('/'));
                if shared.is_some() {
                    self.shared.insert(&event.client, filter);
                }
                let filter = shared.map_or(*filter, |(_, filter)| filter);
                let subscriber = self.subscriber(event);
                subscriber.is_shared = shared.is_some();
                let subscriptions = &mut subscriber.subscriptions;
                // A client that got no answer asks again.
                if subscriptions.iter().all(|one| one.filter != filter) {
                    subscriptions.push(Subscription { filter, qos: *qos, since: None });
                }
            }
            What::Subscribed { filter } => {
                let subscriptions = self.subscriber(event).subscriptions.iter_mut();
                let known = subscriptions.filter(|one| filter.ends_with(one.filter));
                known.for_each(|one| one.since = one.since.or(Some(event)));
            }
            What::Arrived { message, topic, .. } => return self.arrive(event, *message, topic),
            What::Withheld { message, .. } => {
                self.counts.withheld += 1;
                if let Some(message) = message {
                    let subscriber = self.subscriber(event);
                    subscriber.withheld.entry(*message).or_default().push(event);
                }
            }
            What::Unreadable { .. } => return Err((Kind::Phantom, "a body is damaged")),
            What::Retained { topics, found } => {
                let of = |topic: &str| found.iter().find(|(name, _)| name == topic).map(|(_, message)| *message);
                self.looks.extend(topics.iter().map(|topic| Look { topic, found: of(topic), event }));
                self.counts.retained += topics.len();
                if found.iter().any(|(topic, _)| !topics.contains(&topic.as_str())) {
                    return Err((Kind::Retained, "something is retained under another topic"));
                }
            }
            What::Killed => {
                self.counts.kills += 1;
                self.counts.unanswered_at_kill += self.unanswered.len();
            }
        }
        Ok(())
    }

    fn subscriber(&mut self, event: &'a Event) -> &mut Subscriber<'a> {
        let client = &*event.client;
        self.subscribers.entry(self.shared.get(client).copied().unwrap_or(client)).or_default()
    }

    fn answer(&mut self, event: &'a Event, message: MessageId) -> Result<(), (Kind, &'static str)> {
        if !self.unanswered.remove(&message) {
            return Err((Kind::Confirm, "nothing waits for this answer"));
        }
        self.counts.answered += 1;
        if let Some(message) = self.messages.get_mut(&message) {
            message.answer = Some(event);
        }
        Ok(())
    }

    fn connected(&mut self, client: &'a str, session_present: bool) -> Result<(), (Kind, &'static str)> {
        if self.sessions.insert(client) || session_present {
            self.counts.comebacks += usize::from(session_present);
            return Ok(());
        }
        Err((Kind::Session, "a session that was to stay is gone"))
    }

    fn arrive(&mut self, event: &'a Event, message: MessageId, topic: &str) -> Result<(), (Kind, &'static str)> {
        self.counts.arrivals += 1;
        if self.subscriber(event).subscription(topic).is_none() {
            return Err((Kind::Phantom, "it came to somebody who had not subscribed"));
        }
        if self.messages.get(&message).is_none_or(|message| message.topic != topic) {
            return Err((Kind::Phantom, "it was never published there"));
        }
        let subscriber = self.subscriber(event);
        let arrivals = subscriber.arrivals.entry(message).or_default();
        let is_repeat = !arrivals.is_empty();
        arrivals.push(event);
        self.counts.repeats += usize::from(is_repeat);
        Ok(())
    }

    /// Every copy that must be, may be or was: a subscriber, the quality of service there, and a message.
    pub fn copies<'b>(&'b self) -> impl Iterator<Item = Copy<'b, 'a>> {
        self.subscribers.iter().flat_map(move |(name, subscriber)| {
            self.messages.iter().filter_map(move |(id, message)| {
                let subscription = subscriber.subscription(message.topic)?;
                let of =
                    |events: &'b BTreeMap<MessageId, Vec<&'a Event>>| events.get(id).map_or(&[][..], Vec::as_slice);
                let (arrivals, withheld) = (of(&subscriber.arrivals), of(&subscriber.withheld));
                let qos = subscription.qos.min(message.qos);
                let is_in_time = subscription.since.is_some_and(|since| since.at < message.publish.at);
                let is_promised = message.answer.is_some() && is_in_time;
                let is_shared = subscriber.is_shared;
                Some(Copy {
                    subscriber: name,
                    is_shared,
                    is_in_time,
                    id: *id,
                    message,
                    qos,
                    is_promised,
                    arrivals,
                    withheld,
                })
            })
        })
    }

    pub fn counts(&self) -> Counts {
        let came_later = |copy: &Copy<'_, '_>| {
            let first = copy.arrivals.first();
            copy.is_promised && first.is_some_and(|first| first.run > copy.message.publish.run)
        };
        Counts {
            exactly_once: self.copies().filter(|copy| copy.qos == 2 && !copy.arrivals.is_empty()).count(),
            survivors: self.copies().filter(came_later).count(),
            ..self.counts
        }
    }
}

/// What became of a message for one subscriber.
pub struct Copy<'b, 'a> {
    pub subscriber: &'b str,
    pub is_shared: bool,
    pub id: MessageId,
    pub message: &'b Message<'a>,
    pub qos: u8,
    /// Whether it was first sent after the subscription.
    pub is_in_time: bool,
    pub is_promised: bool,
    pub arrivals: &'b [&'a Event],
    pub withheld: &'b [&'a Event],
}

impl Copy<'_, '_> {
    /// Everything that happened to it, in order.
    pub fn story(&self) -> String {
        let mut events = vec![self.message.publish];
        events.extend(self.message.answer);
        events.extend(self.arrivals.iter().chain(self.withheld));
        events.sort_by_key(|event| event.at);
        let lines: Vec<String> = events.iter().map(|event| format!("\n    {event}")).collect();
        format!("message {} to {}{}", self.id, self.subscriber, lines.concat())
    }
}

/// Whether a topic matches a filter (section 4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (one, other) if one == other => {}
            _ => return false,
        }
    }
}
