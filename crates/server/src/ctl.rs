//! `roadstead ctl`: asks a running broker on this machine, over the socket in its data directory.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::control::{self, Request};

/// What to ask, and whom.
#[derive(Args)]
pub struct CtlOptions {
    /// Data directory of the broker.
    #[arg(long, global = true, value_name = "DIR", default_value = "./roadstead-data")]
    data: PathBuf,
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
    /// Remove a policy. It no longer applies from that moment on.
    DeletePolicy(PolicyName),
    /// Remove an operator's policy.
    DeleteOperatorPolicy(PolicyName),
}

#[derive(Args)]
struct VhostName {
    /// The vhost.
    #[arg(long, default_value = "/")]
    vhost: String,
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
    fn delete(&self, operator: bool) -> Request {
        Request::DeletePolicy { vhost: self.vhost.clone(), operator, name: self.name.clone() }
    }
}

/// Asks and prints the answer.
///
/// # Errors
/// If no broker answers, or it cannot do what it is asked.
pub fn run(options: &CtlOptions) -> anyhow::Result<()> {
    let request = match &options.command {
        Command::Status => Request::Status,
        // The broker's working directory may be another.
        Command::Backup { target } => Request::Backup { target: std::path::absolute(target)? },
        Command::TraceOn(VhostName { vhost }) => Request::Trace { vhost: vhost.clone(), on: true },
        Command::TraceOff(VhostName { vhost }) => Request::Trace { vhost: vhost.clone(), on: false },
        Command::DeletePolicy(policy) => policy.delete(false),
        Command::DeleteOperatorPolicy(policy) => policy.delete(true),
    };
    let answer = ask(&options.data, &request)?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{answer:#}")?;
        return Ok(());
    }
    for (name, value) in answer.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = if value == "null" { "–".to_owned() } else { value };
        writeln!(out, "{:<18}{value}", name.replace('_', " "))?;
    }
    Ok(())
}

/// Sends a request and waits for the answer.
///
/// # Errors
/// If no broker answers, or it cannot do what it is asked.
pub fn ask(data: &Path, request: &Request) -> anyhow::Result<Value> {
    let nobody = || format!("no broker answers in {}; is it running, and is this its data directory?", data.display());
    let (_directory, address) = control::address(data).with_context(nobody)?;
    let mut stream = UnixStream::connect(address).with_context(nobody)?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let shows_progress = std::io::stderr().is_terminal();
    for line in BufReader::new(stream).lines() {
        let mut answer: Value = serde_json::from_str(&line?).context("the broker's answer is not understood")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        if let Some(progress) = answer.get("progress") {
            if shows_progress {
                eprint!("\r{} of {} segments", progress["done"], progress["all"]);
                if progress["done"] == progress["all"] {
                    eprintln!();
                }
            }
            continue;
        }
        return Ok(answer["done"].take());
    }
    bail!("the broker ended before it answered")
}
