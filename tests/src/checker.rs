//! Judges what clients saw of a broker that was killed again and again. It knows nothing of the broker but its promises.
//!
//! Clients write a [`history`] with a [`Recorder`]; [`check`] reads it and names every broken promise. The history must
//! end with a drain that acknowledges whatever is left, because only then "not delivered" means "lost". What MQTT
//! promises has a history and rules of its own, in [`mqtt`], and so has what moves by transactions, in [`transfers`].

mod body;
mod book;
mod history;
mod moves;
pub mod mqtt;
mod rules;
mod streams;
#[cfg(test)]
mod tests;
pub mod transfers;

use std::fmt;

pub use body::{read_body, write_body};
pub use history::{Clock, Death, Event, MessageId, Recorder, Retention, Sent, Terms, TransactionId, What, Wishes};

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A confirmed message, or one of a transaction whose commit was answered, is gone.
    Lost,
    /// What was never published there, or not yet, or was rolled back, or has another body.
    Phantom,
    /// It came again after an acknowledgement that holds.
    Resurrected,
    /// A publisher's messages came in another order than they were published in.
    Order,
    /// It came again without being marked as redelivered.
    Unmarked,
    /// It came again though nobody had put it back, or from two queues of which it can only be in one.
    Doubled,
    /// It came before its delay was over, or died before its time.
    Early,
    /// It came when its time to live was over.
    Late,
    /// A message of a stream has another number than before, or a number another message, or none.
    Offset,
    /// A publish was answered twice, or not at all, or an answer belongs to no publish.
    Confirm,
    /// A part of a transaction took effect, and another part did not.
    Transaction,
    /// The broker has forgotten a session, or closed a connection for no reason.
    Session,
    /// A retained message is an older one than it must be, or none, or one that was never there.
    Retained,
    /// The test saw too little of something to prove anything.
    Vacuous,
}

/// A broken promise, with the events that show it.
#[derive(Clone, Debug)]
pub struct Violation {
    pub kind: Kind,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// How much of what matters a history holds, or must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub kills: usize,
    pub publishes: usize,
    pub confirms: usize,
    /// Times that a publisher stopped and waited for all of its answers.
    pub waits: usize,
    /// Publishes that had no answer when the broker was killed.
    pub unconfirmed_at_kill: usize,
    /// Copies in queues that were promised in one run and first delivered in a later one.
    pub survivors: usize,
    pub repeats: usize,
    pub requeues: usize,
    pub commits: usize,
    /// Commits that had no answer when the broker was killed.
    pub commits_unknown: usize,
    /// Of these, how many turned out to have happened.
    pub commits_unknown_held: usize,
    /// Dead letters whose time was over.
    pub expired: usize,
    /// Dead letters that nobody wanted.
    pub rejected: usize,
    /// Dead letters that were too many.
    pub shed: usize,
    /// Dead letters, and messages with a delay, that came in a later run than they were published in.
    pub moved_over_kills: usize,
    /// Messages that came after a delay.
    pub delayed: usize,
    /// Deliveries in runs in which a queue with priorities was only taken from.
    pub ranked: usize,
    /// Readings of messages of streams.
    pub reads: usize,
    /// Different messages of streams that were read.
    pub streamed: usize,
    /// Readings in a later run than the message was first read in.
    pub reads_over_kills: usize,
}

/// The verdict on a history.
pub struct Verdict<C = Counts> {
    pub counts: C,
    pub violations: Vec<Violation>,
}

impl<C: fmt::Debug> Verdict<C> {
    pub fn has(&self, kind: Kind) -> bool {
        self.violations.iter().any(|violation| violation.kind == kind)
    }

    /// Panics with the first violations of each kind, because a broken broker breaks thousands of promises alike.
    #[track_caller]
    pub fn assert_clean(&self) {
        const SHOWN_PER_KIND: usize = 3;
        let mut violations = self.violations.clone();
        violations.sort_by_key(|violation| violation.kind);
        let shown: Vec<String> = violations
            .chunk_by(|a, b| a.kind == b.kind)
            .flat_map(|alike| alike.iter().take(SHOWN_PER_KIND).map(ToString::to_string))
            .collect();
        let (count, counts) = (violations.len(), &self.counts);
        assert!(count == 0, "{count} broken promises in {counts:?}; the first of each kind:\n\n{}", shown.join("\n\n"));
    }
}

/// Checks a whole history; the order of `events` does not matter.
pub fn check(mut events: Vec<Event>, at_least: &Counts) -> Verdict {
    events.sort_by_key(|event| event.at);
    let mut violations = Vec::new();
    let book = book::Book::of(&events, &mut violations);
    rules::all(&book, &mut violations);
    moves::all(&book, &mut violations);
    streams::all(&book, &mut violations);
    let counts = book.counts();
    violations.extend(rules::lacking(&counts, at_least));
    Verdict { counts, violations }
}

/// What a history lacks: what was seen too seldom, of what, how often, and how often it must be. A test that has not seen the
/// situations that it is about proves nothing.
fn lacking<const N: usize>(rows: [(&str, usize, usize); N]) -> Vec<Violation> {
    let text = |(what, seen, needed): (&str, usize, usize)| format!("{seen} {what}, needed are {needed}");
    let lacking = rows.into_iter().filter(|(_, seen, needed)| seen < needed);
    lacking.map(|row| Violation { kind: Kind::Vacuous, text: text(row) }).collect()
}
