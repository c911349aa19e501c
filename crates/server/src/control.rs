//! The broker's side of `roadstead ctl`: a socket in the data directory, for who may read and write there.
//!
//! A client sends one request as a line of JSON; the answer is lines of JSON, of which the last has `done` or `error`.

use std::{
    fs,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tower_service::Service;

use crate::serve::Server;

/// The socket's name in the data directory.
pub const SOCKET: &str = "control";

/// Longest request, in bytes.
const REQUEST_BYTES: u64 = 256 * 1024 * 1024;

/// How long a client may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// What a client wants.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// How the broker is doing.
    Status,
    /// A copy of the data directory.
    Backup {
        /// Where to.
        target: PathBuf,
    },
    /// A request of the management API, as the operator.
    Api {
        /// GET, PUT, POST or DELETE.
        method: String,
        /// The path, without `/api`.
        path: String,
        /// JSON to send.
        body: Option<Value>,
    },
    /// All definitions.
    ExportDefinitions,
    /// To have definitions added.
    ImportDefinitions {
        /// The document.
        definitions: Value,
    },
}

/// Opens the socket. Without it the broker works all the same; only `ctl` cannot reach it.
pub fn listen(server: &Arc<Server>) -> Option<Socket> {
    let path = server.config.data.join(SOCKET);
    match open(&server.config.data) {
        Ok(listener) => {
            tokio::spawn(accept(listener, Arc::clone(server)));
            Some(Socket(path))
        }
        Err(error) => {
            tracing::warn!("no control socket at {}: {error}", path.display());
            None
        }
    }
}

/// The socket's file, which goes with the broker.
pub struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A way to the socket that is short enough for a socket's address, however long the directory's path is. It holds while
/// the directory is open.
pub fn address(data: &Path) -> std::io::Result<(fs::File, PathBuf)> {
    let directory = fs::File::open(data)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    Ok((directory, path))
}

fn open(data: &Path) -> std::io::Result<UnixListener> {
    let (_directory, address) = address(data)?;
    // The lock on the data directory is ours, so nobody listens on what is there.
    let _ = fs::remove_file(&address);
    let listener = UnixListener::bind(&address)?;
    fs::set_permissions(&address, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, server: Arc<Server>) {
    while let Ok((stream, _)) = listener.accept().await {
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, server).await {
                tracing::debug!(%error, "control connection");
            }
        });
    }
}

async fn serve(stream: UnixStream, server: Arc<Server>) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    let mut input = BufReader::new(input.take(REQUEST_BYTES));
    tokio::time::timeout(REQUEST_WITHIN, input.read_line(&mut line)).await??;
    let (answers, mut answered) = mpsc::unbounded_channel();
    match serde_json::from_str(&line) {
        Ok(Request::Api { method, path, body }) => drop(answers.send(api(&server, &method, &path, body).await)),
        // The store's files are copied here; that is work for a thread that may wait.
        Ok(request) => drop(tokio::task::spawn_blocking(move || answer(&request, &server, &answers))),
        Err(error) => drop(answers.send(json!({ "error": format!("not a request: {error}") }))),
    }
    while let Some(answer) = answered.recv().await {
        output.write_all(format!("{answer}\n").as_bytes()).await?;
    }
    Ok(())
}

/// The answer of the management API, to who may read and write the data directory.
async fn api(server: &Server, method: &str, path: &str, body: Option<Value>) -> Value {
    server.broker.set_time(server.clock.now());
    let body = body.map_or_else(axum::body::Body::empty, |body| body.to_string().into());
    let request = axum::http::Request::builder().method(method).uri(format!("/api{path}")).extension(admin::Operator);
    let request = match request.body(body) {
        Ok(request) => request,
        Err(error) => return json!({ "error": format!("not a request: {error}") }),
    };
    let Ok(answer) = server.management.clone().call(request).await;
    let status = answer.status().as_u16();
    match axum::body::to_bytes(answer.into_body(), usize::MAX).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(&*text));
            json!({ "done": { "status": status, "body": body } })
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn answer(request: &Request, server: &Server, answers: &mpsc::UnboundedSender<Value>) {
    server.broker.set_time(server.clock.now());
    let last = match request {
        Request::Status => json!({ "done": status(server) }),
        // It is answered where waiting is cheap.
        Request::Api { .. } => json!({ "error": "answered elsewhere" }),
        Request::ExportDefinitions => {
            json!({ "done": admin::definitions::all(&server.admin) })
        }
        Request::ImportDefinitions { definitions } => match admin::definitions::import(&server.admin, definitions) {
            Ok(counts) => json!({ "done": counts }),
            Err(error) => {
                tracing::error!("definitions: {error:#}");
                json!({ "error": format!("{error:#}") })
            }
        },
        Request::Backup { target } => {
            tracing::info!(target = %target.display(), "backup begins");
            let mut progress = |done: usize, all: usize| {
                let _ = answers.send(json!({ "progress": { "done": done, "all": all } }));
            };
            match server.store.backup(target, &mut progress) {
                Ok(backup) => {
                    tracing::info!(target = %target.display(), segments = backup.segments, "backup is complete");
                    let store::Backup { segments, linked, bytes } = backup;
                    json!({ "done": { "segments": segments, "linked": linked, "bytes": bytes } })
                }
                Err(error) => {
                    tracing::error!(target = %target.display(), "backup failed: {error}");
                    json!({ "error": error.to_string() })
                }
            }
        }
    };
    let _ = answers.send(last);
}

fn status(server: &Server) -> Value {
    let usage = server.store.usage();
    let alarms = server.broker.alarms();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "data": server.config.data,
        "connections": server.connections.load(Ordering::Relaxed),
        "alarm": alarms.any().then(|| alarms.reason()),
        "memory_bytes": server.broker.memory_bytes(),
        "messages_on_disk": usage.holds,
        "segments": usage.segments,
        "disk_bytes": usage.disk_bytes,
        "live_bytes": usage.live_bytes,
        "syncs": usage.syncs,
        "written_bytes": usage.written_bytes,
        "rewritten_bytes": usage.rewritten_bytes,
    })
}
