//! The store on real files, with its threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use roadstead_store::{Contents, Durability, Entry, Hooks, Keys, MasterKey, OpenError, Options, Store, check, salvage};

/// How long the keeper may take for what it does on its own.
const PATIENCE: Duration = Duration::from_secs(60);

fn small() -> Options {
    Options { segment_bytes: 16 * 1024, ..Options::default() }
}

fn keyed(current: Option<char>, former: &[char]) -> Options {
    let key = |digit: &char| MasterKey::parse(&digit.to_string().repeat(64)).unwrap();
    Options { keys: Keys::new(current.as_ref().map(key), former.iter().map(key).collect()), ..small() }
}

fn open_with(data: &Path, options: Options) -> (Store, Contents) {
    let hooks = Hooks { on_failure: Box::new(|error| panic!("{error}")), ..Hooks::default() };
    Store::open(data, options, hooks).unwrap()
}

fn open(data: &Path) -> (Store, Contents) {
    open_with(data, small())
}

struct Signal(mpsc::Sender<()>);

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Waits until a sequence number is committed.
fn wait_for(store: &Store, sequence: u64) {
    while store.committed() < sequence {
        let (sender, committed) = mpsc::channel();
        store.wake_when_committed(&Waker::from(Arc::new(Signal(sender))));
        if store.committed() < sequence {
            committed.recv_timeout(PATIENCE).unwrap();
        }
    }
}

/// Waits for what the keeper brings about without telling.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: it never happens");
        thread::sleep(Duration::from_millis(5));
    }
}

fn hold(store: &Store, holders: &[u64], body: &[u8]) -> u64 {
    store.append(&[Entry::Hold { holders, parts: [body, b""] }], Durability::Fsync)
}

fn release(store: &Store, holder: u64, sequences: &[u64]) -> u64 {
    store.append(&[Entry::Release { holder, sequences }], Durability::Os)
}

fn put(store: &Store, key: &[u8], value: &[u8]) -> u64 {
    store.append(&[Entry::Put { key, value }], Durability::Fsync)
}

/// Bodies with their sequence numbers, by holder.
type Bodies = BTreeMap<u64, Vec<(u64, Vec<u8>)>>;

/// All bodies that were there when the store was opened.
fn bodies(store: &Store, contents: &Contents) -> Bodies {
    let mut all = Bodies::new();
    for held in &contents.held {
        let found = all.entry(held.holder).or_default();
        let mut next = held.first;
        while next <= held.last {
            let page = store.read(held.holder, next, held.last + 1, &[], 100, 64 * 1024).unwrap();
            next = page.next;
            found.extend(page.bodies);
        }
        assert_eq!(found.len() as u64, held.count);
    }
    all
}

fn files(data: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files
}

/// Bytes of all files.
fn disk_use(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().metadata());
    files.filter_map(Result::ok).map(|metadata| metadata.len()).sum()
}

/// Copies a data directory as it is.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    fs::copy(from.join("epoch"), to.join("epoch")).unwrap();
    for entry in fs::read_dir(from.join("log")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join("log").join(path.file_name().unwrap())).unwrap();
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn who_waits_alone_commits_on_its_own_thread() {
    // In memory, where a sync is quick.
    let memory = Path::new("/dev/shm");
    let data = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let (store, _) = open(data.path());
    let (mut done_at_once, mut count) = (0, 0);
    // The writer's own thread may be at it now and then, and a machine with other work is not quick for a while.
    while done_at_once < 20 {
        assert!(count < 5_000, "{done_at_once} of {count} were committed at once");
        let last = store.append_alone(&[Entry::Hold { holders: &[7], parts: [&[7; 100], b""] }]);
        store.commit_alone(count % 4 > 0);
        done_at_once += u64::from(store.committed() >= last);
        wait_for(&store, last);
        count += 1;
    }
    drop(store);
    let (_, contents) = open(data.path());
    let held: Vec<_> = contents.held.iter().map(|held| (held.holder, held.count)).collect();
    assert_eq!(held, [(7, count)]);
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let (store, contents) = open(data.path());
    assert_eq!((contents.held.len(), contents.epoch), (0, 1));
    let entries = [
        Entry::Hold { holders: &[1, 2], parts: [b"bo", b"th"] },
        Entry::Hold { holders: &[1], parts: [b"one", b""] },
        Entry::Put { key: b"k", value: b"v" },
    ];
    let first = store.append(&entries, Durability::Fsync);
    release(&store, 1, &[first, first + 2]);
    drop(store);
    let (store, contents) = open(data.path());
    assert_eq!(contents.epoch, 2);
    assert_eq!(contents.state, [(b"k".to_vec(), b"v".to_vec())]);
    assert_eq!(bodies(&store, &contents), [(2, vec![(first + 1, b"both".to_vec())])].into());
    store.append(&[Entry::Drop { holder: 2, from: 0, before: u64::MAX, except: &[] }], Durability::Os);
    store.append(&[Entry::Remove { key: b"k" }], Durability::Os);
    drop(store);
    let (_store, contents) = open(data.path());
    assert_eq!((contents.held.len(), contents.state.len()), (0, 0));
}

