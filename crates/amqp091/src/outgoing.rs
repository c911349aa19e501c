//! A connection's output: replies and deliveries in one order, and what the client has not settled yet.
//!
//! Publishers on other connections encode their messages straight into this buffer, under its lock.

use std::{collections::VecDeque, sync::Arc, task::Waker};

use broker::{
    Attachment, Attempts, Channel, Codecs, Connection, ConsumerId, ConsumerKey, Delivery, Event, MessageView, Name,
    Outlet, Output, Position, Pressure, QueueId, QueueInfo, Table, Value, limits, message::OWN, outlet::Chunks,
};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    method::{Bits, Method},
    properties::Properties,
    wire::{FRAME_END, FRAME_OVERHEAD, frame_type, put_shortstr},
};

/// A connection's output.
#[derive(Debug, Default)]
pub struct Outgoing {
    state: Mutex<OutgoingState>,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub struct OutgoingState {
    /// Bytes on their way to the client.
    pub output: Output,
    /// The longest frame that the client takes, in bytes.
    pub frame_max: usize,
    channels: Vec<Option<Box<ChannelOut>>>,
    /// Consumers whose queue is gone, for the session to forget.
    pub cancelled: Vec<ConsumerKey>,
    /// Consumers that get nothing until the output has drained.
    pub pressed: Vec<ConsumerKey>,
    /// What other protocols' properties mean.
    pub codecs: Codecs,
    /// The connection as operators see it, once its client is in.
    pub connection: Option<Arc<Connection>>,
}

/// A message of another protocol, as this one has it.
struct Translated {
    routing_key: String,
    properties: Vec<u8>,
}

impl Translated {
    fn view<'a>(&'a self, message: &MessageView<'a>) -> MessageView<'a> {
        let (routing_key, properties) = (self.routing_key.as_str(), self.properties.as_slice());
        MessageView { routing_key, properties, origin: crate::ORIGIN, ..*message }
    }
}

/// A channel's deliveries.
#[derive(Debug, Default)]
pub struct ChannelOut {
    /// The channel as operators see it.
    stats: Arc<Channel>,
    last_tag: u64,
    /// By delivery tag. Settled ones in the middle stay as gaps until they reach the front.
    unsettled: VecDeque<Unsettled>,
    gaps: usize,
    sources: Vec<Option<Source>>,
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug)]
pub struct Unsettled {
    tag: u64,
    slot: u64,
    record: Position,
    source: u32,
    counted: bool,
    settled: bool,
    /// Whether it was taken back because it was not settled in time.
    revoked: bool,
}

/// Where deliveries come from: a consumer, or single gets from a queue.
#[derive(Debug)]
struct Source {
    /// The queue; none while the name for direct replies is being made.
    queue: Option<Arc<QueueInfo>>,
    consumer: Option<ConsumerOut>,
    unsettled: usize,
    /// Whether more can come. A closed source stays while something of it is unsettled.
    open: bool,
    consumer_id: Option<ConsumerId>,
}

#[derive(Debug)]
struct ConsumerOut {
    /// The start of each of its deliveries: the method frame from after its length up to the delivery tag.
    prefix: Box<[u8]>,
    settles_itself: bool,
}

/// A settled delivery, with what the broker needs to know of it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer that it went to, if it was one.
    pub consumer: Option<ConsumerId>,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether it counted against the channel's credit.
    pub counted: bool,
    /// Whether the broker has taken it back already.
    pub revoked: bool,
    /// As it stood among the unsettled, to be put back by a rollback.
    pub unsettled: Unsettled,
}

/// The outlet's key of a channel's consumer.
pub fn key_of(channel: u16, source: u32) -> ConsumerKey {
    ConsumerKey(u64::from(channel) << 32 | u64::from(source))
}

/// The channel and source of a key.
pub fn split_key(key: ConsumerKey) -> (u16, u32) {
    ((key.0 >> 32) as u16, key.0 as u32)
}

impl Outgoing {
    /// Locks the output. Never held while calling the broker.
    pub fn lock(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock()
    }

    /// Appends a method.
    pub fn send(&self, channel: u16, method: &Method<'_>) {
        method.put(self.lock().output.buffer(), channel);
    }
}

