//! The end of a connection: what it held goes back, and what outlives it is left to the session.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Millis, Position, Settlement, publish::Batch, session::HangUp};

use super::{CLOSE_MS, MqttConnection, Phase, settling::settle};
use crate::{
    mapping::Reason,
    notes,
    outgoing::{InFlight, Moved, OWN, Place},
    packet::{Qos, Version, kind},
    sessions::{Carried, Leaving},
};

impl MqttConnection {
    /// Says goodbye for a reason.
    pub(super) fn close(&mut self, reason: Reason, now: Millis) {
        if self.version == Version::V5 {
            self.say(&[kind::DISCONNECT << 4, 2, reason as u8, 0]);
        }
        self.end(true, now);
        self.phase = Phase::Finished(HangUp::Broker);
        self.phase_ends = Some(now.plus(CLOSE_MS));
    }

    /// Gives back all that the connection holds, and leaves the session to whoever comes next.
    pub(super) fn end(&mut self, with_will: bool, now: Millis) {
        let Some(caller) = self.caller.take() else {
            // A client that still waits for its session has entered its vhost all the same.
            if let Phase::Claim(candidate) = &mut self.phase
                && let Some(caller) = candidate.caller.take()
            {
                self.broker.close_session(&caller);
            }
            return;
        };
        let attachments = self.outgoing.lock().attachments();
        for attachment in &attachments {
            self.broker.set_past(&attachment.queue, None);
            self.broker.cancel(&caller, attachment);
        }
        if let Some(direct) = self.direct.take() {
            self.broker.close_direct(&caller, &direct);
        }
        let carried = self.carried();
        self.responses.clear();
        self.pending.clear();
        self.cursors.clear();
        self.broker.close_session(&caller);
        self.seen = None;
        self.sessions.traffic.add(&mut self.outgoing.lock().counts);
        let will = self.will.take().filter(|_| with_will).map(|will| *will);
        let key = (caller.vhost.name().clone(), self.client_id.clone());
        self.sessions.leave(&key, self.number, Leaving { expiry_s: self.expiry_s, carried, will }, now);
    }

    /// Gives deliveries back to their queues, and takes out what the next connection of the session has to know.
    fn carried(&mut self) -> Carried {
        let mut batch = Batch::default();
        let own = self.outgoing.lock().source(OWN).map(|source| Arc::clone(&source.queue));
        let nothing_waits = own.is_some_and(|queue| self.broker.counts(&queue).ready == 0);
        let mut guard = self.outgoing.lock();
        let state = &mut *guard;
        let (received, freed) = (std::mem::take(&mut self.received_ids), std::mem::take(&mut state.freed));
        let mut carried = Carried { received, freed, ..Carried::default() };
        let unwritten = state.unwritten.drain(..).filter_map(|one| one.note);
        let unwritten: BTreeSet<u16> = unwritten.map(|(packet_id, ..)| packet_id).collect();
        for Moved { done, .. } in std::mem::take(&mut state.moved) {
            settle(state, &mut batch, done.source, Settlement::Requeue, (done.slot, done.record));
        }
        for done in std::mem::take(&mut state.done) {
            settle(state, &mut batch, done.source, Settlement::Accept, (done.slot, done.record));
        }
        for (packet_id, one) in std::mem::take(&mut state.in_flight) {
            let InFlight { source, slot, record, qos, released, is_noted, .. } = one;
            if released {
                carried.released.insert(packet_id);
                continue;
            }
            let is_begun = source == OWN && !unwritten.contains(&packet_id);
            // What is to come exactly once is sent to its end, whatever its time (MQTT-4.3.3-7).
            let is_untimed = is_begun && qos == Qos::ExactlyOnce;
            let how = if is_untimed { Settlement::RequeueUntimed } else { Settlement::Requeue };
            settle(state, &mut batch, source, how, (slot, record));
            if is_begun {
                let place = if record == Position(0) { Place::Slot(slot) } else { Place::Record(record.0) };
                carried.promised.insert(place, packet_id, qos);
                if qos == Qos::AtLeastOnce && self.is_persistent() && !is_noted {
                    notes::sent(&mut batch, self.number, packet_id, place, qos);
                }
            }
        }
        // What was sent before and has not come again is gone for good, if there was time for it to come.
        for (place, packet_id, qos) in std::mem::take(&mut state.promised).iter() {
            if !nothing_waits {
                carried.promised.insert(place, packet_id, qos);
            } else if self.is_persistent() {
                notes::complete(&mut batch, self.number, packet_id);
                carried.freed.free(packet_id, place.record());
            }
        }
        for key in state.consumers() {
            if let Some((filter, one)) = state.remove_source(key).and_then(|source| source.shared) {
                carried.shared.insert(filter, one);
            }
        }
        carried.subscriptions = std::mem::take(&mut state.subscriptions);
        drop(guard);
        if !batch.is_empty() {
            let position = self.broker.apply(&mut batch).position;
            carried.freed.logged(position, self.broker.committed());
        }
        carried
    }
}
