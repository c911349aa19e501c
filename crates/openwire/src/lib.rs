//! OpenWire, versions 1 to 12: the wire of ActiveMQ's clients, without the broker's side of the conversation.
//!
//! [`codec`] turns bytes into a [`Command`] and back; what frames look like is a [`WireFormat`], which follows from both sides'
//! [`Offer`]. Commands are structs, in [`connection`], [`message`], [`response`], [`network`] and [`ids`]. Each is described
//! once, by its fields in the order of the wire and the versions that have them (`structure`); reading and writing, loose and
//! tight, follow from that. [`primitive`] has the maps of properties, [`body`] the content of messages.
//!
//! The names are those of ActiveMQ's commands, the facts those of its marshallers (`org.apache.activemq.openwire`).

#![warn(missing_docs)]

pub mod advisor;
pub mod body;
pub mod branches;
mod cache;
pub mod codec;
pub mod command;
pub mod connection;
pub mod directory;
pub mod error;
pub mod ids;
mod input;
pub mod lent;
pub mod mapping;
pub mod message;
pub mod network;
mod notices;
pub mod offer;
pub mod outgoing;
pub mod primitive;
mod reader;
pub mod response;
pub mod sequences;
pub mod session;
pub mod shared;
pub mod stored;
mod structure;
pub mod subscriptions;
#[cfg(test)]
mod tests;
pub mod throwable;
pub mod transaction;
mod utf8;
mod writer;

/// The number by which the broker knows this protocol's messages.
pub const ORIGIN: broker::Origin = broker::Origin(4);

/// The exchange of which topics are the routing keys.
pub const TOPICS: &str = "amq.topic";

pub use crate::{
    advisor::Advisor,
    codec::{Decoder, Encoder},
    command::Command,
    error::{Malformed, Unencodable},
    offer::{Offer, WireFormat},
    session::{OpenWireSession, Settings},
    shared::Shared,
    structure::{Base, Owned, Structure},
};
