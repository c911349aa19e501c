//! Maps and lists of primitive values: properties of messages, offers, and bodies of map and stream messages
//! (`MarshallingSupport` in ActiveMQ).

use crate::{
    error::{Malformed, Unencodable},
    input::Input,
    lent::{Bytes, Text},
    structure::Owned,
    utf8,
};

/// How deep maps and lists may lie in each other.
pub const DEPTH_MAX: usize = 32;

/// Strings of so many units of UTF-16 have a length of four bytes, as ActiveMQ writes them; either is read for any.
const BIG_TEXT_LEN: usize = i16::MAX as usize / 4;

const TOO_DEEP: Malformed = Malformed::new("maps and lists lie too deep in each other");
const UNKNOWN: Malformed = Malformed::new("a value has no known type");

/// A value of a map, list or stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A byte.
    Byte(i8),
    /// A unit of UTF-16.
    Char(u16),
    /// Two bytes.
    Short(i16),
    /// Four bytes.
    Int(i32),
    /// Eight bytes.
    Long(i64),
    /// Eight bytes.
    Double(f64),
    /// Four bytes.
    Float(f32),
    /// A string.
    Text(Text<'a>),
    /// Bytes.
    Bytes(Bytes<'a>),
    /// A map, in the order in which it was sent.
    Map(Vec<(Text<'a>, Self)>),
    /// A list.
    List(Vec<Self>),
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const BOOL: u8 = 1;
    pub(super) const BYTE: u8 = 2;
    pub(super) const CHAR: u8 = 3;
    pub(super) const SHORT: u8 = 4;
    pub(super) const INT: u8 = 5;
    pub(super) const LONG: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const FLOAT: u8 = 8;
    pub(super) const TEXT: u8 = 9;
    pub(super) const BYTES: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const LIST: u8 = 12;
    pub(super) const BIG_TEXT: u8 = 13;
}

impl Owned for Value<'_> {
    type Owned = Value<'static>;

    fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Byte(value) => Value::Byte(value),
            Self::Char(value) => Value::Char(value),
            Self::Short(value) => Value::Short(value),
            Self::Int(value) => Value::Int(value),
            Self::Long(value) => Value::Long(value),
            Self::Double(value) => Value::Double(value),
            Self::Float(value) => Value::Float(value),
            Self::Text(value) => Value::Text(value.into_owned()),
            Self::Bytes(value) => Value::Bytes(value.into_owned()),
            Self::Map(map) => {
                Value::Map(map.into_iter().map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
            }
            Self::List(list) => Value::List(list.into_iter().map(Self::into_owned).collect()),
        }
    }
}

/// The entries of a map, read one by one. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    input: Input<'a>,
    left: usize,
}

/// Begins to read a map. What follows it is not looked at.
///
/// # Errors
/// If its count is more than the bytes could hold.
pub fn entries(bytes: &[u8]) -> Result<Entries<'_>, Malformed> {
    let mut input = Input::new(bytes);
    // No bytes at all, like a count below 0, are no map, which is as good as an empty one.
    let left = if bytes.is_empty() { 0 } else { count(&mut input, 3)? };
    Ok(Entries { input, left })
}

impl Entries<'_> {
    /// How many there are to come.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether there are none to come.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(Text<'a>, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let entry = entry(&mut self.input, DEPTH_MAX);
        if entry.is_err() {
            self.left = 0;
        }
        Some(entry)
    }
}

/// Whether a map has an entry whose name begins so. Values are passed over, not read.
pub fn has_name(bytes: &[u8], beginning: &[u8]) -> bool {
    let Ok(Entries { mut input, left }) = entries(bytes) else { return false };
    let mut names = (0..left).map_while(|_| {
        let name = name(&mut input).ok()?;
        pass(&mut input, DEPTH_MAX).ok()?;
        Some(name)
    });
    names.any(|name| name.starts_with(beginning))
}

