//! More about the simulated disk than has room beside it: that it does what the operating system does as long as nothing
//! goes wrong, and its rarer misfortunes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
};

use proptest::prelude::*;
use roadstead_store::disk::{Disk, OsDisk};

use super::disk::{Operation, SECTOR, SimDisk, Snapshot};

#[derive(Clone, Debug)]
enum Step {
    CreateDirectory(u8),
    Create(u8),
    Open(u8),
    Write(u8, u16, u16),
    Read(u16, u16),
    Rename(u8, u8),
    Remove(u8),
    Sync,
    SyncDirectory(u8),
    List(u8),
    Lock(u8),
    Unlock,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..5u8;
    let any_name = || 0..7u8;
    let step = prop_oneof![
        (0..3u8).prop_map(Step::CreateDirectory),
        name().prop_map(Step::Create),
        any_name().prop_map(Step::Open),
        (any::<u8>(), 0..3000u16, 0..2000u16).prop_map(|(byte, offset, len)| Step::Write(byte, offset, len)),
        (0..3000u16, 0..2000u16).prop_map(|(offset, len)| Step::Read(offset, len)),
        (name(), name()).prop_map(|(from, to)| Step::Rename(from, to)),
        any_name().prop_map(Step::Remove),
        Just(Step::Sync),
        (0..3u8).prop_map(Step::SyncDirectory),
        (0..3u8).prop_map(Step::List),
        name().prop_map(Step::Lock),
        Just(Step::Unlock),
    ];
    prop::collection::vec(step, 1..60)
}

/// What callers tell apart of errors.
fn kind<E: std::borrow::Borrow<std::io::Error>>(error: E) -> &'static str {
    let is_missing = matches!(error.borrow().kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    if is_missing { "missing" } else { "refused" }
}

