//! The one client and the one upstream of every side.

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that every side is asked for.
pub const NAME: &str = "api.bench.example";
/// Body of an ordinary reply: 1 KiB of JSON-like text.
const REPLY_BYTES: usize = 1 << 10;
/// Body of `/stream`, and the pieces that it comes in.
pub const STREAM_BYTES: usize = 1 << 30;
const PIECE_BYTES: usize = 64 << 10;

/// A way to the upstream.
#[derive(Clone)]
pub struct Way {
    /// Where to connect: a proxy, or the upstream itself.
    pub address: SocketAddr,
    /// What CONNECT asks for; none when it is the upstream itself.
    pub authority: Option<String>,
    pub trust: Arc<ClientConfig>,
    /// What goes into `authorization`.
    pub key: String,
}

/// A kept connection.
pub type Kept = SendRequest<Empty<Bytes>>;

impl Way {
    /// Opens a connection: TCP, CONNECT where there is a proxy, TLS.
    pub async fn open(&self) -> Kept {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if let Some(authority) = &self.authority {
            let ask = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(stream.read_u8().await.expect("an answer to CONNECT"));
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
        let name = ServerName::try_from(NAME).unwrap();
        let tls = TlsConnector::from(self.trust.clone()).connect(name, stream).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request over a kept connection; the bytes of the reply.
    pub async fn ask(&self, kept: &mut Kept, path: &str) -> usize {
        let request = Request::get(path)
            .header("host", self.authority.as_deref().unwrap_or(NAME))
            .header("authorization", format!("Bearer {}", self.key))
            .body(Empty::new())
            .unwrap();
        kept.ready().await.unwrap();
        let reply = kept.send_request(request).await.unwrap();
        if reply.status() != 200 {
            let (head, body) = reply.into_parts();
            panic!("{} through {}: {:?}", head.status, self.address, body.collect().await.unwrap().to_bytes());
        }
        let (mut body, mut bytes) = (reply.into_body(), 0);
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        bytes
    }

    /// One request, and whether it was answered as it should be.
    pub async fn once(&self, kept: &mut Kept) {
        assert_eq!(self.ask(kept, "/").await, REPLY_BYTES);
    }
}

/// Trusts these authorities, in PEM, and speaks HTTP/1.1.
pub fn trusting(authorities: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for pem in authorities {
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A server that answers `/` shortly and `/stream` at length, to whoever brings the real key.
pub async fn upstream(key: &str) -> (SocketAddr, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With the name of the leaf, OpenSSL would take that for its own issuer.
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let leaf_key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], leaf_key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wanted: Arc<str> = format!("Bearer {key}").into();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (acceptor, wanted) = (acceptor.clone(), wanted.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let reply = answer(&request, &wanted);
                    async { Ok::<_, Infallible>(reply) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, ca)
}

fn answer(request: &Request<Incoming>, wanted: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let key = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if key != Some(wanted) {
        return Response::builder().status(401).body(Empty::new().boxed()).unwrap();
    }
    let text = b"{\"model\":\"m\",\"text\":\"It is a sunny day, with a light breeze.\"},\n";
    let body = if request.uri().path() == "/stream" {
        let piece: Bytes = text.iter().copied().cycle().take(PIECE_BYTES).collect::<Vec<_>>().into();
        let pieces = (0..STREAM_BYTES / PIECE_BYTES).map(move |_| Ok::<_, Infallible>(Frame::data(piece.clone())));
        StreamBody::new(stream::iter(pieces)).boxed()
    } else {
        Full::new(Bytes::from(text.iter().copied().cycle().take(REPLY_BYTES).collect::<Vec<_>>())).boxed()
    };
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}
