//! Publishing with confirms, many of them outstanding.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, PATIENCE, Target, is_gone};
use crate::checker::{Sent, What};
use crate::raw::Happening;

/// How quickly one publishes.
pub(super) struct Pace {
    /// Publishes that may wait for an answer at a time.
    window: usize,
    burst: usize,
    pause: Duration,
}

pub(super) const STEADY: Pace = Pace { window: 256, burst: 12, pause: Duration::from_millis(5) };
pub(super) const HURRIED: Pace = Pace { window: 1024, burst: 128, pause: Duration::from_millis(1) };

/// How long a publisher waits for its last answers, before it complains.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Until the connection is gone, or publishing is over and everything is answered.
pub(super) fn publish(client: &mut Client, targets: &[Target], pace: &Pace) {
    if !client.ask("confirm.select", "") {
        return;
    }
    let mut outstanding = BTreeSet::new();
    let mut tag = 0;
    while !client.is_over() {
        for _ in 0..=client.random.below(pace.burst) {
            tag += 1;
            outstanding.insert(tag);
            client.publish(&targets[tag as usize % targets.len()], Sent::Confirmed(tag));
        }
        thread::sleep(pace.pause);
        loop {
            let patience = if outstanding.len() < pace.window { Duration::ZERO } else { PATIENCE };
            match take_answer(client, &mut outstanding, patience) {
                Answer::Taken if outstanding.len() > pace.window / 4 => {}
                Answer::None if outstanding.len() >= pace.window => {}
                Answer::Gone => return,
                Answer::Taken | Answer::None => break,
            }
        }
    }
    let end = Instant::now() + ANSWER_LIMIT;
    while !outstanding.is_empty() && Instant::now() < end {
        if matches!(take_answer(client, &mut outstanding, PATIENCE), Answer::Gone) {
            return;
        }
    }
    client.recorder.note(What::ConfirmsAwaited { publisher: client.publisher });
}

enum Answer {
    Taken,
    None,
    Gone,
}

/// Takes one answer. Whether it makes sense is for the checker to say.
fn take_answer(client: &mut Client, outstanding: &mut BTreeSet<u64>, patience: Duration) -> Answer {
    let event = client.connection.next(patience);
    if is_gone(&event.happening) {
        return Answer::Gone;
    }
    let Happening::Method(method) = &event.happening else { return Answer::None };
    // With little memory publishers may have to wait for a moment.
    if matches!(method.name, "connection.blocked" | "connection.unblocked") {
        return Answer::None;
    }
    assert!(matches!(method.name, "basic.ack" | "basic.nack"), "{event} to a publisher");
    let (tag, multiple) = (method.number("delivery_tag"), method.number("multiple") == 1);
    let (publisher, positive) = (client.publisher, method.name == "basic.ack");
    client.recorder.note(What::Confirm { publisher, tag, multiple, positive });
    if multiple {
        *outstanding = outstanding.split_off(&(tag + 1));
    } else {
        outstanding.remove(&tag);
    }
    Answer::Taken
}
