//! One AMQP 0-9-1 connection as a state machine.
//!
//! [`AmqpSession::receive`] takes frames off the input and hands each to the part that is concerned: the handshake, a
//! channel's methods, or the content of a message. Publishes and settlements gather in a batch that is applied before
//! anything else is done that could depend on it, and at the end of the input.

mod alarm;
mod channel;
mod consume;
mod content;
mod handshake;
mod publish;
mod secret;
mod topology;
mod transaction;

use std::{collections::VecDeque, sync::Arc, task::Waker};

use broker::{
    Broker, Connection, Event, Name, Outlet, Peer, Position, Principal, Reply, Request, Session, SessionId, Table,
    broker::Caller,
    publish::{Batch, Published},
    session::{HangUp, Intake, Millis},
};

use self::{channel::Channel, handshake::Handshake};
use crate::{
    mapping::{Code, Exception},
    method::Method,
    outgoing::Outgoing,
    wire::{self, Frame, frame_type},
};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The product that is named in the server's properties. Clients branch on it.
    pub product: String,
    /// The version that is named there.
    pub version: String,
    /// The name of the cluster.
    pub cluster_name: String,
    /// Most channels of a connection.
    pub channel_max: u16,
    /// Longest frame, in bytes.
    pub frame_max: u32,
    /// Seconds between heartbeats that are proposed to clients; 0 for none.
    pub heartbeat_s: u16,
    /// Milliseconds that a client has to complete the handshake.
    pub handshake_ms: u64,
    /// Milliseconds that a connection is held after a refused login, against guessing.
    pub refusal_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            product: "RabbitMQ".into(),
            version: "4.2.0".into(),
            cluster_name: "roadstead".into(),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            handshake_ms: 10_000,
            refusal_delay_ms: 3_000,
        }
    }
}

/// Longest frame before tuning, in bytes; RabbitMQ takes as much.
const FRAME_MAX_BEFORE_TUNING: usize = 8192;

/// Milliseconds that a client has to answer `connection.close`.
const CLOSE_MS: u64 = 10_000;

/// Operations after which a batch is applied though more input is there.
const BATCH_OPERATIONS: usize = 1024;

/// One AMQP 0-9-1 connection.
#[derive(Debug)]
pub struct AmqpSession {
    broker: Arc<Broker>,
    settings: Arc<Settings>,
    id: SessionId,
    peer: Peer,
    outgoing: Arc<Outgoing>,
    phase: Phase,
    /// Who the client is and where, once it has opened a vhost.
    caller: Option<Caller>,
    /// Who has logged in, until it opens a vhost.
    principal: Option<Principal>,
    /// When the login ends, if it does.
    login_ends: Option<Millis>,
    /// The connection as operators see it, from then on.
    connection: Option<Arc<Connection>>,
    client: Client,
    frame_max: usize,
    channel_max: u16,
    channels: Vec<Option<Box<Channel>>>,
    channels_open: usize,
    /// Bytes of messages that have begun to come and are not complete.
    unfinished_bytes: u64,
    unconfirmed: VecDeque<Unconfirmed>,
    stalled: Option<Stalled>,
    /// Whether publishes have to wait for memory.
    blocked: bool,
    waits_for_alarm: bool,
    /// Bytes of frames that channels hold back meanwhile.
    held_bytes: usize,
    /// How often consumers had been resumed when those of this session's publishes were found to lag.
    lagging: Option<u64>,
    /// Whether the framing is lost, and with it any sense of what else comes.
    deaf: bool,
    request: Option<Request>,
    heartbeat_ms: u64,
    received: Millis,
    sent: Millis,
    /// When the phase must be over.
    phase_ends: Option<Millis>,
}

/// What the client said of itself.
#[derive(Debug, Default)]
struct Client {
    user: Option<Name>,
    name: Option<String>,
    mechanism: &'static str,
    properties: Table,
    wants_refusal: bool,
    wants_cancels: bool,
    wants_blocked: bool,
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    Open,
    /// `connection.close` was sent; all but its answer is ignored.
    Closing,
    /// The login was refused and the client cannot be told: it waits for the end.
    Refused,
    /// The output is the last that the client gets.
    Finished(HangUp),
}

