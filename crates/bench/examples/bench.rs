//! `roadstead bench` on its own.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "bench")]
struct CommandLine {
    #[command(flatten)]
    options: roadstead_bench::Options,
}

fn main() -> ExitCode {
    match roadstead_bench::run(CommandLine::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
