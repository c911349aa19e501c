//! The keys of an issuer: fetched when they are needed, kept, and fetched again when a token names one that is not among
//! them.

use std::time::Duration;

use anyhow::{Context, bail};
use broker::Millis;
use parking_lot::Mutex;
use serde::Deserialize;

use super::keys::{self, NamedKey};
use crate::{clock::Clock, web::Web};

/// Where an issuer tells of itself (OpenID Connect Discovery, section 4).
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// An issuer's keys.
#[derive(Debug)]
pub struct Jwks {
    source: Source,
    web: Web,
    clock: Clock,
    /// How old they may get.
    refresh: Duration,
    /// How long nobody asks again, whatever tokens name.
    refresh_min: Duration,
    state: Mutex<State>,
    /// Held by who fetches them.
    fetching: tokio::sync::Mutex<()>,
}

/// Where keys are.
#[derive(Clone, Debug)]
pub enum Source {
    /// At an address.
    Address(String),
    /// Where the issuer says.
    Issuer(String),
}

#[derive(Debug, Default)]
struct State {
    keys: Vec<NamedKey>,
    fetched: Option<Millis>,
    tried: Option<Millis>,
}

impl State {
    fn knows(&self, id: Option<&str>) -> bool {
        self.fetched.is_some() && id.is_none_or(|id| self.keys.iter().any(|key| key.id.as_deref() == Some(id)))
    }

    /// Whether keys are to be fetched, and may be.
    fn needs(&self, id: Option<&str>, jwks: &Jwks) -> bool {
        let is_over = |at: Option<Millis>, after: Duration| {
            at.is_none_or(|at| at.plus(after.as_millis() as u64) <= jwks.clock.now())
        };
        is_over(self.tried, jwks.refresh_min) && (is_over(self.fetched, jwks.refresh) || !self.knows(id))
    }
}

/// What is needed of an issuer's metadata.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Jwks {
    /// Nothing is fetched yet.
    pub fn new(source: Source, web: Web, clock: Clock, refresh: Duration, refresh_min: Duration) -> Self {
        Self {
            source,
            web,
            clock,
            refresh,
            refresh_min,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    /// The keys with an id, or all if a token names none. Who needs a key that is not there waits until it is fetched.
    ///
    /// # Errors
    /// If there are no keys, and they cannot be fetched.
    pub async fn find(&self, id: Option<&str>) -> anyhow::Result<Vec<NamedKey>> {
        if self.state.lock().needs(id, self) {
            // Who only has keys that are old goes on with them while another fetches.
            let turn = if self.state.lock().knows(id) {
                self.fetching.try_lock().ok()
            } else {
                Some(self.fetching.lock().await)
            };
            if turn.is_some() && self.state.lock().needs(id, self) {
                self.refresh().await?;
            }
        }
        let state = self.state.lock();
        if state.fetched.is_none() {
            bail!("the issuer's keys could not be fetched a moment ago");
        }
        Ok(state.keys.iter().filter(|key| id.is_none_or(|id| key.id.as_deref() == Some(id))).cloned().collect())
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        self.state.lock().tried = Some(now);
        let fetched = self.fetch().await;
        let mut state = self.state.lock();
        match fetched {
            Ok(keys) => (state.keys, state.fetched) = (keys, Some(now)),
            // Keys that were good go on being so while their issuer cannot be reached.
            Err(error) if state.fetched.is_some() => tracing::warn!("OAuth 2.0: keys stay as they are: {error:#}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn fetch(&self) -> anyhow::Result<Vec<NamedKey>> {
        let address = match &self.source {
            Source::Address(address) => address.clone(),
            Source::Issuer(issuer) => {
                let place = format!("{}{DISCOVERY_PATH}", issuer.trim_end_matches('/'));
                let text = self.web.get(&place).await?;
                let metadata: Metadata =
                    serde_json::from_str(&text).with_context(|| format!("{place} does not tell where keys are"))?;
                if metadata.issuer != *issuer {
                    bail!("{place} is of another issuer, '{}'", metadata.issuer);
                }
                metadata.jwks_uri
            }
        };
        let keys = keys::read_set(&self.web.get(&address).await?).with_context(|| format!("in {address}"))?;
        tracing::debug!(keys = keys.len(), "OAuth 2.0: keys fetched from {address}");
        Ok(keys)
    }
}
