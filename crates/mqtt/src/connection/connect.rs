//! From CONNECT to CONNACK (sections 3.1 and 3.2): who the client is, and which session it gets.

use std::sync::Arc;

use broker::{
    Credentials, Login, Millis, Name, Outlet, Position, Principal, Request, Table, Terms, broker::Caller,
    session::HangUp,
};

use super::{
    CLOSE_MS, CONNECT_BYTES, MqttConnection, Phase,
    answers::{ack, packet},
    auth::put_auth,
};
use crate::{
    mapping::Reason,
    message,
    outgoing::{Aliases, InFlight, OWN},
    packet::{Connect, Qos, Version, kind},
    properties::{Allowed, Value as Property, id, put, put_section},
    sessions::{self, Carried, Claimed, Key},
    topic,
    traffic::Kind as Traffic,
    will::Will,
    wire::{self, Malformed, Reader},
};

/// Bytes at the start of CONNECT's body in which its version stands: the longer of the protocol's two names, and the level.
const VERSION_BYTES: usize = 2 + "MQIsdp".len() + 1;

/// A client that wants to connect.
#[derive(Debug)]
pub(super) struct Candidate {
    clean_start: bool,
    pub(super) principal: Principal,
    vhost: Name,
    /// What shows a client that has proved who it is that the broker knows it.
    pub(super) proof: Option<Vec<u8>>,
    /// Whether the broker made the client identifier.
    is_assigned: bool,
    /// Seconds, if they are not what the client asked for.
    keep_alive_s: Option<u16>,
    receive_maximum: u16,
    packet_max: usize,
    alias_max: u16,
    will: Option<WillParts>,
    pub(super) caller: Option<Caller>,
}

/// A will whose session has no number yet.
#[derive(Debug)]
struct WillParts {
    topic: Box<str>,
    qos: Qos,
    retain: bool,
    expiry_s: Option<u32>,
    delay_s: u32,
    /// MQTT 5 properties that go on to subscribers.
    forwarded: Vec<u8>,
    payload: Vec<u8>,
}

impl MqttConnection {
    /// The first packet, which must be CONNECT (MQTT-3.1.0-1).
    pub(super) fn connect_packet(&mut self, input: &[u8], now: Millis) -> Result<Option<usize>, Malformed> {
        if input[0] >> 4 != kind::CONNECT {
            return Err(Malformed::protocol("the first packet is not CONNECT"));
        }
        let Some((remaining, length_len)) = wire::varint(&input[1..])? else { return Ok(None) };
        let body = &input[1 + length_len..];
        self.note_version(&body[..body.len().min(remaining as usize)]);
        let frame = wire::frame(input, CONNECT_BYTES);
        // What is too large is refused in the form of its version, for which a few bytes more are needed.
        if frame.is_err() && body.len() < VERSION_BYTES {
            return Ok(None);
        }
        let Some(frame) = frame? else { return Ok(None) };
        let connect = Connect::read(&frame)?;
        self.version = connect.version;
        if let Err(reason) = self.connect(&connect) {
            self.refuse_connect(reason, now);
        }
        Ok(Some(frame.len))
    }

    /// In which form a client is answered whose packet cannot be read to its end: that of its version, if it is known.
    fn note_version(&mut self, body: &[u8]) {
        let mut reader = Reader::new(body);
        if let (Ok(name), Ok(level)) = (reader.text(), reader.byte()) {
            self.version = if (name, level) == ("MQTT", 5) { Version::V5 } else { Version::V311 };
        }
    }

