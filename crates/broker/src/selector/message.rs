//! What the identifiers of a selector mean for a message.

use super::{Identifiers, Operand};
use crate::{
    topology::Facts,
    value::{Table, Value},
};

/// A message that selectors are applied to. Headers are read from their encoded form once, however many selectors there
/// are.
pub struct Subject<'a> {
    headers: &'a Table,
    facts: &'a dyn Facts,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("headers", self.headers).finish_non_exhaustive()
    }
}

impl<'a> Subject<'a> {
    /// A message with these headers, which are those of `facts`.
    pub fn new(headers: &'a Table, facts: &'a dyn Facts) -> Self {
        Self { headers, facts }
    }

    /// What JMS calls a header field is a property of the message. One that is not set has JMS's default.
    fn field(&self, name: &str) -> Operand<'static> {
        let property = |name| self.facts.property(name);
        let plain = |name| property(name).map_or(Operand::Unknown, |value| Operand::from(&value).into_owned());
        match name {
            "JMSDeliveryMode" => {
                let persistent = property("delivery_mode").and_then(|mode| mode.as_integer()) == Some(2);
                Operand::Text(if persistent { "PERSISTENT" } else { "NON_PERSISTENT" }.into())
            }
            "JMSPriority" => match plain("priority") {
                Operand::Unknown => Operand::Integer(DEFAULT_PRIORITY),
                priority => priority,
            },
            "JMSTimestamp" => match property("timestamp") {
                Some(Value::Timestamp(seconds)) => {
                    let milliseconds = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
                    milliseconds.map_or(Operand::Opaque, Operand::Integer)
                }
                _ => Operand::Unknown,
            },
            "JMSMessageID" => plain("message_id"),
            "JMSCorrelationID" => plain("correlation_id"),
            "JMSType" => plain("type"),
            "JMSXUserID" => plain("user_id"),
            "JMSXAppID" => plain("app_id"),
            "JMSXGroupID" => plain("group_id"),
            "JMSXGroupSeq" => plain("group_sequence"),
            "JMSXDeliveryCount" => plain("delivery_count"),
            _ => Operand::Unknown,
        }
    }
}

/// The priority of a JMS message whose sender sets none.
const DEFAULT_PRIORITY: i64 = 4;

impl Identifiers for Subject<'_> {
    /// A header comes first: RabbitMQ's JMS client writes the JMS fields into headers of their names.
    fn lookup(&self, name: &str) -> Operand<'_> {
        match self.headers.get(name) {
            Some(value) => Operand::from(value),
            None if name.starts_with("JMS") => self.field(name),
            None => Operand::Unknown,
        }
    }
}
