//! Advisories: messages on topics that tell what happens in the broker. Clients need those of temporary destinations: they do
//! not send to one that they have not been told of. Others are made only while somebody listens.

use broker::{Message as Kept, Name, Position, broker::Caller};

use super::{OpenWireSession, Told};
use crate::{
    advisor::{topic, unattended},
    command::Command,
    connection::{ConnectionInfo, ConsumerInfo, DestinationInfo, ProducerInfo, RemoveInfo},
    directory::{ADVISORY, Kind, topic_of},
    ids::{ConnectionId, ConsumerId, Destination, DestinationKind, ObjectId, ProducerId},
    mapping::{Address, addresses, matches},
    message::{Message, MessageDispatch},
    notices::{self, Entry, text},
    stored,
    structure::{Base, Owned},
};

/// The topic that tells of connections.
const CONNECTION: &str = "ActiveMQ.Advisory.Connection";
/// The topic that tells of queues.
const QUEUE: &str = "ActiveMQ.Advisory.Queue";
/// The topic that tells of topics.
const TOPIC: &str = "ActiveMQ.Advisory.Topic";
/// Topics that every client listens to.
const TEMPORARY: [&str; 2] = ["ActiveMQ.Advisory.TempQueue", "ActiveMQ.Advisory.TempTopic"];

/// Whether an address is one of advisories.
pub(super) fn is_advisory(address: &Address) -> bool {
    matches!(address, Address::Topic(name) if name.starts_with(ADVISORY))
}

/// The topic that tells of temporary destinations of a kind.
fn temporary_topic(kind: DestinationKind) -> &'static str {
    TEMPORARY[usize::from(kind.is_topic())]
}

/// What there is of this session's that advisories tell of, by id: the topics.
pub(super) type Announced = std::collections::HashMap<ObjectId<'static>, Vec<String>>;

impl OpenWireSession {
    /// The client is in.
    pub(super) fn announce_connection(&mut self) {
        let Some(connection_id) = self.client.connection_id.clone() else { return };
        let connection_id = ConnectionId { value: Some(connection_id.into_string().into()) };
        let about = ConnectionInfo {
            connection_id: Some(connection_id.clone()),
            client_id: self.client.client_id.as_deref().map(|id| id.to_owned().into()),
            user_name: self.client.user.as_deref().map(|user| user.to_owned().into()),
            client_ip: Some(format!("tcp://{}:{}", self.peer.address, self.peer.port).into()),
            ..ConnectionInfo::default()
        };
        let id = ObjectId::Connection(connection_id);
        self.announce(id, vec![CONNECTION.to_owned()], &Command::ConnectionInfo(Box::new(about)));
    }

    /// A consumer has come.
    pub(super) fn announce_consumer(&mut self, info: &ConsumerInfo<'_>, id: &ConsumerId<'static>, to: &[Address]) {
        let to: Vec<&Address> = to.iter().filter(|address| !is_advisory(address)).collect();
        if to.is_empty() {
            return;
        }
        let mut about = info.clone().into_owned();
        about.base = Base::default();
        let topics = to.into_iter().map(|address| topic(Kind::Consumer, address)).collect();
        self.announce(ObjectId::Consumer(id.clone()), topics, &Command::ConsumerInfo(Box::new(about)));
    }

    /// A producer has come that sends to certain addresses only.
    pub(super) fn announce_producer(&mut self, info: &ProducerInfo<'_>, id: &ProducerId<'static>, to: &[Address]) {
        let to: Vec<&Address> = to.iter().filter(|address| !is_advisory(address)).collect();
        if to.is_empty() {
            return;
        }
        let mut about = info.clone().into_owned();
        about.base = Base::default();
        let topics = to.into_iter().map(|address| topic(Kind::Producer, address)).collect();
        self.announce(ObjectId::Producer(id.clone()), topics, &Command::ProducerInfo(about));
    }

    fn announce(&mut self, id: ObjectId<'static>, topics: Vec<String>, about: &Command<'static>) {
        let Some(caller) = self.caller.clone() else { return };
        let name = id.to_string();
        for topic in &topics {
            if self.shared.directory.add(caller.vhost.name(), topic, &name, about.clone()) == 1 {
                self.advise_topic(&caller, topic, true);
            }
            self.advise(&caller, kind_of(&id), topic, || about.clone());
        }
        self.announced.insert(id, topics);
    }

    /// Something of this session's is gone.
    pub(super) fn withdraw(&mut self, id: &ObjectId<'static>) {
        let (Some(caller), Some(topics)) = (self.caller.clone(), self.announced.remove(id)) else { return };
        let name = id.to_string();
        for topic in &topics {
            let Some(left) = self.shared.directory.remove(caller.vhost.name(), topic, &name) else { continue };
            let gone = || RemoveInfo { object_id: Some(id.clone()), ..RemoveInfo::default() };
            self.advise(&caller, kind_of(id), topic, || Command::RemoveInfo(gone()));
            if left == 0 {
                self.advise_topic(&caller, topic, false);
            }
        }
    }

