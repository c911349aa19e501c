//! Queues and streams.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use broker::{
    Event, PolicyKind, QueueDeclaration, QueueInfo, QueueType, Refusal, Table, Value as Model, Vhost,
    queue::{QueueNumbers, QueueReport},
};
use serde_json::{Map, Value, json};

use super::{
    At, Body, Made, Object, channels,
    exchanges::{Rule, arguments, boolean},
    stats,
};
use crate::{
    Admin,
    history::Past,
    json,
    page::{self, Key, Row, Wish},
    problem::{Answer, Problem},
    requester::Requester,
    sampler::{FIRST_EVENT, Seen, event},
};

/// A queue to be written out.
struct QueueRow<'s> {
    info: Arc<QueueInfo>,
    vhost: Arc<Vhost>,
    admin: &'s Admin,
    seen: &'s Seen,
    past: &'s Past,
    wish: &'s Wish,
}

impl Row for QueueRow<'_> {
    fn name(&self) -> Cow<'_, str> {
        self.info.name.as_str().into()
    }

    fn order(&self, other: &Self) -> Ordering {
        (&self.info.vhost, &self.info.name).cmp(&(&other.info.vhost, &other.info.name))
    }

    fn key(&self, column: &str) -> Option<Key> {
        let numbers = || self.admin.broker.queue_numbers(&self.info).unwrap_or_default();
        let known = self.seen.queues.get(&self.info.id);
        let rate = |events: &[Event]| known.map_or(0.0, |known| events.iter().map(|one| known.rate(event(*one))).sum());
        let number = |number: u64| Some(Key::Number(number as f64));
        match column {
            "name" => Some(Key::Text(self.info.name.to_string())),
            "vhost" => Some(Key::Text(self.info.vhost.to_string())),
            "type" => Some(Key::Text(self.info.queue_type.name().into())),
            "messages" => number(numbers().ready + numbers().held),
            "messages_ready" => number(numbers().ready),
            "messages_unacknowledged" => number(numbers().held),
            "message_bytes" | "message_bytes_ready" => number(numbers().ready_bytes),
            "memory" => number(numbers().memory_bytes),
            "consumers" => number(numbers().consumers.into()),
            "message_stats.publish_details.rate" => Some(Key::Number(rate(&[Event::Publish]))),
            "message_stats.ack_details.rate" => Some(Key::Number(rate(&[Event::Acknowledge]))),
            "message_stats.deliver_get_details.rate" => {
                Some(Key::Number(rate(&[Event::Deliver, Event::DeliverNoAck, Event::Get, Event::GetNoAck])))
            }
            _ => None,
        }
    }

    fn json(&self) -> Value {
        match self.admin.broker.report_queue(&self.info) {
            Some(report) => self.describe(&report),
            // It has gone in this moment.
            None => self.fixed(),
        }
    }
}

