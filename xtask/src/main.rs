//! Developer tasks. `cargo xtask test` is all that CI does; `cargo xtask tidy` is its check of structure and style.

mod clients;
mod plot;
mod shell;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask test [--only STEP[,STEP]] [-- TEST ARGUMENTS]
       cargo xtask tidy
       cargo xtask plot FIGURES.json PICTURE.svg";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["test", options @ ..] => match test::Selection::parse(options) {
            Ok(selection) => test::run(&selection),
            Err(mistake) => usage(&mistake),
        },
        ["tidy"] => match tidy::check(&root()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(findings) => {
                eprintln!("{findings}");
                ExitCode::FAILURE
            }
        },
        ["plot", figures, picture] => match plot::draw(figures, picture) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::FAILURE
            }
        },
        _ => usage("which task?"),
    }
}

fn usage(mistake: &str) -> ExitCode {
    eprintln!("{mistake}\n{USAGE}\nsteps: {}", test::STEPS.map(|step| step.name).join(", "));
    ExitCode::from(2)
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_owned()
}
