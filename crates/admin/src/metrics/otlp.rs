//! Metrics for OpenTelemetry: OTLP 1 in its JSON form (`ExportMetricsServiceRequest`).

use broker::Millis;
use serde_json::{Map, Value, json};

use super::{Kind, Output};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: counters count from the start of the broker.
const CUMULATIVE: u32 = 2;

/// Metrics that are being collected.
pub struct Otlp {
    started: String,
    now: String,
    metrics: Vec<Collected>,
}

struct Collected {
    name: String,
    kind: Kind,
    help: String,
    points: Vec<Value>,
}

/// Nanoseconds since 1970, which JSON can hold in a string only.
fn nanoseconds(at: Millis) -> String {
    (u128::from(at.0) * 1_000_000).to_string()
}

/// A name and a text, as an attribute of something.
pub fn attribute((name, text): (&str, &str)) -> Value {
    json!({ "key": name, "value": { "stringValue": text } })
}

/// Who sends: a node with a name and a version.
pub fn resource(node: &str, version: &str) -> Value {
    let names = [("service.name", "roadstead"), ("service.instance.id", node), ("service.version", version)];
    json!({ "attributes": names.map(attribute) })
}

impl Output for Otlp {
    fn prefix(&self) -> &'static str {
        "rabbitmq_"
    }

    fn begin(&mut self, name: &str, kind: Kind, help: &str) {
        self.metrics.push(Collected { name: name.into(), kind, help: help.into(), points: Vec::new() });
    }

    fn sample(&mut self, _name: &str, labels: &[(&str, &str)], value: f64) {
        let mut point = Map::new();
        point.insert("attributes".into(), labels.iter().copied().map(attribute).collect());
        point.insert("startTimeUnixNano".into(), self.started.clone().into());
        point.insert("timeUnixNano".into(), self.now.clone().into());
        point.insert("asDouble".into(), value.into());
        if let Some(metric) = self.metrics.last_mut() {
            metric.points.push(point.into());
        }
    }
}

impl Otlp {
    /// Nothing yet, of a broker that started at `started`.
    pub fn new(started: Millis, now: Millis) -> Self {
        Self { started: nanoseconds(started), now: nanoseconds(now), metrics: Vec::new() }
    }

    /// The request, from a node with a name and a version.
    pub fn finish(self, node: &str, version: &str) -> Value {
        let metrics: Vec<_> = self.metrics.into_iter().map(Collected::json).collect();
        json!({
            "resourceMetrics": [{
                "resource": resource(node, version),
                "scopeMetrics": [{ "scope": { "name": "roadstead", "version": version }, "metrics": metrics }],
            }],
        })
    }
}

impl Collected {
    fn json(self) -> Value {
        let Self { name, kind, help, points } = self;
        match kind {
            Kind::Gauge => json!({ "name": name, "description": help, "gauge": { "dataPoints": points } }),
            Kind::Counter => {
                let sum = json!({ "dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": true });
                json!({ "name": name, "description": help, "sum": sum })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_sums_since_the_start() {
        let mut otlp = Otlp::new(Millis(1_000), Millis(2_500));
        otlp.one("a", Kind::Gauge, "An a.", 1.5);
        otlp.begin("b_total", Kind::Counter, "Some bs.");
        otlp.sample("b_total", &[("x", "1")], 3.0);
        otlp.sample("b_total", &[("x", "2")], 4.0);
        let request = otlp.finish("node", "0.1");
        let of_all = &request["resourceMetrics"][0];
        assert_eq!(of_all["resource"]["attributes"][1]["value"]["stringValue"], "node");
        let metrics = &of_all["scopeMetrics"][0]["metrics"];
        assert_eq!(metrics[0]["name"], "rabbitmq_a");
        assert_eq!(metrics[0]["gauge"]["dataPoints"][0]["asDouble"], 1.5);
        let sum = &metrics[1]["sum"];
        assert_eq!((&sum["isMonotonic"], &sum["aggregationTemporality"]), (&json!(true), &json!(2)));
        let point = &sum["dataPoints"][1];
        assert_eq!((&point["startTimeUnixNano"], &point["timeUnixNano"]), (&json!("1000000000"), &json!("2500000000")));
        assert_eq!((&point["asDouble"], &point["attributes"][0]["value"]["stringValue"]), (&json!(4.0), &json!("2")));
    }
}
