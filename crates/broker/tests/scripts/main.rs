//! Runs the scripts in `testscripts/`: what is asked of the model, and what it does: deliveries to outlets, entries in the
//! log.
//!
//! `> queue NAME [durable] [auto-delete] [x-ARGUMENT=VALUE…]`, `> exchange NAME TYPE [durable] [ARGUMENT=VALUE…]`,
//! `> no-exchange NAME`, `> join EXCHANGE QUEUE KEY [ARGUMENT=VALUE…]` and `> part …` (`-` is the empty key, `@NAME` an
//! exchange instead of a queue), `> route EXCHANGE KEY[,KEY…] [HEADER=VALUE…]` (names the queues),
//! `> bind QUEUE KEY [EXCHANGE] [ARGUMENT=VALUE…]` (to `amq.topic` if none is named), `> publish EXCHANGE KEY BODY
//! [durable] [lasting] [ttl=MS] [priority=N] [job=JOB] [HEADER=VALUE…]`, `> consume NAME QUEUE [settles] [exclusive] [single] [groups] [prefetch=N]
//! [x-priority=N] [x-consumer-timeout=MS] [selector=TEXT]` (the selector goes on to the end of the line), `> browse NAME
//! QUEUE [settles] [prefetch=N] [selector=TEXT]`, `> settle NAME accept|reject|requeue|release|untimed|fail|late|poison N…` (by the count
//! of its deliveries; `poison=CAUSE` tells why), `> cancel NAME`, `> press NAME` (from now on its outlet is full), `> resume NAME`, `> get QUEUE`,
//! `> recall QUEUE KEY` (of `amq.topic`, which remembers the last of each topic of `last.#`, ten milliseconds of
//! `recent.*`, what is red of `picked.*`, and of `asking.*` what has `keep=true`),
//! `> survey NAME [remove] [job=JOB] [within=MS-MS]` (begins to look at what is scheduled), `> next NAME [accept|release]` (what
//! it finds, settled so), `> end NAME`, `> witness HAPPENING…` (of which is told from now on), `> purge QUEUE`, `> delete QUEUE`, `> counts QUEUE`, `> policy NAME PATTERN [operator] [priority=N] [KEY=VALUE…]`,
//! `> no-policy NAME [operator]`, `> wait MS`, `> stall` and `> flow` (between them the log reads
//! nothing), `> restart [NAME N…]` (only what is in the log is left; these deliveries of a
//! consumer are untimed). Lines with `<` are the effects. With `UPDATE_SCRIPTS=1` in the environment they are written anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod log;
mod scanning;

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;
use roadstead_broker::{
    ApplyTo, Appointments, Attachment, BindingRequest, Broker, Browses, Codec, Consumer, ConsumerKey, Credit,
    DeleteRule, Delivery, End, ExchangeDeclaration, ExchangeKind, Happened, Happening, Interest, Keep, Message,
    MessageView, Millis, Mirror, Origin, Outlet, Permissions, Policy, PolicyKind, Position, Pressure, QueueDeclaration,
    RecalledTo, Refusal, Remembered, Retain, Schedule, Scheduled, Selector, Settings, Settlement, Subject, Survey,
    Table, User, Value, Witness,
    broker::{Caller, Fetch, Notice},
    identity::Pattern,
    outlet::{Attempts, Chunks},
    publish::{Batch, Body},
    schedule,
};

use self::log::ScriptLog;

#[test]
fn scripts_have_the_effects_that_they_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let mut scripts: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 4, "scripts are missing");
    for path in scripts {
        let expected = fs::read_to_string(&path).unwrap();
        let found = run(&expected);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            fs::write(&path, found).unwrap();
        } else {
            assert!(found == expected, "{}:\n{}", path.display(), difference(&expected, &found));
        }
    }
}

/// Effects in the order in which they happen.
type Journal = Arc<Mutex<Vec<String>>>;

