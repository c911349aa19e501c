//! Runs the scripts in `testscripts/`: what is asked of the model, and what it does: deliveries to outlets, entries in the
//! log.
//!
//! `> queue NAME [durable] [auto-delete] [ARGUMENT=VALUE…]`, `> bind QUEUE KEY` (to `amq.topic`),
//! `> exchange NAME TYPE [durable] [ARGUMENT=VALUE…]`, `> join EXCHANGE QUEUE KEY [ARGUMENT=VALUE…]` and `> part …` (`-` is
//! the empty key, `@NAME` an exchange instead of a queue), `> route EXCHANGE KEY[,KEY…] [HEADER=VALUE…]` (names the
//! queues), `> publish EXCHANGE KEY BODY [durable] [HEADER=VALUE…]`,
//! `> consume NAME QUEUE [settles] [prefetch=N]`, `> settle NAME accept|reject|requeue N…` (by the count of its
//! deliveries), `> cancel NAME`, `> press NAME` (from now on its outlet is full), `> resume NAME`, `> purge QUEUE`,
//! `> delete QUEUE`, `> counts QUEUE`, `> restart` (only what is in the log is left). Lines with `<` are the effects. With
//! `UPDATE_SCRIPTS=1` in the environment they are written anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use parking_lot::Mutex;
use roadstead_broker::{
    Attachment, BindingRequest, Broker, Consumer, ConsumerKey, Credit, DeleteRule, Delivery, Durability, End, Entry,
    ExchangeDeclaration, ExchangeKind, Held, Load, Loaded, Log, Name, Origin, Outlet, Permissions, Position, Pressure,
    QueueDeclaration, Recovered, Refusal, Settings, Settlement, Table, User, Value,
    broker::{Caller, Fetch},
    identity::Pattern,
    log::UNTIL_RESTART,
    outlet::Chunks,
    publish::{Batch, Body},
    queue::Wanted,
};

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
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

/// Effects in the order in which they happen.
type Journal = Arc<Mutex<Vec<String>>>;

/// A log that commits at once, remembers everything, and can say what a restart would find.
#[derive(Default)]
struct ScriptLog {
    journal: Journal,
    state: Mutex<LogState>,
}

#[derive(Default)]
struct LogState {
    last: u64,
    epoch: u64,
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bodies by holder and position, with whether they end with a restart.
    held: BTreeMap<(u64, u64), (Vec<u8>, bool)>,
    loads: Vec<Load>,
}

impl ScriptLog {
    fn recovered(&self) -> Recovered {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.held.retain(|_, (_, until_restart)| !*until_restart);
        let mut held: BTreeMap<u64, Held> = BTreeMap::new();
        for &(holder, position) in state.held.keys() {
            let (first, last) = (Position(position), Position(position));
            let held = held.entry(holder).or_insert(Held { holder, first, last, count: 0 });
            held.last = last;
            held.count += 1;
        }
        let held = held.into_values().collect();
        let table = state.table.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        Recovered { epoch: state.epoch, end: Position(state.last + 1), state: table, held }
    }

    fn members(&self, holder: u64, from: Position, end: Position) -> Vec<u64> {
        let state = self.state.lock();
        state.held.range((holder, from.0)..(holder, end.0.max(from.0))).map(|((_, position), _)| *position).collect()
    }

    /// Gives the broker what it asked for, two bodies at a time.
    fn answer(&self, broker: &Broker) -> bool {
        let loads = std::mem::take(&mut self.state.lock().loads);
        for load in &loads {
            let (holder, Wanted { first, end, only }) = (load.queue.id.0, &load.wanted);
            let state = self.state.lock();
            let asked = state.held.range((holder, first.0)..(holder, end.0));
            let asked = asked.filter(|((_, position), _)| only.is_empty() || only.contains(position));
            let bodies: Vec<_> = asked.take(2).map(|((_, position), (body, _))| (*position, body.clone())).collect();
            drop(state);
            self.journal.lock().push(format!("log reads {} for {}", bodies.len(), short(holder)));
            let next = if bodies.len() == 2 { Position(bodies[1].0 + 1) } else { *end };
            broker.loaded(load, Ok(Loaded::new(bodies, next)));
        }
        !loads.is_empty()
    }
}

