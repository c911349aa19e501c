//! One MQTT connection as a state machine.
//!
//! [`MqttConnection::receive`] takes packets off the input. Publishes and acknowledgements gather in a batch that is applied
//! before anything else is done that could depend on it, and at the end of the input. What a client may only be told once
//! it is safe waits in a queue of responses.

mod acknowledge;
mod answers;
mod auth;
mod connect;
mod ending;
mod publish;
mod retained;
mod settling;
mod subscribe;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use broker::{
    Broker, Connection, Credit, Event, Millis, Name, Outlet, Peer, Position, QueueInfo, Reply, Request, Route, Session,
    SessionId,
    broker::Caller,
    publish::{Batch, Published},
    session::{HangUp, Intake},
};

use self::{
    auth::Auth,
    connect::{Candidate, Opening},
    publish::Told,
    retained::Cursor,
};
use crate::{
    mapping::Reason,
    notes,
    outgoing::Outgoing,
    packet::{Packet, Qos, Version, kind},
    sessions::{self, Sessions},
    traffic::{Counts, Kind as Traffic},
    will::Will,
    wire::{self, Malformed},
};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The vhost of clients that do not name one.
    pub vhost: Name,
    /// Whom clients without user name and password are taken for, if anybody.
    pub anonymous_user: Option<Name>,
    /// Milliseconds that a client has to connect.
    pub handshake_ms: u64,
    /// Publishes to a client of MQTT 3 that may be unacknowledged; clients of MQTT 5 say it themselves.
    pub prefetch: u16,
    /// Publishes of a client of MQTT 5 that may be unacknowledged.
    pub receive_maximum: u16,
    /// Seconds that a client may be silent at most, whatever keep alive it asks for; 0 for any time. Clients of MQTT 5 are
    /// told so.
    pub keep_alive_s_max: u16,
    /// Topic aliases that a client may use, and that are used towards it if it allows as many.
    pub topic_alias_maximum: u16,
    /// Seconds that a session may outlive its connection at most.
    pub session_expiry_s_max: u32,
    /// Whether who publishes or subscribes to what he must not is disconnected, as by RabbitMQ; else only that is refused.
    pub disconnects_unauthorized: bool,
    /// Whether who publishes or subscribes to what he must not is told the reason, as MQTT 5 can (section 3.9.3); else only
    /// that it is refused.
    pub reveals_refusals: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vhost: "/".into(),
            anonymous_user: None,
            handshake_ms: 10_000,
            prefetch: 1000,
            receive_maximum: 1000,
            keep_alive_s_max: 0,
            topic_alias_maximum: 64,
            session_expiry_s_max: sessions::NEVER,
            disconnects_unauthorized: true,
            reveals_refusals: true,
        }
    }
}

/// Largest CONNECT packet, in bytes: a user name, a password and a will of their largest sizes do not fit together.
const CONNECT_BYTES: usize = 128 * 1024;

/// Bytes of a packet besides a message's body.
const OVERHEAD_BYTES: u64 = 256 * 1024;

/// Operations after which a batch is applied though more input is there.
const BATCH_OPERATIONS: usize = 1024;

/// Responses for which there is no room while there are none.
const FEW_RESPONSES: usize = 4;

/// Bytes of a packet that show that its client is there.
const PROGRESS_BYTES: usize = 1024;

/// Milliseconds that a client has to take what it is told last.
const CLOSE_MS: u64 = 5_000;

