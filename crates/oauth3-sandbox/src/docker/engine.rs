//! The container engine, as far as it is needed: look at an image, make, start and remove a container.

use super::reference;
use crate::SandboxError;
use crate::init::{GUEST_CERTIFICATES, GUEST_SKILL, GUEST_SOCKET, GUEST_SUBCOMMAND};
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, PruneContainersOptions, RemoveContainerOptions,
};
use std::collections::HashMap;
use std::path::Path;

/// Longest that the engine may take for one answer, in seconds.
const ANSWER_SECONDS: u64 = 60;
/// Characters of the engine's own words that are passed on.
const MAX_TOLD_CHARS: usize = 300;
/// The oldest API that we speak (Docker 20.10): older ones have no private control groups.
const API: bollard::ClientVersion = bollard::ClientVersion { major_version: 1, minor_version: 41 };
/// Where our own executable is bound in the container.
const HELPER: &str = "/oauth3-init";
/// Sizes of what is writable, in bytes: `/tmp` for the job, and the places of its code and certificate.
const TMP_BYTES: u64 = 64 << 20;
const SKILL_BYTES: u64 = 64 << 20;
const CERTIFICATES_BYTES: u64 = 1 << 20;
/// Files and directories in `/tmp`.
const TMP_INODES: u32 = 8192;
/// Which run, and which gateway (by its directory), a container belongs to.
const RUN_LABEL: &str = "oauth3.run";
const HOME_LABEL: &str = "oauth3.home";
/// Who is asked for names, and how patiently: the responder is as near as can be.
const NAME_SERVER: &str = "127.0.0.1";
const NAME_OPTIONS: &[&str] = &["timeout:2", "attempts:1"];
/// What Podman calls itself among the parts of its version.
const PODMAN: &str = "Podman Engine";
/// Billionths of a processor.
const NANO: f64 = 1e9;

/// The engine on its socket.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    docker: Docker,
    socket: String,
    podman: bool,
}

/// A container to be made.
pub(super) struct Plan<'a> {
    pub(super) run: &'a str,
    pub(super) home: &'a str,
    pub(super) image: &'a str,
    /// Our executable and the runner's socket, as paths of the engine's host.
    pub(super) helper: &'a Path,
    pub(super) socket: &'a Path,
    /// Where names are asked for, as a file of the engine's host.
    pub(super) resolver: &'a Path,
    /// User and group inside.
    pub(super) id: u32,
    pub(super) memory_bytes: u64,
    pub(super) processes: u32,
    pub(super) open_files: u64,
    pub(super) cpus: f64,
    /// Names and the addresses that the egress knows them by.
    pub(super) names: Vec<(String, String)>,
}

impl Engine {
    /// Reaches the engine and agrees on a version.
    pub(super) async fn reach(host: &str) -> Result<Self, SandboxError> {
        let socket = reference::socket(host)?;
        let docker =
            Docker::connect_with_unix(&socket, ANSWER_SECONDS, &API).map_err(|error| unreachable(&socket, &error))?;
        let version = docker.version().await.map_err(|error| unreachable(&socket, &error))?;
        let podman = version.components.iter().flatten().any(|part| part.name == PODMAN);
        Ok(Self { docker, socket, podman })
    }

    /// What the engine calls itself, and where it is.
    pub(super) async fn describe(&self) -> Result<String, SandboxError> {
        let version = self.docker.version().await.map_err(|error| unreachable(&self.socket, &error))?;
        let name = if self.podman { "Podman" } else { "Docker" };
        Ok(format!("{name} {} at {}", version.version.unwrap_or_else(|| "without a version".to_owned()), self.socket))
    }

    /// Checks that the image is there and brings nothing that would be writable. It is never pulled.
    pub(super) async fn check_image(&self, image: &str) -> Result<(), SandboxError> {
        let found = self.docker.inspect_image(image).await.map_err(|error| match error {
            Error::DockerResponseServerError { status_code: 404, .. } => SandboxError::Engine {
                what: format!("the image {image} is not there"),
                cause: "oauth3 never pulls one".to_owned(),
                mend: format!("Run `docker pull {image}`"),
            },
            error => self.failed("look at the image", &error),
        })?;
        let volumes = found.config.and_then(|config| config.volumes).unwrap_or_default();
        if volumes.is_empty() {
            return Ok(());
        }
        Err(SandboxError::Config(format!(
            "the image {image} declares volumes, which would be writable and on disk; build one without VOLUME"
        )))
    }

    /// Makes a container; nothing runs in it yet. Its id.
    pub(super) async fn create(&self, plan: &Plan<'_>) -> Result<String, SandboxError> {
        let options = CreateContainerOptions { name: Some(format!("oauth3-{}", plan.run)), platform: String::new() };
        let made = self.docker.create_container(Some(options), body(plan, self.podman)).await;
        made.map(|made| made.id).map_err(|error| self.failed("make a container", &error))
    }

