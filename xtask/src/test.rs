//! `cargo xtask test`: every check of the repository, with its set-up.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::shell::{self, Result};
use crate::{clients, root, tidy};

pub struct Step {
    pub name: &'static str,
    /// The steps whose failure makes this one pointless, and that `--only` adds.
    needs: &'static [&'static str],
    run: fn(&[String]) -> Result,
}

/// In the order in which they run: what fails quickly is first.
pub const STEPS: [Step; 10] = [
    Step { name: "toolchain", needs: &[], run: toolchain },
    Step { name: "fmt", needs: &[], run: |_| shell::run("cargo", &["fmt", "--all", "--check"]) },
    Step { name: "tidy", needs: &[], run: |_| tidy::check(&root()) },
    Step { name: "clippy", needs: &[], run: clippy },
    Step { name: "build", needs: &[], run: |_| shell::run("cargo", &["build"]) },
    Step { name: "unit", needs: &[], run: unit },
    Step { name: "sabotage", needs: &[], run: sabotage },
    Step { name: "system", needs: &["build", "sabotage"], run: system },
    Step { name: "set-up", needs: &[], run: |_| clients::set_up() },
    Step { name: "clients", needs: &["build", "set-up"], run: real_clients },
];

/// What to run, and what to tell the tests.
pub struct Selection {
    only: Vec<String>,
    test_arguments: Vec<String>,
}

impl Selection {
    pub fn parse(options: &[&str]) -> Result<Self> {
        let mut only = Vec::new();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "--only" => only.extend(options.next().ok_or("--only needs a step")?.split(',').map(str::to_owned)),
                "--" => break,
                other => return Err(format!("unknown option {other}")),
            }
        }
        if let Some(unknown) = only.iter().find(|name| STEPS.iter().all(|step| step.name != name.as_str())) {
            return Err(format!("unknown step {unknown}"));
        }
        Ok(Self { only, test_arguments: options.map(|argument| (*argument).to_owned()).collect() })
    }

    fn contains(&self, step: &Step) -> bool {
        let is_needed =
            |name: &String| STEPS.iter().any(|other| other.name == name && other.needs.contains(&step.name));
        self.only.is_empty() || self.only.iter().any(|name| name == step.name || is_needed(name))
    }
}

struct Report {
    name: &'static str,
    took: Duration,
    outcome: Result,
}

/// Runs the selected steps, also after one has failed, so that one run tells everything.
pub fn run(selection: &Selection) -> ExitCode {
    let start = Instant::now();
    let mut reports: Vec<Report> = Vec::new();
    for step in STEPS.iter().filter(|step| selection.contains(step)) {
        println!("\n=== {}", step.name);
        let begin = Instant::now();
        let failed = |name: &&&str| reports.iter().any(|report| report.name == **name && report.outcome.is_err());
        let outcome = match step.needs.iter().find(failed) {
            Some(needed) => Err(format!("not run, because {needed} failed")),
            None => (step.run)(&selection.test_arguments),
        };
        if let Err(reason) = &outcome {
            eprintln!("{reason}");
        }
        let report = Report { name: step.name, took: begin.elapsed(), outcome };
        println!("=== {}", line(&report));
        reports.push(report);
    }
    println!("\nsummary:");
    reports.iter().for_each(|report| println!("{}", line(report)));
    let failures = reports.iter().filter(|report| report.outcome.is_err()).count();
    println!("{} steps, {failures} failed, {:.0} s", reports.len(), start.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(report: &Report) -> String {
    let verdict = match &report.outcome {
        Ok(()) => "ok".to_owned(),
        Err(reason) => format!("FAILED: {}", reason.lines().next().unwrap_or_default()),
    };
    format!("{:<10} {:>7.1} s  {verdict}", report.name, report.took.as_secs_f64())
}

/// Says with what the rest runs. Only what Rust needs is required here; clients are the concern of their set-up.
fn toolchain(_: &[String]) -> Result {
    for arguments in [["--version"].as_slice(), &["fmt", "--version"], &["clippy", "--version"]] {
        let what = arguments.join(" ");
        let version = shell::output("cargo", arguments)
            .or_else(|| add_components().then(|| shell::output("cargo", arguments)).flatten())
            .ok_or_else(|| format!("`cargo {what}` fails; `rustup component add rustfmt clippy` may help"))?;
        println!("cargo {what}: {version}");
    }
    for (program, argument) in clients::PROGRAMS {
        let version = shell::output(program, &[argument]).unwrap_or_else(|| "missing".to_owned());
        println!("{program}: {}", version.lines().next().unwrap_or_default());
    }
    Ok(())
}

/// A machine of CI may be changed without asking.
fn add_components() -> bool {
    shell::is_ci() && shell::run_online("rustup", &["component", "add", "rustfmt", "clippy"]).is_ok()
}

fn clippy(_: &[String]) -> Result {
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

fn unit(arguments: &[String]) -> Result {
    let crates = test(&["--workspace", "--exclude", "roadstead-tests"], arguments, &[]);
    crates.and(test(&["--package", "roadstead-tests", "--lib"], arguments, &[]))
}

/// What is broken on purpose: the simulation must find out each way, and the crash test the broker that is made here.
fn sabotage(_: &[String]) -> Result {
    for fault in ["sabotage", "sabotage-index", "sabotage-tail"] {
        let package = ["test", "--package", "roadstead-store", "--features", fault];
        shell::run("cargo", &[&package[..], &["--test", "model", "a_broken_build"]].concat())?;
    }
    // In the same directory, because all but what depends on the store is there already.
    shell::run("cargo", &["build", "--features", "sabotage"])?;
    let target = root().join("target");
    fs::copy(target.join("debug/roadstead"), target.join("sabotaged-roadstead"))
        .map_err(|error| format!("sabotaged broker: {error}"))?;
    shell::run("cargo", &["build"])
}

fn system(arguments: &[String]) -> Result {
    test(&["--package", "roadstead-tests", "--test", "it"], arguments, &["--skip", "clients::"])
}

fn real_clients(arguments: &[String]) -> Result {
    let filter: &[&str] = if arguments.is_empty() { &["clients::"] } else { &[] };
    test(&["--package", "roadstead-tests", "--test", "it"], arguments, filter)
}

fn test(packages: &[&str], arguments: &[String], more: &[&str]) -> Result {
    let mut line = vec!["test"];
    line.extend(packages);
    line.push("--");
    line.extend(arguments.iter().map(String::as_str));
    line.extend(more);
    shell::run("cargo", &line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(options: &[&str]) -> Vec<&'static str> {
        let selection = Selection::parse(options).unwrap();
        STEPS.iter().filter(|step| selection.contains(step)).map(|step| step.name).collect()
    }

    #[test]
    fn a_step_brings_what_it_needs() {
        assert_eq!(selected(&["--only", "clients"]), ["build", "set-up", "clients"]);
        assert_eq!(selected(&["--only", "fmt,tidy", "--", "pika"]), ["fmt", "tidy"]);
        assert_eq!(selected(&[]).len(), STEPS.len());
    }

    #[test]
    fn mistakes_are_told() {
        assert!(Selection::parse(&["--only", "everything"]).is_err());
        assert!(Selection::parse(&["--fast"]).is_err());
    }

    #[test]
    fn steps_come_after_what_they_need() {
        for (index, step) in STEPS.iter().enumerate() {
            let earlier = |needed: &&str| STEPS[..index].iter().any(|other| other.name == *needed);
            assert!(step.needs.iter().all(earlier), "{}", step.name);
        }
    }
}
