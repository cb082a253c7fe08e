//! The file system inside: an empty root in memory, system directories bound read-only, nothing else of the host.
//!
//! Sources are taken as detached trees first, so that nothing that is mounted later can hide them, and while
//! this process still has the caller's user id, so that a runtime below a private directory can be reached.

use super::limits::TMP_BYTES;
use super::{Step, StepError, sys};
use crate::wire::{Bind, JobHead, Setup, Terms};
use rustix::fs::{CWD, FileType, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// The root in memory holds code, what it imports, certificate and mount points only. Bytes.
const ROOT_BYTES: u64 = 64 << 20;
/// Files and directories in the root, and in `/tmp`.
const ROOT_INODES: u32 = 16384;
const TMP_INODES: u32 = 8192;
/// What stands in the place of a hidden directory: room for itself.
const HIDDEN_BYTES: u64 = 4096;
const HIDDEN_INODES: u32 = 1;
/// Directories at the top that are links on a merged system and directories on an older one.
const SYSTEM_DIRECTORIES: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// What of the host's `/etc` is shown: how to find libraries, and which `awk` is meant.
const ETC: [&str; 2] = ["ld.so.cache", "alternatives"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// Where certificates are looked for: the bundle, and its other names on other systems.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
const BUNDLE_NAMES: [&str; 4] = [
    "etc/ssl/cert.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

const SHUT: u64 = (MountAttrFlags::MOUNT_ATTR_RDONLY.bits() | MountAttrFlags::MOUNT_ATTR_NOSUID.bits()) as u64;
const NODEV: u64 = MountAttrFlags::MOUNT_ATTR_NODEV.bits() as u64;
const NOEXEC: u64 = MountAttrFlags::MOUNT_ATTR_NOEXEC.bits() as u64;

/// A detached read-only tree and where it goes, relative to the root.
struct Tree {
    fd: OwnedFd,
    target: PathBuf,
    directory: bool,
}

/// Everything that is taken from the host.
pub(super) struct Sources {
    trees: Vec<Tree>,
    links: Vec<(PathBuf, PathBuf)>,
    /// Shown only when the job asks for it.
    on_demand: Vec<Tree>,
}

/// Cuts this mount namespace off from the host's and takes the sources.
pub(super) fn collect(setup: &Setup) -> Result<Sources, StepError> {
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).step("open /")?;
    sys::mount_setattr(&root, 0, libc::MS_PRIVATE, true).step("make mounts private")?;
    let mut sources =
        Sources { trees: vec![take("/usr", "usr", SHUT | NODEV)?], links: Vec::new(), on_demand: Vec::new() };
    for name in SYSTEM_DIRECTORIES {
        let path = Path::new("/").join(name);
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_symlink() => {
                sources.links.push((name.into(), fs::read_link(&path).step(&format!("read /{name}"))?));
            }
            Ok(data) if data.is_dir() => sources.trees.push(take(&path, name, SHUT | NODEV)?),
            _ => {}
        }
    }
    for name in ETC {
        let path = Path::new("/etc").join(name);
        if path.exists() {
            sources.trees.push(take(&path, &format!("etc/{name}"), SHUT | NODEV | NOEXEC)?);
        }
    }
    for name in DEVICES {
        sources.trees.push(take(Path::new("/dev").join(name), &format!("dev/{name}"), SHUT | NOEXEC)?);
    }
    for Bind { source, target } in &setup.binds {
        // A runtime that is gone fails the runs that need it, and no other.
        sources.on_demand.extend(take(source, target.trim_start_matches('/'), SHUT | NODEV).ok());
    }
    Ok(sources)
}

fn take(path: impl AsRef<Path>, target: &str, attributes: u64) -> Result<Tree, StepError> {
    let path = path.as_ref();
    let name = || format!("bind {}", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let fd = open_tree(CWD, path, flags).step(&name())?;
    sys::mount_setattr(&fd, attributes, 0, true).step(&name())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).step(&name())?.st_mode);
    Ok(Tree { fd, target: target.into(), directory: kind == FileType::Directory })
}

/// What was built.
pub(super) struct Root {
    fd: OwnedFd,
    on_demand: Vec<Tree>,
    /// Whether `/proc` shows the code's own processes only.
    pub(super) private_proc: bool,
}

