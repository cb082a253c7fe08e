//! What runs: one file, or several in one archive. Either way it is one run of bytes, and those bytes are what is
//! stored, shown, hashed and run; what they mean follows from them alone.

use crate::archive::{read_archive, write_archive};
use crate::limits::{MAX_CODE_BYTES, MAX_SKILL_FILES};
use crate::{Digest, Runtime, SubmissionError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The first member of the archive: what its files are. No file of a skill can have this path.
const MANIFEST: &str = ".oauth3/skill.json";
/// Longest path of a file, in bytes, and most parts of one.
const MAX_PATH_BYTES: usize = 100;
const MAX_PATH_PARTS: usize = 12;
/// What stands in file names besides letters and digits: nothing that a shell, a URL or a reader's eye takes for
/// something else.
const NAME_SIGNS: &[u8] = b"._-@+=~,()[]";
/// The stem of the file that runs when none is named.
const MAIN: &str = "main";

/// One file of a skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillFile {
    /// Relative path, parts separated by `/`.
    pub path: String,
    /// The contents.
    pub bytes: Vec<u8>,
}

/// What the bytes of a request's code are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skill<'a> {
    /// One file without a name.
    One(&'a [u8]),
    /// Several files.
    Several(Bundle),
}

/// Several files that were checked: each readable text, or listed as an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

/// What a skill imports from elsewhere: fetched, checked and kept before anybody was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Digest of the archive of all their files, which is kept beside the code and laid out below `/skill` too.
    pub layer: Digest,
    /// Size of that archive, in bytes.
    pub bytes: u64,
    /// Whether a map in it says where imports lead.
    pub import_map: bool,
    /// Each of them.
    pub list: Vec<Package>,
}

/// One package or module from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// What it is: `npm:name@1.2.3`, or the address of a module.
    pub name: String,
    /// Digest of what was fetched.
    pub sha256: Digest,
    /// Size of that, in bytes.
    pub bytes: u64,
}

impl Packages {
    /// Of an archive of files and what it was made from.
    #[must_use]
    pub fn new(layer: &[u8], import_map: bool, mut list: Vec<Package>) -> Self {
        list.sort_unstable();
        Self { layer: Digest::of(layer), bytes: layer.len() as u64, import_map, list }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    entry: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    assets: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packages: Option<Packages>,
}

impl<'a> Skill<'a> {
    /// Reads the code of a request.
    ///
    /// # Errors
    /// When it is empty, too large, no text, or an archive that is not in the one form.
    pub fn read(code: &'a [u8]) -> Result<Self, SubmissionError> {
        if is_archive(code) {
            return Bundle::read(code).map(Self::Several);
        }
        if code.is_empty() {
            return Err(invalid("there is no code to run"));
        }
        check_size(code.len())?;
        // The owner reads what runs; bytes that are no text cannot be read.
        if std::str::from_utf8(code).is_err() {
            return Err(invalid("the code is not UTF-8 text"));
        }
        Ok(Self::One(code))
    }

    /// The file that runs, whose header counts.
    #[must_use]
    pub fn entry(&self) -> &[u8] {
        match self {
            Self::One(code) => code,
            Self::Several(bundle) => bundle.bytes(bundle.entry()).unwrap_or_default(),
        }
    }

    /// What it imports from elsewhere, if anything.
    #[must_use]
    pub fn packages(&self) -> Option<&Packages> {
        match self {
            Self::One(_) => None,
            Self::Several(bundle) => bundle.manifest.packages.as_ref(),
        }
    }