/// A publish that the client will be told of once it is safe.
#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    position: Position,
    channel: u16,
    number: u64,
    /// Whether a queue had no room for it.
    is_refused: bool,
}

/// What has to wait for the disk. No further input is taken before it.
#[derive(Debug)]
enum Stalled {
    /// A reply, until something is safe.
    Reply { position: Position, reply: Vec<u8> },
    /// A publish, until less waits for the disk.
    Congested,
    /// `tx.commit`, until what it rejects has been read.
    Commit { channel: u16 },
    /// `basic.get`, until the message has been read.
    Get { channel: u16, queue: Name, no_ack: bool },
}

/// Where an exception strikes.
#[derive(Debug)]
struct Failure {
    channel: u16,
    exception: Exception,
}

impl AmqpSession {
    /// A session for a client that has just connected.
    pub fn new(broker: Arc<Broker>, settings: Arc<Settings>, peer: Peer, now: Millis) -> Self {
        let id = broker.new_session();
        let outgoing = Arc::new(Outgoing::default());
        {
            let mut state = outgoing.lock();
            state.frame_max = FRAME_MAX_BEFORE_TUNING;
            state.codecs = broker.codecs();
        }
        Self {
            phase_ends: Some(now.plus(settings.handshake_ms)),
            broker,
            settings,
            id,
            peer,
            outgoing,
            phase: Phase::Handshake(Handshake::Header),
            caller: None,
            principal: None,
            login_ends: None,
            connection: None,
            client: Client::default(),
            frame_max: FRAME_MAX_BEFORE_TUNING,
            channel_max: 0,
            channels: Vec::new(),
            channels_open: 0,
            unfinished_bytes: 0,
            unconfirmed: VecDeque::new(),
            stalled: None,
            blocked: false,
            waits_for_alarm: false,
            held_bytes: 0,
            lagging: None,
            deaf: false,
            request: None,
            heartbeat_ms: 0,
            received: now,
            sent: now,
        }
    }

    /// Takes as many frames as there are and may be taken. Returns how many bytes that were.
    fn take_frames(&mut self, input: &[u8], now: Millis) -> usize {
        let mut used = 0;
        let mut batch = Batch::default();
        while used < input.len() && !self.paused() && !self.deaf {
            match self.step(&input[used..], &mut batch) {
                Ok(Some(len)) => used += len,
                Ok(None) => break,
                // The offending frame is looked at again, on a channel or connection that now ignores it.
                Err(failure) => {
                    self.apply(&mut batch);
                    self.fail(failure, now);
                }
            }
            if batch.len() >= BATCH_OPERATIONS {
                self.apply(&mut batch);
            }
        }
        if used == input.len() && self.unconfirmed.is_empty() {
            batch.is_all();
        }
        self.apply(&mut batch);
        if let Some(connection) = &self.connection {
            connection.bytes_in.add(used as u64);
        }
        if self.deaf { input.len() } else { used }
    }

