//! The class `basic` but for publishing: consuming, getting, settling, prefetch.

use std::sync::{Arc, atomic::Ordering};

use broker::{
    Attachment, Consumer, ConsumerKey, Event, Name, Outlet, Settlement, Table, Value, broker::Fetch, publish::Batch,
};

use super::{AmqpSession, Stalled, publish::REPLY_TO};
use crate::{
    mapping::{Code, Exception},
    method::{Bits, Method},
    outgoing::{Fetched, Settled, key_of, split_key},
};

impl AmqpSession {
    pub(super) fn consuming_method(&mut self, number: u16, method: Method<'_>) -> Result<(), Exception> {
        // Before a number is given to another consumer.
        self.forget_cancelled();
        match method {
            Method::BasicQos { size, count, bits } => self.qos(number, size, count, bits.get(0)),
            Method::BasicConsume { queue, consumer_tag, bits, arguments, .. } => {
                self.consume(number, queue, consumer_tag, bits, &arguments)
            }
            Method::BasicCancel { consumer_tag, bits } => {
                self.cancel(number, consumer_tag);
                if !bits.get(0) {
                    self.outgoing.send(number, &Method::BasicCancelOk { consumer_tag });
                }
                Ok(())
            }
            // The client's answer to a cancel that had no-wait set: nothing to do.
            Method::BasicCancelOk { .. } => Ok(()),
            Method::BasicGet { queue, bits, .. } => self.get(number, queue, bits.get(0)),
            Method::BasicRecover { bits } => {
                let unsettled = self.recovered(number, bits.get(0))?;
                // First the reply: what goes back may come again at once.
                self.outgoing.send(number, &Method::BasicRecoverOk {});
                self.give_back(number, unsettled);
                Ok(())
            }
            Method::BasicRecoverAsync { bits } => {
                let unsettled = self.recovered(number, bits.get(0))?;
                self.give_back(number, unsettled);
                Ok(())
            }
            _ => Err(Exception::new(Code::CommandInvalid, "unimplemented method")),
        }
    }

    /// Prefetch for the consumers to come, or, with `global`, for all of the channel together: RabbitMQ's meaning, not
    /// the specification's.
    fn qos(&mut self, number: u16, size: u32, count: u16, global: bool) -> Result<(), Exception> {
        if size != 0 {
            return Err(Exception::new(Code::NotImplemented, format!("prefetch_size!=0 ({size})")));
        }
        let outgoing = Arc::clone(&self.outgoing);
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if global {
            let mut state = outgoing.lock();
            let held = state.channel(number).map_or(0, |out| out.count_all());
            channel.credit.set(count.into(), held as u32);
            channel.stats.global_prefetch.store(count.into(), Ordering::Relaxed);
        } else {
            channel.prefetch = count.into();
            channel.stats.prefetch.store(count.into(), Ordering::Relaxed);
        }
        self.outgoing.send(number, &Method::BasicQosOk {});
        if global {
            self.resume_channel(number);
        }
        Ok(())
    }

    fn consume(&mut self, number: u16, queue: &str, tag: &str, bits: Bits, arguments: &Table) -> Result<(), Exception> {
        let [_no_local, no_ack, exclusive, no_wait] = [0, 1, 2, 3].map(|index| bits.get(index));
        if queue == REPLY_TO {
            return self.consume_replies(number, tag, no_ack, no_wait);
        }
        let queue = self.queue_name(number, queue)?;
        let tag = if tag.is_empty() { format!("amq.ctag-{}", self.broker.unique_name()) } else { tag.into() };
        let (Some(caller), outgoing) = (self.caller.clone(), Arc::clone(&self.outgoing)) else { return Ok(()) };
        let id = self.id;
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if channel.consumers.contains_key(tag.as_str()) {
            return Err(Exception::new(Code::NotAllowed, format!("attempt to reuse consumer tag '{tag}'")));
        }
        let (prefetch, shared) = (channel.prefetch, Arc::clone(&channel.credit));
        self.broker.check_readable(&caller, &queue)?;
        let info = self.broker.queue(&caller, &queue)?;
        self.broker.check_consumer_arguments(&info, arguments)?;
        let (start, filter) = self.broker.stream_arguments(&info, arguments)?;
        let source = {
            let mut state = outgoing.lock();
            let Some(out) = state.channel(number) else { return Ok(()) };
            out.add_consumer(&tag, Some(info), no_ack)
        };
        let consumer = Consumer {
            outlet: Arc::clone(&outgoing) as Arc<dyn Outlet>,
            key: key_of(number, source),
            session: id,
            settles_itself: no_ack,
            exclusive,
            single_active: false,
            groups: None,
            priority: arguments.get("x-priority").and_then(Value::as_integer).unwrap_or(0),
            timeout_ms: arguments.get("x-consumer-timeout").and_then(Value::as_integer).map(|ms| ms as u64),
            start,
            filter,
            browses: None,
            prefetch,
            shared,
        };
        let attached = self.broker.consume(&caller, &queue, consumer);
        let mut state = outgoing.lock();
        let out = state.channel(number);
        let attachment = match attached {
            Ok(attachment) => attachment,
            Err(refusal) => {
                if let Some(out) = out {
                    out.close_source(source);
                }
                return Err(refusal.into());
            }
        };
        if let Some(out) = out {
            out.attached(source, attachment.consumer);
        }
        if !no_wait {
            Method::BasicConsumeOk { consumer_tag: &tag }.put(state.output.buffer(), number);
        }
        drop(state);
        if let Some(channel) = self.channel(number) {
            channel.consumers.insert(Name::from(tag), source);
            channel.note_consumers();
        }
        // Only now: the first delivery must not overtake the reply.
        self.broker.resume(&attachment);
        Ok(())
    }

