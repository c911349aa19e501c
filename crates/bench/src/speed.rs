//! Rates, cost and latency end to end, in the order in which `docs/benchmarks.md` shows them.

use crate::compare::Comparison;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::options::Options;
use crate::suite;

const SIZE_SMALL: usize = 16;
const KIB: usize = 1024;

/// Where the suite takes the highest rate from, and what it derives from it.
const MAXIMUM: &str = "1 KiB transient";
const TENTH: &str = "10 % load";

/// Runs every scenario; what was measured before an error is in `done` all the same.
pub(crate) fn run(options: &Options, janitor: &mut Janitor, done: &mut Vec<Comparison>) -> Result<(), Error> {
    for (name, mut scenario) in scenarios(&suite::plain(options)) {
        if name == TENTH {
            // All brokers get the same rate, a tenth of what the slowest one reached at full speed.
            let maximum =
                done.iter().find(|comparison| comparison.name == MAXIMUM).map_or(0.0, Comparison::slowest_rate);
            scenario.rate = (maximum / 10.0).max(1.0) as u64;
        }
        eprintln!("\n== {name}");
        done.push(Comparison::run(name, &scenario, janitor)?);
    }
    Ok(())
}

fn scenarios(plain: &Options) -> Vec<(&'static str, Options)> {
    let plain = || plain.clone();
    let reliable = || Options { persistent: true, ack: true, prefetch: 1000, ..plain() };
    vec![
        ("16 B transient", Options { size: SIZE_SMALL, ..plain() }),
        (MAXIMUM, Options { size: KIB, ..plain() }),
        ("1 KiB persistent", Options { size: KIB, confirms: 100, ..reliable() }),
        ("256 B persistent", Options { size: 256, confirms: 1000, publishers: 2, consumers: 2, ..reliable() }),
        ("fan-out", Options { size: 100, fanout: Some(10), ..plain() }),
        (TENTH, Options { size: KIB, ..plain() }),
        ("one in flight", Options { size: SIZE_SMALL, one_in_flight: true, ..plain() }),
        ("one in flight, persistent", Options { one_in_flight: true, size: KIB, confirms: 1, ..reliable() }),
    ]
}
