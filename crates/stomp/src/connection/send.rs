//! SEND: the checks, the route, and the way into the batch.

use std::sync::Arc;

use broker::{
    Event, Facts, Message, MessageView, Position, Route, Schedule,
    broker::Caller,
    limits,
    publish::{Batch, Body},
    schedule::{self, InvalidSchedule},
};

use super::StompConnection;
use crate::{
    ORIGIN,
    destination::Destination,
    mapping::Problem,
    message::{Published, Stored},
    wire::Frame,
};

/// A destination that was sent to before.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    route: Arc<Route>,
    routing_key: Arc<str>,
}

/// Ten years in milliseconds: the longest time to live that RabbitMQ takes.
const EXPIRATION_MS_MAX: u64 = 315_360_000_000;

impl StompConnection {
    pub(super) fn send(&mut self, frame: &Frame<'_>, batch: &mut Batch<'_>) -> Result<(), Problem> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        if frame.header("message-id").is_some() {
            return Err(Problem::new("Invalid header", "'message-id' is not allowed on 'SEND'.\n"));
        }
        let transaction = frame.header("transaction");
        self.check_transaction(transaction)?;
        let destination = frame.header("destination").ok_or_else(|| missing_destination("SEND"))?;
        let destination = destination.trim_start();
        self.check_user_id(&caller, frame.header("user-id"))?;
        let ttl_ms = self.time_to_live(frame)?;
        let reply_to = self.reply_to(&caller, frame)?;
        let properties = Stored::bytes_of(frame, reply_to.as_deref());
        let schedule = schedule(frame, &properties)?;
        let routed = self.routes_of(&caller, destination, frame, &properties)?;
        let mut token = 0;
        if let (None, Some(receipt)) = (transaction, frame.header("receipt")) {
            self.receipts.push(receipt.into());
            token = self.receipts.len() as u64;
        }
        for Remembered { mut route, routing_key } in routed {
            let now = self.broker.now();
            let mut annotations = Vec::new();
            if let Some(schedule) = &schedule {
                route = Arc::new(self.broker.later(caller.vhost.name(), &route, schedule));
                self.scheduled += 1;
                annotations = schedule::annotations(&format!("ID:{}:{}", self.id.0, self.scheduled));
            }
            let message = Arc::new(Message::copy_of(&MessageView {
                exchange: &route.exchange,
                routing_key: &routing_key,
                origin: ORIGIN,
                durable: frame.flag("persistent") == Some(true),
                priority: frame.number("priority").and_then(|priority| priority.try_into().ok()),
                arrived: now,
                due: ttl_ms.map(|ttl| now.plus(ttl)),
                properties: &properties,
                annotations: &annotations,
                payload: frame.body,
                block: None,
            }));
            self.outgoing.lock().count(Event::Publish, 1);
            match transaction {
                Some(transaction) => self.publish_within(transaction, route, message)?,
                None => self.publish(route, message, token, batch),
            }
        }
        if transaction.is_some() {
            // That it has come, and no more: its COMMIT tells that it is safe.
            self.receipt(frame, Position(0));
        }
        Ok(())
    }

    fn publish(&self, route: Arc<Route>, message: Arc<Message>, token: u64, batch: &mut Batch<'_>) {
        if route.queues.is_empty() {
            self.outgoing.lock().count(Event::Drop, 1);
        }
        if token != 0 || route.leads_somewhere() {
            batch.publish(route, Body::Owned(message), token);
        } else {
            route.count_lost();
        }
    }

    /// Where a message goes. All of it is checked before any of it is published.
    fn routes_of(
        &mut self,
        caller: &Caller,
        text: &str,
        frame: &Frame<'_>,
        properties: &[u8],
    ) -> Result<Vec<Remembered>, Problem> {
        let version = caller.vhost.version();
        if let Some(known) = self.routes.get(text).filter(|known| known.route.version == version) {
            return Ok(vec![known.clone()]);
        }
        let destinations = Destination::parse_composite(text)?;
        let mut routed = Vec::new();
        for destination in &destinations {
            self.prepare(caller, destination, frame)?;
            let (exchange, routing_key) = self.sending_address(destination)?;
            let route = self.broker.route(caller, &exchange, &[&*routing_key], &Published(properties))?;
            let route = self.without_own(route);
            routed.push(Remembered { route: Arc::new(route), routing_key: (&*routing_key).into() });
        }
        if let [one] = &routed[..]
            && one.route.reusable
        {
            if self.routes.len() >= limits::ROUTES_CACHED {
                self.routes.clear();
            }
            self.routes.insert(text.into(), one.clone());
        }
        Ok(routed)
    }

    /// Declares the queue that a destination names, as RabbitMQ does.
    fn prepare(&mut self, caller: &Caller, destination: &Destination, frame: &Frame<'_>) -> Result<(), Problem> {
        if let Destination::Queue(name) = destination {
            let (_, position) = self.declare_named(caller, name, frame)?;
            // What is told of the message tells of its queue.
            self.written = self.written.max(position);
        }
        Ok(())
    }

    /// The exchange and the routing key.
    fn sending_address(&self, destination: &Destination) -> Result<(String, String), Problem> {
        if let Some((exchange, key)) = destination.routing() {
            return Ok((exchange.into(), key.into()));
        }
        let own = match destination {
            Destination::TempTopic(name) => Some((crate::EXCHANGE.into(), self.temporary_topic(name))),
            Destination::TempQueue(name) => {
                self.temporary.get(name).map(|queue| (String::new(), queue.info.name.to_string()))
            }
            _ => None,
        };
        own.ok_or_else(|| {
            let Destination::TempQueue(name) = destination else { return missing_destination("SEND") };
            let detail = format!("'/temp-queue/{name}' is not a valid destination for 'SEND'\n");
            Problem::new("Invalid destination", detail)
        })
    }

    fn check_user_id(&self, caller: &Caller, claimed: Option<&str>) -> Result<(), Problem> {
        let Some(claimed) = claimed else { return Ok(()) };
        if *claimed == *caller.user || self.broker.has_tag(caller, "impersonator") {
            return Ok(());
        }
        let user = &caller.user;
        let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
        Err(Problem::new("precondition_failed", format!("PRECONDITION_FAILED - {text}")))
    }

    /// Milliseconds that the message may wait: as RabbitMQ has it, or until a moment, as ActiveMQ does.
    fn time_to_live(&self, frame: &Frame<'_>) -> Result<Option<u64>, Problem> {
        if let Some(text) = frame.header("expiration") {
            let ms = text.trim().parse::<u64>().ok().filter(|&ms| ms <= EXPIRATION_MS_MAX);
            let invalid = || {
                let detail = format!("PRECONDITION_FAILED - invalid expiration '{text}'");
                Problem::new("precondition_failed", detail)
            };
            return ms.map(Some).ok_or_else(invalid);
        }
        let until = frame.number("expires").and_then(|ms| u64::try_from(ms).ok()).filter(|&ms| ms > 0);
        Ok(until.map(|until| until.saturating_sub(self.broker.now().0)))
    }
}

/// When a message is to come, if it is not to come at once.
fn schedule(frame: &Frame<'_>, properties: &[u8]) -> Result<Option<Schedule>, Problem> {
    if !frame.headers.iter().any(|(name, _)| name.starts_with(schedule::SCHEDULED)) {
        return Ok(None);
    }
    let invalid = |invalid: InvalidSchedule| Problem::new("Invalid header", format!("{invalid}\n"));
    Schedule::of_headers(&Published(properties).headers()).map_err(invalid)
}

/// A frame without destination.
pub(super) fn missing_destination(command: &str) -> Problem {
    Problem::new("Missing destination", format!("\"{command}\" must include a 'destination' header\n"))
}
