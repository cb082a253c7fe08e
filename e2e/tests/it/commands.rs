//! The command line: set-up, secrets, agents, exit codes.

use e2e::{Agent, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn init_needs_only_a_home_and_happens_once() {
    let world = World::new();
    let token = world.init().await;
    assert!(token.starts_with("oa3_"), "{token}");
    assert_eq!(world.cli(&["init"]).await.code(), 1, "a second init changes nothing");
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777
    };
    for file in ["master.key", "oauth3.db"] {
        assert_eq!(mode(&world.home().join(file)), 0o600, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_can_read_is_refused() {
    let world = World::new();
    world.init().await;
    let key = world.home().join("master.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let done = world.cli(&["secret", "list"]).await;
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(done.stderr.contains("chmod 600"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_go_in_and_never_come_out() {
    let (world, _) = World::ready("").await;
    let value = "a-value-that-nobody-may-see-8172";
    // A value as an argument is a usage error.
    assert_eq!(world.cli(&["secret", "add", "API_KEY", value]).await.code(), 2);
    assert_eq!(world.cli(&["secret", "add", "API_KEY"]).await.code(), 2, "nobody is there to type it");
    world.add_secret("API_KEY", value, &["api.example.com", "api.example.com:8443"]).await;
    let again = world.cli_with(&["secret", "add", "API_KEY", "--stdin"], "x").await;
    assert_eq!(again.code(), 1, "it exists: {again:?}");
    for name in ["lower", "LD_PRELOAD", "PATH", "1A"] {
        assert_eq!(world.cli_with(&["secret", "add", name, "--stdin"], "x").await.code(), 2, "{name}");
    }
    let list = world.cli(&["secret", "list", "--json"]).await;
    assert_eq!(list.json()["secrets"][0]["name"], "API_KEY");
    assert_eq!(list.json()["secrets"][0]["hosts"], json!(["api.example.com", "api.example.com:8443"]));
    assert!(!list.stdout.contains(value));
    let bytes = std::fs::read(world.db()).unwrap();
    assert!(!bytes.windows(value.len()).any(|w| w == value.as_bytes()), "plaintext at rest");
    assert_eq!(world.cli_with(&["secret", "rotate", "API_KEY", "--stdin"], "another").await.code(), 0);
    assert_eq!(world.cli(&["secret", "list", "--json"]).await.json()["secrets"][0]["version"], 2);
    assert_eq!(world.cli(&["secret", "remove", "API_KEY"]).await.code(), 0);
    assert_eq!(world.cli(&["secret", "remove", "API_KEY"]).await.code(), 1);
    assert_eq!(world.cli(&["secret", "list", "--json"]).await.json()["secrets"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_added_rotated_and_revoked() {
    let (world, first) = World::ready("").await;
    let added = world.cli(&["agent", "add", "laptop", "--json"]).await.json();
    assert_eq!(added["name"], "laptop");
    let old = added["token"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["agent", "add", "laptop"]).await.code(), 1);
    assert_eq!(world.cli(&["agent", "add", "Bad Name"]).await.code(), 2);

    let serve = world.serve().await;
    let status =
        async |token: &str| Agent::new(&serve.base, token).call(reqwest::Method::GET, "/secrets", None).await.status;
    assert_eq!((status(&first).await, status(&old).await), (200, 200));
    let new = world.cli(&["agent", "rotate", "laptop", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!((status(&old).await, status(&new).await), (401, 200), "rotated while serve runs");
    assert_eq!(world.cli(&["agent", "revoke", "laptop"]).await.code(), 0);
    assert_eq!((status(&new).await, status(&first).await), (401, 200));
    assert_eq!(world.cli(&["agent", "list", "--json"]).await.json()["agents"].as_array().unwrap().len(), 2);
    let bytes = std::fs::read(world.db()).unwrap();
    assert!(!bytes.windows(first.len()).any(|w| w == first.as_bytes()), "tokens are stored as hashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_before_a_port_opens() {
    let (world, _) = World::ready("colour = \"red\"\n").await;
    let error = world.try_serve().await.err().expect("an unknown key is fatal");
    assert!(error.contains("colour"), "{error}");
    world.write_config("");
    let config = world.cli(&["config", "--json"]).await.json();
    assert_eq!(config["limits"]["pending_minutes"], 15.0);
    assert_eq!(config["telegram_token"], "not set");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_passphrase_opens_the_vault_and_a_wrong_one_does_not() {
    let mut world = World::new();
    world.write_config("[vault]\nkey = \"passphrase\"\n");
    std::fs::write(world.home().join("pass"), "correct horse battery staple\n").unwrap();
    let file = world.home().join("pass").display().to_string();
    world.set("OAUTH3_PASSPHRASE_FILE", file);
    world.init().await;
    world.add_secret("API_KEY", "some-value-1234567890", &["api.example.com"]).await;
    assert!(!world.home().join("master.key").exists());
    std::fs::write(world.home().join("pass"), "wrong\n").unwrap();
    let done = world.cli(&["secret", "list"]).await;
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(done.stderr.contains("passphrase"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_commands_say_what_is_missing() {
    let world = World::new();
    let done = world.cli(&["requests"]).await;
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("oauth3 init"), "{done:?}");
    world.init().await;
    let done = world.cli(&["approve", "req_doesnotexist"]).await;
    assert_eq!(done.code(), 1);
    assert!(done.stderr.contains("oauth3 serve"), "{done:?}");
    assert_eq!(world.cli(&["approve", "nonsense"]).await.code(), 2);
    world.write_config("");
    let _serve = world.serve().await;
    assert_eq!(world.cli(&["approve", "req_doesnotexist"]).await.code(), 1);
    let second = world.try_serve().await.err().expect("one gateway per data directory");
    assert!(second.contains("already"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_with_the_code_of_the_verdict() {
    let (world, _) = World::ready("[limits]\npending_minutes = 0.02\n").await;
    let serve = world.serve().await;
    let file = world.home().join("skill.js");
    std::fs::write(&file, "console.log('hello', Deno.env.get('ARG_who'))").unwrap();
    let path = file.display().to_string();
    let expired = world.cli(&["run", &path, "--json"]).await;
    assert_eq!(expired.code(), 4, "{expired:?} {}", serve.log());
    serve.stop().await;

    world.write_config("");
    let _serve = world.serve().await;
    for (answer, code) in [("approve", 0), ("deny", 3)] {
        let args = ["run", &path, "--arg", "who=world", "--runtime", "embedded"];
        let (ran, ()) = tokio::join!(world.cli(&args), async {
            let id = first_request(&world).await;
            assert_eq!(world.cli(&[answer, &id]).await.code(), 0);
            assert_eq!(world.cli(&[answer, &id]).await.code(), 1, "decided once");
        });
        assert_eq!(ran.code(), code, "{ran:?}");
        assert_eq!(ran.stdout.contains("hello world"), code == 0, "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_json_too_when_asked_for() {
    let world = World::new();
    let error = |done: &e2e::Done| -> serde_json::Value {
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {done:?}"))
    };
    for (args, code, name) in [
        (&["requests", "--json"][..], 1, "failed"),
        (&["approve", "nonsense", "--json"], 2, "usage"),
        (&["run", "--json"], 2, "usage"),
        (&["run", "x.js", "--arg", "no-equals-sign", "--json"], 2, "usage"),
    ] {
        let done = world.cli(args).await;
        assert_eq!((done.code(), &error(&done)["error"]), (code, &json!(name)), "{args:?} {done:?}");
        assert!(!error(&done)["error_description"].as_str().unwrap().is_empty());
    }
    world.init().await;
    let done = world.cli(&["secret", "add", "API_KEY", "--json"]).await;
    assert_eq!((done.code(), &error(&done)["error"]), (2, &json!("usage")), "nobody is there to type it");
    world.write_config("");
    let _serve = world.serve().await;
    let done = world.cli(&["show", "req_doesnotexist", "--json"]).await;
    assert_eq!((done.code(), &error(&done)["error"]), (1, &json!("not_found")), "{done:?}");
    // A run that policy refuses is denied, not failed.
    std::fs::write(world.home().join("skill.js"), "console.log(1)").unwrap();
    let file = world.home().join("skill.js").display().to_string();
    assert_eq!(world.cli(&["kill-switch", "on"]).await.code(), 0);
    let done = world.cli(&["run", &file, "--runtime", "embedded", "--json"]).await;
    assert_eq!((done.code(), &error(&done)["error"]), (3, &json!("denied_by_policy")), "{done:?}");
}

/// The id of the one request that waits.
pub(crate) async fn first_request(world: &World) -> String {
    loop {
        let list = world.cli(&["requests", "--json"]).await.json();
        if let Some(id) = list["requests"][0]["request_id"].as_str() {
            return id.to_owned();
        }
    }
}
