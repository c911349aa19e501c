//! A broker without sockets, files or clock, and clients that talk OpenWire to it.

#![allow(dead_code, reason = "each test has its own use for a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{sync::Arc, task::Waker};

use broker::{
    Broker, Keep, Login, MemoryLog, Millis, Peer, Permissions, Principal, Recovered, Remembered, Reply, Request,
    Retain, Session, User, identity::Pattern, outlet::Chunks, session::Intake,
};
use openwire::{
    Advisor, Command, Decoder, Encoder, Offer, OpenWireSession, Settings, Shared, Structure, WireFormat,
    connection::{ConnectionInfo, ConsumerInfo, ProducerInfo},
    ids::{ConnectionId, ConsumerId, Destination, DestinationKind, MessageId, ProducerId},
    message::{Message, MessageAck, MessageDispatch, MessageKind},
    stored,
};

/// Everything there is.
pub struct World {
    pub broker: Arc<Broker>,
    pub shared: Arc<Shared>,
    pub log: Arc<MemoryLog>,
    pub settings: Arc<Settings>,
    pub now: Millis,
}

impl World {
    /// With a log that commits at once.
    pub fn new() -> Self {
        Self::with(MemoryLog::default())
    }

    pub fn with(log: MemoryLog) -> Self {
        let (log, now) = (Arc::new(log), Millis(1_000_000));
        let mut settings = broker::Settings::default();
        settings.letters.queue = "ActiveMQ.DLQ".into();
        settings.letters.kept.expired = Some(openwire::ORIGIN);
        let (vhost, exchange) = ("/".into(), openwire::TOPICS.into());
        let remembered = Remembered {
            vhost,
            exchange,
            key: "prices.#".into(),
            keep: Keep::Messages(1),
            selector: None,
            retain: None,
        };
        let asking = Remembered {
            key: "states.#".into(),
            retain: Some(Retain { asks: stored::RETAIN.into(), tells: stored::RETAINED.into() }),
            ..remembered.clone()
        };
        settings.remembered.extend([remembered, asking]);
        let broker = Arc::new(Broker::new(settings, log.clone(), Recovered::default(), now).unwrap());
        broker.add_codec(openwire::ORIGIN, Arc::new(stored::MessageCodec));
        broker.add_vhost(&"/".into());
        let pattern = |text| Pattern::new(text).unwrap();
        let all = Permissions { configure: pattern(".*"), write: pattern(".*"), read: pattern(".*") };
        let own = Permissions { configure: pattern("openwire-.*"), write: pattern("openwire-.*"), read: pattern(".*") };
        let desk = Permissions { configure: pattern("^desk\\."), write: pattern("^desk\\."), read: pattern("^$") };
        for (user, permissions) in [("guest", all), ("reader", own), ("clerk", desk)] {
            let data = User { permissions: [("/".into(), permissions)].into(), ..User::default() };
            broker.put_user(&user.into(), data);
        }
        log.commit();
        let (shared, settings) = Default::default();
        broker.set_witness(Arc::new(Advisor::new(&shared, &settings)));
        Self { broker, shared, log, settings, now }
    }

    /// A client that has said nothing.
    pub fn client(&self) -> Client {
        let session = OpenWireSession::new(&self.broker, &self.shared, &self.settings, Peer::default(), self.now);
        let (encoder, decoder) = (Encoder::default(), Decoder::new(usize::MAX));
        let (left, got, number) = (Vec::new(), Vec::new(), 0);
        let (agreed, has_switched) = (None, false);
        let (name, now) = (String::new(), self.now);
        Client { session, encoder, decoder, left, got, number, agreed, has_switched, name, now }
    }

    /// A client that is in.
    pub fn connected(&self, name: &str) -> Client {
        let mut client = self.client();
        client.connect(name, "guest");
        client
    }
}

/// A client's end of a connection.
pub struct Client {
    pub session: OpenWireSession,
    pub encoder: Encoder,
    decoder: Decoder,
    /// Sent, and not taken.
    left: Vec<u8>,
    /// Got, and not looked at.
    got: Vec<u8>,
    number: i32,
    /// How frames look once both sides have said what they can, and whether they look so.
    agreed: Option<WireFormat>,
    has_switched: bool,
    pub name: String,
    pub now: Millis,
}

