//! The messages of QoS 1 and 2 that a publisher has under way, by their packet ids.

use std::collections::VecDeque;

use super::wire::{Encoder, PUBACK, PUBCOMP, PUBREC, PUBREL};
use crate::error::Error;
use crate::histogram::Histogram;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Free,
    /// Published at this time.
    Published(u64),
    /// The server has it, and has been told that we know.
    Released(u64),
}

/// Never more than the limit are under way.
pub(crate) struct Inflight {
    qos: u8,
    /// The id less one is the index.
    stages: Vec<Stage>,
    /// The one that has rested longest is used first.
    free: VecDeque<u16>,
    pub(crate) acked: u64,
    pub(crate) nacked: u64,
}

impl Inflight {
    pub(crate) fn new(qos: u8, limit: u16) -> Self {
        let limit = limit.max(1);
        Self { qos, stages: vec![Stage::Free; limit.into()], free: (1..=limit).collect(), acked: 0, nacked: 0 }
    }

    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.stages.len()
    }

    /// The id for a message that is published now; 0 if there is no room.
    pub(crate) fn take(&mut self, now: u64) -> u16 {
        let id = self.free.pop_front().unwrap_or(0);
        if let Some(stage) = self.stages.get_mut(usize::from(id).wrapping_sub(1)) {
            *stage = Stage::Published(now);
        }
        id
    }

    /// Takes an acknowledgement, and writes the answer that it needs.
    pub(crate) fn settle(
        &mut self,
        kind: u8,
        (id, is_refused): (u16, bool),
        answers: &mut Encoder,
        now: u64,
        latency: Option<&mut Histogram>,
    ) -> Result<(), Error> {
        let stage = self.stages.get_mut(usize::from(id).wrapping_sub(1)).ok_or(UNKNOWN)?;
        let sent_at = match (kind, self.qos, *stage) {
            (PUBREC, 2, Stage::Published(sent_at)) if !is_refused => {
                *stage = Stage::Released(sent_at);
                answers.answer(PUBREL, id);
                return Ok(());
            }
            (PUBACK, 1, Stage::Published(sent_at))
            | (PUBREC, 2, Stage::Published(sent_at))
            | (PUBCOMP, 2, Stage::Released(sent_at)) => sent_at,
            _ => return Err(UNKNOWN),
        };
        *stage = Stage::Free;
        self.free.push_back(id);
        self.nacked += u64::from(is_refused);
        self.acked += u64::from(!is_refused);
        if let Some(latency) = latency {
            latency.record(now.saturating_sub(sent_at));
        }
        Ok(())
    }
}

const UNKNOWN: Error = Error::Protocol("an acknowledgement of a message that is not under way");

#[cfg(test)]
mod tests {
    use super::super::wire::Version;
    use super::*;

    #[test]
    fn qos_1_ends_with_puback_in_any_order() {
        let (mut inflight, mut answers, mut latency) =
            (Inflight::new(1, 2), Encoder::new(Version::V5), Histogram::default());
        assert_eq!([inflight.take(10), inflight.take(20), inflight.take(30)], [1, 2, 0]);
        let mut settle = |inflight: &mut Inflight, kind, id| {
            inflight.settle(kind, (id, false), &mut answers, 50, Some(&mut latency))
        };
        settle(&mut inflight, PUBACK, 2).unwrap();
        assert!(settle(&mut inflight, PUBACK, 2).is_err());
        assert!(settle(&mut inflight, PUBREC, 1).is_err() && settle(&mut inflight, PUBACK, 0).is_err());
        settle(&mut inflight, PUBACK, 1).unwrap();
        assert!(inflight.is_empty() && inflight.acked == 2 && answers.bytes.is_empty());
        assert_eq!(latency.summary().map(|latency| latency.samples), Some(2));
    }

    #[test]
    fn qos_2_ends_with_pubcomp_or_a_refusal() {
        let (mut inflight, mut answers) = (Inflight::new(2, 2), Encoder::new(Version::V5));
        assert_eq!([inflight.take(10), inflight.take(20)], [1, 2]);
        assert!(inflight.settle(PUBCOMP, (1, false), &mut answers, 0, None).is_err());
        inflight.settle(PUBREC, (1, false), &mut answers, 0, None).unwrap();
        assert_eq!((answers.bytes.as_slice(), inflight.room()), (&[0x62, 2, 0, 1][..], 0));
        inflight.settle(PUBCOMP, (1, false), &mut answers, 0, None).unwrap();
        inflight.settle(PUBREC, (2, true), &mut answers, 0, None).unwrap();
        assert_eq!((inflight.acked, inflight.nacked, inflight.is_empty()), (1, 1, true));
    }
}
