//! STOMP 1.2: what is said are headers.

use std::net::SocketAddr;

use roadstead_tests::server::Server;
use roadstead_tests::stomp::Connection;

use super::{Client, MINUTE_MS, NAME, Place, Seen, body, id, moment, now_ms, span};

/// What the broker says of the delivery, and not of the message.
const OF_DELIVERY: [&str; 5] = ["subscription", "message-id", "ack", "content-length", "redelivered"];

pub struct Stomp {
    /// One for what it sends and for each that it gets from.
    sender: Connection,
    topic: Connection,
    address: SocketAddr,
}

impl Stomp {
    pub fn open(server: &Server) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], server.port_of("stomp")));
        let (sender, mut topic) = (Connection::open(address), Connection::open(address));
        topic.call(&format!("SUBSCRIBE\nid:1\ndestination:/topic/{NAME}\n"), b"");
        Self { sender, topic, address }
    }
}

impl Client for Stomp {
    fn name(&self) -> &'static str {
        "STOMP"
    }

    fn sayings(&self) -> &'static [&'static str] {
        &[
            "content-length:5",
            "(no content-length)",
            "content-type:text/plain",
            "content-type:application/octet-stream",
            "persistent:true",
            "persistent:false",
            "priority:7",
            "correlation-id:c-1",
            "reply-to:/queue/answers",
            "reply-to:/topic/answers.here",
            "expiration:60000",
            "expires:(in a minute)",
            "amqp-message-id:m-1",
            "timestamp:1700000000",
            "type:greeting",
            "app-id:test",
            "n:text",
            "n:5",
            "JMSXGroupID:g-1",
        ]
    }

    fn send(&mut self, saying: &str, to: Place) {
        let kind = if to == Place::Topic { "topic" } else { "queue" };
        let header = match saying {
            "(no content-length)" => String::new(),
            "content-length:5" => format!("{saying}\n"),
            "expires:(in a minute)" => format!("content-length:5\nexpires:{}\n", now_ms() + MINUTE_MS),
            header => format!("content-length:5\n{header}\n"),
        };
        self.sender.call(&format!("SEND\ndestination:/{kind}/{NAME}\n{header}"), b"hello");
    }

    fn receive(&mut self, from: Place) -> Seen {
        let frame = match from {
            Place::Topic => self.topic.frame(),
            Place::Queue => {
                let mut queue = Connection::open(self.address);
                queue.call(&format!("SUBSCRIBE\nid:1\ndestination:/queue/{NAME}\nack:client\nprefetch-count:1\n"), b"");
                let frame = queue.frame();
                let ack = frame.header("ack").unwrap_or_default().to_owned();
                queue.call(&format!("ACK\nid:{ack}\n"), b"");
                queue.call("UNSUBSCRIBE\nid:1\n", b"");
                frame
            }
        };
        assert_eq!(frame.command, "MESSAGE");
        let mut seen = Seen::new();
        for (name, value) in frame.headers.iter().filter(|(name, _)| !OF_DELIVERY.contains(&name.as_str())) {
            let shown = match (name.as_str(), value.parse()) {
                ("expiration", Ok(ms)) => span(ms),
                ("expires" | "timestamp", Ok(ms)) => moment(ms),
                ("amqp-message-id", _) => id(value),
                ("destination" | "reply-to", _) => format!("`{value}`"),
                _ => value.clone(),
            };
            // The first counts.
            seen.entry(name.clone()).or_insert(shown);
        }
        seen.insert("body".to_owned(), body(&frame.body));
        seen
    }
}
