//! Sending metrics and spans to a collector of OpenTelemetry, by OTLP over HTTP in its JSON form.

mod spans;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::time::{self, MissedTickBehavior};

pub use self::spans::Spans;
use crate::{
    config::{self, Config},
    serve::Server,
    web::Web,
};

/// Where a collector takes metrics and spans (OTLP 1, section "OTLP/HTTP Request").
const METRICS_PATH: &str = "/v1/metrics";
const TRACES_PATH: &str = "/v1/traces";

/// Time between requests with spans.
const SPANS_INTERVAL: Duration = Duration::from_secs(1);

/// Where spans are gathered, if any are to be sent.
pub fn spans(config: &Config) -> Option<Arc<Spans>> {
    let is_wanted = config.otlp.traces && config.otlp.endpoint.as_deref().is_some_and(|endpoint| !endpoint.is_empty());
    is_wanted.then(|| Arc::new(Spans::new(&config.amqp.cluster_name)))
}

/// Sends metrics and spans.
pub struct Exporter {
    endpoint: String,
    headers: BTreeMap<String, String>,
    interval: Duration,
    web: Web,
}

impl Exporter {
    /// One, if there is a collector.
    ///
    /// # Errors
    /// If its address is none, or its authorities cannot be read.
    pub fn new(settings: &config::Otlp) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = settings.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!("otlp.endpoint is '{endpoint}', which is no address of a server");
        }
        let within = Duration::from_millis(settings.timeout_ms);
        Ok(Some(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            headers: settings.headers.clone(),
            interval: Duration::from_millis(settings.interval_ms),
            web: Web::new(settings.ca.as_deref(), within).context("otlp.ca")?,
        }))
    }

    /// Sends metrics until the broker ends. What a collector does not take is not sent again: the next numbers hold all that
    /// those did.
    pub async fn send_metrics(self: Arc<Self>, server: Arc<Server>) {
        let started = server.clock.now();
        let mut way = Way::new(&self, METRICS_PATH, "metrics");
        let mut ticks = ticks(self.interval);
        loop {
            ticks.tick().await;
            way.send(admin::metrics::otlp(&server.admin, started, server.clock.now())).await;
        }
    }

    /// Sends spans until the broker ends. Those that a collector does not take are lost.
    pub async fn send_spans(self: Arc<Self>, spans: Arc<Spans>) {
        let mut way = Way::new(&self, TRACES_PATH, "traces");
        let mut ticks = ticks(SPANS_INTERVAL);
        loop {
            ticks.tick().await;
            while let Some(request) = spans.take() {
                way.send(request).await;
            }
        }
    }
}

fn ticks(interval: Duration) -> time::Interval {
    let mut ticks = time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The way to where a collector takes one kind of things.
struct Way<'a> {
    exporter: &'a Exporter,
    address: String,
    what: &'static str,
    is_heard: bool,
}

impl<'a> Way<'a> {
    fn new(exporter: &'a Exporter, path: &str, what: &'static str) -> Self {
        Self { exporter, address: format!("{}{path}", exporter.endpoint), what, is_heard: true }
    }

    async fn send(&mut self, request: serde_json::Value) {
        let Self { exporter, address, what, .. } = &*self;
        let answer = exporter.web.post_json(address, &exporter.headers, request.to_string()).await;
        match &answer {
            Ok(_) if !self.is_heard => tracing::info!("OpenTelemetry: {what} are taken again"),
            // Once is enough for as long as it lasts.
            Err(error) if self.is_heard => tracing::warn!("OpenTelemetry: {what} are not taken: {error:#}"),
            Ok(_) | Err(_) => {}
        }
        self.is_heard = answer.is_ok();
    }
}
