//! The configuration: defaults, then a TOML file, then the environment, then flags.

mod auth;
mod keys;
mod messaging;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use toml::{Table, Value};

use self::keys::{check_keys, set};
pub use self::{
    auth::{Auth, Condition, Encryption, Http, Kind, Ldap, Method, OAuth2, Rule, Step},
    messaging::{Mqtt, OpenWire, Recovery, Stomp},
};
use crate::{ServeOptions, auth::access::Access};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Data directory.
    pub data: PathBuf,
    /// Addresses of all listeners.
    pub bind: Vec<IpAddr>,
    /// Added to every port.
    pub port_offset: u16,
    /// Threads that serve connections; 0 for one for each core. One serves them in the order in which something came from them.
    pub threads: usize,
    /// Vhosts that exist from the start.
    pub vhosts: Vec<String>,
    /// Users who may connect from this machine only.
    pub loopback_users: Vec<String>,
    /// AMQP 0-9-1.
    pub amqp: Amqp,
    /// MQTT.
    pub mqtt: Mqtt,
    /// STOMP.
    pub stomp: Stomp,
    /// The OpenWire listeners.
    pub openwire: OpenWire,
    /// WebSocket.
    pub websocket: WebSocket,
    /// The management API and the console.
    pub management: Management,
    /// Metrics.
    pub prometheus: Prometheus,
    /// Metrics for OpenTelemetry.
    pub otlp: Otlp,
    /// Encryption of connections.
    pub tls: Tls,
    /// The log on disk.
    pub store: Store,
    /// Bounds.
    pub limits: Limits,
    /// Who checks logins, and what they may do.
    pub auth: Auth,
    /// Who may come from where.
    pub access: Access,
    /// Logs.
    pub log: Log,
    /// Users.
    pub users: Vec<User>,
}

/// The AMQP 0-9-1 listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Amqp {
    /// Port; 0 for any free one.
    pub port: u16,
    /// Port for TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Product that clients are told.
    pub product: String,
    /// Version that clients are told.
    pub version: String,
    /// Name of the cluster that clients are told.
    pub cluster_name: String,
    /// Most channels of a connection.
    pub channel_max: u16,
    /// Longest frame, in bytes.
    pub frame_max: u32,
    /// Seconds between heartbeats, as proposed to clients; 0 for none.
    pub heartbeat_s: u16,
    /// Whether the `x-death` header that a client gives a message goes on when the message dies, as in RabbitMQ 3.
    pub carry_client_deaths: bool,
}

/// The management API and the console.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Management {
    /// Port; 0 for any free one.
    pub port: u16,
    /// Port for TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Milliseconds between two looks at all numbers, from which rates and curves are made.
    pub sample_interval_ms: u64,
}

/// Metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Prometheus {
    /// Port; 0 for any free one.
    pub port: u16,
}

/// Metrics that are sent to a collector of OpenTelemetry.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Otlp {
    /// Where it is, such as `http://127.0.0.1:4318`; nothing is sent without it.
    pub endpoint: Option<String>,
    /// Further headers of requests, such as one with a key.
    pub headers: BTreeMap<String, String>,
    /// Whether spans are sent of messages that carry the context of a trace.
    pub traces: bool,
    /// Milliseconds between requests with metrics.
    pub interval_ms: u64,
    /// Milliseconds that a request may take.
    pub timeout_ms: u64,
    /// The authorities that its certificate is trusted by; the system's without it.
    pub ca: Option<PathBuf>,
}

/// What all WebSocket listeners have in common.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct WebSocket {
    /// ActiveMQ's port for WebSocket over TLS, used if a certificate is configured; 0 for any free one.
    pub tls_port: u16,
    /// Origins of web pages that may connect, such as `https://example.com`; all if there are none.
    pub origins: Vec<String>,
}

/// Encryption of connections.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// Certificate chain (PEM).
    pub certificate: Option<PathBuf>,
    /// Private key (PEM).
    pub key: Option<PathBuf>,
    /// Certificates of the authorities whose clients are trusted (PEM).
    pub client_ca: Option<PathBuf>,
    /// Whether clients must present a certificate.
    pub client_certificate_required: bool,
    /// Oldest version of TLS: "1.2" or "1.3".
    pub min_version: Option<String>,
    /// What in a client's certificate is its user's name.
    pub login_from: LoginFrom,
    /// Which kind of alternative name is: `dns`, `email`, `uri` or `ip`.
    pub login_san_type: SanType,
    /// Which of them, from 0.
    pub login_san_index: usize,
}

