//! One STOMP connection as a state machine.
//!
//! [`StompConnection::receive`] takes frames off the input. Messages and acknowledgements gather in a batch that is applied
//! before anything else is done that could depend on it, and at the end of the input. What a client may only be told once
//! it is safe waits in a queue of responses.

mod acknowledge;
mod connect;
mod ending;
mod patterns;
mod queues;
mod send;
mod subscribe;
mod temporary;
mod transaction;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use broker::{
    Broker, Connection, Event, Millis, Name, Outlet, Peer, Position, Reply, Request, Session, SessionId, Settlement,
    broker::Caller,
    publish::{Batch, Published},
    session::{HangUp, Intake},
};

use self::{
    connect::Candidate, send::Remembered, subscribe::Subscription, temporary::TempQueue, transaction::Transaction,
};
use crate::{
    mapping::Problem,
    outgoing::Outgoing,
    wire::{self, Decoder, Frame, Version},
};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The vhost of clients that do not name one.
    pub vhost: Name,
    /// Whom clients without a login are taken for, if anybody.
    pub anonymous_user: Option<Name>,
    /// Milliseconds that a client has to connect.
    pub handshake_ms: u64,
    /// Messages that a subscription may have unacknowledged unless it says how many; 0 for any number.
    pub prefetch: u32,
    /// Milliseconds between heart-beats at least, whatever a client asks for.
    pub heart_beat_ms_min: u64,
    /// Bytes of a frame's command and headers.
    pub head_bytes_max: usize,
    /// What clients are told of the server: a name, a slash and a version. Some branch on it.
    pub server: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vhost: "/".into(),
            anonymous_user: None,
            handshake_ms: 10_000,
            prefetch: 0,
            heart_beat_ms_min: 1000,
            head_bytes_max: 256 * 1024,
            server: "RabbitMQ/4.2.0".into(),
        }
    }
}

/// Operations after which a batch is applied though more input is there.
const BATCH_OPERATIONS: usize = 1024;

/// Responses that may wait to be safe. With more of them nothing is read.
const RESPONSES_MAX: usize = 4096;

/// Bytes of a frame that show that its client is there.
const PROGRESS_BYTES: usize = 1024;

/// One STOMP connection.
#[derive(Debug)]
pub struct StompConnection {
    broker: Arc<Broker>,
    settings: Arc<Settings>,
    id: SessionId,
    /// Who is at the other end, until operators see it.
    peer: Option<Box<Peer>>,
    outgoing: Arc<Outgoing>,
    decoder: Decoder,
    phase: Phase,
    version: Version,
    user: Option<Name>,
    caller: Option<Caller>,
    /// When the login ends, if it does.
    login_ends: Option<Millis>,
    /// What the client calls itself, for ActiveMQ's durable subscriptions.
    client_id: Option<Name>,
    /// The connection as operators see it.
    seen: Option<Arc<Connection>>,
    /// Subscriptions by id, or by destination where they have none.
    subscriptions: BTreeMap<Name, Subscription>,
    /// This connection's own queues, by what the client calls them.
    temporary: HashMap<String, TempQueue>,
    transactions: BTreeMap<String, Transaction>,
    /// Bytes that transactions hold.
    transaction_bytes: u64,
    /// Where messages go, by destination.
    routes: HashMap<Box<str>, Remembered>,
    /// Receipts for messages of the batch that is being gathered. A message to several destinations has one.
    receipts: Vec<String>,
    /// Messages that were sent to come later.
    scheduled: u64,
    /// The receipt of a message that a queue had no room for.
    refused: Option<String>,
    /// What the client is told once something is safe.
    responses: VecDeque<Response>,
    /// The last position of what the client has sent.
    written: Position,
    /// A commit that waits for what it rejects to be read.
    stalled: Option<Stalled>,
    /// What went wrong, for the log.
    problem: Option<String>,
    request: Option<Request>,
    /// Whether a message waits for memory, disk or the log.
    congested: bool,
    lagging: Option<u64>,
    /// Milliseconds between signs of life from us, and from the client; 0 for none.
    beats: (u64, u64),
    sent: Millis,
    /// When a frame has come, or a good part of one.
    received: Millis,
    /// Bytes of a frame that had come by then.
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
    Open,
    /// The client has said goodbye and waits for its receipts.
    Leaving,
    /// The output is the last that the client gets.
    Finished(HangUp),
}

