//! A client's half of a session (section 4.1 of the specification): what it may not forget when a connection ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::connection::{Connection, Happening, PATIENCE};
use super::packet::{self, Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, Version};

/// A reason code from which on a packet tells of a failure.
const FAILURE: u8 = 0x80;
/// What PUBCOMP says of an identifier that the broker has forgotten, which is no failure.
const NOT_FOUND: u8 = 0x92;

pub struct Session {
    pub client_id: String,
    pub version: Version,
    /// Messages that the broker may have sent without an answer; clients of MQTT 3.1.1 can't say it.
    pub receive_maximum: u16,
    last_id: u16,
    /// Publishes that are not complete, in the order in which they were first sent.
    outgoing: BTreeMap<u64, Outgoing>,
    /// Identifiers of messages with quality of service 2 that the broker has not released.
    received: BTreeSet<u16>,
}

enum Outgoing {
    /// By the caller's name for it.
    Sent(u64, Publish),
    /// The broker has it, and only the identifier is in use.
    Released(u16),
}

impl Outgoing {
    fn packet_id(&self) -> u16 {
        match self {
            Self::Sent(_, publish) => publish.packet_id,
            Self::Released(packet_id) => *packet_id,
        }
    }
}

/// A connection that is open.
pub struct Opened {
    pub connection: Connection,
    pub session_present: bool,
    /// The publishes that were sent again, by the caller's names.
    pub resent: Vec<u64>,
}

/// What a packet of the broker means to the session.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// A message that is new to the session; to be acknowledged.
    Message(Publish),
    /// A message that the session has had; to be acknowledged once more.
    Again(Publish),
    /// The broker has taken charge of a publish, by the caller's name.
    Answered(u64),
    /// A packet identifier is free again.
    Completed,
    SubAck(Vec<u8>),
    /// No broker would send this here.
    Unexpected(Packet),
}

impl Session {
    pub fn new(client_id: &str, version: Version, receive_maximum: u16) -> Self {
        let (client_id, last_id) = (client_id.to_owned(), 0);
        let (outgoing, received) = (BTreeMap::new(), BTreeSet::new());
        Self { client_id, version, receive_maximum, last_id, outgoing, received }
    }

    /// A session that ends with its connection.
    pub fn open_clean(&mut self, address: SocketAddr) -> Option<Opened> {
        self.open_as(address, true)
    }

    /// Connects, and takes the session up where it was; nothing if the broker is gone.
    pub fn open(&mut self, address: SocketAddr) -> Option<Opened> {
        self.open_as(address, false)
    }

    fn open_as(&mut self, address: SocketAddr, clean: bool) -> Option<Opened> {
        let Self { version, receive_maximum, .. } = *self;
        let mut connection = Connection::tcp(address, version).ok()?;
        connection.send(&packet::connect(&Connect { version, client_id: &self.client_id, clean, receive_maximum }));
        let session_present = match connection.next(PATIENCE) {
            Happening::Closed => return None,
            Happening::Packet(Packet::ConnAck { session_present, code: 0 }) => session_present,
            other => panic!("CONNECT of {} was answered by {other:?}", self.client_id),
        };
        if !session_present {
            self.outgoing.clear();
            self.received.clear();
        }
        let resent = self.resend(&mut connection);
        Some(Opened { connection, session_present, resent })
    }

    /// Says again what has no answer, in its order and under its identifiers.
    fn resend(&mut self, connection: &mut Connection) -> Vec<u64> {
        let mut resent = Vec::new();
        for one in self.outgoing.values_mut() {
            match one {
                Outgoing::Sent(name, publish) => {
                    publish.dup = true;
                    resent.push(*name);
                    connection.send(&packet::publish(self.version, publish));
                }
                Outgoing::Released(packet_id) => connection.send(&packet::ack(PUBREL, *packet_id)),
            }
        }
        resent
    }

    /// Publishes that are not complete.
    pub fn unfinished(&self) -> usize {
        self.outgoing.len()
    }

    /// Publishes under an identifier of its own choice, and remembers that until it is complete.
    pub fn publish(&mut self, connection: &mut Connection, name: u64, mut publish: Publish) {
        publish.packet_id = self.next_id();
        connection.send(&packet::publish(self.version, &publish));
        let place = self.outgoing.last_key_value().map_or(0, |(last, _)| last + 1);
        self.outgoing.insert(place, Outgoing::Sent(name, publish));
    }

