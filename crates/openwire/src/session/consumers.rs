//! Consumers: where they get messages from, what becomes of what they held, and durable subscriptions.

use std::sync::Arc;

use broker::{
    Attachment, BindingRequest, Browses, Consumer as Attaching, DeleteRule, End, Filter, Outlet, Position,
    QueueDeclaration, QueueInfo, RecalledTo, Refusal, Settlement, Start, Table, broker::Caller, publish::Batch,
};

use super::{OpenWireSession, Outcome, patterns::Pattern};
use crate::{
    TOPICS,
    connection::{ConsumerControl, ConsumerInfo, RemoveInfo, RemoveSubscriptionInfo},
    ids::{ConsumerId, DestinationKind, ObjectId},
    mapping::{Address, Exception, addresses, binding_key},
    outgoing::{ConsumerOut, Settled, key_of},
    structure::Owned,
    subscriptions::Subscription,
};

/// Queues that consumers of a virtual topic have begin so.
const VIRTUAL_CONSUMER: &str = "Consumer.";

/// Topics that such queues get messages from begin so.
const VIRTUAL_TOPIC: &str = "VirtualTopic.";

/// A consumer as the session knows it. What concerns its dispatches is in [`crate::outgoing`].
#[derive(Debug)]
pub(super) struct Consumer {
    /// Its number there.
    pub(super) number: u32,
    prefetch: u32,
    /// The topics of advisories to which it listens that are made only while somebody does.
    listens_to: Vec<Box<str>>,
    /// What it takes to put it on queues that are made later.
    pub(super) pattern: Option<Box<Pattern>>,
}

/// What a consumer is put on.
pub(super) struct Place {
    pub(super) queue: Arc<QueueInfo>,
    /// What its messages come from, if they do not tell.
    pub(super) address: Option<Address>,
    pub(super) position: Position,
}

impl OpenWireSession {
    /// A new consumer. One that is there already is left as it is.
    pub(super) fn add_consumer(&mut self, info: &ConsumerInfo<'_>) -> Result<Outcome, Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(Outcome::done(Position(0))) };
        let filter = self.filter(info)?;
        let missing = |what| Exception::jms(format!("a consumer without {what}"));
        let id = info.consumer_id.clone().ok_or_else(|| missing("an id"))?.into_owned();
        let destination = info.destination.as_ref().ok_or_else(|| missing("a destination"))?;
        if self.consumers.contains_key(&id) {
            return Ok(Outcome::done(Position(0)));
        }
        let addresses = addresses(destination)?;
        let is_durable = info.subscription_name.as_deref().is_some_and(|name| !name.is_empty());
        self.check_consumer(&caller, info, destination.kind)?;
        let is_shared = |address: &Address| matches!(address, Address::Queue(_));
        let settles_itself = !is_durable && !addresses.iter().any(is_shared);
        let no_local = self.client.connection_id.clone().filter(|_| info.no_local);
        let prefetch = u32::try_from(info.prefetch_size).unwrap_or(0);
        let consumer = ConsumerOut::new(id.clone(), no_local, settles_itself, prefetch == 0 && !settles_itself);
        let numbers = Arc::clone(&consumer.numbers);
        let number = self.outgoing.lock().open(consumer);
        let subscription =
            Subscription { info: info.clone().into_owned(), client_id: self.client.client_id.clone(), numbers };
        self.shared.subscriptions.add(caller.vhost.name(), &id.to_string(), subscription);
        let listens_to = self.begin_listening(&caller, &addresses);
        let pattern = self.watch_patterns(&caller, info, filter.as_ref(), (&addresses, destination.kind));
        self.consumers.insert(id.clone(), Consumer { number, prefetch, listens_to, pattern });
        let mut safe = Position(0);
        let attached = self.places(&caller, info, &addresses, destination.kind).and_then(|places| {
            places.into_iter().try_for_each(|place| {
                safe = safe.max(place.position);
                self.attach(&caller, (number, filter.clone()), info, place, destination.kind).map(|_| ())
            })
        });
        if let Err(exception) = attached {
            self.close_consumer(&id, None);
            return Err(exception);
        }
        self.set_credit(number, prefetch);
        let attachments = self.attachments(number);
        self.replay_advisories(&addresses, number);
        self.announce_consumer(info, &id, &addresses);
        Ok(Outcome::Done(safe, attachments))
    }

