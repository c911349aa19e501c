//! Encryption at rest. Each segment file has a random data key of its own, which stands at the file's beginning,
//! encrypted ("wrapped") with the master key that the operator keeps elsewhere.
//!
//! So a new master key does not mean to write the log again: new segments are wrapped with it, and older ones are read
//! with a former one until they are no longer needed. Everything is AES-256-GCM, whose tag also tells every change of
//! what is on disk.

use std::{fmt, io};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    digest,
};

const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;

/// Bytes of the tag that stands behind what is sealed.
pub(crate) const TAG_LEN: usize = 16;

/// Bytes of a wrapped data key: the master key's id, a nonce, the encrypted data key and its tag.
pub(crate) const WRAPPED_LEN: usize = ID_LEN + NONCE_LEN + KEY_LEN + TAG_LEN;

/// Why a key cannot be used. The texts never hold any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A master key's text has another length than either form.
    #[error("a master key is 64 hex digits or 44 characters of base64, and this has {characters} characters")]
    Length {
        /// Of the text, without the white space around it.
        characters: usize,
    },
    /// A master key's text has as many characters as hex digits would be, and something else among them.
    #[error("a master key of 64 characters must be hex digits, and this has others")]
    Hex,
    /// A master key's text has as many characters as base64 would be, and is not base64 of 32 bytes.
    #[error("a master key of 44 characters must be base64 of 32 bytes, and this is not")]
    Base64,
    /// The data was written under another master key.
    #[error("is encrypted with key {}, and none of the given keys is that one", key_id_text(.id))]
    NoKey {
        /// Of the master key that is needed.
        id: [u8; ID_LEN],
    },
    /// The master key is there, and yet the data key does not authenticate.
    #[error("is encrypted with key {}, which is given, but the wrapped key is damaged", key_id_text(.id))]
    WrongKey {
        /// Of the master key that was tried.
        id: [u8; ID_LEN],
    },
}

/// A key that encrypts the keys of segments. It must be random, for its id is told to anybody who can read the log.
#[derive(Clone)]
pub struct MasterKey {
    key: LessSafeKey,
    id: [u8; ID_LEN],
}

