//! Definitions from JSON into the broker.

use anyhow::{Context, anyhow, bail};
use broker::{
    ApplyTo, BindingRequest, End, ExchangeDeclaration, ExchangeKind, Name, Permissions, Policy, PolicyKind,
    QueueDeclaration, QueueType, Table, TopicPermissions, User,
    broker::accounts::{USER_LIMITS, VHOST_LIMITS},
    identity::Pattern,
};
use serde_json::{Map, Value as Json, json};

use crate::{
    Admin,
    json::{table, value},
};

/// The lists of a definitions document, in the order in which they are imported: each may need those before it.
const LISTS: [(&str, Import); 11] = [
    ("users", user),
    ("vhosts", vhost),
    ("permissions", permissions),
    ("topic_permissions", topic_permissions),
    ("global_parameters", global_parameter),
    ("parameters", parameter),
    ("policies", |admin, item| policy(admin, item, PolicyKind::User)),
    ("operator_policies", |admin, item| policy(admin, item, PolicyKind::Operator)),
    ("queues", queue),
    ("exchanges", exchange),
    ("bindings", binding),
];

type Import = fn(&Admin, &Json) -> anyhow::Result<()>;

/// Imports definitions. Returns how many there were of each kind.
///
/// # Errors
/// The first one that cannot be imported. What comes before it has been.
pub fn import(admin: &Admin, definitions: &Json) -> anyhow::Result<Json> {
    let definitions = definitions.as_object().context("definitions are a JSON object")?;
    for key in definitions.keys() {
        tracing::debug!(key, "definitions");
    }
    let mut counts = Map::new();
    for (list, import) in LISTS {
        let items = match definitions.get(list) {
            None | Some(Json::Null) => continue,
            Some(Json::Array(items)) => items,
            Some(_) => bail!("'{list}' is not a list"),
        };
        for (at, item) in items.iter().enumerate() {
            let which = || match item["name"].as_str() {
                Some(name) => format!("{list}: '{name}'"),
                None => format!("{list}: the one at place {}", at + 1),
            };
            import(admin, item).with_context(which)?;
        }
        if !items.is_empty() {
            counts.insert(list.into(), items.len().into());
        }
    }
    tracing::info!(counts = %json!(counts), "definitions imported");
    Ok(counts.into())
}

/// Imports definitions of one vhost into another.
///
/// # Errors
/// As [`import`].
pub fn import_into(admin: &Admin, vhost: &str, definitions: &Json) -> anyhow::Result<Json> {
    let mut definitions = definitions.clone();
    let lists = definitions.as_object_mut().context("definitions are a JSON object")?;
    lists.retain(|list, _| ["parameters", "policies", "queues", "exchanges", "bindings"].contains(&list.as_str()));
    for item in lists.values_mut().filter_map(Json::as_array_mut).flatten().filter_map(Json::as_object_mut) {
        item.insert("vhost".into(), vhost.into());
    }
    import(admin, &definitions)
}

fn text<'a>(item: &'a Json, key: &str) -> anyhow::Result<&'a str> {
    item[key].as_str().ok_or_else(|| anyhow!("'{key}' is missing, or no text"))
}

fn name(item: &Json, key: &str) -> anyhow::Result<Name> {
    text(item, key).map(Name::from)
}

fn flag(item: &Json, key: &str) -> bool {
    item[key].as_bool().unwrap_or(false)
}

