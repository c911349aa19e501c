//! Who may connect, and how: TLS, certificates of clients, users and permissions, through real clients.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use roadstead_tests::server::Server;
use tempfile::TempDir;

use super::{Report, is_set_up, python_command, skip};

type Issuer = CertifiedIssuer<'static, KeyPair>;

const SERVER_NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

/// A user without a password, a user with the hash of RabbitMQ's documentation (salt 908DC60A, password `test12`), and
/// users who may not do everything.
const USERS: &str = r#"
vhosts = ["/", "elsewhere"]

[[users]]
name = "guest"
password = "guest"
permissions = [
    { vhost = "/", configure = ".*", write = ".*", read = ".*" },
    { vhost = "elsewhere", configure = ".*", write = ".*", read = ".*" },
]

[[users]]
name = "ursula"
permissions = [{ vhost = "/", configure = ".*", write = ".*", read = ".*" }]

[[users]]
name = "imported"
password_hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
hashing_algorithm = "rabbit_password_hashing_sha256"
permissions = [{ vhost = "/", configure = ".*", write = ".*", read = ".*" }]

[[users]]
name = "limited"
password = "secret"
permissions = [{ vhost = "/", configure = '^roadstead\.own', write = '^(roadstead\.own|amq\.topic$)', read = '^roadstead\.own' }]
topic_permissions = [{ vhost = "/", exchange = "amq.topic", write = '^{username}\.', read = ".*" }]

[[users]]
name = "device"
password = "secret"
permissions = [{ vhost = "/", configure = ".*", write = ".*", read = ".*" }]
topic_permissions = [{ vhost = "/", exchange = "amq.topic", write = '^{client_id}\.', read = '^{client_id}\.' }]
"#;

/// The checks that need a server that is configured in another way than for all the others.
const WITH_ANY_CLIENT: &[&str] = &[
    "tls-1.2",
    "tls-1.3",
    "bulk-over-tls",
    "wrong-server-ca",
    "external",
    "external-is-the-common-name",
    "external-of-nobody",
    "external-without-certificate",
    "no-login-without-password",
    "foreign-certificate",
    "plain-client-on-the-tls-port",
    "amqplain-over-tls",
];

#[test]
fn tls() {
    suite("tls", "tls_suite.py", WITH_ANY_CLIENT, "", "127.0.0.1");
}

#[test]
fn tls_by_ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("tls_by_ipv6", "the machine has no IPv6");
    }
    suite("tls_by_ipv6", "tls_suite.py", &["tls-1.2", "tls-1.3", "external"], "", "::1");
}

#[test]
fn tls_with_required_certificates() {
    let checks = &["certificate-required", "external"];
    suite(
        "tls_with_required_certificates",
        "tls_suite.py",
        checks,
        "client_certificate_required = true\n",
        "127.0.0.1",
    );
}

#[test]
fn tls_1_3_at_least() {
    suite("tls_1_3_at_least", "tls_suite.py", &["tls-1.2-refused", "tls-1.3"], "min_version = \"1.3\"\n", "127.0.0.1");
}

#[test]
fn users() {
    suite("users", "users_suite.py", &[], "", "127.0.0.1");
}

#[test]
fn mqtt_access() {
    suite("mqtt_access", "mqtt_access_suite.py", &[], "", "127.0.0.1");
}

#[test]
fn stomp_access() {
    suite("stomp_access", "stomp_access_suite.py", &[], "", "127.0.0.1");
}

/// Runs checks of a suite, or all, against a server with users and certificates.
fn suite(name: &str, script: &str, checks: &[&str], tls: &str, address: &str) {
    let (interpreter, mut command) = python_command(script);
    if !is_set_up(name, &[interpreter]) {
        return;
    }
    let certificates = TempDir::with_prefix("roadstead-certificates-").expect("the temporary directory is writable");
    write_certificates(certificates.path());
    let path = |file: &str| certificates.path().join(file).display().to_string();
    let (certificate, key, client_ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let config = format!(
        "{USERS}\n[amqp]\ntls_port = 0\n[limits]\nrefusal_delay_ms = 100\n\
         [tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca = {client_ca:?}\n{tls}"
    );
    let mut server = Server::builder().config(config).bind(&[address]).start();
    command.args(checks).env("CERTIFICATES", certificates.path());
    let listeners = [
        ("AMQPS_PORT", "amqps"),
        ("MQTT_PORT", "mqtt"),
        ("MQTTS_PORT", "mqtts"),
        ("MQTT_WSS_PORT", "mqtt-wss"),
        ("STOMP_PORT", "stomp"),
        ("STOMPS_PORT", "stomps"),
        ("STOMP_WSS_PORT", "stomp-wss"),
        ("WSS_PORT", "wss"),
    ];
    for (variable, listener) in listeners {
        command.env(variable, server.port_of(listener).to_string());
    }
    let report = Report::of(name, command, &mut server);
    let missing = (!checks.is_empty() && report.outcome.passed != checks.len())
        .then(|| format!("{} of {} checks passed", report.outcome.passed, checks.len()));
    report.judge(missing.into_iter());
}

/// An authority with the certificates of the server and of two users, one unknown; and a stranger's, in a user's name.
fn write_certificates(directory: &Path) {
    let ours = certificate_authority("Roadstead's test");
    fs::write(directory.join("ca.pem"), ours.pem()).expect("a new file can be written");
    let mut server = CertificateParams::new(SERVER_NAMES.map(str::to_owned)).expect("the names are names");
    server.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    write_certificate(directory, "server", server, &ours);
    write_certificate(directory, "ursula", of_client("ursula"), &ours);
    write_certificate(directory, "nobody", of_client("nobody"), &ours);
    let foreign = certificate_authority("A stranger");
    fs::write(directory.join("foreign-ca.pem"), foreign.pem()).expect("a new file can be written");
    write_certificate(directory, "stranger", of_client("ursula"), &foreign);
}

fn of_client(user: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(user);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    params
}

fn write_certificate(directory: &Path, name: &str, params: CertificateParams, issuer: &Issuer) {
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = params.signed_by(&key, issuer).expect("the authority signs");
    for (kind, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
        fs::write(directory.join(format!("{name}.{kind}")), text).expect("a new file can be written");
    }
}

fn certificate_authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("ring makes keys")).expect("a key signs itself")
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