    /// The runtime that the name of the file that runs stands for, if any: `.py`, `.sh`.
    #[must_use]
    pub fn runtime_by_name(&self) -> Option<Runtime> {
        match self {
            Self::One(_) => None,
            Self::Several(bundle) => match bundle.entry().rsplit_once('.')?.1 {
                "py" => Some(Runtime::Python),
                "sh" => Some(Runtime::Shell),
                _ => None,
            },
        }
    }
}

impl Bundle {
    /// Checks files and puts them into their order. Without `entry`, the file that runs is the one named `main` that
    /// is nearest to the top, else the first.
    ///
    /// # Errors
    /// When a path is not plain, two paths are or read alike, a file that is no asset is no text, or a bound is
    /// passed. The text is for the agent.
    pub fn new(files: Vec<SkillFile>, entry: Option<&str>, assets: &[String]) -> Result<Self, SubmissionError> {
        if files.is_empty() {
            return Err(invalid("there is no file to run"));
        }
        if files.len() > MAX_SKILL_FILES {
            return Err(SubmissionError::Invalid(format!("more than {MAX_SKILL_FILES} files")));
        }
        check_size(files.iter().map(|file| file.bytes.len()).sum())?;
        check_paths(&files)?;
        let entry = match entry {
            Some(entry) => entry.to_owned(),
            None => default_entry(&files)?,
        };
        let files: BTreeMap<String, Vec<u8>> = files.into_iter().map(|file| (file.path, file.bytes)).collect();
        let assets: BTreeSet<String> = assets.iter().cloned().collect();
        if let Some(stranger) = std::iter::once(&entry).chain(&assets).find(|path| !files.contains_key(*path)) {
            let text = format!("{} is named and is not among the files", shown(stranger));
            return Err(SubmissionError::Invalid(text));
        }
        if assets.contains(&entry) {
            return Err(invalid("the file that runs cannot be an asset: an asset is not shown"));
        }
        let unreadable = |(path, bytes): &(&String, &Vec<u8>)| !assets.contains(*path) && !is_text(bytes);
        if let Some((path, _)) = files.iter().find(unreadable) {
            let text = format!(
                "{path} is not UTF-8 text; an owner cannot read it. List it in `assets` to have its digest shown"
            );
            return Err(SubmissionError::Invalid(text));
        }
        if files.get(&entry).is_none_or(Vec::is_empty) {
            return Err(invalid("there is no code to run: the file that runs is empty"));
        }
        Ok(Self { manifest: Manifest { entry, assets, packages: None }, files })
    }

    fn read(archive: &[u8]) -> Result<Self, SubmissionError> {
        let broken = || invalid("the archive is not in the form that oauth3 writes");
        let members = read_archive(archive).ok_or_else(broken)?;
        let (manifest, files) = members.split_first().ok_or_else(broken)?;
        let manifest: Manifest = serde_json::from_slice(manifest.1).map_err(|_| broken())?;
        let files = files.iter().map(|(path, bytes)| SkillFile { path: path.clone(), bytes: bytes.to_vec() }).collect();
        let assets: Vec<String> = manifest.assets.into_iter().collect();
        let mut bundle = Self::new(files, Some(&manifest.entry), &assets)?;
        bundle.manifest.packages = manifest.packages;
        // One meaning, one run of bytes: order, duplicates and spelling included.
        if bundle.to_bytes() == archive { Ok(bundle) } else { Err(broken()) }
    }

    /// The same skill with what it imports from elsewhere.
    #[must_use]
    pub fn with_packages(mut self, packages: Packages) -> Self {
        self.manifest.packages = Some(packages);
        self
    }

    /// The archive: what is stored and hashed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let manifest = serde_json::to_vec(&self.manifest).unwrap_or_default();
        let files = self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
        // Checked paths and sizes fit; without them the result is no skill at all.
        write_archive(std::iter::once((MANIFEST, manifest.as_slice())).chain(files)).unwrap_or_default()
    }

    /// The path of the file that runs.
    #[must_use]
    pub fn entry(&self) -> &str {
        &self.manifest.entry
    }

    /// Every file, by path.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
    }

    /// The contents of one.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// Whether a file is shown by its digest only.
    #[must_use]
    pub fn is_asset(&self, path: &str) -> bool {
        self.manifest.assets.contains(path)
    }
}

/// Whether these bytes claim to be several files. Text that does is held to it.
fn is_archive(code: &[u8]) -> bool {
    code.strip_prefix(MANIFEST.as_bytes()).is_some_and(|rest| rest.starts_with(b"\0"))
}

/// Readable: UTF-8 without a NUL, which some readers stop at.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0)
}

fn default_entry(files: &[SkillFile]) -> Result<String, SubmissionError> {
    let depth = |path: &str| path.matches('/').count();
    let is_main = |path: &&str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.split_once('.').is_some_and(|(stem, _)| stem == MAIN)
    };
    let mains: Vec<&str> = files.iter().map(|file| file.path.as_str()).filter(is_main).collect();
    let top = mains.iter().map(|path| depth(path)).min();
    let nearest: Vec<&&str> = mains.iter().filter(|path| Some(depth(path)) == top).collect();
    match (nearest.as_slice(), files) {
        ([one], _) => Ok((**one).to_owned()),
        ([], [first, ..]) => Ok(first.path.clone()),
        _ => Err(invalid("several files are named main; say in `entry` which one runs")),
    }
}

