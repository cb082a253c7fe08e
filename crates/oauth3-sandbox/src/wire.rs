//! What runner, stage 0 and the sandboxed child say to each other over `SOCK_SEQPACKET` sockets.
//!
//! Every message is one packet of JSON. Descriptors ride along as `SCM_RIGHTS`. The job itself (code and
//! environment, up to megabytes) travels as one sealed memory file, so that it never touches a disk.

use oauth3_core::{ListenerRole, ProxyKey, SecretName};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, pread, write};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Largest packet, in bytes. 64 hosts of 253 bytes and a few paths fit many times.
const MAX_PACKET_BYTES: usize = 64 << 10;
/// Most descriptors in one packet: two per port (IPv4 and IPv6) of 64 hosts, two processes, and the fixed ones.
/// The kernel's own bound is 253.
const MAX_FDS: usize = 200;
/// Largest job file, in bytes (32 MiB): code, what it imports, environment and certificate.
const MAX_JOB_BYTES: usize = 32 << 20;
/// What the guard says to process 1 once it is in its control group: what is made from here on is born there.
pub(crate) const SETTLED: &[u8] = b"settled";
/// Bytes of the length field before the job's head.
const HEAD_LENGTH_BYTES: usize = 4;

/// The first message to stage 0: what the sandbox is made of. Nothing in it is about what will run, so that one can
/// be made before it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The host id that the inside user is mapped to; `None` maps to the caller's own.
    pub(crate) host_uid: Option<u32>,
    /// Ports with a TLS listener.
    pub(crate) tls_ports: Vec<u16>,
    /// Where the proxy listens on 127.0.0.1.
    pub(crate) proxy_port: u16,
    /// Where to make cgroups.
    pub(crate) cgroup: Option<CgroupPlan>,
    /// What can be shown read-only besides the system directories; [`Terms::show`] chooses.
    pub(crate) binds: Vec<Bind>,
    /// Whether the embedded engine is to be started before the job comes.
    pub(crate) engine: bool,
}

/// What one run gets. Comes with the job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The text of `/etc/hosts`.
    pub(crate) hosts_file: String,
    /// Wall clock, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// CPU time of the tree, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Size of one file, in bytes.
    pub(crate) file_bytes: u64,
    /// Open files of one process.
    pub(crate) open_files: u64,
    /// Memory of the tree, in bytes.
    pub(crate) memory_bytes: u64,
    /// Processes and threads.
    pub(crate) processes: u32,
    /// Bound of private writable memory of one process, in bytes, when no cgroup bounds the tree.
    pub(crate) data_bytes: u64,
    /// The target of the bind that is shown, if any is.
    pub(crate) show: Option<String>,
}

/// The first message to the guard of a run without namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AloneSetup {
    /// The user to take, and where to make cgroups; ports are the runner's business.
    pub(crate) setup: Setup,
    /// The run's own directory; empty.
    pub(crate) directory: String,
}

/// One read-only bind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// Path on the host.
    pub(crate) source: String,
    /// Path inside, absolute.
    pub(crate) target: String,
}

/// Where this run's control groups go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum CgroupPlan {
    /// The unified hierarchy: one directory.
    V2 {
        /// To be made.
        directory: String,
    },
    /// The old hierarchies: one directory each.
    V1 {
        /// To be made, memory controller.
        memory: String,
        /// To be made, process count controller.
        pids: Option<String>,
        /// To be made, in the unified hierarchy beside the old ones: it counts CPU time.
        cpu: Option<String>,
    },
}

impl CgroupPlan {
    /// Every directory of it.
    pub(crate) fn directories(&self) -> Vec<&str> {
        match self {
            Self::V2 { directory } => vec![directory],
            Self::V1 { memory, pids, cpu } => {
                std::iter::once(memory).chain(pids).chain(cpu).map(String::as_str).collect()
            }
        }
    }
}

/// What the job process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Launch {
    /// The engine inside oauth3 itself.
    Embedded {
        /// The proxy's port on 127.0.0.1.
        proxy_port: u16,
        /// The key that it wants.
        proxy_key: Option<ProxyKey>,
        /// Memory of the engine, in bytes.
        memory_bytes: u64,
        /// The path of the file that runs, below `/skill`.
        entry: String,
    },
    /// A program.
    Exec {
        /// The program and its arguments; the program as an absolute path inside.
        argv: Vec<String>,
    },
    /// Nothing: builds the whole sandbox, locks it down and ends with 0.
    Nothing,
}

/// One file of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobFile {
    /// Plain relative path below `/skill`.
    pub(crate) path: String,
    /// Size, in bytes.
    pub(crate) size: usize,
}

/// The head of the job file; the files' contents follow, one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobHead {
    pub(crate) launch: Launch,
    /// What goes to `/skill`, in the order of the contents.
    pub(crate) files: Vec<JobFile>,
    /// The working directory at the start.
    pub(crate) directory: String,
    pub(crate) env: Vec<(String, String)>,
    /// What else the environment gets, from the keeper.
    pub(crate) revealed: Vec<SecretName>,
    pub(crate) ca_pem: String,
}

/// What the sandbox can and has, for the doctor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Features {
    /// Landlock ABI; 0 without.
    pub(crate) landlock_abi: i32,
    /// Whether `/proc` shows the code's own processes only.
    pub(crate) private_proc: bool,
    /// Programs of runtimes that an image has; empty where the runner knows them.
    pub(crate) programs: Vec<String>,
}

