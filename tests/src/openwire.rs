//! A small blocking OpenWire client that shares no code with the broker: version 12, loose, without the cache. `record`
//! keeps what others say to each other.

mod command;
mod connection;
mod message;
mod primitive;
pub mod record;
mod transaction;

pub use connection::{Connection, Failure};
pub use message::{Destination, Message};
pub use primitive::Primitive;
pub use transaction::{Step, Transaction};
