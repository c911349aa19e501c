//! One broker under test: the real binary, as a process of its own on a port that the system chose.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(30);
/// The settings of ports, and the listeners that they are for.
const PORTS: [(&str, &str); 15] = [
    ("ROADSTEAD_AMQP_PORT", "amqp"),
    ("ROADSTEAD_MQTT_PORT", "mqtt"),
    ("ROADSTEAD_MQTT_WS_PORT", "mqtt-ws"),
    ("ROADSTEAD_MQTT_TLS_PORT", "mqtts"),
    ("ROADSTEAD_MQTT_WSS_PORT", "mqtt-wss"),
    ("ROADSTEAD_STOMP_PORT", "stomp"),
    ("ROADSTEAD_STOMP_WS_PORT", "stomp-ws"),
    ("ROADSTEAD_STOMP_TLS_PORT", "stomps"),
    ("ROADSTEAD_STOMP_WSS_PORT", "stomp-wss"),
    ("ROADSTEAD_OPENWIRE_PORT", "openwire"),
    ("ROADSTEAD_OPENWIRE_TLS_PORT", "openwires"),
    ("ROADSTEAD_WEBSOCKET_TLS_PORT", "wss"),
    ("ROADSTEAD_MANAGEMENT_PORT", "http"),
    ("ROADSTEAD_MANAGEMENT_TLS_PORT", "https"),
    ("ROADSTEAD_PROMETHEUS_PORT", "prometheus"),
];

/// How long a restart waits for somebody else, such as an outgoing connection, to leave its port.
const PORT_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
const LOG_LINES_SHOWN: usize = 40;

/// What may differ between the brokers of two tests.
pub struct Builder {
    binary: Option<PathBuf>,
    config: Option<String>,
    data: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
    bind: Vec<String>,
    prefix: Vec<OsString>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            binary: None,
            config: None,
            data: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            bind: vec!["127.0.0.1".to_owned()],
            prefix: Vec::new(),
        }
    }
}

impl Builder {
    /// Another binary than the one that belongs to the running tests.
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// The text of a file for `--config`.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// A data directory that the caller owns, and that outlives the server.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The addresses to listen on, instead of 127.0.0.1; with none the broker decides.
    pub fn bind(mut self, addresses: &[&str]) -> Self {
        self.bind = addresses.iter().map(|address| (*address).to_owned()).collect();
        self
    }

    /// What to start the binary with, such as `nsenter`. It must become the broker by exec, because signals go to it.
    pub fn prefix<A: Into<OsString>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.prefix = words.into_iter().map(Into::into).collect();
        self
    }

    /// More arguments of `serve`.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts the broker and waits until it is ready; panics with its log if it doesn't get there.
    pub fn start(self) -> Server {
        self.attempt().unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// Starts the broker, for tests in which it is expected to refuse.
    pub fn attempt(self) -> Result<Server, StartFailure> {
        let directory = TempDir::with_prefix("roadstead-test-").expect("the temporary directory is writable");
        if let Some(text) = &self.config {
            fs::write(directory.path().join("roadstead.toml"), text).expect("a new file can be written");
        }
        let data = self.data.clone().unwrap_or_else(|| directory.path().join("data"));
        let binary = self.binary.clone().unwrap_or_else(binary);
        assert!(binary.is_file(), "there is no {}; run `cargo build`", binary.display());
        let mut server = Server { options: self, binary, data, directory, process: None, listeners: Vec::new() };
        server.launch()?;
        Ok(server)
    }
}

/// Why a broker didn't become ready.
#[derive(Debug)]
pub struct StartFailure {
    pub reason: String,
    /// `None` if it was still running, and had to be killed.
    pub status: Option<ExitStatus>,
    pub log: String,
}

impl std::fmt::Display for StartFailure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} (status: {:?}); its log:\n{}", self.reason, self.status, self.log)
    }
}

/// A running broker, which is killed when this is dropped. If the test fails, its log becomes part of the test's output.
pub struct Server {
    options: Builder,
    binary: PathBuf,
    data: PathBuf,
    directory: TempDir,
    process: Option<Child>,
    listeners: Vec<(String, SocketAddr)>,
}

