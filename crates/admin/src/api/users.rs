//! Users.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{At, Body, Made, Object, gone, item};
use crate::{
    Admin, Secret,
    definitions::{export, import},
    problem::{Answer, Problem},
    requester::Requester,
};

fn list(admin: &Admin, only_without_permissions: bool) -> Value {
    let users = admin.broker.identity.users();
    let shown = users.iter().filter(|(_, user)| !only_without_permissions || user.permissions.is_empty());
    shown.map(|(name, user)| export::user(admin, name, user)).collect()
}

/// `GET /api/users`
pub async fn all(State(admin): At, who: Requester) -> Answer {
    who.administrator()?;
    Ok(Json(list(&admin, false)))
}

/// `GET /api/users/without-permissions`
pub async fn without_permissions(State(admin): At, who: Requester) -> Answer {
    who.administrator()?;
    Ok(Json(list(&admin, true)))
}

/// `GET /api/users/NAME`
pub async fn one(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer {
    who.administrator()?;
    let user = admin.broker.identity.user(&name).ok_or(Problem::Missing)?;
    Ok(Json(export::user(&admin, &name.as_str().into(), &user)))
}

/// `PUT /api/users/NAME`
pub async fn put(State(admin): At, who: Requester, Path(name): Path<String>, Body(mut object): Object) -> Answer<Made> {
    who.administrator()?;
    if !object.contains_key("tags") {
        return Err(Problem::bad("tags_not_present"));
    }
    // Tools send the one that they do not mean as null.
    object.retain(|_, value| !value.is_null());
    let is_new = admin.broker.identity.user(&name).is_none();
    let (of, told) = (std::sync::Arc::clone(&admin), item(object, &[("name", &name)]));
    // Hashing a password takes its time.
    let done = tokio::task::spawn_blocking(move || import::user(&of, &told));
    done.await.map_err(|_| Problem::bad("the password could not be hashed"))??;
    who.note(if is_new { "add user" } else { "change user" }, &name);
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/users/NAME`
pub async fn remove(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    who.administrator()?;
    let was_there = admin.broker.delete_user(&name);
    who.note("delete user", &name);
    admin.safe().await;
    gone(was_there)
}

/// Users to be removed.
#[derive(Deserialize)]
pub struct Users {
    users: Vec<String>,
}

/// `POST /api/users/bulk-delete`
pub async fn remove_many(State(admin): At, who: Requester, Body(names): Body<Users>) -> Answer<StatusCode> {
    who.administrator()?;
    for name in &names.users {
        admin.broker.delete_user(name);
        who.note("delete user", name);
    }
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Who somebody says he is.
#[derive(Deserialize)]
pub struct Claim {
    name: String,
    password: String,
}

/// `POST /api/auth/check`: whether a name and a password fit together.
pub async fn check(State(admin): At, who: Requester, Body(claim): Body<Claim>) -> Answer<StatusCode> {
    who.administrator()?;
    let secret = Secret::Password(claim.name, claim.password.into_bytes());
    match admin.host.login(secret, who.peer).await {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(Problem::bad("user name and password do not fit together")),
    }
}

/// `GET /api/auth/hash_password/PASSWORD`
pub async fn hash_password(State(admin): At, who: Requester, Path(password): Path<String>) -> Answer {
    who.administrator()?;
    let hashed = tokio::task::spawn_blocking(move || admin.host.hash_password(&password, None));
    let hash = hashed.await.map_err(|_| Problem::bad("the password could not be hashed"))??;
    Ok(Json(json!({ "ok": hash })))
}
