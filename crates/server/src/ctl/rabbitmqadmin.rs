//! `rabbitmqadmin`'s words, of the tool in Python that a RabbitMQ 3 gives away and of its successor, so that scripts carry over.
//! A link named `rabbitmqadmin` to this binary works like `roadstead rabbitmqadmin`.
//!
//! Both have a verb, a kind, and what is said of it: `name=orders` for the one, `--name orders` for the other.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::{
    Command, One, change,
    kinds::{self, Kind, quoted},
    link::Link,
    table::{self, cell},
};

/// A verb and its words, as `rabbitmqadmin` takes them.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub struct RabbitmqadminOptions {
    /// The verb and its words; `help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

const HELP: &str = "\
rabbitmqadmin [OPTIONS] VERB …

  list KIND [COLUMN …]                      queues, exchanges, bindings, users, connections, …
  show overview
  declare KIND NAME=VALUE …                 queue name=orders durable=true
  delete KIND NAME=VALUE …                  queue name=orders
  purge queue name=NAME
  close connection name=NAME
  publish exchange=… routing_key=… payload=…    (the standard input without a payload)
  get queue=NAME [count=N] [ackmode=…] [payload_file=FILE]
  export FILE, import FILE                  also `definitions export --file FILE`

  -H, --host HOST                localhost          -u, --username NAME   guest
  -P, --port PORT                15672              -p, --password TEXT   guest
  -V, --vhost VHOST              all, or /          -s, --ssl, --use-tls
      --path-prefix PATH                                --ssl-ca-cert-file FILE
  -U, --base-uri URI                                -q, --quiet
  -f, --format FORMAT            table, tsv, kvp, bash, pretty_json, raw_json, long

NAME=VALUE may also be written as --NAME VALUE.
";

/// The columns that are shown if nobody says which.
fn usual(kind: &str) -> &'static [&'static str] {
    match kind {
        "queues" | "vhosts" => &["name", "messages"],
        "exchanges" => &["name", "type"],
        "bindings" => &["source", "destination", "routing_key"],
        "connections" => &["name", "user", "channels"],
        "channels" => &["name", "user"],
        "nodes" => &["name", "type", "mem_used"],
        _ => &[],
    }
}

/// What was asked for.
#[derive(Debug)]
struct Call {
    host: String,
    port: Option<u16>,
    prefix: String,
    base: Option<String>,
    user: String,
    password: String,
    vhost: Option<String>,
    tls: bool,
    ca: Option<PathBuf>,
    quiet: bool,
    format: String,
    words: Vec<String>,
}

impl Default for Call {
    fn default() -> Self {
        let (host, user, password) = ("localhost".into(), "guest".into(), "guest".into());
        let (prefix, format, words) = (String::new(), "table".into(), Vec::new());
        let (port, base, vhost, ca, tls, quiet) = (None, None, None, None, false, false);
        Self { host, port, prefix, base, user, password, vhost, tls, ca, quiet, format, words }
    }
}

impl Call {
    fn read(words: &[String]) -> anyhow::Result<Self> {
        let mut call = Self::default();
        let mut rest = words.iter().cloned().peekable();
        while let Some(word) = rest.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (word.clone(), None),
            };
            let mut value = || inline.clone().or_else(|| rest.next()).with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "-H" | "--host" => call.host = value()?,
                "-P" | "--port" => call.port = Some(value()?.parse().context("the port is no number")?),
                "--path-prefix" => call.prefix = value()?,
                "-U" | "--base-uri" => call.base = Some(value()?),
                "-u" | "--username" => call.user = value()?,
                "-p" | "--password" if !call.is_about_users() => call.password = value()?,
                "-V" | "--vhost" => call.vhost = Some(value()?),
                "-s" | "--ssl" | "--use-tls" => call.tls = true,
                "--ssl-ca-cert-file" | "--tls-ca-cert-file" => call.ca = Some(value()?.into()),
                "-f" | "--format" => call.format = value()?,
                "-q" | "--quiet" | "--non-interactive" => call.quiet = true,
                "-h" | "--help" => call.words.insert(0, "help".into()),
                "-t" | "--request-timeout" | "-d" | "--depth" => drop(value()?),
                "-k" | "--ssl-insecure" => {
                    bail!("certificates are always checked; --ssl-ca-cert-file names whom to trust")
                }
                other if other.starts_with("--") && call.words.len() > 1 => {
                    let name = other[2..].replace('-', "_");
                    call.words.push(format!("{name}={}", value()?));
                }
                other if other.starts_with('-') => bail!("there is no option {other}"),
                _ => call.words.push(word),
            }
        }
        Ok(call)
    }

    /// Whether an option further on is said of a user, and not of who asks.
    fn is_about_users(&self) -> bool {
        self.words.get(1).is_some_and(|kind| kind == "user" || kind == "users")
    }

    fn link(&self) -> anyhow::Result<Link> {
        let scheme = if self.tls { "https" } else { "http" };
        let port = self.port.unwrap_or(if self.tls { 15671 } else { 15672 });
        let base = self.base.clone().unwrap_or_else(|| format!("{scheme}://{}:{port}{}", self.host, self.prefix));
        Link::as_user(&base, &self.user, &self.password, self.ca.as_deref())
    }

    fn vhost(&self) -> String {
        self.vhost.clone().unwrap_or_else(|| "/".into())
    }

    fn one(&self) -> anyhow::Result<One> {
        let kind = self.words.get(1).with_context(|| format!("{} what? `help` has examples", self.words[0]))?;
        let words = self.words[2..].iter().map(|word| older(word)).collect();
        Ok(One { kind: kind.clone(), words, vhost: self.vhost() })
    }

    /// The file that is to be read or written.
    fn file(&self) -> anyhow::Result<&Path> {
        let named = self.words[1..].iter().find(|word| !["export", "import"].contains(&word.as_str()));
        let named = named.map(|word| word.strip_prefix("file=").unwrap_or(word));
        named.map(Path::new).context("which file?")
    }
}

