//! Tokens good and bad, and an issuer who changes his keys.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::json;

use super::*;

/// An issuer's key pair.
struct Signer {
    id: String,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
        Self { id: id.into(), pair }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": x, "y": y })
    }

    fn sign(&self, claims: &Value) -> Vec<u8> {
        let signed = unsigned(&json!({ "alg": "ES256", "kid": self.id }), claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes()
    }
}

fn unsigned(head: &Value, claims: &Value) -> String {
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{head}.{claims}")
}

fn claims(clock: Clock) -> Value {
    let now = clock.now().0 / 1000;
    json!({ "sub": "alice", "aud": ["other", "rabbitmq"], "exp": now + 60, "nbf": now - 60, "iss": "https://issuer",
        "scope": "rabbitmq.read:*/q-* rabbitmq.tag:management staff" })
}

/// A broker that knows one key from a file.
fn oauth(signer: &Signer, change: impl FnOnce(&mut config::OAuth2)) -> OAuth {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), signer.jwk().to_string()).unwrap();
    let mut settings = config::OAuth2 { resource_server_id: "rabbitmq".into(), ..config::OAuth2::default() };
    settings.keys.insert(signer.id.clone(), file.path().into());
    change(&mut settings);
    OAuth::new(&settings, Clock::start()).unwrap()
}

async fn accepted(oauth: &OAuth, token: &[u8]) -> Identified {
    match oauth.authenticate(token).await {
        Verdict::Accepted(identified) => identified,
        other => panic!("{other:?}"),
    }
}

async fn refused(oauth: &OAuth, token: &[u8]) -> String {
    match oauth.authenticate(token).await {
        Verdict::Refused(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn queue(name: &str) -> Resource {
    Resource { kind: "queue", name: name.into(), vhost: "/".into() }
}

#[tokio::test]
async fn a_token_says_who_it_is_and_what_he_may_do() {
    let signer = Signer::new("k");
    let oauth = oauth(&signer, |settings| {
        settings.scope_aliases.insert("staff".into(), vec!["rabbitmq.write:*/q-*".into()]);
        settings.additional_scopes_key = vec!["realm.roles".into(), "extra".into()];
        settings.preferred_username_claims = vec!["name".into()];
        settings.issuer = Some("https://issuer".into());
    });
    let mut claims = claims(oauth.clock);
    let who = accepted(&oauth, &signer.sign(&claims)).await;
    assert_eq!((&*who.user, &who.tags[..]), ("alice", &["management".into()][..]));
    let may = who.authorization.unwrap();
    assert!(may.may_enter("/") && may.check(Access::Read, &queue("q-1")) && may.check(Access::Write, &queue("q-1")));
    assert!(!may.check(Access::Configure, &queue("q-1")) && !may.check(Access::Read, &queue("r-1")));
    assert!(may.has_tag("management") && may.expires().is_some() && may.is_fixed());
    claims["name"] = "Alice".into();
    claims["realm"] = json!({ "roles": ["rabbitmq.configure:*/q-*"] });
    claims["extra"] = json!({ "rabbitmq": "read:*/r-*", "other": "read:*/s-*" });
    let who = accepted(&oauth, &signer.sign(&claims)).await;
    let may = who.authorization.unwrap();
    assert_eq!(&*who.user, "Alice");
    assert!(may.check(Access::Configure, &queue("q-1")) && may.check(Access::Read, &queue("r-1")));
    assert!(!may.check(Access::Read, &queue("s-1")));
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let signer = Signer::new("k");
    let oauth = oauth(&signer, |settings| settings.issuer = Some("https://issuer".into()));
    let with = |name: &str, value: Value| {
        let mut claims = claims(oauth.clock);
        claims[name] = value;
        signer.sign(&claims)
    };
    let now = oauth.clock.now().0 / 1000;
    for (token, reason) in [
        (with("exp", json!(now - 1)), "expired"),
        (with("exp", json!("soon")), "no time"),
        (with("nbf", json!(now + 60)), "has not come"),
        (with("aud", json!("other")), "audience"),
        (with("aud", json!(null)), "audience"),
        (with("iss", json!("https://other")), "issuer"),
        (with("sub", json!("")), "name its user"),
    ] {
        let text = refused(&oauth, &token).await;
        assert!(text.contains(reason), "{reason}: {text}");
    }
    let good = signer.sign(&claims(oauth.clock));
    let mut altered = good.clone();
    let place = altered.iter().position(|byte| *byte == b'.').unwrap() + 5;
    altered[place] ^= 1;
    refused(&oauth, &altered).await;
    assert!(refused(&oauth, &Signer::new("k").sign(&claims(oauth.clock))).await.contains("signature is wrong"));
    assert!(refused(&oauth, &Signer::new("l").sign(&claims(oauth.clock))).await.contains("key is unknown"));
    for (head, problem) in [
        (json!({ "alg": "none", "kid": "k" }), "signed by 'none'"),
        // A public key is no secret, whatever the head says.
        (json!({ "alg": "HS256", "kid": "k" }), "not for HS256"),
        (json!({ "alg": "RS256", "kid": "k" }), "not for RS256"),
        (json!({ "alg": "ES256", "kid": "k", "crit": ["exp"] }), "critical"),
    ] {
        let signed = unsigned(&head, &claims(oauth.clock));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signer.pair.public_key().as_ref()), signed.as_bytes());
        let text = refused(&oauth, format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)).as_bytes()).await;
        assert!(text.contains(problem), "{problem}: {text}");
    }
    for none in [&b""[..], b"guest", b"a.b.c", b"..", b"e30.e30", b"e30.e30.\xff"] {
        refused(&oauth, none).await;
    }
}

