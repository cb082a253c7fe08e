//! The proxy as a forward proxy: programs keep the APIs' own addresses, and nothing goes past it.

use crate::proxy::{KEY, completion, grant, openai};
use e2e::world::PATIENCE;
use e2e::{Serve, Standin, World};
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// What an agent's programs must know.
pub(crate) async fn about(serve: &Serve, token: &str) -> Value {
    let reply = reqwest::Client::new().get(format!("{}/agent", serve.proxy)).bearer_auth(token).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    serde_json::from_str(&reply.text().await.unwrap()).unwrap()
}

/// The certificate that the agent is to trust, in a file.
async fn authority(world: &World, serve: &Serve, token: &str) -> PathBuf {
    let file = world.home().join("agent-ca.pem");
    std::fs::write(&file, about(serve, token).await["certificate"].as_str().unwrap()).unwrap();
    file
}

/// `curl` through the proxy as `user`: its exit code, the status, the body, and what it says of the connection.
struct Curl<'a> {
    serve: &'a Serve,
    ca: &'a Path,
    user: String,
}

struct Came {
    code: i32,
    status: u16,
    body: String,
    said: String,
}

impl Curl<'_> {
    async fn get(&self, more: &[&str]) -> Came {
        let proxy = self.serve.proxy.replace("http://", &format!("http://{}@", self.user));
        let mut command = Command::new("curl");
        command.env_clear().args(["-sv", "--proxy", &proxy, "-w", "\n%{http_code}", "--max-time", "30"]);
        command.arg("--cacert").arg(self.ca).args(more).stdin(Stdio::null());
        let output = command.output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        Came {
            code: output.status.code().unwrap(),
            status: status.parse().unwrap(),
            body: body.to_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const CHAT_URL: &str = "https://api.openai.com/v1/chat/completions";
/// A POST of a chat by a client that has made up a key.
const MADE_UP: [&str; 6] = ["-H", "content-type: application/json", "-H", "authorization: Bearer sk-dummy", "-d", CHAT];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_the_apis_own_address_gets_the_real_key_and_is_the_same_call() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &["--model", "gpt-4o*"]).await;
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    let came = curl.get(&[&MADE_UP[..], &["-H", "x-api-key: other", "-b", "a=b", CHAT_URL]].concat()).await;
    assert_eq!((came.code, came.status), (0, 200), "{} {}", came.said, came.body);
    assert!(came.body.contains("hello"), "{}", came.body);
    let seen = api.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/v1/chat/completions");
    assert_eq!(seen[0].header("authorization"), Some(&*format!("Bearer {KEY}")));
    let all = format!("{seen:?}");
    assert!(!all.contains("dummy") && !all.contains(&token) && !all.contains("cookie") && !all.contains("x-api-key"));
    // The budget, the models and the record are those of a call at /v1/openai.
    let refused = curl.get(&["-d", r#"{"model":"o3"}"#, "-H", "content-type: application/json", CHAT_URL]).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("\"error\":{") && refused.body.contains("o3"), "{}", refused.body);
    let usage = world.cli(&["usage", "--by", "model", "--json"]).await.json();
    assert_eq!((&usage["usage"][0]["model"], &usage["usage"][0]["calls"]), (&json!("gpt-4o"), &json!(1)), "{usage}");
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.matches("\"api_called\"").count() == 1 && audit.contains("\"api_refused\""), "{audit}");
    assert_eq!(api.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_agent_gets_407_and_nothing_else() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let other = world.cli(&["agent", "add", "other", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    for user in [
        format!("other:{token}"),
        format!("agent:{other}"),
        "agent:oa3_aaaaaaaa_bbbb".to_owned(),
        "agent:' OR 1=1 --".to_owned(),
        format!("agent:{}", &token[..token.len() - 1]),
    ] {
        let curl = Curl { serve: &serve, ca: &ca, user: user.replace(' ', "%20") };
        let came = curl.get(&[CHAT_URL]).await;
        assert_ne!(came.code, 0, "{user}");
        assert!(
            came.said.contains("407") && came.said.to_lowercase().contains("proxy-authenticate: basic"),
            "{}",
            came.said
        );
        let plain = curl.get(&["http://deb.example.org/x"]).await;
        assert_eq!(plain.status, 407, "{user}: {}", plain.said);
    }
    let reply = reqwest::Client::new().get(format!("{}/agent", serve.proxy)).send().await.unwrap();
    assert_eq!(reply.status(), 401, "nor the certificate");
    assert!(api.seen().is_empty());
    let bearer = format!("proxy-authorization: Bearer {token}");
    let curl = Curl { serve: &serve, ca: &ca, user: "x:y".to_owned() };
    let came =
        curl.get(&["--proxy", &serve.proxy, "--proxy-header", &bearer, "https://api.openai.com/v1/models"]).await;
    assert_eq!(came.status, 200, "a bearer token will do: {}", came.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_trusts_its_own_authority_which_is_the_same_after_a_restart() {
    let (world, _api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let other = world.cli(&["agent", "add", "other", "--json"]).await.json()["token"].as_str().unwrap().to_owned();
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let theirs = world.home().join("their-ca.pem");
    let their = about(&serve, &other).await;
    assert_eq!(their["agent"], "other");
    std::fs::write(&theirs, their["certificate"].as_str().unwrap()).unwrap();
    let user = format!("agent:{token}");
    let models = ["https://api.openai.com/v1/models"];
    assert_eq!(
        Curl { serve: &serve, ca: &theirs, user: user.clone() }.get(&models).await.code,
        60,
        "another's is none"
    );
    assert_eq!(Curl { serve: &serve, ca: &ca, user: user.clone() }.get(&models).await.status, 200);
    assert!(serve.stop().await.success());
    let serve = world.serve().await;
    assert_eq!(Curl { serve: &serve, ca: &ca, user }.get(&models).await.status, 200, "the file is still good");
    // Nothing of its key is on the disk.
    for entry in std::fs::read_dir(world.home()).unwrap().flatten().filter(|e| e.file_type().unwrap().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(11).any(|part| part == b"PRIVATE KEY"), "{:?}", entry.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_nobody_opened_are_refused_with_what_to_do() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    for (url, says) in [
        ("https://evil.example/", "forward_hosts"),
        ("https://api.openai.com:8443/", "forward_hosts"),
        ("https://127.0.0.1/", "by their names"),
        ("https://[::1]/", "by their names"),
        ("https://api.anthropic.com/v1/messages", "provider key add anthropic"),
    ] {
        let came = curl.get(&[url]).await;
        assert_ne!(came.code, 0, "{url}");
        assert!(came.said.contains(" 403 ") && came.said.contains(says), "{url}: {}", came.said);
    }
    let came = curl.get(&["http://evil.example/"]).await;
    assert!(came.status == 403 && came.body.contains("forward_hosts"), "{}", came.body);
    // The key's own host, in clear.
    assert_eq!(curl.get(&["http://api.openai.com/v1/models"]).await.status, 403);
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    let audit = world.cli(&["audit", "export"]).await.stdout;
    assert!(audit.contains("evil.example") && audit.contains("\"api_refused\""), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_handshake_and_host_must_name_the_same_and_the_path_lie_below_the_base() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    let models = "https://api.openai.com/v1/models";
    // The client connects to one name and asks the handshake for another.
    let fronted =
        curl.get(&["--connect-to", "evil.example:443:api.openai.com:443", "https://evil.example/v1/models"]).await;
    assert!(fronted.status == 421 && fronted.body.contains("handshake"), "{} {}", fronted.said, fronted.body);
    for host in ["evil.example", "api.openai.com:8443", "api.openai.com@evil.example", "127.0.0.1"] {
        let came = curl.get(&["-H", &format!("host: {host}"), models]).await;
        assert_eq!(came.status, 421, "{host}: {}", came.body);
    }
    for (path, status) in [
        ("/", 403),
        ("/dashboard/billing", 403),
        ("/v10/models", 403),
        ("/v1/../dashboard", 400),
        ("/v1/%2e%2e/dashboard", 400),
        ("/v1//models", 400),
    ] {
        let came = curl.get(&["--path-as-is", &format!("https://api.openai.com{path}")]).await;
        assert_eq!(came.status, status, "{path}: {}", came.body);
        assert!(came.body.contains("\"error\":{"), "in the API's words: {}", came.body);
    }
    assert!(api.seen().is_empty(), "{:?}", api.seen());
    assert_eq!(curl.get(&[models]).await.status, 200, "and it still works");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_apis_at_one_host_the_longest_base_counts_and_two_alike_are_refused() {
    let api = Standin::echo("crm.example.com").await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    for (name, base) in [("crm", "/rest"), ("admin", "/rest/admin"), ("one", "/twin"), ("two", "/twin")] {
        let secret = format!("{}_KEY", name.to_uppercase());
        world.add_secret(&secret, &format!("{name}-key-0123456789abcdef"), &["crm.example.com"]).await;
        let base = format!("https://crm.example.com{base}");
        let add = ["connection", "add", name, "--base-url", &base, "--secret", &secret];
        assert_eq!(world.cli(&add).await.code(), 0);
        assert_eq!(world.cli(&["connection", "grant", name, "--agent", "agent"]).await.code(), 0);
    }
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    for (path, key) in [("/rest/people", "crm"), ("/rest/admin/users", "admin"), ("/rest/administration", "crm")] {
        let came = curl.get(&[&format!("https://crm.example.com{path}?a=1&key=made-up")]).await;
        assert_eq!(came.status, 200, "{path}: {}", came.body);
        let seen = api.seen().pop().unwrap();
        assert_eq!(seen.target, format!("{path}?a=1"));
        assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {key}-key-0123456789abcdef")));
    }
    let twin = curl.get(&["https://crm.example.com/twin/x"]).await;
    assert!(twin.status == 403 && twin.body.contains("api/one") && twin.body.contains("api/two"), "{}", twin.body);
    assert_eq!(api.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_owner_opened_is_reached_as_it_is_and_recorded() {
    let host = Standin::start_for(&["files.example", "cdn.files.example"], |seen| {
        let field = |name: &str| seen.header(name).unwrap_or("none").to_owned();
        let text = format!("{} {} {}", field("authorization"), field("proxy-authorization"), field("x-forwarded-for"));
        Response::builder().header("content-encoding", "odd").body(Full::from(text)).unwrap()
    })
    .await;
    let (world, token) = World::ready("").await;
    let open = "[proxy]\nforward_hosts = [\"files.example\"]\n";
    world.write_config(&format!("{}{open}", host.egress(world.home())));
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    let own = "authorization: Bearer of-my-own";
    let came =
        curl.get(&["-H", own, "-H", "x-forwarded-for: 10.1.2.3", "-d", "12345", "https://files.example/up?q=1"]).await;
    assert_eq!((came.status, &*came.body), (200, "Bearer of-my-own none none"), "{}", came.said);
    assert!(came.said.contains("content-encoding: odd"), "it is passed on as it is: {}", came.said);
    // The agent's token goes nowhere but to us, in whatever form a client might put it.
    for more in [
        ["-H", &*format!("authorization: Bearer {token}")],
        ["-u", &*format!("me:{token}")],
        ["-H", &*format!("x-any: {token}")],
        ["-H", &*format!("cookie: t={token}")],
    ] {
        let came = curl.get(&[&more[..], &["https://files.example/"]].concat()).await;
        assert!(came.status == 403 && came.body.contains("token"), "{more:?}: {}", came.body);
    }
    assert_eq!(curl.get(&[&format!("https://files.example/?t={token}")]).await.status, 403);
    assert_ne!(curl.get(&["https://cdn.files.example/"]).await.code, 0, "what is below it was not opened");
    // Another site behind the same server.
    assert_eq!(curl.get(&["-H", "host: cdn.files.example", "https://files.example/"]).await.status, 421);
    assert_eq!(host.seen().len(), 1, "{:?}", host.seen());
    assert!(serve.stop().await.success());
    let audit = world.cli(&["audit", "export"]).await.stdout;
    let row = |kind: &str| {
        audit.lines().find(|line| line.contains(kind)).unwrap_or_else(|| panic!("{kind}: {audit}")).to_owned()
    };
    let reached = row("\"host_reached\"");
    assert!(
        reached.contains("\"files.example\"") && reached.contains("\"/up\"") && reached.contains("agent"),
        "{reached}"
    );
    let left = row("\"host_left\"");
    assert!(left.contains("\"sent\":5") && left.contains("\"received\":26") && left.contains("200"), "{left}");
    assert!(!audit.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opened_host_at_a_private_address_is_not_reached() {
    let (world, token) = World::ready("[proxy]\nforward_hosts = [\"localhost\", \"localhost:1\"]\n").await;
    let serve = world.serve().await;
    let ca = authority(&world, &serve, &token).await;
    let curl = Curl { serve: &serve, ca: &ca, user: format!("agent:{token}") };
    let came = curl.get(&["--noproxy", "", "https://localhost:1/"]).await;
    assert!(came.status == 502 && came.body.contains("not public"), "{} {}", came.said, came.body);
    let came = curl.get(&["--noproxy", "", "http://localhost/"]).await;
    assert!(came.status == 502 && came.body.contains("not public"), "{} {}", came.said, came.body);
    assert_eq!(
        World::ready("[proxy]\nforward_hosts = [\"*\"]\n")
            .await
            .0
            .try_serve()
            .await
            .err()
            .map(|e| e.contains("forward_hosts")),
        Some(true)
    );
}

/// A connection on which CONNECT was sent, and the first line of the answer.
async fn connected(serve: &Serve, token: &str, place: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(serve.proxy.trim_start_matches("http://")).await.unwrap();
    let credentials = data_encoding::BASE64.encode(format!("agent:{token}").as_bytes());
    let head = format!("CONNECT {place} HTTP/1.1\r\nhost: {place}\r\nproxy-authorization: Basic {credentials}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") {
        said.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    (stream, String::from_utf8(said).unwrap().lines().next().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_may_not_stay_loses_its_open_tunnels() {
    for how in [&["agent", "revoke", "agent"][..], &["agent", "rotate", "agent"], &["kill-switch", "on"]] {
        let (world, _api, token) = openai(completion).await;
        let config = std::fs::read_to_string(world.home().join("oauth3.toml")).unwrap();
        world.write_config(&format!("{config}[proxy]\nforward_hosts = [\"files.example\"]\n"));
        grant(&world, &[]).await;
        let serve = world.serve().await;
        let mut open = Vec::new();
        for place in ["api.openai.com:443", "files.example:443", "files.example:80"] {
            let (stream, line) = connected(&serve, &token, place).await;
            assert!(line.starts_with("HTTP/1.1 200"), "{place}: {line}");
            open.push(stream);
        }
        assert_eq!(world.cli(how).await.code(), 0);
        for mut stream in open {
            let end = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("it ends");
            assert!(matches!(end, Ok(0) | Err(_)), "{how:?}: {end:?}");
        }
        let (_, line) = connected(&serve, &token, "api.openai.com:443").await;
        let status = if how[0] == "agent" { "407" } else { "403" };
        assert!(line.contains(status), "{how:?}: {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_have_an_end_and_what_is_no_tls_in_them_goes_nowhere() {
    let (world, api, token) = openai(completion).await;
    grant(&world, &[]).await;
    let serve = world.serve().await;
    for (place, status) in
        [("api.openai.com", 400), ("api.openai.com:", 400), ("api.openai.com:0", 403), ("me@api.openai.com:443", 403)]
    {
        let (_, line) = connected(&serve, &token, place).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{place}: {line}");
    }
    // In clear, where TLS is expected; and TLS that names nobody.
    for sent in [&b"GET /v1/models HTTP/1.1\r\nhost: api.openai.com\r\n\r\n"[..], NAMELESS_HELLO] {
        let (mut stream, _) = connected(&serve, &token, "api.openai.com:443").await;
        stream.write_all(sent).await.unwrap();
        let mut came = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("it ends");
        assert!(!came.windows(4).any(|part| part == b"HTTP"), "{came:?}");
    }
    let mut open = Vec::new();
    for _ in 0..256 {
        let (stream, line) = connected(&serve, &token, "api.openai.com:443").await;
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        open.push(stream);
    }
    let (_, line) = connected(&serve, &token, "api.openai.com:443").await;
    assert!(line.starts_with("HTTP/1.1 429") && line.contains("tunnels"), "{line}");
    drop(open);
    let again = async { while !connected(&serve, &token, "api.openai.com:443").await.1.starts_with("HTTP/1.1 200") {} };
    timeout(PATIENCE, again).await.expect("those that ended make room");
    assert!(api.seen().is_empty());
}

/// A ClientHello of TLS 1.2 without any extension, so without a server name (RFC 5246 §7.4.1.2).
const NAMELESS_HELLO: &[u8] = &[
    22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
    23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0, 0, 2, 0xc0, 0x2b, 1, 0,
];
