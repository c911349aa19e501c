//! Logins: who may come from where, and the chain of back ends that are asked who somebody is and what he may do.
//!
//! Each back end has a file of its own. [`Authenticator`] is what connections and the management API ask.

pub mod access;
mod asking;
mod cache;
pub mod destinations;
mod failures;
mod http;
mod internal;
mod ldap;
mod oauth;

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use broker::{Authorization, Broker, Credentials, Login, Name, Principal, SaslOutcome, SaslResponse};

use self::{
    access::Access,
    cache::Cache,
    failures::{Allowance, Failures},
    http::Http,
    internal::Internal,
    ldap::Ldap,
    oauth::OAuth,
};
pub use self::{
    internal::{export, hash, import, random},
    ldap::escape_dn,
};
use crate::{
    audit,
    clock::Clock,
    config::{Auth, Config, Kind, Step},
    scram,
};

/// Where a login comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The peer's address.
    pub address: IpAddr,
    /// What it speaks.
    pub protocol: &'static str,
}

/// What a back end says.
#[derive(Debug)]
enum Verdict<T> {
    Accepted(T),
    /// It is not so, and why.
    Refused(String),
    /// Nobody can tell.
    Unavailable(anyhow::Error),
}

/// Who has logged in.
#[derive(Clone, Debug)]
pub struct Identified {
    /// The user, by the name that the back end has for him.
    pub user: Name,
    /// His tags.
    pub tags: Vec<Name>,
    /// What he may do; without it the broker's own users decide.
    pub authorization: Option<Arc<dyn Authorization>>,
}

/// What came of a login.
#[derive(Clone, Debug)]
pub enum LoginOutcome {
    /// It is this user.
    Accepted(Identified),
    /// It is not. Why is in the audit log, and not for who asked.
    Refused,
}

impl From<LoginOutcome> for Login {
    fn from(outcome: LoginOutcome) -> Self {
        match outcome {
            LoginOutcome::Accepted(Identified { user, authorization, .. }) => {
                Self::Accepted(Principal { user, authorization })
            }
            LoginOutcome::Refused => Self::Refused,
        }
    }
}

/// Checks credentials.
pub struct Authenticator {
    chain: Vec<(Kind, Kind)>,
    internal: Arc<Internal>,
    oauth: Option<OAuth>,
    ldap: Option<Arc<Ldap>>,
    http: Option<Arc<Http>>,
    loopback_users: Vec<String>,
    access: Access,
    failures: Failures,
    /// Logins that other servers have judged.
    judged: Cache<[u8; 32], Option<Identified>>,
    clock: Clock,
}

impl Authenticator {
    /// Asks the back ends of the configuration, of which one is the users of `broker`.
    ///
    /// # Errors
    /// If settings of a back end are missing or wrong.
    pub fn new(broker: Arc<Broker>, config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let Auth { backends, cache_s, cache_entries, .. } = &config.auth;
        let chain: Vec<_> = backends
            .iter()
            .map(|step| match *step {
                Step::One(kind) => (kind, kind),
                Step::Two { authentication, authorization } => (authentication, authorization),
            })
            .collect();
        anyhow::ensure!(!chain.is_empty(), "auth.backends is empty: nobody could log in");
        let has_bare = chain.iter().any(|(who, what)| *what == Kind::OAuth2 && *who != Kind::OAuth2);
        anyhow::ensure!(!has_bare, "auth.backends: only a token that was checked says what its user may do");
        let uses = |kind| chain.iter().any(|(who, what)| *who == kind || *what == kind);
        let limits = &config.limits;
        let allowance = Allowance {
            per_address: limits.login_failures_per_address,
            per_user: limits.login_failures_per_user,
            window_ms: limits.login_failures_window_s.saturating_mul(1000),
        };
        let oauth = uses(Kind::OAuth2).then(|| OAuth::new(&config.auth.oauth2, clock)).transpose();
        Ok(Self {
            internal: Arc::new(Internal::new(broker)?),
            oauth: oauth.context("OAuth 2.0")?,
            ldap: uses(Kind::Ldap).then(|| Ldap::new(&config.auth, clock)).transpose().context("LDAP")?,
            http: uses(Kind::Http).then(|| Http::new(&config.auth, clock)).transpose().context("HTTP back end")?,
            chain,
            loopback_users: config.loopback_users.clone(),
            access: config.access.clone(),
            failures: Failures::new(allowance),
            judged: Cache::new(clock, Duration::from_secs(*cache_s), *cache_entries),
            clock,
        })
    }