impl OutgoingState {
    /// A message as this protocol has it, if it is another's.
    fn translated(&self, message: &MessageView<'_>) -> Option<Translated> {
        if [crate::ORIGIN, OWN].contains(&message.origin) {
            return None;
        }
        let codec = self.codecs.of(message.origin);
        let mut table = codec.map_or_else(Table::default, |codec| codec.table(message.properties));
        if let Some(due) = message.due {
            table.push("expiration", due.0.saturating_sub(message.arrived.0).to_string().as_str().into());
        }
        let routing_key = self.codecs.routing_key(message).into_owned();
        Some(Translated { routing_key, properties: Properties::of_table(&table) })
    }

    /// A channel begins.
    pub fn open_channel(&mut self, channel: u16, stats: Arc<Channel>) {
        let index = channel as usize;
        if index >= self.channels.len() {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(Box::new(ChannelOut { stats, ..ChannelOut::default() }));
    }

    /// A channel ends. Returns what was not settled.
    pub fn close_channel(&mut self, channel: u16) -> Vec<Settled> {
        let closed = self.channels.get_mut(channel as usize).and_then(Option::take);
        self.cancelled.retain(|key| split_key(*key).0 != channel);
        closed.map(|mut channel| channel.settle_all()).unwrap_or_default()
    }

    /// A channel's deliveries.
    pub fn channel(&mut self, channel: u16) -> Option<&mut ChannelOut> {
        self.channels.get_mut(channel as usize)?.as_deref_mut()
    }

    /// Counts something that concerns a channel.
    pub fn count(&mut self, channel: u16, event: Event, number: u64) {
        if let Some(channel) = self.channel(channel) {
            channel.stats.traffic.add(event, number);
        }
    }

    /// Appends the answer to a get.
    pub fn put_get_ok(&mut self, channel: u16, fetched: &Fetched<'_>) {
        let Some(state) = self.channel(channel) else { return };
        let tag = state.next_tag();
        state.stats.traffic.add(if fetched.held.is_some() { Event::Get } else { Event::GetNoAck }, 1);
        state.stats.traffic.add(Event::Redeliver, fetched.redelivered.into());
        if let Some((slot, record)) = fetched.held {
            let source = state.get_source(fetched.queue);
            state.push(Unsettled { tag, slot, record, source, counted: false, settled: false, revoked: false });
        }
        let translated = self.translated(fetched.message);
        let message = &translated.as_ref().map_or(*fetched.message, |translated| translated.view(fetched.message));
        let bits = Bits::of([fetched.redelivered]);
        let (exchange, routing_key, messages) = (message.exchange, message.routing_key, fetched.left);
        let method = Method::BasicGetOk { delivery_tag: tag, bits, exchange, routing_key, messages };
        method.put(self.output.buffer(), channel);
        self.put_content(channel, message, Told { attempts: fetched.attempts, offset: None });
    }

    /// Appends a returned message.
    pub fn put_return(&mut self, channel: u16, message: &MessageView<'_>) {
        let (exchange, routing_key) = (message.exchange, message.routing_key);
        let method = Method::BasicReturn { code: 312, text: "NO_ROUTE", exchange, routing_key };
        method.put(self.output.buffer(), channel);
        self.put_content(channel, message, Told::default());
    }

    /// Appends header and body frames.
    fn put_content(&mut self, channel: u16, message: &MessageView<'_>, told: Told) {
        let [c0, c1] = channel.to_be_bytes();
        let mut properties = if message.origin == OWN { &[0, 0][..] } else { message.properties };
        let annotated = annotated(properties, message, told);
        if let Some(annotated) = &annotated {
            properties = annotated;
        }
        let out = self.output.buffer();
        let [l0, l1, l2, l3] = (12 + properties.len() as u32).to_be_bytes();
        out.extend_from_slice(&[frame_type::HEADER, c0, c1, l0, l1, l2, l3, 0, 60, 0, 0]);
        out.extend_from_slice(&(message.payload.len() as u64).to_be_bytes());
        out.extend_from_slice(properties);
        out.push(FRAME_END);
        for part in message.payload.chunks(self.frame_max - FRAME_OVERHEAD) {
            let [l0, l1, l2, l3] = (part.len() as u32).to_be_bytes();
            self.output.buffer().extend_from_slice(&[frame_type::BODY, c0, c1, l0, l1, l2, l3]);
            self.output.payload(part, message.block);
            self.output.buffer().push(FRAME_END);
        }
    }
}

/// What a delivery tells of a message, besides what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    attempts: Attempts,
    offset: Option<u64>,
}

