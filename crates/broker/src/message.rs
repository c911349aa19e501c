//! A message: immutable, shared between the queues that hold it, kept in the form in which its publisher sent it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    queue::{GROUP_ID, Group, Grouping},
    record,
    session::Millis,
    topology::Facts,
    value::{Name, Table, Value},
};

/// Which protocol wrote a message's property bytes. The protocol crates choose distinct numbers, which are stored on
/// disk and so never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub u8);

/// The origin of messages that the broker itself publishes. They have no properties; all their annotations are headers.
pub const OWN: Origin = Origin(0);

/// A message seen through references: into a socket's read buffer while it is being published, or into a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// The exchange that it was published to.
    pub exchange: &'a Name,
    /// The routing key that it was published with.
    pub routing_key: &'a str,
    /// Which protocol wrote `properties`.
    pub origin: Origin,
    /// Whether the publisher asked for it to survive a restart.
    pub durable: bool,
    /// Its priority, if the publisher gave it one.
    pub priority: Option<u8>,
    /// When it came to the broker, or to the queue that it was last moved to.
    pub arrived: Millis,
    /// When its own time in the queue is over, if it has one.
    pub due: Option<Millis>,
    /// The property bytes as the publisher's protocol encodes them.
    pub properties: &'a [u8],
    /// Headers that the broker adds when it delivers the message, as [`record::put_table`] writes them; empty for none.
    pub annotations: &'a [u8],
    /// The body.
    pub payload: &'a [u8],
    /// The allocation that `payload` lies in, where the body can be shared instead of copied.
    pub block: Option<&'a Bytes>,
}

impl MessageView<'_> {
    /// The headers that the broker adds.
    pub fn annotation_table(&self) -> Table {
        if self.annotations.is_empty() {
            return Table::default();
        }
        record::Reader::new(self.annotations).table().unwrap_or_default()
    }
}

/// An owned message. Routing key, properties, annotations and payload lie in one allocation.
#[derive(Clone, Debug)]
pub struct Message {
    exchange: Name,
    block: Bytes,
    parts: Parts,
    traits: Traits,
}

/// Where the parts of a message's block end. The payload is what is left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// Bytes of the routing key.
    pub routing_key_len: u16,
    /// Bytes of the properties.
    pub properties_len: u32,
    /// Bytes of the annotations.
    pub annotations_len: u32,
}

impl Parts {
    /// Bytes before the payload.
    pub fn head_len(self) -> usize {
        self.routing_key_len as usize + self.properties_len as usize + self.annotations_len as usize
    }
}

/// What the model knows of a message besides its text.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Which protocol wrote the properties.
    pub origin: Origin,
    /// Whether it is to survive a restart.
    pub durable: bool,
    /// Its priority, if it has one.
    pub priority: Option<u8>,
    /// When it came.
    pub arrived: Millis,
    /// When its own time is over.
    pub due: Option<Millis>,
}

impl Message {
    /// Copies what `view` refers to.
    pub fn copy_of(view: &MessageView<'_>) -> Self {
        let parts = [view.routing_key.as_bytes(), view.properties, view.annotations, view.payload];
        let mut block = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| block.extend_from_slice(part));
        let parts = Parts {
            routing_key_len: view.routing_key.len() as u16,
            properties_len: view.properties.len() as u32,
            annotations_len: view.annotations.len() as u32,
        };
        let MessageView { origin, durable, priority, arrived, due, .. } = *view;
        let traits = Traits { origin, durable, priority, arrived, due };
        Self { exchange: view.exchange.clone(), block: block.into(), parts, traits }
    }

    /// Copies what `view` refers to, with other annotations.
    pub(crate) fn annotated_copy(view: &MessageView<'_>, mut annotations: Table) -> Self {
        let mut encoded = Vec::new();
        annotations.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        record::put_table(&mut encoded, &annotations);
        Self::copy_of(&MessageView { annotations: &encoded, ..*view })
    }

    /// Adopts `block`, which is the routing key, the properties, the annotations and the payload.
    ///
    /// # Panics
    /// If the parts do not fit the block or the routing key is not UTF-8: the caller assembled it.
    pub fn from_block(exchange: Name, block: Bytes, parts: Parts, traits: Traits) -> Self {
        assert!(parts.head_len() <= block.len(), "the parts lie inside the block");
        let routing_key = &block[..parts.routing_key_len as usize];
        assert!(std::str::from_utf8(routing_key).is_ok(), "a routing key is text");
        Self { exchange, block, parts, traits }
    }

    /// The same message, with another time of its own.
    #[must_use]
    pub fn timed(&self, arrived: Millis, due: Option<Millis>) -> Self {
        let mut timed = self.clone();
        (timed.traits.arrived, timed.traits.due) = (arrived, due);
        timed
    }

    /// The message through references.
    pub fn view(&self) -> MessageView<'_> {
        let (key, rest) = self.block.split_at(self.parts.routing_key_len as usize);
        let (properties, rest) = rest.split_at(self.parts.properties_len as usize);
        let (annotations, payload) = rest.split_at(self.parts.annotations_len as usize);
        let Traits { origin, durable, priority, arrived, due } = self.traits;
        MessageView {
            exchange: &self.exchange,
            routing_key: std::str::from_utf8(key).unwrap_or_default(),
            origin,
            durable,
            priority,
            arrived,
            due,
            properties,
            annotations,
            payload,
            block: Some(&self.block),
        }
    }

    /// What the model knows of it.
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Bytes of the body.
    pub fn payload_len(&self) -> usize {
        self.block.len() - self.parts.head_len()
    }

    /// Bytes of memory that the message takes, within a few.
    pub fn memory_bytes(&self) -> usize {
        self.block.len() + size_of::<Self>() + 32
    }
}

