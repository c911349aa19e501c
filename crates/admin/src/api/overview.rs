//! What there is and how it is doing, in few numbers.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use broker::{Counts, Event, broker::connections::Change};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{At, Body, stats};
use crate::{
    Admin,
    history::Past,
    problem::{Answer, Problem},
    protocols,
    requester::Requester,
    sampler::{self, FIRST_CHANGE},
};

/// The kinds of exchanges, with what RabbitMQ says of them in other words.
pub(super) const EXCHANGE_KINDS: [(&str, &str); 11] = [
    ("direct", "The binding key equals the routing key"),
    ("fanout", "Every binding"),
    ("topic", "The binding key is a pattern over the words of the routing key"),
    ("headers", "The arguments of the binding are compared with the headers"),
    ("x-consistent-hash", "One binding by a hash, by weight"),
    ("x-modulus-hash", "One binding by a hash, modulo their number"),
    ("x-random", "One binding by chance"),
    ("x-local-random", "One binding by chance, without keys"),
    ("x-recent-history", "Every binding; a new one gets the last messages"),
    ("x-jms-topic", "Every binding whose selector is true"),
    ("x-delayed-message", "Holds messages back for a time"),
];

/// Retained messages of one answer, within a page.
const RETAINED_SHOWN: usize = 200;

/// Bytes of a retained message that are shown.
const PAYLOAD_SHOWN: usize = 500;

/// The names of what begins and ends.
pub(super) const CHANGES: [(Change, &str); 7] = [
    (Change::ConnectionCreated, "connection_created"),
    (Change::ConnectionClosed, "connection_closed"),
    (Change::ChannelCreated, "channel_created"),
    (Change::ChannelClosed, "channel_closed"),
    (Change::QueueDeclared, "queue_declared"),
    (Change::QueueCreated, "queue_created"),
    (Change::QueueDeleted, "queue_deleted"),
];

pub(super) fn exchange_kinds() -> Value {
    EXCHANGE_KINDS
        .map(|(name, description)| json!({ "name": name, "description": description, "enabled": true }))
        .into()
}

pub(super) fn changes(admin: &Admin, past: &Past) -> Map<String, Value> {
    let seen = admin.sampler.seen();
    let mut changes = Map::new();
    for (change, name) in CHANGES {
        let details = seen.overview.details(&[FIRST_CHANGE + change as usize], past.messages());
        stats::put(&mut changes, name, admin.broker.churn.get(change), details);
    }
    changes
}

/// `GET /api/overview`
pub async fn overview(State(admin): At, who: Requester, Query(past): Query<Past>) -> Answer {
    let node = admin.node();
    let mut all = json!({
        "management_version": admin.version,
        "rates_mode": "basic",
        "sample_retention_policies": {
            "global": [600, 3600, 28_800, 86_400], "basic": [600], "detailed": [600],
        },
        "exchange_types": exchange_kinds(),
        "product_name": "Roadstead",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rabbitmq_version": admin.version,
        "cluster_name": cluster_name_of(&admin),
        "cluster_tags": {},
        "node_tags": {},
        "default_queue_type": "classic",
        "erlang_version": "none",
        "erlang_full_version": "Roadstead is not written in Erlang",
        "release_series_support_status": "supported",
        "disable_stats": false,
        "enable_queue_totals": false,
        "is_op_policy_updating_enabled": true,
        "statistics_db_event_queue": 0,
    });
    all["churn_rates"] = changes(&admin, &past).into();
    if who.is_monitor() {
        let (queue_totals, message_stats) = totals(&admin, &past);
        all["queue_totals"] = queue_totals;
        all["message_stats"] = message_stats;
        all["object_totals"] = objects(&admin, None);
        all["node"] = node.into();
        all["listeners"] = listeners(&admin);
        all["contexts"] = contexts(&admin);
    } else {
        all["queue_totals"] = json!({});
        all["message_stats"] = json!({});
        all["object_totals"] = objects(&admin, Some(&who));
    }
    Ok(Json(all))
}