/// What the child says to stage 0.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// Everything is built; only the job is missing. The listeners come with this, in this order, and then the end
    /// of a pipe for the keeper to write values to.
    Built { roles: Vec<ListenerRole>, features: Features },
    /// It could not go on.
    Failed { step: String, errno: i32 },
    /// The job's process ended, and every other process inside but process 1: wait status of the job's, and CPU time
    /// of the tree, in milliseconds.
    Exited { status: i32, cpu_ms: u64 },
}

/// What stage 0 says to the runner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromStage0 {
    /// Ready for the job. Descriptors of the guard and of process 1 come with this (of a native sandbox), then the
    /// listeners, then the end of a pipe for the keeper to write values to.
    Ready { roles: Vec<ListenerRole>, features: Features, cgroup: String },
    /// The sandbox cannot be built.
    Failed { step: String, errno: i32 },
    /// The run is over and no process of its code is left.
    Done { end: End, duration_us: u64, cpu_ms: u64, memory_bytes: Option<u64> },
}

/// How a run ended, as stage 0 saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The job's process ended with this wait status.
    Status(i32),
    /// Wall clock.
    TimedOut,
    /// CPU time.
    OutOfCpu,
    /// The memory limit.
    OutOfMemory,
    /// Something ended the sandbox from outside.
    Lost,
}

/// How a program is to be enclosed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Enclose {
    /// Ports of loopback that are served from outside.
    pub(crate) ports: Vec<u16>,
    /// Directories that are empty inside.
    pub(crate) hide: Vec<PathBuf>,
}

/// What the process says that becomes the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromEnclosed {
    /// It is about to; the listeners come along.
    Ready,
    /// It cannot.
    Failed {
        /// The step.
        step: String,
        /// The system's answer.
        errno: i32,
    },
}

/// A received packet.
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Packet {
    /// Reads the packet as JSON.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Errno> {
        serde_json::from_slice(&self.bytes).map_err(|_| Errno::BADMSG)
    }
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    send_bytes(socket, &bytes, fds)
}

/// Sends one packet.
pub(crate) fn send_bytes(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if bytes.len() > MAX_PACKET_BYTES || fds.len() > MAX_FDS {
        return Err(Errno::MSGSIZE);
    }
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop),
        }
    }
}

/// Receives one packet; `None` when the other side is gone. Blocks as the socket does.
pub(crate) fn receive(socket: impl AsFd, flags: RecvFlags) -> Result<Option<Packet>, Errno> {
    let mut bytes = vec![0; MAX_PACKET_BYTES];
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(received.bytes);
    Ok(Some(Packet { bytes, fds }))
}

impl JobHead {
    /// The files with their contents; an error when those are not what the head says.
    pub(crate) fn contents<'a>(&'a self, mut contents: &'a [u8]) -> Result<Vec<(&'a str, &'a [u8])>, Errno> {
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let (bytes, rest) = contents.split_at_checked(file.size).ok_or(Errno::BADMSG)?;
            files.push((file.path.as_str(), bytes));
            contents = rest;
        }
        if contents.is_empty() { Ok(files) } else { Err(Errno::BADMSG) }
    }
}

/// Puts a job into a sealed memory file.
pub(crate) fn write_job(head: &JobHead, contents: &[&[u8]]) -> Result<OwnedFd, Errno> {
    let head = serde_json::to_vec(head).map_err(|_| Errno::INVAL)?;
    let length = u32::try_from(head.len()).map_err(|_| Errno::FBIG)?;
    let size: usize = contents.iter().map(|bytes| bytes.len()).sum();
    if head.len().saturating_add(size) > MAX_JOB_BYTES {
        return Err(Errno::FBIG);
    }
    let file = memfd_create("job", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    for mut part in [&length.to_le_bytes()[..], &head].into_iter().chain(contents.iter().copied()) {
        while !part.is_empty() {
            let written = write(&file, part)?;
            part = part.get(written..).unwrap_or_default();
        }
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

/// Reads a job back: its head and the contents of its files.
pub(crate) fn read_job(file: impl AsFd) -> Result<(JobHead, Vec<u8>), Errno> {
    let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).map_err(|_| Errno::FBIG)?;
    if !(HEAD_LENGTH_BYTES..=MAX_JOB_BYTES + HEAD_LENGTH_BYTES).contains(&size) {
        return Err(Errno::FBIG);
    }
    let mut bytes = vec![0; size];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match pread(&file, rest, done as u64)? {
            0 => return Err(Errno::BADMSG),
            count => done += count,
        }
    }
    let (length, rest) = bytes.split_first_chunk::<HEAD_LENGTH_BYTES>().ok_or(Errno::BADMSG)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Errno::BADMSG)?;
    let (head, contents) = rest.split_at_checked(length).ok_or(Errno::BADMSG)?;
    Ok((serde_json::from_slice(head).map_err(|_| Errno::BADMSG)?, contents.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_its_memory_file_and_cannot_be_changed_there() {
        let head = JobHead {
            launch: Launch::Nothing,
            files: vec![JobFile { path: "main.py".into(), size: 3 }, JobFile { path: "a/b".into(), size: 4 }],
            directory: "/tmp".into(),
            env: vec![("A".into(), "b".into())],
            revealed: vec!["C".parse().unwrap()],
            ca_pem: "pem".into(),
        };
        let file = write_job(&head, &[b"one", b"\0two"]).unwrap();
        assert!(write(&file, b"x").is_err());
        let (read, contents) = read_job(&file).unwrap();
        assert_eq!((&read.env, &read.files), (&head.env, &head.files));
        assert_eq!(read.contents(&contents).unwrap(), [("main.py", &b"one"[..]), ("a/b", b"\0two")]);
        assert!(read.contents(b"one\0tw").is_err() && read.contents(b"one\0two!").is_err());
    }
}
