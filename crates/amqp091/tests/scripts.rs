//! Runs the scripts in `testscripts/`: what clients send, and what each gets back.
//!
//! A line `A> 1 queue.declare queue=q durable` is a method that client A sends on channel 1; a line `A< …` is what A gets.
//! `A> 1 content properties=… body=…` sends a content header and body. Commands without a client: `commit` (the log
//! becomes safe), `wait MS` (time passes), `alarm memory`, `alarm disk` and `alarm off`, `close A` (the connection is lost). Clients exist from their first line on.
//! With `UPDATE_SCRIPTS=1` in the environment the answers are written anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path, sync::Arc, task::Waker};

use broker::{
    Alarms, Broker, Login, MemoryLog, Millis, Name, Peer, Permissions, Recovered, Reply, Request, Session, Settings,
    Table, User, Value, identity::Pattern, outlet::Chunks,
};
use roadstead_amqp091::{
    AmqpSession, PROTOCOL_HEADER,
    method::{Bits, Method},
    wire::{self, frame_type, put_frame, put_shortstr, put_table},
};

#[test]
fn scripts_get_the_answers_that_they_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "scripts are missing");
    let mut wrong = Vec::new();
    for path in scripts {
        let expected = fs::read_to_string(&path).unwrap();
        let found = run(&expected);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&path, found).unwrap();
        } else if found != expected {
            wrong.push(format!("{}:\n{}", path.display(), difference(&expected, &found)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first line that differs, with some before it.
fn difference(expected: &str, found: &str) -> String {
    let same = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    let context = expected.lines().take(same).skip(same.saturating_sub(4)).map(|line| format!("  {line}\n"));
    let line = |text: &str| text.lines().nth(same).unwrap_or("(nothing)").to_owned();
    format!("{}- {}\n+ {}", context.collect::<String>(), line(expected), line(found))
}

struct World {
    broker: Arc<Broker>,
    log: Arc<MemoryLog>,
    now: Millis,
    clients: BTreeMap<String, Client>,
}

struct Client {
    session: AmqpSession,
    /// Sent, but not taken by the session.
    left: Vec<u8>,
}

fn run(script: &str) -> String {
    let log = Arc::new(MemoryLog::manual());
    let settings = Settings { message_bytes_max: 1000, seed: 7, ..Settings::default() };
    let broker = Arc::new(Broker::new(settings, log.clone(), Recovered::default(), Millis(0)).unwrap());
    broker.add_codec(roadstead_amqp091::ORIGIN, Arc::new(roadstead_amqp091::properties::PropertyCodec));
    broker.add_vhost(&"/".into());
    for (user, write) in [("guest", ".*"), ("reader", "")] {
        let pattern = |text| Pattern::new(text).unwrap();
        let permissions = Permissions { configure: pattern(".*"), write: pattern(write), read: pattern(".*") };
        let user_data = User { permissions: [("/".into(), permissions)].into(), ..User::default() };
        broker.put_user(&user.into(), user_data);
    }
    log.commit();
    let mut world = World { broker, log, now: Millis(0), clients: BTreeMap::new() };
    let mut out = String::new();
    for line in script.lines().filter(|line| line.get(1..2).is_none_or(|mark| mark != "<")) {
        writeln!(out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            world.step(line);
            world.answers(&mut out);
        }
    }
    out
}

impl World {
    fn step(&mut self, line: &str) {
        if let Some((client, rest)) = line.split_once("> ") {
            let bytes = encode(rest);
            self.client(client).left.extend_from_slice(&bytes);
            return self.work();
        }
        match line.split_once(' ').unwrap_or((line, "")) {
            ("commit", _) => self.log.commit(),
            ("alarm", what) => {
                self.broker.set_alarms(Alarms { memory: what.contains("memory"), disk: what.contains("disk") });
            }
            ("wait", ms) => {
                self.now = self.now.plus(ms.parse().unwrap());
                self.broker.set_time(self.now);
                self.broker.catch_up(Waker::noop());
            }
            ("close", client) => {
                let mut client = self.clients.remove(client).unwrap();
                client.session.disconnected(self.now);
            }
            _ => panic!("no such command: {line}"),
        }
        self.work();
    }

    /// A client of this name, connected as its name's first letter says: `R` is the user who may not write.
    fn client(&mut self, name: &str) -> &mut Client {
        let (broker, now) = (&self.broker, self.now);
        self.clients.entry(name.into()).or_insert_with(|| {
            let settings = Arc::new(roadstead_amqp091::Settings::default());
            let peer = Peer::default();
            let mut session = AmqpSession::new(broker.clone(), settings, peer, now);
            let user = if name.starts_with('R') { "reader" } else { "guest" };
            if !name.starts_with('Z') {
                shake_hands(&mut session, user, now);
            }
            Client { session, left: Vec::new() }
        })
    }

    /// Lets every session do what it can, and then what the others' doings have made possible.
    fn work(&mut self) {
        for client in
            self.clients.values_mut().filter(|client| client.session.deadline().is_some_and(|at| at <= self.now))
        {
            client.session.expire(self.now);
        }
        for _ in 0..3 {
            for client in self.clients.values_mut() {
                client.session.poll(self.now, Waker::noop());
                if !client.left.is_empty() {
                    let used = client.session.receive(&client.left.clone(), self.now);
                    client.left.drain(..used);
                }
            }
        }
    }

    fn answers(&mut self, out: &mut String) {
        for (name, client) in &mut self.clients {
            for answer in drain(&client.session) {
                writeln!(out, "{name}< {answer}").unwrap();
            }
        }
        self.clients.retain(|name, client| {
            let finished = client.session.finished().is_some();
            if finished {
                writeln!(out, "{name}< end of the connection").unwrap();
                client.session.disconnected(Millis(0));
            }
            !finished
        });
    }
}

fn shake_hands(session: &mut AmqpSession, user: &str, now: Millis) {
    let mut bytes = PROTOCOL_HEADER.to_vec();
    let mut capabilities = Table::default();
    capabilities.push("consumer_cancel_notify", Value::Bool(true));
    capabilities.push("connection.blocked", Value::Bool(true));
    let mut properties = Table::default();
    properties.push("capabilities", Value::Table(capabilities));
    let response = format!("\0{user}\0");
    let (mechanism, locale, response) = ("PLAIN", "en_US", response.as_bytes());
    Method::ConnectionStartOk { properties, mechanism, response, locale }.put(&mut bytes, 0);
    let used = session.receive(&bytes, now);
    assert_eq!(used, bytes.len());
    assert!(matches!(session.request(), Some(Request::Authenticate(_))));
    session.reply(Reply::Login(Login::Accepted(user.into())), now);
    let mut bytes = Vec::new();
    Method::ConnectionTuneOk { channel_max: 2047, frame_max: 4096, heartbeat: 10 }.put(&mut bytes, 0);
    Method::ConnectionOpen { vhost: "/", reserved_1: "", reserved_2: Bits(0) }.put(&mut bytes, 0);
    session.receive(&bytes, now);
    drain(session);
}

/// Everything that a session has to say, a line for a frame.
fn drain(session: &AmqpSession) -> Vec<String> {
    let mut chunks = Chunks::default();
    session.outlet().drain(&mut chunks, Waker::noop());
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.to_vec()).collect();
    let mut rest = &bytes[..];
    let mut lines = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            lines.push(format!("header {:?}", &rest[4..8]));
            rest = &rest[8..];
            continue;
        }
        let frame = wire::frame(rest, 1 << 20).unwrap().expect("sessions write whole frames");
        let text = match frame.kind {
            frame_type::METHOD => format!("{:?}", Method::read(frame.payload).unwrap()),
            frame_type::HEADER => {
                format!("header of {} bytes", u64::from_be_bytes(frame.payload[4..12].try_into().unwrap()))
            }
            frame_type::BODY => format!("body {:?}", String::from_utf8_lossy(frame.payload)),
            _ => "heartbeat".into(),
        };
        lines.push(format!("{} {text}", frame.channel));
        rest = &rest[frame.len()..];
    }
    lines
}

