//! Text and bytes that stand in the input, or are shared.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// Lent from the input or shared. What comes out of a connection's cache is shared, so that a reference to it costs no copy.
pub enum Lent<'a, T: ?Sized> {
    /// From somebody else's buffer.
    Borrowed(&'a T),
    /// With an owner for each that holds it.
    Shared(Arc<T>),
}

/// A string.
pub type Text<'a> = Lent<'a, str>;

/// A byte array.
pub type Bytes<'a> = Lent<'a, [u8]>;

impl<T: ?Sized> Lent<'_, T>
where
    Arc<T>: for<'x> From<&'x T>,
{
    /// With an owner: a copy if it is borrowed.
    pub fn into_shared(self) -> Arc<T> {
        match self {
            Self::Borrowed(borrowed) => borrowed.into(),
            Self::Shared(shared) => shared,
        }
    }

    /// The same, without a lender.
    pub fn into_owned(self) -> Lent<'static, T> {
        Lent::Shared(self.into_shared())
    }
}

impl<T: ?Sized> Lent<'_, T> {
    /// The same for a shorter time, without counting an owner.
    pub fn borrow(&self) -> Lent<'_, T> {
        Lent::Borrowed(self)
    }
}

impl<T: ?Sized> Deref for Lent<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(borrowed) => borrowed,
            Self::Shared(shared) => shared,
        }
    }
}

impl<T: ?Sized> Clone for Lent<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(borrowed) => Self::Borrowed(borrowed),
            Self::Shared(shared) => Self::Shared(Arc::clone(shared)),
        }
    }
}

impl<T: ?Sized + PartialEq> PartialEq for Lent<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: ?Sized + PartialEq> PartialEq<T> for Lent<'_, T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: ?Sized + Eq> Eq for Lent<'_, T> {}

impl<T: ?Sized + Hash> Hash for Lent<'_, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Lent<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl<'a, T: ?Sized> From<&'a T> for Lent<'a, T> {
    fn from(borrowed: &'a T) -> Self {
        Self::Borrowed(borrowed)
    }
}

impl<T: ?Sized> From<Arc<T>> for Lent<'_, T> {
    fn from(shared: Arc<T>) -> Self {
        Self::Shared(shared)
    }
}

impl From<String> for Text<'_> {
    fn from(owned: String) -> Self {
        Self::Shared(owned.into())
    }
}

impl From<Vec<u8>> for Bytes<'_> {
    fn from(owned: Vec<u8>) -> Self {
        Self::Shared(owned.into())
    }
}