    pub fn subscribe(&mut self, connection: &mut Connection, filters: &[(&str, u8)]) {
        let packet_id = self.next_id();
        connection.send(&packet::subscribe(self.version, packet_id, filters));
    }

    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.outgoing.values().all(|one| one.packet_id() != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// What a packet means; all that it asks for is answered, but for messages.
    pub fn take(&mut self, connection: &mut Connection, packet: Packet) -> Taken {
        match packet {
            Packet::Publish(publish) if publish.qos == 2 && !self.received.insert(publish.packet_id) => {
                Taken::Again(publish)
            }
            Packet::Publish(publish) => Taken::Message(publish),
            Packet::SubAck { codes, .. } => Taken::SubAck(codes),
            Packet::Ack { kind: PUBREL, packet_id, code: 0 } => {
                self.received.remove(&packet_id);
                connection.send(&packet::ack(PUBCOMP, packet_id));
                Taken::Completed
            }
            Packet::Ack { kind, packet_id, code } => match self.answered(kind, packet_id, code) {
                Some(taken) => {
                    if kind == PUBREC {
                        connection.send(&packet::ack(PUBREL, packet_id));
                    }
                    taken
                }
                None => Taken::Unexpected(packet),
            },
            other => Taken::Unexpected(other),
        }
    }

    /// An answer to a publish; nothing if there is none to which it could belong.
    fn answered(&mut self, kind: u8, packet_id: u16, code: u8) -> Option<Taken> {
        let (&place, one) = self.outgoing.iter().find(|(_, one)| one.packet_id() == packet_id)?;
        match (kind, one) {
            (PUBACK, Outgoing::Sent(name, publish)) if publish.qos == 1 && code < FAILURE => {
                let name = *name;
                self.outgoing.remove(&place);
                Some(Taken::Answered(name))
            }
            (PUBREC, Outgoing::Sent(name, publish)) if publish.qos == 2 && code < FAILURE => {
                let name = *name;
                self.outgoing.insert(place, Outgoing::Released(packet_id));
                Some(Taken::Answered(name))
            }
            (PUBCOMP, Outgoing::Released(_)) if code == 0 || code == NOT_FOUND => {
                self.outgoing.remove(&place);
                Some(Taken::Completed)
            }
            _ => None,
        }
    }

    /// Tells the broker that a message has come.
    pub fn acknowledge(&self, connection: &mut Connection, publish: &Publish) {
        match publish.qos {
            1 => connection.send(&packet::ack(PUBACK, publish.packet_id)),
            2 => connection.send(&packet::ack(PUBREC, publish.packet_id)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A broker that says `answer` once and returns what it got.
    fn broker(answer: &'static [u8]) -> (SocketAddr, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(answer).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        });
        (address, got)
    }

    fn publish(qos: u8) -> Publish {
        Publish { topic: "t".to_owned(), qos, ..Publish::default() }
    }

    fn ack(kind: u8, packet_id: u16) -> Packet {
        Packet::Ack { kind, packet_id, code: 0 }
    }

    const NEW: &[u8] = b"\x20\x02\x00\x00";
    const PRESENT: &[u8] = b"\x20\x02\x01\x00";

    /// What a session with publishes 1 to 4 sends over its second connection, behind CONNECT; it got PUBACK for 1 and
    /// PUBREC for 2.
    fn sent_again(connack: &'static [u8]) -> Vec<u8> {
        let mut session = Session::new("c", Version::V311, 0);
        let (address, got) = broker(NEW);
        let mut connection = session.open(address).unwrap().connection;
        for (name, qos) in [(1, 1), (2, 2), (3, 2), (4, 1)] {
            session.publish(&mut connection, name, publish(qos));
        }
        assert_eq!(session.take(&mut connection, ack(PUBACK, 1)), Taken::Answered(1));
        assert_eq!(session.take(&mut connection, ack(PUBREC, 2)), Taken::Answered(2));
        assert_eq!(session.take(&mut connection, ack(PUBACK, 3)), Taken::Unexpected(ack(PUBACK, 3)));
        connection.cut();
        got.join().unwrap();
        let (address, got) = broker(connack);
        session.open(address).unwrap().connection.cut();
        let got = got.join().unwrap();
        let connect = 2 + usize::from(got[1]);
        got[connect..].to_vec()
    }

    #[test]
    fn what_has_no_answer_is_sent_again() {
        assert_eq!(sent_again(PRESENT), b"\x62\x02\x00\x02\x3c\x05\x00\x01t\x00\x03\x3a\x05\x00\x01t\x00\x04");
        assert_eq!(sent_again(NEW), b"");
    }

    #[test]
    fn an_identifier_is_kept_until_it_is_released() {
        let (address, got) = broker(NEW);
        let mut session = Session::new("c", Version::V5, 1);
        let mut connection = Connection::tcp(address, Version::V5).unwrap();
        let message = Publish { packet_id: 9, ..publish(2) };
        let mut take = |packet| session.take(&mut connection, packet);
        assert_eq!(take(Packet::Publish(message.clone())), Taken::Message(message.clone()));
        assert_eq!(take(Packet::Publish(message.clone())), Taken::Again(message.clone()));
        assert_eq!(take(ack(PUBREL, 9)), Taken::Completed);
        assert_eq!(take(Packet::Publish(message.clone())), Taken::Message(message));
        connection.cut();
        assert_eq!(got.join().unwrap(), b"\x70\x02\x00\x09");
    }
}
