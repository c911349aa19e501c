//! Connections.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use broker::Connection;
use serde_json::{Map, Value, json};

use super::{At, stats};
use crate::{
    Admin,
    history::Past,
    json,
    page::{self, Key, Row, Wish},
    problem::{Answer, Problem},
    requester::Requester,
    sampler::{BYTES_IN, BYTES_OUT, FIRST_EVENT, Seen},
};

/// Why a connection ends that somebody closes without saying why; RabbitMQ's clients know the words.
const CLOSED: &str = "Closed via management plugin";

/// Says of a closing why it happens.
const REASON: &str = "X-Reason";

/// A connection to be written out.
struct ConnectionRow<'s> {
    connection: Arc<Connection>,
    admin: &'s Admin,
    seen: &'s Seen,
    past: &'s Past,
}

impl Row for ConnectionRow<'_> {
    fn name(&self) -> Cow<'_, str> {
        self.connection.name().into()
    }

    fn order(&self, other: &Self) -> Ordering {
        self.connection.session.cmp(&other.connection.session)
    }

    fn key(&self, column: &str) -> Option<Key> {
        let known = self.seen.connections.get(&self.connection.session);
        let rate = |column| known.map_or(0.0, |known| known.rate(column));
        Some(match column {
            "user" => Key::Text(self.connection.user.to_string()),
            "vhost" => Key::Text(self.connection.vhost.to_string()),
            "protocol" => Key::Text(self.connection.terms.protocol.into()),
            "channels" => Key::Number(self.connection.channel_count() as f64),
            "connected_at" => Key::Number(self.connection.began.0 as f64),
            "recv_oct" => Key::Number(self.connection.bytes_in.get() as f64),
            "send_oct" => Key::Number(self.connection.bytes_out.get() as f64),
            "recv_oct_details.rate" => Key::Number(rate(BYTES_IN)),
            "send_oct_details.rate" => Key::Number(rate(BYTES_OUT)),
            _ => return None,
        })
    }

    fn json(&self) -> Value {
        let Connection { peer, terms, .. } = &*self.connection;
        let connection = &self.connection;
        let known = self.seen.connections.get(&connection.session);
        let mut client_properties = json::of_table(&terms.client_properties);
        if let Some(client_id) = &terms.client_id {
            client_properties["client_id"] = client_id.as_str().into();
        }
        let blocked = connection.is_blocked();
        let mut all = json!({
            "name": connection.name(),
            "node": self.admin.node(),
            "type": "network",
            "protocol": terms.protocol,
            "user": connection.user.as_str(),
            "user_who_performed_action": connection.user.as_str(),
            "vhost": connection.vhost.as_str(),
            "state": if blocked { "blocked" } else { "running" },
            "host": peer.local.ip(),
            "port": peer.local.port(),
            "peer_host": peer.address,
            "peer_port": peer.port,
            "ssl": peer.encrypted,
            "ssl_protocol": null,
            "ssl_cipher": null,
            "ssl_hash": null,
            "ssl_key_exchange": null,
            "peer_cert_subject": peer.certificate_name.as_ref().map(|name| format!("CN={name}")),
            "peer_cert_issuer": null,
            "peer_cert_validity": null,
            "auth_mechanism": terms.mechanism,
            "client_properties": client_properties,
            "channel_max": terms.channel_max,
            "frame_max": terms.frame_max,
            "timeout": terms.heartbeat_s,
            "channels": connection.channel_count(),
            "connected_at": connection.began.0,
            "send_pend": 0,
        });
        if let Some(name) = terms.client_properties.get("connection_name").and_then(broker::Value::as_text) {
            all["user_provided_name"] = name.into();
        }
        if let Some(client_id) = &terms.client_id {
            all["client_id"] = client_id.as_str().into();
        }
        let mut more = Map::new();
        let details = |column| stats::Known::of(&known, &[column], self.past.data());
        stats::put(&mut more, "recv_oct", connection.bytes_in.get(), details(BYTES_IN));
        stats::put(&mut more, "send_oct", connection.bytes_out.get(), details(BYTES_OUT));
        let counts = connection.counts();
        more.insert("recv_cnt".into(), counts.get(broker::Event::Publish).into());
        more.insert("send_cnt".into(), counts.delivered().into());
        let messages = stats::messages(&counts, &known, FIRST_EVENT, false, self.past.messages());
        if let Some(messages) = messages {
            more.insert("message_stats".into(), messages);
        }
        if let Some(all) = all.as_object_mut() {
            all.extend(more);
        }
        all
    }
}

