//! Requests to other servers, by HTTP and HTTPS.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use ureq::{
    Agent, http,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::tls;

/// Longest answer, in bytes.
const ANSWER_BYTES: u64 = 1024 * 1024;

/// Asks by HTTP, and waits a limited time for each answer. Redirections are not followed: who is asked is configured.
#[derive(Clone, Debug)]
pub struct Web {
    agent: Agent,
}

/// Certificates of the authorities that servers are trusted by: those of a file, or the system's.
///
/// # Errors
/// If the file cannot be read.
fn authorities(ca: Option<&Path>) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    match ca {
        Some(path) => tls::certificates(path),
        None => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

/// How connections to servers are encrypted.
///
/// # Errors
/// If the file of authorities cannot be read.
pub fn client_config(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // The system may have some that nobody can read.
    roots.add_parsable_certificates(authorities(ca)?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

impl Web {
    /// Trusts the authorities of a file, or the system's.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn new(ca: Option<&Path>, within: Duration) -> anyhow::Result<Self> {
        let authorities: Vec<_> =
            authorities(ca)?.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::from(authorities))
            .build();
        let config =
            Agent::config_builder().tls_config(tls).timeout_global(Some(within)).max_redirects(0).proxy(None).build();
        Ok(Self { agent: config.new_agent() })
    }

    /// Gets what is at an address.
    ///
    /// # Errors
    /// If there is no answer in time, or it is not a good one.
    pub async fn get(&self, address: &str) -> anyhow::Result<String> {
        let (agent, owned) = (self.agent.clone(), address.to_owned());
        let work = move || read(agent.get(&owned).call());
        blocking(work).await.with_context(|| format!("GET {address}"))
    }

    /// Gets what is at an address with parameters.
    ///
    /// # Errors
    /// As [`Web::get`]. The text does not tell the parameters.
    pub async fn query(&self, address: &str, parameters: Vec<(&'static str, String)>) -> anyhow::Result<String> {
        let (agent, owned) = (self.agent.clone(), address.to_owned());
        let work = move || read(agent.get(&owned).query_pairs(parameters).call());
        blocking(work).await.with_context(|| format!("GET {address}"))
    }

    /// Posts a form.
    ///
    /// # Errors
    /// As [`Web::get`].
    pub async fn post(&self, address: &str, form: Vec<(&'static str, String)>) -> anyhow::Result<String> {
        let (agent, owned) = (self.agent.clone(), address.to_owned());
        let work = move || read(agent.post(&owned).send_form(form));
        blocking(work).await.with_context(|| format!("POST {address}"))
    }

    /// Posts JSON, with further headers.
    ///
    /// # Errors
    /// As [`Web::get`].
    pub async fn post_json(
        &self,
        address: &str,
        headers: &BTreeMap<String, String>,
        json: String,
    ) -> anyhow::Result<String> {
        let mut request = self.agent.post(address).header("Content-Type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        blocking(move || read(request.send(json))).await.with_context(|| format!("POST {address}"))
    }
}

/// Longest answer to a person's request, in bytes: lists may be long.
const LIST_BYTES: u64 = 1024 * 1024 * 1024;

impl Web {
    /// Asks anything, and waits on this thread. Returns the status and what is answered, whatever it is.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub fn ask(
        &self,
        (method, address): (&str, &str),
        authorization: Option<&str>,
        body: Option<String>,
    ) -> anyhow::Result<(u16, String)> {
        let mut request = http::Request::builder().method(method).uri(address);
        if let Some(authorization) = authorization {
            request = request.header(http::header::AUTHORIZATION, authorization);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header(http::header::CONTENT_TYPE, "application/json").body(body)?;
                self.agent.run(self.agent.configure_request(request).http_status_as_error(false).build())
            }
            None => self.agent.run(self.agent.configure_request(request.body(())?).http_status_as_error(false).build()),
        };
        let mut answer = answer.with_context(|| format!("{method} {address}"))?;
        let text = answer.body_mut().with_config().limit(LIST_BYTES).read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }
}

async fn blocking(work: impl FnOnce() -> anyhow::Result<String> + Send + 'static) -> anyhow::Result<String> {
    tokio::task::spawn_blocking(work).await.context("the request came to nothing")?
}

fn read(answer: Result<http::Response<ureq::Body>, ureq::Error>) -> anyhow::Result<String> {
    let mut answer = match answer {
        Ok(answer) => answer,
        // An error's text may have the whole address in it, with a password.
        Err(ureq::Error::StatusCode(code)) => bail!("the answer is {code}"),
        Err(ureq::Error::BadUri(_)) => bail!("that is no address"),
        Err(error) => return Err(error.into()),
    };
    if !answer.status().is_success() {
        bail!("the answer is {}", answer.status().as_u16());
    }
    Ok(answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_string()?)
}
