//! SUBSCRIBE and UNSUBSCRIBE: how a subscription consumes its queue.

use std::sync::Arc;

use broker::{
    Browses, Consumer, ConsumerKey, DeleteRule, Filter, Grouping, Name, Outlet, Position, QueueInfo, Refusal, Route,
    Table, Value, Watch, broker::Caller, selector::CONVERT,
};

use super::{
    StompConnection,
    patterns::Pattern,
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
    pub(super) number: u64,
    /// Its queues but for those of patterns, and whether each is for a topic.
    pub(super) queues: Vec<(Arc<QueueInfo>, bool)>,
    /// What it takes to put it on queues that are made later.
    pub(super) pattern: Option<Box<Pattern>>,
    /// Whether it only looks.
    pub(super) browses: bool,
    /// As error texts name it.
    description: String,
    /// Whether it does not get what its own connection sends.
    is_without_own: bool,
}

/// How a subscription consumes its queues.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
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

impl Default for Wanted {
    fn default() -> Self {
        let (mode, prefetch, priority, exclusive) = (AckMode::Auto, 0, 0, false);
        let (arguments, selector, browses, groups) = (Table::default(), None, false, None);
        Self { mode, prefetch, priority, exclusive, arguments, selector, browses, groups }
    }
}

/// What a subscription is put on.
#[derive(Default)]
struct Places {
    /// Queues, whether each is one that others may have, and whether it is for a topic.
    queues: Vec<(Arc<QueueInfo>, bool, bool)>,
    /// Queues of patterns.
    matched: Vec<Arc<QueueInfo>>,
    watches: Vec<Arc<Watch>>,
    is_pattern: bool,
    position: Position,
}

/// Beginning of ids that only the broker gives.
const TEMP_QUEUE: &str = "/temp-queue/";

impl StompConnection {
    pub(super) fn subscribe(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
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
        let destinations = Destination::parse_composite(text)?;
        check_destinations(frame, &destinations)?;
        let wanted = self.wanted(frame, mode)?;
        let places = self.places(&caller, frame, &destinations)?;
        let is_several = places.is_pattern || destinations.len() > 1;
        let number = self.begin_subscription((id, has_id), mode, is_several.then_some((text, wanted.prefetch)));
        if let Err(problem) = self.attach_all(&caller, number, &wanted, &places) {
            self.detach(&caller, number);
            return Err(problem);
        }
        let is_without_own = is_without_own(frame);
        if is_without_own {
            // They lead there as if it were anybody's.
            self.routes.clear();
        }
        let Places { queues, watches, position, .. } = places;
        let queues = queues.into_iter().map(|(queue, _, is_topic)| (queue, is_topic)).collect();
        let browses = wanted.browses;
        let pattern = (!watches.is_empty()).then(|| Box::new(Pattern { wanted, watches }));
        let description = description(id, has_id);
        let subscription = Subscription { number, queues, pattern, browses, description, is_without_own };
        self.subscriptions.insert(key_of(id, has_id), subscription);
        match frame.header("receipt") {
            // The first message must not come before it.
            Some(receipt) => self.respond_receipt(position, receipt, Some(number), false),
            None => self.resume(number),
        }
        self.tell();
        Ok(())
    }

    fn wanted(&self, frame: &Frame<'_>, mode: AckMode) -> Result<Wanted, Problem> {
        Ok(Wanted {
            mode,
            prefetch: self.prefetch(frame),
            priority: frame.number("x-priority").or_else(|| frame.number("activemq.priority")).unwrap_or(0),
            exclusive: frame.flag("activemq.exclusive") == Some(true),
            arguments: consumer_arguments(frame)?,
            selector: self.selector(frame)?,
            browses: frame.flag("browser") == Some(true),
            groups: Some(self.broker.grouping()),
        })
    }

