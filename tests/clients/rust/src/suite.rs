//! Checks, their verdicts, and what the suite asks of the harness.

use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long an event may take.
pub const EVENT: Duration = Duration::from_secs(5);
const SUITE: Duration = Duration::from_secs(110);

pub struct Check {
    pub name: String,
    pub limit: Duration,
    pub run: Box<dyn Fn() + Send + Sync>,
}

/// What a skipped check panics with; any other panic is a failure.
struct Skipped(&'static str);

pub fn run(checks: &'static [Check], names: &[String]) -> ExitCode {
    let end = Instant::now() + SUITE;
    let mut has_failed = false;
    for check in checks.iter().filter(|check| names.is_empty() || names.contains(&check.name)) {
        let verdict = check.verdict(end.saturating_duration_since(Instant::now()));
        has_failed |= verdict.starts_with("not ok");
        println!("{verdict}");
    }
    println!("done");
    if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Check {
    fn verdict(&'static self, left: Duration) -> String {
        let name = &self.name;
        let (sender, outcome) = mpsc::channel();
        thread::spawn(move || sender.send(panic::catch_unwind(AssertUnwindSafe(|| (self.run)()))));
        match outcome.recv_timeout(self.limit.min(left)) {
            Ok(Ok(())) => format!("ok {name}"),
            Ok(Err(reason)) => match (reason.downcast_ref::<Skipped>(), reason.downcast_ref::<String>()) {
                (Some(Skipped(reason)), _) => format!("skip {name}: {reason}"),
                (_, Some(reason)) => {
                    format!("not ok {name}: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "))
                }
                _ => format!("not ok {name}: {:?}", reason.downcast_ref::<&str>()),
            },
            Err(_) => format!("not ok {name}: it took too long"),
        }
    }
}

/// Ends a check that cannot be made.
pub fn skip(reason: &'static str) -> ! {
    panic::resume_unwind(Box::new(Skipped(reason)))
}

/// Has the broker restarted.
pub fn restart_broker() {
    println!("@restart");
    io::stdout().flush().expect("standard output is open");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).expect("standard input can be read");
    if answer.is_empty() {
        skip("nobody answers @restart on standard input");
    }
    assert_eq!(answer.trim(), "@restarted");
}
