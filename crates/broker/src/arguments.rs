//! The properties and arguments of declarations: which values make sense, and which must be the same when something is
//! declared again. The wording of reasons is RabbitMQ's, because clients show it and some compare it.

use crate::{
    broker::{Caller, QueueDeclaration},
    refusal::{Refusal, Resource},
    rules::age_ms,
    topology::{ExchangeDeclaration, QueueInfo, QueueType},
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
        // RabbitMQ shows names with a dash as it writes atoms with one.
        let shown = |name: &str| if name.contains('-') { format!("'{name}'") } else { name.to_owned() };
        let (received, current) = (shown(received.kind.name()), shown(current.kind.name()));
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

/// What may be wrong with an argument: its text for the client.
type Check = fn(&'static str, &Table) -> Result<(), String>;

/// An argument of queues, and the types that know it.
struct Known {
    name: &'static str,
    types: &'static [QueueType],
    check: Check,
}

const CLASSIC: &[QueueType] = &[QueueType::Classic];
const QUORUM: &[QueueType] = &[QueueType::Quorum];
const STREAM: &[QueueType] = &[QueueType::Stream];
const QUEUES: &[QueueType] = &[QueueType::Classic, QueueType::Quorum];
const ALL: &[QueueType] = &[QueueType::Classic, QueueType::Quorum, QueueType::Stream];

const fn known(name: &'static str, types: &'static [QueueType], check: Check) -> Known {
    Known { name, types, check }
}

/// All arguments that some type of queue knows, in the order in which RabbitMQ checks them. A type refuses what only
/// others know, and what nobody knows is passed over.
const KNOWN: [Known; 29] = [
    known("x-expires", QUEUES, expires),
    known("x-message-ttl", QUEUES, time_to_live),
    known("x-dead-letter-exchange", QUEUES, anything),
    known("x-dead-letter-routing-key", QUEUES, dead_letter_key),
    known("x-dead-letter-strategy", QUORUM, |name, table| one_of(name, table, &STRATEGIES, "invalid_dlx_strategy")),
    known("x-max-length", QUEUES, not_negative),
    known("x-max-length-bytes", ALL, not_negative),
    known("x-max-in-memory-length", QUORUM, not_negative),
    known("x-max-in-memory-bytes", QUORUM, not_negative),
    known("x-max-priority", CLASSIC, max_priority),
    known("x-overflow", QUEUES, |name, table| one_of(name, table, &OVERFLOWS, "invalid_overflow")),
    known("x-queue-mode", CLASSIC, |name, table| supported(name, table, &QUEUE_MODES, "queue mode")),
    known("x-queue-version", CLASSIC, queue_version),
    known("x-single-active-consumer", ALL, boolean),
    known("x-consumer-timeout", ALL, not_negative),
    known("x-consumer-disconnected-timeout", QUORUM, not_negative),
    known("x-quorum-initial-group-size", QUORUM, positive),
    // RabbitMQ does not look at it.
    known("x-delivery-limit", QUORUM, anything),
    known("x-count-attempts", QUORUM, |name, table| supported(name, table, &COUNTED, "choice of attempts")),
    known("x-delayed-retry-type", QUORUM, |name, table| one_of(name, table, &RETRIES, "invalid_delayed_retry_type")),
    known("x-delayed-retry-min", QUORUM, positive),
    known("x-delayed-retry-max", QUORUM, positive),
    known("x-max-age", STREAM, max_age),
    known("x-stream-max-segment-size-bytes", STREAM, not_negative),
    known("x-stream-filter-size-bytes", STREAM, not_negative),
    known("x-initial-cluster-size", STREAM, positive),
    known("x-queue-leader-locator", ALL, |name, table| one_of(name, table, &LOCATORS, "invalid_queue_locator_arg")),
    known("x-queue-master-locator", CLASSIC, anything),
    known("x-durability", ALL, |name, table| supported(name, table, &DURABILITIES, "durability")),
];

const OVERFLOWS: [&str; 3] = ["drop-head", "reject-publish", "reject-publish-dlx"];
const STRATEGIES: [&str; 2] = ["at-most-once", "at-least-once"];
const DURABILITIES: [&str; 2] = ["fsync", "os"];
const COUNTED: [&str; 2] = ["all", "failed"];
const QUEUE_MODES: [&str; 2] = ["default", "lazy"];
const RETRIES: [&str; 4] = ["disabled", "all", "failed", "returned"];
const LOCATORS: [&str; 4] = ["client-local", "balanced", "random", "least-leaders"];

/// The type of a queue by the arguments of its declaration, which have been checked.
pub(crate) fn queue_type(arguments: &Table) -> QueueType {
    arguments.get("x-queue-type").and_then(Value::as_text).and_then(QueueType::parse).unwrap_or_default()
}

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
    equivalent_queue_type(info, &received.arguments)?;
    let known = KNOWN.iter().filter(|known| known.types.contains(&info.queue_type));
    for Known { name, .. } in known {
        equivalent_argument(info.resource(), name, &received.arguments, &info.arguments)?;
    }
    Ok(())
}

/// To name the default type is the same as to name none.
fn equivalent_queue_type(info: &QueueInfo, received: &Table) -> Result<(), Refusal> {
    let named = received.get("x-queue-type").and_then(Value::as_text);
    if named.unwrap_or("classic") == info.queue_type.name() {
        return Ok(());
    }
    let (received, current) = (named.unwrap_or("classic").to_owned(), info.queue_type.name().to_owned());
    Err(Refusal::Inequivalent { resource: info.resource(), property: "x-queue-type", received, current })
}

/// Ten years in milliseconds: the longest time that RabbitMQ takes.
const DURATION_MS_MAX: i64 = 315_360_000_000;

/// Checks what is asked of a new queue.
///
/// # Errors
/// The first argument that is wrong, or that queues of its type do not take; then the first property.
pub(crate) fn check(resource: impl Fn() -> Resource, declaration: &QueueDeclaration) -> Result<(), Refusal> {
    let arguments = &declaration.arguments;
    let invalid = |argument, reason| Refusal::InvalidArgument { resource: resource(), argument, reason };
    check_text(&resource, arguments, "x-dead-letter-exchange")?;
    check_queue_type(arguments).map_err(|reason| invalid("x-queue-type", reason))?;
    let of = queue_type(arguments);
    for Known { name, check, .. } in KNOWN.iter().filter(|known| known.types.contains(&of)) {
        check(name, arguments).map_err(|reason| invalid(name, reason))?;
    }
    for (name, _) in &arguments.0 {
        if KNOWN.iter().any(|known| *known.name == **name && !known.types.contains(&of)) {
            let (resource, argument) = (resource(), name.clone());
            return Err(Refusal::ForeignArgument { resource, argument, queue_type: of.name() });
        }
    }
    if of == QueueType::Stream {
        check_stream_sizes(arguments)?;
    }
    check_properties(resource, declaration, of)
}

/// The longest segment of a stream that RabbitMQ takes, in bytes.
const SEGMENT_BYTES_MAX: i64 = 3_000_000_000;

fn check_stream_sizes(arguments: &Table) -> Result<(), Refusal> {
    let number = |name| arguments.get(name).and_then(Value::as_integer);
    if number("x-stream-max-segment-size-bytes").is_some_and(|bytes| bytes > SEGMENT_BYTES_MAX) {
        return Err(Refusal::Unfit("Exceeded max value for x-stream-max-segment-size-bytes".into()));
    }
    if number("x-stream-filter-size-bytes").is_some_and(|bytes| !(16..=255).contains(&bytes)) {
        return Err(Refusal::Unfit("Invalid value for  x-stream-filter-size-bytes".into()));
    }
    Ok(())
}

/// Quorum queues and streams are shared, durable, and stay.
fn check_properties(
    resource: impl Fn() -> Resource,
    declaration: &QueueDeclaration,
    of: QueueType,
) -> Result<(), Refusal> {
    if !of.is_always_durable() {
        return Ok(());
    }
    let wrong = [
        ("auto-delete", declaration.auto_delete),
        ("exclusive-owner", declaration.exclusive),
        ("non-durable", !declaration.durable),
    ];
    match wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
        Some((property, _)) => Err(Refusal::InvalidProperty { resource: resource(), property }),
        None => Ok(()),
    }
}

