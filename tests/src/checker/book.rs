//! The history by message and queue, and by transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Death, Event, MessageId, Sent, Terms, TransactionId, What, Wishes};
use super::{Counts, Kind, Violation};

/// A message in one of the queues that it was routed to, or that it came to as a dead letter.
pub struct Copy<'a> {
    pub queue: &'static str,
    /// Of a dead letter: the queue that it comes from.
    pub source: Option<&'static str>,
    pub message: MessageId,
    pub wishes: Wishes,
    pub publish: &'a Event,
    /// The transaction that it was published in.
    pub within: Option<TransactionId>,
    pub deliveries: Vec<&'a Event>,
    pub acks: Vec<&'a Event>,
    pub requeues: Vec<&'a Event>,
    pub rejects: Vec<&'a Event>,
    /// The answer after which it must not be lost.
    pub promise: Option<&'a Event>,
}

impl<'a> Copy<'a> {
    fn new((queue, message): CopyId, publish: &'a Event, within: Option<TransactionId>, wishes: Wishes) -> Self {
        let (deliveries, acks, requeues, rejects) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (source, promise) = (None, None);
        Self { queue, source, message, wishes, publish, within, deliveries, acks, requeues, rejects, promise }
    }

    /// Whether it was elsewhere before it came here.
    pub fn has_moved(&self) -> bool {
        self.source.is_some() || self.wishes.delay_ms.is_some()
    }
}

/// What one reader of a stream saw.
#[derive(Default)]
pub struct Reading<'a> {
    /// Where it was to begin; at the first message if nothing is said.
    pub from: Option<u64>,
    /// By offset, in the order of arrival.
    pub reads: Vec<(u64, MessageId, &'a Event)>,
}

/// A stream, a run and a client.
pub type ReadingId<'a> = (&'static str, u32, &'a str);

#[derive(Default)]
pub struct Transaction<'a> {
    pub publishes: Vec<CopyId>,
    pub acks: Vec<CopyId>,
    pub asked: Option<&'a Event>,
    pub answered: Option<&'a Event>,
    pub rolled_back: Option<&'a Event>,
}

impl Transaction<'_> {
    /// Nobody knows from the answers whether it happened.
    pub fn is_unknown(&self) -> bool {
        self.asked.is_some() && self.answered.is_none()
    }
}

/// The queue first, so that a walk over the book goes queue by queue and publisher by publisher.
pub type CopyId = (&'static str, MessageId);

/// By tag.
type Outstanding = BTreeMap<u64, (MessageId, &'static [&'static str])>;

#[derive(Default)]
pub struct Book<'a> {
    pub copies: BTreeMap<CopyId, Copy<'a>>,
    pub transactions: BTreeMap<TransactionId, Transaction<'a>>,
    pub readings: BTreeMap<ReadingId<'a>, Reading<'a>>,
    terms: BTreeMap<&'static str, Terms>,
    /// By run: when it ended.
    kills: BTreeMap<u32, &'a Event>,
    /// By publisher and run: what waits for its confirm.
    outstanding: BTreeMap<(u16, u32), Outstanding>,
    counts: Counts,
}

impl<'a> Book<'a> {
    /// Reads a history in its order, and complains about what makes no sense in it at once.
    pub fn of(events: &'a [Event], violations: &mut Vec<Violation>) -> Self {
        let mut book = Self::default();
        for event in events {
            if let Err(violation) = book.enter(event) {
                violations.push(violation);
            }
        }
        book.keep_promises_of_commits();
        book
    }

    fn enter(&mut self, event: &'a Event) -> Result<(), Violation> {
        match &event.what {
            What::Declare { queue, terms } => {
                self.terms.insert(queue, *terms);
            }
            What::Publish { message, queues, sent, wishes } => self.publish(event, *message, queues, (*sent, *wishes)),
            What::Confirm { publisher, tag, multiple, positive } => {
                return self.confirm(event, (*publisher, *tag), *multiple, *positive);
            }
            What::ConfirmsAwaited { publisher } => {
                self.counts.waits += 1;
                let rest = self.outstanding.get(&(*publisher, event.run)).into_iter().flatten().next();
                return rest.map_or(Ok(()), |(tag, (message, _))| {
                    let text = format!("message {message}, tag {tag}: never answered; {event}");
                    Err(Violation { kind: Kind::Confirm, text })
                });
            }
            What::Deliver { queue, message, .. } => return self.deliver(event, (queue, *message)),
            What::Unreadable { .. } => {
                return Err(Violation { kind: Kind::Phantom, text: format!("a body is damaged: {event}") });
            }
            What::Ack { queue, message, within } => {
                if let Some(copy) = self.copies.get_mut(&(*queue, *message)) {
                    copy.acks.push(event);
                }
                if let Some(transaction) = within {
                    self.transactions.entry(*transaction).or_default().acks.push((queue, *message));
                }
            }
            What::Requeue { queue, message } => {
                self.counts.requeues += 1;
                if let Some(copy) = self.copies.get_mut(&(*queue, *message)) {
                    copy.requeues.push(event);
                }
            }
            What::CommitAsked(id) => self.transactions.entry(*id).or_default().asked = Some(event),
            What::CommitAnswered(id) => self.transactions.entry(*id).or_default().answered = Some(event),
            What::RolledBack(id) => self.transactions.entry(*id).or_default().rolled_back = Some(event),
            What::Reject { queue, message, .. } => {
                if let Some(copy) = self.copies.get_mut(&(*queue, *message)) {
                    copy.rejects.push(event);
                }
            }
            What::ReadFrom { stream, offset } => self.reading(stream, event).from = *offset,
            What::Read { stream, message, offset } => {
                self.reading(stream, event).reads.push((*offset, *message, event));
                return self.deliver(event, (stream, *message));
            }
            What::Killed => {
                self.counts.kills += 1;
                self.kills.insert(event.run, event);
            }
        }
        Ok(())
    }

