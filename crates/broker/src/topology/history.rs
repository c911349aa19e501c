//! What is remembered for those who come later: by an exchange of type `x-recent-history` for its bindings, by a topic for
//! consumers that ask for what was before.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    limits,
    message::Message,
    queue::Filter,
    refusal::Refusal,
    session::Millis,
    value::{Name, Table, Value},
};

/// The last messages of an exchange. They are in memory alone, and gone after a restart.
#[derive(Debug)]
pub struct History {
    keep: Keep,
    /// Whether that is of each routing key, or else of all together.
    by_key: bool,
    /// Which messages; all without one.
    filter: Option<Filter>,
    /// Which ask to be, if only those are, and the header that tells of it.
    retains: Option<(Filter, Name)>,
    kept: Mutex<Kept>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many messages.
    Messages(usize),
    /// So many bytes of messages, or the last one alone.
    Bytes(usize),
    /// What came within so many milliseconds.
    Ms(u64),
}

#[derive(Debug, Default)]
struct Kept {
    /// By their numbers.
    messages: BTreeMap<u64, Arc<Message>>,
    by_key: HashMap<Box<str>, OfKey>,
    bytes: usize,
    next: u64,
}

/// The messages of a routing key.
#[derive(Debug, Default)]
struct OfKey {
    numbers: VecDeque<u64>,
    bytes: usize,
}

impl Kept {
    fn is_too_much(&self, key: &str, keep: Keep, now: Millis) -> bool {
        let Some(of_key) = self.by_key.get(key) else { return false };
        match keep {
            Keep::Messages(messages) => of_key.numbers.len() > messages,
            Keep::Bytes(bytes) => of_key.bytes > bytes && of_key.numbers.len() > 1,
            Keep::Ms(ms) => {
                let first = of_key.numbers.front().and_then(|number| self.messages.get(number));
                first.is_some_and(|first| first.traits().arrived.plus(ms) <= now)
            }
        }
    }

    /// Forgets the oldest message of a key. Returns whether there was one.
    fn forget_first(&mut self, key: &str) -> bool {
        let Some(of_key) = self.by_key.get_mut(key) else { return false };
        let Some(message) = of_key.numbers.pop_front().and_then(|number| self.messages.remove(&number)) else {
            return false;
        };
        of_key.bytes -= message.memory_bytes();
        self.bytes -= message.memory_bytes();
        if of_key.numbers.is_empty() {
            self.by_key.remove(key);
        }
        true
    }
}

impl History {
    /// The history of an exchange with these arguments: `x-recent-history-length` is a count of messages.
    ///
    /// # Errors
    /// If the count is no positive number.
    pub(super) fn new(arguments: &Table) -> Result<Self, Refusal> {
        let length = match arguments.get("x-recent-history-length") {
            None => limits::HISTORY_MESSAGES,
            Some(value) => match value.as_integer() {
                Some(length) if length > 0 => usize::try_from(length).unwrap_or(usize::MAX),
                _ => {
                    let shown = match (value.as_integer(), value.as_text()) {
                        (Some(number), _) => number.to_string(),
                        (None, Some(text)) => format!("<<\"{text}\">>"),
                        (None, None) => format!("{value:?}"),
                    };
                    let rule = "'x-recent-history-length' must be a positive integer";
                    return Err(Refusal::InvalidExchange(format!("Invalid argument {shown}, {rule}")));
                }
            },
        };
        Ok(Self { by_key: false, ..Self::by_key(Keep::Messages(length)) })
    }

    /// Whether a message with these headers wants to be remembered.
    pub(super) fn wants(headers: &Table) -> bool {
        headers.get("x-recent-history-no-store") != Some(&Value::Bool(true))
    }

    /// A history that keeps so much of each routing key.
    pub(crate) fn by_key(keep: Keep) -> Self {
        Self { keep, by_key: true, filter: None, retains: None, kept: Mutex::default() }
    }

    /// The same for some messages only.
    pub(crate) fn selecting(self, filter: Option<Filter>, retains: Option<(Filter, Name)>) -> Self {
        Self { filter, retains, ..self }
    }

    /// A message as it is remembered, if it is.
    fn wanted(&self, message: Arc<Message>) -> Option<Arc<Message>> {
        let view = message.view();
        if self.filter.as_ref().is_some_and(|filter| !filter.passes(&view)) {
            return None;
        }
        let Some((asks, tells)) = &self.retains else { return Some(message) };
        if !asks.passes(&view) {
            return None;
        }
        if view.payload.is_empty() {
            let mut kept = self.kept.lock();
            while kept.forget_first(view.routing_key) {}
            return None;
        }
        let mut annotations = view.annotation_table();
        annotations.push(tells, Value::Bool(true));
        Some(Arc::new(Message::annotated_copy(&view, annotations)))
    }