/// What each step says, by any disk.
fn play(disk: &dyn Disk, steps: &[Step]) -> Vec<String> {
    let name = |index: u8| ["a", "b", "d/a", "d/b", "e/a", "d", "e"][usize::from(index)];
    let directory = |index: u8| ["", "d", "e"][usize::from(index)];
    let (mut file, mut locks, mut said) = (None, Vec::new(), Vec::new());
    for step in steps {
        let what = match step {
            Step::CreateDirectory(index) => {
                format!("{:?}", disk.create_directory(directory(*index)).map_err(kind))
            }
            Step::Create(index) => {
                let made = disk.create(name(*index));
                let what = format!("{:?}", made.as_ref().map(|_| ()).map_err(kind));
                file = made.ok().or(file);
                what
            }
            Step::Open(index) => {
                let opened = disk.open(name(*index));
                let what = format!("{:?}", opened.as_ref().map(|_| ()).map_err(kind));
                file = opened.ok().or(file);
                what
            }
            Step::Write(byte, offset, len) => {
                let bytes = vec![*byte; usize::from(*len)];
                format!("{:?}", file.as_ref().map(|file| file.write_at(&bytes, u64::from(*offset)).unwrap()))
            }
            Step::Read(offset, len) => {
                let mut bytes = vec![0; usize::from(*len)];
                let read = file.as_ref().map(|file| file.read_at(&mut bytes, u64::from(*offset)).unwrap());
                format!("{read:?} {:?} {bytes:?}", file.as_ref().map(|file| file.size().unwrap()))
            }
            // Not what the store does, and the simulated disk refuses it.
            Step::Rename(from, to)
                if name(*from).rsplit_once('/').map(|n| n.0) != name(*to).rsplit_once('/').map(|n| n.0) =>
            {
                continue;
            }
            Step::Rename(from, to) => format!("{:?}", disk.rename(name(*from), name(*to)).map_err(kind)),
            Step::Remove(index) => format!("{:?}", disk.remove(name(*index)).map_err(kind)),
            Step::Sync => format!("{:?}", file.as_ref().map(|file| file.sync().unwrap())),
            Step::SyncDirectory(index) => format!("{:?}", disk.sync_directory(directory(*index)).map_err(kind)),
            Step::List(index) => {
                let mut names = disk.list(directory(*index)).map_err(kind);
                let _ = names.as_mut().map(|names| names.sort());
                format!("{names:?}")
            }
            Step::Lock(index) => {
                let lock = disk.lock(name(*index));
                let what = format!("{:?}", lock.as_ref().map(Option::is_some).map_err(kind));
                locks.extend(lock.ok().flatten());
                what
            }
            Step::Unlock => format!("{:?}", locks.pop().is_some()),
        };
        said.push(format!("{step:?}: {what}"));
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn it_does_what_the_operating_system_does(seed: u64, steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        prop_assert_eq!(play(&SimDisk::new(seed), &steps), play(&OsDisk::new(directory.path()), &steps));
    }

    #[test]
    fn what_was_all_synced_is_all_there(seed: u64, steps in steps()) {
        let disk = SimDisk::new(seed);
        play(&disk, &steps);
        for name in disk.files() {
            disk.open(&name).unwrap().sync().unwrap();
        }
        for name in ["", "d", "e"] {
            let _ = disk.sync_directory(name);
        }
        prop_assert_eq!(disk.crash().snapshot(), disk.snapshot());
    }
}

fn one(name: &str, bytes: &[u8]) -> Snapshot {
    [(name.to_owned(), bytes.to_vec())].into()
}

fn seen<T: Ord>(of: impl Fn(u64) -> T) -> BTreeSet<T> {
    (0..500).map(of).collect()
}

#[test]
fn an_emptied_file_has_its_old_bytes_or_new_ones_but_never_both() {
    let after = |seed, sync| {
        let disk = SimDisk::with_files(seed, &one("a", &[1; 2 * SECTOR])).unwrap();
        disk.open("a").unwrap().write_at(&[2; SECTOR], 0).unwrap();
        let file = disk.create("a").unwrap();
        file.write_all_at(&[3; SECTOR], 0).unwrap();
        if sync {
            file.sync().unwrap();
        }
        let bytes = disk.crash().snapshot().remove("a").unwrap();
        bytes.chunks(SECTOR).map(|sector| (sector.len(), sector[0], sector[sector.len() - 1])).collect::<Vec<_>>()
    };
    let n = SECTOR;
    let all = [vec![], vec![(n, 0, 0)], vec![(n, 3, 3)], vec![(n, 1, 1); 2], vec![(n, 2, 2), (n, 1, 1)]];
    assert_eq!(seen(|seed| after(seed, false)), all.clone().into());
    assert_eq!(seen(|seed| after(seed, true)), [all[2].clone()].into());
}

#[test]
fn a_rename_leaves_one_name_and_a_replaced_file_is_old_or_new() {
    let after = |seed, sync| {
        let disk = SimDisk::with_files(seed, &one("a", b"old")).unwrap();
        let file = disk.create("b").unwrap();
        file.write_all_at(b"new", 0).unwrap();
        file.sync().unwrap();
        disk.rename("b", "a").unwrap();
        if sync {
            disk.sync_directory("").unwrap();
        }
        disk.crash().snapshot()
    };
    let (old, new) = (one("a", b"old"), one("a", b"new"));
    let both = BTreeMap::from([("a".to_owned(), b"old".to_vec()), ("b".to_owned(), b"new".to_vec())]);
    assert_eq!(seen(|seed| after(seed, false)), [old, both, new.clone()].into());
    assert_eq!(seen(|seed| after(seed, true)), [new].into());
}

#[test]
fn each_operation_can_be_made_to_fail_once() {
    let kind = ErrorKind::PermissionDenied;
    let disk = SimDisk::with_files(1, &one("a", b"text")).unwrap();
    let file = disk.open("a").unwrap();
    type Try<'a> = Box<dyn Fn() -> std::io::Result<()> + 'a>;
    let tries: [(Operation, Try<'_>); 13] = [
        (Operation::Create, Box::new(|| disk.create_directory("d"))),
        (Operation::Create, Box::new(|| disk.create("b").map(drop))),
        (Operation::Open, Box::new(|| disk.open("a").map(drop))),
        (Operation::List, Box::new(|| disk.list("").map(drop))),
        (Operation::Rename, Box::new(|| disk.rename("a", "c"))),
        (Operation::Remove, Box::new(|| disk.remove("b"))),
        (Operation::SyncDirectory, Box::new(|| disk.sync_directory(""))),
        (Operation::Lock, Box::new(|| disk.lock("lock").map(drop))),
        (Operation::Random, Box::new(|| disk.random(&mut [0; 9]))),
        (Operation::Read, Box::new(|| file.read_at(&mut [0; 9], 0).map(drop))),
        (Operation::Write, Box::new(|| file.write_at(&[0; 9], 0).map(drop))),
        (Operation::Sync, Box::new(|| file.sync())),
        (Operation::Size, Box::new(|| file.size().map(drop))),
    ];
    for (operation, attempt) in &tries {
        let before = disk.snapshot();
        disk.fail_next(*operation, kind);
        assert_eq!(attempt().unwrap_err().kind(), kind, "{operation:?}");
        assert_eq!(disk.snapshot(), before, "{operation:?}");
        attempt().unwrap();
    }
    disk.fail_next(Operation::Write, ErrorKind::Interrupted);
    disk.fail_next(Operation::Write, ErrorKind::Interrupted);
    file.write_all_at(b"done", 0).unwrap();
}

#[test]
fn a_crash_can_be_after_every_change_and_looking_does_not_count() {
    let run = |after| {
        let disk = SimDisk::new(7);
        disk.crash_after(after);
        let mut done = 0;
        let mut go = || -> std::io::Result<()> {
            let mut step = |result: std::io::Result<()>| result.map(|()| done += 1);
            step(disk.create_directory("d"))?;
            let file = disk.create("d/a").inspect(|_| ())?;
            step(Ok(()))?;
            disk.list("d")?;
            disk.open("d/a")?.size()?;
            step(file.sync())?;
            step(disk.sync_directory("d"))?;
            step(disk.rename("d/a", "d/b"))?;
            step(disk.sync_directory(""))?;
            step(disk.remove("d/b"))?;
            Ok(())
        };
        (go().is_ok(), done, disk.has_crashed())
    };
    let reached: Vec<_> = (0..9).map(run).collect();
    // After the second change only looking follows, which fails.
    let done = [0, 1, 2, 3, 4, 5, 6, 7, 7];
    for (after, (is_ok, reached, crashed)) in reached.into_iter().enumerate() {
        assert_eq!((is_ok, reached, crashed), (after >= 7, done[after], after <= 7), "{after}");
    }
}

#[test]
#[should_panic(expected = "it has not crashed")]
fn a_crash_that_did_not_come_is_noticed() {
    SimDisk::new(1).restart();
}

#[test]
fn one_file_does_not_change_what_becomes_of_another() {
    let after = |seed, others: bool| {
        let disk = SimDisk::with_files(seed, &one("a", &[1; 9 * SECTOR])).unwrap();
        disk.short_one_in(2);
        let file = disk.open("a").unwrap();
        for byte in 2..6 {
            if others {
                disk.create("b").unwrap().write_all_at(&[7; 5000], 0).unwrap();
            }
            file.write_all_at(&[byte; 4 * SECTOR], u64::from(byte) * 700).unwrap();
        }
        disk.crash().snapshot().remove("a")
    };
    for seed in 0..100 {
        assert_eq!(after(seed, false), after(seed, true));
    }
}

#[test]
fn a_failed_directory_sync_makes_a_part_safe() {
    let after = |seed| {
        let disk = SimDisk::new(seed);
        ["a", "b"].iter().for_each(|name| drop(disk.create(name).unwrap()));
        disk.fail_next(Operation::SyncDirectory, ErrorKind::Other);
        disk.sync_directory("").unwrap_err();
        let at_least = seen_of(&disk);
        disk.sync_directory("").unwrap();
        assert_eq!(disk.crash().files().len(), 2);
        at_least
    };
    assert_eq!(seen(after), [0, 1, 2].into());
}

/// The fewest files that any of many crashes leaves.
fn seen_of(disk: &SimDisk) -> usize {
    (0..40).map(|_| disk.possible_crash().files().len()).min().unwrap()
}

#[test]
fn a_full_disk_has_room_again_once_a_file_is_gone_and_holes_take_none() {
    let disk = SimDisk::new(3);
    disk.set_capacity(4 * SECTOR as u64);
    let file = disk.create("a").unwrap();
    file.write_all_at(&[1; SECTOR], 7 * SECTOR as u64).unwrap();
    assert_eq!((disk.bytes_on_disk(), file.size().unwrap()), (SECTOR as u64, 8 * SECTOR as u64));
    let error = file.write_all_at(&[2; 8 * SECTOR], 0).unwrap_err();
    assert_eq!((error.kind(), disk.bytes_on_disk()), (ErrorKind::StorageFull, 4 * SECTOR as u64));
    assert!(disk.create("b").unwrap().write_at(b"x", 0).is_err());
    disk.create("a").unwrap();
    disk.open("b").unwrap().write_all_at(&[3; 4 * SECTOR], 0).unwrap();
    assert!(disk.crash().create("c").is_ok(), "names need no room");
}