    fn reading(&mut self, stream: &'static str, event: &'a Event) -> &mut Reading<'a> {
        self.readings.entry((stream, event.run, &*event.client)).or_default()
    }

    fn publish(
        &mut self,
        event: &'a Event,
        message: MessageId,
        queues: &'static [&'static str],
        (sent, wishes): (Sent, Wishes),
    ) {
        self.counts.publishes += 1;
        let within = match sent {
            Sent::Confirmed(tag) => {
                let waiting = self.outstanding.entry((message.publisher, event.run)).or_default();
                waiting.insert(tag, (message, queues));
                None
            }
            Sent::Within(id) => Some(id),
        };
        for queue in queues {
            self.copies.insert((queue, message), Copy::new((queue, message), event, within, wishes));
            if let Some(id) = within {
                self.transactions.entry(id).or_default().publishes.push((queue, message));
            }
        }
    }

    fn confirm(
        &mut self,
        event: &'a Event,
        (publisher, tag): (u16, u64),
        multiple: bool,
        positive: bool,
    ) -> Result<(), Violation> {
        let waiting = self.outstanding.entry((publisher, event.run)).or_default();
        let Some(last) = waiting.remove(&tag) else {
            let text = format!("publisher {publisher}, tag {tag}: nothing with this tag waits for an answer; {event}");
            return Err(Violation { kind: Kind::Confirm, text });
        };
        let mut answered = vec![last];
        if multiple {
            let later = waiting.split_off(&tag);
            answered.extend(std::mem::replace(waiting, later).into_values());
        }
        if positive {
            self.counts.confirms += answered.len();
            for (message, queues) in answered {
                for queue in queues {
                    if let Some(copy) = self.copies.get_mut(&(*queue, message)) {
                        copy.promise = Some(event);
                    }
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, event: &'a Event, id: CopyId) -> Result<(), Violation> {
        if !self.copies.contains_key(&id)
            && let Some(letter) = self.new_letter(id)
        {
            self.copies.insert(id, letter);
        }
        let Some(copy) = self.copies.get_mut(&id) else {
            let text = format!("message {} in queue {}: never published there; {event}", id.1, id.0);
            return Err(Violation { kind: Kind::Phantom, text });
        };
        copy.deliveries.push(event);
        Ok(())
    }

    /// The dead letter that a message has become that was published to another queue.
    fn new_letter(&self, (queue, message): CopyId) -> Option<Copy<'a>> {
        let sources = self.terms.iter().filter(|(_, terms)| terms.letters == Some(queue));
        let source = sources.into_iter().find_map(|(source, _)| self.copies.get(&(*source, message)))?;
        let copy = Copy::new((queue, message), source.publish, source.within, source.wishes);
        Some(Copy { source: Some(source.queue), ..copy })
    }

    /// What the queue was declared to do.
    pub fn terms(&self, queue: &str) -> Terms {
        self.terms.get(queue).copied().unwrap_or_default()
    }

    pub fn streams(&self) -> impl Iterator<Item = &'static str> {
        self.terms.iter().filter(|(_, terms)| terms.stream.is_some()).map(|(stream, _)| *stream)
    }

    pub fn is_in_stream(&self, copy: &Copy<'_>) -> bool {
        self.terms(copy.queue).stream.is_some()
    }

    /// The dead letter that the message has become.
    pub fn letter(&self, copy: &Copy<'_>) -> Option<&Copy<'a>> {
        self.copies.get(&(self.terms(copy.queue).letters?, copy.message))
    }

    /// All deliveries of a message that was published to a queue, also as a dead letter.
    pub fn life<'b>(&'b self, copy: &'b Copy<'a>) -> impl Iterator<Item = &'a Event> + use<'a, 'b> {
        let letter = self.letter(copy).into_iter().flat_map(|letter| &letter.deliveries);
        copy.deliveries.iter().chain(letter).copied()
    }

    /// When the message had come to the broker at the latest.
    pub fn arrived_by(&self, copy: &Copy<'_>) -> Option<u64> {
        let known = copy.promise.or_else(|| self.kills.get(&copy.publish.run).copied());
        known.map(|event| event.ms)
    }

    fn keep_promises_of_commits(&mut self) {
        for transaction in self.transactions.values() {
            for id in &transaction.publishes {
                if let (Some(answer), Some(copy)) = (transaction.answered, self.copies.get_mut(id)) {
                    copy.promise = Some(answer);
                }
            }
        }
    }

    /// Whether the acknowledgement, or the rejection, may have taken effect.
    pub fn may_hold(&self, settled: &Event) -> bool {
        let (What::Ack { within, .. } | What::Reject { within, .. }) = &settled.what else { return false };
        within.is_none_or(|id| self.transactions.get(&id).is_some_and(|transaction| transaction.asked.is_some()))
    }

    /// The event since which the acknowledgement, or the rejection, is known to be on disk.
    pub fn known_durable(&self, settled: &Event) -> Option<&'a Event> {
        let (What::Ack { within: Some(id), .. } | What::Reject { within: Some(id), .. }) = &settled.what else {
            return None;
        };
        self.transactions.get(id)?.answered
    }

    /// Whether one of its messages came after the kill that left the commit without an answer.
    fn has_held(&self, transaction: &Transaction<'_>) -> bool {
        let later = |delivery: &&Event| transaction.asked.is_some_and(|asked| delivery.run > asked.run);
        let copies = transaction.publishes.iter().filter_map(|id| self.copies.get(id));
        copies.flat_map(|copy| &copy.deliveries).copied().any(|delivery| later(&delivery))
    }

    /// Everything that happened to a message in a queue, in order.
    pub fn story(&self, copy: &Copy<'_>) -> String {
        let mut events: Vec<&Event> = vec![copy.publish];
        events.extend(copy.promise);
        let other = copy.source.and_then(|source| self.copies.get(&(source, copy.message)));
        let both = || [Some(copy), self.letter(copy), other].into_iter().flatten();
        events.extend(both().flat_map(|copy| copy.deliveries.iter().chain(&copy.acks)));
        events.extend(both().flat_map(|copy| copy.requeues.iter().chain(&copy.rejects)));
        let of_settled =
            both().flat_map(|copy| copy.acks.iter().chain(&copy.rejects)).filter_map(|ack| match &ack.what {
                What::Ack { within: Some(id), .. } | What::Reject { within: Some(id), .. } => self.transactions.get(id),
                _ => None,
            });
        let of_publish = copy.within.and_then(|id| self.transactions.get(&id));
        for transaction in of_settled.chain(of_publish) {
            events.extend([transaction.asked, transaction.answered, transaction.rolled_back].into_iter().flatten());
        }
        events.sort_by_key(|event| event.at);
        events.dedup_by_key(|event| event.at);
        let lines: Vec<String> = events.iter().map(|event| format!("\n    {event}")).collect();
        lines.concat()
    }

    pub fn counts(&self) -> Counts {
        let in_later_run = |copy: &&Copy<'_>| {
            let first = copy.deliveries.first();
            copy.promise.is_some() && first.is_some_and(|delivery| delivery.run > copy.publish.run)
        };
        let came_in_later_run = |copy: &&Copy<'_>| {
            copy.deliveries.first().is_some_and(|delivery| copy.has_moved() && delivery.run > copy.publish.run)
        };
        let died_of = |reason: &str| {
            let is_it = |copy: &&Copy<'_>| {
                copy.deliveries.first().and_then(|event| death(event)).is_some_and(|death| death.reason == reason)
            };
            self.copies.values().filter(is_it).count()
        };
        let queued = || self.copies.values().filter(|copy| !self.is_in_stream(copy));
        let read = || self.copies.values().filter(|copy| self.is_in_stream(copy) && !copy.deliveries.is_empty());
        let unknown = || self.transactions.values().filter(|transaction| transaction.is_unknown());
        Counts {
            unconfirmed_at_kill: self.outstanding.values().map(BTreeMap::len).sum(),
            survivors: queued().filter(in_later_run).count(),
            repeats: queued().map(|copy| copy.deliveries.len().saturating_sub(1)).sum(),
            commits: self.transactions.values().filter(|transaction| transaction.answered.is_some()).count(),
            commits_unknown: unknown().count(),
            commits_unknown_held: unknown().filter(|transaction| self.has_held(transaction)).count(),
            expired: died_of("expired"),
            rejected: died_of("rejected"),
            shed: died_of("maxlen"),
            moved_over_kills: queued().filter(came_in_later_run).count(),
            delayed: queued().filter(|copy| copy.wishes.delay_ms.is_some() && !copy.deliveries.is_empty()).count(),
            ranked: super::rules::static_runs(self).iter().map(Vec::len).sum(),
            reads: read().map(|copy| copy.deliveries.len()).sum(),
            streamed: read().count(),
            reads_over_kills: read().map(|copy| runs_of(copy).saturating_sub(1)).sum(),
            ..self.counts
        }
    }
}

/// What a delivery tells of a death.
pub fn death(event: &Event) -> Option<&Death> {
    match &event.what {
        What::Deliver { death, .. } => death.as_ref(),
        _ => None,
    }
}

fn runs_of(copy: &Copy<'_>) -> usize {
    copy.deliveries.iter().map(|delivery| delivery.run).collect::<BTreeSet<_>>().len()
}
