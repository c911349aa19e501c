//! Vhosts.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use broker::{Counts, Value as Model, Vhost};
use serde_json::{Map, Value, json};

use super::{At, Made, Object, gone, item, stats};
use crate::{
    Admin,
    definitions::{export, import},
    history::Past,
    page::{self, Wish, Written},
    problem::{Answer, Problem},
    requester::Requester,
    sampler::{ALL_BYTES_IN, ALL_BYTES_OUT, FIRST_EVENT, Seen},
};

/// What is said of a vhost that must not be deleted, by RabbitMQ's name.
const PROTECTED: &str = "protected_from_deletion";

fn describe(admin: &Admin, vhost: &Vhost, past: &Past, seen: &Seen) -> Value {
    let (name, state) = (vhost.name(), vhost.read());
    let mut json = export::described(name, &state);
    json["tracing"] = state.is_traced.into();
    drop(state);
    json["cluster_state"] = json!({ admin.node(): "running" });
    if json["default_queue_type"].is_null() {
        json["default_queue_type"] = "classic".into();
        json["metadata"]["default_queue_type"] = "classic".into();
    }
    let known = seen.vhosts.get(name);
    let (mut counts, mut bytes_in, mut bytes_out) = (Counts::default(), 0, 0);
    for (_, (more, more_in, more_out)) in admin.broker.traffic().iter().filter(|((_, of), _)| of == name) {
        counts.add_all(more);
        bytes_in += more_in;
        bytes_out += more_out;
    }
    let (mut ready, mut held) = (0, 0);
    if let Some(known) = known {
        let column = |column| known.last(column);
        (ready, held) = (column(crate::sampler::READY), column(crate::sampler::HELD));
    }
    let mut more = Map::new();
    stats::lengths(&mut more, (ready, held), &known, past.lengths());
    if let Some(messages) = stats::messages(&counts, &known, FIRST_EVENT, false, past.messages()) {
        more.insert("message_stats".into(), messages);
    }
    let details = |column| stats::Known::of(&known, &[column], past.data());
    stats::put(&mut more, "recv_oct", bytes_in, details(ALL_BYTES_IN));
    stats::put(&mut more, "send_oct", bytes_out, details(ALL_BYTES_OUT));
    if let Some(json) = json.as_object_mut() {
        json.extend(more);
    }
    json
}

/// `GET /api/vhosts`
pub async fn all(State(admin): At, who: Requester, Query(past): Query<Past>, Query(wish): Query<Wish>) -> Answer {
    let vhosts = who.vhosts(&admin, None)?;
    let seen = admin.sampler.seen();
    let rows = vhosts.iter().map(|vhost| Written(describe(&admin, vhost, &past, &seen))).collect();
    page::list(&wish, rows).map(Json)
}

/// `GET /api/vhosts/NAME`
pub async fn one(State(admin): At, who: Requester, Path(name): Path<String>, Query(past): Query<Past>) -> Answer {
    let vhost = who.vhost(&admin, &name)?;
    Ok(Json(describe(&admin, &vhost, &past, &admin.sampler.seen())))
}

/// `PUT /api/vhosts/NAME`
pub async fn put(
    State(admin): At,
    who: Requester,
    Path(name): Path<String>,
    super::Body(mut object): Object,
) -> Answer<Made> {
    who.administrator()?;
    let existing = admin.broker.vhost(&name);
    let is_new = existing.is_none();
    let tracing = object.shift_remove("tracing");
    object.retain(|_, value| !value.is_null());
    // Who says nothing of a vhost that is there leaves it as it is.
    if let Some(existing) = existing
        && !object.contains_key("metadata")
    {
        let said = export::described(&name, &existing.read())["metadata"].clone();
        let mut metadata = said.as_object().cloned().unwrap_or_default();
        for key in ["description", "tags", "default_queue_type"] {
            if let Some(value) = object.get(key) {
                metadata.insert(key.into(), value.clone());
            }
        }
        object.insert("metadata".into(), metadata.into());
    }
    import::vhost(&admin, &item(object, &[("name", &name)]))?;
    if is_new {
        // Who makes a vhost may use it, as with RabbitMQ.
        let all = json!({ "user": who.user.as_str(), "vhost": name, "configure": ".*", "write": ".*", "read": ".*" });
        if admin.broker.identity.user(&who.user).is_some() {
            import::permissions(&admin, &all)?;
        }
    }
    if let Some(Value::Bool(on)) = tracing {
        admin.broker.set_tracing(&name, on);
    }
    who.note(if is_new { "add vhost" } else { "change vhost" }, &name);
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/vhosts/NAME`
pub async fn remove(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    who.administrator()?;
    let is_protected = |vhost: &Vhost| vhost.read().metadata.get(PROTECTED) == Some(&Model::Bool(true));
    if admin.broker.vhost(&name).is_some_and(|vhost| is_protected(&vhost)) {
        let reason = format!("vhost '{name}' is protected from deletion");
        return Err(Problem::Unreadable(StatusCode::PRECONDITION_FAILED, reason));
    }
    let of = std::sync::Arc::clone(&admin);
    let vhost = name.clone();
    // All its queues go with it.
    let done = tokio::task::spawn_blocking(move || {
        let was_there = of.broker.delete_vhost(&vhost);
        of.host.forget_vhost(&vhost.as_str().into());
        was_there
    });
    let was_there = done.await.map_err(|_| Problem::bad("the vhost could not be deleted"))?;
    who.note("delete vhost", &name);
    admin.safe().await;
    gone(was_there)
}

async fn set_protected(admin: &Admin, who: &Requester, name: &str, on: bool) -> Answer<StatusCode> {
    who.administrator()?;
    let mut metadata = admin.broker.vhost(name).ok_or(Problem::Missing)?.read().metadata.clone();
    metadata.remove(PROTECTED);
    if on {
        metadata.push(PROTECTED, Model::Bool(true));
    }
    admin.broker.put_vhost(&name.into(), metadata);
    who.note(if on { "protect vhost" } else { "no longer protect vhost" }, name);
    admin.safe().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/vhosts/NAME/deletion/protection`
pub async fn protect(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    set_protected(&admin, &who, &name, true).await
}

/// `DELETE /api/vhosts/NAME/deletion/protection`
pub async fn unprotect(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    set_protected(&admin, &who, &name, false).await
}

/// `POST /api/vhosts/NAME/start/NODE`: a vhost never stops.
pub async fn start(
    State(admin): At,
    who: Requester,
    Path((name, _node)): Path<(String, String)>,
) -> Answer<StatusCode> {
    who.administrator()?;
    gone(admin.broker.vhost(&name).is_some())
}

fn set_tracing(admin: &Admin, who: &Requester, name: &str, on: bool) -> Answer<StatusCode> {
    who.administrator()?;
    who.note(if on { "trace vhost" } else { "end tracing of vhost" }, name);
    gone(admin.broker.set_tracing(name, on))
}

/// `PUT /api/vhosts/NAME/tracing`
pub async fn trace(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    set_tracing(&admin, &who, &name, true)
}

/// `DELETE /api/vhosts/NAME/tracing`
pub async fn untrace(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    set_tracing(&admin, &who, &name, false)
}
