//! A whole sign-in at each provider, against a stand-in that is strict about what that provider documents.

use e2e::identity::cloud::{Answer, Body, Cloud};
use e2e::identity::desk::{Person, Word};
use e2e::identity::{auth0, aws, entra, github, gitlab, google, okta};
use e2e::{Agent, Seen, Serve, World, eventually_async};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is particular to one provider.
struct Case<'a> {
    /// After `connection add cloud --provider`.
    add: Vec<&'a str>,
    /// The client's secret, if it has one.
    secret: &'a str,
    /// What the provider's API is asked, below the connection.
    path: &'a str,
    /// What the API says of Ann.
    says: &'a str,
    /// The account as it is shown.
    account: &'a str,
    /// What is said after `Signed out of cloud`.
    signed_out: &'a str,
}

const ADDRESS: &str = "Ann (ann@example.com)";
const REVOKED: &str = "Its tokens are revoked and destroyed.";
const NOT_TOLD: &str = "the tokens are destroyed here, but the provider was not told or did not take them back";

/// A gateway with the connection `cloud`, which the agent may use.
pub(crate) async fn ready(cloud: &Cloud, add: &[&str], secret: &str) -> (World, Serve, Agent) {
    let (world, token) = World::ready("").await;
    world.write_config(&cloud.egress(world.home()));
    let mut args = vec!["connection", "add", "cloud", "--provider"];
    args.extend(add);
    args.extend((!secret.is_empty()).then_some("--client-secret-stdin"));
    let done = world.cli_with(&args, secret).await;
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(world.cli(&["connection", "grant", "cloud", "--agent", "agent"]).await.code(), 0);
    let serve = world.serve().await;
    let agent = Agent::new(&serve.proxy, &token);
    (world, serve, agent)
}

/// What the API answers by way of the proxy.
pub(crate) async fn call(agent: &Agent, path: &str) -> (u16, String) {
    let reply = agent.send(Method::GET, &format!("/api/cloud{path}"), None).await;
    (reply.status().as_u16(), reply.text().await.unwrap())
}

/// Nothing that only the keeper may know is anywhere where others look.
pub(crate) async fn assert_nothing_shows(cloud: &Cloud, world: &World, serve: &Serve, told: &str) {
    let mut places = vec![("what was told", told.to_owned()), ("the log", serve.log())];
    for args in
        [&["audit", "export"][..], &["logins", "--json"], &["status", "cloud"], &["connection", "list", "--json"]]
    {
        places.push((args[0], world.cli(args).await.stdout));
    }
    for secret in cloud.secrets() {
        for (place, text) in &places {
            assert!(!text.contains(&secret), "{secret} shows in {place}: {text}");
        }
    }
}

/// Every token from now on ends after a second, whenever that is on.
fn short_lives(cloud: &Cloud) -> Arc<AtomicBool> {
    let on = Arc::new(AtomicBool::new(false));
    let short = on.clone();
    cloud.twist(move |_, mut answer: Answer| {
        if let (Body::Json(body), true) = (&mut answer.body, short.load(Ordering::Relaxed))
            && body["access_token"].is_string()
            && !body["expires_in"].is_null()
        {
            body["expires_in"] = json!(1);
        }
        answer
    });
    on
}

