//! All definitions as one document.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;

use super::{At, Body};
use crate::{
    Admin, definitions,
    problem::{Answer, Problem},
    requester::Requester,
};

/// How the document is wanted.
#[derive(Deserialize)]
pub struct Wish {
    download: Option<String>,
}

/// A document, to be shown or to be kept under a name.
fn document(wish: Wish, json: Value) -> Response {
    let Some(name) = wish.download.filter(|name| !name.is_empty()) else { return Json(json).into_response() };
    // What stands in a header must not end it.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().filter(|c| is_plain(*c)).collect();
    ([(header::CONTENT_DISPOSITION, format!("attachment; filename={name}"))], Json(json)).into_response()
}

/// `GET /api/definitions`
pub async fn export(State(admin): At, who: Requester, Query(wish): Query<Wish>) -> Answer<Response> {
    who.administrator()?;
    Ok(document(wish, definitions::all(&admin)))
}

/// `GET /api/definitions/VHOST`
pub async fn export_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Query(wish): Query<Wish>,
) -> Answer<Response> {
    who.policymaker()?;
    let vhost = who.vhost(&admin, &vhost)?;
    let json = definitions::of_vhost(&admin, vhost.name(), &vhost.read());
    Ok(document(wish, json))
}

/// `POST /api/definitions`
pub async fn import(State(admin): At, who: Requester, Body(json): Body<Value>) -> Answer<StatusCode> {
    who.administrator()?;
    apply(&admin, &who, None, json).await
}

/// `POST /api/definitions/VHOST`
pub async fn import_vhost(
    State(admin): At,
    who: Requester,
    Path(vhost): Path<String>,
    Body(json): Body<Value>,
) -> Answer<StatusCode> {
    who.administrator()?;
    who.vhost(&admin, &vhost)?;
    apply(&admin, &who, Some(vhost), json).await
}

async fn apply(admin: &Arc<Admin>, who: &Requester, vhost: Option<String>, json: Value) -> Answer<StatusCode> {
    let (of, place) = (Arc::clone(admin), vhost.clone());
    // Hashing passwords and declaring very many queues is work for a thread that may be busy.
    let done = tokio::task::spawn_blocking(move || match place {
        None => definitions::import(&of, &json),
        Some(vhost) => definitions::import_into(&of, &vhost, &json),
    });
    let counts = done.await.map_err(|_| Problem::bad("the import failed"))??;
    who.note("import definitions", &format!("{counts} into {}", vhost.as_deref().unwrap_or("all vhosts")));
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}
