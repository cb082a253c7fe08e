//! Programs that know nothing of oauth3, with the variables of `oauth3 env --forward`.

use crate::runtimes::installed;
use crate::sdks;
use e2e::llm::{self, APIS};
use e2e::sdks::{Sdks, without_keys};
use e2e::{Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use std::collections::BTreeMap;
use std::path::Path;
use tokio::process::Command;

/// What `oauth3 env --forward` says.
pub(crate) async fn variables(world: &World, serve: &Serve, token: &str) -> BTreeMap<String, String> {
    let dir = world.home().join("for the agent");
    let env = ["env", "--forward", "--ca-dir", dir.to_str().unwrap(), "--proxy-url", &serve.proxy, "--json"];
    serde_json::from_value(world.cli_with(&env, token).await.json()).unwrap()
}

/// What a program prints that has these variables and no others.
pub(crate) async fn prints(program: &Path, args: &[&str], variables: &BTreeMap<String, String>) -> String {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(variables);
    let output = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_goes_through_with_nothing_but_the_variables() {
    let api = llm::start().await;
    let (world, token) = sdks::world(&api).await;
    for (provider, ..) in APIS {
        sdks::grant(&world, provider, &[]).await;
    }
    let serve = world.serve().await;
    let variables = variables(&world, &serve, &token).await;
    assert_eq!(variables["OPENAI_API_KEY"], "oauth3", "SDKs want one, and any will do");
    assert!(variables["HTTPS_PROXY"].contains(&format!("agent:{token}@")), "{variables:?}");
    let url = "https://api.openai.com/v1/models";
    let list = "\"object\":\"list\"";
    let python = installed("OAUTH3_TEST_SDKS");
    let urllib = format!("import urllib.request as u\nprint(u.urlopen('{url}').read().decode())");
    let requests = format!("import requests\nr = requests.get('{url}')\nr.raise_for_status()\nprint(r.text)");
    let fetch = format!("const r = await fetch('{url}');\nif (!r.ok) throw r.status;\nconsole.log(await r.text());");
    let deno = installed("OAUTH3_TEST_DENO");
    for (program, args) in [
        (Path::new("curl"), vec!["-sSf", url]),
        (&*python, vec!["-c", &urllib]),
        (&*python, vec!["-c", &requests]),
        (&*installed("OAUTH3_TEST_NODE"), vec!["--input-type=module", "-e", &fetch]),
        (&*deno, vec!["eval", &fetch]),
    ] {
        let text = prints(program, &args, &variables).await;
        assert!(text.replace(' ', "").contains(list), "{program:?} {args:?}: {text}");
    }
    assert_eq!(api.seen().len(), 5);

    // The official SDKs, at the APIs' own addresses.
    let variables: Vec<(String, String)> = variables.into_iter().collect();
    let mut sdks = Sdks::start(&python, &variables);
    let calls = [
        ("chat", "gpt-4o"),
        ("chat-stream", "gpt-4o-mini"),
        ("responses-stream", "gpt-5"),
        ("messages", "claude-sonnet-4-5"),
        ("messages-stream", "claude-haiku-4-5"),
        ("generate", "gemini-2.5-flash"),
        ("generate-stream", "gemini-2.5-pro"),
    ];
    for line in sdks.ask(None, "", "hi", &calls).await {
        assert_eq!(line["text"], "hello", "{line}");
    }
    for line in sdks.ask(None, "", llm::SEND_KEY_BACK, &calls[..1]).await {
        assert_eq!(line["status"], 400, "{line}");
    }
    sdks.stop().await;
    let seen = api.seen();
    assert_eq!(seen.len(), 5 + calls.len() + 1, "each with the right key in the right place, at the first try");
    assert!(!format!("{seen:?}").contains(&token));
    let audit = world.cli(&["audit", "export"]).await.stdout;
    without_keys(&audit);
    assert!(!audit.contains(&token));
    without_keys(&serve.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn git_lists_a_repository_of_a_host_that_the_owner_opened() {
    let host = Standin::start("git.example", |seen| {
        let reply =
            |text: &str| Response::builder().header("content-type", "text/plain").body(Full::from(text.to_owned()));
        match seen.target.split('?').next().unwrap_or_default() {
            "/x.git/info/refs" => reply("0123456789abcdef0123456789abcdef01234567\trefs/heads/main\n").unwrap(),
            "/x.git/HEAD" => reply("ref: refs/heads/main\n").unwrap(),
            _ => Response::builder().status(404).body(Full::default()).unwrap(),
        }
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&format!("{}[proxy]\nforward_hosts = [\"git.example\"]\n", host.egress(world.home())));
    let serve = world.serve().await;
    let variables = variables(&world, &serve, &token).await;
    let refs = prints(Path::new("git"), &["ls-remote", "https://git.example/x.git"], &variables).await;
    assert!(refs.contains("refs/heads/main"), "{refs}");
}
