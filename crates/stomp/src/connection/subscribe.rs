//! SUBSCRIBE and UNSUBSCRIBE: how a subscription consumes its queue.

use std::sync::Arc;

use broker::{
    Consumer, ConsumerKey, DeleteRule, Filter, Grouping, Name, Outlet, Position, QueueInfo, Refusal, Table, Value,
    broker::Caller,
};

use super::{
    StompConnection,
    queues::{durable, subscription_name, whole_number},
    send::missing_destination,
};
use crate::{
    destination::Destination,
    mapping::Problem,
    outgoing::{AckMode, Opened},
    queue_name,
    wire::Frame,
};

/// A subscription of the client.
#[derive(Debug)]
pub(super) struct Subscription {
    /// Its number in the output.
    pub(super) source: u64,
    pub(super) queue: Arc<QueueInfo>,
    /// As error texts name it.
    description: String,
    is_to_topic: bool,
}

/// A consumer to be.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) queue: &'a Arc<QueueInfo>,
    pub(super) id: &'a str,
    pub(super) has_id: bool,
    pub(super) mode: AckMode,
    pub(super) prefetch: u32,
    pub(super) priority: i64,
    /// Whether others wait while it is there.
    pub(super) exclusive: bool,
    pub(super) arguments: Table,
    /// Which messages it wants.
    pub(super) selector: Option<Filter>,
    /// Whether it only looks.
    pub(super) browses: bool,
    /// How it tells groups of messages, if it knows them.
    pub(super) groups: Option<Grouping>,
}

impl<'a> Wanted<'a> {
    /// One that consumes a queue and asks for nothing else.
    pub(super) fn of(queue: &'a Arc<QueueInfo>) -> Self {
        let (id, has_id, mode, prefetch) = ("", false, AckMode::Auto, 0);
        let (priority, exclusive, arguments, selector) = (0, false, Table::default(), None);
        let (browses, groups) = (false, None);
        Self { queue, id, has_id, mode, prefetch, priority, exclusive, arguments, selector, browses, groups }
    }
}

/// Topics of what the broker itself tells.
const ADVISORIES: &str = "/topic/ActiveMQ.Advisory.";

/// Beginning of ids that only the broker gives.
const TEMP_QUEUE: &str = "/temp-queue/";

impl StompConnection {
    pub(super) fn subscribe(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        refuse_unsupported(frame)?;
        let text = frame.header("destination").ok_or_else(|| missing_destination("SUBSCRIBE"))?.trim_start();
        let (id, has_id) = frame.header("id").map_or((text, false), |id| (id, true));
        check_id(frame, id, has_id)?;
        // Before its key is given to another.
        self.tell_cancelled();
        if self.subscriptions.contains_key(&*key_of(id, has_id)) {
            let detail = format!("A subscription identified by '{}' already exists.", key_of(id, has_id));
            return Err(Problem::new("Duplicated subscription identifier", detail));
        }
        let mode = match frame.header("ack").unwrap_or("auto") {
            "auto" => AckMode::Auto,
            "client" => AckMode::Client,
            "client-individual" => AckMode::ClientIndividual,
            mode => return Err(Problem::new("Invalid header", format!("'{mode}' is no acknowledgement mode\n"))),
        };
        let destination = Destination::parse(text)?;
        if !destination.is_queue() && frame.flag("browser") == Some(true) {
            return Err(Problem::unsupported("'browser' on SUBSCRIBE to anything but a queue"));
        }
        // A subscription of topics has a queue of its own, which gets only what it wants.
        let selector = self.selector(frame)?.filter(|_| destination.is_queue());
        let (queue, position) = self.source_queue(&caller, &destination, frame)?;
        let wanted = Wanted {
            id,
            has_id,
            mode,
            prefetch: self.prefetch(frame),
            priority: frame.number("x-priority").or_else(|| frame.number("activemq.priority")).unwrap_or(0),
            exclusive: frame.flag("activemq.exclusive") == Some(true),
            arguments: consumer_arguments(frame)?,
            selector,
            browses: frame.flag("browser") == Some(true),
            groups: destination.is_queue().then(|| self.broker.grouping()),
            ..Wanted::of(&queue)
        };
        let source = self.attach(&caller, &wanted)?;
        let is_to_topic = matches!(destination, Destination::Topic(_));
        let description = description(id, has_id);
        let subscription = Subscription { source, queue, description, is_to_topic };
        self.subscriptions.insert(key_of(id, has_id), subscription);
        match frame.header("receipt") {
            // The first message must not come before it.
            Some(receipt) => self.respond_receipt(position, receipt, Some(source), false),
            None => self.resume(source),
        }
        self.tell();
        Ok(())
    }

