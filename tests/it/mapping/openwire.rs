//! OpenWire: what is said are fields and properties of a message, by JMS's names.

use std::net::SocketAddr;

use roadstead_tests::openwire::{Connection, Destination, Message, Primitive};
use roadstead_tests::server::Server;

use super::{Client, MINUTE_MS, NAME, Place, Seen, body, moment, now_ms};

const KINDS: [&str; 7] =
    ["Message", "BytesMessage", "MapMessage", "ObjectMessage", "StreamMessage", "TextMessage", "BlobMessage"];

pub struct OpenWire {
    topic: Connection,
    sender: Connection,
    address: SocketAddr,
    opened: usize,
}

impl OpenWire {
    pub fn open(server: &Server) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], server.port_of("openwire")));
        let mut topic = Connection::open(address, "mapping-topic");
        topic.subscribe(&Destination::topic(NAME));
        Self { topic, sender: Connection::open(address, "mapping-sender"), address, opened: 0 }
    }
}

/// A message of which `saying` is said.
fn message(saying: &str) -> Message {
    let bare = || Message { kind: 28, content: Some(Message::text("hello")), priority: 4, ..Message::default() };
    let (name, value) = saying.split_once(' ').unwrap_or((saying, ""));
    let of = |kind, content| Message { kind, content, ..bare() };
    match name {
        "BytesMessage" => of(24, Some(b"hello".to_vec())),
        "MapMessage" => of(25, Some(Message::map(&[("a".to_owned(), Primitive::Int(5))]))),
        "StreamMessage" => of(27, Some(Message::stream(&[Primitive::Int(5), Primitive::Text("b".to_owned())]))),
        // Java's form of the string "hello".
        "ObjectMessage" => of(26, Some(b"\xac\xed\0\x05t\0\x05hello".to_vec())),
        "Message" => of(23, None),
        "JMSDeliveryMode" => Message { persistent: true, ..bare() },
        "JMSPriority" => Message { priority: 7, ..bare() },
        "JMSCorrelationID" => Message { correlation_id: Some(value.to_owned()), ..bare() },
        "JMSReplyTo" => {
            let (kind, name) = value.split_once("://").expect("a kind and a name");
            let to = if kind == "queue" { Destination::queue(name) } else { Destination::topic(name) };
            Message { reply_to: Some(to), ..bare() }
        }
        "JMSExpiration" => Message { expiration: now_ms() + MINUTE_MS, ..bare() },
        "JMSTimestamp" => Message { timestamp: 1_700_000_000_123, ..bare() },
        "JMSType" => Message { message_type: Some(value.to_owned()), ..bare() },
        "JMSXGroupID" => Message { group_id: Some(value.to_owned()), group_sequence: 3, ..bare() },
        "property" => Message { properties: vec![("n".to_owned(), primitive(value))], ..bare() },
        _ => bare(),
    }
}

fn primitive(text: &str) -> Primitive {
    let (kind, value) = text.split_once(' ').expect("a type and a value");
    let number = || value.parse::<i64>().expect("a number");
    match kind {
        "boolean" => Primitive::Bool(value == "true"),
        "byte" => Primitive::Byte(number() as i8),
        "short" => Primitive::Short(number() as i16),
        "int" => Primitive::Int(number() as i32),
        "long" => Primitive::Long(number()),
        "float" => Primitive::Float(value.parse().expect("a number")),
        "double" => Primitive::Double(value.parse().expect("a number")),
        _ => Primitive::Text(value.to_owned()),
    }
}

impl Client for OpenWire {
    fn name(&self) -> &'static str {
        "OpenWire (JMS)"
    }

    fn sayings(&self) -> &'static [&'static str] {
        &[
            "TextMessage",
            "BytesMessage",
            "MapMessage {a: int 5}",
            "StreamMessage [int 5, \"b\"]",
            "ObjectMessage \"hello\"",
            "Message",
            "JMSDeliveryMode PERSISTENT",
            "JMSPriority 7",
            "JMSCorrelationID c-1",
            "JMSReplyTo queue://answers",
            "JMSReplyTo topic://answers.here",
            "JMSExpiration (in a minute)",
            "JMSTimestamp 1700000000123",
            "JMSType greeting",
            "JMSXGroupID g-1",
            "property String text",
            "property boolean true",
            "property byte 5",
            "property short 5",
            "property int 5",
            "property long 5000000000",
            "property float 1.5",
            "property double 1.5",
        ]
    }

    fn send(&mut self, saying: &str, to: Place) {
        let destination = if to == Place::Topic { Destination::topic(NAME) } else { Destination::queue(NAME) };
        self.sender.send(&Message { destination: Some(destination), ..message(saying) });
    }

    fn receive(&mut self, from: Place) -> Seen {
        if from == Place::Topic {
            return seen(&self.topic.receive());
        }
        self.opened += 1;
        let mut queue = Connection::open(self.address, &format!("mapping-queue-{}", self.opened));
        queue.subscribe(&Destination::queue(NAME));
        seen(&queue.receive())
    }
}

fn show_destination(destination: &Destination) -> String {
    format!("`{}://{}`", if destination.kind == 100 { "queue" } else { "topic" }, destination.name)
}

fn seen(message: &Message) -> Seen {
    let mut seen = Seen::new();
    let mut see = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            seen.insert(name.to_owned(), value);
        }
    };
    let kind = usize::from(message.kind).checked_sub(23).and_then(|kind| KINDS.get(kind));
    see("class", kind.map(|kind| (*kind).to_owned()));
    see("JMSDestination", message.destination.as_ref().map(show_destination));
    see("JMSMessageID", message.id_text.clone());
    see("JMSReplyTo", message.reply_to.as_ref().map(show_destination));
    see("JMSDeliveryMode", message.persistent.then(|| "PERSISTENT".to_owned()));
    see("JMSPriority", (message.priority != 4).then(|| message.priority.to_string()));
    see("JMSCorrelationID", message.correlation_id.clone());
    see("JMSType", message.message_type.clone());
    see("JMSExpiration", (message.expiration != 0).then(|| moment(message.expiration)));
    see("JMSTimestamp", (message.timestamp != 0).then(|| moment(message.timestamp)));
    see("JMSXGroupID", message.group_id.clone());
    see("JMSXGroupSeq", (message.group_sequence != 0).then(|| message.group_sequence.to_string()));
    see("JMSXUserID", message.user_id.clone());
    for (name, value) in &message.properties {
        see(&format!("property {name}"), Some(value.to_string()));
    }
    let content = message.content.as_deref().unwrap_or_default();
    let shown = match message.kind {
        25 | 27 => {
            let values = message.values();
            let values: Vec<_> =
                values.iter().map(|(name, value)| format!("{name} {value}").trim().to_owned()).collect();
            format!("[{}]", values.join(", "))
        }
        28 => body(content.get(4..).unwrap_or_default()),
        _ => body(content),
    };
    see("body", Some(shown));
    seen
}
