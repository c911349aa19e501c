//! Keys by which tokens are signed (RFC 7517, RFC 7518, RFC 8037), and how signatures are checked.

use std::{fmt, path::Path};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, signature};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;
use x509_parser::{
    oid_registry::{Oid, asn1_rs::oid},
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// `id-Ed25519` (RFC 8410, section 3).
const ED25519: Oid<'_> = oid!(1.3.101.112);

/// A key that signatures are checked by.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// Modulus and exponent, without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// A point of Ed25519.
    Ed25519(Vec<u8>),
    /// A secret that the issuer and the broker share.
    Secret(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "RSA key",
            Self::P256(_) => "P-256 key",
            Self::P384(_) => "P-384 key",
            Self::Ed25519(_) => "Ed25519 key",
            Self::Secret(_) => "shared secret",
        })
    }
}

/// A key with what its holder says of it.
#[derive(Clone, Debug)]
pub struct NamedKey {
    /// Its id.
    pub id: Option<String>,
    /// The only algorithm that it is for, if it names one.
    pub algorithm: Option<String>,
    /// The key.
    pub key: Key,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

fn decode(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()
}

fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// A point of two coordinates of `len` bytes each.
fn point(x: &[u8], y: &[u8], len: usize) -> Option<Vec<u8>> {
    (x.len() == len && y.len() == len).then(|| [&[4], x, y].concat())
}

impl Jwk {
    fn key(&self) -> Option<Key> {
        match (&*self.kty, self.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (decode(self.n.as_ref())?, decode(self.e.as_ref())?);
                Some(Key::Rsa { n: without_zeros(&n), e: without_zeros(&e) })
            }
            ("EC", Some("P-256")) => point(&decode(self.x.as_ref())?, &decode(self.y.as_ref())?, 32).map(Key::P256),
            ("EC", Some("P-384")) => point(&decode(self.x.as_ref())?, &decode(self.y.as_ref())?, 48).map(Key::P384),
            ("OKP", Some("Ed25519")) => decode(self.x.as_ref()).filter(|point| point.len() == 32).map(Key::Ed25519),
            ("oct", _) => decode(self.k.as_ref()).filter(|secret| !secret.is_empty()).map(Key::Secret),
            _ => None,
        }
    }

    fn named(self) -> Option<NamedKey> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        Some(NamedKey { key: self.key()?, id: self.kid, algorithm: self.alg })
    }
}

/// The keys of a set as an issuer publishes it. Keys of kinds that are unknown here are left out, and so are secrets, which
/// nobody publishes.
///
/// # Errors
/// If it is no set.
pub fn read_set(text: &str) -> anyhow::Result<Vec<NamedKey>> {
    let set: JwkSet = serde_json::from_str(text).context("it is no set of keys")?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.named());
    Ok(keys.filter(|key| !matches!(key.key, Key::Secret(_))).collect())
}

/// The key in a file: a public key or certificate in PEM, or a JWK.
///
/// # Errors
/// If there is none that can be used.
pub fn read_file(path: &Path) -> anyhow::Result<NamedKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = if text.trim_start().starts_with('{') {
        let jwk: Jwk = serde_json::from_str(&text).with_context(|| format!("{} is no JWK", path.display()))?;
        jwk.named()
    } else {
        read_pem(text.as_bytes()).map(|key| NamedKey { id: None, algorithm: None, key })
    };
    key.with_context(|| format!("there is no key in {} that signatures can be checked by", path.display()))
}

fn read_pem(text: &[u8]) -> Option<Key> {
    if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(text) {
        return of_info(&SubjectPublicKeyInfo::from_der(&der).ok()?.1);
    }
    let der = CertificateDer::from_pem_slice(text).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    of_info(certificate.public_key())
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Option<Key> {
    if info.algorithm.algorithm == ED25519 {
        return Some(info.subject_public_key.data.to_vec()).filter(|point| point.len() == 32).map(Key::Ed25519);
    }
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(Key::Rsa { n: without_zeros(key.modulus), e: without_zeros(key.exponent) }),
        PublicKey::EC(point) => match point.data().len() {
            65 => Some(Key::P256(point.data().to_vec())),
            97 => Some(Key::P384(point.data().to_vec())),
            _ => None,
        },
        _ => None,
    }
}

impl NamedKey {
    /// Whether a signature by an algorithm (RFC 7518, section 3.1) is this key's.
    ///
    /// # Errors
    /// If it is not, or the key is not for that algorithm.
    pub fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> anyhow::Result<()> {
        if self.algorithm.as_deref().is_some_and(|only| only != algorithm) {
            bail!("the key is not for {algorithm}");
        }
        let is_good = match (&self.key, algorithm) {
            (Key::Rsa { n, e }, _) => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => bail!("the key is not for {algorithm}"),
                };
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Key::P256(point), "ES256") => {
                let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (Key::P384(point), "ES384") => {
                let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            (Key::Ed25519(point), "EdDSA" | "Ed25519") => {
                signature::UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature).is_ok()
            }
            (Key::Secret(secret), "HS256") => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), message, signature).is_ok()
            }
            _ => bail!("the key is not for {algorithm}"),
        };
        if is_good { Ok(()) } else { bail!("the signature is wrong") }
    }
}
