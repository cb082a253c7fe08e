//! A name server in the attacker's hand, before the real binary: its own network namespace, its own resolv.conf.

use e2e::{Certificate, Serve, World};
use serde_json::json;
use std::path::Path;
use tokio::process::Command;

const NAMES: [&str; 9] = [
    "public.example",
    "rebind.example",
    "mixed.example",
    "inside.example",
    "metadata.example",
    "zero.example",
    "mapped.example",
    "nat64.example",
    "six.example",
];

/// Each host twice: what the first request gets, and the second.
const CODE: &str = r#"// @runtime embedded
for (const host of NAMES) {
  const got = [];
  for (const turn of [1, 2]) {
    try { const r = await fetch(`https://${host}/${host}-${turn}`); got.push(r.status); await r.text() }
    catch { got.push('failed') }
  }
  console.log(host, ...got);
}"#;

/// A gateway in a network where only `rebinding.py` answers.
async fn start() -> (World, Serve, String) {
    let (mut world, token) = World::ready("").await;
    let certificate = Certificate::new(&NAMES);
    let ca = certificate.write_ca(world.home());
    world.write_config(&format!("[egress]\nextra_ca = [{ca:?}]\n"));
    let [cert, key] = certificate.write(world.home());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/rebinding.py");
    let words = ["unshare", "--net", "--mount", "python3"].map(Path::new);
    let words = words.into_iter().chain([&*script, world.home(), &*cert, &*key, Path::new("--")]);
    let words = words.map(|word| word.to_str().unwrap().to_owned()).collect();
    world.run_by(words);
    let serve = world.serve().await;
    world.run_by(Vec::new());
    (world, serve, token)
}

/// What the name server and the web server were asked.
fn asked(world: &World) -> Vec<String> {
    let text = std::fs::read_to_string(world.home().join("asked")).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_moves_inside_is_not_followed() {
    let (world, _serve, _) = start().await;
    let file = world.home().join("skill.ts");
    std::fs::write(&file, CODE.replace("NAMES", &json!(NAMES).to_string())).unwrap();
    let mut args = vec!["run", file.to_str().unwrap(), "--json"];
    args.extend(NAMES.iter().flat_map(|name| ["--network", name]));
    let approve = async {
        let id = loop {
            let list = world.cli(&["requests", "--json"]).await.json();
            if let Some(id) = list["requests"][0]["request_id"].as_str() {
                break id.to_owned();
            }
        };
        assert_eq!(world.cli(&["approve", &id]).await.code(), 0);
    };
    let (done, ()) = tokio::join!(world.cli(&args), approve);
    let result = done.json();
    let expected = NAMES.map(|name| match name {
        "public.example" => format!("{name} 200 200"),
        "rebind.example" => format!("{name} 200 502"),
        _ => format!("{name} 502 502"),
    });
    let stdout = result["result"]["stdout"].as_str().unwrap();
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected, "{result}");

    // The place inside was there, with a certificate for every name, and nobody came.
    let asked = asked(&world);
    let pages: Vec<&String> = asked.iter().filter(|line| line.contains('/')).collect();
    let came = ["public.example-1", "public.example-2", "rebind.example-1"];
    assert_eq!(pages, came.map(|page| format!("::ffff:93.184.216.34 /{page}")).iter().collect::<Vec<_>>(), "{asked:?}");
    let stderr = result["result"]["stderr"].as_str().unwrap();
    assert!(stderr.contains("rebind.example") && !stderr.contains("public.example"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skills_address_that_moves_inside_is_not_followed() {
    let (world, serve, token) = start().await;
    let (pid, base) = (serve.pid().to_string(), serve.base.clone());
    let submit = async |host: &str| {
        let body = json!({ "skill_id": "s", "skill_url": format!("https://{host}/skill.ts") }).to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "curl", "-sS", "-w", "\n%{http_code}", "-d", &body]);
        command.args(["-H", "content-type: application/json", "-H", &format!("authorization: Bearer {token}")]);
        let output = command.arg(format!("{base}/execute")).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.rsplit_once('\n').unwrap_or_else(|| panic!("{:?}", output.stderr)).1.to_owned()
    };
    assert_eq!(submit("public.example").await, "202");
    assert_eq!(submit("rebind.example").await, "202");
    for host in
        ["rebind.example", "mixed.example", "inside.example", "metadata.example", "mapped.example", "six.example"]
    {
        assert_eq!(submit(host).await, "422", "{host}");
    }
    let pages = asked(&world).into_iter().filter(|line| line.contains('/')).collect::<Vec<_>>();
    assert_eq!(pages, ["::ffff:93.184.216.34 /skill.ts"; 2]);
}
