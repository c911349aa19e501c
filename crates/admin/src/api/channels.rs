//! Channels, and consumers.

use std::{borrow::Cow, cmp::Ordering, sync::Arc, sync::atomic::Ordering::Relaxed};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use broker::{Channel, Connection, Event, QueueInfo, queue::ConsumerReport};
use serde_json::{Map, Value, json};

use super::{At, connections, stats};
use crate::{
    Admin,
    history::Past,
    page::{self, Key, Row, Wish, Written},
    problem::{Answer, Problem},
    requester::Requester,
    sampler::Seen,
};

/// A channel to be written out.
struct ChannelRow<'s> {
    connection: Arc<Connection>,
    channel: Arc<Channel>,
    admin: &'s Admin,
    seen: &'s Seen,
    past: &'s Past,
}

fn name_of(connection: &Connection, number: u16) -> String {
    format!("{} ({number})", connection.name())
}

impl Row for ChannelRow<'_> {
    fn name(&self) -> Cow<'_, str> {
        name_of(&self.connection, self.channel.number).into()
    }

    fn order(&self, other: &Self) -> Ordering {
        let key = |row: &Self| (row.connection.session, row.channel.number);
        key(self).cmp(&key(other))
    }

    fn key(&self, column: &str) -> Option<Key> {
        Some(match column {
            "user" => Key::Text(self.connection.user.to_string()),
            "vhost" => Key::Text(self.connection.vhost.to_string()),
            "consumer_count" => Key::Number(self.channel.consumers.load(Relaxed).into()),
            "messages_unacknowledged" => Key::Number(self.connection.unsettled(self.channel.number) as f64),
            _ => return None,
        })
    }

    fn json(&self) -> Value {
        let Self { connection, channel, .. } = self;
        let counts = channel.traffic.counts();
        let unconfirmed = channel.to_confirm.get().saturating_sub(counts.get(Event::Confirm));
        let mut all = json!({
            "name": self.name(),
            "number": channel.number,
            "node": self.admin.node(),
            "user": connection.user.as_str(),
            "user_who_performed_action": connection.user.as_str(),
            "vhost": connection.vhost.as_str(),
            "state": if connection.is_blocked() { "flow" } else { "running" },
            "confirm": channel.confirms.load(Relaxed),
            "transactional": channel.is_transactional.load(Relaxed),
            "prefetch_count": channel.prefetch.load(Relaxed),
            "global_prefetch_count": channel.global_prefetch.load(Relaxed),
            "consumer_count": channel.consumers.load(Relaxed),
            "messages_unacknowledged": connection.unsettled(channel.number),
            "messages_unconfirmed": unconfirmed,
            "messages_uncommitted": channel.uncommitted.load(Relaxed),
            "acks_uncommitted": channel.uncommitted_acks.load(Relaxed),
            "pending_raft_commands": 0,
            "connection_details": {
                "name": connection.name(),
                "peer_host": connection.peer.address,
                "peer_port": connection.peer.port,
            },
        });
        let known = self.seen.channels.get(&(connection.session, channel.number));
        if let Some(messages) = stats::messages(&counts, &known, 0, false, self.past.messages()) {
            all["message_stats"] = messages;
        }
        all
    }
}

fn list(admin: &Admin, connections: Vec<Arc<Connection>>, past: &Past, wish: &Wish) -> Answer {
    let seen = &*admin.sampler.seen();
    let mut rows = Vec::new();
    for connection in connections {
        rows.extend(connection.channels().into_iter().map(|channel| {
            let connection = Arc::clone(&connection);
            ChannelRow { connection, channel, admin, seen, past }
        }));
    }
    page::list(wish, rows).map(Json)
}

/// `GET /api/channels`
pub async fn all(State(admin): At, who: Requester, Query(past): Query<Past>, Query(wish): Query<Wish>) -> Answer {
    list(&admin, connections::visible(&admin, &who), &past, &wish)
}

/// `GET /api/vhosts/VHOST/channels`
pub async fn of_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    who.vhost(&admin, &vhost)?;
    let mut connections = connections::visible(&admin, &who);
    connections.retain(|connection| *connection.vhost == *vhost);
    list(&admin, connections, &past, &wish)
}

