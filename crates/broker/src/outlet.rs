//! The way out of the model: deliveries into the output of the connection that consumes.

use std::{collections::VecDeque, fmt, sync::Arc, task::Waker};

use bytes::Bytes;

use crate::{limits, log::Position, message::MessageView, topology::QueueInfo, value::Name};

/// The number under which an outlet knows one of its consumers. Only the outlet gives it meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey(pub u64);

/// A message on its way to a consumer.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Which of the outlet's consumers gets it.
    pub consumer: ConsumerKey,
    /// The queue that it comes from; none if it was never in one.
    pub queue: Option<&'a Arc<QueueInfo>>,
    /// Its place in the queue, to settle it by.
    pub slot: u64,
    /// Its record in the log, if it has one.
    pub record: Position,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Failed attempts to deliver it that the queue remembers, whether they count against a limit or not.
    pub failures: u32,
    /// Whether it counts against the credit that the channel's consumers share.
    pub counted: bool,
    /// Attempts to deliver it before this one, as far as its queue tells.
    pub attempts: Attempts,
    /// Its number in the stream that it comes from.
    pub offset: Option<u64>,
    /// Whether it is the first message of its group that the consumer gets.
    pub is_first_of_group: bool,
    /// The message.
    pub message: &'a MessageView<'a>,
}

/// How often a message was handed out and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// All of these times, if the queue tells them from failed ones.
    pub acquired: u32,
    /// Those that count against the queue's limit.
    pub failed: u32,
}

/// Whether an outlet can take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// It can.
    Low,
    /// Its connection does not keep up; its consumers get nothing until they are resumed.
    High,
}

/// A connection's output, as the model sees it. Calls come under a shard's lock and must not call the broker.
pub trait Outlet: Send + Sync + fmt::Debug {
    /// Encodes a delivery. Wakers that became due are added to `wakes`, to be woken outside all locks.
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure;

    /// The consumer's queue is gone, and the consumer with it.
    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>);

    /// A consumer that only looks has got everything that was in the queue when it came. Wakers that became due are added to
    /// `wakes`.
    fn browsed(&self, _consumer: ConsumerKey, _wakes: &mut Vec<Waker>) {}

    /// A delivery that was not settled in time is no longer the consumer's: what it still says of it means nothing.
    fn revoked(&self, consumer: ConsumerKey, slot: u64);

    /// Moves all that waits into `chunks`, and remembers `waker` for what comes next. Returns whether there was any.
    fn drain(&self, chunks: &mut Chunks, waker: &Waker) -> bool;

    /// Bytes that wait.
    fn pending_bytes(&self) -> usize;

    /// Whom to wake to have the connection look around. Who asks wakes it.
    fn waker(&self) -> Option<Waker> {
        None
    }

    /// Deliveries of a channel that the client has not settled; all of them if there are no channels.
    fn unsettled(&self, _channel: u16) -> usize {
        0
    }

    /// What the client calls one of its consumers, and the channel that it is on, if there are channels.
    fn consumer_name(&self, _consumer: ConsumerKey) -> Option<(u16, Name)> {
        None
    }
}

/// Capacity of a written buffer that is kept however little it is used.
const SPARE_BYTES: usize = 4096;

/// Chunks for which there is no room while there are none.
const FEW_CHUNKS: usize = 4;

/// Bytes on their way to a socket, in order.
#[derive(Debug, Default)]
pub struct Chunks {
    chunks: VecDeque<Bytes>,
    spare: Vec<u8>,
    len: usize,
}

impl Chunks {
    /// Bytes in all chunks together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks, for a vectored write.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// Forgets the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.len -= written;
        while written > 0 {
            let Some(first) = self.chunks.front_mut() else { return };
            if written < first.len() {
                bytes::Buf::advance(first, written);
                return;
            }
            written -= first.len();
            let Some(done) = self.chunks.pop_front() else { return };
            self.recycle(done);
        }
    }

    /// Keeps one written buffer for the output to fill next: under load two buffers change places without allocation.
    fn recycle(&mut self, done: Bytes) {
        if self.spare.capacity() == 0
            && let Ok(buffer) = done.try_into_mut()
        {
            let mut buffer = Vec::from(buffer);
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Gives room for few chunks back while there are none: for each of many idle connections it is too much.
    fn rest(&mut self) {
        if self.chunks.is_empty() && self.chunks.capacity() <= FEW_CHUNKS {
            self.chunks = VecDeque::new();
        }
    }

    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }
}

/// The buffer that every outlet is built around: small writes are gathered, large payloads are shared.
#[derive(Debug, Default)]
pub struct Output {
    sealed: VecDeque<Bytes>,
    sealed_len: usize,
    open: Vec<u8>,
    waker: Option<Waker>,
}

impl Output {
    /// The buffer to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.open
    }

    /// Appends a payload: by reference if it is large and shareable, else by copy.
    pub fn payload(&mut self, payload: &[u8], block: Option<&Bytes>) {
        match block {
            Some(block) if payload.len() >= limits::SHARED_PAYLOAD_BYTES => {
                self.seal();
                self.sealed_len += payload.len();
                self.sealed.push_back(block.slice_ref(payload));
            }
            _ => self.open.extend_from_slice(payload),
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed_len += self.open.len();
            self.sealed.push_back(std::mem::take(&mut self.open).into());
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.sealed_len + self.open.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the waker to `wakes` if the connection has not been woken since it last drained.
    pub fn wake(&mut self, wakes: &mut Vec<Waker>) {
        wakes.extend(self.waker.take());
    }

    /// The waker, if the connection has not been woken since it last drained. Who takes it wakes it.
    pub fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Moves everything to `chunks`, and remembers whom to wake when there is more.
    pub fn drain(&mut self, chunks: &mut Chunks, waker: &Waker) -> bool {
        match &mut self.waker {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        if self.is_empty() {
            chunks.rest();
            return false;
        }
        for chunk in self.sealed.drain(..) {
            chunks.push(chunk);
        }
        self.sealed_len = 0;
        let mut spare = std::mem::take(&mut chunks.spare);
        // A connection that has become quiet does not keep what it needed under load.
        if spare.capacity() > SPARE_BYTES && spare.capacity() / 8 > self.open.len() {
            spare = Vec::new();
        }
        chunks.push(std::mem::replace(&mut self.open, spare).into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_in_order_and_large_payloads_are_not_copied() {
        let large = Bytes::from(vec![7; limits::SHARED_PAYLOAD_BYTES]);
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"head");
        output.payload(&large, Some(&large));
        output.payload(b"tail", None);
        let mut chunks = Chunks::default();
        assert!(output.drain(&mut chunks, Waker::noop()));
        assert_eq!(chunks.len(), 8 + large.len());
        let parts: Vec<_> = chunks.iter().cloned().collect();
        assert_eq!((&parts[0][..], &parts[2][..]), (&b"head"[..], &b"tail"[..]));
        assert_eq!(parts[1].as_ptr(), large.as_ptr());
        chunks.advance(6);
        assert_eq!(chunks.len(), 2 + large.len());
        chunks.advance(2 + large.len());
        assert!(chunks.is_empty());
    }
}
