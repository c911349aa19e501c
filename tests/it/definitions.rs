//! Definitions in and out: what a RabbitMQ 4.0 exported comes back equal.

use std::fs;
use std::path::Path;

use roadstead_tests::raw::{Address, Connection, Fields, PATIENCE};
use roadstead_tests::server::{Said, Server, roadstead};
use serde_json::{Value, json};

/// The lists of a definitions document. The lines about who wrote it are not compared.
const LISTS: [&str; 10] = [
    "users",
    "vhosts",
    "permissions",
    "topic_permissions",
    "parameters",
    "global_parameters",
    "policies",
    "queues",
    "exchanges",
    "bindings",
];

fn definitions(server: &Server, arguments: &[&str]) -> Said {
    let data = server.data().to_str().expect("a temporary path is text");
    let mut words = vec!["definitions", arguments[0], "--data", data];
    words.extend(&arguments[1..]);
    roadstead(words)
}

fn import(server: &Server, document: &Value) -> Said {
    let file = server.directory().join("import.json");
    fs::write(&file, document.to_string()).expect("the test's directory can be written");
    definitions(server, &["import", file.to_str().expect("a temporary path is text")])
}

fn export(server: &Server) -> Value {
    let said = definitions(server, &["export"]);
    assert!(said.status.success(), "{}", said.err);
    serde_json::from_str(&said.out).expect("an export is JSON")
}

fn recorded() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions/rabbitmq-4.0.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the recording is there")).expect("the recording is JSON")
}

/// One list, without what every broker has, in no order.
fn list(document: &Value, name: &str, keep: impl Fn(&Value) -> bool) -> Vec<String> {
    let own = |item: &&Value| item["name"] != "guest" && item["user"] != "guest" && item["name"] != "/";
    let items = document[name].as_array().into_iter().flatten();
    let mut list: Vec<String> = items.filter(own).filter(|item| keep(item)).map(Value::to_string).collect();
    list.sort();
    list
}

#[test]
fn what_rabbitmq_exported_comes_back_equal() {
    let mut server = Server::start();
    let document = recorded();
    let said = import(&server, &document);
    assert!(said.status.success(), "{}", said.err);
    assert!(said.out.contains("6 queues") && said.out.contains("4 policies"), "{}", said.out);
    let exported = export(&server);
    for name in LISTS {
        assert_eq!(list(&exported, name, |_| true), list(&document, name, |_| true), "{name}");
    }
    // It is no harm to import it again, and what we export imports too.
    for again in [&document, &exported] {
        let said = import(&server, again);
        assert!(said.status.success(), "{}", said.err);
    }
    server.restart();
    let exported = export(&server);
    // What is not durable is gone, with its bindings.
    let lasts = |item: &Value| {
        let ends = [&item["source"], &item["destination"]];
        item["durable"] != json!(false) && !ends.iter().any(|end| **end == "by-header" || **end == "app-fast")
    };
    for name in LISTS {
        assert_eq!(list(&exported, name, lasts), list(&document, name, lasts), "{name} after a restart");
    }
}

#[test]
fn what_was_imported_is_in_force() {
    let server = Server::start();
    let said = import(&server, &recorded());
    assert!(said.status.success(), "{}", said.err);
    let uri = format!("amqp://shop-admin:test12@127.0.0.1:{}/shop", server.port());
    let mut connection = Connection::ready(&Address::parse(&uri));
    let declared = connection.call(1, "queue.declare", "queue=app-orders passive");
    assert_eq!(declared.method_name(), Some("queue.declare-ok"), "{declared}");
    // The default type of the vhost is quorum.
    connection.send(1, "queue.declare", &Fields::parse("queue=new durable arguments={x-max-priority=I:5}"));
    let foreign = connection.next(PATIENCE);
    assert!(foreign.to_string().contains("of queue type rabbit_quorum_queue"), "{foreign}");
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let server = Server::start();
    let policy = |definition: Value| json!({"policies": [{"vhost": "/", "name": "p", "pattern": "x", "apply-to": "all", "definition": definition}]});
    for (document, said) in [
        (json!([]), "definitions are a JSON object"),
        (json!({"queues": {}}), "'queues' is not a list"),
        (json!({"queues": [{"name": "q", "vhost": "none"}]}), "queues: 'q': vhost none not found"),
        (json!({"bindings": [{"vhost": "/"}]}), "bindings: the one at place 1: 'source' is missing, or no text"),
        (policy(json!({"message-ttl": "soon"})), "policies: 'p': <<\"soon\">> is not a valid message TTL"),
        (
            json!({"permissions": [{"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}]}),
            "nobody",
        ),
    ] {
        let answer = import(&server, &document);
        assert!(!answer.status.success(), "{document} was imported");
        assert!(answer.err.contains(said), "no {said:?} in {:?}", answer.err);
    }
}
