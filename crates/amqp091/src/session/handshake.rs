//! From the protocol header to `connection.open-ok` (specification section 2.2.4).

use std::sync::Arc;

use broker::{
    Credentials, Login, Principal, Request, Session, Table, Terms, Value,
    session::{HangUp, Millis},
};

use super::{AmqpSession, Phase};
use crate::{
    PROTOCOL_HEADER,
    mapping::{Code, Exception},
    method::Method,
    wire::{Frame, Malformed, Reader, frame_type},
};

/// What the handshake waits for.
#[derive(Debug)]
pub(super) enum Handshake {
    Header,
    StartOk,
    /// The answer of those who check credentials.
    Login {
        mechanism: &'static str,
    },
    TuneOk,
    Open,
}

/// Smallest frame that a client may negotiate, in bytes (specification section 4.2.3).
const FRAME_MIN: u32 = 4096;

impl AmqpSession {
    /// The first eight bytes. Anything but AMQP 0-9-1 (or 0-9, which is the same to us) is answered by the header that
    /// would have been right, and the connection ends (specification section 4.2.2).
    pub(super) fn protocol_header(&mut self, input: &[u8]) -> Option<usize> {
        let header = input.get(..8)?;
        if header == PROTOCOL_HEADER || header == b"AMQP\x01\x01\x00\x09" {
            self.send_start();
            self.phase = Phase::Handshake(Handshake::StartOk);
            return Some(8);
        }
        self.outgoing.lock().output.buffer().extend_from_slice(PROTOCOL_HEADER);
        self.phase = Phase::Finished(HangUp::Broker);
        Some(input.len())
    }

    fn send_start(&self) {
        let mechanisms: &[u8] =
            if self.peer.certificate_name.is_some() { b"PLAIN AMQPLAIN EXTERNAL" } else { b"PLAIN AMQPLAIN" };
        let properties = self.server_properties();
        self.outgoing
            .send(0, &Method::ConnectionStart { major: 0, minor: 9, properties, mechanisms, locales: b"en_US" });
    }

    fn server_properties(&self) -> Table {
        let mut capabilities = Table::default();
        for name in [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ] {
            capabilities.push(name, Value::Bool(true));
        }
        let mut properties = Table::default();
        properties.push("capabilities", Value::Table(capabilities));
        let texts = [
            ("cluster_name", self.settings.cluster_name.as_str()),
            ("copyright", "Copyright (c) the Roadstead authors"),
            ("information", "Licensed under the Apache License 2.0"),
            ("platform", "Roadstead"),
            ("product", &self.settings.product),
            ("version", &self.settings.version),
        ];
        for (name, text) in texts {
            properties.push(name, Value::from(text));
        }
        properties
    }

