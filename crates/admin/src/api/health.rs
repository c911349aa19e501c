//! Whether the broker is well: for load balancers, orchestrators and people's scripts.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use broker::{QueueDeclaration, Table};
use serde_json::{Value, json};

use super::{At, messages};
use crate::{
    Admin,
    problem::{Answer, Problem},
    requester::Requester,
};

/// The queue of the aliveness test, by RabbitMQ's name.
const ALIVENESS: &str = "aliveness-test";

/// Everything below `/api/health/checks`.
pub fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/alarms", get(alarms))
        .route("/local-alarms", get(alarms))
        .route("/certificate-expiration/{within}/{unit}", get(certificates))
        .route("/port-listener/{port}", get(port))
        .route("/protocol-listener/{protocol}", get(protocol))
        .route("/virtual-hosts", get(well))
        .route("/node-is-quorum-critical", get(quorum))
        .route("/node-is-mirror-sync-critical", get(quorum))
        .route("/quorum-queues-without-elected-leaders/all-vhosts", get(well))
        .route("/quorum-queues-without-elected-leaders/vhost/{vhost}", get(well))
        .route("/metadata-store/initialized", get(well))
        .route("/metadata-store/initialized/with-data", get(well))
        .route("/is-in-service", get(well))
        .route("/below-node-connection-limit", get(well))
        .route("/ready-to-serve-clients", get(well))
}

fn ok() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

fn failed(mut why: Value) -> Problem {
    why["status"] = "failed".into();
    Problem::Unavailable(why)
}

/// What is so as long as there is an answer at all.
async fn well(_: Requester) -> Json<Value> {
    ok()
}

/// `GET /health/live`: whether the process works. Nobody has to log in for that.
pub async fn live() -> &'static str {
    "ok"
}

/// `GET /health/ready`: whether clients are welcome, and whether their publishers have to wait. They are welcome even then: who
/// sends consumers elsewhere keeps the queues full.
pub async fn ready(State(admin): At) -> &'static str {
    let alarms = admin.broker.alarms();
    if alarms.any() { alarms.reason() } else { "ok" }
}

/// `GET /api/health/checks/alarms`
pub async fn alarms(State(admin): At, _: Requester) -> Answer {
    let alarms = admin.broker.alarms();
    if !alarms.any() {
        return Ok(ok());
    }
    let raised = [("memory", alarms.memory), ("disk", alarms.disk)].into_iter().filter(|(_, is_raised)| *is_raised);
    let raised: Vec<_> = raised.map(|(resource, _)| json!({ "node": admin.node(), "resource": resource })).collect();
    Err(failed(json!({ "reason": "There are alarms in effect in the cluster", "alarms": raised })))
}

/// `GET /api/healthchecks/node/NAME`
pub async fn alarms_of_node(at: At, who: Requester, Path(name): Path<String>) -> Answer {
    if name == at.0.node() { alarms(at, who).await } else { Err(Problem::Missing) }
}

/// `GET /api/health/checks/certificate-expiration/WITHIN/UNIT`
async fn certificates(State(admin): At, _: Requester, Path((within, unit)): Path<(u64, String)>) -> Answer {
    let days = match unit.as_str() {
        "day" | "days" => 1,
        "week" | "weeks" => 7,
        "month" | "months" => 30,
        "year" | "years" => 365,
        other => return Err(Problem::bad(format!("the unit is '{other}'; it can be days, weeks, months or years"))),
    };
    let until = (admin.broker.now().0 / 1000).saturating_add(within.saturating_mul(days * 86_400));
    let expires = admin.host.facts().certificate_expires;
    match expires.filter(|expires| *expires < i64::try_from(until).unwrap_or(i64::MAX)) {
        None => Ok(ok()),
        Some(expires) => Err(failed(json!({
            "reason": "Certificates expiring",
            "expired": [{ "node": admin.node(), "cert_expires_at": expires }],
        }))),
    }
}

/// `GET /api/health/checks/port-listener/PORT`
async fn port(State(admin): At, _: Requester, Path(port): Path<u16>) -> Answer {
    let listeners = admin.host.listeners();
    if listeners.iter().any(|listener| listener.port == port) {
        return Ok(Json(json!({ "status": "ok", "port": port })));
    }
    let ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
    Err(failed(json!({ "reason": "No active listener", "missing": port, "ports": ports })))
}

/// What RabbitMQ also calls a protocol.
fn spelled(protocol: &str) -> &str {
    match protocol {
        "amqp091" | "amqp0.9.1" | "amqp1.0" => "amqp",
        "amqps" | "amqp/ssl" | "amqp/tls" => "amqp/ssl",
        "mqtt3.1" | "mqtt3.1.1" | "mqtt5" => "mqtt",
        "management" => "http",
        "prometheus" => "http/prometheus",
        other => other,
    }
}

/// `GET /api/health/checks/protocol-listener/PROTOCOL`
async fn protocol(State(admin): At, _: Requester, Path(protocol): Path<String>) -> Answer {
    let listeners = admin.host.listeners();
    if listeners.iter().any(|listener| listener.protocol == spelled(&protocol)) {
        return Ok(Json(json!({ "status": "ok", "protocol": protocol })));
    }
    let protocols: Vec<String> = listeners.into_iter().map(|listener| listener.protocol).collect();
    Err(failed(json!({ "reason": "No active listener", "missing": protocol, "protocols": protocols })))
}

/// `GET /api/health/checks/node-is-quorum-critical`
async fn quorum(_: Requester) -> Json<Value> {
    Json(json!({ "status": "ok", "reason": "single node cluster" }))
}

/// `GET /api/aliveness-test/VHOST`: a message goes through a queue of its own.
pub async fn alive(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    let caller = who.caller(&admin, &vhost)?;
    let mut arguments = Table::default();
    arguments.push("x-queue-type", "classic".into());
    let declaration = QueueDeclaration { durable: false, exclusive: false, auto_delete: false, arguments };
    admin.broker.declare_queue(&caller, ALIVENESS, declaration)?;
    messages::round_trip(&admin, &who, &vhost, ALIVENESS).await?;
    Ok(ok())
}
