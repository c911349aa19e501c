//! Logs: for people or as JSON, on standard error; and the audit log in a file, if that is asked for.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

use anyhow::Context;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    audit,
    config::{Log, LogFormat},
};

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging.
///
/// # Errors
/// If the level is not one, or the file of the audit log cannot be written.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level '{}' is not a level", log.level))?;
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines: Boxed = match log.format {
        LogFormat::Human => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let mut layers = vec![lines.with_filter(filter).boxed()];
    if let Some(path) = &log.audit_file {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot write log.audit_file {}", path.display()))?;
        let lines = fmt::layer().with_writer(file).with_target(false);
        let lines: Boxed = match log.format {
            LogFormat::Human => lines.with_ansi(false).boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        // Whatever the level of the others.
        layers.push(lines.with_filter(Targets::new().with_target(audit::TARGET, LevelFilter::TRACE)).boxed());
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
