//! Status, long poll, cancelling, and the public pages.

use crate::agent_port::Server;
use crate::samples::{CREATED, execution, result};
use oauth3_core::{ChannelHealth, Status, Timestamp, Trust};
use serde_json::json;
use std::sync::Arc;

#[tokio::test]
async fn the_status_has_the_fields_of_the_contract() {
    let server = Server::start().await;
    let mut execution = execution("alice", Status::Pending);
    let path = format!("/execute/{}/status", execution.id);
    let seconds = CREATED / 1000;
    server.port.put(execution.clone());
    let bare = json!({"request_id": execution.id.as_str(), "status": "pending", "created_at": seconds});
    assert_eq!(server.get(&path).await.json(), bare);
    execution.status = Status::Failed;
    execution.approved_at = Some(Timestamp::from_millis(CREATED + 1000));
    execution.executed_at = Some(Timestamp::from_millis(CREATED + 2000));
    execution.trust = Some(Trust::Day);
    execution.result = Some(result(1));
    execution.error = Some("timeout after 30 s".into());
    server.port.put(execution.clone());
    assert_eq!(
        server.get(&path).await.json(),
        json!({
            "request_id": execution.id.as_str(), "status": "failed", "created_at": seconds,
            "approved_at": seconds + 1, "executed_at": seconds + 2, "trust": "24h",
            "result": {"success": false, "stdout": "out\n", "stderr": "err\n", "exitCode": 1, "duration": 1234,
                       "truncated": false},
            "error": "timeout after 30 s",
        })
    );
}

#[tokio::test]
async fn a_long_poll_answers_at_the_first_change() {
    let server = Arc::new(Server::start().await);
    let mut execution = execution("alice", Status::Pending);
    server.port.put(execution.clone());
    let (caller, path) = (Arc::clone(&server), format!("/execute/{}/status?wait=120", execution.id));
    let poll = tokio::spawn(async move { caller.get(&path).await });
    server.port.somebody_waits().await;
    execution.status = Status::AwaitingSecrets;
    server.port.put(execution.clone());
    assert_eq!(poll.await.unwrap().json()["status"], "awaiting_secrets");
}

#[tokio::test]
async fn a_long_poll_ends_with_its_time_and_does_not_wait_for_what_is_final() {
    let server = Server::start().await;
    let open = execution("alice", Status::Pending);
    let done = execution("alice", Status::Denied);
    server.port.put(open.clone());
    server.port.put(done.clone());
    let answer = server.get(&format!("/execute/{}/status?wait=0.05", open.id)).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (200, json!("pending")));
    server.port.somebody_waits().await;
    let answer = server.get(&format!("/execute/{}/status?wait=120", done.id)).await;
    assert_eq!(answer.json()["status"], "denied");
    assert_eq!(server.port.waiting.available_permits(), 0);
}

#[tokio::test]
async fn a_wait_out_of_range_is_400() {
    let server = Server::start().await;
    let execution = execution("alice", Status::Pending);
    server.port.put(execution.clone());
    for wait in ["121", "-1", "nan", "inf", "", "5s", "0x5", "1&wait=2", "120.5"] {
        let answer = server.get(&format!("/execute/{}/status?wait={wait}", execution.id)).await;
        assert!(answer.error(400, "invalid_request").contains("`wait`"), "{wait}");
    }
    for query in ["", "?", "?other=1", "?wait=0", "?a&b=c&&"] {
        assert_eq!(server.get(&format!("/execute/{}/status{query}", execution.id)).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn cancelling_is_202_once_and_then_409() {
    let server = Server::start().await;
    let execution = execution("alice", Status::Pending);
    server.port.put(execution.clone());
    let path = format!("/execute/{}", execution.id);
    let answer = server.call("DELETE", &path, &server.alice(), "").await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (202, json!("cancelled")));
    server.call("DELETE", &path, &server.alice(), "").await.error(409, "already_decided");
}

#[tokio::test]
async fn health_is_503_without_database_or_keeper_and_not_without_the_chat() {
    let server = Server::start().await;
    let check = async |telegram, database: bool, keeper: bool, status: u16, words: [&str; 4]| {
        {
            let mut health = server.port.health.lock().unwrap();
            (health.telegram, health.database, health.keeper) = (telegram, database, keeper);
        }
        let answer = server.call("GET", "/health", "", "").await;
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.json(),
            json!({"status": words[0], "telegram": words[1], "database": words[2], "keeper": words[3],
                   "executor": "native", "version": "1.2.3"})
        );
    };
    check(ChannelHealth::Connected, true, true, 200, ["ok", "connected", "ok", "ok"]).await;
    check(ChannelHealth::Disabled, true, true, 200, ["ok", "disabled", "ok", "ok"]).await;
    check(ChannelHealth::Error, true, true, 200, ["ok", "error", "ok", "ok"]).await;
    check(ChannelHealth::Connected, false, true, 503, ["degraded", "connected", "error", "ok"]).await;
    check(ChannelHealth::Connected, true, false, 503, ["degraded", "connected", "ok", "error"]).await;
}

#[tokio::test]
async fn the_guide_tells_an_agent_how_to_ask() {
    let server = Server::start().await;
    let guide = server.call("GET", "/", "", "").await;
    assert!(guide.field("content-type").unwrap().starts_with("text/plain"));
    for word in ["/execute", "Bearer", "curl", &server.address.to_string()] {
        assert!(guide.body.contains(word), "{word}");
    }
    let hostile = b"GET / HTTP/1.1\r\nHost: x\"; rm -rf ~\r\nConnection: close\r\n\r\n";
    let answer = crate::http::send(server.address, hostile).await;
    assert!(!answer.body.contains("rm -rf"));
    let public = Server::start_as("https://oauth3.example.com/").await;
    assert!(public.call("GET", "/", "", "").await.body.contains("curl -s https://oauth3.example.com/execute"));
}

#[tokio::test]
async fn openapi_says_version_and_address() {
    let server = Server::start_as("https://oauth3.example.com").await;
    let document = server.call("GET", "/openapi.json", "", "").await.json();
    assert_eq!(document["info"]["version"], "1.2.3");
    assert_eq!(document["servers"][0]["url"], "https://oauth3.example.com");
}
