//! Metrics for Prometheus, by the names that RabbitMQ's have, so that its dashboards and alerts work; what only Roadstead has
//! begins with `roadstead_`. docs/metrics.md says what each means.
//!
//! `/metrics` sums over queues, channels and connections, `/metrics/per-object` does not, and `/metrics/detailed` has what is
//! asked for, by family, vhost and queue. [`otlp`] has the sums in OpenTelemetry's form.

mod objects;
mod otlp;
mod output;
mod text;
mod whole;

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use broker::{Millis, identity::Pattern};
use percent_encoding::percent_decode_str;

use self::{
    otlp::Otlp,
    output::{Kind, Output},
    text::Text,
};
use crate::{Admin, problem::Problem};

/// The form of the answers.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything below the metrics' port.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(summed))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .fallback(|| async { Problem::Missing })
        .with_state(admin)
}

/// Of which things, and in how much detail.
#[derive(Debug, Default)]
struct Scope {
    /// What names begin with.
    prefix: &'static str,
    /// Whether each thing has numbers of its own.
    per_object: bool,
    /// The families that are asked for; all if there are none.
    families: Vec<String>,
    /// The vhosts that are; all if there are none.
    vhosts: Vec<String>,
    /// The queues that are.
    queues: Option<Pattern>,
}

impl Scope {
    fn has(&self, family: &str) -> bool {
        self.families.is_empty() || self.families.iter().any(|wanted| wanted == family)
    }

    fn has_vhost(&self, vhost: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|wanted| wanted == vhost)
    }

    fn has_queue(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|pattern| pattern.matches(queue))
    }
}

fn put(admin: &Admin, scope: &Scope, out: &mut dyn Output) {
    whole::put(admin, scope, out);
    objects::put(admin, scope, out);
}

fn answer(admin: &Admin, scope: &Scope) -> Response {
    let mut text = Text::new(scope.prefix);
    put(admin, scope, &mut text);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.finish()).into_response()
}

pub use self::otlp::{attribute, resource};

/// What `/metrics` has, as a request of OTLP 1 in its JSON form: from a broker that started at `started`.
pub fn otlp(admin: &Admin, started: Millis, now: Millis) -> serde_json::Value {
    let mut otlp = Otlp::new(started, now);
    put(admin, &Scope { prefix: "rabbitmq_", ..Scope::default() }, &mut otlp);
    otlp.finish(admin.node(), env!("CARGO_PKG_VERSION"))
}

/// `GET /metrics`
async fn summed(State(admin): State<Arc<Admin>>) -> Response {
    answer(&admin, &Scope { prefix: "rabbitmq_", ..Scope::default() })
}

/// `GET /metrics/per-object`
async fn per_object(State(admin): State<Arc<Admin>>) -> Response {
    answer(&admin, &Scope { prefix: "rabbitmq_", per_object: true, ..Scope::default() })
}

/// `GET /metrics/detailed?family=…&vhost=…&queue=…`
async fn detailed(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let mut scope = Scope { prefix: "rabbitmq_detailed_", per_object: true, ..Scope::default() };
    for pair in query.iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
        match name {
            "family" => scope.families.push(value),
            "vhost" => scope.vhosts.push(value),
            "queue" => scope.queues = Some(Pattern::new(&value).map_err(Problem::bad)?),
            _ => {}
        }
    }
    if scope.families.is_empty() {
        // As with RabbitMQ: who asks for nothing gets no more than what everybody gets.
        scope.families.push("none".into());
    }
    Ok(answer(&admin, &scope))
}
