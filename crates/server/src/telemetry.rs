//! Logs: for people or as JSON, on standard error; and the audit log in a file, if that is asked for. The last lines are kept
//! for the console.

use std::{
    collections::VecDeque,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use anyhow::Context;
use parking_lot::Mutex;
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

/// Lines that are kept.
const LINES: usize = 1000;

/// Bytes of a line that are kept.
const LINE_BYTES: usize = 2000;

/// The last lines, and the number of the next.
static TAIL: Mutex<(VecDeque<String>, u64)> = Mutex::new((VecDeque::new(), 0));

/// Standard error, and what of it is kept.
struct Tee;

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        keep(&String::from_utf8_lossy(bytes));
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn keep(text: &str) {
    let mut tail = TAIL.lock();
    let (lines, next) = &mut *tail;
    for line in text.lines() {
        let mut line = without_colours(line);
        let end = (0..=LINE_BYTES.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
        line.truncate(end.unwrap_or(0));
        lines.push_back(line);
        *next += 1;
    }
    while lines.len() > LINES {
        lines.pop_front();
    }
}

/// A line without what makes it colourful on a terminal.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for (index, part) in line.split('\u{1b}').enumerate() {
        let rest = if index == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
        plain.push_str(rest);
    }
    plain
}

/// The lines that are kept, from a number on, and the number of the next.
pub fn lines(from: u64) -> (Vec<String>, u64) {
    let tail = TAIL.lock();
    let (lines, next) = &*tail;
    let first = next - lines.len() as u64;
    let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
    (lines.iter().skip(skip).cloned().collect(), *next)
}

/// Starts logging.
///
/// # Errors
/// If the level is not one, or the file of the audit log cannot be written.
pub fn start(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level '{}' is not a level", log.level))?;
    let lines = fmt::layer().with_writer(|| Tee).with_target(false);
    let lines: Boxed = match log.format {
        LogFormat::Human => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        (0..LINES + 5).for_each(|number| keep(&format!("\u{1b}[32mline\u{1b}[0m {number}\n")));
        keep(&"ä".repeat(LINE_BYTES));
        let (kept, next) = lines(0);
        assert_eq!((kept.len(), next), (LINES, LINES as u64 + 6));
        assert_eq!(kept[0], "line 6");
        assert_eq!(kept[LINES - 1].len(), LINE_BYTES);
        assert_eq!(lines(next - 2).0[0], format!("line {}", LINES + 4));
        assert!(lines(next).0.is_empty() && lines(u64::MAX).0.is_empty());
    }
}
