//! AMQP 0-9-1 with RabbitMQ's extensions, as a session of the broker that never touches a socket.
//!
//! [`wire`] reads and writes frames and tables, [`method`] the methods, [`properties`] a message's properties.
//! [`session`] is the state machine: bytes in, calls to the broker, bytes out through [`outgoing`]. [`mapping`] turns the
//! model's refusals into reply codes. References to the specification are to AMQP 0-9-1 (2008).

#![warn(missing_docs)]

pub mod mapping;
pub mod method;
pub mod outgoing;
pub mod properties;
pub mod session;
pub mod wire;

pub use crate::{
    mapping::Exception,
    session::{AmqpSession, Settings},
};

/// The number under which messages published by this protocol are stored.
pub const ORIGIN: broker::Origin = broker::Origin(1);

/// What a client sends first (specification section 4.2.2).
pub const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
