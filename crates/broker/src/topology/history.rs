//! What an exchange of type `x-recent-history` remembers for bindings to come.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::{
    limits,
    message::Message,
    refusal::Refusal,
    value::{Table, Value},
};

/// The last messages of an exchange. They are in memory alone, and gone after a restart.
#[derive(Debug)]
pub struct History {
    /// Messages that it holds at most.
    length: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
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
        Ok(Self { length, kept: Mutex::default() })
    }

    /// Whether a message with these headers wants to be remembered.
    pub(super) fn wants(headers: &Table) -> bool {
        headers.get("x-recent-history-no-store") != Some(&Value::Bool(true))
    }

    /// Adds a message. The oldest ones go, until no more than the length are left, and no more than
    /// [`limits::HISTORY_BYTES`] or this message alone.
    pub fn remember(&self, message: Arc<Message>) {
        let mut kept = self.kept.lock();
        kept.bytes += message.memory_bytes();
        kept.messages.push_back(message);
        while kept.messages.len() > self.length || (kept.bytes > limits::HISTORY_BYTES && kept.messages.len() > 1) {
            let Some(oldest) = kept.messages.pop_front() else { return };
            kept.bytes -= oldest.memory_bytes();
        }
    }

    /// The messages, the oldest first.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.kept.lock().messages.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageView, Millis, Origin};

    fn message(payload: &[u8]) -> Arc<Message> {
        let exchange = "x".into();
        let (routing_key, origin, durable, properties, block) = ("k", Origin(1), false, &[][..], None);
        let (priority, arrived, due, annotations) = (None, Millis(0), None, &[][..]);
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
    fn the_length_is_positive() {
        for (value, shown) in [(Value::I32(0), "0"), (Value::from("20"), "<<\"20\">>")] {
            let refusal = History::new(&Table(vec![("x-recent-history-length".into(), value)])).unwrap_err();
            let text = format!("Invalid argument {shown}, 'x-recent-history-length' must be a positive integer");
            assert_eq!(refusal.to_string(), text);
        }
    }
}