    /// The topic of which an advisory's topic tells has its first consumer or producer, or none any more.
    fn advise_topic(&mut self, caller: &Caller, advisory: &str, is_new: bool) {
        let Some(name) = topic_of(advisory).filter(|name| self.is_topic(caller.vhost.name(), name)) else { return };
        let connection_id = self.client.connection_id.clone().unwrap_or_default();
        let about = || destination_info(name, DestinationKind::Topic, &connection_id, is_new);
        self.advise(caller, Kind::Topic, TOPIC, about);
    }

    /// Whether a name is one of a topic: no pattern, and not temporary.
    fn is_topic(&self, vhost: &Name, name: &str) -> bool {
        !Address::Topic(name.into()).is_pattern() && self.shared.temporary(vhost, name).is_none()
    }

    /// All of this session's is gone, the connection last.
    pub(super) fn withdraw_all(&mut self) {
        let mut ids: Vec<_> = self.announced.keys().cloned().collect();
        ids.sort_by_key(|id| matches!(id, ObjectId::Connection(_)));
        ids.iter().for_each(|id| self.withdraw(id));
    }

    /// A queue has been made, or removed.
    pub(super) fn advise_queue(&mut self, caller: &Caller, name: &str, is_new: bool) {
        let connection_id = self.client.connection_id.clone().unwrap_or_default();
        self.advise(caller, Kind::Queue, QUEUE, || {
            destination_info(name, DestinationKind::Queue, &connection_id, is_new)
        });
    }

    /// Tells everybody of a temporary destination that has come or gone.
    pub(super) fn advise_temporary(
        &mut self,
        caller: &Caller,
        name: &str,
        kind: DestinationKind,
        connection_id: &str,
        is_new: bool,
    ) {
        let about = destination_info(name, kind, connection_id, is_new);
        self.publish_advisory(caller, temporary_topic(kind), about);
    }

    /// Tells whoever listens of something.
    fn advise(&mut self, caller: &Caller, kind: Kind, topic: &str, about: impl FnOnce() -> Command<'static>) {
        if self.shared.directory.wants(caller.vhost.name(), kind, topic) {
            self.publish_advisory(caller, topic, about());
        }
    }

    /// Nobody is there for a message to a topic. If it is not persistent, that is told by the message itself.
    pub(super) fn advise_unattended(&mut self, caller: &Caller, kept: &Kept) {
        let view = kept.view();
        if view.durable || view.exchange.is_empty() || !self.shared.directory.may_want(Kind::NoConsumer) {
            return;
        }
        let topic = topic(Kind::NoConsumer, &Address::Topic(view.routing_key.to_owned()));
        if view.routing_key.starts_with(ADVISORY)
            || !self.shared.directory.wants(caller.vhost.name(), Kind::NoConsumer, &topic)
        {
            return;
        }
        let message = stored::restored(&view, &self.broker.codecs(), 0);
        self.send_advisory(caller, &topic, &mut unattended(&message, &topic));
    }

    /// A producer has to wait, because there is no room for its message.
    pub(super) fn advise_full(&mut self, message: &Message<'_>) {
        let directory = &self.shared.directory;
        if !directory.may_want(Kind::FastProducer) && !directory.may_want(Kind::Full) {
            return;
        }
        let (Some(caller), Some(destination)) = (self.caller.clone(), &message.destination) else { return };
        let usage = if self.broker.alarms().memory { "memory" } else { "disk" };
        for address in addresses(destination).unwrap_or_default() {
            let (full, fast) = (topic(Kind::Full, &address), topic(Kind::FastProducer, &address));
            if self.shared.directory.wants(caller.vhost.name(), Kind::Full, &full) {
                let mut advisory = self.advisory_of(&full, None, vec![text("usageName", usage)]);
                self.send_advisory(&caller, &full, &mut advisory);
            }
            let Some(producer) = message.producer_id.clone().map(Owned::into_owned) else { continue };
            if self.shared.directory.wants(caller.vhost.name(), Kind::FastProducer, &fast) {
                let told = vec![text("producerId", &producer.to_string())];
                let about = ProducerInfo {
                    producer_id: Some(producer),
                    destination: Some(destination.clone().into_owned()),
                    ..ProducerInfo::default()
                };
                let mut advisory = self.advisory_of(&fast, Some(Command::ProducerInfo(about)), told);
                self.send_advisory(&caller, &fast, &mut advisory);
            }
        }
    }