/// One MQTT connection.
#[derive(Debug)]
pub struct MqttConnection {
    broker: Arc<Broker>,
    sessions: Arc<Sessions>,
    settings: Arc<Settings>,
    id: SessionId,
    /// Who is at the other end, until operators see it.
    peer: Option<Box<Peer>>,
    outgoing: Arc<Outgoing>,
    phase: Phase,
    version: Version,
    client_id: Name,
    user: Option<Name>,
    caller: Option<Caller>,
    /// When the login ends, if it does.
    login_ends: Option<Millis>,
    /// The connection as operators see it.
    seen: Option<Arc<Connection>>,
    /// The number of the session.
    number: u64,
    /// Seconds that the session stays after the connection.
    expiry_s: u32,
    will: Option<Box<Will>>,
    auth: Auth,
    keep_alive_ms: u64,
    packet_max: usize,
    /// The client's receive maximum, and what of it is used.
    credit: Arc<Credit>,
    /// By which messages come that nobody has to acknowledge.
    direct: Option<Arc<QueueInfo>>,
    /// Topics of the client's aliases.
    aliases: Vec<Option<Box<str>>>,
    routes: HashMap<Box<str>, Arc<Route>>,
    last_route: Option<(Box<str>, Arc<Route>)>,
    /// Publishes with quality of service 2 that the client has not released.
    received_ids: BTreeSet<u16>,
    /// How many of them there were when the connection began: its receive maximum does not count them (section 4.9).
    received_before: usize,
    /// Whether packet identifiers were freed of which the log does not know yet.
    has_freed: bool,
    /// Publishes with quality of service 1 that the client has not been told of.
    unanswered: usize,
    /// What the client is told once something is safe.
    responses: VecDeque<Response>,
    /// What it is told once the batch that is being gathered is safe.
    pending: Vec<Vec<u8>>,
    /// Subscriptions that wait for retained messages.
    cursors: VecDeque<Cursor>,
    /// What waits for the client to know that it is connected.
    opening: Option<Box<Opening>>,
    /// What was wrong with the client's packets, for the log.
    problem: Option<&'static str>,
    request: Option<Request>,
    /// Whether a publish waits for memory, disk or the log.
    congested: bool,
    lagging: Option<u64>,
    /// What came.
    counts: Counts,
    /// Wakes the connection's own task.
    waker: Option<Waker>,
    /// When a packet has come, or a good part of one.
    received: Millis,
    /// Bytes of a packet that had come by then.
    unused: usize,
    /// When the phase must be over.
    phase_ends: Option<Millis>,
}

#[derive(Debug)]
enum Phase {
    /// Waits for CONNECT.
    Connect,
    /// Waits for who checks credentials.
    Login(Box<Candidate>),
    /// Waits for the client to prove who it is.
    Challenge(Box<Candidate>),
    /// Waits for the session, which another connection has.
    Claim(Box<Candidate>),
    Open,
    /// The output is the last that the client gets.
    Finished(HangUp),
}

/// Something that a client is told once it is safe.
#[derive(Debug)]
struct Response {
    position: Position,
    bytes: Vec<u8>,
    kind: Kind,
}

/// What kind of response it is, as far as somebody counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Other,
    /// A message that had to wait.
    Message,
    /// The answer to a publish with quality of service 1.
    PubAck,
}

impl MqttConnection {
    /// A connection of a client that has just come.
    pub fn new(
        broker: &Arc<Broker>,
        sessions: &Arc<Sessions>,
        settings: &Arc<Settings>,
        peer: Peer,
        now: Millis,
    ) -> Self {
        let packet_max = broker.settings.message_bytes_max.saturating_add(OVERHEAD_BYTES);
        Self {
            id: broker.new_session(),
            outgoing: Arc::new(Outgoing::new(broker)),
            phase_ends: Some(now.plus(settings.handshake_ms)),
            broker: Arc::clone(broker),
            sessions: Arc::clone(sessions),
            settings: Arc::clone(settings),
            peer: Some(Box::new(peer)),
            phase: Phase::Connect,
            version: Version::V311,
            client_id: "".into(),
            user: None,
            caller: None,
            login_ends: None,
            seen: None,
            number: 0,
            expiry_s: 0,
            will: None,
            auth: Auth::default(),
            keep_alive_ms: 0,
            packet_max: usize::try_from(packet_max).unwrap_or(usize::MAX),
            credit: Arc::default(),
            direct: None,
            aliases: Vec::new(),
            routes: HashMap::new(),
            last_route: None,
            received_ids: BTreeSet::new(),
            received_before: 0,
            has_freed: false,
            unanswered: 0,
            responses: VecDeque::new(),
            pending: Vec::new(),
            cursors: VecDeque::new(),
            opening: None,
            problem: None,
            request: None,
            congested: false,
            lagging: None,
            counts: Counts::default(),
            waker: None,
            received: now,
            unused: 0,
        }
    }

