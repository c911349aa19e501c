//! A channel: opening and closing it, and handing its frames to where they belong.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

use broker::{Credit, Name, QueueInfo, Route, Settlement, publish::Batch};

use super::{AmqpSession, Failure, content::Content, transaction::Transaction};
use crate::{
    mapping::{Code, Exception},
    method::{Bits, Method},
    outgoing::Settled,
    wire::{Frame, frame_type},
};

/// A channel as the session knows it. What concerns its deliveries is in [`crate::outgoing`].
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// The channel as operators see it.
    pub(super) stats: Arc<broker::Channel>,
    /// `channel.close` was sent; all but its answer is ignored.
    pub(super) closing: bool,
    /// A message whose frames have not all come.
    pub(super) content: Option<Content>,
    /// Consumers by tag: the source of their deliveries in the outgoing channel.
    pub(super) consumers: BTreeMap<Name, u32>,
    /// The number of the last publish, once the client wants confirms.
    pub(super) confirms: Option<u64>,
    pub(super) transaction: Option<Transaction>,
    /// Frames that are held back; see [`super::alarm`].
    pub(super) held: Vec<u8>,
    /// Unsettled deliveries allowed to each consumer to come.
    pub(super) prefetch: u32,
    /// Unsettled deliveries allowed to all consumers together.
    pub(super) credit: Arc<Credit>,
    /// The queue declared last, for methods that leave out a name.
    pub(super) last_queue: Option<Name>,
    /// The consumer of direct replies: its name for repliers, and what stands behind it.
    pub(super) replies: Option<(Name, Arc<QueueInfo>)>,
    /// The route used last, and others by exchange and routing key.
    pub(super) last_route: Option<(Box<[u8]>, Arc<Route>)>,
    pub(super) routes: HashMap<Box<[u8]>, Arc<Route>>,
}

impl Channel {
    /// Tells operators how many consumers there are.
    pub(super) fn note_consumers(&self) {
        self.stats.consumers.store(self.consumers.len() as u32, Ordering::Relaxed);
    }
}

/// How a channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client is told, and must answer before it can use the number again.
    Closing,
    /// At once.
    Closed,
}

