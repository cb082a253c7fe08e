//! Imports from elsewhere: pinned, fetched before the approval, shown, and the same when they run.

use crate::runtimes::installed;
use data_encoding::{BASE64, HEXLOWER};
use e2e::{Agent, Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tar::{Builder, EntryType, Header};

const HOSTS: &[&str] = &["npm.example", "jsr.example", "web.example"];
const JSR_MODULE: &str = "export const j: number = 3;";

fn tarball(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, bytes) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&builder.into_inner().unwrap()).unwrap();
    encoder.finish().unwrap()
}

fn package(name: &str, version: &str, extra: Value, code: &str) -> Vec<u8> {
    let mut about = json!({ "name": name, "version": version, "type": "module", "exports": "./index.js" });
    about.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    tarball(&[
        ("package/package.json", EntryType::Regular, about.to_string().as_bytes()),
        ("package/index.js", EntryType::Regular, code.as_bytes()),
    ])
}

/// `foo` needs `bar`; `evil` leaves its directory, `link` links, `big` blows up, `loose` needs a range.
fn packed(name: &str, changed: bool) -> Option<Vec<u8>> {
    let scripts = json!({ "scripts": { "preinstall": "touch /tmp/ran", "postinstall": "touch /tmp/ran" } });
    let outside = |path, kind| tarball(&[("package/package.json", EntryType::Regular, b"{}"), (path, kind, b"")]);
    Some(match name {
        "foo" if changed => package("foo", "1.2.3", scripts, "export const a = 'changed';"),
        "foo" => package("foo", "1.2.3", scripts, "import { b } from 'bar'; export const a = 'foo' + b;"),
        "bar" => package("bar", "1.0.0", json!({}), "export const b = 'bar';"),
        "evil" => outside("package/../../../main.mjs", EntryType::Regular),
        "link" => outside("package/x", EntryType::Symlink),
        "loose" => package("loose", "1.0.0", json!({}), "1"),
        "big" => tarball(&[("package/x", EntryType::Regular, &vec![0; 64 << 20])]),
        _ => return None,
    })
}

fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", BASE64.encode(&Sha512::digest(bytes)))
}

/// How the registries are.
#[derive(Default)]
struct Mood {
    changed: AtomicBool,
    down: AtomicBool,
}

async fn registries(mood: Arc<Mood>) -> Standin {
    Standin::start_for(HOSTS, move |seen| {
        let changed = mood.changed.load(Ordering::Acquire);
        let reply = Response::builder();
        let body = |bytes: Vec<u8>| reply.body(Full::from(bytes)).unwrap();
        let missing = || Response::builder().status(404).body(Full::default()).unwrap();
        if mood.down.load(Ordering::Acquire) {
            return Response::builder().status(503).body(Full::default()).unwrap();
        }
        let parts: Vec<&str> = seen.target.trim_start_matches('/').split('/').collect();
        match (seen.header("host").unwrap_or_default(), parts.as_slice()) {
            ("npm.example", [name, "-", _]) => packed(name, changed).map_or_else(missing, body),
            ("npm.example", [name, version]) => {
                let dependencies = match *name {
                    "foo" => json!({ "bar": "1.0.0" }),
                    "loose" => json!({ "bar": "^1.0.0" }),
                    _ => json!({}),
                };
                let Some(bytes) = packed(name, changed) else { return missing() };
                let about = json!({ "name": name, "version": version, "dependencies": dependencies,
                    "dist": { "integrity": integrity(&bytes), "tarball": "https://evil.example/x.tgz" } });
                body(about.to_string().into_bytes())
            }
            ("jsr.example", ["@s", "j", "1.0.0_meta.json"]) => {
                let checksum = format!("sha256-{}", HEXLOWER.encode(&Sha256::digest(JSR_MODULE)));
                let manifest = json!({ "/mod.ts": { "size": JSR_MODULE.len(), "checksum": checksum } });
                body(json!({ "exports": { ".": "./mod.ts" }, "manifest": manifest }).to_string().into_bytes())
            }
            ("jsr.example", ["@s", "j", "1.0.0", "mod.ts"]) => body(JSR_MODULE.into()),
            ("web.example", ["x.ts"]) => {
                body(b"import { y } from './lib/y.ts?v=1'; export const x: number = y + 1;".to_vec())
            }
            ("web.example", ["lib", "y.ts?v=1"]) => {
                body(b"import { z } from '/z.js'; export const y: number = z;".to_vec())
            }
            ("web.example", ["z.js"]) => body(b"export const z = 1;".to_vec()),
            ("web.example", ["private.ts"]) => {
                Response::builder().status(302).header("location", "https://localhost/x").body(Full::default()).unwrap()
            }
            ("web.example", ["plain.ts"]) => Response::builder()
                .status(302)
                .header("location", "http://web.example/z.js")
                .body(Full::default())
                .unwrap(),
            ("web.example", ["next.ts"]) => body(b"import 'https://127.0.0.1/x.ts'".to_vec()),
            _ => missing(),
        }
    })
    .await
}

