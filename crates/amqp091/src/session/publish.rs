//! `basic.publish`: the checks, the route, and the way into the batch.

use std::sync::{Arc, atomic::Ordering};

use broker::{
    Broker, Event, Name, Route, Table, Value,
    broker::Caller,
    limits,
    message::BLIND_KEYS,
    publish::{Batch, Body},
    record::put_table,
};

use super::{
    AmqpSession,
    channel::Channel,
    content::{Content, bad_properties, read_header},
};
use crate::{
    ORIGIN,
    mapping::{Code, Exception},
    method::BadMethod,
    properties::Properties,
    wire::{self, Frame, Malformed, NOT_UTF8, Reader, frame_type},
};

/// The name by which clients ask for direct replies.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// A message that may be published.
pub(super) struct Vetted {
    pub(super) route: Arc<Route>,
    /// Its properties, if they had to be changed.
    pub(super) properties: Option<Vec<u8>>,
    /// What is to be remembered of it besides, if its properties were changed.
    pub(super) annotations: Vec<u8>,
}

/// A `basic.publish` as it stands in the frame.
struct Publish<'i> {
    exchange: &'i str,
    routing_key: &'i str,
    /// Exchange and routing key as they stand in the frame: the key of remembered routes.
    address: &'i [u8],
    mandatory: bool,
    immediate: bool,
}

fn read_publish<'i>(payload: &'i [u8]) -> Result<Publish<'i>, Malformed> {
    let mut reader = Reader::new(payload.get(6..).unwrap_or_default());
    let whole = reader.rest();
    let (exchange, routing_key) = (reader.shortstr()?, reader.shortstr()?);
    let address = &whole[..whole.len() - reader.rest().len()];
    let bits = reader.octet()?;
    if !reader.rest().is_empty() {
        return Err(Malformed("there is something behind the last field"));
    }
    Ok(Publish { exchange, routing_key, address, mandatory: bits & 1 != 0, immediate: bits & 2 != 0 })
}

