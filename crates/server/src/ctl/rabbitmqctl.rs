//! `rabbitmqctl`'s words for what the management API can do, so that scripts carry over. A link named `rabbitmqctl` to this
//! binary works like `roadstead rabbitmqctl`.

use std::{ffi::OsString, io::Write, path::PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    kinds::quoted,
    link::{Link, Refused},
    table,
};

/// A verb and its words, as `rabbitmqctl` takes them.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct RabbitmqctlOptions {
    /// The verb and its words; `help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// The verbs, with the words that they take.
const VERBS: [(&str, &str); 45] = [
    ("add_user", "NAME PASSWORD"),
    ("add_vhost", "NAME [--description TEXT] [--tags TAGS] [--default-queue-type TYPE]"),
    ("authenticate_user", "NAME PASSWORD"),
    ("await_startup", ""),
    ("change_password", "NAME PASSWORD"),
    ("clear_operator_policy", "[-p VHOST] NAME"),
    ("clear_parameter", "[-p VHOST] COMPONENT NAME"),
    ("clear_password", "NAME"),
    ("clear_permissions", "[-p VHOST] USER"),
    ("clear_policy", "[-p VHOST] NAME"),
    ("clear_topic_permissions", "[-p VHOST] USER [EXCHANGE]"),
    ("clear_vhost_limits", "[-p VHOST]"),
    ("close_all_connections", "[-p VHOST] REASON"),
    ("close_connection", "NAME REASON"),
    ("cluster_status", ""),
    ("delete_queue", "[-p VHOST] NAME [--if-empty] [--if-unused]"),
    ("delete_user", "NAME"),
    ("delete_vhost", "NAME"),
    ("export_definitions", "FILE"),
    ("import_definitions", "FILE"),
    ("list_bindings", "[-p VHOST] [COLUMN …]"),
    ("list_channels", "[COLUMN …]"),
    ("list_connections", "[COLUMN …]"),
    ("list_consumers", "[-p VHOST] [COLUMN …]"),
    ("list_exchanges", "[-p VHOST] [COLUMN …]"),
    ("list_operator_policies", "[-p VHOST]"),
    ("list_parameters", "[-p VHOST]"),
    ("list_permissions", "[-p VHOST]"),
    ("list_policies", "[-p VHOST]"),
    ("list_queues", "[-p VHOST] [COLUMN …]"),
    ("list_topic_permissions", "[-p VHOST]"),
    ("list_user_permissions", "USER"),
    ("list_users", ""),
    ("list_vhost_limits", "[-p VHOST]"),
    ("list_vhosts", "[COLUMN …]"),
    ("ping", ""),
    ("purge_queue", "[-p VHOST] NAME"),
    ("set_operator_policy", "[-p VHOST] [--priority N] [--apply-to WHAT] NAME PATTERN DEFINITION"),
    ("set_parameter", "[-p VHOST] COMPONENT NAME VALUE"),
    ("set_permissions", "[-p VHOST] USER CONFIGURE WRITE READ"),
    ("set_policy", "[-p VHOST] [--priority N] [--apply-to WHAT] NAME PATTERN DEFINITION"),
    ("set_topic_permissions", "[-p VHOST] USER EXCHANGE WRITE READ"),
    ("set_user_tags", "NAME [TAG …]"),
    ("set_vhost_limits", "[-p VHOST] LIMITS"),
    ("status", ""),
];

/// The binary's arguments, with the subcommand in front if the binary was called by the name of one of RabbitMQ's tools.
pub fn by_name(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().map(PathBuf::from);
    let name = name.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    let Some(tool) = name.filter(|name| ["rabbitmqctl", "rabbitmqadmin"].contains(name)) else { return arguments };
    let mut changed: Vec<OsString> = vec!["roadstead".into(), tool.into()];
    changed.extend(arguments.into_iter().skip(1));
    changed
}

