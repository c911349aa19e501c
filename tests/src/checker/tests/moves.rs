//! Dead letters, delays, times to live and priorities.

use super::super::{Death, Kind, Terms, TransactionId, What, Wishes};
use super::{Q, Script, id, script};

const PLAIN: Terms = Terms { letters: None, ttl_ms: None, sheds: false, ranks: false, stream: None };
const DEAD: Terms = Terms { letters: Some("dead"), ..PLAIN };

fn death(reason: &str) -> Death {
    Death { queue: "q".to_owned(), reason: reason.to_owned(), count: 1, deaths: 1 }
}

impl Script {
    fn letter_as(self, sequence: u64, redelivered: bool, death: Death) -> Self {
        let (queue, message, death) = ("dead", id(sequence), Some(death));
        self.note("undertaker", What::Deliver { queue, message, redelivered, death })
    }

    fn letter(self, sequence: u64, reason: &str) -> Self {
        self.letter_as(sequence, false, death(reason))
    }

    fn reject(self, sequence: u64) -> Self {
        self.note("consumer", What::Reject { queue: "q", message: id(sequence), within: None })
    }

    fn reject_within(self, transaction: u64, sequence: u64) -> Self {
        let within = Some(TransactionId(transaction));
        self.note("worker", What::Reject { queue: "q", message: id(sequence), within })
    }
}

/// One message, confirmed, that may live for 100 ms.
fn mortal() -> Script {
    let wishes = Wishes { ttl_ms: Some(100), ..Wishes::default() };
    script().declare("q", DEAD).publish_as(1, Q, wishes).confirm(1)
}

/// One message, confirmed, that a consumer has.
fn taken() -> Script {
    script().declare("q", DEAD).publish(1, Q).confirm(1).deliver("q", 1)
}

#[test]
fn a_message_comes_from_its_queue_or_as_a_dead_letter() {
    mortal().wait(100).letter(1, "expired").ack("dead", 1).passes();
    mortal().deliver("q", 1).ack("q", 1).passes();
    mortal().deliver("q", 1).requeue("q", 1).wait(100).letter(1, "expired").ack("dead", 1).passes();
    taken().reject(1).letter(1, "rejected").ack("dead", 1).passes();
    let shed = script().declare("q", Terms { sheds: true, ..DEAD }).publish(1, Q).confirm(1);
    shed.letter(1, "maxlen").ack("dead", 1).passes();
}

#[test]
fn dead_letters_are_counted() {
    let counts = mortal().kill().wait(100).letter(1, "expired").ack("dead", 1).verdict().counts;
    assert_eq!((counts.expired, counts.rejected, counts.shed, counts.moved_over_kills), (1, 0, 0, 1));
}

#[test]
fn a_dead_letter_that_never_came_is_lost() {
    mortal().wait(100).kill().breaks(Kind::Lost, 1, "q");
    taken().reject(1).breaks(Kind::Lost, 1, "q");
    taken().reject(1).letter(1, "rejected").kill().breaks(Kind::Lost, 1, "q");
}

#[test]
fn a_kill_may_undo_a_move() {
    let moved = || mortal().wait(100).letter(1, "expired").ack("dead", 1).kill();
    moved().letter(1, "expired").ack("dead", 1).passes();
    moved().letter_as(1, true, death("expired")).ack("dead", 1).passes();
    taken().reject(1).letter(1, "rejected").kill().redeliver("q", 1).ack("q", 1).passes();
}

#[test]
fn what_is_on_disk_is_not_undone() {
    let settled = mortal().wait(100).letter(1, "expired").ack_within(1000, "dead", 1).commit(1000).commit_ok(1000);
    settled.kill().redeliver("q", 1).ack("q", 1).breaks(Kind::Resurrected, 1, "dead");
    let settled = taken().ack_within(1000, "q", 1).commit(1000).commit_ok(1000).kill();
    settled.reject(1).letter(1, "rejected").ack("dead", 1).breaks(Kind::Resurrected, 1, "dead");
}

#[test]
fn a_rejection_holds() {
    taken().reject(1).redeliver("q", 1).ack("q", 1).breaks(Kind::Resurrected, 1, "q");
    let rejected = || taken().reject_within(1000, 1).commit(1000);
    rejected().kill().redeliver("q", 1).ack("q", 1).passes();
    rejected().commit_ok(1000).kill().redeliver("q", 1).ack("q", 1).breaks(Kind::Resurrected, 1, "q");
    rejected().commit_ok(1000).letter(1, "rejected").ack("dead", 1).passes();
    // Without a queue for dead letters it is gone.
    let plain = || script().publish(1, Q).confirm(1).deliver("q", 1);
    plain().reject_within(1000, 1).commit(1000).commit_ok(1000).kill().passes();
    plain().reject_within(1000, 1).roll_back(1000).kill().breaks(Kind::Lost, 1, "q");
    let never = taken().reject_within(1000, 1).roll_back(1000).letter(1, "rejected").ack("dead", 1);
    never.breaks(Kind::Phantom, 1, "dead");
}

#[test]
fn two_letters_of_one_message_are_one_too_many() {
    let moved = || mortal().wait(100).letter(1, "expired");
    let twice = moved().letter_as(1, true, death("expired")).ack("dead", 1);
    twice.breaks(Kind::Doubled, 1, "dead");
    moved().requeue("dead", 1).letter_as(1, true, death("expired")).ack("dead", 1).passes();
    moved().requeue("dead", 1).letter(1, "expired").ack("dead", 1).breaks(Kind::Unmarked, 1, "dead");
    moved().ack("dead", 1).letter_as(1, true, death("expired")).ack("dead", 1).breaks(Kind::Resurrected, 1, "dead");
}

