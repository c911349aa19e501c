//! Suites about what a broker does besides taking and giving messages: `ttl`, `priority`, `delayed`, `stream`, `many`.
//!
//! Each suite declares what it needs (see `declare`), lets messages flow through it in phases, and hands over
//! `findings`. A phase is a `Flow`: tasks of `sender` and `receiver`, watched until all has arrived. Messages are cast
//! from a `mold` and carry a time and a number, from which `arrivals` tells what came late, early, twice or never.

pub(crate) mod arrivals;
pub(crate) mod declare;
pub(crate) mod delayed;
pub(crate) mod findings;
pub(crate) mod flow;
pub(crate) mod many;
pub(crate) mod mold;
pub(crate) mod priority;
pub(crate) mod receiver;
pub(crate) mod sender;
pub(crate) mod stream;
pub(crate) mod ttl;

use crate::error::Error;
use crate::janitor::Janitor;
use crate::load;
use crate::options::Options;
use crate::suite;
use findings::Findings;

/// Where nothing else is said.
pub(crate) const MESSAGES: u64 = 200_000;
/// The body of every message.
pub(crate) const SIZE: usize = 100;
/// Messages that a publisher may have unconfirmed.
pub(crate) const OUTSTANDING: usize = 1000;
/// What consumers that acknowledge may hold; they acknowledge twice as often.
pub(crate) const PREFETCH: u16 = 2000;

/// Measures one broker.
pub(crate) type Measure = fn(&Options, &mut Janitor) -> Result<Findings, Error>;

/// Measures every column, in rounds; what was measured before an error is in `done` all the same. Whatever a
/// broker did wrong is an error in the end.
pub(crate) fn run(
    measure: Measure,
    options: &Options,
    janitor: &mut Janitor,
    done: &mut Vec<Findings>,
) -> Result<(), Error> {
    let persistent = !options.is_mqtt();
    let options = Options { messages: options.messages, size: SIZE, persistent, ..suite::plain(options) };
    let columns = options.columns();
    let mut rounds = vec![Vec::new(); columns.len()];
    let measured = measure_rounds(measure, &columns, janitor, &mut rounds);
    done.extend(rounds.into_iter().filter_map(Findings::median));
    findings::compare(done);
    measured?;
    findings::judge(done)
}

fn measure_rounds(
    measure: Measure,
    columns: &[Options],
    janitor: &mut Janitor,
    rounds: &mut [Vec<Findings>],
) -> Result<(), Error> {
    for _ in 0..columns.first().and_then(|options| options.rounds).unwrap_or(1).max(1) {
        for (options, round) in columns.iter().zip(rounds.iter_mut()) {
            load::check(options)?;
            let place = options.place();
            eprintln!("\n== {place}");
            round.push(match measure(options, janitor) {
                Err(lack) if lack.is_lack() => Findings::unavailable(place, &lack),
                outcome => outcome?,
            });
        }
    }
    Ok(())
}
