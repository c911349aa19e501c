//! Real clients against the real broker: one test per suite of tests/clients, by the contract of its README.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use roadstead_tests::server::{self, Server};

use self::verdicts::{Outcome, Tally, Verdicts};

mod logins;
mod requests;
mod transport;
mod verdicts;

/// A suite ends itself within 120 seconds; the rest is for a machine that has other work.
const SUITE_LIMIT: Duration = Duration::from_secs(180);
const STDERR_LINES_SHOWN: usize = 150;
/// What ActiveMQ takes in a frame without being told: larger messages than RabbitMQ's.
const JMS_MESSAGE_BYTES: u32 = 100 * 1024 * 1024;

/// Checks that fail because the broker lacks a feature, and the feature that each waits for. Once a check passes in every
/// suite that has it, the tests fail until it is off the list.
const NOT_YET: [(&str, &str); 0] = [];

/// The tests below that run a suite.
const SUITES: usize = 31;
/// What the suites of this run say about the list.
static TALLY: Tally = Tally::new(SUITES);

#[test]
fn pika() {
    python("pika", "pika_suite.py");
}

#[test]
fn pika_features() {
    python("pika_features", "pika_features_suite.py");
}

#[test]
fn aio_pika() {
    python("aio_pika", "aio_pika_suite.py");
}

#[test]
fn celery() {
    python("celery", "celery_suite.py");
}

#[test]
fn go() {
    let program = root().join("target/clients/go/suite");
    let command = Command::new(&program);
    run("go", &[program], command);
}

#[test]
fn node() {
    node_suite("node", "suite.js", "amqplib");
}

#[test]
fn java() {
    java_suite("java", "roadstead.Main");
}

#[test]
fn amqp_tools() {
    tools("amqp_tools", "amqp_tools_suite.py", "amqp-publish");
}

#[test]
fn paho_python() {
    python("paho_python", "paho_suite.py");
}

#[test]
fn stomp_py() {
    python("stomp_py", "stomp_suite.py");
}

#[test]
fn stompjs() {
    node_suite("stompjs", "stomp_suite.js", "@stomp/stompjs");
}

