//! What users may do in which vhost.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use broker::{Name, User};
use serde_json::Value;

use super::{At, Body, Made, Object, gone, item, need};
use crate::{
    Admin,
    definitions::{export, import},
    problem::{Answer, Problem},
    requester::Requester,
};

/// How a user's permissions of some kind are written out.
type Write = fn(&Name, &User) -> Vec<Value>;

fn list(admin: &Admin, write: Write, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
    let users = admin.broker.identity.users();
    users.iter().flat_map(|(name, user)| write(name, user)).filter(is_it).collect()
}

fn in_vhost(admin: &Admin, who: &Requester, vhost: &str, write: Write) -> Answer {
    who.administrator()?;
    who.vhost(admin, vhost)?;
    Ok(Json(list(admin, write, |one| one["vhost"] == *vhost).into()))
}

fn for_user(admin: &Admin, who: &Requester, name: &str, write: Write) -> Answer {
    who.administrator()?;
    let user = admin.broker.identity.user(name).ok_or(Problem::Missing)?;
    Ok(Json(write(&name.into(), &user).into()))
}

/// Refuses to say what somebody may who is not there, or where nothing is.
fn both(admin: &Admin, vhost: &str, user: &str) -> Result<(), Problem> {
    let are_there = admin.broker.vhost(vhost).is_some() && admin.broker.identity.user(user).is_some();
    if are_there { Ok(()) } else { Err(Problem::bad("vhost_or_user_not_found")) }
}

/// Changes a user who is there; says whether something was removed.
async fn take(admin: &Admin, user: &str, take: impl FnOnce(&mut User) -> bool) -> Answer<StatusCode> {
    let mut was_there = false;
    let is_user = admin.broker.identity.user(user).is_some();
    if is_user {
        admin.broker.change_user(&user.into(), false, |user| was_there = take(user));
    }
    admin.safe().await;
    gone(was_there)
}

/// `GET /api/permissions`
pub async fn all(State(admin): At, who: Requester) -> Answer {
    who.administrator()?;
    Ok(Json(list(&admin, export::permissions, |_| true).into()))
}

/// `GET /api/vhosts/VHOST/permissions`
pub async fn of_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    in_vhost(&admin, &who, &vhost, export::permissions)
}

/// `GET /api/users/USER/permissions`
pub async fn of_user(State(admin): At, who: Requester, Path(user): Path<String>) -> Answer {
    for_user(&admin, &who, &user, export::permissions)
}

/// `GET /api/permissions/VHOST/USER`
pub async fn one(State(admin): At, who: Requester, Path((vhost, user)): Path<(String, String)>) -> Answer {
    who.administrator()?;
    let is_it = |one: &Value| one["vhost"] == *vhost && one["user"] == *user;
    list(&admin, export::permissions, is_it).pop().map(Json).ok_or(Problem::Missing)
}

/// `PUT /api/permissions/VHOST/USER`
pub async fn put(
    State(admin): At,
    who: Requester,
    Path((vhost, user)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    who.administrator()?;
    need(&object, &["configure", "write", "read"])?;
    both(&admin, &vhost, &user)?;
    let is_new = !admin.broker.identity.may_enter(&user, &vhost);
    import::permissions(&admin, &item(object, &[("vhost", &vhost), ("user", &user)]))?;
    who.note("set permissions", &format!("of '{user}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/permissions/VHOST/USER`
pub async fn remove(
    State(admin): At,
    who: Requester,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.note("clear permissions", &format!("of '{user}' in vhost '{vhost}'"));
    take(&admin, &user, |user| user.permissions.remove(&*vhost).is_some()).await
}

/// `GET /api/topic-permissions`
pub async fn topics(State(admin): At, who: Requester) -> Answer {
    who.administrator()?;
    Ok(Json(list(&admin, export::topic_permissions, |_| true).into()))
}

/// `GET /api/vhosts/VHOST/topic-permissions`
pub async fn topics_of_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    in_vhost(&admin, &who, &vhost, export::topic_permissions)
}

/// `GET /api/users/USER/topic-permissions`
pub async fn topics_of_user(State(admin): At, who: Requester, Path(user): Path<String>) -> Answer {
    for_user(&admin, &who, &user, export::topic_permissions)
}

fn topics_at(admin: &Admin, vhost: &str, user: &str, exchange: Option<&str>) -> Answer {
    let is_it = |one: &Value| {
        let is_exchange = exchange.is_none_or(|exchange| one["exchange"] == *exchange);
        one["vhost"] == *vhost && one["user"] == *user && is_exchange
    };
    let found = list(admin, export::topic_permissions, is_it);
    if found.is_empty() { Err(Problem::Missing) } else { Ok(Json(found.into())) }
}

/// `GET /api/topic-permissions/VHOST/USER`
pub async fn topics_one(State(admin): At, who: Requester, Path((vhost, user)): Path<(String, String)>) -> Answer {
    who.administrator()?;
    topics_at(&admin, &vhost, &user, None)
}

/// `GET /api/topic-permissions/VHOST/USER/EXCHANGE`
pub async fn topic_one(
    State(admin): At,
    who: Requester,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer {
    who.administrator()?;
    topics_at(&admin, &vhost, &user, Some(&exchange))
}

/// `PUT /api/topic-permissions/VHOST/USER`
pub async fn put_topic(
    State(admin): At,
    who: Requester,
    Path((vhost, user)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    who.administrator()?;
    need(&object, &["exchange", "write", "read"])?;
    both(&admin, &vhost, &user)?;
    let is_new = topics_at(&admin, &vhost, &user, object["exchange"].as_str()).is_err();
    import::topic_permissions(&admin, &item(object, &[("vhost", &vhost), ("user", &user)]))?;
    who.note("set topic permissions", &format!("of '{user}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/topic-permissions/VHOST/USER`
pub async fn remove_topics(
    State(admin): At,
    who: Requester,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.note("clear topic permissions", &format!("of '{user}' in vhost '{vhost}'"));
    let others = |(of, _): &(Name, Name)| **of != *vhost;
    take(&admin, &user, |user| {
        let before = user.topic_permissions.len();
        user.topic_permissions.retain(|place, _| others(place));
        user.topic_permissions.len() < before
    })
    .await
}

/// `DELETE /api/topic-permissions/VHOST/USER/EXCHANGE`
pub async fn remove_topic(
    State(admin): At,
    who: Requester,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.note("clear topic permissions", &format!("of '{user}' for exchange '{exchange}' in vhost '{vhost}'"));
    let place = (vhost.as_str().into(), exchange.as_str().into());
    take(&admin, &user, |user| user.topic_permissions.remove(&place).is_some()).await
}
