//! Bindings, each known by its two ends and by what else tells it apart from others between them.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::{Binding, BindingRequest, Destination, End, Name, Table, topology::VhostState};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    At, Body, Object,
    exchanges::{arguments, named},
};
use crate::{
    Admin, json,
    page::{self, Wish, Written},
    problem::{Answer, Problem},
    requester::Requester,
};

/// What stays as it is in a properties key.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b' ');

/// What must not stand in a path as it is (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What tells a binding apart from others between the same ends: its key, and a hash of its arguments if it has any.
fn properties_key(key: &str, arguments: &Table) -> String {
    if key.is_empty() && arguments.is_empty() {
        return "~".into();
    }
    let mut text = utf8_percent_encode(key, KEPT).to_string().replace(' ', "+");
    if !arguments.is_empty() {
        let mut hasher = DefaultHasher::new();
        json::of_table(arguments).to_string().hash(&mut hasher);
        text.push('~');
        text.push_str(&URL_SAFE_NO_PAD.encode(&hasher.finish().to_be_bytes()[..4]));
    }
    text
}

/// A binding with the names of its ends.
struct Ends {
    source: Name,
    destination: Name,
    is_queue: bool,
    key: Name,
    arguments: Table,
}

impl Ends {
    fn of(binding: &Binding, state: &VhostState) -> Option<Self> {
        let (destination, is_queue) = match &binding.destination {
            Destination::Exchange(name) => (name.clone(), false),
            Destination::Queue(id) => (state.queue_by_id(*id).filter(|queue| queue.is_ordinary())?.name.clone(), true),
        };
        let Binding { source, key, arguments, .. } = binding.clone();
        Some(Self { source, destination, is_queue, key, arguments })
    }

    fn json(&self, vhost: &str) -> Value {
        json!({
            "source": self.source.as_str(),
            "vhost": vhost,
            "destination": self.destination.as_str(),
            "destination_type": if self.is_queue { "queue" } else { "exchange" },
            "routing_key": self.key.as_str(),
            "arguments": json::of_table(&self.arguments),
            "properties_key": properties_key(&self.key, &self.arguments),
        })
    }

    /// Whether a path means it, which has been decoded once and which some clients encode twice.
    fn is_called(&self, path: &str) -> bool {
        let key = properties_key(&self.key, &self.arguments);
        let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        path == key || decoded(path) == decoded(&key)
    }
}

/// The bindings of a vhost that pass, and those of the default exchange, which has each queue bound by its name.
fn list(admin: &Admin, who: &Requester, vhost: Option<&str>, wish: &Wish, is_it: impl Fn(&Ends) -> bool) -> Answer {
    let mut rows = Vec::new();
    for vhost in who.vhosts(admin, vhost)? {
        let found = found(&vhost.read(), &is_it);
        rows.extend(found.iter().map(|ends| Written(ends.json(vhost.name()))));
    }
    page::list(wish, rows).map(Json)
}

fn found(state: &VhostState, is_it: impl Fn(&Ends) -> bool) -> Vec<Ends> {
    let mut queues: Vec<_> = state.queues().filter(|queue| queue.is_ordinary()).collect();
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let by_name = queues.into_iter().map(|queue| {
        let (destination, key) = (queue.name.clone(), queue.name.clone());
        Ends { source: "".into(), destination, is_queue: true, key, arguments: Table::default() }
    });
    let others = state.bindings().filter_map(|binding| Ends::of(binding, state));
    by_name.chain(others).filter(|ends| is_it(ends)).collect()
}

/// `GET /api/bindings`
pub async fn all(State(admin): At, who: Requester, Query(wish): Query<Wish>) -> Answer {
    list(&admin, &who, None, &wish, |_| true)
}

/// `GET /api/bindings/VHOST`
pub async fn of_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>, Query(wish): Query<Wish>) -> Answer {
    list(&admin, &who, Some(&vhost), &wish, |_| true)
}

/// `GET /api/queues/VHOST/NAME/bindings`
pub async fn to_queue(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(wish): Query<Wish>,
) -> Answer {
    let of = who.vhost(&admin, &vhost)?;
    super::queues::find(&of, &name).ok_or(Problem::Missing)?;
    list(&admin, &who, Some(&vhost), &wish, |ends| ends.is_queue && *ends.destination == *name)
}

fn exchange(admin: &Admin, who: &Requester, vhost: &str, name: &str) -> Result<(), Problem> {
    let vhost = who.vhost(admin, vhost)?;
    let is_there = name.is_empty() || vhost.read().exchange(name).is_some();
    if is_there { Ok(()) } else { Err(Problem::Missing) }
}

/// `GET /api/exchanges/VHOST/NAME/bindings/source`
pub async fn from_exchange(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(wish): Query<Wish>,
) -> Answer {
    let name = named(&name);
    exchange(&admin, &who, &vhost, name)?;
    list(&admin, &who, Some(&vhost), &wish, |ends| *ends.source == *name)
}

