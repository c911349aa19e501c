//! What consumers of streams ask for: where to start, and which messages they want.

use super::Broker;
use crate::{
    message::MessageView,
    queue::{Consumer, Filter, Start},
    refusal::Refusal,
    rules::age_ms,
    session::Millis,
    topology::{QueueInfo, QueueType},
    value::{Table, Value},
};

/// The header by which publishers mark messages for filters.
const FILTER_VALUE: &str = "x-stream-filter-value";

impl Broker {
    /// Where a consumer of a queue starts, and which messages it wants, by its arguments. Both matter for streams only.
    ///
    /// # Errors
    /// If `x-stream-offset` is none.
    pub fn stream_arguments(&self, queue: &QueueInfo, arguments: &Table) -> Result<(Start, Option<Filter>), Refusal> {
        if queue.queue_type != QueueType::Stream {
            return Ok((Start::default(), None));
        }
        let start = match arguments.get("x-stream-offset") {
            None => Start::Next,
            Some(value) => start_of(value, self.now()).ok_or_else(|| Refusal::InvalidArgument {
                resource: queue.resource(),
                argument: "x-stream-offset",
                reason: format!("{{invalid_stream_offset_arg,{}}}", shown(value)),
            })?,
        };
        Ok((start, self.filter(arguments)))
    }

    fn filter(&self, arguments: &Table) -> Option<Filter> {
        let text = |value: &Value| value.as_text().map(str::to_owned);
        let wanted: Vec<String> = match arguments.get("x-stream-filter")? {
            Value::Array(values) => values.iter().filter_map(text).collect(),
            value => text(value).into_iter().collect(),
        };
        let unfiltered = arguments.get("x-stream-match-unfiltered") == Some(&Value::Bool(true));
        let codecs = self.codecs();
        Some(Filter::new(move |message: &MessageView<'_>| {
            let headers =
                codecs.of(message.origin).map_or_else(Table::default, |codec| codec.headers(message.properties));
            match headers.get(FILTER_VALUE).and_then(Value::as_text) {
                Some(value) => wanted.iter().any(|one| one == value),
                None => unfiltered,
            }
        }))
    }

    /// Refuses consumers that streams cannot have: who gets messages as fast as they can be read has to say how many he
    /// can take, and when he has taken them.
    pub(super) fn check_reader(&self, queue: &QueueInfo, consumer: &Consumer) -> Result<(), Refusal> {
        if queue.queue_type != QueueType::Stream {
            return Ok(());
        }
        if consumer.browses.is_some() {
            return Err(Refusal::Unsupported(format!("browsing not supported by stream {}", queue.resource())));
        }
        if consumer.settles_itself {
            return Err(Refusal::Unsupported(format!(
                "automatic acknowledgement not supported by stream {}",
                queue.resource()
            )));
        }
        if consumer.prefetch == 0 {
            return Err(Refusal::Unfit(format!("consumer prefetch count is not set for stream {}", queue.resource())));
        }
        Ok(())
    }

    /// Refuses what streams cannot do.
    pub(super) fn refuse_stream(&self, queue: &QueueInfo, method: &str) -> Result<(), Refusal> {
        match queue.queue_type {
            QueueType::Stream => {
                Err(Refusal::Unsupported(format!("{method} not supported by stream queues {}", queue.resource())))
            }
            _ => Ok(()),
        }
    }
}

fn start_of(value: &Value, now: Millis) -> Option<Start> {
    if let Some(offset) = value.as_integer() {
        return Some(u64::try_from(offset).map_or(Start::First, Start::Offset));
    }
    match value {
        Value::Timestamp(seconds) => Some(Start::Since(Millis(seconds.saturating_mul(1000)))),
        value => match value.as_text()? {
            "first" => Some(Start::First),
            "last" => Some(Start::Last),
            "next" => Some(Start::Next),
            age => age_ms(age).map(|age| Start::Since(Millis(now.0.saturating_sub(age)))),
        },
    }
}

/// A value as RabbitMQ shows it.
fn shown(value: &Value) -> String {
    match (value.as_text(), value.as_integer()) {
        (Some(text), _) => format!("{{longstr,<<\"{text}\">>}}"),
        (_, Some(number)) => format!("{{{},{number}}}", value.type_name()),
        _ => format!("{{{},{value:?}}}", value.type_name()),
    }
}
