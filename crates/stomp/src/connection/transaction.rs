//! BEGIN, COMMIT and ABORT: messages and acknowledgements that take effect together, as one record of the log.

use std::{sync::Arc, task::Waker};

use broker::{
    Event, Message, Position, Route, Settlement, Traits,
    publish::{Batch, Body},
};

use super::{Stalled, StompConnection, ending::put_settlement};
use crate::{mapping::Problem, outgoing::Settled, wire::Frame};

/// Transactions that a connection may have at once.
const TRANSACTIONS_MAX: usize = 256;

/// Bytes of memory that an operation takes besides a message's own.
const OPERATION_BYTES: u64 = 256;

/// What has gathered since its BEGIN.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    published: Vec<(Arc<Route>, Arc<Message>)>,
    settled: Vec<(Settled, Settlement)>,
    bytes: u64,
}

impl Transaction {
    /// What the client had settled, and which now it has not.
    pub(super) fn into_settled(self) -> Vec<Settled> {
        self.settled.into_iter().map(|(one, _)| one).collect()
    }
}

fn named<'f>(frame: &'f Frame<'_>) -> Result<&'f str, Problem> {
    let missing = || {
        let detail = format!("\"{}\" must include a 'transaction' header\n", frame.command);
        Problem::new("Missing transaction", detail)
    };
    frame.header("transaction").ok_or_else(missing)
}

fn unknown(name: &str) -> Problem {
    Problem::new("Bad transaction", format!("Invalid transaction identifier: \"{name}\"\n"))
}

impl StompConnection {
    pub(super) fn begin(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let name = named(frame)?;
        if self.transactions.contains_key(name) {
            return Err(unknown(name));
        }
        if self.transactions.len() >= TRANSACTIONS_MAX {
            let detail = format!("Too many concurrent transactions (limit {TRANSACTIONS_MAX})");
            return Err(Problem::new("Transaction limit exceeded", detail));
        }
        self.transactions.insert(name.into(), Transaction::default());
        self.receipt(frame, Position(0));
        self.tell();
        Ok(())
    }

    /// Whether there is a transaction of this name, if a frame names one.
    pub(super) fn check_transaction(&self, name: Option<&str>) -> Result<(), Problem> {
        match name {
            Some(name) if !self.transactions.contains_key(name) => Err(unknown(name)),
            _ => Ok(()),
        }
    }

    /// Has a transaction publish a message.
    pub(super) fn publish_within(
        &mut self,
        name: &str,
        route: Arc<Route>,
        message: Arc<Message>,
    ) -> Result<(), Problem> {
        let bytes = message.memory_bytes() as u64 + OPERATION_BYTES;
        self.grow(name, bytes)?.published.push((route, message));
        Ok(())
    }

    /// Has a transaction settle deliveries.
    pub(super) fn settle_within(&mut self, name: &str, settled: Vec<Settled>, how: Settlement) -> Result<(), Problem> {
        let transaction = self.grow(name, OPERATION_BYTES * settled.len() as u64)?;
        transaction.settled.extend(settled.into_iter().map(|one| (one, how)));
        Ok(())
    }

    fn grow(&mut self, name: &str, bytes: u64) -> Result<&mut Transaction, Problem> {
        let max = self.broker.settings.unfinished_bytes_max;
        if self.transaction_bytes.saturating_add(bytes) > max {
            return Err(Problem::new("Transaction too large", format!("Too much in transactions (limit {max} bytes)")));
        }
        let transaction = self.transactions.get_mut(name).ok_or_else(|| unknown(name))?;
        transaction.bytes += bytes;
        self.transaction_bytes += bytes;
        Ok(transaction)
    }

    fn take_transaction(&mut self, name: &str) -> Result<Transaction, Problem> {
        let transaction = self.transactions.remove(name).ok_or_else(|| unknown(name))?;
        self.transaction_bytes -= transaction.bytes;
        Ok(transaction)
    }

    pub(super) fn commit(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let name = named(frame)?;
        self.check_transaction(Some(name))?;
        self.commit_named(name, frame.header("receipt"))
    }

    fn commit_named(&mut self, name: &str, receipt: Option<&str>) -> Result<(), Problem> {
        if !self.rejects_are_ready(name) {
            self.stalled = Some(Stalled { transaction: name.into(), receipt: receipt.map(str::to_owned) });
            return Ok(());
        }
        let Transaction { published, settled, .. } = self.take_transaction(name)?;
        let mut batch = Batch::transaction();
        for (route, message) in published {
            if !route.leads_somewhere() {
                route.count_lost();
                self.outgoing.lock().count(Event::Drop, 1);
                continue;
            }
            // Its time begins with the commit.
            let (now, Traits { arrived, due, .. }) = (self.broker.now(), *message.traits());
            let due = due.map(|due| now.plus(due.0 - arrived.0));
            batch.publish(route, Body::Owned(Arc::new(message.timed(now, due))), 0);
        }
        settled.iter().for_each(|(one, how)| put_settlement(&mut batch, one, *how));
        batch.is_all();
        let position = if batch.is_empty() { self.written } else { self.broker.apply(&mut batch).position };
        let settled: Vec<Settled> = settled.into_iter().map(|(one, _)| one).collect();
        self.give_credit(&settled);
        if batch.published().any(|published| published.is_refused) {
            return Err(Problem::new("precondition_failed", "PRECONDITION_FAILED - partial tx completion"));
        }
        self.written = self.written.max(position);
        if let Some(receipt) = receipt {
            self.respond_receipt(position, receipt, None, false);
        }
        self.tell();
        Ok(())
    }

    /// Whether all that the transaction rejects can move with its own append. What is not in memory is read first.
    fn rejects_are_ready(&self, name: &str) -> bool {
        let Some(transaction) = self.transactions.get(name) else { return true };
        let rejected = transaction.settled.iter().filter(|(one, how)| *how == Settlement::Reject && !one.revoked);
        let rejected: Vec<_> = rejected.map(|(one, _)| one).collect();
        let mut ready = true;
        for group in rejected.chunk_by(|a, b| a.queue.id == b.queue.id) {
            let slots: Vec<u64> = group.iter().map(|one| one.slot).collect();
            ready &= self.broker.has_bodies(&group[0].queue, &slots);
        }
        ready
    }

    /// Goes on with a commit that waits for what it rejects.
    pub(super) fn poll_commit(&mut self, waker: &Waker) {
        let Some(Stalled { transaction, receipt }) = self.stalled.take() else { return };
        // Before the attempt: what is read between the two must not be missed.
        self.broker.wake_when_loaded(waker);
        if let Err(problem) = self.commit_named(&transaction, receipt.as_deref()) {
            self.fail(&problem, receipt.as_deref());
        }
    }

    /// What the transaction had acknowledged can be acknowledged again.
    pub(super) fn abort(&mut self, frame: &Frame<'_>) -> Result<(), Problem> {
        let settled = self.take_transaction(named(frame)?)?.into_settled();
        let left = self.outgoing.lock().subscriptions.unsettle(settled);
        self.give_back(&left, Settlement::Requeue);
        self.give_credit(&left);
        self.receipt(frame, Position(0));
        self.tell();
        Ok(())
    }
}
