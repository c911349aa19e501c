//! A connection's output: deliveries become PUBLISH packets here, on the thread of whoever publishes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use broker::{
    Attachment, Broker, Connection, ConsumerId, ConsumerKey, Delivery, Event, Message, MessageView, Name, Outlet,
    Output, Position, Pressure, QueueInfo, Table, limits, outlet::Chunks,
};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    ORIGIN,
    message::{self, Stored},
    packet::{Qos, Version, kind},
    packet_ids::{self, Freed, Promised},
    properties::{Value as Property, id, put, section_len},
    subscriptions::{Interest, Subscription, Subscriptions},
    topic,
    traffic::{Counts, Kind},
    wire::{put_text, put_varint, varint_len},
};

/// The consumer that gets messages without a queue.
pub const DIRECT: ConsumerKey = ConsumerKey(0);

/// The consumer of the session's own queue.
pub const OWN: ConsumerKey = ConsumerKey(1);

/// The first consumer of a shared subscription.
const SHARED: u64 = 2;

/// Bytes of waiting output above which messages without acknowledgement are dropped.
const DROP_ABOVE: usize = 8 * 1024 * 1024;

/// The same while memory or disk run out.
const DROP_ABOVE_IN_NEED: usize = limits::OUTPUT_BYTES_HIGH;

/// The output of a connection.
#[derive(Debug)]
pub struct Outgoing {
    state: Mutex<State>,
}

/// What is behind the lock.
#[derive(Debug)]
pub struct State {
    broker: Arc<Broker>,
    /// Bytes on their way to the client.
    pub output: Output,
    /// The version that the client speaks.
    pub version: Version,
    /// Largest packet that the client takes, in bytes.
    pub packet_max: usize,
    /// Topic aliases, if the client takes any.
    pub aliases: Option<Box<Aliases>>,
    /// The number of the session, by which its own messages are known.
    pub number: u64,
    /// Whether the session outlives its connection, so that packet identifiers have to outlive the broker.
    pub is_persistent: bool,
    /// Subscriptions that are not shared.
    pub subscriptions: Subscriptions,
    /// What the session consumes from: its own queue first, then those of shared subscriptions.
    sources: Vec<Option<Source>>,
    /// Publishes that the client has not acknowledged.
    pub in_flight: BTreeMap<u16, InFlight>,
    /// Packet identifiers under which messages were sent before.
    pub promised: Promised,
    /// Packet identifiers that may still be of messages that a crash brings back.
    pub freed: Freed,
    /// The last packet identifier that was chosen.
    pub last_id: u16,
    /// Deliveries that are to be settled though the client has not acknowledged them.
    pub done: Vec<Done>,
    /// Deliveries of shared subscriptions that become the session's own before they are sent.
    pub moved: Vec<Moved>,
    /// Publishes that are to be written down before they are sent, and those behind them.
    pub unwritten: VecDeque<Unwritten>,
    /// How many of these have not been sent, wherever they are by now.
    pub held_back: usize,
    /// Their bytes, and those of what is being moved.
    pub held_bytes: usize,
    /// What was sent.
    pub counts: Counts,
    /// Consumers that got no more because the client is slow.
    pub pressed: Vec<ConsumerKey>,
    /// Consumers whose queue is gone.
    pub cancelled: Vec<ConsumerKey>,
    /// Whether somebody else has taken the session over.
    pub is_taken_over: bool,
    /// The connection as operators see it.
    pub seen: Option<Arc<Connection>>,
}

/// Numbers that stand for topics (section 3.3.2.3.4): each topic gets the next one, until there are no more.
#[derive(Debug, Default)]
pub struct Aliases {
    max: u16,
    numbers: HashMap<Box<str>, u16>,
}

impl Aliases {
    /// Of a client that takes so many.
    pub fn new(max: u16) -> Self {
        Self { max, numbers: HashMap::new() }
    }