fn pattern(item: &Json, key: &str) -> anyhow::Result<Pattern> {
    Pattern::new(text(item, key)?).map_err(anyhow::Error::msg)
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn user(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let name = name(item, "name")?;
    let password_hash = match (item["password_hash"].as_str(), item["password"].as_str()) {
        (Some(""), _) | (None, None) => String::new(),
        (Some(hash), _) => admin.host.import_hash(hash, item["hashing_algorithm"].as_str())?,
        (None, Some(password)) => admin.host.hash_password(password, item["hashing_algorithm"].as_str())?,
    };
    let tags = match &item["tags"] {
        Json::Array(tags) => tags.iter().filter_map(Json::as_str).map(Name::from).collect(),
        // The form of older versions.
        Json::String(tags) => tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(Name::from).collect(),
        _ => Vec::new(),
    };
    let limits = item["limits"].as_object();
    if let Some(limits) = limits {
        check_limits(limits, &USER_LIMITS)?;
    }
    // What the user may do stands elsewhere in the document.
    admin.broker.change_user(&name, true, |user| {
        (user.password_hash, user.tags) = (password_hash, tags);
        if let Some(limits) = limits {
            let limits = limits.iter().filter_map(|(limit, value)| Some((limit.as_str().into(), value.as_i64()?)));
            user.limits = limits.collect();
        }
    });
    Ok(())
}

fn check_limits(limits: &Map<String, Json>, known: &[&str]) -> anyhow::Result<()> {
    for (limit, value) in limits {
        if !known.contains(&limit.as_str()) {
            bail!("there is no limit '{limit}'; there are {}", known.join(" and "));
        }
        if !value.is_i64() {
            bail!("the limit '{limit}' is no whole number");
        }
    }
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn vhost(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let name = name(item, "name")?;
    let mut metadata = item["metadata"].as_object().cloned().unwrap_or_default();
    for key in ["description", "tags", "default_queue_type"] {
        if !metadata.contains_key(key) && !item[key].is_null() {
            metadata.insert(key.into(), item[key].clone());
        }
    }
    if let Some(Json::String(tags)) = metadata.get("tags") {
        let tags: Vec<&str> = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect();
        metadata.insert("tags".into(), json!(tags));
    }
    if metadata.get("default_queue_type").and_then(Json::as_str).is_some_and(|kind| QueueType::parse(kind).is_none()) {
        metadata.remove("default_queue_type");
    }
    admin.broker.put_vhost(&name, table(&metadata));
    Ok(())
}

/// Changes a user who is there.
fn change(admin: &Admin, item: &Json, change: impl FnOnce(&mut User)) -> anyhow::Result<()> {
    let name = name(item, "user")?;
    if !admin.broker.change_user(&name, false, change) {
        bail!("there is no user '{name}'");
    }
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn permissions(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let (configure, write, read) = (pattern(item, "configure")?, pattern(item, "write")?, pattern(item, "read")?);
    let vhost = name(item, "vhost")?;
    change(admin, item, |user| {
        user.permissions.insert(vhost, Permissions { configure, write, read });
    })
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn topic_permissions(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let place = (name(item, "vhost")?, name(item, "exchange")?);
    let permissions = TopicPermissions { write: text(item, "write")?.into(), read: text(item, "read")?.into() };
    change(admin, item, |user| {
        user.topic_permissions.insert(place, permissions);
    })
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn global_parameter(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let (none, name) = (Name::from(""), name(item, "name")?);
    admin.broker.put_parameter(&none, &none, &name, value(&item["value"]));
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn parameter(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let (vhost, component) = (name(item, "vhost")?, name(item, "component")?);
    if component.as_str() == "operator_policy" {
        let mut operator = item["value"].clone();
        operator["vhost"] = vhost.as_str().into();
        operator["name"] = item["name"].clone();
        return policy(admin, &operator, PolicyKind::Operator);
    }
    if component.as_str() == "vhost-limits" {
        check_limits(item["value"].as_object().context("'value' is no object")?, &VHOST_LIMITS)?;
    }
    if component.as_str() == "federation-upstream"
        && !item["value"]["uri"].is_string()
        && !item["value"]["uri"].is_array()
    {
        bail!("Validation failed\n\nKey \"uri\" not found in federation-upstream\n");
    }
    admin.broker.put_parameter(&vhost, &component, &name(item, "name")?, value(&item["value"]));
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn policy(admin: &Admin, item: &Json, kind: PolicyKind) -> anyhow::Result<()> {
    let apply_to = item["apply-to"].as_str().unwrap_or("all");
    let definition = item["definition"].as_object().context("'definition' is missing, or no object")?;
    let policy = Policy {
        pattern: pattern(item, "pattern")?,
        apply_to: ApplyTo::parse(apply_to).with_context(|| format!("'apply-to' cannot be '{apply_to}'"))?,
        priority: item["priority"].as_i64().unwrap_or(0),
        definition: table(definition),
    };
    admin.broker.put_policy(text(item, "vhost")?, kind, &name(item, "name")?, policy).map_err(anyhow::Error::msg)?;
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn queue(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let operator = admin.broker.operator(text(item, "vhost")?)?;
    let mut arguments = arguments(item);
    if let (Some(kind), None) = (item["type"].as_str(), arguments.get("x-queue-type"))
        && kind != "classic"
    {
        arguments.push("x-queue-type", kind.into());
    }
    let (durable, auto_delete) = (flag(item, "durable"), flag(item, "auto_delete"));
    let declaration = QueueDeclaration { durable, exclusive: false, auto_delete, arguments };
    admin.broker.declare_queue(&operator, text(item, "name")?, declaration)?;
    Ok(())
}

/// Adds or changes one.
///
/// # Errors
/// If it makes no sense.
pub fn exchange(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let operator = admin.broker.operator(text(item, "vhost")?)?;
    let declaration = ExchangeDeclaration {
        kind: ExchangeKind::parse(text(item, "type")?)?,
        durable: flag(item, "durable"),
        auto_delete: flag(item, "auto_delete"),
        internal: flag(item, "internal"),
        arguments: arguments(item),
    };
    admin.broker.declare_exchange(&operator, text(item, "name")?, declaration)?;
    Ok(())
}

fn binding(admin: &Admin, item: &Json) -> anyhow::Result<()> {
    let source = text(item, "source")?;
    // Every queue is bound to the default exchange by its name, without anybody saying so.
    if source.is_empty() {
        return Ok(());
    }
    let operator = admin.broker.operator(text(item, "vhost")?)?;
    let to = text(item, "destination")?;
    let destination = match text(item, "destination_type")? {
        "queue" => End::Queue(to),
        "exchange" => End::Exchange(to),
        other => bail!("'destination_type' cannot be '{other}'"),
    };
    let (key, arguments) = (item["routing_key"].as_str().unwrap_or_default(), arguments(item));
    admin.broker.bind(&operator, BindingRequest { source, destination, key, arguments })?;
    Ok(())
}

fn arguments(item: &Json) -> Table {
    item["arguments"].as_object().map(table).unwrap_or_default()
}
