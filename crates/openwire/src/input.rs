//! Numbers and bytes, most significant byte first.

use crate::error::Malformed;

const SHORT: Malformed = Malformed::new("the frame ends within a field");

/// Reads from bytes, and knows how many it lacks when they run out.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
    short_by: usize,
}

impl<'a> Input<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, short_by: 0 }
    }

    /// What has not been read.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes that were lacking when reading failed; 0 if it failed for another reason.
    pub(crate) fn short_by(&self) -> usize {
        self.short_by
    }

    #[cold]
    fn short(&mut self, len: usize) -> Malformed {
        self.short_by = len - self.rest.len();
        SHORT
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(self.short(len)) };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else { return Err(self.short(N)) };
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A length of four bytes, signed as all of Java's.
    #[inline]
    pub(crate) fn len(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.i32()?).map_err(|_| Malformed::new("a length is negative"))
    }

    /// A count of two bytes, signed.
    #[inline]
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.i16()?).map_err(|_| Malformed::new("a count is negative"))
    }
}