    /// Takes one frame, or several that make up a message. Returns how many bytes that were.
    fn step<'i>(&mut self, input: &'i [u8], batch: &mut Batch<'i>) -> Result<Option<usize>, Failure> {
        match self.phase {
            Phase::Handshake(Handshake::Header) => return Ok(self.protocol_header(input)),
            Phase::Refused | Phase::Finished(_) => return Ok(Some(input.len())),
            Phase::Handshake(_) | Phase::Open | Phase::Closing => {}
        }
        let fail = |exception| Failure { channel: 0, exception };
        let frame = match wire::frame(input, self.frame_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(bad) => {
                self.deaf = true;
                return Err(fail(Exception::bad_frame(bad, wire::payload(input))));
            }
        };
        match self.phase {
            Phase::Open if frame.channel != 0 => return self.channel_frame(frame, input, batch).map(Some),
            Phase::Open if frame.kind == frame_type::HEARTBEAT => {}
            Phase::Open => {
                self.apply(batch);
                self.connection_frame(frame).map_err(fail)?;
            }
            Phase::Handshake(_) => self.handshake_frame(frame).map_err(fail)?,
            Phase::Closing | Phase::Refused | Phase::Finished(_) => self.closing_frame(frame),
        }
        Ok(Some(frame.len()))
    }

    /// A frame on channel 0 of an open connection.
    fn connection_frame(&mut self, frame: Frame<'_>) -> Result<(), Exception> {
        if frame.kind != frame_type::METHOD {
            return Err(Exception::unexpected_frame(frame.kind, frame.payload));
        }
        let method = Method::read(frame.payload).map_err(|bad| Exception::bad_method(bad, frame.payload))?;
        match method {
            Method::ConnectionClose { .. } => {
                self.end_channels();
                self.outgoing.send(0, &Method::ConnectionCloseOk {});
                self.phase = Phase::Finished(HangUp::Client);
            }
            Method::ConnectionUpdateSecret { secret, .. } => self.update_secret(secret),
            method => {
                let text = "unexpected method in connection state running";
                return Err(Exception::new(Code::ChannelError, text).during(method.id()));
            }
        }
        Ok(())
    }

    fn closing_frame(&mut self, frame: Frame<'_>) {
        match Method::read(frame.payload) {
            Ok(Method::ConnectionCloseOk {}) => self.phase = Phase::Finished(HangUp::Broker),
            Ok(Method::ConnectionClose { .. }) => {
                self.outgoing.send(0, &Method::ConnectionCloseOk {});
                self.phase = Phase::Finished(HangUp::Client);
            }
            _ => {}
        }
    }

    /// Applies what has gathered, and confirms or notes what the client wants confirmed.
    fn apply<'i>(&mut self, batch: &mut Batch<'i>) {
        if batch.is_empty() {
            return;
        }
        let resumed = self.broker.resumed();
        if self.broker.apply(batch).lagging {
            self.lagging = Some(resumed);
        }
        for Published { token, position, is_refused } in batch.published() {
            if token != 0 {
                let (channel, number) = ((token >> 48) as u16, token & ((1 << 48) - 1));
                // Confirms of a connection go out in the order of its publishes.
                let position = position.max(self.unconfirmed.back().map_or(Position(0), |last| last.position));
                self.unconfirmed.push_back(Unconfirmed { position, channel, number, is_refused });
            }
        }
        *batch = Batch::default();
        self.confirm();
    }

    /// Confirms what is safe. Neighbours on one channel share an ack.
    fn confirm(&mut self) {
        let Some(first) = self.unconfirmed.front() else { return };
        let committed = self.broker.committed();
        if first.position > committed {
            return;
        }
        let mut outgoing = self.outgoing.lock();
        let mut run: Option<Confirm> = None;
        let mut told = 0;
        while let Some(&next) = self.unconfirmed.front()
            && next.position <= committed
        {
            self.unconfirmed.pop_front();
            let Unconfirmed { channel, number, is_refused, .. } = next;
            let mut confirm = Confirm { channel, number, multiple: false, is_refused };
            if let Some(last) = run {
                if (last.channel, last.is_refused) == (channel, is_refused) {
                    confirm.multiple = true;
                } else {
                    last.put(outgoing.output.buffer());
                    outgoing.count(last.channel, Event::Confirm, std::mem::take(&mut told));
                }
            }
            told += 1;
            run = Some(confirm);
        }
        if let Some(confirm) = run {
            confirm.put(outgoing.output.buffer());
            outgoing.count(confirm.channel, Event::Confirm, told);
        }
    }

    /// Sends a reply once `position` is safe. Until then no more input is taken.
    fn reply_when_safe(&mut self, position: Position, channel: u16, reply: &Method<'_>) {
        if position <= self.broker.committed() {
            return self.outgoing.send(channel, reply);
        }
        let mut bytes = Vec::new();
        reply.put(&mut bytes, channel);
        self.stalled = Some(Stalled::Reply { position, reply: bytes });
    }

    /// Closes what an exception strikes.
    fn fail(&mut self, failure: Failure, now: Millis) {
        let Failure { channel, exception } = failure;
        let (code, text, (class, method)) = (exception.code as u16, exception.text(), exception.method);
        if channel != 0 && !exception.code.is_hard() {
            self.end_channel(channel, channel::Ending::Closing);
            self.outgoing.send(channel, &Method::ChannelClose { code, text: &text, class, method });
            return;
        }
        self.end_channels();
        self.set_blocked(false);
        self.outgoing.send(0, &Method::ConnectionClose { code, text: &text, class, method });
        self.phase = Phase::Closing;
        self.phase_ends = Some(now.plus(CLOSE_MS));
    }

    fn end_channels(&mut self) {
        for channel in 1..self.channels.len() {
            self.end_channel(channel as u16, channel::Ending::Closed);
        }
        self.unconfirmed.clear();
        self.stalled = None;
        if let Some(caller) = &self.caller {
            self.broker.close_session(caller);
        }
        self.connection = None;
    }

    /// Forgets consumers whose queue is gone, and tells the client if it wants to know.
    fn forget_cancelled(&mut self) {
        let cancelled = std::mem::take(&mut self.outgoing.lock().cancelled);
        for key in cancelled {
            self.consumer_gone(key);
        }
    }

    /// Ends the connection if an operator wants it to end.
    fn poll_closing(&mut self, now: Millis) {
        let reason = self.connection.as_ref().and_then(|connection| connection.closing());
        if let (Some(reason), Phase::Open) = (reason, &self.phase) {
            let exception = Exception::new(Code::ConnectionForced, reason);
            self.fail(Failure { channel: 0, exception }, now);
        }
    }

    /// Goes on with what waits for the disk, if the disk has followed.
    fn poll_stalled(&mut self, now: Millis, waker: &Waker) {
        match self.stalled.take() {
            Some(Stalled::Reply { position, reply }) if position <= self.broker.committed() => {
                self.outgoing.lock().output.buffer().extend_from_slice(&reply);
            }
            // Under an alarm only publishing channels wait, so that others can free what there is too little of.
            Some(Stalled::Congested) => {
                self.broker.wake_with_alarms(waker);
                if self.broker.log().congested() && !self.broker.alarms().any() {
                    self.stalled = Some(Stalled::Congested);
                }
            }
            Some(Stalled::Commit { channel }) => {
                self.broker.wake_when_loaded(waker);
                if let Err(exception) = self.tx_commit(channel) {
                    self.fail(Failure { channel, exception }, now);
                }
            }
            Some(Stalled::Get { channel, queue, no_ack }) => {
                // Before the attempt: what is read between the two must not be missed.
                self.broker.wake_when_loaded(waker);
                if let Err(exception) = self.get(channel, &queue, no_ack) {
                    self.fail(Failure { channel, exception }, now);
                }
            }
            stalled => self.stalled = stalled,
        }
    }

    fn paused(&self) -> bool {
        let held_back = self.held_bytes > alarm::HELD_BYTES_MAX;
        self.stalled.is_some() || self.request.is_some() || held_back || self.finished().is_some()
    }
}

