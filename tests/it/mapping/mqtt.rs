//! MQTT 5: what is said are properties of PUBLISH, each as `name value`.

use std::net::SocketAddr;

use roadstead_tests::mqtt::{Connection, Happening, PATIENCE, Publish, Session, Taken, Version};
use roadstead_tests::raw::{Reader, Writer, quoted};
use roadstead_tests::server::Server;

use super::{Client, NAME as DESTINATION, Place, Seen, body, span};

pub const NAME: &str = "MQTT 5";
const PAYLOAD_FORMAT: u8 = 1;
const MESSAGE_EXPIRY: u8 = 2;
const CONTENT_TYPE: u8 = 3;
const RESPONSE_TOPIC: u8 = 8;
const CORRELATION_DATA: u8 = 9;
const USER_PROPERTY: u8 = 38;

pub struct Mqtt {
    session: Session,
    connection: Connection,
}

impl Mqtt {
    pub fn open(server: &Server) -> Self {
        let mut session = Session::new("mapping", Version::V5, 100);
        let address = SocketAddr::from(([127, 0, 0, 1], server.mqtt_port()));
        let mut connection = session.open_clean(address).expect("the broker is there").connection;
        session.subscribe(&mut connection, &[(DESTINATION, 2)]);
        let mut client = Self { session, connection };
        assert!(matches!(client.take(), Taken::SubAck(codes) if codes == [2]));
        client
    }

    fn take(&mut self) -> Taken {
        match self.connection.next(PATIENCE) {
            Happening::Packet(packet) => self.session.take(&mut self.connection, packet),
            other => panic!("{other:?} instead of a packet"),
        }
    }
}

/// The properties that `saying` stands for.
fn properties(saying: &str) -> Vec<u8> {
    let (name, value) = saying.split_once(' ').unwrap_or((saying, ""));
    let mut out = Writer::default();
    match name {
        "payload-format-indicator" => drop(out.u8(PAYLOAD_FORMAT).u8(1)),
        "message-expiry-interval" => drop(out.u8(MESSAGE_EXPIRY).u32(value.parse().expect("seconds"))),
        "content-type" => text(out.u8(CONTENT_TYPE), value.as_bytes()),
        "response-topic" => text(out.u8(RESPONSE_TOPIC), value.as_bytes()),
        "correlation-data" if value == "(bytes)" => text(out.u8(CORRELATION_DATA), &[0, 255, 1]),
        "correlation-data" => text(out.u8(CORRELATION_DATA), value.as_bytes()),
        "user-property" => {
            out.u8(USER_PROPERTY);
            let (name, value) = value.split_once('=').expect("a name and a value");
            text(&mut out, name.as_bytes());
            text(&mut out, value.as_bytes());
        }
        _ => {}
    }
    out.into_bytes()
}

fn text(out: &mut Writer, text: &[u8]) {
    out.u16(text.len() as u16).raw(text);
}

fn read_properties(bytes: &[u8], seen: &mut Seen) {
    let mut input = Reader::new(bytes);
    let mut show = |name: String, value: String| drop(seen.insert(name, value));
    while let Ok(property) = input.u8() {
        let mut text = || {
            let length = input.u16().expect("a length");
            quoted(input.take(length.into()).expect("a text"))
        };
        match property {
            PAYLOAD_FORMAT => show("payload-format-indicator".to_owned(), input.u8().expect("a byte").to_string()),
            MESSAGE_EXPIRY => {
                let seconds = input.u32().expect("seconds");
                show("message-expiry-interval".to_owned(), span(i64::from(seconds) * 1000));
            }
            CONTENT_TYPE => show("content-type".to_owned(), text()),
            RESPONSE_TOPIC => show("response-topic".to_owned(), text()),
            CORRELATION_DATA => show("correlation-data".to_owned(), text()),
            USER_PROPERTY => {
                let name = text();
                show(format!("user-property {name}"), text());
            }
            other => panic!("property {other} of PUBLISH"),
        }
    }
}

impl Client for Mqtt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sayings(&self) -> &'static [&'static str] {
        &[
            "",
            "QoS 0",
            "retain",
            "payload-format-indicator 1",
            "message-expiry-interval 60",
            "content-type text/plain",
            "content-type application/octet-stream",
            "response-topic answers/here",
            "correlation-data c-1",
            "correlation-data (bytes)",
            "user-property n=text",
        ]
    }

    fn send(&mut self, saying: &str, _: Place) {
        let publish = Publish {
            topic: DESTINATION.to_owned(),
            qos: if saying == "QoS 0" { 0 } else { 1 },
            retain: saying == "retain",
            properties: properties(saying),
            payload: b"hello".to_vec(),
            ..Publish::default()
        };
        // Its own message may come before the answer, so both are taken by `receive`.
        self.session.publish(&mut self.connection, 1, publish);
    }

    fn receive(&mut self, _: Place) -> Seen {
        loop {
            match self.take() {
                Taken::Message(publish) => {
                    self.session.acknowledge(&mut self.connection, &publish);
                    return seen(&publish);
                }
                Taken::Answered(_) | Taken::Completed => {}
                other => panic!("{other:?} instead of a message"),
            }
        }
    }
}

fn seen(publish: &Publish) -> Seen {
    let mut seen = Seen::new();
    seen.insert("topic".to_owned(), format!("`{}`", publish.topic));
    seen.insert("QoS".to_owned(), publish.qos.to_string());
    if publish.retain {
        seen.insert("retain".to_owned(), "1".to_owned());
    }
    read_properties(&publish.properties, &mut seen);
    seen.insert("body".to_owned(), body(&publish.payload));
    seen
}
