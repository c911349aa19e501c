//! The model of the broker: messages, exchanges, bindings, queues, consumers, users and permissions.
//!
//! Here is everything that is true of Roadstead whatever protocol a client speaks and whatever disk lies below: how a
//! message finds its queues, who gets it next, and what must be on disk before anybody is told so. Not here: sockets,
//! threads, clocks, files, and any protocol's frames or reply codes. Time comes in as an argument, durability goes out
//! through the [`Log`] trait, deliveries go out through the [`Outlet`] trait.
//!
//! Start with [`Broker`] (the operations that sessions call), then [`publish`], then [`queue`].

#![warn(missing_docs)]

mod arguments;
pub mod authorization;
pub mod broker;
pub mod connection;
pub mod identity;
pub mod limits;
pub mod log;
pub mod message;
pub mod outlet;
pub mod pattern;
pub mod policy;
pub mod publish;
pub mod queue;
pub mod record;
pub mod refusal;
pub mod rules;
pub mod schedule;
pub mod selector;
pub mod session;
pub mod topology;
pub mod traffic;
pub mod value;

pub use crate::{
    authorization::{Authorization, Principal},
    broker::{
        Alarms, Appointments, Attachment, BindingRequest, Broker, DeleteRule, End, Happened, Happening, Interest, Kept,
        Letters, Mirror, Observed, Observer, QueueCounts, QueueDeclaration, RecalledTo, Remembered, Retain, Scheduled,
        Settings, Subject, Survey, Watch, Witness,
    },
    connection::{Channel, Connection, Terms},
    identity::{Access, Identity, Permissions, TopicPermissions, User},
    log::{Durability, Entry, Held, Load, Loaded, Log, MemoryLog, Position, Purpose, Recovered},
    message::{Codec, Codecs, Draft, Message, MessageView, Origin, Parts, Traits},
    outlet::{Attempts, ConsumerKey, Delivery, Outlet, Output, Pressure},
    policy::{ApplyTo, Policies, Policy, PolicyKind},
    publish::{Batch, Published, Route},
    queue::{
        Browses, Consumer, ConsumerId, Credit, Filter, GROUP_ID, GROUP_SEQUENCE, Group, Grouping, RetainedPage,
        Settlement, Start,
    },
    refusal::{Refusal, Resource},
    schedule::Schedule,
    selector::{Selector, SelectorError},
    session::{Credentials, Login, Millis, Peer, Reply, Request, SaslOutcome, SaslResponse, Session, SessionId},
    topology::{
        Binding, DURABLE_ONLY, Destination, ExchangeDeclaration, ExchangeKind, Facts, History, Keep, QueueId,
        QueueInfo, QueueKind, QueueType, Vhost,
    },
    traffic::{Counts, Event, Traffic},
    value::{Name, Table, Value},
};