    /// Direct replies: a name that leads straight to this channel, past any queue.
    fn consume_replies(&mut self, number: u16, tag: &str, no_ack: bool, no_wait: bool) -> Result<(), Exception> {
        if !no_ack {
            return Err(Exception::new(Code::PreconditionFailed, "reply consumer cannot acknowledge"));
        }
        let (Some(caller), outgoing) = (self.caller.clone(), Arc::clone(&self.outgoing)) else { return Ok(()) };
        let broker = Arc::clone(&self.broker);
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if channel.replies.is_some() {
            return Err(Exception::new(Code::PreconditionFailed, "reply consumer already set"));
        }
        let tag = if tag.is_empty() { format!("amq.ctag-{}", broker.unique_name()) } else { tag.into() };
        if channel.consumers.contains_key(tag.as_str()) {
            return Err(Exception::new(Code::NotAllowed, format!("attempt to reuse consumer tag '{tag}'")));
        }
        let name = Name::from(format!("{REPLY_TO}.{}", broker.unique_name()));
        let source = {
            let mut state = outgoing.lock();
            let Some(out) = state.channel(number) else { return Ok(()) };
            out.add_consumer(&tag, None, true)
        };
        let outlet = Arc::clone(&outgoing) as Arc<dyn Outlet>;
        let info = broker.open_direct(&caller, &name, outlet, key_of(number, source));
        let mut state = outgoing.lock();
        if let Some(out) = state.channel(number) {
            out.made(source, Arc::clone(&info));
        }
        if !no_wait {
            Method::BasicConsumeOk { consumer_tag: &tag }.put(state.output.buffer(), number);
        }
        drop(state);
        channel.consumers.insert(Name::from(tag), source);
        channel.note_consumers();
        channel.replies = Some((name, info));
        Ok(())
    }

    fn cancel(&mut self, number: u16, tag: &str) {
        let Some(channel) = self.channel(number) else { return };
        let Some(source) = channel.consumers.remove(tag) else { return };
        channel.note_consumers();
        let replies = channel.replies.as_ref().map(|(_, info)| info.id);
        let direct = {
            let mut state = self.outgoing.lock();
            state.channel(number).and_then(|out| out.queue_of(source)).filter(|id| Some(*id) == replies).is_some()
        };
        if direct {
            let replies = self.channel(number).and_then(|channel| channel.replies.take());
            if let (Some((_, info)), Some(caller)) = (replies, &self.caller) {
                self.broker.close_direct(caller, &info);
            }
        }
        self.detach(number, source);
    }

    /// Takes a consumer off its queue. What it has not settled stays with the channel.
    pub(super) fn detach(&mut self, number: u16, source: u32) {
        let attachment = self.attachment(key_of(number, source));
        if let (Some(attachment), Some(caller)) = (attachment, &self.caller) {
            self.broker.cancel(caller, &attachment);
        }
        if let Some(out) = self.outgoing.lock().channel(number) {
            out.close_source(source);
        }
    }

    pub(super) fn attachment(&self, key: ConsumerKey) -> Option<Attachment> {
        let (number, source) = split_key(key);
        self.outgoing.lock().channel(number)?.attachment(source)
    }

