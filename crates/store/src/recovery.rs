//! Reading the log back when it is opened: the indexes of sealed segments, and as a whole only what has none.

use std::{collections::BTreeMap, io, sync::Arc};

use crate::{
    cipher::{Cipher, Keys},
    disk::{Disk, DiskFile, read_all, replace},
    error::{Damage, OpenError},
    format::{Entries, Fields, SEGMENT_HEADER, SegmentHeader, SegmentId, WRAPPED_KEY_OFFSET, numbers, pairs},
    index::{Facts, Index},
    keeper::write_index_on,
    ledger::{Account, Ledger},
    scan::Subject,
    segment::{self, DIRECTORY, Segment},
    snapshot::{self, Unusable},
    store::{Hooks, Options},
};

/// What a holder holds: everything of it between two sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The holder.
    pub holder: u64,
    /// The first hold.
    pub first: u64,
    /// The last hold.
    pub last: u64,
    /// How many there are.
    pub count: u64,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How often the log has been opened, this time included.
    pub epoch: u64,
    /// One past the last sequence number in use.
    pub end: u64,
    /// The state table, by key.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is held, by holder.
    pub held: Vec<Held>,
    /// The file and offset at which a torn tail was cut off, if there was one.
    pub torn: Option<Damage>,
}

pub(crate) struct Opened {
    pub(crate) lock: Box<dyn Send + Sync>,
    pub(crate) epoch: u64,
    pub(crate) ledger: Ledger,
    pub(crate) contents: Contents,
    pub(crate) next_number: u64,
    pub(crate) next_sequence: u64,
}

/// A segment with its index.
pub(crate) struct Loaded {
    pub(crate) segment: Segment,
    pub(crate) header: SegmentHeader,
    pub(crate) index: Index,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) torn: Option<Damage>,
    /// Whether the index was made just now.
    pub(crate) is_new: bool,
}

pub(crate) fn open(disk: &dyn Disk, options: &Options, hooks: &Hooks) -> Result<Opened, OpenError> {
    let io_error = |what: &'static str, name: &str| OpenError::io(what, disk.path(name));
    disk.create_directory(DIRECTORY).map_err(io_error("cannot create", DIRECTORY))?;
    let lock = disk.lock("lock").map_err(io_error("cannot lock", "lock"))?;
    let lock = lock.ok_or_else(|| OpenError::InUse(disk.path("")))?;
    // The epoch comes before the first look at the log: who still writes in an older one must know before that.
    let epoch = next_epoch(disk).map_err(io_error("cannot count up the epoch in", "epoch"))?;
    let mut recovery = Recovery::read(disk, &options.keys)?;
    let next_sequence = recovery.next_sequence();
    recovery.settle(hooks)?;
    recovery.tidy().map_err(io_error("cannot tidy up", DIRECTORY))?;
    let held = recovery.held()?;
    let Recovery { ledger, last_number, torn, .. } = recovery;
    let mut state: Vec<_> = ledger.state.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    state.sort();
    let contents = Contents { epoch, end: next_sequence, state, held, torn };
    Ok(Opened { lock, epoch, ledger, contents, next_number: last_number + 1, next_sequence })
}

