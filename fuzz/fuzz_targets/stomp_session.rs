//! A STOMP connection that is sent arbitrary bytes, in pieces, while the clock moves, beside another client that stays. It must
//! answer in whole frames, end when it should, and leave nothing behind but what is durable.
#![no_main]

use std::{sync::Arc, task::Waker};

use broker::{
    Broker, Login, MemoryLog, Millis, Peer, Permissions, Recovered, Reply, Request, Session, Settings, User,
    identity::Pattern, outlet::Chunks, session::Intake,
};
use libfuzzer_sys::fuzz_target;
use stomp::{
    StompConnection,
    wire::{Decoder, Limits, Version},
};

struct World {
    broker: Arc<Broker>,
    settings: Arc<stomp::Settings>,
}

fuzz_target!(|data: &[u8]| {
    let Some((&[first, second], data)) = data.split_first_chunk() else { return };
    let version = Version::ALL[usize::from(first & 3).min(2)];
    let world = world();
    let mut other = Client::new(&world, Version::V12, Millis(0));
    other.send(b"SUBSCRIBE\nid:1\ndestination:/topic/>\nack:client\n\n\0", Millis(0));
    let mut client = Client::new(&world, version, Millis(0));
    let mut now = Millis(0);
    for bytes in data.chunks(1 + usize::from(first >> 2) * 7) {
        now = now.plus(u64::from(second) * 50);
        world.broker.set_time(now);
        client.send(bytes, now);
        other.send(b"\n", now);
        if client.connection.finished().is_some() {
            client.connection.disconnected(now);
            client = Client::new(&world, version, now);
        }
    }
    client.connection.disconnected(now);
    other.connection.disconnected(now);
    let vhost = world.broker.vhost("/").expect("it was added");
    assert!(vhost.read().queues().all(|queue| queue.durable), "what is not durable goes with its connection");
    let queues: Vec<_> = vhost.read().queues().cloned().collect();
    assert!(queues.iter().all(|queue| world.broker.counts(queue).held == 0), "what was held goes back");
});

struct Client {
    connection: StompConnection,
    decoder: Decoder,
    left: Vec<u8>,
}

impl Client {
    fn new(world: &World, version: Version, now: Millis) -> Self {
        let connection = StompConnection::new(&world.broker, &world.settings, Peer::default(), now);
        let mut decoder = Decoder::new();
        decoder.limits = Limits::after_login(1 << 20, 1 << 20);
        let mut client = Self { connection, decoder, left: Vec::new() };
        let connect = format!(
            "CONNECT\naccept-version:{}\nlogin:guest\npasscode:guest\nheart-beat:9000,9000\n\n\0",
            version.text()
        );
        client.decoder.version = version;
        client.send(connect.as_bytes(), now);
        client
    }

    fn send(&mut self, bytes: &[u8], now: Millis) {
        self.left.extend_from_slice(bytes);
        for _ in 0..4 {
            self.connection.poll(now, Waker::noop());
            if let Some(Request::Authenticate(_)) = self.connection.request() {
                self.connection.reply(Reply::Login(Login::Accepted("guest".into())), now);
            }
            if self.connection.intake() != Intake::Paused {
                let used = self.connection.receive(&self.left, now);
                self.left.drain(..used);
            }
            self.check_output();
            self.connection.drained(now);
            self.connection.caught_up();
        }
        if self.connection.deadline().is_some_and(|at| at <= now) {
            self.connection.expire(now);
        }
    }

    fn check_output(&mut self) {
        let mut chunks = Chunks::default();
        self.connection.outlet().drain(&mut chunks, Waker::noop());
        let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
        let mut rest = &bytes[..];
        loop {
            rest = &rest[self.decoder.noise(rest)..];
            if rest.is_empty() {
                return;
            }
            let (_, len) = self.decoder.decode(rest).expect("a frame").expect("a whole frame");
            rest = &rest[len..];
        }
    }
}

fn world() -> World {
    let log = Arc::new(MemoryLog::default());
    let settings = Settings { message_bytes_max: 4096, seed: 1, ..Settings::default() };
    let broker = Broker::new(settings, log, Recovered::default(), Millis(0)).expect("nothing to recover");
    broker.add_codec(stomp::ORIGIN, Arc::new(stomp::message::PropertyCodec));
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").expect("it is a regular expression");
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"guest".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    World { broker: Arc::new(broker), settings: Arc::default() }
}
