//! An OpenWire connection that is sent commands and arbitrary frames, while the clock moves, beside another client that stays.
//! It must answer in whole frames, end when it should, and leave nothing behind but what is durable.
#![no_main]

use std::{sync::Arc, task::Waker};

use broker::{
    Broker, Login, MemoryLog, Millis, Peer, Permissions, Recovered, Reply, Request, Session, Settings, User,
    identity::Pattern, outlet::Chunks, session::Intake,
};
use libfuzzer_sys::fuzz_target;
use openwire::{
    Command, Decoder, Encoder, Offer, OpenWireSession, Shared, Structure,
    connection::{
        ConnectionInfo, ConsumerInfo, DestinationInfo, ProducerInfo, RemoveInfo, RemoveSubscriptionInfo, SessionInfo,
        TransactionInfo,
    },
    ids::{
        ConnectionId, ConsumerId, Destination, DestinationKind, LocalTransactionId, MessageId, ObjectId, ProducerId,
        SessionId, TransactionId,
    },
    message::{Message, MessageAck, MessageKind, MessagePull},
};

const FRAME_MAX: usize = 1 << 20;
const KINDS: [DestinationKind; 4] =
    [DestinationKind::Queue, DestinationKind::Topic, DestinationKind::TempQueue, DestinationKind::TempTopic];
const NAMES: [&str; 8] =
    ["a", "a.b", "a.>", "*", "a,topic://b,queue://c", "Consumer.x.VirtualTopic.b", "VirtualTopic.b", "ID:c:1"];
const SELECTORS: [&str; 4] = ["", "n > 3", "JMSPriority = 4 AND x IS NULL", "("];

fuzz_target!(|data: &[u8]| {
    let Some((&[options, step], data)) = data.split_first_chunk() else { return };
    let world = World::new();
    let mut now = Millis(1000);
    let mut other = Client::new(&world, "other", options, now);
    other.command(&consumer("other", [1, 1, 2, 9], ""), now);
    other.command(&consumer("other", [2, 0, 0, 3], ""), now);
    let mut client = Client::new(&world, "c", options, now);
    let mut input = Input { bytes: data };
    while let Some(what) = input.next() {
        now = now.plus(u64::from(step) * 50);
        world.broker.set_time(now);
        act(&mut client, what, &mut input, now);
        other.bytes(&[], now);
        if client.session.finished().is_some() {
            client.session.disconnected(now);
            client = Client::new(&world, "c", options, now);
        }
    }
    client.session.disconnected(now);
    other.session.disconnected(now);
    let vhost = world.broker.vhost("/").expect("it was added");
    let queues: Vec<_> = vhost.read().queues().cloned().collect();
    assert!(queues.iter().all(|queue| queue.durable), "what is not durable goes with its connection");
    assert!(queues.iter().all(|queue| world.broker.counts(queue).held == 0), "what was held goes back");
});

/// Bytes from which commands are made.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.next().unwrap_or_default())
    }

    fn take(&mut self, len: u8) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(self.bytes.len().min(len.into()));
        self.bytes = rest;
        taken
    }
}

/// Sends one thing.
fn act(client: &mut Client, what: u8, input: &mut Input<'_>, now: Millis) {
    let name = client.name;
    match what % 12 {
        0 => {
            let [len] = input.array();
            let frame = input.take(len);
            let prefixed = [&(frame.len() as u32).to_be_bytes(), frame].concat();
            client.bytes(&prefixed, now);
        }
        1 => {
            let selector = SELECTORS[usize::from(what / 12 % 4)];
            client.command(&consumer(name, input.array(), selector), now);
        }
        2 | 3 => {
            let [kind, destination, number, flags] = input.array();
            client.command(&message(name, place(kind, destination), number, flags), now);
        }
        4 => {
            let [consumer, kind, flags, count] = input.array();
            client.acknowledge(consumer, kind, flags, count, now);
        }
        5 => client.command(&step(name, input.array()), now),
        6 => {
            let [which, value] = input.array();
            let info = RemoveInfo { object_id: Some(object(name, which, value)), ..RemoveInfo::default() };
            client.command(&info, now);
        }
        7 => {
            let [kind, destination, operation] = input.array();
            let info = DestinationInfo {
                connection_id: Some(connection_id(name)),
                destination: Some(place(kind, destination)),
                operation_type: (operation % 3) as i8,
                ..DestinationInfo::default()
            };
            client.command(&info, now);
        }
        8 => {
            let [consumer, timeout] = input.array();
            let pull = MessagePull {
                consumer_id: Some(consumer_id(name, consumer)),
                timeout: i64::from(timeout as i8),
                ..MessagePull::default()
            };
            client.command(&pull, now);
        }
        9 => client.command(&producer(name, input.array()), now),
        10 => {
            let info = RemoveSubscriptionInfo {
                client_id: Some(name.into()),
                subscription_name: Some("durable".into()),
                ..RemoveSubscriptionInfo::default()
            };
            client.command(&info, now);
        }
        _ => {
            let [len] = input.array();
            client.bytes(input.take(len), now);
        }
    }
}

