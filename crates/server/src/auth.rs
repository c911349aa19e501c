//! Passwords: hashed with argon2id, checked once and then remembered by a keyed digest, so that many connections of one
//! user cost little. RabbitMQ's own hashes are accepted as they are, and so are the keys of SCRAM-SHA-256.

use std::{collections::HashMap, net::IpAddr, num::NonZero, sync::Arc};

use anyhow::{Context, bail};
use argon2::{
    Algorithm, Argon2, Params, PasswordVerifier, Version,
    password_hash::{PasswordHash, PasswordHasher, SaltString},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Broker, Credentials, Login, SaslOutcome, SaslResponse};
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};
use tokio::sync::Semaphore;

use crate::scram;

/// Users remembered at most.
const REMEMBERED_MAX: usize = 10_000;

/// Checks credentials against the broker's users.
pub struct Authenticator {
    broker: Arc<Broker>,
    loopback_users: Vec<String>,
    /// By user: the hash that was checked, and the digest of the password that passed.
    remembered: Mutex<HashMap<String, (String, [u8; 32])>>,
    key: [u8; 32],
    /// As many checks run at once as there are cores: each takes tens of milliseconds of one, and megabytes.
    turns: Semaphore,
}

impl Authenticator {
    /// Checks against the users of `broker`; `loopback_users` may only connect from this machine.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new(broker: Arc<Broker>, loopback_users: Vec<String>) -> anyhow::Result<Self> {
        let turns = Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get));
        Ok(Self { broker, loopback_users, remembered: Mutex::default(), key: random()?, turns })
    }

    /// The outcome, if it can be told without work: by memory, or because there is nothing to check.
    pub fn quick(&self, credentials: &Credentials, peer: IpAddr) -> Option<Login> {
        let user = credentials.user().as_str();
        let Some(hash) = self.hash_of(user, peer) else { return Some(Login::Refused) };
        match credentials {
            Credentials::Certificate { .. } => Some(Login::Accepted),
            Credentials::Password { password, .. } => {
                let digest = self.digest(user, password);
                let remembered = self.remembered.lock();
                let known = remembered.get(user).is_some_and(|(checked, known)| *checked == hash && *known == digest);
                known.then_some(Login::Accepted)
            }
        }
    }

    /// The hash of a user's password, if there is such a user and he may connect from there.
    fn hash_of(&self, user: &str, peer: IpAddr) -> Option<String> {
        let Some(hash) = self.broker.identity.password_hash(user) else {
            tracing::warn!(user, %peer, "login refused: no such user");
            return None;
        };
        if !peer.is_loopback() && self.loopback_users.iter().any(|name| name == user) {
            tracing::warn!(user, %peer, "login refused: this user may only connect from this machine");
            return None;
        }
        Some(hash)
    }

    /// Answers what a client says in a login of several steps, of which `exchange` keeps what was said before.
    pub fn step(
        &self,
        response: &SaslResponse,
        peer: IpAddr,
        exchange: &mut Option<Box<scram::Exchange>>,
    ) -> SaslOutcome {
        match response {
            SaslResponse::First(message) => self.begin(message, peer, exchange).unwrap_or(SaslOutcome::Refused),
            SaslResponse::Next(message) => {
                let Some(exchange) = exchange.take() else { return SaslOutcome::Refused };
                match exchange.finish(message) {
                    Some(proof) => SaslOutcome::Accepted { user: exchange.user.as_str().into(), proof },
                    None => {
                        tracing::warn!(user = exchange.user, %peer, "login refused: wrong proof of the password");
                        SaslOutcome::Refused
                    }
                }
            }
        }
    }

    fn begin(&self, message: &[u8], peer: IpAddr, exchange: &mut Option<Box<scram::Exchange>>) -> Option<SaslOutcome> {
        let first = scram::First::read(message)?;
        let hash = self.hash_of(&first.user, peer);
        let keys = hash.as_deref().and_then(scram::Keys::read);
        if hash.is_some() && keys.is_none() {
            let user = first.user.as_str();
            tracing::warn!(user, %peer, "login refused: this user's password is not kept for {}", scram::MECHANISM);
        }
        let (begun, challenge) = scram::Exchange::begin(&first, keys, &random::<18>().ok()?, &self.key);
        *exchange = Some(Box::new(begun));
        Some(SaslOutcome::Challenge(challenge))
    }

    /// The outcome after a real check, when it is its turn.
    pub async fn check_in_turn(self: Arc<Self>, credentials: Credentials, peer: IpAddr) -> Login {
        let Ok(_turn) = self.turns.acquire().await else { return Login::Refused };
        // Another connection of the same user may have passed in the meantime.
        if let Some(login) = self.quick(&credentials, peer) {
            return login;
        }
        let authenticator = Arc::clone(&self);
        let check = move || authenticator.check(&credentials, peer);
        tokio::task::spawn_blocking(check).await.unwrap_or(Login::Refused)
    }

    /// The outcome after a real check, which must not run where connections are driven.
    fn check(&self, credentials: &Credentials, peer: IpAddr) -> Login {
        let Credentials::Password { user, password } = credentials else { return Login::Accepted };
        let hash = self.broker.identity.password_hash(user).unwrap_or_default();
        if !verify(&hash, password) {
            tracing::warn!(user = user.as_str(), %peer, "login refused: wrong password");
            return Login::Refused;
        }
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(user.to_string(), (hash, self.digest(user, password)));
        Login::Accepted
    }

    fn digest(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let digest = Sha256::new().chain_update(self.key).chain_update((user.len() as u64).to_be_bytes());
        digest.chain_update(user).chain_update(password).finalize().into()
    }
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
            Sha256::new().chain_update(salt).chain_update(password).finalize().as_slice() == digest
        } else {
            Sha512::new().chain_update(salt).chain_update(password).finalize().as_slice() == digest
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
