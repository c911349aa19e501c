//! What can go wrong with a data directory.

use std::{fmt, io, path::PathBuf};

/// A part of the log that cannot be read although it was once safe on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.file.display(), self.offset, self.problem)
    }
}

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the data directory {0} is in use by another broker")]
    InUse(PathBuf),
    /// The log is damaged.
    #[error("the log is damaged: {0}. Nothing was changed; inspect it with 'roadstead doctor'")]
    Damaged(Damage),
    /// A file could not be read or written.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// The disk refused a write: nothing more can be made safe.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be written ({file}): {source}. Nothing is confirmed any more; the broker stops")]
pub struct WriteError {
    /// The segment file.
    pub file: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}
