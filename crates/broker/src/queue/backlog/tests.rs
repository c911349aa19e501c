//! The backlog against a sorted list, and against a log that pages come and go from.

use super::*;
use crate::{
    message::{MessageView, Origin},
    queue::Near,
    session::Millis,
    value::Name,
};

/// When a message is due: some are, in an order that is not theirs.
fn due_of(n: u64) -> Option<Millis> {
    n.is_multiple_of(3).then_some(Millis(20 + n * 37 % 211))
}

fn queued(n: u64) -> Queued {
    queued_until(n, None)
}

fn queued_until(n: u64, due: Option<Millis>) -> Queued {
    let view = MessageView {
        exchange: &Name::from(""),
        routing_key: "",
        origin: Origin(0),
        durable: false,
        priority: None,
        arrived: Millis(0),
        due,
        properties: &[],
        annotations: &[],
        payload: &n.to_be_bytes(),
        block: None,
    };
    Queued { message: Arc::new(Message::copy_of(&view)), record: Position(0), returns: Returns::NEVER }
}

fn number(queued: &Queued) -> u64 {
    u64::from_be_bytes(queued.message.view().payload.try_into().unwrap())
}

#[test]
fn a_requeued_message_takes_its_original_place() {
    let mut backlog = Backlog::default();
    for n in 0..200 {
        backlog.push_ready(queued(n));
    }
    let held: Vec<_> = (0..150).map(|_| backlog.hold_next().unwrap().0).collect();
    for slot in [held[140], held[3], held[70]] {
        assert!(backlog.requeue(slot, false));
    }
    let order: Vec<_> =
        std::iter::from_fn(|| backlog.take_next()).map(|(_, q)| (number(&q), q.returns.any())).collect();
    assert_eq!(order[..4], [(3, true), (70, true), (140, true), (150, false)]);
    assert_eq!((order.len(), backlog.ready(), backlog.held()), (53, 0, 147));
}

#[test]
fn one_old_message_pins_one_chunk() {
    let mut backlog = Backlog::default();
    backlog.push_ready(queued(0));
    let (old, _) = backlog.hold_next().unwrap();
    for n in 1..100_000 {
        let slot = backlog.push_held(queued(n));
        assert!(backlog.settle(slot));
    }
    assert!(backlog.chunks.len() <= 2);
    assert!(backlog.settle(old));
    assert!(backlog.chunks.len() <= 1);
    assert_eq!(backlog.memory_bytes(), 0);
}

proptest::proptest! {
    #[test]
    fn behaves_like_a_sorted_list(steps in proptest::collection::vec((0u8..5, 0usize..20), 1..400)) {
        let mut backlog = Backlog::default();
        let (mut ready, mut held) = (BTreeSet::new(), Vec::new());
        let mut next = 0;
        for (step, pick) in steps {
            match step {
                0 | 1 => {
                    backlog.push_ready(queued(next));
                    ready.insert(next);
                    next += 1;
                }
                2 => {
                    let expected = ready.pop_first();
                    let got = backlog.hold_next().map(|(slot, queued)| (slot, number(&queued)));
                    proptest::prop_assert_eq!(got.map(|(_, n)| n), expected);
                    held.extend(got);
                }
                3 if pick < held.len() => {
                    let (slot, n) = held.remove(pick);
                    proptest::prop_assert!(backlog.requeue(slot, false));
                    ready.insert(n);
                }
                4 if pick < held.len() => {
                    let (slot, _) = held.remove(pick);
                    proptest::prop_assert!(backlog.settle(slot));
                    proptest::prop_assert!(!backlog.settle(slot));
                }
                _ => {}
            }
            proptest::prop_assert_eq!((backlog.ready(), backlog.held()), (ready.len(), held.len()));
        }
    }
}

/// A queue with a log: records of several publishers arrive in an order that is not quite that of the log.
struct Paged {
    /// Whether messages have times of their own.
    timed: bool,
    now: u64,
    /// What was let go of because its time was over.
    expired: BTreeSet<u64>,
    /// Messages to which no time to live applies any more.
    untimed: BTreeSet<u64>,
    /// Records that the log still has, but will not after a while.
    leaving: Vec<u64>,
    backlog: Backlog,
    /// What the log has of the queue: all records that were ever appended and not let go of.
    log: BTreeMap<u64, u64>,
    appended: u64,
    wanted: Option<(Wanted, u64)>,
}