/// The properties with what the broker adds; nothing if it adds nothing.
fn annotated(properties: &[u8], message: &MessageView<'_>, told: Told) -> Option<Vec<u8>> {
    if message.annotations.is_empty() && told == Told::default() {
        return None;
    }
    if let (Some(offset), true) = (told.offset, message.annotations.is_empty())
        && let Some(quick) = Properties::with_stream_offset(properties, offset)
    {
        return Some(quick);
    }
    if told == Told::default()
        && message.origin == crate::ORIGIN
        && let Some(quick) = Properties::quickly_annotated(properties, message.annotations)
    {
        return Some(quick);
    }
    let mut annotations = message.annotation_table();
    if message.origin == OWN {
        return Some(Properties::of_headers(&annotations));
    }
    let Attempts { acquired, failed } = told.attempts;
    let counts = [
        ("x-acquired-count", u64::from(acquired)),
        ("x-delivery-count", u64::from(failed)),
        ("x-stream-offset", told.offset.map_or(0, |offset| offset)),
    ];
    for (name, count) in counts {
        if count > 0 || (name == "x-stream-offset" && told.offset.is_some()) {
            annotations.push(name, Value::I64(count as i64));
        }
    }
    Properties::read(properties).ok()?.annotated(annotations).ok()
}

/// A fetched message, to be sent.
#[derive(Debug)]
pub struct Fetched<'a> {
    /// Its queue.
    pub queue: &'a Arc<QueueInfo>,
    /// Its slot and record, if the client is to settle it.
    pub held: Option<(u64, Position)>,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Attempts to deliver it before.
    pub attempts: Attempts,
    /// Messages that wait behind it.
    pub left: u32,
    /// The message.
    pub message: &'a MessageView<'a>,
}

impl ChannelOut {
    fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Deliveries that the client has not settled.
    pub fn unsettled(&self) -> usize {
        self.unsettled.len() - self.gaps
    }

    fn push(&mut self, unsettled: Unsettled) {
        if let Some(Some(source)) = self.sources.get_mut(unsettled.source as usize) {
            source.unsettled += 1;
        }
        self.unsettled.push_back(unsettled);
    }

    /// Makes all unsettled deliveries count against the channel's credit, and returns how many there are.
    pub fn count_all(&mut self) -> usize {
        self.unsettled.iter_mut().for_each(|unsettled| unsettled.counted = true);
        self.unsettled()
    }

    fn add_source(&mut self, source: Source) -> u32 {
        if let Some(free) = self.sources.iter().position(Option::is_none) {
            self.sources[free] = Some(source);
            return free as u32;
        }
        self.sources.push(Some(source));
        self.sources.len() as u32 - 1
    }

    /// Adds a consumer, which is not on its queue yet.
    pub fn add_consumer(&mut self, tag: &str, queue: Option<Arc<QueueInfo>>, settles_itself: bool) -> u32 {
        let mut prefix = vec![0, 60, 0, 60];
        put_shortstr(&mut prefix, tag);
        let consumer = ConsumerOut { prefix: prefix.into(), settles_itself };
        let consumer = Some(consumer);
        self.add_source(Source { queue, consumer, unsettled: 0, open: true, consumer_id: None })
    }

    /// The name that the consumer stands behind has been made.
    pub fn made(&mut self, source: u32, queue: Arc<QueueInfo>) {
        if let Some(Some(source)) = self.sources.get_mut(source as usize) {
            source.queue = Some(queue);
        }
    }

    /// The queue that a source stands for.
    pub fn queue_of(&self, source: u32) -> Option<QueueId> {
        self.sources.get(source as usize)?.as_ref()?.queue.as_ref().map(|queue| queue.id)
    }

    /// The consumer is on its queue.
    pub fn attached(&mut self, source: u32, consumer: ConsumerId) {
        if let Some(Some(source)) = self.sources.get_mut(source as usize) {
            source.consumer_id = Some(consumer);
        }
    }

    /// A consumer ends; what it has not settled stays.
    pub fn close_source(&mut self, source: u32) {
        if let Some(Some(closed)) = self.sources.get_mut(source as usize) {
            closed.open = false;
        }
        self.free_source(source);
    }