impl Client {
    /// Sends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.left.extend_from_slice(bytes);
        self.work();
    }

    /// Sends a command.
    pub fn send<'a>(&mut self, command: &impl Structure<'a>) {
        let mut bytes = Vec::new();
        self.encoder.encode(command, &mut bytes).unwrap();
        self.bytes(&bytes);
    }

    /// Lets the session do what can be done.
    pub fn work(&mut self) {
        for _ in 0..100 {
            self.session.poll(self.now, Waker::noop());
            if let Some(Request::Authenticate(credentials)) = self.session.request() {
                let user = credentials.user().clone();
                let is_good = *user != *"nobody";
                let login = if is_good { Login::Accepted(Principal::from(&*user)) } else { Login::Refused };
                self.session.reply(Reply::Login(login), self.now);
            }
            let mut used = 0;
            if self.session.intake() != Intake::Paused && !self.left.is_empty() {
                used = self.session.receive(&self.left, self.now);
                self.left.drain(..used);
            }
            let mut chunks = Chunks::default();
            let has_more = self.session.outlet().drain(&mut chunks, Waker::noop());
            chunks.iter().for_each(|chunk| self.got.extend_from_slice(chunk));
            if used == 0 && !has_more {
                return;
            }
        }
    }

    /// Time passes.
    pub fn wait(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
        while self.session.deadline().is_some_and(|at| at <= self.now) && self.session.finished().is_none() {
            self.session.expire(self.now);
            self.session.sent(self.now);
        }
        self.work();
    }

    /// What has come since it was last asked.
    pub fn take(&mut self) -> Vec<Command<'static>> {
        self.work();
        let mut commands = Vec::new();
        let mut used = 0;
        while let Some((len, command)) = self.decoder.decode(&self.got[used..]).unwrap() {
            used += len;
            // The broker's own comes first, and the rest as was agreed.
            if let Some(agreed) = self.agreed.filter(|_| !std::mem::replace(&mut self.has_switched, true)) {
                self.decoder.switch(agreed);
            }
            commands.push(command.into_owned());
        }
        self.got.drain(..used);
        commands
    }

    /// Those that are messages for a consumer, as their text with the count of deliveries before.
    pub fn texts(&mut self) -> Vec<String> {
        let commands = self.take();
        commands.iter().filter_map(dispatched).map(|(text, again)| format!("{text}{}", "!".repeat(again))).collect()
    }

    pub fn next_number(&mut self) -> i32 {
        self.number += 1;
        self.number
    }

    pub fn negotiate(&mut self) {
        self.send(&Offer::default().info());
        let agreed = Offer::default().negotiate(&Settings::default().offer());
        self.agreed = Some(agreed.format());
        self.encoder.switch(agreed.format());
    }

    pub fn connect(&mut self, name: &str, user: &str) {
        self.name = name.into();
        self.negotiate();
        let info = self.connection_info(user);
        self.send(&info);
    }

    pub fn connection_info(&mut self, user: &str) -> ConnectionInfo<'static> {
        let mut info = ConnectionInfo {
            connection_id: Some(self.connection_id()),
            client_id: Some(format!("client of {}", self.name).into()),
            user_name: Some(user.to_owned().into()),
            ..ConnectionInfo::default()
        };
        info.base.command_id = self.next_number();
        info.base.response_required = true;
        info
    }

    pub fn connection_id(&self) -> ConnectionId<'static> {
        ConnectionId { value: Some(self.name.clone().into()) }
    }

    pub fn consumer_id(&self, value: i64) -> ConsumerId<'static> {
        ConsumerId { connection_id: Some(self.name.clone().into()), session_id: 1, value }
    }

    pub fn producer_id(&self) -> ProducerId<'static> {
        ProducerId { connection_id: Some(self.name.clone().into()), session_id: 1, value: 1 }
    }

    /// A consumer.
    pub fn consume(&mut self, value: i64, destination: Destination<'static>, prefetch_size: i32) {
        let info = self.consumer_info(value, destination, prefetch_size);
        self.send(&info);
    }

    /// What a consumer asks for.
    pub fn consumer_info(
        &mut self,
        value: i64,
        destination: Destination<'static>,
        prefetch_size: i32,
    ) -> ConsumerInfo<'static> {
        let mut info = ConsumerInfo {
            consumer_id: Some(self.consumer_id(value)),
            destination: Some(destination),
            prefetch_size,
            ..ConsumerInfo::default()
        };
        info.base.command_id = self.next_number();
        info.base.response_required = true;
        info
    }

    pub fn produce(&mut self, destination: Destination<'static>) {
        let info = ProducerInfo {
            producer_id: Some(self.producer_id()),
            destination: Some(destination),
            ..ProducerInfo::default()
        };
        self.send(&info);
    }

    /// A text message. Returns its number.
    pub fn message(&mut self, destination: &Destination<'static>, text: &str) -> Message<'static> {
        let number = self.next_number();
        let producer_id = self.producer_id();
        let mut message = Message {
            kind: MessageKind::Text,
            destination: Some(destination.clone()),
            message_id: Some(MessageId {
                producer_id: Some(producer_id.clone()),
                producer_sequence_id: number.into(),
                ..MessageId::default()
            }),
            producer_id: Some(producer_id),
            persistent: true,
            content: Some(openwire::body::text_content(text).unwrap()),
            ..Message::default()
        };
        message.base.command_id = number;
        message.base.response_required = true;
        message
    }

    pub fn publish(&mut self, destination: &Destination<'static>, text: &str) -> i32 {
        let message = self.message(destination, text);
        self.send(&message);
        message.base.command_id
    }

    /// Acknowledges dispatched messages.
    pub fn acknowledge(
        &mut self,
        kind: i8,
        first: &MessageDispatch<'static>,
        last: &MessageDispatch<'static>,
    ) -> MessageAck<'static> {
        let id = |dispatch: &MessageDispatch<'static>| {
            dispatch.message.as_ref().and_then(|message| message.message_id.clone())
        };
        let ack = MessageAck {
            consumer_id: first.consumer_id.clone(),
            destination: first.destination.clone(),
            ack_type: kind,
            first_message_id: id(first),
            last_message_id: id(last),
            message_count: 1,
            ..MessageAck::default()
        };
        self.send(&ack);
        ack
    }
}