const NEAR: Near = Near { messages: 3, bytes: usize::MAX };

impl Paged {
    fn new(timed: bool) -> Self {
        let (backlog, log, expired) = (Backlog::default(), BTreeMap::new(), BTreeSet::new());
        let (untimed, leaving) = (BTreeSet::new(), Vec::new());
        Self { timed, now: 0, expired, untimed, leaving, backlog, log, appended: 0, wanted: None }
    }

    fn queued(&self, n: u64) -> Queued {
        queued_until(n, due_of(n).filter(|_| self.timed))
    }

    /// Lets go of what is due.
    fn expire(&mut self) {
        while let Some(expired) = self.backlog.expire(Millis(self.now)) {
            let n = match expired {
                Expired::Message(queued) => {
                    self.log.remove(&queued.record.0);
                    number(&queued)
                }
                Expired::Record(record) => {
                    // The log hears of it later, and may be read before.
                    self.leaving.push(record.0);
                    self.log[&record.0]
                }
            };
            assert!(due_of(n).is_some_and(|due| due.0 <= self.now), "{n} is not due");
            assert!(!self.untimed.contains(&n), "{n} is due no longer");
            assert!(self.expired.insert(n), "{n} expired twice");
        }
        self.backlog.sweep_timetable();
    }

    /// The log hears of what has left.
    fn release(&mut self) {
        for record in self.leaving.drain(..) {
            self.log.remove(&record);
        }
    }

    fn append(&mut self, n: u64) -> u64 {
        self.appended += 1;
        self.log.insert(self.appended, n);
        self.appended
    }

    fn push(&mut self, n: u64, record: u64) -> u64 {
        self.backlog.push_ready(Queued { record: Position(record), ..self.queued(n) })
    }

    fn page_out(&mut self, end: u64) {
        if let Some(from) = self.backlog.page_out_from(Position(end), NEAR) {
            let members: Vec<u64> = self.log.range(from.0..end.max(from.0)).map(|(record, _)| *record).collect();
            self.backlog.page_out(from, Position(end), &members, NEAR);
        }
    }

    fn load(&mut self, count: usize) {
        if self.wanted.is_none() {
            let generation = self.backlog.generation();
            self.wanted = self.backlog.want().map(|wanted| (wanted, generation));
        }
        let Some((wanted, generation)) = self.wanted.take() else { return };
        let count = if wanted.only.is_empty() { count } else { usize::MAX };
        let (page, next) = self.read(&wanted, count);
        self.backlog.page_in(generation, page, next, &wanted, Position(0));
        assert!(!self.backlog.is_missing_some());
        self.expire();
    }
}

impl Paged {
    /// Reads a page from the log.
    fn read(&self, wanted: &Wanted, count: usize) -> (Vec<(Position, Arc<Message>)>, Position) {
        let asked = self.log.range(wanted.first.0..wanted.end.0);
        let asked = asked.filter(|(record, _)| wanted.only.is_empty() || wanted.only.contains(record));
        let page = asked.map(|(&record, &n)| (Position(record), self.queued(n).message));
        let page: Vec<_> = page.take(count).collect();
        let next = page.last().filter(|_| page.len() == count).map_or(wanted.end, |(last, _)| Position(last.0 + 1));
        (page, next)
    }

    /// Looks at all that a restart has left.
    fn survey(&mut self) {
        while let Some(wanted) = self.backlog.unseen() {
            let asked = self.log.range(wanted.first.0..wanted.end.0).take(3);
            let page: Vec<_> = asked.map(|(&record, &n)| (Position(record), self.queued(n).message)).collect();
            let next = page.last().map_or(wanted.end, |(last, _)| Position(last.0 + 1));
            self.backlog.seen(&page, if page.len() < 3 { wanted.end } else { next });
        }
        self.expire();
    }

    fn purge(&mut self) -> usize {
        let purged = self.backlog.purge(&[]);
        self.wanted = None;
        self.log.retain(|record, _| {
            let dropped = purged.range.is_some_and(|(from, before)| (from..before).contains(record));
            !purged.records.contains(record) && (!dropped || purged.except.contains(record))
        });
        purged.count
    }