impl MasterKey {
    /// Reads a key written as 64 hex digits or as base64 of 32 bytes, with white space around it or not.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = match text.chars().count() {
            64 => from_hex(text).ok_or(KeyError::Hex)?,
            44 => from_base64(text).ok_or(KeyError::Base64)?,
            characters => return Err(KeyError::Length { characters }),
        };
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"roadstead master key");
        hash.update(&bytes);
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&hash.finish().as_ref()[..ID_LEN]);
        Ok(Self { key: aes(&bytes), id })
    }

    /// What the key is known by: a part of its hash, which does not tell the key.
    pub fn id(&self) -> [u8; ID_LEN] {
        self.id
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// A master key's id as people see it: 16 hex digits.
pub fn key_id_text(id: &[u8; 8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The master keys of a data directory.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Encrypts what is written from now on, if there is one.
    pub(crate) current: Option<MasterKey>,
    /// Only for reading what was written under them.
    pub(crate) former: Vec<MasterKey>,
}

impl Keys {
    /// The key for what is written from now on (without one it is not encrypted), and those that came before it.
    pub fn new(current: Option<MasterKey>, former: Vec<MasterKey>) -> Self {
        Self { current, former }
    }

    /// Whether what is written from now on is encrypted.
    pub fn encrypts(&self) -> bool {
        self.current.is_some()
    }

    /// The key of that id.
    pub fn find(&self, id: &[u8; 8]) -> Option<&MasterKey> {
        self.current.iter().chain(&self.former).find(|key| key.id == *id)
    }
}

/// A segment's data key.
pub(crate) struct Cipher {
    key: LessSafeKey,
}

impl Cipher {
    /// Makes a data key for a new segment, and wraps it with the current master key. `context` is what tells the
    /// segment from all others: under another one the wrapped key will not open, so that nobody can give one segment's
    /// beginning to another.
    ///
    /// The wrapping's nonce is random, because a master key has no counter that every crash leaves intact. That is safe
    /// for 2³² segments per master key.
    ///
    /// # Errors
    /// If there are no random bits, or no current master key.
    pub(crate) fn wrapped(
        keys: &Keys,
        random: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
        context: &[u8],
    ) -> io::Result<(Self, [u8; WRAPPED_LEN])> {
        let no_key = || io::Error::new(io::ErrorKind::InvalidInput, "there is no master key to encrypt with");
        let master = keys.current.as_ref().ok_or_else(no_key)?;
        let (mut data_key, mut nonce) = ([0; KEY_LEN], [0; NONCE_LEN]);
        random(&mut data_key)?;
        random(&mut nonce)?;
        let cipher = Self { key: aes(&data_key) };
        let tag = seal(&master.key, nonce, context, &mut data_key);
        let mut wrapped = [0; WRAPPED_LEN];
        let parts = [&master.id[..], &nonce, &data_key, &tag];
        wrapped.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        Ok((cipher, wrapped))
    }

    /// What stands for a data key that cannot be had any more: nothing opens with it.
    pub(crate) fn lost() -> Self {
        Self { key: aes(&[0; KEY_LEN]) }
    }

    /// The data key of a segment that is read again.
    ///
    /// # Errors
    /// If its master key is not there, or it was made for another context, or changed.
    pub(crate) fn unwrap(keys: &Keys, wrapped: &[u8; WRAPPED_LEN], context: &[u8]) -> Result<Self, KeyError> {
        let (mut id, mut nonce) = ([0; ID_LEN], [0; NONCE_LEN]);
        let mut data_key = [0; KEY_LEN + TAG_LEN];
        let parts = [&mut id[..], &mut nonce, &mut data_key];
        parts.into_iter().flatten().zip(wrapped).for_each(|(to, from)| *to = *from);
        let master = keys.find(&id).ok_or(KeyError::NoKey { id })?;
        let opened = master.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut data_key);
        let data_key = opened.ok().and_then(|bytes| <&[u8; KEY_LEN]>::try_from(&*bytes).ok());
        Ok(Self { key: aes(data_key.ok_or(KeyError::WrongKey { id })?) })
    }

    /// Encrypts an entry in place, and returns the tag that has to stand behind it.
    ///
    /// AES-GCM is broken by a nonce used twice under one key, so whoever calls this answers for three things: a data
    /// key is used in one file only, a sequence number occurs once in a file for each kind, and a later run never goes
    /// on writing in a file, since it would use the numbers of a torn tail again. To write the very same bytes again
    /// after a short write is no second use.
    pub(crate) fn seal(&self, sequence: u64, kind: u8, data: &mut [u8]) -> [u8; TAG_LEN] {
        seal(&self.key, entry_nonce(sequence, kind), &[kind], data)
    }

    /// Decrypts in place what [`Cipher::seal`] made and the tag behind it, and returns it without the tag. Nothing if
    /// it is not exactly what was sealed under this sequence number and kind; then `data_and_tag` has no meaning.
    pub(crate) fn open<'a>(&self, sequence: u64, kind: u8, data_and_tag: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let nonce = Nonce::assume_unique_for_key(entry_nonce(sequence, kind));
        self.key.open_in_place(nonce, Aad::from([kind]), data_and_tag).ok()
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(..)")
    }
}

/// Unique for each entry of a file: see [`Cipher::seal`].
fn entry_nonce(sequence: u64, kind: u8) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[0] = kind;
    nonce[4..].copy_from_slice(&sequence.to_le_bytes());
    nonce
}

fn aes(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes any 32 bytes"))
}

fn seal(key: &LessSafeKey, nonce: [u8; NONCE_LEN], context: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
    let sealed = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), data);
    // To go on would write what should be secret, so this must not be passed over.
    let tag: Tag = sealed.expect("AES-GCM takes anything below 64 GiB");
    let mut bytes = [0; TAG_LEN];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn from_hex(text: &str) -> Option<[u8; KEY_LEN]> {
    let mut bytes = [0; KEY_LEN];
    for (index, digit) in text.chars().enumerate() {
        *bytes.get_mut(index / 2)? |= (digit.to_digit(16)? as u8) << (4 * (1 - index % 2));
    }
    Some(bytes)
}

