//! Subscriptions as their deliveries see them: the queues that each gets messages from, and what it has not settled.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use broker::{Attachment, ConsumerId, ConsumerKey, Credit, Delivery, Name, Position, QueueInfo};

use super::AckMode;
use crate::{
    destination,
    wire::{Version, put_header},
};

/// The subscriptions of a connection.
#[derive(Debug, Default)]
pub struct Subscriptions {
    last: u64,
    last_source: u64,
    last_delivery: u64,
    subscriptions: BTreeMap<u64, SubscriptionOut>,
    sources: BTreeMap<u64, Source>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct SubscriptionOut {
    /// What stands before the numbers in its message ids: RabbitMQ's name for it, and the session's.
    pub(super) id_prefix: String,
    /// What the client calls it, if it does, as a line of headers.
    pub(super) header: Vec<u8>,
    /// What operators see.
    pub(super) name: Name,
    pub(super) mode: AckMode,
    /// What it names, if that is several queues or topics.
    several: Option<Box<str>>,
    /// What it may have unsettled from all of its queues, if there may be several.
    credit: Arc<Credit>,
    /// Its queues, by their numbers.
    sources: BTreeSet<u64>,
    /// By the number of the delivery.
    unsettled: BTreeMap<u64, Unsettled>,
    /// Whether more can come. A closed subscription stays while something of it is unsettled.
    is_open: bool,
}

/// A queue that a subscription gets messages from.
#[derive(Debug)]
struct Source {
    subscription: u64,
    queue: Arc<QueueInfo>,
    consumer: Option<ConsumerId>,
    /// Whether the client is told of this queue, and not of where a message was sent.
    is_told: bool,
    has_browsed: bool,
    /// Unsettled deliveries of it. It stays while there are any.
    held: usize,
    is_open: bool,
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    source: u64,
    slot: u64,
    record: Position,
    /// Whether it counts against the credit of the subscription.
    counted: bool,
    /// Whether it was taken back because it was not settled in time.
    revoked: bool,
}

/// A settled delivery, with what the broker needs to know of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer that it went to.
    pub consumer: Option<ConsumerId>,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether the broker has taken it back already.
    pub revoked: bool,
    /// Whose it was, and its numbers there, to be put back by an abort.
    subscription: u64,
    source: u64,
    delivery: u64,
    counted: bool,
}

/// What a new subscription is.
#[derive(Debug)]
pub struct Opened<'a> {
    /// What the client calls it, or the destination if it does not.
    pub id: &'a str,
    /// Whether the client has named it: then its messages say so.
    pub has_id: bool,
    /// How it acknowledges.
    pub mode: AckMode,
    /// What it names, if that is several queues or topics, and what it may have unsettled from all of them.
    pub several: Option<(&'a str, u32)>,
    /// The session's name.
    pub session: &'a str,
    /// What the client speaks.
    pub version: Version,
}

/// What is no message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMessageId;

impl Subscriptions {
    /// A subscription begins, which is on no queue yet. Returns its number.
    pub fn open(&mut self, opened: &Opened<'_>) -> u64 {
        self.last += 1;
        // RabbitMQ's tags: one kind for subscriptions with an id, another for those without.
        let tag = if opened.has_id { "T_" } else { "Q_" };
        let mut header = Vec::new();
        if opened.has_id {
            put_header(&mut header, "subscription", opened.id, opened.version);
        }
        let credit = Arc::new(Credit::default());
        credit.set(opened.several.map_or(0, |(_, limit)| limit), 0);
        let subscription = SubscriptionOut {
            id_prefix: format!("{tag}{}@@{}@@{}-", opened.id, opened.session, self.last),
            header,
            name: format!("{tag}{}", opened.id).into(),
            mode: opened.mode,
            several: opened.several.map(|(text, _)| text.into()),
            credit,
            sources: BTreeSet::new(),
            unsettled: BTreeMap::new(),
            is_open: true,
        };
        self.subscriptions.insert(self.last, subscription);
        self.last
    }

    /// Adds a queue, which the subscription is not on yet. Returns its number, and the credit. Nothing if it is on it.
    pub fn add(&mut self, subscription: u64, queue: &Arc<QueueInfo>, is_queue: bool) -> Option<(u64, Arc<Credit>)> {
        let to = self.subscriptions.get_mut(&subscription)?;
        let is_it =
            |number: &u64| self.sources.get(number).is_some_and(|source| source.is_open && source.queue.id == queue.id);
        if to.sources.iter().any(is_it) {
            return None;
        }
        self.last_source += 1;
        to.sources.insert(self.last_source);
        let is_told = is_queue && to.several.is_some();
        let (queue, consumer) = (Arc::clone(queue), None);
        let source = Source { subscription, queue, consumer, is_told, has_browsed: false, held: 0, is_open: true };
        self.sources.insert(self.last_source, source);
        Some((self.last_source, Arc::clone(&to.credit)))
    }

