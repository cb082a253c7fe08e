//! Where control groups can be made: the unified hierarchy, else the old memory and pids ones with the unified one
//! beside them to count CPU time, else nowhere.

use crate::wire::CgroupPlan;
use rustix::fs::{Access, access};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Groups are called `oauth3-<gateway's process id>-<number>`.
const PREFIX: &str = "oauth3-";
/// Numbers the groups of this process, over every runner in it.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A place for groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    V2 { directory: PathBuf },
    V1 { memory: PathBuf, pids: Option<PathBuf>, cpu: Option<PathBuf> },
}

impl Base {
    /// The directories of the next run; not made yet.
    pub(crate) fn next(&self) -> CgroupPlan {
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let inside = |base: &Path| base.join(&name).to_string_lossy().into_owned();
        match self {
            Self::V2 { directory } => CgroupPlan::V2 { directory: inside(directory) },
            Self::V1 { memory, pids, cpu } => CgroupPlan::V1 {
                memory: inside(memory),
                pids: pids.as_deref().map(inside),
                cpu: cpu.as_deref().map(inside),
            },
        }
    }

    /// Removes groups of gateways that are gone. Only empty ones can be removed, and they are empty: process 1
    /// of a sandbox dies with its guard.
    pub(crate) fn remove_leftovers(&self) {
        let directories: Vec<&PathBuf> = match self {
            Self::V2 { directory } => vec![directory],
            Self::V1 { memory, pids, cpu } => std::iter::once(memory).chain(pids).chain(cpu).collect(),
        };
        for entry in directories.into_iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
            let name = entry.file_name();
            let owner =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')?.0.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// Removes a run's groups, if they are still there. False when one could not be removed yet.
pub(crate) fn remove(plan: &CgroupPlan) -> bool {
    plan.directories().into_iter().all(|directory| {
        fs::remove_dir(directory).err().is_none_or(|error| error.kind() == std::io::ErrorKind::NotFound)
    })
}

/// Finds the best place that works, by trying it.
pub(crate) fn discover() -> Option<Base> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    v2_candidates(&mounts, &own)
        .into_iter()
        .find(|(directory, enable)| works_v2(directory, *enable))
        .map(|(directory, _)| Base::V2 { directory })
        .or_else(|| {
            let find = |controller, file| {
                v1_candidates(&mounts, &own, controller).into_iter().find(|directory| works(directory, file, "1G"))
            };
            let memory = find("memory", "memory.limit_in_bytes")?;
            let pids = v1_candidates(&mounts, &own, "pids").into_iter().find(|base| works(base, "pids.max", "64"));
            let mut unified = v2_candidates(&mounts, &own).into_iter().map(|(directory, _)| directory);
            let cpu = unified.find(|directory| counts_cpu(directory));
            Some(Base::V1 { memory, pids, cpu })
        })
}

/// The directories to try, and whether controllers may be enabled there: this process's own group and the one
/// above (a service with `Delegate=` and `DelegateSubgroup=`, or a user's slice), then the top.
fn v2_candidates(mounts: &str, own: &str) -> Vec<(PathBuf, bool)> {
    let Some((root, point)) = mounts.lines().find_map(|line| mount_of(line, "cgroup2", None)) else {
        return Vec::new();
    };
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    let own = below(&point, &root, path);
    let mut all = vec![(own.clone(), true)];
    if own != point {
        all.extend(own.parent().map(|parent| (parent.to_owned(), true)));
        all.push((point, false));
    }
    all
}

fn works_v2(directory: &Path, enable: bool) -> bool {
    let enabled = || {
        let text = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
        ["memory", "pids"].iter().all(|name| text.split_whitespace().any(|word| word == *name))
    };
    if !enabled() && enable {
        let _ = fs::write(directory.join("cgroup.subtree_control"), "+memory +pids");
    }
    enabled()
        && access(directory.join("cgroup.procs"), Access::WRITE_OK).is_ok()
        && works(directory, "memory.max", "1G")
}

/// Whether processes can be born into groups here, which then count their CPU time: no controller is needed for it.
fn counts_cpu(directory: &Path) -> bool {
    access(directory.join("cgroup.procs"), Access::WRITE_OK).is_ok()
        && tried(directory, |group| group.join("cpu.stat").exists())
}

fn v1_candidates(mounts: &str, own: &str, controller: &str) -> Vec<PathBuf> {
    let Some((root, point)) = mounts.lines().find_map(|line| mount_of(line, "cgroup", Some(controller))) else {
        return Vec::new();
    };
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers.split(',').any(|name| name == controller).then(|| fields.next()).flatten()
    });
    path.map(|path| below(&point, &root, path)).into_iter().chain([point.clone()]).collect()
}

