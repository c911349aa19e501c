//! Limits of vhosts and of users.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use broker::{
    Name, Table, Value as Model,
    broker::accounts::{USER_LIMITS, VHOST_LIMITS},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{At, Body};
use crate::{
    Admin, json,
    problem::{Answer, Problem},
    requester::Requester,
};

/// The parameter that holds the limits of a vhost.
const COMPONENT: &str = "vhost-limits";

/// A limit to be set.
#[derive(Deserialize)]
pub struct Limit {
    value: i64,
}

fn check(name: &str, known: &[&str]) -> Result<(), Problem> {
    if known.contains(&name) {
        return Ok(());
    }
    Err(Problem::bad(format!("there is no limit '{name}'; there are {}", known.join(" and "))))
}

fn of_vhost(admin: &Admin, vhost: &str) -> Table {
    let parameters = admin.broker.parameters().into_iter();
    let mut found = parameters.filter(|(of, component, ..)| **of == *vhost && &**component == COMPONENT);
    match found.next() {
        Some((.., Model::Table(limits))) => limits,
        _ => Table::default(),
    }
}

fn keep(admin: &Admin, vhost: &str, limits: Table) {
    let (vhost, component, name): (Name, Name, Name) = (vhost.into(), COMPONENT.into(), "limits".into());
    if limits.is_empty() {
        admin.broker.delete_parameter(&vhost, &component, &name);
    } else {
        admin.broker.put_parameter(&vhost, &component, &name, Model::Table(limits));
    }
}

fn vhost_json(vhost: &str, limits: &Table) -> Value {
    json!({ "vhost": vhost, "value": json::of_table(limits) })
}

/// `GET /api/vhost-limits`
pub async fn vhosts(State(admin): At, who: Requester) -> Answer {
    let vhosts = who.vhosts(&admin, None)?.into_iter();
    let limits = vhosts.map(|vhost| (vhost.name().clone(), of_vhost(&admin, vhost.name())));
    Ok(Json(
        limits.filter(|(_, limits)| !limits.is_empty()).map(|(vhost, limits)| vhost_json(&vhost, &limits)).collect(),
    ))
}

/// `GET /api/vhost-limits/VHOST`
pub async fn vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    who.vhost(&admin, &vhost)?;
    let limits = of_vhost(&admin, &vhost);
    let shown = (!limits.is_empty()).then(|| vhost_json(&vhost, &limits));
    Ok(Json(shown.into_iter().collect()))
}

/// `PUT /api/vhost-limits/VHOST/NAME`
pub async fn set_vhost(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(limit): Body<Limit>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.vhost(&admin, &vhost)?;
    check(&name, &VHOST_LIMITS)?;
    let mut limits = of_vhost(&admin, &vhost);
    limits.remove(&name);
    limits.push(&name, Model::I64(limit.value));
    keep(&admin, &vhost, limits);
    who.note("set vhost limit", &format!("{name} of '{vhost}' to {}", limit.value));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/vhost-limits/VHOST/NAME`
pub async fn clear_vhost(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.vhost(&admin, &vhost)?;
    let mut limits = of_vhost(&admin, &vhost);
    limits.remove(&name);
    keep(&admin, &vhost, limits);
    who.note("clear vhost limit", &format!("{name} of '{vhost}'"));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

fn user_json(name: &Name, limits: impl Iterator<Item = (String, i64)>) -> Option<Value> {
    let limits: Map<String, Value> = limits.map(|(limit, value)| (limit, value.into())).collect();
    (!limits.is_empty()).then(|| json!({ "user": name.as_str(), "value": limits }))
}

/// `GET /api/user-limits`
pub async fn users(State(admin): At, who: Requester) -> Answer {
    who.administrator()?;
    let users = admin.broker.identity.users();
    let limits = users.iter().filter_map(|(name, user)| {
        user_json(name, user.limits.iter().map(|(limit, value)| (limit.to_string(), *value)))
    });
    Ok(Json(limits.collect()))
}

/// `GET /api/user-limits/USER`
pub async fn user(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer {
    who.administrator()?;
    let user = admin.broker.identity.user(&name).ok_or(Problem::Missing)?;
    let limits = user.limits.iter().map(|(limit, value)| (limit.to_string(), *value));
    Ok(Json(user_json(&name.as_str().into(), limits).into_iter().collect()))
}

/// `PUT /api/user-limits/USER/NAME`
pub async fn set_user(
    State(admin): At,
    who: Requester,
    Path((user, name)): Path<(String, String)>,
    Body(limit): Body<Limit>,
) -> Answer<StatusCode> {
    who.administrator()?;
    check(&name, &USER_LIMITS)?;
    let (user, key) = (Name::from(user), Name::from(name));
    let is_there = admin.broker.change_user(&user, false, |user| {
        user.limits.insert(key.clone(), limit.value);
    });
    if !is_there {
        return Err(Problem::Missing);
    }
    who.note("set user limit", &format!("{key} of '{user}' to {}", limit.value));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /api/user-limits/USER/NAME`
pub async fn clear_user(
    State(admin): At,
    who: Requester,
    Path((user, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    let user = Name::from(user);
    let is_there = admin.broker.change_user(&user, false, |user| {
        user.limits.remove(&*name);
    });
    if !is_there {
        return Err(Problem::Missing);
    }
    who.note("clear user limit", &format!("{name} of '{user}'"));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}
