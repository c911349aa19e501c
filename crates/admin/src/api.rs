//! Paths and what answers them, one file for each kind of thing.

mod bindings;
mod channels;
mod connections;
mod definitions;
mod exchanges;
mod health;
mod limits;
mod messages;
mod nodes;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod stats;
mod users;
mod vhosts;

pub(crate) use self::overview::cluster_name_of as cluster_name;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use crate::{
    Admin, console,
    problem::{Answer, Problem},
};

/// What every handler gets.
type At = State<Arc<Admin>>;

/// Largest body of a request, in bytes: definitions of very many queues.
const BODY_BYTES: usize = 256 * 1024 * 1024;

/// The API below `/api`, whether the broker is well, and the console.
pub fn router(admin: Arc<Admin>) -> Router {
    let api = about().merge(rules()).merge(traffic()).merge(topology()).merge(identity());
    let api = api.nest("/health/checks", health::router());
    Router::new()
        .nest("/api", api.fallback(missing).method_not_allowed_fallback(no_such_method))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .merge(console::router())
        .fallback(missing)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(admin)
}

/// The broker as a whole.
fn about() -> Router<Arc<Admin>> {
    Router::new()
        .route("/overview", get(overview::overview))
        .route("/cluster-name", get(overview::cluster_name).put(overview::set_cluster_name))
        .route("/whoami", get(overview::whoami))
        .route("/version", get(overview::version))
        .route("/auth", get(overview::auth))
        .route("/extensions", get(overview::extensions))
        .route("/feature-flags", get(overview::feature_flags))
        .route("/feature-flags/{name}/enable", put(overview::enable_feature_flag))
        .route("/deprecated-features", get(overview::deprecated_features))
        .route("/deprecated-features/used", get(overview::deprecated_features_used))
        .route("/rebalance/queues", post(overview::rebalance))
        .route("/federation-links", get(overview::nothing))
        .route("/federation-links/{vhost}", get(overview::nothing_in_vhost))
        .route("/shovels", get(overview::nothing))
        .route("/shovels/{vhost}", get(overview::nothing_in_vhost))
        .route("/nodes", get(nodes::nodes))
        .route("/nodes/{name}", get(nodes::node))
        .route("/nodes/{name}/memory", get(nodes::memory))
        .route("/nodes/{name}/memory/relative", get(nodes::memory))
        .route("/aliveness-test/{vhost}", get(health::alive))
        .route("/healthchecks/node", get(health::alarms))
        .route("/healthchecks/node/{name}", get(health::alarms_of_node))
        .route("/mqtt/sessions", get(overview::sessions))
        .route("/transactions", get(overview::transactions))
        .route("/transactions/{vhost}/{name}/{decision}", put(overview::end_transaction))
        .route("/protocols", get(overview::protocols))
        .route("/log", get(overview::log))
        .route("/mqtt/retained/{vhost}", get(overview::retained))
        .route("/stream/{kind}", get(overview::nothing))
        .route("/stream/{kind}/{vhost}", get(overview::nothing_of_vhost))
}

/// What operators set.
fn rules() -> Router<Arc<Admin>> {
    Router::new()
        .route("/definitions", get(definitions::export).post(definitions::import).put(definitions::import))
        .route("/definitions/{vhost}", get(definitions::export_vhost).post(definitions::import_vhost))
        .route("/all-configuration", get(definitions::export).post(definitions::import))
        .route("/parameters", get(parameters::all))
        .route("/parameters/{component}", get(parameters::of_component))
        .route("/parameters/{component}/{vhost}", get(parameters::of_vhost))
        .route(
            "/parameters/{component}/{vhost}/{name}",
            get(parameters::one).put(parameters::set).delete(parameters::remove),
        )
        .route("/global-parameters", get(parameters::global))
        .route(
            "/global-parameters/{name}",
            get(parameters::global_one).put(parameters::set_global).delete(parameters::remove_global),
        )
        .route("/policies", get(policies::all))
        .route("/policies/{vhost}", get(policies::of_vhost))
        .route("/policies/{vhost}/{name}", get(policies::one).put(policies::set).delete(policies::remove))
        .route("/operator-policies", get(policies::operators_all))
        .route("/operator-policies/{vhost}", get(policies::operators_of_vhost))
        .route(
            "/operator-policies/{vhost}/{name}",
            get(policies::operators_one).put(policies::operators_set).delete(policies::operators_remove),
        )
        .route("/vhost-limits", get(limits::vhosts))
        .route("/vhost-limits/{vhost}", get(limits::vhost))
        .route("/vhost-limits/{vhost}/{name}", put(limits::set_vhost).delete(limits::clear_vhost))
        .route("/user-limits", get(limits::users))
        .route("/user-limits/{user}", get(limits::user))
        .route("/user-limits/{user}/{name}", put(limits::set_user).delete(limits::clear_user))
}

/// Who is connected.
fn traffic() -> Router<Arc<Admin>> {
    Router::new()
        .route("/connections", get(connections::all))
        .route("/connections/{name}", get(connections::one).delete(connections::close))
        .route("/connections/{name}/channels", get(channels::of_connection))
        .route("/connections/{name}/sessions", get(connections::sessions))
        .route("/connections/username/{user}", get(connections::of_user).delete(connections::close_of_user))
        .route("/channels", get(channels::all))
        .route("/channels/{name}", get(channels::one))
        .route("/consumers", get(channels::consumers))
        .route("/consumers/{vhost}", get(channels::consumers_of_vhost))
}

