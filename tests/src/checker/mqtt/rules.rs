//! The promises, one function each.

use std::collections::BTreeMap;

use super::super::{Kind, Violation};
use super::book::{Book, Copy, Look};
use super::{Counts, What};

/// Everything but what [`Book::of`] has found while it read.
pub fn all(book: &Book<'_>, violations: &mut Vec<Violation>) {
    let mut broken = |kind: Kind, what: &str, copy: &Copy<'_, '_>| {
        violations.push(Violation { kind, text: format!("{what}: {}", copy.story()) });
    };
    for copy in book.copies() {
        if copy.is_promised && copy.arrivals.is_empty() {
            broken(Kind::Lost, "it was answered, and never came", &copy);
        }
        if copy.qos == 2 && copy.arrivals.len() > 1 {
            broken(Kind::Doubled, "it was to come exactly once", &copy);
        }
        let is_other = |what: &What| matches!(what, What::Arrived { qos, .. } if *qos != copy.qos);
        if copy.arrivals.iter().any(|event| is_other(&event.what)) {
            broken(Kind::Phantom, "it came with another quality of service", &copy);
        }
    }
    for (late, early) in disordered(book) {
        broken(Kind::Order, &format!("it came first after {}, which was published after it", early.id), &late);
    }
    for look in &book.looks {
        if let Some(what) = misremembered(book, look) {
            let Look { topic, found, event } = look;
            let found = found.map_or_else(|| "nothing".to_owned(), |message| message.to_string());
            let text = format!("under {topic} {found} is retained, {what}: {event}");
            violations.push(Violation { kind: Kind::Retained, text });
        }
    }
}

/// The first arrivals of one publisher's messages of one topic and quality of service keep their order (section 4.6). Clients
/// that share a subscription are not compared, nor what had been sent before the subscription: it may come when it is sent
/// again, behind what was sent after it.
fn disordered<'b, 'a>(book: &'b Book<'a>) -> Vec<(Copy<'b, 'a>, Copy<'b, 'a>)> {
    let mut lines: BTreeMap<_, Vec<Copy<'_, '_>>> = BTreeMap::new();
    let is_compared = |copy: &Copy<'_, '_>| !copy.arrivals.is_empty() && copy.is_in_time && !copy.is_shared;
    for copy in book.copies().filter(is_compared) {
        let line = (copy.subscriber, copy.id.publisher, copy.message.topic, copy.message.qos);
        lines.entry(line).or_default().push(copy);
    }
    let mut found = Vec::new();
    for mut line in lines.into_values() {
        line.sort_by_key(|copy| copy.arrivals[0].at);
        let backwards = line.windows(2).position(|pair| pair[0].id.sequence > pair[1].id.sequence);
        found.extend(backwards.map(|place| (line.swap_remove(place + 1), line.swap_remove(place))));
    }
    found
}

/// What is retained is the last that was answered, or what was sent after that. Each topic has one publisher here.
fn misremembered(book: &Book<'_>, look: &Look<'_>) -> Option<&'static str> {
    let published = || {
        let sent = book.messages.iter().filter(|(_, message)| message.publish.at < look.event.at);
        sent.filter(|(_, message)| message.retain && message.topic == look.topic)
    };
    let is_answered = |answer: Option<&super::Event>| answer.is_some_and(|answer| answer.at < look.event.at);
    let last = published().filter(|(_, message)| is_answered(message.answer)).map(|(id, _)| *id).max();
    let may_be = |id| last.is_none_or(|last| last <= id);
    match look.found {
        Some(found) if !published().any(|(id, _)| *id == found) => Some("which was never published there"),
        Some(found) if !may_be(found) => Some("though a later one was answered"),
        None if last.is_some() && !published().any(|(id, message)| message.clears && may_be(*id)) => {
            Some("though something was answered, and nothing cleared it")
        }
        _ => None,
    }
}

/// What a history lacks of what it must hold.
pub fn lacking(counts: &Counts, at_least: &Counts) -> Vec<Violation> {
    super::super::lacking([
        ("kills", counts.kills, at_least.kills),
        ("publishes", counts.publishes, at_least.publishes),
        ("answers to publishes", counts.answered, at_least.answered),
        ("publishes without an answer at a kill", counts.unanswered_at_kill, at_least.unanswered_at_kill),
        ("publishes that were sent again", counts.resent, at_least.resent),
        ("sessions that were taken up again", counts.comebacks, at_least.comebacks),
        ("arrivals", counts.arrivals, at_least.arrivals),
        ("repeated arrivals", counts.repeats, at_least.repeats),
        ("messages withheld because they came again", counts.withheld, at_least.withheld),
        ("messages that came exactly once", counts.exactly_once, at_least.exactly_once),
        ("messages that survived a kill in a session", counts.survivors, at_least.survivors),
        ("looks at retained messages", counts.retained, at_least.retained),
    ])
}
