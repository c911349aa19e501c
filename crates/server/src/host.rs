//! What the management API needs to know of the process, and has done by it.

use std::{
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use admin::{Admitted, Facts, Host, Listener, Secret, host::Promise};
use broker::{Credentials, Name, Origin, QueueInfo, Table};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::{
    auth::{self, Identified, LoginOutcome},
    resources,
    serve::Server,
    telemetry,
};

/// How long what was found out about the process is good enough.
const FRESH: Duration = Duration::from_secs(1);

/// The process, as the management API sees it.
pub struct ServerHost {
    server: Weak<Server>,
    started: Instant,
    /// What was found out last, and when.
    facts: Mutex<Option<(Instant, Facts)>>,
}

impl ServerHost {
    /// That of a server that is being made.
    pub fn new(server: Weak<Server>) -> Self {
        Self { server, started: Instant::now(), facts: Mutex::default() }
    }

    fn server(&self) -> Option<Arc<Server>> {
        self.server.upgrade()
    }
}

/// How RabbitMQ calls what a listener speaks.
pub fn protocol_name(listener: &str) -> &str {
    match listener {
        "amqps" => "amqp/ssl",
        "mqtts" => "mqtt/ssl",
        "mqtt-ws" => "http/web-mqtt",
        "mqtt-wss" | "wss" => "https/web-mqtt",
        "openwires" => "openwire/ssl",
        "stomps" => "stomp/ssl",
        "stomp-ws" => "http/web-stomp",
        "stomp-wss" => "https/web-stomp",
        "prometheus" => "http/prometheus",
        other => other,
    }
}

impl Host for ServerHost {
    fn login(&self, secret: Secret, peer: IpAddr) -> Promise<'_, Option<Admitted>> {
        Box::pin(async move {
            let server = self.server()?;
            let (user, password) = match secret {
                Secret::Password(user, password) => (user, password),
                Secret::Token(token) => (String::new(), token.into_bytes()),
            };
            let credentials = Credentials::Password { user: user.into(), password };
            let origin = auth::Origin { address: peer, protocol: "management" };
            match server.authenticator.login(&credentials, origin).await {
                LoginOutcome::Accepted(Identified { user, tags, authorization }) => {
                    Some(Admitted { user, tags, authorization })
                }
                LoginOutcome::Refused => None,
            }
        })
    }

    fn protocols(&self) -> &'static [&'static str] {
        &["AMQP 0-9-1", "MQTT 3-1-0", "MQTT 3-1-1", "MQTT 5-0", "OpenWire", "STOMP 1.0", "STOMP 1.1", "STOMP 1.2"]
    }

    fn facts(&self) -> Facts {
        let mut known = self.facts.lock();
        if let Some((at, facts)) = &*known
            && at.elapsed() < FRESH
        {
            return facts.clone();
        }
        let Some(server) = self.server() else { return Facts::default() };
        let facts = resources::facts(&server, self.started);
        *known = Some((Instant::now(), facts.clone()));
        facts
    }

    fn listeners(&self) -> Vec<Listener> {
        self.server().map(|server| server.listeners.lock().clone()).unwrap_or_default()
    }

    fn properties(&self, table: &Table) -> (Origin, Vec<u8>) {
        (amqp091::ORIGIN, amqp091::properties::Properties::of_table(table))
    }

    fn is_of_session(&self, queue: &QueueInfo) -> bool {
        mqtt::message::is_of_sessions(queue)
    }

    fn hash_password(&self, password: &str, algorithm: Option<&str>) -> anyhow::Result<String> {
        auth::hash(password, algorithm)
    }

    fn import_hash(&self, hash: &str, algorithm: Option<&str>) -> anyhow::Result<String> {
        auth::import(hash, algorithm)
    }

    fn export_hash<'h>(&self, hash: &'h str) -> (&'h str, &'static str) {
        auth::export(hash)
    }

    fn forget_vhost(&self, vhost: &Name) {
        if let Some(server) = self.server() {
            server.sessions.forget_vhost(vhost);
        }
    }

    fn sessions(&self) -> Vec<Json> {
        let Some(server) = self.server() else { return Vec::new() };
        let json = server.sessions.survey().into_iter().map(|session| {
            let filters = session.subscriptions.iter().map(|(filter, qos)| json!({ "filter": filter, "qos": qos }));
            json!({
                "vhost": session.vhost.as_str(),
                "client_id": session.client_id.as_str(),
                "user": session.user.as_str(),
                "protocol": session.version,
                "connected": session.is_connected,
                "expiry_s": session.expiry_s,
                "ends": session.ends.map(|at| at.0),
                "subscriptions": filters.collect::<Vec<_>>(),
                "in_flight": session.in_flight,
            })
        });
        json.collect()
    }

    fn prepared_transactions(&self) -> Vec<Json> {
        let Some(server) = self.server() else { return Vec::new() };
        let json = server.openwire_shared.branches.survey().into_iter().map(|prepared| {
            json!({
                "vhost": prepared.vhost.as_str(),
                "name": prepared.name,
                "user": prepared.user.as_str(),
                "messages": prepared.messages,
                "acknowledged": prepared.acknowledged,
            })
        });
        json.collect()
    }

    fn end_transaction(&self, vhost: &str, name: &str, is_committed: bool) -> anyhow::Result<bool> {
        let Some(server) = self.server() else { return Ok(false) };
        let ended = server.openwire_shared.branches.decide(&server.broker, vhost, name, is_committed);
        ended.map_err(|exception| anyhow::anyhow!(exception.message))
    }

    fn log_lines(&self, from: u64) -> (Vec<String>, u64) {
        telemetry::lines(from)
    }
}
