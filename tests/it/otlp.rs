//! Metrics and spans that the broker sends to a collector of OpenTelemetry.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use roadstead_tests::raw::{Address, Connection, Fields, PATIENCE};
use roadstead_tests::server::Server;
use serde_json::Value;

/// A request to the collector: its first line and headers, in small letters, and its body.
struct Request {
    head: Vec<String>,
    body: Value,
}

/// A collector that answers with these, and then with the last of them for ever.
fn collector(answers: &'static [&'static str]) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (requests, received) = channel();
    thread::spawn(move || {
        for count in 0.. {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let Some(request) = read(&stream) else { continue };
            let answer = answers[answers.len().min(count + 1) - 1];
            // The broker may have ended, and the test too.
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            if requests.send(request).is_err() {
                return;
            }
        }
    });
    (endpoint, received)
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body: serde_json::from_slice(&body).ok()? })
}

impl Request {
    /// A metric that is the only one of its name.
    fn metric(&self, name: &str) -> &Value {
        let metrics = self.body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics");
        let found: Vec<_> = metrics.iter().filter(|metric| metric["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found[0]
    }

    fn count(&self, name: &str) -> f64 {
        self.metric(name)["sum"]["dataPoints"][0]["asDouble"].as_f64().expect("a number")
    }
}

#[test]
fn a_collector_gets_metrics_and_may_be_away() {
    let (endpoint, received) = collector(&["200 OK", "503 Service Unavailable", "503 Service Unavailable", "200 OK"]);
    let config = format!("[otlp]\nendpoint = \"{endpoint}\"\ninterval_ms = 100\nheaders = {{ X-Key = \"secret\" }}\n");
    let server = Server::builder().config(config).start();
    let first = received.recv_timeout(PATIENCE).expect("metrics");
    assert_eq!(first.head[0], "post /v1/metrics http/1.1");
    for line in ["content-type: application/json", "x-key: secret"] {
        assert!(first.head.iter().any(|other| other == line), "{line} in {:?}", first.head);
    }
    let resource = &first.body["resourceMetrics"][0]["resource"]["attributes"][0];
    assert_eq!((&resource["key"], &resource["value"]["stringValue"]), (&"service.name".into(), &"roadstead".into()));

    let mut publisher = Connection::ready(&Address::parse(&server.uri()));
    publisher.call(1, "confirm.select", "");
    for _ in 0..3 {
        publisher.publish(1, &Fields::parse("routing_key=nowhere"), b"message");
    }
    let name = "rabbitmq_global_messages_received_total";
    let begun = Instant::now();
    while received.recv_timeout(PATIENCE).expect("metrics").count(name) < 3.0 {
        assert!(begun.elapsed() < PATIENCE, "the messages are not counted");
    }
    // What is said of a collector that is away, and of its return, is said once.
    for line in ["OpenTelemetry: metrics are not taken", "OpenTelemetry: metrics are taken again"] {
        while !server.log().contains(line) {
            assert!(begun.elapsed() < PATIENCE, "no '{line}' in:\n{}", server.log());
            received.recv_timeout(PATIENCE).expect("metrics");
        }
        assert_eq!(server.log().matches(line).count(), 1, "{}", server.log());
    }
}

#[test]
fn an_endpoint_that_is_no_address_is_refused() {
    let Err(failure) = Server::builder().config("[otlp]\nendpoint = \"collector:4318\"\n").attempt() else {
        panic!("the broker started");
    };
    assert!(failure.to_string().contains("otlp.endpoint is 'collector:4318'"), "{failure}");
}

/// Spans of the next request that has some.
fn spans(received: &Receiver<Request>) -> Vec<Value> {
    loop {
        let request = received.recv_timeout(PATIENCE).expect("spans");
        if request.head[0].starts_with("post /v1/traces ") {
            return request.body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
        }
    }
}

fn attribute<'a>(span: &'a Value, name: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().expect("attributes");
    &attributes.iter().find(|attribute| attribute["key"] == name).unwrap_or_else(|| panic!("no {name} in {span}"))["value"]
}

#[test]
fn a_message_with_a_context_leaves_spans() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    let (endpoint, received) = collector(&["200 OK"]);
    let server = Server::builder().config(format!("[otlp]\nendpoint = \"{endpoint}\"\ntraces = true\n")).start();
    let mut connection = Connection::ready(&Address::parse(&server.uri()));
    connection.call(1, "queue.declare", "queue=q");
    for context in
        ["", &format!(",traceparent=S:00-{TRACE}-{PARENT}-00"), &format!(",traceparent=S:00-{TRACE}-{PARENT}-01")]
    {
        connection.publish(1, &Fields::parse(&format!("routing_key=q headers={{a=S:b{context}}}")), b"message");
    }
    connection.call(1, "basic.consume", "queue=q no_ack");
    for _ in 0..3 {
        connection.next(PATIENCE);
    }
    let mut found = spans(&received);
    if found.len() < 2 {
        found.extend(spans(&received));
    }
    let names: Vec<_> = found.iter().map(|span| (span["name"].as_str().expect("a name"), &span["kind"])).collect();
    assert_eq!(names, [("publish amq.default", &5.into()), ("deliver q", &4.into())]);
    for span in &found {
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&TRACE.into(), &PARENT.into()));
        assert_eq!(attribute(span, "messaging.rabbitmq.destination.routing_key")["stringValue"], "q");
        assert_eq!(attribute(span, "messaging.message.body.size")["intValue"], "7");
        let time = |name: &str| span[name].as_str().expect("a time").parse::<u64>().expect("a number");
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    }
    assert_ne!(found[0]["spanId"], found[1]["spanId"]);
    assert_eq!(attribute(&found[0], "user.name")["stringValue"], "guest");
    assert_eq!(attribute(&found[0], "roadstead.queues")["intValue"], "1");
}