/// A message on its way to its queues: copied out of the read buffer only if a queue has to keep it, and then once.
#[derive(Debug)]
pub struct Draft<'a> {
    view: MessageView<'a>,
    shared: Option<Arc<Message>>,
}

impl<'a> Draft<'a> {
    /// A draft over borrowed bytes.
    pub fn borrowed(view: MessageView<'a>) -> Self {
        Self { view, shared: None }
    }

    /// A draft of a message that is owned already.
    pub fn owned(message: &'a Arc<Message>) -> Self {
        Self { view: message.view(), shared: Some(Arc::clone(message)) }
    }

    /// The message through references.
    pub fn view(&self) -> &MessageView<'a> {
        &self.view
    }

    /// The message as one that can be kept.
    pub fn share(&mut self) -> Arc<Message> {
        Arc::clone(self.shared.get_or_insert_with(|| Arc::new(Message::copy_of(&self.view))))
    }
}

/// Annotation: routing keys of a message that nobody is told of.
pub const BLIND_KEYS: &str = "blind-keys";

/// What the model may ask of property bytes; each protocol answers for what it wrote.
pub trait Codec: Send + Sync + std::fmt::Debug {
    /// The headers.
    fn headers(&self, properties: &[u8]) -> Table;

    /// Whether there are headers.
    fn has_headers(&self, properties: &[u8]) -> bool {
        !self.headers(properties).is_empty()
    }

    /// A property by its name in AMQP 0-9-1; see [`crate::Facts::property`].
    fn property(&self, properties: &[u8], name: &str) -> Option<Value>;

    /// All properties by their names, headers among them.
    fn table(&self, properties: &[u8]) -> Table;

    /// The publisher's time to live, as he wrote it.
    fn expiration(&self, properties: &[u8]) -> Option<String>;

    /// The group that a message belongs to. Whoever looks knows in a moment that there is none, as it mostly is.
    fn group(&self, properties: &[u8]) -> Option<Group> {
        let name = GROUP_ID.as_bytes();
        // Looking for one byte is several times as quick as looking for a word.
        let may_have = properties.contains(&name[0]) && properties.windows(name.len()).any(|bytes| bytes == name);
        Group::of_headers(&may_have.then(|| self.headers(properties))?)
    }

    /// Whether the body was said to be text, by other means than its content type.
    fn is_text(&self, _properties: &[u8]) -> bool {
        false
    }

    /// The routing key that a message is known by outside of its protocol.
    fn routing_key<'a>(&self, key: &'a str) -> Cow<'a, str> {
        key.into()
    }

    /// What the names of queues begin with that the protocol has for one subscription, session or client.
    fn private_queues(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What the protocols say of the properties that they wrote.
#[derive(Clone, Debug, Default)]
pub struct Codecs(Arc<RwLock<Vec<Registered>>>);

type Registered = (Origin, Arc<dyn Codec>);

impl Codecs {
    /// Adds a protocol's.
    pub fn add(&self, origin: Origin, codec: Arc<dyn Codec>) {
        self.0.write().push((origin, codec));
    }

    /// That of a protocol.
    pub fn of(&self, origin: Origin) -> Option<Arc<dyn Codec>> {
        self.0.read().iter().find(|(of, _)| *of == origin).map(|(_, codec)| Arc::clone(codec))
    }

    /// Whether a queue is of one subscription, session or client of some protocol, by its name.
    pub fn is_private(&self, queue: &str) -> bool {
        let codecs = self.0.read();
        codecs.iter().any(|(_, codec)| codec.private_queues().iter().any(|private| queue.starts_with(private)))
    }

    /// How to tell groups of messages.
    pub(crate) fn grouping(&self) -> Grouping {
        Grouping::new(self.0.read().clone())
    }

    /// The routing key that a message is known by outside of its protocol.
    pub fn routing_key<'a>(&self, message: &MessageView<'a>) -> Cow<'a, str> {
        // A dead letter has the key by which it was sent on.
        let own = self.of(message.origin).filter(|_| message.annotations.is_empty());
        own.map_or(message.routing_key.into(), |codec| codec.routing_key(message.routing_key))
    }
}

/// A message that the broker has taken in, for exchanges that look into it.
pub(crate) struct Stored<'a> {
    /// Who knows its properties, if anybody does.
    pub(crate) codec: Option<Arc<dyn Codec>>,
    /// The property bytes.
    pub(crate) properties: &'a [u8],
    /// Headers that the broker adds.
    pub(crate) annotations: Table,
}

impl Facts for Stored<'_> {
    fn headers(&self) -> Table {
        let mut headers = self.codec.as_ref().map_or_else(Table::default, |codec| codec.headers(self.properties));
        for (name, value) in self.annotations.0.iter().filter(|(name, _)| name.starts_with("x-")) {
            headers.remove(name);
            headers.push(name, value.clone());
        }
        headers
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.codec.as_ref()?.property(self.properties, name)
    }
}
