//! Bodies that tell whose they are, and whether they are whole.

use super::history::MessageId;

/// A body of `filler` bytes after a line with the message's identity and a checksum.
pub fn write_body(message: MessageId, filler: usize) -> Vec<u8> {
    let mut state = message.sequence ^ u64::from(message.publisher) << 48;
    let filler: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(filler)
    .collect();
    let mut body = format!("{} {:016x}\n", identity(message, filler.len()), checksum(message, &filler)).into_bytes();
    body.extend(filler);
    body
}

/// Whose body it is; nothing if any byte of it is wrong or missing.
pub fn read_body(body: &[u8]) -> Option<MessageId> {
    let end = body.iter().position(|byte| *byte == b'\n')?;
    let (line, filler) = (std::str::from_utf8(&body[..end]).ok()?, &body[end + 1..]);
    let words: Vec<&str> = line.split(' ').collect();
    let [publisher, sequence, length, sum] = words[..] else { return None };
    let message = MessageId { publisher: publisher.parse().ok()?, sequence: sequence.parse().ok()? };
    let is_whole = length.parse() == Ok(filler.len()) && u64::from_str_radix(sum, 16) == Ok(checksum(message, filler));
    is_whole.then_some(message)
}

fn identity(message: MessageId, length: usize) -> String {
    format!("{} {} {length}", message.publisher, message.sequence)
}

/// FNV-1a over the identity and the filler.
fn checksum(message: MessageId, filler: &[u8]) -> u64 {
    let identity = identity(message, filler.len());
    let bytes = identity.bytes().chain(filler.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_body_is_noticed() {
        let message = MessageId { publisher: 3, sequence: 17 };
        let body = write_body(message, 40);
        assert_eq!(read_body(&body), Some(message));
        for place in 0..body.len() {
            let mut changed = body.clone();
            changed[place] ^= 1;
            assert_eq!(read_body(&changed), None, "byte {place} was changed");
        }
        assert_eq!(read_body(&body[..body.len() - 1]), None);
        assert_eq!(read_body(b""), None);
    }
}
