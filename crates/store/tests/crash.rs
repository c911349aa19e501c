//! The store against crashes: whatever was committed is there afterwards, and damage is told from a torn tail.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    task::{Wake, Waker},
};

use proptest::prelude::*;
use roadstead_store::{Contents, Entry, OpenError, Options, Store, check};

fn small() -> Options {
    Options { segment_bytes: 4096, ..Options::default() }
}

fn open(data: &Path) -> (Store, Contents) {
    Store::open(data, &small(), |error| panic!("{error}")).unwrap()
}

struct Signal(mpsc::Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn wait_for(store: &Store, sequence: u64) {
    while store.committed() < sequence {
        let (sender, committed) = mpsc::channel();
        store.wake_when_committed(&Waker::from(Arc::new(Signal(sender))));
        if store.committed() < sequence {
            committed.recv().unwrap();
        }
    }
}

fn hold<'a>(holders: &'a [u64], body: &'a [u8]) -> Entry<'a> {
    Entry::Hold { holders, parts: [body, b""] }
}

fn segments(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "segment")).collect();
    files.sort();
    files
}

/// Copies a data directory as it is, as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    fs::copy(from.join("epoch"), to.join("epoch")).unwrap();
    for file in segments(from) {
        fs::copy(&file, to.join("log").join(file.file_name().unwrap())).unwrap();
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (store, contents) = open(data.path());
    assert_eq!((contents.held.len(), contents.epoch), (0, 1));
    let first = store.append(&[hold(&[1, 2], b"both"), hold(&[1], b"one"), Entry::Put { key: b"k", value: b"v" }]);
    store.append(&[Entry::Release { sequence: first, holder: 1 }, Entry::Release { sequence: first + 1, holder: 1 }]);
    drop(store);
    let (store, contents) = open(data.path());
    assert_eq!(contents.epoch, 2);
    assert_eq!(contents.state, [(b"k".to_vec(), b"v".to_vec())]);
    let held: Vec<_> = contents.held.iter().map(|held| (&held.holders[..], &held.body[..])).collect();
    assert_eq!(held, [(&[2][..], &b"both"[..])]);
    let sequence = store.append(&[Entry::Drop { holder: 2 }, Entry::Remove { key: b"k" }]) + 1;
    wait_for(&store, sequence);
    drop(store);
    let (_store, contents) = open(data.path());
    assert_eq!((contents.held.len(), contents.state.len()), (0, 0));
}

#[test]
fn a_second_broker_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (_store, _) = open(data.path());
    let second = Store::open(data.path(), &small(), |_| {});
    assert!(matches!(second, Err(OpenError::InUse(_))));
}

#[test]
fn the_log_cut_at_every_byte_opens_with_a_whole_prefix() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    for n in 0..5u8 {
        // Each commit has two bodies, to show that a commit is there as a whole or not at all.
        let first = store.append(&[hold(&[1], &[n; 20]), hold(&[1], &[n; 20])]);
        wait_for(&store, first + 1);
    }
    let crashed = tempfile::tempdir().unwrap();
    copy(data.path(), crashed.path());
    let file = segments(crashed.path()).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let mut seen = Vec::new();
    for cut in 64..=end {
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        fs::write(&file, &bytes).unwrap();
        let report = check(crashed.path()).unwrap();
        assert_eq!(report.damage, None, "cut at {cut}");
        assert!(report.bodies.is_multiple_of(2), "half a commit at {cut}");
        seen.push(report.bodies);
    }
    seen.dedup();
    assert_eq!(seen, [0, 2, 4, 6, 8, 10]);
}

