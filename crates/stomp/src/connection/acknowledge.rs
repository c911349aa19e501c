//! ACK and NACK.

use broker::{Event, Position, Settlement, publish::Batch};

use super::{StompConnection, ending::put_settlement};
use crate::{
    mapping::Problem,
    outgoing::Settled,
    wire::{Frame, Version},
};

impl StompConnection {
    /// Settles what a frame names: now, or with its transaction.
    pub(super) fn acknowledge(
        &mut self,
        frame: &Frame<'_>,
        how: Settlement,
        batch: &mut Batch<'_>,
    ) -> Result<(), Problem> {
        // STOMP 1.2 names what its MESSAGE had for that, the others the message.
        let header = if self.version >= Version::V12 { "id" } else { "message-id" };
        let id = frame.header(header).ok_or_else(|| Problem::missing_header(frame.command, header))?;
        let transaction = frame.header("transaction");
        self.check_transaction(transaction)?;
        let settled = self.outgoing.lock().subscriptions.settle(id.trim_start()).map_err(|_| {
            let detail = format!("\"{}\" must include a valid \"{header}\" header\n", frame.command);
            Problem::new("Invalid header", detail)
        })?;
        let settled = settled.ok_or_else(|| {
            Problem::new("Subscription not found", format!("Message with id \"{id}\" has no subscription"))
        })?;
        if how == Settlement::Accept {
            self.outgoing.lock().count(Event::Acknowledge, settled.len() as u64);
        }
        if let Some(transaction) = transaction {
            self.settle_within(transaction, settled, how)?;
            self.receipt(frame, Position(0));
            return Ok(());
        }
        if frame.header("receipt").is_none() {
            settled.iter().for_each(|one| put_settlement(batch, one, how));
            let attachments = self.outgoing.lock().subscriptions.give_credit(&settled);
            if !attachments.is_empty() {
                self.apply(batch);
                attachments.iter().for_each(|attachment| self.broker.resume(attachment));
            }
            return Ok(());
        }
        // Whoever wants to know that it is safe waits for the disk; others do not.
        self.apply(batch);
        let mut told = Batch::transaction();
        settled.iter().for_each(|one| put_settlement(&mut told, one, how));
        let position = self.broker.apply(&mut told).position;
        self.give_credit(&settled);
        self.receipt(frame, position);
        Ok(())
    }

    /// What the broker has been told of makes room for more.
    pub(super) fn give_credit(&self, settled: &[Settled]) {
        let attachments = self.outgoing.lock().subscriptions.give_credit(settled);
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }
}
