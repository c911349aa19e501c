//! Advisories: messages on topics that tell what happens in the broker. Clients need those of temporary destinations: they do
//! not send to one that they have not been told of. Others are made only while somebody listens.

use broker::{Name, Position, broker::Caller};

use super::{OpenWireSession, Told};
use crate::{
    command::Command,
    connection::{ConnectionInfo, ConsumerInfo, DestinationInfo, ProducerInfo, RemoveInfo},
    ids::{ConnectionId, ConsumerId, Destination, DestinationKind, ObjectId, ProducerId},
    mapping::{Address, matches},
    message::{Message, MessageDispatch},
    notices::{self, text},
    structure::{Base, Owned},
};

/// What topics of advisories begin with.
const ADVISORY: &str = "ActiveMQ.Advisory.";
/// The topic that tells of connections.
const CONNECTION: &str = "ActiveMQ.Advisory.Connection";
/// The topic that tells of queues.
const QUEUE: &str = "ActiveMQ.Advisory.Queue";
/// Topics that every client listens to.
const TEMPORARY: [&str; 2] = ["ActiveMQ.Advisory.TempQueue", "ActiveMQ.Advisory.TempTopic"];

/// Whether an address is one of advisories.
pub(super) fn is_advisory(address: &Address) -> bool {
    matches!(address, Address::Topic(name) if name.starts_with(ADVISORY))
}

/// Whether an address is one of advisories that are made only while somebody listens.
fn is_on_demand(address: &Address) -> bool {
    is_advisory(address) && !TEMPORARY.contains(&address.name())
}

/// The topic that tells of temporary destinations of a kind.
fn temporary_topic(kind: DestinationKind) -> &'static str {
    TEMPORARY[usize::from(kind.is_topic())]
}

/// The topic that tells of consumers or producers of an address.
fn topic_of(what: &str, address: &Address) -> String {
    let kind = if matches!(address, Address::Topic(_)) { "Topic" } else { "Queue" };
    format!("{ADVISORY}{what}.{kind}.{}", address.name())
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
        let topics = to.into_iter().map(|address| topic_of("Consumer", address)).collect();
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
        let topics = to.into_iter().map(|address| topic_of("Producer", address)).collect();
        self.announce(ObjectId::Producer(id.clone()), topics, &Command::ProducerInfo(about));
    }

    fn announce(&mut self, id: ObjectId<'static>, topics: Vec<String>, about: &Command<'static>) {
        let Some(caller) = self.caller.clone() else { return };
        let name = id.to_string();
        for topic in &topics {
            self.shared.directory.add(caller.vhost.name(), topic, &name, about.clone());
            self.advise(&caller, topic, || about.clone());
        }
        self.announced.insert(id, topics);
    }

    /// Something of this session's is gone.
    pub(super) fn withdraw(&mut self, id: &ObjectId<'static>) {
        let (Some(caller), Some(topics)) = (self.caller.clone(), self.announced.remove(id)) else { return };
        let name = id.to_string();
        for topic in &topics {
            if self.shared.directory.remove(caller.vhost.name(), topic, &name) {
                let gone = || RemoveInfo { object_id: Some(id.clone()), ..RemoveInfo::default() };
                self.advise(&caller, topic, || Command::RemoveInfo(gone()));
            }
        }
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
        self.advise(caller, QUEUE, || destination_info(name, DestinationKind::Queue, &connection_id, is_new));
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
    fn advise(&mut self, caller: &Caller, topic: &str, about: impl FnOnce() -> Command<'static>) {
        if self.shared.directory.has_listeners() {
            self.publish_advisory(caller, topic, about());
        }
    }

    fn publish_advisory(&mut self, caller: &Caller, topic: &str, about: Command<'static>) {
        let mut message = self.advisory(caller.vhost.name(), topic, about);
        // Whoever may have the thing may have others told of it.
        let Ok(operator) = self.broker.operator(caller.vhost.name()) else { return };
        let _ = notices::send(&self.broker, &operator, &Address::Topic(topic.into()), &mut message);
    }

    /// A consumer of advisories begins, or ends.
    pub(super) fn count_listener(&self, addresses: &[Address], begins: bool) -> bool {
        let listens = addresses.iter().any(is_on_demand);
        if listens {
            self.shared.directory.count_listener(begins);
        }
        listens
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
        let mut told = vec![
            text("originBrokerId", &notices::broker_id(&self.settings)),
            text("originBrokerName", &self.settings.broker_name),
            text("originBrokerURL", &format!("tcp://{}", self.peer.local)),
        ];
        let kind = topic[ADVISORY.len()..].split('.').next();
        let name = match kind {
            Some("Consumer") => Some("consumerCount"),
            Some("Producer") => Some("producerCount"),
            _ => None,
        };
        told.extend(name.map(|name| notices::count(name, self.shared.directory.count(vhost, topic))));
        let now = self.broker.now().0 as i64;
        let mut message = Message {
            message_type: Some("Advisory".into()),
            data_structure: Some(Box::new(about)),
            marshalled_properties: notices::map(&told),
            timestamp: now,
            arrival: now,
            ..Message::default()
        };
        let topic = Destination { kind: DestinationKind::Topic, physical_name: Some(topic.to_owned().into()) };
        notices::own(&self.settings, &self.shared, topic, &mut message);
        message
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
