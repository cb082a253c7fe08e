//! The agents' API: `POST /execute` and what belongs to it.

mod body;
mod caller;
mod connections;
mod documents;
mod handlers;
mod problem;
mod request;
mod response;
mod source;
mod strict;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{MethodRouter, delete, get, post};
use oauth3_core::AgentPort;
use std::sync::Arc;

pub use body::MAX_BODY_BYTES;

/// What the agents' API says about itself.
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// oauth3's version, for `/health` and `/openapi.json`.
    pub version: String,
    /// Where agents reach it, such as `https://oauth3.example.com`; empty: the guide shows the address that
    /// the caller used.
    pub public_url: String,
}

/// What every handler sees.
#[derive(Clone)]
struct Api {
    port: Arc<dyn AgentPort>,
    config: Arc<ApiConfig>,
}

/// One route: method, path, handler.
type Endpoint = (&'static str, &'static str, MethodRouter<Api>);

/// Every route that there is. `openapi.json` lists the same ones; a test compares.
fn endpoints() -> [Endpoint; 10] {
    [
        ("GET", "/", get(documents::guide)),
        ("GET", "/openapi.json", get(documents::openapi)),
        ("GET", "/health", get(handlers::health)),
        ("GET", "/secrets", get(handlers::secrets)),
        ("GET", "/connections", get(connections::list)),
        ("GET", "/connections/{name}", get(connections::one)),
        ("POST", "/connections/{name}/login", post(connections::login)),
        ("POST", "/execute", post(handlers::execute)),
        ("GET", "/execute/{id}/status", get(handlers::status)),
        ("DELETE", "/execute/{id}", delete(handlers::cancel)),
    ]
}

/// The agents' API over a port that can decide nothing itself.
///
/// Every answer is JSON (the guide at `/` is plain text) and has an `x-request-id`; every error is
/// `{"error","error_description","request_id"}`. Calls from a web page (with an `Origin`) are refused: no
/// agent is a web page, and a page that the owner visits must not reach an API on the owner's machine.
pub fn agent_router(port: Arc<dyn AgentPort>, config: ApiConfig) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in endpoints() {
        router = router.route(path, handler);
    }
    router
        .method_not_allowed_fallback(problem::method_not_allowed)
        .fallback(problem::no_such_route)
        .layer(from_fn(problem::finish))
        .with_state(Api { port, config: Arc::new(config) })
}
