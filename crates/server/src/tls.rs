//! TLS by rustls: certificate, key, and, if asked for, certificates of clients.

use std::{net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context, bail};
use broker::Name;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use x509_parser::{
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    x509::X509Name,
};

use crate::{
    auth::escape_dn,
    config::{LoginFrom, SanType, Tls},
};

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

/// The certificates in a file (PEM).
///
/// # Errors
/// If there are none.
pub fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates =
        CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))?;
    let certificates: Vec<_> =
        certificates.collect::<Result<_, _>>().with_context(|| format!("in {}", path.display()))?;
    if certificates.is_empty() {
        bail!("no certificate in {}", path.display());
    }
    Ok(certificates)
}

/// The user's name in a client's certificate: the user that EXTERNAL logs in.
pub fn user_name(certificate: &CertificateDer<'_>, tls: &Tls) -> Option<Name> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    match tls.login_from {
        LoginFrom::CommonName => parsed.subject().iter_common_name().next()?.as_str().ok().map(Name::from),
        LoginFrom::DistinguishedName => distinguished_name(parsed.subject()),
        LoginFrom::SubjectAlternativeName => {
            let names = &parsed.subject_alternative_name().ok()??.value.general_names;
            let mut names = names.iter().filter_map(|name| alternative_name(name, tls.login_san_type));
            names.nth(tls.login_san_index)
        }
    }
}

/// A subject's whole name in the form of RFC 4514: its last part first, as RabbitMQ has it too.
fn distinguished_name(subject: &X509Name<'_>) -> Option<Name> {
    let parts = subject.iter_rdn().map(|rdn| {
        let parts = rdn.iter().map(|attribute| {
            let name = match oid2abbrev(attribute.attr_type(), oid_registry()) {
                Ok(name) => name.to_owned(),
                Err(_) => attribute.attr_type().to_id_string(),
            };
            Some(format!("{name}={}", escape_dn(attribute.as_str().ok()?)))
        });
        parts.collect::<Option<Vec<_>>>().map(|parts| parts.join("+"))
    });
    let mut parts = parts.collect::<Option<Vec<_>>>()?;
    parts.reverse();
    Some(parts.join(",").into()).filter(|name: &Name| !name.is_empty())
}

fn alternative_name(name: &GeneralName<'_>, kind: SanType) -> Option<Name> {
    match (name, kind) {
        (GeneralName::DNSName(name), SanType::Dns)
        | (GeneralName::RFC822Name(name), SanType::Email)
        | (GeneralName::URI(name), SanType::Uri) => Some((*name).into()),
        (GeneralName::IPAddress(bytes), SanType::Ip) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()?;
            Some(address.to_string().into())
        }
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType as San};

    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Example, Inc.");
        name.push(DnType::CommonName, "device-7");
        params.distinguished_name = name;
        params.subject_alt_names = vec![
            San::DnsName("one.example".try_into().unwrap()),
            San::Rfc822Name("d7@example.org".try_into().unwrap()),
            San::DnsName("two.example".try_into().unwrap()),
            San::URI("spiffe://example/d7".try_into().unwrap()),
            San::IpAddress("10.0.0.7".parse().unwrap()),
        ];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_names_its_user() {
        let certificate = certificate();
        let name =
            |settings: &str| user_name(&certificate, &toml::from_str(settings).unwrap()).map(|name| name.to_string());
        let alternative = |kind, index| {
            name(&format!(
                "login_from = 'subject_alternative_name'\nlogin_san_type = '{kind}'\nlogin_san_index = {index}"
            ))
        };
        assert_eq!(name("").as_deref(), Some("device-7"));
        assert_eq!(name("login_from = 'distinguished_name'").as_deref(), Some("CN=device-7,O=Example\\, Inc."));
        assert_eq!(alternative("dns", 0).as_deref(), Some("one.example"));
        assert_eq!(alternative("dns", 1).as_deref(), Some("two.example"));
        assert_eq!(alternative("dns", 2), None);
        assert_eq!(alternative("email", 0).as_deref(), Some("d7@example.org"));
        assert_eq!(alternative("uri", 0).as_deref(), Some("spiffe://example/d7"));
        assert_eq!(alternative("ip", 0).as_deref(), Some("10.0.0.7"));
    }
}
