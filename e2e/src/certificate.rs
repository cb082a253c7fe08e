//! Certificates for servers that a test starts.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate for some names, from an authority of its own.
pub struct Certificate {
    names: Vec<String>,
    ca_pem: String,
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

impl Certificate {
    /// For these names.
    pub fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut ca = CertificateParams::new(vec![]).expect("parameters");
        // OpenSSL takes a certificate whose issuer has its own name for self-signed.
        ca.distinguished_name.push(DnType::CommonName, "Authority of a test");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("key")).expect("ca");
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::new(names.clone()).expect("name");
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key, &issuer).expect("leaf");
        Self { names, ca_pem: issuer.pem(), pem: leaf.pem(), der: leaf.der().clone(), key }
    }

    /// What a server in this process needs.
    pub fn server_config(&self) -> rustls::ServerConfig {
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], PrivateKeyDer::Pkcs8(self.key.serialize_der().into()))
            .expect("certificate")
    }

    /// Writes what another server needs into `dir`: certificate and key.
    pub fn write(&self, dir: &Path) -> [PathBuf; 2] {
        let path = |what: &str| dir.join(format!("{}-{what}.pem", self.names.join("-")));
        std::fs::write(path("cert"), &self.pem).expect("write the certificate");
        std::fs::write(path("key"), self.key.serialize_pem()).expect("write the key");
        [path("cert"), path("key")]
    }

    /// Writes the authority's certificate into `dir` and gives its path.
    pub fn write_ca(&self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{}-ca.pem", self.names.join("-")));
        std::fs::write(&path, &self.ca_pem).expect("write the authority");
        path
    }

    /// An `[egress]` section that leads the names to an address and trusts the authority.
    pub fn egress(&self, dir: &Path, address: std::net::SocketAddr) -> String {
        let ca = self.write_ca(dir);
        let resolve: Vec<String> = self.names.iter().map(|name| format!("\"{name}\" = \"{address}\"")).collect();
        format!("[egress]\nresolve = {{ {} }}\nextra_ca = [\"{}\"]\n", resolve.join(", "), ca.display())
    }
}