/// Something that a client is told once it is safe.
#[derive(Debug)]
struct Response {
    position: Position,
    bytes: Vec<u8>,
    /// A subscription whose messages come only behind it.
    then: Option<u64>,
    /// Whether it is the receipt of a message.
    is_confirm: bool,
}

#[derive(Debug)]
struct Stalled {
    transaction: String,
    receipt: Option<String>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Done,
    /// It is to be offered again.
    Later,
}

impl StompConnection {
    /// A connection of a client that has just come.
    pub fn new(broker: &Arc<Broker>, settings: &Arc<Settings>, peer: Peer, now: Millis) -> Self {
        let outgoing = Arc::new(Outgoing::default());
        outgoing.lock().codecs = broker.codecs();
        Self {
            id: broker.new_session(),
            phase_ends: Some(now.plus(settings.handshake_ms)),
            broker: Arc::clone(broker),
            settings: Arc::clone(settings),
            peer: Some(Box::new(peer)),
            outgoing,
            decoder: Decoder::new(),
            phase: Phase::Connect,
            version: Version::V12,
            user: None,
            caller: None,
            login_ends: None,
            client_id: None,
            seen: None,
            subscriptions: BTreeMap::new(),
            temporary: HashMap::new(),
            transactions: BTreeMap::new(),
            transaction_bytes: 0,
            routes: HashMap::new(),
            receipts: Vec::new(),
            scheduled: 0,
            refused: None,
            responses: VecDeque::new(),
            written: Position(0),
            stalled: None,
            problem: None,
            request: None,
            congested: false,
            lagging: None,
            beats: (0, 0),
            sent: now,
            received: now,
            unused: 0,
        }
    }

