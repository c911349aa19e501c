//! The promises about streams: every message has a number of its own, for all readers and for ever.

use std::collections::BTreeMap;

use super::book::{Book, Reading};
use super::history::{Event, MessageId, Retention};
use super::{Kind, Violation};

/// What was read at each number, for the first time.
type Numbers<'a> = BTreeMap<u64, (MessageId, &'a Event)>;

pub fn all(book: &Book<'_>, violations: &mut Vec<Violation>) {
    for stream in book.streams() {
        let retention = book.terms(stream).stream.unwrap_or(Retention::All);
        let mut broken = |kind: Kind, message: MessageId, what: String| {
            violations.push(Violation { kind, text: format!("message {message} in queue {stream}: {what}") });
        };
        let numbers = agreed(book, stream, &mut broken);
        for (_, reading) in readings(book, stream) {
            contiguous(reading, retention, &mut broken);
        }
        let mut latest: BTreeMap<u16, (MessageId, &Event)> = BTreeMap::new();
        for (message, event) in numbers.values() {
            let before = latest.insert(message.publisher, (*message, event));
            if let Some((before, earlier)) = before.filter(|(before, _)| before.sequence >= message.sequence) {
                let what = format!("its number is above that of {before}, published later\n    {earlier}\n    {event}");
                broken(Kind::Order, *message, what);
            }
        }
        complete(book, (stream, retention), &numbers, &mut broken);
    }
}

fn readings<'b, 'a>(
    book: &'b Book<'a>,
    stream: &'static str,
) -> impl Iterator<Item = (u32, &'b Reading<'a>)> + use<'b, 'a> {
    book.readings.iter().filter(move |((of, ..), _)| *of == stream).map(|((_, run, _), reading)| (*run, reading))
}

/// All readers see the same message at the same number, in all runs, and no message has two.
fn agreed<'a>(book: &Book<'a>, stream: &'static str, broken: &mut impl FnMut(Kind, MessageId, String)) -> Numbers<'a> {
    let (mut numbers, mut messages) = (Numbers::new(), BTreeMap::new());
    let mut reads: Vec<_> = readings(book, stream).flat_map(|(_, reading)| &reading.reads).collect();
    reads.sort_by_key(|(_, _, event)| event.at);
    for (offset, message, event) in reads {
        let (first, earlier) = *numbers.entry(*offset).or_insert((*message, *event));
        if first != *message {
            let what = format!("{first} was read with its number {offset} before\n    {earlier}\n    {event}");
            broken(Kind::Offset, *message, what);
        }
        let (number, earlier) = *messages.entry(*message).or_insert((*offset, *event));
        if number != *offset {
            let what = format!("its number was {number} before, and is {offset}\n    {earlier}\n    {event}");
            broken(Kind::Offset, *message, what);
        }
    }
    numbers
}

/// A reader gets one number after the other, from where it wanted to begin. It is carried past what the stream let go.
fn contiguous(reading: &Reading<'_>, retention: Retention, broken: &mut impl FnMut(Kind, MessageId, String)) {
    let mut next = reading.from.unwrap_or(0);
    for (offset, message, event) in &reading.reads {
        let is_right = match retention {
            Retention::All => *offset == next,
            Retention::Some => *offset >= next,
        };
        if !is_right {
            broken(Kind::Offset, *message, format!("it has number {offset} instead of {next}\n    {event}"));
            return;
        }
        next = offset + 1;
    }
}

/// Whoever reads from the first message on at the end gets all that was promised, and all that anybody has ever read, but
/// for what the stream let go at its beginning.
fn complete(
    book: &Book<'_>,
    (stream, retention): (&'static str, Retention),
    numbers: &Numbers<'_>,
    broken: &mut impl FnMut(Kind, MessageId, String),
) {
    let whole = readings(book, stream).filter(|(_, reading)| reading.from.is_none() && !reading.reads.is_empty());
    let last = whole.max_by_key(|(run, reading)| (*run, reading.reads.len()));
    let read: BTreeMap<u64, MessageId> = last
        .into_iter()
        .flat_map(|(_, reading)| &reading.reads)
        .map(|(offset, message, _)| (*offset, *message))
        .collect();
    let first = match retention {
        Retention::All => 0,
        Retention::Some => read.first_key_value().map_or(0, |(offset, _)| *offset),
    };
    for (offset, (message, event)) in numbers.range(first..) {
        if !read.contains_key(offset) {
            broken(Kind::Lost, *message, format!("it was read, and is gone at the end\n    {event}"));
        }
    }
    let mut earliest: BTreeMap<u16, u64> = BTreeMap::new();
    for message in read.values() {
        earliest.entry(message.publisher).or_insert(message.sequence);
    }
    let known: BTreeMap<MessageId, u64> = numbers.iter().map(|(offset, (message, _))| (*message, *offset)).collect();
    for copy in book.copies.values().filter(|copy| copy.queue == stream && copy.promise.is_some()) {
        let message = copy.message;
        let must_be_there = match retention {
            Retention::All => true,
            Retention::Some => earliest.get(&message.publisher).is_some_and(|first| message.sequence > *first),
        };
        if must_be_there && !known.contains_key(&message) {
            broken(Kind::Lost, message, format!("it was promised, and nobody read it{}", book.story(copy)));
        }
    }
}
