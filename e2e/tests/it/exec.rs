//! Programs that are run with the token of a connection.

use crate::sign_ins::{ready, sign_in};
use e2e::identity::API_HOST;
use serde_json::json;

/// Prints what the program gets, and what the API says.
const CURL: [&str; 3] =
    ["sh", "-c", "echo \"$MY_MAIL_TOKEN\"; curl -s -H \"Authorization: Bearer $MY_MAIL_TOKEN\" \"$0\""];

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_with_a_placeholder_and_the_api_gets_the_token() {
    let (idp, world, serve, _) = ready().await;
    sign_in(&idp, &world, "Ann").await;
    let url = format!("https://{API_HOST}/me");
    let line = [&["exec", "my-mail", "--"][..], &CURL, &[&url]].concat();
    let watch = async {
        loop {
            let open = world.cli(&["requests", "--json"]).await.json();
            if let Some(id) = open["requests"][0]["request_id"].as_str() {
                let shown = world.cli(&["show", id]).await;
                assert!(shown.stdout.contains("exec sh -c"), "what runs is shown: {shown:?}");
                assert_eq!(world.cli(&["approve", id]).await.code(), 0);
                return;
            }
        }
    };
    let (done, ()) = tokio::join!(world.cli(&line), watch);
    assert_eq!(done.code(), 0, "{done:?} {}", serve.log());
    assert!(done.stdout.contains(r#""hello":"Ann""#), "{done:?}");
    for secret in idp.secrets() {
        assert!(!done.stdout.contains(&secret), "{done:?}");
    }
    assert_eq!(idp.api_calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_runs_only_programs_on_the_owners_list() {
    let (_idp, world, _serve, agent) = ready().await;
    let ask = |command: &str| {
        json!({ "skill_id": "look", "code": command,
                "metadata": { "runtime": "command", "secrets": ["connection:my-mail"], "network": [API_HOST] } })
    };
    let refused = agent.execute(ask("rm -rf /")).await;
    assert_eq!((refused.status, refused.json["error"].as_str()), (403, Some("denied_by_policy")), "{refused:?}");
    let path = agent.execute(ask("/bin/sh -c id")).await;
    assert_eq!(path.status, 400, "{path:?}");
    drop(world);
}
