//! Histories by hand: a clean one, and one for every way to break a promise.

use super::super::{Clock, Kind, MessageId};
use super::{Counts, Event, Notes, What, check};
use crate::checker::Verdict;

const TOPIC: &str = "a/b";

fn id(sequence: u64) -> MessageId {
    MessageId { publisher: 7, sequence }
}

/// A history that grows by one event a call.
#[derive(Default)]
struct Script {
    clock: Clock,
    run: u32,
    events: Vec<Event>,
}

impl Script {
    fn note(mut self, client: &str, what: What) -> Self {
        let mut notes = Notes::new(&self.clock, client, self.run);
        notes.note(what);
        self.events.extend(notes.into_events());
        self
    }

    fn publish(self, sequence: u64, qos: u8) -> Self {
        self.note("pub", What::Publish { message: id(sequence), topic: TOPIC, qos, retain: false, clears: false })
    }

    fn retain(self, sequence: u64, clears: bool) -> Self {
        self.note("pub", What::Publish { message: id(sequence), topic: TOPIC, qos: 1, retain: true, clears })
    }

    fn answer(self, sequence: u64) -> Self {
        self.note("pub", What::Answered { message: id(sequence) })
    }

    fn ask(self, filter: &'static str, qos: u8) -> Self {
        self.note("sub", What::Subscribe { filter, qos })
    }

    fn subscribe(self, filter: &'static str, qos: u8) -> Self {
        self.ask(filter, qos).note("sub", What::Subscribed { filter })
    }

    fn arrive(self, sequence: u64, qos: u8) -> Self {
        self.note("sub", What::Arrived { topic: TOPIC.to_owned(), message: id(sequence), qos, packet_id: 1 })
    }

    fn look(self, found: Option<u64>) -> Self {
        let found = found.map(|sequence| (TOPIC.to_owned(), id(sequence))).into_iter().collect();
        self.note("onlooker", What::Retained { topics: &[TOPIC], found })
    }

    fn kill(self) -> Self {
        let killed = self.note("test", What::Killed);
        Self { run: killed.run + 1, ..killed }
    }

    fn verdict(self) -> Verdict<Counts> {
        check(self.events, &Counts::default())
    }

    #[track_caller]
    fn passes(self) {
        self.verdict().assert_clean();
    }

    /// Exactly one promise is broken, and the text shows an event.
    #[track_caller]
    fn breaks(self, kind: Kind) {
        let verdict = self.verdict();
        let kinds: Vec<Kind> = verdict.violations.iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, [kind]);
        assert!(verdict.violations[0].text.contains('#'), "{}", verdict.violations[0]);
    }
}

/// A subscriber to all below `a`.
fn subscribed(qos: u8) -> Script {
    Script::default().note("sub", What::Connected { session_present: false }).subscribe("a/#", qos)
}

#[test]
fn a_clean_history_passes_and_is_counted() {
    let script = subscribed(2).publish(1, 2).publish(2, 1).publish(3, 2).answer(1).arrive(1, 2).kill();
    let script = script.note("sub", What::Connected { session_present: true });
    let resent = |script: Script, sequence| script.note("pub", What::Resent { message: id(sequence) });
    let script =
        resent(resent(script, 2), 3).note("sub", What::Withheld { message: Some(id(1)), packet_id: 1 }).arrive(2, 1);
    let script = script.answer(2).answer(3).arrive(2, 1).arrive(3, 2);
    let verdict = script.note("pub", What::AnswersAwaited { publisher: 7 }).verdict();
    verdict.assert_clean();
    let counts = Counts {
        kills: 1,
        publishes: 3,
        answered: 3,
        unanswered_at_kill: 2,
        resent: 2,
        comebacks: 1,
        arrivals: 4,
        repeats: 1,
        withheld: 1,
        exactly_once: 2,
        survivors: 2,
        retained: 0,
    };
    assert_eq!(verdict.counts, counts);
}

#[test]
fn an_answered_message_that_never_came_is_lost() {
    subscribed(1).publish(1, 1).answer(1).kill().breaks(Kind::Lost);
    subscribed(1).publish(1, 2).answer(1).kill().breaks(Kind::Lost);
    subscribed(1).publish(1, 1).kill().passes();
}

#[test]
fn what_was_published_before_the_subscription_need_not_come() {
    Script::default().publish(1, 1).subscribe("a/+", 1).answer(1).passes();
    Script::default().ask("a/+", 1).publish(1, 1).answer(1).passes();
    Script::default().ask("a/+", 1).publish(1, 1).answer(1).subscribe("a/+", 1).arrive(1, 1).passes();
    Script::default().subscribe("b", 1).publish(1, 1).answer(1).passes();
    Script::default().subscribe("a/+", 1).publish(1, 1).answer(1).breaks(Kind::Lost);
}