    fn connect(&mut self, connect: &Connect<'_>) -> Result<(), Reason> {
        let properties = &connect.properties;
        let is_assigned = connect.client_id.is_empty();
        if is_assigned
            && (connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start))
        {
            return Err(Reason::ClientIdentifierNotValid);
        }
        self.client_id = if is_assigned { self.broker.unique_name().into() } else { connect.client_id.into() };
        self.expiry_s = match connect.version {
            Version::V5 => properties.number(id::SESSION_EXPIRY).unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => sessions::NEVER,
        }
        .min(self.settings.session_expiry_s_max);
        let most = self.settings.keep_alive_s_max;
        let is_longer = most > 0 && (connect.keep_alive_s == 0 || connect.keep_alive_s > most);
        let keep_alive_s = if is_longer { most } else { connect.keep_alive_s };
        self.keep_alive_ms = u64::from(keep_alive_s) * 1000;
        let method = properties.text(id::AUTHENTICATION_METHOD);
        let (vhost, credentials) = match method {
            Some(_) => (self.vhost_and_user(connect.user).0, None),
            None => self.credentials(connect).map(|(vhost, credentials)| (vhost, Some(credentials)))?,
        };
        self.user = credentials.as_ref().map(|credentials| credentials.user().clone());
        let user = self.user.clone().unwrap_or_else(|| "".into());
        let will = connect.will.as_ref().map(|will| {
            let mut forwarded = Vec::new();
            will.properties.put_those(Allowed::FORWARDED, &mut forwarded);
            WillParts {
                topic: will.topic.into(),
                qos: will.qos,
                retain: will.retain,
                expiry_s: will.properties.number(id::MESSAGE_EXPIRY),
                delay_s: will.properties.number(id::WILL_DELAY).unwrap_or(0),
                forwarded,
                payload: will.payload.to_vec(),
            }
        });
        let number = |id| properties.number(id);
        let receive_maximum = match connect.version {
            Version::V5 => number(id::RECEIVE_MAXIMUM).map_or(u16::MAX, |max| max as u16),
            Version::V31 | Version::V311 => self.settings.prefetch,
        };
        let candidate = Candidate {
            clean_start: connect.clean_start,
            principal: user.into(),
            vhost,
            proof: None,
            is_assigned,
            keep_alive_s: is_longer.then_some(keep_alive_s),
            receive_maximum,
            packet_max: number(id::MAXIMUM_PACKET_SIZE).map_or(usize::MAX, |max| max as usize),
            alias_max: number(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) as u16,
            will,
            caller: None,
        };
        let candidate = Box::new(candidate);
        if let Some(credentials) = credentials {
            self.phase = Phase::Login(candidate);
            self.request = Some(Request::Authenticate(credentials));
        } else if let Some(method) = method {
            self.begin_auth(method, properties.binary(id::AUTHENTICATION_DATA))?;
            self.phase = Phase::Challenge(candidate);
        }
        Ok(())
    }

    /// A user name may begin with a vhost and a colon, as RabbitMQ has it.
    fn vhost_and_user<'c>(&self, user: Option<&'c str>) -> (Name, &'c str) {
        let user = user.unwrap_or_default();
        match user.rsplit_once(':') {
            Some((vhost, user)) => (vhost.into(), user),
            None => (self.settings.vhost.clone(), user),
        }
    }

    /// Who the client says it is.
    fn credentials(&self, connect: &Connect<'_>) -> Result<(Name, Credentials), Reason> {
        let usual = || self.settings.vhost.clone();
        if connect.user.is_none() {
            if let Some(user) = self.peer.as_ref().and_then(|peer| peer.certificate_name.clone()) {
                return Ok((usual(), Credentials::Certificate { user }));
            }
            let user = self.settings.anonymous_user.clone().ok_or(Reason::NotAuthorized)?;
            return Ok((usual(), Credentials::Certificate { user }));
        }
        let password = connect.password.filter(|password| !password.is_empty());
        let password = password.ok_or(Reason::BadUserNameOrPassword)?.to_vec();
        let (vhost, user) = self.vhost_and_user(connect.user);
        Ok((vhost, Credentials::Password { user: user.into(), password }))
    }

    /// Tells a client that it may not connect.
    pub(super) fn refuse_connect(&mut self, reason: Reason, now: Millis) {
        let body = match self.version {
            Version::V5 => vec![0, reason as u8, 0],
            // What MQTT 3 has no code for ends the connection without a word (3.1.1, section 3.2.2.3).
            Version::V31 | Version::V311 => vec![0, reason.return_code()],
        };
        let is_unsaid = matches!(reason, Reason::MalformedPacket | Reason::ProtocolError | Reason::TopicNameInvalid);
        let is_silent = is_unsaid && self.version != Version::V5;
        if !is_silent {
            self.say(&packet(kind::CONNACK << 4, &body));
        }
        self.phase = Phase::Finished(HangUp::Broker);
        self.phase_ends = Some(now.plus(CLOSE_MS));
    }

    /// Whether the credentials are good is known.
    pub(super) fn logged_in(&mut self, login: Login, now: Millis) {
        let waiting = Phase::Finished(HangUp::Broker);
        let Phase::Login(candidate) = std::mem::replace(&mut self.phase, waiting) else { return };
        let Login::Accepted(principal) = login else {
            let reason =
                if self.version == Version::V5 { Reason::BadUserNameOrPassword } else { Reason::NotAuthorized };
            return self.refuse_connect(reason, now);
        };
        self.user = Some(principal.user.clone());
        self.enter(Box::new(Candidate { principal, ..*candidate }), now);
    }

    /// Lets a client in whose user is known.
    pub(super) fn enter(&mut self, mut candidate: Box<Candidate>, now: Millis) {
        if self.connack(false, &candidate).len() > candidate.packet_max {
            return self.refuse_connect(Reason::PacketTooLarge, now);
        }
        match self.broker.enter(self.id, &candidate.principal, &candidate.vhost) {
            Ok(caller) => {
                self.login_ends = candidate.principal.expires();
                candidate.caller = Some(caller.named(&self.client_id));
                self.phase = Phase::Claim(candidate);
                self.claim();
            }
            Err(refusal) => self.refuse_connect(Reason::of(&refusal), now),
        }
    }

    /// Gets the client's session, once nobody else has it.
    pub(super) fn claim(&mut self) {
        let (Phase::Claim(candidate), Some(waker)) = (&self.phase, self.waker.clone()) else { return };
        let Some(caller) = candidate.caller.clone() else { return };
        let key = (caller.vhost.name().clone(), self.client_id.clone());
        let claimed = self.sessions.claim(&key, &caller, self.version, candidate.clean_start, &self.outgoing, &waker);
        let Some(claimed) = claimed else { return };
        let Phase::Claim(candidate) = std::mem::replace(&mut self.phase, Phase::Open) else { return };
        self.caller = Some(caller);
        self.phase_ends = None;
        self.number = claimed.number;
        self.begin(*candidate, claimed, &key);
    }

    /// Takes the session up.
    fn begin(&mut self, candidate: Candidate, claimed: Claimed, key: &Key) {
        let is_present = claimed.carried.is_some();
        let Carried { subscriptions, shared, received, released, promised, freed } =
            claimed.carried.unwrap_or_default();
        let connack = self.connack(is_present, &candidate);
        let will = candidate.will.map(|will| Will {
            user: candidate.principal.user.clone(),
            is_vouched: false,
            properties: Will::stored(will.qos, will.retain, claimed.number, &will.forwarded),
            topic: will.topic,
            qos: will.qos,
            retain: will.retain,
            expiry_s: will.expiry_s,
            delay_s: will.delay_s,
            payload: will.payload,
        });
        self.will = will.and_then(|will| self.vouch(will, &candidate.principal)).map(Box::new);
        self.introduce();
        let safe = self.sessions.keep(key, self.expiry_s, self.will.as_deref());
        self.received_before = received.len();
        self.received_ids = received;
        self.credit.set(candidate.receive_maximum.into(), released.len() as u32);
        let without: Vec<Box<str>> = {
            let mut state = self.outgoing.lock();
            state.version = self.version;
            state.packet_max = candidate.packet_max;
            let max = candidate.alias_max.min(self.settings.topic_alias_maximum);
            state.aliases = (max > 0).then(|| Box::new(Aliases::new(max)));
            state.number = claimed.number;
            state.is_persistent = self.is_persistent();
            (state.promised, state.freed) = (promised, freed);
            for packet_id in &released {
                let in_flight = InFlight {
                    source: OWN,
                    slot: 0,
                    record: Position(0),
                    counted: true,
                    qos: Qos::ExactlyOnce,
                    released: true,
                    is_noted: true,
                };
                state.in_flight.insert(*packet_id, in_flight);
            }
            let without = subscriptions.iter().filter(|(_, one)| one.options.qos == Qos::AtMostOnce);
            let without = without.map(|(filter, _)| filter.into()).collect();
            state.subscriptions = subscriptions;
            without
        };
        self.counts.add(Traffic::Connections, 1);
        let watches = self.outgoing.lock().subscriptions.iter().any(|(filter, _)| topic::is_of_broker(filter));
        if watches {
            self.sessions.watch_sys(self.number, &self.outgoing);
        }
        // Nothing may come before CONNACK: so far nobody sends anything here.
        self.respond(safe, connack);
        for packet_id in released {
            self.respond(Position(0), ack(kind::PUBREL, self.version, packet_id, Reason::Success));
        }
        self.opening = Some(Box::new(Opening { without, shared: shared.into_iter().collect() }));
        self.tell();
        self.open();
    }

    /// A will that may be published when its user can no longer be asked about: one of a login that brought its own
    /// authorization is checked now, and forgotten if it is refused.
    fn vouch(&self, will: Will, principal: &Principal) -> Option<Will> {
        if principal.authorization.is_none() {
            return Some(will);
        }
        will.is_allowed(&self.broker, self.caller.as_ref()?).then_some(Will { is_vouched: true, ..will })
    }

    /// Has operators see the connection.
    fn introduce(&mut self) {
        let (Some(caller), Some(peer)) = (&self.caller, self.peer.take()) else { return };
        let terms = Terms {
            protocol: self.version.name(),
            mechanism: if self.auth.is_used { "SCRAM-SHA-256" } else { "PLAIN" },
            client_id: Some(self.client_id.clone()),
            client_properties: Table::default(),
            channel_max: 0,
            frame_max: 0,
            heartbeat_s: (self.keep_alive_ms / 1000) as u16,
        };
        let outlet = Arc::clone(&self.outgoing) as Arc<dyn Outlet>;
        let seen = self.broker.introduce(caller, *peer, terms, &outlet);
        self.outgoing.lock().seen = Some(Arc::clone(&seen));
        self.seen = Some(seen);
    }

    /// Has messages come, once the client knows that it is connected.
    pub(super) fn open(&mut self) {
        if !self.responses.is_empty() {
            return;
        }
        let (Some(opening), Some(caller)) = (self.opening.take(), self.caller.clone()) else { return };
        let queue = self.broker.queue(&caller, &message::queue_name(&self.client_id));
        if let Ok(queue) = queue {
            // Without the right to read from it the session gets nothing, and says nothing of it.
            let _ = self.attach_own(&caller, queue);
        }
        for (whole, one) in opening.shared {
            let Some((group, filter)) = topic::shared(&whole) else { continue };
            let queue = self.broker.queue(&caller, &message::shared_name(group, filter));
            let has_own = one.options.qos < Qos::ExactlyOnce || self.open_own(&caller).is_ok();
            if let (Ok(queue), true) = (queue, has_own) {
                let _ = self.attach_shared(&caller, &whole, queue, one);
            }
        }
        for filter in &opening.without {
            self.open_direct(&caller);
            let _ = self.bind(&caller, &message::direct_name(&self.client_id), filter);
        }
        self.resume_all();
    }

    fn connack(&self, is_present: bool, candidate: &Candidate) -> Vec<u8> {
        let mut body = vec![u8::from(is_present && self.version != Version::V31), 0];
        if self.version == Version::V5 {
            let mut properties = Vec::new();
            let mut number = |id, value: u32| put(&mut properties, id, Property::Number(value));
            number(id::RECEIVE_MAXIMUM, self.settings.receive_maximum.into());
            if let Some(seconds) = candidate.keep_alive_s {
                number(id::SERVER_KEEP_ALIVE, seconds.into());
            }
            number(id::TOPIC_ALIAS_MAXIMUM, self.settings.topic_alias_maximum.into());
            number(id::MAXIMUM_PACKET_SIZE, u32::try_from(self.packet_max).unwrap_or(u32::MAX));
            if self.settings.session_expiry_s_max < sessions::NEVER {
                number(id::SESSION_EXPIRY, self.expiry_s);
            }
            if candidate.is_assigned {
                put(&mut properties, id::ASSIGNED_CLIENT_ID, Property::Text(&self.client_id));
            }
            if let Some(proof) = &candidate.proof {
                put_auth(&mut properties, Some(proof));
            }
            put_section(&mut body, &properties);
        }
        packet(kind::CONNACK << 4, &body)
    }
}

/// What of a session's subscriptions is made anew for each connection.
#[derive(Debug)]
pub(super) struct Opening {
    /// Filters without acknowledgement.
    without: Vec<Box<str>>,
    /// Shared subscriptions.
    shared: Vec<(Box<str>, crate::subscriptions::Subscription)>,
}
