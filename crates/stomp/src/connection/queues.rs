//! The queues of subscriptions and destinations: which they are, and how they are declared.

use std::sync::Arc;

use broker::{
    BindingRequest, DeleteRule, End, Name, Position, QueueDeclaration, QueueInfo, RecalledTo, Refusal, Table, Value,
    broker::Caller,
};

use super::{StompConnection, subscribe::converting};
use crate::{
    EXCHANGE,
    destination::{Destination, binding_key},
    mapping::Problem,
    queue_name,
    wire::Frame,
};

/// Arguments of queues that headers set: those that are numbers, those that are text, and those that are neither.
const NUMBERS: [&str; 8] = [
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-delivery-limit",
];
const TEXTS: [&str; 6] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-age",
    "x-overflow",
    "x-queue-type",
    "x-dead-letter-strategy",
];
const FLAGS: [&str; 1] = ["x-single-active-consumer"];

/// The argument by which the queue of a subscription with a name knows its topic.
const TOPIC: &str = "x-stomp-topic";

/// The argument by which the queue of a subscription that stays knows its selector.
const SELECTOR: &str = "x-stomp-selector";

impl StompConnection {
    /// The queue of a subscription, and when it is safe that there is one.
    pub(super) fn source_queue(
        &mut self,
        caller: &Caller,
        destination: &Destination,
        frame: &Frame<'_>,
    ) -> Result<(Arc<QueueInfo>, Position), Problem> {
        match destination {
            Destination::Queue(name) => self.declare_named(caller, name, frame),
            Destination::AmqQueue(name) | Destination::ReplyQueue(name) => {
                Ok((self.broker.queue(caller, name)?, Position(0)))
            }
            Destination::Topic(topic) => self.bound_queue(caller, (EXCHANGE, &binding_key(topic)), topic, frame),
            Destination::TempTopic(name) => {
                let key = self.temporary_topic(&binding_key(name));
                self.bound_queue(caller, (EXCHANGE, &key), &key, frame)
            }
            Destination::Exchange(exchange, key) => self.bound_queue(caller, (exchange, key), key, frame),
            Destination::TempQueue(name) => {
                let queue = self.temporary_queue(caller, name)?;
                self.take_over_replies(caller, name);
                Ok((queue, Position(0)))
            }
        }
    }

