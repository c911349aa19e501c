//! PUBLISH from the client (section 3.3): the checks, the route, and the way into the batch.

use std::sync::Arc;

use broker::{
    Message, MessageView, Millis, Refusal, Route, limits,
    publish::{Batch, Body},
};

use super::{MqttConnection, answers::ack};
use crate::{
    EXCHANGE, ORIGIN,
    mapping::Reason,
    message::{HEAD_BYTES, Published, Stored, stored_properties},
    notes,
    packet::{Publish, Qos, Version, kind},
    properties::id,
    topic,
    wire::Malformed,
};

/// What is stored of messages without properties: one for each quality of service, retained or not.
pub(super) struct Heads([[u8; HEAD_BYTES]; 8]);

impl Heads {
    /// For messages of the session with a number.
    pub(super) fn new(number: u64) -> Self {
        let mut heads = [[0; HEAD_BYTES]; 8];
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            for retain in [false, true] {
                heads[Self::index(qos, retain)] = Stored::head(qos, retain, number);
            }
        }
        Self(heads)
    }

    fn index(qos: Qos, retain: bool) -> usize {
        qos as usize | usize::from(retain) << 2
    }

    fn get(&self, qos: Qos, retain: bool) -> &[u8; HEAD_BYTES] {
        &self.0[Self::index(qos, retain)]
    }
}

/// What a client is to be told of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) qos: Qos,
    pub(super) packet_id: u16,
    /// Whether it goes anywhere.
    is_wanted: bool,
}

impl Told {
    /// As a number that is not 0.
    fn token(self) -> u64 {
        u64::from(self.packet_id) | (self.qos as u64) << 16 | u64::from(self.is_wanted) << 24
    }

    pub(super) fn of_token(token: u64) -> Option<Self> {
        let qos = Qos::of_bits((token >> 16) as u8).ok().filter(|qos| *qos > Qos::AtMostOnce)?;
        Some(Self { qos, packet_id: token as u16, is_wanted: token >> 24 & 1 == 1 })
    }

    /// PUBACK or PUBREC. A client of MQTT 3 cannot be told that its message was refused, so it is told nothing.
    pub(super) fn packet(self, version: Version, is_refused: bool) -> Option<Vec<u8>> {
        let reason = match (is_refused, self.is_wanted) {
            (true, _) if version != Version::V5 => return None,
            (true, _) => Reason::QuotaExceeded,
            (false, true) => Reason::Success,
            (false, false) => Reason::NoMatchingSubscribers,
        };
        Some(ack(self.kind(), version, self.packet_id, reason))
    }

    fn kind(self) -> u8 {
        if self.qos == Qos::ExactlyOnce { kind::PUBREC } else { kind::PUBACK }
    }
}

/// A message that is not in the read buffer as a whole.
fn owned<'i>(
    route: &Route,
    routing_key: &str,
    (durable, ttl_ms, now): (bool, Option<u64>, Millis),
    properties: &[u8],
    payload: &[u8],
) -> Body<'i> {
    Body::Owned(Arc::new(Message::copy_of(&MessageView {
        exchange: &route.exchange,
        routing_key,
        origin: ORIGIN,
        durable,
        priority: None,
        arrived: now,
        due: ttl_ms.map(|ttl| now.plus(ttl)),
        properties,
        annotations: &[],
        payload,
        block: None,
    })))
}

/// A topic name in the packet, or one that an alias stands for.
enum Topic<'i> {
    InPacket(&'i str),
    Aliased(Box<str>),
}

impl Topic<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::InPacket(topic) => topic,
            Self::Aliased(topic) => topic,
        }
    }
}

