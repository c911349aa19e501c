//! What goes wrong.

use std::{error::Error, fmt};

/// Input that cannot be right. The connection has to end: where the next frame begins may be unknown, and the caches of
/// both sides no longer agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub problem: &'static str,
}

impl Malformed {
    pub(crate) const fn new(problem: &'static str) -> Self {
        Self { problem }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

impl Error for Malformed {}

/// A command that has no form on this connection, such as one whose text is longer than its length can tell. The output
/// is as it was, and the connection can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unencodable {
    /// What is wrong.
    pub problem: &'static str,
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }
}

impl Error for Unencodable {}