/// A key; `-` is the empty one.
fn unless_empty(key: &str) -> &str {
    if key == "-" { "" } else { key }
}

/// Words of the form `NAME=VALUE`: whole numbers, truth values, or text.
fn arguments(words: &[&str]) -> Table {
    let pairs = words.iter().filter_map(|word| word.split_once('='));
    let typed = |value: &str| match (value.parse(), value.parse()) {
        (Ok(number), _) => Value::I32(number),
        (Err(_), Ok(truth)) => Value::Bool(truth),
        (Err(_), Err(_)) => Value::from(value),
    };
    Table(pairs.map(|(name, value)| (Name::from(name), typed(value))).collect())
}

/// Queue ids count from the start of their run.
fn short(id: u64) -> u64 {
    id & ((1 << 40) - 1)
}

impl Log for ScriptLog {
    fn append(&self, entries: &[Entry<'_>], durability: Durability) -> Position {
        let mut state = self.state.lock();
        let first = state.last + 1;
        let mut words = Vec::new();
        for entry in entries {
            state.last += 1;
            let sequence = state.last;
            words.push(match *entry {
                Entry::Hold { holders, parts: [head, payload] } => {
                    let body = [head, payload].concat();
                    for (at, holder) in holders.iter().enumerate() {
                        let key = (holder & !UNTIL_RESTART, sequence + at as u64);
                        state.held.insert(key, (body.clone(), holder & UNTIL_RESTART != 0));
                    }
                    state.last += holders.len() as u64 - 1;
                    let until_restart = if holders[0] & UNTIL_RESTART != 0 { " until restart" } else { "" };
                    let holders: Vec<_> = holders.iter().map(|&id| short(id)).collect();
                    format!("hold {holders:?} {:?}{until_restart}", String::from_utf8_lossy(payload))
                }
                Entry::Release { positions, holder } => {
                    for &position in positions {
                        assert!(state.held.remove(&(holder, position)).is_some(), "what is released was held");
                    }
                    format!("release {} by {}", positions.len(), short(holder))
                }
                Entry::Drop { holder, from, before, except } => {
                    let dropped: Vec<_> =
                        state.held.range((holder, from)..(holder, before)).map(|(key, _)| *key).collect();
                    let dropped = dropped.into_iter().filter(|(_, position)| !except.contains(position));
                    let count = dropped.map(|key| state.held.remove(&key)).count();
                    format!("drop {count} by {} but {}", short(holder), except.len())
                }
                Entry::Put { key, value } => {
                    state.table.insert(key.to_vec(), value.to_vec());
                    format!("put {}", char::from(key[0]))
                }
                Entry::Remove { key } => {
                    assert!(state.table.remove(key).is_some(), "what is removed was there");
                    format!("remove {}", char::from(key[0]))
                }
            });
        }
        let unsynced = if durability == Durability::Os { " unsynced" } else { "" };
        self.journal.lock().push(format!("log{unsynced} {}", words.join("; ")));
        Position(first)
    }

    fn committed(&self) -> Position {
        Position(self.state.lock().last)
    }

    fn wake_when_committed(&self, _: &Waker) {}

    fn congested(&self) -> bool {
        false
    }

    fn load(&self, load: Load) {
        self.state.lock().loads.push(load);
    }
}

#[derive(Debug)]
struct ScriptOutlet {
    name: String,
    journal: Journal,
    full: AtomicBool,
    delivered: Mutex<Vec<(u64, Position)>>,
}

impl Outlet for ScriptOutlet {
    fn deliver(&self, delivery: &Delivery<'_>, _: &mut Vec<Waker>) -> Pressure {
        self.delivered.lock().push((delivery.slot, delivery.record));
        let body = String::from_utf8_lossy(delivery.message.payload).into_owned();
        let again = if delivery.redelivered { " again" } else { "" };
        self.journal.lock().push(format!("{} gets {body:?}{again}", self.name));
        if self.full.load(Ordering::Relaxed) { Pressure::High } else { Pressure::Low }
    }