/// Builds the root and moves into it. Only the job's files are missing, and the root is still writable.
pub(super) fn build(sources: Sources) -> Result<Root, StepError> {
    let root = memory("0755", ROOT_BYTES, ROOT_INODES, MountAttrFlags::MOUNT_ATTR_NOSUID).step("mount the root")?;
    // Any directory serves as the place: the sources are detached already. This one is always there.
    attach(&root, "/usr").step("place the root")?;
    rustix::process::fchdir(&root).step("enter the root")?;
    for directory in ["etc", "dev", "proc", "tmp", "skill"] {
        fs::create_dir(directory).step("make directories")?;
    }
    for (name, target) in &sources.links {
        symlink(target, name).step("make links")?;
    }
    sources.trees.iter().try_for_each(show)?;
    let on_demand = sources.on_demand;
    drop(sources.trees);
    etc()?;
    for (name, target) in
        [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("shm", "/tmp")]
    {
        symlink(target, Path::new("dev").join(name)).step("make links")?;
    }
    let shut = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tmp = memory("1777", TMP_BYTES, TMP_INODES, shut).step("mount /tmp")?;
    attach(&tmp, "tmp").step("mount /tmp")?;
    let private_proc = processes(shut)?;
    rustix::process::pivot_root(".", ".").step("change the root")?;
    unmount(".", UnmountFlags::DETACH).step("leave the old root")?;
    rustix::process::chdir("/").step("enter the root")?;
    Ok(Root { fd: root, on_demand, private_proc })
}

/// Shows the runtime, writes the job's files and makes the root read-only. To let go of what was not shown takes the
/// kernel milliseconds, so that the caller keeps it to the end.
pub(super) fn finish(root: &Root, terms: &Terms, job: &JobHead, contents: &[u8]) -> Result<(), StepError> {
    if let Some(target) = &terms.show {
        let relative = Path::new(target.trim_start_matches('/'));
        let tree = root.on_demand.iter().find(|tree| tree.target == relative).ok_or(Errno::NOENT);
        show(tree.step(&format!("bind {}", relative.display()))?)?;
    }
    write(Path::new("etc/hosts"), terms.hosts_file.as_bytes())?;
    for (path, bytes) in job.contents(contents).step("read the job")? {
        // Checked where it came in; a path that leads elsewhere must not be possible here either.
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let path = Path::new("skill").join(path);
        let (true, Some(directory)) = (plain, path.parent()) else {
            return Err(Errno::INVAL).step("write files into the root");
        };
        fs::create_dir_all(directory).step("make directories")?;
        write(&path, bytes)?;
    }
    write(Path::new(BUNDLE), job.ca_pem.as_bytes())?;
    sys::mount_setattr(&root.fd, SHUT | NODEV, 0, false).step("make the root read-only")
}

/// Puts a tree where it belongs, below the current directory.
fn show(Tree { fd, target, directory }: &Tree) -> Result<(), StepError> {
    let step = || format!("bind {}", target.display());
    if *directory {
        fs::create_dir_all(target).step(&step())?;
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(target, "")).step(&step())?;
    }
    attach(fd, target).step(&step())
}

fn etc() -> Result<(), StepError> {
    let files = [
        ("passwd", "skill:x:1000:1000:skill:/tmp:/bin/sh\n"),
        ("group", "skill:x:1000:\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n"),
    ];
    files.iter().try_for_each(|(name, text)| write(&Path::new("etc").join(name), text.as_bytes()))?;
    // The bundle itself comes with the job.
    Path::new(BUNDLE).parent().map_or(Ok(()), fs::create_dir_all).step("make directories")?;
    BUNDLE_NAMES.map(Path::new).iter().try_for_each(|name| {
        name.parent().map_or(Ok(()), fs::create_dir_all).step("make directories")?;
        symlink(Path::new("/").join(BUNDLE), name).step("make links")
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StepError> {
    fs::write(path, bytes)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o444)))
        .step("write files into the root")
}

fn memory(mode: &str, bytes: u64, inodes: u32, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "mode", mode)?;
    fsconfig_set_string(&fs, "size", bytes.to_string())?;
    fsconfig_set_string(&fs, "nr_inodes", inodes.to_string())?;
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Lays an empty directory over one. What is open below it already stays open.
pub(super) fn hide(path: &Path) -> Result<(), StepError> {
    let shut = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let empty = memory("0500", HIDDEN_BYTES, HIDDEN_INODES, shut).step("hide a directory")?;
    attach(&empty, path).step("hide a directory")
}

/// Mounts `/proc`, as private as this kernel can: own processes only, and nothing but processes.
fn processes(attributes: MountAttrFlags) -> Result<bool, StepError> {
    let mount = |options: &[(&str, &str)]| {
        let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            fsconfig_set_string(&fs, *key, *value)?;
        }
        fsconfig_create(&fs)?;
        attach(&fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?, "proc")
    };
    if mount(&[("hidepid", "ptraceable"), ("subset", "pid")]).is_ok() {
        return Ok(true);
    }
    mount(&[]).step("mount /proc").map(|()| false)
}

fn attach(fd: &OwnedFd, target: impl AsRef<Path>) -> Result<(), Errno> {
    move_mount(fd, "", CWD, target.as_ref(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