/// `GET /api/exchanges/VHOST/NAME/bindings/destination`
pub async fn to_exchange(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(wish): Query<Wish>,
) -> Answer {
    let name = named(&name);
    exchange(&admin, &who, &vhost, name)?;
    list(&admin, &who, Some(&vhost), &wish, |ends| !ends.is_queue && *ends.destination == *name)
}

/// Two ends in a path: `q` and `e` stand for the kinds of the second.
type Path4 = (String, String, String, String);

fn is_queue(kind: &str) -> Result<bool, Problem> {
    match kind {
        "q" => Ok(true),
        "e" => Ok(false),
        _ => Err(Problem::Missing),
    }
}

/// `GET /api/bindings/VHOST/e/SOURCE/q/DESTINATION`
pub async fn between(
    State(admin): At,
    who: Requester,
    Path((vhost, source, kind, destination)): Path<Path4>,
    Query(wish): Query<Wish>,
) -> Answer {
    let (source, is_queue) = (named(&source), is_queue(&kind)?);
    list(&admin, &who, Some(&vhost), &wish, |ends| {
        *ends.source == *source && ends.is_queue == is_queue && *ends.destination == *destination
    })
}

/// The binding that a path means.
fn find(
    admin: &Admin,
    who: &Requester,
    (vhost, source, kind, destination): (&str, &str, &str, &str),
    properties: &str,
) -> Result<Ends, Problem> {
    let (vhost, is_queue) = (who.vhost(admin, vhost)?, is_queue(kind)?);
    let is_it = |ends: &Ends| {
        *ends.source == *source
            && ends.is_queue == is_queue
            && *ends.destination == *destination
            && ends.is_called(properties)
    };
    let found = found(&vhost.read(), is_it).pop();
    found.ok_or(Problem::Missing)
}

/// `GET /api/bindings/VHOST/e/SOURCE/q/DESTINATION/PROPERTIES`
pub async fn one(
    State(admin): At,
    who: Requester,
    Path((vhost, source, kind, destination, properties)): Path<(String, String, String, String, String)>,
) -> Answer {
    let ends = find(&admin, &who, (&vhost, named(&source), &kind, &destination), &properties)?;
    Ok(Json(ends.json(&vhost)))
}

fn end<'a>(is_queue: bool, name: &'a str) -> End<'a> {
    if is_queue { End::Queue(name) } else { End::Exchange(name) }
}

/// `POST /api/bindings/VHOST/e/SOURCE/q/DESTINATION`
pub async fn bind(
    State(admin): At,
    who: Requester,
    Path((vhost, source, kind, destination)): Path<Path4>,
    Body(object): Object,
) -> Answer<Response> {
    let caller = who.caller(&admin, &vhost)?;
    let key = match object.get("routing_key") {
        None | Some(Value::Null) => "",
        Some(Value::String(key)) => key,
        Some(other) => return Err(Problem::bad(format!("'routing_key' is {other}; it must be text"))),
    };
    let arguments = arguments(&object)?;
    let properties = properties_key(key, &arguments);
    let destination_end = end(is_queue(&kind)?, &destination);
    let request = BindingRequest { source: named(&source), destination: destination_end, key, arguments };
    admin.broker.bind(&caller, request)?;
    who.note("bind", &format!("'{destination}' to exchange '{source}' with key '{key}' in vhost '{vhost}'"));
    admin.safe().await;
    let quoted = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let location = format!("{}/{}", quoted(&destination), quoted(&properties));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// `DELETE /api/bindings/VHOST/e/SOURCE/q/DESTINATION/PROPERTIES`
pub async fn unbind(
    State(admin): At,
    who: Requester,
    Path((vhost, source, kind, destination, properties)): Path<(String, String, String, String, String)>,
) -> Answer<StatusCode> {
    let caller = who.caller(&admin, &vhost)?;
    let source = named(&source);
    let Ends { key, arguments, is_queue, .. } = find(&admin, &who, (&vhost, source, &kind, &destination), &properties)?;
    let request = BindingRequest { source, destination: end(is_queue, &destination), key: &key, arguments };
    admin.broker.unbind(&caller, request)?;
    who.note("unbind", &format!("'{destination}' from exchange '{source}' with key '{key}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(key: &str, arguments: Table) -> Ends {
        Ends { source: "x".into(), destination: "q".into(), is_queue: true, key: key.into(), arguments }
    }

    #[test]
    fn keys_are_rabbitmqs() {
        let keys = [("", "~"), ("a.#", "a.%23"), ("k 2", "k+2"), ("a~b", "a%7Eb"), ("a/b", "a%2Fb"), ("x_-.", "x_-.")];
        for (key, expected) in keys {
            assert_eq!(properties_key(key, &Table::default()), expected);
            assert!(ends(key, Table::default()).is_called(expected), "{key}");
        }
        assert!(ends("k 2", Table::default()).is_called("k%202"));
        assert!(ends("a.#", Table::default()).is_called("a.#"));
        let with = ends("k", Table(vec![("a".into(), "b".into())]));
        let key = properties_key(&with.key, &with.arguments);
        assert!(key.starts_with("k~") && key.len() == 8, "{key}");
        assert!(with.is_called(&key) && !with.is_called("k"));
    }
}
