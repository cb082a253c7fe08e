//! The system call filter: what a skill never needs and an attacker would like.
//!
//! One program for the kernel's packet filter machine (seccomp(2)), with a binary search over the call's number:
//! the kernel runs it once for every number when it is installed, and a list of comparisons would take longer
//! than the mounts. `EPERM` for what is on the list; `ENOSYS`, so that programs fall back as on an older kernel,
//! for `clone3` (its flags cannot be read by a filter; the C library then uses `clone`) and for everything newer
//! than this list, which the x32 numbers are as well. A foreign architecture (32-bit calls) ends the process.

use super::{Step, StepError, sys};
use libc::sock_filter;
use rustix::io::Errno;
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

/// `AUDIT_ARCH_*` of this architecture; a call made in another one's way is not read by this program.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Socket families that skills may use; interface lists (netlink) and everything exotic are not among them.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
/// Socket types: streams and datagrams, each with and without `SOCK_NONBLOCK` and `SOCK_CLOEXEC`. With protocol 0
/// the other types mean SCTP, DCCP and raw sockets, and make the kernel load their modules.
const TYPES: [i32; 8] = [
    libc::SOCK_STREAM,
    libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
    libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
    libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
    libc::SOCK_DGRAM,
    libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
    libc::SOCK_DGRAM | libc::SOCK_NONBLOCK,
    libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
];
/// Socket protocols: default, TCP, UDP.
const PROTOCOLS: [i32; 3] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
/// Never allowed to a process that is alone: others of its user, and servers.
const DENIED_ALONE: &[libc::c_long] = &[
    libc::SYS_execveat,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_mq_open,
];
#[cfg(target_arch = "x86_64")]
const DENIED_ALONE_HERE: &[libc::c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_ALONE_HERE: &[libc::c_long] = &[];
/// What is left of sockets then: streams over IP. Other protocols of streams (MPTCP) go around Landlock.
const FAMILIES_ALONE: [i32; 2] = [libc::AF_INET, libc::AF_INET6];
const STREAM_TYPES: [i32; 4] = [
    libc::SOCK_STREAM,
    libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
    libc::SOCK_STREAM | libc::SOCK_NONBLOCK,
    libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
];
const PROTOCOLS_ALONE: [i32; 2] = [0, libc::IPPROTO_TCP];
/// Terminal requests that type into or paste to a terminal: `TIOCSTI`, `TIOCLINUX`.
const TERMINAL_REQUESTS: [i32; 2] = [0x5412, 0x541C];
/// Every namespace flag of `clone`.
const NAMESPACE_FLAGS: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Offsets in `struct seccomp_data`: the number, the architecture, and the low half of each argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: [u32; 4] = [16, 24, 32, 40];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Puts this process, and everything it starts, under the filter.
///
/// Where no control group bounds the memory of the tree (`bounded` is false), memory that no process maps must
/// not exist either: nothing would count it.
pub(super) fn apply(bounded: bool) -> Result<(), StepError> {
    install(&fates(bounded))
}

/// The same for a process that shares its namespaces with others of this user, and is alone: besides, no other
/// process can be made or signalled, nothing listened on, and no socket be but a stream over IP.
pub(super) fn apply_alone(bounded: bool) -> Result<(), StepError> {
    install(&fates_alone(bounded, rustix::process::getpid().as_raw_nonzero().get()))
}

fn install(fates: &BTreeMap<u32, Fate>) -> Result<(), StepError> {
    let program = program(fates).step("make the system call filter")?;
    sys::install_filter(&program).step("system call filter")
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Give(u32),
    /// `EPERM` when the argument has one of these bits.
    WithoutBits(usize, i32),
    /// `EPERM` when the argument is one of these.
    NoneOf(usize, &'static [i32]),
    /// `EPERM` unless the argument is this one.
    Only(usize, i32),
    /// `EPERM` for a `clone` that makes a process or a namespace; a thread may be.
    Thread,
    /// `EPERM` unless each argument is one of its values.
    Among(&'static [(usize, &'static [i32])]),
}

