//! Examining a log without changing it, and bringing what is readable of a damaged one into a new one.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::mpsc,
    task::{Wake, Waker},
};

use crate::{
    cipher::Keys,
    disk::{Disk, OsDisk, read_all},
    error::{Damage, OpenError},
    format::{Entry, SEGMENT_HEADER, SegmentId},
    index::Place,
    reader,
    recovery::{Held, Recovery, open_segment, read_epoch, read_index},
    scan::Subject,
    store::{Durability, Hooks, Options, Store},
};

/// Bytes that salvaging has under way.
const SALVAGE_BYTES: usize = 4 * 1024 * 1024;

/// Damage, and who had something there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The damage.
    pub damage: Damage,
    /// Holders with the number of their bodies that are lost, as far as an index tells.
    pub holders: Vec<(u64, u64)>,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Segments read.
    pub segments: usize,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Segments that are encrypted.
    pub encrypted: usize,
    /// Bodies held, counted once for each holder.
    pub bodies: u64,
    /// What is held, by holder.
    pub held: Vec<Held>,
    /// The state table.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
    /// The torn tail, if there is one: what was being written when the broker stopped. Nothing there was confirmed.
    pub torn: Option<Damage>,
    /// Damage.
    pub findings: Vec<Finding>,
}

/// What [`salvage`] did.
#[derive(Clone, Debug, Default)]
pub struct Salvaged {
    /// What the damaged log looks like.
    pub report: Report,
    /// Bodies brought over, counted once for each holder.
    pub bodies: u64,
    /// Holders with the number of their bodies that could not be read.
    pub lost: Vec<(u64, u64)>,
}

/// Reads a log as a whole, without changing it. `progress` is told how many of how many segments have been read.
///
/// # Errors
/// If a file cannot be read, or the key is not at hand. Damage is in the report.
pub fn check(data: &Path, keys: &Keys, progress: &mut dyn FnMut(usize, usize)) -> Result<Report, OpenError> {
    let disk = OsDisk::new(data);
    let mut recovery = Recovery::examine(&disk, keys)?;
    let mut report = Report { torn: recovery.torn.clone(), ..Report::default() };
    let found = recovery.findings.take().unwrap_or_default();
    report.findings.extend(found.into_iter().map(|damage| Finding { damage, holders: Vec::new() }));
    if let Err(error) = read_epoch(&disk) {
        let damage = Damage { file: disk.path("epoch"), offset: 0, problem: error.to_string() };
        report.findings.push(Finding { damage, holders: Vec::new() });
    }
    report.held = recovery.held()?;
    report.bodies = report.held.iter().map(|held| held.count).sum();
    report.state = recovery.ledger.state.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    report.state.sort();
    let ids: Vec<SegmentId> = recovery.ledger.accounts.values().map(|account| account.segment.id).collect();
    for (done, id) in ids.iter().enumerate() {
        progress(done, ids.len());
        report.segments += 1;
        examine(&disk, keys, *id, &mut report)?;
    }
    progress(ids.len(), ids.len());
    Ok(report)
}

/// Reads every block of a segment.
fn examine(disk: &dyn Disk, keys: &Keys, id: SegmentId, report: &mut Report) -> Result<(), OpenError> {
    let path = disk.path(&id.file_name());
    // A segment whose header is not valid has been reported.
    let (segment, header, file) = match open_segment(disk, keys, id) {
        Err(OpenError::Damaged(_)) => return Ok(()),
        opened => opened?,
    };
    let bytes = read_all(&*file).map_err(OpenError::io("cannot read", &path))?;
    report.bytes += bytes.len() as u64;
    report.encrypted += usize::from(header.wrapped_key.is_some());
    let subject = Subject { id, salt: segment.salt, first: segment.first, path: &path, bytes: &bytes };
    let survey = subject.survey(|_, _| {});
    let mut bad = survey.bad;
    let index = read_index(disk, id)?;
    if let Some(index) = &index
        && survey.valid_bytes < index.facts.valid_bytes as usize
    {
        bad.push(survey.valid_bytes..index.facts.valid_bytes as usize);
    }
    for range in bad {
        let mut holders: BTreeMap<u64, u64> = BTreeMap::new();
        for (holder, places) in index.iter().flat_map(|index| index.groups()) {
            let lies_there = |place: &&Place| range.contains(&(place.offset as usize));
            let lost = places.iter().filter(lies_there).count() as u64;
            if lost > 0 {
                *holders.entry(holder).or_default() += lost;
            }
        }
        let problem = format!("{} bytes are not what was written", range.len());
        let damage = Damage { file: path.clone(), offset: range.start as u64, problem };
        let holders = holders.into_iter().collect();
        // What stopped the reading at the same place is told once, with who is concerned.
        report.findings.retain(|finding| finding.damage.file != path || finding.damage.offset != damage.offset);
        report.findings.push(Finding { damage, holders });
    }
    Ok(())
}

