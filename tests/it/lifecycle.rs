//! How the broker starts, refuses to start, logs and ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Address, Connection, Event, Fields, PATIENCE};
use roadstead_tests::server::{Builder, Server, StartFailure, signal};

/// How long the broker waits for goodbyes, and a little more.
const END_LIMIT: Duration = Duration::from_secs(8);

fn address(server: &Server) -> Address {
    Address::parse(&server.uri())
}

fn refusal(builder: Builder) -> StartFailure {
    let Err(failure) = builder.attempt() else { panic!("the broker started") };
    let status = failure.status.expect("the broker ends when it can't start");
    assert_eq!(status.code(), Some(1), "{failure}");
    failure
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn sigterm_says_goodbye_and_keeps_what_is_durable() {
    let mut server = Server::start();
    let mut publisher = Connection::ready(&address(&server));
    publisher.call(1, "queue.declare", "queue=kept durable");
    publisher.call(1, "confirm.select", "");
    publisher.publish(1, &Fields::parse("routing_key=kept delivery_mode=2"), b"survivor");
    assert_eq!(publisher.next(PATIENCE).method_name(), Some("basic.ack"));
    let mut idle = Connection::ready(&address(&server));

    let start = Instant::now();
    signal("TERM", server.pid());
    for connection in [&mut publisher, &mut idle] {
        assert_is_shutdown(&connection.next(PATIENCE));
        connection.send(0, "connection.close-ok", &Fields::default());
        assert!(connection.next(PATIENCE).is_closed());
    }
    let status = server.wait(END_LIMIT);
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?} with clients that say goodbye", start.elapsed());

    server.restart();
    let mut reader = Connection::ready(&address(&server));
    let got = reader.call(1, "basic.get", "queue=kept no_ack");
    assert_eq!(got.body(), b"survivor");
}

fn assert_is_shutdown(event: &Event) {
    let method = event.method().unwrap_or_else(|| panic!("{event} instead of connection.close"));
    assert_eq!((method.name, method.number("reply_code")), ("connection.close", 320), "{event}");
    assert!(method.text("reply_text").starts_with("CONNECTION_FORCED - "), "{event}");
}

#[test]
fn sigint_ends_the_broker_too() {
    let mut server = Server::start();
    signal("INT", server.pid());
    assert!(server.wait(END_LIMIT).success());
}

#[test]
fn a_client_without_goodbye_delays_the_end_but_not_for_ever() {
    let mut server = Server::start();
    let mut rude = Connection::ready(&address(&server));
    signal("TERM", server.pid());
    assert_is_shutdown(&rude.next(PATIENCE));
    assert!(server.wait(END_LIMIT).success());
}

#[test]
fn a_second_broker_on_the_same_data_is_refused() {
    let first = Server::start();
    let failure = refusal(Server::builder().data(first.data()));
    assert_says(&failure.log, &["in use by another broker", &first.data().display().to_string()]);
    // The first has not been disturbed.
    Connection::ready(&address(&first));
}

#[test]
fn a_taken_port_is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let place = taken.local_addr().expect("it has an address");
    let failure = refusal(Server::builder().env("ROADSTEAD_AMQP_PORT", place.port().to_string()));
    assert_says(&failure.log, &["in use", &place.to_string()]);
}

#[test]
fn port_offset_moves_the_ports() {
    const OFFSET: u16 = 100;
    // Somebody else may take the port before the broker has it.
    let attempt = || {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("there is a free port");
        let configured = (free.port() - OFFSET).to_string();
        let builder = Server::builder().env("ROADSTEAD_AMQP_PORT", configured);
        let server = builder.arguments(["--port-offset", &OFFSET.to_string()]).attempt();
        server.map(|server| (server, free.port()))
    };
    let (server, port) = (0..5).find_map(|_| attempt().ok()).expect("the broker starts on a free port");
    assert_eq!(server.port(), port);
    Connection::ready(&address(&server));
}

#[test]
fn without_an_address_it_listens_on_loopback_alone() {
    let server = Server::builder().bind(&[]).start();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let mut expected = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    expected.extend(has_ipv6.then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    for (name, _) in server.listeners() {
        assert_eq!(server.places_of(name).map(|place| place.ip()).collect::<Vec<_>>(), expected, "{name}");
    }
    for place in server.places_of("amqp") {
        let uri = format!("amqp://guest:guest@127.0.0.1:{}/%2F", place.port());
        Connection::ready(&Address { host: place.ip().to_string(), ..Address::parse(&uri) });
    }
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let in_file = refusal(Server::builder().config("[amqp]\nheartbeats = 5\n"));
    assert_says(&in_file.log, &["roadstead.toml", "'amqp.heartbeats'", "'amqp.heartbeat_s'"]);
    let in_environment = refusal(Server::builder().env("ROADSTEAD_LIMITS_CONECTIONS", "5"));
    assert_says(&in_environment.log, &["ROADSTEAD_LIMITS_CONECTIONS", "'limits.connections'"]);
    let in_user = refusal(Server::builder().config("[[users]]\nname = \"a\"\npasword = \"b\"\n"));
    assert_says(&in_user.log, &["roadstead.toml", "pasword", "`password`"]);
}

#[test]
fn a_setting_of_the_wrong_kind_is_refused() {
    let failure = refusal(Server::builder().config("[limits]\nconnections = \"many\"\n"));
    assert_says(&failure.log, &["roadstead.toml", "connections"]);
}

#[test]
fn logs_for_machines_are_json() {
    let mut server = Server::builder().config("[log]\nformat = \"json\"\nlevel = \"debug\"\n").start();
    Connection::ready(&address(&server)).drop_socket();
    let mut refused = Connection::tcp(&address(&server)).expect("the broker listens");
    refused.send_bytes(b"GET / HTTP/1.1\r\n\r\n");
    assert!(!refused.next(PATIENCE).is_silence());
    let wrong = Connection::open(&address(&server), &Fields::parse("password=wrong"));
    assert!(wrong.is_err());
    assert!(server.terminate().success());

    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}")))
        .collect();
    assert!(lines.len() >= 3, "{log}");
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    let has_refusal = |line: &serde_json::Value| line["level"] == "WARN" && line["fields"]["user"] == "guest";
    assert!(lines.iter().any(has_refusal), "{log}");
}

#[test]
fn logs_for_people_have_no_colours_in_a_file() {
    let mut server = Server::start();
    drop(Connection::ready(&address(&server)));
    assert!(server.terminate().success());
    let log = server.log();
    assert!(!log.is_empty() && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn the_service_manager_is_told_of_the_start_and_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut server = Server::builder().env("NOTIFY_SOCKET", &path).start();
    assert_eq!(told(&manager), "READY=1");
    // Whoever is told can connect.
    Connection::ready(&address(&server));
    signal("TERM", server.pid());
    assert_eq!(told(&manager), "STOPPING=1");
    assert!(server.wait(END_LIMIT).success());
}

fn told(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).expect("the broker tells its service manager");
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}
