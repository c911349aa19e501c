//! Frames and field values (specification section 4.2), with RabbitMQ's type letters.

use broker::{
    limits,
    record::{self, Unreadable},
    value::{Name, Table, Value},
};

/// Bytes of a frame besides its payload: type, channel, length, end marker.
pub const FRAME_OVERHEAD: usize = 8;

/// The byte that ends every frame.
pub const FRAME_END: u8 = 206;

/// Bytes by which RabbitMQ lets a frame exceed the negotiated maximum.
const FRAME_SLACK: usize = FRAME_OVERHEAD;

/// Frame types.
pub mod frame_type {
    /// A method.
    pub const METHOD: u8 = 1;
    /// A content header.
    pub const HEADER: u8 = 2;
    /// A part of a body.
    pub const BODY: u8 = 3;
    /// A heartbeat.
    pub const HEARTBEAT: u8 = 8;
}

/// A frame in a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its type.
    pub kind: u8,
    /// Its channel.
    pub channel: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes that the frame takes.
    pub fn len(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }

    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }
}

/// A frame that breaks the rules of framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// Longer than was negotiated.
    TooLarge {
        /// Its type.
        kind: u8,
        /// Its payload's length.
        len: usize,
        /// The longest allowed.
        max: usize,
    },
    /// The last byte is not the end marker.
    BadEnd {
        /// Its type.
        kind: u8,
        /// The byte in its place.
        found: u8,
    },
}

/// The frame at the start of `input`; `None` if it is not all there yet. `frame_max` counts the whole frame.
///
/// # Errors
/// If the frame is too large, which is known as soon as its length is, or does not end as it must.
pub fn frame(input: &[u8], frame_max: usize) -> Result<Option<Frame<'_>>, BadFrame> {
    let Some((&[kind, c0, c1, l0, l1, l2, l3], rest)) = input.split_first_chunk::<7>() else { return Ok(None) };
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let max = frame_max - FRAME_OVERHEAD;
    if len > max + FRAME_SLACK {
        return Err(BadFrame::TooLarge { kind, len, max });
    }
    let (Some(payload), Some(&end)) = (rest.get(..len), rest.get(len)) else { return Ok(None) };
    if end != FRAME_END {
        return Err(BadFrame::BadEnd { kind, found: end });
    }
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([c0, c1]), payload }))
}

/// The payload of the frame at the start of `input`, or as much of it as is there, whatever is wrong with the frame.
pub fn payload(input: &[u8]) -> &[u8] {
    let Some((&[_, _, _, l0, l1, l2, l3], rest)) = input.split_first_chunk::<7>() else { return &[] };
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    &rest[..len.min(rest.len())]
}

/// Appends a frame whose payload `write` appends.
pub fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&len.to_be_bytes());
    out.push(FRAME_END);
}

/// Something that is not as the specification's grammar has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Bytes that should be text.
pub const NOT_UTF8: Malformed = Malformed("Malformed UTF-8 in shortstr");