/// Plain relative paths, of which no two are the same on any file system and none is a directory of another.
fn check_paths(files: &[SkillFile]) -> Result<(), SubmissionError> {
    let mut seen = BTreeSet::new();
    for SkillFile { path, .. } in files {
        if !is_plain_path(path) {
            let text = format!(
                "{} is not a plain path: letters, digits and {} only, relative, without . or .. as a part, at most \
                 {MAX_PATH_BYTES} bytes and {MAX_PATH_PARTS} parts, and not below .oauth3",
                shown(path),
                String::from_utf8_lossy(NAME_SIGNS)
            );
            return Err(SubmissionError::Invalid(text));
        }
        if !seen.insert(path.to_ascii_lowercase()) {
            let text = format!("{} is there twice, or differs from another in case only", shown(path));
            return Err(SubmissionError::Invalid(text));
        }
    }
    for path in &seen {
        if let Some((at, _)) =
            path.match_indices('/').find(|(at, _)| path.get(..*at).is_some_and(|up| seen.contains(up)))
        {
            let text = format!("{} is a file and a directory", path.get(..at).unwrap_or_default());
            return Err(SubmissionError::Invalid(text));
        }
    }
    Ok(())
}

fn is_plain_path(path: &str) -> bool {
    let plain_part = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|b| b.is_ascii_alphanumeric() || NAME_SIGNS.contains(&b))
    };
    path.len() <= MAX_PATH_BYTES
        && path.split('/').count() <= MAX_PATH_PARTS
        && path.split('/').all(plain_part)
        && !path.split('/').next().is_some_and(|top| top.eq_ignore_ascii_case(".oauth3"))
}

/// A path of the agent's in an error: short, and with escapes for what cannot be seen.
fn shown(path: &str) -> String {
    format!("{:?}", path.chars().take(MAX_PATH_BYTES).collect::<String>())
}

fn check_size(bytes: usize) -> Result<(), SubmissionError> {
    if bytes > MAX_CODE_BYTES {
        return Err(SubmissionError::TooLarge { what: "code", limit: MAX_CODE_BYTES });
    }
    Ok(())
}

