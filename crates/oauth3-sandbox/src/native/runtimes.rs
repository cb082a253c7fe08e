//! Runtimes on this machine: where they are, how they start, what they see in their environment.

use super::text;
use crate::SandboxError;
use crate::wire::{Bind, Launch};
use oauth3_core::{LaneSpec, Packages, Runtime, Skill, read_archive};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Runtimes that are programs.
pub(super) const PROGRAMS: [Runtime; 4] = [Runtime::Deno, Runtime::Node, Runtime::Python, Runtime::Shell];
/// Directories that every sandbox sees.
const SHOWN: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Stores that hold a program's libraries under fixed paths; shown whole when the program is in one.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];
/// The shell, on every system.
const SHELL: &str = "/bin/sh";
/// Where the skill's files are, inside, and what it may write to.
const PLACE_OF_SKILL: &str = "/skill";
const SCRATCH: &str = "/tmp";
/// The map of what is imported from elsewhere, below the skill's files.
const IMPORT_MAP: &str = ".oauth3/import_map.json";
/// Where a runtime from elsewhere is put.
const PLACE: &str = "/runtime";
/// First bytes of a program that is no script (ELF).
const MAGIC: [u8; 4] = *b"\x7fELF";
/// The certificates that programs are pointed to: the run's CA and nothing else.
const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Private memory that V8 reserves without using it, in bytes. Matters only where no cgroup bounds the tree.
const V8_RESERVED_BYTES: u64 = 1 << 30;

/// A runtime that was found.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    pub(crate) runtime: Runtime,
    /// The program, as a path inside.
    pub(crate) program: String,
    /// The program, as a path on the host.
    pub(crate) host_path: PathBuf,
    /// What has to be shown besides the system directories.
    pub(crate) bind: Option<Bind>,
}

/// What to start, with which files, where.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) launch: Launch,
    /// What goes to `/skill`.
    pub(crate) files: Vec<(String, Cow<'a, [u8]>)>,
    /// The working directory.
    pub(crate) directory: String,
}

impl Plan<'_> {
    pub(crate) fn without_files(launch: Launch) -> Self {
        Self { launch, files: Vec::new(), directory: SCRATCH.to_owned() }
    }
}

/// The files of a skill, each with a name.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    /// The path of the one that runs, below `/skill`.
    pub(crate) entry: String,
    all: Vec<(String, Cow<'a, [u8]>)>,
    pub(crate) packages: Option<Packages>,
}

impl<'a> Files<'a> {
    /// Adds what the code imports from elsewhere.
    fn add(&mut self, layer: &'a [u8]) -> Result<(), SandboxError> {
        if self.packages.is_none() && layer.is_empty() {
            return Ok(());
        }
        let members = read_archive(layer).filter(|_| self.packages.is_some());
        let members = members.ok_or_else(|| SandboxError::Config("the imports cannot be read".to_owned()))?;
        self.all.extend(members.into_iter().map(|(path, bytes)| (path, Cow::Borrowed(bytes))));
        Ok(())
    }

    pub(crate) fn plan(self, launch: Launch) -> Plan<'a> {
        Plan { launch, files: self.all, directory: SCRATCH.to_owned() }
    }
}

/// Reads the code of a job; a single file gets the name that its runtime wants.
pub(crate) fn files(runtime: Runtime, code: &[u8]) -> Result<Files<'_>, SandboxError> {
    let skill = Skill::read(code).map_err(|error| SandboxError::Config(error.to_string()))?;
    let packages = skill.packages().cloned();
    match skill {
        Skill::One(code) => {
            let entry = match runtime {
                Runtime::Embedded | Runtime::Deno => "main.ts",
                Runtime::Node => node_file_name(code),
                Runtime::Python => "main.py",
                Runtime::Shell => "main.sh",
            };
            Ok(Files { entry: entry.to_owned(), all: vec![(entry.to_owned(), Cow::Borrowed(code))], packages: None })
        }
        Skill::Several(bundle) => {
            let all = bundle.files().map(|(path, bytes)| (path.to_owned(), Cow::Owned(bytes.to_vec()))).collect();
            Ok(Files { entry: bundle.entry().to_owned(), all, packages })
        }
    }
}