    /// Checks credentials. A token comes as the password, with any user name or an empty one.
    ///
    /// A refusal is in the audit log.
    pub async fn login(&self, credentials: &Credentials, origin: Origin) -> LoginOutcome {
        if let Some(outcome) = self.quick(credentials, origin) {
            return outcome;
        }
        let user = credentials.user();
        let (mut reasons, mut is_certain) = (Vec::new(), true);
        for step in &self.chain {
            match self.judge(*step, credentials, origin).await {
                Verdict::Accepted(identified) => return self.admit(identified, origin),
                Verdict::Refused(reason) => reasons.push(reason),
                Verdict::Unavailable(error) => {
                    is_certain = false;
                    reasons.push(format!("{error:#}"));
                }
            }
        }
        // Who cannot be judged has not failed.
        if is_certain {
            self.failures.add(user, origin.address, self.clock.now());
        }
        self.refuse(user, origin, &reasons.join("; "))
    }

    /// The outcome, if it can be told without waiting: by memory, or because there is nothing to check.
    pub fn quick(&self, credentials: &Credentials, origin: Origin) -> Option<LoginOutcome> {
        let user = credentials.user();
        if let Some(reason) = self.bar(user, origin) {
            return Some(self.refuse(user, origin, reason));
        }
        if self.failures.are_too_many(user, origin.address, self.clock.now()) {
            return Some(self.refuse(user, origin, "too many failed logins"));
        }
        if self.chain.first() != Some(&(Kind::Internal, Kind::Internal)) {
            return None;
        }
        match self.internal.quick(credentials)? {
            Verdict::Accepted(()) => match self.internal.identify(user) {
                Verdict::Accepted(identified) => Some(LoginOutcome::Accepted(identified)),
                Verdict::Refused(_) | Verdict::Unavailable(_) => None,
            },
            Verdict::Refused(reason) if self.chain.len() == 1 => {
                self.failures.add(user, origin.address, self.clock.now());
                Some(self.refuse(user, origin, &reason))
            }
            Verdict::Refused(_) | Verdict::Unavailable(_) => None,
        }
    }