/// What was asked for: words, and the options that stand anywhere between them.
struct Call {
    data: PathBuf,
    /// A management API, if it is not the broker of this data directory.
    uri: Option<String>,
    vhost: String,
    quiet: bool,
    head: bool,
    as_json: bool,
    options: Map<String, Value>,
    words: Vec<String>,
}

impl Call {
    fn read(words: &[String]) -> anyhow::Result<Self> {
        let data = std::env::var_os("ROADSTEAD_DATA").map_or_else(|| "./roadstead-data".into(), PathBuf::from);
        let (quiet, head, as_json) = (false, true, false);
        let (options, vhost) = (Map::new(), "/".to_owned());
        let uri = std::env::var("ROADSTEAD_URI").ok();
        let mut call = Self { data, uri, vhost, quiet, head, as_json, options, words: Vec::new() };
        let mut rest = words.iter().cloned();
        while let Some(word) = rest.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word.clone(), None),
            };
            let mut value = || inline.clone().or_else(|| rest.next()).with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "-p" | "--vhost" => call.vhost = value()?,
                "--data" => (call.data, call.uri) = (value()?.into(), None),
                "--uri" => call.uri = Some(value()?),
                "-q" | "--quiet" => call.quiet = true,
                "-s" | "--silent" => (call.quiet, call.head) = (true, false),
                "--no-table-headers" => call.head = false,
                "--formatter" => call.as_json = value()? == "json",
                "-h" | "--help" => call.words.insert(0, "help".into()),
                // Which node, and how long to wait for it: there is one, and it answers.
                "-n" | "--node" | "-t" | "--timeout" => drop(value()?),
                "-l" | "--longnames" | "--offline" | "--online" | "--local" => {}
                "--if-empty" | "--if-unused" => drop(call.options.insert(name[2..].into(), "true".into())),
                "--priority" | "--apply-to" | "--description" | "--tags" | "--default-queue-type" => {
                    let value = value()?;
                    call.options.insert(name[2..].into(), value.into());
                }
                other if other.starts_with("--") => bail!("there is no option {other}"),
                _ => call.words.push(word),
            }
        }
        Ok(call)
    }

    /// Exactly so many words.
    fn exactly<const N: usize>(&self) -> anyhow::Result<[&str; N]> {
        let words: Vec<&str> = self.words[1..].iter().map(String::as_str).collect();
        words.try_into().map_err(|_| {
            let verb = &self.words[0];
            let usage = VERBS.iter().find(|(name, _)| name == verb).map_or("", |(_, usage)| usage);
            anyhow::anyhow!("usage: rabbitmqctl {verb} {usage}")
        })
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(Value::as_str)
    }
}

/// Does what a verb says.
///
/// # Errors
/// If there is no such verb, or the broker refuses.
pub fn run(options: &RabbitmqctlOptions) -> anyhow::Result<()> {
    let call = Call::read(&options.words)?;
    let mut out = std::io::stdout().lock();
    let Some(verb) = call.words.first().filter(|verb| *verb != "help" && !verb.starts_with('-')) else {
        for (verb, words) in VERBS {
            writeln!(out, "rabbitmqctl {verb} {words}")?;
        }
        return Ok(());
    };
    if !VERBS.iter().any(|(name, _)| name == verb) {
        bail!("there is no verb '{verb}'; `rabbitmqctl help` lists those that there are");
    }
    let link = match &call.uri {
        Some(uri) => Link::remote(uri, None)?,
        None => Link::Local(call.data.clone()),
    };
    if let Some(kind) = verb.strip_prefix("list_") {
        return list(&mut out, &link, &call, kind);
    }
    if let Some(said) = act(&link, &call, verb)? {
        writeln!(out, "{said}")?;
    }
    Ok(())
}

