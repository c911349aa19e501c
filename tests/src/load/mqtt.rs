//! MQTT clients that keep a broker busy while it is killed, each with a session that outlives connections and kills.
//!
//! A [`MqttLoad`] lives as long as the sessions do; rounds and the drain are those of [`super::Load`]. What the clients saw
//! is judged by [`crate::checker::mqtt`].

mod amqp;
mod onlooker;
mod publisher;
mod subscriber;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{CONNECT_LIMIT, Ending, PATIENCE, Random, SLEEPER_RUNS};
use crate::checker::mqtt::{Event, Notes, What};
use crate::checker::{Clock, MessageId};
use crate::mqtt::{Connection, Happening, Packet, Publish, Session, Taken, Version};
use crate::raw::Address;
use crate::server::Server;

const ALL: &str = "crash/#";
const A: &str = "crash/a";
const C: &str = "crash/b/c";
const D: &str = "crash/b/d";
const BELOW_B: &str = "crash/b/+";
/// Each message comes to one of those who subscribe.
const SHARED: &str = "$share/group/crash/a";
/// Retained messages, which nobody gets but by asking for them; now and then they are cleared.
const STATES: &str = "state/+";
/// Always retained, and the last that an onlooker gets.
const KEPT: &str = "crash/kept";
const RETAINED: &[&str] = &["state/x", "state/y", "state/z", KEPT];

enum Role {
    Publisher(publisher::Habit),
    Subscriber(subscriber::Habit),
    /// Consumes, by AMQP, from a durable queue that is bound to where MQTT publishes.
    Amqp,
}

const fn publisher(topics: &'static [&'static str], least_qos: u8, most_qos: u8) -> publisher::Habit {
    publisher::Habit { topics, least_qos, most_qos, retain: false }
}

const fn subscriber(filter: &'static str, qos: u8) -> subscriber::Habit {
    subscriber::Habit { filter, qos, since: 0, sleeps: false }
}

/// Each with its version. Its place is its number as a publisher.
const ROLES: [(Version, Role); 16] = [
    (Version::V5, Role::Publisher(publisher(&[A, C], 1, 1))),
    (Version::V311, Role::Publisher(publisher(&[A, D], 2, 2))),
    (Version::V5, Role::Publisher(publisher(&[C, D, A], 1, 2))),
    (Version::V311, Role::Publisher(publisher(&[A, C, D], 1, 2))),
    (Version::V5, Role::Publisher(publisher::Habit { retain: true, ..publisher(RETAINED, 1, 2) })),
    (Version::V5, Role::Subscriber(subscriber(ALL, 2))),
    (Version::V311, Role::Subscriber(subscriber(ALL, 1))),
    (Version::V311, Role::Subscriber(subscriber(A, 2))),
    (Version::V5, Role::Subscriber(subscriber::Habit { sleeps: true, ..subscriber(BELOW_B, 2) })),
    (Version::V5, Role::Subscriber(subscriber::Habit { sleeps: true, ..subscriber(A, 1) })),
    (Version::V5, Role::Subscriber(subscriber(SHARED, 2))),
    (Version::V311, Role::Subscriber(subscriber(SHARED, 2))),
    // These subscribe while everything is going on, and may be told of it or not.
    (Version::V5, Role::Subscriber(subscriber::Habit { since: 2, ..subscriber(BELOW_B, 2) })),
    (Version::V311, Role::Subscriber(subscriber::Habit { since: 4, ..subscriber(D, 2) })),
    (Version::V5, Role::Subscriber(subscriber::Habit { since: 7, ..subscriber(C, 1) })),
    (Version::V311, Role::Amqp),
];

/// Messages that a subscriber of MQTT 5 has unacknowledged at most.
const RECEIVE_MAXIMUM: u16 = 40;

/// How long all together may take to get what is left.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The publisher of the messages that say that there are no more before them.
const LAST: u16 = u16::MAX;

pub struct MqttLoad {
    seed: u64,
    run: u32,
    clock: Clock,
    /// By role.
    members: Vec<Member>,
    events: Vec<Event>,
}

/// What a client keeps over runs.
struct Member {
    session: Session,
    /// The number of the last message that was published.
    sequence: u64,
    /// Whether the broker has said so.
    is_subscribed: bool,
}

