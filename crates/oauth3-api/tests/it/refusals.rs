//! What is refused, with which status and code.

use crate::agent_port::{Script, Server};
use crate::http::send;
use oauth3_core::{AgentToken, Fault};
use serde_json::Value;
use std::collections::BTreeSet;

/// Every operation of the served openapi.json: method, path with an id in place, whether it is public.
async fn operations(server: &Server) -> Vec<(String, String, bool)> {
    let document = server.call("GET", "/openapi.json", "", "").await.json();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let public = operation["security"].as_array().is_some_and(Vec::is_empty);
            found.push((method.to_uppercase(), path.replace("{id}", "req_abc").replace("{name}", "my-mail"), public));
        }
    }
    assert_eq!(found.len(), 10);
    found
}

#[tokio::test]
async fn every_endpoint_that_is_not_public_refuses_without_a_valid_token() {
    let server = Server::start().await;
    let token = server.port.tokens[0].0.reveal().to_owned();
    let stranger = AgentToken::random().unwrap();
    let missing = String::new();
    let wrong = [
        format!("Authorization: Bearer {}\r\n", stranger.reveal()),
        "Authorization: Bearer\r\n".into(),
        "Authorization: Bearer \r\n".into(),
        "Authorization: \r\n".into(),
        "Authorization: Bearer nonsense\r\n".into(),
        "Authorization: Bearer \u{fffd}\r\n".into(),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Bearer {}\r\n", token.to_uppercase()),
        format!("Authorization: Bearer {token}, Bearer {token}\r\n"),
        format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
    ];
    let mut public_paths = BTreeSet::new();
    for (method, path, public) in operations(&server).await {
        if public {
            assert_eq!(server.call(&method, &path, "", "").await.status, 200, "{path}");
            public_paths.insert(path);
            continue;
        }
        let answer = server.call(&method, &path, &missing, "").await;
        answer.error(401, "invalid_token");
        assert_eq!(answer.field("www-authenticate"), Some(r#"Bearer realm="oauth3""#));
        for fields in &wrong {
            let answer = server.call(&method, &path, fields, "").await;
            let text = answer.error(401, "invalid_token");
            assert!(!text.contains(&token));
            assert_eq!(answer.field("www-authenticate"), Some(r#"Bearer realm="oauth3", error="invalid_token""#));
        }
    }
    assert_eq!(public_paths, ["/", "/health", "/openapi.json"].map(str::to_owned).into());
    assert!(server.port.drafts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_no_route_has_is_404_or_405() {
    let server = Server::start().await;
    let operations = operations(&server).await;
    let paths: BTreeSet<&String> = operations.iter().map(|(_, path, _)| path).collect();
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            if !operations.iter().any(|(m, p, _)| m == method && p == path) {
                let answer = server.call(method, path, &server.alice(), "").await;
                answer.error(405, "method_not_allowed");
                assert!(answer.field("allow").is_some(), "{method} {path}");
            }
        }
    }
    for path in ["/nothing", "/execute/", "/execute/req_abc/", "//", "/admin", "/execute/req_abc/approve", "/%2e%2e"] {
        server.get(path).await.error(404, "not_found");
    }
    for line in ["OPTIONS * HTTP/1.1", "CONNECT example.com:443 HTTP/1.1"] {
        let request = format!("{line}\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
        let answer = send(server.address, request.as_bytes()).await;
        assert!((400..500).contains(&answer.status), "{line}: {answer:?}");
    }
}

#[tokio::test]
async fn bad_bodies_are_400_and_name_what_is_wrong() {
    let server = Server::start().await;
    let deep = format!(r#"{{"skill_id":"a","code":"1","args":{{"a":{}}}}}"#, "[".repeat(100_000));
    let table: &[(&str, &str)] = &[
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("nonsense", "line 1 column 2"),
        (r#"{"skill_id":"a","code":"1"} x"#, "line 1 column 29"),
        ("{\"skill_id\":\"a\",\n\"code\":}", "line 2 column 8"),
        ("\u{feff}{}", "line 1 column 1"),
        ("null", "an object"),
        ("5", "an object"),
        (r#"["a",null,"code"]"#, "an object"),
        (r#"{"skill_id":"a","code":"1","metadata":["a"]}"#, "`metadata`"),
        (r#"{"skill_id":"a","code":"1","metadata":"a"}"#, "`metadata`"),
        (r#"{"skill_id":"a","code":"1","surprise":1}"#, "unknown field `surprise`"),
        (r#"{"skill_id":"a","code":"1","trust":"forever"}"#, "unknown field `trust`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"surprise":1}}"#, "unknown field `surprise`"),
        (r#"{"skill_id":"a","code":"1","code":"2"}"#, "duplicate field `code`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"timeout":1,"timeout":2}}"#, "duplicate field `timeout`"),
        ("{}", "`skill_id` is required"),
        (r#"{"skill_id":"a"}"#, "one of `code`, `files`"),
        (r#"{"code":"1"}"#, "`skill_id`"),
        (r#"{"skill_id":null,"code":"1"}"#, "`skill_id`"),
        (r#"{"skill_id":"a","code":"1","skill_url":"https://a.example/"}"#, "send one"),
        (r#"{"skill_id":5,"code":"1"}"#, "`skill_id`"),
        (r#"{"skill_id":"a","code":["1"]}"#, "`code`"),
        (r#"{"skill_id":"a","skill_url":{}}"#, "`skill_url`"),
        (r#"{"skill_id":"a","code":"1","args":[]}"#, "`args`"),
        (r#"{"skill_id":"a","code":"1","args":"x"}"#, "`args`"),
        (r#"{"skill_id":"a","code":"1","secrets":"A"}"#, "`secrets`"),
        (r#"{"skill_id":"a","code":"1","secrets":[1]}"#, "`secrets`"),
        (r#"{"skill_id":"a","code":"1","wait":121}"#, "`wait`"),
        (r#"{"skill_id":"a","code":"1","wait":120.001}"#, "`wait`"),
        (r#"{"skill_id":"a","code":"1","wait":-1}"#, "`wait`"),
        (r#"{"skill_id":"a","code":"1","wait":"5"}"#, "`wait`"),
        (r#"{"skill_id":"a","code":"1","wait":1e999}"#, "number out of range"),
        (r#"{"skill_id":"a","code":"1","dry_run":1}"#, "`dry_run`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"timeout":"30"}}"#, "`metadata.timeout`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"network":"a.example"}}"#, "`metadata.network`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"secrets":[null]}}"#, "`metadata.secrets`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"runtime":1}}"#, "`metadata.runtime`"),
        (r#"{"skill_id":"a","code":"1","metadata":{"description":1}}"#, "`metadata.description`"),
        (r#"{"skill_id":"\ud800","code":"1"}"#, "line 1"),
        (&deep, "recursion limit"),
    ];
    for (body, expected) in table {
        let answer = server.execute(body).await;
        let text = answer.error(400, "invalid_request");
        assert!(text.contains(expected), "{}: {text}", &body[..body.len().min(80)]);
    }
    let mut raw = format!(
        "POST /execute HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: 3\r\n\r\n",
        server.alice()
    )
    .into_bytes();
    raw.extend([b'"', 0xff, b'"']);
    send(server.address, &raw).await.error(400, "invalid_request");
    let fields = format!("{}Content-Encoding: gzip\r\n", server.alice());
    let text = server.call("POST", "/execute", &fields, "{}").await.error(400, "invalid_request");
    assert!(text.contains("content-encoding"));
    assert!(server.port.drafts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_complaint_does_not_repeat_a_whole_body() {
    let server = Server::start().await;
    let body = format!(r#"{{"skill_id":"a","code":"1","metadata":"{}"}}"#, "x".repeat(100_000));
    assert!(server.execute(&body).await.body.len() < 1000);
}

#[tokio::test]
async fn every_fault_has_its_status() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.json();
    let known = &document["components"]["schemas"]["Error"]["properties"]["error"]["enum"];
    let table = [
        (Fault::InvalidRequest("t".into()), 400, "invalid_request"),
        (Fault::ConflictingMetadata("t".into()), 400, "conflicting_metadata"),
        (Fault::UnknownRuntime("t".into()), 400, "unknown_runtime"),
        (Fault::InvalidToken("t".into()), 401, "invalid_token"),
        (Fault::DeniedByPolicy("t".into()), 403, "denied_by_policy"),
        (Fault::NotFound("t".into()), 404, "not_found"),
        (Fault::AlreadyDecided("t".into()), 409, "already_decided"),
        (Fault::Exists("t".into()), 409, "exists"),
        (Fault::TooLarge("t".into()), 413, "too_large"),
        (Fault::SkillFetchFailed("t".into()), 422, "skill_fetch_failed"),
        (Fault::RateLimited { text: "t".into(), retry_after: 7 }, 429, "rate_limited"),
        (Fault::RateLimited { text: "t".into(), retry_after: 0 }, 429, "rate_limited"),
        (Fault::Unavailable("t".into()), 503, "unavailable"),
    ];
    for (fault, status, code) in table {
        let retry_after = match &fault {
            Fault::RateLimited { retry_after, .. } => Some(retry_after.max(&1).to_string()),
            _ => None,
        };
        *server.port.script.lock().unwrap() = Some(Script::Fault(fault));
        let answer = server.execute(r#"{"skill_id":"a","code":"1"}"#).await;
        assert_eq!(answer.error(status, code), "t");
        assert!(known.as_array().unwrap().contains(&code.into()), "{code}");
        assert_eq!(answer.field("retry-after").map(str::to_owned), retry_after);
    }
}

#[tokio::test]
async fn web_pages_are_refused_everywhere() {
    let server = Server::start().await;
    *server.port.anonymous.lock().unwrap() = Some(crate::samples::agent("carol"));
    for origin in ["https://evil.example", "null", ""] {
        for path in ["/", "/health", "/secrets", "/nothing"] {
            let fields = format!("Origin: {origin}\r\n");
            let answer = server.call("GET", path, &fields, "").await;
            answer.error(403, "denied_by_policy");
            assert!(!answer.head.to_lowercase().contains("access-control"));
        }
    }
}

#[tokio::test]
async fn a_name_that_a_stranger_lets_point_here_gets_no_anonymous_agent() {
    let server = Server::start_as("https://oauth3.example.com").await;
    *server.port.anonymous.lock().unwrap() = Some(crate::samples::agent("carol"));
    let ask = async |host: &str, fields: &str| {
        let request = format!("GET /secrets HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n");
        send(server.address, request.as_bytes()).await
    };
    for host in ["127.0.0.1:3737", "localhost", "oauth3-proxy:3737", "oauth3.example.com"] {
        assert_eq!(ask(host, "").await.status, 200, "{host}");
    }
    ask("evil.example", "").await.error(401, "invalid_token");
    assert_eq!(ask("evil.example", &server.alice()).await.status, 200);
}

#[tokio::test]
async fn ids_that_cannot_exist_and_ids_of_others_are_404_alike() {
    let server = Server::start().await;
    let execution = crate::samples::execution("alice", oauth3_core::Status::Pending);
    server.port.put(execution.clone());
    let own = execution.id.as_str();
    assert_eq!(server.get(&format!("/execute/{own}/status")).await.status, 200);
    let theirs = server.call("GET", &format!("/execute/{own}/status"), &server.bob(), "").await;
    let absent = server.get("/execute/req_zzz/status").await;
    assert_eq!(theirs.error(404, "not_found"), absent.error(404, "not_found"));
    server.call("DELETE", &format!("/execute/{own}"), &server.bob(), "").await.error(404, "not_found");
    let long = "req_".to_owned() + &"a".repeat(65);
    for id in ["x", "req_", "REQ_ABC", "req_a%00", "req_%ff", "req_a%2fb", "..", "%2e%2e", "req_a'--", &long] {
        server.get(&format!("/execute/{id}/status")).await.error(404, "not_found");
        server.call("DELETE", &format!("/execute/{id}"), &server.alice(), "").await.error(404, "not_found");
    }
    assert_eq!(server.port.all()[0].status, oauth3_core::Status::Pending);
}

#[tokio::test]
async fn answers_are_neither_kept_nor_guessed_and_calls_have_names_of_their_own() {
    let server = Server::start().await;
    let mut names = BTreeSet::new();
    for path in ["/", "/health", "/secrets", "/nothing"] {
        let answer = server.get(path).await;
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        names.insert(answer.field("x-request-id").unwrap().to_owned());
    }
    assert_eq!(names.len(), 4);
    let secrets: Value = server.get("/secrets").await.json();
    assert_eq!(secrets, serde_json::json!({"secrets":[{"name":"A_KEY","hosts":["api.example.com"],"set":true}]}));
}
