//! Clients that keep a broker busy while it is killed, and write down what they see.
//!
//! A [`Load`] lives as long as the queues do: each [`Load::round`] connects all clients anew, and [`Load::drain`] takes
//! what is left at the end. What they saw is judged by [`crate::checker`].

mod consumer;
mod fates;
mod mqtt;
mod publisher;
mod random;
mod reader;
mod transfers;
mod work;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::checker::{Clock, Event, MessageId, Recorder, Sent, Terms, What, Wishes, write_body};
use crate::raw::{self, Address, Connection, Fields, Happening, method};
use crate::server::Server;
pub use fates::FATES;
pub use mqtt::MqttLoad;
pub use random::Random;
pub use transfers::TransferLoad;
pub use work::WORK;

/// How long clients wait for news before they look around.
const PATIENCE: Duration = Duration::from_millis(50);

const SLEEPER_RUNS: u32 = 3;
/// Fillers rest in one run of so many.
const FILLER_RUNS: u32 = 2;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Where a message is published, the queues that it must reach, and how it is to be published.
struct Target {
    exchange: &'static str,
    key: &'static str,
    queues: &'static [&'static str],
    wish: Wish,
    /// Most bodies are smaller.
    body_bytes: usize,
}

/// What is asked for with each message, at random.
#[derive(Clone, Copy)]
enum Wish {
    Nothing,
    /// A time to live between two numbers of milliseconds.
    Live(usize, usize),
    /// A delay between two numbers of milliseconds.
    Delay(usize, usize),
    /// A priority below a number.
    Priority(usize),
}

impl Wish {
    fn draw(self, random: &mut Random) -> Wishes {
        let mut between = |least: usize, most: usize| Some((least + random.below(most - least)) as u64);
        match self {
            Self::Nothing => Wishes::default(),
            Self::Live(least, most) => Wishes { ttl_ms: between(least, most), ..Wishes::default() },
            Self::Delay(least, most) => Wishes { delay_ms: between(least, most), ..Wishes::default() },
            Self::Priority(end) => Wishes { priority: random.below(end) as u64, ..Wishes::default() },
        }
    }
}

