//! What a crate reaches, through others too. `deny.toml` sees direct edges only.

use super::File;
use crate::metadata::Tree;

const CORE: &str = "oauth3-core";
const POLICY: &str = "oauth3-policy";
const PROVIDER: &str = "oauth3-provider";
const OAUTH: &str = "oauth3-oauth";
const DIAL: &str = "oauth3-dial";
const WIRE: &str = "oauth3-wire";
const VAULT: &str = "oauth3-vault";
const INJECT: &str = "oauth3-inject";
const PROXY: &str = "oauth3-proxy";
const STORE: &str = "oauth3-store";

/// Which of our own crates each of our own may reach. What is not here may not be there: the plaintext zone
/// (vault, oauth, inject, proxy, keeper) is reached by its own members and the binary, and a surface reaches the core alone.
const MAY_REACH: &[(&str, &[&str])] = &[
    (CORE, &[]),
    (POLICY, &[CORE]),
    (PROVIDER, &[CORE]),
    (OAUTH, &[CORE, PROVIDER]),
    (DIAL, &[CORE]),
    (WIRE, &[CORE]),
    (VAULT, &[CORE]),
    (STORE, &[CORE]),
    ("oauth3-sandbox", &[CORE]),
    ("oauth3-api", &[CORE]),
    ("oauth3-approve", &[CORE]),
    ("oauth3-skill", &[CORE]),
    ("oauth3-broker", &[CORE, POLICY, PROVIDER, "oauth3-skill"]),
    (INJECT, &[CORE, POLICY, VAULT, DIAL]),
    (PROXY, &[CORE, POLICY, PROVIDER, VAULT, INJECT, DIAL]),
    ("oauth3-keeper", &[CORE, POLICY, PROVIDER, OAUTH, VAULT, INJECT, PROXY, STORE, WIRE, DIAL]),
    ("e2e", &[]),
    ("fuzz", &[CORE, POLICY, PROVIDER, OAUTH, DIAL, WIRE, VAULT, INJECT]),
    ("xtask", &[]),
];

/// The binary reaches everything.
const BINARY: &str = "oauth3";

/// Others' crates that these of ours never reach, and what that says.
const NEVER_REACH: &[(&[&str], &[&str], &str)] = &[
    (&[CORE, POLICY, PROVIDER, OAUTH], &["tokio", "hyper", "rustls", "sqlx-core", "rustix"], "does no I/O"),
    (&[VAULT], &["tokio", "hyper", "rustls", "sqlx-core"], "has no network and no database"),
    (
        &["oauth3-api", "oauth3-approve", "oauth3-broker", "oauth3-skill", "oauth3-sandbox", DIAL, WIRE, INJECT, PROXY],
        &["sqlx-core"],
        "has no database",
    ),
    (
        &["oauth3-api", "oauth3-approve", "oauth3-broker", "oauth3-skill", STORE, "oauth3-sandbox", WIRE],
        &["rustls"],
        "speaks no TLS",
    ),
    (
        &["oauth3-api", "oauth3-approve", "oauth3-broker", "oauth3-skill", STORE, "oauth3-sandbox", DIAL, WIRE],
        &["secrecy", "chacha20poly1305"],
        "cannot unseal",
    ),
];

pub(super) fn check(tree: &Tree, files: &[File], problems: &mut Vec<String>) {
    for (name, package) in &tree.members {
        let manifest = package.manifest.strip_prefix(&tree.root).unwrap_or(&package.manifest).display();
        let reaches = tree.reaches(name);
        if name != BINARY {
            match MAY_REACH.iter().find(|(of, _)| of == name) {
                None => problems.push(format!("{manifest}: say in xtask/src/tidy/edges.rs what {name} may reach")),
                Some((_, allowed)) => problems.extend(
                    reaches
                        .iter()
                        .filter(|other| tree.members.contains_key(**other) && !allowed.contains(other))
                        .map(|other| format!("{manifest}: {name} reaches {other} and must not")),
                ),
            }
        }
        for (ours, theirs, says) in NEVER_REACH {
            if ours.contains(&name.as_str()) {
                let found = theirs.iter().filter(|other| reaches.contains(**other));
                problems.extend(found.map(|other| format!("{manifest}: {name} {says}, and reaches {other}")));
            }
        }
        let folder = package.manifest.parent().and_then(|folder| folder.file_name());
        if folder.is_none_or(|folder| folder != name.as_str()) {
            problems.push(format!("{manifest}: the folder is not named {name}"));
        }
        if package.description.as_ref().is_none_or(|text| text.trim().is_empty()) {
            problems.push(format!("{manifest}: say in one line what {name} is for (description)"));
        }
    }
    let manifests = files.iter().filter(|file| file.path.starts_with("crates/") && file.path.ends_with("Cargo.toml"));
    for file in manifests.filter(|file| !file.text.contains("[lints]\nworkspace = true")) {
        problems.push(format!("{}: take the workspace's lints ([lints] workspace = true)", file.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(edges: &[(&str, &str)]) -> Vec<String> {
        let mut problems = Vec::new();
        check(&Tree::of(edges), &[], &mut problems);
        problems
    }

    #[test]
    fn the_edges_of_the_design_pass() {
        let edges = [("oauth3", "oauth3-keeper"), ("oauth3-keeper", "oauth3-vault"), ("oauth3-vault", "oauth3-core")];
        assert_eq!(problems(&edges), Vec::<String>::new());
    }

    #[test]
    fn an_edge_through_another_crate_is_seen() {
        let found = problems(&[("oauth3-api", "helper"), ("helper", "oauth3-vault")]);
        assert_eq!(found, ["crates/oauth3-api/Cargo.toml: oauth3-api reaches oauth3-vault and must not"]);
        let found = problems(&[("oauth3-policy", "helper"), ("helper", "tokio")]);
        assert_eq!(found, ["crates/oauth3-policy/Cargo.toml: oauth3-policy does no I/O, and reaches tokio"]);
    }

    #[test]
    fn a_crate_that_nobody_thought_about_is_not_let_in() {
        assert_eq!(problems(&[("oauth3-new", "oauth3-core")]).len(), 1);
    }
}
