//! Giving up rights: capabilities, new privileges, and the file system by Landlock.

use super::{Step, StepError};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

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
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).step("empty the capability bounding set"),
        }
    }
    clear_ambient_capability_set().step("empty the ambient capabilities")?;
    set_no_new_privs(true).step("forbid new privileges")?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .step("drop the capabilities")
}

/// Puts the process under Landlock where the kernel has it, and says whether it does. The mount namespace is
/// the wall; this one stands behind it.
pub(super) fn restrict_files() -> Result<bool, StepError> {
    let refuse = |_| StepError { step: "Landlock".to_owned(), errno: Errno::PERM };
    let all = AccessFs::from_all(LANDLOCK);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(refuse)?;
    let read = AccessFs::from_read(LANDLOCK);
    let paths = READABLE.iter().chain(&STORES).map(|path| (*path, read)).chain(WRITABLE.map(|path| (path, all)));
    for (path, access) in paths {
        if let Ok(fd) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(refuse)?;
        }
    }
    let status = rules.restrict_self().map_err(refuse)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
