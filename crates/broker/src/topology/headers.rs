//! The index of a headers exchange: each binding is found through the pairs that it asks for, so that a message is
//! compared with the bindings that share a header with it and with no others.

use std::collections::{BTreeSet, HashMap};

use super::{Destination, vhost::BindingId};
use crate::{
    refusal::Refusal,
    value::{Name, Table, Value},
};

/// The bindings of a headers exchange.
#[derive(Debug, Default)]
pub struct HeadersIndex {
    bindings: HashMap<u64, HeadersBinding>,
    numbers: HashMap<BindingId, u64>,
    next: u64,
    by_pair: HashMap<PairKey, BTreeSet<u64>>,
    /// Bindings without any pair to look for.
    unconditional: BTreeSet<u64>,
}

#[derive(Debug)]
struct HeadersBinding {
    pairs: Vec<(Name, Value)>,
    all: bool,
    destination: Destination,
    /// Under which of the pairs it is found.
    keys: Vec<PairKey>,
}

/// A header name with its value; `None` where any value will do.
type PairKey = (Name, Option<String>);

impl HeadersIndex {
    /// Adds a binding.
    ///
    /// # Errors
    /// [`Refusal::InvalidMatch`] if `x-match` is none of the four forms.
    pub(super) fn insert(&mut self, id: &BindingId, arguments: &Table) -> Result<(), Refusal> {
        check(arguments)?;
        let form = arguments.get("x-match").and_then(Value::as_text).unwrap_or("all");
        let with_x = form.ends_with("-with-x");
        let pairs = arguments.0.iter().filter(|(name, _)| &**name != "x-match" && (with_x || !name.starts_with("x-")));
        let pairs: Vec<_> = pairs.cloned().collect();
        let all = form.starts_with("all");
        let number = self.next;
        self.next += 1;
        let keys = self.index_keys(&pairs, all);
        for key in &keys {
            self.by_pair.entry(key.clone()).or_default().insert(number);
        }
        if pairs.is_empty() && all {
            self.unconditional.insert(number);
        }
        self.numbers.insert(id.clone(), number);
        self.bindings.insert(number, HeadersBinding { pairs, all, destination: id.0.clone(), keys });
        Ok(())
    }

    /// One pair is enough to find a binding that wants all of them, best the one that the fewest bindings share; one that
    /// wants any is found by each.
    fn index_keys(&self, pairs: &[(Name, Value)], all: bool) -> Vec<PairKey> {
        let keys = pairs.iter().map(|(name, value)| (name.clone(), wanted_value(value)));
        if all {
            return keys.min_by_key(|key| self.by_pair.get(key).map_or(0, BTreeSet::len)).into_iter().collect();
        }
        keys.collect()
    }

    /// Removes a binding.
    pub(super) fn remove(&mut self, id: &BindingId) {
        let Some(number) = self.numbers.remove(id) else { return };
        let Some(binding) = self.bindings.remove(&number) else { return };
        for key in &binding.keys {
            if let Some(numbers) = self.by_pair.get_mut(key) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_pair.remove(key);
                }
            }
        }
        self.unconditional.remove(&number);
    }

    /// Calls `found` for the destination of every binding that matches.
    pub(super) fn matches<'a>(&'a self, headers: &Table, mut found: impl FnMut(&'a Destination)) {
        for id in &self.unconditional {
            found(&self.bindings[id].destination);
        }
        for (name, value) in &headers.0 {
            for key in [(name.clone(), Some(comparable(value))), (name.clone(), None)] {
                for id in self.by_pair.get(&key).into_iter().flatten() {
                    let binding = &self.bindings[id];
                    if !binding.all || binding.all_match(headers) {
                        found(&binding.destination);
                    }
                }
            }
        }
    }
}

/// Checks the `x-match` argument of a binding.
fn check(arguments: &Table) -> Result<(), Refusal> {
    let Some(value) = arguments.get("x-match") else { return Ok(()) };
    Err(Refusal::InvalidMatch(match value.as_text() {
        Some("all" | "any" | "all-with-x" | "any-with-x") => return Ok(()),
        Some(text) => format!("value <<\"{text}\">>; expected all, any, all-with-x, or any-with-x"),
        None => format!("type {} (value {}); expected longstr", value.type_name(), comparable(value)),
    }))
}

impl HeadersBinding {
    fn all_match(&self, headers: &Table) -> bool {
        self.pairs.iter().all(|(name, wanted)| {
            let wanted = wanted_value(wanted);
            headers.get(name).is_some_and(|value| wanted.is_none_or(|wanted| wanted == comparable(value)))
        })
    }
}

fn wanted_value(value: &Value) -> Option<String> {
    (*value != Value::Void).then(|| comparable(value))
}

/// A form in which values are equal if RabbitMQ calls them equal: by value, without their AMQP type.
pub(super) fn comparable(value: &Value) -> String {
    if let Some(integer) = value.as_integer() {
        return integer.to_string();
    }
    match value {
        Value::F32(_) | Value::F64(_) => {
            format!("float {}", value.as_float().unwrap_or_default())
        }
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Text(bytes) | Value::Bytes(bytes) => format!("\"{}", bytes.escape_ascii()),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::QueueId;

    fn table(pairs: &[(&str, Value)]) -> Table {
        Table(pairs.iter().map(|(name, value)| (Name::from(*name), value.clone())).collect())
    }

    fn matched(arguments: &Table, headers: &Table) -> bool {
        let mut index = HeadersIndex::default();
        let id = (Destination::Queue(QueueId(1)), Name::from(""), Vec::new());
        index.insert(&id, arguments).unwrap();
        let mut found = false;
        index.matches(headers, |_| found = true);
        index.remove(&id);
        let mut left = 0;
        index.matches(headers, |_| left += 1);
        assert_eq!((left, index.by_pair.len(), index.bindings.len()), (0, 0, 0), "removal leaves nothing");
        found
    }

    #[test]
    fn the_four_forms() {
        let (one, two) = (Value::I32(1), Value::I32(2));
        let headers = table(&[("a", Value::I64(1)), ("x-b", two.clone())]);
        for (form, arguments, expected) in [
            ("all", vec![("a", one.clone())], true),
            ("all", vec![("a", one.clone()), ("c", one.clone())], false),
            ("all", vec![("a", one.clone()), ("x-b", one.clone())], true),
            ("all-with-x", vec![("a", one.clone()), ("x-b", one.clone())], false),
            ("all-with-x", vec![("a", one), ("x-b", two.clone())], true),
            ("any", vec![("a", two.clone()), ("x-b", two.clone())], false),
            ("any-with-x", vec![("a", two.clone()), ("x-b", two)], true),
            ("all", vec![], true),
            ("any", vec![], false),
            ("all", vec![("a", Value::Void)], true),
            ("any", vec![("zz", Value::Void)], false),
        ] {
            let mut all = vec![("x-match", Value::from(form))];
            all.extend(arguments.clone());
            assert_eq!(matched(&table(&all), &headers), expected, "{form} {arguments:?}");
        }
    }

    #[test]
    fn a_bad_form_is_refused() {
        let refused = check(&table(&[("x-match", Value::from("some"))]));
        let text = "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x";
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
}