/// What in a client's certificate is its user's name.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "they are the values of the setting")]
pub enum LoginFrom {
    /// The common name.
    #[default]
    CommonName,
    /// The whole name of its subject (RFC 4514).
    DistinguishedName,
    /// An alternative name.
    SubjectAlternativeName,
}

/// A kind of alternative name.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SanType {
    /// A host name.
    #[default]
    Dns,
    /// An address for mail.
    Email,
    /// A URI.
    Uri,
    /// An IP address.
    Ip,
}

/// The log on disk.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub struct Store {
    /// Master key of encryption at rest: 32 bytes in hexadecimal or base64.
    pub key: Option<String>,
    /// File with the master key.
    pub key_file: Option<PathBuf>,
    /// Files with master keys that were used before.
    pub former_key_files: Vec<PathBuf>,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// Bytes per second that rewriting sparse segments may write; 0 for no limit.
    pub rewrite_bytes_per_second: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("key_file", &self.key_file).finish_non_exhaustive()
    }
}

/// Bounds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Most connections.
    pub connections: usize,
    /// Most connections that have not logged in.
    pub connections_before_login: usize,
    /// Milliseconds that a client has to log in.
    pub handshake_ms: u64,
    /// Milliseconds that a connection is held after a refused login.
    pub refusal_delay_ms: u64,
    /// Milliseconds after which a connection is closed that takes nothing of what is written to it.
    pub write_timeout_ms: u64,
    /// Largest message body, in bytes.
    pub message_bytes: u64,
    /// Memory for queued messages above which publishers wait, in bytes; 0 for a quarter of what the machine allows.
    pub memory_bytes: usize,
    /// Free bytes of the data directory's file system below which publishers wait.
    pub disk_free_bytes: u64,
    /// Failed logins from one address within the window, after which it is refused; 0 for any number.
    pub login_failures_per_address: u32,
    /// Failed logins as one user within the window, after which he is refused; 0 for any number.
    pub login_failures_per_user: u32,
    /// Seconds in which failed logins are forgotten.
    pub login_failures_window_s: u64,
}

/// Logs.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// error, warn, info, debug or trace; also a filter such as `info,roadstead=debug`.
    pub level: String,
    /// File to which the lines of the audit log are added.
    pub audit_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// A user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password in the clear.
    pub password: Option<String>,
    /// Hash of the password: argon2id in PHC form, or what RabbitMQ keeps, in base64.
    pub password_hash: Option<String>,
    /// How RabbitMQ made `password_hash`: `rabbit_password_hashing_sha256` or `rabbit_password_hashing_sha512`.
    pub hashing_algorithm: Option<String>,
    /// `administrator`, `impersonator`, …
    #[serde(default)]
    pub tags: Vec<String>,
    /// Permissions by vhost.
    #[serde(default)]
    pub permissions: Vec<Permission>,
    /// Topic permissions by vhost and exchange.
    #[serde(default)]
    pub topic_permissions: Vec<TopicPermission>,
    /// Groups, for which `openwire.authorization` has permissions.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A user's permissions in a vhost: regular expressions over names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The vhost.
    pub vhost: String,
    /// What may be declared and deleted.
    pub configure: String,
    /// What may be published to and bound to.
    pub write: String,
    /// What may be consumed from and bound from.
    pub read: String,
}

/// A user's permissions on the routing keys of a topic exchange.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPermission {
    /// The vhost.
    pub vhost: String,
    /// The exchange.
    pub exchange: String,
    /// Routing keys that may be published with.
    pub write: String,
    /// Binding keys that may be bound with.
    pub read: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./roadstead-data".into(),
            bind: Vec::new(),
            port_offset: 0,
            threads: 0,
            vhosts: vec!["/".into()],
            loopback_users: vec!["guest".into()],
            amqp: Amqp::default(),
            mqtt: Mqtt::default(),
            stomp: Stomp::default(),
            openwire: OpenWire::default(),
            websocket: WebSocket::default(),
            management: Management::default(),
            prometheus: Prometheus::default(),
            otlp: Otlp::default(),
            tls: Tls::default(),
            store: Store::default(),
            limits: Limits::default(),
            auth: Auth::default(),
            access: Access::default(),
            log: Log::default(),
            users: Vec::new(),
        }
    }
}