/// Messages in all queues, and what went through all connections.
fn totals(admin: &Admin, past: &Past) -> (Value, Value) {
    let seen = admin.sampler.seen();
    let mut queues = Map::new();
    stats::lengths(&mut queues, (seen.totals.ready, seen.totals.held), &seen.overview, past.lengths());
    let mut counts = Counts::default();
    admin.broker.traffic().values().for_each(|(more, ..)| counts.add_all(more));
    let messages = stats::messages(&counts, &seen.overview, sampler::FIRST_EVENT, false, past.messages());
    (queues.into(), messages.unwrap_or_else(|| json!({})))
}

/// How many there are of what.
fn objects(admin: &Admin, only_of: Option<&Requester>) -> Value {
    let sees = |vhost: &str| only_of.is_none_or(|who| who.sees(admin, vhost));
    let connections = admin.broker.connections();
    let own = |user: &str| only_of.is_none_or(|who| *who.user == *user);
    let connections: Vec<_> = connections.iter().filter(|one| own(&one.user)).collect();
    let channels: usize = connections.iter().map(|connection| connection.channel_count()).sum();
    let (mut queues, mut exchanges) = (0, 0);
    for vhost in admin.broker.vhosts().iter().filter(|vhost| sees(vhost.name())) {
        let state = vhost.read();
        queues += state.queues().filter(|queue| queue.is_ordinary()).count();
        exchanges += state.exchanges().count() + 1;
    }
    let mut objects = json!({
        "connections": connections.len(), "channels": channels, "exchanges": exchanges, "queues": queues,
    });
    if only_of.is_none() {
        objects["consumers"] = admin.sampler.seen().totals.consumers.into();
    }
    objects
}

pub(super) fn listeners(admin: &Admin) -> Value {
    let listeners = admin.host.listeners().into_iter().map(|listener| {
        json!({
            "node": admin.node(),
            "protocol": listener.protocol,
            "ip_address": listener.address,
            "port": listener.port,
            "tls": listener.tls,
            "socket_opts": {},
        })
    });
    listeners.collect()
}

pub(super) fn contexts(admin: &Admin) -> Value {
    let is_http = |protocol: &str| protocol == "http" || protocol == "https" || protocol == "http/prometheus";
    let contexts = admin.host.listeners().into_iter().filter(|listener| is_http(&listener.protocol)).map(|listener| {
        json!({
            "node": admin.node(),
            "description": "Roadstead Management",
            "protocol": listener.protocol,
            "path": "/",
            "ip": listener.address,
            "port": listener.port.to_string(),
        })
    });
    contexts.collect()
}

/// The name of the cluster: what somebody gave it, or that of the node.
pub(crate) fn cluster_name_of(admin: &Admin) -> String {
    let parameters = admin.broker.parameters();
    let given = parameters.iter().find(|(vhost, _, name, _)| vhost.is_empty() && &**name == "cluster_name");
    let given = given.and_then(|(.., value)| value.as_text()).map(str::to_owned);
    given.unwrap_or_else(|| admin.node().to_owned())
}

/// `GET /api/cluster-name`
pub async fn cluster_name(State(admin): At, _: Requester) -> Json<Value> {
    Json(json!({ "name": cluster_name_of(&admin) }))
}

/// A name to be given.
#[derive(Deserialize)]
pub struct Named {
    name: String,
}

