//! The classes `exchange` and `queue`.

use broker::{
    BindingRequest, DeleteRule, End, ExchangeDeclaration, ExchangeKind, Name, Position, QueueDeclaration, Refusal,
    Table, Value, broker::Caller,
};

use super::{AmqpSession, publish::REPLY_TO};
use crate::{
    mapping::{Code, Exception},
    method::{Bits, Method},
};

impl AmqpSession {
    pub(super) fn topology_method(&mut self, number: u16, method: Method<'_>) -> Result<(), Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        let broker = &self.broker;
        match method {
            Method::ExchangeDeclare { exchange, kind, bits, arguments, .. } => {
                let position = self.declare_exchange(&caller, exchange, kind, bits, arguments)?;
                self.answer(number, bits.get(4), position, &Method::ExchangeDeclareOk {});
            }
            Method::ExchangeDelete { exchange, bits, .. } => {
                let rule = DeleteRule { if_unused: bits.get(0), if_empty: false };
                let position = broker.delete_exchange(&caller, &clean(exchange), rule)?;
                self.answer(number, bits.get(1), position, &Method::ExchangeDeleteOk {});
            }
            Method::ExchangeBind { destination, source, routing_key: key, bits, arguments, .. } => {
                let destination = End::Exchange(destination);
                let position = broker.bind(&caller, BindingRequest { source, destination, key, arguments })?;
                self.answer(number, bits.get(0), position, &Method::ExchangeBindOk {});
            }
            Method::ExchangeUnbind { destination, source, routing_key: key, bits, arguments, .. } => {
                let destination = End::Exchange(destination);
                let position = broker.unbind(&caller, BindingRequest { source, destination, key, arguments })?;
                self.answer(number, bits.get(0), position, &Method::ExchangeUnbindOk {});
            }
            Method::QueueDeclare { queue, bits, arguments, .. } => {
                self.declare_queue(number, &caller, queue, bits, arguments)?;
            }
            Method::QueueBind { queue, exchange: source, routing_key, bits, arguments, .. } => {
                let (queue, key) = self.binding_names(number, queue, routing_key)?;
                let request = BindingRequest { source, destination: End::Queue(&queue), key: &key, arguments };
                let position = self.broker.bind(&caller, request)?;
                self.answer(number, bits.get(0), position, &Method::QueueBindOk {});
            }
            Method::QueueUnbind { queue, exchange: source, routing_key, arguments, .. } => {
                let (queue, key) = self.binding_names(number, queue, routing_key)?;
                let request = BindingRequest { source, destination: End::Queue(&queue), key: &key, arguments };
                let position = self.broker.unbind(&caller, request)?;
                self.answer(number, false, position, &Method::QueueUnbindOk {});
            }
            Method::QueuePurge { queue, bits, .. } => {
                let queue = self.queue_name(number, queue)?;
                let (messages, position) = self.broker.purge(&caller, &queue)?;
                let messages = messages as u32;
                self.answer(number, bits.get(0), position, &Method::QueuePurgeOk { messages });
            }
            Method::QueueDelete { queue, bits, .. } => self.delete_queue(number, &caller, queue, bits)?,
            _ => return Err(Exception::new(Code::CommandInvalid, "unimplemented method")),
        }
        Ok(())
    }

    /// Replies when the change is safe, unless the client does not want to wait.
    fn answer(&mut self, number: u16, no_wait: bool, position: Position, reply: &Method<'_>) {
        if !no_wait {
            self.reply_when_safe(position, number, reply);
        }
    }

    fn declare_exchange(
        &self,
        caller: &Caller,
        name: &str,
        kind: &str,
        bits: Bits,
        arguments: Table,
    ) -> Result<Position, Exception> {
        let [passive, durable, auto_delete, internal] = [0, 1, 2, 3].map(|index| bits.get(index));
        let name = clean(name);
        if passive {
            self.broker.check_exchange(caller, &name)?;
            return Ok(Position(0));
        }
        let kind = ExchangeKind::parse(kind)?;
        let declaration = ExchangeDeclaration { kind, durable, auto_delete, internal, arguments };
        Ok(self.broker.declare_exchange(caller, &name, declaration)?)
    }

