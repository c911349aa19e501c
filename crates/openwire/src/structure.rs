//! How a structure is described once and read and written from that: the fields of a struct, in the order in which they
//! are sent, are what a frame has of them. A mark before a field says what its type does not:
//!
//! - `[cached]`: it goes through the connection's cache;
//! - `[since 3]`, `[until 9]`: other versions do not have it; then it has its default;
//! - `[code]`: it is not sent, since the type code tells it;
//! - `[only 29]`: only with this type code.
//!
//! A structure is a `command` if it begins with a number and whether it wants to be answered.

use std::ops::RangeInclusive;

use crate::{
    error::Malformed,
    lent::{Bytes, Lent, Text},
    reader::Reader,
    writer::Writer,
};

/// Something with a type code.
pub trait Structure<'a>: Sized {
    /// The type codes that it may have.
    const CODES: RangeInclusive<u8>;

    /// The one that it has.
    fn code(&self) -> u8;

    /// What commands begin with.
    fn base(&self) -> Option<&Base> {
        None
    }

    /// Reads what follows the type code, which is one of [`Self::CODES`].
    ///
    /// # Errors
    /// If it cannot be right.
    fn read<const TIGHT: bool>(code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed>;

    /// The same, to where it stays.
    ///
    /// # Errors
    /// The same.
    fn read_boxed<const TIGHT: bool>(code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<Box<Self>, Malformed> {
        Self::read(code, from).map(Box::new)
    }

    /// Writes what follows the type code.
    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>);
}

/// A structure that is read field by field to where it stays: to move a large one takes as long as to read it.
pub trait Fill<'a> {
    /// Reads what follows the type code.
    ///
    /// # Errors
    /// If it cannot be right.
    fn fill<const TIGHT: bool>(&mut self, code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<(), Malformed>;
}

/// Something that a field may be.
pub trait Field<'a>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// If it cannot be right.
    fn read<const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed>;

    /// Writes it.
    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>);
}

/// Which kind of a structure it is, as its type code tells.
pub trait Kind: Sized {
    /// By the type code.
    fn of_code(code: u8) -> Option<Self>;

    /// The type code.
    fn code(self) -> u8;
}

/// What can do without its lender.
pub trait Owned {
    /// The same for ever.
    type Owned;

    /// Copies what is borrowed.
    fn into_owned(self) -> Self::Owned;
}

/// Whether a structure has one more bit in the tight encoding, which says whether it follows in a form that was kept. Java has
/// it for messages and WireFormatInfo and always sends 0.
pub(crate) fn has_spare_bit(code: u8) -> bool {
    matches!(code, 1 | 23..=29)
}

/// What every command begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base {
    /// The command's number, which a response refers to.
    pub command_id: i32,
    /// Whether a response is expected.
    pub response_required: bool,
}

impl Field<'_> for Base {
    fn read<const TIGHT: bool>(from: &mut Reader<'_, '_, TIGHT>) -> Result<Self, Malformed> {
        Ok(Self { command_id: Field::read(from)?, response_required: Field::read(from)? })
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        self.command_id.write(to);
        self.response_required.write(to);
    }
}

macro_rules! fields {
    ($($type:ty: |$from:ident| $read:expr, |$value:ident, $to:ident| $write:expr;)*) => {$(
        impl<'a> Field<'a> for $type {
            #[inline]
            fn read<const TIGHT: bool>($from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
                $read
            }

            #[inline]
            fn write<const TIGHT: bool>(&self, $to: &mut Writer<'_, TIGHT>) {
                let $value = self;
                $write
            }
        }
    )*};
}

fields! {
    bool: |from| from.flag(), |value, to| to.flag(*value);
    i8: |from| Ok(from.input.u8()? as Self), |value, to| to.bytes(&value.to_be_bytes());
    i32: |from| from.input.i32(), |value, to| to.bytes(&value.to_be_bytes());
    i64: |from| from.long(), |value, to| to.long(*value);
    [u8; 8]: |from| from.input.array(), |value, to| to.bytes(value);
    Option<Text<'a>>: |from| from.text(), |value, to| to.text(value.as_deref());
    Option<Bytes<'a>>: |from| bytes(from), |value, to| put_bytes(to, value.as_deref());
}

fn bytes<'a, const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Option<Bytes<'a>>, Malformed> {
    if !from.flag()? {
        return Ok(None);
    }
    let len = from.input.len()?;
    Ok(Some(Lent::Borrowed(from.input.take(len)?)))
}

fn put_bytes<const TIGHT: bool>(to: &mut Writer<'_, TIGHT>, bytes: Option<&[u8]>) {
    to.flag(bytes.is_some());
    if let Some(bytes) = bytes {
        to.block(bytes);
    }
}

