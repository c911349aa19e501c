//! STOMP 1.0, 1.1 and 1.2, as a session of the broker that never touches a socket.
//!
//! [`wire`] takes frames off the input and writes them; [`connection`] is the state machine of one connection: bytes in, calls
//! to the broker, bytes out through [`outgoing`]. [`destination`] tells what destinations are to the model, in RabbitMQ's
//! grammar and ActiveMQ's; [`message`] how STOMP's headers are like other protocols' properties; [`queue_name`] under which
//! names subscriptions are kept; and [`mapping`] what a refusal is to clients. References are to sections of STOMP 1.2
//! unless they say otherwise.

#![warn(missing_docs)]

pub mod connection;
pub mod destination;
pub mod mapping;
pub mod message;
pub mod outgoing;
pub mod queue_name;
pub mod wire;

pub use crate::connection::{Settings, StompConnection};

/// The number under which messages published by this protocol are stored.
pub const ORIGIN: broker::Origin = broker::Origin(3);

/// The exchange that topics are routing keys of.
pub const EXCHANGE: &str = "amq.topic";
