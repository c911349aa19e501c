//! Queues and exchanges with arguments. What a server refuses is `Error::Refused`: it does not have it.

use crate::connection::Connection;
use crate::error::Error;
use crate::options::Options;
use crate::wire::{Arguments, Method};

const DURABLE: u8 = 1 << 1;

/// A durable queue of the type that the command line asks for; `arguments` writes into its table.
pub(crate) fn queue(
    connection: &mut Connection,
    options: &Options,
    name: &str,
    arguments: impl FnOnce(&mut Arguments<'_>),
) -> Result<(), Error> {
    let queue_type = options.queue_type.as_deref();
    let declared = connection.call(Method::QUEUE_DECLARE, Method::QUEUE_DECLARE_OK, |out| {
        queue_arguments(out, queue_type, name, arguments);
    });
    declared.map_err(Error::refused)
}

/// Durable queues of that type without arguments of their own.
pub(crate) fn queues(connection: &mut Connection, options: &Options, names: &[String]) -> Result<(), Error> {
    let queue_type = options.queue_type.as_deref();
    let declared = connection.call_each(Method::QUEUE_DECLARE, Method::QUEUE_DECLARE_OK, names, |name, out| {
        queue_arguments(out, queue_type, name, |_| ());
    });
    declared.map_err(Error::refused)
}

fn queue_arguments(
    out: &mut Arguments<'_>,
    queue_type: Option<&str>,
    name: &str,
    arguments: impl FnOnce(&mut Arguments<'_>),
) {
    out.short(0).short_text(name).octet(DURABLE).table(|table| {
        if let Some(queue_type) = queue_type {
            table.text_field("x-queue-type", queue_type);
        }
        arguments(table);
    });
}

/// A durable exchange.
pub(crate) fn exchange(
    connection: &mut Connection,
    name: &str,
    exchange_type: &str,
    arguments: impl FnOnce(&mut Arguments<'_>),
) -> Result<(), Error> {
    let declared = connection.call(Method::EXCHANGE_DECLARE, Method::EXCHANGE_DECLARE_OK, |out| {
        out.short(0).short_text(name).short_text(exchange_type).octet(DURABLE).table(arguments);
    });
    declared.map_err(Error::refused)
}

/// Binds a queue to `exchange` for each pair of its name and a routing key.
pub(crate) fn bindings(connection: &mut Connection, exchange: &str, pairs: &[(&str, String)]) -> Result<(), Error> {
    connection.call_each(Method::QUEUE_BIND, Method::QUEUE_BIND_OK, pairs, |(queue, key), out| {
        out.short(0).short_text(queue).short_text(exchange).short_text(key).octet(0).table(|_| ());
    })
}
