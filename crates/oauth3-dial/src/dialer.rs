//! Makes checked connections.

use crate::DialError;
use crate::ahead::ReadAhead;
use crate::resolve::{Reach, Resolve, SystemResolver, checked_addresses};
use crate::roots::client_config;
use oauth3_core::Host;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longest wait for one address to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A TLS connection to a host.
pub type Tls = TlsStream<ReadAhead<TcpStream>>;

/// The owner's `[egress]` settings.
#[derive(Debug, Clone, Default)]
pub struct DialConfig {
    /// These names (or `name:port`, which goes first) dial these addresses, whatever they are. The certificate
    /// is still checked against the name.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// Authorities to trust besides the system's: the contents of PEM files, one or more certificates each.
    pub extra_ca: Vec<Vec<u8>>,
    /// Names that may resolve to addresses that are not public.
    pub allow_private: BTreeSet<String>,
}

/// Dials hosts: resolves once, checks every answer, connects to a checked address, verifies the certificate.
/// Cheap to clone; clones share TLS sessions.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    resolve: BTreeMap<String, SocketAddr>,
    allow_private: BTreeSet<String>,
    resolver: Box<dyn Resolve>,
    http1: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
}

/// What a connection offers to speak (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2, or HTTP/1.1 with a host that has nothing else.
    Any,
}

