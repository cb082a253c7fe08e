//! The tests of the docker executor once more, with Podman in the place of Docker.

use crate::engine::{self, Engine};
use crate::metadata::Tree;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's packages.
const PACKAGES: &[&str] = &["podman", "crun"];
/// What starts it: its runtime takes no machine that has both kinds of control groups, as it would see some here.
const START: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
/// Which tests.
const TESTS: &str = "binary_id(oauth3-sandbox::it) & test(/^docker::/)";

/// Runs them. The image is that of the Docker engine.
pub(crate) fn test(tree: &Tree, docker: &Engine, peers: &[(&str, OsString)], nextest: &Path) -> Result<()> {
    let Some(podman) = podman() else {
        println!(
            "  without Podman, which is a package of Debian's: the tests of the docker executor run on Docker only"
        );
        return Ok(());
    };
    let engine = shell::step("Podman", || start(tree, docker, &podman))?;
    println!("▸ tests of the docker executor, on Podman");
    let mut tests = shell::command(nextest);
    tests.args(["nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "fail", "-E", TESTS]);
    let peers = peers.iter().map(|(name, value)| (*name, value));
    shell::run(tests.envs(peers).envs(engine.variables.iter().cloned()).current_dir(&tree.root))
}

fn podman() -> Option<std::path::PathBuf> {
    shell::find("podman").or_else(|| shell::install(PACKAGES).ok().and_then(|()| shell::find("podman")))
}

fn start(tree: &Tree, docker: &Engine, podman: &Path) -> Result<Engine> {
    let folder = std::env::temp_dir().join(format!("oauth3-podman-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    // The image stays for the next time.
    let data = tree.target.join("engine/podman");
    let with = |mut command: Command| {
        command.arg("--root").arg(data.join("root")).arg("--runroot").arg(folder.join("run"));
        command.args(["--cgroup-manager", "cgroupfs"]);
        command
    };
    let image = image(&data, docker, || with(shell::command(podman)))?;
    let host = format!("unix://{}", folder.join("podman.sock").display());
    let mut command = shell::command("setpriv");
    command.args(["--pdeathsig", "TERM", "unshare", "--net", "--mount", "sh", "-c", START, "sh"]).arg(podman);
    let mut command = with(command);
    // Where it leaves a file called "oom" when a container has used up its memory.
    command.current_dir(&folder);
    command.args(["system", "service", "--time", "0", &host]);
    Engine::start(command, folder, &host, vec![(engine::HOST, host.clone().into()), (engine::IMAGE, image.into())])
}

/// The id of the image, taken over from the other engine when that has another than the last time.
fn image(data: &Path, docker: &Engine, podman: impl Fn() -> Command) -> Result<String> {
    let (stamp, kept) = (data.join("image"), data.join("id"));
    let wanted = docker.variable(engine::IMAGE)?;
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted)
        && let Ok(id) = fs::read_to_string(&kept)
        && shell::quiet(podman().args(["image", "inspect", &id])).is_ok()
    {
        return Ok(id);
    }
    let host = docker.variable(engine::HOST)?;
    let container = shell::quiet(engine::docker(&host).args(["create", &wanted, "/bin/true"]))?.trim().to_owned();
    let mut export = engine::docker(&host).args(["export", &container]).stdout(Stdio::piped()).spawn()?;
    let mut import = podman();
    import.args(["import", "--quiet", "-"]).stdin(export.stdout.take().context("no pipe")?);
    let said = shell::quiet(&mut import)?;
    let exported = export.wait()?;
    shell::quiet(engine::docker(&host).args(["rm", &container]))?;
    let id = said.split_whitespace().find(|word| word.starts_with("sha256:")).context("podman named no image")?;
    if !exported.success() {
        bail!("docker did not export the image");
    }
    fs::write(&kept, id)?;
    fs::write(&stamp, &wanted)?;
    Ok(id.to_owned())
}
