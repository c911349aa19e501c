//! Runs the scripts in `testscripts/`: what clients send, and what each gets back.
//!
//! A line `a > SEND destination:/queue/q "one"` is a frame that client `a` sends, a line `a < RECEIPT receipt-id:1` one that it gets,
//! and `a < end` the end of its connection. Clients exist from their first line on, and go with their end. How frames are
//! written is told in `common/frames.rs`. CONNECT has STOMP 1.2 and the user `guest` unless it says otherwise, and the name of a
//! client's session is `S`.
//!
//! Lines without a client:
//!
//! - `wait 1.5`: seconds pass. `lose a`: its connection is gone without a word.
//! - `commit by hand`, then `commit` or `commit one`: when what is written is safe, all of it or what was written first.
//! - `restart`: the broker is gone, and another one finds what was safe. `shut down`: it goes in order.
//! - `alarm memory` and `alarm off`; `delete q`: an operator deletes a queue. `full q`: he makes one that takes one message.
//! - `dead q to dlq`: he makes a queue whose dead letters go to another, which he makes too.
//! - `queues`: the lines with `-` behind it are the queues that there are, with their messages.
//! - `settings prefetch=2 …`: for connections that come after it.
//!
//! With `UPDATE_SCRIPTS=1` in the environment the answers are written anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fmt::Write, fs, path::Path, sync::Arc};

use broker::{Alarms, DeleteRule, QueueDeclaration, Session, Table, Value};

use self::common::{MESSAGE_BYTES, World, frames, log::ScriptLog};

#[test]
fn scripts_get_the_answers_that_they_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 10, "scripts are missing");
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
    out: String,
}

fn run(text: &str) -> String {
    let world = World::new(Arc::new(ScriptLog::default()), stomp::Settings::default(), MESSAGE_BYTES);
    let mut script = Script { world, out: String::new() };
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
        if let Some((client, frame)) = line.split_once(" > ") {
            return self.send(client, frame);
        }
        let world = &mut self.world;
        match line.split_once(' ').unwrap_or((line, "")) {
            ("wait", seconds) => world.wait((seconds.parse::<f64>().unwrap() * 1000.0) as u64),
            ("lose", client) => world.lose(client),
            ("restart", _) => world.restart(),
            ("commit", "by hand") => world.log.commit_by_hand(),
            ("commit", "one") => assert!(world.log.commit_one(), "everything is safe"),
            ("commit", _) => world.log.commit(),
            ("alarm", what) => world.broker.set_alarms(Alarms { memory: what == "memory", disk: what == "disk" }),
            ("shut", _) => world.clients.values_mut().for_each(|client| client.connection.shut_down(world.now)),
            ("delete", queue) => {
                let operator = world.broker.operator("/").unwrap();
                world.broker.delete_queue(&operator, queue, DeleteRule::default()).unwrap();
            }
            ("full", queue) => {
                declare(world, queue, &[("x-max-length", Value::I32(1)), ("x-overflow", "reject-publish".into())]);
            }
            ("dead", what) => {
                let (queue, letters) = what.split_once(" to ").unwrap();
                declare(world, letters, &[]);
                let arguments = [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", letters.into())];
                declare(world, queue, &arguments);
            }
            ("queues", _) => self.queues(),
            ("settings", what) => self.set(what),
            _ => panic!("no such command: {line}"),
        }
        self.world.work();
    }

    fn send(&mut self, name: &str, frame: &str) {
        let session = self.world.client(name).session.clone();
        let mut frame = frame.to_owned();
        if frame.starts_with("CONNECT") {
            for (header, value) in [("login", "guest"), ("passcode", "guest"), ("accept-version", "1.2")] {
                if !frame.contains(&format!("{header}:")) {
                    frame.push_str(&format!(" {header}:{value}"));
                }
            }
        }
        self.world.send(name, &frames::encode(&frame, &session));
    }

    fn set(&mut self, what: &str) {
        let mut settings = stomp::Settings::clone(&self.world.settings);
        for (name, value) in what.split(' ').map(|word| word.split_once('=').unwrap()) {
            match name {
                "prefetch" => settings.prefetch = value.parse().unwrap(),
                "anonymous-user" => settings.anonymous_user = Some(value.into()),
                _ => panic!("no such setting: {name}"),
            }
        }
        self.world.settings = Arc::new(settings);
    }

    fn queues(&mut self) {
        let broker = &self.world.broker;
        let queues: Vec<_> = broker.vhost("/").unwrap().read().queues().cloned().collect();
        let mut lines: Vec<_> = queues
            .iter()
            .map(|queue| {
                let counts = broker.counts(queue);
                format!("- {} ready={} held={}", queue.name, counts.ready, counts.held)
            })
            .collect();
        lines.sort();
        lines.iter().for_each(|line| writeln!(self.out, "{line}").unwrap());
    }

    fn answers(&mut self) {
        let names: Vec<String> = self.world.clients.keys().cloned().collect();
        for name in names {
            let (bytes, is_over) = self.world.take(&name);
            for line in frames::decode(&bytes, &mut self.world.client(&name).session) {
                writeln!(self.out, "{name} < {line}").unwrap();
            }
            if is_over {
                writeln!(self.out, "{name} < end").unwrap();
                self.world.lose(&name);
            }
        }
    }
}

fn declare(world: &World, queue: &str, arguments: &[(&str, Value)]) {
    let operator = world.broker.operator("/").unwrap();
    let arguments = Table(arguments.iter().map(|(name, value)| ((*name).into(), value.clone())).collect());
    let declaration = QueueDeclaration { durable: true, exclusive: false, auto_delete: false, arguments };
    world.broker.declare_queue(&operator, queue, declaration).unwrap();
}
