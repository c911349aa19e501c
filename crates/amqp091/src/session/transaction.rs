//! The class `tx`: publishes and settlements that take effect together, as one record of the log.

use std::sync::{Arc, atomic::Ordering};

use broker::{
    Message, Route, Settlement, Traits,
    publish::{Batch, Body},
};

use super::{AmqpSession, Stalled};
use crate::{
    mapping::{Code, Exception},
    method::Method,
    outgoing::Settled,
};

/// What has gathered since the last commit or rollback.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    published: Vec<(Arc<Route>, Arc<Message>, bool)>,
    settled: Vec<(Settled, Settlement)>,
}

impl Transaction {
    pub(super) fn publish(&mut self, route: Arc<Route>, message: Arc<Message>, mandatory: bool) {
        self.published.push((route, message, mandatory));
    }

    pub(super) fn settle(&mut self, settled: Vec<Settled>, how: Settlement) {
        self.settled.extend(settled.into_iter().map(|one| (one, how)));
    }

    /// What the client had settled, and which now it has not.
    pub(super) fn into_settled(self) -> Vec<Settled> {
        self.settled.into_iter().map(|(one, _)| one).collect()
    }
}

impl AmqpSession {
    pub(super) fn tx_select(&mut self, number: u16) -> Result<(), Exception> {
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if channel.confirms.is_some() {
            return Err(Exception::new(Code::PreconditionFailed, "cannot switch from confirm to tx mode"));
        }
        channel.transaction.get_or_insert_default();
        channel.stats.is_transactional.store(true, Ordering::Relaxed);
        self.outgoing.send(number, &Method::TxSelectOk {});
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, number: u16) -> Result<(), Exception> {
        if !self.rejects_are_ready(number) {
            self.stalled = Some(Stalled::Commit { channel: number });
            return Ok(());
        }
        let transaction = self.take_transaction(number)?;
        let mut batch = Batch::transaction();
        for (route, message, mandatory) in transaction.published {
            if route.queues.is_empty() {
                self.lead_nowhere(number, mandatory, &route, &Body::Owned(message));
                continue;
            }
            // Its time begins with the commit.
            let (now, Traits { arrived, due, .. }) = (self.broker.now(), *message.traits());
            let due = due.map(|due| now.plus(due.0 - arrived.0));
            batch.publish(route, Body::Owned(Arc::new(message.timed(now, due))), 0);
        }
        for (one, how) in &transaction.settled {
            let how = if one.revoked { Settlement::Late } else { *how };
            batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
        }
        batch.is_all();
        let applied = self.broker.apply(&mut batch);
        let settled: Vec<_> = transaction.settled.into_iter().map(|(one, _)| one).collect();
        self.give_credit(number, &settled);
        if batch.published().any(|published| published.is_refused) {
            return Err(Exception::new(Code::PreconditionFailed, "partial tx completion"));
        }
        self.reply_when_safe(applied.position, number, &Method::TxCommitOk {});
        Ok(())
    }

    /// Whether all that the transaction rejects can move with its own append. What is not in memory is read first.
    fn rejects_are_ready(&mut self, number: u16) -> bool {
        let broker = Arc::clone(&self.broker);
        let Some(transaction) = self.channel(number).and_then(|channel| channel.transaction.as_ref()) else {
            return true;
        };
        let rejected = transaction.settled.iter().filter(|(one, how)| *how == Settlement::Reject && !one.revoked);
        let rejected: Vec<_> = rejected.map(|(one, _)| one).collect();
        let mut ready = true;
        for group in rejected.chunk_by(|a, b| a.queue.id == b.queue.id) {
            let slots: Vec<u64> = group.iter().map(|one| one.slot).collect();
            ready &= broker.has_bodies(&group[0].queue, &slots);
        }
        ready
    }

    pub(super) fn tx_rollback(&mut self, number: u16) -> Result<(), Exception> {
        let settled = self.take_transaction(number)?.into_settled();
        if let Some(out) = self.outgoing.lock().channel(number) {
            out.unsettle(settled);
        }
        self.outgoing.send(number, &Method::TxRollbackOk {});
        Ok(())
    }

    /// What has gathered; from here on the next transaction gathers.
    fn take_transaction(&mut self, number: u16) -> Result<Transaction, Exception> {
        let channel = self.channel(number);
        let transaction = channel.and_then(|channel| {
            channel.stats.uncommitted.store(0, Ordering::Relaxed);
            channel.stats.uncommitted_acks.store(0, Ordering::Relaxed);
            channel.transaction.as_mut()
        });
        let none = || Exception::new(Code::PreconditionFailed, "channel is not transactional");
        transaction.map(std::mem::take).ok_or_else(none)
    }
}
