//! The state table as a file, so that segments need not be kept for the puts in them.

use std::{collections::HashMap, io};

use crate::{
    cipher::{Cipher, KeyError, Keys, TAG_LEN, WRAPPED_LEN},
    disk::{Disk, read_all, replace},
    format::{get_u32, get_u64},
};

const MAGIC: &[u8; 8] = b"RDSTSTA2";
const HEADER: usize = 8 + 8 + 1 + WRAPPED_LEN + 8 + 4;
const KIND: u8 = 8;

/// The snapshot's file.
pub(crate) const NAME: &str = "log/state";

/// Keys and values.
pub(crate) type Table = HashMap<Vec<u8>, Vec<u8>>;

/// Why a snapshot cannot be used.
pub(crate) enum Unusable {
    Damaged,
    Key(KeyError),
    Io(io::Error),
}

/// Writes the table as it was before the entry with sequence number `horizon`, in place of the former snapshot.
pub(crate) fn write(disk: &dyn Disk, keys: &Keys, horizon: u64, table: &Table) -> io::Result<()> {
    let mut data = Vec::new();
    for (key, value) in table {
        data.extend_from_slice(&(key.len() as u32).to_le_bytes());
        data.extend_from_slice(&(value.len() as u32).to_le_bytes());
        data.extend_from_slice(key);
        data.extend_from_slice(value);
    }
    let mut bytes = Vec::with_capacity(HEADER + data.len() + TAG_LEN);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&horizon.to_le_bytes());
    if keys.encrypts() {
        let (cipher, wrapped) = Cipher::wrapped(keys, &mut |bytes| disk.random(bytes), MAGIC)?;
        bytes.push(1);
        bytes.extend_from_slice(&wrapped);
        let tag = cipher.seal(horizon, KIND, &mut data);
        data.extend_from_slice(&tag);
    } else {
        bytes.resize(bytes.len() + 1 + WRAPPED_LEN, 0);
    }
    bytes.extend_from_slice(&(data.len() as u64).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    hasher.update(&data);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes.extend_from_slice(&data);
    replace(disk, NAME, &bytes)
}

/// Reads the snapshot and its horizon; an empty table if there is none.
pub(crate) fn read(disk: &dyn Disk, keys: &Keys) -> Result<(u64, Table), Unusable> {
    let bytes = match disk.open(NAME) {
        Ok(file) => read_all(&*file).map_err(Unusable::Io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, Table::new())),
        Err(error) => return Err(Unusable::Io(error)),
    };
    let (header, data) = bytes.split_at_checked(HEADER).ok_or(Unusable::Damaged)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..HEADER - 4]);
    hasher.update(data);
    let whole = header[..8] == *MAGIC && get_u64(header, HEADER - 12) == data.len() as u64;
    if !whole || hasher.finalize() != get_u32(header, HEADER - 4) {
        return Err(Unusable::Damaged);
    }
    let horizon = get_u64(header, 8);
    let mut data = data.to_vec();
    if header[16] != 0 {
        let wrapped = header[17..17 + WRAPPED_LEN].try_into().map_err(|_| Unusable::Damaged)?;
        let cipher = Cipher::unwrap(keys, &wrapped, MAGIC).map_err(Unusable::Key)?;
        let len = cipher.open(horizon, KIND, &mut data).ok_or(Unusable::Damaged)?.len();
        data.truncate(len);
    }
    Ok((horizon, entries(&data).ok_or(Unusable::Damaged)?))
}

fn entries(mut data: &[u8]) -> Option<Table> {
    let mut table = Table::new();
    while !data.is_empty() {
        let (key_len, value_len) = (get_u32(data, 0) as usize, get_u32(data, 4) as usize);
        let (entry, rest) = data.get(8..)?.split_at_checked(key_len.checked_add(value_len)?)?;
        let (key, value) = entry.split_at(key_len);
        table.insert(key.to_vec(), value.to_vec());
        data = rest;
    }
    Some(table)
}
