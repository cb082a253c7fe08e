//! The system call filter: what a skill never needs and an attacker would like.
//!
//! Two programs. The first answers `ENOSYS`, so that programs fall back as on an older kernel: `clone3` (its
//! flags cannot be read by a filter; the C library then uses `clone`), everything newer than this list, and
//! the x32 numbers that would slip past a list of x86-64 ones. The second answers `EPERM` to the list below.
//! A foreign architecture (32-bit calls) ends the process.

use super::{Step, StepError};
use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};
use std::collections::BTreeMap;

/// Never allowed, with any argument.
const DENIED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    STATMOUNT,
    LISTMOUNT,
    OPEN_TREE_ATTR,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    // Large and young parts of the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_memfd_secret,
    libc::SYS_seccomp,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    // Memory and queues that outlive their process (System V).
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Files by handle: around every path.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Denied too, and only there on this architecture.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[libc::c_long] = &[];

/// Numbers that are the same everywhere and young in the libc crate.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;
const OPEN_TREE_ATTR: libc::c_long = 467;
/// The newest call that was looked at when this list was made (`mseal`, Linux 6.10).
const LAST_KNOWN: u32 = 462;

/// Socket families that skills may use; interface lists (netlink) and everything exotic are not among them.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// Socket protocols: default, TCP, UDP.
const PROTOCOLS: [i32; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
/// Terminal requests that type into or paste to a terminal.
const TERMINAL_REQUESTS: [u64; 2] = [libc::TIOCSTI, 0x541C /* TIOCLINUX */];
/// Every namespace flag of `clone`.
const NAMESPACE_FLAGS: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    0x80, // CLONE_NEWTIME
];

/// Puts this process, and everything it starts, under the filter.
///
/// Where no control group bounds the memory of the tree (`bounded` is false), memory that no process maps must
/// not exist either: nothing would count it.
pub(super) fn apply(bounded: bool) -> Result<(), StepError> {
    let denied = denied(bounded).step("make the system call filter")?;
    // The list goes last: it forbids further filters.
    apply_filter(&absent()).map_err(|_| Errno::PERM).step("system call filter")?;
    apply_filter(&denied).map_err(|_| Errno::PERM).step("system call filter")
}

fn denied(bounded: bool) -> Result<BpfProgram, Errno> {
    let bad = |_| Errno::INVAL;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let unmapped: &[libc::c_long] = if bounded { &[] } else { &[libc::SYS_memfd_create] };
    for &call in DENIED.iter().chain(DENIED_HERE).chain(unmapped) {
        rules.insert(call, Vec::new());
    }
    let when = |argument, length, operator, value| {
        SeccompCondition::new(argument, length, operator, value).map_err(|_| Errno::INVAL)
    };
    let any_of = |conditions: Vec<SeccompCondition>| {
        conditions
            .into_iter()
            .map(|one| SeccompRule::new(vec![one]).map_err(|_| Errno::INVAL))
            .collect::<Result<Vec<_>, _>>()
    };
    let dword = SeccompCmpArgLen::Dword;

    let clone: Result<Vec<_>, _> = NAMESPACE_FLAGS
        .iter()
        // CLONE_NEWTIME shares its bit with the exit signal of `clone`, where no signal is that high.
        .map(|&flag| (flag.cast_unsigned()).into())
        .map(|flag: u64| when(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag))
        .collect();
    rules.insert(libc::SYS_clone, any_of(clone?)?);

    let not_in = |argument, allowed: &[i32]| -> Result<SeccompRule, Errno> {
        let all: Result<Vec<_>, _> = allowed
            .iter()
            .map(|&value| when(argument, dword.clone(), SeccompCmpOp::Ne, u64::from(value.cast_unsigned())))
            .collect();
        SeccompRule::new(all?).map_err(|_| Errno::INVAL)
    };
    rules.insert(libc::SYS_socket, vec![not_in(0, &FAMILIES)?, not_in(2, &PROTOCOLS)?]);
    rules.insert(libc::SYS_socketpair, vec![not_in(0, &[libc::AF_UNIX])?]);

    let ioctl: Result<Vec<_>, _> =
        TERMINAL_REQUESTS.iter().map(|&request| when(1, dword.clone(), SeccompCmpOp::Eq, request)).collect();
    rules.insert(libc::SYS_ioctl, any_of(ioctl?)?);

    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| Errno::NOSYS)?;
    let deny = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, deny, arch).and_then(TryInto::try_into).map_err(bad)
}

/// The program that answers `ENOSYS`, by hand: seccompiler matches single numbers only.
fn absent() -> BpfProgram {
    let one = |code: u32, jt: u8, jf: u8, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let greater = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    vec![
        one(load, 0, 0, 0),             // the call's number is the first field of `struct seccomp_data`
        one(greater, 2, 0, LAST_KNOWN), // x32 numbers have a high bit, so they are above it as well
        one(equal, 1, 0, libc::SYS_clone3 as u32),
        one(give, 0, 0, libc::SECCOMP_RET_ALLOW),
        one(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_fits_into_the_kernels_bound() {
        let program = denied(false).unwrap();
        assert!(program.len() < 4096, "{}", program.len());
    }

    #[test]
    fn every_new_number_above_the_list_is_absent() {
        // The young ones that are on the list by name are covered twice.
        assert!(DENIED.iter().all(|&call| call >= 0));
        assert!(OPEN_TREE_ATTR > libc::c_long::from(LAST_KNOWN));
    }
}