/// The columns that `rabbitmqctl` shows if nobody says which.
fn usual(kind: &str) -> &'static [&'static str] {
    match kind {
        "queues" => &["name", "messages"],
        "exchanges" => &["name", "type"],
        "bindings" => &["source", "destination_type", "destination", "routing_key", "arguments"],
        "connections" => &["user", "peer_host", "peer_port", "state"],
        "channels" => &["name", "user", "consumer_count", "messages_unacknowledged"],
        "consumers" => {
            &["queue.name", "channel_details.name", "consumer_tag", "ack_required", "prefetch_count", "active"]
        }
        "users" => &["user", "tags"],
        "vhosts" => &["name"],
        "permissions" => &["user", "configure", "write", "read"],
        "user_permissions" => &["vhost", "configure", "write", "read"],
        "topic_permissions" => &["user", "exchange", "write", "read"],
        "policies" | "operator_policies" => &["vhost", "name", "pattern", "apply-to", "definition", "priority"],
        "parameters" => &["component", "name", "value"],
        _ => &["vhost", "value"],
    }
}

fn list(out: &mut impl Write, link: &Link, call: &Call, kind: &str) -> anyhow::Result<()> {
    let vhost = quoted(&call.vhost);
    let path = match kind {
        "users" | "vhosts" | "connections" | "channels" => format!("/{kind}"),
        "permissions" => format!("/vhosts/{vhost}/permissions"),
        "topic_permissions" => format!("/vhosts/{vhost}/topic-permissions"),
        "user_permissions" => format!("/users/{}/permissions", quoted(call.exactly::<1>()?[0])),
        "parameters" => "/parameters".into(),
        kind => format!("/{}/{vhost}", kind.replace('_', "-")),
    };
    let mut rows = link.get(&path)?;
    let rows: Vec<Value> = rows.as_array_mut().map(std::mem::take).unwrap_or_default();
    let is_in_vhost = |row: &Value| kind != "parameters" || row["vhost"] == *call.vhost;
    let named = |mut row: Value| {
        if kind == "users" {
            row["user"] = row["name"].clone();
        }
        row
    };
    let rows: Vec<Value> = rows.into_iter().filter(is_in_vhost).map(named).collect();
    let given = if kind == "user_permissions" { &[][..] } else { &call.words[1..] };
    let usual = usual(kind).iter().map(|column| (*column).to_owned()).collect();
    let columns: Vec<String> = if given.is_empty() { usual } else { given.to_vec() };
    if call.as_json {
        let picked = |row: &Value| -> Value {
            columns.iter().map(|column| (column.clone(), row[column].clone())).collect::<Map<_, _>>().into()
        };
        writeln!(out, "{}", Value::from(rows.iter().map(picked).collect::<Vec<_>>()))?;
        return Ok(());
    }
    if !call.quiet {
        eprintln!("Listing {} ...", kind.replace('_', " "));
    }
    table::tabbed(out, &rows, &columns, call.head)?;
    Ok(())
}

/// Does one thing; says something of it if there is something to say.
fn act(link: &Link, call: &Call, verb: &str) -> anyhow::Result<Option<String>> {
    let vhost = quoted(&call.vhost);
    match verb {
        "status" | "cluster_status" => return Ok(Some(format!("{:#}", link.status()?))),
        "ping" | "await_startup" => {
            link.get("/whoami")?;
            return Ok(Some("Ping succeeded".into()).filter(|_| verb == "ping" && !call.quiet));
        }
        "export_definitions" => {
            let [file] = call.exactly()?;
            let text = format!("{:#}\n", link.get("/definitions")?);
            std::fs::write(file, text).with_context(|| format!("cannot write {file}"))?;
        }
        "close_all_connections" => {
            let [_reason] = call.exactly()?;
            let connections = link.get(&format!("/vhosts/{vhost}/connections"))?;
            for name in connections.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()) {
                link.call("DELETE", &format!("/connections/{}", quoted(name)), None)?;
            }
        }
        "clear_vhost_limits" => {
            for limit in ["max-connections", "max-queues"] {
                link.call("DELETE", &format!("/vhost-limits/{vhost}/{limit}"), None)?;
            }
        }
        "set_vhost_limits" => {
            let [limits] = call.exactly()?;
            let limits: Map<String, Value> = serde_json::from_str(limits).context("the limits are no JSON object")?;
            for (limit, value) in limits {
                link.call("PUT", &format!("/vhost-limits/{vhost}/{limit}"), Some(json!({ "value": value })))?;
            }
        }
        "add_user" if link.get(&format!("/users/{}", quoted(call.exactly::<2>()?[0]))).is_ok() => {
            bail!("user \"{}\" already exists", call.exactly::<2>()?[0]);
        }
        "change_password" | "clear_password" | "set_user_tags" => user(link, call, verb)?,
        _ => request(link, call, verb)?,
    }
    Ok(None)
}