    /// All that is ready.
    fn drain(&mut self) -> BTreeSet<u64> {
        let mut got = BTreeSet::new();
        for _ in 0..10_000 {
            match self.backlog.take_next() {
                Some((_, queued)) => {
                    self.log.remove(&queued.record.0);
                    assert!(got.insert(number(&queued)), "a message came twice");
                }
                None => self.load(7),
            }
        }
        got
    }
}

/// The last message of each publisher that came.
#[derive(Default)]
struct Order([Option<u64>; 2]);

impl Order {
    /// A message comes in the order of its publisher, unless it came before to somebody.
    fn note(&mut self, n: u64, redelivered: bool) {
        let highest = &mut self.0[usize::from(n >= 1_000_000)];
        assert!(redelivered || *highest < Some(n), "{n} out of order");
        if !redelivered {
            *highest = Some(n);
        }
    }
}

/// Somebody who does not take every message.
struct Reader {
    number: u64,
    /// It wants one message in so many.
    divisor: u64,
    /// What it reads from the log.
    wanted: Option<Wanted>,
    order: Order,
    /// What a browser has to see, if it is one, and what it has seen.
    to_see: Option<BTreeSet<u64>>,
    seen: BTreeSet<u64>,
}

impl Reader {
    fn new(number: u64, divisor: u64) -> Self {
        Self { number, divisor, wanted: None, order: Order::default(), to_see: None, seen: BTreeSet::new() }
    }

    fn seek(&self, queue: &mut Paged) -> Seek {
        queue.backlog.seek(self.number, &|message| self.wants(message))
    }

    fn wants(&self, message: &Message) -> bool {
        u64::from_be_bytes(message.view().payload.try_into().unwrap()).is_multiple_of(self.divisor)
    }

    /// Asks the log for what it needs, or takes what it asked for before.
    fn load(&mut self, queue: &mut Paged, count: usize) {
        let Some(wanted) = self.wanted.take() else {
            self.wanted = queue.backlog.want_for(self.number);
            return;
        };
        let (page, next) = queue.read(&wanted, count);
        queue.backlog.scanned(self.number, &page, (&wanted, next), Position(0), &|message| self.wants(message));
    }

    /// A browser sees the next message, or that there are no more.
    fn look(&mut self, queue: &mut Paged, ready: &BTreeSet<u64>) {
        if self.to_see.is_none() {
            return;
        }
        match queue.backlog.seek(self.number, &|_| true) {
            Seek::Found => {
                let found = queue.backlog.copy_found(self.number).unwrap();
                queue.backlog.pass_found(self.number);
                let n = number(&found);
                assert!(ready.contains(&n), "{n} was not ready");
                // What arrives in another order than that of the log is put in order when it leaves memory.
                let is_mixed = queue.log.values().any(|n| *n >= 1_000_000);
                assert!(self.seen.insert(n) || is_mixed, "{n} was seen twice");
                self.order.note(n, found.returns.any() || is_mixed);
            }
            Seek::Nothing => {
                let unseen: Vec<_> = self.to_see.iter().flatten().filter(|n| !self.seen.contains(n)).collect();
                assert!(unseen.is_empty(), "{unseen:?} were not seen");
                self.to_see = None;
            }
            _ => {}
        }
    }
}

/// What a queue should hold, with its publishers and consumers.
struct Model {
    queue: Paged,
    readers: [Reader; 2],
    browser: Reader,
    ready: BTreeSet<u64>,
    /// Slots, messages and records that consumers hold.
    held: Vec<(u64, u64, u64)>,
    /// The next message of each of two publishers.
    next: [u64; 2],
    /// What the second publisher has appended, and what has not arrived in the queue yet: others may overtake it.
    late: Option<(u64, u64)>,
    order: Order,
}

impl Model {
    fn new(timed: bool) -> Self {
        let (ready, held, next) = (BTreeSet::new(), Vec::new(), [0, 1_000_000]);
        let (readers, browser) = ([Reader::new(1, 2), Reader::new(2, 5)], Reader::new(3, 1));
        Self { queue: Paged::new(timed), readers, browser, ready, held, next, late: None, order: Order::default() }
    }

