//! Reads the fields of a frame. Loose and tight encoding have the same fields in the same order; in the tight one, flags and
//! the sizes of numbers stand in a stream of bits before the rest, so that both are read in one pass.

use crate::{
    cache::{Cached, Received},
    error::Malformed,
    input::Input,
    lent::Text,
    structure::{Structure, has_spare_bit},
    utf8,
};

/// How deep structures may lie in each other. Java's clients do not go beyond six.
const DEPTH_MAX: u32 = 32;

/// Structures and calls of stack traces that one frame may have. Each takes up to 700 bytes of memory and may come in five, so
/// that a frame as long as bodies may be could take all there is. The largest that brokers send have a few thousand.
const PARTS_MAX: u32 = 1 << 16;

/// A frame that is being read.
pub struct Reader<'a, 'c, const TIGHT: bool> {
    pub(crate) input: Input<'a>,
    bits: &'a [u8],
    /// Bits to be read next, with a one above the last of them. It is never 0.
    word: u64,
    depth: u32,
    parts: u32,
    pub(crate) version: i32,
    pub(crate) has_stack_traces: bool,
    cache: Option<&'c mut Received>,
}

impl<'a, 'c, const TIGHT: bool> Reader<'a, 'c, TIGHT> {
    /// Of what follows the frame's type code. References to a cache are read if there is one.
    pub(crate) fn new(input: Input<'a>, version: i32, has_stack_traces: bool, cache: Option<&'c mut Received>) -> Self {
        Self { input, bits: &[], word: 1, depth: 0, parts: 0, version, has_stack_traces, cache }
    }

    /// Reads the structure of a frame.
    pub(crate) fn root<S: Structure<'a>>(&mut self, code: u8) -> Result<S, Malformed> {
        if TIGHT {
            let len = match self.input.u8()? {
                0xc0 => self.input.u8()?.into(),
                0x80 => self.input.count()?,
                len => len.into(),
            };
            self.bits = self.input.take(len)?;
        }
        S::read(code, self)
    }

    /// A boolean.
    #[inline]
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        if !TIGHT {
            return Ok(self.input.u8()? != 0);
        }
        if self.word == 1 {
            self.next_word()?;
        }
        let bit = self.word & 1 != 0;
        self.word >>= 1;
        Ok(bit)
    }

    #[cold]
    fn next_word(&mut self) -> Result<(), Malformed> {
        // Seven bytes at a time leave room for the one above.
        let (next, rest) = self.bits.split_at(self.bits.len().min(7));
        if next.is_empty() {
            return Err(Malformed::new("the stream of booleans is too short"));
        }
        self.bits = rest;
        self.word = next.iter().rev().fold(1, |word, byte| word << 8 | u64::from(*byte));
        Ok(())
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, Malformed> {
        if !TIGHT {
            return self.input.i64();
        }
        match (self.flag()?, self.flag()?) {
            (false, false) => Ok(0),
            (false, true) => self.input.u16().map(i64::from),
            (true, false) => self.input.u32().map(i64::from),
            (true, true) => self.input.i64(),
        }
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        if self.flag()? { self.string().map(Some) } else { Ok(None) }
    }

    fn string(&mut self) -> Result<Text<'a>, Malformed> {
        if TIGHT && self.flag()? {
            let len = self.input.count()?;
            return Ok(utf8::decode_ascii(self.input.take(len)?));
        }
        let len = self.input.u16()?;
        utf8::decode(self.input.take(len.into())?)
    }

    pub(crate) fn nested<S: Structure<'a>>(&mut self) -> Result<Option<S>, Malformed> {
        if self.flag()? { self.structure().map(Some) } else { Ok(None) }
    }

    fn structure<S: Structure<'a>>(&mut self) -> Result<S, Malformed> {
        let code = self.input.u8()?;
        if TIGHT && has_spare_bit(code) && self.flag()? {
            return Err(Malformed::new("a structure says that it is marshalled already"));
        }
        if !S::CODES.contains(&code) {
            return Err(Malformed::new("a structure has a type that does not belong there"));
        }
        self.deeper(|reader| S::read(code, reader))
    }

    /// Counts a part of the frame.
    pub(crate) fn part(&mut self) -> Result<(), Malformed> {
        self.parts += 1;
        if self.parts > PARTS_MAX { Err(Malformed::new("a frame has too many parts")) } else { Ok(()) }
    }

    /// What a closure reads, one level deeper.
    pub(crate) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<T, Malformed> {
        if self.depth >= DEPTH_MAX {
            return Err(Malformed::new("structures lie too deep in each other"));
        }
        self.part()?;
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    pub(crate) fn cached<S: Cached<'a>>(&mut self) -> Result<Option<S>, Malformed> {
        if self.cache.is_none() {
            return self.nested();
        }
        let is_new = self.flag()?;
        let index = self.input.i16()?;
        let value = if is_new { self.nested::<S>()? } else { None };
        let Some(cache) = &mut self.cache else { return Ok(value) };
        if is_new {
            cache.set(index, value.as_ref())?;
            return Ok(value);
        }
        cache.get(index)
    }

    /// A count of two bytes, and as many of what a closure reads.
    pub(crate) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        // Each takes a byte at least. Room is not made before they are there, since the count may be a lie.
        let count = self.input.count()?;
        let mut list = Vec::with_capacity(count.min(4));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