/// What the successor calls otherwise.
fn older(word: &str) -> String {
    match word.split_once('=') {
        Some(("destination_type", kind)) => format!("destination_type={}", kind.trim_end_matches('s')),
        Some(("apply_to", what)) => format!("apply-to={what}"),
        _ => word.to_owned(),
    }
}

/// Does what a verb says.
///
/// # Errors
/// If there is no such verb, nobody answers, or the broker refuses.
pub fn run(options: &RabbitmqadminOptions) -> anyhow::Result<()> {
    let call = Call::read(&options.words)?;
    let mut out = std::io::stdout().lock();
    let Some(verb) = call.words.first().filter(|verb| *verb != "help") else {
        write!(out, "{HELP}")?;
        return Ok(());
    };
    let link = call.link()?;
    let said = match verb.as_str() {
        "list" => return list(&mut out, &link, &call),
        "show" if call.words.get(1).is_some_and(|what| what == "overview") => {
            let overview = link.get("/overview")?;
            let columns = ["node", "cluster_name", "product_version"].map(str::to_owned);
            return show(&mut out, &[overview], &columns, &call.format);
        }
        "get" => return get(&mut out, &link, &call),
        "publish" => publish(&link, &call)?,
        "export" | "import" | "definitions" => definitions(&link, &call)?,
        _ => act(&link, &call, verb)?,
    };
    if !call.quiet {
        writeln!(out, "{said}")?;
    }
    Ok(())
}

/// What is changed with one request.
fn act(link: &Link, call: &Call, verb: &str) -> anyhow::Result<String> {
    let one = call.one()?;
    let kind = kinds::find(&one.kind)?.name;
    let (command, done) = match verb {
        "declare" => (Command::Declare(one), "declared"),
        "delete" => (Command::Delete(one), "deleted"),
        "purge" => (Command::Purge(one), "purged"),
        "close" => (Command::Close(one), "closed"),
        other => bail!("there is no verb '{other}'; `rabbitmqadmin help` lists those that there are"),
    };
    change(link, &command)?;
    Ok(format!("{kind} {done}"))
}

fn publish(link: &Link, call: &Call) -> anyhow::Result<String> {
    let said = call.words[1..].iter().filter(|word| *word != "message");
    let mut words: Vec<String> = said.cloned().collect();
    if !words.iter().any(|word| word.starts_with("payload=")) {
        let mut payload = String::new();
        std::io::stdin().read_to_string(&mut payload).context("the payload is no text")?;
        words.push(format!("payload={payload}"));
    }
    let answer = change(link, &Command::Publish { words, vhost: call.vhost() })?;
    Ok(match answer["routed"] == true {
        true => "Message published".into(),
        false => "Message published but NOT routed".into(),
    })
}