    /// The queue that a destination names. It is declared unless it is there, in whatever form.
    pub(super) fn declare_named(
        &mut self,
        caller: &Caller,
        name: &str,
        frame: &Frame<'_>,
    ) -> Result<(Arc<QueueInfo>, Position), Problem> {
        let is_durable = durable(frame).unwrap_or(true);
        let declaration = QueueDeclaration {
            durable: is_durable,
            exclusive: !is_durable || frame.flag("exclusive") == Some(true),
            auto_delete: !is_durable || frame.flag("auto-delete") == Some(true),
            arguments: queue_arguments(frame)?,
        };
        self.broker.check_queue_name(caller, name)?;
        match self.broker.declare_queue(caller, name, declaration) {
            Ok(declared) => Ok(declared),
            Err(Refusal::Inequivalent { .. } | Refusal::InequivalentArgument { .. } | Refusal::Locked(_)) => {
                Ok((self.broker.queue(caller, name)?, Position(0)))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// The queue of a subscription to an exchange: one of its own, unless it is durable.
    fn bound_queue(
        &mut self,
        caller: &Caller,
        (exchange, key): (&str, &str),
        topic: &str,
        frame: &Frame<'_>,
    ) -> Result<(Arc<QueueInfo>, Position), Problem> {
        let named = subscription_name(frame);
        let is_durable = durable(frame) == Some(true) || named.is_some();
        let mut arguments = queue_arguments(frame)?;
        let selector = frame.header("selector").map(str::trim).filter(|selector| !selector.is_empty());
        if named.is_some() {
            arguments.push(TOPIC, topic.into());
        }
        if let Some(selector) = selector.filter(|_| is_durable) {
            arguments.push(SELECTOR, selector.into());
        }
        let declaration = QueueDeclaration {
            durable: is_durable,
            exclusive: !is_durable || frame.flag("exclusive").unwrap_or(exchange != EXCHANGE && named.is_none()),
            auto_delete: !is_durable || frame.flag("auto-delete").unwrap_or(named.is_none()),
            arguments,
        };
        let name = self.subscription_queue(topic, named, is_durable, frame)?;
        self.broker.check_queue_name(caller, &name)?;
        let was_there = self.is_of_topic(caller, &name, topic, selector)?;
        let (queue, declared) = self.broker.declare_queue(caller, &name, declaration)?;
        let is_retroactive = !was_there && frame.flag("activemq.retroactive") == Some(true);
        let mut recalled = RecalledTo::default();
        let filter = self.selector(frame)?;
        if is_retroactive {
            self.broker.recall(&queue, (exchange, key), filter.as_ref(), &mut recalled);
        }
        let bound = match selector {
            Some(selector) => {
                self.broker.bind_selected(caller, &name, (exchange, key), &converting(selector), is_durable)
            }
            None => {
                let (destination, arguments) = (End::Queue(&name), Table::default());
                self.broker.bind(caller, BindingRequest { source: exchange, destination, key, arguments })
            }
        };
        match bound {
            Ok(bound) => {
                // What came in between.
                if is_retroactive {
                    self.broker.recall(&queue, (exchange, key), filter.as_ref(), &mut recalled);
                }
                Ok((queue, declared.max(bound)))
            }
            Err(refusal) => {
                if !was_there {
                    let _ = self.broker.delete_queue(caller, &name, DeleteRule::default());
                }
                Err(refusal.into())
            }
        }
    }

    /// Whether the queue of a subscription is there. One with a name that is for another topic by now, or for other messages of it,
    /// begins anew, as JMS has it.
    fn is_of_topic(&self, caller: &Caller, name: &str, topic: &str, selector: Option<&str>) -> Result<bool, Problem> {
        let Ok(queue) = self.broker.queue(caller, name) else { return Ok(false) };
        let former = |name| queue.arguments.get(name).and_then(Value::as_text);
        if former(TOPIC).is_none_or(|former| former == topic) && former(SELECTOR) == selector {
            return Ok(true);
        }
        self.broker.delete_queue(caller, name, DeleteRule { if_unused: true, if_empty: false })?;
        Ok(false)
    }

    fn subscription_queue(
        &self,
        topic: &str,
        named: Option<&str>,
        is_durable: bool,
        frame: &Frame<'_>,
    ) -> Result<Name, Problem> {
        if let Some(name) = frame.header("x-queue-name") {
            return Ok(name.into());
        }
        if let Some(name) = named {
            let client_id = self.client_id.as_ref();
            let client_id = client_id.ok_or_else(|| Problem::missing_header("CONNECT", "client-id"))?;
            return Ok(queue_name::of_named_subscription(client_id, name));
        }
        Ok(match frame.header("id").filter(|_| is_durable) {
            Some(id) => queue_name::of_subscription(topic, id),
            None => format!("stomp-subscription-{}", self.broker.unique_name()).into(),
        })
    }
}

/// What ActiveMQ and Artemis have durable subscriptions called by.
pub(super) fn subscription_name<'a>(frame: &'a Frame<'_>) -> Option<&'a str> {
    frame.header("activemq.subscriptionName").or_else(|| frame.header("durable-subscription-name"))
}

/// Whether a queue is to survive a restart: two headers say the same.
pub(super) fn durable(frame: &Frame<'_>) -> Option<bool> {
    // On SEND `persistent` is about the message.
    let persistent = if frame.command == "SEND" { None } else { frame.flag("persistent") };
    frame.flag("durable").or(persistent)
}

fn queue_arguments(frame: &Frame<'_>) -> Result<Table, Problem> {
    let mut arguments = Table::default();
    for name in NUMBERS {
        if let Some(text) = frame.header(name) {
            arguments.push(name, whole_number(name, text)?);
        }
    }
    for name in TEXTS {
        if let Some(text) = frame.header(name) {
            arguments.push(name, text.trim().into());
        }
    }
    for name in FLAGS {
        if let Some(flag) = frame.flag(name) {
            arguments.push(name, Value::Bool(flag));
        }
    }
    Ok(arguments)
}

/// An argument of a queue or consumer that a header sets.
pub(super) fn whole_number(name: &'static str, text: &str) -> Result<Value, Problem> {
    let number = text.trim().parse().map(Value::I64);
    number.map_err(|_| Problem::new("Invalid header", format!("'{name}' must be a whole number\n")))
}
