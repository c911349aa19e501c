//! Single messages: publishing, looking at what waits, moving it elsewhere.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{
    Broker, Facts, Message, MessageView, QueueInfo, Settlement, Table, Value as Model,
    broker::{Caller, Fetched},
    publish::{Batch, Body as Content, Published},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{At, Body, Object, exchanges::named, need, queues};
use crate::{
    Admin, json,
    problem::{Answer, Problem},
    requester::Requester,
    wait,
};

/// Messages that one request may have.
const COUNT_MAX: usize = 10_000;

/// What a message says of itself, by names.
struct Properties(Table);

impl Facts for Properties {
    fn headers(&self) -> Table {
        match self.0.get("headers") {
            Some(Model::Table(headers)) => headers.clone(),
            _ => Table::default(),
        }
    }

    fn property(&self, name: &str) -> Option<Model> {
        self.0.get(name).cloned()
    }
}

/// Properties of the types that messages have: JSON has but one for numbers.
fn typed(properties: &Map<String, Value>) -> Result<Table, Problem> {
    let mut table = json::table(properties);
    for (name, value) in &mut table.0 {
        let number = value.as_integer();
        *value = match (name.as_str(), number) {
            ("delivery_mode" | "priority", Some(number)) => match u8::try_from(number) {
                Ok(octet) => Model::U8(octet),
                Err(_) => return Err(Problem::bad(format!("{name} is {number}; it can be 0 to 255"))),
            },
            ("timestamp", Some(number)) => Model::Timestamp(u64::try_from(number).unwrap_or(0)),
            // What is a number there to others is text to AMQP.
            ("expiration" | "correlation_id" | "message_id", Some(number)) => number.to_string().as_str().into(),
            _ => continue,
        };
    }
    Ok(table)
}

/// Publishes a message, and waits until it is safe. Returns whether it went anywhere.
async fn send(
    admin: &Admin,
    caller: &Caller,
    (exchange, routing_key): (&str, &str),
    properties: Table,
    payload: &[u8],
) -> Answer<bool> {
    let broker = &admin.broker;
    if payload.len() as u64 > broker.settings.message_bytes_max {
        let max = broker.settings.message_bytes_max;
        return Err(Problem::bad(format!("message size {} is larger than the maximum, {max}", payload.len())));
    }
    let (origin, encoded) = admin.host.properties(&properties);
    let properties = Properties(properties);
    let number = |name: &str| properties.0.get(name).and_then(Model::as_integer);
    let ttl = properties.0.get("expiration").and_then(Model::as_text).map(|text| {
        text.parse::<u64>().map_err(|_| Problem::bad(format!("invalid expiration '{text}'; it must be milliseconds")))
    });
    let (ttl, now) = (ttl.transpose()?, broker.now());
    let route = Arc::new(broker.route(caller, exchange, &[routing_key], &properties)?);
    let message = Message::copy_of(&MessageView {
        exchange: &route.exchange,
        routing_key,
        origin,
        durable: number("delivery_mode") == Some(2),
        priority: number("priority").and_then(|priority| u8::try_from(priority).ok()),
        arrived: now,
        due: ttl.map(|ttl| now.plus(ttl)),
        properties: &encoded,
        annotations: &[],
        payload,
        block: None,
    });
    let is_routed = !route.queues.is_empty() || route.delay_ms.is_some();
    let mut batch = Batch::default();
    batch.publish(route, Content::Owned(Arc::new(message)), 1);
    broker.apply(&mut batch);
    let published: Option<Published> = batch.published().next();
    drop(batch);
    let Some(Published { position, is_refused, .. }) = published else { return Ok(false) };
    wait::committed(broker, position).await;
    if is_refused { Err(Problem::bad("a queue that the message goes to is full")) } else { Ok(is_routed) }
}