    /// The alias of a topic, and whether the client knows it.
    fn of(&self, topic: &str) -> Option<(u16, bool)> {
        let known = self.numbers.get(topic).map(|alias| (*alias, true));
        known.or_else(|| (self.numbers.len() < self.max.into()).then_some((self.numbers.len() as u16 + 1, false)))
    }
}

/// What a session consumes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The queue.
    pub queue: Arc<QueueInfo>,
    /// The consumer there, once it is.
    pub consumer: Option<ConsumerId>,
    /// The shared subscription, with its whole filter.
    pub shared: Option<(Box<str>, Subscription)>,
}

impl Source {
    /// Whether it is the queue of a shared subscription that the client has ended, though not all has arrived.
    fn is_leaving(&self, key: ConsumerKey) -> bool {
        key != OWN && self.shared.is_none()
    }
}

/// A message's place in the session's own queue: its record if it has one, else its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the log.
    Record(u64),
    /// In memory.
    Slot(u64),
}

impl Place {
    /// The record; position 0 if there is none.
    pub fn record(self) -> Position {
        match self {
            Self::Record(record) => Position(record),
            Self::Slot(_) => Position(0),
        }
    }
}

/// A publish that the client has not acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// The consumer that it came by.
    pub source: ConsumerKey,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether it counts against the client's receive maximum.
    pub counted: bool,
    /// Its quality of service.
    pub qos: Qos,
    /// Whether the client has it, and only the packet identifier is still in use.
    pub released: bool,
    /// Whether the log has its packet identifier, or is about to get it: always with quality of service 2; with 1 if it does
    /// not follow from the record, or an earlier connection noted it.
    pub is_noted: bool,
}

/// A delivery to be settled.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The consumer that it came by.
    pub source: ConsumerKey,
    /// Its place in the queue.
    pub slot: u64,
    /// Its record.
    pub record: Position,
    /// Whether it counts against the client's receive maximum.
    pub counted: bool,
}

/// A message of a shared subscription that is to come exactly once: from now on it is for this session alone, also if its
/// connection is lost (MQTT-4.8.2-4, MQTT-4.8.2-5).
#[derive(Debug)]
pub struct Moved {
    /// The delivery.
    pub done: Done,
    /// As it goes into the session's own queue.
    pub message: Message,
}

/// A publish that is to be written down before it is sent, or that comes behind such a one.
#[derive(Debug)]
pub struct Unwritten {
    /// What is to be written down: its packet identifier, its record and its quality of service.
    pub note: Option<(u16, Position, Qos)>,
    /// The packet.
    pub packet: Vec<u8>,
}

/// A PUBLISH packet to be.
struct Sending<'a> {
    topic: &'a str,
    qos: Qos,
    dup: bool,
    retain: bool,
    packet_id: u16,
    ids: &'a [u32],
    /// Seconds.
    expiry: Option<u32>,
    /// MQTT 5 properties that go on as they are.
    forwarded: &'a [u8],
    payload_len: usize,
}

impl Outgoing {
    /// The output of a new connection.
    pub fn new(broker: &Arc<Broker>) -> Self {
        let state = State {
            broker: Arc::clone(broker),
            output: Output::default(),
            version: Version::V311,
            packet_max: usize::MAX,
            aliases: None,
            number: 0,
            is_persistent: false,
            subscriptions: Subscriptions::default(),
            sources: Vec::new(),
            in_flight: BTreeMap::new(),
            promised: Promised::default(),
            freed: Freed::default(),
            last_id: 0,
            done: Vec::new(),
            moved: Vec::new(),
            unwritten: VecDeque::new(),
            held_back: 0,
            held_bytes: 0,
            counts: Counts::default(),
            pressed: Vec::new(),
            cancelled: Vec::new(),
            is_taken_over: false,
            seen: None,
        };
        Self { state: Mutex::new(state) }
    }

    /// The state, for the connection's own use.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Somebody else has taken the session over: the connection is to say goodbye.
    pub fn take_over(&self) -> Option<Waker> {
        let mut state = self.state.lock();
        state.is_taken_over = true;
        let mut wakes = Vec::new();
        state.output.wake(&mut wakes);
        wakes.pop()
    }
}

