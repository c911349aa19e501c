//! Clients that keep a broker busy while it is killed, and write down what they see.
//!
//! A [`Load`] lives as long as the queues do: each [`Load::round`] connects all clients anew, and [`Load::drain`] takes
//! what is left at the end. What they saw is judged by [`crate::checker`].

mod consumer;
mod publisher;
mod random;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::checker::{Clock, Event, MessageId, Recorder, Sent, What, write_body};
use crate::raw::{Address, Connection, Fields, Happening};
use crate::server::Server;
pub use random::Random;

/// How long clients wait for news before they look around.
const PATIENCE: Duration = Duration::from_millis(50);

const SLEEPER_RUNS: u32 = 3;
/// Fillers rest in one run of so many.
const FILLER_RUNS: u32 = 2;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Where a message is published, and the queues that it must reach.
struct Target {
    exchange: &'static str,
    key: &'static str,
    queues: &'static [&'static str],
}

const NEWS: Target = Target { exchange: "crash.news", key: "", queues: &["news.read", "news.kept"] };
const WORK: Target = Target { exchange: "", key: "work", queues: &["work"] };
const ORDERS: Target = Target { exchange: "", key: "orders", queues: &["orders"] };
const REQUESTS: Target = Target { exchange: "", key: "requests", queues: &["requests"] };
const DEEP: Target = Target { exchange: "", key: "deep", queues: &["deep"] };
const RESULTS: Target = Target { exchange: "", key: "results", queues: &["results"] };

const QUEUES: [&str; 7] = ["work", "orders", "requests", "results", "news.read", "news.kept", "deep"];