    fn step(&mut self, step: u8, pick: usize, survey: bool) {
        match step {
            0 | 1 => self.publish(pick),
            2 => self.publish_late(),
            3 => self.queue.page_out(self.queue.appended + 1 - (pick as u64).min(self.queue.appended)),
            4 => self.queue.load(1 + pick),
            5 => self.deliver(),
            6 if pick < self.held.len() => {
                let (slot, n, _) = self.held.remove(pick);
                if n.is_multiple_of(2) {
                    self.queue.backlog.untime(slot);
                    self.queue.untimed.insert(n);
                }
                assert!(self.queue.backlog.requeue(slot, false));
                self.ready.insert(n);
            }
            7 if pick < self.held.len() => {
                let (slot, _, record) = self.held.remove(pick);
                assert!(self.queue.backlog.settle(slot));
                self.queue.log.remove(&record);
            }
            7 if pick == 29 => self.purge(),
            8 if self.queue.timed => {
                self.queue.now += pick as u64 / 4;
                self.queue.expire();
                if pick.is_multiple_of(3) {
                    self.queue.release();
                }
            }
            9 if pick == 0 && self.late.is_none() => self.restart(survey),
            10 | 11 if pick > 20 => self.readers[usize::from(step - 10)].load(&mut self.queue, 1 + pick % 5),
            10 | 11 => drop(self.take(usize::from(step - 10), pick.is_multiple_of(2))),
            12 if pick == 0 => self.browse(),
            12 if pick > 20 => self.browser.load(&mut self.queue, 1 + pick % 5),
            12 => self.browser.look(&mut self.queue, &self.ready),
            _ => {}
        }
        // A queue that takes something in lets go at once of what is due.
        self.queue.expire();
        self.ready.retain(|n| !self.queue.expired.contains(n));
        // What leaves before a browser comes by need not be seen, even if it comes back.
        self.browser.to_see.iter_mut().for_each(|to_see| to_see.retain(|n| self.ready.contains(n)));
        let counts = (self.queue.backlog.ready(), self.queue.backlog.held());
        assert_eq!(counts, (self.ready.len(), self.held.len()));
    }

    fn publish(&mut self, pick: usize) {
        let n = self.next[0];
        self.next[0] += 1;
        // What comes without a record gets one later, if the queue is deep then.
        let record = if pick > 3 { self.queue.append(n) } else { 0 };
        let slot = self.queue.push(n, record);
        if pick < 2 {
            let record = Position(self.queue.append(n));
            assert!(self.queue.backlog.set_record(slot, record));
        }
        self.ready.insert(n);
    }

    fn publish_late(&mut self) {
        if let Some((n, record)) = self.late.take() {
            self.queue.push(n, record);
            self.ready.insert(n);
        }
        let n = self.next[1];
        self.next[1] += 1;
        self.late = Some((n, self.queue.append(n)));
    }

    /// Whatever is ready and in memory comes, in the order of its publisher unless it came before.
    fn deliver(&mut self) {
        let Some((slot, got)) = self.queue.backlog.hold_next() else { return };
        let n = number(&got);
        assert!(self.ready.remove(&n), "{n} was not ready");
        self.order.note(n, got.returns.any());
        self.held.push((slot, n, got.record.0));
    }

    /// A reader gets its next message, and keeps it or is done with it. Returns what there was.
    fn take(&mut self, reader: usize, held: bool) -> Seek {
        let reader = &mut self.readers[reader];
        let seek = reader.seek(&mut self.queue);
        if seek != Seek::Found {
            return seek;
        }
        let (slot, got) = self.queue.backlog.take_found(reader.number, held).unwrap();
        let n = number(&got);
        assert!(reader.wants(&got.message), "{n} was not wanted");
        assert!(self.ready.remove(&n), "{n} was not ready");
        if let Some(to_see) = &mut self.browser.to_see {
            to_see.remove(&n);
        }
        reader.order.note(n, got.returns.any());
        if held {
            self.held.push((slot, n, got.record.0));
        } else {
            self.queue.log.remove(&got.record.0);
        }
        seek
    }

    fn browse(&mut self) {
        self.queue.backlog.browse(3);
        self.browser = Reader { to_see: Some(self.ready.clone()), ..Reader::new(3, 1) };
    }

