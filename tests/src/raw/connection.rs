//! One connection: frames out and in, with a time-out on every read.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::event::{Event, Happening, Partial};
use super::fields::Fields;
use super::method;

pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: u8 = 8;
pub const FRAME_END: u8 = 0xce;

pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// How long a handshake step, or an answer that must come, may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Where a broker is, and who we are there.
#[derive(Clone, Debug)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub vhost: String,
}

impl Address {
    /// `amqp://user:password@host:port/vhost`; all but the host may be left out.
    pub fn parse(uri: &str) -> Self {
        let rest = uri.strip_prefix("amqp://").unwrap_or(uri);
        let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let (place, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = place.rsplit_once(':').unwrap_or((place, "5672"));
        Self {
            host: host.to_owned(),
            port: port.parse().expect("a port is a number"),
            user: user.to_owned(),
            password: password.to_owned(),
            vhost: if vhost.is_empty() { "/".to_owned() } else { vhost.replace("%2F", "/").replace("%2f", "/") },
        }
    }
}

/// A frame as it is on the wire, less its end octet.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub channel: u16,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn method(channel: u16, name: &str, fields: &Fields) -> Self {
        Self { kind: METHOD, channel, payload: method::encode(name, fields) }
    }

    pub fn header(channel: u16, body_size: u64, properties: &Fields) -> Self {
        Self { kind: HEADER, channel, payload: method::encode_header(60, body_size, properties) }
    }

    pub fn body(channel: u16, body: &[u8]) -> Self {
        Self { kind: BODY, channel, payload: body.to_vec() }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a frame is below 4 GiB");
        let mut bytes = vec![self.kind];
        bytes.extend(self.channel.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.payload);
        bytes.push(FRAME_END);
        bytes
    }
}

pub struct Connection {
    stream: TcpStream,
    /// What was read and not taken yet, from `taken` on.
    inbox: Vec<u8>,
    taken: usize,
    /// Contents of which the header or the body is still to come, by channel.
    partial: HashMap<u16, Partial>,
    /// The largest frame that we send; set by the handshake.
    pub frame_max: usize,
}

