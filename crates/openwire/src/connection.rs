//! What connections, sessions, consumers and producers are told and say of themselves.

use crate::{
    command::Command,
    ids::{BrokerId, ConnectionId, ConsumerId, Destination, ObjectId, ProducerId, SessionId, TransactionId},
    lent::{Bytes, Text},
    structure::{Base, structures},
    throwable::Throwable,
};

structures! {
    /// The first frame of both sides. `offer` reads the properties.
    structure WireFormatInfo<'a> = 1 {
        /// [`WireFormatInfo::MAGIC`].
        magic: [u8; 8],
        /// The highest version that the sender knows.
        version: i32,
        /// A primitive map.
        marshalled_properties: Option<Bytes<'a>>,
    }

    /// What a broker says of itself, first of all.
    command BrokerInfo<'a> = 2 {
        /// Its id.
        [cached] broker_id: Option<BrokerId<'a>>,
        /// Where it is.
        broker_url: Option<Text<'a>>,
        /// Others that clients may go to.
        peer_broker_infos: Option<Vec<BrokerInfo<'a>>>,
        /// Its name.
        broker_name: Option<Text<'a>>,
        /// Whether it stands by.
        slave_broker: bool,
        /// Whether another stands by for it.
        master_broker: bool,
        /// Whether it has a way to go on without this one.
        fault_tolerant_configuration: bool,
        /// Whether this connection of a network serves both directions.
        [since 2] duplex_connection: bool,
        /// Whether the connection is one between brokers.
        [since 2] network_connection: bool,
        /// The connection's number at the broker.
        [since 2] connection_id: i64,
        /// Where bodies of blob messages are to go.
        [since 3] broker_upload_url: Option<Text<'a>>,
        /// How a network of brokers is configured, as Java's properties.
        [since 3] network_properties: Option<Text<'a>>,
    }

    /// A client logs in.
    command ConnectionInfo<'a> = 3 {
        /// The connection's id.
        [cached] connection_id: Option<ConnectionId<'a>>,
        /// The client's name, which no other connection may have.
        client_id: Option<Text<'a>>,
        /// The password.
        password: Option<Text<'a>>,
        /// The user.
        user_name: Option<Text<'a>>,
        /// The brokers that it went through.
        broker_path: Option<Vec<BrokerId<'a>>>,
        /// Whether it is a broker that stands by.
        broker_master_connector: bool,
        /// Whether it wants to be told by ConnectionControl.
        manageable: bool,
        /// Whether the client of this connection answers for it.
        [since 2] client_master: bool,
        /// Whether the client reconnects by itself.
        [since 6] fault_tolerant: bool,
        /// Whether this is a connection that was there before.
        [since 6] failover_reconnect: bool,
        /// The client's address.
        [since 8] client_ip: Option<Text<'a>>,
    }

    /// A new session.
    command SessionInfo<'a> = 4 {
        /// Its id.
        [cached] session_id: Option<SessionId<'a>>,
    }

    /// A new consumer.
    command ConsumerInfo<'a> = 5 {
        /// Its id.
        [cached] consumer_id: Option<ConsumerId<'a>>,
        /// Whether it only looks.
        browser: bool,
        /// Where it gets messages from.
        [cached] destination: Option<Destination<'a>>,
        /// Messages that may be with it and not be acknowledged; with 0 it asks for each by MessagePull.
        prefetch_size: i32,
        /// Messages of a topic that may wait for it; more are dropped. 0 for no limit of its own.
        maximum_pending_message_limit: i32,
        /// Whether it may be sent messages while others are.
        dispatch_async: bool,
        /// The messages that it wants.
        selector: Option<Text<'a>>,
        /// The client's name.
        [since 10] client_id: Option<Text<'a>>,
        /// The name of its durable subscription, if it is one.
        subscription_name: Option<Text<'a>>,
        /// Whether it wants no messages of its own connection.
        no_local: bool,
        /// Whether it wants all messages for itself.
        exclusive: bool,
        /// Whether it wants messages of before.
        retroactive: bool,
        /// Its priority among consumers.
        priority: i8,
        /// The brokers that it is behind.
        broker_path: Option<Vec<BrokerId<'a>>>,
        /// What else messages have to match, in practice a NetworkBridgeFilter.
        additional_predicate: Option<Box<Command<'a>>>,
        /// Whether it is a broker's.
        network_subscription: bool,
        /// Whether it acknowledges many at a time.
        optimized_acknowledge: bool,
        /// Whether it acknowledges each by itself.
        no_range_acks: bool,
        /// The consumers that it stands for.
        [since 4] network_consumer_path: Option<Vec<ConsumerId<'a>>>,
    }

    /// A new producer.
    command ProducerInfo<'a> = 6 {
        /// Its id.
        [cached] producer_id: Option<ProducerId<'a>>,
        /// Where it sends to; nothing if each message says.
        [cached] destination: Option<Destination<'a>>,
        /// The brokers that it is behind.
        broker_path: Option<Vec<BrokerId<'a>>>,
        /// Whether its messages may be dispatched by somebody else than who received them.
        [since 2] dispatch_async: bool,
        /// Bytes that it sends before it waits for a ProducerAck; 0 if it does not.
        [since 3] window_size: i32,
    }

    /// A step of a transaction.
    command TransactionInfo<'a> = 7 {
        /// The connection.
        [cached] connection_id: Option<ConnectionId<'a>>,
        /// The transaction.
        [cached] transaction_id: Option<TransactionId<'a>>,
        /// One of [`transaction_type`].
        transaction_type: i8,
    }

    /// A destination is made or removed.
    command DestinationInfo<'a> = 8 {
        /// The connection.
        [cached] connection_id: Option<ConnectionId<'a>>,
        /// The destination.
        [cached] destination: Option<Destination<'a>>,
        /// 0 to make it, 1 to remove it.
        operation_type: i8,
        /// How long it may take, in milliseconds; 0 for ever.
        timeout: i64,
        /// The brokers that it went through.
        broker_path: Option<Vec<BrokerId<'a>>>,
    }

    /// A durable subscription is given up.
    command RemoveSubscriptionInfo<'a> = 9 {
        /// The connection.
        [cached] connection_id: Option<ConnectionId<'a>>,
        /// Its name.
        subscription_name: Option<Text<'a>>,
        /// The client's name.
        client_id: Option<Text<'a>>,
    }

    /// A sign of life.
    command KeepAliveInfo = 10 {}

    /// The sender is about to close the connection.
    command ShutdownInfo = 11 {}

    /// A connection, session, consumer or producer is no more, nor what belongs to it.
    command RemoveInfo<'a> = 12 {
        /// Which.
        [cached] object_id: Option<ObjectId<'a>>,
        /// The broker's number of the last message that the application got; -1 for none, -2 if it is not known.
        [since 5] last_delivered_sequence_id: i64,
    }

    /// A command in words.
    command ControlCommand<'a> = 14 {
        /// The words.
        command: Option<Text<'a>>,
    }

    /// What is buffered is to be sent.
    command FlushCommand = 15 {}

    /// Something failed that nobody waits for.
    command ConnectionError<'a> = 16 {
        /// What.
        exception: Option<Box<Throwable<'a>>>,
        /// The connection.
        connection_id: Option<ConnectionId<'a>>,
    }

    /// A consumer is to change.
    command ConsumerControl<'a> = 17 {
        /// Where it gets messages from.
        [since 6] destination: Option<Destination<'a>>,
        /// Whether it is to close.
        close: bool,
        /// The consumer.
        consumer_id: Option<ConsumerId<'a>>,
        /// The messages that may be with it and not be acknowledged.
        prefetch: i32,
        /// Whether it is to get all that there is.
        [since 2] flush: bool,
        /// Whether it is to start.
        [since 2] start: bool,
        /// Whether it is to rest.
        [since 2] stop: bool,
    }

    /// A connection is to change.
    command ConnectionControl<'a> = 18 {
        /// Whether it is to close.
        close: bool,
        /// Whether the process is to end.
        exit: bool,
        /// Whether the other side reconnects by itself.
        fault_tolerant: bool,
        /// Whether it is to go on.
        resume: bool,
        /// Whether it is to rest.
        suspend: bool,
        /// Addresses of the brokers of a cluster, with commas between them.
        [since 6] connected_brokers: Option<Text<'a>>,
        /// Where the client is to connect to instead.
        [since 6] reconnect_to: Option<Text<'a>>,
        /// Whether the client is to choose a broker anew.
        [since 6] rebalance_connection: bool,
        /// What a login may ask for.
        [since 8] token: Option<Bytes<'a>>,
    }
}

impl WireFormatInfo<'_> {
    /// What it begins with.
    pub const MAGIC: [u8; 8] = *b"ActiveMQ";
}

/// Steps of a transaction.
#[allow(missing_docs, reason = "the names are those of XA")]
pub mod transaction_type {
    pub const BEGIN: i8 = 0;
    pub const PREPARE: i8 = 1;
    pub const COMMIT_ONE_PHASE: i8 = 2;
    pub const COMMIT_TWO_PHASE: i8 = 3;
    pub const ROLLBACK: i8 = 4;
    pub const RECOVER: i8 = 5;
    pub const FORGET: i8 = 6;
    pub const END: i8 = 7;
}