#[tokio::test]
async fn a_shared_secret_signs_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("a secret of more than thirty bytes") });
    std::fs::write(file.path(), secret.to_string()).unwrap();
    let mut settings = config::OAuth2 { resource_server_id: "rabbitmq".into(), ..config::OAuth2::default() };
    settings.keys.insert("s".into(), file.path().into());
    settings.default_key = Some("s".into());
    let oauth = OAuth::new(&settings, Clock::start()).unwrap();
    let signed = unsigned(&json!({ "alg": "HS256" }), &claims(oauth.clock));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of more than thirty bytes");
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes())));
    accepted(&oauth, token.as_bytes()).await;
}

#[tokio::test]
async fn ed25519_signs_too() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let point = pair.public_key().as_ref();
    // What stands before the key in its DER form (RFC 8410, section 4).
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], point].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der));
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(point) }).to_string();
    for written in [jwk, pem] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), written).unwrap();
        let mut settings = config::OAuth2 { resource_server_id: "rabbitmq".into(), ..config::OAuth2::default() };
        settings.keys.insert("e".into(), file.path().into());
        settings.default_key = Some("e".into());
        let oauth = OAuth::new(&settings, Clock::start()).unwrap();
        let signed = unsigned(&json!({ "alg": "EdDSA" }), &claims(oauth.clock));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
        accepted(&oauth, format!("{signed}.{signature}").as_bytes()).await;
        let other = URL_SAFE_NO_PAD.encode(pair.sign(b"something else"));
        refused(&oauth, format!("{signed}.{other}").as_bytes()).await;
    }
}

#[tokio::test]
async fn a_grant_ends_with_its_token() {
    let clock = Clock::start();
    let scopes = Scopes::read(["read:*/*", "tag:administrator"], "");
    let grant = Grant { scopes: scopes.clone(), expires: Some(clock.now()), clock };
    assert!(!grant.may_enter("/") && !grant.check(Access::Read, &queue("q")) && !grant.has_tag("administrator"));
    let grant = Grant { scopes, expires: None, clock };
    assert!(grant.may_enter("/") && grant.check(Access::Read, &queue("q")) && grant.has_tag("administrator"));
}

/// An issuer on this machine: what it publishes, and how often it was asked for its keys.
struct Issuer {
    address: String,
    published: Arc<Mutex<(Vec<Value>, usize)>>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let published: Arc<Mutex<(Vec<Value>, usize)>> = Arc::default();
        let issuer = Self { address: address.clone(), published: Arc::clone(&published) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let answer = if lines[0].starts_with("GET /.well-known/openid-configuration ") {
                    json!({ "issuer": address, "jwks_uri": format!("{address}/keys") })
                } else {
                    let mut published = published.lock();
                    published.1 += 1;
                    json!({ "keys": published.0 })
                }
                .to_string();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
                stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
            }
        });
        issuer
    }

    fn publish(&self, signers: &[&Signer]) {
        self.published.lock().0 = signers.iter().map(|signer| signer.jwk()).collect();
    }

    fn asked(&self) -> usize {
        self.published.lock().1
    }

    fn client(&self, refresh_s_min: u64) -> OAuth {
        let settings = config::OAuth2 {
            resource_server_id: "rabbitmq".into(),
            issuer: Some(self.address.clone()),
            jwks_refresh_s_min: refresh_s_min,
            ..config::OAuth2::default()
        };
        OAuth::new(&settings, Clock::start()).unwrap()
    }

    fn token(&self, signer: &Signer, clock: Clock) -> Vec<u8> {
        let mut claims = claims(clock);
        claims["iss"] = self.address.clone().into();
        signer.sign(&claims)
    }
}

#[tokio::test]
async fn keys_are_fetched_when_an_issuer_changes_them() {
    let issuer = Issuer::start();
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    issuer.publish(&[&old]);
    let oauth = issuer.client(0);
    let (old_token, new_token) = (issuer.token(&old, oauth.clock), issuer.token(&new, oauth.clock));
    for _ in 0..3 {
        accepted(&oauth, &old_token).await;
    }
    assert_eq!(issuer.asked(), 1, "keys that are known are not fetched again");
    issuer.publish(&[&new]);
    accepted(&oauth, &new_token).await;
    assert_eq!(issuer.asked(), 2);
    assert!(refused(&oauth, &old_token).await.contains("key is unknown"), "what was withdrawn is gone");
}

#[tokio::test]
async fn tokens_with_unknown_keys_do_not_have_keys_fetched_over_and_over() {
    let issuer = Issuer::start();
    let (known, unknown) = (Signer::new("known"), Signer::new("unknown"));
    issuer.publish(&[&known]);
    let oauth = issuer.client(600);
    accepted(&oauth, &issuer.token(&known, oauth.clock)).await;
    for _ in 0..5 {
        refused(&oauth, &issuer.token(&unknown, oauth.clock)).await;
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_refuses_nobody_for_good() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let settings =
        config::OAuth2 { resource_server_id: "rabbitmq".into(), jwks_uri: Some(address), ..config::OAuth2::default() };
    let oauth = OAuth::new(&settings, Clock::start()).unwrap();
    let token = Signer::new("k").sign(&claims(oauth.clock));
    for _ in 0..2 {
        assert!(matches!(oauth.authenticate(&token).await, Verdict::Unavailable(_)));
    }
}
