//! Packets as text: `PUBLISH a/b "hello" qos=1 id=7 retain message-expiry-interval=60`.
//!
//! The first word is the packet's type, texts in quotes are payloads (`"x"*300` for three hundred), what is left are topics and
//! filters. Properties have the specification's names; those of a will have `will.` before them.

use std::fmt::Write;

use mqtt::{
    packet::{Version, kind},
    properties::{Properties, Value, put, put_section},
    wire::{self, Frame, Reader, put_binary, put_text, put_varint},
};

const KINDS: [(&str, u8); 15] = [
    ("CONNECT", kind::CONNECT),
    ("CONNACK", kind::CONNACK),
    ("PUBLISH", kind::PUBLISH),
    ("PUBACK", kind::PUBACK),
    ("PUBREC", kind::PUBREC),
    ("PUBREL", kind::PUBREL),
    ("PUBCOMP", kind::PUBCOMP),
    ("SUBSCRIBE", kind::SUBSCRIBE),
    ("SUBACK", kind::SUBACK),
    ("UNSUBSCRIBE", kind::UNSUBSCRIBE),
    ("UNSUBACK", kind::UNSUBACK),
    ("PINGREQ", kind::PINGREQ),
    ("PINGRESP", kind::PINGRESP),
    ("DISCONNECT", kind::DISCONNECT),
    ("AUTH", kind::AUTH),
];

/// How the value of a property is written.
#[derive(Clone, Copy)]
enum Form {
    Number,
    Text,
    Binary,
    Pair,
}

const PROPERTIES: [(&str, u8, Form); 27] = [
    ("payload-format-indicator", 0x01, Form::Number),
    ("message-expiry-interval", 0x02, Form::Number),
    ("content-type", 0x03, Form::Text),
    ("response-topic", 0x08, Form::Text),
    ("correlation-data", 0x09, Form::Binary),
    ("subscription-identifier", 0x0b, Form::Number),
    ("session-expiry-interval", 0x11, Form::Number),
    ("assigned-client-identifier", 0x12, Form::Text),
    ("server-keep-alive", 0x13, Form::Number),
    ("authentication-method", 0x15, Form::Text),
    ("authentication-data", 0x16, Form::Binary),
    ("request-problem-information", 0x17, Form::Number),
    ("will-delay-interval", 0x18, Form::Number),
    ("request-response-information", 0x19, Form::Number),
    ("response-information", 0x1a, Form::Text),
    ("server-reference", 0x1c, Form::Text),
    ("reason-string", 0x1f, Form::Text),
    ("receive-maximum", 0x21, Form::Number),
    ("topic-alias-maximum", 0x22, Form::Number),
    ("topic-alias", 0x23, Form::Number),
    ("maximum-qos", 0x24, Form::Number),
    ("retain-available", 0x25, Form::Number),
    ("user-property", 0x26, Form::Pair),
    ("maximum-packet-size", 0x27, Form::Number),
    ("wildcard-subscription-available", 0x28, Form::Number),
    ("subscription-identifier-available", 0x29, Form::Number),
    ("shared-subscription-available", 0x2a, Form::Number),
];

const REASONS: [(&str, u8); 33] = [
    ("success", 0x00),
    ("disconnect-with-will", 0x04),
    ("no-matching-subscribers", 0x10),
    ("no-subscription-existed", 0x11),
    ("continue-authentication", 0x18),
    ("re-authenticate", 0x19),
    ("unspecified-error", 0x80),
    ("malformed-packet", 0x81),
    ("protocol-error", 0x82),
    ("implementation-specific-error", 0x83),
    ("unsupported-protocol-version", 0x84),
    ("client-identifier-not-valid", 0x85),
    ("bad-user-name-or-password", 0x86),
    ("not-authorized", 0x87),
    ("server-unavailable", 0x88),
    ("server-busy", 0x89),
    ("server-shutting-down", 0x8b),
    ("bad-authentication-method", 0x8c),
    ("keep-alive-timeout", 0x8d),
    ("session-taken-over", 0x8e),
    ("topic-filter-invalid", 0x8f),
    ("topic-name-invalid", 0x90),
    ("packet-identifier-in-use", 0x91),
    ("packet-identifier-not-found", 0x92),
    ("receive-maximum-exceeded", 0x93),
    ("topic-alias-invalid", 0x94),
    ("packet-too-large", 0x95),
    ("message-rate-too-high", 0x96),
    ("quota-exceeded", 0x97),
    ("administrative-action", 0x98),
    ("payload-format-invalid", 0x99),
    ("retain-not-supported", 0x9a),
    ("qos-not-supported", 0x9b),
];

