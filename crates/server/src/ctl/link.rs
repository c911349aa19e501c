//! The way to a running broker: the socket in its data directory.

use std::{
    io::{BufRead, BufReader, IsTerminal, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::control::{self, Request};

/// A way to a broker.
pub struct Link {
    data: PathBuf,
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
    /// To the broker with this data directory.
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// A request of the management API, as the operator. A path has no `/api` in front.
    ///
    /// # Errors
    /// If no broker answers, or it refuses; see [`Refused`].
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let (method, path) = (method.to_owned(), path.to_owned());
        let answer = ask(&self.data, &Request::Api { method, path, body })?;
        let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
        if (200..300).contains(&status) {
            return Ok(answer["body"].clone());
        }
        let told = &answer["body"];
        let reason = told["reason"].as_str().or_else(|| told.as_str()).filter(|reason| !reason.is_empty());
        let reason = match reason {
            Some("Not Found") | None if status == 404 => "there is no such thing".to_owned(),
            Some(reason) => reason.to_owned(),
            None => format!("the broker answered {status}"),
        };
        Err(Refused { status, reason }.into())
    }

    /// What is at a path.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, None)
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
