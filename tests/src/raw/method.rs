//! The methods of AMQP 0-9-1 with RabbitMQ's extensions: one table, used in both directions.
//!
//! A method is written `queue.declare queue=q durable arguments={x-max-length=I:5}`; what is left out is zero, false
//! or empty. The table was written by hand from the specification.

use super::bytes::{Malformed, Reader, Writer};
use super::fields::{Fields, parse_table};
use super::value::{Table, quoted, read_table, show_table, write_table};

/// Class id, method id, name, and fields as `name:type`.
type Row = (u16, u16, &'static str, &'static str);

#[rustfmt::skip]
const METHODS: &[Row] = &[
    (10, 10, "connection.start", "version_major:octet version_minor:octet server_properties:table mechanisms:longstr locales:longstr"),
    (10, 11, "connection.start-ok", "client_properties:table mechanism:shortstr response:longstr locale:shortstr"),
    (10, 20, "connection.secure", "challenge:longstr"),
    (10, 21, "connection.secure-ok", "response:longstr"),
    (10, 30, "connection.tune", "channel_max:short frame_max:long heartbeat:short"),
    (10, 31, "connection.tune-ok", "channel_max:short frame_max:long heartbeat:short"),
    (10, 40, "connection.open", "virtual_host:shortstr reserved_1:shortstr reserved_2:bit"),
    (10, 41, "connection.open-ok", "reserved_1:shortstr"),
    (10, 50, "connection.close", "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    (10, 51, "connection.close-ok", ""),
    (10, 60, "connection.blocked", "reason:shortstr"),
    (10, 61, "connection.unblocked", ""),
    (10, 70, "connection.update-secret", "new_secret:longstr reason:shortstr"),
    (10, 71, "connection.update-secret-ok", ""),
    (20, 10, "channel.open", "reserved_1:shortstr"),
    (20, 11, "channel.open-ok", "reserved_1:longstr"),
    (20, 20, "channel.flow", "active:bit"),
    (20, 21, "channel.flow-ok", "active:bit"),
    (20, 40, "channel.close", "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    (20, 41, "channel.close-ok", ""),
    (30, 10, "access.request", "realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit"),
    (30, 11, "access.request-ok", "ticket:short"),
    (40, 10, "exchange.declare", "ticket:short exchange:shortstr type:shortstr passive:bit durable:bit auto_delete:bit internal:bit nowait:bit arguments:table"),
    (40, 11, "exchange.declare-ok", ""),
    (40, 20, "exchange.delete", "ticket:short exchange:shortstr if_unused:bit nowait:bit"),
    (40, 21, "exchange.delete-ok", ""),
    (40, 30, "exchange.bind", "ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (40, 31, "exchange.bind-ok", ""),
    (40, 40, "exchange.unbind", "ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (40, 51, "exchange.unbind-ok", ""),
    (50, 10, "queue.declare", "ticket:short queue:shortstr passive:bit durable:bit exclusive:bit auto_delete:bit nowait:bit arguments:table"),
    (50, 11, "queue.declare-ok", "queue:shortstr message_count:long consumer_count:long"),
    (50, 20, "queue.bind", "ticket:short queue:shortstr exchange:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (50, 21, "queue.bind-ok", ""),
    (50, 30, "queue.purge", "ticket:short queue:shortstr nowait:bit"),
    (50, 31, "queue.purge-ok", "message_count:long"),
    (50, 40, "queue.delete", "ticket:short queue:shortstr if_unused:bit if_empty:bit nowait:bit"),
    (50, 41, "queue.delete-ok", "message_count:long"),
    (50, 50, "queue.unbind", "ticket:short queue:shortstr exchange:shortstr routing_key:shortstr arguments:table"),
    (50, 51, "queue.unbind-ok", ""),
    (60, 10, "basic.qos", "prefetch_size:long prefetch_count:short global:bit"),
    (60, 11, "basic.qos-ok", ""),
    (60, 20, "basic.consume", "ticket:short queue:shortstr consumer_tag:shortstr no_local:bit no_ack:bit exclusive:bit nowait:bit arguments:table"),
    (60, 21, "basic.consume-ok", "consumer_tag:shortstr"),
    (60, 30, "basic.cancel", "consumer_tag:shortstr nowait:bit"),
    (60, 31, "basic.cancel-ok", "consumer_tag:shortstr"),
    (60, 40, "basic.publish", "ticket:short exchange:shortstr routing_key:shortstr mandatory:bit immediate:bit"),
    (60, 50, "basic.return", "reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr"),
    (60, 60, "basic.deliver", "consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr"),
    (60, 70, "basic.get", "ticket:short queue:shortstr no_ack:bit"),
    (60, 71, "basic.get-ok", "delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long"),
    (60, 72, "basic.get-empty", "reserved_1:shortstr"),
    (60, 80, "basic.ack", "delivery_tag:longlong multiple:bit"),
    (60, 90, "basic.reject", "delivery_tag:longlong requeue:bit"),
    (60, 100, "basic.recover-async", "requeue:bit"),
    (60, 110, "basic.recover", "requeue:bit"),
    (60, 111, "basic.recover-ok", ""),
    (60, 120, "basic.nack", "delivery_tag:longlong multiple:bit requeue:bit"),
    (85, 10, "confirm.select", "nowait:bit"),
    (85, 11, "confirm.select-ok", ""),
    (90, 10, "tx.select", ""),
    (90, 11, "tx.select-ok", ""),
    (90, 20, "tx.commit", ""),
    (90, 21, "tx.commit-ok", ""),
    (90, 30, "tx.rollback", ""),
    (90, 31, "tx.rollback-ok", ""),
];

/// The basic class's properties in flag order, as `name:type`.
pub const PROPERTIES: &str = "content_type:shortstr content_encoding:shortstr headers:table delivery_mode:octet \
    priority:octet correlation_id:shortstr reply_to:shortstr expiration:shortstr message_id:shortstr \
    timestamp:longlong type:shortstr user_id:shortstr app_id:shortstr cluster_id:shortstr";

fn columns(fields: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    fields.split_whitespace().map(|field| field.split_once(':').expect("every field has a type"))
}

fn row(name: &str) -> Option<&'static Row> {
    METHODS.iter().find(|row| row.2 == name)
}

pub fn exists(name: &str) -> bool {
    row(name).is_some()
}

/// Whether the method `name` has the field `column`.
pub fn has_field(name: &str, column: &str) -> bool {
    row(name).is_some_and(|row| columns(row.3).any(|(known, _)| known == column))
}

pub fn is_property(column: &str) -> bool {
    columns(PROPERTIES).any(|(known, _)| known == column)
}

/// Whether the server answers `name` with a method of its own.
pub fn is_synchronous(name: &str) -> bool {
    name == "basic.get" || row(&format!("{name}-ok")).is_some()
}

/// Whether `answer` is the reply to `request`.
pub fn answers(request: &str, answer: &str) -> bool {
    answer == format!("{request}-ok") || (request == "basic.get" && answer == "basic.get-empty")
}

/// The payload of a method frame. Fields that the method does not have are left for the caller to complain about.
pub fn encode(name: &str, fields: &Fields) -> Vec<u8> {
    let (class, method, _, layout) = row(name).unwrap_or_else(|| panic!("no method {name}"));
    let mut out = Writer::default();
    out.u16(*class).u16(*method);
    write_columns(layout, fields, &mut out);
    out.into_bytes()
}

fn write_columns(layout: &'static str, fields: &Fields, out: &mut Writer) {
    let mut bits = (0u8, 0u8);
    for (column, kind) in columns(layout) {
        if kind == "bit" {
            bits.0 |= u8::from(fields.is_set(column)) << bits.1;
            bits.1 += 1;
            continue;
        }
        flush_bits(&mut bits, out);
        write_field(kind, fields.text(column), out);
    }
    flush_bits(&mut bits, out);
}

fn flush_bits(bits: &mut (u8, u8), out: &mut Writer) {
    if bits.1 > 0 {
        out.u8(bits.0);
    }
    *bits = (0, 0);
}

fn write_field(kind: &str, text: &[u8], out: &mut Writer) {
    match kind {
        "octet" => out.u8(number(text)),
        "short" => out.u16(number(text)),
        "long" => out.u32(number(text)),
        "longlong" => out.u64(number(text)),
        "shortstr" => out.short_text(text),
        "longstr" => out.long_text(text),
        "table" => {
            write_table(&parse_table(text), out);
            out
        }
        other => panic!("no field type {other}"),
    };
}

fn number<T: std::str::FromStr + Default>(text: &[u8]) -> T {
    let text = String::from_utf8_lossy(text);
    if text.is_empty() { T::default() } else { text.parse().unwrap_or_else(|_| panic!("{text} is no number here")) }
}

/// Fields or properties by name, in wire order.
pub type Named = Vec<(&'static str, Field)>;

/// A decoded method: its name, and its fields in wire order, readable.
pub struct Decoded {
    pub name: &'static str,
    pub fields: Named,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    Text(Vec<u8>),
    Number(u64),
    Table(Table),
}

impl Field {
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Number(number) => number.to_string(),
            Self::Table(table) => show_table(table),
        }
    }
}

impl Decoded {
    pub fn text(&self, column: &str) -> String {
        match self.field(column) {
            Some(Field::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            _ => String::new(),
        }
    }

    pub fn number(&self, column: &str) -> u64 {
        match self.field(column) {
            Some(Field::Number(number)) => *number,
            _ => 0,
        }
    }

    pub fn field(&self, column: &str) -> Option<&Field> {
        self.fields.iter().find(|(name, _)| *name == column).map(|(_, field)| field)
    }

    /// Whether a content header follows.
    pub fn has_content(&self) -> bool {
        matches!(self.name, "basic.deliver" | "basic.return" | "basic.get-ok" | "basic.publish")
    }
}

pub fn decode(payload: &[u8]) -> Result<Decoded, Malformed> {
    let mut input = Reader::new(payload);
    let (class, method) = (input.u16()?, input.u16()?);
    let found = METHODS.iter().find(|row| (row.0, row.1) == (class, method)).ok_or(Malformed)?;
    let fields = read_columns(found.3, &mut input)?;
    if !input.is_empty() {
        return Err(Malformed);
    }
    Ok(Decoded { name: found.2, fields })
}

fn read_columns(layout: &'static str, input: &mut Reader<'_>) -> Result<Named, Malformed> {
    let mut bits: Option<(u8, u8)> = None;
    let mut fields = Vec::new();
    for (column, kind) in columns(layout) {
        if kind == "bit" {
            let (octet, used) = bits.map_or_else(|| input.u8().map(|octet| (octet, 0)), Ok)?;
            fields.push((column, Field::Number(u64::from(octet >> used & 1))));
            bits = Some((octet, used + 1));
            continue;
        }
        bits = None;
        fields.push((column, read_field(kind, input)?));
    }
    Ok(fields)
}

fn read_field(kind: &str, input: &mut Reader<'_>) -> Result<Field, Malformed> {
    Ok(match kind {
        "octet" => Field::Number(u64::from(input.u8()?)),
        "short" => Field::Number(u64::from(input.u16()?)),
        "long" => Field::Number(u64::from(input.u32()?)),
        "longlong" => Field::Number(input.u64()?),
        "shortstr" => Field::Text(input.short_text()?.to_vec()),
        "longstr" => Field::Text(input.long_text()?.to_vec()),
        "table" => Field::Table(read_table(input, 0)?),
        other => panic!("no field type {other}"),
    })
}

/// The payload of a content header frame.
pub fn encode_header(class: u16, body_size: u64, fields: &Fields) -> Vec<u8> {
    let mut out = Writer::default();
    let mut flags = 0u16;
    let mut values = Writer::default();
    for (place, (column, kind)) in columns(PROPERTIES).enumerate() {
        if fields.has(column) {
            flags |= 1 << (15 - place);
            write_field(kind, fields.text(column), &mut values);
        }
    }
    out.u16(class).u16(0).u64(body_size).u16(flags).raw(&values.into_bytes());
    out.into_bytes()
}

/// The body's size and the properties that are present.
pub fn decode_header(payload: &[u8]) -> Result<(u64, Named), Malformed> {
    let mut input = Reader::new(payload);
    let (_class, _weight) = (input.u16()?, input.u16()?);
    let size = input.u64()?;
    let flags = input.u16()?;
    let mut properties = Vec::new();
    for (place, (column, kind)) in columns(PROPERTIES).enumerate() {
        if flags & 1 << (15 - place) != 0 {
            properties.push((column, read_field(kind, &mut input)?));
        }
    }
    if input.is_empty() { Ok((size, properties)) } else { Err(Malformed) }
}
