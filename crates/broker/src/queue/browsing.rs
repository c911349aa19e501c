//! Browsers: consumers that only look at what waits in a queue.
//!
//! A browser is nobody's competitor: it does not count as a consumer, has no turn, and is never the single active one. As
//! with ActiveMQ, it sees what was there when it came and waits when it gets there, not what somebody holds. Coming
//! and going use the queue, as taking a single message does; between, a queue that expires without consumers does.
//! Where several publishers overtook each other and their messages leave memory meanwhile, it may see one twice.

use super::{Aftermath, Browses, Consumer, ConsumerId, Queue, Queued, Role, selecting::Offer};
use crate::{
    log::Position,
    outlet::{Attempts, Delivery, Pressure},
    refusal::Refusal,
    session::Millis,
};

/// The slot of what is only looked at. No message ever stands there, so that settling it does nothing.
const NO_SLOT: u64 = u64::MAX;

impl Queue {
    /// Adds a consumer that only looks, at rest.
    pub(super) fn attach_browser(&mut self, consumer: Consumer, now: Millis) -> Result<ConsumerId, Refusal> {
        self.check_consumer_limit()?;
        let id = self.consumers.add(consumer, Role::Browses);
        self.levels.iter_mut().for_each(|(_, backlog)| backlog.browse(id.reader()));
        self.note_used(now);
        Ok(id)
    }

    /// Shows every browser what it can take.
    pub(super) fn browse_on(&mut self, after: &mut Aftermath) {
        self.catch_up(after);
        for index in self.consumers.take_looking() {
            while self.browse_one(index, after) {}
        }
    }

    /// Shows a browser its next message, or tells it that there are no more. Returns whether there may be more to show.
    fn browse_one(&mut self, index: u32, after: &mut Aftermath) -> bool {
        let attached = self.consumers.at(index).filter(|attached| !attached.pressed && !attached.has_browsed);
        let Some(id) = attached.map(|attached| attached.id) else { return false };
        match self.look_for(index, after) {
            Offer::Message(priority) => {
                let attached = self.consumers.at(index);
                let holds = attached.as_ref().is_some_and(|one| one.consumer.browses == Some(Browses::Holds));
                let Some(counted) = attached.and_then(|attached| attached.reserve()) else { return false };
                let backlog = self.level(priority);
                if holds {
                    // What has left the queue meanwhile is passed over.
                    let found = backlog.take_found(id.reader(), true);
                    return found.is_none_or(|(slot, queued)| self.show(index, counted, (slot, &queued), after));
                }
                let found = backlog.copy_found(id.reader());
                backlog.pass_found(id.reader());
                let seen = found.map(|queued| Queued { record: Position(0), ..queued });
                seen.is_some_and(|queued| self.show(index, counted, (NO_SLOT, &queued), after))
            }
            Offer::Later => {
                self.consumers.rest(index);
                false
            }
            Offer::Nothing => {
                if let Some(attached) = self.consumers.at(index) {
                    attached.has_browsed = true;
                    attached.consumer.outlet.browsed(attached.consumer.key, &mut after.wakes);
                }
                false
            }
        }
    }

    /// Delivers what a browser has found. Returns whether it can take more.
    fn show(&mut self, index: u32, counted: bool, (slot, queued): (u64, &Queued), after: &mut Aftermath) -> bool {
        let Some(attached) = self.consumers.at(index) else { return false };
        let delivery = Delivery {
            consumer: attached.consumer.key,
            queue: Some(&self.info),
            slot,
            record: queued.record,
            redelivered: queued.returns.any(),
            failures: queued.returns.failed().into(),
            counted,
            attempts: Attempts::default(),
            offset: None,
            is_first_of_group: false,
            message: &queued.message.view(),
        };
        let pressure = attached.consumer.outlet.deliver(&delivery, &mut after.wakes);
        if pressure == Pressure::High {
            self.consumers.press(index);
        }
        pressure == Pressure::Low
    }
}