/// Root and mount point of a line of mountinfo, when it is a mount of this kind.
fn mount_of(line: &str, kind: &str, controller: Option<&str>) -> Option<(String, PathBuf)> {
    let (mount, fs) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut fs = fs.split(' ');
    let (found, options) = (fs.next()?, fs.nth(1)?);
    let right = found == kind && controller.is_none_or(|name| options.split(',').any(|option| option == name));
    right.then(|| (root.to_owned(), PathBuf::from(point)))
}

/// The directory of a group, as seen through a mount whose root is `root`.
fn below(point: &Path, root: &str, path: &str) -> PathBuf {
    let relative = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain && relative != Path::new("") { point.join(relative) } else { point.to_owned() }
}

/// Tries a directory and one limit.
fn works(base: &Path, file: &str, value: &str) -> bool {
    tried(base, |group| fs::write(group.join(file), value).is_ok())
}

/// Asks something of a group that is made for it.
fn tried(base: &Path, works: impl FnOnce(&Path) -> bool) -> bool {
    let name = format!("{PREFIX}{}-try{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = base.join(name);
    if fs::create_dir(&directory).is_err() {
        return false;
    }
    let works = works(&directory);
    let _ = fs::remove_dir(&directory);
    works
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "1 2 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          1 2 0:4 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn the_own_group_is_tried_before_the_one_above_and_the_top() {
        let found = v2_candidates(
            "1 2 0:4 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            "0::/system.slice/oauth3.service/gateway\n",
        );
        let at = |path: &str| Path::new("/sys/fs/cgroup").join(path);
        assert_eq!(
            found,
            [
                (at("system.slice/oauth3.service/gateway"), true),
                (at("system.slice/oauth3.service"), true),
                ("/sys/fs/cgroup".into(), false),
            ]
        );
    }

    #[test]
    fn old_hierarchies_are_found_by_controller() {
        let found = v1_candidates(HYBRID, "4:memory:/a/b\n8:pids:/\n0::/\n", "memory");
        assert_eq!(found, [Path::new("/sys/fs/cgroup/memory/a/b"), Path::new("/sys/fs/cgroup/memory")]);
        assert!(v1_candidates(HYBRID, "8:pids:/\n", "pids").is_empty());
    }

    #[test]
    fn a_path_outside_the_mount_never_leaves_the_mount_point() {
        assert_eq!(below(Path::new("/m"), "/", "/../../x"), Path::new("/m"));
        assert_eq!(below(Path::new("/m"), "/docker/abc", "/docker/abc/d"), Path::new("/m/d"));
    }

    #[test]
    fn groups_of_a_dead_gateway_are_removed_and_others_stay() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: String| fs::create_dir(base.path().join(name)).unwrap();
        let own = format!("oauth3-{}-3", std::process::id());
        // Process ids end far below this one.
        make("oauth3-999999999-0".to_owned());
        make(own.clone());
        make("oauth3-backup".to_owned());
        make("other".to_owned());
        Base::V1 { memory: base.path().into(), pids: None, cpu: None }.remove_leftovers();
        let mut left: Vec<_> =
            fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut kept = vec![own, "oauth3-backup".to_owned(), "other".to_owned()];
        kept.sort();
        assert_eq!(left, kept);
    }
}
