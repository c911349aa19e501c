//! What consumers say of messages.

use std::sync::Arc;

use broker::{Event, Position, Settlement, publish::Batch};

use super::{OpenWireSession, Outcome};
use crate::{
    ids::MessageId,
    mapping::Exception,
    message::{MessageAck, ack_type},
    outgoing::Settled,
    structure::Owned,
    throwable::Throwable,
    transaction::settle,
};

impl OpenWireSession {
    /// Takes a MessageAck. One for messages that were not dispatched here is of an earlier connection, and means nothing.
    pub(super) fn acknowledged(&mut self, ack: &MessageAck<'_>, batch: &mut Batch<'_>) -> Result<Outcome, Exception> {
        let done = Ok(Outcome::done(Position(0)));
        let Some(id) = ack.consumer_id.clone().map(Owned::into_owned) else { return done };
        let Some(consumer) = self.consumers.get(&id) else { return done };
        let number = consumer.number;
        let sequence = |id: &Option<MessageId<'_>>| id.as_ref().map(|id| id.broker_sequence_id);
        let Some(last) = sequence(&ack.last_message_id) else { return done };
        let first = match ack.ack_type {
            ack_type::INDIVIDUAL => Some(last),
            _ => sequence(&ack.first_message_id),
        };
        let how = match ack.ack_type {
            ack_type::DELIVERED => {
                let arrived = self.outgoing.lock().consumer(number).map_or(0, |out| out.arrived(first, last));
                self.give_credit(number, arrived, batch);
                return done;
            }
            // The client gives them to the application once more, out of its own memory.
            ack_type::REDELIVERED => return done,
            ack_type::POISON => Settlement::Poison,
            ack_type::EXPIRED => Settlement::Expire,
            ack_type::STANDARD | ack_type::INDIVIDUAL | ack_type::UNMATCHED => Settlement::Accept,
            other => return Err(Exception::jms(format!("Invalid acknowledgment type: {other}"))),
        };
        if let (Some(transaction), true) = (ack.transaction_id.clone(), how == Settlement::Accept) {
            let (pending, counted) =
                self.outgoing.lock().consumer(number).map(|out| out.pend(first, last)).unwrap_or_default();
            self.acknowledge_in(&transaction.into_owned(), (number, id), pending)?;
            self.give_credit(number, counted, batch);
            return done;
        }
        let (settled, counted) =
            self.outgoing.lock().consumer(number).map(|out| out.take(first, last)).unwrap_or_default();
        match ack.poison_cause.as_ref().filter(|_| how == Settlement::Poison) {
            Some(cause) => poison(batch, &settled, cause),
            None => settle(batch, &settled, how),
        }
        if let Some(connection) = self.connection.as_ref().filter(|_| how == Settlement::Accept) {
            connection.traffic.add(Event::Acknowledge, settled.len() as u64);
        }
        self.give_credit(number, counted, batch);
        done
    }

    /// A consumer may have so many dispatches more.
    fn give_credit(&mut self, number: u32, counted: u32, batch: &mut Batch<'_>) {
        if counted == 0 {
            return;
        }
        let attachments = {
            let mut state = self.outgoing.lock();
            let Some(out) = state.consumer(number) else { return };
            if out.pulls {
                return;
            }
            out.credit.give(counted);
            out.attachments()
        };
        self.apply(batch);
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }
}

/// Bytes that are kept of what a client says of a message that it cannot digest.
const CAUSE_BYTES: usize = 1024;

/// Adds to a batch that a consumer cannot digest messages, and why.
fn poison(batch: &mut Batch<'_>, settled: &[Settled], cause: &Throwable<'_>) {
    let cause = cause.to_string();
    let cause: Arc<str> = cause[..cause.floor_char_boundary(CAUSE_BYTES)].into();
    for one in settled {
        if one.revoked {
            batch.settle(&one.queue, one.consumer, Settlement::Late, one.slot, one.record);
        } else {
            batch.poison(&one.queue, one.consumer, (one.slot, one.record), &cause);
        }
    }
}
