//! What the API needs to know of the process that it is in, and to have done by it.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Arc};

use broker::{Authorization, Name, Origin, QueueInfo, Table};
use serde_json::Value as Json;

/// Something that is being done.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who may log in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The user's name.
    pub user: Name,
    /// `administrator`, `monitoring`, `policymaker`, `management`, …
    pub tags: Vec<Name>,
    /// What he may do; without it the broker's own users decide.
    pub authorization: Option<Arc<dyn Authorization>>,
}

/// How a user shows who he is.
#[derive(Clone)]
pub enum Secret {
    /// By name and password.
    Password(String, Vec<u8>),
    /// By a token, which says the name.
    Token(String),
}

/// Where clients can connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// As RabbitMQ calls the protocol: `amqp`, `mqtt`, `http`, …
    pub protocol: String,
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether connections are encrypted.
    pub tls: bool,
}

/// How the process and its machine are doing.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// The process.
    pub pid: u32,
    /// Memory that is resident, in bytes.
    pub memory_used: u64,
    /// Memory that messages take, in bytes.
    pub memory_messages: u64,
    /// Memory that messages may take before publishers wait, in bytes.
    pub memory_limit: u64,
    /// Files that are open.
    pub files_used: u64,
    /// Files that may be.
    pub files_limit: u64,
    /// Bytes that the file system of the data directory has left.
    pub disk_free: u64,
    /// Bytes below which publishers wait.
    pub disk_free_limit: u64,
    /// Bytes of the log's files.
    pub disk_used: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Calls that made data safe.
    pub syncs: u64,
    /// Bytes written to the log.
    pub written_bytes: u64,
    /// Bytes of segments that were rewritten.
    pub rewritten_bytes: u64,
    /// Messages that the log holds, once for each queue.
    pub messages_on_disk: u64,
    /// Cores.
    pub processors: u32,
    /// Seconds of processor time that the process has used.
    pub cpu_seconds: f64,
    /// The data directory.
    pub data: String,
    /// Certificates of the listeners: when the first of them expires, in seconds since 1970.
    pub certificate_expires: Option<i64>,
}

/// What is outside of the model.
pub trait Host: Send + Sync + 'static {
    /// Checks who somebody is; nothing if he may not log in.
    fn login(&self, secret: Secret, peer: IpAddr) -> Promise<'_, Option<Admitted>>;

    /// How the process is doing.
    fn facts(&self) -> Facts;

    /// Where clients can connect.
    fn listeners(&self) -> Vec<Listener>;

    /// The protocols that connections speak, as they tell.
    fn protocols(&self) -> &'static [&'static str];

    /// Properties by their names in AMQP 0-9-1, as messages carry them.
    fn properties(&self, table: &Table) -> (Origin, Vec<u8>);

    /// Whether a queue belongs to a client's session, and is nothing that anybody declared.
    fn is_of_session(&self, queue: &QueueInfo) -> bool;

    /// Hashes a password, with an algorithm by its name.
    ///
    /// # Errors
    /// If there is no such algorithm.
    fn hash_password(&self, password: &str, algorithm: Option<&str>) -> anyhow::Result<String>;

    /// A hash from definitions in the form in which it is kept.
    ///
    /// # Errors
    /// If it is not one.
    fn import_hash(&self, hash: &str, algorithm: Option<&str>) -> anyhow::Result<String>;

    /// A hash as definitions have it, with the name of its algorithm.
    fn export_hash<'h>(&self, hash: &'h str) -> (&'h str, &'static str);

    /// A vhost is gone: what protocols keep for it goes too.
    fn forget_vhost(&self, vhost: &Name);

    /// Sessions that outlive their connections, as the protocols that have them tell.
    fn sessions(&self) -> Vec<Json>;

    /// Prepared transactions that wait for their transaction managers, as the protocols that have them tell.
    fn prepared_transactions(&self) -> Vec<Json>;

    /// Ends one of them. Returns whether there is one of that name.
    ///
    /// # Errors
    /// If not all of it could be done.
    fn end_transaction(&self, vhost: &str, name: &str, is_committed: bool) -> anyhow::Result<bool>;

    /// The last lines of the log, from a number on, with the number of the next.
    fn log_lines(&self, from: u64) -> (Vec<String>, u64);
}