impl QueueRow<'_> {
    /// What does not change.
    fn fixed(&self) -> Value {
        let info = &self.info;
        let mut all = json!({
            "name": info.name.as_str(),
            "vhost": info.vhost.as_str(),
            "durable": info.durable,
            "auto_delete": info.auto_delete,
            "exclusive": info.owner.is_some(),
            "type": info.queue_type.name(),
            "arguments": with_type(info),
            "node": self.admin.node(),
        });
        if matches!(info.queue_type, QueueType::Quorum | QueueType::Stream) {
            let node = self.admin.node();
            all["leader"] = node.into();
            (all["members"], all["online"]) = (json!([node]), json!([node]));
        }
        if let Some(connection) = info.owner.and_then(|owner| self.admin.broker.connection(owner)) {
            all["owner_pid_details"] = json!({
                "name": connection.name(),
                "peer_host": connection.peer.address,
                "peer_port": connection.peer.port,
            });
        }
        all
    }

    fn describe(&self, report: &QueueReport) -> Value {
        let mut all = self.fixed();
        let state = self.vhost.read();
        let of_kind = |kind| state.policies.for_queue(kind, &self.info.name, self.info.queue_type);
        let (user, operator) = (of_kind(PolicyKind::User), of_kind(PolicyKind::Operator));
        let name = |policy: Option<(&broker::Name, _)>| policy.map(|(name, _)| name.to_string());
        (all["policy"], all["operator_policy"]) = (name(user).into(), name(operator).into());
        let definition = |policy: Option<(_, &broker::Policy)>| policy.map(|(_, policy)| policy.definition.clone());
        all["effective_policy_definition"] = json::of_table(&effective(definition(user), definition(operator)));
        drop(state);
        let QueueNumbers { ready, held, ready_bytes, memory_bytes, consumers, counts } = report.numbers;
        all["state"] = if report.unreadable.is_some() { "down".into() } else { "running".into() };
        if let Some(problem) = &report.unreadable {
            all["problem"] = problem.as_str().into();
        }
        let without_stats = self.wish.without_stats();
        if without_stats && !self.wish.with_totals() {
            return all;
        }
        let known = self.seen.queues.get(&self.info.id);
        let mut more = Map::new();
        stats::lengths(&mut more, (ready, held), &known, self.past.lengths());
        if !without_stats {
            let (past, capacity) = (self.past.messages(), capacity(report));
            if let Some(messages) = stats::messages(&counts, &known, FIRST_EVENT, true, past) {
                more.insert("message_stats".into(), messages);
            }
            let active = report.consumers.iter().find(|consumer| consumer.is_active && report.rules.single_active);
            let exclusive = report.consumers.iter().find(|consumer| consumer.exclusive);
            let tag = |consumer: Option<&broker::queue::ConsumerReport>| {
                consumer.and_then(|one| one.outlet.consumer_name(one.key)).map(|(_, tag)| tag.to_string())
            };
            let numbers = json!({
                "consumers": consumers,
                "consumer_capacity": capacity,
                "consumer_utilisation": capacity,
                "memory": memory_bytes,
                "message_bytes": ready_bytes,
                "message_bytes_ready": ready_bytes,
                "message_bytes_unacknowledged": 0,
                "message_bytes_persistent": if self.info.durable { ready_bytes } else { 0 },
                "message_bytes_ram": memory_bytes.min(ready_bytes),
                "messages_persistent": if self.info.durable { ready + held } else { 0 },
                "messages_ram": ready + held,
                "messages_ready_ram": ready,
                "messages_unacknowledged_ram": held,
                "single_active_consumer_tag": tag(active),
                "exclusive_consumer_tag": tag(exclusive),
                "message_bytes_paged_out": 0,
                "messages_paged_out": 0,
                "head_message_timestamp": null,
                "idle_since_ms": report.used.0,
                "storage_version": 2,
            });
            more.extend(numbers.as_object().cloned().unwrap_or_default());
            self.add_type(report, &mut more);
        }
        if let Some(all) = all.as_object_mut() {
            all.extend(more);
        }
        all
    }

    /// What only queues of some types have.
    fn add_type(&self, report: &QueueReport, more: &mut Map<String, Value>) {
        let node = self.admin.node();
        if self.info.queue_type == QueueType::Quorum {
            let ready = report.numbers.ready;
            for (name, number) in [
                ("messages_dlx", 0),
                ("message_bytes_dlx", 0),
                ("messages_ready_high", 0),
                ("messages_ready_normal", ready),
                ("messages_ready_returned", 0),
                ("publishers", 0),
            ] {
                more.insert(name.into(), number.into());
            }
        }
        if let Some(limit) = report.rules.delivery_limit {
            more.insert("delivery_limit".into(), limit.into());
        }
        if let Some((first, next, segments)) = report.stream {
            more.insert("first_offset".into(), first.into());
            more.insert("next_offset".into(), next.into());
            more.insert("segments".into(), segments.into());
            more.insert("readers".into(), json!({ node: report.numbers.consumers }));
        }
    }
}

/// The arguments, with the type that the queue has without saying so.
fn with_type(info: &QueueInfo) -> Value {
    let mut arguments = json::of_table(&info.arguments);
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.entry("x-queue-type").or_insert_with(|| info.queue_type.name().into());
    }
    arguments
}

/// How far a queue's consumers could take more than they get: all of it if nothing waits.
fn capacity(report: &QueueReport) -> f64 {
    if report.consumers.is_empty() {
        return 0.0;
    }
    let could = report.consumers.iter().filter(|one| !one.is_pressed && (one.prefetch == 0 || one.held < one.prefetch));
    if report.numbers.ready == 0 { 1.0 } else { could.count() as f64 / report.consumers.len() as f64 }
}