/// Does what is one request.
fn request(link: &Link, call: &Call, verb: &str) -> anyhow::Result<()> {
    let (method, path, body) = match identity(call, verb)? {
        Some(said) => said,
        None => objects(call, verb)?,
    };
    match link.call(method, &path, body) {
        Ok(_) => Ok(()),
        // To clear what is not there is no failure to `rabbitmqctl`.
        Err(error) if is_missing(&error) && verb.starts_with("clear_") => Ok(()),
        Err(error) => Err(error),
    }
}

/// The verbs that are about users, vhosts and permissions.
fn identity(call: &Call, verb: &str) -> anyhow::Result<Option<Said>> {
    let vhost = quoted(&call.vhost);
    Ok(Some(match verb {
        "import_definitions" => {
            let [file] = call.exactly()?;
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
            let body = serde_json::from_str(&text).with_context(|| format!("{file} is not JSON"))?;
            ("POST", "/definitions".to_owned(), Some(body))
        }
        "add_user" => {
            let [name, password] = call.exactly()?;
            ("PUT", format!("/users/{}", quoted(name)), Some(json!({ "password": password, "tags": "" })))
        }
        "authenticate_user" => {
            let [name, password] = call.exactly()?;
            ("POST", "/auth/check".to_owned(), Some(json!({ "name": name, "password": password })))
        }
        "delete_user" => ("DELETE", format!("/users/{}", quoted(call.exactly::<1>()?[0])), None),
        "add_vhost" => {
            let [name] = call.exactly()?;
            let text = |option| call.option(option).map(Value::from).unwrap_or_default();
            let body = json!({
                "description": text("description"),
                "tags": text("tags"),
                "default_queue_type": text("default-queue-type"),
            });
            ("PUT", format!("/vhosts/{}", quoted(name)), Some(body))
        }
        "delete_vhost" => ("DELETE", format!("/vhosts/{}", quoted(call.exactly::<1>()?[0])), None),
        "set_permissions" => {
            let [user, configure, write, read] = call.exactly()?;
            let body = json!({ "configure": configure, "write": write, "read": read });
            ("PUT", format!("/permissions/{vhost}/{}", quoted(user)), Some(body))
        }
        "clear_permissions" => ("DELETE", format!("/permissions/{vhost}/{}", quoted(call.exactly::<1>()?[0])), None),
        _ => return Ok(None),
    }))
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404)
}

