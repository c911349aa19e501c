//! Nodes: there is one.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde_json::{Map, Value, json};

use super::{At, overview, stats};
use crate::{
    Admin,
    history::Past,
    problem::{Answer, Problem},
    requester::Requester,
    sampler::NODE,
};

/// What a RabbitMQ's memory goes to besides, and nothing corresponds to here.
const OTHER_PARTS: [&str; 25] = [
    "allocated_unused",
    "atom",
    "binary",
    "code",
    "connection_channels",
    "connection_other",
    "connection_readers",
    "connection_writers",
    "metadata_store",
    "metadata_store_ets",
    "metrics",
    "mgmt_db",
    "mnesia",
    "msg_index",
    "other_ets",
    "other_system",
    "plugins",
    "queue_slave_procs",
    "quorum_ets",
    "quorum_queue_dlx_procs",
    "quorum_queue_procs",
    "reserved_unallocated",
    "stream_queue_coordinator_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
];

fn describe(admin: &Admin, past: &Past) -> Value {
    let facts = admin.host.facts();
    let alarms = admin.broker.alarms();
    let mechanisms = ["PLAIN", "AMQPLAIN", "EXTERNAL"].map(|name| json!({ "name": name, "enabled": true }));
    let mut node = json!({
        "name": admin.node(),
        "type": "disc",
        "running": true,
        "being_drained": false,
        "os_pid": facts.pid.to_string(),
        "uptime": facts.uptime_ms,
        "processors": facts.processors,
        "rates_mode": "basic",
        "run_queue": 0,
        "net_ticktime": 60,
        "partitions": [],
        "cluster_links": [],
        "enabled_plugins": ["rabbitmq_management", "rabbitmq_mqtt", "rabbitmq_prometheus"],
        "applications": [{ "name": "roadstead", "description": "Roadstead", "version": env!("CARGO_PKG_VERSION") }],
        "auth_mechanisms": mechanisms,
        "exchange_types": overview::exchange_kinds(),
        "contexts": overview::contexts(admin),
        "config_files": [],
        "db_dir": facts.data,
        "log_files": ["<stderr>"],
        "mem_limit": facts.memory_limit,
        "mem_alarm": alarms.memory,
        "mem_calculation_strategy": "messages",
        "mem_messages": facts.memory_messages,
        "fd_total": facts.files_limit,
        "disk_free_limit": facts.disk_free_limit,
        "disk_free_alarm": alarms.disk,
        "disk_used": facts.disk_used,
        "log_segments": facts.segments,
        "messages_on_disk": facts.messages_on_disk,
        "cpu_seconds": facts.cpu_seconds,
        "proc_total": 1_048_576,
        "sockets_total": facts.files_limit,
    });
    let numbers =
        [facts.memory_used, facts.files_used, facts.disk_free, facts.syncs, facts.written_bytes, facts.syncs, 0];
    let mut more = Map::new();
    let seen = admin.sampler.seen();
    for (column, (name, number)) in NODE.into_iter().zip(numbers).enumerate() {
        stats::put(&mut more, name, number, seen.node.details(&[column], past.nodes()));
    }
    drop(seen);
    let connections = admin.broker.connections();
    let tasks = connections.len() as u64;
    stats::put(&mut more, "sockets_used", tasks, json!({ "rate": 0.0 }));
    stats::put(&mut more, "proc_used", tasks, json!({ "rate": 0.0 }));
    // What other brokers measure, and what nothing corresponds to here.
    for name in ["gc_num", "gc_bytes_reclaimed", "io_read_count", "io_read_bytes", "io_seek_count", "io_reopen_count"] {
        stats::put(&mut more, name, 0, json!({ "rate": 0.0 }));
    }
    for name in ["io_read_avg_time", "io_write_avg_time", "io_sync_avg_time", "io_seek_avg_time"] {
        more.insert(name.into(), json!(0.0));
        more.insert(format!("{name}_details"), json!({ "rate": 0.0 }));
    }
    more.extend(overview::changes(admin, past));
    if let Some(node) = node.as_object_mut() {
        node.extend(more);
    }
    node
}

fn is_this(admin: &Admin, name: &str) -> Result<(), Problem> {
    if name == admin.node() { Ok(()) } else { Err(Problem::Missing) }
}

/// `GET /api/nodes`
pub async fn nodes(State(admin): At, who: Requester, Query(past): Query<Past>) -> Answer {
    who.monitor()?;
    Ok(Json(json!([describe(&admin, &past)])))
}

/// `GET /api/nodes/NAME`
pub async fn node(State(admin): At, who: Requester, Path(name): Path<String>, Query(past): Query<Past>) -> Answer {
    who.monitor()?;
    is_this(&admin, &name)?;
    Ok(Json(describe(&admin, &past)))
}

/// `GET /api/nodes/NAME/memory`
pub async fn memory(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer {
    who.monitor()?;
    is_this(&admin, &name)?;
    let facts = admin.host.facts();
    let other = facts.memory_used.saturating_sub(facts.memory_messages);
    let mut memory = json!({
        "strategy": "rss",
        "queue_procs": facts.memory_messages,
        "other_proc": other,
        "total": { "rss": facts.memory_used, "allocated": facts.memory_used, "erlang": facts.memory_used },
    });
    for part in OTHER_PARTS {
        memory[part] = 0.into();
    }
    Ok(Json(json!({ "memory": memory })))
}
