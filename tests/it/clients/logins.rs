//! Logins that other servers judge, through real clients: an OpenID provider, slapd, and a server of RabbitMQ's HTTP interface.

mod directory;
mod questions;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use roadstead_tests::server::Server;

use self::directory::Directory;
use self::questions::{HttpServer, Questions};
use super::{Report, installed, is_set_up, python_command, root, skip};

/// The checks that every back end passes.
const COMMON: [&str; 10] = [
    "amqp-work",
    "amqp-names-of-others",
    "amqp-topics",
    "amqp-vhost",
    "amqp-refused-logins",
    "amqp-own-users",
    "mqtt-work",
    "mqtt-will",
    "mqtt-refused-logins",
    "management",
];

/// Those that are about tokens.
const OF_TOKENS: [&str; 8] = [
    "each-token-for-itself",
    "tokens-for-others",
    "signatures",
    "amqp-expiry",
    "mqtt-expiry",
    "update-secret",
    "update-secret-of-somebody-else",
    "update-secret-cancels",
];

/// An OpenID provider in Node.js.
struct Issuer {
    process: Child,
    address: String,
}

impl Issuer {
    fn start() -> Self {
        let mut command = Command::new("node");
        command.arg(root().join("tests/clients/node/issuer.js"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("node can be executed");
        let output = process.stdout.take().expect("stdout is a pipe");
        let mut address = String::new();
        BufReader::new(output).read_line(&mut address).expect("the issuer says where it is");
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn oauth2() {
    let modules = root().join("tests/clients/node/node_modules/oidc-provider");
    if installed("node").is_none() {
        return skip("oauth2", "node isn't installed");
    }
    if !is_set_up("oauth2", &[modules]) {
        return;
    }
    let issuer = Issuer::start();
    let config = format!(
        "[auth]\nbackends = ['oauth2', 'internal']\n\
         [auth.oauth2]\nresource_server_id = 'rabbitmq'\nissuer = '{}'\n",
        issuer.address
    );
    let environment = [("ISSUER", issuer.address.as_str())];
    suite("oauth2", &config, &[&COMMON[..], &OF_TOKENS].concat(), &environment);
}

#[test]
fn http_by_post() {
    let questions = http("http_by_post", "post");
    for name in ["username", "password", "vhost", "ip", "resource", "permission", "routing_key", "tags"] {
        assert!(questions.iter().any(|one| one.has(name)), "nobody was asked with {name}");
    }
    let entry = questions.iter().find(|one| one.path == "/auth/vhost").expect("it was asked about vhosts");
    assert_eq!((entry.get("ip"), entry.get("tags")), (Some("127.0.0.1"), Some("management policymaker")));
}

#[test]
fn http_by_get() {
    http("http_by_get", "get");
}

fn http(name: &str, method: &str) -> Vec<questions::Question> {
    let questions = Questions::default();
    let server = HttpServer::start(&questions);
    let address = server.address();
    let config = format!(
        "[auth]\nbackends = ['internal', 'http']\n[auth.http]\nmethod = '{method}'\n\
         user_path = '{address}/auth/user'\nvhost_path = '{address}/auth/vhost'\n\
         resource_path = '{address}/auth/resource'\ntopic_path = '{address}/auth/topic'\n"
    );
    suite(name, &config, &COMMON, &[]);
    questions.all()
}

#[test]
fn ldap() {
    with_directory("ldap", "none", "user_dn_pattern = 'uid=${username},ou=people,dc=example,dc=org'\n");
}

#[test]
fn ldap_with_starttls_and_lookup() {
    let lookup = "dn_lookup_attribute = 'uid'\ndn_lookup_base = 'ou=people,dc=example,dc=org'\n\
        bind_dn = 'cn=admin,dc=example,dc=org'\nbind_password = 'secret'\n";
    with_directory("ldap_with_starttls_and_lookup", "start_tls", lookup);
}

/// Groups and rules decide as the suite expects it.
const RULES: &str = r#"
tags = { management = { in_group = "cn=managers,ou=groups,dc=example,dc=org" } }
vhost_access = { match = { text = "${vhost}", pattern = "^/$" } }
topic_access = { match = { text = "${routing_key}", pattern = '^of\.${username}\.' } }

[auth.ldap.resource_access]
any = [
    { all = [
        { match = { text = "${name}", pattern = '^(roadstead\.|mqtt-subscription-|amq\.(default|topic)$)' } },
        { in_group = "cn=writers,ou=groups,dc=example,dc=org" },
    ] },
    { permission = { read = { match = { text = "${name}", pattern = '^roadstead\.' } } } },
]
"#;

fn with_directory(name: &str, encryption: &str, settings: &str) {
    if directory::slapd().is_none() {
        return skip(name, "slapd isn't installed");
    }
    let directory = Directory::start();
    let config = format!(
        "[auth]\nbackends = ['internal', 'ldap']\n[auth.ldap]\nservers = ['localhost']\nport = {}\nca = {:?}\n\
         encryption = '{encryption}'\n{settings}{RULES}",
        directory.port(),
        directory.ca(),
    );
    suite(name, &config, &COMMON, &[]);
}

/// Runs checks of the suite against a server with a back end.
fn suite(name: &str, config: &str, checks: &[&str], environment: &[(&str, &str)]) {
    let (interpreter, mut command) = python_command("logins_suite.py");
    if !is_set_up(name, &[interpreter]) {
        return;
    }
    let config = format!("vhosts = ['/', 'elsewhere']\n[limits]\nrefusal_delay_ms = 100\n{config}");
    let mut server = Server::builder().config(config).start();
    command.args(checks).envs(environment.iter().copied());
    command.env("BACKEND", name).env("MQTT_PORT", server.mqtt_port().to_string());
    command.env("MANAGEMENT_PORT", server.port_of("http").to_string());
    let report = Report::of(name, command, &mut server);
    let missing = (report.outcome.passed != checks.len())
        .then(|| format!("{} of {} checks passed", report.outcome.passed, checks.len()));
    let unaudited = (!server.log().contains("login refused: ")).then(|| "no refused login was logged".to_owned());
    report.judge(missing.into_iter().chain(unaudited));
}