/// The words of a line: topics and filters, texts in quotes, values by name and flags.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let mut is_quoted = false;
        let ends = move |each: char| {
            is_quoted ^= each == '"';
            each == ' ' && !is_quoted
        };
        Self(line.split(ends).filter(|word| !word.is_empty()).collect())
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> u16 {
        self.value(name).map_or(0, |value| value.parse().expect("it is a number"))
    }

    fn payload(&self) -> Vec<u8> {
        let quoted = |word: &&str| word.starts_with('"') && word.len() > 1;
        self.0.iter().rfind(|word| quoted(word)).map_or_else(Vec::new, |word| unquoted(word))
    }

    /// All properties whose names begin with `prefix` and go on as the specification has it, in their order.
    fn properties(&self, prefix: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for word in &self.0 {
            let Some((name, value)) = word.strip_prefix(prefix).and_then(|word| word.split_once('=')) else { continue };
            let Some(&(_, id, form)) = PROPERTIES.iter().find(|(known, ..)| *known == name) else { continue };
            let value = match form {
                Form::Number => Value::Number(value.parse().expect("it is a number")),
                Form::Text => Value::Text(value),
                Form::Binary => Value::Binary(value.as_bytes()),
                Form::Pair => value.split_once(':').map(|(name, value)| Value::Pair(name, value)).expect("name:value"),
            };
            put(&mut out, id, value);
        }
        out
    }
}

/// The text of `"abc"` or of `"x"*300`.
fn unquoted(word: &str) -> Vec<u8> {
    let (text, times) = word.rsplit_once("\"*").map_or((word, 1), |(text, times)| (text, times.parse().unwrap()));
    text.trim_matches('"').as_bytes().repeat(times)
}

/// The bytes of packets that a client of a version sends, with ` ; ` between them.
/// In CONNECT, `client_id` is the client identifier unless `id=` is another.
pub fn encode(line: &str, version: Version, client_id: &str) -> Vec<u8> {
    line.split(" ; ").flat_map(|packet| encode_one(packet, version, client_id)).collect()
}

fn encode_one(line: &str, version: Version, client_id: &str) -> Vec<u8> {
    let words = Words::of(line);
    let name = words.0[0];
    if name == "raw" {
        let bytes = words.0[1..].iter().filter(|word| !word.starts_with('v'));
        return bytes.map(|word| u8::from_str_radix(word, 16).unwrap()).collect();
    }
    let kind = KINDS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no such packet: {name}")).1;
    let mut body = Vec::new();
    let mut flags = 0;
    match kind {
        kind::CONNECT => put_connect(&mut body, &words, version, client_id),
        kind::PUBLISH => flags = put_publish(&mut body, &words, version),
        kind::SUBSCRIBE | kind::UNSUBSCRIBE => {
            flags = 2;
            body.extend_from_slice(&words.number("id").to_be_bytes());
            put_properties(&mut body, &words, version);
            put_filters(&mut body, &words, kind == kind::SUBSCRIBE);
        }
        kind::PUBACK..=kind::PUBCOMP => {
            flags = if kind == kind::PUBREL { 2 } else { 0 };
            body.extend_from_slice(&words.number("id").to_be_bytes());
            put_reason(&mut body, &words);
        }
        kind::DISCONNECT | kind::AUTH => put_reason(&mut body, &words),
        _ => {}
    }
    let mut bytes = vec![kind << 4 | flags];
    put_varint(&mut bytes, body.len());
    bytes.extend_from_slice(&body);
    bytes
}

