//! `roadstead definitions`: RabbitMQ's definitions, in and out: users, vhosts, permissions, parameters, policies, queues,
//! exchanges and bindings as one JSON document.
//!
//! What is exported imports into a RabbitMQ, and what a RabbitMQ has exported imports here and comes out equal, but for
//! the lines that tell who wrote it.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::{control::Request, ctl};

/// What to do, and with which broker.
#[derive(Args)]
pub struct DefinitionsOptions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add what a file says to a running broker. What is there already stays, or is brought up to date.
    Import {
        /// Data directory of the broker.
        #[arg(long, value_name = "DIR", default_value = "./roadstead-data")]
        data: PathBuf,
        /// A definitions file, as RabbitMQ exports it; `-` for the standard input.
        file: PathBuf,
    },
    /// Write all definitions of a running broker.
    Export {
        /// Data directory of the broker.
        #[arg(long, value_name = "DIR", default_value = "./roadstead-data")]
        data: PathBuf,
        /// Where to; the standard output if it is left out.
        file: Option<PathBuf>,
    },
}

/// Imports or exports.
///
/// # Errors
/// If no broker answers, the file cannot be read or written, or something in it cannot be.
pub fn run(options: &DefinitionsOptions) -> anyhow::Result<()> {
    match &options.command {
        Command::Import { data, file } => {
            let name = file.display();
            let text = if file.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(file)
            };
            let text = text.with_context(|| format!("cannot read {name}"))?;
            let definitions = serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))?;
            let answer = ctl::ask(data, &Request::ImportDefinitions { definitions })?;
            let counts = answer.as_object().into_iter().flatten();
            let counts: Vec<_> = counts.map(|(what, count)| format!("{count} {}", what.replace('_', " "))).collect();
            writeln!(std::io::stdout(), "imported {}", counts.join(", "))?;
        }
        Command::Export { data, file } => {
            let text = format!("{:#}\n", ctl::ask(data, &Request::ExportDefinitions)?);
            match file {
                Some(file) => std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?,
                None => std::io::stdout().lock().write_all(text.as_bytes())?,
            }
        }
    }
    Ok(())
}
