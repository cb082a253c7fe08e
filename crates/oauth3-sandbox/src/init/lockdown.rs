//! Giving up rights: capabilities, new privileges, and the file system by Landlock.

use super::{Step, StepError};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};
use std::path::{Path, PathBuf};

/// The newest Landlock that we know the meaning of; older kernels get what they have.
const LANDLOCK: ABI = ABI::V6;
/// Read and execute only; what is not there is left out.
const READABLE: [&str; 11] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/proc", "/runtime", "/skill"];
/// Package stores that hold whole systems.
pub(super) const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];
/// Write too.
const WRITABLE: [&str; 2] = ["/tmp", "/dev"];

/// Makes sure that no program can give rights back, and drops every capability from every set.
pub(super) fn drop_privileges() -> Result<(), StepError> {
    let locked = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(locked).step("lock the capability rules")?;
    empty_bounding_set()?;
    drop_capabilities()
}

/// Takes every capability from what programs could ever get. Needs one itself.
pub(super) fn empty_bounding_set() -> Result<(), StepError> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).step("empty the capability bounding set"),
        }
    }
    Ok(())
}

/// Drops every capability that this process has, and forbids to gain others.
pub(super) fn drop_capabilities() -> Result<(), StepError> {
    clear_ambient_capability_set().step("empty the ambient capabilities")?;
    set_no_new_privs(true).step("forbid new privileges")?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .step("drop the capabilities")
}

/// Puts the process under Landlock where the kernel has it, and says whether it does. The mount namespace is
/// the wall; this one stands behind it.
pub(super) fn restrict_files() -> Result<bool, StepError> {
    let readable: Vec<&str> = READABLE.iter().chain(&STORES).copied().collect();
    restrict(&readable, &WRITABLE)
}

/// [`restrict_files`] with other paths: read and execute below `readable`, everything below `writable`.
pub(super) fn restrict(readable: &[&str], writable: &[&str]) -> Result<bool, StepError> {
    let refuse = |_| StepError { step: "Landlock".to_owned(), errno: Errno::PERM };
    let all = AccessFs::from_all(LANDLOCK);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(refuse)?;
    let read = AccessFs::from_read(LANDLOCK);
    let paths = readable.iter().map(|path| (*path, read)).chain(writable.iter().map(|path| (*path, all)));
    for (path, access) in paths {
        if let Ok(fd) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refuse)?;
        }
    }
    let status = rules.restrict_self().map_err(refuse)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// What a process may use that has no mounts and no network of its own. Landlock is then the wall, so it must be
/// all there.
pub(super) struct Alone<'a> {
    /// To be read.
    pub(super) readable: &'a [PathBuf],
    /// To be read and executed: the runtime and its loader, nothing else.
    pub(super) executable: &'a [PathBuf],
    /// To be read and written.
    pub(super) writable: &'a Path,
    /// The only port that may be connected to; on any address, which Landlock does not look at.
    pub(super) port: u16,
}

/// Puts this process under Landlock with files and TCP, or fails.
pub(super) fn restrict_alone(alone: &Alone<'_>) -> Result<(), StepError> {
    let refuse = |_| StepError { step: "Landlock".to_owned(), errno: Errno::PERM };
    let (all, write) = (AccessFs::from_all(LANDLOCK), AccessFs::from_all(LANDLOCK) & !AccessFs::Execute);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(|rules| {
            rules.set_compatibility(CompatLevel::HardRequirement).handle_access(AccessNet::from_all(ABI::V4))
        })
        .and_then(Ruleset::create)
        .and_then(|rules| rules.add_rule(NetPort::new(alone.port, AccessNet::ConnectTcp)))
        .map_err(refuse)?
        .set_compatibility(CompatLevel::BestEffort);
    let readable = alone.readable.iter().map(|path| (path.as_path(), read));
    let executable = alone.executable.iter().map(|path| (path.as_path(), AccessFs::ReadFile | AccessFs::Execute));
    for (path, access) in readable.chain(executable).chain([(alone.writable, write)]) {
        if let Ok(fd) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refuse)?;
        }
    }
    match rules.restrict_self().map_err(refuse)?.ruleset {
        RulesetStatus::NotEnforced => Err(StepError { step: "Landlock".to_owned(), errno: Errno::NOSYS }),
        _ => Ok(()),
    }
}
