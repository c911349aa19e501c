//! Runtime parameters, of vhosts and of all of them.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::Value;

use super::{At, Body, Made, Object, gone, item, need};
use crate::{
    Admin, definitions,
    problem::{Answer, Problem},
    requester::Requester,
};

/// All parameters that somebody may see: operator policies are parameters too.
fn list(admin: &Admin, who: &Requester) -> Answer<Vec<Value>> {
    who.policymaker()?;
    let mut all = definitions::export::parameters(admin);
    for vhost in admin.broker.vhosts() {
        all.extend(definitions::export::operator_policies(vhost.name(), &vhost.read()));
    }
    all.retain(|parameter| parameter["vhost"].as_str().is_some_and(|vhost| who.sees(admin, vhost)));
    Ok(all)
}

/// `GET /api/parameters`
pub async fn all(State(admin): At, who: Requester) -> Answer {
    Ok(Json(list(&admin, &who)?.into()))
}

/// `GET /api/parameters/COMPONENT`
pub async fn of_component(State(admin): At, who: Requester, Path(component): Path<String>) -> Answer {
    let all = list(&admin, &who)?.into_iter();
    Ok(Json(all.filter(|parameter| parameter["component"] == *component).collect()))
}

/// `GET /api/parameters/COMPONENT/VHOST`
pub async fn of_vhost(State(admin): At, who: Requester, Path((component, vhost)): Path<(String, String)>) -> Answer {
    who.vhost(&admin, &vhost)?;
    let all = list(&admin, &who)?.into_iter();
    let is_it = |parameter: &Value| parameter["component"] == *component && parameter["vhost"] == *vhost;
    Ok(Json(all.filter(is_it).collect()))
}

/// `GET /api/parameters/COMPONENT/VHOST/NAME`
pub async fn one(
    State(admin): At,
    who: Requester,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> Answer {
    who.vhost(&admin, &vhost)?;
    let is_it = |parameter: &Value| {
        parameter["component"] == *component && parameter["vhost"] == *vhost && parameter["name"] == *name
    };
    list(&admin, &who)?.into_iter().find(is_it).map(Json).ok_or(Problem::Missing)
}

/// `PUT /api/parameters/COMPONENT/VHOST/NAME`
pub async fn set(
    State(admin): At,
    who: Requester,
    Path((component, vhost, name)): Path<(String, String, String)>,
    Body(object): Object,
) -> Answer<Made> {
    who.policymaker()?;
    who.vhost(&admin, &vhost)?;
    need(&object, &["value"])?;
    let (of, key) = (vhost.as_str(), component.as_str());
    let is_new = !list(&admin, &who)?
        .iter()
        .any(|one| one["component"] == *component && one["vhost"] == *vhost && one["name"] == *name);
    definitions::import::parameter(&admin, &item(object, &[("vhost", of), ("component", key), ("name", &name)]))?;
    who.note("set parameter", &format!("{component} '{name}' in vhost '{vhost}'"));
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/parameters/COMPONENT/VHOST/NAME`
pub async fn remove(
    State(admin): At,
    who: Requester,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    who.policymaker()?;
    who.vhost(&admin, &vhost)?;
    let was_there =
        admin.broker.delete_parameter(&vhost.as_str().into(), &component.as_str().into(), &name.as_str().into());
    who.note("clear parameter", &format!("{component} '{name}' in vhost '{vhost}'"));
    admin.safe().await;
    gone(was_there)
}

/// `GET /api/global-parameters`
pub async fn global(State(admin): At, who: Requester) -> Answer {
    who.policymaker()?;
    Ok(Json(definitions::export::global_parameters(&admin).into()))
}

/// `GET /api/global-parameters/NAME`
pub async fn global_one(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer {
    who.policymaker()?;
    let found = definitions::export::global_parameters(&admin).into_iter().find(|one| one["name"] == *name);
    found.map(Json).ok_or(Problem::Missing)
}

/// `PUT /api/global-parameters/NAME`
pub async fn set_global(
    State(admin): At,
    who: Requester,
    Path(name): Path<String>,
    Body(object): Object,
) -> Answer<Made> {
    who.administrator()?;
    need(&object, &["value"])?;
    let is_new = !definitions::export::global_parameters(&admin).iter().any(|one| one["name"] == *name);
    definitions::import::global_parameter(&admin, &item(object, &[("name", &name)]))?;
    who.note("set global parameter", &name);
    admin.safe().await;
    Ok(Made(is_new))
}

/// `DELETE /api/global-parameters/NAME`
pub async fn remove_global(State(admin): At, who: Requester, Path(name): Path<String>) -> Answer<StatusCode> {
    who.administrator()?;
    let none = "".into();
    let was_there = admin.broker.delete_parameter(&none, &none, &name.as_str().into());
    who.note("clear global parameter", &name);
    admin.safe().await;
    gone(was_there)
}
