//! Conversations of a client with a broker: how they are recorded, and held again with another broker.
//!
//! A record has one line for each frame, in the order in which they went: the connection's number, and `>` with all bytes of
//! what the client sent, or `<` with what the broker's frame says. Both sides are kept from the tight encoding, the
//! cache and stack traces, so that frames can be read by themselves.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::command::{Shown, is_noise};
use super::primitive::{self, Primitive};
use crate::raw::{Reader, Writer, hex};

/// How long a frame of the broker may take that must come.
const PATIENCE: Duration = Duration::from_secs(2);
const WIRE_FORMAT_INFO: u8 = 1;
const REMOVE_INFO: u8 = 12;
/// What neither side shall use, and what is of no interest.
const OFF: [&str; 3] = ["TightEncodingEnabled", "CacheEnabled", "StackTraceEnabled"];
const DROPPED: [&str; 1] = ["PlatformDetails"];

/// One frame of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// All bytes of a frame of the client, without its length.
    Client(Vec<u8>),
    /// What a frame of the broker says.
    Broker(String),
}

/// Frames and their connections.
pub type Record = Vec<(usize, Said)>;

/// Reads a record.
pub fn parse(text: &str) -> Record {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let said = |line: &str| {
        let (connection, rest) = line.split_once(' ')?;
        let connection = connection.parse().ok()?;
        Some(match rest.split_once(' ')? {
            (">", frame) => (connection, Said::Client(hex(frame))),
            (_, line) => (connection, Said::Broker(line.to_owned())),
        })
    };
    lines.map(|line| said(line).unwrap_or_else(|| panic!("no line of a record: {line}"))).collect()
}

fn frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn send(stream: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = (frame.len() as u32).to_be_bytes();
    stream.write_all(&[&length, frame].concat())
}

/// The options of the wire without what makes frames hard to read.
fn plain(frame: &[u8]) -> Vec<u8> {
    let mut input = Reader::new(frame);
    let head = input.take(1 + 8 + 4 + 1).expect("a WireFormatInfo with properties");
    let map = input.long_text().expect("its properties");
    let mut map = primitive::read_map(&mut Reader::new(map)).expect("a map");
    map.retain(|(name, _)| !DROPPED.contains(&name.as_str()));
    for (_, value) in map.iter_mut().filter(|(name, _)| OFF.contains(&name.as_str())) {
        *value = Primitive::Bool(false);
    }
    let (mut properties, mut out) = (Writer::default(), Writer::default());
    primitive::write_map(&map, &mut properties);
    out.raw(head).long_text(&properties.into_bytes());
    out.into_bytes()
}