/// Values one after the other, as the body of a stream message has them. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    input: Input<'a>,
}

/// Begins to read values.
pub fn values(bytes: &[u8]) -> Values<'_> {
    Values { input: Input::new(bytes) }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.rest().is_empty() {
            return None;
        }
        let value = value(&mut self.input, DEPTH_MAX);
        if value.is_err() {
            self.input = Input::new(&[]);
        }
        Some(value)
    }
}

/// A count of elements of which each takes so many bytes at least.
fn count(input: &mut Input<'_>, each: usize) -> Result<usize, Malformed> {
    let count = usize::try_from(input.i32()?).unwrap_or(0);
    if count > input.rest().len() / each {
        return Err(Malformed::new("a count is beyond the end"));
    }
    Ok(count)
}

fn name<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Malformed> {
    let len = input.u16()?;
    input.take(len.into())
}

fn entry<'a>(input: &mut Input<'a>, depth: usize) -> Result<(Text<'a>, Value<'a>), Malformed> {
    let key = utf8::decode(name(input)?)?;
    Ok((key, value(input, depth)?))
}

/// Passes over a value.
fn pass(input: &mut Input<'_>, depth: usize) -> Result<(), Malformed> {
    let len = match input.u8()? {
        tag::NULL => 0,
        tag::BOOL | tag::BYTE => 1,
        tag::CHAR | tag::SHORT => 2,
        tag::INT | tag::FLOAT => 4,
        tag::LONG | tag::DOUBLE => 8,
        tag::TEXT => input.u16()?.into(),
        tag::BIG_TEXT | tag::BYTES => input.len()?,
        tag @ (tag::MAP | tag::LIST) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            let has_names = tag == tag::MAP;
            for _ in 0..count(input, if has_names { 3 } else { 1 })? {
                if has_names {
                    name(input)?;
                }
                pass(input, depth)?;
            }
            0
        }
        _ => return Err(UNKNOWN),
    };
    input.take(len).map(|_| ())
}

fn value<'a>(input: &mut Input<'a>, depth: usize) -> Result<Value<'a>, Malformed> {
    Ok(match input.u8()? {
        tag::NULL => Value::Null,
        tag::BOOL => Value::Bool(input.u8()? != 0),
        tag::BYTE => Value::Byte(input.u8()? as i8),
        tag::CHAR => Value::Char(input.u16()?),
        tag::SHORT => Value::Short(input.i16()?),
        tag::INT => Value::Int(input.i32()?),
        tag::LONG => Value::Long(input.i64()?),
        tag::DOUBLE => Value::Double(f64::from_be_bytes(input.array()?)),
        tag::FLOAT => Value::Float(f32::from_be_bytes(input.array()?)),
        tag::TEXT => {
            let len = input.u16()?;
            Value::Text(utf8::decode(input.take(len.into())?)?)
        }
        tag::BIG_TEXT => {
            let len = input.len()?;
            Value::Text(utf8::decode(input.take(len)?)?)
        }
        tag::BYTES => {
            let len = input.len()?;
            Value::Bytes(input.take(len)?.into())
        }
        tag @ (tag::MAP | tag::LIST) => {
            let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
            if tag == tag::MAP {
                let count = count(input, 3)?;
                Value::Map((0..count).map(|_| entry(input, depth)).collect::<Result<_, _>>()?)
            } else {
                let count = count(input, 1)?;
                Value::List((0..count).map(|_| value(input, depth)).collect::<Result<_, _>>()?)
            }
        }
        _ => return Err(UNKNOWN),
    })
}

/// Appends a map.
///
/// # Errors
/// If a key is longer than 65535 bytes, or something longer than 2 GiB. Then part of the map is appended.
pub fn put_map(out: &mut Vec<u8>, map: &[(Text<'_>, Value<'_>)]) -> Result<(), Unencodable> {
    put_len(out, map.len())?;
    for (key, value) in map {
        put_text(out, key)?;
        put_value(out, value)?;
    }
    Ok(())
}

