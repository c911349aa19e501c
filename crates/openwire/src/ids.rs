//! Ids and destinations.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops::RangeInclusive,
};

use crate::{
    error::Malformed,
    lent::{Bytes, Text},
    reader::Reader,
    structure::{Kind, Owned, Structure, owned_already, structures},
    writer::Writer,
};

structures! {
    /// A connection, named by the client.
    structure ConnectionId<'a> = 120 {
        /// Its name.
        value: Option<Text<'a>>,
    }

    /// A session of a connection. That with value -1 is there without a SessionInfo.
    structure SessionId<'a> = 121 {
        /// The connection's name.
        connection_id: Option<Text<'a>>,
        /// The session's number.
        value: i64,
    }

    /// A consumer of a session.
    structure ConsumerId<'a> = 122 {
        /// The connection's name.
        connection_id: Option<Text<'a>>,
        /// The session's number.
        session_id: i64,
        /// The consumer's number.
        value: i64,
    }

    /// A producer of a session.
    structure ProducerId<'a> = 123 {
        /// The connection's name.
        connection_id: Option<Text<'a>>,
        /// The producer's number.
        value: i64,
        /// The session's number.
        session_id: i64,
    }

    /// A broker.
    structure BrokerId<'a> = 124 {
        /// Its name.
        value: Option<Text<'a>>,
    }

    /// A message.
    structure MessageId<'a> = 110 {
        /// The id as another broker gave it; else it follows from the other fields.
        [since 10] text_view: Option<Text<'a>>,
        /// Who sent it.
        [cached] producer_id: Option<ProducerId<'a>>,
        /// Its number among those of its producer.
        producer_sequence_id: i64,
        /// Its number among those of its broker; 0 before it has one.
        broker_sequence_id: i64,
    }

    /// A transaction of one connection.
    structure LocalTransactionId<'a> = 111 {
        /// Its number.
        value: i64,
        /// The connection.
        [cached] connection_id: Option<ConnectionId<'a>>,
    }

    /// A branch of an XA transaction.
    structure XaTransactionId<'a> = 112 {
        /// The format of the other two.
        format_id: i32,
        /// The transaction.
        global_transaction_id: Option<Bytes<'a>>,
        /// The branch.
        branch_qualifier: Option<Bytes<'a>>,
    }

    /// A queue or topic.
    structure Destination<'a> = 100..=103 {
        /// Which of them.
        [code] kind: DestinationKind,
        /// Its name; several with commas between them are a composite.
        physical_name: Option<Text<'a>>,
    }
}

/// What a destination is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKind {
    /// A queue.
    #[default]
    Queue,
    /// A topic.
    Topic,
    /// A queue of one connection.
    TempQueue,
    /// A topic of one connection.
    TempTopic,
}

impl DestinationKind {
    /// Whether it is a topic of either sort.
    pub fn is_topic(self) -> bool {
        matches!(self, Self::Topic | Self::TempTopic)
    }

    /// Whether it ends with its connection.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::TempQueue | Self::TempTopic)
    }
}

impl Kind for DestinationKind {
    fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            100 => Self::Queue,
            101 => Self::Topic,
            102 => Self::TempQueue,
            103 => Self::TempTopic,
            _ => return None,
        })
    }

    fn code(self) -> u8 {
        100 + self as u8
    }
}

owned_already!(DestinationKind);

/// As clients print it, with `queue://` or the like before the name.
impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            DestinationKind::Queue => "queue",
            DestinationKind::Topic => "topic",
            DestinationKind::TempQueue => "temp-queue",
            DestinationKind::TempTopic => "temp-topic",
        };
        write!(f, "{scheme}://{}", self.physical_name.as_deref().unwrap_or_default())
    }
}

