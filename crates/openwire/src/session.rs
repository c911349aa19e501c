//! One OpenWire connection as a state machine.
//!
//! [`OpenWireSession::receive`] takes commands off the input and hands each to the part that is concerned. Messages and
//! acknowledgements gather in a batch that is applied before anything else is done that could depend on it, and at the end of
//! the input. Answers go out in the order of their commands, each once what it tells is safe.

mod acknowledge;
mod advisories;
mod alarm;
mod consumers;
mod destinations;
mod handshake;
mod patterns;
mod pulls;
mod scheduler;
mod send;
mod statistics;
mod transactions;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use broker::{
    Attachment, Broker, Connection, Event, Outlet, Peer, Position, Reply, Request, Route, Session, SessionId,
    broker::Caller,
    publish::{Batch, Published},
    session::{HangUp, Intake, Millis},
};

use self::{consumers::Consumer, handshake::Phase, send::Producer};
use crate::{
    codec::Decoder,
    command::Command,
    connection::{ConnectionControl, ConnectionError, KeepAliveInfo, ShutdownInfo},
    ids::{ConsumerId, ProducerId, TransactionId},
    mapping::Exception,
    message::ProducerAck,
    outgoing::{Outgoing, split_key},
    response::{ExceptionResponse, Response},
    sequences::Sequence,
    shared::Shared,
    stored::Storer,
    structure::Base,
    throwable::Throwable,
    transaction::Transaction,
};

pub use self::handshake::{Client, Settings};

/// Operations after which a batch is applied though more input is there.
const BATCH_OPERATIONS: usize = 1024;

/// Answers that may wait for the disk before no more is read.
const ANSWERS: usize = 64 * 1024;

/// Milliseconds that the client has to hang up after its last answer.
const CLOSE_MS: u64 = 2_000;

/// One OpenWire connection.
#[derive(Debug)]
pub struct OpenWireSession {
    broker: Arc<Broker>,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    id: SessionId,
    peer: Peer,
    outgoing: Arc<Outgoing>,
    decoder: Decoder,
    storer: Storer,
    phase: Phase,
    /// When the phase must be over.
    phase_ends: Option<Millis>,
    /// Who the client is and where, once it is in.
    caller: Option<Caller>,
    connection: Option<Arc<Connection>>,
    client: Client,
    /// When the login ends, if it does.
    login_ends: Option<Millis>,
    producers: HashMap<ProducerId<'static>, Producer>,
    /// Of producers that are closed.
    closed: Vec<Sequence>,
    announced: advisories::Announced,
    /// Whether some consumer is, or was, one of a pattern of queues.
    has_patterns: bool,
    consumers: HashMap<ConsumerId<'static>, Consumer>,
    transactions: HashMap<TransactionId<'static>, Transaction>,
    /// Where messages go, by topic or queue and name.
    routes: HashMap<(bool, Box<str>), Arc<Route>>,
    answers: VecDeque<Answer>,
    /// When pulls are over, and the consumers that wait, by their numbers.
    pulls: BTreeSet<(Millis, u32)>,
    request: Option<Request>,
    /// What is being done with what is scheduled.
    errand: Option<Box<scheduler::Errand>>,
    /// Whether nothing is read until less waits for the disk.
    is_congested: bool,
    /// Commands that wait for the end of an alarm, and bytes of their messages.
    held: VecDeque<Command<'static>>,
    held_bytes: usize,
    /// How often consumers had been resumed when those of this session's messages were found to lag.
    lagging: Option<u64>,
    /// Milliseconds without a sign of life after which each side gives the other up; 0 for never.
    silence_ms: u64,
    received: Millis,
    sent: Millis,
    waker: Option<Waker>,
}

/// Something to be sent once all before it is sent and it is safe.
#[derive(Debug)]
struct Answer {
    position: Position,
    told: Told,
}

