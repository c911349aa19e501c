//! Wills: what is published when a connection ends out of order (section 3.1.2.5).

use std::sync::Arc;

use broker::{
    Batch, Broker, Name, Refusal, Route,
    broker::Caller,
    publish::Body,
    record::{Reader, put_text},
};

use crate::{
    EXCHANGE, ORIGIN,
    message::{HEAD_BYTES, Published, Stored},
    packet::Qos,
    sessions::Key,
    topic,
};

/// What is published if a connection ends out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Whose it is.
    pub user: Name,
    /// Whether it was found before that he may publish it, because he cannot be asked about later.
    pub is_vouched: bool,
    /// The topic.
    pub topic: Box<str>,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds that it may live.
    pub expiry_s: Option<u32>,
    /// Seconds after which it is published, unless the client is back (section 3.1.3.2.2).
    pub delay_s: u32,
    /// As it is stored.
    pub properties: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Will {
    /// The properties of a will as they are stored.
    pub fn stored(qos: Qos, retain: bool, number: u64, forwarded: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + forwarded.len());
        bytes.extend_from_slice(&Stored::head(qos, retain, number));
        bytes.extend_from_slice(forwarded);
        bytes
    }

    /// Adds the will of a session to a batch, if its user may publish it: no will speaks for the broker.
    pub fn publish<'b>(&'b self, broker: &Broker, (vhost, client_id): &Key, batch: &mut Batch<'b>) {
        if topic::is_of_broker(&self.topic) {
            return;
        }
        let caller = if self.is_vouched {
            broker.operator(vhost)
        } else {
            broker.on_behalf_of(&self.user.clone().into(), vhost)
        };
        let Ok(caller) = caller else { return };
        let Ok(mut route) = self.route(broker, &caller.named(client_id)) else { return };
        if self.retain {
            route = route.with(&broker.retained_queue(vhost));
        }
        let body = Body::Borrowed {
            routing_key: &self.topic,
            origin: ORIGIN,
            durable: self.qos > Qos::AtMostOnce,
            priority: None,
            ttl_ms: self.expiry_s.map(|seconds| u64::from(seconds) * 1000),
            properties: &self.properties,
            payload: &self.payload,
        };
        batch.publish(Arc::new(route), body, 0);
    }

    fn route(&self, broker: &Broker, caller: &Caller) -> Result<Route, Refusal> {
        let keys = topic::keys(&self.topic);
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        broker.route(caller, EXCHANGE, &keys, &Published(&self.properties))
    }

    /// Whether a caller may publish it.
    pub fn is_allowed(&self, broker: &Broker, caller: &Caller) -> bool {
        self.route(broker, caller).is_ok()
    }

    /// The will as it is noted down.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(
            self.qos as u8
                | u8::from(self.retain) << 2
                | u8::from(self.expiry_s.is_some()) << 3
                | u8::from(self.is_vouched) << 4,
        );
        out.extend_from_slice(&self.expiry_s.unwrap_or(0).to_be_bytes());
        out.extend_from_slice(&self.delay_s.to_be_bytes());
        put_text(out, &self.user);
        put_text(out, &self.topic);
        out.extend_from_slice(&(self.properties.len() as u64).to_be_bytes());
        out.extend_from_slice(&self.properties);
        out.extend_from_slice(&self.payload);
    }

    /// A will that was noted down.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u8().ok()?;
        let (expiry_s, delay_s) = (reader.u32().ok()?, reader.u32().ok()?);
        let (user, topic) = (reader.text().ok()?.into(), reader.text().ok()?.into());
        let len = usize::try_from(reader.u64().ok()?).ok()?;
        let (properties, payload) = reader.rest().split_at_checked(len)?;
        Some(Self {
            user,
            is_vouched: flags & 0b1_0000 != 0,
            topic,
            qos: Qos::of_bits(flags & 0b11).ok()?,
            retain: flags & 0b100 != 0,
            expiry_s: (flags & 0b1000 != 0).then_some(expiry_s),
            delay_s,
            properties: properties.to_vec(),
            payload: payload.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_is_what_was_noted_down() {
        let will = Will {
            user: "u".into(),
            is_vouched: true,
            topic: "a/b".into(),
            qos: Qos::ExactlyOnce,
            retain: true,
            expiry_s: Some(7),
            delay_s: 9,
            properties: Will::stored(Qos::ExactlyOnce, true, 3, b"p"),
            payload: b"gone".to_vec(),
        };
        for will in [Will { expiry_s: None, retain: false, payload: Vec::new(), ..will.clone() }, will] {
            let mut bytes = Vec::new();
            will.encode(&mut bytes);
            assert_eq!(Will::decode(&mut Reader::new(&bytes)), Some(will));
        }
    }
}
