//! Other programs, started from the root of the repository.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::root;

/// What a step that failed says; the program itself has printed the rest.
pub type Result<T = ()> = std::result::Result<T, String>;

/// Whether what can't be checked is a failure.
pub fn is_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// Runs a program to its end, with its output on the terminal.
pub fn run(program: &str, arguments: &[&str]) -> Result {
    let line = format!("{program} {}", arguments.join(" "));
    println!("$ {line}");
    let status = command(program).args(arguments).status().map_err(|error| format!("`{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

/// Runs a program that needs the network, which is allowed to fail twice.
pub fn run_online(program: &str, arguments: &[&str]) -> Result {
    run(program, arguments).or_else(|_| run(program, arguments)).or_else(|_| run(program, arguments))
}

/// What a program prints on both outputs, if it exists and succeeds.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = command(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

pub fn installed(program: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // What `cargo run` tells xtask about itself would make other packages' build scripts run again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}
