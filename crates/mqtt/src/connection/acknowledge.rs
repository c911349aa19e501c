//! What both sides say of publishes that they have got (sections 3.4 to 3.7, 4.3), and DISCONNECT (section 3.14).

use broker::{Event, Millis, Position, Settlement, publish::Batch, session::HangUp};

use super::{MqttConnection, Phase, answers, settling::settle};
use crate::{
    mapping::Reason,
    notes,
    outgoing::OWN,
    packet::{Ack, Note, Qos, Version, kind},
    properties::id,
    wire::Malformed,
};

/// A reason code from which on a packet tells of a failure (section 2.4).
const FAILURE: u8 = 0x80;

impl MqttConnection {
    /// The client has a message that was to come at least once.
    pub(super) fn puback(&mut self, ack: Ack, batch: &mut Batch<'_>) {
        let mut state = self.outgoing.lock();
        let known = state.in_flight.get(&ack.packet_id).is_some_and(|one| one.qos == Qos::AtLeastOnce);
        if !known {
            return;
        }
        if let Some(one) = state.in_flight.remove(&ack.packet_id) {
            self.credit.give(one.counted.into());
            self.count(Event::Acknowledge);
            settle(&state, batch, one.source, Settlement::Accept, (one.slot, one.record));
            state.freed.free(ack.packet_id, one.record);
            self.has_freed = true;
            if one.is_noted {
                notes::complete(batch, self.number, ack.packet_id);
            }
        }
        drop(state);
        self.resume_shared();
    }

    /// The client has a message that was to come exactly once, and will not take it again under this identifier.
    pub(super) fn pubrec(&mut self, ack: Ack, batch: &mut Batch<'_>) {
        let mut guard = self.outgoing.lock();
        let state = &mut *guard;
        let known = state.in_flight.get(&ack.packet_id).copied().filter(|one| one.qos == Qos::ExactlyOnce);
        let Some(one) = known else {
            drop(guard);
            let reason = if self.version == Version::V5 { Reason::PacketIdentifierNotFound } else { Reason::Success };
            self.respond(Position(0), answers::ack(kind::PUBREL, self.version, ack.packet_id, reason));
            return self.tell();
        };
        let is_noted = state.is_persistent && one.source == OWN;
        if ack.reason >= FAILURE {
            // It does not want it, and the identifier is free.
            state.in_flight.remove(&ack.packet_id);
            self.credit.give(one.counted.into());
            state.freed.free(ack.packet_id, one.record);
            self.has_freed = true;
            if !one.released {
                settle(state, batch, one.source, Settlement::Accept, (one.slot, one.record));
            }
            if is_noted {
                notes::complete(batch, self.number, ack.packet_id);
            }
            return;
        }
        let pubrel = answers::ack(kind::PUBREL, self.version, ack.packet_id, Reason::Success);
        if one.released {
            drop(guard);
            self.respond(Position(0), pubrel);
            return self.tell();
        }
        if let Some(one) = state.in_flight.get_mut(&ack.packet_id) {
            one.released = true;
        }
        self.count(Event::Acknowledge);
        settle(state, batch, one.source, Settlement::Accept, (one.slot, one.record));
        if is_noted {
            // Only when this is safe may the client forget the identifier: before, it would take the message for a new one.
            notes::released(batch, self.number, ack.packet_id);
        }
        drop(guard);
        self.pending.push(pubrel);
    }

    /// The client forgets an identifier; it will use it for something else.
    pub(super) fn pubrel(&mut self, ack: Ack, batch: &mut Batch<'_>) {
        let is_known = self.received_ids.remove(&ack.packet_id);
        let reason = match self.version {
            Version::V5 if !is_known => Reason::PacketIdentifierNotFound,
            _ => Reason::Success,
        };
        let pubcomp = answers::ack(kind::PUBCOMP, self.version, ack.packet_id, reason);
        if is_known && self.is_persistent() {
            notes::received(batch, self.number, ack.packet_id, false);
            return self.pending.push(pubcomp);
        }
        self.apply(batch);
        self.respond(Position(0), pubcomp);
        self.tell();
    }

    /// The client has forgotten an identifier.
    pub(super) fn pubcomp(&mut self, ack: Ack, batch: &mut Batch<'_>) {
        let mut state = self.outgoing.lock();
        if !state.in_flight.get(&ack.packet_id).is_some_and(|one| one.released) {
            return;
        }
        let Some(one) = state.in_flight.remove(&ack.packet_id) else { return };
        self.credit.give(one.counted.into());
        state.freed.free(ack.packet_id, one.record);
        self.has_freed = true;
        if state.is_persistent && one.source == OWN {
            notes::complete(batch, self.number, ack.packet_id);
        }
        drop(state);
        self.apply(batch);
        self.resume_all();
    }

    /// The client says goodbye.
    pub(super) fn disconnect(&mut self, note: &Note<'_>, now: Millis) -> Result<(), Malformed> {
        if let Some(expiry_s) = note.properties.number(id::SESSION_EXPIRY) {
            if !self.is_persistent() && expiry_s > 0 {
                return Err(Malformed::protocol("a session that was to end with the connection is to stay"));
            }
            self.expiry_s = expiry_s.min(self.settings.session_expiry_s_max);
        }
        self.end(note.reason != Reason::Success as u8, now);
        self.phase = Phase::Finished(HangUp::Broker);
        Ok(())
    }
}
