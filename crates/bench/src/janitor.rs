//! Deletes the queues, or the retained messages, of a tool that was interrupted or killed.
//!
//! The standard library cannot catch Ctrl-C, and no handler catches SIGKILL. So the tool starts itself once more,
//! outside the terminal's process group; that process only waits for the end of its input, and deletes what it was then
//! still told to.

use std::io::{self, BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::mqtt::retained;
use crate::topology::Topology;
use crate::uri::Uri;

/// Set in the environment of the second process.
const MARK: &str = "ROADSTEAD_BENCH_JANITOR";
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const NOTHING: &str = "nothing";
/// Begins an order about retained messages.
const RETAINED: &str = "retained";

/// The pipe to the process that cleans up after us, or nothing.
#[derive(Default)]
pub(crate) struct Janitor {
    child: Option<(Child, ChildStdin)>,
}

impl Janitor {
    /// Starts the process; without one the load still cleans up after itself, unless it is killed.
    pub(crate) fn hire() -> Self {
        Self { child: spawn().ok() }
    }

    /// From now on, `topology` is to be deleted when we are gone.
    pub(crate) fn entrust(&mut self, uri: &str, topology: &Topology) {
        let exchange = topology.exchange.as_deref().unwrap_or_default();
        self.tell(&format!("{uri}\t{exchange}\t{}", topology.queues.join("\t")));
    }

    /// From now on, the retained messages under `prefix` are to be cleared when we are gone.
    pub(crate) fn entrust_retained(&mut self, uri: &str, prefix: &str, messages: u64) {
        self.tell(&format!("{RETAINED}\t{uri}\t{prefix}\t{messages}"));
    }

    /// Everything is deleted already.
    pub(crate) fn dismiss(&mut self) {
        self.tell(NOTHING);
    }

    fn tell(&mut self, line: &str) {
        if let Some((_, pipe)) = &mut self.child {
            // A janitor that is gone cannot be helped, and is no reason to stop measuring.
            let _ = writeln!(pipe, "{line}");
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.child.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

fn spawn() -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).env(MARK, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, pipe))
}

/// Whether this process is the one that cleans up.
pub(crate) fn is_janitor() -> bool {
    std::env::var_os(MARK).is_some()
}

/// What is to be done when the tool is gone.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Delete(Uri, Topology),
    /// So many retained messages under a prefix.
    Clear(Uri, String, u64),
}

/// Waits for the tool's end and deletes what it left.
pub(crate) fn clean_up() {
    let mut left = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        left = parse(&line);
    }
    let (what, done) = match left {
        None => return,
        Some(Order::Delete(uri, topology)) => {
            if uri.scheme.is_jms() {
                // What the tool had sent is still on its way, and would make the queue again.
                thread::sleep(ON_ITS_WAY);
            }
            (topology.queues.join(", "), topology.delete(&uri))
        }
        Some(Order::Clear(uri, prefix, messages)) => {
            let done = retained::clear_at(&uri, &prefix, messages);
            (prefix, done)
        }
    };
    if let Err(error) = done {
        eprintln!("bench: cannot delete {what}: {error}");
    }
}

fn parse(line: &str) -> Option<Order> {
    let mut parts = line.split('\t').map(str::to_owned);
    let first = parts.next().filter(|part| part != NOTHING)?;
    if first == RETAINED {
        let (uri, prefix) = (parts.next()?, parts.next()?);
        return Some(Order::Clear(Uri::parse(&uri).ok()?, prefix, parts.next()?.parse().ok()?));
    }
    let exchange = parts.next().filter(|name| !name.is_empty());
    Some(Order::Delete(Uri::parse(&first).ok()?, Topology { queues: parts.collect(), exchange }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_its_orders() {
        let deleted = |line: &str| match parse(line) {
            Some(Order::Delete(uri, topology)) => (uri.host, topology),
            other => panic!("{line}: {other:?}"),
        };
        let (host, topology) = deleted("amqp://h\tx\ta\tb");
        assert_eq!(host, "h");
        assert_eq!(topology, Topology { queues: vec!["a".into(), "b".into()], exchange: Some("x".into()) });
        assert!(deleted("amqp://h\t\ta").1.exchange.is_none());
        let uri = Uri::parse("mqtt://h").unwrap();
        assert_eq!(parse("retained\tmqtt://h\tp\t7"), Some(Order::Clear(uri, "p".into(), 7)));
        assert!(parse(NOTHING).is_none());
    }
}
