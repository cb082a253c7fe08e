//! The least that a reverse proxy can be: a bearer token replaced, everything else handed on, connections kept. No
//! check, no budget, no record, no scrubbing. What ours is held against.

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Prints its address, then serves for ever.
pub async fn serve(upstream: &'static str, key: &'static str) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", serde_json::json!({ "address": listener.local_addr().unwrap() }));
    let value = HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, value) = (client.clone(), value.clone());
        tokio::spawn(async move {
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri: Uri = format!("http://{upstream}{path}").parse().unwrap();
                *request.uri_mut() = uri;
                request.headers_mut().remove(HOST);
                request.headers_mut().insert(AUTHORIZATION, value.clone());
                client.request(request)
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
