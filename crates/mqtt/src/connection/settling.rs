//! Deliveries that are done with though the client has said nothing of them, and those that wait for the log.

use std::{sync::Arc, task::Waker};

use broker::{
    Position, Route, Settlement,
    publish::{Batch, Body},
};

use super::{Kind, MqttConnection};
use crate::{
    EXCHANGE, notes,
    outgoing::{DIRECT, Done, Moved, OWN, Place, State},
};

/// Rounds of settling after which others get their turn.
const ROUNDS: usize = 64;

impl MqttConnection {
    /// Settles what needs no acknowledgement, and sends on what had to be written down first.
    pub(super) fn settle_done(&mut self) {
        for _ in 0..ROUNDS {
            let (done, moved, unwritten) = {
                let mut state = self.outgoing.lock();
                let moved = std::mem::take(&mut state.moved);
                state.held_bytes -= moved.iter().map(|one| one.message.view().payload.len()).sum::<usize>();
                (std::mem::take(&mut state.done), moved, std::mem::take(&mut state.unwritten))
            };
            if done.is_empty() && moved.is_empty() && unwritten.is_empty() {
                return;
            }
            let mut batch = Batch::default();
            let done: Vec<Done> = done.into_iter().chain(self.make_own(moved, &mut batch)).collect();
            self.credit.give(done.iter().filter(|one| one.counted).count() as u32);
            for one in &done {
                if let Some(attachment) = self.outgoing.lock().attachment(one.source) {
                    let consumer = Some(attachment.consumer);
                    batch.settle(&attachment.queue, consumer, Settlement::Accept, one.slot, one.record);
                }
            }
            for (packet_id, record, qos) in unwritten.iter().filter_map(|one| one.note) {
                notes::sent(&mut batch, self.number, packet_id, Place::Record(record.0), qos);
            }
            let safe = if batch.is_empty() { Position(0) } else { self.broker.apply(&mut batch).position };
            for one in unwritten {
                self.respond(safe, one.packet);
                self.responses.back_mut().into_iter().for_each(|last| last.kind = Kind::Message);
            }
            self.tell();
            self.resume_shared();
        }
        self.waker.iter().for_each(Waker::wake_by_ref);
    }

    /// Puts messages of shared subscriptions into the session's queue. Returns the deliveries that are settled by that.
    fn make_own(&self, moved: Vec<Moved>, batch: &mut Batch<'_>) -> Vec<Done> {
        let own = self.outgoing.lock().source(OWN).map(|source| Arc::clone(&source.queue));
        let Some(own) = own.filter(|_| !moved.is_empty()) else { return Vec::new() };
        let route = Arc::new(Route::to(EXCHANGE.into(), own));
        let publish = |moved: Moved| {
            batch.publish(Arc::clone(&route), Body::Owned(Arc::new(moved.message)), 0);
            moved.done
        };
        moved.into_iter().map(publish).collect()
    }

    /// The receive maximum has room again. The settlement has told the queue that it came from; others have to be told too.
    pub(super) fn resume_shared(&self) {
        let has_shared = self.outgoing.lock().has_shared();
        if has_shared {
            self.resume_all();
        }
    }

    /// Has all consumers get what waits for them: when they are new, or when the receive maximum has room again.
    pub(super) fn resume_all(&self) {
        let attachments = self.outgoing.lock().attachments();
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
    }
}

/// Adds the settlement of a delivery to a batch.
pub(super) fn settle(
    state: &State,
    batch: &mut Batch<'_>,
    source: broker::ConsumerKey,
    how: Settlement,
    (slot, record): (u64, Position),
) {
    debug_assert!(source != DIRECT, "what nobody holds is not settled");
    if let Some(attachment) = state.attachment(source) {
        batch.settle(&attachment.queue, Some(attachment.consumer), how, slot, record);
    }
}
