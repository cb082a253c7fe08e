//! Certificate authorities: that of one run, whose key lives and dies with the run, and that of one agent, whose key is
//! derived anew whenever it is needed. Both are in memory only.

use crate::error::InjectError;
use crate::limits::MAX_LEAVES;
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use oauth3_core::AgentName;
use oauth3_vault::SecretBytes;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// How long before and after an authority is made its certificates are valid. Clocks inside a sandbox are ours, so the
/// slack is for rounding only; no run is longer than the limits allow, which is far below a day. Whoever keeps the
/// authority of an agent makes it anew before its leaves end ([`RENEW_AFTER`]).
const VALID_BEFORE: Duration = Duration::hours(1);
const VALID_AFTER: Duration = Duration::hours(24);
/// How long the certificate of an agent's authority is valid: it lies in a file on the agent's side, which is to be
/// written again before then.
const AGENT_VALID_AFTER: Duration = Duration::days(365);
/// Age at which the authority of an agent is to be made anew.
pub const RENEW_AFTER: std::time::Duration = std::time::Duration::from_secs(12 * 60 * 60);
/// Tries to make a P-256 key from a seed. One in 2^32 seeds is no number below the group's order.
const SEED_TRIES: usize = 4;
/// Bytes of a serial number (RFC 5280 §4.1.2.2 allows 20).
const SERIAL_BYTES: usize = 16;

/// Makes a certificate for any name that the code asks for. Whether the name is allowed is decided later,
/// by the module `target`, so that the code can read why not.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    made: OffsetDateTime,
    /// One key for all leaves: nobody but the run's own code, or the one agent, ever sees them.
    leaf_key: KeyPair,
    signing_key: Arc<dyn SigningKey>,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    /// An authority with a fresh P-256 key.
    pub(crate) fn of_run(provider: &CryptoProvider) -> Result<Self, InjectError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        Self::new(provider, key, "oauth3 run CA", VALID_BEFORE, VALID_AFTER)
    }

    /// The authority of an agent. The same `seed` and name make one that the same certificate vouches for.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn of_agent(provider: &CryptoProvider, seed: &SecretBytes, agent: &AgentName) -> Result<Self, InjectError> {
        let name = format!("oauth3 CA of agent {agent}");
        // A day of slack before, for clocks of other machines.
        Self::new(provider, seed.with(key_of)?, &name, VALID_AFTER, AGENT_VALID_AFTER)
    }

    fn new(
        provider: &CryptoProvider,
        key: KeyPair,
        name: &str,
        before: Duration,
        after: Duration,
    ) -> Result<Self, InjectError> {
        let made = OffsetDateTime::now_utc();
        let mut params = params(made - before, made + after, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let der = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
        let signing_key =
            provider.key_provider.load_private_key(der).map_err(|error| InjectError::Authority(error.to_string()))?;
        let leaves = Mutex::default();
        Ok(Self { issuer: Issuer::new(params, key), pem, made, leaf_key, signing_key, leaves })
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The configuration with which the TLS of a client is ended, offering `protocols` (RFC 7301): no resumption, so that
    /// every connection names its host anew.
    ///
    /// # Errors
    /// When the TLS library refuses it.
    pub fn server_config(
        self: &Arc<Self>,
        provider: Arc<CryptoProvider>,
        protocols: &[&[u8]],
    ) -> Result<ServerConfig, InjectError> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| InjectError::Authority(error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // The provider's order, whatever the client would like best.
        config.ignore_client_order = true;
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
            leaves.clear();
        }
        let leaf = Arc::new(self.issue(name).ok()?);
        leaves.insert(name.to_owned(), Arc::clone(&leaf));
        Some(leaf)
    }

    fn issue(&self, name: &str) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        let base = self::params(self.made - VALID_BEFORE, self.made + VALID_AFTER, "oauth3");
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

fn failed(error: rcgen::Error) -> InjectError {
    InjectError::Authority(error.to_string())
}

/// The P-256 key that a seed makes.
fn key_of(seed: &[u8]) -> Result<KeyPair, InjectError> {
    let unfit = || InjectError::Authority("no key can be made from the seed".to_owned());
    let mut number = Zeroizing::new(seed.to_vec());
    for _ in 0..SEED_TRIES {
        if let Ok(secret) = PrivateKey::from_private_key(&ECDH_P256, &number) {
            let public = secret.compute_public_key().map_err(|_| unfit())?;
            let signs = &ECDSA_P256_SHA256_ASN1_SIGNING;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(signs, &number, public.as_ref());
            let written = pair.map_err(|_| unfit())?.to_pkcs8v1().map_err(|_| unfit())?;
            let der = PrivatePkcs8KeyDer::from(written.as_ref());
            return KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(failed);
        }
        number = Zeroizing::new(digest(&SHA256, &number).as_ref().to_vec());
    }
    Err(unfit())
}

fn params(not_before: OffsetDateTime, not_after: OffsetDateTime, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
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

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(&hello.server_name()?.to_ascii_lowercase())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}
