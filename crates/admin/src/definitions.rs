//! RabbitMQ's definitions, in and out: users, vhosts, permissions, parameters, policies, queues, exchanges and bindings as one
//! JSON document.

pub mod export;
pub mod import;

pub use self::{
    export::{all, of_vhost},
    import::{import, import_into},
};
