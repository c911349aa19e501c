//! What the whole-system tests share: `server` runs a real broker, `raw` speaks to it without a client library.
//! The tests are in `it/`, one binary; the suites of real clients that it starts are in `clients/`.

pub mod conversation;
pub mod raw;
pub mod server;
