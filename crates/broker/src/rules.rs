//! What applies to a queue: the arguments of its declaration, the policy and the operator policy that match it, in one.
//!
//! Numbers of several sources go by the smallest, as in RabbitMQ; of everything else the argument goes before the
//! operator's policy, and that before the policy.

use std::sync::{Arc, LazyLock};

use crate::{
    topology::QueueType,
    value::{Name, Table, Value},
};

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Lets go of its first message.
    #[default]
    DropHead,
    /// Refuses the new one.
    RejectPublish,
    /// Refuses the new one, and dead-letters it.
    RejectPublishDeadLetter,
}

/// Where a queue's dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterTarget {
    /// The exchange.
    pub exchange: Name,
    /// The routing key; without one, the message keeps its own.
    pub routing_key: Option<Name>,
    /// Whether a message stays until some queue has taken it.
    pub at_least_once: bool,
}

/// Which attempts to deliver a message count against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedAttempts {
    /// All that it came back from, as in RabbitMQ 4.0 to 4.2.
    All,
    /// Those that failed: it was rejected, or its consumer is gone. The others are told all the same. As in RabbitMQ 4.3.
    Failed,
}

/// Which returned messages wait before they are delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryKind {
    /// All.
    All,
    /// Those whose delivery counts as failed.
    Failed,
    /// Those that were given back.
    Returned,
}

/// How long returned messages wait: the shortest time, times the number of attempts, up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Which ones.
    pub kind: RetryKind,
    /// The shortest time, in milliseconds.
    pub min_ms: u64,
    /// The longest time, in milliseconds.
    pub max_ms: u64,
}

impl DelayedRetry {
    /// How long a message waits after so many attempts, in milliseconds; nothing if it does not wait.
    pub fn wait_ms(&self, attempts: u32, failed: bool) -> Option<u64> {
        let applies = match self.kind {
            RetryKind::All => true,
            RetryKind::Failed => failed,
            RetryKind::Returned => !failed,
        };
        applies.then(|| self.min_ms.saturating_mul(u64::from(attempts.max(1))).min(self.max_ms))
    }
}

/// What applies to a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Milliseconds without use after which the queue goes.
    pub expires_ms: Option<u64>,
    /// Milliseconds that a message may wait.
    pub message_ttl_ms: Option<u64>,
    /// Where dead letters go.
    pub dead_letter: Option<DeadLetterTarget>,
    /// What the queue for dead letters begins with that no rule of the queue's own is for; see [`crate::Letters`].
    pub dead_letter_prefix: Option<Name>,
    /// Most messages that wait.
    pub max_length: Option<u64>,
    /// Most bytes of bodies that wait.
    pub max_length_bytes: Option<u64>,
    /// What a full queue does.
    pub overflow: Overflow,
    /// Attempts after which a message is a dead letter.
    pub delivery_limit: Option<u32>,
    /// The highest priority; 0 for a queue without priorities.
    pub max_priority: u8,
    /// The priority of a message without one.
    pub default_priority: u8,
    /// Whether one consumer at a time gets messages.
    pub single_active: bool,
    /// Milliseconds that a consumer may take to settle a delivery.
    pub consumer_timeout_ms: Option<u64>,
    /// How long returned messages wait.
    pub delayed_retry: Option<DelayedRetry>,
    /// Milliseconds that a stream keeps messages.
    pub max_age_ms: Option<u64>,
    /// Bytes of a stream's segments: the unit by which it lets go of old messages.
    pub segment_bytes: Option<u64>,
    /// Which attempts are counted and told.
    pub counted_attempts: Option<CountedAttempts>,
}

/// Attempts that a quorum queue gives a message by default, as in RabbitMQ 4.
const QUORUM_DELIVERY_LIMIT: i64 = 20;

/// The highest priority of a quorum queue, and that of its messages without one, as in RabbitMQ 4.3.
const QUORUM_PRIORITIES: (u8, u8) = (31, 4);

