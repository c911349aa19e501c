//! The broker's definitions as JSON.

use broker::{Broker, Destination, Policy, PolicyKind, QueueInfo, Table, Value, topology::VhostState};
use serde_json::{Map, Value as Json, json};

use crate::auth;

/// All definitions. `version` is the version of RabbitMQ that the broker stands in for.
pub fn export(broker: &Broker, version: &str) -> Json {
    let mut all = json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": "Roadstead",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rabbitmq_definition_format": "cluster",
        "users": users(broker),
        "permissions": permissions(broker),
        "topic_permissions": topic_permissions(broker),
    });
    let mut lists: [(&str, Vec<Json>); 5] =
        ["vhosts", "policies", "queues", "exchanges", "bindings"].map(|name| (name, Vec::new()));
    let (mut parameters, global) = parameters(broker);
    for vhost in broker.vhosts() {
        let (name, state) = (vhost.name().as_str(), vhost.read());
        let of_vhost = [
            vec![described(name, &state)],
            policies(name, &state, PolicyKind::User),
            queues(name, &state),
            exchanges(name, &state),
            bindings(name, &state),
        ];
        for ((_, list), more) in lists.iter_mut().zip(of_vhost) {
            list.extend(more);
        }
        for policy in policies(name, &state, PolicyKind::Operator) {
            let mut value = policy.clone();
            if let Some(value) = value.as_object_mut() {
                value.remove("vhost");
                value.remove("name");
            }
            parameters.push(json!({
                "vhost": name, "component": "operator_policy", "name": policy["name"], "value": value,
            }));
        }
    }
    for (name, list) in lists {
        all[name] = list.into();
    }
    all["parameters"] = parameters.into();
    all["global_parameters"] = global.into();
    all
}

fn users(broker: &Broker) -> Json {
    let users = broker.identity.users().into_iter().map(|(name, user)| {
        let (hash, algorithm) = auth::export(&user.password_hash);
        let limits: Map<String, Json> = user.limits.iter().map(|(limit, n)| (limit.to_string(), (*n).into())).collect();
        let tags: Vec<&str> = user.tags.iter().map(|tag| tag.as_str()).collect();
        json!({
            "name": name.as_str(),
            "password_hash": hash,
            "hashing_algorithm": algorithm,
            "tags": tags,
            "limits": limits,
        })
    });
    users.collect::<Vec<_>>().into()
}

fn permissions(broker: &Broker) -> Vec<Json> {
    let mut all = Vec::new();
    for (name, user) in broker.identity.users() {
        for (vhost, may) in user.permissions {
            let [configure, write, read] = [&may.configure, &may.write, &may.read].map(|pattern| pattern.as_str());
            all.push(json!({
                "user": name.as_str(), "vhost": vhost.as_str(), "configure": configure, "write": write, "read": read,
            }));
        }
    }
    all
}

fn topic_permissions(broker: &Broker) -> Vec<Json> {
    let mut all = Vec::new();
    for (name, user) in broker.identity.users() {
        for ((vhost, exchange), may) in user.topic_permissions {
            all.push(json!({
                "user": name.as_str(),
                "vhost": vhost.as_str(),
                "exchange": exchange.as_str(),
                "write": may.write,
                "read": may.read,
            }));
        }
    }
    all
}

/// Parameters of vhosts, and of all of them.
fn parameters(broker: &Broker) -> (Vec<Json>, Vec<Json>) {
    let (mut own, mut global) = (Vec::new(), Vec::new());
    for (vhost, component, name, value) in broker.parameters() {
        let (name, value) = (name.as_str(), to_json(&value));
        if vhost.is_empty() {
            global.push(json!({ "name": name, "value": value }));
        } else {
            let (vhost, component) = (vhost.as_str(), component.as_str());
            own.push(json!({ "vhost": vhost, "component": component, "name": name, "value": value }));
        }
    }
    (own, global)
}

