//! TLS by rustls: certificate, key, and, if asked for, certificates of clients.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use broker::Name;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::config::Tls;

/// What TLS listeners need; nothing if no certificate is configured.
///
/// # Errors
/// If a file cannot be read or does not hold what it should.
pub fn server_config(tls: &Tls) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let (certificate, key) = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(None),
        _ => bail!("tls.certificate and tls.key go together: one of them is missing"),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match tls.min_version.as_deref() {
        None | Some("1.2") => &[&rustls::version::TLS12, &rustls::version::TLS13],
        Some("1.3") => &[&rustls::version::TLS13],
        Some(other) => bail!("tls.min_version is '{other}'; it can be \"1.2\" or \"1.3\""),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).with_context(|| format!("in {}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if tls.client_certificate_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().context("in tls.client_ca")?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("no private key in {}", key.display()))?;
    let config = builder.with_single_cert(certificates(certificate)?, key).context("certificate and key do not fit")?;
    Ok(Some(Arc::new(config)))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))?;
    let certificates: Vec<_> =
        certificates.collect::<Result<_, _>>().with_context(|| format!("in {}", path.display()))?;
    if certificates.is_empty() {
        bail!("no certificate in {}", path.display());
    }
    Ok(certificates)
}

/// The common name in a client's certificate: the user that EXTERNAL logs in.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<Name> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(Name::from)
}

/// When the first certificate of a chain expires, in seconds since 1970.
pub fn expires(path: &Path) -> Option<i64> {
    let certificates = certificates(path).ok()?;
    let ends = certificates.iter().filter_map(|certificate| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    });
    ends.min()
}
