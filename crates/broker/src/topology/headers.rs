//! The index of a headers exchange: each binding is found through the pairs that it asks for, so that a message is
//! compared with the bindings that share a header with it and with no others.

use std::collections::{BTreeMap, HashMap};

use super::Destination;
use crate::{
    refusal::Refusal,
    value::{Name, Table, Value},
};

/// The bindings of a headers exchange.
#[derive(Debug, Default)]
pub struct HeadersIndex {
    bindings: BTreeMap<u64, HeadersBinding>,
    next: u64,
    by_pair: HashMap<PairKey, Vec<u64>>,
    /// Bindings without any pair to look for.
    unconditional: Vec<u64>,
}

#[derive(Debug)]
struct HeadersBinding {
    arguments: Table,
    pairs: Vec<(Name, Value)>,
    all: bool,
    destination: Destination,
}

/// A header name with its value; `None` where any value will do.
type PairKey = (Name, Option<String>);

impl HeadersIndex {
    /// Checks the `x-match` argument of a binding.
    ///
    /// # Errors
    /// [`Refusal::InvalidMatch`] if it is none of the four forms.
    pub fn check(arguments: &Table) -> Result<(), Refusal> {
        match arguments.get("x-match") {
            None => Ok(()),
            Some(value) => match value.as_text() {
                Some("all" | "any" | "all-with-x" | "any-with-x") => Ok(()),
                Some(text) => Err(Refusal::InvalidMatch(format!(
                    "value <<\"{text}\">>; expected all, any, all-with-x, or any-with-x"
                ))),
                None => Err(Refusal::InvalidMatch(format!(
                    "type {} (value {}); expected longstr",
                    value.type_name(),
                    comparable(value)
                ))),
            },
        }
    }

    /// Adds a binding.
    pub fn insert(&mut self, arguments: &Table, destination: Destination) {
        let form = arguments.get("x-match").and_then(Value::as_text).unwrap_or("all");
        let with_x = form.ends_with("-with-x");
        let pairs = arguments.0.iter().filter(|(name, _)| &**name != "x-match" && (with_x || !name.starts_with("x-")));
        let pairs: Vec<_> = pairs.cloned().collect();
        let id = self.next;
        self.next += 1;
        let binding = HeadersBinding { arguments: arguments.clone(), all: form.starts_with("all"), pairs, destination };
        for key in binding.index_keys() {
            self.by_pair.entry(key).or_default().push(id);
        }
        if binding.pairs.is_empty() && binding.all {
            self.unconditional.push(id);
        }
        self.bindings.insert(id, binding);
    }

    /// Removes the binding with these arguments and this destination.
    pub fn remove(&mut self, arguments: &Table, destination: &Destination) {
        let mut same = self.bindings.iter().filter(|(_, b)| b.destination == *destination && b.arguments == *arguments);
        let Some((&id, _)) = same.next() else { return };
        let Some(binding) = self.bindings.remove(&id) else { return };
        for key in binding.index_keys() {
            if let Some(ids) = self.by_pair.get_mut(&key) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_pair.remove(&key);
                }
            }
        }
        self.unconditional.retain(|&other| other != id);
    }

    /// Calls `found` for the destination of every binding that matches.
    pub fn matches(&self, headers: &Table, mut found: impl FnMut(&Destination)) {
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

impl HeadersBinding {
    /// One pair is enough to find a binding that wants all of them; one that wants any is found by each.
    fn index_keys(&self) -> Vec<PairKey> {
        let wanted = if self.all { 1 } else { self.pairs.len() };
        self.pairs.iter().take(wanted).map(|(name, value)| (name.clone(), wanted_value(value))).collect()
    }

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
fn comparable(value: &Value) -> String {
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
        let destination = Destination::Queue(QueueId(1));
        index.insert(arguments, destination.clone());
        let mut found = false;
        index.matches(headers, |_| found = true);
        index.remove(arguments, &destination);
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
        let refused = HeadersIndex::check(&table(&[("x-match", Value::from("some"))]));
        let text = "Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or any-with-x";
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
}