fn described(name: &str, state: &VhostState) -> Json {
    let mut metadata = table(&state.metadata);
    let object = metadata.as_object_mut();
    if let Some(object) = object {
        object.entry("description").or_insert_with(|| "".into());
        object.entry("tags").or_insert_with(|| Json::Array(Vec::new()));
    }
    let mut vhost = json!({
        "name": name,
        "description": metadata["description"],
        "tags": metadata["tags"],
    });
    if let Some(kind) = metadata.get("default_queue_type") {
        vhost["default_queue_type"] = kind.clone();
    }
    vhost["metadata"] = metadata;
    vhost
}

fn policies(vhost: &str, state: &VhostState, kind: PolicyKind) -> Vec<Json> {
    let json = |name: &str, policy: &Policy| {
        json!({
            "vhost": vhost,
            "name": name,
            "pattern": policy.pattern.as_str(),
            "apply-to": policy.apply_to.name(),
            "definition": table(&policy.definition),
            "priority": policy.priority,
        })
    };
    state.policies.iter(kind).map(|(name, policy)| json(name, policy)).collect()
}

/// Whether somebody has declared a queue for others to use too.
fn is_defined(queue: &QueueInfo) -> bool {
    queue.owner.is_none() && queue.is_ordinary() && !mqtt::message::is_of_sessions(queue)
}

fn queues(vhost: &str, state: &VhostState) -> Vec<Json> {
    let mut queues: Vec<_> = state.queues().filter(|queue| is_defined(queue)).collect();
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let json = queues.into_iter().map(|queue| {
        json!({
            "name": queue.name.as_str(),
            "vhost": vhost,
            "durable": queue.durable,
            "auto_delete": queue.auto_delete,
            "arguments": table(&queue.arguments),
        })
    });
    json.collect()
}

fn exchanges(vhost: &str, state: &VhostState) -> Vec<Json> {
    let mut exchanges: Vec<_> = state.exchanges().filter(|(name, _)| !name.starts_with("amq.")).collect();
    exchanges.sort_by_key(|(name, _)| (*name).clone());
    let json = exchanges.into_iter().map(|(name, exchange)| {
        let declaration = &exchange.declaration;
        json!({
            "name": name.as_str(),
            "vhost": vhost,
            "type": declaration.kind.name(),
            "durable": declaration.durable,
            "auto_delete": declaration.auto_delete,
            "internal": declaration.internal,
            "arguments": table(&declaration.arguments),
        })
    });
    json.collect()
}

fn bindings(vhost: &str, state: &VhostState) -> Vec<Json> {
    let mut all = Vec::new();
    for binding in state.bindings() {
        let (destination, kind) = match &binding.destination {
            Destination::Exchange(name) => (name.clone(), "exchange"),
            Destination::Queue(id) => match state.queue_by_id(*id) {
                Some(queue) if is_defined(queue) => (queue.name.clone(), "queue"),
                // A binding of a queue that nobody else could declare says nothing to anybody else.
                Some(_) | None => continue,
            },
        };
        all.push(json!({
            "source": binding.source.as_str(),
            "vhost": vhost,
            "destination": destination.as_str(),
            "destination_type": kind,
            "routing_key": binding.key.as_str(),
            "arguments": table(&binding.arguments),
        }));
    }
    all
}

fn table(table: &Table) -> Json {
    table.0.iter().map(|(name, value)| (name.to_string(), to_json(value))).collect::<Map<_, _>>().into()
}

/// A value in JSON, which has fewer types.
fn to_json(value: &Value) -> Json {
    match value {
        Value::Void => Json::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Timestamp(seconds) => (*seconds).into(),
        Value::Text(bytes) | Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
        Value::Array(values) => values.iter().map(to_json).collect::<Vec<_>>().into(),
        Value::Table(entries) => table(entries),
        Value::Decimal(scale, number) => (f64::from(*number) / 10f64.powi(i32::from(*scale))).into(),
        value => value.as_integer().map(Json::from).or_else(|| value.as_float().map(Json::from)).unwrap_or_default(),
    }
}