fn put_properties(out: &mut Vec<u8>, words: &Words<'_>, version: Version) {
    if version == Version::V5 {
        put_section(out, &words.properties(""));
    }
}

/// A reason code and properties, as far as there are any.
fn put_reason(out: &mut Vec<u8>, words: &Words<'_>) {
    let reason = words.value("reason").map(|name| REASONS.iter().find(|(known, _)| *known == name).unwrap().1);
    let properties = words.properties("");
    if reason.is_some() || !properties.is_empty() {
        out.push(reason.unwrap_or(0));
    }
    if !properties.is_empty() {
        put_section(out, &properties);
    }
}

fn put_connect(out: &mut Vec<u8>, words: &Words<'_>, version: Version, client_id: &str) {
    let will = words.value("will").map(|will| will.split_once(':').expect("topic:payload"));
    let (user, password) = (words.value("user").unwrap_or("guest"), words.value("password"));
    let flag = |bit: u16, set: bool| u16::from(set) << bit;
    let flags = flag(1, words.has("clean"))
        | flag(2, will.is_some())
        | words.number("will.qos") << 3
        | flag(5, words.has("will.retain"))
        | flag(6, !user.is_empty())
        | flag(7, !user.is_empty());
    put_text(out, if version == Version::V31 { "MQIsdp" } else { "MQTT" });
    out.extend_from_slice(&[version as u8, flags as u8]);
    out.extend_from_slice(&words.number("keep-alive").to_be_bytes());
    put_properties(out, words, version);
    put_text(out, words.value("id").unwrap_or(client_id));
    if let Some((topic, payload)) = will {
        if version == Version::V5 {
            put_section(out, &words.properties("will."));
        }
        put_text(out, topic);
        put_binary(out, payload.as_bytes());
    }
    if !user.is_empty() {
        put_text(out, user);
        put_text(out, password.unwrap_or(user));
    }
}

/// Returns the flags.
fn put_publish(out: &mut Vec<u8>, words: &Words<'_>, version: Version) -> u8 {
    let qos = words.number("qos") as u8;
    put_text(out, words.0[1].trim_matches('"'));
    if qos > 0 {
        out.extend_from_slice(&words.number("id").to_be_bytes());
    }
    put_properties(out, words, version);
    out.extend_from_slice(&words.payload());
    u8::from(words.has("dup")) << 3 | qos << 1 | u8::from(words.has("retain"))
}

/// Filters, each with the options behind it.
fn put_filters(out: &mut Vec<u8>, words: &Words<'_>, with_options: bool) {
    let mut options = None;
    for word in &words.0[1..] {
        let number = |value: &str| value.parse::<u8>().expect("it is a number");
        let bits = match (word.split_once('='), *word) {
            (Some(("qos", value)), _) => number(value),
            (Some(("handling", value)), _) => number(value) << 4,
            (Some(_), _) => 0,
            (None, "no-local") => 1 << 2,
            (None, "as-published") => 1 << 3,
            (None, filter) => {
                put_text(out, filter.trim_matches('"'));
                if with_options {
                    options = Some(out.len());
                    out.push(0);
                }
                0
            }
        };
        if let Some(at) = options {
            out[at] |= bits;
        }
    }
}

/// Packets that a client of a version has got, a line for each.
pub fn decode(bytes: &[u8], version: Version) -> Vec<String> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let frame =
            wire::frame(rest, usize::MAX / 2).expect("brokers send packets").expect("brokers send whole packets");
        rest = &rest[frame.len..];
        lines.push(line(&frame, version));
    }
    lines
}

