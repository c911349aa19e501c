//! The promises, one function each.

use std::collections::{BTreeMap, BTreeSet};

use super::book::{Book, Copy, CopyId, Transaction};
use super::history::{Event, What};
use super::{Counts, Kind, Violation};

/// Everything but what [`Book::of`] has found while it read.
pub fn all(book: &Book<'_>, violations: &mut Vec<Violation>) {
    let mut broken = |kind: Kind, copy: &Copy<'_>, what: &str| {
        let text = format!("message {} in queue {}: {what}{}", copy.message, copy.queue, book.story(copy));
        violations.push(Violation { kind, text });
    };
    for copy in book.copies.values().filter(|copy| book.is_in_stream(copy)) {
        if let Some(what) = phantom(book, copy) {
            broken(Kind::Phantom, copy, what);
        }
    }
    for copy in book.copies.values().filter(|copy| !book.is_in_stream(copy)) {
        if let Some(what) = lost(book, copy) {
            broken(Kind::Lost, copy, what);
        }
        if let Some(what) = phantom(book, copy) {
            broken(Kind::Phantom, copy, what);
        }
        if let Some(what) = resurrected(book, copy) {
            broken(Kind::Resurrected, copy, what);
        }
        if is_unmarked(copy) {
            broken(Kind::Unmarked, copy, "it came again and was not marked as redelivered");
        }
    }
    for (copy, before) in disordered(book) {
        let what = format!("it came first after {}, which was published after it", before.message);
        broken(Kind::Order, copy, &what);
    }
    for (copy, higher) in outranked(book) {
        let what = format!("it came before {}, whose priority is higher", higher.message);
        broken(Kind::Order, copy, &what);
    }
    for transaction in book.transactions.values() {
        if let Some((happened, did_not)) = torn(book, transaction) {
            let (queue, message) = (happened.queue, happened.message);
            let what = format!("its transaction did not happen to it, but to message {message} in queue {queue}");
            broken(Kind::Transaction, did_not, &format!("{what}:{}\n  while to this:", book.story(happened)));
        }
    }
}

/// What has moved from elsewhere may move once more after a kill, because the disk need not have known of the first time;
/// so only what it does within a run is known to be a repeat.
fn is_unmarked(copy: &Copy<'_>) -> bool {
    let is_marked = |delivery: &Event| matches!(delivery.what, What::Deliver { redelivered: true, .. });
    let repeats = copy.deliveries.windows(2).filter(|pair| !copy.has_moved() || pair[0].run == pair[1].run);
    repeats.into_iter().any(|pair| !is_marked(pair[1]))
}

/// A promised message must have come, and whenever it was taken without an acknowledgement it must have come again, be it
/// as a dead letter. Whoever drains at the end acknowledges, so there is an acknowledgement after the last delivery.
fn lost(book: &Book<'_>, copy: &Copy<'_>) -> Option<&'static str> {
    copy.promise?;
    if book.life(copy).next().is_none() {
        return Some("it was promised, and never came");
    }
    (!is_settled(book, copy)).then_some("it was promised, was not acknowledged when it last came, and never came again")
}

fn phantom(book: &Book<'_>, copy: &Copy<'_>) -> Option<&'static str> {
    let first = copy.deliveries.first()?;
    let transaction = book.transactions.get(&copy.within?)?;
    match transaction.asked {
        None if transaction.rolled_back.is_some() => Some("it came, but its transaction was rolled back"),
        None => Some("it came, but its transaction was never to be committed"),
        Some(asked) if first.at < asked.at => Some("it came before its transaction was to be committed"),
        Some(_) => None,
    }
}

/// Within one run any acknowledgement or rejection holds; over a kill, one that is known to be on disk.
fn resurrected(book: &Book<'_>, copy: &Copy<'_>) -> Option<&'static str> {
    for settled in copy.acks.iter().chain(&copy.rejects) {
        let durable = book.known_durable(settled);
        if durable.is_some_and(|known| copy.deliveries.iter().any(|delivery| delivery.at > known.at)) {
            return Some("it came again after the commit of its acknowledgement or rejection was answered");
        }
        let is_plain = matches!(settled.what, What::Ack { within: None, .. } | What::Reject { within: None, .. });
        let is_after = |delivery: &&Event| delivery.run == settled.run && delivery.at > settled.at;
        if is_plain && copy.deliveries.iter().copied().any(|delivery| is_after(&delivery)) {
            return Some("it came again after its acknowledgement or rejection, in the same run");
        }
    }
    None
}

