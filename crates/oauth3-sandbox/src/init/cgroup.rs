//! The run's control group: memory, process count and CPU time of the whole tree.

use super::{Step, StepError};
use crate::wire::{CgroupPlan, Terms};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How often, and how long apart, removal is tried: the kernel lets go a moment after the last process ended.
const REMOVE_TRIES: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_micros(200);

/// What sockets may hold in the kernel where that is not part of the memory limit: 64 MiB, in bytes.
const SOCKET_BYTES: &str = "67108864";

/// A control group that exists. Not removed on drop: call [`Group::remove`] when the tree is gone.
pub(super) struct Group {
    plan: CgroupPlan,
    /// The unified directory, for cloning right into it.
    fd: Option<OwnedFd>,
}

impl Group {
    /// Makes the directories. The limits come with the run: [`Group::limit`].
    pub(super) fn create(plan: &CgroupPlan) -> Result<Self, StepError> {
        let group = Self { plan: plan.clone(), fd: None };
        group.make().inspect_err(|_| group.remove())
    }

    fn make(&self) -> Result<Self, StepError> {
        let mut fd = None;
        match &self.plan {
            CgroupPlan::V2 { directory } => {
                let directory = make(directory)?;
                // Swap may not be accounted, and a group kill may be unknown.
                let _ = fs::write(directory.join("memory.swap.max"), "0");
                let _ = fs::write(directory.join("memory.oom.group"), "1");
                fd = Some(open_directory(directory)?);
            }
            CgroupPlan::V1 { memory, pids, cpu } => {
                // Here the kernel's buffers of TCP and UDP are counted apart, and only once they have a limit.
                let _ = fs::write(make(memory)?.join("memory.kmem.tcp.limit_in_bytes"), SOCKET_BYTES);
                pids.as_ref().map_or(Ok(()), |pids| make(pids).map(drop))?;
                if let Some(cpu) = cpu {
                    fd = Some(open_directory(make(cpu)?)?);
                }
            }
        }
        Ok(Self { plan: self.plan.clone(), fd })
    }

    /// Sets the limits of a run, before anything of it is inside.
    pub(super) fn limit(&self, terms: &Terms) -> Result<(), StepError> {
        let memory_bytes = terms.memory_bytes.to_string();
        // One more: process 1 is ours.
        let processes = terms.processes.saturating_add(1).to_string();
        match &self.plan {
            CgroupPlan::V2 { directory } => {
                put(Path::new(directory), "memory.max", &memory_bytes)?;
                put(Path::new(directory), "pids.max", &processes)
            }
            CgroupPlan::V1 { memory, pids, .. } => {
                let directory = Path::new(memory);
                put(directory, "memory.limit_in_bytes", &memory_bytes)?;
                let _ = fs::write(directory.join("memory.memsw.limit_in_bytes"), &memory_bytes);
                pids.as_ref().map_or(Ok(()), |pids| put(Path::new(pids), "pids.max", &processes))
            }
        }
    }

    /// Where the child is to be born, when the kernel can do that.
    pub(super) fn birthplace(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// What moves a process in, where it could not be born inside. May take long.
    pub(super) fn attach(&self, pid: Pid) -> Option<impl FnOnce() -> Result<(), StepError> + Send + 'static> {
        let CgroupPlan::V1 { memory, pids, .. } = self.plan.clone() else { return None };
        let pid = pid.as_raw_nonzero().to_string();
        Some(move || {
            let mut directories = std::iter::once(&memory).chain(&pids);
            directories.try_for_each(|directory| put(Path::new(directory), "cgroup.procs", &pid))
        })
    }

    /// Moves this process in, and what it will start.
    pub(super) fn enter(&self) -> Result<(), StepError> {
        self.plan.directories().iter().try_for_each(|directory| put(Path::new(directory), "cgroup.procs", "0"))
    }

    /// How many processes the memory limit ended.
    pub(super) fn oom_kills(&self) -> u64 {
        let file = match &self.plan {
            CgroupPlan::V2 { directory } => Path::new(directory).join("memory.events"),
            CgroupPlan::V1 { memory, .. } => Path::new(memory).join("memory.oom_control"),
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    }

    /// CPU time that everything in it ever used, where the unified hierarchy counts it.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let directory = match &self.plan {
            CgroupPlan::V2 { directory } => directory,
            CgroupPlan::V1 { cpu, .. } => cpu.as_ref()?,
        };
        let text = fs::read_to_string(Path::new(directory).join("cpu.stat")).ok()?;
        let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())?;
        Some(Duration::from_micros(micros))
    }

    /// The most memory that it held at a time, in bytes, where the kernel says so.
    pub(super) fn memory_peak(&self) -> Option<u64> {
        let file = match &self.plan {
            CgroupPlan::V2 { directory } => Path::new(directory).join("memory.peak"),
            CgroupPlan::V1 { memory, .. } => Path::new(memory).join("memory.max_usage_in_bytes"),
        };
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    /// Removes the directories. What cannot be removed is left for the next start to find.
    pub(super) fn remove(&self) {
        for directory in self.plan.directories() {
            for _ in 0..REMOVE_TRIES {
                match rustix::fs::rmdir(directory) {
                    Err(rustix::io::Errno::BUSY) => std::thread::sleep(REMOVE_PAUSE),
                    _ => break,
                }
            }
        }
    }

    /// The word for it, for the doctor.
    pub(super) fn flavour(&self) -> &'static str {
        match &self.plan {
            CgroupPlan::V2 { .. } => "v2: memory, pids, cpu",
            CgroupPlan::V1 { pids: Some(_), cpu: Some(_), .. } => "v1: memory, pids; v2: cpu",
            CgroupPlan::V1 { pids: Some(_), cpu: None, .. } => "v1: memory, pids",
            CgroupPlan::V1 { pids: None, .. } => "v1: memory",
        }
    }
}

fn open_directory(directory: &Path) -> Result<OwnedFd, StepError> {
    open(directory, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open the cgroup")
}

fn make(directory: &str) -> Result<&Path, StepError> {
    fs::create_dir(directory).step("make a cgroup").map(|()| Path::new(directory))
}

fn put(directory: &Path, file: &str, value: &str) -> Result<(), StepError> {
    fs::write(directory.join(file), value).step(&format!("set cgroup {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unified hierarchy is not on every machine that runs tests; its files are plain text either way.
    #[test]
    fn the_unified_group_gets_every_limit_and_its_oom_count_is_read() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("run");
        let plan = CgroupPlan::V2 { directory: directory.to_str().unwrap().to_owned() };
        let terms = Terms {
            hosts_file: String::new(),
            timeout_ms: 0,
            cpu_ms: 0,
            file_bytes: 0,
            open_files: 0,
            memory_bytes: 1 << 28,
            processes: 64,
            data_bytes: 0,
            show: None,
        };
        let group = Group::create(&plan).unwrap();
        group.limit(&terms).unwrap();
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!(
            ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"].map(read),
            ["268435456", "0", "1", "65"]
        );
        assert!(group.birthplace().is_some());
        assert_eq!(group.oom_kills(), 0);
        fs::write(directory.join("memory.events"), "low 0\noom 2\noom_kill 1\noom_group_kill 1\n").unwrap();
        assert_eq!(group.oom_kills(), 1);
        fs::write(directory.join("cpu.stat"), "usage_usec 1500000\nuser_usec 1000000\n").unwrap();
        assert_eq!(group.cpu(), Some(Duration::from_millis(1500)));
        assert!(Group::create(&plan).is_err(), "never into a group of somebody else");
    }
}