/// Stands between a client and a broker, and writes down what they say, until the process ends.
pub fn record(listener: &TcpListener, broker: SocketAddr, out: impl Write + Send + 'static) {
    let out = Arc::new(Mutex::new(out));
    for (connection, client) in (1..).zip(listener.incoming()) {
        let Ok(client) = client else { return };
        let Ok(server) = TcpStream::connect(broker) else { return };
        let both = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some((to, from)), out) = (both(), Arc::clone(&out)) else { return };
        let again = Arc::clone(&out);
        thread::spawn(move || pass(from, to, connection, false, &again));
        thread::spawn(move || pass(client, server, connection, true, &out));
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, connection: usize, is_client: bool, out: &Mutex<impl Write>) {
    while let Ok(mut bytes) = frame(&mut from) {
        if bytes.first() == Some(&WIRE_FORMAT_INFO) {
            bytes = plain(&bytes);
        }
        // Written before it is passed on, so that whatever follows from it stands behind it.
        let mut out = out.lock().expect("nobody panics with it");
        if is_client {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            writeln!(out, "{connection} > {hex}").expect("it can be written");
        } else if !is_noise(&bytes) {
            let shown = Shown::of(&bytes).unwrap_or_else(|_| panic!("unknown frame {}", bytes.escape_ascii()));
            writeln!(out, "{connection} < {}", shown.line).expect("it can be written");
        }
        drop(out);
        if send(&mut to, &bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A connection of a conversation that is held again.
struct Talk {
    stream: TcpStream,
    /// The broker's numbers of messages that have come.
    numbers: HashMap<Vec<u8>, [u8; 8]>,
    /// These numbers, by those that the recorded broker gave the same messages, of which the client has said something.
    ours: HashMap<[u8; 8], [u8; 8]>,
}

impl Talk {
    fn open(broker: SocketAddr) -> Self {
        let stream = TcpStream::connect(broker).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        Self { stream, numbers: HashMap::new(), ours: HashMap::new() }
    }

    /// Sends a frame of the record, with this broker's numbers of the messages that it names.
    fn say(&mut self, recorded: &[u8]) {
        let mut frame = recorded.to_vec();
        if frame.first() != Some(&WIRE_FORMAT_INFO) && !is_noise(&frame) {
            for (id, at) in Shown::of(recorded).expect("it was read when it was recorded").ids {
                if let (Some(number), Some(recorded)) = (self.numbers.get(&id), recorded[at..].first_chunk()) {
                    self.ours.insert(*recorded, *number);
                    frame[at..at + 8].copy_from_slice(number);
                }
            }
            // It ends with the number of the last message that the application has seen.
            if frame[0] == REMOVE_INFO
                && let Some(number) = frame.last_chunk().and_then(|last| self.ours.get(last))
            {
                let at = frame.len() - number.len();
                frame[at..].copy_from_slice(number);
            }
        }
        // A broker that has hung up is noticed when it is to answer.
        let _ = send(&mut self.stream, &frame);
    }

    /// The broker's next frame; nothing if there is none.
    fn hear(&mut self) -> Option<String> {
        loop {
            let frame = frame(&mut self.stream).ok()?;
            if is_noise(&frame) {
                continue;
            }
            let shown = Shown::of(&frame).unwrap_or_else(|_| panic!("unknown frame {}", frame.escape_ascii()));
            for (id, at) in shown.ids {
                self.numbers.insert(id, frame[at..at + 8].try_into().expect("eight bytes"));
            }
            return Some(shown.line);
        }
    }
}

/// Whom a line is for: answers and each consumer's messages have an order, and none between them.
fn addressee(line: &str) -> (&str, &str) {
    let (connection, said) = line.split_once(' ').unwrap_or_default();
    let consumer = said.strip_prefix("< MessageDispatch consumer=(").and_then(|rest| rest.split(')').next());
    (connection, consumer.unwrap_or_default())
}

/// Holds a recorded conversation with another broker: what that says, as often as the recorded broker said something.
pub fn hold(record: &Record, broker: SocketAddr) -> Vec<String> {
    let mut talks: BTreeMap<usize, Talk> = BTreeMap::new();
    let mut lines = Vec::new();
    for (connection, said) in record {
        let talk = talks.entry(*connection).or_insert_with(|| Talk::open(broker));
        match said {
            Said::Client(frame) => talk.say(frame),
            Said::Broker(_) => {
                let line = talk.hear().unwrap_or_else(|| "(nothing)".to_owned());
                lines.push(format!("{connection} < {line}"));
            }
        }
    }
    for (connection, mut talk) in talks {
        let _ = talk.stream.shutdown(Shutdown::Write);
        while let Some(line) = talk.hear() {
            lines.push(format!("{connection} < (more) {line}"));
        }
    }
    lines.sort_by(|one, other| addressee(one).cmp(&addressee(other)));
    lines
}

/// What the recorded broker said, in the same order.
pub fn broker_side(record: &Record) -> Vec<String> {
    let said = |(connection, said): &(usize, Said)| match said {
        Said::Broker(line) => Some(format!("{connection} < {line}")),
        Said::Client(_) => None,
    };
    let mut lines: Vec<_> = record.iter().filter_map(said).collect();
    lines.sort_by(|one, other| addressee(one).cmp(&addressee(other)));
    lines
}
