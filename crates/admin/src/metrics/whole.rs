//! Metrics of the node as a whole.

use broker::{Counts, Event, broker::connections::Change};

use super::{
    Kind::{Counter, Gauge},
    Output, Scope,
};
use crate::{Admin, protocols};

/// Events as all protocols together count them.
const EVENTS: [(Event, &str, &str); 10] = [
    (Event::Publish, "received", "Messages that came from publishers"),
    (Event::Confirm, "confirmed", "Messages that were confirmed to publishers"),
    (Event::Drop, "unroutable_dropped", "Messages that led nowhere and were dropped"),
    (Event::Return, "unroutable_returned", "Messages that led nowhere and were returned"),
    (Event::DeliverNoAck, "delivered_consume_auto_ack", "Messages delivered to consumers that need not acknowledge"),
    (Event::Deliver, "delivered_consume_manual_ack", "Messages delivered to consumers that have to acknowledge"),
    (Event::GetNoAck, "delivered_get_auto_ack", "Messages fetched without acknowledgement"),
    (Event::Get, "delivered_get_manual_ack", "Messages fetched with acknowledgement"),
    (Event::GetEmpty, "get_empty", "Times that there was nothing to fetch"),
    (Event::Redeliver, "redelivered", "Messages that had been delivered before"),
];

/// What begins and ends.
const CHANGES: [(Change, &str); 7] = [
    (Change::ConnectionCreated, "connections_opened_total"),
    (Change::ConnectionClosed, "connections_closed_total"),
    (Change::ChannelCreated, "channels_opened_total"),
    (Change::ChannelClosed, "channels_closed_total"),
    (Change::QueueDeclared, "queues_declared_total"),
    (Change::QueueCreated, "queues_created_total"),
    (Change::QueueDeleted, "queues_deleted_total"),
];

/// Writes them down.
pub fn put(admin: &Admin, scope: &Scope, out: &mut dyn Output) {
    identity(admin, out);
    if scope.has("node_metrics") {
        node(admin, out);
    }
    if scope.has("connection_churn_metrics") {
        for (change, name) in CHANGES {
            out.one(name, Counter, "How often it has happened", admin.broker.churn.get(change) as f64);
        }
    }
    // Detailed metrics are of things, and these are of none.
    if scope.families.is_empty() {
        totals(admin, out);
        by_protocol(admin, out);
        log(admin, out);
    }
}

fn identity(admin: &Admin, out: &mut dyn Output) {
    let name = "rabbitmq_build_info";
    out.begin(name, Gauge, "The version of RabbitMQ that Roadstead stands in for, and its own");
    out.sample(
        name,
        &[
            ("rabbitmq_version", &admin.version),
            ("prometheus_plugin_version", &admin.version),
            ("prometheus_client_version", env!("CARGO_PKG_VERSION")),
            ("erlang_version", "none"),
            ("roadstead_version", env!("CARGO_PKG_VERSION")),
        ],
        1.0,
    );
    let name = "rabbitmq_identity_info";
    out.begin(name, Gauge, "The node and its cluster");
    let cluster = crate::api::cluster_name(admin);
    let labels = [
        ("rabbitmq_node", admin.node()),
        ("rabbitmq_cluster", &*cluster),
        ("rabbitmq_cluster_permanent_id", &*cluster),
    ];
    out.sample(name, &labels, 1.0);
}

fn node(admin: &Admin, out: &mut dyn Output) {
    let facts = admin.host.facts();
    let uptime = facts.uptime_ms as f64 / 1000.0;
    let alarms = admin.broker.alarms();
    let numbers = [
        ("process_open_fds", Gauge, "Open files and sockets", facts.files_used as f64),
        ("process_max_fds", Gauge, "Files and sockets that may be open", facts.files_limit as f64),
        ("process_resident_memory_bytes", Gauge, "Memory that is resident", facts.memory_used as f64),
        (
            "resident_memory_limit_bytes",
            Gauge,
            "Memory of queued messages above which publishers wait",
            facts.memory_limit as f64,
        ),
        ("disk_space_available_bytes", Gauge, "Bytes that the disk has left", facts.disk_free as f64),
        ("disk_space_available_limit_bytes", Gauge, "Bytes below which publishers wait", facts.disk_free_limit as f64),
        (
            "alarms_memory_used_watermark",
            Gauge,
            "Whether publishers wait for memory",
            f64::from(u8::from(alarms.memory)),
        ),
        (
            "alarms_free_disk_space_watermark",
            Gauge,
            "Whether publishers wait for disk space",
            f64::from(u8::from(alarms.disk)),
        ),
        ("alarms_file_descriptor_limit", Gauge, "Always 0: connections are refused instead", 0.0),
        ("erlang_uptime_seconds", Gauge, "Seconds since the start", uptime),
        ("io_sync_ops_total", Counter, "Calls that made data safe", facts.syncs as f64),
        ("io_write_bytes_total", Counter, "Bytes written to the log", facts.written_bytes as f64),
    ];
    for (name, kind, help, value) in numbers {
        out.one(name, kind, help, value);
    }
    let name = "process_cpu_seconds_total";
    out.begin(name, Counter, "Seconds of processor time that the process has used");
    out.sample(name, &[], facts.cpu_seconds);
    let name = "process_start_time_seconds";
    out.begin(name, Gauge, "When the process started, in seconds since 1970");
    out.sample(name, &[], (admin.broker.now().0 as f64 / 1000.0 - uptime).floor());
}