fn fates(bounded: bool) -> BTreeMap<u32, Fate> {
    let unmapped: &[libc::c_long] = if bounded { &[] } else { &[libc::SYS_memfd_create] };
    let denied = DENIED.iter().chain(DENIED_HERE).chain(unmapped).map(|&call| (call, Fate::Give(DENY)));
    let rest = [
        (libc::SYS_clone, Fate::WithoutBits(0, NAMESPACE_FLAGS)),
        (libc::SYS_clone3, Fate::Give(ABSENT)),
        (libc::SYS_socket, Fate::Among(&[(0, &FAMILIES), (1, &TYPES), (2, &PROTOCOLS)])),
        (libc::SYS_socketpair, Fate::Among(&[(0, &[libc::AF_UNIX])])),
        (libc::SYS_ioctl, Fate::NoneOf(1, &TERMINAL_REQUESTS)),
        // Its own limits only: process 1 has the same user id, and with its CPU time cut nobody would report the end.
        (libc::SYS_prlimit64, Fate::Among(&[(0, &[0])])),
    ];
    // What is above the last known number is absent as a whole.
    let known =
        |(call, fate): (libc::c_long, Fate)| Some((u32::try_from(call).ok().filter(|n| *n <= LAST_KNOWN)?, fate));
    denied.chain(rest).filter_map(known).collect()
}

/// [`fates`] for a process alone, which is this one.
fn fates_alone(bounded: bool, own: i32) -> BTreeMap<u32, Fate> {
    let mut all = fates(bounded);
    let denied = DENIED_ALONE.iter().chain(DENIED_ALONE_HERE).map(|&call| (call, Fate::Give(DENY)));
    let rest = [
        (libc::SYS_clone, Fate::Thread),
        (libc::SYS_socket, Fate::Among(&[(0, &FAMILIES_ALONE), (1, &STREAM_TYPES), (2, &PROTOCOLS_ALONE)])),
        (libc::SYS_kill, Fate::Only(0, own)),
        (libc::SYS_tgkill, Fate::Only(0, own)),
        // A connection made by sending (TCP Fast Open) is one that Landlock does not see.
        (libc::SYS_sendto, Fate::WithoutBits(3, libc::MSG_FASTOPEN)),
        (libc::SYS_sendmsg, Fate::WithoutBits(2, libc::MSG_FASTOPEN)),
        (libc::SYS_sendmmsg, Fate::WithoutBits(3, libc::MSG_FASTOPEN)),
    ];
    all.extend(denied.chain(rest).filter_map(|(call, fate)| Some((u32::try_from(call).ok()?, fate))));
    all
}

fn program(fates: &BTreeMap<u32, Fate>) -> Result<Vec<sock_filter>, Errno> {
    let architecture = ARCHITECTURE.ok_or(Errno::NOSYS)?;
    // The number line, cut where the fate changes.
    let mut segments: Vec<(u32, Fate)> = Vec::new();
    for number in 0..=LAST_KNOWN {
        let fate = fates.get(&number).copied().unwrap_or(Fate::Give(ALLOW));
        if segments.last().is_none_or(|(_, last)| *last != fate) {
            segments.push((number, fate));
        }
    }
    segments.push((LAST_KNOWN + 1, Fate::Give(ABSENT)));
    let mut program =
        vec![load(ARCH), jump(libc::BPF_JEQ, architecture, 1, 0), give(libc::SECCOMP_RET_KILL_PROCESS), load(NUMBER)];
    program.extend(search(&segments)?);
    Ok(program)
}

/// Code that finds the segment of the loaded number.
fn search(segments: &[(u32, Fate)]) -> Result<Vec<sock_filter>, Errno> {
    if let [(_, fate)] = segments {
        return Ok(judge(*fate));
    }
    let (low, high) = segments.split_at(segments.len() / 2);
    let (start, _) = high.first().ok_or(Errno::INVAL)?;
    let (left, right) = (search(low)?, search(high)?);
    let skip = u8::try_from(left.len()).map_err(|_| Errno::FBIG)?;
    Ok([vec![jump(libc::BPF_JGE, *start, skip, 0)], left, right].concat())
}