    fn cancelled(&self, _: ConsumerKey, _: &mut Vec<Waker>) {
        self.journal.lock().push(format!("{} is cancelled", self.name));
    }

    fn drain(&self, _: &mut Chunks, _: &Waker) -> bool {
        false
    }

    fn pending_bytes(&self) -> usize {
        0
    }
}

struct World {
    journal: Journal,
    log: Arc<ScriptLog>,
    broker: Arc<Broker>,
    caller: Caller,
    consumers: HashMap<String, (Arc<ScriptOutlet>, Attachment)>,
}

fn run(script: &str) -> String {
    let journal = Journal::default();
    let log = Arc::new(ScriptLog { journal: journal.clone(), ..ScriptLog::default() });
    let broker = Broker::new(Settings::default(), log.clone(), log.recovered()).unwrap();
    broker.add_vhost(&"/".into());
    let all = || Pattern::new(".*").unwrap();
    let permissions = Permissions { configure: all(), write: all(), read: all() };
    broker.put_user(&"u".into(), User { permissions: [("/".into(), permissions)].into(), ..User::default() });
    journal.lock().clear();
    let caller = broker.enter(broker.new_session(), &"u".into(), "/").unwrap();
    let mut world = World { journal, log, broker: Arc::new(broker), caller, consumers: HashMap::new() };
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with('<')) {
        writeln!(out, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            world.step(&command.split_whitespace().collect::<Vec<_>>());
            while world.log.answer(&world.broker) {}
            for effect in world.journal.lock().drain(..) {
                writeln!(out, "< {effect}").unwrap();
            }
        }
    }
    out
}

