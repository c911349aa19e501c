//! Asking a server that decides over others: how long, how many at once, and how a check waits that cannot be suspended.

use std::{future::Future, time::Duration};

use anyhow::{Context, anyhow};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{error::Elapsed, timeout},
};

/// Questions under way at once to one server; more wait for their turn.
const ASKING_MAX: usize = 32;

/// Threads that may wait for answers at once. The runtime has others in their place, but not without end: beyond this, the
/// answer is no.
const WAITING_MAX: usize = 128;

/// Bounds what is asked of one server.
#[derive(Debug)]
pub struct Asking {
    within: Duration,
    turns: Semaphore,
    waiting: Semaphore,
    runtime: Handle,
}

impl Asking {
    /// Every question is answered within this time, waiting for its turn included, or not at all. To be made within the
    /// runtime.
    pub fn new(within: Duration) -> Self {
        let (turns, waiting) = (Semaphore::new(ASKING_MAX), Semaphore::new(WAITING_MAX));
        Self { within, turns, waiting, runtime: Handle::current() }
    }

    /// Asks.
    ///
    /// # Errors
    /// If the answer does not come in time, or cannot be had.
    pub async fn ask<T>(&self, question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let answer = timeout(self.within, async {
            let _turn = self.turns.acquire().await.context("nobody is asked any more")?;
            question.await
        });
        answer.await.unwrap_or_else(|_: Elapsed| Err(anyhow!("no answer within {} ms", self.within.as_millis())))
    }

    /// Asks on behalf of a connection whose task cannot be suspended where it is. Its thread waits, and the runtime puts
    /// another one in its place.
    ///
    /// # Errors
    /// As for [`Asking::ask`], and if too many wait already.
    pub fn wait<T>(&self, question: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let _place = self.waiting.try_acquire().map_err(|_| anyhow!("{WAITING_MAX} wait for answers already"))?;
        tokio::task::block_in_place(|| self.runtime.block_on(self.ask(question)))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_silent_holds_up_nobody_else() {
        let asking = Arc::new(Asking::new(Duration::from_millis(200)));
        let stuck: Vec<_> = (0..2 * WAITING_MAX)
            .map(|_| {
                let asking = Arc::clone(&asking);
                tokio::spawn(async move { asking.wait(pending::<anyhow::Result<()>>()).is_err() })
            })
            .collect();
        // Others run all the while, though there are more waiting than threads.
        for _ in 0..100 {
            tokio::spawn(async {}).await.unwrap();
        }
        for task in stuck {
            assert!(task.await.unwrap());
        }
        assert!(asking.wait(async { Ok(()) }).is_ok());
    }
}
