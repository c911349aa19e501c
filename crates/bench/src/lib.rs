//! The load generator behind `roadstead bench`: publishers and consumers against any broker of AMQP 0-9-1,
//! MQTT, STOMP or OpenWire.
//!
//! It must cost far less than any broker, so that the broker is what is measured: prebuilt messages leave in large
//! writes (`batch`, `publisher`), deliveries are skipped where they were read (`inbox`, `consumer`), and each thread has
//! one blocking socket. It shares no code with Roadstead's own protocol crates: `wire` is a second reading of the
//! specification.
//!
//! Start at `load`, which leads one load through its phases. `compare` alternates between brokers, `suite` runs standard
//! scenarios (`speed`, `confirms`), `backlog` fills a queue and drains it, `feature` measures expiry, priorities, delays,
//! streams and large numbers of queues and bindings, and `disk` measures what bounds them all. `mqtt` and `jms` (STOMP and
//! OpenWire) have clients and loads of their own, and share everything else.
//! `meter` says what the server paid, from `process` and `syncs`.

mod backlog;
mod batch;
mod compare;
mod confirms;
mod connection;
mod consumer;
mod control;
mod disk;
mod error;
mod feature;
mod histogram;
mod inbox;
mod janitor;
mod jms;
mod load;
mod meter;
mod mqtt;
mod options;
mod outcome;
mod process;
mod progress;
mod publisher;
mod report;
mod speed;
mod suite;
mod syncs;
mod topology;
mod uri;
mod window;
mod wire;

pub use backlog::{Backlog, Half, Sample};
pub use compare::{Column, Comparison, Figures};
pub use disk::{DiskLimits, SyncRate};
pub use error::Error;
pub use feature::findings::{Findings, Part, Ratio, Timing};
pub use histogram::Latency;
pub use jms::options::{DestinationKind, JmsOptions};
pub use mqtt::options::{MqttOptions, ProtocolVersion};
pub use options::Options;
pub use outcome::Outcome;
pub use report::{Report, ServerCost, Sums};
pub use suite::Suite;

use janitor::Janitor;

/// Runs one load against the first broker and returns its figures; prints nothing but progress.
pub fn measure(options: &Options) -> Result<Report, Error> {
    load::run(options, &mut Janitor::default())
}

/// Measures all that `options` ask for: a suite, the disk, several brokers. Prints nothing but progress.
pub fn measure_all(options: &Options) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    outcome.measure(options, &mut Janitor::default()).map(|()| outcome)
}

/// Does what the command line asks for, and prints the result. What was measured before an error is printed, too.
pub fn run(options: Options) -> Result<(), Error> {
    if janitor::is_janitor() {
        janitor::clean_up();
        return Ok(());
    }
    let mut outcome = Outcome::default();
    let measured = outcome.measure(&options, &mut Janitor::hire());
    print!("{outcome}");
    let json = options.json.as_deref().filter(|_| !outcome.is_empty());
    measured.and(json.map_or(Ok(()), |path| outcome.write(path)))
}