/// A queue, a publisher, a priority, and where the deliveries were seen: by one client in one run, or over the whole
/// history.
type Place<'b> = (&'b str, u16, u64, Option<(u32, &'b str)>);

/// First deliveries in one place: when, and of which copies.
type Line<'b, 'a> = Vec<(u64, &'b Copy<'a>)>;

/// The copies that came after one that their publisher had published later, and that one.
///
/// Only first deliveries count, of a run and of the whole history. What two consumers of a queue see can't be put in
/// one order, so it is compared for each; over runs it is compared for queues that never had two at a time.
fn disordered<'b, 'a>(book: &'b Book<'a>) -> Vec<(&'b Copy<'a>, &'b Copy<'a>)> {
    let crowded = crowded_queues(book);
    let mut lines: BTreeMap<Place<'_>, Line<'b, 'a>> = BTreeMap::new();
    // What has moved comes in the order in which it did.
    for copy in book.copies.values().filter(|copy| !copy.has_moved() && !book.is_in_stream(copy)) {
        let priority = if book.terms(copy.queue).ranks { copy.wishes.priority } else { 0 };
        let mut runs = BTreeSet::new();
        for delivery in &copy.deliveries {
            if runs.is_empty() && !crowded.contains(copy.queue) {
                lines
                    .entry((copy.queue, copy.message.publisher, priority, None))
                    .or_default()
                    .push((delivery.at, copy));
            }
            if runs.insert(delivery.run) {
                let place = Some((delivery.run, &*delivery.client));
                lines
                    .entry((copy.queue, copy.message.publisher, priority, place))
                    .or_default()
                    .push((delivery.at, copy));
            }
        }
    }
    let mut found = Vec::new();
    for line in lines.values_mut() {
        line.sort_by_key(|(at, _)| *at);
        let backwards = line.windows(2).find(|pair| pair[0].1.message.sequence >= pair[1].1.message.sequence);
        found.extend(backwards.map(|pair| (pair[1].1, pair[0].1)));
    }
    found
}

/// The queues that had more than one consumer in some run.
fn crowded_queues(book: &Book<'_>) -> BTreeSet<&'static str> {
    let mut consumers: BTreeMap<(&'static str, u32), BTreeSet<&str>> = BTreeMap::new();
    for copy in book.copies.values() {
        for delivery in &copy.deliveries {
            consumers.entry((copy.queue, delivery.run)).or_default().insert(&delivery.client);
        }
    }
    let crowded = consumers.iter().filter(|(_, clients)| clients.len() > 1);
    crowded.map(|((queue, _), _)| *queue).collect()
}

/// The copies that show that a transaction whose commit had no answer happened, and that it didn't.
///
/// A delivery in the commit's own run shows neither: the broker delivers before the disk is done, and a kill in between
/// takes everything back. (If the commit was answered, whatever is missing is lost.)
fn torn<'b, 'a>(book: &'b Book<'a>, transaction: &Transaction<'_>) -> Option<(&'b Copy<'a>, &'b Copy<'a>)> {
    let asked = transaction.asked.filter(|_| transaction.is_unknown())?;
    let copies = |ids: &[CopyId]| ids.iter().filter_map(|id| book.copies.get(id)).collect::<Vec<_>>();
    let (published, acknowledged) = (copies(&transaction.publishes), copies(&transaction.acks));
    let came_later = |copy: &&&Copy<'_>| book.life(copy).any(|delivery| delivery.run > asked.run);
    let is_gone = |copy: &&&Copy<'_>| !came_later(copy) && !is_settled(book, copy);
    let stays_away = |copy: &&&Copy<'_>| copy.promise.is_some() && !came_later(copy);
    let happened = published.iter().find(came_later).or_else(|| acknowledged.iter().find(stays_away))?;
    let did_not = published.iter().find(is_gone).or_else(|| acknowledged.iter().find(came_later))?;
    Some((happened, did_not))
}

/// Whether the last that is known of the copy, or of the dead letter that it has become, is an acknowledgement that may
/// have taken effect, or a rejection that makes no dead letter.
fn is_settled(book: &Book<'_>, copy: &Copy<'_>) -> bool {
    let Some(last) = book.life(copy).max_by_key(|delivery| delivery.at) else { return false };
    let letter = book.letter(copy).into_iter().flat_map(|letter| &letter.acks);
    let ends = |rejected: &&&Event| book.terms(copy.queue).letters.is_none() && book.may_hold(rejected);
    let rejects = copy.rejects.iter().filter(ends);
    copy.acks.iter().chain(letter).chain(rejects).any(|ack| ack.at > last.at && book.may_hold(ack))
}

/// What a history lacks of what it must hold.
pub fn lacking(counts: &Counts, at_least: &Counts) -> Vec<Violation> {
    super::lacking([
        ("kills", counts.kills, at_least.kills),
        ("publishes", counts.publishes, at_least.publishes),
        ("confirms", counts.confirms, at_least.confirms),
        ("publishers who waited for their last answer", counts.waits, at_least.waits),
        ("publishes without an answer at a kill", counts.unconfirmed_at_kill, at_least.unconfirmed_at_kill),
        ("messages that survived a kill in a queue", counts.survivors, at_least.survivors),
        ("repeated deliveries", counts.repeats, at_least.repeats),
        ("requeues", counts.requeues, at_least.requeues),
        ("commits", counts.commits, at_least.commits),
        ("commits without an answer at a kill", counts.commits_unknown, at_least.commits_unknown),
        ("such commits that had happened", counts.commits_unknown_held, at_least.commits_unknown_held),
        ("dead letters whose time was over", counts.expired, at_least.expired),
        ("dead letters that nobody wanted", counts.rejected, at_least.rejected),
        ("dead letters that were too many", counts.shed, at_least.shed),
        ("messages that moved and came after a kill", counts.moved_over_kills, at_least.moved_over_kills),
        ("messages that came after a delay", counts.delayed, at_least.delayed),
        ("deliveries by priority", counts.ranked, at_least.ranked),
        ("readings of streams", counts.reads, at_least.reads),
        ("messages of streams that were read", counts.streamed, at_least.streamed),
        ("readings of what was read before a kill", counts.reads_over_kills, at_least.reads_over_kills),
    ])
}

/// What one client got of a queue with priorities in a run in which nothing came to the queue and nothing went back.
pub fn static_runs<'b, 'a>(book: &'b Book<'a>) -> Vec<Line<'b, 'a>> {
    let mut runs: BTreeMap<(&str, u32), (BTreeSet<&str>, Line<'_, '_>)> = BTreeMap::new();
    let mut busy: BTreeSet<(&str, u32)> = BTreeSet::new();
    for copy in book.copies.values().filter(|copy| book.terms(copy.queue).ranks) {
        busy.extend(copy.requeues.iter().chain([&copy.publish]).map(|event| (copy.queue, event.run)));
        for delivery in &copy.deliveries {
            let (clients, line) = runs.entry((copy.queue, delivery.run)).or_default();
            clients.insert(&*delivery.client);
            line.push((delivery.at, copy));
        }
    }
    let is_static = |id: &(&str, u32), clients: &BTreeSet<&str>| clients.len() == 1 && !busy.contains(id);
    let lines = runs.into_iter().filter(|(id, (clients, _))| is_static(id, clients));
    let mut lines: Vec<Line<'_, '_>> = lines.map(|(_, (_, line))| line).collect();
    lines.iter_mut().for_each(|line| line.sort_by_key(|(at, _)| *at));
    lines
}

/// The copies that came before one with a higher priority that was there as well, and that one.
fn outranked<'b, 'a>(book: &'b Book<'a>) -> Vec<(&'b Copy<'a>, &'b Copy<'a>)> {
    let lower_first = |line: Line<'b, 'a>| {
        let pair = line.windows(2).find(|pair| pair[0].1.wishes.priority < pair[1].1.wishes.priority);
        pair.map(|pair| (pair[0].1, pair[1].1))
    };
    static_runs(book).into_iter().filter_map(lower_first).collect()
}
