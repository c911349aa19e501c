//! Numbers for who asks for them by a message: what ActiveMQ's statistics plugin does.
//!
//! A message with a reply address that goes to `ActiveMQ.Statistics.Broker` or `ActiveMQ.Statistics.Destination.QUEUE` is
//! answered by a map, for a pattern of queues by one for each; one that goes to `ActiveMQ.Statistics.Subscription` by one for each
//! consumer.

use std::sync::Arc;

use broker::{Access, Event, Name, QueueInfo, broker::Caller, publish::Batch, queue::QueueNumbers};

use super::OpenWireSession;
use crate::{
    TOPICS,
    ids::DestinationKind,
    mapping::{Address, Exception, addresses, matches},
    message::{Message, MessageKind},
    notices::{self, Entry, count, number, text},
    primitive::Value,
    structure::Owned,
    subscriptions::Subscription,
};

/// What the names of these destinations begin with.
const STATISTICS: &str = "ActiveMQ.Statistics.";

/// Queues of one pattern, or consumers, that are told of at most.
const ANSWERS: usize = 1024;

impl OpenWireSession {
    /// Answers a message that asks for numbers. Returns whether it is one.
    pub(super) fn answers_statistics(
        &mut self,
        caller: &Caller,
        question: &Message<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<bool, Exception> {
        let name = question.destination.as_ref().and_then(|destination| destination.physical_name.as_deref());
        let asked = name.and_then(|name| name.strip_prefix(STATISTICS));
        let (Some(asked), Some(reply_to)) = (asked, &question.reply_to) else { return Ok(false) };
        let answers = match (asked, asked.strip_prefix("Destination.")) {
            ("Broker", _) => vec![self.broker_numbers(caller)],
            ("Subscription", _) => self.subscription_numbers(caller),
            (_, Some(pattern)) => self.queue_numbers(caller, pattern),
            _ => return Ok(false),
        };
        // What was sent before counts.
        self.apply(batch);
        let kind = reply_to.kind;
        for address in addresses(reply_to)? {
            for numbers in &answers {
                self.send_numbers(caller, question, (&address, kind), numbers)?;
            }
        }
        Ok(true)
    }

    fn send_numbers(
        &mut self,
        caller: &Caller,
        question: &Message<'_>,
        (address, kind): (&Address, DestinationKind),
        numbers: &[Entry],
    ) -> Result<(), Exception> {
        let mut answer = Message {
            kind: MessageKind::Map,
            correlation_id: question.correlation_id.clone().map(Owned::into_owned),
            timestamp: self.broker.now().0 as i64,
            content: notices::map(numbers),
            ..Message::default()
        };
        notices::own(&self.settings, &self.shared, address.destination(kind), &mut answer);
        Ok(notices::send(&self.broker, caller, address, &mut answer)?)
    }

    /// What there is in the client's vhost.
    fn broker_numbers(&self, caller: &Caller) -> Vec<Entry> {
        let mut sum = QueueNumbers::default();
        self.broker.survey_queues(|info, numbers| {
            if info.vhost == *caller.vhost.name() {
                sum.ready += numbers.ready;
                sum.held += numbers.held;
                sum.memory_bytes += numbers.memory_bytes;
                sum.consumers += numbers.consumers;
                sum.counts.add_all(&numbers.counts);
            }
        });
        let mut told = entries(&sum);
        let expired = self.broker.departed().find(|(reason, _)| *reason == "expired").map_or(0, |(_, count)| count);
        told.push(number("expiredCount", expired));
        told.push(number("producerCount", self.shared.directory.matching(caller.vhost.name(), PRODUCERS).len() as u64));
        told.push(text("brokerName", &self.settings.broker_name));
        told.push(text("brokerId", &notices::broker_id(&self.settings)));
        told.push(text("openwire", &format!("tcp://{}", self.peer.local)));
        told
    }

    /// The consumers of what the client may read.
    fn subscription_numbers(&self, caller: &Caller) -> Vec<Vec<Entry>> {
        let may_read = |one: &Arc<Subscription>| {
            let destination = one.info.destination.as_ref().filter(|destination| !destination.kind.is_temporary());
            let of = destination.and_then(|destination| addresses(destination).ok()).unwrap_or_default();
            let is_readable = |address: &Address| match address {
                Address::Queue(name) => self.broker.may_use(caller, Access::Read, ("", name)),
                Address::Topic(name) => self.broker.may_use(caller, Access::Read, (TOPICS, name)),
            };
            !of.is_empty() && of.iter().all(is_readable)
        };
        let subscriptions = self.shared.subscriptions.of(caller.vhost.name());
        let told = subscriptions.iter().filter(|one| may_read(one)).take(ANSWERS);
        told.map(|one| self.numbers_of(one)).collect()
    }

    fn numbers_of(&self, subscription: &Subscription) -> Vec<Entry> {
        let Subscription { info, client_id, numbers } = subscription;
        let (dispatched, done) = numbers.get();
        let held = dispatched.saturating_sub(done);
        let prefetch = u64::try_from(info.prefetch_size).unwrap_or(0);
        let (id, destination) = (info.consumer_id.as_ref(), info.destination.as_ref());
        let connection = id.and_then(|id| id.connection_id.as_deref()).unwrap_or_default();
        let flag = |name: &'static str, flag| (name.into(), Value::Bool(flag));
        vec![
            text("destinationName", destination.and_then(|to| to.physical_name.as_deref()).unwrap_or_default()),
            text("clientId", client_id.as_deref().unwrap_or_default()),
            text("connectionId", connection),
            number("sessionId", id.map_or(0, |id| id.session_id as u64)),
            text("selector", info.selector.as_deref().unwrap_or_default()),
            number("enqueueCounter", dispatched),
            number("dequeueCounter", done),
            number("dispatchedCounter", dispatched),
            number("dispatchedQueueSize", held),
            count("prefetchSize", prefetch as usize),
            count("maximumPendingMessageLimit", usize::try_from(info.maximum_pending_message_limit).unwrap_or(0)),
            flag("exclusive", info.exclusive),
            flag("retroactive", info.retroactive),
            flag("slowConsumer", prefetch > 0 && held >= prefetch),
            text("brokerName", &self.settings.broker_name),
            text("brokerId", &notices::broker_id(&self.settings)),
        ]
    }

    /// What there is in the queues of a pattern that the client may read.
    fn queue_numbers(&self, caller: &Caller, pattern: &str) -> Vec<Vec<Entry>> {
        let queues: Vec<Arc<QueueInfo>> = {
            let state = caller.vhost.read();
            let wanted = state.queues().filter(|queue| queue.owner.is_none() && matches(pattern, &queue.name));
            wanted.cloned().collect()
        };
        let readable = |name: &Name| self.broker.check_readable(caller, name).is_ok();
        let numbers = queues.iter().filter(|queue| readable(&queue.name)).take(ANSWERS);
        let of = |queue: &Arc<QueueInfo>| {
            let mut told = entries(&self.broker.queue_numbers(queue)?);
            let producers = self.shared.directory.count(&queue.vhost, &format!("{PRODUCERS_OF_QUEUE}{}", queue.name));
            told.push(number("producerCount", producers as u64));
            told.push(text("destinationName", &format!("queue://{}", queue.name)));
            Some(told)
        };
        numbers.filter_map(of).collect()
    }
}

/// What the directory knows producers by.
const PRODUCERS: &str = "ActiveMQ.Advisory.Producer.>";
const PRODUCERS_OF_QUEUE: &str = "ActiveMQ.Advisory.Producer.Queue.";

/// What ActiveMQ calls the numbers of queues.
fn entries(numbers: &QueueNumbers) -> Vec<Entry> {
    let QueueNumbers { ready, held, memory_bytes, consumers, counts, .. } = *numbers;
    vec![
        number("size", ready + held),
        number("inflightCount", held),
        number("enqueueCount", counts.get(Event::Publish)),
        number("dequeueCount", counts.get(Event::Acknowledge) + counts.get(Event::DeliverNoAck)),
        number("dispatchCount", counts.delivered()),
        number("consumerCount", consumers.into()),
        number("memoryUsage", memory_bytes),
    ]
}