    /// The subscription is on the queue.
    pub fn attached(&mut self, source: u64, consumer: ConsumerId) {
        if let Some(source) = self.sources.get_mut(&source) {
            source.consumer = Some(consumer);
        }
    }

    /// A queue is gone. Returns the subscription, and whether it is on others.
    pub fn leave(&mut self, source: u64) -> Option<(u64, bool)> {
        let left = self.sources.get_mut(&source)?;
        left.is_open = false;
        let number = left.subscription;
        self.free_source(source);
        let others = self.subscriptions.get(&number)?.sources.iter();
        let is_open = |number: &u64| self.sources.get(number).is_some_and(|source| source.is_open);
        Some((number, others.into_iter().any(is_open)))
    }

    /// A subscription ends. What it has not settled stays, and can still be.
    pub fn close(&mut self, number: u64) {
        let Some(closed) = self.subscriptions.get_mut(&number) else { return };
        closed.is_open = false;
        let sources: Vec<u64> = closed.sources.iter().copied().collect();
        for source in sources {
            if let Some(source) = self.sources.get_mut(&source) {
                source.is_open = false;
            }
            self.free_source(source);
        }
        self.free(number);
    }

    fn free(&mut self, number: u64) {
        if self.subscriptions.get(&number).is_some_and(|one| !one.is_open && one.unsettled.is_empty()) {
            self.subscriptions.remove(&number);
        }
    }

    fn free_source(&mut self, number: u64) {
        if self.sources.get(&number).is_none_or(|source| source.is_open || source.held > 0) {
            return;
        }
        if let Some(source) = self.sources.remove(&number)
            && let Some(subscription) = self.subscriptions.get_mut(&source.subscription)
        {
            subscription.sources.remove(&number);
        }
    }

    /// A subscription on one of its queues, as the broker knows it.
    pub fn attachment(&self, source: u64) -> Option<Attachment> {
        let source = self.sources.get(&source).filter(|source| source.is_open)?;
        Some(Attachment { queue: Arc::clone(&source.queue), consumer: source.consumer? })
    }

    /// A subscription on all of its queues.
    pub fn attachments(&self, number: u64) -> Vec<Attachment> {
        let sources = self.subscriptions.get(&number).map(|subscription| subscription.sources.iter());
        sources.into_iter().flatten().filter_map(|source| self.attachment(*source)).collect()
    }

    /// The subscription that a delivery is for, and the name of its queue if the client is to be told of that.
    pub(super) fn of(&self, consumer: ConsumerKey) -> Option<(&SubscriptionOut, Option<&str>)> {
        let source = self.sources.get(&consumer.0)?;
        let subscription = self.subscriptions.get(&source.subscription)?;
        Some((subscription, source.is_told.then_some(&*source.queue.name)))
    }

    /// Notes a delivery. Returns its number, and whether it is settled by being sent.
    pub(super) fn deliver(&mut self, delivery: &Delivery<'_>) -> Option<(u64, bool)> {
        self.last_delivery += 1;
        let source = self.sources.get_mut(&delivery.consumer.0)?;
        let subscription = self.subscriptions.get_mut(&source.subscription)?;
        let settles_itself = subscription.mode == AckMode::Auto;
        if !settles_itself {
            let Delivery { slot, record, counted, .. } = *delivery;
            let unsettled = Unsettled { source: delivery.consumer.0, slot, record, counted, revoked: false };
            subscription.unsettled.insert(self.last_delivery, unsettled);
            source.held += 1;
        }
        Some((self.last_delivery, settles_itself))
    }

    /// A queue has been looked through. Returns the subscription and what it is on, if that was the last one.
    pub(super) fn browsed(&mut self, consumer: ConsumerKey) -> Option<(&SubscriptionOut, String)> {
        let source = self.sources.get_mut(&consumer.0)?;
        source.has_browsed = true;
        let (number, name) = (source.subscription, Name::clone(&source.queue.name));
        let subscription = self.subscriptions.get(&number)?;
        let is_left = |number: &u64| self.sources.get(number).is_some_and(|one| one.is_open && !one.has_browsed);
        if subscription.sources.iter().any(is_left) {
            return None;
        }
        let one = || destination::of_routing("", &name);
        Some((subscription, subscription.several.as_deref().map_or_else(one, str::to_owned)))
    }

