//! How much comes and goes: each connection counts for itself, and adds up now and then what all have in common.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes from clients.
    BytesReceived,
    /// Bytes to clients.
    BytesSent,
    /// Packets from clients.
    PacketsReceived,
    /// Packets to clients.
    PacketsSent,
    /// PUBLISH packets from clients.
    PublishesReceived,
    /// PUBLISH packets to clients.
    PublishesSent,
    /// Messages that a client did not get because it is slow.
    PublishesDropped,
    /// Bytes of payloads from clients.
    PayloadReceived,
    /// Bytes of payloads to clients.
    PayloadSent,
    /// Connections that were taken in.
    Connections,
}

/// How many kinds there are.
const KINDS: usize = Kind::Connections as usize + 1;

/// Counts of one connection since it last added them up.
#[derive(Debug, Default)]
pub struct Counts([u32; KINDS]);

impl Counts {
    /// Counts something.
    pub fn add(&mut self, kind: Kind, number: usize) {
        let count = &mut self.0[kind as usize];
        *count = count.saturating_add(u32::try_from(number).unwrap_or(u32::MAX));
    }
}

/// Counts of all connections that were ever there.
#[derive(Debug, Default)]
pub struct Totals([AtomicU64; KINDS]);

impl Totals {
    /// Adds what a connection has counted, which begins anew.
    pub fn add(&self, counts: &mut Counts) {
        for (total, count) in self.0.iter().zip(&mut counts.0) {
            if *count > 0 {
                total.fetch_add(std::mem::take(count).into(), Ordering::Relaxed);
            }
        }
    }

    /// A total.
    pub fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }
}
