//! Whom to believe: the system's authorities, and the owner's.

use crate::DialError;
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

/// The one TLS configuration of a process, offering HTTP/1.1; its session cache is shared by every connection.
pub(crate) fn client_config(extra_ca: &[Vec<u8>]) -> Result<ClientConfig, DialError> {
    let setup = |error: rustls::Error| DialError::Setup(error.to_string());
    let provider = Arc::new(crypto_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots(rustls_native_certs::load_native_certs().certs, extra_ca)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The cryptography of TLS, with AES-128 first, as browsers have it: every implementation knows it (RFC 8446 §9.1), and
/// it takes 10 rounds for each block where AES-256, which the library prefers, takes 14 (FIPS 197).
#[must_use]
pub fn crypto_provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// The certificates of the system's authorities, DER.
#[must_use]
pub fn system_authorities() -> Vec<Vec<u8>> {
    rustls_native_certs::load_native_certs().certs.into_iter().map(|certificate| certificate.to_vec()).collect()
}

/// The system's authorities, or Mozilla's when the system has none (a bare container), and the owner's.
fn roots(system: Vec<CertificateDer<'static>>, extra_ca: &[Vec<u8>]) -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    // Systems carry the odd certificate that no verifier reads; each is skipped.
    if roots.add_parsable_certificates(system).0 == 0 {
        tracing::info!("this system has no certificate authorities; using the built-in ones");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for (index, pem) in extra_ca.iter().enumerate() {
        let unreadable = || DialError::ExtraCa(index + 1);
        let mut found = false;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
            found = true;
        }
        if !found {
            return Err(unreadable());
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cipher_suite_of_the_library_is_there_and_the_one_of_all_comes_first() {
        let suites = |provider: CryptoProvider| provider.cipher_suites.iter().map(|s| s.suite()).collect::<Vec<_>>();
        let (ours, all) = (suites(crypto_provider()), suites(rustls::crypto::aws_lc_rs::default_provider()));
        assert_eq!(ours[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(ours.len(), all.len());
        assert!(all.iter().all(|suite| ours.contains(suite)));
    }

    #[test]
    fn a_system_without_authorities_falls_back() {
        assert_eq!(roots(Vec::new(), &[]).unwrap().len(), webpki_roots::TLS_SERVER_ROOTS.len());
    }

    #[test]
    fn an_unreadable_authority_is_an_error() {
        for bad in ["", "no PEM at all", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(roots(Vec::new(), &[bad.into()]).unwrap_err(), DialError::ExtraCa(1), "{bad:?}");
        }
    }
}
