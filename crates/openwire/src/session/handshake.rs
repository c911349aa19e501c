//! From the first frame to an open connection: what both sides can, who the client is, and which name it has.

use std::task::Waker;

use broker::{
    Credentials, Login, Name, Position, Principal, Request, Table, Terms,
    session::{HangUp, Millis},
};

use super::{OpenWireSession, Told};
use crate::{
    command::Command,
    connection::{BrokerInfo, ConnectionControl, ConnectionInfo, WireFormatInfo},
    ids::BrokerId,
    mapping::Exception,
    offer::Offer,
    response::ExceptionResponse,
    shared::Claim,
};

/// Longest frame before the login, in bytes.
pub(super) const FRAME_MAX_BEFORE_LOGIN: usize = 64 * 1024;

/// Bytes that a frame may have besides the largest message's content.
const FRAME_BYTES: usize = 1024 * 1024;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The vhost of all clients.
    pub vhost: Name,
    /// Whom clients without a user name are taken for; nobody if they are refused.
    pub anonymous_user: Option<Name>,
    /// The broker's name, which clients are told.
    pub broker_name: String,
    /// The version that clients are told.
    pub version: String,
    /// Longest frame, in bytes.
    pub frame_max: usize,
    /// Milliseconds without a sign of life after which a side gives the other up, unless the client wants less.
    pub max_inactivity_ms: u64,
    /// Milliseconds that a client has to log in.
    pub handshake_ms: u64,
    /// Addresses of brokers with the same queues, of which clients are told that can go to another one.
    pub connected_brokers: Vec<String>,
    /// Whether new clients are spread over them.
    pub rebalance: bool,
    /// Milliseconds that a connection is held after a refused login, against guessing.
    pub refusal_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vhost: "/".into(),
            anonymous_user: Some("guest".into()),
            broker_name: "roadstead".into(),
            version: "5.18.6".into(),
            frame_max: 104_857_600,
            max_inactivity_ms: 30_000,
            handshake_ms: 10_000,
            connected_brokers: Vec::new(),
            rebalance: false,
            refusal_delay_ms: 2_000,
        }
    }
}

impl Settings {
    /// What the broker offers.
    pub fn offer(&self) -> Offer {
        Offer {
            max_frame_size: self.frame_max as i64,
            max_inactivity_duration: self.max_inactivity_ms as i64,
            max_inactivity_duration_initial_delay: self.handshake_ms as i64,
            provider_name: Some("ActiveMQ".into()),
            provider_version: Some(self.version.clone()),
            platform_details: Some("Roadstead".into()),
            ..Offer::default()
        }
    }
}

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The client has not said what it can.
    Negotiating,
    /// It has not said who it is.
    Anonymous,
    /// Its credentials are being checked.
    LoggingIn(Box<Candidate>),
    /// An earlier connection of the same client has to end first.
    Claiming(Box<Candidate>),
    Open,
    /// The output is the last that the client gets.
    Finished(HangUp),
}

/// A client that wants to be let in.
#[derive(Debug)]
pub(super) struct Candidate {
    command_id: i32,
    is_manageable: bool,
    /// Whether it had a connection before.
    has_come_back: bool,
}

/// What a client said of itself.
#[derive(Debug, Default)]
pub struct Client {
    /// The user that it logged in as.
    pub user: Option<Name>,
    /// Its name, which no other connection may have.
    pub client_id: Option<Box<str>>,
    /// The connection's id.
    pub connection_id: Option<Box<str>>,
    /// Whether it comes back by itself when its connection is lost, and sends again what was not answered.
    pub is_fault_tolerant: bool,
}

impl Phase {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Finished(_))
    }

    /// Whether nothing is read until something has been found out.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::LoggingIn(_) | Self::Claiming(_))
    }

    pub(super) fn hang_up(&self) -> Option<HangUp> {
        match self {
            Self::Finished(hang_up) => Some(*hang_up),
            _ => None,
        }
    }
}

