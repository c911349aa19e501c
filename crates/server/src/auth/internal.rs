//! The broker's own users. Their passwords are hashed with argon2id, checked once and then remembered by a keyed digest, so that
//! many connections of one user cost little. RabbitMQ's own hashes are accepted as they are, and so are the keys of SCRAM-SHA-256.

use std::{collections::HashMap, num::NonZero, sync::Arc};

use anyhow::{Context, bail};
use argon2::{
    Algorithm, Argon2, Params, PasswordVerifier, Version,
    password_hash::{PasswordHash, PasswordHasher, SaltString},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Broker, Credentials, Name};
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};
use tokio::sync::Semaphore;

use super::{Identified, Verdict};
use crate::scram;

/// Users remembered at most.
const REMEMBERED_MAX: usize = 10_000;

/// Checks passwords of the broker's own users.
pub struct Internal {
    broker: Arc<Broker>,
    /// By user: the hash that was checked, and the digest of the password that passed.
    remembered: Mutex<HashMap<String, (String, [u8; 32])>>,
    key: [u8; 32],
    /// As many checks run at once as there are cores: each takes tens of milliseconds of one, and megabytes.
    turns: Semaphore,
}

impl Internal {
    /// Checks passwords of the users of `broker`.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(broker: Arc<Broker>) -> anyhow::Result<Self> {
        let turns = Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get));
        Ok(Self { broker, remembered: Mutex::default(), key: random()?, turns })
    }

    /// The outcome, if it can be told without work: by memory, or because there is nothing to check.
    pub fn quick(&self, credentials: &Credentials) -> Option<Verdict<()>> {
        let user = credentials.user().as_str();
        let Some(hash) = self.broker.identity.password_hash(user) else {
            return Some(Verdict::Refused("no such user".into()));
        };
        match credentials {
            Credentials::Certificate { .. } => Some(Verdict::Accepted(())),
            Credentials::Password { password, .. } => {
                let digest = self.digest(user, password);
                let remembered = self.remembered.lock();
                let known =
                    remembered.get(user).is_some_and(|(checked, known)| *checked == hash && equal(known, &digest));
                known.then_some(Verdict::Accepted(()))
            }
        }
    }

    /// The outcome after a real check, when it is its turn.
    pub async fn check_in_turn(self: &Arc<Self>, credentials: &Credentials) -> Verdict<()> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Verdict::Refused("no password is checked any more".into());
        };
        // Another connection of the same user may have passed in the meantime.
        if let Some(verdict) = self.quick(credentials) {
            return verdict;
        }
        let (internal, credentials) = (Arc::clone(self), credentials.clone());
        let check = move || internal.check(&credentials);
        tokio::task::spawn_blocking(check).await.unwrap_or_else(|error| Verdict::Unavailable(error.into()))
    }

    /// The outcome after a real check, which must not run where connections are driven.
    fn check(&self, credentials: &Credentials) -> Verdict<()> {
        let Credentials::Password { user, password } = credentials else { return Verdict::Accepted(()) };
        let hash = self.broker.identity.password_hash(user).unwrap_or_default();
        if !verify(&hash, password) {
            return Verdict::Refused("wrong password".into());
        }
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(user.to_string(), (hash, self.digest(user, password)));
        Verdict::Accepted(())
    }

    /// What the broker knows of a user, if he is one of its own.
    pub fn identify(&self, user: &Name) -> Verdict<Identified> {
        match self.broker.identity.tags(user) {
            Some(tags) => Verdict::Accepted(Identified { user: user.clone(), tags, authorization: None }),
            None => Verdict::Refused("no such user".into()),
        }
    }

    /// Begins a login of several steps. Returns the answer, and why the login will fail, if it will.
    pub fn begin_exchange(&self, message: &[u8]) -> Option<(scram::Exchange, Vec<u8>, Option<&'static str>)> {
        let first = scram::First::read(message)?;
        let hash = self.broker.identity.password_hash(&first.user);
        let keys = hash.as_deref().and_then(scram::Keys::read);
        let problem = match (&hash, &keys) {
            (None, _) => Some("no such user"),
            (Some(_), None) => Some("this user's password is not kept for SCRAM-SHA-256"),
            (Some(_), Some(_)) => None,
        };
        let (begun, challenge) = scram::Exchange::begin(&first, keys, &random::<18>().ok()?, &self.key);
        Some((begun, challenge, problem))
    }

    /// A digest by which what was checked can be known again.
    pub fn digest(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let digest = Sha256::new().chain_update(self.key).chain_update((user.len() as u64).to_be_bytes());
        digest.chain_update(user).chain_update(password).finalize().into()
    }
}

/// Whether two digests are equal, in a time that does not tell where they differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |differing, (a, b)| differing | (a ^ b));
    one.len() == other.len() && differing == 0
}