    /// Takes as many frames as there are and may be taken. Returns how many bytes that were.
    fn take_frames(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        let mut batch = Batch::default();
        while used < input.len() && !self.paused() {
            used += self.decoder.noise(&input[used..]);
            let (frame, len) = match self.decoder.decode(&input[used..]) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(malformed) => {
                    self.apply(&mut batch);
                    self.fail(&malformed.into(), None);
                    break;
                }
            };
            match self.step(&frame, &mut batch) {
                Ok(Taken::Done) => used += len,
                Ok(Taken::Later) => break,
                Err(problem) => {
                    self.apply(&mut batch);
                    self.fail(&problem, frame.header("receipt"));
                }
            }
            if batch.len() >= BATCH_OPERATIONS {
                self.apply(&mut batch);
                self.fail_refused();
            }
        }
        if used == input.len() && self.responses.is_empty() {
            batch.is_all();
        }
        self.apply(&mut batch);
        self.fail_refused();
        if let Some(seen) = &self.seen {
            seen.bytes_in.add(used as u64);
        }
        if self.finished().is_some() { input.len() } else { used }
    }

    fn step(&mut self, frame: &Frame<'_>, batch: &mut Batch<'_>) -> Result<Taken, Problem> {
        match self.phase {
            Phase::Connect => return self.connect(frame).map(|()| Taken::Done),
            Phase::Open => {}
            _ => return Ok(Taken::Done),
        }
        match frame.command {
            "SEND" if self.must_wait() => return Ok(Taken::Later),
            "SEND" => self.send(frame, batch)?,
            "ACK" => self.acknowledge(frame, Settlement::Accept, batch)?,
            "NACK" => {
                // RabbitMQ's extension; without it a message goes back to its queue.
                let is_returned = frame.flag("requeue").unwrap_or(true);
                let how = if is_returned { Settlement::Requeue } else { Settlement::Reject };
                self.acknowledge(frame, how, batch)?;
            }
            _ => {
                self.apply(batch);
                self.other_frame(frame)?;
            }
        }
        Ok(Taken::Done)
    }

    fn other_frame(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        match frame.command {
            "SUBSCRIBE" => self.subscribe(frame),
            "UNSUBSCRIBE" => self.unsubscribe(frame),
            "BEGIN" => self.begin(frame),
            "COMMIT" => self.commit(frame),
            "ABORT" => self.abort(frame),
            "DISCONNECT" => {
                self.leave(frame);
                Ok(())
            }
            "CONNECT" | "STOMP" => Err(Problem::new("Illegal command", "You are logged in already")),
            command => {
                let detail = format!("Could not interpret command \"{command}\"\n");
                Err(Problem::new("Bad command", detail))
            }
        }
    }

    /// Whether a message has to wait: for memory or disk, or because too much waits to be written.
    fn must_wait(&mut self) -> bool {
        self.congested = self.broker.alarms().any() || self.broker.log().congested();
        self.congested
    }

    /// Applies what has gathered, and notes what the client is to be told of it.
    fn apply(&mut self, batch: &mut Batch<'_>) {
        if batch.is_empty() {
            return;
        }
        let resumed = self.broker.resumed();
        let applied = self.broker.apply(batch);
        if applied.lagging {
            self.lagging = Some(resumed);
        }
        let receipts = std::mem::take(&mut self.receipts);
        let mut safe = vec![Position(0); receipts.len()];
        for Published { token, position, is_refused } in batch.published() {
            self.written = self.written.max(position);
            let Some(at) = (token as usize).checked_sub(1) else { continue };
            safe[at] = safe[at].max(position);
            if is_refused {
                self.refused.get_or_insert_with(|| receipts[at].clone());
            }
        }
        for (receipt, position) in receipts.iter().zip(safe) {
            if self.refused.as_ref() == Some(receipt) {
                break;
            }
            self.respond_receipt(position, receipt, None, true);
        }
        *batch = Batch::default();
        self.tell();
    }

    /// A receipt means that its message is taken. One for which there is no room can only be told of by an error.
    fn fail_refused(&mut self) {
        if let Some(receipt) = self.refused.take() {
            let problem = Problem::new("Message refused", "A queue has no room for the message\n");
            self.fail(&problem, Some(&receipt));
        }
    }

    /// Has the client told, if it asked for that, that its frame is done once a position is safe.
    fn receipt(&mut self, frame: &Frame<'_>, position: Position) {
        if let Some(receipt) = frame.header("receipt") {
            self.respond_receipt(position, receipt, None, false);
        }
    }

    /// Tells the client something once a position is safe. What was to be told before comes before.
    fn respond_receipt(&mut self, position: Position, receipt: &str, then: Option<u64>, is_confirm: bool) {
        let position = position.max(self.responses.back().map_or(Position(0), |last| last.position));
        let bytes = wire::frame("RECEIPT", &[("receipt-id", receipt)], b"", self.version);
        self.responses.push_back(Response { position, bytes, then, is_confirm });
    }

    /// Tells the client what is safe by now.
    fn tell(&mut self) {
        let committed = self.broker.committed();
        let mut resumed = Vec::new();
        while let Some(response) = self.responses.pop_front_if(|response| response.position <= committed) {
            let mut outgoing = self.outgoing.lock();
            outgoing.output.buffer().extend_from_slice(&response.bytes);
            outgoing.count(Event::Confirm, response.is_confirm.into());
            resumed.extend(response.then);
        }
        resumed.into_iter().for_each(|subscription| self.resume(subscription));
        if let (Phase::Leaving, true) = (&self.phase, self.responses.is_empty()) {
            self.phase = Phase::Finished(HangUp::Client);
        }
    }

    /// A subscription can get messages, from all of its queues.
    fn resume(&self, subscription: u64) {
        let attachments = self.outgoing.lock().subscriptions.attachments(subscription);
        let is_it = |one: &Subscription| one.number == subscription && one.browses;
        if attachments.is_empty() && self.subscriptions.values().any(is_it) {
            self.outgoing.lock().put_end_of_nothing(subscription);
        }
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }

    fn resume_source(&self, source: u64) {
        let attachment = self.outgoing.lock().subscriptions.attachment(source);
        attachment.iter().for_each(|attachment| self.broker.resume(attachment));
    }

    fn paused(&self) -> bool {
        let waits = self.congested || self.request.is_some() || self.stalled.is_some();
        waits || self.responses.len() > RESPONSES_MAX || !matches!(self.phase, Phase::Connect | Phase::Open)
    }
}

