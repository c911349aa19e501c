//! A publisher of a fixed number of messages, each of which may be different, within a window of confirms.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::flow::{Shared, Task};
use super::mold::{Cast, Mold};
use super::receiver::Arrived;
use super::{OUTSTANDING, SIZE};
use crate::connection::Connection;
use crate::error::Error;
use crate::histogram::Histogram;
use crate::publisher::{listen, take_confirms};
use crate::uri::Uri;
use crate::window::Window;
use crate::wire::{Message, Method};

const GOODBYE_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Sender {
    connection: Connection,
    mold: Mold,
    window: Window,
}

/// What became of the messages.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) confirmed: u64,
    pub(crate) began_at: u64,
    /// The last confirm.
    pub(crate) ended_at: u64,
    /// When the last message was sent.
    pub(crate) last_at: u64,
    pub(crate) latency: Histogram,
}

impl Sent {
    pub(crate) fn seconds(&self) -> f64 {
        self.ended_at.saturating_sub(self.began_at) as f64 / 1e9
    }

    /// From the first message's publishing to the last one's arrival.
    pub(crate) fn seconds_until(&self, arrived: &Arrived) -> f64 {
        arrived.last_at.saturating_sub(self.began_at) as f64 / 1e9
    }

    pub(crate) fn fault(&self, messages: u64) -> Option<String> {
        (self.confirmed < messages).then(|| format!("{} of {messages} messages were confirmed", self.confirmed))
    }
}

impl Sender {
    /// `like` is what all messages have in common, but for the body.
    pub(crate) fn open(uri: &Uri, like: Message<'_>) -> Result<Self, Error> {
        let mut connection = Connection::open(uri)?;
        connection.call(Method::CONFIRM_SELECT, Method::CONFIRM_SELECT_OK, |out| {
            out.octet(0);
        })?;
        let mold = Mold::new(&Message { frame_max: connection.frame_max, body: &[0; SIZE], ..like });
        Ok(Self { connection, mold, window: Window::new(OUTSTANDING) })
    }

    /// What `run` does, as a task of a flow.
    pub(crate) fn task<'a>(
        self,
        messages: u64,
        sent: &'a mut Sent,
        shape: impl FnMut(u64, u64, &mut Cast<'_>) + Send + 'a,
    ) -> Task<'a> {
        Box::new(move |shared| {
            *sent = self.run(shared, messages, shape)?;
            Ok(())
        })
    }

    /// Publishes `messages` and waits for their confirms. Each carries the time at which it was sent and its number;
    /// `shape` gets both, and may change the copy.
    pub(crate) fn run(
        mut self,
        shared: &Shared<'_>,
        messages: u64,
        mut shape: impl FnMut(u64, u64, &mut Cast<'_>),
    ) -> Result<Sent, Error> {
        let control = shared.control;
        let began_at = control.now();
        let (mut sent, mut last_at) = (0, began_at);
        let mut out = Vec::new();
        while sent < messages && !control.is_settling() {
            let room = (self.window.room() as u64).min(messages - sent);
            if room == 0 {
                self.hear(shared)?;
                continue;
            }
            last_at = control.now();
            out.clear();
            for index in sent..sent + room {
                let mut cast = self.mold.cast(&mut out);
                cast.stamp(last_at, index);
                shape(index, last_at, &mut cast);
            }
            if !self.send(shared, &out, room as usize, last_at)? {
                break;
            }
            sent += room;
            shared.counters.published.store(sent, Relaxed);
        }
        while !self.window.is_empty() && !control.is_settling() {
            self.hear(shared)?;
        }
        let ended_at = control.now();
        // A server in the middle of a backlog may answer late; that is no fault of the load.
        match self.connection.close(GOODBYE_WAIT) {
            Ok(()) | Err(Error::Timeout(_) | Error::HungUp) => {}
            Err(error) => return Err(error),
        }
        Ok(Sent { confirmed: self.window.acked, began_at, ended_at, last_at, latency: self.window.latency })
    }

    /// `false` if the load ended before the server took everything.
    fn send(&mut self, shared: &Shared<'_>, mut bytes: &[u8], messages: usize, now: u64) -> Result<bool, Error> {
        // Before the write, because the confirm may be back before the write returns.
        self.window.sent(messages, now);
        while !bytes.is_empty() {
            let length = self.connection.send_some(bytes)?;
            bytes = &bytes[length..];
            if length == 0 {
                if shared.control.is_hopeless() {
                    return Ok(false);
                }
                listen(&mut self.connection, Some(&mut self.window), shared.counters, shared.control)?;
            }
        }
        Ok(true)
    }

    fn hear(&mut self, shared: &Shared<'_>) -> Result<(), Error> {
        self.connection.inbox.fill(&mut self.connection.stream)?;
        take_confirms(&mut self.connection.inbox, Some(&mut self.window), shared.counters, shared.control)
    }
}
