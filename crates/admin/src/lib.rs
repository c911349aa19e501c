//! The management HTTP API, by RabbitMQ's paths and fields, with the console that is a client of it, and metrics.
//!
//! Here is what is asked of a running broker and how it is answered. Not here: sockets, TLS and the process, which the server
//! supplies through [`Host`]. Start with [`router`]; each file of [`api`] is one kind of thing.

#![warn(missing_docs)]

pub mod api;
mod console;
pub mod definitions;
mod history;
pub mod host;
mod json;
pub mod metrics;
mod page;
mod problem;
mod protocols;
mod requester;
mod sampler;
mod wait;

use std::sync::Arc;

use broker::Broker;

pub use self::{
    api::{router, trim},
    host::{Admitted, Facts, Host, Listener, Secret},
    requester::{Operator, Remote},
    sampler::Sampler,
};

/// What every request has at hand.
pub struct Admin {
    /// The model.
    pub broker: Arc<Broker>,
    /// What is not in the model.
    pub host: Arc<dyn Host>,
    /// How things were.
    pub sampler: Arc<Sampler>,
    /// The version of RabbitMQ that the broker stands in for.
    pub version: String,
}

impl Admin {
    /// The name of this node.
    pub fn node(&self) -> &str {
        &self.broker.settings.node
    }

    /// Waits until all that was changed so far is safe: nobody is told of it before.
    async fn safe(&self) {
        wait::all(&self.broker).await;
    }
}
