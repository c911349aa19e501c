//! What a server says, put together from its frames and made readable.

use std::fmt;

use super::connection::{BODY, Frame, HEADER, HEARTBEAT, METHOD};
use super::method::{self, Decoded, Field, Named};
use super::value::{Table, Value, quoted, show_table};

pub struct Event {
    pub channel: u16,
    pub happening: Happening,
}

pub enum Happening {
    Method(Decoded),
    Content {
        method: Decoded,
        properties: Named,
        body: Vec<u8>,
    },
    Heartbeat,
    ProtocolHeader(Vec<u8>),
    /// A frame that means nothing here, or whose payload cannot be read.
    Garbage(Vec<u8>),
    /// The server has closed the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

impl Event {
    pub fn connection(happening: Happening) -> Self {
        Self { channel: 0, happening }
    }

    pub fn method(&self) -> Option<&Decoded> {
        match &self.happening {
            Happening::Method(method) | Happening::Content { method, .. } => Some(method),
            _ => None,
        }
    }

    pub fn method_name(&self) -> Option<&'static str> {
        self.method().map(|method| method.name)
    }

    pub fn body(&self) -> &[u8] {
        match &self.happening {
            Happening::Content { body, .. } => body,
            _ => &[],
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.happening, Happening::Closed)
    }

    pub fn is_silence(&self) -> bool {
        matches!(self.happening, Happening::Silence)
    }

    /// The reply code of a channel.close or connection.close.
    pub fn close_code(&self) -> Option<u64> {
        let method = self.method()?;
        matches!(method.name, "channel.close" | "connection.close").then(|| method.number("reply_code"))
    }
}

/// Server properties that differ from one installation to the next.
const LOCAL_PROPERTIES: [&str; 6] = ["cluster_name", "copyright", "information", "platform", "product", "version"];

/// Tables are shown in the order of their keys: some servers keep the sender's order, and some don't.
fn show_field(name: &str, field: &Field) -> String {
    let Field::Table(table) = field else { return field.show() };
    let mut table = sorted(table);
    for (key, value) in &mut table {
        if name == "server_properties" && LOCAL_PROPERTIES.contains(&key.as_str()) {
            *value = Value::Text(b"*".to_vec());
        }
    }
    show_table(&table)
}

fn sorted(table: &Table) -> Table {
    let deep = |value: &Value| match value {
        Value::Table(inner) => Value::Table(sorted(inner)),
        other => other.clone(),
    };
    let mut pairs: Table = table.iter().map(|(key, value)| (key.clone(), deep(value))).collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[(&'static str, Field)]) -> fmt::Result {
    for (name, field) in fields.iter().filter(|(name, _)| !name.starts_with("reserved")) {
        write!(f, " {name}={}", show_field(name, field))?;
    }
    Ok(())
}

/// Long bodies are told by their length.
fn show_body(body: &[u8]) -> String {
    if body.len() <= 80 { quoted(body) } else { format!("({} bytes)", body.len()) }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.happening {
            Happening::Method(method) => {
                write!(f, "{} {}", self.channel, method.name)?;
                write_fields(f, &method.fields)
            }
            Happening::Content { method, properties, body } => {
                write!(f, "{} {}", self.channel, method.name)?;
                write_fields(f, &method.fields)?;
                f.write_str(" with")?;
                write_fields(f, properties)?;
                write!(f, " body={}", show_body(body))
            }
            Happening::Heartbeat => write!(f, "{} heartbeat", self.channel),
            Happening::ProtocolHeader(header) => write!(f, "protocol header {}", header.escape_ascii()),
            Happening::Garbage(bytes) => write!(f, "{} garbage {}", self.channel, bytes.escape_ascii()),
            Happening::Closed => f.write_str("(closed)"),
            Happening::Silence => f.write_str("(nothing)"),
        }
    }
}

/// A content on its way in.
pub struct Partial {
    method: Decoded,
    header: Option<(u64, Named)>,
    body: Vec<u8>,
}

impl Partial {
    /// Takes one frame: an event when it completes one, the new state when more must come.
    pub fn advance(state: Option<Self>, frame: Frame) -> Result<Option<Event>, Self> {
        let channel = frame.channel;
        let event = |happening| Ok(Some(Event { channel, happening }));
        match (frame.kind, state) {
            (HEARTBEAT, None) => event(Happening::Heartbeat),
            (METHOD, None) => match method::decode(&frame.payload) {
                Ok(method) if method.has_content() => Err(Self { method, header: None, body: Vec::new() }),
                Ok(method) => event(Happening::Method(method)),
                Err(_) => event(Happening::Garbage(frame.payload)),
            },
            (HEADER, Some(Self { method, header: None, body })) => match method::decode_header(&frame.payload) {
                Ok(header) => Self { method, header: Some(header), body }.finish(channel),
                Err(_) => event(Happening::Garbage(frame.payload)),
            },
            (BODY, Some(Self { method, header: Some(header), mut body })) => {
                body.extend(&frame.payload);
                Self { method, header: Some(header), body }.finish(channel)
            }
            _ => event(Happening::Garbage(frame.payload)),
        }
    }

    fn finish(self, channel: u16) -> Result<Option<Event>, Self> {
        match self.header {
            Some((size, properties)) if size <= self.body.len() as u64 => {
                let happening = Happening::Content { method: self.method, properties, body: self.body };
                Ok(Some(Event { channel, happening }))
            }
            header => Err(Self { header, ..self }),
        }
    }
}