/// What one client does; its place among the roles is its number as a publisher.
#[derive(Clone, Copy)]
enum Role {
    /// Publishes to the targets in turn, with confirms.
    Publisher(&'static [Target]),
    /// Publishes in every other run, as much as the broker takes, so that its queue gets deeper than memory.
    Filler(&'static [Target]),
    /// Publishes when a [`Role::Taker`] rests.
    Giver(&'static [Target]),
    /// Publishes in transactions, and rolls some back.
    Committer(&'static [Target]),
    /// Takes requests; publishes results and acknowledges the requests in one transaction.
    Worker,
    Consumer(consumer::Habit),
    /// Consumes in one run of [`SLEEPER_RUNS`].
    Sleeper(consumer::Habit),
    /// Consumes in the runs in which a [`Role::Giver`] rests.
    Taker(consumer::Habit),
    /// Reads a stream, in every run from its beginning or from where it was in the run before.
    Reader(&'static str, reader::Start),
}

impl Role {
    fn publishes(self) -> bool {
        matches!(self, Self::Publisher(_) | Self::Filler(_) | Self::Giver(_) | Self::Committer(_) | Self::Worker)
    }
}

/// A queue: its name, its arguments, and what they mean.
struct Queue(&'static str, &'static str, Terms);

/// Queues, and the clients that use them.
pub struct Cast {
    queues: &'static [Queue],
    /// Further methods and their fields, which make what the queues need.
    topology: &'static [(&'static str, &'static str)],
    roles: &'static [Role],
    /// How long a message may be on its way between two queues by itself.
    longest_wait: Duration,
}

impl Cast {
    /// The name of a queue, of which one has only text.
    fn queue(&self, name: &str) -> Option<&'static str> {
        self.queues.iter().map(|Queue(queue, ..)| *queue).find(|queue| *queue == name)
    }
}

/// How a round ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By a kill in the middle of everything.
    Abrupt,
    /// Publishers stop and wait for their answers first.
    Quiet,
}

pub struct Load {
    cast: &'static Cast,
    seed: u64,
    run: u32,
    clock: Clock,
    /// By role, because sequence numbers go on over restarts.
    sequences: Vec<u64>,
    events: Vec<Event>,
}

/// What a client has of its own in one round.
struct Client {
    cast: &'static Cast,
    connection: Connection,
    recorder: Recorder,
    random: Random,
    publisher: u16,
    /// The number of the last message that was published, or of the next that is to be read.
    sequence: u64,
    /// Publishers are to stop.
    over: Arc<AtomicBool>,
}

impl Load {
    pub fn new(cast: &'static Cast, seed: u64) -> Self {
        let (clock, sequences) = (Clock::default(), vec![0; cast.roles.len()]);
        let mut recorder = Recorder::new(&clock, "test", 0);
        for Queue(queue, _, terms) in cast.queues {
            recorder.note(What::Declare { queue, terms: *terms });
        }
        Self { cast, seed, run: 0, clock, sequences, events: recorder.into_events() }
    }

    /// Declares the durable topology; a restart must bring it back, so this is for the beginning only.
    pub fn declare(&self, address: &Address) {
        let mut connection = Connection::ready(address);
        for Queue(queue, arguments, _) in self.cast.queues {
            connection.call(1, "queue.declare", &format!("queue={queue} durable arguments={{{arguments}}}"));
        }
        for (method, fields) in self.cast.topology {
            connection.call(1, method, fields);
        }
    }

    /// Connects all clients, lets them work for `length`, kills the broker, and starts it again.
    pub fn round(&mut self, server: &mut Server, length: Duration, ending: Ending) {
        let address = Address::parse(&server.uri());
        let over = Arc::new(AtomicBool::new(false));
        // The first login after a start is slow, on purpose, and the others need not all be first.
        Connection::ready(&address).drop_socket();
        let (ready, readiness) = mpsc::channel();
        let clients: Vec<_> =
            (0..self.cast.roles.len()).map(|role| self.client(role, &address, &ready, &over)).collect();
        for _ in &clients {
            readiness.recv_timeout(CONNECT_LIMIT).expect("every client can connect");
        }
        thread::sleep(length);
        if ending == Ending::Quiet {
            over.store(true, Ordering::Release);
            let publishes = |client: &usize| self.cast.roles[*client].publishes();
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
            // Nothing tells of a message that it still waits to come.
            thread::sleep(self.cast.longest_wait);
            let address = Address::parse(&server.uri());
            // What leaves one queue by itself may come to another that was empty just now.
            while self.drain_queues(&address) && !self.cast.longest_wait.is_zero() {}
            for Queue(stream, ..) in self.cast.queues.iter().filter(|Queue(.., terms)| terms.stream.is_some()) {
                for reader in 1..=2 {
                    let name = format!("reader {reader} of the whole {stream}");
                    let recorder = Recorder::new(&self.clock, &name, self.run);
                    self.events.extend(reader::read_all(self.cast, &address, stream, recorder));
                }
            }
            self.kill(server);
            self.restart(server);
        }
    }

    /// Whether anything was in any queue.
    fn drain_queues(&mut self, address: &Address) -> bool {
        let before = self.events.len();
        for Queue(queue, ..) in self.cast.queues.iter().filter(|Queue(.., terms)| terms.stream.is_none()) {
            let recorder = Recorder::new(&self.clock, &format!("drain of {queue}"), self.run);
            self.events.extend(consumer::drain(self.cast, address, queue, recorder));
        }
        self.events.len() > before
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
        let (cast, sequence, run) = (self.cast, self.sequences[role], self.run);
        thread::spawn(move || {
            let connection = Connection::ready(&address);
            let mut client = Client { cast, connection, recorder, random, publisher, sequence, over };
            ready.send(()).expect("the test waits for its clients");
            match cast.roles[role] {
                Role::Publisher(targets) => publisher::publish(&mut client, targets, &publisher::STEADY),
                Role::Filler(_) | Role::Giver(_) if run.is_multiple_of(FILLER_RUNS) => {}
                Role::Filler(targets) => publisher::publish(&mut client, targets, &publisher::HURRIED),
                Role::Giver(targets) => publisher::publish(&mut client, targets, &publisher::STEADY),
                Role::Committer(targets) => worker::commit(&mut client, targets),
                Role::Worker => worker::work(&mut client),
                Role::Sleeper(_) if !run.is_multiple_of(SLEEPER_RUNS) => {}
                Role::Taker(_) if !run.is_multiple_of(FILLER_RUNS) => {}
                Role::Consumer(habit) | Role::Sleeper(habit) | Role::Taker(habit) => {
                    consumer::consume(&mut client, habit);
                }
                Role::Reader(stream, start) => reader::read(&mut client, stream, start),
            }
            client
        })
    }
}

impl Client {
    fn only_taking(cast: &'static Cast, address: &Address, recorder: Recorder) -> Self {
        let (connection, random) = (Connection::ready(address), Random::new(0));
        Self { cast, connection, recorder, random, publisher: 0, sequence: 0, over: Arc::default() }
    }

    /// Most are small, and some are of many frames.
    fn publish(&mut self, target: &Target, sent: Sent) {
        self.sequence += 1;
        let message = MessageId { publisher: self.publisher, sequence: self.sequence };
        let filler = if self.random.one_in(300) { 200_000 } else { self.random.below(target.body_bytes) };
        let body = write_body(message, filler);
        let wishes = target.wish.draw(&mut self.random);
        let mut fields = Fields::default().with("exchange", target.exchange).with("routing_key", target.key);
        if let Some(ttl) = wishes.ttl_ms {
            fields = fields.with("expiration", ttl.to_string());
        }
        if let Some(delay) = wishes.delay_ms {
            fields = fields.with("headers", format!("{{x-delay=I:{delay}}}"));
        }
        if wishes.priority > 0 {
            fields = fields.with("priority", wishes.priority.to_string());
        }
        self.recorder.note(What::Publish { message, queues: target.queues, sent, wishes });
        self.connection.publish(1, &fields.with("delivery_mode", "2"), &body);
    }

    /// Sends a method and waits for its reply; whether the connection is still there. The kill may come before everybody
    /// has begun.
    fn ask(&mut self, name: &str, fields: &str) -> bool {
        self.connection.send(1, name, &Fields::parse(fields));
        loop {
            let event = self.connection.next(raw::PATIENCE);
            if is_gone(&event.happening) {
                return false;
            }
            match event.method_name() {
                Some(answer) if method::answers(name, answer) => return true,
                Some("connection.blocked" | "connection.unblocked") => {}
                _ => panic!("{name} {fields} was answered by {event}"),
            }
        }
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
