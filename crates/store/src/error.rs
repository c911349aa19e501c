//! What can go wrong with a data directory.

use std::{fmt, io, path::PathBuf};

use crate::cipher::KeyError;

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
    /// It is encrypted, and the key is not at hand.
    #[error("{file} {source}")]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong with the keys.
        source: KeyError,
    },
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

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What the disk gives is not what was written.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The disk refused.
    #[error("cannot read {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something at the target already.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// The log could not begin a new segment, because the disk is full or has failed.
    #[error("the log cannot be brought to rest: its disk is full or has failed")]
    NoRest,
    /// A file could not be copied.
    #[error("cannot copy {file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