    /// Starts it.
    pub(super) async fn start(&self, id: &str) -> Result<(), SandboxError> {
        self.docker.start_container(id, None).await.map_err(|error| self.failed("start the container", &error))
    }

    /// Whether it is still there. Those that ended are removed by the engine.
    pub(super) async fn exists(&self, id: &str) -> bool {
        let answer = self.docker.inspect_container(id, None).await;
        answer.is_ok_and(|found| found.state.and_then(|state| state.running).unwrap_or(false))
    }

    /// Refuses an engine that took a container's limits and dropped them: rootless ones do, without control groups.
    pub(super) async fn check_limits(&self, id: &str) -> Result<(), SandboxError> {
        let found = self.docker.inspect_container(id, None).await;
        let found = found.map_err(|error| self.failed("look at the container", &error))?;
        if limited(found.host_config.as_ref()) {
            return Ok(());
        }
        Err(SandboxError::Engine {
            what: "it holds no limits of memory and processes".to_owned(),
            cause: "it is rootless and the machine has the old control groups, or none that it may use".to_owned(),
            mend:
                "Use a machine with the unified hierarchy (cgroup v2) and let the engine's user have the controllers \
                   cpu, memory and pids, or use the engine as root"
                    .to_owned(),
        })
    }

    /// Ends it, with everything inside, and removes it. Fine when it is gone already.
    pub(super) async fn remove(&self, id: &str) -> Result<(), SandboxError> {
        let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
        match self.docker.remove_container(id, Some(options)).await {
            // Not there any more, or being removed by the engine itself.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(self.failed("remove a container", &error)),
        }
    }

    /// Removes what a gateway with this directory left behind. How many there were.
    pub(super) async fn remove_leftovers(&self, home: &str) -> Result<usize, SandboxError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{HOME_LABEL}={home}")])]);
        if self.podman {
            // It can list some as "stopped", which is no word of the API and spoils the whole list.
            let options = PruneContainersOptions { filters: Some(filters.clone()) };
            let pruned = self.docker.prune_containers(Some(options)).await;
            pruned.map_err(|error| self.failed("remove containers that stopped", &error))?;
        }
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let left = self.docker.list_containers(Some(options)).await;
        let ids: Vec<String> = left
            .map_err(|error| self.failed("list containers", &error))?
            .into_iter()
            .filter_map(|container| container.id)
            .collect();
        for id in &ids {
            self.remove(id).await?;
        }
        Ok(ids.len())
    }

    fn failed(&self, step: &str, error: &Error) -> SandboxError {
        SandboxError::Engine {
            what: format!("it cannot {step}"),
            cause: told(error),
            mend: format!("See `oauth3 doctor`, and what the engine at {} writes to its log", self.socket),
        }
    }
}

/// What `/etc/resolv.conf` says in every container.
pub(super) fn resolver() -> String {
    format!("nameserver {NAME_SERVER}\noptions {}\nsearch .\n", NAME_OPTIONS.join(" "))
}

/// The container: every wall that an engine has. Neither code nor environment of the job is in here, so nobody
/// who may ask the engine sees them.
fn body(plan: &Plan<'_>, podman: bool) -> ContainerCreateBody {
    let text = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let map = |pairs: &[(&str, String)]| {
        Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<HashMap<_, _>>())
    };
    let bind = |source: &Path, target: &str| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Default::default()
    };
    let ulimit =
        |name: &str, most: i64| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) };
    let shut = "rw,nosuid,nodev,noexec";
    let id = plan.id;
    // Podman knows no owner and no number of files: what is made there is open to all, of whom there is one.
    let folder = |mode: &str, bytes: u64, more: &str| match podman {
        true => format!("{shut},notmpcopyup,mode=1777,size={bytes}"),
        false => format!("{shut},mode={mode},uid={id},gid={id},size={bytes}{more}"),
    };
    let memory = i64::try_from(plan.memory_bytes).ok();
    let mut mounts = vec![bind(plan.helper, HELPER), bind(plan.socket, GUEST_SOCKET)];
    if podman {
        // Which makes none for a container without a network.
        mounts.push(bind(plan.resolver, "/etc/resolv.conf"));
    }
    let mut names = vec!["sandbox:127.0.0.1".to_owned()];
    names.extend(plan.names.iter().map(|(name, address)| format!("{name}:{address}")));
    let host = HostConfig {
        network_mode: Some("none".to_owned()),
        extra_hosts: Some(names),
        dns: text(&[NAME_SERVER]),
        dns_options: text(NAME_OPTIONS),
        dns_search: text(&["."]),
        // The listeners of the egress are bound by an ordinary user.
        sysctls: map(&[("net.ipv4.ip_unprivileged_port_start", "0".to_owned())]),
        readonly_rootfs: Some(true),
        cap_drop: text(&["ALL"]),
        security_opt: text(&["no-new-privileges:true"]),
        pids_limit: Some(i64::from(plan.processes) + 1),
        // Podman's own are higher than an engine without CAP_SYS_RESOURCE may set.
        ulimits: Some(vec![
            ulimit("nofile", i64::try_from(plan.open_files).unwrap_or(i64::MAX)),
            ulimit("nproc", i64::from(plan.processes) + 1),
        ]),
        memory,
        // Memory and swap together: no swap.
        memory_swap: memory,
        #[allow(clippy::cast_possible_truncation, reason = "bounded by the configuration")]
        nano_cpus: Some((plan.cpus * NANO) as i64),
        ipc_mode: Some("none".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        tmpfs: map(&[
            // As the image has it, whatever the mode says, where it has one: so it is given to the user.
            ("/tmp", folder("1777", TMP_BYTES, &format!(",nr_inodes={TMP_INODES}"))),
            (GUEST_SKILL, folder("0755", SKILL_BYTES, "")),
            (GUEST_CERTIFICATES, folder("0755", CERTIFICATES_BYTES, "")),
        ]),
        mounts: Some(mounts),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(true),
        init: Some(false),
        privileged: Some(false),
        ..Default::default()
    };
    ContainerCreateBody {
        image: Some(plan.image.to_owned()),
        hostname: Some("sandbox".to_owned()),
        user: Some(format!("{id}:{id}")),
        entrypoint: text(&[HELPER, GUEST_SUBCOMMAND]),
        cmd: Some(Vec::new()),
        working_dir: Some("/".to_owned()),
        // The image's own would run beside the job.
        healthcheck: Some(HealthConfig { test: text(&["NONE"]), ..Default::default() }),
        labels: map(&[(RUN_LABEL, plan.run.to_owned()), (HOME_LABEL, plan.home.to_owned())]),
        host_config: Some(host),
        ..Default::default()
    }
}

