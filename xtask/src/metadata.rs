//! The workspace as cargo describes it.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The workspace.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Our own packages, by name.
    pub(crate) members: BTreeMap<String, Package>,
    /// Name of every package by its id, ours and others'.
    names: BTreeMap<String, String>,
    /// What a package is built against, by id; without what only its tests or build script need.
    edges: BTreeMap<String, BTreeSet<String>>,
}

/// One package of ours.
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) manifest: PathBuf,
    pub(crate) description: Option<String>,
    /// Source file of each target.
    pub(crate) sources: Vec<PathBuf>,
}

impl Tree {
    pub(crate) fn read() -> Result<Self> {
        let output = shell::quiet(shell::cargo().args(["metadata", "--format-version", "1", "--quiet"]))?;
        let all: Value = serde_json::from_str(&output)?;
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();

        let ours: BTreeSet<String> =
            list(&all, "workspace_members").iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        let (mut members, mut names) = (BTreeMap::new(), BTreeMap::new());
        for package in list(&all, "packages") {
            let id = text(&package, "id").context("a package without an id")?;
            let name = text(&package, "name").context("a package without a name")?;
            if ours.contains(&id) {
                let manifest = text(&package, "manifest_path").context("a package without a manifest")?.into();
                let targets = list(&package, "targets");
                let sources = targets.iter().filter_map(|target| text(target, "src_path")).map(PathBuf::from);
                let description = text(&package, "description");
                let member = Package { id: id.clone(), manifest, description, sources: sources.collect() };
                members.insert(name.clone(), member);
            }
            names.insert(id, name);
        }
        let mut edges = BTreeMap::new();
        for node in all.get("resolve").map(|resolve| list(resolve, "nodes")).unwrap_or_default() {
            let normal = |dep: &Value| list(dep, "dep_kinds").iter().any(|kind| text(kind, "kind").is_none());
            let deps = list(&node, "deps");
            let deps = deps.iter().filter(|dep| normal(dep)).filter_map(|dep| text(dep, "pkg"));
            edges.insert(text(&node, "id").context("a node without an id")?, deps.collect());
        }
        Ok(Self {
            root: text(&all, "workspace_root").context("no workspace root")?.into(),
            target: text(&all, "target_directory").context("no target directory")?.into(),
            members,
            names,
            edges,
        })
    }

    /// Names of what a member of ours is built against, through others too.
    pub(crate) fn reaches(&self, member: &str) -> BTreeSet<&str> {
        let mut open: Vec<&String> = self.members.get(member).map(|package| &package.id).into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            for next in self.edges.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.names.get(id).map(String::as_str)).collect()
    }
}

#[cfg(test)]
impl Tree {
    /// A workspace with these edges; names that begin with `oauth3` are ours.
    pub(crate) fn of(edges: &[(&str, &str)]) -> Self {
        let mut tree = Self {
            root: PathBuf::from("/tree"),
            target: PathBuf::from("/tree/target"),
            members: BTreeMap::new(),
            names: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for name in edges.iter().flat_map(|(from, to)| [*from, *to]) {
            tree.names.insert(name.into(), name.into());
            if name.starts_with("oauth3") {
                let manifest = PathBuf::from(format!("/tree/crates/{name}/Cargo.toml"));
                let description = Some("A crate".into());
                tree.members
                    .insert(name.into(), Package { id: name.into(), manifest, description, sources: Vec::new() });
            }
        }
        for (from, to) in edges {
            tree.edges.entry((*from).into()).or_default().insert((*to).into());
        }
        tree
    }
}
