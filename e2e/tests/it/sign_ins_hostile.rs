//! Providers that mean harm, or are broken: each ends in a plain sentence, after few requests, and nothing of a token
//! is told.

use crate::sign_ins_clouds::{assert_nothing_shows, call, ready};
use e2e::identity::cloud::{Answer, Body, Cloud};
use e2e::identity::desk::{Person, Word};
use e2e::identity::okta;
use e2e::{Agent, Seen, Serve, World, eventually_async};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Mutex;

/// Where bad providers lead. It is another name of the stand-in, so that whatever is sent there is a fault.
const EVIL: &str = "evil.example.net";
const PATH: &str = "/api/v1/users/me";
/// What is true of the real endpoint, for whoever looks at a request.
const TOKEN: &str = "/oauth2/v1/token";
const DEVICE: &str = "/oauth2/v1/device/authorize";
const ADD: [&str; 9] = [
    "okta",
    "--client-id",
    okta::CLIENT_ID,
    "--domain",
    okta::DOMAIN,
    "--scope-set",
    "account",
    "--scope",
    "okta.users.read.self",
];

async fn okta() -> (Cloud, World, Serve, Agent) {
    let cloud = Cloud::start(&[okta::DOMAIN, EVIL], okta::Okta::new(None)).await;
    let (world, serve, agent) = ready(&cloud, &ADD, okta::CLIENT_SECRET).await;
    (cloud, world, serve, agent)
}

/// Sets members of the JSON of an answer.
fn with(mut answer: Answer, members: &[(&str, Value)]) -> Answer {
    if let Body::Json(body) = &mut answer.body {
        members.iter().for_each(|(name, value)| body[name] = value.clone());
    }
    answer
}

fn redirect(status: u16) -> Answer {
    let mut answer = Answer::empty(status);
    answer.fields.push(("location", format!("https://{EVIL}{TOKEN}")));
    answer
}

/// A body of two megabytes.
fn huge() -> Answer {
    Answer::json(200, json!({ "device_code": "x".repeat(2 << 20) }))
}

type Bad = fn(Answer) -> Answer;

/// Answers so at one place.
fn answer_so(cloud: &Cloud, place: &'static str, bad: Bad) {
    cloud.twist(move |seen: &Seen, answer| if seen.target == place { bad(answer) } else { answer });
}

