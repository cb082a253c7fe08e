//! Skills of several files, through every runtime, and what attackers put into archives.

use crate::runtimes::installed;
use data_encoding::BASE64;
use e2e::{Agent, Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};
use std::io::Write;
use tar::{Builder, EntryType, Header};

async fn start(config: &str) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    let (deno, node) = (installed("OAUTH3_TEST_DENO"), installed("OAUTH3_TEST_NODE"));
    world.write_config(&format!("{config}[runtimes]\ndeno = {deno:?}\nnode = {node:?}\n"));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    (world, serve, agent)
}

fn files(files: &[(&str, &str)]) -> Value {
    files.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect()
}

/// Submits, approves, and gives the final status.
async fn run(world: &World, agent: &Agent, body: Value, trust: &str) -> Value {
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id, "--trust", trust]).await.code(), 0);
    agent.finished(&id).await
}

fn tar(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, bytes) in members {
        let mut header = Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        // As it stands: the builder would refuse what attackers write.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_runtime_runs_several_files() {
    let (world, serve, agent) = start("").await;
    let ts = "// @skill s\nimport { twice } from '../lib/twice.ts';\nimport data from './data.json' with { type: 'json' };\nconsole.log(twice(data.n));";
    let twice = "export const twice = (n: number): number => 2 * n;";
    let (json, python) = (
        "{\"n\": 21}",
        "# @skill s\nimport json, os, sys\nfrom lib.twice import twice\nhere = os.path.dirname(os.path.abspath(__file__))\nprint(twice(json.load(open(here + '/data.json'))['n']))",
    );
    let js = vec![("src/main.ts", ts), ("lib/twice.ts", twice), ("src/data.json", json)];
    let python = vec![("main.py", python), ("lib/twice.py", "def twice(n): return 2 * n"), ("data.json", json)];
    let shell =
        vec![("main.sh", "# @skill s\n. ./lib/twice.sh\ntwice 21"), ("lib/twice.sh", "twice() { echo $((2 * $1)); }")];
    let common = vec![
        ("main.cjs", "const { twice } = require('./twice.cjs'); console.log(twice(21))"),
        ("twice.cjs", "exports.twice = n => 2 * n"),
    ];
    for (runtime, list) in
        [("embedded", &js), ("deno", &js), ("node", &js), ("node", &common), ("python", &python), ("shell", &shell)]
    {
        let body = json!({ "skill_id": "s", "files": files(list), "metadata": { "runtime": runtime } });
        let status = run(&world, &agent, body, "once").await;
        assert_eq!(status["result"]["stdout"], "42\n", "{runtime}: {status}\n{}", serve.log());
    }
    // The name says it: no runtime is named.
    for list in [&python, &shell] {
        let status = run(&world, &agent, json!({ "skill_id": "s", "files": files(list) }), "once").await;
        assert_eq!(status["result"]["stdout"], "42\n", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_skill_are_all_that_it_sees_of_them_and_cannot_be_changed() {
    let (world, _serve, agent) = start("").await;
    let main = "import os\nfor d, _, names in os.walk('/skill'):\n  for n in sorted(names):\n    p = os.path.join(d, n)\n    try: open(p, 'a'); print('wrote', p)\n    except OSError: print(p)\ntry: open('/skill/new', 'w'); print('wrote')\nexcept OSError as e: print(e.errno)";
    let body = json!({ "skill_id": "s", "files": files(&[("main.py", main), ("b.txt", "x")]) });
    let status = run(&world, &agent, body, "once").await;
    assert_eq!(status["result"]["stdout"], "/skill/b.txt\n/skill/main.py\n30\n", "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_in_one_file_asks_again() {
    let (world, _serve, agent) = start("").await;
    let body = |lib: &str, entry: &str| {
        let list =
            files(&[("main.ts", "import { a } from './lib.ts'; console.log(a)"), ("lib.ts", lib), ("other.ts", "1")]);
        json!({ "skill_id": "s", "files": list, "entry": entry, "metadata": { "runtime": "embedded" } })
    };
    let lib = "export const a = 1;";
    assert_eq!(run(&world, &agent, body(lib, "main.ts"), "24h").await["status"], "success");
    let mut reordered = body(lib, "main.ts");
    reordered["files"].as_array_mut().unwrap().reverse();
    for same in [body(lib, "main.ts"), reordered] {
        let reply = agent.execute(same).await;
        assert_eq!((reply.status, &reply.json["trusted"]), (200, &json!(true)), "{reply:?}");
    }
    let mut renamed = body(lib, "main.ts");
    renamed["files"][2]["path"] = json!("another.ts");
    let mut asset = body(lib, "main.ts");
    asset["assets"] = json!(["other.ts"]);
    for other in [body("export const a = 2;", "main.ts"), body(lib, "other.ts"), renamed, asset] {
        assert_eq!(agent.execute(other.clone()).await.status, 202, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_no_owner_can_read_must_be_called_an_asset_and_its_digest_is_shown() {
    let (world, _serve, agent) = start("").await;
    let bytes = [0x89, b'P', b'N', b'G', 0, 0xff];
    let list = json!([
        { "path": "main.py", "content": "import hashlib\nprint(hashlib.sha256(open('/skill/a.png','rb').read()).hexdigest())" },
        { "path": "a.png", "content_base64": BASE64.encode(&bytes) },
    ]);
    let reply = agent.execute(json!({ "skill_id": "s", "files": list })).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.json["error_description"].as_str().unwrap().contains("`assets`"), "{reply:?}");
    let reply = agent.execute(json!({ "skill_id": "s", "files": list, "assets": ["a.png"] })).await;
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    let shown = world.cli(&["show", &id]).await.stdout;
    let digest = world.cli(&["show", &id, "--json"]).await.json()["files"][0]["sha256"].as_str().unwrap().to_owned();
    assert!(
        shown.contains(&format!("a.png · 6 bytes · sha256 {}… · ASSET, contents not shown", &digest[..16])),
        "{shown}"
    );
    assert!(shown.contains("│ import hashlib"), "{shown}");
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["result"]["stdout"], format!("{digest}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_the_request_or_behind_an_address_is_a_skill_too() {
    let archive = tar(&[
        ("./lib.py", EntryType::Regular, b"answer = 42"),
        ("./main.py", EntryType::Regular, b"import lib\nprint(lib.answer)"),
    ]);
    let (plain, compressed) = (archive.clone(), gzip(&archive));
    let served = (plain.clone(), compressed.clone());
    let server = Standin::start_for(&["s.example"], move |seen| {
        let body = if seen.target.ends_with("gz") { served.1.clone() } else { served.0.clone() };
        Response::new(Full::from(body))
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&server.egress(world.home()));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    for source in [
        json!({ "archive_base64": BASE64.encode(&plain) }),
        json!({ "archive_base64": BASE64.encode(&compressed) }),
        json!({ "skill_url": "https://s.example/a.tar" }),
        json!({ "skill_url": "https://s.example/a.tar.gz", "entry": "main.py" }),
        json!({ "skill_url": format!("data:application/gzip;base64,{}", BASE64.encode(&compressed)) }),
    ] {
        let mut body = source.clone();
        body["skill_id"] = json!("s");
        let status = run(&world, &agent, body, "once").await;
        assert_eq!(status["result"]["stdout"], "42\n", "{source}: {status}\n{}", serve.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_lead_elsewhere_or_blow_up_are_refused() {
    let (_world, serve, agent) = start("").await;
    let main = ("main.py", EntryType::Regular, &b"print(1)"[..]);
    let with = |path, kind, bytes| tar(&[main, (path, kind, bytes)]);
    let plain = EntryType::Regular;
    let zeros = vec![0; 64 << 20];
    let bomb = gzip(&tar(&[main, ("big", plain, &zeros)]));
    assert!(bomb.len() < 100 << 10);
    for (archive, status, says) in [
        (with("../../etc/cron.d/x", plain, b"1"), 400, "not a plain path"),
        (with("/etc/passwd", plain, b"1"), 400, "not a plain path"),
        (with("lib/../../x", plain, b"1"), 400, "not a plain path"),
        (with("main.py", plain, b"2"), 400, "twice"),
        (with("MAIN.PY", plain, b"2"), 400, "case only"),
        (with("main.p\u{443}", plain, b"2"), 400, "not a plain path"),
        (with("main.py/x", plain, b"2"), 400, "a file and a directory"),
        (with(".oauth3/skill.json", plain, b"{}"), 400, "not a plain path"),
        (with("link", EntryType::Symlink, b""), 400, "symbolic link"),
        (with("link", EntryType::Link, b""), 400, "hard link"),
        (with("null", EntryType::Char, b""), 400, "device"),
        (bomb, 413, "more than"),
        (b"no archive".to_vec(), 400, "cannot be read"),
        (gzip(b"no archive"), 400, ""),
    ] {
        let body = json!({ "skill_id": "s", "archive_base64": BASE64.encode(&archive) });
        let reply = agent.execute(body).await;
        let text = reply.json["error_description"].as_str().unwrap_or_default();
        assert_eq!(reply.status, status, "{says}: {reply:?}");
        assert!(text.contains(says), "{says}: {text}");
    }
    for (body, says) in [
        (json!({ "files": [] }), "no file"),
        (json!({ "files": [{ "path": "a.py" }] }), "`content`"),
        (json!({ "files": [{ "path": "a.py", "content": "1", "content_base64": "MQ==" }] }), "`content`"),
        (json!({ "files": [{ "path": "a.py", "content_base64": "?" }] }), "base64"),
        (json!({ "files": [{ "path": "a.py", "content": "1", "mode": "4755" }] }), "unknown field"),
        (json!({ "files": [["a.py", "1"]] }), "object"),
        (json!({ "files": files(&[("a.py", "1")]), "entry": "b.py" }), "not among the files"),
        (json!({ "files": files(&[("a.py", "1")]), "code": "1" }), "send one"),
        (json!({ "code": "1", "entry": "a.py" }), "`entry`"),
        (json!({ "archive_base64": "!" }), "base64"),
        (json!({}), "is required"),
    ] {
        let mut body = body.clone();
        body["skill_id"] = json!("s");
        let reply = agent.execute(body.clone()).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.json["error_description"].as_str().unwrap().contains(says), "{body}: {reply:?}");
    }
    assert!(!serve.log().contains("panicked"), "{}", serve.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_runs_a_directory() {
    let (world, _serve, _agent) = start("").await;
    let skill = world.home().join("my-skill");
    std::fs::create_dir_all(skill.join("lib")).unwrap();
    for (path, text) in [("main.py", "from lib.x import a\nprint(a)"), ("lib/x.py", "a = 42"), (".hidden", "no")] {
        std::fs::write(skill.join(path), text).unwrap();
    }
    let run = tokio::spawn({
        let mut command = world.command(&["run", skill.to_str().unwrap()]);
        async move { command.output().await.unwrap() }
    });
    let id = loop {
        let list = world.cli(&["requests", "--json"]).await.json();
        if let Some(id) = list["requests"][0]["request_id"].as_str() {
            break id.to_owned();
        }
    };
    let shown = world.cli(&["show", &id, "--json"]).await.json();
    assert_eq!(
        (&shown["skill_id"], &shown["entry"], shown["files"].as_array().unwrap().len()),
        (&json!("my-skill"), &json!("main.py"), 2)
    );
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let output = run.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{output:?}");
    std::os::unix::fs::symlink("/etc/passwd", skill.join("link")).unwrap();
    let refused = world.cli(&["run", skill.to_str().unwrap()]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("neither a file nor a directory"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_of_the_page_on_skills_run() {
    let (world, _serve, agent) = start("").await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/skills.md")).unwrap();
    let mut printed = Vec::new();
    for block in page.split("```json\n").skip(1) {
        let body: Value = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
        printed.push(run(&world, &agent, body, "once").await["result"]["stdout"].clone());
    }
    assert_eq!(printed, ["Hello, you\n", "3\n"]);
}
