//! A run of the store on a simulated disk: random operations and misfortunes, all of them settled by a seed, and after
//! each reopening a comparison with the model.
//!
//! Nothing here asserts: what is wrong is returned, so that a test can also demand that something is found.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::ErrorKind,
    mem,
    sync::Arc,
};

use parking_lot::Mutex;
use roadstead_store::{
    Hooks, Keeper, Keys, MasterKey, OpenError, Options, ReadError, Sealed, Step, Store, UNTIL_RESTART, Writer,
};

use super::{
    disk::{Operation, Random, SimDisk},
    interleave::{self, Interleaved, Meanwhile},
    model::{Append, Hold, Model, Op},
};

/// What a run did, to show that it did something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub appends: u64,
    pub reopenings: u64,
    pub crashes: u64,
    pub lost: u64,
    pub bodies_read: u64,
    pub rewritten_bytes: u64,
    pub most_segments: usize,
    pub stalls: u64,
    pub failures: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.appends += other.appends;
        self.reopenings += other.reopenings;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.bodies_read += other.bodies_read;
        self.rewritten_bytes += other.rewritten_bytes;
        self.most_segments = self.most_segments.max(other.most_segments);
        self.stalls += other.stalls;
        self.failures += other.failures;
    }
}

/// What the store has told by its hooks.
#[derive(Default)]
struct Told {
    sealed: Vec<Sealed>,
    failures: Vec<String>,
}

struct Node {
    store: Arc<Store>,
    writer: Writer,
    keeper: Keeper,
}

/// How a run differs from others.
struct Manner {
    fsync_percent: usize,
    body_max: usize,
    holders: usize,
    /// Live holds that are aimed at.
    live: usize,
    /// How often something bad happens: once in so many steps.
    misfortune: u64,
    /// Out of ten steps, those of the writer and of the keeper.
    writer: usize,
    keeper: usize,
    is_encrypted: bool,
}

/// A store on a simulated disk, and what it must hold.
pub struct Run {
    random: Random,
    pub disk: SimDisk,
    pub options: Options,
    manner: Manner,
    node: Option<Node>,
    told: Arc<Mutex<Told>>,
    /// What goes on while the keeper works.
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
    /// What was held when the store was opened last, what was appended since, and what that amounts to.
    base: Model,
    log: Vec<Append>,
    appended: Model,
    /// The same as far as the store has committed it.
    recorded: Model,
    recorded_count: usize,
    /// Everything before these survives the loss of power, and the end of the process.
    safe_end: u64,
    written_end: u64,
    /// Everything before is in sealed segments, with their indexes or dead.
    sealed_end: u64,
    holders: Vec<u64>,
    former: Vec<u64>,
    next_holder: u64,
    epoch: u64,
    /// An injected failure may still be ahead.
    may_fail: bool,
    pub tally: Tally,
}

type Outcome<T = ()> = Result<T, String>;