/// What a request says: method, path and body.
type Said = (&'static str, String, Option<Value>);

/// The verbs that are about policies, parameters, topics, queues and connections.
fn objects(call: &Call, verb: &str) -> anyhow::Result<Said> {
    let vhost = quoted(&call.vhost);
    let policies = if verb.contains("operator") { "operator-policies" } else { "policies" };
    Ok(match verb {
        "set_policy" | "set_operator_policy" => {
            let [name, pattern, definition] = call.exactly()?;
            let definition: Value = serde_json::from_str(definition).context("the definition is not JSON")?;
            let priority = call.option("priority").map_or(Ok(0), str::parse).context("the priority is no number")?;
            let apply_to = call.option("apply-to").unwrap_or("all");
            let body = json!({ "pattern": pattern, "definition": definition, "priority": priority as i64, "apply-to": apply_to });
            ("PUT", format!("/{policies}/{vhost}/{}", quoted(name)), Some(body))
        }
        "clear_policy" | "clear_operator_policy" => {
            ("DELETE", format!("/{policies}/{vhost}/{}", quoted(call.exactly::<1>()?[0])), None)
        }
        "set_parameter" => {
            let [component, name, value] = call.exactly()?;
            let value: Value = serde_json::from_str(value).context("the value is not JSON")?;
            let path = format!("/parameters/{}/{vhost}/{}", quoted(component), quoted(name));
            ("PUT", path, Some(json!({ "value": value })))
        }
        "clear_parameter" => {
            let [component, name] = call.exactly()?;
            ("DELETE", format!("/parameters/{}/{vhost}/{}", quoted(component), quoted(name)), None)
        }
        "set_topic_permissions" => {
            let [user, exchange, write, read] = call.exactly()?;
            let body = json!({ "exchange": exchange, "write": write, "read": read });
            ("PUT", format!("/topic-permissions/{vhost}/{}", quoted(user)), Some(body))
        }
        "clear_topic_permissions" => {
            let user = quoted(call.words.get(1).context("usage: rabbitmqctl clear_topic_permissions USER [EXCHANGE]")?);
            let exchange = call.words.get(2).map(|exchange| format!("/{}", quoted(exchange))).unwrap_or_default();
            ("DELETE", format!("/topic-permissions/{vhost}/{user}{exchange}"), None)
        }
        "delete_queue" => {
            let rules: Vec<_> = call.options.keys().map(|rule| format!("{rule}=true")).collect();
            let path = format!("/queues/{vhost}/{}?{}", quoted(call.exactly::<1>()?[0]), rules.join("&"));
            ("DELETE", path, None)
        }
        "purge_queue" => ("DELETE", format!("/queues/{vhost}/{}/contents", quoted(call.exactly::<1>()?[0])), None),
        "close_connection" => {
            let [name, _reason] = call.exactly()?;
            ("DELETE", format!("/connections/{}", quoted(name)), None)
        }
        other => bail!("'{other}' cannot be done here"),
    })
}

/// Changes one thing of a user and leaves the others as they are.
fn user(link: &Link, call: &Call, verb: &str) -> anyhow::Result<()> {
    let name = call.words.get(1).with_context(|| format!("usage: rabbitmqctl {verb} NAME …"))?;
    let path = format!("/users/{}", quoted(name));
    let known = link.get(&path)?;
    let mut body = json!({
        "password_hash": known["password_hash"], "hashing_algorithm": known["hashing_algorithm"], "tags": known["tags"],
    });
    match verb {
        "change_password" => {
            let [_, password] = call.exactly()?;
            body = json!({ "password": password, "tags": known["tags"] });
        }
        "clear_password" => body = json!({ "password_hash": "", "tags": known["tags"] }),
        _ => body["tags"] = kinds_of(&call.words[2..]),
    }
    link.call("PUT", &path, Some(body))?;
    Ok(())
}

/// Tags, which may stand in one word with commas or spaces between them.
fn kinds_of(words: &[String]) -> Value {
    let tags = words.iter().flat_map(|word| word.split([',', ' '])).map(str::trim).filter(|tag| !tag.is_empty());
    tags.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &str) -> Call {
        Call::read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_stand_anywhere() {
        let read = call("-q list_queues -p v name --formatter=json messages -n a@b");
        assert_eq!((read.words.join(" ").as_str(), read.vhost.as_str()), ("list_queues name messages", "v"));
        assert!(read.quiet && read.as_json);
        assert!(Call::read(&["--nonsense".into()]).is_err());
        assert!(call("add_user a").exactly::<2>().unwrap_err().to_string().contains("add_user NAME PASSWORD"));
    }

    #[test]
    fn a_link_is_a_verb() {
        let called = by_name(vec!["/usr/bin/rabbitmqctl".into(), "status".into()]);
        assert_eq!(called, ["roadstead", "rabbitmqctl", "status"].map(OsString::from));
        assert_eq!(by_name(vec!["roadstead".into()]), [OsString::from("roadstead")]);
    }

    #[test]
    fn verbs_are_in_order_and_say_what_they_take() {
        assert!(VERBS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
