//! The certificate authority of one run. Its key lives and dies with the run, in memory only.

use crate::error::InjectError;
use crate::limits::MAX_LEAVES;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::PrivateKeyDer;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime};

/// How long before and after the run's start its certificates are valid. Clocks inside a sandbox are ours,
/// so the slack is for rounding only; no run is longer than the limits allow, which is far below a day.
const VALID_BEFORE: Duration = Duration::hours(1);
const VALID_AFTER: Duration = Duration::hours(24);
/// Bytes of a serial number (RFC 5280 §4.1.2.2 allows 20).
const SERIAL_BYTES: usize = 16;

/// Makes a certificate for any name that the code asks for. Whether the name is allowed is decided later,
/// by [`crate::target`], so that the code can read why not.
pub(crate) struct RunCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    not_before: OffsetDateTime,
    /// One key for all leaves of a run: nobody but the run's own code ever sees them.
    leaf_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl RunCa {
    /// Makes an authority with a fresh P-256 key.
    pub(crate) fn new(provider: &CryptoProvider) -> Result<Self, InjectError> {
        let failed = |error: rcgen::Error| InjectError::Authority(error.to_string());
        let now = OffsetDateTime::now_utc();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = params(now, "oauth3 run CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let signing_key =
            provider.key_provider.load_private_key(der).map_err(|error| InjectError::Authority(error.to_string()))?;
        let leaves = Mutex::default();
        Ok(Self { issuer: Issuer::new(params, key), pem, not_before: now, leaf_key, signing_key, leaves })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// The configuration with which the code's TLS is ended: HTTP/2 or HTTP/1.1, no resumption, so that every
    /// connection names its host anew.
    pub(crate) fn server_config(self: &Arc<Self>, provider: Arc<CryptoProvider>) -> Result<ServerConfig, InjectError> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| InjectError::Authority(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn leaf(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            return Some(Arc::clone(leaf));
        }
        if leaves.len() >= MAX_LEAVES {
            return None;
        }
        let leaf = Arc::new(self.issue(name).ok()?);
        leaves.insert(name.to_owned(), Arc::clone(&leaf));
        Some(leaf)
    }

    fn issue(&self, name: &str) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        let base = self::params(self.not_before, "oauth3 run");
        params.not_before = base.not_before;
        params.not_after = base.not_after;
        params.distinguished_name = base.distinguished_name;
        params.serial_number = base.serial_number;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::clone(&self.signing_key)))
    }
}

fn params(now: OffsetDateTime, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = now - VALID_BEFORE;
    params.not_after = now + VALID_AFTER;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let mut serial = [0; SERIAL_BYTES];
    // Without randomness the default stands: a digest of the public key. It only has to differ between leaves
    // for the sake of clients that remember serials.
    if getrandom::fill(&mut serial).is_ok() {
        params.serial_number = Some(SerialNumber::from_slice(&serial));
    }
    params
}

impl ResolvesServerCert for RunCa {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(&hello.server_name()?.to_ascii_lowercase())
    }
}

impl fmt::Debug for RunCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunCa").finish_non_exhaustive()
    }
}