fn judge(fate: Fate) -> Vec<sock_filter> {
    let argument = |index: usize| load(ARGUMENTS.get(index).copied().unwrap_or(NUMBER));
    match fate {
        Fate::Give(answer) => vec![give(answer)],
        Fate::WithoutBits(index, bits) => {
            vec![argument(index), jump(libc::BPF_JSET, bits.cast_unsigned(), 0, 1), give(DENY), give(ALLOW)]
        }
        Fate::NoneOf(index, values) => {
            let mut code = vec![argument(index)];
            for value in values {
                code.extend([jump(libc::BPF_JEQ, value.cast_unsigned(), 0, 1), give(DENY)]);
            }
            code.push(give(ALLOW));
            code
        }
        Fate::Only(index, value) => {
            vec![argument(index), jump(libc::BPF_JEQ, value.cast_unsigned(), 1, 0), give(DENY), give(ALLOW)]
        }
        Fate::Thread => vec![
            argument(0),
            jump(libc::BPF_JSET, NAMESPACE_FLAGS.cast_unsigned(), 1, 0),
            jump(libc::BPF_JSET, libc::CLONE_THREAD.cast_unsigned(), 1, 0),
            give(DENY),
            give(ALLOW),
        ],
        Fate::Among(rules) => {
            let mut code = Vec::new();
            for (index, values) in rules {
                code.push(argument(*index));
                for (at, value) in values.iter().enumerate() {
                    // Over the remaining comparisons and the refusal.
                    let over = (values.len() - at) as u8;
                    code.push(jump(libc::BPF_JEQ, value.cast_unsigned(), over, 0));
                }
                code.push(give(DENY));
            }
            code.push(give(ALLOW));
            code
        }
    }
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

const fn jump(comparison: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | comparison | libc::BPF_K) as u16, jt: yes, jf: no, k: value }
}

