//! Publishing with quality of service 1 and 2, many unanswered, over connections that end at any time.

use std::thread;
use std::time::{Duration, Instant};

use super::{Client, Connection, Gone, PATIENCE, Publish};
use crate::checker::mqtt::What;
use crate::checker::{MessageId, write_body};
use crate::mqtt::{self, Taken};

pub(super) struct Habit {
    pub topics: &'static [&'static str],
    pub least_qos: u8,
    pub most_qos: u8,
    pub retain: bool,
}

/// Publishes that may be incomplete at a time.
const WINDOW: usize = 200;
const BURST: usize = 10;
const PAUSE: Duration = Duration::from_millis(5);
/// It ends its connection after one burst in so many.
const CUT_ONE_IN: usize = 25;
const CLEAR_ONE_IN: usize = 6;
const LARGE_ONE_IN: usize = 300;
const LARGE_BYTES: usize = 200_000;
const BODY_BYTES: usize = 600;

/// Until the broker is gone, or publishing is over and everything is answered.
pub(super) fn publish(client: &mut Client, habit: &Habit) {
    let Some(mut connection) = client.open() else { return };
    client.is_ready();
    while !client.is_over() {
        if client.random.one_in(CUT_ONE_IN) {
            let Some(next) = client.come_back(connection) else { return };
            connection = next;
        }
        for _ in 0..=client.random.below(BURST) {
            publish_one(client, &mut connection, habit);
        }
        thread::sleep(PAUSE);
        loop {
            let is_full = client.member.session.unfinished() >= WINDOW;
            match take_answer(client, &mut connection, if is_full { PATIENCE } else { Duration::from_millis(1) }) {
                Err(Gone) => return,
                Ok(false) if !is_full => break,
                Ok(_) => {}
            }
        }
    }
    if await_answers(client, &mut connection).is_ok() {
        client.notes.note(What::AnswersAwaited { publisher: client.publisher });
    }
}

fn publish_one(client: &mut Client, connection: &mut Connection, habit: &Habit) {
    let place = client.random.below(habit.topics.len());
    let topic = habit.topics[place];
    let choices = usize::from(habit.most_qos - habit.least_qos) + 1;
    // Messages of different quality of service have no order when they are sent again, and only the last is retained.
    let choice = if habit.retain { place % choices } else { client.random.below(choices) };
    let qos = habit.least_qos + choice as u8;
    let clears = habit.retain && topic != super::KEPT && client.random.one_in(CLEAR_ONE_IN);
    send(client, connection, (topic, qos), habit.retain, clears);
}

fn send(
    client: &mut Client,
    connection: &mut Connection,
    (topic, qos): (&'static str, u8),
    retain: bool,
    clears: bool,
) -> MessageId {
    client.member.sequence += 1;
    let message = MessageId { publisher: client.publisher, sequence: client.member.sequence };
    let filler = if client.random.one_in(LARGE_ONE_IN) { LARGE_BYTES } else { client.random.below(BODY_BYTES) };
    let payload = if clears { Vec::new() } else { write_body(message, filler) };
    client.notes.note(What::Publish { message, topic, qos, retain, clears });
    let publish = Publish { topic: topic.to_owned(), qos, retain, payload, ..Publish::default() };
    client.member.session.publish(connection, message.sequence, publish);
    message
}

/// Takes one answer, if there is one.
fn take_answer(client: &mut Client, connection: &mut Connection, patience: Duration) -> Result<bool, Gone> {
    let Some(packet) = client.next(connection, patience)? else { return Ok(false) };
    match client.member.session.take(connection, packet) {
        Taken::Answered(sequence) => {
            client.notes.note(What::Answered { message: MessageId { publisher: client.publisher, sequence } });
        }
        Taken::Completed => {}
        other => client.note_unexpected(&other),
    }
    Ok(true)
}

fn await_answers(client: &mut Client, connection: &mut Connection) -> Result<(), Gone> {
    let end = Instant::now() + mqtt::PATIENCE;
    while client.member.session.unfinished() > 0 && Instant::now() < end {
        take_answer(client, connection, PATIENCE)?;
    }
    Ok(())
}

/// Publishes one message to each topic, with quality of service 2, and waits until it is complete.
pub(super) fn publish_each(
    client: &mut Client,
    topics: &[&'static str],
    retain: bool,
) -> Vec<(&'static str, MessageId)> {
    let mut connection = client.open().expect("nobody kills the broker now");
    let sent = topics.iter().map(|topic| (*topic, send(client, &mut connection, (topic, 2), retain, false))).collect();
    assert!(await_answers(client, &mut connection).is_ok(), "nobody kills the broker now");
    client.notes.note(What::AnswersAwaited { publisher: client.publisher });
    connection.say_goodbye();
    sent
}