/// A client in one round.
struct Client {
    member: Member,
    address: SocketAddr,
    notes: Notes,
    random: Random,
    publisher: u16,
    /// Publishers are to stop.
    over: Arc<AtomicBool>,
    /// Told once the client is connected.
    ready: Option<Sender<()>>,
}

/// Where the broker is.
fn place(server: &Server) -> SocketAddr {
    server.places_of("mqtt").next().expect("the broker listens for MQTT")
}

impl MqttLoad {
    pub fn new(seed: u64) -> Self {
        let member = |(number, (version, _)): (usize, &(Version, Role))| {
            let session = Session::new(&format!("crash-{number}"), *version, RECEIVE_MAXIMUM);
            Member { session, sequence: 0, is_subscribed: false }
        };
        let members = ROLES.iter().enumerate().map(member).collect();
        Self { seed, run: 0, clock: Clock::default(), members, events: Vec::new() }
    }

    /// Makes what is there from the beginning: sessions, the queue, and a retained message.
    pub fn declare(&mut self, server: &Server) {
        let over = Arc::new(AtomicBool::new(true));
        for (number, (_, role)) in ROLES.iter().enumerate() {
            let mut client = self.client(number, place(server), None, &over);
            match role {
                Role::Subscriber(habit) if habit.since == 0 => subscriber::declare(&mut client, habit),
                Role::Amqp => amqp::declare(&mut client, &Address::parse(&server.uri())),
                Role::Publisher(habit) if habit.retain => drop(publisher::publish_each(&mut client, &[KEPT], true)),
                Role::Publisher(_) | Role::Subscriber(_) => {}
            }
            self.take_back(number, client);
        }
    }