impl Server {
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Ends the broker without a warning, as a crash of the process would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It fails if the process has ended by itself, which is as good.
            let _ = process.kill();
            process.wait().expect("a child can be waited for");
        }
    }

    /// Asks the broker to end, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        signal("TERM", self.pid());
        self.wait(END_LIMIT)
    }

    /// Waits until the broker ends by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            let process = self.process.as_mut().expect("the broker is running");
            if let Some(status) = process.try_wait().expect("a child can be waited for") {
                self.process = None;
                return status;
            }
            assert!(Instant::now() < end, "the broker still runs after {limit:?}");
            thread::sleep(POLL);
        }
    }

    /// Starts the broker again, on the same data and the same ports. One that still runs is asked to end first.
    pub fn restart(&mut self) {
        if self.process.is_some() {
            let status = self.terminate();
            assert!(status.success(), "the broker ended with {status}");
        }
        let end = Instant::now() + PORT_LIMIT;
        while let Err(failure) = self.launch() {
            let port_is_taken = failure.log.contains("in use");
            assert!(port_is_taken && Instant::now() < end, "restart: {failure}");
            thread::sleep(POLL);
        }
    }

    /// Other text for `--config`, from the next start on.
    pub fn configure(&mut self, text: &str) {
        assert!(self.options.config.is_some(), "the server was started without a configuration");
        fs::write(self.directory.path().join("roadstead.toml"), text).expect("a file can be written");
    }

    /// The port for AMQP without TLS.
    pub fn port(&self) -> u16 {
        self.port_of("amqp")
    }

    /// The port for MQTT without TLS.
    pub fn mqtt_port(&self) -> u16 {
        self.port_of("mqtt")
    }

    /// The port of one of the listeners that the broker announced, such as `amqps`.
    pub fn port_of(&self, listener: &str) -> u16 {
        self.address_of(listener).port()
    }

    fn address_of(&self, listener: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(name, _)| name == listener);
        found.unwrap_or_else(|| panic!("the broker announced no listener {listener}")).1
    }

    /// Where one of the listeners is, on each of its addresses.
    pub fn places_of(&self, listener: &str) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter(move |(name, _)| name == listener).map(|(_, place)| *place)
    }

    /// Every listener that the broker announced, in its order.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.listeners
    }

    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}/%2F", self.address_of("amqp"))
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the broker is running").id()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    /// `roadstead ctl`, asking this broker.
    pub fn ctl(&self, arguments: &[&str]) -> Said {
        let words = ["ctl", "--data"].iter().map(OsStr::new).chain([self.data.as_os_str()]);
        roadstead(words.chain(arguments.iter().map(OsStr::new)))
    }

    /// One number of `roadstead ctl status`. That a broker that is ready answers at once has a test of its own.
    pub fn status(&self, name: &str) -> u64 {
        let end = Instant::now() + START_LIMIT;
        let mut said = self.ctl(&["--json", "status"]);
        while said.err.contains("no broker answers") && Instant::now() < end {
            thread::sleep(POLL);
            said = self.ctl(&["--json", "status"]);
        }
        assert!(said.status.success(), "{said:?}");
        let status: serde_json::Value = serde_json::from_str(&said.out).expect("it is JSON");
        status[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {status}"))
    }

    /// Memory that the broker takes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the broker runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says how much is resident");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("it is a number");
        kib * 1024
    }

    /// What the log takes on the disk.
    pub fn disk_bytes(&self) -> u64 {
        let files = fs::read_dir(self.data.join("log")).expect("the log is a directory");
        // A file that goes meanwhile takes nothing.
        files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.blocks() * 512).sum()
    }

    /// A directory for what a test writes, removed with the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the broker has logged since the test began, over restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    fn launch(&mut self) -> Result<(), StartFailure> {
        let logged = self.log().len();
        let mut process = self.command().spawn().expect("the binary can be executed");
        let lines = lines_of(process.stdout.take().expect("stdout is a pipe"));
        let announced = announcements(&lines);
        match announced {
            Ok(listeners) => {
                (self.process, self.listeners) = (Some(process), listeners);
                Ok(())
            }
            Err(reason) => Err(StartFailure {
                status: give_up(&mut process),
                reason: reason.to_owned(),
                log: self.log().split_off(logged),
            }),
        }
    }

    /// The port that a listener had before, or any.
    fn usual_port(&self, listener: &str) -> u16 {
        let before = self.listeners.iter().find(|(name, _)| name == listener);
        before.map_or(0, |(_, address)| address.port())
    }

    fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut command = bare(&self.options.prefix, &self.binary);
        for (variable, listener) in PORTS {
            command.env(variable, self.usual_port(listener).to_string());
        }
        command.env("RUST_BACKTRACE", "1");
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--data"]).arg(&self.data);
        for address in &self.options.bind {
            command.args(["--bind", address]);
        }
        command.args(&self.options.arguments);
        if self.options.config.is_some() {
            command.arg("--config").arg(self.directory.path().join("roadstead.toml"));
        }
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            println!("the end of the broker's log:\n{}", last_lines(&self.log(), LOG_LINES_SHOWN));
        }
    }
}

