//! Runs the scripts in `testscripts/`: what clients send, and what each gets back.
//!
//! A line `a > PUBLISH t "one" qos=1 id=1` is a packet that client `a` sends, a line `a < PUBACK id=1` one that it gets, and
//! `a < end` the end of its connection. Clients exist from their first line on, and go with their end. How packets are
//! written is told in `common/packets.rs`; `v3`, `v4` or `v5` is the version that the client speaks from then on. In CONNECT, the
//! client identifier is the client's name if there is no `id=`, and the user is `guest` if there is no `user=`.
//!
//! Lines without a client:
//!
//! - `wait 1.5`: seconds pass. `lose a`: its connection is gone without a word.
//! - `commit by hand`, then `commit` or `commit one`: when what is written is safe, all of it or what was written first.
//! - `skip 5`: the log is at so many positions later.
//! - `restart`: the broker is gone, and another one finds what was safe. `shut down`: it goes in order.
//! - `alarm memory` and `alarm off`; `delete q`: an operator deletes a queue.
//! - `amqp a.b "x"`: somebody publishes by another protocol. `full q a.b`: he has a queue there that takes one message.
//! - `queues`: the lines with `-` behind it are the queues that there are.
//! - `settings receive-maximum=2 …`: for connections that come after it.
//!
//! What CONNACK always tells of the broker's limits is left out, unless the script has set them.
//!
//! With `UPDATE_SCRIPTS=1` in the environment the answers are written anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fmt::Write, fs, path::Path, sync::Arc};

use broker::{
    Alarms, BindingRequest, DeleteRule, End, Facts, Origin, QueueDeclaration, Session, Table, Value,
    publish::{Batch, Body},
};
use mqtt::packet::Version;

use self::common::{MESSAGE_BYTES, World, log::ScriptLog, packets};

