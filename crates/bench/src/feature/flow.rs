//! One phase of a suite: tasks on threads of their own, watched until all messages have arrived or nothing moves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::control::{Control, Counters, Phase, Totals};
use crate::error::Error;
use crate::load::Patience;
use crate::meter::Meter;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::ServerCost;

const TICK: Duration = Duration::from_millis(1);

/// What a thread does. It ends soon after the flow has entered the phase that ends it.
pub(crate) type Task<'a> = Box<dyn FnOnce(&Shared<'_>) -> Result<(), Error> + Send + 'a>;

/// What a task has from the flow.
pub(crate) struct Shared<'a> {
    pub(crate) control: &'a Control,
    pub(crate) counters: &'a Counters,
    quiet_until: &'a AtomicU64,
}

impl Shared<'_> {
    /// What the task itself has counted.
    pub(crate) fn totals(&self) -> Totals {
        Totals::of(self.control.now(), std::iter::once(self.counters))
    }

    /// Until then it is no fault that nothing arrives.
    pub(crate) fn is_quiet_until(&self, at: u64) {
        self.quiet_until.fetch_max(at, Relaxed);
    }
}

/// The tasks of one phase, and when it is over.
pub(crate) struct Flow<'a> {
    pub(crate) options: &'a Options,
    pub(crate) name: &'static str,
    /// How many messages arrive, at all receivers together.
    pub(crate) arrivals: u64,
    /// End by themselves, or when the flow settles.
    pub(crate) senders: Vec<Task<'a>>,
    /// End when the flow is stopped.
    pub(crate) receivers: Vec<Task<'a>>,
}

/// What is common to the threads.
struct Common {
    control: Control,
    quiet_until: AtomicU64,
    has_failed: AtomicBool,
}

impl Flow<'_> {
    /// Runs all tasks to their end; the first one's error is the flow's.
    pub(crate) fn run(self) -> Result<Option<ServerCost>, Error> {
        let Self { options, name, arrivals, senders, receivers } = self;
        let common =
            Common { control: Control::new(), quiet_until: AtomicU64::new(0), has_failed: AtomicBool::new(false) };
        let mut counters: Vec<Counters> = Vec::new();
        counters.resize_with(senders.len() + receivers.len(), Counters::default);
        let meter = Meter::start(options.server_pid)?;
        let mut progress = Progress::new(options.server_pid);
        common.control.enter(Phase::Measuring);
        let start = Totals { at: common.control.now(), ..Totals::default() };
        let (spent, end) = thread::scope(|scope| {
            let mut free = counters.iter();
            // Receivers first, so that nothing waits for them.
            let receivers = spawn_all(scope, &common, receivers, &mut free);
            let senders = spawn_all(scope, &common, senders, &mut free);
            let watch = Watch { options, name, arrivals, common: &common, counters: &counters, senders: &senders };
            let end = watch.until_over(&mut progress);
            let spent = meter.map(Meter::stop).transpose();
            common.control.enter(Phase::Settling);
            let sent = join_all(senders);
            common.control.enter(Phase::Stopped);
            sent.and(join_all(receivers))?;
            Ok((spent?, end))
        })?;
        Ok(spent.map(|spent| spent.cost(progress.resident_max, options.size, &start, &end)))
    }
}

fn spawn_all<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    common: &'env Common,
    tasks: Vec<Task<'env>>,
    counters: &mut impl Iterator<Item = &'env Counters>,
) -> Vec<ScopedJoinHandle<'scope, Result<(), Error>>> {
    let spawn = |(task, counters): (Task<'env>, &'env Counters)| {
        scope.spawn(move || {
            let shared = Shared { control: &common.control, counters, quiet_until: &common.quiet_until };
            let done = task(&shared);
            common.has_failed.fetch_or(done.is_err(), Relaxed);
            done
        })
    };
    tasks.into_iter().zip(counters).map(spawn).collect()
}

/// Waits for all; the first error counts.
fn join_all(threads: Vec<ScopedJoinHandle<'_, Result<(), Error>>>) -> Result<(), Error> {
    let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or(Err(Error::Thread))).collect();
    ended.into_iter().collect()
}

/// What the coordinating thread looks at.
struct Watch<'a, 'scope> {
    options: &'a Options,
    name: &'a str,
    arrivals: u64,
    common: &'a Common,
    counters: &'a [Counters],
    senders: &'a [ScopedJoinHandle<'scope, Result<(), Error>>],
}

impl Watch<'_, '_> {
    /// The totals when everything has arrived, a task has failed, or nothing moves any more.
    fn until_over(&self, progress: &mut Progress) -> Totals {
        let mut patience = Patience::new(self.options, &Totals::default());
        loop {
            let is_sent = self.senders.iter().all(ScopedJoinHandle::is_finished);
            let now = Totals::of(self.common.control.now(), self.counters.iter());
            if now.at < self.common.quiet_until.load(Relaxed) {
                patience.rest(&now);
            }
            let is_done = is_sent && now.consumed >= self.arrivals;
            if is_done || self.common.has_failed.load(Relaxed) || patience.is_over(&now) {
                return now;
            }
            thread::sleep(TICK);
            progress.tick(&now, self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::parse;

    fn flow<'a>(options: &'a Options, senders: Vec<Task<'a>>, receivers: Vec<Task<'a>>) -> Flow<'a> {
        Flow { options, name: "test", arrivals: 3, senders, receivers }
    }

    #[test]
    fn a_flow_ends_when_all_has_arrived() {
        let options = parse("");
        let receiver: Task<'_> = Box::new(|shared| {
            while !shared.control.is_stopped() {
                shared.counters.consumed.fetch_add(1, Relaxed);
                thread::sleep(TICK);
            }
            Ok(())
        });
        let sender: Task<'_> = Box::new(|_| Ok(()));
        assert!(flow(&options, vec![sender], vec![receiver]).run().is_ok());
    }

    #[test]
    fn a_task_that_fails_ends_the_others() {
        let options = parse("");
        let receiver: Task<'_> = Box::new(|shared| {
            while !shared.control.is_stopped() {
                thread::sleep(TICK);
            }
            Ok(())
        });
        let sender: Task<'_> = Box::new(|_| Err(Error::HungUp));
        assert!(matches!(flow(&options, vec![sender], vec![receiver]).run(), Err(Error::HungUp)));
    }

    #[test]
    fn a_flow_without_an_end_is_over_in_time() {
        let options = parse("--timeout 0.05");
        let sender: Task<'_> = Box::new(|shared| {
            shared.is_quiet_until(u64::MAX);
            while !shared.control.is_settling() {
                thread::sleep(TICK);
            }
            Ok(())
        });
        assert!(flow(&options, vec![sender], Vec::new()).run().is_ok());
    }
}
