//! How Deno is started where its own permissions are one of the walls.

use crate::init::{CODE, TMP};
use oauth3_core::LaneSpec;
use std::path::Path;

/// Arguments of Deno: the declared hosts, the job's own variables, the run's own folders; nothing else, and never a
/// question. Names of variables are no secrets; their values are not here.
pub(super) fn arguments(program: &str, spec: &LaneSpec, names: &[&str], directory: &Path, entry: &str) -> Vec<String> {
    let (code, tmp) = (directory.join(CODE), directory.join(TMP));
    let mut argv = vec![program.to_owned(), "run".to_owned()];
    let flags = [
        "--quiet",
        "--no-prompt",
        "--cached-only",
        "--no-remote",
        "--no-npm",
        "--no-config",
        "--no-lock",
        "--no-code-cache",
        "--deny-run",
        "--deny-ffi",
        "--deny-sys",
    ];
    argv.extend(flags.map(str::to_owned));
    // A comma would make two of one.
    let plain = |name: &&&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let names: Vec<&str> = names.iter().filter(plain).copied().collect();
    if !names.is_empty() {
        argv.push(format!("--allow-env={}", names.join(",")));
    }
    if !spec.hosts.is_empty() {
        let hosts: Vec<String> = spec.hosts.iter().map(|host| format!("{}:{}", host.name(), host.port())).collect();
        argv.push(format!("--allow-net={}", hosts.join(",")));
    }
    argv.push(format!("--allow-read={},{}", code.display(), tmp.display()));
    argv.push(format!("--allow-write={}", tmp.display()));
    argv.push(format!("--v8-flags=--max-old-space-size={}", spec.limits.memory_mb));
    argv.push(code.join(entry).display().to_string());
    argv
}

#[cfg(test)]
mod tests {
    use super::*;
    use oauth3_core::{Host, Limits, Runtime};

    fn spec(hosts: &[&str]) -> LaneSpec {
        LaneSpec {
            hosts: hosts.iter().map(|host| Host::parse(host).unwrap()).collect(),
            limits: Limits { memory_mb: 128, ..Limits::STANDARD },
            runtime: Runtime::Deno,
        }
    }

    #[test]
    fn only_what_was_declared_is_allowed() {
        let argv = arguments(
            "/d",
            &spec(&["api.example.com", "b.example:8443"]),
            &["KEY", "ARG_a,HOME", "ARG_b"],
            Path::new("/r"),
            "main.ts",
        );
        assert!(argv.contains(&"--allow-env=KEY,ARG_b".to_owned()), "{argv:?}");
        assert!(argv.contains(&"--allow-net=api.example.com:443,b.example:8443".to_owned()), "{argv:?}");
        assert!(argv.contains(&"--allow-read=/r/skill,/r/tmp".to_owned()), "{argv:?}");
        assert!(argv.contains(&"--allow-write=/r/tmp".to_owned()), "{argv:?}");
        assert!(argv.contains(&"--no-prompt".to_owned()), "{argv:?}");
    }

    #[test]
    fn nothing_declared_is_nothing_allowed() {
        let argv = arguments("/d", &spec(&[]), &[], Path::new("/r"), "main.ts");
        for word in &argv {
            let open = ["-A", "--allow-all", "--allow-run", "--allow-ffi", "--allow-sys", "--allow-import"];
            assert!(
                !open.contains(&word.as_str()) && !word.starts_with("--allow-net") && !word.starts_with("--allow-env")
            );
        }
    }
}
