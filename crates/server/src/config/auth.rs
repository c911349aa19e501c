//! Who checks logins, and what they may do: `[auth]` and its sections.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

/// Back ends that are asked one after the other; the first that accepts a login wins.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// The back ends, in their order.
    pub backends: Vec<Step>,
    /// Seconds for which answers of LDAP and HTTP servers are remembered; 0 for not at all.
    pub cache_s: u64,
    /// Answers that are remembered of each of them.
    pub cache_entries: usize,
    /// OAuth 2.0.
    pub oauth2: OAuth2,
    /// LDAP.
    pub ldap: Ldap,
    /// A server with RabbitMQ's HTTP interface.
    pub http: Http,
}

/// One step of the chain.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Step {
    /// One back end says who it is, and what he may do.
    One(Kind),
    /// One says who it is, another what he may do.
    Two {
        /// Who it is.
        authentication: Kind,
        /// What he may do.
        authorization: Kind,
    },
}

/// A back end.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The broker's own users.
    Internal,
    /// Tokens.
    OAuth2,
    /// A directory.
    Ldap,
    /// A server that is asked by HTTP.
    Http,
}

/// OAuth 2.0: a token (JWT) is the password.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct OAuth2 {
    /// What tokens call this broker.
    pub resource_server_id: String,
    /// Who issues tokens; his keys are found through `/.well-known/openid-configuration`, unless `jwks_uri` says where.
    pub issuer: Option<String>,
    /// Where the issuer's keys are.
    pub jwks_uri: Option<String>,
    /// Certificates of the authorities that `https` servers are trusted by (PEM); the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Files with keys, by key id: PEM or JWK.
    pub keys: BTreeMap<String, PathBuf>,
    /// The id of the key for tokens that name none.
    pub default_key: Option<String>,
    /// Signatures that are accepted.
    pub algorithms: Vec<String>,
    /// Whether the token's audience must name this broker.
    pub verify_aud: bool,
    /// What scopes for this broker begin with; `resource_server_id` and a dot if it is not set.
    pub scope_prefix: Option<String>,
    /// Scopes that stand for others.
    pub scope_aliases: BTreeMap<String, Vec<String>>,
    /// Claims that hold more scopes; with dots for claims within claims.
    pub additional_scopes_key: Vec<String>,
    /// Claims that hold the user's name, before `sub` and `client_id`.
    pub preferred_username_claims: Vec<String>,
    /// Seconds between two fetches of keys, at least, if tokens name unknown ones.
    pub jwks_refresh_s_min: u64,
    /// Seconds after which keys are fetched anew.
    pub jwks_refresh_s: u64,
    /// Milliseconds that a fetch may take.
    pub timeout_ms: u64,
}

impl Default for OAuth2 {
    fn default() -> Self {
        Self {
            resource_server_id: String::new(),
            issuer: None,
            jwks_uri: None,
            ca: None,
            keys: BTreeMap::new(),
            default_key: None,
            algorithms: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256"]
                .map(String::from)
                .into(),
            verify_aud: true,
            scope_prefix: None,
            scope_aliases: BTreeMap::new(),
            additional_scopes_key: Vec::new(),
            preferred_username_claims: Vec::new(),
            jwks_refresh_s_min: 10,
            jwks_refresh_s: 3600,
            timeout_ms: 5000,
        }
    }
}

/// A directory.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub struct Ldap {
    /// Servers, of which the first that can be reached is asked.
    pub servers: Vec<String>,
    /// Their port; 389, or 636 with TLS, if it is not set.
    pub port: Option<u16>,
    /// How connections are encrypted.
    pub encryption: Encryption,
    /// Certificates of the authorities that servers are trusted by (PEM); the system's if there is none.
    pub ca: Option<PathBuf>,
    /// A user's entry, with `${username}`.
    pub user_dn_pattern: String,
    /// The attribute by which a user's entry is searched for, instead.
    pub dn_lookup_attribute: Option<String>,
    /// Where it is searched for.
    pub dn_lookup_base: Option<String>,
    /// Who searches and asks for groups; anonymous if it is not set.
    pub bind_dn: Option<String>,
    /// His password.
    pub bind_password: Option<String>,
    /// Which users have which tag.
    pub tags: BTreeMap<String, Rule>,
    /// Who may enter a vhost.
    pub vhost_access: Rule,
    /// Who may use a queue or exchange.
    pub resource_access: Rule,
    /// Who may use a routing key of a topic exchange.
    pub topic_access: Rule,
    /// Milliseconds that an answer may take.
    pub timeout_ms: u64,
}