#[derive(Debug)]
enum Told {
    /// The command is done. These consumers may start then.
    Done(i32, Vec<Attachment>),
    /// Something else.
    Command(Box<Command<'static>>),
}

impl OpenWireSession {
    /// A session for a client that has just connected.
    pub fn new(broker: &Arc<Broker>, shared: &Arc<Shared>, settings: &Arc<Settings>, peer: Peer, now: Millis) -> Self {
        let outgoing = Arc::new(Outgoing::default());
        {
            let mut state = outgoing.lock();
            state.codecs = broker.codecs();
            // Larger than all that an earlier connection of the same client has seen, after a restart too.
            state.next_number = i64::try_from(now.0 << 20).unwrap_or(0);
            state.send(&settings.offer().info());
        }
        Self {
            broker: Arc::clone(broker),
            shared: Arc::clone(shared),
            settings: Arc::clone(settings),
            id: broker.new_session(),
            peer,
            outgoing,
            decoder: Decoder::new(handshake::FRAME_MAX_BEFORE_LOGIN),
            storer: Storer::default(),
            phase: Phase::Negotiating,
            phase_ends: Some(now.plus(settings.handshake_ms)),
            caller: None,
            connection: None,
            client: Client::default(),
            login_ends: None,
            producers: HashMap::new(),
            closed: Vec::new(),
            announced: HashMap::new(),
            has_patterns: false,
            consumers: HashMap::new(),
            transactions: HashMap::new(),
            routes: HashMap::new(),
            answers: VecDeque::new(),
            pulls: BTreeSet::new(),
            request: None,
            errand: None,
            is_congested: false,
            held: VecDeque::new(),
            held_bytes: 0,
            lagging: None,
            silence_ms: 0,
            received: now,
            sent: now,
            waker: None,
        }
    }

    /// Takes as many commands as there are and may be taken. Returns how many bytes that were.
    fn take_commands(&mut self, input: &[u8], now: Millis) -> usize {
        let mut used = 0;
        let mut batch = Batch::default();
        while used < input.len() && !self.is_paused() {
            if self.phase.is_over() {
                used = input.len();
                break;
            }
            match self.decoder.decode(&input[used..]) {
                Ok(Some((len, command))) => {
                    used += len;
                    self.command(command, &mut batch, now);
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.apply(&mut batch);
                    self.fail(&Exception::io(malformed.problem), now);
                }
            }
            if batch.len() >= BATCH_OPERATIONS {
                self.apply(&mut batch);
            }
        }
        if used == input.len() && self.answers.is_empty() {
            batch.is_all();
        }
        self.apply(&mut batch);
        if let Some(connection) = &self.connection {
            connection.bytes_in.add(used as u64);
        }
        used
    }

    /// Does what a command says, and answers it if it wants that.
    fn command(&mut self, command: Command<'_>, batch: &mut Batch<'_>, now: Millis) {
        if self.must_wait(&command) {
            self.apply(batch);
            return self.hold(command);
        }
        let base = command.base().copied().unwrap_or_default();
        let outcome = match command {
            Command::Message(message) if self.phase.is_open() => self.send(message, batch),
            Command::MessageAck(ack) if self.phase.is_open() => self.acknowledged(&ack, batch),
            command => {
                self.apply(batch);
                self.other_command(command, now)
            }
        };
        match outcome {
            Ok(Outcome::Done(position, consumers)) if base.response_required => {
                self.answer(position, Told::Done(base.command_id, consumers));
            }
            Ok(Outcome::Done(_, consumers)) => consumers.iter().for_each(|attachment| self.broker.resume(attachment)),
            Ok(Outcome::Command(position, command)) => self.answer(position, Told::Command(command)),
            // Whoever did it answers.
            Ok(Outcome::Later) => {}
            Err(exception) => self.refuse(base, &exception),
        }
    }

