//! What a secret may do: slots, rules and signatures, from the command line to the wire.

use crate::readme::{commands_of, words};
use data_encoding::HEXLOWER;
use e2e::{Agent, Standin, World};
use hmac::{Hmac, Mac};
use hyper::Response;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;
use sha2::Sha256;

const VALUE: &str = "sk-proj-0PzK3mWq8vT1nXs5LrYb7HdJ";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_about_secrets_works() {
    let commands = commands_of("docs/secrets.md");
    assert!(commands.len() > 10, "the page has an example of each option");
    let (world, _) = World::ready("").await;
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap().serialize_pem();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    for command in &commands {
        let mut args = words(command);
        args.push("--stdin".into());
        let value = match args.iter().skip_while(|arg| *arg != "--kind").nth(1).map(String::as_str) {
            Some("aws-sigv4") => "AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            Some("jwt-rs256") => &rsa,
            Some("jwt-es256") => &ec,
            _ => "some-value-of-at-least-32-characters-1234567890",
        };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = world.cli_with(&args, value).await;
        assert_eq!(done.code(), 0, "oauth3 {command}: {done:?}");
        // What is not what the kind needs is refused, and not repeated.
        if args.contains(&"jwt-rs256") {
            let mut again = args.clone();
            again[2] = "OTHER";
            let refused = world.cli_with(&again, VALUE).await;
            assert_ne!(refused.code(), 0, "{refused:?}");
            assert!(!format!("{refused:?}").contains(VALUE), "{refused:?}");
        }
    }
    let listed = world.cli(&["secret", "list", "--json"]).await.json();
    let github = listed["secrets"].as_array().unwrap().iter().find(|s| s["name"] == "GITHUB_TOKEN").unwrap().clone();
    assert_eq!((&github["rules"], &github["version"]), (&json!([]), &json!(3)), "{github}");
    let one = world.cli(&["secret", "add", "X", "--host", "a.example", "--allow", "b.example GET /"]).await;
    assert!(one.code() == 2 && one.stderr.contains("not bound to"), "{one:?}");
}

const CODE: &str = r#"// @runtime embedded
const key = Deno.env.get('KEY'), hook = Deno.env.get('HOOK');
const call = async (method, path, headers, body) => {
  const r = await fetch('https://api.example.com' + path, { method, headers, body });
  return r.status + ' ' + (await r.text()).trim();
};
const results = [
  await call('POST', `/repos/acme/${key}?token=${key}`, { 'x-key': key, 'content-type': 'application/json', 'x-api-key': 'mine' }, JSON.stringify({ key })),
  await call('GET', '/repos/evil/x', { 'x-key': key }),
  await call('GET', '/repos/acme/%2e%2e/evil', { 'x-key': key }),
  await call('POST', '/hook', { 'x-signature': hook }, 'hello'),
];
console.log(JSON.stringify(results));
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_does_what_its_binding_says_and_nothing_else() {
    // Sends back all that it got.
    let api = Standin::start("api.example.com", |seen| {
        let key = seen.header("x-key").unwrap_or_default();
        Response::new(format!("{} {key} {}", seen.target, String::from_utf8_lossy(&seen.body)).into())
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let allow = "api.example.com GET,POST /repos/acme/*";
    let add =
        ["secret", "add", "KEY", "--host", "api.example.com", "--in", "header,query,body", "--allow", allow, "--stdin"];
    assert_eq!(world.cli_with(&add, VALUE).await.code(), 0);
    let add = ["secret", "add", "HOOK", "--host", "api.example.com", "--kind", "hmac-sha256", "--stdin"];
    assert_eq!(world.cli_with(&add, "the key of the hook").await.code(), 0);
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let id = agent.submit(CODE, json!({ "secrets": ["KEY", "HOOK"], "network": ["api.example.com"] })).await;
    let shown = world.cli(&["show", &id]).await.stdout;
    assert!(shown.contains("in header, query, body") && shown.contains(&format!("only {allow}")), "{shown}");
    assert!(shown.contains("HMAC-SHA256 over body; the key stays here"), "{shown}");
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status} {}", serve.log());
    assert!(!status.to_string().contains(VALUE), "{status}");

    let seen = api.seen();
    assert_eq!(seen.len(), 2, "{status}");
    let placeholder = seen[0].target.strip_prefix("/repos/acme/").unwrap().split('?').next().unwrap();
    assert_eq!(placeholder.len(), VALUE.len(), "a path is not among its slots");
    assert_eq!(seen[0].target, format!("/repos/acme/{placeholder}?token={VALUE}"));
    assert_eq!((seen[0].header("x-key"), seen[0].header("x-api-key")), (Some(VALUE), Some("mine")));
    assert_eq!(seen[0].body, format!("{{\"key\":\"{VALUE}\"}}").into_bytes());
    let mut mac = Hmac::<Sha256>::new_from_slice(b"the key of the hook").unwrap();
    mac.update(b"hello");
    assert_eq!(seen[1].header("x-signature"), Some(HEXLOWER.encode(&mac.finalize().into_bytes()).as_str()));

    let results: Vec<String> = serde_json::from_str(status["result"]["stdout"].as_str().unwrap().trim()).unwrap();
    assert!(results[0].starts_with("200 ") && results[3].starts_with("200 "), "{results:?}");
    assert!(results[1].starts_with("403 ") && results[1].contains("no rule of the secret allows"), "{results:?}");
    assert!(results[2].starts_with("403 "), "{results:?}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.contains("no rule of the secret allows this method and path"), "{audit}");
    let shown = world.cli(&["show", &id]).await.stdout;
    assert!(shown.contains("refusals by the egress: 1,"), "{shown}");
}