#[test]
fn a_message_is_not_in_two_queues() {
    let moved = mortal().wait(100).letter(1, "expired").ack("dead", 1).deliver("q", 1);
    moved.ack("q", 1).breaks(Kind::Doubled, 1, "dead");
    let held = mortal().deliver("q", 1).wait(100).letter(1, "expired").ack("dead", 1);
    held.breaks(Kind::Doubled, 1, "dead");
    let done = mortal().deliver("q", 1).ack("q", 1).wait(100).letter(1, "expired").ack("dead", 1);
    done.breaks(Kind::Resurrected, 1, "dead");
}

#[test]
fn a_repeat_in_one_run_was_put_back() {
    let taken = || script().publish(1, Q).confirm(1).deliver("q", 1);
    taken().redeliver("q", 1).ack("q", 1).breaks(Kind::Doubled, 1, "q");
    taken().kill().redeliver("q", 1).ack("q", 1).passes();
}

#[test]
fn a_dead_letter_tells_the_truth() {
    // Nobody has rejected it.
    taken().letter(1, "rejected").ack("dead", 1).breaks(Kind::Phantom, 1, "dead");
    let rejected = || taken().reject(1);
    rejected().letter(1, "maxlen").ack("dead", 1).breaks(Kind::Phantom, 1, "dead");
    rejected().letter(1, "expired").ack("dead", 1).breaks(Kind::Phantom, 1, "dead");
    for lie in [
        Death { count: 2, ..death("rejected") },
        Death { deaths: 2, ..death("rejected") },
        Death { queue: "r".to_owned(), ..death("rejected") },
    ] {
        rejected().letter_as(1, false, lie).ack("dead", 1).breaks(Kind::Phantom, 1, "dead");
    }
    rejected().deliver("dead", 1).ack("dead", 1).breaks(Kind::Phantom, 1, "dead");
}

#[test]
fn nothing_dies_before_its_time() {
    mortal().wait(80).letter(1, "expired").ack("dead", 1).breaks(Kind::Early, 1, "dead");
    mortal().wait(96).letter(1, "expired").ack("dead", 1).passes();
}

#[test]
fn nothing_comes_after_its_time() {
    mortal().wait(300).deliver("q", 1).ack("q", 1).passes();
    mortal().wait(400).deliver("q", 1).ack("q", 1).breaks(Kind::Late, 1, "q");
    mortal().kill().wait(400).redeliver("q", 1).ack("q", 1).breaks(Kind::Late, 1, "q");
    let common = script().declare("q", Terms { ttl_ms: Some(100), ..PLAIN }).publish(1, Q).confirm(1);
    common.wait(400).deliver("q", 1).ack("q", 1).breaks(Kind::Late, 1, "q");
    // Without an answer, nobody knows when it came to the broker; before the kill, if at all.
    let wishes = Wishes { ttl_ms: Some(100), ..Wishes::default() };
    let unanswered = || script().publish_as(1, Q, wishes).wait(500).kill();
    unanswered().wait(300).redeliver("q", 1).ack("q", 1).passes();
    unanswered().wait(400).redeliver("q", 1).ack("q", 1).breaks(Kind::Late, 1, "q");
}

#[test]
fn nothing_comes_before_its_delay_is_over() {
    let wishes = Wishes { delay_ms: Some(100), ..Wishes::default() };
    let delayed = || script().publish_as(1, Q, wishes).confirm(1);
    delayed().wait(99).deliver("q", 1).ack("q", 1).passes();
    delayed().wait(80).deliver("q", 1).ack("q", 1).breaks(Kind::Early, 1, "q");
    delayed().kill().wait(80).deliver("q", 1).ack("q", 1).breaks(Kind::Early, 1, "q");
    delayed().wait(100).kill().breaks(Kind::Lost, 1, "q");
    let came = || delayed().wait(100).deliver("q", 1);
    came().redeliver("q", 1).ack("q", 1).breaks(Kind::Doubled, 1, "q");
    // The disk may not have known that it had come.
    came().ack("q", 1).kill().deliver("q", 1).ack("q", 1).passes();
}

#[test]
fn higher_priorities_come_first_when_nothing_is_published() {
    let ranked = || {
        let wishes = |priority| Wishes { priority, ..Wishes::default() };
        let script = script().declare("q", Terms { ranks: true, ..PLAIN });
        script.publish_as(1, Q, wishes(1)).publish_as(2, Q, wishes(5)).publish_as(3, Q, wishes(1))
    };
    let right = ranked().kill().redeliver("q", 2).redeliver("q", 1).redeliver("q", 3);
    assert_eq!(right.verdict().counts.ranked, 3);
    ranked().kill().redeliver("q", 2).redeliver("q", 1).redeliver("q", 3).passes();
    ranked().kill().redeliver("q", 1).redeliver("q", 2).redeliver("q", 3).breaks(Kind::Order, 1, "q");
    ranked().kill().redeliver("q", 2).redeliver("q", 3).redeliver("q", 1).breaks(Kind::Order, 1, "q");
    // What comes while others are published may have come before them.
    ranked().deliver("q", 1).deliver("q", 2).deliver("q", 3).passes();
}
