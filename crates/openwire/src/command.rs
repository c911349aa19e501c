//! Everything that has a type code.

use std::ops::RangeInclusive;

use crate::{
    connection::{
        BrokerInfo, ConnectionControl, ConnectionError, ConnectionInfo, ConsumerControl, ConsumerInfo, ControlCommand,
        DestinationInfo, FlushCommand, KeepAliveInfo, ProducerInfo, RemoveInfo, RemoveSubscriptionInfo, SessionInfo,
        ShutdownInfo, TransactionInfo, WireFormatInfo,
    },
    error::Malformed,
    ids::{
        BrokerId, ConnectionId, ConsumerId, Destination, LocalTransactionId, MessageId, ProducerId, SessionId,
        XaTransactionId,
    },
    message::{Message, MessageAck, MessageDispatch, MessageDispatchNotification, MessagePull, ProducerAck},
    network::{
        BrokerSubscriptionInfo, DiscoveryEvent, JournalQueueAck, JournalTopicAck, JournalTrace, JournalTransaction,
        LastPartialCommand, NetworkBridgeFilter, PartialCommand, ReplayCommand, SubscriptionInfo,
    },
    reader::Reader,
    response::{DataArrayResponse, DataResponse, ExceptionResponse, IntegerResponse, Response},
    structure::{Base, Owned, Structure},
    writer::Writer,
};

/// Lists every structure. Those that are large or rare are boxed, so that the others can be moved for little.
macro_rules! commands {
    ($($variant:ident($type:ty),)*) => {
        /// Whatever a frame, or a field that takes anything, may hold. Most are commands, the rest what commands are made of.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each is documented as a type")]
        pub enum Command<'a> {
            /// A frame without anything, which means nothing.
            Null,
            $($variant($type),)*
        }

        impl<'a> Structure<'a> for Command<'a> {
            const CODES: RangeInclusive<u8> = 0..=u8::MAX;

            fn code(&self) -> u8 {
                match self {
                    Self::Null => 0,
                    $(Self::$variant(value) => value.code(),)*
                }
            }

            fn base(&self) -> Option<&Base> {
                match self {
                    Self::Null => None,
                    $(Self::$variant(value) => value.base(),)*
                }
            }

            fn read<const TIGHT: bool>(code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
                $(if <$type>::CODES.contains(&code) {
                    return <$type>::read(code, from).map(Self::$variant);
                })*
                Err(Malformed::new("a type code is unknown"))
            }

            fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
                match self {
                    Self::Null => to.refuse("nothing cannot be part of something"),
                    $(Self::$variant(value) => value.write(to),)*
                }
            }
        }

        impl Owned for Command<'_> {
            type Owned = Command<'static>;

            fn into_owned(self) -> Self::Owned {
                match self {
                    Self::Null => Command::Null,
                    $(Self::$variant(value) => Command::$variant(value.into_owned()),)*
                }
            }
        }

        #[cfg(test)]
        impl Command<'static> {
            /// What makes a sample of each.
            pub(crate) const SAMPLES: &'static [fn(&mut crate::tests::sample::Source<'_>) -> Self] =
                &[$(|from| Self::$variant(crate::tests::sample::Sample::sample(from)),)*];
        }

        $(impl<'a> From<$type> for Command<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })*
    };
}

commands! {
    Message(Box<Message<'a>>),
    MessageDispatch(MessageDispatch<'a>),
    MessageAck(Box<MessageAck<'a>>),
    Response(Response),
    MessagePull(Box<MessagePull<'a>>),
    ProducerAck(ProducerAck<'a>),
    KeepAliveInfo(KeepAliveInfo),
    TransactionInfo(TransactionInfo<'a>),
    WireFormatInfo(WireFormatInfo<'a>),
    BrokerInfo(Box<BrokerInfo<'a>>),
    ConnectionInfo(Box<ConnectionInfo<'a>>),
    SessionInfo(SessionInfo<'a>),
    ConsumerInfo(Box<ConsumerInfo<'a>>),
    ProducerInfo(ProducerInfo<'a>),
    DestinationInfo(DestinationInfo<'a>),
    RemoveInfo(RemoveInfo<'a>),
    RemoveSubscriptionInfo(RemoveSubscriptionInfo<'a>),
    ShutdownInfo(ShutdownInfo),
    ControlCommand(ControlCommand<'a>),
    FlushCommand(FlushCommand),
    ConnectionError(ConnectionError<'a>),
    ConsumerControl(ConsumerControl<'a>),
    ConnectionControl(ConnectionControl<'a>),
    ExceptionResponse(ExceptionResponse<'a>),
    DataResponse(DataResponse<'a>),
    DataArrayResponse(DataArrayResponse<'a>),
    IntegerResponse(IntegerResponse),
    DiscoveryEvent(DiscoveryEvent<'a>),
    JournalTopicAck(Box<JournalTopicAck<'a>>),
    JournalQueueAck(Box<JournalQueueAck<'a>>),
    JournalTrace(JournalTrace<'a>),
    JournalTransaction(JournalTransaction<'a>),
    SubscriptionInfo(Box<SubscriptionInfo<'a>>),
    PartialCommand(PartialCommand<'a>),
    LastPartialCommand(LastPartialCommand<'a>),
    ReplayCommand(ReplayCommand),
    MessageDispatchNotification(Box<MessageDispatchNotification<'a>>),
    NetworkBridgeFilter(NetworkBridgeFilter<'a>),
    BrokerSubscriptionInfo(BrokerSubscriptionInfo<'a>),
    Destination(Destination<'a>),
    MessageId(MessageId<'a>),
    LocalTransactionId(LocalTransactionId<'a>),
    XaTransactionId(XaTransactionId<'a>),
    ConnectionId(ConnectionId<'a>),
    SessionId(SessionId<'a>),
    ConsumerId(ConsumerId<'a>),
    ProducerId(ProducerId<'a>),
    BrokerId(BrokerId<'a>),
}

impl Command<'_> {
    /// The command's number and whether it wants to be answered; nothing for what is no command.
    pub fn base(&self) -> Option<&Base> {
        Structure::base(self)
    }

    /// The same for ever: what is borrowed is copied.
    pub fn into_owned(self) -> Command<'static> {
        Owned::into_owned(self)
    }
}
