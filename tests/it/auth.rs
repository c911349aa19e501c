//! Who may come from where and how often he may fail; and servers that decide over logins and do not answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use roadstead_tests::raw::{Address, Connection, Fields, PATIENCE};
use roadstead_tests::server::Server;
use roadstead_tests::wait_until;

const USERS: &str = r#"
[[users]]
name = "guest"
password = "guest"
permissions = [{ vhost = "/", configure = ".*", write = ".*", read = ".*" }]
[[users]]
name = "other"
password = "secret"
permissions = [{ vhost = "/", configure = ".*", write = ".*", read = ".*" }]
"#;

fn with(config: &str) -> Server {
    Server::builder().config(format!("{config}\n{USERS}")).start()
}

fn as_user(server: &Server, user: &str, password: &str) -> Address {
    Address { user: user.into(), password: password.into(), ..Address::parse(&server.uri()) }
}

fn logs_in(server: &Server, user: &str, password: &str) -> bool {
    Connection::open(&as_user(server, user, password), &Fields::default()).is_ok()
}

#[test]
fn addresses_that_may_not_come_are_turned_away() {
    let server = with("[access]\namqp = ['10.0.0.0/8', '::1']");
    for _ in 0..20 {
        assert!(!logs_in(&server, "guest", "guest"));
    }
    assert_eq!(server.log().matches("its address is not allowed").count(), 1, "one line tells of all of them");
    let mut mqtt = TcpStream::connect(("127.0.0.1", server.mqtt_port())).expect("the broker listens");
    mqtt.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00").expect("the other protocol has no list");
    let mut answer = [0; 4];
    mqtt.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let server = with("[access]\nstomp = ['10.0.0.0/8']");
    let mut stomp = TcpStream::connect(("127.0.0.1", server.port_of("stomp"))).expect("the broker listens");
    // The connection may be gone before anything is written to it.
    let _ = stomp.write_all(b"CONNECT\n\n\0");
    assert!(matches!(stomp.read(&mut answer), Ok(0) | Err(_)), "nobody answers");
    let server = with("[access]\namqp = ['10.0.0.0/8', '127.0.0.0/8']");
    assert!(logs_in(&server, "guest", "guest"));
}

#[test]
fn users_may_be_bound_to_addresses() {
    let server = with("[limits]\nrefusal_delay_ms = 1\n[access.users]\nother = ['10.0.0.0/8']");
    assert!(logs_in(&server, "guest", "guest") && !logs_in(&server, "other", "secret"));
    assert!(server.log().contains("this user may not connect from this address"));
}

#[test]
fn who_fails_too_often_waits() {
    let limits = "login_failures_per_user = 3\nlogin_failures_per_address = 5\nlogin_failures_window_s = 3";
    let server = with(&format!("[limits]\nrefusal_delay_ms = 1\n{limits}"));
    for _ in 0..3 {
        assert!(!logs_in(&server, "guest", "wrong"));
    }
    assert!(!logs_in(&server, "guest", "guest"), "the user has failed too often");
    for _ in 0..50 {
        assert!(logs_in(&server, "other", "secret"), "who does not fail may come as often as he likes");
    }
    assert!(server.log().contains("too many failed logins"));
    wait_until(5, "failures are forgotten", || logs_in(&server, "guest", "guest"));
    for n in 0..10 {
        assert!(!logs_in(&server, &format!("nobody-{n}"), "wrong"));
    }
    assert!(!logs_in(&server, "other", "secret"), "the address has failed too often");
    wait_until(5, "failures are forgotten", || logs_in(&server, "other", "secret"));
}

#[test]
fn refused_logins_are_in_the_audit_log() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let log = format!("[log]\nlevel = 'error'\nformat = 'json'\naudit_file = {path:?}\n[limits]\nrefusal_delay_ms = 1");
    let server = with(&log);
    assert!(
        !logs_in(&server, "guest", "wrong") && !logs_in(&server, "nobody", "x") && logs_in(&server, "guest", "guest")
    );
    let text = fs::read_to_string(&path).expect("the file was made");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let fields = |line: &serde_json::Value| {
        ["user", "peer", "protocol", "message"].map(|name| line["fields"][name].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        lines.iter().map(fields).collect::<Vec<_>>(),
        [
            ["guest", "127.0.0.1", "amqp", "login refused: wrong password"],
            ["nobody", "127.0.0.1", "amqp", "login refused: no such user"],
        ]
    );
    assert!(!server.log().contains("login refused"), "the other log has its own level");
}

#[test]
fn changes_are_in_the_audit_log() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let server = with(&format!("[log]\nlevel = 'error'\nformat = 'json'\naudit_file = {path:?}"));
    for words in [["declare", "vhost", "name=audited"], ["list", "vhosts", "name"], ["delete", "vhost", "name=audited"]]
    {
        let said = server.ctl(&words);
        assert!(said.status.success(), "{words:?}: {said:?}");
    }
    let text = fs::read_to_string(&path).expect("the file was made");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "who only looks is not noted: {text}");
    for line in lines {
        assert_eq!(line["fields"]["user"], "operator");
        assert!(line["fields"]["message"].as_str().is_some_and(|what| what.contains("audited")), "{line}");
    }
}

/// A server that lets everybody in, and falls silent when it is asked about queues.
fn taciturn() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            if first.contains("/resource") {
                drop(lines);
                kept.push(stream);
                continue;
            }
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nallow";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn a_silent_server_holds_up_nobody_else() {
    let address = taciturn();
    let paths = ["user", "vhost", "resource", "topic"].map(|name| format!("{name}_path = '{address}/{name}'"));
    let server =
        with(&format!("[auth]\nbackends = ['internal', 'http']\n[auth.http]\ntimeout_ms = 2000\n{}", paths.join("\n")));
    thread::scope(|scope| {
        let stuck: Vec<_> = (0..150)
            .map(|n| {
                let mut connection = Connection::ready(&as_user(&server, &format!("user-{n}"), "any"));
                scope.spawn(move || {
                    connection.send(1, "queue.declare", &Fields::parse(&format!("queue=of-{n}")));
                    connection.next(PATIENCE)
                })
            })
            .collect();
        let mut guest = Connection::ready(&as_user(&server, "guest", "guest"));
        guest.call(1, "queue.declare", "queue=own");
        let mut rounds = 0;
        while stuck.iter().any(|one| !one.is_finished()) {
            let start = Instant::now();
            guest.publish(1, &Fields::parse("routing_key=own"), b"ping");
            assert_eq!(guest.call(1, "basic.get", "queue=own no_ack").body(), b"ping");
            assert!(logs_in(&server, "other", "secret"));
            let took = start.elapsed();
            assert!(took < Duration::from_secs(1), "a connection waited for {took:?} after {rounds} rounds");
            rounds += 1;
        }
        assert!(rounds > 5, "there were {rounds} rounds only");
        for one in stuck {
            let event = one.join().expect("it was answered");
            let close = event.method().expect("it is a method");
            assert_eq!((event.method_name(), close.number("reply_code")), (Some("channel.close"), 403));
        }
    });
    assert!(server.log().contains("the HTTP server does not tell"));
}
