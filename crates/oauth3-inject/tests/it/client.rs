//! The code's side: what a program in the sandbox would send.

use crate::world::World;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A reply, whole.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the egress itself answered so, with this in its sentence.
    #[track_caller]
    pub fn refused(&self, status: u16, part: &str) {
        let text = self.text();
        assert!(text.starts_with("oauth3 egress: ") && text.contains(part), "{} {text}", self.status);
        assert_eq!(self.status, status, "{text}");
    }
}

pub fn tls_config(ca_pem: &str, sni: bool, offers: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = sni;
    config.alpn_protocols = offers.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

pub async fn tls<S>(world: &World, stream: S, name: &str) -> TlsStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    tls_offering(world, stream, name, &["http/1.1"]).await
}

pub async fn tls_offering<S>(world: &World, stream: S, name: &str, offers: &[&str]) -> TlsStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::new(tls_config(world.egress.ca_pem(), true, offers)));
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await.unwrap()
}

/// HTTP/2 over a stream that will be TLS to this name.
pub async fn speak_http2<S, B>(world: &World, stream: S, name: &str) -> http2::SendRequest<B>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = tls_offering(world, stream, name, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// HTTP/2 to a name through a transparent listener.
pub async fn connect_http2<B>(world: &World, address: SocketAddr, name: &str) -> http2::SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    speak_http2(world, stream, name).await
}

pub async fn speak<S, B>(stream: S) -> SendRequest<B>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    sender
}

/// A connection to a name through the transparent listener.
pub async fn connect<B>(world: &World, address: SocketAddr, name: &str) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    speak(tls(world, stream, name).await).await
}

pub async fn read(reply: Response<Incoming>) -> Got {
    let (head, body) = reply.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Got { status: head.status.as_u16(), headers: head.headers, body }
}

/// One request to the first host.
pub async fn send(world: &World, request: Request<Full<Bytes>>) -> Got {
    let mut sender = connect(world, world.tls, "api.test").await;
    read(sender.send_request(request).await.unwrap()).await
}

/// One request to the second host, which has a port of its own.
pub async fn send_other(world: &World, request: Request<Full<Bytes>>) -> Got {
    let mut sender = connect(world, world.tls_other, "other.test").await;
    read(sender.send_request(request).await.unwrap()).await
}

/// A GET with these fields.
pub fn get(host: &str, path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let builder = Request::get(path).header("host", host);
    fields.iter().fold(builder, |b, (name, value)| b.header(*name, *value)).body(Full::default()).unwrap()
}

/// Writes bytes as they are and reads until the other side hangs up.
pub async fn raw<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    // A server that hangs up without ceremony is fine: what came before is what counts.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

/// The same to the first host, inside TLS.
pub async fn raw_tls(world: &World, text: &str) -> String {
    let stream = TcpStream::connect(world.tls).await.unwrap();
    raw(tls(world, stream, "api.test").await, text).await
}

/// A CONNECT through the proxy, and what comes of it.
pub async fn proxy_connect(world: &World, authority: &str) -> Result<TokioIo<hyper::upgrade::Upgraded>, Got> {
    let mut sender = speak::<_, Empty<Bytes>>(TcpStream::connect(world.proxy).await.unwrap()).await;
    let request = Request::connect(authority).header("host", authority).body(Empty::new()).unwrap();
    let reply = sender.send_request(request).await.unwrap();
    if reply.status() == 200 {
        Ok(TokioIo::new(hyper::upgrade::on(reply).await.unwrap()))
    } else {
        Err(read(reply).await)
    }
}
