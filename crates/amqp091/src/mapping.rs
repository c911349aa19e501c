//! From the model's refusals to reply codes and texts, as RabbitMQ words them.

use broker::{Refusal, Value};

use crate::{
    method::BadMethod,
    wire::{self, BadFrame, erlang_binary, frame_type},
};

/// Reply codes (specification section 1.2) with the names that stand before the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the specification's constants")]
pub enum Code {
    NoRoute = 312,
    ConnectionForced = 320,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

impl Code {
    /// The name that stands before the text.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// Whether it ends the connection, and not only the channel.
    pub fn is_hard(self) -> bool {
        !matches!(
            self,
            Self::NoRoute | Self::AccessRefused | Self::NotFound | Self::ResourceLocked | Self::PreconditionFailed
        )
    }
}

/// Why a channel or the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The reply code.
    pub code: Code,
    /// What follows the code's name.
    pub explanation: String,
    /// Class and method that failed; zeros if it was none.
    pub method: (u16, u16),
}

impl Exception {
    /// An exception in no method.
    pub fn new(code: Code, explanation: impl Into<String>) -> Self {
        Self { code, explanation: explanation.into(), method: (0, 0) }
    }

    /// The same, in a method.
    #[must_use]
    pub fn during(self, method: (u16, u16)) -> Self {
        Self { method, ..self }
    }

    /// The reply text: at most 255 bytes, longer ones end in dots.
    pub fn text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        if text.len() > 255 {
            let mut end = 252;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        text
    }
}

impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            // As RabbitMQ answers for a queue whose process has crashed.
            Refusal::NotFound(_) | Refusal::Unreadable { .. } => Code::NotFound,
            Refusal::Locked(_) | Refusal::LockedForConsumers(_) => Code::ResourceLocked,
            Refusal::ReservedName { .. }
            | Refusal::DefaultExchange
            | Refusal::SystemExchange(_)
            | Refusal::InternalExchange(_)
            | Refusal::AccessRefused { .. }
            | Refusal::TopicRefused { .. }
            | Refusal::ExclusiveUse(_) => Code::AccessRefused,
            Refusal::Inequivalent { .. }
            | Refusal::InequivalentArgument { .. }
            | Refusal::InvalidArgument { .. }
            | Refusal::InUse(_)
            | Refusal::NotEmpty(_)
            | Refusal::UnknownExchangeType(_)
            | Refusal::InvalidMatch(_)
            | Refusal::InvalidExchange(_)
            | Refusal::InvalidBinding(_)
            | Refusal::InvalidType { .. }
            | Refusal::ForeignArgument { .. }
            | Refusal::InvalidProperty { .. }
            | Refusal::Unfit(_)
            | Refusal::Limit(_) => Code::PreconditionFailed,
            Refusal::Unsupported(_) => Code::NotImplemented,
            Refusal::TooMany(_) | Refusal::VhostNotFound(_) | Refusal::VhostRefused { .. } => Code::NotAllowed,
        };
        let explanation = match &refusal {
            Refusal::InequivalentArgument { received, current, .. } => {
                format!("{refusal}: {}", difference(received.as_ref(), current.as_ref()))
            }
            _ => refusal.to_string(),
        };
        Self::new(code, explanation)
    }
}

/// Two values of an argument. Types are named only where one of them is missing.
fn difference(received: Option<&Value>, current: Option<&Value>) -> String {
    let typed = |value: &Value| format!("the value '{}' of type '{}'", show(value), value.type_name());
    match (received, current) {
        (Some(received), Some(current)) => format!("received '{}' but current is '{}'", show(received), show(current)),
        (Some(received), None) => format!("received {} but current is none", typed(received)),
        (None, Some(current)) => format!("received none but current is {}", typed(current)),
        (None, None) => "received none but current is none".into(),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(v) => v.to_string(),
        _ => match (value.as_integer(), value.as_float()) {
            (Some(integer), _) => integer.to_string(),
            (_, Some(float)) => float.to_string(),
            _ => format!("{value:?}"),
        },
    }
}

impl Exception {
    /// A frame that breaks the rules of framing. `payload` is what is there of it.
    pub fn bad_frame(bad: BadFrame, payload: &[u8]) -> Self {
        let (kind, problem) = match bad {
            BadFrame::TooLarge { kind, len, max } => (kind, format!("{{frame_too_large,{len},{max}}}")),
            BadFrame::BadEnd { kind, found } => (kind, format!("{{invalid_frame_end_marker,{found}}}")),
        };
        let shown = if matches!(bad, BadFrame::TooLarge { .. }) { &[] } else { payload };
        Self::new(Code::FrameError, format!("type {kind}, {}: {problem}", octets(shown)))
    }

    /// A frame that is of no known type, or too short to be what its type says.
    pub fn unknown_frame(kind: u8, payload: &[u8]) -> Self {
        Self::new(Code::FrameError, format!("type {kind}, {}: unknown_frame", octets(payload)))
    }

    /// A frame that has no place here.
    pub fn unexpected_frame(kind: u8, payload: &[u8]) -> Self {
        if !matches!(kind, frame_type::METHOD | frame_type::HEADER | frame_type::BODY | frame_type::HEARTBEAT) {
            return Self::unknown_frame(kind, payload);
        }
        Self::new(Code::UnexpectedFrame, format!("type {kind}, {}", octets(payload)))
    }

    /// A method that cannot be read.
    pub fn bad_method(bad: BadMethod, payload: &[u8]) -> Self {
        match bad {
            BadMethod::Unknown(..) => Self::new(Code::CommandInvalid, "unimplemented method"),
            BadMethod::Malformed(class, method) => {
                let fields = payload.get(4..).unwrap_or_default();
                let explanation = format!("cannot decode {}", erlang_binary(fields));
                Self::new(Code::FrameError, explanation).during((class, method))
            }
            BadMethod::NotUtf8 => Self::new(Code::FrameError, wire::NOT_UTF8.0),
            BadMethod::Truncated => Self::unknown_frame(frame_type::METHOD, payload),
        }
    }
}

/// The first bytes of a payload, as RabbitMQ shows them.
fn octets(payload: &[u8]) -> String {
    let (which, shown) = if payload.len() > 16 { ("first 16", &payload[..16]) } else { ("all", payload) };
    format!("{which} octets = {}", erlang_binary(shown))
}

#[cfg(test)]
mod tests {
    use broker::Resource;

    use super::*;

    #[test]
    fn texts_are_rabbitmqs() {
        let resource = || Resource { kind: "queue", name: "q".into(), vhost: "/".into() };
        let exception = Exception::from(Refusal::NotFound(resource()));
        assert_eq!(exception.text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        let exception = Exception::from(Refusal::InequivalentArgument {
            resource: resource(),
            argument: "x-message-ttl".into(),
            received: Some(Value::I32(1)),
            current: None,
        });
        assert_eq!(
            exception.text(),
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '1' \
             of type 'signedint' but current is none"
        );
    }

    #[test]
    fn long_texts_are_cut_to_what_a_short_string_holds() {
        let text = Exception::new(Code::NotFound, "é".repeat(300)).text();
        assert!(text.len() <= 255 && text.ends_with("..."));
    }
}
