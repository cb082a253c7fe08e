//! Imports from elsewhere, resolved and fetched before anybody is asked: what is approved is what they are then.

use crate::fetch::Fetcher;
use crate::npm::{self, Layout};
use crate::web::{Graph, IMPORT_MAP, Sources, not_allowed};
use oauth3_core::{Bundle, HttpPort, Package, Packages, Runtime, Skill, SkillFile, write_archive};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// Most files of all packages together, and their bytes (16 MiB).
const MAX_LAYER_FILES: usize = 5000;
const MAX_LAYER_BYTES: usize = 16 << 20;

/// What the owner allows to be imported from elsewhere, and where it comes from. Nothing, unless said.
#[derive(Debug, Clone, Default)]
pub struct ImportRules {
    /// Modules from any public https address.
    pub https: bool,
    /// The npm registry's address.
    pub npm: Option<Url>,
    /// JSR's address.
    pub jsr: Option<Url>,
}

impl ImportRules {
    /// Whether they allow anything.
    #[must_use]
    pub const fn allow_something(&self) -> bool {
        self.https || self.npm.is_some() || self.jsr.is_some()
    }

    /// Whether they allow all of these.
    #[must_use]
    pub fn cover(&self, packages: &Packages) -> bool {
        let jsr = |name: &str| self.jsr.as_ref().is_some_and(|jsr| name.starts_with(jsr.as_str()));
        packages.list.iter().all(|Package { name, .. }| match name.strip_prefix("npm:") {
            Some(_) => self.npm.is_some(),
            None => self.https || jsr(name),
        })
    }
}

/// Why imports were refused. The text is for the agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not allowed, not pinned, or not what it must be.
    #[error("{0}")]
    Refused(String),
    /// It could not be had.
    #[error("{0}")]
    Fetch(String),
    /// A bound is passed.
    #[error("the imports {0}")]
    TooLarge(String),
}

/// A skill with everything that it imports.
#[derive(Debug)]
pub struct Resolved {
    /// The code, with the list of its packages in it.
    pub code: Vec<u8>,
    /// The archive of their files, whose digest the code holds.
    pub layer: Vec<u8>,
}

/// Resolves what the skill imports from elsewhere; `None` when that is nothing.
///
/// # Errors
/// When it imports what is not allowed, not pinned, not there, too large, or not what a lock file says.
pub async fn resolve_imports(
    http: &dyn HttpPort,
    rules: &ImportRules,
    runtime: Runtime,
    code: &[u8],
) -> Result<Option<Resolved>, ImportError> {
    let refused = |text: &str| ImportError::Refused(text.to_owned());
    let skill = Skill::read(code).map_err(|error| ImportError::Refused(error.to_string()))?;
    let (sources, lock, manifest) = match &skill {
        Skill::One(code) => (vec![*code], Value::Null, Value::Null),
        Skill::Several(bundle) => (sources(bundle), lock(bundle, runtime)?, json_of(bundle, "package.json")?),
    };
    let mut fetcher = Fetcher::new(http);
    let mut files = BTreeMap::new();
    let (layout, mut packages) = match runtime {
        Runtime::Deno => {
            let jsr = rules.jsr.as_ref();
            let mut graph = Graph::new(Sources { https: rules.https, jsr }, &lock);
            for source in sources {
                graph.add(&mut fetcher, &String::from_utf8_lossy(source)).await?;
            }
            graph.fetch(&mut fetcher).await?;
            let layout = deno_layout(&mut fetcher, rules, &graph.npm, &lock).await?;
            (layout, graph.lay_out(&mut files))
        }
        Runtime::Node => (node_layout(&mut fetcher, rules, &manifest, &lock).await?, Vec::new()),
        Runtime::Embedded | Runtime::Python | Runtime::Shell => return Ok(None),
    };
    if layout.is_empty() && packages.is_empty() {
        return Ok(None);
    }
    if let Skill::Several(bundle) = &skill
        && bundle.files().any(|(path, _)| path.starts_with("node_modules/"))
    {
        return Err(refused("a skill with imports from elsewhere has no node_modules of its own; leave it out"));
    }
    if let Some(registry) = &rules.npm {
        packages.extend(npm::fetch(&mut fetcher, registry, &layout, &mut files).await?);
    }
    pack(skill, runtime, packages, &files).map(Some)
}

/// The code that a skill becomes with these packages, as [`resolve_imports`] makes it; `None` when it is no skill.
#[must_use]
pub fn with_packages(code: &[u8], runtime: Runtime, packages: Packages) -> Option<Vec<u8>> {
    let bundle = bundle(Skill::read(code).ok()?, runtime).ok()?;
    Some(bundle.with_packages(packages).to_bytes())
}