/// Finds every runtime: configured ones must be right, others are searched.
pub(crate) fn find_all(
    configured: &BTreeMap<Runtime, PathBuf>,
    search: &OsStr,
) -> Result<BTreeMap<Runtime, Installed>, SandboxError> {
    let mut found = BTreeMap::new();
    for runtime in PROGRAMS {
        let installed = match configured.get(&runtime) {
            Some(path) => Some(configured_at(runtime, path)?),
            None => candidates(runtime, search).iter().find_map(|path| locate(runtime, path)),
        };
        found.extend(installed.map(|installed| (runtime, installed)));
    }
    Ok(found)
}

fn configured_at(runtime: Runtime, path: &Path) -> Result<Installed, SandboxError> {
    locate(runtime, path).ok_or_else(|| {
        SandboxError::Config(format!(
            "{} cannot run {runtime}: set the path of the program itself, not of a wrapper script, and make it \
             executable for everybody",
            path.display()
        ))
    })
}

/// Where a runtime may be. The system's Python comes first: it is there whole, and starts fast.
fn candidates(runtime: Runtime, search: &OsStr) -> Vec<PathBuf> {
    let (first, names): (&[&str], &[&str]) = match runtime {
        Runtime::Embedded => (&[], &[]),
        Runtime::Deno => (&[], &["deno"]),
        Runtime::Node => (&[], &["node", "nodejs"]),
        Runtime::Python => (&["/usr/bin/python3"], &["python3"]),
        Runtime::Shell => (&[SHELL], &[]),
    };
    let directories: Vec<PathBuf> = std::env::split_paths(search).filter(|path| path.is_absolute()).collect();
    let searched = directories.iter().flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    first.iter().map(PathBuf::from).chain(searched).collect()
}

/// Follows links to the real program and decides how it is shown. Scripts (shims of version managers) are not
/// programs: they would look for the rest of themselves in vain.
fn locate(runtime: Runtime, path: &Path) -> Option<Installed> {
    let real = fs::canonicalize(path).ok()?;
    let mut magic = [0; MAGIC.len()];
    File::open(&real).ok()?.read_exact(&mut magic).ok()?;
    let mode = fs::metadata(&real).ok()?.permissions().mode();
    // As root, the inside user is nobody's owner and in nobody's group.
    let executable = if rustix::process::geteuid().is_root() { 0o001 } else { 0o111 };
    if magic != MAGIC || mode & executable == 0 {
        return None;
    }
    let installed = |program: String, bind| Some(Installed { runtime, program, host_path: real.clone(), bind });
    if runtime == Runtime::Shell && path == Path::new(SHELL) {
        // By its own name: behind it may be a program that is a shell under this name only.
        return installed(SHELL.to_owned(), None);
    }
    if SHOWN.iter().any(|directory| real.starts_with(directory)) {
        return installed(text(&real).ok()?, None);
    }
    if let Some(store) = STORES.iter().find(|store| real.starts_with(store)) {
        let bind = Bind { source: (*store).to_owned(), target: (*store).to_owned() };
        return installed(text(&real).ok()?, Some(bind));
    }
    if runtime == Runtime::Python {
        // An installation of its own: `<prefix>/bin/python3` with `<prefix>/lib/python3.x`.
        let prefix = real.parent().filter(|bin| bin.ends_with("bin"))?.parent()?;
        let version = fs::read_dir(prefix.join("lib"))
            .ok()?
            .flatten()
            .any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("python3")));
        let target = format!("{PLACE}/python");
        let program = format!("{target}/bin/{}", real.file_name()?.to_str()?);
        return version.then(|| installed(program, Some(Bind { source: text(prefix).ok()?, target }))).flatten();
    }
    let target = format!("{PLACE}/{runtime}");
    installed(target.clone(), Some(Bind { source: text(&real).ok()?, target }))
}

