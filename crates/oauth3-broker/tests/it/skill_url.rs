//! Code from elsewhere: what is fetched, and what is refused.

use crate::fakes::{redirect, reply};
use crate::world::{World, draft};
use oauth3_core::{AgentPort as _, Draft, Fault, Host, Source};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::atomic::{AtomicUsize, Ordering};

fn at(url: &str) -> Draft {
    Draft { source: Source::Url(url.into()), ..draft("") }
}

/// The code and the address that are stored.
async fn fetched(world: &World, url: &str) -> (String, String) {
    let execution = world.submit(at(url)).await.unwrap().execution;
    (String::from_utf8(execution.code).unwrap(), execution.skill_url.unwrap())
}

async fn refused(world: &World, url: &str) -> String {
    match world.submit(at(url)).await {
        Err(Fault::SkillFetchFailed(text)) => text,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn an_address_is_fetched_once_and_its_bytes_are_what_is_stored() {
    let world = World::new().await;
    world.http.answers(|_| reply(200, "1 + 1"));
    let url = "https://example.com/skill.ts?x=1#L3";
    assert_eq!(fetched(&world, url).await, ("1 + 1".into(), url.into()));
    let asked = world.http.asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method, asked[0].url.as_str()), ("GET", "https://example.com/skill.ts?x=1"));
    assert!(!asked[0].owner_configured, "never as the owner's own address");
    assert_eq!(asked[0].max_reply_bytes, 1 << 20);
    assert!(asked[0].body.is_empty() && asked[0].headers.iter().all(|(name, _)| *name == "accept"));
}

#[tokio::test]
async fn pasted_pages_become_raw_files() {
    let world = World::new().await;
    world.http.answers(|_| reply(200, "1"));
    let id = "0123456789abcdef0123456789abcdef";
    let gist = format!("https://gist.githubusercontent.com/ann/{id}/raw");
    let cases = [
        (format!("https://gist.github.com/ann/{id}"), gist.clone()),
        (format!("https://gist.github.com/ann/{id}/"), gist.clone()),
        (format!("https://gist.github.com/ann/{id}#file-my-skill-ts"), format!("{gist}/my-skill.ts")),
        (format!("https://gist.github.com/ann/{id}/abc123"), format!("{gist}/abc123")),
        (format!("https://gist.github.com/ann/{id}/abc123#file-a-py"), format!("{gist}/abc123/a.py")),
        (format!("https://gist.github.com/ann/{id}/raw"), gist.clone()),
        (format!("https://gist.github.com/ann/{id}/raw/abc123/a.ts"), format!("{gist}/abc123/a.ts")),
        (format!("https://gist.github.com/{id}"), format!("https://gist.github.com/{id}/raw")),
        ("https://gist.github.com/ann".into(), "https://gist.github.com/ann".into()),
        (format!("{gist}/a.ts"), format!("{gist}/a.ts")),
        (
            "https://github.com/o/r/blob/main/src/a%20b.ts?plain=1#L1-L9".into(),
            "https://raw.githubusercontent.com/o/r/main/src/a%20b.ts".into(),
        ),
        ("https://github.com/o/r/raw/v1/a.ts".into(), "https://raw.githubusercontent.com/o/r/v1/a.ts".into()),
        (
            "https://raw.githubusercontent.com/o/r/main/a.ts".into(),
            "https://raw.githubusercontent.com/o/r/main/a.ts".into(),
        ),
        (
            "https://gitlab.com/g/sub/p/-/blob/main/a.ts?ref_type=heads#L1".into(),
            "https://gitlab.com/g/sub/p/-/raw/main/a.ts".into(),
        ),
        ("https://github.com/o/r".into(), "https://github.com/o/r".into()),
    ];
    for (n, (pasted, raw)) in cases.iter().enumerate() {
        assert_eq!(fetched(&world, pasted).await.1, *pasted, "what was asked for is what is shown");
        assert_eq!(world.http.urls().len(), n + 1);
        assert_eq!(world.http.urls()[n], *raw);
        world.broker.expire_due().await;
    }
}

