//! What both sides of a connection remember of ids and destinations, so that they are sent once and referred to by index from
//! then on. Each direction has its own: who sends chooses the indexes, and who receives follows. Null is remembered like
//! anything else.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use crate::{
    error::Malformed,
    ids::{BrokerId, ConnectionId, ConsumerId, Destination, ObjectId, ProducerId, SessionId, TransactionId},
    structure::{Owned, Structure},
};

/// Bytes of names that a peer may have us remember. A thousand entries of clients have a tenth of that.
const RECEIVED_BYTES_MAX: usize = 1 << 20;

/// Longest name that is worth remembering for a peer, in bytes.
const SENT_NAME_MAX: usize = 1024;

/// A remembered structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Nothing.
    Null,
    /// A broker's id.
    Broker(BrokerId<'a>),
    /// A connection's id.
    Connection(ConnectionId<'a>),
    /// A session's id.
    Session(SessionId<'a>),
    /// A consumer's id.
    Consumer(ConsumerId<'a>),
    /// A producer's id.
    Producer(ProducerId<'a>),
    /// A destination.
    Destination(Destination<'a>),
    /// A transaction's id.
    Transaction(TransactionId<'a>),
}

impl Entry<'_> {
    fn into_owned(self) -> Entry<'static> {
        match self {
            Self::Null => Entry::Null,
            Self::Broker(id) => Entry::Broker(id.into_owned()),
            Self::Connection(id) => Entry::Connection(id.into_owned()),
            Self::Session(id) => Entry::Session(id.into_owned()),
            Self::Consumer(id) => Entry::Consumer(id.into_owned()),
            Self::Producer(id) => Entry::Producer(id.into_owned()),
            Self::Destination(destination) => Entry::Destination(destination.into_owned()),
            Self::Transaction(id) => Entry::Transaction(id.into_owned()),
        }
    }

    fn name_len(&self) -> usize {
        let len = |text: Option<&str>| text.map_or(0, str::len);
        match self {
            Self::Null => 0,
            Self::Broker(BrokerId { value }) | Self::Connection(ConnectionId { value }) => len(value.as_deref()),
            Self::Session(id) => len(id.connection_id.as_deref()),
            Self::Consumer(id) => len(id.connection_id.as_deref()),
            Self::Producer(id) => len(id.connection_id.as_deref()),
            Self::Destination(destination) => len(destination.physical_name.as_deref()),
            Self::Transaction(id) => id.name_len(),
        }
    }
}

/// A structure that may be remembered.
pub trait Cached<'a>: Structure<'a> + Clone + Hash {
    /// As a cache has it.
    fn into_entry(self) -> Entry<'a>;

    /// From a cache, if it is of this type.
    fn of_entry(entry: &Entry<'a>) -> Option<Self>;

    /// Whether a cache has it so.
    fn is_entry(&self, entry: &Entry<'a>) -> bool;
}

macro_rules! cached {
    ($($type:ident $variant:ident),*) => {$(
        impl<'a> Cached<'a> for $type<'a> {
            fn into_entry(self) -> Entry<'a> {
                Entry::$variant(self)
            }

            fn of_entry(entry: &Entry<'a>) -> Option<Self> {
                match entry {
                    Entry::$variant(value) => Some(value.clone()),
                    _ => None,
                }
            }

            fn is_entry(&self, entry: &Entry<'a>) -> bool {
                matches!(entry, Entry::$variant(value) if value == self)
            }
        }
    )*};
}

cached! {
    BrokerId Broker, ConnectionId Connection, SessionId Session, ConsumerId Consumer, ProducerId Producer,
    Destination Destination, TransactionId Transaction
}

impl<'a> Cached<'a> for ObjectId<'a> {
    fn into_entry(self) -> Entry<'a> {
        match self {
            Self::Connection(id) => Entry::Connection(id),
            Self::Session(id) => Entry::Session(id),
            Self::Consumer(id) => Entry::Consumer(id),
            Self::Producer(id) => Entry::Producer(id),
        }
    }

    fn of_entry(entry: &Entry<'a>) -> Option<Self> {
        Some(match entry {
            Entry::Connection(id) => Self::Connection(id.clone()),
            Entry::Session(id) => Self::Session(id.clone()),
            Entry::Consumer(id) => Self::Consumer(id.clone()),
            Entry::Producer(id) => Self::Producer(id.clone()),
            _ => return None,
        })
    }

    fn is_entry(&self, entry: &Entry<'a>) -> bool {
        match self {
            Self::Connection(id) => id.is_entry(entry),
            Self::Session(id) => id.is_entry(entry),
            Self::Consumer(id) => id.is_entry(entry),
            Self::Producer(id) => id.is_entry(entry),
        }
    }
}

/// Entries by index.
type Slots = HashMap<i16, Entry<'static>, BuildHasherDefault<Digest>>;

/// What the peer has sent.
#[derive(Debug, Default)]
pub struct Received {
    slots: Slots,
    size: usize,
    names_len: usize,
    /// What stood at indexes before a frame that may not be there as a whole.
    undo: Option<Vec<(i16, Option<Entry<'static>>)>>,
}

impl Received {
    /// For so many entries. Room is made as they come.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, ..Self::default() }
    }

    /// Puts the peer's structure where it says. An index below 0 means that it is not to be remembered.
    pub(crate) fn set<'a, S: Cached<'a>>(&mut self, index: i16, value: Option<&S>) -> Result<(), Malformed> {
        match usize::try_from(index) {
            Err(_) => return Ok(()),
            Ok(index) if index >= self.size => return Err(Malformed::new("an index is beyond the cache")),
            Ok(_) => {}
        }
        let entry = value.map_or(Entry::Null, |value| value.clone().into_entry().into_owned());
        let old = self.replace(index, Some(entry));
        if let Some(undo) = &mut self.undo {
            undo.push((index, old));
        }
        if self.names_len > RECEIVED_BYTES_MAX {
            return Err(Malformed::new("the names in the cache are too long together"));
        }
        Ok(())
    }

    fn replace(&mut self, index: i16, entry: Option<Entry<'static>>) -> Option<Entry<'static>> {
        let len = |entry: &Option<Entry<'_>>| entry.as_ref().map_or(0, Entry::name_len);
        self.names_len += len(&entry);
        let old = match entry {
            Some(entry) => self.slots.insert(index, entry),
            None => self.slots.remove(&index),
        };
        self.names_len -= len(&old);
        old
    }

    pub(crate) fn get<'a, S: Cached<'a>>(&self, index: i16) -> Result<Option<S>, Malformed> {
        match self.slots.get(&index).ok_or(Malformed::new("an index refers to nothing in the cache"))? {
            Entry::Null => Ok(None),
            entry => S::of_entry(entry).map(Some).ok_or(Malformed::new("an index refers to something else")),
        }
    }

    /// From now on until [`Self::end`], what is overwritten is kept.
    pub(crate) fn begin(&mut self) {
        self.undo = Some(Vec::new());
    }

    /// The frame is there as a whole, or will be read again.
    pub(crate) fn end(&mut self, is_whole: bool) {
        let undo = self.undo.take().unwrap_or_default();
        if !is_whole {
            undo.into_iter().rev().for_each(|(index, old)| drop(self.replace(index, old)));
        }
    }
}

/// What has been sent to the peer. An entry's place goes round; what stood there is forgotten.
#[derive(Debug)]
pub(crate) struct Sent {
    slots: Vec<Option<(u64, Entry<'static>)>>,
    next: usize,
    size: usize,
    /// By digest. Of two entries with the same digest the older is sent again when it is needed, so that it does not
    /// matter who finds such.
    indexes: HashMap<u64, i16, BuildHasherDefault<Digest>>,
    null: Option<i16>,
}

impl Sent {
    /// For so many entries.
    pub(crate) fn new(size: usize) -> Self {
        Self { slots: Vec::new(), next: 0, size, indexes: HashMap::default(), null: None }
    }

    /// The index under which the peer has it, or that under which it is to put it, and whether it is new; -1 if it is not worth it.
    pub(crate) fn find<'a, S: Cached<'a>>(&mut self, value: Option<&S>) -> (i16, bool) {
        let Some(value) = value else {
            let null = self.null;
            return match null {
                Some(index) => (index, false),
                None => (self.add(0, Entry::Null), true),
            };
        };
        let mut digest = Digest(value.code().into());
        value.hash(&mut digest);
        let digest = digest.finish();
        if let Some(index) = self.indexes.get(&digest)
            && let Some(Some((_, entry))) = self.slots.get(*index as usize)
            && value.is_entry(entry)
        {
            return (*index, false);
        }
        (self.add(digest, value.clone().into_entry()), true)
    }

    #[cold]
    fn add(&mut self, digest: u64, entry: Entry<'_>) -> i16 {
        if self.size == 0 || entry.name_len() > SENT_NAME_MAX {
            return -1;
        }
        let place = self.next;
        self.next = (place + 1) % self.size;
        if self.slots.len() <= place {
            self.slots.resize(place + 1, None);
        }
        let index = place as i16;
        match self.slots[place].take() {
            Some((_, Entry::Null)) => self.null = None,
            Some((old, _)) if self.indexes.get(&old) == Some(&index) => drop(self.indexes.remove(&old)),
            _ => {}
        }
        match entry {
            Entry::Null => self.null = Some(index),
            _ => drop(self.indexes.insert(digest, index)),
        }
        self.slots[place] = Some((digest, entry.into_owned()));
        index
    }

    /// Takes back all that was said to be remembered, because the peer may not have heard it.
    pub(crate) fn forget(&mut self) {
        self.indexes.clear();
        self.slots.clear();
        self.null = None;
    }
}

/// A fast hash, for tables in which nothing is lost if somebody makes two things have the same.
#[derive(Debug, Default)]
struct Digest(u64);

impl Digest {
    #[inline]
    fn add(&mut self, first: u64, second: u64) {
        let product = u128::from(self.0 ^ first) * u128::from(second ^ 0x9e37_79b9_7f4a_7c15);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline]
    fn add_chunk(&mut self, chunk: &[u8; 16]) {
        let [first, second] = [0, 8].map(|at| std::array::from_fn(|index| chunk[at + index]));
        self.add(u64::from_le_bytes(first), u64::from_le_bytes(second));
    }
}

impl Hasher for Digest {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        // What is left over at the end is taken with what is before it, so that no byte has to be taken by itself.
        if let Some(last) = bytes.last_chunk::<16>() {
            bytes.as_chunks::<16>().0.iter().for_each(|chunk| self.add_chunk(chunk));
            self.add_chunk(last);
        } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            self.add(u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        } else {
            let word = bytes.iter().fold(1, |word, byte| word << 8 | u64::from(*byte));
            self.add(word, 0);
        }
    }

    /// Discriminants and the ends of strings, which are always the same for things that are.
    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.0 = self.0.rotate_left(8) ^ u64::from(byte);
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.add(word, 0);
    }

    #[inline]
    fn write_i64(&mut self, word: i64) {
        self.add(word as u64, 0);
    }

    #[inline]
    fn write_i16(&mut self, index: i16) {
        self.add(index as u64, 0);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.0 = self.0.rotate_left(8) ^ word as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
