//! The least that can intercept: CONNECT, a leaf for the host, HTTP/1.1 forwarded over verified TLS on one kept
//! connection for each of the client's. No policy, no substitution, no scrubbing, no record. What ours is held against.
//! With `tunnel` it is blind: bytes are copied.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Reply = Response<BoxBody<Bytes, hyper::Error>>;

/// Prints its address and its authority, then serves for ever. Everything is dialled at `upstream`.
pub async fn serve(name: &'static str, upstream: &'static str, trust: Arc<ClientConfig>, tunnel: bool) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    // One host is all that is asked for: its leaf is made once, as a cache would.
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let leaf_key = PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into());
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], leaf_key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", serde_json::json!({ "proxy": listener.local_addr().unwrap(), "ca": ca }));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (acceptor, trust) = (acceptor.clone(), trust.clone());
        tokio::spawn(async move {
            let service =
                service_fn(move |request| connect(request, name, upstream, acceptor.clone(), trust.clone(), tunnel));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn connect(
    request: Request<Incoming>,
    name: &'static str,
    upstream: &'static str,
    acceptor: TlsAcceptor,
    trust: Arc<ClientConfig>,
    tunnel: bool,
) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    assert_eq!(request.method(), Method::CONNECT);
    tokio::spawn(async move {
        let mut inside = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut outside = TcpStream::connect(upstream).await.unwrap();
        outside.set_nodelay(true).unwrap();
        if tunnel {
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut inside, &mut outside, 1 << 16, 1 << 16).await;
            return;
        }
        let Ok(stream) = acceptor.accept(inside).await else { return };
        let tls = TlsConnector::from(trust).connect(ServerName::try_from(name).unwrap(), outside).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let sender = Arc::new(Mutex::new(sender));
        let service = service_fn(move |request| forward(request, sender.clone()));
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    Ok(Response::new(Empty::new()))
}

async fn forward(request: Request<Incoming>, sender: Arc<Mutex<SendRequest<Incoming>>>) -> Result<Reply, hyper::Error> {
    let reply = sender.lock().await.send_request(request).await?;
    Ok(reply.map(BodyExt::boxed))
}
