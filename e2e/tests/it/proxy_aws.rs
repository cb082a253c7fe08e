//! APIs of AWS behind the proxy: the keeper signs, and botocore agrees.

use crate::canary::forms;
use crate::forward::about;
use crate::signing::{AWS, AWS_KEY, SESSION, aws_signature, second_opinion};
use e2e::{Seen, Standin, World};
use http_body_util::Full;
use hyper::Response;
use reqwest::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const BEDROCK: &str = "bedrock-runtime.us-east-1.amazonaws.com";
const S3: &str = "files.s3.eu-central-1.amazonaws.com";
const CONVERSE: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#;

/// Sends back all that it got, as an error of AWS's has the string that was to be signed.
async fn aws() -> Standin {
    Standin::start_for(&[BEDROCK, S3], |seen| {
        let fields: String = seen.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        Response::builder()
            .header("x-echo", seen.header("authorization").unwrap_or("none"))
            .body(Full::from(fields))
            .unwrap()
    })
    .await
}

/// A gateway with credentials for both, granted.
async fn world(api: &Standin) -> (World, String) {
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let with_session = format!("{AWS}:{SESSION}");
    for (name, value, host) in [("CLOUD", AWS, BEDROCK), ("FILES", &with_session, S3)] {
        let add = ["secret", "add", name, "--host", host, "--kind", "aws-sigv4", "--stdin"];
        assert_eq!(world.cli_with(&add, value).await.code(), 0);
    }
    assert_eq!(world.cli(&["provider", "key", "add", "bedrock", "CLOUD"]).await.code(), 0);
    assert_eq!(world.cli(&["provider", "grant", "bedrock", "--agent", "agent"]).await.code(), 0);
    let base = format!("https://{S3}");
    let add = ["connection", "add", "files", "--base-url", &base, "--secret", "FILES", "--in", "sigv4:s3:eu-central-1"];
    let done = world.cli(&add).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(world.cli(&["connection", "grant", "files", "--agent", "agent"]).await.code(), 0);
    (world, token)
}

/// What botocore is asked about a request.
fn asked(seen: &Seen, host: &str) -> Value {
    let session = (host == S3).then_some(SESSION);
    json!({ "key": AWS, "session": session, "method": seen.method, "url": format!("https://{host}{}", seen.target),
            "headers": seen.headers.iter().cloned().collect::<BTreeMap<_, _>>(), "body": seen.body })
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_signed_for_aws_and_botocore_agrees() {
    let api = aws().await;
    let (world, token) = world(&api).await;
    let serve = world.serve().await;
    assert_eq!(about(&serve, &token).await["apis"], json!(["api/files", "v1/bedrock", "v1/ollama"]));
    let client = Client::new();
    let model = "/model/us.anthropic.claude-sonnet-4-5-v1%3A0/converse";
    let mut replies = Vec::new();
    for (method, path, body) in [
        ("POST", format!("/v1/bedrock{model}"), CONVERSE),
        ("POST", format!("/v1/bedrock{model}?b=2&a=%20x&a=1"), CONVERSE),
        ("GET", "/v1/bedrock/guardrail?X-Amz-Signature=00".to_owned(), ""),
        ("PUT", "/api/files/a%20b/c.txt".to_owned(), "the file"),
        ("GET", "/api/files/?prefix=J&max-keys=2".to_owned(), ""),
    ] {
        let call = client.request(method.parse().unwrap(), format!("{}{path}", serve.proxy)).bearer_auth(&token);
        let call = call.header("content-type", "application/json").header("x-amz-security-token", "another");
        let reply = call.header("x-amz-date", "19700101T000000Z").body(body).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        replies.push(reply.headers()["x-echo"].to_str().unwrap().to_owned());
        replies.push(reply.text().await.unwrap());
    }
    let seen = api.seen();
    let host = |one: &Seen| one.header("host").unwrap().to_owned();
    let questions: Vec<Value> = seen.iter().map(|one| asked(one, &host(one))).collect();
    let said = second_opinion(&json!({ "aws": questions, "jwt": [], "hmac": [] }));
    for (one, botocore) in seen.iter().zip(said["aws"].as_array().unwrap()) {
        assert_eq!(aws_signature(one), botocore, "{one:?}");
        assert_eq!(one.header("x-amz-security-token"), (host(one) == S3).then_some(SESSION));
        assert!(!one.target.contains("X-Amz"), "{one:?}");
    }
    assert_eq!(seen.len(), 5);
    // The key went nowhere, and what stands in a request does not come back.
    let sent = format!("{seen:?}");
    let back = replies.concat();
    for form in forms(AWS_KEY) {
        assert!(!sent.contains(&form) && !back.contains(&form), "{form}");
    }
    assert!(!back.contains(SESSION) && !back.contains("AKIAIOSFODNN7EXAMPLE"), "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_signed_with_made_up_keys_is_signed_anew() {
    let api = aws().await;
    let (world, token) = world(&api).await;
    let serve = world.serve().await;
    let ca = world.home().join("agent-ca.pem");
    std::fs::write(&ca, about(&serve, &token).await["certificate"].as_str().unwrap()).unwrap();
    let proxy = serve.proxy.replace("http://", &format!("http://agent:{token}@"));
    let url = format!("https://{BEDROCK}/model/amazon.nova-lite-v1%3A0/converse");
    let mut curl = tokio::process::Command::new("curl");
    curl.env_clear().args(["-sSf", "--proxy", &proxy, "--aws-sigv4", "aws:amz:us-east-1:bedrock", "-u", "MADE:UP"]);
    curl.arg("--cacert").arg(&ca).args(["-H", "content-type: application/json", "-d", CONVERSE, &url]);
    let output = curl.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = api.seen();
    let said = second_opinion(&json!({ "aws": [asked(&seen[0], BEDROCK)], "jwt": [], "hmac": [] }));
    assert_eq!(aws_signature(&seen[0]), said["aws"][0], "{seen:?}");
    assert!(!format!("{seen:?}").contains("MADE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_aws_credentials_signs_nothing() {
    let api = aws().await;
    let (world, token) = world(&api).await;
    world.add_secret("PLAIN", "sk-plain-0123456789abcdef", &[BEDROCK]).await;
    assert_eq!(world.cli(&["provider", "key", "remove", "bedrock", "CLOUD"]).await.code(), 0);
    assert_eq!(world.cli(&["provider", "key", "add", "bedrock", "PLAIN"]).await.code(), 0);
    let serve = world.serve().await;
    let call = Client::new().post(format!("{}/v1/bedrock/model/x/converse", serve.proxy)).bearer_auth(&token);
    let reply = call.header("content-type", "application/json").body(CONVERSE).send().await.unwrap();
    assert_eq!(reply.status(), 403);
    let text = reply.text().await.unwrap();
    assert!(text.contains("aws-sigv4"), "{text}");
    assert!(api.seen().is_empty());
}