#[test]
fn a_second_opener_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (_store, _) = open(data.path());
    assert!(matches!(Store::open(data.path(), small(), Hooks::default()), Err(OpenError::InUse(_))));
}

#[test]
fn the_log_cut_at_every_byte_opens_with_a_whole_prefix() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    let crashed = tempfile::tempdir().unwrap();
    for n in 0..5u8 {
        // Each append has two bodies, to show that it is there as a whole or not at all.
        let body = [n + 1; 20];
        let hold = Entry::Hold { holders: &[1], parts: [&body, b""] };
        let first = store.append(&[hold, hold], Durability::Fsync);
        wait_for(&store, first + 1);
    }
    copy(data.path(), crashed.path());
    let file = files(crashed.path(), "segment").pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let mut seen = Vec::new();
    for cut in 256..=end {
        for is_short in [false, true] {
            let mut bytes = whole.clone();
            bytes[cut..].fill(0);
            bytes.truncate(if is_short { cut } else { whole.len() });
            fs::write(&file, &bytes).unwrap();
            let report = check(crashed.path(), &Keys::default(), &mut |_, _| {}).unwrap();
            assert_eq!(report.findings, [], "cut at {cut}");
            assert!(report.bodies.is_multiple_of(2), "half an append at {cut}");
            seen.push(report.bodies);
        }
        if cut % 16 == 0 {
            let opened = tempfile::tempdir().unwrap();
            copy(crashed.path(), opened.path());
            let (store, contents) = open(opened.path());
            let count = bodies(&store, &contents).values().flatten().count();
            assert_eq!(count as u64, *seen.last().unwrap(), "cut at {cut}");
        }
    }
    seen.dedup();
    assert_eq!(seen, [0, 2, 4, 6, 8, 10]);
}

#[test]
fn damage_before_the_tail_is_reported_with_file_and_offset() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    for n in 0..100u8 {
        wait_for(&store, hold(&store, &[1], &[n; 300]));
    }
    drop(store);
    let segments = files(data.path(), "segment");
    assert!(segments.len() > 2, "the test needs several segments");
    for file in &segments {
        let whole = fs::read(file).unwrap();
        let used = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1 - 36;
        for offset in (0..used).step_by(479) {
            let mut bytes = whole.clone();
            bytes[offset] ^= 1;
            fs::write(file, &bytes).unwrap();
            let report = check(data.path(), &Keys::default(), &mut |_, _| {}).unwrap();
            let is_there = |finding: &roadstead_store::Finding| {
                finding.damage.file == *file && (offset as u64).abs_diff(finding.damage.offset) <= 400
            };
            assert!(report.findings.iter().any(is_there), "{offset} of {}: {report:?}", file.display());
        }
        fs::write(file, &whole).unwrap();
    }
    // Where there is no index, the log does not open.
    let last = segments.last().unwrap();
    let whole = fs::read(last).unwrap();
    for offset in [100, 300, 600] {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1;
        fs::write(last, &bytes).unwrap();
        let opened = Store::open(data.path(), small(), Hooks::default());
        let Err(OpenError::Damaged(damage)) = opened else { panic!("opened in spite of damage at {offset}") };
        assert!(damage.file == *last && damage.offset <= offset as u64, "{damage}");
    }
}

