//! Plants unique secrets, does everything, and looks for them everywhere in every form.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use e2e::{Agent, Standin, World, world};
use hyper::Response;
use serde_json::json;

pub(crate) const CANARY: &str = "sk-proj-C4n4ry+/=Zq8Wv2Xk5Lm9\"Rt3&Yp7";

/// The forms in which a secret could show.
pub(crate) fn forms(secret: &str) -> Vec<String> {
    let percent: String = secret.bytes().map(|b| format!("%{b:02X}")).collect();
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let usual = secret.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    let usual: String = usual.collect();
    let mut forms = vec![
        secret.to_owned(),
        HEXLOWER.encode(secret.as_bytes()),
        HEXUPPER.encode(secret.as_bytes()),
        percent.clone(),
        percent.to_lowercase(),
        usual,
        serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
        secret.replace('&', "&amp;").replace('"', "&quot;"),
    ];
    // Base64 of the secret at each of the three offsets, without the characters that its neighbours share.
    for offset in 0..3 {
        let padded = [vec![b'x'; offset], secret.as_bytes().to_vec()].concat();
        for encoded in [BASE64.encode(&padded), BASE64URL_NOPAD.encode(&padded)] {
            let whole = encoded.trim_end_matches('=');
            let (skip, keep) = ((offset * 8).div_ceil(6), (padded.len() * 8) / 6);
            forms.push(whole[skip..keep].to_owned());
        }
    }
    forms
}

pub(crate) fn assert_clean(place: &str, bytes: &[u8]) {
    assert_clean_of(&[CANARY], place, bytes);
}

/// No form of any of these is there.
pub(crate) fn assert_clean_of(planted: &[impl AsRef<str>], place: &str, bytes: &[u8]) {
    for form in planted.iter().flat_map(|secret| forms(secret.as_ref())) {
        let found = bytes.windows(form.len()).any(|w| w == form.as_bytes());
        assert!(!found, "a canary shows in {place} as {form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canary_never_shows() {
    // An API that reflects the key in every form that it knows, in a header and in the body.
    let api = Standin::start("api.example.com", |seen| {
        let key = seen.header("authorization").unwrap_or("").trim_start_matches("Bearer ").to_owned();
        let body = forms(&key).join("\n");
        Response::builder().header("x-echo", HEXLOWER.encode(key.as_bytes())).body(body.into()).unwrap()
    })
    .await;
    let (world, token) = World::ready("").await;
    world.write_config(&api.egress(world.home()));
    world.add_secret("CANARY_KEY", CANARY, &["api.example.com"]).await;
    let serve = world.serve().await;
    let agent = Agent::new(&serve.base, &token);
    let code = "// @runtime embedded\nconst key = Deno.env.get('CANARY_KEY');\nconst r = await fetch('https://api.example.com/', {headers: {Authorization: `Bearer ${key}`}});\nconsole.log(key, r.headers.get('x-echo'), await r.text()); console.error(key);";
    let id = agent.submit(code, json!({ "secrets": ["CANARY_KEY"], "network": ["api.example.com"] })).await;
    let shown = world.cli(&["show", &id]).await;
    assert_clean("show", shown.stdout.as_bytes());
    assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    let status = agent.finished(&id).await;
    assert_eq!(status["status"], "success", "{status} {}", serve.log());
    assert_eq!(
        api.seen()[0].header("authorization"),
        Some(format!("Bearer {CANARY}").as_str()),
        "the API got the real value"
    );
    assert_clean("the agent's reply", status.to_string().as_bytes());
    let stdout = status["result"]["stdout"].as_str().unwrap();
    assert_clean("stdout", stdout.as_bytes());

    // The same key behind the proxy, for a program that knows nothing of it.
    let connection = ["connection", "add", "canary", "--base-url", "https://api.example.com", "--secret", "CANARY_KEY"];
    assert_eq!(world.cli(&connection).await.code(), 0);
    assert_eq!(world.cli(&["connection", "grant", "canary", "--agent", "agent"]).await.code(), 0);
    let file = world.home().join("token");
    std::fs::write(&file, &token).unwrap();
    let file = file.to_str().unwrap();
    let wrap = ["wrap", "--proxy-url", &serve.proxy, "--url", &serve.base, "--token-file", file, "--"];
    let curl = ["sh", "-c", "env; curl -sv https://api.example.com/x"];
    let came = world.cli(&[&wrap[..], &curl].concat()).await;
    assert_eq!(api.seen()[1].header("authorization"), Some(format!("Bearer {CANARY}").as_str()), "{came:?}");
    assert!(came.stderr.contains("200 OK"), "{came:?}");
    assert_clean("a wrapped program", format!("{}{}", came.stdout, came.stderr).as_bytes());

    assert_clean_everywhere(&world, serve).await;
}

/// Looks at all that is left of what was done: what commands say, processes, and every file.
pub(crate) async fn assert_clean_everywhere(world: &World, serve: e2e::Serve) {
    assert_clean_everywhere_of(&[CANARY], world, serve).await;
}

/// The same of these.
pub(crate) async fn assert_clean_everywhere_of(planted: &[impl AsRef<str>], world: &World, serve: e2e::Serve) {
    let assert_clean = |place: &str, bytes: &[u8]| assert_clean_of(planted, place, bytes);
    for command in
        ["audit export", "requests --all", "secret list", "config --json", "status", "logins --json", "connection list"]
    {
        let done = world.cli(&command.split(' ').collect::<Vec<_>>()).await;
        assert_clean(command, format!("{}{}", done.stdout, done.stderr).as_bytes());
    }
    // Every process that could show it to another: command lines and environments. The keeper's memory is its own.
    for pid in [serve.pid(), serve.keeper_pid()] {
        for file in ["cmdline", "environ"] {
            assert_clean(file, &std::fs::read(format!("/proc/{pid}/{file}")).unwrap());
        }
    }
    serve.stop().await;
    let mut files = 0;
    for entry in std::fs::read_dir(world.home()).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            assert_clean(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
            files += 1;
        }
    }
    assert!(files >= 4, "database, key, head and log were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_is_hardened_before_it_has_the_key() {
    let (world, _) = World::ready("").await;
    let serve = world.serve().await;
    let keeper = serve.keeper_pid();
    let limits = std::fs::read_to_string(format!("/proc/{keeper}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let status = std::fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    // Not dumpable: its memory and descriptors belong to root, whoever runs it.
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{keeper}/mem")).unwrap());
    assert_eq!(owner, 0);
    assert!(world::is_alive(keeper));
}