    /// The queues of all destinations, which are declared if need be.
    fn places(&mut self, caller: &Caller, frame: &Frame<'_>, destinations: &[Destination]) -> Result<Places, Problem> {
        let mut places = Places::default();
        for destination in destinations {
            if let Some(pattern) = self.pattern_of(frame, destination) {
                places.is_pattern = true;
                // A browser sees what is there when it comes.
                if frame.flag("browser") != Some(true) {
                    places.watches.push(self.broker.watch_queues(caller.vhost.name(), pattern));
                }
                places.matched.extend(self.queues_of(caller, pattern)?);
                continue;
            }
            let (queue, position) = self.source_queue(caller, destination, frame)?;
            let is_topic = matches!(destination, Destination::Topic(_));
            places.position = places.position.max(position);
            places.queues.push((queue, destination.is_queue(), is_topic));
        }
        Ok(places)
    }

    fn attach_all(&self, caller: &Caller, number: u64, wanted: &Wanted, places: &Places) -> Result<(), Problem> {
        let named = places.queues.iter().map(|(queue, is_queue, _)| (queue, *is_queue));
        for (queue, is_queue) in named.chain(places.matched.iter().map(|queue| (queue, true))) {
            self.attach(caller, number, wanted, queue, is_queue)?;
        }
        Ok(())
    }

    /// What a subscription wants.
    pub(super) fn selector(&self, frame: &Frame<'_>) -> Result<Option<Filter>, Problem> {
        let selector = frame.header("selector").unwrap_or_default();
        let invalid = |error| Problem::new("Invalid selector", format!("'{selector}' is no selector: {error}\n"));
        if selector.trim().is_empty() {
            return Ok(None);
        }
        self.broker.selector(&converting(selector)).map_err(invalid)
    }

    /// A route, but for the queues of subscriptions that do not want what this connection sends.
    pub(super) fn without_own(&self, route: Route) -> Route {
        let unwanted = self.subscriptions.values().filter(|subscription| subscription.is_without_own);
        let queues: Vec<_> =
            unwanted.flat_map(|subscription| &subscription.queues).map(|(queue, _)| Arc::clone(queue)).collect();
        if queues.is_empty() { route } else { route.without(&queues) }
    }

    fn prefetch(&self, frame: &Frame<'_>) -> u32 {
        let asked = frame.number("prefetch-count").or_else(|| frame.number("activemq.prefetchSize").map(|n| n.max(1)));
        asked.map_or(self.settings.prefetch, |number| number.clamp(0, i64::from(u32::MAX)) as u32)
    }

    /// A subscription begins, on no queue yet. Returns its number in the output.
    pub(super) fn begin_subscription(
        &self,
        (id, has_id): (&str, bool),
        mode: AckMode,
        several: Option<(&str, u32)>,
    ) -> u64 {
        let mut outgoing = self.outgoing.lock();
        let (session, version) = (outgoing.session.clone(), outgoing.version);
        outgoing.subscriptions.open(&Opened { id, has_id, mode, several, session: &session, version })
    }