    fn publish_advisory(&mut self, caller: &Caller, topic: &str, about: Command<'static>) {
        let mut message = self.advisory(caller.vhost.name(), topic, about);
        self.send_advisory(caller, topic, &mut message);
    }

    fn send_advisory(&self, caller: &Caller, topic: &str, message: &mut Message<'_>) {
        // Whoever may have the thing may have others told of it.
        let Ok(operator) = self.broker.operator(caller.vhost.name()) else { return };
        let _ = notices::send(&self.broker, &operator, &Address::Topic(topic.into()), message);
    }

    /// A consumer begins. Returns which of its addresses are of advisories that are made only while somebody listens.
    pub(super) fn begin_listening(&self, caller: &Caller, addresses: &[Address]) -> Vec<Box<str>> {
        let topics = addresses.iter().filter(|address| matches!(address, Address::Topic(_))).map(Address::name);
        topics.filter(|topic| self.shared.directory.listen(caller.vhost.name(), topic)).map(Box::from).collect()
    }

    /// A consumer ends that has listened to these.
    pub(super) fn end_listening(&self, topics: &[Box<str>]) {
        let Some(caller) = &self.caller else { return };
        topics.iter().for_each(|topic| self.shared.directory.end_listening(caller.vhost.name(), topic));
    }

    /// Tells a new consumer of advisories of what is there.
    pub(super) fn replay_advisories(&mut self, addresses: &[Address], number: u32) {
        let Some(caller) = self.caller.clone() else { return };
        let vhost = caller.vhost.name().clone();
        let mut told = Vec::new();
        for pattern in addresses.iter().filter(|address| is_advisory(address)).map(Address::name) {
            for (name, temporary) in self.shared.temporaries(&vhost, None) {
                let topic = temporary_topic(temporary.kind);
                if matches(pattern, topic) {
                    told.push((topic.into(), destination_info(&name, temporary.kind, &temporary.connection_id, true)));
                }
            }
            if matches(pattern, QUEUE) {
                let state = caller.vhost.read();
                let shared = state.queues().filter(|queue| queue.owner.is_none());
                let info = |name: &str| destination_info(name, DestinationKind::Queue, "", true);
                told.extend(shared.map(|queue| (Box::from(QUEUE), info(&queue.name))));
            }
            if matches(pattern, TOPIC) {
                let topics = self.shared.directory.topics(&vhost);
                let topics = topics.into_iter().filter(|name| self.is_topic(&vhost, name));
                told.extend(
                    topics.map(|name| (TOPIC.into(), destination_info(&name, DestinationKind::Topic, "", true))),
                );
            }
            told.extend(self.shared.directory.matching(&vhost, pattern));
        }
        for (topic, about) in told {
            let mut message = self.advisory(&vhost, &topic, about);
            let mut state = self.outgoing.lock();
            let Some(id) = state.consumer(number).map(|out| out.id().clone()) else { return };
            drop(state);
            message.target_consumer_id = Some(id.clone());
            let dispatch = MessageDispatch {
                consumer_id: Some(id),
                destination: message.destination.clone(),
                message: Some(Box::new(message)),
                ..MessageDispatch::default()
            };
            self.answer(Position(0), Told::Command(Box::new(dispatch.into())));
        }
    }

    fn advisory(&self, vhost: &Name, topic: &str, about: Command<'static>) -> Message<'static> {
        let name = match topic[ADVISORY.len()..].split('.').next() {
            Some("Consumer") => Some("consumerCount"),
            Some("Producer") => Some("producerCount"),
            _ => None,
        };
        let told = name.map(|name| notices::count(name, self.shared.directory.count(vhost, topic)));
        self.advisory_of(topic, Some(about), told.into_iter().collect())
    }

    fn advisory_of(&self, topic: &str, about: Option<Command<'static>>, told: Vec<Entry>) -> Message<'static> {
        let url = format!("tcp://{}", self.peer.local);
        notices::advisory(&self.settings, &self.shared, topic, (about, told), (&url, self.broker.now()))
    }
}

/// The kind of advisories that tell of something.
fn kind_of(id: &ObjectId<'_>) -> Kind {
    match id {
        ObjectId::Consumer(_) => Kind::Consumer,
        ObjectId::Producer(_) => Kind::Producer,
        _ => Kind::Connection,
    }
}

/// What advisories say of a destination.
fn destination_info(name: &str, kind: DestinationKind, connection_id: &str, is_new: bool) -> Command<'static> {
    Command::DestinationInfo(DestinationInfo {
        connection_id: Some(ConnectionId { value: Some(connection_id.to_owned().into()) }),
        destination: Some(Destination { kind, physical_name: Some(name.to_owned().into()) }),
        operation_type: i8::from(!is_new),
        ..DestinationInfo::default()
    })
}