    /// Refuses what cannot be.
    fn check_consumer(&self, caller: &Caller, info: &ConsumerInfo<'_>, kind: DestinationKind) -> Result<(), Exception> {
        if info.browser && kind.is_topic() {
            return Err(Exception::destination("topics have nothing to browse"));
        }
        let name = info.destination.as_ref().and_then(|destination| destination.physical_name.as_deref());
        if let Some(temporary) =
            name.filter(|_| kind.is_temporary()).map(|name| self.shared.temporary(caller.vhost.name(), name))
        {
            let owner =
                temporary.ok_or_else(|| Exception::destination("the temporary destination is gone"))?.connection_id;
            if Some(&owner) != self.client.connection_id.as_ref() {
                return Err(Exception::destination("Cannot use a Temporary destination from another Connection"));
            }
        }
        Ok(())
    }

    /// The filter of a consumer's selector.
    fn filter(&self, info: &ConsumerInfo<'_>) -> Result<Option<Filter>, Exception> {
        let selector = info.selector.as_deref().unwrap_or_default();
        self.broker.selector(selector).map_err(|error| Exception::selector(format!("{selector}: {error}")))
    }

    /// The queues that a consumer is put on. Its topics are one subscription.
    fn places(
        &mut self,
        caller: &Caller,
        info: &ConsumerInfo<'_>,
        addresses: &[Address],
        kind: DestinationKind,
    ) -> Result<Vec<Place>, Exception> {
        let mut places = Vec::new();
        let topics: Vec<&Address> = addresses.iter().filter(|one| matches!(one, Address::Topic(_))).collect();
        if !topics.is_empty() {
            let patterns: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
            let (queue, position) = self.subscribe(caller, info, &patterns)?;
            let only = (topics.len() == 1).then(|| topics[0].clone());
            places.push(Place { queue, address: only.filter(|topic| !topic.is_pattern()), position });
        }
        for address in addresses {
            match address {
                Address::Queue(pattern) if address.is_pattern() => {
                    for name in self.broker.queues_of_pattern(caller, pattern) {
                        let queue = self.broker.queue(caller, &name)?;
                        let address = Some(Address::Queue(name.to_string()));
                        places.push(Place { queue, address, position: Position(0) });
                    }
                }
                Address::Queue(name) => {
                    let (queue, position) = self.queue_for(caller, name, kind)?;
                    places.push(Place { queue, address: Some(address.clone()), position });
                }
                Address::Topic(_) => {}
            }
        }
        Ok(places)
    }

    /// The queue of a name, which is made if it is not there.
    pub(super) fn queue_for(
        &mut self,
        caller: &Caller,
        name: &str,
        kind: DestinationKind,
    ) -> Result<(Arc<QueueInfo>, Position), Exception> {
        match self.broker.queue(caller, name) {
            Ok(queue) => return Ok((queue, Position(0))),
            Err(Refusal::NotFound(_)) if !kind.is_temporary() => {}
            Err(refusal) => return Err(refusal.into()),
        }
        self.broker.check_queue_name(caller, name)?;
        let declaration = QueueDeclaration { durable: true, ..QueueDeclaration::default() };
        let (queue, mut position) = self.broker.declare_queue(caller, name, declaration)?;
        self.advise_queue(caller, name, true);
        if let Some(topic) = virtual_topic(name) {
            position = position.max(self.bind(caller, name, TOPICS, &binding_key(topic), Table::default())?);
        }
        Ok((queue, position))
    }

    fn bind(
        &self,
        caller: &Caller,
        queue: &str,
        source: &str,
        key: &str,
        arguments: Table,
    ) -> Result<Position, Refusal> {
        self.broker.bind(caller, BindingRequest { source, destination: End::Queue(queue), key, arguments })
    }