    fn free_source(&mut self, source: u32) {
        if let Some(place) = self.sources.get_mut(source as usize)
            && place.as_ref().is_some_and(|source| !source.open && source.unsettled == 0)
        {
            *place = None;
        }
    }

    /// A consumer as the broker knows it.
    pub fn attachment(&self, source: u32) -> Option<Attachment> {
        let source = self.sources.get(source as usize)?.as_ref()?;
        Some(Attachment { queue: source.queue.clone()?, consumer: source.consumer_id? })
    }

    /// The source of single gets from a queue. It is closed from the start: it goes with its last unsettled delivery.
    fn get_source(&mut self, queue: &Arc<QueueInfo>) -> u32 {
        let is_it = |other: &Arc<QueueInfo>| other.id == queue.id;
        let same = |source: &Source| source.consumer.is_none() && source.queue.as_ref().is_some_and(is_it);
        if let Some(found) = self.sources.iter().position(|source| source.as_ref().is_some_and(same)) {
            return found as u32;
        }
        let queue = Some(Arc::clone(queue));
        self.add_source(Source { queue, consumer: None, unsettled: 0, open: false, consumer_id: None })
    }

    /// Settles one delivery; `None` if there is none with this tag.
    pub fn settle(&mut self, tag: u64) -> Option<Settled> {
        let index = match self.unsettled.front() {
            Some(front) if front.tag == tag => 0,
            _ => self.unsettled.binary_search_by_key(&tag, |unsettled| unsettled.tag).ok()?,
        };
        let unsettled = self.unsettled[index];
        if unsettled.settled {
            return None;
        }
        self.unsettled[index].settled = true;
        self.gaps += 1;
        self.drop_gaps();
        self.settled(unsettled)
    }

    /// Settles all deliveries up to and including `tag`; all there are if it is 0.
    pub fn settle_up_to(&mut self, tag: u64) -> Option<Vec<Settled>> {
        if tag == 0 {
            return Some(self.settle_all());
        }
        let index = self.unsettled.binary_search_by_key(&tag, |unsettled| unsettled.tag).ok()?;
        if self.unsettled[index].settled {
            return None;
        }
        let taken: Vec<_> = self.unsettled.drain(..=index).collect();
        self.gaps -= taken.iter().filter(|unsettled| unsettled.settled).count();
        self.drop_gaps();
        Some(self.settled_list(taken))
    }

    /// Settles everything.
    pub fn settle_all(&mut self) -> Vec<Settled> {
        let taken: Vec<_> = self.unsettled.drain(..).collect();
        self.gaps = 0;
        self.settled_list(taken)
    }

    fn settled_list(&mut self, taken: Vec<Unsettled>) -> Vec<Settled> {
        taken.into_iter().filter(|unsettled| !unsettled.settled).filter_map(|one| self.settled(one)).collect()
    }

    fn settled(&mut self, unsettled: Unsettled) -> Option<Settled> {
        let source = self.sources.get_mut(unsettled.source as usize)?.as_mut()?;
        source.unsettled -= 1;
        let settled = Settled {
            queue: source.queue.clone()?,
            consumer: source.consumer_id,
            slot: unsettled.slot,
            record: unsettled.record,
            counted: unsettled.counted,
            revoked: unsettled.revoked,
            unsettled,
        };
        self.free_source(unsettled.source);
        Some(settled)
    }

    /// Gaps go as soon as they reach the front, and all at once when they are most of the list.
    fn drop_gaps(&mut self) {
        while self.unsettled.front().is_some_and(|front| front.settled) {
            self.unsettled.pop_front();
            self.gaps -= 1;
        }
        if self.gaps > 64 && self.gaps * 2 > self.unsettled.len() {
            self.unsettled.retain(|unsettled| !unsettled.settled);
            self.gaps = 0;
        }
    }