/// `PUT /api/cluster-name`
pub async fn set_cluster_name(State(admin): At, who: Requester, Body(named): Body<Named>) -> Answer<StatusCode> {
    who.administrator()?;
    let none = "".into();
    admin.broker.put_parameter(&none, &none, &"cluster_name".into(), named.name.as_str().into());
    who.note("set cluster name", &named.name);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/whoami`
pub async fn whoami(State(admin): At, who: Requester) -> Json<Value> {
    let tags: Vec<&str> = who.tags.iter().map(|tag| tag.as_str()).collect();
    let is_internal = admin.broker.identity.user(&who.user).is_some();
    Json(json!({ "name": who.user.as_str(), "tags": tags, "is_internal_user": is_internal }))
}

/// `GET /api/version`
pub async fn version(State(admin): At, _: Requester) -> String {
    admin.version.clone()
}

/// `GET /api/auth`
pub async fn auth() -> Json<Value> {
    Json(json!({ "oauth_enabled": false }))
}

/// `GET /api/extensions`
pub async fn extensions(_: Requester) -> Json<Value> {
    Json(json!([]))
}

/// `GET /api/feature-flags`: what RabbitMQ has of them, Roadstead has without them.
pub async fn feature_flags(_: Requester) -> Json<Value> {
    let required = ["quorum_queue", "stream_queue", "stream_filtering", "message_containers", "rabbitmq_4.0.0"];
    let stable = ["detailed_queues_endpoint", "khepri_db", "rabbitmq_4.1.0", "rabbitmq_4.2.0"];
    let flag = |name: &str, stability: &str| {
        json!({
            "name": name, "desc": "", "doc_url": "", "state": "enabled", "stability": stability, "provided_by": "roadstead",
        })
    };
    let flags =
        required.iter().map(|name| flag(name, "required")).chain(stable.iter().map(|name| flag(name, "stable")));
    let flags: Vec<_> = flags.collect();
    Json(flags.into())
}

/// `PUT /api/feature-flags/NAME/enable`
pub async fn enable_feature_flag(who: Requester, Path(_): Path<String>) -> Answer<StatusCode> {
    who.administrator().map(|()| StatusCode::NO_CONTENT)
}

/// `GET /api/deprecated-features`: what RabbitMQ would rather be rid of. Here it stays.
pub async fn deprecated_features(_: Requester) -> Json<Value> {
    let names = ["global_qos", "queue_master_locator", "transient_nonexcl_queues", "amqp_address_v1"];
    Json(names.map(deprecated_feature).into())
}

fn deprecated_feature(name: &str) -> Value {
    json!({
        "name": name,
        "desc": "Supported, and not going away",
        "deprecation_phase": "permitted_by_default",
        "doc_url": "",
        "provided_by": "roadstead",
    })
}

/// `GET /api/deprecated-features/used`: of those, the ones that somebody uses.
pub async fn deprecated_features_used(State(admin): At, _: Requester) -> Json<Value> {
    let is_used = |queue: &broker::QueueInfo| !queue.durable && queue.owner.is_none() && queue.is_ordinary();
    let vhosts = admin.broker.vhosts();
    let is_used = vhosts.iter().any(|vhost| vhost.read().queues().any(|queue| is_used(queue)));
    let used = is_used.then(|| deprecated_feature("transient_nonexcl_queues"));
    Json(used.into_iter().collect())
}

/// What there is none of in a vhost, of a kind.
pub async fn nothing_of_vhost(State(admin): At, who: Requester, Path((_, vhost)): Path<(String, String)>) -> Answer {
    who.vhost(&admin, &vhost)?;
    Ok(Json(json!([])))
}

/// What there is none of.
pub async fn nothing(_: Requester) -> Json<Value> {
    Json(json!([]))
}

/// What there is none of in a vhost.
pub async fn nothing_in_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    who.vhost(&admin, &vhost)?;
    Ok(Json(json!([])))
}

/// `POST /api/rebalance/queues`: one node has nothing to balance.
pub async fn rebalance(who: Requester) -> Answer<StatusCode> {
    who.administrator().map(|()| StatusCode::NO_CONTENT)
}

/// `GET /api/mqtt/sessions`: sessions that outlive their connections.
pub async fn sessions(State(admin): At, who: Requester) -> Answer {
    let sessions = admin.host.sessions().into_iter();
    let sees = |session: &Value| session["vhost"].as_str().is_some_and(|vhost| who.sees(&admin, vhost));
    Ok(Json(sessions.filter(sees).collect()))
}

/// `GET /api/transactions`: prepared transactions that wait for their transaction managers.
pub async fn transactions(State(admin): At, who: Requester) -> Answer {
    let prepared = admin.host.prepared_transactions().into_iter();
    let sees = |one: &Value| one["vhost"].as_str().is_some_and(|vhost| who.sees(&admin, vhost));
    Ok(Json(prepared.filter(sees).collect()))
}

/// `PUT /api/transactions/VHOST/NAME/commit` or `…/rollback`: for one whose transaction manager does not come back.
pub async fn end_transaction(
    State(admin): At,
    who: Requester,
    Path((vhost, name, decision)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    let is_committed = match decision.as_str() {
        "commit" => true,
        "rollback" => false,
        _ => return Err(Problem::Missing),
    };
    let ended = admin.host.end_transaction(&vhost, &name, is_committed);
    match ended.map_err(|problem| Problem::bad(problem.to_string()))? {
        true => {
            who.note(&format!("{decision} transaction"), &name);
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Problem::Missing),
    }
}

/// `GET /api/protocols`: what goes through, by protocol.
pub async fn protocols(State(admin): At, who: Requester) -> Answer {
    who.monitor()?;
    let sums = protocols::sums(&admin).into_iter();
    let shown = sums.map(|(protocol, sum)| {
        json!({
            "name": protocol,
            "connections": sum.connections,
            "received": sum.counts.get(Event::Publish),
            "unroutable": sum.counts.get(Event::Drop) + sum.counts.get(Event::Return),
            "delivered": sum.counts.delivered(),
            "acknowledged": sum.counts.get(Event::Acknowledge),
            "redelivered": sum.counts.get(Event::Redeliver),
            "recv_oct": sum.bytes_in,
            "send_oct": sum.bytes_out,
        })
    });
    Ok(Json(shown.collect()))
}

/// Which retained messages.
#[derive(Deserialize)]
pub struct Prefix {
    prefix: Option<String>,
}

/// `GET /api/mqtt/retained/VHOST`: the last messages of topics that begin in some way, not all of them.
pub async fn retained(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(Prefix { prefix }): Query<Prefix>,
) -> Answer {
    let vhost = who.vhost(&admin, &vhost)?;
    let (broker, prefix) = (&admin.broker, prefix.unwrap_or_default());
    let (mut messages, mut behind, mut more) = (Vec::new(), None::<Box<str>>, false);
    let begins = |topic: &str| topic.starts_with(&prefix);
    loop {
        // What an earlier run left is still being read; whoever looks again sees it.
        let Some(page) = broker.retained(vhost.name(), ("", false), behind.as_deref(), &begins) else { break };
        for message in &page.messages {
            let view = message.view();
            let payload = String::from_utf8_lossy(&view.payload[..view.payload.len().min(PAYLOAD_SHOWN)]);
            messages.push(json!({
                "topic": view.routing_key, "payload_bytes": view.payload.len(), "payload": payload,
            }));
        }
        behind = page.next;
        more = behind.is_some();
        if !more || messages.len() >= RETAINED_SHOWN {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(Json(json!({ "total": broker.retained_count(vhost.name()), "messages": messages, "more": more })))
}

/// Where to go on in the log.
#[derive(Deserialize)]
pub struct From {
    from: Option<u64>,
}

/// `GET /api/log`: the last lines, or those from a number on.
pub async fn log(State(admin): State<Arc<Admin>>, who: Requester, Query(From { from }): Query<From>) -> Answer {
    who.administrator()?;
    let (lines, next) = admin.host.log_lines(from.unwrap_or(0));
    Ok(Json(json!({ "lines": lines, "next": next })))
}