    fn declare_queue(
        &mut self,
        number: u16,
        caller: &Caller,
        name: &str,
        bits: Bits,
        arguments: Table,
    ) -> Result<(), Exception> {
        let [passive, durable, exclusive, auto_delete, no_wait] = [0, 1, 2, 3, 4].map(|index| bits.get(index));
        let name = clean(name);
        if name == REPLY_TO {
            // It is no queue, but clients declare it like one.
            let reply = Method::QueueDeclareOk { queue: REPLY_TO, messages: 0, consumers: 1 };
            self.answer(number, no_wait, Position(0), &reply);
            return Ok(());
        }
        let (info, position) = if passive {
            let info = self.broker.queue(caller, &name)?;
            self.broker.use_queue(&info);
            (info, Position(0))
        } else {
            let queue_type = arguments.get("x-queue-type").and_then(Value::as_text).unwrap_or_default();
            if name.is_empty() && matches!(queue_type, "quorum" | "stream") {
                let text = format!("Cannot declare a server-named queue for type rabbit_{queue_type}_queue");
                return Err(Exception::new(Code::PreconditionFailed, text));
            }
            let name = if name.is_empty() { format!("amq.gen-{}", self.broker.unique_name()) } else { name };
            if !name.starts_with("amq.gen-") {
                self.broker.check_queue_name(caller, &name)?;
            }
            let declaration = QueueDeclaration { durable, exclusive, auto_delete, arguments };
            self.broker.declare_queue(caller, &name, declaration)?
        };
        if let Some(channel) = self.channel(number) {
            channel.last_queue = Some(info.name.clone());
        }
        let counts = self.broker.counts(&info);
        let (messages, consumers) = (counts.ready as u32, counts.consumers as u32);
        self.answer(number, no_wait, position, &Method::QueueDeclareOk { queue: &info.name, messages, consumers });
        Ok(())
    }

    fn delete_queue(&mut self, number: u16, caller: &Caller, name: &str, bits: Bits) -> Result<(), Exception> {
        let queue = self.queue_name(number, name)?;
        let rule = DeleteRule { if_unused: bits.get(0), if_empty: bits.get(1) };
        let (messages, position) = match self.broker.delete_queue(caller, &queue, rule) {
            Ok((messages, position)) => (messages as u32, position),
            // To delete what is not there is no error (RabbitMQ since 3.2).
            Err(Refusal::NotFound(_)) => (0, Position(0)),
            Err(refusal) => return Err(refusal.into()),
        };
        self.answer(number, bits.get(2), position, &Method::QueueDeleteOk { messages });
        Ok(())
    }

    /// A queue's name, or that of the queue declared last if it is left out.
    pub(super) fn queue_name(&mut self, number: u16, name: &str) -> Result<Name, Exception> {
        if !name.is_empty() {
            return Ok(clean(name).into());
        }
        let last = self.channel(number).and_then(|channel| channel.last_queue.clone());
        last.ok_or_else(|| Exception::new(Code::NotFound, "no previously declared queue"))
    }

    /// The queue and key of a binding. If both are left out, the queue declared last stands for both.
    fn binding_names(&mut self, number: u16, queue: &str, key: &str) -> Result<(Name, Name), Exception> {
        let name = self.queue_name(number, queue)?;
        if name.starts_with(REPLY_TO) {
            let text = "cannot bind or unbind to a volatile (direct reply-to) queue";
            return Err(Exception::new(Code::AccessRefused, text));
        }
        let key = if queue.is_empty() && key.is_empty() { name.clone() } else { key.into() };
        Ok((name, key))
    }
}

/// Line breaks are taken out of names, as RabbitMQ does.
fn clean(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}
