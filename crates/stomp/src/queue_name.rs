//! Under which names the queues of topic subscriptions are kept, so that a durable one is found again.

use broker::Name;

/// The name of the queue of a durable subscription: that which RabbitMQ 4.0 gives it, so that a migrated queue is found. It is
/// made from the digest of a routing key and a subscription id, as Erlang writes a pair of two strings.
pub fn of_subscription(routing_key: &str, id: &str) -> Name {
    const PAIR: [u8; 3] = [131, 104, 2];
    let mut term = PAIR.to_vec();
    put_string(&mut term, routing_key);
    put_string(&mut term, id);
    format!("stomp-subscription-{}", base64_url(&md5(&term))).into()
}

/// The name of the queue of a durable subscription as ActiveMQ has it, by client id and subscription name.
pub fn of_named_subscription(client_id: &str, name: &str) -> Name {
    // So that no two clients share one by accident.
    let client_id = client_id.replace('%', "%25").replace(':', "%3A");
    format!("jms-subscription-{client_id}:{name}").into()
}

/// A list of bytes in Erlang's external form: nil, or a string with a length of two bytes. Headers are never longer.
fn put_string(term: &mut Vec<u8>, text: &str) {
    const NIL: u8 = 106;
    const STRING: u8 = 107;
    let Ok(len @ 1..) = u16::try_from(text.len()) else { return term.push(NIL) };
    term.push(STRING);
    term.extend_from_slice(&len.to_be_bytes());
    term.extend_from_slice(text.as_bytes());
}

/// Base64 with the alphabet for URLs and without padding (RFC 4648, section 5).
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (at, &byte)| bits | u32::from(byte) << (16 - 8 * at));
        for digit in 0..=group.len() {
            out.push(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63].into());
        }
    }
    out
}

/// The MD5 digest (RFC 1321). It names queues here and protects nothing.
fn md5(input: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = input.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64), 0);
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(8 * input.len() as u64).to_le_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks(64) {
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| block[4 * at + byte]));
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mixed, at) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), 7 * step % 16),
            };
            // The constants are the sines of the steps (section 3.4).
            let constant = ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(word(at));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 16];
    digest.chunks_mut(4).zip(state).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_rfc() {
        let hex = |text: &str| md5(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(hex(&"1234567890".repeat(8)), "57edf4a22be3c955ac49da2e2107b67a");
        assert_eq!(hex(&"a".repeat(60)), "cc7ed669cf88f201c3297c6a91e1d18d");
        assert_eq!(hex(&"a".repeat(63)), "b06521f39153d618550606be297466d5");
    }

    #[test]
    fn names_are_those_of_rabbitmq() {
        // As RabbitMQ 4.0.5 named it.
        assert_eq!(&*of_subscription("a.b", "sub 1"), "stomp-subscription-tVBx5US-ST7c5eIfEP_HEw");
    }
}
