//! The loads of JMS, in the order in which `docs/benchmarks.md` shows them.

use super::options::{DestinationKind, JmsOptions};
use crate::compare::Comparison;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::options::Options;
use crate::outcome::Outcome;
use crate::suite;

const SIZE: usize = 1 << 10;
/// Publishers that each wait for their answers.
const MANY: usize = 16;
const SUBSCRIBERS: [usize; 3] = [1, 10, 100];
const TRANSACTED: u64 = 100;

/// Runs every load; what was measured before an error is in `outcome` all the same.
pub(crate) fn run(options: &Options, janitor: &mut Janitor, outcome: &mut Outcome) -> Result<(), Error> {
    outcome.notes = vec![
        "An `asynchronous` publisher waits for nothing, a `synchronous` one for the answer to each message, as clients \
         of JMS do with persistent ones."
            .to_owned(),
    ];
    for load in loads(&suite::plain(options)) {
        let name = load.resolved().describe();
        eprintln!("\n== {name}");
        outcome.loads.push(Comparison::run(&name, &load, janitor)?);
    }
    Ok(())
}

fn loads(plain: &Options) -> Vec<Options> {
    let plain = || Options { size: SIZE, ..plain.clone() };
    let persistent = || Options { persistent: true, ..plain() };
    // Whoever waits for the disk is measured without consumers, whose acknowledgements would share it.
    let synchronous = |publishers| Options { publishers, confirms: 1, consumers: 0, ..persistent() };
    let mut loads = vec![plain(), persistent(), synchronous(1), synchronous(MANY)];
    let transacted = JmsOptions { transacted: Some(TRANSACTED), ..JmsOptions::default() };
    loads.push(Options { jms: transacted, ..persistent() });
    for consumers in SUBSCRIBERS {
        let jms = JmsOptions { destination: Some(DestinationKind::Topic), ..JmsOptions::default() };
        loads.push(Options { consumers, jms, ..plain() });
    }
    loads.push(Options { one_in_flight: true, ..plain() });
    loads.push(Options { one_in_flight: true, confirms: 1, ack: true, ..persistent() });
    loads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn every_load_is_there_once_and_makes_sense() {
        let loads = loads(&suite::plain(&parse("--uri tcp://h --suite jms")));
        let mut described: Vec<_> = loads.iter().map(|load| load.resolved().describe()).collect();
        described.sort();
        described.dedup();
        assert_eq!(described.len(), 10);
        assert!(loads.iter().all(|load| load.check().is_ok()));
    }
}
