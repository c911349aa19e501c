//! Exchanges.

use std::{borrow::Cow, cmp::Ordering};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use broker::{DeleteRule, ExchangeDeclaration, ExchangeKind, Name, Refusal, Table};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{At, Body, Made, Object, gone, stats};
use crate::{
    Admin,
    history::Past,
    json,
    page::{self, Row, Wish},
    problem::{Answer, Problem},
    requester::Requester,
    sampler::Seen,
};

/// The path's name of the default exchange, which has none.
const DEFAULT: &str = "amq.default";

/// An exchange to be written out.
struct ExchangeRow<'s> {
    vhost: Name,
    name: Name,
    declaration: ExchangeDeclaration,
    counts: (u64, u64),
    policy: Option<(Name, Table)>,
    seen: &'s Seen,
    past: &'s Past,
}

impl Row for ExchangeRow<'_> {
    fn name(&self) -> Cow<'_, str> {
        self.name.as_str().into()
    }

    fn order(&self, other: &Self) -> Ordering {
        (&self.vhost, &self.name).cmp(&(&other.vhost, &other.name))
    }

    fn json(&self) -> Value {
        let declaration = &self.declaration;
        let mut all = json!({
            "name": self.name.as_str(),
            "vhost": self.vhost.as_str(),
            "type": declaration.kind.name(),
            "durable": declaration.durable,
            "auto_delete": declaration.auto_delete,
            "internal": declaration.internal,
            "arguments": json::of_table(&declaration.arguments),
            "user_who_performed_action": "",
        });
        if let Some((policy, _)) = &self.policy {
            all["policy"] = policy.as_str().into();
        }
        let (came, went) = self.counts;
        if came > 0 {
            let known = self.seen.exchanges.get(&(self.vhost.clone(), self.name.clone()));
            let details = |column| stats::Known::of(&known, &[column], self.past.messages());
            let mut messages = Map::new();
            stats::put(&mut messages, "publish_in", came, details(0));
            stats::put(&mut messages, "publish_out", went, details(1));
            all["message_stats"] = messages.into();
        }
        all
    }
}

fn list(admin: &Admin, who: &Requester, vhost: Option<&str>, past: &Past, wish: &Wish) -> Answer {
    let seen = &*admin.sampler.seen();
    let mut rows = Vec::new();
    for vhost in who.vhosts(admin, vhost)? {
        rows.extend(rows_of(&vhost, None, seen, past));
    }
    page::list(wish, rows).map(Json)
}

/// The exchanges of a vhost, or the one with a name.
fn rows_of<'s>(vhost: &broker::Vhost, only: Option<&str>, seen: &'s Seen, past: &'s Past) -> Vec<ExchangeRow<'s>> {
    let state = vhost.read();
    let mut rows = Vec::new();
    if only.is_none_or(str::is_empty) {
        let (kind, durable, auto_delete, internal) = (ExchangeKind::Direct, true, false, false);
        let declaration = ExchangeDeclaration { kind, durable, auto_delete, internal, arguments: Table::default() };
        let (vhost, counts) = (vhost.name().clone(), state.default_traffic.counts());
        rows.push(ExchangeRow { vhost, name: "".into(), declaration, counts, policy: None, seen, past });
    }
    for (name, exchange) in state.exchanges().filter(|(name, _)| only.is_none_or(|only| only == &***name)) {
        let policy = state.policies.for_exchange(name);
        rows.push(ExchangeRow {
            vhost: vhost.name().clone(),
            name: name.clone(),
            declaration: exchange.declaration.clone(),
            counts: exchange.traffic.counts(),
            policy: policy.map(|(name, policy)| (name.clone(), policy.definition.clone())),
            seen,
            past,
        });
    }
    rows
}

/// `GET /api/exchanges`
pub async fn all(State(admin): At, who: Requester, Query(past): Query<Past>, Query(wish): Query<Wish>) -> Answer {
    list(&admin, &who, None, &past, &wish)
}

