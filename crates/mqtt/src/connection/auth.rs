//! Enhanced authentication (section 4.12): SCRAM-SHA-256, when a client connects and whenever it wants to prove itself again.

use broker::{Millis, Request, SaslOutcome, SaslResponse};

use super::{MqttConnection, Phase, answers::packet};
use crate::{
    mapping::Reason,
    packet::{Note, kind},
    properties::{Value as Property, id, put, put_section},
    wire::Malformed,
};

/// The method that there is.
const METHOD: &str = "SCRAM-SHA-256";

/// Where a client's enhanced authentication is.
#[derive(Debug, Default)]
pub(super) struct Auth {
    /// Whether the client has connected by it.
    pub(super) is_used: bool,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    /// None is under way.
    #[default]
    Idle,
    /// The client is to say its first message.
    Empty,
    /// It has.
    Begun,
}

impl MqttConnection {
    /// The client connects with an authentication method.
    pub(super) fn begin_auth(&mut self, method: &str, data: Option<&[u8]>) -> Result<(), Reason> {
        if method != METHOD {
            return Err(Reason::BadAuthenticationMethod);
        }
        self.auth.is_used = true;
        self.first_auth(data);
        Ok(())
    }

    fn first_auth(&mut self, data: Option<&[u8]>) {
        match data {
            Some(data) => {
                self.auth.progress = Progress::Begun;
                self.request = Some(Request::Sasl(SaslResponse::First(data.to_vec())));
            }
            // SCRAM begins with the client; who only names the method is asked for more.
            None => {
                self.auth.progress = Progress::Empty;
                self.say_auth(Reason::ContinueAuthentication, None);
            }
        }
    }

    fn say_auth(&mut self, reason: Reason, data: Option<&[u8]>) {
        let mut properties = Vec::new();
        put_auth(&mut properties, data);
        let mut body = vec![reason as u8];
        put_section(&mut body, &properties);
        self.say(&packet(kind::AUTH << 4, &body));
    }

    /// Takes an AUTH packet.
    pub(super) fn auth(&mut self, note: &Note<'_>) -> Result<(), Malformed> {
        if !self.auth.is_used {
            return Err(Malformed::protocol("the client has not connected with an authentication method"));
        }
        if note.properties.text(id::AUTHENTICATION_METHOD) != Some(METHOD) {
            return Err(Malformed::protocol("the authentication method is not that of CONNECT"));
        }
        let data = note.properties.binary(id::AUTHENTICATION_DATA);
        let is_open = matches!(self.phase, Phase::Open);
        match (self.auth.progress, note.reason) {
            (Progress::Idle, reason) if reason == Reason::ReAuthenticate as u8 && is_open => self.first_auth(data),
            (Progress::Empty, reason) if reason == Reason::ContinueAuthentication as u8 => {
                self.first_auth(Some(data.unwrap_or_default()));
            }
            (Progress::Begun, reason) if reason == Reason::ContinueAuthentication as u8 => {
                let data = data.unwrap_or_default().to_vec();
                self.request = Some(Request::Sasl(SaslResponse::Next(data)));
            }
            _ => return Err(Malformed::protocol("the AUTH packet is out of place")),
        }
        Ok(())
    }

    /// What came of the client's last message.
    pub(super) fn answer_auth(&mut self, outcome: SaslOutcome, now: Millis) {
        let is_open = matches!(self.phase, Phase::Open);
        match outcome {
            SaslOutcome::Challenge(challenge) => {
                self.say_auth(Reason::ContinueAuthentication, Some(&challenge));
            }
            SaslOutcome::Accepted { user, proof } if is_open => {
                self.auth.progress = Progress::Idle;
                if self.user.as_ref() == Some(&user) {
                    self.say_auth(Reason::Success, Some(&proof));
                } else {
                    // Who proves to be somebody else does not get what the connection has.
                    self.close(Reason::NotAuthorized, now);
                }
            }
            SaslOutcome::Accepted { user, proof } => {
                self.auth.progress = Progress::Idle;
                let Phase::Challenge(mut candidate) = std::mem::replace(&mut self.phase, Phase::Connect) else {
                    return;
                };
                self.user = Some(user.clone());
                (candidate.principal, candidate.proof) = (user.into(), Some(proof));
                self.enter(candidate, now);
            }
            SaslOutcome::Refused if is_open => self.close(Reason::NotAuthorized, now),
            SaslOutcome::Refused => self.refuse_connect(Reason::NotAuthorized, now),
        }
    }
}

/// The method, and what is said by it.
pub(super) fn put_auth(properties: &mut Vec<u8>, data: Option<&[u8]>) {
    put(properties, id::AUTHENTICATION_METHOD, Property::Text(METHOD));
    if let Some(data) = data {
        put(properties, id::AUTHENTICATION_DATA, Property::Binary(data));
    }
}