/// What is dialled: a name, or for the owner's own configuration an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Name(String),
    Address(IpAddr),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Dialer {
    /// Reads the system's authorities and the owner's. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`DialError::ExtraCa`] when an authority cannot be read.
    pub fn new(config: DialConfig) -> Result<Self, DialError> {
        Self::with_resolver(config, Box::new(SystemResolver))
    }

    fn with_resolver(config: DialConfig, resolver: Box<dyn Resolve>) -> Result<Self, DialError> {
        let http1 = client_config(&config.extra_ca)?;
        let mut any = http1.clone();
        any.alpn_protocols.insert(0, b"h2".to_vec());
        let lower = |name: &String| name.to_ascii_lowercase();
        Ok(Self(Arc::new(Inner {
            resolve: config.resolve.iter().map(|(name, address)| (lower(name), *address)).collect(),
            allow_private: config.allow_private.iter().map(lower).collect(),
            resolver,
            http1: Arc::new(http1),
            any: Arc::new(any),
        })))
    }

    /// Connects to a host over TLS. What it agreed to speak is in the connection's ALPN.
    ///
    /// # Errors
    /// When the name does not resolve or resolves to an address that is not public, when no address answers in
    /// time, or when the certificate does not prove the name.
    pub async fn connect_tls(&self, host: &Host, protocols: Protocols) -> Result<Tls, DialError> {
        self.tls(&Place::Name(host.name().to_owned()), host.port(), Reach::Public, protocols).await
    }

    /// Connects over TLS to a host that the owner's own configuration names, wherever it is.
    ///
    /// # Errors
    /// As [`Dialer::connect_tls`], but for addresses that are not public.
    pub async fn connect_owners_tls(&self, host: &Host, protocols: Protocols) -> Result<Tls, DialError> {
        self.tls(&Place::Name(host.name().to_owned()), host.port(), Reach::Anywhere, protocols).await
    }

    /// Connects in clear to a host that the owner's own configuration names, wherever it is.
    ///
    /// # Errors
    /// When the name does not resolve or no address answers in time.
    pub async fn connect_owners_plain(&self, host: &Host) -> Result<TcpStream, DialError> {
        self.tcp(&Place::Name(host.name().to_owned()), host.port(), Reach::Anywhere).await
    }

    /// Connects in clear to an address that the owner's own configuration names.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn connect_owners_address(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        self.tcp(&Place::Address(address.ip()), address.port(), Reach::Anywhere).await
    }

    /// Connects in clear to a host of the web.
    ///
    /// # Errors
    /// As [`Dialer::connect_tls`], but for the certificate.
    pub async fn connect_plain(&self, host: &Host) -> Result<TcpStream, DialError> {
        self.tcp(&Place::Name(host.name().to_owned()), host.port(), Reach::Public).await
    }

    pub(crate) async fn tls(
        &self,
        place: &Place,
        port: u16,
        reach: Reach,
        protocols: Protocols,
    ) -> Result<Tls, DialError> {
        let server_name = match place {
            Place::Address(address) => ServerName::from(*address),
            Place::Name(name) => ServerName::try_from(name.clone()).map_err(|_| DialError::Unresolved(name.clone()))?,
        };
        let stream = self.tcp(place, port, reach).await?;
        let config = match protocols {
            Protocols::Http1 => &self.0.http1,
            Protocols::Any => &self.0.any,
        };
        let handshake = TlsConnector::from(Arc::clone(config)).connect(server_name, ReadAhead::new(stream));
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| DialError::Timeout { host: place.to_string(), step: "the TLS handshake" })?
            .map_err(|error| {
                tracing::debug!(host = %place, %error, "TLS failed");
                DialError::tls(&place.to_string(), &error)
            })
    }

    pub(crate) async fn tcp(&self, place: &Place, port: u16, reach: Reach) -> Result<TcpStream, DialError> {
        let addresses = match place {
            Place::Address(address) => vec![SocketAddr::new(*address, port)],
            Place::Name(name) => self.addresses(name, port, reach).await?,
        };
        let mut failure = DialError::Unresolved(place.to_string());
        for address in addresses {
            match connect(address).await {
                Ok(stream) => {
                    // Small requests must not wait for a full segment; a socket that cannot do it works all the same.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(Some(kind)) => failure = DialError::Connect { host: place.to_string(), kind },
                Err(None) => failure = DialError::Timeout { host: place.to_string(), step: "connecting" },
            }
        }
        Err(failure)
    }

    async fn addresses(&self, name: &str, port: u16, reach: Reach) -> Result<Vec<SocketAddr>, DialError> {
        let mapped = self.0.resolve.get(&format!("{name}:{port}")).or_else(|| self.0.resolve.get(name));
        if let Some(address) = mapped {
            return Ok(vec![*address]);
        }
        let reach = if self.0.allow_private.contains(name) { Reach::Anywhere } else { reach };
        checked_addresses(self.0.resolver.as_ref(), name, port, reach).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

/// Connects to one checked address; `Err(None)` when it took too long.
#[allow(clippy::disallowed_methods, reason = "the one place from which outward connections are made")]
async fn connect(address: SocketAddr) -> Result<TcpStream, Option<io::ErrorKind>> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Some(error.kind())),
        Err(_) => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;

    /// Answers loopback for every name and counts the questions.
    struct Loopback(Arc<AtomicUsize>);

    #[async_trait]
    impl Resolve for Loopback {
        async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(vec![[127, 0, 0, 1].into()])
        }
    }

    fn dialer(config: DialConfig) -> (Dialer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        (Dialer::with_resolver(config, Box::new(Loopback(Arc::clone(&asked)))).unwrap(), asked)
    }

    fn name(text: &str) -> Place {
        Place::Name(text.into())
    }

    #[tokio::test]
    async fn only_listed_names_may_be_private() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dialer, _) =
            dialer(DialConfig { allow_private: ["Git.Home.Arpa".into()].into(), ..DialConfig::default() });
        assert!(dialer.tcp(&name("git.home.arpa"), port, Reach::Public).await.is_ok());
        let refused = dialer.tcp(&name("other.home.arpa"), port, Reach::Public).await.unwrap_err();
        assert_eq!(refused, DialError::NotPublic("other.home.arpa".into()));
    }

    #[tokio::test]
    async fn a_mapped_name_is_never_looked_up_and_a_port_goes_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let resolve = [("api.test:8443".to_owned(), address), ("api.test".to_owned(), nobody)].into();
        let (dialer, asked) = dialer(DialConfig { resolve, ..DialConfig::default() });
        assert!(dialer.tcp(&name("api.test"), 8443, Reach::Public).await.is_ok());
        assert!(matches!(
            dialer.tcp(&name("api.test"), 443, Reach::Public).await,
            Err(DialError::Connect { kind: io::ErrorKind::ConnectionRefused, .. })
        ));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_for_each_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dialer, asked) = dialer(DialConfig::default());
        dialer.tcp(&name("a.test"), port, Reach::Anywhere).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
