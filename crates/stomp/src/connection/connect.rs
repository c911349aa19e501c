//! From CONNECT to CONNECTED (section "Connecting"): the version, the vhost, who the client is, and how often both sides show
//! that they are there.

use std::sync::Arc;

use broker::{Credentials, Login, Millis, Name, Outlet, Refusal, Request, Table, Terms};

use super::{Phase, StompConnection};
use crate::{
    mapping::Problem,
    wire::{self, Frame, Limits, Version},
};

/// A client that wants to connect.
#[derive(Debug)]
pub(super) struct Candidate {
    vhost: Name,
    mechanism: &'static str,
    client_id: Option<Name>,
    beats: (u64, u64),
    /// For the user as the client has named it.
    user: Name,
}

impl StompConnection {
    /// The first frame, which must be CONNECT or STOMP.
    pub(super) fn connect(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        if !matches!(frame.command, "CONNECT" | "STOMP") {
            return Err(Problem::new("Illegal command", "You must log in using CONNECT first"));
        }
        self.version = negotiate(frame.header("accept-version")).ok_or_else(|| {
            let known = Version::ALL.map(Version::text).join(",");
            Problem::new("Version mismatch", format!("Supported versions are {known}\n"))
        })?;
        // STOMP 1.0 leaves it open whether blanks in front of a value belong to it; RabbitMQ says that they do not.
        let is_trimmed = self.version == Version::V10;
        let header = |name| frame.header(name).map(|value| if is_trimmed { value.trim_start() } else { value });
        let (credentials, mechanism) = self.credentials(header("login"), header("passcode"))?;
        let user = credentials.user().clone();
        self.user = Some(user.clone());
        let beats = self.beats_of(header("heart-beat").unwrap_or("0,0"))?;
        let vhost = header("host").map_or_else(|| self.settings.vhost.clone(), |host| self.vhost_of(host));
        let client_id = header("client-id").filter(|id| !id.is_empty()).map(Name::from);
        self.phase = Phase::Login(Box::new(Candidate { vhost, mechanism, client_id, beats, user }));
        self.request = Some(Request::Authenticate(credentials));
        Ok(())
    }

    /// The vhost that a client means by `host`. For RabbitMQ's clients it is a vhost; for others it is the name of the machine
    /// that they have come to, and they mean the usual vhost.
    fn vhost_of(&self, host: &str) -> Name {
        let is_machine = host == "localhost" || host.contains(['.', ':']);
        if is_machine && self.broker.vhost(host).is_none() { self.settings.vhost.clone() } else { host.into() }
    }

    /// Who the client says it is.
    fn credentials(&self, login: Option<&str>, passcode: Option<&str>) -> Result<(Credentials, &'static str), Problem> {
        if let Some(login) = login.filter(|login| !login.is_empty()) {
            let password = passcode.unwrap_or_default().into();
            return Ok((Credentials::Password { user: login.into(), password }, "PLAIN"));
        }
        if let Some(user) = self.peer.as_ref().and_then(|peer| peer.certificate_name.clone()) {
            return Ok((Credentials::Certificate { user }, "EXTERNAL"));
        }
        let user = self.settings.anonymous_user.clone();
        let user = user.ok_or_else(|| Problem::new("Bad CONNECT", "A login is required\n"))?;
        Ok((Credentials::Certificate { user }, "ANONYMOUS"))
    }

    /// Milliseconds between heart-beats from us and from the client, by what it can do and wants (section "Heart-beating").
    /// Whole seconds, as with RabbitMQ.
    fn beats_of(&self, text: &str) -> Result<(u64, u64), Problem> {
        let bad = || Problem::new("Invalid header", "'heart-beat' must be two numbers with a comma between them\n");
        let (can, wants) = text.split_once(',').ok_or_else(bad)?;
        let min = self.settings.heart_beat_ms_min.max(1);
        let beat = |text: &str| match text.trim().parse::<u32>() {
            Ok(0) => Ok(0),
            Ok(ms) => Ok((u64::from(ms) / 1000 * 1000).max(min)),
            Err(_) => Err(bad()),
        };
        Ok((beat(wants)?, beat(can)?))
    }

