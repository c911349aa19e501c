//! One MQTT connection over a socket that never blocks. Thousands of them share the buffer of their thread.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::poller::Poller;
use super::wire::Packet;
use crate::error::Error;
use crate::inbox::{is_gone, is_nothing};

/// Where the links of a thread read into: enough for any packet that a load has.
pub(crate) fn scratch(body_size: usize) -> Vec<u8> {
    const SMALLEST: usize = 256 * 1024;
    const HEADERS: usize = 4 * 1024;
    vec![0; SMALLEST.max(2 * (body_size + HEADERS))]
}

pub(crate) struct Link {
    stream: TcpStream,
    /// The beginning of a packet whose end has not been read yet.
    rest: Vec<u8>,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// Up to here it did.
    sent: usize,
    /// Whether its poller waits until the socket takes more.
    is_awaited: bool,
    pub(crate) received_bytes: u64,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, rest: Vec::new(), unsent: Vec::new(), sent: 0, is_awaited: false, received_bytes: 0 }
    }

    /// Reads once, and has every packet that is now complete taken. Returns how many bytes there were.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(Packet<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let held = self.rest.len();
        let (front, room) = scratch.split_at_mut_checked(held).ok_or(Error::Protocol("too large a packet"))?;
        front.copy_from_slice(&self.rest);
        if room.is_empty() {
            return Err(Error::Protocol("too large a packet"));
        }
        let length = match self.stream.read(room) {
            Ok(0) => return Err(Error::HungUp),
            Ok(length) => length,
            Err(error) if is_nothing(&error) => return Ok(0),
            Err(error) if is_gone(&error) => return Err(Error::HungUp),
            Err(source) => return Err(Error::Io { doing: "reading from the server", source }),
        };
        self.received_bytes += length as u64;
        let mut unread = &scratch[..held + length];
        while let Some((packet, length)) = Packet::split(unread)? {
            take(packet)?;
            unread = &unread[length..];
        }
        self.rest.clear();
        self.rest.extend_from_slice(unread);
        Ok(length)
    }

    /// Sends, or keeps what the socket does not take for `flush`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let taken = if self.is_stuck() { 0 } else { self.write_some(bytes)? };
        self.unsent.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Whether there is something that the socket did not take.
    pub(crate) fn is_stuck(&self) -> bool {
        self.sent < self.unsent.len()
    }

    /// Tries again to send what was kept.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let mut unsent = std::mem::take(&mut self.unsent);
        let taken = self.write_some(&unsent[self.sent..])?;
        self.sent += taken;
        if self.sent == unsent.len() {
            unsent.clear();
            self.sent = 0;
        }
        self.unsent = unsent;
        Ok(())
    }

    /// Has the poller wait for writing just as long as there is something to be written.
    pub(crate) fn await_room(&mut self, poller: &Poller, key: u64) -> Result<(), Error> {
        if self.is_stuck() != self.is_awaited {
            self.is_awaited = self.is_stuck();
            poller.change(&*self, key, self.is_awaited)?;
        }
        Ok(())
    }

    fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(length) => taken += length,
                Err(error) if is_nothing(&error) => break,
                Err(error) if is_gone(&error) => return Err(self.last_words()),
                Err(source) => return Err(Error::Io { doing: "writing to the server", source }),
            }
        }
        Ok(taken)
    }

    /// After the server hung up: why, if it left a packet about it in the socket.
    fn last_words(&mut self) -> Error {
        let mut scratch = scratch(0);
        let heard = self.read(&mut scratch, |packet| match packet.kind {
            super::wire::DISCONNECT => Err(packet.farewell()),
            _ => Ok(()),
        });
        heard.err().unwrap_or(Error::HungUp)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::wire::{Encoder, Message, Version};
    use super::*;

    fn pair() -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        (Link::new(stream), listener.accept().unwrap().0)
    }

    #[test]
    fn packets_survive_every_split() {
        let mut encoder = Encoder::new(Version::V311);
        for number in 0..50u16 {
            encoder.publish(&Message { topic: "t", body: &number.to_be_bytes(), ..Message::default() });
        }
        for portion in [1, 3, 8, 1000] {
            let ((mut link, mut server), mut seen) = (pair(), Vec::new());
            let mut scratch = scratch(0);
            for bytes in encoder.bytes.chunks(portion) {
                server.write_all(bytes).unwrap();
                let mut left = bytes.len();
                while left > 0 {
                    left -= link
                        .read(&mut scratch, |packet| {
                            seen.push(packet.arrival(Version::V311)?.body.to_vec());
                            Ok(())
                        })
                        .unwrap();
                }
            }
            let expected: Vec<_> = (0..50u16).map(|number| number.to_be_bytes().to_vec()).collect();
            assert_eq!(seen, expected, "portions of {portion}");
        }
    }

    #[test]
    fn what_the_socket_does_not_take_is_sent_later_in_order() {
        let (mut link, mut server) = pair();
        let bytes: Vec<u8> = (0..20_000_000u32).map(|number| (number % 251) as u8).collect();
        let (first, second) = bytes.split_at(15_000_000);
        link.write(first).unwrap();
        assert!(link.is_stuck());
        link.write(second).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            server.read_to_end(&mut all).unwrap();
            all
        });
        while link.is_stuck() {
            link.flush().unwrap();
        }
        drop(link);
        assert!(reader.join().unwrap() == bytes);
    }

    #[test]
    fn a_server_that_leaves_is_noticed() {
        let (mut link, server) = pair();
        drop(server);
        let mut scratch = scratch(0);
        let ended = loop {
            match link.read(&mut scratch, |_| Ok(())) {
                Ok(0) => {}
                ended => break ended,
            }
        };
        assert!(matches!(ended, Err(Error::HungUp)));
    }
}
