//! The log: what must survive a crash, in segment files, with one `fdatasync` for all that waits.
//!
//! The store keeps two kinds of things and knows nothing of what they mean: *bodies*, each held by a set of holders until
//! the last of them lets go, and a small *state table* of keys and values. Everything is an [`Entry`] appended to the
//! log. [`Store::append`] never waits; [`Store::committed`] tells how far the disk has followed.
//!
//! The form on disk is in [`format`](mod@format), writing in `writer`, reading back in `recovery`, and which segments
//! are still needed in `ledger`.

#![warn(missing_docs)]

mod error;
pub mod format;
mod ledger;
mod recovery;
mod segment;
mod store;
mod writer;

pub use crate::{
    error::{Damage, OpenError, WriteError},
    format::Entry,
    recovery::{Contents, Held, Report, check},
    store::{Options, Store, WRITER_THREAD},
};