/// Where the rules of one queue come from.
struct Sources<'a> {
    arguments: &'a Table,
    policies: [Option<&'a Table>; 2],
}

impl<'a> Sources<'a> {
    /// The argument, then the operator's policy, then the policy.
    fn all(&self, key: &str) -> impl Iterator<Item = &'a Value> {
        let argument = self.arguments.get(&format!("x-{key}"));
        let [policy, operator] = self.policies.map(|definition| definition.and_then(|table| table.get(key)));
        [argument, operator, policy].into_iter().flatten()
    }

    fn smallest(&self, key: &str) -> Option<u64> {
        self.all(key).filter_map(Value::as_integer).filter_map(|n| u64::try_from(n).ok()).min()
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.all(key).find_map(Value::as_text)
    }

    fn dead_letter(&self) -> Option<DeadLetterTarget> {
        let exchange = Name::from(self.text("dead-letter-exchange")?);
        let routing_key = self.text("dead-letter-routing-key").map(Name::from);
        let at_least_once = self.text("dead-letter-strategy") == Some("at-least-once");
        Some(DeadLetterTarget { exchange, routing_key, at_least_once })
    }

    fn overflow(&self) -> Overflow {
        match self.text("overflow") {
            Some("reject-publish") => Overflow::RejectPublish,
            Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
            _ => Overflow::DropHead,
        }
    }

    /// A negative limit is none.
    fn delivery_limit(&self) -> Option<u32> {
        let limits = self.all("delivery-limit").filter_map(Value::as_integer);
        u32::try_from(limits.min().unwrap_or(QUORUM_DELIVERY_LIMIT)).ok()
    }

    fn counted_attempts(&self) -> CountedAttempts {
        match self.text("count-attempts") {
            Some("failed") => CountedAttempts::Failed,
            _ => CountedAttempts::All,
        }
    }

    fn delayed_retry(&self) -> Option<DelayedRetry> {
        let kind = match self.text("delayed-retry-type")? {
            "all" => RetryKind::All,
            "failed" => RetryKind::Failed,
            "returned" => RetryKind::Returned,
            _ => return None,
        };
        let min_ms = self.smallest("delayed-retry-min")?;
        Some(DelayedRetry { kind, min_ms, max_ms: self.smallest("delayed-retry-max").unwrap_or(u64::MAX) })
    }
}

/// The rules of queues to which none apply.
static NONE: LazyLock<Arc<Rules>> = LazyLock::new(Arc::default);

impl Rules {
    /// Rules to be shared: most queues have none, and those all have the same.
    pub fn shared(rules: Self) -> Arc<Self> {
        if rules == **NONE { Arc::clone(&NONE) } else { Arc::new(rules) }
    }

    /// The rules of a queue of this type with these arguments, under a policy and an operator's policy.
    pub fn new(kind: QueueType, arguments: &Table, policy: Option<&Table>, operator: Option<&Table>) -> Self {
        let sources = Sources { arguments, policies: [policy, operator] };
        let flag = |name: &str| arguments.get(name) == Some(&Value::Bool(true));
        let common = Self {
            expires_ms: sources.smallest("expires"),
            message_ttl_ms: sources.smallest("message-ttl"),
            dead_letter: sources.dead_letter(),
            dead_letter_prefix: sources.text("dead-letter-queue-prefix").map(Name::from),
            max_length: sources.smallest("max-length"),
            max_length_bytes: sources.smallest("max-length-bytes"),
            overflow: sources.overflow(),
            single_active: flag("x-single-active-consumer"),
            consumer_timeout_ms: sources.smallest("consumer-timeout").filter(|timeout| *timeout > 0),
            ..Self::default()
        };
        match kind {
            QueueType::Classic => {
                let max_priority = arguments.get("x-max-priority").and_then(Value::as_integer).unwrap_or(0);
                Self { max_priority: u8::try_from(max_priority).unwrap_or(u8::MAX), ..common }
            }
            QueueType::Quorum => Self {
                max_priority: QUORUM_PRIORITIES.0,
                default_priority: QUORUM_PRIORITIES.1,
                delivery_limit: sources.delivery_limit(),
                delayed_retry: sources.delayed_retry(),
                counted_attempts: Some(sources.counted_attempts()),
                ..common
            },
            QueueType::Stream => Self {
                max_length_bytes: common.max_length_bytes,
                max_age_ms: sources.all("max-age").filter_map(|age| age_ms(age.as_text()?)).min(),
                segment_bytes: sources.smallest("stream-max-segment-size-bytes"),
                single_active: common.single_active,
                ..Self::default()
            },
            QueueType::Delay | QueueType::Retained => Self::default(),
        }
    }