async fn start(server: &Standin, allow: &str) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    let (deno, node) = (installed("OAUTH3_TEST_DENO"), installed("OAUTH3_TEST_NODE"));
    let imports = format!(
        "[imports]\nallow = {allow}\nnpm_registry = \"https://npm.example\"\njsr_registry = \"https://jsr.example/\"\n"
    );
    let runtimes = format!("[runtimes]\ndeno = {deno:?}\nnode = {node:?}\n");
    world.write_config(&format!("{}{imports}{runtimes}", server.egress(world.home())));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

const ALL: &str = "[\"npm\", \"jsr\", \"https\"]";
const DENO: &str = "import { a } from 'npm:foo@1.2.3';\nimport { x } from 'https://web.example/x.ts';\nimport { j } from 'jsr:@s/j@1.0.0';\nconst ran = await Deno.stat('/tmp/ran').then(() => 'ran', () => 'no script');\nconsole.log(a, x, j, ran);";

fn deno(code: &str) -> Value {
    json!({ "skill_id": "s", "code": code, "metadata": { "runtime": "deno" } })
}

fn node(dependencies: &Value, lock: Option<&Value>) -> Value {
    let main = "import fs from 'node:fs';\nimport { a } from 'foo';\nconsole.log(a, fs.existsSync('/tmp/ran'));";
    let mut files = vec![
        json!({ "path": "main.mjs", "content": main }),
        json!({ "path": "package.json", "content": json!({ "dependencies": dependencies }).to_string() }),
    ];
    files.extend(lock.map(|lock| json!({ "path": "package-lock.json", "content": lock.to_string() })));
    json!({ "skill_id": "s", "files": files, "metadata": { "runtime": "node" } })
}

fn package_lock(of_foo: &str) -> Value {
    let entry = |version: &str, integrity: &str| json!({ "version": version, "integrity": integrity, "resolved": "https://evil.example/x.tgz" });
    json!({ "lockfileVersion": 3, "packages": {
        "": { "dependencies": { "foo": "^1.0.0" } },
        "node_modules/foo": entry("1.2.3", of_foo),
        "node_modules/foo/node_modules/bar": entry("1.0.0", &integrity(&packed("bar", false).unwrap())),
    } })
}

