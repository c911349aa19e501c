//! Advisories of what happens to messages, whatever protocol they are of, made while somebody listens by OpenWire
//! (`AdvisoryBroker` of ActiveMQ).

use std::sync::Arc;

use broker::{Broker, Happened, Happening, Interest, Message as Kept, Subject, Witness, broker::Notice};

use crate::{
    Settings, Shared, TOPICS,
    command::Command,
    directory::{ADVISORY, Kind},
    ids::{Destination, DestinationKind},
    mapping::{Address, addresses},
    message::Message,
    notices::{self, Entry, text},
    stored,
    structure::Owned,
};

/// What happens, and the kind of advisories that tell of it.
const KINDS: [(Happening, Kind); 7] = [
    (Happening::Queued, Kind::Delivered),
    (Happening::Unattended, Kind::NoConsumer),
    (Happening::Consumed, Kind::Consumed),
    (Happening::Expired, Kind::Expired),
    (Happening::DeadLettered, Kind::DeadLetter),
    (Happening::Dropped, Kind::Discarded),
    (Happening::Slow, Kind::SlowConsumer),
];

/// Makes the advisories.
#[derive(Debug)]
pub struct Advisor {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
}

impl Advisor {
    /// One that tells who listens, as `shared` knows them.
    pub fn new(shared: &Arc<Shared>, settings: &Arc<Settings>) -> Self {
        Self { shared: Arc::clone(shared), settings: Arc::clone(settings) }
    }

    /// What is told of a message: its properties, without what it holds.
    fn about_message(&self, broker: &Broker, kept: &Kept, to: &Address) -> (Command<'static>, Vec<Entry>) {
        let mut message = stored::restored(&kept.view(), &broker.codecs(), 0);
        message.content = None;
        let id = message.message_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let told = vec![text("orignalMessageId", &id), text("orignalDestination", &qualified(to))];
        (Command::Message(Box::new((*message).into_owned())), told)
    }

    /// The queue or topic in which something has happened. What is in the queue of a subscription is of a topic, which the message
    /// or the consumer tells.
    fn place(&self, broker: &Broker, happened: &Happened) -> Option<Address> {
        let queue = &happened.queue;
        if !broker.codecs().is_private(&queue.name) {
            return Some(Address::Queue(queue.name.to_string()));
        }
        match &happened.subject {
            Subject::Message(kept) => {
                let view = kept.view();
                let is_of_topic = view.exchange.as_str() == TOPICS;
                is_of_topic.then(|| Address::Topic(broker.codecs().routing_key(&view).into_owned()))
            }
            Subject::Consumer(outlet, key) => {
                let (_, id) = outlet.consumer_name(*key)?;
                let Some(Command::ConsumerInfo(info)) = self.shared.directory.find(&queue.vhost, &id) else {
                    return None;
                };
                addresses(info.destination.as_ref()?).ok()?.into_iter().next()
            }
        }
    }

    fn about(&self, broker: &Broker, happened: &Happened, to: &Address) -> (Option<Command<'static>>, Vec<Entry>) {
        match &happened.subject {
            Subject::Message(kept) => {
                let (about, told) = self.about_message(broker, kept, to);
                (Some(about), told)
            }
            Subject::Consumer(outlet, key) => {
                let Some((_, id)) = outlet.consumer_name(*key) else { return (None, Vec::new()) };
                (self.shared.directory.find(&happened.queue.vhost, &id), vec![text("consumerId", &id)])
            }
        }
    }
}

impl Witness for Advisor {
    fn interest(&self) -> Interest {
        if !self.shared.directory.has_listeners() {
            return Interest::default();
        }
        let wanted = KINDS.into_iter().filter(|(_, kind)| self.shared.directory.may_want(*kind));
        wanted.fold(Interest::default(), |interest, (happening, _)| interest.with(happening))
    }

    fn tell(&self, broker: &Broker, happened: &Happened) -> Vec<Notice> {
        let Some((_, kind)) = KINDS.into_iter().find(|(what, _)| *what == happened.what) else { return Vec::new() };
        let (vhost, to) = (&happened.queue.vhost, self.place(broker, happened));
        let Some(to) = to.filter(|to| !to.name().starts_with(ADVISORY)) else { return Vec::new() };
        let topic = topic(kind, &to);
        if !self.shared.directory.wants(vhost, kind, &topic) {
            return Vec::new();
        }
        let url = format!("vm://{}", self.settings.broker_name);
        let mut advisory = match (&happened.subject, kind) {
            (Subject::Message(kept), Kind::NoConsumer) => {
                unattended(&stored::restored(&kept.view(), &broker.codecs(), 0), &topic)
            }
            _ => {
                let (about, told) = self.about(broker, happened, &to);
                notices::advisory(&self.settings, &self.shared, &topic, (about, told), (&url, broker.now()))
            }
        };
        let Ok(operator) = broker.operator(vhost) else { return Vec::new() };
        let ready = notices::ready(broker, &operator, &Address::Topic(topic), &mut advisory);
        ready.ok().filter(|(route, _)| route.leads_somewhere()).into_iter().collect()
    }
}

/// The topic of advisories of a kind about a queue or topic.
pub(crate) fn topic(kind: Kind, of: &Address) -> String {
    let what = if matches!(of, Address::Topic(_)) { "Topic" } else { "Queue" };
    format!("{ADVISORY}{}.{what}.{}", kind.word(), of.name())
}

/// The message that tells that nobody was there for one: the same.
pub(crate) fn unattended(message: &Message<'_>, topic: &str) -> Message<'static> {
    let mut copy = message.clone().into_owned();
    copy.original_destination = copy.destination.take();
    copy.destination = Some(Destination { kind: DestinationKind::Topic, physical_name: Some(topic.to_owned().into()) });
    copy
}

fn qualified(address: &Address) -> String {
    match address {
        Address::Queue(name) => format!("queue://{name}"),
        Address::Topic(name) => format!("topic://{name}"),
    }
}