/// Brings what is readable of a log into a new one in `target`, which must not be there or be empty. What was let go of
/// where the log is damaged may come back.
///
/// # Errors
/// If a file cannot be read or written, the key is not at hand, or there is something at the target.
pub fn salvage(
    data: &Path,
    target: &Path,
    options: &Options,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Salvaged, OpenError> {
    let report = check(data, &options.keys, &mut |_, _| {})?;
    if std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the directory is not empty");
        return Err(OpenError::Io { what: "cannot salvage into", path: target.into(), source });
    }
    let disk = OsDisk::new(data);
    let mut recovery = Recovery::examine(&disk, &options.keys)?;
    let mut made = recovery.made.clone();
    recovery.held()?;
    let (store, _) = Store::open(target, options.clone(), Hooks::default())?;
    for (key, value) in &report.state {
        store.append(&[Entry::Put { key, value }], Durability::Fsync);
    }
    let mut salvaged = Salvaged { report, ..Salvaged::default() };
    let mut lost: BTreeMap<u64, u64> = BTreeMap::new();
    let accounts = recovery.ledger.accounts;
    for (done, (first, account)) in accounts.iter().enumerate() {
        progress(done, accounts.len());
        let id = account.segment.id;
        let index = match made.remove(first) {
            Some(index) => index,
            None => match read_index(&disk, id)? {
                Some(index) => index,
                None => continue,
            },
        };
        let mut holds: BTreeMap<u32, (usize, Vec<(u64, u64)>)> = BTreeMap::new();
        for (holder, places) in index.groups() {
            for &place in places.iter().filter(|&&place| !account.is_gone(holder, place)) {
                let (_, holders) = holds.entry(place.offset).or_insert_with(|| (place.len(), Vec::new()));
                holders.push((holder, first + u64::from(place.relative)));
            }
        }
        let path = disk.path(&id.file_name());
        let bytes = disk.open(&id.file_name()).and_then(|file| read_all(&*file));
        let bytes = bytes.map_err(OpenError::io("cannot read", &path))?;
        for (offset, (len, holders)) in holds {
            let entry = bytes.get(offset as usize..offset as usize + len).filter(|_| offset as usize >= SEGMENT_HEADER);
            let body = entry.zip(holders.first());
            let body = body.and_then(|(entry, &(holder, hold))| reader::body(&account.segment, entry, holder, hold));
            let Some(body) = body else {
                holders.iter().for_each(|(holder, _)| *lost.entry(*holder).or_default() += 1);
                continue;
            };
            salvaged.bodies += holders.len() as u64;
            let holders: Vec<u64> = holders.into_iter().map(|(holder, _)| holder).collect();
            let last = store.append(&[Entry::Hold { holders: &holders, parts: [&body, b""] }], Durability::Os);
            if store.congested() || body.len() > SALVAGE_BYTES {
                wait_for(&store, last);
            }
        }
    }
    // A last entry that is to be synced makes everything before it safe.
    let end = store.append(&[Entry::Release { holder: 0, sequences: &[] }], Durability::Fsync);
    wait_for(&store, end);
    progress(accounts.len(), accounts.len());
    salvaged.lost = lost.into_iter().collect();
    Ok(salvaged)
}

struct Signal(mpsc::Sender<()>);

impl Wake for Signal {
    fn wake(self: std::sync::Arc<Self>) {
        let _ = self.0.send(());
    }
}

/// Waits until a sequence number is committed. A disk that fails ends the process by the store's hook or leaves the
/// caller to its time-out; here it ends the waiting.
fn wait_for(store: &Store, sequence: u64) {
    while store.committed() < sequence {
        let (sender, committed) = mpsc::channel();
        store.wake_when_committed(&Waker::from(std::sync::Arc::new(Signal(sender))));
        if store.committed() < sequence && committed.recv_timeout(std::time::Duration::from_secs(60)).is_err() {
            return;
        }
    }
}
