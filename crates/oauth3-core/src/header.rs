//! The skill header: `// @key value` lines in the leading comment block of the code.

use crate::submission::Declared;
use std::collections::BTreeMap;

/// Most lines of the leading comment block that are read.
const MAX_HEADER_LINES: usize = 200;

/// Reads `@skill`, `@description`, `@secrets`, `@network`, `@timeout`, `@runtime` and `@limits` (as `name=value`)
/// from the leading comment block. Lines begin with `//` or `#`; a first line with `#!` and blank lines are passed over;
/// the first other line ends the block. Lists are separated by commas or white space. Other keys are comments.
///
/// # Errors
/// When a key stands twice with different values, or a timeout or a limit is not a number.
pub fn parse_header(code: &[u8]) -> Result<Declared, String> {
    let mut declared = Declared::default();
    let text = String::from_utf8_lossy(code);
    for line in text.strip_prefix('\u{feff}').unwrap_or(&text).lines().take(MAX_HEADER_LINES) {
        let line = line.trim();
        if line.is_empty() || line.starts_with("#!") {
            continue;
        }
        let Some(comment) = line.strip_prefix("//").or_else(|| line.strip_prefix('#')) else { break };
        let Some(entry) = comment.trim().strip_prefix('@') else { continue };
        let (key, value) = entry.split_once(|c: char| c.is_whitespace() || c == ':').unwrap_or((entry, ""));
        let value = value.trim();
        match key {
            "skill" => set(&mut declared.skill_id, value.to_owned(), key)?,
            "description" => set(&mut declared.description, value.to_owned(), key)?,
            "secrets" => set(&mut declared.secrets, list(value), key)?,
            "network" => set(&mut declared.network, list(value), key)?,
            "runtime" => set(&mut declared.runtime, value.to_owned(), key)?,
            "timeout" => {
                let seconds =
                    value.trim_end_matches('s').parse().map_err(|_| "header @timeout is not a number of seconds")?;
                set(&mut declared.timeout, seconds, key)?;
            }
            "limits" => set(&mut declared.limits, limits(value)?, key)?,
            _ => {}
        }
    }
    Ok(declared)
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(|c: char| c == ',' || c.is_whitespace()).filter(|s| !s.is_empty() && *s != "none")
}

fn list(value: &str) -> Vec<String> {
    words(value).map(str::to_owned).collect()
}

fn limits(value: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut limits = BTreeMap::new();
    for word in words(value) {
        let number = word.split_once('=').and_then(|(name, number)| Some((name, number.parse::<f64>().ok()?)));
        let (name, number) = number.ok_or("header @limits is not a list of name=number")?;
        if limits.insert(name.to_owned(), number).is_some_and(|old| old != number) {
            return Err("header @limits names a limit twice with different values".to_owned());
        }
    }
    Ok(limits)
}

fn set<T: PartialEq>(slot: &mut Option<T>, value: T, key: &str) -> Result<(), String> {
    if slot.as_ref().is_some_and(|old| *old != value) {
        return Err(format!("header @{key} stands twice with different values"));
    }
    *slot = Some(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_leading_comment_block_counts() {
        let code = b"#!/usr/bin/env deno\n// @skill a\n\n// prose @secrets NOT_THIS\n// @secrets A_KEY, B_KEY\n//@timeout 30\nlet x;\n// @network evil.example\n";
        let header = parse_header(code).unwrap();
        assert_eq!(header.skill_id.as_deref(), Some("a"));
        assert_eq!(header.secrets, Some(vec!["A_KEY".into(), "B_KEY".into()]));
        assert_eq!(header.timeout, Some(30.0));
        assert_eq!(header.network, None);
    }

    #[test]
    fn a_key_that_stands_twice_must_agree() {
        assert!(parse_header(b"# @runtime deno\n# @runtime deno\n").is_ok());
        assert!(parse_header(b"# @runtime deno\n# @runtime node\n").is_err());
        assert!(parse_header(b"// @timeout soon\n").is_err());
        assert!(parse_header(b"// @limits memory_mb=64 memory_mb=65\n").is_err());
    }

    #[test]
    fn limits_are_names_with_numbers() {
        let header = parse_header(b"# @limits memory_mb=128, cpu_seconds=0.5\nx").unwrap();
        let limits = header.limits.unwrap();
        assert_eq!(limits.into_iter().collect::<Vec<_>>(), [("cpu_seconds".into(), 0.5), ("memory_mb".into(), 128.0)]);
        for bad in ["memory_mb", "memory_mb=", "memory_mb=lots", "=", "memory_mb = 4"] {
            assert!(parse_header(format!("// @limits {bad}\n").as_bytes()).is_err(), "{bad}");
        }
    }
}
