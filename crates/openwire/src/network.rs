//! What brokers say to each other and to their stores, and transports among themselves. Clients hardly send any of it.

use crate::{
    connection::ConsumerInfo,
    ids::{BrokerId, Destination, MessageId, TransactionId},
    lent::{Bytes, Text},
    message::MessageAck,
    structure::{Base, structures},
};

structures! {
    /// A broker was found or lost.
    structure DiscoveryEvent<'a> = 40 {
        /// Where it is.
        service_name: Option<Text<'a>>,
        /// Its name.
        broker_name: Option<Text<'a>>,
    }

    /// An acknowledgement of a durable subscription, as a journal has it.
    structure JournalTopicAck<'a> = 50 {
        /// The topic.
        destination: Option<Destination<'a>>,
        /// The message.
        message_id: Option<MessageId<'a>>,
        /// The message's number.
        message_sequence_id: i64,
        /// The subscription's name.
        subscription_name: Option<Text<'a>>,
        /// The client's name.
        client_id: Option<Text<'a>>,
        /// The transaction.
        transaction_id: Option<TransactionId<'a>>,
    }

    /// An acknowledgement of a queue, as a journal has it.
    structure JournalQueueAck<'a> = 52 {
        /// The queue.
        destination: Option<Destination<'a>>,
        /// The acknowledgement.
        message_ack: Option<MessageAck<'a>>,
    }

    /// A note in a journal.
    structure JournalTrace<'a> = 53 {
        /// The note.
        message: Option<Text<'a>>,
    }

    /// A step of a transaction, as a journal has it.
    structure JournalTransaction<'a> = 54 {
        /// The transaction.
        transaction_id: Option<TransactionId<'a>>,
        /// The step.
        transaction_type: i8,
        /// Whether it was prepared.
        was_prepared: bool,
    }

    /// A durable subscription.
    structure SubscriptionInfo<'a> = 55 {
        /// The client's name.
        client_id: Option<Text<'a>>,
        /// The topic as the store has it.
        [cached] destination: Option<Destination<'a>>,
        /// The messages that it wants.
        selector: Option<Text<'a>>,
        /// Its name.
        subscription_name: Option<Text<'a>>,
        /// The topic as it was subscribed to.
        [since 3] subscribed_destination: Option<Destination<'a>>,
        /// Whether it wants no messages of its own connection.
        [since 11] no_local: bool,
    }

    /// A piece of a command that is too large for a datagram.
    structure PartialCommand<'a> = 60 {
        /// The command's number.
        command_id: i32,
        /// The piece.
        data: Option<Bytes<'a>>,
    }

    /// The last piece of a command.
    structure LastPartialCommand<'a> = 61 {
        /// The command's number.
        command_id: i32,
        /// The piece.
        data: Option<Bytes<'a>>,
    }

    /// Commands are to be sent again, over datagrams.
    command ReplayCommand = 65 {
        /// The number of the first.
        first_nak_number: i32,
        /// The number of the last.
        last_nak_number: i32,
    }

    /// Which messages may go to a broker.
    structure NetworkBridgeFilter<'a> = 91 {
        /// The broker.
        [cached] network_broker_id: Option<BrokerId<'a>>,
        /// How many brokers messages and consumers may go through.
        [until 9] network_ttl: i32,
        /// How many brokers messages may go through.
        [since 10] message_ttl: i32,
        /// How many brokers consumers may go through.
        [since 10] consumer_ttl: i32,
    }

    /// The durable subscriptions of a broker. Since version 12.
    command BrokerSubscriptionInfo<'a> = 92 {
        /// The broker.
        broker_id: Option<BrokerId<'a>>,
        /// The broker's name.
        broker_name: Option<Text<'a>>,
        /// The subscriptions.
        subscription_infos: Option<Vec<ConsumerInfo<'a>>>,
    }
}
