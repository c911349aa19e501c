//! What is written down of a prepared branch: a note for the branch, and one for each of its durable messages.

use std::sync::Arc;

use broker::{
    Loaded, Message, Name, Position,
    publish::Batch,
    record::{self, Reader, put_message_head, put_text},
};

use super::{Key, Xid};
use crate::{ORIGIN, ids::XaTransactionId, lent::Lent, transaction::Transaction};

const BRANCH: u8 = b'b';
const MESSAGE: u8 = b'm';

/// The length of a part of a branch's name that is not there.
const ABSENT: u32 = u32::MAX;

/// What a note says.
#[derive(Debug)]
pub(super) enum Note {
    /// There is a branch.
    Branch {
        vhost: Name,
        xid: Xid,
        /// Whose it is.
        user: Name,
        /// What it has acknowledged: queues and records.
        held: Vec<(u64, u64)>,
    },
    /// A branch is to send this.
    Message {
        vhost: Name,
        xid: Xid,
        /// Its place among the messages of the branch.
        index: u32,
        message: Arc<Message>,
    },
}

/// Writes a branch down.
pub(super) fn put(batch: &mut Batch<'_>, key: &Key, user: &str, transaction: &Transaction) {
    let mut value = Vec::new();
    put_text(&mut value, user);
    for one in transaction.acknowledged.iter().flat_map(|acknowledged| &acknowledged.settled) {
        if one.record != Position(0) && !one.revoked {
            value.extend_from_slice(&one.queue.id.0.to_be_bytes());
            value.extend_from_slice(&one.record.0.to_be_bytes());
        }
    }
    batch.note(ORIGIN, &note_key(BRANCH, key), Some(&value));
    for (index, message) in durable(transaction) {
        let view = message.view();
        let mut value = Vec::new();
        put_message_head(&mut value, &view);
        value.extend_from_slice(view.payload);
        batch.note(ORIGIN, &message_key(key, index), Some(&value));
    }
}

/// Writes down that a branch is over.
pub(super) fn remove(batch: &mut Batch<'_>, key: &Key, transaction: &Transaction) {
    batch.note(ORIGIN, &note_key(BRANCH, key), None);
    for (index, _) in durable(transaction) {
        batch.note(ORIGIN, &message_key(key, index), None);
    }
}

/// The messages of a transaction that outlive the broker.
fn durable(transaction: &Transaction) -> impl Iterator<Item = (u32, &Arc<Message>)> {
    let durable = transaction.sent.iter().filter(|(_, message)| message.traits().durable);
    (0..).zip(durable.map(|(_, message)| message))
}

fn note_key(kind: u8, (vhost, xid): &Key) -> Vec<u8> {
    let mut key = vec![kind];
    put_text(&mut key, vhost);
    key.extend_from_slice(&xid.format_id.to_be_bytes());
    for part in [&xid.global_transaction_id, &xid.branch_qualifier] {
        let len = part.as_ref().map_or(ABSENT, |part| part.len() as u32);
        key.extend_from_slice(&len.to_be_bytes());
        key.extend_from_slice(part.as_deref().unwrap_or_default());
    }
    key
}

fn message_key(key: &Key, index: u32) -> Vec<u8> {
    let mut key = note_key(MESSAGE, key);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Reads a note; nothing if it makes no sense.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Note> {
    let (mut key, mut of) = (Reader::new(key), Reader::new(value));
    let kind = key.u8().ok()?;
    let vhost = Name::from(key.text().ok()?);
    let format_id = key.u32().ok()? as i32;
    let mut part = || match key.u32().ok()? {
        ABSENT => Some(None),
        len => Some(Some(Lent::Shared(key.take(len as usize).ok()?.into()))),
    };
    let (global_transaction_id, branch_qualifier) = (part()?, part()?);
    let xid = XaTransactionId { format_id, global_transaction_id, branch_qualifier };
    match kind {
        BRANCH => {
            let user = Name::from(of.text().ok()?);
            let mut held = Vec::new();
            while let (Ok(queue), Ok(record)) = (of.u64(), of.u64()) {
                held.push((queue, record));
            }
            Some(Note::Branch { vhost, xid, user, held })
        }
        MESSAGE => {
            let index = key.u32().ok()?;
            let loaded = Loaded::new([(0, value.to_vec())], Position(0));
            let (_, message) = record::messages(&loaded).ok()?.pop()?;
            Some(Note::Message { vhost, xid, index, message })
        }
        _ => None,
    }
}
