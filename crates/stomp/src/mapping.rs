//! What goes wrong, as clients are told in an ERROR frame: RabbitMQ's words, because clients show them and some compare them.

use broker::Refusal;

use crate::wire::Malformed;

/// Why a frame is refused. It ends the connection (section "ERROR").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The header `message`.
    pub message: &'static str,
    /// The body.
    pub detail: String,
}

impl Problem {
    /// A problem.
    pub fn new(message: &'static str, detail: impl Into<String>) -> Self {
        Self { message, detail: detail.into() }
    }

    /// Something that this broker does not have.
    pub fn unsupported(what: &str) -> Self {
        Self::new("Not implemented", format!("{what} is not supported\n"))
    }

    /// A frame without a header that it must have.
    pub fn missing_header(command: &str, header: &str) -> Self {
        Self::new("Missing header", format!("\"{command}\" must include the \"{header}\" header\n"))
    }
}

impl From<Malformed> for Problem {
    fn from(Malformed(problem): Malformed) -> Self {
        Self::new("Malformed frame", problem)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        // The names of AMQP 0-9-1's reply codes, which RabbitMQ shows here, too.
        let message = match &refusal {
            Refusal::NotFound(_) | Refusal::Unreadable { .. } => "not_found",
            Refusal::Locked(_) | Refusal::LockedForConsumers(_) => "resource_locked",
            Refusal::ReservedName { .. }
            | Refusal::DefaultExchange
            | Refusal::SystemExchange(_)
            | Refusal::InternalExchange(_)
            | Refusal::AccessRefused { .. }
            | Refusal::TopicRefused { .. }
            | Refusal::ExclusiveUse(_) => "access_refused",
            Refusal::Unsupported(_) => "not_implemented",
            Refusal::TooMany(_) | Refusal::VhostNotFound(_) | Refusal::VhostRefused { .. } => "not_allowed",
            _ => "precondition_failed",
        };
        Self::new(message, format!("{} - {refusal}", message.to_uppercase()))
    }
}

#[cfg(test)]
mod tests {
    use broker::Resource;

    use super::*;

    #[test]
    fn refusals_are_told_in_rabbitmqs_words() {
        let refusal = Refusal::NotFound(Resource { kind: "exchange", name: "nope".into(), vhost: "/".into() });
        let problem = Problem::from(refusal);
        assert_eq!(problem, Problem::new("not_found", "NOT_FOUND - no exchange 'nope' in vhost '/'"));
    }
}
