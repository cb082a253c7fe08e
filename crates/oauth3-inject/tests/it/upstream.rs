//! A real HTTPS server on loopback, and what it received.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;
pub type Handler = Arc<dyn Fn(Parts, Incoming) -> BoxFuture<'static, Reply> + Send + Sync>;

/// A handler that answers so makes the server hang up without an answer.
pub const HANG_UP: u16 = 999;

/// What one request was when it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub version: http::Version,
    /// Method and target.
    pub line: String,
    pub headers: HeaderMap,
}

#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    pub ca_pem: String,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Serves these names, in HTTP/1.1 and in what else it offers.
    pub async fn start(names: &[&str], offers: &[&str], handler: Handler) -> Self {
        let (ca_pem, mut config) = certificate(names);
        config.alpn_protocols = offers.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (received, connections) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::<AtomicUsize>::default());
        let upstream = Self { address, ca_pem, received: received.clone(), connections: connections.clone() };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, received, connections, handler) =
                    (acceptor.clone(), received.clone(), connections.clone(), handler.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    connections.fetch_add(1, Ordering::SeqCst);
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (head, body) = request.into_parts();
                        let line = format!("{} {}", head.method, head.uri);
                        let (version, headers) = (head.version, head.headers.clone());
                        received.lock().unwrap().push(Received { version, line, headers });
                        let reply = handler(head, body);
                        async move {
                            let reply = reply.await;
                            if reply.status() == HANG_UP { Err(io::Error::other("asked to")) } else { Ok(reply) }
                        }
                    });
                    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let io = TokioIo::new(stream);
                    if http2 {
                        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        upstream
    }

    /// One that is served by somebody else.
    pub fn elsewhere(address: SocketAddr, ca_pem: String) -> Self {
        Self { address, ca_pem, received: Arc::default(), connections: Arc::default() }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers with what this makes of the head and the whole body.
pub fn whole(f: impl Fn(&Parts, &[u8]) -> Reply + Send + Sync + 'static) -> Handler {
    let f = Arc::new(f);
    Arc::new(move |head, body| {
        let f = f.clone();
        Box::pin(async move {
            match body.collect().await {
                Ok(body) => f(&head, &body.to_bytes()),
                Err(_) => text(""),
            }
        })
    })
}

pub fn text(text: impl Into<Bytes>) -> Reply {
    Response::new(Full::new(text.into()).boxed_unsync())
}

pub fn certificate(names: &[&str]) -> (String, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()))
        .unwrap();
    (ca_pem, config)
}
