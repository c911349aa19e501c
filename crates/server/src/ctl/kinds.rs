//! The kinds of things that a broker has, and how the management API knows them: where they are listed and declared, and which
//! words say which one.

use anyhow::{Context, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

/// A kind of things.
pub struct Kind {
    /// Its name, for one of them.
    pub name: &'static str,
    /// Its name for many.
    pub plural: &'static str,
    /// Where they are listed.
    pub list: &'static str,
    /// Whether the list of one vhost is at the vhost's name behind that.
    pub by_vhost: bool,
    /// What is shown of them, if nobody says.
    pub columns: &'static [&'static str],
    /// Where one is; words in braces stand for what is given. Nothing if there is no such place.
    pub one: Option<&'static str>,
    /// What must be given to declare one, beside what stands in its path.
    pub needs: &'static [&'static str],
}

const fn kind(
    (name, plural): (&'static str, &'static str),
    (list, by_vhost): (&'static str, bool),
    columns: &'static [&'static str],
    one: Option<&'static str>,
    needs: &'static [&'static str],
) -> Kind {
    Kind { name, plural, list, by_vhost, columns, one, needs }
}

/// All of them.
pub const KINDS: [Kind; 20] = [
    kind(
        ("queue", "queues"),
        ("/queues", true),
        &["vhost", "name", "type", "messages_ready", "messages_unacknowledged", "consumers", "state"],
        Some("/queues/{vhost}/{name}"),
        &[],
    ),
    kind(
        ("exchange", "exchanges"),
        ("/exchanges", true),
        &["vhost", "name", "type", "durable"],
        Some("/exchanges/{vhost}/{name}"),
        &["type"],
    ),
    kind(
        ("binding", "bindings"),
        ("/bindings", true),
        &["vhost", "source", "destination_type", "destination", "routing_key", "properties_key"],
        Some("/bindings/{vhost}/e/{source}/{destination_type}/{destination}"),
        &[],
    ),
    kind(
        ("vhost", "vhosts"),
        ("/vhosts", false),
        &["name", "description", "messages", "tracing"],
        Some("/vhosts/{name}"),
        &[],
    ),
    kind(("user", "users"), ("/users", false), &["name", "tags"], Some("/users/{name}"), &["tags"]),
    kind(
        ("permission", "permissions"),
        ("/permissions", false),
        &["vhost", "user", "configure", "write", "read"],
        Some("/permissions/{vhost}/{user}"),
        &["configure", "write", "read"],
    ),
    kind(
        ("topic_permission", "topic_permissions"),
        ("/topic-permissions", false),
        &["vhost", "user", "exchange", "write", "read"],
        Some("/topic-permissions/{vhost}/{user}"),
        &["exchange", "write", "read"],
    ),
    kind(
        ("policy", "policies"),
        ("/policies", true),
        &["vhost", "name", "pattern", "apply-to", "priority", "definition"],
        Some("/policies/{vhost}/{name}"),
        &["pattern", "definition"],
    ),
    kind(
        ("operator_policy", "operator_policies"),
        ("/operator-policies", true),
        &["vhost", "name", "pattern", "apply-to", "priority", "definition"],
        Some("/operator-policies/{vhost}/{name}"),
        &["pattern", "definition"],
    ),
    kind(
        ("parameter", "parameters"),
        ("/parameters", false),
        &["vhost", "component", "name", "value"],
        Some("/parameters/{component}/{vhost}/{name}"),
        &["value"],
    ),
    kind(
        ("global_parameter", "global_parameters"),
        ("/global-parameters", false),
        &["name", "value"],
        Some("/global-parameters/{name}"),
        &["value"],
    ),
    kind(
        ("vhost_limit", "vhost_limits"),
        ("/vhost-limits", true),
        &["vhost", "value"],
        Some("/vhost-limits/{vhost}/{name}"),
        &["value"],
    ),
    kind(
        ("user_limit", "user_limits"),
        ("/user-limits", false),
        &["user", "value"],
        Some("/user-limits/{user}/{name}"),
        &["value"],
    ),
    kind(
        ("connection", "connections"),
        ("/connections", false),
        &["name", "user", "vhost", "protocol", "channels", "state"],
        Some("/connections/{name}"),
        &[],
    ),
    kind(
        ("channel", "channels"),
        ("/channels", false),
        &["name", "user", "consumer_count", "messages_unacknowledged", "prefetch_count"],
        Some("/channels/{name}"),
        &[],
    ),
    kind(
        ("consumer", "consumers"),
        ("/consumers", true),
        &["queue.vhost", "queue.name", "consumer_tag", "ack_required", "prefetch_count", "active"],
        None,
        &[],
    ),
    kind(
        ("node", "nodes"),
        ("/nodes", false),
        &["name", "mem_used", "fd_used", "disk_free", "uptime"],
        Some("/nodes/{name}"),
        &[],
    ),
    kind(
        ("session", "sessions"),
        ("/mqtt/sessions", false),
        &["vhost", "client_id", "user", "protocol", "connected", "in_flight"],
        None,
        &[],
    ),
    kind(
        ("transaction", "transactions"),
        ("/transactions", false),
        &["vhost", "name", "user", "messages", "acknowledged"],
        None,
        &[],
    ),
    kind(("feature_flag", "feature_flags"), ("/feature-flags", false), &["name", "state"], None, &[]),
];

