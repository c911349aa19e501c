//! Queues and topics of one connection alone, and where replies go.

use std::sync::Arc;

use broker::{QueueDeclaration, QueueInfo, broker::Caller};

use super::{StompConnection, subscribe::Wanted};
use crate::{
    destination::{self, Destination},
    mapping::Problem,
    outgoing::AckMode,
    wire::Frame,
};

/// A queue of this connection.
#[derive(Debug)]
pub(super) struct TempQueue {
    pub(super) info: Arc<QueueInfo>,
    /// The subscription that the broker has made for replies, as RabbitMQ does, unless the client has made one itself.
    pub(super) subscription: Option<u64>,
}

impl StompConnection {
    /// What a message has for its reply-to instead of a temporary destination, which means something here alone. A queue
    /// for replies is made and subscribed to with the first of them.
    pub(super) fn reply_to(&mut self, caller: &Caller, frame: &Frame<'_>) -> Result<Option<String>, Problem> {
        let Some(text) = frame.header("reply-to").filter(|text| text.starts_with("/temp-")) else { return Ok(None) };
        match Destination::parse(text)? {
            Destination::TempQueue(name) => {
                let info = self.temporary_queue(caller, &name)?;
                let is_subscribed =
                    self.subscriptions.values().any(|one| one.queues.iter().any(|(queue, _)| queue.id == info.id));
                let is_answered = self.temporary.get(&name).is_some_and(|queue| queue.subscription.is_some());
                if !is_subscribed && !is_answered {
                    let id = format!("/temp-queue/{name}");
                    let number = self.begin_subscription((&id, true), AckMode::Auto, None);
                    self.attach(caller, number, &Wanted::default(), &info, true)?;
                    self.temporary.entry(name).and_modify(|queue| queue.subscription = Some(number));
                    self.resume(number);
                }
                Ok(Some(info.name.to_string()))
            }
            Destination::TempTopic(name) => {
                Ok(Some(destination::of_routing(crate::EXCHANGE, &self.temporary_topic(&name))))
            }
            _ => Ok(None),
        }
    }

    /// This connection's queue of a name, which is made if it is not there.
    pub(super) fn temporary_queue(&mut self, caller: &Caller, name: &str) -> Result<Arc<QueueInfo>, Problem> {
        if let Some(known) = self.temporary.get(name) {
            return Ok(Arc::clone(&known.info));
        }
        let declaration = QueueDeclaration { exclusive: true, auto_delete: false, ..QueueDeclaration::default() };
        let queue_name = format!("stomp.gen-{}", self.broker.unique_name());
        let (info, _) = self.broker.declare_queue(caller, &queue_name, declaration)?;
        self.temporary.insert(name.into(), TempQueue { info: Arc::clone(&info), subscription: None });
        Ok(info)
    }

    /// The client subscribes to one of its queues itself: what the broker had for it is over.
    pub(super) fn take_over_replies(&mut self, caller: &Caller, name: &str) {
        let Some(number) = self.temporary.get_mut(name).and_then(|queue| queue.subscription.take()) else { return };
        self.detach(caller, number);
    }

    /// The routing key that stands for this connection's topic of a name.
    pub(super) fn temporary_topic(&self, name: &str) -> String {
        format!("temp-topic.{}.{name}", self.outgoing.lock().session)
    }
}