/// A refresh, not a poll.
fn is_refresh(seen: &Seen) -> bool {
    seen.target == TOKEN && String::from_utf8_lossy(&seen.body).contains("grant_type=refresh_token")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_to_the_first_request_ends_a_sign_in() {
    let (cloud, world, serve, _) = okta().await;
    let bad: [(Bad, &str); 12] = [
        (|a| with(a, &[("verification_uri", json!("https://evil.example.net/activate"))]), "that is not its own"),
        (|a| with(a, &[("verification_uri_complete", json!("https://evil.example.net/a?c=1"))]), "that is not its own"),
        (
            |a| with(a, &[("verification_uri", json!("https://example.okta.com@evil.example.net/"))]),
            "that is not its own",
        ),
        (|a| with(a, &[("verification_uri", json!("http://example.okta.com/activate"))]), "that is not its own"),
        (|a| with(a, &[("user_code", json!("<b>1</b>"))]), "no usable user_code"),
        (|a| with(a, &[("user_code", json!("A\u{202e}B"))]), "no usable user_code"),
        (|a| with(a, &[("interval", json!("soon"))]), "no usable interval"),
        (|_| Answer::page(200), "no OAuth server"),
        (|_| Answer::page(502), "has trouble at the moment"),
        (|_| redirect(307), "sent us to another address"),
        (|_| huge(), "larger than"),
        (
            |_| Answer::json(400, json!({ "error": "<script>", "error_description": "call 555-0100" })),
            "no reason that is known",
        ),
    ];
    for (number, (bad, says)) in bad.into_iter().enumerate() {
        answer_so(&cloud, DEVICE, bad);
        let done = world.cli(&["login", "cloud"]).await;
        assert!(done.code() == 1 && done.stderr.contains(says), "{says}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "one sentence: {done:?}");
        let all = format!("{done:?}{}", serve.log());
        for told in [EVIL, "Wi-Fi", "555-0100", "<b>", "<script>"] {
            assert!(!all.contains(told), "{told}: {all}");
        }
        assert_eq!((cloud.counts().all, cloud.counts().polled), (number + 1, 0), "one request each");
    }
    assert_nothing_shows(&cloud, &world, &serve, "").await;
    assert_eq!(cloud.faults(), [""; 0], "nothing went elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_to_a_poll_ends_a_sign_in_or_is_waited_for_until_the_code_ends() {
    let (cloud, world, serve, agent) = okta().await;
    let bad: [(Bad, i32, &str); 9] = [
        (|a| with(a, &[("token_type", json!("DPoP"))]), 1, "not of the type Bearer"),
        (|a| with(a, &[("token_type", json!(["Bearer"]))]), 1, "not of the type Bearer"),
        (|a| with(a, &[("token_type", Value::Null)]), 1, "not of the type Bearer"),
        (|a| with(a, &[("access_token", json!("a\r\nx-evil: 1"))]), 1, "no usable access_token"),
        (|a| with(a, &[("id_token", json!("e30.e30.e30"))]), 1, "ID token was refused"),
        (|a| with(a, &[("error", json!("invalid_grant"))]), 1, "no longer good"),
        (|_| Answer::page(200), 1, "no OAuth server"),
        (|_| redirect(302), 1, "sent us to another address"),
        // Twice as long as a reply may be: nothing of it is read, and nothing is known.
        (|_| huge(), 4, "the code has expired"),
    ];
    for (bad, code, says) in bad {
        let short = code == 4;
        cloud.twist(move |seen, answer| match seen.target.as_str() {
            TOKEN => bad(answer),
            DEVICE if short => with(answer, &[("expires_in", json!(4))]),
            _ => answer,
        });
        let before = cloud.counts().polled;
        cloud.signs_in("Ann");
        let done = world.cli(&["login", "cloud"]).await;
        assert!(done.code() == code && done.stderr.contains(says), "{says}: {done:?}");
        assert_eq!(cloud.counts().polled - before, 1, "{says}: {:?}", cloud.counts());
        assert_eq!(call(&agent, PATH).await.0, 403, "{says}");
        cloud.straighten();
    }
    assert_nothing_shows(&cloud, &world, &serve, "").await;
    // The poll after the huge reply finds a code that is over at the provider, which has given its token away.
    let elsewhere = cloud.faults().into_iter().filter(|fault| !fault.starts_with("a poll with a device code"));
    assert_eq!(elsewhere.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_that_drifts_makes_neither_a_storm_nor_a_sign_in_without_end() {
    let (cloud, world, _serve, _) = okta().await;
    for interval in [json!(0), json!(-5), json!("0")] {
        cloud.twist(move |seen, answer| match seen.target.as_str() {
            DEVICE => with(answer, &[("interval", interval.clone()), ("expires_in", json!(4))]),
            _ => answer,
        });
        let before = cloud.counts().polled;
        let done = world.cli(&["login", "cloud"]).await;
        assert!(done.code() == 4 && done.stderr.contains("the code has expired"), "{done:?}");
        let polled = cloud.counts().polled - before;
        assert!((1..=4).contains(&polled), "at most one a second: {polled}");
    }
    // Numbers without end: the code's own end comes first.
    cloud.twist(|seen, answer| match seen.target.as_str() {
        DEVICE => with(answer, &[("interval", json!(1_000_000_000)), ("expires_in", json!(2))]),
        _ => answer,
    });
    let before = cloud.counts();
    assert_eq!(world.cli(&["login", "cloud"]).await.code(), 4);
    assert_eq!(cloud.counts().polled, before.polled);
    cloud.twist(|seen, answer| match seen.target.as_str() {
        DEVICE => with(answer, &[("expires_in", json!(3))]),
        TOKEN => with(answer, &[("error", json!("slow_down")), ("interval", json!(1_000_000_000))]),
        _ => answer,
    });
    let before = cloud.counts();
    let done = world.cli(&["login", "cloud"]).await;
    assert!(done.code() == 4 && done.stderr.contains("the code has expired"), "{done:?}");
    assert_eq!(cloud.counts().polled - before.polled, 1);
    assert_eq!(cloud.faults(), [""; 0], "no poll came before its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_are_not_those_that_were_asked_for_are_shown() {
    let (cloud, world, serve, agent) = okta().await;
    answer_so(&cloud, TOKEN, |a| with(a, &[("scope", json!("openid okta.users.manage offline_access"))]));
    cloud.signs_in("Ann");
    let done = world.cli(&["login", "cloud"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let shown = world.cli(&["status", "cloud"]).await.stdout;
    let line = |word: &str| shown.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
    assert!(line("okta.users.manage").contains("Also granted"), "more: {shown}");
    assert!(line("okta.users.read.self").contains("not granted"), "fewer: {shown}");
    assert!(line("openid").ends_with("granted") && !line("openid").contains("not granted"), "{shown}");
    assert_eq!(call(&agent, PATH).await.0, 200, "what it is good for is the API's word");
    assert_nothing_shows(&cloud, &world, &serve, &format!("{shown}{}", done.stdout)).await;
}

/// Every refresh is answered so; what calls are told, and what becomes of the sign-in.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_to_a_refresh_is_not_asked_for_again_and_again() {
    let bad: [(Bad, u16, &str); 8] = [
        (|a| with(a, &[("token_type", json!("DPoP"))]), 403, "not of the type Bearer"),
        (|a| with(a, &[("access_token", json!(""))]), 403, "no usable access_token"),
        (|a| with(a, &[("error", json!("invalid_client"))]), 403, "does not know this client id"),
        (|_| Answer::page(200), 503, "no OAuth server"),
        (|_| Answer::page(500), 503, "trouble at the moment"),
        (|_| redirect(307), 503, "sent us to another address"),
        (|_| huge(), 503, "larger than"),
        (
            |_| Answer { fields: vec![("retry-after", "86400".into())], ..Answer::page(503) },
            503,
            // A day was asked for; an hour is the most that is given.
            "it is tried again in 3",
        ),
    ];
    let (cloud, world, serve, agent) = okta().await;
    let mut told = String::new();
    for (number, (bad, status, says)) in bad.into_iter().enumerate() {
        // A connection of its own, for one that has just failed rests.
        let name = format!("cloud{number}");
        let add = [&["connection", "add", &name, "--provider"], &ADD[..], &["--client-secret-stdin"]].concat();
        let done = world.cli_with(&add, okta::CLIENT_SECRET).await;
        assert_eq!(done.code(), 0, "{done:?}");
        assert_eq!(world.cli(&["connection", "grant", &name, "--agent", "agent"]).await.code(), 0);
        cloud.straighten();
        if status == 503 {
            // Somebody between: the provider has not heard of it, so that its token may be sent again.
            cloud.intercept(move |seen| is_refresh(seen).then(|| bad(Answer::empty(200))));
        }
        cloud.twist(move |seen, answer| match seen.target.as_str() {
            _ if is_refresh(seen) && status == 403 => bad(answer),
            TOKEN => with(answer, &[("expires_in", json!(1))]),
            _ => answer,
        });
        cloud.signs_in("Ann");
        assert_eq!(world.cli(&["login", &name]).await.code(), 0, "{}", serve.log());
        let refreshes = |cloud: &Cloud| cloud.calls(okta::DOMAIN).iter().filter(|seen| is_refresh(seen)).count();
        let before = refreshes(&cloud);
        let heard = Mutex::new(String::new());
        eventually_async(says, async || {
            let reply = agent.send(Method::GET, &format!("/api/{name}{PATH}"), None).await;
            let (got, text) = (reply.status().as_u16(), reply.text().await.unwrap());
            assert!(got == 200 || got == status, "{says}: {got} {text}");
            heard.lock().unwrap().push_str(&text);
            text.contains(says) || status == 403 && got == 403
        })
        .await;
        told.push_str(&heard.into_inner().unwrap());
        // A pause doubles each time, and what is refused for good is not asked for again.
        let most = if status == 403 { 1 } else { 8 };
        let sent = refreshes(&cloud) - before;
        assert!((1..=most).contains(&sent), "{says}: {sent}");
        let state = world.cli(&["status", &name, "--json"]).await.json();
        let word = if status == 403 { "sign_in_needed" } else { "signed_in" };
        assert_eq!(state["status"], word, "{says}: {state}");
        assert!(status == 503 || state["reason"].as_str().unwrap().contains(says), "{says}: {state}");
    }
    assert!(!told.contains("Wi-Fi") && !told.contains(EVIL), "{told}");
    assert_nothing_shows(&cloud, &world, &serve, &told).await;
    assert_eq!(cloud.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_at_a_refresh_is_given_back_and_never_used() {
    let (cloud, world, serve, agent) = okta().await;
    cloud.signs_in("Ann");
    assert_eq!(world.cli(&["login", "cloud"]).await.code(), 0);
    cloud.swap_account("Mallory");
    cloud.end_access_tokens();
    for _ in 0..3 {
        let (status, text) = call(&agent, PATH).await;
        assert!(matches!(status, 401 | 403) && !text.contains("Mallory"), "{status} {text}");
    }
    assert_eq!(cloud.counts().refreshed, 1);
    let state = world.cli(&["status", "cloud", "--json"]).await.json();
    assert_eq!(state["status"], "sign_in_needed", "{state}");
    assert!(state["reason"].as_str().unwrap().contains("another account"), "{state}");
    eventually_async("her tokens are given back", async || cloud.revoked().len() == 2).await;
    let api = cloud.calls(okta::DOMAIN).into_iter().filter(|seen| seen.target == PATH);
    let revoked = cloud.revoked();
    assert!(
        api.into_iter().all(|seen| !revoked.iter().any(|token| seen.header("authorization").unwrap().contains(token)))
    );
    assert_nothing_shows(&cloud, &world, &serve, &state.to_string()).await;
    assert_eq!(cloud.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_is_revoked_at_once_is_over_after_one_refresh() {
    let (cloud, world, serve, agent) = okta().await;
    cloud.signs_in("Ann");
    assert_eq!(world.cli(&["login", "cloud"]).await.code(), 0);
    cloud.end_all_tokens();
    let before = cloud.counts().all;
    for _ in 0..5 {
        let (status, text) = call(&agent, PATH).await;
        assert!(matches!(status, 401 | 403), "{status} {text}");
    }
    assert_eq!(cloud.counts().all - before, 2, "one call, one refresh");
    let state = world.cli(&["status", "cloud", "--json"]).await.json();
    assert_eq!(state["status"], "sign_in_needed", "{state}");
    assert!(state["reason"].as_str().unwrap().contains("it was used up, revoked or has expired"), "{state}");
    assert_nothing_shows(&cloud, &world, &serve, &state.to_string()).await;
    cloud.will([Word::SignsIn(Person::new("Ann"))]);
    assert_eq!(world.cli(&["login", "cloud"]).await.code(), 0);
    assert_eq!(call(&agent, PATH).await.0, 200);
    assert_eq!(cloud.faults(), [""; 0]);
}

/// Both wait out the longest time of one exchange, at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_is_given_up() {
    let endless: Bad = |answer| Answer { body: Body::Endless, ..answer };
    let at_first = async {
        let (cloud, world, _serve, _) = okta().await;
        answer_so(&cloud, DEVICE, endless);
        let done = world.cli(&["login", "cloud"]).await;
        assert!(done.code() == 1 && done.stderr.contains("no whole reply within"), "{done:?}");
        assert_eq!(cloud.counts().all, 1);
    };
    let at_a_refresh = async {
        let (cloud, world, serve, agent) = okta().await;
        cloud.signs_in("Ann");
        assert_eq!(world.cli(&["login", "cloud"]).await.code(), 0);
        cloud.twist(move |seen, answer| if is_refresh(seen) { endless(answer) } else { answer });
        cloud.end_access_tokens();
        let before = cloud.counts().all;
        let (status, text) = call(&agent, PATH).await;
        assert!(matches!(status, 401 | 503), "{status} {text}");
        assert_eq!(cloud.counts().all - before, 2, "one call, one refresh");
        assert_eq!(world.cli(&["status", "cloud", "--json"]).await.json()["status"], "signed_in");
        assert_nothing_shows(&cloud, &world, &serve, &text).await;
        assert_eq!(cloud.faults(), [""; 0]);
    };
    tokio::join!(at_first, at_a_refresh);
}