impl State {
    /// Adds the session's own queue.
    pub fn set_own(&mut self, source: Source) {
        if self.sources.is_empty() {
            self.sources.push(None);
        }
        self.sources[0] = Some(source);
    }

    /// Adds the queue of a shared subscription. Returns its consumer.
    pub fn add_shared(&mut self, source: Source) -> ConsumerKey {
        if self.sources.is_empty() {
            self.sources.push(None);
        }
        let free = (1..self.sources.len()).find(|index| self.sources[*index].is_none());
        let index = free.unwrap_or(self.sources.len());
        if index == self.sources.len() {
            self.sources.push(None);
        }
        self.sources[index] = Some(source);
        ConsumerKey(index as u64 - 1 + SHARED)
    }

    fn index(key: ConsumerKey) -> Option<usize> {
        usize::try_from(key.0.checked_sub(OWN.0)?).ok()
    }

    /// What a consumer consumes from.
    pub fn source(&self, key: ConsumerKey) -> Option<&Source> {
        self.sources.get(Self::index(key)?)?.as_ref()
    }

    /// The same, to be changed.
    pub fn source_mut(&mut self, key: ConsumerKey) -> Option<&mut Source> {
        self.sources.get_mut(Self::index(key)?)?.as_mut()
    }

    /// Forgets what a consumer consumes from.
    pub fn remove_source(&mut self, key: ConsumerKey) -> Option<Source> {
        self.sources.get_mut(Self::index(key)?)?.take()
    }

    /// All consumers of queues.
    pub fn consumers(&self) -> Vec<ConsumerKey> {
        let keys = (0..self.sources.len()).map(|index| ConsumerKey(index as u64 + OWN.0));
        let is_one = |key: &ConsumerKey| self.source(*key).is_some_and(|source| !source.is_leaving(*key));
        keys.filter(is_one).collect()
    }

    /// Forgets sources that were left, and of which nothing is under way any more.
    pub fn forget_left(&mut self) {
        for index in 1..self.sources.len() {
            let key = ConsumerKey(index as u64 + OWN.0);
            let is_leaving = self.source(key).is_some_and(|source| source.is_leaving(key));
            if is_leaving && self.in_flight.values().all(|one| one.source != key) {
                self.sources[index] = None;
            }
        }
    }

    /// Whether there may be more to consume from than the session's own queue.
    pub fn has_shared(&self) -> bool {
        self.sources.len() > 1
    }

    /// The consumer of a shared subscription, by its whole filter.
    pub fn shared(&self, filter: &str) -> Option<ConsumerKey> {
        let is_it = |source: &Source| source.shared.as_ref().is_some_and(|(whole, _)| **whole == *filter);
        self.consumers().into_iter().find(|key| self.source(*key).is_some_and(is_it))
    }

    /// A consumer as the broker knows it.
    pub fn attachment(&self, key: ConsumerKey) -> Option<Attachment> {
        let source = self.source(key)?;
        Some(Attachment { queue: Arc::clone(&source.queue), consumer: source.consumer? })
    }

    /// All consumers as the broker knows them.
    pub fn attachments(&self) -> Vec<Attachment> {
        self.consumers().into_iter().filter_map(|key| self.attachment(key)).collect()
    }

    fn is_in_use(&self, packet_id: u16) -> bool {
        self.in_flight.contains_key(&packet_id) || self.promised.has(packet_id)
    }

    /// A packet identifier for a message that was not sent before, and whether it has to be written down first.
    fn new_id(&mut self, consumer: ConsumerKey, record: Position, qos: Qos) -> Option<(u16, bool)> {
        let outlives = self.is_persistent && consumer == OWN;
        if outlives && qos == Qos::AtLeastOnce && record != Position(0) {
            let derived = packet_ids::derived(record);
            if !self.is_in_use(derived) && self.freed.allows(record, || self.broker.committed()) {
                return Some((derived, false));
            }
        }
        // With a shared subscription another member may get it after a crash; what has no record is lost then.
        let writes_down = outlives && (qos == Qos::ExactlyOnce || record != Position(0));
        self.choose_id().map(|packet_id| (packet_id, writes_down))
    }