    /// A subscription to several queues that is on none, and what it names.
    pub(super) fn without_queues(&self, number: u64) -> Option<(&SubscriptionOut, &str)> {
        let subscription = self.subscriptions.get(&number).filter(|subscription| subscription.sources.is_empty())?;
        Some((subscription, subscription.several.as_deref()?))
    }

    /// A delivery was taken back.
    pub(super) fn revoke(&mut self, consumer: ConsumerKey, slot: u64) {
        let Some(source) = self.sources.get(&consumer.0) else { return };
        let Some(subscription) = self.subscriptions.get_mut(&source.subscription) else { return };
        let mut unsettled = subscription.unsettled.values_mut();
        if let Some(unsettled) = unsettled.find(|one| one.source == consumer.0 && one.slot == slot) {
            unsettled.revoked = true;
        }
    }

    /// Deliveries that are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.subscriptions.values().map(|subscription| subscription.unsettled.len()).sum()
    }

    /// Takes what a message id settles: one message, or all of its subscription up to it. Nothing if there is none such.
    ///
    /// # Errors
    /// If it is no message id of this broker.
    pub fn settle(&mut self, message_id: &str) -> Result<Option<Vec<Settled>>, NoMessageId> {
        let (_, numbers) = message_id.rsplit_once("@@").ok_or(NoMessageId)?;
        let (subscription, delivery) = numbers.split_once('-').ok_or(NoMessageId)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoMessageId);
        let (number, delivery) = (number(subscription)?, number(delivery)?);
        let Some(subscription) = self.subscriptions.get_mut(&number) else { return Ok(None) };
        let is_of = message_id.strip_prefix(&*subscription.id_prefix).is_some();
        if !is_of || !subscription.unsettled.contains_key(&delivery) {
            return Ok(None);
        }
        let taken = match subscription.mode {
            AckMode::Client => {
                let later = subscription.unsettled.split_off(&(delivery + 1));
                std::mem::replace(&mut subscription.unsettled, later)
            }
            _ => subscription.unsettled.remove_entry(&delivery).into_iter().collect(),
        };
        let settled = self.settled(number, taken);
        self.free(number);
        Ok(Some(settled))
    }

    fn settled(&mut self, subscription: u64, taken: BTreeMap<u64, Unsettled>) -> Vec<Settled> {
        let mut settled = Vec::with_capacity(taken.len());
        for (delivery, Unsettled { source: number, slot, record, counted, revoked }) in taken {
            let Some(source) = self.sources.get_mut(&number) else { continue };
            source.held -= 1;
            let (queue, consumer) = (Arc::clone(&source.queue), source.consumer);
            let source = number;
            settled.push(Settled { queue, consumer, slot, record, revoked, subscription, source, delivery, counted });
            self.free_source(number);
        }
        settled
    }

    /// Takes everything that is unsettled.
    pub fn settle_all(&mut self) -> Vec<Settled> {
        let take = |(number, one): (&u64, &mut SubscriptionOut)| (*number, std::mem::take(&mut one.unsettled));
        let taken: Vec<_> = self.subscriptions.iter_mut().map(take).collect();
        let mut settled = Vec::new();
        for (number, taken) in taken {
            settled.extend(self.settled(number, taken));
            self.free(number);
        }
        settled
    }

    /// Gives back the credit of deliveries that the broker has been told of. Returns who can get more for that.
    pub fn give_credit(&self, settled: &[Settled]) -> Vec<Attachment> {
        let mut able = BTreeSet::new();
        for one in settled.iter().filter(|one| one.counted) {
            let Some(subscription) = self.subscriptions.get(&one.subscription) else { continue };
            subscription.credit.give(1);
            able.insert(one.subscription);
        }
        able.into_iter().flat_map(|number| self.attachments(number)).collect()
    }

    /// Puts back deliveries that a transaction had settled. Those whose subscription or queue is gone since are returned.
    pub fn unsettle(&mut self, settled: Vec<Settled>) -> Vec<Settled> {
        let mut left = Vec::new();
        for one in settled {
            let subscription = self.subscriptions.get_mut(&one.subscription);
            match (subscription, self.sources.get_mut(&one.source)) {
                (Some(subscription), Some(source)) => {
                    let Settled { source: number, slot, record, counted, revoked, .. } = one;
                    let unsettled = Unsettled { source: number, slot, record, counted, revoked };
                    subscription.unsettled.insert(one.delivery, unsettled);
                    source.held += 1;
                }
                _ => left.push(one),
            }
        }
        left
    }
}
