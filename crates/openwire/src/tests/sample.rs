//! Structures from random bytes, which a property test chooses and can make simpler. When they are used up, fields have their
//! defaults.

use crate::{
    Base, Command,
    ids::{DestinationKind, LocalTransactionId, ObjectId, TransactionId, XaTransactionId},
    lent::{Bytes, Text},
    message::MessageKind,
    structure::Kind,
    throwable::{StackTraceElement, Throwable},
};

/// Where samples come from.
pub(crate) struct Source<'s> {
    bytes: &'s [u8],
    /// The version that the sample is for.
    pub(crate) version: i32,
    depth: u32,
}

impl<'s> Source<'s> {
    pub(crate) fn new(bytes: &'s [u8], version: i32) -> Self {
        Self { bytes, version, depth: 0 }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn below(&mut self, max: usize) -> usize {
        usize::from(self.byte()) % max
    }

    /// A structure within another, up to four.
    fn deeper<T>(&mut self, sample: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth == 4 || self.byte().is_multiple_of(3) {
            return None;
        }
        self.depth += 1;
        let sample = sample(self);
        self.depth -= 1;
        Some(sample)
    }
}

/// What there can be a sample of.
pub(crate) trait Sample: Sized {
    fn sample(from: &mut Source<'_>) -> Self;
}

/// Few, so that they are found in caches again, and of all forms.
const TEXTS: [&str; 8] =
    ["", "a", "ID:h-1-2-0:1", "queue.one", "\u{e9}", "\u{20ac}\0", "\u{1f6a2}!", "x=1 AND y='\u{7f}'"];

macro_rules! samples {
    ($($type:ty: |$from:ident| $sample:expr;)*) => {$(
        impl Sample for $type {
            fn sample($from: &mut Source<'_>) -> Self {
                $sample
            }
        }
    )*};
}

samples! {
    bool: |from| from.byte() & 1 != 0;
    i8: |from| from.byte() as i8;
    i32: |from| i64::sample(from) as i32;
    i64: |from| match from.byte() % 6 {
        0 => 0,
        1 => i64::from(from.byte()),
        2 => 0xffff + i64::from(from.byte() & 1),
        3 => 0xffff_ffff + i64::from(from.byte() & 1),
        4 => -1 - i64::from(from.byte()),
        _ => i64::MIN.rotate_left(from.byte().into()),
    };
    [u8; 8]: |from| [from.byte(); 8];
    Text<'_>: |from| TEXTS[from.below(TEXTS.len())].into();
    Bytes<'_>: |from| vec![from.byte(); from.below(9)].into();
    Base: |from| Self { command_id: Sample::sample(from), response_required: Sample::sample(from) };
    DestinationKind: |from| Self::of_code(100 + from.byte() % 4).unwrap();
    MessageKind: |from| Self::of_code(23 + from.byte() % 7).unwrap();
    Command<'_>: |from| Command::SAMPLES[from.below(Command::SAMPLES.len())](from);
    TransactionId<'_>: |from| match from.byte() % 2 {
        0 => Self::Local(LocalTransactionId::sample(from)),
        _ => Self::Xa(XaTransactionId::sample(from)),
    };
    ObjectId<'_>: |from| match from.byte() % 4 {
        0 => Self::Connection(Sample::sample(from)),
        1 => Self::Session(Sample::sample(from)),
        2 => Self::Consumer(Sample::sample(from)),
        _ => Self::Producer(Sample::sample(from)),
    };
    Throwable<'_>: |from| Self {
        class: Sample::sample(from),
        message: Sample::sample(from),
        stack_trace: Sample::sample(from),
        cause: Sample::sample(from),
    };
    StackTraceElement<'_>: |from| Self {
        class: Sample::sample(from),
        method: Sample::sample(from),
        file: Sample::sample(from),
        line: Sample::sample(from),
    };
}

impl<T: Sample> Sample for Option<T> {
    fn sample(from: &mut Source<'_>) -> Self {
        from.deeper(T::sample)
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(from: &mut Source<'_>) -> Self {
        (0..from.below(4)).map(|_| T::sample(from)).collect()
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(from: &mut Source<'_>) -> Self {
        Self::new(T::sample(from))
    }
}

/// Random bytes that are the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