    /// The queue of a subscription of topics: one of its own, or the durable one of that name.
    fn subscribe(
        &mut self,
        caller: &Caller,
        info: &ConsumerInfo<'_>,
        patterns: &[&str],
    ) -> Result<(Arc<QueueInfo>, Position), Exception> {
        let selector = info.selector.as_deref().map(str::trim).filter(|selector| !selector.is_empty());
        let durable = info.subscription_name.as_deref().filter(|name| !name.is_empty());
        let name = match durable {
            Some(subscription) => self.subscription_queue(subscription)?,
            None => format!("openwire-subscription-{}", self.broker.unique_name()),
        };
        if durable.is_some() && self.is_other_subscription(caller, &name, patterns, selector) {
            self.drop_subscription(caller, &name)?;
        }
        let is_durable = durable.is_some();
        let is_new = self.broker.queue(caller, &name).is_err();
        let declaration = QueueDeclaration {
            durable: is_durable,
            exclusive: !is_durable,
            auto_delete: !is_durable,
            arguments: Table::default(),
        };
        let (queue, mut position) = self.broker.declare_queue(caller, &name, declaration)?;
        if is_durable && self.broker.counts(&queue).consumers > 0 {
            let (client, subscription) =
                (self.client.client_id.as_deref().unwrap_or_default(), durable.unwrap_or_default());
            let text = format!("Durable consumer is in use for client: {client} and subscriptionName: {subscription}");
            return Err(Exception::jms(text));
        }
        for pattern in patterns {
            // What comes in between is recalled when the subscription is bound.
            let mut recalled = None;
            if info.retroactive && is_new {
                let mut to = RecalledTo::default();
                self.recall(info, pattern, &queue, &mut to)?;
                recalled = Some(to);
            }
            position = position.max(self.bind_subscription(caller, &name, pattern, selector, is_durable)?);
            if let Some(mut to) = recalled {
                self.recall(info, pattern, &queue, &mut to)?;
            }
        }
        Ok((queue, position))
    }

    /// Gives a new subscription what its topics remember.
    fn recall(
        &self,
        info: &ConsumerInfo<'_>,
        pattern: &str,
        queue: &Arc<QueueInfo>,
        to: &mut RecalledTo,
    ) -> Result<(), Exception> {
        let filter = self.filter(info)?;
        self.broker.recall(queue, (TOPICS, &binding_key(pattern)), filter.as_ref(), to);
        Ok(())
    }

    /// Has a subscription get messages of its topics.
    fn bind_subscription(
        &self,
        caller: &Caller,
        name: &str,
        pattern: &str,
        selector: Option<&str>,
        is_durable: bool,
    ) -> Result<Position, Refusal> {
        let key = binding_key(pattern);
        let Some(selector) = selector else { return self.bind(caller, name, TOPICS, &key, Table::default()) };
        self.broker.bind_selected(caller, name, (TOPICS, &key), selector, is_durable)
    }

    /// The queue of a durable subscription of this client.
    fn subscription_queue(&self, subscription: &str) -> Result<String, Exception> {
        let client = self.client.client_id.as_deref();
        let client = client.ok_or_else(|| {
            Exception::state(
                "You cannot create a durable subscriber without specifying a unique clientID on a Connection",
            )
        })?;
        // So that no two clients share one by accident.
        let client = client.replace('%', "%25").replace(':', "%3A");
        let name = format!("jms-subscription-{client}:{subscription}");
        if name.len() > 255 {
            return Err(Exception::jms("the names of the client and the subscription are too long"));
        }
        Ok(name)
    }

    /// Whether a subscription is there, and is one of something else.
    fn is_other_subscription(&self, caller: &Caller, name: &str, patterns: &[&str], selector: Option<&str>) -> bool {
        let Ok(queue) = self.broker.queue(caller, name) else { return false };
        let keys: Vec<String> = patterns.iter().map(|pattern| binding_key(pattern)).collect();
        let state = caller.vhost.read();
        let is_to_queue = |binding: &&broker::Binding| {
            binding.destination == broker::Destination::Queue(queue.id) && !binding.source.is_empty()
        };
        let bound: Vec<_> = state.bindings().filter(is_to_queue).collect();
        let is_bound = |key: &String| {
            bound.iter().any(|binding| {
                let own = binding.arguments.get("x-jms-selector").and_then(broker::Value::as_text);
                *binding.key == **key && own == selector
            })
        };
        !keys.iter().all(is_bound) || bound.iter().any(|binding| keys.iter().all(|key| *binding.key != **key))
    }