async fn asked(agent: &Agent, body: Value) -> String {
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    reply.json["request_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_imports_are_fetched_before_the_approval_shown_and_run_without_a_network() {
    let server = registries(Arc::default()).await;
    let (world, serve, agent) = start(&server, ALL).await;
    let lock = package_lock(&integrity(&packed("foo", false).unwrap()));
    for (body, shows, prints) in [
        (
            deno(DENO),
            &[
                "npm:foo@1.2.3 · ",
                "npm:bar@1.0.0 · ",
                "https://web.example/x.ts · ",
                "https://jsr.example/@s/j/1.0.0/mod.ts · ",
            ][..],
            "foobar 2 3 no script\n",
        ),
        (node(&json!({ "foo": "1.2.3" }), None), &["npm:foo@1.2.3 · ", "npm:bar@1.0.0 · "], "foobar false\n"),
        (node(&json!({ "foo": "^1.0.0" }), Some(&lock)), &["npm:foo@1.2.3 · ", "npm:bar@1.0.0 · "], "foobar false\n"),
    ] {
        let id = asked(&agent, body).await;
        let fetched = server.seen().len();
        let shown = world.cli(&["show", &id]).await.stdout;
        assert!(shows.iter().all(|part| shown.contains(part)), "{shown}");
        assert!(shown.contains("CONTENTS NOT SHOWN"), "{shown}");
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
        let status = agent.finished(&id).await;
        assert_eq!(status["result"]["stdout"], prints, "{status}\n{}", serve.log());
        assert_eq!(server.seen().len(), fetched, "nothing is fetched for the run");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_changes_its_bytes_changes_nothing_that_was_approved_and_asks_again() {
    let mood = Arc::<Mood>::default();
    let server = registries(mood.clone()).await;
    let (world, _serve, agent) = start(&server, ALL).await;
    let body = deno("import { a } from 'npm:foo@1.2.3'; console.log(a)");
    let id = asked(&agent, body.clone()).await;
    mood.changed.store(true, Ordering::Release);
    assert_eq!(world.cli(&["approve", &id, "--trust", "24h"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["result"]["stdout"], "foobar\n");
    let reply = agent.execute(body).await;
    assert_eq!((reply.status, &reply.json["stdout"]), (200, &json!("foobar\n")), "what was granted: {reply:?}");
    // Other code gets what is there now, and that was never approved.
    let id = asked(&agent, deno("import { a } from 'npm:foo@1.2.3'; console.log('now', a)")).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["result"]["stdout"], "now changed\n");
    // A lock file that knows better refuses them.
    let lock = package_lock(&integrity(&packed("foo", false).unwrap()));
    let reply = agent.execute(node(&json!({ "foo": "1.2.3" }), Some(&lock))).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.json["error_description"].as_str().unwrap().contains("integrity"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_granted_runs_without_the_registry_it_came_from_and_nothing_else_does() {
    let mood = Arc::<Mood>::default();
    let server = registries(mood.clone()).await;
    let (world, serve, agent) = start(&server, ALL).await;
    let other = world.cli(&["agent", "add", "other", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    let down = |is: bool| mood.down.store(is, Ordering::Release);
    let bodies = [(deno(DENO), "foobar 2 3 no script\n"), (node(&json!({ "foo": "1.2.3" }), None), "foobar false\n")];
    for (body, _) in &bodies {
        let id = asked(&agent, body.clone()).await;
        assert_eq!(world.cli(&["approve", &id, "--trust", "24h"]).await.code(), 0);
        assert_eq!(agent.finished(&id).await["status"], "success");
    }
    let prints = async |agent: &Agent, when: &str| {
        let fetched = server.seen().len();
        for (body, prints) in &bodies {
            let reply = agent.execute(body.clone()).await;
            assert_eq!((reply.status, &reply.json["stdout"]), (200, &json!(prints)), "{when}: {reply:?}");
        }
        assert_eq!(server.seen().len(), fetched, "{when}: nothing is fetched");
    };
    prints(&agent, "while it is up").await;
    down(true);
    prints(&agent, "while it is down").await;
    for (body, _) in &bodies {
        let more = json!({ "runtime": body["metadata"]["runtime"], "network": ["more.example"] });
        let mut wider = body.clone();
        wider["metadata"] = more;
        assert_eq!(agent.execute(wider).await.status, 202, "more than was granted is asked for");
        assert_eq!(agent.at(&serve.base).execute(body.clone()).await.status, 200);
        assert_eq!(
            Agent::new(&serve.base, &other).execute(body.clone()).await.status,
            422,
            "it was not granted to others"
        );
    }
    assert!(serve.stop().await.success());
    // Somebody with the file changes what is kept: it is not run, and what is fetched again takes its place.
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute(\"UPDATE layers SET bytes = zeroblob(10)\")\nc.commit()";
    let edit = tokio::process::Command::new("python3").args(["-c", script]).arg(world.db()).status().await.unwrap();
    assert!(edit.success());
    let serve = world.serve().await;
    let agent = agent.at(&serve.base);
    assert_eq!(agent.execute(bodies[0].0.clone()).await.status, 422);
    down(false);
    for (body, prints) in &bodies {
        let reply = agent.execute(body.clone()).await;
        assert_eq!((reply.status, &reply.json["stdout"]), (200, &json!(prints)), "{reply:?}");
    }
    down(true);
    prints(&agent, "after it was mended").await;
    assert!(serve.stop().await.success());
    // What the owner allows no more is not imported, granted or not.
    let config = std::fs::read_to_string(world.home().join("oauth3.toml")).unwrap();
    world.write_config(&config.replace(ALL, "[\"jsr\", \"https\"]"));
    down(false);
    let serve = world.serve().await;
    for (body, _) in &bodies {
        let reply = agent.at(&serve.base).execute(body.clone()).await;
        let text = reply.json["error_description"].as_str().unwrap_or_default();
        assert!(reply.status == 400 && text.contains("add \"npm\" to [imports] allow"), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_that_are_not_pinned_lead_elsewhere_or_blow_up_are_refused() {
    let server = registries(Arc::default()).await;
    let (_world, serve, agent) = start(&server, ALL).await;
    let npm = |specifier: &str| deno(&format!("import '{specifier}'"));
    for (body, status, says) in [
        (npm("npm:foo"), 400, "such as npm:foo@1.2.3"),
        (npm("npm:foo@^1.2.3"), 400, "such as npm:foo@1.2.3"),
        (npm("npm:foo@latest"), 400, "such as npm:foo@1.2.3"),
        (npm("npm:loose@1.0.0"), 400, "depends on bar by a range"),
        (npm("npm:../../x@1.0.0"), 400, "not the name of a package"),
        (npm("npm:FOO@1.2.3"), 400, "not the name of a package"),
        (npm("npm:f\u{43e}o@1.2.3"), 400, "not the name of a package"),
        (npm("npm:missing@1.2.3"), 422, "404"),
        (npm("npm:evil@1.0.0"), 400, "not a plain path"),
        (npm("npm:link@1.0.0"), 400, "symbolic link"),
        (npm("npm:big@1.0.0"), 400, "more than"),
        (npm("jsr:@s/j"), 400, "such as jsr:@s/j@1.2.3"),
        (npm("jsr:@s/j@1.0.0/other"), 400, "no export"),
        (npm("http://web.example/x.ts"), 400, "https"),
        (npm("https://user:pw@web.example/x.ts"), 400, "user name"),
        (npm("https://127.0.0.1/x.ts"), 400, "name a host"),
        (npm("https://localhost/x.ts"), 422, "not public"),
        (npm("https://web.example/private.ts"), 422, "not public"),
        (npm("https://web.example/plain.ts"), 400, "https"),
        (npm("https://web.example/next.ts"), 400, "name a host"),
        (node(&json!({ "foo": "^1.2.3" }), None), 400, "such as npm:foo@1.2.3"),
        (node(&json!({ "foo": "git+ssh://h/x" }), None), 400, "not pinned"),
        (node(&json!({ "foo": "file:../../etc" }), None), 400, "not pinned"),
        (node(&json!({ "../x": "1.0.0" }), None), 400, "not the name of a package"),
        (node(&json!({ "foo": "1.2.3", "other": "1.0.0" }), Some(&package_lock("sha512-AA=="))), 400, "does not pin"),
        (node(&json!({ "foo": "1.2.3" }), Some(&package_lock("sha512-AA=="))), 400, "integrity"),
        (node(&json!({ "foo": "1.2.3" }), Some(&package_lock("sha1-AA=="))), 400, "integrity"),
    ] {
        let reply = agent.execute(body.clone()).await;
        let text = reply.json["error_description"].as_str().unwrap_or_default();
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        assert!(text.contains(says), "{body}: {text}");
    }
    assert!(!serve.log().contains("panicked"), "{}", serve.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_owners_word_nothing_is_imported_and_the_setting_is_named() {
    let server = registries(Arc::default()).await;
    let (_world, _serve, agent) = start(&server, "[]").await;
    for (body, kind) in [
        (deno("import 'npm:foo@1.2.3'"), "npm"),
        (deno("import 'https://web.example/x.ts'"), "https"),
        (deno("import 'jsr:@s/j@1.0.0'"), "jsr"),
        (node(&json!({ "foo": "1.2.3" }), None), "npm"),
    ] {
        let reply = agent.execute(body.clone()).await;
        let text = reply.json["error_description"].as_str().unwrap_or_default();
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(text.contains(&format!("add \"{kind}\" to [imports] allow")), "{body}: {text}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn code_cannot_say_itself_what_was_fetched_for_it() {
    let server = registries(Arc::default()).await;
    let (world, _serve, agent) = start(&server, ALL).await;
    let id = asked(&agent, deno("import { a } from 'npm:foo@1.2.3'; console.log(a)")).await;
    let shown = world.cli(&["show", &id, "--json"]).await.json();
    assert_eq!(shown["imports"][1]["name"], "npm:foo@1.2.3", "{shown}");
    // The form that oauth3 itself stores, with a list that nobody fetched.
    let manifest = r#"{"entry":"main.ts","packages":{"layer":"0000000000000000000000000000000000000000000000000000000000000000","bytes":0,"import_map":false,"list":[]}}"#;
    let mut forged = Vec::new();
    for (path, text) in [(".oauth3/skill.json", manifest), ("main.ts", "console.log(1)")] {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_size(text.len() as u64);
        header.set_cksum();
        forged.extend_from_slice(header.as_bytes());
        forged.extend_from_slice(text.as_bytes());
        forged.resize(forged.len().next_multiple_of(512), 0);
    }
    forged.resize(forged.len() + 1024, 0);
    let reply = agent.execute(deno(&String::from_utf8(forged).unwrap())).await;
    assert_eq!(reply.status, 400, "{reply:?}");
}