/// `POST /api/exchanges/VHOST/NAME/publish`
pub async fn publish(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer {
    let caller = who.caller(&admin, &vhost)?;
    need(&object, &["properties", "routing_key", "payload", "payload_encoding"])?;
    let text = |key: &str| {
        let text = object.get(key).and_then(Value::as_str);
        text.ok_or_else(|| Problem::bad(format!("'{key}' must be text")))
    };
    let payload = match text("payload_encoding")? {
        "string" => text("payload")?.as_bytes().to_vec(),
        "base64" => STANDARD.decode(text("payload")?).map_err(|_| Problem::bad("the payload is not base64"))?,
        other => return Err(Problem::bad(format!("unsupported payload_encoding '{other}'"))),
    };
    let properties = match &object["properties"] {
        Value::Object(properties) => typed(properties)?,
        // What RabbitMQ itself gives out for none.
        Value::Array(none) if none.is_empty() => Table::default(),
        _ => return Err(Problem::bad("'properties' is no object")),
    };
    let is_routed = send(&admin, &caller, (named(&name), text("routing_key")?), properties, &payload).await?;
    Ok(Json(json!({ "routed": is_routed })))
}

/// Messages that were taken to be looked at. Whatever becomes of the request, they go back, unless it says otherwise.
struct Taken<'b> {
    broker: &'b Broker,
    messages: Vec<Fetched>,
    how: Settlement,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut batch = Batch::default();
        for Fetched { queue, slot, queued, .. } in &self.messages {
            batch.settle(queue, None, self.how, *slot, queued.record);
        }
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }
}

/// Which messages are wanted, and what becomes of them.
#[derive(Deserialize)]
struct Get {
    count: Number,
    ackmode: Option<String>,
    requeue: Option<bool>,
    encoding: String,
    truncate: Option<Number>,
}

/// A number, which some tools send as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(usize),
    Text(String),
}

impl Number {
    fn get(&self) -> Result<usize, Problem> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| Problem::bad(format!("'{text}' is no number"))),
        }
    }
}

