//! Policies: rules that an operator gives to queues and exchanges by the pattern of their names.
//!
//! At most one policy and one operator's policy apply to a thing: of those that match, the one with the highest
//! priority. A policy with a key that a type of queue does not know does not apply to queues of that type.

use std::collections::BTreeMap;

use crate::{
    identity::Pattern,
    record::{self, Reader, Unreadable},
    rules::age_ms,
    topology::QueueType,
    value::{Name, Table, Value},
};

/// What a policy may apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Exchanges.
    Exchanges,
    /// Queues of every type.
    Queues,
    /// Queues of one type.
    Type(QueueType),
}

impl ApplyTo {
    /// By its name in RabbitMQ's definitions.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "all" => Self::All,
            "exchanges" => Self::Exchanges,
            "queues" => Self::Queues,
            "classic_queues" => Self::Type(QueueType::Classic),
            "quorum_queues" => Self::Type(QueueType::Quorum),
            "streams" => Self::Type(QueueType::Stream),
            _ => return None,
        })
    }

    /// Its name in RabbitMQ's definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::Type(QueueType::Quorum) => "quorum_queues",
            Self::Type(QueueType::Stream) => "streams",
            Self::Type(QueueType::Classic | QueueType::Delay | QueueType::Retained) => "classic_queues",
        }
    }

    fn takes_queue(self, kind: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::Type(only) => only == kind,
        }
    }
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which names it applies to.
    pub pattern: Pattern,
    /// Which things.
    pub apply_to: ApplyTo,
    /// Of several that match, the highest applies.
    pub priority: i64,
    /// What it says, by key: `message-ttl` and the like.
    pub definition: Table,
}

/// Who may say what: an operator's policy only sets bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// Set by whoever administers the vhost.
    User,
    /// Set by who runs the broker.
    Operator,
}

const OPERATOR_KEYS: [&str; 12] = [
    "expires",
    "message-ttl",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "delivery-limit",
    "queue-version",
    "overflow",
    "delayed-retry-type",
    "delayed-retry-min",
    "delayed-retry-max",
];

/// Keys of policies that the broker takes though nothing comes of them here: they place copies, or name what is built
/// elsewhere.
const ACCEPTED_KEYS: [&str; 19] = [
    "consumer-disconnected-timeout",
    "federation-upstream",
    "federation-upstream-set",
    "federation-upstream-pattern",
    "ha-mode",
    "ha-params",
    "ha-promote-on-failure",
    "ha-promote-on-shutdown",
    "ha-sync-batch-size",
    "ha-sync-mode",
    "initial-cluster-size",
    "max-in-memory-bytes",
    "max-in-memory-length",
    "queue-leader-locator",
    "queue-master-locator",
    "queue-mode",
    "shards-per-node",
    "target-group-size",
    "routing-key",
];

const STREAM_KEYS: [&str; 4] =
    ["max-age", "stream-max-segment-size-bytes", "stream-filter-size-bytes", "initial-cluster-size"];
const QUORUM_KEYS: [&str; 9] = [
    "count-attempts",
    "delivery-limit",
    "dead-letter-strategy",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "target-group-size",
    "delayed-retry-type",
    "delayed-retry-min",
    "delayed-retry-max",
];
const NOT_FOR_QUORUM: [&str; 7] = [
    "max-priority",
    "queue-mode",
    "ha-mode",
    "ha-params",
    "ha-sync-mode",
    "ha-promote-on-shutdown",
    "queue-master-locator",
];
const NOT_FOR_STREAMS: [&str; 16] = [
    "expires",
    "message-ttl",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-queue-prefix",
    "dead-letter-strategy",
    "max-length",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "overflow",
    "queue-mode",
    "delivery-limit",
    "ha-mode",
    "ha-params",
    "queue-master-locator",
    "target-group-size",
];

impl Policy {
    /// Checks what a policy says.
    ///
    /// # Errors
    /// The first key that is unknown or whose value makes no sense, in RabbitMQ's words.
    pub fn check(&self, kind: PolicyKind) -> Result<(), String> {
        if self.definition.is_empty() {
            return Err("no policy provided".into());
        }
        for (key, value) in &self.definition.0 {
            if kind == PolicyKind::Operator && !OPERATOR_KEYS.contains(&key.as_str()) {
                return Err(format!("[{{<<\"{key}\">>}}] are not recognised policy settings"));
            }
            check_key(key, value)?;
        }
        Ok(())
    }