#[tokio::test]
async fn what_a_redirect_leads_to_is_taken_for_a_pasted_page_too() {
    let world = World::new().await;
    world.http.answers(|request| match request.url.as_str() {
        "https://short.example/x" => redirect("https://github.com/o/r/blob/main/a.ts"),
        _ => reply(200, "1"),
    });
    fetched(&world, "https://short.example/x").await;
    assert_eq!(world.http.urls().last().unwrap(), "https://raw.githubusercontent.com/o/r/main/a.ts");
}

#[tokio::test]
async fn redirects_are_followed_and_each_is_checked() {
    let world = World::new().await;
    world.http.answers(|request| match request.url.as_str() {
        "https://a.example.com/1" => redirect("/2"),
        "https://a.example.com/2" => redirect("https://b.example.com/3#x"),
        "https://b.example.com/3" => reply(200, "arrived"),
        "https://a.example.com/plain" => redirect("http://b.example.com/3"),
        "https://a.example.com/address" => redirect("https://169.254.169.254/latest"),
        "https://a.example.com/address6" => redirect("https://[::1]/latest"),
        "https://a.example.com/number" => redirect("https://2130706433/"),
        "https://a.example.com/user" => redirect("https://u:p@b.example.com/3"),
        "https://a.example.com/scheme" => redirect("data:text/plain,1"),
        "https://a.example.com/loop" => redirect("/loop"),
        "https://a.example.com/nowhere" => reply(302, ""),
        other => panic!("{other} must not be asked for"),
    });
    assert_eq!(fetched(&world, "https://a.example.com/1").await.0, "arrived");
    for path in ["plain", "address", "address6", "number", "user", "scheme", "nowhere"] {
        let before = world.http.urls().len();
        let text = refused(&world, &format!("https://a.example.com/{path}")).await;
        assert_eq!(world.http.urls().len(), before + 1, "{path}: one call, none to where it points");
        assert!(!text.contains("latest") && !text.contains("u:p"), "{text}");
    }
    let before = world.http.urls().len();
    assert!(refused(&world, "https://a.example.com/loop").await.contains("more than 5"));
    assert_eq!(world.http.urls().len(), before + 6);
}

#[tokio::test]
async fn what_is_no_public_https_address_is_refused_before_any_call() {
    let world = World::new().await;
    let long = format!("https://example.com/{}", "x".repeat(2048));
    for url in [
        "http://example.com/a.ts",
        "file:///etc/passwd",
        "ftp://example.com/a",
        "//example.com/a",
        "example.com/a",
        "",
        "https://",
        "https://127.0.0.1/a",
        "https://127.1/a",
        "https://0x7f.1/a",
        "https://0177.0.0.1/a",
        "https://[::1]/a",
        "https://[::ffff:127.0.0.1]/a",
        "https://user@example.com/a",
        "https://user:pass@example.com/a",
        "javascript:alert(1)",
        long.as_str(),
    ] {
        refused(&world, url).await;
    }
    assert!(world.http.urls().is_empty());
}

#[tokio::test]
async fn what_is_no_code_is_refused() {
    let world = World::new().await;
    for page in ["<!DOCTYPE html><html>", "\u{feff}\n  <HTML lang=en>", "<head>", "<body>"] {
        world.http.answers(move |_| reply(200, page));
        assert!(refused(&world, "https://example.com/page").await.contains("web page"));
    }
    for status in [204, 301, 401, 404, 500] {
        world.http.answers(move |_| reply(status, "no"));
        let text = refused(&world, "https://example.com/secret-path?token=1").await;
        assert_eq!(text, format!("example.com answered {status} instead of the code"));
    }
    world.http.answers(|_| Err("10.0.0.1 is a private address".into()));
    assert_eq!(refused(&world, "https://intern.example.com/x").await, "10.0.0.1 is a private address");
    world.http.answers(|_| reply(200, &"x".repeat((1 << 20) + 1)));
    assert!(refused(&world, "https://example.com/big").await.contains("larger"));
    world.http.answers(|_| reply(200, ""));
    assert!(matches!(world.submit(at("https://example.com/empty")).await, Err(Fault::InvalidRequest(_))));
}