/// `POST /api/queues/VHOST/NAME/get`
pub async fn get(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer {
    let caller = who.caller(&admin, &vhost)?;
    let mode = if object.contains_key("requeue") { "requeue" } else { "ackmode" };
    need(&object, &["count", mode, "encoding"])?;
    let wish = serde_json::from_value(object.into()).map_err(|error| Problem::bad(error.to_string()))?;
    let Get { count, ackmode, requeue, encoding, truncate } = wish;
    let (count, truncate) = (count.get()?, truncate.map(|bytes| bytes.get()).transpose()?);
    if queues::find(&caller.vhost, &name).is_none() {
        return Err(Problem::NotFound("queue_not_found".into()));
    }
    let how = match (ackmode.as_deref(), requeue) {
        (Some("ack_requeue_true"), _) | (None, Some(true)) => Settlement::Requeue,
        (Some("reject_requeue_true"), _) => Settlement::Fail,
        (Some("ack_requeue_false"), _) | (None, Some(false)) => Settlement::Accept,
        (Some("reject_requeue_false"), _) => Settlement::Reject,
        (other, _) => return Err(Problem::bad(format!("unknown ackmode '{}'", other.unwrap_or_default()))),
    };
    if !["auto", "base64"].contains(&encoding.as_str()) {
        return Err(Problem::bad(format!("encoding is '{encoding}'; it can be 'auto' or 'base64'")));
    }
    // If the client goes away in the middle of it, nothing has happened.
    let mut taken = Taken { broker: &admin.broker, messages: Vec::new(), how: Settlement::Requeue };
    while taken.messages.len() < count.min(COUNT_MAX) {
        let Some(fetched) = wait::fetch(&admin.broker, &caller, &name, false).await? else { break };
        taken.messages.push(fetched);
    }
    taken.how = how;
    let shown = taken.messages.iter().map(|fetched| show(&admin, fetched, &encoding, truncate));
    let shown: Vec<_> = shown.collect();
    drop(taken);
    Ok(Json(shown.into()))
}

/// A message in JSON.
fn show(admin: &Admin, fetched: &Fetched, encoding: &str, truncate: Option<usize>) -> Value {
    let view = fetched.queued.message.view();
    let codecs = admin.broker.codecs();
    let mut table = codecs.of(view.origin).map(|codec| codec.table(view.properties)).unwrap_or_default();
    let mut headers = match table.remove("headers") {
        Some(Model::Table(headers)) => headers,
        _ => Table::default(),
    };
    headers.0.extend(view.annotation_table().0);
    if !headers.is_empty() {
        table.push("headers", Model::Table(headers));
    }
    let kept = &view.payload[..truncate.map_or(view.payload.len(), |most| most.min(view.payload.len()))];
    let (payload, encoding) = match std::str::from_utf8(kept) {
        Ok(text) if encoding == "auto" => (text.to_owned(), "string"),
        _ => (STANDARD.encode(kept), "base64"),
    };
    json!({
        "payload": payload,
        "payload_bytes": view.payload.len(),
        "payload_encoding": encoding,
        "redelivered": fetched.queued.returns.any(),
        "exchange": view.exchange.as_str(),
        "routing_key": codecs.routing_key(&view),
        "message_count": fetched.left,
        "properties": json::of_table(&table),
    })
}

/// Which messages go where.
#[derive(Deserialize)]
pub struct Move {
    destination: String,
    count: Option<usize>,
}

/// `POST /api/queues/VHOST/NAME/move`: gives messages to another queue of the vhost. Each is in the one or the other,
/// whatever happens.
pub async fn shift(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(wish): Body<Move>,
) -> Answer {
    let caller = who.caller(&admin, &vhost)?;
    let target = queues::find(&caller.vhost, &wish.destination);
    let target: Arc<QueueInfo> =
        target.ok_or_else(|| Problem::NotFound(format!("no queue '{}' in vhost '{vhost}'", wish.destination)))?;
    let source = queues::find(&caller.vhost, &name).ok_or(Problem::Missing)?;
    if source.id == target.id {
        return Err(Problem::bad("messages cannot be moved to where they are"));
    }
    // Whoever may not publish to the queue may not move anything there.
    admin.broker.route(&caller, "", &[&wish.destination], &Table::default())?;
    let waiting = admin.broker.queue_numbers(&source).map_or(0, |numbers| numbers.ready);
    let most = wish.count.unwrap_or(usize::MAX).min(usize::try_from(waiting).unwrap_or(usize::MAX));
    let mut moved = 0;
    while moved < most {
        let Some(fetched) = wait::fetch(&admin.broker, &caller, &name, false).await? else { break };
        let Fetched { queue, slot, queued, .. } = fetched;
        let mut batch = Batch::transaction();
        let exchange = queued.message.view().exchange.clone();
        let route = Arc::new(broker::Route::to(exchange, Arc::clone(&target)));
        batch.publish(route, Content::Owned(Arc::clone(&queued.message)), 1);
        batch.settle(&queue, None, Settlement::Accept, slot, queued.record);
        admin.broker.apply(&mut batch);
        moved += 1;
    }
    who.note("move messages", &format!("{moved} from '{name}' to '{}' in vhost '{vhost}'", wish.destination));
    admin.safe().await;
    Ok(Json(json!({ "moved": moved })))
}

/// Publishes a message to a queue and gets one back: what shows that a broker is alive.
pub(super) async fn round_trip(admin: &Admin, who: &Requester, vhost: &str, queue: &str) -> Answer<()> {
    let caller = who.caller(admin, vhost)?;
    send(admin, &caller, ("", queue), Table::default(), b"test_message").await?;
    match wait::fetch(&admin.broker, &caller, queue, true).await? {
        Some(_) => Ok(()),
        None => Err(Problem::Unavailable(json!({ "status": "failed", "reason": "the message did not come back" }))),
    }
}