/// Random bytes from the system.
///
/// # Errors
/// If it has none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    Ok(bytes)
}

/// Seven MiB and five passes: OWASP's recommendation for argon2id with the least memory but one.
fn argon2() -> anyhow::Result<Argon2<'static>> {
    let params = Params::new(7 * 1024, 5, 1, None).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Hashes a password: with argon2id, unless another algorithm is asked for.
///
/// # Errors
/// If there is no such algorithm, or the system has no random numbers.
pub fn hash(password: &str, algorithm: Option<&str>) -> anyhow::Result<String> {
    match algorithm {
        None | Some("argon2id") => {}
        Some("scram-sha-256") => return Ok(scram::Keys::of(password.as_bytes(), &random::<16>()?).to_string()),
        Some(other) => bail!("passwords are not hashed with '{other}'; with argon2id and scram-sha-256 they are"),
    }
    let salt = SaltString::encode_b64(&random::<16>()?).map_err(|error| anyhow::anyhow!("{error}"))?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(hash.to_string())
}

/// A hash that RabbitMQ made, in the form in which it is kept here.
///
/// # Errors
/// If it is not one.
pub fn import(hash: &str, algorithm: Option<&str>) -> anyhow::Result<String> {
    if hash.starts_with("$argon2") {
        PasswordHash::new(hash).map_err(|error| anyhow::anyhow!("the password hash is not in PHC form: {error}"))?;
        return Ok(hash.into());
    }
    if hash.starts_with(scram::MECHANISM) {
        scram::Keys::read(hash).context("the password hash is not SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER")?;
        return Ok(hash.into());
    }
    let bytes = STANDARD.decode(hash).context("the password hash is not base64")?;
    // Tools do not always say how they hashed, but the length does.
    let by_len = if bytes.len() == 68 { "rabbit_password_hashing_sha512" } else { "rabbit_password_hashing_sha256" };
    let (kind, len) = match algorithm.unwrap_or(by_len) {
        "rabbit_password_hashing_sha256" => ("rabbit-sha256", 36),
        "rabbit_password_hashing_sha512" => ("rabbit-sha512", 68),
        other => bail!("hashing algorithm '{other}' is not supported; sha256 and sha512 are"),
    };
    if bytes.len() != len {
        bail!("the password hash has {} bytes; {kind} has {len}: 4 of salt and the digest", bytes.len());
    }
    Ok(format!("{kind}:{hash}"))
}

/// A hash as definitions have it, with the name of its algorithm; the reverse of [`import`].
pub fn export(hash: &str) -> (&str, &'static str) {
    match hash.split_once(':') {
        Some(("rabbit-sha256", encoded)) => (encoded, "rabbit_password_hashing_sha256"),
        Some(("rabbit-sha512", encoded)) => (encoded, "rabbit_password_hashing_sha512"),
        _ if hash.is_empty() => ("", "rabbit_password_hashing_sha256"),
        _ if hash.starts_with(scram::MECHANISM) => (hash, "scram-sha-256"),
        _ => (hash, "argon2id"),
    }
}

fn verify(hash: &str, password: &[u8]) -> bool {
    if let Some((kind @ ("rabbit-sha256" | "rabbit-sha512"), encoded)) = hash.split_once(':') {
        let Ok(bytes) = STANDARD.decode(encoded) else { return false };
        let Some((salt, digest)) = bytes.split_at_checked(4) else { return false };
        return if kind == "rabbit-sha256" {
            equal(&Sha256::new().chain_update(salt).chain_update(password).finalize(), digest)
        } else {
            equal(&Sha512::new().chain_update(salt).chain_update(password).finalize(), digest)
        };
    }
    if let Some(keys) = scram::Keys::read(hash) {
        return keys.fit(password);
    }
    let Ok(parsed) = PasswordHash::new(hash) else { return false };
    argon2().is_ok_and(|argon2| argon2.verify_password(password, &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_hashes_verify() {
        for algorithm in [None, Some("argon2id"), Some("scram-sha-256")] {
            let hash = hash("secret", algorithm).unwrap();
            assert!(verify(&hash, b"secret") && !verify(&hash, b"Secret") && !verify("", b""));
            assert_eq!(import(&hash, Some(export(&hash).1)).unwrap(), hash);
        }
        assert!(hash("secret", Some("md5")).is_err());
    }

    #[test]
    fn rabbitmqs_hashes_verify() {
        // The example of RabbitMQ's documentation: salt 908D C60A, password "test12".
        let hash = import("kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR", None).unwrap();
        assert!(verify(&hash, b"test12") && !verify(&hash, b"test13"));
        assert!(import("kI3GCqW5", None).is_err());
        assert!(import("x", Some("rabbit_password_hashing_md5")).is_err());
    }
}
