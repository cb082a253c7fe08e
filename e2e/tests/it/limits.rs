//! Limits that a request sets, through the whole system: what may be named, what the owner sees, and what hostile
//! code gets out of each runtime.

use crate::runtimes::installed;
use e2e::{Agent, Standin, World};
use serde_json::{Value, json};

async fn run(world: &World, agent: &Agent, code: &str, metadata: Value) -> Value {
    let id = agent.submit(code, metadata).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_limit_or_above_the_owners_ceiling_is_refused() {
    let (world, token) = World::ready("[limits]\nmemory_mb = 128\nrequests_per_minute = 1000\n").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let refused = async |limits: Value, code: &str, error: &str, part: &str| {
        let body = json!({ "skill_id": "s", "code": code, "metadata": { "limits": limits } });
        let reply = agent.execute(body).await;
        assert_eq!((reply.status, &reply.json["error"]), (400, &json!(error)), "{limits} {reply:?}");
        assert!(reply.json["error_description"].as_str().unwrap().contains(part), "{limits} {reply:?}");
    };
    for (limits, part) in [
        (json!({ "memory_mb": 129 }), "memory_mb is at most 128"),
        (json!({ "memory_mb": 0 }), "memory_mb"),
        (json!({ "cpu_seconds": -1 }), "cpu_seconds"),
        (json!({ "processes": 1.5 }), "processes"),
        (json!({ "egress_mb": 1e300 }), "egress_mb"),
        (json!({ "speed": 1 }), "memory_mb, cpu_seconds"),
        (json!({ "memory_mb": "64" }), "metadata.limits"),
        (json!({ "memory_mb": null }), "metadata.limits"),
        (json!([]), "metadata.limits"),
        (json!(5), "metadata.limits"),
    ] {
        refused(limits, "1", "invalid_request", part).await;
    }
    refused(json!({ "memory_mb": 64 }), "// @limits memory_mb=65\n1", "conflicting_metadata", "limits").await;
    refused(json!({ "memory_mb": 64 }), "// @limits cpu_seconds=5\n1", "conflicting_metadata", "limits").await;
    refused(json!({}), "// @limits memory_mb=many\n1", "invalid_request", "@limits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_sees_every_limit_and_a_grant_binds_them() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "// @runtime embedded\n// @limits memory_mb=128 egress_requests=5\nconsole.log('ran')";
    let id = agent.submit(code, json!({})).await;
    let card = world.cli(&["show", &id]).await.stdout;
    for part in [
        "128 MB memory (usually 256 MB memory)",
        "5 network requests (usually 10000 network requests)",
        "60 CPU s ·",
        "512 open files ·",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let limits = world.cli(&["show", &id, "--json"]).await.json()["limits"].clone();
    assert_eq!((&limits["memory_mb"], &limits["egress_requests"]), (&json!(128), &json!(5)));
    assert_eq!(world.cli(&["approve", &id, "--trust", "forever"]).await.code(), 0);
    assert_eq!(agent.finished(&id).await["status"], "success");

    let again = agent.execute(json!({ "skill_id": "test", "code": code, "wait": 60 })).await;
    assert_eq!(again.status, 200, "the same is covered: {again:?}");
    let more = code.replace("egress_requests=5", "egress_requests=6");
    let other = agent.execute(json!({ "skill_id": "test", "code": more })).await;
    assert_eq!(other.status, 202, "{other:?}");

    // The owner's own command line names them too, and what a run used is there afterwards.
    let file = world.home().join("skill.ts");
    std::fs::write(&file, "// @runtime embedded\nconsole.log(1)").unwrap();
    let file = file.to_str().unwrap();
    let wrong = world.cli(&["run", file, "--limit", "memory_mb=0"]).await;
    assert_eq!(wrong.code(), 2, "{wrong:?}");
    let shown = world.cli(&["show", &id, "--json"]).await.json();
    let usage = &shown["result"]["usage"];
    assert!(usage["cpu_ms"].is_u64() && usage["egress_requests"] == 0, "{usage}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.lines().any(|l| l.contains("\"finished\"") && l.contains("\"cpu_ms\"")), "{audit}");
    assert!(audit.lines().any(|l| l.contains("\"run_closed\"") && l.contains("\"egress_sent_bytes\"")), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_time_of_a_whole_tree_is_bounded_in_every_runtime() {
    let (world, token) = World::ready("").await;
    let deno = installed("OAUTH3_TEST_DENO");
    world.write_config(&format!("[runtimes]\ndeno = {deno:?}\n"));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let forks = "import os\nfor i in range(6):\n    if os.fork() == 0: break\nwhile True: pass";
    let workers = "const { Worker, isMainThread } = require('node:worker_threads');\n\
        if (isMainThread) for (let i = 0; i < 3; i++) new Worker(__filename);\nfor (;;) {}";
    for (runtime, code) in [("embedded", "for (;;) {}"), ("deno", "for (;;) {}"), ("node", workers), ("python", forks)]
    {
        let metadata = json!({ "runtime": runtime, "timeout": 120, "limits": { "cpu_seconds": 1.5 } });
        let status = run(&world, &agent, code, metadata).await;
        assert_eq!(status["error"], "failed: it used more than 1.5 CPU seconds", "{runtime}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_descriptors_and_processes_are_bounded_as_the_request_says() {
    let (world, token) = World::ready("").await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "# @runtime python\n# @limits file_mb=2 open_files=20 processes=5\nimport os, time\n\
        f = open('/tmp/x', 'wb', buffering=0)\n\
        try:\n    \
            while True: f.write(bytes(1 << 20))\n\
        except OSError as e: print(e.strerror, os.path.getsize('/tmp/x') >> 20)\n\
        fds = []\n\
        try:\n    \
            while True: fds.append(os.dup(0))\n\
        except OSError as e: print(e.strerror, max(fds))\n\
        children = 0\n\
        try:\n    \
            while True:\n        \
                if os.fork() == 0: time.sleep(600)\n        \
                children += 1\n\
        except OSError as e: print(e.strerror, children)\n";
    let status = run(&world, &agent, code, json!({})).await;
    let want = "File too large 2\nToo many open files 19\nResource temporarily unavailable 4\n";
    assert_eq!(status["result"]["stdout"], want, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_of_a_run_has_an_end_both_ways() {
    let large = "x".repeat(600 << 10);
    let api = Standin::start("api.example.com", move |seen| {
        hyper::Response::new(if seen.method == "POST" { "took it".into() } else { large.clone().into() })
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let metadata = |limits: Value| json!({ "network": ["api.example.com"], "limits": limits });

    let code = "// @runtime embedded\nfor (let i = 0; i < 4; i++) { const r = await fetch('https://api.example.com/', { method: 'POST', body: 'x' }); console.log(r.status, (await r.text()).slice(0, 90)); }";
    let status = run(&world, &agent, code, metadata(json!({ "egress_requests": 2 }))).await;
    let refusal = "429 oauth3 egress: this run has made its 2 requests (limit egress_requests)\n";
    let out = status["result"]["stdout"].as_str().unwrap();
    assert_eq!(out.matches("200 took it").count(), 2, "{status}");
    assert_eq!(out.matches(refusal.trim_end()).count(), 2, "{status}");
    assert_eq!(api.seen().len(), 2);

    // Down: the second reply does not fit. Up: nor does the second body, and the host never has it whole.
    let down = "const r = await fetch('https://api.example.com/'); return (await r.text()).length";
    let up = "const r = await fetch('https://api.example.com/', { method: 'POST', body: 'x'.repeat(600 << 10) }); return await r.text()";
    for (direction, body) in [("down", down), ("up", up)] {
        let before = api.seen().len();
        let code = format!(
            "// @runtime embedded\nasync function one() {{ {body} }}\nfor (let i = 0; i < 3; i++) {{ try {{ console.log(await one()) }} catch {{ console.log('cut') }} }}\nthrow new Error('enough')"
        );
        let status = run(&world, &agent, &code, metadata(json!({ "egress_mb": 1 }))).await;
        let out = status["result"]["stdout"].as_str().unwrap();
        let first = if direction == "down" { "614400" } else { "took it" };
        assert_eq!(out.lines().filter(|line| *line == first).count(), 1, "{direction}: {status}");
        assert!(status["error"].as_str().unwrap().contains("1 MB (limit egress_mb)"), "{direction}: {status}");
        let whole =
            api.seen()[before..].iter().filter(|seen| direction == "down" || seen.body.len() == 600 << 10).count();
        assert!(whole <= 2, "{direction}: {whole}");
    }
    let audit = world.cli(&["audit", "export"]).await.stdout;
    let refused = audit.lines().filter(|l| l.contains("egress_refused") && l.contains("egress_mb")).count();
    assert_eq!(refused, 2, "once for each run: {audit}");
}
