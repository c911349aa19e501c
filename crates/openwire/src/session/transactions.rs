//! Transactions: messages and acknowledgements that take effect together, as one record of the log.

use std::sync::Arc;

use broker::{
    Position, Settlement, Traits,
    publish::{Batch, Body},
};

use super::{OpenWireSession, Outcome, acknowledge::settle, send::Ready};
use crate::{
    connection::{TransactionInfo, transaction_type},
    ids::{ConsumerId, TransactionId},
    mapping::Exception,
    outgoing::Settled,
    response::{DataArrayResponse, IntegerResponse},
    structure::Owned,
};

/// Operations that a transaction may have.
const OPERATIONS: usize = 1_000_000;

/// Transactions that a connection may have begun.
const TRANSACTIONS: usize = 10_000;

/// What has gathered since it began.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    sent: Vec<Ready>,
    /// Acknowledged messages, by consumer.
    acknowledged: Vec<(ConsumerId<'static>, Vec<Settled>)>,
    operations: usize,
    /// Why it can no longer be committed.
    failure: Option<Exception>,
}

impl Transaction {
    fn count(&mut self, more: usize) -> Result<(), Exception> {
        self.operations += more;
        if self.operations > OPERATIONS {
            return Err(Exception::resource(format!("a transaction may have {OPERATIONS} operations")));
        }
        Ok(())
    }
}

impl OpenWireSession {
    /// A transaction, which begins if it has not.
    fn begun(&mut self, id: &TransactionId<'static>) -> Result<&mut Transaction, Exception> {
        if self.transactions.len() >= TRANSACTIONS && !self.transactions.contains_key(id) {
            return Err(Exception::resource(format!("a connection may have {TRANSACTIONS} transactions")));
        }
        Ok(self.transactions.entry(id.clone()).or_default())
    }

    /// Messages that are to be sent with a transaction.
    pub(super) fn send_in(&mut self, id: &TransactionId<'static>, messages: Vec<Ready>) -> Result<(), Exception> {
        let transaction = self.begun(id)?;
        transaction.count(messages.len())?;
        transaction.sent.extend(messages);
        Ok(())
    }

    /// Acknowledgements that are to take effect with a transaction.
    pub(super) fn acknowledge_in(
        &mut self,
        id: &TransactionId<'static>,
        consumer: ConsumerId<'static>,
        settled: Vec<Settled>,
    ) -> Result<(), Exception> {
        let transaction = self.begun(id)?;
        transaction.count(settled.len())?;
        transaction.acknowledged.push((consumer, settled));
        Ok(())
    }

    /// Something of a transaction cannot be done, so that it cannot be committed.
    pub(super) fn fail_transaction(&mut self, id: &TransactionId<'static>, exception: &Exception) {
        if let Ok(transaction) = self.begun(id) {
            transaction.failure.get_or_insert_with(|| exception.clone());
        }
    }

    /// A step of a transaction.
    pub(super) fn transaction(&mut self, info: TransactionInfo<'_>) -> Result<Outcome, Exception> {
        let command_id = info.base.command_id;
        if info.transaction_type == transaction_type::RECOVER {
            let response =
                DataArrayResponse { correlation_id: command_id, data: Some(Vec::new()), ..Default::default() };
            return Ok(Outcome::Command(Position(0), Box::new(response.into())));
        }
        let id = info.transaction_id.ok_or_else(|| Exception::jms("a transaction without an id"))?.into_owned();
        if let TransactionId::Xa(_) = id {
            return Err(Exception::jms("XA transactions are not supported yet"));
        }
        match info.transaction_type {
            transaction_type::BEGIN => {
                self.begun(&id)?;
                Ok(Outcome::done(Position(0)))
            }
            transaction_type::COMMIT_ONE_PHASE | transaction_type::COMMIT_TWO_PHASE => {
                self.commit(&id).map(Outcome::done)
            }
            transaction_type::ROLLBACK => {
                self.roll_back(&id);
                Ok(Outcome::done(Position(0)))
            }
            // A transaction of one connection has nothing to prepare.
            transaction_type::PREPARE => {
                let response = IntegerResponse { correlation_id: command_id, ..IntegerResponse::default() };
                Ok(Outcome::Command(Position(0), Box::new(response.into())))
            }
            transaction_type::END | transaction_type::FORGET => Ok(Outcome::done(Position(0))),
            other => Err(Exception::jms(format!("there is no step {other} of a transaction"))),
        }
    }

    fn commit(&mut self, id: &TransactionId<'static>) -> Result<Position, Exception> {
        if let Some(failure) = self.transactions.get(id).and_then(|transaction| transaction.failure.clone()) {
            self.roll_back(id);
            return Err(Exception::rolled_back(failure.message));
        }
        let Some(transaction) = self.transactions.remove(id) else { return Ok(Position(0)) };
        let mut batch = Batch::transaction();
        for (route, message) in transaction.sent {
            if !route.leads_somewhere() {
                route.count_lost();
                continue;
            }
            // It comes with the commit, and is of no use after the same moment as before.
            let (now, Traits { due, .. }) = (self.broker.now(), *message.traits());
            batch.publish(route, Body::Owned(Arc::new(message.timed(now, due))), 1);
        }
        for (_, settled) in &transaction.acknowledged {
            settle(&mut batch, settled, Settlement::Accept);
        }
        let applied = self.broker.apply(&mut batch);
        let refused = batch.published().filter(|published| published.is_refused).count();
        self.end_pending(&transaction.acknowledged, true);
        if refused > 0 {
            return Err(Exception::resource(format!(
                "{refused} messages of the transaction had no room in their queues"
            )));
        }
        Ok(applied.position)
    }

    /// What the transaction acknowledged is with its consumers again, who give it to the application themselves.
    fn roll_back(&mut self, id: &TransactionId<'static>) {
        let Some(transaction) = self.transactions.remove(id) else { return };
        self.end_pending(&transaction.acknowledged, false);
        self.return_orphans(transaction.acknowledged);
    }

    pub(super) fn roll_back_all(&mut self) {
        for (_, transaction) in std::mem::take(&mut self.transactions) {
            self.end_pending(&transaction.acknowledged, false);
            self.return_orphans(transaction.acknowledged);
        }
    }

    fn end_pending(&mut self, acknowledged: &[(ConsumerId<'static>, Vec<Settled>)], is_committed: bool) {
        let mut state = self.outgoing.lock();
        for (consumer, settled) in acknowledged {
            let numbers: Vec<i64> = settled.iter().map(|one| one.number).collect();
            let place = self.consumers.get(consumer).map(|consumer| consumer.number);
            if let Some(out) = place.and_then(|place| state.consumer(place)) {
                out.end_pending(&numbers, is_committed);
            }
        }
    }

    /// Gives back what nobody has any more, because its consumer has ended.
    fn return_orphans(&mut self, acknowledged: Vec<(ConsumerId<'static>, Vec<Settled>)>) {
        let mut batch = Batch::default();
        for (consumer, settled) in acknowledged {
            if !self.consumers.contains_key(&consumer) {
                settle(&mut batch, &settled, Settlement::Fail);
            }
        }
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }
}