/// Whether the engine kept what [`body`] asked for.
fn limited(host: Option<&HostConfig>) -> bool {
    let set = |limit: Option<i64>| limit.is_some_and(|limit| limit > 0);
    host.is_some_and(|host| set(host.memory) && set(host.pids_limit))
}

fn unreachable(socket: &str, error: &Error) -> SandboxError {
    SandboxError::Engine {
        what: format!("nothing that is an engine answers at {socket}"),
        cause: told(error),
        mend: "Start it, let this user read and write its socket (group docker, or a rootless engine of this user), \
               or set DOCKER_HOST=unix:///path"
            .to_owned(),
    }
}

/// The engine's words, cut and on one line.
fn told(error: &Error) -> String {
    let mut text = match error {
        Error::DockerResponseServerError { status_code, message } => format!("{status_code} {message}"),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            text
        }
    };
    text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD_CHARS).collect();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_drops_limits_is_noticed() {
        let host = |memory, pids_limit| HostConfig { memory, pids_limit, ..Default::default() };
        assert!(limited(Some(&host(Some(1 << 20), Some(64)))));
        for dropped in
            [host(Some(0), Some(64)), host(Some(1 << 20), Some(0)), host(None, Some(64)), host(Some(9), None)]
        {
            assert!(!limited(Some(&dropped)), "{dropped:?}");
        }
        assert!(!limited(None));
    }

    #[test]
    fn every_wall_of_the_engine_is_asked_for() {
        let plan = Plan {
            run: "r1",
            home: "h1",
            image: "sha256:00",
            helper: Path::new("/usr/bin/oauth3"),
            socket: Path::new("/d/s"),
            resolver: Path::new("/d/r"),
            id: 64_000,
            memory_bytes: 256 << 20,
            processes: 64,
            open_files: 256,
            cpus: 1.0,
            names: vec![("api.example.com".into(), "127.18.0.10".into())],
        };
        let body = serde_json::to_value(body(&plan, false)).unwrap();
        let host = &body["HostConfig"];
        for (key, value) in [
            ("NetworkMode", serde_json::json!("none")),
            ("ReadonlyRootfs", true.into()),
            ("CapDrop", serde_json::json!(["ALL"])),
            ("SecurityOpt", serde_json::json!(["no-new-privileges:true"])),
            ("PidsLimit", 65.into()),
            ("Memory", (256 << 20).into()),
            ("MemorySwap", (256 << 20).into()),
            ("NanoCpus", 1_000_000_000.into()),
            ("IpcMode", "none".into()),
            ("AutoRemove", true.into()),
            ("Privileged", false.into()),
            ("LogConfig", serde_json::json!({ "Type": "none" })),
        ] {
            assert_eq!(host[key], value, "{key}");
        }
        for absent in ["CapAdd", "Binds", "Devices", "PortBindings", "VolumesFrom", "PidMode", "UsernsMode"] {
            assert!(host.get(absent).is_none(), "{absent}");
        }
        assert!(host["Mounts"].as_array().unwrap().iter().all(|mount| mount["ReadOnly"] == true));
        assert_eq!((&body["User"], body.get("Env")), (&"64000:64000".into(), None));
        assert_eq!(body["Labels"]["oauth3.run"], "r1");
    }
}
