//! npm packages: names, exact versions, lock files, and tarballs turned into files below `node_modules`.

use crate::ImportError;
use crate::archive::{Bounds, unpack};
use crate::fetch::{Fetcher, checked};
use data_encoding::BASE64;
use oauth3_core::{Digest, Package};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// What one package may unpack to: 24 MiB with headers, 12 MiB of files, 3000 of them.
const PACKAGE_BOUNDS: Bounds = Bounds { stream_bytes: 24 << 20, file_bytes: 12 << 20, files: 3000 };
/// Most packages of one skill.
const MAX_PACKAGES: usize = 200;
/// Longest name of a package, in bytes (npm's own bound).
const MAX_NAME_BYTES: usize = 214;
/// Longest path of a file below `node_modules`, in bytes.
const MAX_PATH_BYTES: usize = 240;

/// A package at an exact version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pin {
    pub(crate) name: String,
    pub(crate) version: String,
}

/// One package to be laid out: where, what, and what its bytes must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) pin: Pin,
    /// Subresource integrity (W3C), when a lock file gives it.
    pub(crate) integrity: Option<String>,
}

/// By directory, such as `node_modules/a/node_modules/b`.
pub(crate) type Layout = BTreeMap<String, Wanted>;

/// Splits `name@version/path` or `name` into name and version.
pub(crate) fn split(specifier: &str) -> (&str, Option<&str>) {
    let scope = if specifier.starts_with('@') { specifier.find('/').map_or(0, |at| at + 1) } else { 0 };
    let rest = specifier.get(scope..).unwrap_or_default();
    let end = rest.find(['@', '/']).unwrap_or(rest.len());
    let name = specifier.get(..scope + end).unwrap_or_default();
    let version =
        rest.get(end..).and_then(|rest| rest.strip_prefix('@')).map(|rest| rest.split('/').next().unwrap_or_default());
    (name, version)
}

/// Checks a name: exactly what the registry allows for new packages, so that none looks like another.
pub(crate) fn check_name(name: &str) -> Result<(), ImportError> {
    let part = |text: &str| {
        !text.is_empty()
            && !text.starts_with(['.', '_'])
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~".contains(&b))
    };
    let plain = match name.strip_prefix('@').map(|rest| rest.split_once('/')) {
        None => part(name),
        Some(Some((scope, name))) => part(scope) && part(name),
        Some(None) => false,
    };
    if plain && name.len() <= MAX_NAME_BYTES && name != "node_modules" {
        return Ok(());
    }
    let name: String = name.chars().take(60).collect();
    Err(ImportError::Refused(format!("{name:?} is not the name of a package")))
}

/// Whether a version is one, and no range: digits for each of three parts, and what may follow them (SemVer 2.0.0).
pub(crate) fn is_exact(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let rest = version.get(core.len()..).unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.len() < 12 && part.bytes().all(|b| b.is_ascii_digit()))
        && rest.len() < 100
        && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+".contains(&b))
}

/// A name and a version as one exact pin, else an error with the mend.
pub(crate) fn pin(name: &str, version: Option<&str>) -> Result<Pin, ImportError> {
    check_name(name)?;
    match version {
        Some(version) if is_exact(version) => Ok(Pin { name: name.to_owned(), version: version.to_owned() }),
        other => {
            let asked =
                other.map(|range| format!("@{}", range.chars().take(40).collect::<String>())).unwrap_or_default();
            Err(ImportError::Refused(format!(
                "npm:{name}{asked} is not pinned: name one version, such as npm:{name}@1.2.3, or send a lock file \
                 (deno.lock or package-lock.json) that does"
            )))
        }
    }
}

