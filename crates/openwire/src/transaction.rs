//! Messages and acknowledgements that take effect together, as one record of the log.

use std::sync::{Arc, Weak};

use broker::{
    Broker, Facts, Message, Position, Route, Schedule, Settlement, Traits,
    broker::Caller,
    publish::{Batch, Body},
};

use crate::{
    ids::ConsumerId,
    mapping::Exception,
    outgoing::{Outgoing, Settled},
    stored::{self, Published},
};

/// Operations that a transaction may have.
const OPERATIONS: usize = 1_000_000;

/// A message as the broker keeps it, and its way there.
pub type Ready = (Arc<Route>, Arc<Message>);

/// What has gathered since it began.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Messages, with their way if that was known when they were sent.
    pub(crate) sent: Vec<(Option<Arc<Route>>, Arc<Message>)>,
    /// What consumers have acknowledged.
    pub(crate) acknowledged: Vec<Acknowledged>,
    operations: usize,
    /// Why it can no longer be committed.
    pub(crate) failure: Option<Exception>,
}

/// What a consumer has acknowledged at a time.
#[derive(Debug)]
pub struct Acknowledged {
    /// The connection of the consumer. After a restart there is none.
    pub(crate) by: Weak<Outgoing>,
    /// The consumer's number on its connection, and its id.
    pub(crate) consumer: (u32, ConsumerId<'static>),
    /// The messages.
    pub(crate) settled: Vec<Settled>,
}

impl Acknowledged {
    /// The transaction is over. Returns what nobody has any more, because its consumer has ended.
    fn end(&self, is_committed: bool) -> Option<&[Settled]> {
        let (number, id) = &self.consumer;
        if let Some(outgoing) = self.by.upgrade() {
            let mut state = outgoing.lock();
            if let Some(out) = state.consumer(*number).filter(|out| out.id() == id) {
                let numbers: Vec<i64> = self.settled.iter().map(|one| one.number).collect();
                out.end_pending(&numbers, is_committed);
                return None;
            }
        }
        Some(&self.settled)
    }
}

impl Transaction {
    /// Whether nothing has gathered.
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.acknowledged.is_empty()
    }

    /// Adds messages that are to be sent.
    pub fn send(&mut self, messages: Vec<Ready>) -> Result<(), Exception> {
        self.count(messages.len())?;
        self.sent.extend(messages.into_iter().map(|(route, message)| (Some(route), message)));
        Ok(())
    }

    /// Adds acknowledgements that are to take effect.
    pub fn acknowledge(&mut self, acknowledged: Acknowledged) -> Result<(), Exception> {
        self.count(acknowledged.settled.len())?;
        self.acknowledged.push(acknowledged);
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), Exception> {
        self.operations += more;
        if self.operations > OPERATIONS {
            return Err(Exception::resource(format!("a transaction may have {OPERATIONS} operations")));
        }
        Ok(())
    }

    /// Something of it cannot be done, so that it cannot be committed.
    pub fn fail(&mut self, exception: &Exception) {
        self.failure.get_or_insert_with(|| exception.clone());
    }

    /// Does all of it, and what is in the batch already. Returns where it is safe, and how many messages had no room in their
    /// queues.
    ///
    /// # Errors
    /// If it is not known any more where a message goes, which can only be after a restart. Then nothing is done.
    pub fn commit(
        &mut self,
        broker: &Broker,
        vhost: &str,
        mut batch: Batch<'_>,
    ) -> Result<(Position, usize), Exception> {
        let operator = broker.operator(vhost)?;
        let way = |(route, message): &(Option<_>, Arc<Message>)| current(broker, &operator, route.as_ref(), message);
        let routes = self.sent.iter().map(way).collect::<Result<Vec<_>, _>>()?;
        for (route, (_, message)) in routes.into_iter().zip(std::mem::take(&mut self.sent)) {
            if !route.leads_somewhere() {
                route.count_lost();
                continue;
            }
            // It comes with the commit, and is of no use after the same moment as before.
            let (now, Traits { due, .. }) = (broker.now(), *message.traits());
            batch.publish(route, Body::Owned(Arc::new(message.timed(now, due))), 1);
        }
        for acknowledged in &self.acknowledged {
            settle(&mut batch, &acknowledged.settled, Settlement::Accept);
        }
        let applied = broker.apply(&mut batch);
        for acknowledged in &self.acknowledged {
            acknowledged.end(true);
        }
        let refused = batch.published().filter(|published| published.is_refused).count();
        Ok((applied.position, refused))
    }

    /// What it acknowledged is with its consumers again, who give it to the application themselves; what has no consumer any
    /// more goes back.
    pub fn roll_back(self, broker: &Broker, mut batch: Batch<'_>) -> Position {
        for acknowledged in &self.acknowledged {
            if let Some(orphans) = acknowledged.end(false) {
                settle(&mut batch, orphans, Settlement::Fail);
            }
        }
        if batch.is_empty() { Position(0) } else { broker.apply(&mut batch).position }
    }
}

/// The way of a message: the one that it had, unless something has changed since.
fn current(
    broker: &Broker,
    operator: &Caller,
    known: Option<&Arc<Route>>,
    message: &Message,
) -> Result<Arc<Route>, Exception> {
    let view = message.view();
    let is_gone = || view.exchange.is_empty() && broker.queue(operator, view.routing_key).is_err();
    match known {
        Some(route) if route.version == operator.vhost.version() => return Ok(Arc::clone(route)),
        // Its queue went before the commit, and the message with it.
        Some(route) if is_gone() => return Ok(Arc::clone(route)),
        None if is_gone() && !stored::is_to_temporary(view.properties) => {
            let declaration = broker::QueueDeclaration { durable: true, ..broker::QueueDeclaration::default() };
            broker.declare_queue(operator, view.routing_key, declaration)?;
        }
        _ => {}
    }
    let route = match (broker.route(operator, view.exchange, &[view.routing_key], &Published(view.properties)), known) {
        (Ok(route), _) => route,
        (Err(_), Some(known)) => return Ok(Arc::clone(known)),
        (Err(refusal), None) => return Err(refusal.into()),
    };
    // What it asks for was checked when it was sent.
    let schedule = (!view.annotations.is_empty()).then(|| Schedule::of_headers(&Published(view.properties).headers()));
    Ok(Arc::new(match schedule {
        Some(Ok(Some(schedule))) => broker.later(operator.vhost.name(), &route, &schedule),
        _ => route,
    }))
}

/// Adds settlements to a batch.
pub(crate) fn settle(batch: &mut Batch<'_>, settled: &[Settled], how: Settlement) {
    for one in settled {
        let how = if one.revoked { Settlement::Late } else { how };
        batch.settle(&one.queue, one.consumer, how, one.slot, one.record);
    }
}