    /// Why a user may not log in from where he is, whatever he brings.
    fn bar(&self, user: &str, origin: Origin) -> Option<&'static str> {
        let address = origin.address;
        if !address.is_loopback() && self.loopback_users.iter().any(|name| access::is_same_user(name, user)) {
            return Some("this user may only connect from this machine");
        }
        (!self.access.allows_user(user, address)).then_some("this user may not connect from this address")
    }

    /// Lets a user in whom a back end has accepted, perhaps by another name than the one he gave.
    fn admit(&self, identified: Identified, origin: Origin) -> LoginOutcome {
        match self.bar(&identified.user, origin) {
            Some(reason) => self.refuse(&identified.user, origin, reason),
            None => LoginOutcome::Accepted(identified),
        }
    }

    fn refuse(&self, user: &str, origin: Origin, reason: &str) -> LoginOutcome {
        audit::login_refused(user, origin, reason);
        LoginOutcome::Refused
    }

    /// Puts credentials to one step of the chain, unless its answer is known.
    async fn judge(&self, step: (Kind, Kind), credentials: &Credentials, origin: Origin) -> Verdict<Identified> {
        let is_remembered = [step.0, step.1].iter().any(|kind| matches!(kind, Kind::Ldap | Kind::Http));
        if !is_remembered {
            return self.ask(step, credentials, origin).await;
        }
        let key = self.key_of(step, credentials, origin);
        match self.judged.get(&key) {
            Some(Some(identified)) => return Verdict::Accepted(identified),
            Some(None) => return Verdict::Refused("refused a moment ago".into()),
            None => {}
        }
        let verdict = self.ask(step, credentials, origin).await;
        match &verdict {
            Verdict::Accepted(identified) => self.judged.put(key, Some(identified.clone())),
            Verdict::Refused(_) => self.judged.put(key, None),
            Verdict::Unavailable(_) => {}
        }
        verdict
    }

    fn key_of(&self, step: (Kind, Kind), credentials: &Credentials, origin: Origin) -> [u8; 32] {
        let (user, password) = match credentials {
            Credentials::Password { user, password } => (user, Some(password.as_slice())),
            Credentials::Certificate { user } => (user, None),
        };
        let place = format!("{step:?} {} {} {user}", origin.address, password.is_some());
        self.internal.digest(&place, password.unwrap_or_default())
    }

    async fn ask(&self, step: (Kind, Kind), credentials: &Credentials, origin: Origin) -> Verdict<Identified> {
        let known = match self.authenticate(step.0, credentials).await {
            Verdict::Accepted(known) => known,
            Verdict::Refused(reason) => return Verdict::Refused(reason),
            Verdict::Unavailable(error) => return Verdict::Unavailable(error),
        };
        self.authorize(step.1, known, credentials.user(), origin).await
    }

    async fn authenticate(&self, kind: Kind, credentials: &Credentials) -> Verdict<Known> {
        let (user, password) = match credentials {
            Credentials::Password { user, password } => (user, Some(password)),
            Credentials::Certificate { user } => (user, None),
        };
        match (kind, &self.oauth, &self.ldap, &self.http) {
            (Kind::Internal, ..) => match self.internal.quick(credentials) {
                Some(verdict) => verdict,
                None => self.internal.check_in_turn(credentials).await,
            }
            .map(|()| Known::User),
            (Kind::OAuth2, Some(oauth), ..) => match password {
                Some(token) => oauth.authenticate(token).await.map(Known::Token),
                None => Verdict::Refused("there is no token".into()),
            },
            (Kind::Ldap, _, Some(ldap), _) => match password {
                Some(password) => ldap.authenticate(user, password).await,
                None => ldap.identify(user).await,
            }
            .map(Known::Entry),
            (Kind::Http, _, _, Some(http)) => {
                http.authenticate(user, password.map(Vec::as_slice)).await.map(Known::Tags)
            }
            _ => Verdict::Refused("there is no such back end".into()),
        }
    }

    async fn authorize(&self, kind: Kind, known: Known, user: &Name, origin: Origin) -> Verdict<Identified> {
        // A token's user is the one that it names.
        let user = match &known {
            Known::Token(identified) => identified.user.clone(),
            Known::User | Known::Entry(_) | Known::Tags(_) => user.clone(),
        };
        match (kind, known, &self.ldap, &self.http) {
            (Kind::Internal, ..) => self.internal.identify(&user),
            (Kind::OAuth2, Known::Token(identified), ..) => Verdict::Accepted(identified),
            (Kind::Ldap, Known::Entry(dn), Some(ldap), _) => ldap.authorize(&user, &dn).await,
            (Kind::Ldap, _, Some(ldap), _) => match ldap.identify(&user).await {
                Verdict::Accepted(dn) => ldap.authorize(&user, &dn).await,
                Verdict::Refused(reason) => Verdict::Refused(reason),
                Verdict::Unavailable(error) => Verdict::Unavailable(error),
            },
            (Kind::Http, Known::Tags(tags), _, Some(http)) => Verdict::Accepted(http.authorize(&user, tags, origin)),
            (Kind::Http, _, _, Some(http)) => {
                http.authenticate(&user, None).await.map(|tags| http.authorize(&user, tags, origin))
            }
            _ => Verdict::Refused("there is no such back end".into()),
        }
    }

    /// Answers what a client says in a login of several steps, of which `exchange` keeps what was said before. Only the
    /// broker's own users can log in so.
    pub fn step(
        &self,
        response: &SaslResponse,
        origin: Origin,
        exchange: &mut Option<Box<scram::Exchange>>,
    ) -> SaslOutcome {
        match response {
            SaslResponse::First(message) => self.begin(message, origin, exchange).unwrap_or(SaslOutcome::Refused),
            SaslResponse::Next(message) => {
                let Some(exchange) = exchange.take() else { return SaslOutcome::Refused };
                match exchange.finish(message) {
                    Some(proof) => SaslOutcome::Accepted { user: exchange.user.as_str().into(), proof },
                    None => {
                        self.failures.add(&exchange.user, origin.address, self.clock.now());
                        self.refuse(&exchange.user, origin, "wrong proof of the password");
                        SaslOutcome::Refused
                    }
                }
            }
        }
    }

    fn begin(
        &self,
        message: &[u8],
        origin: Origin,
        exchange: &mut Option<Box<scram::Exchange>>,
    ) -> Option<SaslOutcome> {
        if !self.chain.contains(&(Kind::Internal, Kind::Internal)) {
            return None;
        }
        let (begun, challenge, problem) = self.internal.begin_exchange(message)?;
        let user = begun.user.as_str();
        let barred = self.bar(user, origin);
        if barred.is_some() || self.failures.are_too_many(user, origin.address, self.clock.now()) {
            self.refuse(user, origin, barred.unwrap_or("too many failed logins"));
            return None;
        }
        if let Some(problem) = problem {
            tracing::debug!(user, "{} begins, and will fail: {problem}", scram::MECHANISM);
        }
        *exchange = Some(Box::new(begun));
        Some(SaslOutcome::Challenge(challenge))
    }
}

/// What is known of a user once it is known who he is.
enum Known {
    /// No more than his name.
    User,
    /// All, from his token.
    Token(Identified),
    /// His entry in the directory.
    Entry(Name),
    /// His tags.
    Tags(Vec<Name>),
}

impl<T> Verdict<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Verdict<U> {
        match self {
            Self::Accepted(value) => Verdict::Accepted(change(value)),
            Self::Refused(reason) => Verdict::Refused(reason),
            Self::Unavailable(error) => Verdict::Unavailable(error),
        }
    }
}
