//! The broker's definitions as JSON.

use broker::{Destination, Name, Policy, PolicyKind, QueueInfo, User, topology::VhostState};
use serde_json::{Map, Value as Json, json};

use crate::{
    Admin,
    json::{of_table as table, of_value as to_json},
};

/// All definitions.
pub fn all(admin: &Admin) -> Json {
    let mut all = head(admin, "cluster");
    let broker = &admin.broker;
    let users = broker.identity.users();
    all["explanation"] = format!("Definitions of cluster '{}'", admin.node()).into();
    all["original_cluster_name"] = admin.node().into();
    all["users"] = users.iter().map(|(name, of)| user(admin, name, of)).collect();
    all["permissions"] = users.iter().flat_map(|(name, of)| permissions(name, of)).collect();
    all["topic_permissions"] = users.iter().flat_map(|(name, of)| topic_permissions(name, of)).collect();
    let mut lists: [(&str, Vec<Json>); 5] =
        ["vhosts", "policies", "queues", "exchanges", "bindings"].map(|name| (name, Vec::new()));
    let mut own = Vec::new();
    for vhost in broker.vhosts() {
        let (name, state) = (vhost.name().as_str(), vhost.read());
        let of_vhost = [
            vec![described(name, &state)],
            policies(name, &state, PolicyKind::User),
            queues(admin, name, &state),
            exchanges(name, &state),
            bindings(admin, name, &state),
        ];
        for ((_, list), more) in lists.iter_mut().zip(of_vhost) {
            list.extend(more);
        }
        own.extend(operator_policies(name, &state));
    }
    own.extend(parameters(admin));
    for (name, list) in lists {
        all[name] = list.into();
    }
    all["parameters"] = own.into();
    all["global_parameters"] = global_parameters(admin).into();
    all
}

/// The definitions of one vhost, which do not say which it is.
pub fn of_vhost(admin: &Admin, name: &Name, state: &VhostState) -> Json {
    let mut all = head(admin, "single_virtual_host");
    all["explanation"] = format!("Definitions of virtual host '{name}'").into();
    all["original_vhost_name"] = name.as_str().into();
    let described = described(name, state);
    for key in ["description", "tags", "default_queue_type", "metadata"] {
        all[key] = described[key].clone();
    }
    let parameters = parameters(admin);
    let limits = parameters.iter().find(|one| one["vhost"] == **name && one["component"] == "vhost-limits");
    all["limits"] = limits.map_or_else(|| json!({}), |limits| limits["value"].clone());
    let of_vhost = parameters.iter().filter(|parameter| parameter["vhost"] == **name).cloned();
    let lists = [
        ("policies", policies(name, state, PolicyKind::User)),
        ("parameters", operator_policies(name, state).into_iter().chain(of_vhost).collect()),
        ("queues", queues(admin, name, state)),
        ("exchanges", exchanges(name, state)),
        ("bindings", bindings(admin, name, state)),
    ];
    for (list, mut items) in lists {
        for item in items.iter_mut().filter_map(Json::as_object_mut) {
            item.shift_remove("vhost");
        }
        all[list] = items.into();
    }
    all
}

fn head(admin: &Admin, format: &str) -> Json {
    json!({
        "rabbit_version": admin.version,
        "rabbitmq_version": admin.version,
        "product_name": "Roadstead",
        "product_version": env!("CARGO_PKG_VERSION"),
        "rabbitmq_definition_format": format,
    })
}

/// A user with the hash of its password.
pub fn user(admin: &Admin, name: &Name, user: &User) -> Json {
    let (hash, algorithm) = admin.host.export_hash(&user.password_hash);
    let limits: Map<String, Json> = user.limits.iter().map(|(limit, n)| (limit.to_string(), (*n).into())).collect();
    let tags: Vec<&str> = user.tags.iter().map(|tag| tag.as_str()).collect();
    json!({
        "name": name.as_str(),
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": tags,
        "limits": limits,
    })
}

/// A user's permissions.
pub fn permissions(name: &Name, user: &User) -> Vec<Json> {
    let json = user.permissions.iter().map(|(vhost, may)| {
        let [configure, write, read] = [&may.configure, &may.write, &may.read].map(|pattern| pattern.as_str());
        json!({ "user": name.as_str(), "vhost": vhost.as_str(), "configure": configure, "write": write, "read": read })
    });
    json.collect()
}

/// A user's topic permissions.
pub fn topic_permissions(name: &Name, user: &User) -> Vec<Json> {
    let json = user.topic_permissions.iter().map(|((vhost, exchange), may)| {
        json!({
            "user": name.as_str(),
            "vhost": vhost.as_str(),
            "exchange": exchange.as_str(),
            "write": may.write,
            "read": may.read,
        })
    });
    json.collect()
}

/// Parameters of vhosts.
pub fn parameters(admin: &Admin) -> Vec<Json> {
    let own = admin.broker.parameters().into_iter().filter(|(vhost, ..)| !vhost.is_empty());
    let json = own.map(|(vhost, component, name, value)| {
        let (vhost, component, name) = (vhost.as_str(), component.as_str(), name.as_str());
        json!({ "vhost": vhost, "component": component, "name": name, "value": to_json(&value) })
    });
    json.collect()
}

/// Parameters of all vhosts together.
pub fn global_parameters(admin: &Admin) -> Vec<Json> {
    let global = admin.broker.parameters().into_iter().filter(|(vhost, ..)| vhost.is_empty());
    global.map(|(_, _, name, value)| json!({ "name": name.as_str(), "value": to_json(&value) })).collect()
}

/// Operator policies as the parameters that they are to RabbitMQ.
pub fn operator_policies(vhost: &str, state: &VhostState) -> Vec<Json> {
    let parameter = |policy: Json| {
        let mut value = policy.clone();
        if let Some(value) = value.as_object_mut() {
            value.shift_remove("vhost");
            value.shift_remove("name");
        }
        json!({ "vhost": vhost, "component": "operator_policy", "name": policy["name"], "value": value })
    };
    policies(vhost, state, PolicyKind::Operator).into_iter().map(parameter).collect()
}

/// What is said of a vhost.
pub fn described(name: &str, state: &VhostState) -> Json {
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

/// The policies of a vhost.
pub fn policies(vhost: &str, state: &VhostState, kind: PolicyKind) -> Vec<Json> {
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
fn is_defined(admin: &Admin, queue: &QueueInfo) -> bool {
    queue.owner.is_none() && queue.is_ordinary() && !admin.host.is_of_session(queue)
}

fn queues(admin: &Admin, vhost: &str, state: &VhostState) -> Vec<Json> {
    let mut queues: Vec<_> = state.queues().filter(|queue| is_defined(admin, queue)).collect();
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

fn bindings(admin: &Admin, vhost: &str, state: &VhostState) -> Vec<Json> {
    let mut all = Vec::new();
    for binding in state.bindings() {
        let (destination, kind) = match &binding.destination {
            Destination::Exchange(name) => (name.clone(), "exchange"),
            Destination::Queue(id) => match state.queue_by_id(*id) {
                Some(queue) if is_defined(admin, queue) => (queue.name.clone(), "queue"),
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