/// The bytes of a line such as `1 queue.declare queue=q durable`.
fn encode(line: &str) -> Vec<u8> {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap();
    if first == "raw" {
        return words.map(|word| u8::from_str_radix(word, 16).unwrap()).collect();
    }
    let channel = first.parse().unwrap();
    let name = words.next().unwrap();
    let words = Words(words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect());
    let mut out = Vec::new();
    if name == "content" {
        put_content(&mut out, channel, &words);
    } else {
        method(name, &words).put(&mut out, channel);
    }
    out
}

struct Words<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Words<'a> {
    fn text(&self, name: &str) -> &'a str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    fn number<T: std::str::FromStr + Default>(&self, name: &str) -> T {
        self.text(name).parse().unwrap_or_default()
    }

    fn bits<const N: usize>(&self, names: [&str; N]) -> Bits {
        Bits::of(names.map(|name| self.0.iter().any(|(key, _)| *key == name)))
    }

    /// Words with one of these beginnings are arguments: whole numbers, or text.
    fn arguments(&self) -> Table {
        let beginnings = ["x-", "h-", "hash-", "rjms_", "alternate-exchange"];
        let arguments = self.0.iter().filter(|(key, _)| beginnings.iter().any(|start| key.starts_with(start)));
        let typed = |value: &str| value.parse().map_or_else(|_| Value::from(value), Value::I32);
        Table(arguments.map(|(key, value)| (Name::from(*key), typed(value))).collect())
    }
}

