//! A small blocking MQTT client, of 3.1.1 and 5, that shares no code with the broker.
//!
//! [`Session`] is what a client must remember whatever happens to its connections; [`Connection`] is one of these.

mod connection;
mod packet;
mod session;

pub use connection::{Connection, Happening, PATIENCE};
pub use packet::{Packet, Publish, Version};
pub use session::{Opened, Session, Taken};