fn line(frame: &Frame<'_>, version: Version) -> String {
    let mut out = KINDS.iter().find(|(_, kind)| *kind == frame.kind).expect("it is a packet").0.to_owned();
    let mut reader = Reader::new(frame.body);
    if frame.kind == kind::PUBLISH {
        publish(&mut out, frame, version);
        return out;
    }
    let flags = if frame.kind == kind::PUBREL { 2 } else { 0 };
    assert_eq!(frame.flags, flags, "reserved flags of {out}");
    match frame.kind {
        kind::CONNACK => {
            let (present, code) = (reader.byte().unwrap(), reader.byte().unwrap());
            assert!(present < 2, "reserved flags of CONNACK");
            write!(out, " {}", if version == Version::V5 || code == 0 { reason(code) } else { code.to_string() })
                .unwrap();
            out += if present == 1 { " present" } else { "" };
            properties(&mut out, &mut reader, version);
        }
        kind::PUBACK..=kind::PUBCOMP => {
            write!(out, " id={}", reader.u16().unwrap()).unwrap();
            reasons(&mut out, &mut reader, version);
        }
        kind::SUBACK | kind::UNSUBACK => {
            write!(out, " id={}", reader.u16().unwrap()).unwrap();
            properties(&mut out, &mut reader, version);
            while let Ok(code) = reader.byte() {
                let is_granted = frame.kind == kind::SUBACK && code < 3;
                write!(out, " {}", if is_granted { code.to_string() } else { reason(code) }).unwrap();
            }
        }
        kind::DISCONNECT | kind::AUTH => reasons(&mut out, &mut reader, version),
        kind::PINGRESP => {}
        _ => panic!("brokers do not send {out}"),
    }
    assert!(reader.is_empty(), "there is something behind {out}");
    out
}

fn publish(out: &mut String, frame: &Frame<'_>, version: Version) {
    let mut reader = Reader::new(frame.body);
    let topic = reader.text().unwrap();
    let qos = frame.flags >> 1 & 3;
    let id = if qos > 0 { reader.u16().unwrap() } else { 0 };
    let mut told = String::new();
    properties(&mut told, &mut reader, version);
    let payload = reader.rest();
    let same = payload.first().filter(|first| payload.len() > 40 && payload.iter().all(|byte| byte == *first));
    let payload = match same {
        Some(first) => format!("\"{}\"*{}", char::from(*first), payload.len()),
        None => format!("{:?}", String::from_utf8_lossy(payload)),
    };
    let topic = if topic.is_empty() { "\"\"" } else { topic };
    write!(out, " {topic} {payload}").unwrap();
    if qos > 0 {
        write!(out, " qos={qos} id={id}").unwrap();
    }
    *out += if frame.flags & 1 == 0 { "" } else { " retain" };
    *out += if frame.flags & 8 == 0 { "" } else { " dup" };
    *out += &told;
}

fn reason(code: u8) -> String {
    REASONS.iter().find(|(_, known)| *known == code).map_or(format!("{code:#x}"), |(name, _)| (*name).to_owned())
}

/// A reason code and properties, as far as there are any.
fn reasons(out: &mut String, reader: &mut Reader<'_>, version: Version) {
    if let Ok(code) = reader.byte() {
        write!(out, " {}", reason(code)).unwrap();
    }
    if !reader.is_empty() {
        properties(out, reader, version);
    }
}

fn properties(out: &mut String, reader: &mut Reader<'_>, version: Version) {
    if version != Version::V5 {
        return;
    }
    let len = reader.varint().unwrap();
    let raw = reader.take(len as usize).unwrap();
    for (id, value) in Properties::checked(raw).iter() {
        let name = PROPERTIES.iter().find(|(_, known, _)| *known == id).expect("it is a property").0;
        match value {
            Value::Number(number) => write!(out, " {name}={number}"),
            Value::Text(text) => write!(out, " {name}={text}"),
            Value::Binary(bytes) => write!(out, " {name}={}", String::from_utf8_lossy(bytes)),
            Value::Pair(first, second) => write!(out, " {name}={first}:{second}"),
        }
        .unwrap();
    }
}
