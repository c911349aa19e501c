//! OAuth 2.0: a JSON Web Token (RFC 7519) for a password. What its user may do stands in its scopes.

mod jwks;
mod keys;
mod scopes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::{Access, Authorization, Millis, Name, Resource};
use serde_json::Value;

use self::{
    jwks::{Jwks, Source},
    keys::NamedKey,
    scopes::Scopes,
};
use super::{Identified, Verdict};
use crate::{clock::Clock, config, web::Web};

/// Longest token, in bytes.
const TOKEN_BYTES: usize = 64 * 1024;

/// Claims that hold the user's name, after those of the configuration.
const USERNAME_CLAIMS: [&str; 2] = ["sub", "client_id"];

/// Checks tokens.
#[derive(Debug)]
pub struct OAuth {
    settings: config::OAuth2,
    prefix: String,
    keys: BTreeMap<String, NamedKey>,
    jwks: Option<Jwks>,
    clock: Clock,
}

/// What a token allows, until it ends.
#[derive(Debug)]
struct Grant {
    scopes: Scopes,
    expires: Option<Millis>,
    clock: Clock,
}

impl Authorization for Grant {
    fn may_enter(&self, vhost: &str) -> bool {
        self.is_current() && self.scopes.may_enter(vhost)
    }

    fn check(&self, access: Access, resource: &Resource) -> bool {
        self.is_current() && self.scopes.allow(access, &resource.vhost, &resource.name, None)
    }

    fn check_topic(&self, access: Access, exchange: &Resource, key: &str, _client_id: Option<&str>) -> bool {
        self.is_current() && self.scopes.allow(access, &exchange.vhost, &exchange.name, Some(key))
    }

    fn has_tag(&self, tag: &str) -> bool {
        self.is_current() && self.scopes.has_tag(tag)
    }

