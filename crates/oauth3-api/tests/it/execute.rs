//! `POST /execute`: what reaches the port, and what the agent gets.

use crate::agent_port::{Script, Server};
use crate::http::send;
use crate::samples::{CREATED, execution, result};
use oauth3_core::{Source, Status};
use serde_json::json;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const SMALL: &str = r#"{"skill_id":"a","code":"1"}"#;

#[tokio::test]
async fn a_whole_request_reaches_the_port_as_it_was_named() {
    let server = Server::start().await;
    let body = json!({
        "skill_id": "openai-completion", "code": "x", "args": {"z": 1, "a": [true]}, "secrets": ["A_KEY"],
        "metadata": {"description": "d", "secrets": [], "network": ["a.example:8443"], "timeout": 0.5, "runtime": "deno"},
        "wait": 1.5, "dry_run": true,
    });
    let answer = server.execute(&body.to_string()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"decision": "ask", "reason": "no grant", "missing_secrets": ["A_KEY"]}));
    let drafts = server.port.drafts.lock().unwrap();
    let draft = &drafts[0];
    assert_eq!(draft.skill_id, "openai-completion");
    assert_eq!(draft.source, Source::Inline(b"x".to_vec()));
    assert_eq!(serde_json::to_string(&draft.args).unwrap(), r#"{"z":1,"a":[true]}"#);
    assert_eq!(draft.body.secrets.as_deref(), Some(&["A_KEY".to_owned()][..]));
    // An empty list is named; what is not there is not.
    assert_eq!(draft.metadata.secrets.as_deref(), Some(&[][..]));
    assert_eq!(draft.metadata.network.as_deref(), Some(&["a.example:8443".to_owned()][..]));
    assert_eq!(draft.metadata.timeout, Some(0.5));
    assert_eq!(draft.metadata.runtime.as_deref(), Some("deno"));
    assert_eq!(draft.body.network, None);
}

#[tokio::test]
async fn any_content_type_is_read_as_json_and_null_is_nothing() {
    let server = Server::start().await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"] {
        let pending = execution("alice", Status::Pending);
        server.port.will_answer(&pending, &[], &[]);
        let fields = format!("{}Content-Type: {kind}\r\n", server.alice());
        let body = r#"{"skill_id":"a","skill_url":"data:,1","code":null,"metadata":null,"wait":null,"args":null}"#;
        assert_eq!(server.call("POST", "/execute", &fields, body).await.status, 202, "{kind}");
    }
    let drafts = server.port.drafts.lock().unwrap();
    assert_eq!(drafts[0].source, Source::Url("data:,1".into()));
}

#[tokio::test]
async fn an_open_request_is_202_with_what_happens_next() {
    let server = Server::start().await;
    let pending = execution("alice", Status::Pending);
    server.port.will_answer(&pending, &["A_KEY"], &["telegram"]);
    let answer = server.execute(SMALL).await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        answer.json(),
        json!({
            "status": "pending", "request_id": pending.id.as_str(), "message": "Approval request sent to Telegram",
            "expires_at": (CREATED + 900_000) / 1000, "missing_secrets": ["A_KEY"],
        })
    );
    server.port.will_answer(&pending, &[], &[]);
    let message = server.execute(SMALL).await.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("Waiting for the owner's approval") && message.contains(pending.id.as_str()));
}

#[tokio::test]
async fn a_final_request_is_200_whatever_its_end() {
    let server = Server::start().await;
    let mut granted = execution("alice", Status::Success);
    granted.trusted = true;
    granted.result = Some(result(0));
    server.port.will_answer(&granted, &[], &[]);
    let answer = server.execute(SMALL).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "status": "success", "request_id": granted.id.as_str(), "stdout": "out\n", "stderr": "err\n",
            "exit_code": 0, "duration": 1234, "truncated": false, "trusted": true,
        })
    );
    let mut failed = execution("alice", Status::Failed);
    failed.result = Some(result(3));
    failed.error = Some("failed: exit code 3".into());
    server.port.will_answer(&failed, &[], &[]);
    let json = server.execute(SMALL).await.json();
    assert_eq!((&json["status"], &json["exit_code"], &json["trusted"]), (&json!("failed"), &json!(3), &json!(false)));
    assert_eq!(json["error"], "failed: exit code 3");
}

#[tokio::test]
async fn wait_answers_with_the_final_state_when_it_comes_in_time() {
    let server = Arc::new(Server::start().await);
    for (end, status) in [(Status::Success, "success"), (Status::Denied, "denied"), (Status::Expired, "expired")] {
        let mut pending = execution("alice", Status::Pending);
        server.port.will_answer(&pending, &[], &["telegram"]);
        let (caller, call) = (Arc::clone(&server), r#"{"skill_id":"a","code":"1","wait":120}"#);
        let call = tokio::spawn(async move { caller.execute(call).await });
        // Every change on the way is passed over.
        for step in [Status::Approved, Status::Executing, end] {
            server.port.somebody_waits().await;
            pending.status = step;
            server.port.put(pending.clone());
        }
        let answer = call.await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn wait_answers_202_when_its_time_is_over() {
    let server = Server::start().await;
    let pending = execution("alice", Status::Pending);
    server.port.will_answer(&pending, &[], &["telegram"]);
    let answer = server.execute(r#"{"skill_id":"a","code":"1","wait":0.05}"#).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (202, json!("pending")));
}

#[tokio::test]
async fn a_granted_run_is_answered_with_its_result_without_wait() {
    let server = Arc::new(Server::start().await);
    let mut granted = execution("alice", Status::Executing);
    granted.trusted = true;
    server.port.will_answer(&granted, &[], &[]);
    let caller = Arc::clone(&server);
    let call = tokio::spawn(async move { caller.execute(SMALL).await });
    server.port.somebody_waits().await;
    granted.status = Status::Success;
    granted.result = Some(result(0));
    server.port.put(granted.clone());
    let answer = call.await.unwrap();
    assert_eq!((answer.status, answer.json()["trusted"].clone()), (200, json!(true)));
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_a_submission_in_the_middle() {
    let server = Server::start().await;
    *server.port.script.lock().unwrap() = Some(Script::Gate);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\n{}Content-Length: {}\r\n\r\n{SMALL}",
        server.alice(),
        SMALL.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    server.port.entered_gate.acquire().await.unwrap().forget();
    drop(stream);
    // Another whole call: the server has seen the end of the first connection by then, or soon will.
    assert_eq!(server.get("/secrets").await.status, 200);
    server.port.gate.add_permits(1);
    server.port.something_is_stored().await;
}

#[tokio::test]
async fn a_panic_is_503_for_its_call_only() {
    let server = Server::start().await;
    *server.port.script.lock().unwrap() = Some(Script::Panic);
    server.execute(SMALL).await.error(503, "unavailable");
    assert_eq!(send(server.address, b"GET /health HTTP/1.0\r\n\r\n").await.status, 200);
}
