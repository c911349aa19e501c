//! Consumers that want only some of a queue's messages.
//!
//! While there is one, messages do not look for consumers: each consumer in turn looks for its next message. So each has
//! a cursor of its own, and nobody looks twice at what he does not want.

use std::sync::Arc;

use super::{Aftermath, Backlog, ConsumerId, Filter, Queue, Queued, Returns, backlog::Seek, consumer::Role};
use crate::{
    log::{Load, Position, Purpose},
    message::{Draft, Message},
    session::Millis,
};

/// What there is for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// A message of this priority.
    Message(u8),
    /// It comes to that later.
    Later,
    /// Nothing.
    Nothing,
}

/// What one of many wants.
#[derive(Debug)]
struct Wants {
    filter: Option<Filter>,
    /// What came until then has been there for too long.
    over: Option<Millis>,
}

impl Wants {
    fn wants(&self, message: &Message) -> bool {
        self.over.is_none_or(|over| message.traits().arrived > over)
            && self.filter.as_ref().is_none_or(|filter| filter.passes(&message.view()))
    }
}

/// Looks for what a reader wants and is allowed to have. Whose group a message is may have changed since it was read.
fn seek(backlog: &mut Backlog, reader: u64, wants: &Wants, is_allowed: &dyn Fn(&Message) -> bool) -> Seek {
    loop {
        let seek = backlog.seek(reader, &|message| wants.wants(message) && is_allowed(message));
        if seek != Seek::Found || backlog.copy_found(reader).is_none_or(|found| is_allowed(&found.message)) {
            return seek;
        }
        backlog.pass_found(reader);
    }
}

impl Queue {
    /// Takes a message in that somebody may want at once, whatever waits before it.
    pub(super) fn offer(&mut self, draft: &mut Draft<'_>, record: Position, after: &mut Aftermath) {
        let priority = self.rules.priority(draft.view().priority);
        let late = self.is_late_record(record, priority, after);
        let slot = self.level(priority).push_ready(Queued { message: draft.share(), record, returns: Returns::NEVER });
        self.consumers.stir();
        self.pump(after);
        if !self.level(priority).is_ready(slot) {
            return;
        }
        if late {
            after.late.push((Arc::clone(&self.info), slot, draft.share()));
        }
        self.note_times(draft.view(), after);
        self.note_slow(after);
        self.grown(after);
    }

    /// Hands out what can be handed out.
    pub(super) fn pump_selecting(&mut self, after: &mut Aftermath) {
        self.enforce_groups();
        let single = self.is_single();
        loop {
            self.catch_up(after);
            if self.next_due <= after.now {
                break;
            }
            let Some(index) = self.consumers.next_able(single) else { break };
            let Offer::Message(priority) = self.look_for(index, after) else {
                if single {
                    break;
                }
                self.consumers.rest(index);
                continue;
            };
            // Consumers of other queues may have used up the credit that they share. Then it is somebody else's turn.
            let Some(counted) = self.consumers.reserve_next(index, single) else { continue };
            let Some((slot, queued)) = self.take_for(index, priority, after) else { break };
            self.hand_out(index, counted, (slot, &queued), after);
        }
        if (self.consumers.any_taking() && !self.has_groups()) || self.rules.sheds() {
            self.read_ahead(after);
        }
    }

    /// Looks for a consumer's next message. If that has to be read from the log, it is asked for.
    pub(super) fn look_for(&mut self, index: u32, after: &mut Aftermath) -> Offer {
        let Some(attached) = self.consumers.at(index) else { return Offer::Nothing };
        let (id, role) = (attached.id, attached.role);
        let reader = id.reader();
        let wants = self.wants_of(index, after.now);
        let takes = role == Role::Takes && !self.has_groups();
        for level in 0..self.levels.len() {
            let (priority, backlog) = &mut self.levels[level];
            let priority = *priority;
            if backlog.ready() == 0 {
                continue;
            }
            if takes {
                return if backlog.has_next() { Offer::Message(priority) } else { Offer::Later };
            }
            // Browsers see what others have.
            let groups = self.groups.as_deref().filter(|groups| groups.are_in_force() && role != Role::Browses);
            let is_allowed = |message: &Message| groups.is_none_or(|groups| groups.allow(id, message));
            match seek(backlog, reader, &wants, &is_allowed) {
                Seek::Found => return Offer::Message(priority),
                Seek::Nothing => {}
                Seek::Tired => {
                    self.wait_for(Some(after.now.plus(1)));
                    return Offer::Later;
                }
                Seek::Unread => {
                    if let Some(wanted) = backlog.want_for(reader) {
                        after.loads.push(self.load(priority, wanted, reader, Purpose::Scan));
                    }
                    return Offer::Later;
                }
            }
        }
        Offer::Nothing
    }

    fn wants_of(&mut self, index: u32, now: Millis) -> Wants {
        let filter = self.consumers.at(index).and_then(|attached| attached.consumer.filter.clone());
        let over = self.rules.message_ttl_ms.and_then(|ttl| now.0.checked_sub(ttl)).map(Millis);
        Wants { filter, over }
    }

    /// Takes what was found for a consumer.
    fn take_for(&mut self, index: u32, priority: u8, after: &mut Aftermath) -> Option<(u64, Queued)> {
        let settles_itself = self.settles_itself(index);
        let attached = self.consumers.at(index)?;
        let (reader, takes) = (attached.id.reader(), attached.role == Role::Takes);
        let takes = takes && !self.has_groups();
        let backlog = self.level(priority);
        let taken = match (takes, settles_itself) {
            (true, true) => backlog.take_next(),
            (true, false) => backlog.hold_next(),
            _ => backlog.take_found(reader, !settles_itself),
        };
        if let Some((_, queued)) = taken.as_ref().filter(|_| settles_itself) {
            self.release(queued.record, priority, after);
        }
        taken
    }

    /// Takes what was read from the log for one that looks for what it wants.
    pub(super) fn scan_loaded(
        &mut self,
        load: &Load,
        messages: &[(Position, Arc<Message>)],
        (next, restart): (Position, Position),
        after: &mut Aftermath,
    ) {
        let id = ConsumerId::of_reader(load.generation);
        if self.consumers.get(id).is_none() {
            return;
        }
        let wants = self.wants_of(id.index, after.now);
        let wants = |message: &Message| wants.wants(message);
        let read = (&load.wanted, next);
        if self.level(load.priority).scanned(load.generation, messages, read, restart, &wants) {
            self.consumers.rejoin(id);
            self.pump(after);
        }
    }
}
