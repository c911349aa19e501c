//! JMS clients that send tokens from queue to queue in transactions, local ones and branches of a transaction manager's, while the
//! broker is killed. What they saw is judged by [`crate::checker::transfers`].

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Ending, PATIENCE, Random};
use crate::checker::transfers::{History, Hops, Outcome, Transfer};
use crate::openwire::{Connection, Destination, Failure, Message, Step, Transaction};
use crate::server::Server;

const QUEUES: [&str; 2] = ["transfers.a", "transfers.b"];
const TOKENS: u64 = 400;
/// Half of them take from the one queue, and half from the other.
const WORKERS: usize = 6;
/// Tokens that a transaction sends on at most.
const MOST: usize = 4;
const PREFETCH: u32 = 20;

/// How long nothing may come before a queue counts as empty.
const EMPTY: Duration = Duration::from_millis(500);

pub struct TransferLoad {
    seed: u64,
    run: u32,
    history: History,
}

struct Worker {
    connection: Connection,
    /// The queue that it sends to.
    to: Destination,
    random: Random,
    run: u32,
    /// Tokens that it has, because a transaction was rolled back.
    held: VecDeque<Message>,
    transfers: Vec<Transfer>,
    /// The name of its next transaction.
    next: u64,
    number: usize,
}

fn place(server: &Server) -> SocketAddr {
    server.places_of("openwire").next().expect("the broker listens for OpenWire")
}

fn message(to: &Destination, token: u64, hops: Hops) -> Message {
    let content = [&token.to_be_bytes()[..], &hops.to_be_bytes()].concat();
    // A bytes message.
    Message {
        kind: 24,
        destination: Some(to.clone()),
        persistent: true,
        priority: 4,
        content: Some(content),
        ..Message::default()
    }
}

fn token(message: &Message) -> (u64, Hops) {
    let content = message.content.as_deref().expect("a token has a body");
    let number = |at: usize| u64::from_be_bytes(content[at..at + 8].try_into().expect("eight bytes"));
    (number(0), number(8))
}

impl TransferLoad {
    pub fn new(seed: u64) -> Self {
        Self { seed, run: 0, history: History { tokens: TOKENS, ..History::default() } }
    }

    /// Puts all tokens into the first queue.
    pub fn declare(&mut self, server: &Server) {
        let mut connection = Connection::open(place(server), "declare");
        (0..TOKENS).for_each(|token| connection.send(&message(&Destination::queue(QUEUES[0]), token, 0)));
    }

    /// Lets workers work for `length`, kills the broker, starts it again, and decides what is prepared.
    pub fn round(&mut self, server: &mut Server, length: Duration, ending: Ending) {
        let (address, over) = (place(server), Arc::new(AtomicBool::new(false)));
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (seed, run, over) = (self.seed ^ u64::from(self.run) << 32, self.run, Arc::clone(&over));
                thread::spawn(move || work(address, number, Random::new(seed ^ (number as u64) << 16), run, &over))
            })
            .collect();
        thread::sleep(length);
        if ending == Ending::Quiet {
            over.store(true, Ordering::Release);
        } else {
            server.kill();
            self.history.kills += 1;
        }
        for (number, worker) in workers.into_iter().enumerate() {
            self.history.transfers.extend(worker.join().unwrap_or_else(|_| panic!("worker {number} has panicked")));
        }
        if ending == Ending::Quiet {
            server.kill();
            self.history.kills += 1;
        }
        self.run += 1;
        server.restart();
        self.decide(server);
    }

    /// Commits or rolls back what is prepared, as a transaction manager does that has come back.
    fn decide(&mut self, server: &Server) {
        let mut connection = Connection::open(place(server), "manager");
        let told: BTreeSet<Vec<u8>> = connection.recover().expect("the broker tells").into_iter().collect();
        let mut random = Random::new(self.seed ^ u64::from(self.run) << 40);
        let mut unknown = told.clone();
        for transfer in &mut self.history.transfers {
            let Some(branch) = &transfer.branch else { continue };
            if !told.contains(branch) {
                if transfer.outcome == Outcome::Prepared {
                    self.history.forgotten.push(branch.clone());
                    transfer.outcome = Outcome::Unknown;
                }
                continue;
            }
            unknown.remove(branch);
            let name = Transaction::Xa(branch.clone());
            if matches!(transfer.outcome, Outcome::Committed | Outcome::RolledBack) {
                self.history.invented.push(branch.clone());
                continue;
            }
            transfer.was_prepared = true;
            (transfer.outcome, _) = if random.one_in(2) {
                (
                    Outcome::Committed,
                    connection.step(&name, Step::CommitTwoPhases).expect("a commit of what is prepared"),
                )
            } else {
                (Outcome::RolledBack, connection.step(&name, Step::Rollback).expect("a rollback of what is prepared"))
            };
        }
        self.history.invented.extend(unknown);
    }

    /// Takes all that is left, and returns the history.
    pub fn drain(&mut self, server: &Server) -> History {
        let mut left = Vec::new();
        for queue in QUEUES {
            let mut connection = Connection::open(place(server), "drain");
            connection.consume(&Destination::queue(queue), PREFETCH).expect("a consumer");
            while let Some(message) = connection.next(EMPTY).expect("the broker is there") {
                connection.acknowledge(None, &message).expect("an acknowledgement is taken");
                left.push(token(&message));
            }
        }
        History { left, ..self.history.clone() }
    }
}

