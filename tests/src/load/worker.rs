//! Transactions: publishes alone, and publishes together with acknowledgements.

use std::time::{Duration, Instant};

use super::consumer::{self, Taken};
use super::work::{NEWS, REQUESTS, RESULTS};
use super::{Client, PATIENCE, Target, is_gone};
use crate::checker::{Sent, TransactionId, What};
use crate::raw::{Fields, method};

const PUBLISHES: usize = 5;
const ROLL_BACK_ONE_IN: usize = 8;
/// Requests that a worker answers in one transaction.
const REQUESTS_TOGETHER: usize = 3;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Publishes in transactions until the connection is gone, or publishing is over.
pub(super) fn commit(client: &mut Client, targets: &[Target]) {
    if !client.ask("tx.select", "") {
        return;
    }
    while !client.is_over() {
        let transaction = client.recorder.transaction();
        for _ in 0..=client.random.below(PUBLISHES) {
            let target = &targets[client.random.below(targets.len())];
            client.publish(target, Sent::Within(transaction));
        }
        let keep = !client.random.one_in(ROLL_BACK_ONE_IN);
        if !end(client, transaction, keep, &mut Vec::new()) {
            return;
        }
    }
}

/// Answers requests until the connection is gone, or publishing is over.
pub(super) fn work(client: &mut Client) {
    let queue = REQUESTS.queues[0];
    if !client.ask("tx.select", "") || !consumer::begin(client, queue, 10) {
        return;
    }
    let mut taken = Vec::new();
    while !client.is_over() {
        if taken.len() < REQUESTS_TOGETHER {
            let Some(_) = consumer::take(client, PATIENCE, &mut taken) else { return };
            continue;
        }
        let answered: Vec<Taken> = taken.drain(..REQUESTS_TOGETHER).collect();
        let keep = !client.random.one_in(ROLL_BACK_ONE_IN);
        if !answer(client, &answered, keep, &mut taken) {
            return;
        }
        // A rollback takes back the acknowledgements, so they are given again.
        if !keep && !answer(client, &answered, true, &mut taken) {
            return;
        }
    }
}

/// One transaction; whether the connection is still there.
fn answer(client: &mut Client, requests: &[Taken], keep: bool, taken: &mut Vec<Taken>) -> bool {
    let transaction = client.recorder.transaction();
    for request in requests {
        client.publish(&RESULTS, Sent::Within(transaction));
        consumer::ack_within(client, request, transaction);
    }
    client.publish(&NEWS, Sent::Within(transaction));
    end(client, transaction, keep, taken)
}

/// Commits or rolls back and waits for the answer, while deliveries go on; whether the connection is still there.
pub(super) fn end(client: &mut Client, transaction: TransactionId, keep: bool, taken: &mut Vec<Taken>) -> bool {
    let (request, asked, answered) = match keep {
        true => ("tx.commit", What::CommitAsked(transaction), What::CommitAnswered(transaction)),
        false => ("tx.rollback", What::RolledBack(transaction), What::RolledBack(transaction)),
    };
    client.recorder.note(asked);
    client.connection.send(1, request, &Fields::default());
    let end = Instant::now() + ANSWER_LIMIT;
    loop {
        let event = client.connection.next(PATIENCE);
        if is_gone(&event.happening) {
            return false;
        }
        if event.method_name().is_some_and(|name| method::answers(request, name)) {
            client.recorder.note(answered);
            return true;
        }
        taken.extend(consumer::read(client, &event));
        assert!(Instant::now() < end, "{request} has no answer after {ANSWER_LIMIT:?}");
    }
}