    fn applies(&self, name: &str, kind: QueueType) -> bool {
        let known = |key: &str| match kind {
            QueueType::Classic => !STREAM_KEYS.contains(&key) && !QUORUM_KEYS.contains(&key),
            QueueType::Quorum => {
                !NOT_FOR_QUORUM.contains(&key) && (!STREAM_KEYS.contains(&key) || key == "stream-filter-size-bytes")
            }
            QueueType::Stream => !NOT_FOR_STREAMS.contains(&key),
            QueueType::Delay | QueueType::Retained => false,
        };
        self.apply_to.takes_queue(kind)
            && self.definition.0.iter().all(|(key, _)| known(key))
            && self.pattern.matches(name)
    }

    /// The policy for the state table.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        record::put_text(&mut out, self.pattern.as_str());
        record::put_text(&mut out, self.apply_to.name());
        out.extend_from_slice(&self.priority.to_be_bytes());
        record::put_table(&mut out, &self.definition);
        out
    }

    /// A policy from the state table.
    ///
    /// # Errors
    /// If the bytes are not a policy.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let pattern = Pattern::new(reader.text()?).map_err(|_| Unreadable("a policy's pattern is no expression"))?;
        let apply_to = ApplyTo::parse(reader.text()?).ok_or(Unreadable("a policy applies to something unknown"))?;
        Ok(Self { pattern, apply_to, priority: reader.u64()? as i64, definition: reader.table()? })
    }
}

fn check_key(key: &str, value: &Value) -> Result<(), String> {
    let bad = |what: &str| Err(format!("{} is not a valid {what}", show(value)));
    let integer = value.as_integer();
    let (fits, what) = match key {
        "alternate-exchange" => (value.as_text().is_some(), "alternate exchange name"),
        "dead-letter-exchange" => (value.as_text().is_some(), "dead letter exchange name"),
        "dead-letter-routing-key" => (value.as_text().is_some(), "dead letter routing key"),
        "dead-letter-queue-prefix" => (value.as_text().is_some(), "beginning of the names of dead letter queues"),
        "dead-letter-strategy" => {
            (matches!(value.as_text(), Some("at-most-once" | "at-least-once")), "dead letter strategy")
        }
        "message-ttl" => (integer.is_some_and(|n| n >= 0), "message TTL"),
        "expires" => (integer.is_some_and(|n| n >= 1), "queue expiry"),
        "max-length" => (integer.is_some_and(|n| n >= 0), "maximum length"),
        "max-length-bytes" => (integer.is_some_and(|n| n >= 0), "maximum length in bytes"),
        "overflow" => {
            (matches!(value.as_text(), Some("drop-head" | "reject-publish" | "reject-publish-dlx")), "overflow value")
        }
        "delivery-limit" => (integer.is_some(), "delivery limit"),
        "consumer-timeout" => (integer.is_some_and(|n| n >= 0), "consumer timeout"),
        "max-age" => (value.as_text().is_some_and(|text| age_ms(text).is_some()), "max age"),
        "stream-max-segment-size-bytes" => (integer.is_some_and(|n| n >= 0), "segment size"),
        "stream-filter-size-bytes" => (integer.is_some_and(|n| (16..=255).contains(&n)), "filter size"),
        "queue-version" => (matches!(integer, Some(1 | 2)), "queue version"),
        "count-attempts" => (matches!(value.as_text(), Some("all" | "failed")), "choice of attempts"),
        "delayed-retry-type" => {
            (matches!(value.as_text(), Some("all" | "failed" | "returned" | "disabled")), "delayed retry type")
        }
        "delayed-retry-min" | "delayed-retry-max" => (integer.is_some_and(|n| n > 0), "delayed retry delay"),
        _ if ACCEPTED_KEYS.contains(&key) => (true, ""),
        _ => return Err(format!("[{{<<\"{key}\">>,{}}}] are not recognised policy settings", show(value))),
    };
    if fits { Ok(()) } else { bad(what) }
}

