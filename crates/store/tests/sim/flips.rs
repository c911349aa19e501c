//! Flipped bits: what a disk gives back is not what was written.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use roadstead_store::{
    Hooks, Keys, OpenError, Options, ReadError, Store, check,
    disk::Disk,
    format::{SEGMENT_HEADER, SegmentId},
    salvage,
};

use super::{
    disk::{Random, SimDisk, Snapshot},
    model::Model,
    run::Run,
};

/// Where the used part of a file ends.
fn used(name: &str, bytes: &[u8]) -> usize {
    let Some(id) = name.strip_prefix("log/").and_then(SegmentId::parse) else {
        return if matches!(name, "lock" | "log/spare" | "log/reserve") { 0 } else { bytes.len() };
    };
    let header = id.read_header(bytes).unwrap();
    let mut end = SEGMENT_HEADER;
    while let Some(block) = id.read_block(header.salt, &bytes[end..]) {
        end += block.size();
    }
    end
}

/// Without the files that the next opening would remove: nothing in them matters.
fn needed(files: &Snapshot, options: &Options) -> Snapshot {
    let disk = SimDisk::with_files(1, files).unwrap();
    let _opened = Store::open_on(Arc::new(disk.clone()), options.clone(), Hooks::default()).unwrap();
    let stays = |name: &str| disk.open(name).is_ok();
    files.iter().filter(|(name, _)| stays(name)).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

/// A bit that is used, of any file.
fn any_bit(random: &mut Random, files: &Snapshot) -> (String, usize) {
    loop {
        // Small files come as often as large ones.
        let (name, bytes) = files.iter().nth(random.below(files.len())).unwrap();
        let used = used(name, bytes);
        if used > 0 {
            return (name.clone(), random.below(used * 8));
        }
    }
}

/// Reads everything. True if all is as it must be, false if damage is told, an error if it is not.
fn read(files: &Snapshot, options: &Options, model: &Model) -> Result<bool, String> {
    let disk = SimDisk::with_files(1, files).unwrap();
    let (store, contents, ..) = match Store::open_on(Arc::new(disk), options.clone(), Hooks::default()) {
        Ok(opened) => opened,
        Err(OpenError::Damaged(_)) => return Ok(false),
        Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(format!("cannot open: {error}")),
    };
    if !contents.state.iter().cloned().eq(model.state.clone()) || contents.held != model.contents() {
        return Err(format!("it is not told that something is wrong: {contents:?}"));
    }
    for (&holder, held) in &model.held {
        let mut found = BTreeMap::new();
        let mut next = 0;
        while next < contents.end {
            match store.read(holder, next, contents.end, &[], 100, 1 << 20) {
                Ok(page) => {
                    next = page.next;
                    found.extend(page.bodies);
                }
                Err(ReadError::Damaged(_)) => return Ok(false),
                Err(error) => return Err(format!("cannot read: {error}")),
            }
        }
        if !held.iter().map(|(hold, held)| (*hold, held.body.to_vec())).eq(found) {
            return Err(format!("wrong bodies of {holder}"));
        }
    }
    Ok(true)
}

fn store_files(files: &Snapshot, data: &Path) {
    fs::create_dir_all(data.join("log")).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(data.join(name), bytes).unwrap());
}

/// All bodies of everybody, how often each.
fn bodies(data: &Path, keys: &Keys) -> BTreeMap<(u64, Vec<u8>), usize> {
    let options = Options { keys: keys.clone(), ..Options::default() };
    let (store, contents) = Store::open(data, options, Hooks::default()).unwrap();
    let mut all = BTreeMap::new();
    for held in contents.held {
        let mut next = held.first;
        while next <= held.last {
            let page = store.read(held.holder, next, held.last + 1, &[], 100, 1 << 20).unwrap();
            next = page.next;
            page.bodies.into_iter().for_each(|(_, body)| *all.entry((held.holder, body)).or_default() += 1);
        }
    }
    all
}

#[test]
fn a_flipped_bit_never_goes_unnoticed() {
    let mut noticed = 0;
    for seed in 0..40 {
        let (run, model) = Run::closed(seed, 250).unwrap();
        let files = run.disk.snapshot();
        assert_eq!(read(&files, &run.options, &model), Ok(true), "seed {seed}");
        let mut random = Random(seed);
        for _ in 0..40 {
            let (name, bit) = any_bit(&mut random, &files);
            let mut damaged = files.clone();
            damaged.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let outcome = read(&damaged, &run.options, &model);
            let is_right = outcome.unwrap_or_else(|problem| panic!("seed {seed}, bit {bit} of {name}: {problem}"));
            noticed += u64::from(!is_right);
        }
    }
    assert!(noticed > 800, "only {noticed} of 1600 bits mattered");
}

#[test]
fn the_doctor_finds_every_flipped_bit_and_saves_the_rest() {
    for seed in 0..12 {
        let (run, model) = Run::closed(seed, 250).unwrap();
        let files = needed(&run.disk.snapshot(), &run.options);
        let mut random = Random(seed);
        for _ in 0..6 {
            let (name, bit) = any_bit(&mut random, &files);
            let mut damaged = files.clone();
            damaged.get_mut(&name).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let directory = tempfile::tempdir().unwrap();
            let (data, target) = (directory.path().join("damaged"), directory.path().join("saved"));
            store_files(&damaged, &data);
            let what = format!("seed {seed}, bit {bit} of {name}");
            let report =
                check(&data, &run.options.keys, &mut |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(report.torn.is_some() || !report.findings.is_empty(), "{what} was not found");
            salvage(&data, &target, &run.options, &mut |_, _| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
            let saved = bodies(&target, &run.options.keys);
            let lost = lies_there(&files, &name, bit / 8);
            for (holder, held) in &model.held {
                let mut wanted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
                for (_, hold) in held.iter().filter(|(hold, _)| !lost.contains(hold)) {
                    *wanted.entry(hold.body.to_vec()).or_default() += 1;
                }
                for (body, count) in wanted {
                    let found = saved.get(&(*holder, body)).copied().unwrap_or_default();
                    assert!(found >= count, "{what}: {holder} has lost a body that is not damaged");
                }
            }
        }
    }
}

/// The sequence numbers that a damaged byte may take with it: those of its block, or of the whole segment if it is in
/// the header.
fn lies_there(files: &Snapshot, name: &str, at: usize) -> std::ops::Range<u64> {
    let Some(id) = name.strip_prefix("log/").and_then(SegmentId::parse) else { return 0..0 };
    let bytes = &files[name];
    let header = id.read_header(bytes).unwrap();
    let (mut end, mut range) = (SEGMENT_HEADER, 0..0);
    while let Some(block) = id.read_block(header.salt, &bytes[end..]) {
        let mut entries = roadstead_store::format::Entries::new(block.payload, block.first_sequence, id.generation > 0);
        entries.by_ref().for_each(drop);
        let from = if at < SEGMENT_HEADER { header.first_sequence } else { block.first_sequence };
        if at < end + block.size() && (range.is_empty() || at < SEGMENT_HEADER) {
            range = from..entries.sequence;
        }
        end += block.size();
    }
    range
}