#[test]
fn a_missing_segment_is_reported() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    for n in 0..200u8 {
        wait_for(&store, hold(&store, &[1], &[n; 300]));
    }
    drop(store);
    let segments = files(data.path(), "segment");
    fs::remove_file(&segments[1]).unwrap();
    let Err(OpenError::Damaged(damage)) = Store::open(data.path(), small(), Hooks::default()) else {
        panic!("opened without a segment")
    };
    assert!(damage.to_string().contains("segment 2 is missing"), "{damage}");
    let report = check(data.path(), &Keys::default(), &mut |_, _| {}).unwrap();
    assert!(report.findings.iter().any(|finding| finding.damage == damage), "{report:?}");
}

#[test]
fn segments_that_nothing_needs_are_removed() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    put(&store, b"queue", b"still there");
    for n in 0..400u32 {
        let sequence = hold(&store, &[1], &[n as u8; 1000]);
        wait_for(&store, release(&store, 1, &[sequence]));
    }
    eventually("400 kB of released bodies go", || disk_use(data.path()) <= 5 * 16 * 1024);
    drop(store);
    let (_store, contents) = open(data.path());
    assert_eq!(contents.state, [(b"queue".to_vec(), b"still there".to_vec())]);
    assert!(contents.held.is_empty());
}

#[test]
fn a_body_is_on_disk_once_however_many_hold_it() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    let holders: Vec<u64> = (1..=1000).collect();
    let first = hold(&store, &holders, b"a body of which there should be one only");
    wait_for(&store, first + 999);
    drop(store);
    let all: Vec<u8> = files(data.path(), "segment").iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let needle = b"a body of which there should be one only";
    assert_eq!(all.windows(needle.len()).filter(|window| window == needle).count(), 1);
    let (store, contents) = open(data.path());
    let bodies = bodies(&store, &contents);
    assert_eq!(bodies.len(), 1000);
    assert!(bodies.iter().all(|(holder, found)| *found == [(first + holder - 1, needle.to_vec())]));
}

#[test]
fn one_body_per_segment_that_nobody_takes_pins_no_more_than_itself() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    let mut kept = Vec::new();
    for n in 0..100u8 {
        kept.push((hold(&store, &[1], &[n; 100]), vec![n; 100]));
        let first = hold(&store, &[2], &[n; 8000]);
        let second = hold(&store, &[2], &[n; 7000]);
        wait_for(&store, release(&store, 2, &[first, second]));
    }
    let bound = 2 * 100 * (100 + 64) + 4 * 16 * 1024;
    eventually("what nobody takes is brought together", || disk_use(data.path()) <= bound);
    assert!(store.usage().rewritten_bytes > 0);
    drop(store);
    let (store, contents) = open(data.path());
    assert_eq!(bodies(&store, &contents), [(1, kept)].into());
}

#[test]
fn holders_that_come_and_go_leave_nothing() {
    let data = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 * 1024, ..Options::default() };
    let (store, _) = open_with(data.path(), options.clone());
    for holder in 1..=20_000u64 {
        let name = holder.to_le_bytes();
        let entries =
            [Entry::Put { key: &name, value: b"a queue" }, Entry::Hold { holders: &[holder], parts: [b"for it", b""] }];
        store.append(&entries, Durability::Os);
        let drop = Entry::Drop { holder, from: 0, before: u64::MAX, except: &[] };
        let last = store.append(&[drop, Entry::Remove { key: &name }], Durability::Os);
        if holder % 500 == 0 {
            wait_for(&store, last);
        }
    }
    eventually("nothing is left", || disk_use(data.path()) <= 8 * 64 * 1024 + 1024 * 1024);
    drop(store);
    let (_store, contents) = open_with(data.path(), options);
    assert_eq!((contents.held.len(), contents.state.len()), (0, 0));
}