fn demand(is_so: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

/// A master key made of one digit.
pub fn master(digit: char) -> MasterKey {
    MasterKey::parse(&digit.to_string().repeat(64)).unwrap()
}

/// Runs `steps` random steps, and then lets the store come to rest. Returns what was wrong.
pub fn run(seed: u64, steps: usize, is_lying: bool) -> Outcome<Tally> {
    let mut run = Run::new(seed);
    run.disk.lying(is_lying);
    run.open(false)?;
    for _ in 0..steps {
        run.step()?;
    }
    run.finish()?;
    Ok(run.tally)
}

impl Run {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let disk = SimDisk::new(random.next());
        disk.short_one_in([0, 7, 50][random.below(3)]);
        let segment_bytes = [2048, 4096, 4096, 8192, 16384][random.below(5)];
        let manner = Manner {
            fsync_percent: [100, 0, 50, 10][random.below(4)],
            body_max: [40, 200, 200, 900][random.below(4)],
            holders: [1, 3, 8][random.below(3)],
            live: [5, 40, 150][random.below(3)],
            misfortune: [15, 40, 150, 0][random.below(4)],
            writer: [2, 4, 6][random.below(3)],
            keeper: [1, 3, 6][random.below(3)],
            is_encrypted: random.one_in(3),
        };
        let holders: Vec<u64> = (1..=manner.holders as u64).collect();
        Self {
            random,
            disk,
            options: Options { segment_bytes, ..Options::default() },
            next_holder: holders.len() as u64 + 1,
            manner,
            node: None,
            told: Arc::default(),
            meanwhile: Arc::default(),
            base: Model::default(),
            log: Vec::new(),
            appended: Model::default(),
            recorded: Model::default(),
            recorded_count: 0,
            safe_end: 1,
            written_end: 1,
            sealed_end: 1,
            holders,
            former: Vec::new(),
            epoch: 0,
            may_fail: false,
            tally: Tally::default(),
        }
    }

    fn hooks(&self) -> Hooks {
        let (sealed, failed) = (self.told.clone(), self.told.clone());
        Hooks {
            on_sealed: Box::new(move |event| sealed.lock().sealed.push(event)),
            on_failure: Box::new(move |error| failed.lock().failures.push(error.to_string())),
            on_trouble: Box::new(|_| {}),
        }
    }

    /// One step of somebody.
    pub fn step(&mut self) -> Outcome {
        if self.random.one_in(self.manner.misfortune) {
            self.misfortune()?;
        }
        if self.disk.has_crashed() {
            return self.crash();
        }
        let draw = self.random.below(10 + self.manner.writer + self.manner.keeper);
        if draw < 7 {
            self.append();
        } else if draw < 9 {
            self.read_something()?;
        } else if draw < 10 {
            if self.random.one_in(20) {
                self.close()?;
            }
        } else if draw < 10 + self.manner.writer {
            self.step_writer().map(drop)?;
        } else {
            self.step_keeper().map(drop)?;
        }
        Ok(())
    }

    fn misfortune(&mut self) -> Outcome {
        match self.random.below(12) {
            0 | 1 => self.crash(),
            2 | 3 => {
                self.disk.crash_after(1 + self.random.below(60) as u64);
                Ok(())
            }
            4 => self.kill(),
            5 => self.close(),
            6 | 7 => {
                let room = self.random.below(2 * self.options.segment_bytes as usize) as u64;
                self.disk.set_capacity(self.disk.bytes_on_disk() + room);
                Ok(())
            }
            8 => {
                use Operation::{Create, Remove, Rename, Sync, SyncDirectory, Write};
                let operation = [Sync, Sync, Write, Create, Rename, Remove, SyncDirectory][self.random.below(7)];
                self.disk.fail_next(operation, ErrorKind::Other);
                self.may_fail = true;
                Ok(())
            }
            9 => {
                let operation = [Operation::Read, Operation::Open, Operation::Size][self.random.below(3)];
                self.disk.fail_next(operation, ErrorKind::Other);
                self.may_fail = true;
                Ok(())
            }
            _ => {
                self.disk.set_capacity(1 << 30);
                Ok(())
            }
        }
    }

    /// The power goes.
    fn crash(&mut self) -> Outcome {
        self.die();
        self.tally.crashes += 1;
        self.disk = self.disk.crash();
        self.open(true)
    }

    /// The process ends without notice, and the operating system goes on.
    fn kill(&mut self) -> Outcome {
        self.die();
        self.open(false)
    }

    fn die(&mut self) {
        if let Some(node) = self.node.take() {
            self.take_stock(node.store.committed());
        }
    }

    /// Takes stock of what must survive.
    fn take_stock(&mut self, committed: u64) {
        for append in self.log.iter().take_while(|append| append.end - 1 <= committed) {
            self.written_end = self.written_end.max(append.end);
            if append.is_synced {
                self.safe_end = self.safe_end.max(append.end);
            }
        }
    }

    /// The process ends as it should, and another one begins, perhaps after a power failure: nothing at all may be lost.
    fn close(&mut self) -> Outcome {
        self.shut()?;
        if self.disk.has_crashed() || self.random.one_in(2) {
            self.disk = self.disk.crash();
            return self.open(true);
        }
        self.open(false)
    }

    fn shut(&mut self) -> Outcome {
        self.disk.set_capacity(1 << 30);
        let Some(Node { store, mut writer, keeper }) = self.node.take() else { return Ok(()) };
        self.take_stock(store.committed());
        drop(store);
        let ended = loop {
            match writer.step() {
                Ok(Step::Ended) => break true,
                Ok(Step::Stalled) => return Err("the log waits for room that is there".into()),
                Ok(_) => {}
                Err(error) => {
                    demand(self.disk.has_crashed() || self.may_fail, || format!("cannot close: {error}"))?;
                    break false;
                }
            }
        };
        drop((writer, keeper));
        if ended && let Some(last) = self.log.last() {
            (self.safe_end, self.written_end) = (last.end, last.end);
        }
        Ok(())
    }

    /// A log that was closed after `steps` without misfortune, with what its next opening must find. The keeper came to
    /// rest before, or a while before that.
    pub fn closed(seed: u64, steps: usize) -> Outcome<(Self, Model)> {
        let mut run = Self::new(seed);
        run.manner.misfortune = 0;
        run.open(false)?;
        for step in 0..steps {
            run.step()?;
            if step == steps - 30 {
                run.rest()?;
            }
        }
        run.shut()?;
        let mut model = run.appended.clone();
        model.restart();
        run.options.keys = Keys::new(Some(master('a')), vec![master('b')]);
        Ok((run, model))
    }

    /// Opens the store, and compares what it says with the model.
    pub fn open(&mut self, mut is_power_lost: bool) -> Outcome {
        if self.manner.is_encrypted {
            self.options.keys = match self.random.below(4) {
                0 => Keys::new(None, vec![master('a'), master('b')]),
                1 => Keys::new(Some(master('b')), vec![master('a')]),
                _ => Keys::new(Some(master('a')), vec![master('b')]),
            };
        }
        let mut attempts = 0;
        let (store, contents, writer, keeper) = loop {
            attempts += 1;
            let disk = Interleaved::new(self.disk.clone(), self.meanwhile.clone());
            match Store::open_on(Arc::new(disk), self.options.clone(), self.hooks()) {
                Ok(opened) => break opened,
                Err(_) if self.disk.has_crashed() => {
                    self.disk = self.disk.restart();
                    is_power_lost = true;
                }
                Err(OpenError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
                    self.disk.set_capacity(1 << 30);
                }
                Err(OpenError::Io { .. }) if self.may_fail && attempts < 50 => {}
                Err(error) => return Err(format!("cannot open: {error}")),
            }
        };
        self.tally.reopenings += 1;
        let must = if is_power_lost { self.safe_end } else { self.written_end };
        demand(contents.end >= must, || format!("{} is lost, the log ends at {}", must - 1, contents.end))?;
        demand(contents.epoch > self.epoch, || format!("epoch {} comes after {}", contents.epoch, self.epoch))?;
        demand(store.committed() == contents.end - 1, || "not all that was found is committed".into())?;
        self.epoch = contents.epoch;
        let mut found = mem::take(&mut self.base);
        for append in mem::take(&mut self.log) {
            if append.end <= contents.end {
                found.apply(&append);
            } else {
                self.tally.lost += 1;
                demand(append.first >= contents.end, || format!("half of {append:?} is there"))?;
            }
        }
        found.restart();
        demand(contents.state.iter().cloned().eq(found.state.clone()), || {
            format!("the state table is {:?}\ninstead of {:?}", contents.state, found.state)
        })?;
        let held = found.contents();
        demand(contents.held == held, || {
            let (only, missing) = difference(&contents.held, &held);
            format!("held is {only:?}\ninstead of {missing:?}")
        })?;
        self.base = found;
        (self.appended, self.recorded, self.recorded_count) = (self.base.clone(), self.base.clone(), 0);
        (self.safe_end, self.written_end, self.sealed_end) = (contents.end, contents.end, contents.end);
        *self.told.lock() = Told::default();
        self.node = Some(Node { store: Arc::new(store), writer, keeper });
        self.read_all()
    }

    fn append(&mut self) {
        let Some((ops, is_synced)) = self.next_append(&mut BTreeSet::new()) else { return };
        if let Some(node) = &self.node {
            let append = interleave::append(&node.store, ops, is_synced);
            self.note(append);
        }
    }

    /// Takes note of what was appended.
    fn note(&mut self, append: Append) {
        self.appended.apply(&append);
        self.log.push(append);
        self.tally.appends += 1;
    }

    /// Entries to be appended as one, and whether they are to be synced. No holder in `used` is part of them.
    fn next_append(&mut self, used: &mut BTreeSet<u64>) -> Option<(Vec<Op>, bool)> {
        let mut ops = Vec::new();
        for _ in 0..[1, 1, 1, 2, 4][self.random.below(5)] {
            ops.extend(self.op(used));
        }
        (!ops.is_empty()).then(|| (ops, self.random.below(100) < self.manner.fsync_percent))
    }

    /// An entry of which no holder in `used` is part.
    fn op(&mut self, used: &mut BTreeSet<u64>) -> Option<Op> {
        let live: usize = self.appended.held.values().map(|held| held.len()).sum();
        match self.random.below(20) {
            0 => Some(Op::Put { key: self.key(), value: vec![b'v'; self.random.below(200)] }),
            1 => Some(Op::Remove { key: self.key() }),
            2 if self.random.one_in(2) => self.drop_something(used),
            draw if draw < 10 && live < self.manner.live || draw < 5 => Some(self.hold(used)),
            _ => self.release(used),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key {}", self.random.below(6)).into_bytes()
    }

    fn hold(&mut self, used: &mut BTreeSet<u64>) -> Op {
        let mut holders: Vec<u64> = Vec::new();
        for _ in 0..=self.random.below(self.holders.len().min(4)) {
            let holder = self.holders[self.random.below(self.holders.len())];
            if !holders.iter().any(|other| other & !UNTIL_RESTART == holder) {
                used.insert(holder);
                holders.push(if self.random.one_in(8) { holder | UNTIL_RESTART } else { holder });
            }
        }
        let max = if self.random.one_in(60) { 2 * self.options.segment_bytes as usize } else { self.manner.body_max };
        let (byte, len) = (self.random.next() as u8, self.random.below(max));
        let body = (0..len).map(|at| byte.wrapping_add((at / 7) as u8)).collect();
        Op::Hold { holders, body }
    }

    fn release(&mut self, used: &mut BTreeSet<u64>) -> Option<Op> {
        let holder = self.holders[self.random.below(self.holders.len())];
        let held = self.appended.held.get(&holder).filter(|_| used.insert(holder))?;
        let all: Vec<u64> = held.keys().copied().collect();
        let count = [1, 3, all.len()][self.random.below(12).saturating_sub(9)];
        let sequences = match self.random.below(3) {
            0 => (0..count).map(|_| all[self.random.below(all.len())]).collect::<BTreeSet<u64>>().into_iter().collect(),
            _ => all.into_iter().take(count).collect(),
        };
        Some(Op::Release { holder, sequences })
    }

    /// A holder goes, or some of what it holds, as when a queue is deleted or purged.
    fn drop_something(&mut self, used: &mut BTreeSet<u64>) -> Option<Op> {
        let at = self.random.below(self.holders.len());
        let holder = self.holders[at];
        if !used.insert(holder) {
            return None;
        }
        if self.random.one_in(3) {
            self.former.push(holder);
            self.holders[at] = self.next_holder;
            self.next_holder += 1;
            return Some(Op::Drop { holder, from: 0, before: u64::MAX, except: Vec::new() });
        }
        let last = self.log.last().map_or(self.sealed_end, |append| append.end);
        let before = [self.sealed_end, 1 + self.random.below(last as usize) as u64, u64::MAX][self.random.below(3)];
        let from = if self.random.one_in(2) { 0 } else { self.random.below(before.min(last) as usize) as u64 };
        let held = self.appended.held.get(&holder)?;
        let in_range = held.range(from..before).map(|(hold, _)| *hold);
        let except = in_range.filter(|_| self.random.one_in(5)).collect();
        Some(Op::Drop { holder, from, before, except })
    }

    fn step_writer(&mut self) -> Outcome<Step> {
        let Some(node) = &mut self.node else { return Ok(Step::Idle) };
        let before = node.store.committed();
        match node.writer.step() {
            Ok(step) => {
                self.tally.stalls += u64::from(step == Step::Stalled);
                self.advance();
                Ok(step)
            }
            Err(error) => {
                let after = node.store.committed();
                demand(after == before, || format!("{after} was committed in spite of {error}"))?;
                self.after_failure(&error)
            }
        }
    }

    /// The writer cannot go on: another process has to.
    fn after_failure(&mut self, error: &dyn std::fmt::Display) -> Outcome<Step> {
        if self.disk.has_crashed() {
            return self.crash().map(|()| Step::Done);
        }
        demand(self.may_fail, || format!("the log failed: {error}"))?;
        self.tally.failures += 1;
        if self.random.one_in(2) { self.crash() } else { self.kill() }.map(|()| Step::Done)
    }

    /// Follows what has been committed.
    fn advance(&mut self) {
        let Some(node) = &self.node else { return };
        let committed = node.store.committed();
        while let Some(append) = self.log.get(self.recorded_count).filter(|append| append.end - 1 <= committed) {
            self.recorded.apply(append);
            self.recorded_count += 1;
        }
    }

    /// Lets the keeper do something, perhaps while others append and the writer writes.
    fn step_keeper(&mut self) -> Outcome<Step> {
        let (mut ahead, mut used) = (VecDeque::new(), BTreeSet::new());
        if self.manner.misfortune > 0 && self.random.one_in(2) {
            ahead.extend((0..4).filter_map(|_| self.next_append(&mut used)));
        }
        let (before, unrecorded) = (self.recorded.clone(), self.recorded_count);
        let random = Random(self.random.next());
        let Some(Node { store, writer, mut keeper }) = self.node.take() else { return Ok(Step::Idle) };
        let meanwhile = Meanwhile { store, writer, random, ahead, done: Vec::new(), error: None };
        *self.meanwhile.lock() = Some(meanwhile);
        let step = keeper.step();
        let taken = self.meanwhile.lock().take();
        let Some(Meanwhile { store, writer, done, error, .. }) = taken else { return Err("the writer is gone".into()) };
        self.tally.most_segments = self.tally.most_segments.max(store.usage().segments);
        self.node = Some(Node { store, writer, keeper });
        done.into_iter().for_each(|append| self.note(append));
        self.advance();
        let Told { sealed, failures } = mem::take(&mut *self.told.lock());
        if let Some(error) = error {
            return self.after_failure(&error);
        }
        if self.disk.has_crashed() || !failures.is_empty() {
            return self.after_failure(&format!("{failures:?}"));
        }
        let since = self.log.get(unrecorded).map_or(u64::MAX, |append| append.first);
        for event in sealed {
            self.check_sealed(&event, &before, since)?;
        }
        Ok(step)
    }

    /// A sealed segment tells of all that is live in it now, and of nothing that was not live before or came since.
    fn check_sealed(&mut self, event: &Sealed, before: &Model, since: u64) -> Outcome {
        let range = self.sealed_end..event.end;
        let told: BTreeSet<(u64, u64)> =
            event.holders.iter().flat_map(|(holder, holds)| holds.iter().map(|hold| (*holder, *hold))).collect();
        let is_told = |(holder, held): (&u64, &BTreeMap<u64, Hold>)| {
            held.range(range.clone()).all(|(hold, _)| told.contains(&(*holder, *hold)))
        };
        demand(self.recorded.held.iter().all(is_told), || format!("sealed {range:?} without all that is live"))?;
        let was_live = |(holder, hold): &(u64, u64)| {
            range.contains(hold)
                && (*hold >= since || before.held.get(holder).is_some_and(|held| held.contains_key(hold)))
        };
        demand(told.iter().all(was_live), || format!("sealed {range:?} with what is not live: {told:?}"))?;
        self.sealed_end = event.end;
        Ok(())
    }

    /// Reads a random part of what somebody holds.
    fn read_something(&mut self) -> Outcome {
        let all: Vec<u64> = self.holders.iter().chain(&self.former).copied().collect();
        let holder = all[self.random.below(all.len())];
        let (a, b) = (self.random.below(self.sealed_end as usize + 1), self.random.below(self.sealed_end as usize + 1));
        let (from, to) = (a.min(b) as u64, a.max(b) as u64);
        let mut only: Vec<u64> = Vec::new();
        if self.random.one_in(3) {
            only = (from..to).filter(|_| self.random.one_in(4)).collect();
            only.extend(to..to + 1);
        }
        self.read(holder, from, to, &only)
    }

    /// Reads everything of everybody.
    pub fn read_all(&mut self) -> Outcome {
        for holder in self.holders.clone().into_iter().chain(self.former.clone()) {
            self.read(holder, 0, self.sealed_end, &[])?;
        }
        Ok(())
    }

    fn read(&mut self, holder: u64, from: u64, to: u64, only: &[u64]) -> Outcome {
        let Some(node) = &self.node else { return Ok(()) };
        let is_wanted = |hold: &u64| only.is_empty() || only.binary_search(hold).is_ok();
        let held = self.recorded.held.get(&holder).into_iter().flat_map(|held| held.range(from..to));
        let mut held = held.filter(|(hold, _)| is_wanted(hold));
        let (mut next, mut attempts) = (from, 0);
        while next < to {
            attempts += 1;
            let count = 1 + self.random.below(20);
            let page = match node.store.read(holder, next, to, only, count, 1 + self.random.below(3000)) {
                Ok(page) => page,
                Err(_) if self.disk.has_crashed() => return Ok(()),
                Err(ReadError::Io { .. }) if self.may_fail && attempts < 2000 => continue,
                Err(error) => return Err(format!("cannot read: {error}")),
            };
            demand(page.next > next && page.bodies.len() <= count, || format!("{holder} gets nowhere from {next}"))?;
            for (hold, body) in page.bodies {
                self.tally.bodies_read += 1;
                let expected = held.next().map(|(hold, expected)| (*hold, &*expected.body));
                demand(expected == Some((hold, &body)), || {
                    let expected = expected.map(|(hold, body)| (hold, body.len()));
                    format!("{holder} in {from}..{to} gets {hold} with {} bytes instead of {expected:?}", body.len())
                })?;
            }
            next = page.next;
        }
        let missing = held.next().map(|(hold, _)| *hold);
        demand(missing.is_none(), || format!("{holder} in {from}..{to} does not get {missing:?}"))?;
        let members = match node.store.members(holder, from, to) {
            Ok(members) => members,
            Err(_) if self.disk.has_crashed() || self.may_fail => return Ok(()),
            Err(error) => return Err(format!("cannot list: {error}")),
        };
        let held = self.recorded.held.get(&holder).into_iter().flat_map(|held| held.range(from..to));
        demand(held.map(|(hold, _)| *hold).eq(members.iter().copied()), || format!("{holder} has not {members:?}"))
    }

    /// Lets the writer and the keeper work until neither has anything to do.
    fn rest(&mut self) -> Outcome {
        self.disk.set_capacity(1 << 30);
        let (mut idle, mut steps) = (0, 0);
        while idle < 6 {
            steps += 1;
            demand(steps < 20_000, || "the store does not come to rest".into())?;
            let writer = self.step_writer()?;
            let keeper = self.step_keeper()?;
            idle = if writer == Step::Idle && keeper == Step::Idle { idle + 1 } else { 0 };
        }
        Ok(())
    }

    /// What must be so once the store has come to rest; then it is closed and opened a last time.
    fn finish(&mut self) -> Outcome {
        if self.disk.has_crashed() {
            self.crash()?;
        }
        self.manner.misfortune = 0;
        self.rest()?;
        self.read_all()?;
        if let Some(node) = &self.node {
            self.tally.rewritten_bytes += node.store.usage().rewritten_bytes;
        }
        // A file that could not be removed stays until the next start.
        if !self.may_fail {
            self.check_disk_use()?;
        }
        self.close()?;
        self.crash()?;
        self.may_fail = false;
        self.rest()?;
        self.check_disk_use()
    }

    fn check_disk_use(&self) -> Outcome {
        let Some(node) = &self.node else { return Ok(()) };
        let files = self.disk.snapshot();
        let usage = node.store.usage();
        let bytes: usize = files.values().map(Vec::len).sum();
        let live = self.recorded.live_bytes();
        // The segment that is being written is as large as its largest block, in whole pages, whatever a segment should be.
        let last = files.iter().rfind(|(name, _)| name.ends_with(".segment") && name.matches('-').count() == 1);
        let last = last.map_or(0, |(_, bytes)| bytes.len() as u64).max(self.options.segment_bytes);
        // Segments are so small here that their headers and those of their indexes weigh; then there is the state table.
        let bound = 2 * live + 3 * self.options.segment_bytes + last + 768 * usage.segments as u64 + 1024;
        let list = || files.iter().map(|(name, bytes)| format!("\n  {name}: {}", bytes.len())).collect::<String>();
        demand(bytes as u64 <= bound, || {
            format!("{bytes} bytes on disk, and only {live} of them live; {usage:?}{}", list())
        })?;
        let is_known = |name: &str| match name {
            "lock" | "epoch" | "log/state" | "log/spare" | "log/reserve" => true,
            _ => match name.strip_suffix(".index") {
                Some(stem) => files.contains_key(&format!("{stem}.segment")),
                None => name.ends_with(".segment"),
            },
        };
        let segments = files.keys().filter(|name| name.ends_with(".segment")).count();
        demand(segments == usage.segments && files.keys().all(|name| is_known(name)), || {
            format!("of these files only {} segments are in use:{}", usage.segments, list())
        })
    }
}

/// What is only in the one, and only in the other.
fn difference<'a, T: PartialEq>(one: &'a [T], other: &'a [T]) -> (Vec<&'a T>, Vec<&'a T>) {
    let only = |one: &'a [T], other: &'a [T]| one.iter().filter(|item| !other.contains(item)).collect();
    (only(one, other), only(other, one))
}
