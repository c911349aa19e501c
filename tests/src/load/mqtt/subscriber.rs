//! Subscribers with sessions that stay, which acknowledge late, leave, and come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Client, Connection, Gone, PATIENCE, Publish};
use crate::checker::mqtt::What;
use crate::checker::{MessageId, read_body};
use crate::mqtt::{self, Taken};

pub(super) struct Habit {
    pub filter: &'static str,
    pub qos: u8,
    /// The run in which it comes for the first time.
    pub since: u32,
    /// Whether it is there in one run of three alone.
    pub sleeps: bool,
}

/// It ends its connection after one packet in so many.
const CUT_ONE_IN: usize = 120;
/// Messages that are acknowledged together, at most. Fewer than the broker sends without an acknowledgement.
const HELD: usize = 12;
/// Which of those who share a subscription gets the last message is open, so they wait for silence.
const SILENCE: Duration = Duration::from_millis(200);

/// A subscriber on a connection.
struct Subscriber<'c> {
    client: &'c mut Client,
    habit: &'c Habit,
    connection: Connection,
    /// What has come and is not acknowledged.
    held: Vec<Publish>,
    /// What must come before it is content.
    wanted: BTreeSet<MessageId>,
}

/// Subscribes, and leaves in order.
pub(super) fn declare(client: &mut Client, habit: &Habit) {
    let mut subscriber = Subscriber::open(client, habit).expect("nobody kills the broker yet");
    let end = Instant::now() + mqtt::PATIENCE;
    while !subscriber.client.member.is_subscribed {
        assert!(Instant::now() < end, "{} has no answer to SUBSCRIBE", subscriber.client.member.session.client_id);
        assert!(subscriber.step(PATIENCE).is_ok(), "nobody kills the broker yet");
    }
    subscriber.connection.say_goodbye();
}

/// Until the broker is gone.
pub(super) fn consume(client: &mut Client, habit: &Habit) {
    let Some(mut subscriber) = Subscriber::open(client, habit) else { return };
    subscriber.client.is_ready();
    loop {
        // Whoever waits for more while enough is there may wait for ever.
        let at_most = 1 + subscriber.client.random.below(HELD);
        while subscriber.held.len() < at_most {
            match subscriber.step(PATIENCE) {
                Err(Gone) => return,
                Ok(false) => break,
                Ok(true) => {}
            }
            if subscriber.client.random.one_in(CUT_ONE_IN) && subscriber.come_back().is_err() {
                return;
            }
        }
        subscriber.acknowledge();
    }
}

/// Takes all that there is before some messages, and these. If they don't come in time, the checker says so.
pub(super) fn drain(client: &mut Client, habit: &Habit, last: &[(&str, MessageId)], end: Instant) {
    let mut subscriber = Subscriber::open(client, habit).expect("nobody kills the broker in a drain");
    let is_mine = |topic: &str| match habit.filter {
        super::ALL => true,
        super::BELOW_B => topic != super::A,
        super::SHARED => false,
        filter => filter == topic,
    };
    subscriber.wanted = last.iter().filter(|(topic, _)| is_mine(topic)).map(|(_, message)| *message).collect();
    while Instant::now() < end {
        let step = subscriber.step(SILENCE);
        let is_silent = !step.unwrap_or_else(|_| panic!("the broker has gone in a drain"));
        subscriber.acknowledge();
        if subscriber.wanted.is_empty() && (is_silent || habit.filter != super::SHARED) {
            break;
        }
    }
    subscriber.connection.say_goodbye();
}

impl<'c> Subscriber<'c> {
    /// Connects, and subscribes if the broker has not said that it knows of that.
    fn open(client: &'c mut Client, habit: &'c Habit) -> Option<Self> {
        let connection = client.open()?;
        let mut subscriber = Self { client, habit, connection, held: Vec::new(), wanted: BTreeSet::new() };
        subscriber.subscribe();
        Some(subscriber)
    }

    fn subscribe(&mut self) {
        let Habit { filter, qos, .. } = *self.habit;
        if !self.client.member.is_subscribed {
            self.client.notes.note(What::Subscribe { filter, qos });
            self.client.member.session.subscribe(&mut self.connection, &[(filter, qos)]);
        }
    }

    fn come_back(&mut self) -> Result<(), Gone> {
        // What was not acknowledged comes again.
        self.held.clear();
        if self.client.random.one_in(2) {
            self.connection.say_goodbye();
        } else {
            self.connection.cut();
        }
        self.connection = self.client.open().ok_or(Gone)?;
        self.subscribe();
        Ok(())
    }

    fn acknowledge(&mut self) {
        for publish in self.held.drain(..) {
            self.client.member.session.acknowledge(&mut self.connection, &publish);
        }
    }

    /// Takes one packet, if there is one.
    fn step(&mut self, patience: Duration) -> Result<bool, Gone> {
        let Some(packet) = self.client.next(&mut self.connection, patience)? else { return Ok(false) };
        match self.client.member.session.take(&mut self.connection, packet) {
            Taken::Message(publish) => {
                self.hand_on(&publish);
                self.held.push(publish);
            }
            Taken::Again(publish) => {
                let (message, packet_id) = (read_body(&publish.payload), publish.packet_id);
                self.client.notes.note(What::Withheld { message, packet_id });
                self.held.push(publish);
            }
            Taken::SubAck(codes) => {
                let Habit { filter, qos, .. } = *self.habit;
                assert_eq!(codes, [qos], "the answer to SUBSCRIBE");
                self.client.member.is_subscribed = true;
                self.client.notes.note(What::Subscribed { filter });
            }
            Taken::Completed => {}
            other => self.client.note_unexpected(&other),
        }
        Ok(true)
    }

    fn hand_on(&mut self, publish: &Publish) {
        let Publish { topic, qos, payload, packet_id, .. } = publish;
        match read_body(payload) {
            Some(message) => {
                self.wanted.remove(&message);
                self.client.notes.note(What::Arrived {
                    topic: topic.clone(),
                    message,
                    qos: *qos,
                    packet_id: *packet_id,
                });
            }
            None => self.client.note_unreadable(topic, payload),
        }
    }
}
