//! A small blocking AMQP 0-9-1 client that shares no code with the broker.
//!
//! It sends anything, also what no client library would, and shows what the server says in one readable line per
//! event. Start at [`Connection`]; a method's fields are written as text, see [`Fields`].

mod bytes;
mod connection;
mod event;
mod fields;
pub mod method;
mod value;

pub use bytes::{Malformed, Reader, Writer};
pub use connection::{
    Address, BODY, Connection, FRAME_END, Frame, HEADER, HEARTBEAT, METHOD, PATIENCE, PROTOCOL_HEADER,
};
pub use event::{Event, Happening};
pub use fields::{Fields, hex, parse_table, unquote, words};
pub use value::{Table, Value, quoted, show_table};