/// The layout of a `package-lock.json` of version 2 or 3: everything but what is for development or another system.
pub(crate) fn package_lock(lock: &Value) -> Result<Layout, ImportError> {
    let broken = |what: &str| ImportError::Refused(format!("package-lock.json {what}"));
    if !matches!(lock.get("lockfileVersion").and_then(Value::as_u64), Some(2 | 3)) {
        return Err(broken("is not of lockfileVersion 3; write it anew with npm 7 or newer"));
    }
    let packages = lock.get("packages").and_then(Value::as_object).ok_or_else(|| broken("has no packages"))?;
    let mut layout = Layout::new();
    for (directory, entry) in packages {
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or(false);
        let elsewhere = flag("optional") && (entry.get("os").is_some() || entry.get("cpu").is_some());
        if directory.is_empty() || flag("dev") || elsewhere {
            continue;
        }
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let place = directory.rsplit_once("node_modules/").map(|(_, name)| name);
        let (false, Some(place), Some(version), Some(integrity)) =
            (flag("link"), place, text("version"), text("integrity"))
        else {
            return Err(broken(&format!(
                "has an entry that is no package of a registry: {:?}",
                directory.chars().take(80).collect::<String>()
            )));
        };
        let nested = format!("/{directory}").split("/node_modules/").skip(1).all(|name| check_name(name).is_ok());
        if !nested || !directory.starts_with("node_modules/") {
            return Err(broken("lays a package out elsewhere than below node_modules"));
        }
        check_name(place)?;
        let pin = pin(text("name").unwrap_or(place), Some(version))?;
        layout.insert(directory.clone(), Wanted { pin, integrity: Some(integrity.to_owned()) });
    }
    Ok(layout)
}

/// The layout of the npm part of a `deno.lock` of version 4 or 5.
pub(crate) fn deno_lock(lock: &Value) -> Result<Layout, ImportError> {
    let mut layout = Layout::new();
    for (key, entry) in lock.get("npm").and_then(Value::as_object).into_iter().flatten() {
        if entry.get("os").is_some() || entry.get("cpu").is_some() {
            continue;
        }
        let (name, version) = split(key);
        // What follows an underscore says with which peers it was resolved.
        let version = version.map(|version| version.split('_').next().unwrap_or_default());
        let pin = pin(name, version)?;
        let integrity = entry.get("integrity").and_then(Value::as_str).map(str::to_owned);
        let integrity =
            integrity.ok_or_else(|| ImportError::Refused(format!("deno.lock has no integrity for {key}")))?;
        flat(&mut layout, Wanted { pin, integrity: Some(integrity) })?;
    }
    Ok(layout)
}

/// Puts a package at the top; only one version of each fits there.
fn flat(layout: &mut Layout, wanted: Wanted) -> Result<bool, ImportError> {
    let directory = format!("node_modules/{}", wanted.pin.name);
    match layout.get(&directory) {
        None => Ok(layout.insert(directory, wanted).is_none()),
        Some(there) if there.pin == wanted.pin => Ok(false),
        Some(there) => Err(ImportError::Refused(format!(
            "two versions of {} are needed ({} and {}); send a package-lock.json, which says where each goes",
            wanted.pin.name, there.pin.version, wanted.pin.version
        ))),
    }
}

/// The layout of pinned packages without a lock file: what they depend on must be pinned as well.
pub(crate) async fn pinned(
    fetcher: &mut Fetcher<'_>,
    registry: &Url,
    pins: BTreeSet<Pin>,
) -> Result<Layout, ImportError> {
    let mut layout = Layout::new();
    let mut queue: Vec<Pin> = pins.into_iter().collect();
    while let Some(next) = queue.pop() {
        if layout.len() > MAX_PACKAGES {
            return Err(ImportError::TooLarge(format!("need more than {MAX_PACKAGES} packages")));
        }
        if !flat(&mut layout, Wanted { pin: next.clone(), integrity: None })? {
            continue;
        }
        let address = join(registry, &format!("{}/{}", next.name, next.version))?;
        let (_, bytes) = fetcher.get(&address).await?;
        let strange =
            || ImportError::Fetch(format!("the registry's answer for {}@{} is not about it", next.name, next.version));
        let about: Value = serde_json::from_slice(&bytes).map_err(|_| strange())?;
        let says = |key: &str, value: &str| about.get(key).and_then(Value::as_str) == Some(value);
        let integrity = about.pointer("/dist/integrity").and_then(Value::as_str);
        let (true, true, Some(integrity)) = (says("name", &next.name), says("version", &next.version), integrity)
        else {
            return Err(strange());
        };
        if let Some(wanted) = layout.get_mut(&format!("node_modules/{}", next.name)) {
            wanted.integrity = Some(integrity.to_owned());
        }
        for (name, range) in about.get("dependencies").and_then(Value::as_object).into_iter().flatten() {
            queue.push(pin(name, range.as_str()).map_err(|error| {
                ImportError::Refused(format!(
                    "{}@{} depends on {name} by a range, and {error}",
                    next.name, next.version
                ))
            })?);
        }
    }
    Ok(layout)
}