/// A command for the binary, without settings in its environment.
fn bare(prefix: &[OsString], binary: &Path) -> Command {
    let mut words = prefix.iter().cloned().chain([binary.into()]);
    let mut command = Command::new(words.next().expect("the binary is there at least"));
    command.args(words);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROADSTEAD_")) {
        command.env_remove(name);
    }
    command
}

/// What another command of the binary than `serve` has printed.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

/// Runs a command of the binary, such as `doctor`, to its end.
pub fn roadstead<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Said {
    let output = bare(&[], &binary()).args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("the binary can be executed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { status: output.status, out: text(&output.stdout), err: text(&output.stderr) }
}

/// The broker that was built with the running tests, or the one that `ROADSTEAD_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("ROADSTEAD_TEST_BINARY") {
        return path.into();
    }
    let test = env::current_exe().expect("a process knows its executable");
    // Of target/PROFILE/deps/TEST.
    let profile = test.parent().and_then(Path::parent).expect("tests run in the target directory");
    profile.join(format!("roadstead{}", env::consts::EXE_SUFFIX))
}

/// The last `count` lines of `text`, for a message that must not be drowned.
pub fn last_lines(text: &str, count: usize) -> &str {
    let start = text.trim_end().rmatch_indices('\n').nth(count.saturating_sub(1)).map_or(0, |(newline, _)| newline + 1);
    &text[start..]
}

/// Sends a signal by the shell, because that needs neither unsafe code nor an installed `kill`.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.expect("there is a shell").success(), "{name} can't be sent to process {pid}");
}

/// Forwards lines as they come, and goes on reading when nobody listens any more, so that the writer never blocks.
fn lines_of(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Reads what the broker prints until it is ready: `listening NAME ADDRESS` for every listener, then `ready`.
fn announcements(lines: &Receiver<String>) -> Result<Vec<(String, SocketAddr)>, &'static str> {
    let end = Instant::now() + START_LIMIT;
    let mut listeners = Vec::new();
    loop {
        let line = match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Err("the broker did not become ready in time"),
            Err(RecvTimeoutError::Disconnected) => return Err("the broker ended before it was ready"),
        };
        if line.starts_with("ready") {
            return Ok(listeners);
        }
        listeners.extend(listener(&line));
    }
}

fn listener(line: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = line.strip_prefix("listening ")?.split_once(' ')?;
    Some((name.to_owned(), address.trim().parse().ok()?))
}

/// The status of a process that has ended or is about to; any other is killed.
fn give_up(process: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        thread::sleep(POLL);
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_their_lines() {
        let found = |name: &str, address: &str| Some((name.to_owned(), address.parse().unwrap()));
        assert_eq!(listener("listening amqp 127.0.0.1:5672"), found("amqp", "127.0.0.1:5672"));
        assert_eq!(listener("listening amqps [::1]:5671"), found("amqps", "[::1]:5671"));
        assert_eq!(listener("ready in 3 ms"), None);
    }

    #[test]
    fn last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb", 5), "a\nb");
        assert_eq!(last_lines("", 5), "");
    }
}
