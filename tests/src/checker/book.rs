//! The history by message and queue, and by transaction.

use std::collections::BTreeMap;

use super::history::{Event, MessageId, Sent, TransactionId, What};
use super::{Counts, Kind, Violation};

/// A message in one of the queues that it was routed to.
pub struct Copy<'a> {
    pub queue: &'static str,
    pub message: MessageId,
    pub publish: &'a Event,
    /// The transaction that it was published in.
    pub within: Option<TransactionId>,
    pub deliveries: Vec<&'a Event>,
    pub acks: Vec<&'a Event>,
    pub requeues: Vec<&'a Event>,
    /// The answer after which it must not be lost.
    pub promise: Option<&'a Event>,
}

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
            What::Publish { message, queues, sent } => self.publish(event, *message, queues, *sent),
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
            What::Killed => self.counts.kills += 1,
        }
        Ok(())
    }

    fn publish(&mut self, event: &'a Event, message: MessageId, queues: &'static [&'static str], sent: Sent) {
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
            let (deliveries, acks, requeues) = (Vec::new(), Vec::new(), Vec::new());
            let copy = Copy { queue, message, publish: event, within, deliveries, acks, requeues, promise: None };
            self.copies.insert((queue, message), copy);
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
        let Some(copy) = self.copies.get_mut(&id) else {
            let text = format!("message {} in queue {}: never published there; {event}", id.1, id.0);
            return Err(Violation { kind: Kind::Phantom, text });
        };
        copy.deliveries.push(event);
        Ok(())
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

    /// Whether the acknowledgement may have taken effect.
    pub fn may_hold(&self, ack: &Event) -> bool {
        let What::Ack { within, .. } = &ack.what else { return false };
        within.is_none_or(|id| self.transactions.get(&id).is_some_and(|transaction| transaction.asked.is_some()))
    }

    /// The event since which the acknowledgement is known to be on disk.
    pub fn known_durable(&self, ack: &Event) -> Option<&'a Event> {
        let What::Ack { within: Some(id), .. } = &ack.what else { return None };
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
        events.extend(copy.deliveries.iter().chain(&copy.acks).chain(&copy.requeues));
        let of_acks = copy.acks.iter().filter_map(|ack| match &ack.what {
            What::Ack { within: Some(id), .. } => self.transactions.get(id),
            _ => None,
        });
        let of_publish = copy.within.and_then(|id| self.transactions.get(&id));
        for transaction in of_acks.chain(of_publish) {
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
        let unknown = || self.transactions.values().filter(|transaction| transaction.is_unknown());
        Counts {
            unconfirmed_at_kill: self.outstanding.values().map(BTreeMap::len).sum(),
            survivors: self.copies.values().filter(in_later_run).count(),
            repeats: self.copies.values().map(|copy| copy.deliveries.len().saturating_sub(1)).sum(),
            commits: self.transactions.values().filter(|transaction| transaction.answered.is_some()).count(),
            commits_unknown: unknown().count(),
            commits_unknown_held: unknown().filter(|transaction| self.has_held(transaction)).count(),
            ..self.counts
        }
    }
}
