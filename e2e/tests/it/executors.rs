//! The docker and direct executors, through the whole system: the same main job, the same refusals.

use e2e::{Agent, Serve, Standin, World};
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

const CANARY: &str = "sk-proj-Ex3cut0r-C4n4ry-9Zq8Wv2Xk5Lm7Rt3";
/// The user that direct runs are tried as, besides root: nobody.
pub(crate) const NOBODY: u32 = 65_534;

/// `executor` and what it needs, for the top of `oauth3.toml`; `None` where its tests are left out on purpose.
pub(crate) fn docker() -> Option<(&'static str, String)> {
    let mend =
        "run by `cargo xtask test`, or start an engine by `cargo xtask engine`, or set OAUTH3_TEST_DOCKER_HOST=off";
    let host = std::env::var("OAUTH3_TEST_DOCKER_HOST").expect(mend);
    let section = || {
        let image = std::env::var("OAUTH3_TEST_DOCKER_IMAGE").expect(mend);
        format!("[docker]\nhost = \"{host}\"\nimage = \"{image}\"\n")
    };
    (host != "off").then(|| ("docker", section()))
}

pub(crate) fn direct() -> (&'static str, String) {
    let deno = std::env::var("OAUTH3_TEST_DENO").expect("run by `cargo xtask test`");
    ("direct", format!("[runtimes]\ndeno = {deno:?}\n"))
}

fn configure(world: &World, (executor, section): &(&str, String), egress: &str) {
    world.write_config(&format!("executor = {executor:?}\n{section}{egress}"));
}

