//! A connection with a session, a producer for any destination, and one consumer.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::message::{Destination, Message, skip_id, write_member, write_text};
use super::transaction::Transaction;
use crate::raw::{PATIENCE, Reader, Writer};

const CONNECTION_INFO: u8 = 3;
const SESSION_INFO: u8 = 4;
const CONSUMER_INFO: u8 = 5;
const PRODUCER_INFO: u8 = 6;
const MESSAGE_DISPATCH: u8 = 21;
const MESSAGE_ACK: u8 = 22;
const CONNECTION_ERROR: u8 = 16;
const RESPONSE: u8 = 30;
const EXCEPTION_RESPONSE: u8 = 31;
const DATA_ARRAY_RESPONSE: u8 = 33;
const INTEGER_RESPONSE: u8 = 34;

/// Why something came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// The broker is gone.
    Gone,
    /// It says no, in so many words.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A connection of the user `guest`.
pub struct Connection {
    stream: TcpStream,
    client: String,
    number: u32,
    sent: u64,
    /// What the consumer gets from.
    source: Option<Destination>,
    /// What has come for the consumer while something else was awaited.
    dispatched: VecDeque<Vec<u8>>,
}

impl Connection {
    pub fn open(address: SocketAddr, client: &str) -> Self {
        Self::attempt(address, client).unwrap_or_else(|failure| panic!("a connection: {failure:?}"))
    }

    /// As a client that comes back by itself, perhaps now.
    pub fn fault_tolerant(address: SocketAddr, client: &str, comes_back: bool) -> Self {
        Self::with(address, client, [1, u8::from(comes_back)])
            .unwrap_or_else(|failure| panic!("a connection: {failure:?}"))
    }

    /// The same with a broker that may go at any time.
    pub fn attempt(address: SocketAddr, client: &str) -> Result<Self, Failure> {
        Self::with(address, client, [0; 2])
    }

