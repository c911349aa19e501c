//! Streams: numbers, gaps, what must be there at the end.

use super::super::{Kind, Retention, Terms, What};
use super::{Q, Script, id, script};

impl Script {
    fn from(self, reader: &str, offset: Option<u64>) -> Self {
        self.note(reader, What::ReadFrom { stream: "q", offset })
    }

    fn read(self, reader: &str, sequence: u64, offset: u64) -> Self {
        self.note(reader, What::Read { stream: "q", message: id(sequence), offset })
    }
}

fn stream(retention: Retention) -> Script {
    let terms = Terms { stream: Some(retention), ..Terms::default() };
    script().declare("q", terms).publish(1, Q).publish(2, Q).publish(3, Q)
}

fn kept() -> Script {
    stream(Retention::All)
}

#[test]
fn all_readers_see_the_same() {
    let read = || kept().answer(3, true, true).from("a", None).read("a", 1, 0).read("a", 2, 1).kill();
    let again = || read().from("b", None).read("b", 1, 0).read("b", 2, 1).read("b", 3, 2);
    again().passes();
    again().from("c", Some(2)).read("c", 3, 2).passes();
    let counts = again().verdict().counts;
    assert_eq!((counts.reads, counts.streamed, counts.reads_over_kills), (5, 3, 2));
}

#[test]
fn a_number_belongs_to_one_message() {
    let read = kept().from("a", None).read("a", 1, 0).read("a", 2, 1).kill();
    let other = read.from("b", None).read("b", 1, 0).read("b", 3, 1);
    other.breaks(Kind::Offset, 3, "q");
    let read = kept().from("a", None).read("a", 1, 0).read("a", 2, 1).kill();
    let twice = read.from("b", None).read("b", 1, 0).read("b", 2, 1).read("b", 2, 2);
    assert!(twice.verdict().has(Kind::Offset));
}

#[test]
fn no_number_is_left_out() {
    kept().from("a", None).read("a", 1, 0).read("a", 2, 2).breaks(Kind::Offset, 2, "q");
    kept().from("a", None).read("a", 1, 1).breaks(Kind::Offset, 1, "q");
    let late = kept().from("a", Some(1)).read("a", 3, 2).from("b", None).read("b", 1, 0).read("b", 2, 1);
    late.read("b", 3, 2).breaks(Kind::Offset, 3, "q");
}

#[test]
fn what_was_promised_is_read() {
    kept().confirm(1).kill().breaks(Kind::Lost, 1, "q");
    kept().confirm(3).kill().from("a", None).read("a", 1, 0).read("a", 2, 1).breaks(Kind::Lost, 3, "q");
    kept().kill().from("a", None).passes();
}

#[test]
fn what_was_read_stays() {
    let read = || kept().from("a", None).read("a", 1, 0).read("a", 2, 1).kill().from("b", None).read("b", 1, 0);
    read().breaks(Kind::Lost, 2, "q");
    read().read("b", 2, 1).passes();
}

#[test]
fn a_publisher_s_order_is_kept() {
    kept().from("a", None).read("a", 2, 0).read("a", 1, 1).breaks(Kind::Order, 1, "q");
}

#[test]
fn what_nobody_wrote_is_a_phantom() {
    kept().from("a", None).read("a", 4, 0).breaks(Kind::Phantom, 4, "q");
}

#[test]
fn the_beginning_of_a_stream_may_be_let_go() {
    let let_go = || stream(Retention::Some).answer(3, true, true).from("a", None).read("a", 1, 0).kill();
    let_go().from("b", None).read("b", 2, 1).read("b", 3, 2).passes();
    let_go().from("b", None).read("b", 3, 2).passes();
    let_go().from("b", None).read("b", 2, 1).breaks(Kind::Lost, 3, "q");
}