/// Declined, signed in, used, refused by the API and renewed, renewed again before its end, signed out. Gives what the
/// command line and the API said on the way.
async fn whole_life(cloud: &Cloud, case: &Case<'_>, words: &[Word]) -> (World, Serve, Vec<String>) {
    let (world, serve, agent) = ready(cloud, &case.add, case.secret).await;
    let mut told = Vec::new();

    cloud.will([Word::Denied]);
    let done = world.cli(&["login", "cloud"]).await;
    assert!(done.code() == 3 && done.stderr.contains("the sign-in was declined"), "{done:?}");
    let reason = world.cli(&["status", "cloud", "--json"]).await.json()["last_failure"].to_string();
    assert!(reason.contains("declined") && !reason.contains("AADSTS") && !reason.contains("denied the"), "{reason}");

    let short = short_lives(cloud);
    cloud.will(words.iter().cloned().chain([Word::SignsIn(Person::new("Ann"))]));
    let done = world.cli(&["login", "cloud"]).await;
    assert_eq!(done.code(), 0, "{done:?} {}", serve.log());
    assert!(done.stdout.contains(case.account) || case.account.is_empty(), "{done:?}");
    let (status, text) = call(&agent, case.path).await;
    assert!(status == 200 && text.contains(case.says), "{status} {text} {}", serve.log());
    told.extend([done.stdout, text]);

    // What the API does not take any more is renewed, where the provider gave something to renew it with.
    let refreshable = world.cli(&["status", "cloud", "--json"]).await.json()["token_expires_at"].is_i64();
    cloud.end_access_tokens();
    short.store(true, Ordering::Relaxed);
    let (status, text) = call(&agent, case.path).await;
    if refreshable {
        assert!(status == 200 && text.contains(case.says), "{status} {text} {}", serve.log());
        assert_eq!(cloud.counts().refreshed, 1);
        eventually_async("a token that ends is renewed", async || {
            let (status, text) = call(&agent, case.path).await;
            status == 200 && text.contains(case.says) && cloud.counts().refreshed > 2
        })
        .await;
    } else {
        assert_eq!((status, cloud.counts().refreshed), (401, 0), "{text}");
    }
    short.store(false, Ordering::Relaxed);
    told.push(text);

    let shown = world.cli(&["status", "cloud"]).await.stdout;
    assert!(shown.contains(case.account), "{shown}");
    let done = world.cli(&["logout", "cloud"]).await;
    assert!(done.code() == 0 && done.stdout.contains(case.signed_out), "{done:?} {}", serve.log());
    told.extend([shown, done.stdout]);
    let (status, text) = call(&agent, case.path).await;
    assert!(status == 403 && text.contains("nobody is signed in"), "{status} {text}");
    assert_eq!(cloud.faults(), [""; 0], "{}", serve.log());
    assert_nothing_shows(cloud, &world, &serve, &told.join("\n")).await;
    (world, serve, told)
}

/// What a scope is shown to be, of the words that the command line said.
fn granted(told: &[String], scope: &str) -> bool {
    told.iter().any(|text| text.lines().any(|line| line.contains(scope) && line.ends_with("granted")))
}

