//! `roadstead ctl` and `roadstead rabbitmqctl` against a running broker.

use roadstead_tests::server::{Said, Server, roadstead};
use serde_json::{Value, json};

fn run(server: &Server, program: &str, words: &[&str]) -> Said {
    let data = server.data().to_str().expect("a temporary path is text");
    let mut all = vec![program, "--data", data];
    all.extend(words);
    roadstead(all)
}

fn ctl(server: &Server, words: &[&str]) -> String {
    let said = run(server, "ctl", words);
    assert!(said.status.success(), "ctl {words:?}: {}", said.err);
    said.out
}

fn json_of(server: &Server, words: &[&str]) -> Value {
    let text = ctl(server, &[words, &["--json"]].concat());
    serde_json::from_str(&text).expect("what --json prints is JSON")
}

fn rabbitmqctl(server: &Server, words: &[&str]) -> String {
    let said = run(server, "rabbitmqctl", &[&["-q"], words].concat());
    assert!(said.status.success(), "rabbitmqctl {words:?}: {}", said.err);
    said.out
}

fn refused(said: &Said, why: &str) {
    assert!(!said.status.success() && said.err.contains(why), "expected a refusal with {why:?}: {}", said.err);
}

#[test]
fn things_are_declared_shown_and_deleted() {
    let server = Server::start();
    ctl(&server, &["declare", "queue", "name=orders", "durable=true", "arguments={\"x-max-length\":9}"]);
    ctl(&server, &["declare", "exchange", "name=sales", "type=topic"]);
    ctl(&server, &["declare", "binding", "source=sales", "destination=orders", "routing_key=order.#"]);
    assert_eq!(json_of(&server, &["publish", "exchange=sales", "routing_key=order.1", "payload=hi"])["routed"], true);
    assert_eq!(json_of(&server, &["get", "queue=orders"])[0]["payload"], "hi");
    assert_eq!(json_of(&server, &["show", "queue", "name=orders"])["arguments"]["x-max-length"], 9);
    let listed = ctl(&server, &["list", "queues", "name", "messages_ready"]);
    assert_eq!(listed, "name    messages ready\norders  1\n");
    ctl(&server, &["purge", "queue", "name=orders"]);
    ctl(&server, &["delete", "binding", "source=sales", "destination=orders", "properties_key=order.%23"]);
    assert_eq!(json_of(&server, &["list", "bindings"]).as_array().map(Vec::len), Some(1));
    ctl(&server, &["delete", "queue", "name=orders"]);
    refused(&run(&server, "ctl", &["delete", "queue", "name=orders"]), "no such thing");
    refused(&run(&server, "ctl", &["declare", "queue"]), "name=… is missing");
    refused(&run(&server, "ctl", &["declare", "thing", "name=x"]), "there is no 'thing'");
    refused(&run(&server, "ctl", &["declare", "queue", "name=q", "durable=maybe"]), "true or false");
    assert_eq!(json_of(&server, &["api", "GET", "/whoami"])["name"], "operator");
}

#[test]
fn scripts_of_rabbitmqctl_carry_over() {
    let server = Server::start();
    rabbitmqctl(&server, &["add_vhost", "shop", "--description", "for a test"]);
    rabbitmqctl(&server, &["add_user", "bob", "secret"]);
    rabbitmqctl(&server, &["set_user_tags", "bob", "monitoring", "management"]);
    rabbitmqctl(&server, &["set_permissions", "-p", "shop", "bob", "^a", "^b", "^c"]);
    assert_eq!(
        rabbitmqctl(&server, &["list_permissions", "-p", "shop"]),
        "user\tconfigure\twrite\tread\nbob\t^a\t^b\t^c\n"
    );
    rabbitmqctl(&server, &["authenticate_user", "bob", "secret"]);
    refused(&run(&server, "rabbitmqctl", &["authenticate_user", "bob", "wrong"]), "do not fit together");
    refused(&run(&server, "rabbitmqctl", &["add_user", "bob", "secret"]), "already exists");
    rabbitmqctl(&server, &["change_password", "bob", "changed"]);
    rabbitmqctl(&server, &["authenticate_user", "bob", "changed"]);
    let users = rabbitmqctl(&server, &["-s", "list_users"]);
    assert_eq!(users, "bob\tmonitoring, management\nguest\tadministrator\n");
    rabbitmqctl(&server, &["set_policy", "-p", "shop", "--apply-to", "queues", "p", "^q", "{\"max-length\":5}"]);
    let policies = rabbitmqctl(&server, &["--formatter", "json", "list_policies", "-p", "shop"]);
    let policies: Value = serde_json::from_str(&policies).expect("the formatter makes JSON");
    assert_eq!(policies[0]["definition"], json!({ "max-length": 5 }));
    rabbitmqctl(&server, &["clear_policy", "-p", "shop", "p"]);
    rabbitmqctl(&server, &["clear_policy", "-p", "shop", "p"]);
    rabbitmqctl(&server, &["set_vhost_limits", "-p", "shop", "{\"max-queues\":3}"]);
    assert!(rabbitmqctl(&server, &["list_vhost_limits", "-p", "shop"]).contains("{\"max-queues\":3}"));
    ctl(&server, &["declare", "queue", "name=q", "--vhost", "shop"]);
    assert_eq!(rabbitmqctl(&server, &["list_queues", "-p", "shop", "name", "messages"]), "name\tmessages\nq\t0\n");
    rabbitmqctl(&server, &["delete_queue", "-p", "shop", "q", "--if-empty"]);
    let file = server.directory().join("definitions.json");
    let file = file.to_str().expect("a temporary path is text");
    rabbitmqctl(&server, &["export_definitions", file]);
    rabbitmqctl(&server, &["delete_user", "bob"]);
    rabbitmqctl(&server, &["import_definitions", file]);
    rabbitmqctl(&server, &["authenticate_user", "bob", "changed"]);
    rabbitmqctl(&server, &["delete_vhost", "shop"]);
    rabbitmqctl(&server, &["ping"]);
    refused(&run(&server, "rabbitmqctl", &["join_cluster", "a@b"]), "there is no verb");
    refused(&run(&server, "rabbitmqctl", &["set_permissions", "bob"]), "usage: rabbitmqctl set_permissions");
}
