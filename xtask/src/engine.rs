//! A container engine of the tests' own, with an image that has the runtimes.
//!
//! `dockerd` runs on a socket in a folder of its own, in a network namespace without anything, and ends with us.
//! The image is made of this machine's files: nothing is pulled.

use crate::metadata::Tree;
use crate::shell;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where the tests find the engine, and the image.
pub(crate) const HOST: &str = "OAUTH3_TEST_DOCKER_HOST";
pub(crate) const IMAGE: &str = "OAUTH3_TEST_DOCKER_IMAGE";
/// Set to `off` in [`HOST`] to leave those tests out.
const OFF: &str = "off";
/// Debian's packages of the engine.
const PACKAGES: &[&str] = &["docker.io", "containerd"];
/// Longest that the engine may take to answer, and how often it is asked.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// What the image has besides the runtimes: for tests that start other programs.
const TOOLS: &[&str] = &["/bin/sh", "/bin/true", "/usr/bin/id"];

/// Where names are looked for, as in every image of a distribution.
const NSSWITCH: &str = "hosts: files dns\n";

/// An engine that runs. Ends when dropped.
pub(crate) struct Engine {
    child: Child,
    folder: PathBuf,
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = shell::quiet(shell::command("kill").arg(self.child.id().to_string()));
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Engine {
    /// Starts it and waits until it answers at `host`; its folder goes with it.
    pub(crate) fn start(
        mut command: Command,
        folder: PathBuf,
        host: &str,
        variables: Vec<(&'static str, OsString)>,
    ) -> Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let child = command.stdout(Stdio::null()).stderr(log).spawn().context("starting the engine")?;
        let mut engine = Self { child, folder, variables };
        let begun = Instant::now();
        while shell::quiet(docker(host).arg("version")).is_err() {
            if begun.elapsed() > START_TIMEOUT || engine.child.try_wait()?.is_some() {
                let said = fs::read_to_string(engine.folder.join("log")).unwrap_or_default();
                bail!("the engine does not answer\n{said}");
            }
            std::thread::sleep(ASK_PAUSE);
        }
        Ok(engine)
    }

    /// What it has for one of the variables.
    pub(crate) fn variable(&self, name: &str) -> Result<String> {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.and_then(|(_, value)| value.to_str()).map(str::to_owned).with_context(|| format!("{name} is not known"))
    }
}

/// Starts one, unless the variables name another or say that there is none.
pub(crate) fn start(tree: &Tree, runtimes: &[(&'static str, OsString)]) -> Result<Option<Engine>> {
    if std::env::var_os(HOST).is_some() {
        return Ok(None);
    }
    let mend = format!(
        "install dockerd and run this as root, or set {HOST}={OFF} to leave the tests of the docker executor out"
    );
    if shell::quiet(shell::command("id").arg("-u"))?.trim() != "0" {
        bail!("the tests of the docker executor start an engine of their own, as root: {mend}");
    }
    let dockerd = match shell::find("dockerd") {
        Some(dockerd) => dockerd,
        None => {
            shell::install(PACKAGES).with_context(|| mend.clone())?;
            shell::find("dockerd").with_context(|| mend.clone())?
        }
    };
    let folder = std::env::temp_dir().join(format!("oauth3-engine-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    // The images stay for the next time; one engine at a time may have them.
    let data = tree.target.join("engine");
    fs::create_dir_all(&data)?;
    let socket = folder.join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let mut command = shell::command("setpriv");
    command.args(["--pdeathsig", "TERM", "unshare", "--net", "--mount"]).arg(dockerd);
    command.args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--log-level=error", "--host", &host]);
    command.arg("--data-root").arg(data.join("data")).arg("--exec-root").arg(folder.join("exec"));
    command.arg("--pidfile").arg(folder.join("pid"));
    let mut engine = Engine::start(command, folder, &host, Vec::new()).with_context(|| mend.clone())?;
    let image = image(&host, &data, runtimes)?;
    engine.variables = vec![(HOST, host.into()), (IMAGE, image.into())];
    Ok(Some(engine))
}

/// Starts one and keeps it until this process is ended, for tests that are run by hand.
pub(crate) fn keep(tree: &Tree, runtimes: &[(&'static str, OsString)]) -> Result<()> {
    let Some(mut engine) = start(tree, runtimes)? else { bail!("{HOST} is set already") };
    for (name, value) in &engine.variables {
        println!("export {name}={}", value.display());
    }
    engine.child.wait()?;
    Ok(())
}

pub(crate) fn docker(host: &str) -> Command {
    let mut command = shell::command("docker");
    command.args(["--host", host]);
    command
}

/// The id of the image, made when the engine does not have it or the runtimes are others.
fn image(host: &str, data: &Path, runtimes: &[(&'static str, OsString)]) -> Result<String> {
    let programs = programs(runtimes)?;
    let named: String = programs.iter().map(|(name, path)| format!("{name} {}\n", path.display())).collect();
    let wanted = format!("{named}{}{NSSWITCH}", TOOLS.join(" "));
    let (stamp, id) = (data.join("image"), data.join("id"));
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted)
        && let Ok(id) = fs::read_to_string(&id)
        && shell::quiet(docker(host).args(["image", "inspect", &id])).is_ok()
    {
        return Ok(id);
    }
    let root = data.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    lay_out(&root, &programs)?;
    let mut tar = shell::command("tar").args(["-c", "-C"]).arg(&root).arg(".").stdout(Stdio::piped()).spawn()?;
    let mut import = docker(host);
    import.args(["import", "-"]).stdin(tar.stdout.take().context("no pipe")?);
    let made = shell::quiet(&mut import)?.trim().to_owned();
    tar.wait()?;
    fs::remove_dir_all(&root)?;
    fs::write(&id, &made)?;
    fs::write(&stamp, &wanted)?;
    Ok(made)
}

/// The runtimes' programs by the names that they have in an image.
fn programs(runtimes: &[(&'static str, OsString)]) -> Result<Vec<(&'static str, PathBuf)>> {
    let named = |variable: &str| {
        let given = runtimes.iter().find(|(name, _)| *name == variable).map(|(_, path)| path.clone());
        given.or_else(|| std::env::var_os(variable)).with_context(|| format!("{variable} is not set"))
    };
    Ok(vec![
        ("deno", fs::canonicalize(named("OAUTH3_TEST_DENO")?)?),
        ("node", fs::canonicalize(named("OAUTH3_TEST_NODE")?)?),
        ("python3", fs::canonicalize("/usr/bin/python3").context("install Python 3")?),
    ])
}

/// A root with these programs, what they are linked with, and Python's own library.
fn lay_out(root: &Path, programs: &[(&'static str, PathBuf)]) -> Result<()> {
    for folder in ["usr/bin", "usr/lib", "etc", "tmp", "proc", "dev", "sys"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(if name == "bin" { "usr/bin" } else { "usr/lib" }, root.join(name))?;
    }
    fs::write(root.join("etc/nsswitch.conf"), NSSWITCH)?;
    let mut libraries = BTreeSet::new();
    let tools = TOOLS.iter().map(|tool| (Path::new(tool).file_name().unwrap_or_default().into(), PathBuf::from(tool)));
    let programs = programs.iter().map(|(name, path)| (OsString::from(name), path.clone()));
    for (name, path) in tools.chain(programs) {
        fs::copy(&path, root.join("usr/bin").join(name))?;
        libraries.extend(linked(&path)?);
    }
    let python = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python3.")));
    let python = python.context("Python has no library in /usr/lib")?;
    shell::quiet(shell::command("cp").args(["-a"]).arg(&python).arg(root.join("usr/lib")))?;
    for entry in fs::read_dir(python.join("lib-dynload"))?.flatten() {
        libraries.extend(linked(&entry.path())?);
    }
    // What is loaded by name only, and what oauth3 itself is linked with.
    libraries.extend(linked(&std::env::current_exe()?)?);
    for library in libraries {
        let name = library.file_name().context("a library without a name")?;
        fs::copy(&library, root.join("usr/lib").join(name))?;
    }
    Ok(())
}

/// The libraries of a program, as the loader finds them.
fn linked(program: &Path) -> Result<Vec<PathBuf>> {
    let said = shell::capture(shell::command("ldd").arg(program))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    Ok(said.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
