//! Values of properties, and of maps.

use std::fmt;

use crate::raw::{Malformed, Reader, Writer, quoted};

/// A value with its type.
#[derive(Clone, Debug, PartialEq)]
pub enum Primitive {
    Null,
    Bool(bool),
    Byte(i8),
    Char(u16),
    Short(i16),
    Int(i32),
    Long(i64),
    Double(f64),
    Float(f32),
    Text(String),
    Bytes(Vec<u8>),
    Map(Vec<(String, Self)>),
    List(Vec<Self>),
}

pub(super) fn write_map(map: &[(String, Primitive)], out: &mut Writer) {
    out.u32(map.len() as u32);
    for (name, value) in map {
        out.u16(name.len() as u16).raw(name.as_bytes());
        value.write(out);
    }
}

pub(super) fn read_map(input: &mut Reader<'_>) -> Result<Vec<(String, Primitive)>, Malformed> {
    (0..input.u32()?).map(|_| Ok((text(input)?, Primitive::read(input)?))).collect()
}

/// A text with its length before it.
pub(super) fn text(input: &mut Reader<'_>) -> Result<String, Malformed> {
    let length = input.u16()?;
    String::from_utf8(input.take(length.into())?.to_vec()).map_err(|_| Malformed)
}

impl Primitive {
    pub(super) fn write(&self, out: &mut Writer) {
        match self {
            Self::Null => out.u8(0),
            Self::Bool(value) => out.u8(1).u8(u8::from(*value)),
            Self::Byte(value) => out.u8(2).u8(*value as u8),
            Self::Char(value) => out.u8(3).u16(*value),
            Self::Short(value) => out.u8(4).u16(*value as u16),
            Self::Int(value) => out.u8(5).u32(*value as u32),
            Self::Long(value) => out.u8(6).u64(*value as u64),
            Self::Double(value) => out.u8(7).u64(value.to_bits()),
            Self::Float(value) => out.u8(8).u32(value.to_bits()),
            Self::Text(value) => out.u8(9).u16(value.len() as u16).raw(value.as_bytes()),
            Self::Bytes(value) => out.u8(10).u32(value.len() as u32).raw(value),
            Self::Map(value) => {
                write_map(value, out.u8(11));
                out
            }
            Self::List(value) => {
                out.u8(12).u32(value.len() as u32);
                value.iter().for_each(|value| value.write(out));
                out
            }
        };
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Self::Null,
            1 => Self::Bool(input.u8()? != 0),
            2 => Self::Byte(input.u8()? as i8),
            3 => Self::Char(input.u16()?),
            4 => Self::Short(input.u16()? as i16),
            5 => Self::Int(input.u32()? as i32),
            6 => Self::Long(input.u64()? as i64),
            7 => Self::Double(f64::from_bits(input.u64()?)),
            8 => Self::Float(f32::from_bits(input.u32()?)),
            9 => Self::Text(text(input)?),
            10 => {
                let length = input.u32()?;
                Self::Bytes(input.take(length as usize)?.to_vec())
            }
            11 => Self::Map(read_map(input)?),
            12 => Self::List((0..input.u32()?).map(|_| Self::read(input)).collect::<Result<_, _>>()?),
            13 => {
                let length = input.u32()?;
                Self::Text(String::from_utf8(input.take(length as usize)?.to_vec()).map_err(|_| Malformed)?)
            }
            _ => return Err(Malformed),
        })
    }
}

/// The value behind its type.
impl fmt::Display for Primitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "boolean {value}"),
            Self::Byte(value) => write!(f, "byte {value}"),
            Self::Char(value) => write!(f, "char {value}"),
            Self::Short(value) => write!(f, "short {value}"),
            Self::Int(value) => write!(f, "int {value}"),
            Self::Long(value) => write!(f, "long {value}"),
            Self::Double(value) => write!(f, "double {value}"),
            Self::Float(value) => write!(f, "float {value}"),
            Self::Text(value) => write!(f, "String {}", quoted(value.as_bytes())),
            Self::Bytes(value) => write!(f, "byte[] {}", quoted(value)),
            Self::Map(map) => {
                let pairs: Vec<_> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "Map {{{}}}", pairs.join(", "))
            }
            Self::List(list) => {
                let values: Vec<_> = list.iter().map(Self::to_string).collect();
                write!(f, "List [{}]", values.join(", "))
            }
        }
    }
}
