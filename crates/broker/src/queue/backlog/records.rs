//! A set of records: a bit for each, in words of 64.

use std::collections::BTreeMap;

const WORD_BITS: u64 = 64;

/// A set of records that costs a bit each where they lie close together, and some bytes where they do not.
#[derive(Debug, Default)]
pub(super) struct Records(BTreeMap<u64, u64>);

impl Records {
    pub(super) fn insert(&mut self, record: u64) {
        *self.0.entry(record / WORD_BITS).or_default() |= 1 << (record % WORD_BITS);
    }

    pub(super) fn contains(&self, record: u64) -> bool {
        self.0.get(&(record / WORD_BITS)).is_some_and(|word| word >> (record % WORD_BITS) & 1 == 1)
    }

    /// Forgets all records before one.
    pub(super) fn forget_before(&mut self, record: u64) {
        if self.0.is_empty() {
            return;
        }
        self.0 = self.0.split_off(&(record / WORD_BITS));
        if let Some(word) = self.0.get_mut(&(record / WORD_BITS)) {
            *word &= u64::MAX << (record % WORD_BITS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_there_until_it_is_forgotten() {
        let mut records = Records::default();
        let members = [1, 63, 64, 65, 1000, 1_000_000];
        members.iter().for_each(|record| records.insert(*record));
        assert!(members.iter().all(|record| records.contains(*record)));
        assert!([0, 2, 62, 66, 999, 1001].iter().all(|record| !records.contains(*record)));
        records.forget_before(65);
        assert!(![1, 63, 64].iter().any(|record| records.contains(*record)));
        assert!([65, 1000, 1_000_000].iter().all(|record| records.contains(*record)));
        records.forget_before(2_000_000);
        assert!(records.0.is_empty());
    }
}
