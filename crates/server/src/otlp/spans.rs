//! Spans of messages that carry the context of a trace: when they were published, and how long they were in a queue.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use admin::metrics::{attribute, resource};
use broker::{Name, Observed, Observer};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Spans that may wait to be sent. Further ones are lost.
const WAITING: usize = 16 * 1024;

/// Spans of one request.
const REQUEST: usize = 1024;

/// Kinds of spans (OTLP 1, `Span.SpanKind`).
const PRODUCER: u32 = 4;
const CONSUMER: u32 = 5;

/// Spans that wait to be sent.
#[derive(Debug)]
pub struct Spans {
    node: String,
    waiting: Mutex<Vec<Span>>,
    /// Which the next one is, from a random start.
    next: AtomicU64,
    /// Those that were lost, since it was last told.
    lost: AtomicU64,
}

#[derive(Debug)]
struct Span {
    context: Context,
    id: u64,
    name: String,
    kind: u32,
    start: u64,
    end: u64,
    attributes: Vec<Value>,
}

/// The context of a trace (W3C Trace Context, section 3.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Context {
    trace: String,
    parent: String,
}

impl Context {
    /// The context in a header, if it is one and the trace is recorded.
    fn read(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let [version, trace, parent, flags] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|byte| byte != b'0');
        let is_version = is_hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
        let is_sound = is_version && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2);
        let is_recorded = is_sound && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
        is_recorded.then(|| Self { trace: trace.into(), parent: parent.into() })
    }
}

impl Spans {
    /// None yet, of a node with a name.
    pub fn new(node: &str) -> Self {
        // Only to be told apart from others, so that without randomness the time will do.
        let start = crate::auth::random().map_or_else(|_| now(), u64::from_le_bytes);
        let (waiting, lost) = (Mutex::default(), AtomicU64::new(0));
        Self { node: node.into(), waiting, next: AtomicU64::new(start), lost }
    }

    /// A request with spans that wait, if there are any.
    pub fn take(&self) -> Option<Value> {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "OpenTelemetry: more spans than the collector takes; some are lost");
        }
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(REQUEST);
        let taken: Vec<Span> = waiting.drain(..count).collect();
        drop(waiting);
        let spans: Vec<_> = taken.into_iter().map(Span::json).collect();
        let version = env!("CARGO_PKG_VERSION");
        let scope = json!({ "name": "roadstead", "version": version });
        let of_all = json!({
            "resource": resource(&self.node, version),
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        });
        (count > 0).then(|| json!({ "resourceSpans": [of_all] }))
    }

    fn add(&self, observed: &Observed<'_>, (name, kind): (String, u32), more: &[Value]) {
        let Some(context) = Context::read(observed.context) else { return };
        let end = now();
        // The broker's clock counts milliseconds.
        let start = observed.message.arrived.0.saturating_mul(1_000_000).min(end);
        let size = observed.message.payload.len().to_string();
        let texts = [
            ("messaging.system", "roadstead"),
            ("messaging.rabbitmq.destination.routing_key", observed.routing_key),
            ("roadstead.vhost", observed.vhost),
        ];
        let mut attributes: Vec<_> = texts.map(attribute).into();
        attributes.push(number("messaging.message.body.size", &size));
        attributes.extend_from_slice(more);
        let id = mixed(self.next.fetch_add(1, Ordering::Relaxed));
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING {
            waiting.push(Span { context, id, name, kind, start, end, attributes });
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for Spans {
    fn published(&self, observed: &Observed<'_>, user: &Name, queues: usize) {
        let exchange = match &**observed.message.exchange {
            "" => "amq.default",
            exchange => exchange,
        };
        let more = [
            attribute(("messaging.operation.name", "publish")),
            attribute(("messaging.destination.name", exchange)),
            attribute(("user.name", user)),
            number("roadstead.queues", &queues.to_string()),
        ];
        self.add(observed, (format!("publish {exchange}"), CONSUMER), &more);
    }

    fn delivered(&self, observed: &Observed<'_>, queue: &Name, redelivered: bool) {
        let more = [
            attribute(("messaging.operation.name", "deliver")),
            attribute(("messaging.destination.name", queue)),
            json!({ "key": "roadstead.redelivered", "value": { "boolValue": redelivered } }),
        ];
        self.add(observed, (format!("deliver {queue}"), PRODUCER), &more);
    }
}

impl Span {
    fn json(self) -> Value {
        json!({
            "traceId": self.context.trace,
            "spanId": format!("{:016x}", self.id),
            "parentSpanId": self.context.parent,
            "name": self.name,
            "kind": self.kind,
            // JSON can hold them in strings only.
            "startTimeUnixNano": self.start.to_string(),
            "endTimeUnixNano": self.end.to_string(),
            "attributes": self.attributes,
        })
    }
}

fn number(name: &str, digits: &str) -> Value {
    json!({ "key": name, "value": { "intValue": digits } })
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |past| past.as_nanos() as u64)
}

/// A number that looks like chance, another one for each (the mixing steps of SplitMix64). Zero, which is no id, becomes one.
fn mixed(count: u64) -> u64 {
    let mut mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_those_of_the_specification() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let good = format!("00-{trace}-{parent}-01");
        assert_eq!(Context::read(&good), Some(Context { trace: trace.into(), parent: parent.into() }));
        assert!(Context::read(&format!("01-{trace}-{parent}-03-more")).is_some());
        let zeros = "0".repeat(32);
        for bad in [
            format!("00-{trace}-{parent}-00"),
            format!("00-{trace}-{parent}-01-more"),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{zeros}-{parent}-01"),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("00-{trace}-{parent}"),
            format!("00-{trace}é-{parent}-01"),
            String::new(),
        ] {
            assert_eq!(Context::read(&bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(mixed).collect();
        assert_eq!(ids.len(), 1000);
    }
}
