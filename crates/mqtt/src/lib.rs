//! MQTT 3.1, 3.1.1 and 5, as a session of the broker that never touches a socket.
//!
//! [`wire`], [`properties`] and [`packet`] read packets; [`connection`] is the state machine of one connection: bytes in, calls to
//! the broker, bytes out through [`outgoing`]. What outlives a connection is in [`sessions`]. [`topic`] tells how topics
//! and filters are like routing and binding keys, [`message`] how MQTT's properties are like those of other protocols, and
//! [`mapping`] which reason code a refusal becomes. References are to sections of MQTT 5 (2019) unless they say otherwise.

#![warn(missing_docs)]

pub mod connection;
pub mod mapping;
pub mod message;
pub mod notes;
pub mod outgoing;
pub mod packet;
pub mod packet_ids;
pub mod properties;
pub mod sessions;
pub mod subscriptions;
pub mod sys;
pub mod topic;
pub mod traffic;
pub mod will;
pub mod wire;

pub use crate::{
    connection::{MqttConnection, Settings},
    sessions::Sessions,
};

/// The number under which messages published by this protocol are stored.
pub const ORIGIN: broker::Origin = broker::Origin(2);

/// The exchange that topics are routing keys of.
pub const EXCHANGE: &str = "amq.topic";