    pub(super) fn handshake_frame(&mut self, frame: Frame<'_>) -> Result<(), Exception> {
        if frame.kind == frame_type::HEARTBEAT {
            return Ok(());
        }
        if frame.kind != frame_type::METHOD || frame.channel != 0 {
            return Err(Exception::unexpected_frame(frame.kind, frame.payload));
        }
        let method = Method::read(frame.payload).map_err(|bad| Exception::bad_method(bad, frame.payload))?;
        let Phase::Handshake(state) = &self.phase else { return Ok(()) };
        let id = method.id();
        match (state, method) {
            (Handshake::StartOk, Method::ConnectionStartOk { properties, mechanism, response, .. }) => {
                self.client.read(&properties);
                self.start_ok(mechanism, response).map_err(|exception| exception.during(id))
            }
            (Handshake::TuneOk, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }) => {
                self.tune_ok(channel_max, frame_max, heartbeat).map_err(|exception| exception.during(id))
            }
            (Handshake::Open, Method::ConnectionOpen { vhost, .. }) => {
                self.open(vhost).map_err(|exception| exception.during(id))
            }
            (_, Method::ConnectionClose { .. }) => {
                self.outgoing.send(0, &Method::ConnectionCloseOk {});
                self.phase = Phase::Finished(HangUp::Client);
                Ok(())
            }
            _ => Err(Exception::new(Code::ChannelError, "unexpected method during the handshake").during(id)),
        }
    }

    fn start_ok(&mut self, mechanism: &str, response: &[u8]) -> Result<(), Exception> {
        let external = self.peer.certificate_name.clone();
        let (mechanism, credentials) = match mechanism {
            "PLAIN" => ("PLAIN", plain(response)),
            "AMQPLAIN" => ("AMQPLAIN", amqplain(response)),
            "EXTERNAL" if external.is_some() => ("EXTERNAL", external.map(|user| Credentials::Certificate { user })),
            other => {
                let text = format!("unknown authentication mechanism '{other}'");
                return Err(Exception::new(Code::CommandInvalid, text));
            }
        };
        let Some(credentials) = credentials else {
            return Err(Exception::new(Code::SyntaxError, "response of the authentication mechanism is malformed"));
        };
        self.client.user = Some(credentials.user().clone());
        self.client.mechanism = mechanism;
        self.phase = Phase::Handshake(Handshake::Login { mechanism });
        self.request = Some(Request::Authenticate(credentials));
        Ok(())
    }

    pub(super) fn logged_in(&mut self, login: Login, now: Millis) {
        let Phase::Handshake(Handshake::Login { mechanism }) = self.phase else {
            return self.secret_updated(login, now);
        };
        match login {
            Login::Accepted(principal) => {
                self.client.user = Some(principal.user.clone());
                self.login_ends = principal.expires();
                self.principal = Some(principal);
                let settings = &self.settings;
                let (channel_max, frame_max) = (settings.channel_max, settings.frame_max);
                let tune = Method::ConnectionTune { channel_max, frame_max, heartbeat: settings.heartbeat_s };
                self.outgoing.send(0, &tune);
                self.phase = Phase::Handshake(Handshake::TuneOk);
            }
            Login::Refused if self.client.wants_refusal => {
                let text = format!(
                    "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
                );
                let exception = Exception::new(Code::AccessRefused, text);
                let (code, text) = (exception.code as u16, exception.text());
                self.outgoing.send(0, &Method::ConnectionClose { code, text: &text, class: 0, method: 0 });
                self.phase = Phase::Closing;
                self.phase_ends = Some(now.plus(self.settings.refusal_delay_ms));
            }
            Login::Refused => {
                self.phase = Phase::Refused;
                self.phase_ends = Some(now.plus(self.settings.refusal_delay_ms));
            }
        }
    }

    fn tune_ok(&mut self, channel_max: u16, frame_max: u32, heartbeat_s: u16) -> Result<(), Exception> {
        let settings = &self.settings;
        negotiated("channel_max", channel_max.into(), settings.channel_max.into(), 0)?;
        negotiated("frame_max", frame_max, settings.frame_max, FRAME_MIN)?;
        self.channel_max = channel_max;
        self.frame_max = frame_max as usize;
        self.outgoing.lock().frame_max = self.frame_max;
        self.heartbeat_ms = u64::from(heartbeat_s) * 1000;
        self.phase = Phase::Handshake(Handshake::Open);
        Ok(())
    }

    fn open(&mut self, vhost: &str) -> Result<(), Exception> {
        let principal = self.principal.take().unwrap_or_else(|| Principal::from(""));
        let caller = self.broker.enter(self.id, &principal, vhost)?;
        let terms = Terms {
            protocol: "AMQP 0-9-1",
            mechanism: self.client.mechanism,
            client_id: None,
            client_properties: std::mem::take(&mut self.client.properties),
            channel_max: self.channel_max,
            frame_max: self.frame_max as u32,
            heartbeat_s: (self.heartbeat_ms / 1000) as u16,
        };
        let connection = self.broker.introduce(&caller, self.peer.clone(), terms, &self.outlet());
        self.outgoing.lock().connection = Some(Arc::clone(&connection));
        (self.caller, self.connection) = (Some(caller), Some(connection));
        self.outgoing.send(0, &Method::ConnectionOpenOk { reserved_1: "" });
        self.phase = Phase::Open;
        self.phase_ends = None;
        Ok(())
    }
}

/// What the client chose must lie within what the server offered. 0 stands for no limit, on both sides.
fn negotiated(name: &str, chosen: u32, offered: u32, min: u32) -> Result<(), Exception> {
    let shown = if chosen == 0 { "0 (no limit)".to_owned() } else { chosen.to_string() };
    let text = if chosen != 0 && chosen < min {
        format!("negotiated {name} = {shown} is lower than the minimum allowed value ({min})")
    } else if offered != 0 && (chosen == 0 || chosen > offered) {
        format!("negotiated {name} = {shown} is higher than the maximum allowed value ({offered})")
    } else {
        return Ok(());
    };
    Err(Exception::new(Code::NotAllowed, text))
}

/// SASL PLAIN (RFC 4616): authorization identity, user and password. Nobody may act for somebody else.
fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.splitn(3, |&byte| byte == 0);
    let (acting_for, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if !acting_for.is_empty() && acting_for != user {
        return None;
    }
    Some(Credentials::Password { user: std::str::from_utf8(user).ok()?.into(), password: password.to_vec() })
}

/// AMQPLAIN: a field table without its length.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let mut counted = (response.len() as u32).to_be_bytes().to_vec();
    counted.extend_from_slice(response);
    let table: Result<Table, Malformed> = Reader::new(&counted).table();
    let table = table.ok()?;
    let user = table.get("LOGIN")?.as_text()?.into();
    let Some(Value::Text(password)) = table.get("PASSWORD") else { return None };
    Some(Credentials::Password { user, password: password.clone() })
}