/// How an installed runtime tells its version. A POSIX shell has no way to; that it starts is what counts.
pub(crate) fn version(installed: &Installed) -> Vec<String> {
    let arguments: &[&str] = match installed.runtime {
        Runtime::Shell => &["-c", "echo POSIX shell"],
        _ => &["--version"],
    };
    std::iter::once(installed.program.as_str()).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

/// How an installed runtime runs this code.
pub(crate) fn plan<'a>(
    installed: &Installed,
    spec: &LaneSpec,
    code: &'a [u8],
    layer: &'a [u8],
) -> Result<Plan<'a>, SandboxError> {
    let mut files = files(installed.runtime, code)?;
    files.add(layer)?;
    let heap = format!("--max-old-space-size={}", spec.limits.memory_mb);
    let mut argv = vec![installed.program.clone()];
    match installed.runtime {
        // A shell has no options that are needed.
        Runtime::Embedded | Runtime::Shell => {}
        Runtime::Deno => {
            let flags = ["run", "--quiet", "--no-prompt", "--no-remote", "--no-config", "--no-lock"];
            argv.extend(flags.map(str::to_owned));
            // Packages are found where they are laid out, and nowhere else.
            let packages = files.packages.as_ref();
            argv.push(packages.map_or("--no-npm", |_| "--node-modules-dir=manual").to_owned());
            if packages.is_some_and(|packages| packages.import_map) {
                argv.push(format!("--import-map={PLACE_OF_SKILL}/{IMPORT_MAP}"));
            }
            // Nothing of a cache outlives the run.
            argv.push("--no-code-cache".to_owned());
            argv.extend(["--allow-env", "--allow-read=/skill,/tmp", "--allow-write=/tmp"].map(str::to_owned));
            argv.push(format!("--v8-flags={heap}"));
            if !spec.hosts.is_empty() {
                // The name server belongs to it: without, `Deno.resolveDns` is refused.
                let hosts: Vec<String> = std::iter::once("127.0.0.1:53".to_owned())
                    .chain(spec.hosts.iter().map(|host| format!("{}:{}", host.name(), host.port())))
                    .collect();
                argv.push(format!("--allow-net={}", hosts.join(",")));
            }
        }
        Runtime::Node => argv.push(heap),
        // No PYTHON* variables, no user packages; isolated mode would also hide the files beside the one that runs.
        // No byte code files, and unbuffered, so that what was printed before a timeout is not lost.
        Runtime::Python => argv.extend(["-E", "-s", "-B", "-u"].map(str::to_owned)),
    }
    argv.push(format!("{PLACE_OF_SKILL}/{}", files.entry));
    let mut plan = files.plan(Launch::Exec { argv });
    if installed.runtime == Runtime::Shell {
        // A script finds the files beside it by the working directory only.
        plan.directory = PLACE_OF_SKILL.to_owned();
    }
    Ok(plan)
}

/// Node reads a `.mjs` file as a module and a `.cjs` file as `CommonJS`. Code is a module unless it uses what only
/// `CommonJS` has and nothing that only modules have.
fn node_file_name(code: &[u8]) -> &'static str {
    let code = String::from_utf8_lossy(code);
    let module = code.lines().map(str::trim_start).any(|line| {
        ["import", "export"]
            .iter()
            .any(|word| line.strip_prefix(word).is_some_and(|rest| rest.starts_with([' ', '{', '"', '\'', '*'])))
    });
    let common = ["require(", "module.exports", "exports.", "__dirname", "__filename"];
    if !module && common.iter().any(|word| code.contains(word)) { "main.cjs" } else { "main.mjs" }
}

/// Private memory that this runtime reserves beyond what it uses, in bytes.
pub(super) const fn reserved_bytes(runtime: Runtime) -> u64 {
    match runtime {
        Runtime::Deno | Runtime::Node => V8_RESERVED_BYTES,
        Runtime::Embedded | Runtime::Python | Runtime::Shell => 64 << 20,
    }
}

/// Where the code finds what is made for it.
pub(crate) struct Surroundings {
    /// The proxy's address.
    pub(crate) proxy: String,
    /// The file with the run's certificate.
    pub(crate) certificates: String,
    /// The directory that may be written.
    pub(crate) tmp: String,
}

