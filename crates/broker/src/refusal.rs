//! Why the model refuses an operation, in its own terms. Each protocol maps these to its codes and texts.

use std::fmt;

use crate::value::{Name, Value};

/// A named thing of a vhost, as error texts show it: `queue 'orders' in vhost '/'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// `queue`, `exchange`, …
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// The vhost that it belongs to.
    pub vhost: Name,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' in vhost '{}'", self.kind, self.name, self.vhost)
    }
}

/// A refused operation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The queue or exchange does not exist.
    #[error("no {0}")]
    NotFound(Resource),
    /// A queue that belongs to another session alone.
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    )]
    Locked(Resource),
    /// A declaration that differs from what exists in a fixed property.
    #[error("inequivalent arg '{property}' for {resource}: received '{received}' but current is '{current}'")]
    Inequivalent {
        /// What exists.
        resource: Resource,
        /// The property that differs.
        property: &'static str,
        /// As the client sent it.
        received: String,
        /// As it is.
        current: String,
    },
    /// A declaration that differs from what exists in an argument.
    #[error("inequivalent arg '{argument}' for {resource}")]
    InequivalentArgument {
        /// What exists.
        resource: Resource,
        /// The argument that differs.
        argument: Name,
        /// As the client sent it, if it did.
        received: Option<Value>,
        /// As it is, if it is set.
        current: Option<Value>,
    },
    /// An argument whose value makes no sense.
    #[error("invalid arg '{argument}' for {resource}: {reason}")]
    InvalidArgument {
        /// What was to be declared.
        resource: Resource,
        /// The argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument that queues of other types take, and those of this type do not.
    #[error("invalid arg '{argument}' for {resource} of queue type rabbit_{queue_type}_queue")]
    ForeignArgument {
        /// The queue.
        resource: Resource,
        /// The argument.
        argument: Name,
        /// `classic`, `quorum` or `stream`.
        queue_type: &'static str,
    },
    /// A property that queues of this type cannot have.
    #[error("invalid property '{property}' for {resource}")]
    InvalidProperty {
        /// What was to be declared.
        resource: Resource,
        /// The property.
        property: &'static str,
    },
    /// A get from a quorum queue whose messages are for one consumer at a time.
    #[error(
        "cannot obtain access to locked {0}. basic.get operations are not supported by quorum queues with single active consumer"
    )]
    LockedForConsumers(Resource),
    /// What is asked for does not fit together.
    #[error("{0}")]
    Unfit(String),
    /// What queues of this type cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// What the log has of a queue cannot be read.
    #[error("cannot read {queue} from disk: {problem}")]
    Unreadable {
        /// The queue.
        queue: Resource,
        /// What is wrong.
        problem: String,
    },
    /// A new queue or exchange in the reserved name space.
    #[error("{kind} name '{name}' contains reserved prefix 'amq.*'")]
    ReservedName {
        /// `queue` or `exchange`.
        kind: &'static str,
        /// The name asked for.
        name: Name,
    },
    /// An operation that the default exchange does not take.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// Deleting one of the exchanges that every vhost has.
    #[error("deletion of system {0} not allowed")]
    SystemExchange(Resource),
    /// Publishing to an exchange that only other exchanges may feed.
    #[error("cannot publish to internal {0}")]
    InternalExchange(Resource),
    /// The user lacks a permission.
    #[error("{access} access to {resource} refused for user '{user}'")]
    AccessRefused {
        /// `configure`, `write` or `read`.
        access: &'static str,
        /// What was to be touched.
        resource: Resource,
        /// Who asked.
        user: Name,
    },
    /// The user lacks a topic permission.
    #[error("{access} access to topic '{routing_key}' in {resource} refused for user '{user}'")]
    TopicRefused {
        /// `write` or `read`.
        access: &'static str,
        /// The routing key or binding key.
        routing_key: String,
        /// The exchange.
        resource: Resource,
        /// Who asked.
        user: Name,
    },
    /// Another consumer has the queue for itself, or this one asks for it while others consume.
    #[error("{0} in exclusive use")]
    ExclusiveUse(Resource),
    /// Deletion was to happen only if unused, and it is used.
    #[error("{0} in use")]
    InUse(Resource),
    /// Deletion was to happen only if empty, and it is not.
    #[error("{0} not empty")]
    NotEmpty(Resource),
    /// An exchange type that this broker does not have.
    #[error("{0}")]
    UnknownExchangeType(String),
    /// A binding of a headers exchange with a bad `x-match`.
    #[error("Invalid x-match field {0}")]
    InvalidMatch(String),
    /// A new exchange with arguments that its type does not take.
    #[error("{0}")]
    InvalidExchange(String),
    /// A binding that the type of its exchange does not take.
    #[error("{0}")]
    InvalidBinding(String),
    /// An argument of a type that it cannot have.
    #[error("invalid type '{kind}' for arg '{argument}' in {resource}")]
    InvalidType {
        /// What was to be declared.
        resource: Resource,
        /// The argument.
        argument: &'static str,
        /// The type that it has.
        kind: &'static str,
    },
    /// A bound of [`crate::limits`] or of the configuration was reached.
    #[error("{0}")]
    Limit(String),
    /// A limit of the vhost or the user is reached.
    #[error("{0}")]
    TooMany(String),
    /// The vhost does not exist.
    #[error("vhost {0} not found")]
    VhostNotFound(Name),
    /// The user may not use the vhost.
    #[error("access to vhost '{vhost}' refused for user '{user}'")]
    VhostRefused {
        /// The vhost.
        vhost: Name,
        /// Who asked.
        user: Name,
    },
}
