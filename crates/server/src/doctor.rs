//! `roadstead doctor`: reads a data directory, says what is in it and what is wrong, and saves what can be saved.

use std::{
    collections::HashMap,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::bail;
use broker::{QueueInfo, record::State};
use clap::Args;
use store::Report;

use crate::{ServeOptions, config::Config, serve};

/// Which directory, and what to do with it.
#[derive(Args)]
pub struct DoctorOptions {
    /// Configuration file of the broker, for the data directory and the keys.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory. [default: ./roadstead-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Write what is readable into a new data directory.
    #[arg(long, value_name = "DIR")]
    salvage: Option<PathBuf>,
}

/// Reads the data directory and prints a report.
///
/// # Errors
/// If it is damaged and nothing was to be salvaged, or cannot be read.
pub fn run(options: &DoctorOptions) -> anyhow::Result<()> {
    let serve_options =
        ServeOptions { config: options.config.clone(), data: options.data.clone(), ..ServeOptions::default() };
    let config = Config::load(&serve_options, std::env::vars())?;
    if !config.data.join("log").is_dir() {
        bail!("{} is not a data directory: it has no folder 'log'", config.data.display());
    }
    let store_options = serve::store_options(&config)?;
    if let Some(target) = &options.salvage {
        return salvage(&config.data, target, &store_options);
    }
    let report = store::check(&config.data, &store_options.keys, &mut progress)?;
    print(&config.data, &report);
    match report.findings.len() {
        0 => println!("no damage found"),
        count => bail!(
            "{count} damaged places. To go on with what is readable: roadstead doctor --data {} --salvage NEW-DIRECTORY",
            config.data.display()
        ),
    }
    Ok(())
}

fn salvage(data: &Path, target: &Path, options: &store::Options) -> anyhow::Result<()> {
    let salvaged = store::salvage(data, target, options, &mut progress)?;
    print(data, &salvaged.report);
    let queues = queue_names(&salvaged.report);
    println!("salvaged        {} messages into {}", salvaged.bodies, target.display());
    for (holder, count) in &salvaged.lost {
        println!("lost            {count} messages of {}", name(&queues, *holder));
    }
    Ok(())
}

fn progress(done: usize, all: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} of {all} segments");
        if done == all {
            eprintln!();
        }
    }
}

fn print(data: &Path, report: &Report) {
    println!("data directory  {}", data.display());
    println!("segments        {} ({} bytes, {} encrypted)", report.segments, report.bytes, report.encrypted);
    println!("messages held   {}", report.bodies);
    println!("state entries   {}", report.state.len());
    let queues = queue_names(report);
    for held in &report.held {
        println!("  {:>12} in {}", held.count, name(&queues, held.holder));
    }
    if let Some(torn) = &report.torn {
        println!("torn tail       {torn}. Nothing there was confirmed; the next start cuts it off.");
    }
    for finding in &report.findings {
        println!("damage          {}", finding.damage);
        for (holder, count) in &finding.holders {
            println!("  {count:>12} messages of {}", name(&queues, *holder));
        }
    }
}

/// What the state table calls the queues.
fn queue_names(report: &Report) -> HashMap<u64, String> {
    let states = report.state.iter().filter_map(|(key, value)| State::read(key, value).ok());
    let queues = states.filter_map(|state| match state {
        State::Queue { vhost, name, id, .. } => Some((id.0, format!("queue '{name}' in vhost '{vhost}'"))),
        State::Delay { vhost, exchange, id } => {
            Some((id.0, format!("what exchange '{exchange}' in vhost '{vhost}' keeps back")))
        }
        _ => None,
    });
    queues.collect()
}

fn name(queues: &HashMap<u64, String>, holder: u64) -> String {
    let (id, priority) = QueueInfo::of_holder(holder);
    let queue = queues.get(&id.0).map(|queue| match priority {
        0 => queue.clone(),
        _ => format!("{queue} (priority {priority})"),
    });
    queue.unwrap_or_else(|| format!("a queue that is not durable ({holder})"))
}
