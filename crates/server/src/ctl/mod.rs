//! `roadstead ctl`: looks at a running broker and changes it, over the socket in its data directory, or from elsewhere by its
//! management API.
//!
//! The words are like those of RabbitMQ's `rabbitmqadmin`. What stands in scripts for that tool works by [`rabbitmqadmin`],
//! what stands there for `rabbitmqctl` by [`rabbitmqctl`].

mod checkup;
mod kinds;
mod link;
pub mod rabbitmqadmin;
pub mod rabbitmqctl;
mod table;

use std::{io::Write, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub use self::link::ask;
use self::{kinds::Kind, link::Link};
use crate::control::Request;

/// What to ask, and whom.
#[derive(Args)]
pub struct CtlOptions {
    /// Data directory of the broker, if it runs on this machine.
    #[arg(long, global = true, value_name = "DIR", default_value = "./roadstead-data")]
    data: PathBuf,
    /// Management API of a broker anywhere: http://USER:PASSWORD@HOST:15672, or https.
    #[arg(long, global = true, value_name = "URI", env = "ROADSTEAD_URI", hide_env_values = true)]
    uri: Option<String>,
    /// Authorities (PEM) that its certificate is trusted by. [default: the system's]
    #[arg(long, global = true, value_name = "FILE", requires = "uri")]
    ca: Option<PathBuf>,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How the broker is doing.
    Status,
    /// Look for what is wrong or soon will be: alarms, disk, memory, files, certificates, queues that nobody reads. Fails if
    /// something is.
    Doctor,
    /// List queues, exchanges, bindings, connections, channels, consumers, vhosts, users, permissions, policies, …
    List {
        /// What.
        kind: String,
        /// Columns to show, such as `name messages_ready`; a usual choice without any.
        columns: Vec<String>,
        /// Only what is in this vhost.
        #[arg(long)]
        vhost: Option<String>,
    },
    /// Show all that is known of one thing: `show queue name=orders`.
    Show(One),
    /// Declare or change something: `declare queue name=orders durable=true 'arguments={"x-max-length":1000}'`.
    Declare(One),
    /// Delete something: `delete queue name=orders`.
    Delete(One),
    /// Remove all messages that wait in a queue: `purge queue name=orders`.
    Purge(One),
    /// Close a connection: `close connection 'name=127.0.0.1:50000 -> 127.0.0.1:5672' reason=maintenance`.
    Close(One),
    /// Publish a message: `publish exchange=sales routing_key=order.paid payload=hello`.
    Publish {
        /// `exchange`, `routing_key`, `payload`, `payload_encoding` and `properties`, each as name=value.
        words: Vec<String>,
        /// The vhost.
        #[arg(long, default_value = "/")]
        vhost: String,
    },
    /// Look at messages of a queue: `get queue=orders count=5`. They stay, unless `ackmode=ack_requeue_false` says otherwise.
    Get {
        /// `queue`, `count`, `ackmode` and `encoding`, each as name=value.
        words: Vec<String>,
        /// The vhost.
        #[arg(long, default_value = "/")]
        vhost: String,
    },
    /// Ask the management API anything: `api GET /overview`, `api PUT /vhosts/test '{}'`.
    Api {
        /// GET, PUT, POST or DELETE.
        method: String,
        /// The path, without /api.
        path: String,
        /// JSON to send.
        body: Option<String>,
    },
    /// Copy the data directory, while the broker goes on. The copy is a data directory: restoring is starting on it.
    Backup {
        /// Where to: a directory that is empty or not there, best on the same file system.
        target: PathBuf,
    },
    /// Copy all that is published and delivered in a vhost to its exchange amq.rabbitmq.trace, until the broker ends or
    /// trace-off. Costs much: for looking at a problem.
    TraceOn(VhostName),
    /// End what trace-on began.
    TraceOff(VhostName),
    /// Commit a prepared XA transaction whose transaction manager does not come back; `list transactions` has their names.
    CommitTransaction(TransactionName),
    /// Roll such a transaction back.
    RollBackTransaction(TransactionName),
    /// Remove a policy. It no longer applies from that moment on.
    DeletePolicy(PolicyName),
    /// Remove an operator's policy.
    DeleteOperatorPolicy(PolicyName),
}

/// One thing, by its kind and name=value words.
#[derive(Args)]
struct One {
    /// What: queue, exchange, binding, vhost, user, permission, policy, parameter, …
    kind: String,
    /// Which, and how it is to be, as name=value.
    words: Vec<String>,
    /// The vhost.
    #[arg(long, default_value = "/")]
    vhost: String,
}

#[derive(Args)]
struct VhostName {
    /// The vhost.
    #[arg(long, default_value = "/")]
    vhost: String,
}

#[derive(Args)]
struct TransactionName {
    /// The vhost that it is in.
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Its name.
    name: String,
}

impl TransactionName {
    fn end(&self, link: &Link, decision: &str) -> anyhow::Result<Value> {
        let Self { vhost, name } = self;
        let path = format!("/transactions/{}/{}/{decision}", kinds::quoted(vhost), kinds::quoted(name));
        link.call("PUT", &path, None)?;
        Ok(json!({ "transaction": name, "ended by": decision }))
    }
}

#[derive(Args)]
struct PolicyName {
    /// The vhost that it is in.
    #[arg(long, default_value = "/")]
    vhost: String,
    /// Its name.
    name: String,
}

impl PolicyName {
    fn delete(&self, link: &Link, policies: &str) -> anyhow::Result<Value> {
        let Self { vhost, name } = self;
        link.call("DELETE", &format!("/{policies}/{}/{}", kinds::quoted(vhost), kinds::quoted(name)), None)?;
        Ok(json!({ "deleted": name }))
    }
}

impl VhostName {
    fn trace(&self, link: &Link, method: &str) -> anyhow::Result<Value> {
        link.call(method, &format!("/vhosts/{}/tracing", kinds::quoted(&self.vhost)), None)?;
        Ok(json!({ "vhost": self.vhost, "traced": method == "PUT" }))
    }
}

impl CtlOptions {
    fn link(&self) -> anyhow::Result<Link> {
        match &self.uri {
            Some(uri) => Link::remote(uri, self.ca.as_deref()),
            None => Ok(Link::Local(self.data.clone())),
        }
    }
}

/// Asks and prints the answer.
///
/// # Errors
/// If no broker answers, or it cannot do what it is asked.
pub fn run(options: &CtlOptions) -> anyhow::Result<()> {
    let link = options.link()?;
    let mut out = std::io::stdout().lock();
    match &options.command {
        Command::Doctor => checkup::run(&mut out, &link, options.json),
        Command::List { kind, columns, vhost } => {
            let kind = kinds::find(kind)?;
            let rows = link.get(&kind.list_path(vhost.as_deref()))?;
            list(&mut out, &rows, kind, columns, options.json)
        }
        command => say(&mut out, &change(&link, command)?, options.json),
    }
}

const BACKUP_ELSEWHERE: &str =
    "a backup is written by the broker into its own file system; run this on its machine, with --data";

/// Does what is one request of the management API, or a few.
fn change(link: &Link, command: &Command) -> anyhow::Result<Value> {
    match command {
        Command::Status => link.status(),
        Command::Backup { target } => {
            let Link::Local(data) = link else { bail!(BACKUP_ELSEWHERE) };
            // The broker's working directory may be another.
            ask(data, &Request::Backup { target: std::path::absolute(target)? })
        }
        Command::TraceOn(vhost) => vhost.trace(link, "PUT"),
        Command::TraceOff(vhost) => vhost.trace(link, "DELETE"),
        Command::CommitTransaction(transaction) => transaction.end(link, "commit"),
        Command::RollBackTransaction(transaction) => transaction.end(link, "rollback"),
        Command::DeletePolicy(policy) => policy.delete(link, "policies"),
        Command::DeleteOperatorPolicy(policy) => policy.delete(link, "operator-policies"),
        Command::Show(one) if one.kind == "overview" => link.get("/overview"),
        Command::Show(one) => link.get(&one.resolve()?.1),
        Command::Declare(one) => {
            let (kind, path, given) = one.resolve()?;
            kind.check(&given)?;
            let method = if kind.name == "binding" { "POST" } else { "PUT" };
            link.call(method, &path, Some(given.into()))?;
            Ok(json!({ "declared": kind.name }))
        }
        Command::Delete(one) => {
            let (kind, mut path, mut given) = one.resolve()?;
            if kind.name == "binding" {
                let key = given.remove("properties_key").and_then(|key| key.as_str().map(str::to_owned));
                path = format!("{path}/{}", kinds::quoted(key.as_deref().unwrap_or("~")));
            }
            link.call("DELETE", &path, None)?;
            Ok(json!({ "deleted": kind.name }))
        }
        Command::Purge(one) => {
            link.call("DELETE", &format!("{}/contents", one.resolve()?.1), None)?;
            Ok(json!({ "purged": one.kind }))
        }
        Command::Close(one) => {
            link.call("DELETE", &one.resolve()?.1, None)?;
            Ok(json!({ "closed": one.kind }))
        }
        Command::Publish { words, vhost } => {
            let mut given = kinds::pairs(words)?;
            let exchange = given.remove("exchange").and_then(|name| name.as_str().map(str::to_owned));
            let exchange = exchange.filter(|name| !name.is_empty()).unwrap_or_else(|| "amq.default".into());
            kinds::with_default(&mut given, "payload", "".into());
            kinds::with_default(&mut given, "payload_encoding", "string".into());
            kinds::with_default(&mut given, "properties", kinds::empty());
            let path = format!("/exchanges/{}/{}/publish", kinds::quoted(vhost), kinds::quoted(&exchange));
            link.call("POST", &path, Some(given.into()))
        }
        Command::Get { words, vhost } => {
            let mut given = kinds::pairs(words)?;
            let queue = given.remove("queue").and_then(|name| name.as_str().map(str::to_owned));
            let queue = queue.context("queue=… is missing")?;
            kinds::with_default(&mut given, "count", 1.into());
            kinds::with_default(&mut given, "ackmode", "ack_requeue_true".into());
            kinds::with_default(&mut given, "encoding", "auto".into());
            let path = format!("/queues/{}/{}/get", kinds::quoted(vhost), kinds::quoted(&queue));
            link.call("POST", &path, Some(given.into()))
        }
        Command::Api { method, path, body } => {
            let body = body.as_deref().map(serde_json::from_str).transpose().context("the body is not JSON")?;
            link.call(&method.to_uppercase(), path, body)
        }
        Command::Doctor | Command::List { .. } => Ok(Value::Null),
    }
}

impl One {
    /// The kind, the path of the one, and what else is said of it.
    fn resolve(&self) -> anyhow::Result<(&'static Kind, String, serde_json::Map<String, Value>)> {
        let kind = kinds::find(&self.kind)?;
        let mut given = kinds::pairs(&self.words)?;
        let path = kind.path(&mut given, &self.vhost)?;
        Ok((kind, path, given))
    }
}

fn list(out: &mut impl Write, rows: &Value, kind: &Kind, columns: &[String], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        writeln!(out, "{rows:#}")?;
        return Ok(());
    }
    let usual = || kind.columns.iter().map(|column| (*column).to_owned()).collect();
    let columns = if columns.is_empty() { usual() } else { columns.to_vec() };
    table::aligned(out, rows.as_array().map_or(&[][..], Vec::as_slice), &columns)?;
    Ok(())
}

fn say(out: &mut impl Write, answer: &Value, as_json: bool) -> anyhow::Result<()> {
    match answer {
        _ if as_json => writeln!(out, "{answer:#}")?,
        Value::Null => {}
        Value::Object(_) => table::described(out, answer)?,
        other => writeln!(out, "{other:#}")?,
    }
    Ok(())
}