impl<'a, S: Structure<'a>> Field<'a> for Option<S> {
    fn read<const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
        from.nested()
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        to.nested(self.as_ref());
    }
}

impl<'a, S: Structure<'a>> Field<'a> for Option<Vec<S>> {
    fn read<const TIGHT: bool>(from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
        if !from.flag()? {
            return Ok(None);
        }
        // Java could send null for an element, and never does.
        let element =
            |from: &mut Reader<'a, '_, TIGHT>| from.nested()?.ok_or(Malformed::new("an element of an array is null"));
        from.list(element).map(Some)
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        to.flag(self.is_some());
        if let Some(list) = self {
            to.list(list, |to, each| to.nested(Some(each)));
        }
    }
}

impl<'a, S: Structure<'a>> Structure<'a> for Box<S> {
    const CODES: RangeInclusive<u8> = S::CODES;

    fn code(&self) -> u8 {
        (**self).code()
    }

    fn base(&self) -> Option<&Base> {
        (**self).base()
    }

    fn read<const TIGHT: bool>(code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
        S::read_boxed(code, from)
    }

    fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
        (**self).write(to);
    }
}

macro_rules! owned_already {
    ($($type:ty),*) => {$(
        impl $crate::structure::Owned for $type {
            type Owned = Self;

            fn into_owned(self) -> Self {
                self
            }
        }
    )*};
}
pub(crate) use owned_already;

owned_already!(bool, i8, i32, i64, [u8; 8], Base);

impl<T: ?Sized + 'static> Owned for Lent<'_, T>
where
    std::sync::Arc<T>: for<'x> From<&'x T>,
{
    type Owned = Lent<'static, T>;

    fn into_owned(self) -> Self::Owned {
        Lent::into_owned(self)
    }
}

impl<T: Owned> Owned for Option<T> {
    type Owned = Option<T::Owned>;

    fn into_owned(self) -> Self::Owned {
        self.map(T::into_owned)
    }
}

impl<T: Owned> Owned for Vec<T> {
    type Owned = Vec<T::Owned>;

    fn into_owned(self) -> Self::Owned {
        self.into_iter().map(T::into_owned).collect()
    }
}

impl<T: Owned> Owned for Box<T> {
    type Owned = Box<T::Owned>;

    fn into_owned(self) -> Self::Owned {
        Box::new((*self).into_owned())
    }
}