fn put_content(out: &mut Vec<u8>, channel: u16, words: &Words<'_>) {
    let body = words.text("body");
    let size = if words.text("size").is_empty() { body.len() as u64 } else { words.number("size") };
    put_frame(out, frame_type::HEADER, channel, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&size.to_be_bytes());
        put_properties(out, words);
    });
    if !body.is_empty() {
        put_frame(out, frame_type::BODY, channel, |out| out.extend_from_slice(body.as_bytes()));
    }
}

fn put_properties(out: &mut Vec<u8>, words: &Words<'_>) {
    let has = |name| !words.text(name).is_empty();
    let mut headers = words.arguments();
    for name in ["CC", "BCC"] {
        if has(name) {
            headers.push(name, Value::Array(words.text(name).split(',').map(Value::from).collect()));
        }
    }
    let flag = |bit: u32, set: bool| u16::from(set) << bit;
    let flags = flag(13, !headers.is_empty())
        | flag(12, has("mode"))
        | flag(10, has("correlation-id"))
        | flag(9, has("reply-to"))
        | flag(8, has("expiration"))
        | flag(7, has("message-id"))
        | flag(4, has("user-id"));
    out.extend_from_slice(&flags.to_be_bytes());
    if !headers.is_empty() {
        put_table(out, &headers);
    }
    if has("mode") {
        out.push(words.number("mode"));
    }
    for name in
        ["correlation-id", "reply-to", "expiration", "message-id", "user-id"].into_iter().filter(|name| has(name))
    {
        put_shortstr(out, words.text(name));
    }
}

fn method<'a>(name: &str, words: &Words<'a>) -> Method<'a> {
    let ticket = 0;
    let (queue, exchange, routing_key) = (words.text("queue"), words.text("exchange"), words.text("key"));
    let (consumer_tag, delivery_tag, arguments) = (words.text("tag"), words.number("tag"), words.arguments());
    let no_wait = words.bits(["no-wait"]);
    match name {
        "connection.close" => Method::ConnectionClose { code: 200, text: "bye", class: 0, method: 0 },
        "connection.close-ok" => Method::ConnectionCloseOk {},
        "channel.open" => Method::ChannelOpen { reserved_1: "" },
        "channel.close" => Method::ChannelClose { code: 200, text: "bye", class: 0, method: 0 },
        "channel.close-ok" => Method::ChannelCloseOk {},
        "channel.flow" => Method::ChannelFlow { bits: words.bits(["active"]) },
        "exchange.declare" => Method::ExchangeDeclare {
            ticket,
            exchange,
            kind: words.text("type"),
            bits: words.bits(["passive", "durable", "auto-delete", "internal", "no-wait"]),
            arguments,
        },
        "exchange.delete" => Method::ExchangeDelete { ticket, exchange, bits: words.bits(["if-unused", "no-wait"]) },
        "exchange.bind" => Method::ExchangeBind {
            ticket,
            destination: words.text("to"),
            source: exchange,
            routing_key,
            bits: no_wait,
            arguments,
        },
        "queue.declare" => {
            let bits = words.bits(["passive", "durable", "exclusive", "auto-delete", "no-wait"]);
            Method::QueueDeclare { ticket, queue, bits, arguments }
        }
        "queue.bind" => Method::QueueBind { ticket, queue, exchange, routing_key, bits: no_wait, arguments },
        "queue.unbind" => Method::QueueUnbind { ticket, queue, exchange, routing_key, arguments },
        "queue.purge" => Method::QueuePurge { ticket, queue, bits: no_wait },
        "queue.delete" => Method::QueueDelete { ticket, queue, bits: words.bits(["if-unused", "if-empty", "no-wait"]) },
        "basic.qos" => Method::BasicQos { size: 0, count: words.number("count"), bits: words.bits(["global"]) },
        "basic.consume" => {
            let bits = words.bits(["no-local", "no-ack", "exclusive", "no-wait"]);
            Method::BasicConsume { ticket, queue, consumer_tag, bits, arguments }
        }
        "basic.cancel" => Method::BasicCancel { consumer_tag, bits: no_wait },
        "basic.publish" => {
            Method::BasicPublish { ticket, exchange, routing_key, bits: words.bits(["mandatory", "immediate"]) }
        }
        "basic.get" => Method::BasicGet { ticket, queue, bits: words.bits(["no-ack"]) },
        "basic.ack" => Method::BasicAck { delivery_tag, bits: words.bits(["multiple"]) },
        "basic.nack" => Method::BasicNack { delivery_tag, bits: words.bits(["multiple", "requeue"]) },
        "basic.reject" => Method::BasicReject { delivery_tag, bits: words.bits(["requeue"]) },
        "basic.recover" => Method::BasicRecover { bits: words.bits(["requeue"]) },
        "confirm.select" => Method::ConfirmSelect { bits: no_wait },
        "tx.select" => Method::TxSelect {},
        "tx.commit" => Method::TxCommit {},
        "tx.rollback" => Method::TxRollback {},
        _ => panic!("no such method: {name}"),
    }
}
