//! The stand-ins for providers judged by clients that others wrote: what they are strict about is what those send, and
//! what they answer is what those read.

use crate::runtimes::installed;
use crate::sign_ins_clouds::{aws_ready, call, ready};
use crate::signing::{aws_signature, second_opinion};
use e2e::identity::cloud::Cloud;
use e2e::identity::desk::{Person, Word};
use e2e::identity::{auth0, aws, entra, github, gitlab, google, okta};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::process::Command;

/// One sign-in that is pending first, one that is declined; what the client says of them.
async fn judged(cloud: &Cloud, judge: Judge, provider: &str) -> Value {
    cloud.will([Word::Pending, Word::SignsIn(Person::new("Ann")), Word::Denied]);
    let folder = tempfile::tempdir().unwrap();
    let (address, ca) = cloud.place(folder.path());
    let script = |name: &str| format!("{}/peers/identity_clients.{name}", env!("CARGO_MANIFEST_DIR"));
    let mut command = match judge {
        Judge::Python => Command::new(installed("OAUTH3_TEST_IDENTITY_CLIENTS")),
        Judge::Node => Command::new(installed("OAUTH3_TEST_NODE")),
    };
    match judge {
        Judge::Python => command.arg(script("py")),
        Judge::Node => command.arg(script("mjs")).arg(installed("OAUTH3_TEST_IDENTITY_MODULES")),
    };
    command.arg(address.port().to_string()).arg(ca).arg(provider).kill_on_drop(true);
    let output = tokio::time::timeout(e2e::PATIENCE, command.output()).await.expect("ends in time").unwrap();
    let faults = cloud.faults();
    assert!(output.status.success(), "{}\n{faults:?}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(faults, [""; 0]);
    serde_json::from_slice(&output.stdout).unwrap()
}

enum Judge {
    Python,
    Node,
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_own_library_signs_in_at_the_stand_in_for_entra() {
    let cloud = Cloud::start(&[entra::LOGIN, entra::GRAPH], entra::Entra::default()).await;
    assert_eq!(
        judged(&cloud, Judge::Python, "entra").await,
        json!({ "name": "Ann", "account": "ann@example.com", "renewed": true, "denied": "authorization_declined" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn googles_own_library_refreshes_at_the_stand_in_for_google() {
    let cloud = Cloud::start(&[google::OAUTH, google::API, google::OPENID], google::Google::default()).await;
    assert_eq!(
        judged(&cloud, Judge::Python, "google").await,
        json!({ "name": "Ann", "account": "ann@example.com", "renewed": true, "denied": "access_denied",
                "ended": "invalid_grant" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_in_at_the_stand_in_for_aws() {
    // An hour, as roles have: the client looks at the end after its second sign-in.
    let cloud = Cloud::start(&[aws::OIDC, aws::PORTAL, aws::API], aws::Aws::new(3600)).await;
    assert_eq!(
        judged(&cloud, Judge::Python, "aws").await,
        json!({ "renewed": true, "lasts": true, "denied": "access_denied", "ended": "UnauthorizedException" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_as_the_role_of_a_sign_in_does() {
    let (cloud, add) = aws_ready().await;
    let (world, _serve, agent) = ready(&cloud, &add, "").await;
    cloud.signs_in("Ann");
    assert_eq!(world.cli(&["login", "cloud"]).await.code(), 0);
    assert_eq!(call(&agent, "/?Action=GetCallerIdentity&Version=2011-06-15").await.0, 200);
    let secrets = cloud.secrets();
    let begins = |prefix: &str| secrets.iter().rfind(|secret| secret.starts_with(prefix)).unwrap();
    let key = format!("{}:{}", begins("ASIA"), begins("wJalr"));
    let seen = cloud.calls(aws::API).pop().unwrap();
    let said = second_opinion(&json!({ "jwt": [], "hmac": [], "aws": [{
        "key": key, "session": begins("IQoJ"), "method": seen.method, "url": format!("https://{}{}", aws::API, seen.target),
        "headers": seen.headers.iter().cloned().collect::<BTreeMap<_, _>>(), "body": seen.body,
    }] }));
    assert_eq!(said["aws"][0], aws_signature(&seen), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn auth0s_own_client_refreshes_and_revokes_at_the_stand_in_for_auth0() {
    let cloud = Cloud::start(&[auth0::DOMAIN, auth0::API], auth0::Auth0::confidential()).await;
    assert_eq!(
        judged(&cloud, Judge::Node, "auth0").await,
        json!({ "name": "Ann", "renewed": true, "denied": "access_denied", "ended": "invalid_grant" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_client_signs_in_at_the_stand_in_for_github() {
    let cloud = Cloud::start(&[github::LOGIN, github::API], github::Github { app: true }).await;
    assert_eq!(
        judged(&cloud, Judge::Node, "github").await,
        json!({ "renewed": true, "denied": "access_denied", "revoked": 204, "ended": "bad_refresh_token" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_client_signs_in_at_the_stand_ins_for_okta_and_gitlab() {
    let okta = Cloud::start(&[okta::DOMAIN], okta::Okta::new(Some("default"))).await;
    let gitlab = Cloud::start(&[gitlab::HOST], gitlab::Gitlab::default()).await;
    let told = json!({ "name": "Ann", "account": "ann@example.com", "renewed": true, "denied": "access_denied",
                       "ended": "invalid_grant" });
    assert_eq!(judged(&okta, Judge::Node, "okta").await, told);
    assert_eq!(judged(&gitlab, Judge::Node, "gitlab").await, told);
}