    /// Takes as many packets as there are and may be taken. Returns how many bytes that were.
    fn take_packets(&mut self, input: &[u8], now: Millis) -> usize {
        let mut used = 0;
        let heads = publish::Heads::new(self.number);
        let mut batch = Batch::default();
        while used < input.len() && !self.paused() {
            match self.step(&input[used..], &heads, &mut batch, now) {
                Ok(Some(len)) => {
                    used += len;
                    self.counts.add(Traffic::PacketsReceived, 1);
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.apply(&mut batch);
                    self.refuse(malformed, now);
                }
            }
            if batch.len() >= BATCH_OPERATIONS {
                self.apply(&mut batch);
            }
        }
        if used == input.len() && self.responses.is_empty() {
            batch.is_all();
        }
        self.apply(&mut batch);
        self.counts.add(Traffic::BytesReceived, used);
        if let Some(seen) = &self.seen {
            seen.bytes_in.add(used as u64);
        }
        self.sessions.traffic.add(&mut self.counts);
        if self.finished().is_some() { input.len() } else { used }
    }

    /// Takes one packet. Returns how many bytes that were.
    fn step<'i>(
        &mut self,
        input: &'i [u8],
        heads: &'i publish::Heads,
        batch: &mut Batch<'i>,
        now: Millis,
    ) -> Result<Option<usize>, Malformed> {
        let len_max = match self.phase {
            Phase::Connect => return self.connect_packet(input, now),
            Phase::Challenge(_) => CONNECT_BYTES,
            Phase::Open => self.packet_max,
            Phase::Login(_) | Phase::Claim(_) | Phase::Finished(_) => return Ok(Some(input.len())),
        };
        let Some(frame) = wire::frame(input, len_max)? else { return Ok(None) };
        let packet = Packet::read(&frame, self.version)?;
        if let Phase::Challenge(_) = self.phase
            && !matches!(packet, Packet::Auth(_) | Packet::Disconnect(_))
        {
            return Err(Malformed::protocol("the client has not proved yet who it is"));
        }
        match packet {
            Packet::Publish(publish) => {
                if self.must_wait() {
                    return Ok(None);
                }
                self.counts.add(Traffic::PublishesReceived, 1);
                self.count(Event::Publish);
                self.counts.add(Traffic::PayloadReceived, publish.payload.len());
                self.publish(&publish, heads, batch, now)?;
            }
            Packet::PubAck(ack) => self.puback(ack, batch),
            Packet::PubRec(ack) => self.pubrec(ack, batch),
            Packet::PubRel(ack) => self.pubrel(ack, batch),
            Packet::PubComp(ack) => self.pubcomp(ack, batch),
            Packet::Subscribe(subscribe) => {
                self.apply(batch);
                self.subscribe(&subscribe, now);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.apply(batch);
                self.unsubscribe(&unsubscribe, now);
            }
            Packet::PingReq => self.say(&[kind::PINGRESP << 4, 0]),
            Packet::Disconnect(note) => {
                self.apply(batch);
                self.disconnect(&note, now)?;
            }
            Packet::Auth(note) => {
                self.apply(batch);
                self.auth(&note)?;
            }
        }
        Ok(Some(frame.len))
    }

    /// Whether a publish has to wait: for memory or disk, or because too much waits to be written.
    fn must_wait(&mut self) -> bool {
        self.congested = self.broker.alarms().any() || self.broker.log().congested();
        self.congested
    }

    /// Applies what has gathered, and notes what the client is to be told of it.
    fn apply(&mut self, batch: &mut Batch<'_>) {
        if batch.is_empty() {
            debug_assert!(self.pending.is_empty(), "responses belong to a batch");
            return;
        }
        let resumed = self.broker.resumed();
        let applied = self.broker.apply(batch);
        if std::mem::take(&mut self.has_freed) {
            self.outgoing.lock().freed.logged(applied.position, self.broker.committed());
        }
        if applied.lagging {
            self.lagging = Some(resumed);
        }
        let persistent = self.is_persistent();
        let freed = self.free_refused(batch);
        for Published { token, position, is_refused } in batch.published() {
            let Some(told) = Told::of_token(token) else { continue };
            // An exactly-once publish is complete with the note of its identifier.
            let position = match told.qos == Qos::ExactlyOnce {
                true if is_refused => freed,
                true if persistent => applied.position,
                _ => position,
            };
            if let Some(bytes) = told.packet(self.version, is_refused) {
                self.respond(position, bytes);
                if let (Qos::AtLeastOnce, Some(last)) = (told.qos, self.responses.back_mut()) {
                    last.kind = Kind::PubAck;
                }
            } else if told.qos == Qos::AtLeastOnce {
                self.unanswered -= 1;
            }
        }
        for bytes in std::mem::take(&mut self.pending) {
            self.respond(applied.position, bytes);
        }
        *batch = Batch::default();
        self.tell();
    }

    fn count(&self, event: Event) {
        if let Some(seen) = &self.seen {
            seen.traffic.add(event, 1);
        }
    }

    /// Tells the client something at once.
    fn say(&self, packet: &[u8]) {
        let mut outgoing = self.outgoing.lock();
        outgoing.output.buffer().extend_from_slice(packet);
        outgoing.counts.add(Traffic::PacketsSent, 1);
    }

    /// Forgets the identifiers of publishes with quality of service 2 that were refused: what comes next under one of them is
    /// another message (MQTT-4.3.3-9). Returns when that is safe.
    fn free_refused(&mut self, batch: &Batch<'_>) -> Position {
        let told = batch.published().filter(|one| one.is_refused).filter_map(|one| Told::of_token(one.token));
        let mut forgotten = Batch::default();
        for told in told.filter(|told| told.qos == Qos::ExactlyOnce) {
            self.received_ids.remove(&told.packet_id);
            if self.is_persistent() {
                notes::received(&mut forgotten, self.number, told.packet_id, false);
            }
        }
        if forgotten.is_empty() { Position(0) } else { self.broker.apply(&mut forgotten).position }
    }

    /// Tells the client something once a position is safe. What was to be told before comes before.
    fn respond(&mut self, position: Position, bytes: Vec<u8>) {
        let position = position.max(self.responses.back().map_or(Position(0), |last| last.position));
        self.responses.push_back(Response { position, bytes, kind: Kind::Other });
    }

    /// Tells the client what is safe by now.
    fn tell(&mut self) {
        let Some(first) = self.responses.front() else { return };
        let committed = self.broker.committed();
        if first.position > committed {
            return;
        }
        let mut outgoing = self.outgoing.lock();
        while let Some(response) = self.responses.pop_front_if(|response| response.position <= committed) {
            outgoing.output.buffer().extend_from_slice(&response.bytes);
            outgoing.counts.add(Traffic::PacketsSent, 1);
            match response.kind {
                Kind::Message => {
                    outgoing.held_back -= 1;
                    outgoing.held_bytes -= response.bytes.len();
                }
                Kind::PubAck => {
                    self.unanswered -= 1;
                    self.count(Event::Confirm);
                }
                Kind::Other => {}
            }
        }
        // What is told to a connection that is idle otherwise, such as CONNACK, leaves no memory behind.
        if self.responses.is_empty() && self.responses.capacity() <= FEW_RESPONSES {
            self.responses = VecDeque::new();
        }
    }

    fn is_persistent(&self) -> bool {
        self.expiry_s > 0
    }

    /// A packet could not be right: the client is told, if its version can be, and let go.
    fn refuse(&mut self, malformed: Malformed, now: Millis) {
        self.problem = Some(malformed.problem);
        if let Phase::Connect | Phase::Challenge(_) = self.phase {
            return self.refuse_connect(malformed.reason, now);
        }
        self.close(malformed.reason, now);
    }

    fn paused(&self) -> bool {
        let waits = self.congested || self.request.is_some() || self.opening.is_some();
        waits || !matches!(self.phase, Phase::Connect | Phase::Challenge(_) | Phase::Open) || self.finished().is_some()
    }

    /// The session's queue, or that of a shared subscription, was deleted: without it the session is not what the client
    /// thinks that it is.
    fn check_cancelled(&mut self, now: Millis) {
        let cancelled = std::mem::take(&mut self.outgoing.lock().cancelled);
        let is_gone = |key| self.outgoing.lock().source(key).is_some();
        if matches!(self.phase, Phase::Open) && cancelled.into_iter().any(is_gone) {
            self.close(Reason::AdministrativeAction, now);
        }
    }
}

