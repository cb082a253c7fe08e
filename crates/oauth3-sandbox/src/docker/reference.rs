//! Which image is meant, and where the engine is: only what cannot change behind the owner's back.

use crate::SandboxError;

/// Where the engine listens when nobody says.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// What stands before the hexadecimal digits of a digest, and how many there are.
const ALGORITHM: &str = "sha256:";
const DIGEST_DIGITS: usize = 64;
/// Longest reference, in bytes.
const MAX_REFERENCE_BYTES: usize = 512;

/// Checks that an image is named by its digest: `name@sha256:…`, or the id `sha256:…` of one that was made here.
/// A tag may mean something else tomorrow.
pub(super) fn check(reference: &str) -> Result<(), SandboxError> {
    let digest = reference.rsplit_once('@').map_or(reference, |(_, digest)| digest);
    let name_is_plain = reference.len() <= MAX_REFERENCE_BYTES
        && reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:_-@".contains(&byte));
    let digits = digest.strip_prefix(ALGORITHM).unwrap_or_default();
    let whole = digits.len() == DIGEST_DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if name_is_plain && whole {
        return Ok(());
    }
    Err(SandboxError::Config(format!(
        "the image {:?} is not named by its digest: a tag can mean another image tomorrow. `docker image inspect \
         --format '{{{{index .RepoDigests 0}}}}' IMAGE` prints the name to use, `--format '{{{{.Id}}}}'` the id of one \
         that was built here",
        reference.chars().take(100).collect::<String>()
    )))
}

/// The path of the engine's socket. Only a Unix socket is spoken to: whoever reaches an engine is root on its host.
pub(super) fn socket(host: &str) -> Result<String, SandboxError> {
    let host = if host.is_empty() { DEFAULT_HOST } else { host };
    match host.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
        Some(path) => Ok(path.to_owned()),
        None => Err(SandboxError::Config(
            "DOCKER_HOST must be unix:///path/of/the/socket: no engine is spoken to over the network".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:6e2d5c3a1b0f9e8d7c6b5a4938271605f4e3d2c1b0a99887766554433221100f";

    #[test]
    fn only_a_digest_names_an_image() {
        for name in [DIGEST.to_owned(), format!("denoland/deno@{DIGEST}"), format!("r.example:5000/a/b:1@{DIGEST}")] {
            assert!(check(&name).is_ok(), "{name}");
        }
        let short = DIGEST.get(..70).unwrap();
        for name in ["", "deno", "denoland/deno:2.1", "deno:latest", "deno@sha256:", short, "deno@sha512:00"] {
            let told = check(name).unwrap_err().to_string();
            assert!(told.contains("digest") && told.contains("docker image inspect"), "{told}");
        }
        for name in [format!("a b@{DIGEST}"), format!("a\n@{DIGEST}"), DIGEST.to_uppercase(), format!("{DIGEST}0")] {
            assert!(check(&name).is_err(), "{name}");
        }
    }

    #[test]
    fn only_a_unix_socket_is_an_engine() {
        assert_eq!(socket("").unwrap(), "/var/run/docker.sock");
        assert_eq!(socket("unix:///run/user/1000/docker.sock").unwrap(), "/run/user/1000/docker.sock");
        for host in ["tcp://127.0.0.1:2375", "ssh://root@host", "http://x", "/var/run/docker.sock", "unix://x"] {
            assert!(socket(host).is_err(), "{host}");
        }
    }
}