#[derive(Debug)]
struct ScriptOutlet {
    name: String,
    journal: Journal,
    full: AtomicBool,
    delivered: Mutex<Vec<(u64, Position)>>,
}

impl ScriptOutlet {
    /// Slot and record of a delivery, by its count.
    fn delivery(&self, number: &str) -> (u64, Position) {
        self.delivered.lock()[number.parse::<usize>().unwrap() - 1]
    }
}

impl Outlet for ScriptOutlet {
    fn deliver(&self, delivery: &Delivery<'_>, _: &mut Vec<Waker>) -> Pressure {
        self.delivered.lock().push((delivery.slot, delivery.record));
        let body = String::from_utf8_lossy(delivery.message.payload).into_owned();
        let again = if delivery.redelivered { " again" } else { "" };
        let Attempts { acquired, failed } = delivery.attempts;
        let failures = delivery.failures;
        let attempts = if acquired + failed > 0 {
            format!(" after {acquired} attempts, {failed} failed")
        } else if failures > 0 {
            format!(" after {failures} failures")
        } else {
            String::new()
        };
        let told = told(delivery.message);
        let offset = delivery.offset.map_or_else(String::new, |offset| format!(" at {offset}"));
        let first = if delivery.is_first_of_group { " first" } else { "" };
        self.journal.lock().push(format!("{} gets {body:?}{offset}{first}{again}{attempts}{told}", self.name));
        if self.full.load(Ordering::Relaxed) { Pressure::High } else { Pressure::Low }
    }

    fn cancelled(&self, _: ConsumerKey, _: &mut Vec<Waker>) {
        self.journal.lock().push(format!("{} is cancelled", self.name));
    }

    fn browsed(&self, _: ConsumerKey, _: &mut Vec<Waker>) {
        self.journal.lock().push(format!("{} has seen everything", self.name));
    }

    fn revoked(&self, _: ConsumerKey, slot: u64) {
        let number = self.delivered.lock().iter().rposition(|(delivered, _)| *delivered == slot).unwrap();
        self.journal.lock().push(format!("{} is too late with {}", self.name, number + 1));
    }

    fn drain(&self, _: &mut Chunks, _: &Waker) -> bool {
        false
    }

    fn pending_bytes(&self) -> usize {
        0
    }
}

/// What the broker tells of a message besides its body.
fn told(message: &MessageView<'_>) -> String {
    let mut told = String::new();
    for (name, value) in message.annotation_table().0 {
        let value = match &value {
            Value::Array(deaths) if &*name == "x-death" => deaths.iter().map(death).collect(),
            value => shown(value),
        };
        write!(told, "\n<   {name}: {value}").unwrap();
    }
    told
}