/// The connections that somebody may see: all, or his own.
pub(super) fn visible(admin: &Admin, who: &Requester) -> Vec<Arc<Connection>> {
    let mut connections = admin.broker.connections();
    connections.retain(|connection| who.is_monitor() || connection.user == who.user);
    connections
}

/// The connection with a name.
///
/// # Errors
/// If there is none that somebody may see.
pub(super) fn find(admin: &Admin, who: &Requester, name: &str) -> Result<Arc<Connection>, Problem> {
    let found = admin.broker.connections().into_iter().find(|connection| connection.name() == name);
    let found = found.ok_or(Problem::Missing)?;
    if who.is_monitor() || found.user == who.user {
        Ok(found)
    } else {
        Err(Problem::Forbidden("User not authorised to access connection"))
    }
}

fn list(admin: &Admin, connections: Vec<Arc<Connection>>, past: &Past, wish: &Wish) -> Answer {
    let seen = &*admin.sampler.seen();
    let rows = connections.into_iter().map(|connection| ConnectionRow { connection, admin, seen, past }).collect();
    page::list(wish, rows).map(Json)
}

/// `GET /api/connections`
pub async fn all(State(admin): At, who: Requester, Query(past): Query<Past>, Query(wish): Query<Wish>) -> Answer {
    list(&admin, visible(&admin, &who), &past, &wish)
}

/// `GET /api/vhosts/VHOST/connections`
pub async fn of_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    who.vhost(&admin, &vhost)?;
    let mut connections = visible(&admin, &who);
    connections.retain(|connection| *connection.vhost == *vhost);
    list(&admin, connections, &past, &wish)
}

/// `GET /api/connections/NAME`
pub async fn one(State(admin): At, who: Requester, Path(name): Path<String>, Query(past): Query<Past>) -> Answer {
    let connection = find(&admin, &who, &name)?;
    let seen = &*admin.sampler.seen();
    Ok(Json(ConnectionRow { connection, admin: &admin, seen, past: &past }.json()))
}

/// `GET /api/connections/NAME/sessions`: of AMQP 1.0, which has sessions instead of channels.
pub async fn sessions(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer {
    find(&admin, &who, &name)?;
    Ok(Json(json!([])))
}

fn end(who: &Requester, headers: &HeaderMap, connection: &Connection) {
    let reason = headers.get(REASON).and_then(|reason| reason.to_str().ok()).unwrap_or(CLOSED);
    connection.close(reason);
    who.note("close connection", &format!("{}: {reason}", connection.name()));
}

/// `DELETE /api/connections/NAME`
pub async fn close(
    State(admin): At,
    who: Requester,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    let connection = find(&admin, &who, &name)?;
    if !who.is_administrator() && connection.user != who.user {
        return Err(Problem::Forbidden("Not administrator user"));
    }
    end(&who, &headers, &connection);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/connections/username/USER`
pub async fn of_user(State(admin): At, who: Requester, Path(user): Path<String>) -> Answer {
    let connections = visible(&admin, &who).into_iter().filter(|connection| *connection.user == *user);
    let brief = connections.map(|connection| {
        json!({
            "name": connection.name(),
            "node": admin.node(),
            "user": connection.user.as_str(),
            "vhost": connection.vhost.as_str(),
        })
    });
    Ok(Json(brief.collect()))
}

/// `DELETE /api/connections/username/USER`
pub async fn close_of_user(
    State(admin): At,
    who: Requester,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Answer<StatusCode> {
    if *who.user != *user {
        who.administrator()?;
    }
    for connection in admin.broker.connections().iter().filter(|connection| *connection.user == *user) {
        end(&who, &headers, connection);
    }
    Ok(StatusCode::NO_CONTENT)
}
