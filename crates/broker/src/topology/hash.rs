//! Exchanges that hash: `x-consistent-hash`, and the numbers behind `x-modulus-hash`.
//!
//! Each destination gives each key a score, and the best one wins (rendezvous hashing). So a new destination takes keys
//! from all others in proportion to its weight and moves no other key, one that goes away leaves its keys to all others,
//! and neither the order of bindings nor a restart matters. RabbitMQ numbers buckets in the order of bindings instead,
//! and removing one moves most keys.

use std::collections::BTreeMap;

use super::{Destination, facts::Query, headers::comparable};
use crate::{
    refusal::Refusal,
    value::{Name, Table, Value},
};

/// The bindings of a consistent hash exchange.
#[derive(Debug)]
pub(super) struct HashIndex {
    input: Input,
    destinations: BTreeMap<Destination, Weighted>,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    RoutingKey,
    Header(Name),
    Property(Name),
}

#[derive(Debug)]
struct Weighted {
    /// The destination's own hash.
    seed: u64,
    /// Of each binding to it. Only the first one counts, as in RabbitMQ; a restart makes that the first one by key.
    weights: Vec<u32>,
}

/// Properties that can be hashed, as in RabbitMQ.
const PROPERTIES: [&str; 3] = ["correlation_id", "message_id", "timestamp"];

impl HashIndex {
    /// An index for an exchange with these arguments.
    ///
    /// # Errors
    /// If they name both a header and a property, or a property that cannot be hashed.
    pub(super) fn new(arguments: &Table) -> Result<Self, Refusal> {
        let name = |argument: &str| match arguments.get(argument) {
            None => Ok(None),
            Some(value) => match value.as_text() {
                Some(text) => Ok(Some(Name::from(text))),
                None => {
                    let text = format!("invalid type '{}' for arg '{argument}'", value.type_name());
                    Err(Refusal::InvalidExchange(text))
                }
            },
        };
        let input = match (name("hash-header")?, name("hash-property")?) {
            (None, None) => Input::RoutingKey,
            (Some(header), None) => Input::Header(header),
            (None, Some(property)) if PROPERTIES.contains(&&*property) => Input::Property(property),
            (None, Some(property)) => {
                return Err(Refusal::InvalidExchange(format!("Unsupported property: {property}")));
            }
            (Some(_), Some(_)) => {
                let text = "hash-header and hash-property are mutually exclusive";
                return Err(Refusal::InvalidExchange(text.into()));
            }
        };
        Ok(Self { input, destinations: BTreeMap::new() })
    }

    /// Adds a binding whose key is its weight.
    ///
    /// # Errors
    /// If the key is no positive number.
    pub(super) fn insert(&mut self, key: &str, destination: &Destination) -> Result<(), Refusal> {
        let weight = weight(key).map_err(Refusal::InvalidBinding)?;
        let new = || Weighted { seed: destination.seed(), weights: Vec::new() };
        self.destinations.entry(destination.clone()).or_insert_with(new).weights.push(weight);
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &str, destination: &Destination) {
        let Some(weighted) = self.destinations.get_mut(destination) else { return };
        if let Some(at) = weighted.weights.iter().position(|&known| Ok(known) == weight(key)) {
            weighted.weights.remove(at);
        }
        if weighted.weights.is_empty() {
            self.destinations.remove(destination);
        }
    }

    /// Whether the choice depends on the routing key and on nothing else.
    pub(super) fn hashes_key(&self) -> bool {
        self.input == Input::RoutingKey
    }

