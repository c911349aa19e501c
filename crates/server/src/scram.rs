//! SCRAM-SHA-256 (RFC 5802, RFC 7677): a login in which neither side shows the other the password.
//!
//! A user can log in so whose password is kept in the form of [`Keys`]. Of the others, and of those who do not exist, a
//! client learns nothing but that the login failed.

use std::{fmt, num::NonZeroU32};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};

/// The name of the mechanism.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// Rounds by which keys are made of a password: some tens of milliseconds of a computer, some seconds of a small device.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

/// Rounds that an imported hash may have: as many as RFC 7677 asks for, and no more than a login may take.
const ITERATIONS_ALLOWED: std::ops::RangeInclusive<u32> = 4096..=10_000_000;

const KEY_BYTES: usize = 32;

type Key = [u8; KEY_BYTES];

/// What is kept instead of a password: `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, as PostgreSQL writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    stored: Key,
    server: Key,
}

fn sign(key: &[u8], text: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut bytes = [0; KEY_BYTES];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

fn hash(bytes: &[u8]) -> Key {
    let mut hash = [0; KEY_BYTES];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Whether two keys are equal, in a time that does not tell where they differ.
fn equal(one: &Key, other: &Key) -> bool {
    one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

impl Keys {
    /// The keys of a password.
    pub fn of(password: &[u8], salt: &[u8]) -> Self {
        Self::with(password, salt, ITERATIONS)
    }

    fn with(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let client = sign(&salted, b"Client Key");
        Self { iterations, salt: salt.to_vec(), stored: hash(&client), server: sign(&salted, b"Server Key") }
    }

    /// Keys as they are kept; nothing if it is something else.
    pub fn read(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix(MECHANISM)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|rounds| ITERATIONS_ALLOWED.contains(rounds))?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Self {
            iterations: NonZeroU32::new(iterations)?,
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            stored: key(stored)?,
            server: key(server)?,
        })
    }

    /// Whether these are the keys of a password.
    pub fn fit(&self, password: &[u8]) -> bool {
        equal(&Self::with(password, &self.salt, self.iterations).stored, &self.stored)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.stored, &self.server].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{MECHANISM}${}:{salt}${stored}:{server}", self.iterations)
    }
}

/// A login that has begun.
#[derive(Debug)]
pub struct Exchange {
    /// Who wants to log in.
    pub user: String,
    /// None if there is no such user, or if his password is kept in another form.
    keys: Option<Keys>,
    /// The header of channel binding, which is not offered.
    header: String,
    nonce: String,
    /// The client's first message without its header, and the answer to it.
    said: String,
}

/// The client's first message (RFC 5802, section 7).
#[derive(Debug)]
pub struct First<'a> {
    header: &'a str,
    bare: &'a str,
    /// Who wants to log in.
    pub user: String,
    nonce: &'a str,
}

impl<'a> First<'a> {
    /// Reads it; nothing if it is no such message, or wants channel binding.
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let message = std::str::from_utf8(message).ok()?;
        // Whoever acts for another (an authorization identity) is not served.
        let header = ["n,,", "y,,"].into_iter().find(|header| message.starts_with(header))?;
        let bare = &message[header.len()..];
        let (user, rest) = bare.strip_prefix("n=")?.split_once(",r=")?;
        let nonce = rest.split(',').next().filter(|nonce| !nonce.is_empty())?;
        let user = user.replace("=2C", ",").replace("=3D", "=");
        Some(Self { header: &message[..header.len()], bare, user, nonce })
    }
}

impl Exchange {
    /// Answers the first message: with the salt of `keys`, or with one that is made of `secret` and is always the same
    /// for the same user.
    pub fn begin(first: &First<'_>, keys: Option<Keys>, nonce: &[u8], secret: &[u8]) -> (Self, Vec<u8>) {
        let nonce = format!("{}{}", first.nonce, STANDARD.encode(nonce));
        let made_up = || sign(secret, first.user.as_bytes())[..16].to_vec();
        let salt = keys.as_ref().map_or_else(made_up, |keys| keys.salt.clone());
        let iterations = keys.as_ref().map_or(ITERATIONS, |keys| keys.iterations);
        let answer = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        let said = format!("{},{answer}", first.bare);
        let exchange = Self { user: first.user.clone(), keys, header: first.header.into(), nonce, said };
        (exchange, answer.into_bytes())
    }

    /// Checks the client's last message. Returns what proves to it that the broker knows the user.
    pub fn finish(&self, message: &[u8]) -> Option<Vec<u8>> {
        let message = std::str::from_utf8(message).ok()?;
        let (without, proof) = message.rsplit_once(",p=")?;
        let mut attributes = without.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let proof: Key = STANDARD.decode(proof).ok()?.try_into().ok()?;
        if STANDARD.decode(binding).ok()? != self.header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let keys = self.keys.as_ref()?;
        let whole = format!("{},{without}", self.said);
        let signature = sign(&keys.stored, whole.as_bytes());
        let mut client = proof;
        client.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        equal(&hash(&client), &keys.stored)
            .then(|| format!("v={}", STANDARD.encode(sign(&keys.server, whole.as_bytes()))).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_specification() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::with(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        let first = First::read(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let (mut exchange, _) = Exchange::begin(&first, Some(keys.clone()), b"", b"");
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        exchange.said = format!("{},r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", first.bare, exchange.nonce);
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let proof = exchange.finish(last.as_bytes()).unwrap();
        assert_eq!(proof, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(exchange.finish(last.replace("p=d", "p=e").as_bytes()), None);
        assert_eq!(exchange.finish(last.replace("c=biws", "c=eSws").as_bytes()), None);
        exchange.keys = None;
        assert_eq!(exchange.finish(last.as_bytes()), None);
        assert!(keys.fit(b"pencil") && !keys.fit(b"Pencil"));
        assert_eq!(Keys::read(&keys.to_string()), Some(keys));
    }

    #[test]
    fn bad_messages_and_keys_are_refused() {
        for message in
            [&b""[..], b"n,,", b"n,,n=u", b"n,,n=u,r=", b"p=tls-unique,,n=u,r=x", b"n,a=b,n=u,r=x", b"n,,n=\xff,r=x"]
        {
            assert!(First::read(message).is_none(), "{message:?}");
        }
        assert_eq!(First::read(b"y,,n=a=2Cb=3Dc,r=x,ext=1").unwrap().user, "a,b=c");
        let made_up = |user: &[u8]| Exchange::begin(&First::read(user).unwrap(), None, b"n", b"secret").1;
        assert_eq!(made_up(b"n,,n=u,r=x"), made_up(b"n,,n=u,r=x"));
        assert_ne!(made_up(b"n,,n=u,r=x"), made_up(b"n,,n=v,r=x"));
        for text in ["", "SCRAM-SHA-256$1:AA==$AA==:AA==", "SCRAM-SHA-256$4096:AA==$AA==", "$argon2id$"] {
            assert_eq!(Keys::read(text), None, "{text}");
        }
    }
}
