//! The read side of a connection: one large buffer from which frames are taken where they lie.

use std::io::{self, Read};

use crate::error::Error;
use crate::wire::Frame;

/// Two frames of the largest size that we negotiate fit, so a partial frame never blocks reading.
const CAPACITY: usize = 256 * 1024;
/// Below this much room at the end, the rest is moved to the front before the next read.
const ROOM_MIN: usize = 128 * 1024;

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Bytes(usize),
    /// The socket's timeout passed, or it is nonblocking and empty.
    Nothing,
}

/// Bytes that were read and not yet parsed.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of the whole connection.
    pub(crate) received_bytes: u64,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: vec![0; CAPACITY], start: 0, end: 0, received_bytes: 0 }
    }
}

impl Inbox {
    /// Reads once. Call it only when `next_frame` has returned `None`.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> Result<Fill, Error> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if CAPACITY - self.end < ROOM_MIN {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == CAPACITY {
            return Err(Error::Protocol("a frame larger than was negotiated"));
        }
        match source.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(Error::HungUp),
            Ok(length) => {
                self.end += length;
                self.received_bytes += length as u64;
                Ok(Fill::Bytes(length))
            }
            Err(error) if is_nothing(&error) => Ok(Fill::Nothing),
            Err(error) if is_gone(&error) => Err(Error::HungUp),
            Err(source) => Err(Error::Io { doing: "reading from the server", source }),
        }
    }

    /// The next complete frame, or `None` until more has been read.
    #[inline]
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        self.next(Frame::split)
    }

    /// The same with frames of another protocol; `split` gives one and its length.
    #[inline]
    pub(crate) fn next<'a, T>(
        &'a mut self,
        split: impl FnOnce(&'a [u8]) -> Result<Option<(T, usize)>, Error>,
    ) -> Result<Option<T>, Error> {
        match split(&self.buffer[self.start..self.end])? {
            None => Ok(None),
            Some((frame, length)) => {
                self.start += length;
                Ok(Some(frame))
            }
        }
    }
}

/// Whether a read or write only ran into its timeout (or a signal).
pub(crate) fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

pub(crate) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Encoder, Method};

    /// Hands out its bytes in portions of one size.
    struct Portions<'a> {
        rest: &'a [u8],
        size: usize,
    }

    impl Read for Portions<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.size.min(self.rest.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.rest[..length]);
            self.rest = &self.rest[length..];
            if length == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(length) }
        }
    }

    fn tags_read_in_portions(bytes: &[u8], size: usize) -> Vec<u64> {
        let (mut inbox, mut source) = (Inbox::default(), Portions { rest: bytes, size });
        let mut tags = Vec::new();
        loop {
            while let Some(frame) = inbox.next_frame().unwrap() {
                tags.push(frame.arguments().long_long().unwrap());
            }
            if inbox.fill(&mut source).unwrap() == Fill::Nothing {
                return tags;
            }
        }
    }

    #[test]
    fn frames_survive_every_split() {
        let mut encoder = Encoder::default();
        for tag in 0..40_000 {
            encoder.method(1, Method::BASIC_ACK, |out| {
                out.long_long(tag).octet(0);
            });
        }
        let expected: Vec<u64> = (0..40_000).collect();
        for size in (1..64).chain([4093, 65_537, 300_000]) {
            assert_eq!(tags_read_in_portions(&encoder.bytes, size), expected, "portions of {size}");
        }
    }

    #[test]
    fn an_oversized_frame_is_an_error() {
        let bytes = [[3, 0, 1, 0, 16, 0, 0].as_slice(), &vec![0; CAPACITY]].concat();
        let (mut inbox, mut source) = (Inbox::default(), Portions { rest: &bytes, size: usize::MAX });
        assert_eq!(inbox.fill(&mut source).unwrap(), Fill::Bytes(CAPACITY));
        assert_eq!(inbox.next_frame().unwrap(), None);
        assert!(inbox.fill(&mut source).is_err());
    }
}
