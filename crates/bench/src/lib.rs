//! The load generator behind `roadstead bench`: publishers and consumers against any AMQP 0-9-1 broker.
//!
//! It must cost far less than any broker, so that the broker is what is measured: prebuilt messages leave in large
//! writes (`batch`, `publisher`), deliveries are skipped where they were read (`inbox`, `consumer`), and each thread has
//! one blocking socket. It shares no code with Roadstead's own protocol crates: `wire` is a second reading of the
//! specification.
//!
//! Start at `load`, which leads one load through its phases; `compare` alternates between two brokers and `suite` runs
//! the standard scenarios.

mod batch;
mod compare;
mod connection;
mod consumer;
mod control;
mod error;
mod histogram;
mod inbox;
mod janitor;
mod load;
mod options;
mod process;
mod publisher;
mod report;
mod suite;
mod topology;
mod uri;
mod window;
mod wire;

use std::path::Path;

use serde::Serialize;

pub use compare::{Comparison, Figures};
pub use error::Error;
pub use histogram::Latency;
pub use options::Options;
pub use report::{Report, ServerCost, Sums};

use janitor::Janitor;

/// Runs one load against the first broker and returns its figures; prints nothing but progress.
pub fn measure(options: &Options) -> Result<Report, Error> {
    load::run(options, &mut Janitor::default())
}

/// Does what the command line asks for, and prints the result.
pub fn run(options: Options) -> Result<(), Error> {
    if janitor::is_janitor() {
        janitor::clean_up();
        return Ok(());
    }
    let mut janitor = Janitor::hire();
    let json = options.json.as_deref();
    if options.suite {
        let mut done = Vec::new();
        let outcome = suite::run(&options, &mut janitor, &mut done);
        println!("{}", compare::markdown(&done));
        write_json(json, &done).and(outcome)
    } else if options.against.is_some() || options.rounds() > 1 {
        let comparison = Comparison::run("", &options, &mut janitor)?;
        println!("{}", compare::markdown(std::slice::from_ref(&comparison)));
        write_json(json, &comparison)
    } else {
        let report = load::run(&options, &mut janitor)?;
        print!("{report}");
        write_json(json, &report)
    }
}

fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<(), Error> {
    let Some(path) = path else {
        return Ok(());
    };
    let fail = |source| Error::Json { path: path.to_owned(), source };
    let mut text = serde_json::to_string_pretty(figures).map_err(|error| fail(error.into()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(fail)
}
