//! Transactions: of this connection alone, or branches of XA transactions.

use std::sync::Arc;

use broker::{Position, publish::Batch};

use super::{OpenWireSession, Outcome};
use crate::{
    branches::Vote,
    command::Command,
    connection::{TransactionInfo, transaction_type},
    ids::{ConsumerId, TransactionId, XaTransactionId},
    mapping::Exception,
    outgoing::Settled,
    response::{DataArrayResponse, IntegerResponse},
    structure::Owned,
    transaction::{Acknowledged, Ready, Transaction},
};

/// Transactions that a connection may have begun.
const TRANSACTIONS: usize = 10_000;

/// The answer to PREPARE of a branch that can be committed, and of one in which nothing was done.
const XA_OK: i32 = 0;
const XA_RDONLY: i32 = 3;

impl OpenWireSession {
    /// Adds to a transaction; one of this connection alone begins if it has not.
    fn gather<T>(
        &mut self,
        id: &TransactionId<'static>,
        add: impl FnOnce(&mut Transaction) -> Result<T, Exception>,
    ) -> Result<T, Exception> {
        match (id, &self.caller) {
            (TransactionId::Xa(xid), Some(caller)) => self.shared.branches.gather(caller, xid, add),
            _ => {
                if self.transactions.len() >= TRANSACTIONS && !self.transactions.contains_key(id) {
                    return Err(Exception::resource(format!("a connection may have {TRANSACTIONS} transactions")));
                }
                add(self.transactions.entry(id.clone()).or_default())
            }
        }
    }

    /// Messages that are to be sent with a transaction.
    pub(super) fn send_in(&mut self, id: &TransactionId<'static>, messages: Vec<Ready>) -> Result<(), Exception> {
        self.gather(id, |transaction| transaction.send(messages))
    }

    /// Acknowledgements that are to take effect with a transaction.
    pub(super) fn acknowledge_in(
        &mut self,
        id: &TransactionId<'static>,
        consumer: (u32, ConsumerId<'static>),
        settled: Vec<Settled>,
    ) -> Result<(), Exception> {
        let acknowledged = Acknowledged { by: Arc::downgrade(&self.outgoing), consumer, settled };
        self.gather(id, |transaction| transaction.acknowledge(acknowledged))
    }

    /// Something of a transaction cannot be done, so that it cannot be committed.
    pub(super) fn fail_transaction(&mut self, id: &TransactionId<'static>, exception: &Exception) {
        // What there is not cannot be committed anyway.
        let _ = self.gather(id, |transaction| {
            transaction.fail(exception);
            Ok(())
        });
    }

    /// A step of a transaction.
    pub(super) fn transaction(&mut self, info: TransactionInfo<'_>) -> Result<Outcome, Exception> {
        let command_id = info.base.command_id;
        if info.transaction_type == transaction_type::RECOVER {
            return Ok(self.recover(command_id));
        }
        match info.transaction_id.ok_or_else(|| Exception::jms("a transaction without an id"))?.into_owned() {
            TransactionId::Xa(xid) => self.step_of_branch(&xid, info.transaction_type, command_id),
            id @ TransactionId::Local(_) => self.step_of_local(&id, info.transaction_type),
        }
    }

    fn step_of_local(&mut self, id: &TransactionId<'static>, step: i8) -> Result<Outcome, Exception> {
        match step {
            transaction_type::BEGIN => self.gather(id, |_| Ok(Position(0))),
            transaction_type::COMMIT_ONE_PHASE | transaction_type::COMMIT_TWO_PHASE => self.commit(id),
            transaction_type::ROLLBACK => {
                let transaction = self.transactions.remove(id).unwrap_or_default();
                Ok(transaction.roll_back(&self.broker, Batch::default()))
            }
            // A transaction of one connection has nothing to prepare or to end.
            transaction_type::PREPARE | transaction_type::END | transaction_type::FORGET => Ok(Position(0)),
            other => Err(Exception::jms(format!("there is no step {other} of a transaction"))),
        }
        .map(Outcome::done)
    }

    fn commit(&mut self, id: &TransactionId<'static>) -> Result<Position, Exception> {
        let (Some(mut transaction), Some(caller)) = (self.transactions.remove(id), &self.caller) else {
            return Ok(Position(0));
        };
        if let Some(failure) = transaction.failure.clone() {
            transaction.roll_back(&self.broker, Batch::default());
            return Err(Exception::rolled_back(failure.message));
        }
        let mut batch = Batch::transaction();
        batch.is_all();
        let (position, refused) = transaction.commit(&self.broker, caller.vhost.name(), batch)?;
        if refused > 0 {
            let problem = format!("{refused} messages of the transaction had no room in their queues");
            return Err(Exception::resource(problem));
        }
        Ok(position)
    }

    fn step_of_branch(
        &mut self,
        xid: &XaTransactionId<'static>,
        step: i8,
        command_id: i32,
    ) -> Result<Outcome, Exception> {
        let Some(caller) = &self.caller else { return Ok(Outcome::Later) };
        let (branches, broker) = (&self.shared.branches, &self.broker);
        match step {
            transaction_type::BEGIN => branches.begin(caller, xid).map(|()| Outcome::done(Position(0))),
            transaction_type::PREPARE => {
                let (result, position) = match branches.prepare(broker, caller, xid)? {
                    Vote::Commit(position) => (XA_OK, position),
                    Vote::ReadOnly => (XA_RDONLY, Position(0)),
                };
                let response = IntegerResponse { correlation_id: command_id, result, ..IntegerResponse::default() };
                Ok(Outcome::Command(position, Box::new(response.into())))
            }
            transaction_type::COMMIT_ONE_PHASE => branches.commit(broker, caller, xid, true).map(Outcome::done),
            transaction_type::COMMIT_TWO_PHASE => branches.commit(broker, caller, xid, false).map(Outcome::done),
            transaction_type::ROLLBACK => branches.roll_back(broker, caller, xid).map(Outcome::done),
            // What was decided is forgotten at once, and another connection may go on with a branch.
            transaction_type::END | transaction_type::FORGET => Ok(Outcome::done(Position(0))),
            other => Err(Exception::jms(format!("there is no step {other} of a transaction"))),
        }
    }

    /// Tells a transaction manager which branches wait for it.
    fn recover(&self, command_id: i32) -> Outcome {
        let recovered = self.caller.as_ref().map(|caller| self.shared.branches.recover(&self.broker, caller));
        let data = recovered.unwrap_or_default().into_iter().map(Command::from).collect();
        let response =
            DataArrayResponse { correlation_id: command_id, data: Some(data), ..DataArrayResponse::default() };
        Outcome::Command(Position(0), Box::new(response.into()))
    }

    pub(super) fn roll_back_all(&mut self) {
        for (_, transaction) in std::mem::take(&mut self.transactions) {
            transaction.roll_back(&self.broker, Batch::default());
        }
        self.shared.branches.leave(&self.broker, self.id);
    }
}