    /// Puts back deliveries that a transaction had settled.
    pub fn unsettle(&mut self, settled: Vec<Settled>) {
        for one in settled {
            let mut unsettled = one.unsettled;
            let gone = self.sources.get(unsettled.source as usize).is_none_or(Option::is_none);
            if gone {
                let source = Source {
                    queue: Some(one.queue),
                    consumer: None,
                    unsettled: 0,
                    open: false,
                    consumer_id: one.consumer,
                };
                unsettled.source = self.add_source(source);
            }
            if let Some(Some(source)) = self.sources.get_mut(unsettled.source as usize) {
                source.unsettled += 1;
            }
            unsettled.settled = false;
            match self.unsettled.binary_search_by_key(&unsettled.tag, |other| other.tag) {
                Ok(gap) => {
                    self.unsettled[gap] = unsettled;
                    self.gaps -= 1;
                }
                Err(place) => self.unsettled.insert(place, unsettled),
            }
        }
    }
}

impl Outlet for Outgoing {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (channel, source) = split_key(delivery.consumer);
        let translated = state.translated(delivery.message);
        let message = &translated.as_ref().map_or(*delivery.message, |translated| translated.view(delivery.message));
        let Some(Some(out)) = state.channels.get_mut(channel as usize) else { return Pressure::Low };
        let tag = out.next_tag();
        let Some(Some(from)) = out.sources.get_mut(source as usize) else { return Pressure::Low };
        let Some(consumer) = &from.consumer else { return Pressure::Low };
        let settles_itself = consumer.settles_itself;
        out.stats.traffic.add(if settles_itself { Event::DeliverNoAck } else { Event::Deliver }, 1);
        out.stats.traffic.add(Event::Redeliver, delivery.redelivered.into());
        let payload_len = consumer.prefix.len() + 9 + 1 + message.exchange.len() + 1 + message.routing_key.len();
        let buffer = state.output.buffer();
        let [c0, c1] = channel.to_be_bytes();
        let [l0, l1, l2, l3] = (payload_len as u32).to_be_bytes();
        buffer.reserve(payload_len + message.properties.len() + 64);
        buffer.extend_from_slice(&[frame_type::METHOD, c0, c1, l0, l1, l2, l3]);
        buffer.extend_from_slice(&consumer.prefix);
        buffer.extend_from_slice(&tag.to_be_bytes());
        buffer.push(delivery.redelivered.into());
        put_shortstr(buffer, message.exchange);
        put_shortstr(buffer, message.routing_key);
        buffer.push(FRAME_END);
        if !settles_itself {
            let (slot, record, counted) = (delivery.slot, delivery.record, delivery.counted);
            out.push(Unsettled { tag, slot, record, source, counted, settled: false, revoked: false });
        }
        state.put_content(channel, message, Told { attempts: delivery.attempts, offset: delivery.offset });
        state.output.wake(wakes);
        if state.output.len() > limits::OUTPUT_BYTES_HIGH && delivery.queue.is_some() {
            state.pressed.push(delivery.consumer);
            return Pressure::High;
        }
        Pressure::Low
    }

    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut state = self.state.lock();
        state.cancelled.push(consumer);
        state.output.wake(wakes);
    }

    fn revoked(&self, consumer: ConsumerKey, slot: u64) {
        let (channel, source) = split_key(consumer);
        let mut state = self.state.lock();
        let Some(out) = state.channel(channel) else { return };
        let mine = |one: &&mut Unsettled| one.source == source && one.slot == slot && !one.settled;
        if let Some(unsettled) = out.unsettled.iter_mut().find(mine) {
            unsettled.revoked = true;
        }
    }

    fn drain(&self, chunks: &mut Chunks, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if let Some(connection) = &state.connection {
            connection.bytes_out.add(state.output.len() as u64);
        }
        state.output.drain(chunks, waker)
    }

    fn waker(&self) -> Option<Waker> {
        self.state.lock().output.take_waker()
    }

    fn unsettled(&self, channel: u16) -> usize {
        self.state.lock().channel(channel).map_or(0, |channel| channel.unsettled())
    }

    fn consumer_name(&self, consumer: ConsumerKey) -> Option<(u16, Name)> {
        let (channel, source) = split_key(consumer);
        let mut state = self.state.lock();
        let source = state.channel(channel)?.sources.get(source as usize)?.as_ref()?;
        // The tag stands in what every delivery begins with, behind the method and a byte with its length.
        let tag = source.consumer.as_ref()?.prefix.get(5..)?;
        Some((channel, std::str::from_utf8(tag).ok()?.into()))
    }

    fn pending_bytes(&self) -> usize {
        self.state.lock().output.len()
    }
}
