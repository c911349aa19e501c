//! What a load says to a broker and hears from it, in either protocol.

use super::openwire;
use super::stencil::Stencil;
use super::stomp;
use crate::error::Error;
use crate::uri::{Scheme, Uri};

/// The numbers of what is not a message, which count from 1.
pub(crate) const SETUP: u64 = 1 << 30;
pub(crate) const GOODBYE: u64 = SETUP + 1;

/// The protocol that a link speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenWire,
    Stomp,
}

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_topic: bool,
}

/// What a message is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) destination: Destination<'a>,
    /// The connection's name, with OpenWire.
    pub(crate) client: &'a str,
    pub(crate) is_persistent: bool,
    /// Whether the broker is to answer each message.
    pub(crate) is_answered: bool,
    /// Whether it belongs to a transaction.
    pub(crate) is_transacted: bool,
    /// A property, which selectors may ask for.
    pub(crate) part: Option<u8>,
    pub(crate) body: &'a [u8],
}

/// What a consumer wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription<'a> {
    pub(crate) destination: Destination<'a>,
    pub(crate) client: &'a str,
    pub(crate) prefetch: u16,
    /// How its deliveries are acknowledged.
    pub(crate) mode: AckMode,
    pub(crate) selector: Option<&'a str>,
}

/// What an acknowledgement settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckMode {
    /// Nothing is said, with STOMP.
    Auto,
    /// One delivery.
    Each,
    /// All up to one.
    Range,
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    /// It is answered under the number of its last message.
    Commit,
}

/// Something that the broker has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signal<'a> {
    /// The answer to what was said under this number.
    Answer(u64),
    Delivery(Delivery<'a>),
    /// The client is known now; the server's name, if it has one.
    Welcome(String),
    Other,
}

/// A message that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) is_redelivered: bool,
    /// What an acknowledgement calls it, as it stands in the frame.
    pub(crate) id: &'a [u8],
}

impl Dialect {
    pub(crate) fn of(scheme: Scheme) -> Self {
        if scheme == Scheme::Stomp { Self::Stomp } else { Self::OpenWire }
    }

    /// The first word, before which a server says nothing.
    pub(crate) fn hello(self, uri: &Uri, client: &str) -> Vec<u8> {
        match self {
            Self::OpenWire => openwire::hello(uri, client),
            Self::Stomp => stomp::hello(uri),
        }
    }

    /// Splits off what lies at the front of `bytes`: what it says, and its length.
    #[inline]
    pub(crate) fn split(self, bytes: &[u8]) -> Result<Option<(Signal<'_>, usize)>, Error> {
        match self {
            Self::OpenWire => openwire::split(bytes),
            Self::Stomp => stomp::split(bytes),
        }
    }

    /// What makes a producer, which is answered with `number`; nothing if there is no such thing.
    pub(crate) fn producer(self, number: u64, message: &Message<'_>) -> Vec<u8> {
        match self {
            Self::OpenWire => openwire::producer(number, message),
            Self::Stomp => stomp::declare(number, message.destination),
        }
    }

    /// What subscribes; it is answered with `number`.
    pub(crate) fn subscribe(self, number: u64, subscription: &Subscription<'_>) -> Vec<u8> {
        match self {
            Self::OpenWire => openwire::subscribe(number, subscription),
            Self::Stomp => stomp::subscribe(number, subscription),
        }
    }

    pub(crate) fn stencil(self, message: &Message<'_>) -> Stencil {
        match self {
            Self::OpenWire => openwire::stencil(message),
            Self::Stomp => stomp::stencil(message),
        }
    }

    /// A step of a transaction whose last message has `number`.
    pub(crate) fn transaction(self, out: &mut Vec<u8>, step: Step, client: &str, transaction: u64, number: u64) {
        match self {
            Self::OpenWire => openwire::transaction(out, step, client, transaction, number),
            Self::Stomp => stomp::transaction(out, step, transaction, number),
        }
    }

    /// Settles `count` deliveries from `first` to `last`.
    #[inline]
    pub(crate) fn acknowledge(
        self,
        out: &mut Vec<u8>,
        subscription: &Subscription<'_>,
        [first, last]: [&[u8]; 2],
        count: u64,
    ) {
        match self {
            Self::OpenWire => openwire::acknowledge(out, subscription, [first, last], count),
            Self::Stomp => stomp::acknowledge(out, last),
        }
    }

    /// What says goodbye, which is answered with `number`.
    pub(crate) fn goodbye(self, number: u64, client: &str) -> Vec<u8> {
        match self {
            Self::OpenWire => openwire::goodbye(number, client),
            Self::Stomp => stomp::goodbye(number),
        }
    }
}
