//! Changing a server's definitions while a conversation goes on: policies, limits, virtual hosts, users.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Api, segment};

/// How long a command of ours may take.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// What a command ends with if it does not know its arguments.
const MISUSED: i32 = 2;

/// How the server of a conversation is administered.
#[derive(Clone, Debug)]
pub enum Manager {
    /// RabbitMQ's HTTP API.
    Http(Api),
    /// The commands of our binary, for the server on this data directory. It is the caller's, and goes with the server,
    /// so nothing is taken back after a conversation.
    Commands { binary: PathBuf, data: PathBuf },
}

/// Why a change was not made.
pub enum Failure {
    /// By the server; the reason is in its own words, which transcripts do not show.
    Refused(String),
    /// It could not even be asked, or did not understand, so there is no answer to compare.
    Unheard(String),
}

/// What became of a change.
pub type Outcome = Result<(), Failure>;

impl Manager {
    pub fn http(url: &str) -> Self {
        Self::Http(Api::parse(url))
    }

    /// Imports a document of definitions.
    pub fn define(&self, document: &str) -> Outcome {
        let mut document: Value = serde_json::from_str(document).expect("definitions are JSON");
        match self {
            Self::Http(api) => {
                // RabbitMQ has operator policies among its parameters, and takes them one at a time only.
                let operator = document.as_object_mut().and_then(|document| document.remove("operator_policies"));
                if document.as_object().is_some_and(|document| !document.is_empty()) {
                    call(api, "POST", "/api/definitions", &document.to_string())?;
                }
                for policy in items(operator.as_ref()) {
                    let path = format!("/api/operator-policies/{}/{}", vhost(policy), name(policy));
                    call(api, "PUT", &path, &policy.to_string())?;
                }
                Ok(())
            }
            Self::Commands { binary, data } => {
                let mut file = tempfile::NamedTempFile::with_suffix(".json").expect("temporary files can be made");
                file.write_all(document.to_string().as_bytes()).expect("a temporary file can be written");
                let mut command = Command::new(binary);
                command.args(["definitions", "import", "--data"]).arg(data).arg(file.path());
                run(&mut command)
            }
        }
    }

    /// Deletes a `policy` or an `operator-policy` of the virtual host `/`.
    pub fn undefine(&self, kind: &str, name: &str) -> Outcome {
        match self {
            Self::Http(api) => {
                let group = if kind == "policy" { "policies" } else { "operator-policies" };
                call(api, "DELETE", &format!("/api/{group}/%2F/{}", segment(name)), "")
            }
            Self::Commands { binary, data } => {
                let mut command = Command::new(binary);
                command.args(["ctl", "--data"]).arg(data).args([&format!("delete-{kind}"), "--vhost", "/", name]);
                run(&mut command)
            }
        }
    }

    /// Takes back what a document has defined. What is gone already is no error.
    pub fn forget(&self, document: &str) {
        let Self::Http(api) = self else { return };
        let document: Value = serde_json::from_str(document).expect("definitions are JSON");
        let mut paths = Vec::new();
        for (group, path) in [("policies", "policies"), ("operator_policies", "operator-policies")] {
            let policies = items(document.get(group));
            paths.extend(policies.map(|policy| format!("/api/{path}/{}/{}", vhost(policy), name(policy))));
        }
        for group in ["users", "vhosts"] {
            paths.extend(items(document.get(group)).map(|item| format!("/api/{group}/{}", name(item))));
        }
        for path in paths {
            let _ = api.request("DELETE", &path, "");
        }
    }
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

fn name(item: &Value) -> String {
    segment(item["name"].as_str().unwrap_or_default())
}

fn vhost(item: &Value) -> String {
    segment(item["vhost"].as_str().unwrap_or("/"))
}

/// Only what is the request's fault counts as refused.
fn call(api: &Api, method: &str, path: &str, body: &str) -> Outcome {
    match api.request(method, path, body) {
        Ok((200..=299, _)) => Ok(()),
        Ok((status @ 400..=499, text)) => Err(Failure::Refused(format!("{method} {path}: {status} {text}"))),
        other => Err(Failure::Unheard(format!("{method} {path}: {other:?}"))),
    }
}

/// Runs a command to its end. One that does not exist yet fails as a misused one does.
fn run(command: &mut Command) -> Outcome {
    let output = output(command).map_err(|error| Failure::Unheard(format!("{command:?} cannot be run: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code != MISUSED => Err(Failure::Refused(said)),
        _ => Err(Failure::Unheard(format!("{command:?} ended with {}: {said}", output.status))),
    }
}

/// What a command has printed; it is killed if it takes too long.
fn output(command: &mut Command) -> std::io::Result<Output> {
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + PATIENCE;
    while process.try_wait()?.is_none() {
        if Instant::now() > end {
            process.kill()?;
        }
        std::thread::sleep(POLL);
    }
    process.wait_with_output()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_are_found_in_their_virtual_hosts() {
        let document = json!({"policies": [{"vhost": "/", "name": "a b"}, {"name": "c", "vhost": "v"}]});
        let found: Vec<_> = items(document.get("policies")).map(|item| (vhost(item), name(item))).collect();
        assert_eq!(found, [("%2F".to_owned(), "a%20b".to_owned()), ("v".to_owned(), "c".to_owned())]);
    }
}
