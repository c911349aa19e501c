//! The `roadstead` binary.

mod audit;
mod auth;
mod clock;
mod config;
mod control;
mod ctl;
mod definitions;
mod doctor;
mod driver;
mod durability;
mod host;
mod http;
mod keys;
mod listener;
mod notify;
mod otlp;
mod resources;
mod scram;
mod serve;
mod shutdown;
mod telemetry;
mod timer;
mod tls;
mod web;
mod websocket;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// A message broker in which RabbitMQ's and ActiveMQ's clients meet in the same queues and topics.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeOptions,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker (what happens without a subcommand, too).
    Serve(ServeOptions),
    /// Load a broker, this one or any other, and measure it.
    Bench(Box<bench::Options>),
    /// Look at a running broker, on this machine or elsewhere, and change it: queues, users, policies, connections, backup.
    Ctl(ctl::CtlOptions),
    /// The same in the words of RabbitMQ's rabbitmqctl, for scripts that have them.
    Rabbitmqctl(ctl::rabbitmqctl::RabbitmqctlOptions),
    /// The same in the words of RabbitMQ's rabbitmqadmin, by the management API.
    Rabbitmqadmin(ctl::rabbitmqadmin::RabbitmqadminOptions),
    /// Import or export users, vhosts, policies, queues, exchanges and bindings as RabbitMQ's definitions.
    Definitions(definitions::DefinitionsOptions),
    /// Check a data directory without changing it, or save what is readable of a damaged one.
    Doctor(doctor::DoctorOptions),
}

/// How the broker is started.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeOptions {
    /// Configuration file (TOML). Every setting can also be given as ROADSTEAD_SECTION_KEY in the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory. Created if it is not there. [default: ./roadstead-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address for all listeners; may be given more than once. [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR")]
    bind: Vec<std::net::IpAddr>,
    /// Added to every port, for a second broker on one machine.
    #[arg(long, value_name = "N")]
    port_offset: Option<u16>,
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(ctl::rabbitmqctl::by_name(std::env::args_os().collect()));
    let outcome = match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(options)) => serve::run(&options),
        Some(Command::Bench(options)) => bench::run(*options).map_err(Into::into),
        Some(Command::Doctor(options)) => doctor::run(&options),
        Some(Command::Ctl(options)) => ctl::run(&options),
        Some(Command::Rabbitmqctl(options)) => ctl::rabbitmqctl::run(&options),
        Some(Command::Rabbitmqadmin(options)) => ctl::rabbitmqadmin::run(&options),
        Some(Command::Definitions(options)) => definitions::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read along has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roadstead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