/// 43 characters of six bits each and one of padding. The last two bits belong to no byte and must be zero.
fn from_base64(text: &str) -> Option<[u8; KEY_LEN]> {
    let mut bytes = [0; KEY_LEN];
    let (mut gathered, mut bits, mut filled) = (0u32, 0, 0);
    for character in text.strip_suffix('=')?.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (gathered, bits) = (gathered << 6 | u32::from(value), bits + 6);
        if bits >= 8 {
            bits -= 8;
            *bytes.get_mut(filled)? = (gathered >> bits) as u8;
            gathered &= (1 << bits) - 1;
            filled += 1;
        }
    }
    (filled == KEY_LEN && gathered == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";
    const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHv8=";

    fn master(fill: &str) -> MasterKey {
        MasterKey::parse(&fill.repeat(32)).unwrap()
    }

    fn keys() -> Keys {
        Keys::new(Some(master("a1")), vec![master("b2"), master("c3")])
    }

    /// Random bits that differ at each call, so that a key or nonce that is not asked for shows.
    fn counting() -> impl FnMut(&mut [u8]) -> io::Result<()> {
        let mut next = 0u8;
        move |bytes| {
            for byte in bytes {
                next = next.wrapping_add(1);
                *byte = next;
            }
            Ok(())
        }
    }

    fn cipher() -> (Cipher, [u8; WRAPPED_LEN]) {
        Cipher::wrapped(&keys(), &mut counting(), b"segment 1").unwrap()
    }

    fn sealed(cipher: &Cipher, sequence: u64, kind: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = data.to_vec();
        let tag = cipher.seal(sequence, kind, &mut bytes);
        bytes.extend(tag);
        bytes
    }

    #[test]
    fn a_key_has_two_forms() {
        let key = MasterKey::parse(HEX).unwrap();
        assert_eq!(MasterKey::parse(&format!(" \t{}\r\n", HEX.to_uppercase())).unwrap().id(), key.id());
        assert_eq!(MasterKey::parse(&format!("{BASE64}\n")).unwrap().id(), key.id());
        // By another implementation of SHA-256.
        assert_eq!(key_id_text(&key.id()), "91ea554fe66d7141");
        assert_ne!(master("a1").id(), master("a2").id());
        let all = "+/+/".repeat(10) + "+/8=";
        assert_eq!(from_base64(&all).unwrap()[..3], [0xfb, 0xff, 0xbf]);
    }

    #[test]
    fn other_forms_are_refused_without_telling_the_key() {
        use KeyError::{Base64, Hex, Length};
        let wrong = |text: &str| MasterKey::parse(text).unwrap_err();
        assert_eq!(wrong(""), Length { characters: 0 });
        assert_eq!(wrong(&HEX[1..]), Length { characters: 63 });
        assert_eq!(wrong(&format!("{HEX}0")), Length { characters: 65 });
        assert_eq!(wrong(&HEX.replace("0a", "0g")), Hex);
        assert_eq!(wrong(&HEX.replace("0a", "ä0")), Hex);
        assert_eq!(wrong(&BASE64.replace("AA", "A A")), Length { characters: 45 });
        for (from, to) in [("AA", "A-"), ("AA", "A="), ("v8=", "v8A"), ("v8=", "v9="), ("8=", "=="), ("AA", "Aé")] {
            assert_eq!(wrong(&BASE64.replacen(from, to, 1)), Base64, "{from} as {to}");
        }
        for error in [wrong(&HEX.replace("ff", "fg")), wrong(&BASE64.replace('=', "!")), wrong(&HEX[..40])] {
            let texts = format!("{error} {error:?}");
            assert!(!texts.contains(&HEX[..6]) && !texts.contains(&BASE64[..6]), "{texts}");
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_key_that_was_wrapped() {
        let (cipher, wrapped) = cipher();
        assert_eq!(wrapped.len(), 68);
        assert_eq!(wrapped[..8], master("a1").id());
        assert_eq!(wrapped[8..20], [33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44], "the nonce is random");
        assert_ne!(wrapped[20..52], std::array::from_fn::<u8, 32, _>(|index| index as u8 + 1), "the data key is shown");
        let again = Cipher::unwrap(&keys(), &wrapped, b"segment 1").unwrap();
        for data in [&b""[..], b"x", &[7; 5000]] {
            let mut bytes = sealed(&cipher, 9, 2, data);
            assert!(data.len() < 16 || !bytes.windows(16).any(|window| window == &data[..16]), "not encrypted");
            assert_eq!(again.open(9, 2, &mut bytes).as_deref(), Some(data));
        }
        assert_ne!(sealed(&cipher, 9, 2, b"same text"), sealed(&cipher, 10, 2, b"same text"));
        assert_ne!(sealed(&cipher, 9, 2, b"same text")[..9], sealed(&cipher, 9, 3, b"same text")[..9]);
    }

    #[test]
    fn a_former_key_still_reads() {
        let (cipher, wrapped) = cipher();
        let rotated = Keys::new(Some(master("dd")), vec![master("b2"), master("a1")]);
        let again = Cipher::unwrap(&rotated, &wrapped, b"segment 1").unwrap();
        assert!(again.open(1, 0, &mut sealed(&cipher, 1, 0, b"text")).is_some());
        assert!(Cipher::unwrap(&Keys::new(None, vec![master("a1")]), &wrapped, b"segment 1").is_ok());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (cipher, wrapped) = cipher();
        let whole = sealed(&cipher, 5, 1, b"twenty bytes of text");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(cipher.open(5, 1, &mut bytes).is_none(), "bit {bit}");
        }
        for bit in 0..WRAPPED_LEN * 8 {
            let mut bytes = wrapped;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = Cipher::unwrap(&keys(), &bytes, b"segment 1").unwrap_err();
            assert_eq!(matches!(error, KeyError::NoKey { .. }), bit < 64, "bit {bit}");
        }
    }

    #[test]
    fn another_place_is_refused() {
        let (cipher, wrapped) = cipher();
        let whole = sealed(&cipher, 5, 1, b"text");
        for (sequence, kind) in [(4, 1), (6, 1), (5 + (1 << 32), 1), (5 + (1 << 56), 1), (5, 0), (5, 2), (5, 129)] {
            assert!(cipher.open(sequence, kind, &mut whole.clone()).is_none(), "{sequence} {kind}");
        }
        for cut in 0..whole.len() {
            assert!(cipher.open(5, 1, &mut whole[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        for context in [&b"segment 2"[..], b"segment ", b"segment 11", b""] {
            let error = Cipher::unwrap(&keys(), &wrapped, context).unwrap_err();
            assert_eq!(error, KeyError::WrongKey { id: master("a1").id() });
        }
    }

    #[test]
    fn another_key_is_refused() {
        let (cipher, wrapped) = cipher();
        let mut random = counting();
        random(&mut [0]).unwrap();
        let (other, _) = Cipher::wrapped(&keys(), &mut random, b"segment 1").unwrap();
        assert!(other.open(5, 1, &mut sealed(&cipher, 5, 1, b"text")).is_none());
        let id = master("a1").id();
        for keys in [Keys::default(), Keys::new(Some(master("b2")), vec![master("c3")])] {
            let error = Cipher::unwrap(&keys, &wrapped, b"segment 1").unwrap_err();
            assert_eq!(error, KeyError::NoKey { id });
            let text = format!("is encrypted with key {}, and none of the given keys is that one", key_id_text(&id));
            assert_eq!(error.to_string(), text);
        }
        // One that claims the id.
        let mut forged = wrapped;
        forged[..8].copy_from_slice(&master("b2").id());
        let error = Cipher::unwrap(&keys(), &forged, b"segment 1").unwrap_err();
        assert_eq!(error, KeyError::WrongKey { id: master("b2").id() });
        assert!(error.to_string().ends_with("the wrapped key is damaged"));
    }

    #[test]
    fn nothing_is_made_without_a_key_or_random_bits() {
        let failing = &mut |_: &mut [u8]| Err(io::ErrorKind::Unsupported.into());
        assert_eq!(Cipher::wrapped(&keys(), failing, b"").unwrap_err().kind(), io::ErrorKind::Unsupported);
        let former = Keys::new(None, vec![master("a1")]);
        assert!(keys().encrypts() && !former.encrypts() && !Keys::default().encrypts());
        assert_eq!(Cipher::wrapped(&former, &mut counting(), b"").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn no_key_is_ever_shown() {
        let shown = format!("{:?} {:#?} {:?}", keys(), keys(), cipher());
        assert_eq!(format!("{:?}", master("a1")), "MasterKey(..)");
        assert_eq!(format!("{:?}", cipher().0), "Cipher(..)");
        assert!(!shown.contains("a1a1") && !shown.contains("161, 161"), "{shown}");
    }

    #[test]
    fn the_form_on_disk_stays() {
        let (cipher, wrapped) = cipher();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&wrapped),
            concat!(
                "cbcb9781e26475c82122232425262728292a2b2c1d97a97c1c8863faadd7679f652c3247",
                "1f51ffe65bb64d8de54d436312802027037c2309ec6ad359c7b3d3454d80c83b"
            )
        );
        assert_eq!(
            hex(&sealed(&cipher, 0x0102_0304_0506_0708, 3, b"text")),
            "6a683be336a8530f5036f1dcd2473f1cfae7baa5"
        );
    }
}
