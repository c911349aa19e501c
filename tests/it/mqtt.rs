//! MQTT sessions whose broker is killed: what was sent comes again as what it was.

use std::net::SocketAddr;

use roadstead_tests::mqtt::{Connection, Happening, PATIENCE, Publish, Session, Taken, Version};
use roadstead_tests::server::Server;

const EARLIER: usize = 5;
const UNACKNOWLEDGED: usize = 12;
const KILLS: usize = 2;

fn address(server: &Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.mqtt_port()))
}

fn message(number: usize) -> Publish {
    let (topic, payload) = (format!("to/{number}"), number.to_string().into_bytes());
    let qos = if number.is_multiple_of(3) { 2 } else { 1 };
    Publish { topic, qos, payload, ..Publish::default() }
}

/// A client with its connection.
struct Client {
    session: Session,
    connection: Connection,
}

impl Client {
    fn new(client_id: &str, version: Version, server: &Server) -> Self {
        let mut session = Session::new(client_id, version, 100);
        let opened = session.open(address(server)).expect("the broker is there");
        assert!(!opened.session_present);
        Self { session, connection: opened.connection }
    }

    fn come_back(&mut self, server: &Server) {
        let opened = self.session.open(address(server)).expect("the broker is there");
        assert!(opened.session_present);
        self.connection = opened.connection;
    }

    fn take(&mut self) -> Taken {
        match self.connection.next(PATIENCE) {
            Happening::Packet(packet) => self.session.take(&mut self.connection, packet),
            other => panic!("{other:?} instead of a packet"),
        }
    }

    fn publish(&mut self, numbers: impl Iterator<Item = usize>) {
        for number in numbers {
            self.session.publish(&mut self.connection, number as u64, message(number));
        }
        while self.session.unfinished() > 0 {
            let taken = self.take();
            assert!(matches!(taken, Taken::Answered(_) | Taken::Completed), "{taken:?}");
        }
    }

    /// Messages that the session has not had, or has had and not acknowledged.
    fn messages(&mut self, count: usize) -> Vec<Publish> {
        let messages = (0..count).map(|_| match self.take() {
            Taken::Message(publish) | Taken::Again(publish) => publish,
            other => panic!("{other:?} instead of a message"),
        });
        messages.collect()
    }

    /// Once the broker answers, it has what was said before in its log.
    fn subscribe(&mut self, filter: &str) {
        self.session.subscribe(&mut self.connection, &[(filter, 2)]);
        let taken = self.take();
        assert!(matches!(taken, Taken::SubAck(_)), "{taken:?}");
    }

    fn acknowledge(&mut self, messages: &[Publish]) {
        messages.iter().for_each(|publish| self.session.acknowledge(&mut self.connection, publish));
        for _ in messages.iter().filter(|publish| publish.qos == 2) {
            assert_eq!(self.take(), Taken::Completed);
        }
    }
}

fn numbers(messages: &[Publish]) -> Vec<usize> {
    let number = |publish: &Publish| String::from_utf8_lossy(&publish.payload).parse().expect("it is a number");
    messages.iter().map(number).collect()
}

fn comes_again_under_its_identifier(version: Version) {
    let mut server = Server::start();
    let (mut reader, mut writer) = (Client::new("reader", version, &server), Client::new("writer", version, &server));
    reader.subscribe("to/#");
    // Without these, identifiers that are counted from the start again would be the same by chance.
    writer.publish(0..EARLIER);
    let earlier = reader.messages(EARLIER);
    reader.acknowledge(&earlier);
    reader.subscribe("earlier");

    let all = EARLIER..EARLIER + UNACKNOWLEDGED;
    writer.publish(all.clone());
    let sent = reader.messages(UNACKNOWLEDGED);
    assert_eq!(numbers(&sent), all.clone().collect::<Vec<_>>());
    assert!(sent.iter().all(|publish| !publish.dup), "{sent:?}");

    let again: Vec<_> = sent.into_iter().map(|publish| Publish { dup: true, ..publish }).collect();
    for _ in 0..KILLS {
        server.kill();
        server.restart();
        reader.come_back(&server);
        assert_eq!(reader.messages(UNACKNOWLEDGED), again);
    }

    reader.acknowledge(&again);
    reader.subscribe("later");
    server.kill();
    server.restart();
    reader.come_back(&server);
    writer.come_back(&server);
    writer.publish(all.end..all.end + 1);
    let next = reader.messages(1);
    assert_eq!((numbers(&next), next[0].dup), (vec![all.end], false), "what is acknowledged does not come again");
}

#[test]
fn what_was_not_acknowledged_comes_again_under_its_identifier() {
    comes_again_under_its_identifier(Version::V5);
}

#[test]
fn what_was_not_acknowledged_comes_again_under_its_identifier_by_mqtt_3() {
    comes_again_under_its_identifier(Version::V311);
}