impl Session for MqttConnection {
    fn receive(&mut self, input: &[u8], now: Millis) -> usize {
        self.broker.set_time(now);
        let used = self.take_packets(input, now);
        // Some bytes are no packet (MQTT-3.1.2-22), though a large one may take its time.
        if used > 0 || input.len() >= self.unused + PROGRESS_BYTES {
            self.received = now;
            self.unused = input.len() - used;
        }
        used
    }

    fn poll(&mut self, now: Millis, waker: &Waker) {
        self.broker.set_time(now);
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        if self.paused() {
            // While nothing is read, silence says nothing of the client.
            self.received = now;
        }
        if let Phase::Claim(_) = self.phase {
            self.claim();
        }
        if self.outgoing.lock().is_taken_over && matches!(self.phase, Phase::Open) {
            self.close(Reason::SessionTakenOver, now);
        }
        if self.seen.as_ref().is_some_and(|seen| seen.closing().is_some()) && matches!(self.phase, Phase::Open) {
            self.close(Reason::AdministrativeAction, now);
        }
        if let Some(resumed) = self.lagging {
            self.broker.wake_when_resumed(waker);
            self.lagging = Some(resumed).filter(|&resumed| resumed == self.broker.resumed());
        }
        if self.congested {
            self.broker.wake_with_alarms(waker);
            self.broker.log().wake_when_committed(waker);
            self.must_wait();
        }
        self.check_cancelled(now);
        self.settle_done();
        self.sessions.traffic.add(&mut self.outgoing.lock().counts);
        self.send_retained(waker);
        if !self.responses.is_empty() {
            self.broker.log().wake_when_committed(waker);
        }
        self.tell();
        self.open();
    }