/// [`environment_in`] a sandbox with a root of its own.
pub(crate) fn environment(job: &[(String, String)], proxy_port: u16) -> Result<Vec<(String, String)>, SandboxError> {
    let proxy = format!("http://127.0.0.1:{proxy_port}");
    environment_in(job, &Surroundings { proxy, certificates: BUNDLE.to_owned(), tmp: SCRATCH.to_owned() })
}

/// The whole environment of the code: the job's variables, and ours, which win.
pub(crate) fn environment_in(
    job: &[(String, String)],
    surroundings: &Surroundings,
) -> Result<Vec<(String, String)>, SandboxError> {
    let Surroundings { proxy, certificates, tmp } = surroundings;
    let deno_dir = format!("{tmp}/deno");
    let own: Vec<(&str, &str)> = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", tmp.as_str()),
        ("TMPDIR", tmp.as_str()),
        ("USER", "skill"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("NO_COLOR", "1"),
        ("DENO_DIR", deno_dir.as_str()),
        ("DENO_NO_UPDATE_CHECK", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ]
    .into_iter()
    .chain(
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
            .map(|n| (n, proxy.as_str())),
    )
    .chain(
        ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "DENO_CERT", "NODE_EXTRA_CA_CERTS"]
            .map(|name| (name, certificates.as_str())),
    )
    .collect();
    let mut all = Vec::with_capacity(job.len() + own.len());
    for (name, value) in job {
        let bad = name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        if bad {
            return Err(SandboxError::Config(format!("the variable {} cannot be set", name.escape_default())));
        }
        if !own.iter().any(|(ours, _)| ours == name) && !matches!(&**name, "NO_PROXY" | "no_proxy") {
            all.push((name.clone(), value.clone()));
        }
    }
    all.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_code_is_common_js_only_when_it_must_be() {
        for (code, name) in [
            ("console.log(1)", "main.mjs"),
            ("const fs = require('fs');", "main.cjs"),
            ("module.exports = 1", "main.cjs"),
            (
                "import fs from 'fs';\nimport {createRequire} from 'module'; const require = createRequire(import.meta.url); require('x')",
                "main.mjs",
            ),
            ("  import{a} from 'b'; a.exports.c", "main.mjs"),
            ("await fetch('https://a.example')", "main.mjs"),
            ("important(); require('fs')", "main.cjs"),
        ] {
            assert_eq!(node_file_name(code.as_bytes()), name, "{code}");
        }
    }

    #[test]
    fn a_job_cannot_change_the_runners_own_variables() {
        let job = [("PATH", "/evil"), ("NO_PROXY", "*"), ("A", "b")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let env = environment(&job, 3128).unwrap();
        assert_eq!(env.iter().filter(|(name, _)| name == "PATH").count(), 1);
        assert!(!env.iter().any(|(name, value)| value == "/evil" || name == "NO_PROXY"));
        assert!(env.contains(&("A".into(), "b".into())));
        assert!(env.contains(&("https_proxy".into(), "http://127.0.0.1:3128".into())));
    }

    #[test]
    fn a_variable_that_would_split_or_cut_the_environment_is_refused() {
        for (name, value) in [("A=B", "x"), ("", "x"), ("A", "x\0LD_PRELOAD=y"), ("A\0", "x")] {
            assert!(environment(&[(name.into(), value.into())], 1).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_shim_script_is_no_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let shim = directory.path().join("deno");
        fs::write(&shim, "#!/bin/sh\nexec real-deno \"$@\"\n").unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(locate(Runtime::Deno, &shim).is_none());
        let configured = BTreeMap::from([(Runtime::Deno, shim)]);
        assert!(find_all(&configured, OsStr::new("")).is_err());
    }

    #[test]
    fn a_program_outside_the_system_directories_is_shown_alone() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("deno");
        fs::copy("/proc/self/exe", &program).unwrap();
        let found = locate(Runtime::Deno, &program).unwrap();
        assert_eq!(found.program, "/runtime/deno");
        assert_eq!(found.bind.unwrap().source, fs::canonicalize(&program).unwrap().to_str().unwrap());
    }
}