#[test]
fn stomp_ruby() {
    let has_gem = |ruby: &PathBuf| {
        let output = Command::new(ruby).args(["-e", "require 'stomp'"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(ruby) = installed("ruby").filter(has_gem) else {
        return skip("stomp_ruby", "there is no Ruby with the gem stomp");
    };
    let mut command = Command::new(ruby);
    command.arg(root().join("tests/clients/ruby/stomp_suite.rb"));
    run("stomp_ruby", &[], command);
}

#[test]
fn paho_go() {
    let program = root().join("target/clients/go/suite");
    let mut command = Command::new(&program);
    command.arg("mqtt");
    run("paho_go", &[program], command);
}

#[test]
fn activemq_java() {
    java_suite("activemq_java", "roadstead.JmsMain");
}

#[test]
fn activemq_java_sessions() {
    java_suite("activemq_java_sessions", "roadstead.JmsSessionsMain");
}

#[test]
fn activemq_java_xa() {
    java_suite("activemq_java_xa", "roadstead.XaMain");
}

#[test]
fn activemq5_java() {
    maven_suite("activemq5_java", "java-javax", "roadstead.JmsMain");
}

#[test]
fn activemq5_java_sessions() {
    maven_suite("activemq5_java_sessions", "java-javax", "roadstead.JmsSessionsMain");
}

#[test]
fn activemq_console() {
    java_suite("activemq_console", "roadstead.ConsoleMain");
}

#[test]
fn spring() {
    java_suite("spring", "roadstead.SpringMain");
}

#[test]
fn paho_java() {
    java_suite("paho_java", "roadstead.MqttMain");
}

#[test]
fn mqtt_js() {
    node_suite("mqtt_js", "mqtt_suite.js", "mqtt");
}

#[test]
fn mqtt_js_in_a_browser() {
    if installed("chromium").is_none() {
        return skip("mqtt_js_in_a_browser", "chromium isn't installed");
    }
    node_suite("mqtt_js_in_a_browser", "mqtt_browser_suite.js", "mqtt");
}

#[test]
fn stompjs_in_a_browser() {
    if installed("chromium").is_none() {
        return skip("stompjs_in_a_browser", "chromium isn't installed");
    }
    node_suite("stompjs_in_a_browser", "stomp_browser_suite.js", "@stomp/stompjs");
}

#[test]
fn console_in_a_browser() {
    if installed("chromium").is_none() {
        return skip("console_in_a_browser", "chromium isn't installed");
    }
    node_suite("console_in_a_browser", "console_suite.js", "playwright-core");
}

#[test]
fn rumqttc() {
    let program = root().join("target/clients/rust/debug/rumqttc-suite");
    let command = Command::new(&program);
    run("rumqttc", &[program], command);
}

#[test]
fn management_api() {
    let tools = root().join("target/clients/debian");
    let (interpreter, mut command) = python_command("management_suite.py");
    command.env("DEBIAN_TOOLS", &tools);
    run("management_api", &[interpreter, tools.join("usr/bin/rabbitmqadmin"), tools.join("usr/bin/promtool")], command);
}

#[test]
fn management_answers() {
    python("management_answers", "management_answers.py");
}

#[test]
fn rabbit_hole() {
    let program = root().join("target/clients/go/suite");
    let mut command = Command::new(&program);
    command.arg("management");
    run("rabbit_hole", &[program], command);
}

#[test]
fn rabbitmq_http_client() {
    let program = root().join("target/clients/rust/debug/management-suite");
    let command = Command::new(&program);
    run("rabbitmq_http_client", &[program], command);
}

#[test]
fn curl() {
    tools("curl", "curl_suite.py", "curl");
}

#[test]
fn mosquitto_tools() {
    tools("mosquitto_tools", "mosquitto_suite.py", "mosquitto_pub");
}

fn node_suite(name: &str, script: &str, package: &str) {
    let suite = root().join("tests/clients/node");
    let Some(node) = installed("node") else { return skip(name, "node isn't installed") };
    let mut command = Command::new(node);
    command.arg(suite.join(script));
    run(name, &[suite.join("node_modules").join(package)], command);
}

fn java_suite(name: &str, class: &str) {
    maven_suite(name, "java", class);
}

/// A suite of a module that Maven has built.
fn maven_suite(name: &str, module: &str, class: &str) {
    let target = root().join("target/clients").join(module);
    let Some(java) = installed("java") else { return skip(name, "java isn't installed") };
    let (classes, libraries) = (target.join("classes"), target.join("dependency"));
    let mut command = Command::new(java);
    command.arg("-cp").arg(format!("{}:{}/*", classes.display(), libraries.display())).arg(class);
    run(name, &[classes, libraries], command);
}

/// A suite that needs no set-up but programs of the system, of which `program` is one.
fn tools(name: &str, script: &str, program: &str) {
    let Some(python) = installed("python3") else { return skip(name, "python3 isn't installed") };
    if installed(program).is_none() {
        return skip(name, &format!("{program} isn't installed"));
    }
    let mut command = Command::new(python);
    command.arg(root().join("tests/clients/c").join(script));
    run(name, &[], command);
}

fn python(name: &str, script: &str) {
    let (interpreter, command) = python_command(script);
    run(name, &[interpreter], command);
}

fn python_command(script: &str) -> (PathBuf, Command) {
    let interpreter = root().join("target/clients/python/bin/python");
    let mut command = Command::new(&interpreter);
    command.arg(root().join("tests/clients/python").join(script));
    (interpreter, command)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the workspace").to_owned()
}

fn installed(program: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(program)).find(|path| path.is_file())
}

fn skips_are_failures() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

/// Says that a suite doesn't run.
fn skip(suite: &str, reason: &str) {
    assert!(!skips_are_failures(), "{suite} can't be skipped with CI=true: {reason}");
    tell(&format!("skipped {suite}: {reason}"));
}

/// Says something past the test runner, which hides what a passing test prints.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Runs a suite against a broker of its own. It needs the paths in `set_up`, which `cargo xtask test` makes.
fn run(name: &str, set_up: &[PathBuf], command: Command) {
    if !is_set_up(name, set_up) {
        return;
    }
    // Suites that look at rates need not wait for them.
    let mut builder = Server::builder().env("ROADSTEAD_MANAGEMENT_SAMPLE_INTERVAL_MS", "500");
    if name.starts_with("activemq") {
        builder = builder.env("ROADSTEAD_LIMITS_MESSAGE_BYTES", JMS_MESSAGE_BYTES.to_string());
    }
    let mut server = builder.start();
    let report = Report::of(name, command, &mut server);
    for (check, feature) in &report.outcome.waiting {
        tell(&format!("not yet: {check} of {name} waits for {feature}"));
    }
    let finished = TALLY.end_suite(&report.outcome.listed);
    report.judge(finished.into_iter().map(|check| format!("{check} now works: take it off the list")));
}

fn is_set_up(suite: &str, set_up: &[PathBuf]) -> bool {
    let missing = set_up.iter().find(|path| !path.exists());
    if let Some(missing) = missing {
        skip(suite, &format!("there is no {}; run `cargo xtask test --only clients`", missing.display()));
    }
    missing.is_none()
}

/// What a suite found, and what it wrote beside that.
struct Report<'a> {
    name: &'a str,
    outcome: Outcome,
    errors: String,
}

impl<'a> Report<'a> {
    /// Runs a suite against `server`.
    fn of(name: &'a str, command: Command, server: &mut Server) -> Self {
        let errors = server.directory().join("suite-stderr");
        let outcome = Suite::start(command, server, &errors).follow(server);
        let errors = String::from_utf8_lossy(&fs::read(&errors).unwrap_or_default()).into_owned();
        Self { name, outcome, errors }
    }

    /// Fails the test if the suite has failed, or if there are `more` problems.
    fn judge(self, more: impl Iterator<Item = String>) {
        let mut problems = self.outcome.problems;
        problems.extend(more);
        if !problems.is_empty() {
            let errors = server::last_lines(&self.errors, STDERR_LINES_SHOWN);
            println!("the end of the suite's standard error:\n{errors}");
            panic!("{}: {} problems\n{}", self.name, problems.len(), problems.join("\n"));
        }
    }
}

/// Where the broker is, for each protocol that it announced, in the variables of the contract.
fn addresses(server: &Server) -> Vec<(&'static str, String)> {
    let mut found = vec![("AMQP_URI", server.uri())];
    for (listener, address) in server.listeners() {
        match listener.as_str() {
            "mqtt" => found.push(("MQTT_URI", format!("mqtt://guest:guest@{address}"))),
            "mqtt-ws" => found.push(("MQTT_WS_URI", format!("ws://{address}/ws"))),
            "stomp" => found.push(("STOMP_URI", format!("stomp://guest:guest@{address}"))),
            "stomp-ws" => found.push(("STOMP_WS_URI", format!("ws://{address}/ws"))),
            "openwire" => found.push(("OPENWIRE_URI", format!("tcp://{address}"))),
            "http" => found.push(("MANAGEMENT_URI", format!("http://guest:guest@{address}"))),
            "prometheus" => found.push(("PROMETHEUS_URI", format!("http://{address}"))),
            _ => {}
        }
    }
    found
}

/// A running suite, killed with all that it started when this is dropped.
struct Suite {
    process: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Suite {
    fn start(mut command: Command, server: &Server, errors: &Path) -> Self {
        command.envs(addresses(server)).current_dir(root()).process_group(0);
        command.env("SCREENSHOTS", root().join("target/screenshots"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(errors).expect("the temporary directory is writable"));
        let mut process = command.spawn().expect("the suite can be executed");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let output = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, stdin, lines }
    }

    /// Answers the suite's requests until it ends, and returns what it found.
    fn follow(&mut self, server: &mut Server) -> Outcome {
        let end = Instant::now() + SUITE_LIMIT;
        let mut verdicts = Verdicts::new(&NOT_YET, skips_are_failures());
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    println!("{line}");
                    match requests::answer(&line, server) {
                        // It fails if the suite has ended, which its missing `done` shows.
                        Some(answer) => drop(self.stdin.write_all(answer.as_bytes())),
                        None => verdicts.add(&line),
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return verdicts.cut(format!("not over within {SUITE_LIMIT:?}"));
                }
            }
        }
        let status = self.process.wait().expect("a child can be waited for");
        verdicts.end(status.success(), &status.to_string())
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        // The group may be gone already.
        let group = format!("kill -KILL -{} 2>/dev/null", self.process.id());
        let _ = Command::new("sh").args(["-c", &group]).status();
        let _ = self.process.wait();
    }
}