    /// Adds a message. The oldest ones go, until no more than is to be kept is left, and no more than
    /// [`limits::HISTORY_BYTES`] or this message alone.
    pub fn remember(&self, message: Arc<Message>) {
        let Some(message) = self.wanted(message) else { return };
        let (now, bytes) = (message.traits().arrived, message.memory_bytes());
        let key = self.key_of(&message);
        let mut guard = self.kept.lock();
        let kept = &mut *guard;
        let number = kept.next;
        kept.next += 1;
        kept.bytes += bytes;
        kept.messages.insert(number, message);
        let of_key = kept.by_key.entry(key.clone()).or_default();
        of_key.numbers.push_back(number);
        of_key.bytes += bytes;
        while kept.is_too_much(&key, self.keep, now) && kept.forget_first(&key) {}
        while kept.bytes > limits::HISTORY_BYTES && kept.messages.len() > 1 {
            let Some(oldest) = kept.messages.values().next().map(|oldest| self.key_of(oldest)) else { return };
            if !kept.forget_first(&oldest) {
                return;
            }
        }
    }

    fn key_of(&self, message: &Message) -> Box<str> {
        if self.by_key { message.view().routing_key.into() } else { Box::default() }
    }

    /// The messages, the oldest first.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.kept.lock().messages.values().cloned().collect()
    }

    /// The messages from one with a number on that are not too old, and the number of the next to come.
    pub(crate) fn messages_from(&self, number: u64, now: Millis) -> (Vec<Arc<Message>>, u64) {
        let kept = self.kept.lock();
        let is_current = |message: &&Arc<Message>| {
            let traits = message.traits();
            let is_recent = match self.keep {
                Keep::Ms(ms) => traits.arrived.plus(ms) > now,
                Keep::Messages(_) | Keep::Bytes(_) => true,
            };
            is_recent && traits.due.is_none_or(|due| due > now)
        };
        (kept.messages.range(number..).map(|(_, message)| message).filter(is_current).cloned().collect(), kept.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageView, Origin};

    fn message(payload: &[u8]) -> Arc<Message> {
        keyed("k", 0, payload)
    }

    fn keyed(routing_key: &str, arrived: u64, payload: &[u8]) -> Arc<Message> {
        let exchange = "x".into();
        let (origin, durable, properties, block) = (Origin(1), false, &[][..], None);
        let (priority, arrived, due, annotations) = (None, Millis(arrived), None, &[][..]);
        let exchange = &exchange;
        let view = MessageView {
            exchange,
            routing_key,
            origin,
            durable,
            priority,
            arrived,
            due,
            properties,
            annotations,
            payload,
            block,
        };
        Arc::new(Message::copy_of(&view))
    }

    fn payloads(history: &History) -> Vec<Vec<u8>> {
        history.messages().iter().map(|message| message.view().payload.to_vec()).collect()
    }

    #[test]
    fn the_last_ones_are_kept() {
        let mut arguments = Table::default();
        arguments.push("x-recent-history-length", Value::I32(2));
        let history = History::new(&arguments).unwrap();
        [b"a", b"b", b"c"].into_iter().for_each(|payload| history.remember(message(payload)));
        assert_eq!(payloads(&history), [b"b", b"c"]);
    }

    #[test]
    fn many_bytes_are_not_kept() {
        let history = History::new(&Table::default()).unwrap();
        let third = vec![0; limits::HISTORY_BYTES / 3];
        (0..3).for_each(|_| history.remember(message(&third)));
        assert_eq!(history.messages().len(), 2);
        history.remember(message(&vec![1; limits::HISTORY_BYTES]));
        assert_eq!(history.messages().len(), 1);
        history.remember(message(b"small"));
        assert_eq!(payloads(&history), [b"small"]);
    }

    #[test]
    fn each_key_has_its_own() {
        let history = History::by_key(Keep::Messages(1));
        [("a", b"1"), ("b", b"2"), ("a", b"3")]
            .into_iter()
            .for_each(|(key, body)| history.remember(keyed(key, 0, body)));
        assert_eq!(payloads(&history), [b"2", b"3"]);
        let (later, next) = history.messages_from(2, Millis(0));
        assert_eq!((later.len(), next), (1, 3));
    }

    #[test]
    fn what_is_kept_has_a_size_or_an_age() {
        let size = keyed("a", 0, b"1").memory_bytes();
        let history = History::by_key(Keep::Bytes(2 * size));
        [b"1", b"2", b"3"].into_iter().for_each(|body| history.remember(keyed("a", 0, body)));
        assert_eq!(payloads(&history), [b"2", b"3"]);
        let history = History::by_key(Keep::Ms(10));
        [(0, b"1"), (5, b"2"), (10, b"3")].into_iter().for_each(|(at, body)| history.remember(keyed("a", at, body)));
        assert_eq!(payloads(&history), [b"2", b"3"]);
        assert_eq!(history.messages_from(0, Millis(15)).0.len(), 1);
    }

    #[test]
    fn the_length_is_positive() {
        for (value, shown) in [(Value::I32(0), "0"), (Value::from("20"), "<<\"20\">>")] {
            let refusal = History::new(&Table(vec![("x-recent-history-length".into(), value)])).unwrap_err();
            let text = format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
            assert_eq!(refusal.to_string(), text);
        }
    }
}
