//! Publishing while there is too little memory or disk.
//!
//! A channel that publishes is held back from that publish on: its frames wait, unread, in the order in which they came.
//! Other channels go on, and settlements are taken on every channel, because they are what frees memory. Only when too much
//! is held back is the connection not read at all.

use std::{sync::atomic::Ordering, task::Waker};

use broker::session::Millis;

use super::AmqpSession;
use crate::{
    method::Method,
    wire::{Frame, frame_type},
};

/// Bytes that a connection may have held back before it is not read.
pub(super) const HELD_BYTES_MAX: usize = 256 * 1024;

impl AmqpSession {
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        if let Some(connection) = &self.connection {
            connection.is_blocked.store(blocked, Ordering::Relaxed);
        }
    }

    /// Whether a publish has to wait for the alarm to end. The client is told once.
    pub(super) fn is_alarmed(&mut self) -> bool {
        let alarms = self.broker.alarms();
        if alarms.any() && !self.blocked {
            self.set_blocked(true);
            if self.client.wants_blocked {
                self.outgoing.send(0, &Method::ConnectionBlocked { reason: alarms.reason() });
            }
        }
        alarms.any()
    }

    /// Holds a frame back if its channel is held back, or is from now on. Returns whether it did.
    pub(super) fn hold_back(&mut self, frame: Frame<'_>, input: &[u8]) -> bool {
        if !self.blocked && self.held_bytes == 0 {
            return false;
        }
        let blocked = self.blocked;
        let Some(channel) = self.channel(frame.channel) else { return false };
        let is_method = |ids: &[u16]| {
            let is =
                |id: &u16| frame.payload.starts_with(&[0, 60]) && frame.payload[2..].starts_with(&id.to_be_bytes());
            frame.kind == frame_type::METHOD && ids.iter().any(is)
        };
        let waits = if channel.held.is_empty() {
            blocked && is_method(&[40])
        } else {
            // In a transaction the order of settlements and publishes counts.
            channel.transaction.is_some() || !is_method(&[80, 90, 120])
        };
        if !waits || channel.closing {
            return false;
        }
        channel.held.extend_from_slice(&input[..frame.len()]);
        self.held_bytes += frame.len();
        true
    }

    /// Goes on with what was held back, once the alarm is over.
    pub(super) fn poll_alarm(&mut self, now: Millis, waker: &Waker) {
        if self.blocked {
            if !std::mem::replace(&mut self.waits_for_alarm, true) {
                self.broker.wake_after_alarm(waker);
            }
            if self.broker.alarms().any() {
                return;
            }
            self.set_blocked(false);
            self.waits_for_alarm = false;
            if self.client.wants_blocked {
                self.outgoing.send(0, &Method::ConnectionUnblocked {});
            }
        }
        if self.held_bytes > 0 {
            (1..self.channels.len()).for_each(|number| self.release_held(number as u16, now));
        }
    }

    fn release_held(&mut self, number: u16, now: Millis) {
        let held = self.channel(number).map(|channel| std::mem::take(&mut channel.held)).unwrap_or_default();
        self.held_bytes -= held.len();
        let used = self.take_frames(&held, now);
        // What follows a reply that waits for the disk waits with it.
        if let Some(channel) = self.channel(number)
            && !channel.closing
        {
            channel.held.extend_from_slice(&held[used..]);
            self.held_bytes += held.len() - used;
        }
    }
}