    fn purge(&mut self) {
        self.queue.release();
        assert_eq!(self.queue.purge(), self.ready.len());
        self.ready.clear();
        // What is held, and what has not arrived yet, is still in the log.
        let records = self.held.iter().map(|(_, _, record)| *record).chain(self.late.map(|(_, record)| record));
        let records = records.filter(|record| *record != 0);
        assert!(self.queue.log.keys().copied().eq(records.collect::<BTreeSet<_>>()));
    }

    /// What consumers held, and what had no record, is ready again or gone; but some still hold what they held.
    fn restart(&mut self, survey: bool) {
        let mut still: Vec<_> = self.held.iter().filter(|(_, n, _)| n.is_multiple_of(3)).copied().collect();
        still.sort_unstable_by_key(|(_, _, record)| *record);
        let mut queue = std::mem::replace(&mut self.queue, Paged::new(false));
        queue.release();
        let Paged { log, appended, now, timed, expired, untimed, .. } = queue;
        self.queue = Paged { log, appended, now, expired, untimed, ..Paged::new(timed) };
        self.held.clear();
        self.order = Order::default();
        (self.readers, self.browser) = ([Reader::new(1, 2), Reader::new(2, 5)], Reader::new(3, 1));
        self.ready = self.queue.log.values().copied().collect();
        let log = &self.queue.log;
        if let (Some((&first, _)), Some((&last, _))) = (log.first_key_value(), log.last_key_value()) {
            self.queue.backlog.restore(Position(first), Position(last), log.len() as u64);
            let untimed = log.iter().filter(|(_, n)| self.queue.untimed.contains(n));
            untimed.for_each(|(&record, _)| self.queue.backlog.restore_untimed(Position(record)));
        }
        for (_, n, record) in still {
            let slot = self.queue.backlog.restore_held(Position(record));
            assert_eq!(slot.is_some(), record != 0, "{n}");
            if let Some(slot) = slot {
                self.queue.untimed.insert(n);
                self.ready.remove(&n);
                self.held.push((slot, n, record));
            }
        }
        if survey {
            self.queue.survey();
        }
    }

    /// In the end each reader has got everything that it wants, and a browser has seen everything.
    fn finish_readers(&mut self) {
        for reader in 0..2 {
            while self.take(reader, false) != Seek::Nothing {
                self.readers[reader].load(&mut self.queue, 7);
            }
            let divisor = self.readers[reader].divisor;
            let left: Vec<_> = self.ready.iter().filter(|n| n.is_multiple_of(divisor)).collect();
            assert!(left.is_empty(), "{left:?} were not found");
        }
        while self.browser.to_see.is_some() {
            self.browser.look(&mut self.queue, &self.ready);
            self.browser.load(&mut self.queue, 7);
        }
    }

    /// In the end everything comes, but for what is due.
    fn finish(mut self, survey: bool) {
        self.queue.now += 1000;
        self.queue.expire();
        let drained = self.queue.drain();
        self.ready.retain(|n| !self.queue.expired.contains(n));
        if self.queue.timed && survey {
            let untimed = &self.queue.untimed;
            assert!(drained.iter().all(|n| due_of(*n).is_none() || untimed.contains(n)), "what was due came");
        }
        assert_eq!(drained, self.ready);
        assert_eq!(self.queue.backlog.ready_bytes(), 0);
    }
}

proptest::proptest! {
    #[test]
    fn paging_loses_nothing_and_keeps_each_publishers_order(
        (timed, survey) in (proptest::bool::ANY, proptest::bool::ANY),
        steps in proptest::collection::vec((0u8..10, 0usize..30), 1..300)
    ) {
        let mut model = Model::new(timed);
        for (step, pick) in steps {
            model.step(step, pick, survey);
        }
        model.finish(survey);
    }

    #[test]
    fn readers_find_what_they_want_wherever_it_moves(
        (timed, survey) in (proptest::bool::ANY, proptest::bool::ANY),
        steps in proptest::collection::vec((0u8..13, 0usize..30), 1..400)
    ) {
        let mut model = Model::new(timed);
        for (step, pick) in steps {
            model.step(step, pick, survey);
        }
        model.finish_readers();
        model.finish(survey);
    }
}