async fn run(world: &World, agent: &Agent, body: Value) -> Value {
    let reply = agent.execute(body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json["request_id"].as_str().unwrap().to_owned();
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    agent.finished(&id).await
}

/// The checks of the seeds, and a whole round trip: what the code sees, what the API gets, what comes back.
async fn main_job(executor: &(&str, String)) {
    let api = Standin::echo("api.example.com").await;
    let mut world = World::new();
    let token = world.init().await;
    configure(&world, executor, &api.egress(world.home()));
    world.add_secret("API_KEY", CANARY, &["api.example.com"]).await;
    world.set("SOME_GATEWAY_VALUE", "visible-to-the-gateway-only");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let health = agent.call(reqwest::Method::GET, "/health", None).await;
    assert_eq!((health.status, &health.json["executor"]), (200, &json!(executor.0)), "{health:?}");
    main_job_of(&world, &serve, &agent, &api).await;
}

async fn main_job_of(world: &World, serve: &Serve, agent: &Agent, api: &Standin) {
    let isolation = "data:text/typescript,console.log(Deno.env.get(\"TELEGRAM_BOT_TOKEN\") || \"NOT ACCESSIBLE\")";
    let seen = run(world, agent, json!({ "skill_id": "test-isolation", "skill_url": isolation, "secrets": [] })).await;
    // Where Deno's own permissions are a wall, asking is refused already.
    let said = format!("{}{}", seen["result"]["stdout"], seen["result"]["stderr"]);
    assert!(said.contains("NOT ACCESSIBLE") || said.contains("NotCapable"), "{seen}");

    for runtime in ["deno", "embedded"] {
        let code = format!(
            "// @runtime {runtime}\nconst key = Deno.env.get('API_KEY');\n\
             const r = await fetch('https://api.example.com/v1', {{ headers: {{ authorization: `Bearer ${{key}}` }} }});\n\
             console.log(r.status, key.length, await r.text()); console.error(key);\n\
             try {{ const o = await fetch('https://other.example.com/'); console.log(o.status === 403 ? 'refused' : 'GOT other') }}\n\
             catch {{ console.log('refused') }}"
        );
        let before = api.seen().len();
        let body = json!({ "skill_id": "s", "code": code, "secrets": ["API_KEY"], "metadata": { "network": ["api.example.com"] } });
        let status = run(world, agent, body).await;
        assert_eq!(status["status"], "success", "{runtime}: {status}\n{}", serve.log());
        let stdout = status["result"]["stdout"].as_str().unwrap();
        assert!(stdout.starts_with("200 "), "{runtime}: {status}");
        assert!(!stdout.contains("GOT other"), "{runtime}: {status}");
        let got = api.seen();
        assert_eq!(got.len(), before + 1, "{runtime}");
        assert_eq!(got[before].header("authorization"), Some(&*format!("Bearer {CANARY}")), "{runtime}");
        assert!(!status.to_string().contains(CANARY), "{status}");
    }
    assert!(!serve.log().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_works_in_a_container() {
    let Some(executor) = docker() else { return };
    main_job(&executor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_works_directly() {
    main_job(&direct()).await;
}

/// As an ordinary user without any privilege, which is what the direct executor is for.
#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_works_directly_without_any_privilege() {
    let api = Standin::echo("api.example.com").await;
    let world = World::new();
    let token = world.init().await;
    configure(&world, &direct(), &api.egress(world.home()));
    world.add_secret("API_KEY", CANARY, &["api.example.com"]).await;
    give(world.home(), NOBODY);
    let mut world = world;
    world.run_by(unprivileged(NOBODY));
    let serve = world.serve().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid())).unwrap();
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t")) && status.contains("CapBnd:\t0000000000000000"), "{status}");
    let agent = Agent::new(&serve.base, &token);
    main_job_of(&world, &serve, &agent, &api).await;
    // Not even the other processes of the same user.
    let code = format!(
        "const attempt = (what, f) => {{ try {{ f(); console.log('GOT', what) }} catch {{ console.log('refused') }} }};\n\
         attempt('environ', () => Deno.readTextFileSync('/proc/{0}/environ'));\n\
         attempt('kill', () => Deno.kill({0}, 'SIGTERM'));\n\
         attempt('key', () => Deno.readTextFileSync('{1}/master.key'));",
        serve.pid(),
        world.home().display()
    );
    let status = run(&world, &agent, json!({ "skill_id": "s", "code": code })).await;
    assert_eq!(status["result"]["stdout"], "refused\nrefused\nrefused\n", "{status}");
}

/// What makes a program one of this user's, without any privilege.
pub(crate) fn unprivileged(user: u32) -> Vec<String> {
    let id = user.to_string();
    [
        "setpriv",
        "--reuid",
        &id,
        "--regid",
        &id,
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Makes a directory and all in it this user's.
pub(crate) fn give(path: &std::path::Path, user: u32) {
    let mut todo = vec![PathBuf::from(path)];
    while let Some(path) = todo.pop() {
        chown(&path, Some(user), Some(user)).expect("this test needs root: it runs oauth3 as another user");
        if path.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        }
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_killed_leaves_no_container() {
    let Some(executor) = docker() else { return };
    let (world, token) = World::ready("").await;
    configure(&world, &executor, "");
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let id =
        agent.submit("// @runtime python\nimport time\nwhile True: time.sleep(1)", json!({ "timeout": 120 })).await;
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let host = std::env::var("OAUTH3_TEST_DOCKER_HOST").unwrap();
    let label = {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(world.home().join("docker").as_os_str().as_encoded_bytes());
        format!("label=oauth3.home={}", digest.iter().take(8).map(|b| format!("{b:02x}")).collect::<String>())
    };
    let containers = || {
        let listed = std::process::Command::new("docker")
            .args(["--host", &host, "ps", "--all", "--quiet", "--filter", &label])
            .output()
            .unwrap();
        String::from_utf8(listed.stdout).unwrap().lines().count()
    };
    e2e::eventually("the run has a container", || containers() == 1).await;
    serve.kill().await;
    let serve = world.serve().await;
    e2e::eventually("the next start removed it", || containers() == 0).await;
    let agent = Agent::new(&serve.base, &token);
    assert_eq!(agent.finished(&id).await["status"], "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_cannot_work_is_told_before_a_port_opens() {
    let image = format!("sha256:{}", "0".repeat(64));
    for (config, told) in [
        ("executor = \"podman\"\n".to_owned(), "\"native\", \"docker\" or \"direct\""),
        ("executor = \"docker\"\n".to_owned(), "docker.image"),
        ("executor = \"docker\"\n[docker]\nimage = \"denoland/deno:latest\"\n".to_owned(), "digest"),
        (format!("executor = \"docker\"\n[docker]\nimage = \"{image}\"\nhost = \"tcp://127.0.0.1:2375\"\n"), "unix://"),
        (
            format!("executor = \"docker\"\n[docker]\nimage = \"{image}\"\nhost = \"unix:///nonexistent.sock\"\n"),
            "DOCKER_HOST",
        ),
    ] {
        let (world, _) = World::ready(&config).await;
        let stderr = world.try_serve().await.err().unwrap_or_else(|| panic!("{config} was taken"));
        assert!(stderr.contains(told), "{config}: {stderr}");
    }
}