/// The arguments of consumers, and the types of queues that take them.
const CONSUMER_KNOWN: [Known; 5] = [
    known("x-priority", QUEUES, integer_only),
    known("x-consumer-timeout", ALL, not_negative),
    known("x-stream-offset", STREAM, anything),
    known("x-stream-filter", STREAM, anything),
    known("x-stream-match-unfiltered", STREAM, anything),
];

/// Checks the arguments of a consumer of a queue of a type.
///
/// # Errors
/// The first argument that is wrong, or that such queues do not take.
pub(crate) fn check_consumer(resource: impl Fn() -> Resource, of: QueueType, arguments: &Table) -> Result<(), Refusal> {
    for Known { name, check, .. } in CONSUMER_KNOWN.iter().filter(|known| known.types.contains(&of)) {
        let invalid = |reason| Refusal::InvalidArgument { resource: resource(), argument: name, reason };
        check(name, arguments).map_err(invalid)?;
    }
    for (name, _) in &arguments.0 {
        if CONSUMER_KNOWN.iter().any(|known| *known.name == **name && !known.types.contains(&of)) {
            let (resource, argument) = (resource(), name.clone());
            return Err(Refusal::ForeignArgument { resource, argument, queue_type: of.name() });
        }
    }
    Ok(())
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

fn check_queue_type(arguments: &Table) -> Result<(), String> {
    match text("x-queue-type", arguments)? {
        Some(kind) if QueueType::parse(kind).is_none() => Err(format!("\"unsupported queue type '{kind}'\"")),
        Some(_) | None => Ok(()),
    }
}

fn anything(_: &'static str, _: &Table) -> Result<(), String> {
    Ok(())
}

fn integer(name: &str, arguments: &Table) -> Result<Option<i64>, String> {
    match arguments.get(name) {
        None => Ok(None),
        Some(value) => match value.as_integer() {
            Some(n) => Ok(Some(n)),
            None => Err(format!("\"expected integer, got {}\"", value.type_name())),
        },
    }
}

fn integer_only(name: &'static str, arguments: &Table) -> Result<(), String> {
    integer(name, arguments).map(|_| ())
}

fn natural(name: &str, arguments: &Table) -> Result<Option<i64>, String> {
    match integer(name, arguments)? {
        Some(n) if n < 0 => Err(format!("{{value_negative,{n}}}")),
        found => Ok(found),
    }
}

fn not_negative(name: &'static str, arguments: &Table) -> Result<(), String> {
    natural(name, arguments).map(|_| ())
}

fn positive(name: &'static str, arguments: &Table) -> Result<(), String> {
    match natural(name, arguments)? {
        Some(0) => Err("{value_zero,0}".into()),
        Some(_) | None => Ok(()),
    }
}

fn time_to_live(name: &'static str, arguments: &Table) -> Result<(), String> {
    match natural(name, arguments)? {
        Some(n) if n > DURATION_MS_MAX => Err(format!("{{value_too_large,{n}}}")),
        Some(_) | None => Ok(()),
    }
}

fn expires(name: &'static str, arguments: &Table) -> Result<(), String> {
    positive(name, arguments)?;
    time_to_live(name, arguments)
}

fn max_priority(name: &'static str, arguments: &Table) -> Result<(), String> {
    match natural(name, arguments)? {
        Some(n) if n > 255 => Err(format!("{{max_value_exceeded,{n}}}")),
        Some(_) | None => Ok(()),
    }
}

fn queue_version(name: &'static str, arguments: &Table) -> Result<(), String> {
    match natural(name, arguments)? {
        Some(n) if n != 1 && n != 2 => Err(format!("\"unsupported queue version '{n}'\"")),
        Some(_) | None => Ok(()),
    }
}

fn boolean(name: &'static str, arguments: &Table) -> Result<(), String> {
    match arguments.get(name) {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(value) => Err(format!("{{unacceptable_type,{}}}", value.type_name())),
    }
}

fn text<'a>(name: &str, arguments: &'a Table) -> Result<Option<&'a str>, String> {
    match arguments.get(name) {
        None => Ok(None),
        Some(value) => match value.as_text() {
            Some(text) => Ok(Some(text)),
            None => Err(format!("{{unacceptable_type,{}}}", value.type_name())),
        },
    }
}

fn one_of(name: &'static str, arguments: &Table, allowed: &[&str], reason: &str) -> Result<(), String> {
    match text(name, arguments)? {
        Some(text) if !allowed.contains(&text) => Err(reason.to_owned()),
        Some(_) | None => Ok(()),
    }
}

fn supported(name: &'static str, arguments: &Table, allowed: &[&str], what: &str) -> Result<(), String> {
    match text(name, arguments)? {
        Some(text) if !allowed.contains(&text) => Err(format!("\"unsupported {what} '{text}'\"")),
        Some(_) | None => Ok(()),
    }
}

fn dead_letter_key(name: &'static str, arguments: &Table) -> Result<(), String> {
    if text(name, arguments)?.is_some() && arguments.get("x-dead-letter-exchange").is_none() {
        return Err("routing_key_but_no_dlx_defined".into());
    }
    Ok(())
}

fn max_age(name: &'static str, arguments: &Table) -> Result<(), String> {
    match text(name, arguments)? {
        Some(text) if age_ms(text).is_none() => Err("invalid_max_age".into()),
        Some(_) | None => Ok(()),
    }
}
