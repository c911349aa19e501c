//! A simulated disk, which loses, tears and refuses what a real one may lose, tear and refuse, and no more than that.
//!
//! All that it does follows from a seed and from the order of the operations on it. What becomes of a file follows from
//! that file's operations alone, so that two threads which work on different files do not make a run unrepeatable.
//!
//! A crash works sector by sector. Each sector that was written since the last sync is afterwards as it was before, or
//! as it was after any one of those writes, without regard to other sectors; a sector is never itself torn, and never
//! has a later write without an earlier one, because it goes to the disk from a page that holds both. Names are kept as
//! a journal keeps them: the changes of a directory survive in their order, up to some point.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    mem,
    path::PathBuf,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use roadstead_store::disk::{DIRECT_ALIGNMENT, Disk, DiskFile};

pub use super::random::Random;

/// The bytes that a disk writes as a whole or not at all.
pub const SECTOR: usize = 512;

/// Files as a reader sees them, by name.
pub type Snapshot = BTreeMap<String, Vec<u8>>;

/// What a disk can be told to refuse. To create is to create a directory too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Open,
    Create,
    List,
    Rename,
    Remove,
    SyncDirectory,
    Lock,
    Random,
    Read,
    Write,
    Sync,
    Size,
}

/// What was done so far and did not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub syncs: u64,
    pub directory_syncs: u64,
    pub writes: u64,
    pub bytes_written: u64,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Mutex<Inode>>),
}

/// One change of a directory, which happens as a whole: full names and what they then mean, if anything.
type Renaming = Vec<(String, Option<Node>)>;

#[derive(Default)]
struct Names {
    safe: BTreeMap<String, Node>,
    visible: BTreeMap<String, Node>,
    /// What leads from the one to the other, by directory. The root has no name.
    journals: BTreeMap<String, Vec<Renaming>>,
}

