//! What of a message of one protocol is what to a client of another.
//!
//! A client of each protocol sends a bare message, and one more for each thing that it may say of a message; a client of
//! each protocol gets them all. What differs from the bare one is what the thing has become. The tables are
//! `docs/mapping.md`; the test fails if that says anything else. With `UPDATE_MAPPING=1` in the environment it is
//! written anew.

mod amqp;
mod mqtt;
mod openwire;
mod stomp;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use roadstead_tests::server::Server;

const FILE: &str = "../docs/mapping.md";
/// In a topic and a queue of these names.
const NAME: &str = "mapping";
/// What is said to happen in a minute.
const MINUTE_MS: i64 = 60_000;
/// How much later than it says something may come.
const LATE_MS: i64 = 10_000;

/// What a receiver sees of a message: names and values.
type Seen = BTreeMap<String, String>;

/// A client that both sends and receives.
trait Client {
    fn name(&self) -> &'static str;

    /// What it may say of a message, in its own words; the first is a bare message.
    fn sayings(&self) -> &'static [&'static str];

    /// Sends a message of which this is said, to the topic or the queue.
    fn send(&mut self, saying: &str, to: Place);

    /// The next message from the topic, or from the queue.
    fn receive(&mut self, from: Place) -> Seen;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Topic,
    Queue,
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("milliseconds fit")
}

/// A moment in milliseconds, as it is from now.
fn moment(ms: i64) -> String {
    match ms - now_ms() {
        from_now if (-LATE_MS..=0).contains(&from_now) => "now".to_owned(),
        from_now if (MINUTE_MS - LATE_MS..=MINUTE_MS).contains(&from_now) => "in a minute".to_owned(),
        _ => ms.to_string(),
    }
}

/// The time that is left of a minute, if it is that.
fn span(ms: i64) -> String {
    // A time to live may be rounded up to seconds.
    if (MINUTE_MS - LATE_MS..=MINUTE_MS + 1000).contains(&ms) { "a minute".to_owned() } else { ms.to_string() }
}

/// An id, unless it is one of those that are made anew for each message.
fn id(id: &str) -> String {
    if id.starts_with("mapping-") { "its `JMSMessageID`".to_owned() } else { id.to_owned() }
}

/// A body: text if it can be.
fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => text.to_owned(),
        _ => format!("{} bytes", bytes.len()),
    }
}

/// How a message differs from the bare one.
fn difference(seen: &Seen, bare: &Seen) -> String {
    let new = seen.iter().filter(|(name, value)| bare.get(*name) != Some(value));
    let gone = bare.keys().filter(|name| !seen.contains_key(*name)).map(|name| format!("no `{name}`"));
    let all: Vec<_> = new.map(|(name, value)| cell(name, value)).chain(gone).collect();
    if all.is_empty() { "–".to_owned() } else { all.join("; ") }
}

fn cell(name: &str, value: &str) -> String {
    format!("`{name}` {value}").replace('|', "\\|")
}

/// A table of what one client's messages are to the others.
fn table(clients: &mut [Box<dyn Client>], sender: usize, out: &mut String) {
    let heads: Vec<_> = clients.iter().map(|client| client.name()).collect();
    let _ = writeln!(out, "\n## From {}\n\n| said | {} |", heads[sender], heads.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(heads.len()));
    let mut bare: Vec<Seen> = Vec::new();
    for saying in clients[sender].sayings() {
        clients[sender].send(saying, Place::Topic);
        let seen: Vec<Seen> = clients.iter_mut().map(|client| client.receive(Place::Topic)).collect();
        let cells: Vec<_> = if bare.is_empty() {
            let all = |seen: &Seen| seen.iter().map(|(name, value)| cell(name, value)).collect::<Vec<_>>().join("; ");
            seen.iter().map(all).collect()
        } else {
            seen.iter().zip(&bare).map(|(seen, bare)| difference(seen, bare)).collect()
        };
        let said = if bare.is_empty() { "(a bare message)".to_owned() } else { format!("`{saying}`") };
        let _ = writeln!(out, "| {said} | {} |", cells.join(" | "));
        if bare.is_empty() {
            bare = seen;
        }
    }
}

/// What each protocol's bare message to a queue is to those that can consume one.
fn queues(clients: &mut [Box<dyn Client>], out: &mut String) {
    let can: Vec<usize> = (0..clients.len()).filter(|&one| clients[one].name() != mqtt::NAME).collect();
    let heads: Vec<_> = can.iter().map(|&one| clients[one].name()).collect();
    let _ = writeln!(out, "\n## In a queue\n\n| from | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for &sender in &can {
        let mut cells = Vec::new();
        for &receiver in &can {
            let bare = clients[sender].sayings()[0];
            clients[sender].send(bare, Place::Queue);
            let seen = clients[receiver].receive(Place::Queue);
            cells.push(seen.iter().map(|(name, value)| cell(name, value)).collect::<Vec<_>>().join("; "));
        }
        let _ = writeln!(out, "| {} | {} |", clients[sender].name(), cells.join(" | "));
    }
}

const HEAD: &str = "\
# What is what in another protocol

What a client of each protocol gets of a message that a client of another, or of the same, has sent: first of a bare message, then
what becomes different when the sender says one thing more. These tables are made by a test (`tests/it/mapping.rs`), in
which each protocol sends to the topic `mapping` and each gets it. `a minute` and `now` stand for the times meant.
What is always there and means nothing elsewhere, such as ids that the broker gives, is left out.
";

#[test]
fn every_protocol_gets_what_every_other_sends() {
    let server = Server::start();
    let mut clients: Vec<Box<dyn Client>> = vec![
        Box::new(amqp::Amqp::open(&server)),
        Box::new(mqtt::Mqtt::open(&server)),
        Box::new(stomp::Stomp::open(&server)),
        Box::new(openwire::OpenWire::open(&server)),
    ];
    let mut text = HEAD.to_owned();
    for sender in 0..clients.len() {
        table(&mut clients, sender, &mut text);
    }
    queues(&mut clients, &mut text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("UPDATE_MAPPING").is_some() {
        fs::write(&path, text).expect("the file can be written");
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let first = text.lines().zip(committed.lines()).find(|(now, then)| now != then);
    assert!(text == committed, "docs/mapping.md says otherwise (UPDATE_MAPPING=1 writes it anew): {first:#?}");
}
