//! The log: what must survive a crash, in segment files, with one `fdatasync` for all that waits.
//!
//! The store keeps two kinds of things and knows nothing of what they mean: *bodies*, each held by a set of holders until
//! the last of them lets go, and a small *state table* of keys and values. Everything is an [`Entry`] appended to the
//! log. [`Store::append`] never waits; [`Store::committed`] tells how far the disk has followed; [`Store::read`] brings
//! bodies back.
//!
//! | module | subject |
//! |---|---|
//! | [`format`](mod@format), `index`, `releases`, `snapshot` | the form on disk |
//! | [`disk`] | files, as a trait |
//! | `cipher` | encryption at rest |
//! | `store`, `writer` | appending and group commit |
//! | `ledger` | which segments are still needed, and for what |
//! | `keeper`, `rewrite` | indexes, removing and rewriting segments |
//! | `reader` | reading a holder's bodies page by page |
//! | `recovery`, `scan` | opening a log |
//! | `doctor`, `backup` | examining, salvaging, copying |

#![warn(missing_docs)]

mod backup;
mod cipher;
pub mod disk;
mod doctor;
mod error;
pub mod format;
mod index;
mod keeper;
mod ledger;
mod reader;
mod recovery;
mod releases;
mod rewrite;
mod scan;
mod segment;
mod snapshot;
mod store;
mod writer;

pub use crate::{
    backup::Backup,
    cipher::{KeyError, Keys, MasterKey},
    doctor::{Finding, Report, Salvaged, check, salvage},
    error::{BackupError, Damage, OpenError, ReadError, WriteError},
    format::{Entry, UNTIL_RESTART},
    keeper::Keeper,
    reader::Page,
    recovery::{Contents, Held},
    store::{Durability, Hooks, KEEPER_THREAD, Options, Sealed, Store, Usage, WRITER_THREAD},
    writer::{Step, Writer},
};
