//! Confirmed persistent publishing, by body size, publishers and outstanding confirms.
//!
//! Nothing consumes: with a consumer that keeps up, a broker may confirm a message because it is gone already, without
//! having stored it, and on a small machine the deliveries would compete with what is measured. Each load has new
//! queues, which are deleted after it, and a bound on the bytes published, so the disk stays bounded too.

use crate::compare::Comparison;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::suite;

const SIZES: [usize; 3] = [100, 1 << 10, 64 << 10];
const PUBLISHERS: [usize; 2] = [1, 16];
const OUTSTANDING: [usize; 4] = [1, 10, 100, 1000];

/// Publishers have a queue each up to this many, and then share them.
const QUEUES_MAX: usize = 4;
/// Bodies that all publishers together may have unconfirmed.
const UNCONFIRMED_BYTES_MAX: usize = 64 << 20;
/// Bodies that one measured window may leave on the disk.
const WINDOW_BYTES_MAX: u64 = 2 << 30;

/// Runs every load; what was measured before an error is in `outcome` all the same.
pub(crate) fn run(options: &Options, janitor: &mut Janitor, outcome: &mut Outcome) -> Result<(), Error> {
    outcome.notes = notes();
    outcome.notes.iter().for_each(|note| eprintln!("{note}"));
    for load in loads(&suite::plain(options)) {
        let name = load.describe();
        eprintln!("\n== {name}");
        outcome.loads.push(Comparison::run(&name, &load, janitor)?);
    }
    Ok(())
}

fn notes() -> Vec<String> {
    vec![
        format!(
            "Publishers have a durable queue each, or share {QUEUES_MAX}. A window ends early after {} MiB of bodies.",
            WINDOW_BYTES_MAX >> 20
        ),
        format!(
            "All publishers of a load together have at most {} MiB of bodies unconfirmed: with 16 of them, {} messages \
             of 64 KiB stand in place of 100 and of 1,000.",
            UNCONFIRMED_BYTES_MAX >> 20,
            outstanding(1000, 64 << 10, 16)
        ),
    ]
}

/// Two numbers of outstanding messages that the bound makes equal are one load.
fn loads(plain: &Options) -> Vec<Options> {
    let mut loads = Vec::new();
    for size in SIZES {
        for publishers in PUBLISHERS {
            let mut outstandings = OUTSTANDING.map(|wanted| outstanding(wanted, size, publishers)).to_vec();
            outstandings.dedup();
            loads.extend(outstandings.into_iter().map(|confirms| Options {
                size,
                publishers,
                confirms,
                queues: publishers.min(QUEUES_MAX),
                consumers: 0,
                persistent: true,
                bytes_max: Some(WINDOW_BYTES_MAX),
                ..plain.clone()
            }));
        }
    }
    loads
}

/// How many messages each publisher may have unconfirmed.
fn outstanding(wanted: usize, size: usize, publishers: usize) -> usize {
    wanted.min(UNCONFIRMED_BYTES_MAX / (size * publishers)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn bytes_in_flight_are_bounded_and_no_load_is_measured_twice() {
        let loads = loads(&suite::plain(&parse("")));
        assert_eq!(loads.len(), 23);
        assert!(loads.iter().all(|load| load.size * load.publishers * load.confirms <= UNCONFIRMED_BYTES_MAX));
        let mut names: Vec<_> = loads.iter().map(Options::describe).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 23);
        assert_eq!((outstanding(1000, 1 << 10, 16), outstanding(1000, 64 << 10, 1)), (1000, 1000));
        assert_eq!((outstanding(100, 64 << 10, 16), outstanding(9, 1 << 30, 1)), (64, 1));
    }
}