#[tokio::test(flavor = "multi_thread")]
async fn microsoft_entra_signs_in_refreshes_and_has_nothing_to_revoke() {
    for entra in [entra::Entra::default(), entra::Entra::with_texts()] {
        let cloud = Cloud::start(&[entra::LOGIN, entra::GRAPH], entra).await;
        let case = Case {
            add: vec!["microsoft", "--client-id", entra::CLIENT_ID, "--scope-set", "mail-read"],
            secret: "",
            path: "/me",
            says: r#""displayName":"Ann""#,
            account: ADDRESS,
            signed_out: NOT_TOLD,
        };
        let (_world, _serve, told) = whole_life(&cloud, &case, &[Word::Pending]).await;
        for scope in ["Mail.Read", "User.Read", "openid", "offline_access"] {
            assert!(granted(&told, scope), "{scope}: {told:?}");
        }
        assert!(!told.join("").contains("Also granted"), "{told:?}");
        assert_eq!(cloud.revoked(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn google_signs_in_refreshes_and_revokes() {
    let cloud = Cloud::start(&[google::OAUTH, google::API, google::OPENID], google::Google::default()).await;
    let case = Case {
        add: vec!["google", "--client-id", google::CLIENT_ID, "--scope-set", "drive-files"],
        secret: google::CLIENT_SECRET,
        path: "/drive/v3/about",
        says: r#""displayName":"Ann""#,
        account: ADDRESS,
        signed_out: REVOKED,
    };
    let (_world, _serve, told) = whole_life(&cloud, &case, &[Word::Pending, Word::SlowDown]).await;
    assert!(granted(&told, "email") && granted(&told, "drive.file"), "{told:?}");
    assert!(!told.join("").contains("Also granted"), "long names are the short ones: {told:?}");
    assert!(cloud.revoked()[0].starts_with("1//"), "{:?}", cloud.revoked());
}

#[tokio::test(flavor = "multi_thread")]
async fn github_signs_in_as_an_oauth_app_whose_tokens_do_not_end() {
    let cloud = Cloud::start(&[github::LOGIN, github::API], github::Github::default()).await;
    let case = Case {
        add: vec!["github", "--client-id", github::CLIENT_ID, "--scope", "notifications", "--scope", "gist"],
        secret: github::CLIENT_SECRET,
        path: "/user",
        says: r#""login":"ann""#,
        account: "Ann (ann)",
        signed_out: REVOKED,
    };
    let (_world, _serve, told) = whole_life(&cloud, &case, &[Word::SlowDown]).await;
    assert!(granted(&told, "notifications") && granted(&told, "gist"), "{told:?}");
    assert_eq!(cloud.revoked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn github_signs_in_as_a_github_app_whose_refresh_tokens_work_once() {
    let cloud = Cloud::start(&[github::LOGIN, github::API], github::Github { app: true }).await;
    let case = Case {
        add: vec!["github", "--client-id", github::CLIENT_ID],
        secret: "",
        path: "/user",
        says: r#""login":"ann""#,
        account: "Ann (ann)",
        signed_out: NOT_TOLD,
    };
    whole_life(&cloud, &case, &[Word::Pending]).await;
    assert_eq!(cloud.revoked(), [""; 0], "without the secret nothing can be taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_signs_in_refreshes_and_revokes() {
    let cloud = Cloud::start(&[gitlab::HOST], gitlab::Gitlab::default()).await;
    let case = Case {
        add: vec!["gitlab", "--client-id", gitlab::CLIENT_ID, "--scope-set", "read"],
        secret: "",
        path: "/user",
        says: r#""username":"ann""#,
        account: ADDRESS,
        signed_out: REVOKED,
    };
    whole_life(&cloud, &case, &[Word::Pending]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auth0_signs_in_for_an_api_refreshes_and_revokes_the_refresh_token() {
    let cloud = Cloud::start(&[auth0::DOMAIN, auth0::API], auth0::Auth0::default()).await;
    let mut add = vec!["auth0", "--client-id", auth0::CLIENT_ID, "--domain", auth0::DOMAIN, "--host", auth0::API];
    add.extend(["--audience", auth0::AUDIENCE, "--scope-set", "account", "--scope", "read:orders"]);
    let case =
        Case { add, secret: "", path: "/orders", says: r#""orders_of":"Ann""#, account: ADDRESS, signed_out: REVOKED };
    whole_life(&cloud, &case, &[Word::Pending]).await;
    let revoked = cloud.revoked();
    assert!(revoked.len() == 1 && revoked[0].starts_with("v1.M-"), "{revoked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn okta_signs_in_at_both_kinds_of_servers() {
    for server in [None, Some("default")] {
        let cloud = Cloud::start(&[okta::DOMAIN], okta::Okta::new(server)).await;
        let mut add = vec!["okta", "--client-id", okta::CLIENT_ID, "--domain", okta::DOMAIN, "--scope-set", "account"];
        add.extend(["--scope", "okta.users.read.self"]);
        add.extend(server.map(|_| ["--parameter", "server=default"]).into_iter().flatten());
        let case = Case {
            add,
            secret: okta::CLIENT_SECRET,
            path: "/api/v1/users/me",
            says: r#""firstName":"Ann""#,
            account: ADDRESS,
            signed_out: REVOKED,
        };
        whole_life(&cloud, &case, &[Word::Pending]).await;
        assert_eq!(cloud.revoked().len(), 2, "refresh and access token");
    }
}

/// What botocore says of the signature of a request is compared in `sign_ins_judged.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn aws_registers_signs_in_signs_for_a_role_and_signs_out() {
    let (cloud, add) = aws_ready().await;
    let (world, serve, agent) = ready(&cloud, &add, "").await;
    let mut told = Vec::new();
    cloud.will([Word::Denied]);
    let done = world.cli(&["login", "cloud"]).await;
    assert!(done.code() == 3 && done.stderr.contains("the sign-in was declined"), "{done:?}");
    cloud.will([Word::Pending, Word::SignsIn(Person::new("Ann"))]);
    let done = world.cli(&["login", "cloud"]).await;
    assert_eq!(done.code(), 0, "{done:?} {}", serve.log());
    told.push(done.stdout);
    let identity = "/?Action=GetCallerIdentity&Version=2011-06-15";
    let (status, text) = call(&agent, identity).await;
    assert!(status == 200 && text.contains("assumed-role/ReadOnly/ann"), "{status} {text} {}", serve.log());
    told.push(text);
    let registered = |seen: &&Seen| seen.target == "/client/register";
    assert_eq!(cloud.calls(aws::OIDC).iter().filter(registered).count(), 1, "one client for both sign-ins");

    // Credentials of a role end first; others are had with the session, and when that has ended too, it is renewed.
    let asked = |cloud: &Cloud| cloud.calls(aws::PORTAL).iter().filter(|seen| seen.method == "GET").count();
    eventually_async("credentials that end are had anew", async || {
        let (status, text) = call(&agent, identity).await;
        status == 200 && text.contains("assumed-role") && asked(&cloud) > 1
    })
    .await;
    assert_eq!(cloud.counts().refreshed, 0);
    cloud.end_access_tokens();
    eventually_async("a session that has ended is renewed", async || {
        let (status, text) = call(&agent, identity).await;
        status == 200 && text.contains("assumed-role") && cloud.counts().refreshed == 1
    })
    .await;
    let done = world.cli(&["logout", "cloud"]).await;
    assert!(done.code() == 0 && done.stdout.contains(REVOKED), "{done:?} {}", serve.log());
    told.push(done.stdout);
    assert_eq!(cloud.revoked().len(), 1, "the session");
    assert_eq!(call(&agent, identity).await.0, 403);
    assert_eq!(cloud.faults(), [""; 0], "{}", serve.log());
    assert_nothing_shows(&cloud, &world, &serve, &told.join("\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_aws_does_not_know_is_no_sign_in() {
    let (cloud, mut add) = aws_ready().await;
    *add.iter_mut().find(|word| **word == aws::ROLE).unwrap() = "Nobody";
    let (world, serve, agent) = ready(&cloud, &add, "").await;
    cloud.signs_in("Ann");
    let done = world.cli(&["login", "cloud"]).await;
    assert!(done.code() == 1 && done.stderr.contains("it does not know this account or role"), "{done:?}");
    assert_eq!(call(&agent, "/").await.0, 403);
    assert_eq!(cloud.calls(aws::API).len(), 0);
    assert_eq!(cloud.faults(), [""; 0], "{}", serve.log());
}

/// AWS with credentials that last two seconds, and what names it.
pub(crate) async fn aws_ready() -> (Cloud, Vec<&'static str>) {
    let cloud = Cloud::start(&[aws::OIDC, aws::PORTAL, aws::API], aws::Aws::new(2)).await;
    let add = vec![
        "aws",
        "--region",
        "eu-central-1",
        "--start-url",
        aws::START_URL,
        "--account-id",
        aws::ACCOUNT,
        "--role-name",
        aws::ROLE,
        "--host",
        aws::API,
        "--in",
        "sigv4:sts:eu-central-1",
    ];
    (cloud, add)
}

/// A refusal in each provider's own shape is one plain sentence, and nothing of its text is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_says_beside_its_error_code_is_not_told() {
    let cloud = Cloud::start(&[entra::LOGIN, entra::GRAPH], entra::Entra::default()).await;
    let add = ["microsoft", "--client-id", entra::CLIENT_ID, "--scope", "Mail.Read"];
    let (world, serve, agent) = ready(&cloud, &add, "").await;
    cloud.twist(|seen, answer| match seen.target.ends_with("/devicecode") {
        true => Answer::json(401, refusal(7_000_218, "invalid_client")),
        false => answer,
    });
    let done = world.cli(&["login", "cloud"]).await;
    assert!(done.code() == 1 && done.stderr.contains("it does not know this client id"), "{done:?}");
    cloud.straighten();
    cloud.will([Word::SignsIn(Person::new("Ann"))]);
    let done = world.cli(&["login", "cloud", "--json"]).await;
    assert!(done.code() == 0, "{done:?} {}", serve.log());
    // No offline_access, so no refresh token: when the access has ended, that is said.
    cloud.end_access_tokens();
    assert_eq!(call(&agent, "/me").await.0, 401);
    assert_eq!(cloud.counts().refreshed, 0);
    let log = serve.log();
    assert!(!log.contains("AADSTS") && !done.stdout.contains("AADSTS"), "{log}");
    assert_eq!(cloud.faults(), [""; 0]);
}

fn refusal(number: u32, code: &str) -> Value {
    json!({ "error": code, "error_description": format!("AADSTS{number}: <b>call 555-0100</b>"), "error_codes": [number] })
}
