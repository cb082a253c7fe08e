//! An agent: an address, a token, and HTTP.

use reqwest::{Method, Response};
use serde_json::{Value, json};

/// A client of the agents' API.
#[derive(Clone)]
pub struct Agent {
    base: String,
    token: String,
    http: reqwest::Client,
}

/// A reply: status and JSON.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; null when it is no JSON.
    pub json: Value,
}

impl Agent {
    /// The same one at another address.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self::new(base, &self.token)
    }

    /// With this token.
    pub fn new(base: &str, token: &str) -> Self {
        Self { base: base.to_owned(), token: token.to_owned(), http: reqwest::Client::new() }
    }

    /// Sends any request and gives the raw response.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        request.send().await.expect("the gateway answers")
    }

    /// Sends any request and reads the reply.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        let response = self.send(method, path, body.map(|b| b.to_string())).await;
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole body");
        Reply { status, json: serde_json::from_str(&text).unwrap_or(Value::Null) }
    }

    /// `POST /execute`
    pub async fn execute(&self, body: Value) -> Reply {
        self.call(Method::POST, "/execute", Some(body)).await
    }

    /// Submits code and gives back the request's id; it must be taken in.
    pub async fn submit(&self, code: &str, metadata: Value) -> String {
        let reply = self.execute(json!({ "skill_id": "test", "code": code, "metadata": metadata })).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.json["request_id"].as_str().expect("an id").to_owned()
    }

    /// `GET /execute/{id}/status`
    pub async fn status(&self, id: &str) -> Value {
        let reply = self.call(Method::GET, &format!("/execute/{id}/status"), None).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json
    }

    /// Waits for the final state and gives it back.
    pub async fn finished(&self, id: &str) -> Value {
        let done = async {
            loop {
                let reply = self.call(Method::GET, &format!("/execute/{id}/status?wait=20"), None).await;
                assert_eq!(reply.status, 200, "{reply:?}");
                if !matches!(
                    reply.json["status"].as_str(),
                    Some("pending" | "awaiting_secrets" | "approved" | "executing")
                ) {
                    return reply.json;
                }
            }
        };
        tokio::time::timeout(crate::world::PATIENCE, done).await.expect("a final state in time")
    }
}