/// `GET /api/connections/NAME/channels`
pub async fn of_connection(
    State(admin): At,
    who: Requester,
    Path(name): Path<String>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    list(&admin, vec![connections::find(&admin, &who, &name)?], &past, &wish)
}

/// `GET /api/channels/NAME`
pub async fn one(State(admin): At, who: Requester, Path(name): Path<String>, Query(past): Query<Past>) -> Answer {
    let (connection, number) = name.rsplit_once(" (").ok_or(Problem::Missing)?;
    let connection = connections::find(&admin, &who, connection)?;
    let number: u16 = number.strip_suffix(')').and_then(|number| number.parse().ok()).ok_or(Problem::Missing)?;
    let channel = connection.channels().into_iter().find(|channel| channel.number == number);
    let channel = channel.ok_or(Problem::Missing)?;
    let consumers = consumers_in(&admin, &who, Some(&connection.vhost))?;
    let is_own = |consumer: &Value| consumer["channel_details"]["name"] == *name;
    let consumers: Vec<Value> = consumers.into_iter().filter(is_own).collect();
    let seen = &*admin.sampler.seen();
    let mut json = ChannelRow { connection, channel, admin: &admin, seen, past: &past }.json();
    json["consumer_details"] = consumers.into();
    json["deliveries"] = json!([]);
    json["publishes"] = json!([]);
    Ok(Json(json))
}

/// A consumer, written out.
pub(super) fn consumer(admin: &Admin, queue: &QueueInfo, report: &ConsumerReport) -> Value {
    let (number, tag) = match report.outlet.consumer_name(report.key) {
        Some((number, tag)) => (number, tag.to_string()),
        None => (0, String::new()),
    };
    let connection = admin.broker.connection(report.session);
    let status = if !report.is_active { "waiting" } else { "up" };
    let mut arguments = Map::new();
    if report.priority != 0 {
        arguments.insert("x-priority".into(), report.priority.into());
    }
    let timeout = queue.rules().consumer_timeout_ms;
    let channel = connection.map(|connection| {
        json!({
            "name": name_of(&connection, number),
            "connection_name": connection.name(),
            "node": admin.node(),
            "number": number,
            "user": connection.user.as_str(),
            "peer_host": connection.peer.address,
            "peer_port": connection.peer.port,
        })
    });
    json!({
        "consumer_tag": tag,
        "queue": { "name": queue.name.as_str(), "vhost": queue.vhost.as_str() },
        "ack_required": report.acknowledges,
        "exclusive": report.exclusive,
        "active": report.is_active,
        "activity_status": status,
        "prefetch_count": report.prefetch,
        "messages_unacknowledged": report.held,
        "keeps_up": !report.is_pressed,
        "arguments": arguments,
        "consumer_timeout": timeout,
        "channel_details": channel.unwrap_or_else(|| json!({})),
    })
}

fn consumers_in(admin: &Admin, who: &Requester, vhost: Option<&str>) -> Answer<Vec<Value>> {
    let mut all = Vec::new();
    for vhost in who.vhosts(admin, vhost)? {
        let queues: Vec<_> = vhost.read().queues().filter(|queue| queue.is_ordinary()).cloned().collect();
        for queue in queues {
            // Most queues of a deep topology have nobody.
            if admin.broker.queue_numbers(&queue).is_none_or(|numbers| numbers.consumers == 0) {
                continue;
            }
            let report = admin.broker.report_queue(&queue);
            all.extend(report.iter().flat_map(|report| &report.consumers).map(|one| consumer(admin, &queue, one)));
        }
    }
    Ok(all)
}

/// `GET /api/consumers`
pub async fn consumers(State(admin): At, who: Requester, Query(wish): Query<Wish>) -> Answer {
    let rows = consumers_in(&admin, &who, None)?.into_iter().map(Written).collect();
    page::list(&wish, rows).map(Json)
}

/// `GET /api/consumers/VHOST`
pub async fn consumers_of_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(wish): Query<Wish>,
) -> Answer {
    let rows = consumers_in(&admin, &who, Some(&vhost))?.into_iter().map(Written).collect();
    page::list(&wish, rows).map(Json)
}