/// Works until the broker is gone, or it is over.
fn work(address: SocketAddr, number: usize, random: Random, run: u32, over: &AtomicBool) -> Vec<Transfer> {
    let (from, to) = (QUEUES[number % 2], QUEUES[1 - number % 2]);
    let Ok(mut connection) = Connection::attempt(address, &format!("worker-{number}")) else { return Vec::new() };
    if connection.consume(&Destination::queue(from), PREFETCH).is_err() {
        return Vec::new();
    }
    let (held, transfers, to) = (VecDeque::new(), Vec::new(), Destination::queue(to));
    let mut worker = Worker { connection, to, random, run, held, transfers, next: 0, number };
    while !over.load(Ordering::Acquire) {
        match worker.transaction() {
            Ok(()) => {}
            Err(Failure::Gone) => break,
            Err(Failure::Refused(reason)) => panic!("a step is refused: {reason}"),
        }
    }
    worker.transfers
}

impl Worker {
    fn transaction(&mut self) -> Result<(), Failure> {
        self.next += 1;
        let branch = self.random.one_in(2).then(|| format!("{}-{}-{}", self.run, self.number, self.next).into_bytes());
        let name = branch.clone().map_or(Transaction::Local(self.next), Transaction::Xa);
        let is_branch = branch.is_some();
        self.connection.step(&name, Step::Begin)?;
        let place = self.transfers.len();
        let (run, tokens, outcome) = (self.run, Vec::new(), Outcome::Unknown);
        self.transfers.push(Transfer { run, branch, tokens, outcome, was_prepared: false });
        let mut taken = Vec::new();
        for _ in 0..=self.random.below(MOST) {
            let message = match self.held.pop_front() {
                Some(message) => message,
                None => match self.connection.next(PATIENCE)? {
                    Some(message) => message,
                    None => break,
                },
            };
            self.connection.acknowledge(Some(&name), &message)?;
            let (token, hops) = token(&message);
            self.transfers[place].tokens.push((token, hops + 1));
            self.connection.send_in(&name, &self::message(&self.to, token, hops + 1))?;
            taken.push(message);
        }
        if is_branch {
            self.connection.step(&name, Step::End)?;
        }
        self.transfers[place].outcome = if is_branch && !taken.is_empty() && self.random.one_in(2) {
            self.connection.step(&name, Step::Prepare)?;
            self.transfers[place].outcome = Outcome::Prepared;
            match self.random.below(8) {
                // It is left for the transaction manager.
                0 => return Ok(()),
                1 => self.roll_back(&name, place, taken)?,
                _ => self.commit(&name, place, Step::CommitTwoPhases)?,
            }
        } else if self.random.one_in(5) {
            self.roll_back(&name, place, taken)?
        } else {
            self.commit(&name, place, Step::CommitOnePhase)?
        };
        Ok(())
    }

    fn commit(&mut self, name: &Transaction, place: usize, step: Step) -> Result<Outcome, Failure> {
        // From here on until there is an answer, nobody knows.
        self.transfers[place].outcome = Outcome::Unknown;
        self.connection.step(name, step)?;
        Ok(Outcome::Committed)
    }

    /// What it has taken, it has again.
    fn roll_back(&mut self, name: &Transaction, place: usize, taken: Vec<Message>) -> Result<Outcome, Failure> {
        self.transfers[place].outcome = Outcome::Unknown;
        self.connection.step(name, Step::Rollback)?;
        taken.into_iter().rev().for_each(|message| self.held.push_front(message));
        Ok(Outcome::RolledBack)
    }
}