    /// A consumer's queue is gone, and so is the consumer.
    pub(super) fn consumer_gone(&mut self, key: ConsumerKey) {
        let (number, source) = split_key(key);
        let notify = self.client.wants_cancels;
        let Some(channel) = self.channel(number) else { return };
        let tag = channel.consumers.iter().find(|(_, other)| **other == source).map(|(tag, _)| tag.clone());
        let Some(tag) = tag else { return };
        channel.consumers.remove(&tag);
        channel.note_consumers();
        if notify {
            self.outgoing.send(number, &Method::BasicCancel { consumer_tag: &tag, bits: Bits::of([true]) });
        }
        if let Some(out) = self.outgoing.lock().channel(number) {
            out.close_source(source);
        }
    }

    pub(super) fn resume_consumer(&mut self, key: ConsumerKey) {
        if let Some(attachment) = self.attachment(key) {
            self.broker.resume(&attachment);
        }
    }

    /// The channel's shared credit has room again: consumers on any queue may use it.
    fn resume_channel(&mut self, number: u16) {
        let Some(channel) = self.channel(number) else { return };
        let sources: Vec<u32> = channel.consumers.values().copied().collect();
        for source in sources {
            self.resume_consumer(key_of(number, source));
        }
    }

    pub(super) fn get(&mut self, number: u16, queue: &str, no_ack: bool) -> Result<(), Exception> {
        let queue = self.queue_name(number, queue)?;
        let Some(caller) = self.caller.clone() else { return Ok(()) };
        let broker::broker::Fetched { queue: info, slot, queued, attempts, left } =
            match self.broker.fetch(&caller, &queue, no_ack)? {
                Fetch::Message(fetched) => fetched,
                Fetch::Empty => {
                    self.outgoing.lock().count(number, Event::GetEmpty, 1);
                    self.outgoing.send(number, &Method::BasicGetEmpty { reserved_1: "" });
                    return Ok(());
                }
                Fetch::Loading => {
                    self.stalled = Some(Stalled::Get { channel: number, queue: queue.as_str().into(), no_ack });
                    return Ok(());
                }
            };
        let fetched = Fetched {
            queue: &info,
            held: (!no_ack).then_some((slot, queued.record)),
            redelivered: queued.returns.any(),
            attempts,
            left: left as u32,
            message: &queued.message.view(),
        };
        self.outgoing.lock().put_get_ok(number, &fetched);
        Ok(())
    }

    /// Everything that the channel has not settled, to be given back.
    fn recovered(&mut self, number: u16, requeue: bool) -> Result<Vec<Settled>, Exception> {
        if !requeue {
            return Err(Exception::new(Code::NotImplemented, "requeue=false"));
        }
        Ok(self.outgoing.lock().channel(number).map(|out| out.settle_all()).unwrap_or_default())
    }

    fn give_back(&mut self, number: u16, unsettled: Vec<Settled>) {
        self.give_credit(number, &unsettled);
        self.requeue(unsettled, Settlement::Requeue);
    }

    /// `basic.ack`, `basic.nack` and `basic.reject`.
    pub(super) fn settle(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        how: Settlement,
        batch: &mut Batch<'_>,
    ) -> Result<(), Exception> {
        let taken = {
            let mut state = self.outgoing.lock();
            let Some(out) = state.channel(number) else { return Ok(()) };
            if multiple { out.settle_up_to(tag) } else { out.settle(tag).map(|one| vec![one]) }
        };
        let unknown = || Exception::new(Code::PreconditionFailed, format!("unknown delivery tag {tag}"));
        let taken = taken.ok_or_else(unknown)?;
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if how == Settlement::Accept {
            channel.stats.traffic.add(Event::Acknowledge, taken.len() as u64);
        }
        if let Some(transaction) = &mut channel.transaction {
            channel.stats.uncommitted_acks.fetch_add(taken.len() as u32, Ordering::Relaxed);
            transaction.settle(taken, how);
            return Ok(());
        }
        for one in &taken {
            let how = if one.revoked { Settlement::Late } else { how };
            batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
        }
        if taken.iter().any(|one| one.counted) {
            self.apply(batch);
            self.give_credit(number, &taken);
        }
        Ok(())
    }

    /// Gives back what deliveries took of the channel's shared credit.
    pub(super) fn give_credit(&mut self, number: u16, settled: &[Settled]) {
        let counted = settled.iter().filter(|one| one.counted).count() as u32;
        let Some(channel) = self.channel(number) else { return };
        if counted > 0 {
            channel.credit.give(counted);
            self.resume_channel(number);
        }
    }
}