    fn intake(&self) -> Intake {
        if self.paused() {
            Intake::Paused
        } else if self.lagging.is_some() {
            Intake::Lagging
        } else {
            Intake::Open
        }
    }

    fn outlet(&self) -> Arc<dyn Outlet> {
        Arc::clone(&self.outgoing) as Arc<dyn Outlet>
    }

    fn drained(&mut self, now: Millis) {
        self.broker.set_time(now);
        let attachments: Vec<_> = {
            let mut state = self.outgoing.lock();
            let pressed = std::mem::take(&mut state.pressed);
            pressed.into_iter().filter_map(|key| state.attachment(key)).collect()
        };
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }

    fn caught_up(&mut self) {
        self.lagging = None;
    }

    fn sent(&mut self, _now: Millis) {}

    fn deadline(&self) -> Option<Millis> {
        if self.finished().is_some() {
            return None;
        }
        // One and a half times the keep alive (MQTT-3.1.2-22).
        let silence = self.keep_alive_ms + self.keep_alive_ms / 2;
        let silent = (silence > 0).then(|| self.received.plus(silence));
        [silent, self.phase_ends, self.login_ends].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Millis) {
        let is_open = matches!(self.phase, Phase::Open);
        let is_login = self.login_ends.is_some_and(|ends| ends <= now);
        if self.phase_ends.is_some_and(|ends| ends <= now) || (is_login && !is_open) {
            self.end(true, now);
            self.phase = Phase::Finished(HangUp::Broker);
        } else if is_open {
            self.close(if is_login { Reason::MaximumConnectTime } else { Reason::KeepAliveTimeout }, now);
        }
    }

    fn request(&mut self) -> Option<Request> {
        match &mut self.request {
            Some(Request::Pending) | None => None,
            request => request.replace(Request::Pending),
        }
    }

    fn reply(&mut self, reply: Reply, now: Millis) {
        self.request = None;
        match reply {
            Reply::Login(login) => self.logged_in(login, now),
            Reply::Sasl(outcome) => self.answer_auth(outcome, now),
        }
    }

    fn shut_down(&mut self, now: Millis) {
        match self.phase {
            Phase::Open => self.close(Reason::ServerShuttingDown, now),
            Phase::Finished(_) => {}
            _ => self.phase = Phase::Finished(HangUp::Broker),
        }
    }

    fn disconnected(&mut self, now: Millis) {
        self.broker.set_time(now);
        self.end(true, now);
        self.phase = Phase::Finished(HangUp::Broker);
    }

    fn finished(&self) -> Option<HangUp> {
        match self.phase {
            Phase::Finished(hang_up) => Some(hang_up),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        let user = self.user.as_ref().map_or("nobody", |user| user);
        let who = format!("MQTT client '{}', user '{user}'", self.client_id);
        self.problem.map_or(who.clone(), |problem| format!("{who}: {problem}"))
    }
}
