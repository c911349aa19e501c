//! Writes the fields of a frame, in one pass for both encodings: the bits of the tight one are gathered beside the rest.

use crate::{
    cache::{Cached, Sent},
    structure::{Structure, has_spare_bit},
    utf8::{self, Form},
};

/// Bits in the order in which they are written, the lowest of each byte first.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    full: Vec<u8>,
    last: u64,
    last_len: u32,
}

impl Bits {
    #[inline]
    fn push(&mut self, bit: bool) {
        self.last |= u64::from(bit) << self.last_len;
        self.last_len += 1;
        if self.last_len == 64 {
            self.spill();
        }
    }

    #[cold]
    fn spill(&mut self) {
        self.full.extend_from_slice(&self.last.to_le_bytes());
        (self.last, self.last_len) = (0, 0);
    }

    pub(crate) fn clear(&mut self) {
        self.full.clear();
        (self.last, self.last_len) = (0, 0);
    }

    fn bytes_len(&self) -> usize {
        self.full.len() + self.last_len.div_ceil(8) as usize
    }

    /// Bytes that the stream takes with its length.
    pub(crate) fn stream_len(&self) -> usize {
        let len = self.bytes_len();
        len + 1 + usize::from(len >= 64) + usize::from(len >= 256)
    }

    /// Writes the stream over `out`, which is as long as it is; longer streams than can be told are refused.
    pub(crate) fn write(&self, out: &mut [u8]) -> Option<()> {
        let len = self.bytes_len();
        let head = match len {
            0..64 => &[len as u8][..],
            64..256 => &[0xc0, len as u8],
            _ => &{
                let [high, low] = i16::try_from(len).ok()?.to_be_bytes();
                [0x80, high, low]
            },
        };
        let (front, rest) = out.split_at_mut_checked(head.len())?;
        front.copy_from_slice(head);
        let (full, last) = rest.split_at_mut_checked(self.full.len())?;
        full.copy_from_slice(&self.full);
        last.copy_from_slice(self.last.to_le_bytes().get(..last.len())?);
        Some(())
    }
}

/// A frame that is being written. What has no form is left out and remembered as a problem.
pub struct Writer<'o, const TIGHT: bool> {
    /// The output, which is here as long as the writer is; so are the bits.
    pub(crate) out: Vec<u8>,
    bits: Bits,
    pub(crate) version: i32,
    pub(crate) has_stack_traces: bool,
    cache: Option<&'o mut Sent>,
    problem: Option<&'static str>,
}

impl<'o, const TIGHT: bool> Writer<'o, TIGHT> {
    /// To the end of `out`, from what follows the place for the bits on.
    pub(crate) fn new(
        out: Vec<u8>,
        bits: Bits,
        version: i32,
        has_stack_traces: bool,
        cache: Option<&'o mut Sent>,
    ) -> Self {
        Self { out, bits, version, has_stack_traces, cache, problem: None }
    }

    /// The output, the bits, and what could not be written.
    pub(crate) fn end(self) -> (Vec<u8>, Bits, Option<&'static str>) {
        (self.out, self.bits, self.problem)
    }

    #[cold]
    pub(crate) fn refuse(&mut self, problem: &'static str) {
        self.problem = self.problem.or(Some(problem));
    }

    #[inline]
    pub(crate) fn flag(&mut self, flag: bool) {
        if TIGHT { self.bits.push(flag) } else { self.out.push(flag.into()) }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn long(&mut self, value: i64) {
        if !TIGHT {
            return self.bytes(&value.to_be_bytes());
        }
        let (first, second, len) = match value {
            0 => (false, false, 0),
            1..0x1_0000 => (false, true, 2),
            0x1_0000..0x1_0000_0000 => (true, false, 4),
            _ => (true, true, 8),
        };
        self.flag(first);
        self.flag(second);
        let all = value.to_be_bytes();
        match len {
            0 => {}
            2 => self.bytes(&all[6..]),
            4 => self.bytes(&all[4..]),
            _ => self.bytes(&all),
        }
    }

    #[inline]
    pub(crate) fn text(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        if let Some(text) = text {
            self.string(text);
        }
    }

    fn string(&mut self, text: &str) {
        let form = utf8::form(text);
        let len = utf8::len(text, form);
        if TIGHT {
            self.flag(form == Form::Ascii);
        }
        // Java refuses to write more in the tight encoding, and reads the length of ASCII as a signed number.
        let max = if TIGHT { i16::MAX as usize - 1 } else { u16::MAX.into() };
        if len > max {
            return self.refuse("a string is longer than its length can tell");
        }
        self.bytes(&(len as u16).to_be_bytes());
        utf8::put(&mut self.out, text, form);
    }

    /// A length of four bytes, and bytes.
    pub(crate) fn block(&mut self, bytes: &[u8]) {
        match i32::try_from(bytes.len()) {
            Ok(len) => {
                self.bytes(&len.to_be_bytes());
                self.bytes(bytes);
            }
            Err(_) => self.refuse("a byte array is longer than its length can tell"),
        }
    }

    #[inline]
    pub(crate) fn nested<'a, S: Structure<'a>>(&mut self, structure: Option<&S>) {
        self.flag(structure.is_some());
        if let Some(structure) = structure {
            self.structure(structure);
        }
    }

    fn structure<'a, S: Structure<'a>>(&mut self, structure: &S) {
        let code = structure.code();
        if TIGHT && has_spare_bit(code) {
            self.flag(false);
        }
        self.out.push(code);
        structure.write(self);
    }

    #[inline]
    pub(crate) fn cached<'a, S: Cached<'a>>(&mut self, structure: Option<&S>) {
        if self.cache.is_some() { self.remembered(structure) } else { self.nested(structure) }
    }

    fn remembered<'a, S: Cached<'a>>(&mut self, structure: Option<&S>) {
        let Some(cache) = &mut self.cache else { return };
        let (index, is_new) = cache.find(structure);
        self.flag(is_new);
        self.bytes(&index.to_be_bytes());
        if is_new {
            self.nested(structure);
        }
    }

    /// A count of two bytes, and each element.
    pub(crate) fn list<T>(&mut self, list: &[T], write: impl Fn(&mut Self, &T)) {
        match i16::try_from(list.len()) {
            Ok(count) => {
                self.bytes(&count.to_be_bytes());
                list.iter().for_each(|each| write(self, each));
            }
            Err(_) => self.refuse("an array has more elements than its count can tell"),
        }
    }
}