/// Appends a value with its type.
///
/// # Errors
/// As [`put_map`].
pub fn put_value(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Unencodable> {
    let mut put = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Null => put(tag::NULL, &[]),
        Value::Bool(value) => put(tag::BOOL, &[(*value).into()]),
        Value::Byte(value) => put(tag::BYTE, &value.to_be_bytes()),
        Value::Char(value) => put(tag::CHAR, &value.to_be_bytes()),
        Value::Short(value) => put(tag::SHORT, &value.to_be_bytes()),
        Value::Int(value) => put(tag::INT, &value.to_be_bytes()),
        Value::Long(value) => put(tag::LONG, &value.to_be_bytes()),
        Value::Double(value) => put(tag::DOUBLE, &value.to_be_bytes()),
        Value::Float(value) => put(tag::FLOAT, &value.to_be_bytes()),
        Value::Text(text) if text.len() < BIG_TEXT_LEN || text.encode_utf16().count() < BIG_TEXT_LEN => {
            put(tag::TEXT, &[]);
            put_text(out, text)?;
        }
        Value::Text(text) => {
            put(tag::BIG_TEXT, &[]);
            put_long_text(out, text)?;
        }
        Value::Bytes(bytes) => {
            put(tag::BYTES, &[]);
            put_len(out, bytes.len())?;
            out.extend_from_slice(bytes);
        }
        Value::Map(map) => {
            put(tag::MAP, &[]);
            put_map(out, map)?;
        }
        Value::List(list) => {
            put(tag::LIST, &[]);
            put_len(out, list.len())?;
            list.iter().try_for_each(|value| put_value(out, value))?;
        }
    }
    Ok(())
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<(), Unencodable> {
    let len = i32::try_from(len).map_err(|_| Unencodable { problem: "a value is longer than its length can tell" })?;
    out.extend_from_slice(&len.to_be_bytes());
    Ok(())
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), Unencodable> {
    let form = utf8::form(text);
    let len = u16::try_from(utf8::len(text, form))
        .map_err(|_| Unencodable { problem: "a string is longer than its length can tell" })?;
    out.extend_from_slice(&len.to_be_bytes());
    utf8::put(out, text, form);
    Ok(())
}

/// Appends a string with a length of four bytes.
///
/// # Errors
/// If it is longer than 2 GiB.
pub(crate) fn put_long_text(out: &mut Vec<u8>, text: &str) -> Result<(), Unencodable> {
    let form = utf8::form(text);
    put_len(out, utf8::len(text, form))?;
    utf8::put(out, text, form);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::Byte),
            any::<u16>().prop_map(Value::Char),
            any::<i16>().prop_map(Value::Short),
            any::<i32>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Long),
            any::<f32>().prop_map(Value::Float),
            any::<f64>().prop_map(Value::Double),
            any::<String>().prop_map(|text| Value::Text(text.into())),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
            (8180..8200usize).prop_map(|len| Value::Text("x".repeat(len).into())),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let key = any::<String>().prop_map(Text::from);
            prop_oneof![
                prop::collection::vec((key, inner.clone()), 0..6).prop_map(Value::Map),
                prop::collection::vec(inner, 0..6).prop_map(Value::List),
            ]
        })
    }

    fn read_map(bytes: &[u8]) -> Result<Vec<(Text<'_>, Value<'_>)>, Malformed> {
        entries(bytes)?.collect()
    }

    #[test]
    fn values_have_their_tags() {
        let bytes = |value: Value<'_>| {
            let mut out = Vec::new();
            put_value(&mut out, &value).unwrap();
            out
        };
        assert_eq!(bytes(Value::Char(0x41)), [3, 0, 0x41]);
        assert_eq!(bytes(Value::Double(1.0)), [7, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(Value::Float(1.0)), [8, 0x3f, 0x80, 0, 0]);
        assert_eq!(bytes(Value::Text("v".into())), [9, 0, 1, b'v']);
        assert_eq!(bytes(Value::Bytes(b"v"[..].into())), [10, 0, 0, 0, 1, b'v']);
        assert_eq!(bytes(Value::List(vec![Value::Byte(-1)])), [12, 0, 0, 0, 1, 2, 0xff]);
        // ActiveMQ takes the long form from 8191 characters on, of which each may be two bytes.
        let lens = [8190, 8191].map(|len| bytes(Value::Text("\u{e9}".repeat(len).into())).len());
        assert_eq!(lens, [3 + 2 * 8190, 5 + 2 * 8191]);
    }

    #[test]
    fn no_map_is_an_empty_one() {
        for bytes in [&[][..], &[0xff; 4], &[0; 4]] {
            assert_eq!(read_map(bytes), Ok(vec![]));
        }
    }

    #[test]
    fn counts_and_depth_are_bounded() {
        assert!(entries(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0]).is_err());
        assert!(values(&[12, 0x7f, 0xff, 0xff, 0xff, 0]).next().is_some_and(|value| value.is_err()));
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        for (depth, is_good) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            let mut out = Vec::new();
            put_value(&mut out, &nested(depth)).unwrap();
            assert_eq!(values(&out).next().unwrap().is_ok(), is_good);
        }
        // After an error there is nothing more.
        let mut broken = values(&[14, 0]);
        assert!(broken.next().unwrap().is_err());
        assert_eq!(broken.next(), None);
    }

    #[test]
    fn names_are_found_by_their_beginning() {
        let list = Value::List(vec![Value::Map(vec![("AMQ_inner".into(), Value::Int(1))])]);
        let map = [("first".into(), list), ("text".into(), Value::Text("AMQ_".into())), ("AMQ_x".into(), Value::Null)];
        let mut bytes = Vec::new();
        put_map(&mut bytes, &map[..2]).unwrap();
        assert!(!has_name(&bytes, b"AMQ_") && has_name(&bytes, b"te"));
        bytes.clear();
        put_map(&mut bytes, &map).unwrap();
        assert!(has_name(&bytes, b"AMQ_") && !has_name(&bytes, b"MQ_"));
        // What is cut off before a name has no such name.
        bytes.truncate(bytes.len() - 2);
        assert!(!has_name(&bytes, b"AMQ_"));
    }

    #[test]
    fn a_key_that_is_too_long_is_not_written() {
        assert!(put_map(&mut Vec::new(), &[("x".repeat(65_536).into(), Value::Null)]).is_err());
    }

    proptest! {
        #[test]
        fn maps_and_streams_come_back(list in prop::collection::vec(any_value(), 0..6)) {
            let map: Vec<_> = list.iter().map(|value| ("key".into(), value.clone())).collect();
            let (mut bytes, mut stream) = (Vec::new(), Vec::new());
            put_map(&mut bytes, &map).unwrap();
            list.iter().for_each(|value| put_value(&mut stream, value).unwrap());
            prop_assert_eq!(read_map(&bytes), Ok(map));
            prop_assert_eq!(has_name(&bytes, b"ke"), !list.is_empty());
            let mut passed = Input::new(&stream);
            (0..list.len()).for_each(|_| pass(&mut passed, DEPTH_MAX).unwrap());
            prop_assert!(passed.rest().is_empty());
            prop_assert_eq!(values(&stream).collect::<Result<Vec<_>, _>>(), Ok(list));
            for len in (4..bytes.len()).step_by(1 + bytes.len() / 100) {
                let _ = read_map(&bytes[..len]);
            }
        }

        #[test]
        fn any_bytes_are_values_or_refused(bytes in prop::collection::vec(0..20u8, 0..100)) {
            let read: Vec<_> = values(&bytes).collect();
            prop_assert!(read.len() <= bytes.len());
            let _ = read_map(&bytes);
        }
    }
}