fn place(kind: u8, name: u8) -> Destination<'static> {
    let name = NAMES[usize::from(name) % NAMES.len()];
    Destination { kind: KINDS[usize::from(kind & 3)], physical_name: Some(name.into()) }
}

fn connection_id(name: &'static str) -> ConnectionId<'static> {
    ConnectionId { value: Some(name.into()) }
}

fn consumer_id(name: &'static str, value: u8) -> ConsumerId<'static> {
    ConsumerId { connection_id: Some(name.into()), session_id: 1, value: (value % 4).into() }
}

fn producer_id(name: &'static str, value: u8) -> ProducerId<'static> {
    ProducerId { connection_id: Some(name.into()), session_id: 1, value: (value % 4).into() }
}

/// None for numbers that are multiples of four.
fn transaction(name: &'static str, number: u8) -> Option<TransactionId<'static>> {
    let id = LocalTransactionId { value: (number % 4).into(), connection_id: Some(connection_id(name)) };
    (!number.is_multiple_of(4)).then(|| TransactionId::Local(id))
}

fn object(name: &'static str, which: u8, value: u8) -> ObjectId<'static> {
    match which % 4 {
        0 => ObjectId::Consumer(consumer_id(name, value)),
        1 => ObjectId::Producer(producer_id(name, value)),
        2 => ObjectId::Session(SessionId { connection_id: Some(name.into()), value: (value % 2).into() }),
        _ => ObjectId::Connection(connection_id(name)),
    }
}

fn consumer(
    name: &'static str,
    [value, kind, destination, flags]: [u8; 4],
    selector: &'static str,
) -> ConsumerInfo<'static> {
    ConsumerInfo {
        consumer_id: Some(consumer_id(name, value)),
        destination: Some(place(kind, destination)),
        prefetch_size: (flags & 7).into(),
        browser: flags & 8 != 0,
        no_local: flags & 16 != 0,
        subscription_name: (flags & 32 != 0).then(|| "durable".into()),
        exclusive: flags & 64 != 0,
        dispatch_async: flags & 128 != 0,
        selector: (!selector.is_empty()).then(|| selector.into()),
        ..ConsumerInfo::default()
    }
}

fn producer(name: &'static str, [value, kind, destination]: [u8; 3]) -> ProducerInfo<'static> {
    ProducerInfo {
        producer_id: Some(producer_id(name, value)),
        destination: (kind & 4 == 0).then(|| place(kind, destination)),
        window_size: i32::from(value) * 100,
        ..ProducerInfo::default()
    }
}

fn step(name: &'static str, [number, kind]: [u8; 2]) -> TransactionInfo<'static> {
    TransactionInfo {
        connection_id: Some(connection_id(name)),
        transaction_id: transaction(name, number),
        transaction_type: (kind % 8) as i8,
        ..TransactionInfo::default()
    }
}

fn message(name: &'static str, destination: Destination<'static>, number: u8, flags: u8) -> Message<'static> {
    Message {
        kind: if flags & 1 != 0 { MessageKind::Text } else { MessageKind::Bytes },
        destination: Some(destination),
        message_id: Some(MessageId {
            producer_id: Some(producer_id(name, flags)),
            producer_sequence_id: number.into(),
            ..MessageId::default()
        }),
        producer_id: Some(producer_id(name, flags)),
        transaction_id: transaction(name, flags >> 1),
        persistent: flags & 16 != 0,
        expiration: if flags & 32 != 0 { 1000 + i64::from(number) * 10 } else { 0 },
        priority: (number % 12) as i8,
        content: Some(vec![0, 0, 0, 1, number].into()),
        ..Message::default()
    }
}

struct World {
    broker: Arc<Broker>,
    shared: Arc<Shared>,
    settings: Arc<openwire::Settings>,
}

impl World {
    fn new() -> Self {
        let log = Arc::new(MemoryLog::default());
        let settings = Settings { message_bytes_max: 4096, seed: 1, ..Settings::default() };
        let broker = Broker::new(settings, log, Recovered::default(), Millis(0)).expect("nothing to recover");
        broker.add_codec(openwire::ORIGIN, Arc::new(openwire::stored::MessageCodec));
        broker.add_vhost(&"/".into());
        let all = || Pattern::new(".*").expect("it is a regular expression");
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        broker.put_user(&"guest".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
        Self { broker: Arc::new(broker), shared: Arc::default(), settings: Arc::default() }
    }
}

struct Client {
    session: OpenWireSession,
    encoder: Encoder,
    decoder: Decoder,
    name: &'static str,
    left: Vec<u8>,
    got: Vec<u8>,
    /// Ids of messages that have come.
    ids: Vec<Option<MessageId<'static>>>,
    /// How frames look behind the broker's first.
    agreed: Option<openwire::WireFormat>,
}

impl Client {
    /// One that is in, with a format that the bits of `options` choose.
    fn new(world: &World, name: &'static str, options: u8, now: Millis) -> Self {
        let session = OpenWireSession::new(&world.broker, &world.shared, &world.settings, Peer::default(), now);
        let offer = Offer {
            version: i32::from(options % 12) + 1,
            tight_encoding_enabled: options & 16 != 0,
            cache_enabled: options & 32 != 0,
            ..Offer::default()
        };
        let agreed = offer.clone().negotiate(&world.settings.offer()).format();
        let (encoder, decoder, ids) = (Encoder::default(), Decoder::new(FRAME_MAX), Vec::new());
        let (left, got, agreed) = (Vec::new(), Vec::new(), Some(agreed));
        let mut client = Self { session, encoder, decoder, name, left, got, ids, agreed };
        client.command(&offer.info(), now);
        agreed.into_iter().for_each(|agreed| client.encoder.switch(agreed));
        let login = ConnectionInfo {
            connection_id: Some(connection_id(name)),
            client_id: Some(name.into()),
            user_name: Some("guest".into()),
            ..ConnectionInfo::default()
        };
        client.command(&login, now);
        client.command(&SessionInfo::default(), now);
        client
    }

    /// Sends a command. Those that this version does not have are left out.
    fn command<'a>(&mut self, command: &impl Structure<'a>, now: Millis) {
        let mut bytes = Vec::new();
        if self.encoder.encode(command, &mut bytes).is_ok() {
            self.bytes(&bytes, now);
        }
    }

    /// Settles what has come, from one message to another.
    fn acknowledge(&mut self, consumer: u8, kind: u8, flags: u8, count: u8, now: Millis) {
        let id = |at: u8| self.ids.get(usize::from(at) % self.ids.len().max(1)).cloned().flatten();
        let ack = MessageAck {
            consumer_id: Some(consumer_id(self.name, consumer)),
            transaction_id: transaction(self.name, flags),
            ack_type: (kind % 8) as i8,
            first_message_id: id(flags >> 2).filter(|_| flags & 1 == 0),
            last_message_id: id(count),
            message_count: (count % 5).into(),
            ..MessageAck::default()
        };
        self.command(&ack, now);
    }

    fn bytes(&mut self, bytes: &[u8], now: Millis) {
        self.left.extend_from_slice(bytes);
        for _ in 0..4 {
            self.session.poll(now, Waker::noop());
            if let Some(Request::Authenticate(_)) = self.session.request() {
                self.session.reply(Reply::Login(Login::Accepted("guest".into())), now);
            }
            if self.session.intake() != Intake::Paused {
                let used = self.session.receive(&self.left, now);
                self.left.drain(..used);
            }
            self.check_output();
            self.session.drained(now);
            self.session.caught_up();
        }
        if self.session.deadline().is_some_and(|at| at <= now) {
            self.session.expire(now);
        }
    }

    fn check_output(&mut self) {
        let mut chunks = Chunks::default();
        self.session.outlet().drain(&mut chunks, Waker::noop());
        chunks.iter().for_each(|chunk| self.got.extend_from_slice(chunk));
        let got = std::mem::take(&mut self.got);
        let mut rest = &got[..];
        while !rest.is_empty() {
            let (len, command) = self.decoder.decode(rest).expect("a frame").expect("a whole frame");
            if let Command::MessageDispatch(dispatch) = &command {
                let id = dispatch.message.as_ref().and_then(|message| message.message_id.clone());
                self.ids.push(id.map(openwire::Owned::into_owned));
            }
            rest = &rest[len..];
            if let Some(agreed) = self.agreed.take() {
                self.decoder.switch(agreed);
            }
        }
    }
}
