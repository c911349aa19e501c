//! Refusals of the model as the exceptions that clients of ActiveMQ know, and destinations as queues and topics.

pub use broker::pattern::matches;
use broker::{Refusal, schedule::InvalidSchedule};

use crate::ids::{Destination, DestinationKind};

/// An exception for the client: a class that it has, by name, and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The class.
    pub class: &'static str,
    /// What happened.
    pub message: String,
}

impl Exception {
    fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// Something that has no class of its own.
    pub fn jms(message: impl Into<String>) -> Self {
        Self::new("javax.jms.JMSException", message)
    }

    /// The user must not, or is nobody.
    pub fn security(message: impl Into<String>) -> Self {
        Self::new("java.lang.SecurityException", message)
    }

    /// The peer does not keep to the protocol.
    pub fn io(message: &str) -> Self {
        Self::new("java.io.IOException", message)
    }

    /// There is too little of something.
    pub fn resource(message: impl Into<String>) -> Self {
        Self::new("javax.jms.ResourceAllocationException", message)
    }

    /// A destination that there is not, or that is somebody else's.
    pub fn destination(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidDestinationException", message)
    }

    /// A selector that is none.
    pub fn selector(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidSelectorException", message)
    }

    /// A client's name that another has, or that is none.
    pub fn client_id(message: impl Into<String>) -> Self {
        Self::new("javax.jms.InvalidClientIDException", message)
    }

    /// A transaction that cannot be committed.
    pub fn rolled_back(message: impl Into<String>) -> Self {
        Self::new("javax.jms.TransactionRolledBackException", message)
    }

    /// Something that cannot be done with a branch of an XA transaction. Clients read the code out of the message.
    pub fn xa(code: i32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::new("javax.transaction.xa.XAException", format!("{message} xaErrorCode:{code}"))
    }

    /// Something that cannot be done now.
    pub fn state(message: impl Into<String>) -> Self {
        Self::new("javax.jms.IllegalStateException", message)
    }
}

/// Codes of errors with branches of XA transactions (X/Open CAE C193, section 4.1.4, and Java's XAException).
pub mod xa {
    /// It was rolled back, for a reason that is told.
    pub const ROLLED_BACK: i32 = 100;
    /// Some of it was done, and some was not.
    pub const HEURISTICALLY_MIXED: i32 = 5;
    /// It cannot be done now; the branch is as before.
    pub const RETRY: i32 = 4;
    /// There is no such branch.
    pub const NOT_A: i32 = -4;
    /// It is not the time for this.
    pub const PROTOCOL: i32 = -6;
    /// There is one already.
    pub const DUPLICATE: i32 = -8;
}

impl From<InvalidSchedule> for Exception {
    fn from(invalid: InvalidSchedule) -> Self {
        Self::new("javax.jms.MessageFormatException", invalid.to_string())
    }
}

impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::AccessRefused { .. }
            | Refusal::TopicRefused { .. }
            | Refusal::VhostRefused { .. }
            | Refusal::VhostNotFound(_) => Self::security(message),
            Refusal::NotFound(_) | Refusal::Locked(_) => Self::destination(message),
            Refusal::TooMany(_) | Refusal::Limit(_) => Self::resource(message),
            Refusal::InvalidBinding(_) => Self::selector(message),
            _ => Self::jms(message),
        }
    }
}

/// Where messages go or come from, one of what a destination names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A queue.
    Queue(String),
    /// A topic, or a pattern of topics.
    Topic(String),
}

impl Address {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Queue(name) | Self::Topic(name) => name,
        }
    }

    /// Whether it stands for several.
    pub fn is_pattern(&self) -> bool {
        broker::pattern::is_pattern(self.name())
    }

    /// As a destination of a kind that fits.
    pub fn destination(&self, of: DestinationKind) -> Destination<'static> {
        let kind = match (self, of.is_temporary()) {
            (Self::Queue(_), false) => DestinationKind::Queue,
            (Self::Queue(_), true) => DestinationKind::TempQueue,
            (Self::Topic(_), false) => DestinationKind::Topic,
            (Self::Topic(_), true) => DestinationKind::TempTopic,
        };
        Destination { kind, physical_name: Some(self.name().to_owned().into()) }
    }
}

/// All addresses that a destination names: several may stand in one name with commas between them, each with `queue://` or
/// `topic://` in front if it is of the other kind.
pub fn addresses(destination: &Destination<'_>) -> Result<Vec<Address>, Exception> {
    let names = destination.physical_name.as_deref().unwrap_or_default();
    let address = |name: &str| {
        // Options are the client's; those that do not take them off send them along.
        let name = name.split('?').next().unwrap_or_default().trim();
        let (is_topic, name) = match name.split_once("://") {
            Some(("queue" | "temp-queue", name)) => (false, name),
            Some(("topic" | "temp-topic", name)) => (true, name),
            _ => (destination.kind.is_topic(), name),
        };
        if name.is_empty() || name.len() > 255 {
            return Err(Exception::destination(format!("'{names}' is no name of a destination")));
        }
        Ok(if is_topic { Address::Topic(name.into()) } else { Address::Queue(name.into()) })
    };
    if destination.kind.is_temporary() {
        return Ok(vec![address(names)?]);
    }
    names.split(',').map(address).collect()
}

/// A pattern of topics as a binding key: `>` stands for any words there.
pub fn binding_key(pattern: &str) -> String {
    pattern.split('.').map(|word| if word == ">" { "#" } else { word }).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(kind: DestinationKind, name: &'static str) -> Destination<'static> {
        Destination { kind, physical_name: Some(name.into()) }
    }

    #[test]
    fn a_destination_may_name_several() {
        let (queue, topic) = (|name: &str| Address::Queue(name.into()), |name: &str| Address::Topic(name.into()));
        let found = addresses(&named(DestinationKind::Queue, "A.B,topic://C,queue://D?consumer.prefetchSize=1"));
        assert_eq!(found, Ok(vec![queue("A.B"), topic("C"), queue("D")]));
        assert_eq!(addresses(&named(DestinationKind::TempTopic, "ID:x,y:1")), Ok(vec![topic("ID:x,y:1")]));
        for bad in ["", "a,,b", "queue://"] {
            assert!(addresses(&named(DestinationKind::Queue, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_of_words() {
        assert_eq!(binding_key("a.*.>"), "a.*.#");
        for (pattern, name, expected) in [
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", true),
            (">", "x", true),
            ("a.b", "a.b", true),
            ("a.b", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(Address::Topic("a.>".into()).is_pattern() && !Address::Topic("a>b".into()).is_pattern());
    }
}
