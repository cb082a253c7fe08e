//! What can go wrong on the way out, in sentences that name the host and the mend.

use std::io;

/// Why a connection could not be made. Names the host only: never a path, a query, a field or a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// One of the configured authorities cannot be read. Counted from 1.
    #[error("[egress] extra_ca: file {0} holds no readable PEM certificate")]
    ExtraCa(usize),
    /// The TLS library refused its configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The name has no address.
    #[error("{0}: the name does not resolve; check its spelling and this machine's name server")]
    Unresolved(String),
    /// At least one answer for the name is not a public address.
    #[error("{0}: resolves to an address that is not public; list the name in [egress] allow_private if you mean it")]
    NotPublic(String),
    /// No checked address took the connection.
    #[error("{host}: cannot connect ({kind})")]
    Connect {
        /// The name.
        host: String,
        /// What the last address said.
        kind: io::ErrorKind,
    },
    /// A step took longer than its bound.
    #[error("{host}: {step} took too long")]
    Timeout {
        /// The name.
        host: String,
        /// The step.
        step: &'static str,
    },
    /// The certificate does not prove the name, or TLS failed.
    #[error("{host}: {reason}")]
    Tls {
        /// The name.
        host: String,
        /// A sentence of ours.
        reason: &'static str,
    },
}

impl DialError {
    pub(crate) fn tls(host: &str, error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::Tls { host: host.to_owned(), reason: tls_sentence(cause) }
    }
}

fn tls_sentence(error: Option<&rustls::Error>) -> &'static str {
    use rustls::{CertificateError as Bad, Error};
    match error {
        Some(Error::InvalidCertificate(bad)) => match bad {
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "the certificate is for another name",
            Bad::UnknownIssuer => {
                "the certificate comes from an unknown authority; add that to [egress] extra_ca if it is yours"
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "the certificate has expired",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the certificate is not valid yet; check this machine's clock"
            }
            Bad::Revoked => "the certificate was revoked",
            _ => "the certificate is not valid",
        },
        Some(Error::NoApplicationProtocol) => "the server speaks neither HTTP/2 nor HTTP/1.1",
        _ => "the TLS handshake failed",
    }
}