/// Structures, each by its fields in the order in which they are sent.
macro_rules! structures {
    ($($(#[$meta:meta])* $group:ident $name:ident $(<$lt:lifetime>)? = $first:literal $(..= $last:literal)? {
        $($fields:tt)*
    })*) => {$(
        $crate::structure::structure! {
            $group [$(#[$meta])*] $name [$($lt)?] [$first $(, $last)?] { $($fields)* }
        }
    )*};
}

macro_rules! structure {
    (command $meta:tt $name:ident $lt:tt $codes:tt { $($fields:tt)* }) => {
        $crate::structure::structure! {
            (Some base) $meta $name $lt $codes { #[doc = "What every command begins with."] base: Base, $($fields)* }
        }
    };
    (structure $meta:tt $name:ident $lt:tt $codes:tt $fields:tt) => {
        $crate::structure::structure! { (None) $meta $name $lt $codes $fields }
    };
    ($base:tt [$(#[$meta:meta])*] $name:ident [$($lt:lifetime)?] $codes:tt {
        $($(#[$about:meta])* $([$($mark:tt)+])? $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name $(<$lt>)? {
            $($(#[$about])* pub $field: $type,)*
        }

        impl<'a> $crate::structure::Structure<'a> for $name $(<$lt>)? {
            const CODES: std::ops::RangeInclusive<u8> = $crate::structure::codes!($codes);

            fn code(&self) -> u8 {
                $crate::structure::code_of!(self $codes)
            }

            fn base(&self) -> Option<&$crate::structure::Base> {
                $crate::structure::base_of!(self $base)
            }

            fn read<const TIGHT: bool>(
                code: u8,
                from: &mut $crate::reader::Reader<'a, '_, TIGHT>,
            ) -> Result<Self, $crate::error::Malformed> {
                let mut value = Self::default();
                $crate::structure::Fill::fill(&mut value, code, from)?;
                Ok(value)
            }

            fn read_boxed<const TIGHT: bool>(
                code: u8,
                from: &mut $crate::reader::Reader<'a, '_, TIGHT>,
            ) -> Result<Box<Self>, $crate::error::Malformed> {
                let mut value = Box::<Self>::default();
                $crate::structure::Fill::fill(&mut *value, code, from)?;
                Ok(value)
            }

            #[allow(unused_variables, reason = "some structures have no fields")]
            fn write<const TIGHT: bool>(&self, to: &mut $crate::writer::Writer<'_, TIGHT>) {
                $($crate::structure::write_field!(self to $field $($($mark)+)?);)*
            }
        }

        impl<'a> $crate::structure::Fill<'a> for $name $(<$lt>)? {
            #[allow(unused_variables, reason = "some structures have no fields")]
            #[inline]
            fn fill<const TIGHT: bool>(
                &mut self,
                code: u8,
                from: &mut $crate::reader::Reader<'a, '_, TIGHT>,
            ) -> Result<(), $crate::error::Malformed> {
                $(self.$field = $crate::structure::read_field!(from code $($($mark)+)?);)*
                Ok(())
            }
        }

        $crate::structure::owned! { $name [$($lt)?] $($field)* }

        #[cfg(test)]
        impl<'a> $crate::tests::sample::Sample for $name $(<$lt>)? {
            #[allow(unused_variables, reason = "some structures have no fields")]
            fn sample(from: &mut $crate::tests::sample::Source<'_>) -> Self {
                let mut sample = Self::default();
                $(sample.$field = $crate::structure::sample_field!(sample from $($($mark)+)?);)*
                sample
            }
        }
    };
}

macro_rules! codes {
    ([$only:literal]) => {
        $only..=$only
    };
    ([$first:literal, $last:literal]) => {
        $first..=$last
    };
}

macro_rules! code_of {
    ($self:ident [$only:literal]) => {
        $only
    };
    ($self:ident $range:tt) => {
        $crate::structure::Kind::code($self.kind)
    };
}

macro_rules! base_of {
    ($self:ident (Some $base:ident)) => {
        Some(&$self.$base)
    };
    ($self:ident (None)) => {
        None
    };
}

macro_rules! read_field {
    ($from:ident $code:ident) => {
        $crate::structure::Field::read($from)?
    };
    ($from:ident $code:ident cached) => {
        $from.cached()?
    };
    ($from:ident $code:ident since $version:literal) => {
        if $from.version >= $version { $crate::structure::Field::read($from)? } else { Default::default() }
    };
    ($from:ident $code:ident until $version:literal) => {
        if $from.version <= $version { $crate::structure::Field::read($from)? } else { Default::default() }
    };
    ($from:ident $code:ident code) => {
        $crate::structure::Kind::of_code($code).ok_or($crate::error::Malformed::new("a type code is unknown"))?
    };
    ($from:ident $code:ident only $only:literal) => {
        if $code == $only { $crate::structure::Field::read($from)? } else { Default::default() }
    };
}

macro_rules! write_field {
    ($self:ident $to:ident $field:ident) => {
        $crate::structure::Field::write(&$self.$field, $to)
    };
    ($self:ident $to:ident $field:ident cached) => {
        $to.cached($self.$field.as_ref())
    };
    ($self:ident $to:ident $field:ident since $version:literal) => {
        if $to.version >= $version {
            $crate::structure::Field::write(&$self.$field, $to);
        }
    };
    ($self:ident $to:ident $field:ident until $version:literal) => {
        if $to.version <= $version {
            $crate::structure::Field::write(&$self.$field, $to);
        }
    };
    ($self:ident $to:ident $field:ident code) => {};
    ($self:ident $to:ident $field:ident only $only:literal) => {
        if $crate::structure::Structure::code($self) == $only {
            $crate::structure::Field::write(&$self.$field, $to);
        }
    };
}

/// A field for a test, as a decoder would have it: without what its version does not send.
#[cfg(test)]
macro_rules! sample_field {
    ($sample:ident $from:ident since $version:literal) => {
        if $from.version >= $version { $crate::tests::sample::Sample::sample($from) } else { Default::default() }
    };
    ($sample:ident $from:ident until $version:literal) => {
        if $from.version <= $version { $crate::tests::sample::Sample::sample($from) } else { Default::default() }
    };
    ($sample:ident $from:ident only $only:literal) => {
        if $crate::structure::Structure::code(&$sample) == $only {
            $crate::tests::sample::Sample::sample($from)
        } else {
            Default::default()
        }
    };
    ($sample:ident $from:ident $($mark:ident)?) => {
        $crate::tests::sample::Sample::sample($from)
    };
}
#[cfg(test)]
pub(crate) use sample_field;

macro_rules! owned {
    ($name:ident [] $($field:ident)*) => {
        $crate::structure::owned_already!($name);
    };
    ($name:ident [$lt:lifetime] $($field:ident)*) => {
        impl $crate::structure::Owned for $name<'_> {
            type Owned = $name<'static>;

            fn into_owned(self) -> Self::Owned {
                $name { $($field: $crate::structure::Owned::into_owned(self.$field),)* }
            }
        }
    };
}

pub(crate) use {base_of, code_of, codes, owned, read_field, structure, structures, write_field};
