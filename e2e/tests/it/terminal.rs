//! What a person at a real terminal types, and sees.

use e2e::world::binary;
use e2e::{Agent, Standin, World};
use serde_json::{Value, json};

/// Types at a terminal of its own; each step waits for the first text and types the second.
async fn at_terminal(world: &World, steps: &[(&str, &str)], args: &[&str]) -> Value {
    let program = binary().display().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/terminal.py");
    let mut command = tokio::process::Command::new("python3");
    command.arg(script).arg(json!(steps).to_string()).arg(program).args(args);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("OAUTH3_HOME", world.home()).env("TERM", "xterm").kill_on_drop(true);
    let output = tokio::time::timeout(e2e::PATIENCE, command.output()).await.expect("in time").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) async fn at_shell(world: &World, steps: &[(&str, &str)], args: &[&str]) -> (i64, String) {
    let done = at_terminal(world, steps, args).await;
    assert_eq!(done["restored"], true, "{done}");
    (done["code"].as_i64().unwrap(), done["screen"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_typed_unseen_and_arrives_as_typed() {
    let api = Standin::echo("api.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let add = ["secret", "add", "API_KEY", "--host", "api.example.com"];
    let prompt = "Value of API_KEY (not shown): ";

    let (code, screen) = at_shell(&world, &[(prompt, "half-a-value\u{3}")], &add).await;
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("interrupted") && !screen.contains("half-a-value"), "{screen}");
    let (code, screen) = at_shell(&world, &[(prompt, "first line\nsecond line\n")], &add).await;
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("--stdin") && !screen.contains("line\r\nsecond"), "{screen}");
    assert_eq!(world.cli(&["secret", "list", "--json"]).await.json()["secrets"], json!([]));

    // Longer than the system's own line editor takes, with a correction.
    let long = "k".repeat(5000);
    let (code, screen) = at_shell(&world, &[(prompt, &format!("{long}é\u{7f}-end\r"))], &add).await;
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("kkk"), "{screen}");

    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "// @runtime embedded\nawait fetch('https://api.example.com/', {headers: {authorization: Deno.env.get('API_KEY')}})";
    let id = agent.submit(code, json!({ "secrets": ["API_KEY"], "network": ["api.example.com"] })).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
    assert_eq!(api.seen()[0].header("authorization"), Some(&*format!("{long}-end")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_asks_for_the_passphrase_at_the_terminal() {
    let world = World::new();
    world.write_config("[vault]\nkey = \"passphrase\"\n");
    let (new, again, old) = ("New passphrase", "The same again", "Passphrase of the vault");
    let (code, screen) = at_shell(&world, &[(new, "one thing\r"), (again, "another\r")], &["init"]).await;
    assert_eq!(code, 1, "{screen}");
    assert!(!world.home().join("vault.json").exists(), "nothing is made: {screen}");
    let word = "correct horse\r";
    let (code, screen) = at_shell(&world, &[(new, word), (again, word), (old, word)], &["init"]).await;
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("horse"), "{screen}");

    let (code, screen) = at_shell(&world, &[(old, "wrong\r")], &["secret", "list"]).await;
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("passphrase is wrong"), "{screen}");
    let (code, screen) = at_shell(&world, &[(old, "\u{3}")], &["serve"]).await;
    assert_eq!(code, 1, "{screen}");
    // Ctrl-C at the terminal reaches gateway and keeper alike; both wind down.
    let (code, screen) = at_shell(&world, &[(old, word), ("listens on", "\u{3}")], &["serve"]).await;
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("ERROR"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_wrote_cannot_move_the_cursor() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let evil = "\u{9b}2J\u{1b}[31mred\u{202e}\u{7}";
    let body = json!({ "skill_id": "evil", "code": format!("// {evil}\nconsole.log({})", json!(evil)),
        "args": { "k": evil }, "metadata": { "description": evil, "runtime": "embedded" } });
    let reply = agent.execute(body).await;
    let id = reply.json["request_id"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");
    for args in [
        &["show", &*id][..],
        &["show", &id, "--json"],
        &["requests", "--all"],
        &["requests", "--all", "--json"],
        &["audit"],
        &["audit", "--json"],
        &["audit", "export"],
        &["grants"],
    ] {
        let (code, screen) = at_shell(&world, &[], args).await;
        assert_eq!(code, 0, "{args:?} {screen}");
        for bad in ["\u{9b}", "\u{1b}[31mred", "\u{1b}[2J", "\u{202e}", "\u{7}"] {
            assert!(!screen.contains(bad), "{args:?} {screen:?}");
        }
    }
}