impl OpenWireSession {
    /// The client says what it can. From then on both sides speak so.
    pub(super) fn negotiate(&mut self, info: &WireFormatInfo<'_>, now: Millis) -> Result<Position, Exception> {
        let Phase::Negotiating = self.phase else {
            self.fail(&Exception::io("the wire format is negotiated already"), now);
            return Ok(Position(0));
        };
        let agreed = match Offer::of(info) {
            Ok(offer) => self.settings.offer().negotiate(&offer),
            Err(malformed) => {
                self.fail(&Exception::io(malformed.problem), now);
                return Ok(Position(0));
            }
        };
        self.decoder.switch(agreed.format());
        self.silence_ms = u64::try_from(agreed.max_inactivity_duration).unwrap_or(0);
        self.phase = Phase::Anonymous;
        let mut state = self.outgoing.lock();
        state.encoder.switch(agreed.format());
        state.send(&BrokerInfo {
            broker_id: Some(BrokerId { value: Some(format!("ID:{}", self.settings.broker_name).into()) }),
            broker_url: Some(format!("tcp://{}", self.peer.local).into()),
            broker_name: Some(self.settings.broker_name.clone().into()),
            ..BrokerInfo::default()
        });
        Ok(Position(0))
    }

    /// The client says who it is.
    pub(super) fn connect(&mut self, info: ConnectionInfo<'_>, now: Millis) -> Result<(), Exception> {
        match self.phase {
            Phase::Anonymous => {}
            Phase::Negotiating => {
                self.fail(&Exception::io("Wire format negotiation timeout: peer did not send his wire format."), now);
                return Ok(());
            }
            // A client that adds its connection once more has it already.
            _ => {
                self.answer(Position(0), Told::Done(info.base.command_id, Vec::new()));
                return Ok(());
            }
        }
        let owned =
            |text: &Option<crate::lent::Text<'_>>| text.as_deref().filter(|text| !text.is_empty()).map(Box::from);
        self.client.connection_id = info.connection_id.as_ref().and_then(|id| owned(&id.value));
        self.client.client_id = owned(&info.client_id);
        self.client.is_fault_tolerant = info.fault_tolerant || info.failover_reconnect;
        if self.client.client_id.as_ref().is_some_and(|id| id.len() > 255) {
            return Err(Exception::client_id("the client's name is longer than 255 bytes"));
        }
        let user = info.user_name.as_deref().filter(|user| !user.is_empty());
        let credentials = match (user, &self.peer.certificate_name, &self.settings.anonymous_user) {
            (Some(user), ..) => {
                let password = info.password.as_deref().unwrap_or_default().as_bytes().to_vec();
                Credentials::Password { user: user.into(), password }
            }
            (None, Some(user), _) | (None, None, Some(user)) => Credentials::Certificate { user: user.clone() },
            (None, None, None) => {
                self.refuse_login(
                    info.base.command_id,
                    &Exception::security("User name [null] or password is invalid."),
                    now,
                );
                return Ok(());
            }
        };
        self.client.user = Some(credentials.user().clone());
        let candidate = Candidate {
            command_id: info.base.command_id,
            is_manageable: info.manageable,
            has_come_back: info.failover_reconnect,
        };
        self.phase = Phase::LoggingIn(Box::new(candidate));
        self.request = Some(Request::Authenticate(credentials));
        Ok(())
    }

    /// Whether the credentials are good is known.
    pub(super) fn logged_in(&mut self, login: Login, now: Millis) {
        let Phase::LoggingIn(candidate) = std::mem::replace(&mut self.phase, Phase::Anonymous) else { return };
        match login {
            Login::Accepted(principal) => self.enter(candidate, &principal, now),
            Login::Refused => {
                let user = self.client.user.as_deref().unwrap_or_default();
                let text = format!("User name [{user}] or password is invalid.");
                self.refuse_login(candidate.command_id, &Exception::security(text), now);
            }
        }
    }

    fn refuse_login(&mut self, command_id: i32, exception: &Exception, now: Millis) {
        let refusal = ExceptionResponse::to(command_id, exception.class, exception.message.clone());
        self.outgoing.lock().send(&refusal);
        self.phase = Phase::Finished(HangUp::Client);
        self.phase_ends = Some(now.plus(self.settings.refusal_delay_ms));
    }

