//! Consumers of patterns of queues, which get those that are made later, too.

use std::{sync::Arc, task::Waker};

use broker::{Filter, Position, QueueInfo, Watch, broker::Caller};

use super::{OpenWireSession, consumers::Place};
use crate::{
    connection::ConsumerInfo,
    ids::{ConsumerId, DestinationKind},
    mapping::Address,
    structure::Owned,
};

/// What it takes to put a consumer on one more queue.
#[derive(Debug)]
pub(super) struct Pattern {
    info: ConsumerInfo<'static>,
    filter: Option<Filter>,
    kind: DestinationKind,
    watches: Vec<Arc<Watch>>,
}

impl OpenWireSession {
    /// Has queues gathered that a consumer of patterns is to get later; nothing for a consumer of none.
    pub(super) fn watch_patterns(
        &mut self,
        caller: &Caller,
        info: &ConsumerInfo<'_>,
        filter: Option<&Filter>,
        (addresses, kind): (&[Address], DestinationKind),
    ) -> Option<Box<Pattern>> {
        let is_pattern = |address: &&Address| matches!(address, Address::Queue(_)) && address.is_pattern();
        let watch = |address: &Address| self.broker.watch_queues(caller.vhost.name(), address.name());
        // A browser sees what is there when it comes.
        let patterns = addresses.iter().filter(is_pattern).filter(|_| !info.browser);
        let watches: Vec<_> = patterns.map(watch).collect();
        if watches.is_empty() {
            return None;
        }
        self.has_patterns = true;
        if let Some(waker) = self.waker.clone() {
            waker.wake();
        }
        Some(Box::new(Pattern { info: info.clone().into_owned(), filter: filter.cloned(), kind, watches }))
    }

    /// Puts consumers of patterns on queues that have been made.
    pub(super) fn poll_patterns(&mut self, waker: &Waker) {
        if !self.has_patterns {
            return;
        }
        let made = self.consumers.iter().filter_map(|(id, consumer)| {
            let pattern = consumer.pattern.as_ref()?;
            let queues: Vec<_> = pattern.watches.iter().flat_map(|watch| watch.take(waker)).collect();
            (!queues.is_empty()).then(|| (id.clone(), queues))
        });
        let made: Vec<_> = made.collect();
        for (id, queues) in made {
            queues.into_iter().for_each(|queue| self.join_queue(&id, queue));
        }
    }

    /// Puts a consumer of a pattern on a queue, unless it is on it or may not read it.
    fn join_queue(&mut self, id: &ConsumerId<'static>, queue: Arc<QueueInfo>) {
        let Some(caller) = self.caller.clone() else { return };
        let Some(consumer) = self.consumers.get(id) else { return };
        let Some(Pattern { info, filter, kind, .. }) = consumer.pattern.as_deref() else { return };
        let (number, info, filter, kind) = (consumer.number, info.clone(), filter.clone(), *kind);
        if self.outgoing.lock().consumer(number).is_none_or(|out| out.is_on(&queue)) {
            return;
        }
        let address = Some(Address::Queue(queue.name.to_string()));
        let place = Place { queue, address, position: Position(0) };
        if let Ok(Some(attachment)) = self.attach(&caller, (number, filter), &info, place, kind) {
            self.broker.resume(&attachment);
        }
    }
}
