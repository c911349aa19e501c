//! Input that no client library would send. Each ends in the right close code or a dropped connection, and afterwards
//! the same server serves a normal client, in bounded memory.

mod floods;
mod frames;
mod mqtt;
mod websocket;

use std::fs;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Address, Connection, Event, Fields, Frame, PATIENCE, PROTOCOL_HEADER};
use roadstead_tests::server::Server;

const MIB: usize = 1 << 20;

/// What a server may take of the machine's memory after, or during, anything that is done to it here.
const RESIDENT_MAX: usize = 96 * MIB;

/// A small limit, so that tests of it are short.
const HANDSHAKE_MS: u64 = 500;

fn start(settings: &[(&str, &str)]) -> Server {
    let builder = Server::builder().env("ROADSTEAD_LOG_LEVEL", "warn");
    settings.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).start()
}

fn address(server: &Server) -> Address {
    Address::parse(&server.uri())
}

/// The most that has been resident since the server began.
fn resident_bytes(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("the broker runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux says how much was resident");
    let kib: usize = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("it is a number");
    kib * 1024
}

#[track_caller]
fn assert_bounded(server: &Server, during: &str) {
    let bytes = resident_bytes(server);
    assert!(bytes < RESIDENT_MAX, "{during}: {} MiB were resident", bytes / MIB);
}

/// A normal client does normal things, and soon.
#[track_caller]
fn assert_serves(server: &Server, after: &str) {
    let start = Instant::now();
    let mut client = Connection::ready(&address(server));
    client.call(1, "queue.declare", "queue=normal");
    client.call(1, "confirm.select", "");
    client.publish(1, &Fields::parse("routing_key=normal"), b"as usual");
    assert_eq!(client.next(PATIENCE).method_name(), Some("basic.ack"), "after {after}");
    assert_eq!(client.call(1, "basic.get", "queue=normal no_ack").body(), b"as usual", "after {after}");
    client.call(0, "connection.close", "reply_code=200");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "after {after} a normal client needs {took:?}");
    assert_bounded(server, after);
}

/// The handshake as a client sends it that doesn't wait for the answers.
fn handshake() -> Vec<Vec<u8>> {
    let start_ok = "mechanism=PLAIN response=\"\\x00guest\\x00guest\" locale=en_US";
    let method = |name: &str, fields: &str| Frame::method(0, name, &Fields::parse(fields)).to_bytes();
    vec![
        PROTOCOL_HEADER.to_vec(),
        method("connection.start-ok", start_ok),
        method("connection.tune-ok", "channel_max=2047 frame_max=131072"),
        method("connection.open", "virtual_host=/"),
    ]
}

fn method(channel: u16, name: &str, fields: &str) -> Vec<u8> {
    Frame::method(channel, name, &Fields::parse(fields)).to_bytes()
}

/// A message for the queue `normal`.
fn publish(channel: u16, queue: &str, body: &[u8]) -> Vec<u8> {
    let header = Frame::header(channel, body.len() as u64, &Fields::default());
    let parts = [
        method(channel, "basic.publish", &format!("routing_key={queue}")),
        header.to_bytes(),
        Frame::body(channel, body).to_bytes(),
    ];
    parts.concat()
}

/// The last event before the server hangs up, which it must do.
fn last_word(connection: &mut Connection, what: &str) -> Option<Event> {
    let mut last = None;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let event = connection.next(PATIENCE);
        if event.is_closed() {
            return last;
        }
        assert!(!event.is_silence(), "{what}: the server neither answers nor hangs up");
        last = Some(event);
    }
    panic!("{what}: the server doesn't end")
}