fn get(out: &mut impl Write, link: &Link, call: &Call) -> anyhow::Result<()> {
    let said = call.words[1..].iter().filter(|word| *word != "messages");
    let (files, words): (Vec<_>, Vec<_>) = said.cloned().partition(|word| word.starts_with("payload_file="));
    let file = files.first().and_then(|word| word.strip_prefix("payload_file="));
    let messages = change(link, &Command::Get { words, vhost: call.vhost() })?;
    let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(file) = file {
        let payload =
            messages.first().and_then(|message| message["payload"].as_str()).context("there is no message")?;
        std::fs::write(file, payload).with_context(|| format!("cannot write {file}"))?;
        writeln!(out, "Message payload file \"{file}\"")?;
        return Ok(());
    }
    let columns =
        ["routing_key", "exchange", "message_count", "payload", "payload_bytes", "payload_encoding", "redelivered"];
    show(out, messages, &columns.map(str::to_owned), &call.format)
}

fn definitions(link: &Link, call: &Call) -> anyhow::Result<String> {
    let path = match &call.vhost {
        Some(vhost) => format!("/definitions/{}", quoted(vhost)),
        None => "/definitions".into(),
    };
    let file = call.file()?;
    let name = file.display();
    if call.words.iter().take(2).any(|word| word == "export") {
        std::fs::write(file, link.get(&path)?.to_string()).with_context(|| format!("cannot write {name}"))?;
        return Ok(format!("Exported definitions for {} to \"{name}\"", call.host));
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let definitions = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
    link.call("POST", &path, Some(definitions))?;
    Ok(format!("Imported definitions for {} from \"{name}\"", call.host))
}

fn list(out: &mut impl Write, link: &Link, call: &Call) -> anyhow::Result<()> {
    let kind: &Kind = kinds::find(call.words.get(1).context("list what? `help` has examples")?)?;
    let rows = link.get(&kind.list_path(call.vhost.as_deref()))?;
    let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
    let given = &call.words[2..];
    let usual = match usual(kind.plural) {
        [] => kind.columns,
        usual => usual,
    };
    let usual = || usual.iter().map(|column| (*column).to_owned()).collect();
    let columns: Vec<String> = if given.is_empty() { usual() } else { given.to_vec() };
    show(out, rows, &columns, &call.format)
}

fn show(out: &mut impl Write, rows: &[Value], columns: &[String], format: &str) -> anyhow::Result<()> {
    match format {
        "table" if rows.is_empty() => writeln!(out, "No items")?,
        "table" => table::framed(out, rows, columns)?,
        "tsv" => table::tabbed(out, rows, columns, true)?,
        "raw_json" => writeln!(out, "{}", Value::from(rows))?,
        "pretty_json" => writeln!(out, "{:#}", Value::from(rows))?,
        "kvp" => {
            for row in rows {
                let pairs = columns.iter().map(|column| format!("{column}=\"{}\"", cell(row, column)));
                writeln!(out, "{}", pairs.collect::<Vec<_>>().join(" "))?;
            }
        }
        "bash" => {
            let names = rows.iter().map(|row| cell(row, columns.first().map_or("name", String::as_str)));
            writeln!(out, "{}", names.collect::<Vec<_>>().join(" "))?;
        }
        "long" => {
            for row in rows {
                columns.iter().try_for_each(|column| writeln!(out, "{column:>20}: {}", cell(row, column)))?;
                writeln!(out)?;
            }
        }
        other => bail!("the format is '{other}'; it can be table, tsv, kvp, bash, pretty_json, raw_json or long"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &str) -> Call {
        Call::read(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_of_both_tools_are_taken() {
        let read = call("-H broker -P 8080 -u bob -p secret -V shop declare queue name=q durable=true");
        assert_eq!((read.host.as_str(), read.port, read.password.as_str()), ("broker", Some(8080), "secret"));
        assert_eq!((read.words.join(" ").as_str(), read.vhost()), ("declare queue name=q durable=true", "shop".into()));
        let read = call("--host=broker declare user --name bob --password secret --tags monitoring");
        assert_eq!(read.words.join(" "), "declare user name=bob password=secret tags=monitoring");
        assert_eq!(read.password, "guest");
        let read = call("declare binding --source x --destination-type queue --routing-key k");
        assert_eq!(read.words[2..].join(" "), "source=x destination_type=queue routing_key=k");
        let said = ["--ssl-insecure", "--nonsense", "-P", "-x"].map(|word| Call::read(&[word.to_owned()]).is_err());
        assert_eq!(said, [true; 4]);
        assert_eq!(call("definitions export --file a.json").file().unwrap(), Path::new("a.json"));
        assert_eq!(call("import a.json").file().unwrap(), Path::new("a.json"));
    }
}
