//! Every `oauth3` command of the README's `sh` blocks is run here, as it stands.

use crate::commands::first_request;
use e2e::{Agent, Serve, World};
use serde_json::json;

/// The commands in the `sh` blocks of a document.
pub(crate) fn commands_of(document: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(format!("{}/../{document}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut inside = false;
    let mut commands = Vec::new();
    for line in readme.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => {
                commands.push(line.strip_prefix("oauth3 ").expect("sh blocks hold oauth3 commands").to_owned())
            }
            _ => {}
        }
    }
    commands
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let commands = commands_of("README.md");
    assert!(commands.len() > 15, "the README has its daily tasks");
    let world = World::new();
    world.write_config("");
    let skill = world.home().join("skill.js");
    std::fs::write(&skill, "// @runtime embedded\nconsole.log('hello')").unwrap();
    let mut serve = None;
    let mut token = String::new();
    for command in &commands {
        if command == "serve" {
            serve = Some(world.serve().await);
            continue;
        }
        let mut args = words(command);
        match args[0].as_str() {
            "show" | "approve" | "deny" => {
                let base = &serve.as_ref().expect("serve comes first").base;
                let code = format!("console.log({:?})", args[0]);
                Agent::new(base, &token).submit(&code, json!({ "runtime": "embedded" })).await;
            }
            _ => {}
        }
        for arg in &mut args {
            match arg.as_str() {
                "REQUEST" => *arg = first_request(&world).await,
                "GRANT" => {
                    *arg = world.cli(&["grants", "--json"]).await.json()["grants"][0]["id"].as_str().unwrap().to_owned()
                }
                "SKILL" => *arg = skill.display().to_string(),
                "TOKEN" => {
                    let file = world.home().join("agent-token");
                    std::fs::write(&file, &token).unwrap();
                    *arg = file.display().to_string();
                }
                _ => {}
            }
        }
        if let Some(serve) = &serve {
            where_the_proxy_is(&mut args, serve);
        }
        if matches!(args[..2.min(args.len())].join(" ").as_str(), "secret add" | "secret rotate") {
            // A person types the value; a test has no terminal.
            args.push("--stdin".into());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let done = if args[0] == "run" {
            for open in world.cli(&["requests", "--json"]).await.json()["requests"].as_array().unwrap() {
                world.cli(&["deny", open["request_id"].as_str().unwrap()]).await;
            }
            let (done, ()) = tokio::join!(world.cli(&args), async {
                let id = first_request(&world).await;
                world.cli(&["approve", &id]).await;
            });
            done
        } else {
            world.cli_with(&args, "sk-some-value-1234567890\n").await
        };
        assert_eq!(done.code(), 0, "oauth3 {command}: {done:?}");
        if args[0] == "init" {
            let start = done.stdout.find("oa3_").expect("a token");
            token = done.stdout[start..].split_whitespace().next().unwrap().to_owned();
        }
    }
}

/// The configuration of a test says any port, so that commands which ask the proxy have to be told which.
pub(crate) fn where_the_proxy_is(args: &mut Vec<String>, serve: &Serve) {
    if args[0] == "wrap" || args.iter().any(|arg| arg == "--forward") {
        args.splice(1..1, ["--proxy-url", &serve.proxy].map(str::to_owned));
    }
}

/// Splits as a shell would, for the little that the README needs.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}
