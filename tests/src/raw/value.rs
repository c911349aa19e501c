//! Field tables and values of AMQP 0-9-1, in RabbitMQ's dialect.
//!
//! A value has one written form, used by scripts and transcripts alike: the type octet, a colon, and the value:
//! `S:text`, `I:-5`, `t:1`, `A:[S:a,I:1]`, `F:{k=S:v}`, and `V` alone for void.

use std::fmt;

use super::bytes::{Malformed, Reader, Writer};

/// How deep [`Value::read`] follows nested values before it gives up.
const DEPTH_MAX: usize = 100;

/// Pairs in the order in which they stand on the wire.
pub type Table = Vec<(String, Value)>;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    /// Any integer: the type octet says how wide, and whether it is signed.
    Integer(u8, i128),
    Float(u8, f64),
    Decimal(u8, u32),
    Bool(bool),
    Table(Table),
    Array(Vec<Self>),
    Void,
}

/// The integer types: octet, width in bytes, signed.
const INTEGERS: [(u8, usize, bool); 9] = [
    (b'b', 1, true),
    (b'B', 1, false),
    (b's', 2, true),
    (b'u', 2, false),
    (b'I', 4, true),
    (b'i', 4, false),
    (b'l', 8, true),
    (b'L', 8, true),
    (b'T', 8, false),
];

fn integer_type(octet: u8) -> Option<(usize, bool)> {
    INTEGERS.iter().find(|(o, ..)| *o == octet).map(|(_, width, signed)| (*width, *signed))
}

pub fn write_table(table: &Table, out: &mut Writer) {
    let mut inner = Writer::default();
    for (key, value) in table {
        inner.short_text(key.as_bytes());
        value.write(&mut inner);
    }
    out.long_text(&inner.into_bytes());
}

pub fn read_table(input: &mut Reader<'_>, depth: usize) -> Result<Table, Malformed> {
    let mut inner = Reader::new(input.long_text()?);
    let mut table = Table::new();
    while !inner.is_empty() {
        let key = String::from_utf8_lossy(inner.short_text()?).into_owned();
        table.push((key, Value::read(&mut inner, depth + 1)?));
    }
    Ok(table)
}

impl Value {
    pub fn write(&self, out: &mut Writer) {
        match self {
            Self::Text(text) => out.u8(b'S').long_text(text),
            Self::Bytes(bytes) => out.u8(b'x').long_text(bytes),
            Self::Integer(octet, value) => {
                let (width, _) = integer_type(*octet).expect("only known integer types are built");
                out.u8(*octet).raw(&value.to_be_bytes()[16 - width..])
            }
            Self::Float(b'f', value) => out.u8(b'f').raw(&(*value as f32).to_be_bytes()),
            Self::Float(octet, value) => out.u8(*octet).raw(&value.to_be_bytes()),
            Self::Decimal(scale, value) => out.u8(b'D').u8(*scale).u32(*value),
            Self::Bool(value) => out.u8(b't').u8(u8::from(*value)),
            Self::Table(table) => {
                write_table(table, out.u8(b'F'));
                out
            }
            Self::Array(items) => {
                let mut inner = Writer::default();
                items.iter().for_each(|item| item.write(&mut inner));
                out.u8(b'A').long_text(&inner.into_bytes())
            }
            Self::Void => out.u8(b'V'),
        };
    }

    pub fn read(input: &mut Reader<'_>, depth: usize) -> Result<Self, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed);
        }
        let octet = input.u8()?;
        if let Some((width, signed)) = integer_type(octet) {
            let raw = input.take(width)?;
            let fill = if signed && raw[0] & 0x80 != 0 { 0xff } else { 0 };
            let mut wide = [fill; 16];
            wide[16 - width..].copy_from_slice(raw);
            return Ok(Self::Integer(octet, i128::from_be_bytes(wide)));
        }
        Ok(match octet {
            b'S' => Self::Text(input.long_text()?.to_vec()),
            b'x' => Self::Bytes(input.long_text()?.to_vec()),
            b'f' => Self::Float(b'f', f64::from(f32::from_be_bytes(input.array()?))),
            b'd' => Self::Float(b'd', f64::from_be_bytes(input.array()?)),
            b'D' => Self::Decimal(input.u8()?, input.u32()?),
            b't' => Self::Bool(input.u8()? != 0),
            b'F' => Self::Table(read_table(input, depth)?),
            b'A' => Self::Array(read_array(input, depth)?),
            b'V' => Self::Void,
            _ => return Err(Malformed),
        })
    }
}

fn read_array(input: &mut Reader<'_>, depth: usize) -> Result<Vec<Value>, Malformed> {
    let mut inner = Reader::new(input.long_text()?);
    let mut items = Vec::new();
    while !inner.is_empty() {
        items.push(Value::read(&mut inner, depth + 1)?);
    }
    Ok(items)
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "S:{}", quoted(text)),
            Self::Bytes(bytes) => write!(f, "x:{}", quoted(bytes)),
            Self::Integer(octet, value) => write!(f, "{}:{value}", char::from(*octet)),
            Self::Float(octet, value) => write!(f, "{}:{value}", char::from(*octet)),
            Self::Decimal(scale, value) => write!(f, "D:{value}e-{scale}"),
            Self::Bool(value) => write!(f, "t:{}", u8::from(*value)),
            Self::Table(table) => write!(f, "F:{}", show_table(table)),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "A:[{}]", items.join(","))
            }
            Self::Void => f.write_str("V"),
        }
    }
}

pub fn show_table(table: &Table) -> String {
    let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{}={value}", quoted(key.as_bytes()))).collect();
    format!("{{{}}}", pairs.join(","))
}

/// A word as it is when it needs no quotes, else in quotes with escapes.
pub fn quoted(text: &[u8]) -> String {
    let plain = |c: &u8| c.is_ascii_graphic() && !b"\"\\{}[],".contains(c);
    if !text.is_empty() && text.iter().all(plain) {
        return String::from_utf8_lossy(text).into_owned();
    }
    let readable = match std::str::from_utf8(text) {
        Ok(text) => text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r"),
        Err(_) => text.escape_ascii().to_string(),
    };
    format!("\"{readable}\"")
}
