//! Messages, and what is said of them.

use crate::{
    command::Command,
    ids::{BrokerId, ConsumerId, Destination, MessageId, ProducerId, TransactionId},
    lent::{Bytes, Text},
    structure::{Base, Kind, owned_already, structures},
    throwable::Throwable,
};

structures! {
    /// A message, of a producer or in a dispatch.
    command Message<'a> = 23..=29 {
        /// What its content is.
        [code] kind: MessageKind,
        /// Who sent it.
        [cached] producer_id: Option<ProducerId<'a>>,
        /// Where it is to go.
        [cached] destination: Option<Destination<'a>>,
        /// The transaction that it belongs to.
        [cached] transaction_id: Option<TransactionId<'a>>,
        /// Where it was to go before it was sent on, as a dead letter or by a network of brokers.
        [cached] original_destination: Option<Destination<'a>>,
        /// Its id.
        message_id: Option<MessageId<'a>>,
        /// The transaction that it belonged to before it was sent on.
        [cached] original_transaction_id: Option<TransactionId<'a>>,
        /// The group whose messages go to one consumer: JMSXGroupID.
        group_id: Option<Text<'a>>,
        /// Its number in the group: JMSXGroupSeq; below 0 it ends the group.
        group_sequence: i32,
        /// JMSCorrelationID.
        correlation_id: Option<Text<'a>>,
        /// Whether it is to outlive the broker.
        persistent: bool,
        /// When it is no longer of use, in milliseconds since 1970; 0 for never.
        expiration: i64,
        /// 0 to 9.
        priority: i8,
        /// Where a reply is to go.
        reply_to: Option<Destination<'a>>,
        /// When it was sent, in milliseconds since 1970.
        timestamp: i64,
        /// JMSType.
        message_type: Option<Text<'a>>,
        /// The body, which `body` reads.
        content: Option<Bytes<'a>>,
        /// The user's properties, a map which `primitive` reads.
        marshalled_properties: Option<Bytes<'a>>,
        /// What an advisory is about.
        data_structure: Option<Box<Command<'a>>>,
        /// The only consumer that is to get it.
        [cached] target_consumer_id: Option<ConsumerId<'a>>,
        /// Whether the body is compressed.
        compressed: bool,
        /// How often it was delivered before. MessageDispatch has what counts.
        redelivery_counter: i32,
        /// The brokers that it went through.
        broker_path: Option<Vec<BrokerId<'a>>>,
        /// When it came to the broker, in milliseconds since 1970.
        arrival: i64,
        /// Who sent it, as the broker knows: JMSXUserID.
        user_id: Option<Text<'a>>,
        /// Whether it came over a network of brokers.
        received_by_df_bridge: bool,
        /// Whether it may be dropped for a consumer that is slow.
        [since 2] droppable: bool,
        /// The brokers of the cluster that it is for.
        [since 3] cluster: Option<Vec<BrokerId<'a>>>,
        /// When it came to the broker, in milliseconds since 1970.
        [since 3] broker_in_time: i64,
        /// When it left the broker, in milliseconds since 1970.
        [since 3] broker_out_time: i64,
        /// Whether it is the first of its group for this consumer.
        [since 10] jmsx_group_first_for_consumer: bool,
        /// Where the body of a blob message is.
        [only 29] remote_blob_url: Option<Text<'a>>,
        /// What the body of a blob message is.
        [only 29] mime_type: Option<Text<'a>>,
        /// Whether the broker deletes the body of a blob message.
        [only 29] deleted_by_broker: bool,
    }

    /// A message for a consumer. Without one, the end of a browser's messages, or of the time that a pull waits.
    command MessageDispatch<'a> = 21 {
        /// The consumer.
        [cached] consumer_id: Option<ConsumerId<'a>>,
        /// Where the consumer gets it from.
        [cached] destination: Option<Destination<'a>>,
        /// The message.
        message: Option<Box<Message<'a>>>,
        /// How often it was delivered before.
        redelivery_counter: i32,
    }

    /// What a consumer says of messages.
    command MessageAck<'a> = 22 {
        /// Where the consumer got them from.
        [cached] destination: Option<Destination<'a>>,
        /// The transaction in which it is said.
        [cached] transaction_id: Option<TransactionId<'a>>,
        /// The consumer.
        [cached] consumer_id: Option<ConsumerId<'a>>,
        /// One of [`ack_type`].
        ack_type: i8,
        /// The first of them; without one, the oldest that the consumer has.
        first_message_id: Option<MessageId<'a>>,
        /// The last of them.
        last_message_id: Option<MessageId<'a>>,
        /// How many they are.
        message_count: i32,
        /// Why the consumer does not want them.
        [since 7] poison_cause: Option<Box<Throwable<'a>>>,
    }

    /// A consumer without prefetch asks for a message. Since version 2.
    command MessagePull<'a> = 20 {
        /// The consumer.
        [cached] consumer_id: Option<ConsumerId<'a>>,
        /// Where it gets messages from.
        [cached] destination: Option<Destination<'a>>,
        /// How long it waits, in milliseconds; 0 for ever, -1 not at all.
        timeout: i64,
        /// The correlation id of the message that it wants.
        [since 3] correlation_id: Option<Text<'a>>,
        /// The message that it wants.
        [since 3] message_id: Option<MessageId<'a>>,
    }

    /// The broker has taken so much from a producer with a window. Since version 3.
    command ProducerAck<'a> = 19 {
        /// The producer.
        producer_id: Option<ProducerId<'a>>,
        /// Bytes.
        size: i32,
    }

    /// A message was dispatched; between brokers.
    command MessageDispatchNotification<'a> = 90 {
        /// The consumer.
        [cached] consumer_id: Option<ConsumerId<'a>>,
        /// Where it got the message from.
        [cached] destination: Option<Destination<'a>>,
        /// The number of the delivery.
        delivery_sequence_id: i64,
        /// The message.
        message_id: Option<MessageId<'a>>,
    }
}

/// What a message's content is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// There is none.
    #[default]
    Message,
    /// Bytes.
    Bytes,
    /// A map of primitive values.
    Map,
    /// A serialized object.
    Object,
    /// Primitive values one after the other.
    Stream,
    /// A string.
    Text,
    /// It is elsewhere. Since version 3.
    Blob,
}

impl Kind for MessageKind {
    fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            23 => Self::Message,
            24 => Self::Bytes,
            25 => Self::Map,
            26 => Self::Object,
            27 => Self::Stream,
            28 => Self::Text,
            29 => Self::Blob,
            _ => return None,
        })
    }

    fn code(self) -> u8 {
        23 + self as u8
    }
}

owned_already!(MessageKind);

/// What [`MessageAck`] says.
pub mod ack_type {
    /// They have arrived, and more may be sent.
    pub const DELIVERED: i8 = 0;
    /// Nobody can use them.
    pub const POISON: i8 = 1;
    /// They are done with, all up to the last.
    pub const STANDARD: i8 = 2;
    /// The client delivers them to the application again.
    pub const REDELIVERED: i8 = 3;
    /// The last of them is done with, and no other.
    pub const INDIVIDUAL: i8 = 4;
    /// They do not match the selector.
    pub const UNMATCHED: i8 = 5;
    /// They were too old when they arrived.
    pub const EXPIRED: i8 = 6;
}
