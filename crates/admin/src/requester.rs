//! Who asks, and what he may see and do, by the tags that RabbitMQ's users have.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Name, Principal, Vhost, broker::Caller};

use crate::{Admin, Admitted, Secret, problem::Problem};

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub IpAddr);

/// Marks a request of the operator, who need not log in: he has the data directory.
#[derive(Clone, Copy, Debug)]
pub struct Operator;

/// Somebody who has logged in and may use the API.
#[derive(Clone, Debug)]
pub struct Requester {
    /// Who it is.
    pub user: Name,
    /// The same, with what decides over what he may do.
    principal: Principal,
    /// The user's tags.
    pub tags: Vec<Name>,
    /// Where the request comes from.
    pub peer: IpAddr,
    /// Whether it is the operator, who may do anything.
    is_operator: bool,
}

impl FromRequestParts<Arc<Admin>> for Requester {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Problem> {
        if parts.extensions.get::<Operator>().is_some() {
            let (user, tags) = (Name::from("operator"), vec!["administrator".into()]);
            return Ok(Self {
                principal: user.clone().into(),
                user,
                tags,
                peer: Ipv4Addr::LOCALHOST.into(),
                is_operator: true,
            });
        }
        let peer = parts.extensions.get::<Remote>().map(|remote| remote.0);
        let peer = peer.ok_or(Problem::Unknown)?;
        let given = parts.headers.get(header::AUTHORIZATION).ok_or(Problem::Unknown)?;
        let secret = given.to_str().ok().and_then(secret).ok_or(Problem::LoginFailed)?;
        let admitted = admin.host.login(secret, peer).await.ok_or(Problem::LoginFailed)?;
        let Admitted { user, tags, authorization } = admitted;
        let principal = Principal { user: user.clone(), authorization };
        let requester = Self { user, principal, tags, peer, is_operator: false };
        // The other tags include this one.
        let may = ["management", "policymaker", "monitoring", "administrator"];
        if may.iter().any(|tag| requester.has(tag)) {
            Ok(requester)
        } else {
            Err(Problem::Forbidden("Not management user"))
        }
    }
}

/// What an `Authorization` header says (RFC 7617 and 6750).
fn secret(header: &str) -> Option<Secret> {
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::Token(rest.trim().into()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Secret::Password(user.into(), password.as_bytes().to_vec()))
}

impl Requester {
    fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| &**own == tag)
    }

    /// Whether the user may do anything.
    pub fn is_administrator(&self) -> bool {
        self.has("administrator")
    }

    /// Whether the user may see what concerns all vhosts and others.
    pub fn is_monitor(&self) -> bool {
        self.is_administrator() || self.has("monitoring")
    }

    /// Refuses who may not do anything.
    ///
    /// # Errors
    /// [`Problem::Forbidden`]
    pub fn administrator(&self) -> Result<(), Problem> {
        if self.is_administrator() { Ok(()) } else { Err(Problem::Forbidden("Not administrator user")) }
    }

    /// Refuses who may not see everything.
    ///
    /// # Errors
    /// [`Problem::Forbidden`]
    pub fn monitor(&self) -> Result<(), Problem> {
        if self.is_monitor() { Ok(()) } else { Err(Problem::Forbidden("Not monitor user")) }
    }

    /// Refuses who may not set policies and parameters.
    ///
    /// # Errors
    /// [`Problem::Forbidden`]
    pub fn policymaker(&self) -> Result<(), Problem> {
        let may = self.is_administrator() || self.has("policymaker");
        if may { Ok(()) } else { Err(Problem::Forbidden("Not policymaker user")) }
    }

    /// Whether the user may look into a vhost.
    pub fn sees(&self, admin: &Admin, vhost: &str) -> bool {
        self.is_monitor() || admin.broker.may_enter(&self.principal, vhost)
    }

    /// A vhost that the user may look into.
    ///
    /// # Errors
    /// If there is none, or he may not.
    pub fn vhost(&self, admin: &Admin, name: &str) -> Result<Arc<Vhost>, Problem> {
        let vhost = admin.broker.vhost(name).ok_or(Problem::Missing)?;
        if self.sees(admin, name) {
            Ok(vhost)
        } else {
            Err(Problem::Forbidden("User not authorised to access virtual host"))
        }
    }

    /// The vhosts that the user may look into, or the one with a name.
    ///
    /// # Errors
    /// If there is no such vhost, or he may not.
    pub fn vhosts(&self, admin: &Admin, only: Option<&str>) -> Result<Vec<Arc<Vhost>>, Problem> {
        match only {
            Some(name) => Ok(vec![self.vhost(admin, name)?]),
            None => {
                let all = admin.broker.vhosts().into_iter();
                Ok(all.filter(|vhost| self.sees(admin, vhost.name())).collect())
            }
        }
    }

    /// The user as who works in a vhost, with its permissions there.
    ///
    /// # Errors
    /// If there is no such vhost, or the user may not enter it.
    pub fn caller(&self, admin: &Admin, vhost: &str) -> Result<Caller, Problem> {
        if self.is_operator {
            return Ok(admin.broker.operator(vhost)?);
        }
        let caller = admin.broker.on_behalf_of(&self.principal, vhost)?;
        if admin.broker.may_enter(&self.principal, vhost) {
            Ok(caller)
        } else {
            Err(Problem::Forbidden("User not authorised to access virtual host"))
        }
    }

    /// Notes down what the user has changed.
    pub fn note(&self, action: &str, what: &str) {
        tracing::info!(target: "audit", user = %self.user, peer = %self.peer, action, "{what}");
    }
}