#[tokio::test]
async fn data_urls_carry_text() {
    let world = World::new().await;
    let cases = [
        ("data:text/typescript,1+1", "1+1"),
        ("data:,a%20b%23c", "a b#c"),
        ("DATA:text/javascript;charset=utf-8,let%20x=%22%C3%BC%22", "let x=\"ü\""),
        ("data:text/plain;base64,MSArIDE=", "1 + 1"),
        ("data:text/plain;charset=utf-8;BASE64,MSAr\nIDE", "1 + 1"),
        ("data:application/javascript;base64,MSArIDE%3D", "1 + 1"),
        (
            "data:text/typescript,console.log(Deno.env.get(\"TELEGRAM_BOT_TOKEN\") || \"NOT ACCESSIBLE\")",
            "console.log(Deno.env.get(\"TELEGRAM_BOT_TOKEN\") || \"NOT ACCESSIBLE\")",
        ),
    ];
    for (url, code) in cases {
        let (stored, shown) = fetched(&world, url).await;
        assert_eq!(stored, code);
        assert!(shown.starts_with("data:") && !shown.contains(','), "{shown}");
    }
    for url in ["data:", "data:text/plain", "data:image/png,1", "data:text/html,<p>", "data:text/plain,a#b"] {
        refused(&world, url).await;
    }
    refused(&world, "data:text/plain;base64,@@@").await;
    assert!(refused(&world, "data:text/plain;base64,//79").await.contains("UTF-8"));
    assert!(matches!(world.submit(at("data:,")).await, Err(Fault::InvalidRequest(_))));
    let big = format!("data:,{}", "x".repeat((1 << 20) + 1));
    assert!(matches!(world.submit(at(&big)).await, Err(Fault::TooLarge(_))));
    assert!(world.http.urls().is_empty());
}

#[tokio::test]
async fn the_header_of_fetched_code_counts() {
    let world = World::new().await;
    world.http.answers(|_| reply(200, "// @secrets API_KEY\n// @runtime embedded\n1"));
    let execution = world.submit(at("https://example.com/a.ts")).await.unwrap().execution;
    assert_eq!(execution.intent.secrets.len(), 1);
    assert_eq!(execution.intent.runtime, oauth3_core::Runtime::Embedded);
}

/// Pieces that addresses, good and bad, are made of.
fn addresses() -> impl Strategy<Value = String> {
    let scheme = select(vec![
        "https://",
        "HTTPS://",
        "http://",
        "https:",
        "https:/",
        "data:",
        "//",
        "file:///",
        " https://",
        "https:\\\\",
    ]);
    let user = select(vec!["", "", "", "a@", "a:b@", "%40@"]);
    let host = select(vec![
        "example.com",
        "gist.github.com",
        "github.com",
        "gitlab.com",
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:7f00:1]",
        "localhost.",
        "1.1",
        "EXAMPLE.com",
        "ex\u{e4}mple.com",
        "a..b",
        "a_b.com",
        "\u{ff11}27.0.0.1",
        "",
    ]);
    let port = select(vec!["", "", ":443", ":8443", ":0", ":99999", ":x"]);
    let path = "[a-zA-Z0-9/#?%.,;:@=_-]{0,40}";
    (scheme, user, host, port, path).prop_map(|(s, u, h, p, path)| format!("{s}{u}{h}{p}/{path}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever is pasted and wherever it redirects: what is dialled is https to a host of plain form.
    #[test]
    fn only_https_to_plain_names_is_ever_dialled(pasted in vec(any::<String>().boxed().prop_union(addresses().boxed()), 100), hops in vec(addresses(), 7)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let world = World::with(|config| config.requests_per_minute = u32::MAX).await;
            let hop = AtomicUsize::new(0);
            world.http.answers(move |_| redirect(&hops[hop.fetch_add(1, Ordering::Relaxed) % hops.len()]));
            for url in pasted.iter().map(String::as_str).chain(["https://example.com/"]) {
                let _ = world.broker.dry_run(&crate::world::bot(), at(url)).await;
            }
            assert!(!world.http.urls().is_empty());
            for dialled in world.http.urls() {
                let rest = dialled.strip_prefix("https://").unwrap();
                let host = rest.split(['/', '?', '#']).next().unwrap();
                assert!(Host::parse(host).is_ok(), "{dialled}");
            }
        });
    }
}