/// Fetches every package of a layout, checks it, and unpacks it. No script of a package is ever run.
pub(crate) async fn fetch(
    fetcher: &mut Fetcher<'_>,
    registry: &Url,
    layout: &Layout,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Vec<Package>, ImportError> {
    if layout.len() > MAX_PACKAGES {
        return Err(ImportError::TooLarge(format!("need more than {MAX_PACKAGES} packages")));
    }
    let mut packages = Vec::new();
    for (directory, wanted) in layout {
        let Pin { name, version } = &wanted.pin;
        let base = name.rsplit('/').next().unwrap_or_default();
        let (_, tarball) = fetcher.get(&join(registry, &format!("{name}/-/{base}-{version}.tgz"))?).await?;
        let integrity = wanted.integrity.as_deref().unwrap_or_default();
        if !matches_integrity(&tarball, integrity) {
            return Err(ImportError::Refused(format!(
                "npm:{name}@{version} is not what its integrity says (sha256 and sha512 count); nothing was run"
            )));
        }
        let unpacked = unpack(&tarball, &PACKAGE_BOUNDS)
            .map_err(|error| ImportError::Refused(format!("npm:{name}@{version}: {error}")))?;
        for file in unpacked {
            // The first part is `package` by habit only.
            let path = file.path.split_once('/').map_or("", |(_, path)| path);
            let path = format!("{directory}/{path}");
            check_path(&path).map_err(|error| ImportError::Refused(format!("npm:{name}@{version}: {error}")))?;
            files.insert(path, file.bytes);
        }
        packages.push(Package {
            name: format!("npm:{name}@{version}"),
            sha256: Digest::of(&tarball),
            bytes: tarball.len() as u64,
        });
    }
    Ok(packages)
}

fn check_path(path: &str) -> Result<(), String> {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || c == '\\');
    if path.len() <= MAX_PATH_BYTES && path.split('/').all(part) {
        return Ok(());
    }
    Err(format!("{:?} is not a plain path", path.chars().take(100).collect::<String>()))
}

/// Any one of the digests that are strong enough; with none of these, it does not match.
fn matches_integrity(bytes: &[u8], integrity: &str) -> bool {
    let mut strong = integrity.split_whitespace().filter_map(|one| {
        let (kind, value) = one.split_once('-')?;
        let wanted = BASE64.decode(value.as_bytes()).ok()?;
        match kind {
            "sha512" => Some(Sha512::digest(bytes).as_slice() == wanted),
            "sha256" => Some(Sha256::digest(bytes).as_slice() == wanted),
            _ => None,
        }
    });
    strong.next().is_some_and(|first| first && strong.all(|other| other))
}

