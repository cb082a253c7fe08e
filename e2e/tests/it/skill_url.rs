//! `skill_url` through a real HTTPS server: what people paste, and what attackers do.

use e2e::{Agent, Reply, Standin, World};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

const HOSTS: &[&str] = &["s.example", "gist.githubusercontent.com", "raw.githubusercontent.com"];
const TOO_BIG: usize = (1 << 20) + 1;

async fn server() -> Standin {
    Standin::start_for(HOSTS, |seen| {
        let host = seen.header("host").unwrap_or_default();
        let code = format!("console.log({:?})", format!("{host}{}", seen.target));
        let reply = Response::builder();
        let redirect = |to: &str| reply.status(302).header("location", to).body(Full::default());
        let reply = Response::builder();
        match seen.target.split('?').next().unwrap_or_default() {
            "/page" => reply.body(Full::from("<!DOCTYPE html><html>")),
            "/missing" => reply.status(404).body(Full::default()),
            "/big" => reply.body(Full::from("x".repeat(TOO_BIG))),
            "/binary" => reply.body(Full::from(Bytes::from_static(b"\x89PNG\r\n\xff"))),
            "/other" => reply.body(Full::from("// @skill other\n1")),
            "/short" => redirect("https://github.com/o/r/blob/main/a.ts"),
            "/loop" => redirect("/loop"),
            "/private" => redirect("https://localhost/latest"),
            "/address" => redirect("https://127.0.0.1/latest"),
            "/plain" => redirect("http://s.example/ok"),
            "/user" => redirect("https://u:p@s.example/ok"),
            _ => reply.body(Full::from(code)),
        }
        .unwrap()
    })
    .await
}

async fn ask(agent: &Agent, url: &str) -> Reply {
    agent.execute(json!({ "skill_id": "s", "skill_url": url, "metadata": { "runtime": "embedded" } })).await
}

async fn code_of(world: &World, reply: &Reply) -> Value {
    assert_eq!(reply.status, 202, "{reply:?}");
    world.cli(&["show", reply.json["request_id"].as_str().unwrap(), "--json"]).await.json()["code"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_paste_is_resolved_to_the_raw_file_and_fetched_once() {
    let server = server().await;
    let (world, token) = World::ready("").await;
    world.write_config(&server.egress(world.home()));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    for (pasted, fetched) in [
        ("https://s.example/ok#part", "s.example/ok"),
        ("https://gist.github.com/u/abc123", "gist.githubusercontent.com/u/abc123/raw"),
        ("https://gist.github.com/u/abc123/raw/de/a.ts", "gist.githubusercontent.com/u/abc123/raw/de/a.ts"),
        ("https://gist.githubusercontent.com/u/abc123/raw/a.ts", "gist.githubusercontent.com/u/abc123/raw/a.ts"),
        ("https://github.com/o/r/blob/main/d/x.ts?plain=1#L3", "raw.githubusercontent.com/o/r/main/d/x.ts"),
        ("https://s.example/short", "raw.githubusercontent.com/o/r/main/a.ts"),
    ] {
        let reply = ask(&agent, pasted).await;
        assert_eq!(code_of(&world, &reply).await, format!("console.log({fetched:?})"), "{pasted}");
    }
    let data = ask(&agent, "data:text/typescript;base64,Y29uc29sZS5sb2coMSk=").await;
    assert_eq!(code_of(&world, &data).await, "console.log(1)");

    let before = server.seen().len();
    let reply = ask(&agent, "https://s.example/once").await;
    let id = reply.json["request_id"].as_str().unwrap();
    assert_eq!(world.cli(&["approve", id]).await.code(), 0);
    assert_eq!(agent.finished(id).await["result"]["stdout"], "s.example/once\n");
    assert_eq!(server.seen().len(), before + 1, "the stored bytes run");
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()), "the token stays here");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_code_or_leads_inside_is_refused() {
    let server = server().await;
    let (world, token) = World::ready("").await;
    world.write_config(&server.egress(world.home()));
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    for (path, says) in [
        ("page", "web page"),
        ("missing?key=query-that-stays-out", "404"),
        ("big", "larger"),
        ("binary", "UTF-8"),
        ("loop", "redirects more than"),
        ("private", "not public"),
        ("address", "not an address"),
        ("plain", "https"),
        ("user", "user name"),
    ] {
        let reply = ask(&agent, &format!("https://s.example/{path}")).await;
        let text = reply.json["error_description"].as_str().unwrap_or_default();
        assert_eq!((reply.status, &reply.json["error"]), (422, &json!("skill_fetch_failed")), "{path}: {reply:?}");
        assert!(text.contains(says), "{path}: {text}");
    }
    let reply = ask(&agent, "https://s.example/other").await;
    assert_eq!((reply.status, &reply.json["error"]), (400, &json!("conflicting_metadata")), "{reply:?}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(!serve.log().contains("stays-out") && !audit.contains("stays-out"), "queries may hold tokens");
}
