//! Numbers for who asks for them by a message: what ActiveMQ's statistics plugin does.
//!
//! A message with a reply address that goes to `ActiveMQ.Statistics.Broker` or `ActiveMQ.Statistics.Destination.QUEUE` is
//! answered by a map, for a pattern of queues by one for each.

use std::sync::Arc;

use broker::{
    Event, Message as Kept, MessageView, Name, QueueInfo, Refusal,
    broker::Caller,
    publish::{Batch, Body},
    queue::QueueNumbers,
};

use super::OpenWireSession;
use crate::{
    ORIGIN, TOPICS,
    ids::{DestinationKind, MessageId, ProducerId},
    lent::Text,
    mapping::{Address, Exception, addresses, matches},
    message::{Message, MessageKind},
    primitive::{self, Value},
    stored::Published,
    structure::Owned,
};

/// What the names of these destinations begin with.
const STATISTICS: &str = "ActiveMQ.Statistics.";

/// Queues of one pattern that are told of at most.
const ANSWERS: usize = 1024;

/// Entries of a reply.
type Numbers = Vec<(Text<'static>, Value<'static>)>;

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
        numbers: &Numbers,
    ) -> Result<(), Exception> {
        let now = self.broker.now();
        let producer_id = ProducerId {
            connection_id: Some(format!("ID:{}", self.settings.broker_name).into()),
            value: 0,
            session_id: 0,
        };
        let mut content = Vec::new();
        primitive::put_map(&mut content, numbers).map_err(|_| Exception::jms("the numbers are too large"))?;
        let mut answer = Message {
            kind: MessageKind::Map,
            destination: Some(address.destination(kind)),
            correlation_id: question.correlation_id.clone().map(Owned::into_owned),
            message_id: Some(MessageId {
                producer_id: Some(producer_id.clone()),
                producer_sequence_id: self.shared.next_advisory(),
                ..MessageId::default()
            }),
            producer_id: Some(producer_id),
            timestamp: now.0 as i64,
            content: Some(content.into()),
            ..Message::default()
        };
        let (properties, payload) = self.storer.store(&mut answer);
        let facts = Published(&properties);
        let route = match address {
            Address::Topic(name) => self.broker.route(caller, TOPICS, &[name], &facts),
            Address::Queue(name) => self.broker.route_to_queue(caller, name, &facts),
        };
        let route = match route {
            Ok(route) => Arc::new(route),
            // Nobody is there any more to be told.
            Err(Refusal::NotFound(_)) => return Ok(()),
            Err(refusal) => return Err(refusal.into()),
        };
        let kept = Kept::copy_of(&MessageView {
            exchange: &route.exchange,
            routing_key: address.name(),
            origin: ORIGIN,
            durable: false,
            priority: None,
            arrived: now,
            due: None,
            properties: &properties,
            annotations: &[],
            payload: &payload,
            block: None,
        });
        let mut batch = Batch::default();
        batch.publish(Arc::clone(&route), Body::Owned(Arc::new(kept)), 0);
        self.broker.apply(&mut batch);
        Ok(())
    }

    /// What there is in the client's vhost.
    fn broker_numbers(&self, caller: &Caller) -> Numbers {
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
        told.push(long("expiredCount", expired));
        told.push(long("producerCount", self.shared.directory.matching(caller.vhost.name(), PRODUCERS).len() as u64));
        told.push(text("brokerName", &self.settings.broker_name));
        told.push(text("brokerId", &format!("ID:{}", self.settings.broker_name)));
        told.push(text("openwire", &format!("tcp://{}", self.peer.local)));
        told
    }

    /// What there is in the queues of a pattern that the client may read.
    fn queue_numbers(&self, caller: &Caller, pattern: &str) -> Vec<Numbers> {
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
            told.push(long("producerCount", producers as u64));
            told.push(text("destinationName", &format!("queue://{}", queue.name)));
            Some(told)
        };
        numbers.filter_map(of).collect()
    }
}

/// What the directory knows producers by.
const PRODUCERS: &str = "ActiveMQ.Advisory.Producer.>";
const PRODUCERS_OF_QUEUE: &str = "ActiveMQ.Advisory.Producer.Queue.";

fn long(name: &'static str, number: u64) -> (Text<'static>, Value<'static>) {
    (name.into(), Value::Long(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn text(name: &'static str, value: &str) -> (Text<'static>, Value<'static>) {
    (name.into(), Value::Text(value.to_owned().into()))
}

/// What ActiveMQ calls the numbers of queues.
fn entries(numbers: &QueueNumbers) -> Numbers {
    let QueueNumbers { ready, held, memory_bytes, consumers, counts, .. } = *numbers;
    vec![
        long("size", ready + held),
        long("inflightCount", held),
        long("enqueueCount", counts.get(Event::Publish)),
        long("dequeueCount", counts.get(Event::Acknowledge) + counts.get(Event::DeliverNoAck)),
        long("dispatchCount", counts.delivered()),
        long("consumerCount", consumers.into()),
        long("memoryUsage", memory_bytes),
    ]
}