#[test]
fn exactly_once_is_not_twice() {
    let twice = |subscribed: u8, published, qos| {
        self::subscribed(subscribed).publish(1, published).arrive(1, qos).kill().arrive(1, qos)
    };
    twice(2, 2, 2).breaks(Kind::Doubled);
    twice(1, 2, 1).passes();
    twice(2, 1, 1).passes();
}

#[test]
fn one_of_those_who_share_a_subscription_gets_a_message() {
    let filter = "$share/group/a/b";
    let member = |script: Script, client| {
        script.note(client, What::Subscribe { filter, qos: 2 }).note(client, What::Subscribed { filter })
    };
    let arrive = |script: Script, client, sequence| {
        script.note(client, What::Arrived { topic: TOPIC.to_owned(), message: id(sequence), qos: 2, packet_id: 1 })
    };
    let published = || member(member(Script::default(), "one"), "two").publish(1, 2).publish(2, 2).answer(1).answer(2);
    arrive(arrive(published(), "one", 2), "two", 1).passes();
    arrive(published(), "one", 2).breaks(Kind::Lost);
    arrive(arrive(arrive(published(), "one", 1), "two", 1), "two", 2).breaks(Kind::Doubled);
}

#[test]
fn what_nobody_published_is_a_phantom() {
    subscribed(1).arrive(1, 1).breaks(Kind::Phantom);
    subscribed(1).publish(1, 1).arrive(1, 0).breaks(Kind::Phantom);
    let elsewhere = What::Arrived { topic: "a/c".to_owned(), message: id(1), qos: 1, packet_id: 1 };
    subscribed(1).publish(1, 1).note("sub", elsewhere).breaks(Kind::Phantom);
    let to_nobody = What::Arrived { topic: "b".to_owned(), message: id(1), qos: 1, packet_id: 1 };
    subscribed(1).publish(1, 1).note("sub", to_nobody).breaks(Kind::Phantom);
    let damaged = What::Unreadable { topic: TOPIC.to_owned(), beginning: "?".to_owned() };
    subscribed(1).note("sub", damaged).breaks(Kind::Phantom);
}

#[test]
fn first_arrivals_keep_their_order() {
    let published = |qos| subscribed(2).publish(1, 1).publish(2, qos);
    published(1).arrive(2, 1).arrive(1, 1).breaks(Kind::Order);
    published(1).arrive(2, 1).kill().arrive(1, 1).breaks(Kind::Order);
    published(1).arrive(1, 1).arrive(2, 1).arrive(1, 1).passes();
    Script::default().publish(1, 1).subscribe("a/b", 1).publish(2, 1).arrive(2, 1).arrive(1, 1).passes();
    // Those of different quality have no order among them.
    published(2).arrive(2, 2).arrive(1, 1).passes();
}

#[test]
fn a_publish_is_answered_once() {
    subscribed(1).publish(1, 1).answer(1).answer(1).arrive(1, 1).breaks(Kind::Confirm);
    subscribed(1).publish(1, 1).note("pub", What::AnswersAwaited { publisher: 7 }).breaks(Kind::Confirm);
    subscribed(1).publish(1, 1).note("pub", What::AnswersAwaited { publisher: 8 }).passes();
    subscribed(1).note("pub", What::Unexpected { packet: String::new() }).breaks(Kind::Confirm);
}

#[test]
fn a_session_stays() {
    let again = |session_present| subscribed(1).kill().note("sub", What::Connected { session_present });
    again(false).breaks(Kind::Session);
    again(true).passes();
    subscribed(1).note("sub", What::Dropped).breaks(Kind::Session);
}

#[test]
fn the_last_retained_message_stays() {
    let retained = || Script::default().retain(1, false).retain(2, false).answer(1).retain(3, false).answer(2).kill();
    retained().look(Some(2)).passes();
    retained().look(Some(3)).passes();
    retained().look(Some(1)).breaks(Kind::Retained);
    retained().look(Some(4)).breaks(Kind::Retained);
    retained().look(None).breaks(Kind::Retained);
    Script::default().publish(1, 1).answer(1).look(Some(1)).breaks(Kind::Retained);
    Script::default().look(None).passes();
    let elsewhere = What::Retained { topics: &[], found: vec![(TOPIC.to_owned(), id(1))] };
    Script::default().retain(1, false).note("onlooker", elsewhere).breaks(Kind::Retained);
}

#[test]
fn a_cleared_topic_stays_empty() {
    let cleared = || Script::default().retain(1, false).answer(1).retain(2, true);
    cleared().look(None).passes();
    cleared().look(Some(1)).passes();
    cleared().answer(2).look(None).passes();
    cleared().answer(2).look(Some(1)).breaks(Kind::Retained);
    cleared().answer(2).retain(3, false).answer(3).look(None).breaks(Kind::Retained);
}

#[test]
fn too_little_is_a_failure() {
    let verdict = check(subscribed(1).events, &Counts { withheld: 1, ..Counts::default() });
    assert!(verdict.has(Kind::Vacuous));
    assert_eq!(verdict.violations.len(), 1);
}
