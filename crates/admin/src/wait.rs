//! Waiting for the log.

use std::{future::poll_fn, task::Poll};

use broker::{
    Broker, Position, Refusal,
    broker::{Caller, Fetch, Fetched},
};

/// Waits until a position is safe.
pub async fn committed(broker: &Broker, position: Position) {
    poll_fn(|context| {
        // First the waker: what is committed between the two must not be missed.
        broker.log().wake_when_committed(context.waker());
        if broker.committed() >= position { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Waits until all that was written so far is safe.
pub async fn all(broker: &Broker) {
    committed(broker, broker.barrier()).await;
}

/// Takes one message, once it is in memory.
pub async fn fetch(broker: &Broker, caller: &Caller, queue: &str, settled: bool) -> Result<Option<Fetched>, Refusal> {
    poll_fn(|context| {
        broker.wake_when_loaded(context.waker());
        match broker.fetch(caller, queue, settled) {
            Ok(Fetch::Message(fetched)) => Poll::Ready(Ok(Some(fetched))),
            Ok(Fetch::Empty) => Poll::Ready(Ok(None)),
            Ok(Fetch::Loading) => Poll::Pending,
            Err(refusal) => Poll::Ready(Err(refusal)),
        }
    })
    .await
}