    fn with(address: SocketAddr, client: &str, failover: [u8; 2]) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let (client, dispatched) = (client.to_owned(), VecDeque::new());
        let mut connection = Self { stream, client, number: 0, sent: 0, source: None, dispatched };
        // Neither tight nor cached, as nothing is said of either.
        let mut out = Writer::default();
        out.u8(1).raw(b"ActiveMQ").u32(12).u8(0);
        connection.send_frame(&out.into_bytes())?;
        connection.ask(CONNECTION_INFO, |out, client| {
            out.u8(1).u8(120);
            write_text(Some(client), out);
            write_text(Some(client), out);
            write_text(Some("guest"), out);
            write_text(Some("guest"), out);
            // No path or other broker; not manageable.
            out.raw(&[0; 4]).raw(&failover).u8(0);
        })?;
        connection.ask(SESSION_INFO, |out, client| {
            out.u8(1).u8(121);
            write_text(Some(client), out);
            out.u64(1);
        })?;
        connection.ask(PRODUCER_INFO, |out, client| {
            write_member(123, client, out);
            out.u8(0).u8(0).u8(0).u32(0);
        })?;
        Ok(connection)
    }

    /// Sends a command and awaits its response, which is an agreement.
    fn call(&mut self, kind: u8, fields: impl FnOnce(&mut Writer, &str)) {
        if let Err(failure) = self.ask(kind, fields) {
            panic!("{kind}: {failure:?}");
        }
    }

    /// Sends a command and awaits its response. Returns what that tells behind the number of the command.
    pub(super) fn ask(&mut self, kind: u8, fields: impl FnOnce(&mut Writer, &str)) -> Result<Vec<u8>, Failure> {
        self.number += 1;
        let mut out = Writer::default();
        out.u8(kind).u32(self.number).u8(1);
        fields(&mut out, &self.client);
        self.send_frame(&out.into_bytes())?;
        loop {
            let frame = self.frame()?;
            match frame[0] {
                MESSAGE_DISPATCH => self.dispatched.push_back(frame),
                EXCEPTION_RESPONSE | CONNECTION_ERROR => {
                    return Err(Failure::Refused(frame.escape_ascii().to_string()));
                }
                RESPONSE | DATA_ARRAY_RESPONSE | INTEGER_RESPONSE => {
                    assert_eq!(frame[6..10], self.number.to_be_bytes(), "responses in their order");
                    return Ok(frame[10..].to_vec());
                }
                _ => {}
            }
        }
    }

    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = (frame.len() as u32).to_be_bytes();
        self.stream.write_all(&[&length, frame].concat())
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Consumes, one message at a time.
    pub fn subscribe(&mut self, destination: &Destination) {
        if let Err(failure) = self.consume(destination, 1) {
            panic!("a consumer: {failure:?}");
        }
    }

    /// Consumes, with so many messages at a time.
    pub fn consume(&mut self, destination: &Destination, prefetch: u32) -> Result<(), Failure> {
        self.ask(CONSUMER_INFO, |out, client| {
            write_member(122, client, out);
            out.u8(0);
            destination.write(out);
            // Its prefetch, no limit of messages that wait, not in turns; no selector, client or durable name.
            out.u32(prefetch).u32(0).u8(1).raw(&[0; 3]);
            // Not noLocal, exclusive or retroactive; its priority, no path, no predicate; of no network, and no path.
            out.raw(&[0; 3]).raw(&[0; 3]).raw(&[0; 3]).u8(0);
        })?;
        self.source = Some(destination.clone());
        Ok(())
    }

    /// Sends a message and awaits the response.
    pub fn send(&mut self, message: &Message) {
        self.sent += 1;
        let number = self.sent;
        self.call(message.kind, |out, client| message.write(None, client, number, out));
    }

    /// The next message has the number after the next, as if one had been sent.
    pub fn skip_number(&mut self) {
        self.sent += 1;
    }

    /// Has a transaction send a message.
    pub fn send_in(&mut self, transaction: &Transaction, message: &Message) -> Result<(), Failure> {
        self.sent += 1;
        let number = self.sent;
        self.ask(message.kind, |out, client| message.write(Some(transaction), client, number, out)).map(drop)
    }

    /// The next message, which is acknowledged.
    pub fn receive(&mut self) -> Message {
        let message = self.next(PATIENCE).expect("the broker is there").expect("a message in time");
        self.acknowledge(None, &message).expect("an acknowledgement is taken");
        message
    }

    /// The next message, if one comes in time.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Message>, Failure> {
        loop {
            let frame = match self.dispatched.pop_front() {
                Some(frame) => frame,
                None if !self.is_readable(patience)? => return Ok(None),
                None => self.frame()?,
            };
            if frame[0] == MESSAGE_DISPATCH {
                let message = read(&mut Reader::new(&frame[6..]));
                return Ok(Some(message.unwrap_or_else(|_| panic!("a dispatch: {}", frame.escape_ascii()))));
            }
        }
    }

    fn is_readable(&mut self, patience: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(patience))?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE))?;
        match peeked {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            peeked => peeked.map(|_| true),
        }
    }

    /// Acknowledges a message, perhaps with a transaction.
    pub fn acknowledge(&mut self, transaction: Option<&Transaction>, message: &Message) -> Result<(), Failure> {
        let source = self.source.clone().expect("a consumer");
        self.ask(MESSAGE_ACK, |out, client| {
            source.write(out);
            Transaction::write(transaction, client, out);
            write_member(122, client, out);
            out.u8(2).raw(&message.id).raw(&message.id).u32(1).u8(0);
        })
        .map(drop)
    }
}

fn read(input: &mut Reader<'_>) -> Result<Message, crate::raw::Malformed> {
    skip_id(input)?;
    if input.u8()? == 1 {
        input.u8()?;
        super::message::read_text(input)?;
    }
    assert_eq!(input.u8()?, 1, "a message");
    let kind = input.u8()?;
    Message::read(kind, input)
}
