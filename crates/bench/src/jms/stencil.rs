//! A message of which every copy has its own numbers and time. A load has no time to encode each anew.

use crate::batch::STAMP_BYTES;

/// Decimal digits of a number in a text.
pub(crate) const DIGITS: usize = 10;

/// What stands at a place of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Message,
    Transaction,
}

/// How it is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Int,
    Long,
    Digits,
}

/// A place of the message that differs from copy to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: usize,
    pub(crate) number: Number,
    pub(crate) form: Form,
}

/// The message, and where its copies differ.
#[derive(Debug)]
pub(crate) struct Stencil {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Where the body has the time, if it has room for it.
    stamp_at: Option<usize>,
}

impl Stencil {
    /// The body of `size` begins at `body_at`.
    pub(crate) fn new(bytes: Vec<u8>, places: Vec<Place>, body_at: usize, size: usize) -> Self {
        Self { bytes, places, stamp_at: (size >= STAMP_BYTES).then_some(body_at) }
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds the message with these numbers to `out`; without a time it carries none.
    #[inline]
    pub(crate) fn copy(&mut self, out: &mut Vec<u8>, message: u64, transaction: u64, time: u64) {
        for place in &self.places {
            let value = if place.number == Number::Message { message } else { transaction };
            let bytes = &mut self.bytes[place.at..];
            match place.form {
                Form::Int => bytes[..4].copy_from_slice(&(value as u32).to_be_bytes()),
                Form::Long => bytes[..8].copy_from_slice(&value.to_be_bytes()),
                Form::Digits => digits(&mut bytes[..DIGITS], value),
            }
        }
        if let Some(at) = self.stamp_at {
            self.bytes[at..at + STAMP_BYTES].copy_from_slice(&time.to_be_bytes());
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// With zeros before it.
fn digits(bytes: &mut [u8], mut value: u64) {
    for digit in bytes.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}