#[test]
fn damage_before_the_tail_is_reported_with_file_and_offset() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    for n in 0..40u8 {
        let sequence = store.append(&[hold(&[1], &[n; 300])]);
        wait_for(&store, sequence);
    }
    drop(store);
    let files = segments(data.path());
    assert!(files.len() > 2, "the test needs several segments");
    for (index, file) in files.iter().enumerate() {
        let whole = fs::read(file).unwrap();
        let used = whole.iter().rposition(|&byte| byte != 0).unwrap();
        for offset in (64..used).step_by(97) {
            let mut bytes = whole.clone();
            bytes[offset] ^= 1;
            fs::write(file, &bytes).unwrap();
            let report = check(data.path()).unwrap();
            let in_last_block = index + 1 == files.len() && offset + 340 > used;
            match report.damage {
                Some(damage) => assert!(damage.file == *file && damage.offset <= offset as u64, "{damage}"),
                None => assert!(in_last_block, "damage at {offset} of {} was not noticed", file.display()),
            }
            let opened = Store::open(data.path(), &small(), |_| {});
            assert!(in_last_block || matches!(opened, Err(OpenError::Damaged(_))), "opened in spite of damage");
            drop(opened);
            if in_last_block {
                return;
            }
        }
        fs::write(file, &whole).unwrap();
    }
}

#[test]
fn segments_that_nothing_needs_are_removed() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    store.append(&[Entry::Put { key: b"queue", value: b"still there" }]);
    for n in 0..200u8 {
        let sequence = store.append(&[hold(&[1], &[n; 1000])]);
        store.append(&[Entry::Release { sequence, holder: 1 }]);
        wait_for(&store, sequence + 1);
    }
    drop(store);
    assert!(segments(data.path()).len() <= 4, "{} segments are left", segments(data.path()).len());
    let (_store, contents) = open(data.path());
    assert_eq!(contents.state, [(b"queue".to_vec(), b"still there".to_vec())]);
    assert!(contents.held.is_empty());
}

/// Enough of a body to compare it by, and to read in a failure.
fn digest(body: &[u8]) -> (usize, u32) {
    (body.len(), crc32fast::hash(body))
}

#[derive(Clone, Debug)]
enum Step {
    Hold(Vec<u64>, usize),
    Release(usize, u64),
    Drop(u64),
    Put(u8, u8),
    Remove(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::btree_set(1u64..6, 1..4), 0usize..900)
            .prop_map(|(holders, len)| Step::Hold(holders.into_iter().collect(), len)),
        4 => (any::<prop::sample::Index>(), 1u64..6).prop_map(|(at, holder)| Step::Release(at.index(1000), holder)),
        1 => (1u64..6).prop_map(Step::Drop),
        2 => (0u8..5, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => (0u8..5).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_log_remembers_what_a_map_would(steps in prop::collection::vec(step(), 1..120)) {
        let data = tempfile::tempdir().unwrap();
        let (mut store, _) = open(data.path());
        let mut bodies: BTreeMap<u64, (Vec<u64>, (usize, u32))> = BTreeMap::new();
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut sequences = Vec::new();
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Hold(holders, len) => {
                    let body = vec![len as u8; len];
                    let sequence = store.append(&[hold(&holders, &body)]);
                    sequences.push(sequence);
                    bodies.insert(sequence, (holders, digest(&body)));
                }
                Step::Release(at, holder) if !sequences.is_empty() => {
                    let sequence = sequences[at % sequences.len()];
                    // A holder lets go once: the store may rely on it.
                    let Some((holders, _)) = bodies.get_mut(&sequence) else { continue };
                    let Some(found) = holders.iter().position(|&h| h == holder) else { continue };
                    holders.remove(found);
                    store.append(&[Entry::Release { sequence, holder }]);
                }
                Step::Release(..) => {}
                Step::Drop(holder) => {
                    store.append(&[Entry::Drop { holder }]);
                    bodies.values_mut().for_each(|(holders, _)| holders.retain(|&h| h != holder));
                }
                Step::Put(key, value) => {
                    store.append(&[Entry::Put { key: &[key], value: &[value] }]);
                    state.insert(vec![key], vec![value]);
                }
                Step::Remove(key) => {
                    store.append(&[Entry::Remove { key: &[key] }]);
                    state.remove(&vec![key]);
                }
                Step::Reopen => {
                    drop(store);
                    let (reopened, contents) = open(data.path());
                    store = reopened;
                    bodies.retain(|_, (holders, _)| !holders.is_empty());
                    let found: BTreeMap<_, _> =
                        contents.held.into_iter().map(|held| (held.sequence, (held.holders, digest(&held.body)))).collect();
                    prop_assert_eq!(&found, &bodies);
                    prop_assert_eq!(contents.state.into_iter().collect::<BTreeMap<_, _>>(), state.clone());
                }
            }
        }
    }
}