    /// Whether the credentials are good is known.
    pub(super) fn logged_in(&mut self, login: Login, now: Millis) {
        let Phase::Login(candidate) = std::mem::replace(&mut self.phase, Phase::Connect) else { return };
        let Login::Accepted(principal) = login else {
            let detail = format!("Access refused for user '{}'", candidate.user);
            return self.fail(&Problem::new("Bad CONNECT", detail), None);
        };
        self.user = Some(principal.user.clone());
        let caller = match self.broker.enter(self.id, &principal, &candidate.vhost) {
            Ok(caller) => caller,
            Err(Refusal::VhostNotFound(vhost) | Refusal::VhostRefused { vhost, .. }) => {
                let detail = format!("Virtual host '{vhost}' access denied");
                return self.fail(&Problem::new("Bad CONNECT", detail), None);
            }
            Err(refusal) => {
                return self.fail(&Problem::new("Bad CONNECT", format!("Connection refused: {refusal}")), None);
            }
        };
        self.login_ends = principal.expires();
        self.caller = Some(match &candidate.client_id {
            Some(client_id) => caller.named(client_id),
            None => caller,
        });
        self.open(*candidate, now);
    }

    fn open(&mut self, candidate: Candidate, now: Millis) {
        let session = format!("session-{}", self.broker.unique_name());
        self.beats = candidate.beats;
        self.client_id = candidate.client_id;
        self.introduce(candidate.mechanism);
        self.decoder.version = self.version;
        let body_bytes = usize::try_from(self.broker.settings.message_bytes_max).unwrap_or(usize::MAX / 2);
        self.decoder.limits = Limits::after_login(body_bytes, self.settings.head_bytes_max);
        let (ours, theirs) = self.beats;
        let beats = format!("{ours},{theirs}");
        let version = self.version.text();
        let headers =
            [("server", &*self.settings.server), ("session", &session), ("heart-beat", &beats), ("version", version)];
        let connected = wire::frame("CONNECTED", &headers, b"", self.version);
        let mut outgoing = self.outgoing.lock();
        outgoing.output.buffer().extend_from_slice(&connected);
        (outgoing.version, outgoing.session) = (self.version, session);
        outgoing.tells_text = self.client_id.is_some();
        drop(outgoing);
        (self.phase, self.phase_ends) = (Phase::Open, None);
        (self.sent, self.received) = (now, now);
    }

    /// Has operators see the connection.
    fn introduce(&mut self, mechanism: &'static str) {
        let (Some(caller), Some(peer)) = (&self.caller, self.peer.take()) else { return };
        let (ours, theirs) = self.beats;
        let terms = Terms {
            protocol: self.version.name(),
            mechanism,
            client_id: self.client_id.clone(),
            client_properties: Table(vec![("product".into(), "STOMP client".into())]),
            channel_max: 0,
            frame_max: 0,
            heartbeat_s: (ours.max(theirs) / 1000).try_into().unwrap_or(u16::MAX),
        };
        let outlet = Arc::clone(&self.outgoing) as Arc<dyn Outlet>;
        let seen = self.broker.introduce(caller, *peer, terms, &outlet);
        self.outgoing.lock().seen = Some(Arc::clone(&seen));
        self.seen = Some(seen);
    }
}

/// The newest version that both sides speak. A client that names none speaks STOMP 1.0.
fn negotiate(accepted: Option<&str>) -> Option<Version> {
    let accepted = accepted.unwrap_or("1.0");
    let is_accepted = |version: &Version| accepted.split(',').any(|text| text.trim() == version.text());
    Version::ALL.into_iter().rev().find(is_accepted)
}
