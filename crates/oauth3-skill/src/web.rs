//! Modules of the web and of JSR: the whole graph, each module once, with a map from what is written to what is there.

use crate::fetch::{Fetcher, checked};
use crate::npm::{self, Pin};
use crate::{ImportError, scan};
use data_encoding::HEXLOWER;
use oauth3_core::{Digest, Package};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// Most modules of one skill.
const MAX_MODULES: usize = 500;
/// Where the modules are laid out, below the skill's directory.
const DIRECTORY: &str = ".oauth3/web";
/// The map, and the skill's directory inside, as the runtime sees it.
pub(crate) const IMPORT_MAP: &str = ".oauth3/import_map.json";
const SKILL: &str = "file:///skill/";
/// What modules end with; anything else is taken for JavaScript.
const EXTENSIONS: [&str; 7] = ["ts", "mts", "tsx", "js", "mjs", "jsx", "json"];

/// What of these may be imported, and where JSR is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) https: bool,
    pub(crate) jsr: Option<&'a Url>,
}

/// One module that was fetched.
struct Module {
    bytes: Vec<u8>,
    /// What it imports, as written, and the address of what that is.
    imports: BTreeMap<String, Url>,
}

/// The graph of what a skill imports from elsewhere.
pub(crate) struct Graph<'a> {
    sources: Sources<'a>,
    lock: &'a Value,
    modules: BTreeMap<Url, Module>,
    /// What the skill's own files import.
    roots: BTreeMap<String, Url>,
    /// Of each JSR package at a version: what its registry says of it.
    versions: BTreeMap<Pin, Value>,
    /// npm packages that are met on the way.
    pub(crate) npm: BTreeSet<String>,
    wanted: Vec<Url>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(sources: Sources<'a>, lock: &'a Value) -> Self {
        let (modules, roots, versions) = Default::default();
        Self { sources, lock, modules, roots, versions, npm: BTreeSet::new(), wanted: Vec::new() }
    }

    /// Adds what a file of the skill imports; its own files and built-ins are not meant.
    pub(crate) async fn add(&mut self, fetcher: &mut Fetcher<'_>, source: &str) -> Result<(), ImportError> {
        for specifier in scan::imports(source) {
            if let Some(url) = self.resolve(fetcher, None, &specifier).await? {
                self.wanted.push(url.clone());
                self.roots.insert(specifier, url);
            }
        }
        Ok(())
    }

    /// Fetches all of it.
    pub(crate) async fn fetch(&mut self, fetcher: &mut Fetcher<'_>) -> Result<(), ImportError> {
        while let Some(url) = self.wanted.pop() {
            if self.modules.contains_key(&url) {
                continue;
            }
            if self.modules.len() >= MAX_MODULES {
                return Err(ImportError::TooLarge(format!("are more than {MAX_MODULES} modules")));
            }
            let (at, bytes) = fetcher.get(&url).await?;
            self.check(&url, &bytes)?;
            let source = String::from_utf8_lossy(&bytes).into_owned();
            let mut imports = BTreeMap::new();
            if extension(&at) != "json" {
                for specifier in scan::imports(&source) {
                    // Relative to where it was found, as the web has it.
                    if let Some(next) = self.resolve(fetcher, Some(&at), &specifier).await? {
                        self.wanted.push(next.clone());
                        imports.insert(specifier, next);
                    }
                }
            }
            self.modules.insert(url, Module { bytes, imports });
        }
        Ok(())
    }

    /// Against the lock file and the registry, as far as they say anything.
    fn check(&self, url: &Url, bytes: &[u8]) -> Result<(), ImportError> {
        let locked = self.lock.get("remote").and_then(|remote| remote.get(url.as_str())).and_then(Value::as_str);
        let digest = HEXLOWER.encode(&Sha256::digest(bytes));
        let said = self.versions.iter().find_map(|(pin, version)| {
            let base = npm::join(self.sources.jsr?, &format!("{}/{}", pin.name, pin.version)).ok()?;
            let path = url.as_str().strip_prefix(base.as_str())?;
            Some(version.get("manifest")?.get(path)?.get("checksum")?.as_str()?.strip_prefix("sha256-")?.to_owned())
        });
        let within_jsr = self.sources.jsr.is_some_and(|jsr| url.as_str().starts_with(jsr.as_str()));
        if within_jsr && said.is_none() || locked.into_iter().chain(said.as_deref()).any(|wanted| wanted != digest) {
            let host = url.host_str().unwrap_or_default();
            return Err(ImportError::Refused(format!("a module of {host} is not what its lock file or registry says")));
        }
        Ok(())
    }

    /// The address of what is written; `None` for the skill's own files, built-ins and npm packages.
    async fn resolve(
        &mut self,
        fetcher: &mut Fetcher<'_>,
        base: Option<&Url>,
        specifier: &str,
    ) -> Result<Option<Url>, ImportError> {
        if let Some(package) = specifier.strip_prefix("npm:") {
            self.npm.insert(package.trim_start_matches('/').to_owned());
            return Ok(None);
        }
        if let Some(package) = specifier.strip_prefix("jsr:") {
            return self.jsr(fetcher, package.trim_start_matches('/')).await.map(Some);
        }
        let relative = specifier.starts_with(['.', '/']);
        let url = match base {
            Some(base) if relative => base.join(specifier),
            None if relative => return Ok(None),
            _ => Url::parse(specifier),
        };
        match url {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                let url = checked(url)?;
                let jsr = self.sources.jsr.is_some_and(|jsr| url.as_str().starts_with(jsr.as_str()));
                if self.sources.https || jsr {
                    return Ok(Some(url));
                }
                Err(not_allowed("https"))
            }
            // Built-ins, data, and names that only a map of the skill's own could know.
            _ => Ok(None),
        }
    }

    /// The module that a JSR package exports under a name.
    async fn jsr(&mut self, fetcher: &mut Fetcher<'_>, specifier: &str) -> Result<Url, ImportError> {
        let registry = self.sources.jsr.ok_or_else(|| not_allowed("jsr"))?;
        let (name, version) = npm::split(specifier);
        let rest = specifier.strip_prefix(name).unwrap_or_default();
        let path = rest.split_once('/').map_or(".".to_owned(), |(_, path)| format!("./{path}"));
        let locked = self.lock.get("specifiers").and_then(|all| {
            let key = version.map_or_else(|| format!("jsr:{name}"), |version| format!("jsr:{name}@{version}"));
            all.get(key)?.as_str().map(str::to_owned)
        });
        let version = locked.as_deref().or(version);
        npm::check_name(name)?;
        let Some(version) = version.filter(|version| npm::is_exact(version)) else {
            return Err(ImportError::Refused(format!(
                "jsr:{name} is not pinned: name one version, such as jsr:{name}@1.2.3, or send a deno.lock that does"
            )));
        };
        let pin = Pin { name: name.to_owned(), version: version.to_owned() };
        let base = npm::join(registry, &format!("{name}/{version}"))?;
        if !self.versions.contains_key(&pin) {
            let (_, bytes) = fetcher.get(&npm::join(registry, &format!("{name}/{version}_meta.json"))?).await?;
            let locked = self.lock.pointer("/jsr").and_then(|all| all.get(format!("{name}@{version}")));
            let locked = locked.and_then(|entry| entry.get("integrity")).and_then(Value::as_str);
            if locked.is_some_and(|wanted| wanted != HEXLOWER.encode(&Sha256::digest(&bytes))) {
                return Err(ImportError::Refused(format!("jsr:{name}@{version} is not what deno.lock says")));
            }
            let version = serde_json::from_slice(&bytes)
                .map_err(|_| ImportError::Fetch(format!("the registry's answer for jsr:{name} is not about it")))?;
            self.versions.insert(pin.clone(), version);
        }
        let exports = self.versions.get(&pin).and_then(|version| version.get("exports"));
        let file = match exports {
            Some(Value::String(file)) if path == "." => Some(file.as_str()),
            Some(exports) => exports.get(&path).and_then(Value::as_str),
            None => None,
        };
        let file = file.ok_or_else(|| ImportError::Refused(format!("jsr:{name}@{version} has no export {path}")))?;
        let joined = Url::parse(&format!("{base}/")).and_then(|base| base.join(file));
        joined.map_err(|_| ImportError::Fetch(format!("jsr:{name}@{version} exports what is no address")))
    }

    /// Lays the modules and the map out; gives what the owner is shown of each.
    pub(crate) fn lay_out(self, files: &mut BTreeMap<String, Vec<u8>>) -> Vec<Package> {
        let place =
            |url: &Url| format!("{DIRECTORY}/{}.{}", Digest::of(url.as_str().as_bytes()).short(), extension(url));
        let address = |url: &Url| Value::from(format!("{SKILL}{}", place(url)));
        let mut scopes = Map::new();
        let mut packages = Vec::new();
        let roots: Map<String, Value> =
            self.roots.iter().map(|(specifier, url)| (specifier.clone(), address(url))).collect();
        for (url, module) in self.modules {
            let own = format!("{SKILL}{}", place(&url));
            let mut map = Map::new();
            for (specifier, target) in &module.imports {
                // A relative specifier is looked up as the address that it makes from where the module is laid out.
                let key = match Url::parse(&own).and_then(|own| own.join(specifier)) {
                    Ok(url) if specifier.starts_with(['.', '/']) => url.to_string(),
                    _ => specifier.clone(),
                };
                map.insert(key, address(target));
            }
            if !map.is_empty() {
                scopes.insert(own, Value::Object(map));
            }
            packages.push(Package {
                name: url.to_string(),
                sha256: Digest::of(&module.bytes),
                bytes: module.bytes.len() as u64,
            });
            files.insert(place(&url), module.bytes);
        }
        let map = json!({ "imports": roots, "scopes": scopes });
        files.insert(IMPORT_MAP.to_owned(), map.to_string().into_bytes());
        packages
    }
}

/// The refusal of what the owner has not allowed.
pub(crate) fn not_allowed(kind: &str) -> ImportError {
    ImportError::Refused(format!(
        "imports from elsewhere ({kind}) are not allowed here: put the code into the skill's own files, or ask the \
         owner to add \"{kind}\" to [imports] allow"
    ))
}

fn extension(url: &Url) -> &'static str {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let end = name.rsplit_once('.').map_or("", |(_, end)| end);
    EXTENSIONS.into_iter().find(|known| *known == end).unwrap_or("js")
}
