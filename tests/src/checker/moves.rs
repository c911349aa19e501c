//! The promises about messages that move by themselves, or whose time is counted: dead letters, delays, times to live.

use super::book::{Book, Copy, death};
use super::history::{Death, Event, What};
use super::{Kind, Violation};

/// Clocks are read in whole milliseconds, and not at the same moment.
const EARLY_MS: u64 = 5;

/// How long a delivery may be under way.
const LATE_MS: u64 = 250;

pub fn all(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for copy in book.copies.values().filter(|copy| !book.is_in_stream(copy)) {
        let source = copy.source.and_then(|source| book.copies.get(&(source, copy.message)));
        let letter = source.and_then(|source| untrue(book, source, copy).or_else(|| in_both(book, source, copy)));
        let found = [letter, doubled(book, copy), early(book, copy), late(book, copy)];
        for (kind, what) in found.into_iter().flatten() {
            let text = format!("message {} in queue {}: {what}{}", copy.message, copy.queue, book.story(copy));
            violations.push(Violation { kind, text });
        }
    }
}

type Found = Option<(Kind, &'static str)>;

/// In one run a message comes again only if it was put back. (Of one that was settled another rule knows more.)
fn doubled(book: &Book<'_>, copy: &Copy<'_>) -> Found {
    let broken = copy.deliveries.windows(2).any(|pair| {
        let is_between = |event: &&Event| pair[0].at < event.at && event.at < pair[1].at;
        let put_back = copy.requeues.iter().copied().any(|event| is_between(&event));
        let mut settled = copy.acks.iter().chain(&copy.rejects).copied();
        let is_settled = settled.any(|event| is_between(&event) && book.may_hold(event));
        pair[0].run == pair[1].run && !put_back && !is_settled
    });
    broken.then_some((Kind::Doubled, "it came again, though nobody had put it back"))
}

/// A dead letter tells of one death, where it was before, and for a reason that there was.
fn untrue(book: &Book<'_>, source: &Copy<'_>, letter: &Copy<'_>) -> Found {
    let terms = book.terms(source.queue);
    let is_possible = |death: &Death, at: u64| match death.reason.as_str() {
        "rejected" => source.rejects.iter().any(|reject| reject.at < at && book.may_hold(reject)),
        "expired" => time_to_live(book, source).is_some(),
        "maxlen" => terms.sheds,
        _ => false,
    };
    let is_true = |delivery: &&Event| {
        death(delivery).is_some_and(|death| {
            (death.deaths, death.count, death.queue.as_str()) == (1, 1, source.queue) && is_possible(death, delivery.at)
        })
    };
    let lie = letter.deliveries.iter().copied().any(|delivery| !is_true(&delivery));
    lie.then_some((Kind::Phantom, "it is a dead letter that does not tell of its only death as it was"))
}

/// A message is in its queue or a dead letter, and never again in its queue once it has come as a dead letter. A kill may
/// undo the move, but not what was on disk.
fn in_both(book: &Book<'_>, source: &Copy<'_>, letter: &Copy<'_>) -> Found {
    let acknowledged = |copy: &Copy<'_>, other: &Copy<'_>| {
        let known = copy.acks.iter().filter_map(|ack| book.known_durable(ack));
        known.into_iter().any(|known| other.deliveries.iter().any(|delivery| delivery.at > known.at))
    };
    if acknowledged(source, letter) {
        return Some((Kind::Resurrected, "it died after the commit of its acknowledgement was answered"));
    }
    if acknowledged(letter, source) {
        return Some((
            Kind::Resurrected,
            "it came from its queue after its dead letter had been acknowledged for good",
        ));
    }
    for dead in &letter.deliveries {
        let alive = || source.deliveries.iter().filter(|delivery| delivery.run == dead.run);
        if alive().any(|delivery| delivery.at > dead.at) {
            return Some((Kind::Doubled, "it came from its queue after it had come as a dead letter"));
        }
        let Some(last) = alive().next_back() else { continue };
        let is_between = |event: &&&Event| last.at < event.at && event.at < dead.at;
        if source.rejects.iter().chain(&source.requeues).any(|event| is_between(&event)) {
            continue;
        }
        return Some(match source.acks.iter().find(is_between) {
            Some(_) => (Kind::Resurrected, "it died after its acknowledgement, in the same run"),
            None => (Kind::Doubled, "it came as a dead letter while a consumer had it"),
        });
    }
    None
}

/// How long the message may wait in its queue.
fn time_to_live(book: &Book<'_>, copy: &Copy<'_>) -> Option<u64> {
    let limits = [copy.wishes.ttl_ms, book.terms(copy.queue).ttl_ms];
    limits.into_iter().flatten().min()
}

/// Nothing comes before its delay is over, and nothing dies of age before its time. Both are counted from when the
/// message came to the broker, which was after it was published.
fn early(book: &Book<'_>, copy: &Copy<'_>) -> Found {
    let is_before = |delivery: &&Event, wait: u64| delivery.ms + EARLY_MS < copy.publish.ms + wait;
    let mut deliveries = copy.deliveries.iter().copied();
    if let Some(delay) = copy.wishes.delay_ms {
        let broken = deliveries.any(|delivery| is_before(&delivery, delay));
        return broken.then_some((Kind::Early, "it came before its delay was over"));
    }
    let source = book.copies.get(&(copy.source?, copy.message))?;
    let ttl = time_to_live(book, source)?;
    let of_age = |delivery: &&Event| death(delivery).is_some_and(|death| death.reason == "expired");
    let broken = deliveries.any(|delivery| of_age(&delivery) && is_before(&delivery, ttl));
    broken.then_some((Kind::Early, "it died of age before its time was over"))
}

/// Nothing is delivered when its time is over, counted from when the message had come to the broker for sure.
fn late(book: &Book<'_>, copy: &Copy<'_>) -> Found {
    if copy.has_moved() {
        return None;
    }
    let due = book.arrived_by(copy)? + time_to_live(book, copy)?;
    let is_late = |delivery: &&Event| matches!(delivery.what, What::Deliver { .. }) && delivery.ms > due + LATE_MS;
    let broken = copy.deliveries.iter().copied().any(|delivery| is_late(&delivery));
    broken.then_some((Kind::Late, "it came when its time to live was over"))
}
