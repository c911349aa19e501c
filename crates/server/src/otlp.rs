//! Sending metrics to a collector of OpenTelemetry, by OTLP over HTTP in its JSON form.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::time::{self, MissedTickBehavior};

use crate::{config, serve::Server, web::Web};

/// Where a collector takes metrics (OTLP 1, section "OTLP/HTTP Request").
const METRICS_PATH: &str = "/v1/metrics";

/// Sends metrics.
pub struct Exporter {
    address: String,
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
            address: format!("{}{METRICS_PATH}", endpoint.trim_end_matches('/')),
            headers: settings.headers.clone(),
            interval: Duration::from_millis(settings.interval_ms),
            web: Web::new(settings.ca.as_deref(), within).context("otlp.ca")?,
        }))
    }

    /// Sends them until the broker ends. What a collector does not take is not sent again: the next numbers hold all that
    /// those did.
    pub async fn run(self, server: Arc<Server>) {
        let started = server.clock.now();
        let mut ticks = time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_heard = true;
        loop {
            ticks.tick().await;
            let request = admin::metrics::otlp(&server.admin, started, server.clock.now()).to_string();
            match self.web.post_json(&self.address, &self.headers, request).await {
                Ok(_) if !is_heard => {
                    is_heard = true;
                    tracing::info!("OpenTelemetry: metrics are taken again");
                }
                // Once is enough for as long as it lasts.
                Err(error) if is_heard => {
                    is_heard = false;
                    tracing::warn!("OpenTelemetry: metrics are not taken: {error:#}");
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}
