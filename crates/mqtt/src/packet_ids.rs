//! Packet identifiers of messages to the client (section 2.2.1).
//!
//! Who comes back gets what he has not acknowledged under the identifiers that he knows (MQTT-4.4.0-1), also if the broker was
//! killed meanwhile. With quality of service 2 each is written down before it is used. With 1 that would cost every message a
//! commit. Instead its identifier follows from the message's record, which no restart changes; only if that one is in use,
//! another is chosen and written down first.
//!
//! The upper half of the range is for identifiers that follow from records, the lower half for those that are chosen. So nobody
//! is given one under which a message was sent that is yet to come again.

use std::collections::{BTreeMap, BTreeSet};

use broker::Position;

use crate::{outgoing::Place, packet::Qos};

/// The first identifier that follows from a record.
pub const DERIVED: u16 = 0x8000;

/// How many there are.
const DERIVED_COUNT: u64 = 0x8000;

/// The identifier that follows from a record.
pub fn derived(record: Position) -> u16 {
    DERIVED + (record.0 % DERIVED_COUNT) as u16
}

/// Identifiers under which messages of the session's own queue were sent before, and are to be sent again.
#[derive(Debug, Default)]
pub struct Promised {
    by_place: BTreeMap<Place, (u16, Qos)>,
    ids: BTreeSet<u16>,
}

impl Promised {
    /// Adds a message that was sent.
    pub fn insert(&mut self, place: Place, packet_id: u16, qos: Qos) {
        self.ids.insert(packet_id);
        self.by_place.insert(place, (packet_id, qos));
    }

    /// Takes out what a message was sent with, if it was.
    pub fn remove(&mut self, place: Place) -> Option<(u16, Qos)> {
        let promised = self.by_place.remove(&place)?;
        self.ids.remove(&promised.0);
        Some(promised)
    }

    /// Whether some message was sent under an identifier.
    pub fn has(&self, packet_id: u16) -> bool {
        self.ids.contains(&packet_id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_place.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// All of them: where the message is, its identifier and its quality of service.
    pub fn iter(&self) -> impl Iterator<Item = (Place, u16, Qos)> {
        self.by_place.iter().map(|(place, (packet_id, qos))| (*place, *packet_id, *qos))
    }
}

/// The first and the last of some records.
type Span = Option<(u64, u64)>;

/// Identifiers that followed from records and that the client has freed, though a crash would still bring their messages back.
/// Until it would not, no other message may be sent under one of them without a note.
///
/// Only between which records they lie is known. Records that are closer together than there are identifiers never share one,
/// so that is enough but for the odd message that is written down needlessly.
///
/// Most connections free none, and have nothing but a pointer for it.
#[derive(Debug, Default)]
pub struct Freed(Option<Box<Spans>>);

#[derive(Debug, Default)]
struct Spans {
    /// What was freed last.
    gathering: Span,
    /// Whether the log has not got all of that yet.
    is_unlogged: bool,
    /// Where the log has the last of what it has got.
    logged: Position,
    /// What was freed before.
    waiting: Span,
    /// When that is safe.
    until: Position,
}

impl Freed {
    /// The client is done with a message, and the log is about to be told.
    pub fn free(&mut self, packet_id: u16, record: Position) {
        if packet_id < DERIVED {
            return;
        }
        // One that was chosen though it is of the upper half could be that of any record.
        let (low, high) = if packet_id == derived(record) { (record.0, record.0) } else { (0, u64::MAX) };
        let spans = self.0.get_or_insert_default();
        let (first, last) = spans.gathering.unwrap_or((low, high));
        spans.gathering = Some((first.min(low), last.max(high)));
        spans.is_unlogged = true;
    }

    /// The log has got all that was freed, the last of it here.
    pub fn logged(&mut self, position: Position, committed: Position) {
        let Some(spans) = &mut self.0 else { return };
        (spans.is_unlogged, spans.logged) = (false, spans.logged.max(position));
        spans.forget(committed);
    }

    /// Whether the identifier that follows from a record may be used without a note.
    pub fn allows(&mut self, record: Position, committed: impl FnOnce() -> Position) -> bool {
        let Some(spans) = &mut self.0 else { return true };
        let is_apart =
            |span: Span| span.is_none_or(|(first, last)| last.max(record.0) - first.min(record.0) < DERIVED_COUNT);
        if is_apart(spans.gathering) && is_apart(spans.waiting) {
            return true;
        }
        spans.forget(committed());
        is_apart(spans.gathering) && is_apart(spans.waiting)
    }
}

impl Spans {
    /// Forgets what is safe.
    fn forget(&mut self, committed: Position) {
        if self.until > committed {
            return;
        }
        self.waiting = None;
        if !self.is_unlogged {
            (self.waiting, self.until) = (self.gathering.take(), self.logged);
        }
        if self.until <= committed {
            self.waiting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Position = Position(7 + DERIVED_COUNT);

    #[test]
    fn what_follows_from_a_record_is_never_chosen() {
        assert_eq!(derived(Position(0)), DERIVED);
        assert_eq!(derived(Position(DERIVED_COUNT - 1)), u16::MAX);
        assert_eq!(derived(Position(7)), derived(SAME));
    }

    #[test]
    fn an_identifier_is_free_once_no_crash_brings_its_message_back() {
        let mut freed = Freed::default();
        freed.free(derived(Position(7)), Position(7));
        let at = |position| move || Position(position);
        assert!(freed.allows(Position(8), at(0)), "nobody else has used it");
        assert!(!freed.allows(SAME, at(100)), "the log does not have it yet");
        freed.logged(Position(20), Position(19));
        assert!(!freed.allows(SAME, at(19)));
        freed.free(derived(Position(9)), Position(9));
        assert!(freed.allows(SAME, at(20)), "only the second one is left");
        assert!(!freed.allows(Position(SAME.0 + 2), at(20)));
        freed.logged(Position(30), Position(20));
        assert!(!freed.allows(Position(SAME.0 + 2), at(29)));
        assert!(freed.allows(Position(SAME.0 + 2), at(30)));
    }

    #[test]
    fn one_that_was_chosen_stands_for_all() {
        let mut freed = Freed::default();
        freed.free(3, Position(3));
        assert!(freed.allows(SAME, || Position(0)));
        freed.free(DERIVED + 3, Position(4));
        assert!(!freed.allows(Position(5), || Position(0)));
    }
}
