//! What `docs/deploy` and `integrations` hand out.

use crate::readme::{commands_of, words};
use crate::runtimes::installed;
use e2e::identity::Poll;
use e2e::world::binary;
use e2e::{IdentityProvider, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_compose_file_keeps_the_agent_apart() {
    let script = "const fs = require('fs'); const yaml = require('yaml');\
                  process.stdout.write(JSON.stringify(yaml.parse(fs.readFileSync(process.argv[1], 'utf8'))))";
    let output = Command::new(installed("OAUTH3_TEST_NODE"))
        .arg("-e")
        .arg(script)
        .arg(root().join("docs/deploy/compose.yaml"))
        .env("NODE_PATH", installed("OAUTH3_TEST_OPENCLAW").join("node_modules"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compose: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&compose), ["networks", "secrets", "services", "volumes"].map(str::to_owned).into());
    let known = [
        "build",
        "cap_drop",
        "command",
        "depends_on",
        "environment",
        "image",
        "networks",
        "read_only",
        "restart",
        "secrets",
        "security_opt",
        "tmpfs",
        "volumes",
    ];
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(keys(service).iter().all(|key| known.contains(&key.as_str())), "{name}: {service}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert!(!service.to_string().contains("docker.sock"), "{name}");
        for network in service["networks"].as_array().unwrap() {
            assert!(compose["networks"].get(network.as_str().unwrap()).is_some(), "{network}");
        }
        for secret in service["secrets"].as_array().unwrap() {
            assert!(compose["secrets"].get(secret.as_str().unwrap()).is_some(), "{secret}");
        }
    }
    let agent = &compose["services"]["agent"];
    assert_eq!((&agent["networks"], &agent["volumes"]), (&json!(["agent"]), &Value::Null), "one network, no volume");
    assert_eq!(compose["networks"]["agent"]["internal"], true);
    let dockerfile = compose["services"]["oauth3"]["build"]["dockerfile"].as_str().unwrap();
    assert!(root().join(dockerfile).is_file(), "{dockerfile}");
}

/// What somebody else's reader, which is strict about the specification and about names, says of this text.
fn read_as_compose(text: &str) -> Result<String, String> {
    let script = "import compose_spec, sys; c = compose_spec.PyCompose.from_yaml(sys.argv[1]); c.validate(); \
                  print(*sorted(c.service_names()))";
    let output = Command::new(installed("OAUTH3_TEST_COMPOSE")).args(["-c", script, text]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_compose_file_is_one_of_the_specification() {
    let text = std::fs::read_to_string(root().join("docs/deploy/compose.yaml")).unwrap();
    // It reads files after variables were put in.
    let text = text.replace("${AGENT_IMAGE:-your-agent}", "your-agent").replace("${TELEGRAM_CHAT_ID:-0}", "0");
    assert!(!text.contains("${"), "{text}");
    assert_eq!(read_as_compose(&text).unwrap(), "agent oauth3\n");
    for (right, wrong) in [("cap_drop: [ALL]", "cap_drop: ALL"), ("networks: [agent]", "networks: [nowhere]")] {
        assert!(read_as_compose(&text.replace(right, wrong)).is_err(), "it sees a mistake: {wrong}");
    }
}

#[tokio::test]
async fn the_compose_files_variables_are_what_serve_reads() {
    let mut world = World::new();
    world.init().await;
    world.set("OAUTH3_EXECUTOR", "direct");
    world.set("OAUTH3_LISTEN", "0.0.0.0:3737");
    world.set("OAUTH3_PROXY_LISTEN", "0.0.0.0:3738");
    let config = world.cli(&["config"]).await;
    assert_eq!(config.code(), 0, "{config:?}");
    for line in [r#"executor = "direct""#, r#"listen = "0.0.0.0:3737""#, r#"listen = "0.0.0.0:3738""#] {
        assert!(config.stdout.contains(line), "{line}: {config:?}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let text = std::fs::read_to_string(root().join("docs/deploy/oauth3.service")).unwrap();
    let sections: Vec<&str> = text.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(sections, ["[Unit]", "[Service]", "[Install]"]);
    for line in ["User=oauth3", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "Delegate=yes", "UMask=0077"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    assert!(!text.contains("TELEGRAM_BOT_TOKEN="), "no secret is in the environment");
    let here = text.replace("/usr/local/bin/oauth3", &binary().display().to_string());
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("oauth3.service");
    std::fs::write(&unit, here).unwrap();
    // Where systemd is not installed nobody can say more.
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&unit).output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let about = said.lines().filter(|line| line.contains("oauth3.service")).collect::<Vec<_>>();
    assert!(output.status.success() && about.is_empty(), "{said}");
}

#[tokio::test]
async fn each_skill_is_well_formed_and_names_paths_that_exist() {
    let (world, _) = World::ready("").await;
    let serve = world.serve().await;
    let openapi = reqwest::get(format!("{}/openapi.json", serve.base)).await.unwrap().text().await.unwrap();
    let openapi: Value = serde_json::from_str(&openapi).unwrap();
    let paths: Vec<String> = openapi["paths"].as_object().unwrap().keys().cloned().collect();
    for (folder, triggers) in [
        ("oauth3", &["secrets"][..]),
        ("oauth3-auth", &["\"/auth\"", "\"authenticate\"", "\"sign in\""]),
        ("oauth3-status", &["\"/status\""]),
    ] {
        let file = root().join("integrations/openclaw").join(folder).join("SKILL.md");
        let text = std::fs::read_to_string(&file).unwrap();
        let (head, body) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("{folder} has no {name}")).to_owned()
        };
        assert_eq!(field("name"), folder);
        assert!(triggers.iter().all(|word| field("description").contains(word)), "{}", field("description"));
        let metadata: Value = serde_json::from_str(&field("metadata")).unwrap();
        let needs = json!({ "requires": { "bins": ["curl"], "env": ["OAUTH3_URL"] }, "primaryEnv": "OAUTH3_TOKEN" });
        assert_eq!(metadata["openclaw"], needs, "{folder}");
        let named = body.split("$OAUTH3_URL").skip(1).map(|rest| rest.split(['"', '?', '`', ' ', ';']).next().unwrap());
        for path in named.filter(|path| !path.is_empty()) {
            let known = path.replace("REQUEST_ID", "{id}").replace("NAME", "{name}");
            assert!(paths.contains(&known), "{folder} names {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page_on_sign_ins_works() {
    let idp = IdentityProvider::start().await;
    let (world, _) = World::ready("").await;
    world.write_config(&idp.egress(world.home()));
    let serve = world.serve().await;
    let commands = commands_of("docs/sign-ins.md");
    assert!(commands.len() > 8, "{commands:?}");
    for command in commands {
        if command.starts_with("login ") {
            idp.will([Poll::person("Ann")]);
        }
        let args = words(&command);
        let done = world.cli(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(done.code(), 0, "oauth3 {command}: {done:?}");
        if command.starts_with("login ") {
            assert!(done.stdout.contains("Signed in as Ann (ann@example.com)."), "{done:?}");
        }
    }
    assert_eq!(idp.faults(), [""; 0]);
    serve.stop().await;
}
