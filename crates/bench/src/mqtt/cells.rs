//! The table of topologies, QoS and body sizes, in the order in which `docs/benchmarks.md` shows it.

use crate::compare::Comparison;
use crate::error::Error;
use crate::janitor::Janitor;
use crate::options::{Options, bytes, count};
use crate::outcome::Outcome;
use crate::suite;

use super::options::MqttOptions;

const MANY: usize = 1000;
const SIZES: [usize; 2] = [16, 1 << 10];
/// Messages that a publisher may have unacknowledged, if it is alone; among a thousand each has its share.
const OUTSTANDING: usize = 100;
const OUTSTANDING_OF_MANY: usize = 10;
/// Deliveries that may be under way with QoS 0: so many bytes, which sockets hold, and so many messages.
const UNDELIVERED_BYTES: usize = 4 << 20;
const UNDELIVERED_MAX: usize = 10_000;
/// The same with QoS 1 and 2, where a broker keeps a record of each.
const UNDELIVERED_RECORDS: usize = 1000;
/// To a thousand subscribers, so many messages for each of them.
const UNDELIVERED_EACH: usize = 20;

/// Runs every load; what was measured before an error is in `outcome` all the same.
pub(crate) fn run(options: &Options, janitor: &mut Janitor, outcome: &mut Outcome) -> Result<(), Error> {
    outcome.notes = vec![format!(
        "`undelivered` is how many deliveries may be due and not have arrived: publishers wait for them. An `unpaced` \
         one does not, and what the broker drops then is lost. The connections of each side share {} of the tool.",
        count(options.mqtt.threads.unwrap_or(1), "thread")
    )];
    for (name, load) in loads(&suite::plain(options)) {
        eprintln!("\n== {name}: {}", load.resolved().describe());
        outcome.loads.push(Comparison::run(&name, &load, janitor)?);
    }
    Ok(())
}

/// All loads and their names: publishers, subscribers, QoS and size.
fn loads(plain: &Options) -> Vec<(String, Options)> {
    let mut loads = Vec::new();
    for (publishers, consumers) in [(1, 1), (1, MANY), (MANY, 1)] {
        for qos in 0..=2 {
            for size in SIZES {
                let confirms = match (qos, publishers) {
                    (0, _) => 0,
                    (_, 1) => OUTSTANDING,
                    _ => OUTSTANDING_OF_MANY,
                };
                let window = match (consumers, qos) {
                    (1, 0) => (UNDELIVERED_BYTES / size).min(UNDELIVERED_MAX),
                    (1, _) => UNDELIVERED_RECORDS,
                    _ => UNDELIVERED_EACH * consumers,
                };
                // Each publisher of many has a topic of its own, as devices do.
                let (topics, undelivered) = (Some(publishers), Some(window as u64));
                let mqtt = MqttOptions { qos: Some(qos), topics, undelivered, ..plain.mqtt.clone() };
                let name = format!("{publishers}:{consumers}, QoS {qos}, {}", bytes(size));
                loads.push((name, Options { publishers, consumers, size, confirms, mqtt, ..plain.clone() }));
            }
        }
    }
    // What happens where nobody waits. More publishers or subscribers would fill the sockets for minutes.
    let mqtt = MqttOptions { qos: Some(0), ..plain.mqtt.clone() };
    loads.push(("1:1, QoS 0, 16 B, unpaced".to_owned(), Options { size: SIZES[0], mqtt, ..plain.clone() }));
    let mqtt = MqttOptions { qos: Some(0), ..plain.mqtt.clone() };
    loads.push((
        "1:1, QoS 0, 16 B, one in flight".to_owned(),
        Options { one_in_flight: true, size: SIZES[0], mqtt, ..plain.clone() },
    ));
    loads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    #[test]
    fn every_load_is_there_once_and_makes_sense() {
        let loads = loads(&suite::plain(&parse("--uri mqtt://h --suite mqtt")));
        let mut described: Vec<_> =
            loads.iter().map(|(name, load)| format!("{name}: {}", load.resolved().describe())).collect();
        assert_eq!(described.len(), 3 * 3 * 2 + 2);
        assert_eq!(described[0], "1:1, QoS 0, 16 B: 16 B QoS 0, 1 publisher, 1 subscriber, 10,000 undelivered");
        assert_eq!(
            described[15],
            "1000:1, QoS 1, 1 KiB: 1 KiB QoS 1, 1000 publishers, 1 subscriber, 1000 topics, 10 unacknowledged, 1,000 undelivered"
        );
        described.sort();
        described.dedup();
        assert_eq!(described.len(), loads.len());
        assert!(loads.iter().all(|(_, load)| load.check().is_ok()));
    }
}
