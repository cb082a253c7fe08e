//! The skills of `integrations/openclaw` in the real OpenClaw: its agent runs the commands that stand on their pages, and
//! neither it nor its files ever have a code or a token of the sign-in.

use crate::openclaw::all_files;
use crate::runtimes::installed;
use crate::sign_ins::{SKILL, define};
use e2e::identity::{Poll, USER_CODE};
use e2e::openclaw::OpenClaw;
use e2e::{IdentityProvider, World};
use serde_json::json;
use std::path::{Path, PathBuf};

fn folder(skill: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../integrations/openclaw").join(skill)
}

/// The commands on a skill's page, for the connection `my-mail`.
fn commands(skill: &str) -> Vec<String> {
    let page = std::fs::read_to_string(folder(skill).join("SKILL.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| block.replace("/NAME", "/my-mail")).collect()
}

/// Waits for a request, and approves it.
async fn approve(world: &World) {
    let id = loop {
        let list = world.cli(&["requests", "--json"]).await.json();
        if let Some(id) = list["requests"][0]["request_id"].as_str() {
            break id.to_owned();
        }
    };
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_agent_has_the_owner_sign_in_and_uses_the_account_with_the_skills_alone() {
    let (peer, node) = (installed("OAUTH3_TEST_OPENCLAW"), installed("OAUTH3_TEST_NODE"));
    let idp = IdentityProvider::start().await;
    let (world, token) = World::ready("").await;
    world.write_config(&idp.egress(world.home()));
    define(&world).await;
    // It sets up models too, which nobody uses here.
    world.add_secret("OPENAI_API_KEY", "sk-proj-Xw2Vc8Nm4Qz6Lp1Ks9Jd", &["api.openai.com"]).await;
    assert_eq!(world.cli(&["provider", "key", "add", "openai", "OPENAI_API_KEY"]).await.code(), 0);
    let serve = world.serve().await;
    let skills = ["oauth3", "oauth3-auth", "oauth3-status"].map(folder);
    let openclaw = OpenClaw::new(&peer, &node, &skills.each_ref().map(PathBuf::as_path), json!({})).await;
    let file = openclaw.config_file();
    let setup =
        ["openclaw", "setup", "--url", &serve.base, "--model", "openai/gpt-4o", "--write", file.to_str().unwrap()];
    let done = world.cli_with(&setup, &token).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let told = || openclaw.told().concat().replace('\\', "");

    // Nobody signs in yet, so that the last look says so.
    let mut output = openclaw.turn_with("sign in to my-mail", commands("oauth3-auth")).await;
    let read = told();
    for part in ["oauth3-auth", r#""status":"signed_out""#, r#""status":"pending""#] {
        assert!(read.contains(part), "{part}: {read}");
    }
    idp.will([Poll::person("Ann")]);
    assert_eq!(world.cli(&["login", "my-mail"]).await.code(), 0);

    let code = format!("// @secrets connection:my-mail\n// @network api.example.com\n{SKILL}");
    let request = json!({ "skill_id": "who-am-i", "code": code });
    let write = format!("cat > request.json <<'REQUEST'\n{request}\nREQUEST\n");
    let mut run = commands("oauth3");
    let submit = run.iter().position(|command| command.contains("@request.json")).unwrap();
    run.insert(submit, write);
    run.extend(commands("oauth3-status"));
    let (said, ()) = tokio::join!(openclaw.turn_with("who am I at my mail? then /status", run), approve(&world));
    output.push_str(&said);
    let read = told();
    for part in ["connection:my-mail", "200 ", "Ann", r#""status":"success""#, r#""status":"signed_in""#] {
        assert!(read.contains(part), "{part}: {read}");
    }
    assert_eq!(idp.api_calls().len(), 1);
    assert_eq!(idp.faults(), [""; 0]);

    output.push_str(&openclaw.told().concat());
    let mut places = vec![(PathBuf::from("what it said and read"), output.into_bytes())];
    places.extend(
        all_files(openclaw.home()).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap_or_default())),
    );
    assert!(places.len() > 5, "it has a state");
    let secrets = idp.secrets();
    assert!(secrets.len() >= 3, "a device code and two tokens: {}", secrets.len());
    for secret in secrets.iter().map(String::as_str).chain([USER_CODE, &token]) {
        for (place, bytes) in &places {
            let shows = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!shows, "{secret} shows in {}", place.display());
        }
    }
    assert!(serve.stop().await.success());
}
