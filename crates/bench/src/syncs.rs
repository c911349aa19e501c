//! Counts a server's calls of fsync and fdatasync with `perf stat`, where the machine has it and lets us.
//!
//! The counter is on all processors and filtered by thread, which costs the server nothing that we could measure. A
//! counter of the process (`perf stat --pid`) is switched with its threads, and took 5 % of a rate of 4,500 syncs per
//! second. The price: a thread that the server starts later is not counted.

use std::fs;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

const CALLS: [&str; 2] = ["syscalls:sys_enter_fsync", "syscalls:sys_enter_fdatasync"];

/// A running count.
pub(crate) struct SyncCounter {
    perf: Child,
    /// What `perf` counts for as long as it runs is a `cat`, which ends with its input: with us, too.
    input: ChildStdin,
}

impl SyncCounter {
    /// Begins to count; `None` if it cannot be done here.
    pub(crate) fn start(pid: &str) -> Option<Self> {
        let filter = filter(pid).ok()?;
        let mut command = Command::new("perf");
        command.env("LC_ALL", "C").args(["stat", "--field-separator=,", "--all-cpus"]);
        for call in CALLS {
            command.args(["--event", call, "--filter", &filter]);
        }
        command.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut perf = command.spawn().ok()?;
        let (mut input, mut output) = (perf.stdin.take()?, perf.stdout.take()?);
        // The echo says that counting has begun.
        let echo = input.write_all(b"\n").and_then(|()| output.read_exact(&mut [0]));
        if echo.is_err() {
            drop(input);
            let _ = perf.wait();
            return None;
        }
        Some(Self { perf, input })
    }

    /// Ends counting; the calls so far are still to be fetched.
    pub(crate) fn stop(self) -> StoppedCounter {
        drop(self.input);
        StoppedCounter(self.perf)
    }
}

/// `perf` while it writes its summary.
pub(crate) struct StoppedCounter(Child);

impl StoppedCounter {
    pub(crate) fn calls(self) -> Option<u64> {
        let output = self.0.wait_with_output().ok()?;
        parse(&String::from_utf8_lossy(&output.stderr))
    }
}

/// A filter that matches the threads of a process; to the kernel, a thread is a `pid`.
fn filter(pid: &str) -> io::Result<String> {
    let mut terms = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        terms.push(format!("common_pid=={}", thread?.file_name().to_string_lossy()));
    }
    Ok(terms.join("||"))
}

/// Adds up lines such as `27405,,syscalls:sys_enter_fdatasync,10003541505,100.00,,`, of which there must be all.
fn parse(summary: &str) -> Option<u64> {
    let count = |call: &str| {
        let mut lines = summary.lines().map(|line| line.split(','));
        let mut fields = lines.find(|fields| fields.clone().any(|field| field == call))?;
        fields.next()?.parse::<u64>().ok()
    };
    CALLS.into_iter().map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_calls_are_added_up() {
        let fsync = "2,,syscalls:sys_enter_fsync,10003555305,100.00,,\n";
        let fdatasync = "27405,,syscalls:sys_enter_fdatasync,10003541505,100.00,,\n";
        assert_eq!(parse(&format!("{fsync}{fdatasync}")), Some(27407));
        assert_eq!(parse(fsync), None);
        assert_eq!(parse(&format!("{fsync}{}", fdatasync.replace("27405", "<not counted>"))), None);
    }

    #[test]
    fn a_filter_names_every_thread() {
        let own = std::process::id().to_string();
        let filter = filter(&own).unwrap();
        assert!(filter.split("||").any(|term| term == format!("common_pid=={own}")), "{filter}");
        assert!(super::filter("0").is_err());
    }
}
