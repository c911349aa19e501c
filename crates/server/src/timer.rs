//! What happens by the clock alone: messages and queues whose time is over, delays, retries.

use std::{future::poll_fn, sync::Arc, task::Poll};

use crate::serve::Server;

/// Ends MQTT sessions and publishes wills when they are due.
pub async fn run_sessions(server: Arc<Server>) {
    loop {
        let mut sleep = None;
        poll_fn(|context| {
            server.broker.set_time(server.clock.now());
            let next = server.sessions.catch_up(context.waker());
            let Some(next) = next else { return Poll::Pending };
            let mut timer = Box::pin(tokio::time::sleep_until(server.clock.instant(next)));
            let is_over = timer.as_mut().poll(context).is_ready();
            sleep = Some(timer);
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(sleep);
        tokio::task::yield_now().await;
    }
}

/// Has the broker look after what is due, as long as it runs. While nothing is due, nothing is done.
pub async fn run(server: Arc<Server>) {
    loop {
        let mut sleep = None;
        // The broker wakes this task if something becomes due sooner than it sleeps.
        poll_fn(|context| {
            server.broker.set_time(server.clock.now());
            let next = server.broker.catch_up(context.waker());
            let timer = tokio::time::sleep_until(server.clock.instant(next));
            let mut timer = Box::pin(timer);
            let is_over = timer.as_mut().poll(context).is_ready();
            sleep = Some(timer);
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(sleep);
        tokio::task::yield_now().await;
    }
}
