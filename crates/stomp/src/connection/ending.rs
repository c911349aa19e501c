//! The end of a connection: what it held goes back.

use broker::{Session, Settlement, publish::Batch, session::HangUp};

use super::{Phase, StompConnection, transaction::Transaction};
use crate::{
    mapping::Problem,
    outgoing::Settled,
    wire::{self, Frame, Version},
};

impl StompConnection {
    /// DISCONNECT: the client gets its receipts, and then hangs up.
    pub(super) fn leave(&mut self, frame: &Frame<'_>) {
        // Its receipt stands for all that was sent before (section "RECEIPT").
        let written = self.written;
        self.receipt(frame, written);
        self.end();
        self.phase = Phase::Leaving;
        self.tell();
    }

    /// Tells the client what went wrong, and ends (section "ERROR").
    pub(super) fn fail(&mut self, problem: &Problem, receipt: Option<&str>) {
        if self.finished().is_some() {
            return;
        }
        self.say_error(problem, receipt.map(|receipt| ("receipt-id", receipt)));
        self.problem = Some(format!("{}: {}", problem.message, problem.detail.trim_end()));
        self.end();
        self.responses.clear();
        self.phase = Phase::Finished(HangUp::Broker);
    }

    /// Writes an ERROR frame with one header of its own.
    pub(super) fn say_error(&self, problem: &Problem, own: Option<(&str, &str)>) {
        let versions = Version::ALL.map(Version::text).join(",");
        let mut headers = vec![("message", problem.message), ("content-type", "text/plain"), ("version", &versions)];
        headers.extend(own);
        let error = wire::frame("ERROR", &headers, problem.detail.as_bytes(), self.version);
        self.outgoing.lock().output.buffer().extend_from_slice(&error);
    }

    /// Takes the connection off the broker.
    pub(super) fn end(&mut self) {
        let Some(caller) = self.caller.take() else { return };
        self.stalled = None;
        let mut numbers: Vec<u64> = self.subscriptions.values().map(|subscription| subscription.number).collect();
        numbers.extend(self.temporary.values().filter_map(|queue| queue.subscription));
        self.subscriptions.clear();
        self.temporary.clear();
        numbers.into_iter().for_each(|number| self.detach(&caller, number));
        let mut unsettled = self.outgoing.lock().subscriptions.settle_all();
        let transactions = std::mem::take(&mut self.transactions);
        unsettled.extend(transactions.into_values().flat_map(Transaction::into_settled));
        self.transaction_bytes = 0;
        self.give_back(&unsettled, Settlement::Fail);
        self.broker.close_session(&caller);
        self.seen = None;
    }

    /// Gives deliveries back to their queues.
    pub(super) fn give_back(&self, settled: &[Settled], how: Settlement) {
        let mut batch = Batch::default();
        for one in settled {
            put_settlement(&mut batch, one, how);
        }
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }
}

/// Adds a settlement to a batch.
pub(super) fn put_settlement(batch: &mut Batch<'_>, one: &Settled, how: Settlement) {
    let how = if one.revoked { Settlement::Late } else { how };
    batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
}