/// What two policies come to: of numbers the smaller one, else what the operator says.
fn effective(user: Option<Table>, operator: Option<Table>) -> Table {
    let mut all = user.unwrap_or_default();
    for (key, value) in operator.unwrap_or_default().0 {
        let own = all.remove(&key);
        let smaller = match (own.as_ref().and_then(Model::as_integer), value.as_integer()) {
            (Some(own), Some(bound)) => Model::I64(own.min(bound)),
            _ => value,
        };
        all.0.push((key, smaller));
    }
    all
}

fn list(admin: &Admin, who: &Requester, vhost: Option<&str>, past: &Past, wish: &Wish) -> Answer {
    let seen = &*admin.sampler.seen();
    let mut rows = Vec::new();
    for vhost in who.vhosts(admin, vhost)? {
        let state = vhost.read();
        let queues = state.queues().filter(|queue| queue.is_ordinary()).cloned();
        rows.extend(queues.map(|info| QueueRow { info, vhost: Arc::clone(&vhost), admin, seen, past, wish }));
    }
    page::list(wish, rows).map(Json)
}

/// `GET /api/queues`
pub async fn all(State(admin): At, who: Requester, Query(past): Query<Past>, Query(wish): Query<Wish>) -> Answer {
    list(&admin, &who, None, &past, &wish)
}

/// `GET /api/queues/VHOST`
pub async fn of_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    list(&admin, &who, Some(&vhost), &past, &wish)
}

/// A queue that clients know.
pub(super) fn find(vhost: &Vhost, name: &str) -> Option<Arc<QueueInfo>> {
    vhost.read().queue(name).filter(|queue| queue.is_ordinary()).cloned()
}

/// `GET /api/queues/VHOST/NAME`
pub async fn one(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    let vhost = who.vhost(&admin, &vhost)?;
    let info = find(&vhost, &name).ok_or(Problem::Missing)?;
    let report = admin.broker.report_queue(&info).ok_or(Problem::Missing)?;
    let consumers = report.consumers.iter().map(|one| channels::consumer(&admin, &info, one)).collect();
    let seen = &*admin.sampler.seen();
    let row = QueueRow { info, vhost, admin: &admin, seen, past: &past, wish: &wish };
    let mut json = row.describe(&report);
    json["consumer_details"] = consumers;
    for key in ["incoming", "deliveries"] {
        json[key] = json!([]);
    }
    Ok(Json(json))
}

/// `PUT /api/queues/VHOST/NAME`
pub async fn declare(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    let caller = who.caller(&admin, &vhost)?;
    let flag = |key: &str, otherwise| object.get(key).map_or(Ok(otherwise), |value| boolean(key, value));
    let declaration = QueueDeclaration {
        durable: flag("durable", true)?,
        exclusive: false,
        auto_delete: flag("auto_delete", false)?,
        arguments: arguments(&object)?,
    };
    let is_new = find(&caller.vhost, &name).is_none();
    admin.broker.check_queue_name(&caller, &name)?;
    admin.broker.declare_queue(&caller, &name, declaration)?;
    who.note("declare queue", &format!("'{name}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/queues/VHOST/NAME`
pub async fn remove(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(rule): Query<Rule>,
) -> Answer<StatusCode> {
    let caller = who.caller(&admin, &vhost)?;
    match admin.broker.delete_queue(&caller, &name, rule.rule()) {
        Ok(_) => {}
        Err(Refusal::NotFound(_)) => return Err(Problem::Missing),
        Err(refusal) => return Err(refusal.into()),
    }
    who.note("delete queue", &format!("'{name}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/queues/VHOST/NAME/contents`
pub async fn purge(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let caller = who.caller(&admin, &vhost)?;
    match admin.broker.purge(&caller, &name) {
        Ok((count, _)) => who.note("purge queue", &format!("'{name}' in vhost '{vhost}': {count} messages")),
        Err(Refusal::NotFound(_)) => return Err(Problem::Missing),
        Err(refusal) => return Err(refusal.into()),
    }
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/queues/VHOST/NAME/actions`: of mirrored queues, which there are none of.
pub async fn act(
    State(admin): At,
    who: Requester,
    Path((vhost, _)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<StatusCode> {
    who.vhost(&admin, &vhost)?;
    Err(Problem::bad(format!("unknown action {}", object.get("action").unwrap_or(&Value::Null))))
}