impl MqttConnection {
    /// Takes a PUBLISH packet.
    pub(super) fn publish<'i>(
        &mut self,
        publish: &Publish<'i>,
        heads: &'i Heads,
        batch: &mut Batch<'i>,
        now: Millis,
    ) -> Result<(), Malformed> {
        let Publish { qos, packet_id, payload, properties, .. } = *publish;
        if payload.len() as u64 > self.broker.settings.message_bytes_max {
            return Err(Malformed { reason: Reason::PacketTooLarge, problem: "the message is larger than is allowed" });
        }
        let topic = self.resolve(publish)?;
        let is_known = self.received_ids.contains(&packet_id);
        if qos > Qos::AtMostOnce && !is_known {
            self.check_receive_maximum(batch)?;
        }
        if qos == Qos::ExactlyOnce && is_known {
            // It has come before; what the client missed is only that it was told so.
            self.apply(batch);
            self.respond(broker::Position(0), ack(kind::PUBREC, self.version, packet_id, Reason::Success));
            self.tell();
            return Ok(());
        }
        let head = heads.get(qos, publish.retain);
        let route = match self.route(topic.as_str(), head, publish) {
            Ok(route) => route,
            Err(reason) => {
                self.apply(batch);
                self.unauthorized(publish, reason, now);
                return Ok(());
            }
        };
        let told = Told { qos, packet_id, is_wanted: route.is_wanted() };
        let route = if publish.retain {
            let Some(caller) = &self.caller else { return Ok(()) };
            Arc::new(route.with(&self.broker.retained_queue(caller.vhost.name())))
        } else {
            route
        };
        let ttl_ms = properties.number(id::MESSAGE_EXPIRY).map(|seconds| u64::from(seconds) * 1000);
        let durable = qos > Qos::AtMostOnce;
        let body = match topic {
            Topic::InPacket(routing_key) if properties.is_empty() => Body::Borrowed {
                routing_key,
                origin: ORIGIN,
                durable,
                priority: None,
                ttl_ms,
                properties: head,
                payload,
            },
            topic => {
                let properties = stored_properties(head, &properties);
                owned(&route, topic.as_str(), (durable, ttl_ms, now), &properties, payload)
            }
        };
        let token = if qos == Qos::AtMostOnce { 0 } else { told.token() };
        if token != 0 || route.leads_somewhere() {
            batch.publish(route, body, token);
        }
        self.unanswered += usize::from(qos == Qos::AtLeastOnce);
        if qos == Qos::ExactlyOnce {
            self.received_ids.insert(packet_id);
            if self.is_persistent() {
                notes::received(batch, self.number, packet_id, true);
            }
        }
        Ok(())
    }

    /// Refuses a publish more than the client was told that it may have unacknowledged (MQTT-3.3.4-9).
    fn check_receive_maximum(&mut self, batch: &mut Batch<'_>) -> Result<(), Malformed> {
        let maximum = usize::from(self.settings.receive_maximum) + self.received_before;
        if self.version != Version::V5 || self.received_ids.len() + self.unanswered < maximum {
            return Ok(());
        }
        // They may have been answered just not yet.
        self.apply(batch);
        if self.received_ids.len() + self.unanswered < maximum {
            return Ok(());
        }
        let problem = "more publishes are unacknowledged than the receive maximum allows";
        Err(Malformed { reason: Reason::ReceiveMaximumExceeded, problem })
    }

    /// The topic of a publish. An alias is remembered, or stands for what it was remembered with (section 3.3.2.3.4).
    fn resolve<'i>(&mut self, publish: &Publish<'i>) -> Result<Topic<'i>, Malformed> {
        let Some(alias) = publish.properties.number(id::TOPIC_ALIAS) else {
            return Ok(Topic::InPacket(publish.topic));
        };
        if alias == 0 || alias > self.settings.topic_alias_maximum.into() {
            return Err(Malformed { reason: Reason::TopicAliasInvalid, problem: "the topic alias is out of range" });
        }
        let index = alias as usize - 1;
        if self.aliases.len() <= index {
            self.aliases.resize(index + 1, None);
        }
        if !publish.topic.is_empty() {
            self.aliases[index] = Some(publish.topic.into());
            return Ok(Topic::InPacket(publish.topic));
        }
        let known = self.aliases[index].clone().ok_or(Malformed::protocol("the topic alias stands for nothing"))?;
        Ok(Topic::Aliased(known))
    }

    /// Where messages with a topic go.
    fn route(&mut self, topic: &str, head: &[u8; HEAD_BYTES], publish: &Publish<'_>) -> Result<Arc<Route>, Reason> {
        let Some(caller) = &self.caller else { return Err(Reason::NotAuthorized) };
        let version = caller.vhost.version();
        if let Some((last, route)) = &self.last_route
            && **last == *topic
            && route.version == version
        {
            return Ok(Arc::clone(route));
        }
        if let Some(route) = self.routes.get(topic).filter(|route| route.version == version) {
            self.last_route = Some((topic.into(), Arc::clone(route)));
            return Ok(Arc::clone(route));
        }
        if topic::is_of_broker(topic) {
            return Err(Reason::NotAuthorized);
        }
        let keys = topic::keys(topic);
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let properties = stored_properties(head, &publish.properties);
        let found = self.broker.route(caller, EXCHANGE, &keys, &Published(&properties));
        let route = Arc::new(found.map_err(|refusal: Refusal| Reason::of(&refusal))?);
        // With several keys it depends on nothing else either; but only the broker knows whether an exchange looks deeper.
        if route.reusable {
            if self.routes.len() >= limits::ROUTES_CACHED {
                self.routes.clear();
            }
            self.routes.insert(topic.into(), Arc::clone(&route));
            self.last_route = Some((topic.into(), Arc::clone(&route)));
        }
        Ok(route)
    }

    /// What a client is told of why something is refused.
    pub(super) fn revealed(&self, reason: Reason) -> Reason {
        match reason {
            Reason::NotAuthorized if !self.settings.reveals_refusals => Reason::UnspecifiedError,
            reason => reason,
        }
    }

    /// Who publishes what he must not is told so, if his version can tell him, or let go.
    fn unauthorized(&mut self, publish: &Publish<'_>, reason: Reason, now: Millis) {
        let reason = self.revealed(reason);
        let told = Told { qos: publish.qos, packet_id: publish.packet_id, is_wanted: true };
        let is_acknowledged = publish.qos > Qos::AtMostOnce;
        if self.version == Version::V5 && is_acknowledged {
            self.respond(broker::Position(0), ack(told.kind(), self.version, publish.packet_id, reason));
        } else if self.settings.disconnects_unauthorized {
            self.close(reason, now);
        } else if is_acknowledged {
            self.respond(broker::Position(0), ack(told.kind(), self.version, publish.packet_id, Reason::Success));
        }
        self.tell();
    }
}