impl Names {
    /// Fails if the name can't be one, or its directory is not there.
    fn get(&self, name: &str) -> io::Result<Option<Node>> {
        let mut parts = name.split('/');
        if parts.clone().count() > 2 || parts.any(|part| matches!(part, "" | "." | "..")) {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} is no name on a simulated disk")));
        }
        if !self.is_directory(parent(name)) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(self.visible.get(name).cloned())
    }

    fn is_directory(&self, name: &str) -> bool {
        name.is_empty() || matches!(self.visible.get(name), Some(Node::Directory))
    }

    fn change(&mut self, renaming: Renaming) {
        rename(&mut self.visible, &renaming);
        self.journals.entry(parent(&renaming[0].0).to_owned()).or_default().push(renaming);
    }

    /// Makes changes of a directory safe: all, or the first ones up to where chance says.
    fn sync(&mut self, directory: &str, chance: Option<u64>) {
        let journal = self.journals.entry(directory.to_owned()).or_default();
        let count = chance.map_or(journal.len(), |chance| Random(chance).below(journal.len() + 1));
        journal.drain(..count).for_each(|renaming| rename(&mut self.safe, &renaming));
    }

    /// What a crash leaves.
    fn survivors(&self, seed: u64) -> BTreeMap<String, Node> {
        let mut names = self.safe.clone();
        for (directory, journal) in &self.journals {
            let mut random = Random::stream(seed, directory);
            let some = random.below(journal.len() + 1);
            let count = [0, journal.len(), some, some][random.below(4)];
            journal[..count].iter().for_each(|renaming| rename(&mut names, renaming));
        }
        let directories = names.iter().filter(|(_, node)| matches!(node, Node::Directory));
        let directories: BTreeSet<String> = directories.map(|(name, _)| name.clone()).collect();
        names.retain(|name, _| parent(name).is_empty() || directories.contains(parent(name)));
        names
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn rename(names: &mut BTreeMap<String, Node>, renaming: &Renaming) {
    for (name, node) in renaming {
        match node {
            Some(node) => names.insert(name.clone(), node.clone()),
            None => names.remove(name),
        };
    }
}

/// A write, or nothing for that the file was emptied.
type Change = Option<(usize, Vec<u8>)>;

#[derive(Default)]
struct Inode {
    /// What its random numbers begin with.
    seed: u64,
    safe: Vec<u8>,
    visible: Vec<u8>,
    unsafe_changes: Vec<Change>,
    /// The sectors that have a place on the disk. Where nothing was ever written, a file has none.
    allocated: BTreeSet<usize>,
    faults: Random,
    is_locked: bool,
}

impl Inode {
    fn new(seed: u64, bytes: Vec<u8>) -> Self {
        let allocated = sectors(0, bytes.len()).collect();
        let (safe, faults) = (bytes.clone(), Random::stream(seed, "faults"));
        Self { seed, safe, visible: bytes, allocated, faults, ..Self::default() }
    }

    fn empty(&mut self) {
        if !self.visible.is_empty() {
            self.visible.clear();
            self.allocated.clear();
            self.unsafe_changes.push(None);
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        put(&mut self.visible, bytes, offset);
        self.allocated.extend(sectors(offset, bytes.len()));
        self.unsafe_changes.push(Some((offset, bytes.to_vec())));
    }

    /// How many of the bytes have a place, if no more than `free` bytes are left for new sectors.
    fn room(&self, len: usize, offset: usize, free: u64) -> usize {
        let new = sectors(offset, len).filter(|sector| !self.allocated.contains(sector));
        let first_without = new.clone().nth((free / SECTOR as u64).min(len as u64) as usize);
        first_without.map_or(len, |sector| (sector * SECTOR).saturating_sub(offset))
    }

    fn sync(&mut self) {
        for change in self.unsafe_changes.drain(..) {
            match change {
                Some((offset, bytes)) => put(&mut self.safe, &bytes, offset),
                None => self.safe.clear(),
            }
        }
    }

    /// A sync that fails. The kernel does not try again what the disk has refused: some of the changes are safe, the
    /// others never will be, although readers still see them.
    fn fail_to_sync(&mut self) {
        let mut random = Random(self.faults.next());
        self.safe = self.survivors(&mut random);
        self.unsafe_changes.clear();
    }

    /// What a crash leaves of the file.
    fn survivors(&self, random: &mut Random) -> Vec<u8> {
        // What is written after a file was emptied is at new places, which it does not have until it is emptied.
        let stages: Vec<&[Change]> = self.unsafe_changes.split(Option::is_none).collect();
        let stage = random.below(stages.len());
        let mut bytes = if stage == 0 { self.safe.clone() } else { Vec::new() };
        let last = last_writes(stages[stage], random);
        let mut whole = 0;
        for (index, (offset, written)) in stages[stage].iter().flatten().enumerate() {
            whole = whole.max(offset + written.len());
            for sector in sectors(*offset, written.len()).filter(|sector| last.get(sector) >= Some(&index)) {
                let from = (sector * SECTOR).max(*offset);
                let to = (sector * SECTOR + SECTOR).min(offset + written.len());
                put(&mut bytes, &written[from - offset..to - offset], from);
            }
        }
        // The length is kept apart from the bytes: it may tell of some that never arrived.
        if whole > bytes.len() && random.one_in(2) {
            bytes.resize(whole, 0);
        }
        bytes
    }
}

/// For each sector the last write that reaches the disk, if one does. All do or none, or each write is for itself kept,
/// dropped or torn.
fn last_writes(changes: &[Change], random: &mut Random) -> BTreeMap<usize, usize> {
    let mut last = BTreeMap::new();
    let of_all = random.below(8);
    for (index, (offset, bytes)) in changes.iter().flatten().enumerate() {
        let of_one = random.below(3);
        let percent = [0, 100, 1 + random.below(99)][if of_all < 2 { of_all } else { of_one }];
        for sector in sectors(*offset, bytes.len()) {
            if random.below(100) < percent {
                last.insert(sector, index);
            }
        }
    }
    last
}

fn sectors(offset: usize, len: usize) -> impl Iterator<Item = usize> + Clone {
    offset / SECTOR..(offset + len).div_ceil(SECTOR)
}

fn put(bytes: &mut Vec<u8>, written: &[u8], offset: usize) {
    let end = offset + written.len();
    bytes.resize(bytes.len().max(end), 0);
    bytes[offset..end].copy_from_slice(written);
}

/// How a disk misbehaves, also after a crash.
#[derive(Clone, Default)]
struct Nature {
    capacity: Option<u64>,
    is_lying: bool,
    short_one_in: u64,
}

#[derive(Default)]
struct State {
    seed: u64,
    faults: Random,
    secrets: Random,
    crashes: Random,
    names: Names,
    /// How many files had a name, so that each has other random numbers.
    born: BTreeMap<String, u64>,
    nature: Nature,
    next_failures: Vec<(Operation, ErrorKind)>,
    /// How many changes are left until the crash.
    left: Option<u64>,
    is_off: bool,
    counters: Counters,
}

const CRASHED: &str = "the simulated machine has crashed";

impl State {
    fn new(seed: u64, nature: Nature) -> Self {
        let [faults, secrets, crashes] = ["faults", "secrets", "crashes"].map(|name| Random::stream(seed, name));
        Self { seed, faults, secrets, crashes, nature, ..Self::default() }
    }

    /// Whether an operation may go on. The last one before a crash may, and finds `is_off`.
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other(CRASHED));
        }
        use Operation::{List, Open, Random, Read, Size};
        let only_looks = matches!(operation, List | Open | Random | Read | Size);
        if let Some(left) = self.left.as_mut().filter(|_| !only_looks) {
            *left -= 1;
            self.is_off = *left == 0;
        }
        if let Some(index) = self.next_failures.iter().position(|(failing, _)| *failing == operation) {
            return Err(self.next_failures.remove(index).1.into());
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> io::Result<Arc<Mutex<Inode>>> {
        match self.names.get(name)? {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    /// The file of that name, made if need be.
    fn ensure(&mut self, name: &str) -> io::Result<Arc<Mutex<Inode>>> {
        if self.names.get(name)?.is_some() {
            return self.file(name);
        }
        let born = self.born.entry(name.to_owned()).or_default();
        *born += 1;
        let seed = Random::stream(self.seed, &format!("{name} {born}")).next();
        let inode = Arc::new(Mutex::new(Inode::new(seed, Vec::new())));
        self.names.change(vec![(name.to_owned(), Some(Node::File(inode.clone())))]);
        Ok(inode)
    }

    /// The visible files by their full names.
    fn files(&self) -> impl Iterator<Item = (&String, &Arc<Mutex<Inode>>)> {
        self.names.visible.iter().filter_map(|(name, node)| match node {
            Node::File(inode) => Some((name, inode)),
            Node::Directory => None,
        })
    }

    fn bytes_on_disk(&self) -> u64 {
        self.files().map(|(_, inode)| (inode.lock().allocated.len() * SECTOR) as u64).sum()
    }

    /// The disk after a crash.
    fn survivors(&mut self) -> Self {
        let seed = self.crashes.next();
        let mut after = Self::new(seed, self.nature.clone());
        let mut names = self.names.survivors(seed);
        for node in names.values_mut() {
            if let Node::File(inode) = node {
                let file = inode.lock();
                let seed = seed ^ file.seed;
                let survivor = Inode::new(seed, file.survivors(&mut Random::stream(seed, "crash")));
                drop(file);
                *inode = Arc::new(Mutex::new(survivor));
            }
        }
        after.names = Names { safe: names.clone(), visible: names, ..Names::default() };
        after
    }
}

/// A handle to a simulated disk; its clones are handles to the same one.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl SimDisk {
    /// An empty disk, of which all that will happen to it by chance is settled.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed, Nature::default()))) }
    }

    /// A disk with these files, and the directories that they are in. All of it is safe.
    pub fn with_files(seed: u64, files: &Snapshot) -> io::Result<Self> {
        let disk = Self::new(seed);
        for (name, bytes) in files {
            disk.create_directory(parent(name))?;
            let file = disk.create(name)?;
            file.write_all_at(bytes, 0)?;
            file.sync()?;
            disk.sync_directory(parent(name))?;
        }
        disk.sync_directory("")?;
        disk.state.lock().counters = Counters::default();
        Ok(disk)
    }

    /// The power goes, if it has not yet, and comes back: returns the disk as it is found then. All handles to this one
    /// and to its files fail from now on, so that a thread which outlives the crash can't write.
    pub fn crash(&self) -> Self {
        self.state.lock().is_off = true;
        self.restart()
    }

    /// What is found after the crash that [`SimDisk::crash_after`] has made. Asked again, it tells of another crash
    /// that might have been. Panics if there was none, for then a test does not test what it means to.
    pub fn restart(&self) -> Self {
        assert!(self.has_crashed(), "the simulated machine was not to be restarted: it has not crashed");
        self.possible_crash()
    }

    /// What might be found if the power went now. It does not: this disk goes on, so one run can show many crashes.
    pub fn possible_crash(&self) -> Self {
        let after = self.state.lock().survivors();
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// Lets the power go after that many operations which may change something, whether they succeed or not. If the
    /// last one is a write, perhaps only a part of it is done.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.left = Some(operations);
        state.is_off |= operations == 0;
    }

    /// Whether the power is off.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().is_off
    }

    /// Makes one read or write in so many do less than it was asked to; zero is none.
    pub fn short_one_in(&self, times: u64) {
        self.state.lock().nature.short_one_in = times;
    }

    /// Makes the next such operation fail. Said twice, the next two.
    pub fn fail_next(&self, operation: Operation, kind: ErrorKind) {
        self.state.lock().next_failures.push((operation, kind));
    }

    /// Limits what the files may take, in whole sectors. Only what needs a new sector is ever refused.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().nature.capacity = Some(bytes);
    }

    /// Whether the disk says that something is safe and does nothing for it: to show that a test notices.
    pub fn lying(&self, is_lying: bool) {
        self.state.lock().nature.is_lying = is_lying;
    }

    /// Flips a bit of what is safe, and of what readers see.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let inode = self.state.lock().file(name).unwrap();
        let file = &mut *inode.lock();
        for bytes in [&mut file.safe, &mut file.visible] {
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }

    /// The full names of all files.
    pub fn files(&self) -> Vec<String> {
        self.state.lock().files().map(|(name, _)| name.clone()).collect()
    }

    /// What the files take that have a name, in whole sectors.
    pub fn bytes_on_disk(&self) -> u64 {
        self.state.lock().bytes_on_disk()
    }

    /// What was done since the disk was made or the machine restarted.
    pub fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    /// All files as readers see them, also when the power is off.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock();
        state.files().map(|(name, inode)| (name.clone(), inode.lock().visible.clone())).collect()
    }

    fn begin(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        state.begin(operation)?;
        Ok(state)
    }
}