impl Connection {
    /// A TCP connection, nothing said yet.
    pub fn tcp(address: &Address) -> std::io::Result<Self> {
        let mut error = std::io::Error::from(ErrorKind::AddrNotAvailable);
        for place in (address.host.as_str(), address.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&place, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(Self {
                        stream,
                        inbox: Vec::new(),
                        taken: 0,
                        partial: HashMap::new(),
                        frame_max: 131_072,
                    });
                }
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// The whole handshake, with what `options` changes about it; on failure what the server said instead.
    pub fn open(address: &Address, options: &Fields) -> Result<Self, Event> {
        let mut connection = Self::tcp(address).map_err(|_| Event::connection(Happening::Closed))?;
        connection.send_bytes(PROTOCOL_HEADER);
        connection.must_get("connection.start")?;
        connection.send(0, "connection.start-ok", &start_ok(address, options));
        let tune = connection.must_get("connection.tune")?;
        connection.send(0, "connection.tune-ok", &tune_ok(&tune, options));
        connection.frame_max = match options.number("frame_max").unwrap_or(tune.number("frame_max")) {
            0 => 131_072,
            bytes => usize::try_from(bytes).expect("a frame fits in memory"),
        };
        let vhost = if options.has("vhost") { options.string("vhost") } else { address.vhost.clone() };
        connection.send(0, "connection.open", &Fields::default().with("virtual_host", vhost));
        connection.must_get("connection.open-ok")?;
        Ok(connection)
    }

    /// A connection with channel 1 open, for tests that are not about the handshake.
    pub fn ready(address: &Address) -> Self {
        let mut connection = Self::open(address, &Fields::default()).unwrap_or_else(|e| panic!("no connection: {e}"));
        connection.call(1, "channel.open", "");
        connection
    }

    fn must_get(&mut self, name: &str) -> Result<method::Decoded, Event> {
        let event = self.next(PATIENCE);
        match event.happening {
            Happening::Method(decoded) if decoded.name == name => Ok(decoded),
            other => Err(Event { channel: event.channel, happening: other }),
        }
    }

    /// Sends a method and waits for its reply; anything else that comes first is a failed test.
    pub fn call(&mut self, channel: u16, name: &str, fields: &str) -> Event {
        self.send(channel, name, &Fields::parse(fields));
        let event = self.next(PATIENCE);
        let answered = event.method_name().is_some_and(|answer| method::answers(name, answer));
        assert!(answered, "{name} {fields} was answered by {event}");
        event
    }

    pub fn send(&mut self, channel: u16, name: &str, fields: &Fields) {
        self.send_frame(&Frame::method(channel, name, fields));
    }

    /// A whole message; `fields` are those of basic.publish and the properties together.
    pub fn publish(&mut self, channel: u16, fields: &Fields, body: &[u8]) {
        let bytes = self.message(channel, fields, body);
        self.send_bytes(&bytes);
    }

    /// The bytes of [`Connection::publish`], for who sends many at once.
    pub fn message(&self, channel: u16, fields: &Fields, body: &[u8]) -> Vec<u8> {
        let mut bytes = Frame::method(channel, "basic.publish", fields).to_bytes();
        bytes.extend(Frame::header(channel, body.len() as u64, fields).to_bytes());
        for chunk in body.chunks(self.frame_max - 8) {
            bytes.extend(Frame::body(channel, chunk).to_bytes());
        }
        bytes
    }

    pub fn send_frame(&mut self, frame: &Frame) {
        self.send_bytes(&frame.to_bytes());
    }

    /// A server that has hung up is noticed by the next read, so a failed write is no error here.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends the connection without a word.
    pub fn drop_socket(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// The next complete thing that the server says, or [`Happening::Silence`].
    pub fn next(&mut self, patience: Duration) -> Event {
        let deadline = Instant::now() + patience;
        loop {
            match self.take_frame() {
                Ok(Some(frame)) => {
                    if let Some(event) = self.assemble(frame) {
                        return event;
                    }
                }
                Ok(None) => match self.fill(deadline) {
                    Ok(true) => {}
                    Ok(false) => return Event::connection(Happening::Closed),
                    Err(_) => return Event::connection(Happening::Silence),
                },
                Err(event) => return event,
            }
        }
    }

    /// Reads more; `Ok(false)` when the server has closed the connection, an error when time is up.
    fn fill(&mut self, deadline: Instant) -> Result<bool, ()> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _ = self.stream.set_read_timeout(Some(left));
        let mut buffer = [0; 65_536];
        self.inbox.drain(..std::mem::take(&mut self.taken));
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.inbox.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Ok(false),
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, Event> {
        let inbox = &self.inbox[self.taken..];
        if inbox.starts_with(b"AMQP") && inbox.len() >= 8 {
            let header = inbox[..8].to_vec();
            self.taken += 8;
            return Err(Event::connection(Happening::ProtocolHeader(header)));
        }
        if inbox.len() < 7 {
            return Ok(None);
        }
        let channel = u16::from_be_bytes([inbox[1], inbox[2]]);
        let length = u32::from_be_bytes([inbox[3], inbox[4], inbox[5], inbox[6]]) as usize;
        let Some(frame) = inbox.get(..length + 8) else { return Ok(None) };
        self.taken += frame.len();
        if frame[length + 7] != FRAME_END {
            return Err(Event { channel, happening: Happening::Garbage(frame.to_vec()) });
        }
        Ok(Some(Frame { kind: frame[0], channel, payload: frame[7..length + 7].to_vec() }))
    }

    fn assemble(&mut self, frame: Frame) -> Option<Event> {
        let channel = frame.channel;
        match Partial::advance(self.partial.remove(&channel), frame) {
            Ok(Some(event)) => Some(event),
            Ok(None) => None,
            Err(partial) => {
                self.partial.insert(channel, partial);
                None
            }
        }
    }
}

fn start_ok(address: &Address, options: &Fields) -> Fields {
    let or = |name: &str, usual: &str| if options.has(name) { options.string(name) } else { usual.to_owned() };
    let mechanism = or("mechanism", "PLAIN");
    let (user, password) = (or("user", &address.user), or("password", &address.password));
    let capabilities = "{capabilities=F:{publisher_confirms=t:1,exchange_exchange_bindings=t:1,basic.nack=t:1,\
        consumer_cancel_notify=t:1,connection.blocked=t:1,authentication_failure_close=t:1}}";
    Fields::default()
        .with("client_properties", or("client_properties", capabilities))
        .with("mechanism", mechanism)
        .with("response", or("response", &format!("\0{user}\0{password}")))
        .with("locale", "en_US")
}

fn tune_ok(tune: &method::Decoded, options: &Fields) -> Fields {
    let or = |name: &str, usual: u64| options.number(name).unwrap_or(usual).to_string();
    Fields::default()
        .with("channel_max", or("channel_max", tune.number("channel_max")))
        .with("frame_max", or("frame_max", tune.number("frame_max")))
        .with("heartbeat", or("heartbeat", 0))
}