impl Session for StompConnection {
    fn receive(&mut self, input: &[u8], now: Millis) -> usize {
        self.broker.set_time(now);
        let used = self.take_frames(input);
        // Some bytes are no sign of life, though a large frame may take its time.
        if used > 0 || input.len() >= self.unused + PROGRESS_BYTES {
            self.received = now;
            self.unused = input.len() - used;
        }
        used
    }

    fn poll(&mut self, now: Millis, waker: &Waker) {
        self.broker.set_time(now);
        if self.paused() {
            // While nothing is read, silence says nothing of the client.
            self.received = now;
        }
        let reason = self.seen.as_ref().and_then(|seen| seen.closing()).map(str::to_owned);
        if let (Some(reason), Phase::Open) = (reason, &self.phase) {
            self.fail(&Problem::new("connection_forced", format!("CONNECTION_FORCED - {reason}")), None);
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
        if !self.responses.is_empty() {
            self.broker.log().wake_when_committed(waker);
        }
        self.poll_commit(waker);
        self.tell_cancelled();
        self.tell();
        self.poll_patterns(waker);
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
        let pressed = std::mem::take(&mut self.outgoing.lock().pressed);
        pressed.into_iter().for_each(|key| self.resume_source(key.0));
    }

    fn caught_up(&mut self) {
        self.lagging = None;
    }

    fn sent(&mut self, now: Millis) {
        self.sent = now;
    }

    fn deadline(&self) -> Option<Millis> {
        if self.finished().is_some() {
            return None;
        }
        if !matches!(self.phase, Phase::Open) {
            return self.phase_ends;
        }
        let (ours, theirs) = self.beats;
        // Ours go twice as often as promised, and the client has twice the time, as with RabbitMQ (section
        // "Heart-beating" asks for some tolerance).
        let send = (ours > 0).then(|| self.sent.plus(ours / 2));
        let silence = (theirs > 0).then(|| self.received.plus(theirs * 2));
        [send, silence, self.login_ends].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Millis) {
        let is_over = |at: Option<Millis>| at.is_some_and(|at| at <= now);
        if is_over(self.phase_ends) {
            self.end();
            self.phase = Phase::Finished(HangUp::Broker);
            return;
        }
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let (ours, theirs) = self.beats;
        if is_over(self.login_ends) {
            self.fail(&Problem::new("connection_forced", "CONNECTION_FORCED - the login has ended"), None);
        } else if theirs > 0 && self.received.plus(theirs * 2) <= now {
            self.fail(&Problem::new("Heart-beat timeout", "There was no sign of life from the client\n"), None);
        } else if ours > 0 && self.sent.plus(ours / 2) <= now {
            self.outgoing.lock().output.buffer().push(b'\n');
            self.sent = now;
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
        let Reply::Login(login) = reply else { return };
        self.logged_in(login, now);
    }

    fn shut_down(&mut self, _now: Millis) {
        match self.phase {
            Phase::Finished(_) => {}
            // Without ERROR, as RabbitMQ and ActiveMQ end it: clients that come back by themselves take that for their own fault.
            _ => {
                self.end();
                self.responses.clear();
                self.problem = Some("the broker stops".to_owned());
                self.phase = Phase::Finished(HangUp::Broker);
            }
        }
    }

    fn disconnected(&mut self, now: Millis) {
        self.broker.set_time(now);
        self.end();
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
        let who = format!("{} client, user '{user}'", self.version.name());
        self.problem.as_ref().map_or(who.clone(), |problem| format!("{who}: {problem}"))
    }
}