    fn enter(&mut self, candidate: Box<Candidate>, principal: &Principal, now: Millis) {
        self.client.user = Some(principal.user.clone());
        match self.broker.enter(self.id, principal, &self.settings.vhost) {
            Ok(caller) => {
                self.login_ends = principal.expires();
                self.caller = Some(match &self.client.client_id {
                    Some(client_id) => caller.named(&Name::from(&**client_id)),
                    None => caller,
                });
                self.phase = Phase::Claiming(candidate);
                if let Some(waker) = self.waker.clone() {
                    self.poll_claim(now, &waker);
                }
            }
            Err(refusal) => self.refuse_login(candidate.command_id, &refusal.into(), now),
        }
    }

    /// Gets the client its name, once nobody else has it.
    pub(super) fn poll_claim(&mut self, now: Millis, waker: &Waker) {
        let (Phase::Claiming(candidate), Some(caller)) = (&self.phase, &self.caller) else { return };
        let command_id = candidate.command_id;
        let place = format!("tcp://{}:{}", self.peer.address, self.peer.port);
        match self.shared.claim(caller, &self.client, &place, &self.outgoing, waker) {
            Claim::Granted => {}
            Claim::Waits => return,
            Claim::Refused(place) => {
                let (broker, client) =
                    (&self.settings.broker_name, self.client.client_id.as_deref().unwrap_or_default());
                let text = format!("Broker: {broker} - Client: {client} already connected from {place}");
                let caller = self.caller.take();
                if let Some(caller) = caller {
                    self.broker.close_session(&caller);
                }
                return self.refuse_login(command_id, &Exception::client_id(text), now);
            }
        }
        let (is_manageable, has_come_back) = (candidate.is_manageable, candidate.has_come_back);
        self.phase = Phase::Open;
        self.phase_ends = None;
        let message_max = usize::try_from(self.broker.settings.message_bytes_max).unwrap_or(usize::MAX);
        self.decoder.set_frame_max(self.settings.frame_max.min(message_max.saturating_add(FRAME_BYTES)));
        self.introduce();
        self.announce_connection();
        self.answer(Position(0), Told::Done(command_id, Vec::new()));
        if is_manageable {
            self.tell_brokers(has_come_back);
        }
    }

    /// Tells a client where else it may go. One that is to be spread is to go to the first of them, which is the next one for
    /// each client; and it stays there, whatever the broker there makes of it.
    fn tell_brokers(&mut self, has_come_back: bool) {
        let mut brokers = self.settings.connected_brokers.clone();
        let rebalance_connection = self.settings.rebalance && brokers.len() > 1 && !has_come_back;
        if rebalance_connection {
            let first = self.shared.next_broker() % brokers.len();
            brokers.rotate_left(first);
        }
        let (connected_brokers, reconnect_to) = (Some(brokers.join(",").into()), Some("".into()));
        let control =
            ConnectionControl { connected_brokers, reconnect_to, rebalance_connection, ..ConnectionControl::default() };
        self.answer(Position(0), Told::Command(Box::new(Command::ConnectionControl(control))));
    }

    /// Makes the connection known to operators.
    fn introduce(&mut self) {
        let Some(caller) = &self.caller else { return };
        let mut client_properties = Table::default();
        if let Some(connection_id) = &self.client.connection_id {
            client_properties.push("connection_id", (&**connection_id).into());
        }
        let mut state = self.outgoing.lock();
        let terms = Terms {
            protocol: "OpenWire",
            mechanism: "PLAIN",
            client_id: self.client.client_id.as_deref().map(Name::from),
            client_properties,
            channel_max: 0,
            frame_max: state.encoder.format().frame_max as u32,
            heartbeat_s: (self.silence_ms / 1000) as u16,
        };
        let outlet = std::sync::Arc::clone(&self.outgoing) as std::sync::Arc<dyn broker::Outlet>;
        let connection = self.broker.introduce(caller, self.peer.clone(), terms, &outlet);
        state.connection = Some(std::sync::Arc::clone(&connection));
        drop(state);
        self.connection = Some(connection);
    }
}
