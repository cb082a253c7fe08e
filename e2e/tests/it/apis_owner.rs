//! What the owner sees of the API proxy: whether keys are good, and sums for a monitoring system.

use crate::readme::{commands_of, where_the_proxy_is, words};
use crate::sdks::{grant, world};
use crate::signing::AWS;
use e2e::llm::{APIS, USED};
use e2e::sdks::without_keys;
use e2e::{World, llm};
use reqwest::Client;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn each_key_is_tried_and_the_bad_one_is_named() {
    let api = llm::start().await;
    let (world, _) = world(&api).await;
    let early = world.cli(&["provider", "check"]).await;
    assert!(early.code() == 1 && early.stderr.contains("oauth3 serve"), "{early:?}");
    let serve = world.serve().await;
    let good = world.cli(&["provider", "check", "--json"]).await;
    let checks = good.json()["checks"].clone();
    assert_eq!(checks.as_array().unwrap().len(), APIS.len(), "{checks}");
    assert!(checks.as_array().unwrap().iter().all(|check| check["status"] == 200 && check["ok"] == true), "{checks}");
    assert!(checks[0]["milliseconds"].is_u64(), "{checks}");

    // One more key of OpenAI's, which it does not take; and a name that leads nowhere.
    let bad = "sk-proj-of-somebody-else-0123456789";
    world.add_secret("BAD_KEY", bad, &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "BAD_KEY", "--tag", "research"]).await.code(), 0);
    let failed = world.cli(&["provider", "check", "openai"]).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    let line = |name: &str| failed.stdout.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
    assert!(line("BAD_KEY").contains("401, the key is not taken"), "{failed:?}");
    assert!(line("OPENAI_KEY").contains("200, good"), "{failed:?}");
    assert_eq!(world.cli(&["provider", "check", "anthropic"]).await.code(), 0);
    let unknown = world.cli(&["provider", "check", "nobody"]).await;
    assert!(unknown.code() == 1 && unknown.stderr.contains("nobody"), "{unknown:?}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.contains(r#""basis":"check""#) && audit.contains("BAD_KEY"), "{audit}");
    for text in [&format!("{good:?} {failed:?} {unknown:?}"), &audit, &serve.log()] {
        without_keys(text);
        assert!(!text.contains(bad), "{text}");
    }
    assert_eq!(world.cli(&["kill-switch", "on"]).await.code(), 0);
    let before = api.seen().len();
    assert_eq!(world.cli(&["provider", "check"]).await.code(), 1);
    assert_eq!(api.seen().len(), before, "the kill switch is for checks too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitoring_system_reads_sums_and_states() {
    let api = llm::start().await;
    let (world, token) = world(&api).await;
    let config = std::fs::read_to_string(world.home().join("oauth3.toml")).unwrap();
    world.write_config(&format!("{config}\n[metrics]\nlisten = \"127.0.0.1:0\"\n"));
    grant(&world, "openai", &[]).await;
    let serve = world.serve().await;
    let body = json!({ "model": "gpt-4o", "messages": [] });
    for (path, status) in [("chat/completions", 200), ("nothing", 404)] {
        let call = Client::new().post(format!("{}/v1/openai/{path}", serve.proxy)).bearer_auth(&token);
        let reply = call.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        assert_eq!(reply.status(), status);
        reply.bytes().await.unwrap();
    }
    let text = world.cli(&["metrics"]).await.stdout;
    let labels = r#"agent="agent",provider="openai",model="gpt-4o""#;
    for line in [
        format!("oauth3_api_calls_total{{{labels}}} 2"),
        format!("oauth3_api_failures_total{{{labels}}} 1"),
        format!(r#"oauth3_api_tokens_total{{{labels},direction="in"}} {}"#, USED.0),
        format!(r#"oauth3_api_tokens_total{{{labels},direction="out"}} {}"#, USED.1),
        "# TYPE oauth3_api_cost_dollars_total counter".to_owned(),
        "oauth3_requests_pending 0".to_owned(),
        "oauth3_runs 0".to_owned(),
        "oauth3_kill_switch 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let reply = reqwest::get(format!("{}/metrics", serve.metrics)).await.unwrap();
    assert_eq!(reply.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(reply.text().await.unwrap().trim_end(), text.trim_end());
    // Agents have no such thing, and it has nothing else.
    let agents = Client::new().get(format!("{}/metrics", serve.base)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(agents.status(), 404);
    assert_eq!(reqwest::get(format!("{}/health", serve.metrics)).await.unwrap().status(), 404);
    let json: Value = world.cli(&["metrics", "--json"]).await.json();
    assert_eq!(json["metrics"].as_str().unwrap().trim_end(), text.trim_end());
    assert!(serve.stop().await.success());

    let quiet = World::new();
    quiet.init().await;
    quiet.write_config("[metrics]\nlisten = \"here\"\n");
    let refused = quiet.try_serve().await.err().expect("it does not start");
    assert!(refused.contains("metrics.listen"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_apis_works() {
    let commands = commands_of("docs/proxy.md");
    assert!(commands.len() > 20, "the page has an example of each command");
    let api = llm::start().await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let (token_file, openclaw) = (world.home().join("agent-token"), world.home().join("openclaw.json"));
    std::fs::write(&token_file, &token).unwrap();
    std::fs::write(&openclaw, r#"{"models":{"providers":{"mine":{}}},"gateway":{"port":1}}"#).unwrap();
    let serve = world.serve().await;
    for command in &commands {
        let mut args = words(command);
        where_the_proxy_is(&mut args, &serve);
        for arg in &mut args {
            match arg.as_str() {
                "TOKEN" => *arg = token_file.display().to_string(),
                "CA_DIR" => *arg = world.home().join("ca").display().to_string(),
                "OPENCLAW_JSON" => *arg = openclaw.display().to_string(),
                _ => {}
            }
        }
        if command.starts_with("secret add") {
            args.push("--stdin".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let value = if command.contains("aws-sigv4") { AWS } else { APIS[0].4 };
        let done = world.cli_with(&args, value).await;
        assert_eq!(done.code(), 0, "oauth3 {command}: {done:?}");
        without_keys(&format!("{done:?}"));
    }
    let merged: Value = serde_json::from_str(&std::fs::read_to_string(&openclaw).unwrap()).unwrap();
    assert_eq!(
        (&merged["gateway"]["port"], &merged["models"]["providers"]["mine"]),
        (&json!(1), &json!({})),
        "{merged}"
    );
    assert_eq!(merged["models"]["providers"]["oauth3-openai"]["models"][0]["id"], "gpt-4o", "{merged}");
    assert_eq!(api.seen().len(), 2, "the check of the one key, and the wrapped program");
}
