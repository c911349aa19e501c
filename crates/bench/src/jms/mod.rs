//! Brokers of JMS: OpenWire and STOMP, by the same loads.
//!
//! `load` puts a load together from `publisher` and `consumer`, which have a `link` and a thread each. What they say
//! and hear is a `dialect`: `openwire` or `stomp`. A `stencil` makes messages without encoding them anew. `scenarios`
//! is the table of loads, `selective` has consumers with selectors look through a deep queue.

pub(crate) mod consumer;
pub(crate) mod destinations;
pub(crate) mod dialect;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod openwire;
pub(crate) mod options;
mod publisher;
pub(crate) mod scenarios;
pub(crate) mod selective;
mod stencil;
pub(crate) mod stomp;