fn invalid(text: &str) -> SubmissionError {
    SubmissionError::Invalid(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SkillFile {
        SkillFile { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
    }

    fn refused(files: Vec<SkillFile>, says: &str) {
        let error = Bundle::new(files, None, &[]).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn files_come_back_from_their_bytes_whatever_order_they_were_sent_in() {
        let files = vec![file("main.ts", "import './lib/x.ts'"), file("lib/x.ts", "1")];
        let one = Bundle::new(files.clone(), None, &[]).unwrap();
        let other = Bundle::new(files.into_iter().rev().collect(), None, &[]).unwrap();
        let bytes = one.to_bytes();
        assert_eq!(bytes, other.to_bytes());
        let Skill::Several(read) = Skill::read(&bytes).unwrap() else { panic!("one file") };
        assert_eq!(read.entry(), "main.ts");
        assert_eq!(read, one);
        assert_eq!(Skill::read(&bytes).unwrap().entry(), b"import './lib/x.ts'");
    }

    #[test]
    fn each_byte_path_and_role_is_in_the_bytes() {
        let files = || vec![file("main.ts", "1"), file("b.ts", "2")];
        let all = [
            Bundle::new(files(), None, &[]),
            Bundle::new(files(), Some("b.ts"), &[]),
            Bundle::new(files(), None, &["b.ts".to_owned()]),
            Bundle::new(vec![file("main.ts", "1"), file("b.ts", "3")], None, &[]),
            Bundle::new(vec![file("main.ts", "1"), file("c.ts", "2")], None, &[]),
        ];
        let bytes: BTreeSet<Vec<u8>> = all.into_iter().map(|bundle| bundle.unwrap().to_bytes()).collect();
        assert_eq!(bytes.len(), 5);
    }

    #[test]
    fn paths_that_lead_elsewhere_or_look_alike_are_refused() {
        for path in [
            "/etc/passwd",
            "../x",
            "a/../x",
            "a//b",
            "./a",
            "a/",
            "",
            "a\\b",
            "a b",
            "a\0",
            "caf\u{e9}",
            "\u{ff0e}\u{ff0e}/x",
            "a\u{202e}",
            "C:x",
            ".oauth3/skill.json",
            ".OAUTH3/x",
            &"x".repeat(101),
            &"a/".repeat(13),
        ] {
            refused(vec![file("main.ts", "1"), file(path, "2")], "not a plain path");
        }
        refused(vec![file("main.ts", "1"), file("lib/X.ts", "2"), file("lib/x.ts", "3")], "case only");
        refused(vec![file("main.ts", "1"), file("main.ts", "1")], "twice");
        refused(vec![file("main.ts", "1"), file("a", "2"), file("A/b", "3")], "a file and a directory");
    }

    #[test]
    fn what_nobody_can_read_must_be_called_an_asset() {
        let files = || vec![file("main.ts", "1"), SkillFile { path: "a.png".into(), bytes: vec![0x89, 0xff] }];
        refused(files(), "List it in `assets`");
        refused(vec![file("main.ts", "1\0")], "List it in `assets`");
        assert!(Bundle::new(files(), None, &["a.png".to_owned()]).unwrap().is_asset("a.png"));
        let entry = Bundle::new(files(), Some("a.png"), &["a.png".to_owned()]).unwrap_err();
        assert!(entry.to_string().contains("cannot be an asset"));
        assert!(Bundle::new(files(), None, &["other".to_owned()]).is_err());
    }

    #[test]
    fn the_entry_is_named_or_plain() {
        let entry = |paths: &[&str], named: Option<&str>| {
            let files = paths.iter().map(|path| file(path, "1")).collect();
            Bundle::new(files, named, &[]).map(|bundle| bundle.entry().to_owned()).ok()
        };
        assert_eq!(entry(&["a.ts", "main.py"], None).as_deref(), Some("main.py"));
        assert_eq!(entry(&["b.ts", "a.ts"], None).as_deref(), Some("b.ts"));
        assert_eq!(entry(&["x/main.ts", "x/lib/main.ts"], None).as_deref(), Some("x/main.ts"));
        assert_eq!(entry(&["main.ts", "main.py"], None), None);
        assert_eq!(entry(&["main.ts", "main.py"], Some("main.py")).as_deref(), Some("main.py"));
        assert_eq!(entry(&["main.ts"], Some("other")), None);
    }

    #[test]
    fn bounds_hold() {
        refused((0..=MAX_SKILL_FILES).map(|n| file(&format!("f{n}"), "1")).collect(), "more than");
        refused(vec![file("main.ts", &"x".repeat(MAX_CODE_BYTES)), file("b", "y")], "larger");
        refused(vec![], "no file");
        refused(vec![file("main.ts", "")], "empty");
    }

    #[test]
    fn an_archive_that_oauth3_did_not_write_is_refused() {
        let bytes = Bundle::new(vec![file("main.ts", "1"), file("b.ts", "2")], None, &[]).unwrap().to_bytes();
        let members = read_archive(&bytes).unwrap();
        let with = |members: Vec<(&str, &[u8])>| write_archive(members).unwrap();
        let [manifest, b, main] = members.as_slice() else { panic!("three members") };
        let [manifest, b, main] = [manifest, b, main].map(|(path, bytes)| (path.as_str(), *bytes));
        for (why, members) in [
            ("order", vec![manifest, main, b]),
            ("twice", vec![manifest, b, b, main]),
            ("a second manifest", vec![manifest, manifest, b, main]),
            ("spelling", vec![(manifest.0, &b"{\"entry\": \"main.ts\"}"[..]), b, main]),
            ("unknown field", vec![(manifest.0, &b"{\"entry\":\"main.ts\",\"x\":1}"[..]), b, main]),
            ("no manifest", vec![(manifest.0, &b""[..]), b, main]),
        ] {
            assert!(Skill::read(&with(members)).is_err(), "{why}");
        }
        assert!(Skill::read(&bytes[..bytes.len() - 512]).is_err());
        // Only what begins like one is one.
        assert_eq!(Skill::read(b"console.log(1)").unwrap(), Skill::One(b"console.log(1)"));
    }
}
