//! What goes through, by protocol.

use std::collections::BTreeMap;

use broker::Counts;

use crate::Admin;

/// What went through the connections of one protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// How many there are now.
    pub connections: usize,
    /// Messages, by what happened to them.
    pub counts: Counts,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Bytes that went.
    pub bytes_out: u64,
}

/// What went through, for each protocol that is spoken here, in the order of their names.
pub fn sums(admin: &Admin) -> BTreeMap<&'static str, Sum> {
    let mut sums: BTreeMap<_, _> = admin.host.protocols().iter().map(|protocol| (*protocol, Sum::default())).collect();
    for ((protocol, _), (counts, bytes_in, bytes_out)) in admin.broker.traffic() {
        let sum: &mut Sum = sums.entry(protocol).or_default();
        sum.counts.add_all(&counts);
        sum.bytes_in += bytes_in;
        sum.bytes_out += bytes_out;
    }
    for connection in admin.broker.connections() {
        sums.entry(connection.terms.protocol).or_default().connections += 1;
    }
    sums
}
