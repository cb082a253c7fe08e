//! What scripts and agents rely on by name: variables, shapes, tables, modes.

use e2e::{Agent, World};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

fn is_recent(seconds: &Value) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    seconds.as_u64().is_some_and(|s| (now - 600..=now + 1).contains(&s))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_have_the_shapes_that_were_promised() {
    let (world, token) = World::ready("[limits]\nrequests_per_minute = 1000\n").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);

    let request = json!({ "skill_id": "s", "code": "console.log(1)", "secrets": ["SOME_KEY"] });
    let asked = agent.execute(request.clone()).await;
    assert_eq!(asked.status, 202);
    assert_eq!(
        keys(&asked.json),
        ["expires_at", "message", "missing_secrets", "request_id", "status"].into(),
        "{asked:?}"
    );
    assert_eq!(asked.json["missing_secrets"], json!(["SOME_KEY"]));
    let id = asked.json["request_id"].as_str().unwrap();
    assert!(id.starts_with("req_"));
    let status = agent.status(id).await;
    assert_eq!(keys(&status), ["created_at", "request_id", "status"].into(), "{status}");
    assert!(is_recent(&status["created_at"]), "{status}");

    let mut dry = request;
    dry["dry_run"] = json!(true);
    let dry = agent.execute(dry).await;
    assert_eq!((dry.status, keys(&dry.json)), (200, ["decision", "missing_secrets", "reason"].into()), "{dry:?}");
    assert_eq!(dry.json["decision"], "ask");
    assert_eq!(world.cli(&["requests", "--all", "--json"]).await.json()["requests"].as_array().unwrap().len(), 1);

    let code = "console.log('out'); console.error('err')";
    let id = agent.submit(code, json!({ "runtime": "embedded" })).await;
    assert_eq!(world.cli(&["approve", &id, "--trust", "24h"]).await.code(), 0);
    let status = agent.finished(&id).await;
    let result = json!({ "success": true, "stdout": "out\n", "stderr": "err\n", "exitCode": 0, "truncated": false,
                         "duration": status["result"]["duration"] });
    assert!(status["result"]["duration"].is_u64() && status["trust"] == "24h", "{status}");
    assert_eq!(status["result"], result);
    assert!(is_recent(&status["approved_at"]) && is_recent(&status["executed_at"]), "{status}");
    let again = agent.execute(json!({ "skill_id": "test", "code": code, "metadata": { "runtime": "embedded" } })).await;
    assert_eq!((again.status, &again.json["trusted"]), (200, &json!(true)), "{again:?}");
    for (key, value) in [("status", json!("success")), ("stdout", json!("out\n")), ("stderr", json!("err\n"))] {
        assert_eq!(again.json[key], value);
    }
    assert!(again.json["exit_code"] == 0 && again.json["duration"].is_u64(), "{again:?}");

    let health = agent.call(Method::GET, "/health", None).await.json;
    assert_eq!(keys(&health), ["database", "executor", "keeper", "status", "telegram", "version"].into());
    assert_eq!((&health["telegram"], &health["executor"]), (&json!("disabled"), &json!("native")));

    world.add_secret("SOME_KEY", "some-value-of-a-key-1234", &["api.example.com"]).await;
    let secrets = agent.call(Method::GET, "/secrets", None).await.json;
    assert_eq!(secrets, json!({ "secrets": [{ "name": "SOME_KEY", "hosts": ["api.example.com"], "set": true }] }));

    for (command, list, time) in [
        (&["requests", "--all"][..], "requests", "created_at"),
        (&["grants"], "grants", "granted_at"),
        (&["secret", "list"], "secrets", "created_at"),
        (&["agent", "list"], "agents", "created_at"),
    ] {
        let shown = world.cli(&[command, &["--json"]].concat()).await.json();
        assert_eq!(keys(&shown), [list].into(), "an object with one list");
        let first = &shown[list][0];
        assert!(is_recent(&first[time]), "{command:?} shows whole Unix seconds: {first}");
    }
    let mut shown = world.cli(&["show", &id, "--json"]).await.json();
    // What a run used is the owner's to see.
    let used = shown["result"].as_object_mut().unwrap().remove("usage").unwrap();
    assert!(used["cpu_ms"].is_u64(), "{used}");
    assert_eq!((&shown["result"], &shown["code"]), (&result, &json!(code)), "as the API shows it");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_agree_are_no_conflict() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let header = "// @skill s\n// @description d\n// @secrets A, B\n// @network b.example a.example:443\n// @timeout 10\n// @runtime embedded\n";
    let reply = agent
        .execute(json!({
            "skill_id": "s", "code": format!("{header}1"), "secrets": ["B", "A", "A"],
            "metadata": { "description": "d", "secrets": ["A", "B"], "network": ["A.example", "b.example"],
                          "timeout": 10.0, "runtime": "embedded" }
        }))
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let shown = world.cli(&["show", reply.json["request_id"].as_str().unwrap(), "--json"]).await.json();
    assert_eq!(shown["secrets"], json!(["A", "B"]));
    assert_eq!(shown["network"], json!(["a.example", "b.example"]));
    assert_eq!(shown["limits"]["timeout_ms"], 10_000);

    // Whatever is not in the leading comment block is code and names nothing.
    for code in ["let x = 1\n// @skill other\n// @network evil.example", "/* @skill other */\n1", "'// @skill other'"] {
        let reply = agent.execute(json!({ "skill_id": "s", "code": code })).await;
        assert_eq!(reply.status, 202, "{code}: {reply:?}");
        let shown = world.cli(&["show", reply.json["request_id"].as_str().unwrap(), "--json"]).await.json();
        assert_eq!(shown["network"], json!([]), "{code}");
    }
    for (code, change) in [
        ("// @secrets\n1", json!({ "secrets": ["A"] })),
        ("// @network a.example:8443\n1", json!({ "metadata": { "network": ["a.example"] } })),
        ("// @timeout 10\n1", json!({ "metadata": { "timeout": 11 } })),
        ("// @description one\n1", json!({ "metadata": { "description": "two" } })),
        ("// @secrets A\n1", json!({ "metadata": { "secrets": [] }, "dry_run": true })),
    ] {
        let mut body = json!({ "skill_id": "s", "code": code });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = agent.execute(body).await;
        assert_eq!((reply.status, &reply.json["error"]), (400, &json!("conflicting_metadata")), "{code}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_the_older_systems_are_honoured() {
    let mut world = World::new();
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(world.home().join("bot"), "123:a-bot-token-that-stays-inside\n").unwrap();
    world.set("PORT", place.port().to_string());
    world.set("DB_PATH", world.home().join("other.db").display().to_string());
    world.set("EXECUTOR_MODE", "native");
    world.set("PUBLIC_URL", "https://oauth3.example.com");
    world.set("TELEGRAM_BOT_TOKEN_FILE", world.home().join("bot").display().to_string());
    world.set("TELEGRAM_CHAT_ID", "42");
    world.set("TELEGRAM_API_URL", "http://127.0.0.1:9");
    let token = world.init().await;
    let serve = world.serve().await;
    assert_eq!(serve.base, format!("http://{place}"));
    assert!(world.home().join("other.db").exists() && !world.db().exists());
    let agent = Agent::new(&serve.base, &token);
    let reply = agent.execute(json!({ "skill_id": "s", "code": "1" })).await;
    assert_eq!((reply.status, &reply.json["message"]), (202, &json!("Approval request sent to Telegram")));
    let told = async { while agent.call(Method::GET, "/health", None).await.json["telegram"] != "error" {} };
    tokio::time::timeout(std::time::Duration::from_secs(12), told).await.expect("within 12 s");
    assert!(!serve.log().contains("stays-inside"), "{}", serve.log());
    serve.stop().await;

    // A token without a chat: the bot can tell people the chat's id, and the owner is asked elsewhere.
    world.set("TELEGRAM_CHAT_ID", "");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let message = agent.execute(json!({ "skill_id": "s", "code": "2" })).await.json["message"].clone();
    assert!(message.as_str().unwrap().contains("oauth3 approve"), "{message}");
    assert_eq!(agent.call(Method::GET, "/health", None).await.json["telegram"], "disabled");
    assert!(serve.log().contains("TELEGRAM_CHAT_ID"), "{}", serve.log());
    serve.stop().await;
    for mode in ["vm", ""] {
        world.set("EXECUTOR_MODE", mode);
        let done = world.cli(&["config", "--json"]).await;
        assert_eq!(done.code(), i32::from(!mode.is_empty()), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_is_the_owners_alone_and_has_the_tables_that_were_promised() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    Agent::new(&serve.base, &token).submit("1", json!({})).await;
    for entry in std::fs::read_dir(world.home()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if ["oauth3.db", "master.key", "audit.head", ".sock"].iter().any(|part| name.contains(part)) {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{name}");
        }
    }
    let script = "import sqlite3, sys\nfor (n,) in sqlite3.connect(sys.argv[1]).execute(\"SELECT name FROM sqlite_master WHERE type = 'table'\"): print(n)";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(world.db()).output().unwrap();
    let tables = String::from_utf8(output.stdout).unwrap();
    for table in ["secrets", "approvals", "executions", "audit"] {
        assert!(tables.lines().any(|t| t == table), "{table}: {tables}");
    }
}

/// Even when somebody loosened the modes, the sockets look at who calls. Only root can become another user, so
/// elsewhere there is nothing to ask. The system's own Python it is: others may not be readable to that user.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_gets_nothing_from_the_sockets() {
    let (world, _) = World::ready("").await;
    let _serve = world.serve().await;
    let as_other = |script: &str, args: &[&std::path::Path]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c", script]).args(args);
        command.env("PATH", "/usr/bin:/bin").output().ok().filter(|output| output.status.success())
    };
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) != 0 {
        return;
    }
    assert!(as_other("", &[]).is_some(), "root can become another user: setpriv and python3 are there");
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(world.home(), 0o755);
    for socket in ["owner.sock", "keeper.sock"] {
        let path = world.home().join(socket);
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ntry:\n s.connect(sys.argv[1]); print('connected'); s.settimeout(20); s.sendall(b'GET /requests HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n'); print('got', len(s.recv(4096)))\nexcept OSError as e: print('refused')";
        let ask = || String::from_utf8(as_other(script, &[&path]).expect("it ran").stdout).unwrap();
        assert_eq!(ask(), "refused\n", "{socket}: its mode keeps others out");
        open(&path, 0o777);
        let text = ask();
        assert!(text == "connected\nrefused\n" || text == "connected\ngot 0\n", "{socket}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_ends_with_its_reader_and_nothing_else_minds_a_closed_pipe() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    agent.submit("1", json!({})).await;
    for args in [&["audit", "--follow"][..], &["requests", "--watch"], &["audit", "export"], &["requests", "--all"]] {
        let mut child = world.command(args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = tokio::time::timeout(e2e::world::PATIENCE, child.wait()).await.expect("ends").unwrap();
        assert!(ended.success(), "{args:?}: {ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_was_cut_short_is_ended_by_the_next() {
    let world = World::new();
    let loosen = |mode| std::fs::set_permissions(world.home(), std::fs::Permissions::from_mode(mode)).unwrap();
    loosen(0o777);
    assert_eq!(world.cli(&["init"]).await.code(), 1, "others could write there");
    loosen(0o700);
    let token = world.init().await;
    assert_eq!(world.cli(&["init"]).await.code(), 1, "once");
    world.write_config("");
    let serve = world.serve().await;
    assert_eq!(Agent::new(&serve.base, &token).call(Method::GET, "/secrets", None).await.status, 200);
}
