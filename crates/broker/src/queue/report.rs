//! What an operator may want to know of a queue.

use std::sync::Arc;

use super::Queue;
use crate::{
    outlet::{ConsumerKey, Outlet},
    rules::Rules,
    session::{Millis, SessionId},
    topology::QueueInfo,
    traffic::Counts,
};

/// The numbers of a queue that change all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueNumbers {
    /// Messages that wait.
    pub ready: u64,
    /// Messages that consumers hold.
    pub held: u64,
    /// Bytes of the bodies that wait.
    pub ready_bytes: u64,
    /// Memory that the messages take, in bytes.
    pub memory_bytes: u64,
    /// Consumers.
    pub consumers: u32,
    /// What went through.
    pub counts: Counts,
}

/// A queue as it is.
#[derive(Debug)]
pub struct QueueReport {
    /// What changes all the time.
    pub numbers: QueueNumbers,
    /// The rules that it follows.
    pub rules: Arc<Rules>,
    /// When it was used last.
    pub used: Millis,
    /// Its consumers.
    pub consumers: Vec<ConsumerReport>,
    /// The offsets of the first message and of the next to come, and the number of segments, if it is a stream.
    pub stream: Option<(u64, u64, usize)>,
    /// Why its messages cannot be read, if they cannot.
    pub unreadable: Option<String>,
}

/// A consumer as it is.
#[derive(Clone, Debug)]
pub struct ConsumerReport {
    /// Where its deliveries go.
    pub outlet: Arc<dyn Outlet>,
    /// Its number there.
    pub key: ConsumerKey,
    /// Its session.
    pub session: SessionId,
    /// Whether its deliveries have to be acknowledged.
    pub acknowledges: bool,
    /// Whether nobody else may consume.
    pub exclusive: bool,
    /// Its priority.
    pub priority: i64,
    /// Unsettled deliveries that it may have; 0 for any number.
    pub prefetch: u32,
    /// Unsettled deliveries that it has.
    pub held: u32,
    /// Whether it gets messages: of a queue with a single active consumer only one does.
    pub is_active: bool,
    /// Whether its connection does not keep up.
    pub is_pressed: bool,
}

impl Queue {
    /// The queue's fixed properties.
    pub fn info(&self) -> &Arc<QueueInfo> {
        &self.info
    }

    /// What changes all the time.
    pub fn numbers(&self) -> QueueNumbers {
        QueueNumbers {
            ready: self.ready() as u64,
            held: self.held() as u64,
            ready_bytes: self.ready_bytes() + self.stream.as_ref().map_or(0, |stream| stream.bytes()),
            memory_bytes: self.memory_bytes() as u64,
            consumers: self.consumer_count() as u32,
            counts: self.traffic,
        }
    }

    /// All that there is to know.
    pub fn report(&self) -> QueueReport {
        let single = self.is_single();
        let consumers = self.consumers.iter().map(|attached| ConsumerReport {
            outlet: Arc::clone(&attached.consumer.outlet),
            key: attached.consumer.key,
            session: attached.consumer.session,
            acknowledges: !attached.consumer.settles_itself,
            exclusive: attached.consumer.exclusive,
            priority: attached.consumer.priority,
            prefetch: attached.consumer.prefetch,
            held: attached.held,
            is_active: !single || self.consumers.is_active(attached.id.index),
            is_pressed: attached.pressed,
        });
        QueueReport {
            numbers: self.numbers(),
            rules: Arc::clone(&self.rules),
            used: self.used,
            consumers: consumers.collect(),
            stream: self.stream.as_ref().map(|stream| stream.extent()),
            unreadable: self.unreadable.clone(),
        }
    }
}