    /// A packet identifier that is not in use, and that follows from no record unless very many are in use.
    fn choose_id(&mut self) -> Option<u16> {
        let in_use = self.in_flight.len() + self.promised.len();
        if in_use >= usize::from(u16::MAX) {
            return None;
        }
        let is_split = self.is_persistent && in_use < usize::from(packet_ids::DERIVED - 1);
        let last = if is_split { packet_ids::DERIVED - 1 } else { u16::MAX };
        loop {
            self.last_id = if self.last_id >= last { 1 } else { self.last_id + 1 };
            if !self.is_in_use(self.last_id) {
                return Some(self.last_id);
            }
        }
    }

    /// What the client is to get of a message that came by a consumer; nothing if it wants none of it.
    fn interest(&self, key: ConsumerKey, topic: &str, stored: &Stored<'_>) -> Option<Interest> {
        let is_own = stored.publisher == self.number;
        if let Some(filter) = stored.only_for {
            if topic::shared(filter).is_none() {
                return self.subscriptions.get(filter).map(Interest::of);
            }
            let source = self.shared(filter).and_then(|key| self.source(key));
            let one = source.and_then(|source| source.shared.as_ref()).map(|(_, one)| Interest::of(one));
            // Nobody else gets it, so that it comes even if the subscription is over.
            return Some(one.unwrap_or(Interest { qos: stored.qos, ..Interest::default() }));
        }
        if key.0 >= SHARED {
            let (whole, subscription) = self.source(key)?.shared.as_ref()?;
            let (_, filter) = topic::shared(whole)?;
            return topic::matches(filter, topic).then(|| Interest::of(subscription));
        }
        let interest = self.subscriptions.interest(topic, is_own)?;
        // Who subscribed in several ways gets one copy: from the queue, or past it, if one of them asked for acknowledgement.
        let is_own = interest.qos > Qos::AtMostOnce;
        (is_own == (key == OWN)).then_some(interest)
    }