#[test]
fn a_deep_holder_that_is_dropped_gives_its_space_back() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    let kept = hold(&store, &[2], b"of another holder");
    let mut last = 0;
    for n in 0..1000u32 {
        last = hold(&store, &[1], &[n as u8; 1000]);
        // Larger blocks would make larger segments.
        if n % 5 == 0 {
            wait_for(&store, last);
        }
    }
    wait_for(&store, last);
    assert!(disk_use(data.path()) > 1_000_000);
    store.append(&[Entry::Drop { holder: 1, from: 0, before: u64::MAX, except: &[] }], Durability::Fsync);
    eventually("the space is given back", || disk_use(data.path()) <= 5 * 16 * 1024);
    drop(store);
    let (store, contents) = open(data.path());
    assert_eq!(bodies(&store, &contents), [(2, vec![(kept, b"of another holder".to_vec())])].into());
}

#[test]
fn sealed_bodies_can_be_read_at_once() {
    let data = tempfile::tempdir().unwrap();
    let sealed = Arc::new(Mutex::new((0, Vec::new())));
    let told = Arc::clone(&sealed);
    let on_sealed = move |event: roadstead_store::Sealed| {
        let mut told = told.lock().unwrap();
        told.0 = event.end;
        told.1.extend(event.holders.into_iter().filter(|(holder, _)| *holder == 1).flat_map(|(_, holds)| holds));
    };
    let hooks = Hooks { on_sealed: Box::new(on_sealed), ..Hooks::default() };
    let (store, _) = Store::open(data.path(), small(), hooks).unwrap();
    let mut held = Vec::new();
    for n in 0..100u8 {
        held.push((hold(&store, &[1, 2], &[n; 500]), vec![n; 500]));
        wait_for(&store, held.last().unwrap().0);
    }
    eventually("some segments are sealed", || sealed.lock().unwrap().1.len() >= 60);
    let (end, members) = sealed.lock().unwrap().clone();
    let expected: Vec<_> = held.into_iter().filter(|(hold, _)| *hold < end).collect();
    assert!(expected.iter().map(|(hold, _)| *hold).eq(members.clone()));
    assert_eq!(store.members(1, 0, end).unwrap(), members);
    assert_eq!(store.read(1, 0, end, &[], 1000, usize::MAX).unwrap().bodies, expected);
    let only = [members[3], members[40], members[41], end];
    let some: Vec<_> = expected.iter().filter(|(hold, _)| only.contains(hold)).cloned().collect();
    assert_eq!(store.read(1, 0, end, &only, 1000, usize::MAX).unwrap().bodies, some);
    let page = store.read(1, 0, end, &only, 2, usize::MAX).unwrap();
    assert_eq!((page.bodies.len(), page.next), (2, members[41]));
}

#[test]
fn a_backup_is_a_consistent_prefix_and_a_log_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    // One body is always held, by the one or the other: what moves it is one append.
    put(&store, b"where", &[1]);
    let mut held = (1, hold(&store, &[1], b"moved to and fro"));
    let is_over = AtomicBool::new(false);
    let backups = tempfile::tempdir().unwrap();
    let mut made = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let to = 3 - held.0;
                let body = [n as u8; 200];
                let entries = [
                    Entry::Release { holder: held.0, sequences: &[held.1] },
                    Entry::Hold { holders: &[to], parts: [b"moved to and fro", &body] },
                    Entry::Put { key: b"where", value: &[to as u8] },
                ];
                held = (to, store.append(&entries, Durability::Os) + 1);
                if n % 20 == 0 {
                    wait_for(&store, held.1);
                }
            }
        });
        for n in 0..8 {
            let sequence = hold(&store, &[9], b"before the backup");
            wait_for(&store, sequence);
            let target = backups.path().join(n.to_string());
            let backup = store.backup(&target, &mut |_, _| {}).unwrap();
            assert!(backup.segments > 0 && backup.bytes > 0);
            made.push((target, sequence));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(store.backup(&made[0].0, &mut |_, _| {}).is_err(), "a backup overwrites another");
    drop(store);
    let mut before: Option<Bodies> = None;
    for (count, (target, sequence)) in made.iter().enumerate() {
        let (copy, contents) = open(target);
        let all = bodies(&copy, &contents);
        assert_eq!(all[&9].len(), count + 1, "not all that was committed before");
        assert_eq!(all[&9][count].0, *sequence);
        let moved: Vec<_> = [1, 2].iter().filter_map(|holder| Some((*holder, all.get(holder)?))).collect();
        let [(holder, found)] = moved[..] else { panic!("{count}: the body is held by {}", moved.len()) };
        assert_eq!((found.len(), contents.state[0].1[0]), (1, holder as u8));
        // What is written in one copy is in no other.
        for n in 0..100u8 {
            hold(&copy, &[100 + count as u64], &[n; 400]);
        }
        assert!(before.as_ref().is_none_or(|before| before[&9] == all[&9][..count]));
        before = Some(all);
    }
    let (store, contents) = open(data.path());
    let all = bodies(&store, &contents);
    assert_eq!(all[&9].len(), 8);
    assert!(all.keys().all(|holder| *holder < 100), "something of a copy is in the original");
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 9);
}