const fn give(answer: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn answer(program: &[sock_filter], architecture: u32, number: u32, arguments: [u32; 4]) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let one = &program[at];
            at += 1;
            let code = u32::from(one.code);
            match code & 7 {
                libc::BPF_LD => {
                    loaded = match one.k {
                        NUMBER => number,
                        ARCH => architecture,
                        offset => arguments[ARGUMENTS.iter().position(|known| *known == offset).unwrap()],
                    }
                }
                libc::BPF_JMP => {
                    let holds = match code & 0xf0 {
                        libc::BPF_JEQ => loaded == one.k,
                        libc::BPF_JGE => loaded >= one.k,
                        libc::BPF_JSET => loaded & one.k != 0,
                        _ => unreachable!(),
                    };
                    at += usize::from(if holds { one.jt } else { one.jf });
                }
                _ => return one.k,
            }
        }
    }

    fn judged(fates: &BTreeMap<u32, Fate>, number: libc::c_long, [a, b, c, d]: [i32; 4]) -> u32 {
        let program = program(fates).unwrap();
        answer(&program, ARCHITECTURE.unwrap(), number as u32, [a, b, c, d].map(i32::cast_unsigned))
    }

    fn here(bounded: bool, number: libc::c_long, [a, b, c]: [i32; 3]) -> u32 {
        judged(&fates(bounded), number, [a, b, c, 0])
    }

    #[test]
    fn a_process_alone_makes_threads_and_nothing_else() {
        let alone = fates_alone(true, 77);
        let thread = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND;
        for (call, arguments, expected) in [
            (libc::SYS_clone, [thread, 0, 0, 0], ALLOW),
            (libc::SYS_clone, [thread | libc::CLONE_NEWUSER, 0, 0, 0], DENY),
            (libc::SYS_clone, [libc::SIGCHLD, 0, 0, 0], DENY),
            (libc::SYS_clone, [libc::CLONE_VM | libc::CLONE_VFORK, 0, 0, 0], DENY),
            (libc::SYS_clone3, [0; 4], ABSENT),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP, 0], DENY),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_DGRAM, 0, 0], DENY),
            (libc::SYS_socket, [libc::AF_UNIX, libc::SOCK_STREAM, 0, 0], DENY),
            (libc::SYS_socketpair, [libc::AF_UNIX, libc::SOCK_STREAM, 0, 0], ALLOW),
            (libc::SYS_tgkill, [77, 5, 6, 0], ALLOW),
            (libc::SYS_tgkill, [78, 5, 6, 0], DENY),
            (libc::SYS_kill, [1, 9, 0, 0], DENY),
            (libc::SYS_kill, [-1, 9, 0, 0], DENY),
            (libc::SYS_sendto, [3, 0, 0, 0], ALLOW),
            (libc::SYS_sendto, [3, 0, 0, libc::MSG_FASTOPEN], DENY),
            (libc::SYS_sendmsg, [3, 0, libc::MSG_FASTOPEN, 0], DENY),
            (libc::SYS_listen, [3, 1, 0, 0], DENY),
            (libc::SYS_ptrace, [0; 4], DENY),
            (libc::SYS_execve, [0; 4], ALLOW),
        ] {
            assert_eq!(judged(&alone, call, arguments), expected, "{call} {arguments:?}");
        }
        assert!(program(&alone).unwrap().len() < 400);
    }

    #[test]
    fn every_number_has_its_fate() {
        let special = [libc::SYS_clone, libc::SYS_socket, libc::SYS_socketpair, libc::SYS_ioctl, libc::SYS_prlimit64];
        for number in (0..2000).chain([0x4000_0000, 0x4000_0065, u32::MAX.into()]) {
            let expected = if number > libc::c_long::from(LAST_KNOWN) || number == libc::SYS_clone3 {
                ABSENT
            } else if DENIED.contains(&number) || DENIED_HERE.contains(&number) {
                DENY
            } else {
                ALLOW
            };
            if !special.contains(&number) {
                assert_eq!(here(true, number, [0; 3]), expected, "{number}");
            }
        }
        assert_eq!(here(true, libc::SYS_memfd_create, [0; 3]), ALLOW);
        assert_eq!(here(false, libc::SYS_memfd_create, [0; 3]), DENY);
    }

    #[test]
    fn arguments_are_looked_at() {
        for (call, arguments, expected) in [
            (libc::SYS_clone, [libc::SIGCHLD, 0, 0], ALLOW),
            (libc::SYS_clone, [libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0], DENY),
            (libc::SYS_clone, [libc::CLONE_NEWNET, 0, 0], DENY),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_STREAM, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP], ALLOW),
            (libc::SYS_socket, [libc::AF_UNIX, libc::SOCK_STREAM, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0], ALLOW),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_SEQPACKET, 0], DENY),
            (libc::SYS_socket, [libc::AF_INET6, libc::SOCK_DCCP, 0], DENY),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0], DENY),
            (libc::SYS_prlimit64, [0, 7, 0], ALLOW),
            (libc::SYS_prlimit64, [1, 0, 0], DENY),
            (libc::SYS_socket, [libc::AF_NETLINK, libc::SOCK_RAW, 0], DENY),
            (libc::SYS_socket, [libc::AF_VSOCK, libc::SOCK_STREAM, 0], DENY),
            (libc::SYS_socket, [libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP], DENY),
            (libc::SYS_socketpair, [libc::AF_UNIX, libc::SOCK_STREAM, 0], ALLOW),
            (libc::SYS_socketpair, [libc::AF_INET, libc::SOCK_STREAM, 0], DENY),
            (libc::SYS_ioctl, [0, 0x5401, 0], ALLOW),
            (libc::SYS_ioctl, [0, 0x5412, 0], DENY),
        ] {
            assert_eq!(here(true, call, arguments), expected, "{call} {arguments:?}");
        }
    }

    #[test]
    fn another_architectures_call_ends_the_process() {
        assert_eq!(answer(&program(&fates(true)).unwrap(), 0x4000_0003, 20, [0; 4]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn the_search_is_short() {
        let program = program(&fates(false)).unwrap();
        assert!(program.len() < 300, "{}", program.len());
    }
}
