//! AMQP 0-9-1: what is said are properties, as conversations write them.

use roadstead_tests::raw::{Address, Connection, Event, Fields, Happening, PATIENCE};
use roadstead_tests::server::Server;

use super::{Client, NAME, Place, Seen, body, id, span};

pub struct Amqp {
    connection: Connection,
}

impl Amqp {
    pub fn open(server: &Server) -> Self {
        let mut connection = Connection::ready(&Address::parse(&server.uri()));
        connection.call(1, "queue.declare", "queue=from-topic exclusive");
        connection.call(1, "queue.bind", &format!("queue=from-topic exchange=amq.topic routing_key={NAME}"));
        connection.call(1, "queue.declare", &format!("queue={NAME} durable"));
        connection.call(1, "confirm.select", "");
        Self { connection }
    }
}

impl Client for Amqp {
    fn name(&self) -> &'static str {
        "AMQP 0-9-1"
    }

    fn sayings(&self) -> &'static [&'static str] {
        &[
            "",
            "content_type=text/plain",
            "content_type=application/json",
            "content_type=application/octet-stream",
            "content_encoding=gzip",
            "delivery_mode=1",
            "delivery_mode=2",
            "priority=7",
            "correlation_id=c-1",
            "reply_to=answers",
            "expiration=60000",
            "message_id=m-1",
            "timestamp=1700000000",
            "type=greeting",
            "user_id=guest",
            "app_id=test",
            "headers={n=S:text}",
            "headers={n=I:5}",
            "headers={n=l:5000000000}",
            "headers={n=d:1.5}",
            "headers={n=t:1}",
            "headers={n=x:bytes}",
            "headers={n=T:1700000000}",
            "headers={n=V}",
            "headers={n=F:{a=S:b}}",
            "headers={n=A:[I:1,S:a]}",
            "headers={x-reply-to-topic=S:answers.here}",
        ]
    }

    fn send(&mut self, saying: &str, to: Place) {
        let exchange = if to == Place::Topic { "amq.topic" } else { "" };
        let fields = Fields::parse(&format!("exchange={exchange} routing_key={NAME} {saying}"));
        self.connection.publish(1, &fields, b"hello");
        let answer = self.connection.next(PATIENCE);
        assert_eq!(answer.method_name(), Some("basic.ack"), "{answer}");
    }

    fn receive(&mut self, from: Place) -> Seen {
        let queue = if from == Place::Topic { "from-topic" } else { NAME };
        // What others send is there when they are told so, or soon after if nobody tells them.
        let mut event = None;
        roadstead_tests::wait_until(PATIENCE.as_secs(), "a message", || {
            let got = self.connection.call(1, "basic.get", &format!("queue={queue} no_ack"));
            let is_there = got.method_name() == Some("basic.get-ok");
            event = Some(got);
            is_there
        });
        let Some(Event { happening: Happening::Content { method, properties, body: bytes }, .. }) = event else {
            panic!("a message has a content")
        };
        let mut seen = Seen::new();
        for name in ["exchange", "routing_key"] {
            let value = method.text(name);
            seen.insert(name.to_owned(), if value.is_empty() { "(empty)".to_owned() } else { format!("`{value}`") });
        }
        for (name, field) in properties {
            let shown = field.show();
            let shown = match name {
                "expiration" => span(shown.parse().expect("milliseconds")),
                "message_id" => id(&shown),
                _ => shown,
            };
            seen.insert(name.to_owned(), shown);
        }
        seen.insert("body".to_owned(), body(&bytes));
        seen
    }
}