    /// What a subscription wants.
    pub(super) fn selector(&self, frame: &Frame<'_>) -> Result<Option<Filter>, Problem> {
        let selector = frame.header("selector").unwrap_or_default();
        let invalid = |error| Problem::new("Invalid selector", format!("'{selector}' is no selector: {error}\n"));
        self.broker.selector(selector).map_err(invalid)
    }

    fn prefetch(&self, frame: &Frame<'_>) -> u32 {
        let asked = frame.number("prefetch-count").or_else(|| frame.number("activemq.prefetchSize").map(|n| n.max(1)));
        asked.map_or(self.settings.prefetch, |number| number.clamp(0, i64::from(u32::MAX)) as u32)
    }

    /// Puts a consumer on its queue, at rest. Returns its number in the output.
    pub(super) fn attach(&mut self, caller: &Caller, wanted: &Wanted<'_>) -> Result<u64, Problem> {
        let Wanted { queue, id, has_id, mode, .. } = *wanted;
        self.broker.check_readable(caller, &queue.name)?;
        self.broker.check_consumer_arguments(queue, &wanted.arguments)?;
        let (start, filter) = self.broker.stream_arguments(queue, &wanted.arguments)?;
        let source = self.outgoing.lock().open(&Opened { id, has_id, mode, queue });
        let consumer = Consumer {
            outlet: Arc::clone(&self.outgoing) as Arc<dyn Outlet>,
            key: ConsumerKey(source),
            session: self.id,
            settles_itself: mode == AckMode::Auto,
            exclusive: false,
            single_active: wanted.exclusive,
            groups: wanted.groups.clone(),
            priority: wanted.priority,
            timeout_ms: None,
            start,
            filter: wanted.selector.clone().or(filter),
            browses: wanted.browses,
            prefetch: wanted.prefetch,
            shared: Arc::default(),
        };
        let attached = self.broker.consume(caller, &queue.name, consumer);
        let mut outgoing = self.outgoing.lock();
        match attached {
            Ok(attachment) => outgoing.attached(source, attachment.consumer),
            Err(refusal) => {
                outgoing.close(source);
                return Err(refusal.into());
            }
        }
        Ok(source)
    }

