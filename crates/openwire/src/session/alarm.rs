//! What happens while the broker has too little memory or disk: messages wait, and what makes room goes on.

use std::{sync::atomic::Ordering, task::Waker};

use broker::{publish::Batch, session::Millis};

use super::OpenWireSession;
use crate::command::Command;

/// Bytes of messages that may wait before nothing more is read.
pub(super) const HELD_BYTES: usize = 1024 * 1024;

/// What a command takes besides its message, in bytes.
const COMMAND_BYTES: usize = 256;

/// Whether a command makes room, or at least takes none, and depends on nothing that waits.
fn frees(command: &Command<'_>) -> bool {
    match command {
        Command::MessageAck(ack) => ack.transaction_id.is_none(),
        Command::KeepAliveInfo(_) | Command::MessagePull(_) | Command::ConsumerControl(_) => true,
        _ => false,
    }
}

impl OpenWireSession {
    /// Whether a command has to wait for the end of an alarm: a message, and what comes after one that waits.
    pub(super) fn must_wait(&self, command: &Command<'_>) -> bool {
        if !self.held.is_empty() {
            return !frees(command);
        }
        matches!(command, Command::Message(_)) && self.phase.is_open() && self.broker.alarms().any()
    }

    /// Has a command wait.
    pub(super) fn hold(&mut self, command: Command<'_>) {
        if let (Command::Message(message), true) = (&command, self.held.is_empty()) {
            self.advise_full(message);
        }
        self.held_bytes += bytes_of(&command);
        self.held.push_back(command.into_owned());
    }

    /// Goes on with what waited, once the alarm is over.
    pub(super) fn poll_alarm(&mut self, now: Millis, waker: &Waker) {
        if !self.held.is_empty() {
            self.broker.wake_with_alarms(waker);
        }
        if !self.broker.alarms().any() && !self.held.is_empty() {
            self.held_bytes = 0;
            let mut batch = Batch::default();
            for command in std::mem::take(&mut self.held) {
                self.command(command, &mut batch, now);
            }
            self.apply(&mut batch);
        }
        if let Some(connection) = &self.connection {
            connection.is_blocked.store(!self.held.is_empty(), Ordering::Relaxed);
        }
    }
}

fn bytes_of(command: &Command<'_>) -> usize {
    let Command::Message(message) = command else { return COMMAND_BYTES };
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    COMMAND_BYTES + len(message.content.as_deref()) + len(message.marshalled_properties.as_deref())
}
