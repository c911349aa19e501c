//! A disk on which something else happens in between: so one thread can be both the keeper, in the middle of a step, and
//! the writer, and a seed settles what comes when.

use std::{collections::VecDeque, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use roadstead_store::{
    Durability, Entry, Step, Store, WriteError, Writer,
    disk::{Disk, DiskFile},
};

use super::{
    disk::{Random, SimDisk},
    model::{Append, Op},
};

/// What the writer and its users do while the keeper works.
pub struct Meanwhile {
    pub store: Arc<Store>,
    pub writer: Writer,
    pub random: Random,
    pub ahead: VecDeque<(Vec<Op>, bool)>,
    pub done: Vec<Append>,
    pub error: Option<WriteError>,
}

impl Meanwhile {
    fn go_on(&mut self) {
        if self.random.one_in(3)
            && let Some((ops, is_synced)) = self.ahead.pop_front()
        {
            self.done.push(append(&self.store, ops, is_synced));
        }
        while self.error.is_none() && self.random.one_in(2) {
            match self.writer.step() {
                Ok(Step::Done) => {}
                Ok(_) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }
}

/// Appends what becomes one entry of the model's log.
pub fn append(store: &Store, ops: Vec<Op>, is_synced: bool) -> Append {
    let entries: Vec<Entry<'_>> = ops.iter().map(Op::entry).collect();
    let first = store.append(&entries, if is_synced { Durability::Fsync } else { Durability::Os });
    let end = first + entries.iter().map(Entry::sequences).sum::<u64>();
    Append { first, end, is_synced, ops }
}

/// The disk.
#[derive(Clone)]
pub struct Interleaved {
    disk: SimDisk,
    meanwhile: Arc<Mutex<Option<Meanwhile>>>,
}

impl Interleaved {
    pub fn new(disk: SimDisk, meanwhile: Arc<Mutex<Option<Meanwhile>>>) -> Self {
        Self { disk, meanwhile }
    }

    /// Lets the others go on. What they do on the disk is not interrupted itself.
    fn beat(&self) {
        let taken = self.meanwhile.lock().take();
        if let Some(mut meanwhile) = taken {
            meanwhile.go_on();
            *self.meanwhile.lock() = Some(meanwhile);
        }
    }

    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(InterleavedFile { file, disk: self.clone() })
    }
}

impl Disk for Interleaved {
    fn create_directory(&self, name: &str) -> io::Result<()> {
        self.disk.create_directory(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.beat();
        self.disk.open(name).map(|file| self.file(file))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name).map(|file| self.file(file))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.beat();
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.beat();
        self.disk.remove(name)
    }

    fn sync_directory(&self, name: &str) -> io::Result<()> {
        let done = self.disk.sync_directory(name);
        self.beat();
        done
    }

    fn is_sole_link(&self, name: &str) -> bool {
        self.disk.is_sole_link(name)
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.disk.lock(name)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.beat();
        self.disk.random(bytes)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
}

struct InterleavedFile {
    file: Arc<dyn DiskFile>,
    disk: Interleaved,
}

impl DiskFile for InterleavedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.beat();
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.beat();
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()?;
        // After a failure nothing comes in between: the system tells everybody who has the file open of it, and the
        // simulated disk only the first.
        self.disk.beat();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