fn death(death: &Value) -> String {
    let Value::Table(death) = death else { return shown(death) };
    let fields = death.0.iter().map(|(name, value)| format!("{name}={}", shown(value)));
    format!("\n<     {}", fields.collect::<Vec<_>>().join(" "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Timestamp(seconds) => format!("@{seconds}"),
        value => value.as_text().map_or_else(|| format!("{value:?}"), str::to_owned),
    }
}

/// `KEY=VALUE` words as a table: numbers, truth values and text.
fn table(words: &[&str], takes: impl Fn(&str) -> bool) -> Table {
    let mut table = Table::default();
    for (key, value) in words.iter().filter_map(|word| word.split_once('=')).filter(|(key, _)| takes(key)) {
        let value = match (value.parse::<i64>(), value) {
            (Ok(number), _) => Value::I64(number),
            (_, "true" | "false") => Value::Bool(value == "true"),
            _ => value.into(),
        };
        table.push(key, value);
    }
    table
}

/// A key; `-` is the empty one.
fn unless_empty(key: &str) -> &str {
    if key == "-" { "" } else { key }
}

/// Properties of messages in scripts: a table of headers, and under `ttl` the time to live.
#[derive(Debug)]
struct ScriptCodec;

impl Codec for ScriptCodec {
    fn headers(&self, properties: &[u8]) -> Table {
        let text = std::str::from_utf8(properties).unwrap();
        table(&text.split(' ').collect::<Vec<_>>(), |key| key != "ttl")
    }

    fn property(&self, _: &[u8], _: &str) -> Option<Value> {
        None
    }

    fn table(&self, properties: &[u8]) -> Table {
        self.headers(properties)
    }

    fn expiration(&self, properties: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(properties).unwrap();
        text.split(' ').find_map(|word| word.strip_prefix("ttl=")).map(str::to_owned)
    }
}

/// The protocol whose durable messages are kept when they expire: that of messages that are `lasting`.
const LASTING: Origin = Origin(8);

/// Tells the journal of what happens.
#[derive(Debug)]
struct ScriptWitness {
    journal: Journal,
    interest: Arc<AtomicU8>,
}

impl Witness for ScriptWitness {
    fn interest(&self) -> Interest {
        Interest::from_bits(self.interest.load(Ordering::Relaxed))
    }

    fn tell(&self, _: &Broker, happened: &Happened) -> Vec<Notice> {
        let about = match &happened.subject {
            Subject::Message(message) => format!("{:?}", std::str::from_utf8(message.view().payload).unwrap()),
            Subject::Consumer(..) => "a consumer".into(),
        };
        self.journal.lock().push(format!("told {:?} {about} in {}", happened.what, happened.queue.name));
        Vec::new()
    }
}

/// When scripts begin, in milliseconds.
const START: u64 = 1000;

struct World {
    journal: Journal,
    log: Arc<ScriptLog>,
    broker: Arc<Broker>,
    caller: Caller,
    consumers: HashMap<String, (Arc<ScriptOutlet>, Attachment)>,
    /// What its witness wants to know of.
    interest: Arc<AtomicU8>,
    /// With what they have found and not settled.
    surveys: HashMap<String, (Survey, Vec<Scheduled>)>,
}

fn run(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with('<')) {
        writeln!(out, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            world.step(&command.split_whitespace().collect::<Vec<_>>());
            while world.log.answer(&world.broker) {}
            // What waits for the clock, or for the log to commit.
            world.broker.catch_up(Waker::noop());
            while world.log.answer(&world.broker) {}
            for effect in world.journal.lock().drain(..) {
                writeln!(out, "< {effect}").unwrap();
            }
        }
    }
    out
}

fn broker_of(log: &Arc<ScriptLog>, now: Millis) -> Broker {
    let mut settings = Settings::default();
    settings.letters.kept.expired = Some(LASTING);
    settings.mirror = Some(Mirror { vhost: "/".into(), exchange: "amq.topic".into(), prefix: "mirror.".into() });
    let remembered = |key: &str, keep| {
        let (selector, retain) = (None, None);
        Remembered { vhost: "/".into(), exchange: "amq.topic".into(), key: key.into(), keep, selector, retain }
    };
    let picked = Remembered {
        selector: Some(Selector::parse("colour = 'red'").unwrap()),
        ..remembered("picked.*", Keep::Messages(2))
    };
    let asking = Remembered {
        retain: Some(Retain { asks: "keep".into(), tells: "x-kept".into() }),
        ..remembered("asking.*", Keep::Messages(1))
    };
    let (last, recent) = (remembered("last.#", Keep::Messages(1)), remembered("recent.*", Keep::Ms(10)));
    settings.remembered = vec![last, recent, picked, asking];
    let broker = Broker::new(settings, log.clone(), log.recovered(), now).unwrap();
    broker.add_codec(LASTING, Arc::new(ScriptCodec));
    broker.add_codec(Origin(9), Arc::new(ScriptCodec));
    broker
}

