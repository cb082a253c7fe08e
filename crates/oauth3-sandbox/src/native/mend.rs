//! What an owner can do about a step that failed.

use crate::SandboxError;
use rustix::io::Errno;

/// Joins the step, the system's words and the mend.
pub(crate) fn explain(step: String, errno: i32) -> SandboxError {
    let errno = Errno::from_raw_os_error(errno);
    let mend = mend(&step, errno).to_owned();
    let cause = std::io::Error::from(errno).to_string();
    SandboxError::Build { step, cause, mend }
}

fn mend(step: &str, errno: Errno) -> &'static str {
    match (step, errno) {
        ("make namespaces", Errno::NOSYS) => {
            "Inside a container, allow clone3 (Docker: --security-opt seccomp=unconfined); else use Linux 5.12 or newer"
        }
        ("make namespaces", Errno::NOSPC | Errno::USERS) => "Raise the sysctl user.max_user_namespaces",
        ("make namespaces", _) => {
            "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1 and \
             kernel.apparmor_restrict_unprivileged_userns=0 where they exist; inside Docker add \
             --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
        }
        ("map the user id" | "map the group id" | "forbid group changes", _) => {
            "Run oauth3 as root with CAP_SETUID and CAP_SETGID, or as an ordinary user"
        }
        ("mount /proc", _) => "Inside Docker add --security-opt systempaths=unconfined",
        ("start the runtime", Errno::ACCESS) => "Make the runtime's program readable and executable for everybody",
        ("start the runtime", _) => {
            "Set the runtime's path in the configuration to a program with its libraries in /usr"
        }
        ("start the job's process", _) => "Raise the limit of processes",
        (step, _) if step.starts_with("bind ") => "Make that path readable for the user that oauth3 runs as",
        (step, _) if step.contains("cgroup") => "Check that oauth3 may still write its control group",
        _ => "Use Linux 5.12 or newer, and see `oauth3 doctor`",
    }
}