/// What a publisher is told of one message, or of all up to it.
#[derive(Clone, Copy)]
struct Confirm {
    channel: u16,
    number: u64,
    multiple: bool,
    is_refused: bool,
}

impl Confirm {
    /// A `basic.ack` or `basic.nack` frame, written out because confirms are many.
    fn put(self, out: &mut Vec<u8>) {
        let [c0, c1] = self.channel.to_be_bytes();
        // RabbitMQ sets both bits of a nack. All before it have been confirmed, so "multiple" means this one.
        let (method, bits) = if self.is_refused { (120, 0b11) } else { (80, self.multiple.into()) };
        out.extend_from_slice(&[frame_type::METHOD, c0, c1, 0, 0, 0, 13, 0, 60, 0, method]);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&[bits, wire::FRAME_END]);
    }
}

impl Session for AmqpSession {
    fn receive(&mut self, input: &[u8], now: Millis) -> usize {
        self.broker.set_time(now);
        self.received = now;
        self.take_frames(input, now)
    }

    fn poll(&mut self, now: Millis, waker: &Waker) {
        self.broker.set_time(now);
        if self.paused() {
            // While nothing is read, silence says nothing of the client.
            self.received = now;
        }
        if let Some(resumed) = self.lagging {
            self.broker.wake_when_resumed(waker);
            self.lagging = Some(resumed).filter(|&resumed| resumed == self.broker.resumed());
        }
        if self.stalled.is_some() || !self.unconfirmed.is_empty() {
            self.broker.log().wake_when_committed(waker);
        }
        self.poll_closing(now);
        self.poll_stalled(now, waker);
        // A client that deletes the queue that it consumes from gets the reply first.
        if self.stalled.is_none() {
            self.forget_cancelled();
            self.poll_alarm(now, waker);
        }
        self.confirm();
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
        for key in pressed {
            self.resume_consumer(key);
        }
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
        let heartbeat = (self.heartbeat_ms > 0).then(|| {
            let next_sent = self.sent.plus(self.heartbeat_ms / 2);
            next_sent.min(self.received.plus(self.heartbeat_ms * 2))
        });
        [heartbeat, self.phase_ends, self.login_ends].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Millis) {
        if self.phase_ends.is_some_and(|ends| ends <= now) {
            self.end_channels();
            self.phase = Phase::Finished(HangUp::Broker);
        }
        self.expire_login(now);
        if self.heartbeat_ms == 0 {
            return;
        }
        if self.received.plus(self.heartbeat_ms * 2) <= now {
            self.end_channels();
            self.phase = Phase::Finished(HangUp::Broker);
        } else if self.sent.plus(self.heartbeat_ms / 2) <= now {
            let heartbeat = [frame_type::HEARTBEAT, 0, 0, 0, 0, 0, 0, wire::FRAME_END];
            self.outgoing.lock().output.buffer().extend_from_slice(&heartbeat);
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

    fn shut_down(&mut self, now: Millis) {
        match self.phase {
            Phase::Open => {
                let text = "broker forced connection closure with reason 'shutdown'";
                let exception = Exception::new(Code::ConnectionForced, text);
                self.fail(Failure { channel: 0, exception }, now);
                self.phase_ends = Some(now.plus(1000));
            }
            Phase::Closing | Phase::Finished(_) => {}
            Phase::Handshake(_) | Phase::Refused => self.phase = Phase::Finished(HangUp::Broker),
        }
    }

    fn disconnected(&mut self, now: Millis) {
        self.broker.set_time(now);
        self.end_channels();
        self.phase = Phase::Finished(HangUp::Broker);
    }

    fn finished(&self) -> Option<HangUp> {
        match self.phase {
            Phase::Finished(hang_up) => Some(hang_up),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        let user = self.client.user.as_ref().map_or("nobody", |user| user);
        let vhost = self.caller.as_ref().map_or("-", |caller| caller.vhost.name());
        match &self.client.name {
            Some(name) => format!("user '{user}', vhost '{vhost}', client '{name}'"),
            None => format!("user '{user}', vhost '{vhost}'"),
        }
    }
}

impl Client {
    fn read(&mut self, properties: &Table) {
        let text = |name| properties.get(name).and_then(broker::Value::as_text).map(str::to_owned);
        self.properties = properties.clone();
        self.name = text("connection_name").or_else(|| text("product"));
        if let Some(broker::Value::Table(capabilities)) = properties.get("capabilities") {
            let can = |name| capabilities.get(name) == Some(&broker::Value::Bool(true));
            self.wants_refusal = can("authentication_failure_close");
            self.wants_cancels = can("consumer_cancel_notify");
            self.wants_blocked = can("connection.blocked");
        }
    }
}