/// How connections to a directory are encrypted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// Not at all.
    None,
    /// By StartTLS.
    StartTls,
    /// From the start.
    Tls,
}

impl std::fmt::Debug for Ldap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ldap").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Default for Ldap {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            port: None,
            encryption: Encryption::Tls,
            ca: None,
            user_dn_pattern: "${username}".into(),
            dn_lookup_attribute: None,
            dn_lookup_base: None,
            bind_dn: None,
            bind_password: None,
            tags: BTreeMap::new(),
            vhost_access: Rule::Constant(true),
            resource_access: Rule::Constant(true),
            topic_access: Rule::Constant(true),
            timeout_ms: 5000,
        }
    }
}

/// Something that holds or does not. In its texts, `${username}`, `${user_dn}`, `${vhost}`, `${name}`, `${resource}`,
/// `${permission}` and `${routing_key}` stand for what is asked about.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged)]
pub enum Rule {
    /// Always, or never.
    Constant(bool),
    /// A condition.
    When(Box<Condition>),
}

/// A condition.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// The user is in a group: its entry, in which the attribute `member` names him.
    InGroup(String),
    /// The user is in a group in which another attribute names him.
    InGroupBy {
        /// The group's entry.
        group: String,
        /// The attribute.
        attribute: String,
    },
    /// There is such an entry.
    Exists(String),
    /// The text matches the regular expression.
    Match {
        /// The text.
        text: String,
        /// The expression; what is put into it stands for itself.
        pattern: String,
    },
    /// All of these hold.
    All(Vec<Rule>),
    /// One of these holds.
    Any(Vec<Rule>),
    /// This does not hold.
    Not(Rule),
    /// What holds depends on what is to be done: `configure`, `write` or `read`.
    Permission(BTreeMap<String, Rule>),
    /// What holds depends on what it is done to: `queue`, `exchange` or `topic`.
    Resource(BTreeMap<String, Rule>),
}

/// A server that is asked by HTTP, as by RabbitMQ's rabbitmq_auth_backend_http.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Http {
    /// `get` or `post`.
    pub method: Method,
    /// Where to ask about users.
    pub user_path: String,
    /// Where to ask about vhosts.
    pub vhost_path: String,
    /// Where to ask about queues and exchanges.
    pub resource_path: String,
    /// Where to ask about routing keys.
    pub topic_path: String,
    /// Certificates of the authorities that `https` servers are trusted by (PEM); the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Milliseconds that an answer may take.
    pub timeout_ms: u64,
}

/// How the parameters of a question are sent.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// In the address.
    Get,
    /// In the body.
    Post,
}

impl Default for Http {
    fn default() -> Self {
        let path = String::new;
        Self {
            method: Method::Get,
            user_path: path(),
            vhost_path: path(),
            resource_path: path(),
            topic_path: path(),
            ca: None,
            timeout_ms: 5000,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            backends: vec![Step::One(Kind::Internal)],
            cache_s: 15,
            cache_entries: 10_000,
            oauth2: OAuth2::default(),
            ldap: Ldap::default(),
            http: Http::default(),
        }
    }
}

/// The settings of these sections, for [`super::KEYS`].
pub(super) const AUTH_KEYS: &[&str] = &["backends", "cache_s", "cache_entries", "oauth2", "ldap", "http"];

pub(super) const OAUTH2_KEYS: &[&str] = &[
    "resource_server_id",
    "issuer",
    "jwks_uri",
    "ca",
    "keys",
    "default_key",
    "algorithms",
    "verify_aud",
    "scope_prefix",
    "scope_aliases",
    "additional_scopes_key",
    "preferred_username_claims",
    "jwks_refresh_s_min",
    "jwks_refresh_s",
    "timeout_ms",
];

pub(super) const LDAP_KEYS: &[&str] = &[
    "servers",
    "port",
    "encryption",
    "ca",
    "user_dn_pattern",
    "dn_lookup_attribute",
    "dn_lookup_base",
    "bind_dn",
    "bind_password",
    "tags",
    "vhost_access",
    "resource_access",
    "topic_access",
    "timeout_ms",
];

pub(super) const HTTP_KEYS: &[&str] =
    &["method", "user_path", "vhost_path", "resource_path", "topic_path", "ca", "timeout_ms"];