/// An address below a registry's base.
pub(crate) fn join(registry: &Url, path: &str) -> Result<Url, ImportError> {
    let base = format!("{}/", registry.as_str().trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join(path));
    let url = checked(url.map_err(|_| ImportError::Refused(format!("{path} is no address at the registry")))?)?;
    if url.as_str().starts_with(&base) {
        Ok(url)
    } else {
        Err(ImportError::Refused("an import leaves its registry".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn specifiers_are_split() {
        for (text, name, version) in [
            ("a", "a", None),
            ("a@1.0.0", "a", Some("1.0.0")),
            ("a@1.0.0/x/y.js", "a", Some("1.0.0")),
            ("a/x", "a", None),
            ("@s/a@^1", "@s/a", Some("^1")),
            ("@s/a/x", "@s/a", None),
        ] {
            assert_eq!(split(text), (name, version), "{text}");
        }
    }

    #[test]
    fn only_one_version_is_a_pin() {
        for version in ["1.2.3", "0.0.0", "1.2.3-beta.1", "1.2.3+build"] {
            assert!(pin("a", Some(version)).is_ok(), "{version}");
        }
        for version in [
            "",
            "1",
            "1.2",
            "^1.2.3",
            "~1.2.3",
            "1.x.x",
            "latest",
            "*",
            ">=1.0.0",
            "1.2.3 || 2.0.0",
            "1.2.3/../x",
            "git+ssh://h/x",
            "file:..",
            "1.2.3-a b",
        ] {
            let error = pin("a", Some(version)).unwrap_err().to_string();
            assert!(error.contains("such as npm:a@1.2.3"), "{version}: {error}");
        }
        assert!(pin("a", None).is_err());
    }

    #[test]
    fn names_that_look_like_others_or_lead_elsewhere_are_none() {
        for name in [
            "",
            "A",
            "..",
            ".a",
            "_a",
            "a b",
            "a/b",
            "@s",
            "@s/",
            "@/a",
            "@s/a/b",
            "a%2fb",
            "a\\b",
            "\u{430}",
            "node_modules",
            "a?x",
            "a#x",
            &"a".repeat(215),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "left-pad", "@scope/name", "a.b", "a_b"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_lock_file_cannot_lay_out_elsewhere_or_name_other_sources() {
        let lock = |directory: &str, entry: Value| {
            package_lock(&json!({ "lockfileVersion": 3, "packages": { "": {}, directory: entry } }))
        };
        let fine = json!({ "version": "1.0.0", "integrity": "sha512-x", "resolved": "https://evil.example/x.tgz" });
        assert_eq!(lock("node_modules/a/node_modules/@s/b", fine.clone()).unwrap().len(), 1);
        for directory in [
            "../node_modules/a",
            "x/node_modules/a",
            "node_modules/../a",
            "node_modules/a/../../b",
            "/node_modules/a",
            "node_modules/a/x",
            "node_modules/node_modules/a",
            "node_modules/.bin",
            "packages/a",
        ] {
            assert!(lock(directory, fine.clone()).is_err(), "{directory}");
        }
        for entry in [
            json!({ "link": true, "resolved": "../x" }),
            json!({ "version": "1.0.0", "resolved": "git+ssh://h/x" }),
            json!({ "version": "^1.0.0", "integrity": "sha512-x" }),
            json!({ "version": "file:../x", "integrity": "sha512-x" }),
        ] {
            assert!(lock("node_modules/a", entry.clone()).is_err(), "{entry}");
        }
        assert!(lock("node_modules/a", json!({ "dev": true })).unwrap().is_empty());
        assert!(package_lock(&json!({ "lockfileVersion": 1 })).is_err());
    }

    #[test]
    fn integrity_is_strong_or_none() {
        let sha512 = format!("sha512-{}", BASE64.encode(&Sha512::digest(b"x")));
        let sha256 = format!("sha256-{}", BASE64.encode(&Sha256::digest(b"x")));
        for fine in [sha512.clone(), sha256.clone(), format!("{sha512} {sha256}"), format!("sha1-AAAA {sha512}")] {
            assert!(matches_integrity(b"x", &fine), "{fine}");
            assert!(!matches_integrity(b"y", &fine), "{fine}");
        }
        let other = format!("sha512-{}", BASE64.encode(&Sha512::digest(b"y")));
        for weak in [String::new(), "sha1-AAAA".into(), "sha512-?".into(), other.clone(), format!("{sha256} {other}")] {
            assert!(!matches_integrity(b"x", &weak), "{weak}");
        }
    }

    #[test]
    fn a_packages_files_stay_in_its_directory() {
        for path in [
            "node_modules/a/../../x",
            "node_modules/a//x",
            "node_modules/a/",
            "node_modules/a/x\0",
            "node_modules/a/x\\y",
        ] {
            assert!(check_path(path).is_err(), "{path:?}");
        }
        assert!(check_path("node_modules/a/lib/h\u{e9}.js").is_ok());
    }
}
