//! Holding one conversation with one server.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use super::Host;
use super::manage::{Failure, Manager, Outcome};
use super::names::Names;
use super::script::{Conversation, Step, place};
use crate::raw::{Connection, Event, Fields, Frame, PATIENCE, PROTOCOL_HEADER, hex, method, unquote};

/// How long one conversation may last. Where servers differ, a step can wait for what never comes.
const DURATION: Duration = Duration::from_secs(30);
/// How long `quiet` listens.
const QUIET: Duration = Duration::from_millis(300);

struct Party {
    connection: Connection,
    /// Channels that were opened, by the script or for it. One that the server closed is not opened again unasked.
    channels: BTreeSet<u16>,
}

struct Talk<'a> {
    host: &'a Host,
    end: Instant,
    names: Names,
    parties: BTreeMap<char, Party>,
    transcript: Vec<String>,
    /// Queues and exchanges to delete afterwards: the method, and its fields.
    leftovers: Vec<(&'static str, String)>,
    /// What was defined, to take it back afterwards.
    definitions: Vec<String>,
    /// Why the rest of the steps would make no sense.
    broken_off: Option<String>,
}

/// The transcript, one line per step (`>`) and per event (`<`).
pub fn hold(conversation: &Conversation, host: &Host) -> Vec<String> {
    let mut talk = Talk {
        host,
        end: Instant::now() + DURATION,
        names: Names::new(),
        parties: BTreeMap::new(),
        transcript: Vec::new(),
        leftovers: Vec::new(),
        definitions: Vec::new(),
        broken_off: None,
    };
    // What the steps have left behind is removed after a step that panics, too.
    let panic = catch_unwind(AssertUnwindSafe(|| talk.steps(conversation))).err();
    talk.clean_up();
    if let Some(reason) = panic {
        resume_unwind(reason);
    }
    talk.transcript
}

