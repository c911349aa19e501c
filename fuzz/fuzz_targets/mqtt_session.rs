//! An MQTT connection that is sent arbitrary bytes, in pieces, while the clock moves, beside another client that stays. It must
//! answer in whole packets, end when it should, and leave nothing behind.
#![no_main]

use std::{sync::Arc, task::Waker};

use broker::{
    Broker, Login, MemoryLog, Millis, Peer, Permissions, Recovered, Reply, Request, Session, Settings, User,
    identity::Pattern, outlet::Chunks, session::Intake,
};
use libfuzzer_sys::fuzz_target;
use mqtt::{MqttConnection, Sessions, packet::Version, wire};

/// Seconds that sessions outlive their connections at most.
const EXPIRY_S: u32 = 1000;

struct World {
    broker: Arc<Broker>,
    sessions: Arc<Sessions>,
    settings: Arc<mqtt::Settings>,
}

fuzz_target!(|data: &[u8]| {
    let Some((&[first, second], data)) = data.split_first_chunk() else { return };
    let world = world();
    let mut other = Client::new(&world, Millis(0));
    other.send(&connect(OTHER, "other"), Millis(0));
    other.send(&[0x82, 7, 0, 1, 0, 0, 1, b'#', 2], Millis(0));
    let mut client = Client::new(&world, Millis(0));
    if first & 4 == 0 {
        client.send(&connect(first, "client"), Millis(0));
    }
    let piece = 1 + usize::from(first >> 3) * 7;
    let mut now = Millis(0);
    for bytes in data.chunks(piece) {
        now = now.plus(u64::from(second) * 50);
        world.broker.set_time(now);
        client.send(bytes, now);
        other.send(&[], now);
        world.sessions.catch_up(Waker::noop());
        if client.connection.finished().is_some() {
            // The next connection finds the session as it was left, and may ask for another.
            client.connection.disconnected(now);
            client = Client::new(&world, now);
            client.send(&connect(bytes[0], "client"), now);
        }
    }
    client.connection.disconnected(now);
    other.connection.disconnected(now);
    world.broker.set_time(now.plus(u64::from(EXPIRY_S) * 1000));
    world.sessions.catch_up(Waker::noop());
    let census = world.sessions.census();
    assert_eq!((census.connected, census.disconnected), (0, 0), "sessions end");
    let vhost = world.broker.vhost("/").expect("it was added");
    assert_eq!(vhost.read().queues().count(), 0, "queues go with their sessions");
});

struct Client {
    connection: MqttConnection,
    left: Vec<u8>,
}

impl Client {
    fn new(world: &World, now: Millis) -> Self {
        let peer = Peer::default();
        let connection = MqttConnection::new(&world.broker, &world.sessions, &world.settings, peer, now);
        Self { connection, left: Vec::new() }
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

    fn check_output(&self) {
        let mut chunks = Chunks::default();
        self.connection.outlet().drain(&mut chunks, Waker::noop());
        let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let frame = wire::frame(rest, usize::MAX / 2).expect("a packet").expect("a whole packet");
            rest = &rest[frame.len..];
        }
    }
}

/// A CONNECT of MQTT 5 for a session that stays.
const OTHER: u8 = 2;

/// CONNECT with a will, a user name and a password. The bits of `how` are the version, whether the session begins anew, and
/// whether it ends with the connection.
fn connect(how: u8, client_id: &str) -> Vec<u8> {
    let version = [Version::V31, Version::V311, Version::V5, Version::V5][usize::from(how & 3)];
    let (clean, expiry_s) = (how >> 3 & 2, if how & 0x20 == 0 { 200 } else { 0 });
    let mut body = Vec::new();
    wire::put_text(&mut body, if version == Version::V31 { "MQIsdp" } else { "MQTT" });
    body.extend_from_slice(&[version as u8, 0b1100_1100 | clean, 0, 60]);
    if version == Version::V5 {
        body.extend_from_slice(&[11, 0x11, 0, 0, 0, expiry_s, 0x21, 0, 3, 0x22, 0, 2]);
    }
    wire::put_text(&mut body, client_id);
    if version == Version::V5 {
        body.extend_from_slice(&[5, 0x18, 0, 0, 0, 5]);
    }
    for text in ["w", "gone", "guest", "guest"] {
        wire::put_text(&mut body, text);
    }
    let mut bytes = vec![0x10];
    wire::put_varint(&mut bytes, body.len());
    bytes.extend_from_slice(&body);
    bytes
}

fn world() -> World {
    let log = Arc::new(MemoryLog::default());
    let settings = Settings { message_bytes_max: 4096, seed: 1, ..Settings::default() };
    let broker = Broker::new(settings, log, Recovered::default(), Millis(0)).expect("nothing to recover");
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").expect("it is a regular expression");
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"guest".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    let broker = Arc::new(broker);
    let settings = mqtt::Settings { session_expiry_s_max: EXPIRY_S, ..mqtt::Settings::default() };
    World { sessions: Arc::new(Sessions::new(&broker, 0)), broker, settings: Arc::new(settings) }
}