    fn other_command(&mut self, command: Command<'_>, now: Millis) -> Result<Outcome, Exception> {
        match command {
            Command::WireFormatInfo(info) => self.negotiate(&info, now),
            Command::KeepAliveInfo(keep_alive) => {
                if keep_alive.base.response_required {
                    self.outgoing.lock().send(&KeepAliveInfo::default());
                }
                return Ok(Outcome::Later);
            }
            Command::ShutdownInfo(_) => {
                self.end();
                self.phase = Phase::Finished(HangUp::Client);
                return Ok(Outcome::Later);
            }
            Command::ConnectionInfo(info) => return self.connect(*info, now).map(|()| Outcome::Later),
            command if !self.phase.is_open() => {
                // What does not matter may come before.
                if let Command::ConnectionControl(_) | Command::Null = command {
                    return Ok(Outcome::Later);
                }
                self.fail(&Exception::security("the client has not logged in"), now);
                return Ok(Outcome::Later);
            }
            Command::ConsumerInfo(info) => return self.add_consumer(&info),
            Command::ProducerInfo(info) => self.add_producer(&info),
            Command::DestinationInfo(info) => self.destination(&info),
            Command::RemoveInfo(info) => self.remove(&info),
            Command::RemoveSubscriptionInfo(info) => self.remove_subscription(&info),
            Command::TransactionInfo(info) => return self.transaction(info),
            Command::MessagePull(pull) => self.pull(&pull, now),
            Command::ConsumerControl(control) => self.control_consumer(&control),
            // Sessions only group what is in them, and the rest is between brokers, or for clients.
            _ => Ok(Position(0)),
        }
        .map(Outcome::done)
    }

    /// Answers that a command cannot be done; one that is not to be answered fails all the same.
    fn refuse(&mut self, base: Base, exception: &Exception) {
        let (class, message) = (exception.class, exception.message.as_str());
        let command = if base.response_required {
            ExceptionResponse::to(base.command_id, class, message.to_owned()).into()
        } else {
            let exception = Some(Box::new(Throwable::new(class, message.to_owned())));
            Command::ConnectionError(ConnectionError { exception, ..ConnectionError::default() })
        };
        self.answer(Position(0), Told::Command(Box::new(command)));
    }

    /// The connection cannot go on.
    fn fail(&mut self, exception: &Exception, now: Millis) {
        if self.phase.is_over() {
            return;
        }
        self.end();
        let exception = Some(Box::new(Throwable::new(exception.class, exception.message.clone())));
        self.outgoing.lock().send(&ConnectionError { exception, ..ConnectionError::default() });
        self.phase = Phase::Finished(HangUp::Broker);
        self.phase_ends = Some(now.plus(CLOSE_MS));
    }

    fn answer(&mut self, position: Position, told: Told) {
        // Answers go in order, so that none has to be safe before those in front of it.
        let position = position.max(self.answers.back().map_or(Position(0), |last| last.position));
        self.answers.push_back(Answer { position, told });
        self.tell_answers();
    }

    /// Sends what is safe.
    fn tell_answers(&mut self) {
        if self.answers.is_empty() || self.errand.is_some() {
            return;
        }
        let committed = self.broker.committed();
        let mut starting = Vec::new();
        let mut confirmed = 0;
        let mut state = self.outgoing.lock();
        while self.answers.front().is_some_and(|answer| answer.position <= committed) {
            match self.answers.pop_front().map(|answer| (answer.position, answer.told)) {
                Some((position, Told::Done(command, consumers))) => {
                    state.send(&Response::to(command));
                    confirmed += u64::from(position != Position(0));
                    starting.extend(consumers);
                }
                Some((_, Told::Command(command))) => state.send(&*command),
                None => {}
            }
        }
        drop(state);
        if let Some(connection) = &self.connection {
            connection.traffic.add(Event::Confirm, confirmed);
        }
        // Only now: the first message must not overtake the answer.
        starting.iter().for_each(|attachment| self.broker.resume(attachment));
    }

