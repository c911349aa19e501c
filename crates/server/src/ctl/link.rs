//! The way to a running broker: the socket in its data directory, or its management API.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{
    control::{self, Request},
    web::Web,
};

/// Longest time that a person waits for an answer over the network.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A way to a broker.
pub enum Link {
    /// By the socket in its data directory, as the operator.
    Local(PathBuf),
    /// By its management API, as a user.
    Remote(Remote),
}

/// A management API, and who asks it.
pub struct Remote {
    web: Web,
    /// Where it is, without `/api`.
    base: String,
    authorization: String,
}

/// The API said no.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// The status of HTTP.
    pub status: u16,
    /// Why.
    pub reason: String,
}

impl Link {
    /// To the broker at `http://USER:PASSWORD@HOST:PORT`, or https, whose certificate the authorities of a file vouch for, or
    /// the system's. Without a user it is `guest`.
    ///
    /// # Errors
    /// If that is no such address.
    pub fn remote(uri: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let (scheme, rest) = uri.split_once("://").with_context(|| format!("'{uri}' is no address of a broker"))?;
        if scheme != "http" && scheme != "https" {
            bail!("the management API is asked by http:// or https://, not by {scheme}://");
        }
        let (user, place) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let [user, password] = [user, password].map(|text| percent_decode_str(text).decode_utf8_lossy());
        Self::as_user(&format!("{scheme}://{place}"), &user, &password, ca)
    }

    /// To the broker at an address, as a user.
    ///
    /// # Errors
    /// If the authorities cannot be read.
    pub fn as_user(base: &str, user: &str, password: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let web = Web::new(ca, ANSWER_WITHIN)?;
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        Ok(Self::Remote(Remote { web, base: base.trim_end_matches('/').into(), authorization }))
    }

    /// A request of the management API, as the operator. A path has no `/api` in front.
    ///
    /// # Errors
    /// If no broker answers, or it refuses; see [`Refused`].
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let (status, told) = match self {
            Self::Local(data) => {
                let (method, path) = (method.to_owned(), path.to_owned());
                let mut answer = ask(data, &Request::Api { method, path, body })?;
                let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
                (status, answer["body"].take())
            }
            Self::Remote(remote) => remote.call(method, path, body)?,
        };
        if (200..300).contains(&status) {
            return Ok(told);
        }
        let reason = told["reason"].as_str().or_else(|| told.as_str()).filter(|reason| !reason.is_empty());
        let reason = match reason {
            Some("Not Found") | None if status == 404 => "there is no such thing".to_owned(),
            _ if status == 401 => "the broker does not let this user in".to_owned(),
            Some(reason) => reason.to_owned(),
            None => format!("the broker answered {status}"),
        };
        Err(Refused { status, reason }.into())
    }

    /// How the broker is doing.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub fn status(&self) -> anyhow::Result<Value> {
        if let Self::Local(data) = self {
            return ask(data, &Request::Status);
        }
        let (overview, nodes) = (self.get("/overview")?, self.get("/nodes")?);
        let node = &nodes[0];
        let alarm = match (node["mem_alarm"] == true, node["disk_free_alarm"] == true) {
            (true, true) => Some("low on memory & disk"),
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (false, false) => None,
        };
        Ok(json!({
            "version": overview["product_version"],
            "node": overview["node"],
            "uptime_s": node["uptime"].as_u64().map(|ms| ms / 1000),
            "connections": overview["object_totals"]["connections"],
            "queues": overview["object_totals"]["queues"],
            "messages": overview["queue_totals"]["messages"],
            "alarm": alarm,
            "memory_bytes": node["mem_used"],
            "disk_free_bytes": node["disk_free"],
        }))
    }

    /// What is at a path.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, None)
    }
}

impl Remote {
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<(u16, Value)> {
        let (base, body) = (&self.base, body.map(|body| body.to_string()));
        let asked = self.web.ask((method, &format!("{base}/api{path}")), Some(&self.authorization), body);
        let (status, text) = asked.with_context(|| format!("no broker answers at {base}"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or_else(|_| text.into())))
    }
}

/// Sends a request and waits for the answer.
///
/// # Errors
/// If no broker answers, or it cannot do what it is asked.
pub fn ask(data: &Path, request: &Request) -> anyhow::Result<Value> {
    let nobody = || format!("no broker answers in {}; is it running, and is this its data directory?", data.display());
    let (_directory, address) = control::address(data).with_context(nobody)?;
    let mut stream = UnixStream::connect(address).with_context(nobody)?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    let shows_progress = std::io::stderr().is_terminal();
    for line in BufReader::new(stream).lines() {
        let mut answer: Value = serde_json::from_str(&line?).context("the broker's answer is not understood")?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{error}");
        }
        if let Some(progress) = answer.get("progress") {
            if shows_progress {
                eprint!("\r{} of {} segments", progress["done"], progress["all"]);
                if progress["done"] == progress["all"] {
                    eprintln!();
                }
            }
            continue;
        }
        return Ok(answer["done"].take());
    }
    bail!("the broker ended before it answered")
}