#[test]
fn encrypted_logs_open_with_their_keys_only_and_show_nothing() {
    let data = tempfile::tempdir().unwrap();
    let secrets: [&[u8]; 3] = [b"the secret body of a message", b"a secret key of the table", b"its secret value, too"];
    let mut held = Vec::new();
    let write = |options: Options, held: &mut Vec<(u64, Vec<u8>)>| {
        let (store, contents) = open_with(data.path(), options);
        let found = bodies(&store, &contents).remove(&1).unwrap_or_default();
        assert_eq!(found, *held);
        for n in 0..60u8 {
            let body = [secrets[0], &[n; 400]].concat();
            held.push((hold(&store, &[1], &body), body));
        }
        wait_for(&store, put(&store, secrets[1], secrets[2]));
    };
    let refused = |options: Options| {
        let error = Store::open(data.path(), options, Hooks::default()).unwrap_err();
        assert!(matches!(error, OpenError::Key { .. }), "{error}");
    };
    let shown = |secret: &[u8]| {
        let names = fs::read_dir(data.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|name| contains(&fs::read(name).unwrap(), secret)).count()
    };
    write(keyed(Some('a'), &[]), &mut held);
    assert_eq!(secrets.map(shown), [0; 3]);
    refused(small());
    refused(keyed(Some('b'), &['c']));
    assert!(check(data.path(), &Keys::default(), &mut |_, _| {}).is_err());
    // Another key, with the former one at hand; then back to plain text, and to a third key.
    write(keyed(Some('b'), &['a']), &mut held);
    assert_eq!(secrets.map(shown), [0; 3]);
    refused(keyed(Some('b'), &[]));
    write(keyed(None, &['a', 'b']), &mut held);
    assert!(shown(secrets[0]) > 0, "written without a key, and not in plain text");
    write(keyed(Some('c'), &['a', 'b']), &mut held);
    refused(keyed(Some('c'), &['a']));
    let options = keyed(None, &['a', 'b', 'c']);
    let report = check(data.path(), &options.keys, &mut |_, _| {}).unwrap();
    assert_eq!((report.findings.len(), report.bodies), (0, 240));
    assert!(report.encrypted > 0 && report.encrypted < report.segments);
    write(options, &mut held);
}

#[test]
fn salvage_brings_over_what_can_be_read() {
    let data = tempfile::tempdir().unwrap();
    let (store, _) = open(data.path());
    for n in 0..100u8 {
        wait_for(&store, hold(&store, &[1, 2], &[n; 300]) + 1);
    }
    put(&store, b"key", b"value");
    drop(store);
    drop(open(data.path()));
    let file = &files(data.path(), "segment")[1];
    let mut bytes = fs::read(file).unwrap();
    bytes[1100] ^= 1;
    fs::write(file, &bytes).unwrap();
    let target = data.path().join("saved");
    let salvaged = salvage(data.path(), &target, &small(), &mut |_, _| {}).unwrap();
    assert_eq!((salvaged.bodies, salvaged.lost), (198, vec![(1, 1), (2, 1)]));
    let (store, contents) = open(&target);
    assert_eq!(contents.state, [(b"key".to_vec(), b"value".to_vec())]);
    let all = bodies(&store, &contents);
    assert!(all.len() == 2 && all.values().all(|found| found.len() == 99));
    assert!(salvage(data.path(), &target, &small(), &mut |_, _| {}).is_err(), "something is overwritten");
}
