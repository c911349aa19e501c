//! A message: immutable, shared between the queues that hold it, kept in the form in which its publisher sent it.

use std::sync::Arc;

use bytes::Bytes;

use crate::value::Name;

/// Which protocol wrote a message's property bytes. The protocol crates choose distinct numbers, which are stored on
/// disk and so never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub u8);

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
    /// The property bytes as the publisher's protocol encodes them.
    pub properties: &'a [u8],
    /// The body.
    pub payload: &'a [u8],
    /// The allocation that `payload` lies in, where the body can be shared instead of copied.
    pub block: Option<&'a Bytes>,
}

/// An owned message. Routing key, properties and payload lie in one allocation.
#[derive(Debug)]
pub struct Message {
    exchange: Name,
    block: Bytes,
    routing_key_len: u16,
    properties_len: u32,
    origin: Origin,
    durable: bool,
}

impl Message {
    /// Copies what `view` refers to.
    pub fn copy_of(view: &MessageView<'_>) -> Self {
        let mut block = Vec::with_capacity(view.routing_key.len() + view.properties.len() + view.payload.len());
        block.extend_from_slice(view.routing_key.as_bytes());
        block.extend_from_slice(view.properties);
        block.extend_from_slice(view.payload);
        Self {
            exchange: view.exchange.clone(),
            routing_key_len: view.routing_key.len() as u16,
            properties_len: view.properties.len() as u32,
            block: block.into(),
            origin: view.origin,
            durable: view.durable,
        }
    }

    /// Adopts `block`, which is the routing key, then the properties, then the payload.
    ///
    /// # Panics
    /// If the lengths do not fit the block or the routing key is not UTF-8: the caller assembled it.
    pub fn from_block(
        exchange: Name,
        block: Bytes,
        routing_key_len: u16,
        properties_len: u32,
        origin: Origin,
        durable: bool,
    ) -> Self {
        assert!(routing_key_len as usize + properties_len as usize <= block.len(), "lengths lie inside the block");
        assert!(std::str::from_utf8(&block[..routing_key_len as usize]).is_ok(), "a routing key is text");
        Self { exchange, block, routing_key_len, properties_len, origin, durable }
    }

    /// The message through references.
    pub fn view(&self) -> MessageView<'_> {
        let (key, rest) = self.block.split_at(self.routing_key_len as usize);
        let (properties, payload) = rest.split_at(self.properties_len as usize);
        MessageView {
            exchange: &self.exchange,
            routing_key: std::str::from_utf8(key).unwrap_or_default(),
            origin: self.origin,
            durable: self.durable,
            properties,
            payload,
            block: Some(&self.block),
        }
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
