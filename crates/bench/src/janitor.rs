//! Deletes the queues of a tool that was interrupted or killed.
//!
//! The standard library cannot catch Ctrl-C, and no handler catches SIGKILL. So the tool starts itself once more,
//! outside the terminal's process group; that process only waits for the end of its input, and deletes what it was then
//! still told to.

use std::io::{self, BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::topology::Topology;
use crate::uri::Uri;

/// Set in the environment of the second process.
const MARK: &str = "ROADSTEAD_BENCH_JANITOR";
const NOTHING: &str = "nothing";

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

/// Waits for the tool's end and deletes what it left.
pub(crate) fn clean_up() {
    let mut left = None;
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        left = parse(&line);
    }
    let Some((uri, topology)) = left else {
        return;
    };
    if let Err(error) = topology.delete(&uri) {
        eprintln!("bench: cannot delete {}: {error}", topology.queues.join(", "));
    }
}

fn parse(line: &str) -> Option<(Uri, Topology)> {
    let mut parts = line.split('\t').map(str::to_owned);
    let uri = parts.next().filter(|part| part != NOTHING)?;
    let exchange = parts.next().filter(|name| !name.is_empty());
    Some((Uri::parse(&uri).ok()?, Topology { queues: parts.collect(), exchange }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_its_orders() {
        let (uri, topology) = parse("amqp://h\tx\ta\tb").unwrap();
        assert_eq!(uri.host, "h");
        assert_eq!(topology, Topology { queues: vec!["a".into(), "b".into()], exchange: Some("x".into()) });
        assert!(parse("amqp://h\t\ta").unwrap().1.exchange.is_none());
        assert!(parse(NOTHING).is_none());
    }
}
