//! The properties and arguments of declarations: which values make sense, and which must be the same when something is
//! declared again. The wording of reasons is RabbitMQ's, because clients show it and some compare it.

use crate::{
    broker::{Caller, QueueDeclaration},
    refusal::{Refusal, Resource},
    topology::{ExchangeDeclaration, QueueInfo},
    value::{Table, Value},
};

fn inequivalent(resource: Resource, property: &'static str, received: bool, current: bool) -> Refusal {
    Refusal::Inequivalent { resource, property, received: received.to_string(), current: current.to_string() }
}

/// Whether an exchange may be declared again like this.
///
/// # Errors
/// The first property or argument that differs.
pub(crate) fn equivalent_exchange(
    resource: Resource,
    received: &ExchangeDeclaration,
    current: &ExchangeDeclaration,
) -> Result<(), Refusal> {
    if received.kind != current.kind {
        let (received, current) = (received.kind.name().into(), current.kind.name().into());
        return Err(Refusal::Inequivalent { resource, property: "type", received, current });
    }
    let properties = [
        ("durable", received.durable, current.durable),
        ("auto_delete", received.auto_delete, current.auto_delete),
        ("internal", received.internal, current.internal),
    ];
    for (property, received, current) in properties {
        if received != current {
            return Err(inequivalent(resource, property, received, current));
        }
    }
    equivalent_argument(resource, "alternate-exchange", &received.arguments, &current.arguments)
}

fn equivalent_argument(resource: Resource, argument: &str, received: &Table, current: &Table) -> Result<(), Refusal> {
    let (received, current) = (received.get(argument), current.get(argument));
    let same = match (received, current) {
        (None, None) => true,
        (Some(a), Some(b)) => a.equivalent(b),
        (Some(_), None) | (None, Some(_)) => false,
    };
    if same {
        return Ok(());
    }
    let (received, current) = (received.cloned(), current.cloned());
    Err(Refusal::InequivalentArgument { resource, argument: argument.into(), received, current })
}

/// Arguments that must be the same when a queue is declared again. Others may differ.
const COMPARED_ARGUMENTS: [&str; 13] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-durability",
];

/// Whether a queue may be declared again like this.
///
/// # Errors
/// [`Refusal::Locked`] if it is exclusive and this is not, or not to this session; else the first property or argument
/// that differs.
pub(crate) fn equivalent_queue(caller: &Caller, info: &QueueInfo, received: &QueueDeclaration) -> Result<(), Refusal> {
    let exclusive = info.owner.is_some();
    if (exclusive && info.owner != Some(caller.session)) || exclusive != received.exclusive {
        return Err(Refusal::Locked(info.resource()));
    }
    let durable = received.durable && !received.exclusive;
    let properties = [("durable", durable, info.durable), ("auto_delete", received.auto_delete, info.auto_delete)];
    for (property, received, current) in properties {
        if received != current {
            return Err(inequivalent(info.resource(), property, received, current));
        }
    }
    for argument in COMPARED_ARGUMENTS {
        if argument == "x-queue-type" {
            equivalent_queue_type(info, &received.arguments)?;
        } else {
            equivalent_argument(info.resource(), argument, &received.arguments, &info.arguments)?;
        }
    }
    Ok(())
}

/// To name the default type is the same as to name none.
fn equivalent_queue_type(info: &QueueInfo, received: &Table) -> Result<(), Refusal> {
    let kind = |table: &Table| table.get("x-queue-type").and_then(Value::as_text).unwrap_or("classic").to_owned();
    if kind(received) == kind(&info.arguments) {
        return Ok(());
    }
    equivalent_argument(info.resource(), "x-queue-type", received, &info.arguments)
}

/// Ten years in milliseconds: the longest time that RabbitMQ takes.
const DURATION_MS_MAX: i64 = 315_360_000_000;

const QUEUE_TYPES: [&str; 3] = ["classic", "quorum", "stream"];
const OVERFLOWS: [&str; 3] = ["drop-head", "reject-publish", "reject-publish-dlx"];
const DURABILITIES: [&str; 2] = ["fsync", "os"];
const QUEUE_MODES: [&str; 2] = ["default", "lazy"];