impl World {
    fn new() -> Self {
        let journal = Journal::default();
        let log = Arc::new(ScriptLog { journal: journal.clone(), ..ScriptLog::default() });
        let interest = Arc::<AtomicU8>::default();
        let broker = broker_of(&log, Millis(START));
        broker.set_witness(Arc::new(ScriptWitness { journal: journal.clone(), interest: Arc::clone(&interest) }));
        broker.add_vhost(&"/".into());
        let all = || Pattern::new(".*").unwrap();
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        broker.put_user(&"u".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
        journal.lock().clear();
        let caller = broker.enter(broker.new_session(), &"u".into(), "/").unwrap();
        Self {
            journal,
            log,
            broker: Arc::new(broker),
            caller,
            consumers: HashMap::new(),
            interest,
            surveys: HashMap::new(),
        }
    }

    fn step(&mut self, words: &[&str]) {
        let has = |word| words.contains(&word);
        match words {
            ["queue", name, ..] => {
                let (durable, auto_delete) = (has("durable"), has("auto-delete"));
                let arguments = table(words, |key| key.starts_with("x-"));
                let exclusive = has("exclusive");
                let declaration = QueueDeclaration { durable, exclusive, auto_delete, arguments };
                if let Err(refusal) = self.broker.declare_queue(&self.caller, name, declaration) {
                    self.journal.lock().push(refusal.to_string());
                }
            }
            ["exchange" | "join" | "part" | "route", ..] => self.topology_step(words),
            ["no-exchange", name] => {
                self.broker.delete_exchange(&self.caller, name, DeleteRule::default()).unwrap();
            }
            ["bind", queue, key, rest @ ..] => {
                let source = rest.first().filter(|word| !word.contains('=')).copied().unwrap_or("amq.topic");
                let (destination, arguments) = (End::Queue(queue), table(rest, |_| true));
                let request = BindingRequest { source, destination, key, arguments };
                self.broker.bind(&self.caller, request).unwrap();
            }
            ["recall", queue, key] => {
                let queue = self.broker.queue(&self.caller, queue).unwrap();
                self.broker.recall(&queue, ("amq.topic", key), None, &mut RecalledTo::default());
            }
            ["witness", words @ ..] => self.witness(words),
            ["survey" | "next" | "end", name, ..] => self.survey_step(words[0], name, words),
            ["policy", name, pattern, ..] => self.policy(name, pattern, words),
            ["trace", state] => {
                self.broker.set_tracing("/", *state == "on");
            }
            ["no-policy", name, ..] => {
                self.broker.delete_policy("/", kind_of(words), name);
            }
            ["wait", ms] => self.wait(ms.parse().unwrap()),
            ["publish", exchange, key, body, ..] => self.publish(exchange.trim_matches('-'), key, body, &words[4..]),
            ["consume" | "browse", name, queue, ..] => self.consume(name, queue, words),
            ["settle", name, how, deliveries @ ..] => self.settle(name, how, deliveries),
            ["cancel", name] => self.broker.cancel(&self.caller, &self.consumers[*name].1),
            ["press", name] => self.consumers[*name].0.full.store(true, Ordering::Relaxed),
            ["resume", name] => {
                let (outlet, attachment) = &self.consumers[*name];
                outlet.full.store(false, Ordering::Relaxed);
                self.broker.resume(attachment);
            }
            ["purge" | "counts" | "get", queue] => self.ask(words[0], queue),
            ["delete", queue] => {
                self.broker.delete_queue(&self.caller, queue, DeleteRule::default()).unwrap();
            }
            ["memory", how] => self.broker.set_tight(*how == "short"),
            ["page-out"] => self.page_out(),
            ["stall" | "flow"] => self.log.state.lock().stalled = words[0] == "stall",
            ["lose"] => self.log.state.lock().held.clear(),
            ["restart", untimed @ ..] => {
                let broker = broker_of(&self.log, self.broker.now());
                self.caller = broker.enter(broker.new_session(), &"u".into(), "/").unwrap();
                self.broker = Arc::new(broker);
                let consumers = std::mem::take(&mut self.consumers);
                if let [name, deliveries @ ..] = untimed {
                    let (outlet, attachment) = &consumers[*name];
                    let records = deliveries.iter().map(|number| outlet.delivery(number).1);
                    let queue = self.broker.queue(&self.caller, &attachment.queue.name).unwrap();
                    self.broker.restore_untimed(&queue, &records.collect::<Vec<_>>());
                }
            }
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn witness(&self, words: &[&str]) {
        let all = [
            Happening::Queued,
            Happening::Unattended,
            Happening::Consumed,
            Happening::Expired,
            Happening::DeadLettered,
            Happening::Dropped,
            Happening::Slow,
        ];
        let wanted = all.into_iter().filter(|one| words.contains(&format!("{one:?}").as_str()));
        let interest = wanted.fold(Interest::default(), Interest::with);
        self.interest.store(interest.bits(), Ordering::Relaxed);
    }

    fn survey_step(&mut self, step: &str, name: &str, words: &[&str]) {
        match step {
            "survey" => {
                let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
                let within = value("within").and_then(|within| within.split_once('-'));
                let at = |text: &str| Millis(START + text.parse::<u64>().unwrap());
                let within = within.map(|(first, last)| (at(first), at(last)));
                let wanted = Appointments { job: value("job").map(str::to_owned), within };
                let survey = self.broker.survey_schedule(&self.caller, wanted, words.contains(&"remove")).unwrap();
                self.surveys.extend(survey.map(|survey| (name.to_owned(), (survey, Vec::new()))));
            }
            "next" => {
                let (survey, left) = self.surveys.get_mut(name).unwrap();
                let (mut found, is_last) = self.broker.next_scheduled(survey, Waker::noop());
                let mut lines: Vec<String> = Vec::new();
                for scheduled in &found {
                    let view = scheduled.message.view();
                    let (body, at) = (std::str::from_utf8(view.payload).unwrap(), view.due.unwrap().0 - START);
                    let job = scheduled.job.as_deref().unwrap_or("-");
                    lines.push(format!("{name} finds {body:?} of {job} for {at}"));
                }
                lines.extend(is_last.then(|| format!("{name} is done")));
                self.journal.lock().extend(lines);
                for (word, how) in [("accept", Settlement::Accept), ("release", Settlement::Release)] {
                    if words.contains(&word) {
                        self.broker.settle_scheduled(survey, found.drain(..).map(|found| (found, how)));
                    }
                }
                *left = found;
            }
            _ => {
                let (survey, left) = self.surveys.remove(name).unwrap();
                self.broker.settle_scheduled(&survey, left.into_iter().map(|one| (one, Settlement::Release)));
                self.broker.end_survey(&survey);
            }
        }
    }

    /// Millisecond by millisecond: nothing may happen early or late.
    fn wait(&self, ms: u64) {
        for _ in 0..ms {
            let now = self.broker.now().plus(1);
            self.broker.set_time(now);
            if self.broker.catch_up(Waker::noop()) > now && self.journal.lock().is_empty() {
                continue;
            }
            while self.log.answer(&self.broker) {}
            let mut journal = self.journal.lock();
            if journal.last().is_some_and(|last| !last.starts_with("at ")) {
                journal.push(format!("at {}", now.0 - 1000));
            }
        }
    }

    /// What a queue answers.
    fn ask(&self, what: &str, queue: &str) {
        let answer = match what {
            "purge" => self.broker.purge(&self.caller, queue).map(|(count, _)| format!("{count} purged")),
            "counts" => self.broker.queue(&self.caller, queue).map(|info| {
                let counts = self.broker.counts(&info);
                format!("{} ready, {} held, {} consumers", counts.ready, counts.held, counts.consumers)
            }),
            _ => self.broker.fetch(&self.caller, queue, true).map(|fetched| match fetched {
                Fetch::Empty => "nothing".into(),
                Fetch::Loading => "not yet".into(),
                Fetch::Message(fetched) => {
                    format!("{:?}", String::from_utf8_lossy(fetched.queued.message.view().payload))
                }
            }),
        };
        self.journal.lock().push(answer.unwrap_or_else(|refusal| refusal.to_string()));
    }

    fn topology_step(&self, words: &[&str]) {
        match words {
            ["exchange", name, kind, ..] => self.declare_exchange(name, kind, words),
            [command, exchange, queue, key, ..] if *command != "route" => {
                let destination = queue.strip_prefix('@').map_or(End::Queue(queue), End::Exchange);
                let (source, key) = (*exchange, unless_empty(key));
                let request = BindingRequest { source, destination, key, arguments: table(words, |_| true) };
                self.note_refusal(match *command {
                    "join" => self.broker.bind(&self.caller, request),
                    _ => self.broker.unbind(&self.caller, request),
                });
            }
            [_, exchange, keys, ..] => {
                let keys: Vec<_> = keys.split(',').map(unless_empty).collect();
                let route = self.broker.route(&self.caller, exchange, &keys, &table(words, |_| true)).unwrap();
                let mut names: Vec<_> = route.queues.iter().map(|queue| queue.name.as_str()).collect();
                names.sort_unstable();
                let reusable = if route.reusable { ", always" } else { "" };
                self.journal.lock().push(format!("to [{}]{reusable}", names.join(" ")));
            }
            _ => panic!("too few words: {words:?}"),
        }
    }

    fn declare_exchange(&self, name: &str, kind: &str, words: &[&str]) {
        let (durable, auto_delete, internal) = (words.contains(&"durable"), false, false);
        self.note_refusal(ExchangeKind::parse(kind).and_then(|kind| {
            let arguments = table(words, |_| true);
            let declaration = ExchangeDeclaration { kind, durable, auto_delete, internal, arguments };
            self.broker.declare_exchange(&self.caller, name, declaration)
        }));
    }

    fn note_refusal(&self, result: Result<Position, Refusal>) {
        if let Err(refusal) = result {
            self.journal.lock().push(refusal.to_string());
        }
    }

    fn page_out(&self) {
        let end = Position(self.log.state.lock().last + 1);
        let page_out =
            |holder| self.broker.page_out(holder, end, &mut |from, end| Some(self.log.members(holder, from, end)));
        let count: usize = self.broker.holders_in_memory().into_iter().map(page_out).sum();
        self.journal.lock().push(format!("{count} leave memory"));
    }

    fn policy(&self, name: &str, pattern: &str, words: &[&str]) {
        let priority = number(words, "priority").unwrap_or(0) as i64;
        let definition = table(words, |key| key != "priority");
        let pattern = Pattern::new(pattern).unwrap();
        let policy = Policy { pattern, apply_to: ApplyTo::All, priority, definition };
        if let Err(problem) = self.broker.put_policy("/", kind_of(words), &name.into(), policy) {
            self.journal.lock().push(problem);
        }
    }

    fn publish(&self, exchange: &str, key: &str, body: &str, words: &[&str]) {
        let headers = table(words, |key| !["ttl", "priority"].contains(&key));
        let route = self.broker.route(&self.caller, exchange, &[unless_empty(key)], &headers).unwrap();
        let mut route = route;
        if let Some(schedule) = Schedule::of_headers(&headers).unwrap() {
            route = self.broker.later(self.caller.vhost.name(), &route, &schedule);
        }
        let properties = words.join(" ");
        let body = Body::Borrowed {
            routing_key: unless_empty(key),
            origin: if words.contains(&"lasting") { LASTING } else { Origin(9) },
            durable: words.contains(&"durable"),
            priority: number(words, "priority").map(|priority| priority as u8),
            ttl_ms: number(words, "ttl"),
            properties: properties.as_bytes(),
            payload: unless_empty(body).as_bytes(),
        };
        let job = words.iter().find_map(|word| word.strip_prefix("job="));
        let body = match job {
            Some(job) => {
                let annotations = schedule::annotations(job);
                let view = MessageView { annotations: &annotations, ..route.view(&body, self.broker.now()) };
                Body::Owned(Arc::new(Message::copy_of(&view)))
            }
            None => body,
        };
        let mut batch = Batch::default();
        batch.publish(Arc::new(route), body, 7);
        self.broker.apply(&mut batch);
        if batch.published().any(|published| published.is_refused) {
            self.journal.lock().push("refused".into());
        }
    }

    fn consume(&mut self, name: &str, queue: &str, words: &[&str]) {
        let outlet = Arc::new(ScriptOutlet {
            name: name.into(),
            journal: self.journal.clone(),
            full: AtomicBool::new(false),
            delivered: Mutex::default(),
        });
        let queue_info = self.broker.queue(&self.caller, queue).unwrap();
        let arguments = table(words, |key| key.starts_with("x-"));
        let (start, filter) = match self.broker.stream_arguments(&queue_info, &arguments) {
            Ok(start) => start,
            Err(refusal) => return self.journal.lock().push(refusal.to_string()),
        };
        let selector = words.iter().position(|word| word.starts_with("selector=")).map(|at| words[at..].join(" "));
        let selector = selector.as_deref().and_then(|text| text.strip_prefix("selector="));
        let selected = match self.broker.selector(selector.unwrap_or_default()) {
            Ok(selected) => selected,
            Err(error) => return self.journal.lock().push(error.to_string()),
        };
        let consumer = Consumer {
            outlet: outlet.clone(),
            key: ConsumerKey(0),
            session: self.caller.session,
            settles_itself: words.contains(&"settles"),
            exclusive: words.contains(&"exclusive"),
            single_active: words.contains(&"single"),
            groups: words.contains(&"groups").then(|| self.broker.grouping()),
            priority: table(words, |key| key == "x-priority").0.first().map_or(0, |(_, n)| n.as_integer().unwrap()),
            timeout_ms: number(words, "x-consumer-timeout"),
            start,
            filter: filter.or(selected),
            browses: (words[0] == "browse").then_some(Browses::Copies),
            prefetch: number(words, "prefetch").unwrap_or(0) as u32,
            shared: Arc::new(Credit::default()),
        };
        let attachment = match self.broker.consume(&self.caller, queue, consumer) {
            Ok(attachment) => attachment,
            Err(refusal) => return self.journal.lock().push(refusal.to_string()),
        };
        self.broker.resume(&attachment);
        self.consumers.insert(name.into(), (outlet, attachment));
    }

    fn settle(&self, name: &str, how: &str, deliveries: &[&str]) {
        let (outlet, attachment) = &self.consumers[name];
        let cause = how.strip_prefix("poison=");
        let how = match how {
            "accept" => Settlement::Accept,
            "reject" => Settlement::Reject,
            "fail" => Settlement::Fail,
            "release" => Settlement::Release,
            "late" => Settlement::Late,
            "poison" => Settlement::Poison,
            "untimed" => Settlement::RequeueUntimed,
            _ => Settlement::Requeue,
        };
        let mut batch = Batch::default();
        for number in deliveries {
            let (slot, record) = outlet.delivery(number);
            if let Some(cause) = cause {
                batch.poison(&attachment.queue, Some(attachment.consumer), (slot, record), &cause.into());
                continue;
            }
            batch.settle(&attachment.queue, Some(attachment.consumer), how, slot, record);
        }
        self.broker.apply(&mut batch);
    }
}

fn number(words: &[&str], name: &str) -> Option<u64> {
    let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.parse().unwrap())
}

fn kind_of(words: &[&str]) -> PolicyKind {
    if words.contains(&"operator") { PolicyKind::Operator } else { PolicyKind::User }
}

/// The first line that differs, with some before it.
fn difference(expected: &str, found: &str) -> String {
    let same = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count();
    let context = expected.lines().take(same).skip(same.saturating_sub(4)).map(|line| format!("  {line}\n"));
    let line = |text: &str| text.lines().nth(same).unwrap_or("(nothing)").to_owned();
    format!("{}- {}\n+ {}", context.collect::<String>(), line(expected), line(found))
}