/// Queues, exchanges and bindings.
fn topology() -> Router<Arc<Admin>> {
    Router::new()
        .route("/exchanges", get(exchanges::all))
        .route("/exchanges/{vhost}", get(exchanges::of_vhost))
        .route("/exchanges/{vhost}/{name}", get(exchanges::one).put(exchanges::declare).delete(exchanges::remove))
        .route("/exchanges/{vhost}/{name}/publish", post(messages::publish))
        .route("/exchanges/{vhost}/{name}/bindings/source", get(bindings::from_exchange))
        .route("/exchanges/{vhost}/{name}/bindings/destination", get(bindings::to_exchange))
        .route("/queues", get(queues::all))
        .route("/queues/detailed", get(queues::all))
        .route("/queues/{vhost}", get(queues::of_vhost))
        .route("/queues/{vhost}/{name}", get(queues::one).put(queues::declare).delete(queues::remove))
        .route("/queues/{vhost}/{name}/bindings", get(bindings::to_queue))
        .route("/queues/{vhost}/{name}/contents", delete(queues::purge))
        .route("/queues/{vhost}/{name}/get", post(messages::get))
        .route("/queues/{vhost}/{name}/move", post(messages::shift))
        .route("/queues/{vhost}/{name}/actions", post(queues::act))
        .route("/bindings", get(bindings::all))
        .route("/bindings/{vhost}", get(bindings::of_vhost))
        .route("/bindings/{vhost}/e/{source}/{kind}/{destination}", get(bindings::between).post(bindings::bind))
        .route(
            "/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}",
            get(bindings::one).delete(bindings::unbind),
        )
}

/// Vhosts, users and permissions.
fn identity() -> Router<Arc<Admin>> {
    Router::new()
        .route("/auth/check", post(users::check))
        .route("/auth/hash_password/{password}", get(users::hash_password))
        .route("/vhosts", get(vhosts::all))
        .route("/vhosts/{name}", get(vhosts::one).put(vhosts::put).delete(vhosts::remove))
        .route("/vhosts/{name}/permissions", get(permissions::of_vhost))
        .route("/vhosts/{name}/topic-permissions", get(permissions::topics_of_vhost))
        .route("/vhosts/{name}/connections", get(connections::of_vhost))
        .route("/vhosts/{name}/channels", get(channels::of_vhost))
        .route("/vhosts/{name}/start/{node}", post(vhosts::start))
        .route("/vhosts/{name}/deletion/protection", post(vhosts::protect).delete(vhosts::unprotect))
        .route("/vhosts/{name}/tracing", put(vhosts::trace).delete(vhosts::untrace))
        .route("/users", get(users::all))
        .route("/users/without-permissions", get(users::without_permissions))
        .route("/users/bulk-delete", post(users::remove_many))
        .route("/users/{name}", get(users::one).put(users::put).delete(users::remove))
        .route("/users/{name}/permissions", get(permissions::of_user))
        .route("/users/{name}/topic-permissions", get(permissions::topics_of_user))
        .route("/permissions", get(permissions::all))
        .route("/permissions/{vhost}/{user}", get(permissions::one).put(permissions::put).delete(permissions::remove))
        .route("/topic-permissions", get(permissions::topics))
        .route(
            "/topic-permissions/{vhost}/{user}",
            get(permissions::topics_one).put(permissions::put_topic).delete(permissions::remove_topics),
        )
        .route(
            "/topic-permissions/{vhost}/{user}/{exchange}",
            get(permissions::topic_one).delete(permissions::remove_topic),
        )
}

/// Takes the slash off the end of a path: some clients write it, and it means nothing.
pub fn trim(uri: &Uri) -> Option<Uri> {
    let (path, query) = (uri.path(), uri.query());
    let shorter = path.strip_suffix('/').filter(|shorter| !shorter.is_empty())?;
    let text = query.map_or_else(|| shorter.to_owned(), |query| format!("{shorter}?{query}"));
    text.parse().ok()
}

async fn missing() -> Problem {
    Problem::Missing
}

/// Tools ask what they may do before they do it; everything else is refused.
async fn no_such_method(method: Method) -> StatusCode {
    if method == Method::OPTIONS { StatusCode::OK } else { StatusCode::METHOD_NOT_ALLOWED }
}

/// What a request that makes something comes to: 201 if it is new, else 204.
struct Made(bool);

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        let status = if self.0 { StatusCode::CREATED } else { StatusCode::NO_CONTENT };
        status.into_response()
    }
}

/// Something is gone.
fn gone(was_there: bool) -> Answer<StatusCode> {
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::Missing) }
}

/// The JSON in a request's body, whatever its client calls it. Tools do not always say what they send.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = axum::body::Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| Problem::Unreadable(rejection.status(), rejection.body_text()))?;
        // Tools that want nothing special send nothing.
        let bytes = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        let json: Json = serde_json::from_slice(bytes).map_err(|_| Problem::bad("not_json"))?;
        if !json.is_object() {
            return Err(Problem::bad("not_json"));
        }
        serde_json::from_value(json).map(Self).map_err(|error| Problem::bad(error.to_string()))
    }
}

/// A JSON object in a request's body.
type Object = Body<Map<String, Json>>;

/// Refuses an object that lacks keys, in RabbitMQ's words.
fn need(object: &Map<String, Json>, keys: &[&str]) -> Result<(), Problem> {
    let missing = keys.iter().filter(|key| !object.contains_key(**key)).map(|key| format!("{{key_missing,{key}}}"));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() { Ok(()) } else { Err(Problem::bad(format!("[{}]", missing.join(",\n ")))) }
}

/// An item of definitions, made of a request's body and what stands in its path.
fn item(mut object: Map<String, Json>, path: &[(&str, &str)]) -> Json {
    for (key, value) in path {
        object.insert((*key).into(), (*value).into());
    }
    object.into()
}