    /// Appends a PUBLISH packet without its payload. Returns whether the client takes packets of that size.
    fn put_head(&mut self, sending: &Sending<'_>, into: Option<&mut Vec<u8>>) -> bool {
        let Sending { topic, qos, dup, retain, packet_id, ids, expiry, forwarded, payload_len } = *sending;
        let mut properties_len = forwarded.len();
        let mut alias = None;
        if self.version == Version::V5 {
            properties_len += if expiry.is_some() { 5 } else { 0 };
            properties_len += ids.iter().map(|id| 1 + varint_len(*id as usize)).sum::<usize>();
            // What waits to be written down could be overtaken by a packet that needs the alias.
            if into.is_none() {
                alias = self.aliases.as_ref().and_then(|aliases| aliases.of(topic));
                properties_len += if alias.is_some() { 3 } else { 0 };
            }
        }
        let shown = if let Some((_, true)) = alias { "" } else { topic };
        let mut len = 2 + shown.len() + payload_len;
        len += if qos > Qos::AtMostOnce { 2 } else { 0 };
        len += if self.version == Version::V5 { section_len(properties_len) } else { 0 };
        if 1 + varint_len(len) + len > self.packet_max || len > crate::wire::REMAINING_LENGTH_MAX {
            return false;
        }
        if let Some((alias, false)) = alias {
            self.aliases.get_or_insert_default().numbers.insert(topic.into(), alias);
        }
        self.counts.add(Kind::PacketsSent, 1);
        self.counts.add(Kind::PublishesSent, 1);
        if let Some(seen) = &self.seen {
            seen.traffic.add(if qos == Qos::AtMostOnce { Event::DeliverNoAck } else { Event::Deliver }, 1);
            seen.traffic.add(Event::Redeliver, dup.into());
        }
        self.counts.add(Kind::PayloadSent, payload_len);
        let out = into.unwrap_or(self.output.buffer());
        out.push(kind::PUBLISH << 4 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain));
        put_varint(out, len);
        put_text(out, shown);
        if qos > Qos::AtMostOnce {
            out.extend_from_slice(&packet_id.to_be_bytes());
        }
        if self.version == Version::V5 {
            put_varint(out, properties_len);
            if let Some(expiry) = expiry {
                put(out, id::MESSAGE_EXPIRY, Property::Number(expiry));
            }
            ids.iter().for_each(|id| put(out, id::SUBSCRIPTION_ID, Property::Number(*id)));
            if let Some((alias, _)) = alias {
                put(out, id::TOPIC_ALIAS, Property::Number(alias.into()));
            }
            out.extend_from_slice(forwarded);
        }
        true
    }

    /// Sends a message without acknowledgement.
    pub fn send_at_most_once(&mut self, topic: &str, message: &MessageView<'_>, retain: bool, ids: &[u32]) {
        let (forwarded, _) = self.forwarded(message);
        let sending = Sending {
            topic,
            qos: Qos::AtMostOnce,
            dup: false,
            retain,
            packet_id: 0,
            ids,
            expiry: self.expiry(message),
            forwarded: &forwarded,
            payload_len: message.payload.len(),
        };
        if self.put_head(&sending, None) {
            self.output.payload(message.payload, message.block);
        }
    }

    /// Seconds that a message has left to live (section 3.3.2.3.3).
    fn expiry(&self, message: &MessageView<'_>) -> Option<u32> {
        let left = message.due?.0.saturating_sub(self.broker.now().0);
        Some(u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX))
    }

    /// The MQTT 5 properties of a message, and with which quality of service it was published.
    fn forwarded<'m>(&self, message: &MessageView<'m>) -> (Cow<'m, [u8]>, Stored<'m>) {
        let qos = if message.durable { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let mut stored = Stored { qos, retain: false, publisher: 0, only_for: None, properties: &[] };
        if message.origin == ORIGIN {
            stored = Stored::read(message.properties).unwrap_or(stored);
            return (stored.properties.into(), stored);
        }
        if self.version != Version::V5 {
            return (Cow::default(), stored);
        }
        let codec = self.broker.codecs().of(message.origin);
        let table = codec.map_or_else(Table::default, |codec| codec.table(message.properties));
        (message::of_table(&table).into(), stored)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) {
        let Delivery { consumer, slot, record, counted, message, .. } = *delivery;
        let is_held = delivery.queue.is_some();
        let done = Done { source: consumer, slot, record, counted };
        let (forwarded, stored) = self.forwarded(message);
        let place = if record == Position(0) { Place::Slot(slot) } else { Place::Record(record.0) };
        let promised = if consumer == OWN { self.promised.remove(place) } else { None };
        let topic = message::topic_of(message);
        // What has been sent once is sent to its end, whatever became of the subscription (MQTT-3.10.4-5).
        let again = || promised.map(|_| Interest::default());
        let interest = topic.as_ref().and_then(|topic| self.interest(consumer, topic, &stored)).or_else(again);
        let (Some(topic), Some(interest)) = (topic, interest) else {
            self.done.extend(is_held.then_some(done));
            return;
        };
        if !is_held && self.is_full() {
            self.counts.add(Kind::PublishesDropped, 1);
            return;
        }
        let qos = promised.map_or(stored.qos.min(interest.qos), |(_, qos)| qos);
        if qos == Qos::ExactlyOnce && consumer.0 >= SHARED {
            return self.take_over(done, message, &stored);
        }
        let packet_id = match (qos, promised) {
            (Qos::AtMostOnce, _) => Some((0, false)),
            (_, Some((id, _))) => Some((id, false)),
            (_, None) => self.new_id(consumer, record, qos),
        };
        // With 65,535 in flight the receive maximum has been reached long before.
        let Some((packet_id, writes_down)) = packet_id else { return };
        let sending = Sending {
            topic: &topic,
            qos,
            // After a restart nobody knows whether the client has seen what was to come at least once.
            dup: promised.is_some() || (qos == Qos::AtLeastOnce && consumer == OWN && delivery.redelivered),
            retain: match stored.only_for {
                Some(filter) => topic::shared(filter).is_none(),
                None => stored.retain && interest.retain_as_published,
            },
            packet_id,
            ids: &interest.ids,
            expiry: self.expiry(message),
            forwarded: if self.version == Version::V5 { &forwarded } else { &[] },
            payload_len: message.payload.len(),
        };
        // Messages stay in their order, whatever their quality of service.
        let waits = writes_down || (self.held_back > 0 && consumer == OWN);
        let mut packet = waits.then(Vec::new);
        if !self.put_head(&sending, packet.as_mut()) {
            // Too large for the client: to it, the message is complete (MQTT-3.1.2-25).
            self.done.extend(is_held.then_some(done));
            return;
        }
        match packet {
            Some(mut packet) => {
                packet.extend_from_slice(message.payload);
                self.hold_back(Unwritten { note: writes_down.then_some((packet_id, record, qos)), packet });
            }
            None => self.output.payload(message.payload, message.block),
        }
        if qos == Qos::AtMostOnce {
            self.done.extend(is_held.then_some(done));
        } else {
            let is_noted = writes_down || (promised.is_some() && self.is_persistent);
            let in_flight = InFlight { source: consumer, slot, record, counted, qos, released: false, is_noted };
            self.in_flight.insert(packet_id, in_flight);
        }
    }

    /// Keeps a packet until something is written down.
    fn hold_back(&mut self, unwritten: Unwritten) {
        self.held_back += 1;
        self.held_bytes += unwritten.packet.len();
        self.unwritten.push_back(unwritten);
    }

    /// Whether the client is too slow for more that nobody has to acknowledge.
    fn is_full(&self) -> bool {
        let len = self.output.len();
        len > DROP_ABOVE || (len > DROP_ABOVE_IN_NEED && self.broker.alarms().any())
    }

    /// Has a message of a shared subscription become the session's own.
    fn take_over(&mut self, done: Done, message: &MessageView<'_>, stored: &Stored<'_>) {
        let Some((filter, _)) = self.source(done.source).and_then(|source| source.shared.as_ref()) else { return };
        let properties = Stored { only_for: Some(filter), ..*stored }.bytes();
        let view = MessageView { properties: &properties, origin: ORIGIN, ..*message };
        let message = Message::copy_of(&view);
        self.held_bytes += message.view().payload.len();
        self.moved.push(Moved { done, message });
    }

    /// Bytes that wait, to be sent or to be written down.
    fn pending(&self) -> usize {
        self.output.len() + self.held_bytes
    }
}

