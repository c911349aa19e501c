//! What routing may ask of a message beyond its routing keys.

use std::cell::OnceCell;

use crate::value::{Table, Value};

/// What a message says of itself, whatever protocol wrote it. Each protocol answers for its own property bytes.
pub trait Facts {
    /// The headers; none of them if the message has none.
    fn headers(&self) -> Table;

    /// A property by its name in AMQP 0-9-1: `content_type`, `content_encoding`, `delivery_mode`, `priority`,
    /// `correlation_id`, `reply_to`, `expiration`, `message_id`, `timestamp` (seconds since 1970), `type`, `user_id`,
    /// `app_id`; and, from protocols that have them, `group_id`, `group_sequence` and `delivery_count`.
    fn property(&self, name: &str) -> Option<Value>;
}

/// Headers of a message without properties.
impl Facts for Table {
    fn headers(&self) -> Table {
        self.clone()
    }

    fn property(&self, _: &str) -> Option<Value> {
        None
    }
}

/// A message for which exchanges look for destinations.
pub(super) struct Query<'a> {
    /// The routing key, and further ones that the message names itself.
    pub(super) keys: &'a [&'a str],
    pub(super) facts: &'a dyn Facts,
    /// Bits for exchanges that choose by chance.
    pub(super) random: u64,
    headers: OnceCell<Table>,
}

impl<'a> Query<'a> {
    pub(super) fn new(keys: &'a [&'a str], facts: &'a dyn Facts, random: u64) -> Self {
        Self { keys, facts, random, headers: OnceCell::new() }
    }

    /// The headers, which are decoded once and only if an exchange asks for them.
    pub(super) fn headers(&self) -> &Table {
        self.headers.get_or_init(|| self.facts.headers())
    }

    /// The key that the message was published with.
    pub(super) fn first_key(&self) -> &'a str {
        self.keys.first().copied().unwrap_or_default()
    }
}