/// A dispatch's text, and how often it was delivered before.
pub fn dispatched(command: &Command<'static>) -> Option<(String, usize)> {
    let Command::MessageDispatch(MessageDispatch { message, redelivery_counter, .. }) = command else { return None };
    let Some(message) = message else { return Some(("(nothing)".into(), 0)) };
    let text = message.content.as_deref().and_then(|content| openwire::body::text(content).ok().flatten());
    Some((text.map_or_else(|| format!("{:?}", message.kind), |text| text.to_string()), *redelivery_counter as usize))
}

/// Dispatches among commands.
pub fn dispatches(commands: Vec<Command<'static>>) -> Vec<MessageDispatch<'static>> {
    let dispatch = |command| match command {
        Command::MessageDispatch(dispatch) => Some(dispatch),
        _ => None,
    };
    commands.into_iter().filter_map(dispatch).collect()
}

pub fn queue(name: &str) -> Destination<'static> {
    Destination { kind: DestinationKind::Queue, physical_name: Some(name.to_owned().into()) }
}

pub fn topic(name: &str) -> Destination<'static> {
    Destination { kind: DestinationKind::Topic, physical_name: Some(name.to_owned().into()) }
}

/// Commands in short: what was answered.
pub fn answers(commands: &[Command<'static>]) -> Vec<String> {
    let answer = |command: &Command<'static>| match command {
        Command::Response(response) => Some(format!("done {}", response.correlation_id)),
        Command::ExceptionResponse(response) => {
            let exception = response.exception.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(format!("refused {}: {exception}", response.correlation_id))
        }
        Command::ConnectionError(error) => {
            Some(format!("error: {}", error.exception.as_ref().map(ToString::to_string).unwrap_or_default()))
        }
        _ => None,
    };
    commands.iter().filter_map(answer).collect()
}
