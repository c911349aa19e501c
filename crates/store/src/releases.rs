//! What the entries of a segment let go of, in two or three bytes each: a segment of acknowledgements has millions.

/// Pairs of a release's sequence number, less the segment's first, and the sequence number that it lets go of, in the
/// order of the releases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Releases {
    bytes: Vec<u8>,
    last: (u32, u64),
}

impl Releases {
    pub(crate) fn push(&mut self, relative: u32, hold: u64) {
        let (last_relative, last_hold) = std::mem::replace(&mut self.last, (relative, hold));
        put_varint(&mut self.bytes, relative.wrapping_sub(last_relative).into());
        // Neighbours mostly let go of neighbours, in either direction.
        let step = hold.wrapping_sub(last_hold).cast_signed();
        put_varint(&mut self.bytes, (step << 1 ^ step >> 63).cast_unsigned());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The form on disk.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the form on disk; nothing if it is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut iter = Iter { bytes, last: (0, 0) };
        iter.by_ref().for_each(drop);
        let (rest, last) = (iter.bytes, iter.last);
        rest.is_empty().then(|| Self { bytes: bytes.to_vec(), last })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        Iter { bytes: &self.bytes, last: (0, 0) }
    }
}

/// Ends where nothing readable is left.
struct Iter<'a> {
    bytes: &'a [u8],
    last: (u32, u64),
}

impl Iterator for Iter<'_> {
    type Item = (u32, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (relative, rest) = take_varint(self.bytes)?;
        let (step, rest) = take_varint(rest)?;
        self.bytes = rest;
        let step = (step >> 1).cast_signed() ^ -((step & 1).cast_signed());
        self.last = (self.last.0.wrapping_add(relative as u32), self.last.1.wrapping_add_signed(step));
        Some(self.last)
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_read_back_in_their_order() {
        let pairs =
            [(0, 7), (0, 8), (3, 5), (4, u64::MAX), (4, 0), (9, u64::MAX / 2), (u32::MAX, 1), (u32::MAX, 1 << 63)];
        let mut releases = Releases::default();
        pairs.iter().for_each(|&(relative, hold)| releases.push(relative, hold));
        assert!(releases.iter().eq(pairs));
        assert_eq!(Releases::from_bytes(releases.as_bytes()).as_ref(), Some(&releases));
        let cut = &releases.as_bytes()[..releases.as_bytes().len() - 1];
        assert_eq!(Releases::from_bytes(cut), None, "half a number is none");
    }

    #[test]
    fn acknowledgements_in_order_take_two_bytes() {
        let mut releases = Releases::default();
        (0..1000).for_each(|n| releases.push(n, 50_000 + u64::from(n)));
        assert!(releases.as_bytes().len() <= 2003, "{} bytes", releases.as_bytes().len());
    }
}
