//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11).
//!
//! A filter is a binding key of `amq.topic`. Without acknowledgement, messages come straight to the connection; with it they
//! come by the session's queue; those of a shared subscription come by the queue of its group.

use std::sync::Arc;

use broker::{
    BindingRequest, Consumer, ConsumerKey, DURABLE_ONLY, End, Millis, Name, Outlet, Position, QueueDeclaration,
    QueueInfo, Refusal, Start, Table, Value, broker::Caller, publish::Batch,
};

use super::{MqttConnection, answers::ack_filters};
use crate::{
    EXCHANGE,
    mapping::Reason,
    message, notes,
    outgoing::{DIRECT, OWN, Source},
    packet::{Filter, Qos, Subscribe, Unsubscribe, Version, kind},
    subscriptions::Subscription,
    topic,
};

impl MqttConnection {
    /// Takes a SUBSCRIBE packet.
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe<'_>, now: Millis) {
        let mut safe = Position(0);
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut notes = Batch::default();
        for filter in &subscribe.filters {
            let one = Subscription { options: filter.options, id: subscribe.subscription_id.unwrap_or(0) };
            let outcome = self.subscribe_one(filter, one, &mut notes);
            reasons.push(match outcome {
                Ok(position) => {
                    safe = safe.max(position);
                    filter.options.qos as u8
                }
                Err(reason) if self.version == Version::V5 => self.revealed(reason) as u8,
                Err(_) => Reason::UnspecifiedError as u8,
            });
        }
        if !notes.is_empty() {
            safe = safe.max(self.broker.apply(&mut notes).position);
        }
        self.ack_filters(safe, kind::SUBACK, subscribe.packet_id, &reasons, now);
        self.resume_all();
    }

    /// Answers with a reason for each filter, if the client takes packets of that size (MQTT-3.1.2-24).
    fn ack_filters(&mut self, safe: Position, kind: u8, packet_id: u16, reasons: &[u8], now: Millis) {
        let bytes = ack_filters(kind, self.version, packet_id, reasons);
        if bytes.len() > self.outgoing.lock().packet_max {
            return self.close(Reason::PacketTooLarge, now);
        }
        self.respond(safe, bytes);
        self.tell();
    }

    fn subscribe_one(
        &mut self,
        filter: &Filter<'_>,
        one: Subscription,
        notes: &mut Batch<'_>,
    ) -> Result<Position, Reason> {
        let Some(caller) = self.caller.clone() else { return Err(Reason::UnspecifiedError) };
        let whole = filter.filter;
        let refused = |refusal: Refusal| Reason::of(&refusal);
        let position = if let Some((group, filter)) = topic::shared(whole) {
            if !topic::is_shared_filter(group, filter) {
                return Err(Reason::TopicFilterInvalid);
            }
            self.subscribe_shared(&caller, whole, (group, filter), one).map_err(refused)?
        } else {
            if !topic::is_filter(whole) {
                return Err(Reason::TopicFilterInvalid);
            }
            self.subscribe_plain(&caller, whole, one).map_err(refused)?
        };
        if self.is_persistent() {
            notes::subscription(notes, self.number, whole, Some(&one));
        }
        Ok(position)
    }

    fn subscribe_plain(&mut self, caller: &Caller, filter: &str, one: Subscription) -> Result<Position, Refusal> {
        let before = self.outgoing.lock().subscriptions.get(filter).copied();
        let (by_queue, by_queue_before) =
            (one.options.qos > Qos::AtMostOnce, before.map(|one| one.options.qos > Qos::AtMostOnce));
        let mut position = Position(0);
        if by_queue_before != Some(by_queue) {
            position = self.bind_plain(caller, filter, by_queue)?;
        }
        self.outgoing.lock().subscriptions.insert(filter, one);
        if by_queue_before == Some(!by_queue) {
            self.unbind(caller, &self.plain_name(!by_queue), filter);
        }
        if topic::is_of_broker(filter) {
            self.sessions.watch_sys(self.number, &self.outgoing);
        }
        if one.options.retain_handling == 0 || (one.options.retain_handling == 1 && before.is_none()) {
            self.want_retained(filter, one);
        }
        Ok(position)
    }

    /// The queue, or what stands for it, by which subscriptions with acknowledgement or without come.
    fn plain_name(&self, by_queue: bool) -> Name {
        if by_queue { message::queue_name(&self.client_id) } else { message::direct_name(&self.client_id) }
    }

    fn bind_plain(&mut self, caller: &Caller, filter: &str, by_queue: bool) -> Result<Position, Refusal> {
        if by_queue {
            self.open_own(caller)?;
        } else {
            self.open_direct(caller);
        }
        self.bind(caller, &self.plain_name(by_queue), filter)
    }

    pub(super) fn bind(&self, caller: &Caller, queue: &str, filter: &str) -> Result<Position, Refusal> {
        self.broker.bind(caller, request(queue, &topic::binding_key(filter)))
    }

    fn unbind(&self, caller: &Caller, queue: &str, filter: &str) {
        // What cannot be unbound is gone, or will be passed over.
        let _ = self.broker.unbind(caller, request(queue, &topic::binding_key(filter)));
    }

    /// Makes the way by which messages come that nobody has to acknowledge.
    pub(super) fn open_direct(&mut self, caller: &Caller) {
        if self.direct.is_none() {
            let outlet = Arc::clone(&self.outgoing) as Arc<dyn Outlet>;
            let name = message::direct_name(&self.client_id);
            self.direct = Some(self.broker.open_direct(caller, &name, outlet, DIRECT));
        }
    }

    /// Makes the session's queue, if it is not there, and consumes from it.
    pub(super) fn open_own(&mut self, caller: &Caller) -> Result<(), Refusal> {
        if self.outgoing.lock().source(OWN).is_some() {
            return Ok(());
        }
        let name = message::queue_name(&self.client_id);
        let durable = self.is_persistent();
        let declaration = || {
            let arguments = Table(vec![(DURABLE_ONLY.into(), Value::Bool(true))]);
            QueueDeclaration { durable, exclusive: !durable, auto_delete: false, arguments }
        };
        let queue = match self.broker.declare_queue(caller, &name, declaration()) {
            Ok((queue, _)) => queue,
            Err(Refusal::Inequivalent { .. } | Refusal::Locked(_)) => {
                // A session of another kind has left it.
                let operator = self.broker.operator(caller.vhost.name())?;
                self.broker.delete_queue(&operator, &name, broker::DeleteRule::default())?;
                self.broker.declare_queue(caller, &name, declaration())?.0
            }
            Err(refusal) => return Err(refusal),
        };
        self.attach_own(caller, queue)
    }

    /// Consumes from the session's queue. The consumer is at rest until it is resumed.
    pub(super) fn attach_own(&mut self, caller: &Caller, queue: Arc<QueueInfo>) -> Result<(), Refusal> {
        let source = Source { queue: Arc::clone(&queue), consumer: None, shared: None };
        self.outgoing.lock().set_own(source);
        self.attach(caller, OWN, &queue)?;
        // What needs no acknowledgement does not wait behind what does.
        self.broker.set_past(&queue, Some((Arc::clone(&self.outgoing) as Arc<dyn Outlet>, OWN)));
        Ok(())
    }

    /// Has the outlet's consumer consume from a queue.
    fn attach(&self, caller: &Caller, key: ConsumerKey, queue: &QueueInfo) -> Result<(), Refusal> {
        let consumer = Consumer {
            outlet: Arc::clone(&self.outgoing) as Arc<dyn Outlet>,
            key,
            session: self.id,
            settles_itself: false,
            exclusive: false,
            single_active: false,
            groups: None,
            priority: 0,
            timeout_ms: None,
            start: Start::default(),
            filter: None,
            browses: None,
            prefetch: 0,
            shared: Arc::clone(&self.credit),
        };
        let attached = self.broker.consume(caller, &queue.name, consumer);
        let mut state = self.outgoing.lock();
        match attached {
            Ok(attachment) => {
                if let Some(source) = state.source_mut(key) {
                    source.consumer = Some(attachment.consumer);
                }
                Ok(())
            }
            Err(refusal) => {
                state.remove_source(key);
                Err(refusal)
            }
        }
    }

    fn subscribe_shared(
        &mut self,
        caller: &Caller,
        whole: &str,
        (group, filter): (&str, &str),
        one: Subscription,
    ) -> Result<Position, Refusal> {
        let known = {
            let mut state = self.outgoing.lock();
            let known = state.shared(whole);
            if let Some(source) = known.and_then(|key| state.source_mut(key)) {
                source.shared = Some((whole.into(), one));
            }
            known
        };
        if one.options.qos == Qos::ExactlyOnce {
            // By it comes what nobody else of the group may get any more.
            self.open_own(caller)?;
        }
        if known.is_some() {
            return Ok(Position(0));
        }
        let name = message::shared_name(group, filter);
        let queue = match self.broker.queue(caller, &name) {
            Ok(queue) => queue,
            Err(_) => {
                let arguments = message::shared_arguments();
                let declaration = QueueDeclaration { durable: true, arguments, ..QueueDeclaration::default() };
                self.broker.declare_queue(caller, &name, declaration)?.0
            }
        };
        let position = self.bind(caller, &name, filter)?;
        self.attach_shared(caller, whole, queue, one)?;
        Ok(position)
    }

    /// Consumes from the queue of a shared subscription. The consumer is at rest until it is resumed.
    pub(super) fn attach_shared(
        &mut self,
        caller: &Caller,
        whole: &str,
        queue: Arc<QueueInfo>,
        one: Subscription,
    ) -> Result<(), Refusal> {
        let source = Source { queue: Arc::clone(&queue), consumer: None, shared: Some((whole.into(), one)) };
        let key = {
            let mut state = self.outgoing.lock();
            state.forget_left();
            state.add_shared(source)
        };
        self.attach(caller, key, &queue)?;
        self.sessions.join_group(caller.vhost.name(), &queue.name, self.number);
        Ok(())
    }

    /// Takes an UNSUBSCRIBE packet.
    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, now: Millis) {
        let mut notes = Batch::default();
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let reason = if topic::shared(filter).is_some() {
                self.unsubscribe_shared(filter)
            } else {
                self.unsubscribe_plain(filter)
            };
            if reason == Reason::Success && self.is_persistent() {
                notes::subscription(&mut notes, self.number, filter, None);
            }
            reasons.push(reason as u8);
        }
        let safe = if notes.is_empty() { Position(0) } else { self.broker.apply(&mut notes).position };
        self.ack_filters(safe, kind::UNSUBACK, unsubscribe.packet_id, &reasons, now);
    }

    fn unsubscribe_plain(&mut self, filter: &str) -> Reason {
        let Some(caller) = self.caller.clone() else { return Reason::UnspecifiedError };
        if !topic::is_filter(filter) {
            return Reason::TopicFilterInvalid;
        }
        self.forget_retained(filter);
        let Some(one) = self.outgoing.lock().subscriptions.remove(filter) else {
            return Reason::NoSubscriptionExisted;
        };
        self.unbind(&caller, &self.plain_name(one.options.qos > Qos::AtMostOnce), filter);
        Reason::Success
    }

    fn unsubscribe_shared(&mut self, whole: &str) -> Reason {
        let Some(caller) = self.caller.clone() else { return Reason::UnspecifiedError };
        let (key, attachment) = {
            let state = self.outgoing.lock();
            let Some(key) = state.shared(whole) else { return Reason::NoSubscriptionExisted };
            (key, state.attachment(key))
        };
        attachment.iter().for_each(|attachment| self.broker.cancel(&caller, attachment));
        // What has been sent is sent to its end (MQTT-3.10.4-5).
        self.settle_done();
        {
            let mut state = self.outgoing.lock();
            if let Some(source) = state.source_mut(key) {
                source.shared = None;
            }
            state.forget_left();
        }
        self.sessions.leave_group(caller.vhost.name(), whole, self.number);
        Reason::Success
    }
}

fn request<'a>(queue: &'a str, key: &'a str) -> BindingRequest<'a> {
    BindingRequest { source: EXCHANGE, destination: End::Queue(queue), key, arguments: Table::default() }
}