/// Every file that may import something.
fn sources(bundle: &Bundle) -> Vec<&[u8]> {
    let ends = [".ts", ".mts", ".tsx", ".js", ".mjs", ".jsx"];
    bundle.files().filter(|(path, _)| ends.iter().any(|end| path.ends_with(end))).map(|(_, bytes)| bytes).collect()
}

fn json_of(bundle: &Bundle, path: &str) -> Result<Value, ImportError> {
    bundle.bytes(path).map_or(Ok(Value::Null), |bytes| {
        serde_json::from_slice(bytes).map_err(|_| ImportError::Refused(format!("{path} is not JSON")))
    })
}

fn lock(bundle: &Bundle, runtime: Runtime) -> Result<Value, ImportError> {
    let path = if runtime == Runtime::Deno { "deno.lock" } else { "package-lock.json" };
    let lock = json_of(bundle, path)?;
    let version = lock.get("version").and_then(Value::as_str);
    if runtime == Runtime::Deno && !lock.is_null() && !matches!(version, Some("4" | "5")) {
        return Err(ImportError::Refused("deno.lock is not of version 4 or 5; write it anew with Deno 2".to_owned()));
    }
    Ok(lock)
}

async fn deno_layout(
    fetcher: &mut Fetcher<'_>,
    rules: &ImportRules,
    wanted: &BTreeSet<String>,
    lock: &Value,
) -> Result<Layout, ImportError> {
    if wanted.is_empty() {
        return Ok(Layout::new());
    }
    let registry = rules.npm.as_ref().ok_or_else(|| not_allowed("npm"))?;
    if lock.is_null() {
        let pins = wanted.iter().map(|specifier| {
            let (name, version) = npm::split(specifier);
            npm::pin(name, version)
        });
        return npm::pinned(fetcher, registry, pins.collect::<Result<_, _>>()?).await;
    }
    let layout = npm::deno_lock(lock)?;
    for specifier in wanted {
        let (name, version) = npm::split(specifier);
        let directory = layout.get(&format!("node_modules/{name}"));
        let same =
            |version: &str| directory.is_some_and(|there| !npm::is_exact(version) || there.pin.version == version);
        if directory.is_none() || !version.is_none_or(same) {
            return Err(ImportError::Refused(format!("deno.lock does not pin npm:{name}; write it anew")));
        }
    }
    Ok(layout)
}

async fn node_layout(
    fetcher: &mut Fetcher<'_>,
    rules: &ImportRules,
    manifest: &Value,
    lock: &Value,
) -> Result<Layout, ImportError> {
    let wanted = manifest.get("dependencies").and_then(Value::as_object).filter(|wanted| !wanted.is_empty());
    let Some(wanted) = wanted else { return Ok(Layout::new()) };
    let registry = rules.npm.as_ref().ok_or_else(|| not_allowed("npm"))?;
    if lock.is_null() {
        let pins = wanted.iter().map(|(name, version)| npm::pin(name, version.as_str()));
        return npm::pinned(fetcher, registry, pins.collect::<Result<_, _>>()?).await;
    }
    let layout = npm::package_lock(lock)?;
    match wanted.keys().find(|name| !layout.contains_key(&format!("node_modules/{name}"))) {
        Some(name) => Err(ImportError::Refused(format!("package-lock.json does not pin {name:?}; write it anew"))),
        None => Ok(layout),
    }
}

/// The files of all packages as one archive, and the skill with its digest in it.
fn pack(
    skill: Skill<'_>,
    runtime: Runtime,
    list: Vec<Package>,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Resolved, ImportError> {
    let bytes: usize = files.values().map(Vec::len).sum();
    if files.len() > MAX_LAYER_FILES || bytes > MAX_LAYER_BYTES {
        let text = format!("unpack to more than {MAX_LAYER_FILES} files or {MAX_LAYER_BYTES} bytes");
        return Err(ImportError::TooLarge(text));
    }
    let refused = |text: String| ImportError::Refused(text);
    let members = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    let layer = write_archive(members).ok_or_else(|| refused("a package has a path that is too long".to_owned()))?;
    let import_map = files.contains_key(IMPORT_MAP);
    let bundle = bundle(skill, runtime)?;
    let code = bundle.with_packages(Packages::new(&layer, import_map, list)).to_bytes();
    Ok(Resolved { code, layer })
}

/// A skill as several files, which it is with packages.
fn bundle(skill: Skill<'_>, runtime: Runtime) -> Result<Bundle, ImportError> {
    match skill {
        Skill::Several(bundle) => Ok(bundle),
        Skill::One(code) => {
            let path = if runtime == Runtime::Deno { "main.ts" } else { "main.mjs" };
            let file = SkillFile { path: path.to_owned(), bytes: code.to_vec() };
            Bundle::new(vec![file], None, &[]).map_err(|error| ImportError::Refused(error.to_string()))
        }
    }
}