impl Talk<'_> {
    fn steps(&mut self, conversation: &Conversation) {
        for step in &conversation.steps {
            self.step(step);
            if let Some(reason) = &self.broken_off {
                self.transcript.push(format!("! broken off: {reason}"));
                return;
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let line = format!("> {} {} {}", step.place(), step.command, step.rest);
        self.transcript.push(line.trim_end().to_owned());
        let real = Step { rest: self.names.real(&step.rest), ..step.clone() };
        if real.is_method() {
            self.method(&real);
        } else {
            self.command(&real);
        }
    }

    fn method(&mut self, step: &Step) {
        let fields = Fields::parse(&step.rest);
        check(step, &fields);
        self.remember(step, &fields);
        let party = self.party_with_channel(step);
        if step.command == "basic.publish" {
            let body = match fields.number("fill") {
                Some(bytes) => vec![b'x'; usize::try_from(bytes).expect("a body fits in memory")],
                None => fields.text("body").to_vec(),
            };
            for _ in 0..fields.number("times").unwrap_or(1) {
                party.connection.publish(step.channel, &fields, &body);
            }
            return;
        }
        party.connection.send(step.channel, &step.command, &fields);
        if method::is_synchronous(&step.command) && !fields.is_set("nowait") {
            self.read_answer(step);
        }
    }

    /// Notes what the step may leave behind on the server.
    fn remember(&mut self, step: &Step, fields: &Fields) {
        match step.command.as_str() {
            // An exclusive one goes with its connection.
            "queue.declare" if fields.is_set("exclusive") => {}
            "queue.declare" => self.leftovers.push(("queue.delete", format!("queue={}", fields.string("queue")))),
            "exchange.declare" => {
                self.leftovers.push(("exchange.delete", format!("exchange={}", fields.string("exchange"))));
            }
            _ => {}
        }
    }

    fn command(&mut self, step: &Step) {
        let fields = Fields::parse(&step.rest);
        let channel = step.channel;
        match step.command.as_str() {
            "connect" => self.connect(step, &fields),
            "tcp" => match Connection::tcp(&self.host.address) {
                Ok(connection) => self.add(step.connection, connection),
                Err(_) => self.transcript.push("< (refused)".to_owned()),
            },
            "preamble" => self.party(step).connection.send_bytes(PROTOCOL_HEADER),
            "send" => {
                let (name, rest) = step.rest.split_once(' ').unwrap_or((&step.rest, ""));
                let fields = Fields::parse(rest);
                self.party(step).connection.send(channel, name, &fields);
            }
            "header" => {
                let size = fields.number("size").expect("a content header has a size");
                self.party(step).connection.send_frame(&Frame::header(channel, size, &fields));
            }
            "body" => self.party(step).connection.send_frame(&Frame::body(channel, &unquote(&step.rest))),
            "frame" => {
                let (kind, payload) = step.rest.split_once(' ').unwrap_or((&step.rest, ""));
                let kind = kind.parse().expect("a frame's kind is a number");
                self.party(step).connection.send_frame(&Frame { kind, channel, payload: hex(payload) });
            }
            "hex" => self.party(step).connection.send_bytes(&hex(&step.rest)),
            "text" => self.party(step).connection.send_bytes(&unquote(&step.rest)),
            "await" => self.read_many(step),
            "skip" => self.skip(step),
            "confirms" => self.read_confirms(step),
            "quiet" => self.read_quiet(step),
            "closed" => self.read_closed(step),
            "close" => {
                self.party(step).connection.send(0, "connection.close", &Fields::default().with("reply_code", "200"));
                self.read_closed(step);
            }
            "drop" => self.party(step).connection.drop_socket(),
            "counts" => self.counts(step),
            "total" => self.total(step),
            "define" => self.define(step),
            "undefine" => self.undefine(step),
            "pause" => std::thread::sleep(Duration::from_millis(step.rest.parse().expect("milliseconds"))),
            other => panic!("no command {other}"),
        }
    }

    fn connect(&mut self, step: &Step, options: &Fields) {
        match Connection::open(&self.host.address, options) {
            Ok(connection) => {
                self.add(step.connection, connection);
                self.note(step.connection, "(open)".to_owned());
            }
            Err(event) => self.note(step.connection, event.to_string()),
        }
    }

    fn add(&mut self, name: char, connection: Connection) {
        self.parties.insert(name, Party { connection, channels: BTreeSet::new() });
    }

    fn party(&mut self, step: &Step) -> &mut Party {
        let address = &self.host.address;
        self.parties.entry(step.connection).or_insert_with(|| {
            let connection = Connection::open(address, &Fields::default())
                .unwrap_or_else(|event| panic!("a usual connection was refused: {event}"));
            Party { connection, channels: BTreeSet::new() }
        })
    }

    fn party_with_channel(&mut self, step: &Step) -> &mut Party {
        let party = self.party(step);
        let by_itself = step.command == "channel.open";
        if step.channel != 0 && party.channels.insert(step.channel) && !by_itself {
            party.connection.call(step.channel, "channel.open", "");
        }
        party
    }

    /// Reads until the step's method is answered, or cannot be any more.
    fn read_answer(&mut self, step: &Step) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.read(step, left);
            let name = event.method_name();
            let same_channel = event.channel == step.channel;
            let answered = same_channel && name.is_some_and(|name| method::answers(&step.command, name));
            let closed = same_channel && name == Some("channel.close");
            self.take(step, &event);
            if answered || closed || is_last(&event) {
                self.break_off_at(&event);
                return;
            }
        }
    }

    /// The steps after one that waited in vain were written for another course of the conversation, and would mostly
    /// wait in vain too.
    fn break_off_at(&mut self, event: &Event) {
        if event.is_silence() {
            self.broken_off = Some("what the step waits for did not come".to_owned());
        }
    }

    fn read_many(&mut self, step: &Step) {
        let (count, order) = step.rest.split_once(' ').unwrap_or((&step.rest, ""));
        let count: usize = count.parse().expect("how many events to await");
        let start = self.transcript.len();
        for _ in 0..count {
            let event = self.read(step, PATIENCE);
            self.take(step, &event);
            self.break_off_at(&event);
            if event.is_silence() || event.is_closed() {
                break;
            }
        }
        if order == "sorted" {
            self.transcript[start..].sort();
        }
    }

    fn skip(&mut self, step: &Step) {
        for _ in 0..step.rest.parse().expect("how many events to skip") {
            let event = self.read(step, PATIENCE);
            self.break_off_at(&event);
        }
    }

    /// Reads confirms until each of the first tags has one. How they come in groups is the server's affair, so only
    /// which tags were accepted and which refused is written down.
    fn read_confirms(&mut self, step: &Step) {
        let count: u64 = step.rest.parse().expect("how many confirms to await");
        let mut open: BTreeSet<u64> = (1..=count).collect();
        let mut settled = BTreeMap::from([("basic.ack", BTreeSet::new()), ("basic.nack", BTreeSet::new())]);
        while !open.is_empty() {
            let event = self.read(step, PATIENCE);
            let confirm = event.method().and_then(|method| settled.get_mut(method.name).map(|tags| (method, tags)));
            let Some((method, tags)) = confirm else {
                self.take(step, &event);
                self.break_off_at(&event);
                break;
            };
            let tag = method.number("delivery_tag");
            let from = if method.number("multiple") == 1 { 1 } else { tag };
            let now: BTreeSet<u64> = open.iter().copied().filter(|open| (from..=tag).contains(open)).collect();
            if now.is_empty() {
                self.note(step.connection, format!("{event} confirms nothing"));
                return;
            }
            open.retain(|tag| !now.contains(tag));
            tags.extend(now);
        }
        for (name, tags) in settled.into_iter().filter(|(_, tags)| !tags.is_empty()) {
            self.note(step.connection, format!("{} {name} of {}", step.channel, ranges(&tags)));
        }
    }

    fn read_quiet(&mut self, step: &Step) {
        let event = self.read(step, QUIET);
        self.take(step, &event);
    }

    /// Reads until the server hangs up, or both sides have said good-bye: then it's our turn to hang up.
    fn read_closed(&mut self, step: &Step) {
        loop {
            let event = self.read(step, PATIENCE);
            self.take(step, &event);
            if is_last(&event) {
                return;
            }
        }
    }

    fn read(&mut self, step: &Step, patience: Duration) -> Event {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.broken_off = Some("it took too long".to_owned());
        }
        self.party(step).connection.next(patience.min(left))
    }

    /// How many messages each of the queues has; `None` after a refusal, which is noted.
    fn message_counts(&mut self, step: &Step) -> Option<Vec<u64>> {
        let mut counts = Vec::new();
        for queue in step.rest.split_whitespace() {
            let fields = Fields::default().with("queue", queue).with("passive", "1");
            self.party_with_channel(step).connection.send(step.channel, "queue.declare", &fields);
            let event = self.read(step, PATIENCE);
            match event.method() {
                Some(method) if method.name == "queue.declare-ok" => counts.push(method.number("message_count")),
                _ => {
                    self.take(step, &event);
                    return None;
                }
            }
        }
        Some(counts)
    }

    fn counts(&mut self, step: &Step) {
        let Some(mut counts) = self.message_counts(step) else { return };
        counts.sort_unstable();
        let shown: Vec<String> = counts.iter().map(u64::to_string).collect();
        self.note(step.connection, format!("{} counts {}", step.channel, shown.join(" ")));
    }

    fn total(&mut self, step: &Step) {
        let Some(counts) = self.message_counts(step) else { return };
        self.note(step.connection, format!("{} total {}", step.channel, counts.iter().sum::<u64>()));
    }

    fn define(&mut self, step: &Step) {
        self.definitions.push(step.rest.clone());
        let outcome = self.manage(|manager| manager.define(&step.rest));
        self.note_outcome(step, outcome);
    }

    fn undefine(&mut self, step: &Step) {
        let (kind, name) = step.rest.split_once(' ').expect("what to undefine, and its name");
        let outcome = self.manage(|manager| manager.undefine(kind, name.trim()));
        self.note_outcome(step, outcome);
    }

    fn manage(&self, change: impl FnOnce(&Manager) -> Outcome) -> Outcome {
        let unknown =
            || Failure::Unheard("it is not known how to change definitions here; see --management".to_owned());
        change(self.host.manager.as_ref().ok_or_else(unknown)?)
    }

    fn note_outcome(&mut self, step: &Step, outcome: Outcome) {
        let shown = match outcome {
            Ok(()) => "(done)",
            Err(Failure::Refused(reason)) => {
                // Whoever writes a script wants to see it.
                eprintln!("{}: {reason}", step.command);
                "(refused)"
            }
            Err(Failure::Unheard(reason)) => {
                self.broken_off = Some(reason);
                return;
            }
        };
        self.note(step.connection, shown.to_owned());
    }

    /// Writes an event down, and answers it if it is a close.
    fn take(&mut self, step: &Step, event: &Event) {
        self.note(step.connection, event.to_string());
        let party = self.party(step);
        match event.method_name() {
            Some("channel.close") => party.connection.send(event.channel, "channel.close-ok", &Fields::default()),
            Some("connection.close") => party.connection.send(0, "connection.close-ok", &Fields::default()),
            _ => {}
        }
    }

    fn note(&mut self, connection: char, text: String) {
        let line = format!("< {}", place(connection, &text));
        let shown = self.names.shown(&line);
        let is_heartbeat = shown.ends_with(" heartbeat");
        // How many come before something else does depends on the clock.
        if !is_heartbeat || self.transcript.last() != Some(&shown) {
            self.transcript.push(shown);
        }
    }

    /// Ends the connections, then deletes what may be left.
    fn clean_up(&mut self) {
        for (_, mut party) in std::mem::take(&mut self.parties) {
            party.connection.drop_socket();
        }
        if let Some(manager) = &self.host.manager {
            self.definitions.iter().for_each(|document| manager.forget(document));
        }
        let Ok(mut connection) = Connection::open(&self.host.address, &Fields::default()) else { return };
        for (number, (name, fields)) in (1..).zip(std::mem::take(&mut self.leftovers)) {
            connection.send(number, "channel.open", &Fields::default());
            connection.send(number, name, &Fields::parse(&fields));
        }
        connection.send(0, "connection.close", &Fields::default().with("reply_code", "200"));
        while !is_last(&connection.next(PATIENCE)) {}
    }
}

/// `1-3 5` for 1, 2, 3 and 5.
fn ranges(tags: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for tag in tags {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *tag => *last = *tag,
            _ => ranges.push((*tag, *tag)),
        }
    }
    let shown =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    shown.collect::<Vec<_>>().join(" ")
}

/// Whether nothing comes after `event` on its connection.
fn is_last(event: &Event) -> bool {
    let good_bye = matches!(event.method_name(), Some("connection.close" | "connection.close-ok"));
    good_bye || event.is_closed() || event.is_silence()
}

/// A misspelt field would be ignored silently and make the conversation say something else.
fn check(step: &Step, fields: &Fields) {
    for name in fields.names() {
        let known = method::has_field(&step.command, name)
            || (step.command == "basic.publish"
                && (method::is_property(name) || matches!(name, "body" | "fill" | "times")));
        assert!(known, "{} has no field {name}", step.command);
    }
}