/// What one client does; its place among the roles is its number as a publisher.
#[derive(Clone, Copy)]
enum Role {
    /// Publishes to the targets in turn, with confirms.
    Publisher(&'static [Target]),
    /// Publishes in every other run, as much as the broker takes, so that its queue gets deeper than memory.
    Filler(&'static [Target]),
    /// Publishes in transactions, and rolls some back.
    Committer(&'static [Target]),
    /// Takes requests; publishes results and acknowledges the requests in one transaction.
    Worker,
    Consumer(consumer::Habit),
    /// Consumes in one run of [`SLEEPER_RUNS`].
    Sleeper(consumer::Habit),
}

const ROLES: [Role; 15] = [
    Role::Publisher(&[WORK, NEWS]),
    Role::Publisher(&[ORDERS, WORK]),
    Role::Publisher(&[REQUESTS, NEWS]),
    Role::Publisher(&[REQUESTS, RESULTS, WORK]),
    Role::Committer(&[ORDERS, NEWS]),
    Role::Worker,
    Role::Worker,
    Role::Consumer(consumer::Habit { queue: "work", ack: consumer::Ack::Each, requeue_one_in: 10 }),
    Role::Consumer(consumer::Habit { queue: "work", ack: consumer::Ack::Each, requeue_one_in: 25 }),
    Role::Consumer(consumer::Habit { queue: "orders", ack: consumer::Ack::Many(10), requeue_one_in: 0 }),
    Role::Consumer(consumer::Habit { queue: "results", ack: consumer::Ack::Each, requeue_one_in: 20 }),
    Role::Consumer(consumer::Habit { queue: "news.read", ack: consumer::Ack::Commit(20), requeue_one_in: 0 }),
    // Its queue is taken from in one run of three, so that messages survive several kills.
    Role::Sleeper(consumer::Habit { queue: "news.kept", ack: consumer::Ack::Commit(5), requeue_one_in: 0 }),
    Role::Filler(&[DEEP]),
    Role::Sleeper(consumer::Habit { queue: "deep", ack: consumer::Ack::Each, requeue_one_in: 50 }),
];

/// How a round ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a kill in the middle of everything.
    Abrupt,
    /// Publishers stop and wait for their answers first.
    Quiet,
}

pub struct Load {
    seed: u64,
    run: u32,
    clock: Clock,
    /// By role, because sequence numbers go on over restarts.
    sequences: [u64; ROLES.len()],
    events: Vec<Event>,
}

/// What a client has of its own in one round.
struct Client {
    connection: Connection,
    recorder: Recorder,
    random: Random,
    publisher: u16,
    sequence: u64,
    /// Publishers are to stop.
    over: Arc<AtomicBool>,
}

impl Load {
    pub fn new(seed: u64) -> Self {
        Self { seed, run: 0, clock: Clock::default(), sequences: [0; ROLES.len()], events: Vec::new() }
    }

    /// Declares the durable topology; a restart must bring it back, so this is for the beginning only.
    pub fn declare(address: &Address) {
        let mut connection = Connection::ready(address);
        for queue in QUEUES {
            connection.call(1, "queue.declare", &format!("queue={queue} durable"));
        }
        connection.call(1, "exchange.declare", "exchange=crash.news type=fanout durable");
        for queue in NEWS.queues {
            connection.call(1, "queue.bind", &format!("queue={queue} exchange=crash.news"));
        }
    }

    /// Connects all clients, lets them work for `length`, kills the broker, and starts it again.
    pub fn round(&mut self, server: &mut Server, length: Duration, ending: Ending) {
        let address = Address::parse(&server.uri());
        let over = Arc::new(AtomicBool::new(false));
        // The first login after a start is slow, on purpose, and the others need not all be first.
        Connection::ready(&address).drop_socket();
        let (ready, readiness) = mpsc::channel();
        let clients: Vec<_> = (0..ROLES.len()).map(|role| self.client(role, &address, &ready, &over)).collect();
        for _ in &clients {
            readiness.recv_timeout(CONNECT_LIMIT).expect("every client can connect");
        }
        thread::sleep(length);
        if ending == Ending::Quiet {
            over.store(true, Ordering::Release);
            let publishes = |client: &usize| !matches!(ROLES[*client], Role::Consumer(_) | Role::Sleeper(_));
            while (0..clients.len()).filter(publishes).any(|client| !clients[client].is_finished()) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill(server);
        for (role, client) in clients.into_iter().enumerate() {
            let client = client.join().unwrap_or_else(|_| panic!("client {role} has panicked"));
            self.sequences[role] = client.sequence;
            self.events.extend(client.recorder.into_events());
        }
        self.restart(server);
    }

    /// Takes and acknowledges all that is left, and lets the broker prove that it has remembered the acknowledgements.
    pub fn drain(&mut self, server: &mut Server) {
        for _ in 0..2 {
            let address = Address::parse(&server.uri());
            for queue in QUEUES {
                let recorder = Recorder::new(&self.clock, &format!("drain of {queue}"), self.run);
                self.events.extend(consumer::drain(&address, queue, recorder));
            }
            self.kill(server);
            self.restart(server);
        }
    }

    /// The history so far; to be judged after a drain.
    pub fn history(&self) -> Vec<Event> {
        self.events.clone()
    }

    fn kill(&mut self, server: &mut Server) {
        server.kill();
        let mut recorder = Recorder::new(&self.clock, "test", self.run);
        recorder.note(What::Killed);
        self.events.extend(recorder.into_events());
        self.run += 1;
    }

    /// Every fifth time the broker is killed once more as soon as it has recovered, before anybody has said a word.
    fn restart(&mut self, server: &mut Server) {
        server.restart();
        if self.run.is_multiple_of(5) {
            self.kill(server);
            server.restart();
        }
    }

    fn client(&self, role: usize, address: &Address, ready: &Sender<()>, over: &Arc<AtomicBool>) -> JoinHandle<Client> {
        let (address, ready, over) = (address.clone(), ready.clone(), Arc::clone(over));
        let publisher = u16::try_from(role).expect("there are few roles");
        let random = Random::new(self.seed ^ u64::from(self.run) << 32 ^ u64::from(publisher) << 16);
        let recorder = Recorder::new(&self.clock, &format!("client {role}"), self.run);
        let (sequence, run) = (self.sequences[role], self.run);
        thread::spawn(move || {
            let connection = Connection::ready(&address);
            let mut client = Client { connection, recorder, random, publisher, sequence, over };
            ready.send(()).expect("the test waits for its clients");
            match ROLES[role] {
                Role::Publisher(targets) => publisher::publish(&mut client, targets, &publisher::STEADY),
                Role::Filler(_) if run.is_multiple_of(FILLER_RUNS) => {}
                Role::Filler(targets) => publisher::publish(&mut client, targets, &publisher::HURRIED),
                Role::Committer(targets) => worker::commit(&mut client, targets),
                Role::Worker => worker::work(&mut client),
                Role::Sleeper(_) if !run.is_multiple_of(SLEEPER_RUNS) => {}
                Role::Consumer(habit) | Role::Sleeper(habit) => consumer::consume(&mut client, habit),
            }
            client
        })
    }
}

impl Client {
    /// Most are small, and some are of many frames.
    fn publish(&mut self, target: &Target, sent: Sent) {
        self.sequence += 1;
        let message = MessageId { publisher: self.publisher, sequence: self.sequence };
        let filler = if self.random.one_in(300) { 200_000 } else { self.random.below(600) };
        let body = write_body(message, filler);
        let fields = Fields::default().with("exchange", target.exchange).with("routing_key", target.key);
        self.recorder.note(What::Publish { message, queues: target.queues, sent });
        self.connection.publish(1, &fields.with("delivery_mode", "2"), &body);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn settle(&mut self, name: &str, tag: u64, option: &str) {
        let fields = Fields::default().with("delivery_tag", tag.to_string());
        let fields = if option.is_empty() { fields } else { fields.with(option, "1") };
        self.connection.send(1, name, &fields);
    }
}

/// Whether the connection is gone. Anything else that ends a channel is a broker's error that no kill explains.
fn is_gone(happening: &Happening) -> bool {
    if let Happening::Method(method) = happening {
        let ends = matches!(method.name, "channel.close" | "connection.close" | "basic.cancel");
        assert!(!ends, "the broker sent {}: {}", method.name, method.text("reply_text"));
    }
    assert!(!matches!(happening, Happening::Garbage(_)), "the broker sent garbage");
    matches!(happening, Happening::Closed)
}