impl Outlet for Outgoing {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let mut state = self.state.lock();
        state.deliver(delivery);
        state.output.wake(wakes);
        if delivery.queue.is_some() && state.pending() > limits::OUTPUT_BYTES_HIGH {
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

    fn revoked(&self, _consumer: ConsumerKey, _slot: u64) {
        // MQTT clients have all the time that they want; a queue that says otherwise takes messages back, and what the
        // client still says of them means nothing to it.
    }

    fn drain(&self, chunks: &mut Chunks, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let len = state.output.len();
        state.counts.add(Kind::BytesSent, len);
        if let Some(seen) = &state.seen {
            seen.bytes_out.add(len as u64);
        }
        state.output.drain(chunks, waker)
    }

    fn pending_bytes(&self) -> usize {
        self.state.lock().output.len()
    }

    fn waker(&self) -> Option<Waker> {
        self.state.lock().output.take_waker()
    }

    fn unsettled(&self, _channel: u16) -> usize {
        self.state.lock().in_flight.len()
    }

    fn consumer_name(&self, consumer: ConsumerKey) -> Option<(u16, Name)> {
        let state = self.state.lock();
        let shared = state.source(consumer)?.shared.as_ref().map(|(filter, _)| Name::from(&**filter));
        Some((0, shared.unwrap_or_else(|| "session".into())))
    }
}
