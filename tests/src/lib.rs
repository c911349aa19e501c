//! What the whole-system tests share: `server` runs a real broker, `raw` speaks to it without a client library, `load`
//! keeps it busy while it is killed, and `checker` judges what `load` has seen; `flow` moves numbered messages in bulk.
//! The tests are in `it/`, one binary; the suites of real clients that it starts are in `clients/`.

pub mod checker;
pub mod conversation;
pub mod flow;
pub mod load;
pub mod raw;
pub mod server;
pub mod tmpfs;