    /// Looks at what is retained, connects all clients, lets them work for `length`, kills the broker, and starts it
    /// again.
    pub fn round(&mut self, server: &mut Server, length: Duration, ending: Ending) {
        let (address, amqp) = (place(server), Address::parse(&server.uri()));
        self.look(address);
        let over = Arc::new(AtomicBool::new(false));
        let (ready, readiness) = mpsc::channel();
        let clients: Vec<_> = (0..ROLES.len())
            .map(|number| {
                let client = self.client(number, address, Some(ready.clone()), &over);
                work(client, &ROLES[number].1, self.run, amqp.clone())
            })
            .collect();
        for _ in &clients {
            readiness.recv_timeout(CONNECT_LIMIT).expect("every client can connect");
        }
        thread::sleep(length);
        if ending == Ending::Quiet {
            over.store(true, Ordering::Release);
            let publishes = |number: &usize| matches!(ROLES[*number].1, Role::Publisher(_));
            while (0..clients.len()).filter(publishes).any(|number| !clients[number].is_finished()) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        self.kill(server);
        for (number, client) in clients.into_iter().enumerate() {
            let client = client.join().unwrap_or_else(|_| panic!("client {number} has panicked"));
            self.take_back(number, client);
        }
        self.restart(server);
    }

    /// Has every session get all that is left, and again after a kill, so that the broker proves that it has remembered
    /// what was acknowledged.
    pub fn drain(&mut self, server: &mut Server) {
        for _ in 0..2 {
            let address = place(server);
            self.look(address);
            let last = self.publish_last(address);
            let end = Instant::now() + DRAIN_LIMIT;
            let over = Arc::new(AtomicBool::new(true));
            for (number, (_, role)) in ROLES.iter().enumerate() {
                let mut client = self.client(number, address, None, &over);
                match role {
                    // Who was never told that it has subscribed may have nothing to get.
                    Role::Subscriber(_) if !client.member.is_subscribed => {}
                    Role::Subscriber(habit) => subscriber::drain(&mut client, habit, &last, end),
                    Role::Amqp => amqp::drain(&mut client, &Address::parse(&server.uri()), &last, end),
                    Role::Publisher(_) => {}
                }
                self.take_back(number, client);
            }
            self.kill(server);
            self.restart(server);
        }
    }

    /// The history so far; to be judged after a drain.
    pub fn history(&self) -> Vec<Event> {
        self.events.clone()
    }

    fn look(&mut self, address: SocketAddr) {
        let mut notes = Notes::new(&self.clock, "onlooker", self.run);
        onlooker::look(address, self.run, &mut notes);
        self.events.extend(notes.into_events());
    }

    /// Publishes a last message to each topic that subscribers have.
    fn publish_last(&mut self, address: SocketAddr) -> Vec<(&'static str, MessageId)> {
        let member = Member {
            session: Session::new("crash-last", Version::V5, RECEIVE_MAXIMUM),
            // Each drain has messages of its own.
            sequence: u64::from(self.run) << 8,
            is_subscribed: false,
        };
        let notes = Notes::new(&self.clock, "last", self.run);
        let (random, over) = (Random::new(0), Arc::new(AtomicBool::new(true)));
        let mut client = Client { member, address, notes, random, publisher: LAST, over, ready: None };
        let last = publisher::publish_each(&mut client, &[A, C, D], false);
        self.events.extend(client.notes.into_events());
        last
    }

    fn kill(&mut self, server: &mut Server) {
        server.kill();
        let mut notes = Notes::new(&self.clock, "test", self.run);
        notes.note(What::Killed);
        self.events.extend(notes.into_events());
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

    fn client(
        &mut self,
        number: usize,
        address: SocketAddr,
        ready: Option<Sender<()>>,
        over: &Arc<AtomicBool>,
    ) -> Client {
        let publisher = u16::try_from(number).expect("there are few roles");
        let nobody = Member { session: Session::new("", Version::V5, 0), sequence: 0, is_subscribed: false };
        Client {
            member: std::mem::replace(&mut self.members[number], nobody),
            address,
            notes: Notes::new(&self.clock, &format!("client {number}"), self.run),
            random: Random::new(self.seed ^ u64::from(self.run) << 32 ^ u64::from(publisher) << 16),
            publisher,
            over: Arc::clone(over),
            ready,
        }
    }

    fn take_back(&mut self, number: usize, client: Client) {
        self.members[number] = client.member;
        self.events.extend(client.notes.into_events());
    }
}

fn work(mut client: Client, role: &'static Role, run: u32, amqp: Address) -> JoinHandle<Client> {
    thread::spawn(move || {
        match role {
            Role::Publisher(habit) => publisher::publish(&mut client, habit),
            Role::Subscriber(habit) if run < habit.since || habit.sleeps && !run.is_multiple_of(SLEEPER_RUNS) => {}
            Role::Subscriber(habit) => subscriber::consume(&mut client, habit),
            Role::Amqp => amqp::consume(&mut client, &amqp),
        }
        client.is_ready();
        client
    })
}

impl Client {
    fn is_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            ready.send(()).expect("the test waits for its clients");
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Connects, and takes the session up; nothing if the broker is gone.
    fn open(&mut self) -> Option<Connection> {
        let opened = self.member.session.open(self.address)?;
        self.notes.note(What::Connected { session_present: opened.session_present });
        for sequence in opened.resent {
            self.notes.note(What::Resent { message: MessageId { publisher: self.publisher, sequence } });
        }
        Some(opened.connection)
    }

    /// Ends the connection, in order or not, and comes back; nothing if the broker is gone.
    fn come_back(&mut self, mut connection: Connection) -> Option<Connection> {
        if self.random.one_in(2) {
            connection.say_goodbye();
        } else {
            connection.cut();
        }
        self.open()
    }

    /// The connection has ended by itself. If the broker is there nevertheless, there was no reason for that.
    fn note_end(&mut self) {
        if self.open().is_some() {
            self.notes.note(What::Dropped);
        }
    }

    /// Waits for a packet; `Err` if the connection is gone.
    fn next(&mut self, connection: &mut Connection, patience: Duration) -> Result<Option<Packet>, Gone> {
        match connection.next(patience) {
            Happening::Packet(packet) => Ok(Some(packet)),
            Happening::Silence => Ok(None),
            Happening::Closed => {
                self.note_end();
                Err(Gone)
            }
        }
    }

    fn note_unexpected(&mut self, packet: &Taken) {
        self.notes.note(What::Unexpected { packet: format!("{packet:?}") });
    }

    fn note_unreadable(&mut self, topic: &str, body: &[u8]) {
        let beginning = body.iter().take(60).copied().collect::<Vec<u8>>().escape_ascii().to_string();
        self.notes.note(What::Unreadable { topic: topic.to_owned(), beginning });
    }
}

/// The broker has gone.
struct Gone;