    /// Ends a durable subscription, with what waits for it.
    fn drop_subscription(&mut self, caller: &Caller, name: &str) -> Result<Position, Refusal> {
        let rule = DeleteRule { if_unused: true, if_empty: false };
        let (_, position) = self.broker.delete_queue(caller, name, rule)?;
        Ok(position)
    }

    /// The client no longer wants a durable subscription.
    pub(super) fn remove_subscription(&mut self, info: &RemoveSubscriptionInfo<'_>) -> Result<Position, Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(Position(0)) };
        let name = self.subscription_queue(info.subscription_name.as_deref().unwrap_or_default())?;
        match self.drop_subscription(&caller, &name) {
            Ok(position) => Ok(position),
            Err(Refusal::InUse(_)) => Err(Exception::jms("Durable consumer is in use")),
            Err(Refusal::NotFound(_)) => {
                let subscription = info.subscription_name.as_deref().unwrap_or_default();
                let text = format!("No durable subscription exists for: {subscription}");
                Err(Exception::destination(text))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Puts a consumer on a queue. It gets its first message once it is resumed.
    pub(super) fn attach(
        &mut self,
        caller: &Caller,
        (number, filter): (u32, Option<Filter>),
        info: &ConsumerInfo<'_>,
        place: Place,
        kind: DestinationKind,
    ) -> Result<Option<Attachment>, Exception> {
        // What a subscription gets has been selected on its way there.
        let is_queue = matches!(place.address, Some(Address::Queue(_)));
        let filter = filter.filter(|_| is_queue);
        let destination = place.address.map(|address| address.destination(kind));
        let (source, settles_itself, shared) = {
            let mut state = self.outgoing.lock();
            let Some(out) = state.consumer(number) else { return Ok(None) };
            let source = out.add_source(Arc::clone(&place.queue), destination);
            (source, out.settles_itself(), Arc::clone(&out.credit))
        };
        let consumer = Attaching {
            outlet: Arc::clone(&self.outgoing) as Arc<dyn Outlet>,
            key: key_of(number, source),
            session: self.id,
            settles_itself,
            exclusive: false,
            single_active: info.exclusive,
            groups: is_queue.then(|| self.broker.grouping()),
            priority: info.priority.into(),
            timeout_ms: None,
            start: Start::default(),
            filter,
            browses: info.browser.then_some(Browses::Copies),
            prefetch: 0,
            shared,
        };
        let attachment = self.broker.consume(caller, &place.queue.name, consumer)?;
        if let Some(out) = self.outgoing.lock().consumer(number) {
            out.attached(source, attachment.consumer);
        }
        Ok(Some(attachment))
    }

    /// How many dispatches a consumer may have and not have told of. One that asks for each may have none before.
    fn set_credit(&mut self, number: u32, prefetch: u32) {
        if let Some(out) = self.outgoing.lock().consumer(number) {
            let (limit, held) = if out.pulls { (1, 1) } else { (prefetch, 0) };
            out.credit.set(limit, held);
        }
    }

    pub(super) fn attachments(&self, number: u32) -> Vec<Attachment> {
        self.outgoing.lock().consumer(number).map(|out| out.attachments()).unwrap_or_default()
    }

    /// The client changes a consumer.
    pub(super) fn control_consumer(&mut self, control: &ConsumerControl<'_>) -> Result<Position, Exception> {
        let Some(id) = control.consumer_id.clone().map(Owned::into_owned) else { return Ok(Position(0)) };
        if control.close {
            self.close_consumer(&id, None);
            return Ok(Position(0));
        }
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(Position(0)) };
        let (number, prefetch) = (consumer.number, u32::try_from(control.prefetch).unwrap_or(0));
        if prefetch > 0 && prefetch != consumer.prefetch {
            consumer.prefetch = prefetch;
            if let Some(out) = self.outgoing.lock().consumer(number) {
                let held = out.counted();
                out.pulls = false;
                out.credit.set(prefetch, held);
            }
            self.attachments(number).iter().for_each(|attachment| self.broker.resume(attachment));
        }
        Ok(Position(0))
    }

    /// Something is no more, nor what belongs to it.
    pub(super) fn remove(&mut self, info: &RemoveInfo<'_>) -> Result<Position, Exception> {
        let last = info.last_delivered_sequence_id;
        match info.object_id.clone().map(Owned::into_owned) {
            Some(ObjectId::Consumer(id)) => self.close_consumer(&id, Some(last)),
            Some(ObjectId::Producer(id)) => {
                self.close_producers([id.clone()]);
                self.withdraw(&ObjectId::Producer(id));
            }
            Some(ObjectId::Session(id)) => {
                let is_of = |connection: &Option<crate::lent::Text<'_>>, session: i64| {
                    session == id.value && *connection == id.connection_id
                };
                let consumers: Vec<_> =
                    self.consumers.keys().filter(|one| is_of(&one.connection_id, one.session_id)).cloned().collect();
                consumers.iter().for_each(|id| self.close_consumer(id, Some(last)));
                let producers: Vec<_> =
                    self.producers.keys().filter(|one| is_of(&one.connection_id, one.session_id)).cloned().collect();
                self.close_producers(producers.iter().cloned());
                producers.into_iter().for_each(|id| self.withdraw(&ObjectId::Producer(id)));
            }
            Some(ObjectId::Connection(_)) => {
                let consumers: Vec<_> = self.consumers.keys().cloned().collect();
                consumers.iter().for_each(|id| self.close_consumer(id, None));
                self.roll_back_all();
                let producers: Vec<_> = self.producers.keys().cloned().collect();
                self.close_producers(producers);
                self.withdraw_all();
                if let Some(caller) = self.caller.clone() {
                    self.forget_temporaries(&caller);
                    // Whoever is told of it may come back at once, over another socket.
                    self.shared.leave(&caller, &self.client, self.id);
                }
            }
            None => {}
        }
        Ok(Position(0))
    }

    /// A consumer ends. What it had goes back; what the application has seen, up to a number if that is known, was an
    /// attempt.
    pub(super) fn close_consumer(&mut self, id: &ConsumerId<'static>, last_seen: Option<i64>) {
        let Some(consumer) = self.consumers.remove(id) else { return };
        self.end_listening(&consumer.listens_to);
        if let Some(caller) = &self.caller {
            self.shared.subscriptions.remove(caller.vhost.name(), &id.to_string());
        }
        self.withdraw(&ObjectId::Consumer(id.clone()));
        self.pulls.retain(|(_, waiting)| *waiting != consumer.number);
        let mut state = self.outgoing.lock();
        let attachments = state.consumer(consumer.number).map(|out| out.attachments()).unwrap_or_default();
        drop(state);
        // The broker lets go of it first, or it would get its messages again, and others after it is gone here.
        if let Some(caller) = &self.caller {
            attachments.iter().for_each(|attachment| self.broker.cancel(caller, attachment));
        }
        let left = self.outgoing.lock().close(consumer.number);
        let is_seen = |one: &Settled| match last_seen {
            Some(-1) => false,
            Some(last) if last >= 0 => one.number <= last,
            _ => true,
        };
        let mut batch = Batch::default();
        for one in &left {
            let how = match (one.revoked, is_seen(one)) {
                (true, _) => Settlement::Late,
                (false, true) => Settlement::Fail,
                (false, false) => Settlement::Release,
            };
            batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
        }
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }
}

/// The topic whose messages a queue is to get by its name alone: `Consumer.NAME.VirtualTopic.TOPIC`.
fn virtual_topic(queue: &str) -> Option<&str> {
    let (_, rest) = queue.strip_prefix(VIRTUAL_CONSUMER)?.split_once('.')?;
    rest.starts_with(VIRTUAL_TOPIC).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_topics_have_consumers_with_names() {
        assert_eq!(virtual_topic("Consumer.A.VirtualTopic.Orders"), Some("VirtualTopic.Orders"));
        assert_eq!(virtual_topic("Consumer.A.VirtualTopic.>"), Some("VirtualTopic.>"));
        for other in ["Consumer.VirtualTopic.Orders", "Consumer.A.Orders", "VirtualTopic.Orders"] {
            assert_eq!(virtual_topic(other), None, "{other}");
        }
    }
}