fn totals(admin: &Admin, out: &mut dyn Output) {
    let connections = admin.broker.connections();
    let channels: usize = connections.iter().map(|connection| connection.channel_count()).sum();
    let (mut queues, mut consumers) = (0_u64, 0_u64);
    admin.broker.survey_queues(|info, numbers| {
        if info.is_ordinary() {
            queues += 1;
            consumers += u64::from(numbers.consumers);
        }
    });
    out.one("connections", Gauge, "Connections", connections.len() as f64);
    out.one("channels", Gauge, "Channels", channels as f64);
    out.one("queues", Gauge, "Queues", queues as f64);
    out.one("consumers", Gauge, "Consumers of queues", consumers as f64);
}

/// A protocol as RabbitMQ's labels have it.
fn label(protocol: &str) -> String {
    match protocol {
        "AMQP 0-9-1" => "amqp091".into(),
        other => other.to_lowercase().replace([' ', '-'], ""),
    }
}

fn by_protocol(admin: &Admin, out: &mut dyn Output) {
    let sums = protocols::sums(admin);
    let mut put = |name: &str, help: &str, number: &dyn Fn(&Counts) -> u64| {
        let name = format!("rabbitmq_global_messages_{name}_total");
        out.begin(&name, Counter, help);
        for (protocol, sum) in &sums {
            out.sample(&name, &[("protocol", &label(protocol))], number(&sum.counts) as f64);
        }
    };
    for (event, name, help) in EVENTS {
        put(name, help, &|counts| counts.get(event));
    }
    put("acknowledged", "Messages that consumers acknowledged", &|counts| counts.get(Event::Acknowledge));
    put("delivered", "Messages delivered or fetched", &Counts::delivered);
    put("routed", "Messages that led to a queue", &|counts| {
        counts.get(Event::Publish).saturating_sub(counts.get(Event::Drop) + counts.get(Event::Return))
    });
}

fn log(admin: &Admin, out: &mut dyn Output) {
    let facts = admin.host.facts();
    let numbers = [
        ("roadstead_log_bytes", Gauge, "Bytes of the log's files", facts.disk_used as f64),
        ("roadstead_log_segments", Gauge, "Segments of the log", facts.segments as f64),
        (
            "roadstead_log_messages",
            Gauge,
            "Messages that the log holds, once for each queue",
            facts.messages_on_disk as f64,
        ),
        (
            "roadstead_log_rewritten_bytes_total",
            Counter,
            "Bytes of sparse segments that were rewritten",
            facts.rewritten_bytes as f64,
        ),
        ("roadstead_memory_messages_bytes", Gauge, "Memory that queued messages take", facts.memory_messages as f64),
    ];
    for (name, kind, help, value) in numbers {
        out.begin(name, kind, help);
        out.sample(name, &[], value);
    }
    for (reason, number) in admin.broker.departed().filter(|(reason, _)| *reason != "delayed") {
        let name = format!("rabbitmq_global_messages_dead_lettered_{reason}_total");
        out.begin(&name, Counter, "Messages that left their queues for this reason");
        out.sample(&name, &[], number as f64);
    }
    let sessions = admin.host.sessions();
    let connected = sessions.iter().filter(|session| session["connected"] == true).count();
    let name = "roadstead_mqtt_sessions";
    out.begin(name, Gauge, "MQTT sessions, with and without a connection");
    out.sample(name, &[("state", "connected")], connected as f64);
    out.sample(name, &[("state", "disconnected")], (sessions.len() - connected) as f64);
}