impl Disk for SimDisk {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        let mut state = self.begin(Operation::Create)?;
        if name.is_empty() {
            return Ok(());
        }
        match state.names.get(name)? {
            Some(Node::Directory) => {}
            Some(Node::File(_)) => return Err(ErrorKind::AlreadyExists.into()),
            None => state.names.change(vec![(name.to_owned(), Some(Node::Directory))]),
        }
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.begin(Operation::Open)?.file(name)?;
        Ok(Arc::new(SimFile { inode, disk: self.clone() }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.begin(Operation::Create)?.ensure(name)?;
        inode.lock().empty();
        Ok(Arc::new(SimFile { inode, disk: self.clone() }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut state = self.begin(Operation::List)?;
        if !state.names.is_directory(directory) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.names.visible.keys().filter(|name| parent(name) == directory);
        let mut names: Vec<String> = inside.filter_map(|name| Some(name.rsplit('/').next()?.to_owned())).collect();
        // A file system has an order of its own.
        names.sort_by_cached_key(|_| state.faults.next());
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.begin(Operation::Rename)?;
        let inode = state.file(from)?;
        match state.names.get(to)? {
            // What a crash leaves of it would be a matter of two journals.
            _ if parent(from) != parent(to) => return Err(ErrorKind::Unsupported.into()),
            Some(Node::Directory) => return Err(ErrorKind::IsADirectory.into()),
            _ if from == to => {}
            _ => state.names.change(vec![(from.to_owned(), None), (to.to_owned(), Some(Node::File(inode)))]),
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.begin(Operation::Remove)?;
        state.file(name)?;
        state.names.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let begun = state.begin(Operation::SyncDirectory);
        let chance = state.faults.next();
        match begun {
            Ok(()) if !state.names.is_directory(name) => return Err(ErrorKind::NotFound.into()),
            Ok(()) if state.nature.is_lying => {}
            Ok(()) => state.names.sync(name, None),
            // What is unsafe when the power goes is the crash's to decide.
            Err(_) if state.is_off => {}
            Err(_) => state.names.sync(name, Some(chance)),
        }
        state.counters.directory_syncs += u64::from(begun.is_ok());
        begun
    }

    fn is_sole_link(&self, _name: &str) -> bool {
        true
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let inode = self.begin(Operation::Lock)?.ensure(name)?;
        let was_locked = mem::replace(&mut inode.lock().is_locked, true);
        Ok(if was_locked { None } else { Some(Box::new(SimLock(inode))) })
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut state = self.begin(Operation::Random)?;
        bytes.fill_with(|| state.secrets.next() as u8);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Arc<Mutex<Inode>>,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.begin(Operation::Read)?;
        let file = &mut *self.inode.lock();
        let rest = file.visible.get(offset as usize..).unwrap_or_default();
        let len = file.faults.shortened(buffer.len().min(rest.len()), state.nature.short_one_in);
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.begin(Operation::Write)?;
        // It could only be a mistake, and would take the machine's memory.
        if offset > 1 << 30 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let free = |capacity: u64| capacity.saturating_sub(state.bytes_on_disk());
        let (free, offset) = (state.nature.capacity.map_or(u64::MAX, free), offset as usize);
        let file = &mut *self.inode.lock();
        let room = file.room(bytes.len(), offset, free);
        if room == 0 && !bytes.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        let mut len = file.faults.shortened(room, state.nature.short_one_in);
        if state.is_off && file.faults.one_in(2) {
            len = file.faults.below(len + 1);
        }
        if len > 0 {
            file.write(&bytes[..len], offset);
        }
        if state.is_off && len < bytes.len() {
            return Err(io::Error::other(CRASHED));
        }
        state.counters.writes += 1;
        state.counters.bytes_written += len as u64;
        Ok(len)
    }

    fn write_direct_at(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let numbers = [bytes.as_ptr().addr(), bytes.len(), offset as usize];
        assert!(numbers.iter().all(|number| number.is_multiple_of(DIRECT_ALIGNMENT)), "a direct write is not aligned");
        // Half of the disks have no direct writes.
        let has_direct = self.disk.state.lock().seed % 2 == 1;
        if has_direct {
            self.write_all_at(bytes, offset)?;
        }
        Ok(has_direct)
    }

    fn allocate(&self, bytes: u64) -> io::Result<bool> {
        let has_direct = self.disk.state.lock().seed % 2 == 1;
        if has_direct {
            let from = self.size()?;
            self.write_all_at(&vec![0; bytes.saturating_sub(from) as usize], from)?;
        }
        Ok(has_direct)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let begun = state.begin(Operation::Sync);
        match begun {
            Ok(()) if state.nature.is_lying => {}
            Ok(()) => self.inode.lock().sync(),
            Err(_) if state.is_off => {}
            Err(_) => self.inode.lock().fail_to_sync(),
        }
        state.counters.syncs += u64::from(begun.is_ok());
        begun
    }

    fn size(&self) -> io::Result<u64> {
        let _state = self.disk.begin(Operation::Size)?;
        Ok(self.inode.lock().visible.len() as u64)
    }
}

struct SimLock(Arc<Mutex<Inode>>);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.lock().is_locked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &SimDisk, name: &str, bytes: &[u8], offset: usize) -> Arc<dyn DiskFile> {
        let file = disk.open(name).or_else(|_| disk.create(name)).unwrap();
        file.write_all_at(bytes, offset as u64).unwrap();
        file
    }

    /// A disk with four safe sectors of ones, and two writes that are not safe and make the file longer.
    fn written(seed: u64) -> (SimDisk, Arc<dyn DiskFile>) {
        let disk = SimDisk::with_files(seed, &[("a".to_owned(), vec![1; 4 * SECTOR])].into()).unwrap();
        write(&disk, "a", &[2; 4 * SECTOR], 2 * SECTOR);
        let file = write(&disk, "a", &[3; 2 * SECTOR + 200], 3 * SECTOR + 100);
        (disk, file)
    }

    /// What is seen of many seeds.
    fn seen<T: Ord>(of: impl Fn(u64) -> T) -> BTreeSet<T> {
        (0..500).map(of).collect()
    }

    #[test]
    fn what_is_not_synced_survives_sector_by_sector_or_not() {
        // Of each sector the runs of equal bytes.
        let kinds = |sector: &[u8]| sector.chunk_by(|one, next| one == next).map(|run| run[0].to_string()).collect();
        let kinds = |file: &[u8]| file.chunks(SECTOR).map(kinds).collect::<Vec<String>>().join(" ");
        let files = seen(|seed| kinds(&written(seed).0.crash().snapshot()["a"]));
        for (sector, possible) in ["1", "1", "1 2", "1 2 23", "0 2 3", "0 2 32"].into_iter().enumerate() {
            let seen: BTreeSet<&str> = files.iter().filter_map(|file| file.split(' ').nth(sector)).collect();
            assert_eq!(seen, possible.split(' ').collect(), "sector {sector}");
        }
        for (file, what) in [("2 23 3 32", "all"), ("1 1", "nothing"), ("1 23 3 32", "the last"), ("1 1 0 0", "length")]
        {
            assert!(files.contains(&format!("1 1 {file}")), "{what} was never all that survived");
        }
        assert!(files.iter().any(|file| file.starts_with("1 1 2 1")), "the first write was never torn");
    }

    #[test]
    fn what_was_synced_survives_every_crash_unless_the_disk_lies() {
        let survives = |is_lying, seed| {
            let (disk, file) = written(seed);
            disk.lying(is_lying);
            file.sync().unwrap();
            let after = disk.crash();
            assert!(file.write_at(&[4], 0).is_err() && disk.remove("a").is_err());
            after.crash().snapshot() == disk.snapshot()
        };
        assert_eq!(seen(|seed| survives(false, seed)), [true].into());
        assert_eq!(seen(|seed| survives(true, seed)), [false, true].into());
    }

    #[test]
    fn what_a_failed_sync_has_lost_is_not_made_safe_by_another() {
        let outcome = |seed| {
            let (disk, file) = written(seed);
            disk.fail_next(Operation::Sync, ErrorKind::Other);
            file.sync().unwrap_err();
            file.sync().unwrap();
            (disk.snapshot() == written(seed).0.snapshot(), disk.crash().snapshot() == disk.snapshot())
        };
        assert_eq!(seen(outcome), [(true, false), (true, true)].into());
    }

    #[test]
    fn names_survive_in_their_order_and_surely_once_synced() {
        let names = |seed, sync: &[&str]| {
            let disk = SimDisk::new(seed);
            disk.create_directory("d").unwrap();
            ["d/a", "d/b"].iter().for_each(|name| drop(write(&disk, name, b"", 0)));
            disk.rename("d/b", "d/c").unwrap();
            disk.remove("d/a").unwrap();
            sync.iter().for_each(|name| disk.sync_directory(name).unwrap());
            disk.crash().files().concat()
        };
        let all = ["", "d/a", "d/ad/b", "d/ad/c", "d/c"].map(str::to_owned);
        assert_eq!(seen(|seed| names(seed, &[""])), all.clone().into());
        assert_eq!(seen(|seed| names(seed, &["d"])), [all[0].clone(), all[4].clone()].into());
        assert_eq!(seen(|seed| names(seed, &["", "d"])), [all[4].clone()].into());
    }

    #[test]
    fn nothing_is_done_after_a_crash() {
        let torn = seen(|seed| {
            let (disk, file) = written(seed);
            drop(disk.lock("lock").unwrap());
            let lock = disk.lock("lock").unwrap();
            assert!(lock.is_some() && disk.lock("lock").unwrap().is_none());
            disk.crash_after(2);
            file.sync().unwrap();
            let last = file.write_at(&[4; 9], 0).is_ok();
            let ops = [file.read_at(&mut [0], 0).is_err(), file.sync().is_err(), disk.list("").is_err()];
            assert!(disk.has_crashed() && ops == [true; 3] && disk.open("a").is_err() && disk.create("b").is_err());
            let after = disk.restart();
            assert!(after.lock("lock").unwrap().is_some() && after.open("a").is_ok() && file.size().is_err());
            (last, disk.snapshot()["a"].iter().filter(|byte| **byte == 4).count())
        });
        assert!(torn.contains(&(true, 9)) && torn.contains(&(false, 0)) && torn.contains(&(false, 5)));
        assert!(torn.iter().all(|(last, written)| *last == (*written == 9)));
    }

    #[test]
    fn only_what_needs_a_new_sector_can_find_the_disk_full() {
        let (disk, file) = written(1);
        disk.set_capacity(7 * SECTOR as u64);
        assert_eq!(disk.bytes_on_disk(), 6 * SECTOR as u64);
        assert_eq!(file.write_at(&[5; 2 * SECTOR], 5 * SECTOR as u64).unwrap(), 2 * SECTOR);
        assert_eq!(file.write_at(&[6; 2 * SECTOR], 6 * SECTOR as u64 + 9).unwrap(), SECTOR - 9);
        assert_eq!(file.write_at(&[7], 7 * SECTOR as u64).unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_all_at(&[8; 7 * SECTOR], 0).unwrap();
        disk.remove("a").unwrap();
        write(&disk, "b", &[1; SECTOR], 9 * SECTOR);
        assert_eq!(disk.bytes_on_disk(), SECTOR as u64);
    }

    #[test]
    fn a_seed_settles_everything() {
        let run = |seed| {
            let (disk, file) = written(seed);
            disk.short_one_in(2);
            let (mut read, mut key) = ([9; 6 * SECTOR], [0; 8]);
            let shorts = [file.read_at(&mut read, 0).unwrap(), file.write_at(&[4; SECTOR], 1024).unwrap()];
            assert_eq!(file.read_full_at(&mut read, 0).unwrap(), read.len());
            assert_eq!(read[..], disk.snapshot()["a"]);
            disk.random(&mut key).unwrap();
            disk.flip_bit("a", 8);
            let after = [disk.possible_crash(), disk.possible_crash()].map(|after| after.snapshot());
            assert!(!disk.has_crashed() && after.iter().all(|files| files["a"][..2] == [1, 0]));
            let Counters { syncs, directory_syncs, writes, bytes_written } = disk.counters();
            assert_eq!((syncs, directory_syncs, writes), (0, 0, 3));
            (shorts, key, after, disk.list("").unwrap(), bytes_written as usize - shorts[1])
        };
        (0..50).for_each(|seed| assert_eq!(run(seed), run(seed)));
        let runs = seen(run);
        assert!(runs.len() == 500 && runs.iter().all(|run| run.4 == 6 * SECTOR + 200));
        assert!(runs.iter().any(|run| run.0 == [6 * SECTOR, SECTOR]));
        assert!(runs.iter().any(|run| run.0[0] < SECTOR) && runs.iter().any(|run| run.0[1] < SECTOR));
    }
}