/// Checks the arguments of a queue whose form is fixed.
///
/// # Errors
/// The first argument that is wrong.
pub(crate) fn check(resource: impl Fn() -> Resource, arguments: &Table) -> Result<(), Refusal> {
    let invalid = |(argument, reason)| Refusal::InvalidArgument { resource: resource(), argument, reason };
    check_text(&resource, arguments, "x-dead-letter-exchange")?;
    check_numbers(arguments).map_err(invalid)?;
    check_texts(arguments).map_err(invalid)
}

/// Checks the arguments of a consumer.
///
/// # Errors
/// The first argument that is wrong.
pub(crate) fn check_consumer(resource: impl Fn() -> Resource, arguments: &Table) -> Result<(), Refusal> {
    match arguments.get("x-priority") {
        Some(value) if value.as_integer().is_none() => {
            let reason = format!("\"expected integer, got {}\"", value.type_name());
            Err(Refusal::InvalidArgument { resource: resource(), argument: "x-priority", reason })
        }
        Some(_) | None => Ok(()),
    }
}

/// Checks the arguments of an exchange.
///
/// # Errors
/// If `alternate-exchange` is no text.
pub(crate) fn check_exchange(resource: impl Fn() -> Resource, arguments: &Table) -> Result<(), Refusal> {
    check_text(resource, arguments, "alternate-exchange")
}

fn check_text(resource: impl Fn() -> Resource, arguments: &Table, argument: &'static str) -> Result<(), Refusal> {
    match arguments.get(argument) {
        None | Some(Value::Text(_)) => Ok(()),
        Some(value) => Err(Refusal::InvalidType { resource: resource(), argument, kind: value.type_name() }),
    }
}

type Wrong = (&'static str, String);

fn check_numbers(arguments: &Table) -> Result<(), Wrong> {
    let integer = |name: &'static str| match arguments.get(name) {
        None => Ok(None),
        Some(value) => match value.as_integer() {
            Some(n) if n < 0 => Err((name, format!("{{value_negative,{n}}}"))),
            Some(n) => Ok(Some(n)),
            None => Err((name, format!("\"expected integer, got {}\"", value.type_name()))),
        },
    };
    for name in ["x-expires", "x-message-ttl"] {
        match integer(name)? {
            Some(0) if name == "x-expires" => return Err((name, "{value_zero,0}".into())),
            Some(n) if n > DURATION_MS_MAX => return Err((name, format!("{{value_too_large,{n}}}"))),
            Some(_) | None => {}
        }
    }
    for name in ["x-max-length", "x-max-length-bytes"] {
        integer(name)?;
    }
    match integer("x-max-priority")? {
        Some(n) if n > 255 => Err(("x-max-priority", format!("{{max_value_exceeded,{n}}}"))),
        Some(_) | None => Ok(()),
    }
}

fn check_texts(arguments: &Table) -> Result<(), Wrong> {
    let text = |name: &'static str| match arguments.get(name) {
        None => Ok(None),
        Some(value) => match value.as_text() {
            Some(text) => Ok(Some(text)),
            None => Err((name, format!("{{unacceptable_type,{}}}", value.type_name()))),
        },
    };
    let one_of = |name, allowed: &[&str], reason: &str| match text(name)? {
        Some(text) if !allowed.contains(&text) => Err((name, reason.to_owned())),
        Some(_) | None => Ok(()),
    };
    one_of("x-overflow", &OVERFLOWS, "invalid_overflow")?;
    let mode = arguments.get("x-queue-mode").and_then(Value::as_text).unwrap_or_default();
    one_of("x-queue-mode", &QUEUE_MODES, &format!("\"unsupported queue mode '{mode}'\""))?;
    let durability = arguments.get("x-durability").and_then(Value::as_text).unwrap_or_default();
    one_of("x-durability", &DURABILITIES, &format!("\"unsupported durability '{durability}'\""))?;
    if let Some(kind) = text("x-queue-type")?
        && !QUEUE_TYPES.contains(&kind)
    {
        return Err(("x-queue-type", format!("\"unsupported queue type '{kind}'\"")));
    }
    if text("x-dead-letter-routing-key")?.is_some() && arguments.get("x-dead-letter-exchange").is_none() {
        return Err(("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined".into()));
    }
    match arguments.get("x-single-active-consumer") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(value) => Err(("x-single-active-consumer", format!("{{unacceptable_type,{}}}", value.type_name()))),
    }
}