impl World {
    fn step(&mut self, words: &[&str]) {
        let has = |word| words.contains(&word);
        match words {
            ["queue", name, ..] => {
                let (durable, auto_delete) = (has("durable"), has("auto-delete"));
                let arguments = arguments(words);
                let declaration = QueueDeclaration { durable, auto_delete, arguments, ..QueueDeclaration::default() };
                self.broker.declare_queue(&self.caller, name, declaration).unwrap();
            }
            ["bind", queue, key] => {
                let (destination, source) = (End::Queue(queue), "amq.topic");
                let request = BindingRequest { source, destination, key, arguments: Table::default() };
                self.broker.bind(&self.caller, request).unwrap();
            }
            ["exchange" | "join" | "part" | "route", ..] => self.topology_step(words),
            ["publish", exchange, key, body, ..] => self.publish(exchange.trim_matches('-'), key, body, words),
            ["consume", name, queue, ..] => self.consume(name, queue, words),
            ["settle", name, how, deliveries @ ..] => self.settle(name, how, deliveries),
            ["cancel", name] => self.broker.cancel(&self.caller, &self.consumers[*name].1),
            ["press", name] => self.consumers[*name].0.full.store(true, Ordering::Relaxed),
            ["resume", name] => {
                let (outlet, attachment) = &self.consumers[*name];
                outlet.full.store(false, Ordering::Relaxed);
                self.broker.resume(attachment);
            }
            ["purge", queue] => {
                let (count, _) = self.broker.purge(&self.caller, queue).unwrap();
                self.journal.lock().push(format!("{count} purged"));
            }
            ["delete", queue] => {
                self.broker.delete_queue(&self.caller, queue, DeleteRule::default()).unwrap();
            }
            ["counts", queue] => {
                let counts = self.broker.queue(&self.caller, queue).map(|info| self.broker.counts(&info));
                self.journal.lock().push(match counts {
                    Ok(counts) => {
                        format!("{} ready, {} held, {} consumers", counts.ready, counts.held, counts.consumers)
                    }
                    Err(refusal) => refusal.to_string(),
                });
            }
            ["memory", how] => self.broker.set_tight(*how == "short"),
            ["page-out"] => self.page_out(),
            ["lose"] => self.log.state.lock().held.clear(),
            ["get", queue] => {
                let fetched = self.broker.fetch(&self.caller, queue, true);
                self.journal.lock().push(match fetched {
                    Err(refusal) => refusal.to_string(),
                    Ok(Fetch::Empty) => "nothing".into(),
                    Ok(Fetch::Loading) => "not yet".into(),
                    Ok(Fetch::Message(fetched)) => {
                        format!("{:?}", String::from_utf8_lossy(fetched.queued.message.view().payload))
                    }
                });
            }
            ["restart"] => {
                let broker = Broker::new(Settings::default(), self.log.clone(), self.log.recovered()).unwrap();
                self.caller = broker.enter(broker.new_session(), &"u".into(), "/").unwrap();
                self.broker = Arc::new(broker);
                self.consumers.clear();
            }
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn page_out(&self) {
        let end = Position(self.log.state.lock().last + 1);
        let page_out =
            |holder| self.broker.page_out(holder, end, &mut |from, end| Some(self.log.members(holder, from, end)));
        let count: usize = self.broker.holders_in_memory().into_iter().map(page_out).sum();
        self.journal.lock().push(format!("{count} leave memory"));
    }

    fn topology_step(&self, words: &[&str]) {
        match words {
            ["exchange", name, kind, ..] => self.declare_exchange(name, kind, words),
            [command, exchange, queue, key, ..] if *command != "route" => {
                let destination = queue.strip_prefix('@').map_or(End::Queue(queue), End::Exchange);
                let (source, key) = (*exchange, unless_empty(key));
                let request = BindingRequest { source, destination, key, arguments: arguments(words) };
                self.note_refusal(match *command {
                    "join" => self.broker.bind(&self.caller, request),
                    _ => self.broker.unbind(&self.caller, request),
                });
            }
            [_, exchange, keys, ..] => {
                let keys: Vec<_> = keys.split(',').map(unless_empty).collect();
                let route = self.broker.route(&self.caller, exchange, &keys, &arguments(words)).unwrap();
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
            let arguments = arguments(words);
            let declaration = ExchangeDeclaration { kind, durable, auto_delete, internal, arguments };
            self.broker.declare_exchange(&self.caller, name, declaration)
        }));
    }

    fn note_refusal(&self, result: Result<Position, Refusal>) {
        if let Err(refusal) = result {
            self.journal.lock().push(refusal.to_string());
        }
    }

    fn publish(&self, exchange: &str, key: &str, body: &str, words: &[&str]) {
        let route = self.broker.route(&self.caller, exchange, &[key], &arguments(words)).unwrap();
        let (origin, properties, durable) = (Origin(9), &[][..], words.contains(&"durable"));
        let body = Body::Borrowed { routing_key: key, origin, durable, properties, payload: body.as_bytes() };
        route.remember(&body);
        let mut batch = Batch::default();
        batch.publish(Arc::new(route), body, 0);
        self.broker.apply(&mut batch);
    }

    fn consume(&mut self, name: &str, queue: &str, words: &[&str]) {
        let prefetch = words.iter().find_map(|word| word.strip_prefix("prefetch="));
        let outlet = Arc::new(ScriptOutlet {
            name: name.into(),
            journal: self.journal.clone(),
            full: AtomicBool::new(false),
            delivered: Mutex::default(),
        });
        let consumer = Consumer {
            outlet: outlet.clone(),
            key: ConsumerKey(0),
            session: self.caller.session,
            settles_itself: words.contains(&"settles"),
            exclusive: false,
            prefetch: prefetch.map_or(0, |count| count.parse().unwrap()),
            shared: Arc::new(Credit::default()),
        };
        let attachment = self.broker.consume(&self.caller, queue, consumer).unwrap();
        self.broker.resume(&attachment);
        self.consumers.insert(name.into(), (outlet, attachment));
    }

    fn settle(&self, name: &str, how: &str, deliveries: &[&str]) {
        let (outlet, attachment) = &self.consumers[name];
        let how = match how {
            "accept" => Settlement::Accept,
            "reject" => Settlement::Reject,
            _ => Settlement::Requeue,
        };
        let mut batch = Batch::default();
        for number in deliveries {
            let (slot, record) = outlet.delivered.lock()[number.parse::<usize>().unwrap() - 1];
            batch.settle(&attachment.queue, Some(attachment.consumer), how, slot, record);
        }
        self.broker.apply(&mut batch);
    }
}
