//! Policies, and those of operators.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use broker::PolicyKind;
use serde_json::Value;

use super::{At, Body, Made, Object, gone, item, need};
use crate::{
    Admin, definitions,
    problem::{Answer, Problem},
    requester::Requester,
};

/// Who may set a policy of a kind.
fn may_set(who: &Requester, kind: PolicyKind) -> Result<(), Problem> {
    match kind {
        PolicyKind::User => who.policymaker(),
        PolicyKind::Operator => who.administrator(),
    }
}

fn list(admin: &Admin, who: &Requester, vhost: Option<&str>, kind: PolicyKind) -> Answer<Vec<Value>> {
    let vhosts = who.vhosts(admin, vhost)?;
    Ok(vhosts.iter().flat_map(|vhost| definitions::export::policies(vhost.name(), &vhost.read(), kind)).collect())
}

fn find(admin: &Admin, who: &Requester, vhost: &str, kind: PolicyKind, name: &str) -> Answer<Option<Value>> {
    Ok(list(admin, who, Some(vhost), kind)?.into_iter().find(|policy| policy["name"] == *name))
}

async fn put(
    admin: &Admin,
    who: &Requester,
    kind: PolicyKind,
    (vhost, name): (&str, &str),
    object: serde_json::Map<String, Value>,
) -> Answer<Made> {
    may_set(who, kind)?;
    need(&object, &["pattern", "definition"])?;
    let is_new = find(admin, who, vhost, kind, name)?.is_none();
    definitions::import::policy(admin, &item(object, &[("vhost", vhost), ("name", name)]), kind)
        .map_err(|error| Problem::bad(format!("Validation failed\n\n{error:#}\n")))?;
    who.note("set policy", &format!("'{name}' in vhost '{vhost}' ({kind:?})"));
    admin.safe().await;
    Ok(Made(is_new))
}

async fn delete(admin: &Admin, who: &Requester, kind: PolicyKind, (vhost, name): (&str, &str)) -> Answer<StatusCode> {
    may_set(who, kind)?;
    who.vhost(admin, vhost)?;
    let was_there = admin.broker.delete_policy(vhost, kind, name);
    who.note("clear policy", &format!("'{name}' in vhost '{vhost}' ({kind:?})"));
    admin.safe().await;
    gone(was_there)
}

/// `GET /api/policies`
pub async fn all(State(admin): At, who: Requester) -> Answer {
    Ok(Json(list(&admin, &who, None, PolicyKind::User)?.into()))
}

/// `GET /api/policies/VHOST`
pub async fn of_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    Ok(Json(list(&admin, &who, Some(&vhost), PolicyKind::User)?.into()))
}

/// `GET /api/policies/VHOST/NAME`
pub async fn one(State(admin): At, who: Requester, Path((vhost, name)): Path<(String, String)>) -> Answer {
    find(&admin, &who, &vhost, PolicyKind::User, &name)?.map(Json).ok_or(Problem::Missing)
}

/// `PUT /api/policies/VHOST/NAME`
pub async fn set(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    put(&admin, &who, PolicyKind::User, (&vhost, &name), object).await
}

/// `DELETE /api/policies/VHOST/NAME`
pub async fn remove(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    delete(&admin, &who, PolicyKind::User, (&vhost, &name)).await
}

/// `GET /api/operator-policies`
pub async fn operators_all(State(admin): At, who: Requester) -> Answer {
    Ok(Json(list(&admin, &who, None, PolicyKind::Operator)?.into()))
}

/// `GET /api/operator-policies/VHOST`
pub async fn operators_of_vhost(State(admin): At, who: Requester, Path(vhost): Path<String>) -> Answer {
    Ok(Json(list(&admin, &who, Some(&vhost), PolicyKind::Operator)?.into()))
}

/// `GET /api/operator-policies/VHOST/NAME`
pub async fn operators_one(State(admin): At, who: Requester, Path((vhost, name)): Path<(String, String)>) -> Answer {
    find(&admin, &who, &vhost, PolicyKind::Operator, &name)?.map(Json).ok_or(Problem::Missing)
}

/// `PUT /api/operator-policies/VHOST/NAME`
pub async fn operators_set(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    put(&admin, &who, PolicyKind::Operator, (&vhost, &name), object).await
}

/// `DELETE /api/operator-policies/VHOST/NAME`
pub async fn operators_remove(
    State(admin): At,
    who: Requester,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    delete(&admin, &who, PolicyKind::Operator, (&vhost, &name)).await
}