    pub(super) fn unsubscribe(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        let (id, has_id) = match (frame.header("id"), frame.header("destination")) {
            (Some(id), _) => (id, true),
            (None, Some(destination)) => (destination.trim_start(), false),
            (None, None) => {
                let detail = "UNSUBSCRIBE must include a 'destination' or 'id' header";
                return Err(Problem::new("Missing destination or id", detail));
            }
        };
        check_id(frame, id, has_id)?;
        let Some(subscription) = self.subscriptions.remove(&*key_of(id, has_id)) else {
            return self.forget(&caller, frame, &description(id, has_id));
        };
        self.detach(&caller, subscription.source);
        let mut position = Position(0);
        let is_forgotten = durable(frame) == Some(true) || subscription_name(frame).is_some();
        if is_forgotten && subscription.is_to_topic {
            match self.broker.delete_queue(&caller, &subscription.queue.name, DeleteRule::default()) {
                Ok((_, deleted)) => position = deleted,
                // It went with its last consumer.
                Err(Refusal::NotFound(_)) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        self.receipt(frame, position);
        self.tell();
        Ok(())
    }

    /// Deletes what a subscription with a name has kept, though it is not open here: ActiveMQ's clients close it first, or come
    /// back for nothing else.
    fn forget(&mut self, caller: &Caller, frame: &Frame<'_>, shown: &str) -> Result<(), Problem> {
        let named = subscription_name(frame).zip(self.client_id.as_deref());
        let queue = named.map(|(name, client)| queue_name::of_named_subscription(client, name));
        let rule = DeleteRule { if_unused: true, if_empty: false };
        match queue.map(|queue| self.broker.delete_queue(caller, &queue, rule)) {
            Some(Ok((_, deleted))) => {
                self.receipt(frame, deleted);
                self.tell();
                Ok(())
            }
            None | Some(Err(Refusal::NotFound(_))) => {
                let detail = format!(
                    "UNSUBSCRIBE must refer to an existing subscription.\nSubscription to \"{shown}\" not found.\n"
                );
                Err(Problem::new("No subscription found", detail))
            }
            Some(Err(refusal)) => Err(refusal.into()),
        }
    }

    /// Takes a consumer off its queue. What it has not settled stays with the connection.
    pub(super) fn detach(&mut self, caller: &Caller, source: u64) {
        let attachment = self.outgoing.lock().attachment(source);
        attachment.iter().for_each(|attachment| self.broker.cancel(caller, attachment));
        self.outgoing.lock().close(source);
    }

    /// Tells the client of subscriptions whose queue is gone. As with RabbitMQ the others go on.
    pub(super) fn tell_cancelled(&mut self) {
        let cancelled = std::mem::take(&mut self.outgoing.lock().cancelled);
        for ConsumerKey(source) in cancelled {
            self.outgoing.lock().close(source);
            let found = self.subscriptions.iter().find(|(_, subscription)| subscription.source == source);
            let Some(key) = found.map(|(key, _)| key.clone()) else { continue };
            let Some(Subscription { description, .. }) = self.subscriptions.remove(&key) else { continue };
            let detail = format!(
                "The server has canceled a subscription.\nNo more messages will be delivered for \"{description}\".\n"
            );
            let problem = Problem::new("Server cancelled subscription", detail);
            self.say_error(&problem, Some(("subscription", &key[2..])));
        }
    }
}

/// What ActiveMQ's clients can ask for, and what is not here yet.
fn refuse_unsupported(frame: &Frame<'_>) -> Result<(), Problem> {
    // Nobody has sent what comes there. ActiveMQ-CPP begins with it.
    if frame.header("destination").is_some_and(|destination| destination.starts_with(ADVISORIES)) {
        return Ok(());
    }
    for header in ["activemq.noLocal", "no-local"] {
        if frame.header(header).is_some_and(|value| !value.is_empty() && value != "false") {
            return Err(Problem::unsupported(&format!("'{header}' on SUBSCRIBE")));
        }
    }
    Ok(())
}

/// RabbitMQ's name for a subscription.
fn key_of(id: &str, has_id: bool) -> Name {
    format!("{}{id}", if has_id { "T_" } else { "Q_" }).into()
}

fn description(id: &str, has_id: bool) -> String {
    format!("{}='{id}'", if has_id { "id" } else { "destination" })
}

fn check_id(frame: &Frame<'_>, id: &str, has_id: bool) -> Result<(), Problem> {
    if has_id && id.starts_with(TEMP_QUEUE) {
        let detail = format!("{} 'id' may not start with {TEMP_QUEUE}\n", frame.command);
        return Err(Problem::new("Invalid id", detail));
    }
    if !has_id && durable(frame) == Some(true) {
        return Err(Problem::new("Missing Header", "Header 'id' is required for durable subscriptions"));
    }
    Ok(())
}

/// Arguments of consumers of streams.
fn consumer_arguments(frame: &Frame<'_>) -> Result<Table, Problem> {
    const OFFSET: &str = "x-stream-offset";
    let mut arguments = Table::default();
    if let Some(text) = frame.header(OFFSET).map(str::trim) {
        let value = if let Some(offset) = text.strip_prefix("offset=") {
            whole_number(OFFSET, offset)?
        } else if let Some(seconds) = text.strip_prefix("timestamp=") {
            let seconds = seconds.trim().parse();
            let bad = |_| Problem::new("Invalid header", "'x-stream-offset' has no timestamp\n");
            Value::Timestamp(seconds.map_err(bad)?)
        } else {
            text.into()
        };
        arguments.push(OFFSET, value);
    }
    if let Some(text) = frame.header("x-stream-filter") {
        arguments.push("x-stream-filter", Value::Array(text.split(',').map(Value::from).collect()));
    }
    if let Some(flag) = frame.flag("x-stream-match-unfiltered") {
        arguments.push("x-stream-match-unfiltered", Value::Bool(flag));
    }
    Ok(arguments)
}
