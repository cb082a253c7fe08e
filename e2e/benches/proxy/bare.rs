//! The least that a reverse proxy can be: a bearer token replaced, everything else handed on, connections kept. No
//! check, no budget, no record, no scrubbing. What ours is held against.

use crate::tls::{self, Connector};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;

/// Prints its addresses, one for each address of the upstream, then serves for ever.
pub async fn serve(http: SocketAddr, https: SocketAddr, ca: &Path, key: &'static str) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let over_tls = Connector { address: https, trust: tls::trusting(ca) };
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let [first, second] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    println!("{}", serde_json::json!({ "http": first, "https": second }));
    let [first, second] = listeners;
    let https = format!("https://{}:{}", tls::NAME, https.port());
    tokio::join!(
        hand_on(first, connector, format!("http://{http}").leak(), key),
        hand_on(second, over_tls, https.leak(), key)
    );
}

async fn hand_on<C>(listener: TcpListener, connector: C, upstream: &'static str, key: &'static str)
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, value) = (client.clone(), value.clone());
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri: Uri = format!("{upstream}{path}").parse().unwrap();
                *request.uri_mut() = uri;
                request.headers_mut().remove(HOST);
                request.headers_mut().insert(AUTHORIZATION, value.clone());
                client.request(request)
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