/// The kind with a name, for one or for many.
///
/// # Errors
/// If there is none; the text names those that there are.
pub fn find(name: &str) -> anyhow::Result<&'static Kind> {
    let name = name.replace('-', "_");
    let found = KINDS.iter().find(|kind| kind.name == name || kind.plural == name);
    found.with_context(|| format!("there is no '{name}'; there are {}", KINDS.map(|kind| kind.plural).join(", ")))
}

/// A name as a part of a path.
pub fn quoted(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// `name=value` words as an object, with values of the types that the API wants.
///
/// # Errors
/// If a word is no pair, or a value is not of its type.
pub fn pairs(words: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut pairs = Map::new();
    for word in words {
        let (name, value) = word.split_once('=').with_context(|| format!("'{word}' is not of the form name=value"))?;
        pairs.insert(name.into(), typed(name, value)?);
    }
    Ok(pairs)
}

fn typed(name: &str, value: &str) -> anyhow::Result<Value> {
    match name {
        "durable" | "auto_delete" | "internal" | "tracing" | "requeue" => match value {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            other => bail!("{name} is '{other}'; it can be true or false"),
        },
        "arguments" | "definition" | "value" | "properties" => {
            serde_json::from_str(value).with_context(|| format!("{name} is not JSON"))
        }
        "priority" | "count" | "truncate" => {
            value.parse::<i64>().map(Into::into).with_context(|| format!("{name} is no number"))
        }
        _ => Ok(value.into()),
    }
}

impl Kind {
    /// The path of one, with what is given; what stands in the path is taken out of the rest.
    ///
    /// # Errors
    /// If something is missing.
    pub fn path(&self, given: &mut Map<String, Value>, vhost: &str) -> anyhow::Result<String> {
        let template = self.one.with_context(|| format!("one {} cannot be named", self.name))?;
        let mut path = String::new();
        for part in template.split('/').skip(1) {
            path.push('/');
            let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
                path.push_str(part);
                continue;
            };
            let value = given.remove(name).and_then(|value| value.as_str().map(str::to_owned));
            let value = match (name, value) {
                ("destination_type", value) => value.unwrap_or_else(|| "queue".into()).chars().take(1).collect(),
                ("source", Some(value)) if value.is_empty() => "amq.default".into(),
                (_, Some(value)) => quoted(&value),
                ("vhost", None) => quoted(vhost),
                (_, None) => bail!("{name}=… is missing"),
            };
            path.push_str(&value);
        }
        Ok(path)
    }

    /// Checks that nothing is missing that a declaration needs.
    ///
    /// # Errors
    /// For the first that is.
    pub fn check(&self, given: &Map<String, Value>) -> anyhow::Result<()> {
        match self.needs.iter().find(|need| !given.contains_key(**need)) {
            Some(missing) => bail!("{missing}=… is missing"),
            None => Ok(()),
        }
    }

    /// Where those of a vhost are listed, or all.
    pub fn list_path(&self, vhost: Option<&str>) -> String {
        match vhost.filter(|_| self.by_vhost) {
            Some(vhost) => format!("{}/{}", self.list, quoted(vhost)),
            None => self.list.into(),
        }
    }
}

/// An object with what a command says, with something added that it need not say.
pub fn with_default(given: &mut Map<String, Value>, name: &str, value: Value) {
    given.entry(name).or_insert(value);
}

/// Nothing but an object.
pub fn empty() -> Value {
    json!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(kind: &str, words: &[&str]) -> anyhow::Result<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        find(kind)?.path(&mut pairs(&words)?, "/")
    }

    #[test]
    fn paths_are_made_of_words() {
        assert_eq!(path("queue", &["name=a b"]).unwrap(), "/queues/%2F/a%20b");
        assert_eq!(path("queues", &["name=a", "vhost=v/w"]).unwrap(), "/queues/v%2Fw/a");
        let binding = ["source=x", "destination=y", "destination_type=exchange"];
        assert_eq!(path("binding", &binding).unwrap(), "/bindings/%2F/e/x/e/y");
        assert_eq!(path("queue", &[]).unwrap_err().to_string(), "name=… is missing");
        assert!(path("thing", &[]).unwrap_err().to_string().contains("operator_policies"));
    }

    #[test]
    fn values_have_types() {
        let given = pairs(&["durable=false".into(), "arguments={\"a\":1}".into(), "name=1".into()]).unwrap();
        assert_eq!(Value::from(given), json!({ "durable": false, "arguments": { "a": 1 }, "name": "1" }));
        for word in ["durable=maybe", "arguments={", "priority=high", "alone"] {
            assert!(pairs(&[word.into()]).is_err(), "{word}");
        }
    }
}
