//! What can go wrong, by who must act on it.

use std::io;
use std::path::PathBuf;

/// Why a load could not be run or measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("bad URI {uri}: {why}")]
    Uri { uri: String, why: &'static str },
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    /// The server ended the connection or channel with a reason of its own.
    #[error("the server closed the {scope}: {code} {text}")]
    Closed { scope: &'static str, code: u16, text: String },
    /// The server does not have what a suite is about.
    #[error("the server refuses it: {code} {text}")]
    Refused { code: u16, text: String },
    /// The same, where there is no code for it.
    #[error("the server does not have it: {0}")]
    Lacks(&'static str),
    /// The server refuses something in words of its own.
    #[error("the server refuses it: {0}")]
    Refusal(String),
    #[error("the server did wrong: {0}")]
    Wrong(String),
    #[error("the server cancelled the consumer")]
    Cancelled,
    #[error("the server closed the connection without a word")]
    HungUp,
    #[error("the server broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("no answer from the server in time: {0}")]
    Timeout(&'static str),
    #[error("bad options: {0}")]
    Options(&'static str),
    #[error("bad options: {option} makes no sense with {scheme}://")]
    Misfit { option: &'static str, scheme: &'static str },
    #[error("cannot read process {pid}: {source}")]
    Process { pid: String, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("a load thread died")]
    Thread,
}

impl Error {
    /// For `map_err`: an I/O failure with what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether the server does not have what was to be measured.
    pub(crate) fn is_lack(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Lacks(_))
    }

    /// For `map_err` behind a declare: a server that closes the channel or connection over it does not have it.
    pub(crate) fn refused(self) -> Self {
        match self {
            Self::Closed { code, text, .. } => Self::Refused { code, text },
            other => other,
        }
    }
}
