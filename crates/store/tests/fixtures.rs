//! Data directories that an earlier build has written: every later one must open them.
//!
//! They are written with `cargo test -p roadstead-store --test fixtures -- --ignored`, and only when the form on disk
//! gets another version: then a new directory is added, and this one stays for as long as its version can be opened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use roadstead_store::{
    Contents, Durability, Entry, Hooks, Keys, MasterKey, Options, Step, Store, UNTIL_RESTART, check, disk::OsDisk,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-2").join(name)
}

fn options(name: &str) -> Options {
    let key = || MasterKey::parse(&"2b".repeat(32)).unwrap();
    let keys = if name == "encrypted" { Keys::new(Some(key()), Vec::new()) } else { Keys::default() };
    Options { segment_bytes: 2048, keys, ..Options::default() }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    for directory in ["", "log"] {
        for entry in fs::read_dir(from.join(directory)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(directory).join(entry.file_name())).unwrap();
            }
        }
    }
}

/// All that a log holds, as text.
fn describe(store: &Store, contents: &Contents) -> String {
    let mut text = format!("end {}\n", contents.end);
    for (key, value) in &contents.state {
        writeln!(text, "{} = {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value)).unwrap();
    }
    for held in &contents.held {
        writeln!(text, "{held:?}").unwrap();
        let page = store.read(held.holder, held.first, held.last + 1, &[], usize::MAX, usize::MAX).unwrap();
        for (hold, body) in page.bodies {
            writeln!(text, "  {hold}: {}", String::from_utf8_lossy(&body)).unwrap();
        }
    }
    text
}

#[test]
fn logs_of_version_2_open() {
    for name in ["plain", "encrypted"] {
        let data = tempfile::tempdir().unwrap();
        copy(&fixture(name), data.path());
        let expected = fs::read_to_string(fixture(name).join("contents.txt")).unwrap();
        assert!(expected.contains("body 39") && expected.contains("queue 5 = fine"), "the fixture is not what it was");
        let report = check(data.path(), &options(name).keys, &mut |_, _| {}).unwrap();
        assert_eq!((report.findings, report.torn), (Vec::new(), None), "{name}");
        assert_eq!(report.encrypted, if name == "encrypted" { report.segments } else { 0 });
        let (store, contents) = Store::open(data.path(), options(name), Hooks::default()).unwrap();
        assert_eq!(describe(&store, &contents), expected, "{name}");
        store.append(&[Entry::Put { key: b"queue 5", value: b"still fine" }], Durability::Fsync);
        drop(store);
        let (store, contents) = Store::open(data.path(), options(name), Hooks::default()).unwrap();
        let expected = expected.replace("queue 5 = fine", "queue 5 = still fine");
        let rest = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        assert_eq!(rest(&describe(&store, &contents)), rest(&expected), "{name}, opened again");
    }
}

/// Writes a log that has everything that there is: all kinds of entries, an index, a rewritten segment, a snapshot of
/// the state table, an inventory.
fn write(data: &Path, name: &str) {
    let hooks = Hooks { on_failure: Box::new(|error| panic!("{error}")), ..Hooks::default() };
    fs::create_dir_all(data).unwrap();
    let opened = Store::open_on(Arc::new(OsDisk::new(data)), options(name), hooks).unwrap();
    let (store, _, mut writer, mut keeper) = opened;
    let mut rest = |store: &Store| {
        let mut idle = 0;
        while idle < 6 {
            let is_idle = writer.step().unwrap() == Step::Idle && keeper.step() == Step::Idle;
            idle = if is_idle { idle + 1 } else { 0 };
        }
        assert!(store.usage().segments > 0);
    };
    // Segments that only their puts would keep are what a snapshot is written for; then they go.
    for n in 0..60u8 {
        let entries = [
            Entry::Put { key: b"first", value: &[b'0' + n % 10] },
            Entry::Hold { holders: &[9], parts: [&[n; 100], b""] },
        ];
        store.append(&entries, Durability::Fsync);
        rest(&store);
    }
    store.append(&[Entry::Drop { holder: 9, from: 0, before: u64::MAX, except: &[] }], Durability::Fsync);
    rest(&store);
    let (mut released, mut dropped) = (Vec::new(), Vec::new());
    for n in 0..40u32 {
        let body = format!("body {n} ").repeat(8);
        let holders: &[u64] = if n % 4 == 0 { &[1, 2, 3 | UNTIL_RESTART] } else { &[1, 4] };
        let first = store.append(&[Entry::Hold { holders, parts: [body.as_bytes(), b""] }], Durability::Fsync);
        let (key, value) = (format!("queue {}", n % 7), format!("number {n}"));
        store.append(&[Entry::Put { key: key.as_bytes(), value: value.as_bytes() }], Durability::Os);
        if n < 30 && n % 5 > 0 {
            released.push(first);
        }
        if n % 4 > 0 {
            dropped.push(first + 1);
        }
        rest(&store);
    }
    store.append(&[Entry::Release { holder: 1, sequences: &released }], Durability::Fsync);
    let last = dropped[dropped.len() - 5];
    store.append(&[Entry::Drop { holder: 4, from: 0, before: last, except: &[dropped[3]] }], Durability::Fsync);
    rest(&store);
    store.append(
        &[Entry::Remove { key: b"queue 1" }, Entry::Put { key: b"queue 5", value: b"fine" }],
        Durability::Fsync,
    );
    rest(&store);
    drop(store);
    while writer.step().unwrap() != Step::Ended {}
    let names: Vec<_> = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_there = |end: &str| names.iter().any(|name| name.to_string_lossy().ends_with(end));
    assert!(is_there("state") && is_there("-1.segment") && is_there("-1.index"), "not all that there is: {names:?}");
}

#[test]
#[ignore = "it writes the fixtures"]
fn write_fixtures() {
    for name in ["plain", "encrypted"] {
        let data = fixture(name);
        let _ = fs::remove_dir_all(&data);
        write(&data, name);
        for file in ["lock", "log/spare", "log/reserve"] {
            let _ = fs::remove_file(data.join(file));
        }
        let opened = tempfile::tempdir().unwrap();
        copy(&data, opened.path());
        let (store, contents) = Store::open(opened.path(), options(name), Hooks::default()).unwrap();
        fs::write(data.join("contents.txt"), describe(&store, &contents)).unwrap();
    }
}