    /// Applies what has gathered, and answers what is to be answered.
    fn apply(&mut self, batch: &mut Batch<'_>) {
        if batch.is_empty() {
            return;
        }
        let resumed = self.broker.resumed();
        if self.broker.apply(batch).lagging {
            self.lagging = Some(resumed);
        }
        let published: Vec<Published> = batch.published().filter(|published| published.token != 0).collect();
        *batch = Batch::default();
        // One message may have been published to several destinations.
        for copies in published.chunk_by(|a, b| a.token == b.token) {
            let command_id = copies[0].token as u32 as i32;
            let position = copies.iter().map(|copy| copy.position).max().unwrap_or_default();
            if copies.iter().any(|copy| copy.is_refused) {
                let base = Base { command_id, response_required: true };
                self.refuse(base, &Exception::resource("the destination has no room for the message"));
            } else {
                self.answer(position, Told::Done(command_id, Vec::new()));
            }
        }
    }

    /// A producer with a window may go on.
    fn acknowledge_producer(&mut self, producer_id: &ProducerId<'_>, size: i32) {
        let producer_id = Some(crate::structure::Owned::into_owned(producer_id.clone()));
        let ack = ProducerAck { producer_id, size, ..ProducerAck::default() };
        self.answer(Position(0), Told::Command(Box::new(Command::ProducerAck(ack))));
    }

    /// Gives back all that the client holds.
    fn end(&mut self) {
        let consumers: Vec<_> = self.consumers.keys().cloned().collect();
        for id in consumers {
            self.close_consumer(&id, None);
        }
        self.roll_back_all();
        self.leave_producers();
        self.withdraw_all();
        self.end_errand();
        self.answers.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.pulls.clear();
        if let Some(caller) = self.caller.take() {
            self.forget_temporaries(&caller);
            self.shared.leave(&caller, &self.client, self.id);
            self.broker.close_session(&caller);
        }
        self.connection = None;
    }

    /// Forgets consumers whose queue is gone, and tells the client.
    fn forget_cancelled(&mut self) {
        let cancelled = std::mem::take(&mut self.outgoing.lock().cancelled);
        for key in cancelled {
            let (number, source) = split_key(key);
            let found = self.consumers.iter().find(|(_, consumer)| consumer.number == number);
            let Some(id) = found.map(|(id, _)| id.clone()) else { continue };
            // Others of its pattern are left, or may come.
            if self.consumers.get(&id).is_some_and(|consumer| consumer.pattern.is_some()) {
                if let Some(out) = self.outgoing.lock().consumer(number) {
                    out.leave(source);
                }
                continue;
            }
            self.outgoing.lock().tell_cancelled(number);
            self.close_consumer(&id, None);
        }
    }

    /// Settles what consumers did not want.
    fn settle_unwanted(&mut self) {
        let unwanted = std::mem::take(&mut self.outgoing.lock().unwanted);
        if unwanted.is_empty() {
            return;
        }
        let mut batch = Batch::default();
        for one in &unwanted {
            batch.settle(&one.queue, one.consumer, broker::Settlement::Accept, one.slot, one.record);
        }
        self.broker.apply(&mut batch);
    }

    fn is_paused(&self) -> bool {
        self.request.is_some()
            || self.errand.is_some()
            || self.is_congested
            || self.held_bytes > alarm::HELD_BYTES
            || self.answers.len() > ANSWERS
            || self.phase.is_waiting()
            || self.finished().is_some()
    }

    /// Ends the connection if an operator wants it to end, or another one has taken its place.
    fn poll_closing(&mut self, now: Millis) {
        let reason = self.connection.as_ref().and_then(|connection| connection.closing().map(str::to_owned));
        if let Some(reason) = reason {
            self.fail(&Exception::jms(reason), now);
        } else if self.outgoing.lock().is_evicted {
            self.fail(&Exception::jms("another connection has taken the place of this one"), now);
        }
    }
}

/// What came of a command.
enum Outcome {
    /// It is done, and safe from there on. These consumers may start once that is told.
    Done(Position, Vec<Attachment>),
    /// It is answered by this.
    Command(Position, Box<Command<'static>>),
    /// It is not answered, or not here.
    Later,
}

impl Outcome {
    fn done(position: Position) -> Self {
        Self::Done(position, Vec::new())
    }
}

impl Session for OpenWireSession {
    fn receive(&mut self, input: &[u8], now: Millis) -> usize {
        self.broker.set_time(now);
        self.received = now;
        self.take_commands(input, now)
    }