/// Reads fields from a payload.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed("a field ends beyond its frame"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed("a field ends beyond its frame"))?;
        self.0 = rest;
        Ok(*head)
    }

    /// An octet.
    pub fn octet(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    /// Two octets.
    pub fn short(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets.
    pub fn long(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight octets.
    pub fn longlong(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Up to 255 bytes of UTF-8.
    pub fn shortstr(&mut self) -> Result<&'a str, Malformed> {
        let len = self.octet()?;
        std::str::from_utf8(self.take(len.into())?).map_err(|_| NOT_UTF8)
    }

    /// Up to 4 GiB of bytes.
    pub fn longstr(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.long()?;
        self.take(len as usize)
    }

    /// A field table.
    pub fn table(&mut self) -> Result<Table, Malformed> {
        self.nested_table(limits::TABLE_DEPTH)
    }

    fn nested_table(&mut self, depth: usize) -> Result<Table, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed("tables are nested too deep"))?;
        let mut fields = Reader(self.longstr()?);
        let mut table = Table::default();
        while !fields.0.is_empty() {
            let name = Name::from(fields.shortstr()?);
            table.0.push((name, fields.value(depth)?));
        }
        Ok(table)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Malformed> {
        Ok(match self.octet()? {
            b't' => Value::Bool(self.octet()? != 0),
            b'b' => Value::I8(self.octet()? as i8),
            b'B' => Value::U8(self.octet()?),
            b's' => Value::I16(self.short()? as i16),
            b'u' => Value::U16(self.short()?),
            b'I' => Value::I32(self.long()? as i32),
            b'i' => Value::U32(self.long()?),
            b'l' | b'L' => Value::I64(self.longlong()? as i64),
            b'f' => Value::F32(f32::from_bits(self.long()?)),
            b'd' => Value::F64(f64::from_bits(self.longlong()?)),
            b'D' => Value::Decimal(self.octet()?, self.long()? as i32),
            b'S' => Value::Text(self.longstr()?.to_vec()),
            b'x' => Value::Bytes(self.longstr()?.to_vec()),
            b'T' => Value::Timestamp(self.longlong()?),
            b'V' => Value::Void,
            b'F' => Value::Table(self.nested_table(depth)?),
            b'A' => Value::Array(self.list(depth)?),
            _ => return Err(Malformed("a field has an unknown type")),
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed("arrays are nested too deep"))?;
        let mut values = Reader(self.longstr()?);
        let mut list = Vec::new();
        while !values.0.is_empty() {
            list.push(values.value(depth)?);
        }
        Ok(list)
    }
}

/// Appends up to 255 bytes of text. Longer text is cut at a character's boundary; callers check before where it matters.
pub fn put_shortstr(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Appends bytes with a length of four octets.
pub fn put_longstr(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends a field table.
pub fn put_table(out: &mut Vec<u8>, table: &Table) {
    put_counted(out, |out| {
        for (name, value) in &table.0 {
            put_shortstr(out, name);
            put_value(out, value);
        }
    });
}

/// Appends the entries that clients are to see of a table in the broker's own form, as [`broker::record::put_table`] writes
/// it: from one form into the other, without the values in between.
///
/// # Errors
/// If it is no such table.
pub fn put_annotations(out: &mut Vec<u8>, annotations: &[u8]) -> Result<(), Unreadable> {
    let mut reader = record::Reader::new(annotations);
    let count = reader.u32()?;
    try_put_counted(out, |out| {
        for _ in 0..count {
            let (name, start) = (reader.text()?, out.len());
            put_shortstr(out, name);
            put_stored_value(out, &mut reader)?;
            if !name.starts_with("x-") {
                out.truncate(start);
            }
        }
        Ok(())
    })
}

/// The letters of the types, in the order of the broker's numbers for them, and how long their values are.
const STORED_TYPES: [(u8, usize); 17] = [
    (b'V', 0),
    (b't', 1),
    (b'b', 1),
    (b'B', 1),
    (b's', 2),
    (b'u', 2),
    (b'I', 4),
    (b'i', 4),
    (b'l', 8),
    (b'f', 4),
    (b'd', 8),
    (b'D', 5),
    (b'S', 0),
    (b'x', 0),
    (b'T', 8),
    (b'A', 0),
    (b'F', 0),
];

fn put_stored_value(out: &mut Vec<u8>, reader: &mut record::Reader<'_>) -> Result<(), Unreadable> {
    let kind = reader.u8()?;
    let unknown = Unreadable("a value has an unknown type");
    let (letter, len) = *STORED_TYPES.get(kind as usize).ok_or(unknown)?;
    out.push(letter);
    match letter {
        b'S' | b'x' => {
            let len = reader.u32()?;
            put_longstr(out, reader.take(len as usize)?);
        }
        b'A' | b'F' => {
            let count = reader.u32()?;
            try_put_counted(out, |out| {
                for _ in 0..count {
                    if letter == b'F' {
                        put_shortstr(out, reader.text()?);
                    }
                    put_stored_value(out, reader)?;
                }
                Ok(())
            })?;
        }
        _ => out.extend_from_slice(reader.take(len)?),
    }
    Ok(())
}

fn try_put_counted(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut result = Ok(());
    put_counted(out, |out| result = write(out));
    result
}

fn put_counted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |letter: u8, bytes: &[u8]| {
        out.push(letter);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Void => put(b'V', &[]),
        Value::Bool(v) => put(b't', &[(*v).into()]),
        Value::I8(v) => put(b'b', &v.to_be_bytes()),
        Value::U8(v) => put(b'B', &[*v]),
        Value::I16(v) => put(b's', &v.to_be_bytes()),
        Value::U16(v) => put(b'u', &v.to_be_bytes()),
        Value::I32(v) => put(b'I', &v.to_be_bytes()),
        Value::U32(v) => put(b'i', &v.to_be_bytes()),
        Value::I64(v) => put(b'l', &v.to_be_bytes()),
        Value::F32(v) => put(b'f', &v.to_bits().to_be_bytes()),
        Value::F64(v) => put(b'd', &v.to_bits().to_be_bytes()),
        Value::Decimal(scale, v) => {
            put(b'D', &[*scale]);
            out.extend_from_slice(&v.to_be_bytes());
        }
        Value::Text(v) => {
            put(b'S', &[]);
            put_longstr(out, v);
        }
        Value::Bytes(v) => {
            put(b'x', &[]);
            put_longstr(out, v);
        }
        Value::Timestamp(v) => put(b'T', &v.to_be_bytes()),
        Value::Table(table) => {
            put(b'F', &[]);
            put_table(out, table);
        }
        Value::Array(values) => {
            put(b'A', &[]);
            put_counted(out, |out| values.iter().for_each(|value| put_value(out, value)));
        }
    }
}

/// Bytes as Erlang prints a binary, for error texts that clients compare: `<<1,2,3>>` or `<<"text">>`.
pub fn erlang_binary(bytes: &[u8]) -> String {
    if !bytes.is_empty() && bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return format!("<<\"{}\">>", String::from_utf8_lossy(bytes));
    }
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Void),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            (-1e30f32..1e30).prop_map(Value::F32),
            (-1e300f64..1e300).prop_map(Value::F64),
            (any::<u8>(), any::<i32>()).prop_map(|(scale, v)| Value::Decimal(scale, v)),
            any::<Vec<u8>>().prop_map(Value::Text),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            any::<u64>().prop_map(Value::Timestamp),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec(("[a-z]{0,8}", inner), 0..6).prop_map(|fields| Value::Table(Table(
                    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
                ))),
            ]
        })
    }

    proptest! {
        #[test]
        fn tables_read_back(fields in prop::collection::vec(("[a-z]{0,8}", value()), 0..8)) {
            let table = Table(fields.into_iter().map(|(name, value)| (Name::from(name), value)).collect());
            let mut bytes = Vec::new();
            put_table(&mut bytes, &table);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.table(), Ok(table));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Reader::new(&bytes).table();
            let _ = frame(&bytes, 4096);
        }
    }

    #[test]
    fn tables_nested_too_deep_are_refused() {
        let mut bytes = vec![0, 0, 0, 0];
        for _ in 0..10_000 {
            let mut outer = Vec::new();
            put_counted(&mut outer, |out| {
                out.extend_from_slice(b"\x01aF");
                out.extend_from_slice(&bytes);
            });
            bytes = outer;
        }
        assert_eq!(Reader::new(&bytes).table(), Err(Malformed("tables are nested too deep")));
    }

    #[test]
    fn frames_are_found_whole_or_not_at_all() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, frame_type::BODY, 7, |out| out.extend_from_slice(b"hello"));
        for len in 0..bytes.len() {
            assert_eq!(frame(&bytes[..len], 4096), Ok(None));
        }
        let whole = frame(&bytes, 4096).unwrap().unwrap();
        assert_eq!((whole.kind, whole.channel, whole.payload, whole.len()), (3, 7, &b"hello"[..], 13));
        *bytes.last_mut().unwrap() = 0;
        assert_eq!(frame(&bytes, 4096), Err(BadFrame::BadEnd { kind: 3, found: 0 }));
        let large = [3, 0, 1, 0, 0, 16, 1];
        assert_eq!(frame(&large, 4096), Err(BadFrame::TooLarge { kind: 3, len: 4097, max: 4088 }));
    }
}