    fn expires(&self) -> Option<Millis> {
        self.expires
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

impl Grant {
    fn is_current(&self) -> bool {
        self.expires.is_none_or(|ends| self.clock.now() < ends)
    }
}

impl OAuth {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// If one cannot be read, or settings are missing.
    pub fn new(settings: &config::OAuth2, clock: Clock) -> anyhow::Result<Self> {
        if settings.resource_server_id.is_empty() {
            bail!("auth.oauth2.resource_server_id is not set");
        }
        let mut keys = BTreeMap::new();
        for (id, path) in &settings.keys {
            keys.insert(id.clone(), keys::read_file(path).with_context(|| format!("auth.oauth2.keys.{id}"))?);
        }
        let source = match (&settings.jwks_uri, &settings.issuer) {
            (Some(address), _) => Some(Source::Address(address.clone())),
            (None, Some(issuer)) if keys.is_empty() => Some(Source::Issuer(issuer.clone())),
            (None, _) => None,
        };
        if source.is_none() && keys.is_empty() {
            bail!("auth.oauth2 needs an issuer, a jwks_uri or keys");
        }
        if let Some(id) = settings.default_key.as_ref().filter(|id| !keys.contains_key(*id) && source.is_none()) {
            bail!("auth.oauth2.default_key is '{id}', which is not among auth.oauth2.keys");
        }
        let jwks = match source {
            None => None,
            Some(source) => {
                let web = Web::new(settings.ca.as_deref(), Duration::from_millis(settings.timeout_ms))?;
                let (refresh, refresh_min) = (settings.jwks_refresh_s, settings.jwks_refresh_s_min);
                let [refresh, refresh_min] = [refresh, refresh_min].map(Duration::from_secs);
                Some(Jwks::new(source, web, clock, refresh, refresh_min))
            }
        };
        let prefix = settings.scope_prefix.clone().unwrap_or_else(|| format!("{}.", settings.resource_server_id));
        Ok(Self { settings: settings.clone(), prefix, keys, jwks, clock })
    }

    /// Who a token is for, and what it allows.
    pub async fn authenticate(&self, token: &[u8]) -> Verdict<Identified> {
        let Some((head, payload, signature, signed)) = split(token) else {
            return Verdict::Refused("the password is no token".into());
        };
        let key_id = head.get("kid").and_then(Value::as_str).or(self.settings.default_key.as_deref());
        let candidates = match self.candidates(key_id).await {
            Ok(candidates) => candidates,
            Err(error) => return Verdict::Unavailable(error),
        };
        let verified = self.verify(&head, &candidates, signed, &signature);
        match verified.and_then(|()| self.judge(&payload)) {
            Ok(identified) => Verdict::Accepted(identified),
            Err(error) => Verdict::Refused(format!("token refused: {error:#}")),
        }
    }

    async fn candidates(&self, id: Option<&str>) -> anyhow::Result<Vec<NamedKey>> {
        if let Some(key) = id.and_then(|id| self.keys.get(id)) {
            return Ok(vec![key.clone()]);
        }
        let mut candidates: Vec<_> = if id.is_none() { self.keys.values().cloned().collect() } else { Vec::new() };
        if let Some(jwks) = &self.jwks {
            candidates.extend(jwks.find(id).await?);
        }
        Ok(candidates)
    }

    fn verify(&self, head: &Value, keys: &[NamedKey], signed: &[u8], signature: &[u8]) -> anyhow::Result<()> {
        let algorithm = head.get("alg").and_then(Value::as_str).unwrap_or_default();
        if !self.settings.algorithms.iter().any(|other| other == algorithm) {
            bail!("it is signed by '{algorithm}', which auth.oauth2.algorithms does not have");
        }
        // What must be understood (RFC 7515, section 4.1.11) is not.
        if head.get("crit").is_some() {
            bail!("it has critical extensions");
        }
        let mut problem = None;
        for key in keys {
            match key.verify(algorithm, signed, signature) {
                Ok(()) => return Ok(()),
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or_else(|| anyhow::anyhow!("its key is unknown")))
    }

    /// Checks the claims of a token whose signature is good.
    fn judge(&self, claims: &Value) -> anyhow::Result<Identified> {
        let now = self.clock.now();
        let expires = moment(claims, "exp")?;
        if expires.is_some_and(|at| at <= now) {
            bail!("it has expired");
        }
        if moment(claims, "nbf")?.is_some_and(|at| at > now) {
            bail!("its time has not come");
        }
        if let Some(issuer) = &self.settings.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            bail!("its issuer is not auth.oauth2.issuer");
        }
        let audience = claims.get("aud").map(words).unwrap_or_default();
        if self.settings.verify_aud && !audience.contains(&self.settings.resource_server_id) {
            bail!("its audience does not have '{}'", self.settings.resource_server_id);
        }
        let scopes = self.scopes(claims);
        let scopes = Scopes::read(scopes.iter().map(String::as_str), &self.prefix);
        let tags = scopes.tags.clone();
        let grant = Grant { scopes, expires, clock: self.clock };
        Ok(Identified { user: self.user(claims)?, tags, authorization: Some(Arc::new(grant)) })
    }

    fn user(&self, claims: &Value) -> anyhow::Result<Name> {
        let wanted = self.settings.preferred_username_claims.iter().map(String::as_str).chain(USERNAME_CLAIMS);
        let mut found = wanted.filter_map(|name| claims.get(name)?.as_str()).filter(|user| !user.is_empty());
        found.next().map(Name::from).context("it does not name its user")
    }

    /// All scopes of a token, with those that aliases stand for.
    fn scopes(&self, claims: &Value) -> Vec<String> {
        let mut scopes: Vec<String> = claims.get("scope").map(words).unwrap_or_default();
        for path in &self.settings.additional_scopes_key {
            let Some(found) = path.split('.').try_fold(claims, |claim, name| claim.get(name)) else { continue };
            match found {
                // By resource server, and then without its prefix.
                Value::Object(by_server) => {
                    let own = by_server.get(&self.settings.resource_server_id).map(words).unwrap_or_default();
                    scopes.extend(own.iter().map(|scope| format!("{}{scope}", self.prefix)));
                    scopes.extend(own);
                }
                found => scopes.extend(words(found)),
            }
        }
        let aliases = &self.settings.scope_aliases;
        let meant: Vec<String> = scopes.iter().filter_map(|scope| aliases.get(scope)).flatten().cloned().collect();
        scopes.extend(meant);
        scopes
    }
}

/// The parts of a token: head, claims, signature, and what is signed.
fn split(token: &[u8]) -> Option<(Value, Value, Vec<u8>, &[u8])> {
    if token.len() > TOKEN_BYTES {
        return None;
    }
    let token = std::str::from_utf8(token).ok()?;
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let value = |text: &str| serde_json::from_slice(&part(text)?).ok().filter(Value::is_object);
    Some((value(head)?, value(claims)?, part(signature)?, signed.as_bytes()))
}

/// Strings, in a list or with blanks between them.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).map(String::from).collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(String::from).collect(),
        _ => Vec::new(),
    }
}

/// A time, which stands in seconds since 1970, with or without a fraction.
fn moment(claims: &Value, name: &str) -> anyhow::Result<Option<Millis>> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().with_context(|| format!("its '{name}' is no time"))?;
            Ok(Some(Millis((seconds * 1000.0) as u64)))
        }
    }
}

#[cfg(test)]
mod tests;