fn show(value: &Value) -> String {
    match (value.as_text(), value.as_integer()) {
        (Some(text), _) => format!("<<\"{text}\">>"),
        (_, Some(integer)) => integer.to_string(),
        _ => format!("{value:?}"),
    }
}

/// All policies of a vhost.
#[derive(Debug, Default)]
pub struct Policies(BTreeMap<(PolicyKind, Name), Policy>);

impl Policies {
    /// Adds or replaces a policy.
    pub fn insert(&mut self, kind: PolicyKind, name: Name, policy: Policy) {
        self.0.insert((kind, name), policy);
    }

    /// Removes a policy. Returns whether it was there.
    pub fn remove(&mut self, kind: PolicyKind, name: &str) -> bool {
        self.0.remove(&(kind, name.into())).is_some()
    }

    /// The policies of one kind, by name.
    pub fn iter(&self, kind: PolicyKind) -> impl Iterator<Item = (&Name, &Policy)> {
        self.0.iter().filter(move |((of, _), _)| *of == kind).map(|((_, name), policy)| (name, policy))
    }

    /// The policy of a kind that applies to a queue.
    pub fn for_queue(&self, kind: PolicyKind, name: &str, of: QueueType) -> Option<(&Name, &Policy)> {
        // Of equal priorities, the first by name.
        self.iter(kind).filter(|(_, policy)| policy.applies(name, of)).min_by_key(|(_, policy)| -policy.priority)
    }

    /// The policy that applies to an exchange.
    pub fn for_exchange(&self, name: &str) -> Option<(&Name, &Policy)> {
        let takes = |policy: &Policy| matches!(policy.apply_to, ApplyTo::All | ApplyTo::Exchanges);
        let applies = |policy: &Policy| takes(policy) && policy.pattern.matches(name);
        self.iter(PolicyKind::User).filter(|(_, policy)| applies(policy)).min_by_key(|(_, policy)| -policy.priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(pattern: &str, apply_to: ApplyTo, priority: i64, key: &str, value: Value) -> Policy {
        let definition = Table(vec![(key.into(), value)]);
        Policy { pattern: Pattern::new(pattern).unwrap(), apply_to, priority, definition }
    }

    #[test]
    fn the_highest_priority_that_knows_all_its_keys_applies() {
        let mut policies = Policies::default();
        let ttl = |n| Value::I64(n);
        policies.insert(PolicyKind::User, "low".into(), policy("^a", ApplyTo::All, 0, "message-ttl", ttl(1)));
        policies.insert(PolicyKind::User, "high".into(), policy("^ab", ApplyTo::Queues, 5, "message-ttl", ttl(2)));
        policies.insert(PolicyKind::User, "quorum".into(), policy("^ab", ApplyTo::All, 9, "delivery-limit", ttl(3)));
        let name = |queue, kind| policies.for_queue(PolicyKind::User, queue, kind).map(|(name, _)| name.to_string());
        assert_eq!(name("a", QueueType::Classic).as_deref(), Some("low"));
        assert_eq!(name("ab", QueueType::Classic).as_deref(), Some("high"));
        assert_eq!(name("ab", QueueType::Quorum).as_deref(), Some("quorum"));
        assert_eq!(name("ab", QueueType::Stream), None);
        assert_eq!(name("b", QueueType::Classic), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let check = |key, value, kind| policy("", ApplyTo::All, 0, key, value).check(kind);
        assert_eq!(check("message-ttl", Value::I64(0), PolicyKind::User), Ok(()));
        assert!(check("message-ttl", Value::I64(-1), PolicyKind::User).is_err());
        assert!(check("nonsense", Value::I64(1), PolicyKind::User).is_err());
        assert!(check("dead-letter-exchange", "x".into(), PolicyKind::Operator).is_err());
        let read = Policy::decode(&policy("^x", ApplyTo::Queues, -3, "max-length", Value::I64(1)).encode()).unwrap();
        assert_eq!((read.pattern.as_str(), read.apply_to, read.priority), ("^x", ApplyTo::Queues, -3));
    }
}