    /// The destination that a message goes to. All messages without the header or property go to the same one.
    pub(super) fn pick(&self, query: &Query<'_>) -> Option<&Destination> {
        let key = match &self.input {
            Input::RoutingKey => hash(query.first_key().as_bytes()),
            Input::Header(name) => query.headers().get(name).map_or(0, hash_value),
            Input::Property(name) => query.facts.property(name).as_ref().map_or(0, hash_value),
        };
        let mut best = (f64::INFINITY, None);
        for (destination, Weighted { seed, weights }) in &self.destinations {
            let weight = f64::from(weights.first().copied().unwrap_or(1));
            let unit = ((mix(seed ^ key) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            // -ln(u) is at least 1 - u, which spares nearly every destination the logarithm.
            if 1.0 - unit < best.0 * weight {
                let score = -unit.ln() / weight;
                if score < best.0 {
                    best = (score, Some(destination));
                }
            }
        }
        best.1
    }
}

fn weight(key: &str) -> Result<u32, String> {
    match key.parse::<i128>() {
        Ok(number) if number < 1 => Err("The binding key must be greater than 0".into()),
        Ok(number) => u32::try_from(number).map_err(|_| format!("The binding key must not exceed {}", u32::MAX)),
        Err(_) => Err(format!("The binding key must be an integer: {}", erlang_binary(key))),
    }
}

/// Text as Erlang shows it.
fn erlang_binary(text: &str) -> String {
    match text {
        "" => "<<>>".into(),
        _ if text.is_ascii() => format!("<<\"{text}\">>"),
        _ => format!("<<\"{text}\"/utf8>>"),
    }
}

fn hash_value(value: &Value) -> u64 {
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => hash(bytes),
        other => hash(comparable(other).as_bytes()),
    }
}

impl Destination {
    fn seed(&self) -> u64 {
        match self {
            Self::Queue(id) => mix(id.0),
            Self::Exchange(name) => hash(name.as_bytes()),
        }
    }
}

/// A hash that is the same in every version of the broker: FNV-1a, and a mixer for what that leaves to be desired.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    mix(bytes.iter().fold(start, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// SplitMix64: makes bits that look independent out of numbers that follow each other.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::topology::QueueId;

    fn queue(n: u64) -> Destination {
        Destination::Queue(QueueId(n))
    }

    fn picks(index: &HashIndex) -> Vec<Destination> {
        let nothing = Table::default();
        let pick = |n: u32| {
            let key = format!("key-{n}");
            let keys = [key.as_str()];
            index.pick(&Query::new(&keys, &nothing, 0)).unwrap().clone()
        };
        (0..10_000).map(pick).collect()
    }

    fn counts(picks: &[Destination]) -> HashMap<Destination, usize> {
        let mut counts = HashMap::new();
        picks.iter().for_each(|pick| *counts.entry(pick.clone()).or_default() += 1);
        counts
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let mut index = HashIndex::new(&Table::default()).unwrap();
        for (n, weight) in [(1, "1"), (2, "2"), (3, "+3"), (4, "4")] {
            index.insert(weight, &queue(n)).unwrap();
        }
        for (destination, count) in counts(&picks(&index)) {
            let Destination::Queue(QueueId(weight)) = destination else { unreachable!() };
            let expected = 1000 * weight as usize;
            assert!(count.abs_diff(expected) < 150, "{count} instead of {expected}");
        }
    }

    #[test]
    fn a_new_destination_takes_its_share_and_moves_nothing_else() {
        let mut index = HashIndex::new(&Table::default()).unwrap();
        (0..9).for_each(|n| index.insert("10", &queue(n)).unwrap());
        let before = picks(&index);
        index.insert("10", &queue(9)).unwrap();
        let after = picks(&index);
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| **after == queue(9)));
        assert!(moved.len().abs_diff(1000) < 150, "{} moved", moved.len());
        // A second binding of a destination changes nothing, and neither does the order of bindings.
        index.insert("500", &queue(9)).unwrap();
        let mut other = HashIndex::new(&Table::default()).unwrap();
        (0..10).rev().for_each(|n| other.insert("10", &queue(n)).unwrap());
        assert_eq!((picks(&index), picks(&other)), (after.clone(), after));
        index.remove("500", &queue(9));
        index.remove("10", &queue(9));
        assert_eq!(picks(&index), before);
    }

    #[test]
    fn weights_are_positive_numbers() {
        let mut index = HashIndex::new(&Table::default()).unwrap();
        for (key, problem) in [
            ("", "The binding key must be an integer: <<>>"),
            ("1.5", "The binding key must be an integer: <<\"1.5\">>"),
            ("é", "The binding key must be an integer: <<\"é\"/utf8>>"),
            ("0", "The binding key must be greater than 0"),
            ("-7", "The binding key must be greater than 0"),
            ("4294967296", "The binding key must not exceed 4294967295"),
        ] {
            assert_eq!(index.insert(key, &queue(1)).unwrap_err().to_string(), problem);
        }
        assert!(index.destinations.is_empty());
    }

    /// What is on disk depends on these numbers: queues hold what was hashed to them.
    #[test]
    fn hashes_never_change() {
        assert_eq!(hash(b"key"), 0xf536_3672_3d1b_f996);
        assert_eq!(mix(1), 0x910a_2dec_8902_5cc1);
    }
}