/// Structures of which a field takes any.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $variant:ident($type:ident),)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name<'a> {
            $($(#[$about])* $variant($type<'a>),)*
        }

        impl<'a> Structure<'a> for $name<'a> {
            const CODES: RangeInclusive<u8> = choice!(@codes $($type)*);

            fn code(&self) -> u8 {
                match self {
                    $(Self::$variant(value) => value.code(),)*
                }
            }

            fn read<const TIGHT: bool>(code: u8, from: &mut Reader<'a, '_, TIGHT>) -> Result<Self, Malformed> {
                $(if $type::CODES.contains(&code) {
                    return $type::read(code, from).map(Self::$variant);
                })*
                Err(Malformed::new("a structure has a type that does not belong there"))
            }

            fn write<const TIGHT: bool>(&self, to: &mut Writer<'_, TIGHT>) {
                match self {
                    $(Self::$variant(value) => value.write(to),)*
                }
            }
        }

        impl Owned for $name<'_> {
            type Owned = $name<'static>;

            fn into_owned(self) -> Self::Owned {
                match self {
                    $(Self::$variant(value) => $name::$variant(value.into_owned()),)*
                }
            }
        }

        /// As what it is, since its type code tells the rest.
        impl Hash for $name<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                match self {
                    $(Self::$variant(value) => value.hash(state),)*
                }
            }
        }

        $(impl<'a> From<$type<'a>> for $name<'a> {
            fn from(value: $type<'a>) -> Self {
                Self::$variant(value)
            }
        })*
    };
    (@codes $first:ident $second:ident) => { *$first::CODES.start()..=*$second::CODES.end() };
    (@codes $first:ident $_second:ident $_third:ident $last:ident) => { *$first::CODES.start()..=*$last::CODES.end() };
}

choice! {
    /// A transaction.
    TransactionId {
        /// Of one connection.
        Local(LocalTransactionId),
        /// Of a transaction manager.
        Xa(XaTransactionId),
    }
}

choice! {
    /// What can be removed by its id.
    ObjectId {
        /// A connection.
        Connection(ConnectionId),
        /// A session.
        Session(SessionId),
        /// A consumer.
        Consumer(ConsumerId),
        /// A producer.
        Producer(ProducerId),
    }
}

impl TransactionId<'_> {
    /// Bytes of its names.
    pub(crate) fn name_len(&self) -> usize {
        let len = |bytes: &Option<Bytes<'_>>| bytes.as_ref().map_or(0, |bytes| bytes.len());
        match self {
            Self::Local(LocalTransactionId { connection_id, .. }) => {
                connection_id.as_ref().and_then(|id| id.value.as_ref()).map_or(0, |value| value.len())
            }
            Self::Xa(id) => len(&id.global_transaction_id) + len(&id.branch_qualifier),
        }
    }
}

/// As ActiveMQ's logs have it: `XID:[1197822575,globalId=0a1b,branchId=02]`.
impl fmt::Display for XaTransactionId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XID:[{}", self.format_id)?;
        for (name, part) in [("globalId", &self.global_transaction_id), ("branchId", &self.branch_qualifier)] {
            write!(f, ",{name}=")?;
            part.as_deref().unwrap_or_default().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        f.write_str("]")
    }
}

/// As clients print them, the parts with colons between them.
macro_rules! displayed {
    ($($name:ident: $first:ident $(, $number:ident)*;)*) => {$(
        impl fmt::Display for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.$first.as_deref().unwrap_or_default())?;
                $(write!(f, ":{}", self.$number)?;)*
                Ok(())
            }
        }
    )*};
}

displayed! {
    ConnectionId: value;
    SessionId: connection_id, value;
    ConsumerId: connection_id, session_id, value;
    ProducerId: connection_id, session_id, value;
    BrokerId: value;
}

impl fmt::Display for ObjectId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(id) => id.fmt(f),
            Self::Session(id) => id.fmt(f),
            Self::Consumer(id) => id.fmt(f),
            Self::Producer(id) => id.fmt(f),
        }
    }
}

impl fmt::Display for MessageId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.text_view, &self.producer_id) {
            (Some(text), _) => f.write_str(text),
            (None, Some(producer)) => write!(f, "{producer}:{}", self.producer_sequence_id),
            (None, None) => write!(f, "{}", self.producer_sequence_id),
        }
    }
}