    /// The priority that a message has in the queue.
    pub fn priority(&self, asked: Option<u8>) -> u8 {
        asked.unwrap_or(self.default_priority).min(self.max_priority)
    }

    /// Whether the queue may refuse a message.
    pub fn refuses(&self) -> bool {
        self.overflow != Overflow::DropHead && (self.max_length.is_some() || self.max_length_bytes.is_some())
    }

    /// Whether messages may have to leave from the front without being consumed.
    pub fn sheds(&self) -> bool {
        self.message_ttl_ms.is_some() || self.max_length.is_some() || self.max_length_bytes.is_some()
    }
}

/// An age like `7D`, in milliseconds: a number of years, months, days, hours, minutes or seconds (`Y M D h m s`).
pub fn age_ms(text: &str) -> Option<u64> {
    const SECOND_MS: u64 = 1000;
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "Y" => 365 * 24 * 3600 * SECOND_MS,
        "M" => 30 * 24 * 3600 * SECOND_MS,
        "D" => 24 * 3600 * SECOND_MS,
        "h" => 3600 * SECOND_MS,
        "m" => 60 * SECOND_MS,
        "s" => SECOND_MS,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> Table {
        Table(entries.iter().map(|(name, value)| ((*name).into(), value.clone())).collect())
    }

    #[test]
    fn numbers_go_by_the_smallest_and_the_rest_by_the_argument() {
        let arguments = table(&[("x-max-length", Value::I32(9)), ("x-dead-letter-exchange", "argument".into())]);
        let policy = table(&[
            ("max-length", Value::I64(7)),
            ("message-ttl", Value::I64(50)),
            ("dead-letter-exchange", "policy".into()),
            ("overflow", "reject-publish".into()),
        ]);
        let operator = table(&[("max-length", Value::I64(8)), ("overflow", "drop-head".into())]);
        let rules = Rules::new(QueueType::Classic, &arguments, Some(&policy), Some(&operator));
        assert_eq!((rules.max_length, rules.message_ttl_ms), (Some(7), Some(50)));
        assert_eq!(rules.dead_letter.map(|target| target.exchange), Some("argument".into()));
        assert_eq!(rules.overflow, Overflow::DropHead);
    }

    #[test]
    fn quorum_queues_have_a_delivery_limit_unless_it_is_negative() {
        let limit = |arguments| Rules::new(QueueType::Quorum, &arguments, None, None).delivery_limit;
        assert_eq!(limit(Table::default()), Some(20));
        assert_eq!(limit(table(&[("x-delivery-limit", Value::I32(3))])), Some(3));
        assert_eq!(limit(table(&[("x-delivery-limit", Value::I32(-1))])), None);
    }

    #[test]
    fn ages_have_units() {
        assert_eq!(age_ms("7D"), Some(7 * 86_400_000));
        assert_eq!(age_ms("1h"), Some(3_600_000));
        for bad in ["", "7", "D", "0s", "1d", "1h1m", "-1s", "99999999999999999999Y"] {
            assert_eq!(age_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn returned_messages_wait_longer_each_time() {
        let retry = DelayedRetry { kind: RetryKind::Failed, min_ms: 100, max_ms: 250 };
        assert_eq!([1, 2, 3].map(|attempts| retry.wait_ms(attempts, true)), [Some(100), Some(200), Some(250)]);
        assert_eq!(retry.wait_ms(1, false), None);
    }
}
