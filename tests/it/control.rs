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

fn management(server: &Server) -> u16 {
    server.port_of("http")
}

#[test]
fn a_broker_elsewhere_is_asked_by_its_api() {
    let server = Server::start();
    let uri = format!("http://guest:guest@127.0.0.1:{}", management(&server));
    let ask = |words: &[&str]| roadstead([&["ctl", "--uri", &uri], words].concat());
    let said = ask(&["declare", "queue", "name=a b", "durable=true"]);
    assert!(said.status.success(), "{}", said.err);
    assert_eq!(ask(&["list", "queues", "name"]).out, "name\na b\n");
    let status: Value = serde_json::from_str(&ask(&["status", "--json"]).out).expect("JSON");
    assert_eq!((&status["queues"], &status["alarm"]), (&json!(1), &Value::Null));
    assert!(ask(&["trace-on"]).status.success());
    assert!(ask(&["list", "vhosts"]).out.contains("true"));
    refused(&ask(&["backup", "copy"]), "run this on its machine");
    let uri = format!("http://guest:wr%20ong@127.0.0.1:{}", management(&server));
    refused(&roadstead(["ctl", "--uri", &uri, "list", "queues"]), "does not let this user in");
    refused(
        &roadstead(["ctl", "--uri", "http://127.0.0.1:1", "list", "queues"]),
        "no broker answers at http://127.0.0.1:1",
    );
    refused(&roadstead(["ctl", "--uri", "amqp://127.0.0.1", "status"]), "not by amqp://");
    let uri = format!("http://127.0.0.1:{}", management(&server));
    let said = roadstead(["rabbitmqctl", "-q", "--uri", &uri, "list_queues"]);
    assert_eq!(said.out, "name\tmessages\na b\t0\n", "{}", said.err);
}

#[test]
fn scripts_of_rabbitmqadmin_carry_over() {
    let server = Server::start();
    let port = management(&server).to_string();
    let admin = |words: &[&str]| roadstead([&["rabbitmqadmin", "-P", &port], words].concat());
    let done = |words: &[&str]| {
        let said = admin(words);
        assert!(said.status.success(), "rabbitmqadmin {words:?}: {}", said.err);
        said.out
    };
    assert_eq!(done(&["declare", "queue", "name=q", "durable=true"]), "queue declared\n");
    assert_eq!(done(&["declare", "exchange", "name=x", "type=topic"]), "exchange declared\n");
    assert_eq!(done(&["declare", "binding", "source=x", "destination=q", "routing_key=k.#"]), "binding declared\n");
    assert_eq!(done(&["publish", "exchange=x", "routing_key=k.1", "payload=hi"]), "Message published\n");
    assert_eq!(done(&["publish", "exchange=x", "routing_key=no", "payload=hi"]), "Message published but NOT routed\n");
    let frame = "+------+----------+\n";
    assert_eq!(done(&["list", "queues"]), format!("{frame}| name | messages |\n{frame}| q    | 1        |\n{frame}"));
    assert_eq!(done(&["-f", "tsv", "list", "queues", "name", "messages"]), "name\tmessages\nq\t1\n");
    assert_eq!(done(&["-f", "kvp", "list", "exchanges", "name"]).lines().last(), Some("name=\"x\""));
    assert_eq!(done(&["-f", "bash", "list", "queues"]), "q\n");
    assert!(done(&["get", "queue=q", "count=1"]).contains("| hi "));
    let file = server.directory().join("exported.json");
    let file = file.to_str().expect("a temporary path is text");
    assert_eq!(done(&["export", file]), format!("Exported definitions for localhost to \"{file}\"\n"));
    assert_eq!(done(&["purge", "queue", "name=q"]), "queue purged\n");
    assert_eq!(done(&["-q", "delete", "queue", "name=q"]), "");
    assert_eq!(done(&["list", "queues"]), "No items\n");
    done(&["definitions", "import", "--file", file]);
    assert_eq!(done(&["-f", "bash", "list", "queues"]), "q\n");
    // The successor's way to say the same.
    done(&["declare", "queue", "--name", "r", "--durable", "true", "--arguments", "{\"x-max-length\":3}"]);
    done(&["declare", "user", "--name", "bob", "--password", "secret", "--tags", "management"]);
    done(&["--username", "bob", "--password", "secret", "list", "vhosts"]);
    refused(&admin(&["--username", "bob", "--password", "wrong", "list", "vhosts"]), "does not let this user in");
    refused(&admin(&["frobnicate", "queue"]), "there is no verb 'frobnicate'");
}

#[test]
fn a_doctor_says_what_is_wrong() {
    let mut server = Server::builder().config("").start();
    let said = run(&server, "ctl", &["doctor"]);
    assert!(said.status.success() && said.out.contains("well  alarms        none\n"), "{}{}", said.out, said.err);
    assert_eq!(said.out.lines().filter(|line| line.starts_with("well  ")).count(), 8, "{}", said.out);
    server.configure("[limits]\ndisk_free_bytes = 100000000000000000\n");
    server.restart();
    let said = run(&server, "ctl", &["doctor", "--json"]);
    refused(&said, "2 things are wrong");
    let findings: Value = serde_json::from_str(&said.out).expect("JSON");
    let wrong = findings.as_array().expect("findings").iter().filter(|finding| finding["verdict"] == "wrong");
    assert_eq!(wrong.map(|finding| &finding["check"]).collect::<Vec<_>>(), ["alarms", "disk"]);
}
