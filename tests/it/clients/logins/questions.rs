//! A server that decides over logins by RabbitMQ's HTTP interface, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A question: the path and the parameters.
#[derive(Clone, Debug)]
pub struct Question {
    /// Without what is behind the question mark.
    pub path: String,
    parameters: Vec<(String, String)>,
}

/// All that was asked.
#[derive(Clone, Default)]
pub struct Questions(Arc<Mutex<Vec<Question>>>);

impl Questions {
    /// In their order.
    pub fn all(&self) -> Vec<Question> {
        self.0.lock().expect("no test has panicked with it").clone()
    }
}

impl Question {
    fn read(target: &str, body: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, body));
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self { path: path.to_owned(), parameters: pairs.map(|(name, value)| (decode(name), decode(value))).collect() }
    }

    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is a parameter.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// What `alice` and `bob` may do.
    fn answer(&self) -> &'static str {
        let get = |name| self.get(name).unwrap_or_default();
        let user = get("username");
        let name = get("name");
        let is_allowed = match self.path.as_str() {
            "/auth/user" => {
                let is_known = ["alice", "bob"].contains(&user) && get("password") == format!("{user}'s secret");
                return if is_known { "allow management policymaker" } else { "deny" };
            }
            "/auth/vhost" => get("vhost") == "/",
            "/auth/resource" if user == "bob" => get("permission") == "read" && name.starts_with("roadstead."),
            "/auth/resource" => {
                ["roadstead.", "mqtt-subscription-"].iter().any(|prefix| name.starts_with(prefix))
                    || ["amq.default", "amq.topic"].contains(&name)
            }
            "/auth/topic" => get("resource") == "topic" && get("routing_key").starts_with(&format!("of.{user}.")),
            _ => false,
        };
        if is_allowed { "allow" } else { "deny" }
    }
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("it is percent-encoded"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("it is UTF-8")
}

/// The server.
pub struct HttpServer(SocketAddr);

impl HttpServer {
    /// Listens until the test ends.
    pub fn start(questions: &Questions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let questions = questions.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let questions = questions.clone();
                thread::spawn(move || serve(stream, &questions));
            }
        });
        Self(address)
    }

    /// Where it is.
    pub fn address(&self) -> String {
        format!("http://{}", self.0)
    }
}

/// Answers until the other side ends the connection.
fn serve(stream: TcpStream, questions: &Questions) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let length = lines.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let target = lines.first()?.split(' ').nth(1)?.to_owned();
        let question = Question::read(&target, &String::from_utf8(body).ok()?);
        let answer = question.answer();
        questions.0.lock().expect("no test has panicked with it").push(question);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).ok()?;
    }
}
