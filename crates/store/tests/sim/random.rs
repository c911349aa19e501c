//! Numbers that look random and come again with their seed.

/// A generator of numbers that look random (splitmix64), from a seed.
#[derive(Clone, Debug, Default)]
pub struct Random(pub u64);

impl Random {
    /// Numbers for one purpose, which do not depend on how many were drawn for others.
    pub fn stream(seed: u64, purpose: &str) -> Self {
        purpose.bytes().fold(Self(seed), |mut random, byte| Self(random.next() ^ u64::from(byte)))
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Whether an event happens that happens once in `times`; never, if that is zero.
    pub fn one_in(&mut self, times: u64) -> bool {
        times != 0 && self.next().is_multiple_of(times)
    }

    /// The length, or once in `times` a shorter one that is not zero.
    pub fn shortened(&mut self, len: usize, times: u64) -> usize {
        if len > 0 && self.one_in(times) { 1 + self.below(len) } else { len }
    }
}