    /// Puts a subscription on a queue, at rest, unless it is on it. Returns the number of the queue in the output.
    pub(super) fn attach(
        &self,
        caller: &Caller,
        number: u64,
        wanted: &Wanted,
        queue: &Arc<QueueInfo>,
        is_queue: bool,
    ) -> Result<Option<u64>, Problem> {
        self.broker.check_readable(caller, &queue.name)?;
        self.broker.check_consumer_arguments(queue, &wanted.arguments)?;
        let (start, filter) = self.broker.stream_arguments(queue, &wanted.arguments)?;
        let added = self.outgoing.lock().subscriptions.add(number, queue, is_queue);
        let Some((source, shared)) = added else { return Ok(None) };
        // A subscription of topics has a queue of its own, which gets only what it wants.
        let selector = wanted.selector.clone().filter(|_| is_queue);
        let consumer = Consumer {
            outlet: Arc::clone(&self.outgoing) as Arc<dyn Outlet>,
            key: ConsumerKey(source),
            session: self.id,
            settles_itself: wanted.mode == AckMode::Auto,
            exclusive: false,
            single_active: wanted.exclusive,
            groups: wanted.groups.clone().filter(|_| is_queue),
            priority: wanted.priority,
            timeout_ms: None,
            start,
            filter: selector.or(filter),
            browses: wanted.browses.then_some(Browses::Copies),
            prefetch: wanted.prefetch,
            shared,
        };
        let attached = self.broker.consume(caller, &queue.name, consumer);
        let mut outgoing = self.outgoing.lock();
        match attached {
            Ok(attachment) => outgoing.subscriptions.attached(source, attachment.consumer),
            Err(refusal) => {
                outgoing.subscriptions.leave(source);
                return Err(refusal.into());
            }
        }
        Ok(Some(source))
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
        self.detach(&caller, subscription.number);
        if subscription.is_without_own {
            self.routes.clear();
        }
        let mut position = Position(0);
        let is_forgotten = durable(frame) == Some(true) || subscription_name(frame).is_some();
        for (queue, _) in subscription.queues.iter().filter(|(_, is_topic)| is_forgotten && *is_topic) {
            match self.broker.delete_queue(&caller, &queue.name, DeleteRule::default()) {
                Ok((_, deleted)) => position = position.max(deleted),
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

    /// Takes a subscription off its queues. What it has not settled stays with the connection.
    pub(super) fn detach(&self, caller: &Caller, number: u64) {
        let attachments = self.outgoing.lock().subscriptions.attachments(number);
        attachments.iter().for_each(|attachment| self.broker.cancel(caller, attachment));
        self.outgoing.lock().subscriptions.close(number);
    }

    /// Tells the client of subscriptions all of whose queues are gone. As with RabbitMQ the others go on.
    pub(super) fn tell_cancelled(&mut self) {
        let cancelled = std::mem::take(&mut self.outgoing.lock().cancelled);
        for ConsumerKey(source) in cancelled {
            let left = self.outgoing.lock().subscriptions.leave(source);
            let Some((number, false)) = left else { continue };
            let found = self.subscriptions.iter().find(|(_, subscription)| subscription.number == number);
            // Others of a pattern may come.
            if found.is_some_and(|(_, subscription)| subscription.pattern.is_some()) {
                continue;
            }
            self.outgoing.lock().subscriptions.close(number);
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

/// Refuses what cannot be.
fn check_destinations(frame: &Frame<'_>, destinations: &[Destination]) -> Result<(), Problem> {
    if frame.flag("browser") == Some(true) && !destinations.iter().all(Destination::is_queue) {
        return Err(Problem::unsupported("'browser' on SUBSCRIBE to anything but a queue"));
    }
    let is_topic = |one: &Destination| matches!(one, Destination::Topic(_) | Destination::TempTopic(_));
    if is_without_own(frame) && !destinations.iter().all(is_topic) {
        return Err(Problem::unsupported("'no-local' on SUBSCRIBE to anything but a topic"));
    }
    // One name would stand for several queues.
    if destinations.len() > 1 && (subscription_name(frame).is_some() || frame.header("x-queue-name").is_some()) {
        return Err(Problem::unsupported("a name on SUBSCRIBE to several destinations"));
    }
    Ok(())
}

/// Whether a subscription is not to get what its own connection sends. ActiveMQ and others have a header of their own for that.
fn is_without_own(frame: &Frame<'_>) -> bool {
    ["activemq.noLocal", "no-local"].into_iter().any(|header| frame.flag(header) == Some(true))
}

/// A selector that takes text for the numbers that it says: headers are nothing but text. ActiveMQ does the same.
pub(super) fn converting(selector: &str) -> String {
    let own = selector.strip_prefix(CONVERT).unwrap_or(selector);
    format!("{CONVERT}{own}")
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