#[test]
fn scripts_get_the_answers_that_they_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 20, "scripts are missing");
    let mut wrong = Vec::new();
    for path in scripts {
        println!("{}", path.display());
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

fn is_answer(line: &str) -> bool {
    line.starts_with("- ") || line.split_once(' ').is_some_and(|(_, rest)| rest.starts_with("< "))
}

struct Script {
    world: World,
    /// Whether what CONNACK tells of the broker's limits is shown.
    shows_limits: bool,
    out: String,
}

fn run(text: &str) -> String {
    let world = World::new(Arc::new(ScriptLog::default()), mqtt::Settings::default(), MESSAGE_BYTES);
    let mut script = Script { world, shows_limits: false, out: String::new() };
    for line in text.lines().filter(|line| !is_answer(line)) {
        writeln!(script.out, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            script.step(line);
            script.answers();
        }
    }
    script.out
}

impl Script {
    fn step(&mut self, line: &str) {
        if let Some((client, packet)) = line.split_once(" > ") {
            return self.send(client, packet);
        }
        let world = &mut self.world;
        match line.split_once(' ').unwrap_or((line, "")) {
            ("wait", seconds) => world.wait((seconds.parse::<f64>().unwrap() * 1000.0) as u64),
            ("lose", client) => world.lose(client),
            ("restart", _) => world.restart(),
            ("skip", positions) => world.log.skip(positions.parse().unwrap()),
            ("commit", "by hand") => world.log.commit_by_hand(),
            ("commit", "one") => assert!(world.log.commit_one(), "everything is safe"),
            ("commit", _) => world.log.commit(),
            ("alarm", what) => world.broker.set_alarms(Alarms { memory: what == "memory", disk: what == "disk" }),
            ("shut", _) => world.clients.values_mut().for_each(|client| client.connection.shut_down(world.now)),
            ("delete", queue) => {
                let operator = world.broker.operator("/").unwrap();
                world.broker.delete_queue(&operator, queue, DeleteRule::default()).unwrap();
            }
            ("full", what) => declare_small_queue(world, what),
            ("amqp", what) => publish_by_another_protocol(world, what),
            ("queues", _) => self.queues(),
            ("settings", what) => self.set(what),
            _ => panic!("no such command: {line}"),
        }
        self.world.work();
    }

    fn send(&mut self, name: &str, packet: &str) {
        let versions = [("v3", Version::V31), ("v4", Version::V311), ("v5", Version::V5)];
        let is_there = |word: &str| packet.split(' ').any(|each| each == word);
        if let Some((_, version)) = versions.into_iter().find(|(word, _)| is_there(word)) {
            self.world.client(name).version = version;
        }
        let version = self.world.client(name).version;
        self.world.send(name, &packets::encode(packet, version, name));
    }

    fn set(&mut self, what: &str) {
        let mut settings = mqtt::Settings::clone(&self.world.settings);
        for (name, value) in what.split(' ').map(|word| word.split_once('=').unwrap()) {
            let number = || value.parse::<u32>().unwrap();
            match name {
                "receive-maximum" => settings.receive_maximum = number() as u16,
                "prefetch" => settings.prefetch = number() as u16,
                "topic-alias-maximum" => settings.topic_alias_maximum = number() as u16,
                "keep-alive-max" => settings.keep_alive_s_max = number() as u16,
                "session-expiry-max" => settings.session_expiry_s_max = number(),
                "reveals-refusals" => settings.reveals_refusals = value == "yes",
                "disconnects-unauthorized" => settings.disconnects_unauthorized = value == "yes",
                "anonymous-user" => settings.anonymous_user = Some(value.into()),
                _ => panic!("no such setting: {name}"),
            }
        }
        self.world.settings = Arc::new(settings);
        self.shows_limits = true;
    }

    fn queues(&mut self) {
        let vhost = self.world.broker.vhost("/").unwrap();
        let mut names: Vec<_> = vhost.read().queues().map(|queue| queue.name.to_string()).collect();
        names.sort();
        names.iter().for_each(|name| writeln!(self.out, "- {name}").unwrap());
    }

    fn answers(&mut self) {
        let names: Vec<String> = self.world.clients.keys().cloned().collect();
        for name in names {
            let (bytes, is_over) = self.world.take(&name);
            for mut line in packets::decode(&bytes, self.world.client(&name).version) {
                if line.starts_with("CONNACK success") && !self.shows_limits {
                    line = without_limits(&line);
                }
                writeln!(self.out, "{name} < {line}").unwrap();
            }
            if is_over {
                writeln!(self.out, "{name} < end").unwrap();
                self.world.lose(&name);
            }
        }
    }
}

fn without_limits(line: &str) -> String {
    let limits = ["receive-maximum=", "topic-alias-maximum=", "maximum-packet-size="];
    let words = line.split(' ').filter(|word| !limits.iter().any(|limit| word.starts_with(limit)));
    words.collect::<Vec<_>>().join(" ")
}

fn declare_small_queue(world: &World, what: &str) {
    let (queue, key) = what.split_once(' ').unwrap();
    let operator = world.broker.operator("/").unwrap();
    let limits = [("x-max-length", Value::I32(1)), ("x-overflow", Value::from("reject-publish"))];
    let arguments = Table(limits.into_iter().map(|(name, value)| (name.into(), value)).collect());
    let declaration = QueueDeclaration { durable: true, exclusive: false, auto_delete: false, arguments };
    world.broker.declare_queue(&operator, queue, declaration).unwrap();
    let (source, destination) = (mqtt::EXCHANGE, End::Queue(queue));
    world.broker.bind(&operator, BindingRequest { source, destination, key, arguments: Table::default() }).unwrap();
}

struct NoFacts;

impl Facts for NoFacts {
    fn headers(&self) -> Table {
        Table::default()
    }

    fn property(&self, _: &str) -> Option<Value> {
        None
    }
}

fn publish_by_another_protocol(world: &World, what: &str) {
    let (routing_key, payload) = what.split_once(' ').unwrap();
    let operator = world.broker.operator("/").unwrap();
    let route = world.broker.route(&operator, mqtt::EXCHANGE, &[routing_key], &NoFacts).unwrap();
    let (origin, durable, priority, ttl_ms) = (Origin(1), true, None, None);
    let payload = payload.trim_matches('"').as_bytes();
    let mut batch = Batch::default();
    let body = Body::Borrowed { routing_key, origin, durable, priority, ttl_ms, properties: &[], payload };
    batch.publish(Arc::new(route), body, 0);
    world.broker.apply(&mut batch);
}
