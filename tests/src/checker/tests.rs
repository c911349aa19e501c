//! Histories by hand: a clean one, and one for every way to break a promise.

mod moves;
mod streams;

use super::{
    Clock, Counts, Event, Kind, MessageId, Recorder, Sent, Terms, TransactionId, Verdict, What, Wishes, check,
};

const Q: &[&str] = &["q"];
const BOTH: &[&str] = &["q", "r"];

fn id(sequence: u64) -> MessageId {
    MessageId { publisher: 7, sequence }
}

/// A history that grows by one event a call.
#[derive(Default)]
struct Script {
    clock: Clock,
    run: u32,
    ms: u64,
    events: Vec<Event>,
}

impl Script {
    fn note(mut self, client: &str, what: What) -> Self {
        let mut recorder = Recorder::new(&self.clock, client, self.run);
        recorder.note(what);
        let ms = self.ms;
        self.events.extend(recorder.into_events().into_iter().map(|event| Event { ms, ..event }));
        self
    }

    fn wait(self, ms: u64) -> Self {
        Self { ms: self.ms + ms, ..self }
    }

    fn declare(self, queue: &'static str, terms: Terms) -> Self {
        self.note("test", What::Declare { queue, terms })
    }

    /// The tag is the sequence number, as in a first run.
    fn publish(self, sequence: u64, queues: &'static [&'static str]) -> Self {
        self.publish_as(sequence, queues, Wishes::default())
    }

    fn publish_as(self, sequence: u64, queues: &'static [&'static str], wishes: Wishes) -> Self {
        let (message, sent) = (id(sequence), Sent::Confirmed(sequence));
        self.note("publisher", What::Publish { message, queues, sent, wishes })
    }

    fn publish_within(self, transaction: u64, sequence: u64, queues: &'static [&'static str]) -> Self {
        let sent = Sent::Within(TransactionId(transaction));
        let (message, wishes) = (id(sequence), Wishes::default());
        self.note("worker", What::Publish { message, queues, sent, wishes })
    }

    fn answer(self, tag: u64, multiple: bool, positive: bool) -> Self {
        self.note("publisher", What::Confirm { publisher: 7, tag, multiple, positive })
    }

    fn confirm(self, tag: u64) -> Self {
        self.answer(tag, false, true)
    }

    fn deliver_to(self, client: &str, queue: &'static str, sequence: u64, redelivered: bool) -> Self {
        self.note(client, What::Deliver { queue, message: id(sequence), redelivered, death: None })
    }

    fn deliver(self, queue: &'static str, sequence: u64) -> Self {
        self.deliver_to("consumer", queue, sequence, false)
    }

    fn redeliver(self, queue: &'static str, sequence: u64) -> Self {
        self.deliver_to("consumer", queue, sequence, true)
    }

    fn requeue(self, queue: &'static str, sequence: u64) -> Self {
        self.note("consumer", What::Requeue { queue, message: id(sequence) })
    }

    fn ack(self, queue: &'static str, sequence: u64) -> Self {
        self.note("consumer", What::Ack { queue, message: id(sequence), within: None })
    }

    fn ack_within(self, transaction: u64, queue: &'static str, sequence: u64) -> Self {
        let within = Some(TransactionId(transaction));
        self.note("worker", What::Ack { queue, message: id(sequence), within })
    }

    fn commit(self, transaction: u64) -> Self {
        self.note("worker", What::CommitAsked(TransactionId(transaction)))
    }

    fn commit_ok(self, transaction: u64) -> Self {
        self.note("worker", What::CommitAnswered(TransactionId(transaction)))
    }

    fn roll_back(self, transaction: u64) -> Self {
        self.note("worker", What::RolledBack(TransactionId(transaction)))
    }

    fn kill(self) -> Self {
        let mut killed = self.note("test", What::Killed);
        killed.run += 1;
        killed
    }

    fn verdict(self) -> Verdict {
        check(self.events, &Counts::default())
    }

    #[track_caller]
    fn passes(self) {
        self.verdict().assert_clean();
    }

    /// Exactly the promise `kind` is broken, and the text names the message, the queue, and an event.
    #[track_caller]
    fn breaks(self, kind: Kind, sequence: u64, queue: &str) {
        let verdict = self.verdict();
        let kinds: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
        assert!(!kinds.is_empty() && kinds.iter().all(|found| *found == kind), "{kinds:?} instead of {kind:?}");
        let text = &verdict.violations[0].text;
        assert!(text.contains(&format!("message {} in queue {queue}", id(sequence))) && text.contains('#'), "{text}");
    }

    /// A breach that belongs to no message and queue.
    #[track_caller]
    fn breaks_somehow(self, kind: Kind) {
        let verdict = self.verdict();
        let kinds: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, [kind]);
    }
}