    fn poll(&mut self, now: Millis, waker: &Waker) {
        self.broker.set_time(now);
        if self.waker.is_none() {
            self.waker = Some(waker.clone());
        }
        if self.is_paused() {
            // While nothing is read, silence says nothing of the client.
            self.received = now;
        }
        if let Some(resumed) = self.lagging {
            self.broker.wake_when_resumed(waker);
            self.lagging = Some(resumed).filter(|&resumed| resumed == self.broker.resumed());
        }
        if !self.answers.is_empty() || self.is_congested {
            self.broker.log().wake_when_committed(waker);
        }
        self.is_congested = self.is_congested && self.broker.log().congested();
        self.poll_closing(now);
        self.poll_claim(now, waker);
        self.forget_cancelled();
        self.settle_unwanted();
        self.poll_patterns(waker);
        self.poll_alarm(now, waker);
        self.poll_errand(waker);
        self.tell_answers();
    }

    fn intake(&self) -> Intake {
        if self.is_paused() {
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
        let mut state = self.outgoing.lock();
        let pressed = std::mem::take(&mut state.pressed);
        let attachment = |key| {
            let (number, source) = split_key(key);
            state.consumer(number)?.attachment(source)
        };
        let attachments: Vec<_> = pressed.into_iter().filter_map(attachment).collect();
        drop(state);
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }

    fn caught_up(&mut self) {
        self.lagging = None;
    }

    fn sent(&mut self, now: Millis) {
        self.sent = now;
    }

    fn deadline(&self) -> Option<Millis> {
        if self.phase.is_over() {
            return self.phase_ends;
        }
        let sign = (self.silence_ms > 0).then(|| {
            let next_sent = self.sent.plus(self.silence_ms / 3);
            next_sent.min(self.received.plus(self.silence_ms))
        });
        let pull = self.pulls.first().map(|(at, _)| *at);
        [sign, self.phase_ends, self.login_ends, pull].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Millis) {
        self.expire_pulls(now);
        if self.phase_ends.is_some_and(|ends| ends <= now) {
            self.end();
            self.phase = Phase::Finished(HangUp::Broker);
            self.phase_ends = None;
            return;
        }
        if self.login_ends.is_some_and(|ends| ends <= now) {
            self.fail(&Exception::security("the login has expired"), now);
        }
        if self.silence_ms == 0 || self.phase.is_over() {
            return;
        }
        if self.received.plus(self.silence_ms) <= now {
            let silence = self.silence_ms;
            self.fail(&Exception::io(&format!("Channel was inactive for too (>{silence}) long")), now);
        } else if self.sent.plus(self.silence_ms / 3) <= now {
            self.outgoing.lock().send(&KeepAliveInfo::default());
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
        if let Reply::Login(login) = reply {
            self.logged_in(login, now);
        }
    }

    fn shut_down(&mut self, now: Millis) {
        if self.phase.is_over() {
            return;
        }
        // A client with several addresses looks for another one at once; others are told what happens.
        if self.phase.is_open() {
            let mut state = self.outgoing.lock();
            state.send(&ConnectionControl { close: true, ..ConnectionControl::default() });
            state.send(&ShutdownInfo::default());
        }
        self.end();
        self.phase = Phase::Finished(HangUp::Broker);
        self.phase_ends = Some(now.plus(CLOSE_MS));
    }

    fn disconnected(&mut self, now: Millis) {
        self.broker.set_time(now);
        self.end();
        self.phase = Phase::Finished(HangUp::Broker);
    }

    fn finished(&self) -> Option<HangUp> {
        self.phase.hang_up()
    }

    fn describe(&self) -> String {
        let user = self.client.user.as_deref().unwrap_or("nobody");
        let vhost = self.caller.as_ref().map_or("-", |caller| caller.vhost.name());
        let client = self.client.client_id.as_deref().unwrap_or("-");
        format!("user '{user}', vhost '{vhost}', client '{client}'")
    }
}