/// How often the log has been opened.
pub(crate) fn read_epoch(disk: &dyn Disk) -> io::Result<u64> {
    let bytes = match disk.open("epoch") {
        Ok(file) => read_all(&*file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    match bytes.split_at_checked(8) {
        None if bytes.is_empty() => Ok(0),
        Some((epoch, crc)) if crc32fast::hash(epoch).to_le_bytes() == *crc => {
            Ok(u64::from_le_bytes(epoch.try_into().unwrap_or_default()))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the epoch file is damaged")),
    }
}

/// Counts up the epoch. The file is replaced as a whole: written in place, it could be torn.
fn next_epoch(disk: &dyn Disk) -> io::Result<u64> {
    let epoch = 1 + read_epoch(disk)?;
    let mut bytes = epoch.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    replace(disk, "epoch", &bytes)?;
    Ok(epoch)
}

/// The state of reading a log.
pub(crate) struct Recovery<'d> {
    disk: &'d dyn Disk,
    keys: &'d Keys,
    pub(crate) ledger: Ledger,
    pub(crate) last_number: u64,
    /// Files that are not needed: replaced by rewriting, empty, or not in the inventory.
    superfluous: Vec<SegmentId>,
    /// Indexes made just now, by the sequence number of the first entry.
    pub(crate) made: BTreeMap<u64, Index>,
    pub(crate) torn: Option<Damage>,
    pruned_at: u64,
    /// Damage found, where it is to be gathered instead of ending the reading.
    pub(crate) findings: Option<Vec<Damage>>,
}

impl<'d> Recovery<'d> {
    /// Reads every segment's index, and what it says of others and of the state table.
    pub(crate) fn read(disk: &'d dyn Disk, keys: &'d Keys) -> Result<Self, OpenError> {
        Self::read_with(disk, keys, None)
    }

    /// The same, but gathers damage and goes on with what is readable.
    pub(crate) fn examine(disk: &'d dyn Disk, keys: &'d Keys) -> Result<Self, OpenError> {
        Self::read_with(disk, keys, Some(Vec::new()))
    }

    fn read_with(disk: &'d dyn Disk, keys: &'d Keys, findings: Option<Vec<Damage>>) -> Result<Self, OpenError> {
        let mut recovery = Self {
            disk,
            keys,
            ledger: Ledger::default(),
            last_number: 0,
            superfluous: Vec::new(),
            made: BTreeMap::new(),
            torn: None,
            pruned_at: 0,
            findings,
        };
        match snapshot::read(disk, keys) {
            Ok((horizon, state)) => {
                recovery.ledger.horizon = horizon;
                recovery.ledger.state = state;
            }
            Err(unusable) => {
                let error = recovery.unusable(unusable);
                recovery.tolerate(error)?;
            }
        }
        let listed = segment::list(disk).map_err(OpenError::io("cannot list", disk.path(DIRECTORY)))?;
        recovery.superfluous = listed.1;
        let mut gaps = Vec::new();
        for id in listed.0 {
            let loaded = match load(disk, keys, id) {
                Ok(loaded) => loaded,
                Err(error) => {
                    recovery.tolerate(error)?;
                    recovery.rescue(id)?
                }
            };
            let is_empty = id.generation == 0 && loaded.index.facts.valid_bytes == SEGMENT_HEADER as u64;
            if is_empty {
                recovery.superfluous.push(id);
            }
            if id.first == recovery.last_number + 1 {
                if let Err(error) = recovery.check_continuity(&loaded) {
                    recovery.tolerate(error)?;
                }
            } else if !is_empty {
                gaps.push((recovery.last_number + 1, id.first - 1));
            }
            if !is_empty {
                recovery.add(loaded)?;
            }
        }
        recovery.check_inventory(&gaps)?;
        Ok(recovery)
    }

    /// Takes note of damage if it is to be gathered, else ends the reading.
    fn tolerate(&mut self, error: OpenError) -> Result<(), OpenError> {
        match (&mut self.findings, error) {
            (Some(findings), OpenError::Damaged(damage)) => {
                findings.push(damage);
                Ok(())
            }
            (_, error) => Err(error),
        }
    }

    /// What can be told of a segment that is damaged: what its index says, or what is readable in it.
    fn rescue(&mut self, id: SegmentId) -> Result<Loaded, OpenError> {
        let path = self.disk.path(&id.file_name());
        let (segment, header, file) = match open_segment(self.disk, self.keys, id) {
            Ok(opened) => opened,
            Err(OpenError::Damaged(_)) => {
                // Without its header nothing tells blocks from anything else, but an index still leads to entries. If
                // they are encrypted, their key is lost.
                let first = read_index(self.disk, id)?.map_or(self.ledger.end.max(1), |index| index.facts.first);
                let header = SegmentHeader {
                    first_sequence: first,
                    end_sequence: first,
                    pruned_at: 0,
                    salt: 0,
                    wrapped_key: None,
                };
                let file = self.disk.open(&id.file_name()).map_err(OpenError::io("cannot open", &path))?;
                let mut key = [0; crate::cipher::WRAPPED_LEN];
                file.read_full_at(&mut key, WRAPPED_KEY_OFFSET).map_err(OpenError::io("cannot read", &path))?;
                let cipher = (key.iter().filter(|byte| **byte != 0).count() > 1).then(Cipher::lost);
                (Segment::new(id, &header, cipher), header, file)
            }
            Err(error) => return Err(error),
        };
        if let Some(index) = read_index(self.disk, id)? {
            return Ok(Loaded { segment, header, index, file, torn: None, is_new: false });
        }
        let bytes = read_all(&*file).map_err(OpenError::io("cannot read", &path))?;
        let subject = Subject { id, salt: segment.salt, first: segment.first, path: &path, bytes: &bytes };
        let mut gathered = crate::index::Gathered::default();
        let mut end = segment.first;
        let survey = subject.survey(|base, entry| {
            gathered.add(segment.first, base, entry);
            end = entry.sequence + entry.fields.sequences();
        });
        let facts = Facts {
            id,
            first: segment.first,
            end,
            valid_bytes: survey.valid_bytes as u64,
            pruned_at: header.pruned_at,
        };
        let index = gathered.index(facts, |_, _| false);
        Ok(Loaded { segment, header, index, file, torn: None, is_new: true })
    }

    fn unusable(&self, unusable: Unusable) -> OpenError {
        let file = self.disk.path(snapshot::NAME);
        match unusable {
            Unusable::Damaged => {
                OpenError::Damaged(Damage { file, offset: 0, problem: "the state table is not valid".into() })
            }
            Unusable::Key(source) => OpenError::Key { file, source },
            Unusable::Io(source) => OpenError::Io { what: "cannot read", path: file, source },
        }
    }

    /// A segment says where its predecessor ended: if that ends earlier, something is missing at its end.
    fn check_continuity(&self, loaded: &Loaded) -> Result<(), OpenError> {
        let Some(previous) = self.ledger.accounts.values().next_back() else { return Ok(()) };
        if loaded.segment.id.generation > 0 || loaded.header.end_sequence <= previous.end {
            return Ok(());
        }
        let problem = format!(
            "entries up to sequence number {} are missing here, although the next segment follows them",
            loaded.header.end_sequence
        );
        let file = self.disk.path(&previous.segment.id.file_name());
        Err(OpenError::Damaged(Damage { file, offset: previous.valid_bytes, problem }))
    }

    /// Brings a segment into the account.
    fn add(&mut self, loaded: Loaded) -> Result<(), OpenError> {
        let Loaded { segment, index, file, torn, is_new, .. } = loaded;
        let Facts { first, end, valid_bytes, pruned_at, id } = index.facts;
        self.torn = torn;
        self.last_number = id.number;
        self.pruned_at = self.pruned_at.max(pruned_at);
        let size = file.size().map_err(OpenError::io("cannot read", self.disk.path(&id.file_name())))?;
        let mut account = Account::new(Arc::new(segment), size + index.file_bytes());
        account.end = end;
        account.valid_bytes = valid_bytes;
        account.pruned_at = pruned_at;
        account.gathered = None;
        account.indexed = true;
        account.holders = index.groups().map(|(holder, places)| (holder, places.len() as u32)).collect();
        self.ledger.end = self.ledger.end.max(end);
        self.ledger.accounts.insert(first, account);
        let mut takes_back_from = std::collections::BTreeSet::new();
        for (relative, hold) in index.releases.iter() {
            if let Some(account) = self.ledger.mark_released(first + u64::from(relative), hold) {
                takes_back_from.insert(account.segment.first);
            }
        }
        self.read_notes(first, &index, &*file, &mut takes_back_from)?;
        takes_back_from.remove(&first);
        if let Some(account) = self.ledger.accounts.get_mut(&first) {
            account.takes_back_from = takes_back_from;
        }
        if is_new {
            self.made.insert(first, index);
        }
        Ok(())
    }

    /// Applies drops, puts, removes and inventories, which stand in the segment itself.
    fn read_notes(
        &mut self,
        first: u64,
        index: &Index,
        file: &dyn DiskFile,
        takes_back_from: &mut std::collections::BTreeSet<u64>,
    ) -> Result<(), OpenError> {
        let Some(segment) = self.ledger.accounts.get(&first).map(|account| Arc::clone(&account.segment)) else {
            return Ok(());
        };
        let path = self.disk.path(&segment.id.file_name());
        let mut bytes = Vec::new();
        for place in &index.notes {
            let sequence = first + u64::from(place.relative);
            bytes.clear();
            bytes.resize(place.len(), 0);
            file.read_full_at(&mut bytes, place.offset.into()).map_err(OpenError::io("cannot read", &path))?;
            let entry = Entries::new(&bytes, sequence, false).next().and_then(Result::ok);
            let damage = || {
                let problem = "an entry is not what was written".into();
                OpenError::Damaged(Damage { file: path.clone(), offset: place.offset.into(), problem })
            };
            let Some(entry) = entry.filter(crate::format::RawEntry::is_intact) else {
                self.tolerate(damage())?;
                continue;
            };
            match entry.fields {
                Fields::Drop(holder, (from, before), _, list) => {
                    let concerned = self.ledger.mark_dropped(sequence, holder, from..before, numbers(list).collect());
                    takes_back_from.extend(concerned);
                }
                Fields::Put(key_len, _, data) => match segment.decrypt(sequence, 4, data) {
                    Some(data) => {
                        let (key, value) = data.split_at(key_len.min(data.len()));
                        self.note(first, sequence, place.len(), key, Some(value));
                    }
                    None => self.tolerate(damage())?,
                },
                Fields::Remove(_, _, data) => match segment.decrypt(sequence, 5, data) {
                    Some(key) => self.note(first, sequence, place.len(), &key, None),
                    None => self.tolerate(damage())?,
                },
                Fields::Inventory(_, list) => self.ledger.inventory = Some((sequence, pairs(list).collect())),
                Fields::Hold(..) | Fields::Release(..) => self.tolerate(damage())?,
            }
        }
        Ok(())
    }

    fn note(&mut self, first: u64, sequence: u64, len: usize, key: &[u8], value: Option<&[u8]>) {
        self.ledger.apply_note(sequence, len, key, value);
        if let Some(account) = self.ledger.accounts.get_mut(&first) {
            account.last_note = account.last_note.max(sequence);
        }
    }

    /// Every segment that the newest inventory lists must be there, and all that came after it. What it does not list was
    /// about to be removed.
    fn check_inventory(&mut self, gaps: &[(u64, u64)]) -> Result<(), OpenError> {
        let listed = self.ledger.inventory.as_ref().map_or_else(Vec::new, |(_, listed)| listed.clone());
        let newest = listed.last().map_or(0, |(_, last)| *last);
        for &(from, to) in gaps {
            let missing = (from..=to)
                .find(|number| *number > newest || listed.iter().any(|(first, last)| (first..=last).contains(&number)));
            if let Some(number) = missing {
                let problem = format!("segment {number} is missing");
                self.tolerate(OpenError::Damaged(Damage { file: self.disk.path(DIRECTORY), offset: 0, problem }))?;
            }
        }
        let listed = self.ledger.inventory.as_ref().map_or(&[][..], |(_, listed)| listed);
        // A segment that was rewritten after the inventory may stand for some that had gone before it.
        let is_listed = |id: SegmentId| {
            id.number > newest || listed.iter().any(|(first, last)| *first <= id.number && id.first <= *last)
        };
        let removed: Vec<_> =
            self.ledger.accounts.values().map(|account| account.segment.id).filter(|id| !is_listed(*id)).collect();
        self.ledger.accounts.retain(|_, account| is_listed(account.segment.id));
        self.superfluous.extend(removed);
        Ok(())
    }

    /// One past every sequence number that anything refers to. Snapshots and indexes should know of nothing that the log
    /// has lost, but a number must not be used twice even if a disk has not kept what it promised.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.ledger.end.max(self.ledger.horizon).max(self.pruned_at).max(1)
    }

    /// Writes the indexes that were missing.
    fn settle(&self, hooks: &Hooks) -> Result<(), OpenError> {
        for index in self.made.values() {
            let id = index.facts.id;
            self.write_again(index).map_err(OpenError::io("cannot write", self.disk.path(&id.file_name())))?;
            let written = write_index_on(self.disk, id, &index.encode());
            written.map_err(OpenError::io("cannot write", self.disk.path(&id.index_name())))?;
            if self.torn.is_none() && id.number < self.last_number {
                (hooks.on_trouble)(format!(
                    "{} was missing and has been made anew",
                    self.disk.path(&id.index_name()).display()
                ));
            }
        }
        Ok(())
    }

    /// Makes safe what was found in a segment. It is written again, because if an earlier run could not sync it, only
    /// memory has it, and no sync would bring it to the disk any more.
    fn write_again(&self, index: &Index) -> io::Result<()> {
        let file = self.disk.open(&index.facts.id.file_name())?;
        let mut bytes = vec![0; index.facts.valid_bytes as usize];
        let read = file.read_full_at(&mut bytes, 0)?;
        file.write_all_at(&bytes[..read], 0)?;
        file.sync()
    }

    /// Removes files that are not needed. What an interrupted run left half made goes too.
    fn tidy(&mut self) -> io::Result<()> {
        for id in self.superfluous.drain(..) {
            segment::remove(self.disk, id, None)?;
        }
        let kept: Vec<String> = self.ledger.accounts.values().map(|account| account.segment.id.index_name()).collect();
        for name in self.disk.list(DIRECTORY)? {
            let name = format!("{DIRECTORY}/{name}");
            if name.ends_with(".new") || (name.ends_with(".index") && !kept.contains(&name)) {
                self.disk.remove(&name)?;
            }
        }
        self.disk.sync_directory(DIRECTORY)
    }

    /// What everybody holds. The indexes are read once more, because all of them together need not fit into memory.
    pub(crate) fn held(&mut self) -> Result<Vec<Held>, OpenError> {
        let mut all: BTreeMap<u64, Held> = BTreeMap::new();
        for (&first, account) in &mut self.ledger.accounts {
            let id = account.segment.id;
            let index = match self.made.remove(&first) {
                Some(index) => index,
                None => read_index(self.disk, id)?.ok_or_else(|| invalid_index(self.disk, id))?,
            };
            let ended: Vec<u32> = index
                .groups()
                .flat_map(|(_, places)| places.iter().filter(|place| place.is_until_restart()))
                .map(|place| place.relative)
                .collect();
            account.released.extend(ended);
            for (holder, places) in index.groups() {
                let live = places.iter().filter(|&&place| !account.is_gone(holder, place));
                let live = live.map(|place| first + u64::from(place.relative));
                for hold in live {
                    let held = all.entry(holder).or_insert(Held { holder, first: hold, last: hold, count: 0 });
                    held.last = hold;
                    held.count += 1;
                }
            }
            account.recount(&index, self.ledger.horizon, None);
        }
        Ok(all.into_values().collect())
    }
}

fn invalid_index(disk: &dyn Disk, id: SegmentId) -> OpenError {
    let problem = "the index is not valid".into();
    OpenError::Damaged(Damage { file: disk.path(&id.index_name()), offset: 0, problem })
}

/// The index of a segment; nothing if it has none. A damaged one cannot be made anew: what had been let go of when it
/// was made is told nowhere else.
pub(crate) fn load_index(disk: &dyn Disk, id: SegmentId) -> Result<Option<Index>, OpenError> {
    let index = read_index(disk, id)?;
    if index.is_none() && disk.open(&id.index_name()).is_ok() {
        return Err(invalid_index(disk, id));
    }
    Ok(index)
}

/// The index of a segment; nothing if it has none or a damaged one.
pub(crate) fn read_index(disk: &dyn Disk, id: SegmentId) -> Result<Option<Index>, OpenError> {
    let bytes = match disk.open(&id.index_name()).and_then(|file| read_all(&*file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(OpenError::Io { what: "cannot read", path: disk.path(&id.index_name()), source });
        }
    };
    Ok(Index::decode(id, &bytes))
}

/// A segment's header and key, from its file.
pub(crate) fn open_segment(
    disk: &dyn Disk,
    keys: &Keys,
    id: SegmentId,
) -> Result<(Segment, SegmentHeader, Arc<dyn DiskFile>), OpenError> {
    let path = disk.path(&id.file_name());
    let file = disk.open(&id.file_name()).map_err(OpenError::io("cannot open", &path))?;
    let mut bytes = [0; SEGMENT_HEADER];
    file.read_full_at(&mut bytes, 0).map_err(OpenError::io("cannot read", &path))?;
    let header = id.read_header(&bytes).ok_or_else(|| {
        let problem = "the segment's header is not valid".into();
        OpenError::Damaged(Damage { file: path.clone(), offset: 0, problem })
    })?;
    let cipher = header.wrapped_key.map(|wrapped| Cipher::unwrap(keys, &wrapped, &id.context()));
    let cipher = cipher.transpose().map_err(|source| OpenError::Key { file: path, source })?;
    Ok((Segment::new(id, &header, cipher), header, file))
}

/// Loads a segment: its index, or the segment as a whole where it has none.
pub(crate) fn load(disk: &dyn Disk, keys: &Keys, id: SegmentId) -> Result<Loaded, OpenError> {
    let (segment, header, file) = open_segment(disk, keys, id)?;
    if let Some(index) = load_index(disk, id)? {
        return Ok(Loaded { segment, header, index, file, torn: None, is_new: false });
    }
    let path = disk.path(&id.file_name());
    let bytes = read_all(&*file).map_err(OpenError::io("cannot read", &path))?;
    let subject = Subject { id, salt: segment.salt, first: segment.first, path: &path, bytes: &bytes };
    let (scan, gathered) = subject.gather().map_err(OpenError::Damaged)?;
    let facts = Facts {
        id,
        first: segment.first,
        end: if segment.gaps { header.end_sequence } else { scan.end },
        valid_bytes: scan.valid_bytes as u64,
        pruned_at: header.pruned_at,
    };
    let index = gathered.index(facts, |_, _| false);
    Ok(Loaded { segment, header, index, file, torn: scan.torn, is_new: true })
}