fn script() -> Script {
    Script::default()
}

#[test]
fn a_clean_history_passes_and_is_counted() {
    let script = script()
        .publish(1, BOTH)
        .publish(2, Q)
        .publish(3, Q)
        .answer(2, true, true)
        .deliver("q", 1)
        .requeue("q", 1)
        .redeliver("q", 1)
        .publish_within(1000, 4, BOTH)
        .ack_within(1000, "q", 1)
        .commit(1000)
        .kill()
        .redeliver("q", 2)
        .redeliver("q", 4)
        .redeliver("r", 1)
        .redeliver("r", 4)
        .ack_within(1001, "q", 2)
        .ack_within(1001, "q", 4)
        .ack_within(1001, "r", 1)
        .ack_within(1001, "r", 4)
        .commit(1001)
        .commit_ok(1001);
    let verdict = script.verdict();
    verdict.assert_clean();
    let counts = Counts {
        kills: 1,
        publishes: 4,
        confirms: 2,
        waits: 0,
        unconfirmed_at_kill: 1,
        survivors: 2,
        repeats: 1,
        requeues: 1,
        commits: 1,
        commits_unknown: 1,
        commits_unknown_held: 1,
        ..Counts::default()
    };
    assert_eq!(verdict.counts, counts);
}

#[test]
fn a_confirmed_message_that_never_came_is_lost() {
    script().publish(1, BOTH).confirm(1).deliver("q", 1).ack("q", 1).kill().breaks(Kind::Lost, 1, "r");
}

#[test]
fn an_unconfirmed_or_refused_message_may_be_lost() {
    script().publish(1, Q).publish(2, Q).answer(2, false, false).kill().passes();
}

#[test]
fn a_message_of_an_answered_commit_is_lost() {
    script().publish_within(1000, 1, Q).commit(1000).commit_ok(1000).kill().breaks(Kind::Lost, 1, "q");
}

#[test]
fn a_message_that_was_taken_and_not_acknowledged_is_lost() {
    script().publish(1, Q).confirm(1).deliver("q", 1).kill().breaks(Kind::Lost, 1, "q");
    // The acknowledgement in the first run was lost, as the delivery in the second shows.
    let twice = script().publish(1, Q).confirm(1).deliver("q", 1).ack("q", 1).kill().redeliver("q", 1).kill();
    twice.breaks(Kind::Lost, 1, "q");
}

#[test]
fn an_acknowledgement_that_was_rolled_back_does_not_excuse_a_loss() {
    let taken = script().publish(1, Q).confirm(1).deliver("q", 1).ack_within(1000, "q", 1).roll_back(1000);
    taken.kill().breaks(Kind::Lost, 1, "q");
}

#[test]
fn a_message_that_nobody_published_is_a_phantom() {
    script().deliver("q", 1).breaks(Kind::Phantom, 1, "q");
    script().publish(1, Q).deliver("r", 1).breaks(Kind::Phantom, 1, "r");
    script().deliver("q", 1).publish(1, Q).breaks(Kind::Phantom, 1, "q");
}

#[test]
fn a_damaged_body_is_a_phantom() {
    let what = What::Unreadable { queue: "q", beginning: "?".to_owned() };
    script().note("consumer", what).breaks_somehow(Kind::Phantom);
}

#[test]
fn a_message_of_no_committed_transaction_is_a_phantom() {
    script().publish_within(1000, 1, Q).roll_back(1000).deliver("q", 1).breaks(Kind::Phantom, 1, "q");
    script().publish_within(1000, 1, Q).deliver("q", 1).breaks(Kind::Phantom, 1, "q");
    let early = script().publish_within(1000, 1, Q).deliver("q", 1).ack("q", 1).commit(1000).commit_ok(1000);
    early.breaks(Kind::Phantom, 1, "q");
}

#[test]
fn a_durably_acknowledged_message_must_not_come_back() {
    let acknowledged = || script().publish(1, Q).confirm(1).deliver("q", 1).ack_within(1000, "q", 1).commit(1000);
    acknowledged().commit_ok(1000).kill().redeliver("q", 1).ack("q", 1).breaks(Kind::Resurrected, 1, "q");
    acknowledged().kill().redeliver("q", 1).ack("q", 1).passes();
}

