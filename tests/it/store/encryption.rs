//! Encryption at rest: what the files of the data directory give away, and which key opens them.

use std::fs;
use std::path::{Path, PathBuf};

use roadstead_tests::flow::depth;
use roadstead_tests::raw::{Address, Connection, Fields, PATIENCE};
use roadstead_tests::server::{Server, roadstead};

use super::wait_until;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const BODY: &[u8] = b"the treasure lies under the oak";
const ROUTING_KEY: &str = "map.of.the.island";
const QUEUE: &str = "smugglers";
const USER: &str = "longjohn";
/// What must not be found, if there is a key.
const SECRETS: [&[u8]; 4] = [BODY, ROUTING_KEY.as_bytes(), QUEUE.as_bytes(), USER.as_bytes()];
const USERS: &str = "[[users]]\nname = \"longjohn\"\npassword = \"silver\"\n\
    permissions = [{ vhost = \"/\", configure = \".*\", write = \".*\", read = \".*\" }]\n";

/// Small segments, so that some are sealed and the topology is written to a file of its own.
fn config(key: &str) -> String {
    format!("[store]\nsegment_bytes = 65536\n{key}\n{USERS}")
}

fn login(server: &Server) -> Connection {
    let address = Address { user: USER.into(), password: "silver".into(), ..Address::parse(&server.uri()) };
    Connection::ready(&address)
}

fn start(data: &Path, key: &str) -> Server {
    Server::builder().data(data).config(config(key)).start()
}

fn publish(connection: &mut Connection, count: usize) {
    connection.call(1, "confirm.select", "");
    let fields = Fields::parse("exchange=amq.topic delivery_mode=2").with("routing_key", ROUTING_KEY);
    for _ in 0..count {
        connection.publish(1, &fields, BODY);
        assert_eq!(connection.next(PATIENCE).method_name(), Some("basic.ack"));
    }
}

/// Topology, so much that comes and goes that the topology is written to a file of its own, and messages that stay.
fn fill(server: &mut Server) {
    let mut connection = login(server);
    connection.call(1, "confirm.select", "");
    connection.call(1, "queue.declare", &format!("queue={QUEUE} durable"));
    connection.call(1, "queue.bind", &format!("queue={QUEUE} exchange=amq.topic routing_key={ROUTING_KEY}"));
    let state = server.data().join("log/state");
    wait_until(20, "the topology has a file of its own", || {
        connection.call(1, "queue.declare", "queue=passing durable");
        for _ in 0..10 {
            connection.publish(1, &Fields::parse("routing_key=passing delivery_mode=2"), &[7; 10_000]);
            assert_eq!(connection.next(PATIENCE).method_name(), Some("basic.ack"));
        }
        connection.call(1, "queue.delete", "queue=passing");
        state.exists()
    });
    publish(&mut connection, 20);
    connection.send(0, "connection.close", &Fields::parse("reply_code=200"));
    assert!(server.terminate().success());
}

/// The files in which each secret can be found.
fn found(data: &Path) -> Vec<Vec<PathBuf>> {
    let directories = [data.to_owned(), data.join("log")];
    let entries = directories.iter().flat_map(|directory| fs::read_dir(directory).expect("it is a directory"));
    let files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("it can be read").path()).filter(|f| f.is_file()).collect();
    assert!(files.iter().any(|file| file.ends_with("log/state")) && files.len() > 4, "{files:?}");
    let contents: Vec<(PathBuf, Vec<u8>)> =
        files.into_iter().map(|file| (file.clone(), fs::read(file).expect("it can be read"))).collect();
    let holding = |secret: &[u8]| {
        let hit = |content: &&(PathBuf, Vec<u8>)| content.1.windows(secret.len()).any(|window| window == secret);
        contents.iter().filter(hit).map(|(file, _)| file.clone()).collect()
    };
    SECRETS.iter().map(|secret| holding(secret)).collect()
}

#[test]
fn with_a_key_the_files_tell_nothing() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let plain = directory.path().join("plain");
    fill(&mut start(&plain, ""));
    let found_plain = found(&plain);
    assert!(found_plain.iter().all(|files| !files.is_empty()), "without a key everything is there: {found_plain:?}");
    assert!(found_plain[2].iter().any(|file| file.ends_with("log/state")), "{found_plain:?}");

    let secret = directory.path().join("secret");
    let mut server = start(&secret, &format!("key = \"{KEY}\""));
    fill(&mut server);
    let found_secret = found(&secret);
    assert!(found_secret.iter().all(Vec::is_empty), "{found_secret:?}");
    server.restart();
    let mut connection = login(&server);
    assert_eq!(depth(&mut connection, QUEUE), 20);
    let got = connection.call(1, "basic.get", &format!("queue={QUEUE} no_ack"));
    assert_eq!(got.body(), BODY);
}

#[test]
fn without_the_key_the_broker_does_not_start() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = directory.path().join("data");
    fill(&mut start(&data, &format!("key = \"{KEY}\"")));
    // The id of the master key stands in every segment, behind the cipher.
    let segment = fs::read_dir(data.join("log")).expect("it is a directory").filter_map(Result::ok);
    let segment = segment.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "segment"));
    let header = fs::read(segment.expect("there is a segment")).expect("it can be read");
    let id: String = header[73..81].iter().map(|byte| format!("{byte:02x}")).collect();
    for key in ["", &format!("key = \"{OTHER_KEY}\"")] {
        let attempt = Server::builder().data(&data).config(config(key)).attempt();
        let Err(failure) = attempt else { panic!("the broker started with the key {key:?}") };
        assert_eq!(failure.status.and_then(|status| status.code()), Some(1), "{failure}");
        assert!(failure.log.contains(&format!("is encrypted with key {id}")), "{id} is not named: {failure}");
    }
    let said = roadstead(["doctor".as_ref(), "--data".as_ref(), data.as_os_str()]);
    assert!(!said.status.success() && said.err.contains(&id), "{said:?}");
    // Nothing has been changed by that.
    let server = start(&data, &format!("key = \"{KEY}\""));
    assert_eq!(depth(&mut login(&server), QUEUE), 20);
}

#[test]
fn keys_can_be_changed() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let data = directory.path().join("data");
    let file = |name: &str, key: &str| {
        let path = directory.path().join(name);
        fs::write(&path, format!("{key}\n")).expect("the directory is writable");
        path.to_string_lossy().into_owned()
    };
    let (first, second) = (file("first", KEY), file("second", OTHER_KEY));
    let former_first = format!("key_file = \"{second}\"\nformer_key_files = [\"{first}\"]");
    let former_both = format!("former_key_files = [\"{first}\", \"{second}\"]");
    fill(&mut start(&data, ""));
    let steps = [(format!("key_file = \"{first}\""), 20), (former_first, 30), (former_both, 40)];
    for (key, expected) in steps {
        let mut server = start(&data, &key);
        let mut connection = login(&server);
        assert_eq!(depth(&mut connection, QUEUE), expected, "with {key}");
        publish(&mut connection, 10);
        assert!(connection.call(1, "basic.get", &format!("queue={QUEUE}")).body() == BODY);
        drop(connection);
        assert!(server.terminate().success());
    }
    let mut server = start(&data, &format!("former_key_files = [\"{first}\", \"{second}\"]"));
    let mut connection = login(&server);
    assert_eq!(depth(&mut connection, QUEUE), 50);
    for _ in 0..50 {
        assert_eq!(connection.call(1, "basic.get", &format!("queue={QUEUE} no_ack")).body(), BODY);
    }
    assert!(server.terminate().success());
}