impl AmqpSession {
    /// A `basic.publish` frame. If header and body follow in the same buffer, the message goes on without being copied;
    /// otherwise it is put together as its frames come. Returns how many bytes of the input were used.
    pub(super) fn publish_frame<'i>(
        &mut self,
        frame: Frame<'i>,
        input: &'i [u8],
        batch: &mut Batch<'i>,
    ) -> Result<usize, Exception> {
        let publish = read_publish(frame.payload).map_err(|malformed| {
            let bad = if malformed == NOT_UTF8 { BadMethod::NotUtf8 } else { BadMethod::Malformed(60, 40) };
            Exception::bad_method(bad, frame.payload)
        })?;
        let during =
            |exception: Exception| if exception.method == (0, 0) { exception.during((60, 40)) } else { exception };
        if publish.immediate {
            return Err(during(Exception::new(Code::NotImplemented, "immediate=true")));
        }
        if self.must_wait() {
            // The frame is looked at again: to be held back, or when the disk has caught up.
            return Ok(0);
        }
        if let Some(whole) = Whole::find(frame, input, self.frame_max)
            && whole.payload.len() as u64 <= self.broker.settings.message_bytes_max
            && self.channel(frame.channel).is_some_and(|channel| channel.transaction.is_none())
        {
            self.publish_whole(frame.channel, &publish, &whole, batch).map_err(during)?;
            return Ok(whole.len);
        }
        if let Some(channel) = self.channel(frame.channel) {
            let exchange = Name::from(publish.exchange);
            channel.content = Some(Content::new(exchange, publish.routing_key, publish.mandatory));
        }
        Ok(frame.len())
    }

    /// Whether publishers have to wait: for memory or disk, or because too much waits to be written.
    fn must_wait(&mut self) -> bool {
        if self.is_alarmed() {
            return true;
        }
        if self.broker.log().congested() {
            self.stalled = Some(super::Stalled::Congested);
            return true;
        }
        false
    }

    fn publish_whole<'i>(
        &mut self,
        number: u16,
        publish: &Publish<'i>,
        whole: &Whole<'i>,
        batch: &mut Batch<'i>,
    ) -> Result<(), Exception> {
        let properties = Properties::read(whole.properties).map_err(|malformed| bad_properties(malformed.0))?;
        let plain = !properties.has_headers()
            && properties.reply_to.is_none()
            && properties.user_id.is_none()
            && properties.expiration.is_none();
        let route = if plain { self.remembered_route(number, publish.address) } else { None };
        let vetted = match route {
            Some(route) => Vetted { route, properties: None, annotations: Vec::new() },
            None => {
                let vetted = self.vet(number, publish.exchange, publish.routing_key, &properties)?;
                self.remember_route(number, publish.address, &vetted.route);
                vetted
            }
        };
        let body = match vetted.properties {
            None => Body::Borrowed {
                routing_key: publish.routing_key,
                origin: ORIGIN,
                durable: properties.is_persistent(),
                priority: properties.priority,
                ttl_ms: properties.ttl_ms(),
                properties: whole.properties,
                payload: whole.payload,
            },
            Some(changed) => Body::Owned(Arc::new(broker::Message::copy_of(&broker::MessageView {
                exchange: &vetted.route.exchange,
                routing_key: publish.routing_key,
                origin: ORIGIN,
                durable: properties.is_persistent(),
                priority: properties.priority,
                arrived: self.broker.now(),
                due: properties.ttl_ms().map(|ttl| self.broker.now().plus(ttl)),
                properties: &changed,
                annotations: &vetted.annotations,
                payload: whole.payload,
                block: None,
            }))),
        };
        self.accept(number, vetted.route, body, publish.mandatory, batch);
        Ok(())
    }

    fn remembered_route(&mut self, number: u16, address: &[u8]) -> Option<Arc<Route>> {
        let version = self.caller.as_ref()?.vhost.version();
        let channel = self.channel(number)?;
        if let Some((last, route)) = &channel.last_route
            && **last == *address
            && route.version == version
        {
            return Some(Arc::clone(route));
        }
        let route = channel.routes.get(address).filter(|route| route.version == version)?;
        let route = Arc::clone(route);
        channel.last_route = Some((address.into(), Arc::clone(&route)));
        Some(route)
    }

    fn remember_route(&mut self, number: u16, address: &[u8], route: &Arc<Route>) {
        let Some(channel) = self.channel(number) else { return };
        if !route.reusable {
            return;
        }
        if channel.routes.len() >= limits::ROUTES_CACHED {
            channel.routes.clear();
        }
        channel.routes.insert(address.into(), Arc::clone(route));
        channel.last_route = Some((address.into(), Arc::clone(route)));
    }

    /// Checks a message and finds its route, in the order in which RabbitMQ does.
    pub(super) fn vet(
        &mut self,
        number: u16,
        exchange: &str,
        routing_key: &str,
        properties: &Properties<'_>,
    ) -> Result<Vetted, Exception> {
        let (Some(caller), broker) = (self.caller.clone(), Arc::clone(&self.broker)) else {
            return Err(Exception::new(Code::InternalError, "no vhost is open"));
        };
        let headers = properties.headers().map_err(|malformed| bad_properties(malformed.0))?;
        let carbon = |name| {
            Properties::further_keys(&headers, name).map_err(|kind| {
                let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
                Exception::new(Code::PreconditionFailed, text)
            })
        };
        let (cc, bcc) = (carbon("CC")?, carbon("BCC")?);
        let mut keys = vec![routing_key];
        keys.extend(cc.iter().chain(&bcc).map(String::as_str));
        let route = broker.route(&caller, exchange, &keys, properties)?;
        let mut changed = None;
        if properties.reply_to == Some(REPLY_TO) {
            changed = Some(properties.with_reply_to(self.reply_name(number)?));
        }
        check_expiration(properties.expiration)?;
        self.check_user_id(&broker, &caller, properties.user_id)?;
        let mut annotations = Vec::new();
        if headers.get("BCC").is_some() {
            // Nobody sees them, but if the message dies, its letter goes by them too.
            let blind = bcc.iter().map(|key| Value::from(key.as_str())).collect();
            put_table(&mut annotations, &Table(vec![(BLIND_KEYS.into(), Value::Array(blind))]));
            let mut without: Table = headers;
            without.remove("BCC");
            let base = changed.take().unwrap_or_else(|| properties.raw.to_vec());
            let base = Properties::read(&base).map_err(|malformed| bad_properties(malformed.0))?;
            changed = Some(base.with_headers(&without));
        }
        Ok(Vetted { route: Arc::new(route), properties: changed, annotations })
    }

    fn reply_name(&mut self, number: u16) -> Result<&str, Exception> {
        let replies = self.channel(number).and_then(|channel: &mut Channel| channel.replies.as_ref());
        let missing = || Exception::new(Code::PreconditionFailed, "fast reply consumer does not exist");
        replies.map(|(name, _)| name.as_str()).ok_or_else(missing)
    }

    fn check_user_id(&self, broker: &Broker, caller: &Caller, user_id: Option<&str>) -> Result<(), Exception> {
        let Some(claimed) = user_id else { return Ok(()) };
        if *claimed == *caller.user || broker.has_tag(caller, "impersonator") {
            return Ok(());
        }
        let text = format!("user_id property set to '{claimed}' but authenticated user was '{}'", caller.user);
        Err(Exception::new(Code::PreconditionFailed, text))
    }

    /// Takes a message that passed all checks: into the transaction, or into the batch.
    pub(super) fn accept<'i>(
        &mut self,
        number: u16,
        route: Arc<Route>,
        body: Body<'i>,
        mandatory: bool,
        batch: &mut Batch<'i>,
    ) {
        let Some(channel) = self.channel(number) else { return };
        channel.stats.traffic.add(Event::Publish, 1);
        if let Some(transaction) = &mut channel.transaction {
            if let Body::Owned(message) = body {
                channel.stats.uncommitted.fetch_add(1, Ordering::Relaxed);
                transaction.publish(route, message, mandatory);
            }
            return;
        }
        let token = channel.confirms.as_mut().map_or(0, |last| {
            *last += 1;
            channel.stats.to_confirm.add(1);
            u64::from(number) << 48 | *last
        });
        if route.queues.is_empty() {
            self.lead_nowhere(number, mandatory, &route, &body);
        }
        if token != 0 || route.leads_somewhere() {
            batch.publish(route, body, token);
        } else {
            route.count_lost();
        }
    }

    /// A message leads to no queue: it comes back, if its publisher wants that.
    pub(super) fn lead_nowhere(&mut self, number: u16, mandatory: bool, route: &Route, body: &Body<'_>) {
        let event = if mandatory { Event::Return } else { Event::Drop };
        if let Some(channel) = self.channel(number) {
            channel.stats.traffic.add(event, 1);
        }
        if mandatory {
            self.return_message(number, route, body);
        }
    }

    fn return_message(&self, number: u16, route: &Route, body: &Body<'_>) {
        self.outgoing.lock().put_return(number, &route.view(body, self.broker.now()));
    }
}

