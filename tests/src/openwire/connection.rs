//! A connection with a session, a producer for any destination, and one consumer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::message::{Destination, Message, skip_id, write_member, write_text};
use crate::raw::{PATIENCE, Reader, Writer};

const CONNECTION_INFO: u8 = 3;
const SESSION_INFO: u8 = 4;
const CONSUMER_INFO: u8 = 5;
const PRODUCER_INFO: u8 = 6;
const MESSAGE_DISPATCH: u8 = 21;
const MESSAGE_ACK: u8 = 22;
const RESPONSE: u8 = 30;

/// A connection of the user `guest`.
pub struct Connection {
    stream: TcpStream,
    client: String,
    number: u32,
    sent: u64,
    /// What the consumer gets from.
    source: Option<Destination>,
}

impl Connection {
    pub fn open(address: SocketAddr, client: &str) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut connection = Self { stream, client: client.to_owned(), number: 0, sent: 0, source: None };
        // Neither tight nor cached, as nothing is said of either.
        let mut out = Writer::default();
        out.u8(1).raw(b"ActiveMQ").u32(12).u8(0);
        connection.send_frame(&out.into_bytes());
        connection.call(CONNECTION_INFO, |out, client| {
            out.u8(1).u8(120);
            write_text(Some(client), out);
            write_text(Some(client), out);
            write_text(Some("guest"), out);
            write_text(Some("guest"), out);
            out.raw(&[0; 7]);
        });
        connection.call(SESSION_INFO, |out, client| {
            out.u8(1).u8(121);
            write_text(Some(client), out);
            out.u64(1);
        });
        connection.call(PRODUCER_INFO, |out, client| {
            write_member(123, client, out);
            out.u8(0).u8(0).u8(0).u32(0);
        });
        connection
    }

    /// Sends a command and awaits its response.
    fn call(&mut self, kind: u8, fields: impl FnOnce(&mut Writer, &str)) {
        self.number += 1;
        let mut out = Writer::default();
        out.u8(kind).u32(self.number).u8(1);
        fields(&mut out, &self.client);
        self.send_frame(&out.into_bytes());
        loop {
            let frame = self.frame();
            assert!(frame[0] != 31 && frame[0] != 16, "{kind} is refused: {}", frame.escape_ascii());
            if frame[0] == RESPONSE {
                return assert_eq!(frame[6..10], self.number.to_be_bytes(), "responses in their order");
            }
        }
    }

    fn send_frame(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.stream.write_all(&[&length, frame].concat()).expect("the broker reads");
    }

    fn frame(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("a frame in time");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("all of a frame");
        frame
    }

    /// Consumes, one message at a time.
    pub fn subscribe(&mut self, destination: &Destination) {
        self.call(CONSUMER_INFO, |out, client| {
            write_member(122, client, out);
            out.u8(0);
            destination.write(out);
            // Its prefetch, no limit of messages that wait, not in turns; no selector, client or durable name.
            out.u32(1).u32(0).u8(1).raw(&[0; 3]);
            // Not noLocal, exclusive or retroactive; its priority, no path, no predicate; of no network, and no path.
            out.raw(&[0; 3]).raw(&[0; 3]).raw(&[0; 3]).u8(0);
        });
        self.source = Some(destination.clone());
    }

    /// Sends a message and awaits the response.
    pub fn send(&mut self, message: &Message) {
        self.sent += 1;
        let number = self.sent;
        self.call(message.kind, |out, client| message.write(client, number, out));
    }

    /// The next message, which is acknowledged.
    pub fn receive(&mut self) -> Message {
        loop {
            let frame = self.frame();
            if frame[0] != MESSAGE_DISPATCH {
                continue;
            }
            let mut input = Reader::new(&frame[6..]);
            let message = read(&mut input).unwrap_or_else(|_| panic!("a dispatch: {}", frame.escape_ascii()));
            let (id, source) = (message.id.clone(), self.source.clone().expect("a consumer"));
            self.call(MESSAGE_ACK, |out, client| {
                source.write(out);
                out.u8(0);
                write_member(122, client, out);
                out.u8(2).raw(&id).raw(&id).u32(1).u8(0);
            });
            return message;
        }
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