impl Default for Amqp {
    fn default() -> Self {
        let settings = amqp091::Settings::default();
        Self {
            port: 5672,
            tls_port: 5671,
            product: settings.product,
            version: settings.version,
            cluster_name: settings.cluster_name,
            channel_max: settings.channel_max,
            frame_max: settings.frame_max,
            heartbeat_s: settings.heartbeat_s,
            carry_client_deaths: false,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { tls_port: 61619, origins: Vec::new() }
    }
}

impl Default for Management {
    fn default() -> Self {
        Self { port: 15672, tls_port: 15671, sample_interval_ms: 5_000 }
    }
}

impl Default for Prometheus {
    fn default() -> Self {
        Self { port: 15692 }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        let (headers, traces, interval_ms, timeout_ms) = (BTreeMap::new(), false, 15_000, 10_000);
        Self { endpoint: None, headers, traces, interval_ms, timeout_ms, ca: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let settings = amqp091::Settings::default();
        Self {
            connections: 100_000,
            connections_before_login: 10_000,
            handshake_ms: settings.handshake_ms,
            refusal_delay_ms: settings.refusal_delay_ms,
            write_timeout_ms: 30_000,
            message_bytes: broker::limits::MESSAGE_BYTES,
            memory_bytes: 0,
            disk_free_bytes: 128 * 1024 * 1024,
            login_failures_per_address: 1000,
            login_failures_per_user: 1000,
            login_failures_window_s: 60,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        let options = store::Options::default();
        Self {
            key: None,
            key_file: None,
            former_key_files: Vec::new(),
            segment_bytes: options.segment_bytes,
            rewrite_bytes_per_second: options.rewrite_bytes_per_second,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".into(), audit_file: None }
    }
}

/// The smallest segment in which the log's own entries are few.
const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// The largest segment that is still removed and rewritten in good time.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Environment variables with the prefix that are not settings.
const NOT_SETTINGS: [&str; 2] = ["ROADSTEAD_TEST_", "ROADSTEAD_BENCH_"];

impl Config {
    /// Reads the configuration for `serve`.
    ///
    /// # Errors
    /// If the file cannot be read, or something in it or in the environment is not a setting.
    pub fn load(options: &ServeOptions, environment: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut table = Table::new();
        let mut origin = "the environment".to_owned();
        if let Some(path) = &options.config {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            table = text.parse().with_context(|| format!("{} is not valid", path.display()))?;
            origin = path.display().to_string();
        }
        check_keys("", &table).with_context(|| format!("in {origin}"))?;
        for (name, value) in environment {
            if NOT_SETTINGS.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            if let Some(key) = name.strip_prefix("ROADSTEAD_") {
                set(&mut table, &key.to_lowercase(), &value).with_context(|| format!("in {name}"))?;
            }
        }
        let mut config: Self = Value::Table(table).try_into().with_context(|| format!("in {origin}"))?;
        if let Some(data) = &options.data {
            config.data.clone_from(data);
        }
        if !options.bind.is_empty() {
            config.bind.clone_from(&options.bind);
        }
        config.port_offset = options.port_offset.unwrap_or(config.port_offset);
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.amqp.frame_max < 4096 {
            bail!("amqp.frame_max is {}; it must be at least 4096", self.amqp.frame_max);
        }
        for entry in &self.openwire.authorization {
            entry.check()?;
        }
        for recovery in &self.openwire.recovery {
            recovery.keep()?;
            recovery.selector()?;
        }
        if self.management.sample_interval_ms < 100 {
            bail!("management.sample_interval_ms is {}; it must be at least 100", self.management.sample_interval_ms);
        }
        if self.otlp.interval_ms < 100 {
            bail!("otlp.interval_ms is {}; it must be at least 100", self.otlp.interval_ms);
        }
        if self.limits.message_bytes > broker::limits::MESSAGE_BYTES_CEILING {
            bail!("limits.message_bytes must be at most {}", broker::limits::MESSAGE_BYTES_CEILING);
        }
        let segment_bytes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !segment_bytes.contains(&self.store.segment_bytes) || !self.store.segment_bytes.is_multiple_of(4096) {
            bail!(
                "store.segment_bytes must be between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}, and a multiple of 4096"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::keys::{KEYS, full};

    fn load(file: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        path.write_all(file.as_bytes()).unwrap();
        let options = ServeOptions { config: Some(path.path().into()), ..ServeOptions::default() };
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(&options, environment)
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let environment = [("ROADSTEAD_AMQP_PORT", "7"), ("ROADSTEAD_LOG_LEVEL", "debug"), ("OTHER", "x")];
        let config = load("[amqp]\nport = 5\nheartbeat_s = 9\n", &environment).unwrap();
        assert_eq!((config.amqp.port, config.amqp.heartbeat_s, &*config.log.level), (7, 9, "debug"));
        assert_eq!(config.amqp.tls_port, 5671);
        let environment = [("ROADSTEAD_AUTH_CACHE_S", "3"), ("ROADSTEAD_AUTH_OAUTH2_RESOURCE_SERVER_ID", "r")];
        let config = load("[auth.oauth2]\nissuer = 'i'\n", &environment).unwrap();
        let Auth { cache_s, oauth2, .. } = config.auth;
        assert_eq!((cache_s, &*oauth2.resource_server_id, oauth2.issuer.as_deref()), (3, "r", Some("i")));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = |file, environment| format!("{:#}", load(file, environment).unwrap_err());
        assert!(
            error("[amqp]\nports = 5\n", &[])
                .ends_with("unknown setting 'amqp.ports'; the nearest known one is 'amqp.port'")
        );
        assert!(error("dta = 'x'\n", &[]).contains("the nearest known one is 'data'"));
        assert!(error("[auth.ldap]\nserver = ['x']\n", &[]).contains("the nearest known one is 'auth.ldap.servers'"));
        let environment: &[(&str, &str)] = &[("ROADSTEAD_LIMITS_CONECTIONS", "1")];
        let text = error("", environment);
        assert!(text.contains("ROADSTEAD_LIMITS_CONECTIONS") && text.contains("'limits.connections'"), "{text}");
    }

    #[test]
    fn destinations_are_authorized_by_groups() {
        let file = "[[users]]\nname = 'a'\ngroups = ['g']\n[[openwire.authorization]]\nqueue = 'Q.>'\nread = ['g']\n";
        let config = load(file, &[]).unwrap();
        assert_eq!((&config.users[0].groups[..], config.openwire.authorization.len()), (&["g".to_owned()][..], 1));
        for bad in ["read = ['g']", "queue = 'Q'\ntopic = 'T'", "queue = 'Q'\nreads = ['g']"] {
            assert!(load(&format!("[[openwire.authorization]]\n{bad}\n"), &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_remember_by_one_measure() {
        let config = load("[[openwire.recovery]]\ntopics = 'a.>'\nms = 10\n", &[]).unwrap();
        assert_eq!(config.openwire.recovery[0].keep().unwrap(), broker::Keep::Ms(10));
        let config = load("[[openwire.recovery]]\ntopics = 'a.>'\nretained = true\nselector = 'a > 1'\n", &[]).unwrap();
        assert_eq!(config.openwire.recovery[0].keep().unwrap(), broker::Keep::Messages(1));
        assert!(config.openwire.recovery[0].selector().unwrap().is_some());
        let bads = [
            "",
            "ms = 0",
            "ms = 1\nmessages = 2",
            "seconds = 1",
            "retained = true\nms = 1",
            "ms = 1\nselector = 'a >'",
        ];
        for bad in bads {
            assert!(load(&format!("[[openwire.recovery]]\ntopics = 'a'\n{bad}\n"), &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_listed_key_is_a_setting_and_every_setting_is_listed() {
        for (section, keys) in KEYS {
            for key in
                keys.iter().filter(|key| !KEYS.iter().any(|(name, _)| *name == full(section, key)) && **key != "users")
            {
                let wrong = "[[]]";
                let file = if section.is_empty() {
                    format!("{key} = {wrong}")
                } else {
                    format!("[{section}]\n{key} = {wrong}")
                };
                assert!(load(&file, &[]).is_err(), "{section}.{key} is listed, but no setting");
            }
        }
    }
}