/// `GET /api/exchanges/VHOST`
pub async fn of_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(past): Query<Past>,
    Query(wish): Query<Wish>,
) -> Answer {
    list(&admin, &who, Some(&vhost), &past, &wish)
}

/// The name that a path means.
pub(super) fn named(path: &str) -> &str {
    if path == DEFAULT { "" } else { path }
}

/// `GET /api/exchanges/VHOST/NAME`
pub async fn one(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(past): Query<Past>,
) -> Answer {
    let vhost = who.vhost(&admin, &vhost)?;
    let seen = &*admin.sampler.seen();
    let row = rows_of(&vhost, Some(named(&name)), seen, &past).pop().ok_or(Problem::Missing)?;
    let mut json = row.json();
    let effective = row.policy.as_ref().map_or_else(|| json!({}), |(_, definition)| json::of_table(definition));
    json["effective_policy_definition"] = effective;
    json["incoming"] = json!([]);
    json["outgoing"] = json!([]);
    Ok(Json(json))
}

/// `PUT /api/exchanges/VHOST/NAME`
pub async fn declare(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    let caller = who.caller(&admin, &vhost)?;
    let flag = |key: &str, otherwise| object.get(key).map_or(Ok(otherwise), |value| boolean(key, value));
    let kind = object.get("type").and_then(Value::as_str).unwrap_or("direct");
    let declaration = ExchangeDeclaration {
        kind: ExchangeKind::parse(kind)?,
        durable: flag("durable", true)?,
        auto_delete: flag("auto_delete", false)?,
        internal: flag("internal", false)?,
        arguments: arguments(&object)?,
    };
    let is_new = caller.vhost.read().exchange(&name).is_none();
    admin.broker.declare_exchange(&caller, &name, declaration)?;
    who.note("declare exchange", &format!("'{name}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(Made(is_new))
}

/// The arguments in a request.
pub(super) fn arguments(object: &Map<String, Value>) -> Result<Table, Problem> {
    match object.get("arguments") {
        None | Some(Value::Null) => Ok(Table::default()),
        Some(Value::Object(arguments)) => Ok(json::table(arguments)),
        // What RabbitMQ's own tools send for none.
        Some(Value::Array(none)) if none.is_empty() => Ok(Table::default()),
        Some(_) => Err(Problem::bad("'arguments' is no object")),
    }
}

/// A truth value, which some tools send as text.
pub(super) fn boolean(key: &str, value: &Value) -> Result<bool, Problem> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        Value::Null => Ok(false),
        other => Err(Problem::bad(format!("'{key}' is {other}; it can be true or false"))),
    }
}

/// When something is to be deleted only.
#[derive(Default, Deserialize)]
pub struct Rule {
    #[serde(rename = "if-unused", default)]
    if_unused: Option<String>,
    #[serde(rename = "if-empty", default)]
    if_empty: Option<String>,
}

impl Rule {
    /// As the model has it.
    pub fn rule(&self) -> DeleteRule {
        let is_set = |flag: &Option<String>| flag.as_deref().is_some_and(|flag| flag != "false");
        DeleteRule { if_unused: is_set(&self.if_unused), if_empty: is_set(&self.if_empty) }
    }
}

/// `DELETE /api/exchanges/VHOST/NAME`
pub async fn remove(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Query(rule): Query<Rule>,
) -> Answer<StatusCode> {
    let caller = who.caller(&admin, &vhost)?;
    let was_there = caller.vhost.read().exchange(&name).is_some();
    match admin.broker.delete_exchange(&caller, &name, rule.rule()) {
        Ok(_) => {}
        Err(Refusal::NotFound(_)) => return Err(Problem::Missing),
        Err(refusal) => return Err(refusal.into()),
    }
    who.note("delete exchange", &format!("'{name}' in vhost '{vhost}'"));
    admin.safe().await;
    gone(was_there)
}