/// A message all of whose frames are in the read buffer: method, header, and one body frame or none.
struct Whole<'i> {
    properties: &'i [u8],
    payload: &'i [u8],
    /// Bytes of all its frames.
    len: usize,
}

impl<'i> Whole<'i> {
    /// Anything out of the ordinary is left to those who take frame by frame.
    fn find(method: Frame<'i>, input: &'i [u8], frame_max: usize) -> Option<Self> {
        let rest = input.get(method.len()..)?;
        let header = wire::frame(rest, frame_max).ok()??;
        if header.kind != frame_type::HEADER || header.channel != method.channel {
            return None;
        }
        let (size, properties) = read_header(header.payload).ok()?;
        let len = method.len() + header.len();
        if size == 0 {
            return Some(Self { properties, payload: &[], len });
        }
        let body = wire::frame(rest.get(header.len()..)?, frame_max).ok()??;
        let complete = body.kind == frame_type::BODY && body.channel == method.channel;
        (complete && body.payload.len() as u64 == size).then(|| Self {
            properties,
            payload: body.payload,
            len: len + body.len(),
        })
    }
}

/// A time to live must be a whole number of milliseconds, at most ten years of them.
fn check_expiration(expiration: Option<&str>) -> Result<(), Exception> {
    let Some(text) = expiration else { return Ok(()) };
    let problem = match text.parse::<i64>() {
        Ok(ms) if ms < 0 => format!("{{value_negative,{ms}}}"),
        Ok(ms) if ms > 315_360_000_000 => format!("{{value_too_large,{ms}}}"),
        Ok(_) => return Ok(()),
        Err(_) if text.is_empty() || !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            "no_integer".to_owned()
        }
        Err(_) => {
            let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
            format!("{{leftover_string,\"{digits}\"}}")
        }
    };
    Err(Exception::new(Code::PreconditionFailed, format!("invalid expiration '{text}': {problem}")))
}