#[test]
fn an_acknowledged_message_must_not_come_back_within_the_run() {
    let acknowledged = || script().publish(1, Q).confirm(1).deliver("q", 1).ack("q", 1);
    acknowledged().redeliver("q", 1).ack("q", 1).breaks(Kind::Resurrected, 1, "q");
    acknowledged().kill().redeliver("q", 1).ack("q", 1).passes();
}

#[test]
fn first_deliveries_of_a_run_are_in_order() {
    let published = || script().publish(1, Q).publish(2, Q);
    published().deliver("q", 2).deliver("q", 1).breaks(Kind::Order, 1, "q");
    // Again in the second run, where both have been seen before.
    let again = published().deliver("q", 1).deliver("q", 2).kill();
    again.redeliver("q", 2).redeliver("q", 1).breaks(Kind::Order, 1, "q");
    // A message that was put back is no first delivery.
    published().deliver("q", 1).deliver("q", 2).requeue("q", 1).redeliver("q", 1).passes();
}

#[test]
fn two_consumers_are_not_compared() {
    let published = || script().publish(1, Q).publish(2, Q).publish(3, Q);
    published().deliver("q", 2).deliver_to("other", "q", 1, false).passes();
    let within_one = published().deliver("q", 3).deliver_to("other", "q", 1, false).deliver("q", 2);
    within_one.breaks(Kind::Order, 2, "q");
}

#[test]
fn first_deliveries_over_all_runs_are_in_order() {
    let broken = script().publish(1, Q).publish(2, Q).deliver("q", 2).kill().redeliver("q", 1);
    broken.breaks(Kind::Order, 1, "q");
}

#[test]
fn a_repeat_must_be_marked() {
    let broken = script().publish(1, Q).deliver("q", 1).kill().deliver("q", 1);
    broken.breaks(Kind::Unmarked, 1, "q");
}

#[test]
fn a_publish_is_answered_once() {
    let published = || script().publish(1, Q).publish(2, Q).deliver("q", 1).deliver("q", 2).ack("q", 1).ack("q", 2);
    published().confirm(1).confirm(1).breaks_somehow(Kind::Confirm);
    published().answer(2, true, true).answer(1, false, false).breaks_somehow(Kind::Confirm);
    published().confirm(3).breaks_somehow(Kind::Confirm);
    let waited = What::ConfirmsAwaited { publisher: 7 };
    published().confirm(1).note("publisher", waited.clone()).breaks_somehow(Kind::Confirm);
    published().confirm(2).confirm(1).note("publisher", waited).passes();
}

#[test]
fn publishes_of_a_transaction_come_all_or_none() {
    let committed = || script().publish_within(1000, 1, BOTH).publish_within(1000, 2, Q).commit(1000);
    committed().kill().passes();
    committed().kill().redeliver("q", 1).redeliver("r", 1).breaks(Kind::Transaction, 2, "q");
    committed().kill().redeliver("q", 1).redeliver("q", 2).breaks(Kind::Transaction, 1, "r");
    // What came before the kill, and was settled, need not come after it.
    committed().deliver("r", 1).ack("r", 1).kill().redeliver("q", 1).redeliver("q", 2).passes();
    committed().deliver("r", 1).kill().redeliver("q", 1).redeliver("q", 2).breaks(Kind::Transaction, 1, "r");
    // What came before the kill may have been too early for the disk.
    committed().deliver("r", 1).deliver("q", 1).ack("q", 1).kill().passes();
}

#[test]
fn publishes_and_acknowledgements_of_a_transaction_go_together() {
    let asked = || {
        let taken = script().publish(1, Q).confirm(1).deliver("q", 1);
        taken.publish_within(1000, 2, &["r"]).ack_within(1000, "q", 1).commit(1000)
    };
    asked().kill().redeliver("q", 1).ack("q", 1).passes();
    asked().kill().redeliver("r", 2).passes();
    asked().kill().redeliver("r", 2).redeliver("q", 1).ack("q", 1).breaks(Kind::Transaction, 1, "q");
    asked().kill().breaks(Kind::Transaction, 2, "r");
    asked().deliver("r", 2).ack("r", 2).kill().passes();
}

#[test]
fn too_little_is_a_failure() {
    let verdict = check(script().publish(1, Q).events, &Counts { confirms: 1, publishes: 1, ..Counts::default() });
    assert_eq!(verdict.violations.len(), 1);
    assert!(verdict.has(Kind::Vacuous), "{}", verdict.violations[0]);
}