impl AmqpSession {
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(number as usize)?.as_deref_mut()
    }

    /// A frame on a channel of an open connection. Returns how many bytes of the input were used.
    pub(super) fn channel_frame<'i>(
        &mut self,
        frame: Frame<'i>,
        input: &'i [u8],
        batch: &mut Batch<'i>,
    ) -> Result<usize, Failure> {
        let number = frame.channel;
        let fail = |exception| Failure { channel: number, exception };
        let Some(channel) = self.channel(number) else {
            return self.unopened_frame(frame).map(|()| frame.len()).map_err(fail);
        };
        if channel.closing {
            self.closing_channel_frame(frame);
            return Ok(frame.len());
        }
        if self.hold_back(frame, input) {
            return Ok(frame.len());
        }
        let Some(channel) = self.channel(number) else { return Ok(frame.len()) };
        if matches!(frame.kind, frame_type::HEADER | frame_type::BODY) {
            self.content_frame(frame, batch).map_err(fail)?;
            return Ok(frame.len());
        }
        if frame.kind != frame_type::METHOD {
            return Err(fail(Exception::unexpected_frame(frame.kind, frame.payload)));
        }
        if let Some(content) = &channel.content {
            return Err(fail(content.interrupted()));
        }
        if frame.payload.starts_with(&[0, 60, 0, 40]) {
            return self.publish_frame(frame, input, batch).map_err(fail);
        }
        let method = Method::read(frame.payload).map_err(|bad| fail(Exception::bad_method(bad, frame.payload)))?;
        let id = method.id();
        self.channel_method(number, method, batch).map_err(|exception| {
            let during = if exception.method == (0, 0) { id } else { exception.method };
            fail(exception.during(during))
        })?;
        Ok(frame.len())
    }

    fn channel_method(&mut self, number: u16, method: Method<'_>, batch: &mut Batch<'_>) -> Result<(), Exception> {
        // Settlements gather; before everything else the batch must be applied, or the order would be lost.
        match method {
            Method::BasicAck { delivery_tag, bits } => {
                return self.settle(number, delivery_tag, bits.get(0), Settlement::Accept, batch);
            }
            Method::BasicNack { delivery_tag, bits } => {
                return self.settle(number, delivery_tag, bits.get(0), returned(bits.get(1)), batch);
            }
            Method::BasicReject { delivery_tag, bits } => {
                // A rejected delivery counts as a failed attempt; one that is handed back does not.
                let how = if bits.get(0) { Settlement::Fail } else { Settlement::Reject };
                return self.settle(number, delivery_tag, false, how, batch);
            }
            _ => self.apply(batch),
        }
        match method {
            Method::ChannelOpen { .. } => Err(Exception::new(Code::ChannelError, "second 'channel.open' seen")),
            Method::ChannelClose { .. } => {
                self.end_channel(number, Ending::Closed);
                self.outgoing.send(number, &Method::ChannelCloseOk {});
                Ok(())
            }
            Method::ChannelCloseOk {} => Ok(()),
            Method::ChannelFlow { bits } if bits.get(0) => {
                self.outgoing.send(number, &Method::ChannelFlowOk { bits });
                Ok(())
            }
            Method::ChannelFlow { .. } => Err(Exception::new(Code::NotImplemented, "active=false")),
            Method::AccessRequest { .. } => {
                self.outgoing.send(number, &Method::AccessRequestOk { ticket: 1 });
                Ok(())
            }
            Method::ConfirmSelect { bits } => self.confirm_select(number, bits),
            Method::TxSelect {} => self.tx_select(number),
            Method::TxCommit {} => self.tx_commit(number),
            Method::TxRollback {} => self.tx_rollback(number),
            method if matches!(method.id().0, 40 | 50) => self.topology_method(number, method),
            method => self.consuming_method(number, method),
        }
    }

    fn confirm_select(&mut self, number: u16, bits: Bits) -> Result<(), Exception> {
        let Some(channel) = self.channel(number) else { return Ok(()) };
        if channel.transaction.is_some() {
            return Err(Exception::new(Code::PreconditionFailed, "cannot switch from tx to confirm mode"));
        }
        channel.confirms.get_or_insert(0);
        channel.stats.confirms.store(true, Ordering::Relaxed);
        if !bits.get(0) {
            self.outgoing.send(number, &Method::ConfirmSelectOk {});
        }
        Ok(())
    }

    /// A frame on a channel that is not open: only `channel.open` has a place there.
    fn unopened_frame(&mut self, frame: Frame<'_>) -> Result<(), Exception> {
        let number = frame.channel;
        if number > self.channel_max && self.channel_max != 0 {
            let (open, max) = (self.channels_open, self.channel_max);
            let text = format!("number of channels opened ({open}) has reached the negotiated channel_max ({max})");
            return Err(Exception::new(Code::NotAllowed, text));
        }
        if frame.kind != frame_type::METHOD {
            return Err(Exception::unexpected_frame(frame.kind, frame.payload));
        }
        match Method::read(frame.payload) {
            Ok(Method::ChannelOpen { .. }) => {}
            // What crosses with a close that the client already answered.
            Ok(Method::ChannelCloseOk {}) => return Ok(()),
            Ok(method) => {
                return Err(Exception::new(Code::ChannelError, "expected 'channel.open'").during(method.id()));
            }
            Err(bad) => return Err(Exception::bad_method(bad, frame.payload)),
        }
        if let Some(caller) = &self.caller {
            self.broker.open_channel(caller)?;
        }
        let index = number as usize;
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, || None);
        }
        let opened = self.connection.as_ref().map(|connection| connection.open_channel(number));
        let stats = opened.unwrap_or_default();
        self.channels[index] = Some(Box::new(Channel { stats: Arc::clone(&stats), ..Channel::default() }));
        self.channels_open += 1;
        let mut outgoing = self.outgoing.lock();
        outgoing.open_channel(number, stats);
        Method::ChannelOpenOk { reserved_1: b"" }.put(outgoing.output.buffer(), number);
        Ok(())
    }

    fn closing_channel_frame(&mut self, frame: Frame<'_>) {
        if frame.kind != frame_type::METHOD {
            return;
        }
        match Method::read(frame.payload) {
            Ok(Method::ChannelCloseOk {}) => self.remove_channel(frame.channel),
            Ok(Method::ChannelClose { .. }) => {
                self.remove_channel(frame.channel);
                self.outgoing.send(frame.channel, &Method::ChannelCloseOk {});
            }
            _ => {}
        }
    }

    fn remove_channel(&mut self, number: u16) {
        if let Some(place) = self.channels.get_mut(number as usize)
            && place.take().is_some()
        {
            self.channels_open -= 1;
            if let Some(caller) = &self.caller {
                self.broker.close_channel(caller);
            }
            if let Some(connection) = &self.connection {
                connection.close_channel(number);
            }
        }
    }

    /// Ends a channel: its consumers go, and what they held goes back to its place.
    pub(super) fn end_channel(&mut self, number: u16, ending: Ending) {
        let Some(channel) = self.channel(number) else { return };
        let consumers = std::mem::take(&mut channel.consumers);
        let replies = channel.replies.take();
        let pending = channel.transaction.take().map(Transaction::into_settled).unwrap_or_default();
        let held = std::mem::take(&mut channel.held).len();
        let unfinished = channel.content.take().map_or(0, |content| content.unfinished_bytes());
        channel.closing = true;
        self.unfinished_bytes -= unfinished;
        self.held_bytes -= held;
        for source in consumers.into_values() {
            self.detach(number, source);
        }
        if let (Some((_, info)), Some(caller)) = (replies, &self.caller) {
            self.broker.close_direct(caller, &info);
        }
        let mut unsettled = self.outgoing.lock().close_channel(number);
        unsettled.extend(pending);
        self.requeue(unsettled, Settlement::Fail);
        self.unconfirmed.retain(|unconfirmed| unconfirmed.channel != number);
        if ending == Ending::Closed {
            self.remove_channel(number);
        }
    }

    /// Gives deliveries back to their queues.
    pub(super) fn requeue(&mut self, settled: Vec<Settled>, how: Settlement) {
        let mut batch = Batch::default();
        for one in &settled {
            let how = if one.revoked { Settlement::Late } else { how };
            batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
        }
        if !batch.is_empty() {
            self.broker.apply(&mut batch);
        }
    }
}

fn returned(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Reject }
}
