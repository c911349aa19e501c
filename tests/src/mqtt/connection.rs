//! One connection: packets out and in, with a time-out on every read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packet::{self, Packet, Version};

/// How long an answer that must come may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum Happening {
    Packet(Packet),
    /// The broker has closed the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

pub struct Connection {
    stream: TcpStream,
    version: Version,
    /// What was read and not taken yet, from `taken` on.
    inbox: Vec<u8>,
    taken: usize,
}

impl Connection {
    /// A TCP connection, nothing said yet.
    pub fn tcp(address: SocketAddr, version: Version) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, version, inbox: Vec::new(), taken: 0 })
    }

    /// A broker that has hung up is noticed by the next read, so a failed write is no error here.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends the connection without a word.
    pub fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Ends the connection in order.
    pub fn say_goodbye(&mut self) {
        self.send(&packet::disconnect());
        self.cut();
    }

    /// The next packet that the broker sends.
    pub fn next(&mut self, patience: Duration) -> Happening {
        let deadline = Instant::now() + patience;
        loop {
            let read = packet::read(&self.inbox[self.taken..], self.version);
            match read.unwrap_or_else(|_| panic!("the broker sent {}", self.inbox[self.taken..].escape_ascii())) {
                Some((packet, length)) => {
                    self.taken += length;
                    return Happening::Packet(packet);
                }
                None => {
                    if let Some(end) = self.fill(deadline) {
                        return end;
                    }
                }
            }
        }
    }

    /// Reads more, or tells why there is no more.
    fn fill(&mut self, deadline: Instant) -> Option<Happening> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _ = self.stream.set_read_timeout(Some(left));
        let mut buffer = [0; 65_536];
        self.inbox.drain(..std::mem::take(&mut self.taken));
        match self.stream.read(&mut buffer) {
            Ok(0) => Some(Happening::Closed),
            Ok(length) => {
                self.inbox.extend_from_slice(&buffer[..length]);
                None
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(Happening::Silence),
            Err(e) if e.kind() == ErrorKind::Interrupted => None,
            Err(_) => Some(Happening::Closed),
        }
    }
}
